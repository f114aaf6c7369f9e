//! Queues that are shared objects: gevent's `JoinableQueue`, `LifoQueue` and `PriorityQueue`.
//!
//! One type, [`JoinableQueue`], with the order of its values as a parameter ([`Order`]). Putting
//! and getting is that of `exchange.rs`; beside it stand two lines of those who take nothing:
//! *joiners* wait until all that came in is done, *peekers* until there is something to look at.
//!
//! Invariants, under the lock
//! - `unfinished` = values that came in - values dropped by `shutdown(true)` - calls of `task_done`;
//! - joiners wait only while `unfinished` > 0;
//! - peekers wait only while the buffer is empty and the queue is open, and of those that have been
//!   woken for a value one goes on waking: each wakes the next before it looks.
//!
//! No queue has the capacity 0: there would be nothing to order or to look at. That is a
//! [`rendezvous`](super::rendezvous).

use std::fmt;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Owner, State};
pub use super::order::{Fifo, Lifo, Lowest, Order};
pub use super::queue_error::{
    GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError,
};
use super::refusal::Nothing;
use super::select::Arm;
use super::wait_queue::{Unwinding, Wait, WaitQueue, Waited, Woken, retry, wake_line};
use crate::clock;
use crate::hub::waiter::Late;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// A queue in which the first value that was put is the first to be got (gevent's `Queue` and
/// `JoinableQueue`). Its methods are those of [`JoinableQueue`].
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{spawn, sync::Queue};
/// let jobs = Arc::new(Queue::bounded(10));
/// for _ in 0..3 {
///     let jobs = jobs.clone();
///     spawn(move || {
///         for job in jobs.iter() {
///             assert!(job < 100); // work
///             jobs.task_done();
///         }
///     });
/// }
/// for job in 0..100 {
///     jobs.put(job).unwrap();
/// }
/// jobs.join(); // all hundred are done
/// jobs.close(); // the three tasks end
/// ```
pub type Queue<T> = JoinableQueue<Fifo<T>>;

/// A queue in which the last value that was put is the first to be got (gevent's `LifoQueue`). Its
/// methods are those of [`JoinableQueue`].
///
/// # Examples
/// ```
/// let stack = sward_runtime::sync::LifoQueue::from_iter([1, 2, 3]);
/// assert_eq!(stack.get(), Ok(3));
/// ```
pub type LifoQueue<T> = JoinableQueue<Lifo<T>>;

/// A queue in which the lowest value is the first to be got, and among equal ones the first that
/// came in (gevent's `PriorityQueue`). Its methods are those of [`JoinableQueue`].
///
/// For the highest first, put [`Reverse`](std::cmp::Reverse). Values are compared under the queue's
/// lock: `cmp` must be short, and must neither wait nor use the queue. If it panics, so does the
/// `put` (its value is dropped) or `get`, and the queue has lost nothing.
///
/// # Examples
/// ```
/// let jobs = sward_runtime::sync::PriorityQueue::unbounded();
/// jobs.put((2, "later")).unwrap();
/// jobs.put((1, "now")).unwrap();
/// assert_eq!(jobs.get(), Ok((1, "now")));
/// ```
pub type PriorityQueue<T> = JoinableQueue<Lowest<T>>;

/// A queue that tasks and threads share by reference or [`Arc`](std::sync::Arc), and that knows
/// what has been done of what was put. Named [`Queue`], [`LifoQueue`] or [`PriorityQueue`].
///
/// Who waits to put and who waits to get is served in the order of coming, whatever the order of
/// values is. A getter that waits gets the next value, so nobody overtakes it.
///
/// Every value that comes in counts as unfinished until [`task_done`](Self::task_done) is called
/// for it; [`join`](Self::join) waits until none is left.
pub struct JoinableQueue<O: Order> {
    exchange: Exchange<O, Ledger>,
}

type Shared<O> = State<O, Ledger>;

struct Ledger {
    unfinished: usize,
    joiners: WaitQueue<()>,
    peekers: WaitQueue<()>,
}

impl Owner for Ledger {
    const SEND: WaitKind = WaitKind::Put;
    const RECV: WaitKind = WaitKind::Get;

    #[inline]
    fn came_in(&mut self) {
        self.unfinished += 1;
    }

