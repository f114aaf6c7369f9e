//! Peers that do what they should not: the one that does is disconnected, and a monitor is told by
//! whose fault; another peer of the same socket goes on undisturbed; memory stays bounded.
//!
//! The numbers are those of libzmq's own faults, `docs/zeromq-reliability.md` says which.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#![allow(
    clippy::disallowed_methods,
    reason = "a peer that is slow, on a thread"
)]
#![allow(clippy::disallowed_types, reason = "peers that have nothing of ours")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Raw, Stream, ipc, open, within};
use sward_mq::SocketType::{Dealer, Pub, Pull, Push, Rep, Req, Router, Sub, XPub};
use sward_mq::{Context, EventKind, Loss, Monitor, Options, Reason, Socket, SocketType};
use sward_zmtp::{Message, Setup};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

fn with(kind: SocketType, options: Options) -> Socket {
    let options = options.linger(Duration::ZERO).reconnect_interval(10 * MS);
    Context::new().socket_with(kind, options).unwrap()
}

fn socket(kind: SocketType) -> Socket {
    with(kind, Options::new())
}

/// Why the next connection of the socket ended, or was not let in.
fn reason(monitor: &Monitor) -> Reason {
    loop {
        match monitor.recv_timeout(LONG).unwrap().kind {
            EventKind::HandshakeFailed(reason) | EventKind::Disconnected(reason) => return reason,
            _ => {}
        }
    }
}

/// Waits until the socket closes the stream; what it says until then is read and forgotten.
fn is_closed(stream: &mut Stream) -> bool {
    stream.patience(LONG);
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Bytes that this process has in memory.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

// Bytes.

fn greeting(mechanism: &str, server: u8) -> Vec<u8> {
    let mut bytes = [0; 64];
    (bytes[0], bytes[9], bytes[10], bytes[11]) = (0xff, 0x7f, 3, 1);
    bytes[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    bytes[32] = server;
    bytes.to_vec()
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(len) => [&[flags, len][..], body].concat(),
        Err(_) => [&[flags | 2][..], &(body.len() as u64).to_be_bytes(), body].concat(),
    }
}

fn command(name: &str, data: &[u8]) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap();
    frame(4, &[&[len][..], name.as_bytes(), data].concat())
}

fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap();
    let size = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&[len][..], name.as_bytes(), &size, value].concat()
}

/// A handshake up to here, with this metadata.
fn ready(metadata: &[Vec<u8>]) -> Vec<u8> {
    [greeting("NULL", 0), command("READY", &metadata.concat())].concat()
}

fn of(kind: SocketType) -> Vec<u8> {
    property("Socket-Type", kind.to_string().as_bytes())
}

// A peer that behaves, beside the one that does not.

struct Good {
    ours: Socket,
    peer: Socket,
}

impl Good {
    /// Connects the peer that goes with the socket.
    fn beside(ours: &Socket, endpoint: &str) -> Self {
        let kind = match ours.socket_type() {
            Pull => Push,
            Pub | XPub => Sub,
            Router | Dealer => Dealer,
            Rep => Req,
            other => panic!("{other}"),
        };
        let peer = socket(kind);
        if kind == Sub {
            peer.subscribe("").unwrap();
        }
        peer.connect(endpoint).unwrap();
        let good = Self {
            ours: ours.clone(),
            peer,
        };
        if kind == Sub {
            ours.wait_subscribers(1, LONG).unwrap();
        }
        good.works();
        good
    }

    /// Messages go there, or to and fro.
    fn works(&self) {
        let Self { ours, peer } = self;
        match ours.socket_type() {
            Pub | XPub => {
                ours.send("news").unwrap();
                loop {
                    if peer.recv_timeout(LONG).unwrap().first() == "news" {
                        break;
                    }
                }
            }
            Pull => {
                peer.send("work").unwrap();
                while ours.recv_timeout(LONG).unwrap().first() != "work" {}
            }
            Router | Rep => {
                peer.send("request").unwrap();
                loop {
                    let message = ours.recv_timeout(LONG).unwrap();
                    if message.last() == "request" {
                        ours.send(message).unwrap();
                        break;
                    }
                }
                assert_eq!(peer.recv_timeout(LONG).unwrap().last(), "request");
            }
            _ => {
                peer.send("to").unwrap();
                while ours.recv_timeout(LONG).unwrap().first() != "to" {}
            }
        }
    }
}

