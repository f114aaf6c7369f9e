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
//! | in line | [`Wait::line_up`] puts it in |
//! | gone | a waker took it out with [`WaitQueue::pop`] (and has the payload) |
//! | delivered | a waker filled it ([`WaitQueue::deliver`], `give_back`), or found that it is an arm of a `select!` that took another one; the waiter collects it |
//!
//! Exactly one side takes a waiter out, under the lock. So a waiter that was interrupted or timed
//! out looks at its node: still waiting means that it leaves with that reason; gone or delivered
//! means that the wake came first and the wait has succeeded.
//!
//! Rejected: intrusive nodes (unsafe in every primitive, and a pointer into each stack).

use std::time::Instant;

use super::refusal::Nothing;
use super::short_lock::{ShortGuard, ShortLock};
use crate::clock;
use crate::hub::Hub;
use crate::hub::control::{Fiber, Probe, Wake};
use crate::hub::selection::Selection;
use crate::hub::waiter::{Queued, ThreadParker, Waiter};
use crate::park::{self, Place};
use crate::wait_reason::WaitReason;

const NIL: u32 = u32::MAX;
/// Nodes that are kept for the next waiters.
const MANY: usize = 1024;

struct Node<P> {
    /// There while the node is in line.
    waiter: Option<Queued>,
    payload: Option<P>,
    /// Tells one use of this node from all others; `NIL` in a free one.
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
    /// Nodes in line, and nodes that wait to be collected. (Not next to each other: written one by
    /// one and read as a pair, they would cost a store-forwarding stall.)
    len: u32,
    tickets: u32,
    delivered: u32,
}

/// A waiter's place in a queue: the node's index, and above it the ticket; one word, so that it is
/// written and read in one go.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

/// What became of a waiter.
pub(crate) enum Settled<P> {
    Waiting(Option<P>),
    Gone,
    Delivered(P),
}

