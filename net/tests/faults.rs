//! What goes wrong: refusals, resets, silence, exhausted descriptors; kills and time-outs inside of
//! every call.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

mod common;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    Random, descriptors, everywhere_within, fill, is_child, listen, pair, read_some, refusing,
    rerun_with, until_parked, within,
};
use sward_net::{ListenOptions, TcpListener, TcpStream};
use sward_runtime::io::{is_closed, is_exhausted};
use sward_runtime::{JoinError, spawn, timeout, yield_now};

const SOON: Duration = Duration::from_millis(5);

/// An address where nothing answers: a listener whose line is full. The kernel drops what comes.
struct BlackHole {
    listener: TcpListener,
    _line: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = ListenOptions::new()
            .backlog(0)
            .listen("127.0.0.1:0")
            .unwrap();
        let address = listener.local_addr().unwrap();
        let mut line = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(50)) {
                Ok(stream) => line.push(stream),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::TimedOut);
                    return Self {
                        listener,
                        _line: line,
                    };
                }
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

#[test]
fn a_black_hole() {
    everywhere_within("a_black_hole", || {
        let hole = BlackHole::new();
        let (begun, limit) = (Instant::now(), Duration::from_millis(20));
        let error = TcpStream::connect_timeout(&hole.address(), limit).unwrap_err();
        assert!(begun.elapsed() >= limit);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot connect to {}: ", hole.address())),
            "{text}"
        );
        assert!(text.contains("no answer in 2"), "{text}");
        let task = spawn({
            let address = hole.address();
            move || TcpStream::connect(address).map(drop)
        });
        until_parked(&task);
        task.kill();
        assert!(matches!(task.join(), Err(JoinError::Killed)));
    });
}

#[test]
fn refused() {
    everywhere_within("refused", || {
        let (_bound, address) = refusing();
        for _ in 0..50 {
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            // The number is among the causes.
            let cause = std::error::Error::source(error.get_ref().unwrap()).unwrap();
            let cause = cause.downcast_ref::<io::Error>().unwrap();
            assert_eq!(cause.raw_os_error(), Some(111));
        }
    });
}

/// The kernel knows at once: TCP has no broadcast, so nothing leaves this machine.
#[test]
fn unreachable() {
    everywhere_within("unreachable", || {
        let error = TcpStream::connect("255.255.255.255:9").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
        assert!(error.to_string().contains("255.255.255.255:9"), "{error}");
    });
}

/// A connection that is there and then refused while it is waited for.
#[test]
fn refused_while_it_waits() {
    everywhere_within("refused_while_it_waits", || {
        let hole = BlackHole::new();
        let address = hole.address();
        let task = spawn(move || TcpStream::connect(address).map(drop));
        until_parked(&task);
        // The kernel asks again after a second, and finds nobody.
        hole.listener.close().unwrap();
        let error = task.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    });
}

