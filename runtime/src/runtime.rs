//! Runtimes: building them, running in them, ending them, and the default one.
//!
//! A runtime's end (dropping [`Runtime`], or [`run`] returning): every task is killed, started or
//! not; the workers go on until all have ended or `shutdown_timeout` has passed. What has not
//! ended by then is leaked and reported: its stack is never reused, and its worker's OS thread
//! never ends, because leaked frames may have lent out its thread-locals. A suspended task is
//! never dropped (design R10).

use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::at_fork;
use crate::clock;
use crate::config::Config;
use crate::fiber::budget::Budget;
use crate::fiber::memory;
use crate::fiber::overflow::{self, AltStack};
use crate::hub::cell::TaskRef;
use crate::hub::control::ENDED;
use crate::hub::current;
use crate::hub::question::{RollCall, TaskInfo};
use crate::hub::shared::{RuntimeShared, Upcalls};
use crate::hub::waiter::ThreadParker;
use crate::hub::watch;
use crate::hub::worker::{self, Mail, WorkerShared};
use crate::hub::{self, Hub, inner, start};
use crate::join::{self, JoinHandle};
use crate::membarrier;
use crate::registry;
use crate::report;
use crate::runtime_builder::RuntimeBuilder;
use crate::sight::commands::About;
use crate::sight::console::{self, Console};
use crate::sight::deadlock;
use crate::sight::dump::{self, Dump, DumpOptions};
use crate::sight::stall;
use crate::sight::stats::Stats;
use crate::spawn::{self, Builder};
use crate::sync::short_lock::ShortLock;
use crate::virtual_clock::HeldClock;
use crate::wait_name;

/// A number of workers, each an OS thread that runs tasks.
///
/// # Examples
/// ```
/// let runtime = sward_runtime::Runtime::builder().workers(2).build()?;
/// let sum = runtime.run(|| sward_runtime::spawn(|| 6 * 7).join().unwrap());
/// assert_eq!(sum, 42);
/// # std::io::Result::Ok(())
/// ```
pub struct Runtime {
    shared: Arc<RuntimeShared>,
    tell: Sender<WorkerEnd>,
    /// Taken by the one who ends it.
    ends: ShortLock<Option<Receiver<WorkerEnd>>>,
    console: ShortLock<Option<Console>>,
}

struct WorkerEnd {
    worker: usize,
    /// What would not end; its thread stays for ever.
    leaked: Vec<TaskInfo>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("name", &self.shared.config.name)
            .field("workers", &self.shared.workers.len())
            .field("live", &self.shared.live())
            .finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    /// Starts the workers.
    ///
    /// # Errors
    /// `InvalidInput` for a knob out of range (naming it); the system's error when threads or
    /// descriptors are not to be had.
    pub fn build(self) -> io::Result<Runtime> {
        let config = Config::new(&self.asked)?;
        membarrier::register();
        clock::epoch();
        overflow::install(lookup);
        // All polls first: nothing has to be undone when one cannot be had.
        let made: io::Result<Vec<_>> = (0..config.workers).map(|_| hub::build_poll()).collect();
        let (polls, entrances): (Vec<_>, Vec<_>) = made?.into_iter().unzip();
        let acquire = |entrance| WorkerShared::acquire(entrance, config.virtual_clock);
        let workers = entrances.into_iter().map(acquire).collect();
        let budget = Budget::detect(config.max_stacks, config.spec, memory::guard_is_vma());
        let upcalls = Upcalls {
            watch: deadlock::watch,
            tell: spawn::tell,
        };
        let shared = Arc::new(RuntimeShared::new(config, workers, budget, upcalls));
        registry::add(&shared);
        let (tell, ends) = channel();
        let runtime = Runtime {
            shared: shared.clone(),
            tell: tell.clone(),
            ends: ShortLock::new(Some(ends)),
            console: ShortLock::new(None),
        };
        for (index, poll) in polls.into_iter().enumerate() {
            let (rt, tell) = (shared.clone(), tell.clone());
            let name = format!("{}-{index}", shared.config.name);
            let thread = std::thread::Builder::new()
                .name(name)
                .stack_size(WORKER_STACK);
            if let Err(e) = crate::thread::start(thread, move || work(index, rt, poll, &tell)) {
                for worker in index..shared.workers.len() {
                    shared.ended.fetch_add(1, AcqRel);
                    // Not back into the registry: the end of this runtime still sends it mail.
                    shared.workers[worker].silence();
                    let _ = runtime.tell.send(WorkerEnd {
                        worker,
                        leaked: Vec::new(),
                    });
                }
                return Err(e);
            }
        }
        hold_globals_at_fork();
        stall::watch(&shared, self.on_stall);
        if let Some(path) = &shared.config.console {
            *runtime.console.lock() =
                Some(Console::open(path, About::One(Arc::downgrade(&shared)))?);
        }
        console::from_environment();
        if std::env::var_os("SWARD_CONSOLE").is_some() {
            static ONCE: OnceLock<()> = OnceLock::new();
            ONCE.get_or_init(|| at_exit(console::close));
        }
        if shared.config.sampling {
            crate::sight::sample::enable()?;
        }
        if shared.config.sigquit {
            crate::sight::sigquit::enable()?;
        }
        Ok(runtime)
    }
}