impl<P> WaitQueue<P> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            head: NIL,
            tail: NIL,
            free: NIL,
            len: 0,
            delivered: 0,
            tickets: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Number of those who wait.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    fn node(&mut self, index: u32) -> &mut Node<P> {
        &mut self.nodes[index as usize]
    }

    #[inline]
    fn push(&mut self, waiter: Queued, payload: Option<P>, first: bool) -> Ticket {
        if self.free == NIL {
            self.grow();
        }
        let index = self.free;
        let (head, tail, ticket) = (self.head, self.tail, self.tickets);
        // Never NIL, which marks a free node.
        self.tickets = (ticket + 1) % NIL;
        let node = self.node(index);
        node.waiter = Some(waiter);
        node.payload = payload;
        node.ticket = ticket;
        let next_free = node.next;
        (node.prev, node.next) = if first { (NIL, head) } else { (tail, NIL) };
        self.free = next_free;
        if head == NIL {
            (self.head, self.tail) = (index, index);
        } else if first {
            self.node(head).prev = index;
            self.head = index;
        } else {
            self.node(tail).next = index;
            self.tail = index;
        }
        self.len += 1;
        Ticket(u64::from(ticket) << 32 | u64::from(index))
    }

    /// Makes a free node.
    #[cold]
    fn grow(&mut self) {
        // Four billion waiters would need 200 GiB of nodes.
        let index = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        let node = Node {
            waiter: None,
            payload: None,
            ticket: NIL,
            prev: NIL,
            next: NIL,
        };
        if self.nodes.is_empty() {
            // Most queues never have more, and some are one of a million.
            self.nodes.reserve_exact(1);
        }
        self.nodes.push(node);
        self.free = index;
    }

    #[inline]
    fn unlink(&mut self, index: u32) {
        let node = self.node(index);
        let (prev, next) = (node.prev, node.next);
        if prev == NIL {
            self.head = next;
        } else {
            self.node(prev).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            self.node(next).prev = prev;
        }
        self.len -= 1;
    }

    /// Frees a node that is not in line.
    #[inline]
    fn release(&mut self, index: u32) -> Option<P> {
        let free = self.free;
        let node = self.node(index);
        let payload = node.payload.take();
        node.ticket = NIL;
        node.next = free;
        self.free = index;
        if self.nodes.len() > MANY && self.len == 0 && self.delivered == 0 {
            // A crowd has gone.
            *self = Self {
                tickets: self.tickets,
                ..Self::new()
            };
        }
        payload
    }

    /// Takes the first waiter out of the line, if `which` says so; its node stays. Arms of a
    /// `select!` that took another one are passed over: what they brought waits for their owner.
    #[inline]
    fn unlink_first_if(&mut self, which: impl Fn(&Node<P>) -> bool) -> Option<(u32, Queued)> {
        loop {
            let index = self.head;
            if index == NIL || !which(self.node(index)) {
                return None;
            }
            self.unlink(index);
            let waiter = self.node(index).waiter.take()?;
            if waiter.claim() {
                return Some((index, waiter));
            }
            self.delivered += 1;
        }
    }

    /// Takes the first waiter out, with what it brought. Wake it before unlocking.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(Queued, Option<P>)> {
        let (index, waiter) = self.unlink_first_if(|_| true)?;
        Some((waiter, self.release(index)))
    }

    /// As [`pop`](Self::pop), if `may` says so of what the first one brought.
    #[inline]
    pub(crate) fn pop_if(&mut self, may: impl Fn(&P) -> bool) -> Option<(Queued, P)> {
        let (index, waiter) =
            self.unlink_first_if(|node| node.payload.as_ref().is_some_and(&may))?;
        Some((waiter, self.release(index)?))
    }

    /// As [`pop`](Self::pop), if the first one came before ticket `end` was given out.
    fn pop_before(&mut self, end: u32) -> Option<(Queued, Option<P>)> {
        let (index, waiter) = self.unlink_first_if(|node| {
            let age = (u64::from(end) + u64::from(NIL) - u64::from(node.ticket)) % u64::from(NIL);
            (1..=u64::from(NIL / 2)).contains(&age)
        })?;
        Some((waiter, self.release(index)))
    }

    /// Gives the first waiter `payload` to collect. Wake it before unlocking.
    ///
    /// # Errors
    /// Gives `payload` back if nobody waits.
    #[inline]
    pub(crate) fn deliver(&mut self, payload: P) -> Result<Queued, P> {
        let Some((index, waiter)) = self.unlink_first_if(|_| true) else {
            return Err(payload);
        };
        self.node(index).payload = Some(payload);
        self.delivered += 1;
        Ok(waiter)
    }

    /// Lets the first waiter collect what it brought itself. Wake it before unlocking.
    pub(crate) fn give_back(&mut self) -> Option<Queued> {
        let (_, waiter) = self.unlink_first_if(|_| true)?;
        self.delivered += 1;
        Some(waiter)
    }

    /// Whether somebody waits whom the selection `me` could serve.
    pub(crate) fn has_other_than(&self, me: &Selection) -> bool {
        let mut index = self.head;
        while let Some(node) = self.nodes.get(index as usize) {
            if node.waiter.is_some_and(|w| w.is_open(Some(me))) {
                return true;
            }
            index = node.next;
        }
        false
    }

    /// Puts an arm of a `select!` in line, which [`settle`](Self::settle)s before it goes on.
    pub(crate) fn push_arm(&mut self, arm: Queued, payload: Option<P>) -> Ticket {
        self.push(arm, payload, false)
    }

    /// What became of the waiter with that ticket, which leaves.
    #[inline]
    pub(crate) fn settle(&mut self, place: Ticket) -> Settled<P> {
        let (index, ticket) = (place.0 as u32, (place.0 >> 32) as u32);
        match self.nodes.get_mut(index as usize) {
            Some(node) if node.ticket == ticket => {
                if node.waiter.take().is_some() {
                    self.unlink(index);
                    return Settled::Waiting(self.release(index));
                }
            }
            _ => return Settled::Gone,
        }
        self.delivered -= 1;
        self.release(index)
            .map_or(Settled::Gone, Settled::Delivered)
    }
}

/// How a wait ended.
pub(crate) enum Waited<P> {
    /// A waker took the waiter out (`None`), or delivered something.
    Woken(Option<P>),
    /// The deadline passed; here is what the waiter had brought.
    TimedOut(Option<P>),
    /// The calling task unwinds and may not park, and this wait can fail.
    Refused(Option<P>),
}

/// What a caller that unwinds gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwinding {
    /// [`Waited::Refused`].
    Refuse,
    /// The wait cannot fail: the first place in line, and the worker's thread is blocked.
    Block,
    /// The same from the last place in line, where order is of no use.
    InLine,
}

/// One operation that has to wait.
///
/// In three steps, of which [`Parked::switch`] stands in the caller's own frame: a function that
/// is entered before a switch and left after it costs a mispredicted return, for the processor has
/// seen other returns meanwhile. So primitives keep `line_up` and `leave` in functions of their
/// own and inline the rest.
pub(crate) struct Wait<'a, S, P, R> {
    pub(crate) lock: &'a ShortLock<S>,
    /// Where the queue lies in the locked state.
    pub(crate) queue: fn(&mut S) -> &mut WaitQueue<P>,
    /// What the dump says.
    pub(crate) reason: R,
    pub(crate) deadline: Option<Instant>,
    pub(crate) unwinding: Unwinding,
}

