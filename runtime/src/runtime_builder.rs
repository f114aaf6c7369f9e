//! The knobs of a runtime, set by the program; what it leaves out is in `config.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Asked, OnDeadlock};
use crate::sight::stall::{self, Stall};

/// Sets the knobs of a [`Runtime`](crate::Runtime).
///
/// What is not set here is taken from the environment (`SWARD_WORKERS`, `SWARD_STACK_SIZE`,
/// `SWARD_DEADLOCK`, `SWARD_SIGQUIT`, `SWARD_STALL`, `SWARD_SAMPLING`, `SWARD_BLOCKING_THREADS`,
/// `SWARD_BUSY_POLL`), then from the defaults.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until build is called"]
pub struct RuntimeBuilder {
    pub(crate) asked: Asked,
    pub(crate) on_stall: Option<stall::Hook>,
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
    /// equal ones as they were set. It does not jump while [`Runtime::hold_clock`](crate::Runtime::hold_clock) holds it, or
    /// something outside is under way for a task. Other threads, and the one that waits in
    /// [`Runtime::run`](crate::Runtime::run), do not hold it back. Such a runtime has one worker. See `docs/time.md`.
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
}
