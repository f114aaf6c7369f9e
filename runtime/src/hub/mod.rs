//! The hub: one worker's loop, and the only code that makes a task runnable or runs it.
//!
//! Nouns: a *slice* is one stretch of a task between two switches; a *batch* is a number of
//! slices after which the hub looks at its mail, the clock and the poller.
//!
//! ```text
//!            +--------------------------------------------------------------+
//!            v                                                              |
//!   batch of slices  ->  mail, injector  ->  due timers  ->  (nothing ready?) idle
//! ```
//!
//! Invariants
//! - A live fiber is in exactly one place: `current`, the ready queue (`Ready`), or parked, and
//!   then reachable from its cell's fiber word, its timer, or wait queues that hold its cell.
//! - Only this thread touches control blocks, so wakes between tasks of one worker are plain
//!   stores; wakes from elsewhere are mail.
//! - No `RefCell` borrow is held across a switch: each borrow ends before `resume`, and code on
//!   a task's stack borrows only inside one method here.
//! - A park has one end: the first of wake, time-out and interrupt makes the task `Ready`; later
//!   ones find it not `Parked` or in another park and do nothing.
//!
//! Fairness: a batch is at most `BATCH` slices and is made shorter when slices are long, so that
//! mail, timers and I/O are looked at about every `TURN` (200 us) or after each slice that is
//! longer than that; at most `DUE` timers are fired at a time.
//!
//! Rejected: a shared run queue with stealing of started tasks (unsound in Rust, design R1);
//! reading the clock at each switch (24 ns of an 8 ns budget).

pub(crate) mod cell;
pub(crate) mod control;
pub(crate) mod current;
pub(crate) mod extras;
mod idle;
pub(crate) mod inbox;
pub(crate) mod listing;
pub(crate) mod ready;
pub(crate) mod shared;
pub(crate) mod timers;
pub(crate) mod unstarted;
pub(crate) mod waiter;
pub(crate) mod worker;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use self::cell::{KILLED, LOCAL, PINNED, STARTED, TaskRef, UNPARKED};
use self::control::{Control, FIRED, Fiber, KILL, State, Wake};
use self::idle::Sleeper;
use self::listing::{Listing, TaskInfo, TaskState};
use self::ready::{Next, ReadyQueue};
use self::shared::RuntimeShared;
use self::timers::{TimerKey, Timers};
use self::worker::{Mail, Published, WorkerShared};
use crate::clock::{self, Nanos};
use crate::fiber::FiberRef;
use crate::fiber::stack::StackPool;
use crate::sync::short_lock::short_locks_held;
use crate::wait_reason::WaitReason;

/// The most slices in a batch.
const BATCH: u32 = 64;
/// How long a batch should last at most.
const TURN: Nanos = 200_000;
/// The most timers fired in one go.
const DUE: usize = 512;
/// The most mail read in one go.
const MAIL: usize = 256;
/// Operations that a task may do without a park before it yields (design R5).
pub(crate) const BUDGET: u32 = 256;

/// What a timer does: a fiber's address, with the lowest bit set for a time-out frame.
#[derive(Clone, Copy)]
struct Target(usize);

pub(crate) struct Hub {
    pub(crate) index: usize,
    pub(crate) shared: &'static WorkerShared,
    pub(crate) rt: Arc<RuntimeShared>,
    current: Cell<Option<Fiber>>,
    /// Operations left to the current task before it yields.
    pub(crate) budget: Cell<u32>,
    ready: RefCell<ReadyQueue>,
    timers: RefCell<Timers<Target>>,
    stacks: RefCell<StackPool>,
    sleeper: RefCell<Sleeper>,
    /// The time as of the last look at the clock.
    now: Cell<Nanos>,
    batch: Cell<u32>,
    live: Cell<usize>,
    ids: Cell<(u64, u64)>,
    /// Starts that wait for a stack: pinned tasks, and the number of shared ones.
    starved: RefCell<VecDeque<TaskRef>>,
    starving: Cell<Option<u32>>,
    stop_at: Cell<Option<Nanos>>,
    on_worker_stack: Cell<bool>,
}

