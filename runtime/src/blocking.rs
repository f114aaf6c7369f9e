//! Code that blocks, on OS threads of its own, while the task that wants it parks.
//!
//! `hub/jobs.rs` is the pool; a job is a task's cell, so waiting for one is joining it.
//!
//! Where `f` of [`blocking`] runs:
//! | caller | where |
//! |---|---|
//! | a task | a thread of its runtime's pool |
//! | an ordinary thread, so also a thread of a pool | right there: it may block, and a pool of one thread cannot wait for itself |
//! | a task that unwinds | on the worker's own stack: it may not park, and `f` needs nobody else of this worker |
//!
//! Rejected: borrowed closures (the wait would have to be shielded, so a disk that hangs could not
//! be timed out, and a parked task's stack would be pointed into, design R4).

use std::fmt;
use std::io;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::vec;

use crate::config::BLOCKING_IDLE;
use crate::error::JoinError;
use crate::hub::current;
use crate::hub::jobs::Jobs;
use crate::join::JoinHandle;
use crate::lend;
use crate::park::{self, Place};
use crate::runtime;
use crate::spawn;

/// Runs `f`, which blocks, on an OS thread, and waits for its result (gevent's
/// `threadpool.apply`).
///
/// The other tasks of the worker run meanwhile. The runtime's threads for this are made as they
/// are needed, up to `RuntimeBuilder::blocking_threads` (`SWARD_BLOCKING_THREADS`); more jobs wait
/// in line. On an ordinary thread, one of a pool included, `f` is simply called; in a task that
/// unwinds it runs on the worker's own stack.
///
/// # Blocking
/// Parks under [`WaitKind::Blocking`](crate::WaitKind::Blocking); honours kill and `timeout`.
///
/// # Panics
/// With what `f` panics with. If no thread can be had, if the runtime has ended, in a forked child.
///
/// # Cancel safety
/// Killed or timed out here, `f` goes on to its end on its thread, and its result is dropped
/// there; if it has not begun, it never will.
///
/// # Examples
/// ```
/// let text = sward_runtime::run(|| {
///     sward_runtime::blocking(|| std::fs::read_to_string("/proc/self/comm"))
/// });
/// assert!(text.is_ok());
/// ```
#[track_caller]
pub fn blocking<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match attempt(f) {
        Ok(value) => value,
        Err(e) => panic!("sward: blocking: {e}"),
    }
}

/// As [`blocking`], with an error where no thread can be had.
#[track_caller]
pub(crate) fn attempt<F, T>(f: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match park::place() {
        Place::Thread => Ok(f()),
        Place::Unwinding(..) => Ok(lend::on_worker_stack(f)),
        Place::Task(hub, _) => {
            park::checkpoint();
            let key = hub.rt.jobs.start(f, Location::caller())?;
            hub.replies.expect();
            wait(JoinHandle { key })
        }
    }
}

/// A job that somebody waits for: unwound, it is killed, so that it does not begin for nobody.
struct Wanted<T>(Option<JoinHandle<T>>);

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.kill();
        }
    }
}

fn wait<T>(handle: JoinHandle<T>) -> io::Result<T> {
    let mut wanted = Wanted(Some(handle));
    if let Some(handle) = &mut wanted.0 {
        handle.wait(None);
    }
    // Not `join`, which could be interrupted: nothing may come between the end and the result.
    match wanted.0.take().map(|handle| handle.key.take()) {
        Some(Ok(value)) => Ok(value),
        Some(Err(JoinError::Panicked(payload))) => resume_unwind(payload),
        Some(Err(JoinError::Killed)) | None => {
            Err(io::Error::other("the runtime ended before the job began"))
        }
    }
}

/// Runs `f`, which blocks, on an OS thread of the current runtime (from outside of one: of the
/// default runtime), without waiting for it.
///
/// The handle is that of a task: `join` gives the result or the panic, and is honoured by kill and
/// `timeout`; `kill` keeps a job from starting, but does not stop one that runs; without the handle
/// the job goes on and its result is dropped. What `on_exit` is given runs as a task of the default
/// runtime. Waiting parks under [`WaitKind::Blocking`](crate::WaitKind::Blocking).
///
/// A job that waits for another one keeps its thread meanwhile: if all threads of the pool do so,
/// none is left for the others. [`blocking`] inside a job has not this trouble.
///
/// # Blocking
/// Never parks.
///
/// # Panics
/// If no thread can be had, if the runtime has ended, in a forked child; from outside of a runtime
/// as [`spawn`](fn@crate::spawn).
///
/// # Examples
/// ```
/// let sum = sward_runtime::spawn_blocking(|| (1..=10).sum::<i32>());
/// assert_eq!(sum.join().unwrap(), 55);
/// ```
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let jobs = match current::hub() {
        Some(hub) => &hub.rt.jobs,
        None => &runtime::default_or_panic().jobs,
    };
    match jobs.start(f, Location::caller()) {
        Ok(key) => JoinHandle { key },
        Err(e) => panic!("sward: spawn_blocking: {e}"),
    }
}

