//! REQ, REP, DEALER and ROUTER (RFC 28).

use crate::support::wire::{Plug, Wire};
use crate::support::{
    DISCONNECTED, EAGAIN, EFSM, EHOSTUNREACH, EINVAL, FAILED, Frames, IntoFrames, Kind, Opt,
    Socket, World, beside, id, text, until,
};

use Kind::{Dealer, Rep, Req, Router};

/// Peers of one kind, connected to the subject, each known to it before the next comes.
fn peers(w: &World, subject: &Socket, kind: Kind, n: usize) -> Vec<Socket> {
    let endpoint = subject.listen(w);
    let peers: Vec<Socket> = (0..n).map(|_| w.peer(kind)).collect();
    for (i, peer) in peers.iter().enumerate() {
        peer.dial(&endpoint);
        subject.wait_up(i + 1);
        peer.wait_up(1);
    }
    peers
}

/// Requests and replies alternate, whatever their frames.
fn requests_get_replies(w: &World) {
    let (req, rep) = (w.subject(Req), w.peer(Rep));
    req.dial(&rep.listen(w));
    for i in 0..20 {
        let request: Frames = (0..=i % 5).map(|n| vec![b'a' + n as u8; 100 * i]).collect();
        req.put(request.clone());
        assert!(rep.take() == request);
        rep.put(request.clone());
        assert!(req.take() == request);
    }
}

/// The same from the other end.
fn replies_get_requests(w: &World) {
    let (rep, req) = (w.subject(Rep), w.peer(Req));
    rep.dial(&req.listen(w));
    for i in 0..20 {
        req.put(
            [format!("{i}"), String::new()]
                .map(String::into_bytes)
                .to_vec(),
        );
        assert_eq!(rep.get(), [i.to_string(), String::new()]);
        rep.put(format!("reply {i}"));
        assert_eq!(req.one(), format!("reply {i}"));
    }
}

/// "SHALL NOT receive before a request was sent, nor send twice" and the reverse for REP: EFSM.
fn strict_alternation(w: &World) {
    let (req, rep) = (w.subject(Req), w.subject(Rep));
    req.dial(&rep.listen(w));
    assert_eq!(req.try_recv(), Err(EFSM));
    assert_eq!(rep.try_send("x".into_frames()), Err(EFSM));
    req.put("request");
    assert_eq!(req.try_send("another".into_frames()), Err(EFSM));
    assert_eq!(rep.one(), "request");
    assert_eq!(rep.try_recv(), Err(EFSM));
    rep.put("reply");
    assert_eq!(rep.try_send("another".into_frames()), Err(EFSM));
    assert_eq!(req.one(), "reply");
    assert_eq!(req.try_recv(), Err(EFSM));
    req.put("next");
    assert_eq!(rep.one(), "next");
}

/// "SHALL route requests to connected REPs round-robin" (RFC 28, REQ).
fn req_goes_round(w: &World) {
    let req = w.subject(Req);
    let reps = peers(w, &req, Rep, 3);
    for (i, rep) in reps.iter().chain(&reps).enumerate() {
        req.put(format!("{i}"));
        assert_eq!(rep.one(), format!("{i}"));
        rep.put("done");
        assert_eq!(req.one(), "done");
    }
}

/// "SHALL block on sending when there are no REPs", and is not out of turn afterwards.
fn req_waits_for_a_peer(w: &World) {
    let req = w.subject(Req);
    let endpoint = req.listen(w);
    req.full("to nobody");
    req.with([Opt::SendTimeout(30)]);
    assert_eq!(req.send("to nobody".into_frames()), Err(EAGAIN));
    req.with([Opt::SendTimeout(30_000)]);
    let ask = || {
        req.put("hello");
        assert_eq!(req.one(), "there");
    };
    beside(ask, || {
        let rep = w.peer(Rep);
        rep.with([Opt::Linger(10_000)]);
        rep.dial(&endpoint);
        assert_eq!(rep.one(), "hello");
        rep.put("there");
    });
}