/// Something that a peer sends, and what becomes of it.
struct Case {
    name: &'static str,
    ours: SocketType,
    /// What comes from it: from the first byte on, or after a handshake as that kind.
    after: Option<SocketType>,
    bytes: Vec<u8>,
    /// What the reason says; `None`: the connection stands.
    says: Option<&'static str>,
}

fn case(name: &'static str, bytes: Vec<u8>, says: &'static str) -> Case {
    let (ours, after, says) = (Pull, None, Some(says));
    Case {
        name,
        ours,
        after,
        bytes,
        says,
    }
}

impl Case {
    fn at(mut self, ours: SocketType, peer: SocketType) -> Self {
        (self.ours, self.after) = (ours, Some(peer));
        self
    }
}

fn limits() -> Options {
    Options::new()
        .handshake_interval(300 * MS)
        .max_message_size(100_000_u64)
        .max_total_size(200_000_u64)
        .max_parts(100)
        .max_topic_size(1000)
        .max_subscriptions(50)
        .max_subscription_bytes(10_000)
}

/// Runs the cases, over both transports.
fn run(name: &str, cases: &[Case]) {
    within(name, || {
        for case in cases {
            for tcp in [true, false] {
                attack(case, tcp);
            }
        }
    });
}

fn attack(case: &Case, tcp: bool) {
    println!("{} (tcp {tcp})", case.name);
    let ours = with(case.ours, limits());
    let at = if tcp {
        "tcp://127.0.0.1:*".to_owned()
    } else {
        ipc("attack")
    };
    let endpoint = ours.bind(&at).unwrap().to_string();
    let good = Good::beside(&ours, &endpoint);
    let monitor = ours.monitor();
    let mut stream = match case.after {
        None => open(&endpoint),
        Some(kind) => Raw::connect(&endpoint, Setup::new(kind)).stream,
    };
    // It may be closed while it writes.
    let written = stream.write_all(&case.bytes);
    match case.says {
        Some(says) => {
            let told = reason(&monitor).to_string();
            assert!(told.contains(says), "{}: {told}", case.name);
            assert!(is_closed(&mut stream), "{}", case.name);
        }
        None => written.unwrap(),
    }
    good.works();
    while let Ok(event) = monitor.try_recv() {
        let ended = matches!(
            event.kind,
            EventKind::Disconnected(_) | EventKind::HandshakeFailed(_)
        );
        assert!(!ended, "{}: {event}", case.name);
    }
}

#[test]
fn greetings_that_are_none() {
    let mut major = greeting("NULL", 0);
    major[10] = 4;
    let mut bits = greeting("NULL", 0);
    bits[9] = 0x7e;
    run(
        "greetings_that_are_none",
        &[
            case(
                "http",
                b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
                "malformed",
            ),
            case(
                "tls",
                vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 9, 9, 9],
                "malformed",
            ),
            case("zeros", vec![0; 64], "malformed"),
            case("mechanism", greeting("PLAIN", 0), "PLAIN"),
            case("longer mechanism", greeting("NULLNULL", 0), "NULLNULL"),
            case("as server", greeting("NULL", 2), "as-server"),
            case("silence", Vec::new(), "handshake"),
            case(
                "half a greeting",
                greeting("NULL", 0)[..20].to_vec(),
                "handshake",
            ),
            case("no READY", greeting("NULL", 0), "handshake"),
            case(
                "half a READY",
                ready(&[of(Push)])[..80].to_vec(),
                "handshake",
            ),
            case("a later version, and nothing", major, "handshake"),
        ],
    );
}

