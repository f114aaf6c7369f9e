//! The control block of a started task: all that only its own worker touches.
//!
//! It lies at the top of the task's stack (`fiber`), so it costs no memory of its own, and no
//! atomics: wakes from elsewhere come through the worker's inbox and are applied between slices.
//!
//! State: `Running` -> park -> `Parked` -> a wake, time-out or interrupt -> `Ready` -> `Running`;
//! yield goes from `Running` straight to `Ready`. `park` counts the parks; a wake is for one.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

use super::cell::TaskRef;
use super::timers::TimerKey;
use crate::clock::Nanos;
use crate::fiber::FiberRef;
use crate::unwinding::{self, Signal};
use crate::wait_reason::WaitReason;

/// A started task's stack and control block.
pub(crate) type Fiber = FiberRef<Control>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Ready,
    Parked,
}

/// Why a park ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody woke this very park.
    Woken,
    /// Its deadline passed.
    TimedOut,
    /// A kill or a `timeout` frame wants to be looked at.
    Interrupted,
}

/// `attention`: a kill has been asked for.
pub(crate) const KILL: u8 = 1;
/// `attention`: some time-out frame has fired.
pub(crate) const FIRED: u8 = 2;

/// One `timeout(d, f)` that the task is in.
pub(crate) struct Frame {
    pub(crate) id: u64,
    pub(crate) deadline: Nanos,
    pub(crate) timer: Option<TimerKey>,
    pub(crate) fired: bool,
}

/// A hook that runs on the task's stack at each switch.
pub(crate) type Hook = Box<dyn FnMut()>;

pub(crate) struct Hooks {
    pub(crate) switch_in: Hook,
    pub(crate) switch_out: Hook,
}

pub(crate) struct Control {
    pub(crate) task: ManuallyDrop<TaskRef>,
    /// Copies from the cell, so that a switch does not touch the heap.
    pub(crate) id: u64,
    pub(crate) site: &'static Location<'static>,
    pub(crate) state: Cell<State>,
    pub(crate) wake: Cell<Wake>,
    pub(crate) attention: Cell<u8>,
    pub(crate) permit: Cell<bool>,
    /// Times that a kill was raised: more than once means that it was swallowed.
    pub(crate) raised: Cell<u8>,
    pub(crate) park: Cell<u32>,
    pub(crate) shields: Cell<u16>,
    /// Frames below this index are masked by a shield.
    pub(crate) masked: Cell<u16>,
    pub(crate) no_park: Cell<u16>,
    pub(crate) timer: Cell<Option<TimerKey>>,
    pub(crate) reason: Cell<WaitReason>,
    pub(crate) since: Cell<Nanos>,
    pub(crate) frames: RefCell<Vec<Frame>>,
    pub(crate) hooks: RefCell<Option<Box<Hooks>>>,
    pub(crate) hooked: Cell<bool>,
}

impl Control {
    pub(crate) fn new(task: TaskRef, now: Nanos) -> Self {
        Self {
            id: task.id(),
            site: task.site(),
            task: ManuallyDrop::new(task),
            state: Cell::new(State::Ready),
            wake: Cell::new(Wake::Woken),
            attention: Cell::new(0),
            permit: Cell::new(false),
            raised: Cell::new(0),
            park: Cell::new(0),
            shields: Cell::new(0),
            masked: Cell::new(0),
            no_park: Cell::new(0),
            timer: Cell::new(None),
            reason: Cell::new(WaitReason::NONE),
            since: Cell::new(now),
            frames: RefCell::new(Vec::new()),
            hooks: RefCell::new(None),
            hooked: Cell::new(false),
        }
    }
}

impl Control {
    /// What interrupts the task at its next park: a kill before any time-out, and the outermost
    /// fired frame before the inner ones, as its unwinding ends them too.
    #[inline]
    pub(crate) fn pending(&self) -> Option<Signal> {
        if self.attention.get() == 0 { None } else { self.look_for_signal() }
    }

    #[cold]
    fn look_for_signal(&self) -> Option<Signal> {
        let attention = self.attention.get();
        if attention & KILL != 0 && self.shields.get() == 0 {
            return Some(Signal::Killed);
        }
        if attention & FIRED == 0 {
            return None;
        }
        let frames = self.frames.borrow();
        let open = frames.get(usize::from(self.masked.get())..).unwrap_or_default();
        open.iter().find(|f| f.fired).map(|f| Signal::TimedOut(f.id))
    }

    #[cold]
    pub(crate) fn switched_out(&self) {
        if let Some(hooks) = &mut *self.hooks.borrow_mut() {
            (hooks.switch_out)();
        }
    }

    #[cold]
    pub(crate) fn switched_in(&self) {
        if let Some(hooks) = &mut *self.hooks.borrow_mut() {
            (hooks.switch_in)();
        }
    }

    /// The closure has ended: what belongs to it goes.
    pub(crate) fn ended(&self) {
        if self.hooked.replace(false) {
            let hooks = self.hooks.borrow_mut().take();
            unwinding::discard(catch_unwind(AssertUnwindSafe(|| drop(hooks))));
        }
    }
}
