//! Waiting for tasks: handles, and joining many.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel;
use crate::clock;
use crate::error::JoinError;
use crate::fork;
use crate::hub::cell::{JOB, Key};
use crate::hub::control::Wake;
use crate::hub::extras::{Exit, Listener};
use crate::hub::waiter::{ThreadParker, Waiter};
use crate::park::{self, Place};
use crate::spawn;
use crate::sync::select::{Arm, Slot};
use crate::sync::short_lock::ShortLock;
use crate::task::Task;
use crate::wait_reason::{WaitKind, WaitReason};

/// The right to wait for a task and to have its result. Dropping it lets the task go on alone.
pub struct JoinHandle<T> {
    pub(crate) key: Key<T>,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinHandle({})", park::describe(self.key.task()))
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the task's end and returns its result.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Join`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    ///
    /// # Errors
    /// [`JoinError::Panicked`] with the payload, or [`JoinError::Killed`].
    ///
    /// # Panics
    /// When a task joins itself.
    ///
    /// # Cancel safety
    /// Killed or timed out here, the task goes on alone and its result is dropped.
    pub fn join(mut self) -> Result<T, JoinError> {
        self.wait(None);
        self.key.take()
    }

    /// As [`join`](Self::join), for at most `limit`.
    ///
    /// # Errors
    /// The handle itself, if the task has not ended by then.
    pub fn join_timeout(mut self, limit: Duration) -> Result<Result<T, JoinError>, Self> {
        if self.wait(Some(clock::deadline(limit))) {
            Ok(self.key.take())
        } else {
            Err(self)
        }
    }

    /// As [`join_timeout`](Self::join_timeout), until `deadline`.
    ///
    /// # Errors
    /// The handle itself, if the task has not ended by then.
    pub fn join_deadline(mut self, deadline: Instant) -> Result<Result<T, JoinError>, Self> {
        if self.wait(Some(Some(deadline))) {
            Ok(self.key.take())
        } else {
            Err(self)
        }
    }

    /// Waits for the end. `Some(None)` is a limit beyond what the clock can tell.
    pub(crate) fn wait(&mut self, limit: Option<Option<Instant>>) -> bool {
        let deadline = limit.flatten();
        loop {
            if fork::is_lost(self.key.task().id()) && !self.key.task().is_done() {
                panic!("{}", fork::TEXT);
            }
            match park::place() {
                Place::Task(hub, fiber) => {
                    park::raise_pending(hub, fiber);
                    if self.key.task().is_done() {
                        return true;
                    }
                    assert!(
                        *fiber.header().task != *self.key.task(),
                        "{} joins itself, which would never end",
                        park::describe(self.key.task())
                    );
                    let (waiter, _) = park::task_waiter(fiber);
                    if !self.key.set_joiner(waiter) {
                        return true;
                    }
                    let wake = hub.park(fiber, self.reason(), deadline.map(clock::nanos));
                    if wake == Wake::Woken || !self.key.clear_joiner() {
                        return true;
                    }
                    park::raise_pending(hub, fiber);
                    if wake == Wake::TimedOut {
                        return false;
                    }
                }
                Place::Thread => {
                    let parker = park::fresh_parker();
                    if !self.key.set_joiner(Waiter::Thread(parker.clone())) {
                        return true;
                    }
                    // A wake may be a late one, for an earlier wait of this thread.
                    park::block_thread(&parker, deadline);
                    if !self.key.clear_joiner() {
                        return true;
                    }
                    park::raise_thread_frame();
                    if deadline.is_some_and(|d| clock::now() >= d) {
                        return false;
                    }
                }
                Place::Unwinding(..) if deadline.is_some() => return self.key.task().is_done(),
                Place::Unwinding(hub, fiber) => {
                    let parker = ThreadParker::new();
                    if !self.key.set_joiner(Waiter::Thread(parker.clone())) {
                        return true;
                    }
                    let reason = self.reason().held_by(self.key.task().id());
                    park::block_unwinding(hub, fiber, &parker, reason);
                    return true;
                }
            }
        }
    }

    fn reason(&self) -> WaitReason {
        let task = self.key.task();
        let kind = if task.flags() & JOB == 0 {
            WaitKind::Join
        } else {
            WaitKind::Blocking
        };
        WaitReason::new(kind, task.id())
    }

    /// Returns whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.key.task().is_done()
    }

    /// Returns an arm of a [`select!`](crate::select) that waits for the end; [`join`](Self::join)
    /// does not park after it.
    pub fn ending(&mut self) -> Ending<'_, T> {
        Ending { handle: self }
    }

    /// Asks the task to end, and returns at once.
    ///
    /// A task that has not started never runs. One that has is unwound at its next park (or the
    /// one that it is in): its destructors run, the panic hook does not. It may hold that back
    /// with [`shield`](crate::shield); if it swallows the unwinding, it meets it again at each
    /// later park. A task that never parks cannot be killed. A value or lock that was handed to
    /// the task before is not lost: that wait still succeeds, and the kill comes at the next park.
    /// A task that kills itself unwinds from here.
    pub fn kill(&self) {
        cancel::kill(self.key.task());
    }

    /// Calls `f` once the task has ended, in a task of its own; at once if it has ended already.
    pub fn on_exit(&self, f: impl FnOnce(Exit) + Send + 'static) {
        self.listen(Listener::InTask(Box::new(f)));
    }

    fn listen(&self, listener: Listener) {
        for (listener, exit) in self.key.task().listen(listener) {
            spawn::tell(listener, exit);
        }
    }

    /// Returns the task, to name, unpark or kill it from elsewhere.
    pub fn task(&self) -> Task {
        Task::of(self.key.task().clone())
    }

    /// Returns the task's id.
    pub fn id(&self) -> u64 {
        self.key.task().id()
    }
}

