//! The dump: every task of a runtime, and what it waits for.
//!
//! Taking it costs each worker a look at each of its tasks, in portions between its batches; with
//! backtraces, a switch to the task and a walk up its stack. Names for addresses are found only when
//! it is printed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::hub::Hub;
use crate::hub::jobs::Census;
use crate::hub::question::{Listing, Roll, RollCall, TaskInfo, TaskState};
use crate::hub::shared::RuntimeShared;
use crate::hub::worker::{self, Mail};
use crate::lend;
use crate::registry;
use crate::sight::rows;
use crate::sight::sample;
use crate::sight::stats::Stats;
use crate::sight::symbols::TaskBacktrace;
use crate::sight::{ask, text};
use crate::wait_name::Named;
use crate::wait_reason::WaitReason;

/// How long a worker has to answer, or to show that it is at it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// A picture of all tasks of a runtime; `Display` prints it as a table, [`to_json`](Self::to_json)
/// as JSON.
///
/// Many tasks that are alike (spawned at one place, in the same state for the same kind of reason,
/// with the same backtrace) are one line with their number.
#[derive(Debug)]
pub struct Dump {
    pub(crate) taken: Nanos,
    pub(crate) listings: Vec<(usize, Listing)>,
    /// A line for each worker that did not answer.
    pub(crate) stalled: Vec<String>,
    /// Where the tasks were that stall them.
    pub(crate) hogs: Vec<Option<TaskBacktrace>>,
    pub(crate) injected: usize,
    pub(crate) jobs: Census,
    pub(crate) every_task: bool,
}

/// How to take and print a [`Dump`].
///
/// # Examples
/// ```
/// use sward_runtime::{DumpOptions, dump_with, run, spawn, park, yield_now};
/// run(|| {
///     let task = spawn(|| park());
///     yield_now();
///     println!("{}", dump_with(DumpOptions::new().backtraces(true)));
///     task.kill();
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    backtraces: bool,
    every_task: bool,
}

impl DumpOptions {
    /// Returns the options of [`dump()`]: no backtraces, tasks that are alike in one line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether each task tells its backtrace (default no): some microseconds of its worker's
    /// time apiece. Tasks that run are left out, but for the one that asks and those that stall a
    /// worker, if [`RuntimeBuilder::sampling`](crate::RuntimeBuilder::sampling) is on.
    #[must_use]
    pub fn backtraces(mut self, on: bool) -> Self {
        self.backtraces = on;
        self
    }

    /// Sets whether every task has a line of its own (default no).
    #[must_use]
    pub fn every_task(mut self, on: bool) -> Self {
        self.every_task = on;
        self
    }
}

/// One task of a [`Dump`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DumpedTask {
    /// The task's id.
    pub id: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The file and line of its spawn.
    pub spawned_at: &'static std::panic::Location<'static>,
    /// What it is doing.
    pub state: TaskState,
    /// What it waits for, if it is parked; the holder of a lock is the one that had it then.
    pub reason: WaitReason,
    /// How long it has been in that state, if that is known; good to about 0.2 ms.
    pub age: Option<Duration>,
    /// The worker that it is on.
    pub worker: usize,
    /// Whether a kill has been asked for.
    pub killed: bool,
    /// The group or scope that it belongs to, by id and name.
    pub owner: Option<(u64, String)>,
    /// Where it is, if [`DumpOptions::backtraces`] asked for it.
    pub backtrace: Option<TaskBacktrace>,
}

/// Describes every task of the calling task's runtime, or of the default runtime.
///
/// # Blocking
/// Waits for the workers to answer: one that is stalled by a long computation is described from what
/// it publishes, after half a second.
///
/// # Examples
/// ```
/// sward_runtime::run(|| {
///     let task = sward_runtime::Builder::new().name("idler").spawn(sward_runtime::park).unwrap();
///     sward_runtime::yield_now();
///     let dump = sward_runtime::dump();
///     assert!(dump.to_string().contains("idler"));
///     task.kill();
/// });
/// ```
pub fn dump() -> Dump {
    dump_with(DumpOptions::new())
}

/// As [`dump()`], as `options` say.
pub fn dump_with(options: DumpOptions) -> Dump {
    match registry::current_or_started() {
        Some(rt) => of(&rt, options),
        None => Dump {
            taken: clock::real_nanos(),
            listings: vec![],
            stalled: vec![],
            hogs: vec![],
            injected: 0,
            jobs: Census::default(),
            every_task: false,
        },
    }
}

