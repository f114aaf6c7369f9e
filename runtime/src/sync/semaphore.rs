//! A counter of permits that can be waited for.
//!
//! *Available* permits are in the semaphore; *total* ones are available or in somebody's hands.
//! `available <= total <= limit`, so a permit that comes back never exceeds anything: a surplus is
//! noticed where permits are added.
//!
//! Under the lock, between operations: somebody waits only if the first in line wants more than is
//! available, or somebody is about to look again: the one that serves the line, some at a time, or
//! one that has left it by a kill or a time-out. So nobody is overtaken, however much he wants.
//!
//! Whoever is granted permits is taken out of the line. [`Semaphore::close`] gives the others back
//! what they brought, which tells them.
//!
//! Rejected: serving small wishes past a large one at the head (it could wait for ever).

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{OnFailure, Parked, Unwinding, Wait, WaitQueue, Waited, leave, wake_while};
use crate::clock;
use crate::hub::waiter::Queued;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// Permits that tasks and threads take, wait for, and give back (gevent's `Semaphore`; made with
/// [`bounded`](Self::bounded), its `BoundedSemaphore`).
///
/// First come, first served: whoever waits for many permits is not overtaken by those who want
/// few.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{join_all, sleep, spawn, sync::Semaphore};
/// let at_once = Arc::new(Semaphore::new(3));
/// let tasks = (0..10).map(|_| {
///     let at_once = at_once.clone();
///     spawn(move || {
///         let _permit = at_once.acquire().unwrap();
///         sleep(std::time::Duration::from_millis(1)); // never more than three of them
///     })
/// });
/// join_all(tasks);
/// assert_eq!(at_once.available(), 3);
/// ```
pub struct Semaphore {
    state: ShortLock<State>,
    /// Set under the lock, read by woken waiters without it.
    closed: AtomicBool,
}

struct State {
    available: usize,
    total: usize,
    limit: usize,
    /// How many permits each one wants.
    queue: WaitQueue<usize>,
}

impl State {
    const fn new(permits: usize, limit: usize) -> Self {
        Self {
            available: permits,
            total: permits,
            limit,
            queue: WaitQueue::new(),
        }
    }

    #[inline]
    fn take(&mut self, wanted: usize) -> bool {
        let enough = self.queue.is_empty() && wanted <= self.available;
        if enough {
            self.available -= wanted;
        }
        enough
    }

    /// Serves the first in line if there is enough. Wake it before unlocking.
    #[inline]
    fn next(&mut self) -> Option<Queued> {
        let available = self.available;
        let (waiter, wanted) = self.queue.pop_if(|&wanted| wanted <= available)?;
        self.available -= wanted;
        Some(waiter)
    }
}

/// Permits of a [`Semaphore`]; they go back when this is dropped, by whomever.
#[must_use = "the permits go back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

/// Permits that may go anywhere, such as into a task; see [`Permit::into_owned`].
#[must_use = "the permits go back at once"]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    count: usize,
}

/// Why a [`Semaphore`] gave no permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// The semaphore has been closed.
    Closed,
    /// There were not enough permits in time.
    TimedOut,
    /// There are not enough permits now, or others wait for them.
    NoPermits,
    /// There are not enough permits, and a task that unwinds may not wait.
    Unwinding,
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the semaphore is closed",
            Self::TimedOut => "the semaphore had too few permits until the time-out",
            Self::NoPermits => "the semaphore has too few permits now",
            Self::Unwinding => {
                "the semaphore has too few permits, and a task that unwinds may not wait for them"
            }
        })
    }
}

impl std::error::Error for AcquireError {}

