//! The proxy: libzmq's tests of it (test_proxy, _single_socket, _steerable, _terminate, _hwm), and
//! what is promised beyond: nothing is lost by its end, and no peer can end it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sward_mq::{
    Context, Error, Message, Options, Proxy, ProxyStatistics, Socket, SocketType, SocketType::*,
    proxy,
};
use sward_runtime::{Runtime, join_all, spawn, timeout, yield_now};

const SOON: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_millis(30);

fn within(name: &str, f: impl FnOnce()) {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f);
}

/// From an ordinary thread, from a task of one worker, from tasks of two.
fn everywhere(name: &str, check: impl Fn(&Context) + Send + Sync) {
    within(name, || {
        let check = || {
            let context = Context::new();
            check(&context);
            context.term(SOON);
        };
        check();
        for workers in [1, 2] {
            Runtime::builder()
                .workers(workers)
                .build()
                .unwrap()
                .run(check);
        }
    });
}

fn bound(context: &Context, kind: SocketType, endpoint: &str) -> Socket {
    bound_with(context, kind, endpoint, Options::new())
}

fn bound_with(context: &Context, kind: SocketType, endpoint: &str, options: Options) -> Socket {
    let socket = Socket::in_context(context, kind, options).unwrap();
    socket.bind(endpoint).unwrap();
    socket
}

fn connected(context: &Context, kind: SocketType, endpoint: impl AsRef<str>) -> Socket {
    connected_with(context, kind, endpoint, Options::new())
}

