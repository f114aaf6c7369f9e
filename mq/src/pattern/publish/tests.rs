use std::collections::BTreeSet;

use sward_zmtp::SocketType;

use super::super::testing::{Bench, Random};
use super::*;

fn publisher() -> Bench {
    Bench::new(SocketType::Pub, &PatternOptions::default())
}

fn xpub(change: impl FnOnce(&mut PatternOptions)) -> Bench {
    let mut options = PatternOptions::default();
    change(&mut options);
    Bench::new(SocketType::XPub, &options)
}

fn subscribe(bench: &mut Bench, topic: &str) -> Result<(), Refusal> {
    bench.pattern.subscribe(&mut bench.pipes, topic.as_bytes())
}

fn unsubscribe(bench: &mut Bench, topic: &str) -> Result<(), Refusal> {
    bench
        .pattern
        .unsubscribe(&mut bench.pipes, topic.as_bytes())
}

fn all(bench: &mut Bench) -> Vec<(Message, Slot)> {
    std::iter::from_fn(|| bench.recv_from().ok()).collect()
}

/// RFC 29, PUB: "SHALL perform a binary comparison of the subscription against the start of the
/// first frame of the message".
#[test]
fn who_subscribed_gets_it() {
    let mut publ = publisher();
    publ.send("nobody").unwrap();
    let (a, b) = (publ.accept(""), publ.accept(""));
    publ.send("nobody").unwrap();
    publ.come(a, "\x01x");
    publ.come(a, "\x01xy");
    publ.come(b, "\x01xyz");
    publ.send(["x", "1"]).unwrap();
    publ.send(["xyzzy", "2"]).unwrap();
    publ.send(["y", "xyz"]).unwrap();
    assert_eq!(
        publ.sent(a),
        [["x", "1"], ["xyzzy", "2"]].map(Message::from)
    );
    assert_eq!(publ.sent(b), [Message::from(["xyzzy", "2"])]);
    publ.come(a, "\0x");
    publ.send("x").unwrap();
    publ.send("xy").unwrap();
    assert_eq!(publ.sent(a), [Message::from("xy")]);
    assert_eq!(publ.pattern.subscribers(b"xyz"), 2);
    assert_eq!(publ.pattern.subscribers(b"x"), 0);
    assert_eq!(publ.losses, []);
    assert_eq!(publ.changes, 4);
}

#[test]
fn everybody_who_wants_everything_gets_it() {
    let mut publ = publisher();
    let (a, b) = (publ.accept(""), publ.accept(""));
    publ.come(a, "\x01");
    publ.send("1").unwrap();
    publ.come(b, "\x01");
    publ.send("2").unwrap();
    publ.end(a);
    publ.send("3").unwrap();
    assert_eq!(publ.sent(b), ["2", "3"].map(Message::from));
    let c = publ.accept("");
    assert_eq!(c, a);
    publ.send("4").unwrap();
    assert_eq!(publ.sent(c), []);
}

/// RFC 29, PUB: "SHALL silently drop the message if the queue for a subscriber is full" - we
/// count it; "SHALL NOT block on sending".
#[test]
fn who_is_full_loses_it() {
    let mut publ = publisher();
    publ.hwm = 2;
    let (a, b) = (publ.accept(""), publ.accept(""));
    publ.come(a, "\x01");
    publ.come(b, "\x01");
    for i in ["1", "2", "3"] {
        assert!(publ.can_send());
        publ.send(i).unwrap();
        publ.sent(b);
    }
    assert_eq!(publ.losses, [(Loss::HighWaterMark, Some(a))]);
    assert_eq!(publ.sent(a), ["1", "2"].map(Message::from));
    publ.send("4").unwrap();
    assert_eq!(publ.sent(a), [Message::from("4")]);
}

