//! `io::Source`: an operation waits until its descriptor is ready, whoever waits beside it and on
//! whatever worker, and nothing that the kernel has told is lost.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_types,
    dropping_copy_types
)]

mod common;

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{Random, assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::io::{Direction, Limit, Source, is_closed};
use sward_runtime::sync::{Event, unbounded};
use sward_runtime::{
    Builder, JoinHandle, OnDeadlock, Runtime, join_all, sleep, spawn, timeout, without_parking,
    yield_now,
};

const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

fn streams() -> (Arc<Source<UnixStream>>, Arc<Source<UnixStream>>) {
    let (a, b) = UnixStream::pair().unwrap();
    (
        Arc::new(Source::new(a).unwrap()),
        Arc::new(Source::new(b).unwrap()),
    )
}

fn pipes() -> (Arc<Source<PipeReader>>, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (Arc::new(Source::new(reader).unwrap()), writer)
}

/// Reads with a buffer of that size.
fn read<T>(source: &Source<T>, n: usize, limit: Limit) -> io::Result<Vec<u8>>
where
    for<'a> &'a T: Read,
{
    let mut buffer = vec![0; n];
    let n = source.io(Direction::Read, limit, |mut t: &T| t.read(&mut buffer))?;
    buffer.truncate(n);
    Ok(buffer)
}

fn write<T>(source: &Source<T>, bytes: &[u8]) -> io::Result<usize>
where
    for<'a> &'a T: Write,
{
    source.io(Direction::Write, Limit::NONE, |mut t: &T| t.write(bytes))
}

fn waiting<T>(source: &Source<T>) -> String {
    let text = format!("{source:?}");
    text.split("waiting: ").nth(1).unwrap().to_owned()
}

fn until_waits<T>(source: &Source<T>, readers: usize, writers: usize) {
    until(|| waiting(source).starts_with(&format!("[{readers}, {writers}]")));
}

fn eventfd(flags: i32) -> OwnedFd {
    // SAFETY: makes a new descriptor, which nobody else owns.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | flags) };
    assert!(fd >= 0);
    // SAFETY: just made, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn add(fd: impl AsFd, n: u64) {
    // SAFETY: eight bytes of a local.
    let written = unsafe {
        libc::write(
            fd.as_fd().as_raw_fd(),
            (&raw const n).cast(),
            size_of::<u64>(),
        )
    };
    assert_eq!(written, 8);
}

fn take(fd: impl AsFd) -> io::Result<u64> {
    let mut n = 0_u64;
    // SAFETY: eight bytes of a local.
    let read = unsafe {
        libc::read(
            fd.as_fd().as_raw_fd(),
            (&raw mut n).cast(),
            size_of::<u64>(),
        )
    };
    if read == 8 {
        Ok(n)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[test]
fn ping_pong() {
    within("ping_pong", || {
        everywhere(|| {
            let (a, b) = streams();
            let echo = spawn(move || {
                loop {
                    let bytes = read(&b, 16, Limit::NONE).unwrap();
                    if bytes.is_empty() {
                        return;
                    }
                    assert_eq!(write(&b, &bytes).unwrap(), bytes.len());
                }
            });
            for i in 0..200_u8 {
                write(&a, &[i, 1, 2]).unwrap();
                assert_eq!(read(&a, 16, Limit::NONE).unwrap(), [i, 1, 2]);
            }
            drop(a);
            echo.join().unwrap();
        });
    });
}

#[test]
fn tcp_with_short_counts() {
    within("tcp_with_short_counts", || {
        everywhere(|| {
            let listener = Source::new(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
            let address = listener.get_ref().local_addr().unwrap();
            let server = spawn(move || {
                let accept = |l: &TcpListener| l.accept();
                let (stream, _) = listener.io(Direction::Read, Limit::NONE, accept).unwrap();
                let stream = Source::new(stream).unwrap();
                let mut all = Vec::new();
                loop {
                    let mut buffer = [0; 1000];
                    let n = stream
                        .io_bytes(Direction::Read, Limit::NONE, buffer.len(), |mut s| {
                            s.read(&mut buffer)
                        })
                        .unwrap();
                    if n == 0 {
                        return all;
                    }
                    all.extend_from_slice(&buffer[..n]);
                }
            });
            let client = Source::new(TcpStream::connect(address).unwrap()).unwrap();
            let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let n = client
                    .io_bytes(Direction::Write, Limit::NONE, rest.len(), |mut s| {
                        s.write(rest)
                    })
                    .unwrap();
                rest = &rest[n..];
                if rest.len().is_multiple_of(7) {
                    sleep(Duration::from_micros(50));
                }
            }
            // Data and end may come in one event: the short count before the end must not hide it.
            drop(client);
            assert!(server.join().unwrap() == sent);
        });
    });
}

/// The end comes with the last bytes, or just after them, a thousand times.
#[test]
fn the_end_is_not_hidden_by_a_short_count() {
    within("the_end_is_not_hidden_by_a_short_count", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let mut random = Random::new(workers as u64);
            for _ in 0..1000 {
                let (reader, mut writer) = pipes();
                let task = runtime.spawn(move || {
                    let mut total = 0;
                    loop {
                        let mut buffer = [0; 64];
                        let read = |mut r: &PipeReader| r.read(&mut buffer);
                        match reader
                            .io_bytes(Direction::Read, Limit::NONE, 64, read)
                            .unwrap()
                        {
                            0 => return total,
                            n => total += n,
                        }
                    }
                });
                for _ in 0..random.below(200) {
                    std::hint::spin_loop();
                }
                writer.write_all(b"abc").unwrap();
                for _ in 0..random.below(200) {
                    std::hint::spin_loop();
                }
                writer.write_all(b"de").unwrap();
                drop(writer);
                assert_eq!(task.join().unwrap(), 5);
            }
        }
    });
}

#[test]
fn a_reader_and_a_writer_of_one_socket() {
    within("a_reader_and_a_writer_of_one_socket", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                const TOTAL: usize = 2 << 20;
                let (a, b) = streams();
                let sides = [(a.clone(), b.clone()), (b, a)];
                let tasks = sides.into_iter().flat_map(|(me, _other)| {
                    let out = me.clone();
                    let writer = spawn(move || {
                        let bytes = [7; 60_000];
                        let mut left = TOTAL;
                        while left > 0 {
                            left -= write(&out, &bytes[..left.min(bytes.len())]).unwrap();
                        }
                    });
                    let reader = spawn(move || {
                        let mut left = TOTAL;
                        while left > 0 {
                            left -= read(&me, 10_000, Limit::NONE).unwrap().len();
                        }
                    });
                    [writer, reader]
                });
                let tasks: Vec<_> = tasks.collect();
                join_all(tasks).into_iter().for_each(Result::unwrap);
            });
        }
    });
}

