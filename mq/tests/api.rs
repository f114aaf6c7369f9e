//! What a program sees of sockets beside messages: options, peers, counters, waits, dumps.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{IoSlice, Read, Write};
use std::time::Duration;

use common::{Raw, everywhere, within};
use sward_mq::{
    Context, Dealer, Error, EventKind, Loss, Options, Pair, Peer, Poller, Pub, Pull, Push, Rep,
    Req, Retry, Router, Socket, SocketType, Stream, Sub, SubscriptionKind, XPub, XSub,
};
use sward_runtime::{dump, spawn, yield_now};
use sward_zmtp::{Output, Setup};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(3);
const PLACES: [&str; 2] = ["inproc://a", "tcp://127.0.0.1:*"];

#[test]
fn every_type_is_shared_between_threads() {
    fn check<T: Clone + Send + Sync + std::fmt::Debug>() {}
    check::<(Push, Pull, Pub, Sub, XPub, XSub)>();
    check::<(Req, Rep, Dealer, Router, Pair, Stream)>();
    check::<(Socket, Context, Peer)>();
}

#[test]
fn kinds_do_not_mix() {
    everywhere("kinds_do_not_mix", |context| {
        let make = |kind| context.socket(kind).unwrap();
        macro_rules! all {
            ($($Kind:ident)+) => {$(
                for kind in SocketType::ALL {
                    let front = $Kind::try_from(make(kind));
                    assert_eq!(front.is_ok(), kind == SocketType::$Kind);
                    match front {
                        Ok(front) => assert_eq!(Socket::from(front).socket_type(), kind),
                        Err(wrong) => assert_eq!(wrong.into_socket().socket_type(), kind),
                    }
                }
            )+};
        }
        all!(Push Pull Pub Sub XPub XSub Req Rep Dealer Router Pair Stream);
        for kind in SocketType::ALL {
            use SocketType::{Pub, Pull, Push, Sub};
            let socket = make(kind);
            let cannot_recv = matches!(socket.try_recv(), Err(Error::Unsupported(_)));
            assert_eq!(cannot_recv, matches!(kind, Push | Pub), "{kind}");
            let failed = socket.try_send("x");
            let cannot_send = failed.is_err_and(|e| matches!(e.error(), Error::Unsupported(_)));
            assert_eq!(cannot_send, matches!(kind, Pull | Sub), "{kind}");
            let subscribed = socket.subscribe("x");
            assert_eq!(subscribed.is_ok(), kind == Sub, "{kind}");
            let waited = socket.wait_subscribers(0, SHORT);
            assert_eq!(
                waited.is_ok(),
                matches!(kind, Pub | SocketType::XPub),
                "{kind}"
            );
        }
    });
}

#[test]
fn endpoints_come_and_go() {
    everywhere("endpoints_come_and_go", |context| {
        let router = Router::in_context(context, Options::new()).unwrap();
        assert_eq!(
            (router.last_endpoint(), router.endpoints().len()),
            (None, 0)
        );
        let a = router.bind("tcp://127.0.0.1:*").unwrap();
        let b = router.bind("inproc://b").unwrap();
        router.connect("tcp://127.0.0.1:9").unwrap();
        router.connect("inproc://nobody").unwrap();
        let all: Vec<_> = router
            .endpoints()
            .iter()
            .map(|e| e.scheme().to_owned())
            .collect();
        assert_eq!(all, ["tcp", "inproc", "tcp", "inproc"]);
        assert_eq!(router.last_endpoint().unwrap().as_str(), "inproc://nobody");
        router.unbind(&a).unwrap();
        router.unbind(b).unwrap();
        router.disconnect("tcp://127.0.0.1:9").unwrap();
        router.disconnect("inproc://nobody").unwrap();
        assert!(router.endpoints().is_empty());
        assert!(matches!(router.unbind(&a), Err(Error::NotFound(_))));
        assert!(matches!(
            router.disconnect("inproc://b"),
            Err(Error::NotFound(_))
        ));
        assert!(matches!(router.bind("no://such"), Err(Error::Endpoint(_))));
        router.bind(a).unwrap();
    });
}

