//! Descriptors that go over a Unix socket: all of them arrive, or none is left over.
//!
//! That nothing leaks is seen by pipes: a reader meets the end when the last copy of the writing
//! end is closed, wherever it was.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

mod common;

use std::fs::File;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{everywhere, until_waits, within};
use rustix::io::{FdFlags, fcntl_getfd};
use sward_net::{UnixDatagram, UnixStream};
use sward_runtime::io::is_closed;
use sward_runtime::{join_all, spawn, timeout};

const SHORT: Duration = Duration::from_millis(5);

fn streams() -> (Arc<UnixStream>, Arc<UnixStream>) {
    let (a, b) = UnixStream::pair().unwrap();
    (Arc::new(a), Arc::new(b))
}

/// A pipe whose writing end is sent.
struct Lead(PipeReader);

fn lead() -> (Lead, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (Lead(reader), writer)
}

impl Lead {
    /// Waits until nobody has the writing end any more.
    fn end(mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }

    /// Looks whether this descriptor is the writing end.
    fn leads_to(&mut self, fd: &OwnedFd) {
        File::from(fd.try_clone().unwrap()).write_all(b"!").unwrap();
        assert_eq!(self.0.read(&mut [0; 2]).unwrap(), 1);
    }
}

#[test]
fn one_and_many() {
    within("one_and_many", || {
        everywhere(|| {
            let (a, b) = streams();
            for n in [1, 2, 3, 7, 253] {
                let (mut leads, writers): (Vec<_>, Vec<_>) = (0..n).map(|_| lead()).unzip();
                let fds: Vec<_> = writers.iter().map(AsFd::as_fd).collect();
                assert_eq!(a.send_with_fds(b"take", &fds).unwrap(), 4);
                drop(writers);
                let mut buffer = [0; 16];
                let (bytes, got) = b.recv_with_fds(&mut buffer, n).unwrap();
                assert_eq!((&buffer[..bytes], got.len()), (&b"take"[..], n));
                for (lead, fd) in leads.iter_mut().zip(&got) {
                    lead.leads_to(fd);
                    assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
                }
                drop(got);
                leads.into_iter().for_each(Lead::end);
            }
            // None.
            assert_eq!(a.send_with_fds(b"bytes", &[]).unwrap(), 5);
            let (n, got) = b.recv_with_fds(&mut [0; 16], 0).unwrap();
            assert_eq!((n, got.len()), (5, 0));
            a.shutdown(Shutdown::Write).unwrap();
            let (n, got) = b.recv_with_fds(&mut [0; 16], 9).unwrap();
            assert_eq!((n, got.len()), (0, 0));
        });
    });
}

/// The borders of what was sent with descriptors are kept.
#[test]
fn with_which_bytes_they_come() {
    within("with_which_bytes_they_come", || {
        everywhere(|| {
            let (a, b) = streams();
            let (lead, writer) = lead();
            (&*a).write_all(b"before").unwrap();
            a.send_with_fds(b"with", &[writer.as_fd()]).unwrap();
            (&*a).write_all(b"after").unwrap();
            drop(writer);
            let mut buffer = [0; 100];
            let (n, got) = b.recv_with_fds(&mut buffer, 1).unwrap();
            assert_eq!((&buffer[..n], got.len()), (&b"beforewith"[..], 1));
            let (n, none) = b.recv_with_fds(&mut buffer, 1).unwrap();
            assert_eq!((&buffer[..n], none.len()), (&b"after"[..], 0));
            drop(got);
            lead.end();

            // More than the socket takes at once: they go with the first bytes, once.
            let (lead, writer) = self::lead();
            let sends = a.clone();
            let task = spawn(move || {
                let bytes = vec![1; 1_000_000];
                let n = sends.send_with_fds(&bytes, &[writer.as_fd()]).unwrap();
                assert!(n > 0);
                (&*sends).write_all(&bytes[n..]).unwrap();
            });
            let (mut bytes, mut fds) = (0, 0);
            while bytes < 1_000_000 {
                let (n, got) = b.recv_with_fds(&mut buffer, 1).unwrap();
                assert!(got.is_empty() || bytes == 0);
                (bytes, fds) = (bytes + n, fds + got.len());
            }
            assert_eq!((bytes, fds), (1_000_000, 1));
            task.join().unwrap();
            lead.end();
        });
    });
}