#[test]
fn readers_are_served_as_they_came() {
    within("readers_are_served_as_they_came", || {
        runtime(1).run(|| {
            let (source, mut writer) = pipes();
            let (tell, told) = unbounded();
            let readers: Vec<_> = (0..10)
                .map(|i| {
                    let (reader, tell) = (source.clone(), tell.clone());
                    let task = spawn(move || {
                        let byte = read(&reader, 1, Limit::NONE).unwrap()[0];
                        tell.send((i, byte)).unwrap();
                    });
                    until_waits(&source, i + 1, 0);
                    task
                })
                .collect();
            // One edge for the first four, who pass it on; then the others one by one.
            writer.write_all(&[0, 1, 2, 3]).unwrap();
            for i in 0..10 {
                assert_eq!(told.recv(), Ok((i, i as u8)));
                if (3..9).contains(&i) {
                    until_waits(&source, 9 - i, 0);
                    writer.write_all(&[i as u8 + 1]).unwrap();
                }
            }
            join_all(readers).into_iter().for_each(Result::unwrap);
            assert_eq!(waiting(&source), "[0, 0], .. }");
        });
    });
}

/// Everything that is written is read once, by tasks and threads on all sides, although readers
/// are killed and time out all the time.
#[test]
fn nothing_is_lost_among_many_readers() {
    within("nothing_is_lost_among_many_readers", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (socket, sender) = UnixDatagram::pair().unwrap();
            sender.set_nonblocking(true).unwrap();
            let source = Arc::new(Source::new(socket).unwrap());
            let sender = Arc::new(Source::new(sender).unwrap());
            let sum = Arc::new(AtomicUsize::new(0));
            let count = Arc::new(AtomicUsize::new(0));
            let receive = {
                let (source, sum, count) = (source.clone(), sum.clone(), count.clone());
                move |limit: Limit| -> io::Result<usize> {
                    let mut buffer = [0; 8];
                    source.io(Direction::Read, limit, |s| s.recv(&mut buffer))?;
                    let n = usize::from_le_bytes(buffer);
                    sum.fetch_add(n, SeqCst);
                    count.fetch_add(1, SeqCst);
                    Ok(n)
                }
            };
            let stop = Arc::new(AtomicBool::new(false));
            let mut tasks: Vec<JoinHandle<()>> = Vec::new();
            for i in 0..6_u64 {
                let (receive, stop) = (receive.clone(), stop.clone());
                let body = move || {
                    while !stop.load(SeqCst) {
                        let limit = match i % 3 {
                            0 => Limit::from(Duration::from_micros(50 * i)),
                            _ => Limit::from(Duration::from_millis(20)),
                        };
                        if i % 2 == 0 {
                            let _ = timeout(Duration::from_micros(70), || receive(limit));
                        } else {
                            let _ = receive(limit);
                        }
                    }
                };
                let builder = Builder::new().on_worker(i as usize % workers);
                tasks.push(runtime.spawn_with(builder, body).unwrap());
            }
            let thread = {
                let (receive, stop) = (receive.clone(), stop.clone());
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        let _ = receive(Duration::from_millis(5).into());
                    }
                })
            };
            // Victims are spawned and killed all the while.
            let killer = {
                let (receive, stop) = (receive.clone(), stop.clone());
                runtime.spawn(move || {
                    while !stop.load(SeqCst) {
                        let receive = receive.clone();
                        let victim = spawn(move || receive(Limit::NONE).map(drop));
                        sleep(Duration::from_micros(300));
                        victim.kill();
                        let _ = victim.join();
                    }
                })
            };
            let mut random = Random::new(7 + workers as u64);
            let total = if cfg!(debug_assertions) {
                5_000
            } else {
                20_000
            };
            for n in 1..=total {
                let bytes = usize::to_le_bytes(n);
                sender
                    .io(Direction::Write, Limit::NONE, |s| s.send(&bytes))
                    .unwrap();
                for _ in 0..random.below(3) * random.below(400) {
                    std::hint::spin_loop();
                }
            }
            let begun = Instant::now();
            while count.load(SeqCst) < total && begun.elapsed() < Duration::from_secs(30) {
                yield_now();
            }
            assert_eq!(count.load(SeqCst), total, "{source:?}\n{}", runtime.dump());
            assert_eq!(sum.load(SeqCst), total * (total + 1) / 2);
            stop.store(true, SeqCst);
            thread.join().unwrap();
            killer.join().unwrap();
            join_all(tasks).into_iter().for_each(Result::unwrap);
        }
    });
}

