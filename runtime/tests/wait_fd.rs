//! `wait_readable`, `wait_writable` and `poll`: descriptors of others, as `poll(2)` sees them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_types,
    dropping_copy_types
)]

mod common;

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Random, until, within};
use sward_runtime::io::{Direction, Limit, PollFd, Ready, Source, poll};
use sward_runtime::io::{wait_readable, wait_writable};
use sward_runtime::{Runtime, join_all, spawn, timeout};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

/// Until `n` descriptors are watched by the runtime of the caller.
fn until_watched(n: usize) {
    until(|| sward_runtime::stats().sources == n);
}

#[test]
fn what_is_ready_at_once() {
    within("what_is_ready_at_once", || {
        everywhere(|| {
            let (reader, mut writer) = pipe().unwrap();
            wait_writable(&writer, None).unwrap();
            assert!(wait_readable(&reader, Some(Duration::ZERO)).is_err());
            writer.write_all(b"1").unwrap();
            wait_readable(&reader, None).unwrap();
            // It is the level that counts, not an edge.
            wait_readable(&reader, Some(Duration::ZERO)).unwrap();
            drop(writer);
            wait_readable(reader.as_fd(), None).unwrap();
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            wait_readable(&file, None).unwrap();
        });
    });
}

#[test]
fn time_outs() {
    within("time_outs", || {
        everywhere(|| {
            let (reader, _writer) = pipe().unwrap();
            let limit = Duration::from_millis(3);
            let begun = Instant::now();
            let error = wait_readable(&reader, Some(limit)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let text = format!("descriptor {} to be readable", reader.as_raw_fd());
            assert!(error.to_string().contains(&text), "{error}");
            assert!(begun.elapsed() >= limit);
            assert!(timeout(limit, || wait_readable(&reader, None)).is_err());
            let begun = Instant::now();
            assert_eq!(poll(&mut [], Some(limit)).unwrap(), 0);
            assert!(begun.elapsed() >= limit);
            let (full, _other) = UnixStream::pair().unwrap();
            full.set_nonblocking(true).unwrap();
            while (&full).write(&[0; 4096]).is_ok() {}
            let error = wait_writable(&full, Some(limit)).unwrap_err();
            assert!(error.to_string().contains("writable"), "{error}");
        });
    });
}

#[test]
fn a_wait_that_ends() {
    within("a_wait_that_ends", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                for _ in 0..100 {
                    let (reader, mut writer) = pipe().unwrap();
                    let reader = Arc::new(reader);
                    let tasks: Vec<_> = (0..3)
                        .map(|_| {
                            let reader = reader.clone();
                            spawn(move || wait_readable(&reader, None).unwrap())
                        })
                        .collect();
                    until_watched(3);
                    writer.write_all(b"x").unwrap();
                    join_all(tasks).into_iter().for_each(Result::unwrap);
                    assert_eq!((&*reader).read(&mut [0; 8]).unwrap(), 1);
                    let waits = reader.clone();
                    let task = spawn(move || wait_readable(&waits, None).unwrap());
                    until_watched(1);
                    task.kill();
                    assert!(task.join().is_err());
                    until_watched(0);
                }
            });
        }
    });
}

/// The worker watches the same descriptor for a `Source` already, and goes on to.
#[test]
fn beside_a_source_of_the_same_descriptor() {
    within("beside_a_source_of_the_same_descriptor", || {
        everywhere(|| {
            let (reader, mut writer) = pipe().unwrap();
            let source = Arc::new(Source::new(reader).unwrap());
            let reads = source.clone();
            let operation = |mut r: &PipeReader| r.read(&mut [0; 8]);
            let task = spawn(move || reads.io(Direction::Read, Limit::NONE, operation));
            let waits = source.clone();
            let other = spawn(move || wait_readable(&*waits, None));
            until(|| format!("{source:?}").contains("[1, 0]"));
            std::thread::yield_now();
            writer.write_all(b"both").unwrap();
            // Whoever comes too late waits for more.
            assert_eq!(task.join().unwrap().unwrap(), 4);
            drop(writer);
            other.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_set() {
    within("a_set", || {
        everywhere(|| {
            let pipes: Vec<(PipeReader, PipeWriter)> = (0..20).map(|_| pipe().unwrap()).collect();
            let mut random = Random::new(3);
            for _ in 0..30 {
                let which = random.below(20) as usize;
                std::thread::scope(|s| {
                    let begun = Arc::new(std::sync::Barrier::new(2));
                    let gate = begun.clone();
                    let mut out = &pipes[which].1;
                    s.spawn(move || {
                        gate.wait();
                        out.write_all(b"!").unwrap();
                    });
                    begun.wait();
                    let mut set: Vec<_> = pipes
                        .iter()
                        .map(|(reader, _)| PollFd::new(reader, Ready::READABLE))
                        .collect();
                    assert_eq!(poll(&mut set, None).unwrap(), 1);
                    for (i, fd) in set.iter().enumerate() {
                        assert_eq!(fd.ready().is_empty(), i != which);
                    }
                });
                let mut byte = [0];
                assert_eq!((&pipes[which].0).read(&mut byte).unwrap(), 1);
            }
        });
    });
}

#[test]
fn kinds_of_readiness() {
    within("kinds_of_readiness", || {
        everywhere(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let both = Ready::READABLE | Ready::WRITABLE;
            let mut set = [
                PollFd::new(&client, both),
                PollFd::new(&client, Ready::READABLE),
            ];
            assert_eq!(poll(&mut set, None).unwrap(), 1);
            assert_eq!(set[0].ready(), Ready::WRITABLE);
            // The same descriptor twice, and it has to wait.
            let soon = Some(Duration::from_millis(1));
            let mut set = [
                PollFd::new(&client, Ready::READABLE),
                PollFd::new(&client, Ready::READABLE | Ready::HUNG_UP),
            ];
            assert_eq!(poll(&mut set, soon).unwrap(), 0);
            let task = spawn(move || {
                server.shutdown(std::net::Shutdown::Write).unwrap();
                server
            });
            assert!(poll(&mut set, None).unwrap() > 0);
            assert!(set[1].ready().contains(Ready::HUNG_UP), "{set:?}");
            assert_eq!(set[0].ready(), Ready::READABLE);
            drop(task.join().unwrap());
            // A pipe without a reader is in an error state, which is always waited for.
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            let mut set = [PollFd::new(&writer, Ready::NONE)];
            assert_eq!(poll(&mut set, None).unwrap(), 1);
            assert!(set[0].ready().contains(Ready::ERROR));
        });
    });
}

#[test]
fn nothing_is_left() {
    within("nothing_is_left", || {
        let runtime = runtime(1);
        runtime.run(|| {
            let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let (reader, mut writer) = pipe().unwrap();
            let before = open();
            for i in 0..50 {
                let soon = Duration::from_micros(10);
                assert!(wait_readable(&reader, Some(soon)).is_err());
                assert!(timeout(soon, || wait_readable(&reader, None)).is_err());
                if i % 10 == 0 {
                    let mut writer = writer.try_clone().unwrap();
                    let task = spawn(move || writer.write_all(b"x").unwrap());
                    wait_readable(&reader, None).unwrap();
                    task.join().unwrap();
                    assert_eq!((&reader).read(&mut [0]).unwrap(), 1);
                }
            }
            assert_eq!(sward_runtime::stats().sources, 0);
            // Other tests open descriptors beside this one.
            assert!(open() < before + 40);
            writer.write_all(b"x").unwrap();
        });
    });
}
