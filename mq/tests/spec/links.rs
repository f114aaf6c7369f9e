//! Connections that come late, break, and are made again; and what waits in queues meanwhile.

use std::time::Duration;

use crate::support::wire::Plug;
use crate::support::{EAGAIN, IntoFrames, Kind, Opt, Socket, World, beside, id, settle, until};

use Kind::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub};

/// Binds where another was bound a moment ago, which may take time to let go.
fn bind_soon(socket: &Socket, endpoint: &str) {
    until("the endpoint is free", || socket.bind(endpoint).is_ok());
}

/// "MAY connect before the peer binds", with any types.
fn connect_comes_first(w: &World) {
    for (kind, other) in [
        (Push, Pull),
        (Pair, Pair),
        (Dealer, Dealer),
        (Dealer, Router),
    ] {
        let (endpoint, _port) = w.fixed();
        let first = w.subject(kind);
        first.dial(&endpoint);
        first.put("early");
        let second = w.peer(other);
        second.bind(&endpoint).unwrap();
        assert_eq!(second.get().last().unwrap(), "early");
    }
    let (endpoint, _port) = w.fixed();
    let (req, rep) = (w.subject(Req), w.peer(Rep));
    req.dial(&endpoint);
    req.put("early");
    rep.bind(&endpoint).unwrap();
    assert_eq!(rep.one(), "early");
    rep.put("late");
    assert_eq!(req.one(), "late");
    let (endpoint, _port) = w.fixed();
    let (sub, publisher) = (w.subject(Sub), w.peer(Pub));
    sub.dial(&endpoint);
    sub.subscribe(b"").unwrap();
    publisher.bind(&endpoint).unwrap();
    settle(&*publisher, &[&*sub]);
}

/// The one who binds goes and comes back at the same endpoint: who is connected finds it again.
fn who_binds_is_restarted(w: &World) {
    let (endpoint, _port) = w.fixed();
    let subject = w.subject(Dealer);
    subject.with([id("D"), Opt::ReconnectIvl(10)]);
    subject.dial(&endpoint);
    for i in 1..=5 {
        let router = w.peer(Router);
        bind_soon(&router, &endpoint);
        subject.put(format!("{i}"));
        assert_eq!(router.get(), ["D", &i.to_string()]);
        router.put(["D", "back"]);
        assert_eq!(subject.one(), "back");
        router.close();
        subject.wait_down(i);
    }
}

/// The same for the one who connects, under an id that a ROUTER makes up. (Under the same id, libzmq's
/// may still have the one that has gone.)
fn who_connects_is_restarted(w: &World) {
    let subject = w.subject(Router);
    let endpoint = subject.listen(w);
    for i in 1..=5 {
        let dealer = w.peer(Dealer);
        dealer.dial(&endpoint);
        dealer.put(format!("{i}"));
        let mut message = subject.take();
        assert_eq!(message.pop().unwrap(), i.to_string().into_bytes());
        message.push(b"back".to_vec());
        subject.put(message);
        assert_eq!(dealer.one(), "back");
        dealer.close();
        subject.wait_down(i);
    }
}

/// A publisher that is restarted has its subscribers again, with their subscriptions.
fn subscribers_follow_a_restart(w: &World) {
    let (endpoint, _port) = w.fixed();
    let sub = w.subject(Sub);
    sub.with([Opt::ReconnectIvl(10)]);
    sub.subscribe(b"A").unwrap();
    sub.dial(&endpoint);
    for i in 1..=3 {
        let publisher = w.peer(Pub);
        bind_soon(&publisher, &endpoint);
        settle(&*publisher, &[&*sub]);
        publisher.put("B no");
        publisher.put(format!("A {i}"));
        assert_eq!(sub.one(), format!("A {i}"));
        publisher.close();
        sub.wait_down(i);
    }
}

