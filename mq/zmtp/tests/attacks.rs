//! What a hostile peer sends: bytes in, fault out, and little memory taken for it. Most of these
//! have broken one implementation or another.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use common::{
    End, Seen, announce, command, frame, greeting, hello, lets_old_in, message, ready, ready_with,
    setup, within,
};
use sward_zmtp::{Connection, Fault, Incompatible, Limited, Limits, Malformed, Setup, SocketType};
use sward_zmtp::{Event, Version};

/// Taken for a body of which little has come.
const FIRST: usize = 128 * 1024;

/// A peer that sends this on a new connection ends it for this reason.
#[track_caller]
fn refused(setup: Setup, bytes: &[u8]) -> Fault {
    let mut faults = Vec::new();
    for piece in [1, 7, bytes.len().max(1)] {
        let mut end = End::new(setup.clone(), Instant::now());
        for part in bytes.chunks(piece) {
            end.read(part);
        }
        assert!(
            end.reserved <= FIRST,
            "{} bytes were reserved",
            end.reserved
        );
        assert!(end.connection.control().capacity() <= 2048);
        assert!(
            !end.seen.iter().any(|seen| *seen != Seen::Ready),
            "{:?}",
            end.seen
        );
        faults.push(end.fault.unwrap());
    }
    assert!(faults.iter().all(|fault| *fault == faults[0]), "{faults:?}");
    assert!(!faults[0].to_string().is_empty());
    faults.swap_remove(0)
}

fn too_large(what: Limited, limit: u64, declared: u64) -> Fault {
    Fault::TooLarge {
        what,
        limit,
        declared,
    }
}

fn misbehaved(fault: &Fault) -> bool {
    matches!(fault, Fault::Misbehaved { .. })
}

/// A handshake, then this.
fn after_hello(bytes: &[u8]) -> Vec<u8> {
    [&hello("DEALER")[..], bytes].concat()
}

#[test]
fn frames_that_are_none() {
    let cases: &[(&str, Vec<u8>, Malformed)] = &[
        ("reserved bit 3", vec![8], Malformed::ReservedFlags),
        ("reserved bit 7", vec![0x80, 0], Malformed::ReservedFlags),
        ("all bits", vec![0xFF; 9], Malformed::ReservedFlags),
        (
            "MORE on a short command",
            vec![5],
            Malformed::CommandWithMore,
        ),
        (
            "MORE on a long command",
            vec![7],
            Malformed::CommandWithMore,
        ),
        ("2^63 bytes", announce(0, 1 << 63), Malformed::FrameLength),
        (
            "2^64 - 1 bytes",
            announce(0, u64::MAX),
            Malformed::FrameLength,
        ),
        (
            "a command of 2^64 - 1 bytes",
            announce(4, u64::MAX),
            Malformed::FrameLength,
        ),
        (
            "an empty command",
            frame(4, b""),
            Malformed::CommandWithoutName,
        ),
        (
            "an empty name",
            frame(4, b"\0PING"),
            Malformed::CommandWithoutName,
        ),
        (
            "a name that is too long",
            frame(4, b"\x05PING"),
            Malformed::CommandNameLength,
        ),
        (
            "a name of 255 in one byte",
            frame(4, b"\xff"),
            Malformed::CommandNameLength,
        ),
        (
            "a name with a space",
            command(b"PI NG", b""),
            Malformed::CommandName,
        ),
        (
            "a name with a zero",
            command(b"PING\0", b""),
            Malformed::CommandName,
        ),
        ("a PING of no bytes", command(b"PING", b""), Malformed::Ping),
        (
            "a PING of one byte",
            command(b"PING", b"\0"),
            Malformed::Ping,
        ),
        (
            "a PING with a long context",
            command(b"PING", &[0; 19]),
            Malformed::Ping,
        ),
        (
            "a PING with 10 KB",
            command(b"PING", &[0; 10_000]),
            Malformed::Ping,
        ),
        (
            "a PONG with a long context",
            command(b"PONG", &[0; 17]),
            Malformed::Pong,
        ),
        (
            "an ERROR of no bytes",
            command(b"ERROR", b""),
            Malformed::Error,
        ),
        (
            "an ERROR that is too short",
            command(b"ERROR", b"\x03ab"),
            Malformed::Error,
        ),
    ];
    for (name, bytes, expected) in cases {
        let fault = refused(setup(SocketType::Router), &after_hello(bytes));
        assert_eq!(fault, Fault::Malformed(*expected), "{name}");
    }
}

