//! The one blocking primitive: every wait of every task goes through this file.
//!
//! Nouns: a *park* suspends the calling task until a wake, a deadline or an interrupt; an
//! *interrupt* is a kill or a fired `timeout` frame, raised here by unwinding; a *checkpoint* is
//! the look at interrupts and at the budget that comes before an operation's attempt, never
//! after its success, so that nothing handed over is lost (design R5).
//!
//! Who may not park, and what happens instead:
//! | caller | fallible wait | wait that cannot fail |
//! |---|---|---|
//! | a task inside `without_parking`, `on_worker_stack` or a callback of the hub | panic | panic |
//! | a task that unwinds | an error | blocks the thread, see [`block_unwinding`] |
//! | an ordinary thread | blocks itself | blocks itself |
//!
//! Rejected: reporting a kill as an error value (an accept loop that logs and goes on would
//! spin) and as `ErrorKind::Interrupted` (std retries that for ever).

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::clock::{self, Nanos};
use crate::fork;
use crate::hub::Hub;
use crate::hub::cell::TaskRef;
use crate::hub::control::{Control, Fiber, NO_PARK, Wake};
use crate::hub::current::{self, Caller};
use crate::hub::fuse::{Fuse, Inside};
use crate::hub::waiter::{ThreadParker, Waiter};
use crate::report;
use crate::unwinding::Signal;
use crate::wait_reason::{WaitKind, WaitReason};

// ---- who calls ----------------------------------------------------------------------------------

