//! PUB, SUB, XPUB and XSUB (RFC 29).

use std::time::Duration;

use crate::support::wire::{Plug, Wire};
use crate::support::{
    EAGAIN, ENOTSUP, IntoFrames, Kind, Opt, Sock, Socket, World, settle, text, until,
};

use Kind::{Pub, Sub, XPub, XSub};

/// A subscription or its end, as XPUB hands it out.
fn on(topic: &str) -> String {
    format!("\\x01{topic}")
}

fn off(topic: &str) -> String {
    format!("\\x00{topic}")
}

/// An XPUB of the subject and peers that are connected to it.
fn xpub(w: &World, kind: Kind, n: usize, options: &[Opt]) -> (Socket, Vec<Socket>) {
    let xpub = w.subject(XPub);
    xpub.with(options.iter().cloned());
    let endpoint = xpub.listen(w);
    let peers: Vec<Socket> = (0..n).map(|_| w.peer(kind)).collect();
    for (i, peer) in peers.iter().enumerate() {
        peer.dial(&endpoint);
        xpub.wait_up(i + 1);
        peer.wait_up(1);
    }
    (xpub, peers)
}

/// A SUB of the subject, connected to a PUB, with these subscriptions in effect.
fn subscribed(w: &World, topics: &[&str]) -> (Socket, Socket) {
    let (publisher, sub) = (w.peer(Pub), w.subject(Sub));
    for topic in topics {
        sub.subscribe(topic.as_bytes()).unwrap();
    }
    sub.dial(&publisher.listen(w));
    settle(&*publisher, &[&*sub]);
    (publisher, sub)
}

/// "SHALL match the topic against the first frame, as a prefix"; none matches nothing, an empty one
/// everything.
fn prefixes_match(w: &World) {
    let publisher = w.subject(Pub);
    let endpoint = publisher.listen(w);
    let cases: [(&[&str], &[&str]); 7] = [
        (&[], &[]),
        (&[""], &["", "a", "ab", "abc", "b", "ba"]),
        (&["a"], &["a", "ab", "abc"]),
        (&["ab"], &["ab", "abc"]),
        (&["a", "b"], &["a", "ab", "abc", "b", "ba"]),
        (&["a", "ab", ""], &["", "a", "ab", "abc", "b", "ba"]),
        (&["abcd", "ba"], &["ba"]),
    ];
    let subs: Vec<Socket> = cases.iter().map(|_| w.peer(Sub)).collect();
    for (sub, (topics, _)) in subs.iter().zip(cases) {
        for topic in topics {
            sub.subscribe(topic.as_bytes()).unwrap();
        }
        sub.dial(&endpoint);
    }
    let all: Vec<&dyn Sock> = subs.iter().map(|sub| &**sub).collect();
    settle_quietly(&*publisher, &all);
    for topic in ["", "a", "ab", "abc", "b", "ba"] {
        publisher.put([topic, "abcd"]);
    }
    publisher.put("end");
    for (sub, (_, wanted)) in subs.iter().zip(cases) {
        for topic in wanted {
            assert_eq!(sub.get(), [topic, "abcd"]);
        }
        assert_eq!(sub.one(), "end");
    }
}

/// As `settle`, for subscribers that have subscribed to everything, too; leaves them subscribed to
/// `end`.
fn settle_quietly(publisher: &dyn Sock, subscribers: &[&dyn Sock]) {
    for subscriber in subscribers {
        subscriber.subscribe(b"end").unwrap();
    }
    settle(publisher, subscribers);
}

/// "SHALL drop messages when it has no subscribers": a PUB never waits; and it receives nothing, nor
/// does a SUB send.
fn pub_never_waits(w: &World) {
    let publisher = w.subject(Pub);
    publisher.listen(w);
    for _ in 0..5000 {
        publisher.try_send("to nobody".into_frames()).unwrap();
    }
    assert_eq!(publisher.try_recv(), Err(ENOTSUP));
    assert_eq!(w.subject(Sub).try_send("x".into_frames()), Err(ENOTSUP));
}

