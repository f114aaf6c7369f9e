//! Which kinds of sockets go together: tries every two, and sends a message where it may. The others
//! are refused at the handshake.
//!
//! ```sh
//! cargo run --release --example zmq_pairs
//! ```

use std::time::Duration;

use sward::mq::SocketType::{self, *};
use sward::mq::{Error, EventKind, Message, Options, Socket};

const KINDS: [SocketType; 11] = [
    Pub, Sub, XPub, XSub, Push, Pull, Req, Rep, Dealer, Router, Pair,
];
const SOON: Duration = Duration::from_secs(5);

fn socket(kind: SocketType) -> Result<Socket, Error> {
    let socket = Socket::with(kind, Options::new().routing_id("peer"))?;
    match kind {
        Sub => socket.subscribe("")?,
        XSub => socket.send("\x01")?, // as Sub
        _ => {}
    }
    Ok(socket)
}

/// Says whether the handshake succeeds. If it does, a message must pass.
fn meet(a: SocketType, b: SocketType) -> Result<bool, Error> {
    let (bound, connected) = (socket(a)?, socket(b)?);
    let events = connected.monitor();
    connected.connect(bound.bind("tcp://127.0.0.1:*")?)?;
    let handshake = |kind| match kind {
        EventKind::HandshakeSucceeded => Some(true),
        EventKind::HandshakeFailed(_) => Some(false),
        _ => None,
    };
    if events.iter().find_map(|event| handshake(event.kind)) != Some(true) {
        return Ok(false);
    }
    bound.wait_connected(1, SOON)?;
    // Who may speak first?
    let (from, to) = match a {
        Sub | XSub | Pull | Rep => (connected, bound),
        Router if b != Router => (connected, bound),
        _ => (bound, connected),
    };
    from.send(match from.socket_type() {
        Router => Message::from(["peer", "", "hello"]),
        Dealer => ["", "hello"].into(),
        Pub | XPub => from.wait_subscribers(1, SOON).map(|()| "hello".into())?,
        _ => "hello".into(),
    })?;
    Ok(to.recv_timeout(SOON)?.last() == "hello")
}

#[sward::main]
fn main() -> Result<(), Error> {
    println!("{:7}{}", "", KINDS.map(|kind| format!("{kind:7}")).concat());
    for a in KINDS {
        print!("{a:7}");
        for b in KINDS {
            print!("{:7}", if meet(a, b)? { "yes" } else { "-" });
        }
        println!();
    }
    Ok(())
}
