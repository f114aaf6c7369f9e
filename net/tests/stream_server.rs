//! Stream servers: what handlers do to the server (nothing), limits, stops, and a listener that
//! fails.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

mod common;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{assert_passed, everywhere, is_child, rerun, runtime, until, within};
use sward_net::server::{Listener, ServerStats, Serving, StreamServer, Trouble};
use sward_net::{TcpListener, TcpStream};
use sward_runtime::sync::{Event, Semaphore, ShortLock};
use sward_runtime::{Runtime, current, join_all, park, sleep, spawn, stats, timeout, yield_now};

const LONG: Duration = Duration::from_secs(50);

fn local() -> StreamServer<TcpListener> {
    StreamServer::bind("127.0.0.1:0").unwrap()
}

/// A server that sends back what it gets.
fn echo(stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match (&mut &*stream).read(&mut buffer)? {
            0 => return Ok(()),
            n => (&mut &*stream).write_all(&buffer[..n])?,
        }
    }
}

fn ask(stream: &TcpStream, byte: u8) -> io::Result<u8> {
    let mut answer = [0];
    (&mut &*stream).write_all(&[byte])?;
    (&mut &*stream).read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Reads until the other side closes; a reset counts as that.
fn to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

fn connect(serving: &Serving<SocketAddr>) -> TcpStream {
    TcpStream::connect(serving.local_addr()).unwrap()
}

fn is_refused(serving: &Serving<SocketAddr>) -> bool {
    TcpStream::connect(serving.local_addr())
        .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn serves_and_stops() {
    within("serves_and_stops", || {
        everywhere(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            assert_ne!(serving.local_addr().port(), 0);
            let tasks = (0..50).map(|i| {
                let serving = serving.clone();
                spawn(move || {
                    let stream = connect(&serving);
                    (0..20).for_each(|n| assert_eq!(ask(&stream, n ^ i).unwrap(), n ^ i));
                })
            });
            let tasks: Vec<_> = tasks.collect();
            join_all(tasks).into_iter().for_each(|r| r.unwrap());
            let stopped = serving.stop(LONG);
            assert_eq!((stopped.killed, stopped.running), (0, 0));
            let stats = serving.stats();
            assert_eq!(
                (stats.accepted, stats.finished, stats.active),
                (50, 50, 0),
                "{stats:?}"
            );
            assert!(is_refused(&serving));
            serving.join().unwrap();
            assert_eq!(serving.stop(LONG), Default::default());
            serving.start_accepting();
            assert!(is_refused(&serving));
        });
    });
}

#[test]
fn bad_handlers_cost_their_own_connection() {
    within("bad_handlers_cost_their_own_connection", || {
        everywhere(|| {
            let told = Arc::new(ShortLock::new(Vec::new()));
            let tells = told.clone();
            let server = local().on_error(move |trouble| {
                let text = trouble.to_string();
                tells.lock().push(text);
                if matches!(trouble, Trouble::Failed { .. }) {
                    panic!("on_error panics");
                }
            });
            let serving = server
                .start(|mut stream: TcpStream, _peer| {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    match byte[0] {
                        b'p' => panic!("on purpose"),
                        b'k' => {
                            current().kill();
                            yield_now();
                        }
                        b'e' => return Err(io::Error::other("no such thing")),
                        _ => {}
                    }
                    stream.write_all(b"fine")
                })
                .unwrap();
            let old = connect(&serving);
            for byte in *b"pekpek" {
                let mut stream = connect(&serving);
                stream.write_all(&[byte]).unwrap();
                assert_eq!(to_end(stream), b"");
            }
            (&old).write_all(b"x").unwrap();
            assert_eq!(to_end(old), b"fine");
            until(|| serving.connections() == 0);
            let stats = serving.stats();
            let ends = (stats.finished, stats.failed, stats.panicked, stats.killed);
            assert_eq!(ends, (1, 2, 2, 2), "{stats:?}");
            until(|| told.lock().len() == 4);
            let told = told.lock().clone();
            let having = |text: &str| told.iter().filter(|t| t.contains(text)).count();
            assert_eq!(
                (having("on purpose"), having("no such thing")),
                (2, 2),
                "{told:?}"
            );
            assert_eq!(having("connection from 127.0.0.1:"), 4, "{told:?}");
            serving.stop(LONG);
        });
    });
}

#[test]
fn a_full_server_lets_others_wait() {
    within("a_full_server_lets_others_wait", || {
        everywhere(|| {
            for limit in [1, 2, 5] {
                let go = Arc::new(Semaphore::new(0));
                let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let (goes, peak, running) = (go.clone(), most.clone(), now.clone());
                let serving = local()
                    .max_connections(limit)
                    .start(move |mut stream: TcpStream, _| {
                        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        goes.acquire().unwrap().forget();
                        now.fetch_sub(1, SeqCst);
                        stream.write_all(b"x")
                    })
                    .unwrap();
                // All can connect; the first ones are served.
                let mut clients: VecDeque<_> = (0..20).map(|_| connect(&serving)).collect();
                until(|| running.load(SeqCst) == limit);
                while !clients.is_empty() {
                    assert!(serving.connections() <= limit);
                    go.add_permits(1);
                    // With a limit of one, in the order in which they came.
                    if limit == 1 {
                        assert_eq!(to_end(clients.pop_front().unwrap()), b"x");
                    } else {
                        let left = clients.len() as u64;
                        until(|| serving.stats().finished == 21 - left);
                        clients.pop_front();
                    }
                    let left = clients.len();
                    until(|| serving.connections() == limit.min(left));
                }
                assert_eq!(most.load(SeqCst), limit);
                assert_eq!(serving.stop(LONG).killed, 0);
            }
        });
    });
}

#[test]
fn stop_lets_handlers_finish_then_kills() {
    within("stop_lets_handlers_finish_then_kills", || {
        everywhere(|| {
            let go = Arc::new(Event::new());
            let goes = go.clone();
            let serving = local()
                .start(move |stream: TcpStream, _| {
                    match ask(&stream, b'?')? {
                        b'f' => goes.wait(),
                        _ => park(),
                    }
                    (&mut &stream).write_all(b"bye")
                })
                .unwrap();
            let clients: Vec<_> = (0..30).map(|_| connect(&serving)).collect();
            for (i, mut client) in clients.iter().enumerate() {
                client.read_exact(&mut [0]).unwrap();
                client
                    .write_all(if i % 3 == 0 { b"f" } else { b"h" })
                    .unwrap();
            }
            let stopper = serving.clone();
            let stop = spawn(move || stopper.stop(Duration::from_millis(300)));
            until(|| is_refused(&serving));
            go.set();
            for (i, client) in clients.into_iter().enumerate() {
                assert_eq!(
                    to_end(client),
                    if i % 3 == 0 { b"bye".to_vec() } else { vec![] }
                );
            }
            let stopped = stop.join().unwrap();
            // What asked whether it refuses may have been accepted too.
            let others = serving.stats().accepted - 20;
            assert!(others >= 10 && stopped.finished <= others, "{stopped:?}");
            assert_eq!((stopped.killed, stopped.running), (20, 0));
            serving.join().unwrap();
        });
    });
}

#[test]
fn stop_under_load() {
    within("stop_under_load", || {
        for workers in [1, 2] {
            for round in 0..5 {
                runtime(workers).run(|| {
                    let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
                    let clients = (0..20).map(|_| {
                        let serving = serving.clone();
                        spawn(move || {
                            while let Ok(stream) = TcpStream::connect(serving.local_addr()) {
                                for n in 0..3 {
                                    if ask(&stream, n).is_err() {
                                        return;
                                    }
                                }
                            }
                        })
                    });
                    let clients: Vec<_> = clients.collect();
                    until(|| serving.stats().accepted > 100 * round);
                    let grace = Duration::from_millis(5 * (round % 2));
                    let stops = (0..3).map(|_| {
                        let serving = serving.clone();
                        spawn(move || serving.stop(grace))
                    });
                    let stops: Vec<_> = stops.collect();
                    for stop in stops {
                        assert_eq!(stop.join().unwrap().running, 0);
                    }
                    let stats = serving.stats();
                    let ends = stats.finished + stats.failed + stats.killed;
                    assert_eq!((stats.accepted, stats.active), (ends, 0), "{stats:?}");
                    join_all(clients).into_iter().for_each(|r| r.unwrap());
                });
            }
        }
    });
}

#[test]
fn a_handler_stops_its_server() {
    within("a_handler_stops_its_server", || {
        everywhere(|| {
            for stoppers in [1, 3] {
                let serving = Arc::new(ShortLock::new(None::<Serving<SocketAddr>>));
                let itself = serving.clone();
                let started = local()
                    .start(move |stream: TcpStream, _| {
                        if ask(&stream, b'?').unwrap() == b's' {
                            let me = itself.lock().clone().unwrap();
                            let stopped = me.stop(Duration::ZERO);
                            assert!(stopped.running >= 1, "{stopped:?}");
                            (&mut &stream).write_all(b"stopped").unwrap();
                        } else {
                            park();
                        }
                    })
                    .unwrap();
                *serving.lock() = Some(started.clone());
                let clients: Vec<_> = (0..4 + stoppers).map(|_| connect(&started)).collect();
                for mut client in &clients {
                    client.read_exact(&mut [0]).unwrap();
                }
                for (i, mut client) in clients.iter().enumerate() {
                    client
                        .write_all(if i < stoppers { b"s" } else { b"h" })
                        .unwrap();
                }
                let texts: Vec<_> = clients.into_iter().map(to_end).collect();
                // Those that came late may have been killed before they stopped it.
                assert!(texts.iter().any(|t| t == b"stopped"), "{texts:?}");
                assert!(texts[stoppers..].iter().all(Vec::is_empty), "{texts:?}");
                started.join().unwrap();
                let stats = started.stats();
                assert_eq!((stats.panicked, stats.active), (0, 0), "{stats:?}");
                assert!(is_refused(&started));
                *serving.lock() = None;
            }
        });
    });
}

#[test]
fn a_handler_may_not_join_its_server() {
    within("a_handler_may_not_join_its_server", || {
        let serving = Arc::new(ShortLock::new(None::<Serving<SocketAddr>>));
        let itself = serving.clone();
        let started = local()
            .start(move |mut stream: TcpStream, _| {
                stream.read_exact(&mut [0]).unwrap();
                let me = itself.lock().clone().unwrap();
                me.join().unwrap();
            })
            .unwrap();
        *serving.lock() = Some(started.clone());
        connect(&started).write_all(b"x").unwrap();
        until(|| started.stats().panicked == 1);
        started.stop(LONG);
    });
}

#[test]
fn a_stop_in_a_destructor_that_unwinds() {
    within("a_stop_in_a_destructor_that_unwinds", || {
        struct Stops(Serving<SocketAddr>);
        impl Drop for Stops {
            fn drop(&mut self) {
                let begun = Instant::now();
                assert_eq!(self.0.stop(Duration::from_millis(20)).running, 1);
                assert!(self.0.join().is_ok() && begun.elapsed() < Duration::from_secs(10));
            }
        }
        everywhere(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            let client = connect(&serving);
            assert_eq!(ask(&client, 1).unwrap(), 1);
            let stops = Stops(serving.clone());
            let task = spawn(move || {
                let _stops = stops;
                panic!("on purpose");
            });
            assert!(task.join().unwrap_err().panic_message().is_some());
            assert!(is_refused(&serving));
            assert_eq!(to_end(client), b"");
            serving.join().unwrap();
            assert_eq!(serving.stats().killed, 1);
        });
    });
}

