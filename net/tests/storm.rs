//! Connects, echoes, resets, closes under use, time-outs and kills at random, for three seconds or
//! `SWARD_SOAK_SECONDS`; then nothing may be left: no task, no source, no timer, no descriptor.
//!
//! `SWARD_SOAK_SECONDS=60 SWARD_SEED=1 cargo test --release -p sward-net --test storm -- --nocapture`
//!
//! It is the only test of its binary, because descriptors are counted.
#![allow(clippy::unwrap_used, clippy::disallowed_types, clippy::print_stdout)]

mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Random, descriptors, runtime};
use sward_net::{ListenOptions, TcpListener, TcpStream};
use sward_runtime::io::is_closed;
use sward_runtime::sync::after;
use sward_runtime::{JoinError, Runtime, join_all, select, sleep, spawn, timeout, yield_now};

#[derive(Debug, Default)]
struct Counts {
    echoed: AtomicUsize,
    connections: AtomicUsize,
    kills: AtomicUsize,
    time_outs: AtomicUsize,
    errors: AtomicUsize,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What a storm may bring; everything else is a fault of ours.
#[track_caller]
fn fair(e: &io::Error) {
    let kinds = [
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::TimedOut,
        ErrorKind::NotConnected,
        ErrorKind::ConnectionAborted,
        ErrorKind::UnexpectedEof,
    ];
    assert!(is_closed(e) || kinds.contains(&e.kind()), "{e}");
}

/// Echoes until the end, unless chance says otherwise.
fn serve(stream: &TcpStream, random: &mut Random) -> io::Result<()> {
    let mut buffer = [0; 512];
    if random.below(4) == 0 {
        stream.set_read_timeout(Some(Duration::from_micros(random.below(3000) + 1)))?;
    }
    let mut left = random.below(20);
    loop {
        let n = (&*stream).read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        (&*stream).write_all(&buffer[..n])?;
        left = left.saturating_sub(1);
        match (left, random.below(8)) {
            (0, 0) => return stream.set_linger(Some(Duration::ZERO)),
            (0, 1) => return Ok(()),
            (0, 2) => return stream.shutdown(Shutdown::Both),
            (0, 3) => return stream.close(),
            _ => {}
        }
    }
}

/// Sends and checks what comes back.
fn use_it(stream: &Arc<TcpStream>, counts: &Counts, random: &mut Random) -> io::Result<()> {
    let mut serial = random.below(251) as u8;
    for _ in 0..random.below(12) {
        let size = random.below(700) as usize + 1;
        let sent: Vec<u8> = (0..size).map(|i| serial.wrapping_add(i as u8)).collect();
        serial = serial.wrapping_add(size as u8);
        let mut got = vec![0; size];
        match random.below(10) {
            // Both directions at once.
            0 => {
                let (writes, bytes) = (stream.clone(), sent.clone());
                let writer = spawn(move || (&*writes).write_all(&bytes));
                let read = (&**stream).read_exact(&mut got);
                writer.join().unwrap()?;
                read?;
            }
            1 => {
                (&**stream).write_all(&sent)?;
                let mut have = 0;
                while have < size {
                    let n = select! {
                        n = stream.reading_into(&mut got[have..]) => n?,
                        _ = after(Duration::from_millis(200)) => 0,
                    };
                    if n == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    have += n;
                }
            }
            2 => {
                (&**stream).write_all(&sent)?;
                stream.peek(&mut [0])?;
                (&**stream).read_exact(&mut got)?;
            }
            _ => {
                (&**stream).write_all(&sent)?;
                (&**stream).read_exact(&mut got)?;
            }
        }
        assert_eq!(got, sent);
        counts.echoed.fetch_add(1, Relaxed);
    }
    match random.below(6) {
        0 => stream.set_linger(Some(Duration::ZERO)),
        1 => stream.shutdown(Shutdown::Write),
        2 => stream.close(),
        _ => Ok(()),
    }
}

fn client(port: u16, counts: &Arc<Counts>, seed: u64) {
    let mut random = Random::quiet(seed);
    // Many addresses: the ports of one would run out.
    let host = Ipv4Addr::new(127, 0, random.below(8) as u8, random.below(250) as u8 + 1);
    let stream = match TcpStream::connect(SocketAddr::from((host, port))) {
        Ok(stream) => Arc::new(stream),
        Err(e) => return fair(&e),
    };
    counts.connections.fetch_add(1, Relaxed);
    if random.below(8) == 0 {
        stream.set_nodelay(true).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_millis(50)))
            .unwrap();
    }
    let closer = (random.below(10) == 0).then(|| {
        let stream = stream.clone();
        let pause = Duration::from_micros(random.below(500));
        spawn(move || {
            sleep(pause);
            stream.close()
        })
    });
    let limit = Duration::from_micros(200 << random.below(12));
    match timeout(limit, || use_it(&stream, counts, &mut random)) {
        Err(_) => drop(counts.time_outs.fetch_add(1, Relaxed)),
        Ok(Err(e)) => {
            fair(&e);
            counts.errors.fetch_add(1, Relaxed);
        }
        Ok(Ok(())) => {}
    }
    if let Some(closer) = closer {
        closer.join().unwrap().unwrap();
    }
}