    #[inline]
    fn filled(&mut self) -> Late {
        if self.peekers.is_empty() {
            return Late::NOBODY;
        }
        self.next_peeker()
    }
}

impl Ledger {
    fn next_peeker(&mut self) -> Late {
        let peeker = self.peekers.pop();
        peeker.map_or(Late::NOBODY, |(peeker, _)| peeker.wake())
    }
}

impl<O: Order> JoinableQueue<O> {
    /// Returns an empty queue that holds up to `capacity` values.
    ///
    /// # Panics
    /// With a capacity of 0. (Python takes 0 for "without a limit": that is
    /// [`unbounded`](Self::unbounded).)
    #[track_caller]
    pub fn bounded(capacity: usize) -> Self {
        assert!(
            capacity > 0,
            "sward: a queue of capacity 0 could hold nothing: use unbounded() if no limit was \
             meant, and sync::rendezvous() to hand values over"
        );
        // More than that is allocated as it fills.
        Self::with(O::with_capacity(capacity.min(1024)), capacity)
    }

    /// Returns an empty queue that holds as many values as memory does; `put` never parks.
    pub fn unbounded() -> Self {
        Self::with(O::default(), usize::MAX)
    }

    fn with(buffer: O, capacity: usize) -> Self {
        let ledger = Ledger {
            unfinished: buffer.len(),
            joiners: WaitQueue::new(),
            peekers: WaitQueue::new(),
        };
        Self {
            exchange: Exchange::new(buffer, capacity, ledger),
        }
    }

    /// Puts a value, waiting for room.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Put`] while the queue is full; honours kill and `timeout`.
    ///
    /// # Errors
    /// Gives the value back when the queue is closed, and in a task that unwinds when it would have
    /// to wait.
    ///
    /// # Cancel safety
    /// Killed or timed out while it waits, the value is dropped and was never in the queue; once it
    /// is in, the kill comes at the next park.
    // Inlined: see `Wait`.
    #[inline(always)]
    pub fn put(&self, value: O::Value) -> Result<(), PutError<O::Value>> {
        Ok(self.exchange.put(value, None)?)
    }

