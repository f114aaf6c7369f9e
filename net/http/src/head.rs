//! Heads of requests and responses: found in the bytes that have come so far, checked, parsed.
//!
//! [`Scanner`] looks for the end of the head and checks what `httparse` is lenient about: every
//! line ends with CR LF, no other control byte is there, no line but the first may begin with a
//! space. It remembers how far it has come, so that a head that comes byte by byte costs no more
//! than one that comes whole, and it says early when a limit is passed. [`parse_request`] and
//! [`parse_response`] take a whole head.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};

use crate::error::Malformed;
use crate::framing::Fields;

/// Empty lines before a head that are skipped (RFC 9112 section 2.2 wants one).
const MAX_LEADING: u32 = 2;

/// What a head may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// Where a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// Not at its end yet.
    More,
    /// Between these two, with so many lines.
    Head {
        begin: usize,
        end: usize,
        lines: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Scanner {
    limits: HeadLimits,
    /// What is before it has been looked at.
    at: usize,
    /// Where the line that is looked at begins.
    line: usize,
    lines: usize,
    leading: u32,
    begin: usize,
}

impl Scanner {
    pub(crate) const fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            at: 0,
            line: 0,
            lines: 0,
            leading: 0,
            begin: 0,
        }
    }

    /// Goes on where the last call ended; `bytes` are those of that call, and more.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, Malformed> {
        while let Some(i) = next_control(bytes, self.at) {
            // Too large comes first, as it does when the bytes come one by one.
            if i + usize::from(bytes[i] == b'\r') > self.begin + self.limits.bytes {
                break;
            }
            match bytes[i] {
                b'\t' => self.at = i + 1,
                b'\r' => match bytes.get(i + 1) {
                    None => {
                        self.at = i;
                        break;
                    }
                    Some(b'\n') => {
                        if self.end_line(bytes, i)? {
                            let (begin, end) = (self.begin, self.at);
                            if end - begin > self.limits.bytes {
                                return Err(Malformed::HeadTooLarge);
                            }
                            let lines = self.lines;
                            return Ok(Scanned::Head { begin, end, lines });
                        }
                    }
                    Some(_) => return Err(Malformed::BareCarriageReturn),
                },
                b'\n' => return Err(Malformed::BareLineFeed),
                _ => return Err(Malformed::ControlByte),
            }
        }
        // A CR at the end is looked at again.
        self.at = self
            .at
            .max(bytes.len() - usize::from(bytes.ends_with(b"\r")));
        if bytes.len() - self.begin > self.limits.bytes {
            return Err(match self.lines {
                0 => Malformed::TargetTooLong,
                _ => Malformed::HeadTooLarge,
            });
        }
        Ok(Scanned::More)
    }

    /// A line ends at its CR; returns whether the head does.
    fn end_line(&mut self, bytes: &[u8], cr: usize) -> Result<bool, Malformed> {
        let line = &bytes[self.line..cr];
        self.at = cr + 2;
        self.line = self.at;
        match line.first() {
            None if self.lines > 0 => return Ok(true),
            None => {
                self.leading += 1;
                self.begin = self.at;
                if self.leading > MAX_LEADING {
                    return Err(Malformed::LeadingLines);
                }
            }
            Some(b' ' | b'\t') => return Err(Malformed::FoldedLine),
            Some(_) => {
                self.lines += 1;
                if self.lines > self.limits.fields + 1 {
                    return Err(Malformed::TooManyFields);
                }
            }
        }
        Ok(false)
    }
}