#[test]
fn limits_and_time_outs() {
    within("limits_and_time_outs", || {
        everywhere(|| {
            let (source, mut writer) = pipes();
            let limit = Duration::from_millis(3);
            let begun = Instant::now();
            let error = read(&source, 1, limit.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(begun.elapsed() >= limit);
            assert!(error.to_string().contains("descriptor"), "{error}");
            let error = read(&source, 1, Duration::ZERO.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let at = Instant::now() + limit;
            assert!(source.readable(at).is_err() && Instant::now() >= at);
            assert!(timeout(limit, || read(&source, 1, LONG.into())).is_err());
            assert_eq!(waiting(&source), "[0, 0], .. }");
            writer.write_all(b"x").unwrap();
            assert_eq!(read(&source, 1, limit.into()).unwrap(), b"x");
            // One limit for all waits of an operation.
            let begun = Instant::now();
            let never = source.io(Direction::Read, Duration::from_millis(30), |_| {
                writer.write_all(b"y")?;
                Err::<(), _>(ErrorKind::WouldBlock.into())
            });
            assert_eq!(never.unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(begun.elapsed() < Duration::from_secs(5));
            assert!(!source.poll_ready(Direction::Read).unwrap() || begun.elapsed() > limit);
        });
    });
}

#[test]
fn a_kill_leaves_the_rest_to_others() {
    within("a_kill_leaves_the_rest_to_others", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                for turn in 0..200 {
                    let (source, mut writer) = pipes();
                    let begin = |n| {
                        let reader = source.clone();
                        let task = spawn(move || read(&reader, 1, Limit::NONE).unwrap());
                        until_waits(&source, n, 0);
                        task
                    };
                    let first = begin(1);
                    let second = begin(2);
                    if turn % 2 == 0 {
                        writer.write_all(b"z").unwrap();
                    }
                    for _ in 0..turn % 5 {
                        yield_now();
                    }
                    first.kill();
                    if turn % 2 == 1 {
                        writer.write_all(b"z").unwrap();
                    }
                    let Ok(bytes) = first.join() else {
                        assert_eq!(second.join().unwrap(), b"z");
                        continue;
                    };
                    assert_eq!(bytes, b"z");
                    second.kill();
                    assert!(second.join().is_err());
                    assert_eq!(waiting(&source), "[0, 0], .. }");
                }
            });
        }
    });
}

/// One poll has events for a task that kills, and for the one that it kills: that one has the turn
/// by then, but has not run.
#[test]
fn a_turn_outlives_a_kill() {
    within("a_turn_outlives_a_kill", || {
        runtime(1).run(|| {
            for _ in 0..50 {
                let (source, mut writer) = pipes();
                let begin = |n| {
                    let reader = source.clone();
                    let task = spawn(move || read(&reader, 1, Limit::NONE).unwrap());
                    until_waits(&source, n, 0);
                    task
                };
                let victim = begin(1);
                let next = begin(2);
                let (order, mut command) = pipes();
                let target = victim.task();
                let waits = order.clone();
                let killer = spawn(move || {
                    read(&waits, 1, Limit::NONE).unwrap();
                    target.kill();
                });
                until_waits(&order, 1, 0);
                command.write_all(b"k").unwrap();
                writer.write_all(b"t").unwrap();
                killer.join().unwrap();
                match victim.join() {
                    // It was first after all.
                    Ok(bytes) => {
                        assert_eq!(bytes, b"t");
                        writer.write_all(b"t").unwrap();
                    }
                    Err(e) => assert!(e.is_killed()),
                }
                assert_eq!(next.join().unwrap(), b"t");
            }
        });
    });
}

#[test]
fn a_registration_moves_to_the_worker_that_waits() {
    within("a_registration_moves_to_the_worker_that_waits", || {
        let runtime = runtime(2);
        let (source, writer) = pipes();
        let writer = Arc::new(writer);
        for turn in 0..20_usize {
            let reader = source.clone();
            let on = Builder::new().on_worker(turn % 2);
            let task = runtime
                .spawn_with(on, move || read(&reader, 1, Limit::NONE).unwrap())
                .unwrap();
            until_waits(&source, 1, 0);
            assert_eq!(runtime.stats().sources, 1);
            let other = source.clone();
            // While somebody waits, a wait elsewhere does not move it, and is woken all the same.
            let on = Builder::new().on_worker((turn + 1) % 2);
            let second = runtime
                .spawn_with(on, move || read(&other, 1, Limit::NONE).unwrap())
                .unwrap();
            until_waits(&source, 2, 0);
            let thread = {
                let reader = source.clone();
                std::thread::spawn(move || read(&reader, 1, Limit::NONE).unwrap())
            };
            until_waits(&source, 3, 0);
            assert_eq!(runtime.stats().sources, 1);
            (&*writer).write_all(b"abc").unwrap();
            assert_eq!(task.join().unwrap(), b"a");
            assert_eq!(second.join().unwrap(), b"b");
            assert_eq!(thread.join().unwrap(), b"c");
        }
        drop(source);
        assert_eq!(runtime.stats().sources, 0);
    });
}

