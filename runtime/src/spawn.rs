//! Starting tasks.

use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::clock;
use crate::fiber::stack::{DEFAULT_GUARD, StackSpec};
use crate::fork;
use crate::hub::Hub;
use crate::hub::cell::{LOCAL, PINNED, TaskRef};
use crate::hub::current::{self, Caller};
use crate::hub::extras::{Exit, Listener};
use crate::hub::locals::Heritage;
use crate::hub::owner::Member;
use crate::hub::shared::RuntimeShared;
use crate::hub::worker::Mail;
use crate::join::{JoinHandle, LocalJoinHandle};
use crate::park;
use crate::runtime;
use crate::time;

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
        let heritage = hub.heritage();
        // SAFETY: F and T are Send and 'static.
        let (task, key) = unsafe { TaskRef::new(f, hub.next_id(), site, 0) };
        bequeath(&task, heritage);
        hub.enqueue(task);
        return JoinHandle { key };
    }
    spawn_into(runtime::default_or_panic(), f, site)
}

/// Starts a task that belongs to something, on the current runtime or on the default one. `join`
/// gives the membership.
///
/// # Safety
/// What `F` and `T` borrow outlives the task and the handle.
#[inline]
pub(crate) unsafe fn spawn_member<F, T>(
    f: F,
    site: &'static Location<'static>,
    join: impl FnOnce(TaskRef) -> Member,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let hub = current::hub();
    let rt: &RuntimeShared = match hub {
        Some(hub) => &hub.rt,
        None => runtime::default_or_panic(),
    };
    if rt.epoch.is_stale() {
        panic!("{}", fork::TEXT);
    }
    let id = hub.map_or_else(|| rt.one_id(), Hub::next_id);
    let heritage = hub.and_then(Hub::heritage);
    // SAFETY: F and T are Send, and outlive the task by the contract.
    let (task, key) = unsafe { TaskRef::new_member(f, id, site, 0, join) };
    bequeath(&task, heritage);
    match hub {
        Some(hub) => hub.enqueue(task),
        None => rt.inject(task),
    }
    JoinHandle { key }
}

/// As [`spawn_member`], for what borrows nothing.
#[inline]
pub(crate) fn spawn_owned<F, T>(
    f: F,
    site: &'static Location<'static>,
    join: impl FnOnce(TaskRef) -> Member,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: F and T are 'static.
    unsafe { spawn_member(f, site, join) }
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
    let heritage = current::hub().and_then(Hub::heritage);
    // SAFETY: F and T are Send and 'static.
    let (task, key) = unsafe { TaskRef::new(f, rt.one_id(), site, 0) };
    bequeath(&task, heritage);
    rt.inject(task);
    JoinHandle { key }
}

