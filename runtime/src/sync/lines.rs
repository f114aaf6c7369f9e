//! [`Lines`]: a value behind a short lock, and lines of those who wait for it to change. What layers
//! above build their own primitives of; the sockets of mq stand on it.
//!
//! Nouns: a *line* is a wait queue beside the value, known by its number. The *attempt* is what a
//! caller wants, tried under the lock. A wake brings nothing: whoever is woken tries again.
//!
//! Invariants
//! - Who is woken always tries, also if a kill or a time-out came after the wake (which is raised
//!   after an attempt in vain). So a wake is not lost as long as an attempt that succeeded wakes the
//!   next one where there is more for others.
//! - Waiters are taken out and claimed under the lock, and woken across workers after it.
//!
//! Rejected: a condition variable beside a parking mutex (two lines and a hand-over for each wait);
//! making `WaitQueue` public (its rules cannot be kept by safe code alone).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::refusal::errors;
use super::select::{Arm, Slot};
use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{Settled, Ticket, WaitQueue, Woken, retry};
use crate::park;
use crate::wait_reason::WaitReason;

struct State<T, const N: usize> {
    value: T,
    lines: [WaitQueue<()>; N],
}

/// A value behind a short lock, with `N` lines of tasks and threads that wait for it to change.
///
/// # Examples
/// A counter that goes down to nothing, and those who wait for that.
/// ```
/// use sward_runtime::sync::Lines;
/// use sward_runtime::{WaitKind, WaitReason, spawn};
///
/// const ZERO: usize = 0;
/// let left = std::sync::Arc::new(Lines::<u32, 1>::new(2));
/// for _ in 0..2 {
///     let left = left.clone();
///     spawn(move || {
///         let mut left = left.lock();
///         *left -= 1;
///         if *left == 0 {
///             left.held().wake_all(ZERO);
///         }
///     });
/// }
/// let reason = WaitReason::new(WaitKind::Other("counter"), 0);
/// let waited = left.wait::<ZERO, _>(reason, || None, |n| (**n == 0).then_some(()));
/// assert_eq!(waited, Ok(()));
/// ```
pub struct Lines<T, const N: usize> {
    state: ShortLock<State<T, N>>,
}

errors! {
    /// Why a wait in a line of [`Lines`] ended without an outcome.
    WaitError {
        /// The deadline has passed.
        TimedOut [TimedOut Empty Closed] => "timed out",
        /// The calling task unwinds and may not park.
        Unwinding [Unwinding] => "a task that unwinds may not wait",
    }
}

fn line<const L: usize, T, const N: usize>(state: &mut State<T, N>) -> &mut WaitQueue<()> {
    &mut state.lines[L]
}

impl<T, const N: usize> Lines<T, N> {
    /// Returns the value with empty lines.
    pub fn new(value: T) -> Self {
        Self {
            state: ShortLock::new(State {
                value,
                lines: [const { WaitQueue::new() }; N],
            }),
        }
    }

    /// Takes the lock.
    ///
    /// # Blocking
    /// As [`ShortLock::lock`]: blocks the OS thread, never parks.
    ///
    /// # Panics
    /// As [`ShortLock::lock`].
    #[inline(always)]
    pub fn lock(&self) -> LinesGuard<'_, T, N> {
        LinesGuard {
            state: self.state.lock(),
            woken: Woken::new(),
        }
    }

    /// Tries once under the lock; a yield or a kill that is due comes first, as before each operation
    /// that might wait.
    ///
    /// # Blocking
    /// Parks only for such a yield.
    #[inline(always)]
    pub fn attempt<R>(&self, attempt: impl FnOnce(&mut Held<'_, T, N>) -> Option<R>) -> Option<R> {
        park::checkpoint();
        attempt(&mut self.lock().held())
    }

    /// Tries under the lock until there is an outcome; after each attempt in vain it waits in line
    /// `L` until somebody wakes it.
    ///
    /// `deadline` is asked for before each wait, after an attempt in vain, with the lock held.
    ///
    /// An attempt may run once more than somebody woke it. One that succeeds and leaves something
    /// for others has to wake the next of them itself.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] at the deadline; [`WaitError::Unwinding`] where the caller would have
    /// to wait and unwinds.
    ///
    /// # Blocking
    /// Parks under `reason`; honours kill and `timeout`, which come before the first attempt or
    /// after one in vain, never after success.
    #[inline]
    pub fn wait<const L: usize, R>(
        &self,
        reason: WaitReason,
        deadline: impl FnMut() -> Option<Instant>,
        mut attempt: impl FnMut(&mut Held<'_, T, N>) -> Option<R>,
    ) -> Result<R, WaitError> {
        retry(
            &self.state,
            line::<L, T, N>,
            reason,
            deadline,
            |state, woken| attempt(&mut Held { state, woken }),
        )
        .map_err(WaitError::from)
    }

    /// Returns an arm of a [`select!`](crate::select) that makes the attempt, with line `L`. `ready`
    /// says whether the attempt might succeed now.
    pub fn arm<const L: usize, R, F>(
        &self,
        ready: fn(&T) -> bool,
        attempt: F,
    ) -> LineArm<'_, T, F, L, N>
    where
        F: FnMut(&mut Held<'_, T, N>) -> Option<R>,
    {
        LineArm {
            lines: self,
            ready,
            attempt,
            place: None,
        }
    }

    /// Returns how many wait in line `line`; none if there is no such line.
    pub fn waiting(&self, line: usize) -> usize {
        let state = self.state.lock();
        state.lines.get(line).map_or(0, WaitQueue::len)
    }

    /// Returns the value of lines that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.state.get_mut().value
    }
}

/// The value and the lines while the lock is held.
pub struct Held<'a, T, const N: usize> {
    state: &'a mut State<T, N>,
    woken: &'a mut Woken,
}

