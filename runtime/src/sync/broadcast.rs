//! Values that every receiver gets, through a ring of limited size.
//!
//! Nouns: values are numbered as they are sent; a *slot* of the ring holds one, and counts the
//! receivers that have yet to take it; a receiver knows the number that it takes next.
//!
//! Invariants, under the lock
//! - the ring holds the values from number `first` on, at most `capacity`;
//! - a slot's count = receivers that were there when its value was sent, whose next number is not
//!   above its own; who has yet to take a value has yet to take all after it, so counts never fall
//!   along the ring, and what nobody waits for is always at its front;
//! - so a slot leaves the front either taken by all, or because a send needs its place; a receiver
//!   whose next number is below `first` has missed exactly the difference;
//! - receivers wait only when they have taken everything and a sender is left.
//!
//! Rejected: senders that wait for slow receivers. One that never receives would stop all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::refusal::{Nothing, errors};
use super::short_lock::ShortLock;
use super::wait_queue::{WaitQueue, Woken, retry, wake_line};
use crate::clock;
use crate::wait_reason::{WaitKind, WaitReason};

struct State<T> {
    ring: VecDeque<Slot<T>>,
    first: u64,
    capacity: usize,
    senders: usize,
    receivers: usize,
    waiting: WaitQueue<()>,
}

struct Slot<T> {
    value: Arc<T>,
    left: usize,
}

type Broadcast<T> = ShortLock<State<T>>;

/// The end that sends to all receivers; clones share it.
pub struct Sender<T> {
    broadcast: Arc<Broadcast<T>>,
}

/// An end that gets every value sent since it was made.
pub struct Receiver<T> {
    broadcast: Arc<Broadcast<T>>,
    next: u64,
}

/// Why a receiver got nothing.
enum Missing {
    Lagged(u64),
    Nothing(Nothing),
}

/// Returns the ends of a broadcast that keeps the last `capacity` values for slow receivers (tokio's
/// `broadcast::channel`).
///
/// # Panics
/// With a capacity of 0: no receiver could ever get a value.
///
/// # Examples
/// ```
/// use sward_runtime::{join_all, spawn, sync::broadcast};
/// let (sender, _) = broadcast::channel(16);
/// let tasks: Vec<_> = (0..3)
///     .map(|_| {
///         let mut receiver = sender.subscribe();
///         spawn(move || receiver.recv())
///     })
///     .collect();
/// sender.send("hello").unwrap();
/// for got in join_all(tasks) {
///     assert_eq!(got.unwrap(), Ok("hello"));
/// }
/// ```
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity > 0,
        "sward: a broadcast of capacity 0 could hold nothing: give the number of values that a \
         receiver may lag behind"
    );
    let broadcast = Arc::new(ShortLock::new(State {
        // More than that is allocated as it fills.
        ring: VecDeque::with_capacity(capacity.min(1024)),
        first: 0,
        capacity,
        senders: 1,
        receivers: 1,
        waiting: WaitQueue::new(),
    }));
    let sender = Sender {
        broadcast: broadcast.clone(),
    };
    (sender, Receiver { broadcast, next: 0 })
}

impl<T> State<T> {
    /// The number of the next value to be sent.
    fn end(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Takes value number `next`, and counts on.
    fn try_take(&mut self, next: &mut u64) -> Result<Arc<T>, Missing> {
        let missed = self.first.saturating_sub(*next);
        if missed > 0 {
            *next = self.first;
            return Err(Missing::Lagged(missed));
        }
        let index = (*next - self.first) as usize;
        let Some(slot) = self.ring.get_mut(index) else {
            return Err(Missing::Nothing(if self.senders == 0 {
                Nothing::Closed
            } else {
                Nothing::Empty
            }));
        };
        *next += 1;
        slot.left -= 1;
        // Nobody else has yet to take it: then it is the first, and this one's own.
        if slot.left == 0
            && let Some(slot) = self.ring.pop_front()
        {
            self.first += 1;
            return Ok(slot.value);
        }
        Ok(self.ring[index].value.clone())
    }
}

impl<T> Sender<T> {
    /// Sends a value to all receivers and returns their number. If the ring is full, the oldest
    /// value goes, and who has not taken it is told so.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// Gives the value back when there is no receiver.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let mut state = self.broadcast.lock();
        let receivers = state.receivers;
        if receivers == 0 {
            drop(state);
            return Err(SendError::Closed(value));
        }
        let mut pushed_out = None;
        if state.ring.len() == state.capacity {
            pushed_out = state.ring.pop_front();
            state.first += 1;
        }
        state.ring.push_back(Slot {
            value: Arc::new(value),
            left: receivers,
        });
        wake_line(&self.broadcast, state, |state| &mut state.waiting);
        drop(pushed_out);
        Ok(receivers)
    }

