//! What libzmq has in its drafts only, or not at all.

use sward_mq::{Context, Options, ReconnectStop, RouterNotify, Socket};

use crate::support::wire::Plug;
use crate::support::{Kind, LONG, Opt, World};

use Kind::{Dealer, Sub, XPub, XSub};

fn socket(kind: Kind, options: Options) -> Socket {
    let options = options.recv_timeout(LONG).send_timeout(LONG);
    Socket::in_context(&Context::new(), kind, options).unwrap()
}

/// ROUTER_NOTIFY: peers that come and go show as an empty message of theirs.
fn router_notify(w: &World) {
    let router = socket(
        Kind::Router,
        Options::new().router_notify(RouterNotify::BOTH),
    );
    let endpoint = router.bind(w.wildcard()).unwrap().to_string();
    for name in ["A", "B"] {
        let dealer = w.peer(Dealer);
        dealer.with([Opt::RoutingId(name.as_bytes().to_vec())]);
        dealer.dial(&endpoint);
        assert_eq!(router.recv().unwrap(), [name, ""].into());
        dealer.put("hello");
        assert_eq!(router.recv().unwrap(), [name, "hello"].into());
        dealer.close();
        assert_eq!(router.recv().unwrap(), [name, ""].into());
    }
}

/// XPUB_MANUAL_LAST_VALUE: what is sent next goes to the peer of the last subscription only.
fn manual_last_value(w: &World) {
    let xpub = socket(XPub, Options::new().xpub_manual_last_value(true));
    let endpoint = xpub.bind(w.wildcard()).unwrap().to_string();
    let subs = [w.peer(Sub), w.peer(Sub)];
    for (i, sub) in subs.iter().enumerate() {
        sub.subscribe(b"A").unwrap();
        sub.dial(&endpoint);
        assert_eq!(xpub.recv().unwrap().first(), "\u{1}A");
        xpub.subscribe("A").unwrap();
        xpub.send(format!("A{i}")).unwrap();
        assert_eq!(sub.one(), format!("A{i}"));
    }
    xpub.send("A for both").unwrap();
    for sub in &subs {
        assert_eq!(sub.one(), "A for both");
    }
}

/// TOPICS_COUNT, and who wants a topic.
fn topics_are_counted(w: &World) {
    let xpub = socket(XPub, Options::new());
    let endpoint = xpub.bind(w.wildcard()).unwrap().to_string();
    let xsub = w.peer(XSub);
    xsub.dial(&endpoint);
    for (topic, count) in [("A", 1), ("AB", 2), ("B", 3)] {
        xsub.subscribe(topic.as_bytes()).unwrap();
        xpub.recv().unwrap();
        assert_eq!(xpub.topics(), count);
    }
    assert_eq!(
        (xpub.subscribers_of("ABC"), xpub.subscribers_of("C")),
        (1, 0)
    );
    xsub.unsubscribe(b"A").unwrap();
    xpub.recv().unwrap();
    assert_eq!(xpub.topics(), 2);
}

/// METADATA: names that begin with X- come with the messages.
fn metadata_travels(w: &World) {
    let pull = socket(Kind::Pull, Options::new());
    let endpoint = pull.bind(w.wildcard()).unwrap().to_string();
    let pairs = vec![("X-Job".to_owned(), b"7".to_vec())];
    let push = socket(Kind::Push, Options::new().metadata(pairs));
    push.connect(&endpoint).unwrap();
    push.send("hello").unwrap();
    let (message, peer) = pull.recv_from().unwrap();
    assert_eq!(message.first(), "hello");
    assert_eq!(peer.property("X-Job"), Some(&b"7"[..]));
    assert_eq!(peer.property("x-job"), Some(&b"7"[..]));
    assert_eq!(peer.socket_type(), Some(Kind::Push));
}

/// RECONNECT_STOP: after the first loss, refusal or failed handshake that it names.
fn reconnects_stop(w: &World) {
    let plug = Plug::new(w);
    let stop = ReconnectStop {
        disconnected: true,
        ..ReconnectStop::NEVER
    };
    let options = Options::new()
        .reconnect_stop(stop)
        .reconnect_interval(std::time::Duration::from_millis(10));
    let push = socket(Kind::Push, options);
    let monitor = push.monitor();
    push.connect(plug.endpoint()).unwrap();
    let mut wire = plug.accept();
    wire.greet(1, "PULL");
    drop(wire);
    loop {
        let code = monitor.recv_timeout(LONG).unwrap().code();
        if code == crate::support::DISCONNECTED {
            break;
        }
    }
    let later = monitor.recv_timeout(4 * crate::support::SHORT);
    assert!(later.is_err(), "{later:?}");
}

/// XSUB_VERBOSE_UNSUBSCRIBE: each end goes upstream, not only the last of a topic.
fn xsub_verbose_unsubscribe(w: &World) {
    let xpub = w.peer(XPub);
    xpub.with([Opt::XpubVerboser(true)]);
    let xsub = socket(XSub, Options::new().xsub_verbose_unsubscribe(true));
    xsub.connect(xpub.listen(w)).unwrap();
    for word in ["\u{1}A", "\u{0}A", "\u{0}A", "\u{1}B"] {
        xsub.send(word).unwrap();
        assert_eq!(xpub.take(), [word.as_bytes()]);
    }
}

/// ONLY_FIRST_SUBSCRIBE: what looks like a subscription in a later frame is none.
fn only_first_subscribe(w: &World) {
    let xpub = socket(XPub, Options::new().only_first_subscribe(true));
    let endpoint = xpub.bind(w.wildcard()).unwrap().to_string();
    let xsub = w.peer(XSub);
    xsub.dial(&endpoint);
    xsub.put(["\u{2}user", "\u{1}A"]);
    assert_eq!(xpub.recv().unwrap(), ["\u{2}user", "\u{1}A"].into());
    assert_eq!(xpub.topics(), 0);
}

ours_alone! {
    router_notify,
    manual_last_value,
    topics_are_counted,
    metadata_travels,
    reconnects_stop,
    xsub_verbose_unsubscribe,
    only_first_subscribe,
}