#[test]
fn a_stop_that_is_interrupted() {
    within("a_stop_that_is_interrupted", || {
        everywhere(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            let client = connect(&serving);
            assert_eq!(ask(&client, 1).unwrap(), 1);
            assert!(timeout(Duration::from_millis(2), || serving.stop(LONG)).is_err());
            assert!(timeout(Duration::from_millis(2), || serving.join()).is_err());
            assert!(is_refused(&serving));
            assert_eq!(ask(&client, 2).unwrap(), 2);
            assert_eq!(serving.stop(Duration::ZERO).killed, 1);
        });
    });
}

#[test]
fn a_pause() {
    within("a_pause", || {
        everywhere(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            let old = connect(&serving);
            for _ in 0..20 {
                assert_eq!(ask(&old, 1).unwrap(), 1);
                serving.stop_accepting();
                serving.stop_accepting();
                let before = serving.stats().accepted;
                let new = connect(&serving);
                new.set_read_timeout(Some(Duration::from_millis(3)))
                    .unwrap();
                assert_eq!(ask(&new, 2).unwrap_err().kind(), io::ErrorKind::TimedOut);
                assert_eq!(serving.stats().accepted, before);
                assert_eq!(ask(&old, 3).unwrap(), 3);
                serving.start_accepting();
                new.set_read_timeout(None).unwrap();
                assert_eq!(
                    {
                        let mut b = [0];
                        (&new).read_exact(&mut b).unwrap();
                        b[0]
                    },
                    2
                );
            }
            serving.stop_accepting();
            drop(old);
            assert_eq!(serving.stop(LONG).killed, 0);
        });
    });
}

