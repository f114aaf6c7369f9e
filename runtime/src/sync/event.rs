//! A flag that can be waited for.

use std::fmt;
use std::time::{Duration, Instant};

use super::short_lock::ShortLock;
use super::wait_queue::{Unwinding, Wait, WaitQueue, Waited, leave, wake_all};
use crate::clock;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// A flag that tasks and threads can wait for (gevent's `Event`).
///
/// Whoever waits while it is set goes on, even if it is cleared before that one runs.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{spawn, sync::Event};
/// let ready = Arc::new(Event::new());
/// let task = { let ready = ready.clone(); spawn(move || ready.wait()) };
/// ready.set();
/// task.join().unwrap();
/// ```
pub struct Event {
    state: ShortLock<State>,
}

struct State {
    set: bool,
    queue: WaitQueue<()>,
}

impl Event {
    /// Returns an event that is not set.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            state: ShortLock::new(State {
                set: false,
                queue: WaitQueue::new(),
            }),
        }
    }

    /// Returns an event that is not set.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            state: ShortLock::new(State {
                set: false,
                queue: WaitQueue::new(),
            }),
        }
    }

    /// Sets the flag and wakes all who wait.
    ///
    /// # Blocking
    /// Never parks.
    pub fn set(&self) {
        self.state.lock().set = true;
        wake_all(&self.state, |state| &mut state.queue);
    }

    /// Clears the flag.
    pub fn clear(&self) {
        self.state.lock().set = false;
    }

    /// Returns whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.state.lock().set
    }

    /// Waits until the flag is set.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Event`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until the flag is set, for at most `limit`. Returns whether it was.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(clock::deadline(limit))
    }

    /// Waits until the flag is set or `deadline` has passed. Returns whether it was set.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Some(deadline))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        park::checkpoint();
        let state = self.state.lock();
        if state.set {
            return true;
        }
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::Event, self),
            deadline,
            unwinding: Unwinding::Block,
        };
        let waited = match wait.line_up(state, None) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.state, |state| &mut state.queue, || false)
            }
            Err(waited) => waited,
        };
        matches!(waited, Waited::Woken(_))
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (set, waiting) = (state.set, state.queue.len());
        drop(state);
        f.debug_struct("Event")
            .field("set", &set)
            .field("waiting", &waiting)
            .finish()
    }
}
