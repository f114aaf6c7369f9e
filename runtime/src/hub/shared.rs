//! What the workers of one runtime share.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

use crossbeam_queue::SegQueue;

use super::cell::TaskRef;
use super::extras::{Exit, Listener};
use super::jobs::Jobs;
use super::worker::WorkerShared;
use crate::config::Config;
use crate::fiber::budget::Budget;
use crate::fork;
use crate::membarrier;

/// Sleeps for at most that long. `true`: something has come.
pub(crate) type Doze<'a> = &'a dyn Fn(Option<Duration>) -> bool;

/// What the hub calls in the layers above it.
#[derive(Clone, Copy)]
pub(crate) struct Upcalls {
    /// Sleep by calling the closure, with nothing left to wake this worker from inside.
    pub(crate) watch: fn(&Arc<RuntimeShared>, Doze<'_>),
    /// Tell of a task's end.
    pub(crate) tell: fn(Listener, Exit),
}

pub(crate) struct RuntimeShared {
    pub(crate) upcalls: Upcalls,
    pub(crate) config: Config,
    pub(crate) workers: Box<[&'static WorkerShared]>,
    /// Tasks spawned by threads that are not workers, for whoever has time.
    pub(crate) injector: SegQueue<TaskRef>,
    pub(crate) budget: Arc<Budget>,
    /// The OS threads for what blocks.
    pub(crate) jobs: Arc<Jobs>,
    /// One worker at a time looks for tasks to take over.
    pub(crate) searching: AtomicBool,
    /// What is under way outside the runtime and will wake a task of it; see `begin_outside`.
    outside: AtomicUsize,
    /// Workers asleep (a hint).
    pub(crate) asleep: AtomicUsize,
    /// Workers asleep that nothing inside the runtime will wake.
    pub(crate) quiet: AtomicUsize,
    /// Goes up with each sign of life, so that one silence is reported once.
    pub(crate) reported_at: AtomicU64,
    pub(crate) stopping: AtomicBool,
    /// Workers that have been told to end and have nothing left to do.
    pub(crate) ended: AtomicUsize,
    next_worker: AtomicU32,
    pub(crate) epoch: fork::Epoch,
}

/// Something that goes on outside a runtime, for as long as this lives; see
/// [`RuntimeShared::begin_outside`].
pub(crate) struct Outside(Arc<RuntimeShared>);

impl Outside {
    pub(crate) fn new(rt: &Arc<RuntimeShared>) -> Self {
        rt.begin_outside();
        Self(rt.clone())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.end_outside();
    }
}

impl Drop for RuntimeShared {
    fn drop(&mut self) {
        self.jobs.close(true);
    }
}

/// Ids are handed to workers in blocks, so that a spawn touches no shared line.
const ID_BLOCK: u64 = 64;

impl RuntimeShared {
    pub(crate) fn new(
        config: Config,
        workers: Vec<&'static WorkerShared>,
        budget: Budget,
        upcalls: Upcalls,
    ) -> Self {
        let jobs = Jobs::new(
            config.name.clone(),
            config.blocking_threads,
            config.blocking_idle,
            upcalls.tell,
        );
        Self {
            upcalls,
            jobs,
            config,
            workers: workers.into(),
            injector: SegQueue::new(),
            budget: Arc::new(budget),
            searching: AtomicBool::new(false),
            outside: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            quiet: AtomicUsize::new(0),
            reported_at: AtomicU64::new(u64::MAX),
            stopping: AtomicBool::new(false),
            ended: AtomicUsize::new(0),
            next_worker: AtomicU32::new(0),
            epoch: fork::Epoch::current(),
        }
    }

    /// Counts something that goes on outside the runtime and will wake a task of it: a blocking
    /// job, a source that a task waits for, a child process, a thread that was promised to.
    ///
    /// While there is any, a virtual clock stands still (design R9), and silence is no deadlock.
    /// Each is ended by [`end_outside`](Self::end_outside); [`Outside`] does both.
    pub(crate) fn begin_outside(&self) {
        self.outside.fetch_add(1, Relaxed);
    }

    /// Ends one that [`begin_outside`](Self::begin_outside) counted, **after** it has sent its
    /// wake: a clock that sees the count at 0 sees the mail too.
    pub(crate) fn end_outside(&self) {
        if self.outside.fetch_sub(1, Release) == 1 && self.config.virtual_clock {
            let _ = self.workers.iter().any(|w| w.rouse());
        }
    }

    /// How many are under way.
    #[inline]
    pub(crate) fn outside(&self) -> usize {
        self.outside.load(Acquire)
    }

    /// Hands out task ids: the first and the end of a block.
    pub(crate) fn id_block(&self) -> (u64, u64) {
        let first = fork::task_ids(ID_BLOCK);
        (first, first + ID_BLOCK)
    }

    pub(crate) fn one_id(&self) -> u64 {
        fork::task_ids(1)
    }

    /// Puts a task where the next worker with time finds it.
    pub(crate) fn inject(&self, task: TaskRef) {
        self.injector.push(task);
        let n = self.workers.len();
        let first = self.next_worker.fetch_add(1, Relaxed) as usize;
        // A worker that is awake looks at the injector before it sleeps, so one bell is enough,
        // and none if nobody sleeps.
        for i in 0..n {
            if self.workers[(first + i) % n].rouse() {
                return;
            }
        }
    }

    /// Called after a task was put into an unstarted queue: if a worker sleeps and nobody looks
    /// for work, one is told to.
    #[inline]
    pub(crate) fn call_searcher(&self) {
        if self.workers.len() > 1 {
            // Pairs with the heavy barrier of a searcher that stops: either it sees the task,
            // or we see that nobody searches.
            membarrier::light();
            if self.asleep.load(Relaxed) > 0 && !self.searching.load(Relaxed) {
                self.appoint_searcher();
            }
        }
    }

    #[cold]
    fn appoint_searcher(&self) {
        if self.searching.swap(true, AcqRel) {
            return;
        }
        for worker in &self.workers {
            // Before the bell: a worker that wakes looks at it once.
            worker.told_to_search.store(true, Relaxed);
            if worker.rouse() {
                return;
            }
            worker.told_to_search.store(false, Relaxed);
        }
        self.searching.store(false, Relaxed);
    }

    pub(crate) fn live(&self) -> usize {
        self.workers
            .iter()
            .map(|w| w.published.live.load(Relaxed))
            .sum()
    }

    /// Stacks in use: of tasks and of generators.
    pub(crate) fn stacks(&self) -> usize {
        let lent = |w: &&WorkerShared| w.published.lent.load(Relaxed);
        self.live() + self.workers.iter().map(lent).sum::<usize>()
    }

    pub(crate) fn unstarted(&self) -> u64 {
        self.workers.iter().map(|w| w.unstarted.len()).sum::<u64>() + self.injector.len() as u64
    }

    /// Tells all workers that a stack has come free.
    pub(crate) fn stack_freed(&self) {
        for worker in &self.workers {
            worker.send(super::worker::Mail::StackFreed);
        }
    }
}
