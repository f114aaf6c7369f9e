//! Channels: many senders, many receivers, values in order.
//!
//! Three kinds in one: [`bounded`], [`unbounded`], and [`rendezvous`] (nothing is buffered, a send
//! ends when a receiver has the value). All receivers see one stream, in which each value goes to
//! one of them.
//!
//! The waiting is that of `exchange.rs`. A channel is closed by `close`; without a receiver it takes
//! no values, without a sender it ends with those that it has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::exchange::{Exchange, Owner};
use super::order::{Buffer, Fifo};
use super::refusal::errors;
use super::select::Arm;
use crate::clock;
use crate::wait_reason::WaitKind;

type Channel<T> = Exchange<Fifo<T>, Handles>;

struct Handles {
    senders: usize,
    receivers: usize,
}

impl Owner for Handles {
    const SEND: WaitKind = WaitKind::Send;
    const RECV: WaitKind = WaitKind::Recv;
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
    let buffer = Fifo::with_capacity(capacity.min(1024));
    let handles = Handles {
        senders: 1,
        receivers: 1,
    };
    let channel = Arc::new(Exchange::new(buffer, capacity, handles));
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

impl<T> Sender<T> {
    /// Sends a value, waiting for room.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Send`] while the channel is full; honours kill and `timeout`.
    ///
    /// # Errors
    /// Gives the value back when every receiver has gone, the channel was closed, and in a task that unwinds when it would
    /// have to wait.
    ///
    /// # Cancel safety
    /// Killed or timed out while it waits, the value is dropped unsent; once a receiver or the
    /// buffer has it, it is sent and the kill comes at the next park.
    // Inlined: see `Wait`.
    #[inline(always)]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        Ok(self.channel.put(value, None)?)
    }

    /// As [`send`](Self::send), for at most `limit`.
    ///
    /// # Errors
    /// As `send`, and with the value back when the time has passed.
    pub fn send_timeout(&self, value: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        Ok(self.channel.put(value, clock::deadline(limit))?)
    }

    /// Returns an arm of a [`select!`](crate::select) that sends `value`; it is dropped if another
    /// arm is chosen.
    pub fn sending(&self, value: T) -> impl Arm<Output = Result<(), SendError<T>>> + '_ {
        self.channel.putting(value)
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// Gives the value back: the channel is full, or every receiver has gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        Ok(self.channel.try_put(value)?)
    }

    /// Closes the channel: no value gets in any more, and what is in it can still be received.
    ///
    /// Who waits to send gets the value back, and who waits to receive an error. Closing again does
    /// nothing.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = sward_runtime::sync::unbounded();
    /// sender.send(1).unwrap();
    /// sender.close();
    /// assert_eq!(sender.send(2).unwrap_err().into_inner(), 2);
    /// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn close(&self) {
        close(&self.channel);
    }

    /// Returns the number of those who wait to send (gevent's `putters`).
    pub fn waiting_senders(&self) -> usize {
        self.channel.waiting().0
    }

    /// Returns the number of those who wait to receive (gevent's `getters`).
    pub fn waiting_receivers(&self) -> usize {
        self.channel.waiting().1
    }

    /// Returns the number of values in the buffer.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Returns whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether every receiver has gone, or the channel was closed.
    pub fn is_disconnected(&self) -> bool {
        self.channel.state.lock().shut
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
    // Inlined: see `Wait`.
    #[inline(always)]
    pub fn recv(&self) -> Result<T, RecvError> {
        Ok(self.channel.take(None)?)
    }

    /// As [`recv`](Self::recv), for at most `limit`.
    ///
    /// # Errors
    /// As `recv`, and when the time has passed.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        Ok(self.channel.take(clock::deadline(limit))?)
    }

    /// Returns an arm of a [`select!`](crate::select) that receives the oldest value.
    pub fn receiving(&self) -> impl Arm<Output = Result<T, RecvError>> + '_ {
        self.channel.taking()
    }

    /// Receives the oldest value if there is one.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// When the channel is empty: for now, or for ever because every sender has gone.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        Ok(self.channel.try_take()?)
    }

    /// Returns an iterator that receives until every sender has gone.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Closes the channel: no value gets in any more, and what is in it can still be received.
    ///
    /// Who waits to send gets the value back, and who waits to receive an error. Closing again does
    /// nothing.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = sward_runtime::sync::unbounded();
    /// sender.send(1).unwrap();
    /// receiver.close();
    /// assert_eq!(sender.send(2).unwrap_err().into_inner(), 2);
    /// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn close(&self) {
        close(&self.channel);
    }

    /// Returns the number of those who wait to send (gevent's `putters`).
    pub fn waiting_senders(&self) -> usize {
        self.channel.waiting().0
    }

    /// Returns the number of those who wait to receive (gevent's `getters`).
    pub fn waiting_receivers(&self) -> usize {
        self.channel.waiting().1
    }

    /// Returns the number of values in the buffer.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Returns whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether every sender has gone, or the channel was closed; values may still be there.
    pub fn is_disconnected(&self) -> bool {
        self.channel.state.lock().ended
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.state.lock().owner.senders += 1;
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.state.lock().owner.receivers += 1;
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.owner.senders -= 1;
        if state.owner.senders == 0 {
            state.ended = true;
            self.channel.close(state);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.owner.receivers -= 1;
        if state.owner.receivers > 0 {
            return;
        }
        state.shut = true;
        // Dropped after the lock: a value's destructor may use this very channel.
        let _rest = std::mem::take(&mut state.buffer);
        self.channel.close(state);
    }
}

