//! The chunked coding: RFC 9112 section 7.1, read strictly.
//!
//! [`Decoder::next`] is given the bytes that are there and says how many of them are framing, and
//! how many that follow are data; it keeps its state over any split of the input. No space is
//! allowed around a size, no line may end with LF alone.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::error::Malformed;

/// Bytes of chunk extensions in one body, which mean nothing to us.
const MAX_EXTENSION: usize = 16 * 1024;
/// Bytes and number of trailer fields.
const MAX_TRAILER: usize = 8 * 1024;
const MAX_TRAILERS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A digit of a size, of which so many have been seen.
    Size(u8),
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// A byte of the trailer section.
    Trailer,
    Nothing,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// All of the input is framing; more is needed.
    More,
    /// So many bytes of framing, then data; [`Decoder::took`] is told how much of it was taken.
    Data { skip: usize },
    /// So many bytes of framing, then the body is at its end.
    End { skip: usize },
}

#[derive(Debug)]
pub(crate) struct Decoder {
    expect: Expect,
    /// Of the chunk; what is left of it once its data has begun.
    size: u64,
    extension: usize,
    trailer: Vec<u8>,
}

impl Decoder {
    pub(crate) const fn new() -> Self {
        Self {
            expect: Expect::Size(0),
            size: 0,
            extension: 0,
            trailer: Vec::new(),
        }
    }

    /// Data left in this chunk.
    pub(crate) const fn left(&self) -> u64 {
        self.size
    }

    /// Whether the next byte is data.
    pub(crate) fn is_in_data(&self) -> bool {
        self.expect == Expect::Data
    }

    /// Tells that so much data was taken, at most [`left`](Self::left).
    pub(crate) fn took(&mut self, bytes: u64) {
        debug_assert!(self.expect == Expect::Data && bytes <= self.size);
        self.size -= bytes;
        if self.size == 0 {
            self.expect = Expect::DataReturn;
        }
    }

    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Next, Malformed> {
        for (i, &byte) in input.iter().enumerate() {
            match (self.expect, byte) {
                (Expect::Data, _) => return Ok(Next::Data { skip: i }),
                (Expect::Nothing, _) => return Ok(Next::End { skip: i }),
                (Expect::Size(digits), _) => self.size_byte(digits, byte)?,
                (Expect::Extension, b'\r') => self.expect = Expect::SizeLineFeed,
                (Expect::Extension, _) => {
                    self.extension += 1;
                    let control = byte < 0x20 && byte != b'\t' || byte == 0x7f;
                    if control || self.extension > MAX_EXTENSION {
                        return Err(Malformed::ChunkExtension);
                    }
                }
                (Expect::SizeLineFeed, b'\n') if self.size == 0 => self.expect = Expect::Trailer,
                (Expect::SizeLineFeed, b'\n') => self.expect = Expect::Data,
                (Expect::SizeLineFeed, _) => return Err(Malformed::BareCarriageReturn),
                (Expect::DataReturn, b'\r') => self.expect = Expect::DataLineFeed,
                (Expect::DataLineFeed, b'\n') => {
                    self.expect = Expect::Size(0);
                    self.size = 0;
                }
                (Expect::DataReturn | Expect::DataLineFeed, _) => return Err(Malformed::ChunkEnd),
                (Expect::Trailer, _) => self.trailer_byte(byte)?,
            }
        }
        // The state may have come to data or to the end with the last byte.
        let skip = input.len();
        Ok(match self.expect {
            Expect::Data => Next::Data { skip },
            Expect::Nothing => Next::End { skip },
            _ => Next::More,
        })
    }

