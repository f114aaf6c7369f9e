//! The poller: which of many things are ready, said again until they are used.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::everywhere;
use sward_mq::{Context, Dealer, Error, Options, PollEvents, Poller, Pull, Push, Router, Socket};
use sward_runtime::sync::{Event, unbounded};
use sward_runtime::{dump, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(3);
const BOTH: PollEvents = PollEvents::IN_OUT;

fn pair(context: &Context, endpoint: &str, options: &Options) -> (Push, Pull) {
    let pull = Pull::in_context(context, options.clone()).unwrap();
    let push = Push::in_context(context, options.clone()).unwrap();
    push.connect(pull.bind(endpoint).unwrap()).unwrap();
    (push, pull)
}

#[test]
fn a_socket_is_ready_until_it_is_used() {
    everywhere("a_socket_is_ready_until_it_is_used", |context| {
        let (push, pull) = pair(context, "tcp://127.0.0.1:*", &Options::new());
        let mut poller = Poller::new();
        poller.add('r', &pull, PollEvents::IN);
        let begun = Instant::now();
        assert!(poller.poll(SHORT).unwrap().is_empty());
        assert!(begun.elapsed() >= SHORT);
        let sender = spawn(move || push.send("x").map(|()| push));
        for _ in 0..3 {
            assert_eq!(poller.poll(LONG).unwrap(), [('r', PollEvents::IN)]);
        }
        pull.try_recv().unwrap();
        assert!(poller.poll(Duration::ZERO).unwrap().is_empty());
        let push = sender.join().unwrap().unwrap();
        // One that takes part for nothing is not asked.
        assert!(poller.modify(&'r', PollEvents::NONE));
        push.send("y").unwrap();
        assert!(poller.poll(SHORT).unwrap().is_empty());
        assert!(poller.remove(&'r') && !poller.remove(&'r') && !poller.modify(&'r', BOTH));
        assert!(poller.is_empty() && poller.poll(SHORT).unwrap().is_empty());
        assert_eq!(pull.recv().unwrap().first(), "y");
    });
}

#[test]
fn room_and_messages_of_one_socket() {
    everywhere("room_and_messages_of_one_socket", |context| {
        let options = Options::new().send_hwm(1).recv_hwm(1);
        let a = Socket::from(Dealer::in_context(context, options.clone()).unwrap());
        let b = Dealer::in_context(context, options).unwrap();
        assert_eq!(a.poll(BOTH, SHORT).unwrap(), PollEvents::NONE);
        b.bind("inproc://b").unwrap();
        let connects = a.clone();
        let task = spawn(move || connects.connect("inproc://b").unwrap());
        assert_eq!(a.poll(BOTH, LONG).unwrap(), PollEvents::OUT);
        task.join().unwrap();
        while a.try_send("x").is_ok() {}
        assert_eq!(a.poll(BOTH, SHORT).unwrap(), PollEvents::NONE);
        b.send("y").unwrap();
        assert_eq!(a.poll(BOTH, LONG).unwrap(), PollEvents::IN);
        let reader = spawn(move || (b.recv().unwrap(), b.recv().unwrap(), b));
        assert_eq!(a.poll(PollEvents::OUT, LONG).unwrap(), PollEvents::OUT);
        assert_eq!(a.poll(BOTH, None).unwrap(), BOTH);
        drop(reader.join().unwrap());
    });
}

#[test]
fn sockets_descriptors_channels_and_events_together() {
    everywhere(
        "sockets_descriptors_channels_and_events_together",
        |context| {
            let (push, pull) = pair(context, "inproc://a", &Options::new());
            let (mut reader, mut writer) = std::io::pipe().unwrap();
            let shared = reader.try_clone().unwrap();
            let (sender, receiver) = unbounded();
            let _open = sender.clone();
            let event = Arc::new(Event::new());
            let (value, set) = (Cell::new(None), Cell::new(None));
            let mut poller = Poller::new();
            poller.add("socket", &pull, PollEvents::IN);
            poller.add_fd("pipe", &shared, PollEvents::IN);
            poller.add_fd("out", writer.try_clone().unwrap(), PollEvents::NONE);
            poller.add_arm("channel", || receiver.receiving(), &value);
            poller.add_arm("event", || event.waiting(), &set);
            assert!(poller.poll(SHORT).unwrap().is_empty());
            let does: [Box<dyn FnOnce() + Send>; 4] = [
                Box::new(move || push.send("x").unwrap()),
                Box::new(move || writer.write_all(b"x").unwrap()),
                Box::new(move || sender.send(7).unwrap()),
                {
                    let event = event.clone();
                    Box::new(move || event.set())
                },
            ];
            let names = ["socket", "pipe", "channel", "event"];
            for (what, name) in does.into_iter().zip(names) {
                let task = spawn(what);
                assert_eq!(poller.poll(LONG).unwrap(), [(name, PollEvents::IN)]);
                task.join().unwrap();
                match name {
                    "socket" => drop(pull.try_recv().unwrap()),
                    "pipe" => drop(reader.read(&mut [0]).unwrap()),
                    "channel" => assert_eq!(value.take().unwrap(), Ok(7)),
                    _ => assert!(set.take().is_some()),
                }
            }
        },
    );
}

/// An end that is gone is told, asked for or not; and what is left in it can still be read.
#[test]
fn ends_and_errors_are_always_told() {
    everywhere("ends_and_errors_are_always_told", |context| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut poller = Poller::new();
        poller.add_fd(1, reader.try_clone().unwrap(), PollEvents::NONE);
        let task = spawn(move || {
            let mut writer = writer;
            writer.write_all(b"last").unwrap();
        });
        assert_eq!(poller.poll(LONG).unwrap(), [(1, PollEvents::ERR)]);
        task.join().unwrap();
        poller.modify(&1, PollEvents::IN);
        assert_eq!(
            poller.poll(LONG).unwrap(),
            [(1, PollEvents::IN | PollEvents::ERR)]
        );
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 4);
        // A closed socket: whatever is done with it fails at once.
        let (_push, pull) = pair(context, "inproc://a", &Options::new());
        let mut poller = Poller::new();
        poller.add(2, &pull, PollEvents::IN);
        let closes = pull.clone();
        let task = spawn(move || closes.close());
        let ready = poller.poll(LONG).unwrap();
        assert!(ready[0].1.contains(PollEvents::ERR));
        task.join().unwrap();
        assert!(matches!(pull.try_recv(), Err(Error::Closed)));
    });
}

