//! A pool of OS threads for *jobs*: closures that block.
//!
//! Nouns: a *job* is a task's cell (`cell`) that is run on a thread of the pool instead of a
//! stack; so its result, its panic, a handle that is dropped early and a kill before the start are
//! what they are for tasks. A thread is *idle* (in `idle`, asleep), *called* (taken out of there or
//! just made, and on its way to the queue) or *running* a job.
//!
//! Invariants, all under the one lock:
//! - Jobs start in the order in which they came.
//! - While jobs wait in the queue, a thread is called, or as many as may be are running.
//! - At most one thread is called at a time. It calls the next one if it finds more than its own
//!   job. So a burst of short jobs is done by the few threads that come to it, and one of long
//!   jobs still gets a thread for each, one wake-up after the other; nobody is woken twice.
//! - An idle thread is taken out by one side: whoever calls it, or itself when its time is over.
//! - The last idle one is called first: it is the warmest, and the others come of age.
//!
//! Rejected: a thread for each job that finds none idle (64 tasks that read a cached file made 64
//! threads, which then took turns); handing a job to a thread that sleeps (one that ends meanwhile
//! could have taken it).

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, Instant};

use super::cell::{JOB, Key, STARTED, TaskRef};
use super::current;
use super::extras::{Exit, Listener};
use super::shared::Outside;
use super::start;
use super::waiter::ThreadParker;
use crate::clock;
use crate::fork;
use crate::sync::short_lock::{ShortGuard, ShortLock};
use crate::unwinding;

std::thread_local! {
    /// The address of the pool that the thread belongs to.
    static POOL: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The jobs of all pools that have not ended.
static PENDING: AtomicUsize = AtomicUsize::new(0);

/// Returns how many jobs are queued or running, in all pools of the process.
pub(crate) fn pending() -> usize {
    PENDING.load(Acquire)
}

/// What others see of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) threads: usize,
}

pub(crate) struct Jobs {
    state: ShortLock<State>,
    /// The most threads.
    limit: usize,
    /// How long a thread stays without a job.
    idle_for: Duration,
    name: String,
    tell: fn(Listener, Exit),
    epoch: fork::Epoch,
}

struct State {
    queue: VecDeque<Job>,
    idle: Vec<Arc<ThreadParker>>,
    threads: usize,
    running: usize,
    /// A thread is on its way to the queue.
    called: bool,
    closed: bool,
    /// Waits for the last thread to end.
    closer: Option<Arc<ThreadParker>>,
    /// Threads made so far: the numbers in their names.
    made: usize,
}

struct Job {
    task: TaskRef,
    /// Holds the virtual clock of whoever gave the job; goes after the waiter has been woken.
    outside: Option<Outside>,
}

/// What to do about a queue with jobs in it, after unlocking.
enum Call {
    Nobody,
    Wake(Arc<ThreadParker>),
    /// Make the thread with that number.
    Make(usize),
}

/// How a thread comes to the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Call,
    Job,
}

impl State {
    /// Calls a thread, if one is needed and may be.
    fn call(&mut self, limit: usize) -> Call {
        if self.queue.is_empty() || self.called {
            return Call::Nobody;
        }
        if let Some(parker) = self.idle.pop() {
            self.called = true;
            return Call::Wake(parker);
        }
        if self.threads < limit {
            self.called = true;
            self.threads += 1;
            self.made += 1;
            return Call::Make(self.made);
        }
        Call::Nobody
    }

    /// A thread ends. Returns whom to tell.
    fn leave(&mut self) -> Option<Arc<ThreadParker>> {
        self.threads -= 1;
        if self.threads == 0 {
            self.closer.take()
        } else {
            None
        }
    }
}

impl Jobs {
    pub(crate) fn new(
        name: String,
        limit: usize,
        idle_for: Duration,
        tell: fn(Listener, Exit),
    ) -> Arc<Self> {
        Arc::new(Self {
            state: ShortLock::new(State {
                queue: VecDeque::new(),
                idle: Vec::new(),
                threads: 0,
                running: 0,
                called: false,
                closed: false,
                closer: None,
                made: 0,
            }),
            limit,
            // Never without a limit: such a wait counts for the deadlock report.
            idle_for: idle_for.min(Duration::from_secs(31_536_000)),
            name,
            tell,
            epoch: fork::Epoch::current(),
        })
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn census(&self) -> Census {
        if self.epoch.is_stale() {
            return Census::default();
        }
        let state = self.state.lock();
        Census {
            queued: state.queue.len(),
            running: state.running,
            threads: state.threads,
        }
    }

    /// Whether the calling thread is one of this pool.
    pub(crate) fn is_here(&self) -> bool {
        POOL.get() == std::ptr::from_ref(self).addr()
    }

    /// Makes a job of `f` and puts it in line; the key is for its outcome.
    ///
    /// # Errors
    /// As `submit`; `f` has been dropped then.
    pub(crate) fn start<F, T>(
        self: &Arc<Self>,
        f: F,
        site: &'static Location<'static>,
    ) -> io::Result<Key<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: F and T are Send and 'static.
        let (job, key) = unsafe { TaskRef::new(f, fork::task_ids(1), site, JOB) };
        self.submit(job)?;
        Ok(key)
    }

