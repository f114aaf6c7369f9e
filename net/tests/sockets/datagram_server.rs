//! Datagram servers: a handler for each datagram, in tasks and inline, and what is dropped.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{everywhere, runtime, until, within};
use sward_net::server::{DatagramServer, DatagramSocket, Responder, Serving};
use sward_runtime::io::{Direction, Limit, Source};
use sward_runtime::sync::{Event, ShortLock};
use sward_runtime::{current, park, yield_now};

const LONG: Duration = Duration::from_secs(50);

struct Socket(Source<UdpSocket>);

impl Socket {
    fn new() -> Self {
        Self(Source::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap())
    }

    fn recv(&self) -> Vec<u8> {
        let mut buffer = [0; 64];
        let (n, _) = self.recv_from(&mut buffer).unwrap();
        buffer[..n].to_vec()
    }
}

impl DatagramSocket for Socket {
    type Addr = SocketAddr;
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0
            .io(Direction::Read, Limit::NONE, |s| s.recv_from(buffer))
    }
    fn send_to(&self, bytes: &[u8], to: &SocketAddr) -> io::Result<usize> {
        self.0
            .io(Direction::Write, Limit::NONE, |s| s.send_to(bytes, to))
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}

fn server(inline: bool) -> DatagramServer<Socket> {
    let server = DatagramServer::new(Socket::new()).name("echo");
    if inline { server.inline() } else { server }
}

fn both(check: impl Fn(bool) + Send + Sync) {
    everywhere(|| [false, true].into_iter().for_each(&check));
}

#[test]
fn answers() {
    within("answers", || {
        both(|inline| {
            let serving = server(inline)
                .start(|bytes: &[u8], _, to: &Responder<'_, Socket>| to.reply(bytes).map(drop))
                .unwrap();
            let client = Socket::new();
            for n in 0..50 {
                client.send_to(&[n, n], &serving.local_addr()).unwrap();
                assert_eq!(client.recv(), [n, n]);
            }
            client.send_to(&[], &serving.local_addr()).unwrap();
            assert_eq!(client.recv(), []);
            until(|| serving.connections() == 0);
            let stats = serving.stats();
            assert_eq!(
                (stats.accepted, stats.finished, stats.dropped),
                (51, 51, 0),
                "{stats:?}"
            );
            assert_eq!(serving.stop(LONG).killed, 0);
            serving.join().unwrap();
        });
    });
}

#[test]
fn bad_handlers() {
    within("bad_handlers", || {
        both(|inline| {
            let told = Arc::new(AtomicUsize::new(0));
            let tells = told.clone();
            let serving = server(inline)
                .on_error(move |_| {
                    tells.fetch_add(1, SeqCst);
                })
                .start(move |bytes: &[u8], _, to: &Responder<'_, Socket>| {
                    match bytes {
                        b"p" => panic!("on purpose"),
                        b"k" => {
                            // Inline, that would be the server's own task.
                            if !inline {
                                current().kill();
                                yield_now();
                            }
                            Ok(())
                        }
                        b"e" => Err(io::Error::other("no such thing")),
                        _ => to.reply(b"fine").map(drop),
                    }
                })
                .unwrap();
            let client = Socket::new();
            for text in [b"p", b"e", b"k", b"p", b"o"] {
                client.send_to(text, &serving.local_addr()).unwrap();
            }
            assert_eq!(client.recv(), b"fine");
            until(|| serving.stats().accepted == 5 && serving.connections() == 0);
            let stats = serving.stats();
            let killed = u64::from(!inline);
            let ends = (stats.finished, stats.failed, stats.panicked, stats.killed);
            assert_eq!(ends, (2 - killed, 1, 2, killed), "{stats:?}");
            assert_eq!(told.load(SeqCst), 3);
            serving.stop(LONG);
        });
    });
}

#[test]
fn what_is_too_much_is_dropped() {
    within("what_is_too_much_is_dropped", || {
        everywhere(|| {
            let go = Arc::new(Event::new());
            let goes = go.clone();
            let serving = server(false)
                .max_tasks(2)
                .start(move |bytes: &[u8], _, to: &Responder<'_, Socket>| {
                    goes.wait();
                    to.reply(bytes).map(drop)
                })
                .unwrap();
            let client = Socket::new();
            for n in 0..10 {
                client.send_to(&[n], &serving.local_addr()).unwrap();
            }
            until(|| serving.stats().dropped == 8);
            assert_eq!(serving.connections(), 2);
            go.set();
            let mut answers = [client.recv(), client.recv()];
            answers.sort();
            assert_eq!(answers, [[0], [1]]);
            until(|| serving.connections() == 0);
            client.send_to(b"x", &serving.local_addr()).unwrap();
            assert_eq!(client.recv(), b"x");
            serving.stop(LONG);
        });
    });
}

#[test]
fn stops() {
    within("stops", || {
        both(|inline| {
            let begun = Arc::new(Event::new());
            let begins = begun.clone();
            let serving = server(inline)
                .start(move |_: &[u8], _, _: &Responder<'_, Socket>| {
                    begins.set();
                    park();
                })
                .unwrap();
            let client = Socket::new();
            client.send_to(b"x", &serving.local_addr()).unwrap();
            begun.wait();
            let stopped = serving.stop(Duration::from_millis(5));
            assert_eq!((stopped.killed, stopped.running), (1, 0));
            serving.join().unwrap();
        });
    });
}

#[test]
fn answers_during_a_stop() {
    within("answers_during_a_stop", || {
        everywhere(|| {
            let begun = Arc::new(Event::new());
            let begins = begun.clone();
            let server = server(false);
            let stopping = server.stopping();
            let serving = server
                .start(move |bytes: &[u8], _, to: &Responder<'_, Socket>| {
                    begins.set();
                    stopping.wait();
                    to.reply(bytes).map(drop)
                })
                .unwrap();
            let client = Socket::new();
            client.send_to(b"x", &serving.local_addr()).unwrap();
            begun.wait();
            assert_eq!(serving.stop(LONG).killed, 0);
            assert_eq!(client.recv(), b"x");
            // The port is free again.
            UdpSocket::bind(serving.local_addr()).unwrap();
        });
    });
}

#[test]
fn a_handler_stops_its_server() {
    within("a_handler_stops_its_server", || {
        both(|inline| {
            let serving = Arc::new(ShortLock::new(None::<Serving<SocketAddr>>));
            let itself = serving.clone();
            let started = server(inline)
                .start(move |_: &[u8], _, _: &Responder<'_, Socket>| {
                    let me = itself.lock().take().unwrap();
                    assert_eq!(me.stop(LONG).running, 1);
                })
                .unwrap();
            *serving.lock() = Some(started.clone());
            let client = Socket::new();
            client.send_to(b"x", &started.local_addr()).unwrap();
            started.join().unwrap();
            assert_eq!(started.stats().finished, 1);
        });
    });
}

#[test]
fn a_flood_leaves_others_their_turns() {
    within("a_flood_leaves_others_their_turns", || {
        runtime(1).run(|| {
            let socket = Socket::new();
            let address = socket.local_addr().unwrap();
            let client = Socket::new();
            for _ in 0..150 {
                client.send_to(b"x", &address).unwrap();
            }
            let server = DatagramServer::new(socket).max_datagram(16);
            let serving = server
                .start(|_: &[u8], _, _: &Responder<'_, Socket>| ())
                .unwrap();
            until(|| serving.stats().accepted == 150);
            // The large one is cut.
            client.send_to(&[0; 1000], &address).unwrap();
            until(|| serving.stats().finished == 151);
            serving.stop(LONG);
        });
    });
}
