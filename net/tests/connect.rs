//! Connecting to what has several addresses, or is not there yet; and that nothing is left behind.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use sward_net::{Backoff, Resolver, TcpListener, TcpStream, ToSocketAddrs};
use sward_runtime::sync::Mutex;
use sward_runtime::{Runtime, join_all, sleep, spawn, timeout, yield_now};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// One test at a time: they count the descriptors of the process.
fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    // What the default runtime has open.
    let _ = spawn(|| TcpStream::connect(refused())).join();
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        yield_now();
    }
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&check);
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A port where nobody listens.
fn refused() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// An address that never answers: its queue is full.
struct BlackHole {
    address: SocketAddr,
    _listener: OwnedFd,
    _queued: Vec<std::net::TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listen(&listener, 0).unwrap();
        let address = getsockname(&listener).unwrap().try_into().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, 100 * MS) {
            queued.push(stream);
            assert!(
                queued.len() < 100,
                "the queue of a listener does not become full"
            );
        }
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}

fn assert_talks(mut stream: &TcpStream, listener: &TcpListener) {
    // Before it there may be others that have lost the race.
    loop {
        let (mut accepted, peer) = listener.accept().unwrap();
        if peer == stream.local_addr().unwrap() {
            stream.write_all(b"x").unwrap();
            let mut byte = [0];
            accepted.read_exact(&mut byte).unwrap();
            return;
        }
    }
}

#[test]
fn the_next_address_is_tried_at_once_after_one_that_fails() {
    within(
        "the_next_address_is_tried_at_once_after_one_that_fails",
        || {
            everywhere(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let good = listener.local_addr().unwrap();
                let port = refused().port();
                let mut all: Vec<SocketAddr> = (1..40)
                    .map(|i| SocketAddr::from(([127, 0, 0, i], port)))
                    .collect();
                all.push(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)));
                all.push(good);
                let begun = Instant::now();
                let stream = TcpStream::connect(&all[..]).unwrap();
                // With a delay for each it would be 10 s.
                assert!(begun.elapsed() < 5 * S, "{:?}", begun.elapsed());
                assert_eq!(stream.peer_addr().unwrap(), good);
                assert_talks(&stream, &listener);
            });
        },
    );
}

#[test]
fn the_next_address_is_tried_beside_one_that_is_silent() {
    within(
        "the_next_address_is_tried_beside_one_that_is_silent",
        || {
            let hole = BlackHole::new();
            everywhere(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let good = listener.local_addr().unwrap();
                let before = descriptors();
                let begun = Instant::now();
                let stream = TcpStream::connect([hole.address, hole.address, good]).unwrap();
                let took = begun.elapsed();
                assert!(took >= 500 * MS && took < 20 * S, "{took:?}");
                assert_eq!(stream.peer_addr().unwrap(), good);
                // Those that lost are closed.
                assert_eq!(descriptors(), before + 1);
                assert_talks(&stream, &listener);
            });
        },
    );
}

#[test]
fn a_failure_hurries_the_next_one_beside_a_silent_one() {
    within("a_failure_hurries_the_next_one_beside_a_silent_one", || {
        let hole = BlackHole::new();
        everywhere(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let good = listener.local_addr().unwrap();
            let mut all = vec![hole.address];
            all.extend([refused(); 40]);
            all.push(good);
            let begun = Instant::now();
            let stream = TcpStream::connect(&all).unwrap();
            // One delay, not forty.
            let took = begun.elapsed();
            assert!(took >= 250 * MS && took < 8 * S, "{took:?}");
            assert_talks(&stream, &listener);
        });
    });
}

#[test]
fn a_silent_one_that_answers_late_may_still_win() {
    within("a_silent_one_that_answers_late_may_still_win", || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let (first, second) = (BlackHole::new(), BlackHole::new());
            let begun = descriptors();
            let addresses = [first.address, second.address];
            let task = spawn(move || TcpStream::connect(addresses));
            until(|| descriptors() == begun + 2);
            let BlackHole {
                _listener: listener,
                _queued: queued,
                address,
            } = first;
            // With room in the queue the kernel's next try is let in.
            drop(queued);
            let listener = std::net::TcpListener::from(listener);
            let listener = TcpListener::from_std(listener).unwrap();
            let accepts = spawn(move || listener.incoming().for_each(drop));
            let stream = task.join().unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            accepts.kill();
            let _ = accepts.join();
        });
    });
}

