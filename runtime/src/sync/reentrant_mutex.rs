//! A lock that its owner may take again.
//!
//! `owner` is 0 and `depth` 0, or `owner` is the number of a task or thread that has `depth`
//! guards. An owner is a task where there is one, however many tasks its thread runs.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{Parked, Unwinding, Wait, WaitQueue, Waited, leave};
use crate::clock;
use crate::error::TimedOut;
use crate::hub::current;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// A mutex that the task or thread that has it may lock again (gevent's `RLock`, std's
/// `ReentrantLock`); it is free when the last guard is gone, in whatever order they go.
///
/// As its owner may have many guards, they give `&T`; use a `Cell` or `RefCell` inside. For the
/// rest it is as [`Mutex`](super::Mutex): first come, first served, no poison, may be held across
/// parks.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use sward_runtime::sync::ReentrantMutex;
/// let total = ReentrantMutex::new(Cell::new(1));
/// let outer = total.lock();
/// {
///     let inner = total.lock();
///     inner.set(inner.get() + 1);
/// }
/// assert_eq!(outer.get(), 2);
/// ```
///
/// A guard stays where it was made:
/// ```compile_fail
/// let lock = sward_runtime::sync::ReentrantMutex::new(0);
/// let guard = lock.lock();
/// std::thread::scope(|s| { s.spawn(move || drop(guard)); });
/// ```
pub struct ReentrantMutex<T: ?Sized> {
    state: ShortLock<State>,
    value: T,
}

struct State {
    owner: u64,
    depth: usize,
    /// The owners to be.
    queue: WaitQueue<u64>,
}

impl State {
    const UNLOCKED: Self = Self {
        owner: 0,
        depth: 0,
        queue: WaitQueue::new(),
    };

    /// Locks for `me`, if it is free or `me`'s already.
    #[inline]
    fn enter(&mut self, me: u64) -> bool {
        if self.owner == me {
            // Guards that fill memory do not fill a usize; forgotten ones do in centuries.
            self.depth += 1;
            return true;
        }
        if self.owner != 0 {
            return false;
        }
        (self.owner, self.depth) = (me, 1);
        true
    }
}

// SAFETY: the value is reached through `&ReentrantMutex` only by way of guards. All guards at one
// time are one owner's: a task or a thread, either of which stays on one OS thread, and so do the
// guards (they are not `Send`). `owner` changes under `state`'s lock, which orders one owner after
// the other. So sharing the mutex hands `&T` from thread to thread, used by one at a time, for
// which `T: Send` is enough.
unsafe impl<T: ?Sized + Send> Sync for ReentrantMutex<T> {}

/// One of the rights of an owner to a mutex's value; the last one unlocks when dropped.
#[must_use = "the mutex is unlocked at once"]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    mutex: &'a ReentrantMutex<T>,
    /// Its owner's: it stays where it was made.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<T> ReentrantMutex<T> {
    /// Returns an unlocked mutex.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self {
            state: ShortLock::new(State::UNLOCKED),
            value,
        }
    }

    /// Returns an unlocked mutex.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            state: ShortLock::new(State::UNLOCKED),
            value,
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: ?Sized> ReentrantMutex<T> {
    /// Locks the mutex, waiting until it is free if another has it.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::ReentrantMutex`] while another task or thread has it; honours kill
    /// and `timeout`. In a task that unwinds it goes to the head of the line and blocks the
    /// worker's thread; that is reported, and the process is aborted if the owner cannot run
    /// (`docs/caveats.md`).
    ///
    /// # Cancel safety
    /// A lock that was handed over is kept: the kill comes at the next park.
    #[inline]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, T> {
        match self.acquire(None) {
            Ok(guard) => guard,
            Err(TimedOut) => unreachable!("there was no deadline"),
        }
    }

    /// As [`lock`](Self::lock), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if the mutex was not free by then.
    pub fn lock_timeout(&self, limit: Duration) -> Result<ReentrantMutexGuard<'_, T>, TimedOut> {
        self.acquire(clock::deadline(limit))
    }

    /// Locks the mutex if it is free or the caller's already.
    ///
    /// # Blocking
    /// Never parks.
    pub fn try_lock(&self) -> Option<ReentrantMutexGuard<'_, T>> {
        self.state
            .lock()
            .enter(current::owner())
            .then(|| self.guard())
    }

    /// Returns the value of a mutex that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    #[inline]
    fn acquire(&self, deadline: Option<Instant>) -> Result<ReentrantMutexGuard<'_, T>, TimedOut> {
        park::checkpoint();
        let me = current::owner();
        let mut state = self.state.lock();
        if state.enter(me) {
            drop(state);
            return Ok(self.guard());
        }
        let waited = match self.line_up(state, me, deadline) {
            Ok(parked) => {
                parked.switch();
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
        let holder = current::task_of(state.owner);
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::ReentrantMutex, self).held_by(holder),
            deadline,
            unwinding: Unwinding::Block,
        };
        wait.line_up(state, Some(me))
    }

    fn guard(&self) -> ReentrantMutexGuard<'_, T> {
        ReentrantMutexGuard {
            mutex: self,
            not_send: PhantomData,
        }
    }

    #[inline]
    fn unlock(&self) {
        let mut state = self.state.lock();
        state.depth -= 1;
        if state.depth > 0 {
            return;
        }
        let Some((next, owner)) = state.queue.pop() else {
            state.owner = 0;
            return;
        };
        state.owner = owner.unwrap_or(0);
        state.depth = 1;
        let late = next.wake();
        drop(state);
        late.wake();
    }
}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.mutex.value
    }
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (depth, owner, waiting) = (state.depth, state.owner, state.queue.len());
        drop(state);
        f.debug_struct("ReentrantMutex")
            .field("depth", &depth)
            .field("holder", &current::task_of(owner))
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