/// RFC 29, PUB: "SHALL silently discard any messages that subscribers send it" - we count them;
/// "SHALL NOT deliver these commands to its calling application". CVE-2021-20237.
#[test]
fn a_pub_receives_nothing() {
    let mut publ = publisher();
    let slot = publ.accept("");
    for _ in 0..1_000 {
        publ.come(slot, ["user", "message"]);
    }
    publ.come(slot, "");
    publ.come(slot, "\x01A");
    assert_eq!(publ.unread(slot), 0);
    assert_eq!(publ.losses, [(Loss::Unexpected, Some(slot)); 1_001]);
    assert_eq!(publ.recv(), Err(Refusal::Unsupported));
    assert!(!publ.can_recv());
    publ.end(slot);
    assert!(!publ.exists(slot));
}

/// test_xpub_nodrop: "returns EAGAIN at HWM, nothing lost".
#[test]
fn nodrop_waits_for_all() {
    for topic in ["\x01", "\x01m"] {
        let mut publ = publisher();
        publ.configure(|o| o.xpub_nodrop = true);
        publ.hwm = 1;
        let (a, b) = (publ.accept(""), publ.accept(""));
        let idle = publ.accept("");
        publ.come(a, topic);
        publ.come(b, topic);
        if topic.len() == 1 {
            publ.end(idle);
        }
        publ.send("m1").unwrap();
        assert_eq!(publ.send("m2"), Err(Refusal::WouldBlock));
        assert_eq!(publ.sent(a), [Message::from("m1")]);
        assert_eq!(publ.send("m2"), Err(Refusal::WouldBlock));
        assert_eq!(publ.sent(a), []);
        publ.sent(b);
        publ.send("m2").unwrap();
        assert_eq!((publ.sent(a).len(), publ.sent(b).len()), (1, 1));
        assert_eq!(publ.losses, []);
    }
}

/// test_pub_invert_matching.
#[test]
fn inverted() {
    let mut publ = publisher();
    let (a, b) = (publ.accept(""), publ.accept(""));
    publ.come(a, "\x01prefix1");
    publ.come(b, "\x01p2");
    publ.configure(|o| o.invert_matching = true);
    publ.send("prefix1").unwrap();
    publ.send("p2").unwrap();
    publ.send("other").unwrap();
    assert_eq!(publ.sent(a), ["p2", "other"].map(Message::from));
    assert_eq!(publ.sent(b), ["prefix1", "other"].map(Message::from));
    assert_eq!(publ.pattern.subscribers(b"p2"), 1);
}

/// test_xpub_verbose, test_xpub_verboser, with one subscriber and with two.
#[test]
fn the_first_and_the_last_are_told() {
    let mut xpub = xpub(|_| {});
    let (a, b) = (xpub.accept(""), xpub.accept(""));
    for (slot, message, told) in [
        (a, "\x01A", true),
        (a, "\x01B", true),
        (a, "\x01A", false),
        (b, "\x01A", false),
        (a, "\0A", false),
        (a, "\0A", false),
        (b, "\0A", true),
        (b, "\0A", false),
    ] {
        xpub.come(slot, message);
        assert_eq!(xpub.can_recv(), told, "{message:?}");
        let expected = told.then(|| (message.into(), slot));
        assert_eq!(xpub.recv_from().ok(), expected);
    }
    xpub.configure(|o| o.xpub_verbose = true);
    for (slot, message, told) in [
        (a, "\x01A", true),
        (a, "\x01A", true),
        (b, "\x01A", true),
        (a, "\0A", false),
        (b, "\0A", true),
        (b, "\0A", false),
    ] {
        xpub.come(slot, message);
        assert_eq!(xpub.recv_from().ok(), told.then(|| (message.into(), slot)));
    }
    xpub.configure(|o| o.xpub_verboser = true);
    for (slot, message) in [
        (a, "\x01A"),
        (b, "\x01A"),
        (b, "\0A"),
        (a, "\0A"),
        (a, "\0A"),
    ] {
        xpub.come(slot, message);
        assert_eq!(xpub.recv_from(), Ok((message.into(), slot)));
    }
}

