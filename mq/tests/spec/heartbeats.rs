//! PING and PONG (ZMTP 3.1), by hand and between sockets.

use std::time::{Duration, Instant};

use crate::support::wire::{COMMAND, Plug, Wire};
use crate::support::{Kind, Opt, World};

use Kind::{Dealer, Pull, Push, Router};

/// The next command of that name; others are skipped.
fn command(wire: &mut Wire, name: &[u8]) -> Vec<u8> {
    loop {
        let (flags, body) = wire.frame();
        if flags & COMMAND != 0 && body[1..].starts_with(name) {
            return body[1 + name.len()..].to_vec();
        }
    }
}

/// A PING is answered by a PONG with the same context, of up to 16 bytes.
fn pings_are_answered(w: &World) {
    let router = w.subject(Router);
    let mut wire = Wire::connect(&router.listen(w));
    wire.greet(1, "DEALER");
    for context in [&b"x"[..], b"0123456789abcdef", b"hello"] {
        wire.command("PING", &[&[0, 0], context].concat());
        assert_eq!(command(&mut wire, b"PONG"), context);
    }
    // Between messages, and between the frames of one.
    wire.write(&crate::support::wire::frame(1, b"first"));
    wire.command("PING", b"\0\0mid");
    assert_eq!(command(&mut wire, b"PONG"), b"mid");
    wire.put([b"second"]);
    assert_eq!(router.get()[1..], ["first", "second"]);
}

/// Also one that comes behind messages which nobody receives.
fn pings_behind_messages_are_answered(w: &World) {
    let pull = w.subject(Pull);
    let mut wire = Wire::connect(&pull.listen(w));
    wire.greet(1, "PUSH");
    pull.wait_up(1);
    let message = crate::support::wire::frame(0, b"message");
    let ping = crate::support::wire::command("PING", b"\0\0behind");
    wire.write(&[message.repeat(10), ping].concat());
    assert_eq!(command(&mut wire, b"PONG"), b"behind");
    for _ in 0..10 {
        assert_eq!(pull.one(), "message");
    }
}

/// A peer whose PING announced a time to live is given up when it has been silent for so long.
fn the_silent_die(w: &World) {
    let router = w.subject(Router);
    let mut wire = Wire::connect(&router.listen(w));
    wire.greet(1, "DEALER");
    router.wait_up(1);
    let begin = Instant::now();
    wire.command("PING", b"\0\x03ttl");
    assert_eq!(command(&mut wire, b"PONG"), b"ttl");
    assert!(wire.is_closed_soon());
    assert!(begin.elapsed() >= Duration::from_millis(280));
    router.wait_down(1);
}

/// HEARTBEAT_IVL: it asks; who does not answer within HEARTBEAT_TIMEOUT is given up.
fn who_does_not_answer_is_given_up(w: &World) {
    for kind in [Dealer, Pull] {
        let socket = w.subject(kind);
        socket.with([
            Opt::HeartbeatIvl(50),
            Opt::HeartbeatTimeout(150),
            Opt::HeartbeatTtl(1000),
        ]);
        let mut wire = Wire::connect(&socket.listen(w));
        wire.greet(1, if kind == Dealer { "ROUTER" } else { "PUSH" });
        socket.wait_up(1);
        let ping = command(&mut wire, b"PING");
        assert_eq!(ping[..2], [0, 10]);
        assert!(wire.is_closed_soon());
        socket.wait_down(1);
    }
}

/// The same on a connection that the socket made; it is made again.
fn and_dialled_again(w: &World) {
    let plug = Plug::new(w);
    let socket = w.subject(Dealer);
    socket.with([
        Opt::HeartbeatIvl(50),
        Opt::HeartbeatTimeout(100),
        Opt::ReconnectIvl(10),
    ]);
    socket.dial(&plug.endpoint());
    for _ in 0..2 {
        let mut wire = plug.accept();
        wire.greet(1, "ROUTER");
        command(&mut wire, b"PING");
        assert!(wire.is_closed_soon());
    }
}