/// What is sent upstream of a subscription's end is not received any more.
fn unsubscribed(w: &World) {
    let (publisher, sub) = subscribed(w, &["a", "b"]);
    publisher.put("a1");
    assert_eq!(sub.one(), "a1");
    sub.unsubscribe(b"a").unwrap();
    publisher.put("a2");
    publisher.put("b2");
    assert_eq!(sub.one(), "b2");
}

/// Subscriptions count: one that was made twice ends with the second end.
fn subscriptions_count(w: &World) {
    let (publisher, sub) = subscribed(w, &["a", "a", "z"]);
    sub.unsubscribe(b"a").unwrap();
    settle(&*publisher, &[&*sub]);
    publisher.put("a1");
    assert_eq!(sub.one(), "a1");
    sub.unsubscribe(b"a").unwrap();
    // Nothing is subscribed to that never was.
    let _ = sub.unsubscribe(b"never");
    publisher.put("a2");
    publisher.put("z");
    assert_eq!(sub.one(), "z");
}

/// A message of several frames, of any size, comes as one or not at all.
fn multiparts_come_whole(w: &World) {
    let (publisher, sub) = subscribed(w, &["t"]);
    for size in [0, 1, 255, 256, 8192, 100_000] {
        let frames = vec![b"t".to_vec(), vec![7; size], vec![], vec![8; size]];
        publisher.put(frames.clone());
        publisher.put(vec![b"u".to_vec(), vec![7; size]]);
        assert!(sub.take() == frames);
    }
}

/// XPUB hands out each topic's first subscription, and its last end.
fn xpub_tells_first_and_last(w: &World) {
    let (xpub, subs) = xpub(w, Sub, 2, &[]);
    let [a, b] = &subs[..] else { unreachable!() };
    a.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    b.subscribe(b"A").unwrap();
    b.subscribe(b"B").unwrap();
    assert_eq!(xpub.one(), on("B"));
    a.subscribe(b"A").unwrap();
    a.unsubscribe(b"A").unwrap();
    a.unsubscribe(b"A").unwrap();
    a.subscribe(b"C").unwrap();
    assert_eq!(xpub.one(), on("C"));
    b.unsubscribe(b"A").unwrap();
    assert_eq!(xpub.one(), off("A"));
    xpub.put("C1");
    assert_eq!(a.one(), "C1");
    xpub.put("A1");
    xpub.put("B1");
    assert_eq!(b.one(), "B1");
}

/// XPUB_VERBOSE: each subscription is handed out, of ends the last.
fn xpub_verbose(w: &World) {
    let (xpub, subs) = xpub(w, Sub, 2, &[Opt::XpubVerbose(true)]);
    let [a, b] = &subs[..] else { unreachable!() };
    a.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    b.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    a.unsubscribe(b"A").unwrap();
    a.subscribe(b"B").unwrap();
    assert_eq!(xpub.one(), on("B"));
    b.unsubscribe(b"A").unwrap();
    assert_eq!(xpub.one(), off("A"));
}

/// XPUB_VERBOSER: each end, too.
fn xpub_verboser(w: &World) {
    let (xpub, subs) = xpub(w, Sub, 2, &[Opt::XpubVerboser(true)]);
    let [a, b] = &subs[..] else { unreachable!() };
    a.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    b.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    a.unsubscribe(b"A").unwrap();
    assert_eq!(xpub.one(), off("A"));
    b.unsubscribe(b"A").unwrap();
    assert_eq!(xpub.one(), off("A"));
}

/// A peer that is lost has unsubscribed from everything.
fn the_lost_unsubscribe(w: &World) {
    let (xpub, mut subs) = xpub(w, Sub, 2, &[]);
    let [a, b] = [subs.remove(0), subs.remove(0)];
    a.subscribe(b"A").unwrap();
    a.subscribe(b"B").unwrap();
    let mut got = xpub.many(2);
    b.subscribe(b"B").unwrap();
    settle_topic(&xpub, &b, "mark");
    a.close();
    got.push(xpub.one());
    got.sort();
    assert_eq!(got, [off("A"), on("A"), on("B")]);
    b.close();
    let mut got = xpub.many(2);
    got.sort();
    assert_eq!(got, [off("B"), off("mark")]);
}