#[test]
fn who_sent_it() {
    everywhere("who_sent_it", |context| {
        for place in PLACES {
            let router = Router::in_context(context, Options::new()).unwrap();
            let bound = router.bind(place).unwrap();
            let options = Options::new()
                .routing_id("me")
                .metadata(vec![("X-Job".into(), b"7".into())]);
            let named = Dealer::in_context(context, options).unwrap();
            named.connect(&bound).unwrap();
            named.send("x").unwrap();
            let (message, peer) = router.recv_from().unwrap();
            assert_eq!(message, ["me", "x"].into());
            assert_eq!(peer.routing_id().unwrap(), "me");
            assert_eq!(
                (peer.identity(), peer.endpoint()),
                (&b"me"[..], bound.as_str())
            );
            assert_eq!(peer.property("socket-type"), Some(&b"DEALER"[..]));
            assert_eq!(peer.property("Identity"), peer.property("Routing-Id"));
            assert_eq!(peer.property("X-Nothing"), None);
            if place.starts_with("tcp") {
                assert_eq!(peer.property("X-Job"), Some(&b"7"[..]));
                assert_eq!(peer.property("Peer-Address"), Some(&b"127.0.0.1"[..]));
            } else {
                assert_eq!(peer.property("Peer-Address"), None);
            }
            let status = &router.peers()[0];
            assert_eq!((&status.peer, status.since.is_some()), (&peer, true));
            drop(named);
            while !router.peers().is_empty() {
                yield_now();
            }
            // What is known stays known.
            assert_eq!(peer.socket_type(), Some(SocketType::Dealer));
            let nameless = Dealer::in_context(context, Options::new()).unwrap();
            nameless.connect(&bound).unwrap();
            nameless.send("y").unwrap();
            let (message, peer) = router.recv_from().unwrap();
            assert_eq!(peer.routing_id(), Some(message.first()));
            router
                .send_to(peer.routing_id().unwrap().clone(), "z")
                .unwrap();
            assert_eq!(nameless.recv().unwrap().first(), "z");
            router.unbind(bound).unwrap();
        }
    });
}

#[test]
fn an_unsent_message_comes_back_without_its_address() {
    everywhere(
        "an_unsent_message_comes_back_without_its_address",
        |context| {
            let options = Options::new().router_mandatory(true);
            let router = Router::in_context(context, options).unwrap();
            let failed = router.send_to("nobody", ["a", "b"]).unwrap_err();
            assert!(matches!(failed.error(), Error::HostUnreachable));
            assert_eq!(failed.into_message(), ["a", "b"].into());
        },
    );
}

#[test]
fn options_act_when_they_say() {
    everywhere("options_act_when_they_say", |context| {
        for place in PLACES {
            let options = Options::new()
                .send_hwm(1)
                .recv_hwm(1)
                .send_timeout(Duration::ZERO)
                .linger(Duration::ZERO);
            let push = Push::in_context(context, options.clone()).unwrap();
            let pull = Pull::in_context(context, options).unwrap();
            push.connect(pull.bind(place).unwrap()).unwrap();
            push.wait_connected(1, LONG).unwrap();
            // Kernel buffers, too, for tcp.
            let fill = || {
                let mut n = 0;
                while push.send(vec![b'x'; 100_000]).is_ok() {
                    n += 1;
                }
                n
            };
            let before = fill();
            push.configure(|o| o.send_hwm = 11).unwrap();
            let more = fill();
            assert!((10..20).contains(&more), "{place}: {before}, then {more}");
            assert_eq!(push.options().send_hwm, 11);
            assert!(push.stats().full >= 2);
            drop(pull);
        }
        // All or nothing.
        let router = Router::in_context(context, Options::new()).unwrap();
        let wrong = router.configure(|o| {
            o.router_mandatory = true;
            o.max_parts = 0;
        });
        assert!(matches!(wrong, Err(Error::Option(_))));
        assert!(!router.options().router_mandatory);
        router.send(["nobody", "x"]).unwrap();
        router.configure(|o| o.router_mandatory = true).unwrap();
        assert!(router.send(["nobody", "x"]).is_err());
        assert_eq!(router.stats().lost(Loss::Unroutable), 1);
    });
}

