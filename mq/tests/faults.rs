//! Faults of others: processes that are killed, peers that come and go, queues that are full,
//! descriptors that are used up, tasks that are killed while they wait.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_types, reason = "peers that have nothing of ours")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{Raw, child, finish, hear, ipc, open, say, start, stderr, within};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sward_mq::SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub};
use sward_mq::{Context, Error, EventKind, Loss, Message, Options, Socket, SocketType};
use sward_runtime::{Runtime, sleep, spawn, timeout, yield_now};
use sward_zmtp::Setup;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);
/// Tests that count are shorter where everything is slower.
const DEBUG: bool = cfg!(debug_assertions);

fn options() -> Options {
    Options::new().linger(LONG).reconnect_interval(MS)
}

fn with(kind: SocketType, options: Options) -> Socket {
    Context::new().socket_with(kind, options).unwrap()
}

fn socket(kind: SocketType) -> Socket {
    with(kind, options())
}

/// A sequence of numbers by chance; the seed is printed.
struct Chance(u64);

impl Chance {
    fn new(name: &str) -> Self {
        let seed = Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20;
        println!("{name}: seed {seed}");
        Self(seed | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A message of several frames, from which can be seen whether it is whole.
fn multipart(i: u32) -> Message {
    let parts = 1 + i % 7;
    let frame = |part: u32| {
        let mut body = vec![part as u8; (i * 37 + part * 911) as usize % 9_000];
        body.extend_from_slice(&i.to_le_bytes());
        body
    };
    let mut message = Message::new();
    for part in 0..parts {
        message.push_back(frame(part));
    }
    message
}

/// A process that sends is killed again and again: of each message all comes, or nothing.
#[test]
fn senders_are_killed() {
    if let Some(endpoint) = child() {
        let push = with(Push, options().send_hwm(0));
        push.connect(&endpoint).unwrap();
        say("sends");
        for i in 0.. {
            push.send(multipart(i)).unwrap();
        }
    }
    within("senders_are_killed", || {
        let pull = socket(Pull);
        for endpoint in ["tcp://127.0.0.1:*".to_owned(), ipc("killed")] {
            let endpoint = pull.bind(&endpoint).unwrap().to_string();
            let mut chance = Chance::new("senders_are_killed");
            for _ in 0..10 {
                let mut sender = start("senders_are_killed", &endpoint);
                hear(&mut sender, "sends");
                let until = chance.below(300) as u32;
                let mut wanted = 0;
                while let Ok(message) =
                    pull.recv_timeout(if wanted < until { LONG } else { 50 * MS })
                {
                    assert_eq!(message, multipart(wanted), "message {wanted}");
                    wanted += 1;
                    if wanted == until + 1 {
                        sender.kill().unwrap();
                        sender.wait().unwrap();
                    }
                }
                assert!(wanted > until);
            }
        }
    });
}

/// Either side goes and comes again: messages flow after each time.
#[test]
fn both_sides_are_restarted() {
    const ROUNDS: u64 = if DEBUG { 100 } else { 200 };
    for workers in [1, 2] {
        within("both_sides_are_restarted", || {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| {
                let endpoint = ipc("restarted");
                let reserved = common::tcp();
                for endpoint in [endpoint, reserved] {
                    let mut chance = Chance::new("both_sides_are_restarted");
                    let make = |kind| {
                        // A request that went to one that is gone is asked again.
                        let again = options().linger(Duration::ZERO).req_relaxed(true);
                        let socket = with(kind, again.req_correlate(true));
                        match kind {
                            // A process that another test starts has our descriptors until it execs.
                            Rep => {
                                while let Err(e) = socket.bind(&endpoint) {
                                    assert!(matches!(e, Error::AddrInUse(_)), "{e}");
                                    yield_now();
                                }
                            }
                            _ => socket.connect(&endpoint).unwrap(),
                        }
                        socket
                    };
                    let mut rep = make(Rep);
                    let mut req = make(Req);
                    for round in 0..ROUNDS {
                        if chance.below(2) == 0 {
                            drop(rep);
                            rep = make(Rep);
                        } else {
                            drop(req);
                            req = make(Req);
                        }
                        let serving = rep.clone();
                        let over = Arc::new(AtomicBool::new(false));
                        let done = over.clone();
                        let serves = spawn(move || {
                            while !done.load(SeqCst) {
                                if let Ok(request) = serving.recv_timeout(MS) {
                                    serving.send(request).unwrap();
                                }
                            }
                        });
                        let text = format!("{round}");
                        let begun = Instant::now();
                        loop {
                            req.send(text.as_str()).unwrap();
                            if let Ok(reply) = req.recv_timeout(10 * MS) {
                                assert_eq!(reply.first(), text.as_bytes());
                                break;
                            }
                            assert!(begun.elapsed() < LONG, "round {round}");
                        }
                        over.store(true, SeqCst);
                        serves.join().unwrap();
                    }
                }
            });
        });
    }
}

/// Subscriptions come back with each connection.
#[test]
fn publishers_are_restarted() {
    within("publishers_are_restarted", || {
        let sub = socket(Sub);
        let endpoint = ipc("publishers");
        for topic in ["a", "b", "c"] {
            sub.subscribe(topic).unwrap();
        }
        sub.connect(&endpoint).unwrap();
        for round in 0..50 {
            let publisher = with(XPub, options().linger(Duration::ZERO));
            publisher.bind(&endpoint).unwrap();
            let mut topics: Vec<_> = (0..3)
                .map(|_| publisher.recv_timeout(LONG).unwrap().first().to_vec())
                .collect();
            topics.sort();
            assert_eq!(topics, [b"\x01a", b"\x01b", b"\x01c"]);
            publisher.send(format!("b{round}")).unwrap();
            let got = sub.recv_timeout(LONG).unwrap();
            assert_eq!(got.first(), format!("b{round}").as_bytes());
        }
    });
}

/// Queues that are full, in every pattern that has one: nothing is lost that was taken, nothing comes
/// twice, and all of it flows once somebody reads.
#[test]
fn full_queues() {
    within("full_queues", || {
        for (sends, takes) in [
            (Push, Pull),
            (Dealer, Dealer),
            (Dealer, Router),
            (Router, Dealer),
            (Pair, Pair),
            (XPub, Sub),
            (Pub, Sub),
        ] {
            for at in ["tcp://127.0.0.1:*", "inproc://full", "ipc"] {
                let context = Context::new();
                let small = || {
                    options()
                        .send_hwm(5)
                        .recv_hwm(5)
                        .send_buffer(4096)
                        .recv_buffer(4096)
                };
                let taker = context
                    .socket_with(takes, small().routing_id("taker"))
                    .unwrap();
                let at = if at == "ipc" {
                    ipc("full")
                } else {
                    at.to_owned()
                };
                let sender = context
                    .socket_with(sends, small().xpub_nodrop(true).router_mandatory(true))
                    .unwrap();
                let endpoint = sender.bind(&at).unwrap();
                if takes == Sub {
                    taker.subscribe("").unwrap();
                }
                taker.connect(&endpoint).unwrap();
                if takes == Sub {
                    sender.wait_subscribers(1, LONG).unwrap();
                }
                sender.wait_connected(1, LONG).unwrap();
                let message = |i: usize| {
                    let mut message = Message::from(vec![7; 3000]);
                    message.push_front(i.to_string());
                    if sends == Router {
                        message.push_front("taker");
                    }
                    message
                };
                let mut sent = 0;
                while sender.try_send(message(sent)).is_ok() {
                    sent += 1;
                    assert!(sent < 10_000, "{sends} {at}");
                }
                assert!(sent >= 5, "{sends} {at}: {sent}");
                // One that waits goes on.
                let waits = sender.clone();
                let last = message(sent);
                let waiting = spawn(move || waits.send(last).unwrap());
                for i in 0..=sent {
                    let mut got = taker.recv_timeout(LONG).unwrap();
                    if takes == Router {
                        got.pop_front();
                    }
                    assert_eq!(got.first(), i.to_string().as_bytes(), "{sends} {at}");
                }
                waiting.join().unwrap();
                assert!(taker.try_recv().unwrap_err().is_would_block());
                assert_eq!(sender.stats().lost(Loss::HighWaterMark), 0, "{sends} {at}");
            }
        }
    });
}

/// zmtp.md 24: libzmq throws away what is in the kernel's buffer of a Unix socket when the sender
/// closes while the receiver is at its high-water mark.
#[test]
fn nothing_is_lost_when_a_sender_closes() {
    const MESSAGES: usize = 1500;
    within("nothing_is_lost_when_a_sender_closes", || {
        for at in [ipc("close"), "tcp://127.0.0.1:*".to_owned()] {
            let pull = with(Pull, options().recv_hwm(1000));
            let endpoint = pull.bind(&at).unwrap();
            let context = Context::new();
            let push = context.socket_with(Push, options().linger(None)).unwrap();
            push.connect(&endpoint).unwrap();
            for i in 0..MESSAGES {
                let mut body = [0; 64];
                body[..8].copy_from_slice(&i.to_le_bytes());
                push.send(&body[..]).unwrap();
            }
            drop(push);
            // What the kernel takes is there by now.
            sleep(50 * MS);
            for i in 0..MESSAGES {
                let message = pull.recv_timeout(LONG).unwrap();
                assert_eq!(message.first()[..8], i.to_le_bytes());
            }
            assert_eq!(context.term(LONG), 0);
        }
    });
}

/// An end that comes with the last bytes is seen, on either transport.
#[test]
fn the_end_is_seen_behind_the_last_message() {
    within("the_end_is_seen_behind_the_last_message", || {
        for at in [ipc("end"), "tcp://127.0.0.1:*".to_owned()] {
            for reads in [true, false] {
                let pull = socket(Pull);
                let endpoint = pull.bind(&at).unwrap().to_string();
                let monitor = pull.monitor();
                let mut peer = Raw::connect(&endpoint, Setup::new(Push));
                for i in 0..3 {
                    peer.send(&Message::from(format!("{i}"))).unwrap();
                }
                drop(peer);
                if reads {
                    for i in 0..3 {
                        let message = pull.recv_timeout(LONG).unwrap();
                        assert_eq!(message.first(), format!("{i}").as_bytes());
                    }
                }
                while !matches!(
                    monitor.recv_timeout(LONG).unwrap().kind,
                    EventKind::Disconnected(_)
                ) {}
            }
        }
    });
}

/// What comes in one piece with the end of the handshake, to a socket that asks all the time: it has
/// the routing id of who sent it.
#[test]
fn messages_that_come_with_the_handshake() {
    within("messages_that_come_with_the_handshake", || {
        for _ in 0..if DEBUG { 100 } else { 1000 } {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let router = socket(Router);
            let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
            router.connect(&endpoint).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut greeting = [0; 64];
            (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
            greeting[12..16].copy_from_slice(b"NULL");
            let ready =
                b"\x04\x31\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x06famous";
            let ready = [&ready[..1], &[ready.len() as u8 - 2], &ready[2..]].concat();
            stream.write_all(&greeting).unwrap();
            // Its READY: so a message may follow ours at once.
            let mut all = [0; 64 + 38];
            stream.read_exact(&mut all).unwrap();
            stream
                .write_all(&[&ready[..], b"\0\x05hello"].concat())
                .unwrap();
            let begun = Instant::now();
            let message = loop {
                match router.try_recv() {
                    Ok(message) => break message,
                    Err(_) => assert!(begun.elapsed() < LONG, "{:?}", router.stats()),
                }
            };
            assert_eq!(message, Message::from(["famous", "hello"]));
        }
    });
}

// Kills and time-outs.

/// Receivers are killed and time out while they wait, at any moment: each message comes once.
#[test]
fn receivers_are_killed() {
    const MESSAGES: usize = if DEBUG { 20_000 } else { 200_000 };
    for (workers, at) in [
        (1, "inproc://killed"),
        (2, "inproc://killed"),
        (1, "tcp://127.0.0.1:*"),
        (2, "tcp://127.0.0.1:*"),
    ] {
        within("receivers_are_killed", || {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| {
                let context = Context::new();
                let pull = context.socket_with(Pull, options()).unwrap();
                let endpoint = pull.bind(at).unwrap();
                let push = context.socket_with(Push, options()).unwrap();
                push.connect(&endpoint).unwrap();
                let sends = spawn(move || {
                    for i in 0..MESSAGES {
                        push.send(&i.to_le_bytes()[..]).unwrap();
                        if i % 64 == 0 {
                            yield_now();
                        }
                    }
                });
                let got = Arc::new(AtomicUsize::new(0));
                let mut chance = Chance::new("receivers_are_killed");
                while got.load(SeqCst) < MESSAGES {
                    let (pull, count) = (pull.clone(), got.clone());
                    let limit = Duration::from_micros(chance.below(200));
                    let takes = spawn(move || {
                        let receive = || loop {
                            if pull.recv_timeout(10 * MS).is_ok() {
                                count.fetch_add(1, SeqCst);
                            }
                        };
                        let _: Result<(), _> = timeout(limit, receive);
                        receive();
                    });
                    sleep(Duration::from_micros(chance.below(500)));
                    takes.task().kill();
                    assert!(takes.join().is_err());
                }
                sends.join().unwrap();
                assert_eq!(got.load(SeqCst), MESSAGES);
                assert!(pull.try_recv().unwrap_err().is_would_block());
            });
        });
    }
}

/// Senders are killed and time out while they wait for room: what was not said to be sent is not.
#[test]
fn senders_that_wait_are_killed() {
    const ROUNDS: usize = if DEBUG { 200 } else { 2_000 };
    for (workers, at) in [
        (1, "inproc://waits"),
        (2, "inproc://waits"),
        (1, "tcp://127.0.0.1:*"),
        (2, "tcp://127.0.0.1:*"),
    ] {
        within("senders_that_wait_are_killed", || {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| {
                let small = || {
                    options()
                        .send_hwm(1)
                        .recv_hwm(1)
                        .send_buffer(4096)
                        .recv_buffer(4096)
                };
                let context = Context::new();
                let pull = context.socket_with(Pull, small()).unwrap();
                let endpoint = pull.bind(at).unwrap();
                let push = context.socket_with(Push, small()).unwrap();
                push.connect(&endpoint).unwrap();
                let sent = Arc::new(AtomicUsize::new(0));
                let mut chance = Chance::new("senders_that_wait_are_killed");
                let mut got = 0;
                for _ in 0..ROUNDS {
                    let (push, count) = (push.clone(), sent.clone());
                    let limit = Duration::from_micros(chance.below(100));
                    let sends = spawn(move || {
                        let send = || loop {
                            push.send(vec![1; 2000]).unwrap();
                            count.fetch_add(1, SeqCst);
                        };
                        let _: Result<(), _> = timeout(limit, send);
                        send();
                    });
                    sleep(Duration::from_micros(chance.below(200)));
                    sends.task().kill();
                    assert!(sends.join().is_err());
                    for _ in 0..chance.below(20) {
                        got += usize::from(pull.try_recv().is_ok());
                    }
                }
                while got < sent.load(SeqCst) {
                    pull.recv_timeout(LONG).unwrap();
                    got += 1;
                }
                assert_eq!(got, sent.load(SeqCst));
                assert!(pull.recv_timeout(20 * MS).unwrap_err().is_would_block());
            });
        });
    }
}

/// Every call that waits is ended by a kill and by a time-out, and the socket goes on.
#[test]
fn every_wait_can_be_killed() {
    type Call = fn(&Socket);
    let calls: [(&str, SocketType, Call); 9] = [
        ("recv", Pull, |s| drop(s.recv())),
        ("recv_timeout", Pull, |s| drop(s.recv_timeout(LONG))),
        ("send", Push, |s| drop(s.send("x"))),
        ("send_timeout", Push, |s| drop(s.send_timeout("x", LONG))),
        ("wait_connected", Push, |s| drop(s.wait_connected(1, LONG))),
        ("wait_subscribers", Pub, |s| {
            drop(s.wait_subscribers(1, LONG))
        }),
        ("monitor", Pull, |s| drop(s.monitor().recv())),
        ("send of a request", Req, |s| drop(s.send("x"))),
        ("recv of a request", Rep, |s| drop(s.recv())),
    ];
    for workers in [1, 2] {
        within("every_wait_can_be_killed", || {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| {
                for (name, kind, call) in calls {
                    let socket = socket(kind);
                    assert!(timeout(2 * MS, || call(&socket)).is_err(), "{name}");
                    let waits = socket.clone();
                    let waiting = spawn(move || call(&waits));
                    sleep(MS);
                    waiting.task().kill();
                    assert!(waiting.join().is_err(), "{name}");
                    let waits = socket.clone();
                    let never = spawn(move || call(&waits));
                    never.task().kill();
                    assert!(never.join().is_err(), "{name}");
                }
            });
        });
    }
}

