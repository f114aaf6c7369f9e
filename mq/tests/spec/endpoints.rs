//! Endpoints: their syntax, wildcards, binding and connecting several times, and taking it back.

use crate::support::{
    EADDRINUSE, EAGAIN, EINVAL, ENAMETOOLONG, ENODEV, ENOENT, EPROTONOSUPPORT, IntoFrames, Kind,
    Opt, Transport, World, settle, until,
};

use Kind::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Sub};

/// What is no endpoint.
fn wrong_endpoints(w: &World) {
    let socket = w.unwatched(Dealer);
    for (endpoint, bind, connect) in [
        ("", EINVAL, EINVAL),
        ("tcp", EINVAL, EINVAL),
        ("tcp:/127.0.0.1:1", EINVAL, EINVAL),
        ("tcp://", EINVAL, EINVAL),
        ("tcp://127.0.0.1", EINVAL, EINVAL),
        ("tcp://127.0.0.1:", EINVAL, EINVAL),
        ("tcp://127.0.0.1:65536", EINVAL, 0),
        ("tcp://127.0.0.1:x", EINVAL, 0),
        ("tcp://*:1", 0, EINVAL),
        ("tcp://127.0.0.1:*", 0, EINVAL),
        ("tcp://127.0.0.1:0", 0, 0),
        ("nothing://like:that", EPROTONOSUPPORT, EPROTONOSUPPORT),
        ("TCP://127.0.0.1:1", EPROTONOSUPPORT, EPROTONOSUPPORT),
        ("tcp://nosuchif0:1", ENODEV, 0),
        ("inproc://", EINVAL, EINVAL),
    ] {
        if bind != 0 {
            assert_eq!(socket.bind(endpoint), Err(bind), "bind to {endpoint:?}");
        }
        if connect != 0 {
            assert_eq!(
                socket.connect(endpoint),
                Err(connect),
                "connect to {endpoint:?}"
            );
        }
    }
    let long = format!("ipc:///tmp/{}", "x".repeat(108));
    assert_eq!(socket.bind(&long), Err(ENAMETOOLONG));
    assert_eq!(socket.connect(&long), Err(ENAMETOOLONG));
}

/// libzmq sees these when it connects in the background, and says nothing.
fn endpoints_wrong_at_once(w: &World) {
    let socket = w.subject(Dealer);
    for endpoint in [
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:x",
        "tcp://127.0.0.1:0",
        "tcp://:1",
    ] {
        assert_eq!(
            socket.connect(endpoint),
            Err(EINVAL),
            "connect to {endpoint:?}"
        );
    }
    assert_eq!(socket.bind("://127.0.0.1:1"), Err(EPROTONOSUPPORT));
}

/// An interface by its name. (libzmq knows them, but not as it is built here.)
fn an_interface(w: &World) {
    let (rep, req) = (w.subject(Rep), w.peer(Req));
    req.dial(&rep.bind("tcp://lo:*").unwrap());
    req.put("hello");
    assert_eq!(rep.one(), "hello");
}

/// `*` as the port, or as the address, or as a path: LAST_ENDPOINT says what it became.
fn wildcards(w: &World) {
    for wild in [
        "tcp://127.0.0.1:*",
        "tcp://*:*",
        "tcp://127.0.0.1:0",
        "ipc://*",
    ] {
        let (rep, req) = (w.unwatched(Rep), w.peer(Req));
        let bound = rep
            .bind(wild)
            .unwrap_or_else(|errno| panic!("{wild}: {errno}"));
        assert_eq!(rep.last_endpoint(), bound);
        assert!(!bound.contains('*') && !bound.ends_with(":0"), "{bound}");
        let reachable = bound.replace("0.0.0.0", "127.0.0.1");
        req.dial(&reachable);
        req.put("hello");
        assert_eq!(rep.one(), "hello");
        // It is taken, until it is given back by its real name.
        let code = w.unwatched(Rep).bind(&bound).map(drop);
        if bound.starts_with("tcp") {
            assert_eq!(code, Err(EADDRINUSE));
            assert_eq!(rep.unbind(wild), Err(ENOENT), "{wild}");
        }
        rep.unbind(&bound).unwrap();
    }
}

/// IPv6 by number.
fn ipv6(w: &World) {
    let (rep, req) = (w.subject(Rep), w.peer(Req));
    for socket in [&rep, &req] {
        socket.with([Opt::Ipv6(true)]);
    }
    let bound = rep.bind("tcp://[::1]:*").unwrap();
    assert!(bound.starts_with("tcp://[::1]:"), "{bound}");
    req.dial(&bound);
    req.put("hello");
    assert_eq!(rep.one(), "hello");
}

/// A name, of the host and of an interface; and a source address before the other.
fn names_and_sources(w: &World) {
    let pull = w.peer(Pull);
    let bound = pull.bind("tcp://127.0.0.1:*").unwrap();
    let port = bound.rsplit_once(':').unwrap().1;
    for endpoint in [
        format!("tcp://localhost:{port}"),
        format!("tcp://127.0.0.1:0;127.0.0.1:{port}"),
        format!("tcp://127.0.0.1:0;localhost:{port}"),
    ] {
        let push = w.subject(Push);
        push.dial(&endpoint);
        push.put(endpoint.clone());
        assert_eq!(pull.one(), endpoint);
    }
}