/// A change that another one overtakes is made again, so that none is lost.
#[test]
fn concurrent_changes_are_all_kept() {
    everywhere("concurrent_changes_are_all_kept", |context| {
        let socket = Pull::in_context(context, Options::new().recv_hwm(0).send_hwm(0)).unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let socket = socket.clone();
                spawn(move || {
                    for _ in 0..50 {
                        socket.configure(|o| {
                            o.recv_hwm += 1;
                            yield_now();
                        })?;
                    }
                    Ok::<(), Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.join().unwrap().unwrap();
        }
        assert_eq!(socket.options().recv_hwm, 400);
    });
}

#[test]
fn messages_and_subscriptions_are_counted() {
    everywhere("messages_and_subscriptions_are_counted", |context| {
        for endpoint in ["inproc://counted", "tcp://127.0.0.1:*"] {
            let publisher = Pub::in_context(context, Options::new()).unwrap();
            let sub = Sub::in_context(context, Options::new()).unwrap();
            sub.subscribe("a").unwrap();
            sub.connect(publisher.bind(endpoint).unwrap()).unwrap();
            publisher.wait_subscribers(1, LONG).unwrap();
            for text in ["a1", "b2", "a3"] {
                publisher.send(text).unwrap();
            }
            assert_eq!(sub.recv().unwrap().first(), "a1");
            assert_eq!(sub.recv().unwrap().first(), "a3");
            let counts = |socket: &Socket| {
                let traffic = socket.stats().traffic;
                (traffic.messages_sent, traffic.messages_received)
            };
            assert_eq!(counts(publisher.as_ref()), (2, 1), "{endpoint}");
            assert_eq!(counts(sub.as_ref()), (1, 2), "{endpoint}");
        }
    });
}

#[test]
fn requests_over_a_dealer() {
    everywhere("requests_over_a_dealer", |context| {
        let rep = Rep::in_context(context, Options::new()).unwrap();
        let dealer = Dealer::in_context(context, Options::new()).unwrap();
        dealer
            .connect(rep.bind("tcp://127.0.0.1:*").unwrap())
            .unwrap();
        let server = spawn(move || {
            // Answered backwards.
            let mut open: Vec<_> = (0..20).map(|_| rep.recv().unwrap()).collect();
            while let Some(request) = open.pop() {
                let text = request.first().clone();
                request.reply(text).unwrap();
            }
            // The last one is not answered.
            drop(rep.recv().unwrap());
            drop(rep.recv().unwrap());
            rep.stats().lost(Loss::Unanswered)
        });
        let tasks: Vec<_> = (0..20)
            .map(|n: u32| {
                let dealer = dealer.clone();
                spawn(move || (n, dealer.request(n.to_string()).unwrap()))
            })
            .collect();
        for task in tasks {
            let (n, reply) = task.join().unwrap();
            assert_eq!(reply.first(), n.to_string().as_str());
        }
        let retry = Retry::new(Duration::from_millis(20)).attempts(2);
        let failed = dealer.request_with("nobody", retry).unwrap_err();
        assert!(matches!(failed.error(), Error::TimedOut));
        assert_eq!(failed.into_message().first(), "nobody");
        assert_eq!(server.join().unwrap(), 2);
    });
}

#[test]
fn counters_outlive_connections() {
    everywhere("counters_outlive_connections", |context| {
        let pull = Pull::in_context(context, Options::new()).unwrap();
        let bound = pull.bind("tcp://127.0.0.1:*").unwrap();
        for n in 1..=3 {
            let push = Push::in_context(context, Options::new()).unwrap();
            push.connect(&bound).unwrap();
            push.send("hello").unwrap();
            pull.recv().unwrap();
            assert_eq!(push.stats().traffic.messages_sent, 1);
            drop(push);
            let stats = pull.stats();
            assert_eq!(stats.traffic.messages_received, n);
            assert!(stats.traffic.bytes_received >= 7 * n && stats.last_error.is_none());
        }
        while pull.stats().peers > 0 {
            yield_now();
        }
        assert_eq!(pull.stats().traffic.messages_received, 3);
        assert_eq!(pull.stats().lost_messages(), 0);
        // A wrong peer: the error is kept, and the socket goes on.
        let wrong = Req::in_context(context, Options::new().reconnect_interval(None)).unwrap();
        wrong.connect(&bound).unwrap();
        while pull.stats().last_error.is_none() {
            yield_now();
        }
        let text = pull.stats().to_string();
        assert!(
            text.contains("last error") && text.contains(bound.as_str()),
            "{text}"
        );
        assert!(wrong.wait_connected(1, SHORT).is_err());
    });
}

#[test]
fn peers_and_subscribers_are_waited_for() {
    everywhere("peers_and_subscribers_are_waited_for", |context| {
        for place in PLACES {
            let publisher = Pub::in_context(context, Options::new()).unwrap();
            let bound = publisher.bind(place).unwrap();
            assert!(matches!(
                publisher.wait_connected(1, SHORT),
                Err(Error::TimedOut)
            ));
            assert!(matches!(
                publisher.wait_subscribers(1, SHORT),
                Err(Error::TimedOut)
            ));
            let joins = |topics: &'static [&str]| {
                let (bound, context) = (bound.clone(), context.clone());
                spawn(move || {
                    let subscriber = Sub::in_context(&context, Options::new()).unwrap();
                    for topic in topics {
                        subscriber.subscribe(topic).unwrap();
                    }
                    subscriber.connect(bound).unwrap();
                    subscriber
                })
            };
            let none = joins(&[]);
            publisher.wait_connected(1, LONG).unwrap();
            assert!(publisher.wait_subscribers(1, SHORT).is_err());
            let (a, b) = (joins(&["a", "b"]), joins(&["b"]));
            publisher.wait_subscribers(2, LONG).unwrap();
            publisher.wait_subscribers_of("b!", 2, LONG).unwrap();
            publisher.wait_subscribers_of("a", 1, LONG).unwrap();
            assert_eq!((publisher.subscribers_of("ab"), publisher.topics()), (1, 2));
            publisher.send("b!").unwrap();
            let (a, b) = (a.join().unwrap(), b.join().unwrap());
            assert_eq!(a.recv().unwrap(), b.recv().unwrap());
            assert_eq!((a.topics(), b.topics()), (2, 1));
            a.unsubscribe("b").unwrap();
            drop((b, none));
            while publisher.subscribers_of("b") > 0 {
                yield_now();
            }
            assert_eq!(publisher.subscribers_of("a"), 1);
            publisher.close();
        }
    });
}