/// IMMEDIATE: nothing is queued for a connection that does not stand; a send waits, or goes to
/// another.
fn immediate(w: &World) {
    let push = w.subject(Push);
    push.with([Opt::Immediate(true), Opt::ReconnectIvl(10)]);
    let (nobody, _port) = w.fixed();
    push.dial(&nobody);
    push.full("nobody is there");
    let pull = w.peer(Pull);
    let endpoint = pull.listen(w);
    push.dial(&endpoint);
    push.wait_up(1);
    for i in 0..10 {
        push.put(format!("{i}"));
    }
    assert_eq!(pull.many(10).concat(), "0123456789");
    pull.close();
    push.wait_down(1);
    until("the loss is known", || {
        push.try_send("x".into_frames()) == Err(EAGAIN)
    });
    let pull = w.peer(Pull);
    bind_soon(&pull, &endpoint);
    push.wait_up(2);
    push.put("again");
    assert_eq!(pull.one(), "again");
}

/// Without it, messages are dealt out to connections that do not stand yet, too.
fn not_immediate(w: &World) {
    let push = w.subject(Push);
    let (nobody, _port) = w.fixed();
    push.dial(&nobody);
    let pull = w.peer(Pull);
    push.dial(&pull.listen(w));
    push.wait_up(1);
    for i in 0..10 {
        push.put(format!("{i}"));
    }
    assert_eq!(pull.many(5).len(), 5);
    pull.nothing();
    let late = w.peer(Pull);
    late.bind(&nobody).unwrap();
    assert_eq!(late.many(5).len(), 5);
}

/// RECONNECT_IVL of -1: a connection that is lost stays so.
fn never_again(w: &World) {
    let plug = Plug::new(w);
    let push = w.subject(Push);
    push.with([Opt::ReconnectIvl(-1)]);
    push.dial(&plug.endpoint());
    let mut wire = plug.accept();
    wire.greet(1, "PULL");
    push.put("x");
    assert_eq!(wire.message(), ["x"].into_frames());
    drop(wire);
    push.wait_down(1);
    push.stays_away(1);
}

/// A socket that is closed sends what it has for its linger time, however large, and then ends.
fn close_sends_the_rest(w: &World) {
    let text = "x".repeat(1000);
    for n in [1, 10, 2000] {
        let (push, pull) = (w.subject(Push), w.peer(Pull));
        push.with([Opt::Linger(30_000), Opt::SendHwm(0)]);
        pull.with([Opt::RecvHwm(10)]);
        push.dial(&pull.listen(w));
        for i in 0..n {
            push.put(format!("{i} {text}"));
        }
        push.close();
        for i in 0..n {
            assert_eq!(pull.one(), format!("{i} {text}"));
        }
        pull.nothing();
    }
}

/// Also where the peer comes later only.
fn close_waits_for_who_comes(w: &World) {
    let (endpoint, _port) = w.fixed();
    let push = w.subject(Push);
    push.with([Opt::Linger(30_000), Opt::ReconnectIvl(10)]);
    push.dial(&endpoint);
    push.put("hello");
    push.close();
    let pull = w.peer(Pull);
    pull.bind(&endpoint).unwrap();
    assert_eq!(pull.one(), "hello");
}

/// With a linger time of zero it drops what it has.
fn close_drops_the_rest(w: &World) {
    let (endpoint, _port) = w.fixed();
    let push = w.subject(Push);
    push.with([Opt::Linger(0), Opt::ReconnectIvl(10)]);
    push.dial(&endpoint);
    push.put("lost");
    push.close();
    let pull = w.peer(Pull);
    pull.bind(&endpoint).unwrap();
    let other = w.subject(Push);
    other.dial(&endpoint);
    other.put("not lost");
    assert_eq!(pull.one(), "not lost");
}

/// What was sent before the receiver stopped reading is not lost when the sender closes: the queues
/// of both sides and the kernel's are full then. (libzmq loses what is in the kernel's, over ipc.)
fn full_queues_survive_a_close(w: &World) {
    let (push, pull) = (w.peer(Push), w.subject(Pull));
    push.with([Opt::Linger(60_000), Opt::SendHwm(0)]);
    pull.with([Opt::RecvHwm(5)]);
    push.dial(&pull.listen(w));
    let text = "x".repeat(64);
    for i in 0..1500 {
        push.put(format!("{i} {text}"));
    }
    push.close();
    if w.has_network() {
        pull.wait_up(1);
    }
    for i in 0..1500 {
        assert_eq!(pull.one(), format!("{i} {text}"));
    }
}