/// A task in line, which now has to switch.
#[must_use = "the task is in line: switch, then leave"]
pub(crate) struct Parked {
    hub: &'static Hub,
    fiber: Fiber,
    ticket: Ticket,
}

impl Parked {
    /// Runs others until a waker, the deadline or an interrupt.
    #[inline(always)]
    pub(crate) fn switch(&self) {
        self.hub.switch(self.fiber);
    }

    /// As [`switch`](Self::switch), in a wait for `lock`, which knows its holder: so the dump can
    /// tell who has it at that time.
    #[inline(always)]
    pub(crate) fn switch_for<S: Held>(&self, lock: &ShortLock<S>) {
        let probe = Probe {
            lock: std::ptr::from_ref(lock).cast(),
            holder: holder::<S>,
        };
        self.hub.switch_for(self.fiber, probe);
    }
}

/// The state of a lock that knows which task has it.
pub(crate) trait Held {
    /// The holder's id; 0: nobody, or no task.
    fn holder(&self) -> u64;
}

/// # Safety
/// `lock` points to a `ShortLock<S>` that outlives the call.
unsafe fn holder<S: Held>(lock: *const ()) -> u64 {
    // SAFETY: by the contract.
    let lock = unsafe { &*lock.cast::<ShortLock<S>>() };
    lock.lock().holder()
}

impl<S, P, R: FnOnce() -> WaitReason> Wait<'_, S, P, R> {
    /// Gets in line with `payload`; `state` is the held lock. Comes after [`park::checkpoint`] and
    /// an attempt that failed. `Err`: who calls is no task that may park, and the wait is over.
    // Inlined: passed in memory, `self` would be written in words and read in vectors, which costs
    // more than the rest (store forwarding).
    #[inline(always)]
    pub(crate) fn line_up(
        self,
        state: ShortGuard<'_, S>,
        payload: Option<P>,
    ) -> Result<Parked, Waited<P>> {
        self.line_up_with(state, payload, false, || {})
    }

    /// As [`line_up`](Self::line_up), at the head of the line if `first`.
    #[inline(always)]
    pub(crate) fn line_up_at(
        self,
        state: ShortGuard<'_, S>,
        payload: Option<P>,
        first: bool,
    ) -> Result<Parked, Waited<P>> {
        self.line_up_with(state, payload, first, || {})
    }

    /// As [`line_up`](Self::line_up), and does `then` between unlocking and waiting. (Not if the
    /// wait is refused.)
    #[inline(always)]
    pub(crate) fn line_up_then(
        self,
        state: ShortGuard<'_, S>,
        payload: Option<P>,
        then: impl FnOnce(),
    ) -> Result<Parked, Waited<P>> {
        self.line_up_with(state, payload, false, then)
    }

    #[inline(always)]
    fn line_up_with(
        self,
        state: ShortGuard<'_, S>,
        payload: Option<P>,
        first: bool,
        then: impl FnOnce(),
    ) -> Result<Parked, Waited<P>> {
        // A local, so that a panic of `place` unlocks before it drops the payload, whose
        // destructor may want this very lock.
        let mut state = state;
        match park::place() {
            Place::Task(hub, fiber) => {
                let park = fiber.header().begin_park();
                // SAFETY: `leave` takes the lock and makes sure that the node is gone before the
                // task goes on (or a waker has taken it out); only a task that is never resumed
                // stays in, and its cell is leaked with its stack.
                let waiter = unsafe { Queued::task(&fiber.header().task, park) };
                let ticket = (self.queue)(&mut state).push(waiter, payload, first);
                drop(state);
                then();
                hub.prepare_park(fiber, (self.reason)(), self.deadline.map(clock::nanos));
                Ok(Parked { hub, fiber, ticket })
            }
            Place::Thread => {
                let parker = park::fresh_parker();
                // SAFETY: as above; `parker` lives until `settle` has returned.
                let waiter = unsafe { Queued::thread(&parker) };
                let ticket = (self.queue)(&mut state).push(waiter, payload, first);
                drop(state);
                then();
                park::block_thread(&parker, self.deadline);
                Err(settle(
                    self.lock,
                    self.queue,
                    ticket,
                    park::raise_thread_frame,
                ))
            }
            Place::Unwinding(hub, fiber) => {
                // Any wait with a deadline can fail.
                if self.unwinding == Unwinding::Refuse || self.deadline.is_some() {
                    drop(state);
                    return Err(Waited::Refused(payload));
                }
                let first = first || self.unwinding == Unwinding::Block;
                let parker = ThreadParker::new();
                // SAFETY: as above.
                let waiter = unsafe { Queued::thread(&parker) };
                let ticket = (self.queue)(&mut state).push(waiter, payload, first);
                drop(state);
                then();
                park::block_unwinding(hub, fiber, &parker, (self.reason)());
                Err(settle(self.lock, self.queue, ticket, || {}))
            }
        }
    }
}