#[test]
fn a_manual_publisher_answers_each_peer() {
    everywhere("a_manual_publisher_answers_each_peer", |context| {
        let publisher = XPub::in_context(context, Options::new().xpub_manual(true)).unwrap();
        let bound = publisher.bind("tcp://127.0.0.1:*").unwrap();
        let [a, b] = ["a", "b"].map(|topic| {
            let subscriber = Sub::in_context(context, Options::new()).unwrap();
            subscriber.connect(&bound).unwrap();
            subscriber.subscribe(topic).unwrap();
            subscriber
        });
        let wishes = [
            publisher.next_subscription().unwrap(),
            publisher.next_subscription().unwrap(),
        ];
        assert_ne!(wishes[0].peer, wishes[1].peer);
        // In any order, whoever was last.
        for wish in &wishes {
            assert_eq!(wish.kind, SubscriptionKind::Subscribe);
            publisher.accept(wish).unwrap();
        }
        for (subscriber, topic) in [(&a, "a"), (&b, "b")] {
            assert_eq!(publisher.subscribers_of(topic), 1);
            publisher.send(topic).unwrap();
            assert_eq!(subscriber.recv().unwrap().first(), topic);
        }
        b.unsubscribe("b").unwrap();
        let wish = publisher.next_subscription().unwrap();
        assert_eq!(
            (wish.kind, wish.topic == "b"),
            (SubscriptionKind::Cancel, true)
        );
        assert_eq!(publisher.subscribers_of("b"), 1);
        publisher.accept(&wish).unwrap();
        assert_eq!(publisher.subscribers_of("b"), 0);
        drop(a);
        let wish = publisher.next_subscription().unwrap();
        assert_eq!(
            (wish.kind, wish.topic == "a"),
            (SubscriptionKind::Cancel, true)
        );
        publisher.accept(&wish).unwrap();
        let other = XPub::in_context(context, Options::new()).unwrap();
        assert!(matches!(other.accept(&wish), Err(Error::Unsupported(_))));
    });
}

