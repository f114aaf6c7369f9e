//! Requests with bytes changed, cut, doubled and mixed: from the corpus in `tests/corpus`, which is
//! replayed as it is too. Nothing may panic or hang, whole input and pieces must give the same
//! bytes, and what is sent must be responses.
//!
//! `HTTP_MUTATIONS=1000000` sets how many; a failure prints its seed and input, which can be put
//! into the corpus.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use common::{Random, Scripted, split, statuses, undated, within};

/// Words that matter to a parser.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0",
    b"-1",
    b"+1",
    b",",
    b";",
    b"Content-Length: 1\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"chunked",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\xff",
];

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 if at < input.len() => input[at] = random.below(256) as u8,
        1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 => input.truncate(at),
        3 => {
            let end = (at + 1 + random.below(8)).min(input.len());
            input.drain(at..end);
        }
        4 => {
            let end = (at + random.below(30)).min(input.len());
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let from = random.below(other.len() + 1);
            input.splice(at.., other[from..].iter().copied());
        }
        _ => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
    }
}

fn check(server: &Scripted, input: &[u8], random: &mut Random) {
    let whole = server.whole(input);
    let parts = server.talk(split(input, random));
    let text = String::from_utf8_lossy(input);
    assert_eq!(
        undated(&parts.sent),
        undated(&whole.sent),
        "{text:?}\n{input:?}"
    );
    assert_eq!(parts.closed, whole.closed, "{text:?}\n{input:?}");
    statuses(&whole.sent);
    assert_eq!(server.serving.stats().panicked, 0, "{text:?}\n{input:?}");
}

#[test]
fn the_corpus_and_what_is_made_of_it() {
    within("the_corpus_and_what_is_made_of_it", || {
        let count = std::env::var("HTTP_MUTATIONS").map_or(3000, |n| n.parse().unwrap());
        let seed = std::env::var("HTTP_SEED").map_or(1, |n| n.parse().unwrap());
        let mut random = Random::new(seed);
        let corpus = corpus();
        assert!(corpus.len() >= 10);
        let server = Scripted::new(|s| s.max_head(400).max_fields(10).max_body(300));
        for input in &corpus {
            check(&server, input, &mut random);
        }
        for _ in 0..count {
            let mut input = corpus[random.below(corpus.len())].clone();
            for _ in 0..=random.below(4) {
                let other = &corpus[random.below(corpus.len())];
                mutate(&mut input, other, &mut random);
            }
            check(&server, &input, &mut random);
        }
    });
}