#[test]
fn handshakes_that_are_wrong() {
    let many: Vec<_> = (0..100)
        .map(|i| property(&format!("X-{i}"), b"x"))
        .collect();
    let with = |more: &[Vec<u8>]| ready(&[&[of(Push)][..], more].concat());
    let identity = |name, id: &[u8]| Case {
        ours: Router,
        ..case(
            name,
            ready(&[of(Dealer), property("Identity", id)]),
            "malformed",
        )
    };
    let first = |frame: Vec<u8>| [greeting("NULL", 0), frame].concat();
    run(
        "handshakes_that_are_wrong",
        &[
            case("wrong type", ready(&[of(Pull)]), "PULL"),
            case(
                "unknown type",
                ready(&[property("Socket-Type", b"PUSHY")]),
                "malformed",
            ),
            case("no type", ready(&[property("X-a", b"b")]), "malformed"),
            case("two types", with(&[of(Push)]), "malformed"),
            case(
                "same name, other case",
                with(&[property("SOCKET-TYPE", b"PUSH")]),
                "malformed",
            ),
            case(
                "a name that is none",
                with(&[property("", b"b")]),
                "malformed",
            ),
            case("many properties", with(&many), "properties"),
            case(
                "long value",
                with(&[property("X-a", &[7; 20_000])]),
                "command",
            ),
            case("trailing byte", with(&[vec![9]]), "malformed"),
            case(
                "value that is not there",
                with(&[[&[1, b'X'][..], &[0x7f; 4]].concat()]),
                "malformed",
            ),
            identity("identity of 256", &[7; 256]),
            identity("identity of zero", &[0, 1, 2, 3, 4]),
            case("message first", first(frame(0, b"hello")), "message"),
            case(
                "giant message first",
                first([&[2][..], &[0x3f; 8]].concat()),
                "peer sent",
            ),
            case(
                "giant command first",
                first([&[6][..], &[0x3f; 8]].concat()),
                "command",
            ),
            case("wrong command", first(command("HELLO", b"")), "where READY"),
            case("PING first", first(command("PING", &[0, 0])), "where READY"),
            case("ERROR", first(command("ERROR", b"\x05sorry")), "sorry"),
            case(
                "ERROR with a wrong length",
                first(command("ERROR", b"\xffsorry")),
                "malformed",
            ),
        ],
    );
}

#[test]
fn frames_that_are_wrong() {
    let long = |flags: u8, len: u64| [&[flags][..], &len.to_be_bytes()].concat();
    let more = frame(1, b"").repeat(101);
    let large = frame(1, &[7; 70_000]).repeat(3);
    let at = |name, bytes, says| case(name, bytes, says).at(Pull, Push);
    run(
        "frames_that_are_wrong",
        &[
            at("2^62 bytes", long(2, 1 << 62), "max_message_size"),
            at("2^63 bytes", long(2, 1 << 63), "malformed"),
            at("2^64-1 bytes", long(2, u64::MAX), "malformed"),
            at("a little more than allowed", long(2, 100_001), "100001"),
            at("a command of 2^62 bytes", long(6, 1 << 62), "command"),
            at("reserved flags", vec![0x08, 0], "malformed"),
            at("all flags", vec![0xff, 0], "malformed"),
            at(
                "command and more",
                [vec![5], command("PING", &[0, 0])[1..].to_vec()].concat(),
                "malformed",
            ),
            at("empty command", vec![4, 0], "malformed"),
            at("command without a name", vec![4, 1, 0], "malformed"),
            at(
                "name longer than the command",
                vec![4, 3, 9, b'P', b'I'],
                "malformed",
            ),
            at("name of bytes", vec![4, 3, 2, 0xff, 0xfe], "malformed"),
            at("short PING", command("PING", &[0]), "malformed"),
            at("empty PING", command("PING", b""), "malformed"),
            at("long PING", command("PING", &[0; 19]), "malformed"),
            at("long PONG", command("PONG", &[0; 17]), "malformed"),
            at("READY again", command("READY", &of(Push)), "READY"),
            at("ERROR later", command("ERROR", b"\x03bad"), "bad"),
            at("MORE without end", more, "max_parts"),
            at("a message of three large frames", large, "max_total_size"),
            at(
                "a subscription to a PULL",
                command("SUBSCRIBE", b"x"),
                "SUBSCRIBE",
            ),
            at("a cancel to a PULL", command("CANCEL", b"x"), "CANCEL"),
        ],
    );
}

