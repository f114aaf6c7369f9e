//! Tasks as users see them: spawn, the builder, handles, and joining many.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel;
use crate::clock;
use crate::error::JoinError;
use crate::fiber::stack::{DEFAULT_GUARD, StackSpec};
use crate::fork;
use crate::hub::cell::{Key, LOCAL, PINNED, STARTED, TaskRef, UNPARKED};
use crate::hub::control::Wake;
use crate::hub::current::{self, Caller};
use crate::hub::extras::{Exit, Listener};
use crate::hub::shared::RuntimeShared;
use crate::hub::waiter::{ThreadParker, Waiter};
use crate::hub::worker::Mail;
use crate::park::{self, Place};
use crate::runtime;
use crate::sync::short_lock::ShortLock;
use crate::wait_reason::{WaitKind, WaitReason};

/// Starts a task on the current runtime (from outside of one: on the default runtime, which
/// starts itself at the first use).
///
/// The task runs `f` on a stack of its own, at first as a closure in the caller's worker's queue;
/// a worker with nothing to do may take it from there. From its first instruction on it stays on
/// one worker. Dropping the handle lets the task go on by itself.
///
/// # Blocking
/// Never parks. With all stacks in use the task waits unstarted for one to come free; the dump
/// and the deadlock report show it. [`Builder::spawn`] gives an error instead.
///
/// # Panics
/// If the default runtime cannot be started (no threads or descriptors left; the message says
/// why), and in a forked child.
///
/// # Examples
/// ```
/// let task = sward_runtime::spawn(|| 6 * 7);
/// assert_eq!(task.join().unwrap(), 42);
/// ```
#[track_caller]
#[inline]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let site = Location::caller();
    if let Some(hub) = current::hub() {
        if hub.rt.epoch.is_stale() {
            panic!("{}", fork::TEXT);
        }
        // SAFETY: F and T are Send and 'static.
        let (task, key) = unsafe { TaskRef::new(f, hub.next_id(), site, 0) };
        hub.enqueue(task);
        return JoinHandle { key };
    }
    spawn_into(runtime::default_or_panic(), f, site)
}

/// Starts a task on a given runtime.
pub(crate) fn spawn_into<F, T>(
    rt: &RuntimeShared,
    f: F,
    site: &'static Location<'static>,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if rt.epoch.is_stale() {
        panic!("{}", fork::TEXT);
    }
    // SAFETY: F and T are Send and 'static.
    let (task, key) = unsafe { TaskRef::new(f, rt.one_id(), site, 0) };
    rt.inject(task);
    JoinHandle { key }
}

/// Starts a task on the calling task's worker, where it stays; `f` need not be `Send`.
///
/// # Blocking
/// Never parks.
///
/// # Panics
/// Outside of a task: there is no worker to stay on.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// sward_runtime::run(|| {
///     let shared = Rc::new(7);
///     let other = shared.clone();
///     assert_eq!(sward_runtime::spawn_local(move || *other).join().unwrap(), 7);
/// });
/// ```
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> LocalJoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    match Builder::new().spawn_local(f) {
        Ok(handle) => handle,
        Err(e) => panic!("spawn_local: {e}"),
    }
}

/// Starts a task that first sleeps for `delay` (gevent's `spawn_later`).
///
/// It has its stack from the start. Killed before the delay is over, it never runs `f`.
///
/// # Panics
/// As [`spawn`].
#[track_caller]
pub fn spawn_after<F, T>(delay: Duration, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let at = clock::deadline(delay);
    spawn(move || {
        park::sleep_until(at);
        f()
    })
}

/// Calls a listener, user code in a task of its own.
pub(crate) fn tell(listener: Listener, exit: Exit) {
    match listener {
        Listener::Inline(f) => f(exit),
        Listener::InTask(f) => drop(spawn(move || f(exit))),
    }
}

/// How a task is started, when [`spawn`] is not enough.
///
/// # Examples
/// ```
/// let task = sward_runtime::Builder::new()
///     .name("crawler")
///     .stack_size(128 * 1024)
///     .spawn(|| sward_runtime::current().name().map(str::to_owned))?;
/// assert_eq!(task.join().unwrap().as_deref(), Some("crawler"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until spawn is called"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    guard_size: Option<usize>,
    worker: Option<usize>,
}