#[test]
fn a_pause_does_not_spin() {
    within("a_pause_does_not_spin", || {
        runtime(1).run(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            assert_eq!(ask(&connect(&serving), 1).unwrap(), 1);
            serving.stop_accepting();
            let before = stats().switches;
            sleep(Duration::from_millis(20));
            let switches = stats().switches - before;
            assert!(switches < 50, "{switches}");
            serving.stop(LONG);
        });
    });
}

#[test]
fn pauses_from_everywhere() {
    within("pauses_from_everywhere", || {
        runtime(2).run(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            let togglers = (0..4).map(|_| {
                let serving = serving.clone();
                spawn(move || {
                    for _ in 0..200 {
                        serving.stop_accepting();
                        yield_now();
                        serving.start_accepting();
                        yield_now();
                    }
                })
            });
            let togglers: Vec<_> = togglers.collect();
            for n in 0..200 {
                assert_eq!(ask(&connect(&serving), n).unwrap(), n);
            }
            join_all(togglers).into_iter().for_each(|r| r.unwrap());
            assert_eq!(ask(&connect(&serving), 9).unwrap(), 9);
            let stats = serving.stats();
            assert_eq!((stats.accepted, stats.lost), (201, 0));
            serving.stop(LONG);
        });
    });
}

#[test]
fn a_thousand_at_once() {
    within("a_thousand_at_once", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
                let clients: Vec<_> = (0..1000).map(|_| connect(&serving)).collect();
                for (i, mut client) in clients.iter().enumerate() {
                    client.write_all(&[i as u8]).unwrap();
                }
                for (i, mut client) in clients.iter().enumerate() {
                    let mut byte = [0];
                    client.read_exact(&mut byte).unwrap();
                    assert_eq!(byte[0], i as u8);
                }
                assert_eq!(serving.connections(), 1000);
                assert_eq!(serving.stop(Duration::ZERO).killed, 1000);
                assert!(clients.into_iter().all(|c| to_end(c).is_empty()));
            });
        }
    });
}

