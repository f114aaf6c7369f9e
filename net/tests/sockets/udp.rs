//! `UdpSocket`: datagrams keep their borders, none that came is lost to somebody who is killed, and
//! those who wait are served as they came.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{assert_in_line, everywhere, until, until_waits, within};
use sward_net::UdpSocket;
use sward_runtime::io::is_closed;
use sward_runtime::{join_all, spawn, timeout};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

fn socket() -> (Arc<UdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (Arc::new(socket), address)
}

type Late<'a> = &'a dyn Fn(&mut [u8]) -> std::io::Error;

fn recv(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 100];
    let n = socket.recv(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

#[test]
fn datagrams() {
    within("datagrams", || {
        everywhere(|| {
            let ((a, at_a), (b, at_b)) = (socket(), socket());
            let mut buffer = [0; 8];
            let none = b.try_recv_from(&mut buffer).unwrap_err();
            assert_eq!(none.kind(), ErrorKind::WouldBlock);

            assert_eq!(a.send_to(b"12345678", at_b).unwrap(), 8);
            assert_eq!(a.send_to(b"", at_b).unwrap(), 0);
            assert_eq!(a.send_to(b"0123456789", at_b.to_string()).unwrap(), 10);
            assert_eq!(b.peek_from(&mut buffer).unwrap(), (8, at_a));
            assert_eq!(b.peek(&mut buffer[..3]).unwrap(), 3);
            assert_eq!(b.recv_from(&mut buffer).unwrap(), (8, at_a));
            assert_eq!(&buffer, b"12345678");
            assert_eq!(b.recv_from(&mut buffer).unwrap(), (0, at_a));
            // Cut off in silence, as std's.
            assert_eq!(b.recv_from(&mut buffer).unwrap(), (8, at_a));
            assert_eq!(&buffer, b"01234567");
            assert!(b.try_recv(&mut buffer).is_err());

            assert_eq!(a.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            assert!(a.send(b"x").is_err());
            a.connect(at_b).unwrap();
            assert_eq!(a.peer_addr().unwrap(), at_b);
            assert_eq!(a.send(b"one").unwrap(), 3);
            assert_eq!(recv(&b), b"one");
            assert_eq!(a.try_send(b"two").unwrap(), 3);
            assert_eq!(recv(&b), b"two");
            // From elsewhere: dropped.
            let (c, at_c) = socket();
            c.send_to(b"not this", at_a).unwrap();
            assert_eq!(b.try_send_to(b"this", at_a).unwrap(), 4);
            assert_eq!(recv(&a), b"this");
            // Connected anew.
            a.connect(at_c).unwrap();
            c.send_to(b"now", at_a).unwrap();
            assert_eq!(recv(&a), b"now");
        });
    });
}

#[test]
fn those_who_wait_are_served_as_they_came() {
    within("those_who_wait_are_served_as_they_came", || {
        everywhere(|| {
            for one_by_one in [true, false] {
                let ((a, _), (b, at_b)) = (socket(), socket());
                let tasks: Vec<_> = (0..5)
                    .map(|i| {
                        let reads = b.clone();
                        let task = spawn(move || recv(&reads));
                        until_waits(b.as_source(), i + 1, 0);
                        task
                    })
                    .collect();
                for i in 0..5_u8 {
                    a.send_to(&[i], at_b).unwrap();
                    if one_by_one {
                        until_waits(b.as_source(), 4 - usize::from(i), 0);
                    }
                }
                let got: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
                assert_in_line(got, (0..5).map(|i| vec![i]).collect());
            }
        });
    });
}

/// Who is killed or timed out in the middle of a line takes nothing with it.
#[test]
fn ends_in_the_middle() {
    within("ends_in_the_middle", || {
        everywhere(|| {
            let ((a, _), (b, at_b)) = (socket(), socket());
            let wait = |n| {
                let reads = b.clone();
                let task = spawn(move || recv(&reads));
                until_waits(b.as_source(), n, 0);
                task
            };
            let (killed, stays) = (wait(1), wait(2));
            let reads = b.clone();
            let timed = spawn(move || timeout(SHORT, || recv(&reads)));
            assert!(timed.join().unwrap().is_err());
            killed.kill();
            assert!(killed.join().unwrap_err().is_killed());
            a.send_to(b"kept", at_b).unwrap();
            assert_eq!(stays.join().unwrap(), b"kept");

            // Killed while the datagram is there already.
            for i in 0..50_u8 {
                let (killed, stays) = (wait(1), wait(2));
                a.send_to(&[i], at_b).unwrap();
                killed.kill();
                let first = killed.join();
                if first.is_ok() {
                    a.send_to(&[i], at_b).unwrap();
                }
                assert_eq!(stays.join().unwrap(), [i]);
            }
        });
    });
}

#[test]
fn time_outs() {
    within("time_outs", || {
        everywhere(|| {
            let (a, at_a) = socket();
            assert!(a.set_read_timeout(Some(Duration::ZERO)).is_err());
            a.set_read_timeout(Some(SHORT)).unwrap();
            a.set_write_timeout(Some(LONG)).unwrap();
            assert_eq!(a.read_timeout().unwrap(), Some(SHORT));
            assert_eq!(a.write_timeout().unwrap(), Some(LONG));
            let mut buffer = [0; 4];
            let late: [Late<'_>; 4] = [
                &|b| a.recv_from(b).unwrap_err(),
                &|b| a.recv(b).unwrap_err(),
                &|b| a.peek(b).unwrap_err(),
                &|b| a.peek_from(b).unwrap_err(),
            ];
            for late in late {
                let begun = Instant::now();
                assert_eq!(late(&mut buffer).kind(), ErrorKind::TimedOut);
                assert!(begun.elapsed() >= SHORT);
            }
            a.set_read_timeout(None).unwrap();
            a.send_to(b"x", at_a).unwrap();
            assert_eq!(recv(&a), b"x");
            assert!(timeout(SHORT, || recv(&a)).is_err());
        });
    });
}

#[test]
fn close_wakes_those_who_wait() {
    within("close_wakes_those_who_wait", || {
        everywhere(|| {
            let (a, at_a) = socket();
            let clone = a.try_clone().unwrap();
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let reads = a.clone();
                    spawn(move || reads.recv_from(&mut [0; 4]).unwrap_err())
                })
                .collect();
            until_waits(a.as_source(), 3, 0);
            a.close().unwrap();
            for e in join_all(tasks) {
                assert!(is_closed(&e.unwrap()));
            }
            assert!(is_closed(&a.send_to(b"x", at_a).unwrap_err()));
            assert!(is_closed(&a.try_recv(&mut [0]).unwrap_err()));
            a.close().unwrap();
            // The clone leads to the same socket.
            clone.send_to(b"x", at_a).unwrap();
            assert_eq!(recv(&clone), b"x");
            drop(clone);
            // The port is free, though the closed one lives.
            UdpSocket::bind(at_a).unwrap();
        });
    });
}

