//! Many tasks and threads on one socket: nothing is lost, doubled or interleaved, whoever is killed,
//! times out or closes the socket.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{everywhere, within};
use sward_mq::{Context, Error, Message, Options, Pull, Push, Req, Socket, SocketType};
use sward_runtime::{Runtime, join_all, sleep, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(30);

fn pair(context: &Context, endpoint: &str, options: &Options) -> (Push, Pull) {
    let pull = Pull::in_context(context, options.clone()).unwrap();
    let push = Push::in_context(context, options.clone()).unwrap();
    push.connect(pull.bind(endpoint).unwrap()).unwrap();
    (push, pull)
}

const PLACES: [&str; 2] = ["inproc://a", "tcp://127.0.0.1:*"];

#[test]
fn senders_that_are_dropped_at_once_lose_nothing() {
    everywhere("senders_that_are_dropped_at_once_lose_nothing", |context| {
        for i in 0..50 {
            let name = format!("inproc://{i}");
            let pull = Pull::in_context(context, Options::new()).unwrap();
            pull.bind(&name).unwrap();
            let senders = [1, 2].map(|n| {
                let (name, context) = (name.clone(), context.clone());
                spawn(move || {
                    let push = Push::in_context(&context, Options::new())?;
                    push.connect(&name)?;
                    push.send(format!("from {n}"))?;
                    Ok::<(), Error>(())
                })
            });
            let mut all = [0, 1].map(|_| pull.recv_timeout(LONG).unwrap().first().to_bytes());
            all.sort();
            assert_eq!(all, ["from 1", "from 2"]);
            join_all(senders);
        }
    });
}

/// Multipart messages from many tasks and threads to many tasks and threads: each whole, each once.
#[test]
fn multiparts_are_never_interleaved() {
    const SENDERS: usize = 6;
    const EACH: usize = 300;
    everywhere("multiparts_are_never_interleaved", |context| {
        for place in PLACES {
            // Small queues, so that everybody waits now and then.
            let (push, pull) = pair(context, place, &Options::new().send_hwm(3).recv_hwm(3));
            let send = |sender: usize, push: Push| {
                move || {
                    for n in 0..EACH {
                        let frames = (0..1 + n % 4).map(|k| format!("{sender} {n} {k}"));
                        push.send(frames.collect::<Message>()).unwrap();
                    }
                }
            };
            let left = Arc::new(AtomicUsize::new(SENDERS * EACH));
            let recv = |pull: Pull| {
                let left = left.clone();
                move || {
                    let mut got = Vec::new();
                    for message in &pull {
                        got.push(message);
                        if left.fetch_sub(1, SeqCst) == 1 {
                            pull.close();
                        }
                    }
                    got
                }
            };
            let tasks: Vec<_> = (0..SENDERS / 2)
                .map(|i| (spawn(send(i, push.clone())), spawn(recv(pull.clone()))))
                .collect();
            let threads: Vec<_> = (SENDERS / 2..SENDERS)
                .map(|i| {
                    let receiver = thread::spawn(recv(pull.clone()));
                    (thread::spawn(send(i, push.clone())), receiver)
                })
                .collect();
            drop((push, pull));
            let mut all = Vec::new();
            for (sender, receiver) in tasks {
                sender.join().unwrap();
                all.extend(receiver.join().unwrap());
            }
            for (sender, receiver) in threads {
                let join = || (sender.join().unwrap(), receiver.join().unwrap());
                all.extend(sward_runtime::blocking(join).1);
            }
            let mut seen = HashMap::new();
            for message in all {
                let head = message.first().to_str().unwrap();
                let (key, _) = head.rsplit_once(' ').unwrap();
                let n: usize = key.split_once(' ').unwrap().1.parse().unwrap();
                let expected: Message = (0..1 + n % 4).map(|k| format!("{key} {k}")).collect();
                assert_eq!(message, expected);
                *seen.entry(key.to_owned()).or_insert(0) += 1;
            }
            assert_eq!(seen.len(), SENDERS * EACH, "{place}");
            assert!(seen.values().all(|times| *times == 1));
        }
    });
}

/// Of receivers that are killed, or run into a time-out of any kind, none takes a message with it.
#[test]
fn who_is_killed_or_timed_out_loses_nothing() {
    const N: usize = 400;
    within("who_is_killed_or_timed_out_loses_nothing", || {
        for workers in [1, 2] {
            for place in PLACES {
                Runtime::builder()
                    .workers(workers)
                    .build()
                    .unwrap()
                    .run(|| {
                        let (push, pull) =
                            pair(&Context::new(), place, &Options::new().send_hwm(10));
                        let got = Arc::new(AtomicUsize::new(0));
                        let sender =
                            spawn(move || (0..N).for_each(|n| push.send(n.to_string()).unwrap()));
                        let mut round = 0;
                        while got.load(SeqCst) < N {
                            round += 1;
                            let receivers: Vec<_> = (0..4)
                                .map(|i| {
                                    let (pull, got) = (pull.clone(), got.clone());
                                    spawn(move || {
                                        let short = Duration::from_micros(50 * i);
                                        let counted =
                                            || pull.recv().map(|_| got.fetch_add(1, SeqCst));
                                        match i {
                                            0 => drop(
                                                pull.recv_timeout(short)
                                                    .map(|_| got.fetch_add(1, SeqCst)),
                                            ),
                                            1 => drop(timeout(short, counted)),
                                            _ => loop {
                                                counted().unwrap();
                                            },
                                        }
                                    })
                                })
                                .collect();
                            for _ in 0..round % 7 {
                                yield_now();
                            }
                            for receiver in receivers {
                                receiver.kill();
                                let _ = receiver.join();
                            }
                        }
                        sender.join().unwrap();
                        assert_eq!(got.load(SeqCst), N);
                        assert!(pull.try_recv().unwrap_err().is_would_block());
                    });
            }
        }
    });
}

/// A sender that is killed or timed out while it waits for room has sent nothing, or all of it.
#[test]
fn a_killed_sender_has_sent_nothing() {
    within("a_killed_sender_has_sent_nothing", || {
        for workers in [1, 2] {
            Runtime::builder()
                .workers(workers)
                .build()
                .unwrap()
                .run(|| {
                    let (push, pull) = pair(
                        &Context::new(),
                        "inproc://a",
                        &Options::new().send_hwm(1).recv_hwm(1),
                    );
                    push.send("1").unwrap();
                    push.send("2").unwrap();
                    let waiting = push.clone();
                    let killed = spawn(move || waiting.send("killed"));
                    let waiting = push.clone();
                    let lives = spawn(move || waiting.send("lives"));
                    while push.stats().full < 2 {
                        yield_now();
                    }
                    killed.kill();
                    assert!(killed.join().is_err());
                    let late = push
                        .send_timeout("late", Duration::from_millis(2))
                        .unwrap_err();
                    assert!(matches!(late.error(), Error::TimedOut));
                    assert_eq!(late.into_message().first(), "late");
                    assert!(timeout(Duration::from_millis(2), || push.send("later")).is_err());
                    let all: Vec<_> = pull.iter().take(3).map(|m| m.first().to_bytes()).collect();
                    assert_eq!(all, ["1", "2", "lives"]);
                    lives.join().unwrap().unwrap();
                    assert!(pull.try_recv().unwrap_err().is_would_block());
                });
        }
    });
}

#[test]
fn the_options_limit_each_wait() {
    everywhere("the_options_limit_each_wait", |context| {
        let short = Duration::from_millis(5);
        let options = Options::new().recv_timeout(short).send_timeout(short);
        let (_, pull) = pair(context, "inproc://a", &options);
        let begun = Instant::now();
        assert!(matches!(pull.recv(), Err(Error::TimedOut)));
        assert!(begun.elapsed() >= short);
        assert_eq!(pull.iter().count(), 0);
        let alone = Push::in_context(context, options).unwrap();
        assert!(matches!(
            alone.send("x").unwrap_err().error(),
            Error::TimedOut
        ));
        // They can be changed, count at once, and a call's own limit counts more.
        alone.set_send_timeout(LONG * 100).unwrap();
        let failed = alone.send_timeout("x", short).unwrap_err();
        assert!(matches!(failed.error(), Error::TimedOut));
        alone.set_send_timeout(Duration::ZERO).unwrap();
        assert!(alone.send("x").unwrap_err().error().is_would_block());
        let deadline = Instant::now() + short;
        assert!(alone.send_deadline("x", deadline).is_err() && Instant::now() >= deadline);
        assert!(matches!(
            pull.recv_deadline(Instant::now()),
            Err(Error::TimedOut)
        ));
    });
}

#[test]
fn a_close_ends_all_that_wait() {
    everywhere("a_close_ends_all_that_wait", |context| {
        for shutdown in [false, true] {
            let context = if shutdown {
                Context::new()
            } else {
                context.clone()
            };
            let pull = Pull::in_context(&context, Options::new()).unwrap();
            let push = Push::in_context(&context, Options::new()).unwrap();
            let (a, b) = (pull.clone(), push.clone());
            let receivers = [spawn(move || a.recv().map(drop)), {
                let a = pull.clone();
                spawn(move || a.wait_connected(1, LONG))
            }];
            let sender = spawn(move || b.send("x"));
            let b = push.clone();
            let thread = thread::spawn(move || b.send("y"));
            if shutdown {
                context.shutdown();
            } else {
                pull.close();
                push.close();
                push.close();
            }
            let right = |e: &Error| {
                matches!(
                    (shutdown, e),
                    (false, Error::Closed) | (true, Error::Terminated)
                )
            };
            for receiver in receivers {
                assert!(right(&receiver.join().unwrap().unwrap_err()));
            }
            let failed = sender.join().unwrap().unwrap_err();
            assert!(right(failed.error()) && failed.message().first() == "x");
            let failed = sward_runtime::blocking(|| thread.join().unwrap());
            let failed = failed.unwrap_err();
            assert!(right(failed.error()) && failed.message().first() == "y");
            assert!(right(&pull.try_recv().unwrap_err()));
            assert!(right(&push.bind("inproc://x").unwrap_err()));
            assert!(right(&push.configure(|o| o.linger = None).unwrap_err()));
        }
    });
}

/// Handles of both ends, in every order of their drops, with messages under way: nothing hangs, and
/// nothing that was sent is lost while the other end is there.
#[test]
fn handles_dropped_in_odd_orders() {
    everywhere("handles_dropped_in_odd_orders", |_| {
        for place in PLACES {
            for order in 0..24 {
                let context = Context::new();
                let (push, pull) = pair(&context, place, &Options::new().linger(LONG));
                push.send("1").unwrap();
                push.send("2").unwrap();
                let mut handles: Vec<Socket> = vec![push.clone().into(), push.into()];
                handles.extend([Socket::from(pull.clone()), pull.into()]);
                let (mut order, mut received) = (order, 0);
                while !handles.is_empty() {
                    let n = handles.len();
                    drop(handles.remove(order % n));
                    order /= n;
                    let left = handles.iter().find(|s| s.socket_type() == SocketType::Pull);
                    if let Some(pull) = left.filter(|_| received < 2) {
                        received += 1;
                        let message = pull.recv_timeout(LONG).unwrap();
                        assert_eq!(message.first(), &received.to_string()[..]);
                    }
                }
                context.shutdown();
            }
        }
    });
}

/// Strict alternation holds for the socket, whoever uses it.
#[test]
fn requests_from_many_tasks_are_told_whose_turn_it_is() {
    everywhere(
        "requests_from_many_tasks_are_told_whose_turn_it_is",
        |context| {
            let rep = context.socket(SocketType::Rep).unwrap();
            let req = Req::in_context(context, Options::new()).unwrap();
            req.connect(rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
            assert!(matches!(req.recv(), Err(Error::State(_))));
            req.send("a").unwrap();
            let failed = req.send("b").unwrap_err();
            assert!(matches!(failed.error(), Error::State(_)));
            assert_eq!(failed.into_message().first(), "b");
            assert_eq!(rep.recv().unwrap().first(), "a");
            assert!(matches!(
                rep.try_recv(),
                Err(Error::State(_) | Error::WouldBlock)
            ));
            rep.send("c").unwrap();
            assert_eq!(req.recv().unwrap().first(), "c");
        },
    );
}

/// A task that waits does not keep its worker from others.
#[test]
fn a_wait_lets_others_run() {
    within("a_wait_lets_others_run", || {
        Runtime::builder().workers(1).build().unwrap().run(|| {
            let (push, pull) = pair(&Context::new(), "tcp://127.0.0.1:*", &Options::new());
            let receiver = spawn(move || pull.recv().unwrap());
            let others = join_all((0..10).map(|_| spawn(|| sleep(Duration::from_millis(1)))));
            assert!(others.iter().all(Result::is_ok));
            push.send("now").unwrap();
            assert_eq!(receiver.join().unwrap().first(), "now");
        });
    });
}