impl<S, R: FnOnce() -> WaitReason> Wait<'_, S, (), R> {
    /// Waits for a wake that brings nothing: all three steps in one, for waits that need not be
    /// fast.
    pub(crate) fn wait(self, state: ShortGuard<'_, S>) -> Waited<()> {
        let (lock, queue) = (self.lock, self.queue);
        match self.line_up(state, None) {
            Ok(parked) => {
                parked.switch();
                leave(parked, lock, queue, || false)
            }
            Err(waited) => waited,
        }
    }
}

/// Tries under the lock until there is an outcome, waiting for wakes that bring nothing.
///
/// For operations that can fail: a caller that unwinds does not wait. An attempt may take waiters out
/// of queues of the same lock and leave them to `woken`. The deadline is asked for before each wait.
pub(crate) fn retry<S, T>(
    lock: &ShortLock<S>,
    queue: fn(&mut S) -> &mut WaitQueue<()>,
    reason: WaitReason,
    mut deadline: impl FnMut() -> Option<Instant>,
    mut attempt: impl FnMut(&mut S, &mut Woken) -> Option<T>,
) -> Result<T, Nothing> {
    park::checkpoint();
    let mut in_vain = false;
    loop {
        // Before the lock: dropped after it.
        let mut woken = Woken::new();
        let mut state = lock.lock();
        if let Some(outcome) = attempt(&mut state, &mut woken) {
            drop(state);
            return Ok(outcome);
        }
        // A kill or time-out that came after the wake: not before the attempt, since whoever was
        // woken may have to wake the next.
        if std::mem::take(&mut in_vain) {
            drop(state);
            park::checkpoint();
            continue;
        }
        if !woken.is_empty() {
            // An attempt in vain that woke others has changed something: once more.
            drop(state);
            continue;
        }
        let wait = Wait {
            lock,
            queue,
            reason: || reason,
            deadline: deadline(),
            unwinding: Unwinding::Refuse,
        };
        match wait.wait(state) {
            Waited::Woken(_) => in_vain = true,
            Waited::TimedOut(_) => return Err(Nothing::TimedOut),
            Waited::Refused(_) => return Err(Nothing::Unwinding),
        }
    }
}

/// Leaves the queue after the switch, and says how the wait ended.
///
/// `collects` says whether a waker may have delivered something. An interrupt (kill, `timeout`) is
/// raised only if no waker was first; the payload is dropped then.
#[inline(always)]
pub(crate) fn leave<S, P>(
    Parked { hub, fiber, ticket }: Parked,
    lock: &ShortLock<S>,
    queue: fn(&mut S) -> &mut WaitQueue<P>,
    collects: impl FnOnce() -> bool,
) -> Waited<P> {
    if fiber.header().wake.get() == Wake::Woken && !collects() {
        return Waited::Woken(None);
    }
    settle(lock, queue, ticket, || park::raise_pending(hub, fiber))
}

#[inline]
fn settle<S, P>(
    lock: &ShortLock<S>,
    queue: fn(&mut S) -> &mut WaitQueue<P>,
    ticket: Ticket,
    interrupt: impl FnOnce(),
) -> Waited<P> {
    let settled = queue(&mut lock.lock()).settle(ticket);
    match settled {
        Settled::Gone => Waited::Woken(None),
        Settled::Delivered(payload) => Waited::Woken(Some(payload)),
        Settled::Waiting(payload) => {
            interrupt();
            Waited::TimedOut(payload)
        }
    }
}

/// Calls its closure when it is dropped, unless it was told that all went well: for what a waiter
/// owes to the others when its wait fails or unwinds.
pub(crate) struct OnFailure<F: FnMut()> {
    armed: bool,
    settle: F,
}

impl<F: FnMut()> OnFailure<F> {
    pub(crate) fn new(settle: F) -> Self {
        Self {
            armed: true,
            settle,
        }
    }

    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl<F: FnMut()> Drop for OnFailure<F> {
    fn drop(&mut self) {
        if self.armed {
            (self.settle)();
        }
    }
}

/// Waiters that were taken out of a queue and woken as far as that goes under its lock; the rest
/// follows when this is dropped, after the lock.
pub(crate) struct Woken {
    // One word, since every operation that wakes nobody makes and drops one.
    late: Option<Box<Many>>,
}

struct Many(Vec<Waiter>);

impl Woken {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self { late: None }
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.late.is_none()
    }