/// One name is bound once, and anew after it was given back.
fn bound_once(w: &World) {
    let first = w.subject(Pair);
    let endpoint = first.listen(w);
    if w.transport != Transport::Ipc {
        // libzmq takes a path over from who has it.
        assert_eq!(w.unwatched(Pair).bind(&endpoint), Err(EADDRINUSE));
    }
    assert_eq!(first.last_endpoint(), endpoint);
    first.unbind(&endpoint).unwrap();
    assert_eq!(first.unbind(&endpoint), Err(ENOENT));
    let second = w.subject(Pair);
    until("it is free", || second.bind(&endpoint).is_ok());
    let peer = w.peer(Pair);
    peer.dial(&endpoint);
    peer.put("hello");
    assert_eq!(second.one(), "hello");
}

/// Closing gives it back, too.
fn bound_again_after_a_close(w: &World) {
    let (endpoint, _port) = w.fixed();
    for _ in 0..3 {
        let (pull, push) = (w.subject(Pull), w.peer(Push));
        until("it is free", || pull.bind(&endpoint).is_ok());
        push.dial(&endpoint);
        push.put("hello");
        assert_eq!(pull.one(), "hello");
    }
}

/// After an unbind nobody new gets in; after a disconnect nothing is sent there.
fn taken_back(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    let endpoint = pull.listen(w);
    assert_eq!(push.disconnect(&endpoint), Err(ENOENT));
    push.dial(&endpoint);
    push.put("hello");
    assert_eq!(pull.one(), "hello");
    push.disconnect(&endpoint).unwrap();
    assert_eq!(push.disconnect(&endpoint), Err(ENOENT));
    until("it is gone", || {
        push.try_send("to nobody".into_frames()) == Err(EAGAIN)
    });
    // And again.
    push.dial(&endpoint);
    push.put("again");
    assert_eq!(pull.one(), "again");
}

/// What was sent before a disconnect is sent.
fn a_disconnect_sends_the_rest(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    push.with([Opt::Linger(30_000)]);
    let endpoint = pull.listen(w);
    push.dial(&endpoint);
    push.wait_up(1);
    let text = "x".repeat(1000);
    for i in 0..500 {
        push.put(format!("{i} {text}"));
    }
    push.disconnect(&endpoint).unwrap();
    for i in 0..500 {
        assert_eq!(pull.one(), format!("{i} {text}"));
    }
}

/// Several binds and connects, over several transports, of one socket.
fn several_at_once(w: &World) {
    let pull = w.subject(Pull);
    let endpoints =
        ["tcp://127.0.0.1:*", "ipc://*", "tcp://127.0.0.1:*"].map(|wild| pull.bind(wild).unwrap());
    assert_ne!(endpoints[0], endpoints[2]);
    for endpoint in &endpoints {
        let push = w.peer(Push);
        push.dial(endpoint);
        push.put(endpoint.clone());
        assert_eq!(pull.one(), *endpoint);
    }
    let push = w.subject(Push);
    for (i, endpoint) in endpoints.iter().enumerate() {
        push.dial(endpoint);
        push.wait_up(i + 1);
    }
    for i in 0..9 {
        push.put(format!("{i}"));
    }
    let mut got = pull.many(9);
    got.sort();
    assert_eq!(got.concat(), "012345678");
}

/// Two connects to one endpoint are two connections, which take turns; for REQ, DEALER, PUB and SUB the
/// second is none, since it would make no sense.
fn twice_to_the_same(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    let endpoint = pull.listen(w);
    push.dial(&endpoint);
    push.dial(&endpoint);
    push.wait_up(2);
    for i in 0..10 {
        push.put(i.to_string());
    }
    let mut got = pull.many(10);
    got.sort();
    assert_eq!(got.concat(), "0123456789");
    let (sub, publisher) = (w.subject(Sub), w.peer(Pub));
    let endpoint = publisher.listen(w);
    sub.subscribe(b"").unwrap();
    sub.dial(&endpoint);
    sub.dial(&endpoint);
    settle(&*publisher, &[&*sub]);
    publisher.put("once");
    publisher.put("more");
    assert_eq!(sub.many(2), ["once", "more"]);
    // One disconnect is enough.
    sub.disconnect(&endpoint).unwrap();
    assert_eq!(sub.disconnect(&endpoint), Err(ENOENT));
}

/// Names in the abstract namespace of Linux leave no file behind.
fn abstract_ipc(w: &World) {
    let endpoint = format!(
        "ipc://@sward-{}-{}",
        std::process::id(),
        crate::support::unique()
    );
    let (pull, push) = (w.subject(Pull), w.peer(Push));
    assert_eq!(pull.bind(&endpoint).unwrap(), endpoint);
    push.dial(&endpoint);
    push.put("hello");
    assert_eq!(pull.one(), "hello");
    assert_eq!(w.unwatched(Pull).bind("ipc://@"), Err(EINVAL));
}

for_each_transport! {
    bound_once,
    bound_again_after_a_close,
    taken_back,
    a_disconnect_sends_the_rest,
}

for_each_network! {
    twice_to_the_same,
}

over_tcp_of_ours! {
    endpoints_wrong_at_once,
    an_interface,
}

over_tcp! {
    wrong_endpoints,
    wildcards,
    ipv6,
    names_and_sources,
    several_at_once,
    abstract_ipc,
}
