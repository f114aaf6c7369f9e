//! One publisher and many subscribers over TCP: what is gathered for several reaches each of them,
//! whole and in order, whoever comes and goes, and without the publisher's help.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{everywhere, within};
use sward_mq::{Context, Frame, Message, Options, Pub, Sub};
use sward_runtime::{Runtime, spawn, yield_now};

const LONG: Duration = Duration::from_secs(30);

fn subscriber(context: &Context, endpoint: &str, topics: &[&str], options: Options) -> Sub {
    let sub = Sub::in_context(context, options).unwrap();
    for topic in topics {
        sub.subscribe(topic).unwrap();
    }
    sub.connect(endpoint).unwrap();
    sub
}

/// A message of one of three topics, with its number; some are large, some have many frames.
fn message(n: usize, state: &mut u64) -> Message {
    let mut random = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 33) as usize
    };
    // The same topic several times in a row.
    let topic = ["a", "a", "b", "c"][n / 7 % 4];
    let size = [0, 1, 64, 65, 300, 4090, 9000][random() % 7];
    let frames = [1, 1, 1, 3][random() % 4];
    [topic.to_owned(), n.to_string()]
        .into_iter()
        .map(|text| Frame::from(text.into_bytes()))
        .chain((0..frames).map(|_| Frame::from(vec![n as u8; size])))
        .collect()
}

#[test]
fn each_gets_all_of_its_own_in_order() {
    const MESSAGES: usize = 3000;
    const SEED: u64 = 0x5EED_F00D;
    everywhere("each_gets_all_of_its_own_in_order", |context| {
        println!("seed {SEED:x}");
        // Small queues, so that the publisher waits now and then.
        let options = Options::new().send_hwm(50).recv_hwm(50);
        let publisher = Pub::in_context(context, options.clone().xpub_nodrop(true)).unwrap();
        let endpoint = publisher.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let wants: [&[&str]; 6] = [&[""], &[""], &["a"], &["a", "b"], &["b"], &["c", "a"]];
        let readers = wants.map(|topics| {
            let sub = subscriber(context, &endpoint, topics, options.clone());
            spawn(move || {
                let mut state = SEED;
                for n in 0..MESSAGES {
                    let expected = message(n, &mut state);
                    let topic = expected.first().to_bytes();
                    if topics
                        .iter()
                        .any(|wanted| topic.starts_with(wanted.as_bytes()))
                    {
                        assert_eq!(sub.recv_timeout(LONG).unwrap(), expected);
                    }
                }
            })
        });
        publisher.wait_subscribers(wants.len(), LONG).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        // Others come, hear something, and go without a word.
        let (gone, place, there) = (over.clone(), endpoint.clone(), context.clone());
        let passers = spawn(move || {
            let mut heard = 0;
            while !gone.load(SeqCst) {
                let topics = [["", "a"], ["b", "c"]][heard % 2];
                let sub = subscriber(&there, &place, &topics, Options::new().recv_hwm(3));
                heard += usize::from(sub.recv_timeout(Duration::from_millis(50)).is_ok());
            }
        });
        let mut state = SEED;
        for n in 0..MESSAGES {
            publisher.send(message(n, &mut state)).unwrap();
        }
        for reader in readers {
            reader.join().unwrap();
        }
        over.store(true, SeqCst);
        passers.join().unwrap();
    });
}

/// Nothing waits for another send.
#[test]
fn a_few_messages_are_not_left_behind() {
    everywhere("a_few_messages_are_not_left_behind", |context| {
        let publisher = Pub::in_context(context, Options::new()).unwrap();
        let endpoint = publisher.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let subs = [0, 1, 2].map(|_| subscriber(context, &endpoint, &[""], Options::new()));
        publisher.wait_subscribers(3, LONG).unwrap();
        for round in 0..100 {
            for n in 0..=round % 5 {
                publisher.send(format!("{round} {n}")).unwrap();
            }
            for sub in &subs {
                for n in 0..=round % 5 {
                    let message = sub.recv_timeout(LONG).unwrap();
                    assert_eq!(message.first(), format!("{round} {n}").as_bytes());
                }
            }
        }
    });
}