fn connected_with(
    context: &Context,
    kind: SocketType,
    endpoint: impl AsRef<str>,
    options: Options,
) -> Socket {
    let socket = Socket::in_context(context, kind, options).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

fn small() -> Options {
    Options::new().send_hwm(10usize).recv_hwm(10usize)
}

fn text(message: &Message) -> String {
    message.last().to_string_lossy().into_owned()
}

/// test_proxy: four workers, many clients, each sees the replies to its own requests, in order.
#[test]
fn clients_see_their_own_replies() {
    everywhere("clients_see_their_own_replies", |context| {
        let frontend = bound(context, Router, "tcp://127.0.0.1:*");
        let backend = bound(context, Dealer, "inproc://workers");
        let endpoint = frontend.last_endpoint().unwrap();
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        let workers = [0; 4].map(|_| {
            let worker = connected(context, Dealer, "inproc://workers");
            spawn(move || {
                while let Ok(request) = worker.recv() {
                    worker.send(request).unwrap();
                }
            })
        });
        let clients: Vec<_> = (0..8)
            .map(|n| {
                let client = connected(context, Dealer, &endpoint);
                spawn(move || {
                    for i in 0..20 {
                        client
                            .send([format!("client {n}"), format!("request {i}")])
                            .unwrap();
                    }
                    // Four workers: in any order.
                    let mut replies: Vec<_> = (0..20).map(|_| client.recv().unwrap()).collect();
                    replies.sort_by_key(|reply| text(reply)[8..].parse::<u32>().unwrap());
                    for (i, reply) in replies.iter().enumerate() {
                        assert_eq!(
                            *reply,
                            [format!("client {n}"), format!("request {i}")].into()
                        );
                    }
                })
            })
            .collect();
        join_all(clients)
            .into_iter()
            .for_each(|client| client.unwrap());
        let statistics = running.terminate().unwrap();
        assert_eq!(statistics.frontend.received, 160);
        assert_eq!(statistics.frontend, statistics.backend);
        context.shutdown();
        join_all(workers)
            .into_iter()
            .for_each(|worker| worker.unwrap());
    });
}

/// test_proxy_single_socket: the frontend is the backend.
#[test]
fn one_socket_gets_back_what_it_receives() {
    everywhere("one_socket_gets_back_what_it_receives", |context| {
        for (kind, peer) in [(Rep, Req), (Router, Dealer), (Dealer, Dealer), (Pair, Pair)] {
            let name = format!("inproc://{kind}");
            let socket = bound(context, kind, &name);
            let running = Proxy::new(&socket, &socket).spawn().unwrap();
            let client = connected(context, peer, &name);
            for message in ["1", "22"] {
                client.send(message).unwrap();
                assert_eq!(client.recv().unwrap().first(), message);
            }
            let statistics = running.terminate().unwrap();
            assert_eq!(
                (statistics.frontend.received, statistics.backend.sent),
                (2, 2),
                "{kind}"
            );
        }
    });
}

/// REQ and REP take turns, also as ends of a proxy.
#[test]
fn ends_that_take_turns() {
    everywhere("ends_that_take_turns", |context| {
        let ends = [(Rep, Req), (Req, Rep), (Router, Req), (Rep, Dealer)];
        for (n, (front, back)) in ends.into_iter().enumerate() {
            let names = [format!("inproc://front {n}"), format!("inproc://back {n}")];
            let frontend = bound(context, front, &names[0]);
            let backend = bound(context, back, &names[1]);
            let running = Proxy::new(&frontend, &backend).spawn().unwrap();
            let (asks, answers) = if front == Req { (1, 0) } else { (0, 1) };
            let client = connected(context, Req, &names[asks]);
            let server = connected(
                context,
                if back == Dealer { Dealer } else { Rep },
                &names[answers],
            );
            for _ in 0..3 {
                client.send("question").unwrap();
                let message = server.recv().unwrap();
                server.send(message).unwrap();
                assert_eq!(client.recv().unwrap().last(), "question");
            }
            running.terminate().unwrap();
        }
    });
}

/// test_proxy_steerable, with REP, and with each other kind of control socket.
#[test]
fn control_sockets() {
    everywhere("control_sockets", |context| {
        let pairs = [
            (Rep, Req),
            (Pair, Pair),
            (Dealer, Dealer),
            (Router, Req),
            (Pull, Push),
            (Sub, Pub),
        ];
        for (kind, peer) in pairs {
            let name = |what| format!("inproc://{kind} {what}");
            let frontend = bound(context, Pull, &name("front"));
            let backend = bound(context, Push, &name("back"));
            let control = bound(context, kind, &name("control"));
            if kind == Sub {
                control.subscribe("").unwrap();
            }
            let running = Proxy::new(&frontend, &backend)
                .control(&control)
                .spawn()
                .unwrap();
            let (from, to) = (
                connected(context, Push, name("front")),
                connected(context, Pull, name("back")),
            );
            let controller = connected(context, peer, name("control"));
            if peer == Pub {
                controller.wait_subscribers(1, SOON).unwrap();
            }
            let answered = matches!(kind, Rep | Router);
            let say = |word: &str| {
                controller.send(word).unwrap();
                if answered {
                    assert_eq!(controller.recv().unwrap(), Message::new());
                }
            };
            let statistics = || {
                if matches!(kind, Pull | Sub) {
                    return running.statistics();
                }
                controller.send("STATISTICS").unwrap();
                let answer = controller.recv().unwrap();
                assert_eq!(answer.len(), 8);
                assert!(answer.frames().iter().all(|frame| frame.len() == 8));
                ProxyStatistics::from_message(&answer).unwrap()
            };
            assert_eq!(statistics(), ProxyStatistics::default());
            from.send(["12", "345"]).unwrap();
            assert_eq!(to.recv().unwrap().len(), 2);

            say("PAUSE");
            if !answered {
                // Words are obeyed in turn: the answer to one that follows says that it was. The
                // others cannot say so.
                while !format!("{running:?}").contains("Paused") {
                    yield_now();
                }
            }
            from.send("held").unwrap();
            let held = frontend.recv_timeout(SOON).unwrap();
            assert_eq!(held.first(), "held");
            from.send("later").unwrap();
            assert!(to.recv_timeout(NEVER).is_err());
            say("RESUME");
            assert_eq!(to.recv().unwrap().first(), "later");

            if answered {
                controller.send("JUMP").unwrap();
                assert!(text(&controller.recv().unwrap()).contains("TERMINATE"));
            } else {
                controller.send("JUMP").unwrap();
            }
            if peer != Req {
                controller.send(["topic", "RESUME"]).unwrap();
            }
            while statistics().backend.sent < 2 {
                yield_now();
            }
            let expected = statistics();
            assert_eq!(
                (expected.frontend.received, expected.frontend.received_bytes),
                (2, 10)
            );
            assert_eq!(
                (expected.backend.sent, expected.backend.sent_bytes),
                (2, 10)
            );
            assert_eq!((expected.frontend.sent, expected.backend.received), (0, 0));
            say("TERMINATE");
            assert_eq!(running.join().unwrap(), expected);
        }
    });
}

/// What was paused is terminated, and resumed too late it stays so.
#[test]
fn a_paused_proxy_ends() {
    everywhere("a_paused_proxy_ends", |context| {
        let frontend = bound(context, Router, "inproc://front");
        let backend = bound(context, Dealer, "inproc://back");
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        running.pause();
        running.pause();
        assert_eq!(running.terminate().unwrap(), ProxyStatistics::default());
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        running.pause();
        running.resume();
        let client = connected(context, Dealer, "inproc://front");
        let worker = connected(context, Dealer, "inproc://back");
        client.send("1").unwrap();
        assert_eq!(text(&worker.recv().unwrap()), "1");
        running.terminate().unwrap();
    });
}

/// test_proxy_terminate (libzmq issue 1382): the backend has no peer. Nothing was taken from the
/// frontend then.
#[test]
fn a_blocked_proxy_ends_and_holds_nothing() {
    everywhere("a_blocked_proxy_ends_and_holds_nothing", |context| {
        for (kind, back) in [(Push, Pull), (Dealer, Router), (Pair, Pair)] {
            let name = |what| format!("inproc://{kind} {what}");
            let frontend = bound(context, Pull, &name("front"));
            let backend = bound_with(context, kind, &name("back"), small());
            let control = bound(context, Rep, &name("control"));
            let running = Proxy::new(&frontend, &backend)
                .control(&control)
                .spawn()
                .unwrap();
            let from = connected(context, Push, name("front"));
            (0..100).for_each(|i| from.send(i.to_string()).unwrap());
            let controller = connected(context, Req, name("control"));
            controller.send("STATISTICS").unwrap();
            assert_eq!(
                ProxyStatistics::from_message(&controller.recv().unwrap())
                    .unwrap()
                    .frontend
                    .received,
                0
            );
            controller.send("TERMINATE").unwrap();
            assert_eq!(running.join().unwrap(), ProxyStatistics::default());
            let rest: Vec<_> = (0..100)
                .map(|_| text(&frontend.recv_timeout(SOON).unwrap()))
                .collect();
            assert_eq!(rest, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());

            // And with one that is full.
            let to = connected_with(context, back, name("back"), small());
            let running = Proxy::new(&frontend, &backend).spawn().unwrap();
            (0..100).for_each(|i| from.send(i.to_string()).unwrap());
            while running.statistics().backend.sent < 20 {
                yield_now();
            }
            let moved = running.terminate().unwrap();
            assert_eq!((moved.frontend.received, moved.lost), (20, 0));
            let all = (0..20).map(|_| to.recv_timeout(SOON).unwrap());
            let rest = (20..100).map(|_| frontend.recv_timeout(SOON).unwrap());
            let all: Vec<_> = all.chain(rest).map(|message| text(&message)).collect();
            assert_eq!(all, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
        }
    });
}

/// test_proxy_hwm: a subscriber that does not read holds back the publisher, through the proxy;
/// STATISTICS is answered meanwhile.
#[test]
fn back_pressure_goes_through() {
    everywhere("back_pressure_goes_through", |context| {
        for (sends, front, back, reads) in [(XPub, XSub, XPub, Sub), (Push, Pull, Push, Pull)] {
            let name = |what| format!("inproc://{front} {what}");
            let options = || small().xpub_nodrop(true);
            let frontend = bound_with(context, front, &name("front"), options());
            let backend = bound_with(context, back, &name("back"), options());
            let control = bound(context, Rep, &name("control"));
            let running = Proxy::new(&frontend, &backend)
                .control(&control)
                .spawn()
                .unwrap();
            let from = connected_with(context, sends, name("front"), options());
            let to = connected_with(context, reads, name("back"), options());
            if reads == Sub {
                to.subscribe("").unwrap();
                from.wait_subscribers(1, SOON).unwrap();
            }
            let mut sent = 0;
            while from
                .send_timeout(format!("{sent}"), Duration::from_millis(100))
                .is_ok()
            {
                sent += 1;
            }
            // At most two high-water marks twice, and one that the proxy holds; the front of a queue is
            // let in again when the queue is half empty.
            assert!((25..=41).contains(&sent), "{sent}");
            let controller = connected(context, Req, name("control"));
            controller.send("STATISTICS").unwrap();
            let statistics = ProxyStatistics::from_message(&controller.recv().unwrap()).unwrap();
            assert_eq!(statistics.backend.sent, 20);

            (0..sent)
                .for_each(|i| assert_eq!(text(&to.recv_timeout(SOON).unwrap()), i.to_string()));
            from.send_timeout("last", SOON).unwrap();
            assert_eq!(text(&to.recv_timeout(SOON).unwrap()), "last");
            assert_eq!(running.terminate().unwrap().lost, 0);
        }
    });
}

/// Subscriptions go from the XPUB to the XSUB, also to a publisher that comes later.
#[test]
fn subscriptions_pass() {
    everywhere("subscriptions_pass", |context| {
        let frontend = bound(context, XSub, "tcp://127.0.0.1:*");
        let backend = bound(context, XPub, "tcp://127.0.0.1:*");
        let (front, back) = (
            frontend.last_endpoint().unwrap(),
            backend.last_endpoint().unwrap(),
        );
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        let publisher = connected(context, Pub, &front);
        let subscribers = ["a", "a", "b"].map(|topic| {
            let subscriber = connected(context, Sub, &back);
            subscriber.subscribe(topic).unwrap();
            subscriber
        });
        for topic in ["a", "b"] {
            publisher.wait_subscribers_of(topic, 1, SOON).unwrap();
        }
        let later = connected(context, Pub, &front);
        for topic in ["a", "b"] {
            later.wait_subscribers_of(topic, 1, SOON).unwrap();
        }
        // All topics have come to the backend, but perhaps not from the second of two.
        backend.wait_subscribers_of("a", 2, SOON).unwrap();
        for (publisher, n) in [(&publisher, 1), (&later, 2)] {
            for topic in ["a", "b", "c"] {
                publisher.send([topic.to_owned(), n.to_string()]).unwrap();
            }
            for (subscriber, topic) in subscribers.iter().zip(["a", "a", "b"]) {
                assert_eq!(
                    subscriber.recv().unwrap(),
                    [topic.to_owned(), n.to_string()].into()
                );
            }
        }
        subscribers[0].unsubscribe("a").unwrap();
        backend.wait_subscribers_of("a", 1, SOON).unwrap();
        assert_eq!(publisher.subscribers_of("a"), 1);
        subscribers[1].unsubscribe("a").unwrap();
        while publisher.subscribers_of("a") + later.subscribers_of("a") > 0 {
            yield_now();
        }
        assert_eq!(publisher.subscribers_of("b"), 1);
        running.terminate().unwrap();
    });
}

#[test]
fn the_capture_socket_gets_both_directions() {
    everywhere("the_capture_socket_gets_both_directions", |context| {
        for (kind, peer) in [(Push, Pull), (Pub, Sub), (Pair, Pair), (Dealer, Dealer)] {
            let name = |what| format!("inproc://{kind} {what}");
            let frontend = bound(context, Dealer, &name("front"));
            let backend = bound(context, Dealer, &name("back"));
            let capture = bound(context, kind, &name("capture"));
            let copies = connected(context, peer, name("capture"));
            if peer == Sub {
                copies.subscribe("").unwrap();
                capture.wait_subscribers(1, SOON).unwrap();
            }
            let running = Proxy::new(&frontend, &backend)
                .capture(&capture)
                .spawn()
                .unwrap();
            let client = connected(context, Dealer, name("front"));
            let server = connected(context, Dealer, name("back"));
            let question = ["what", "is", "it"];
            client.send(question).unwrap();
            assert_eq!(server.recv().unwrap(), question.into());
            assert_eq!(copies.recv().unwrap(), question.into());
            server.send("that").unwrap();
            assert_eq!(client.recv().unwrap(), "that".into());
            assert_eq!(copies.recv().unwrap(), "that".into());
            running.terminate().unwrap();
        }
    });
}

/// A capture socket that must wait holds the proxy back; it ends all the same, and delivers what it
/// held.
#[test]
fn a_full_capture_socket_holds_back() {
    everywhere("a_full_capture_socket_holds_back", |context| {
        let frontend = bound(context, Pull, "inproc://front");
        let backend = bound(context, Push, "inproc://back");
        let capture = bound(context, Push, "inproc://capture");
        let running = Proxy::new(&frontend, &backend)
            .capture(&capture)
            .spawn()
            .unwrap();
        let to = connected(context, Pull, "inproc://back");
        let from = connected(context, Push, "inproc://front");
        from.send("1").unwrap();
        assert!(to.recv_timeout(NEVER).is_err());
        assert_eq!(running.terminate().unwrap().lost, 0);
        assert_eq!(text(&to.recv_timeout(SOON).unwrap()), "1");
    });
}

/// Frames are handed on, not copied.
#[test]
fn bodies_are_not_copied() {
    everywhere("bodies_are_not_copied", |context| {
        let frontend = bound(context, Pull, "inproc://front");
        let backend = bound(context, Push, "inproc://back");
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        let to = connected(context, Pull, "inproc://back");
        let from = connected(context, Push, "inproc://front");
        let message: Message = (0..100).map(|i| vec![i; 100_000]).collect();
        let addresses: Vec<_> = message
            .frames()
            .iter()
            .map(|frame| frame.as_ptr().addr())
            .collect();
        from.send(message).unwrap();
        let message = to.recv().unwrap();
        let came: Vec<_> = message
            .frames()
            .iter()
            .map(|frame| frame.as_ptr().addr())
            .collect();
        assert_eq!(came, addresses);
        running.terminate().unwrap();
    });
}

/// Killed at any moment and begun anew, again and again: all messages come, once and in order.
#[test]
fn a_kill_loses_nothing() {
    everywhere("a_kill_loses_nothing", |context| {
        let frontend = bound_with(context, Pull, "inproc://front", small());
        let backend = bound_with(context, Push, "inproc://back", small());
        let from = connected_with(context, Push, "inproc://front", small());
        let to = connected_with(context, Pull, "inproc://back", small());
        let (ends, last) = ((frontend, backend), 20_000);
        let sender = spawn(move || (0..=last).for_each(|i| from.send(i.to_string()).unwrap()));
        let receiver = spawn(move || {
            for i in 0..=last {
                assert_eq!(text(&to.recv().unwrap()), i.to_string());
            }
        });
        let mut rounds = 0;
        while !receiver.is_finished() {
            let (frontend, backend) = ends.clone();
            let running = spawn(move || proxy(&frontend, &backend));
            // Beside a crowd that yields, a task starts after some hundred turns of it.
            (0..rounds % 1000).for_each(|_| yield_now());
            running.kill();
            assert!(running.join().is_err());
            rounds += 1;
        }
        sender.join().unwrap();
        receiver.join().unwrap();
        assert!(rounds > 1, "it never was in the middle");
    });
}

/// The runner is timed out, also where it is an ordinary thread's call.
#[test]
fn a_time_out_ends_it() {
    everywhere("a_time_out_ends_it", |context| {
        let frontend = bound(context, Pull, "inproc://front");
        let backend = bound(context, Push, "inproc://back");
        assert!(timeout(NEVER, || proxy(&frontend, &backend)).is_err());
        // Its tasks are gone: nobody receives in our place.
        connected(context, Push, "inproc://front")
            .send("1")
            .unwrap();
        assert_eq!(text(&frontend.recv_timeout(SOON).unwrap()), "1");
    });
}

/// Time-outs of the sockets are not the proxy's.
#[test]
fn time_outs_of_the_sockets_do_not_count() {
    everywhere("time_outs_of_the_sockets_do_not_count", |context| {
        let hasty = Options::new()
            .recv_timeout(Duration::from_millis(1))
            .send_timeout(Duration::from_millis(1));
        let frontend = bound_with(context, Pull, "inproc://front", hasty.clone());
        let backend = bound_with(context, Push, "inproc://back", hasty);
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        let from = connected(context, Push, "inproc://front");
        from.send("1").unwrap();
        sward_runtime::sleep(Duration::from_millis(10));
        assert!(!running.is_finished());
        assert_eq!(
            text(&connected(context, Pull, "inproc://back").recv().unwrap()),
            "1"
        );
        running.terminate().unwrap();
    });
}

#[test]
fn it_ends_with_its_sockets() {
    everywhere("it_ends_with_its_sockets", |context| {
        // One way alone waits at one socket only.
        for (front, back) in [(Router, Dealer), (Pull, Push)] {
            for which in 0..4 {
                let sockets = [front, back, Pub, Rep].map(|kind| context.socket(kind).unwrap());
                let [frontend, backend, capture, control] = &sockets;
                let proxy = Proxy::new(frontend, backend)
                    .capture(capture)
                    .control(control);
                let running = proxy.spawn().unwrap();
                if front == Pull {
                    let name = |end| format!("inproc://{end} {which}");
                    frontend.bind(name("front")).unwrap();
                    backend.bind(name("back")).unwrap();
                    let to = connected(context, Pull, name("back"));
                    connected(context, Push, name("front")).send("1").unwrap();
                    assert_eq!(text(&to.recv().unwrap()), "1");
                    sockets[which].close();
                    assert!(matches!(running.join(), Err(Error::Closed)), "{which}");
                    continue;
                }
                sockets[which].close();
                assert!(matches!(running.join(), Err(Error::Closed)), "{which}");
            }
        }
        let ends = [Router, Dealer].map(|kind| context.socket(kind).unwrap());
        let running = spawn(move || proxy(&ends[0], &ends[1]));
        yield_now();
        context.shutdown();
        assert!(matches!(running.join().unwrap(), Err(Error::Terminated)));
    });
}

#[test]
fn what_cannot_work_is_refused() {
    within("what_cannot_work_is_refused", || {
        let context = Context::new();
        let socket = |kind| context.socket(kind).unwrap();
        for (front, back) in [
            (Pull, Pull),
            (Push, Push),
            (Sub, Pull),
            (Pub, Push),
            (Rep, Push),
            (Pull, Req),
        ] {
            let refused = proxy(&socket(front), &socket(back)).unwrap_err();
            assert_eq!(refused.errno(), 95, "{front} {back}");
        }
        let ends = || {
            Proxy::new(&socket(Router), &socket(Dealer))
                .capture(&socket(Push))
                .control(&socket(Rep))
        };
        assert_eq!(ends().capture(&socket(Pull)).run().unwrap_err().errno(), 95);
        let refused = ends().control(&socket(Pub)).spawn().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this kind of socket cannot control a proxy: it does not receive"
        );
    });
}

/// What peers send cannot end it: a reply without an envelope, one to nobody.
#[test]
fn bad_messages_do_not_end_it() {
    everywhere("bad_messages_do_not_end_it", |context| {
        let options = Options::new().router_mandatory(true);
        let frontend = bound_with(context, Router, "inproc://front", options);
        let backend = bound(context, Dealer, "inproc://back");
        let running = Proxy::new(&frontend, &backend).spawn().unwrap();
        let client = connected(context, Req, "inproc://front");
        let worker = connected(context, Dealer, "inproc://back");
        client.send("question").unwrap();
        let question = worker.recv().unwrap();
        worker.send("no envelope").unwrap();
        worker.send(["nobody", "", "reply"]).unwrap();
        worker.send(question).unwrap();
        assert_eq!(client.recv().unwrap().first(), "question");
        let statistics = running.terminate().unwrap();
        assert_eq!(
            (
                statistics.backend.received,
                statistics.frontend.sent,
                statistics.lost
            ),
            (3, 1, 2)
        );
    });
}

/// Many proxies in a row, each with its own worker tasks.
#[test]
fn a_chain_of_proxies() {
    everywhere("a_chain_of_proxies", |context| {
        let name = |i| format!("inproc://{i}");
        let running: Vec<_> = (0..10)
            .map(|i| {
                let frontend = connected(context, Pull, name(i));
                let backend = bound(context, Push, &name(i + 1));
                Proxy::new(&frontend, &backend).spawn().unwrap()
            })
            .collect();
        let from = bound(context, Push, &name(0));
        let to = connected(context, Pull, name(10));
        let sender = spawn(move || (0..5000).for_each(|i| from.send(i.to_string()).unwrap()));
        (0..5000).for_each(|i| assert_eq!(text(&to.recv().unwrap()), i.to_string()));
        sender.join().unwrap();
        for proxy in running {
            assert_eq!(proxy.terminate().unwrap().backend.sent, 5000);
        }
    });
}
