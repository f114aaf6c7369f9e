//! What a fuzzer runs (`net/http/fuzz`): everything that a server makes of bytes before it calls a
//! handler, without sockets. The corpus is replayed by a test.

use std::fmt::Write;

use bytes::Bytes;
use http::Request;

use crate::chunked::{Decoder, Next};
use crate::error::Malformed;
use crate::framing::Length;
use crate::head::{HeadLimits, Scanned, Scanner, parse_request};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 1000,
    fields: 20,
};

/// Reads requests until the input ends or is refused. However the bytes come, in pieces or at once,
/// they must mean the same; and whatever they are, nothing may panic.
///
/// # Panics
/// If that is not so.
pub fn requests(input: &[u8]) {
    let whole = walk(input, input.len().max(1));
    for piece in [1, 2, 7] {
        assert_eq!(walk(input, piece), whole, "in pieces of {piece}");
    }
}

/// What was read, as text.
fn walk(input: &[u8], piece: usize) -> String {
    let mut said = String::new();
    let mut rest = input;
    while let Some(step) = exchange(rest, piece, &mut said).transpose() {
        match step {
            Ok(used) => rest = &rest[used..],
            Err(e) => {
                let _ = writeln!(said, "refused: {e:?}");
                break;
            }
        }
    }
    said
}

/// One request; how many bytes of the input it was. `None`: it has no end.
fn exchange(input: &[u8], piece: usize, said: &mut String) -> Result<Option<usize>, Malformed> {
    let mut scanner = Scanner::new(LIMITS);
    let mut there = 0;
    let (begin, end, lines) = loop {
        if there == input.len() {
            return Ok(None);
        }
        there = (there + piece).min(input.len());
        if let Scanned::Head { begin, end, lines } = scanner.scan(&input[..there])? {
            break (begin, end, lines);
        }
    };
    let head = Bytes::copy_from_slice(&input[begin..end]);
    let mut request = Request::new(());
    let fields = parse_request(&head, lines, &mut request)?;
    fields.check_request(request.version())?;
    let length = fields.request_body(request.method(), request.version())?;
    let _ = writeln!(said, "{request:?} {length:?}");
    match length {
        Length::Exact(n) => {
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            let after = end.checked_add(n).filter(|after| *after <= input.len());
            Ok(after)
        }
        Length::Chunked => {
            let used = chunks(&input[end..], piece, said)?;
            Ok(used.map(|used| end + used))
        }
        Length::UntilClose => unreachable!("a request ends before its connection"),
    }
}

/// A chunked body; how many bytes of the input it was. `None`: it has no end.
fn chunks(input: &[u8], piece: usize, said: &mut String) -> Result<Option<usize>, Malformed> {
    let mut decoder = Decoder::new();
    let (mut at, mut there) = (0, 0);
    loop {
        match decoder.next(&input[at..there])? {
            Next::End { skip } => {
                let _ = writeln!(said, "trailers {:?}", decoder.trailers()?);
                return Ok(Some(at + skip));
            }
            Next::Data { skip } => {
                at += skip;
                let left = usize::try_from(decoder.left()).unwrap_or(usize::MAX);
                let data = left.min(there - at);
                if data > 0 {
                    said.extend(input[at..at + data].iter().map(|&b| char::from(b)));
                    decoder.took(data as u64);
                    at += data;
                    continue;
                }
            }
            Next::More => at = there,
        }
        if there == input.len() {
            return Ok(None);
        }
        there = (there + piece).min(input.len());
    }
}

#[cfg(test)]
mod tests {
    /// Each file of the corpus, and all that is left of it when it is cut off.
    #[test]
    fn the_corpus() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let input = std::fs::read(file.unwrap().path()).unwrap();
            (0..=input.len()).for_each(|end| super::requests(&input[..end]));
            files += 1;
        }
        assert!(files >= 10);
    }
}
