//! The stall monitor: names the task that has kept its worker from everything else for too long.
//!
//! One thread for the process looks at what the workers publish, every `TICK`; while all of them
//! sleep it sleeps too (`hub/watch.rs`). A *stall* is a slice that has lasted for `stall_threshold`
//! while others wait for its worker: it is told once, and once more when it ends. A slice that keeps
//! nobody from anything (no other task, no mail) is none.
//!
//! Rejected: a clock read at each switch, which would cost more than the switch.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

#[cfg(not(loom))]
use crate::at_fork::Global;
use crate::clock::{self, Nanos, human};
use crate::fork::Epoch;
use crate::hub::shared::RuntimeShared;
use crate::hub::watch;
use crate::hub::worker::{self, WorkerShared};
use crate::registry;
use crate::report;
use crate::sight::sample;
use crate::sight::symbols::TaskBacktrace;
use crate::sync::short_lock::ShortLock;

/// How often the workers are looked at; more often if a threshold is below.
const TICK: Duration = Duration::from_millis(50);
const SHORTEST_TICK: Duration = Duration::from_millis(2);
/// A worker that has been in one slice for that long has what it drives driven from here.
const DRIVE_AFTER: Nanos = 100_000_000;

/// A task that keeps its worker from everything else, as told to
/// [`RuntimeBuilder::on_stall`](crate::RuntimeBuilder::on_stall).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// The name of the runtime.
    pub runtime: String,
    /// The worker's number.
    pub worker: usize,
    /// The id of the task.
    pub task: u64,
    /// The task's name, if it has one and sampling is on.
    pub name: Option<String>,
    /// The file and line of its spawn.
    pub spawned_at: &'static Location<'static>,
    /// How long it has kept the worker, good to some tens of milliseconds.
    pub lasted: Duration,
    /// Whether it has ended: each stall is told when it is noticed, and when it is over.
    pub over: bool,
    /// Tasks with a stack on that worker, this one included.
    pub live: usize,
    /// Where it is, if [`RuntimeBuilder::sampling`](crate::RuntimeBuilder::sampling) is on.
    pub backtrace: Option<TaskBacktrace>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worker, task, lasted) = (self.worker, self.task, human(self.lasted));
        let name = self.name.as_ref().map(|n| format!(" '{n}'"));
        let name = name.unwrap_or_default();
        let site = self.spawned_at;
        if self.over {
            return writeln!(
                f,
                "worker {worker} goes on: task {task}{name} spawned at {site} kept it for {lasted}"
            );
        }
        writeln!(
            f,
            "worker {worker} of runtime '{}' stalled for {lasted} by task {task}{name} spawned at \
             {site}: it neither parks nor yields (other tasks on that worker: {})",
            self.runtime,
            self.live.saturating_sub(1)
        )?;
        let frames = self.backtrace.as_ref().map(TaskBacktrace::frames);
        let frames = frames.unwrap_or_default();
        frames.iter().try_for_each(|x| writeln!(f, "    at {x}"))
    }
}

/// Who is told of stalls instead of stderr.
#[derive(Clone)]
pub(crate) struct Hook(pub(crate) Arc<dyn Fn(&Stall) + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("on_stall")
    }
}

/// Called from the monitor's thread at each tick while that worker is stuck in a slice for longer
/// than 0.1 s, reported or not: whatever the worker should have driven meanwhile can be driven here
/// (design R11). Spurious calls are legal; it must not block.
pub(crate) fn on_stall(rt: &Arc<RuntimeShared>, worker: usize) {
    rt.workers[worker].drive_stalled();
}

/// Nobody is told of stalls any more.
static HUSHED: AtomicBool = AtomicBool::new(false);

type Hooks = Vec<(Weak<RuntimeShared>, Hook)>;
#[cfg(not(loom))]
static HOOKS: ShortLock<Hooks> = ShortLock::new(Vec::new());
#[cfg(loom)]
static HOOKS: std::sync::LazyLock<ShortLock<Hooks>> =
    std::sync::LazyLock::new(|| ShortLock::new(Vec::new()));
/// The process in which the thread was started.
#[cfg(not(loom))]
static STARTED: ShortLock<Option<Epoch>> = ShortLock::new(None);
#[cfg(loom)]
static STARTED: std::sync::LazyLock<ShortLock<Option<Epoch>>> =
    std::sync::LazyLock::new(|| ShortLock::new(None));

/// Watches over that runtime from now on.
pub(crate) fn watch(rt: &Arc<RuntimeShared>, hook: Option<Hook>) {
    if let Some(hook) = hook {
        let mut hooks = HOOKS.lock();
        hooks.retain(|(rt, _)| rt.strong_count() > 0);
        hooks.push((Arc::downgrade(rt), hook));
    }
    let now = Epoch::current();
    if STARTED.lock().replace(now) != Some(now) {
        let thread = std::thread::Builder::new().name("sward-monitor".into());
        if let Err(e) = crate::thread::start(thread, monitor) {
            *STARTED.lock() = None;
            report::line(&format!(
                "sward: no thread for the stall monitor: {e}; stalls will not be reported"
            ));
        }
    }
    watch::stir();
}

