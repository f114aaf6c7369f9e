//! What monitors are told, in which order.

use crate::support::wire::{Plug, Wire, command, frame, greeting, ready};
use crate::support::{
    ACCEPTED, BIND_FAILED, CLOSED, CONNECT_DELAYED, CONNECT_RETRIED, CONNECTED, DISCONNECTED,
    EADDRINUSE, FAILED, FAILED_AUTH, FAILED_PROTOCOL, Kind, LISTENING, Opt, SUCCEEDED, Socket,
    World,
};

use Kind::{Dealer, Pull, Push, Rep, Req, Router};

/// All that was told so far.
fn told(socket: &Socket) -> Vec<u32> {
    socket
        .wait_for(0, 0)
        .iter()
        .map(|(code, _)| *code)
        .collect()
}

/// Of who binds.
fn an_accepted_connection(w: &World) {
    let rep = w.subject(Rep);
    let endpoint = rep.listen(w);
    let req = w.peer(Req);
    req.dial(&endpoint);
    rep.wait_up(1);
    req.put("x");
    rep.one();
    req.close();
    rep.wait_down(1);
    assert_eq!(told(&rep), [LISTENING, ACCEPTED, SUCCEEDED, DISCONNECTED]);
    rep.unbind(&endpoint).unwrap();
    rep.wait_for(CLOSED, 1);
}

/// Of who connects: before there is anybody, and when the peer goes.
fn a_dialled_connection(w: &World) {
    let (endpoint, _port) = w.fixed();
    let push = w.subject(Push);
    push.with([Opt::ReconnectIvl(20)]);
    push.dial(&endpoint);
    let events = push.wait_for(CONNECT_RETRIED, 1);
    let pause = events
        .iter()
        .find(|(code, _)| *code == CONNECT_RETRIED)
        .unwrap()
        .1;
    assert!((20..40).contains(&pause), "{pause}");
    let pull = w.peer(Pull);
    pull.bind(&endpoint).unwrap();
    push.wait_up(1);
    let before = told(&push);
    assert!(before.ends_with(&[CONNECTED, SUCCEEDED]), "{before:x?}");
    assert!(before.contains(&CLOSED), "{before:x?}");
    pull.close();
    push.wait_down(1);
    push.wait_for(
        CONNECT_RETRIED,
        before
            .iter()
            .filter(|code| **code == CONNECT_RETRIED)
            .count()
            + 1,
    );
    let after = told(&push).split_off(before.len());
    assert_eq!(after[..2], [DISCONNECTED, CONNECT_RETRIED], "{after:x?}");
    let known =
        CONNECT_DELAYED | CONNECTED | CONNECT_RETRIED | CLOSED | DISCONNECTED | SUCCEEDED | FAILED;
    assert!(after.iter().all(|code| code & known != 0), "{after:x?}");
}

/// A bind that fails.
fn a_failed_bind(w: &World) {
    let first = w.peer(Rep);
    let endpoint = first.listen(w);
    let second = w.subject(Rep);
    assert_eq!(second.bind(&endpoint), Err(EADDRINUSE));
    let events = second.wait_for(BIND_FAILED, 1);
    assert!(
        events.contains(&(BIND_FAILED, EADDRINUSE as u64)),
        "{events:x?}"
    );
}

/// Sends this to the socket, which is to answer with such an event.
fn fails(socket: &Socket, endpoint: &str, n: usize, bytes: &[&[u8]], event: u32, value: u64) {
    let mut wire = Wire::connect(endpoint);
    let (greeting, rest) = bytes.split_first().unwrap();
    wire.write(greeting);
    if !rest.is_empty() {
        // Behind its READY: libzmq forgets to close if it is refused before.
        wire.read(64);
        wire.frame();
    }
    for part in rest {
        let _ = wire.try_write(part);
    }
    assert!(wire.is_closed_soon());
    let events = socket.wait_for(FAILED, n);
    let last = events.iter().rfind(|(code, _)| code & FAILED != 0).unwrap();
    let shown = bytes.concat().escape_ascii().to_string();
    assert_eq!((last.0, last.1), (event, value), "{shown}");
}

