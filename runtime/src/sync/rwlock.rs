//! A lock for many readers or one writer.
//!
//! `held` counts the readers inside, or is [`WRITTEN`]. One line for all: whoever comes while
//! somebody waits gets in line, so that neither side starves the other. Under the lock, between
//! operations: somebody waits only if the first in line may not enter ([`State::next`] found
//! nobody), or somebody is about to look again: the one that wakes a run of readers, some at a
//! time, or one that has left the line by a kill or a time-out.
//!
//! Rejected: letting readers in past a waiting writer (it could wait for ever), and two lines (the
//! order between a writer and the readers behind it would be lost).

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{OnFailure, Parked, Unwinding, Wait, WaitQueue, Waited, leave, wake_while};
use crate::clock;
use crate::error::TimedOut;
use crate::hub::current;
use crate::hub::waiter::Queued;
use crate::park::{self, Place};
use crate::wait_reason::{WaitKind, WaitReason};

/// A lock for many readers or one writer, between tasks, workers and ordinary threads (std's
/// `RwLock`).
///
/// First come, first served: a waiting writer holds back the readers that come after it, and
/// readers that stand in line one behind the other enter together. So a task that reads already
/// and reads again waits for itself if a writer came in between, as with std's.
///
/// It does not poison: a panic, a kill or a time-out inside unlocks it as any other end does. It
/// may be held across parks.
///
/// # Examples
/// ```
/// use sward_runtime::sync::RwLock;
/// let lock = RwLock::new(5);
/// {
///     let (r1, r2) = (lock.read(), lock.read());
///     assert_eq!(*r1 + *r2, 10);
/// }
/// *lock.write() += 1;
/// assert_eq!(*lock.read(), 6);
/// ```
///
/// A guard stays where it was made:
/// ```compile_fail
/// let lock = sward_runtime::sync::RwLock::new(0);
/// let guard = lock.read();
/// std::thread::scope(|s| { s.spawn(move || drop(guard)); });
/// ```
pub struct RwLock<T: ?Sized> {
    state: ShortLock<State>,
    value: UnsafeCell<T>,
}

/// `held` while a writer is inside. (So many readers do not fit into memory.)
const WRITTEN: usize = usize::MAX;
/// Set in what a writer brings to the line.
const WRITE: u64 = 1 << 63;

struct State {
    held: usize,
    /// Id of the task that is inside alone; 0 for a thread, and where it is not known.
    holder: u64,
    /// Ids of the tasks in line (0 for a thread), writers' with [`WRITE`].
    queue: WaitQueue<u64>,
}

impl State {
    const UNLOCKED: Self = Self {
        held: 0,
        holder: 0,
        queue: WaitQueue::new(),
    };

    /// Lets `who` in if the others inside allow it.
    #[inline]
    fn enter(&mut self, who: u64) -> bool {
        if who & WRITE != 0 {
            if self.held != 0 {
                return false;
            }
            self.held = WRITTEN;
            self.holder = who & !WRITE;
        } else {
            if self.held == WRITTEN {
                return false;
            }
            self.holder = if self.held == 0 { who } else { 0 };
            self.held += 1;
        }
        true
    }

    /// Lets the first in line in, if the others inside allow it. Wake it before unlocking.
    #[inline]
    fn next(&mut self) -> Option<Queued> {
        let held = self.held;
        let may = |who: &u64| held == 0 || (held != WRITTEN && who & WRITE == 0);
        let (waiter, who) = self.queue.pop_if(may)?;
        self.enter(who);
        Some(waiter)
    }
}

// SAFETY: the value is reached through `&RwLock` only by way of guards: of a write guard there is
// one and then no other guard, and read guards give `&T` only. `held` says so and is changed under
// `state`'s lock, which orders a writer before and after all others. So sharing the lock hands T
// between threads (`T: Send`) and shares it among them (`T: Sync`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

/// The right to read a lock's value; gives it back when dropped.
#[must_use = "the lock is unlocked at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// As std's guard: it stays where it was made.
    not_send: PhantomData<*const ()>,
}

