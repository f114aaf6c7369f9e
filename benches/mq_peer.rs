//! ZeroMQ work for comparison with other implementations, in the command line of theirs:
//! `pull EP SIZE COUNT | push EP SIZE COUNT | rep EP SIZE N | req EP SIZE N | inproc_thr SIZE COUNT |
//! inproc_lat SIZE N | pub EP SIZE SECS NSUBS drop|nodrop | sub EP SIZE SECS NSUBS |
//! match EP NTOPICS COUNT hit|miss | router EP SECS`.
//!
//! `WORKERS` (1) is the number of workers, `BUSY_POLL_US` (0) for how long an idle one polls. With
//! `FRESH=1` every message is allocated and filled anew; without it one buffer is sent again and
//! again where the others do so too.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sward::mq::{Context, Frame, Message, Options, Socket, SocketType};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn env(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What a loop of sends sends.
struct Payload {
    one: Message,
    size: usize,
    fresh: bool,
}

impl Payload {
    fn new(size: usize) -> Self {
        Self {
            one: vec![b'x'; size].into(),
            size,
            fresh: env("FRESH", 0) == 1,
        }
    }

    fn next(&self, i: usize) -> Message {
        match self.fresh {
            false => self.one.clone(),
            // What is that short is written into the message itself.
            true if self.size <= Frame::INLINE => {
                Frame::from_fn(self.size, |b| b.fill(i as u8)).into()
            }
            true => vec![i as u8; self.size].into(),
        }
    }
}

fn print_throughput(n: usize, size: usize, took: Duration) {
    let s = took.as_secs_f64();
    let rate = n as f64 / s;
    println!(
        "THR {rate:.0} msg/s {:.2} MB/s {n} msgs {s:.3} s",
        rate * size as f64 / 1e6
    );
}

fn print_round_trips(mut all: Vec<f64>) {
    let mut all = all.split_off(all.len() / 10);
    let n = all.len();
    let mean = all.iter().sum::<f64>() / n as f64;
    all.sort_by(f64::total_cmp);
    println!(
        "RTT mean {:.2} p50 {:.2} p99 {:.2} max {:.2} us",
        mean * 1e6,
        all[n / 2] * 1e6,
        all[(n as f64 * 0.99) as usize] * 1e6,
        all[n - 1] * 1e6
    );
}

fn pull(socket: &Socket, size: usize, n: usize) -> Outcome {
    let first = socket.recv()?;
    assert_eq!(first.size(), size);
    let begun = Instant::now();
    for _ in 1..n {
        socket.recv()?;
    }
    print_throughput(n - 1, size, begun.elapsed());
    Ok(())
}

fn push(socket: &Socket, size: usize, n: usize) -> Outcome {
    let payload = Payload::new(size);
    for i in 0..n {
        socket.send(payload.next(i))?;
    }
    Ok(())
}

fn rep(socket: &Socket, n: usize) -> Outcome {
    for _ in 0..n {
        socket.send(socket.recv()?)?;
    }
    Ok(())
}

fn req(socket: &Socket, size: usize, n: usize) -> Outcome {
    let message = Message::from(vec![b'x'; size]);
    let mut all = Vec::with_capacity(n);
    for _ in 0..n {
        let begun = Instant::now();
        socket.send(message.clone())?;
        socket.recv()?;
        all.push(begun.elapsed().as_secs_f64());
    }
    print_round_trips(all);
    Ok(())
}

fn inproc(context: &Context, latency: bool, size: usize, n: usize) -> Outcome {
    let (here, there) = if latency {
        (SocketType::Req, SocketType::Rep)
    } else {
        (SocketType::Pull, SocketType::Push)
    };
    let socket = context.socket(here)?;
    socket.bind("inproc://b")?;
    let other = context.socket(there)?;
    let task = sward::spawn(move || {
        other.connect("inproc://b")?;
        if latency {
            rep(&other, n)
        } else {
            push(&other, size, n)
        }
    });
    if latency {
        req(&socket, size, n)?;
    } else {
        pull(&socket, size, n)?;
    }
    task.join().map_err(|e| e.to_string())??;
    Ok(())
}