/// "SHALL put an empty delimiter frame before the request" and take it off the reply.
fn req_adds_a_delimiter(w: &World) {
    let (req, router) = (w.subject(Req), w.peer(Router));
    req.dial(&router.listen(w));
    req.put(["A", "B"]);
    let request = router.take();
    assert_eq!(request.len(), 4);
    assert_eq!(text(&request)[1..], ["", "A", "B"]);
    router.put(vec![request[0].clone(), vec![], b"C".to_vec(), vec![]]);
    assert_eq!(req.get(), ["C", ""]);
}

/// On the wire.
fn req_on_the_wire(w: &World) {
    let plug = Plug::new(w);
    let req = w.subject(Req);
    req.dial(&plug.endpoint());
    let mut wire = plug.accept();
    let ready = wire.greet(1, "REP");
    assert!(ready.windows(3).any(|part| part == b"REQ"));
    assert!(ready.windows(8).any(|part| part == b"Identity"));
    req.put(["A", "B"]);
    assert_eq!(text(&wire.message()), ["", "A", "B"]);
    wire.put([b"", b"reply"]);
    assert_eq!(req.one(), "reply");
}

/// "SHALL discard replies that came from others than the peer of the last request".
fn req_listens_to_the_asked_only(w: &World) {
    for _ in 0..3 {
        let req = w.subject(Req);
        req.with([id("A")]);
        let routers = peers(w, &req, Router, 3);
        req.put("request");
        // It goes to the first. What the others say may come at any time, also before the reply.
        for other in &routers[1..] {
            other.put(["A", "", "wrong"]);
        }
        assert_eq!(text(&routers[0].take()), ["A", "", "request"]);
        routers[0].put(["A", "", "right"]);
        assert_eq!(req.one(), "right");
    }
}

/// Ids that begin with a zero are those that a ROUTER makes up. libzmq lets them pass.
fn ids_do_not_begin_with_zero(w: &World) {
    assert_eq!(
        w.subject(Dealer).set(Opt::RoutingId(b"\x00a".to_vec())),
        Err(EINVAL)
    );
}

/// A reply without a delimiter is no reply; the next one counts. libzmq gives the connection up (not
/// within a process).
fn req_skips_what_is_no_reply(w: &World) {
    let req = w.subject(Req);
    let router = w.peer(Router);
    req.dial(&router.listen(w));
    req.put("request");
    let from = router.take().remove(0);
    for wrong in [
        vec![from.clone(), b"bad".to_vec()],
        vec![from.clone(), b"x".to_vec(), b"y".to_vec()],
    ] {
        router.put(wrong);
    }
    router.put(vec![from, vec![], b"good".to_vec()]);
    assert_eq!(req.one(), "good");
}

/// REQ_CORRELATE: a number of four bytes before the delimiter; replies with another are dropped.
fn req_correlate(w: &World) {
    let req = w.subject(Req);
    req.with([Opt::ReqCorrelate(true)]);
    let router = w.peer(Router);
    req.dial(&router.listen(w));
    let mut numbers = Vec::new();
    for i in 0..3 {
        req.put("request");
        let request = router.take();
        assert_eq!(request.len(), 4, "{:?}", text(&request));
        let (from, number) = (request[0].clone(), request[1].clone());
        assert_eq!(number.len(), 4);
        assert_eq!(request[2], b"");
        router.put(vec![
            from.clone(),
            b"none".to_vec(),
            vec![],
            b"wrong".to_vec(),
        ]);
        router.put(vec![from.clone(), vec![], b"no number".to_vec()]);
        for old in &numbers {
            router.put(vec![
                from.clone(),
                Vec::clone(old),
                vec![],
                b"late".to_vec(),
            ]);
        }
        router.put(vec![
            from,
            number.clone(),
            vec![],
            format!("right {i}").into_bytes(),
        ]);
        assert_eq!(req.one(), format!("right {i}"));
        assert!(!numbers.contains(&number));
        numbers.push(number);
    }
}