// Descriptors.

/// Takes all descriptors of this process, which is the test's own, but one. Returns what takes them,
/// and the limit before.
fn use_descriptors_up() -> (Vec<File>, Rlimit) {
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(used + 10),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    // There may be numbers above the limit, and holes below.
    let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.pop();
    (taken, before)
}

/// What the process has used of the processors, by its open `/proc/self/stat`.
fn used(stat: &File) -> Duration {
    let mut text = [0; 1024];
    let n = stat.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8_lossy(&text[..n]);
    let fields: Vec<_> = text[text.rfind(')').unwrap()..].split(' ').collect();
    let ticks: u64 = fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// An acceptor finds no descriptor: what stands goes on, others wait, an idle one uses nothing, and
/// when there are descriptors again those who wait come in. So does a dialer.
#[test]
fn descriptors_are_used_up() {
    if child().is_none() {
        let output = finish(start("descriptors_are_used_up", "x"));
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", stderr(&output));
        return;
    }
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let pull = socket(Pull);
        let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let monitor = pull.monitor();
        let old = socket(Push);
        old.connect(&endpoint).unwrap();
        old.send("old").unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), "old");
        let dials = with(Push, options().reconnect_interval(100 * MS));
        let stat = File::open("/proc/self/stat").unwrap();
        // A descriptor for the one who connects, and none for the one who accepts.
        let (taken, before) = use_descriptors_up();
        let _new = open(&endpoint);
        while !matches!(
            monitor.recv_timeout(LONG).unwrap().kind,
            EventKind::AcceptFailed(_)
        ) {}
        // One that dials finds none, either.
        let dialling = dials.monitor();
        dials.connect(&endpoint).unwrap();
        dials.send("dials").unwrap();
        while !matches!(
            dialling.recv_timeout(LONG).unwrap().kind,
            EventKind::Closed(Some(_))
        ) {}
        let begun = used(&stat);
        sleep(2000 * MS);
        let idle = used(&stat) - begun;
        println!("idle at EMFILE: {idle:?} of the processor in 2 s");
        assert!(idle < 200 * MS, "{idle:?}");
        for i in 0..100 {
            old.send(format!("{i}")).unwrap();
            assert_eq!(
                pull.recv_timeout(LONG).unwrap().first(),
                format!("{i}").as_bytes()
            );
        }
        setrlimit(Resource::Nofile, before).unwrap();
        drop(taken);
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), "dials");
        let new = sward_runtime::blocking(move || {
            let mut peer = Raw::connect(&endpoint, Setup::new(Push));
            peer.send(&Message::from("new")).unwrap();
            peer
        });
        assert_eq!(pull.recv_timeout(LONG).unwrap().first(), "new");
        drop(new);
    });
}

