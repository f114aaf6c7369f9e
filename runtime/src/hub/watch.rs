//! How the thread that watches for stalls sleeps when all workers do.
//!
//! Watcher: 1. `ASLEEP = true`; 2. heavy barrier; 3. looks whether a worker is awake; only if none
//! is, it parks. Worker, at the end of a sleep: 1. says that it is awake (`Inbox::end_sleep`);
//! 2. light barrier; 3. looks at `ASLEEP`, and wakes the watcher if it is set.
//! So an idle process has no thread that looks around, and a worker that wakes pays one load.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;
use std::time::Duration;

#[cfg(not(loom))]
use crate::at_fork::Global;
use crate::membarrier;
use crate::sync::short_lock::ShortLock;

static ASLEEP: AtomicBool = AtomicBool::new(false);
#[cfg(not(loom))]
static THREAD: ShortLock<Option<Thread>> = ShortLock::new(None);
#[cfg(loom)]
static THREAD: std::sync::LazyLock<ShortLock<Option<Thread>>> =
    std::sync::LazyLock::new(|| ShortLock::new(None));

/// Makes the calling thread the watcher.
pub(crate) fn enter() {
    *THREAD.lock() = Some(std::thread::current());
}

/// A worker is awake again.
#[inline]
pub(crate) fn stir() {
    membarrier::light();
    if ASLEEP.load(Relaxed) {
        wake();
    }
}

#[cold]
fn wake() {
    if ASLEEP.swap(false, Relaxed)
        && let Some(thread) = THREAD.lock().clone()
    {
        thread.unpark();
    }
}

/// Watcher: sleeps for `tick`, or if nobody is awake until somebody is.
#[expect(
    clippy::disallowed_methods,
    reason = "the watcher is no worker: it sleeps by itself"
)]
pub(crate) fn wait(tick: Duration, anybody_awake: impl Fn() -> bool) {
    if anybody_awake() {
        return std::thread::park_timeout(tick);
    }
    ASLEEP.store(true, Relaxed);
    membarrier::heavy();
    while ASLEEP.load(Relaxed) && !anybody_awake() {
        std::thread::park();
    }
    ASLEEP.store(false, Relaxed);
}

/// The locks of the process that are here.
#[cfg(not(loom))]
pub(crate) fn globals() -> [&'static dyn Global; 1] {
    [&THREAD]
}