/// Waits until an XPUB has seen what this peer did before.
fn settle_topic(xpub: &Socket, peer: &Socket, mark: &str) {
    peer.subscribe(mark.as_bytes()).unwrap();
    assert_eq!(xpub.one(), on(mark));
}

/// A connection that is made again carries all subscriptions, not those that have ended.
fn subscriptions_survive_the_connection(w: &World) {
    for minor in [0, 1] {
        let plug = Plug::new(w);
        let sub = w.subject(Sub);
        sub.with([Opt::ReconnectIvl(10)]);
        let mut topics = vec!["A", "B", "C"];
        for topic in &topics {
            sub.subscribe(topic.as_bytes()).unwrap();
        }
        sub.dial(&plug.endpoint());
        for i in 0..3 {
            let mut wire = plug.accept();
            wire.greet(minor, "PUB");
            // libzmq learns of its new connection when it is called.
            sub.nothing();
            let mut got: Vec<_> = topics.iter().map(|_| wire.frame().1).collect();
            got.sort();
            let form = ["\u{1}", "\x09SUBSCRIBE"][usize::from(minor)];
            let wanted: Vec<_> = topics
                .iter()
                .map(|topic| format!("{form}{topic}"))
                .collect();
            assert!(
                got.iter().eq(wanted.iter().map(String::as_bytes)),
                "{:?}",
                text(&got)
            );
            wire.put([b"A1"]);
            assert_eq!(sub.one(), "A1");
            drop(wire);
            sub.wait_down(i + 1);
            if let Some(topic) = topics.pop() {
                sub.unsubscribe(topic.as_bytes()).unwrap();
            }
        }
    }
}

/// A forwarder by hand: subscriptions go up through XPUB and XSUB, messages down.
fn subscriptions_are_forwarded(w: &World) {
    let (front, back) = (w.subject(XSub), w.subject(XPub));
    let (publisher, sub) = (w.peer(XPub), w.peer(Sub));
    front.dial(&publisher.listen(w));
    sub.dial(&back.listen(w));
    front.wait_up(1);
    sub.subscribe(b"topic").unwrap();
    let subscription = back.take();
    assert_eq!(text(&subscription), [on("topic")]);
    front.put(subscription);
    assert_eq!(publisher.one(), on("topic"));
    publisher.put(["topic 1", "text"]);
    back.put(front.take());
    assert_eq!(sub.get(), ["topic 1", "text"]);
    sub.unsubscribe(b"topic").unwrap();
    front.put(back.take());
    assert_eq!(publisher.one(), off("topic"));
}

/// What an XSUB sends that is no subscription comes to the program behind the XPUB as it is, in one
/// frame or several.
fn users_talk_upstream(w: &World) {
    let (xpub, xsubs) = xpub(w, XSub, 1, &[]);
    let xsub = &xsubs[0];
    xsub.put("\u{2}hello");
    assert_eq!(xpub.one(), "\\x02hello");
    xsub.put(["first", "second", ""]);
    // Frame by frame, or as one message: what an XPUB is told has no parts in libzmq before 4.3.5.
    assert_eq!(xpub.get().first().unwrap(), "first");
    xsub.subscribe(b"A").unwrap();
    until("the subscription comes", || {
        xpub.get().first().unwrap() == &on("A")
    });
    xpub.put("A1");
    assert_eq!(xsub.one(), "A1");
}

/// So does what it says before the publisher is there.
fn users_talk_upstream_early(w: &World) {
    let (xsub, xpub) = (w.subject(XSub), w.peer(XPub));
    let (endpoint, _port) = w.fixed();
    xsub.dial(&endpoint);
    xsub.put("\u{2}hello");
    xpub.bind(&endpoint).unwrap();
    assert_eq!(xpub.one(), "\\x02hello");
}

/// Topics of any length. (From 246 to 255 bytes, a SUB of libzmq 4.3.4 writes what cannot be read:
/// the name of the command is not counted, and the length of 256 and more becomes one byte.)
fn long_topics(w: &World) {
    let (xpub, subs) = xpub(w, Sub, 1, &[]);
    for length in [1, 244, 245, 256, 257, 1000, 10_000] {
        a_topic(&xpub, &subs[0], length);
    }
}

