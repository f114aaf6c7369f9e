//! `UnixStream`, `UnixListener`, `UnixDatagram`: who waits goes on when it can, also where the
//! kernel does not tell, and what a kill or a time-out interrupts is not lost.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{assert_in_line, everywhere, until, until_waits, within};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use sward_net::{Stream, UnixDatagram, UnixListener, UnixStream};
use sward_runtime::io::is_closed;
use sward_runtime::{JoinHandle, WaitKind, join_all, spawn, timeout};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// A path, and a file there, that are gone in the end.
struct Scratch(PathBuf);

fn scratch() -> Scratch {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("sward-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
    Scratch(std::env::temp_dir().join(name))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AsRef<std::path::Path> for Scratch {
    fn as_ref(&self) -> &std::path::Path {
        &self.0
    }
}

fn abstract_address() -> SocketAddr {
    let name = scratch();
    SocketAddr::from_abstract_name(name.0.as_os_str().as_encoded_bytes()).unwrap()
}

fn streams() -> (Arc<UnixStream>, Arc<UnixStream>) {
    let (a, b) = UnixStream::pair().unwrap();
    (Arc::new(a), Arc::new(b))
}

/// A listener with room for one connection that nobody has accepted.
fn narrow() -> (UnixListener, SocketAddr) {
    let address = abstract_address();
    let name = SocketAddrUnix::new_abstract_name(address.as_abstract_name().unwrap()).unwrap();
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&fd, &name).unwrap();
    rustix::net::listen(&fd, 0).unwrap();
    (UnixListener::try_from(fd).unwrap(), address)
}

/// Kills a task that waits, and waits for its end: until then it could be served.
fn kill<T: std::fmt::Debug>(task: JoinHandle<T>) {
    task.kill();
    assert!(task.join().unwrap_err().is_killed());
}

/// Waits until a task sleeps.
fn until_sleeps<T>(task: &JoinHandle<T>) {
    until_in(task, WaitKind::Sleep);
}

/// Waits until a task waits for that.
fn until_in<T>(task: &JoinHandle<T>, kind: WaitKind) {
    until(|| {
        let tasks = sward_runtime::dump().tasks();
        let mut found = tasks.iter().filter(|t| t.id == task.id());
        found.any(|t| t.reason.kind() == kind)
    });
}

fn read(mut stream: &UnixStream) -> Vec<u8> {
    let mut buffer = [0; 100];
    let n = stream.read(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

fn recv(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = [0; 100];
    let n = socket.recv(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

#[test]
fn connect_and_accept() {
    within("connect_and_accept", || {
        everywhere(|| {
            let path = scratch();
            let listener = Arc::new(UnixListener::bind(&path).unwrap());
            assert_eq!(
                listener.try_accept().unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            let local = listener.local_addr().unwrap();
            assert_eq!(local.as_pathname().unwrap(), path.0);
            let accepts = listener.clone();
            let server = spawn(move || {
                for stream in accepts.incoming().take(2) {
                    let mut stream = stream.unwrap();
                    let mut text = String::new();
                    stream.read_to_string(&mut text).unwrap();
                    stream.write_all(text.to_uppercase().as_bytes()).unwrap();
                }
            });
            for _ in 0..2 {
                let mut stream = UnixStream::connect(&path).unwrap();
                assert_eq!(stream.peer_addr().unwrap().as_pathname().unwrap(), path.0);
                assert!(stream.local_addr().unwrap().is_unnamed());
                stream.write_all(b"hello").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                assert_eq!(text, "HELLO");
            }
            server.join().unwrap();

            // A peer that goes before it is accepted is accepted all the same.
            let mut gone = UnixStream::connect_timeout(&local, LONG).unwrap();
            gone.write_all(b"bye").unwrap();
            drop(gone);
            let (stream, from) = listener.accept().unwrap();
            assert!(from.is_unnamed());
            assert_eq!(read(&stream), b"bye");
            assert_eq!(read(&stream), b"");
        });
    });
}

#[test]
fn addresses_that_fail() {
    within("addresses_that_fail", || {
        everywhere(|| {
            let path = scratch();
            let text = |e: io::Error| (e.kind(), e.to_string());
            let shown = path.0.display().to_string();

            let (kind, said) = text(UnixStream::connect(&path).unwrap_err());
            assert!(
                kind == ErrorKind::NotFound && said.contains(&shown),
                "{said}"
            );
            drop(UnixListener::bind(&path).unwrap());
            let (kind, said) = text(UnixStream::connect(&path).unwrap_err());
            assert!(
                kind == ErrorKind::ConnectionRefused && said.contains(&shown),
                "{said}"
            );
            // The file is left over.
            let (kind, said) = text(UnixListener::bind(&path).unwrap_err());
            assert!(
                kind == ErrorKind::AddrInUse && said.contains("remove it"),
                "{said}"
            );
            let (kind, said) = text(UnixDatagram::bind(&path).unwrap_err());
            assert!(
                kind == ErrorKind::AddrInUse && said.contains(&shown),
                "{said}"
            );
            let datagram = UnixDatagram::unbound().unwrap();
            assert!(datagram.send_to(b"x", &path).is_err());
            std::fs::remove_file(&path).unwrap();
            let (kind, said) = text(datagram.connect(&path).unwrap_err());
            assert!(
                kind == ErrorKind::NotFound && said.contains(&shown),
                "{said}"
            );
            UnixListener::bind(&path).unwrap();

            let long = std::env::temp_dir().join("x".repeat(120));
            let (kind, said) = text(UnixListener::bind(&long).unwrap_err());
            assert!(
                kind == ErrorKind::InvalidInput && said.contains("107"),
                "{said}"
            );
            let (kind, said) = text(UnixStream::connect("/tmp/a\0b").unwrap_err());
            assert!(kind == ErrorKind::InvalidInput, "{said}");
            // The longest that goes.
            let room = 107 - std::env::temp_dir().as_os_str().len() - 1;
            let longest = Scratch(std::env::temp_dir().join("y".repeat(room)));
            let _ = std::fs::remove_file(&longest);
            let _listener = UnixListener::bind(&longest).unwrap();
            UnixStream::connect(&longest).unwrap();

            let address = abstract_address();
            let first = UnixListener::bind_addr(&address).unwrap();
            let (kind, said) = text(UnixListener::bind_addr(&address).unwrap_err());
            assert!(
                kind == ErrorKind::AddrInUse && said.contains("abstract"),
                "{said}"
            );
            drop(first);
            let (kind, said) = text(UnixStream::connect_addr(&address).unwrap_err());
            assert!(
                kind == ErrorKind::ConnectionRefused && said.contains('@'),
                "{said}"
            );

            // No name to bind to: the kernel chooses one. None to connect to: an error.
            let unnamed = UnixDatagram::unbound().unwrap().local_addr().unwrap();
            assert!(unnamed.is_unnamed());
            let chosen = UnixListener::bind_addr(&unnamed).unwrap();
            let chosen = chosen.local_addr().unwrap();
            assert!(chosen.as_abstract_name().is_some());
            assert!(UnixStream::connect_addr(&unnamed).is_err());
            assert!(UnixStream::connect_timeout(&address, Duration::ZERO).is_err());
        });
    });
}

/// The kernel does not tell when a listener has room again.
#[test]
fn a_listener_that_is_full() {
    within("a_listener_that_is_full", || {
        everywhere(|| {
            let (listener, address) = narrow();
            let mut streams = vec![UnixStream::connect_addr(&address).unwrap()];
            let begun = Instant::now();
            let late = UnixStream::connect_timeout(&address, 4 * SHORT).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut, "{late}");
            assert!(begun.elapsed() >= 4 * SHORT && begun.elapsed() < LONG);
            assert!(timeout(SHORT, || UnixStream::connect_addr(&address)).is_err());

            let connects = || {
                let address = address.clone();
                spawn(move || UnixStream::connect_addr(&address).unwrap())
            };
            let killed = connects();
            until_sleeps(&killed);
            kill(killed);

            let tasks: Vec<_> = (0..5).map(|_| connects()).collect();
            until_sleeps(&tasks[0]);
            let mut accepted: Vec<_> = (0..6).map(|_| listener.accept().unwrap().0).collect();
            streams.extend(join_all(tasks).into_iter().map(Result::unwrap));
            assert!(listener.try_accept().is_err());
            accepted.iter_mut().for_each(|s| s.write_all(b"x").unwrap());
            streams.iter().for_each(|s| assert_eq!(read(s), b"x"));

            // Full, and then gone.
            let _waits = UnixStream::connect_addr(&address).unwrap();
            let address = address.clone();
            let task = spawn(move || UnixStream::connect_addr(&address).unwrap_err());
            until_sleeps(&task);
            drop(listener);
            let refused = task.join().unwrap();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
        });
    });
}

#[test]
fn those_who_accept() {
    within("those_who_accept", || {
        everywhere(|| {
            let address = abstract_address();
            let listener = Arc::new(UnixListener::bind_addr(&address).unwrap());
            let late = listener.accept_timeout(SHORT).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            let accepts = |n| {
                let accepts = listener.clone();
                let task = spawn(move || accepts.accept());
                until_waits(listener.as_source(), n, 0);
                task
            };
            let (first, killed, second) = (accepts(1), accepts(2), accepts(3));
            kill(killed);
            let mut streams = Vec::new();
            for i in [0, 2] {
                let mut stream = UnixStream::connect_addr(&address).unwrap();
                stream.write_all(&[i]).unwrap();
                streams.push(stream);
            }
            let got = [first, second].map(|t| read(&t.join().unwrap().unwrap().0));
            assert_in_line(got.to_vec(), vec![vec![0], vec![2]]);
            let task = accepts(1);
            listener.close().unwrap();
            assert!(is_closed(&task.join().unwrap().unwrap_err()));
            assert!(is_closed(
                &(&*listener).into_iter().next().unwrap().unwrap_err()
            ));
            assert!(UnixStream::connect_addr(&address).is_err());
        });
    });
}

/// Both ends read and write at once, more than the buffers hold.
#[test]
fn both_ways_at_once() {
    within("both_ways_at_once", || {
        everywhere(|| {
            let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
            let sent = Arc::new(sent);
            let (a, b) = streams();
            let mut tasks = Vec::new();
            for end in [&a, &b] {
                let (writes, reads) = (end.clone(), end.clone());
                let (bytes, wanted) = (sent.clone(), sent.clone());
                tasks.push(spawn(move || {
                    (&*writes).write_all(&bytes).unwrap();
                    writes.shutdown(Shutdown::Write).unwrap();
                }));
                tasks.push(spawn(move || {
                    let mut got = Vec::new();
                    (&*reads).read_to_end(&mut got).unwrap();
                    assert!(got == *wanted);
                }));
            }
            join_all(tasks).into_iter().for_each(Result::unwrap);
        });
    });
}

#[test]
fn streams_read_and_write() {
    within("streams_read_and_write", || {
        everywhere(|| {
            let (a, b) = streams();
            assert_eq!(
                a.try_read(&mut [0]).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            assert_eq!(a.try_write(b"hello").unwrap(), 5);
            assert_eq!(b.peek(&mut [0; 3]).unwrap(), 3);
            assert_eq!(b.try_read(&mut [0; 2]).unwrap(), 2);
            assert_eq!(read(&b), b"llo");
            let many = [IoSlice::new(b"ab"); 3000];
            assert_eq!((&*a).write_vectored(&many).unwrap(), 2048);
            let mut all = [0; 2048];
            (&*b).read_exact(&mut all).unwrap();
            assert!(all.chunks(2).all(|c| c == b"ab"));

            // Those who wait are served as they came.
            let mut tasks: Vec<_> = (0..4)
                .map(|i| {
                    let reads = b.clone();
                    let task = spawn(move || {
                        let mut byte = [0];
                        (&*reads).read_exact(&mut byte).unwrap();
                        byte[0]
                    });
                    until_waits(b.as_source(), i + 1, 0);
                    task
                })
                .collect();
            kill(tasks.remove(2));
            (&*a).write_all(&[0, 1, 3]).unwrap();
            let got: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            assert_in_line(got, vec![0, 1, 3]);

            // A peer that is gone: what it sent comes, then the end.
            (&*a).write_all(b"last").unwrap();
            drop(a);
            assert_eq!(read(&b), b"last");
            assert_eq!(read(&b), b"");
            let broken = (&*b).write(b"x").unwrap_err();
            assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
            let slices = [IoSlice::new(b"x")];
            let broken = (&*b).write_vectored(&slices).unwrap_err();
            assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
        });
    });
}

/// A reset: the peer goes with bytes unread.
#[test]
fn a_peer_that_resets() {
    within("a_peer_that_resets", || {
        everywhere(|| {
            let (a, b) = streams();
            (&*a).write_all(b"unread").unwrap();
            let reads = a.clone();
            let task = spawn(move || (&*reads).read(&mut [0; 4]).unwrap_err());
            until_waits(a.as_source(), 1, 0);
            drop(b);
            assert_eq!(task.join().unwrap().kind(), ErrorKind::ConnectionReset);
        });
    });
}

#[test]
fn a_stream_that_ends_under_its_users() {
    within("a_stream_that_ends_under_its_users", || {
        everywhere(|| {
            let fill = |s: &UnixStream| while s.try_write(&[0; 4096]).is_ok() {};
            let waits = |s: &Arc<UnixStream>| {
                let (reads, writes) = (s.clone(), s.clone());
                let reader = spawn(move || (&*reads).read(&mut [0; 4]));
                let writer = spawn(move || (&*writes).write_all(&[0; 100_000]));
                until_waits(s.as_source(), 1, 1);
                (reader, writer)
            };
            let (a, _b) = streams();
            fill(&a);
            let (reader, writer) = waits(&a);
            a.shutdown(Shutdown::Both).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
            let broken = writer.join().unwrap().unwrap_err();
            assert_eq!(broken.kind(), ErrorKind::BrokenPipe);

            let (a, _b) = streams();
            fill(&a);
            let (reader, writer) = waits(&a);
            let clone = a.try_clone().unwrap();
            a.close().unwrap();
            assert!(is_closed(&reader.join().unwrap().unwrap_err()));
            assert!(is_closed(&writer.join().unwrap().unwrap_err()));
            assert!(is_closed(&a.peek(&mut [0]).unwrap_err()));
            // The clone is open.
            let full = clone.try_write(b"x").unwrap_err();
            assert_eq!(full.kind(), ErrorKind::WouldBlock);

            let (a, _b) = streams();
            fill(&a);
            a.set_read_timeout(Some(SHORT)).unwrap();
            a.set_write_timeout(Some(SHORT)).unwrap();
            assert!(a.set_write_timeout(Some(Duration::ZERO)).is_err());
            let late = (&*a).read(&mut [0]).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            let late = (&*a).write(&[0; 100_000]).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            let late = a.peek(&mut [0]).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            a.set_read_timeout(None).unwrap();
            assert!(timeout(SHORT, || read(&a)).is_err());
        });
    });
}

#[test]
fn who_is_there() {
    within("who_is_there", || {
        let (address, listener) = {
            let address = abstract_address();
            (address.clone(), UnixListener::bind_addr(&address).unwrap())
        };
        let client = UnixStream::connect_addr(&address).unwrap();
        let (server, _) = listener.accept().unwrap();
        for end in [client, server] {
            let who = end.peer_cred().unwrap();
            assert_eq!(who.pid, Some(std::process::id()));
            // No child process is asked: it would hold the sockets of other tests for a moment.
            let this = std::fs::metadata("/proc/self").unwrap();
            assert_eq!((who.uid, who.gid), (this.uid(), this.gid()));
        }
        // Not connected: nobody is there.
        let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let nobody = UnixStream::try_from(fd).unwrap().peer_cred().unwrap();
        assert_eq!(nobody.pid, None);
    });
}

#[test]
fn datagrams() {
    within("datagrams", || {
        everywhere(|| {
            let (path, address) = (scratch(), abstract_address());
            let a = UnixDatagram::bind(&path).unwrap();
            let b = UnixDatagram::bind_addr(&address).unwrap();
            let mut buffer = [0; 4];
            assert!(a.try_recv_from(&mut buffer).is_err());
            assert_eq!(a.send_to_addr(b"one", &address).unwrap(), 3);
            assert_eq!(a.try_send_to_addr(b"", &address).unwrap(), 0);
            assert_eq!(a.send_to_addr(b"longer", &address).unwrap(), 6);
            assert_eq!(b.peek(&mut buffer).unwrap(), 3);
            let (n, from) = b.recv_from(&mut buffer).unwrap();
            assert_eq!((n, from.as_pathname().unwrap()), (3, path.as_ref()));
            assert_eq!(b.recv(&mut buffer).unwrap(), 0);
            // Cut off in silence, as std's.
            assert_eq!(b.try_recv(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer, b"long");
            assert!(b.try_recv(&mut buffer).is_err());

            assert_eq!(b.send_to(b"two", &path).unwrap(), 3);
            assert_eq!(b.try_send_to(b"three", &path).unwrap(), 5);
            assert_eq!((recv(&a), recv(&a)), (b"two".to_vec(), b"three".to_vec()));
            let nobody = UnixDatagram::unbound().unwrap();
            assert_eq!(
                nobody.send(b"x").unwrap_err().kind(),
                ErrorKind::NotConnected
            );
            nobody.connect(&path).unwrap();
            assert_eq!(
                nobody.peer_addr().unwrap().as_pathname(),
                Some(path.as_ref())
            );
            nobody.try_send(b"four").unwrap();
            let (n, from) = a.recv_from(&mut buffer).unwrap();
            assert!(n == 4 && from.is_unnamed());
            nobody.connect_addr(&address).unwrap();
            nobody.send(b"five").unwrap();
            assert_eq!(recv(&b), b"five");

            let (c, d) = UnixDatagram::pair().unwrap();
            let huge = c.send(&vec![0; 10_000_000]).unwrap_err();
            assert_eq!(huge.raw_os_error(), Some(90), "{huge}"); // EMSGSIZE
            let (c, d) = (Arc::new(c), Arc::new(d));
            let mut tasks: Vec<_> = (0..4)
                .map(|i| {
                    let reads = d.clone();
                    let task = spawn(move || recv(&reads));
                    until_waits(d.as_source(), i + 1, 0);
                    task
                })
                .collect();
            kill(tasks.remove(0));
            for i in 1..4_u8 {
                c.send(&[i]).unwrap();
            }
            let got: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            assert_in_line(got, vec![vec![1], vec![2], vec![3]]);

            // A reader that is shut down gets what is there, and then the end.
            let (e, f) = UnixDatagram::pair().unwrap();
            let f = Arc::new(f);
            let reads = f.clone();
            let task = spawn(move || reads.recv_from(&mut [0]).unwrap());
            until_waits(f.as_source(), 1, 0);
            f.shutdown(Shutdown::Read).unwrap();
            let (n, from) = task.join().unwrap();
            assert!(n == 0 && from.is_unnamed());
            assert_eq!(
                (f.peek(&mut buffer).unwrap(), f.recv(&mut buffer).unwrap()),
                (0, 0)
            );
            assert_eq!(f.try_recv(&mut buffer).unwrap(), 0);
            assert_eq!(f.recv_with_fds(&mut buffer, 1).unwrap().0, 0);
            assert_eq!(e.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

            d.set_read_timeout(Some(SHORT)).unwrap();
            let late = d.recv(&mut buffer).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            d.set_read_timeout(None).unwrap();
            assert!(timeout(SHORT, || recv(&d)).is_err());
            let reads = d.clone();
            let task = spawn(move || reads.recv(&mut [0]).unwrap_err());
            until_waits(d.as_source(), 1, 0);
            d.close().unwrap();
            assert!(is_closed(&task.join().unwrap()));
            let gone = c.send(b"x").unwrap_err();
            assert_eq!(gone.kind(), ErrorKind::ConnectionRefused, "{gone}");
        });
    });
}

fn fill(socket: &UnixDatagram) -> usize {
    let mut n = 0;
    while socket.try_send(&[7]).is_ok() {
        n += 1;
    }
    n
}

/// A sender that is connected is woken as soon as its receiver has taken something.
#[test]
fn a_connected_sender_waits_for_room() {
    within("a_connected_sender_waits_for_room", || {
        everywhere(|| {
            let address = abstract_address();
            let receiver = UnixDatagram::bind_addr(&address).unwrap();
            let sender = Arc::new(UnixDatagram::unbound().unwrap());
            sender.connect_addr(&address).unwrap();
            let n = fill(&sender);
            sender.set_write_timeout(Some(SHORT)).unwrap();
            let late = sender.send(b"late").unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            sender.set_write_timeout(None).unwrap();
            assert!(timeout(SHORT, || sender.send(b"late")).is_err());

            let mut tasks: Vec<_> = (0..3_u8)
                .map(|i| {
                    let sends = sender.clone();
                    let task = spawn(move || sends.send(&[i]).map(drop));
                    until_waits(sender.as_source(), 0, usize::from(i) + 1);
                    task
                })
                .collect();
            kill(tasks.remove(1));
            for _ in 0..n {
                assert_eq!(recv(&receiver), [7]);
            }
            let got = vec![recv(&receiver), recv(&receiver)];
            assert_in_line(got, vec![vec![0], vec![2]]);
            for sent in join_all(tasks) {
                sent.unwrap().unwrap();
            }
            assert!(receiver.try_recv(&mut [0]).is_err());

            // Many more than there is room for, and in order.
            let sends = sender.clone();
            let task = spawn(move || {
                (0..2000_u32).for_each(|i| {
                    sends.send(&i.to_le_bytes()).unwrap();
                })
            });
            for i in 0..2000_u32 {
                assert_eq!(recv(&receiver), i.to_le_bytes());
            }
            task.join().unwrap();

            // A receiver that goes while somebody waits for it.
            fill(&sender);
            let sends = sender.clone();
            let task = spawn(move || sends.send(b"x").unwrap_err());
            until_waits(sender.as_source(), 0, 1);
            drop(receiver);
            let gone = task.join().unwrap().kind();
            let kinds = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&gone), "{gone}");

            // The two of a pair.
            let (c, d) = UnixDatagram::pair().unwrap();
            let c = Arc::new(c);
            let n = fill(&c);
            let sends = c.clone();
            let task = spawn(move || sends.send(b"last").unwrap());
            until_waits(c.as_source(), 0, 1);
            for _ in 0..n {
                recv(&d);
            }
            assert_eq!(recv(&d), b"last");
            task.join().unwrap();
        });
    });
}

/// Nobody tells a sender that is not connected: it tries again, and holds up no other.
#[test]
fn a_sender_that_is_not_connected_waits_for_room() {
    within("a_sender_that_is_not_connected_waits_for_room", || {
        everywhere(|| {
            let (full, empty) = (abstract_address(), abstract_address());
            let receiver = UnixDatagram::bind_addr(&full).unwrap();
            let other = UnixDatagram::bind_addr(&empty).unwrap();
            let sender = Arc::new(UnixDatagram::unbound().unwrap());
            let mut n = 0;
            while sender.try_send_to_addr(&[7], &full).is_ok() {
                n += 1;
            }
            sender.set_write_timeout(Some(SHORT)).unwrap();
            let begun = Instant::now();
            let late = sender.send_to_addr(b"late", &full).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            assert!(begun.elapsed() >= SHORT);
            sender.set_write_timeout(None).unwrap();
            let late = timeout(SHORT, || sender.send_to_addr(b"late", &full));
            assert!(late.is_err());

            let to = |bytes: &'static [u8]| {
                let (sends, full) = (sender.clone(), full.clone());
                let task = spawn(move || sends.send_to_addr(bytes, &full).map(drop));
                until_sleeps(&task);
                task
            };
            let killed = to(b"killed");
            let stays = to(b"kept");
            kill(killed);
            sender.send_to_addr(b"at once", &empty).unwrap();
            assert_eq!(recv(&other), b"at once");
            assert!(sender.try_send_to_addr(b"x", &full).is_err());
            sender.connect_addr(&empty).unwrap();
            sender.send(b"at once").unwrap();
            assert_eq!(recv(&other), b"at once");
            for _ in 0..n {
                assert_eq!(recv(&receiver), [7]);
            }
            assert_eq!(recv(&receiver), b"kept");
            stays.join().unwrap().unwrap();

            while sender.try_send_to_addr(&[7], &full).is_ok() {}
            let (gone, closed) = (to(b"gone"), to(b"closed"));
            sender.close().unwrap();
            assert!(is_closed(&closed.join().unwrap().unwrap_err()));
            assert!(is_closed(&gone.join().unwrap().unwrap_err()));
        });
    });
}

/// In a destructor of a task that unwinds, what would have to wait fails.
#[test]
fn no_wait_while_unwinding() {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    struct Says(UnixDatagram, SocketAddr, UnixStream);
    impl Drop for Says {
        fn drop(&mut self) {
            let send = self.0.send_to_addr(b"x", &self.1).unwrap_err();
            let read = self.2.recv(&mut [0]).unwrap_err();
            let text = format!("{send} {read}");
            REFUSED.store(text.matches("unwinds").count() == 2, SeqCst);
        }
    }
    within("no_wait_while_unwinding", || {
        everywhere(|| {
            let address = abstract_address();
            let _receiver = UnixDatagram::bind_addr(&address).unwrap();
            let sender = UnixDatagram::unbound().unwrap();
            while sender.try_send_to_addr(&[7], &address).is_ok() {}
            let (a, _b) = UnixStream::pair().unwrap();
            REFUSED.store(false, SeqCst);
            let says = Says(sender, address, a);
            let task = spawn(move || {
                let _says = says;
                sward_runtime::park();
            });
            until_in(&task, WaitKind::Park);
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert!(REFUSED.load(SeqCst));
        });
    });
}

/// Many connections at once, to one listener, from tasks and from a thread.
#[test]
fn many_tasks() {
    within("many_tasks", || {
        everywhere(|| {
            let address = abstract_address();
            let listener = Arc::new(UnixListener::bind_addr(&address).unwrap());
            let servers: Vec<_> = (0..3)
                .map(|_| {
                    let accepts = listener.clone();
                    spawn(move || {
                        while let Ok((mut stream, _)) = accepts.accept() {
                            spawn(move || {
                                let mut buffer = [0; 64];
                                loop {
                                    let n = stream.read(&mut buffer).unwrap();
                                    if n == 0 {
                                        return;
                                    }
                                    stream.write_all(&buffer[..n]).unwrap();
                                }
                            });
                        }
                    })
                })
                .collect();
            let asks = move |address: SocketAddr, i: u32| {
                let mut stream = UnixStream::connect_addr(&address).unwrap();
                for k in 0..20_u32 {
                    let asked = [i.to_le_bytes(), k.to_le_bytes()].concat();
                    stream.write_all(&asked).unwrap();
                    let mut got = [0; 8];
                    stream.read_exact(&mut got).unwrap();
                    assert_eq!(asked, got);
                }
            };
            let to = address.clone();
            let thread = std::thread::spawn(move || asks(to, 1000));
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let to = address.clone();
                    spawn(move || asks(to, i))
                })
                .collect();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            until(|| thread.is_finished());
            thread.join().unwrap();
            listener.close().unwrap();
            join_all(servers).into_iter().for_each(Result::unwrap);
        });
    });
}

#[test]
fn conversions() {
    within("conversions", || {
        everywhere(|| {
            let (a, b) = net::UnixStream::pair().unwrap();
            let ours = UnixStream::from_std(a).unwrap();
            ours.set_read_timeout(Some(SHORT)).unwrap();
            let clone = ours.try_clone().unwrap();
            assert_eq!(clone.read_timeout().unwrap(), Some(SHORT));
            drop(clone);
            let mut std = ours.into_std().unwrap();
            std.set_read_timeout(Some(SHORT)).unwrap();
            let begun = Instant::now();
            assert!(std.read(&mut [0]).is_err() && begun.elapsed() >= SHORT);
            let again = UnixStream::try_from(OwnedFd::from(std)).unwrap();
            assert!(again.try_read(&mut [0]).is_err());
            drop(b);
            assert_eq!(read(&again), b"");
        });
        fn shared<T: Send + Sync + std::fmt::Debug>() {}
        shared::<UnixStream>();
        shared::<UnixListener>();
        shared::<UnixDatagram>();
    });
}
