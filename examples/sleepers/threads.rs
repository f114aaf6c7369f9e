//! The same benchmark with OS threads.
#![allow(
    clippy::disallowed_methods,
    reason = "threads that block are what is measured here"
)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::Run;
use crate::memory::Memory;
use crate::progress::{self, Counts};
use crate::report::{Outcome, grouped};
use crate::tasks::room;

/// A thread has a stack and, from the standard library, one for signals; each has a guard.
const MAPS_PER_THREAD: usize = 4;
/// Memory maps left to everything else in the process. Where the last one goes, the standard
/// library ends the process.
const SPARE_MAPS: usize = 1_024;
/// Thread ids left to the other processes: without one, nobody could start anything.
const SPARE_IDS: usize = 1_024;
/// Address space left by each thread where it is limited. In a thread that finds none for its
/// signal stack, or for its part of the heap, the standard library ends the process.
const SPARE_SPACE: usize = 256 << 20;
/// The standard library's default.
const STACK: usize = 2 << 20;

pub fn measure(run: &Run) -> Result<Outcome, Failure> {
    let counts = Arc::new(Counts::default());
    let line = || counts.line(run.tasks, counts.asleep.load(Relaxed));
    progress::show(!run.json, line, || {
        let before = Memory::now()?;
        let elapsed = sleepers(run, &counts)?;
        let memory = parked(run, &counts)?;
        Ok(Outcome {
            what: "threads",
            tasks: run.tasks,
            sleep: run.sleep,
            workers: 0,
            elapsed,
            parked: run.tasks,
            memory: memory - before,
            note: None,
        })
    })
}

/// Phase 1, as in `tasks.rs`.
fn sleepers(run: &Run, counts: &Arc<Counts>) -> Result<Duration, Failure> {
    let sleep = run.sleep;
    let begun = Instant::now();
    let threads = spawn_all(run, counts, |counts| {
        move || {
            counts.asleep.fetch_add(1, Relaxed);
            thread::sleep(sleep);
            counts.asleep.fetch_sub(1, Relaxed);
        }
    })?;
    for (i, thread) in threads.into_iter().enumerate() {
        join(thread)?;
        counts.joined.store(i + 1, Relaxed);
    }
    Ok(begun.elapsed())
}

/// Phase 2, as in `tasks.rs`.
fn parked(run: &Run, counts: &Arc<Counts>) -> Result<Memory, Failure> {
    let released = Arc::new(AtomicBool::new(false));
    let threads = spawn_all(run, counts, |counts| {
        let released = released.clone();
        move || {
            counts.parked.fetch_add(1, Relaxed);
            while !released.load(Relaxed) {
                thread::park();
            }
        }
    })?;
    while counts.parked.load(Relaxed) < run.tasks {
        thread::sleep(Duration::from_millis(5));
    }
    let memory = Memory::now()?;
    released.store(true, Relaxed);
    for thread in &threads {
        thread.thread().unpark();
    }
    threads.into_iter().try_for_each(join)?;
    Ok(memory)
}

/// Makes all the threads, or says how many it made. Those then end with the process, since
/// nothing can wake a thread that sleeps.
fn spawn_all<F: FnOnce() + Send + 'static>(
    run: &Run,
    counts: &Arc<Counts>,
    body: impl Fn(Arc<Counts>) -> F,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let (most, limit) = most();
    let tight = is_address_space_limited();
    let space = run.stack_size.unwrap_or(STACK).saturating_add(SPARE_SPACE);
    let mut threads = room(run.tasks)?;
    for n in 1..=run.tasks {
        let mut builder = Builder::new();
        if let Some(bytes) = run.stack_size {
            builder = builder.stack_size(bytes);
        }
        let made = if n > most {
            Err(limit.clone())
        } else if tight && room::<u8>(space).is_err() {
            Err("the address space is limited (see ulimit -v)".into())
        } else {
            builder.spawn(body(counts.clone())).map_err(|e| {
                format!("{e} (see ulimit -u, ulimit -v, kernel.pid_max, kernel.threads-max)")
            })
        };
        match made {
            Ok(thread) => threads.push(thread),
            Err(why) => {
                let [made, all] = [n - 1, run.tasks].map(grouped);
                return Err(Failure::Run(format!(
                    "{made} of {all} threads, then no more: {why}"
                )));
            }
        }
        counts.spawned.store(n, Relaxed);
    }
    Ok(threads)
}

/// Returns how many threads may be made without harm to others, and what sets the limit.
fn most() -> (usize, String) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let number = |path: &str| read(path).trim().parse::<usize>().unwrap_or(usize::MAX);
    // The fourth field is `running/all` of the machine's threads.
    let load = read("/proc/loadavg");
    let all = load
        .split_whitespace()
        .nth(3)
        .and_then(|f| f.split_once('/')?.1.parse().ok());
    let ids = |name: &str, path: &str| {
        let limit = number(path);
        let left = limit
            .saturating_sub(all.unwrap_or(0))
            .saturating_sub(SPARE_IDS);
        (
            left,
            format!("{name} = {limit} for the whole machine, and the last are not for us"),
        )
    };
    let maps = number("/proc/sys/vm/max_map_count");
    let used = read("/proc/self/maps").lines().count();
    let left = maps.saturating_sub(used).saturating_sub(SPARE_MAPS) / MAPS_PER_THREAD;
    [
        ids("kernel.pid_max", "/proc/sys/kernel/pid_max"),
        ids("kernel.threads-max", "/proc/sys/kernel/threads-max"),
        (
            left,
            format!("vm.max_map_count = {maps}, and a thread takes {MAPS_PER_THREAD}"),
        ),
    ]
    .into_iter()
    .min_by_key(|(n, _)| *n)
    .unwrap_or((usize::MAX, String::new()))
}

fn is_address_space_limited() -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"));
    soft.is_some_and(|rest| !rest.trim_start().starts_with("unlimited"))
}

fn join(thread: JoinHandle<()>) -> Result<(), Failure> {
    thread
        .join()
        .map_err(|_| Failure::Run("a thread panicked".into()))
}
