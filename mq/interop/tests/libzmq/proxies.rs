//! Proxies in the middle: ours and libzmq's, between clients and servers of both libraries.

use std::thread::JoinHandle;

use sward_mq::{Context, Proxy, ProxyHandle, ProxyStatistics};

use crate::support::ours::Sward;
use crate::support::{Kind, Library, Sock, Socket, Transport, World, beside, settle, within};
use crate::theirs::{Libzmq, kind_of};
use crate::{Who, library};

use Kind::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub};

/// A running proxy, both of whose ends are bound.
struct Middle {
    front: String,
    back: String,
    running: Running,
}

enum Running {
    Ours(Option<ProxyHandle>),
    Theirs(Option<JoinHandle<()>>, zmq::Socket),
}

impl Middle {
    fn start(w: &World, who: Who, front: Kind, back: Kind) -> Self {
        let endpoints = [w.wildcard(), w.wildcard()];
        match who {
            Who::Ours => {
                let context = Context::new();
                let bound = |kind, endpoint: &str| {
                    let socket = context.socket(kind).unwrap();
                    let bound = socket.bind(endpoint).unwrap();
                    (socket, bound.to_string())
                };
                let (a, front) = bound(front, &endpoints[0]);
                let (b, back) = bound(back, &endpoints[1]);
                let handle = Proxy::new(&a, &b).spawn().unwrap();
                Self {
                    front,
                    back,
                    running: Running::Ours(Some(handle)),
                }
            }
            Who::Theirs => {
                let context = zmq::Context::new();
                let bound = |kind, endpoint: &str| {
                    let socket = context.socket(kind_of(kind)).unwrap();
                    socket.set_linger(0).unwrap();
                    socket.bind(endpoint).unwrap();
                    let bound = socket.get_last_endpoint().unwrap().unwrap();
                    (socket, bound)
                };
                let (mut a, front) = bound(front, &endpoints[0]);
                let (mut b, back) = bound(back, &endpoints[1]);
                let (mut obeys, at) = bound(Pair, "inproc://control");
                let control = context.socket(zmq::PAIR).unwrap();
                control.connect(&at).unwrap();
                let thread = std::thread::spawn(move || {
                    zmq::proxy_steerable(&mut a, &mut b, &mut obeys).unwrap();
                });
                Self {
                    front,
                    back,
                    running: Running::Theirs(Some(thread), control),
                }
            }
        }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Ours(handle) => {
                let ended = handle.take().map(ProxyHandle::terminate);
                assert!(matches!(ended, Some(Ok(_))), "{ended:?}");
            }
            Running::Theirs(thread, control) => {
                control.send("TERMINATE", 0).unwrap();
                thread.take().unwrap().join().unwrap();
            }
        }
    }
}

/// Runs a test with the proxy of each library, over tcp and ipc; its world has one library as subject,
/// and the other as peer.
fn each(name: &str, test: fn(&World, Who)) {
    for transport in [Transport::Tcp, Transport::Ipc] {
        for who in [Who::Ours, Who::Theirs] {
            within(name, || {
                let w = World::new(transport, library(Who::Ours), library(Who::Theirs));
                test(&w, who);
            });
        }
    }
}

/// Sockets of both libraries in turn.
fn several(w: &World, kind: Kind, n: usize, endpoint: &str) -> Vec<Socket> {
    let make = |i| match i % 2 {
        0 => w.subject(kind),
        _ => w.peer(kind),
    };
    let all: Vec<Socket> = (0..n).map(make).collect();
    for socket in &all {
        socket.dial(endpoint);
    }
    all
}

