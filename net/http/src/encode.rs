//! Heads as they are sent. Framing and the fate of the connection are ours: what a handler says of
//! them in fields is read, and then written by us or not at all.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri, Version};

use crate::date;
use crate::framing::Length;

/// What a head says of the body that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announce {
    Length(Length),
    /// Nothing: there is none, and its length is not of interest (204, 304, HEAD).
    Nothing,
}

/// What `Connection` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persist {
    /// As the version has it.
    Default,
    Close,
    /// To a client of HTTP/1.0.
    KeepAlive,
    /// What the fields say: a switch of protocols.
    AsGiven,
}

/// Whether the fields say that the connection ends.
pub(crate) fn says_close(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONNECTION).iter();
    values.any(|value| value.as_bytes().split(|&b| b == b',').any(is_close))
}

/// Appends a response's head. Returns whether the connection may persist: the fields can say that
/// it does not.
pub(crate) fn response(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    announce: Announce,
    mut persist: Persist,
    second: u64,
) -> bool {
    out.reserve(256);
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let mut dated = false;
    for (name, value) in headers {
        if *name == header::CONNECTION && persist != Persist::AsGiven {
            if value.as_bytes().split(|&b| b == b',').any(is_close) {
                persist = Persist::Close;
            }
            continue;
        }
        if *name == header::CONTENT_LENGTH && announce != Announce::Nothing
            || *name == header::TRANSFER_ENCODING
        {
            continue;
        }
        dated |= *name == header::DATE;
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    framing(out, announce);
    match persist {
        Persist::Close => field(out, b"connection", b"close"),
        Persist::KeepAlive => field(out, b"connection", b"keep-alive"),
        Persist::Default | Persist::AsGiven => {}
    }
    if !dated {
        date::append(out, second);
    }
    out.extend_from_slice(b"\r\n");
    persist != Persist::Close
}

fn is_close(token: &[u8]) -> bool {
    token.trim_ascii().eq_ignore_ascii_case(b"close")
}

/// A request's head; the target is in origin form, and `Host` is written if it is not there.
pub(crate) fn request(
    out: &mut Vec<u8>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    announce: Announce,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    debug_assert_eq!(Version::default(), Version::HTTP_11);
    if !headers.contains_key(header::HOST) {
        let authority = uri.authority().map_or("", |a| a.as_str());
        field(out, b"host", authority.as_bytes());
    }
    for (name, value) in headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    framing(out, announce);
    out.extend_from_slice(b"\r\n");
}

fn framing(out: &mut Vec<u8>, announce: Announce) {
    match announce {
        Announce::Length(Length::Exact(n)) => {
            out.extend_from_slice(b"content-length: ");
            number(out, n);
            out.extend_from_slice(b"\r\n");
        }
        Announce::Length(Length::Chunked) => field(out, b"transfer-encoding", b"chunked"),
        Announce::Length(Length::UntilClose) | Announce::Nothing => {}
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(n % 10) as usize];
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn numbers() {
        for n in [0, 1, 9, 10, 99, 100, 12345, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, n);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }

    #[test]
    fn framing_is_never_the_handlers() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("99"));
        headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
        headers.insert("connection", HeaderValue::from_static("upgrade"));
        headers.insert("date", HeaderValue::from_static("then"));
        headers.append("x", HeaderValue::from_static("1"));
        headers.append("x", HeaderValue::from_static("2"));
        let announce = Announce::Length(Length::Exact(5));
        let mut out = Vec::new();
        response(
            &mut out,
            StatusCode::NOT_FOUND,
            &headers,
            announce,
            Persist::Close,
            0,
        );
        let text = String::from_utf8(out).unwrap();
        let wanted = "HTTP/1.1 404 Not Found\r\ndate: then\r\nx: 1\r\nx: 2\r\n\
                      content-length: 5\r\nconnection: close\r\n\r\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn requests() {
        let mut out = Vec::new();
        let uri = Uri::from_static("http://a:81?b=c");
        let none = HeaderMap::new();
        request(&mut out, &Method::GET, &uri, &none, Announce::Nothing);
        assert_eq!(out, b"GET /?b=c HTTP/1.1\r\nhost: a:81\r\n\r\n");
    }
}