fn accept_loop(listener: &TcpListener, seed: u64) {
    let mut random = Random::quiet(seed);
    let mut handlers = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let mut chance = Random::quiet(random.below(u64::MAX));
                handlers.push(spawn(move || {
                    if let Err(e) = serve(&stream, &mut chance) {
                        fair(&e);
                    }
                }));
            }
            Err(e) if is_closed(&e) => break,
            Err(e) => fair(&e),
        }
        if handlers.len() > 64 {
            let some = random.below(64) as usize;
            if random.below(4) == 0 {
                handlers[some].kill();
            }
            handlers.retain(|h| !h.is_finished());
        }
    }
    for handler in handlers {
        check(handler.join());
    }
}

#[track_caller]
fn check(end: Result<(), JoinError>) {
    if let Err(JoinError::Panicked(payload)) = end {
        std::panic::resume_unwind(payload);
    }
}

fn storm(rt: &Runtime, length: Duration, seed: u64, counts: &Arc<Counts>) {
    let listener = ListenOptions::new().listen("0.0.0.0:0").unwrap();
    let (listener, port) = {
        let port = listener.local_addr().unwrap().port();
        (Arc::new(listener), port)
    };
    let stop = Arc::new(AtomicBool::new(false));
    rt.run(|| {
        let acceptors: Vec<_> = (0..2)
            .map(|i| {
                let listener = listener.clone();
                spawn(move || accept_loop(&listener, seed + i))
            })
            .collect();
        let drivers: Vec<_> = (0..16)
            .map(|i| {
                let (counts, stop) = (counts.clone(), stop.clone());
                spawn(move || {
                    let mut random = Random::quiet(seed * 1000 + i);
                    while !stop.load(Relaxed) {
                        let (seed, counts) = (random.below(u64::MAX), counts.clone());
                        let counted = counts.clone();
                        let task = spawn(move || client(port, &counts, seed));
                        if random.below(5) == 0 {
                            for _ in 0..random.below(30) {
                                yield_now();
                            }
                            task.kill();
                            counted.kills.fetch_add(1, Relaxed);
                        }
                        check(task.join());
                    }
                })
            })
            .collect();
        let end = Instant::now() + length;
        while Instant::now() < end {
            sleep(Duration::from_millis(20));
        }
        stop.store(true, Relaxed);
        join_all(drivers).into_iter().for_each(check);
        listener.close().unwrap();
        join_all(acceptors).into_iter().for_each(check);
    });
}

#[test]
fn storm_and_calm() {
    let seconds = number("SWARD_SOAK_SECONDS", 3);
    let length = Duration::from_secs(seconds);
    let seed = number("SWARD_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    sward_runtime::__private::test_body(length * 2 + Duration::from_secs(60), "storm", || {
        // What the first use opens for good.
        drop(common::pair());
        for workers in [1, 2] {
            let counts = Arc::new(Counts::default());
            let before = descriptors();
            let rt = runtime(workers);
            rt.run(|| drop(common::pair()));
            let watched = (descriptors(), rt.stats().sources);
            storm(&rt, length / 2, seed, &counts);
            println!("{workers} workers: {counts:?}");
            // Killed tasks that nobody joined (writers of a killed client) may still be on their
            // way to their end.
            common::until(|| rt.stats().live + rt.stats().unstarted as usize == 0);
            assert_eq!(rt.stats().timers, 0);
            assert_eq!((descriptors(), rt.stats().sources), watched);
            drop(rt);
            assert_eq!(descriptors(), before);
            for (what, count) in [
                ("echoes", &counts.echoed),
                ("kills", &counts.kills),
                ("time-outs", &counts.time_outs),
                ("errors", &counts.errors),
            ] {
                assert!(count.load(Relaxed) > 0, "there were no {what}");
            }
        }
    });
}
