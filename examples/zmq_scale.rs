//! One program on one thread, on two, on many machines: same code, other endpoints. It counts primes.
//!
//! ```sh
//! export SWARD_WORKERS=1                             # threads of a process
//! zmq_scale inproc://tasks boss worker               # (cargo run --release --example zmq_scale --)
//! SWARD_WORKERS=2 zmq_scale inproc://tasks boss worker worker
//! zmq_scale tcp://*:5561 boss                        # two processes, or two machines, or four:
//! zmq_scale tcp://localhost:5561 worker              # start more of these meanwhile, stop some
//! ```

use std::time::Duration;

use sward::mq::{Error, Message, Rep, Req};
use sward::{Builder, scope, workers};

const TASKS: usize = 200;
const SIZE: usize = 10_000;

/// Gives out tasks. A worker's request brings the result of its last one.
fn boss(endpoint: &str) -> Result<(), Error> {
    let socket = Rep::bound(endpoint)?;
    let (mut results, mut given, mut limit) = ([None; TASKS], 0, Duration::MAX);
    while let Ok(request) = socket.recv_timeout(limit) {
        let number = |i| request.get(i)?.to_string().parse::<usize>().ok();
        if let (Some(task @ ..TASKS), Some(primes)) = (number(0), number(1)) {
            results[task] = Some(primes);
        }
        // In turn: what a worker that is gone had taken with it is given out again at the end.
        let mut open = (given..given + TASKS).filter(|i| results[i % TASKS].is_none());
        if let Some(i) = open.next() {
            request.reply((i % TASKS).to_string())?;
            given = i + 1;
        } else {
            request.reply("no more")?;
            limit = Duration::from_millis(500); // the others must hear it, too
        }
    }
    let primes: usize = results.iter().flatten().sum();
    println!("{primes} primes below {}", TASKS * SIZE);
    Ok(())
}

fn is_prime(n: &usize) -> bool {
    let mut divisors = (2..).take_while(|d| d * d <= *n);
    *n > 1 && divisors.all(|d| !n.is_multiple_of(d))
}

fn worker(endpoint: &str, n: usize) -> Result<(), Error> {
    let socket = Req::connected(endpoint)?;
    let (mut report, mut done) = (Message::from("ready"), 0);
    while let Ok(task) = socket.request(report)?[0].to_string().parse::<usize>() {
        let numbers = task * SIZE..(task + 1) * SIZE;
        let primes = numbers.filter(is_prime).count();
        report = [task.to_string(), primes.to_string()].into();
        done += 1;
    }
    println!("worker {}.{n}: {done} tasks", std::process::id());
    Ok(())
}

#[sward::main]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, roles @ ..] = &args[..] else {
        return eprintln!("usage: zmq_scale ENDPOINT (boss | worker)...");
    };
    scope(|s| {
        for (n, role) in roles.iter().enumerate() {
            let start = move || match &role[..] {
                "boss" => boss(endpoint),
                _ => worker(endpoint, n),
            };
            let thread = Builder::new().on_worker(n % workers());
            s.spawn_with(thread, move || start().unwrap()).unwrap();
        }
    });
}
