//! TCP streams and listeners behave as std's do, and park where those block.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{
    Random, everywhere_within, fill, listen, pair, read_some, refusing, runtime, until,
    until_parked, within,
};
use sward_net::{Async, ConnectOptions, Keepalive, ListenOptions, Stream, TcpListener, TcpStream};
use sward_runtime::io::Direction;
use sward_runtime::sync::after;
use sward_runtime::{Builder, JoinHandle, join_all, scope, select, sleep, spawn};

const SOON: Duration = Duration::from_millis(5);

#[test]
fn hello() {
    everywhere_within("hello", || {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            for stream in listener.incoming().take(3) {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                stream.write_all(line.to_uppercase().as_bytes()).unwrap();
            }
        });
        for text in ["one\n", "two\n", "three\n"] {
            let mut stream = TcpStream::connect(address).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, text.to_uppercase());
        }
        server.join().unwrap();
    });
}

#[test]
fn readers_are_served_as_they_came() {
    let check = || {
        let (a, mut b) = pair();
        let a = Arc::new(a);
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let a = a.clone();
                let task = spawn(move || read_some(&a, 1).unwrap()[0]);
                until_parked(&task);
                task
            })
            .collect();
        b.write_all(&[0, 1, 2, 3, 4]).unwrap();
        let got: Vec<u8> = join_all(tasks).into_iter().map(Result::unwrap).collect();
        assert_eq!(got, [0, 1, 2, 3, 4]);
    };
    within("readers_are_served_as_they_came", || runtime(1).run(check));
}

#[test]
fn a_reader_and_a_writer_at_once() {
    everywhere_within("a_reader_and_a_writer_at_once", || {
        const N: usize = 3 << 20;
        let (a, b) = pair();
        let ends = [Arc::new(a), Arc::new(b)];
        let mut tasks = Vec::new();
        for end in ends {
            let writes = end.clone();
            tasks.push(spawn(move || {
                let bytes: Vec<u8> = (0..N).map(|i| (i % 251) as u8).collect();
                (&*writes).write_all(&bytes).unwrap();
                writes.shutdown(Shutdown::Write).unwrap();
            }));
            tasks.push(spawn(move || {
                let mut bytes = Vec::new();
                (&*end).read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len(), N);
                assert!(bytes.iter().enumerate().all(|(i, &b)| b == (i % 251) as u8));
            }));
        }
        for task in tasks {
            task.join().unwrap();
        }
    });
}

#[test]
fn threads_and_workers_share_a_stream() {
    within("threads_and_workers_share_a_stream", || {
        const N: usize = 2000;
        let rt = runtime(2);
        let (a, mut b) = pair();
        let (a, seen) = (Arc::new(a), Arc::new(AtomicUsize::new(0)));
        let count = |a: &TcpStream, seen: &AtomicUsize| {
            while !read_some(a, 1).unwrap().is_empty() {
                seen.fetch_add(1, SeqCst);
            }
        };
        let on = |worker| {
            let (a, seen) = (a.clone(), seen.clone());
            let of = Builder::new().on_worker(worker);
            rt.run(|| of.spawn(move || count(&a, &seen)).unwrap())
        };
        let tasks = [on(0), on(1), on(0), on(1)];
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| count(&a, &seen));
            }
            for i in 0..N {
                b.write_all(b"x").unwrap();
                if i % 50 == 0 {
                    until(|| seen.load(SeqCst) == i + 1);
                }
            }
            drop(b);
        });
        assert!(join_all(tasks).iter().all(Result::is_ok));
        assert_eq!(seen.load(SeqCst), N);
    });
}