/// The answer that nobody is there reaches who waits, and costs nothing else.
#[test]
fn a_peer_that_is_not_there() {
    within("a_peer_that_is_not_there", || {
        everywhere(|| {
            let ((a, at_a), (gone, at_gone)) = (socket(), socket());
            drop(gone);
            a.connect(at_gone).unwrap();
            let reads = a.clone();
            let task = spawn(move || reads.recv(&mut [0; 4]).unwrap_err());
            until_waits(a.as_source(), 1, 0);
            a.send(b"x").unwrap();
            assert_eq!(task.join().unwrap().kind(), ErrorKind::ConnectionRefused);

            a.send(b"x").unwrap();
            let refused = a.send(b"x").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let Ok(back) = UdpSocket::bind(at_gone) else {
                return; // somebody else has the port
            };
            a.send(b"hello").unwrap();
            assert_eq!(recv(&back), b"hello");
            back.send_to(b"there", at_a).unwrap();
            assert_eq!(recv(&a), b"there");
            assert!(a.take_error().unwrap().is_none());
        });
    });
}

/// One socket, several tasks that answer on it, many that ask; tasks of both kinds and a thread.
#[test]
fn many_tasks() {
    within("many_tasks", || {
        everywhere(|| {
            let (server, at) = socket();
            let answers: Vec<_> = (0..4)
                .map(|_| {
                    let socket = server.clone();
                    spawn(move || {
                        let mut buffer = [0; 100];
                        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                            buffer[..n].reverse();
                            socket.send_to(&buffer[..n], from).unwrap();
                        }
                    })
                })
                .collect();
            let ask = move |i: u32| {
                let (socket, _) = socket();
                socket.connect(at).unwrap();
                for k in 0..20_u32 {
                    let mut asked = [i.to_le_bytes(), k.to_le_bytes()].concat();
                    socket.send(&asked).unwrap();
                    asked.reverse();
                    assert_eq!(recv(&socket), asked);
                }
            };
            let thread = std::thread::spawn(move || ask(1000));
            let tasks: Vec<_> = (0..50).map(|i| spawn(move || ask(i))).collect();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            until(|| thread.is_finished());
            thread.join().unwrap();
            server.close().unwrap();
            join_all(answers).into_iter().for_each(Result::unwrap);
        });
    });
}