/// test_xpub_topic: around the lengths where the form on the wire changes, and far beyond.
#[test]
fn topics_of_any_length() {
    let mut xpub = xpub(|_| {});
    let slot = xpub.accept("");
    for len in (240..260).chain([0, 1, 65_535, 1 << 20]) {
        let topic = vec![b'x'; len];
        let message = |first: u8| Message::from([&[first], &topic[..]].concat());
        xpub.come(slot, message(1));
        assert_eq!(xpub.recv(), Ok(message(1)));
        xpub.send(topic.clone()).unwrap();
        assert_eq!(xpub.sent(slot).len(), 1);
        xpub.come(slot, message(0));
        assert_eq!(xpub.recv(), Ok(message(0)));
        xpub.send(topic.clone()).unwrap();
        assert_eq!(xpub.sent(slot).len(), 0);
    }
}

/// RFC 29, XPUB: "SHALL, if the subscriber peer disconnects prematurely, generate a suitable
/// unsubscribe request for the calling application".
#[test]
fn a_lost_peer_gives_back_its_topics() {
    let mut xpub = xpub(|_| {});
    let (a, b) = (xpub.accept(""), xpub.accept(""));
    for topic in ["\x01alone", "\x01both", "\x01too"] {
        xpub.come(a, topic);
    }
    xpub.come(b, "\x01both");
    all(&mut xpub);
    xpub.end(a);
    assert!(xpub.exists(a));
    // Its successor is told apart from it, although it wants the same.
    let c = xpub.accept("");
    assert_ne!(c, a);
    xpub.come(c, "\x01too");
    let expected = [("\0alone", a), ("\0too", a), ("\x01too", c)];
    assert_eq!(
        all(&mut xpub),
        expected.map(|(text, slot)| (text.into(), slot))
    );
    assert!(!xpub.exists(a));
    xpub.configure(|o| o.xpub_verboser = true);
    xpub.end(b);
    assert_eq!(all(&mut xpub), [("\0both".into(), b)]);
    assert_eq!(xpub.pattern.topics(), 1);
    xpub.detach(c);
    assert_eq!(all(&mut xpub), [("\0too".into(), NOBODY)]);
    assert_eq!((xpub.pattern.topics(), xpub.pipes.len()), (0, 0));
}

/// test_user_message, test_user_message_multi.
#[test]
fn messages_of_subscribers_come_through() {
    let mut xpub = xpub(|_| {});
    let slot = xpub.accept("");
    let user = [
        Message::from("\x02A"),
        ["ABC", "\x01DE"].into(),
        Message::new(),
    ];
    for message in &user {
        xpub.come(slot, message.clone());
        assert_eq!(xpub.recv_from(), Ok((message.clone(), slot)));
    }
    xpub.come(slot, ["\x01A", "x", "\x01B"]);
    let told: Vec<_> = all(&mut xpub).into_iter().map(|(m, _)| m).collect();
    assert_eq!(told, ["\x01A", "\x01B", "x"].map(Message::from));
    xpub.configure(|o| o.only_first_subscribe = true);
    xpub.come(slot, ["\x01C", "\x01D"]);
    xpub.come(slot, ["\0C", "\0D"]);
    let told: Vec<_> = all(&mut xpub).into_iter().map(|(m, _)| m).collect();
    assert_eq!(told, ["\x01C", "\x01D", "\0C", "\0D"].map(Message::from));
    assert_eq!(xpub.pattern.topics(), 2);
    // What came before the end is delivered after it.
    xpub.pipes[slot].pipe.try_recv(&mut Message::new());
    xpub.far[&slot].lock().come("last");
    xpub.end(slot);
    let told: BTreeSet<_> = all(&mut xpub)
        .into_iter()
        .map(|(m, _)| format!("{m:?}"))
        .collect();
    assert_eq!(told.len(), 3);
    assert!(!xpub.exists(slot));
}

