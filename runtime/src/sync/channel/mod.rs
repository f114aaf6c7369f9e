//! Channels: many senders, many receivers, values in order.
//!
//! Three kinds in one: [`bounded`], [`unbounded`], and [`rendezvous`] (nothing is buffered, a send
//! ends when a receiver has the value). All receivers see one stream, in which each value goes to
//! one of them.
//!
//! Invariants, under the lock
//! - receivers wait only while the buffer is empty and no sender waits;
//! - senders wait only while the buffer is full and no receiver waits;
//! - a value is in one place: the sender's hands, its node, the buffer, a receiver's node.
//!
//! A blocked sender's value lies in its node. Whoever frees a place moves the first sender's value
//! into the buffer and wakes it: its send is done. A value for a blocked receiver is delivered to
//! its node. So whoever is killed or timed out after that has sent, or has received.

mod arm;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::waiter::Late;
use crate::park;
use crate::sync::short_lock::{ShortGuard, ShortLock};
use crate::sync::wait_queue::{Parked, Unwinding, Wait, WaitQueue, Waited, leave};
use crate::wait_reason::{WaitKind, WaitReason};

pub use self::arm::{Receiving, Sending};

struct Channel<T> {
    state: ShortLock<State<T>>,
    /// The last receiver has gone; set under the lock, read by woken senders without it.
    closed: AtomicBool,
}

struct State<T> {
    buffer: VecDeque<T>,
    capacity: usize,
    senders: WaitQueue<T>,
    receivers: WaitQueue<T>,
    sender_handles: usize,
    receiver_handles: usize,
}

/// The sending end of a channel; clones share it.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

/// The receiving end of a channel; clones share it, and each value goes to one of them.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

/// Returns the ends of a channel that holds up to `capacity` values; with 0 a [`rendezvous`].
///
/// # Examples
/// ```
/// use sward_runtime::{spawn, sync::bounded};
/// let (sender, receiver) = bounded(2);
/// spawn(move || for i in 0..5 { sender.send(i).unwrap() });
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    // More than that is allocated as it fills.
    let buffer = VecDeque::with_capacity(capacity.min(1024));
    let channel = Arc::new(Channel {
        state: ShortLock::new(State {
            buffer,
            capacity,
            senders: WaitQueue::new(),
            receivers: WaitQueue::new(),
            sender_handles: 1,
            receiver_handles: 1,
        }),
        closed: AtomicBool::new(false),
    });
    (
        Sender {
            channel: channel.clone(),
        },
        Receiver { channel },
    )
}

/// Returns the ends of a channel that holds as many values as memory does; `send` never parks.
///
/// # Examples
/// ```
/// let (sender, receiver) = sward_runtime::sync::unbounded();
/// sender.send("hello").unwrap();
/// assert_eq!(receiver.recv().unwrap(), "hello");
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = bounded(0);
    sender.channel.state.lock().capacity = usize::MAX;
    (sender, receiver)
}

/// Returns the ends of a channel without a buffer: a send ends when a receiver has the value
/// (gevent's `Channel`, Go's unbuffered one).
///
/// # Examples
/// ```
/// use sward_runtime::{spawn, sync::rendezvous};
/// let (sender, receiver) = rendezvous();
/// let task = spawn(move || sender.send(1));
/// assert_eq!(receiver.recv(), Ok(1));
/// task.join().unwrap().unwrap();
/// ```
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    bounded(0)
}

impl<T> State<T> {
    /// Puts the value where it belongs, or gives it back.
    #[inline]
    fn try_put(&mut self, value: T) -> Result<Late, TrySendError<T>> {
        let value = if self.receivers.is_empty() {
            value
        } else {
            match self.receivers.deliver(value) {
                Ok(receiver) => return Ok(receiver.wake()),
                Err(value) => value,
            }
        };
        if self.receiver_handles == 0 {
            return Err(TrySendError::Disconnected(value));
        }
        if self.buffer.len() < self.capacity {
            self.buffer.push_back(value);
            return Ok(Late::NOBODY);
        }
        Err(TrySendError::Full(value))
    }

    /// Takes the oldest value.
    #[inline]
    fn try_take(&mut self) -> Result<(T, Late), TryRecvError> {
        if let Some(value) = self.buffer.pop_front() {
            let mut late = Late::NOBODY;
            if let Some((sender, next)) = self.senders.pop() {
                self.buffer.extend(next);
                late = sender.wake();
            }
            return Ok((value, late));
        }
        if let Some((sender, Some(value))) = self.senders.pop() {
            return Ok((value, sender.wake()));
        }
        Err(if self.sender_handles == 0 {
            TryRecvError::Disconnected
        } else {
            TryRecvError::Empty
        })
    }
}

