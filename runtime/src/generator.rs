//! Generators: iterators whose body runs on a stack of its own and stops at each item.
//!
//! Nouns: the *body* is the closure, on an inner fiber (`hub/inner.rs`); the *consumer* is who
//! calls `next`; to *close* a generator is to unwind a body that has not ended, from its `yield_`.
//!
//! ```text
//! new --next--> running <--next-- suspended          next: the consumer's stack waits, as in a call
//!  |              | \--yield_------^    |
//!  |              |                     |dropped: the body unwinds from its yield_
//!  |dropped       |returns, panics, is killed or timed out
//!  v              v                     v
//! ended <-------------------------------/ \--yields again--> leaked: its stack is never used again
//! ```
//!
//! Invariants
//! - The body runs only inside `next` or `drop`, as part of the task that called it, on the worker
//!   that made it: never in a thread-local's destructor, since the thread of a worker that still
//!   has a suspended body never ends (its frames may have borrowed thread-locals).
//! - Nothing in the control block of a task refers to a suspended body: at a `yield_` the task is
//!   as deep in `timeout`s, shields and the like as at the `next` that it answers. Hence the
//!   next `next` may come from another task.
//! - Everything that the body, its items and its result own is `'static`: a forgotten generator's
//!   frames stay, and so must all that they, and threads that they started, refer to.
//! - `out` points to a local of `Generator::step` while the body runs.
//!
//! Unwinding: a closed body unwinds by `resume_unwind` and is caught at the bottom of its stack,
//! so it may happen in a destructor of a task that unwinds itself (std counts panics by thread,
//! and allows it as long as none passes out of a destructor). A `yield_` in a destructor of a body
//! that unwinds can neither switch (`panicking()` would be true for the consumer) nor panic: the
//! item is dropped and that is reported. Where `panicking()` was true at the resume already, the two
//! cannot be told apart: while closing, whether the payload has been dropped tells; otherwise
//! the item is delivered.
//!
//! Rejected: borrowed bodies (see `'static`; `std::thread::scope` in the body of a forgotten
//! generator would be unsound); generators on ordinary threads (a suspended body
//! may have borrowed a thread-local, whose destructor may run before the generator's);
//! corosensei's own forced unwinding (it tries again for ever where the body goes on); closing in a
//! task of its own (destructors would run at some later time).

use std::cell::Cell;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use crate::fiber::stack::StackSpec;
use crate::hub::Hub;
use crate::hub::control::Fiber;
use crate::hub::current::{self, Caller};
use crate::hub::inner::{Inner, InnerFiber};
use crate::report;
use crate::unwinding;

const OUTSIDE: &str = "a generator lives in tasks of one worker, and here is none (call it inside \
     of sward::run, or in a task)";

/// Items that destructors of one closing body may give, where that may as well be a loop.
const PATIENCE: u32 = 1_000;

/// An iterator whose items come from a closure that runs on a stack of its own: each
/// [`yield_`](Yielder::yield_) hands one out and waits for the next `next` (Python's generators,
/// PEP 342's for iteration).
///
/// The closure may yield from any depth of calls and loops. It runs only inside `next` (and `drop`),
/// as a part of the task that calls it: a call in it that parks suspends that task, and a kill, a
/// time-out or a panic in it passes out through `next`; after that the generator has ended. A
/// generator stays on its worker (it is `!Send`), where another task may go on with it
/// ([`spawn_local`](crate::spawn_local)).
///
/// Dropped before its end, it is unwound from its `yield_`: destructors run, the panic hook does
/// not. So they are under the rules of a task that unwinds, which may not park
/// (`docs/generators.md`).
///
/// # Examples
/// ```
/// use sward_runtime::{Generator, run};
///
/// run(|| {
///     let mut squares = Generator::new(|y| {
///         for n in 1..=3 {
///             y.yield_(n * n);
///         }
///         "that was all"
///     });
///     assert_eq!(squares.by_ref().collect::<Vec<_>>(), [1, 4, 9]);
///     assert_eq!(squares.into_result(), Some("that was all"));
/// });
/// ```
/// It stays on its worker:
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(sward_runtime::Generator::new(|y| y.yield_(1)));
/// ```
/// and owns what it works on:
/// ```compile_fail,E0597
/// sward_runtime::run(|| {
///     let text = String::from("abc");
///     let letters = sward_runtime::Generator::new(|y| y.yield_(text.len()));
/// });
/// ```
#[must_use = "a generator does nothing until it is asked for an item"]
pub struct Generator<Y: 'static, R: 'static = ()> {
    /// `None`: it has ended.
    fiber: Cell<Option<InnerFiber>>,
    result: Option<R>,
    site: &'static Location<'static>,
    items: PhantomData<fn() -> Y>,
}

