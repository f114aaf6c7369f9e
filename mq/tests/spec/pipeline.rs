//! PUSH, PULL and PAIR (RFC 30, RFC 31).

use std::time::Duration;

use crate::support::wire::{MORE, Plug, Wire, frame};
use crate::support::{EAGAIN, IntoFrames, Kind, Opt, Socket, World, beside, text, until};

use Kind::{Pair, Pull, Push};

/// "SHALL send messages to all connected PULLs, in a round-robin fashion" (RFC 30).
fn push_goes_round(w: &World) {
    let push = w.subject(Push);
    let endpoint = push.listen(w);
    let pulls: Vec<Socket> = (0..3).map(|_| w.peer(Pull)).collect();
    for (i, pull) in pulls.iter().enumerate() {
        pull.dial(&endpoint);
        push.wait_up(i + 1);
    }
    for i in 0..9 {
        push.put(format!("{i}"));
    }
    let mut all = Vec::new();
    for pull in &pulls {
        let got = pull.many(3);
        let numbers: Vec<i32> = got.iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(numbers[1] - numbers[0], 3, "{numbers:?}");
        assert_eq!(numbers[2] - numbers[1], 3, "{numbers:?}");
        all.extend(numbers);
        pull.nothing();
    }
    all.sort_unstable();
    assert_eq!(all, (0..9).collect::<Vec<_>>());
}

/// "SHALL receive from all PUSHes, in a fair-queued manner": none of them waits behind another's
/// backlog (RFC 30).
fn pull_takes_turns(w: &World) {
    let pull = w.subject(Pull);
    let endpoint = pull.listen(w);
    let pushes: Vec<Socket> = (0..3).map(|_| w.peer(Push)).collect();
    for (i, push) in pushes.iter().enumerate() {
        push.dial(&endpoint);
        pull.wait_up(i + 1);
        push.wait_up(1);
    }
    for push in &pushes {
        for name in ["a", "b", "c", "d"] {
            push.put(name);
        }
    }
    // All are there once the last of each has come; so what is looked at is a second lot.
    let mut first = pull.many(12);
    first.sort_unstable();
    assert_eq!(first.concat(), "aaabbbcccddd");
}

/// "SHALL block on sending when it has no peers; SHALL NOT discard messages" (RFC 30).
fn push_waits_for_a_peer(w: &World) {
    let push = w.subject(Push);
    let endpoint = push.listen(w);
    push.full("to nobody");
    push.with([Opt::SendTimeout(30)]);
    assert_eq!(push.send("to nobody".into_frames()), Err(EAGAIN));
    push.with([Opt::SendTimeout(30_000)]);
    beside(
        || push.put("when somebody comes"),
        || {
            let pull = w.peer(Pull);
            pull.dial(&endpoint);
            assert_eq!(pull.one(), "when somebody comes");
        },
    );
}

/// Without IMMEDIATE, the way to a peer that is not there yet takes messages up to the mark.
fn push_queues_for_who_comes_later(w: &World) {
    let push = w.subject(Push);
    push.with([Opt::SendHwm(5)]);
    let (endpoint, _port) = w.fixed();
    push.dial(&endpoint);
    for i in 0..5 {
        push.put(format!("{i}"));
    }
    push.full("one too many");
    let pull = w.peer(Pull);
    pull.bind(&endpoint).unwrap();
    for i in 0..5 {
        assert_eq!(pull.one(), format!("{i}"));
    }
    push.put("later");
    assert_eq!(pull.one(), "later");
}

/// "PULL cannot send, PUSH cannot receive": ENOTSUP.
fn each_has_one_direction(w: &World) {
    let (push, pull) = (w.subject(Push), w.subject(Pull));
    assert_eq!(
        pull.try_send("x".into_frames()),
        Err(crate::support::ENOTSUP)
    );
    assert_eq!(
        push.try_recv().map(|f| text(&f)),
        Err(crate::support::ENOTSUP)
    );
}

