//! The dump: every task of a runtime, and what it waits for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::hub::Hub;
use crate::hub::jobs::Census;
use crate::hub::question::{TaskInfo, TaskState};
use crate::hub::shared::RuntimeShared;
use crate::hub::worker::Mail;
use crate::registry;
use crate::sight::ask;
use crate::sight::stats::Stats;
use crate::wait_reason::WaitReason;

/// How long a worker has to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// A picture of all tasks of a runtime; `Display` prints it as a table.
#[derive(Debug)]
pub struct Dump {
    taken: Nanos,
    listings: Vec<(usize, Vec<TaskInfo>)>,
    /// A line for each worker that did not answer.
    stalled: Vec<String>,
    injected: usize,
    jobs: Census,
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
    /// What it waits for, if it is parked.
    pub reason: WaitReason,
    /// How long it has been in that state, if that is known; good to about 0.2 ms.
    pub age: Option<Duration>,
    /// The worker that it is on.
    pub worker: usize,
    /// Whether a kill has been asked for.
    pub killed: bool,
}

/// Describes every task of the calling task's runtime, or of the default runtime.
///
/// # Blocking
/// Waits for the workers to answer, for half a second at most: one that is stalled by a long
/// computation is described from what it publishes.
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
    match registry::current_or_started() {
        Some(rt) => of(&rt),
        None => Dump {
            taken: clock::real_nanos(),
            listings: vec![],
            stalled: vec![],
            injected: 0,
            jobs: Census::default(),
        },
    }
}

pub(crate) fn of(rt: &Arc<RuntimeShared>) -> Dump {
    let listings = ask::all(rt, PATIENCE, Mail::List, Hub::list);
    let answered = |w: usize| listings.iter().any(|l| l.0 == w);
    let stalled = (0..rt.workers.len()).filter(|&w| !answered(w));
    Dump {
        taken: clock::real_nanos(),
        stalled: stalled.map(|w| stalled_line(rt, w)).collect(),
        injected: rt.injector.len(),
        jobs: rt.jobs.census(),
        listings,
    }
}

/// The dump under a line that says which runtime it is.
pub(crate) fn headed(rt: &Arc<RuntimeShared>) -> String {
    let stats = Stats::of(rt);
    format!(
        "runtime '{}' with {} workers, {} switches so far\n{}",
        rt.config.name,
        rt.workers.len(),
        stats.switches,
        of(rt)
    )
}

impl Dump {
    /// Returns every task that a worker told of, in the order of ids.
    pub fn tasks(&self) -> Vec<DumpedTask> {
        let mut tasks: Vec<_> = self
            .listings
            .iter()
            .flat_map(|(worker, tasks)| tasks.iter().map(|t| self.task(*worker, t)))
            .collect();
        tasks.sort_by_key(|t| t.id);
        tasks
    }

    fn task(&self, worker: usize, t: &TaskInfo) -> DumpedTask {
        let known = t.state != TaskState::Unstarted;
        DumpedTask {
            id: t.id,
            name: t.name.clone(),
            spawned_at: t.site,
            state: t.state,
            reason: t.reason,
            age: known.then(|| Duration::from_nanos(self.taken.saturating_sub(t.since))),
            worker,
            killed: t.killed,
        }
    }

    /// Returns a line for each worker that did not answer in time.
    pub fn stalled_workers(&self) -> &[String] {
        &self.stalled
    }
}

/// Tasks beyond that many are counted, not printed.
const PRINTED: usize = 1000;

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = self.tasks();
        let count = |s: TaskState| tasks.iter().filter(|t| t.state == s).count();
        writeln!(
            f,
            "{} tasks: {} running, {} ready, {} parked, {} unstarted",
            tasks.len() + self.injected,
            count(TaskState::Running),
            count(TaskState::Ready),
            count(TaskState::Parked),
            count(TaskState::Unstarted) + self.injected,
        )?;
        let jobs = self.jobs;
        if jobs.queued + jobs.running > 0 {
            writeln!(
                f,
                "{} blocking jobs: {} running, {} queued, on {} threads",
                jobs.queued + jobs.running,
                jobs.running,
                jobs.queued,
                jobs.threads
            )?;
        }
        for line in &self.stalled {
            f.write_str(line)?;
        }
        if !tasks.is_empty() {
            writeln!(
                f,
                "{:>8}  {:<3} {:<9} {:>9}  waits for, name, spawned at",
                "id", "wkr", "state", "age"
            )?;
        }
        for t in tasks.iter().take(PRINTED) {
            let age = t.age.map_or_else(|| "-".into(), human);
            let state = match t.state {
                TaskState::Unstarted => "unstarted",
                TaskState::Ready => "ready",
                TaskState::Running => "running",
                TaskState::Parked => "parked",
            };
            write!(f, "{:>8}  {:<3} {:<9} {:>9}  ", t.id, t.worker, state, age)?;
            if t.state == TaskState::Parked {
                write!(f, "{}, ", t.reason)?;
            }
            if let Some(name) = &t.name {
                write!(f, "'{name}', ")?;
            }
            writeln!(
                f,
                "{}{}",
                t.spawned_at,
                if t.killed { ", killed" } else { "" }
            )?;
        }
        if tasks.len() > PRINTED {
            writeln!(f, "... and {} more", tasks.len() - PRINTED)?;
        }
        Ok(())
    }
}

/// An age that fits into nine columns.
fn human(age: Duration) -> String {
    let s = age.as_secs_f64();
    match s {
        _ if s < 1e-3 => format!("{:.0} us", s * 1e6),
        _ if s < 1.0 => format!("{:.1} ms", s * 1e3),
        _ if s < 600.0 => format!("{s:.1} s"),
        _ => format!("{:.0} min", s / 60.0),
    }
}

/// One task that had to be left, for the report at the end of a runtime.
pub(crate) fn task_line(t: &TaskInfo) -> String {
    let name = t.name.as_deref().unwrap_or("unnamed");
    let state = match t.state {
        TaskState::Parked => format!("parked, waits for {}", t.reason),
        state => format!("{state:?}").to_lowercase(),
    };
    format!("  task {} '{name}' spawned at {}: {state}\n", t.id, t.site)
}

/// What is known of a worker that does not answer.
pub(crate) fn stalled_line(rt: &RuntimeShared, worker: usize) -> String {
    let p = &rt.workers[worker].published;
    let running = p.running.load(Relaxed);
    let quiet = clock::real_nanos().saturating_sub(p.looked.load(Relaxed));
    let quiet = human(Duration::from_nanos(quiet));
    let live = p.live.load(Relaxed);
    let site = crate::hub::worker::site(p);
    match (running, site) {
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