impl Hub {
    pub(crate) fn new(
        index: usize,
        rt: Arc<RuntimeShared>,
        poll: mio::Poll,
    ) -> Self {
        let stacks = StackPool::new(rt.budget.clone());
        Self {
            index,
            shared: rt.workers[index],
            current: Cell::new(None),
            budget: Cell::new(BUDGET),
            ready: RefCell::new(ReadyQueue::new()),
            timers: RefCell::new(Timers::new()),
            stacks: RefCell::new(stacks),
            sleeper: RefCell::new(Sleeper::new(poll)),
            now: Cell::new(clock::now_nanos()),
            batch: Cell::new(BATCH),
            live: Cell::new(0),
            ids: Cell::new((0, 0)),
            starved: RefCell::new(VecDeque::new()),
            starving: Cell::new(None),
            stop_at: Cell::new(None),
            on_worker_stack: Cell::new(false),
            rt,
        }
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<Fiber> {
        self.current.get()
    }

    #[inline]
    pub(crate) fn owns(&self, task: &TaskRef) -> bool {
        task.home().is_some_and(|home| std::ptr::eq(home, self.shared))
    }

    /// A fresh task id.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        let (mut next, mut end) = self.ids.get();
        if next == end {
            (next, end) = self.rt.id_block();
        }
        self.ids.set((next + 1, end));
        next
    }

    // ---- the loop -------------------------------------------------------------------------

    /// Runs until told to stop and nothing is left, or until the deadline of the stop.
    /// `false`: tasks are left that would not end.
    pub(crate) fn run(&self) -> bool {
        loop {
            self.run_batch();
            self.look_around();
            if self.ready.borrow().is_empty() {
                if let Some(at) = self.stop_at.get() {
                    if self.live.get() == 0 && self.nothing_unstarted() {
                        return true;
                    }
                    if self.now.get() >= at {
                        return false;
                    }
                }
                self.idle();
            } else if self.stop_at.get().is_some_and(|at| self.now.get() >= at) {
                return false;
            }
        }
    }

    fn run_batch(&self) {
        for _ in 0..self.batch.get() {
            let Some(next) = self.ready.borrow_mut().next() else { break };
            match next {
                Next::Resume(fiber) => self.slice(fiber),
                Next::Start(task) => self.start(task),
                Next::StartShared => {
                    if let Some(task) = self.shared.unstarted.pop() {
                        self.start(task);
                    }
                }
            }
        }
    }

    /// Reads mail, takes injected tasks, fires due timers, and fits the batch to the slices.
    fn look_around(&self) {
        for _ in 0..MAIL {
            let Some(mail) = self.shared.inbox.pop() else { break };
            self.read(mail);
        }
        if !self.rt.injector.is_empty() {
            self.take_injected();
        }
        let now = clock::now_nanos();
        let took = now.saturating_sub(self.now.replace(now));
        let batch = self.batch.get();
        if took > TURN {
            self.batch.set((batch / 2).max(1));
        } else if batch < BATCH {
            self.batch.set((batch * 2).min(BATCH));
        }
        let published = &self.shared.published;
        published.looked.store(now, Relaxed);
        published.ready.store(self.ready.borrow().len(), Relaxed);
        self.fire_due(now);
        self.sleeper.borrow_mut().poll_if_due(now, published);
    }

    fn fire_due(&self, now: Nanos) {
        let mut timers = self.timers.borrow_mut();
        let mut due: [Target; 64] = [Target(0); 64];
        let mut left = DUE;
        while left > 0 && timers.len() > 0 {
            let mut n = 0;
            timers.expire(now, due.len(), |target| {
                due[n] = target;
                n += 1;
            });
            drop(timers);
            for &target in &due[..n] {
                self.fire(target, now);
            }
            timers = self.timers.borrow_mut();
            left = left.saturating_sub(n.max(1));
            if n < due.len() {
                break;
            }
        }
        self.shared.published.timers.store(timers.len(), Relaxed);
    }

    fn fire(&self, target: Target, now: Nanos) {
        // SAFETY: a fiber's timers are cancelled before it ends, and its word carries one tag bit.
        let fiber: Fiber = unsafe { FiberRef::from_word(target.0 & !1) };
        let control = fiber.header();
        if target.0 & 1 == 0 {
            control.timer.set(None);
            if control.state.get() == State::Parked {
                self.make_ready(fiber, Wake::TimedOut);
            }
            return;
        }
        for frame in control.frames.borrow_mut().iter_mut() {
            if frame.deadline <= now && !frame.fired {
                frame.fired = true;
                frame.timer = None;
            }
        }
        control.attention.set(control.attention.get() | FIRED);
        self.interrupt_if_pending(fiber);
    }