#[test]
fn time_outs() {
    everywhere_within("time_outs", || {
        let (mut a, mut b) = pair();
        assert_eq!(a.read_timeout().unwrap(), None);
        a.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(a.read_timeout().unwrap(), Some(SOON));
        let begun = Instant::now();
        let late = a.read(&mut [0]).unwrap_err();
        assert!(begun.elapsed() >= SOON);
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let text = format!("descriptor {} to be readable", a.as_fd().as_raw_fd());
        assert!(late.to_string().contains(&text), "{late}");
        assert_eq!(a.peek(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let mut byte = [0];
        let late = a
            .read_vectored(&mut [IoSliceMut::new(&mut byte)])
            .unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        // The other direction has its own.
        a.write_all(b"w").unwrap();
        assert_eq!(read_some(&b, 9).unwrap(), b"w");
        a.set_read_timeout(None).unwrap();
        b.write_all(b"late").unwrap();
        assert_eq!(read_some(&a, 9).unwrap(), b"late");

        let sent = fill(&a);
        a.set_write_timeout(Some(SOON)).unwrap();
        let late = a.write(b"no").unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let text = format!("descriptor {} to be writable", a.as_fd().as_raw_fd());
        assert!(late.to_string().contains(&text), "{late}");
        // Nothing of it went.
        a.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        b.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), sent);

        for zero in [
            a.set_read_timeout(Some(Duration::ZERO)),
            a.set_write_timeout(Some(Duration::ZERO)),
            TcpStream::connect_timeout(&b.local_addr().unwrap(), Duration::ZERO).map(drop),
        ] {
            assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let late = listen().accept_timeout(SOON).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn readiness() {
    everywhere_within("readiness", || {
        let (a, mut b) = pair();
        assert_eq!(
            a.try_read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(
            a.try_peek(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let late = a.readable(Some(SOON)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        b.write_all(b"xy").unwrap();
        a.readable(None).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(a.try_peek(&mut buffer).unwrap(), 2);
        assert_eq!(a.peek(&mut buffer).unwrap(), 2);
        assert_eq!(a.try_read(&mut buffer).unwrap(), 2);
        a.writable(None).unwrap();
        fill(&a);
        assert_eq!(
            a.writable(Some(SOON)).unwrap_err().kind(),
            ErrorKind::TimedOut
        );

        let listener = listen();
        assert_eq!(
            listener.try_accept().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(
            listener.readable(Some(SOON)).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.readable(None).unwrap();
        listener.try_accept().unwrap();
    });
}

/// A peek that got less than it asked for must not make the next one wait.
#[test]
fn peeks_again_and_again() {
    everywhere_within("peeks_again_and_again", || {
        let (a, mut b) = pair();
        b.write_all(b"abc").unwrap();
        let mut buffer = [0; 16];
        for _ in 0..3 {
            assert_eq!(a.peek(&mut buffer).unwrap(), 3);
        }
        assert_eq!(read_some(&a, 16).unwrap(), b"abc");
    });
}

#[test]
fn vectored() {
    everywhere_within("vectored", || {
        let (mut a, b) = pair();
        let parts = [IoSlice::new(b"he"), IoSlice::new(b""), IoSlice::new(b"llo")];
        assert_eq!(a.write_vectored(&parts).unwrap(), 5);
        let (mut one, mut two) = ([0; 3], [0; 8]);
        let mut into = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!((&b).read_vectored(&mut into).unwrap(), 5);
        assert_eq!((&one, &two[..2]), (b"hel", &b"lo"[..]));
        // A short count is known to be the last of what there was.
        b.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(b.recv(&mut one).unwrap_err().kind(), ErrorKind::TimedOut);
        // To move nothing is no wait.
        assert_eq!(b.recv(&mut []).unwrap(), 0);
        assert_eq!(b.recv_vectored(&mut []).unwrap(), 0);
        fill(&b);
        assert_eq!(b.send(&[]).unwrap(), 0);
        assert_eq!(b.send_vectored(&[IoSlice::new(&[])]).unwrap(), 0);
    });
}

#[test]
fn conversions() {
    everywhere_within("conversions", || {
        let (a, b) = std_pair();
        let number = a.as_raw_fd();
        let mut a = TcpStream::from_std(a).unwrap();
        let mut b = TcpStream::try_from(OwnedFd::from(b)).unwrap();
        assert_eq!(a.as_raw_fd(), number);
        a.set_read_timeout(Some(SOON)).unwrap();
        let clone = a.try_clone().unwrap();
        assert_ne!(clone.as_raw_fd(), number);
        assert_eq!(clone.read_timeout().unwrap(), Some(SOON));
        clone.set_read_timeout(None).unwrap();
        assert_eq!(a.read_timeout().unwrap(), Some(SOON));
        // Both are watched at once, and a closed clone closes nothing else.
        assert_eq!(a.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let task = spawn(move || read_some(&clone, 8).map(|bytes| (bytes, clone)));
        until_parked(&task);
        b.write_all(b"clone").unwrap();
        let (bytes, clone) = task.join().unwrap().unwrap();
        assert_eq!(bytes, b"clone");
        clone.close().unwrap();
        drop(clone);
        a.set_read_timeout(None).unwrap();
        b.write_all(b"still").unwrap();
        assert_eq!(read_some(&a, 8).unwrap(), b"still");

        let mut blocking = a.into_std().unwrap();
        assert_eq!(blocking.as_raw_fd(), number);
        assert_eq!(blocking.read_timeout().unwrap(), None);
        let thread = std::thread::spawn(move || {
            let mut byte = [0];
            blocking.read_exact(&mut byte).map(|()| byte[0])
        });
        b.write_all(b"!").unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), b'!');
        let number = b.as_raw_fd();
        assert_eq!(b.into_raw_fd(), number);
        // Nobody else owns it now: a test may leave it open.

        let listener = listen();
        let address = listener.local_addr().unwrap();
        let again = TcpListener::try_from(OwnedFd::from(listener)).unwrap();
        let clone = again.try_clone().unwrap();
        drop(again);
        let _client = TcpStream::connect(address).unwrap();
        assert!(clone.into_std().unwrap().accept().is_ok());
    });
}

fn std_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (a, listener.accept().unwrap().0)
}

#[test]
fn settings() {
    everywhere_within("settings", || {
        let (a, _b) = pair();
        a.set_nodelay(true).unwrap();
        assert!(a.nodelay().unwrap());
        a.set_ttl(33).unwrap();
        assert_eq!(a.ttl().unwrap(), 33);
        a.set_linger(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(a.linger().unwrap(), Some(Duration::from_secs(2)));
        a.set_linger(None).unwrap();
        assert_eq!(a.linger().unwrap(), None);
        assert_eq!(a.keepalive().unwrap(), None);
        a.set_keepalive(Some(Keepalive::default())).unwrap();
        assert_eq!(a.keepalive().unwrap(), Some(Keepalive::default()));
        a.set_keepalive(None).unwrap();
        assert_eq!(a.keepalive().unwrap(), None);
        let wrong = Keepalive {
            retries: 0,
            ..Keepalive::default()
        };
        let error = a.set_keepalive(Some(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("retries: 0"), "{error}");
        for ttl in [0, 256, u32::MAX] {
            assert_eq!(a.set_ttl(ttl).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(a.user_timeout().unwrap(), None);
        a.set_user_timeout(Some(Duration::from_millis(1500)))
            .unwrap();
        assert_eq!(a.user_timeout().unwrap(), Some(Duration::from_millis(1500)));
        a.set_user_timeout(None).unwrap();
        assert_eq!(a.user_timeout().unwrap(), None);
        a.set_recv_buffer_size(20_000).unwrap();
        assert_eq!(a.recv_buffer_size().unwrap(), 40_000);
        a.set_send_buffer_size(10_000).unwrap();
        assert_eq!(a.send_buffer_size().unwrap(), 20_000);
        a.set_quickack(false).unwrap();
        assert!(!a.quickack().unwrap());
        assert!(a.take_error().unwrap().is_none());
    });
}

#[test]
fn options_are_inherited() {
    everywhere_within("options_are_inherited", || {
        let keepalive = Keepalive {
            idle: Duration::from_millis(1200),
            interval: Duration::from_secs(3),
            retries: 2,
        };
        let listener = ListenOptions::new()
            .backlog(7)
            .nodelay(true)
            .keepalive(keepalive)
            .user_timeout(Duration::from_secs(9))
            .recv_buffer_size(30_000)
            .send_buffer_size(25_000)
            .ttl(44)
            .listen("127.0.0.1:0")
            .unwrap();
        let local = SocketAddr::from(([127, 0, 0, 3], 0));
        let client = ConnectOptions::new()
            .bind(local)
            .reuse_address(true)
            .nodelay(true)
            .recv_buffer_size(30_000)
            .connect(listener.local_addr().unwrap())
            .unwrap();
        assert_eq!(client.local_addr().unwrap().ip(), local.ip());
        assert!(client.nodelay().unwrap());
        assert_eq!(client.recv_buffer_size().unwrap(), 60_000);
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        let rounded = Keepalive {
            idle: Duration::from_secs(2),
            ..keepalive
        };
        assert_eq!(stream.keepalive().unwrap(), Some(rounded));
        assert_eq!(stream.user_timeout().unwrap(), Some(Duration::from_secs(9)));
        assert_eq!(stream.recv_buffer_size().unwrap(), 60_000);
        assert_eq!(stream.send_buffer_size().unwrap(), 50_000);
        assert_eq!(stream.ttl().unwrap(), 44);

        let six = ConnectOptions::new().bind((Ipv6Addr::LOCALHOST, 0).into());
        let error = six.connect(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("another family"), "{error}");
    });
}

#[test]
fn both_families_at_one_port() {
    everywhere_within("both_families_at_one_port", || {
        let both = ListenOptions::new()
            .only_v6(false)
            .listen("[::]:0")
            .unwrap();
        let port = both.local_addr().unwrap().port();
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let client = TcpStream::connect(SocketAddr::new(ip, port)).unwrap();
            let (stream, peer) = both.accept().unwrap();
            assert_eq!(peer.ip().to_canonical(), ip);
            assert_eq!(peer.port(), client.local_addr().unwrap().port());
            stream.set_ttl(9).unwrap();
        }
        let six = ListenOptions::new().only_v6(true).listen("[::]:0").unwrap();
        let port = six.local_addr().unwrap().port();
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    });
}

#[test]
fn a_shared_port() {
    everywhere_within("a_shared_port", || {
        let options = ListenOptions::new().reuse_port(true);
        let one = options.listen("127.0.0.1:0").unwrap();
        let address = one.local_addr().unwrap();
        let two = options.listen(address).unwrap();
        let clients: Vec<_> = (0..64)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut counts = [0, 0];
        for (listener, count) in [&one, &two].into_iter().zip(&mut counts) {
            while listener.try_accept().is_ok() {
                *count += 1;
            }
        }
        assert_eq!(counts[0] + counts[1], clients.len());
        assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    });
}

#[test]
fn errors_name_the_address() {
    everywhere_within("errors_name_the_address", || {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot listen on {address}: ")),
            "{text}"
        );
        assert!(text.contains("another socket has it"), "{text}");
        let error = TcpListener::bind("192.0.2.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        let none: &[SocketAddr] = &[];
        assert_eq!(
            TcpListener::bind(none).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            TcpStream::connect(none).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let (_refuses, address) = refusing();
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot connect to {address}: ")),
            "{text}"
        );
        // The second address counts if the first fails.
        let good = listen();
        let addresses = [address, good.local_addr().unwrap()];
        let stream = TcpStream::connect(&addresses[..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let addresses = [addresses[1], (Ipv4Addr::LOCALHOST, 0).into()];
        let again = TcpListener::bind(&addresses[..]).unwrap();
        assert_ne!(again.local_addr().unwrap(), addresses[0]);
    });
}

/// Linux connects a socket with itself if it is bound to the port that it connects to.
#[test]
fn no_connection_with_itself() {
    everywhere_within("no_connection_with_itself", || {
        let (_bound, address) = refusing();
        let from_there = ConnectOptions::new().bind(address).reuse_address(true);
        let error = from_there.connect(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("connected to itself"), "{error}");
    });
}

fn file_of(n: usize) -> File {
    let path = std::env::temp_dir().join(format!(
        "sward-send-file-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    let bytes: Vec<u8> = (0..n).map(|i| (i % 239) as u8).collect();
    file.write_all(&bytes).unwrap();
    file
}

#[test]
fn files_are_sent() {
    everywhere_within("files_are_sent", || {
        const N: usize = 2 << 20;
        let listener = ListenOptions::new().recv_buffer_size(1 << 16);
        let listener = listener.listen("127.0.0.1:0").unwrap();
        let a = ConnectOptions::new().send_buffer_size(1 << 16);
        let a = a.connect(listener.local_addr().unwrap()).unwrap();
        let (mut b, _) = listener.accept().unwrap();
        let mut file = file_of(N);
        file.rewind().unwrap();
        // It fits: all of it, at any place, and the file's own place stays.
        assert_eq!(a.send_file(&file, 7, 100).unwrap(), 100);
        let mut bytes = [0; 100];
        b.read_exact(&mut bytes).unwrap();
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(i, &b)| usize::from(b) == i + 7)
        );
        assert_eq!(file.stream_position().unwrap(), 0);
        assert_eq!(a.send_file(&file, N as u64, 100).unwrap(), 0);
        assert_eq!(a.send_file(&file, 0, 0).unwrap(), 0);
        // It does not fit: it waits, again and again.
        let mut sent = a.send_file(&file, 0, usize::MAX).unwrap() as u64;
        assert!(sent < N as u64, "the file is too small for this test");
        let reader = spawn(move || {
            let mut bytes = Vec::new();
            b.read_to_end(&mut bytes).unwrap();
            bytes
        });
        while let n @ 1.. = a.send_file(&file, sent, usize::MAX).unwrap() {
            sent += n as u64;
        }
        assert_eq!(sent, N as u64);
        drop(a);
        let bytes = reader.join().unwrap();
        assert_eq!(bytes.len(), N);
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(i, &b)| usize::from(b) == i % 239)
        );
    });
}

#[test]
fn files_that_cannot_be_sent() {
    everywhere_within("files_that_cannot_be_sent", || {
        let (a, b) = pair();
        let file = file_of(100);
        fill(&a);
        a.set_write_timeout(Some(SOON)).unwrap();
        let late = a.send_file(&file, 0, 100).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert_eq!(
            b.send_file(&a, 0, 100).unwrap_err().kind(),
            ErrorKind::NotSeekable
        );
        a.set_write_timeout(None).unwrap();
        a.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            a.send_file(&file, 0, 100).unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn arms_of_a_select() {
    everywhere_within("arms_of_a_select", || {
        let (a, mut b) = pair();
        let mut buffer = [0; 8];
        let quiet = select! {
            n = a.reading_into(&mut buffer) => panic!("{n:?}"),
            _ = after(SOON) => true,
        };
        assert!(quiet);
        b.write_all(b"arm").unwrap();
        select! {
            done = a.reading() => done.unwrap(),
            _ = after(Duration::from_secs(30)) => panic!("nothing came"),
        }
        let n = select! {
            n = a.reading_into(&mut buffer) => n.unwrap(),
            _ = after(Duration::from_secs(30)) => panic!("nothing came"),
        };
        assert_eq!(&buffer[..n], b"arm");
        let n = select! {
            n = a.writing_from(b"back") => n.unwrap(),
            default => panic!("there is room"),
        };
        assert_eq!(n, 4);
        select! {
            done = a.writing() => done.unwrap(),
            default => panic!("there is room"),
        }
        assert_eq!(read_some(&b, 8).unwrap(), b"back");

        let listener = listen();
        select! {
            done = listener.accepting() => panic!("{done:?}"),
            _ = after(SOON) => {}
        }
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, peer) = select! {
            done = listener.accepting() => done.unwrap(),
            _ = after(Duration::from_secs(30)) => panic!("nothing came"),
        };
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn accepts_are_served_as_they_came() {
    within("accepts_are_served_as_they_came", || {
        runtime(1).run(|| {
            let listener = Arc::new(listen());
            let tasks: Vec<_> = (0..4).map(|_| accepting(&listener)).collect();
            let address = listener.local_addr().unwrap();
            let mut clients = Vec::new();
            for (i, task) in tasks.into_iter().enumerate() {
                clients.push(TcpStream::connect(address).unwrap());
                assert_eq!(task.join().unwrap(), clients[i].local_addr().unwrap());
            }
        });
    });
}

fn accepting(listener: &Arc<TcpListener>) -> JoinHandle<SocketAddr> {
    let listener = listener.clone();
    let task = spawn(move || listener.accept().unwrap().1);
    until_parked(&task);
    task
}

/// On several workers one that is woken later may be faster, but nobody is left out.
#[test]
fn accepts_are_served() {
    everywhere_within("accepts_are_served", || {
        for _ in 0..20 {
            let listener = Arc::new(listen());
            let tasks: Vec<_> = (0..4).map(|_| accepting(&listener)).collect();
            let address = listener.local_addr().unwrap();
            let mut clients = Vec::new();
            for left in (0..4).rev() {
                clients.push(TcpStream::connect(address).unwrap());
                until(|| tasks.iter().filter(|t| !t.is_finished()).count() == left);
            }
            let addresses = clients.iter().map(|c| c.local_addr().unwrap());
            let mut addresses: Vec<_> = addresses.collect();
            let mut seen: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            addresses.sort();
            seen.sort();
            assert_eq!(seen, addresses);
        }
    });
}

#[test]
fn bytes_one_by_one() {
    everywhere_within("bytes_one_by_one", || {
        let (mut a, b) = pair();
        a.set_nodelay(true).unwrap();
        let mut random = Random::new(1);
        let sizes: Vec<usize> = (0..3000).map(|_| random.below(7) as usize + 1).collect();
        let reader = spawn(move || {
            let mut all = Vec::new();
            for n in sizes {
                all.extend(read_some(&b, n).unwrap());
            }
            (&b).read_to_end(&mut all).unwrap();
            all
        });
        let sent: Vec<u8> = (0..5000_u32).map(|i| (i % 253) as u8).collect();
        for byte in &sent {
            assert_eq!(a.write(&[*byte]).unwrap(), 1);
        }
        drop(a);
        assert_eq!(reader.join().unwrap(), sent);
    });
}

/// A peer that never reads: the writer parks, and what the kernel keeps is bounded.
#[test]
fn a_peer_that_never_reads() {
    everywhere_within("a_peer_that_never_reads", || {
        let listener = ListenOptions::new()
            .recv_buffer_size(8192)
            .listen("127.0.0.1:0")
            .unwrap();
        let client = ConnectOptions::new().send_buffer_size(8192);
        let mut client = client.connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        let writer = spawn(move || -> io::Result<()> {
            loop {
                count.fetch_add(client.write(&[7; 1024])?, SeqCst);
            }
        });
        until_parked(&writer);
        sleep(SOON);
        until_parked(&writer);
        assert!(written.load(SeqCst) < 256 << 10, "{written:?}");
        // What was unread makes the close a reset, which ends the writer.
        drop(server);
        let kind = writer.join().unwrap().unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{kind}"
        );
    });
}

#[test]
fn foreign_descriptors() {
    everywhere_within("foreign_descriptors", || {
        let (a, b) = std_pair();
        let (mut a, b) = (Async::new(a).unwrap(), Arc::new(Async::new(b).unwrap()));
        let task = spawn({
            let b = b.clone();
            move || {
                let (mut one, mut two) = ([0; 2], [0; 2]);
                let mut into = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                (&*b).read_vectored(&mut into).map(|n| (n, one, two))
            }
        });
        until_parked(&task);
        a.write_all(b"abc").unwrap();
        a.flush().unwrap();
        assert_eq!(task.join().unwrap().unwrap(), (3, *b"ab", *b"c\0"));
        let nothing = b
            .as_source()
            .try_io(Direction::Read, |mut s| s.read(&mut [0]));
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock);
        let late = b.readable(Some(SOON)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        b.writable(None).unwrap();
        b.write_with(|mut s| s.write(b"x")).unwrap();
        assert_eq!(a.read_with(|mut s| s.read(&mut [0; 9])).unwrap(), 1);
        let task = spawn({
            let b = b.clone();
            move || (&*b).read(&mut [0]).unwrap_err()
        });
        until_parked(&task);
        b.close().unwrap();
        assert!(sward_runtime::io::is_closed(&task.join().unwrap()));
        // What epoll cannot watch works as long as it need not wait.
        let mut file = Async::new(file_of(10)).unwrap();
        assert_eq!(file.write(b"more").unwrap(), 4);
        assert!(a.into_inner().read(&mut [0]).is_ok());
    });
}

#[test]
fn borrowed_by_scoped_tasks() {
    everywhere_within("borrowed_by_scoped_tasks", || {
        let (a, b) = pair();
        scope(|s| {
            s.spawn(|| (&a).write_all(b"borrowed").unwrap());
            s.spawn(|| {
                let mut bytes = [0; 8];
                (&b).read_exact(&mut bytes).unwrap();
                assert_eq!(&bytes, b"borrowed");
            });
        });
    });
}

#[test]
fn sends_and_syncs() {
    fn both<T: Send + Sync + std::fmt::Debug + 'static>() {}
    both::<TcpStream>();
    both::<TcpListener>();
    both::<Async<File>>();
    both::<ListenOptions>();
    both::<ConnectOptions>();
    both::<sward_net::IntoIncoming>();
}