// Many.

/// Topics by the hundred thousand, of one peer: they come, count, and go.
#[test]
fn very_many_subscriptions() {
    const TOPICS: usize = if DEBUG { 50_000 } else { 1_000_000 };
    within("very_many_subscriptions", || {
        let publisher = with(Pub, Options::new().linger(Duration::ZERO));
        let endpoint = publisher.bind("tcp://127.0.0.1:*").unwrap();
        let sub = with(Sub, Options::new().linger(Duration::ZERO));
        let before = memory();
        let begun = Instant::now();
        for i in 0..TOPICS {
            sub.subscribe(format!("topic.{i:08}")).unwrap();
        }
        let here = begun.elapsed();
        sub.connect(&endpoint).unwrap();
        let last = format!("topic.{:08}", TOPICS - 1);
        while publisher.subscribers_of(&last) == 0 {
            assert!(begun.elapsed() < 50_000 * MS);
            sleep(MS);
        }
        let there = begun.elapsed();
        let grown = memory().saturating_sub(before);
        for i in (0..TOPICS).step_by(1 + TOPICS / 1000) {
            let topic = format!("topic.{i:08}");
            publisher.send(topic.as_str()).unwrap();
            assert_eq!(sub.recv_timeout(LONG).unwrap().first(), topic.as_bytes());
        }
        publisher.send("topic.x").unwrap();
        let leaving = Instant::now();
        drop(sub);
        while publisher.subscribers_of(&last) > 0 {
            assert!(leaving.elapsed() < 50_000 * MS);
            sleep(MS);
        }
        let gone = leaving.elapsed();
        println!(
            "{TOPICS} topics: subscribed after {here:?}, known to the publisher after {there:?}, gone in \
             {gone:?}, {} MB for both sides",
            grown >> 20
        );
    });
}