/// A caller that may wait, and how it will.
pub(crate) enum Place {
    /// A task, which parks.
    Task(&'static Hub, Fiber),
    /// An ordinary thread, which blocks.
    Thread,
    /// A task that unwinds: it must not park, for `panicking()` belongs to its thread.
    Unwinding(&'static Hub, Fiber),
}

/// Says how the caller may wait.
///
/// # Panics
/// Where parking is against the rules (file head), naming the rule; in a forked child.
#[inline]
pub(crate) fn place() -> Place {
    match current::caller() {
        Caller::Task(hub, fiber) => {
            if fiber.header().quirks.get() & NO_PARK != 0 {
                against_the_rules(fiber.header());
            }
            if hub.is_stale() {
                panic!("{}", fork::TEXT);
            }
            if std::thread::panicking() {
                return Place::Unwinding(hub, fiber);
            }
            Place::Task(hub, fiber)
        }
        Caller::Hub(_) => callback(),
        Caller::Thread if current::is_waiting_forbidden() => callback(),
        Caller::Thread => Place::Thread,
    }
}

#[cold]
fn callback() -> ! {
    panic!("sward: a callback of the scheduler tried to wait; spawn a task for what must wait")
}

#[cold]
fn against_the_rules(control: &Control) -> ! {
    if control.on_worker_stack.get() {
        panic!("sward: a wait inside on_worker_stack: its frames lie on the worker's own stack");
    }
    panic!("sward: a wait inside without_parking, which promised that there would be none");
}

/// The look at interrupts and budget before an operation is tried.
#[inline]
pub(crate) fn checkpoint() {
    let Some(hub) = current::hub() else { return };
    let Some(fiber) = hub.current() else { return };
    let control = fiber.header();
    let left = hub.budget.get().wrapping_sub(1);
    hub.budget.set(left);
    if left == 0 || control.attention.get() != 0 {
        checkpoint_slow(hub, fiber);
    }
}

#[cold]
fn checkpoint_slow(hub: &'static Hub, fiber: Fiber) {
    let control = fiber.header();
    if std::thread::panicking() || control.quirks.get() & NO_PARK != 0 || hub.is_stale() {
        hub.budget.set(1);
        return;
    }
    raise_pending(hub, fiber);
    if hub.budget.get() == 0 {
        hub.yield_now(fiber);
        raise_pending(hub, fiber);
    }
}

/// Unwinds the calling task if a kill or a fired time-out asks for it.
#[inline]
pub(crate) fn raise_pending(hub: &'static Hub, fiber: Fiber) {
    if let Some(signal) = fiber.header().pending() {
        raise(hub, fiber, signal);
    }
}

#[cold]
fn raise(hub: &'static Hub, fiber: Fiber, signal: Signal) -> ! {
    let control = fiber.header();
    let swallowed = match signal {
        Signal::Killed => {
            let raised = control.raised.get();
            control.raised.set(raised.saturating_add(1));
            if raised == 2 {
                report::line(&format!(
                    "sward: {} swallows kills (a catch_unwind that does not go on with the \
                     unwinding); it is killed again at each park",
                    describe(&control.task)
                ));
            }
            raised > 0
        }
        Signal::TimedOut(id) => {
            let mut frames = control.frames.borrow_mut();
            let frame = frames.iter_mut().find(|frame| frame.id == id);
            frame.is_some_and(|frame| std::mem::replace(&mut frame.raised, true))
        }
    };
    // Others run first, so that a loop that swallows for ever cannot freeze its worker.
    if swallowed && control.quirks.get() & NO_PARK == 0 && !hub.is_stale() {
        hub.yield_now(fiber);
    }
    signal.raise()
}

pub(crate) fn describe(task: &TaskRef) -> String {
    match task.name() {
        Some(name) => format!("task {} '{name}' spawned at {}", task.id(), task.site()),
        None => format!("task {} spawned at {}", task.id(), task.site()),
    }
}

// ---- waits --------------------------------------------------------------------------------------

impl Control {
    /// Numbers the park that is about to come, so that only wakes for it end it.
    #[inline]
    pub(crate) fn begin_park(&self) -> u32 {
        let park = self.park.get().wrapping_add(1);
        self.park.set(park);
        park
    }
}

/// Parks the current task; raises what interrupts it.
#[inline]
pub(crate) fn park_task(
    hub: &'static Hub,
    fiber: Fiber,
    reason: WaitReason,
    deadline: Option<Nanos>,
) -> Wake {
    let wake = hub.park(fiber, reason, deadline);
    if wake == Wake::Interrupted {
        raise_pending(hub, fiber);
    }
    wake
}

/// Blocks the calling thread until its parker is woken (`true`) or the deadline has passed, and
/// raises a `timeout` frame of the thread that fires first.
pub(crate) fn block_thread(parker: &Arc<ThreadParker>, deadline: Option<Instant>) -> bool {
    let _inside = ThreadFrames::enter_fuses(parker);
    parker.wait(ThreadFrames::earliest(deadline))
}

/// Raises the time-out frame of an ordinary thread whose time has passed, if there is one.
pub(crate) fn raise_thread_frame() {
    if let Some(id) = ThreadFrames::fired() {
        Signal::TimedOut(id).raise();
    }
}

/// Blocks the worker's thread for a task that unwinds and must have what it waits for. What it
/// waits for may need this very worker; so it is reported at once, and after `unwind_wait` the
/// process is aborted with the reason.
pub(crate) fn block_unwinding(hub: &Hub, fiber: Fiber, parker: &ThreadParker, reason: WaitReason) {
    report::line(&format!(
        "sward: {} waits for {reason} while it unwinds: worker {} is blocked meanwhile \
         (move waiting out of Drop with sward::defer)",
        describe(&fiber.header().task),
        hub.index
    ));
    if reason.holder().is_some_and(|id| hub.has_task(id)) {
        abort_unwinding(
            fiber,
            reason,
            "and that task is on the same, blocked worker",
        );
    }
    let limit = hub.rt.config.unwind_wait;
    if !parker.wait(clock::real_deadline(limit)) {
        abort_unwinding(
            fiber,
            reason,
            &format!("and did not get it within {limit:?}"),
        );
    }
}

/// Aborts: an unwinding task waits for what only its own, blocked worker could give.
pub(crate) fn abort_unwinding(fiber: Fiber, reason: WaitReason, why: &str) -> ! {
    report::line(&format!(
        "sward: {} waits for {reason} in a destructor while it unwinds, {why}; \
         aborting, because it can neither go on nor park",
        describe(&fiber.header().task)
    ));
    std::process::abort()
}

/// Says that somebody will point into the calling task's stack while it is parked: such a stack
/// must stay where it is (design R4). All stacks do, until tasks can share them.
#[inline]
pub(crate) fn pin_stack() {}

/// Whether the calling task is where a wait would panic.
pub(crate) fn forbidden() -> bool {
    match current::caller() {
        Caller::Task(_, fiber) => fiber.header().quirks.get() & NO_PARK != 0,
        Caller::Hub(_) => true,
        Caller::Thread => false,
    }
}

/// Parks the calling task, or blocks the calling thread, until [`Task::unpark`](crate::Task).
///
/// The token model of [`std::thread::park`]: `unpark` gives a permit, `park` waits for it and
/// takes it; permits do not add up. It never returns without a permit.
///
/// # Blocking
/// Parks under [`WaitKind::Park`]; honours kill and `timeout`.
///
/// # Panics
/// Inside `without_parking` and `on_worker_stack`, and in a task that unwinds.
///
/// # Examples
/// ```
/// let main = sward_runtime::current();
/// sward_runtime::spawn(move || main.unpark());
/// sward_runtime::park();
/// ```
pub fn park() {
    park_until(None);
}

/// As [`park`], for at most `limit`. Returns whether there was a permit.
pub fn park_timeout(limit: Duration) -> bool {
    park_until(Some(clock::deadline(limit)))
}

/// As [`park`], until `deadline`. Returns whether there was a permit.
pub fn park_deadline(deadline: Instant) -> bool {
    park_until(Some(Some(deadline)))
}

/// `None`: no limit; `Some(None)`: a limit beyond what the clock can tell.
fn park_until(limit: Option<Option<Instant>>) -> bool {
    let deadline = limit.flatten();
    match place() {
        Place::Task(hub, fiber) => {
            let control = fiber.header();
            // With its look at the budget: a task that always has a permit yields now and then.
            checkpoint();
            if !control.permit.take() {
                control.begin_park();
                park_task(
                    hub,
                    fiber,
                    WaitReason::new(WaitKind::Park, 0),
                    deadline.map(clock::nanos),
                );
                return control.permit.take();
            }
            true
        }
        Place::Thread => {
            let parker = current::thread_parker();
            loop {
                let inside = ThreadFrames::enter_fuses(&parker);
                let got = parker.park(ThreadFrames::earliest(deadline));
                drop(inside);
                if got {
                    return true;
                }
                // Without a permit it was the limit, a frame, or a late wake of an earlier wait.
                raise_thread_frame();
                if deadline.is_some_and(|d| clock::now() >= d) {
                    return false;
                }
            }
        }
        Place::Unwinding(..) => {
            panic!("sward: park() in a task that unwinds: nothing may park then")
        }
    }
}

/// Parks until `deadline`, for `sleep`.
pub(crate) fn sleep_until(deadline: Option<Instant>) {
    let reason = WaitReason::new(WaitKind::Sleep, 0);
    match place() {
        Place::Task(hub, fiber) => {
            raise_pending(hub, fiber);
            let control = fiber.header();
            control.begin_park();
            let until = Some(deadline.map_or(Nanos::MAX, clock::nanos));
            while park_task(hub, fiber, reason, until) != Wake::TimedOut {}
        }
        Place::Thread => {
            let parker = current::thread_parker();
            parker.reset();
            loop {
                // Woken means nothing here: a late wake for an earlier wait of this thread.
                block_thread(&parker, deadline);
                raise_thread_frame();
                if deadline.is_some_and(|d| clock::now() >= d) {
                    break;
                }
            }
        }
        Place::Unwinding(hub, fiber) => {
            let parker = ThreadParker::new();
            let limit = clock::deadline(hub.rt.config.unwind_wait);
            if deadline.is_none_or(|at| limit.is_some_and(|limit| at > limit)) {
                abort_unwinding(fiber, reason, "for longer than unwind_wait");
            }
            report::line(&format!(
                "sward: {} sleeps while it unwinds: worker {} is blocked meanwhile",
                describe(&fiber.header().task),
                hub.index
            ));
            if !deadline.is_some_and(clock::pass) {
                parker.wait(deadline);
            }
        }
    }
}

/// Lets other tasks of this worker run first; on an ordinary thread, other threads.
///
/// # Blocking
/// Yields; honours kill and `timeout`. In a task that unwinds, and where parking is forbidden,
/// it does nothing.
///
/// # Examples
/// ```
/// sward_runtime::run(|| sward_runtime::yield_now());
/// ```
#[inline]
pub fn yield_now() {
    match current::caller() {
        Caller::Task(hub, fiber) => {
            if fiber.header().quirks.get() & NO_PARK != 0 || std::thread::panicking() {
                return;
            }
            if hub.is_stale() {
                panic!("{}", fork::TEXT);
            }
            hub.yield_now(fiber);
            raise_pending(hub, fiber);
        }
        Caller::Hub(_) => {}
        Caller::Thread => {
            std::thread::yield_now();
            raise_thread_frame();
        }
    }
}

/// The current task's waiter, to be kept by somebody else: a counted reference.
pub(crate) fn task_waiter(fiber: Fiber) -> (Waiter, u32) {
    let control = fiber.header();
    let park = control.begin_park();
    (Waiter::Task(TaskRef::clone(&control.task), park), park)
}

/// Parks for futures whose wakers somebody keeps: see [`AwaitedOutside`].
static AWAITED: AtomicUsize = AtomicUsize::new(0);

/// Returns how many there are.
pub(crate) fn futures_awaited() -> usize {
    AWAITED.load(Relaxed)
}

/// A wait that something outside the runtime may end, for as long as this lives.
pub(crate) struct AwaitedOutside(());

impl AwaitedOutside {
    pub(crate) fn new() -> Self {
        AWAITED.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for AwaitedOutside {
    fn drop(&mut self) {
        AWAITED.fetch_sub(1, Relaxed);
    }
}

// ---- ordinary threads ---------------------------------------------------------------------------

thread_local! {
    static FRAMES: RefCell<Vec<(u64, ThreadEnd)>> = const { RefCell::new(Vec::new()) };
    static MASKED: Cell<usize> = const { Cell::new(0) };
}

/// What ends a frame of an ordinary thread.
pub(crate) enum ThreadEnd {
    At(Instant),
    Fuse(Arc<Fuse>),
}

impl ThreadEnd {
    fn at(&self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(*at),
            Self::Fuse(_) => None,
        }
    }

    fn has_come(&self, now: Instant) -> bool {
        match self {
            Self::At(at) => *at <= now,
            Self::Fuse(fuse) => fuse.is_blown(),
        }
    }
}

/// The fuses that a blocked thread stands in.
struct InFuses(Vec<(Arc<Fuse>, usize)>);

impl Drop for InFuses {
    fn drop(&mut self) {
        self.0.iter().for_each(|(fuse, place)| fuse.leave(*place));
    }
}

/// The frames of the calling ordinary thread.
pub(crate) struct ThreadFrames;

impl ThreadFrames {
    /// `deadline`, or that of a frame if it is earlier.
    pub(crate) fn earliest(deadline: Option<Instant>) -> Option<Instant> {
        Self::look(|open| open.iter().filter_map(|f| f.1.at()).chain(deadline).min())
    }

    /// Lets fuses wake the thread while it is blocked; one that has blown wakes it at once.
    fn enter_fuses(parker: &Arc<ThreadParker>) -> InFuses {
        let fuses = Self::look(|open| {
            let fuses = open.iter().filter_map(|f| match &f.1 {
                ThreadEnd::At(_) => None,
                ThreadEnd::Fuse(fuse) => Some(fuse.clone()),
            });
            fuses.collect::<Vec<_>>()
        });
        let enter = |fuse: Arc<Fuse>| {
            let place = fuse.enter(Inside::Thread(parker.clone()));
            if place.is_none() {
                parker.wake();
            }
            place.map(|place| (fuse, place))
        };
        InFuses(fuses.into_iter().filter_map(enter).collect())
    }

    /// The outermost frame whose time has passed.
    fn fired() -> Option<u64> {
        Self::look(|open| {
            if open.is_empty() {
                return None;
            }
            let now = clock::now();
            open.iter().find(|f| f.1.has_come(now)).map(|f| f.0)
        })
    }

    /// Looks at the frames that no shield masks; there are none while the thread unwinds.
    fn look<R>(f: impl FnOnce(&[(u64, ThreadEnd)]) -> R) -> R {
        FRAMES.with_borrow(|frames| {
            let open = frames.get(MASKED.get()..).unwrap_or_default();
            f(if std::thread::panicking() { &[] } else { open })
        })
    }

    pub(crate) fn push(id: u64, end: ThreadEnd) {
        FRAMES.with_borrow_mut(|f| f.push((id, end)));
    }

    pub(crate) fn pop() {
        // Dropped outside: it may be the fuse's last reference.
        let last = FRAMES.with_borrow_mut(Vec::pop);
        drop(last);
    }

    /// Masks all frames so far; returns what to restore.
    pub(crate) fn mask() -> usize {
        MASKED.replace(FRAMES.with_borrow(Vec::len))
    }

    pub(crate) fn unmask(before: usize) {
        MASKED.set(before);
    }
}

/// A parker of the calling thread for a new wait.
pub(crate) fn fresh_parker() -> Arc<ThreadParker> {
    let parker = current::thread_parker();
    // Beside the thread and us, only `Task`s and late wakers have references: one that took this
    // thread out of a queue just before its time-out, and would end the new wait.
    if Arc::strong_count(&parker) > 2 {
        return ThreadParker::new();
    }
    std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
    parker.reset();
    parker
}
