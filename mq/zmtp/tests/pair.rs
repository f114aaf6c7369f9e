//! Two connections with a wire between them: however the bytes are cut, whatever is lost or added,
//! and whatever the time is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    End, Pair, Random, Seen, command, frame, greeting, hello, lets_old_in, message, partner, ready,
    setup, within,
};
use sward_zmtp::{
    Connection, Event, Fault, Frame, Heartbeat, Message, Output, Setup, SocketType, Version,
};

const LARGE: usize = 300_000;

/// Of all sizes at which something changes.
fn traffic(end: &mut End) -> Vec<Seen> {
    let sizes = [0, 1, 64, 65, 254, 255, 256, 4095, 4096, 8192, 8193, LARGE];
    let mut sent = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        let body = Frame::from_fn(size, |bytes| bytes.fill(i as u8 + 2));
        let messages = [
            Message::from(body.clone()),
            Message::from([Frame::from("id"), Frame::empty(), body]),
        ];
        for message in messages {
            end.output.push(&message);
            sent.push(Seen::Message(message));
        }
    }
    sent
}

fn exchange(a: Setup, b: Setup, direct: bool, mut piece: impl FnMut() -> usize) {
    let mut pair = Pair::new(a, b);
    (pair.a.direct, pair.b.direct) = (direct, direct);
    let (from_a, from_b) = (traffic(&mut pair.a), traffic(&mut pair.b));
    pair.run(&mut piece);
    assert_eq!((&pair.a.fault, &pair.b.fault), (&None, &None));
    assert!(pair.a.received() == from_b && pair.b.received() == from_a);
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.seen[0], Seen::Ready);
        assert_eq!(end.connection.version(), Some(Version::V3_1));
        assert!(end.output.is_empty());
    }
}

#[test]
fn every_pair_of_types_that_fit_becomes_ready() {
    within("every_pair_of_types_that_fit_becomes_ready", || {
        // A STREAM has no handshake.
        let all = || {
            SocketType::ALL
                .into_iter()
                .filter(|of| *of != SocketType::Stream)
        };
        for a in all() {
            for b in all() {
                for old in 0..4 {
                    let (mut a, mut b) = (setup(a), setup(b));
                    (a.allow_old_peers, b.allow_old_peers) = (old & 1 == 1, old & 2 == 2);
                    let fit = a.socket_type.accepts(b.socket_type);
                    let mut pair = Pair::new(a, b);
                    pair.run(|| 1000);
                    for end in [&pair.a, &pair.b] {
                        assert_eq!(end.connection.is_ready(), fit);
                        let refused = matches!(
                            end.fault,
                            Some(Fault::Incompatible(_) | Fault::PeerError { .. })
                        );
                        assert_eq!(refused, !fit, "{:?}", end.fault);
                    }
                }
            }
        }
    });
}

#[test]
fn a_stream_has_no_protocol() {
    within("a_stream_has_no_protocol", || {
        let mut raw = Connection::new(Arc::new(setup(SocketType::Stream)), Instant::now());
        assert!(raw.control().is_empty() && !raw.is_ready());
        let (used, event) = raw.decode(b"GET");
        assert!(used == 0 && matches!(event, Ok(Some(Event::Ready(_)))));
        assert!(raw.is_ready() && raw.needs_conversion() && raw.poll_timeout().is_none());
        let (used, event) = raw.decode(b"GET");
        assert!(used == 3 && matches!(event, Ok(Some(Event::Message(m))) if m.first() == "GET"));
        assert!(matches!(raw.decode(b""), (0, Ok(None))));
        let mut output = Output::new();
        for text in ["HTTP", "/1.1"] {
            output.push(&Message::from(text));
        }
        let mut bytes = Vec::new();
        assert!(raw.convert(&mut output, &mut bytes) && bytes == b"HTTP");
        assert!(raw.convert(&mut output, &mut bytes) && !raw.convert(&mut output, &mut bytes));
        assert!(bytes == b"HTTP/1.1" && output.is_empty());
    });
}

#[test]
fn byte_by_byte_and_in_any_pieces() {
    within("byte_by_byte_and_in_any_pieces", || {
        let ends = |old: bool| {
            let mut ends = [setup(SocketType::Dealer), setup(SocketType::Router)];
            ends[0].identity = "me".into();
            ends.iter_mut().for_each(|end| end.allow_old_peers = old);
            ends
        };
        for old in [false, true] {
            let [a, b] = ends(old);
            exchange(a, b, old, || 1);
        }
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let [a, b] = ends(seed % 2 == 0);
            let most = [3, 100, 10_000, 1_000_000][random.below(4)];
            exchange(a, b, seed % 3 == 0, || 1 + random.below(most));
        }
    });
}