/// What breaks the protocol has a number.
fn faults_have_numbers(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let start = greeting(1);
    let mut plain = start.clone();
    plain[12..17].copy_from_slice(b"PLAIN");
    let (unknown, error) = (command("NOTREADY", b""), command("ERROR", b"\x09"));
    let refused = command("ERROR", b"\x03400");
    fails(
        &router,
        &endpoint,
        1,
        &[&plain],
        FAILED_PROTOCOL,
        0x1100_0002,
    );
    fails(
        &router,
        &endpoint,
        2,
        &[&start, &unknown],
        FAILED_PROTOCOL,
        0x1000_0001,
    );
    fails(
        &router,
        &endpoint,
        3,
        &[&start, &error],
        FAILED_PROTOCOL,
        0x1000_0015,
    );
    fails(&router, &endpoint, 4, &[&start, &refused], FAILED_AUTH, 400);
}

/// libzmq has a number for this, and does not use it.
fn faults_of_metadata_have_one(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let start = greeting(1);
    let cut = command("READY", b"\x0bSocket-Type\0\0\0\xffDEALER");
    fails(
        &router,
        &endpoint,
        1,
        &[&start, &cut],
        FAILED_PROTOCOL,
        0x1000_0018,
    );
}

/// Other faults: the peer is gone, with one event, and others are served.
fn faults_cost_one_peer(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let good = w.peer(Dealer);
    good.dial(&endpoint);
    router.wait_up(1);
    let start = greeting(1);
    let dealer = ready(&[("Socket-Type", "DEALER")]);
    let cases: [&[&[u8]]; 9] = [
        &[&start, &frame(0, b"message before READY")],
        &[&start, &dealer, &dealer],
        &[&start, &ready(&[("Socket-Type", "DEALER"), ("", "x")])[..20], &[0; 64]],
        &[&start, &ready(&[("Socket-Type", "NOTHING")])],
        &[&start, &ready(&[])],
        &[&start, &ready(&[("Identity", "x")])],
        &[&start, b"\x04\xff\x05READY", &[b'x'; 250]],
        &[b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: nothing in particular, and more of it\r\n\r\n"],
        &[&start, &dealer, b"\x02\xff\xff\xff\xff\xff\xff\xff\xff"],
    ];
    for (i, case) in cases.into_iter().enumerate() {
        let mut wire = Wire::connect(&endpoint);
        for part in case {
            let _ = wire.try_write(part);
        }
        assert!(wire.is_closed_soon(), "case {i}");
        router.wait_for(FAILED | DISCONNECTED, i + 1);
        good.put(format!("{i}"));
        assert_eq!(router.get()[1], i.to_string());
    }
}

/// The same on a connection that the socket made: it is made again. (libzmq ends it for good.)
fn a_bad_listener_is_dialled_again(w: &World) {
    let plug = Plug::new(w);
    let dealer = w.subject(Dealer);
    dealer.with([Opt::ReconnectIvl(10)]);
    dealer.dial(&plug.endpoint());
    for _ in 0..3 {
        let mut wire = plug.accept();
        wire.write(&greeting(1));
        wire.write(&command("NOTREADY", b""));
        assert!(wire.is_closed_soon());
    }
    dealer.put("hello");
    let mut wire = plug.accept();
    wire.greet(1, "ROUTER");
    assert_eq!(wire.message(), [b"hello"]);
}

for_each_network! {
    an_accepted_connection,
    a_dialled_connection,
}

over_tcp! {
    a_failed_bind,
}

for_each_wire_of_ours! {
    faults_of_metadata_have_one,
    faults_cost_one_peer,
    a_bad_listener_is_dialled_again,
}

for_each_wire! {
    faults_have_numbers,
}
