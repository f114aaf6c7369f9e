//! A value that is set once, and waited for.
//!
//! The value lies in std's `OnceLock`, which is written under our lock only, and so never blocks.
//! There are two lines: *getters* wait for the value, *initialisers* for the value or for their
//! turn to make it.
//!
//! | | who moves it there |
//! |---|---|
//! | empty, `initialiser` = 0 | the start; an initialiser that failed while none waits |
//! | empty, `initialiser` = n | n begins; or the one before it failed and handed over to n |
//! | set, `initialiser` = 0 | `set`, or the end of an initialiser: the first of them |
//!
//! Once it is set nobody lines up any more. A woken initialiser that finds no value has its turn.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{
    OnFailure, Parked, Unwinding, Wait, WaitQueue, Waited, leave, wake_line, wake_while,
};
use crate::clock;
use crate::error::TimedOut;
use crate::hub::current;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// A value that anybody sets, once, and everybody can wait for (gevent's `AsyncResult`, and std's
/// `OnceLock`).
///
/// For a value that may never come, since the one who was to set it is gone, see
/// [`promise`](super::promise). For an error instead of a value use `OnceValue<Result<T, E>>`.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{spawn, sync::OnceValue};
/// let answer = Arc::new(OnceValue::new());
/// let waiting = { let answer = answer.clone(); spawn(move || *answer.get() + 1) };
/// assert_eq!(answer.set(41), Ok(()));
/// assert_eq!(answer.set(7), Err(7));
/// assert_eq!(waiting.join().unwrap(), 42);
/// ```
pub struct OnceValue<T> {
    value: OnceLock<T>,
    state: ShortLock<State>,
}

struct State {
    /// Who runs its initialiser; 0: nobody.
    initialiser: u64,
    getters: WaitQueue<()>,
    /// With their owner's numbers.
    initialisers: WaitQueue<u64>,
}

impl State {
    const NEW: Self = Self {
        initialiser: 0,
        getters: WaitQueue::new(),
        initialisers: WaitQueue::new(),
    };
}

