//! Tasks that borrow: all of them end before `scope` returns.
//!
//! ```text
//! body -> (returned)  wait for the children, interruptibly -> all ended -> result
//!   |                    | kill, time-out, or a panic that nobody can join
//!   | unwound            v
//!   +-----------------> kill the rest -> wait for them, shielded -> go on with the first panic
//! ```
//!
//! Soundness: children borrow what lives outside of `scope`'s frame and in it, so this frame must
//! not end before each child's closure, locals and unclaimed result are gone, which is what
//! `Family` counts. Everything between the first spawn and that moment runs under `catch_unwind`;
//! what is left to go wrong aborts ([`Bomb`]). That the wait itself is refused (without parking, in
//! a task that unwinds) is found out before the first child. Handles cannot leave the scope: their
//! lifetime is that of the closure's argument. A forgotten one leaks its result.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::{kill_together, shield};
use crate::error::JoinError;
use crate::hub::cell::HANDLE;
use crate::hub::current::{self, Caller};
use crate::join::{Ending, JoinHandle};
use crate::park;
use crate::spawn::{self, Builder};
use crate::structure::family::{Family, Label};
use crate::task::Task;
use crate::unwinding::Signal;

/// Where tasks that borrow are spawned; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    family: Arc<Family>,
    /// Invariant, as in std.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Aborts when it is dropped while armed: its frame must not end yet.
struct Bomb {
    armed: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        crate::report::line(
            "sward: a scope would be left while its tasks still borrow from it; aborting",
        );
        std::process::abort();
    }
}

/// Runs `f`, which may spawn tasks that borrow from outside, and waits for all of them.
///
/// When `f` has returned, the children are waited for. When `f` unwinds, when a kill or a `timeout`
/// reaches that wait, or when a child panics whom nobody can join any more, the children that are
/// left are killed and waited for, shielded; then the first panic (or the kill) goes on. So a child
/// that neither parks nor ends keeps the scope for ever. [`std::thread::scope`], with an end.
///
/// # Blocking
/// Parks under [`WaitKind::Group`](crate::WaitKind::Group) until all children have ended.
///
/// # Panics
/// If an unjoined child panicked. Before the first child: in a task that unwinds (a scope in a
/// `Drop`; use [`defer`](crate::defer)), and where parking is forbidden.
///
/// # Examples
/// ```
/// let mut words = vec!["green", "threads"];
/// let total = std::sync::atomic::AtomicUsize::new(0);
/// let last = sward_runtime::scope(|s| {
///     for word in &words {
///         s.spawn(|| total.fetch_add(word.len(), std::sync::atomic::Ordering::Relaxed));
///     }
///     s.spawn(|| words.last().map(|w| w.len())).join().unwrap()
/// });
/// words.push("done");
/// assert_eq!((total.into_inner(), last), (12, Some(7)));
/// ```
///
/// A child cannot outlive what it borrows, nor keep a handle:
/// ```compile_fail
/// let mut kept = None;
/// sward_runtime::scope(|s| kept = Some(s.spawn(|| 1)));
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    refuse();
    park::pin_stack();
    let scope = Scope {
        family: family(Label::Scope(Location::caller())),
        scope: PhantomData,
        env: PhantomData,
    };
    let family = &*scope.family;
    let mut bomb = Bomb { armed: true };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let value = f(&scope);
        family.wait(None, |children| {
            children.is_empty() || children.has_lost_panic()
        });
        value
    }));
    // In a forked child there are no other tasks.
    if !family.look(|children| children.is_empty()) && !crate::fork::is_lost(family.id()) {
        family.kill(true);
        shield(|| family.wait(None, |children| children.is_empty()));
    }
    bomb.armed = false;
    let lost = family.take_panic();
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(scope.family.clone());
        }
    });
    match (result, lost) {
        (Err(payload), _) | (Ok(_), Some(payload)) => resume_unwind(payload),
        (Ok(value), None) => value,
    }
}

/// Families that a thread keeps for its next scopes.
const SPARE: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Arc<Family>>> = const { RefCell::new(Vec::new()) };
}

/// A family without members.
fn family(label: Label) -> Arc<Family> {
    let spare = SPARES.with_borrow_mut(Vec::pop);
    if let Some(mut family) = spare
        // The end of its last member may still be under way.
        && let Some(exclusive) = Arc::get_mut(&mut family)
    {
        exclusive.renew(label);
        return family;
    }
    Family::new(label, usize::MAX)
}