#[test]
fn what_a_reader_takes_at_once_is_the_same() {
    within("what_a_reader_takes_at_once_is_the_same", || {
        let mut pair = Pair::new(setup(SocketType::Push), setup(SocketType::Pull));
        pair.run(|| 1000);
        let sent = traffic(&mut pair.a);
        let mut bytes = Vec::new();
        while !pair.a.output.is_empty() {
            bytes.extend(pair.a.write(usize::MAX));
        }
        for most in [1, 2, usize::MAX] {
            let (mut rest, mut got) = (&bytes[..], Vec::new());
            loop {
                let mut left = most;
                let (used, event) = pair.b.connection.decode_each(rest, |message| {
                    got.push(Seen::Message(message));
                    left -= 1;
                    left > 0
                });
                assert!(matches!(event, Ok(None)));
                rest = &rest[used..];
                if left > 0 {
                    break;
                }
            }
            assert!(got == sent && rest.is_empty(), "{most} at a time");
        }
    });
}

/// The bytes that one end sends to another in a whole conversation.
fn recorded() -> Vec<u8> {
    let mut bytes = hello("DEALER");
    bytes.extend(frame(1, b"part"));
    bytes.extend(command(b"PING", b"\0\x0acontext"));
    bytes.extend(frame(0, b"end"));
    bytes.extend(frame(0, &[7; 300]));
    bytes.extend(command(b"UNKNOWN", b"data"));
    bytes.extend(frame(0, &[8; 9000]));
    bytes.extend(frame(0, b"last"));
    bytes
}

#[test]
fn a_conversation_may_end_anywhere() {
    within("a_conversation_may_end_anywhere", || {
        let bytes = recorded();
        let run = |bytes: &[u8]| {
            let mut end = End::new(setup(SocketType::Router), Instant::now());
            end.read(bytes);
            assert_eq!(end.fault, None);
            end.seen
        };
        let all = run(&bytes);
        assert_eq!(all.len(), 5);
        let mut most = 0;
        for cut in 0..bytes.len() {
            let seen = run(&bytes[..cut]);
            assert!(all.starts_with(&seen) && seen.len() >= most && seen.len() < all.len());
            most = seen.len();
        }
    });
}

#[test]
fn garbage_ends_a_connection_or_means_something() {
    within("garbage_ends_a_connection_or_means_something", || {
        let types = [SocketType::Router, SocketType::XPub, SocketType::Pull];
        for seed in 0..3000 {
            let mut random = Random::new(seed);
            let of = types[random.below(types.len())];
            let mut limited = if seed % 2 == 0 {
                setup(of)
            } else {
                lets_old_in(of)
            };
            limited.limits.max_total_size = Some(100_000);
            let mut end = End::new(limited, Instant::now());
            if random.below(3) > 0 {
                end.read(&hello(partner(of).name()));
            }
            let mut bytes = recorded().split_off(64);
            for _ in 0..=random.below(20) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            while !bytes.is_empty() && end.fault.is_none() {
                let n = (1 + random.below(3000)).min(bytes.len());
                end.read(&bytes[..n]);
                bytes.drain(..n);
            }
            assert!(end.reserved <= 200_000 && end.connection.control().len() <= 2000);
            if end.fault.is_some() {
                let (used, event) = end.connection.decode(b"anything");
                assert!(matches!((used, event), (8, Ok(None))));
                assert!(!end.connection.is_ready() && end.connection.body().is_none());
                assert_eq!(end.connection.poll_timeout(), None);
            }
        }
    });
}

#[test]
fn a_peer_of_3_0_gets_subscriptions_as_messages() {
    let mut end = End::new(setup(SocketType::Sub), Instant::now());
    let bytes = [greeting(0), ready(&[("Socket-Type", b"PUB")])].concat();
    end.read(&bytes);
    assert_eq!(end.connection.version(), Some(Version::V3_0));
    end.write(1000);
    end.connection.subscription(&mut end.output, true, b"topic");
    end.connection.subscription(&mut end.output, false, b"");
    assert_eq!(end.write(1000), b"\0\x06\x01topic\0\x01\0");
}

#[test]
fn a_peer_of_2_0() {
    let mut dealer = lets_old_in(SocketType::Dealer);
    dealer.identity = "me".into();
    let mut end = End::new(dealer, Instant::now());
    assert_eq!(end.write(1000), b"\xff\0\0\0\0\0\0\0\x03\x7f");
    end.read(b"\xff\0\0\0\0\0\0\0\x01\x7f");
    assert_eq!(end.write(1000), b"\x03");
    end.read(b"\x01");
    assert_eq!(end.write(1000), b"\x05\0\x02me");
    end.read(b"\x06\0\x05their\0\x05hello\x01\x01a\0\x01b");
    assert_eq!(
        end.seen,
        [Seen::Ready, message(&[b"hello"]), message(&[b"a", b"b"])]
    );
    let peer = end.connection.peer().unwrap();
    assert_eq!(
        (peer.version(), peer.identity()),
        (Version::V2_0, &Frame::from("their"))
    );
    assert_eq!(peer.socket_type(), Some(SocketType::Router));
    end.send(&[b"x", &[1; 300]]);
    let bytes = end.write(1000);
    assert_eq!(bytes[..12], *b"\x01\x01x\x02\0\0\0\0\0\0\x01\x2c");
    end.read(b"\x04\x05\x04PING");
    assert!(
        matches!(end.fault, Some(Fault::Malformed(_))),
        "it has no commands"
    );
}