    fn take_injected(&self) {
        let mut n = 0;
        while n < 64
            && let Some(task) = self.rt.injector.pop()
        {
            self.enqueue(task);
            n += 1;
        }
        if n > 0 {
            if !self.rt.injector.is_empty() {
                // More than one worker's share: let another one take its part.
                let _ = self.rt.workers.iter().any(|w| w.rouse());
            }
        }
    }

    fn read(&self, mail: Mail) {
        match mail {
            Mail::Wake(task, park) => self.wake(&task, park),
            Mail::Unpark(task) => self.unpark(&task),
            Mail::Interrupt(task) => self.interrupt(&task),
            Mail::Start(task) => self.enqueue_pinned(task),
            Mail::List(request) => {
                request.answer(Listing { worker: self.index, tasks: self.list() });
            }
            Mail::StackFreed => self.feed(),
            Mail::Shutdown(at) => self.stop(at),
        }
    }

    // ---- tasks ----------------------------------------------------------------------------

    /// Puts a task that any worker may start into this worker's line.
    #[inline]
    pub(crate) fn enqueue(&self, task: TaskRef) {
        if self.stop_at.get().is_some() {
            task.raise(KILLED);
        }
        self.shared.unstarted.push(task);
        self.ready.borrow_mut().push_shared(1);
        self.rt.call_searcher();
    }

    /// Puts a task that only this worker may start into its line.
    pub(crate) fn enqueue_pinned(&self, task: TaskRef) {
        if self.stop_at.get().is_some() {
            task.raise(KILLED);
        }
        task.set_home(self.shared);
        self.ready.borrow_mut().push_pinned(task);
    }

    fn start(&self, task: TaskRef) {
        let spec = match task.extras() {
            Some(extras) => extras.spec().unwrap_or(self.rt.config.spec),
            None => self.rt.config.spec,
        };
        if self.starving.get().is_some() {
            return self.starve(task);
        }
        let Ok(slot) = self.stacks.borrow_mut().take(spec) else { return self.starve(task) };
        // `home` before STARTED: a killer that finds STARTED set finds the home too.
        task.set_home(self.shared);
        let flags = task.raise(STARTED);
        // SAFETY: this worker makes, runs and releases the fiber; it is released in `finish`
        // after the cell's fiber word, the timer and the wait queues have let go of it.
        let fiber = unsafe { FiberRef::create(slot, Control::new(task, self.now.get()), body) };
        let control = fiber.header();
        control.task.set_fiber_word(fiber.to_word());
        control.permit.set(flags & UNPARKED != 0);
        if flags & KILLED != 0 {
            control.attention.set(KILL);
        }
        let published = &self.shared.published;
        self.live.set(self.live.get() + 1);
        published.live.store(self.live.get(), Relaxed);
        Published::add(&published.started, 1);
        self.slice(fiber);
    }

    #[inline]
    fn slice(&self, fiber: Fiber) {
        let control = fiber.header();
        control.state.set(State::Running);
        let published = &self.shared.published;
        published.running.store(control.id, Relaxed);
        published.site.store(std::ptr::from_ref(control.site).cast_mut(), Relaxed);
        Published::add(&published.switches, 1);
        self.budget.set(BUDGET);
        self.current.set(Some(fiber));
        // SAFETY: this is the owner thread, in its loop and so on no fiber; a fiber in the ready
        // queue has not ended.
        let ended = unsafe { fiber.resume() };
        self.current.set(None);
        published.running.store(0, Relaxed);
        if ended {
            self.finish(fiber);
        }
    }

    fn finish(&self, fiber: Fiber) {
        // SAFETY: it has ended, `body` cleared the fiber word, parks cancel their timer and leave
        // their queues before they return, so no copy of the reference is left.
        let (_control, slot) = unsafe { fiber.release() };
        self.stacks.borrow_mut().give_back(slot);
        self.live.set(self.live.get() - 1);
        let published = &self.shared.published;
        published.live.store(self.live.get(), Relaxed);
        Published::add(&published.finished, 1);
        if self.starving.get().is_some() {
            self.feed();
        }
        if self.rt.budget.take_starved() {
            self.rt.stack_freed();
        }
    }

    /// Keeps a task that found no stack for when one comes free.
    #[cold]
    fn starve(&self, task: TaskRef) {
        let shared = self.starving.get().unwrap_or(0);
        if task.flags() & (PINNED | LOCAL) == 0 {
            self.shared.unstarted.put_back(task);
            self.starving.set(Some(shared + 1));
        } else {
            self.starved.borrow_mut().push_back(task);
            self.starving.set(Some(shared));
        }
        self.rt.budget.set_starved();
    }

