//! Starting tasks.

use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use crate::clock;
use crate::fiber::stack::{DEFAULT_GUARD, StackSpec};
use crate::fork;
use crate::hub::cell::{LOCAL, PINNED, TaskRef};
use crate::hub::current::{self, Caller};
use crate::hub::extras::{Exit, Listener};
use crate::hub::shared::RuntimeShared;
use crate::hub::worker::Mail;
use crate::join::{JoinHandle, LocalJoinHandle};
use crate::park;
use crate::runtime;

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
        Self::check_budget(rt)?;
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
        Ok(())
    }

    /// Whether a stack is left for one more. Tasks on their way to another worker are not seen.
    fn check_budget(rt: &RuntimeShared) -> io::Result<()> {
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