/// A pool of OS threads of one's own (gevent's `ThreadPool`): at most `size` jobs run at a time.
///
/// For what must not take all threads of the runtime's pool, or may be used by few at a time (a
/// database with four connections). Threads are made when they are needed and end after 10 s
/// without a job. Dropped, it takes no more jobs; those it has are done.
///
/// # Examples
/// ```
/// use sward_runtime::{BlockingPool, run};
/// let squares = run(|| BlockingPool::new(4).map(0..10, |i| i * i));
/// assert_eq!(squares[9], 81);
/// ```
pub struct BlockingPool {
    jobs: Arc<Jobs>,
}

impl BlockingPool {
    /// Returns a pool of at most `size` threads; it has none yet.
    ///
    /// # Panics
    /// If `size` is 0: no job would ever run.
    pub fn new(size: usize) -> Self {
        Self::named("pool", size)
    }

    /// As [`new`](Self::new), with the beginning of its threads' names.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn named(name: impl Into<String>, size: usize) -> Self {
        assert!(
            size > 0,
            "sward: a blocking pool of 0 threads would never do a job; it takes 1 or more"
        );
        Self {
            jobs: Jobs::new(name.into(), size, BLOCKING_IDLE, spawn::tell),
        }
    }

    /// Runs `f` on a thread of this pool and waits for it (gevent's `apply`), as [`blocking`].
    ///
    /// On an ordinary thread too; on one of this very pool it simply calls `f`.
    ///
    /// # Blocking
    /// As [`blocking`].
    ///
    /// # Panics
    /// As [`blocking`].
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.jobs.is_here() {
            return f();
        }
        if let Place::Unwinding(..) = park::place() {
            return lend::on_worker_stack(f);
        }
        park::checkpoint();
        match wait(self.spawn(f)) {
            Ok(value) => value,
            Err(e) => panic!("sward: BlockingPool::run: {e}"),
        }
    }

    /// Runs `f` on a thread of this pool without waiting for it, as [`spawn_blocking`].
    ///
    /// # Panics
    /// If no thread can be had; in a forked child.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.try_spawn(f) {
            Ok(handle) => handle,
            Err(e) => panic!("sward: BlockingPool::spawn: {e}"),
        }
    }

    /// As [`spawn`](Self::spawn), with an error where that panics.
    ///
    /// # Errors
    /// If no thread can be had; in a forked child. `f` has been dropped then.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::BlockingPool;
    /// let handle = BlockingPool::new(1).try_spawn(|| 7)?;
    /// assert_eq!(handle.join().unwrap(), 7);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let key = self.jobs.start(f, Location::caller())?;
        Ok(JoinHandle { key })
    }

    /// Calls `f` with each item on the threads of this pool, and returns the results in the order
    /// of the items.
    ///
    /// # Blocking
    /// As [`blocking`].
    ///
    /// # Panics
    /// With the first panic of `f` in the order of the items; jobs that have not begun are dropped.
    ///
    /// # Cancel safety
    /// Jobs that run go on, their results are dropped; the others are dropped.
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> Vec<T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        struct Rest<T>(vec::IntoIter<JoinHandle<T>>);
        impl<T> Drop for Rest<T> {
            fn drop(&mut self) {
                self.0.as_slice().iter().for_each(JoinHandle::kill);
            }
        }
        let f = Arc::new(f);
        let start = |item| {
            let f = f.clone();
            self.spawn(move || f(item))
        };
        let mut rest = Rest(items.into_iter().map(start).collect::<Vec<_>>().into_iter());
        let mut results = Vec::with_capacity(rest.0.len());
        for handle in rest.0.by_ref() {
            match wait(handle) {
                Ok(value) => results.push(value),
                Err(e) => panic!("sward: BlockingPool::map: {e}"),
            }
        }
        results
    }

    /// Returns how many threads it may have.
    pub fn size(&self) -> usize {
        self.jobs.limit()
    }

    /// Returns how many jobs are queued or running.
    pub fn pending(&self) -> usize {
        let census = self.jobs.census();
        census.queued + census.running
    }

    /// Returns how many threads there are now.
    pub fn threads(&self) -> usize {
        self.jobs.census().threads
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.jobs.close(false);
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingPool")
            .field("name", &self.jobs.name())
            .field("size", &self.size())
            .field("pending", &self.pending())
            .field("threads", &self.threads())
            .finish()
    }
}
