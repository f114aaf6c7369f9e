//! The control block of a started task: all that only its own worker touches.
//!
//! It lies at the top of the task's stack (`fiber`), so it costs no memory of its own, and no
//! atomics: wakes from elsewhere come through the worker's inbox and are applied between slices.
//!
//! State: running -> a park sets `parked` -> a wake, time-out or interrupt clears it and lines the
//! task up -> running. A yield goes from running straight into the line. `park` numbers the parks;
//! a wake is for one of them.

use std::cell::{Cell, OnceCell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use super::cell::TaskRef;
use super::fuse::Fuse;
use super::inner::InnerFiber;
use super::locals::{Heritage, Locals};
use super::timers::TimerKey;
use crate::clock::Nanos;
use crate::fiber::FiberRef;
use crate::sync::short_lock::short_locks_held;
use crate::unwinding::{self, Signal};
use crate::wait_reason::WaitReason;

/// A started task's stack and control block.
pub(crate) type Fiber = FiberRef<Control>;

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

/// `quirks`: the task is inside `without_parking` or `on_worker_stack`.
pub(crate) const NO_PARK: u8 = 1;
/// `quirks`: it has switch hooks.
pub(crate) const HOOKED: u8 = 2;
/// `quirks`: its closure has ended; the reference to its cell goes before its stack does.
pub(crate) const ENDED: u8 = 4;
/// `quirks`: when it is resumed it tells its return addresses and suspends again.
pub(crate) const DESCRIBE: u8 = 8;

/// `quirks`: it has task-local values.
pub(crate) const LOCALS: u8 = 16;
/// `quirks`: it may have some that tasks which it spawns inherit.
pub(crate) const HEIRS: u8 = 32;

/// No two of `quirks` are the same bit.
const _: () = assert!(
    NO_PARK as u32 + HOOKED as u32 + ENDED as u32 + DESCRIBE as u32 + LOCALS as u32 + HEIRS as u32
        == (NO_PARK | HOOKED | ENDED | DESCRIBE | LOCALS | HEIRS) as u32
);

/// One `timeout(d, f)`, or one `run` of a cancel token, that the task is in.
pub(crate) struct Frame {
    pub(crate) id: u64,
    /// The end of time in a frame with a fuse.
    pub(crate) deadline: Nanos,
    pub(crate) end: FrameEnd,
    pub(crate) fired: bool,
    /// It has been raised: again means that it was swallowed.
    pub(crate) raised: bool,
}

/// What ends a frame.
pub(crate) enum FrameEnd {
    Timer(TimerKey),
    Fuse(Arc<Fuse>),
}

/// A hook that runs on the task's stack at each switch.
pub(crate) type Hook = Box<dyn FnMut()>;

pub(crate) struct Hooks {
    pub(crate) switch_in: Hook,
    pub(crate) switch_out: Hook,
}

/// Whom to ask for the holder of the lock that the task is parked for: the lock itself. Set only
/// while the task is parked in the lock's queue, and thereby borrows it.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) lock: *const (),
    pub(crate) holder: unsafe fn(*const ()) -> u64,
}

/// What each switch touches comes first: it lies in one cache line.
#[repr(C)]
pub(crate) struct Control {
    /// Parked, and not yet woken.
    pub(crate) parked: Cell<bool>,
    /// `NO_PARK`, `HOOKED`, `DESCRIBE`: one look tells that there is nothing special about the task.
    pub(crate) quirks: Cell<u8>,
    pub(crate) attention: Cell<u8>,
    pub(crate) wake: Cell<Wake>,
    pub(crate) park: Cell<u32>,
    /// Copies from the cell, so that a switch does not touch the heap.
    pub(crate) id: u64,
    pub(crate) site: &'static Location<'static>,
    pub(crate) timer: Cell<Option<TimerKey>>,
    pub(crate) task: ManuallyDrop<TaskRef>,
    pub(crate) since: Cell<Nanos>,
    pub(crate) reason: Cell<WaitReason>,
    pub(crate) probe: Cell<Option<Probe>>,
    pub(crate) permit: Cell<bool>,
    pub(crate) on_worker_stack: Cell<bool>,
    /// Times that a kill was raised: more than once means that it was swallowed.
    pub(crate) raised: Cell<u8>,
    pub(crate) shields: Cell<u16>,
    /// Frames below this index are masked by a shield.
    pub(crate) masked: Cell<u16>,
    pub(crate) no_park: Cell<u16>,
    pub(crate) frames: RefCell<Vec<Frame>>,
    pub(crate) hooks: RefCell<Option<Box<Hooks>>>,
    /// The innermost generator whose body the task is in.
    pub(crate) inner: Cell<Option<InnerFiber>>,
    pub(crate) locals: OnceCell<Box<Locals>>,
}

/// How deep a task is in what must end in the opposite order of its beginning: `timeout` frames
/// from bit 40 on, `ShortLock`s (in debug builds) from 32, shields from 16, prohibitions of parks
/// below. One word, because each item of a generator stores it once and compares it once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nesting(u64);

impl Control {
    pub(crate) fn new(task: TaskRef, now: Nanos) -> Self {
        Self {
            id: task.id(),
            site: task.site(),
            task: ManuallyDrop::new(task),
            parked: Cell::new(false),
            wake: Cell::new(Wake::Woken),
            attention: Cell::new(0),
            permit: Cell::new(false),
            raised: Cell::new(0),
            park: Cell::new(0),
            shields: Cell::new(0),
            masked: Cell::new(0),
            quirks: Cell::new(0),
            no_park: Cell::new(0),
            on_worker_stack: Cell::new(false),
            timer: Cell::new(None),
            reason: Cell::new(WaitReason::NONE),
            since: Cell::new(now),
            probe: Cell::new(None),
            frames: RefCell::new(Vec::new()),
            hooks: RefCell::new(None),
            inner: Cell::new(None),
            locals: OnceCell::new(),
        }
    }
}

