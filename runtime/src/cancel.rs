//! Stopping tasks, and code that must not be stopped or parked.

use std::cell::Cell;

use crate::hub::cell::{KILLED, TaskRef};
use crate::hub::control::{ENDED, HOOKED, Hooks, KILL};
use crate::hub::current::{self, Caller};
use crate::hub::worker::Mail;
use crate::park::{self, ThreadFrames};
use crate::spawn::spawn;

/// Asks the task to end: see [`JoinHandle::kill`](crate::JoinHandle::kill).
pub(crate) fn kill(target: &TaskRef) {
    let before = target.raise(KILLED);
    match current::caller() {
        Caller::Task(hub, fiber) if *fiber.header().task == *target => {
            let control = fiber.header();
            control.attention.set(control.attention.get() | KILL);
            if !std::thread::panicking() {
                park::raise_pending(hub, fiber);
            }
        }
        _ if before & KILLED != 0 => {}
        Caller::Task(hub, _) | Caller::Hub(hub) if hub.owns(target) => hub.interrupt(target),
        // Without a home it has not started; it will find the flag when it does.
        _ => {
            if let Some(home) = target.home() {
                home.send(Mail::Interrupt(target.clone()));
            }
        }
    }
}

/// Runs `f`, which kills tasks. If the calling one is among them, it is unwound only afterwards.
pub(crate) fn kill_together(f: impl FnOnce()) {
    let before = match current::caller() {
        Caller::Task(_, fiber) => fiber.header().attention.get(),
        _ => 0,
    };
    shield(f);
    if let Caller::Task(hub, fiber) = current::caller()
        && fiber.header().attention.get() & !before & KILL != 0
        && !std::thread::panicking()
    {
        park::raise_pending(hub, fiber);
    }
}

/// Sets a counter up by one for as long as it lives.
struct Raised<'a>(&'a Cell<u16>);

impl<'a> Raised<'a> {
    fn new(counter: &'a Cell<u16>) -> Self {
        counter.set(counter.get() + 1);
        Self(counter)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Runs `f` with kills and the time-outs around it held back.
///
/// What was held back is raised at the first park after the outermost shield has ended. Time-outs
/// that are set inside `f` work as ever.
///
/// # Examples
/// ```
/// use sward_runtime::{current, run, shield, spawn, yield_now};
/// run(|| {
///     let task = spawn(|| {
///         shield(|| {
///             current().kill();
///             yield_now();
///         });
///         yield_now();
///         unreachable!("the kill is raised here");
///     });
///     assert!(task.join().unwrap_err().is_killed());
/// });
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    match current::caller() {
        Caller::Task(_, fiber) => {
            struct Unmask<'a>(&'a Cell<u16>, u16);
            impl Drop for Unmask<'_> {
                fn drop(&mut self) {
                    self.0.set(self.1);
                }
            }
            let control = fiber.header();
            let _raised = Raised::new(&control.shields);
            let depth = u16::try_from(control.frames.borrow().len()).unwrap_or(u16::MAX);
            let _unmask = Unmask(&control.masked, control.masked.replace(depth));
            f()
        }
        Caller::Hub(_) | Caller::Thread => {
            struct Unmask(usize);
            impl Drop for Unmask {
                fn drop(&mut self) {
                    ThreadFrames::unmask(self.0);
                }
            }
            let _unmask = Unmask(ThreadFrames::mask());
            f()
        }
    }
}

/// Runs `f` and panics if anything in it would park the task.
///
/// For code that keeps something in thread-local storage that another task of the worker must not
/// meet: scoped-tls, a runtime's `enter` guard, an entered tracing span (see `docs/caveats.md`).
/// On an ordinary thread it only calls `f`.
///
/// # Panics
/// At a park inside `f`, naming this rule.
///
/// # Examples
/// ```
/// assert_eq!(sward_runtime::run(|| sward_runtime::without_parking(|| 7)), 7);
/// ```
pub fn without_parking<T>(f: impl FnOnce() -> T) -> T {
    match current::caller() {
        Caller::Task(_, fiber) => fiber.header().forbid_parks(f),
        Caller::Hub(_) | Caller::Thread => f(),
    }
}

/// Runs `f` later in a task of its own: the way out for clean-up that must wait in a `Drop`.
///
/// # Blocking
/// Never parks.
///
/// # Panics
/// As [`spawn`](fn@crate::spawn).
#[track_caller]
pub fn defer(f: impl FnOnce() + Send + 'static) {
    drop(spawn(f));
}

/// Calls `switch_out` whenever the current task stops running and `switch_in` when it goes on.
///
/// They run on the task's stack, must not park and must not panic; they go when the task ends. A
/// second call replaces the first. The way to carry thread-local state with a task. On an ordinary
/// thread it does nothing.
pub fn on_switch(switch_out: impl FnMut() + 'static, switch_in: impl FnMut() + 'static) {
    if let Caller::Task(_, fiber) = current::caller()
        && fiber.header().quirks.get() & ENDED == 0
    {
        let control = fiber.header();
        let hooks = Hooks {
            switch_in: Box::new(switch_in),
            switch_out: Box::new(switch_out),
        };
        let before = control.hooks.borrow_mut().replace(Box::new(hooks));
        control.quirks.set(control.quirks.get() | HOOKED);
        drop(before);
    }
}