#[test]
fn connections_are_spread() {
    within("connections_are_spread", || {
        runtime(2).run(|| {
            let serving = local()
                .start(|stream: TcpStream, _| {
                    let name = std::thread::current().name().unwrap().to_owned();
                    (&mut &stream).write_all(&name.as_bytes()[name.len() - 1..])?;
                    echo(&stream)
                })
                .unwrap();
            let mut each = [0; 2];
            let clients: Vec<_> = (0..10).map(|_| connect(&serving)).collect();
            for mut client in &clients {
                let mut worker = [0];
                client.read_exact(&mut worker).unwrap();
                each[usize::from(worker[0] - b'0')] += 1;
            }
            assert_eq!(each, [5, 5]);
            serving.stop(Duration::ZERO);
        });
    });
}

#[test]
fn a_flood_leaves_others_their_turns() {
    within("a_flood_leaves_others_their_turns", || {
        runtime(1).run(|| {
            let server = local();
            let address = server.listener().local_addr().unwrap();
            let clients: Vec<_> = (0..2000)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let serving = server.start(|_: TcpStream, _| ()).unwrap();
            let (mut before, mut most) = (0, 0);
            while before < 2000 {
                yield_now();
                let now = serving.stats().accepted;
                most = most.max(now - before);
                before = now;
            }
            println!("at most {most} accepted between two turns of another task");
            assert!(most <= 256, "{most}");
            drop(clients);
            serving.stop(LONG);
        });
    });
}

