//! One test for each rule of RFC 37 (ZMTP 3.1) that is about the wire, in our own words, with the
//! section it stands in; those of RFC 23 (ZMTP 3.0) where it differs.
//!
//! Rules about sockets (queues, order, reconnecting, matching) are the business of `sward-mq`; those
//! about CURVE and PLAIN come with these mechanisms. RESOURCE, JOIN, LEAVE and thread-safe sockets
//! are not supported.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{
    End, Pair, Seen, command, frame, greeting, hello, lets_old_in, message, property, ready,
    ready_with, setup,
};
use sward_zmtp::{Event, Fault, Frame, Heartbeat, Incompatible, Malformed, Setup, SocketType};
use sward_zmtp::{Version, encode};

fn end(socket_type: SocketType) -> End {
    End::new(setup(socket_type), Instant::now())
}

/// Version Negotiation: who needs no old peers sends all 64 bytes of the greeting, and should have
/// zeros in the padding. Backwards Interoperability: it should do so at once.
#[test]
fn the_whole_greeting_goes_out_at_once() {
    let sent = end(SocketType::Pull).write(1000);
    let mut expected = greeting(1);
    expected[8] = 0;
    assert_eq!(sent, expected);
}

/// Version Negotiation: who detects old peers sends what triggers the detection, then reads as much
/// of the other's; a peer that reads a full greeting must send one (no deadlock of two that wait).
#[test]
fn two_that_detect_old_peers_do_not_wait_for_each_other() {
    let mut pair = Pair::new(lets_old_in(SocketType::Push), lets_old_in(SocketType::Pull));
    assert_eq!(pair.a.write(1000).len(), 10);
    let mut pair = Pair::new(lets_old_in(SocketType::Push), lets_old_in(SocketType::Pull));
    pair.run(|| 1);
    assert_eq!(pair.a.connection.version(), Some(Version::V3_1));
    assert_eq!(pair.b.connection.version(), Some(Version::V3_1));
}

/// Version Negotiation: the padding means nothing, and must not be checked.
#[test]
fn padding_means_nothing() {
    let mut bytes = hello("PUSH");
    bytes[1..9].fill(0xA5);
    let mut end = end(SocketType::Pull);
    end.read(&bytes);
    assert_eq!(end.seen, [Seen::Ready]);
}

/// Version Negotiation: higher versions must be accepted, and our own version is used with them.
#[test]
fn higher_versions_are_spoken_to_in_ours() {
    for (major, minor, spoken) in [
        (3, 1, Version::V3_1),
        (3, 2, Version::V3_1),
        (4, 0, Version::V3_1),
        (255, 255, Version::V3_1),
        (3, 0, Version::V3_0),
    ] {
        for old in [false, true] {
            let mut bytes = hello("PUSH");
            (bytes[10], bytes[11]) = (major, minor);
            let mut setup = setup(SocketType::Pull);
            setup.allow_old_peers = old;
            let mut end = End::new(setup, Instant::now());
            end.read(&bytes);
            assert_eq!(end.connection.version(), Some(spoken));
            assert_eq!(end.write(1000)[10..12], [3, 1]);
        }
    }
}