impl<T, const N: usize> Held<'_, T, N> {
    /// Returns whether somebody waits in line `line`.
    ///
    /// # Panics
    /// If there is no such line; so do the others.
    #[inline(always)]
    pub fn has_waiters(&self, line: usize) -> bool {
        !self.state.lines[line].is_empty()
    }

    /// Wakes the first in line `line`. Returns whether there was one.
    #[inline]
    pub fn wake_one(&mut self, line: usize) -> bool {
        self.woken.wake_one(&mut self.state.lines[line])
    }

    /// Wakes all who wait in line `line` now.
    pub fn wake_all(&mut self, line: usize) {
        for _ in 0..self.state.lines[line].len() {
            if !self.wake_one(line) {
                break;
            }
        }
    }
}

impl<T, const N: usize> Deref for Held<'_, T, N> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.state.value
    }
}

impl<T, const N: usize> DerefMut for Held<'_, T, N> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state.value
    }
}

/// The lock of [`Lines`], held; those it woke run after it is given back.
#[must_use = "the lock is given back at once"]
pub struct LinesGuard<'a, T, const N: usize> {
    // In this order: unlocked first.
    state: ShortGuard<'a, State<T, N>>,
    woken: Woken,
}

impl<T, const N: usize> LinesGuard<'_, T, N> {
    /// The value and the lines.
    #[inline(always)]
    pub fn held(&mut self) -> Held<'_, T, N> {
        Held {
            state: &mut self.state,
            woken: &mut self.woken,
        }
    }
}

impl<T, const N: usize> Deref for LinesGuard<'_, T, N> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.state.value
    }
}

impl<T, const N: usize> DerefMut for LinesGuard<'_, T, N> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state.value
    }
}

/// An arm that makes an attempt; see [`Lines::arm`].
#[must_use = "an arm does nothing outside of select!"]
pub struct LineArm<'a, T, F, const L: usize, const N: usize> {
    lines: &'a Lines<T, N>,
    ready: fn(&T) -> bool,
    attempt: F,
    place: Option<Ticket>,
}

impl<T, R, F, const L: usize, const N: usize> Arm for LineArm<'_, T, F, L, N>
where
    F: FnMut(&mut Held<'_, T, N>) -> Option<R>,
{
    type Output = R;

    fn attempt(&mut self) -> Option<R> {
        (self.attempt)(&mut self.lines.lock().held())
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.lines.state.lock();
        self.place = Some(slot.queue_in(&mut state.lines[L], None));
        (self.ready)(&state.value)
    }

    fn leave(&mut self, chosen: bool) -> Option<R> {
        let place = self.place.take()?;
        let mut guard = self.lines.lock();
        let settled = guard.state.lines[L].settle(place);
        if !chosen || !matches!(settled, Settled::Gone) {
            return None;
        }
        (self.attempt)(&mut guard.held())
    }
}

impl<T, const N: usize> fmt::Debug for Lines<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl<T, const N: usize> fmt::Debug for Held<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl<T, const N: usize> fmt::Debug for LinesGuard<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinesGuard").finish_non_exhaustive()
    }
}

impl<T, F, const L: usize, const N: usize> fmt::Debug for LineArm<'_, T, F, L, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineArm").finish_non_exhaustive()
    }
}