#[test]
fn many_servers() {
    within("many_servers", || {
        runtime(2).run(|| {
            let servers = (0..50).map(|_| local().start(|s: TcpStream, _| echo(&s)).unwrap());
            let servers: Vec<_> = servers.collect();
            let clients: Vec<_> = servers.iter().map(connect).collect();
            for (i, client) in clients.iter().enumerate() {
                assert_eq!(ask(client, i as u8).unwrap(), i as u8);
            }
            drop(clients);
            for serving in servers {
                assert_eq!(serving.stop(LONG).killed, 0);
            }
        });
    });
}

#[test]
fn a_dropped_serving_goes_on() {
    within("a_dropped_serving_goes_on", || {
        // On an ordinary thread too: the default runtime serves then.
        everywhere(|| {
            let serving = local().start(|s: TcpStream, _| echo(&s)).unwrap();
            let address = serving.local_addr();
            drop(serving);
            let stream = TcpStream::connect(address).unwrap();
            assert_eq!(ask(&stream, 7).unwrap(), 7);
        });
    });
}

#[test]
fn the_runtime_ends() {
    within("the_runtime_ends", || {
        let runtime = runtime(2);
        let serving = runtime.run(|| local().start(|s: TcpStream, _| echo(&s)).unwrap());
        let client = connect(&serving);
        assert_eq!(ask(&client, 7).unwrap(), 7);
        drop(runtime);
        let error = serving.join().unwrap_err();
        assert!(error.to_string().contains("runtime ended"), "{error}");
        assert_eq!(to_end(client), b"");
        assert!(is_refused(&serving));
        assert_eq!(serving.stop(LONG), Default::default());
        assert_eq!(serving.stats().killed, 1);
    });
}

#[test]
fn serve_forever() {
    within("serve_forever", || {
        everywhere(|| {
            let server = local();
            let address = server.listener().local_addr().unwrap();
            let task = spawn(move || server.serve_forever(|s: TcpStream, _| echo(&s)));
            let client = TcpStream::connect(address).unwrap();
            assert_eq!(ask(&client, 7).unwrap(), 7);
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(to_end(client), b"");
            until(|| TcpStream::connect(address).is_err());
        });
    });
}

/// A listener that fails as it is told, and then waits until it is closed.
struct Scripted {
    script: ShortLock<VecDeque<i32>>,
    inner: TcpListener,
}

