//! What a message costs that comes through a `select!` over two channels, in ns.
//!
//! `select [MESSAGES]`, one worker. "Parked": the receiver waits for each message; "ready": many
//! messages are there when it comes.

use std::time::Instant;

use sward::sync::{Receiver, bounded};
use sward::{Runtime, select, spawn};

fn main() {
    let n = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let n: u64 = n.unwrap_or(2_000_000);
    let Ok(runtime) = Runtime::builder().workers(1).build() else {
        return eprintln!("select: no runtime");
    };
    runtime.run(move || {
        println!("{:<36} {:>8}", "", "ns");
        for (name, room) in [("parked", 1), ("ready", 128)] {
            row(name, "recv of one channel", || {
                measure(n, room, |a, _| a.recv().ok())
            });
            row(name, "select! over two", || {
                measure(n, room, |a, b| {
                    select! {
                        v = a.receiving() => v.ok(),
                        v = b.receiving() => v.ok(),
                    }
                })
            });
        }
    });
}

/// The least of five runs.
fn row(room: &str, what: &str, run: impl Fn() -> f64) {
    let least = (0..5).map(|_| run()).fold(f64::INFINITY, f64::min);
    println!("{:<36} {least:>8.1}", format!("{room}: {what}"));
}

/// Nanoseconds for each of `n` messages.
fn measure(n: u64, room: usize, recv: fn(&Receiver<u64>, &Receiver<u64>) -> Option<u64>) -> f64 {
    let (a, from_a) = bounded(room);
    let (_b, from_b) = bounded(room);
    let begun = Instant::now();
    let sender = spawn(move || (0..n).all(|i| a.send(i).is_ok()));
    let mut got = 0;
    while got < n && recv(&from_a, &from_b).is_some() {
        got += 1;
    }
    let took = begun.elapsed();
    drop(from_a);
    let _ = sender.join();
    took.as_nanos() as f64 / n as f64
}