/// The publisher's only worker is busy all the time, between sends, too.
#[test]
fn a_publisher_that_never_yields_is_heard() {
    within("a_publisher_that_never_yields_is_heard", || {
        let heard = Arc::new(AtomicUsize::new(0));
        let (tell, told) = std::sync::mpsc::channel();
        let runtime = Runtime::builder()
            .workers(1)
            .on_stall(|_| {})
            .build()
            .unwrap();
        let arrived = heard.clone();
        let sender = runtime.spawn(move || {
            let publisher = Pub::bound("tcp://127.0.0.1:*").unwrap();
            tell.send(publisher.last_endpoint().unwrap().to_string())
                .unwrap();
            publisher.wait_subscribers(3, LONG).unwrap();
            for n in 0..20_000 {
                publisher.send(n.to_string()).unwrap();
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1) {
                    std::hint::spin_loop();
                }
                if arrived.load(SeqCst) == 300 {
                    return;
                }
            }
            panic!("20,000 messages, and 100 did not arrive");
        });
        let endpoint = told.recv().unwrap();
        let readers = [0, 1, 2].map(|_| {
            let heard = heard.clone();
            let sub = subscriber(&Context::global(), &endpoint, &[""], Options::new());
            std::thread::spawn(move || {
                for _ in 0..100 {
                    sub.recv_timeout(LONG).unwrap();
                    heard.fetch_add(1, SeqCst);
                }
            })
        });
        sender.join().unwrap();
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    });
}

/// What is gathered counts as queued, and goes out when the socket does.
#[test]
fn what_is_gathered_is_seen_and_sent_at_the_end() {
    within("what_is_gathered_is_seen_and_sent_at_the_end", || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let context = Context::new();
            let publisher = Pub::in_context(&context, Options::new()).unwrap();
            let endpoint = publisher.bind("tcp://127.0.0.1:*").unwrap().to_string();
            let subs = [0, 1, 2].map(|_| subscriber(&context, &endpoint, &["x"], Options::new()));
            publisher.wait_subscribers(3, LONG).unwrap();
            yield_now();
            for n in 0..100 {
                publisher.send(format!("x{n}")).unwrap();
            }
            assert_eq!(publisher.stats().to_send, 300);
            for n in 100..150 {
                publisher.send(format!("x{n}")).unwrap();
            }
            assert!(publisher.peers().iter().all(|peer| peer.to_send == 150));
            for n in 150..200 {
                publisher.send(format!("x{n}")).unwrap();
            }
            drop(publisher);
            for sub in subs {
                for n in 0..200 {
                    let message = sub.recv_timeout(LONG).unwrap();
                    assert_eq!(message.first(), format!("x{n}").as_bytes());
                }
            }
        });
    });
}

/// A publisher that waits for subscribers who do not read goes on when they are gone, however they go.
#[test]
fn a_publisher_does_not_wait_for_the_gone() {
    everywhere("a_publisher_does_not_wait_for_the_gone", |context| {
        for (place, unbound) in [
            ("tcp://127.0.0.1:*", false),
            ("tcp://127.0.0.1:*", true),
            ("inproc://gone", false),
        ] {
            let options = Options::new()
                .xpub_nodrop(true)
                .linger(Duration::ZERO)
                .send_hwm(10)
                .send_timeout(LONG / 3);
            let publisher = Arc::new(Pub::in_context(context, options).unwrap());
            let endpoint = publisher.bind(place).unwrap().to_string();
            let deaf = Options::new().recv_hwm(1).recv_buffer(4096);
            let subs = [0, 1].map(|_| subscriber(context, &endpoint, &[""], deaf.clone()));
            publisher.wait_subscribers(2, LONG).unwrap();
            let sending = publisher.clone();
            let sender = spawn(move || {
                // Until all queues are full, and all subscribers gone.
                while sending.stats().peers > 0 {
                    sending.send(vec![0; 3000]).unwrap();
                    yield_now();
                }
            });
            while !sward_runtime::dump().to_string().contains("room in") {
                sward_runtime::sleep(Duration::from_millis(1));
            }
            if unbound {
                publisher.unbind(&endpoint).unwrap();
            }
            drop(subs);
            sender.join().unwrap();
        }
    });
}
