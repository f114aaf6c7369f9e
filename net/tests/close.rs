//! Closing and shutting down under those who use a socket.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

mod common;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use common::{
    everywhere_within, fill, is_child, listen, pair, read_some, rerun_with, runtime, until_parked,
    within,
};
use sward_net::{ListenOptions, TcpListener, TcpStream};
use sward_runtime::io::is_closed;
use sward_runtime::sync::after;
use sward_runtime::{JoinHandle, join_all, select, spawn, yield_now};

/// Spawns what will wait on the stream, and waits until it does.
fn waiting<S: Send + Sync + 'static, T: Send + 'static>(
    socket: &Arc<S>,
    f: impl FnOnce(&S) -> io::Result<T> + Send + 'static,
) -> JoinHandle<io::Result<T>> {
    let socket = socket.clone();
    let task = spawn(move || f(&socket));
    until_parked(&task);
    task
}

#[track_caller]
fn says_closed<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.unwrap_err();
    assert!(is_closed(&error), "{error}");
    assert!(
        error.to_string().contains("somebody called close"),
        "{error}"
    );
}

#[test]
fn close_wakes_all() {
    everywhere_within("close_wakes_all", || {
        let (a, b) = pair();
        let (a, zeros) = (Arc::new(a), File::open("/dev/zero").unwrap());
        fill(&a);
        let tasks = [
            waiting(&a, |a| read_some(a, 1).map(drop)),
            waiting(&a, |a| a.peek(&mut [0]).map(drop)),
            waiting(&a, |mut a| a.write_all(&[1])),
            waiting(&a, move |a| a.send_file(&zeros, 0, 10).map(drop)),
            waiting(&a, |a| read_some(a, 1).map(drop)),
        ];
        let arm = a.clone();
        let selects = spawn(move || {
            let mut buffer = [0];
            select! {
                n = arm.reading_into(&mut buffer) => n,
                _ = after(Duration::from_secs(50)) => Ok(0),
            }
        });
        a.close().unwrap();
        for task in tasks {
            says_closed(task.join().unwrap());
        }
        says_closed(selects.join().unwrap());
        // So does everything that comes later.
        says_closed((&*a).read(&mut [0]));
        says_closed((&*a).write(&[0]));
        says_closed(a.try_read(&mut [0]));
        says_closed(a.try_write(&[0]));
        says_closed(a.peek(&mut [0]));
        says_closed(a.readable(None));
        says_closed(a.shutdown(Shutdown::Both));
        says_closed(a.set_nodelay(true));
        says_closed(a.keepalive());
        says_closed(a.local_addr());
        says_closed(a.try_clone());
        a.close().unwrap();
        assert!(format!("{a:?}").starts_with("TcpStream"));
        // The other end learns of it. The rest of what was sent comes first.
        io::copy(&mut &b, &mut io::sink()).unwrap();
    });
}

#[test]
fn close_leaves_clones() {
    everywhere_within("close_leaves_clones", || {
        let (a, mut b) = pair();
        let (clone, a) = (a.try_clone().unwrap(), Arc::new(a));
        let task = waiting(&a, |a| read_some(a, 1));
        a.close().unwrap();
        says_closed(task.join().unwrap());
        b.write_all(b"x").unwrap();
        assert_eq!(read_some(&clone, 9).unwrap(), b"x");
        (&clone).write_all(b"y").unwrap();
        assert_eq!(read_some(&b, 9).unwrap(), b"y");
    });
}

#[test]
fn shutdown_wakes_readers_with_the_end() {
    everywhere_within("shutdown_wakes_readers_with_the_end", || {
        for how in [Shutdown::Read, Shutdown::Both] {
            let (a, _b) = pair();
            let a = Arc::new(a);
            let tasks = [0, 1, 2].map(|_| waiting(&a, |a| read_some(a, 1)));
            let clone = a.try_clone().unwrap();
            clone.shutdown(how).unwrap();
            for task in tasks {
                assert_eq!(task.join().unwrap().unwrap(), b"");
            }
            assert_eq!(read_some(&a, 1).unwrap(), b"");
        }
    });
}

#[test]
fn shutdown_wakes_writers() {
    everywhere_within("shutdown_wakes_writers", || {
        for how in [Shutdown::Write, Shutdown::Both] {
            let (a, _b) = pair();
            let a = Arc::new(a);
            fill(&a);
            let tasks = [0, 1, 2].map(|_| waiting(&a, |mut a| a.write_all(&[0; 1 << 20])));
            a.shutdown(how).unwrap();
            for task in tasks {
                let error = task.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
            }
        }
    });
}

