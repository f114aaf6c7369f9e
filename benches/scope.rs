//! What a child of a `scope` costs beside a task that is spawned and joined, in ns.
//!
//! `scope [CHILDREN]`, on one worker and on two; the least of 200 rounds.

use std::time::Instant;

use sward::{Runtime, join_all, scope, spawn};

fn main() {
    let n = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let n: usize = n.unwrap_or(1000);
    println!("{:<34} {:>8} {:>8}", "ns per child", "spawn", "scope");
    for workers in [1, 2] {
        let Ok(runtime) = Runtime::builder().workers(workers).build() else {
            return eprintln!("scope: no runtime");
        };
        let (plain, scoped) = runtime.run(move || {
            let plain = least(n, || {
                let sum: usize = join_all((0..n).map(|i| spawn(move || i)))
                    .into_iter()
                    .filter_map(Result::ok)
                    .sum();
                sum
            });
            let scoped = least(n, || {
                scope(|s| {
                    let children: Vec<_> = (0..n).map(|i| s.spawn(move || i)).collect();
                    let sum: usize = children.into_iter().filter_map(|c| c.join().ok()).sum();
                    sum
                })
            });
            (plain, scoped)
        });
        println!(
            "{:<34} {plain:>8.1} {scoped:>8.1}",
            format!("{n} children, workers: {workers}")
        );
    }
}

fn least(n: usize, mut run: impl FnMut() -> usize) -> f64 {
    let mut round = || {
        let begun = Instant::now();
        let sum = run();
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        begun.elapsed().as_nanos() as f64 / n.max(1) as f64
    };
    (0..200).map(|_| round()).fold(f64::INFINITY, f64::min)
}