impl Control {
    /// What interrupts the task at its next park: a kill before any time-out, and the outermost
    /// fired frame before the inner ones, as its unwinding ends them too.
    #[inline]
    pub(crate) fn pending(&self) -> Option<Signal> {
        if self.attention.get() == 0 {
            None
        } else {
            self.look_for_signal()
        }
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
        let open = frames
            .get(usize::from(self.masked.get())..)
            .unwrap_or_default();
        open.iter()
            .find(|f| f.fired)
            .map(|f| Signal::TimedOut(f.id))
    }

    /// The deadline of the `timeout` around the task that fires first, but for those that a shield
    /// masks.
    pub(crate) fn earliest_frame(&self) -> Option<Nanos> {
        let frames = self.frames.borrow();
        let open = frames.get(usize::from(self.masked.get())..)?;
        let deadlines = open.iter().map(|frame| frame.deadline);
        // Those without one end by a fuse.
        deadlines.filter(|at| *at < Nanos::MAX).min()
    }

    #[cold]
    pub(crate) fn switched_out(&self) {
        self.call_hook(|hooks| &mut hooks.switch_out);
    }

    #[cold]
    pub(crate) fn switched_in(&self) {
        self.call_hook(|hooks| &mut hooks.switch_in);
    }

    fn call_hook(&self, which: fn(&mut Hooks) -> &mut Hook) {
        // Taken out: a hook may set others. A hook that parks is told off.
        let Some(mut hooks) = self.hooks.borrow_mut().take() else {
            return;
        };
        let call = move || {
            self.forbid_parks(|| which(&mut hooks)());
            let mut slot = self.hooks.borrow_mut();
            if slot.is_none() {
                *slot = Some(hooks);
            }
        };
        // A panic that left the switch would leave a half-begun park behind (its timer, its place
        // in a queue): the hooks go, the task stays.
        unwinding::discard(catch_unwind(AssertUnwindSafe(call)));
    }

    /// What of this kind the task is in. Whatever else pushes and pops something in the control
    /// block around a closure has to be counted here: a generator must not carry it off.
    #[inline]
    pub(crate) fn nesting(&self) -> Nesting {
        let frames = self.frames.borrow().len() as u64;
        let locks = u64::from(short_locks_held() & 0xFF);
        let (shields, no_park) = (u64::from(self.shields.get()), u64::from(self.no_park.get()));
        Nesting(frames << 40 | locks << 32 | shields << 16 | no_park)
    }

    /// What the task has entered since `before`, and not left.
    #[cold]
    pub(crate) fn entered_since(&self, before: Nesting) -> &'static str {
        let differ = self.nesting().0 ^ before.0;
        if differ & 0xFFFF != 0 {
            match self.on_worker_stack.get() {
                true => "on_worker_stack",
                false => "without_parking",
            }
        } else if differ & 0xFFFF_0000 != 0 {
            "shield"
        } else if differ & 0xFF_0000_0000 != 0 {
            "a ShortLock"
        } else {
            "timeout"
        }
    }

    /// Runs `f`; a park inside panics.
    pub(crate) fn forbid_parks<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Allow<'a>(&'a Control);
        impl Drop for Allow<'_> {
            fn drop(&mut self) {
                self.0.no_park.set(self.0.no_park.get() - 1);
                if self.0.no_park.get() == 0 {
                    self.0.quirks.set(self.0.quirks.get() & !NO_PARK);
                }
            }
        }
        self.no_park.set(self.no_park.get() + 1);
        self.quirks.set(self.quirks.get() | NO_PARK);
        let _allow = Allow(self);
        f()
    }

    /// The task's own values; `None` once it has ended, if it had none.
    pub(crate) fn locals(&self) -> Option<&Locals> {
        let quirks = self.quirks.get();
        if quirks & (LOCALS | ENDED) == 0 {
            self.quirks.set(quirks | LOCALS);
            return Some(self.locals.get_or_init(Box::default));
        }
        self.locals.get().map(|locals| &**locals)
    }

    /// What a task that this one spawns now inherits.
    #[inline]
    pub(crate) fn heritage(&self) -> Option<Box<Heritage>> {
        if self.quirks.get() & HEIRS == 0 {
            return None;
        }
        self.locals.get().and_then(|locals| locals.heritage())
    }

    /// The closure has ended: its values go, it is switched out for the last time, and what else
    /// belongs to it goes.
    pub(crate) fn ended(&self) {
        if self.quirks.get() & LOCALS != 0
            && let Some(locals) = self.locals.get()
        {
            // Its end is decided, and what cleans up may have to wait.
            self.shields.set(self.shields.get() + 1);
            locals.close();
            self.shields.set(self.shields.get() - 1);
        }
        if self.quirks.get() & HOOKED != 0 {
            // The hook makes no new values.
            self.quirks.set(self.quirks.get() | LOCALS);
            let last = AssertUnwindSafe(|| {
                self.switched_out();
                drop(self.hooks.borrow_mut().take());
            });
            unwinding::discard(catch_unwind(last));
        }
        self.quirks.set(ENDED);
    }
}
