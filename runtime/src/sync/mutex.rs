//! A lock that parks: mutual exclusion for tasks and threads.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{Held, Parked, Unwinding, Wait, WaitQueue, Waited, leave};
use crate::clock;
use crate::error::TimedOut;
use crate::hub::current;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// Mutual exclusion between tasks, workers and ordinary threads, first come, first served.
///
/// An unlock hands the lock to the first waiter, so nobody overtakes. It does not poison: a panic,
/// a kill or a time-out inside unlocks it as any other end does (gevent's `BoundedSemaphore(1)`).
/// It may be held across parks.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{join_all, spawn, sync::Mutex};
/// let sum = Arc::new(Mutex::new(0));
/// let tasks = (0..10).map(|_| {
///     let sum = sum.clone();
///     spawn(move || *sum.lock() += 1)
/// });
/// join_all(tasks);
/// assert_eq!(*sum.lock(), 10);
/// ```
pub struct Mutex<T: ?Sized> {
    state: ShortLock<State>,
    value: UnsafeCell<T>,
}

struct State {
    locked: bool,
    /// Id of the task that has it, 0 for a thread.
    holder: u64,
    queue: WaitQueue<u64>,
}

impl State {
    const UNLOCKED: Self = Self {
        locked: false,
        holder: 0,
        queue: WaitQueue::new(),
    };
}

impl Held for State {
    fn holder(&self) -> u64 {
        self.holder
    }
}

// SAFETY: the value is reached through `&Mutex` only by way of a guard, of which there is one at a
// time: `locked` is set and handed over under `state`'s lock, which orders one holder after the
// other. So sharing the mutex hands T between threads, for which `T: Send` is enough.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: owning the mutex is owning the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

/// The right to use a mutex's value; unlocks when dropped.
#[must_use = "the mutex is unlocked at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// As std's guard: it stays where it was made.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// Returns an unlocked mutex.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self {
            state: ShortLock::new(State::UNLOCKED),
            value: UnsafeCell::new(value),
        }
    }

    /// Returns an unlocked mutex.
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

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free and locks it.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Mutex`] while somebody else has it; honours kill and `timeout`. In
    /// a task that unwinds it goes to the head of the line and blocks the worker's thread; that is
    /// reported, and the process is aborted if the holder cannot run (`docs/caveats.md`).
    ///
    /// # Cancel safety
    /// A lock that was handed over is kept: the kill comes at the next park.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.acquire(None) {
            Ok(guard) => guard,
            Err(TimedOut) => unreachable!("there was no deadline"),
        }
    }

    /// As [`lock`](Self::lock), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if the mutex was not free by then.
    pub fn lock_timeout(&self, limit: Duration) -> Result<MutexGuard<'_, T>, TimedOut> {
        self.acquire(clock::deadline(limit))
    }

    #[inline]
    fn acquire(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, T>, TimedOut> {
        park::checkpoint();
        let me = current::task_id();
        let mut state = self.state.lock();
        if !state.locked {
            state.locked = true;
            state.holder = me;
            drop(state);
            return Ok(self.guard());
        }
        let waited = match self.line_up(state, me, deadline) {
            Ok(parked) => {
                parked.switch_for(&self.state);
                leave(parked, &self.state, |state| &mut state.queue, || false)
            }
            Err(waited) => waited,
        };
        match waited {
            Waited::Woken(_) => Ok(self.guard()),
            Waited::TimedOut(_) | Waited::Refused(_) => Err(TimedOut),
        }
    }

    #[inline(never)]
    fn line_up(
        &self,
        state: ShortGuard<'_, State>,
        me: u64,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<u64>> {
        let holder = state.holder;
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::Mutex, self).held_by(holder),
            deadline,
            unwinding: Unwinding::Block,
        };
        wait.line_up(state, Some(me))
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            not_send: PhantomData,
        }
    }

    /// Locks the mutex if it is free and nobody waits.
    ///
    /// # Blocking
    /// Never parks.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let mut state = self.state.lock();
        if state.locked {
            return None;
        }
        state.locked = true;
        state.holder = current::task_id();
        drop(state);
        Some(self.guard())
    }

    /// Returns the value of a mutex that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[inline]
    fn unlock(&self) {
        let mut state = self.state.lock();
        let Some((next, id)) = state.queue.pop() else {
            state.locked = false;
            state.holder = 0;
            return;
        };
        state.holder = id.unwrap_or(0);
        let late = next.wake();
        drop(state);
        late.wake();
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the one right to the value.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the one right to the value.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (locked, holder, waiting) = (state.locked, state.holder, state.queue.len());
        drop(state);
        f.debug_struct("Mutex")
            .field("locked", &locked)
            .field("holder", &holder)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
