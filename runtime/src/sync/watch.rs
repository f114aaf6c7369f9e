//! One value that changes, and those who watch it: each sees the newest, not every one.
//!
//! The value lies in an `Arc`, the version counts its changes. A reader takes a reference under the
//! lock and reads without it, so it may keep what it sees across parks and holds nobody up; a
//! change puts another `Arc` in its place, and the old value is dropped by its last reader.
//!
//! Invariants, under the lock
//! - a receiver waits only while the version is the one that it has seen and a sender is left;
//! - a sender waits only while a receiver is left.
//!
//! Rejected: a lock that readers hold (tokio's `Ref`): a reader that parks would stop the senders,
//! and `send` could not be used in a destructor. So [`Sender::modify`] changes a copy, and does it
//! again if another sender came between.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::refusal::{Nothing, errors};
use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{Unwinding, Wait, WaitQueue, Waited, Woken, retry, wake_line};
use crate::clock;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

struct State<T> {
    value: Arc<T>,
    version: u64,
    senders: usize,
    receivers: usize,
    /// Receivers that wait for a change.
    waiting: WaitQueue<()>,
    /// Senders that wait for the end of the receivers.
    closing: WaitQueue<()>,
}

type Watch<T> = ShortLock<State<T>>;

/// The end that changes a watched value; clones share it.
pub struct Sender<T> {
    watch: Arc<Watch<T>>,
}

/// An end that watches a value, and knows which change it has seen. A clone has seen the same.
pub struct Receiver<T> {
    watch: Arc<Watch<T>>,
    seen: u64,
}

/// Returns the ends of a watched value (tokio's `watch::channel`). The first value counts as seen.
///
/// # Examples
/// ```
/// use sward_runtime::{spawn, sync::watch};
/// let (sender, mut receiver) = watch::channel("starting");
/// let task = spawn(move || {
///     while *receiver.borrow_and_update() != "ready" {
///         receiver.changed().unwrap();
///     }
/// });
/// sender.send("ready").unwrap();
/// task.join().unwrap();
/// ```
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let watch = Arc::new(ShortLock::new(State {
        value: Arc::new(value),
        version: 0,
        senders: 1,
        receivers: 1,
        waiting: WaitQueue::new(),
        closing: WaitQueue::new(),
    }));
    let sender = Sender {
        watch: watch.clone(),
    };
    (sender, Receiver { watch, seen: 0 })
}

impl<T> Sender<T> {
    /// Puts another value in place and tells all receivers.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// Gives the value back when there is no receiver; the old value stays.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let state = self.watch.lock();
        if state.receivers == 0 {
            drop(state);
            return Err(SendError::Closed(value));
        }
        drop(self.publish(state, Arc::new(value)));
        Ok(())
    }

    /// Puts another value in place whether somebody watches or not, and returns the old one.
    ///
    /// # Blocking
    /// Never parks.
    pub fn send_replace(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        self.publish(self.watch.lock(), value)
    }

    fn publish(&self, mut state: ShortGuard<'_, State<T>>, value: Arc<T>) -> Arc<T> {
        let old = std::mem::replace(&mut state.value, value);
        state.version += 1;
        wake_line(&self.watch, state, |state| &mut state.waiting);
        old
    }

    /// Changes the value in place and tells all receivers (tokio's `send_modify`).
    ///
    /// `change` gets a copy; if another sender was quicker, it is called again with a copy of the
    /// newer value. If it panics or is killed, nothing has changed. It may wait.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = sward_runtime::sync::watch::channel(vec![1]);
    /// sender.modify(|list| list.push(2));
    /// assert_eq!(*receiver.borrow(), [1, 2]);
    /// ```
    pub fn modify(&self, mut change: impl FnMut(&mut T))
    where
        T: Clone,
    {
        self.modify_if(|value| {
            change(value);
            true
        });
    }

    /// As [`modify`](Self::modify), if `change` says so: with `false` nothing changes and nobody is
    /// told. Returns what it said (tokio's `send_if_modified`).
    pub fn modify_if(&self, mut change: impl FnMut(&mut T) -> bool) -> bool
    where
        T: Clone,
    {
        loop {
            let (old, version) = self.watch.lock().look();
            let mut value = T::clone(&old);
            if !change(&mut value) {
                return false;
            }
            let value = Arc::new(value);
            let state = self.watch.lock();
            if state.version == version {
                drop(self.publish(state, value));
                return true;
            }
        }
    }

    /// Returns the newest value.
    pub fn borrow(&self) -> Arc<T> {
        self.watch.lock().look().0
    }

    /// Returns another receiver, which has seen the newest value. There may be none before.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.watch.lock();
        state.receivers += 1;
        Receiver {
            watch: self.watch.clone(),
            seen: state.version,
        }
    }

    /// Returns the number of receivers.
    pub fn receiver_count(&self) -> usize {
        self.watch.lock().receivers
    }

    /// Returns whether there is no receiver.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until there is no receiver.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Unwatched`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    pub fn closed(&self) {
        self.closed_until(None);
    }

    /// As [`closed`](Self::closed), for at most `limit`. Returns whether there is no receiver.
    pub fn closed_timeout(&self, limit: Duration) -> bool {
        self.closed_until(clock::deadline(limit))
    }

    fn closed_until(&self, deadline: Option<Instant>) -> bool {
        park::checkpoint();
        let state = self.watch.lock();
        if state.receivers == 0 {
            return true;
        }
        let wait = Wait {
            lock: &self.watch,
            queue: |state| &mut state.closing,
            reason: || WaitReason::on(WaitKind::Unwatched, &*self.watch),
            deadline,
            unwinding: Unwinding::InLine,
        };
        matches!(wait.wait(state), Waited::Woken(_))
    }
}