/// Those, too.
fn topics_around_the_long_frame(w: &World) {
    let (xpub, sub) = (w.peer(XPub), w.subject(Sub));
    sub.dial(&xpub.listen(w));
    for length in 240..=260 {
        a_topic(&xpub, &sub, length);
    }
}

fn a_topic(xpub: &Socket, sub: &Socket, length: usize) {
    let topic = "t".repeat(length - 1) + "!";
    sub.subscribe(topic.as_bytes()).unwrap();
    assert_eq!(xpub.one(), on(&topic));
    xpub.put([&topic[..], "text"]);
    assert_eq!(sub.get(), [&topic[..], "text"]);
    sub.unsubscribe(topic.as_bytes()).unwrap();
    assert_eq!(xpub.one(), off(&topic));
}

/// INVERT_MATCHING: everything but what matches.
fn inverted(w: &World) {
    let (publisher, sub) = (w.subject(Pub), w.peer(Sub));
    publisher.with([Opt::InvertMatching(true)]);
    sub.with([Opt::InvertMatching(true)]);
    let endpoint = publisher.listen(w);
    sub.subscribe(b"A").unwrap();
    sub.dial(&endpoint);
    until("it gets what does not match", || {
        publisher.put("A no");
        publisher.put("B yes");
        sub.recv_for(Duration::from_millis(20))
            .is_ok_and(|frames| text(&frames) == ["B yes"])
    });
    for text in ["", "AB", "C"] {
        publisher.put(text);
    }
    let mut rest = Vec::new();
    while rest.last().is_none_or(|last| last != "C") {
        rest.push(sub.one());
    }
    rest.retain(|text| text != "B yes");
    assert_eq!(rest, ["", "C"]);
}

/// XPUB_NODROP: at the high-water mark it says EAGAIN, and nothing is lost.
fn xpub_nodrop(w: &World) {
    let options = [
        Opt::XpubNodrop(true),
        Opt::SendHwm(10),
        Opt::SendBuffer(4096),
    ];
    let (xpub, subs) = xpub(w, Sub, 1, &options);
    let sub = &subs[0];
    sub.subscribe(b"").unwrap();
    assert_eq!(xpub.one(), on(""));
    let text = "x".repeat(50_000);
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        match xpub.try_send(
            [format!("{sent}"), text.clone()]
                .map(String::into_bytes)
                .to_vec(),
        ) {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(errno) => {
                assert_eq!(errno, EAGAIN);
                refused += 1;
                sward_runtime::sleep(Duration::from_millis(1));
            }
        }
        assert!(sent < 5000, "no limit");
    }
    for i in 0..sent {
        assert_eq!(sub.get()[0], i.to_string());
    }
    xpub.put("room");
    assert_eq!(sub.one(), "room");
}

/// Without it, a subscriber at the mark misses messages, each as a whole; the others get all. (A PUB of
/// libzmq learns late that there is room again: with a mark this low, the others would miss some.)
fn a_slow_subscriber_misses_whole_messages(w: &World) {
    let options = [Opt::SendHwm(10), Opt::SendBuffer(4096)];
    let (xpub, subs) = xpub(w, Sub, 2, &options);
    for sub in &subs {
        sub.with([Opt::RecvHwm(10)]);
        sub.subscribe(b"").unwrap();
        sub.subscribe(b"end").unwrap();
    }
    let mut told = xpub.many(2);
    told.sort();
    assert_eq!(told, [on(""), on("end")]);
    // Of the second nothing was handed out: probes say that it is there.
    until("both get messages", || {
        xpub.put(["0", "0"]);
        subs.iter()
            .all(|sub| sub.recv_for(Duration::from_millis(5)).is_ok())
    });
    while let Ok(frames) = subs[0].recv_for(Duration::from_millis(50)) {
        assert_eq!(text(&frames), ["0", "0"]);
    }
    let padding = "x".repeat(50_000);
    let (fast, slow) = (&subs[0], &subs[1]);
    for i in 1..=300 {
        let number = i.to_string();
        xpub.put([&number[..], &padding, &number]);
        assert_eq!(fast.get()[0], number);
    }
    let mut last = 0;
    let mut got = 0;
    while let Ok(frames) = slow.recv_for(Duration::from_millis(300)) {
        let frames = text(&frames);
        let number: i32 = frames[0].parse().unwrap();
        assert!(number == 0 || number > last, "{number} after {last}");
        assert_eq!(frames.len(), if number == 0 { 2 } else { 3 });
        assert_eq!(&frames[0], frames.last().unwrap());
        last = number;
        got += 1;
    }
    assert!(got < 300, "nothing was dropped");
    // And it is a subscriber as ever.
    xpub.put("end");
    assert_eq!(slow.one(), "end");
}