/// Two workers take turns with one source while bytes come from a thread.
#[test]
fn moves_lose_no_edge() {
    within("moves_lose_no_edge", || {
        let runtime = runtime(2);
        let mut random = Random::new(11);
        for _ in 0..20 {
            let (source, mut writer) = pipes();
            let seed = random.below(1 << 32);
            let thread = std::thread::spawn(move || {
                let mut random = Random::new(seed);
                for i in 0..400_u32 {
                    writer.write_all(&[i as u8]).unwrap();
                    for _ in 0..random.below(800) {
                        std::hint::spin_loop();
                    }
                }
            });
            let turn = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..2)
                .map(|me| {
                    let (source, turn) = (source.clone(), turn.clone());
                    let body = move || {
                        loop {
                            let i = turn.load(SeqCst);
                            if i == 400 {
                                return;
                            }
                            if i % 2 != me {
                                yield_now();
                                continue;
                            }
                            let byte = read(&source, 1, Limit::NONE).unwrap();
                            assert_eq!(byte, [i as u8]);
                            turn.store(i + 1, SeqCst);
                        }
                    };
                    runtime
                        .spawn_with(Builder::new().on_worker(me), body)
                        .unwrap()
                })
                .collect();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            thread.join().unwrap();
        }
    });
}

#[test]
fn threads_wait_too() {
    within("threads_wait_too", || {
        let (a, b) = streams();
        let thread = {
            let b = b.clone();
            std::thread::spawn(move || {
                for _ in 0..100 {
                    let bytes = read(&b, 4, Limit::NONE).unwrap();
                    write(&b, &bytes).unwrap();
                }
            })
        };
        for i in 0..100_u8 {
            write(&a, &[i]).unwrap();
            assert_eq!(read(&a, 4, LONG.into()).unwrap(), [i]);
        }
        thread.join().unwrap();
    });
}

#[test]
fn the_end_of_a_runtime_leaves_waiters_elsewhere() {
    within("the_end_of_a_runtime_leaves_waiters_elsewhere", || {
        let stays = runtime(1);
        for round in 0..30_usize {
            let ends = runtime(1 + round % 2);
            let (source, mut writer) = pipes();
            let reader = source.clone();
            let killed = ends.spawn(move || read(&reader, 1, Limit::NONE).map(drop));
            until_waits(&source, 1, 0);
            let reader = source.clone();
            let task = stays.spawn(move || read(&reader, 1, Limit::NONE).unwrap());
            until_waits(&source, 2, 0);
            let reader = source.clone();
            let thread = std::thread::spawn(move || read(&reader, 1, Limit::NONE).unwrap());
            until_waits(&source, 3, 0);
            assert_eq!(ends.stats().sources, 1);
            if round % 3 == 0 {
                // Before the end: the one that is killed must pass it on.
                writer.write_all(b"xy").unwrap();
            }
            assert_eq!(ends.shutdown(LONG), 0);
            if round % 3 != 0 {
                writer.write_all(b"xy").unwrap();
            }
            let first = killed.join();
            if first.is_ok() {
                writer.write_all(b"z").unwrap();
            }
            task.join().unwrap();
            thread.join().unwrap();
            // Later waits find a new home.
            let reader = source.clone();
            let task = stays.spawn(move || read(&reader, 1, Limit::NONE).unwrap());
            until_waits(&source, 1, 0);
            writer.write_all(b"w").unwrap();
            assert_eq!(task.join().unwrap(), b"w");
        }
        assert_eq!(stays.stats().sources, 0);
    });
}

#[test]
fn sources_outlive_runtimes() {
    within("sources_outlive_runtimes", || {
        let (source, mut writer) = pipes();
        for i in 0..10_u8 {
            let runtime = runtime(2);
            let reader = source.clone();
            let task = runtime.spawn(move || read(&reader, 1, Limit::NONE).unwrap());
            until_waits(&source, 1, 0);
            writer.write_all(&[i]).unwrap();
            assert_eq!(task.join().unwrap(), [i]);
            drop(runtime);
            assert!(format!("{source:?}").contains("watched: false"));
        }
    });
}

#[test]
fn close_wakes_all() {
    within("close_wakes_all", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                for turn in 0..50 {
                    let (a, b) = streams();
                    let fd = a.as_fd().as_raw_fd();
                    let mut tasks: Vec<_> = (0..3)
                        .map(|_| {
                            let a = a.clone();
                            spawn(move || read(&a, 1, Limit::NONE).unwrap_err())
                        })
                        .collect();
                    let full = a.clone();
                    tasks.push(spawn(move || {
                        loop {
                            if let Err(e) = write(&full, &[0; 4096]) {
                                return e;
                            }
                        }
                    }));
                    let thread = {
                        let a = a.clone();
                        std::thread::spawn(move || read(&a, 1, Limit::NONE).unwrap_err())
                    };
                    if turn % 3 > 0 {
                        until_waits(&a, 4, 1);
                    }
                    a.close().unwrap();
                    a.close().unwrap();
                    for task in tasks {
                        let e = task.join().unwrap();
                        assert!(is_closed(&e), "{e}");
                        assert!(e.to_string().contains("EBADF"), "{e}");
                    }
                    assert!(is_closed(&thread.join().unwrap()));
                    assert!(is_closed(&read(&a, 1, Limit::NONE).unwrap_err()));
                    assert!(is_closed(&a.poll_ready(Direction::Read).unwrap_err()));
                    let tried = a.try_io(Direction::Write, |mut s| s.write(b"x"));
                    assert!(is_closed(&tried.unwrap_err()));
                    assert!(a.is_closed() && format!("{a:?}").contains("watched: false"));
                    // The kernel's side went at once; the number did not.
                    let mut rest = 0;
                    loop {
                        match read(&b, 1 << 16, Limit::NONE) {
                            Ok(bytes) if bytes.is_empty() => break,
                            Ok(bytes) => rest += bytes.len(),
                            Err(e) => {
                                assert_eq!(e.kind(), ErrorKind::ConnectionReset);
                                break;
                            }
                        }
                    }
                    let _ = rest;
                    let (x, y) = pipe().unwrap();
                    assert!(x.as_raw_fd() != fd && y.as_raw_fd() != fd);
                }
            });
        }
    });
}