/// Who answers stays, and so does who only talks.
fn who_answers_stays(w: &World) {
    let socket = w.subject(Router);
    socket.with([Opt::HeartbeatIvl(30), Opt::HeartbeatTimeout(400)]);
    let mut wire = Wire::connect(&socket.listen(w));
    wire.greet(1, "DEALER");
    for _ in 0..20 {
        let ping = command(&mut wire, b"PING");
        wire.command("PONG", &ping[2..]);
    }
    for i in 0..20 {
        command(&mut wire, b"PING");
        wire.put([format!("{i}").as_bytes()]);
        assert_eq!(socket.get()[1], i.to_string());
    }
    let seen = socket.wait_for(crate::support::SUCCEEDED, 1);
    assert!(
        seen.iter()
            .all(|(code, _)| *code != crate::support::DISCONNECTED),
        "{seen:x?}"
    );
}

/// Times to live below a tenth of a second are none.
fn short_lives_are_none(w: &World) {
    let socket = w.subject(Dealer);
    socket.with([
        Opt::HeartbeatIvl(50),
        Opt::HeartbeatTimeout(10_000),
        Opt::HeartbeatTtl(99),
    ]);
    let mut wire = Wire::connect(&socket.listen(w));
    wire.greet(1, "ROUTER");
    assert_eq!(command(&mut wire, b"PING")[..2], [0, 0]);
}

/// A peer that speaks 3.0 need not know the question, but has to answer from its first answer on.
/// (libzmq gives it up at once.)
fn old_peers_need_not_answer(w: &World) {
    let socket = w.subject(Push);
    socket.with([Opt::HeartbeatIvl(20), Opt::HeartbeatTimeout(60)]);
    let mut wire = Wire::connect(&socket.listen(w));
    wire.greet(0, "PULL");
    for _ in 0..10 {
        command(&mut wire, b"PING");
    }
    socket.put("still there");
    assert_eq!(wire.message(), [b"still there"]);
    wire.command("PONG", b"");
    assert!(wire.is_closed_soon());
}

/// Two sockets that both ask each other, with nothing else to say, stay together.
fn both_ask(w: &World) {
    let (a, b) = (w.subject(Router), w.peer(Dealer));
    for socket in [&a, &b] {
        socket.with([
            Opt::HeartbeatIvl(20),
            Opt::HeartbeatTimeout(2000),
            Opt::HeartbeatTtl(2000),
        ]);
    }
    b.dial(&a.listen(w));
    a.wait_up(1);
    b.wait_up(1);
    sward_runtime::sleep(Duration::from_millis(500));
    b.put("hello");
    let hello = a.take();
    a.put(hello);
    assert_eq!(b.one(), "hello");
    for socket in [&a, &b] {
        let seen = socket.wait_for(crate::support::SUCCEEDED, 1);
        assert!(
            seen.iter()
                .all(|(code, _)| *code != crate::support::DISCONNECTED),
            "{seen:x?}"
        );
    }
}

/// One asks, the other has heartbeats off: it answers all the same.
fn one_asks(w: &World) {
    let (a, b) = (w.subject(Push), w.peer(Pull));
    a.with([Opt::HeartbeatIvl(20), Opt::HeartbeatTimeout(1000)]);
    b.dial(&a.listen(w));
    a.wait_up(1);
    sward_runtime::sleep(Duration::from_millis(300));
    a.put("hello");
    assert_eq!(b.one(), "hello");
    let seen = a.wait_for(crate::support::SUCCEEDED, 1);
    assert!(
        seen.iter()
            .all(|(code, _)| *code != crate::support::DISCONNECTED),
        "{seen:x?}"
    );
}

for_each_network! {
    both_ask,
    one_asks,
}

for_each_wire! {
    pings_are_answered,
    pings_behind_messages_are_answered,
    the_silent_die,
    who_does_not_answer_is_given_up,
    and_dialled_again,
    who_answers_stays,
    short_lives_are_none,
}

for_each_wire_of_ours! {
    old_peers_need_not_answer,
}