/// Stack of a worker's own thread, for `on_worker_stack`: address space until it is touched.
const WORKER_STACK: usize = 4 << 20;

/// A worker's thread from start to end.
fn work(index: usize, rt: Arc<RuntimeShared>, poll: mio::Poll, tell: &Sender<WorkerEnd>) {
    let alt_stack = AltStack::install_for_thread();
    let shared = rt.workers[index];
    // SAFETY: no arguments.
    shared
        .published
        .thread
        .store(unsafe { libc::gettid() }, Relaxed);
    // Awake: from now on the watcher counts this worker.
    watch::stir();
    let hub = Box::leak(Box::new(Hub::new(index, rt, poll)));
    let ended = current::enter(hub, || {
        let run = std::panic::AssertUnwindSafe(|| hub.run());
        std::panic::catch_unwind(run).unwrap_or_else(|_| {
            // Its tasks would wait for ever.
            report::line("sward: the scheduler itself panicked (a bug in sward); aborting");
            std::process::abort()
        })
    });
    current::enter(hub, || {
        if !ended {
            hub.cancel_unstarted();
        }
        // Also where the poller itself must stay: nobody looks at it any more.
        hub.close_poller();
    });
    shared.published.thread.store(0, Relaxed);
    let leaked = if ended {
        Vec::new()
    } else {
        hub.list(RollCall::default()).tasks
    };
    let generators = hub.lent();
    let stays = !leaked.is_empty() || generators > 0;
    if leaked.is_empty() && generators > 0 {
        report::line(&format!(
            "sward: {generators} generators of worker {index} of runtime '{}' were never dropped, \
             or went on when they were: they are leaked, and the worker's thread stays",
            hub.rt.config.name
        ));
    }
    if !stays {
        // SAFETY: the box leaked above; no task is left, `enter` has cleared the pointer to the
        // hub, and nothing else keeps one.
        drop(unsafe { Box::from_raw(std::ptr::from_mut(hub)) });
        shared.release();
    }
    // Who waits may have given up.
    let _ = tell.send(WorkerEnd {
        worker: index,
        leaked,
    });
    drop(alt_stack);
    if stays {
        // Its frames may have lent out this thread's locals, and hold its stack pool.
        ThreadParker::new().park(None);
    }
}

/// What the overflow handler asks; runs in a signal handler.
fn lookup(address: usize) -> Option<overflow::Running> {
    let fiber = current::hub()?.current()?;
    let control = fiber.header();
    let inner = inner::with_guard_at(control, address);
    let slot = inner
        .as_ref()
        .map_or_else(|| fiber.slot(), |inner| inner.slot());
    let alive = control.quirks.get() & ENDED == 0;
    let name = if alive { control.task.name() } else { None }.unwrap_or("");
    Some(overflow::Running {
        guard: slot.guard(),
        generator: inner.as_ref().map(|inner| inner.header().site),
        size: slot.spec().size(),
        id: control.id,
        name: name.as_ptr(),
        name_len: name.len(),
    })
}

