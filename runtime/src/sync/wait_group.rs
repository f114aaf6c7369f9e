//! Waits for the end of work that others do.
//!
//! The count is the number of living [`Working`] guards. Whoever waits when it comes to 0 goes on,
//! even if it is above 0 again before that one runs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::short_lock::ShortLock;
use super::wait_queue::{Unwinding, Wait, WaitQueue, Waited, leave, wake_line};
use crate::clock;
use crate::error::TimedOut;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// Waits until all that was begun is done (Go's `WaitGroup`, with guards for `Add` and `Done`).
///
/// Clones share one count. The guard of a task that panics or is killed is dropped as any other,
/// so nobody waits for a task that is gone, and there is no way to be done too often.
///
/// # Examples
/// ```
/// use sward_runtime::{spawn, sync::WaitGroup};
/// let group = WaitGroup::new();
/// for _ in 0..10 {
///     let working = group.add();
///     spawn(move || {
///         // ... the work ...
///         drop(working);
///     });
/// }
/// group.wait();
/// assert_eq!(group.count(), 0);
/// ```
#[derive(Clone)]
pub struct WaitGroup {
    shared: Arc<ShortLock<State>>,
}

struct State {
    count: usize,
    queue: WaitQueue<()>,
}

/// A piece of work that a [`WaitGroup`] waits for: done when this is dropped. A clone is another
/// piece.
#[must_use = "the work is done when this is dropped"]
pub struct Working {
    group: WaitGroup,
}

impl WaitGroup {
    /// Returns a group without work.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(ShortLock::new(State {
                count: 0,
                queue: WaitQueue::new(),
            })),
        }
    }

    /// Adds a piece of work.
    ///
    /// # Blocking
    /// Never parks.
    pub fn add(&self) -> Working {
        // Guards that fill memory do not fill a usize; forgotten ones do in centuries.
        self.shared.lock().count += 1;
        Working {
            group: self.clone(),
        }
    }

    /// Returns the number of pieces of work that are not done.
    pub fn count(&self) -> usize {
        self.shared.lock().count
    }

    /// Waits until no work is left; returns at once if there is none.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::WaitGroup`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// As [`wait`](Self::wait), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if there was work left all the time.
    pub fn wait_timeout(&self, limit: Duration) -> Result<(), TimedOut> {
        if self.wait_until(clock::deadline(limit)) {
            Ok(())
        } else {
            Err(TimedOut)
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        park::checkpoint();
        let state = self.shared.lock();
        if state.count == 0 {
            return true;
        }
        let wait = Wait {
            lock: &*self.shared,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::WaitGroup, &*self.shared),
            deadline,
            unwinding: Unwinding::InLine,
        };
        let waited = match wait.line_up(state, None) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.shared, |state| &mut state.queue, || false)
            }
            Err(waited) => waited,
        };
        matches!(waited, Waited::Woken(_))
    }
}

impl Clone for Working {
    fn clone(&self) -> Self {
        self.group.add()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.group.shared.lock();
        state.count -= 1;
        if state.count == 0 && !state.queue.is_empty() {
            wake_line(&self.group.shared, state, |state| &mut state.queue);
        }
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        let (count, waiting) = (state.count, state.queue.len());
        drop(state);
        f.debug_struct("WaitGroup")
            .field("count", &count)
            .field("waiting", &waiting)
            .finish()
    }
}

impl fmt::Debug for Working {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Working").finish_non_exhaustive()
    }
}