/// test_xpub_manual: test_basic, test_unsubscribe_manual.
#[test]
fn manual() {
    let mut xpub = xpub(|o| o.xpub_manual = true);
    let (slot, other) = (xpub.accept(""), xpub.accept(""));
    xpub.come(slot, "\x01A");
    xpub.come(slot, "\x01B");
    xpub.come(other, "\x01A");
    assert_eq!(xpub.recv_from(), Ok(("\x01A".into(), slot)));
    subscribe(&mut xpub, "XA").unwrap();
    assert_eq!(xpub.recv_from(), Ok(("\x01B".into(), slot)));
    subscribe(&mut xpub, "XB").unwrap();
    assert_eq!(xpub.recv_from(), Ok(("\x01A".into(), other)));
    for message in ["A", "XA", "XB"] {
        xpub.send(message).unwrap();
    }
    assert_eq!(xpub.sent(slot), ["XA", "XB"].map(Message::from));
    assert_eq!(xpub.sent(other), []);
    xpub.come(slot, "\0A");
    assert_eq!(xpub.recv_from(), Ok(("\0A".into(), slot)));
    unsubscribe(&mut xpub, "XA").unwrap();
    xpub.send("XA").unwrap();
    assert_eq!(xpub.sent(slot), []);
    xpub.end(slot);
    assert_eq!(xpub.pattern.subscribers(b"XB"), 0);
    assert_eq!(xpub.recv_from(), Ok(("\0B".into(), slot)));
    assert!(!xpub.exists(slot));
    unsubscribe(&mut xpub, "XB").unwrap();
    subscribe(&mut xpub, "XB").unwrap();
    assert_eq!(xpub.pattern.topics(), 0);
    xpub.configure(|_| {});
    assert_eq!(subscribe(&mut xpub, "A"), Err(Refusal::Unsupported));
    assert_eq!(unsubscribe(&mut xpub, "A"), Err(Refusal::Unsupported));
}

/// test_xpub_manual: test_xpub_proxy_unsubscribe_on_disconnect (each lost peer is told of), and
/// test_missing_subscriptions (each subscription acts on its own peer, though they come at once).
#[test]
fn manual_tells_of_each_peer() {
    let mut xpub = xpub(|o| o.xpub_manual = true);
    let peers = [xpub.accept(""), xpub.accept("")];
    for (slot, topic) in peers.into_iter().zip(["\x011", "\x012"]) {
        xpub.come(slot, topic);
        xpub.come(slot, "\x01same");
    }
    for (slot, topic) in [peers[0], peers[0], peers[1], peers[1]]
        .into_iter()
        .zip("1s2s".chars())
    {
        let (_, from) = xpub.recv_from().unwrap();
        assert_eq!(from, slot);
        subscribe(&mut xpub, &topic.to_string()).unwrap();
    }
    for topic in ["1", "2", "same"] {
        xpub.send(topic).unwrap();
    }
    assert_eq!(xpub.sent(peers[0]), ["1", "same"].map(Message::from));
    assert_eq!(xpub.sent(peers[1]), ["2", "same"].map(Message::from));
    xpub.end(peers[0]);
    xpub.end(peers[1]);
    let [a, b] = peers;
    let expected = [("\x001", a), ("\0same", a), ("\x002", b), ("\0same", b)];
    assert_eq!(
        all(&mut xpub),
        expected.map(|(text, slot)| (text.into(), slot))
    );
    assert_eq!(xpub.pipes.len(), 0);
}

/// A slot that was taken away and given to another peer is not that of the subscription.
#[test]
fn manual_does_not_act_on_a_successor() {
    let mut xpub = xpub(|o| o.xpub_manual = true);
    let slot = xpub.accept("");
    xpub.come(slot, "\x01A");
    xpub.recv().unwrap();
    xpub.detach(slot);
    assert_eq!(xpub.accept(""), slot);
    subscribe(&mut xpub, "A").unwrap();
    assert_eq!(xpub.pattern.topics(), 0);
    assert_eq!(xpub.recv_from(), Ok(("\0A".into(), NOBODY)));
}