impl Runtime {
    /// Begins to set the knobs.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Runs `f` as a task of this runtime, waits for it without a deadline, and returns its
    /// result. A panic of `f` goes on in the caller. What `f` spawned and did not join lives on.
    ///
    /// # Blocking
    /// Blocks the calling OS thread, which is never a worker; hence `f` may borrow from it.
    ///
    /// # Panics
    /// In a task (call `f` there); if the task of `f` was killed; in a forked child.
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        assert!(
            // In a forked child the worker is gone, and with it the reason to keep it free.
            current::hub().is_none_or(Hub::is_stale),
            "sward: run was called inside a task: it would block the worker; call the closure"
        );
        if self.shared.epoch.is_stale() {
            panic!("{}", crate::fork::TEXT);
        }
        let site = Location::caller();
        // SAFETY: F and T are Send. They need not be 'static: this thread waits for the end of the
        // task, without a deadline and without a way to unwind, before it goes on.
        let (task, key) = unsafe { TaskRef::new(f, self.shared.one_id(), site, 0) };
        task.extras_or_new().set_name("main");
        self.shared.inject(task);
        match join::join_thread(key) {
            Ok(value) => value,
            Err(e) => e.resume(),
        }
    }

    /// Starts a task on this runtime: [`spawn`](fn@crate::spawn) from anywhere.
    ///
    /// # Panics
    /// In a forked child.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn::spawn_into(&self.shared, f, Location::caller())
    }

    /// Starts a task on this runtime as `builder` says.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        builder.spawn_on(&self.shared, f, Location::caller())
    }

    /// Runs `f` on an OS thread of this runtime: [`spawn_blocking`](fn@crate::spawn_blocking) from
    /// anywhere.
    ///
    /// # Panics
    /// As [`spawn_blocking`](fn@crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.shared.jobs.start(f, Location::caller()) {
            Ok(key) => JoinHandle { key },
            Err(e) => panic!("sward: spawn_blocking: {e}"),
        }
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.shared.workers.len()
    }

    /// Keeps a virtual clock from jumping until what is returned is dropped; see [`HeldClock`].
    /// With a real clock it only tells the deadlock report that somebody outside is at work.
    pub fn hold_clock(&self) -> HeldClock {
        HeldClock::of(&self.shared)
    }

    /// Describes every task of this runtime.
    ///
    /// # Blocking
    /// Waits for the workers to answer, for half a second if one is stalled.
    pub fn dump(&self) -> Dump {
        self.dump_with(DumpOptions::new())
    }

    /// Describes every task of this runtime, as `options` say.
    ///
    /// # Blocking
    /// As [`dump`](Self::dump).
    pub fn dump_with(&self, options: DumpOptions) -> Dump {
        dump::of(&self.shared, options)
    }

    /// Returns the counters of this runtime.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.shared)
    }

    /// Ends the runtime: kills every task and waits until all have ended, for at most `limit`.
    /// Returns how many tasks had to be leaked because they would not end.
    ///
    /// Blocking jobs that have not begun are dropped, as killed; running ones are waited for until
    /// the same `limit`, then their number is reported and their threads are left to themselves.
    ///
    /// # Blocking
    /// Blocks the calling thread. On a worker of this very runtime it cannot wait: the end then
    /// goes on in the background.
    pub fn shutdown(self, limit: Duration) -> usize {
        self.end(limit)
    }

    fn end(&self, limit: Duration) -> usize {
        let rt = &self.shared;
        let console = self.console.lock().take();
        drop(console);
        if rt.stopping.swap(true, Relaxed) || rt.epoch.is_stale() {
            return 0;
        }
        let deadline = clock::real_deadline(limit);
        let at = deadline.map_or(u64::MAX, clock::nanos);
        for worker in &rt.workers {
            worker.send(Mail::Shutdown(at));
        }
        if current::hub().is_some_and(|hub| Arc::ptr_eq(&hub.rt, rt)) {
            return 0;
        }
        let Some(ends) = self.ends.lock().take() else {
            return 0;
        };
        let mut leaked = Vec::new();
        let mut stalled: Vec<usize> = (0..rt.workers.len()).collect();
        // The workers need a moment of their own after the deadline to say what is left.
        let patience = limit.saturating_add(Duration::from_millis(500));
        let until = clock::real_deadline(patience);
        while !stalled.is_empty() {
            let left = until.map_or(Duration::MAX, |u| {
                u.saturating_duration_since(clock::real_now())
            });
            let Ok(end) = ends.recv_timeout(left) else {
                break;
            };
            stalled.retain(|&w| w != end.worker);
            leaked.extend(end.leaked);
        }
        // Jobs whose waiters were killed go on; what they write should not be lost at the end.
        rt.jobs.close(true);
        let running = rt.jobs.wait_end(deadline);
        if running > 0 {
            report::line(&format!(
                "sward: runtime '{}' ended, but {running} blocking jobs still run after {limit:?}; \
                 their threads are left to themselves and their results dropped",
                rt.config.name
            ));
        }
        let lost = leaked.len() + stalled.len();
        if lost > 0 {
            let mut text = format!(
                "sward: runtime '{}' ended, but not all of it:\n",
                rt.config.name
            );
            // What has not started may never be looked at again, and somebody may wait for it.
            let mut unstarted: Vec<TaskRef> = std::iter::from_fn(|| rt.injector.pop()).collect();
            for w in stalled {
                text.push_str(&dump::stalled_line(rt, w));
                unstarted.extend(rt.workers[w].unstarted.take_oldest(u64::MAX));
            }
            for task in unstarted {
                // SAFETY: taken out of queues of tasks that any thread may start.
                unsafe { start::cancel(task, rt.upcalls.tell) };
            }
            for task in &leaked {
                text.push_str(&dump::task_line(task));
            }
            text.push_str(
                "these are leaked: a task that never parks, or swallows kills, cannot end\n",
            );
            report::text(&text);
        }
        lost
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.end(self.shared.config.shutdown);
    }
}