#[test]
fn an_error_names_every_address() {
    within("an_error_names_every_address", || {
        everywhere(|| {
            let one = refused();
            let e = TcpStream::connect(one).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
            assert!(
                e.to_string()
                    .starts_with(&format!("cannot connect to {one}: ")),
                "{e}"
            );
            let all = [refused(), refused(), refused()];
            let e = TcpStream::connect(all).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
            let text = e.to_string();
            assert_eq!(text.lines().count(), 4, "{text}");
            for address in all {
                let line = format!("\n{address}: Connection refused");
                assert!(text.contains(&line), "{text}");
            }
            let e = TcpStream::connect(&[][..]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_deadline_is_for_the_whole() {
    within("a_deadline_is_for_the_whole", || {
        let hole = BlackHole::new();
        everywhere(|| {
            let before = descriptors();
            let begun = Instant::now();
            let e = TcpStream::connect_timeout(&hole.address, 30 * MS).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::TimedOut);
            assert!(e.to_string().contains("no answer in"), "{e}");
            assert!(begun.elapsed() >= 30 * MS);

            let e = TcpStream::connect_timeout(&hole.address, Duration::ZERO).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);

            let begun = Instant::now();
            let all = [refused(), hole.address, hole.address, hole.address];
            let backoff = Backoff::default().limit(350 * MS);
            let e = TcpStream::connect_and_retry(all, backoff).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::TimedOut);
            let text = e.to_string();
            let count = |what| text.matches(what).count();
            assert_eq!(count("refused"), 1, "{text}");
            assert_eq!(count("no answer in"), 2, "{text}");
            assert_eq!(count("not tried"), 1, "{text}");
            assert!(text.contains("(attempt 1, after "), "{text}");
            let took = begun.elapsed();
            assert!(took >= 350 * MS && took < 10 * S, "{took:?}");
            assert_eq!(descriptors(), before);
        });
    });
}

/// A name that is never found out.
struct Silent(Arc<Resolver>);

impl ToSocketAddrs for Silent {
    type Iter = std::vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.0.lookup_host("silent", 80)?.into_iter())
    }
}

#[test]
fn a_deadline_is_for_the_name_too() {
    within("a_deadline_is_for_the_name_too", || {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let wait = move |_: &str| {
            let _ = gate.lock().recv();
            Err(ErrorKind::NotFound.into())
        };
        let resolver = Arc::new(Resolver::builder().with(wait).build());
        everywhere(|| {
            let backoff = Backoff::default().limit(20 * MS);
            let e = TcpStream::connect_and_retry(Silent(resolver.clone()), backoff).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::TimedOut);
            assert!(e.to_string().contains("name"), "{e}");
        });
        drop(open);
    });
}

#[test]
fn a_kill_or_a_timeout_leaves_no_descriptor() {
    within("a_kill_or_a_timeout_leaves_no_descriptor", || {
        let holes = [BlackHole::new(), BlackHole::new()];
        let addresses = [0, 1, 0].map(|i| holes[i].address);
        everywhere(|| {
            let connect = move || TcpStream::connect(addresses);
            // The runtime has what it needs.
            let _ = timeout(MS, connect);
            let before = descriptors();
            for attempts in 1..=3 {
                let task = spawn(connect);
                until(|| descriptors() == before + attempts);
                task.kill();
                assert!(task.join().is_err());
                assert_eq!(descriptors(), before);
            }
            for limit in [MS, 260 * MS] {
                assert!(timeout(limit, connect).is_err());
                assert_eq!(descriptors(), before);
            }
        });
    });
}

#[test]
fn kills_at_any_moment_leave_nothing() {
    within("kills_at_any_moment_leave_nothing", || {
        let hole = BlackHole::new();
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let good = listener.local_addr().unwrap();
                let accepts = spawn(move || listener.incoming().for_each(drop));
                let all = [refused(), refused(), good, hole.address];
                spawn(move || TcpStream::connect(all))
                    .join()
                    .unwrap()
                    .unwrap();
                let settled = || {
                    let now = descriptors();
                    (0..100).for_each(|_| yield_now());
                    (now == descriptors()).then_some(now)
                };
                let before = settled();
                for round in 0..300 {
                    let task = spawn(move || TcpStream::connect(all));
                    (0..round % 17).for_each(|_| yield_now());
                    task.kill();
                    drop(task.join());
                }
                until(|| settled() == before);
                accepts.kill();
                let _ = accepts.join();
            });
        }
    });
}