impl<T> OnceValue<T> {
    /// Returns one without a value.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            value: OnceLock::new(),
            state: ShortLock::new(State::NEW),
        }
    }

    /// Returns one without a value.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            value: OnceLock::new(),
            state: ShortLock::new(State::NEW),
        }
    }

    /// Sets the value and wakes all who wait for it. An initialiser that is at work
    /// ([`get_or_init`](Self::get_or_init)) comes too late: what it makes is dropped.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// Gives the value back if there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut state = self.state.lock();
        self.value.set(value)?;
        state.initialiser = 0;
        let initialisers = !state.initialisers.is_empty();
        wake_line(&self.state, state, |state| &mut state.getters);
        if initialisers {
            wake_while(&self.state, |state| Some(state.initialisers.pop()?.0));
        }
        Ok(())
    }

    /// Returns the value if it is set.
    ///
    /// # Blocking
    /// Never parks.
    #[inline]
    pub fn try_get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Returns the value, waiting until it is set.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::OnceValue`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    #[inline]
    pub fn get(&self) -> &T {
        match self.get_until(None) {
            Ok(value) => value,
            Err(TimedOut) => unreachable!("there was no deadline"),
        }
    }

    /// As [`get`](Self::get), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if it was not set by then.
    pub fn get_timeout(&self, limit: Duration) -> Result<&T, TimedOut> {
        self.get_until(clock::deadline(limit))
    }

    #[inline]
    fn get_until(&self, deadline: Option<Instant>) -> Result<&T, TimedOut> {
        park::checkpoint();
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let state = self.state.lock();
        // A set in between is over: it is done under the lock.
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        match self.line_up_to_get(state, deadline) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.state, |state| &mut state.getters, || false)
            }
            Err(waited) => waited,
        };
        // It may have been set at the very last moment.
        self.value.get().ok_or(TimedOut)
    }

    #[inline(never)]
    fn line_up_to_get(
        &self,
        state: ShortGuard<'_, State>,
        deadline: Option<Instant>,
    ) -> Result<Parked, Waited<()>> {
        let initialiser = current::task_of(state.initialiser);
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.getters,
            reason: || WaitReason::on(WaitKind::OnceValue, self).held_by(initialiser),
            deadline,
            unwinding: Unwinding::InLine,
        };
        wait.line_up(state, None)
    }

    #[inline(never)]
    fn line_up_to_init(
        &self,
        state: ShortGuard<'_, State>,
        me: u64,
    ) -> Result<Parked, Waited<u64>> {
        let initialiser = current::task_of(state.initialiser);
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.initialisers,
            reason: || WaitReason::on(WaitKind::OnceValue, self).held_by(initialiser),
            deadline: None,
            unwinding: Unwinding::Block,
        };
        wait.line_up(state, Some(me))
    }

    /// Returns the value; makes it with `f` if nobody has yet, waiting if somebody is at it.
    ///
    /// `f` may park. If it panics or is killed, the next one who waits here makes the value; there
    /// is no poison. If the value is [`set`](Self::set) meanwhile, what `f` makes is dropped.
    ///
    /// # Blocking
    /// As [`get`](Self::get), while somebody else makes the value.
    ///
    /// # Panics
    /// If `f` calls it on the same `OnceValue`, which would wait for itself.
    ///
    /// # Cancel safety
    /// Whoever is killed when its turn came begins, and is killed at the first park in `f`.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::sync::OnceValue;
    /// static CONFIG: OnceValue<String> = OnceValue::new();
    /// assert_eq!(CONFIG.get_or_init(|| "made".into()), "made");
    /// assert_eq!(CONFIG.get_or_init(|| unreachable!()), "made");
    /// ```
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        park::checkpoint();
        match self.value.get() {
            Some(value) => value,
            None => self.init(f),
        }
    }

    #[cold]
    fn init(&self, f: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.wait_for_turn(current::owner()) {
            return value;
        }
        let failed = OnFailure::new(|| self.give_turn());
        let mut made = Some(f());
        failed.disarm();
        // What comes too late is dropped.
        loop {
            if let Some(value) = self.value.get() {
                return value;
            }
            if let Some(value) = made.take() {
                made = self.set(value).err();
            }
        }
    }

    /// Waits for the value, or (`None`) until it is up to `me` to make it.
    fn wait_for_turn(&self, me: u64) -> Option<&T> {
        let mut state = self.state.lock();
        if let Some(value) = self.value.get() {
            return Some(value);
        }
        if state.initialiser == 0 {
            state.initialiser = me;
            return None;
        }
        if state.initialiser == me {
            drop(state);
            panic!(
                "sward: the initialiser of a OnceValue (or the closure of a Once) asked for the \
                 very value that it was making: it would wait for itself"
            );
        }
        match self.line_up_to_init(state, me) {
            Ok(parked) => {
                parked.switch();
                leave(
                    parked,
                    &self.state,
                    |state| &mut state.initialisers,
                    || false,
                )
            }
            Err(waited) => waited,
        };
        self.value.get()
    }

    /// The initialiser failed: lets the next one try.
    #[cold]
    fn give_turn(&self) {
        let mut state = self.state.lock();
        let Some((next, id)) = state.initialisers.pop() else {
            state.initialiser = 0;
            return;
        };
        state.initialiser = id.unwrap_or(0);
        let late = next.wake();
        drop(state);
        late.wake();
    }

    /// Returns the value, if there is one and nobody else can reach it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Takes the value out: it can be set again.
    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }

    /// Returns the value, if it was set.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceValue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceValue<T> {
    fn from(value: T) -> Self {
        Self {
            value: value.into(),
            state: ShortLock::new(State::NEW),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.get() {
            Some(value) => f.debug_tuple("OnceValue").field(value).finish(),
            None => f.write_str("OnceValue(<not set>)"),
        }
    }
}