#[test]
fn frames_that_are_odd_and_right() {
    let fine = |name, bytes| Case {
        says: None,
        ..case(name, bytes, "").at(Pull, Push)
    };
    let split = [
        frame(1, b"a"),
        command("PING", &[0, 0]),
        command("NEW", b"x"),
        frame(0, b"b"),
    ];
    run(
        "frames_that_are_odd_and_right",
        &[
            fine(
                "long form of a short frame",
                [&[2][..], &5_u64.to_be_bytes(), b"hello"].concat(),
            ),
            fine(
                "long form of a command",
                [&[6][..], &7_u64.to_be_bytes(), b"\x04PING\0\0"].concat(),
            ),
            fine("unknown command", command("NEW", b"data")),
            fine("PONG that nobody asked for", command("PONG", b"x")),
            fine("commands within a message", split.concat()),
            fine("empty message", frame(0, b"")),
            fine("identity of 255", Vec::new()),
        ],
    );
}

#[test]
fn subscriptions_without_end() {
    let topic = |i: u32| format!("{i:05}").into_bytes();
    let commands: Vec<_> = (0..51).map(|i| command("SUBSCRIBE", &topic(i))).collect();
    let messages = (0..51).map(|i| frame(0, &[&[1][..], &topic(i)].concat()));
    let bytes: Vec<_> = (0..11).map(|i| command("SUBSCRIBE", &[i; 1000])).collect();
    let giant = [
        &[6][..],
        &(10_u64 + (1 << 30)).to_be_bytes(),
        b"\x09SUBSCRIBE",
    ]
    .concat();
    let mut cases = Vec::new();
    for ours in [Pub, XPub] {
        let at = |name, bytes, says| case(name, bytes, says).at(ours, Sub);
        cases.extend([
            at("commands", commands.concat(), "max_subscriptions"),
            at(
                "messages",
                messages.clone().collect::<Vec<_>>().concat(),
                "max_subscriptions",
            ),
            at("bytes", bytes.concat(), "max_subscription_bytes"),
            at("a topic of a GiB", giant.clone(), "max_command"),
            at(
                "a topic that is too long",
                command("SUBSCRIBE", &[7; 1001]),
                "max_topic_size",
            ),
        ]);
        // The same again and again is one.
        let same = command("SUBSCRIBE", b"same").repeat(1000);
        cases.push(Case {
            says: None,
            ..at("the same", same, "")
        });
    }
    run("subscriptions_without_end", &cases);
}

/// CVE-2021-20236: a topic as long as it may be, and its end, without recursion.
#[test]
fn a_long_topic_comes_and_goes() {
    within("a_long_topic_comes_and_goes", || {
        let ours = socket(XPub);
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let good = Good::beside(&ours, &endpoint);
        let mut peer = Raw::connect(&endpoint, Setup::new(Sub));
        for _ in 0..10 {
            let topic = vec![b'a'; 65_536];
            peer.stream
                .write_all(&command("SUBSCRIBE", &topic))
                .unwrap();
            peer.stream.write_all(&command("CANCEL", &topic)).unwrap();
            for first in [1, 0] {
                let told = loop {
                    let told = ours.recv_timeout(LONG).unwrap();
                    if told.first().len() > 1 {
                        break told;
                    }
                };
                assert_eq!((told.first()[0], told.first().len()), (first, 65_537));
            }
        }
        good.works();
    });
}

#[test]
fn slow_handshakes_keep_nobody_out() {
    within("slow_handshakes_keep_nobody_out", || {
        let ours = with(Pull, Options::new().max_handshakes(4));
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let monitor = ours.monitor();
        let mut slow: Vec<_> = (0..10).map(|_| open(&endpoint)).collect();
        // A byte now and then makes them no better.
        for stream in &mut slow {
            stream.write_all(&[0xff]).unwrap();
        }
        let begun = Instant::now();
        let good = Good::beside(&ours, &endpoint);
        assert!(begun.elapsed() < 10_000 * MS, "{:?}", begun.elapsed());
        let told = reason(&monitor).to_string();
        assert!(told.contains("max_handshakes"), "{told}");
        good.works();
    });
}

/// Bytes that come one by one do not keep a handshake alive.
#[test]
fn a_handshake_has_one_deadline() {
    within("a_handshake_has_one_deadline", || {
        let ours = with(Pull, Options::new().handshake_interval(300 * MS));
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let monitor = ours.monitor();
        let mut stream = open(&endpoint);
        let begun = Instant::now();
        for byte in ready(&[of(Push)]) {
            sward_runtime::sleep(10 * MS);
            if stream.write_all(&[byte]).is_err() {
                break;
            }
        }
        let told = reason(&monitor).to_string();
        assert!(told.contains("handshake"), "{told}");
        assert!(begun.elapsed() >= 300 * MS);
        assert!(is_closed(&mut stream));
    });
}

