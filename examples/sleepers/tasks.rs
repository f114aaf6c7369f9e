//! The benchmark with tasks: N that sleep, timed, then N that are parked, weighed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sward::{Builder, JoinError, JoinHandle, Runtime};

use crate::Failure;
use crate::args::Run;
use crate::memory::Memory;
use crate::progress::{self, Counts};
use crate::report::{Outcome, grouped};

/// How often the second phase looks whether all are parked.
const LOOK: Duration = Duration::from_millis(5);
/// With so long no further task parked, there are no more stacks to be had.
const STUCK: Duration = Duration::from_secs(2);
/// What a task takes on the heap before it starts, generously.
const ROOM_PER_TASK: usize = 512;

pub fn measure(runtime: &Runtime, run: &Run) -> Result<Outcome, Failure> {
    let counts = Arc::new(Counts::default());
    let line = || counts.line(run.tasks, runtime.stats().timers.min(run.tasks));
    progress::show(!run.json, line, || {
        // No task was ever spawned: what comes now comes from them.
        let before = Memory::now()?;
        // Both in one task, and so on one worker, whose heap the second phase finds as the first
        // left it.
        let (elapsed, parked) = runtime.run(|| {
            let elapsed = sleepers(run, &counts)?;
            Ok::<_, Failure>((elapsed, parked(run, &counts)?))
        })?;
        Ok(Outcome {
            what: "tasks",
            tasks: run.tasks,
            sleep: run.sleep,
            workers: runtime.workers(),
            elapsed,
            parked: parked.tasks,
            memory: parked.memory - before,
            note: parked.note,
        })
    })
}

/// Phase 1: spawns all, joins all, and returns how long that took.
fn sleepers(run: &Run, counts: &Counts) -> Result<Duration, Failure> {
    let sleep = run.sleep;
    // Rust ends a process that finds no memory: asked for here, the lack of it is an error.
    drop(room::<[u8; ROOM_PER_TASK]>(run.tasks)?);
    let mut tasks = room(run.tasks)?;
    let begun = Instant::now();
    for n in 1..=run.tasks {
        tasks.push(sward::spawn(move || sward::sleep(sleep)));
        counts.spawned.store(n, Relaxed);
    }
    for (i, task) in tasks.into_iter().enumerate() {
        task.join().map_err(failed)?;
        counts.joined.store(i + 1, Relaxed);
    }
    Ok(begun.elapsed())
}

struct Parked {
    tasks: usize,
    memory: Memory,
    note: Option<String>,
}

/// Phase 2: parks as many as there are stacks for, weighs them, and lets them go.
fn parked(run: &Run, counts: &Arc<Counts>) -> Result<Parked, Failure> {
    let released = Arc::new(AtomicBool::new(false));
    let mut tasks: Vec<JoinHandle<()>> = room(run.tasks)?;
    while tasks.len() < run.tasks {
        let (counts, released) = (counts.clone(), released.clone());
        // Unlike `spawn`, which lets a task without a stack wait for one, this fails.
        let spawned = Builder::new().spawn(move || {
            counts.parked.fetch_add(1, Relaxed);
            while !released.load(Relaxed) {
                sward::park();
            }
        });
        match spawned {
            Ok(task) => tasks.push(task),
            Err(_) => break,
        }
    }
    let there = await_parked(tasks.len(), counts);
    let memory = Memory::now()?;
    // The reason is asked for now, when all that could be found out has been.
    let note = (there < run.tasks).then(|| {
        let refused = Builder::new().spawn(|| ()).err();
        let why = refused.map_or_else(|| "the rest found no stack".into(), |e| e.to_string());
        let [there, all] = [there, run.tasks].map(grouped);
        format!("only {there} of {all} tasks at once, so they slept in waves: {why}")
    });
    released.store(true, Relaxed);
    for task in &tasks {
        task.task().unpark();
    }
    for task in tasks {
        task.join().map_err(failed)?;
    }
    Ok(Parked {
        tasks: there,
        memory,
        note,
    })
}

/// Waits until `n` are parked, or no more will be; returns how many are.
fn await_parked(n: usize, counts: &Counts) -> usize {
    let (mut seen, mut since) = (0, Instant::now());
    while seen < n && since.elapsed() < STUCK {
        sward::sleep(LOOK);
        let now = counts.parked.load(Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

/// Returns an empty vector with room for `n`, so that nothing is moved while the clock runs.
pub fn room<T>(n: usize) -> Result<Vec<T>, Failure> {
    let mut vec = Vec::new();
    match vec.try_reserve_exact(n) {
        Ok(()) => Ok(vec),
        Err(e) => {
            let n = grouped(n);
            let text =
                format!("no room for {n} at once, even before they start (see ulimit -v): {e}");
            Err(Failure::Run(text))
        }
    }
}

fn failed(e: JoinError) -> Failure {
    Failure::Run(format!("a task did not come to its end: {e}"))
}
