//! What one message costs, in nanoseconds. No threshold: the numbers are for people.
//!
//! `cargo test --release -p sward-zmtp --test speed -- --ignored --nocapture`
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use sward_zmtp::{Connection, Event, Frame, Message, Output, Setup, SocketType, encode};

const SIZES: [usize; 5] = [16, 64, 256, 1024, 8192];

fn connected() -> Connection {
    let now = Instant::now();
    let end = |of| Connection::new(Arc::new(Setup::new(of)), now);
    let (mut push, mut pull) = (end(SocketType::Push), end(SocketType::Pull));
    for _ in 0..4 {
        let bytes = std::mem::take(push.control());
        let mut rest = &bytes[..];
        loop {
            let (used, event) = pull.decode(rest);
            rest = &rest[used..];
            if event.unwrap().is_none() {
                break;
            }
        }
        std::mem::swap(&mut push, &mut pull);
    }
    assert!(push.is_ready() && pull.is_ready());
    if push.peer().unwrap().socket_type() == Some(SocketType::Push) {
        push
    } else {
        pull
    }
}

/// The best of several rounds, for one of `per_round` messages.
fn best(per_round: usize, mut round: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..200 {
        let begin = Instant::now();
        round();
        best = best.min(begin.elapsed().as_nanos() as f64 / per_round as f64);
    }
    best
}

#[test]
#[ignore = "prints numbers"]
fn nanoseconds() {
    for size in SIZES {
        let count = (256 * 1024 / (size + 9)).max(1);
        let bytes = vec![7; size];
        let message = Message::from(&bytes[..]);

        let mut output = Output::new();
        let prebuilt = best(count, || {
            for _ in 0..count {
                output.push(black_box(&message));
            }
            let mut slices = [IoSlice::new(&[]); 64];
            black_box(output.slices(&mut slices));
            output.advance(output.bytes());
        });
        let fresh = best(count, || {
            for i in 0..count {
                let frame = Frame::from_fn(size, |b| b.fill(i as u8));
                output.push(black_box(&Message::from(frame)));
            }
            output.advance(output.bytes());
        });
        // As when the kernel takes 20,000 bytes and a bit at a time.
        let partial = best(count, || {
            for _ in 0..count {
                output.push(black_box(&message));
            }
            while !output.is_empty() {
                output.advance(output.bytes().min(20_001));
            }
        });

        let mut encoded = Vec::new();
        (0..count).for_each(|_| encode(&message, &mut encoded));
        let mut connection = connected();
        let decode = best(count, || {
            let mut rest = black_box(&encoded[..]);
            let mut seen = 0;
            loop {
                let (used, event) = connection.decode(rest);
                rest = &rest[used..];
                match event {
                    Ok(Some(Event::Message(message))) => {
                        black_box(&message);
                        seen += 1;
                    }
                    _ => break,
                }
            }
            assert_eq!(seen, count);
        });
        let mut queue = VecDeque::new();
        let each = best(count, || {
            let (_, event) = connection.decode_each(black_box(&encoded), |message| {
                queue.push_back(message);
                true
            });
            assert!(matches!(event, Ok(None)));
            while let Some(message) = queue.pop_front() {
                black_box(&message);
            }
        });
        println!(
            "{size:5} bytes: push {prebuilt:6.1}, made and pushed {fresh:6.1}, pushed and written \
             in parts {partial:6.1}, decode {decode:6.1}, decode_each through a queue {each:6.1}"
        );
    }
}
