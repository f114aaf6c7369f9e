//! The one queue of waiters that every primitive is built on, and the one way to wait in it.
//!
//! A queue lies inside a [`ShortLock`], next to the state that is waited for. Its nodes are in a
//! vector and linked by index: taking a waiter out of the middle (time-out, kill) costs O(1), a
//! wait allocates only when the queue grows, and no node lies on a stack (design R4).
//!
//! A node carries a payload `P`: what a blocked sender brings, or what a blocked receiver gets.
//!
//! | state of a node | moved there by |
//! |---|---|
//! | waiting | [`wait`] puts it in |
//! | gone | a waker took it out with [`WaitQueue::pop`] (and has the payload) |
//! | delivered | a waker filled it with [`WaitQueue::deliver`]; the waiter collects it |
//!
//! Exactly one side takes a waiter out, under the lock. So a waiter that was interrupted or timed
//! out looks at its node: still waiting means that it leaves with that reason; gone or delivered
//! means that the wake came first and the wait has succeeded.
//!
//! Rejected: intrusive nodes (unsafe in every primitive, and a pointer into each stack).

use std::time::Instant;

use super::short_lock::{ShortGuard, ShortLock};
use crate::clock;
use crate::hub::control::Wake;
use crate::hub::waiter::{Queued, ThreadParker, Waiter};
use crate::park::{self, Place};
use crate::wait_reason::WaitReason;

const NIL: u32 = u32::MAX;

enum State<P> {
    Free,
    Waiting(Queued, P),
    Delivered(P),
}

struct Node<P> {
    state: State<P>,
    /// Tells one use of this node from the next.
    ticket: u32,
    prev: u32,
    next: u32,
}

/// Waiters in line; see the file head.
pub(crate) struct WaitQueue<P> {
    nodes: Vec<Node<P>>,
    head: u32,
    tail: u32,
    /// Free nodes, linked by `next`.
    free: u32,
    len: u32,
    tickets: u32,
}

/// A waiter's place in a queue.
#[derive(Clone, Copy)]
struct Ticket {
    index: u32,
    ticket: u32,
}

/// What became of a waiter.
enum Settled<P> {
    Waiting(P),
    Gone,
    Delivered(P),
}

impl<P> WaitQueue<P> {
    pub(crate) const fn new() -> Self {
        Self { nodes: Vec::new(), head: NIL, tail: NIL, free: NIL, len: 0, tickets: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Number of those who wait.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    fn push(&mut self, waiter: Queued, payload: P, first: bool) -> Ticket {
        let ticket = self.tickets;
        self.tickets = self.tickets.wrapping_add(1);
        let state = State::Waiting(waiter, payload);
        let index = if self.free == NIL {
            self.nodes.push(Node { state, ticket, prev: NIL, next: NIL });
            // Four billion waiters would need 128 GiB of nodes.
            u32::try_from(self.nodes.len() - 1).unwrap_or(NIL)
        } else {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            *node = Node { state, ticket, prev: NIL, next: NIL };
            index
        };
        if first {
            self.nodes[index as usize].next = self.head;
            match self.head {
                NIL => self.tail = index,
                head => self.nodes[head as usize].prev = index,
            }
            self.head = index;
        } else {
            self.nodes[index as usize].prev = self.tail;
            match self.tail {
                NIL => self.head = index,
                tail => self.nodes[tail as usize].next = index,
            }
            self.tail = index;
        }
        self.len += 1;
        Ticket { index, ticket }
    }

    fn unlink(&mut self, index: u32) {
        let (prev, next) = (self.nodes[index as usize].prev, self.nodes[index as usize].next);
        match prev {
            NIL => self.head = next,
            prev => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => self.nodes[next as usize].prev = prev,
        }
        self.len -= 1;
    }

    fn release(&mut self, index: u32) -> State<P> {
        let node = &mut self.nodes[index as usize];
        node.next = self.free;
        self.free = index;
        let state = std::mem::replace(&mut node.state, State::Free);
        if self.len == 0 && self.nodes.len() > 1024 && self.nodes.iter().all(Node::is_free) {
            *self = Self { tickets: self.tickets, ..Self::new() };
        }
        state
    }

    /// Takes the first waiter out, with what it brought. Wake it before unlocking.
    pub(crate) fn pop(&mut self) -> Option<(Queued, P)> {
        let index = self.head;
        if index == NIL {
            return None;
        }
        self.unlink(index);
        match self.release(index) {
            State::Waiting(waiter, payload) => Some((waiter, payload)),
            State::Free | State::Delivered(_) => unreachable!("linked nodes wait"),
        }
    }

    /// Replaces what the first waiter brought by `payload`, to be collected by it. Wake it before
    /// unlocking. Gives `payload` back if nobody waits.
    pub(crate) fn deliver(&mut self, payload: P) -> Result<Queued, P> {
        let index = self.head;
        if index == NIL {
            return Err(payload);
        }
        self.unlink(index);
        let node = &mut self.nodes[index as usize];
        match std::mem::replace(&mut node.state, State::Delivered(payload)) {
            State::Waiting(waiter, _) => Ok(waiter),
            State::Free | State::Delivered(_) => unreachable!("linked nodes wait"),
        }
    }

    /// Lets the first waiter collect what it brought itself. Wake it before unlocking.
    pub(crate) fn give_back(&mut self) -> Option<Queued> {
        let index = self.head;
        if index == NIL {
            return None;
        }
        self.unlink(index);
        let node = &mut self.nodes[index as usize];
        match std::mem::replace(&mut node.state, State::Free) {
            State::Waiting(waiter, payload) => {
                node.state = State::Delivered(payload);
                Some(waiter)
            }
            State::Free | State::Delivered(_) => unreachable!("linked nodes wait"),
        }
    }

    /// What became of the waiter with that ticket, which leaves.
    fn settle(&mut self, Ticket { index, ticket }: Ticket) -> Settled<P> {
        match self.nodes.get(index as usize) {
            Some(node) if node.ticket == ticket => {}
            _ => return Settled::Gone,
        }
        match self.nodes[index as usize].state {
            State::Free => return Settled::Gone,
            State::Waiting(..) => self.unlink(index),
            State::Delivered(_) => {}
        }
        match self.release(index) {
            State::Waiting(_, payload) => Settled::Waiting(payload),
            State::Delivered(payload) => Settled::Delivered(payload),
            State::Free => Settled::Gone,
        }
    }
}

impl<P> Node<P> {
    fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }
}

/// How a wait ended, or why there was none.
pub(crate) enum Waited<R, P> {
    /// The attempt succeeded at once.
    Now(R),
    /// A waker took the waiter out (`None`), or delivered something.
    Woken(Option<P>),
    /// The deadline passed; here is what the waiter had brought.
    TimedOut(P),
    /// The calling task unwinds and may not park, and this wait can fail.
    Refused(P),
}

/// What a caller that unwinds gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwinding {
    /// [`Waited::Refused`].
    Refuse,
    /// The wait cannot fail: the first place in line, and the worker's thread is blocked.
    Block,
}

