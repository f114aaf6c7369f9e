//! Holds the locks of the whole process while it forks: whatever thread forks, a child finds none of
//! them locked by a thread that stayed in the parent.
//!
//! The handlers of `pthread_atfork` run on the thread that forks: `prepare` takes all locks, `after`,
//! in parent and child, gives them back. What is not to be had within [`PATIENCE`] is left as it is:
//! its holder is stopped, or the forking thread itself.
//!
//! Locks of a runtime or a socket are not held: what a child finds of those is refused as stale
//! (`fork.rs`), without their locks.

use std::any::Any;
use std::cell::RefCell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::sync::short_lock::ShortLock;

/// For how long a fork waits for one lock while it holds others.
const ROUND: Duration = Duration::from_millis(10);
/// For how long it waits for all of them.
const PATIENCE: Duration = Duration::from_secs(2);

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
        // SAFETY: plain functions without arguments that never unwind: they allocate, take locks
        // and give them back. A failure (no memory) leaves forks as they are in other programs.
        unsafe { libc::pthread_atfork(Some(prepare), Some(after), Some(after)) };
    }
}

/// Takes it if it becomes free within [`ROUND`].
fn briefly(lock: &'static dyn Global) -> Option<Box<dyn Any>> {
    let begun = Instant::now();
    loop {
        // A busy lock is free for moments: one look in each turn of this thread would miss them.
        for _ in 0..100 {
            if let Some(held) = lock.try_hold() {
                return Some(held);
            }
            spin_loop();
        }
        if begun.elapsed() > ROUND {
            return None;
        }
        std::thread::yield_now();
    }
}

/// Takes all, or after [`PATIENCE`] those that are to be had.
fn hold_all(locks: &[&'static dyn Global]) -> Vec<Box<dyn Any>> {
    let begun = Instant::now();
    loop {
        let held: Vec<_> = locks.iter().map(|lock| briefly(*lock)).collect();
        if held.iter().all(Option::is_some) || begun.elapsed() > PATIENCE {
            return held.into_iter().flatten().collect();
        }
        // All are given back: the holder of the one may be waiting for another.
    }
}

extern "C" fn prepare() {
    let _ = HELD.try_with(|held| {
        let Ok(mut held) = held.try_borrow_mut() else {
            return;
        };
        // Another fork may have them: it is over soon.
        let locks = LOCKS.lock();
        *held = hold_all(&locks);
        held.push(Box::new(locks));
    });
}

extern "C" fn after() {
    let held = HELD.try_with(RefCell::take);
    drop(held);
}