    /// Lines the starved up again.
    #[cold]
    fn feed(&self) {
        let Some(shared) = self.starving.take() else { return };
        let mut ready = self.ready.borrow_mut();
        for task in self.starved.borrow_mut().drain(..) {
            ready.push_pinned(task);
        }
        if shared > 0 {
            ready.push_shared(shared);
        }
    }

    // ---- wakes (this worker's tasks only) ---------------------------------------------------

    fn fiber_of(&self, task: &TaskRef) -> Option<Fiber> {
        debug_assert!(self.owns(task) || task.fiber_word() == 0);
        match task.fiber_word() {
            0 => None,
            // SAFETY: set at the start and cleared before the end, both by this worker.
            word => Some(unsafe { FiberRef::from_word(word) }),
        }
    }

    /// Ends the park with that number, if it still lasts.
    #[inline]
    pub(crate) fn wake(&self, task: &TaskRef, park: u32) {
        if let Some(fiber) = self.fiber_of(task) {
            let control = fiber.header();
            if control.park.get() == park && control.state.get() == State::Parked {
                Published::add(&self.shared.published.wakes, 1);
                self.make_ready(fiber, Wake::Woken);
            }
        }
    }

    /// Gives the task its permit, or ends the park that waits for it.
    pub(crate) fn unpark(&self, task: &TaskRef) {
        let Some(fiber) = self.fiber_of(task) else { return };
        let control = fiber.header();
        control.permit.set(true);
        let waits = control.reason.get().kind() == crate::wait_reason::WaitKind::Park;
        if waits && control.state.get() == State::Parked {
            self.make_ready(fiber, Wake::Woken);
        }
    }

    /// Tells the task of a kill.
    pub(crate) fn interrupt(&self, task: &TaskRef) {
        let Some(fiber) = self.fiber_of(task) else { return };
        let control = fiber.header();
        if task.flags() & KILLED != 0 {
            control.attention.set(control.attention.get() | KILL);
        }
        self.interrupt_if_pending(fiber);
    }

    fn interrupt_if_pending(&self, fiber: Fiber) {
        let control = fiber.header();
        if control.state.get() == State::Parked && control.pending().is_some() {
            self.make_ready(fiber, Wake::Interrupted);
        }
    }

    #[inline]
    fn make_ready(&self, fiber: Fiber, wake: Wake) {
        let control = fiber.header();
        control.state.set(State::Ready);
        control.wake.set(wake);
        if let Some(timer) = control.timer.take() {
            self.timers.borrow_mut().cancel(timer);
        }
        self.ready.borrow_mut().push(fiber);
    }

    // ---- called on a task's stack -----------------------------------------------------------

    /// Parks the current task until something makes it ready, and says what.
    #[inline]
    pub(crate) fn park(&self, fiber: Fiber, reason: WaitReason, deadline: Option<Nanos>) -> Wake {
        debug_assert_eq!(short_locks_held(), 0, "a park while a ShortLock is held");
        let control = fiber.header();
        control.reason.set(reason);
        control.since.set(self.now.get());
        if let Some(deadline) = deadline {
            let key = self.timers.borrow_mut().insert(deadline, Target(fiber.to_word()));
            control.timer.set(Some(key));
        }
        control.state.set(State::Parked);
        self.switch(fiber);
        control.wake.get()
    }

    /// Lets others run first.
    #[inline]
    pub(crate) fn yield_now(&self, fiber: Fiber) {
        fiber.header().state.set(State::Ready);
        self.ready.borrow_mut().push(fiber);
        self.switch(fiber);
    }

    #[inline]
    fn switch(&self, fiber: Fiber) {
        let control = fiber.header();
        if control.hooked.get() {
            control.switched_out();
        }
        // SAFETY: `fiber` is current (the callers got it from `Caller::Task`), so this runs on it.
        unsafe { fiber.suspend() };
        if control.hooked.get() {
            control.switched_in();
        }
    }