fn close<T>(channel: &Channel<T>) {
    let mut state = channel.state.lock();
    (state.shut, state.ended) = (true, true);
    channel.close(state);
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

errors! {
    /// Why [`Sender::send`] failed; the value comes back.
    SendError<T> {
        /// Every receiver has gone, or the channel was closed.
        Disconnected [Closed] => "the channel has no receiver left, or was closed",
        /// The channel is full, and a task that unwinds may not wait.
        Unwinding [Unwinding TimedOut Full] => "the channel is full, and a task that unwinds may not wait for room",
    }
    /// Why [`Sender::try_send`] failed; the value comes back.
    TrySendError<T> {
        /// There is no room, or (without a buffer) no receiver that waits.
        Full [Full TimedOut Unwinding] => "the channel is full",
        /// Every receiver has gone, or the channel was closed.
        Disconnected [Closed] => "the channel has no receiver left, or was closed",
    }
    /// Why [`Sender::send_timeout`] failed; the value comes back.
    SendTimeoutError<T> {
        /// There was no room in time.
        TimedOut [TimedOut Full] => "the channel stayed full until the time-out",
        /// Every receiver has gone, or the channel was closed.
        Disconnected [Closed] => "the channel has no receiver left, or was closed",
        /// The channel is full, and a task that unwinds may not wait.
        Unwinding [Unwinding] => "the channel is full, and a task that unwinds may not wait for room",
    }
    /// Why [`Receiver::recv`] failed.
    RecvError {
        /// The channel is empty, and every sender has gone or it was closed.
        Disconnected [Closed] => "the channel is empty and has no sender left, or was closed",
        /// The channel is empty, and a task that unwinds may not wait.
        Unwinding [Unwinding TimedOut Empty] => "the channel is empty, and a task that unwinds may not wait for a value",
    }
    /// Why [`Receiver::try_recv`] failed.
    TryRecvError {
        /// There is no value now.
        Empty [Empty TimedOut Unwinding] => "the channel is empty",
        /// The channel is empty, and every sender has gone or it was closed.
        Disconnected [Closed] => "the channel is empty and has no sender left, or was closed",
    }
    /// Why [`Receiver::recv_timeout`] failed.
    RecvTimeoutError {
        /// No value came in time.
        TimedOut [TimedOut Empty] => "the channel stayed empty until the time-out",
        /// The channel is empty, and every sender has gone or it was closed.
        Disconnected [Closed] => "the channel is empty and has no sender left, or was closed",
        /// The channel is empty, and a task that unwinds may not wait.
        Unwinding [Unwinding] => "the channel is empty, and a task that unwinds may not wait for a value",
    }
}