/// attacks.md 13: memory for what has come, not for what was announced.
#[test]
fn announcements_cost_nothing() {
    within("announcements_cost_nothing", || {
        let ours = with(Pull, Options::new().max_total_size(None));
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let good = Good::beside(&ours, &endpoint);
        let before = memory();
        let peers: Vec<_> = (0..100)
            .map(|_| {
                let mut peer = Raw::connect(&endpoint, Setup::new(Push));
                let header = [&[2][..], &(1_u64 << 40).to_be_bytes(), b"0123456789"].concat();
                peer.stream.write_all(&header).unwrap();
                peer
            })
            .collect();
        good.works();
        let grown = memory().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown}");
        drop(peers);
    });
}

/// Peers that ask without end and never read: the answers are bounded, others go on.
#[test]
fn a_flood_of_pings() {
    within("a_flood_of_pings", || {
        let ours = socket(Pull);
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let good = Good::beside(&ours, &endpoint);
        let before = memory();
        let mut peer = Raw::connect(&endpoint, Setup::new(Push));
        let pings = command("PING", &[0, 0, 1, 2, 3, 4]).repeat(10_000);
        let begun = Instant::now();
        // 13 MB; it may be that nobody reads them any more.
        for _ in 0..100 {
            peer.stream.write_all(&pings).unwrap();
        }
        good.works();
        assert!(begun.elapsed() < LONG);
        let grown = memory().saturating_sub(before);
        assert!(grown < 32 << 20, "{grown}");
    });
}

/// Peers that never read: a PUSH waits, a PUB drops and counts; memory ends at the high-water mark.
#[test]
fn peers_that_never_read() {
    within("peers_that_never_read", || {
        for (ours, peer) in [(Push, Pull), (Pub, Sub), (Router, Dealer), (Dealer, Dealer)] {
            let ours = with(ours, Options::new().send_hwm(10).send_buffer(65_536));
            let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
            let setup = Setup {
                identity: "deaf".into(),
                ..Setup::new(peer)
            };
            let mut deaf = Raw::connect(&endpoint, setup);
            deaf.stream
                .write_all(&command("SUBSCRIBE", b"")[..if peer == Sub { 12 } else { 0 }])
                .unwrap();
            if peer == Sub {
                ours.wait_subscribers(1, LONG).unwrap();
            }
            ours.wait_connected(1, LONG).unwrap();
            let before = memory();
            let mut message = Message::from(vec![7_u8; 100_000]);
            if ours.socket_type() == Router {
                message.push_front("deaf");
            }
            let mut taken = 0;
            for _ in 0..2_000 {
                taken += usize::from(ours.try_send(message.clone()).is_ok());
            }
            let lost = ours.stats().lost(Loss::HighWaterMark);
            match ours.socket_type() {
                Pub | Router => assert!(taken == 2_000 && lost > 1_800, "{taken} {lost}"),
                _ => assert!(taken < 200 && lost == 0, "{taken} {lost}"),
            }
            let grown = memory().saturating_sub(before);
            assert!(grown < 32 << 20, "{grown}");
        }
    });
}

#[test]
fn identities_that_collide() {
    within("identities_that_collide", || {
        let named = || Setup {
            identity: "same".into(),
            ..Setup::new(Dealer)
        };
        // The first has it.
        let ours = socket(Router);
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let good = Good::beside(&ours, &endpoint);
        let monitor = ours.monitor();
        let mut first = Raw::connect(&endpoint, named());
        first.send(&Message::from("one")).unwrap();
        assert_eq!(ours.recv_timeout(LONG).unwrap().first(), "same");
        let mut second = Raw::connect(&endpoint, named());
        let told = reason(&monitor).to_string();
        assert!(told.contains("routing id"), "{told}");
        assert!(is_closed(&mut second.stream));
        ours.send(["same", "to the first"]).unwrap();
        assert_eq!(first.recv().unwrap().first(), "to the first");
        good.works();
        // The last has it.
        let ours = with(Router, Options::new().router_handover(true));
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let good = Good::beside(&ours, &endpoint);
        let mut first = Raw::connect(&endpoint, named());
        first.send(&Message::from("one")).unwrap();
        assert_eq!(ours.recv_timeout(LONG).unwrap().first(), "same");
        let mut second = Raw::connect(&endpoint, named());
        assert!(is_closed(&mut first.stream));
        second.send(&Message::from("two")).unwrap();
        assert_eq!(ours.recv_timeout(LONG).unwrap().last(), "two");
        ours.send(["same", "to the second"]).unwrap();
        assert_eq!(second.recv().unwrap().first(), "to the second");
        good.works();
    });
}

