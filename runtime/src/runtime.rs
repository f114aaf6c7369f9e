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
use std::path::PathBuf;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock;
use crate::config::{Asked, Config, OnDeadlock};
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
use crate::hub::worker::{Mail, WorkerShared};
use crate::hub::{self, Hub, inner, start};
use crate::join::{self, JoinHandle};
use crate::membarrier;
use crate::registry;
use crate::report;
use crate::sight::commands::About;
use crate::sight::console::{self, Console};
use crate::sight::deadlock;
use crate::sight::dump::{self, Dump, DumpOptions};
use crate::sight::stall::{self, Stall};
use crate::sight::stats::Stats;
use crate::spawn::{self, Builder};
use crate::sync::short_lock::ShortLock;
use crate::virtual_clock::HeldClock;

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

/// Sets the knobs of a [`Runtime`].
///
/// What is not set here is taken from the environment (`SWARD_WORKERS`, `SWARD_STACK_SIZE`,
/// `SWARD_DEADLOCK`, `SWARD_SIGQUIT`, `SWARD_STALL`, `SWARD_SAMPLING`, `SWARD_BLOCKING_THREADS`,
/// `SWARD_BUSY_POLL`), then from the defaults.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until build is called"]
pub struct RuntimeBuilder {
    asked: Asked,
    on_stall: Option<stall::Hook>,
}

impl RuntimeBuilder {
    /// Sets the number of workers, 1 to 1024 (default: the available parallelism).
    pub fn workers(mut self, n: usize) -> Self {
        self.asked.workers = Some(n);
        self
    }