/// Nothing is sent before the subscription is there, on the subscriber's word alone.
#[test]
fn a_ready_subscriber_misses_nothing() {
    everywhere("a_ready_subscriber_misses_nothing", |context| {
        let subscriber = Sub::in_context(context, Options::new()).unwrap();
        assert!(matches!(subscriber.ready(1, SHORT), Err(Error::TimedOut)));
        subscriber.ready(0, SHORT).unwrap();
        let publisher = Pub::in_context(context, Options::new()).unwrap();
        publisher.bind("inproc://a").unwrap();
        subscriber.connect("inproc://a").unwrap();
        for n in 0..50 {
            let topic = format!("{n} ");
            subscriber.subscribe(&topic).unwrap();
            subscriber.ready("inproc://a", LONG).unwrap();
            publisher.send(&topic).unwrap();
            assert_eq!(subscriber.recv_timeout(LONG).unwrap().first(), &topic[..]);
        }
        let bound = publisher.bind("tcp://127.0.0.1:*").unwrap();
        subscriber.connect(&bound).unwrap();
        let mut owed = 0;
        for n in 50..100 {
            let topic = format!("{n} ");
            subscriber.subscribe(&topic).unwrap();
            // Both connections are to the same publisher.
            subscriber.ready(2, LONG).unwrap();
            subscriber.ready(&bound, LONG).unwrap();
            publisher.send(&topic).unwrap();
            publisher.send(&topic).unwrap();
            owed += 4;
            // Now and then the answer comes behind messages that nobody has received.
            if n % 3 == 0 {
                for _ in 0..std::mem::take(&mut owed) {
                    subscriber.recv_timeout(LONG).unwrap();
                }
            }
        }
        assert!(matches!(
            subscriber.ready("inproc://b", SHORT),
            Err(Error::TimedOut)
        ));
        assert!(matches!(subscriber.ready(3, SHORT), Err(Error::TimedOut)));
    });
}

/// CONNECT_ROUTING_ID is for the next connect, whoever connects to us meanwhile.
#[test]
fn a_given_routing_id_is_for_the_next_connect() {
    everywhere("a_given_routing_id_is_for_the_next_connect", |context| {
        let server = Router::in_context(context, Options::new()).unwrap();
        let there = server.bind("tcp://127.0.0.1:*").unwrap();
        let router = Router::in_context(context, Options::new()).unwrap();
        let here = router.bind("tcp://127.0.0.1:*").unwrap();
        router
            .configure(|o| o.connect_routing_id = Some("given".into()))
            .unwrap();
        let dealer = Dealer::in_context(context, Options::new()).unwrap();
        dealer.connect(here).unwrap();
        router.wait_connected(1, LONG).unwrap();
        router.connect(there).unwrap();
        assert_eq!(router.options().connect_routing_id, None);
        router.wait_connected(2, LONG).unwrap();
        router.send(["given", "x"]).unwrap();
        assert_eq!(server.recv_timeout(LONG).unwrap().last(), "x");
    });
}