/// test_xpub_manual_last_value: "next send only goes to the last subscriber".
#[test]
fn last_value() {
    let mut xpub = xpub(|o| o.xpub_manual_last_value = true);
    let (a, b) = (xpub.accept(""), xpub.accept(""));
    for slot in [a, b] {
        xpub.come(slot, "\x01A");
        xpub.recv().unwrap();
        subscribe(&mut xpub, "A").unwrap();
    }
    xpub.send("A last").unwrap();
    xpub.send("A next").unwrap();
    assert_eq!(xpub.sent(a), [Message::from("A next")]);
    assert_eq!(xpub.sent(b), ["A last", "A next"].map(Message::from));
}

/// test_xpub_welcome_msg.
#[test]
fn welcome() {
    let mut xpub = xpub(|o| o.xpub_welcome = Some("W".into()));
    let slot = xpub.accept("");
    xpub.come(slot, "\x01other");
    assert_eq!(xpub.sent(slot), []);
    xpub.come(slot, "\x01W");
    assert_eq!(xpub.sent(slot), [Message::from("W")]);
    xpub.come(slot, "\x01");
    assert_eq!(xpub.sent(slot), []);
    xpub.hwm = 0;
    let full = xpub.accept("");
    xpub.come(full, "\x01");
    assert_eq!(xpub.losses, [(Loss::HighWaterMark, Some(full))]);
}

/// test_pubsub_topics_count.
#[test]
fn topics_are_counted() {
    let mut publ = publisher();
    let (a, b) = (publ.accept(""), publ.accept(""));
    for (n, topic) in ["\x01a", "\x01ab", "\x01abc", "\x01x"]
        .into_iter()
        .enumerate()
    {
        publ.come(a, topic);
        publ.come(b, topic);
        assert_eq!(publ.pattern.topics(), n + 1);
    }
    publ.come(a, "\0ab");
    assert_eq!(publ.pattern.topics(), 4);
    publ.come(b, "\0ab");
    assert_eq!(publ.pattern.topics(), 3);
    publ.end(a);
    publ.end(b);
    assert_eq!(publ.pattern.topics(), 0);
}

/// zmtp.md 17: the queue of a connecting peer survives; it sends its subscriptions again.
#[test]
fn a_dialled_peer_subscribes_anew() {
    let mut xpub = xpub(|_| {});
    let slot = xpub.dial(None);
    assert!(xpub.up(slot, b""));
    xpub.come(slot, "\x01A");
    xpub.come(slot, "\x01B");
    xpub.down(slot);
    xpub.send("A meanwhile").unwrap();
    assert!(xpub.up(slot, b""));
    xpub.come(slot, "\x01A");
    xpub.send("B").unwrap();
    assert_eq!(xpub.sent(slot), [Message::from("A meanwhile")]);
    let told: Vec<_> = all(&mut xpub).into_iter().map(|(m, _)| m).collect();
    assert_eq!(
        told,
        ["\x01A", "\x01B", "\0A", "\0B", "\x01A"].map(Message::from)
    );
}

/// attacks.md B 16: a peer that subscribes without end while the user does not read.
#[test]
fn the_queue_is_bounded() {
    let mut xpub = xpub(|_| {});
    let slot = xpub.accept("");
    let topic = |i: u32| Message::from([&[1][..], &i.to_be_bytes()].concat());
    for i in 0..5_000 {
        xpub.come(slot, topic(i));
    }
    assert_eq!(xpub.unread(slot), 5_000 - PER_PEER);
    let other = xpub.accept("");
    xpub.come(other, "\x01other");
    assert_eq!(xpub.unread(other), 0);
    let mut others = 0;
    for i in 0..4_000 {
        let mut next = xpub.recv_from().unwrap();
        while next.1 == other {
            others += 1;
            next = xpub.recv_from().unwrap();
        }
        assert_eq!(next.0, topic(i));
    }
    assert_eq!(others, 1);
    xpub.end(slot);
    assert_eq!(xpub.pattern.topics(), 1);
    let rest = all(&mut xpub);
    let cancels = rest.iter().filter(|(m, _)| m.first()[0] == 0).count();
    assert!(cancels >= 4_000);
    assert!(!xpub.exists(slot));
    assert_eq!(xpub.pattern.topics(), 1);
}