/// REQ_RELAXED: a new request gives the old one up, whose reply is dropped when it comes.
fn req_relaxed(w: &World) {
    let req = w.subject(Req);
    req.with([Opt::ReqRelaxed(true), Opt::ReqCorrelate(true)]);
    let router = w.peer(Router);
    req.dial(&router.listen(w));
    let mut requests = Vec::new();
    for i in 0..3 {
        req.put(format!("{i}"));
        requests.push(router.take());
        assert_eq!(requests[i].last().unwrap(), format!("{i}").as_bytes());
    }
    router.put(requests[0].clone());
    router.put(requests[1].clone());
    router.put(requests[2].clone());
    assert_eq!(req.one(), "2");
    assert_eq!(req.try_recv(), Err(EFSM));
    // In the end it asks as ever.
    req.put("again");
    let request = router.take();
    router.put(request);
    assert_eq!(req.one(), "again");
}

/// Relaxed: a request whose peer was lost does not keep the socket for ever.
fn req_relaxed_survives_its_peer(w: &World) {
    let req = w.subject(Req);
    req.with([
        Opt::ReqRelaxed(true),
        Opt::ReqCorrelate(true),
        Opt::ReconnectIvl(10),
    ]);
    let endpoint = req.listen(w);
    let first = w.peer(Rep);
    first.dial(&endpoint);
    req.wait_up(1);
    req.put("lost");
    assert_eq!(first.one(), "lost");
    first.close();
    req.wait_down(1);
    until("the loss is known", || {
        req.try_send("nobody".into_frames()) == Err(EAGAIN)
    });
    let second = w.peer(Rep);
    second.dial(&endpoint);
    req.wait_up(if w.has_network() { 2 } else { 1 });
    req.put("again");
    assert_eq!(second.one(), "again");
    second.put("yes");
    assert_eq!(req.one(), "yes");
}

/// "SHALL receive from all REQs fair-queued" and answers the one that asked.
fn rep_answers_who_asked(w: &World) {
    let rep = w.subject(Rep);
    let reqs = peers(w, &rep, Req, 4);
    for round in 0..3 {
        for (i, req) in reqs.iter().enumerate() {
            req.put(format!("{round} {i}"));
        }
        for _ in &reqs {
            let request = rep.one();
            rep.put(format!("re: {request}"));
        }
        for (i, req) in reqs.iter().enumerate() {
            assert_eq!(req.one(), format!("re: {round} {i}"));
        }
    }
}

/// "SHALL store everything up to and including the delimiter, and put it before the reply".
fn rep_keeps_the_envelope(w: &World) {
    let (rep, dealer) = (w.subject(Rep), w.peer(Dealer));
    dealer.dial(&rep.listen(w));
    dealer.put(["X", "Y", "", "A", "", "B"]);
    assert_eq!(rep.get(), ["A", "", "B"]);
    rep.put(["C", ""]);
    assert_eq!(dealer.get(), ["X", "Y", "", "C", ""]);
}

/// A request without a delimiter is skipped.
fn rep_skips_what_is_no_request(w: &World) {
    let (rep, dealer) = (w.subject(Rep), w.peer(Dealer));
    dealer.dial(&rep.listen(w));
    dealer.put("no delimiter");
    dealer.put(["none", "here"]);
    dealer.put(["", "request"]);
    assert_eq!(rep.one(), "request");
    rep.put("reply");
    assert_eq!(dealer.get(), ["", "reply"]);
}