/// Operations that are on their way while the source is closed, on another worker.
#[test]
fn close_races_with_operations() {
    within("close_races_with_operations", || {
        let runtime = runtime(2);
        for turn in 0..300 {
            let (a, b) = streams();
            let go = Arc::new(AtomicBool::new(false));
            let users: Vec<_> = (0..2)
                .map(|i| {
                    let (a, b, go) = (a.clone(), b.clone(), go.clone());
                    let body = move || {
                        go.store(true, SeqCst);
                        loop {
                            let done = if i == 0 {
                                read(&a, 1, Limit::NONE).map(|bytes| bytes.len())
                            } else {
                                write(&a, b"x").and_then(|_| write(&b, b"x"))
                            };
                            match done {
                                Ok(n) => assert_eq!(n, 1),
                                Err(e) if is_closed(&e) => return,
                                Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
                                Err(e) => panic!("{e:?}"),
                            }
                        }
                    };
                    runtime
                        .spawn_with(Builder::new().on_worker(i), body)
                        .unwrap()
                })
                .collect();
            while !go.load(SeqCst) {
                std::hint::spin_loop();
            }
            for _ in 0..turn * 20 {
                std::hint::spin_loop();
            }
            a.close().unwrap();
            join_all(users).into_iter().for_each(Result::unwrap);
        }
    });
}

/// A number that was closed and used anew, with a late event of the former one on its way.
#[test]
fn a_number_that_comes_again() {
    const NAME: &str = "a_number_that_comes_again";
    // Alone, for others might take the number.
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        runtime(1).run(|| {
            for _ in 0..200 {
                let (old, mut writer) = pipes();
                let number = old.as_fd().as_raw_fd();
                let reader = old.clone();
                let task = spawn(move || read(&reader, 1, Limit::NONE).unwrap());
                until_waits(&old, 1, 0);
                task.kill();
                assert!(task.join().is_err());
                // The kernel has an event for the worker, which has not looked yet.
                writer.write_all(b"late").unwrap();
                drop(Arc::into_inner(old).unwrap());
                let (new, mut writer) = pipes();
                assert_eq!(new.as_fd().as_raw_fd(), number);
                let reader = new.clone();
                let task = spawn(move || read(&reader, 8, Limit::NONE).unwrap());
                until_waits(&new, 1, 0);
                sleep(Duration::from_micros(100));
                assert!(!task.is_finished());
                writer.write_all(b"new").unwrap();
                assert_eq!(task.join().unwrap(), b"new");
            }
        });
    });
}

#[test]
fn into_inner_gives_it_back() {
    within("into_inner_gives_it_back", || {
        everywhere(|| {
            let (source, mut writer) = pipes();
            assert!(read(&source, 1, Duration::from_micros(1).into()).is_err());
            let mut reader = Arc::into_inner(source).unwrap().into_inner();
            let error = reader.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            writer.write_all(b"q").unwrap();
            let again = Source::from_nonblocking(reader);
            assert_eq!(read(&again, 1, Limit::NONE).unwrap(), b"q");
            assert!(read(&again, 1, Duration::from_micros(1).into()).is_err());
        });
    });
}