/// Panics where the wait at the end of a scope would.
fn refuse() {
    assert!(
        !park::forbidden(),
        "sward: a scope where parking is forbidden (without_parking, on_worker_stack, a callback): \
         it has to wait for its tasks"
    );
    assert!(
        !(std::thread::panicking() && matches!(current::caller(), Caller::Task(..))),
        "sward: a scope in a task that unwinds: nothing may park then; \
         move the work into a new task with sward::defer"
    );
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a child, as [`spawn`](fn@crate::spawn) starts a task.
    ///
    /// # Blocking
    /// Never parks.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let f = self.member(f);
        // SAFETY: what outlives 'scope outlives the task, which `scope` waits for, and the handle,
        // whose lifetime it is.
        let handle =
            unsafe { spawn::spawn_member(f, Location::caller(), |task| self.family.add(task)) };
        ScopedJoinHandle {
            handle: Some(handle),
            family: &self.family,
        }
    }

    /// As [`spawn`](Self::spawn), with a name, a stack size or a worker.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F, T>(
        &'scope self,
        builder: Builder,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let f = self.member(f);
        // SAFETY: as in `spawn`.
        let handle =
            unsafe { builder.spawn_member(f, Location::caller(), |task| self.family.add(task)) };
        Ok(ScopedJoinHandle {
            handle: Some(handle?),
            family: &self.family,
        })
    }

    /// What a child runs: a panic that nobody can join is kept for the scope.
    fn member<F, T>(&'scope self, f: F) -> impl FnOnce() -> T + Send + 'scope
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let family: &'scope Family = &self.family;
        move || match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => value,
            Err(payload) if payload.is::<Signal>() || has_handle() => resume_unwind(payload),
            Err(payload) => {
                family.lose_panic(payload);
                resume_unwind(Box::new("told to the scope"))
            }
        }
    }

    /// Asks all children to end, also those that are yet to be spawned.
    ///
    /// A child that calls it is unwound after all others have been told.
    pub fn kill(&self) {
        kill_together(|| self.family.kill(true));
    }

    /// Returns the number of children that have not ended.
    pub fn len(&self) -> usize {
        self.family.len()
    }

    /// Returns whether all children have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("children", &self.len())
            .finish_non_exhaustive()
    }
}

/// Whether somebody can still join the calling task.
fn has_handle() -> bool {
    match current::caller() {
        Caller::Task(_, fiber) => fiber.header().task.flags() & HANDLE != 0,
        _ => false,
    }
}

/// The right to wait for a child of a [`scope`] and to have its result. Dropping it lets the child
/// go on; the scope waits for it.
pub struct ScopedJoinHandle<'scope, T> {
    /// There until it is dropped.
    handle: Option<JoinHandle<T>>,
    family: &'scope Family,
}

impl<T> ScopedJoinHandle<'_, T> {
    fn handle(&self) -> &JoinHandle<T> {
        match &self.handle {
            Some(handle) => handle,
            None => unreachable!("taken by join and drop only"),
        }
    }

    fn seen(&self, result: Result<T, JoinError>) -> Result<T, JoinError> {
        if matches!(result, Err(JoinError::Panicked(_))) {
            self.family.panic_seen();
        }
        result
    }

    /// Waits for the child's end; see [`JoinHandle::join`].
    ///
    /// # Errors
    /// As [`JoinHandle::join`]. A panic that is returned here does not go on in the scope.
    pub fn join(mut self) -> Result<T, JoinError> {
        match self.handle.take() {
            Some(handle) => self.seen(handle.join()),
            None => unreachable!("taken by join and drop only"),
        }
    }

    /// As [`join`](Self::join), for at most `limit`.
    ///
    /// # Errors
    /// The handle itself, if the child has not ended by then.
    pub fn join_timeout(mut self, limit: Duration) -> Result<Result<T, JoinError>, Self> {
        match self.handle.take().map(|handle| handle.join_timeout(limit)) {
            Some(Ok(result)) => Ok(self.seen(result)),
            handle => {
                self.handle = handle.and_then(Result::err);
                Err(self)
            }
        }
    }

    /// Returns an arm of a [`select!`](crate::select) that waits for the end.
    pub fn ending(&mut self) -> Ending<'_, T> {
        match &mut self.handle {
            Some(handle) => handle.ending(),
            None => unreachable!("taken by join and drop only"),
        }
    }

    /// Returns whether the child has ended.
    pub fn is_finished(&self) -> bool {
        self.handle().is_finished()
    }

    /// Asks the child to end; see [`JoinHandle::kill`].
    pub fn kill(&self) {
        self.handle().kill();
    }

    /// Returns the task, to name, unpark or kill it from elsewhere.
    pub fn task(&self) -> Task {
        self.handle().task()
    }
}

impl<T> Drop for ScopedJoinHandle<'_, T> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && handle.is_finished()
            && let Err(JoinError::Panicked(payload)) = handle.key.take()
        {
            // Counted as unseen already, or about to be.
            self.family.lose_panic(payload);
        }
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle().fmt(f)
    }
}