/// The right to use a lock's value alone; gives it back when dropped.
#[must_use = "the lock is unlocked at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// Returns an unlocked lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self {
            state: ShortLock::new(State::UNLOCKED),
            value: UnsafeCell::new(value),
        }
    }

    /// Returns an unlocked lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            state: ShortLock::new(State::UNLOCKED),
            value: UnsafeCell::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer is inside and nobody who came before waits, and locks for reading.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::RwLock`]; honours kill and `timeout`. In a task that unwinds it
    /// goes past all who wait, and blocks the worker's thread while a writer is inside; that is
    /// reported, and the process is aborted if the writer cannot run (`docs/caveats.md`).
    ///
    /// # Cancel safety
    /// A lock that was handed over is kept: the kill comes at the next park.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.acquire(0, None) {
            Ok(()) => self.reading(),
            Err(TimedOut) => unreachable!("there was no deadline"),
        }
    }

    /// As [`read`](Self::read), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if the lock could not be had by then.
    pub fn read_timeout(&self, limit: Duration) -> Result<RwLockReadGuard<'_, T>, TimedOut> {
        self.acquire(0, clock::deadline(limit))?;
        Ok(self.reading())
    }

    /// Locks for reading if no writer is inside and nobody waits.
    ///
    /// # Blocking
    /// Never parks.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.try_acquire(0).then(|| self.reading())
    }

    /// Waits until nobody is inside and nobody who came before waits, and locks for writing.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::RwLock`]; honours kill and `timeout`. In a task that unwinds it
    /// goes to the head of the line and blocks the worker's thread; that is reported, and the
    /// process is aborted if the holder cannot run (`docs/caveats.md`).
    ///
    /// # Cancel safety
    /// As [`read`](Self::read). The readers behind a writer that is killed or timed out enter if
    /// they now can.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.acquire(WRITE, None) {
            Ok(()) => self.writing(),
            Err(TimedOut) => unreachable!("there was no deadline"),
        }
    }

    /// As [`write`](Self::write), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if the lock could not be had by then.
    pub fn write_timeout(&self, limit: Duration) -> Result<RwLockWriteGuard<'_, T>, TimedOut> {
        self.acquire(WRITE, clock::deadline(limit))?;
        Ok(self.writing())
    }

    /// Locks for writing if nobody is inside (and so nobody waits).
    ///
    /// # Blocking
    /// Never parks.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.try_acquire(WRITE).then(|| self.writing())
    }

    /// Returns the value of a lock that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn try_acquire(&self, write: u64) -> bool {
        let mut state = self.state.lock();
        state.queue.is_empty() && state.enter(current::task_id() | write)
    }

    #[inline]
    fn acquire(&self, write: u64, deadline: Option<Instant>) -> Result<(), TimedOut> {
        park::checkpoint();
        let who = current::task_id() | write;
        let mut state = self.state.lock();
        if state.queue.is_empty() && state.enter(who) {
            return Ok(());
        }
        let failed = OnFailure::new(|| self.let_in());
        let waited = match self.line_up(state, who, deadline) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.state, |state| &mut state.queue, || false)
            }
            Err(waited) => waited,
        };
        match waited {
            Waited::Woken(_) => {
                failed.disarm();
                Ok(())
            }
            Waited::TimedOut(_) | Waited::Refused(_) => Err(TimedOut),
        }
    }

    #[inline(never)]
    fn line_up(
        &self,
        mut state: ShortGuard<'_, State>,
        who: u64,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<u64>> {
        // The head of the line is past the writers that other readers keep waiting.
        if who & WRITE == 0 && matches!(park::place(), Place::Unwinding(..)) && state.enter(who) {
            return Err(Waited::Woken(None));
        }
        let holder = state.holder;
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::RwLock, self).held_by(holder),
            deadline,
            unwinding: Unwinding::Block,
        };
        wait.line_up(state, Some(who))
    }

    /// Lets in who may now enter.
    #[cold]
    fn let_in(&self) {
        wake_while(&self.state, State::next);
    }

    #[inline]
    fn unlock(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let Some(next) = state.next() else { return };
        let more = state.held != WRITTEN && !state.queue.is_empty();
        let late = next.wake();
        drop(state);
        late.wake();
        if more {
            self.let_in();
        }
    }

    fn reading(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard {
            lock: self,
            not_send: PhantomData,
        }
    }

    fn writing(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard {
            lock: self,
            not_send: PhantomData,
        }
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Turns the right to write into a right to read, without a gap: nobody writes in between.
    /// Readers at the head of the line enter too.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::sync::{RwLock, RwLockWriteGuard};
    /// let lock = RwLock::new(0);
    /// let mut writing = lock.write();
    /// *writing = 1;
    /// let reading = RwLockWriteGuard::downgrade(writing);
    /// assert_eq!(*reading + *lock.read(), 2);
    /// ```
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T> {
        let lock = guard.lock;
        // Its drop would unlock.
        let _guard = std::mem::ManuallyDrop::new(guard);
        // `holder` stays: it is still inside alone.
        lock.unlock(|state| state.held = 1);
        lock.reading()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while this guard lives there is no write guard, and only those give `&mut T`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while this guard lives there is no other, and `&self` rules out `deref_mut`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: while this guard lives there is no other; `&mut self` rules out other borrows.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock(|state| {
            state.held -= 1;
            // Which one of the others is the last is not known.
            state.holder = 0;
        });
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock(|state| {
            state.held = 0;
            state.holder = 0;
        });
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (held, holder, waiting) = (state.held, state.holder, state.queue.len());
        drop(state);
        f.debug_struct("RwLock")
            .field("readers", &if held == WRITTEN { 0 } else { held })
            .field("written", &(held == WRITTEN))
            .field("holder", &holder)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