impl Builder {
    /// Begins with a runtime's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the task, for dumps and messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the size of the stack in bytes; rounded up to whole pages.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets the size of the guard below the stack in bytes: a C function with a frame larger than
    /// that can step over it (see `docs/caveats.md`).
    pub fn guard_size(mut self, bytes: usize) -> Self {
        self.guard_size = Some(bytes);
        self
    }

    /// Places the task on the worker with that number, from 0; no other one will take it.
    pub fn on_worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Starts the task, as [`spawn`] does.
    ///
    /// # Errors
    /// `OutOfMemory` when all stacks are in use (where `spawn` would let the task wait), naming
    /// what limits them and how to raise it; `InvalidInput` for sizes and worker numbers out of
    /// range; `Other` if the default runtime cannot be started, and in a forked child.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let site = Location::caller();
        let hub = current::hub();
        let rt: &RuntimeShared = match hub {
            Some(hub) => &hub.rt,
            None => runtime::default()?,
        };
        self.spawn_on(rt, f, site)
    }

    pub(crate) fn spawn_on<F, T>(
        self,
        rt: &RuntimeShared,
        f: F,
        site: &'static Location<'static>,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.check(rt)?;
        let flags = if self.worker.is_some() { PINNED } else { 0 };
        // SAFETY: F and T are Send and 'static.
        let (task, key) = unsafe { TaskRef::new(f, rt.one_id(), site, flags) };
        self.equip(rt, &task)?;
        match self.worker {
            Some(n) => rt.workers[n].send(Mail::Start(task)),
            None => match current::hub() {
                Some(hub) if std::ptr::eq(&*hub.rt, rt) => hub.enqueue(task),
                _ => rt.inject(task),
            },
        }
        Ok(JoinHandle { key })
    }

    /// Starts the task on the calling task's worker, as [`spawn_local`] does.
    ///
    /// # Errors
    /// As [`Builder::spawn`]; `InvalidInput` outside of a task, or with
    /// [`on_worker`](Self::on_worker) naming another worker.
    #[track_caller]
    pub fn spawn_local<F, T>(self, f: F) -> io::Result<LocalJoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let site = Location::caller();
        let Caller::Task(hub, _) = current::caller() else {
            return Err(invalid(
                "it must be called in a task: there is no worker to stay on",
            ));
        };
        if self.worker.is_some_and(|n| n != hub.index) {
            return Err(invalid(
                "on_worker names another worker than the calling task's",
            ));
        }
        self.check(&hub.rt)?;
        // SAFETY: F and T are 'static. LOCAL: the task goes into this worker's own queue below,
        // and the handle is !Send, so all happens on this thread.
        let (task, key) = unsafe { TaskRef::new(f, hub.next_id(), site, LOCAL | PINNED) };
        self.equip(&hub.rt, &task)?;
        hub.enqueue_pinned(task);
        Ok(LocalJoinHandle {
            handle: JoinHandle { key },
            not_send: PhantomData,
        })
    }

    fn check(&self, rt: &RuntimeShared) -> io::Result<()> {
        if rt.epoch.is_stale() {
            return Err(io::Error::other(fork::TEXT));
        }
        if let Some(n) = self.worker
            && n >= rt.workers.len()
        {
            let have = rt.workers.len();
            let text = format!("on_worker({n}): the runtime has workers 0 to {}", have - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let waiting = usize::try_from(rt.unstarted()).unwrap_or(usize::MAX);
        if rt.live().saturating_add(waiting) >= rt.budget.limit() {
            return Err(rt.budget.refusal());
        }
        Ok(())
    }

    fn equip(&self, rt: &RuntimeShared, task: &TaskRef) -> io::Result<()> {
        if let Some(name) = &self.name {
            task.extras_or_new().set_name(name);
        }
        if self.stack_size.is_some() || self.guard_size.is_some() {
            let size = self.stack_size.unwrap_or_else(|| rt.config.spec.size());
            let guard = self.guard_size.unwrap_or(DEFAULT_GUARD);
            task.extras_or_new().set_spec(StackSpec::new(size, guard)?);
        }
        Ok(())
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The right to wait for a task and to have its result. Dropping it lets the task go on alone.
pub struct JoinHandle<T> {
    key: Key<T>,
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
    fn wait(&mut self, limit: Option<Option<Instant>>) -> bool {
        let deadline = limit.flatten();
        let reason = WaitReason::new(WaitKind::Join, self.key.task().id());
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
                    let wake = hub.park(fiber, reason, deadline.map(clock::nanos));
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
                    let reason = reason.held_by(self.key.task().id());
                    park::block_unwinding(hub, fiber, &parker, reason);
                    return true;
                }
            }
        }
    }

    /// Returns whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.key.task().is_done()
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
            tell(listener, exit);
        }
    }

    /// Returns the task, to name, unpark or kill it from elsewhere.
    pub fn task(&self) -> Task {
        Task {
            who: Who::Task(self.key.task().clone()),
        }
    }

    /// Returns the task's id.
    pub fn id(&self) -> u64 {
        self.key.task().id()
    }
}

