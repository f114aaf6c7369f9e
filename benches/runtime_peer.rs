//! The program that stands beside other runtimes in a comparison: one benchmark per run.
//!
//! `runtime_peer sleepers N | rss N | spawnjoin N | yield TASKS K | pingpong R | pingpong_x R |
//! mpsc M | mpsc_unb M | echo PORT | http PORT`, with the number of workers in `WORKERS` (default 2).
//! It prints `key=value` pairs on one line, or `skip=unsupported`; the servers print `READY` and run
//! until they are killed.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sward::http::http::{Request, Response, header};
use sward::http::{Body, Server};
use sward::net::TcpListener;
use sward::sync::{Receiver, Sender, bounded, unbounded};
use sward::{Builder, JoinHandle, Runtime, join_all, sleep, spawn, yield_now};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize| {
        args.get(i)
            .and_then(|s| s.parse::<usize>().ok())
            .unwrap_or(0)
    };
    let workers = std::env::var("WORKERS")
        .ok()
        .and_then(|w| w.parse().ok())
        .unwrap_or(2);
    let runtime = match Runtime::builder().workers(workers).build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("runtime_peer: {e}");
            return ExitCode::FAILURE;
        }
    };
    let bench = args.get(1).map_or("", String::as_str).to_owned();
    let (a, b) = (number(2), number(3));
    let line = runtime.run(move || match bench.as_str() {
        "sleepers" => sleepers(a),
        "rss" => rss(a),
        "spawnjoin" => spawnjoin(a),
        "yield" => yielding(a, b),
        "pingpong" => pingpong(a, [None, None]),
        // Each on a worker of its own, whatever the scheduler would have done.
        "pingpong_x" if workers > 1 => pingpong(a, [Some(0), Some(1)]),
        "mpsc" => mpsc(a, bounded(128)),
        "mpsc_unb" => mpsc(a, unbounded()),
        "echo" => ended(echo(a as u16)),
        "http" => ended(http(a as u16)),
        _ => "skip=unsupported".into(),
    });
    println!("{line}");
    // Some benchmarks leave a million tasks asleep; the end of the process is their end.
    std::process::exit(0)
}

fn ms(begun: Instant) -> String {
    format!("ms={:.2}", begun.elapsed().as_secs_f64() * 1e3)
}

fn ns(begun: Instant, n: usize) -> String {
    format!(
        "ns={:.1}",
        begun.elapsed().as_nanos() as f64 / n.max(1) as f64
    )
}

fn sleepers(n: usize) -> String {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..n)
        .map(|_| spawn(|| sleep(Duration::from_millis(200))))
        .collect();
    for task in tasks {
        task.join().unwrap();
    }
    ms(begun)
}

/// A value in KiB from `/proc/self/status`.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap_or("");
    line.split_whitespace()
        .nth(1)
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

fn rss(n: usize) -> String {
    spawn(|| {}).join().unwrap();
    let (base, base_pte) = (status("VmRSS:"), status("VmPTE:"));
    let started = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<JoinHandle<()>> = (0..n)
        .map(|_| {
            let started = started.clone();
            spawn(move || {
                started.fetch_add(1, Relaxed);
                sleep(Duration::from_secs(90));
            })
        })
        .collect();
    while started.load(Relaxed) < n {
        sleep(Duration::from_millis(2));
    }
    sleep(Duration::from_millis(200));
    let maps = std::fs::read_to_string("/proc/self/maps").map_or(0, |m| m.lines().count());
    let line = format!(
        "rss_kb={} base_kb={base} pte_kb={} vmsize_kb={} maps={maps}",
        status("VmRSS:"),
        status("VmPTE:") - base_pte,
        status("VmSize:"),
    );
    println!("{line}");
    drop(tasks);
    std::process::exit(0)
}

fn spawnjoin(n: usize) -> String {
    let begun = Instant::now();
    let mut tasks = Vec::with_capacity(1000);
    let mut sum = 0;
    for _ in 0..n / 1000 {
        tasks.extend((0..1000_u64).map(|i| spawn(move || i)));
        for task in tasks.drain(..) {
            sum += task.join().unwrap();
        }
    }
    assert_eq!(sum, (n as u64 / 1000) * 499_500);
    ns(begun, n)
}

fn yielding(tasks: usize, k: usize) -> String {
    let begun = Instant::now();
    join_all((0..tasks).map(|_| {
        spawn(move || {
            for _ in 0..k {
                yield_now();
            }
        })
    }));
    ns(begun, tasks * k)
}

fn on(worker: Option<usize>, f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    match worker {
        Some(n) => Builder::new()
            .on_worker(n)
            .spawn(f)
            .expect("a worker of that number"),
        None => spawn(f),
    }
}

fn pingpong(rounds: usize, workers: [Option<usize>; 2]) -> String {
    let (to_b, from_a) = bounded::<u64>(1);
    let (to_a, from_b) = bounded::<u64>(1);
    let begun = Instant::now();
    let a = on(workers[0], move || {
        for i in 0..rounds as u64 {
            to_b.send(i).unwrap();
            assert_eq!(from_b.recv(), Ok(i));
        }
    });
    let b = on(workers[1], move || {
        for x in from_a {
            if to_a.send(x).is_err() {
                break;
            }
        }
    });
    a.join().unwrap();
    b.join().unwrap();
    ns(begun, rounds)
}

fn mpsc(messages: usize, (sender, receiver): (Sender<u64>, Receiver<u64>)) -> String {
    let each = messages as u64 / 4;
    let begun = Instant::now();
    for _ in 0..4 {
        let sender = sender.clone();
        spawn(move || {
            for i in 0..each {
                sender.send(i).unwrap();
            }
        });
    }
    drop(sender);
    let sum = spawn(move || receiver.iter().sum::<u64>()).join().unwrap();
    assert_eq!(sum, 4 * (each * each.saturating_sub(1) / 2));
    ns(begun, messages)
}

/// What is said of a server that ended.
fn ended(result: io::Result<()>) -> String {
    format!("ended={result:?}")
}

fn echo(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1".parse::<IpAddr>().unwrap(), port))?;
    println!("READY");
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        spawn(move || {
            let mut buffer = [0; 1024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(n @ 1..) => stream.write_all(&buffer[..n])?,
                    _ => return io::Result::Ok(()),
                }
            }
        });
    }
}

fn http(port: u16) -> io::Result<()> {
    let server = Server::bind(("127.0.0.1".parse::<IpAddr>().unwrap(), port))?;
    println!("READY");
    server.serve_forever(|_: Request<Body>| {
        let mut response = Response::new("Hello, World!");
        let plain = header::HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    })
}