#[test]
fn more_than_asked_for() {
    within("more_than_asked_for", || {
        everywhere(|| {
            for (sent, max) in [(1, 0), (2, 1), (3, 1), (20, 4), (253, 252), (253, 1)] {
                let (a, b) = streams();
                let (c, d) = UnixDatagram::pair().unwrap();
                let (leads, writers): (Vec<_>, Vec<_>) = (0..sent).map(|_| lead()).unzip();
                let fds: Vec<_> = writers.iter().map(AsFd::as_fd).collect();
                a.send_with_fds(b"take", &fds).unwrap();
                c.send_with_fds(b"take", &fds).unwrap();
                drop(writers);
                let e = b.recv_with_fds(&mut [0; 16], max).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::InvalidData);
                assert!(e.to_string().contains("4 bytes"), "{e}");
                let e = d.recv_with_fds(&mut [0; 16], max).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::InvalidData);
                leads.into_iter().for_each(Lead::end);
            }
        });
    });
}

#[test]
fn what_is_refused() {
    within("what_is_refused", || {
        let (a, b) = streams();
        let (c, d) = UnixDatagram::pair().unwrap();
        let (lead, writer) = lead();
        let many = [writer.as_fd(); 254];
        for e in [
            a.send_with_fds(b"x", &many).unwrap_err(),
            c.send_with_fds(b"x", &many).unwrap_err(),
            a.send_with_fds(b"", &many[..1]).unwrap_err(),
            b.recv_with_fds(&mut [], 1).unwrap_err(),
        ] {
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
        }
        // A socket that was closed under its owner.
        let (closed, _) = streams();
        closed.close().unwrap();
        let e = a.send_with_fds(b"x", &[closed.as_fd()]).unwrap_err();
        assert!(e.to_string().contains("closed"), "{e}");
        let e = c.send_with_fds(b"x", &[closed.as_fd()]).unwrap_err();
        assert!(e.to_string().contains("closed"), "{e}");
        // None of that was sent.
        assert!(b.try_read(&mut [0]).is_err() && d.try_recv(&mut [0]).is_err());

        // Over a closed one, and to nobody.
        let e = closed.send_with_fds(b"x", &many[..1]).unwrap_err();
        assert!(is_closed(&e));
        assert!(is_closed(&closed.recv_with_fds(&mut [0], 1).unwrap_err()));
        // A child process of another test may have a copy of it for a moment.
        b.shutdown(Shutdown::Both).unwrap();
        drop(b);
        let e = a.send_with_fds(b"x", &many[..1]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BrokenPipe);
        drop(writer);
        lead.end();
    });
}

#[test]
fn with_datagrams() {
    within("with_datagrams", || {
        everywhere(|| {
            let (c, d) = UnixDatagram::pair().unwrap();
            let (mut lead, writer) = lead();
            c.send_with_fds(b"", &[writer.as_fd()]).unwrap();
            c.send_with_fds(b"cut off", &[writer.as_fd(), writer.as_fd()])
                .unwrap();
            drop(writer);
            let (n, got) = d.recv_with_fds(&mut [0; 3], 9).unwrap();
            assert_eq!((n, got.len()), (0, 1));
            lead.leads_to(&got[0]);
            drop(got);
            let (n, got) = d.recv_with_fds(&mut [0; 3], 9).unwrap();
            assert_eq!((n, got.len()), (3, 2));
            drop(got);
            lead.end();
        });
    });
}

/// Nobody has taken them: they are closed with what carried them.
#[test]
fn nobody_takes_them() {
    within("nobody_takes_them", || {
        everywhere(|| {
            let (a, b) = streams();
            let (c, d) = UnixDatagram::pair().unwrap();
            let (lead, writer) = lead();
            let fds = [writer.as_fd()];
            // A plain read.
            a.send_with_fds(b"x", &fds).unwrap();
            (&*b).read_exact(&mut [0]).unwrap();
            c.send_with_fds(b"x", &fds).unwrap();
            d.recv(&mut [0]).unwrap();
            // No read at all.
            a.send_with_fds(b"x", &fds).unwrap();
            c.send_with_fds(b"x", &fds).unwrap();
            drop((writer, a, b, c, d));
            lead.end();
        });
    });
}

