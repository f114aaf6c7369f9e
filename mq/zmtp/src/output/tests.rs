use super::*;
use crate::header::encode;

/// What is to be written, through `slices` with this many places.
fn bytes(output: &Output, places: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); places];
    let used = output.slices(&mut slices);
    slices[..used]
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect()
}

fn whole(output: &Output) -> Vec<u8> {
    bytes(output, 10_000)
}

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

fn any_message(state: &mut u64) -> Message {
    const SIZES: [usize; 11] = [0, 1, 16, 64, 65, 255, 256, 1000, LARGE - 1, LARGE, 9000];
    let parts = if random(state) % 3 < 1 {
        1 + random(state) % 4
    } else {
        1
    };
    (0..parts)
        .map(|_| {
            let size = SIZES[random(state) % SIZES.len()];
            Frame::from_fn(size, |bytes| bytes.fill(random(state) as u8))
        })
        .collect()
}

#[test]
fn headers_are_short_where_they_can_be() {
    let mut output = Output::new();
    output.push(&Message::from(["", "ab"]));
    output.push(&Message::from(vec![7; 255]));
    output.push(&Message::from(vec![7; 256]));
    output.push_command(b"SUBSCRIBE", b"t");
    let all = whole(&output);
    assert_eq!(all[..6], *b"\x01\0\0\x02ab");
    assert_eq!(all[6..9], [0, 255, 7]);
    assert_eq!(all[6 + 257..][..10], [2, 0, 0, 0, 0, 0, 0, 1, 0, 7]);
    assert_eq!(all[6 + 257 + 265..], *b"\x04\x0b\x09SUBSCRIBEt");
    assert_eq!((output.messages(), output.bytes()), (3, all.len()));
}

#[test]
fn large_bodies_are_not_copied() {
    let body = Frame::from(vec![1; LARGE]);
    let mut output = Output::new();
    output.push(&Message::from("a"));
    output.push(&Message::from([Frame::from("id"), body.clone()]));
    output.push(&Message::from("b"));
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(output.slices(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), body.as_ptr());
    assert_eq!(output.slices(&mut slices[..2]), 2);
    assert_eq!(output.slices(&mut []), 0);
    assert_eq!(output.slices_within(&mut slices, 20), 2);
    assert_eq!(slices[0].len() + slices[1].len(), 20);
}

/// Against a model: the bytes of each message, and how many of them went out.
#[test]
fn whatever_is_written_the_rest_is_right() {
    for seed in 1..15_u64 {
        let mut state = seed * 0x9E37_79B9;
        let mut output = Output::new();
        let mut model: VecDeque<(Vec<u8>, bool)> = VecDeque::new();
        let mut gone = 0;
        for step in 0..300 {
            match random(&mut state) % 8 {
                0..=3 => {
                    let message = any_message(&mut state);
                    let mut encoded = Vec::new();
                    encode(&message, &mut encoded);
                    match random(&mut state) % 4 {
                        0 => output.push_encoded(&encoded),
                        1 => {
                            let n = 1 + random(&mut state) % 3;
                            output.push_shared(&encoded.repeat(n).into(), n);
                            model.extend((1..n).map(|_| (encoded.clone(), true)));
                        }
                        _ => output.push(&message),
                    }
                    model.push_back((encoded, true));
                }
                4 if step % 3 == 0 => {
                    output.push_command(b"CANCEL", b"topic");
                    model.push_back((b"\x04\x0c\x06CANCELtopic".to_vec(), false));
                }
                5 if random(&mut state) % 5 < 1 => {
                    let partial = gone > 0;
                    let lost = partial && model[0].1;
                    model.drain(..usize::from(partial));
                    model.retain(|entry| entry.1);
                    gone = 0;
                    assert_eq!(output.rollback(), usize::from(lost), "seed {seed}");
                }
                _ => {
                    let all = output.bytes();
                    let n = match random(&mut state) % 4 {
                        0 => all,
                        1 => random(&mut state) % 20,
                        _ => random(&mut state) % 30_000,
                    };
                    let n = n.min(all);
                    output.advance(n);
                    gone += n;
                    while model.front().is_some_and(|entry| entry.0.len() <= gone) {
                        gone -= model.pop_front().unwrap().0.len();
                    }
                }
            }
            let mut expected: Vec<u8> = model.iter().flat_map(|e| e.0.clone()).collect();
            expected.drain(..gone);
            assert_eq!(output.bytes(), expected.len(), "seed {seed}");
            assert!(whole(&output) == expected, "seed {seed}");
            let few = bytes(&output, 3);
            assert!(expected.starts_with(&few), "seed {seed}");
            let messages = model.iter().filter(|entry| entry.1).count();
            assert_eq!(output.messages(), messages, "seed {seed}");
            assert_eq!(output.at_boundary(), gone == 0, "seed {seed}");
            let remainder = if gone == 0 {
                0
            } else {
                model[0].0.len() - gone
            };
            assert_eq!(output.first_remainder(), remainder, "seed {seed}");
            assert_eq!(output.is_empty(), expected.is_empty(), "seed {seed}");
        }
    }
}

#[test]
fn an_empty_one_gives_its_memory_back() {
    let mut output = Output::new();
    assert_eq!(output.take_buffer(), None);
    output.push(&Message::from("a"));
    assert_eq!(output.take_buffer(), None);
    output.advance(3);
    let buffer = output.take_buffer().unwrap();
    assert!(buffer.capacity() >= FIRST);
    assert_eq!(output.tail.capacity(), 0);
    let at = buffer.as_ptr();
    output.give_buffer(buffer);
    output.push(&Message::from("b"));
    assert_eq!(output.tail.as_ptr(), at);
    assert_eq!(whole(&output), b"\0\x01b");
    assert_eq!(output.clear(), 1);
    assert!(output.is_empty() && output.at_boundary());
    // The memory of what piled up does not stay.
    for _ in 0..100_000 {
        output.push(&Message::from([7; 64].as_slice()));
    }
    assert!(output.chunks.len() > 90);
    output.advance(output.bytes());
    assert!(output.tail.capacity() <= CHUNK && output.chunks.is_empty());
}

#[test]
fn subscriptions_are_forgotten_and_messages_are_not() {
    let mut output = Output::new();
    let large = Message::from(vec![1; 9000]);
    for message in [
        Message::from("\x01A"),
        Message::from("text"),
        Message::from(["\x01A", "\0B"]),
        Message::from("\0B"),
        Message::new(),
        large,
        Message::from(vec![2; 9000]),
    ] {
        output.push(&message);
    }
    output.forget_subscriptions();
    assert_eq!(output.messages(), 4);
    let mut wanted = b"\0\x04text\x01\x02\x01A\0\x02\0B\0\0\x02".to_vec();
    wanted.extend(9000_u64.to_be_bytes());
    wanted.extend([2; 9000]);
    assert_eq!(whole(&output), wanted);
}

#[test]
fn what_is_half_written_stays_in_place_while_more_comes() {
    let mut output = Output::new();
    output.push(&Message::from(["ab", "cd", "ef"]));
    output.advance(1);
    assert_eq!(
        (output.first_remainder(), output.at_boundary()),
        (11, false)
    );
    output.push(&Message::from("x"));
    output.advance(4);
    assert_eq!(output.first_remainder(), 7);
    assert_eq!(output.messages(), 2);
    output.advance(6);
    assert_eq!(output.first_remainder(), 1);
    output.advance(1);
    assert!(output.at_boundary());
    assert_eq!(
        (output.messages(), whole(&output)),
        (1, b"\0\x01x".to_vec())
    );
}