    /// Returns an arm of a [`select!`](crate::select) that puts `value`; it is dropped if another
    /// arm is chosen.
    pub fn putting(
        &self,
        value: O::Value,
    ) -> impl Arm<Output = Result<(), PutError<O::Value>>> + '_ {
        self.exchange.putting(value)
    }

    /// As [`put`](Self::put), for at most `limit`.
    ///
    /// # Errors
    /// As `put`, and with the value back when the time has passed.
    pub fn put_timeout(
        &self,
        value: O::Value,
        limit: Duration,
    ) -> Result<(), PutTimeoutError<O::Value>> {
        Ok(self.exchange.put(value, clock::deadline(limit))?)
    }

    /// Puts a value if that needs no waiting (gevent's `put_nowait`).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// Gives the value back: the queue is full, or closed.
    pub fn try_put(&self, value: O::Value) -> Result<(), TryPutError<O::Value>> {
        Ok(self.exchange.try_put(value)?)
    }

    /// Gets the value whose turn it is, waiting for one.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Get`] while there is none; honours kill and `timeout`.
    ///
    /// # Errors
    /// When the queue is empty and closed, and in a task that unwinds when it would have to wait.
    ///
    /// # Cancel safety
    /// A value that was handed over is got; the kill comes at the next park.
    // Inlined: see `Wait`.
    #[inline(always)]
    pub fn get(&self) -> Result<O::Value, GetError> {
        Ok(self.exchange.take(None)?)
    }

    /// Returns an arm of a [`select!`](crate::select) that gets the value whose turn it is.
    pub fn getting(&self) -> impl Arm<Output = Result<O::Value, GetError>> + '_ {
        self.exchange.taking()
    }

    /// As [`get`](Self::get), for at most `limit`.
    ///
    /// # Errors
    /// As `get`, and when the time has passed.
    pub fn get_timeout(&self, limit: Duration) -> Result<O::Value, GetTimeoutError> {
        Ok(self.exchange.take(clock::deadline(limit))?)
    }

    /// Gets the value whose turn it is, if there is one (gevent's `get_nowait`).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// When the queue is empty: for now, or for ever because it is closed.
    pub fn try_get(&self) -> Result<O::Value, TryGetError> {
        Ok(self.exchange.try_take()?)
    }

    /// Looks at the value whose turn it is, waiting for one; it stays in the queue, and somebody
    /// else may get it at once.
    ///
    /// `look` runs under the queue's lock: it must be short, and must neither wait nor use the
    /// queue (that panics). `queue.peek(Clone::clone)` gives a copy.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Get`] while there is none; honours kill and `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// let queue = sward_runtime::sync::Queue::from_iter(["first", "second"]);
    /// assert_eq!(queue.peek(|word| word.len()), Ok(5));
    /// assert_eq!(queue.len(), 2);
    /// ```
    pub fn peek<R>(&self, look: impl FnOnce(&O::Value) -> R) -> Result<R, GetError> {
        Ok(self.peek_until(None, look)?)
    }

    /// As [`peek`](Self::peek), for at most `limit`.
    ///
    /// # Errors
    /// As [`get_timeout`](Self::get_timeout).
    pub fn peek_timeout<R>(
        &self,
        limit: Duration,
        look: impl FnOnce(&O::Value) -> R,
    ) -> Result<R, GetTimeoutError> {
        Ok(self.peek_until(clock::deadline(limit), look)?)
    }

    /// Looks at the value whose turn it is, if there is one (gevent's `peek_nowait`); see
    /// [`peek`](Self::peek).
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn try_peek<R>(&self, look: impl FnOnce(&O::Value) -> R) -> Result<R, TryGetError> {
        let mut state = self.exchange.state.lock();
        let ended = state.ended;
        match state.buffer.peek() {
            Some(value) => Ok(look(value)),
            None if ended => Err(TryGetError::Closed),
            None => Err(TryGetError::Empty),
        }
    }

    fn peek_until<R>(
        &self,
        deadline: Option<Instant>,
        look: impl FnOnce(&O::Value) -> R,
    ) -> Result<R, Nothing> {
        // Woken at the end, also if `look` panics.
        let mut next = Waking(Late::NOBODY);
        let mut look = Some(look);
        let attempt = |state: &mut Shared<O>, _: &mut Woken| {
            if state.buffer.is_empty() {
                return state.ended.then_some(Err(Nothing::Closed));
            }
            next.0 = state.owner.next_peeker();
            let looked = state.buffer.peek().zip(look.take());
            Some(
                looked
                    .map(|(value, look)| look(value))
                    .ok_or(Nothing::Empty),
            )
        };
        let lock = &self.exchange.state;
        retry(
            lock,
            |s| &mut s.owner.peekers,
            WaitReason::on(WaitKind::Get, lock),
            || deadline,
            attempt,
        )?
    }

    /// Says that one value that was got has been dealt with. The last one wakes those who
    /// [`join`](Self::join).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Panics
    /// When it is called more often than values came in.
    #[track_caller]
    pub fn task_done(&self) {
        let mut state = self.exchange.state.lock();
        let Some(left) = state.owner.unfinished.checked_sub(1) else {
            drop(state);
            panic!("sward: task_done was called more often than values came into the queue");
        };
        state.owner.unfinished = left;
        if left == 0 && !state.owner.joiners.is_empty() {
            wake_line(&self.exchange.state, state, |s| &mut s.owner.joiners);
        }
    }

    /// Returns the number of values that came in and have not been done.
    pub fn unfinished_tasks(&self) -> usize {
        self.exchange.state.lock().owner.unfinished
    }

    /// Waits until every value that came in is done. A value of a `put` that still waits for room
    /// has not come in, but then others are there.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Unfinished`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    pub fn join(&self) {
        self.join_until(None);
    }

    /// As [`join`](Self::join), for at most `limit`. Returns whether every value is done.
    pub fn join_timeout(&self, limit: Duration) -> bool {
        self.join_until(clock::deadline(limit))
    }

    fn join_until(&self, deadline: Option<Instant>) -> bool {
        park::checkpoint();
        let state = self.exchange.state.lock();
        if state.owner.unfinished == 0 {
            return true;
        }
        let wait = Wait {
            lock: &self.exchange.state,
            queue: |state: &mut Shared<O>| &mut state.owner.joiners,
            reason: || WaitReason::on(WaitKind::Unfinished, &self.exchange.state),
            deadline,
            unwinding: Unwinding::InLine,
        };
        matches!(wait.wait(state), Waited::Woken(_))
    }

    /// Closes the queue: later puts give the value back, gets drain what is left and then fail.
    ///
    /// Who waits to put gets the value back, and who waits to get an error. Closing again does
    /// nothing. Who joins goes on waiting for what is left.
    ///
    /// # Blocking
    /// Never parks.
    pub fn close(&self) {
        self.shutdown(false);
    }

    /// As [`close`](Self::close); with `immediate` it drops the values that are left, and counts
    /// them as done (gevent's `shutdown`).
    ///
    /// # Blocking
    /// Never parks.
    pub fn shutdown(&self, immediate: bool) {
        let mut state = self.exchange.state.lock();
        (state.shut, state.ended) = (true, true);
        // Dropped at the end: a value's destructor may use this very queue, or panic.
        let _rest = immediate.then(|| {
            let rest = std::mem::take(&mut state.buffer);
            let owner = &mut state.owner;
            // What was called done too early has not been counted.
            owner.unfinished = owner.unfinished.saturating_sub(rest.len());
            rest
        });
        let done = state.owner.unfinished == 0;
        self.exchange.close(state);
        let lock = &self.exchange.state;
        wake_line(lock, lock.lock(), |s| &mut s.owner.peekers);
        if done {
            wake_line(lock, lock.lock(), |s| &mut s.owner.joiners);
        }
    }

    /// Returns whether the queue is closed; values may still be there.
    pub fn is_closed(&self) -> bool {
        self.exchange.state.lock().shut
    }

    /// Returns an iterator that gets values until the queue is closed and empty.
    pub fn iter(&self) -> Iter<'_, O> {
        Iter { queue: self }
    }

    /// Returns the number of values in the queue (gevent's `qsize`).
    pub fn len(&self) -> usize {
        self.exchange.len()
    }

    /// Returns whether no value is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a put would have to wait for room.
    pub fn is_full(&self) -> bool {
        let state = self.exchange.state.lock();
        state.buffer.len() >= state.capacity
    }

    /// Returns how many values the queue holds at most; `None` if it is unbounded.
    pub fn capacity(&self) -> Option<usize> {
        let capacity = self.exchange.state.lock().capacity;
        (capacity < usize::MAX).then_some(capacity)
    }

    /// Returns the number of those who wait to put (gevent's `putters`).
    pub fn waiting_putters(&self) -> usize {
        self.exchange.waiting().0
    }

    /// Returns the number of those who wait to get (gevent's `getters`).
    pub fn waiting_getters(&self) -> usize {
        self.exchange.waiting().1
    }
}