impl Listener for Scripted {
    type Stream = TcpStream;
    type Addr = SocketAddr;
    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let next = self.script.lock().pop_front();
        match next {
            Some(-1) => panic!("the listener panics"),
            Some(0) | None => self.inner.accept(),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

fn scripted(script: &[i32]) -> StreamServer<Scripted> {
    let script = ShortLock::new(script.iter().copied().collect());
    local().wrap(|inner| Scripted { script, inner })
}

const EBADF: i32 = 9;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOTSOCK: i32 = 88;
const ECONNABORTED: i32 = 103;
const ENOBUFS: i32 = 105;
const EHOSTUNREACH: i32 = 113;

#[test]
fn lost_connections_are_skipped() {
    within("lost_connections_are_skipped", || {
        everywhere(|| {
            let serving = scripted(&[ECONNABORTED, 0, EHOSTUNREACH, ECONNABORTED])
                .start(|s: TcpStream, _| echo(&s))
                .unwrap();
            for n in 0..4 {
                assert_eq!(ask(&connect(&serving), n).unwrap(), n);
            }
            let stats = serving.stats();
            assert_eq!(
                (stats.lost, stats.exhausted, stats.accepted),
                (3, 0, 4),
                "{stats:?}"
            );
            serving.stop(LONG);
        });
    });
}

#[test]
fn a_listener_that_only_fails_does_not_spin() {
    within("a_listener_that_only_fails_does_not_spin", || {
        runtime(1).run(|| {
            let serving = scripted(&[EHOSTUNREACH; 1000])
                .start(|_: TcpStream, _| ())
                .unwrap();
            sleep(Duration::from_millis(40));
            let lost = serving.stats().lost;
            assert!((16..=20).contains(&lost), "{lost}");
            // A rest is no obstacle to a stop.
            let begun = Instant::now();
            serving.stop(LONG);
            assert!(begun.elapsed() < Duration::from_secs(10));
        });
    });
}

#[test]
fn exhaustion_is_told_once_and_rests() {
    within("exhaustion_is_told_once_and_rests", || {
        everywhere(|| {
            let told = Arc::new(AtomicUsize::new(0));
            let tells = told.clone();
            let serving = scripted(&[EMFILE, ENFILE, ENOBUFS, 0, ENOMEM])
                .on_error(move |t| {
                    assert!(matches!(t, Trouble::Exhausted(_)));
                    tells.fetch_add(1, SeqCst);
                })
                .start(|s: TcpStream, _| echo(&s))
                .unwrap();
            let begun = Instant::now();
            assert_eq!(ask(&connect(&serving), 1).unwrap(), 1);
            assert!(begun.elapsed() >= Duration::from_millis(60));
            assert_eq!(ask(&connect(&serving), 2).unwrap(), 2);
            assert_eq!((told.load(SeqCst), serving.stats().exhausted), (2, 4));
            serving.stop(LONG);
        });
    });
}

#[test]
fn a_useless_listener_ends_the_server() {
    within("a_useless_listener_ends_the_server", || {
        everywhere(|| {
            for code in [EBADF, EINVAL, ENOTSOCK, -1] {
                let told = Arc::new(AtomicUsize::new(0));
                let tells = told.clone();
                let serving = scripted(&[0, code])
                    .on_error(move |t| {
                        assert!(matches!(t, Trouble::Fatal(_)));
                        tells.fetch_add(1, SeqCst);
                    })
                    .start(|s: TcpStream, _| echo(&s))
                    .unwrap();
                let old = connect(&serving);
                let error = serving.join().unwrap_err();
                assert_eq!(serving.join().unwrap_err().to_string(), error.to_string());
                assert_eq!(told.load(SeqCst), usize::from(code > 0), "{error}");
                assert!(is_refused(&serving));
                assert_eq!(ask(&old, 7).unwrap(), 7);
                assert_eq!(serving.stop(Duration::ZERO).killed, 1);
            }
            let ended = scripted(&[EBADF]).serve_forever(|_: TcpStream, _| ());
            assert!(ended.is_err());
        });
    });
}

#[test]
fn on_error_stops_the_server() {
    within("on_error_stops_the_server", || {
        everywhere(|| {
            let serving = Arc::new(ShortLock::new(None::<Serving<SocketAddr>>));
            let itself = serving.clone();
            let ready = Arc::new(Event::new());
            let wait = ready.clone();
            let started = scripted(&[0, EMFILE])
                .on_error(move |_| {
                    wait.wait();
                    let me = itself.lock().take().unwrap();
                    assert_eq!(me.stop(Duration::ZERO).killed, 1);
                })
                .start(|s: TcpStream, _| echo(&s))
                .unwrap();
            *serving.lock() = Some(started.clone());
            let client = connect(&started);
            assert_eq!(ask(&client, 7).unwrap(), 7);
            ready.set();
            started.join().unwrap();
            assert_eq!(to_end(client), b"");
        });
    });
}

#[test]
fn stacks_run_out() {
    within("stacks_run_out", || {
        // For this task, the acceptor, and two handlers.
        let runtime = Runtime::builder().workers(1).max_stacks(4).build().unwrap();
        runtime.run(|| {
            let serving = local()
                .max_connections(3)
                .on_error(|t| assert!(matches!(t, Trouble::Exhausted(_)), "{t}"))
                .start(|s: TcpStream, _| echo(&s))
                .unwrap();
            let old = [connect(&serving), connect(&serving)];
            for client in &old {
                assert_eq!(ask(client, 1).unwrap(), 1);
            }
            for _ in 0..5 {
                assert_eq!(to_end(connect(&serving)), b"");
            }
            let stats = serving.stats();
            let counts = (stats.accepted, stats.exhausted, stats.killed, stats.lost);
            assert_eq!(counts, (2, 5, 0, 0), "{stats:?}");
            drop(old);
            until(|| serving.connections() == 0);
            assert_eq!(ask(&connect(&serving), 2).unwrap(), 2);
            serving.stop(LONG);
        });
    });
}

#[test]
fn descriptors_run_out() {
    if !is_child() {
        return assert_passed(&rerun("descriptors_run_out"));
    }
    within("descriptors_run_out", || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let told = Arc::new(AtomicUsize::new(0));
        let tells = told.clone();
        let serving = local()
            .on_error(move |trouble| {
                assert!(matches!(trouble, Trouble::Exhausted(_)), "{trouble}");
                assert!(trouble.to_string().contains("ulimit -n"), "{trouble}");
                tells.fetch_add(1, SeqCst);
            })
            .start(|s: TcpStream, _| echo(&s))
            .unwrap();
        let old = connect(&serving);
        assert_eq!(ask(&old, 1).unwrap(), 1);
        // The socket of the client is there before the limit; it takes no more.
        let socket = |_| {
            use rustix::net::{AddressFamily, SocketType, socket};
            socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
        };
        let sockets: Vec<_> = (0..2).map(socket).collect();
        let old_limit = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(3),
            maximum: old_limit.maximum,
        };
        setrlimit(Resource::Nofile, none).unwrap();
        for socket in &sockets {
            rustix::net::connect(socket, &serving.local_addr()).unwrap();
        }
        until(|| serving.stats().exhausted >= 2);
        assert_eq!(ask(&old, 2).unwrap(), 2);
        assert_eq!(serving.connections(), 1);
        setrlimit(Resource::Nofile, old_limit).unwrap();
        for socket in sockets {
            let stream = TcpStream::try_from(socket).unwrap();
            assert_eq!(ask(&stream, 3).unwrap(), 3);
        }
        assert_eq!(told.load(SeqCst), 1);
        until(|| serving.connections() == 1);
        let ServerStats {
            accepted, finished, ..
        } = serving.stats();
        assert_eq!((accepted, finished), (3, 2));
        serving.stop(Duration::ZERO);
        assert_eq!(to_end(old), b"");
    });
}
