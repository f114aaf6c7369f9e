//! Options: when they count, and what they limit.

use std::time::{Duration, Instant};

use crate::support::wire::{Plug, Wire, frame};
use crate::support::{
    DISCONNECTED, EAGAIN, FAILED, FAILED_NO_DETAIL, IntoFrames, Kind, Opt, World,
};

use Kind::{Dealer, Pair, Pull, Push, Router};

/// RCVTIMEO and SNDTIMEO: zero, some time.
fn time_outs(w: &World) {
    let socket = w.subject(Dealer);
    socket.listen(w);
    for ms in [0, 80] {
        socket.with([Opt::RecvTimeout(ms), Opt::SendTimeout(ms)]);
        for call in [true, false] {
            let begin = Instant::now();
            let errno = match call {
                true => socket.recv().err(),
                false => socket.send("x".into_frames()).err(),
            };
            assert_eq!(errno, Some(EAGAIN));
            let least = Duration::from_millis(ms.try_into().unwrap());
            assert!(
                begin.elapsed() + Duration::from_millis(1) >= least,
                "{:?}",
                begin.elapsed()
            );
        }
    }
}

/// SNDHWM as it is changed: upwards there is room, downwards none until enough has gone. (Of libzmq
/// one must not have been refused before that.)
fn the_mark_moves(w: &World) {
    let push = w.subject(Push);
    push.with([Opt::SendHwm(2)]);
    let (endpoint, _port) = w.fixed();
    push.dial(&endpoint);
    push.put("0");
    push.put("1");
    push.with([Opt::SendHwm(4)]);
    push.put("2");
    push.put("3");
    push.full("4");
    push.with([Opt::SendHwm(3)]);
    push.full("4");
    let pull = w.peer(Pull);
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.many(4).concat(), "0123");
    push.put("4");
    assert_eq!(pull.one(), "4");
}

/// A mark of zero is none.
fn no_mark(w: &World) {
    let push = w.subject(Push);
    push.with([Opt::SendHwm(0)]);
    let (endpoint, _port) = w.fixed();
    push.dial(&endpoint);
    for i in 0..5000 {
        push.try_send(format!("{i}").into_frames()).unwrap();
    }
    let pull = w.peer(Pull);
    pull.with([Opt::RecvHwm(0)]);
    pull.bind(&endpoint).unwrap();
    for i in 0..5000 {
        assert_eq!(pull.one(), i.to_string());
    }
}

/// Without options: a thousand.
fn the_default_mark(w: &World) {
    let push = w.subject(Push);
    push.with([Opt::Linger(0)]);
    let (endpoint, _port) = w.fixed();
    push.dial(&endpoint);
    for _ in 0..1000 {
        push.try_send("x".into_frames()).unwrap();
    }
    push.full("x");
}

/// A multipart counts as one.
fn the_mark_counts_messages(w: &World) {
    let pair = w.subject(Pair);
    pair.with([Opt::SendHwm(3), Opt::Linger(0)]);
    let (endpoint, _port) = w.fixed();
    pair.dial(&endpoint);
    for _ in 0..3 {
        pair.put(["a", "b", "c", "d"]);
    }
    pair.full("x");
}

/// MAXMSGSIZE: who announces a larger frame is disconnected; others are not.
fn the_largest_frame(w: &World) {
    let pull = w.subject(Pull);
    pull.with([Opt::MaxMsgSize(100)]);
    let endpoint = pull.listen(w);
    let push = w.peer(Push);
    push.dial(&endpoint);
    push.put(vec![vec![1; 100], vec![2; 100]]);
    assert_eq!(pull.take(), [vec![1; 100], vec![2; 100]]);
    let mut wire = Wire::connect(&endpoint);
    wire.greet(1, "PUSH");
    wire.put([b"fits"]);
    assert_eq!(pull.one(), "fits");
    // The head alone says it.
    wire.write(&frame(0, &[0; 101])[..2]);
    assert!(wire.is_closed_soon());
    push.put("still here");
    assert_eq!(pull.one(), "still here");
}

/// HANDSHAKE_IVL: who says nothing is cut off, whoever connected.
fn the_handshake_takes_too_long(w: &World) {
    let socket = w.subject(Router);
    socket.with([Opt::HandshakeIvl(100), Opt::ReconnectIvl(10)]);
    let mut silent = Wire::connect(&socket.listen(w));
    assert!(silent.is_closed_soon());
    // libzmq calls it a failed handshake.
    socket.wait_for(FAILED_NO_DETAIL, 1);
    let plug = Plug::new(w);
    socket.dial(&plug.endpoint());
    assert!(plug.accept().is_closed_soon());
    // And again, since it connects again; half a greeting is not enough.
    let mut half = plug.accept();
    half.write(&crate::support::wire::greeting(1)[..20]);
    assert!(half.is_closed_soon());
    socket.wait_for(FAILED | DISCONNECTED, 3);
}

/// What is set counts for later binds and connects; the routing id of a connection stays.
fn an_id_counts_for_later(w: &World) {
    let router = w.peer(Router);
    let endpoint = router.listen(w);
    let dealer = w.subject(Dealer);
    dealer.with([crate::support::id("first")]);
    dealer.dial(&endpoint);
    router.wait_up(1);
    dealer.put("x");
    assert_eq!(router.get(), ["first", "x"]);
    dealer.with([crate::support::id("second")]);
    dealer.put("y");
    assert_eq!(router.get(), ["first", "y"]);
}

for_each_transport! {
    time_outs,
    the_mark_moves,
    no_mark,
    the_default_mark,
    the_mark_counts_messages,
    an_id_counts_for_later,
}

for_each_network! {
    the_largest_frame,
}

for_each_wire! {
    the_handshake_takes_too_long,
}