/// An arm that waits for a task's end; see [`JoinHandle::ending`].
#[must_use = "an arm does nothing outside of select!"]
#[derive(Debug)]
pub struct Ending<'a, T> {
    handle: &'a mut JoinHandle<T>,
}

impl<T> Arm for Ending<'_, T> {
    type Output = ();

    fn attempt(&mut self) -> Option<()> {
        self.handle.is_finished().then_some(())
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        !self.handle.key.set_joiner(slot.waiter())
    }

    fn leave(&mut self, chosen: bool) -> Option<()> {
        self.handle.key.clear_joiner();
        chosen.then_some(())
    }
}

/// Blocks the calling ordinary thread until the task has ended, whatever `timeout` frames say.
pub(crate) fn join_thread<T>(mut key: Key<T>) -> Result<T, JoinError> {
    let parker = ThreadParker::new();
    while key.set_joiner(Waiter::Thread(parker.clone())) {
        parker.wait(None);
    }
    key.take()
}

/// The handle of a task that was started by [`spawn_local`](crate::spawn_local): it stays on its thread.
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// sward_runtime::run(|| send(sward_runtime::spawn_local(|| 1)));
/// ```
pub struct LocalJoinHandle<T> {
    pub(crate) handle: JoinHandle<T>,
    pub(crate) not_send: PhantomData<*const ()>,
}

impl<T> fmt::Debug for LocalJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<T> LocalJoinHandle<T> {
    /// As [`JoinHandle::join`].
    ///
    /// # Errors
    /// As [`JoinHandle::join`].
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()
    }

    /// As [`JoinHandle::join_timeout`].
    ///
    /// # Errors
    /// The handle itself, if the task has not ended by then.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<T, JoinError>, Self> {
        self.handle.join_timeout(limit).map_err(|handle| Self {
            handle,
            not_send: PhantomData,
        })
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::kill`].
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// As [`JoinHandle::on_exit`].
    pub fn on_exit(&self, f: impl FnOnce(Exit) + Send + 'static) {
        self.handle.on_exit(f);
    }

    /// As [`JoinHandle::task`].
    pub fn task(&self) -> Task {
        self.handle.task()
    }

    /// As [`JoinHandle::id`].
    pub fn id(&self) -> u64 {
        self.handle.id()
    }
}
/// Waits for all tasks and returns their results in the order of the handles.
///
/// # Blocking
/// Parks under [`WaitKind::Join`], at most once for each task that has not ended.
///
/// # Examples
/// ```
/// use sward_runtime::{join_all, spawn};
/// let tasks = (0..100).map(|i| spawn(move || i));
/// let sum: i32 = join_all(tasks).into_iter().map(Result::unwrap).sum();
/// assert_eq!(sum, 4950);
/// ```
pub fn join_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<Result<T, JoinError>> {
    // All are spawned before the first is waited for, even if the iterator spawns as it goes.
    let handles: Vec<_> = handles.into_iter().collect();
    handles.into_iter().map(JoinHandle::join).collect()
}

/// As [`join_all`], for at most `limit`: a task that has not ended by then gives its handle back.
pub fn join_all_timeout<T>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
    limit: Duration,
) -> Vec<Result<Result<T, JoinError>, JoinHandle<T>>> {
    let deadline = Some(clock::deadline(limit));
    let handles: Vec<_> = handles.into_iter().collect();
    let each = |mut h: JoinHandle<T>| {
        if h.wait(deadline) {
            Ok(h.key.take())
        } else {
            Err(h)
        }
    };
    handles.into_iter().map(each).collect()
}

/// Waits for all tasks, or for the first that fails: its error is returned at once, and the others
/// go on alone.
///
/// # Errors
/// The [`JoinError`] of the task that failed first.
///
/// # Blocking
/// As [`join_all`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{run, sleep, spawn, try_join_all};
/// run(|| {
///     let slow = spawn(|| sleep(Duration::from_secs(60)));
///     let bad = spawn(|| sleep(Duration::ZERO));
///     bad.kill();
///     assert!(try_join_all([slow, bad]).unwrap_err().is_killed());
/// });
/// ```
pub fn try_join_all<T>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
) -> Result<Vec<T>, JoinError> {
    struct Failed {
        first: Option<usize>,
        ended: usize,
    }
    let mut handles: Vec<_> = handles.into_iter().collect();
    let failed = Arc::new(ShortLock::new(Failed {
        first: None,
        ended: 0,
    }));
    let changed = Arc::new(crate::sync::Event::new());
    let all = handles.len();
    for (i, handle) in handles.iter().enumerate() {
        let (failed, changed) = (failed.clone(), changed.clone());
        handle.listen(Listener::Inline(Box::new(move |exit| {
            let mut seen = failed.lock();
            seen.ended += 1;
            if exit != Exit::Returned && seen.first.is_none() {
                seen.first = Some(i);
            }
            let tell = seen.first == Some(i) || seen.ended == all;
            drop(seen);
            if tell {
                changed.set();
            }
        })));
    }
    if all > 0 {
        changed.wait();
    }
    let first = failed.lock().first;
    match first {
        Some(i) => match handles.swap_remove(i).join() {
            Err(e) => Err(e),
            Ok(_) => unreachable!("it was seen to fail"),
        },
        None => handles.into_iter().map(JoinHandle::join).collect(),
    }
}
