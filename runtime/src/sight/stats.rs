//! The counters of a runtime.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::human;
use crate::fiber::stack::StackCensus;
use crate::hub::Hub;
use crate::hub::shared::RuntimeShared;
use crate::hub::tally::{BUCKETS, Tally};
use crate::hub::worker::Mail;
use crate::registry;
use crate::sight::ask;

/// Counters of a runtime, summed over its workers; each is read without stopping anybody, so they
/// fit each other only roughly while tasks run. `Display` prints a table.
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
    /// How long tasks wait in the run queue until their turn comes, in ns. A sample: on each worker
    /// one task at a time, the last in the queue, is followed.
    pub queue_delay: Histogram,
    /// How long a slice (a stretch of a task between two switches) lasts, in ns: the mean of each
    /// batch. A slice longer than 0.2 ms has a batch of its own, or nearly.
    pub slice: Histogram,
    /// The time between two looks of a worker at messages, timers and poller, in ns.
    pub turn: Histogram,
    /// Slices between two such looks.
    pub batch: Histogram,
    /// Events that a look at the poller found.
    pub events_per_poll: Histogram,
}

/// How often values occurred, by powers of two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
        }
    }
}

impl Histogram {
    /// Returns how many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns a value that `share` of all values (0.5: half of them) do not exceed: exact to the
    /// next power of two above. 0 if there are none.
    pub fn percentile(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bound, n) in self.buckets() {
            seen += n;
            if seen >= rank {
                return bound;
            }
        }
        0
    }

    /// Returns the buckets: the largest value that falls into each, and how many did.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bound = |digits: usize| match digits {
            d if d + 1 == BUCKETS => u64::MAX,
            d => (1 << d) - 1,
        };
        let each = self.buckets.iter().enumerate();
        each.map(move |(digits, &n)| (bound(digits), n))
    }

    fn add(&mut self, tally: &Tally) {
        for (sum, n) in self.buckets.iter_mut().zip(tally.read()) {
            *sum = sum.wrapping_add(n);
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        write!(f, "Histogram({}, p50 {p50}, p99 {p99})", self.count())
    }
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
            sum.queue_delay.add(&p.tallies.delay);
            sum.slice.add(&p.tallies.slice);
            sum.turn.add(&p.tallies.turn);
            sum.batch.add(&p.tallies.batch);
            sum.events_per_poll.add(&p.tallies.events);
        }
        sum
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pair =
            |a: &str, x: u64, b: &str, y: u64| writeln!(f, "{a:<14} {x:>12}    {b:<14} {y:>12}");
        let now = |n: usize| n as u64;
        pair("started", self.started, "live now", now(self.live))?;
        pair("finished", self.finished, "unstarted now", self.unstarted)?;
        pair("switches", self.switches, "ready now", now(self.ready))?;
        pair("wakes", self.wakes, "timers now", now(self.timers))?;
        let left = now(self.stacks_left);
        pair("polls", self.polls, "stacks left", left)?;
        writeln!(f, "{:<14} {:>12}", "taken over", self.taken_over)?;
        writeln!(
            f,
            "\n{:<14} {:>12} {:>9} {:>9} {:>9} {:>9}",
            "at most", "counted", "50 %", "90 %", "99 %", "100 %"
        )?;
        let time = |n: u64| match n {
            // Bounds are one less than a power of two: 1023 ns is 1.0 us.
            u64::MAX => "more".into(),
            n => human(Duration::from_nanos(n)),
        };
        let number = |n: u64| n.to_string();
        type Show<'a> = &'a dyn Fn(u64) -> String;
        let rows: [(&str, &Histogram, Show<'_>); 5] = [
            ("queue delay", &self.queue_delay, &time),
            ("slice", &self.slice, &time),
            ("turn", &self.turn, &time),
            ("slices a turn", &self.batch, &number),
            ("events a poll", &self.events_per_poll, &number),
        ];
        for (name, histogram, show) in rows {
            write!(f, "{name:<14} {:>12}", histogram.count())?;
            for share in [0.5, 0.9, 0.99, 1.0] {
                write!(f, " {:>9}", show(histogram.percentile(share)))?;
            }
            f.write_str("\n")?;
        }
        Ok(())
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