    /// Puts a job in line.
    ///
    /// # Errors
    /// No thread is there and none is to be had, the pool is closed, or this is a forked child:
    /// then the job is cancelled.
    fn submit(self: &Arc<Self>, job: TaskRef) -> io::Result<()> {
        if self.epoch.is_stale() {
            self.cancel(job);
            return Err(io::Error::other(fork::TEXT));
        }
        let outside = current::hub()
            .filter(|hub| hub.rt.config.virtual_clock)
            .map(|hub| Outside::new(&hub.rt));
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            self.cancel(job);
            return Err(io::Error::other(format!(
                "the blocking pool of '{}' has ended",
                self.name
            )));
        }
        PENDING.fetch_add(1, AcqRel);
        state.queue.push_back(Job { task: job, outside });
        let call = state.call(self.limit);
        drop(state);
        self.do_call(call)
    }

    /// Wakes or makes the called thread.
    ///
    /// # Errors
    /// The system has no thread and the pool neither: its jobs are cancelled.
    fn do_call(self: &Arc<Self>, call: Call) -> io::Result<()> {
        let number = match call {
            Call::Nobody => return Ok(()),
            Call::Wake(parker) => {
                parker.wake();
                return Ok(());
            }
            Call::Make(number) => number,
        };
        let jobs = self.clone();
        let thread = std::thread::Builder::new().name(format!("{}-blk{number}", self.name));
        let Err(e) = crate::thread::start(thread, move || jobs.thread()) else {
            return Ok(());
        };
        let mut state = self.state.lock();
        state.called = false;
        let closer = state.leave();
        if state.threads > 0 {
            // One of those will come to it.
            return Ok(());
        }
        let stranded = std::mem::take(&mut state.queue);
        drop(state);
        self.drop_all(stranded);
        if let Some(closer) = closer {
            closer.wake();
        }
        Err(io::Error::new(
            e.kind(),
            format!(
                "no thread for blocking jobs, and none of '{}' is left: {e}",
                self.name
            ),
        ))
    }

    /// What a thread of the pool does.
    fn thread(self: Arc<Self>) {
        POOL.set(Arc::as_ptr(&self).addr());
        let parker = ThreadParker::new();
        let mut from = From::Call;
        while let Some(job) = self.next(&parker, from) {
            self.run(job);
            from = From::Job;
        }
    }

    /// Takes the next job, waiting for it. `None`: the thread ends.
    fn next(self: &Arc<Self>, parker: &Arc<ThreadParker>, from: From) -> Option<Job> {
        let mut state = self.state.lock();
        match from {
            From::Call => state.called = false,
            From::Job => state.running -= 1,
        }
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.running += 1;
                let call = state.call(self.limit);
                drop(state);
                // With this thread there is one.
                let _ = self.do_call(call);
                return Some(job);
            }
            if state.closed {
                return Self::end(state);
            }
            state.idle.push(parker.clone());
            drop(state);
            let called = parker.wait(clock::real_deadline(self.idle_for));
            state = self.state.lock();
            if !called && let Some(i) = state.idle.iter().position(|p| Arc::ptr_eq(p, parker)) {
                state.idle.remove(i);
                return Self::end(state);
            }
            if !called {
                // Called at the last moment: the wake is here or on its way.
                drop(state);
                parker.wait(None);
                state = self.state.lock();
            }
            state.called = false;
        }
    }

    fn end(mut state: ShortGuard<'_, State>) -> Option<Job> {
        let closer = state.leave();
        drop(state);
        if let Some(closer) = closer {
            closer.wake();
        }
        None
    }

    fn run(&self, Job { task: job, outside }: Job) {
        job.raise(STARTED);
        // SAFETY: once, by the thread that took it out of the queue; jobs are Send, and need no
        // other stack than this thread's.
        let exit = unsafe { job.run() };
        let done = job.complete(exit);
        if let Some(joiner) = done.joiner {
            joiner.wake();
        }
        for listener in done.listeners {
            let tell = AssertUnwindSafe(|| (self.tell)(listener, exit));
            unwinding::discard(catch_unwind(tell));
        }
        // Last: until then a sleeping runtime has something to wait for.
        PENDING.fetch_sub(1, AcqRel);
        drop(outside);
    }

    /// Ends a job that never starts: whoever waits for it is told that it was killed.
    fn cancel(&self, job: TaskRef) {
        // SAFETY: it is in no queue, and a job is never LOCAL.
        unsafe { start::cancel(job, self.tell) };
    }

    fn drop_all(&self, jobs: VecDeque<Job>) {
        for job in jobs {
            self.cancel(job.task);
            PENDING.fetch_sub(1, AcqRel);
        }
    }

    /// Takes no more jobs; the threads end when the queue is empty. With `cancel` what has not
    /// started is dropped.
    pub(crate) fn close(&self, cancel: bool) {
        if self.epoch.is_stale() {
            return;
        }
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = if cancel {
            std::mem::take(&mut state.queue)
        } else {
            VecDeque::new()
        };
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        for parker in idle {
            parker.wake();
        }
        self.drop_all(dropped);
    }

    /// Waits, after `close`, until all threads have ended or `until` has passed. Returns the jobs
    /// that still run.
    pub(crate) fn wait_end(&self, until: Option<Instant>) -> usize {
        let parker = ThreadParker::new();
        let mut state = self.state.lock();
        if state.threads == 0 {
            return 0;
        }
        state.closer = Some(parker.clone());
        drop(state);
        parker.wait(until);
        let mut state = self.state.lock();
        state.closer = None;
        state.running
    }
}
