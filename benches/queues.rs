//! What an exchange of a value costs, by queue, beside a channel.
//!
//! `queues [--rounds N]`: nanoseconds for each value, on one worker, the best of five parts. *Alone*: one task puts and
//! gets in turn, with this many values in the queue. *In turns*: one task puts and another gets,
//! through a queue that holds one value, so that each waits for the other.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use sward::sync::queue::Order;
use sward::sync::{
    JoinableQueue, LifoQueue, PriorityQueue, Queue, bounded, broadcast, unbounded, watch,
};
use sward::{Runtime, spawn};

const FILLS: [u64; 3] = [0, 100, 10_000];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == "--rounds");
    let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
    let rounds = given.unwrap_or(3_000_000);
    let runtime = match Runtime::builder().workers(1).build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("queues: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("ns for each value, {rounds} values:");
    let heads = FILLS.map(|fill| format!("alone/{fill}"));
    println!(
        "{:<14} {:>12} {:>12} {:>12} {:>12}",
        "", heads[0], heads[1], heads[2], "in turns"
    );
    runtime.run(move || {
        let channel = FILLS.map(|fill| {
            let (sender, receiver) = unbounded();
            let put = |value| sender.send(value).is_ok();
            alone(rounds, fill, put, || receiver.recv().unwrap_or(0))
        });
        let (sender, receiver) = bounded(1);
        let put = move |value| sender.send(value).is_ok();
        let turns = in_turns(rounds, put, move || receiver.recv().unwrap_or(0));
        row("channel", channel, turns);
        queue("Queue", rounds, Queue::unbounded, Queue::bounded);
        queue(
            "LifoQueue",
            rounds,
            LifoQueue::unbounded,
            LifoQueue::bounded,
        );
        queue(
            "PriorityQueue",
            rounds,
            PriorityQueue::unbounded,
            PriorityQueue::bounded,
        );
        let broadcast = FILLS.map(|fill| {
            let (sender, mut receiver) = broadcast::channel(fill as usize + 1);
            let put = |value| sender.send(value).is_ok();
            alone(rounds, fill, put, move || receiver.recv().unwrap_or(0))
        });
        row("broadcast", broadcast, f64::NAN);
        let (sender, mut receiver) = watch::channel(0);
        let put = |value| sender.send(value).is_ok();
        let get = move || receiver.changed().map_or(0, |()| *receiver.borrow());
        row(
            "watch",
            [alone(rounds, 0, put, get), f64::NAN, f64::NAN],
            f64::NAN,
        );
    });
    ExitCode::SUCCESS
}

fn row(what: &str, alone: [f64; 3], turns: f64) {
    let cells = [alone[0], alone[1], alone[2], turns].map(|ns| match ns.is_nan() {
        true => "-".to_owned(),
        false => format!("{ns:.1}"),
    });
    println!(
        "{what:<14} {:>12} {:>12} {:>12} {:>12}",
        cells[0], cells[1], cells[2], cells[3]
    );
}

fn queue<O: Order<Value = u64> + Send + 'static>(
    what: &str,
    rounds: u64,
    unbounded: fn() -> JoinableQueue<O>,
    bounded: fn(usize) -> JoinableQueue<O>,
) {
    let alone = FILLS.map(|fill| {
        let queue = unbounded();
        alone(
            rounds,
            fill,
            |value| queue.put(value).is_ok(),
            || queue.get().unwrap_or(0),
        )
    });
    let queue = Arc::new(bounded(1));
    let other = queue.clone();
    let turns = in_turns(
        rounds,
        move |value| queue.put(value).is_ok(),
        move || other.get().unwrap_or(0),
    );
    row(what, alone, turns);
}

/// Values in no order, so that a heap has work.
fn scatter(i: u64) -> u64 {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
}

fn alone(rounds: u64, fill: u64, put: impl Fn(u64) -> bool, mut get: impl FnMut() -> u64) -> f64 {
    (0..fill).for_each(|i| assert!(put(scatter(i))));
    best(rounds, |rounds| {
        let mut sum = 0;
        for i in 0..rounds {
            assert!(put(scatter(i)));
            sum ^= get();
        }
        std::hint::black_box(sum);
    })
}

/// The best of five parts: other programs disturb some of them.
fn best(rounds: u64, mut part: impl FnMut(u64)) -> f64 {
    let rounds = rounds.div_ceil(5);
    let time = |_| {
        let begun = Instant::now();
        part(rounds);
        begun.elapsed().as_nanos() as f64 / rounds as f64
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn in_turns(
    rounds: u64,
    put: impl Fn(u64) -> bool + Send + Sync + 'static,
    get: impl Fn() -> u64 + Send + Sync + 'static,
) -> f64 {
    let (put, get) = (Arc::new(put), Arc::new(get));
    best(rounds, |rounds| {
        let (put, get) = (put.clone(), get.clone());
        let putter = spawn(move || (0..rounds).all(|i| put(scatter(i))));
        let getter = spawn(move || (0..rounds).fold(0, |sum, _| sum ^ get()));
        assert!(matches!(putter.join(), Ok(true)));
        std::hint::black_box(getter.join().is_ok());
    })
}