#[test]
fn attempts_without_waiting() {
    within("attempts_without_waiting", || {
        everywhere(|| {
            let (source, mut writer) = pipes();
            let mut calls = 0;
            let mut try_read = || {
                source.try_io(Direction::Read, |mut r| {
                    calls += 1;
                    if calls == 1 {
                        return Err(ErrorKind::Interrupted.into());
                    }
                    r.read(&mut [0; 4])
                })
            };
            assert_eq!(try_read().unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(try_read().unwrap_err().kind(), ErrorKind::WouldBlock);
            writer.write_all(b"ab").unwrap();
            // Nobody watches it, and yet.
            assert_eq!(try_read().unwrap(), 2);
            assert_eq!(try_read().unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(!source.poll_ready(Direction::Read).unwrap());
            assert!(source.poll_ready(Direction::Write).unwrap());
            writer.write_all(b"c").unwrap();
            until(|| source.poll_ready(Direction::Read).unwrap());
            assert_eq!(try_read().unwrap(), 1);
        });
    });
}

#[test]
fn waits_without_an_operation() {
    within("waits_without_an_operation", || {
        everywhere(|| {
            let (source, mut writer) = pipes();
            source.readable(Limit::NONE).unwrap();
            assert!(
                source
                    .try_io(Direction::Read, |mut r| r.read(&mut [0]))
                    .is_err()
            );
            let tasks: Vec<_> = (0..5)
                .map(|_| {
                    let source = source.clone();
                    spawn(move || source.readable(Limit::NONE).unwrap())
                })
                .collect();
            until_waits(&source, 5, 0);
            // All of them, for none takes it away.
            writer.write_all(b"n").unwrap();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            let _ = source.writable(Duration::ZERO);
        });
    });
}

#[test]
fn what_cannot_be_waited_for() {
    within("what_cannot_be_waited_for", || {
        runtime(1).run(|| {
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            let source = Source::new(file).unwrap();
            // A file never blocks, so that it works until somebody asks for a wait.
            assert_eq!(read(&source, 4, Limit::NONE).unwrap(), b"\x7fELF");
            let blocks = |_: &_| Err::<(), _>(ErrorKind::WouldBlock.into());
            let error = source.io(Direction::Read, Limit::NONE, blocks).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("regular file"), "{error}");
            assert_eq!(waiting(&source), "[0, 0], .. }");

            let (reader, _writer) = pipe().unwrap();
            let one = Source::new(&reader).unwrap();
            let two = Source::new(&reader).unwrap();
            let get = |r: &&PipeReader| {
                let mut r: &PipeReader = r;
                r.read(&mut [0])
            };
            let soon = Limit::from(Duration::from_micros(1));
            assert_eq!(
                one.io(Direction::Read, soon, get).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            let error = two.io(Direction::Read, soon, get).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.to_string().contains("share"), "{error}");
            drop(one);
            assert_eq!(
                two.io(Direction::Read, soon, get).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
        });
    });
}

#[test]
fn a_forbidden_wait_is_tidy() {
    within("a_forbidden_wait_is_tidy", || {
        runtime(1).run(|| {
            let (source, mut writer) = pipes();
            let reader = source.clone();
            let task = spawn(move || without_parking(|| read(&reader, 1, Limit::NONE).is_ok()));
            let error = task.join().unwrap_err();
            assert!(error.panic_message().unwrap().contains("without_parking"));
            // In a destructor that runs while unwinding.
            struct Reads(Arc<Source<PipeReader>>, sward_runtime::sync::Sender<String>);
            impl Drop for Reads {
                fn drop(&mut self) {
                    let begun = read(&self.0, 1, Limit::NONE).unwrap_err();
                    self.1.send(begun.to_string()).unwrap();
                }
            }
            let (tell, told) = unbounded();
            let reads = Reads(source.clone(), tell);
            let task = spawn(move || {
                let _reads = reads;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(task.join().is_err());
            let text = told.recv().unwrap();
            assert!(
                text.contains("unwinds") && text.contains("readable"),
                "{text}"
            );
            assert_eq!(waiting(&source), "[0, 0], .. }");
            writer.write_all(b"r").unwrap();
            assert_eq!(read(&source, 1, Limit::NONE).unwrap(), b"r");
        });
    });
}

#[test]
fn a_panic_in_an_operation() {
    within("a_panic_in_an_operation", || {
        runtime(1).run(|| {
            let (source, mut writer) = pipes();
            let begin = |panics: bool, n| {
                let reader = source.clone();
                let task = spawn(move || {
                    let mut calls = 0;
                    let mut buffer = [0];
                    reader.io(Direction::Read, Limit::NONE, |mut r| {
                        calls += 1;
                        if panics && calls == 2 {
                            std::panic::resume_unwind(Box::new("on purpose"));
                        }
                        r.read(&mut buffer)
                    })
                });
                until_waits(&source, n, 0);
                task
            };
            let first = begin(true, 1);
            let second = begin(false, 2);
            writer.write_all(b"p").unwrap();
            assert!(first.join().is_err());
            assert_eq!(second.join().unwrap().unwrap(), 1);
        });
    });
}

#[test]
fn the_dump_names_the_descriptor() {
    within("the_dump_names_the_descriptor", || {
        let runtime = runtime(1);
        let (source, mut writer) = pipes();
        let reader = source.clone();
        let task = runtime.spawn(move || read(&reader, 1, Limit::NONE).unwrap());
        until_waits(&source, 1, 0);
        let text = runtime.dump().to_string();
        let number = source.as_fd().as_raw_fd();
        assert!(
            text.contains(&format!("descriptor {number} to be readable")),
            "{text}"
        );
        writer.write_all(b"d").unwrap();
        task.join().unwrap();
    });
}

/// Whoever waits for a descriptor is not dead.
#[test]
fn no_deadlock_report_while_a_descriptor_may_wake() {
    const NAME: &str = "no_deadlock_report_while_a_descriptor_may_wake";
    if is_child() {
        let runtime = Runtime::builder()
            .workers(2)
            .on_deadlock(OnDeadlock::Abort)
            .build()
            .unwrap();
        let (source, mut writer) = pipes();
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            #[allow(clippy::disallowed_methods)] // longer than the watch for a deadlock
            std::thread::sleep(Duration::from_millis(2500));
            writer.write_all(b"!").unwrap();
        });
        let got = runtime.run(move || {
            let killed = {
                let source = source.clone();
                spawn(move || read(&source, 1, Limit::NONE).map(drop))
            };
            until_waits(&source, 1, 0);
            killed.kill();
            let _ = killed.join();
            read(&source, 1, Limit::NONE).unwrap()
        });
        assert_eq!(got, b"!");
        assert!(begun.elapsed() > Duration::from_secs(2));
        return thread.join().unwrap();
    }
    within(NAME, || {
        let out = rerun(NAME, &[]);
        assert_passed(&out);
        assert!(!stderr(&out).contains("deadlock"), "{}", stderr(&out));
    });
}

/// And a source that nobody waits for wakes nobody.
#[test]
fn a_deadlock_beside_a_source() {
    const NAME: &str = "a_deadlock_beside_a_source";
    if is_child() {
        let runtime = Runtime::builder()
            .workers(1)
            .on_deadlock(OnDeadlock::Abort)
            .build()
            .unwrap();
        runtime.run(|| {
            let (source, _writer) = pipes();
            let reader = source.clone();
            let task = spawn(move || read(&reader, 1, Limit::NONE).map(drop));
            until_waits(&source, 1, 0);
            task.kill();
            let _ = task.join();
            Event::new().wait();
        });
        return;
    }
    within(NAME, || {
        let out = rerun(NAME, &[]);
        assert!(!out.status.success());
        assert!(stderr(&out).contains("deadlock?"), "{}", stderr(&out));
    });
}

#[test]
fn descriptors_run_out() {
    const NAME: &str = "descriptors_run_out";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let runtime = runtime(1);
        runtime.run(|| {
            let (source, mut writer) = pipes();
            let mut held = Vec::new();
            let mut files = Vec::new();
            let limit = libc::rlimit {
                rlim_cur: 64,
                rlim_max: 64,
            };
            // SAFETY: a local that outlives the call.
            assert_eq!(
                // SAFETY: as above.
                unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) },
                0
            );
            while let Ok(pair) = pipe() {
                held.push(pair);
            }
            while let Ok(file) = std::fs::File::open("/dev/null") {
                files.push(file);
            }
            // A source needs none of its own, nor does its close.
            let reader = source.clone();
            let task = spawn(move || read(&reader, 1, Limit::NONE).unwrap());
            until_waits(&source, 1, 0);
            writer.write_all(b"e").unwrap();
            assert_eq!(task.join().unwrap(), b"e");
            let reader = source.clone();
            let task = spawn(move || read(&reader, 1, Limit::NONE).unwrap_err());
            until_waits(&source, 1, 0);
            source.close().unwrap();
            assert!(is_closed(&task.join().unwrap()));
            let error = sward_runtime::io::wait_readable(&held[0].0, None).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            held.clear();
        });
    });
}