#[test]
fn misuse() {
    within("misuse", || {
        let (a, at_a) = socket();
        let e = a.send_to(b"x", &[][..]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        let e = a.connect(&[][..]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        let e = UdpSocket::bind(at_a).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AddrInUse);
        assert!(e.to_string().contains(&at_a.to_string()), "{e}");
        let e = a.send_to(&[0; 70_000], at_a).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(90), "{e}"); // EMSGSIZE
        // The first address that can be had.
        let b = UdpSocket::bind(&[at_a, "127.0.0.1:0".parse().unwrap()][..]).unwrap();
        assert_ne!(b.local_addr().unwrap(), at_a);
    });
}

#[test]
fn options() {
    within("options", || {
        let (a, _) = socket();
        for on in [true, false] {
            a.set_broadcast(on).unwrap();
            a.set_multicast_loop_v4(on).unwrap();
            assert_eq!(a.broadcast().unwrap(), on);
            assert_eq!(a.multicast_loop_v4().unwrap(), on);
        }
        a.set_ttl(42).unwrap();
        a.set_multicast_ttl_v4(7).unwrap();
        assert_eq!(a.ttl().unwrap(), 42);
        assert_eq!(a.multicast_ttl_v4().unwrap(), 7);
        let (group, on) = (Ipv4Addr::new(239, 1, 2, 3), Ipv4Addr::LOCALHOST);
        a.join_multicast_v4(&group, &on).unwrap();
        assert!(a.join_multicast_v4(&group, &on).is_err());
        a.leave_multicast_v4(&group, &on).unwrap();
        assert!(a.leave_multicast_v4(&group, &on).is_err());
        if let Ok(six) = UdpSocket::bind("[::1]:0") {
            six.set_multicast_loop_v6(false).unwrap();
            assert!(!six.multicast_loop_v6().unwrap());
        }
    });
}

#[test]
fn conversions() {
    within("conversions", || {
        everywhere(|| {
            let std = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let ours = UdpSocket::from_std(std).unwrap();
            ours.set_read_timeout(Some(SHORT)).unwrap();
            let clone = ours.try_clone().unwrap();
            assert_eq!(clone.read_timeout().unwrap(), Some(SHORT));
            assert_ne!(clone.as_raw_fd(), ours.as_raw_fd());
            assert!(format!("{ours:?}").starts_with("UdpSocket"));
            let std = ours.into_std().unwrap();
            // Blocking again: it waits for its time-out.
            std.set_read_timeout(Some(SHORT)).unwrap();
            let begun = Instant::now();
            assert!(std.recv(&mut [0]).is_err() && begun.elapsed() >= SHORT);
            let again = UdpSocket::try_from(OwnedFd::from(std)).unwrap();
            assert!(again.try_recv(&mut [0]).is_err());
        });
        fn shared<T: Send + Sync>() {}
        shared::<UdpSocket>();
    });
}