/// CVE-2021-20235: two large messages of a peer of ZMTP 1.0; and of 2.0.
#[test]
fn old_peers_with_large_messages() {
    within("old_peers_with_large_messages", || {
        for version in [1, 2] {
            let ours = socket(Pull);
            let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
            let good = Good::beside(&ours, &endpoint);
            let mut stream = open(&endpoint);
            match version {
                1 => stream.write_all(&[1, 0]).unwrap(),
                _ => {
                    let signature = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f];
                    // Version 2.0, PUSH, no identity.
                    stream
                        .write_all(&[&signature[..], &[1, 8, 0, 0]].concat())
                        .unwrap();
                }
            }
            for i in 0..4_u8 {
                let body = vec![i; 20_000 + usize::from(i)];
                let header = match version {
                    1 => [&[0xff][..], &(body.len() as u64 + 1).to_be_bytes(), &[0]].concat(),
                    _ => [&[2][..], &(body.len() as u64).to_be_bytes()].concat(),
                };
                stream.write_all(&[header, body].concat()).unwrap();
            }
            for i in 0..4_u8 {
                let message = ours.recv_timeout(LONG).unwrap();
                assert_eq!(message.first(), &vec![i; 20_000 + usize::from(i)][..]);
            }
            good.works();
        }
    });
}

/// Cut at every byte, by an end and by a reset: what came whole is received, and nothing else.
#[test]
fn cut_at_every_byte() {
    within("cut_at_every_byte", || {
        let ours = with(Pull, Options::new().recv_hwm(0));
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let good = Good::beside(&ours, &endpoint);
        let whole = frame(0, b"whole");
        let parts = [frame(1, b"a"), frame(1, &[7; 300]), frame(0, b"end")].concat();
        let bytes = [&whole[..], &parts].concat();
        let monitor = ours.monitor();
        // The middle of the long frame is much of the same.
        for cut in (0..=bytes.len()).filter(|n| *n < 40 || *n > bytes.len() - 20 || n % 37 == 0) {
            let mut peer = Raw::connect(&endpoint, Setup::new(Push));
            peer.stream.write_all(&bytes[..cut]).unwrap();
            drop(peer);
            let told = reason(&monitor);
            assert!(matches!(told, Reason::PeerClosed), "{told:?}");
            let mut got = Vec::new();
            while let Ok(message) = ours.recv_timeout(MS) {
                got.push(message.len());
            }
            let wanted: &[usize] = match cut {
                n if n < whole.len() => &[],
                n if n < bytes.len() => &[1],
                _ => &[1, 3],
            };
            assert_eq!(got, wanted, "cut after {cut}");
        }
        good.works();
    });
}

#[test]
fn reset_at_every_moment() {
    within("reset_at_every_moment", || {
        for kind in [Pull, Router, Pub] {
            let ours = socket(kind);
            let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
            let good = Good::beside(&ours, &endpoint);
            let peer = match kind {
                Pull => Push,
                Router => Dealer,
                _ => Sub,
            };
            let bytes = [
                ready(&[of(peer)]),
                frame(1, b"\x01a"),
                command("PING", &[0, 9, 1]),
                frame(0, &[1; 300]),
            ]
            .concat();
            for cut in 0..=bytes.len() {
                let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                let mut writer = &stream;
                writer.write_all(&bytes[..cut]).unwrap();
                if cut % 3 == 0 {
                    // Let it answer, so that the reset comes later.
                    let mut byte = [0];
                    let mut reader = &stream;
                    reader.read_exact(&mut byte).unwrap();
                }
                drop(stream);
            }
            good.works();
        }
    });
}
