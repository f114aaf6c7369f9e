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
pub(crate) mod question;
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
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use self::cell::{KILLED, LOCAL, PINNED, STARTED, TaskRef, UNPARKED};
use self::control::{Control, FIRED, Fiber, HOOKED, KILL, Wake};
use self::idle::Sleeper;
use self::question::{TaskInfo, TaskState};
use self::ready::{Next, ReadyQueue};
use self::shared::RuntimeShared;
use self::timers::{TimerKey, Timers};
use self::worker::{Mail, Published, WorkerShared};
use crate::clock::{self, Nanos};
use crate::fiber::FiberRef;
use crate::fiber::stack::{StackPool, StackSlot, StackSpec};
use crate::fork;
use crate::membarrier;
use crate::sync::short_lock::short_locks_held;
use crate::wait_reason::WaitReason;

/// The most slices in a batch.
const BATCH: u32 = 128;
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
    /// Counted in `RuntimeShared::ended`.
    ended: Cell<bool>,
    /// The process generation that this hub belongs to.
    epoch: fork::Epoch,
    epoch_page: &'static AtomicU64,
}

impl Hub {
    pub(crate) fn new(index: usize, rt: Arc<RuntimeShared>, poll: mio::Poll) -> Self {
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
            ended: Cell::new(false),
            epoch: rt.epoch,
            epoch_page: fork::page(),
            rt,
        }
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<Fiber> {
        self.current.get()
    }

    #[inline]
    pub(crate) fn owns(&self, task: &TaskRef) -> bool {
        task.home()
            .is_some_and(|home| std::ptr::eq(home, self.shared))
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
                    if self.all_ended() {
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
            let Some(next) = self.ready.borrow_mut().next() else {
                break;
            };
            match next {
                Next::Resume(fiber) => self.slice(fiber),
                Next::Start(task) => self.start(task),
                Next::StartShared => {
                    if let Some(n) = self.starving.get() {
                        let more = self.ready.borrow_mut().take_shared().saturating_add(1);
                        self.starving.set(Some(n.saturating_add(more)));
                    } else if let Some(task) = self.shared.unstarted.pop() {
                        self.start(task);
                    }
                }
            }
        }
    }

    /// Reads mail, takes injected tasks, fires due timers, and fits the batch to the slices.
    fn look_around(&self) {
        if !self.shared.inbox.is_empty() {
            self.read_mail();
        }
        if !self.rt.injector.is_empty() {
            self.take_injected();
        }
        let now = clock::now_nanos();
        let took = now.saturating_sub(self.now.replace(now));
        let batch = self.batch.get();
        if took > TURN {
            let fits = Nanos::from(batch) * TURN / took;
            self.batch.set(u32::try_from(fits).unwrap_or(1).max(1));
        } else if batch < BATCH {
            self.batch.set((batch * 2).min(BATCH));
        }
        let published = &self.shared.published;
        published.looked.store(now, Relaxed);
        published.running.store(0, Relaxed);
        published.ready.store(self.ready.borrow().len(), Relaxed);
        self.fire_due(now);
        self.sleeper.borrow_mut().poll_if_due(now, published);
    }

    fn read_mail(&self) {
        for _ in 0..MAIL {
            let Some(mail) = self.shared.inbox.pop() else {
                break;
            };
            self.read(mail);
        }
    }

    fn fire_due(&self, now: Nanos) {
        let mut due: [Target; 64] = [Target(0); 64];
        let mut left = DUE;
        loop {
            let mut n = 0;
            let mut timers = self.timers.borrow_mut();
            if timers.len() == 0 {
                break;
            }
            timers.expire(now, due.len(), |target| {
                due[n] = target;
                n += 1;
            });
            // A call may have spent its limit on moving timers down the wheel.
            let more = timers.has_due();
            drop(timers);
            for &target in &due[..n] {
                self.fire(target, now);
            }
            left = left.saturating_sub(n.max(due.len() / 8));
            if !more || left == 0 {
                break;
            }
        }
        self.shared
            .published
            .timers
            .store(self.timers.borrow().len(), Relaxed);
    }