/// One operation that may have to wait.
pub(crate) struct Wait<'a, S, P> {
    pub(crate) lock: &'a ShortLock<S>,
    /// Where the queue lies in the locked state.
    pub(crate) queue: fn(&mut S) -> &mut WaitQueue<P>,
    /// What the dump says.
    pub(crate) reason: fn(&S) -> WaitReason,
    pub(crate) deadline: Option<Instant>,
    pub(crate) unwinding: Unwinding,
}

impl<S, P> Wait<'_, S, P> {
    /// Tries; if that gives a payload, waits in the queue with it for a waker or the deadline.
    ///
    /// `collects` is asked after a wake whether something may have been delivered. An interrupt
    /// (kill, `timeout`) is raised only if no waker was first; the payload is dropped then.
    #[inline]
    pub(crate) fn run<R>(
        self,
        attempt: impl FnOnce(&mut S) -> Result<R, P>,
        collects: impl Fn() -> bool,
    ) -> Waited<R, P> {
        park::checkpoint();
        let mut state = self.lock.lock();
        match attempt(&mut state) {
            Ok(done) => Waited::Now(done),
            Err(payload) => self.wait(state, payload, collects),
        }
    }

    fn wait<R>(
        self,
        mut state: ShortGuard<'_, S>,
        payload: P,
        collects: impl Fn() -> bool,
    ) -> Waited<R, P> {
        let reason = (self.reason)(&state);
        match park::place() {
            Place::Task(hub, fiber) => {
                let park = fiber.header().begin_park();
                // SAFETY: `leave` below takes the lock and makes sure that the node is gone
                // before this function returns or unwinds; only a task that is never resumed
                // stays in, and its cell is leaked with its stack.
                let waiter = unsafe { Queued::task(&fiber.header().task, park) };
                let ticket = (self.queue)(&mut state).push(waiter, payload, false);
                drop(state);
                let wake = hub.park(fiber, reason, self.deadline.map(clock::nanos));
                if wake == Wake::Woken && !collects() {
                    return Waited::Woken(None);
                }
                self.leave(ticket, || park::raise_pending(hub, fiber))
            }
            Place::Thread => {
                let parker = park::fresh_parker();
                // SAFETY: as above; `parker` lives until `leave` has returned.
                let waiter = unsafe { Queued::thread(&parker) };
                let ticket = (self.queue)(&mut state).push(waiter, payload, false);
                drop(state);
                park::block_thread(&parker, self.deadline);
                self.leave(ticket, park::raise_thread_frame)
            }
            Place::Unwinding(hub, fiber) => {
                if self.unwinding == Unwinding::Refuse {
                    drop(state);
                    return Waited::Refused(payload);
                }
                let parker = ThreadParker::new();
                // SAFETY: as above.
                let waiter = unsafe { Queued::thread(&parker) };
                let ticket = (self.queue)(&mut state).push(waiter, payload, true);
                drop(state);
                park::block_unwinding(hub, fiber, &parker, reason);
                self.leave(ticket, || {})
            }
        }
    }

    /// Leaves the queue, and says how the wait ended.
    fn leave<R>(&self, ticket: Ticket, interrupt: impl FnOnce()) -> Waited<R, P> {
        let mut state = self.lock.lock();
        let settled = (self.queue)(&mut state).settle(ticket);
        drop(state);
        match settled {
            Settled::Gone => Waited::Woken(None),
            Settled::Delivered(payload) => Waited::Woken(Some(payload)),
            Settled::Waiting(payload) => {
                interrupt();
                Waited::TimedOut(payload)
            }
        }
    }
}

/// Wakes whoever waits in a queue, some at a time, so that the lock is never held for long.
pub(crate) fn wake_all<S>(lock: &ShortLock<S>, queue: fn(&mut S) -> &mut WaitQueue<()>) {
    const AT_ONCE: usize = 64;
    let mut late: Vec<Waiter> = Vec::new();
    // Who comes while we wake is not meant.
    let mut left = queue(&mut lock.lock()).len();
    while left > 0 {
        let mut state = lock.lock();
        let queue = queue(&mut state);
        for _ in 0..left.min(AT_ONCE) {
            let Some((waiter, ())) = queue.pop() else {
                left = 0;
                break;
            };
            left -= 1;
            late.extend(waiter.wake());
        }
        drop(state);
        late.drain(..).for_each(Waiter::wake);
    }
}
