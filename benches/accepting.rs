//! How should a server with several workers accept?
//!
//! `accepting [--connections N] [--rounds N]` runs each way in turns, in a process of its own with
//! two workers, and connects from threads of this one: to close at once, to echo 64 bytes first, or
//! one after another and staying. The tables have the medians: connections per second, the server's
//! CPU time for each, and which part of them the worker with more of them had.
//!
//! - `dup`: a task on each worker accepts, each from a descriptor of its own of one socket;
//! - `reuseport`: the same, each from a socket of its own (`SO_REUSEPORT`);
//! - `shared`: the same, all from one source;
//! - `steal`: one task accepts and spawns; an idle worker takes what has waited for 50 us;
//! - `place`: one task accepts, and spawns on the worker that has the fewest connections.
#![allow(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used
)]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use sward::net::TcpListener;
use sward::{Builder, Runtime, spawn, sync::Event};

const WORKERS: usize = 2;
const WAYS: [&str; 5] = ["dup", "reuseport", "shared", "steal", "place"];
const LOADS: [&str; 3] = ["close", "echo", "stay"];
const THREADS: usize = 4;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
        given.unwrap_or(default)
    };
    let connections = number("--connections", 4000) / THREADS * THREADS;
    if args.get(1).is_some_and(|a| a == "server") {
        return server(&args[2], connections);
    }
    let rounds = number("--rounds", 7);
    for load in LOADS {
        let mut results = WAYS.map(|_| Vec::new());
        for round in 0..rounds * WAYS.len() {
            let way = (round + round / WAYS.len()) % WAYS.len();
            results[way].push(measure(WAYS[way], load, connections)?);
        }
        println!("{load}, {connections} connections:");
        println!("  way         per second   CPU each   most on one worker (worst)");
        for (way, all) in WAYS.iter().zip(&mut results) {
            let mut median = |what: fn(&Figures) -> f64| {
                all.sort_by(|a, b| what(a).total_cmp(&what(b)));
                all.get(all.len() / 2).map_or(0.0, what)
            };
            let (rate, cpu, share) = (median(|f| f.rate), median(|f| f.cpu), median(|f| f.share));
            let worst = all.last().map_or(0.0, |f| f.share * 100.0);
            println!(
                "  {way:<10} {rate:>11.0} {cpu:>7.1} us {:>7.1} % ({worst:.1} %)",
                share * 100.0
            );
        }
    }
    Ok(())
}

struct Figures {
    rate: f64,
    cpu: f64,
    share: f64,
}

fn measure(way: &str, load: &str, connections: usize) -> io::Result<Figures> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["server", way, "--connections", &connections.to_string()])
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
    let mut lines = BufReader::new(out).lines();
    let mut next = || -> io::Result<String> { lines.next().ok_or(ErrorKind::UnexpectedEof)? };
    let address: SocketAddr = next()?.parse().map_err(io::Error::other)?;
    let begun = Instant::now();
    let clients = (0..THREADS).map(|_| {
        let load = load.to_owned();
        std::thread::spawn(move || client(address, &load, connections / THREADS))
    });
    let clients: Vec<_> = clients.collect();
    let mut held = Vec::new();
    for client in clients {
        held.extend(client.join().unwrap()?);
    }
    // All have been accepted.
    drop(held);
    let answer = next()?;
    let rate = connections as f64 / begun.elapsed().as_secs_f64();
    let mut words = answer.split(' ').map(|w| w.parse::<f64>().unwrap());
    let mut word = || words.next().unwrap();
    let (cpu, most) = (word(), word());
    child.wait()?;
    Ok(Figures {
        rate,
        cpu: cpu / 1000.0 / connections as f64,
        share: most / connections as f64,
    })
}

fn client(address: SocketAddr, load: &str, connections: usize) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    let mut bytes = [1; 64];
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address)?;
        if load == "echo" || load == "stay" {
            stream.write_all(&bytes)?;
            stream.read_exact(&mut bytes)?;
        }
        if load == "stay" {
            held.push(stream);
        }
    }
    Ok(held)
}

/// What the handlers share.
struct Counts {
    /// Connections that each worker has had, and has.
    had: [AtomicUsize; WORKERS],
    has: [AtomicUsize; WORKERS],
    left: AtomicUsize,
    done: Event,
}

impl Counts {
    fn one_less(&self) {
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.done.set();
        }
    }
}

fn server(way: &str, connections: usize) -> io::Result<()> {
    let runtime = Runtime::builder().workers(WORKERS).name("w").build()?;
    let counts = Arc::new(Counts {
        had: Default::default(),
        has: Default::default(),
        left: AtomicUsize::new(connections),
        done: Event::new(),
    });
    runtime.run(|| serve(way, &counts))?;
    let had = counts.had.each_ref().map(|n| n.load(Relaxed));
    println!("{} {}", cpu_time()?, had.iter().max().unwrap());
    Ok(())
}

fn serve(way: &str, counts: &Arc<Counts>) -> io::Result<()> {
    let mut listeners = vec![match way {
        "reuseport" => reusing("127.0.0.1:0".parse().unwrap())?,
        _ => TcpListener::bind("127.0.0.1:0")?,
    }];
    let address = listeners[0].local_addr()?;
    while listeners.len() < WORKERS {
        match way {
            "dup" => listeners.push(listeners[0].try_clone()?),
            "reuseport" => listeners.push(reusing(address)?),
            _ => break,
        }
    }
    let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
    let tasks = match way {
        "steal" | "place" => 1,
        _ => WORKERS,
    };
    for i in 0..tasks {
        let listener = listeners[i % listeners.len()].clone();
        let (counts, place) = (counts.clone(), way == "place");
        let accept = move || {
            for stream in listener.incoming() {
                let counts = counts.clone();
                let stream = match stream {
                    Ok(stream) => stream,
                    // It went away before it was accepted.
                    Err(e) if e.kind() == ErrorKind::NotConnected => {
                        counts.one_less();
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                let handler = Builder::new();
                if place {
                    let least = (0..WORKERS)
                        .min_by_key(|&i| counts.has[i].load(Relaxed))
                        .unwrap();
                    counts.has[least].fetch_add(1, Relaxed);
                    handler.on_worker(least).spawn(move || {
                        handle(stream, &counts);
                        counts.has[least].fetch_sub(1, Relaxed);
                    })?;
                } else {
                    spawn(move || handle(stream, &counts));
                }
            }
            io::Result::Ok(())
        };
        let accept = move || accept().expect("accepts");
        Builder::new().on_worker(i).spawn(accept)?;
    }
    println!("{address}");
    counts.done.wait();
    Ok(())
}

fn handle(mut stream: sward::net::TcpStream, counts: &Counts) {
    let worker = std::thread::current().name().unwrap().ends_with('1');
    counts.had[usize::from(worker)].fetch_add(1, Relaxed);
    let mut buffer = [0; 64];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        let _ = stream.write_all(&buffer[..n]);
    }
    drop(stream);
    counts.one_less();
}

/// A listener that shares its port.
fn reusing(address: SocketAddr) -> io::Result<TcpListener> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = tokio.enter();
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    TcpListener::from_std(socket.listen(4096)?.into_std()?)
}

/// The CPU time of this process so far, in nanoseconds.
fn cpu_time() -> io::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let spent = text
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        sum += spent.ok_or(ErrorKind::InvalidData)?;
    }
    Ok(sum)
}
