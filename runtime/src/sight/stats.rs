//! The counters of a runtime.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::fiber::stack::StackCensus;
use crate::hub::Hub;
use crate::hub::shared::RuntimeShared;
use crate::hub::worker::Mail;
use crate::registry;
use crate::sight::ask;

/// Counters of a runtime, summed over its workers; each is read without stopping anybody, so they
/// fit each other only roughly while tasks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks started so far.
    pub started: u64,
    /// Tasks ended so far.
    pub finished: u64,
    /// Tasks that have a stack now.
    pub live: usize,
    /// Tasks that have not started yet.
    pub unstarted: u64,
    /// Tasks that waited for their turn when their worker last looked.
    pub ready: usize,
    /// Switches to a task so far.
    pub switches: u64,
    /// Parks ended by a wake so far.
    pub wakes: u64,
    /// Looks at the poller so far, sleeps not counted.
    pub polls: u64,
    /// Events of descriptors so far.
    pub events: u64,
    /// Descriptors that workers watch now.
    pub sources: usize,
    /// Timers that are set now.
    pub timers: usize,
    /// Tasks that a worker took over from another so far.
    pub taken_over: u64,
    /// Stacks that may still be handed out before tasks have to wait.
    pub stacks_left: usize,
    /// Blocking jobs that have not ended: queued and running ones.
    pub blocking_jobs: usize,
    /// OS threads that there are for them.
    pub blocking_threads: usize,
}

impl Stats {
    pub(crate) fn of(rt: &RuntimeShared) -> Self {
        let jobs = rt.jobs.census();
        let mut sum = Self {
            blocking_jobs: jobs.queued + jobs.running,
            blocking_threads: jobs.threads,
            unstarted: rt.unstarted(),
            live: rt.live(),
            stacks_left: rt.budget.limit().saturating_sub(rt.budget.in_use()),
            ..Self::default()
        };
        for worker in &rt.workers {
            let p = &worker.published;
            sum.started += p.started.load(Relaxed);
            sum.finished += p.finished.load(Relaxed);
            sum.ready += p.ready.load(Relaxed);
            sum.switches += p.switches.load(Relaxed);
            sum.wakes += p.wakes.load(Relaxed);
            sum.polls += p.polls.load(Relaxed);
            sum.events += p.events.load(Relaxed);
            sum.sources += worker.poller.len();
            sum.timers += p.timers.load(Relaxed);
            sum.taken_over += p.stolen.load(Relaxed);
        }
        sum
    }
}

/// Returns the counters of the calling task's runtime, or of the default runtime (all 0 if it
/// has not been used).
///
/// # Examples
/// ```
/// sward_runtime::run(|| {
///     let before = sward_runtime::stats();
///     sward_runtime::spawn(|| {}).join().unwrap();
///     assert!(sward_runtime::stats().finished > before.finished);
/// });
/// ```
pub fn stats() -> Stats {
    registry::current_or_started().map_or_else(Stats::default, |rt| Stats::of(&rt))
}

/// Counts the stacks of the calling task's runtime, or of the default runtime, and looks how deep
/// each has been used.
///
/// # Blocking
/// Waits for the workers to answer; each looks at its stacks, 1-2 us apiece, and runs no task
/// meanwhile. One that does not answer within 5 s is left out.
///
/// # Examples
/// ```
/// sward_runtime::run(|| {
///     let census = sward_runtime::stack_census();
///     assert!(census.live >= 1 && census.deepest > 0);
/// });
/// ```
pub fn stack_census() -> StackCensus {
    let Some(rt) = registry::current_or_started() else {
        return StackCensus::default();
    };
    let answers = ask::all(&rt, Duration::from_secs(5), Mail::Census, Hub::census);
    answers
        .into_iter()
        .fold(StackCensus::default(), |sum, (_, census)| sum.add(census))
}
