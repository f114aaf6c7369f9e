//! What locks and signals cost on one worker, in nanoseconds.
//!
//! `locks [--rounds N]`. *Uncontended*: one task locks and unlocks. *Handed over*: two tasks want
//! it all the time, so that each unlock wakes the other one and each lock waits; the figure is for
//! one hand-over, which includes a switch. The best of five runs counts.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sward::sync::{
    Barrier, Condvar, Mutex, Once, OnceValue, ReentrantMutex, RwLock, RwLockWriteGuard, Semaphore,
    WaitGroup,
};
use sward::{Runtime, join_all, spawn, yield_now};

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == "--rounds");
    let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
    let rounds = given.unwrap_or(2_000_000_u32).max(1);
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(move || measure(rounds));
    Ok(())
}

fn best(rounds: u32, mut run: impl FnMut() -> Duration) -> f64 {
    let runs = (0..5).map(|_| run());
    runs.min().unwrap_or_default().as_secs_f64() * 1e9 / f64::from(rounds)
}

fn row(what: &str, alone: Option<f64>, handed: Option<f64>) {
    let text = |ns: Option<f64>| ns.map_or_else(|| "-".into(), |ns| format!("{ns:.1}"));
    println!("{what:<26} {:>12} {:>12}", text(alone), text(handed));
}

/// One task does it again and again.
fn alone(rounds: u32, mut f: impl FnMut()) -> Option<f64> {
    Some(best(rounds, || {
        let begun = Instant::now();
        (0..rounds).for_each(|_| f());
        begun.elapsed()
    }))
}

/// Two tasks do `f`, which has got hold of something while the other one comes to want it.
fn handed(rounds: u32, f: impl Fn(u32, &dyn Fn()) + Send + Sync + 'static) -> Option<f64> {
    let f = Arc::new(f);
    Some(best(rounds, || {
        let begun = Instant::now();
        let tasks = (0..2).map(|_| {
            let f = f.clone();
            spawn(move || f(rounds / 2, &yield_now))
        });
        join_all(tasks);
        begun.elapsed()
    }))
}

/// The same for a lock: `lock` gives a guard.
macro_rules! handed {
    ($rounds:expr, $lock:expr, |$l:ident| $guard:expr) => {{
        let lock = Arc::new($lock);
        handed($rounds, move |rounds, give_way| {
            let $l = &*lock;
            let first = $guard;
            give_way();
            drop(first);
            for _ in 0..rounds {
                drop(black_box($guard));
            }
        })
    }};
}

fn measure(n: u32) {
    println!("{:<26} {:>12} {:>12}", "ns", "uncontended", "handed over");
    let lock = Mutex::new(0_u64);
    row(
        "Mutex",
        alone(n, || *lock.lock() += 1),
        handed!(n, Mutex::new(0_u64), |l| l.lock()),
    );
    let lock = RwLock::new(0_u64);
    row(
        "RwLock write",
        alone(n, || *lock.write() += 1),
        handed!(n, RwLock::new(0_u64), |l| l.write()),
    );
    row(
        "RwLock read",
        alone(n, || {
            black_box(*lock.read());
        }),
        None,
    );
    row(
        "RwLock write, downgrade",
        alone(n, || drop(RwLockWriteGuard::downgrade(lock.write()))),
        None,
    );
    let lock = ReentrantMutex::new(0_u64);
    row(
        "ReentrantMutex",
        alone(n, || drop(black_box(lock.lock()))),
        handed!(n, ReentrantMutex::new(0_u64), |l| l.lock()),
    );
    let held = lock.lock();
    let again = alone(n, || drop(black_box(lock.lock())));
    row("ReentrantMutex again", again, None);
    drop(held);
    let lock = Semaphore::new(1);
    row(
        "Semaphore",
        alone(n, || drop(black_box(lock.acquire()))),
        handed!(n, Semaphore::new(1), |l| l.acquire()),
    );
    let signal = Condvar::new();
    let pair = (Mutex::new(()), Condvar::new());
    row(
        "Condvar notify, wait",
        alone(n, || signal.notify_one()),
        handed(n, move |rounds, _| {
            let (lock, changed) = &pair;
            for _ in 0..rounds {
                let guard = lock.lock();
                changed.notify_one();
                drop(changed.wait(guard));
            }
            changed.notify_one();
        }),
    );
    let one = Barrier::new(1);
    let two = Barrier::new(2);
    row(
        "Barrier of 1, of 2",
        alone(n, || {
            black_box(one.wait());
        }),
        handed(n, move |rounds, _| {
            for _ in 0..rounds {
                two.wait();
            }
        }),
    );
    let group = WaitGroup::new();
    row("WaitGroup add, done", alone(n, || drop(group.add())), None);
    let once = Once::new();
    row("Once, completed", alone(n, || once.call_once(|| ())), None);
    let value = OnceValue::from(1);
    row(
        "OnceValue get",
        alone(n, || {
            black_box(value.get());
        }),
        None,
    );
}
