//! From spawn to the first instruction, from the last one to the free stack.
//!
//! A task that finds no stack is *starved*: it keeps its place (a shared one in the unstarted
//! queue, a pinned one in `starved`), and the hub starts nothing until a stack comes free here or
//! mail says that one may have elsewhere.

use std::sync::atomic::Ordering::Relaxed;

use super::Hub;
use super::cell::{KILLED, LOCAL, PINNED, STARTED, TaskRef, UNPARKED};
use super::control::{Control, Fiber, HEIRS, KILL};
use super::current;
use super::extras::{Exit, Extras, Listener};
use super::worker::{Mail, Published};
use crate::fiber::FiberRef;
use crate::fiber::stack::{StackSlot, StackSpec};
use crate::fork;
use crate::membarrier;

impl Hub {
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
    pub(super) fn start(&self, task: TaskRef) {
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

    #[inline(never)]
    pub(super) fn finish(&self, fiber: Fiber) {
        // SAFETY: it has ended, `body` cleared the fiber word, parks cancel their timer and leave
        // their queues before they return, so no copy of the reference is left.
        let slot = unsafe { fiber.end() };
        self.stacks.borrow_mut().give_back(slot);
        self.live.set(self.live.get() - 1);
        let published = &self.shared.published;
        published.live.store(self.live.get(), Relaxed);
        Published::add(&published.finished, 1);
        self.stack_came_free();
    }

    /// Tells of a stack that came back those who wait for one.
    #[inline]
    pub(super) fn stack_came_free(&self) {
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
    pub(super) fn ask_for_stack(&self, spec: StackSpec) -> Option<StackSlot> {
        let budget = &self.rt.budget;
        budget.set_starved();
        // A stack that came free before the flag could be seen has called nobody.
        membarrier::heavy();
        let slot = self.stacks.borrow_mut().take(spec).ok();
        if slot.is_none() && budget.in_use() > self.rt.stacks() {
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
    pub(super) fn feed(&self) {
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
}

/// What runs on each new stack: the task from its first instruction to its last.
fn body(fiber: Fiber) {
    let control = fiber.header();
    // SAFETY: the control block's copy is not touched again: `release` forgets it, and the end
    // of this function is the end of the fiber.
    let task = unsafe { std::ptr::read(&raw const *control.task) };
    if let Some(heritage) = task.extras().and_then(Extras::take_heritage)
        && let Some(locals) = control.locals()
    {
        control.quirks.set(control.quirks.get() | HEIRS);
        locals.inherit(*heritage);
    }
    // SAFETY: once, here, on the task's own stack, by the worker that starts it.
    let exit = unsafe { task.run() };
    if fork::is_lost(task.id()) {
        end_of_child(&task);
    }
    control.ended();
    let tell = current::hub().map(|hub| hub.rt.upcalls.tell);
    announce(task, exit, tell);
}

/// Publishes a task's end and tells everybody. A group comes first: whoever has joined the task
/// finds that it is no member any more. `task` is the task's own reference.
fn announce(task: TaskRef, exit: Exit, tell: Option<fn(Listener, Exit)>) {
    let done = task.complete(exit);
    let groups = done.member.and_then(|member| member.end(exit));
    if let Some(joiner) = done.joiner {
        joiner.wake();
    }
    if let Some(tell) = tell {
        done.listeners
            .into_iter()
            .for_each(|listener| tell(listener, exit));
    }
    match groups {
        Some(groups) => task.drop_both(groups),
        None => drop(task),
    }
}

/// Ends a task that will never start: its closure is dropped here and now, and whoever waits is
/// told that it was killed.
///
/// # Safety
/// The task is in no queue any more; the caller is on its worker's thread if it is `LOCAL`.
pub(crate) unsafe fn cancel(task: TaskRef, tell: fn(Listener, Exit)) {
    task.raise(KILLED | STARTED);
    drop(task.extras().and_then(Extras::take_heritage));
    // SAFETY: it has not started and, being in no queue, never will; a killed task's closure is
    // only dropped, which needs no stack of its own (a wait in its destructor panics, and that is
    // caught).
    let exit = unsafe { task.run() };
    announce(task, exit, Some(tell));
}

impl Hub {
    /// Ends every task that this worker, which stops for good, would have started.
    pub(crate) fn cancel_unstarted(&self) {
        let mut tasks: Vec<TaskRef> = self.shared.unstarted.take_oldest(u64::MAX).into();
        tasks.extend(self.starved.borrow_mut().drain(..));
        self.ready.borrow_mut().take_pinned(&mut tasks);
        while let Some(mail) = self.shared.inbox.pop() {
            match mail {
                Mail::Start(task) => tasks.push(task),
                other => self.read(other),
            }
        }
        for task in tasks {
            // SAFETY: taken out of this worker's queues, on this worker's thread.
            unsafe { cancel(task, self.rt.upcalls.tell) };
        }
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