#[test]
fn a_publisher_to_a_peer_of_2_0_gets_subscriptions() {
    let mut end = End::new(lets_old_in(SocketType::Pub), Instant::now());
    end.read(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x02\0\0\0\x03\x01ab\0\x01\0");
    assert_eq!(
        end.seen,
        [
            Seen::Ready,
            Seen::Subscribe(b"ab".to_vec()),
            Seen::Cancel(Vec::new())
        ]
    );
}

#[test]
fn a_peer_of_1_0() {
    for (hello, id) in [
        (b"\x01\0".to_vec(), ""),
        (b"\x04\0abc".to_vec(), "abc"),
        (b"\xff\0\0\0\0\0\0\0\x04\0abc".to_vec(), "abc"),
    ] {
        let mut dealer = lets_old_in(SocketType::Dealer);
        dealer.identity = "me".into();
        let mut end = End::new(dealer, Instant::now());
        let mut sent = end.write(1000);
        end.read(&hello);
        sent.extend(end.write(1000));
        // One frame of 1.0, of three bytes with the flags.
        assert_eq!(sent, b"\xff\0\0\0\0\0\0\0\x03\x7fme");
        let peer = end.connection.peer().unwrap();
        assert_eq!((peer.version(), peer.socket_type()), (Version::V1_0, None));
        assert_eq!(peer.identity(), id);
        end.read(b"\x02\x01a\x01\0");
        assert_eq!(end.received(), [message(&[b"a", b""])]);
        end.send(&[b"x", &[1; 253], &[2; 254]]);
        end.output.push_command(b"SUBSCRIBE", b"gone");
        end.send(&[b"y"]);
        let mut sent = Vec::new();
        loop {
            let bytes = end.write(100);
            sent.extend_from_slice(&bytes);
            if bytes.is_empty() {
                break;
            }
        }
        let expected = [
            &b"\x02\x01x\xfe\x01"[..],
            &[1; 253],
            b"\xff\0\0\0\0\0\0\0\xff\0",
            &[2; 254],
            b"\x02\0y",
        ];
        assert_eq!(sent, expected.concat());
        end.read(b"\0");
        assert!(end.fault.is_some());
    }
}

#[test]
fn a_subscriber_of_1_0_gets_everything() {
    let mut end = End::new(lets_old_in(SocketType::XPub), Instant::now());
    end.read(b"\x01\0");
    assert_eq!(end.seen, [Seen::Ready, Seen::Subscribe(Vec::new())]);
    end.read(b"\x03\0\x01a\x02\0x");
    assert_eq!(
        end.seen[2..],
        [Seen::Subscribe(b"a".to_vec()), message(&[b"x"])]
    );
}

#[test]
fn a_signature_with_version_0_is_followed_by_1_0() {
    let mut end = End::new(lets_old_in(SocketType::Pull), Instant::now());
    end.read(b"\xff\0\0\0\0\0\0\0\x01\x7f\0\x01\0\x03\0ab");
    assert_eq!(end.seen, [Seen::Ready, message(&[b"ab"])]);
    assert_eq!(end.write(100), b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01\0");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_handshake_that_takes_too_long_ends() {
    let mut end = End::new(setup(SocketType::Pull), Instant::now());
    let start = end.connection.poll_timeout().unwrap() - 30 * SECOND;
    end.read(&greeting(1));
    end.connection.heard(start + 29 * SECOND);
    assert_eq!(end.connection.handle_timeout(start + 29 * SECOND), Ok(()));
    assert_eq!(end.connection.poll_timeout(), Some(start + 30 * SECOND));
    let fault = end.connection.handle_timeout(start + 30 * SECOND);
    assert_eq!(fault, Err(Fault::HandshakeTimedOut(30 * SECOND)));
    assert_eq!(end.connection.poll_timeout(), None);
    assert_eq!(end.connection.handle_timeout(start + 60 * SECOND), Ok(()));

    let beating = Setup {
        heartbeat: Some(Heartbeat::every(SECOND)),
        ..setup(SocketType::Pull)
    };
    let mut dead = common::ready_with(beating, SocketType::Push);
    dead.read(&frame(0, b"x"));
    for _ in 0..2 {
        let at = dead.connection.poll_timeout().unwrap();
        let _ = dead.connection.handle_timeout(at);
    }
    let (used, event) = dead.connection.decode(&frame(0, b"x"));
    assert!(matches!((used, event), (3, Ok(None))), "it is over");

    let mut ready = common::ready_with(setup(SocketType::Pull), SocketType::Push);
    assert_eq!(ready.connection.poll_timeout(), None);
    assert_eq!(ready.connection.handle_timeout(start + 99 * SECOND), Ok(()));
}

#[test]
fn two_ends_that_beat_stay_together_and_a_silent_one_is_left() {
    within(
        "two_ends_that_beat_stay_together_and_a_silent_one_is_left",
        || {
            let beating = |of| Setup {
                heartbeat: Some(Heartbeat {
                    interval: SECOND,
                    timeout: 2 * SECOND,
                    ttl: 5 * SECOND,
                }),
                ..setup(of)
            };
            let mut pair = Pair::new(beating(SocketType::Push), setup(SocketType::Pull));
            pair.run(|| 1000);
            for _ in 0..50 {
                let next = [&pair.a, &pair.b].map(|end| end.connection.poll_timeout());
                pair.now = next.into_iter().flatten().min().unwrap();
                assert_eq!(pair.a.connection.handle_timeout(pair.now), Ok(()));
                assert_eq!(pair.b.connection.handle_timeout(pair.now), Ok(()));
                pair.run(|| 3);
            }
            let start = pair.now;
            // From here on nothing arrives.
            let (mut dead_a, mut dead_b) = (None, None);
            for tenth in 1..100 {
                let now = start + Duration::from_millis(100) * tenth;
                for (end, dead) in [(&mut pair.a, &mut dead_a), (&mut pair.b, &mut dead_b)] {
                    if let Err(fault) = end.connection.handle_timeout(now) {
                        *dead = Some((tenth, fault));
                    }
                }
            }
            // One second to the next PING, two more without an answer.
            assert_eq!(dead_a, Some((30, Fault::HeartbeatTimedOut(2 * SECOND))));
            assert_eq!(dead_b, Some((50, Fault::HeartbeatTimedOut(5 * SECOND))));
        },
    );
}

#[test]
fn a_ping_does_not_break_a_message_that_is_half_written() {
    let mut pair = Pair::new(
        Setup {
            heartbeat: Some(Heartbeat::every(SECOND)),
            ..setup(SocketType::Push)
        },
        setup(SocketType::Pull),
    );
    pair.run(|| 1000);
    pair.a.send(&[b"first", &[1; 5000], b"last"]);
    pair.a.send(&[b"next"]);
    let begun = pair.a.write(10);
    pair.b.read(&begun);
    let now = pair.a.connection.poll_timeout().unwrap();
    pair.a.connection.handle_timeout(now).unwrap();
    let rest = pair.a.write(100_000);
    let ping = rest
        .windows(6)
        .position(|w| w == b"\x04\x07\x04PIN")
        .unwrap();
    assert_eq!(rest.len() - ping, 9 + 6, "it is before the second message");
    pair.b.read(&rest);
    let expected = [
        message(&[b"first", &[1; 5000], b"last"]),
        message(&[b"next"]),
    ];
    assert_eq!(pair.b.received(), expected);
    assert_eq!(*pair.b.connection.control(), b"\x04\x05\x04PONG");
}

#[test]
fn a_new_connection_goes_on_with_the_same_queue() {
    let mut pair = Pair::new(setup(SocketType::Push), setup(SocketType::Pull));
    pair.run(|| 1000);
    for i in 0..10_u8 {
        pair.a.send(&[&[i], &[i; 100]]);
    }
    pair.a.write(105 * 3 + 20);
    let mut next = Pair::new(setup(SocketType::Push), setup(SocketType::Pull));
    next.a.output = std::mem::take(&mut pair.a.output);
    assert_eq!(next.a.output.messages(), 7);
    assert_eq!(next.a.output.rollback(), 1);
    next.run(|| 1000);
    let firsts = next.b.received().iter().map(|seen| match seen {
        Seen::Message(message) => message[0][0],
        other => panic!("{other:?}"),
    });
    assert_eq!(firsts.collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn an_idle_connection_is_small() {
    let mut end = common::ready_with(setup(SocketType::Pull), SocketType::Push);
    end.read(&frame(0, b"x"));
    drop(std::mem::take(end.connection.control()));
    assert!(size_of_val(&end.connection) <= 200);
    assert_eq!(end.connection.control().capacity(), 0);
    assert!(end.connection.body().is_none());
}

#[test]
fn values_can_go_to_other_threads() {
    fn check<T: Send + Sync>() {}
    check::<Connection>();
    check::<Output>();
    check::<Event>();
    check::<Fault>();
    check::<Setup>();
}
