//! Peers that speak other versions of ZMTP, by hand: 3.0, later ones, 2.0 and 1.0.

use crate::support::wire::{MORE, Plug, Wire, frame, greeting, ready};
use crate::support::{IntoFrames, Kind, World};

use Kind::{Dealer, Pub, Pull, Push, Rep, Router, Sub, XPub};

/// A higher minor or major version is talked to as 3.1 is.
fn later_versions(w: &World) {
    for (major, minor) in [(3, 0), (3, 1), (3, 2), (3, 255), (4, 0)] {
        let pull = w.subject(Pull);
        let mut wire = Wire::connect(&pull.listen(w));
        let mut bytes = greeting(minor);
        bytes[10] = major;
        wire.write(&bytes);
        assert_eq!(wire.read(64)[10], 3);
        wire.write(&ready(&[("Socket-Type", "PUSH")]));
        wire.frame();
        wire.put([b"hello", &[b'x'; 300]]);
        assert_eq!(pull.get(), ["hello".to_owned(), "x".repeat(300)]);
    }
}

/// The greeting may come byte by byte, and is answered after its eleventh at the latest.
fn slow_greetings(w: &World) {
    let pull = w.subject(Pull);
    let mut wire = Wire::connect(&pull.listen(w));
    for byte in greeting(1) {
        wire.write(&[byte]);
    }
    for byte in ready(&[("Socket-Type", "PUSH")]) {
        wire.write(&[byte]);
    }
    wire.read(64);
    wire.frame();
    for byte in frame(0, b"hello") {
        wire.write(&[byte]);
    }
    assert_eq!(pull.one(), "hello");
    // Half of it, and then nothing before theirs.
    let mut wire = Wire::connect(&pull.listen(w));
    wire.write(&greeting(1)[..11]);
    wire.read(11);
}

/// The first bytes of ZMTP 2.0: signature, revision, socket type, routing id.
fn hello_2(wire: &mut Wire, socket_type: u8, id: &[u8]) -> u8 {
    wire.write(&[0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F]);
    // Ours comes in parts: what stands behind the revision follows once it is known that we are old.
    assert_eq!(wire.read(10)[0], 0xFF);
    wire.write(&[1, socket_type]);
    wire.write(&frame(0, id));
    let theirs = wire.read(2);
    assert!(theirs[0] >= 1, "{theirs:?}");
    let (flags, _id) = wire.frame();
    assert_eq!(flags, 0);
    theirs[1]
}

fn peers_of_2(w: &World) {
    let router = w.subject(Router);
    let mut wire = Wire::connect(&router.listen(w));
    assert_eq!(hello_2(&mut wire, 5, b"old"), 6);
    wire.put([b"hello", b"there"]);
    assert_eq!(router.get(), ["old", "hello", "there"]);
    router.put(["old", "back", ""]);
    assert_eq!(wire.message(), ["back", ""].into_frames());
    // Subscriptions are messages there.
    let publisher = w.subject(Pub);
    let mut wire = Wire::connect(&publisher.listen(w));
    assert_eq!(hello_2(&mut wire, 2, b""), 1);
    wire.put([b"\x01A"]);
    let plug = Plug::new(w);
    let sub = w.subject(Sub);
    sub.subscribe(b"A").unwrap();
    sub.dial(&plug.endpoint());
    let mut wire = plug.accept();
    assert_eq!(hello_2(&mut wire, 1, b""), 2);
    assert_eq!(wire.message(), ["\u{1}A"].into_frames());
    wire.put([b"A1"]);
    assert_eq!(sub.one(), "A1");
}

/// A frame of ZMTP 1.0.
fn frame_1(more: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(body.len() + 1).unwrap(), u8::from(more)];
    bytes.extend_from_slice(body);
    bytes
}

fn read_1(wire: &mut Wire) -> (bool, Vec<u8>) {
    let length = match wire.read(1)[0] {
        0xFF => u64::from_be_bytes(wire.read(8).try_into().unwrap()),
        length => length.into(),
    };
    let flags = wire.read(1)[0];
    (
        flags & MORE != 0,
        wire.read(usize::try_from(length - 1).unwrap()),
    )
}

/// ZMTP 1.0 has no greeting: a frame with the routing id, and then messages.
fn peers_of_1(w: &World) {
    let router = w.subject(Router);
    let mut wire = Wire::connect(&router.listen(w));
    wire.write(&frame_1(false, b"older"));
    // Its signature is the head of a long frame there: the routing id.
    assert_eq!(read_1(&mut wire).1, b"");
    wire.write(&[frame_1(true, b"hello"), frame_1(false, b"")].concat());
    assert_eq!(router.get(), ["older", "hello", ""]);
    router.put(["older", "back"]);
    assert_eq!(read_1(&mut wire), (false, b"back".to_vec()));
    let pull = w.subject(Pull);
    let mut wire = Wire::connect(&pull.listen(w));
    wire.write(&[frame_1(false, b""), frame_1(false, b"x")].concat());
    assert_eq!(pull.one(), "x");
}

/// A publisher sends all to such a peer, which does not say what it wants. (libzmq does, and gives it up
/// after HANDSHAKE_IVL: it takes the handshake for unfinished.)
fn publications_for_peers_of_1(w: &World) {
    let publisher = w.subject(XPub);
    let mut wire = Wire::connect(&publisher.listen(w));
    wire.write(&frame_1(false, b""));
    read_1(&mut wire);
    assert_eq!(publisher.one(), "\\x01");
    publisher.put("anything");
    assert_eq!(read_1(&mut wire), (false, b"anything".to_vec()));
}

/// Long frames for short bodies are legal; a body of zero bytes is one.
fn any_form_of_a_length(w: &World) {
    let rep = w.subject(Rep);
    let mut wire = Wire::connect(&rep.listen(w));
    wire.greet(1, "REQ");
    wire.write(&[0x03, 0, 0, 0, 0, 0, 0, 0, 0]);
    wire.write(&[0x02, 0, 0, 0, 0, 0, 0, 0, 2]);
    wire.write(b"hi");
    assert_eq!(rep.one(), "hi");
    rep.put("");
    assert_eq!(wire.message(), ["", ""].into_frames());
}

/// A message waits for the peer's READY, whoever is faster.
fn messages_wait_for_ready(w: &World) {
    for kind in [Push, Dealer] {
        let plug = Plug::new(w);
        let socket = w.subject(kind);
        socket.dial(&plug.endpoint());
        socket.put("early");
        let mut wire = plug.accept();
        wire.write(&greeting(1));
        wire.read(64);
        let (flags, body) = wire.frame();
        assert!(flags & crate::support::wire::COMMAND != 0 && body.starts_with(b"\x05READY"));
        assert!(wire.is_silent());
        let other = if kind == Push { "PULL" } else { "ROUTER" };
        wire.write(&ready(&[("Socket-Type", other)]));
        assert_eq!(wire.message(), ["early"].into_frames());
    }
}

for_each_wire! {
    later_versions,
    slow_greetings,
    peers_of_2,
    peers_of_1,
    any_form_of_a_length,
    messages_wait_for_ready,
}

for_each_wire_of_ours! {
    publications_for_peers_of_1,
}