/// XPUB_MANUAL: what counts is what the program says, for the peer whose subscription it got last.
fn xpub_manual(w: &World) {
    let (xpub, subs) = xpub(w, Sub, 2, &[Opt::XpubManual(true)]);
    let [a, b] = &subs[..] else { unreachable!() };
    a.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    xpub.subscribe(b"XA").unwrap();
    b.subscribe(b"B").unwrap();
    assert_eq!(xpub.one(), on("B"));
    xpub.subscribe(b"XB").unwrap();
    // What they asked for is not what they were given; and a SUB filters what it did not ask for.
    a.subscribe(b"X").unwrap();
    assert_eq!(xpub.one(), on("X"));
    b.subscribe(b"X").unwrap();
    assert_eq!(xpub.one(), on("X"));
    for topic in ["A", "B", "XA", "XB"] {
        xpub.put([topic, "text"]);
    }
    assert_eq!(a.get(), ["XA", "text"]);
    assert_eq!(b.get(), ["XB", "text"]);
    a.unsubscribe(b"A").unwrap();
    assert_eq!(xpub.one(), off("A"));
    xpub.unsubscribe(b"XA").unwrap();
    for topic in ["XA", "XB"] {
        xpub.put([topic, "more"]);
    }
    assert_eq!(b.get(), ["XB", "more"]);
    a.nothing();
}

/// Manual: the end of a peer ends what the program gave it, and is told.
fn xpub_manual_forgets_the_lost(w: &World) {
    let (xpub, mut subs) = xpub(w, Sub, 1, &[Opt::XpubManual(true)]);
    let sub = subs.remove(0);
    sub.subscribe(b"A").unwrap();
    assert_eq!(xpub.one(), on("A"));
    xpub.subscribe(b"B").unwrap();
    sub.close();
    // Of what it had asked for.
    assert_eq!(xpub.one(), off("A"));
    xpub.put("B");
    xpub.nothing();
}

/// XPUB_WELCOME_MSG: the first that a new subscriber gets, if it has subscribed to its topic.
fn xpub_welcome(w: &World) {
    let xpub = w.subject(XPub);
    xpub.with([Opt::XpubWelcome(b"W".to_vec())]);
    let sub = w.peer(Sub);
    sub.subscribe(b"W").unwrap();
    sub.dial(&xpub.listen(w));
    assert_eq!(xpub.one(), on("W"));
    assert_eq!(sub.one(), "W");
    xpub.put("W again");
    assert_eq!(sub.one(), "W again");
}

/// CONFLATE: the newest message for each subscriber.
fn conflated(w: &World) {
    let (publisher, sub) = (w.peer(Pub), w.subject(Sub));
    sub.with([Opt::Conflate(true)]);
    sub.subscribe(b"").unwrap();
    sub.dial(&publisher.listen(w));
    let mut pause = Duration::from_millis(1);
    let mut lot = 0;
    until("only the newest is there", || {
        lot += 1;
        for i in 0..20 {
            publisher.put(format!("{lot} {i}"));
        }
        sward_runtime::sleep(pause);
        pause *= 2;
        let newest = format!("{lot} 19");
        let mut n = 0;
        while let Ok(frames) = sub.recv_for(Duration::from_millis(20)) {
            n += 1;
            if frames == [newest.as_bytes()] {
                return n == 1;
            }
        }
        false
    });
}

