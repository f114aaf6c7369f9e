//! An operation tried from tasks of two workers and from OS threads at once, while tasks are
//! killed, time-outs fire and panics strike. Used beside `common`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::common::Random;
use sward_runtime::{Builder, JoinError, Runtime, TaskState, WaitKind, dump, timeout, yield_now};

pub fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Does `check` on an ordinary thread, and in runtimes of one and of two workers.
pub fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

/// Gives way until so many tasks of this runtime wait in that way.
pub fn until_waiting(kind: WaitKind, count: usize) {
    super::common::until(|| {
        let waits = |t: &&sward_runtime::DumpedTask| {
            t.state == TaskState::Parked && t.reason.kind() == kind
        };
        dump().tasks().iter().filter(waits).count() == count
    });
}

/// The payload of a panic that belongs to the test.
pub struct Intended;

/// What may happen in the middle: others run, or a panic strikes.
pub fn trouble(random: &mut Random) {
    match random.below(40) {
        0..20 => {}
        20..38 => yield_now(),
        38 => sward_runtime::sleep(Duration::from_micros(random.below(100))),
        _ => resume_unwind(Box::new(Intended)),
    }
}

fn attempt(random: &mut Random, f: &impl Fn(&mut Random)) {
    let limit = Duration::from_micros(random.below(300));
    let result = catch_unwind(AssertUnwindSafe(|| {
        if random.below(6) == 0 {
            drop(timeout(limit, || f(random)));
        } else {
            f(random);
        }
    }));
    if let Err(payload) = result
        && !payload.is::<Intended>()
    {
        resume_unwind(payload);
    }
}

/// Runs `f` again and again everywhere; returns when all have ended, some of them killed.
pub fn storm(seed: u64, f: impl Fn(&mut Random) + Send + Sync + 'static) {
    let (rounds, turns) = if cfg!(debug_assertions) {
        (12, 60)
    } else {
        (30, 150)
    };
    let f = Arc::new(f);
    let runtime = runtime(2);
    let mut random = Random::new(seed);
    let work = |seed: u64| {
        let f = f.clone();
        move || {
            let random = &mut Random::new(seed);
            for _ in 0..turns {
                attempt(random, &*f);
                yield_now();
            }
        }
    };
    let threads: Vec<_> = (0..2)
        .map(|_| std::thread::spawn(work(random.below(u64::MAX))))
        .collect();
    for _ in 0..rounds {
        let mut tasks: Vec<_> = (0..12)
            .map(|i| {
                let builder = Builder::new().on_worker(i % 2);
                let work = work(random.below(u64::MAX));
                runtime.spawn_with(builder, work).unwrap()
            })
            .collect();
        for _ in 0..6 {
            (0..random.below(400)).for_each(|_| std::thread::yield_now());
            let victim = random.below(tasks.len() as u64) as usize;
            tasks[victim].kill();
            tasks.swap_remove(victim);
        }
        for task in tasks {
            match task.join() {
                Ok(()) | Err(JoinError::Killed) => {}
                Err(e) => e.resume(),
            }
        }
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
    // The killed ones too.
    super::common::until(|| runtime.stats().live == 0);
}
