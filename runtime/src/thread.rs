//! Starts the threads of this library, and knows which of them are *in transit*: between `start` and
//! the first line of their closure, or between its last line and their end. Std takes a lock of its
//! own in both; a child forked meanwhile would find it locked for ever, and could start no thread.
//! So a fork waits until nobody is in transit, and nobody sets out while it lasts (`at_fork.rs`).
//!
//! The end is seen by a destructor of the thread's locals: they run after std's own clean-up.

use std::any::Any;
use std::io;
use std::thread::{Builder, JoinHandle};

use crate::at_fork::Global;
use crate::sync::short_lock::ShortLock;

/// How many are in transit.
#[cfg(not(loom))]
static IN_TRANSIT: ShortLock<usize> = ShortLock::new(0);
#[cfg(loom)]
static IN_TRANSIT: std::sync::LazyLock<ShortLock<usize>> =
    std::sync::LazyLock::new(|| ShortLock::new(0));

fn depart() {
    *IN_TRANSIT.lock() += 1;
}

fn arrive() {
    *IN_TRANSIT.lock() -= 1;
}

struct Arrives;

impl Drop for Arrives {
    fn drop(&mut self) {
        arrive();
    }
}

struct Departs;

impl Drop for Departs {
    fn drop(&mut self) {
        depart();
    }
}

thread_local! {
    static END: Arrives = const { Arrives };
}

/// `Builder::spawn`, for all threads of this library.
pub fn start<R: Send + 'static>(
    builder: Builder,
    f: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    depart();
    let thread = builder.spawn(move || {
        arrive();
        END.with(|_| ());
        let _end = Departs;
        f()
    });
    if thread.is_err() {
        arrive();
    }
    thread
}

/// What a fork holds: that nobody is in transit.
struct NobodyInTransit;

impl Global for NobodyInTransit {
    fn try_hold(&'static self) -> Option<Box<dyn Any>> {
        let count = IN_TRANSIT.try_lock()?;
        (*count == 0).then(|| Box::new(count) as Box<dyn Any>)
    }
}

/// The lock of the process that is here.
pub(crate) fn globals() -> [&'static dyn Global; 1] {
    [&NobodyInTransit]
}