/// Two SUBs on one endpoint each get all; one SUB on two PUBs gets those of both.
fn many_to_many(w: &World) {
    let publishers = [w.peer(Pub), w.peer(Pub)];
    let sub = w.subject(Sub);
    sub.subscribe(b"x").unwrap();
    for publisher in &publishers {
        sub.dial(&publisher.listen(w));
        settle(&**publisher, &[&*sub]);
    }
    for i in 0..10 {
        for (p, publisher) in publishers.iter().enumerate() {
            publisher.put(format!("x{p} {i}"));
        }
    }
    let mut next = [0, 0];
    for _ in 0..20 {
        let got = sub.one();
        let (p, i) = got[1..].split_once(' ').unwrap();
        let p: usize = p.parse().unwrap();
        assert_eq!(i, next[p].to_string());
        next[p] += 1;
    }
    assert_eq!(next, [10, 10]);
}

/// A publisher takes subscriptions in both forms, whatever version its peer speaks.
fn publishers_read_both_forms(w: &World) {
    for minor in [0, 1] {
        let xpub = w.subject(XPub);
        let mut wire = Wire::connect(&xpub.listen(w));
        wire.greet(minor, "SUB");
        wire.put([b"\x01A"]);
        assert_eq!(xpub.one(), on("A"));
        wire.command("SUBSCRIBE", b"B");
        assert_eq!(xpub.one(), on("B"));
        xpub.put("A1");
        xpub.put("B1");
        xpub.put("C1");
        assert_eq!(wire.message(), ["A1"].into_frames());
        assert_eq!(wire.message(), ["B1"].into_frames());
        wire.put([b"\x00B"]);
        assert_eq!(xpub.one(), off("B"));
        wire.command("CANCEL", b"A");
        assert_eq!(xpub.one(), off("A"));
    }
}

/// A subscriber uses commands with peers that speak 3.1, messages with older ones.
fn subscribers_write_what_the_peer_reads(w: &World) {
    for minor in [0, 1] {
        let plug = Plug::new(w);
        let sub = w.subject(Sub);
        sub.subscribe(b"early").unwrap();
        sub.dial(&plug.endpoint());
        let mut wire = plug.accept();
        wire.greet(minor, "PUB");
        let mut wanted = |command: &[u8], first: u8, topic: &[u8]| {
            let (flags, body) = wire.frame();
            if minor == 0 {
                assert_eq!((flags, body), (0, [&[first], topic].concat()));
            } else {
                assert_eq!((flags, body), (4, [command, topic].concat()));
            }
        };
        wanted(b"\x09SUBSCRIBE", 1, b"early");
        sub.subscribe(b"late").unwrap();
        wanted(b"\x09SUBSCRIBE", 1, b"late");
        sub.unsubscribe(b"early").unwrap();
        wanted(b"\x06CANCEL", 0, b"early");
        wire.put([b"earl", b"no"]);
        wire.put([b"late", b"yes"]);
        assert_eq!(sub.get(), ["late", "yes"]);
    }
}

/// "SHALL filter": a subscriber does not trust its publisher to.
fn subscribers_filter(w: &World) {
    let plug = Plug::new(w);
    let sub = w.subject(Sub);
    sub.subscribe(b"A").unwrap();
    sub.dial(&plug.endpoint());
    let mut wire = plug.accept();
    wire.greet(1, "PUB");
    wire.put([b"B"]);
    wire.put([b"", b"A"]);
    wire.put([b"AB", b"C"]);
    assert_eq!(sub.get(), ["AB", "C"]);
}

for_each_transport! {
    prefixes_match,
    pub_never_waits,
    unsubscribed,
    subscriptions_count,
    multiparts_come_whole,
    xpub_tells_first_and_last,
    xpub_verbose,
    xpub_verboser,
    the_lost_unsubscribe,
    subscriptions_are_forwarded,
    users_talk_upstream,
    users_talk_upstream_early,
    long_topics,
    inverted,
    xpub_nodrop,
    xpub_manual,
    xpub_manual_forgets_the_lost,
    xpub_welcome,
    conflated,
    many_to_many,
}

of_ours! {
    topics_around_the_long_frame,
    a_slow_subscriber_misses_whole_messages,
}

for_each_wire! {
    subscriptions_survive_the_connection,
    publishers_read_both_forms,
    subscribers_write_what_the_peer_reads,
    subscribers_filter,
}