/// A receiver that is killed while it waits takes none; one that is killed later, or times out,
/// lets go what it has.
#[test]
fn receivers_that_end() {
    within("receivers_that_end", || {
        everywhere(|| {
            let (a, b) = streams();
            b.set_read_timeout(Some(SHORT)).unwrap();
            let late = b.recv_with_fds(&mut [0], 1).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            b.set_read_timeout(None).unwrap();
            assert!(timeout(SHORT, || b.recv_with_fds(&mut [0], 1)).is_err());

            for _ in 0..50 {
                let waits = |n| {
                    let reads = b.clone();
                    let task = spawn(move || reads.recv_with_fds(&mut [0], 1));
                    until_waits(b.as_source(), n, 0);
                    task
                };
                let (killed, stays) = (waits(1), waits(2));
                let (mut lead, writer) = lead();
                a.send_with_fds(b"x", &[writer.as_fd()]).unwrap();
                killed.kill();
                if killed.join().is_ok() {
                    a.send_with_fds(b"x", &[writer.as_fd()]).unwrap();
                }
                drop(writer);
                let (_, got) = stays.join().unwrap().unwrap();
                lead.leads_to(&got[0]);
                drop(got);
                lead.end();
            }

            let (lead, writer) = lead();
            let reads = b.clone();
            let task = spawn(move || {
                let _got = reads.recv_with_fds(&mut [0], 1).unwrap();
                (&*reads).read_exact(&mut [0]).unwrap();
            });
            a.send_with_fds(b"x", &[writer.as_fd()]).unwrap();
            drop(writer);
            until_waits(b.as_source(), 1, 0);
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            lead.end();

            // Closed under a receiver.
            let reads = b.clone();
            let task = spawn(move || reads.recv_with_fds(&mut [0], 1).unwrap_err());
            until_waits(b.as_source(), 1, 0);
            b.close().unwrap();
            assert!(is_closed(&task.join().unwrap()));
        });
    });
}

/// A sender waits for room, and its descriptors go once.
#[test]
fn senders_wait_for_room() {
    within("senders_wait_for_room", || {
        everywhere(|| {
            let (a, b) = streams();
            let (lead, writer) = lead();
            let mut filled = 0;
            while let Ok(n) = a.try_write(&[0; 1000]) {
                filled += n;
            }
            a.set_write_timeout(Some(SHORT)).unwrap();
            let late = a.send_with_fds(b"x", &[writer.as_fd()]).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            a.set_write_timeout(None).unwrap();
            let sends = a.clone();
            let task = spawn(move || sends.send_with_fds(b"x", &[writer.as_fd()]).unwrap());
            until_waits(a.as_source(), 0, 1);
            let mut fds = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let (n, got) = b.recv_with_fds(&mut buffer, 1).unwrap();
                fds.extend(got);
                if n > filled {
                    break;
                }
                filled -= n;
            }
            assert_eq!((task.join().unwrap(), fds.len()), (1, 1));
            drop(fds);
            lead.end();
        });
    });
}

/// A ring of tasks hands connections on, each over the connection that came before.
#[test]
fn many_tasks() {
    within("many_tasks", || {
        everywhere(|| {
            let tasks: Vec<_> = (0..40)
                .map(|_| {
                    spawn(|| {
                        let (mut a, mut b) = streams();
                        for _ in 0..10 {
                            let (c, d) = streams();
                            let fds = [c.as_fd(), d.as_fd()];
                            let sends = a.clone();
                            sends.send_with_fds(b"next", &fds).unwrap();
                            drop((c, d));
                            let mut buffer = [0; 4];
                            let (_, got) = b.recv_with_fds(&mut buffer, 2).unwrap();
                            let mut ends = got.into_iter();
                            let mut end = || {
                                let fd = ends.next().unwrap();
                                Arc::new(UnixStream::try_from(fd).unwrap())
                            };
                            (a, b) = (end(), end());
                        }
                        (&*b).write_all(b"last").unwrap();
                        (&*a).read_exact(&mut [0; 4]).unwrap();
                    })
                })
                .collect();
            join_all(tasks).into_iter().for_each(Result::unwrap);
        });
    });
}

/// How many descriptors this process has.
fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// In a process that may have 64 descriptors: what does not fit is an error, and nothing is left.
#[test]
fn no_room_for_them() {
    const CHILD: &str = "SWARD_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let out = Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args([
                "no_room_for_them",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(said.contains("1 passed"), "{said}\n{errors}");
        return;
    }
    within("no_room_for_them", || {
        let (c, d) = UnixDatagram::pair().unwrap();
        let (lead, writer) = lead();
        let before = open();
        let fds: Vec<BorrowedFd<'_>> = (0..60).map(|_| writer.as_fd()).collect();
        for _ in 0..10 {
            let (a, b) = streams();
            a.send_with_fds(b"x", &fds[..40]).unwrap();
            let mut taken = Vec::new();
            while let Ok(file) = File::open("/dev/null") {
                taken.push(file);
            }
            taken.truncate(taken.len() - 20);
            let e = b.recv_with_fds(&mut [0], 60).unwrap_err();
            assert!(e.to_string().contains("ulimit -n"), "{e}");
            assert!(e.to_string().contains("the 20 that came are closed"), "{e}");
            drop((taken, a, b));
            assert_eq!(open(), before);
            c.send_with_fds(b"x", &fds[..40]).unwrap();
            let (_, got) = d.recv_with_fds(&mut [0], 40).unwrap();
            assert_eq!((got.len(), open()), (40, before + 40));
            drop(got);
            assert_eq!(open(), before);
        }
        drop(fds);
        drop(writer);
        lead.end();
    });
}