/// Starts a task on the calling task's worker, where it stays; `f` need not be `Send`.
///
/// # Blocking
/// Never parks.
///
/// # Panics
/// Outside of a task: there is no worker to stay on. In a forked child.
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
    match Builder::new().start_local(f, Location::caller()) {
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

/// Gives a new task what it inherits. That was cloned before the task was made, for a clone may
/// panic.
#[inline]
fn bequeath(task: &TaskRef, heritage: Option<Box<Heritage>>) {
    if let Some(heritage) = heritage {
        task.extras_or_new().set_heritage(heritage);
    }
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
    inherit_deadline: bool,
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

    /// Lets the deadlines of the [`timeout`](crate::timeout)s around the spawning code hold for the
    /// task too: it is killed when the earliest of them passes, and never runs if that is before
    /// its start. Those that a [`shield`](crate::shield) masks do not count.
    ///
    /// A task that inherits hands its deadline on to tasks that inherit from it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_runtime::{Builder, park, run, timeout};
    /// run(|| {
    ///     let task = timeout(Duration::from_millis(5), || {
    ///         Builder::new().inherit_deadline().spawn(park)
    ///     });
    ///     assert!(task.unwrap()?.join().unwrap_err().is_killed());
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn inherit_deadline(mut self) -> Self {
        self.inherit_deadline = true;
        self
    }

    fn deadline(&self) -> Option<Instant> {
        if self.inherit_deadline {
            time::earliest_deadline()
        } else {
            None
        }
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
        with_runtime(|rt| self.spawn_on(rt, f, site))
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
        let spec = self.check(rt)?;
        let deadline = self.deadline();
        let f = move || time::or_killed(deadline, f);
        let heritage = current::hub().and_then(Hub::heritage);
        // SAFETY: F and T are Send and 'static.
        let (task, key) = unsafe { TaskRef::new(f, rt.one_id(), site, self.flags()) };
        bequeath(&task, heritage);
        self.start(rt, task, spec);
        Ok(JoinHandle { key })
    }

    /// As [`Builder::spawn`], for a task that belongs to something. `join` gives the membership.
    ///
    /// # Safety
    /// What `F` and `T` borrow outlives the task and the handle.
    pub(crate) unsafe fn spawn_member<F, T>(
        self,
        f: F,
        site: &'static Location<'static>,
        join: impl FnOnce(TaskRef) -> Member,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        with_runtime(|rt| {
            let spec = self.check(rt)?;
            let deadline = self.deadline();
            let f = move || time::or_killed(deadline, f);
            let (id, flags) = (rt.one_id(), self.flags());
            let heritage = current::hub().and_then(Hub::heritage);
            // SAFETY: F and T are Send, and outlive the task by the contract.
            let (task, key) = unsafe { TaskRef::new_member(f, id, site, flags, join) };
            bequeath(&task, heritage);
            self.start(rt, task, spec);
            Ok(JoinHandle { key })
        })
    }

    /// As [`Builder::spawn_member`], for what borrows nothing.
    pub(crate) fn spawn_owned<F, T>(
        self,
        f: F,
        site: &'static Location<'static>,
        join: impl FnOnce(TaskRef) -> Member,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: F and T are 'static.
        unsafe { self.spawn_member(f, site, join) }
    }

    fn flags(&self) -> usize {
        if self.worker.is_some() { PINNED } else { 0 }
    }

    fn start(self, rt: &RuntimeShared, task: TaskRef, spec: Option<StackSpec>) {
        self.equip(&task, spec);
        match self.worker {
            Some(n) => rt.workers[n].send(Mail::Start(task)),
            None => match current::hub() {
                Some(hub) if std::ptr::eq(&*hub.rt, rt) => hub.enqueue(task),
                _ => rt.inject(task),
            },
        }
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
        if let Caller::Task(hub, _) = current::caller() {
            Self::check_budget(&hub.rt)?;
        }
        self.start_local(f, site)
    }

    fn start_local<F, T>(
        self,
        f: F,
        site: &'static Location<'static>,
    ) -> io::Result<LocalJoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
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
        let spec = self.check_options(&hub.rt)?;
        let deadline = self.deadline();
        let f = move || time::or_killed(deadline, f);
        let heritage = hub.heritage();
        // SAFETY: F and T are 'static. LOCAL: the task goes into this worker's own queue below,
        // and the handle is !Send, so all happens on this thread.
        let (task, key) = unsafe { TaskRef::new(f, hub.next_id(), site, LOCAL | PINNED) };
        bequeath(&task, heritage);
        self.equip(&task, spec);
        hub.enqueue_pinned(task);
        Ok(LocalJoinHandle {
            handle: JoinHandle { key },
            not_send: PhantomData,
        })
    }

    /// Whether the task can be started, and the stack that it asks for.
    fn check(&self, rt: &RuntimeShared) -> io::Result<Option<StackSpec>> {
        let spec = self.check_options(rt)?;
        Self::check_budget(rt)?;
        Ok(spec)
    }

    fn check_options(&self, rt: &RuntimeShared) -> io::Result<Option<StackSpec>> {
        if rt.epoch.is_stale() {
            return Err(io::Error::other(fork::TEXT));
        }
        if let Some(n) = self.worker
            && n >= rt.workers.len()
        {
            let have = rt.workers.len();
            let text = format!("on_worker({n}): the runtime has workers 0 to {}", have - 1);
            return Err(invalid(text));
        }
        if self.stack_size.is_none() && self.guard_size.is_none() {
            return Ok(None);
        }
        let size = self.stack_size.unwrap_or_else(|| rt.config.spec.size());
        let guard = self.guard_size.unwrap_or(DEFAULT_GUARD);
        StackSpec::new(size, guard).map(Some)
    }

    /// Whether a stack is left for one more. Tasks on their way to another worker are not seen.
    fn check_budget(rt: &RuntimeShared) -> io::Result<()> {
        let waiting = usize::try_from(rt.unstarted()).unwrap_or(usize::MAX);
        if rt.stacks().saturating_add(waiting) >= rt.budget.limit() {
            return Err(rt.budget.refusal());
        }
        Ok(())
    }

    fn equip(&self, task: &TaskRef, spec: Option<StackSpec>) {
        if let Some(name) = &self.name {
            task.extras_or_new().set_name(name);
        }
        if let Some(spec) = spec {
            task.extras_or_new().set_spec(spec);
        }
    }
}

/// Calls `f` with the current runtime, or with the default one.
fn with_runtime<R>(f: impl FnOnce(&RuntimeShared) -> io::Result<R>) -> io::Result<R> {
    match current::hub() {
        Some(hub) => f(&hub.rt),
        None => f(runtime::default()?),
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}