#[test]
fn many_tasks_race_at_the_same_time() {
    within("many_tasks_race_at_the_same_time", || {
        let hole = BlackHole::new();
        everywhere(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let good = listener.local_addr().unwrap();
            let accepts = spawn(move || listener.incoming().for_each(drop));
            let hole = hole.address;
            let tasks = (0..100).map(|_| spawn(move || TcpStream::connect([hole, good])));
            for stream in join_all(tasks.collect::<Vec<_>>()) {
                assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), good);
            }
            accepts.kill();
            let _ = accepts.join();
        });
    });
}

/// Counts how often the address is asked for.
struct Counted(SocketAddr, AtomicUsize);

impl ToSocketAddrs for Counted {
    type Iter = std::option::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.1.fetch_add(1, SeqCst);
        self.0.to_socket_addrs()
    }
}

#[test]
fn retries_find_a_listener_that_comes_later() {
    within("retries_find_a_listener_that_comes_later", || {
        everywhere(|| {
            let addr = Arc::new(Counted(refused(), AtomicUsize::new(0)));
            let counted = addr.clone();
            let task = spawn(move || {
                let backoff = Backoff::new(MS, 20 * MS);
                TcpStream::connect_and_retry(&*counted, backoff)
            });
            until(|| addr.1.load(SeqCst) >= 3);
            let listener = TcpListener::bind(addr.0).unwrap();
            let stream = task.join().unwrap().unwrap();
            assert_talks(&stream, &listener);
        });
    });
}

#[test]
fn retries_end_at_their_limits() {
    within("retries_end_at_their_limits", || {
        everywhere(|| {
            let addr = Counted(refused(), AtomicUsize::new(0));
            let backoff = Backoff::new(MS, MS).attempts(4);
            let e = TcpStream::connect_and_retry(&addr, backoff).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
            assert!(e.to_string().contains("(attempt 4, after "), "{e}");
            assert_eq!(addr.1.load(SeqCst), 4);

            let begun = Instant::now();
            let backoff = Backoff::new(MS, 5 * MS).limit(50 * MS);
            let e = TcpStream::connect_and_retry(refused(), backoff).unwrap_err();
            // The limit may have cut the last one short.
            assert!(e.to_string().contains("refused"), "{e}");
            assert!(begun.elapsed() >= 40 * MS);

            // What is no address is not tried again, without any limit.
            let e = TcpStream::connect_and_retry("no port", Backoff::default()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_kill_ends_retries() {
    within("a_kill_ends_retries", || {
        everywhere(|| {
            let addr = Arc::new(Counted(refused(), AtomicUsize::new(0)));
            let counted = addr.clone();
            let backoff = Backoff::new(3_600 * S, 3_600 * S).jitter(0.0);
            let task = spawn(move || TcpStream::connect_and_retry(&*counted, backoff));
            until(|| addr.1.load(SeqCst) == 1);
            task.kill();
            assert!(task.join().is_err());
        });
    });
}

#[test]
fn a_task_that_unwinds_is_refused() {
    within("a_task_that_unwinds_is_refused", || {
        struct Connects<'a>([SocketAddr; 2], &'a Mutex<Vec<io::Error>>);
        impl Drop for Connects<'_> {
            fn drop(&mut self) {
                let all = [TcpStream::connect(self.0), TcpStream::connect(self.0[0])];
                let again = TcpStream::connect_and_retry(self.0, Backoff::default());
                let errors = all.into_iter().chain([again]).map(Result::unwrap_err);
                self.1.lock().extend(errors);
            }
        }
        let hole = BlackHole::new();
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| {
                let before = descriptors();
                let errors = Mutex::new(Vec::new());
                let unwinds = || {
                    let _connects = Connects([hole.address; 2], &errors);
                    panic!("on purpose");
                };
                assert!(catch_unwind(AssertUnwindSafe(unwinds)).is_err());
                let errors = errors.into_inner();
                assert_eq!(errors.len(), 3);
                for e in errors {
                    assert!(e.to_string().contains("unwinds"), "{e}");
                }
                assert_eq!(descriptors(), before);
                sleep(MS);
            });
        }
    });
}
