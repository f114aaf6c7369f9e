//! A meeting point for a number of tasks and threads.
//!
//! Who is in line has arrived, and whoever leaves by a kill or a `timeout` has not. The last one
//! to arrive, the *leader*, does not wait: it wakes all in line, some at a time. Until they are
//! out, they are `leaving`, and whoever arrives meanwhile helps to wake them before it is counted.
//! So the length of the line is always the number of those who have arrived.
//!
//! Rejected: a counter beside the line. It would be wrong between the moment in which a killed
//! waiter leaves the line and the one in which it tells the counter.

use std::fmt;

use super::short_lock::{ShortGuard, ShortLock};
use super::wait_queue::{Parked, Unwinding, Wait, WaitQueue, Waited, leave, wake_from};
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// Lets a number of tasks and threads wait for each other (std's `Barrier`); it can be used again
/// and again.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{join_all, spawn, sync::Barrier};
/// let barrier = Arc::new(Barrier::new(10));
/// let tasks = (0..10).map(|_| {
///     let barrier = barrier.clone();
///     spawn(move || barrier.wait().is_leader())
/// });
/// let leaders = join_all(tasks).into_iter().filter(|end| matches!(end, Ok(true)));
/// assert_eq!(leaders.count(), 1);
/// ```
pub struct Barrier {
    count: usize,
    state: ShortLock<State>,
}

struct State {
    queue: WaitQueue<()>,
    leaving: bool,
}

impl State {
    const EMPTY: Self = Self {
        queue: WaitQueue::new(),
        leaving: false,
    };
}

/// Says whether a task was the last one to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Returns `true` for one of those who met: the one who came last.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// Returns a barrier for `count`; with 0 and 1 nobody waits.
    #[cfg(not(loom))]
    pub const fn new(count: usize) -> Self {
        Self {
            count,
            state: ShortLock::new(State::EMPTY),
        }
    }

    /// Returns a barrier for `count`; with 0 and 1 nobody waits.
    #[cfg(loom)]
    pub fn new(count: usize) -> Self {
        Self {
            count,
            state: ShortLock::new(State::EMPTY),
        }
    }

    /// Waits until all have arrived.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Barrier`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    ///
    /// # Cancel safety
    /// Whoever is killed or timed out while it waits has not arrived: the barrier waits for
    /// another one in its place. (So if nobody can come for it, the others wait for ever; where
    /// that may be, kill them too, as a group.) Once all have arrived, each of them returns, and a
    /// kill comes at its next park; of more than 64, those who are not woken yet may still be
    /// killed.
    pub fn wait(&self) -> BarrierWaitResult {
        park::checkpoint();
        let mut state = self.state.lock();
        while state.leaving {
            self.release(state);
            state = self.state.lock();
        }
        let here = state.queue.len();
        if here + 1 >= self.count {
            if here > 0 {
                state.leaving = true;
                self.release(state);
            }
            return BarrierWaitResult(true);
        }
        match self.line_up(state) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.state, |state| &mut state.queue, || false)
            }
            Err(waited) => waited,
        };
        BarrierWaitResult(false)
    }

    #[inline(never)]
    fn line_up(&self, state: ShortGuard<'_, State>) -> Result<Parked, Waited<()>> {
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::Barrier, self),
            deadline: None,
            unwinding: Unwinding::InLine,
        };
        wait.line_up(state, None)
    }

    /// Wakes those who have met.
    fn release<'a>(&'a self, state: ShortGuard<'a, State>) {
        wake_from(&self.state, state, |state| {
            if !state.leaving {
                // Another one has done it, and others have arrived since.
                return None;
            }
            let first = state.queue.pop();
            state.leaving = first.is_some();
            Some(first?.0)
        });
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("count", &self.count)
            .field("waiting", &self.state.lock().queue.len())
            .finish()
    }
}
