//! Sockets as arms of `select!`: what is chosen happened, what is not did not.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::everywhere;
use sward_mq::{Context, Error, Options, Pull, Push, Router, Socket, SocketType};
use sward_runtime::sync::{after, unbounded};
use sward_runtime::{select, spawn, yield_now};

const LONG: Duration = Duration::from_secs(30);

fn pair(context: &Context, endpoint: &str, options: &Options) -> (Push, Pull) {
    let pull = Pull::in_context(context, options.clone()).unwrap();
    let push = Push::in_context(context, options.clone()).unwrap();
    push.connect(pull.bind(endpoint).unwrap()).unwrap();
    (push, pull)
}

/// Two sockets, a channel and a time-out: every message comes out once, in its order.
#[test]
fn everything_comes_once_and_in_order() {
    const N: usize = 300;
    everywhere("everything_comes_once_and_in_order", |context| {
        let (push_a, a) = pair(context, "inproc://a", &Options::new());
        let (push_b, b) = pair(context, "tcp://127.0.0.1:*", &Options::new());
        let (sender, c) = unbounded();
        let senders = [
            spawn(move || (0..N).for_each(|n| push_a.send(n.to_string()).unwrap())),
            spawn(move || (0..N).for_each(|n| push_b.send(n.to_string()).unwrap())),
            spawn(move || (0..N).for_each(|n| sender.send(n).unwrap())),
        ];
        let mut next = [0; 3];
        while next.iter().sum::<usize>() < 3 * N {
            let (from, n) = select! {
                m = a.receiving() => (0, m.unwrap().first().to_str().unwrap().parse().unwrap()),
                m = b.receiving() => (1, m.unwrap().first().to_str().unwrap().parse().unwrap()),
                n = c.receiving() => match n {
                    Ok(n) => (2, n),
                    // All of it has come.
                    Err(_) => { yield_now(); continue }
                },
                _ = after(LONG) => panic!("{next:?}"),
            };
            assert_eq!(n, next[from]);
            next[from] += 1;
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// Receivers in `recv` and in `select!` share a socket: none sleeps while there is a message.
#[test]
fn a_wake_is_handed_on() {
    const N: usize = 500;
    everywhere("a_wake_is_handed_on", |context| {
        for place in ["inproc://a", "tcp://127.0.0.1:*"] {
            let (push, pull) = pair(context, place, &Options::new().send_hwm(5).recv_hwm(5));
            let (_never, other) = unbounded::<()>();
            let got = Arc::new(AtomicUsize::new(0));
            let receivers: Vec<_> = (0..6)
                .map(|i| {
                    let (pull, other, got) = (pull.clone(), other.clone(), got.clone());
                    spawn(move || {
                        loop {
                            let message = match i % 3 {
                                0 => pull.recv(),
                                1 => select! {
                                    message = pull.receiving() => message,
                                    _ = other.receiving() => unreachable!(),
                                },
                                _ => select! {
                                    message = pull.receiving() => message,
                                    _ = after(Duration::from_micros(20)) => continue,
                                },
                            };
                            match message {
                                Ok(_) => got.fetch_add(1, SeqCst),
                                Err(Error::Closed) => return,
                                Err(e) => panic!("{e}"),
                            };
                        }
                    })
                })
                .collect();
            for n in 0..N {
                push.send_timeout(n.to_string(), LONG).unwrap();
            }
            while got.load(SeqCst) < N {
                yield_now();
            }
            pull.close();
            for receiver in receivers {
                receiver.join().unwrap();
            }
            assert_eq!(got.load(SeqCst), N);
        }
    });
}

#[test]
fn a_message_is_sent_once_there_is_room_or_comes_back() {
    everywhere(
        "a_message_is_sent_once_there_is_room_or_comes_back",
        |context| {
            let (push, pull) = pair(
                context,
                "inproc://a",
                &Options::new().send_hwm(1).recv_hwm(1),
            );
            push.send("1").unwrap();
            push.send("2").unwrap();
            let mut sending = push.sending("3");
            select! {
                _ = &mut sending => panic!("there is no room"),
                _ = after(Duration::from_millis(2)) => {}
            }
            assert_eq!(sending.into_message().unwrap().first(), "3");
            let receiver = {
                let pull = pull.clone();
                spawn(move || {
                    while pull.stats().to_receive < 2 {
                        yield_now();
                    }
                    [(); 3].map(|()| pull.recv().unwrap().first().to_bytes())
                })
            };
            select! {
                sent = push.sending("4") => sent.unwrap(),
                _ = after(LONG) => panic!("room has appeared"),
            }
            assert_eq!(receiver.join().unwrap(), ["1", "2", "4"]);
            // A peer that comes is room.
            let late = Push::in_context(context, Options::new()).unwrap();
            let connects = late.clone();
            let bound = pull.last_endpoint().unwrap();
            let task = spawn(move || connects.connect(bound).unwrap());
            select! {
                sent = late.sending("5") => sent.unwrap(),
                _ = after(LONG) => panic!("a peer has come"),
            }
            task.join().unwrap();
            assert_eq!(pull.recv().unwrap().first(), "5");
            // The end of the socket is an outcome.
            push.close();
            select! {
                sent = push.sending("6") => assert!(matches!(sent.unwrap_err().error(), Error::Closed)),
                _ = after(LONG) => panic!("it is closed"),
            }
        },
    );
}

/// ROUTER with MANDATORY cannot say beforehand whether a send would wait: an arm of it must not spin.
#[test]
fn an_arm_of_a_full_router_waits() {
    everywhere("an_arm_of_a_full_router_waits", |context| {
        let options = Options::new()
            .router_mandatory(true)
            .send_hwm(1)
            .recv_hwm(1);
        let router = Router::in_context(context, options.clone()).unwrap();
        router.bind("inproc://a").unwrap();
        let dealer =
            Socket::in_context(context, SocketType::Dealer, options.routing_id("d")).unwrap();
        dealer.connect("inproc://a").unwrap();
        let mut n = 0;
        while router.try_send(["d", "x"]).is_ok() {
            n += 1;
        }
        assert_eq!(n, 2);
        let mut sending = router.sending(["d", "y"]);
        select! {
            sent = &mut sending => panic!("{sent:?}"),
            _ = after(Duration::from_millis(5)) => {}
        }
        // It tried when it came, and slept then.
        let tried = router.stats().full;
        assert!(tried < 10, "{tried}");
        let reader = spawn(move || [(); 3].map(|()| dealer.recv().unwrap().first().to_bytes()));
        select! {
            sent = &mut sending => sent.unwrap(),
            _ = after(LONG) => panic!("room has appeared"),
        }
        assert_eq!(reader.join().unwrap(), ["x", "x", "y"]);
        let nobody = select! {
            sent = router.sending(["z", "y"]) => sent.unwrap_err(),
            _ = after(LONG) => panic!("it is known at once"),
        };
        assert!(matches!(nobody.error(), Error::HostUnreachable));
        assert_eq!(nobody.into_message().len(), 2);
    });
}