/// "SHALL discard the reply silently if its peer has gone".
fn rep_drops_replies_to_the_lost(w: &World) {
    let rep = w.subject(Rep);
    let endpoint = rep.listen(w);
    let first = w.peer(Req);
    first.dial(&endpoint);
    first.put("request");
    assert_eq!(rep.one(), "request");
    first.close();
    rep.wait_down(1);
    rep.put("to nobody");
    let second = w.peer(Req);
    second.dial(&endpoint);
    second.put("next");
    assert_eq!(rep.one(), "next");
    rep.put("reply");
    assert_eq!(second.one(), "reply");
}

/// "SHALL send to all peers round-robin; SHALL block on sending without peers" (DEALER).
fn dealer_goes_round(w: &World) {
    let dealer = w.subject(Dealer);
    dealer.full("to nobody");
    let reps = peers(w, &dealer, Rep, 3);
    for i in 0..6 {
        dealer.put(["", &i.to_string()]);
    }
    let mut first = Vec::new();
    for rep in &reps {
        let n: usize = rep.one().parse().unwrap();
        first.push(n);
        rep.put("");
        assert_eq!(rep.one(), (n + 3).to_string());
        rep.put("");
    }
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2]);
    for _ in 0..6 {
        assert_eq!(dealer.get(), ["", ""]);
    }
}

/// "SHALL receive from all peers fair-queued" (DEALER, ROUTER): one with a backlog does not keep
/// the others waiting.
fn dealer_takes_turns(w: &World) {
    let dealer = w.subject(Dealer);
    let others = peers(w, &dealer, Dealer, 3);
    takes_turns(&dealer, &others);
}

fn router_takes_turns(w: &World) {
    let router = w.subject(Router);
    let others = peers(w, &router, Dealer, 3);
    takes_turns(&router, &others);
}

fn takes_turns(to: &Socket, from: &[Socket]) {
    for sender in from {
        for _ in 0..100 {
            sender.put("x");
        }
    }
    for (i, sender) in from.iter().enumerate() {
        sender.put(format!("last {i}"));
    }
    let mut left = from.len();
    let mut got = 0;
    while left > 0 {
        got += 1;
        left -= usize::from(to.get().last().unwrap().starts_with("last"));
    }
    assert_eq!(got, 303);
}

/// Routing ids that peers give themselves, and five bytes behind a zero for those that do not.
fn router_names_its_peers(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let named = w.peer(Dealer);
    named.with([id("named")]);
    named.dial(&endpoint);
    named.put("hello");
    assert_eq!(router.get(), ["named", "hello"]);
    let others = [w.peer(Dealer), w.peer(Req)];
    let mut ids = Vec::new();
    for other in &others {
        other.dial(&endpoint);
        other.put("hello");
        let from = router.take().remove(0);
        assert_eq!((from.len(), from[0]), (5, 0), "{}", from.escape_ascii());
        assert!(!ids.contains(&from));
        ids.push(from);
    }
    router.put(["named", "a", "", "b"]);
    router.put(vec![ids[0].clone(), b"c".to_vec()]);
    router.put(vec![ids[1].clone(), vec![], b"d".to_vec()]);
    assert_eq!(named.get(), ["a", "", "b"]);
    assert_eq!(others[0].get(), ["c"]);
    assert_eq!(others[1].get(), ["d"]);
}

/// Ids of 255 bytes, and of any bytes.
fn router_takes_any_id(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let ids = [vec![255; 255], b"\x01\x00\x00".to_vec(), b" ".to_vec()];
    let dealers: Vec<Socket> = ids.iter().map(|_| w.peer(Dealer)).collect();
    for (dealer, name) in dealers.iter().zip(&ids) {
        dealer.with([Opt::RoutingId(name.clone())]);
        dealer.dial(&endpoint);
        dealer.put("x");
        assert_eq!(router.take(), [name.clone(), b"x".to_vec()]);
        router.put(vec![name.clone(), b"y".to_vec()]);
        assert_eq!(dealer.one(), "y");
    }
    assert_eq!(
        w.subject(Dealer).set(Opt::RoutingId(vec![1; 256])),
        Err(EINVAL)
    );
}

