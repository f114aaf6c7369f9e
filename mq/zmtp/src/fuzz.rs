//! What a fuzzer runs (`mq/zmtp/fuzz`): a connection that gets arbitrary bytes. The corpus is
//! replayed by a test.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::connection::Connection;
use crate::event::Event;
use crate::frame::Frame;
use crate::heartbeat::Heartbeat;
use crate::output::Output;
use crate::setup::Setup;
use crate::socket_type::SocketType;

/// A connection of a kind that the first byte chooses gets the rest. However the bytes come, in
/// pieces or at once, and whichever way a caller takes them, they must mean the same; and whatever
/// they are, nothing may panic, and no more memory may be taken than what came.
///
/// # Panics
/// If that is not so.
pub fn connection(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else {
        return;
    };
    let whole = walk(kind, bytes, bytes.len().max(1), false);
    for piece in [1, 7, 1000] {
        assert_eq!(
            walk(kind, bytes, piece, false),
            whole,
            "in pieces of {piece}"
        );
        assert_eq!(
            walk(kind, bytes, piece, true),
            whole,
            "directly, in pieces of {piece}"
        );
    }
}

fn setup(kind: u8) -> Setup {
    let types = SocketType::ALL;
    let mut setup = Setup::new(types[usize::from(kind & 15) % (types.len() - 1)]);
    setup.allow_old_peers = kind & 16 != 0;
    setup.limits.max_total_size = Some(50_000);
    setup.limits.max_parts = 10;
    setup.limits.max_metadata = 5;
    if kind & 32 != 0 {
        setup.limits.max_message_size = Some(200);
        setup.limits.max_topic_size = 20;
        setup.limits.max_command = 100;
    }
    setup.identity = Frame::from("me");
    let interval = std::time::Duration::from_secs(1);
    setup.heartbeat = (kind & 64 != 0).then_some(Heartbeat::every(interval));
    setup
}

/// What came of the bytes, and what was answered, as text.
fn walk(kind: u8, bytes: &[u8], piece: usize, direct: bool) -> String {
    let now = Instant::now();
    let mut connection = Connection::new(Arc::new(setup(kind)), now);
    let (mut said, mut buffer) = (String::new(), Vec::new());
    for mut part in bytes.chunks(piece) {
        if direct
            && buffer.is_empty()
            && let Some(body) = connection.body()
        {
            let room = body.buffer.capacity() - body.buffer.len();
            let (now, later) = part.split_at(room.min(body.missing).min(part.len()));
            body.buffer.extend_from_slice(now);
            part = later;
        }
        buffer.extend_from_slice(part);
        let used = if direct {
            take_each(&mut connection, &buffer, &mut said)
        } else {
            take(&mut connection, &buffer, &mut said)
        };
        let Some(used) = used else {
            break;
        };
        buffer.drain(..used);
        assert!(buffer.len() < Connection::LEFTOVER);
        if let Some(body) = connection.body() {
            assert!(body.buffer.capacity() <= 128 * 1024);
        }
    }
    answer(&mut connection, &mut said);
    said
}

fn take(connection: &mut Connection, input: &[u8], said: &mut String) -> Option<usize> {
    let mut used = 0;
    loop {
        let (n, event) = connection.decode(&input[used..]);
        used += n;
        match event {
            Ok(None) => return Some(used),
            Ok(Some(event)) => tell(said, &event),
            Err(fault) => {
                let _ = writeln!(said, "{fault:?} {fault}");
                return None;
            }
        }
    }
}

fn take_each(connection: &mut Connection, input: &[u8], said: &mut String) -> Option<usize> {
    let mut used = 0;
    loop {
        let (n, event) = connection.decode_each(&input[used..], |message| {
            tell(said, &Event::Message(message));
            true
        });
        used += n;
        match event {
            Ok(None) => return Some(used),
            Ok(Some(event)) => tell(said, &event),
            Err(fault) => {
                let _ = writeln!(said, "{fault:?} {fault}");
                return None;
            }
        }
    }
}

fn tell(said: &mut String, event: &Event) {
    let _ = match event {
        Event::Message(message) => {
            // What is shown is cut, so a sum of all of it too.
            let mut sum = DefaultHasher::new();
            message.hash(&mut sum);
            writeln!(said, "{message:?} {:x}", sum.finish())
        }
        other => writeln!(said, "{other:?}"),
    };
}

/// What it wants to send, with a message and a subscription behind it.
fn answer(connection: &mut Connection, said: &mut String) {
    let control = std::mem::take(connection.control());
    let _ = writeln!(said, "{}", control.escape_ascii());
    let (mut output, mut converted) = (Output::new(), Vec::new());
    output.push(&["a", "b"].into());
    connection.subscription(&mut output, true, b"topic");
    if connection.needs_conversion() {
        while connection.convert(&mut output, &mut converted) {}
    }
    let _ = writeln!(said, "{output:?} {}", converted.escape_ascii());
    for _ in 0..4 {
        let Some(next) = connection.poll_timeout() else {
            break;
        };
        let _ = writeln!(said, "{:?}", connection.handle_timeout(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| std::fs::read(file).unwrap())
            .collect()
    }

    /// Each file, cut off anywhere; on a small stack, because nothing may recurse.
    #[test]
    fn the_corpus() {
        let replay = || {
            let corpus = corpus();
            assert!(corpus.len() >= 10);
            for input in corpus {
                let step = (input.len() / 50).max(1);
                (0..=input.len())
                    .step_by(step)
                    .for_each(|end| connection(&input[..end]));
                connection(&input);
            }
        };
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        thread.spawn(replay).unwrap().join().unwrap();
    }

    /// With bytes changed, cut out, doubled and mixed; `ZMTP_MUTATIONS` says how many times.
    #[test]
    fn what_is_made_of_the_corpus() {
        let count = std::env::var("ZMTP_MUTATIONS").map_or(500, |n| n.parse().unwrap());
        let seed = std::env::var("ZMTP_SEED").map_or(1, |n| n.parse().unwrap());
        println!("ZMTP_SEED={seed}");
        let mut state: u64 = seed;
        let mut below = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % n
        };
        let corpus = corpus();
        for _ in 0..count {
            let mut input = corpus[below(corpus.len())].clone();
            for _ in 0..=below(4) {
                let at = below(input.len().max(1)).min(input.len());
                let end = (at + below(30)).min(input.len());
                match below(7) {
                    0 | 1 if at < end => input[at] = below(256) as u8,
                    2 if at < end => input[at] ^= 1 << below(8),
                    3 => input.truncate(end),
                    4 => drop(input.drain(at..end)),
                    5 => {
                        let piece = input[at..end].to_vec();
                        drop(input.splice(at..at, piece));
                    }
                    _ => {
                        let other = &corpus[below(corpus.len())];
                        let from = below(other.len());
                        drop(input.splice(at.., other[from..].iter().copied()));
                    }
                }
            }
            let shown = input.escape_ascii().to_string();
            let result = std::panic::catch_unwind(|| connection(&input));
            assert!(result.is_ok(), "{shown}");
        }
    }
}