/// Order within a connection, multipart as one value, empty frames, and frames around the limits of
/// the length fields.
fn what_is_sent_arrives(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    pull.dial(&push.listen(w));
    let mut sent = Vec::new();
    for size in [
        0,
        1,
        2,
        29,
        30,
        31,
        33,
        34,
        254,
        255,
        256,
        257,
        8191,
        8192,
        8193,
        65_535,
        65_536,
        1 << 20,
    ] {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
        sent.push(vec![bytes.clone()]);
        sent.push(vec![bytes.clone(), vec![], bytes, vec![]]);
    }
    sent.push(vec![vec![]; 300]);
    let send = || sent.iter().for_each(|frames| push.put(frames.clone()));
    beside(send, || {
        for frames in &sent {
            let got = pull.take();
            assert!(
                got == *frames,
                "{} frames, {} bytes",
                frames.len(),
                frames[0].len()
            );
        }
    });
}

/// A message of several frames goes to one peer as a whole.
fn a_multipart_goes_to_one(w: &World) {
    let push = w.subject(Push);
    let endpoint = push.listen(w);
    let pulls = [w.peer(Pull), w.peer(Pull)];
    for (i, pull) in pulls.iter().enumerate() {
        pull.dial(&endpoint);
        push.wait_up(i + 1);
    }
    for i in 0..4 {
        push.put(
            [format!("{i}"), "b".to_owned(), "c".to_owned()]
                .map(String::into_bytes)
                .to_vec(),
        );
    }
    let mut first = Vec::new();
    for pull in &pulls {
        for _ in 0..2 {
            let got = pull.get();
            assert_eq!(got[1..], ["b", "c"]);
            first.push(got[0].clone());
        }
    }
    first.sort();
    assert_eq!(first.concat(), "0123");
}

/// The high-water mark bounds what waits: with nobody who reads, sends stop. Nothing is lost.
fn full_queues_push_back(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    push.with([Opt::SendHwm(10), Opt::SendBuffer(4096)]);
    pull.with([Opt::RecvHwm(10), Opt::RecvBuffer(4096)]);
    pull.dial(&push.listen(w));
    push.wait_up(1);
    let text = "x".repeat(10_000);
    let mut sent = 0;
    let mut refused = 0;
    // Refused again and again means: not only the sender was quicker than the wire.
    while refused < 50 {
        match push.try_send(format!("{sent} {text}").into_frames()) {
            Ok(()) => {
                sent += 1;
                refused = 0;
            }
            Err(EAGAIN) => {
                refused += 1;
                sward_runtime::sleep(Duration::from_millis(2));
            }
            Err(errno) => panic!("{errno}"),
        }
        assert!(sent < 1000, "no limit");
    }
    assert!(sent >= 10, "{sent}");
    for i in 0..sent {
        assert!(pull.one().starts_with(&format!("{i} ")));
    }
    push.put("goes on");
    assert_eq!(pull.one(), "goes on");
}

/// A multipart of which the peer sent the beginning only is never seen.
fn half_a_message_is_dropped(w: &World) {
    let pull = w.subject(Pull);
    let endpoint = pull.listen(w);
    let mut wire = Wire::connect(&endpoint);
    wire.greet(1, "PUSH");
    wire.put([b"whole", b"message"]);
    wire.write(&frame(MORE, b"half"));
    drop(wire);
    let mut wire = Wire::connect(&endpoint);
    wire.greet(1, "PUSH");
    wire.put([b"next"]);
    assert_eq!(pull.get(), ["whole", "message"]);
    assert_eq!(pull.get(), ["next"]);
}

/// A sender that was killed in the middle of a message: what was queued for it goes to who comes
/// next, on a connection that was made by us, from the message that was cut on.
fn a_new_connection_gets_what_waits(w: &World) {
    let plug = Plug::new(w);
    let push = w.subject(Push);
    push.with([Opt::ReconnectIvl(10)]);
    push.dial(&plug.endpoint());
    let mut wire = plug.accept();
    wire.greet(1, "PULL");
    push.put("first");
    assert_eq!(wire.message(), ["first"].into_frames());
    drop(wire);
    push.wait_down(1);
    push.put(["second", "part"]);
    let mut wire = plug.accept();
    wire.greet(1, "PULL");
    assert_eq!(wire.message(), ["second", "part"].into_frames());
}