/// To an id that nobody has: dropped without a word; with ROUTER_MANDATORY: EHOSTUNREACH.
fn router_to_nobody(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    router.put(["nobody", "hello"]);
    router.with([Opt::RouterMandatory(true)]);
    assert_eq!(
        router.send(["nobody", "hello"].into_frames()),
        Err(EHOSTUNREACH)
    );
    let dealer = w.peer(Dealer);
    dealer.with([id("X")]);
    dealer.dial(&endpoint);
    until("it is known", || {
        match router.try_send(["X", "hello"].into_frames()) {
            Ok(()) => true,
            Err(errno) => {
                assert_eq!(errno, EHOSTUNREACH);
                false
            }
        }
    });
    assert_eq!(dealer.one(), "hello");
    assert_eq!(
        router.send(["nobody", "hello"].into_frames()),
        Err(EHOSTUNREACH)
    );
    router.put(["X", "still"]);
    assert_eq!(dealer.one(), "still");
    dealer.close();
    router.wait_down(1);
    until("it is forgotten", || {
        router.try_send(["X", "hello"].into_frames()) == Err(EHOSTUNREACH)
    });
}

/// To a peer whose queue is full: dropped; with ROUTER_MANDATORY: EAGAIN, until there is room again.
fn router_to_a_full_peer(w: &World) {
    let router = w.subject(Router);
    router.with([
        Opt::RouterMandatory(true),
        Opt::SendHwm(5),
        Opt::SendBuffer(4096),
    ]);
    let endpoint = router.listen(w);
    let dealer = w.peer(Dealer);
    dealer.with([id("X"), Opt::RecvHwm(5), Opt::RecvBuffer(4096)]);
    dealer.dial(&endpoint);
    router.wait_up(1);
    let text = "x".repeat(50_000);
    let mut sent = 0;
    let mut refused = 0;
    while refused < 20 {
        match router.try_send(["X", &format!("{sent}"), &text].into_frames()) {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(errno) => {
                assert_eq!(errno, EAGAIN);
                refused += 1;
                sward_runtime::sleep(std::time::Duration::from_millis(2));
            }
        }
        assert!(sent < 1000, "no limit");
    }
    for i in 0..sent {
        assert_eq!(dealer.get()[0], i.to_string());
    }
    router.put(["X", "room", "again"]);
    assert_eq!(dealer.get(), ["room", "again"]);
}

/// A second peer of the same id cannot use it; the first notices nothing.
fn router_keeps_the_first_of_an_id(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let (first, second) = (w.peer(Dealer), w.peer(Dealer));
    for dealer in [&first, &second] {
        dealer.with([id("X"), Opt::Linger(0)]);
    }
    first.dial(&endpoint);
    first.put("first");
    assert_eq!(router.get(), ["X", "first"]);
    let _ = second.connect(&endpoint);
    let _ = second.try_send("second".into_frames());
    first.put("again");
    assert_eq!(router.get(), ["X", "again"]);
    router.put(["X", "for you"]);
    assert_eq!(first.one(), "for you");
    router.nothing();
    second.nothing();
}

/// ROUTER_HANDOVER: the new peer takes the id over.
fn router_hands_over(w: &World) {
    let router = w.subject(Router);
    router.with([Opt::RouterHandover(true)]);
    let endpoint = router.listen(w);
    let (first, second) = (w.peer(Dealer), w.peer(Dealer));
    for dealer in [&first, &second] {
        dealer.with([id("X"), Opt::ReconnectIvl(-1)]);
    }
    first.dial(&endpoint);
    first.put("first");
    assert_eq!(router.get(), ["X", "first"]);
    second.dial(&endpoint);
    second.put("second");
    assert_eq!(router.get(), ["X", "second"]);
    router.put(["X", "for the second"]);
    assert_eq!(second.one(), "for the second");
    first.nothing();
}

