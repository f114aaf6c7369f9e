//! The part of a source that a worker's poller refers to: who waits, and which worker watches.
//!
//! See `source.rs` for the nouns and the rules of the home, `readiness.rs` for edges and turns. This
//! file has every move of both; the source above it only tries operations.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use mio::unix::SourceFd;

use super::fault;
use super::readiness::Word;
use crate::fork::Epoch;
use crate::hub::current;
use crate::hub::poller::{After, Ready, Subscriber, Token};
use crate::hub::worker::WorkerShared;
use crate::runtime;
use crate::sync::select::Slot;
use crate::sync::short_lock::ShortLock;
use crate::sync::wait_queue::{Ticket, Unwinding, Wait, WaitQueue, Waited, leave, wake_all};
use crate::wait_reason::{WaitKind, WaitReason};

/// Which of the two things that can be done with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading, receiving, accepting.
    Read,
    /// Writing, sending, connecting.
    Write,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Read, Self::Write];

    /// The reason of a wait for `fd`.
    pub(super) fn waits_for(self, fd: RawFd) -> WaitReason {
        let kind = match self {
            Self::Read => WaitKind::Readable,
            Self::Write => WaitKind::Writable,
        };
        WaitReason::new(kind, fd.unsigned_abs().into())
    }

    fn queue(self) -> fn(&mut State) -> &mut WaitQueue<()> {
        match self {
            Self::Read => |state| &mut state.queues[0],
            Self::Write => |state| &mut state.queues[1],
        }
    }
}

pub(super) struct State {
    pub(super) home: Option<Home>,
    pub(super) closed: bool,
    pub(super) queues: [WaitQueue<()>; 2],
}

pub(super) struct Home {
    pub(super) worker: &'static WorkerShared,
    pub(super) token: Token,
}

pub(super) struct Entry {
    pub(super) fd: RawFd,
    /// What to say instead, where this is a descriptor for the wait for another one.
    pub(super) alias: Option<(Direction, RawFd)>,
    pub(super) epoch: Epoch,
    pub(super) words: [Word; 2],
    pub(super) state: ShortLock<State>,
}

/// A worker for a wait of the caller, and whether the caller is a task of it.
pub(super) fn worker_here() -> io::Result<(&'static WorkerShared, bool)> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if let Some(hub) = current::hub() {
        if hub.is_stale() {
            return Err(fault::forked());
        }
        return Ok((hub.shared, true));
    }
    let rt = runtime::default()?;
    if rt.epoch.is_stale() {
        return Err(fault::forked());
    }
    let turn = NEXT.fetch_add(1, Relaxed);
    Ok((rt.workers[turn % rt.workers.len()], false))
}

/// A worker that a new registration of the caller belongs to.
pub(super) fn home_for_caller() -> io::Result<&'static WorkerShared> {
    worker_here().map(|(worker, _)| worker)
}

impl Entry {
    #[inline]
    pub(super) fn word(&self, direction: Direction) -> &Word {
        &self.words[direction as usize]
    }

    fn reason(&self, direction: Direction) -> WaitReason {
        let (direction, fd) = self.alias.unwrap_or((direction, self.fd));
        direction.waits_for(fd)
    }