#[test]
fn the_dump_names_socket_and_endpoint() {
    within("the_dump_names_socket_and_endpoint", || {
        let runtime = sward_runtime::Runtime::builder()
            .workers(1)
            .build()
            .unwrap();
        runtime.run(|| {
            let context = Context::new();
            let pull = Pull::in_context(&context, Options::new()).unwrap();
            let bound = pull.bind("tcp://127.0.0.1:*").unwrap();
            let push = Push::in_context(&context, Options::new()).unwrap();
            let (receives, sends) = (pull.clone(), push.clone());
            let receiver = spawn(move || receives.recv());
            let sender = spawn(move || sends.send("x"));
            yield_now();
            yield_now();
            let text = dump().to_string();
            let json = dump().to_json();
            let number = |text: &str, kind: &str| {
                let (_, rest) = text.split_once(kind).unwrap_or_else(|| panic!("{text}"));
                rest.split(|c: char| !c.is_ascii_digit())
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let n = number(&text, "message to PULL socket ");
            let name = format!("PULL socket {n} at {bound}");
            assert!(text.contains(&name), "{text}");
            assert!(json.contains(&name), "{json}");
            let n = number(&text, "room in PUSH socket ");
            assert!(
                text.contains(&format!("PUSH socket {n}, neither bound nor connected")),
                "{text}"
            );
            assert!(format!("{pull:?}").contains(bound.as_str()), "{pull:?}");
            drop((pull, push));
            context.shutdown();
            assert!(receiver.join().unwrap().is_err());
            assert!(sender.join().unwrap().is_err());
        });
    });
}

#[test]
fn monitors_see_the_end() {
    everywhere("monitors_see_the_end", |context| {
        let pull = Pull::in_context(context, Options::new()).unwrap();
        let (events, few) = (pull.monitor(), Socket::from(pull.clone()).monitor_with(1));
        pull.bind("inproc://m").unwrap();
        let push = Push::in_context(context, Options::new()).unwrap();
        push.connect("inproc://m").unwrap();
        drop(pull);
        let all: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert!(
            matches!(
                all[..2],
                [EventKind::Listening, EventKind::HandshakeSucceeded]
            ),
            "{all:?}"
        );
        assert!(matches!(all.last(), Some(EventKind::MonitorStopped)));
        assert!(matches!(few.recv().unwrap().kind, EventKind::Missed { .. }));
        let _: Poller<'_, ()> = Poller::default();
    });
}

/// A PING that the reader comes upon, and not the worker, is answered all the same.
#[test]
fn a_ping_behind_messages_is_answered() {
    everywhere("a_ping_behind_messages_is_answered", |context| {
        let pull = Pull::in_context(context, Options::new()).unwrap();
        let bound = pull.bind("tcp://127.0.0.1:*").unwrap();
        let peer = move || {
            let mut raw = Raw::connect(bound.as_str(), Setup::new(SocketType::Push));
            let mut output = Output::new();
            output.push(&"1".into());
            output.push(&"2".into());
            output.push_command(b"PING", b"\0\0?");
            let mut slices = [IoSlice::new(&[])];
            output.slices(&mut slices);
            raw.stream.write_all(&slices[0]).unwrap();
            raw.stream.patience(LONG);
            let mut answer = [0; 8];
            raw.stream.read_exact(&mut answer).unwrap();
            answer
        };
        let peer = std::thread::spawn(peer);
        assert_eq!(pull.recv().unwrap().first(), "1");
        assert_eq!(pull.recv().unwrap().first(), "2");
        assert!(pull.try_recv().is_err());
        let answer = sward_runtime::blocking(|| peer.join().unwrap());
        assert_eq!(&answer, b"\x04\x06\x04PONG?");
    });
}