/// A peer that comes back under its id is the same peer, as soon as its end was told. (libzmq tells it
/// before the id is free.)
fn router_knows_who_comes_back(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    for i in 0..3 {
        let dealer = w.peer(Dealer);
        dealer.with([id("X")]);
        dealer.dial(&endpoint);
        dealer.put(format!("{i}"));
        assert_eq!(router.get(), ["X".to_owned(), i.to_string()]);
        router.put(["X", "back"]);
        assert_eq!(dealer.one(), "back");
        dealer.close();
        router.wait_down(i + 1);
    }
}

/// A hundred peers of their own context, each under its id, come, are talked to, and go.
fn router_reaches_a_hundred(w: &World) {
    let router = w.subject(Router);
    router.with([Opt::RouterMandatory(true)]);
    let endpoint = router.listen(w);
    let dealers: Vec<Socket> = (0..100).map(|_| w.peer(Dealer)).collect();
    for (i, dealer) in dealers.iter().enumerate() {
        dealer.with([id(&format!("peer {i}"))]);
        dealer.dial(&endpoint);
    }
    router.wait_up(100);
    for i in 0..100 {
        until("it is known", || {
            let hello = [format!("peer {i}"), format!("hello {i}")];
            router
                .try_send(hello.map(String::into_bytes).to_vec())
                .is_ok()
        });
    }
    for (i, dealer) in dealers.iter().enumerate() {
        assert_eq!(dealer.one(), format!("hello {i}"));
        dealer.put("bye");
    }
    let mut from: Vec<String> = dealers.iter().map(|_| router.get().remove(0)).collect();
    from.sort();
    from.dedup();
    assert_eq!(from.len(), 100);
}

/// CONNECT_ROUTING_ID names the peer of the next connect, once.
fn router_names_whom_it_dials(w: &World) {
    let router = w.subject(Router);
    let (first, second) = (w.peer(Dealer), w.peer(Dealer));
    router.with([Opt::ConnectRoutingId(b"first".to_vec())]);
    router.dial(&first.listen(w));
    first.wait_up(1);
    router.put(["first", "hello"]);
    assert_eq!(first.one(), "hello");
    router.dial(&second.listen(w));
    second.put("from the other");
    let from = router.take();
    assert_eq!((from[0].len(), from[0][0]), (5, 0), "{:?}", text(&from));
    first.put("from the first");
    assert_eq!(router.get(), ["first", "from the first"]);
}

/// A message that comes together with the handshake is known to be its sender's.
fn router_knows_whom_it_hears(w: &World) {
    for i in 0..50 {
        let (router, dealer) = (w.subject(Router), w.peer(Dealer));
        dealer.with([id("D")]);
        router.dial(&dealer.listen(w));
        dealer.put(i.to_string());
        assert_eq!(router.get(), ["D", &i.to_string()]);
    }
}

/// PROBE_ROUTER: an empty message as soon as there is a connection, by which a ROUTER learns of the
/// peer.
fn probes_tell_a_router(w: &World) {
    let router = w.peer(Router);
    let endpoint = router.listen(w);
    // With a name each: libzmq says that a peer is gone before its ROUTER has forgotten it.
    for (kind, name) in [(Dealer, "dealer"), (Router, "router")] {
        let prober = w.subject(kind);
        prober.with([id(name), Opt::ProbeRouter(true)]);
        prober.dial(&endpoint);
        assert_eq!(router.get(), [name, ""]);
        router.put([name, "hello"]);
        assert_eq!(prober.get().last().unwrap(), "hello");
        prober.close();
        router.wait_down(if kind == Dealer { 1 } else { 2 });
    }
}