/// Builds a runtime with the defaults, runs `f` in it as a task, and ends it.
///
/// # Blocking
/// Blocks the calling OS thread until `f` has ended, then for the end of the runtime, at most
/// the shutdown time-out.
///
/// # Panics
/// In a task; if the runtime cannot be built (the message says why); with what `f` panics with.
///
/// # Examples
/// ```
/// let mut words = vec!["green"];
/// sward_runtime::run(|| words.push("thread"));
/// assert_eq!(words.join(" "), "green thread");
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    match Runtime::builder().build() {
        Ok(runtime) => runtime.run(f),
        Err(e) => panic!("sward: the runtime cannot be started: {e}"),
    }
}

static DEFAULT: OnceLock<Result<Runtime, (io::ErrorKind, String)>> = OnceLock::new();

/// The default runtime; it is started at the first use and never ends by itself.
pub(crate) fn default() -> io::Result<&'static RuntimeShared> {
    let start = || {
        let built = Runtime::builder().build();
        built
            .inspect(|runtime| registry::set_default(&runtime.shared))
            .map_err(|e| (e.kind(), e.to_string()))
    };
    match DEFAULT.get_or_init(start) {
        Ok(runtime) => Ok(&runtime.shared),
        Err((kind, text)) => Err(io::Error::new(*kind, text.clone())),
    }
}

pub(crate) fn default_or_panic() -> &'static RuntimeShared {
    match default() {
        Ok(rt) => rt,
        Err(e) => panic!("sward: the default runtime cannot be started: {e}"),
    }
}

/// Returns the number of workers of the calling task's runtime, or of the default runtime.
///
/// # Panics
/// As [`spawn`](fn@crate::spawn).
pub fn workers() -> usize {
    match current::hub() {
        Some(hub) => hub.rt.workers.len(),
        None => default_or_panic().workers.len(),
    }
}

/// Returns which worker of its runtime the caller is on; `None` on an ordinary thread.
///
/// # Examples
/// ```
/// use sward_runtime::{Builder, worker};
/// assert_eq!(worker(), None);
/// assert_eq!(Builder::new().on_worker(0).spawn(worker)?.join().ok(), Some(Some(0)));
/// # std::io::Result::Ok(())
/// ```
pub fn worker() -> Option<usize> {
    current::hub().map(|hub| hub.index)
}

/// No child is to find a lock of the process held by a thread that stayed in the parent.
fn hold_globals_at_fork() {
    // Nobody waits for it: a child that is forked meanwhile would do so for ever.
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Relaxed) {
        return;
    }
    #[cfg(not(loom))]
    {
        at_fork::hold_at_fork(&registry::globals());
        at_fork::hold_at_fork(&worker::globals());
        at_fork::hold_at_fork(&watch::globals());
        at_fork::hold_at_fork(&stall::globals());
        at_fork::hold_at_fork(&console::globals());
        at_fork::hold_at_fork(&wait_name::globals());
        at_fork::hold_at_fork(&crate::thread::globals());
        at_fork::hold_at_fork(&[&AT_EXIT]);
    }
}

type ExitFn = Box<dyn FnOnce() + Send>;
#[cfg(not(loom))]
static AT_EXIT: ShortLock<Vec<ExitFn>> = ShortLock::new(Vec::new());
#[cfg(loom)]
static AT_EXIT: std::sync::LazyLock<ShortLock<Vec<ExitFn>>> =
    std::sync::LazyLock::new(|| ShortLock::new(Vec::new()));

/// Calls `f` when `main` returns or `exit` is called, the last one registered first.
///
/// Thread-locals are gone by then, and tasks of the default runtime may still run beside it; it
/// must not wait for them. A panic of `f` is reported by the panic hook and goes no further.
///
/// # Examples
/// ```
/// sward_runtime::at_exit(|| { /* flush a file */ });
/// ```
pub fn at_exit(f: impl FnOnce() + Send + 'static) {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    AT_EXIT.lock().push(Box::new(f));
    if !REGISTERED.swap(true, Relaxed) {
        // SAFETY: `call` is a plain C function without arguments that never unwinds.
        unsafe { libc::atexit(call) };
    }
    extern "C" fn call() {
        stall::hush();
        loop {
            let next = AT_EXIT.lock().pop();
            let Some(f) = next else { return };
            let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            crate::unwinding::discard(called);
        }
    }
}