/// Blocks the calling ordinary thread until the task has ended, whatever `timeout` frames say.
pub(crate) fn join_blocking<T>(mut key: Key<T>) -> Result<T, JoinError> {
    let parker = ThreadParker::new();
    while key.set_joiner(Waiter::Thread(parker.clone())) {
        parker.wait(None);
    }
    key.take()
}

/// The handle of a task that was started by [`spawn_local`]: it stays on its thread.
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// sward_runtime::run(|| send(sward_runtime::spawn_local(|| 1)));
/// ```
pub struct LocalJoinHandle<T> {
    handle: JoinHandle<T>,
    not_send: PhantomData<*const ()>,
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

/// A task, or an ordinary thread that uses sward's waits: who it is, and how to wake or kill it.
#[derive(Clone)]
pub struct Task {
    who: Who,
}

#[derive(Clone)]
enum Who {
    Task(TaskRef),
    Thread(Arc<ThreadParker>),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Task(task) => f.write_str(&park::describe(task)),
            Who::Thread(parker) => write!(f, "thread {:?}", parker.thread().name()),
        }
    }
}

/// Returns the calling task, or the calling thread where there is none.
///
/// # Examples
/// ```
/// let id = sward_runtime::run(|| sward_runtime::current().id());
/// assert!(id > 0);
/// ```
pub fn current() -> Task {
    let who = match current::caller() {
        Caller::Task(_, fiber) => Who::Task(TaskRef::clone(&fiber.header().task)),
        Caller::Hub(_) | Caller::Thread => Who::Thread(current::thread_parker()),
    };
    Task { who }
}

impl Task {
    /// Returns the id, unique in this process; 0 for a thread.
    pub fn id(&self) -> u64 {
        match &self.who {
            Who::Task(task) => task.id(),
            Who::Thread(_) => 0,
        }
    }

    /// Returns the name, if it has one.
    pub fn name(&self) -> Option<&str> {
        match &self.who {
            Who::Task(task) => task.name(),
            Who::Thread(parker) => parker.thread().name(),
        }
    }

    /// Returns where the task was spawned; `None` for a thread.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        match &self.who {
            Who::Task(task) => Some(task.site()),
            Who::Thread(_) => None,
        }
    }

    /// Gives it the permit that [`park`](crate::park()) waits for. From any thread; never blocks.
    pub fn unpark(&self) {
        match &self.who {
            Who::Thread(parker) => parker.unpark(),
            Who::Task(task) => {
                // Before the start the flag is the permit; after it, its worker keeps it.
                if task.raise(UNPARKED) & STARTED == 0 {
                    return;
                }
                match (current::hub(), task.home()) {
                    (Some(hub), _) if hub.owns(task) => hub.unpark(task),
                    (_, Some(home)) => home.send(Mail::Unpark(task.clone())),
                    (_, None) => {}
                }
            }
        }
    }

    /// As [`JoinHandle::kill`]; a thread cannot be killed, so there it does nothing.
    pub fn kill(&self) {
        if let Who::Task(task) = &self.who {
            cancel::kill(task);
        }
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
