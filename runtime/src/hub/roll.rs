//! The roll of this worker's tasks: for the dump, and to end them all.
//!
//! A task that is to tell its return addresses is resumed with `DESCRIBE` set; in `Hub::switch` it
//! walks its own stack and suspends again. Rejected: walking a suspended stack from outside, from
//! the registers that corosensei saved (its layout is private, and the unwinder has no such entry).

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::cell::{KILLED, TaskRef};
use super::control::{DESCRIBE, Fiber, KILL};
use super::question::{Listing, Roll, RollCall, TaskInfo, TaskState, Traced};
use super::worker::Mail;
use super::{Hub, TURN};
use crate::clock::{self, Nanos};
use crate::fiber::FiberRef;
use crate::fiber::stack::StackCensus;
use crate::fiber::trace::{self, From, Walk};
use crate::wait_reason::WaitReason;

/// How many tasks a worker tells of between two looks at the clock; between two batches it tells for
/// one `TURN`.
const PORTION: usize = 64;
/// What a task must have left of its stack to tell its return addresses: it takes 0.3 KiB in optimised
/// code, 1 KiB without.
const ROOM: usize = 2048;

impl Hub {
    pub(super) fn for_each_fiber(&self, mut f: impl FnMut(Fiber)) {
        self.stacks.borrow().for_each_live(&mut |top, offset| {
            // SAFETY: a slot is taken and gets its fiber in one go in `start`, and is given back
            // only after the fiber's release.
            f(unsafe { FiberRef::at(top, offset) });
        });
    }

    /// Describes all tasks of this worker, started or not, in one go.
    ///
    /// With `traces` it resumes others, so it runs on the worker's own stack.
    pub(crate) fn list(&self, call: RollCall) -> Listing {
        let mut told = Listing::default();
        self.list_unstarted(call, &mut told);
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = self.list_some(call, at, &mut told);
        }
        told
    }

    /// Tells the next portion of a roll; the rest is mail to itself.
    pub(super) fn go_on_with(&self, mut roll: Box<Roll>) {
        if !roll.question.is_wanted() {
            return;
        }
        let at = roll.cursor.unwrap_or_else(|| {
            // First, and told twice if it starts meanwhile: else it could be missed.
            self.list_unstarted(roll.call, &mut roll.told);
            0
        });
        let begun = clock::real_nanos();
        roll.cursor = Some(at);
        while let Some(at) = roll.cursor {
            roll.cursor = self.list_some(roll.call, at, &mut roll.told);
            if clock::real_nanos().saturating_sub(begun) > TURN {
                break;
            }
        }
        let found = roll.call.only.is_some() && !roll.told.tasks.is_empty();
        if roll.cursor.is_some() && !found {
            roll.question.sign_of_life();
            // No bell: it is this worker that would have to hear it.
            let _ = self.shared.inbox.push(Mail::Roll(roll));
        } else {
            roll.question.answer(self.index, roll.told);
        }
    }

    fn list_unstarted(&self, call: RollCall, told: &mut Listing) {
        let mut tell = |task: &TaskRef| {
            if call.only.is_none_or(|id| id == task.id()) {
                if call.kill {
                    task.raise(KILLED);
                }
                told.tasks
                    .push(info(task, TaskState::Unstarted, WaitReason::NONE, 0));
            }
        };
        self.shared.unstarted.for_each(&mut tell);
        self.ready.borrow().for_each_pinned(&mut tell);
        self.starved.borrow().iter().for_each(&mut tell);
    }

    /// Tells of a portion of the started tasks; returns where to go on.
    fn list_some(&self, call: RollCall, at: usize, told: &mut Listing) -> Option<usize> {
        let mut fibers: Vec<Fiber> = Vec::with_capacity(PORTION + 64);
        let pool = self.stacks.borrow();
        let rest = pool.for_some_live(at, PORTION, &mut |top, offset| {
            // SAFETY: as in `for_each_fiber`; none of them ends before this function does.
            fibers.push(unsafe { FiberRef::at(top, offset) });
        });
        drop(pool);
        for fiber in fibers {
            let c = fiber.header();
            if call.only.is_some_and(|id| id != c.id) {
                continue;
            }
            if call.kill {
                c.task.raise(KILLED);
                self.interrupt(&c.task);
            }
            let state = match c.parked.get() {
                true => TaskState::Parked,
                false if self.current.get() == Some(fiber) => TaskState::Running,
                false => TaskState::Ready,
            };
            let mut task = info(&c.task, state, c.reason.get(), c.since.get());
            if let (TaskState::Parked, Some(probe)) = (state, c.probe.get()) {
                // SAFETY: the task is parked in the wait that set the probe and borrows the lock
                // until it goes on, which it cannot do before this thread resumes it.
                task.reason = task.reason.held_by(unsafe { (probe.holder)(probe.lock) });
            }
            if call.traces {
                self.describe(fiber);
                task.trace = told.keep(&self.sheet.borrow());
            }
            told.tasks.push(task);
        }
        rest
    }

    /// Lets a task put its return addresses on the sheet; it stays exactly where it is: its park,
    /// its timer, its place in queues are not touched, and no hook is called.
    ///
    /// Runs on the worker's own stack.
    fn describe(&self, fiber: Fiber) {
        self.sheet.borrow_mut().clear();
        if self.current.get() == Some(fiber) {
            // It asks itself, lent the worker's stack, by us or by itself before.
            return self.write_sheet(fiber, From::Here);
        }
        let quirks = &fiber.header().quirks;
        quirks.set(quirks.get() | DESCRIBE);
        let before = self.current.replace(Some(fiber));
        // SAFETY: this is the owner thread, on its own stack, and the fiber is suspended: it is
        // not the one that was current, and no other runs. It has not ended, for it comes back here
        // before it does anything else.
        unsafe { fiber.resume() };
        self.current.set(before);
    }

    /// The described task's part, on its own stack.
    pub(super) fn describe_myself(&self, fiber: Fiber) {
        let here = 0_u8;
        let here = std::ptr::from_ref(&here).addr();
        // (AddressSanitizer may keep locals elsewhere.)
        let bottom = fiber.slot().bottom();
        if (bottom..bottom + ROOM).contains(&here) {
            return;
        }
        // The walk takes several KiB. On the worker's stack they are there; on the task's they
        // might not be, and would be a page or two more of memory for each task that was asked.
        // SAFETY: `fiber` runs here, and walking does not suspend.
        unsafe { fiber.on_parent_stack(|| self.write_sheet(fiber, From::Stack)) };
    }

    fn write_sheet(&self, fiber: Fiber, from: From) {
        let stack = fiber.slot().bottom()..fiber.slot().top();
        let mut sheet = self.sheet.borrow_mut();
        let mut keep = |address| {
            sheet.push(address);
            sheet.len() < trace::DEPTH
        };
        trace::walk(&Walk { stack, from }, &mut keep);
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

/// Describes a task of the calling worker that has not ended, or one that has not started while
/// its queue stands still.
fn info(task: &TaskRef, state: TaskState, reason: WaitReason, since: Nanos) -> TaskInfo {
    // SAFETY: as said: it is told of by its own worker, or under the lock of its queue.
    let owner = unsafe { task.member() }.map(|m| (m.owner_id(), m.owner_label()));
    TaskInfo {
        id: task.id(),
        name: task.name().map(str::to_owned),
        site: task.site(),
        state,
        reason,
        since,
        killed: task.flags() & KILLED != 0,
        owner,
        trace: Traced::No,
    }
}
