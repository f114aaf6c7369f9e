//! Sleeping, and the time-out around any code.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::TimedOut;
use crate::hub::Hub;
use crate::hub::control::{FIRED, Fiber, Frame};
use crate::hub::current::{self, Caller};
use crate::park::{self, ThreadFrames};
use crate::unwinding::Signal;

/// Suspends the calling task, or blocks the calling thread, for at least `duration`.
///
/// It is never early and, on an idle worker, late by about 0.1 ms. A zero duration yields. A
/// duration beyond what the clock can tell is for ever.
///
/// # Blocking
/// Parks under [`WaitKind::Sleep`](crate::WaitKind::Sleep); honours kill and `timeout`.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// let begun = Instant::now();
/// sward_runtime::run(|| sward_runtime::sleep(Duration::from_millis(5)));
/// assert!(begun.elapsed() >= Duration::from_millis(5));
/// ```
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        park::yield_now();
    } else {
        park::sleep_until(clock::deadline(duration));
    }
}

/// Suspends the calling task, or blocks the calling thread, until `deadline`.
///
/// # Blocking
/// As [`sleep`]; a deadline that has passed yields.
pub fn sleep_until(deadline: Instant) {
    park::sleep_until(Some(deadline));
}

/// Runs `f`, and unwinds it at its next park once `limit` has passed.
///
/// It works around any blocking call whatever: sleeps, locks, joins, channels, sockets. Time-outs
/// nest; when several have fired, the outermost ends first, and each call knows its own. A closure
/// that returns first wins, even if its time has passed. What is not a park (a computation) is not
/// interrupted. A time-out that `f` swallows with `catch_unwind` is raised again at its next park.
///
/// # Errors
/// [`TimedOut`] if the unwinding of this very time-out reached this call.
///
/// # Blocking
/// Whatever `f` does.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{TimedOut, run, sleep, timeout};
/// run(|| {
///     assert_eq!(timeout(Duration::from_millis(5), || sleep(Duration::from_secs(60))), Err(TimedOut));
///     assert_eq!(timeout(Duration::from_secs(60), || 7), Ok(7));
/// });
/// ```
pub fn timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, TimedOut> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let Some(at) = clock::deadline(limit) else {
        return Ok(f());
    };
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let frame = Entered::new(id, at);
    let result = catch_unwind(AssertUnwindSafe(f));
    drop(frame);
    match result {
        Ok(value) => Ok(value),
        Err(payload) => match payload.downcast_ref::<Signal>() {
            Some(Signal::TimedOut(fired)) if *fired == id => Err(TimedOut),
            _ => resume_unwind(payload),
        },
    }
}

/// A time-out frame that is in force.
enum Entered {
    Task(&'static Hub, Fiber),
    Thread,
}

impl Entered {
    fn new(id: u64, at: Instant) -> Self {
        match current::caller() {
            Caller::Task(hub, fiber) => {
                let deadline = clock::nanos(at);
                let timer = hub.arm_frame(fiber, deadline);
                let frame = Frame {
                    id,
                    deadline,
                    timer,
                    fired: false,
                    raised: false,
                };
                fiber.header().frames.borrow_mut().push(frame);
                Self::Task(hub, fiber)
            }
            Caller::Hub(_) | Caller::Thread => {
                ThreadFrames::push(id, at);
                Self::Thread
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        match *self {
            Self::Task(hub, fiber) => {
                let control = fiber.header();
                let mut frames = control.frames.borrow_mut();
                if let Some(frame) = frames.pop() {
                    hub.cancel_timer(frame.timer);
                }
                if !frames.iter().any(|f| f.fired) {
                    control.attention.set(control.attention.get() & !FIRED);
                }
            }
            Self::Thread => ThreadFrames::pop(),
        }
    }
}
