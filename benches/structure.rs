//! What groups, pools and maps cost for each task beside a plain spawn and join, in ns.
//!
//! `structure [TASKS]`, on one worker and on two; the least of 100 rounds.

use std::io;
use std::time::{Duration, Instant};

use sward::{
    Builder, CancelToken, Group, JoinHandle, Pool, Runtime, as_completed, join_all, kill_all, park,
    spawn, task_local, timeout,
};

task_local! {
    static HEIR: u64 = 7, inherit;
}

fn main() -> io::Result<()> {
    let n = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let n: u64 = n.unwrap_or(1000);
    let (one, two) = (measure(1, n)?, measure(2, n)?);
    println!("{:<44} {:>9} {:>9}", "ns per task", "1 worker", "2 workers");
    for ((what, one), (_, two)) in one.into_iter().zip(two) {
        println!("{what:<44} {one:>9.1} {two:>9.1}");
    }
    Ok(())
}

fn sum(handles: Vec<JoinHandle<u64>>) -> u64 {
    join_all(handles).into_iter().filter_map(Result::ok).sum()
}

fn measure(workers: usize, n: u64) -> io::Result<Vec<(&'static str, f64)>> {
    let runtime = Runtime::builder().workers(workers).build()?;
    Ok(runtime.run(move || {
        let all = n * n.saturating_sub(1) / 2;
        let least = |run: &mut dyn FnMut() -> u64| {
            let mut round = || {
                let begun = Instant::now();
                assert_eq!(run(), all);
                begun.elapsed().as_nanos() as f64 / n.max(1) as f64
            };
            (0..100).map(|_| round()).fold(f64::INFINITY, f64::min)
        };
        let mut rows = Vec::new();
        let mut row = |what, run: &mut dyn FnMut() -> u64| rows.push((what, least(run)));
        row("spawn, join", &mut || {
            sum((0..n).map(|i| spawn(move || i)).collect())
        });
        row("spawn, as_completed", &mut || {
            let ended = as_completed((0..n).map(|i| spawn(move || i)));
            ended.filter_map(|(_, result)| result.ok()).sum()
        });
        row("Builder::inherit_deadline, join", &mut || {
            let start = |i| Builder::new().inherit_deadline().spawn(move || i).ok();
            let run = || sum((0..n).filter_map(start).collect());
            timeout(Duration::from_secs(60), run).unwrap_or(0)
        });
        let group = Group::new();
        row("Group::spawn, join", &mut || {
            sum((0..n).map(|i| group.spawn(move || i)).collect())
        });
        let token = CancelToken::new();
        row("CancelToken::spawn, join", &mut || {
            sum((0..n).map(|i| token.spawn(move || i)).collect())
        });
        let pool = Pool::new(64);
        row("Pool::spawn of 64, join", &mut || {
            sum((0..n).map(|i| pool.spawn(move || i)).collect())
        });
        row("Pool::map", &mut || pool.map(0..n, |i| i).into_iter().sum());
        row("Pool::imap", &mut || {
            pool.imap(0..n, |i| i).filter_map(Result::ok).sum()
        });
        row("Pool::imap_unordered", &mut || {
            pool.imap_unordered(0..n, |i| i)
                .filter_map(Result::ok)
                .sum()
        });
        row("CancelToken::run, no task", &mut || {
            (0..n).filter_map(|i| token.run(|| i).ok()).sum()
        });
        row("spawn, kill_all while they park", &mut || {
            let tasks: Vec<_> = (0..n).map(|_| spawn(park)).collect();
            sward::yield_now();
            kill_all(tasks).len() as u64 * n.saturating_sub(1) / 2
        });
        HEIR.with(|_| ());
        row("spawn with an inherited local, join", &mut || {
            sum((0..n).map(|i| spawn(move || i)).collect())
        });
        rows
    }))
}