/// A hundred peers, each of which gets its own answers.
fn a_hundred_peers(w: &World) {
    let router = w.subject(Router);
    let endpoint = router.listen(w);
    let dealers: Vec<Socket> = (0..100).map(|_| w.peer(Dealer)).collect();
    for dealer in &dealers {
        dealer.dial(&endpoint);
    }
    let rounds = 20;
    let echo = || {
        for _ in 0..rounds * dealers.len() {
            let message = router.take();
            router.put(message);
        }
    };
    beside(echo, || {
        for round in 0..rounds {
            for (i, dealer) in dealers.iter().enumerate() {
                dealer.put(format!("{i} {round}"));
            }
        }
        for (i, dealer) in dealers.iter().enumerate() {
            for round in 0..rounds {
                assert_eq!(dealer.one(), format!("{i} {round}"));
            }
        }
    });
}

/// Many small messages, in order.
fn fifty_thousand(w: &World) {
    let (push, pull) = (w.subject(Push), w.peer(Pull));
    push.dial(&pull.listen(w));
    let n = 50_000_u32;
    let send = || (0..n).for_each(|i| push.put(i.to_be_bytes().to_vec()));
    beside(send, || {
        (0..n).for_each(|i| assert_eq!(pull.take(), [i.to_be_bytes()]))
    });
}

/// And the other way, with parts.
fn fifty_thousand_back(w: &World) {
    let (push, pull) = (w.peer(Push), w.subject(Pull));
    pull.dial(&push.listen(w));
    let n = 25_000_u32;
    let send = || (0..n).for_each(|i| push.put(vec![i.to_be_bytes().to_vec(), vec![], vec![1]]));
    beside(send, || {
        for i in 0..n {
            assert_eq!(pull.take(), [i.to_be_bytes().to_vec(), vec![], vec![1]]);
        }
    });
}

/// A receiver that does not read for a while holds its senders up, each of them, and loses nothing.
fn many_senders_wait(w: &World) {
    let pull = w.subject(Pull);
    pull.with([Opt::RecvHwm(10), Opt::RecvBuffer(4096)]);
    let endpoint = pull.listen(w);
    let pushes: Vec<Socket> = (0..5).map(|_| w.peer(Push)).collect();
    for push in &pushes {
        push.with([Opt::SendHwm(10), Opt::SendBuffer(4096)]);
        push.dial(&endpoint);
    }
    let padding = "x".repeat(2000);
    let mut sent = [0; 5];
    for (push, sent) in pushes.iter().zip(&mut sent) {
        let mut refused = 0;
        while refused < 20 {
            if push
                .try_send(
                    [format!("{sent}"), padding.clone()]
                        .map(String::into_bytes)
                        .to_vec(),
                )
                .is_ok()
            {
                (*sent, refused) = (*sent + 1, 0);
            } else {
                refused += 1;
                sward_runtime::sleep(Duration::from_millis(1));
            }
        }
    }
    let mut got = 0;
    let total: i32 = sent.iter().sum();
    assert!(total >= 50, "{sent:?}");
    while got < total {
        pull.take();
        got += 1;
    }
    pull.nothing();
}

for_each_transport! {
    connect_comes_first,
    who_connects_is_restarted,
    close_sends_the_rest,
    close_waits_for_who_comes,
    a_hundred_peers,
    fifty_thousand,
    fifty_thousand_back,
    many_senders_wait,
}

for_each_network! {
    who_binds_is_restarted,
    subscribers_follow_a_restart,
    immediate,
    not_immediate,
}

of_ours! {
    full_queues_survive_a_close,
    // libzmq's close leaves the dropping to a thread of its own, which may dial first.
    close_drops_the_rest,
}

for_each_wire! {
    never_again,
}