/// The first byte below 0x20, or DEL, at or behind a place. Eight at a time.
fn next_control(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let rest = bytes.get(from..)?;
    let words = rest.chunks_exact(8);
    let tail = words.remainder();
    for (n, word) in words.enumerate() {
        let Ok(word) = word.try_into().map(u64::from_le_bytes) else {
            break;
        };
        // The lowest bit that is set is right; what is above it may be a borrow.
        let low = word.wrapping_sub(0x20 * ONES) & !word;
        let del = (word ^ (0x7f * ONES)).wrapping_sub(ONES) & !(word ^ (0x7f * ONES));
        let found = (low | del) & HIGH;
        if found != 0 {
            return Some(from + n * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_control = |b: &u8| *b < 0x20 || *b == 0x7f;
    let in_tail = tail.iter().position(is_control)?;
    Some(bytes.len() - tail.len() + in_tail)
}

/// Parses a head that a [`Scanner`] has found, into a request whose fields must be empty.
pub(crate) fn parse_request<B>(
    head: &Bytes,
    lines: usize,
    request: &mut Request<B>,
) -> Result<Fields, Malformed> {
    with_rows(lines, |rows| {
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, rows) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Malformed::RequestLine),
            Err(e) => {
                let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
                check_version(line.rsplit(|&b| b == b' ').next())?;
                return Err(explain(e, Malformed::RequestLine));
            }
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(Malformed::RequestLine);
        };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::RequestLine)?;
        *request.uri_mut() = parse_target(&method, head.slice_ref(target.as_bytes()))?;
        *request.method_mut() = method;
        *request.version_mut() = version(parsed.version);
        collect(head, parsed.headers, request.headers_mut())
    })
}

#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) fields: Fields,
}

/// As [`parse_request`].
pub(crate) fn parse_response(head: &Bytes, lines: usize) -> Result<ResponseHead, Malformed> {
    with_rows(lines, |rows| {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, head, rows) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Malformed::StatusLine),
            Err(e) => {
                check_version(head.split(|&b| b == b' ').next())?;
                return Err(explain(e, Malformed::StatusLine));
            }
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Malformed::StatusLine)?;
        let mut headers = HeaderMap::new();
        let fields = collect(head, parsed.headers, &mut headers)?;
        Ok(ResponseHead {
            status,
            version: version(parsed.version),
            headers,
            fields,
        })
    })
}

type Row<'b> = MaybeUninit<httparse::Header<'b>>;

/// Calls with room for the fields of so many lines: most heads have few.
fn with_rows<'b, T>(lines: usize, f: impl FnOnce(&mut [Row<'b>]) -> T) -> T {
    if lines <= 32 {
        f(&mut [const { MaybeUninit::uninit() }; 32])
    } else {
        f(&mut vec![MaybeUninit::uninit(); lines])
    }
}

/// Tells a version that we do not speak from one that is none.
fn check_version(text: Option<&[u8]>) -> Result<(), Malformed> {
    match text {
        Some(b"HTTP/1.1" | b"HTTP/1.0") => Ok(()),
        Some([b'H', b'T', b'T', b'P', b'/', a, b'.', b])
            if a.is_ascii_digit() && b.is_ascii_digit() =>
        {
            Err(Malformed::Version)
        }
        // What it is, the parser will say.
        _ => Ok(()),
    }
}

fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

fn explain(e: httparse::Error, first_line: Malformed) -> Malformed {
    match e {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Malformed::FieldLine,
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        _ => first_line,
    }
}

/// RFC 9112 section 3.2.
fn parse_target(method: &Method, target: Bytes) -> Result<Uri, Malformed> {
    // A fragment is not sent, and other bytes than ASCII are in no URI.
    if !target.is_ascii() || target.contains(&b'#') {
        return Err(Malformed::Target);
    }
    let is_origin = target.starts_with(b"/");
    let is_asterisk = *target == *b"*";
    let uri = Uri::from_maybe_shared(target).map_err(|_| Malformed::Target)?;
    let user_is_named = || uri.authority().is_some_and(|a| a.as_str().contains('@'));
    let right = if *method == Method::CONNECT {
        let (scheme, path) = (uri.scheme(), uri.path_and_query());
        scheme.is_none() && path.is_none() && uri.port().is_some() && !user_is_named()
    } else if is_asterisk {
        *method == Method::OPTIONS
    } else {
        is_origin || (matches!(uri.scheme_str(), Some("http" | "https")) && !user_is_named())
    };
    right.then_some(uri).ok_or(Malformed::Target)
}