/// What the body of a [`Generator`] gives items to.
///
/// It is lent to the body for as long as that runs:
/// ```compile_fail,E0277
/// sward_runtime::Generator::<i32>::new(|y| {
///     std::thread::scope(|s| { s.spawn(|| y.yield_(1)); });
/// });
/// ```
pub struct Yielder<Y: 'static> {
    fiber: InnerFiber,
    items: PhantomData<fn(Y)>,
}

/// What a resume gave. The body knows `Y` where it yields, and both where it ends.
#[repr(C)]
struct Out<Y, R> {
    item: Option<Y>,
    end: Option<thread::Result<R>>,
}

enum Step<Y, R> {
    Item(Y),
    /// `None` never comes: a body ends by storing how.
    End(Option<thread::Result<R>>),
}

/// The payload that unwinds a closed body; dropping it tells that the body has caught it.
struct Closed(Arc<AtomicBool>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl<Y: 'static, R: 'static> Generator<Y, R> {
    /// Makes a generator; `body` does not run before the first `next`.
    ///
    /// # Panics
    /// Outside of a task, in a forked child, and if there is no stack left:
    /// [`try_new`](Self::try_new) gives an error then.
    #[track_caller]
    pub fn new(body: impl FnOnce(&Yielder<Y>) -> R + 'static) -> Self {
        match Self::make(None, body, Location::caller()) {
            Ok(generator) => generator,
            Err(e) => panic!("Generator::new: {e}"),
        }
    }

    /// As [`new`](Self::new), or says why it cannot be.
    ///
    /// # Errors
    /// `OutOfMemory` if all stacks are in use, with the text of
    /// [`Builder::spawn`](crate::Builder::spawn); `InvalidInput` outside of a task; `Other` in a
    /// forked child.
    #[track_caller]
    pub fn try_new(body: impl FnOnce(&Yielder<Y>) -> R + 'static) -> io::Result<Self> {
        Self::make(None, body, Location::caller())
    }

    /// As [`try_new`](Self::try_new), with a stack of `bytes` (rounded up to whole pages) instead of
    /// the size that the runtime gives to tasks.
    ///
    /// # Errors
    /// As [`try_new`](Self::try_new), and `InvalidInput` for a size out of range.
    ///
    /// # Examples
    /// ```
    /// # sward_runtime::run(|| {
    /// let one = sward_runtime::Generator::with_stack_size(32 * 1024, |y| y.yield_(1))?;
    /// assert_eq!(one.sum::<i32>(), 1);
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn with_stack_size(
        bytes: usize,
        body: impl FnOnce(&Yielder<Y>) -> R + 'static,
    ) -> io::Result<Self> {
        Self::make(Some(bytes), body, Location::caller())
    }

    fn make(
        size: Option<usize>,
        body: impl FnOnce(&Yielder<Y>) -> R + 'static,
        site: &'static Location<'static>,
    ) -> io::Result<Self> {
        let Caller::Task(hub, task) = current::caller() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, OUTSIDE));
        };
        if let Some(e) = hub.fork_error() {
            return Err(e);
        }
        let usual = hub.rt.config.spec;
        let spec = match size {
            Some(size) => StackSpec::new(size, usual.guard())?,
            None => usual,
        };
        let start = move |fiber: InnerFiber| {
            let yielder = Yielder {
                fiber,
                items: PhantomData,
            };
            let end = catch_unwind(AssertUnwindSafe(|| body(&yielder)));
            let out = fiber.header().out.get().cast::<Out<Y, R>>();
            // SAFETY: `step` set it to its local of this type, and waits for this fiber.
            unsafe { (*out).end = Some(end) };
        };
        let nesting = task.header().nesting();
        let fiber = hub.lend(spec, site, nesting, Box::new(start))?;
        Ok(Self {
            fiber: Cell::new(Some(fiber)),
            result: None,
            site,
            items: PhantomData,
        })
    }

    /// Returns what the body returned, once it has; items that it would still give are not waited
    /// for: `None` then, and if it panicked, was killed or timed out.
    pub fn into_result(mut self) -> Option<R> {
        self.result.take()
    }

    /// Returns whether the body has ended: `next` will give `None` without running it.
    pub fn is_ended(&self) -> bool {
        self.fiber.get().is_none()
    }

    /// Runs the body to its next item or its end.
    #[inline]
    fn step(&self, hub: &'static Hub, task: Fiber, fiber: InnerFiber) -> Step<Y, R> {
        let header = fiber.header();
        if header.running.replace(true) {
            panic!("sward: next() of a generator that is running, from inside of its own body");
        }
        let mut out = Out::<Y, R> {
            item: None,
            end: None,
        };
        header.out.set((&raw mut out).cast());
        header.unwinding.set(thread::panicking());
        // SAFETY: the caller got hub and task from `Caller::Task`; a generator stays on the thread
        // of its worker, was not running, and has not ended: `fiber` would be empty.
        let ended = unsafe { hub.resume_inner(task, fiber) };
        if ended {
            self.fiber.set(None);
            // SAFETY: it has ended, and `self.fiber` was the copy that is left: the yielder's was
            // on that stack.
            unsafe { hub.take_back(fiber) };
        } else {
            header.running.set(false);
        }
        match (out.item, out.end) {
            (Some(item), _) => Step::Item(item),
            (None, end) => Step::End(end),
        }
    }

    /// Unwinds a body that is suspended.
    #[cold]
    fn close(&self, hub: &'static Hub, task: Fiber, fiber: InnerFiber) {
        let caught = Arc::new(AtomicBool::new(false));
        fiber.header().closing.set(Some(caught.clone()));
        match self.step(hub, task, fiber) {
            Step::Item(_) => report::line(&format!(
                "sward: the generator made at {} went on after it was dropped by task {} (a \
                 catch_unwind around its yield_ that does not go on with the unwinding): it is leaked",
                self.site,
                task.header().id
            )),
            Step::End(Some(Err(payload))) => {
                let own = payload.downcast_ref::<Closed>();
                let own = own.is_some_and(|closed| Arc::ptr_eq(&closed.0, &caught));
                if own || thread::panicking() {
                    // Out of a destructor in a task that unwinds no panic may pass.
                    unwinding::discard::<()>(Err(payload));
                } else {
                    resume_unwind(payload);
                }
            }
            Step::End(_) => {}
        }
    }
}