    fn fire(&self, target: Target, now: Nanos) {
        // SAFETY: a fiber's timers are cancelled before it ends, and its word carries one tag bit.
        let fiber: Fiber = unsafe { FiberRef::from_word(target.0 & !1) };
        let control = fiber.header();
        if target.0 & 1 == 0 {
            control.timer.set(None);
            if control.parked.get() {
                self.make_ready(fiber, Wake::TimedOut);
            }
            return;
        }
        for frame in control.frames.borrow_mut().iter_mut() {
            // Its timer may still be pending, if this is another frame's: the key is kept, so that
            // the frame's end cancels it.
            frame.fired |= frame.deadline <= now;
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
        if n > 0 && !self.rt.injector.is_empty() {
            // More than one worker's share: let another one take its part.
            let _ = self.rt.workers.iter().any(|w| w.rouse());
        }
    }

    fn read(&self, mail: Mail) {
        match mail {
            Mail::Wake(task, park) => self.wake(&task, park),
            Mail::Unpark(task) => self.unpark(&task),
            Mail::Interrupt(task) => self.interrupt(&task),
            Mail::Start(task) => self.enqueue_pinned(task),
            Mail::List(question) => question.answer(self.index, self.list()),
            Mail::Census(question) => question.answer(self.index, self.census()),
            Mail::StackFreed => {
                if self.starving.get().is_none() && self.rt.budget.starved() {
                    self.stacks.borrow_mut().release_credits();
                    if self.rt.budget.take_starved() {
                        self.rt.stack_freed();
                    }
                }
                self.feed();
            }
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

    #[inline(never)]
    fn start(&self, task: TaskRef) {
        let spec = match task.extras() {
            Some(extras) => extras.spec().unwrap_or(self.rt.config.spec),
            None => self.rt.config.spec,
        };
        if self.starving.get().is_some() {
            return self.starve(task);
        }
        let slot = self.stacks.borrow_mut().take(spec);
        let Some(slot) = slot.ok().or_else(|| self.ask_for_stack(spec)) else {
            return self.starve(task);
        };
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

    #[inline(always)]
    fn slice(&self, fiber: Fiber) {
        let control = fiber.header();
        let published = &self.shared.published;
        published.running.store(control.id, Relaxed);
        published
            .site
            .store(std::ptr::from_ref(control.site).cast_mut(), Relaxed);
        Published::add(&published.switches, 1);
        self.budget.set(BUDGET);
        self.current.set(Some(fiber));
        // SAFETY: this is the owner thread, in its loop and so on no fiber; a fiber in the ready
        // queue has not ended.
        let ended = unsafe { fiber.resume() };
        self.current.set(None);
        if ended {
            self.finish(fiber);
        }
    }

    #[inline(never)]
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
        // Pairs with the heavy barrier in `ask_for_stack`: either we see the flag, or a worker that
        // starves sees what we have just published.
        membarrier::light();
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
    }

    /// Tells everybody that a stack is wanted, and tries once more.
    #[cold]
    fn ask_for_stack(&self, spec: StackSpec) -> Option<StackSlot> {
        let budget = &self.rt.budget;
        budget.set_starved();
        // A stack that came free before the flag could be seen has called nobody.
        membarrier::heavy();
        let slot = self.stacks.borrow_mut().take(spec).ok();
        if slot.is_none() && budget.in_use() > self.rt.live() {
            // Others have credits in reserve, and give them up when they read this.
            let others = self
                .rt
                .workers
                .iter()
                .filter(|w| !std::ptr::eq(**w, self.shared));
            others.for_each(|w| w.send(Mail::StackFreed));
        }
        slot
    }

    /// Lines the starved up again.
    #[cold]
    fn feed(&self) {
        let Some(shared) = self.starving.take() else {
            return;
        };
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
            if control.park.get() == park && control.parked.get() {
                Published::add(&self.shared.published.wakes, 1);
                self.make_ready(fiber, Wake::Woken);
            }
        }
    }

    /// Gives the task its permit, or ends the park that waits for it.
    pub(crate) fn unpark(&self, task: &TaskRef) {
        let Some(fiber) = self.fiber_of(task) else {
            return;
        };
        let control = fiber.header();
        control.permit.set(true);
        let waits = control.reason.get().kind() == crate::wait_reason::WaitKind::Park;
        if waits && control.parked.get() {
            self.make_ready(fiber, Wake::Woken);
        }
    }

    /// Tells the task of a kill.
    pub(crate) fn interrupt(&self, task: &TaskRef) {
        let Some(fiber) = self.fiber_of(task) else {
            return;
        };
        let control = fiber.header();
        if task.flags() & KILLED != 0 {
            control.attention.set(control.attention.get() | KILL);
        }
        self.interrupt_if_pending(fiber);
    }

    fn interrupt_if_pending(&self, fiber: Fiber) {
        let control = fiber.header();
        if control.parked.get() && control.pending().is_some() {
            self.make_ready(fiber, Wake::Interrupted);
        }
    }

    #[inline]
    fn make_ready(&self, fiber: Fiber, wake: Wake) {
        let control = fiber.header();
        control.parked.set(false);
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
        self.prepare_park(fiber, reason, deadline);
        self.switch(fiber);
        fiber.header().wake.get()
    }

    /// Says why and until when the current task will be parked; the caller then switches.
    #[inline]
    pub(crate) fn prepare_park(&self, fiber: Fiber, reason: WaitReason, deadline: Option<Nanos>) {
        debug_assert_eq!(short_locks_held(), 0, "a park while a ShortLock is held");
        let control = fiber.header();
        control.reason.set(reason);
        control.since.set(self.now.get());
        if let Some(deadline) = deadline {
            let target = Target(fiber.to_word());
            let key = self.timers.borrow_mut().insert(deadline, target);
            control.timer.set(Some(key));
        }
        control.parked.set(true);
    }

    /// Lets others run first.
    #[inline]
    pub(crate) fn yield_now(&self, fiber: Fiber) {
        self.ready.borrow_mut().push(fiber);
        self.switch(fiber);
    }

    /// Switches from the current task to the hub, until it is resumed.
    #[inline(always)]
    pub(crate) fn switch(&self, fiber: Fiber) {
        let control = fiber.header();
        if control.quirks.get() & HOOKED != 0 {
            control.switched_out();
        }
        // SAFETY: `fiber` is current (the callers got it from `Caller::Task`), so this runs on it.
        unsafe { fiber.suspend() };
        if control.quirks.get() & HOOKED != 0 {
            control.switched_in();
        }
    }

    /// Arms a time-out frame's timer.
    pub(crate) fn arm_frame(&self, fiber: Fiber, deadline: Nanos) -> TimerKey {
        self.timers
            .borrow_mut()
            .insert(deadline, Target(fiber.to_word() | 1))
    }

    pub(crate) fn cancel_timer(&self, key: TimerKey) {
        self.timers.borrow_mut().cancel(key);
    }

    /// Runs `f` on this thread's own stack. The caller makes sure that the current task does not
    /// park meanwhile, and is not on that stack already.
    pub(crate) fn on_worker_stack<R>(&self, fiber: Fiber, f: impl FnOnce() -> R) -> R {
        // SAFETY: `fiber` is current, and `Control::on_worker_stack` keeps it from parking.
        unsafe { fiber.on_parent_stack(f) }
    }

    /// Whether this is a forked child, where the hub's poller and the other workers are not ours.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        !self.epoch.is_on(self.epoch_page)
    }

    // ---- sight and end ----------------------------------------------------------------------

    fn for_each_fiber(&self, mut f: impl FnMut(Fiber)) {
        self.stacks.borrow().for_each_live(&mut |top, offset| {
            // SAFETY: a slot is taken and gets its fiber in one go in `start`, and is given back
            // only after the fiber's release.
            f(unsafe { FiberRef::at(top, offset) });
        });
    }

    /// Describes all tasks of this worker, started or not.
    pub(crate) fn list(&self) -> Vec<TaskInfo> {
        let mut tasks = Vec::with_capacity(self.live.get());
        self.for_each_fiber(|fiber| {
            let c = fiber.header();
            let state = match c.parked.get() {
                true => TaskState::Parked,
                false if self.current.get() == Some(fiber) => TaskState::Running,
                false => TaskState::Ready,
            };
            tasks.push(info(&c.task, state, c.reason.get(), c.since.get()));
        });
        let unstarted = |task: &TaskRef| info(task, TaskState::Unstarted, WaitReason::NONE, 0);
        self.shared
            .unstarted
            .for_each(|task| tasks.push(unstarted(task)));
        self.ready
            .borrow()
            .for_each_pinned(|task| tasks.push(unstarted(task)));
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

    /// Whether no task is left on any worker. Until then this one stays: a task that still runs
    /// elsewhere may place others here.
    fn all_ended(&self) -> bool {
        let (ended, all) = (&self.rt.ended, self.rt.workers.len());
        let mine = self.live.get() == 0 && self.nothing_unstarted();
        match (self.ended.replace(mine), mine) {
            // The last one lets the others have another look.
            (false, true) if ended.fetch_add(1, AcqRel) + 1 == all => self.rt.stack_freed(),
            (true, false) => drop(ended.fetch_sub(1, AcqRel)),
            _ => {}
        }
        mine && ended.load(Acquire) == all
    }

    fn nothing_unstarted(&self) -> bool {
        self.shared.unstarted.len() == 0
            && self.rt.injector.is_empty()
            && self.starved.borrow().is_empty()
            && self.shared.inbox.is_empty()
    }

    /// Begins to end: kills every task, started or not.
    fn stop(&self, at: Nanos) {
        self.stop_at
            .set(Some(self.stop_at.get().map_or(at, |have| have.min(at))));
        self.shared.unstarted.for_each(|task| {
            task.raise(KILLED);
        });
        self.ready.borrow().for_each_pinned(|task| {
            task.raise(KILLED);
        });
        for task in self.starved.borrow().iter() {
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
    if fork::is_lost(task.id()) {
        end_of_child(&task);
    }
    control.ended();
    let tell = current::hub().map(|hub| hub.rt.upcalls.tell);
    let done = task.complete(exit);
    if let Some(joiner) = done.joiner {
        joiner.wake();
    }
    if let Some(tell) = tell {
        done.listeners
            .into_iter()
            .for_each(|listener| tell(listener, exit));
    }
}

/// The task has forked, and its copy in the child is at its bottom: nothing is left there that
/// could go on.
#[cold]
fn end_of_child(task: &TaskRef) -> ! {
    crate::report::line(&format!(
        "sward: the child that task {} '{}' spawned at {} forked has come to the end of the task; \
         exiting with status 1 (call _exit or exec in the child before)",
        task.id(),
        task.name().unwrap_or("unnamed"),
        task.site()
    ));
    // SAFETY: a number and nothing else.
    unsafe { libc::_exit(1) }
}

pub(crate) fn build_poll() -> io::Result<(mio::Poll, mio::Waker)> {
    let poll = mio::Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), idle::BELL)?;
    Ok((poll, waker))
}
