//! How late are those woken from outside while a crowd keeps the workers busy?
//!
//! `fairness [--workers N] [--yielding N] [--sleeping N] [--seconds N]`: so many tasks yield for
//! ever, so many others sleep until one moment, all at once. Beside them an ordinary thread sends
//! a message to a task every 2 ms, and writes to a pipe that another task reads; a third task
//! sleeps for 3 ms again and again. The table says how late these three were.

use std::io::{self, PipeReader, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sward::io::{Direction, Limit, Source};
use sward::sync::unbounded;
use sward::{JoinHandle, Runtime, join_all, sleep_until, spawn, yield_now};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
        given.unwrap_or(default)
    };
    let runtime = Runtime::builder().workers(number("--workers", 2)).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("fairness: {e}");
            return ExitCode::FAILURE;
        }
    };
    let yielding = number("--yielding", 100_000);
    let sleeping = number("--sleeping", 1_000_000);
    let length = Duration::from_secs(number("--seconds", 10) as u64);
    let measured = runtime.run(move || measure(yielding, sleeping, length));
    let [wakes, reads, timers] = match measured {
        Ok(late) => late,
        Err(e) => {
            eprintln!("fairness: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("{yielding} tasks yield, {sleeping} timers fire at once; how late, in ms:");
    println!(
        "{:<22} {:>7} {:>8} {:>8} {:>8}",
        "", "count", "p50", "p99", "max"
    );
    row("wakes from a thread", wakes);
    row("reads from a pipe", reads);
    row("a task's own timers", timers);
    ExitCode::SUCCESS
}

fn row(what: &str, mut late: Vec<Duration>) {
    late.sort_unstable();
    let ms = |at: usize| late.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    let n = late.len();
    println!(
        "{what:<22} {n:>7} {:>8.3} {:>8.3} {:>8.3}",
        ms(n / 2),
        ms(n * 99 / 100),
        ms(n.saturating_sub(1))
    );
}

/// The crowd is there first; the timers fire in the middle of what is measured.
fn measure(yielding: usize, sleeping: usize, length: Duration) -> io::Result<[Vec<Duration>; 3]> {
    let begun = Instant::now();
    let (reader, mut writer) = io::pipe()?;
    let reader = Source::new(reader)?;
    let reads = spawn(move || {
        let mut late = Vec::new();
        let mut sent = [0; 8];
        loop {
            // One call, one number: small writes to a pipe are not torn.
            let read = |mut r: &PipeReader| r.read(&mut sent);
            match reader.io(Direction::Read, Limit::NONE, read) {
                Ok(8) => {
                    let sent = Duration::from_nanos(u64::from_le_bytes(sent));
                    late.push(begun.elapsed().saturating_sub(sent));
                }
                _ => return late,
            }
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let asleep = Arc::new(AtomicUsize::new(0));
    let at = Instant::now() + length / 2;
    let (sender, receiver) = unbounded::<Instant>();
    let wakes = spawn(move || {
        let late = receiver.into_iter().map(|sent| sent.elapsed());
        late.collect::<Vec<_>>()
    });
    let mut crowd = Vec::with_capacity(sleeping + yielding);
    for i in 0..sleeping {
        let asleep = asleep.clone();
        crowd.push(spawn(move || {
            asleep.fetch_add(1, Relaxed);
            sleep_until(at);
        }));
        if i % 1024 == 0 {
            yield_now();
        }
    }
    while asleep.load(Relaxed) < sleeping {
        yield_now();
    }
    for _ in 0..yielding {
        let stop = stop.clone();
        crowd.push(spawn(move || {
            while !stop.load(Relaxed) {
                yield_now();
            }
        }));
    }
    yield_now();

    let stopped = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "an ordinary thread")]
    let thread = std::thread::spawn(move || {
        while !stopped.load(Relaxed) && sender.send(Instant::now()).is_ok() {
            let now = begun.elapsed().as_nanos() as u64;
            if writer.write_all(&now.to_le_bytes()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let stopped = stop.clone();
    let timers = spawn(move || {
        let mut late = Vec::new();
        while !stopped.load(Relaxed) {
            let due = Instant::now() + Duration::from_millis(3);
            sleep_until(due);
            late.push(due.elapsed());
        }
        late
    });
    sleep_until(at + length / 2);
    stop.store(true, Relaxed);
    let late = [take(wakes), take(reads), take(timers)];
    join_all(crowd);
    drop(thread);
    Ok(late)
}

fn take(task: JoinHandle<Vec<Duration>>) -> Vec<Duration> {
    task.join().unwrap_or_default()
}
