//! The core of channels and queues: a buffer, and on both sides of it those who wait.
//!
//! Nouns: who brings values is a *sender*, who wants them a *receiver*, whatever the layer above
//! calls them; the [`Buffer`] decides in which order values leave; the [`Owner`] is what the layer
//! above keeps under the same lock.
//!
//! Invariants, under the lock
//! - receivers wait only while the buffer is empty and no sender waits;
//! - senders wait only while the buffer is full and no receiver waits;
//! - nobody waits to send once `shut`, nobody to receive once `ended` (but for those whom
//!   [`Exchange::close`] is about to send away);
//! - a value is in one place: the sender's hands, its node, the buffer, a receiver's node.
//!
//! A blocked sender's value lies in its node. Whoever frees a place moves the first sender's value
//! into the buffer and wakes it: its send is done. A value for a blocked receiver is delivered to
//! its node. So whoever is killed or timed out after that has sent, or has received.
//!
//! User code runs under the lock in two places only, both before anything has changed: what
//! [`Buffer::prepare`] and [`Buffer::pop`] compare. So a comparison that panics loses nothing.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::order::Buffer;
use super::refusal::{Nothing, Refusal};
use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{Parked, Unwinding, Wait, WaitQueue, Waited, leave};
use crate::hub::waiter::Late;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// What the layer above keeps beside the buffer.
pub(crate) trait Owner {
    /// What a wait for room is called.
    const SEND: WaitKind;
    /// What a wait for a value is called.
    const RECV: WaitKind;

    /// A value has come in.
    #[inline]
    fn came_in(&mut self) {}

    /// The buffer, which was empty, is about to get a value. Returns whom to wake.
    #[inline]
    fn filled(&mut self) -> Late {
        Late::NOBODY
    }
}

/// See the file head.
pub(crate) struct Exchange<B: Buffer, O> {
    pub(crate) state: ShortLock<State<B, O>>,
    /// As `shut`: set under the lock, read by woken senders without it.
    closed: AtomicBool,
}

pub(crate) struct State<B: Buffer, O> {
    pub(crate) buffer: B,
    pub(crate) capacity: usize,
    pub(crate) senders: WaitQueue<B::Value>,
    pub(crate) receivers: WaitQueue<B::Value>,
    /// No value comes in any more.
    pub(crate) shut: bool,
    /// No value comes after those that are there.
    pub(crate) ended: bool,
    pub(crate) owner: O,
}

impl<B: Buffer, O: Owner> State<B, O> {
    /// Puts the value where it belongs, or gives it back.
    #[inline]
    pub(crate) fn try_put(&mut self, value: B::Value) -> Result<Late, Refusal<B::Value>> {
        if self.shut {
            return Err(Refusal::Closed(value));
        }
        let value = if self.receivers.is_empty() {
            value
        } else {
            match self.receivers.deliver(value) {
                Ok(receiver) => {
                    self.owner.came_in();
                    return Ok(receiver.wake());
                }
                Err(value) => value,
            }
        };
        let held = self.buffer.len();
        if held < self.capacity {
            self.owner.came_in();
            let late = if held == 0 {
                self.owner.filled()
            } else {
                Late::NOBODY
            };
            self.buffer.push(value);
            return Ok(late);
        }
        Err(Refusal::Full(value))
    }

    /// Takes the value whose turn it is.
    #[inline]
    pub(crate) fn try_take(&mut self) -> Result<(B::Value, Late), Nothing> {
        if let Some(value) = self.buffer.pop() {
            let mut late = Late::NOBODY;
            if let Some((sender, next)) = self.senders.pop() {
                if let Some(next) = next {
                    self.owner.came_in();
                    self.buffer.push(next);
                }
                late = sender.wake();
            }
            return Ok((value, late));
        }
        if let Some((sender, Some(value))) = self.senders.pop() {
            self.owner.came_in();
            return Ok((value, sender.wake()));
        }
        Err(if self.ended {
            Nothing::Closed
        } else {
            Nothing::Empty
        })
    }
}

/// What a sender's wait means: a value that comes back after a wake says that it is closed.
fn sent<T>(waited: Waited<T>) -> Result<(), Refusal<T>> {
    match waited {
        Waited::Woken(Some(value)) => Err(Refusal::Closed(value)),
        Waited::TimedOut(Some(value)) => Err(Refusal::TimedOut(value)),
        Waited::Refused(Some(value)) => Err(Refusal::Unwinding(value)),
        Waited::Woken(None) | Waited::TimedOut(None) | Waited::Refused(None) => Ok(()),
    }
}

