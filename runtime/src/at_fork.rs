//! Holds the locks of the whole process while it forks: whatever thread forks, a child finds none of
//! them locked by a thread that stayed in the parent.
//!
//! The handlers of `pthread_atfork` run on the thread that forks: `prepare` takes each lock, `after`,
//! in parent and child, gives them back. A lock that is not to be had within [`PATIENCE`] is left as
//! it is: its holder is the forking thread itself, or waits for another of these locks.
//!
//! Locks of a runtime or a socket are not held: what a child finds of those is refused as stale
//! (`fork.rs`), without their locks.

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::sync::short_lock::ShortLock;

/// For how long a fork waits for one lock.
const PATIENCE: Duration = Duration::from_millis(100);

/// A lock of the whole process.
pub trait Global: Sync {
    /// Takes it, if it is free; what is returned gives it back when dropped.
    fn try_hold(&'static self) -> Option<Box<dyn Any>>;
}

impl<T: Send + 'static> Global for ShortLock<T> {
    fn try_hold(&'static self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.try_lock()?))
    }
}

#[cfg(not(loom))]
static LOCKS: ShortLock<Vec<&'static dyn Global>> = ShortLock::new(Vec::new());
#[cfg(loom)]
static LOCKS: std::sync::LazyLock<ShortLock<Vec<&'static dyn Global>>> =
    std::sync::LazyLock::new(|| ShortLock::new(Vec::new()));

thread_local! {
    static HELD: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// From now on these are held in each fork. To be called once for each lock.
pub fn hold_at_fork(locks: &[&'static dyn Global]) {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    LOCKS.lock().extend(locks);
    if !REGISTERED.swap(true, Relaxed) {
        // SAFETY: plain functions without arguments that never unwind: they allocate, try locks and
        // give them back. A failure (no memory) leaves forks as they are in other programs.
        unsafe { libc::pthread_atfork(Some(prepare), Some(after), Some(after)) };
    }
}

fn hold(lock: &'static dyn Global) -> Option<Box<dyn Any>> {
    let mut begun = None;
    loop {
        if let Some(guard) = lock.try_hold() {
            return Some(guard);
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return None;
        }
        std::thread::yield_now();
    }
}

extern "C" fn prepare() {
    let _ = HELD.try_with(|held| {
        let Ok(mut held) = held.try_borrow_mut() else {
            return;
        };
        let Some(locks) = LOCKS.try_lock() else {
            return;
        };
        held.extend(locks.iter().filter_map(|lock| hold(*lock)));
        drop(locks);
    });
}

extern "C" fn after() {
    let held = HELD.try_with(RefCell::take);
    drop(held);
}