#[test]
fn handshakes_that_are_none() {
    let with = |properties: &[(&str, &[u8])]| [greeting(1), ready(properties)].concat();
    let dealer = ("Socket-Type", &b"DEALER"[..]);
    let cases: &[(&str, Vec<u8>, Malformed)] = &[
        (
            "a browser",
            b"GET / HTTP/1.1\r\n".to_vec(),
            Malformed::Signature,
        ),
        (
            "TLS",
            b"\x16\x03\x01\x02\0\x01".to_vec(),
            Malformed::Signature,
        ),
        (
            "another tenth byte",
            b"\xff\0\0\0\0\0\0\0\0\x01".to_vec(),
            Malformed::Signature,
        ),
        ("no metadata", with(&[]), Malformed::NoSocketType),
        (
            "no such type",
            with(&[("Socket-Type", b"DEALERS")]),
            Malformed::SocketType,
        ),
        (
            "a type in small letters",
            with(&[("Socket-Type", b"dealer")]),
            Malformed::SocketType,
        ),
        (
            "an identity of 256 bytes",
            with(&[dealer, ("Identity", &[1; 256])]),
            Malformed::IdentityLength,
        ),
        (
            "an identity of 0",
            with(&[dealer, ("Identity", b"\0\0\0\0\x01")]),
            Malformed::IdentityReserved,
        ),
        (
            "two identities",
            with(&[dealer, ("Identity", b"a"), ("Identity", b"b")]),
            Malformed::DuplicateProperty,
        ),
        (
            "two types",
            with(&[dealer, ("socket-type", b"REQ")]),
            Malformed::DuplicateProperty,
        ),
        (
            "no name",
            with(&[dealer, ("", b"")]),
            Malformed::PropertyName,
        ),
        (
            "a name with a zero",
            with(&[dealer, ("a\0", b"")]),
            Malformed::PropertyName,
        ),
        (
            "one byte too many",
            [greeting(1), command(b"READY", b"\x01aa\0\0\0\0\0")].concat(),
            Malformed::MetadataLength,
        ),
        (
            "a value of 4 GiB",
            [greeting(1), command(b"READY", b"\x01a\xff\xff\xff\xff")].concat(),
            Malformed::MetadataLength,
        ),
        (
            "a value of 2 GiB",
            [greeting(1), command(b"READY", b"\x01a\x7f\xff\xff\xff")].concat(),
            Malformed::MetadataLength,
        ),
    ];
    for (name, bytes, expected) in cases {
        let fault = refused(setup(SocketType::Router), bytes);
        assert_eq!(fault, Fault::Malformed(*expected), "{name}");
    }
}