/// What a receiver's wait means: a wake without a value says that none will come.
fn received<T>(waited: Waited<T>) -> Result<T, Nothing> {
    match waited {
        Waited::Woken(Some(value)) => Ok(value),
        Waited::Woken(None) => Err(Nothing::Closed),
        Waited::TimedOut(_) => Err(Nothing::TimedOut),
        Waited::Refused(_) => Err(Nothing::Unwinding),
    }
}

impl<B: Buffer, O: Owner> Exchange<B, O> {
    pub(crate) fn new(buffer: B, capacity: usize, owner: O) -> Self {
        Self {
            state: ShortLock::new(State {
                buffer,
                capacity,
                senders: WaitQueue::new(),
                receivers: WaitQueue::new(),
                shut: false,
                ended: false,
                owner,
            }),
            closed: AtomicBool::new(false),
        }
    }

    /// Brings a value, waiting for room.
    #[inline(always)]
    pub(crate) fn put(
        &self,
        value: B::Value,
        deadline: Option<Instant>,
    ) -> Result<(), Refusal<B::Value>> {
        park::checkpoint();
        let mut state = self.state.lock();
        // Here and not in `try_put`: if it panics, the value is dropped after the lock.
        state.buffer.prepare();
        let value = match state.try_put(value) {
            Ok(late) => {
                drop(state);
                late.wake();
                return Ok(());
            }
            Err(Refusal::Full(value)) => value,
            Err(refusal) => return Err(refusal),
        };
        match self.line_up_to_send(state, value, deadline) {
            Ok(parked) => {
                parked.switch();
                self.leave_sending(parked)
            }
            Err(waited) => sent(waited),
        }
    }

    /// Brings a value if that needs no waiting.
    #[inline]
    pub(crate) fn try_put(&self, value: B::Value) -> Result<(), Refusal<B::Value>> {
        let mut state = self.state.lock();
        state.buffer.prepare();
        let put = state.try_put(value);
        drop(state);
        put.map(Late::wake)
    }

    #[inline(never)]
    fn line_up_to_send(
        &self,
        state: ShortGuard<'_, State<B, O>>,
        value: B::Value,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<B::Value>> {
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.senders,
            reason: || WaitReason::on(O::SEND, &self.state),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        wait.line_up(state, Some(value))
    }

    #[inline(never)]
    fn leave_sending(&self, parked: Parked) -> Result<(), Refusal<B::Value>> {
        let closed = || self.closed.load(Relaxed);
        sent(leave(
            parked,
            &self.state,
            |state| &mut state.senders,
            closed,
        ))
    }

    /// Takes the value whose turn it is, waiting for one.
    #[inline(always)]
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Result<B::Value, Nothing> {
        park::checkpoint();
        let mut state = self.state.lock();
        match state.try_take() {
            Ok((value, late)) => {
                drop(state);
                late.wake();
                return Ok(value);
            }
            Err(Nothing::Empty) => {}
            Err(nothing) => return Err(nothing),
        }
        match self.line_up_to_receive(state, deadline) {
            Ok(parked) => {
                parked.switch();
                self.leave_receiving(parked)
            }
            Err(waited) => received(waited),
        }
    }

    /// Takes the value whose turn it is, if there is one.
    #[inline]
    pub(crate) fn try_take(&self) -> Result<B::Value, Nothing> {
        let (value, late) = self.state.lock().try_take()?;
        late.wake();
        Ok(value)
    }

    #[inline(never)]
    fn line_up_to_receive(
        &self,
        state: ShortGuard<'_, State<B, O>>,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<B::Value>> {
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.receivers,
            reason: || WaitReason::on(O::RECV, &self.state),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        wait.line_up(state, None)
    }

    #[inline(never)]
    fn leave_receiving(&self, parked: Parked) -> Result<B::Value, Nothing> {
        received(leave(
            parked,
            &self.state,
            |state| &mut state.receivers,
            || true,
        ))
    }

    /// Sends away those who wait for what the caller, who holds the lock, has ruled out by `shut`
    /// (senders, each with its value) and `ended` (receivers).
    pub(crate) fn close<'a>(&'a self, mut state: ShortGuard<'a, State<B, O>>) {
        loop {
            let (shut, ended) = (state.shut, state.ended);
            if shut {
                self.closed.store(true, Relaxed);
            }
            let late = if shut && let Some(sender) = state.senders.give_back() {
                sender.wake()
            } else if ended && let Some((receiver, _)) = state.receivers.pop() {
                receiver.wake()
            } else {
                return;
            };
            drop(state);
            late.wake();
            state = self.state.lock();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().buffer.len()
    }

    /// How many wait to send, and how many to receive.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.senders.len(), state.receivers.len())
    }
}