/// ROUTER and DEALER: each client gets the replies to its own requests, whoever works.
#[test]
fn queue() {
    each("queue", |w, who| {
        let middle = Middle::start(w, who, Router, Dealer);
        let workers = several(w, Rep, 4, &middle.back);
        let clients = several(w, Req, 4, &middle.front);
        let work = |worker: &Socket| {
            loop {
                let request = worker.take();
                let last = request[0] == b"stop";
                worker.put(request);
                if last {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            workers
                .iter()
                .for_each(|worker| drop(scope.spawn(move || work(worker))));
            for round in 0..50 {
                for (i, client) in clients.iter().enumerate() {
                    client.put(
                        [format!("{i}"), String::new(), format!("{round}")]
                            .map(String::into_bytes)
                            .to_vec(),
                    );
                }
                for (i, client) in clients.iter().enumerate() {
                    assert_eq!(
                        client.get(),
                        [i.to_string(), String::new(), round.to_string()]
                    );
                }
            }
            for _ in &workers {
                clients[0].put("stop");
                assert_eq!(clients[0].one(), "stop");
            }
        });
    });
}

/// XSUB and XPUB: subscriptions go up, what matches comes down, to subscribers of both libraries from
/// publishers of both.
#[test]
fn forwarder() {
    each("forwarder", |w, who| {
        let middle = Middle::start(w, who, XSub, XPub);
        let publishers = several(w, Pub, 2, &middle.front);
        let subscribers = several(w, Sub, 4, &middle.back);
        for (i, subscriber) in subscribers.iter().enumerate() {
            subscriber.subscribe(format!("to {i}").as_bytes()).unwrap();
            subscriber.subscribe(b"all").unwrap();
        }
        let all: Vec<&dyn Sock> = subscribers.iter().map(|subscriber| &**subscriber).collect();
        for publisher in &publishers {
            settle(&**publisher, &all);
        }
        for (p, publisher) in publishers.iter().enumerate() {
            for i in 0..4 {
                publisher.put(
                    [format!("to {i}"), p.to_string()]
                        .map(String::into_bytes)
                        .to_vec(),
                );
            }
            publisher.put("nobody");
            publisher.put("all");
            for (i, subscriber) in subscribers.iter().enumerate() {
                assert_eq!(subscriber.get(), [format!("to {i}"), p.to_string()]);
                assert_eq!(subscriber.one(), "all");
            }
        }
        // The last one who leaves a topic ends it upstream.
        for subscriber in &subscribers {
            subscriber.unsubscribe(b"all").unwrap();
        }
        for publisher in &publishers {
            settle(&**publisher, &all);
            publisher.put("all");
            publisher.put("to 0");
            assert_eq!(subscribers[0].one(), "to 0");
        }
    });
}

/// A publisher sees what subscribers behind two proxies want, one of each library; in both orders.
#[test]
fn subscriptions_pass_two_proxies() {
    each("two proxies", |w, who| {
        let other = if who == Who::Ours {
            Who::Theirs
        } else {
            Who::Ours
        };
        let upper = Middle::start(w, who, XSub, XPub);
        // The lower one connects upwards: by a proxy between two sockets that are both connected.
        let lower = Middle::start(w, other, XSub, XPub);
        let link = Link::start(&upper.back, &lower.front);
        for (publisher, subscriber) in [
            (w.subject(XPub), w.peer(Sub)),
            (w.peer(XPub), w.subject(Sub)),
        ] {
            publisher.dial(&upper.front);
            subscriber.dial(&lower.back);
            publisher.wait_up(1);
            subscriber.subscribe(b"topic").unwrap();
            assert_eq!(publisher.one(), "\\x01topic");
            publisher.put(["topic", "text"]);
            assert_eq!(subscriber.get(), ["topic", "text"]);
            subscriber.unsubscribe(b"topic").unwrap();
            assert_eq!(publisher.one(), "\\x00topic");
        }
        drop(link);
    });
}

/// A proxy of ours whose ends are connected.
struct Link(Option<ProxyHandle>);

impl Link {
    fn start(up: &str, down: &str) -> Self {
        let context = Context::new();
        let (sub, publish) = (context.socket(XSub).unwrap(), context.socket(XPub).unwrap());
        sub.connect(up).unwrap();
        publish.connect(down).unwrap();
        Self(Some(Proxy::new(&sub, &publish).spawn().unwrap()))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let ended = self.0.take().map(ProxyHandle::terminate);
        assert!(matches!(ended, Some(Ok(_))), "{ended:?}");
    }
}

/// PULL and PUSH, with marks on the way: all comes, nothing twice.
#[test]
fn streamer() {
    each("streamer", |w, who| {
        let middle = Middle::start(w, who, Pull, Push);
        let sources = several(w, Push, 2, &middle.front);
        let sinks = several(w, Pull, 2, &middle.back);
        let n = 5000;
        let send = || {
            for i in 0..n {
                sources[i % 2].put(i.to_string());
            }
        };
        let (_, (a, b)) = beside(send, || {
            let mut got = [Vec::new(), Vec::new()];
            while got[0].len() + got[1].len() < n {
                for (sink, got) in sinks.iter().zip(&mut got) {
                    while let Ok(frames) = sink.recv_for(std::time::Duration::from_millis(1)) {
                        got.push(
                            String::from_utf8(frames[0].clone())
                                .unwrap()
                                .parse::<usize>()
                                .unwrap(),
                        );
                    }
                }
            }
            let [a, b] = got;
            (a, b)
        });
        assert!(!a.is_empty() && !b.is_empty());
        let mut all = [a, b].concat();
        all.sort_unstable();
        assert_eq!(all, (0..n).collect::<Vec<_>>());
    });
}

/// Our proxy is steered by libzmq's socket.
#[test]
fn steered_by_theirs() {
    within("steered by theirs", || {
        let context = Context::new();
        let socket = |kind| {
            let socket = context.socket(kind).unwrap();
            let bound = socket.bind("tcp://127.0.0.1:*").unwrap().to_string();
            (socket, bound)
        };
        let (front, front_at) = socket(Router);
        let (back, back_at) = socket(Dealer);
        let (obeys, control_at) = socket(Rep);
        let running = Proxy::new(&front, &back).control(&obeys).spawn().unwrap();
        let theirs = Libzmq::default();
        let (control, req, rep) = (theirs.socket(Req), theirs.socket(Req), theirs.socket(Rep));
        control.dial(&control_at);
        req.dial(&front_at);
        rep.dial(&back_at);
        steer(&*control, &*req, &*rep, true);
        assert_eq!(running.join().unwrap().frontend.received, 2);
    });
}

/// libzmq's proxy is steered by ours.
#[test]
fn steers_theirs() {
    within("steers theirs", || {
        let context = zmq::Context::new();
        let socket = |kind| {
            let socket = context.socket(kind).unwrap();
            socket.set_linger(0).unwrap();
            socket.bind("tcp://127.0.0.1:*").unwrap();
            let bound = socket.get_last_endpoint().unwrap().unwrap();
            (socket, bound)
        };
        let (mut front, front_at) = socket(zmq::ROUTER);
        let (mut back, back_at) = socket(zmq::DEALER);
        let (mut obeys, control_at) = socket(zmq::PAIR);
        let thread = std::thread::spawn(move || {
            zmq::proxy_steerable(&mut front, &mut back, &mut obeys).unwrap();
        });
        let ours = Sward::default();
        let (control, req, rep) = (ours.socket(Pair), ours.socket(Req), ours.socket(Rep));
        control.dial(&control_at);
        req.dial(&front_at);
        rep.dial(&back_at);
        steer(&*control, &*req, &*rep, false);
        thread.join().unwrap();
    });
}

/// PAUSE, RESUME, STATISTICS and TERMINATE, by words; `answered`: each by something.
fn steer(control: &dyn Sock, req: &dyn Sock, rep: &dyn Sock, answered: bool) {
    let say = |word: &str| {
        control.put(word);
        if answered {
            assert_eq!(control.one(), "");
        }
    };
    let ask = || {
        req.put("question");
        assert_eq!(rep.one(), "question");
        rep.put("answer");
        assert_eq!(req.one(), "answer");
    };
    ask();
    say("PAUSE");
    if answered {
        // What is said now waits until it goes on.
        req.put("question");
        rep.nothing();
        say("RESUME");
        assert_eq!(rep.one(), "question");
        rep.put("answer");
        assert_eq!(req.one(), "answer");
    } else {
        say("RESUME");
        ask();
    }
    control.put("STATISTICS");
    let frames = control.take();
    assert_eq!(frames.len(), 8);
    let numbers: Vec<u64> = frames
        .iter()
        .map(|frame| u64::from_ne_bytes(frame[..].try_into().unwrap()))
        .collect();
    // Messages and bytes in and out of the front, then of the back; libzmq counts frames.
    assert!(numbers.iter().all(|n| *n >= 2), "{numbers:?}");
    let message = sward_mq::Message::from(
        frames
            .into_iter()
            .map(sward_mq::Frame::from)
            .collect::<Vec<_>>(),
    );
    let statistics = ProxyStatistics::from_message(&message).unwrap();
    assert_eq!(statistics.frontend.received, numbers[0]);
    say("TERMINATE");
}