/// Calls the roll of a runtime: what the workers told that answered.
pub(crate) fn call(rt: &Arc<RuntimeShared>, call: RollCall) -> Vec<(usize, Listing)> {
    let mail = |question| Mail::Roll(Roll::new(question, call));
    let own = |hub: &Hub| {
        if call.traces {
            // Telling where it is, each task is resumed: from the worker's own stack.
            lend::on_worker_stack(|| hub.list(call))
        } else {
            hub.list(call)
        }
    };
    ask::all(rt, PATIENCE, mail, own)
}

pub(crate) fn of(rt: &Arc<RuntimeShared>, options: DumpOptions) -> Dump {
    let listings = call(
        rt,
        RollCall {
            traces: options.backtraces,
            ..RollCall::default()
        },
    );
    let answered = |w: usize| listings.iter().any(|l| l.0 == w);
    let stalled: Vec<usize> = (0..rt.workers.len()).filter(|&w| !answered(w)).collect();
    let hog = |&w: &usize| {
        let sampled = if options.backtraces {
            sample::of(rt, w)
        } else {
            None
        };
        sampled.map(|sample| sample.backtrace)
    };
    Dump {
        taken: clock::real_nanos(),
        hogs: stalled.iter().map(hog).collect(),
        stalled: stalled.iter().map(|&w| stalled_line(rt, w)).collect(),
        injected: rt.injector.len(),
        jobs: rt.jobs.census(),
        every_task: options.every_task,
        listings,
    }
}

/// The dump under a line that says which runtime it is.
pub(crate) fn headed(rt: &Arc<RuntimeShared>, options: DumpOptions) -> String {
    let stats = Stats::of(rt);
    format!(
        "runtime '{}' with {} workers, {} switches so far\n{}",
        rt.config.name,
        rt.workers.len(),
        stats.switches,
        of(rt, options)
    )
}

impl Dump {
    /// Returns every task that a worker told of, in the order of ids.
    pub fn tasks(&self) -> Vec<DumpedTask> {
        let rows = rows::rows(&self.listings, true);
        let mut tasks: Vec<_> = rows.iter().map(|row| self.task(row)).collect();
        tasks.sort_by_key(|t| t.id);
        tasks
    }

    fn task(&self, row: &rows::Row<'_>) -> DumpedTask {
        let t = row.task;
        DumpedTask {
            id: t.id,
            name: t.name.clone(),
            spawned_at: t.site,
            state: t.state,
            reason: t.reason,
            age: self.age(t.state, t.since),
            worker: row.worker,
            killed: t.killed,
            owner: t.owner.clone(),
            backtrace: row.trace.cloned().map(TaskBacktrace::new),
        }
    }

    pub(crate) fn age(&self, state: TaskState, since: Nanos) -> Option<Duration> {
        let known = state != TaskState::Unstarted;
        known.then(|| Duration::from_nanos(self.taken.saturating_sub(since)))
    }

    /// Returns a line for each worker that did not answer in time.
    pub fn stalled_workers(&self) -> &[String] {
        &self.stalled
    }

    /// Returns the ids of tasks that wait for each other in a circle, for a lock or a join, so that
    /// none of them will ever go on.
    pub fn circles(&self) -> Vec<Vec<u64>> {
        let circles = rows::circles(&self.listings);
        let ids = |circle: Vec<&TaskInfo>| circle.iter().map(|t| t.id).collect();
        circles.into_iter().map(ids).collect()
    }

    /// Returns the dump as one JSON object.
    ///
    /// `tasks` has an object for each line of the table; `count` says how many tasks it stands for.
    /// Times are in microseconds.
    pub fn to_json(&self) -> String {
        crate::sight::json::dump(self)
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::dump(self, f)
    }
}

/// One task that had to be left, for the report at the end of a runtime.
pub(crate) fn task_line(t: &TaskInfo) -> String {
    let name = t.name.as_deref().unwrap_or("unnamed");
    let state = match t.state {
        TaskState::Parked => format!("parked, waits for {}", Named(t.reason)),
        state => format!("{state:?}").to_lowercase(),
    };
    format!("  task {} '{name}' spawned at {}: {state}\n", t.id, t.site)
}

/// What is known of a worker that does not answer.
pub(crate) fn stalled_line(rt: &RuntimeShared, worker: usize) -> String {
    let p = &rt.workers[worker].published;
    let running = p.running.load(Relaxed);
    let quiet = clock::real_nanos().saturating_sub(p.looked.load(Relaxed));
    let quiet = clock::human(Duration::from_nanos(quiet));
    let live = p.live.load(Relaxed);
    match (running, worker::site(p)) {
        (0, _) | (_, None) => {
            format!("worker {worker} has not answered for {quiet}; it has {live} tasks\n")
        }
        (id, Some(site)) => format!(
            "worker {worker} stalled for {quiet} by task {id} spawned at {site}; \
             its other tasks ({} live) are not listed\n",
            live
        ),
    }
}