#[test]
fn things_at_the_wrong_time() {
    let long = [greeting(1), announce(0, 1 << 40)].concat();
    let cases: &[(&str, Vec<u8>)] = &[
        (
            "a message before READY",
            [greeting(1), frame(0, b"x")].concat(),
        ),
        (
            "a part of one before READY",
            [greeting(1), frame(1, b"x")].concat(),
        ),
        ("a terabyte before READY", long),
        (
            "a PING before READY",
            [greeting(1), command(b"PING", b"\0\0")].concat(),
        ),
        (
            "HELLO of PLAIN",
            [greeting(1), command(b"HELLO", b"\x01a\x01b")].concat(),
        ),
        (
            "SUBSCRIBE before READY",
            [greeting(1), command(b"SUBSCRIBE", b"")].concat(),
        ),
        (
            "a second READY",
            after_hello(&ready(&[("Socket-Type", b"DEALER")])),
        ),
        (
            "a second READY in a message",
            after_hello(&[frame(1, b"x"), ready(&[])].concat()),
        ),
        (
            "SUBSCRIBE to a ROUTER",
            after_hello(&command(b"SUBSCRIBE", b"t")),
        ),
        ("CANCEL to a ROUTER", after_hello(&command(b"CANCEL", b""))),
    ];
    for (name, bytes) in cases {
        let fault = refused(setup(SocketType::Router), bytes);
        assert!(misbehaved(&fault), "{name}: {fault:?}");
        assert_eq!(fault.code(), 0x1000_0001);
    }
}