fn reset(stream: TcpStream) {
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// An operation in which a reset is met.
type Meets = fn(&TcpStream) -> io::Result<usize>;

const OPERATIONS: [(&str, Meets); 6] = [
    ("read", |s| read_some(s, 1).map(|b| b.len())),
    ("peek", |s| s.peek(&mut [0])),
    ("vectored", |mut s| {
        s.read_vectored(&mut [io::IoSliceMut::new(&mut [0])])
    }),
    ("write", |mut s| s.write(&[0; 1000])),
    ("writev", |mut s| {
        s.write_vectored(&[io::IoSlice::new(&[0; 1000])])
    }),
    ("send_file", |s| {
        s.send_file(File::open("/dev/zero")?, 0, 1000)
    }),
];

#[test]
fn resets_at_every_moment() {
    everywhere_within("resets_at_every_moment", || {
        let mut random = Random::new(7);
        for (name, operation) in OPERATIONS {
            let writes = name.starts_with("writ") || name == "send_file";
            // Before the operation.
            let (a, b) = pair();
            reset(b);
            let kind = operation(&a).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::ConnectionReset, "{name}");
            // What comes after the error: the end for reads, a broken pipe for writes.
            match operation(&a) {
                Ok(n) => assert!(n == 0 && !writes, "{name}: {n}"),
                Err(e) => assert_eq!((e.kind(), writes), (ErrorKind::BrokenPipe, true), "{name}"),
            }
            // While it waits.
            let (a, b) = pair();
            if writes {
                fill(&a);
            }
            let task = spawn(move || operation(&a));
            until_parked(&task);
            reset(b);
            let kind = task.join().unwrap().unwrap_err().kind();
            assert_eq!(kind, ErrorKind::ConnectionReset, "{name}");
            // At any moment of a run of them.
            for _ in 0..20 {
                let (a, b) = pair();
                let task = spawn(move || {
                    loop {
                        match operation(&a) {
                            Ok(0) => return None,
                            // A peek has what came before the reset for ever.
                            Ok(_) if name == "peek" => drop(read_some(&a, 1)),
                            Ok(_) => yield_now(),
                            Err(e) => return Some(e.kind()),
                        }
                    }
                });
                let mut left = random.below(4000);
                while left > 0 {
                    if writes {
                        left = left.saturating_sub(read_some(&b, 500).unwrap().len() as u64);
                    } else {
                        (&b).write_all(&[0; 9]).unwrap();
                        left = left.saturating_sub(100);
                    }
                }
                reset(b);
                let kind = task.join().unwrap();
                let fair = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(kind.is_none_or(|k| fair.contains(&k)), "{name}: {kind:?}");
            }
        }
    });
}