impl<Y: 'static, R: 'static> Iterator for Generator<Y, R> {
    type Item = Y;

    /// Runs the body to its next `yield_` (`Some`) or its end (`None`, for ever).
    ///
    /// # Blocking
    /// Whatever the body does; it is no park itself.
    ///
    /// # Panics
    /// With what the body panics with. Outside of a task, and on a generator that is running.
    ///
    /// # Cancel safety
    /// A body that is killed or timed out has ended: further items are lost. Keep waits that may
    /// time out outside, or around the whole iteration.
    #[inline]
    fn next(&mut self) -> Option<Y> {
        let fiber = self.fiber.get()?;
        let Caller::Task(hub, task) = current::caller() else {
            panic!("sward: {OUTSIDE}");
        };
        match self.step(hub, task, fiber) {
            Step::Item(item) => return Some(item),
            Step::End(Some(Err(payload))) => resume_unwind(payload),
            Step::End(result) => self.result = result.and_then(Result::ok),
        }
        None
    }
}

impl<Y: 'static, R: 'static> FusedIterator for Generator<Y, R> {}

impl<Y: 'static, R: 'static> Drop for Generator<Y, R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(fiber) = self.fiber.take() {
            self.abandon(fiber);
        }
    }
}

impl<Y: 'static, R: 'static> Generator<Y, R> {
    /// Ends a generator that has not ended by itself.
    #[cold]
    fn abandon(&self, fiber: InnerFiber) {
        let Caller::Task(hub, task) = current::caller() else {
            // A callback of the hub, at the end of a runtime that leaks tasks: what it would unwind
            // could not even take a lock.
            report::line(&format!(
                "sward: the generator made at {} was dropped outside of a task: it is leaked",
                self.site
            ));
            return;
        };
        let start = fiber.header().start.take();
        if start.is_some() {
            // SAFETY: `start` is taken at the first resume, so there was none; and nobody has
            // a copy of `fiber` any more.
            unsafe { hub.take_back(fiber) };
            drop(start);
        } else {
            self.close(hub, task, fiber);
        }
    }
}