/// "SHALL NOT accept more than one peer" (RFC 31): the second is turned away and the first notices
/// nothing.
fn pair_has_one_peer(w: &World) {
    let pair = w.subject(Pair);
    let endpoint = pair.listen(w);
    let first = w.peer(Pair);
    first.dial(&endpoint);
    pair.wait_up(1);
    first.put("hello");
    assert_eq!(pair.one(), "hello");
    let second = w.peer(Pair);
    second.with([Opt::Linger(0)]);
    let _ = second.connect(&endpoint);
    if w.has_network() {
        // It was let in far enough to say who it is.
        second.wait_up(1);
    }
    let _ = second.try_send("not for you".into_frames());
    first.put("again");
    assert_eq!(pair.one(), "again");
    pair.put("answer");
    assert_eq!(first.one(), "answer");
    second.nothing();
    pair.nothing();
}

/// After its peer has gone, a PAIR takes another.
fn pair_takes_another_later(w: &World) {
    let pair = w.subject(Pair);
    let endpoint = pair.listen(w);
    let first = w.peer(Pair);
    first.dial(&endpoint);
    pair.wait_up(1);
    first.put("one");
    assert_eq!(pair.one(), "one");
    first.close();
    pair.wait_down(1);
    // libzmq tells of it before the socket has let go of its peer.
    pair.nothing();
    let second = w.peer(Pair);
    second.dial(&endpoint);
    second.put("two");
    assert_eq!(pair.one(), "two");
    pair.put("back");
    assert_eq!(second.one(), "back");
}

/// "SHALL block on sending without a peer" (RFC 31), and both directions have their own queue.
fn pair_talks_both_ways(w: &World) {
    let a = w.subject(Pair);
    let endpoint = a.listen(w);
    a.full("to nobody");
    let b = w.peer(Pair);
    b.dial(&endpoint);
    for i in 0..100 {
        a.put(
            [format!("{i}"), String::new()]
                .map(String::into_bytes)
                .to_vec(),
        );
        b.put(format!("{i}"));
    }
    for i in 0..100 {
        assert_eq!(b.get(), [i.to_string(), String::new()]);
        assert_eq!(a.one(), i.to_string());
    }
}

/// CONFLATE keeps the newest message only.
fn conflate_keeps_the_newest(w: &World) {
    let (push, pull) = (w.peer(Push), w.subject(Pull));
    pull.with([Opt::Conflate(true)]);
    pull.dial(&push.listen(w));
    push.wait_up(1);
    // How long all of them take is nobody's promise; in the end it is enough.
    let mut pause = Duration::from_millis(1);
    let mut lot = 0;
    until("only the newest is there", || {
        lot += 1;
        for i in 0..20 {
            push.put(format!("{lot} {i}"));
        }
        sward_runtime::sleep(pause);
        pause *= 2;
        let first = pull.one();
        let newest = format!("{lot} 19");
        if first == newest {
            return true;
        }
        while pull.one() != newest {}
        false
    });
    pull.nothing();
}

/// What a sender of the newest has left at its end is sent before it goes. (libzmq loses it.)
fn conflate_sends_the_newest_at_last(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    push.with([Opt::Conflate(true), Opt::Linger(10_000)]);
    let (endpoint, _port) = w.fixed();
    push.dial(&endpoint);
    for i in 0..20 {
        push.put(format!("{i}"));
    }
    push.close();
    pull.bind(&endpoint).unwrap();
    while pull.one() != "19" {}
}

of_ours! {
    conflate_sends_the_newest_at_last,
}

for_each_transport! {
    push_goes_round,
    pull_takes_turns,
    push_waits_for_a_peer,
    push_queues_for_who_comes_later,
    each_has_one_direction,
    what_is_sent_arrives,
    a_multipart_goes_to_one,
    full_queues_push_back,
    pair_has_one_peer,
    pair_takes_another_later,
    pair_talks_both_ways,
    conflate_keeps_the_newest,
}

for_each_wire! {
    half_a_message_is_dropped,
    a_new_connection_gets_what_waits,
}