/// Connections by the thousand, each with a message to and fro, then all at once gone.
#[test]
fn very_many_connections() {
    const PEERS: usize = if DEBUG { 1_000 } else { 4_000 };
    if child().is_none() {
        let output = finish(start("very_many_connections", "x"));
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", stderr(&output));
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).unwrap();
    let router = with(Router, options().linger(Duration::ZERO));
    let endpoint = router.bind("tcp://127.0.0.1:*").unwrap();
    let begun = Instant::now();
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let peer = with(Dealer, options().linger(Duration::ZERO));
            peer.connect(&endpoint).unwrap();
            peer.send("hello").unwrap();
            peer
        })
        .collect();
    for _ in 0..PEERS {
        let message = router.recv_timeout(LONG).unwrap();
        router.send(message).unwrap();
    }
    for peer in &peers {
        assert_eq!(peer.recv_timeout(LONG).unwrap().first(), "hello");
    }
    println!("{PEERS} connections, to and fro: {:?}", begun.elapsed());
    drop(peers);
    let begun = Instant::now();
    while router.stats().peers > 0 {
        assert!(begun.elapsed() < LONG);
        sleep(MS);
    }
}

/// Bytes that this process has in memory.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A peer of ZMTP 1.0 stops reading: what it does not get is counted to the message, with what was already
/// in the form of its version.
#[test]
fn what_an_old_peer_does_not_get_is_counted() {
    const MESSAGES: usize = 100;
    const BODY: usize = 100_000;
    within("what_an_old_peer_does_not_get_is_counted", || {
        let context = Context::new();
        let small = options().linger(200 * MS).send_hwm(0).send_buffer(65_536);
        let push = context.socket_with(Push, small).unwrap();
        let mut deaf = open(push.bind("tcp://127.0.0.1:*").unwrap().as_str());
        // Its routing id, which is empty.
        deaf.write_all(&[1, 0]).unwrap();
        push.wait_connected(1, LONG).unwrap();
        for _ in 0..MESSAGES {
            push.send(vec![1; BODY]).unwrap();
        }
        let lost = context.term(LONG);
        let mut all = Vec::new();
        deaf.patience(LONG);
        deaf.read_to_end(&mut all).unwrap();
        // Frames of a length of 8 bytes behind 0xFF, which counts the flags, too: our routing id, and then
        // the messages.
        let got = (all.len() - 10) / (9 + 1 + BODY);
        assert!(got > 0 && lost > 10, "{got} {lost}");
        assert_eq!(got + lost, MESSAGES);
    });
}

/// The peer reads nothing of what it is sent and stays: the socket that is closed gives up at its
/// linger time, and tells how much.
#[test]
fn a_deaf_peer_does_not_keep_a_closed_socket() {
    within("a_deaf_peer_does_not_keep_a_closed_socket", || {
        let context = Context::new();
        let small = options().linger(200 * MS).send_hwm(0).send_buffer(65_536);
        let push = context.socket_with(Push, small).unwrap();
        let endpoint = push.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let mut deaf = Raw::connect(&endpoint, Setup::new(Pull));
        push.wait_connected(1, LONG).unwrap();
        for _ in 0..200 {
            push.send(vec![1; 100_000]).unwrap();
        }
        let begun = Instant::now();
        let lost = context.term(LONG);
        assert!((10..200).contains(&lost), "{lost}");
        assert!(begun.elapsed() >= 200 * MS && begun.elapsed() < LONG / 2);
        // It was cut off.
        let mut rest = Vec::new();
        let _ = deaf.stream.read_to_end(&mut rest);
        assert!(rest.len() < 20_000_000);
        let stopped = AtomicBool::new(false);
        assert!(!stopped.load(SeqCst));
    });
}