    /// Returns another receiver, for what is sent from now on. There may be none before.
    pub fn subscribe(&self) -> Receiver<T> {
        subscribe(&self.broadcast)
    }

    /// Returns the number of receivers.
    pub fn receiver_count(&self) -> usize {
        self.broadcast.lock().receivers
    }

    /// Returns whether there is no receiver.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Returns the number of values that some receiver has yet to take.
    pub fn len(&self) -> usize {
        self.broadcast.lock().ring.len()
    }

    /// Returns whether every receiver has taken every value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn subscribe<T>(broadcast: &Arc<Broadcast<T>>) -> Receiver<T> {
    let mut state = broadcast.lock();
    state.receivers += 1;
    Receiver {
        broadcast: broadcast.clone(),
        next: state.end(),
    }
}

impl<T: Clone> Receiver<T> {
    /// Receives the oldest value that this receiver has not got, waiting for one. The last receiver
    /// to take a value gets it, the others a clone; send an `Arc` if cloning is dear.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Broadcast`] while there is none; honours kill and `timeout`.
    ///
    /// # Errors
    /// - `Lagged(n)`: `n` values were pushed out of the ring before they were received; the next
    ///   call gives the oldest that is left.
    /// - When everything was received and every sender has gone, and in a task that unwinds when it
    ///   would have to wait.
    ///
    /// # Panics
    /// If the value's `clone` does; the value is then lost for this receiver.
    ///
    /// # Cancel safety
    /// Killed or timed out while it waits, it has received nothing; the next call goes on where
    /// this one was.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        Ok(self.take(None)?)
    }

    /// As [`recv`](Self::recv), for at most `limit`.
    ///
    /// # Errors
    /// As `recv`, and when the time has passed.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvTimeoutError> {
        Ok(self.take(clock::deadline(limit))?)
    }

    /// Receives the oldest value that this receiver has not got, if there is one.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `Lagged` as [`recv`](Self::recv); when there is no value, for now or for ever.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let taken = self.broadcast.lock().try_take(&mut self.next)?;
        Ok(Arc::unwrap_or_clone(taken))
    }

    fn take(&mut self, deadline: Option<Instant>) -> Result<T, Missing> {
        let next = &mut self.next;
        let take = |state: &mut State<T>, _: &mut Woken| match state.try_take(next) {
            Err(Missing::Nothing(Nothing::Empty)) => None,
            taken => Some(taken),
        };
        match retry(
            &self.broadcast,
            |s| &mut s.waiting,
            WaitReason::on(WaitKind::Broadcast, &*self.broadcast),
            || deadline,
            take,
        ) {
            Ok(taken) => taken.map(Arc::unwrap_or_clone),
            Err(nothing) => Err(Missing::Nothing(nothing)),
        }
    }

    /// Returns an iterator that receives until every sender has gone. It says where values were
    /// missed.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::sync::broadcast::{self, Lagged};
    /// let (sender, mut receiver) = broadcast::channel(2);
    /// for i in 1..=5 {
    ///     sender.send(i).unwrap();
    /// }
    /// drop(sender);
    /// assert!(receiver.iter().eq([Err(Lagged(3)), Ok(4), Ok(5)]));
    /// ```
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { receiver: self }
    }
}