/// A user who never reads: peers that come and go are served, and leave a bounded rest.
#[test]
fn a_user_who_never_reads() {
    let mut xpub = xpub(|_| {});
    for i in 0..3 * LOST as u32 {
        let slot = xpub.accept("");
        let topic = [&[1][..], &i.to_be_bytes()].concat();
        xpub.come(slot, topic);
        xpub.send(&i.to_be_bytes()).unwrap();
        assert_eq!(xpub.sent(slot).len(), 1);
        if i % 2 == 0 {
            xpub.end(slot);
        } else {
            xpub.detach(slot);
        }
    }
    assert_eq!(xpub.pattern.topics(), 0);
    assert!(xpub.pipes.len() <= LOST + 1, "{}", xpub.pipes.len());
    assert!(
        xpub.losses
            .iter()
            .all(|(loss, _)| *loss == Loss::HighWaterMark)
    );
    all(&mut xpub);
    assert_eq!(xpub.pipes.len(), 0);
}

#[test]
fn a_peer_that_subscribes_to_too_much_is_closed() {
    let mut publ = publisher();
    publ.configure(|o| o.max_subscription_bytes = 8 << 20);
    let (slot, good) = (publ.accept(""), publ.accept(""));
    publ.come(good, "\x01");
    let topic = vec![1_u8; 1 << 20];
    for len in 0..10 {
        publ.come(slot, topic[len..].to_vec());
    }
    assert_eq!(publ.closed, [(slot, false)]);
    assert_eq!(publ.pattern.topics(), 1);
    publ.come(slot, "\x01");
    publ.send("m").unwrap();
    assert_eq!((publ.sent(slot).len(), publ.sent(good).len()), (0, 1));
    publ.end(slot);
    assert!(!publ.exists(slot));
}

/// What the user is told, put together, is what is subscribed to; whoever comes, goes, is cut
/// off or sends what, and whenever the user reads.
#[test]
fn the_user_can_follow() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for round in 0..60 {
        let mut xpub = xpub(|_| {});
        let mut told = BTreeSet::new();
        let reads = [1, 5, 50][round % 3];
        for _ in 0..1_000 {
            let slots: Vec<_> = xpub.far.keys().copied().collect();
            let slot = (!slots.is_empty()).then(|| slots[random.below(slots.len())]);
            match (random.below(30), slot) {
                (0, _) => drop(xpub.accept("")),
                (1, Some(slot)) => xpub.end(slot),
                (2, Some(slot)) if random.below(4) == 0 => xpub.detach(slot),
                (3, Some(slot)) => xpub.pattern.readable(&mut xpub.pipes, slot),
                (kind, Some(slot)) if !xpub.pipes[slot].ended => {
                    let topic = [(kind % 2) as u8, random.below(9) as u8];
                    xpub.come(slot, topic.as_slice());
                }
                _ => {}
            }
            if random.below(reads) == 0 {
                for (message, _) in all(&mut xpub) {
                    let topic = message.first()[1];
                    if message.first()[0] == 1 {
                        assert!(told.insert(topic), "seed {seed}");
                    } else {
                        assert!(told.remove(&topic), "seed {seed}");
                    }
                }
                assert_eq!(told.len(), xpub.pattern.topics(), "seed {seed}");
                for topic in 0..9 {
                    let wanted = xpub.pattern.subscribers(&[topic]) > 0;
                    assert_eq!(told.contains(&topic), wanted, "seed {seed}");
                }
            }
        }
    }
}