    fn size_byte(&mut self, digits: u8, byte: u8) -> Result<(), Malformed> {
        match (byte as char).to_digit(16) {
            // Sixteen digits are all of 64 bits.
            Some(digit) if digits < 16 => {
                self.size = (self.size << 4) | u64::from(digit);
                self.expect = Expect::Size(digits + 1);
            }
            None if digits > 0 && byte == b'\r' => self.expect = Expect::SizeLineFeed,
            None if digits > 0 && byte == b';' => self.expect = Expect::Extension,
            None if digits > 0 && byte == b'\n' => return Err(Malformed::BareLineFeed),
            _ => return Err(Malformed::ChunkSize),
        }
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), Malformed> {
        let last = self.trailer.last().copied();
        if byte == b'\n' && last != Some(b'\r') {
            return Err(Malformed::BareLineFeed);
        }
        if byte != b'\n' && last == Some(b'\r') {
            return Err(Malformed::BareCarriageReturn);
        }
        if (byte < 0x20 && !matches!(byte, b'\r' | b'\n' | b'\t')) || byte == 0x7f {
            return Err(Malformed::Trailer);
        }
        let begins_line = matches!(last, None | Some(b'\n'));
        if begins_line && matches!(byte, b' ' | b'\t') {
            return Err(Malformed::FoldedLine);
        }
        if self.trailer.len() >= MAX_TRAILER {
            return Err(Malformed::TrailerTooLarge);
        }
        self.trailer.push(byte);
        if self.trailer == b"\r\n" || self.trailer.ends_with(b"\r\n\r\n") {
            self.expect = Expect::Nothing;
        }
        Ok(())
    }

    /// The trailer fields, once the end has come.
    pub(crate) fn trailers(&self) -> Result<Option<HeaderMap>, Malformed> {
        if self.trailer.len() <= 2 {
            return Ok(None);
        }
        let mut rows = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let rows = match httparse::parse_headers(&self.trailer, &mut rows) {
            Ok(httparse::Status::Complete((_, rows))) => rows,
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TrailerTooLarge),
            _ => return Err(Malformed::Trailer),
        };
        let mut trailers = HeaderMap::with_capacity(rows.len());
        for row in rows {
            let name = HeaderName::from_bytes(row.name.as_bytes());
            let name = name.map_err(|_| Malformed::Trailer)?;
            let value = HeaderValue::from_bytes(row.value).map_err(|_| Malformed::Trailer)?;
            // RFC 9110 section 6.5.1: those that frame, route or authenticate.
            if [
                header::TRANSFER_ENCODING,
                header::CONTENT_LENGTH,
                header::HOST,
                header::CONNECTION,
                header::TRAILER,
                header::UPGRADE,
                header::TE,
                header::EXPECT,
                header::AUTHORIZATION,
                header::CONTENT_ENCODING,
                header::CONTENT_TYPE,
                header::CONTENT_RANGE,
            ]
            .contains(&name)
            {
                return Err(Malformed::Trailer);
            }
            trailers.append(name, value);
        }
        Ok(Some(trailers))
    }
}

/// Appends the line that begins a chunk of so many bytes, which must not be 0.
pub(crate) fn begin_chunk(out: &mut Vec<u8>, size: usize) {
    debug_assert_ne!(size, 0);
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (size >> (place * 4)) & 15;
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
}

