//! Drivers: called on readiness and at their time, without a task; one that fails takes nobody
//! with it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_types,
    dropping_copy_types
)]

mod common;

use std::io::{ErrorKind, PipeReader, Read, Write, pipe};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::io::{Driver, DriverHandle, Next, Ready, drive};
use sward_runtime::sync::{Receiver, Sender, unbounded};
use sward_runtime::{OnDeadlock, Runtime, sleep, spawn, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

type Answer = Box<dyn FnMut(&UnixStream, Ready) -> Next + Send>;

/// A driver that is a closure, and counts its drops.
struct Does(Answer, Arc<AtomicUsize>);

impl Driver for Does {
    type Io = UnixStream;

    fn drive(&mut self, io: &UnixStream, ready: Ready) -> Next {
        (self.0)(io, ready)
    }
}

impl Drop for Does {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

fn does(
    f: impl FnMut(&UnixStream, Ready) -> Next + Send + 'static,
) -> (DriverHandle<Does>, UnixStream, Arc<AtomicUsize>) {
    let (a, b) = UnixStream::pair().unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    (
        drive(a, Does(Box::new(f), drops.clone())).unwrap(),
        b,
        drops,
    )
}

/// Sends back what comes.
fn echo(mut io: &UnixStream, _ready: Ready) -> Next {
    let mut buffer = [0; 100];
    loop {
        match io.read(&mut buffer) {
            Ok(0) => return Next::Close,
            Ok(n) => assert_eq!(io.write(&buffer[..n]).unwrap(), n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Next::Wait,
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn echoes() {
    within("echoes", || {
        everywhere(|| {
            let (handle, mut b, drops) = does(echo);
            let thread = std::thread::spawn(move || {
                for i in 0..200_u8 {
                    b.write_all(&[i, i]).unwrap();
                    let mut back = [0; 2];
                    b.read_exact(&mut back).unwrap();
                    assert_eq!(back, [i, i]);
                }
            });
            until(|| thread.is_finished());
            thread.join().unwrap();
            until(|| handle.is_closed());
            until(|| drops.load(SeqCst) == 1);
            assert!(handle.with(|_, _| ()).is_none() && handle.take().is_none());
        });
    });
}

#[test]
fn wakes_tasks() {
    within("wakes_tasks", || {
        everywhere(|| {
            let (tell, told): (Sender<u8>, Receiver<u8>) = unbounded();
            let (_handle, mut b, _) = does(move |mut io, _| {
                let mut byte = [0];
                while io.read(&mut byte).is_ok_and(|n| n == 1) {
                    tell.try_send(byte[0]).unwrap();
                }
                Next::Wait
            });
            let task = spawn(move || told.into_iter().take(100).map(usize::from).sum::<usize>());
            for i in 0..100 {
                b.write_all(&[i]).unwrap();
                if i % 7 == 0 {
                    sleep(Duration::from_micros(20));
                }
            }
            assert_eq!(task.join().unwrap(), 99 * 50);
        });
    });
}

#[test]
fn deadlines() {
    within("deadlines", || {
        everywhere(|| {
            let (tell, told) = unbounded();
            let step = Duration::from_millis(2);
            let mut next = Instant::now() + step;
            let (handle, mut b, _) = does(move |_, ready| {
                let now = Instant::now();
                if ready.contains(Ready::DUE) {
                    assert!(now >= next, "called too early");
                    tell.try_send(()).unwrap();
                    next = now + step;
                }
                Next::At(next)
            });
            for _ in 0..10 {
                told.recv().unwrap();
                // Other calls do not disturb the time that was set.
                b.write_all(b"x").unwrap();
                handle.call();
            }
            assert!(handle.take().is_some());
            while told.recv().is_ok() {}
        });
    });
}

/// A time that was set is forgotten when the driver says so, or sets another.
#[test]
fn a_time_is_taken_back() {
    within("a_time_is_taken_back", || {
        runtime(1).run(|| {
            let due = Arc::new(AtomicUsize::new(0));
            let counts = due.clone();
            let mut calls = 0;
            let soon = Instant::now() + Duration::from_millis(5);
            let (handle, ..) = does(move |_, ready| {
                calls += 1;
                if ready.contains(Ready::DUE) {
                    counts.fetch_add(1, SeqCst);
                }
                match calls {
                    1 => Next::At(soon),
                    _ => Next::Wait,
                }
            });
            yield_now();
            handle.call();
            sleep(Duration::from_millis(10));
            assert_eq!(due.load(SeqCst), 0);
            assert_eq!(sward_runtime::stats().timers, 0);
            drop(handle.take());
        });
    });
}

#[test]
fn again_gives_way() {
    within("again_gives_way", || {
        runtime(1).run(|| {
            let calls = Arc::new(AtomicUsize::new(0));
            let counts = calls.clone();
            let (handle, ..) = does(move |_, _| {
                counts.fetch_add(1, SeqCst);
                Next::Again
            });
            // It goes on and on, and everybody else too.
            until(|| calls.load(SeqCst) > 1000);
            let begun = Instant::now();
            sleep(Duration::from_millis(1));
            assert!(begun.elapsed() < Duration::from_secs(5));
            spawn(|| ()).join().unwrap();
            assert!(handle.take().is_some());
            let after = calls.load(SeqCst);
            sleep(Duration::from_millis(2));
            assert_eq!(calls.load(SeqCst), after);
        });
    });
}

#[test]
fn handles() {
    within("handles", || {
        everywhere(|| {
            let calls = Arc::new(AtomicUsize::new(0));
            let counts = calls.clone();
            let (handle, mut b, drops) = does(move |_, ready| {
                if ready.is_empty() {
                    counts.fetch_add(1, SeqCst);
                }
                Next::Wait
            });
            until(|| calls.load(SeqCst) == 1);
            handle.clone().call();
            until(|| calls.load(SeqCst) == 2);
            handle
                .with(|_, mut io| io.write_all(b"hello").unwrap())
                .unwrap();
            let mut five = [0; 5];
            b.read_exact(&mut five).unwrap();
            assert_eq!(&five, b"hello");
            assert!(format!("{handle:?}").contains("Does"));
            let (driver, io) = handle.take().unwrap();
            assert!(handle.is_closed() && drops.load(SeqCst) == 0);
            handle.call();
            // Both can be used anew.
            let handle = drive(io, driver).unwrap();
            until(|| calls.load(SeqCst) == 3);
            drop(handle.take());
            assert_eq!(drops.load(SeqCst), 1);
        });
    });
}

#[test]
fn a_park_in_with_panics() {
    within("a_park_in_with_panics", || {
        runtime(1).run(|| {
            let (handle, ..) = does(|_, _| Next::Wait);
            let user = handle.clone();
            let task = spawn(move || user.with(|_, _| sleep(Duration::from_millis(1))));
            let error = task.join().unwrap_err();
            assert!(error.panic_message().unwrap().contains("would be none"));
            // The lock was given back, and the driver is as it was.
            assert!(handle.with(|_, _| ()).is_some());
            let twice = handle.clone();
            let task = spawn(move || twice.with(|_, _| twice.with(|_, _| ())));
            assert!(task.join().is_err());
            // A call takes no lock.
            assert!(handle.with(|_, _| handle.call()).is_some());
            assert!(handle.take().is_some());
        });
    });
}

/// A panic, and a wait, end the driver with a line on stderr, and nobody else.
#[test]
fn a_driver_that_fails() {
    const NAME: &str = "a_driver_that_fails";
    if !is_child() {
        return within(NAME, || {
            let out = rerun(NAME, &[]);
            assert_passed(&out);
            let text = stderr(&out);
            assert!(text.contains("Does of descriptor"), "{text}");
            assert!(text.contains("is closed: by accident"), "{text}");
            assert!(text.contains("is closed: sward: a callback"), "{text}");
        });
    }
    within(NAME, || {
        everywhere(|| {
            let (healthy, mut b, _) = does(echo);
            let (panics, _b, drops) = does(|_, _| panic!("by accident"));
            until(|| panics.is_closed());
            until(|| drops.load(SeqCst) == 1);
            let (parks, _b, drops) = does(|_, _| {
                sleep(Duration::from_millis(1));
                Next::Wait
            });
            until(|| parks.is_closed());
            until(|| drops.load(SeqCst) == 1);
            b.write_all(b"ok").unwrap();
            until(|| {
                b.set_nonblocking(true).unwrap();
                b.read(&mut [0; 8]).is_ok()
            });
            assert!(healthy.take().is_some());
        });
    });
}

#[test]
fn the_end_of_a_runtime_ends_its_drivers() {
    within("the_end_of_a_runtime_ends_its_drivers", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (handle, drops) = runtime.run(|| {
                let (handle, b, drops) =
                    does(|_, _| Next::At(Instant::now() + Duration::from_millis(1)));
                std::mem::forget(b);
                (handle, drops)
            });
            assert_eq!(runtime.stats().sources, 1);
            sleep(Duration::from_millis(3));
            assert_eq!(runtime.shutdown(Duration::from_secs(10)), 0);
            assert!(handle.is_closed());
            until(|| drops.load(SeqCst) == 1);
            handle.call();
        }
    });
}

/// A driver may wake anybody, so that no silence is a deadlock.
#[test]
fn no_deadlock_beside_a_driver() {
    const NAME: &str = "no_deadlock_beside_a_driver";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let runtime = Runtime::builder()
            .workers(1)
            .on_deadlock(OnDeadlock::Abort)
            .build()
            .unwrap();
        let told = runtime.run(|| {
            let (tell, told) = unbounded();
            let (_, mut b, _) = does(move |mut io, _| {
                if io.read(&mut [0]).is_ok() {
                    tell.try_send(()).unwrap();
                }
                Next::Wait
            });
            std::thread::spawn(move || {
                #[allow(clippy::disallowed_methods)] // longer than the watch for a deadlock
                std::thread::sleep(Duration::from_millis(2200));
                b.write_all(b"!").unwrap();
                std::mem::forget(b);
            });
            told.recv()
        });
        assert_eq!(told, Ok(()));
    });
}

struct Idle(usize);

impl Driver for Idle {
    type Io = PipeReader;

    fn drive(&mut self, mut io: &PipeReader, _: Ready) -> Next {
        let mut bytes = [0; 16];
        while let Ok(n @ 1..) = io.read(&mut bytes) {
            self.0 += n;
        }
        Next::At(Instant::now() + Duration::from_secs(3600))
    }
}

/// Many of them, each with a time of its own.
#[test]
fn thousands() {
    const NAME: &str = "thousands";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: a local that outlives the call.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        let n = (usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) / 2 - 100).min(10_000);
        let runtime = runtime(1);
        runtime.run(|| {
            let pairs: Vec<_> = (0..n).map(|_| pipe().unwrap()).collect();
            let (handles, mut writers): (Vec<_>, Vec<_>) = pairs
                .into_iter()
                .map(|(reader, writer)| (drive(reader, Idle(0)).unwrap(), writer))
                .unzip();
            until(|| sward_runtime::stats().timers == n);
            for _ in 0..3 {
                writers
                    .iter_mut()
                    .for_each(|w| w.write_all(b"abc").unwrap());
            }
            let total = || -> usize {
                let count = |h: &DriverHandle<Idle>| h.with(|d, _| d.0).unwrap_or(0);
                handles.iter().map(count).sum()
            };
            until(|| total() == 9 * n);
            assert_eq!(sward_runtime::stats().sources, n);
            for handle in &handles {
                assert!(handle.take().is_some());
            }
            assert_eq!(sward_runtime::stats().sources, 0);
        });
    });
}