/// Wakes when dropped.
struct Waking(Late);

impl Drop for Waking {
    fn drop(&mut self) {
        std::mem::replace(&mut self.0, Late::NOBODY).wake();
    }
}

/// An unbounded queue of these values, put in this order.
impl<O: Order> FromIterator<O::Value> for JoinableQueue<O> {
    fn from_iter<I: IntoIterator<Item = O::Value>>(values: I) -> Self {
        let mut buffer = O::default();
        for value in values {
            buffer.prepare();
            buffer.push(value);
        }
        Self::with(buffer, usize::MAX)
    }
}

impl<O: Order> fmt::Debug for JoinableQueue<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.exchange.state.lock();
        let (len, unfinished, closed) = (state.buffer.len(), state.owner.unfinished, state.shut);
        let (putters, getters) = (state.senders.len(), state.receivers.len());
        drop(state);
        f.debug_struct(O::QUEUE)
            .field("len", &len)
            .field("unfinished", &unfinished)
            .field("closed", &closed)
            .field("putters", &putters)
            .field("getters", &getters)
            .finish_non_exhaustive()
    }
}

/// Gets values until the queue is closed and empty.
pub struct Iter<'a, O: Order> {
    queue: &'a JoinableQueue<O>,
}

impl<O: Order> Iterator for Iter<'_, O> {
    type Item = O::Value;

    fn next(&mut self) -> Option<O::Value> {
        self.queue.get().ok()
    }
}

impl<'a, O: Order> IntoIterator for &'a JoinableQueue<O> {
    type Item = O::Value;
    type IntoIter = Iter<'a, O>;

    fn into_iter(self) -> Iter<'a, O> {
        self.iter()
    }
}

impl<O: Order> fmt::Debug for Iter<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("queue", self.queue).finish()
    }
}
