//! The roll of this worker's tasks: for the dump, and to end them all.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::Hub;
use super::cell::{KILLED, TaskRef};
use super::control::{Fiber, KILL};
use super::question::{TaskInfo, TaskState};
use crate::clock::Nanos;
use crate::fiber::FiberRef;
use crate::fiber::stack::StackCensus;
use crate::wait_reason::WaitReason;

impl Hub {
    pub(super) fn for_each_fiber(&self, mut f: impl FnMut(Fiber)) {
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

    pub(crate) fn census(&self) -> StackCensus {
        self.stacks.borrow().census()
    }

    /// Whether no task is left on any worker. Until then this one stays: a task that still runs
    /// elsewhere may place others here.
    pub(super) fn all_ended(&self) -> bool {
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

    pub(super) fn nothing_unstarted(&self) -> bool {
        self.shared.unstarted.len() == 0
            && self.rt.injector.is_empty()
            && self.starved.borrow().is_empty()
            && self.shared.inbox.is_empty()
    }

    /// Begins to end: kills every task, started or not.
    pub(super) fn stop(&self, at: Nanos) {
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