    /// Sets how much of its stack a task may use, in bytes (default 192 KiB; with the guard it
    /// reserves 256 KiB of address space, and uses memory only where it is touched).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.asked.stack_size = Some(bytes);
        self
    }

    /// Sets the size of the guard below each stack in bytes (default 64 KiB).
    pub fn guard_size(mut self, bytes: usize) -> Self {
        self.asked.guard_size = Some(bytes);
        self
    }

    /// Limits the number of stacks, and so of started tasks (more wait unstarted) and generators
    /// (more are refused). The default is
    /// what memory (the cgroup's too), address space and `vm.max_map_count` allow.
    pub fn max_stacks(mut self, n: usize) -> Self {
        self.asked.max_stacks = Some(n);
        self
    }

    /// Sets the prefix of the workers' thread names (default `sward`).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.asked.name = Some(name.into());
        self
    }

    /// Sets what happens when nothing can ever wake again (default: a report on stderr).
    pub fn on_deadlock(mut self, what: OnDeadlock) -> Self {
        self.asked.on_deadlock = Some(what);
        self
    }

    /// Sets how long the end of the runtime waits for killed tasks (default 5 s).
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.asked.shutdown = Some(limit);
        self
    }

    /// Sets how long a task that unwinds may block its worker for a lock or a join before the
    /// process is aborted (default 1 s).
    pub fn unwind_wait(mut self, limit: Duration) -> Self {
        self.asked.unwind_wait = Some(limit);
        self
    }

    /// Sets how long a worker polls before it sleeps (default 0: not at all).
    ///
    /// Waking a sleeping processor takes most of a round trip over loopback. A worker that polls
    /// answers sooner, and keeps its processor busy for that long after each thing it has done;
    /// more than the pauses between messages gains nothing. Once it sleeps it uses none.
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.asked.busy_poll = Some(limit);
        self
    }

    /// Sets whether `SIGQUIT` prints the dump of all tasks on stderr (default off).
    pub fn sigquit(mut self, on: bool) -> Self {
        self.asked.sigquit = Some(on);
        self
    }

    /// Gives the runtime a clock of its own, for tests: it stands still while a task can run, and
    /// jumps to the next timer when none can. A day of sleeping takes no time.
    ///
    /// [`now`](crate::now) tells that time. It is exact, as is the order of timers: by deadline,
    /// equal ones as they were set. It does not jump while [`Runtime::hold_clock`] holds it, or
    /// something outside is under way for a task. Other threads, and the one that waits in
    /// [`Runtime::run`], do not hold it back. Such a runtime has one worker. See `docs/time.md`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_runtime::{Runtime, now, sleep};
    /// let day = Duration::from_secs(86_400);
    /// Runtime::builder().virtual_clock().build()?.run(|| {
    ///     let begun = now();
    ///     sleep(day);
    ///     assert_eq!(now() - begun, day);
    /// });
    /// # std::io::Result::Ok(())
    /// ```
    pub fn virtual_clock(mut self) -> Self {
        self.asked.virtual_clock = true;
        self
    }

    /// Lets chance say which of the tasks that are ready runs next, for tests that look for an
    /// order that goes wrong.
    ///
    /// With one worker and a [`virtual_clock`](Self::virtual_clock), a seed gives one schedule, as
    /// long as no other thread takes part; print the seed, to see a failure again. Whoever waits
    /// in a queue is still served in order. It makes switches slower.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{Runtime, join_all, spawn, sync::unbounded};
    /// let order = |seed| {
    ///     let runtime = Runtime::builder().virtual_clock().shuffle(seed).build().unwrap();
    ///     runtime.run(|| {
    ///         let (sender, receiver) = unbounded();
    ///         join_all((0..9).map(|n| {
    ///             let sender = sender.clone();
    ///             spawn(move || sender.send(n).unwrap())
    ///         }));
    ///         drop(sender);
    ///         receiver.into_iter().collect::<Vec<_>>()
    ///     })
    /// };
    /// assert_eq!(order(1), order(1));
    /// assert!((2..9).any(|seed| order(seed) != order(1)));
    /// ```
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.asked.shuffle = Some(seed);
        self
    }

    /// Limits the OS threads that run what was given to [`blocking`](crate::blocking()) (default:
    /// 8 for each core, 128 at least); more jobs wait in line.
    pub fn blocking_threads(mut self, n: usize) -> Self {
        self.asked.blocking_threads = Some(n);
        self
    }

    /// Sets how long such a thread stays without a job before it ends (default 10 s).
    pub fn blocking_idle(mut self, limit: Duration) -> Self {
        self.asked.blocking_idle = Some(limit);
        self
    }

    /// Sets how long a task may keep its worker from others before stderr says so (default 1 s;
    /// `Duration::MAX`: never).
    ///
    /// A monitor thread looks every 50 ms, or four times as often as the shortest limit, while any
    /// worker is awake. It says once that a stall has begun and once that it has ended; a task that
    /// keeps nobody from anything is none.
    pub fn stall_threshold(mut self, limit: Duration) -> Self {
        self.asked.stall_threshold = Some(limit);
        self
    }

    /// Calls `f` with each stall, when it is noticed and when it is over, instead of writing to
    /// stderr. It runs on the monitor's thread and must not block.
    ///
    /// # Examples
    /// ```
    /// let runtime = sward_runtime::Runtime::builder()
    ///     .on_stall(|stall| eprintln!("a metric would be counted here: {stall}"))
    ///     .build()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn on_stall(mut self, f: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(stall::Hook(Arc::new(f)));
        self
    }

    /// Sets whether the stack of a *running* task may be looked at, when it stalls its worker or a
    /// dump with backtraces asks (default off).
    ///
    /// The task is interrupted by `SIGURG`, and its backtrace taken in the signal handler, which is
    /// not strictly allowed there: see `docs/observing.md`. Tasks that are parked or wait for their
    /// turn need no signal.
    pub fn sampling(mut self, on: bool) -> Self {
        self.asked.sampling = Some(on);
        self
    }

    /// Opens a console for people at a Unix socket of that path: `help`, `ps`, `stack ID`, `kill ID`,
    /// `stats` and more (default none). `docs/observing.md` tells of it.
    ///
    /// Only this user may connect (mode 0600). The socket goes with the runtime. `%p` in the path
    /// stands for the process's number. The variable `SWARD_CONSOLE` opens one that is about all
    /// runtimes of the process.
    pub fn console(mut self, path: impl Into<PathBuf>) -> Self {
        self.asked.console = Some(path.into());
        self
    }

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
            if let Err(e) = thread.spawn(move || worker(index, rt, poll, &tell)) {
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
fn worker(index: usize, rt: Arc<RuntimeShared>, poll: mio::Poll, tell: &Sender<WorkerEnd>) {
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
    static REGISTERED: OnceLock<()> = OnceLock::new();
    AT_EXIT.lock().push(Box::new(f));
    REGISTERED.get_or_init(|| {
        // SAFETY: `call` is a plain C function without arguments that never unwinds.
        unsafe { libc::atexit(call) };
    });
    extern "C" fn call() {
        loop {
            let next = AT_EXIT.lock().pop();
            let Some(f) = next else { return };
            let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            crate::unwinding::discard(called);
        }
    }
}