    /// Arms a time-out frame's timer.
    pub(crate) fn arm_frame(&self, fiber: Fiber, deadline: Nanos) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, Target(fiber.to_word() | 1))
    }

    pub(crate) fn cancel_timer(&self, key: TimerKey) {
        self.timers.borrow_mut().cancel(key);
    }

    /// Runs `f` on this thread's own stack. The current task must not park meanwhile.
    pub(crate) fn on_worker_stack<R>(&self, fiber: Fiber, f: impl FnOnce() -> R) -> R {
        let outer = self.on_worker_stack.replace(true);
        struct Back<'a>(&'a Cell<bool>, bool);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _back = Back(&self.on_worker_stack, outer);
        if outer {
            return f();
        }
        // SAFETY: `fiber` is current, and every park looks at `on_worker_stack` first.
        unsafe { fiber.on_parent_stack(f) }
    }

    pub(crate) fn is_on_worker_stack(&self) -> bool {
        self.on_worker_stack.get()
    }

    // ---- sight and end ----------------------------------------------------------------------

    fn for_each_fiber(&self, mut f: impl FnMut(Fiber)) {
        self.stacks.borrow().for_each_live(&mut |top, colour| {
            // SAFETY: a slot is taken and gets its fiber in one go in `start`, and is given back
            // only after the fiber's release.
            f(unsafe { FiberRef::at(top, colour) });
        });
    }

    /// Describes all tasks of this worker, started or not.
    pub(crate) fn list(&self) -> Vec<TaskInfo> {
        let mut tasks = Vec::with_capacity(self.live.get());
        self.for_each_fiber(|fiber| {
            let c = fiber.header();
            let state = match c.state.get() {
                State::Running => TaskState::Running,
                State::Ready => TaskState::Ready,
                State::Parked => TaskState::Parked,
            };
            tasks.push(info(&c.task, state, c.reason.get(), c.since.get()));
        });
        let unstarted = |task: &TaskRef| info(task, TaskState::Unstarted, WaitReason::NONE, 0);
        self.shared.unstarted.for_each(|task| tasks.push(unstarted(task)));
        tasks.extend(self.ready.borrow().pinned().map(unstarted));
        tasks.extend(self.starved.borrow().iter().map(unstarted));
        tasks
    }

    /// Whether a started task of this worker has that id.
    pub(crate) fn has_task(&self, id: u64) -> bool {
        let mut found = false;
        self.for_each_fiber(|fiber| found |= fiber.header().id == id);
        found
    }

    pub(crate) fn census(&self) -> crate::fiber::stack::StackCensus {
        self.stacks.borrow().census()
    }

    fn nothing_unstarted(&self) -> bool {
        self.shared.unstarted.len() == 0
            && self.rt.injector.is_empty()
            && self.starved.borrow().is_empty()
            && self.shared.inbox.is_empty()
    }

    /// Begins to end: kills every task, started or not.
    fn stop(&self, at: Nanos) {
        self.stop_at.set(Some(self.stop_at.get().map_or(at, |have| have.min(at))));
        self.shared.unstarted.for_each(|task| {
            task.raise(KILLED);
        });
        for task in self.ready.borrow().pinned().chain(self.starved.borrow().iter()) {
            task.raise(KILLED);
        }
        while let Some(task) = self.rt.injector.pop() {
            self.enqueue(task);
        }
        let mut fibers = Vec::with_capacity(self.live.get());
        self.for_each_fiber(|fiber| fibers.push(fiber));
        for fiber in fibers {
            let control = fiber.header();
            control.task.raise(KILLED);
            control.attention.set(control.attention.get() | KILL);
            self.interrupt_if_pending(fiber);
        }
        self.feed();
    }
}

fn info(task: &TaskRef, state: TaskState, reason: WaitReason, since: Nanos) -> TaskInfo {
    TaskInfo {
        id: task.id(),
        name: task.name().map(str::to_owned),
        site: task.site(),
        state,
        reason,
        since,
        killed: task.flags() & KILLED != 0,
    }
}

/// What runs on each new stack: the task from its first instruction to its last.
fn body(fiber: Fiber) {
    let control = fiber.header();
    // SAFETY: the control block's copy is not touched again: `release` forgets it, and the end
    // of this function is the end of the fiber.
    let task = unsafe { std::ptr::read(&raw const *control.task) };
    // SAFETY: once, here, on the task's own stack, by the worker that starts it.
    let exit = unsafe { task.run() };
    control.ended();
    let done = task.complete(exit);
    if let Some(joiner) = done.joiner {
        joiner.wake();
    }
    for listener in done.listeners {
        crate::task::tell(listener, exit);
    }
}

pub(crate) fn build_poll() -> io::Result<(mio::Poll, mio::Waker)> {
    let poll = mio::Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), idle::BELL)?;
    Ok((poll, waker))
}