/// CVE-2014-7202 and CVE-2014-9721 were about this.
#[test]
fn peers_that_say_they_are_old() {
    for (bytes, version) in [
        (&b"\xff\0\0\0\0\0\0\0\x01\0"[..], Version::V1_0),
        (b"\xff\0\0\0\0\0\0\0\x01\x7f\0", Version::V1_0),
        (b"\xff\0\0\0\0\0\0\0\x01\x7f\x01", Version::V2_0),
        (b"\xff\0\0\0\0\0\0\0\x01\x7f\x02", Version::V2_0),
    ] {
        let fault = refused(setup(SocketType::Router), bytes);
        assert_eq!(fault, Fault::Incompatible(Incompatible::Version(version)));
    }
    // Where they are let in, what they say of themselves is checked as well.
    let v2 = |rest: &[u8]| [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x01"[..], rest].concat();
    let reserved = Fault::from(Malformed::IdentityReserved);
    let cases = [
        (v2(b"\x0b"), Malformed::SocketType.into()),
        (v2(b"\xff"), Malformed::SocketType.into()),
        (v2(b"\x05\0\x01\0"), reserved.clone()),
        (
            v2(&[&b"\x05"[..], &announce(0, 256)].concat()),
            Malformed::IdentityLength.into(),
        ),
        (
            v2(&[&b"\x05"[..], &announce(0, 1 << 62)].concat()),
            Malformed::IdentityLength.into(),
        ),
        (b"\0".to_vec(), Malformed::ZeroLength.into()),
        (b"\x02\0\0".to_vec(), reserved),
        (
            b"\xff\0\0\0\0\0\0\x02\0\0".to_vec(),
            Malformed::IdentityLength.into(),
        ),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xda\0".to_vec(),
            Malformed::FrameLength.into(),
        ),
        (
            b"GET / HTTP/1.1\r\n".to_vec(),
            Malformed::ReservedFlags.into(),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(
            refused(lets_old_in(SocketType::Router), &bytes),
            expected,
            "{bytes:?}"
        );
    }
    assert!(misbehaved(&refused(
        lets_old_in(SocketType::Router),
        b"\x02\x01a"
    )));
    let wrong = refused(lets_old_in(SocketType::Router), &v2(b"\x01"));
    assert!(matches!(
        wrong,
        Fault::Incompatible(Incompatible::SocketTypes { .. })
    ));
}

/// CVE-2019-6250: the length in a pointer. zeromq 0.7: one header ends the whole process.
#[test]
fn lengths_that_are_only_announced() {
    let most = Limits::DEFAULT.max_total_size.unwrap();
    for len in [most + 1, 1 << 32, 1 << 62, i64::MAX as u64] {
        let fault = refused(setup(SocketType::Router), &after_hello(&announce(0, len)));
        assert_eq!(fault, too_large(Limited::Message, most, len));
        let fault = refused(setup(SocketType::Router), &after_hello(&announce(4, len)));
        assert_eq!(fault, too_large(Limited::Command, 16_384, len));
    }
    // Without any limit, memory is for what has come.
    let mut router = setup(SocketType::Router);
    router.limits.max_total_size = None;
    let mut end = ready_with(router, SocketType::Dealer);
    end.read(&announce(0, i64::MAX as u64));
    end.read(&[0; 100_000]);
    assert_eq!(end.fault, None);
    assert!(end.reserved <= FIRST);
    end.read(&[0; 400_000]);
    assert!(end.reserved <= 1_000_000);
}

/// libzmq has a limit for each frame only, and none in the default.
#[test]
fn a_message_without_end() {
    let mut router = setup(SocketType::Router);
    router.limits.max_parts = 100;
    let parts = frame(1, b"").repeat(101);
    let mut end = ready_with(router.clone(), SocketType::Dealer);
    end.read(&parts[..200]);
    assert_eq!(end.fault, None);
    end.read(&parts[200..]);
    assert_eq!(end.fault, Some(too_large(Limited::Parts, 100, 101)));

    (router.limits.max_total_size, router.limits.max_message_size) = (Some(10_000), Some(400));
    let mut end = ready_with(router.clone(), SocketType::Dealer);
    end.read(&frame(1, &[0; 400]).repeat(25));
    assert_eq!(end.fault, None);
    end.read(&frame(1, b"x"));
    assert_eq!(end.fault, Some(too_large(Limited::Message, 10_000, 10_001)));

    let mut end = ready_with(router.clone(), SocketType::Dealer);
    end.read(&frame(0, &[0; 401]));
    assert_eq!(end.fault, Some(too_large(Limited::Frame, 400, 401)));

    // The next message begins anew, also behind one of several frames.
    let mut end = ready_with(router.clone(), SocketType::Dealer);
    end.read(
        &[frame(1, &[0; 400]), frame(0, &[0; 400])]
            .concat()
            .repeat(20),
    );
    assert_eq!((end.fault.clone(), end.seen.len()), (None, 20));

    // A short frame is no way round a limit.
    router.limits.max_message_size = Some(100);
    let mut end = ready_with(router, SocketType::Dealer);
    end.read(&frame(0, &[0; 100]).repeat(150));
    assert_eq!((end.fault.clone(), end.seen.len()), (None, 150));
    end.read(&frame(0, &[0; 101]));
    assert_eq!(end.fault, Some(too_large(Limited::Frame, 100, 101)));
}

/// rzmq 0.5 panics at 256 frames.
#[test]
fn as_many_parts_as_allowed() {
    within("as_many_parts_as_allowed", || {
        let mut end = ready_with(setup(SocketType::Router), SocketType::Dealer);
        end.read(&frame(1, b"").repeat(65_535));
        end.read(&frame(0, b"end"));
        assert!(matches!(&end.seen[..], [Seen::Message(m)] if m.len() == 65_536));
        assert_eq!(end.fault, None);
    });
}

/// CVE-2021-20234: what was half received must not stay. Here it goes with its connection; and a
/// fault lets it go at once.
#[test]
fn a_fault_lets_go_of_what_was_half_received() {
    let mut end = ready_with(setup(SocketType::Router), SocketType::Dealer);
    end.read(&announce(0, 1 << 20));
    end.read(&[0; 500_000]);
    assert!(end.connection.body().is_some());
    end.connection.heard(Instant::now());
    let mut end = ready_with(setup(SocketType::Router), SocketType::Dealer);
    end.read(&[frame(1, &[0; 60_000]), frame(8, b"")].concat());
    assert!(end.fault.is_some() && end.connection.body().is_none());
    let (used, event) = end.connection.decode(&frame(0, b"x"));
    assert!(matches!((used, event), (3, Ok(None))));
}

/// CVE-2021-20236 (recursion in the number of bytes), and topics without bound.
#[test]
fn subscriptions_to_endless_topics() {
    let publisher = |old| {
        if old {
            lets_old_in(SocketType::XPub)
        } else {
            setup(SocketType::Pub)
        }
    };
    let subscriber = [greeting(1), ready(&[("Socket-Type", b"SUB")])].concat();
    for len in [65_537_u64, 1 << 20, (1 << 30) - 1] {
        let expected = too_large(Limited::Topic, 65_536, len);
        let name = [&b"\x09SUBSCRIBE"[..]].concat();
        let sent = [&subscriber[..], &announce(4, len + 10), &name, &[0; 99]].concat();
        assert_eq!(refused(publisher(false), &sent), expected);
        for first in [0, 1] {
            let sent = [&subscriber[..], &announce(0, len + 1), &[first], &[0; 99]].concat();
            assert_eq!(refused(publisher(true), &sent), expected);
        }
    }
    // A CANCEL has three letters less.
    let sent = [&subscriber[..], &command(b"CANCEL", &[7; 65_537])].concat();
    assert_eq!(
        refused(publisher(false), &sent),
        too_large(Limited::Topic, 65_536, 65_537)
    );
    // What is no subscription may not be as long as one.
    let sent = [&subscriber[..], &command(b"UNKNOWN", &[7; 20_000])].concat();
    assert_eq!(
        refused(publisher(false), &sent),
        too_large(Limited::Command, 16_384, 20_008)
    );

    let mut end = ready_with(publisher(false), SocketType::Sub);
    for topic in [0, 245, 246, 247, 65_536] {
        end.seen.clear();
        let topic = vec![7; topic];
        end.read(&command(b"SUBSCRIBE", &topic));
        end.read(&frame(0, &[&[1], &topic[..]].concat()));
        end.read(&command(b"CANCEL", &topic));
        end.read(&frame(0, &[&[0], &topic[..]].concat()));
        assert_eq!(end.fault, None);
        let (on, off) = (Seen::Subscribe(topic.clone()), Seen::Cancel(topic));
        assert!(end.seen == [on.clone(), on, off.clone(), off]);
    }
    // A message of several frames is none, nor is any on another type of socket.
    end.seen.clear();
    end.read(&[frame(1, b"\x01a"), frame(0, b"\x01b"), frame(0, b"\x02")].concat());
    assert_eq!(
        end.seen,
        [message(&[b"\x01a", b"\x01b"]), message(&[b"\x02"])]
    );
    let mut end = ready_with(setup(SocketType::Sub), SocketType::Pub);
    end.read(&frame(0, b"\x01topic"));
    assert_eq!(end.seen, [message(&[b"\x01topic"])]);
}

#[test]
fn properties_without_end() {
    let many: Vec<String> = (0..100).map(|i| format!("x{i}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (&name[..], &b""[..])).collect();
    let sent = [greeting(1), ready(&many)].concat();
    let fault = refused(setup(SocketType::Router), &sent);
    assert_eq!(fault, too_large(Limited::Metadata, 64, 65));
    // CVE-2019-13132: metadata for which there is no room.
    let sent = [greeting(1), ready(&[("x", &[0; 16_384])])].concat();
    let fault = refused(setup(SocketType::Router), &sent);
    assert_eq!(fault, too_large(Limited::Command, 16_384, 16_396));
}

/// libzmq answers a short PING with bytes that it has not got.
#[test]
fn pings_that_ask_for_too_much() {
    let mut end = ready_with(setup(SocketType::Router), SocketType::Dealer);
    end.read(&command(b"PING", b"\xff\xff0123456789abcdef"));
    assert_eq!(
        *end.connection.control(),
        command(b"PONG", b"0123456789abcdef")
    );
    // 6,553.5 seconds, which do not fit into 16 bits as milliseconds.
    let death = end.connection.poll_timeout().unwrap();
    assert_eq!(
        end.connection
            .handle_timeout(death - Duration::from_secs(1)),
        Ok(())
    );
    assert!(end.connection.handle_timeout(death).is_err());
    let far = Instant::now() + Duration::from_secs(6553);
    assert!(death > far - Duration::from_secs(10) && death < far + Duration::from_secs(10));
}

#[test]
fn a_flood_of_pings_without_reading() {
    let mut end = ready_with(setup(SocketType::Router), SocketType::Dealer);
    for _ in 0..100 {
        end.read(&command(b"PING", b"\0\x010123456789abcdef").repeat(1000));
    }
    assert_eq!(end.fault, None);
    assert!(end.connection.control().len() < 2048);
    end.connection.control().clear();
    end.read(&command(b"PING", b"\0\x01now"));
    assert_eq!(*end.connection.control(), command(b"PONG", b"now"));
}

#[test]
fn commands_between_the_frames_of_a_message() {
    let mut end = ready_with(setup(SocketType::XPub), SocketType::XSub);
    let between = [
        frame(1, b"a"),
        command(b"PING", b"\0\0"),
        command(b"SUBSCRIBE", b"t"),
        frame(1, &[7; 10_000]),
        command(b"JOIN", b"group"),
        announce(4, 5),
        b"\x04PONG".to_vec(),
        frame(0, b"z"),
    ];
    for part in between.concat().chunks(11) {
        end.read(part);
    }
    assert_eq!(end.fault, None);
    let expected = [
        Seen::Subscribe(b"t".to_vec()),
        message(&[b"a", &[7; 10_000], b"z"]),
    ];
    assert_eq!(end.seen, expected);
    assert_eq!(*end.connection.control(), command(b"PONG", b""));
}

#[test]
fn errors_from_the_peer() {
    for (when, bytes) in [
        (
            "before READY",
            [greeting(1), command(b"ERROR", b"\x03400")].concat(),
        ),
        ("after it", after_hello(&command(b"ERROR", b"\x03400"))),
    ] {
        let fault = refused(setup(SocketType::Router), &bytes);
        assert_eq!(
            fault,
            Fault::PeerError {
                reason: "400".into()
            },
            "{when}"
        );
    }
    // It may end up in a terminal.
    let bytes = after_hello(&command(b"ERROR", b"\x05\x1b[2J\n"));
    let said = refused(setup(SocketType::Router), &bytes).to_string();
    assert!(!said.chars().any(char::is_control), "{said}");
}

#[test]
fn another_mechanism() {
    let mut bytes = greeting(1);
    bytes[12..17].copy_from_slice(b"PLAIN");
    let fault = refused(setup(SocketType::Router), &bytes);
    assert!(fault.to_string().contains("the peer's is PLAIN"), "{fault}");
    assert_eq!(fault.code(), 0x1100_0002);
    bytes[12..32].fill(0x1b);
    let said = refused(setup(SocketType::Router), &bytes).to_string();
    assert!(!said.chars().any(char::is_control), "{said}");
}

/// What is asked for after a fault, or out of order, is nothing.
#[test]
fn whatever_the_caller_does() {
    let mut end = End::new(setup(SocketType::Router), Instant::now());
    assert!(end.connection.body().is_none() && end.connection.peer().is_none());
    assert!(matches!(end.connection.decode(b""), (0, Ok(None))));
    let mut end = ready_with(setup(SocketType::Router), SocketType::Dealer);
    let (used, fault) = end.connection.decode(&[0, 1, b'x', 0xFF]);
    assert!(matches!((used, fault), (3, Ok(Some(Event::Message(_))))));
    let (used, fault) = end.connection.decode(&[0xFF]);
    assert!(used <= 1 && fault.is_err());
    assert!(matches!(
        end.connection.decode(&[0, 1, b'x']),
        (3, Ok(None))
    ));
    assert!(end.connection.poll_timeout().is_none());
    const { assert!(Connection::LEFTOVER < 10_000) };
}