/// Version Negotiation: who cannot speak the peer's version must close.
#[test]
fn versions_that_are_not_spoken_are_refused() {
    let mut end = end(SocketType::Pull);
    end.read(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01");
    let expected = Fault::Incompatible(Incompatible::Version(Version::V2_0));
    assert_eq!(end.fault, Some(expected));
}

/// Topology: where a mechanism has no roles, as-server means nothing and should be 0. The NULL
/// Security Mechanism: it must be 0.
#[test]
fn as_server_means_nothing_in_null() {
    let mut setup = setup(SocketType::Pull);
    setup.as_server = true;
    let mut end = End::new(setup, Instant::now());
    assert_eq!(end.write(1000)[32], 0);
    let mut bytes = hello("PUSH");
    bytes[32] = 1;
    end.read(&bytes);
    assert_eq!(end.seen, [Seen::Ready]);
}

/// Authentication and Confidentiality: another mechanism than ours must end the connection.
#[test]
fn mechanisms_must_be_the_same() {
    for name in [&b"CURVE"[..], b"NULLL", b"NUL", b"null", b""] {
        let mut bytes = greeting(1);
        bytes[12..32].fill(0);
        bytes[12..12 + name.len()].copy_from_slice(name);
        let mut end = end(SocketType::Pull);
        end.read(&bytes);
        let refused = matches!(
            end.fault,
            Some(Fault::Incompatible(Incompatible::Mechanism { .. }))
        );
        assert!(refused, "{name:?}");
    }
}

/// Error Handling: an ERROR is fatal.
#[test]
fn an_error_is_fatal() {
    let mut end = end(SocketType::Pull);
    end.read(&[greeting(1), command(b"ERROR", b"\x06reason")].concat());
    let expected = Fault::PeerError {
        reason: "reason".into(),
    };
    assert_eq!(end.fault, Some(expected));
}

/// Framing: a short length is one byte, a long one eight in network order; both may be used for few
/// bytes.
#[test]
fn lengths_have_two_forms() {
    let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
    end.read(b"\0\x01a\x02\0\0\0\0\0\0\0\x01b\x02\0\0\0\0\0\0\x01\0");
    end.read(&[7; 256]);
    end.read(b"\x06\0\0\0\0\0\0\0\x07\x04PING\0\0");
    assert_eq!(end.fault, None);
    assert_eq!(
        end.seen,
        [message(&[b"a"]), message(&[b"b"]), message(&[&[7; 256]])]
    );
}

/// Framing: bits 7 to 3 are reserved and must be zero.
#[test]
fn reserved_bits_are_zero() {
    for bit in 3..8 {
        let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
        end.read(&[1 << bit, 0]);
        assert_eq!(end.fault, Some(Malformed::ReservedFlags.into()));
    }
}

/// Framing: MORE is zero on commands.
#[test]
fn a_command_is_one_frame() {
    let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
    end.read(b"\x05\x05\x04PONG");
    assert_eq!(end.fault, Some(Malformed::CommandWithMore.into()));
}

/// Authentication and Confidentiality: a command of up to 255 bytes should have a short length, a
/// longer one a long length. Commands: the name has 1 to 255 letters.
#[test]
fn commands_have_a_short_length_where_it_fits() {
    let mut end = ready_with(setup(SocketType::Sub), SocketType::Pub);
    end.connection
        .subscription(&mut end.output, true, &[b't'; 245]);
    end.connection
        .subscription(&mut end.output, true, &[b't'; 246]);
    let bytes = end.write(1000);
    assert_eq!(bytes[..3], [4, 255, 9]);
    assert_eq!(bytes[257..268], *b"\x06\0\0\0\0\0\0\x01\0\x09S");
}

/// Messages: a message is sent and delivered as a whole or not at all.
#[test]
fn messages_come_as_a_whole() {
    let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
    end.read(&[frame(1, b"a"), frame(1, b"")].concat());
    assert_eq!(end.seen, []);
    end.read(&frame(0, b"c"));
    assert_eq!(end.seen, [message(&[b"a", b"", b"c"])]);
    end.output.push(&["a", "b"].into());
    end.output.push(&"c".into());
    end.write(4);
    assert_eq!((end.output.rollback(), end.output.messages()), (1, 1));
}

/// Formal Grammar: traffic is commands and messages, intermixed.
#[test]
fn commands_come_between_messages() {
    let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
    let traffic = [frame(0, b"a"), command(b"PING", b"\0\0"), frame(0, b"b")];
    end.read(&traffic.concat());
    assert_eq!(end.seen, [message(&[b"a"]), message(&[b"b"])]);
}

/// The NULL Security Mechanism: READY is sent, and answered by READY. (RFC 23: it must be sent
/// before the peer's is waited for.)
#[test]
fn ready_goes_out_when_the_greetings_are_exchanged() {
    let mut end = end(SocketType::Rep);
    end.write(1000);
    end.read(&greeting(1)[..63]);
    assert!(end.write(1000).is_empty());
    end.read(&[0]);
    assert_eq!(end.write(1000), ready(&[("Socket-Type", b"REP")]));
}

/// The NULL Security Mechanism: messages may go once both READY were exchanged, not before.
#[test]
fn no_message_goes_out_before_the_peers_ready() {
    let mut end = end(SocketType::Push);
    end.send(&[b"early"]);
    end.read(&greeting(1));
    assert!(!end.write(1000).ends_with(b"early"));
    assert!(end.write(1000).is_empty() && !end.connection.is_ready());
    end.read(&ready(&[("Socket-Type", b"PULL")]));
    assert_eq!(end.write(1000), b"\0\x05early");
    let mut early = self::end(SocketType::Pull);
    early.read(&[greeting(1), frame(0, b"early")].concat());
    assert!(matches!(early.fault, Some(Fault::Misbehaved { .. })));
}

/// The NULL Security Mechanism: names have 1 to 255 characters, whose case means nothing; values
/// have 0 to 2^31 - 1 bytes.
#[test]
fn properties_have_names_and_values() {
    let long = "n".repeat(255);
    let sent = ready(&[("SOCKET-type", b"PUSH"), (&long, b""), ("X-v", &[0; 1000])]);
    let mut end = end(SocketType::Pull);
    end.read(&[greeting(1), sent].concat());
    let metadata = end.connection.peer().unwrap().metadata();
    assert_eq!(metadata.get("Socket-Type"), Some(&b"PUSH"[..]));
    assert_eq!(metadata.get(&long.to_uppercase()), Some(&b""[..]));
    assert_eq!(metadata.get("x-V"), Some(&[0; 1000][..]));
    for bad in [property("", b""), b"\x01a\x80\0\0\0".to_vec()] {
        let mut end = self::end(SocketType::Pull);
        end.read(&[greeting(1), command(b"READY", &bad)].concat());
        assert!(matches!(end.fault, Some(Fault::Malformed(_))));
    }
}

/// Connection Metadata: names that begin with X- are the application's.
#[test]
fn applications_have_properties() {
    let mut push = setup(SocketType::Push);
    push.metadata = vec![("X-hello".into(), b"world".to_vec())];
    let mut pair = Pair::new(push, setup(SocketType::Pull));
    pair.run(|| 100);
    let metadata = pair.b.connection.peer().unwrap().metadata();
    assert_eq!(metadata.get("X-Hello"), Some(&b"world"[..]));
}

/// The Socket-Type Property: who may talk to whom. Errors should be answered with an ERROR, whose
/// reason has visible characters only.
#[test]
fn types_that_do_not_fit_are_refused_with_an_error() {
    let legal = [
        ("REQ", "REP ROUTER"),
        ("REP", "REQ DEALER"),
        ("DEALER", "REP DEALER ROUTER"),
        ("ROUTER", "REQ DEALER ROUTER"),
        ("PUB", "SUB XSUB"),
        ("XPUB", "SUB XSUB"),
        ("SUB", "PUB XPUB"),
        ("XSUB", "PUB XPUB"),
        ("PUSH", "PULL"),
        ("PULL", "PUSH"),
        ("PAIR", "PAIR"),
    ];
    for (ours, fitting) in legal {
        for (theirs, _) in legal {
            let mut end = end(ours.parse().unwrap());
            end.read(&hello(theirs));
            let fits = fitting.split(' ').any(|name| name == theirs);
            assert_eq!(end.connection.is_ready(), fits, "{ours} {theirs}");
            if !fits {
                let sent = end.write(1000);
                let at = sent.windows(6).position(|w| w == b"\x05ERROR").unwrap();
                let (len, reason) = sent[at + 6..].split_first().unwrap();
                assert_eq!(reason.len(), usize::from(*len));
                assert!(reason.iter().all(u8::is_ascii_graphic));
            }
        }
    }
}

/// The Identity Property: 0 to 255 bytes that do not begin with zero, from REQ, DEALER and ROUTER;
/// of other types it is ignored.
#[test]
fn identities() {
    let from = |socket_type: &str, identity: &[u8]| {
        let mut end = end(common::partner(socket_type.parse().unwrap()));
        let sent = ready(&[
            ("Socket-Type", socket_type.as_bytes()),
            ("Identity", identity),
        ]);
        end.read(&[greeting(1), sent].concat());
        match end.connection.peer() {
            Some(peer) => Ok(peer.identity().clone()),
            None => Err(end.fault.unwrap()),
        }
    };
    for socket_type in ["REQ", "DEALER", "ROUTER"] {
        assert_eq!(from(socket_type, b""), Ok(Frame::empty()));
        assert_eq!(from(socket_type, &[1; 255]), Ok(Frame::from(&[1; 255])));
        assert_eq!(from(socket_type, b"a\0"), Ok(Frame::from("a\0")));
        assert_eq!(
            from(socket_type, &[1; 256]),
            Err(Malformed::IdentityLength.into())
        );
        assert_eq!(
            from(socket_type, b"\0a"),
            Err(Malformed::IdentityReserved.into())
        );
    }
    for socket_type in ["REP", "PUSH", "PULL", "PUB", "SUB", "PAIR"] {
        assert_eq!(from(socket_type, b"\0a"), Ok(Frame::empty()));
    }
    let mut pair = Pair::new(
        Setup {
            identity: "me".into(),
            ..setup(SocketType::Req)
        },
        setup(SocketType::Router),
    );
    pair.run(|| 1000);
    assert_eq!(pair.b.connection.peer().unwrap().identity(), "me");
}

/// The Publish-Subscribe Pattern: a subscription is a SUBSCRIBE with the topic, its end a CANCEL.
#[test]
fn subscriptions_are_commands() {
    let mut end = ready_with(setup(SocketType::XSub), SocketType::XPub);
    end.connection.subscription(&mut end.output, true, b"A");
    end.connection.subscription(&mut end.output, false, b"");
    let expected = [command(b"SUBSCRIBE", b"A"), command(b"CANCEL", b"")].concat();
    assert_eq!(end.write(1000), expected);
    for of in [SocketType::Pub, SocketType::XPub] {
        let mut publisher = ready_with(setup(of), SocketType::Sub);
        publisher.read(&expected);
        let seen = [Seen::Subscribe(b"A".to_vec()), Seen::Cancel(Vec::new())];
        assert_eq!(publisher.seen, seen);
    }
}

/// The Publish-Subscribe Pattern: subscriptions are not idempotent, so each of them counts.
#[test]
fn each_subscription_counts() {
    let mut publisher = ready_with(setup(SocketType::Pub), SocketType::Sub);
    publisher.read(&command(b"SUBSCRIBE", b"A").repeat(2));
    assert_eq!(
        publisher.seen,
        [
            Seen::Subscribe(b"A".to_vec()),
            Seen::Subscribe(b"A".to_vec())
        ]
    );
}

/// RFC 23, The Publish-Subscribe Pattern: they are messages that begin with 1 or 0.
#[test]
fn subscriptions_of_3_0_are_messages() {
    let mut subscriber = end(SocketType::Sub);
    subscriber.read(&[greeting(0), ready(&[("Socket-Type", b"PUB")])].concat());
    subscriber.write(1000);
    subscriber
        .connection
        .subscription(&mut subscriber.output, true, b"A");
    subscriber
        .connection
        .subscription(&mut subscriber.output, false, b"A");
    let sent = subscriber.write(1000);
    assert_eq!(sent, b"\0\x02\x01A\0\x02\0A");
    let mut publisher = ready_with(setup(SocketType::Pub), SocketType::Sub);
    publisher.read(&sent);
    assert_eq!(
        publisher.seen,
        [Seen::Subscribe(b"A".to_vec()), Seen::Cancel(b"A".to_vec())]
    );
}

/// Connection Heartbeating: a PING is answered with a PONG that has the same context, of up to 16
/// bytes.
#[test]
fn pings_are_answered() {
    for context in [&b""[..], b"x", &[0xFF; 16]] {
        let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
        end.read(&command(b"PING", &[b"\0\x10", context].concat()));
        assert_eq!(end.write(1000), command(b"PONG", context));
    }
    for (name, len) in [(&b"PING"[..], 19), (b"PONG", 17)] {
        let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
        end.read(&command(name, &vec![0; len]));
        assert!(matches!(end.fault, Some(Fault::Malformed(_))));
    }
}

fn beats(timeout: u64) -> Setup {
    Setup {
        heartbeat: Some(Heartbeat {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(timeout),
            ttl: Duration::from_millis(2550),
        }),
        ..setup(SocketType::Pull)
    }
}

/// Connection Heartbeating: PING may go once the handshake is complete; it has a time to live in
/// tenths of a second.
#[test]
fn pings_go_out_after_the_handshake() {
    let mut end = End::new(beats(9), Instant::now());
    let handshake = end.connection.poll_timeout().unwrap();
    end.connection
        .handle_timeout(handshake - Duration::from_secs(1))
        .unwrap();
    end.read(&hello("PUSH"));
    end.write(1000);
    let at = end.connection.poll_timeout().unwrap();
    end.connection.handle_timeout(at).unwrap();
    assert_eq!(end.write(1000), command(b"PING", b"\0\x19"));
}

/// Connection Heartbeating: whatever comes is a sign of life, and without any the connection is
/// dead.
#[test]
fn anything_is_a_sign_of_life() {
    let mut end = ready_with(beats(1), SocketType::Push);
    for _ in 0..10 {
        let at = end.connection.poll_timeout().unwrap();
        assert_eq!(end.connection.handle_timeout(at), Ok(()));
        end.connection.heard(at);
        end.read(b"\0\x01x");
    }
    let at = end.connection.poll_timeout().unwrap();
    assert_eq!(end.connection.handle_timeout(at), Ok(()));
    let at = end.connection.poll_timeout().unwrap();
    assert!(end.connection.handle_timeout(at).is_err());
}

/// Connection Heartbeating: after a PING with a time to live, so long without traffic is the end.
#[test]
fn the_time_to_live_of_a_ping_ends_a_connection() {
    let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
    let now = Instant::now();
    end.connection.heard(now);
    end.read(&command(b"PING", b"\0\x14"));
    let death = now + Duration::from_secs(2);
    assert_eq!(end.connection.poll_timeout(), Some(death));
    assert_eq!(
        end.connection
            .handle_timeout(death - Duration::from_millis(1)),
        Ok(())
    );
    let fault = end.connection.handle_timeout(death);
    assert_eq!(fault, Err(Fault::HeartbeatTimedOut(Duration::from_secs(2))));
}

/// Detecting ZMTP 1.0 and 2.0 Peers: the padding is the length of our identity and one.
#[test]
fn the_signature_is_the_header_of_our_identity() {
    let mut setup = lets_old_in(SocketType::Dealer);
    setup.identity = [7; 255].as_slice().into();
    let sent = End::new(setup, Instant::now()).write(1000);
    assert_eq!(sent, b"\xff\0\0\0\0\0\0\x01\0\x7f");
}

/// Wire Analysis: in clear text, messages are message frames.
#[test]
fn messages_are_in_clear() {
    let mut encoded = Vec::new();
    encode(&["a", "b"].into(), &mut encoded);
    let mut end = ready_with(setup(SocketType::Pull), SocketType::Push);
    let (used, event) = end.connection.decode(&encoded);
    assert!(matches!((used, event), (6, Ok(Some(Event::Message(m)))) if m.len() == 2));
}