/// What was sent before the shutdown arrives, and the other direction goes on.
#[test]
fn half_closed() {
    everywhere_within("half_closed", || {
        let (mut a, mut b) = pair();
        let server = spawn(move || {
            let mut all = String::new();
            b.read_to_string(&mut all).unwrap();
            b.write_all(all.to_uppercase().as_bytes()).unwrap();
            assert_eq!(b.read(&mut [0]).unwrap(), 0);
        });
        a.write_all(b"half ").unwrap();
        a.write_all(b"closed").unwrap();
        a.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        a.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HALF CLOSED");
        assert_eq!(a.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        server.join().unwrap();
    });
}

#[test]
fn a_listener_closed_under_accept() {
    everywhere_within("a_listener_closed_under_accept", || {
        // An address of its own: nobody else may take the port.
        let listener = Arc::new(TcpListener::bind("127.0.0.77:0").unwrap());
        let address = listener.local_addr().unwrap();
        let tasks = [0, 1, 2].map(|_| waiting(&listener, |l| l.accept().map(drop)));
        listener.close().unwrap();
        for task in tasks {
            says_closed(task.join().unwrap());
        }
        says_closed(listener.accept());
        says_closed(listener.try_accept());
        says_closed(listener.local_addr());
        says_closed(listener.incoming().next().unwrap());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // The port is free although the listener has not been dropped.
        let again = TcpListener::bind(address).unwrap();
        TcpStream::connect(address).unwrap();
        again.accept().unwrap();
    });
}

/// Those that the kernel had taken for a listener that is closed are reset.
#[test]
fn connections_that_nobody_accepted() {
    everywhere_within("connections_that_nobody_accepted", || {
        let listener = ListenOptions::new().listen("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.close().unwrap();
        let error = read_some(&client, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

/// Sockets are closed while others are about to use them, and their numbers come again at once: no
/// operation may meet the new socket.
#[test]
fn numbers_that_come_again() {
    const NAME: &str = "numbers_that_come_again";
    // No other test may take the numbers.
    if !is_child() {
        return within(NAME, || rerun_with(NAME, 1000));
    }
    within(NAME, || {
        for workers in [1, 2] {
            let stop = Arc::new(AtomicBool::new(false));
            runtime(workers).run(|| {
                let mut tasks = Vec::new();
                for _ in 0..4 {
                    let stop = stop.clone();
                    tasks.push(spawn(move || {
                        let mut seen = 0_u32;
                        while !stop.load(SeqCst) {
                            let (a, mut b) = pair();
                            let (a, number) = (Arc::new(a), a_number());
                            let users = [0, 1].map(|_| {
                                let a = a.clone();
                                spawn(move || {
                                    let mut got = Vec::new();
                                    loop {
                                        match read_some(&a, 64) {
                                            Ok(bytes) if bytes.is_empty() => panic!("an end"),
                                            Ok(bytes) => got.extend(bytes),
                                            Err(e) => break (got, e),
                                        }
                                    }
                                })
                            });
                            b.write_all(&number.to_le_bytes()).unwrap();
                            yield_now();
                            a.close().unwrap();
                            // These may well get the descriptor that was closed, if its number
                            // were free, and the readers would take what is in them.
                            let (c, mut d) = pair();
                            d.write_all(b"another's").unwrap();
                            for user in users {
                                let (got, error) = user.join().unwrap();
                                assert!(is_closed(&error), "{error}");
                                assert!(number.to_le_bytes().starts_with(&got), "{got:?}");
                            }
                            let held = a.as_fd().as_raw_fd();
                            drop(a);
                            // Now it is free, and what is opened next has it.
                            let listener = listen();
                            seen += u32::from(listener.as_raw_fd() == held);
                            let fresh: Vec<_> = (0..4).map(|_| pair()).collect();
                            for (e, f) in &fresh {
                                let again = [e, f].iter().any(|s| s.as_raw_fd() == held);
                                seen += u32::from(again);
                                (&mut &*f).write_all(b"new").unwrap();
                                assert_eq!(read_some(e, 64).unwrap(), b"new");
                            }
                            assert_eq!(read_some(&c, 64).unwrap(), b"another's");
                        }
                        seen
                    }));
                }
                sward_runtime::sleep(Duration::from_millis(700));
                stop.store(true, SeqCst);
                let seen: u32 = join_all(tasks).into_iter().map(Result::unwrap).sum();
                assert!(seen > 0, "no number came again: the test has shown nothing");
            });
        }
    });
}

fn a_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, SeqCst)
}

/// Streams, clones, listeners and iterators dropped in every order.
#[test]
fn drop_orders() {
    everywhere_within("drop_orders", || {
        for order in 0..24 {
            let listener = listen();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let server = listener.accept().unwrap().0;
            // Each has been watched.
            for late in [
                client.readable(Some(Duration::from_micros(1))),
                server.try_read(&mut [0]).map(drop),
            ] {
                let _ = late;
            }
            let _ = listener.accept_timeout(Duration::from_micros(1));
            let mut things: Vec<Box<dyn std::any::Any>> = vec![
                Box::new(client.try_clone().unwrap()),
                Box::new(client),
                Box::new(server),
                Box::new(listener.into_incoming()),
            ];
            let mut n = order;
            for left in (1..=4).rev() {
                drop(things.swap_remove(n % left));
                n /= left;
            }
        }
    });
}

/// An end of a runtime kills those who wait in sockets, and sockets outlive it.
#[test]
fn sockets_outlive_runtimes() {
    within("sockets_outlive_runtimes", || {
        let (a, mut b) = pair();
        let a = Arc::new(a);
        let listener = Arc::new(listen());
        for workers in [1, 2] {
            let rt = runtime(workers);
            rt.run(|| {
                waiting(&a, |a| read_some(a, 1));
                waiting(&listener, |l| l.accept().map(drop));
            });
            drop(rt);
        }
        b.write_all(b"outlived").unwrap();
        assert_eq!(read_some(&a, 64).unwrap(), b"outlived");
        let task = waiting(&a, |a| read_some(a, 64));
        b.write_all(b"again").unwrap();
        assert_eq!(task.join().unwrap().unwrap(), b"again");
    });
}

/// A drop of the last reference while a clone's reader waits closes nothing of the clone.
#[test]
fn a_drop_leaves_clones() {
    everywhere_within("a_drop_leaves_clones", || {
        let (a, mut b) = pair();
        let clone = Arc::new(a.try_clone().unwrap());
        let task = waiting(&clone, |c| read_some(c, 9));
        drop(a);
        b.write_all(b"clone").unwrap();
        assert_eq!(task.join().unwrap().unwrap(), b"clone");
    });
}