/// The fields as the map has them: slices of the head, nothing is copied.
fn collect(
    head: &Bytes,
    rows: &[httparse::Header<'_>],
    headers: &mut HeaderMap,
) -> Result<Fields, Malformed> {
    let mut fields = Fields::default();
    headers.reserve(rows.len());
    for row in rows {
        let name = HeaderName::from_bytes(row.name.as_bytes());
        let name = name.map_err(|_| Malformed::FieldLine)?;
        fields.see(&name, row.value);
        let value = match row.value {
            b"" => HeaderValue::from_static(""),
            value => HeaderValue::from_maybe_shared(head.slice_ref(value))
                .map_err(|_| Malformed::FieldLine)?,
        };
        headers.append(name, value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 1000,
        fields: 20,
    };

    /// Scans input that comes in pieces, then parses it.
    fn request(input: &[u8], piece: usize) -> Result<Request<()>, Malformed> {
        let mut scanner = Scanner::new(LIMITS);
        let mut there = 0;
        loop {
            there = (there + piece).min(input.len());
            if let Scanned::Head { begin, end, lines } = scanner.scan(&input[..there])? {
                let head = Bytes::copy_from_slice(&input[begin..end]);
                let mut request = Request::new(());
                return parse_request(&head, lines, &mut request).map(|_| request);
            }
            assert!(
                there < input.len(),
                "no end: {:?}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn a_head_in_any_pieces() {
        let input = b"\r\nGET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept:\t*/*  \r\nEmpty:\r\nA: b\tc\r\n\r\nrest";
        for piece in 1..input.len() {
            let head = request(input, piece).unwrap();
            assert_eq!(head.method(), Method::GET);
            assert_eq!(head.uri(), "/a?b=c");
            assert_eq!(head.headers()["accept"], "*/*");
            assert_eq!(head.headers()["empty"], "");
            assert_eq!(head.headers()["a"], "b\tc");
        }
    }

    #[test]
    fn what_is_refused_is_refused_in_any_pieces() {
        let rows: &[(&[u8], Malformed)] = &[
            (b"GET / HTTP/1.1\nHost: x\r\n\r\n", Malformed::BareLineFeed),
            (b"GET / HTTP/1.1\r\nHost: x\n\r\n", Malformed::BareLineFeed),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\n", Malformed::BareLineFeed),
            (
                b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
                Malformed::BareCarriageReturn,
            ),
            (b"GET / HTTP/1.1\r\r\n\r\n", Malformed::BareCarriageReturn),
            (b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n", Malformed::ControlByte),
            (
                b"GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n",
                Malformed::ControlByte,
            ),
            (
                b"GET / HTTP/1.1\r\nA\x0b: b\r\n\r\n",
                Malformed::ControlByte,
            ),
            (b"\x16\x03\x01\x02\x00\x01", Malformed::ControlByte),
            (
                b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
                Malformed::FoldedLine,
            ),
            (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", Malformed::FoldedLine),
            (b" GET / HTTP/1.1\r\n\r\n", Malformed::FoldedLine),
            (
                b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                Malformed::LeadingLines,
            ),
            (b"GET / HTTP/2.0\r\n\r\n", Malformed::Version),
            (b"GET / HTTP/1.2\r\n\r\n", Malformed::Version),
            (b"GET / HTTP/0.9\r\n\r\n", Malformed::Version),
            (b"PRI * HTTP/2.0\r\n\r\n", Malformed::Version),
            (b"GET / http/1.1\r\n\r\n", Malformed::RequestLine),
            (b"GET / HTTP/1.10\r\n\r\n", Malformed::RequestLine),
            (b"GET / HTTP/1.1 \r\n\r\n", Malformed::RequestLine),
            (b"GET /\r\n\r\n", Malformed::RequestLine),
            (b"GET  / HTTP/1.1\r\n\r\n", Malformed::RequestLine),
            (b"GET\t/ HTTP/1.1\r\n\r\n", Malformed::RequestLine),
            (b"G@T / HTTP/1.1\r\n\r\n", Malformed::RequestLine),
            (b"GET /a b HTTP/1.1\r\n\r\n", Malformed::RequestLine),
            (b"GET a HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET * HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET /#a HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET ftp://a/ HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET http://u@a/ HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET a:80 HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"CONNECT / HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"CONNECT a HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"CONNECT http://a:80/ HTTP/1.1\r\n\r\n", Malformed::Target),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", Malformed::FieldLine),
            (b"GET / HTTP/1.1\r\nA\t: b\r\n\r\n", Malformed::FieldLine),
            (b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", Malformed::FieldLine),
            (b"GET / HTTP/1.1\r\n: b\r\n\r\n", Malformed::FieldLine),
            (b"GET / HTTP/1.1\r\nA\r\n\r\n", Malformed::FieldLine),
            (b"GET / HTTP/1.1\r\nA(: b\r\n\r\n", Malformed::FieldLine),
            (
                b"GET / HTTP/1.1\r\n\xc3\xa9: b\r\n\r\n",
                Malformed::FieldLine,
            ),
        ];
        for (input, wanted) in rows {
            for piece in 1..=input.len() {
                let got = request(input, piece).map(|_| ()).unwrap_err();
                assert_eq!(
                    got,
                    *wanted,
                    "{:?} by {piece}",
                    String::from_utf8_lossy(input)
                );
            }
        }
    }

    #[test]
    fn targets() {
        for (line, authority) in [
            ("GET http://a:80/b HTTP/1.1", Some("a:80")),
            ("GET //a/b HTTP/1.1", None),
            ("OPTIONS * HTTP/1.1", None),
            ("CONNECT a:80 HTTP/1.1", Some("a:80")),
            ("CONNECT [::1]:80 HTTP/1.1", Some("[::1]:80")),
        ] {
            let head = request(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), 7).unwrap();
            assert_eq!(
                head.uri().authority().map(http::uri::Authority::as_str),
                authority
            );
        }
    }

    #[test]
    fn limits_come_early() {
        let scan = |input: &[u8]| Scanner::new(LIMITS).scan(input);
        let long = [b'a'; 1001];
        assert_eq!(scan(&long), Err(Malformed::TargetTooLong));
        assert_eq!(scan(&long[..1000]), Ok(Scanned::More));
        let field = [b"GET / HTTP/1.1\r\n".as_slice(), &long].concat();
        assert_eq!(scan(&field), Err(Malformed::HeadTooLarge));
        assert_eq!(
            scan(&[b'\r', b'\n'].repeat(3)),
            Err(Malformed::LeadingLines)
        );
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(21)].concat();
        assert_eq!(scan(&many), Err(Malformed::TooManyFields));
        let whole = [&field[..900], b"\r\n\r\n".as_slice(), &long].concat();
        assert!(matches!(scan(&whole), Ok(Scanned::Head { .. })));
    }

    #[test]
    fn control_bytes_are_found_anywhere() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b' '; length];
                    // Neighbours that a careless trick with words would take for one.
                    bytes.iter_mut().skip(at + 1).for_each(|b| *b = 0xff);
                    bytes[at] = byte;
                    let wanted = (byte < 0x20 || byte == 0x7f).then_some(at);
                    assert_eq!(
                        next_control(&bytes, 0),
                        wanted,
                        "{byte:#x} at {at} of {length}"
                    );
                    assert_eq!(next_control(&bytes, at), wanted);
                    assert_eq!(next_control(&bytes, at + 1), None);
                }
            }
        }
    }

    #[test]
    fn responses() {
        let parse = |text: &str| {
            let lines = text.matches("\r\n").count() - 1;
            parse_response(&Bytes::copy_from_slice(text.as_bytes()), lines)
        };
        let head = parse("HTTP/1.0 404 Not Found\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(
            (head.status.as_u16(), head.version),
            (404, Version::HTTP_10)
        );
        assert_eq!(parse("HTTP/1.1 200\r\n\r\n").unwrap().status, 200);
        assert_eq!(
            parse("HTTP/2.0 200 OK\r\n\r\n").unwrap_err(),
            Malformed::Version
        );
        for wrong in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert_eq!(parse(wrong).unwrap_err(), Malformed::StatusLine, "{wrong}");
        }
        let folded = parse("HTTP/1.1 200 OK\r\nA : b\r\n\r\n").unwrap_err();
        assert_eq!(folded, Malformed::FieldLine);
    }
}
