//! Parks and what ends them: wakes, timers and interrupts of this worker's tasks.
//!
//! The first half runs in the hub or on another task's stack, and only marks tasks ready; the
//! second runs on the stack of the task that parks.

use std::sync::atomic::Ordering::Relaxed;

use super::cell::{KILLED, TaskRef};
use super::control::{DESCRIBE, FIRED, Fiber, FrameEnd, HOOKED, KILL, Probe, Wake};
use super::poller::Token;
use super::timers::TimerKey;
use super::worker::Published;
use super::{Hub, Target};
use crate::clock::Nanos;
use crate::fiber::FiberRef;
use crate::sync::short_lock::short_locks_held;
use crate::wait_reason::{WaitKind, WaitReason};

/// The most timers fired in one go; fewer while those fired before have not run yet.
const DUE: usize = 512;

impl Hub {
    pub(super) fn fire_due(&self, now: Nanos) {
        let mut due: [Target; 64] = [Target(0); 64];
        let waiting = self.ready.borrow().fast_len();
        let mut left = DUE.saturating_sub(waiting).max(due.len());
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
        if target.0 & Target::TOKEN != 0 {
            return self.fire_token(Token::from_word(target.0 >> 2));
        }
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
        let waits = control.reason.get().kind() == WaitKind::Park;
        if waits && control.parked.get() {
            self.make_ready(fiber, Wake::Woken);
        }
    }

    /// Tells the task of a kill, or of a fuse that has blown.
    pub(crate) fn interrupt(&self, task: &TaskRef) {
        let Some(fiber) = self.fiber_of(task) else {
            return;
        };
        let control = fiber.header();
        if task.flags() & KILLED != 0 {
            control.attention.set(control.attention.get() | KILL);
        }
        for frame in control.frames.borrow_mut().iter_mut() {
            if let FrameEnd::Fuse(fuse) = &frame.end
                && fuse.is_blown()
            {
                frame.fired = true;
                control.attention.set(control.attention.get() | FIRED);
            }
        }
        self.interrupt_if_pending(fiber);
    }

    pub(super) fn interrupt_if_pending(&self, fiber: Fiber) {
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
        let mut ready = self.ready.borrow_mut();
        // Unlimited in the hub's own code; while a task of the fast line runs, what is sure to
        // run before that task's next turn; 0 while one of the main line does.
        if self.fast.get() > ready.fast_len() {
            ready.push_fast(fiber);
        } else {
            ready.push(fiber);
        }
    }

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
        // SAFETY: `fiber` is current (the callers got it from `Caller::Task`), so this runs on it,
        // or on a generator's that was resumed from it.
        unsafe { fiber.suspend() };
        if control.quirks.get() & (HOOKED | DESCRIBE) != 0 {
            self.resumed(fiber);
        }
    }

    /// Switches out of a wait for a lock that can say who has it.
    #[inline(always)]
    pub(crate) fn switch_for(&self, fiber: Fiber, probe: Probe) {
        fiber.header().probe.set(Some(probe));
        self.switch(fiber);
        fiber.header().probe.set(None);
    }

    /// The rest of `switch` for a task that has to do something about it.
    #[cold]
    #[inline(never)]
    fn resumed(&self, fiber: Fiber) {
        let control = fiber.header();
        while control.quirks.get() & DESCRIBE != 0 {
            control.quirks.set(control.quirks.get() & !DESCRIBE);
            self.describe_myself(fiber);
            // SAFETY: `fiber` runs here, resumed by `describe`: it goes back to where it was.
            unsafe { fiber.suspend() };
        }
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
}