impl Semaphore {
    /// Returns a semaphore with so many permits; more may be added.
    #[cfg(not(loom))]
    pub const fn new(permits: usize) -> Self {
        Self {
            state: ShortLock::new(State::new(permits, usize::MAX)),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns a semaphore with so many permits; more may be added.
    #[cfg(loom)]
    pub fn new(permits: usize) -> Self {
        Self {
            state: ShortLock::new(State::new(permits, usize::MAX)),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns a semaphore that never has more than these permits, counting those in somebody's
    /// hands: [`add_permits`](Self::add_permits) replaces only what [`Permit::forget`] took away.
    #[cfg(not(loom))]
    pub const fn bounded(permits: usize) -> Self {
        Self {
            state: ShortLock::new(State::new(permits, permits)),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns a semaphore that never has more than these permits.
    #[cfg(loom)]
    pub fn bounded(permits: usize) -> Self {
        Self {
            state: ShortLock::new(State::new(permits, permits)),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes a permit, waiting for one.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Semaphore`]; honours kill and `timeout`.
    ///
    /// # Errors
    /// [`AcquireError::Closed`]; and [`AcquireError::Unwinding`] in a task that unwinds when it
    /// would have to wait.
    ///
    /// # Cancel safety
    /// Killed or timed out while it waits, it takes nothing, and those behind it are served if
    /// there is now enough for them. A permit that was handed over is kept: the kill comes at the
    /// next park.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
        self.take(1, None)
    }

    /// As [`acquire`](Self::acquire), for `count` permits at once.
    ///
    /// # Errors
    /// As `acquire`.
    ///
    /// # Panics
    /// If a [`bounded`](Self::bounded) semaphore can never have so many.
    pub fn acquire_many(&self, count: usize) -> Result<Permit<'_>, AcquireError> {
        self.take(count, None)
    }

    /// As [`acquire`](Self::acquire), for at most `limit`.
    ///
    /// # Errors
    /// As `acquire`, and [`AcquireError::TimedOut`].
    pub fn acquire_timeout(&self, limit: Duration) -> Result<Permit<'_>, AcquireError> {
        self.take(1, clock::deadline(limit))
    }

    /// As [`acquire_many`](Self::acquire_many), for at most `limit`.
    ///
    /// # Errors
    /// As `acquire`, and [`AcquireError::TimedOut`].
    ///
    /// # Panics
    /// As `acquire_many`.
    pub fn acquire_many_timeout(
        &self,
        count: usize,
        limit: Duration,
    ) -> Result<Permit<'_>, AcquireError> {
        self.take(count, clock::deadline(limit))
    }

    /// Takes a permit if there is one and nobody waits.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// [`AcquireError::NoPermits`] or [`AcquireError::Closed`].
    pub fn try_acquire(&self) -> Result<Permit<'_>, AcquireError> {
        self.try_acquire_many(1)
    }

    /// As [`try_acquire`](Self::try_acquire), for `count` permits at once.
    ///
    /// # Errors
    /// As `try_acquire`.
    pub fn try_acquire_many(&self, count: usize) -> Result<Permit<'_>, AcquireError> {
        let mut state = self.state.lock();
        if self.is_closed() {
            return Err(AcquireError::Closed);
        }
        if state.take(count) {
            return Ok(self.permit(count));
        }
        Err(AcquireError::NoPermits)
    }

    #[inline]
    fn take(&self, count: usize, deadline: Option<Instant>) -> Result<Permit<'_>, AcquireError> {
        park::checkpoint();
        let mut state = self.state.lock();
        if self.is_closed() {
            return Err(AcquireError::Closed);
        }
        if state.take(count) {
            drop(state);
            return Ok(self.permit(count));
        }
        let failed = OnFailure::new(|| self.serve());
        let waited = match self.line_up(state, count, deadline) {
            Ok(parked) => {
                parked.switch();
                let closed = || self.is_closed();
                leave(parked, &self.state, |state| &mut state.queue, closed)
            }
            Err(waited) => waited,
        };
        match waited {
            Waited::Woken(None) => {
                failed.disarm();
                Ok(self.permit(count))
            }
            Waited::Woken(Some(_)) => Err(AcquireError::Closed),
            Waited::TimedOut(_) => Err(AcquireError::TimedOut),
            Waited::Refused(_) => Err(AcquireError::Unwinding),
        }
    }

    #[inline(never)]
    fn line_up(
        &self,
        state: ShortGuard<'_, State>,
        count: usize,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<usize>> {
        let limit = state.limit;
        if count > limit {
            drop(state);
            panic!(
                "sward: {count} permits wanted of a semaphore that is bounded to {limit}: that \
                 would wait for ever"
            );
        }
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::Semaphore, self),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        wait.line_up(state, Some(count))
    }

    /// Adds permits (gevent's `release`, where the permit was forgotten or never was).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Panics
    /// If a [`bounded`](Self::bounded) semaphore would then have more than it began with, or any
    /// other more than a `usize` holds; nothing is added then.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::sync::Semaphore;
    /// let ready = Semaphore::new(0);
    /// assert!(ready.try_acquire().is_err());
    /// ready.add_permits(2);
    /// ready.acquire_many(2).unwrap().forget();
    /// assert_eq!(ready.available(), 0);
    /// ```
    #[doc(alias = "release")]
    pub fn add_permits(&self, count: usize) {
        let mut state = self.state.lock();
        let (total, limit) = (state.total, state.limit);
        match total.checked_add(count) {
            Some(sum) if sum <= limit => state.total = sum,
            _ => {
                drop(state);
                panic!(
                    "sward: {count} permits added to a semaphore that has {total} of at most \
                     {limit}, counting those in use: it was released more often than acquired \
                     (a Permit gives itself back)"
                );
            }
        }
        self.put(state, count);
    }

    /// Puts permits in, and serves those who wait.
    #[inline]
    fn put(&self, mut state: ShortGuard<'_, State>, count: usize) {
        state.available += count;
        let Some(next) = state.next() else { return };
        let more = !state.queue.is_empty();
        let late = next.wake();
        drop(state);
        late.wake();
        if more {
            self.serve();
        }
    }

    #[cold]
    fn serve(&self) {
        wake_while(&self.state, State::next);
    }

    /// Makes every call that waits for permits, now or later, fail. Permits in use go on.
    ///
    /// # Blocking
    /// Never parks.
    pub fn close(&self) {
        let state = self.state.lock();
        self.closed.store(true, Relaxed);
        drop(state);
        wake_while(&self.state, |state| state.queue.give_back());
    }

    /// Returns whether the semaphore has been closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Returns the number of permits that nobody has.
    pub fn available(&self) -> usize {
        self.state.lock().available
    }

    #[inline]
    fn permit(&self, count: usize) -> Permit<'_> {
        Permit {
            semaphore: self,
            count,
        }
    }
}

impl Permit<'_> {
    /// Returns the number of permits in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes permits of them that hold the semaphore alive and borrow nothing, so that a task can
    /// take them along (tokio's `acquire_owned`).
    ///
    /// # Panics
    /// If they are another semaphore's.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use sward_runtime::{spawn, sync::Semaphore};
    /// let two_at_a_time = Arc::new(Semaphore::new(2));
    /// for page in 0..10 {
    ///     let permit = two_at_a_time.acquire()?.into_owned(&two_at_a_time);
    ///     spawn(move || {
    ///         let _permit = permit;
    ///         // ... fetch the page
    ///         # let _ = page;
    ///     });
    /// }
    /// # Ok::<(), sward_runtime::sync::AcquireError>(())
    /// ```
    pub fn into_owned(self, semaphore: &Arc<Semaphore>) -> OwnedPermit {
        assert!(
            std::ptr::eq(self.semaphore, &raw const **semaphore),
            "these permits are of another semaphore"
        );
        let permit = ManuallyDrop::new(self);
        OwnedPermit {
            semaphore: semaphore.clone(),
            count: permit.count,
        }
    }

    /// Takes the permits out of the world; [`Semaphore::add_permits`] may bring others.
    pub fn forget(self) {
        let permit = ManuallyDrop::new(self);
        permit.semaphore.state.lock().total -= permit.count;
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.put(self.semaphore.state.lock(), self.count);
    }
}

impl OwnedPermit {
    /// Returns the number of permits in it.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.put(self.semaphore.state.lock(), self.count);
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (available, total, waiting) = (state.available, state.total, state.queue.len());
        drop(state);
        f.debug_struct("Semaphore")
            .field("available", &available)
            .field("total", &total)
            .field("waiting", &waiting)
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