/// A connection that was reset before it is accepted is accepted, and its first read says so.
#[test]
fn reset_before_accept() {
    everywhere_within("reset_before_accept", || {
        let listener = listen();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let local = client.local_addr().unwrap();
        reset(client);
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, local);
        let error = read_some(&stream, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(
            stream.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    });
}

#[test]
fn kills_inside_of_every_call() {
    everywhere_within("kills_inside_of_every_call", || {
        for (name, operation) in OPERATIONS {
            let writes = name.starts_with("writ") || name == "send_file";
            let (a, mut b) = pair();
            let a = Arc::new(a);
            let sent = if writes { fill(&a) } else { 0 };
            let tasks = [0, 1, 2].map(|_| {
                let a = a.clone();
                let task = spawn(move || operation(&a));
                until_parked(&task);
                task
            });
            let [first, second, third] = tasks;
            first.kill();
            second.kill();
            for killed in [first, second] {
                assert!(matches!(killed.join(), Err(JoinError::Killed)), "{name}");
            }
            // The third has its turn, and nothing of the others has moved.
            if writes {
                io::copy(&mut (&b).take(sent as u64), &mut io::sink()).unwrap();
                let n = third.join().unwrap().unwrap();
                drop(a);
                let mut rest = Vec::new();
                b.read_to_end(&mut rest).unwrap();
                assert_eq!(rest.len(), n, "{name}");
            } else {
                b.write_all(b"x").unwrap();
                assert_eq!(third.join().unwrap().unwrap(), 1, "{name}");
            }
        }
        let listener = Arc::new(listen());
        let tasks = [0, 1].map(|_| {
            let listener = listener.clone();
            let task = spawn(move || listener.accept().map(|(_, peer)| peer));
            until_parked(&task);
            task
        });
        let [killed, other] = tasks;
        killed.kill();
        assert!(matches!(killed.join(), Err(JoinError::Killed)));
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(other.join().unwrap().unwrap(), client.local_addr().unwrap());
    });
}

#[test]
fn time_outs_inside_of_every_call() {
    everywhere_within("time_outs_inside_of_every_call", || {
        for (name, operation) in OPERATIONS {
            let writes = name.starts_with("writ") || name == "send_file";
            let (a, mut b) = pair();
            let sent = if writes { fill(&a) } else { 0 };
            assert!(timeout(SOON, || operation(&a)).is_err(), "{name}");
            if writes {
                drop(a);
                assert_eq!(
                    io::copy(&mut b, &mut io::sink()).unwrap(),
                    sent as u64,
                    "{name}"
                );
            } else {
                b.write_all(b"x").unwrap();
                assert_eq!(operation(&a).unwrap(), 1, "{name}");
            }
        }
        let listener = listen();
        assert!(timeout(SOON, || listener.accept()).is_err());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        let hole = BlackHole::new();
        assert!(timeout(SOON, || TcpStream::connect(hole.address())).is_err());
    });
}

/// No socket is left behind by connects that are given up.
#[test]
fn connects_given_up_leave_nothing() {
    const NAME: &str = "connects_given_up_leave_nothing";
    // Descriptors are counted: no other test beside it.
    if !is_child() {
        return within(NAME, || rerun_with(NAME, 1000));
    }
    everywhere_within(NAME, || {
        let hole = BlackHole::new();
        let (address, before) = (hole.address(), descriptors());
        for _ in 0..20 {
            let task = spawn(move || TcpStream::connect(address).map(drop));
            until_parked(&task);
            task.kill();
            assert!(task.join().is_err());
            assert!(timeout(Duration::from_micros(100), || TcpStream::connect(address)).is_err());
            let limit = Duration::from_micros(100);
            assert!(TcpStream::connect_timeout(&address, limit).is_err());
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn descriptors_run_out() {
    const NAME: &str = "descriptors_run_out";
    if !is_child() {
        return within(NAME, || rerun_with(NAME, 100));
    }
    everywhere_within(NAME, || {
        let listener = Arc::new(listen());
        let address = listener.local_addr().unwrap();
        let (old, mut peer) = pair();
        let client = TcpStream::connect(address).unwrap();
        let mut held = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        for e in [
            listener.accept().map(drop).unwrap_err(),
            listener.try_accept().map(drop).unwrap_err(),
            TcpStream::connect(address).map(drop).unwrap_err(),
            TcpListener::bind("127.0.0.1:0").map(drop).unwrap_err(),
            old.try_clone().map(drop).unwrap_err(),
        ] {
            assert!(e.to_string().contains("ulimit -n"), "{e}");
            assert!(is_exhausted(&e), "{e}");
            assert!(!is_closed(&e), "{e}");
        }
        // Old connections go on.
        let task = spawn(move || read_some(&old, 9).unwrap());
        peer.write_all(b"old").unwrap();
        assert_eq!(task.join().unwrap(), b"old");
        // The new one waits in the kernel until there are some again.
        drop(held);
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        let waits = listener.clone();
        let task = spawn(move || waits.accept().unwrap().1);
        until_parked(&task);
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(task.join().unwrap(), client.local_addr().unwrap());
    });
}

/// In a task that unwinds an operation that would have to wait fails, one that need not is done.
#[test]
fn in_a_destructor() {
    struct SaysBye(TcpStream);
    impl Drop for SaysBye {
        fn drop(&mut self) {
            let wrote = self.0.write(b"bye");
            assert_eq!(wrote.unwrap(), 3);
            let error = self.0.read(&mut [0]).unwrap_err();
            assert!(error.to_string().contains("unwinds"), "{error}");
        }
    }
    everywhere_within("in_a_destructor", || {
        let (a, b) = pair();
        let task = spawn(move || {
            let a = SaysBye(a);
            let _ = read_some(&a.0, 1);
        });
        until_parked(&task);
        task.kill();
        assert!(matches!(task.join(), Err(JoinError::Killed)));
        assert_eq!(read_some(&b, 9).unwrap(), b"bye");
    });
}

/// A panic in a task drops its stream; the other end sees the end.
#[test]
fn a_panic_closes() {
    everywhere_within("a_panic_closes", || {
        let (a, b) = pair();
        let task = spawn(move || {
            let _a = a;
            std::panic::resume_unwind(Box::new("quiet"));
        });
        assert!(matches!(task.join(), Err(JoinError::Panicked(_))));
        assert_eq!(read_some(&b, 1).unwrap(), b"");
    });
}