/// Who polls and is killed, or finds another was faster, leaves no message asleep.
#[test]
fn pollers_and_receivers_share_a_socket() {
    const N: usize = 400;
    everywhere("pollers_and_receivers_share_a_socket", |context| {
        let (push, pull) = pair(context, "tcp://127.0.0.1:*", &Options::new());
        let got = Arc::new(AtomicUsize::new(0));
        let receivers: Vec<_> = (0..6)
            .map(|i| {
                let (pull, got) = (pull.clone(), got.clone());
                spawn(move || {
                    let mut poller = Poller::new();
                    poller.add((), &pull, PollEvents::IN);
                    loop {
                        let message = match i % 3 {
                            0 => pull.recv(),
                            1 => poller.poll(None).and_then(|_| pull.try_recv()),
                            _ => {
                                let _ = timeout(Duration::from_micros(30), || poller.poll(None));
                                pull.try_recv()
                            }
                        };
                        match message {
                            Ok(_) => drop(got.fetch_add(1, SeqCst)),
                            Err(Error::Closed) => return,
                            Err(_) => yield_now(),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..N {
            push.send("x").unwrap();
            yield_now();
        }
        let end = Instant::now() + LONG;
        while got.load(SeqCst) < N {
            assert!(Instant::now() < end, "{} of {N}", got.load(SeqCst));
            yield_now();
        }
        pull.close();
        for receiver in receivers {
            receiver.join().unwrap();
        }
    });
}

/// Who polls takes nothing: the next in line is woken, too.
#[test]
fn a_poller_hands_its_wake_on() {
    everywhere("a_poller_hands_its_wake_on", |context| {
        for place in ["inproc://a", "tcp://127.0.0.1:*"] {
            let (push, pull) = pair(context, place, &Options::new());
            push.wait_connected(1, LONG).unwrap();
            let polls = Socket::from(pull.clone());
            let poller = spawn(move || polls.poll(PollEvents::IN, None).map(|_| polls));
            let waits_for = |what: &str| {
                while !dump().to_string().contains(what) {
                    yield_now();
                }
            };
            waits_for("select of");
            let name = format!("message to PULL socket {}", id(&pull));
            let receives = pull.clone();
            let receiver = spawn(move || receives.recv_timeout(LONG));
            waits_for(&name);
            push.send("for who receives").unwrap();
            let received = receiver.join().unwrap().unwrap();
            assert_eq!(received.first(), "for who receives");
            // If the receiver was faster, it is not ready and waits on.
            pull.close();
            drop(poller.join().unwrap().unwrap());
        }
    });
}

/// The number of a socket in dumps.
fn id(pull: &Pull) -> String {
    let text = format!("{pull:?}");
    let (_, rest) = text.split_once("id: ").unwrap();
    rest.split(',').next().unwrap().to_owned()
}

/// The poller has a handle: the socket is open while it is there.
#[test]
fn a_socket_lives_as_long_as_its_item() {
    everywhere("a_socket_lives_as_long_as_its_item", |context| {
        let router = Router::in_context(context, Options::new()).unwrap();
        router.bind("inproc://r").unwrap();
        let mut poller = Poller::new();
        poller.add(0, &router, PollEvents::OUT);
        drop(router);
        let again = Router::in_context(context, Options::new()).unwrap();
        assert!(again.bind("inproc://r").is_err());
        assert!(poller.remove(&0));
        again.bind("inproc://r").unwrap();
    });
}