/// A device by hand: messages go through with all their frames, and find their way back.
fn a_device_by_hand(w: &World) {
    let (front, back) = (w.subject(Router), w.subject(Dealer));
    let (req, rep) = (w.peer(Req), w.peer(Rep));
    req.dial(&front.listen(w));
    rep.dial(&back.listen(w));
    for i in 0..3 {
        let request: Frames = (0..=i).map(|n| format!("part {n}").into_bytes()).collect();
        req.put(request.clone());
        back.put(front.take());
        assert!(rep.take() == request);
        rep.put(request.clone());
        front.put(back.take());
        assert!(req.take() == request);
    }
}

/// Over two ROUTERs, each of which knows the other's id.
fn routers_talk(w: &World) {
    let (a, b) = (w.subject(Router), w.peer(Router));
    a.with([id("A")]);
    b.with([id("B")]);
    a.dial(&b.listen(w));
    a.wait_up(1);
    b.wait_up(1);
    a.put(["B", "hello"]);
    assert_eq!(b.get(), ["A", "hello"]);
    b.put(["A", "back"]);
    assert_eq!(a.get(), ["B", "back"]);
}

/// "SHALL NOT accept types that it does not talk to": the connection ends in the handshake.
fn wrong_types_are_refused(w: &World) {
    for (kind, wrong) in [
        (Req, ["REQ", "DEALER", "PUB", "PUSH", "PAIR"]),
        (Rep, ["REP", "ROUTER", "SUB", "PULL", "PAIR"]),
        (Dealer, ["REQ", "PUB", "XSUB", "PULL", "PAIR"]),
        (Router, ["REP", "SUB", "XPUB", "PUSH", "PAIR"]),
        (Kind::Push, ["PUSH", "PUB", "REQ", "DEALER", "PAIR"]),
        (Kind::Pull, ["PULL", "SUB", "REP", "ROUTER", "PAIR"]),
        (Kind::Pair, ["PUSH", "PULL", "REQ", "REP", "PUB"]),
        (Kind::Pub, ["PUB", "XPUB", "REQ", "PULL", "PAIR"]),
        (Kind::XPub, ["PUB", "XPUB", "DEALER", "PULL", "PAIR"]),
        (Kind::Sub, ["SUB", "XSUB", "REP", "PUSH", "PAIR"]),
        (Kind::XSub, ["SUB", "XSUB", "ROUTER", "PUSH", "PAIR"]),
    ] {
        let socket = w.subject(kind);
        let endpoint = socket.listen(w);
        for (i, other) in wrong.into_iter().enumerate() {
            let mut wire = Wire::connect(&endpoint);
            wire.write(&crate::support::wire::greeting(1));
            wire.write(&crate::support::wire::ready(&[("Socket-Type", other)]));
            assert!(wire.is_closed_soon(), "{kind:?} {other}");
            // libzmq calls it a disconnection.
            socket.wait_for(FAILED | DISCONNECTED, i + 1);
        }
    }
}

for_each_transport! {
    requests_get_replies,
    replies_get_requests,
    strict_alternation,
    req_goes_round,
    req_waits_for_a_peer,
    req_adds_a_delimiter,
    req_listens_to_the_asked_only,
    req_correlate,
    req_relaxed,
    req_relaxed_survives_its_peer,
    rep_answers_who_asked,
    rep_keeps_the_envelope,
    rep_skips_what_is_no_request,
    rep_drops_replies_to_the_lost,
    dealer_goes_round,
    dealer_takes_turns,
    router_takes_turns,
    router_names_its_peers,
    router_takes_any_id,
    router_to_nobody,
    router_to_a_full_peer,
    router_keeps_the_first_of_an_id,
    router_hands_over,
    router_reaches_a_hundred,
    router_names_whom_it_dials,
    router_knows_whom_it_hears,
    probes_tell_a_router,
    a_device_by_hand,
    routers_talk,
}

of_ours! {
    router_knows_who_comes_back,
    ids_do_not_begin_with_zero,
    req_skips_what_is_no_reply,
}

for_each_wire! {
    req_on_the_wire,
    wrong_types_are_refused,
}