/// Edges come while the reader finds nothing: whoever is last must not be missed.
#[test]
fn no_edge_is_lost() {
    within("no_edge_is_lost", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let fd = Arc::new(Source::from_nonblocking(eventfd(libc::EFD_SEMAPHORE)));
            let rounds = if cfg!(debug_assertions) {
                20_000
            } else {
                200_000
            };
            let read = Arc::new(AtomicUsize::new(0));
            let readers: Vec<_> = (0..3)
                .map(|i| {
                    let (fd, read) = (fd.clone(), read.clone());
                    let body = move || {
                        loop {
                            let one = fd.io(Direction::Read, Limit::NONE, |fd| take(fd)).unwrap();
                            assert_eq!(one, 1);
                            if read.fetch_add(1, SeqCst) >= rounds - 3 {
                                return;
                            }
                        }
                    };
                    let on = Builder::new().on_worker(i % workers);
                    runtime.spawn_with(on, body).unwrap()
                })
                .collect();
            let mut random = Random::new(workers as u64 * 13);
            for _ in 0..rounds {
                add(&*fd, 1);
                for _ in 0..random.below(60) {
                    std::hint::spin_loop();
                }
            }
            join_all(readers).into_iter().for_each(Result::unwrap);
            assert_eq!(read.load(SeqCst), rounds);
        }
    });
}

#[test]
fn drop_orders() {
    within("drop_orders", || {
        for workers in [1, 2] {
            // The runtime before the sources, after them, and from inside.
            for order in 0..3 {
                let runtime = runtime(workers);
                let (source, writer) = pipes();
                let reader = source.clone();
                let task = runtime.spawn(move || read(&reader, 1, Limit::NONE).map(drop));
                until_waits(&source, 1, 0);
                match order {
                    0 => {
                        drop(runtime);
                        assert!(task.join().is_err());
                        drop(source);
                    }
                    1 => {
                        drop(writer);
                        task.join().unwrap().unwrap();
                        drop(source);
                        assert_eq!(runtime.stats().sources, 0);
                    }
                    _ => {
                        drop(source);
                        task.kill();
                        assert!(task.join().is_err());
                        until(|| runtime.stats().sources == 0);
                    }
                }
            }
        }
    });
}