    /// Makes sure that a worker watches the descriptor.
    pub(super) fn settle_home(
        self: &Arc<Self>,
        state: &mut State,
        (worker, is_own): (&'static WorkerShared, bool),
    ) -> io::Result<()> {
        if let Some(home) = &state.home {
            let may_move = is_own && state.queues.iter().all(WaitQueue::is_empty);
            if !may_move || std::ptr::eq(home.worker, worker) {
                return Ok(());
            }
            home.worker.poller.deregister(self.fd, home.token);
            state.home = None;
        }
        let token = worker
            .poller
            .register(self.fd, self.clone())
            .map_err(|e| fault::registration(self.fd, e))?;
        state.home = Some(Home { worker, token });
        Ok(())
    }

    /// Waits for an edge. `Ok`: there may have been one; `true`: it was waited for.
    pub(super) fn wait(
        self: &Arc<Self>,
        direction: Direction,
        deadline: Option<Instant>,
        first: bool,
    ) -> io::Result<bool> {
        let worker = worker_here()?;
        let word = self.word(direction);
        let mut state = self.state.lock();
        if state.closed {
            return Err(fault::closed(self.fd));
        }
        self.settle_home(&mut state, worker)?;
        if !word.begin_wait() {
            return Ok(false);
        }
        let queue = direction.queue();
        let wait = Wait {
            lock: &self.state,
            queue,
            reason: || self.reason(direction),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        let waited = match wait.line_up_at(state, None, first) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.state, queue, || false)
            }
            Err(waited) => waited,
        };
        match waited {
            Waited::Woken(_) => Ok(true),
            Waited::TimedOut(_) => Err(fault::timed_out(self.reason(direction))),
            Waited::Refused(_) => Err(fault::unwinding(self.reason(direction))),
        }
    }

    /// Whether an operation may be tried. `None`: not yet.
    pub(super) fn is_ready(&self, direction: Direction) -> Option<io::Result<()>> {
        let seen = self.word(direction).sample();
        if self.epoch.is_stale() {
            Some(Err(fault::forked()))
        } else if seen.is_closed() {
            Some(Err(fault::closed(self.fd)))
        } else {
            seen.is_ready().then_some(Ok(()))
        }
    }

    /// Puts an arm of a `select!` in line. `None`: there may have been an edge.
    pub(super) fn line_up(
        self: &Arc<Self>,
        direction: Direction,
        slot: Slot<'_>,
    ) -> io::Result<Option<Ticket>> {
        let worker = worker_here()?;
        let mut state = self.state.lock();
        if state.closed {
            return Err(fault::closed(self.fd));
        }
        self.settle_home(&mut state, worker)?;
        if !self.word(direction).begin_wait() {
            return Ok(None);
        }
        Ok(Some(slot.queue_in(direction.queue()(&mut state), None)))
    }

    /// Takes the arm out of the line; the turn, if it had it, goes on.
    pub(super) fn leave(&self, direction: Direction, ticket: Ticket) {
        direction.queue()(&mut self.state.lock()).settle(ticket);
        drop(Turn {
            entry: self,
            direction,
        });
    }

    fn edge(&self, direction: Direction, hung_up: bool) {
        if self.word(direction).edge(hung_up) {
            self.wake_first(direction);
        }
    }

    /// Gives the turn to the first in line, if there still is one and the word still says ready.
    #[cold]
    fn wake_first(&self, direction: Direction) {
        let word = self.word(direction);
        let mut state = self.state.lock();
        let queue = direction.queue()(&mut state);
        let woken = if word.sample().is_ready() {
            queue.pop()
        } else {
            None
        };
        if queue.is_empty() {
            word.end_wait();
        }
        let late = woken.map(|(waiter, _)| waiter.wake());
        drop(state);
        if let Some(late) = late {
            late.wake();
        }
    }

    pub(super) fn wake_all(&self) {
        for direction in Direction::BOTH {
            wake_all(&self.state, direction.queue(), |_| {});
        }
    }

    /// Ends the registration, and with it every use of the number by this crate.
    pub(super) fn release(&self) {
        // In a forked child the registration is the parent's, and so may be a held lock.
        if !self.epoch.is_stale() {
            let home = self.state.lock().home.take();
            if let Some(home) = home {
                home.worker.poller.deregister(self.fd, home.token);
            }
        }
    }
}

impl Subscriber for Entry {
    fn call(&self, ready: Ready) -> After {
        const READ: Ready = Ready::READABLE;
        const WRITE: Ready = Ready::WRITABLE;
        let either = ready.has_any(Ready::HUNG_UP | Ready::ERROR);
        // Urgent data ends a short count too: the rest is behind the mark.
        let short_lies = ready.has_any(Ready::HUNG_UP | Ready::ERROR | Ready::PRIORITY);
        if either || ready.has_any(READ | Ready::PRIORITY) {
            self.edge(Direction::Read, short_lies);
        }
        if either || ready.has_any(WRITE) {
            self.edge(Direction::Write, short_lies);
        }
        After::Nothing
    }

    fn orphan(&self, token: Token, registry: &mio::Registry) {
        let mut state = self.state.lock();
        if state.home.as_ref().is_none_or(|home| home.token != token) {
            // It has moved, or has gone.
            return;
        }
        let _ = registry.deregister(&mut SourceFd(&self.fd));
        state.home = None;
        drop(state);
        self.wake_all();
    }

    fn is_waited_for(&self) -> bool {
        let state = self.state.lock();
        state.queues.iter().any(|queue| !queue.is_empty())
    }
}

/// Has been in line, or is about to be: passes the turn on, and leaves no stale mark.
pub(super) struct Turn<'a> {
    pub(super) entry: &'a Entry,
    pub(super) direction: Direction,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.entry.word(self.direction).has_waiters() {
            self.entry.wake_first(self.direction);
        }
    }
}
