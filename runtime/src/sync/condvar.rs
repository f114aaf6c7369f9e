//! A condition variable for our mutex.
//!
//! A waiter gets in line before it unlocks the mutex, so that a notification by whoever locks the
//! mutex next finds it.
//!
//! A notification taken by a waiter that then does not return is passed on to the next one in
//! line: between the notification and the end of `wait` the mutex is locked again, and a kill or a
//! `timeout` may strike there.
//!
//! A waiter that is killed unwinds with the mutex unlocked. The guard was given to `wait`, so
//! nobody could use a mutex that is locked again; waiting for it would only delay the kill.
//!
//! Rejected: moving notified waiters into the mutex's line. It saves a wake-up where the notifier
//! still has the mutex, but a wait would then end in another queue than it began in.

use std::fmt;
use std::time::{Duration, Instant};

use super::mutex::MutexGuard;
use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{OnFailure, Parked, Unwinding, Wait, WaitQueue, Waited, leave, wake_all};
use crate::clock;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// Waits for a change of what a [`Mutex`](super::Mutex) guards (std's `Condvar`).
///
/// As with std's, a wait may end without a cause: look at the condition again, or use
/// [`wait_while`](Self::wait_while). Waiters are notified in the order in which they came.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{spawn, sync::{Condvar, Mutex}};
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let pair2 = pair.clone();
/// spawn(move || {
///     let (lock, cvar) = &*pair2;
///     *lock.lock() = true;
///     cvar.notify_one();
/// });
/// let (lock, cvar) = &*pair;
/// let mut started = lock.lock();
/// while !*started {
///     started = cvar.wait(started);
/// }
/// ```
pub struct Condvar {
    queue: ShortLock<WaitQueue<()>>,
}

/// Says whether a wait with a limit ended because its time had passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns whether the time had passed.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Returns a condition variable that nobody waits for.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            queue: ShortLock::new(WaitQueue::new()),
        }
    }

    /// Returns a condition variable that nobody waits for.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            queue: ShortLock::new(WaitQueue::new()),
        }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Condvar`], and then as [`Mutex::lock`](super::Mutex::lock); honours
    /// kill and `timeout`. In a task that unwinds it blocks the worker (`docs/caveats.md`).
    ///
    /// # Cancel safety
    /// A kill unlocks the mutex. A notification is not lost: if it came before the kill, and the
    /// task cannot return because it is killed while it locks the mutex, the next waiter gets it.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// Waits as long as `condition` holds.
    ///
    /// # Blocking
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use sward_runtime::{spawn, sync::{Condvar, Mutex}};
    /// let pair = Arc::new((Mutex::new(true), Condvar::new()));
    /// let pair2 = pair.clone();
    /// spawn(move || {
    ///     *pair2.0.lock() = false;
    ///     pair2.1.notify_all();
    /// });
    /// let pending = pair.1.wait_while(pair.0.lock(), |pending| *pending);
    /// assert!(!*pending);
    /// ```
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut *guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// As [`wait`](Self::wait), for at most `limit`; locking the mutex again may take longer.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        self.wait_until(guard, clock::deadline(limit))
    }

    /// As [`wait_while`](Self::wait_while), for at most `limit`. It has timed out if the condition
    /// still holds at the end.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let deadline = clock::deadline(limit);
        let mut end = WaitTimeoutResult(false);
        while condition(&mut *guard) {
            if end.timed_out() {
                return (guard, end);
            }
            (guard, end) = self.wait_until(guard, deadline);
        }
        (guard, WaitTimeoutResult(false))
    }

    #[inline]
    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        park::checkpoint();
        let mutex = guard.mutex();
        let mut guard = Some(guard);
        let waited = match self.line_up(&mut guard, deadline) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.queue, |queue| queue, || false)
            }
            Err(waited) => waited,
        };
        let woken = matches!(waited, Waited::Woken(_));
        let end = WaitTimeoutResult(!woken);
        if let Some(guard) = guard {
            // Refused.
            return (guard, end);
        }
        let taken = OnFailure::new(|| {
            if woken {
                self.notify_one();
            }
        });
        let guard = mutex.lock();
        taken.disarm();
        (guard, end)
    }

    #[inline(never)]
    fn line_up<T: ?Sized>(
        &self,
        guard: &mut Option<MutexGuard<'_, T>>,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<()>> {
        let wait = Wait {
            lock: &self.queue,
            queue: |queue| queue,
            reason: || WaitReason::on(WaitKind::Condvar, self),
            deadline,
            // `notify_all` counts on the order.
            unwinding: Unwinding::InLine,
        };
        let queue: ShortGuard<'_, _> = self.queue.lock();
        wait.line_up_then(queue, None, || *guard = None)
    }

    /// Wakes the first waiter, if there is one.
    ///
    /// # Blocking
    /// Never parks.
    #[inline]
    pub fn notify_one(&self) {
        let mut queue = self.queue.lock();
        let Some((waiter, _)) = queue.pop() else {
            return;
        };
        let late = waiter.wake();
        drop(queue);
        late.wake();
    }

    /// Wakes all who wait now.
    ///
    /// # Blocking
    /// Never parks.
    pub fn notify_all(&self) {
        wake_all(&self.queue, |queue| queue, |_| {});
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field("waiting", &self.queue.lock().len())
            .finish()
    }
}