#[test]
fn a_forked_child() {
    const NAME: &str = "a_forked_child";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let runtime = runtime(1);
        let (source, mut writer) = pipes();
        let reader = source.clone();
        let task = runtime.spawn(move || read(&reader, 1, Limit::NONE).unwrap());
        until_waits(&source, 1, 0);
        // SAFETY: the child makes a few calls and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a number.
            unsafe { libc::alarm(20) };
            let names = |e: io::Error| e.to_string().contains("fork");
            let ok = names(read(&source, 1, Limit::NONE).unwrap_err())
                && names(source.readable(Limit::NONE).unwrap_err())
                && names(source.poll_ready(Direction::Read).unwrap_err())
                && names(source.close().unwrap_err());
            // Made here, but the default runtime and this worker are the parent's.
            let own = Runtime::builder().workers(1).build().unwrap();
            let (a, mut b) = pipes();
            let task = own.spawn(move || read(&a, 1, Limit::NONE).unwrap());
            let works = b.write_all(b"c").is_ok() && task.join().is_ok_and(|got| got == b"c");
            drop(own);
            // Must leave the parent's registration alone.
            drop(source);
            // SAFETY: a number.
            unsafe { libc::_exit(if ok && works { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: a local that outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        writer.write_all(b"f").unwrap();
        assert_eq!(task.join().unwrap(), b"f");
    });
}

#[test]
fn an_idle_source_uses_no_cpu() {
    const NAME: &str = "an_idle_source_uses_no_cpu";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let runtime = Runtime::builder()
            .workers(2)
            .busy_poll(Duration::from_micros(50))
            .build()
            .unwrap();
        let held: Vec<_> = (0..100)
            .map(|i| {
                let (source, writer) = pipes();
                let reader = source.clone();
                let limit = if i % 2 == 0 { Limit::NONE } else { LONG.into() };
                let task = runtime.spawn(move || read(&reader, 1, limit).map(drop));
                until_waits(&source, 1, 0);
                (task, writer)
            })
            .collect();
        let cpu = || {
            // SAFETY: plain numbers, written by the call below.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: a local that outlives the call.
            unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
            let time = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
            time(usage.ru_utime) + time(usage.ru_stime)
        };
        let before = cpu();
        #[allow(clippy::disallowed_methods)] // the test measures what happens in that time
        std::thread::sleep(Duration::from_millis(1500));
        let used = cpu() - before;
        assert!(used < 10_000, "{used} us of CPU in 1.5 s");
        for (task, mut writer) in held {
            writer.write_all(b"i").unwrap();
            task.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_worker_that_polls() {
    within("a_worker_that_polls", || {
        for workers in [1, 2] {
            let runtime = Runtime::builder()
                .workers(workers)
                .busy_poll(Duration::from_millis(2))
                .build()
                .unwrap();
            let (a, b) = streams();
            let thread = std::thread::spawn(move || {
                for _ in 0..200 {
                    let bytes = read(&b, 4, Limit::NONE).unwrap();
                    write(&b, &bytes).unwrap();
                }
            });
            runtime.run(|| {
                for i in 0..200_u8 {
                    write(&a, &[i]).unwrap();
                    assert_eq!(read(&a, 4, Limit::NONE).unwrap(), [i]);
                }
                // Timers and messages get through as well.
                let begun = Instant::now();
                sleep(Duration::from_millis(1));
                assert!(begun.elapsed() >= Duration::from_millis(1));
                spawn(|| ()).join().unwrap();
            });
            assert!(runtime.stats().polls > 0 && runtime.stats().events > 0);
            thread.join().unwrap();
        }
    });
}

#[test]
fn sends_and_syncs() {
    fn both<T: Send + Sync>() {}
    both::<Source<UnixStream>>();
    both::<Source<OwnedFd>>();
}

/// A source as an arm of a `select!`: it wakes, passes the turn on, and hears of a close.
#[test]
fn in_a_select() {
    within("in_a_select", || {
        use sward_runtime::select;
        use sward_runtime::sync::{after, unbounded};
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let (source, mut writer) = pipes();
                let (sender, receiver) = unbounded::<i32>();
                let wait = |source: &Arc<Source<_>>| {
                    select! {
                        ready = source.reading() => ready.map(|()| 1),
                        _ = receiver.receiving() => Ok(2),
                        _ = after(Duration::from_secs(30)) => Ok(3),
                    }
                };
                let drain = |source: &Arc<Source<_>>| {
                    let mut buffer = [0; 16];
                    source.try_io(Direction::Read, |mut pipe: &_| {
                        Read::read(&mut pipe, &mut buffer)
                    })
                };
                // Nothing has said yet that it is not ready.
                assert_eq!(drain(&source).unwrap_err().kind(), ErrorKind::WouldBlock);
                sender.send(1).unwrap();
                assert_eq!(wait(&source).unwrap(), 2);
                let writes = spawn(move || {
                    writer.write_all(b"x").unwrap();
                    writer
                });
                assert_eq!(wait(&source).unwrap(), 1);
                assert_eq!(drain(&source).unwrap(), 1);
                let _open = writes.join().unwrap();
                assert!(drain(&source).is_err());
                // Closed while it waits.
                let closes = source.clone();
                let closer = spawn(move || {
                    until_waits(&closes, 1, 0);
                    closes.close().unwrap();
                });
                assert!(is_closed(&wait(&source).unwrap_err()));
                closer.join().unwrap();
            });
        }
    });
}

/// Operations, signals and children as arms of a `select!`.
#[test]
fn doing_in_a_select() {
    within("doing_in_a_select", || {
        use sward_runtime::process::Command;
        use sward_runtime::select;
        use sward_runtime::signal::{SIGUSR2, on};
        use sward_runtime::sync::after;
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let (source, writer) = pipes();
                let mut writer = Some(writer);
                let signals = on(SIGUSR2).unwrap();
                let child = Command::new("cat")
                    .stdin(sward_runtime::process::Stdio::piped())
                    .spawn()
                    .unwrap();
                let process = child.process();
                let mut child = Some(child);
                let mut writes = None;
                let mut order = Vec::new();
                for round in 0..3 {
                    match round {
                        0 => {
                            let mut writer = writer.take().unwrap();
                            writes = Some(spawn(move || {
                                writer.write_all(b"abc").unwrap();
                                writer
                            }));
                        }
                        // SAFETY: a signal to this very thread, which is listened to.
                        1 => assert_eq!(unsafe { libc::raise(SIGUSR2) }, 0),
                        // Its input ends.
                        _ => drop(child.as_mut().unwrap().stdin.take()),
                    }
                    let mut buffer = [0; 8];
                    order.push(select! {
                        n = source.doing(Direction::Read, |mut pipe| pipe.read(&mut buffer)) => n.unwrap(),
                        signal = signals.receiving() => {
                            assert_eq!(signal.unwrap(), SIGUSR2);
                            10
                        }
                        status = process.ending() => {
                            assert!(status.unwrap().success());
                            20
                        }
                        _ = after(Duration::from_secs(30)) => 99,
                    });
                }
                assert_eq!(order, [3, 10, 20]);
                drop(writes.map(|task| task.join().unwrap()));
            });
        }
    });
}