/// Publishes for some seconds to `subscribers` of them.
fn publish(context: &Context, at: &str, size: usize, secs: f64, n: usize, drop: bool) -> Outcome {
    let mut options = Options::new().xpub_verbose(true).linger(Duration::ZERO);
    if !drop {
        options = options
            .xpub_nodrop(true)
            .send_timeout(Duration::from_secs(2));
    }
    let socket = context.socket_with(SocketType::XPub, options)?;
    socket.bind(at)?;
    for _ in 0..n {
        socket.recv()?;
    }
    sward::sleep(Duration::from_millis(300));
    let payload = Payload::new(size);
    let (begun, mut sent) = (Instant::now(), 0);
    while sent % 64 != 0 || begun.elapsed().as_secs_f64() < secs {
        match socket.send(payload.next(sent)) {
            Ok(()) => sent += 1,
            Err(e) if e.error().is_would_block() => break,
            Err(e) => return Err(e.into()),
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "PUB sent {:.0} msg/s x{n} subs in {took:.3} s",
        sent as f64 / took
    );
    sward::sleep(Duration::from_millis(700));
    Ok(())
}

/// Counts what `n` subscribers get in some seconds, after the first 0.3.
fn subscribe(context: &Context, at: &str, secs: f64, n: usize) -> Outcome {
    let counts: Arc<[AtomicU64]> = (0..n).map(|_| AtomicU64::new(0)).collect();
    for i in 0..n {
        let socket = context.socket(SocketType::Sub)?;
        socket.subscribe("")?;
        socket.connect(at)?;
        let counts = counts.clone();
        sward::spawn(move || {
            while socket.recv().is_ok() {
                counts[i].fetch_add(1, Relaxed);
            }
        });
    }
    let now = || counts.iter().map(|n| n.load(Relaxed)).collect::<Vec<_>>();
    while now().iter().all(|n| *n == 0) {
        sward::sleep(Duration::from_millis(5));
    }
    sward::sleep(Duration::from_millis(300));
    let (first, begun) = (now(), Instant::now());
    let (mut last, mut at) = (first.clone(), begun);
    while begun.elapsed().as_secs_f64() < secs && at.elapsed().as_secs_f64() < 1.5 {
        sward::sleep(Duration::from_millis(20));
        let next = now();
        if next != last {
            (last, at) = (next, Instant::now());
        }
    }
    let took = (at - begun).as_secs_f64();
    let rates = first.iter().zip(&last).map(|(a, b)| (b - a) as f64 / took);
    let (min, max) = rates.clone().fold((f64::MAX, 0.0_f64), |(min, max), rate| {
        (min.min(rate), max.max(rate))
    });
    println!(
        "SUB delivered {:.0} msg/s to {n} subs (per-sub min {min:.0} max {max:.0}) in {took:.3} s",
        rates.sum::<f64>()
    );
    std::process::exit(0)
}

/// Publishes to one subscriber of many topics, to those or to others.
fn matching(context: &Context, at: &str, topics: usize, n: usize, hit: bool) -> Outcome {
    let options = Options::new()
        .send_hwm(0)
        .recv_hwm(0)
        .linger(Duration::ZERO);
    let publisher = context.socket_with(SocketType::XPub, options.clone().xpub_verbose(true))?;
    let subscriber = context.socket_with(SocketType::Sub, options)?;
    let bound = publisher.bind(at)?;
    subscriber.connect(bound.as_str())?;
    sward::sleep(Duration::from_millis(100));
    let (before, begun) = (resident_kb(), Instant::now());
    for i in 0..topics {
        subscriber.subscribe(format!("topic/{:08}/", i * 7919 % topics))?;
    }
    for _ in 0..topics {
        publisher.recv()?;
    }
    let (subscribing, after) = (begun.elapsed().as_secs_f64(), resident_kb());
    let begun = Instant::now();
    for i in 0..n {
        let topic = if hit {
            i * 7919 % topics
        } else {
            topics + i % 1000
        };
        publisher.send(format!("topic/{topic:08}/payload"))?;
    }
    let sending = begun.elapsed().as_secs_f64();
    print!(
        "MATCH topics {topics} {}: subscribe {:.0}/s, +{:.0} B/sub, send {:.0} msg/s ({:.1} ns/msg)",
        if hit { "hit" } else { "miss" },
        topics as f64 / subscribing,
        (after as f64 - before as f64) * 1024.0 / topics as f64,
        n as f64 / sending,
        sending / n as f64 * 1e9
    );
    if hit {
        let mut got = 0;
        while got < n && subscriber.recv_timeout(Duration::from_millis(500)).is_ok() {
            got += 1;
        }
        let took = begun.elapsed().as_secs_f64();
        print!(", delivered {got} at {:.0} msg/s", got as f64 / took);
    }
    println!();
    Ok(())
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}

/// Sends back what comes, and says how much memory there is in use.
fn route(context: &Context, at: &str, secs: f64) -> Outcome {
    let options = Options::new().backlog(4096).max_handshakes(20_000);
    let socket = context.socket_with(SocketType::Router, options)?;
    socket.bind(at)?;
    sward::sleep(Duration::from_millis(100));
    println!("ROUTER ready rss {} kB", resident_kb());
    let end = Instant::now() + Duration::from_secs_f64(secs);
    let (mut last, mut echoed) = (Instant::now(), 0_u64);
    while Instant::now() < end {
        if let Ok(message) = socket.recv_timeout(Duration::from_millis(500)) {
            socket.send(message)?;
            echoed += 1;
        }
        if last.elapsed().as_secs() >= 1 {
            println!("ROUTER rss {} kB echoed {echoed}", resident_kb());
            last = Instant::now();
        }
    }
    std::process::exit(0)
}

fn work(args: &[String]) -> Outcome {
    let mode = args.first().map_or("", String::as_str);
    let text = |i: usize| args.get(i).map_or("", String::as_str);
    let number = |i: usize| text(i).parse::<usize>();
    let context = Context::new();
    match mode {
        "pull" => {
            let socket = context.socket(SocketType::Pull)?;
            socket.bind(text(1))?;
            pull(&socket, number(2)?, number(3)?)?;
        }
        "push" => {
            let socket = context.socket(SocketType::Push)?;
            socket.connect(text(1))?;
            push(&socket, number(2)?, number(3)?)?;
        }
        "rep" => {
            let socket = context.socket(SocketType::Rep)?;
            socket.bind(text(1))?;
            rep(&socket, number(3)?)?;
        }
        "req" => {
            let socket = context.socket(SocketType::Req)?;
            socket.connect(text(1))?;
            req(&socket, number(2)?, number(3)?)?;
        }
        "inproc_thr" | "inproc_lat" => {
            inproc(&context, mode == "inproc_lat", number(1)?, number(2)?)?;
        }
        "pub" => {
            let (secs, drop) = (text(3).parse()?, text(5) != "nodrop");
            publish(&context, text(1), number(2)?, secs, number(4)?, drop)?;
        }
        "sub" => subscribe(&context, text(1), text(3).parse()?, number(4)?)?,
        "match" => matching(&context, text(1), number(2)?, number(3)?, text(4) == "hit")?,
        "router" => route(&context, text(1), text(2).parse()?)?,
        _ => return Err(format!("unknown mode {mode:?}").into()),
    }
    let lost = context.term(Duration::from_secs(30));
    if lost > 0 {
        return Err(format!("{lost} messages were not sent").into());
    }
    Ok(())
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = sward::Runtime::builder()
        .workers(env("WORKERS", 1))
        .busy_poll(Duration::from_micros(env("BUSY_POLL_US", 0) as u64))
        .build()?;
    runtime.run(move || work(&args))
}
