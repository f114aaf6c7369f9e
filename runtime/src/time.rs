//! Sleeping, and the time-out around any code.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{self, Nanos};
use crate::error::TimedOut;
use crate::hub::Hub;
use crate::hub::cell::TaskRef;
use crate::hub::control::{FIRED, Fiber, Frame, FrameEnd};
use crate::hub::current::{self, Caller};
use crate::hub::fuse::{Fuse, Inside};
use crate::park::{self, ThreadEnd, ThreadFrames};
use crate::unwinding::Signal;

/// Returns the present: that of its runtime on a task, [`Instant::now`] elsewhere.
///
/// The two differ in a runtime with a
/// [`virtual_clock`](crate::RuntimeBuilder::virtual_clock) only. Code that asks here can be tested
/// under one. An instant of one clock means nothing to another.
///
/// # Examples
/// ```
/// let begun = sward_runtime::now();
/// assert!(sward_runtime::now() >= begun);
/// ```
#[inline]
pub fn now() -> Instant {
    clock::now()
}

/// Returns how long it is until the first `timeout` around the caller fires; `None` if none will.
/// A [`shield`](crate::shield) hides those around it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{remaining, timeout};
/// assert_eq!(remaining(), None);
/// let left = timeout(Duration::from_secs(5), remaining);
/// assert!(left.unwrap().unwrap() <= Duration::from_secs(5));
/// ```
pub fn remaining() -> Option<Duration> {
    let earliest = match current::caller() {
        Caller::Task(_, fiber) => {
            let at = fiber.header().earliest_frame()?;
            return Some(Duration::from_nanos(
                at.saturating_sub(clock::nanos(clock::now())),
            ));
        }
        Caller::Hub(_) | Caller::Thread => ThreadFrames::earliest(None)?,
    };
    Some(earliest.saturating_duration_since(clock::now()))
}

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
    // Not by `timeout_at`: it would be one more frame of each nested time-out.
    let Some(at) = clock::deadline(limit) else {
        return Ok(f());
    };
    let frame = Entered::new(at);
    let result = catch_unwind(AssertUnwindSafe(f));
    frame.end(result)
}

/// As [`timeout`], until `deadline`. One that has passed fires at the first park of `f`.
///
/// # Errors
/// As [`timeout`].
///
/// # Blocking
/// Whatever `f` does.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{TimedOut, now, park, run, timeout_at};
/// run(|| {
///     let soon = now() + Duration::from_millis(5);
///     assert_eq!(timeout_at(soon, park), Err(TimedOut));
///     assert!(now() >= soon);
/// });
/// ```
pub fn timeout_at<T>(deadline: Instant, f: impl FnOnce() -> T) -> Result<T, TimedOut> {
    let frame = Entered::new(deadline);
    let result = catch_unwind(AssertUnwindSafe(f));
    frame.end(result)
}

/// The earliest deadline of the `timeout`s around the caller that no shield masks.
pub(crate) fn earliest_deadline() -> Option<Instant> {
    match current::caller() {
        Caller::Task(_, fiber) => fiber.header().earliest_frame().and_then(clock::instant),
        Caller::Hub(_) | Caller::Thread => ThreadFrames::earliest(None),
    }
}

/// Runs `f`, and ends the calling task as killed once `deadline` has passed; not at all, if it has
/// passed already.
pub(crate) fn or_killed<T>(deadline: Option<Instant>, f: impl FnOnce() -> T) -> T {
    let Some(at) = deadline else { return f() };
    if clock::now() >= at {
        drop(f);
        Signal::Killed.raise();
    }
    timeout_at(at, f).unwrap_or_else(|TimedOut| Signal::Killed.raise())
}

/// Runs `f`, and unwinds it at its next park once `fuse` has blown. `Err`: the unwinding reached
/// this call, or the fuse had blown before.
pub(crate) fn until_blown<T>(fuse: &Arc<Fuse>, f: impl FnOnce() -> T) -> Result<T, TimedOut> {
    let Fused { inside, frame } = Fused::new(fuse)?;
    let result = catch_unwind(AssertUnwindSafe(f));
    drop(inside);
    frame.end(result)
}

/// A frame with a fuse that is in force.
struct Fused<'a> {
    inside: Option<InFuse<'a>>,
    frame: Entered,
}

/// The place of a task in a fuse's list.
struct InFuse<'a> {
    fuse: &'a Fuse,
    place: usize,
}

impl Drop for InFuse<'_> {
    fn drop(&mut self) {
        self.fuse.leave(self.place);
    }
}

impl<'a> Fused<'a> {
    fn new(fuse: &'a Arc<Fuse>) -> Result<Self, TimedOut> {
        match current::caller() {
            Caller::Task(hub, fiber) => {
                let task = TaskRef::clone(&fiber.header().task);
                let place = fuse.enter(Inside::Task(task)).ok_or(TimedOut)?;
                let end = FrameEnd::Fuse(fuse.clone());
                Ok(Self {
                    inside: Some(InFuse { fuse, place }),
                    frame: Entered::in_task(hub, fiber, Nanos::MAX, end),
                })
            }
            Caller::Hub(_) | Caller::Thread => {
                if fuse.is_blown() {
                    return Err(TimedOut);
                }
                Ok(Self {
                    inside: None,
                    frame: Entered::in_thread(ThreadEnd::Fuse(fuse.clone())),
                })
            }
        }
    }
}

/// A frame that is in force.
struct Entered {
    id: u64,
    /// `None`: an ordinary thread.
    task: Option<(&'static Hub, Fiber)>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Entered {
    fn new(at: Instant) -> Self {
        match current::caller() {
            Caller::Task(hub, fiber) => {
                let deadline = clock::nanos(at);
                let end = FrameEnd::Timer(hub.arm_frame(fiber, deadline));
                Self::in_task(hub, fiber, deadline, end)
            }
            Caller::Hub(_) | Caller::Thread => Self::in_thread(ThreadEnd::At(at)),
        }
    }

    fn in_task(hub: &'static Hub, fiber: Fiber, deadline: Nanos, end: FrameEnd) -> Self {
        let id = next_id();
        let frame = Frame {
            id,
            deadline,
            end,
            fired: false,
            raised: false,
        };
        fiber.header().frames.borrow_mut().push(frame);
        let task = Some((hub, fiber));
        Self { id, task }
    }

    fn in_thread(end: ThreadEnd) -> Self {
        let id = next_id();
        ThreadFrames::push(id, end);
        Self { id, task: None }
    }

    /// Ends the frame, and says what the end of its closure means.
    fn end<T>(self, result: thread::Result<T>) -> Result<T, TimedOut> {
        let id = self.id;
        drop(self);
        result.map_err(|payload| match payload.downcast_ref::<Signal>() {
            Some(Signal::TimedOut(fired)) if *fired == id => TimedOut,
            _ => resume_unwind(payload),
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        match self.task {
            Some((hub, fiber)) => {
                let control = fiber.header();
                let mut frames = control.frames.borrow_mut();
                let last = frames.pop();
                if !frames.iter().any(|f| f.fired) {
                    control.attention.set(control.attention.get() & !FIRED);
                }
                drop(frames);
                if let Some(FrameEnd::Timer(timer)) = last.map(|frame| frame.end) {
                    hub.cancel_timer(timer);
                }
            }
            None => ThreadFrames::pop(),
        }
    }
}