impl<Y: 'static, R: 'static> fmt::Debug for Generator<Y, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.fiber.get().map(|fiber| fiber.header().running.get()) {
            None => "ended",
            Some(true) => "running",
            Some(false) => "suspended",
        };
        f.debug_struct("Generator")
            .field("state", &state)
            .field("made_at", &format_args!("{}", self.site))
            .finish_non_exhaustive()
    }
}

impl<Y: 'static> Yielder<Y> {
    /// Hands an item to whoever called `next`, and waits for the next `next`.
    ///
    /// In a destructor that runs while the body unwinds nothing can be handed out: the item is
    /// dropped, and a line on stderr says so.
    ///
    /// # Blocking
    /// No park: the calling task goes on with what follows its `next`.
    ///
    /// # Panics
    /// Inside a `timeout`, `shield`, `without_parking` or `on_worker_stack` that the body has
    /// entered and not left (the consumer would go on inside of it), in debug builds also with a
    /// `ShortLock` held, and from outside of the body.
    ///
    /// # Cancel safety
    /// A generator that is dropped here unwinds from here, without the panic hook.
    // Out of line the returns of both sides are mispredicted: 25 ns for an item instead of 6.
    #[inline(always)]
    pub fn yield_(&self, item: Y) {
        let header = self.fiber.header();
        if thread::panicking() && unwinds(header) {
            return ignore(header, item);
        }
        match current::caller() {
            Caller::Task(_, task) if task.header().inner.get() == Some(self.fiber) => {
                let control = task.header();
                if control.nesting() != header.nesting.get() {
                    let what = control.entered_since(header.nesting.get());
                    entered(what);
                }
            }
            _ => panic!("sward: yield_ called from outside of its generator's body"),
        }
        let out = header.out.get().cast::<Option<Y>>();
        // SAFETY: `step` set it to its local, which begins with the item (`repr(C)`), and waits
        // for this fiber: it is in the chain, and running.
        unsafe { *out = Some(item) };
        // SAFETY: the innermost of the calling task is what the calling code runs on (inner.rs).
        unsafe { self.fiber.suspend() };
        let closing = header.closing.take();
        if let Some(caught) = closing {
            header.closing.set(Some(caught.clone()));
            resume_unwind(Box::new(Closed(caught)));
        }
    }

    /// Yields all of `items` (Python's `yield from`).
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{Generator, run};
    /// fn count_down(n: u32) -> Generator<u32> {
    ///     Generator::new(move |y| {
    ///         if n > 0 {
    ///             y.yield_(n);
    ///             y.yield_from(count_down(n - 1));
    ///         }
    ///     })
    /// }
    /// assert_eq!(run(|| count_down(3).collect::<Vec<_>>()), [3, 2, 1]);
    /// ```
    pub fn yield_from(&self, items: impl IntoIterator<Item = Y>) {
        items.into_iter().for_each(|item| self.yield_(item));
    }
}