    /// Wakes the first in line, if there is one.
    #[inline]
    pub(crate) fn wake_one(&mut self, queue: &mut WaitQueue<()>) -> bool {
        let Some((waiter, _)) = queue.pop() else {
            return false;
        };
        if let Some(late) = waiter.wake().into_waiter() {
            let many = self.late.get_or_insert_with(|| Box::new(Many(Vec::new())));
            many.0.push(late);
        }
        true
    }
}

impl Drop for Woken {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(late) = self.late.take() {
            wake_late(*late);
        }
    }
}

#[cold]
fn wake_late(Many(late): Many) {
    late.into_iter().for_each(Waiter::wake);
}

/// Wakes whom `next` takes out of the queue, until it finds nobody; some at a time, so that the
/// lock is never held for long. Others may change the state in between.
pub(crate) fn wake_while<S>(lock: &ShortLock<S>, next: impl FnMut(&mut S) -> Option<Queued>) {
    wake_from(lock, lock.lock(), next);
}

/// As [`wake_while`]; `state` is the held lock.
pub(crate) fn wake_from<'a, S>(
    lock: &'a ShortLock<S>,
    mut state: ShortGuard<'a, S>,
    mut next: impl FnMut(&mut S) -> Option<Queued>,
) {
    const AT_ONCE: usize = 64;
    let mut late: Vec<Waiter> = Vec::new();
    loop {
        let mut woken = 0;
        while woken < AT_ONCE
            && let Some(waiter) = next(&mut state)
        {
            woken += 1;
            late.extend(waiter.wake().into_waiter());
        }
        drop(state);
        late.drain(..).for_each(Waiter::wake);
        if woken < AT_ONCE {
            return;
        }
        state = lock.lock();
    }
}

/// Wakes whoever waits in the queue now; `state` is the held lock. All of them stand in line as
/// they came ([`Unwinding::InLine`]).
pub(crate) fn wake_line<'a, S>(
    lock: &'a ShortLock<S>,
    mut state: ShortGuard<'a, S>,
    queue: fn(&mut S) -> &mut WaitQueue<()>,
) {
    // Who comes while we wake is not meant, though it may fill the place of one that gave up.
    let (mut left, end) = (queue(&mut state).len(), queue(&mut state).tickets);
    wake_from(lock, state, |state| {
        left = left.checked_sub(1)?;
        let (waiter, _) = queue(state).pop_before(end)?;
        Some(waiter)
    });
}

/// Makes a change under the lock and wakes whoever waits in the queue then.
pub(crate) fn wake_all<S>(
    lock: &ShortLock<S>,
    queue: fn(&mut S) -> &mut WaitQueue<()>,
    change: impl FnOnce(&mut S),
) {
    let mut state = lock.lock();
    change(&mut state);
    wake_line(lock, state, queue);
}

#[cfg(all(test, loom))]
mod tests {
    use loom::thread;

    use super::*;
    use std::sync::Arc;

    /// Two wakers find arms of one select in two queues while it gives up: each value is with its
    /// waker or with the select, and the select has at most one.
    #[test]
    fn loom_a_select_in_two_queues() {
        loom::model(|| {
            let queues = Arc::new([(); 2].map(|()| ShortLock::new(WaitQueue::<usize>::new())));
            let mut selection = Arc::new(Selection::new());
            let parker = ThreadParker::new();
            // SAFETY: nobody is woken in this test, and the arms are settled below.
            let me = unsafe { Queued::thread(&parker) };
            Arc::get_mut(&mut selection).unwrap().open(me);
            let tickets = [0, 1].map(|i| {
                // SAFETY: as above.
                let arm = unsafe { Queued::arm(&selection, i) };
                queues[i as usize].lock().push_arm(arm, None)
            });
            let wakers = [0, 1].map(|i| {
                let queues = queues.clone();
                thread::spawn(move || queues[i].lock().deliver(i).is_ok())
            });
            let gave_up = selection.give_up();
            let got: Vec<_> = (0..2)
                .filter_map(|i| match queues[i].lock().settle(tickets[i]) {
                    Settled::Delivered(value) => Some(value),
                    Settled::Gone | Settled::Waiting(_) => None,
                })
                .collect();
            assert_eq!(got.len(), usize::from(!gave_up));
            for (i, waker) in wakers.into_iter().enumerate() {
                assert_eq!(waker.join().unwrap(), got.contains(&i));
            }
            assert!(queues.iter().all(|q| q.lock().is_empty()));
        });
    }
}
