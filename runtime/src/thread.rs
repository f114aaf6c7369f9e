//! Starts the threads of this library, and knows which of them are *in transit*: between `start` and
//! the first line of their closure, or between its last line and their end. Std takes a lock of its
//! own in both; a child forked meanwhile would find it locked for ever, and could start no thread.
//! So a fork waits until nobody is in transit, and nobody sets out while it lasts (`at_fork.rs`).
//!
//! The end is seen by a destructor of the thread's locals: they run after std's own clean-up.

use std::any::Any;
use std::cell::Cell;
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

/// In the locals of each thread that was started here: it has been in its closure to the end.
struct End(Cell<bool>);

impl Drop for End {
    fn drop(&mut self) {
        // Not of a thread that calls `exit` in the middle of it.
        if self.0.get() {
            arrive();
        }
    }
}

thread_local! {
    static END: End = const { End(Cell::new(false)) };
}

struct Departs;

impl Drop for Departs {
    fn drop(&mut self) {
        let _ = END.try_with(|end| {
            depart();
            end.0.set(true);
        });
    }
}

/// `Builder::spawn`, for all threads of this library.
pub fn start<R: Send + 'static>(
    builder: Builder,
    f: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    depart();
    let thread = builder.spawn(move || {
        arrive();
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