impl<T> Receiver<T> {
    /// Returns another receiver, for what is sent from now on.
    pub fn resubscribe(&self) -> Self {
        subscribe(&self.broadcast)
    }

    /// Returns the number of values that this receiver can get now.
    pub fn len(&self) -> usize {
        let state = self.broadcast.lock();
        (state.end() - self.next.max(state.first)) as usize
    }

    /// Returns whether there is no value for this receiver now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether every sender has gone; values may still be there.
    pub fn is_closed(&self) -> bool {
        self.broadcast.lock().senders == 0
    }
}

/// Receives until every sender has gone.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: Clone> Iterator for Iter<'_, T> {
    type Item = Result<T, Lagged>;

    fn next(&mut self) -> Option<Result<T, Lagged>> {
        match self.receiver.take(None) {
            Ok(value) => Some(Ok(value)),
            Err(Missing::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(Missing::Nothing(_)) => None,
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.broadcast.lock().senders += 1;
        Self {
            broadcast: self.broadcast.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.broadcast.lock();
        state.senders -= 1;
        if state.senders == 0 {
            wake_line(&self.broadcast, state, |state| &mut state.waiting);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.broadcast.lock();
        state.receivers -= 1;
        let had = self.next.saturating_sub(state.first) as usize;
        let mut free = 0;
        for slot in state.ring.iter_mut().skip(had) {
            slot.left -= 1;
            free += usize::from(slot.left == 0);
        }
        state.first += free as u64;
        // Dropped after the lock: a value's destructor may use this very broadcast.
        let _freed: Vec<_> = state.ring.drain(..free).collect();
        drop(state);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
            .field("receivers", &self.receiver_count())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

// ---- errors -------------------------------------------------------------------------------------

/// So many values were pushed out of the ring before this receiver got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the receiver was too slow and missed {} values (receive faster, or give the \
             broadcast a larger capacity)",
            self.0
        )
    }
}

impl std::error::Error for Lagged {}

errors! {
    /// Why [`Sender::send`] failed; the value comes back.
    SendError<T> {
        /// There is no receiver.
        Closed [Closed Full TimedOut Unwinding] => "the broadcast has no receiver left",
    }
}

macro_rules! receive_errors {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident [$($reason:ident)*] => $text:literal,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            /// So many values were pushed out of the ring before this receiver got them.
            Lagged(u64),
            $($(#[$vdoc])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Lagged(missed) => Lagged(*missed).fmt(f),
                    $(Self::$variant => f.write_str($text),)*
                }
            }
        }

        impl std::error::Error for $name {}

        impl From<Missing> for $name {
            fn from(missing: Missing) -> Self {
                match missing {
                    Missing::Lagged(missed) => Self::Lagged(missed),
                    $($(Missing::Nothing(Nothing::$reason) => Self::$variant,)*)*
                }
            }
        }
    )*};
}

receive_errors! {
    /// Why [`Receiver::recv`] failed.
    RecvError {
        /// Everything was received, and every sender has gone.
        Closed [Closed] => "the broadcast is empty and has no sender left",
        /// There is no value, and a task that unwinds may not wait.
        Unwinding [Unwinding TimedOut Empty] =>
            "the broadcast is empty, and a task that unwinds may not wait for a value",
    }
    /// Why [`Receiver::try_recv`] failed.
    TryRecvError {
        /// There is no value now.
        Empty [Empty TimedOut Unwinding] => "the broadcast is empty",
        /// Everything was received, and every sender has gone.
        Closed [Closed] => "the broadcast is empty and has no sender left",
    }
    /// Why [`Receiver::recv_timeout`] failed.
    RecvTimeoutError {
        /// No value came in time.
        TimedOut [TimedOut Empty] => "the broadcast stayed empty until the time-out",
        /// Everything was received, and every sender has gone.
        Closed [Closed] => "the broadcast is empty and has no sender left",
        /// There is no value, and a task that unwinds may not wait.
        Unwinding [Unwinding] =>
            "the broadcast is empty, and a task that unwinds may not wait for a value",
    }
}