/// What ends each chunk.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";
/// What ends a body without trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes input that comes in pieces of this size; what is left after the end.
    fn decode(
        input: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Malformed> {
        let mut decoder = Decoder::new();
        let (mut data, mut at, mut there) = (Vec::new(), 0, 0);
        loop {
            match decoder.next(&input[at..there])? {
                Next::More => {
                    at = there;
                    if there == input.len() {
                        return Err(Malformed::ChunkEnd);
                    }
                    there = (there + piece).min(input.len());
                }
                Next::Data { skip } => {
                    at += skip;
                    let n = (there - at).min(usize::try_from(decoder.left()).unwrap_or(usize::MAX));
                    if n == 0 {
                        if there == input.len() {
                            return Err(Malformed::ChunkEnd);
                        }
                        there = (there + piece).min(input.len());
                        continue;
                    }
                    data.extend_from_slice(&input[at..at + n]);
                    decoder.took(n as u64);
                    at += n;
                }
                Next::End { skip } => {
                    return Ok((data, decoder.trailers()?, input.len() - at - skip));
                }
            }
        }
    }

    #[test]
    fn any_split_gives_the_same() {
        type Row = (&'static [u8], Result<&'static [u8], Malformed>);
        let rows: &[Row] = &[
            (b"0\r\n\r\n", Ok(b"")),
            (b"5\r\nhello\r\n0\r\n\r\n", Ok(b"hello")),
            (
                b"5;a=b;c=\"d\"\r\nhello\r\n1\r\n!\r\n000;x\r\n\r\nrest",
                Ok(b"hello!"),
            ),
            (b"A\r\n0123456789\r\n0\r\nx: y\r\n\r\n", Ok(b"0123456789")),
            (b"5\nhello\r\n0\r\n\r\n", Err(Malformed::BareLineFeed)),
            (b"5\rhello\r\n0\r\n\r\n", Err(Malformed::BareCarriageReturn)),
            (b"5 \r\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkSize)),
            (b" 5\r\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkSize)),
            (b"\r\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkSize)),
            (b"-5\r\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkSize)),
            (b"+5\r\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkSize)),
            (b"0x5\r\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkSize)),
            (b"10000000000000000\r\n", Err(Malformed::ChunkSize)),
            (b"00000000000000005\r\n", Err(Malformed::ChunkSize)),
            (b"ffffffffffffffff\r\nx", Err(Malformed::ChunkEnd)),
            (b"5\r\nhelloX\r\n0\r\n\r\n", Err(Malformed::ChunkEnd)),
            (b"5\r\nhello\n0\r\n\r\n", Err(Malformed::ChunkEnd)),
            (b"5\r\nhello\r\r0\r\n\r\n", Err(Malformed::ChunkEnd)),
            (
                b"5;\0\r\nhello\r\n0\r\n\r\n",
                Err(Malformed::ChunkExtension),
            ),
            (b"5;a\nhello\r\n0\r\n\r\n", Err(Malformed::ChunkExtension)),
            (
                b"5;a\rX\r\nhello\r\n0\r\n\r\n",
                Err(Malformed::BareCarriageReturn),
            ),
            (b"0\r\nx: y\n\r\n", Err(Malformed::BareLineFeed)),
            (b"0\r\nx: y\rz\r\n\r\n", Err(Malformed::BareCarriageReturn)),
            (b"0\r\n x: y\r\n\r\n", Err(Malformed::FoldedLine)),
            (b"0\r\nx : y\r\n\r\n", Err(Malformed::Trailer)),
            (b"0\r\nno colon\r\n\r\n", Err(Malformed::Trailer)),
            (b"0\r\nContent-Length: 5\r\n\r\n", Err(Malformed::Trailer)),
            (b"0\r\nx: \0\r\n\r\n", Err(Malformed::Trailer)),
        ];
        for (input, wanted) in rows {
            for piece in 1..=input.len() {
                let got = decode(input, piece).map(|(data, ..)| data);
                let text = String::from_utf8_lossy(input);
                assert_eq!(
                    got.as_deref(),
                    wanted.as_ref().copied(),
                    "{text:?} by {piece}"
                );
            }
        }
    }

    #[test]
    fn trailers_and_what_follows() {
        let input = b"1\r\nx\r\n0\r\nA: b\r\na: c\r\n\r\nGET";
        let (_, trailers, rest) = decode(input, 3).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!(trailers.get_all("a").iter().count(), 2);
        // What had not been looked at is not counted: the last piece ends where the body does.
        assert_eq!(rest, 3);
    }

    #[test]
    fn limits() {
        let mut long = b"1;".to_vec();
        long.extend(vec![b'a'; MAX_EXTENSION + 1]);
        assert_eq!(Decoder::new().next(&long), Err(Malformed::ChunkExtension));
        // Spread over many chunks, too.
        let mut many = Vec::new();
        for _ in 0..=MAX_EXTENSION {
            many.extend_from_slice(b"1;a\r\nx\r\n");
        }
        assert_eq!(decode(&many, 4096).unwrap_err(), Malformed::ChunkExtension);
        let mut trailer = b"0\r\nx: ".to_vec();
        trailer.extend(vec![b'a'; MAX_TRAILER]);
        assert_eq!(
            Decoder::new().next(&trailer),
            Err(Malformed::TrailerTooLarge)
        );
        let mut fields = b"0\r\n".to_vec();
        for _ in 0..=MAX_TRAILERS {
            fields.extend_from_slice(b"a: b\r\n");
        }
        fields.extend_from_slice(b"\r\n");
        assert_eq!(
            decode(&fields, 100).unwrap_err(),
            Malformed::TrailerTooLarge
        );
    }

    #[test]
    fn sizes_are_written() {
        for size in [1, 9, 10, 15, 16, 255, 256, 0x1234_abcd, usize::MAX] {
            let mut out = Vec::new();
            begin_chunk(&mut out, size);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}\r\n"));
        }
    }
}