impl<Y: 'static> fmt::Debug for Yielder<Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

/// Whether a body on whose thread `panicking()` is true unwinds itself (file head).
#[cold]
fn unwinds(header: &Inner) -> bool {
    if !header.unwinding.get() {
        return true;
    }
    let closing = header.closing.take();
    let unwinds = closing.as_ref().is_some_and(|caught| !caught.load(Relaxed));
    header.closing.set(closing);
    unwinds
}

#[cold]
fn ignore<Y>(header: &Inner, item: Y) {
    let before = header.ignored.get();
    header.ignored.set(before.saturating_add(1));
    if before == 0 {
        report::line(&format!(
            "sward: the generator made at {} yields while it unwinds: the item is dropped",
            header.site
        ));
    }
    if before >= PATIENCE && header.unwinding.get() {
        report::line(&format!(
            "sward: the generator made at {} was dropped by a task that unwinds, and does not end \
             (a catch_unwind around its yield_ that keeps the payload, or a loop in a destructor); \
             aborting",
            header.site
        ));
        std::process::abort();
    }
    drop(item);
}

#[cold]
fn entered(what: &str) -> ! {
    panic!(
        "sward: yield_ inside {what}, which the generator's body has entered: who iterates would go \
         on inside of it; leave it before the yield_"
    );
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::OnceCell;
    use std::rc::Rc;

    use super::*;
    use crate::error::payload_text;
    use crate::{run, spawn_local, yield_now};

    fn text<T>(result: thread::Result<T>) -> String {
        let payload = result.err().unwrap();
        payload_text(payload.as_ref()).to_owned()
    }

    fn step<Y, R>(generator: &Generator<Y, R>) -> Step<Y, R> {
        let Caller::Task(hub, task) = current::caller() else {
            panic!("no task");
        };
        generator.step(hub, task, generator.fiber.get().unwrap())
    }

    /// `&mut self` keeps safe code from it.
    #[test]
    fn next_from_inside_of_the_body_panics() {
        run(|| {
            let slot = Rc::new(OnceCell::new());
            let inside = slot.clone();
            let generator = Generator::new(move |y: &Yielder<i32>| {
                y.yield_(1);
                let again: &Generator<i32> = inside.get().unwrap();
                y.yield_(2);
                step(again);
            });
            slot.set(generator).unwrap();
            let generator = slot.get().unwrap();
            assert!(matches!(step(generator), Step::Item(1)));
            assert!(matches!(step(generator), Step::Item(2)));
            let Step::End(Some(end)) = step(generator) else {
                panic!("it goes on");
            };
            assert!(text(end).contains("next() of a generator that is running"));
            assert!(generator.is_ended());
        });
    }

    /// Its lifetime keeps safe code from it, as long as nobody lends closures to other tasks.
    #[test]
    fn yield_from_outside_of_the_body_panics() {
        run(|| {
            let mut outer = Generator::new(|y: &Yielder<i32>| {
                let copy = |y: &Yielder<i32>| Yielder::<i32> {
                    fiber: y.fiber,
                    items: PhantomData,
                };
                // In another task, while the body is parked.
                let elsewhere = copy(y);
                let task = spawn_local(move || elsewhere.yield_(9));
                yield_now();
                let e = task.join().unwrap_err();
                assert!(
                    e.panic_message()
                        .unwrap()
                        .contains("outside of its generator")
                );
                // In another generator's body, inside of this one's.
                let elsewhere = copy(y);
                let mut inner = Generator::new(move |_: &Yielder<i32>| elsewhere.yield_(8));
                let got = catch_unwind(AssertUnwindSafe(|| inner.next()));
                assert!(text(got).contains("outside of its generator"));
                y.yield_(1);
            });
            assert_eq!((outer.next(), outer.next()), (Some(1), None));
        });
    }
}