fn monitor() {
    watch::enter();
    let mut watched = HashMap::new();
    let mut last = clock::real_nanos();
    loop {
        let all: Vec<_> = registry::all()
            .into_iter()
            .filter(|rt| !rt.epoch.is_stale())
            .collect();
        let shortest = all.iter().map(|rt| rt.config.stall_threshold / 4).min();
        let tick = shortest.map_or(TICK, |s| s.clamp(SHORTEST_TICK, TICK));
        let now = clock::real_nanos();
        // A process that was stopped has not been stalled meanwhile.
        let slept = now.saturating_sub(last).min(nanos(tick) * 3);
        last = now;
        watched.retain(|address, _| {
            let is = |w: &&'static WorkerShared| std::ptr::from_ref(*w).addr() == *address;
            all.iter().any(|rt| rt.workers.iter().any(is))
        });
        for rt in &all {
            for (index, worker) in rt.workers.iter().enumerate() {
                let seen = watched.entry(std::ptr::from_ref(*worker).addr());
                look(rt, index, seen.or_default(), now, slept);
            }
        }
        // Not kept alive by their watcher.
        drop(all);
        // The end of a stall is still to be told, though everybody may sleep by now.
        let owed = watched.values().any(|seen: &Seen| seen.told.is_some());
        watch::wait(tick, || owed || anybody_awake());
    }
}

fn anybody_awake() -> bool {
    let awake = |w: &&WorkerShared| w.published.thread.load(Relaxed) != 0 && !w.inbox.sleeps();
    let stale = |rt: &RuntimeShared| rt.epoch.is_stale();
    let all = registry::all();
    all.iter()
        .any(|rt| !stale(rt) && rt.workers.iter().copied().any(|w| awake(&w)))
}

fn nanos(d: Duration) -> Nanos {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// What the monitor knows of a worker.
#[derive(Default)]
struct Seen {
    slice: u64,
    /// How long it has been in that slice, without what may have been a stop of the process.
    lasted: Nanos,
    /// When that slice was first seen, or could have begun.
    since: Nanos,
    told: Option<Stall>,
}

fn look(rt: &Arc<RuntimeShared>, index: usize, seen: &mut Seen, now: Nanos, slept: Nanos) {
    let worker = rt.workers[index];
    let published = &worker.published;
    // In this order: a slice that ends in between has another number.
    let slice = published.switches.load(Relaxed);
    let task = published.running.load(Relaxed);
    let site = worker::site(published);
    let same = slice == seen.slice && task != 0;
    if !same {
        if let Some(mut stall) = seen.told.take() {
            stall.over = true;
            // The worker looked round when it was over, unless that is still to come.
            let looked = published.looked.load(Relaxed);
            let end = if looked > seen.since { looked } else { now };
            stall.lasted = Duration::from_nanos(end.saturating_sub(seen.since));
            stall.backtrace = None;
            tell(rt, &stall);
        }
        *seen = Seen {
            slice,
            lasted: 0,
            since: published
                .looked
                .load(Relaxed)
                .max(now.saturating_sub(slept)),
            told: None,
        };
        return;
    }
    seen.lasted += slept;
    if seen.lasted >= DRIVE_AFTER {
        on_stall(rt, index);
    }
    let threshold = rt.config.stall_threshold;
    let waits =
        published.live.load(Relaxed) > 1 || !worker.inbox.is_empty() || worker.unstarted.len() > 0;
    let Some(spawned_at) = site else { return };
    if seen.told.is_some() || seen.lasted < nanos(threshold) || !waits {
        return;
    }
    let sample = sample::of(rt, index).filter(|s| s.task == task);
    let stall = Stall {
        runtime: rt.config.name.clone(),
        worker: index,
        task,
        name: sample.as_ref().and_then(|s| s.name.clone()),
        spawned_at,
        lasted: Duration::from_nanos(now.saturating_sub(seen.since)),
        over: false,
        live: published.live.load(Relaxed),
        backtrace: sample.map(|s| s.backtrace),
    };
    tell(rt, &stall);
    seen.told = Some(stall);
}

/// The process is about to end: a task that has called `exit` keeps its worker until then.
pub(crate) fn hush() {
    HUSHED.store(true, Relaxed);
}

fn tell(rt: &Arc<RuntimeShared>, stall: &Stall) {
    if HUSHED.load(Relaxed) {
        return;
    }
    let mine = |(other, hook): &(Weak<RuntimeShared>, Hook)| {
        let same = std::ptr::eq(other.as_ptr(), Arc::as_ptr(rt));
        same.then(|| hook.clone())
    };
    let hook = HOOKS.lock().iter().find_map(mine);
    match hook {
        None => report::text(&format!("sward: {stall}")),
        Some(hook) => {
            let call = std::panic::AssertUnwindSafe(|| (hook.0)(stall));
            if std::panic::catch_unwind(call).is_err() {
                report::line("sward: a closure given to on_stall has panicked");
            }
        }
    }
}

/// The locks of the process that are here.
#[cfg(not(loom))]
pub(crate) fn globals() -> [&'static dyn Global; 2] {
    [&HOOKS, &STARTED]
}