/// What a sender's wait means: a value that comes back after a wake found no receiver left.
fn sent<T>(waited: Waited<T>) -> Result<(), SendTimeoutError<T>> {
    match waited {
        Waited::Woken(Some(value)) => Err(SendTimeoutError::Disconnected(value)),
        Waited::TimedOut(Some(value)) => Err(SendTimeoutError::TimedOut(value)),
        Waited::Refused(Some(value)) => Err(SendTimeoutError::Unwinding(value)),
        Waited::Woken(None) | Waited::TimedOut(None) | Waited::Refused(None) => Ok(()),
    }
}

/// What a receiver's wait means: a wake without a value says that the last sender has gone.
fn received<T>(waited: Waited<T>) -> Result<T, RecvTimeoutError> {
    match waited {
        Waited::Woken(Some(value)) => Ok(value),
        Waited::Woken(None) => Err(RecvTimeoutError::Disconnected),
        Waited::TimedOut(_) => Err(RecvTimeoutError::TimedOut),
        Waited::Refused(_) => Err(RecvTimeoutError::Unwinding),
    }
}

impl<T> Sender<T> {
    /// Sends a value, waiting for room.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Send`] while the channel is full; honours kill and `timeout`.
    ///
    /// # Errors
    /// Gives the value back when every receiver has gone, and in a task that unwinds when it would
    /// have to wait.
    ///
    /// # Cancel safety
    /// Killed or timed out while it waits, the value is dropped unsent; once a receiver or the
    /// buffer has it, it is sent and the kill comes at the next park.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.put(value, None).map_err(|e| match e {
            SendTimeoutError::Disconnected(value) => SendError::Disconnected(value),
            SendTimeoutError::Unwinding(value) | SendTimeoutError::TimedOut(value) => {
                SendError::Unwinding(value)
            }
        })
    }

    /// As [`send`](Self::send), for at most `limit`.
    ///
    /// # Errors
    /// As `send`, and with the value back when the time has passed.
    pub fn send_timeout(&self, value: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        self.put(value, clock::deadline(limit))
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// Gives the value back: the channel is full, or every receiver has gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let late = self.channel.state.lock().try_put(value)?;
        late.wake();
        Ok(())
    }

    #[inline(always)]
    fn put(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        park::checkpoint();
        let mut state = self.channel.state.lock();
        let value = match state.try_put(value) {
            Ok(late) => {
                drop(state);
                late.wake();
                return Ok(());
            }
            Err(TrySendError::Full(value)) => value,
            Err(TrySendError::Disconnected(value)) => {
                return Err(SendTimeoutError::Disconnected(value));
            }
        };
        match self.line_up(state, value, deadline) {
            Ok(parked) => {
                parked.switch();
                self.leave(parked)
            }
            Err(waited) => sent(waited),
        }
    }

    #[inline(never)]
    fn line_up(
        &self,
        state: ShortGuard<'_, State<T>>,
        value: T,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<T>> {
        let wait = Wait {
            lock: &self.channel.state,
            queue: |state| &mut state.senders,
            reason: || WaitReason::on(WaitKind::Send, &*self.channel),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        wait.line_up(state, Some(value))
    }

    #[inline(never)]
    fn leave(&self, parked: Parked) -> Result<(), SendTimeoutError<T>> {
        let closed = || self.channel.closed.load(Relaxed);
        sent(leave(
            parked,
            &self.channel.state,
            |state| &mut state.senders,
            closed,
        ))
    }

    /// Returns the number of values in the buffer.
    pub fn len(&self) -> usize {
        self.channel.state.lock().buffer.len()
    }

    /// Returns whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether every receiver has gone.
    pub fn is_disconnected(&self) -> bool {
        self.channel.state.lock().receiver_handles == 0
    }
}

impl<T> Receiver<T> {
    /// Receives the oldest value, waiting for one.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Recv`] while there is none; honours kill and `timeout`.
    ///
    /// # Errors
    /// When the channel is empty and every sender has gone, and in a task that unwinds when it
    /// would have to wait.
    ///
    /// # Cancel safety
    /// A value that was handed over is received; the kill comes at the next park.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.take(None).map_err(|e| match e {
            RecvTimeoutError::Disconnected => RecvError::Disconnected,
            RecvTimeoutError::Unwinding | RecvTimeoutError::TimedOut => RecvError::Unwinding,
        })
    }

    /// As [`recv`](Self::recv), for at most `limit`.
    ///
    /// # Errors
    /// As `recv`, and when the time has passed.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        self.take(clock::deadline(limit))
    }

    /// Receives the oldest value if there is one.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// When the channel is empty: for now, or for ever because every sender has gone.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let (value, late) = self.channel.state.lock().try_take()?;
        late.wake();
        Ok(value)
    }

    #[inline(always)]
    fn take(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        park::checkpoint();
        let mut state = self.channel.state.lock();
        match state.try_take() {
            Ok((value, late)) => {
                drop(state);
                late.wake();
                return Ok(value);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
        }
        match self.line_up(state, deadline) {
            Ok(parked) => {
                parked.switch();
                self.leave(parked)
            }
            Err(waited) => received(waited),
        }
    }

    #[inline(never)]
    fn line_up(
        &self,
        state: ShortGuard<'_, State<T>>,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<T>> {
        let wait = Wait {
            lock: &self.channel.state,
            queue: |state| &mut state.receivers,
            reason: || WaitReason::on(WaitKind::Recv, &*self.channel),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        wait.line_up(state, None)
    }

    #[inline(never)]
    fn leave(&self, parked: Parked) -> Result<T, RecvTimeoutError> {
        received(leave(
            parked,
            &self.channel.state,
            |state| &mut state.receivers,
            || true,
        ))
    }

    /// Returns an iterator that receives until every sender has gone.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Returns the number of values in the buffer.
    pub fn len(&self) -> usize {
        self.channel.state.lock().buffer.len()
    }

    /// Returns whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether every sender has gone; values may still be there.
    pub fn is_disconnected(&self) -> bool {
        self.channel.state.lock().sender_handles == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.state.lock().sender_handles += 1;
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.state.lock().receiver_handles += 1;
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.sender_handles -= 1;
        let mut last = state.sender_handles == 0;
        drop(state);
        while last {
            let mut state = self.channel.state.lock();
            let late = match state.receivers.pop() {
                Some((receiver, _)) => receiver.wake(),
                None => {
                    last = false;
                    Late::NOBODY
                }
            };
            drop(state);
            late.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.receiver_handles -= 1;
        if state.receiver_handles > 0 {
            return;
        }
        self.channel.closed.store(true, Relaxed);
        // Dropped after the lock: a value's destructor may use this very channel.
        let rest = std::mem::take(&mut state.buffer);
        drop(state);
        loop {
            let mut state = self.channel.state.lock();
            // Each blocked sender gets its own value back.
            let Some(sender) = state.senders.give_back() else {
                break;
            };
            let late = sender.wake();
            drop(state);
            late.wake();
        }
        drop(rest);
    }
}

/// Receives until every sender has gone.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Receives until every sender has gone; owns the receiver.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
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

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $(<$t:ident>)? {
        $($(#[$vdoc:meta])* $variant:ident => $text:literal,)*
    })*) => {$(
        errors!(@enum $(#[$doc])* $name $(<$t>)? { $($(#[$vdoc])* $variant,)* });

        impl $(<$t>)? fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant { .. } => f.write_str(stringify!($variant)),)* }
            }
        }

        impl $(<$t>)? fmt::Display for $name $(<$t>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant { .. } => f.write_str($text),)* }
            }
        }

        impl $(<$t>)? std::error::Error for $name $(<$t>)? {}
    )*};
    (@enum $(#[$doc:meta])* $name:ident <$t:ident> { $($(#[$vdoc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name<$t> { $($(#[$vdoc])* $variant($t),)* }

        impl<$t> $name<$t> {
            /// Returns the value that was not sent.
            pub fn into_inner(self) -> $t {
                match self { $(Self::$variant(value) => value,)* }
            }
        }
    };
    (@enum $(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
    };
}

errors! {
    /// Why [`Sender::send`] failed; the value comes back.
    SendError<T> {
        /// Every receiver has gone.
        Disconnected => "the channel has no receiver left",
        /// The channel is full, and a task that unwinds may not wait.
        Unwinding => "the channel is full, and a task that unwinds may not wait for room",
    }
    /// Why [`Sender::try_send`] failed; the value comes back.
    TrySendError<T> {
        /// There is no room, or (without a buffer) no receiver that waits.
        Full => "the channel is full",
        /// Every receiver has gone.
        Disconnected => "the channel has no receiver left",
    }
    /// Why [`Sender::send_timeout`] failed; the value comes back.
    SendTimeoutError<T> {
        /// There was no room in time.
        TimedOut => "the channel stayed full until the time-out",
        /// Every receiver has gone.
        Disconnected => "the channel has no receiver left",
        /// The channel is full, and a task that unwinds may not wait.
        Unwinding => "the channel is full, and a task that unwinds may not wait for room",
    }
    /// Why [`Receiver::recv`] failed.
    RecvError {
        /// The channel is empty and every sender has gone.
        Disconnected => "the channel is empty and has no sender left",
        /// The channel is empty, and a task that unwinds may not wait.
        Unwinding => "the channel is empty, and a task that unwinds may not wait for a value",
    }
    /// Why [`Receiver::try_recv`] failed.
    TryRecvError {
        /// There is no value now.
        Empty => "the channel is empty",
        /// The channel is empty and every sender has gone.
        Disconnected => "the channel is empty and has no sender left",
    }
    /// Why [`Receiver::recv_timeout`] failed.
    RecvTimeoutError {
        /// No value came in time.
        TimedOut => "the channel stayed empty until the time-out",
        /// The channel is empty and every sender has gone.
        Disconnected => "the channel is empty and has no sender left",
        /// The channel is empty, and a task that unwinds may not wait.
        Unwinding => "the channel is empty, and a task that unwinds may not wait for a value",
    }
}