impl<T> State<T> {
    fn look(&self) -> (Arc<T>, u64) {
        (self.value.clone(), self.version)
    }
}

impl<T> Receiver<T> {
    /// Returns the newest value, without having seen it: [`changed`](Self::changed) still tells of
    /// it.
    pub fn borrow(&self) -> Arc<T> {
        self.watch.lock().look().0
    }

    /// Returns the newest value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Arc<T> {
        let (value, version) = self.watch.lock().look();
        self.seen = version;
        value
    }

    /// Returns whether there is a value that this receiver has not seen.
    pub fn has_changed(&self) -> bool {
        self.watch.lock().version != self.seen
    }

    /// Returns whether every sender has gone.
    pub fn is_closed(&self) -> bool {
        self.watch.lock().senders == 0
    }

    /// Waits until there is a value that this receiver has not seen; it then counts as seen.
    ///
    /// Changes that come one after the other before that count as one.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Change`]; honours kill and `timeout`.
    ///
    /// # Errors
    /// When the newest value has been seen and every sender has gone, and in a task that unwinds
    /// when it would have to wait.
    ///
    /// # Cancel safety
    /// Killed or timed out while it waits, it has not seen a change.
    pub fn changed(&mut self) -> Result<(), ChangedError> {
        Ok(self.changed_until(None)?)
    }

    /// As [`changed`](Self::changed), for at most `limit`.
    ///
    /// # Errors
    /// As `changed`, and when the time has passed.
    pub fn changed_timeout(&mut self, limit: Duration) -> Result<(), ChangedTimeoutError> {
        Ok(self.changed_until(clock::deadline(limit))?)
    }

    /// Waits until the newest value is as wanted, and returns it; it then counts as seen.
    ///
    /// # Errors
    /// As [`changed`](Self::changed).
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{spawn, sync::watch};
    /// let (sender, mut receiver) = watch::channel(0);
    /// spawn(move || for i in 1..=5 { sender.send(i).unwrap() });
    /// assert_eq!(*receiver.wait_for(|i| *i == 5).unwrap(), 5);
    /// ```
    pub fn wait_for(
        &mut self,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Result<Arc<T>, ChangedError> {
        loop {
            let value = self.borrow_and_update();
            if is_wanted(&value) {
                return Ok(value);
            }
            drop(value);
            self.changed()?;
        }
    }

    fn changed_until(&mut self, deadline: Option<Instant>) -> Result<(), Nothing> {
        let changed = |state: &mut State<T>, _: &mut Woken| {
            if state.version != self.seen {
                self.seen = state.version;
                return Some(Ok(()));
            }
            (state.senders == 0).then_some(Err(Nothing::Closed))
        };
        retry(
            &self.watch,
            |s| &mut s.waiting,
            WaitReason::on(WaitKind::Change, &*self.watch),
            || deadline,
            changed,
        )?
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.watch.lock().senders += 1;
        Self {
            watch: self.watch.clone(),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.watch.lock().receivers += 1;
        Self {
            watch: self.watch.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.watch.lock();
        state.senders -= 1;
        if state.senders == 0 {
            wake_line(&self.watch, state, |state| &mut state.waiting);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.watch.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            wake_line(&self.watch, state, |state| &mut state.closing);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("receivers", &self.receiver_count())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("has_changed", &self.has_changed())
            .finish_non_exhaustive()
    }
}

errors! {
    /// Why [`Sender::send`] failed; the value comes back.
    SendError<T> {
        /// There is no receiver.
        Closed [Closed Full TimedOut Unwinding] => "the watched value has no receiver left",
    }
    /// Why [`Receiver::changed`] failed.
    ChangedError {
        /// The newest value has been seen, and every sender has gone.
        Closed [Closed] => "the watched value will not change: it has no sender left",
        /// It has not changed, and a task that unwinds may not wait.
        Unwinding [Unwinding TimedOut Empty] =>
            "the watched value has not changed, and a task that unwinds may not wait for that",
    }
    /// Why [`Receiver::changed_timeout`] failed.
    ChangedTimeoutError {
        /// It did not change in time.
        TimedOut [TimedOut Empty] => "the watched value did not change before the time-out",
        /// The newest value has been seen, and every sender has gone.
        Closed [Closed] => "the watched value will not change: it has no sender left",
        /// It has not changed, and a task that unwinds may not wait.
        Unwinding [Unwinding] =>
            "the watched value has not changed, and a task that unwinds may not wait for that",
    }
}
