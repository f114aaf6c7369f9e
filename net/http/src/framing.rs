//! How long the body of a message is: RFC 9112 section 6.3, read strictly.
//!
//! [`Fields`] collects what matters for it, and for the fate of the connection, while the fields of
//! a head are parsed; [`Fields::request_body`] and [`Fields::response_body`] decide. Whatever two
//! implementations could read differently is refused, for that is what request smuggling is made
//! of: lists and repetitions of `Content-Length` too, even if they agree.
//!
//! No input and output, and no clock, here or in `head.rs` and `chunked.rs`.

use http::header::{self, HeaderName};
use http::{Method, StatusCode, Version};

use crate::error::Malformed;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// After so many bytes.
    Exact(u64),
    /// After the last chunk.
    Chunked,
    /// Where the connection ends; in responses only.
    UntilClose,
}

impl Length {
    pub(crate) const NONE: Self = Self::Exact(0);
}

/// `Transfer-Encoding`, as far as it has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    Wrong(Malformed),
}

/// What the fields of a head say about framing and about the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields {
    length: Option<Result<u64, Malformed>>,
    coding: Coding,
    hosts: u32,
    bad_host: bool,
    expectation: Option<Result<(), Malformed>>,
    /// `Connection: close`.
    pub(crate) close: bool,
    /// `Connection: keep-alive`.
    pub(crate) keep_alive: bool,
}

impl Fields {
    /// Takes note of one field.
    pub(crate) fn see(&mut self, name: &HeaderName, value: &[u8]) {
        if *name == header::HOST {
            self.hosts += 1;
            self.bad_host |= !is_host(value);
        } else if *name == header::CONNECTION {
            for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == header::CONTENT_LENGTH {
            self.length = Some(match self.length {
                None => number(value).ok_or(Malformed::ContentLength),
                Some(_) => Err(Malformed::ContentLength),
            });
        } else if *name == header::TRANSFER_ENCODING {
            self.coding = match self.coding {
                Coding::None => coding(value),
                _ => Coding::Wrong(Malformed::TransferEncoding),
            };
        } else if *name == header::EXPECT {
            self.expectation = Some(match self.expectation {
                None if value.eq_ignore_ascii_case(b"100-continue") => Ok(()),
                _ => Err(Malformed::Expectation),
            });
        }
    }

    /// What a request's fields must say beside the length of the body; whether it expects to be
    /// told to go on.
    pub(crate) fn check_request(&self, version: Version) -> Result<bool, Malformed> {
        let hosts = if version == Version::HTTP_11 {
            1..=1
        } else {
            0..=1
        };
        if !hosts.contains(&self.hosts) || self.bad_host {
            return Err(Malformed::Host);
        }
        match self.expectation {
            // RFC 9110 section 10.1.1: from an older client it means nothing.
            Some(expectation) if version == Version::HTTP_11 => expectation.map(|()| true),
            _ => Ok(false),
        }
    }

    /// The length of a request's body.
    pub(crate) fn request_body(
        &self,
        method: &Method,
        version: Version,
    ) -> Result<Length, Malformed> {
        let length = self.declared(version)?;
        match length {
            Some(_) if *method == Method::CONNECT => Err(Malformed::ConnectWithBody),
            found => Ok(found.unwrap_or(Length::NONE)),
        }
    }

    /// The length of a response's body.
    pub(crate) fn response_body(
        &self,
        asked: &Method,
        status: StatusCode,
        version: Version,
    ) -> Result<Length, Malformed> {
        if is_bodiless(asked.into(), status) {
            return Ok(Length::NONE);
        }
        let declared = self.declared(version)?;
        Ok(declared.unwrap_or(Length::UntilClose))
    }

    fn declared(&self, version: Version) -> Result<Option<Length>, Malformed> {
        match (self.coding, self.length) {
            (Coding::None, None) => Ok(None),
            (Coding::None, Some(length)) => length.map(|n| Some(Length::Exact(n))),
            (_, Some(_)) => Err(Malformed::TransferAndLength),
            (_, None) if version == Version::HTTP_10 => Err(Malformed::TransferInOldVersion),
            (Coding::Chunked, None) => Ok(Some(Length::Chunked)),
            (Coding::Wrong(malformed), None) => Err(malformed),
        }
    }

    /// Whether the connection may carry another exchange afterwards.
    pub(crate) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// Whether a response has no body, whatever its fields say.
pub(crate) fn is_bodiless(asked: Kind, status: StatusCode) -> bool {
    asked == Kind::Head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || (asked == Kind::Connect && status.is_success())
}

/// What of a method matters for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Head,
    Connect,
    Other,
}

impl From<&Method> for Kind {
    fn from(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            Method::CONNECT => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// `1*DIGIT`, below 2^64.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

fn coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let mut names = value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |name: &[u8]| name.eq_ignore_ascii_case(b"chunked");
    // Others, and `chunked` once, at the end: legal, and not supported.
    let legal = names.next_back().is_some_and(is_chunked)
        && names.all(|name| !is_chunked(name) && is_token(name));
    Coding::Wrong(if legal {
        Malformed::UnknownCoding
    } else {
        Malformed::TransferEncoding
    })
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    let is_in = |b: &u8| b.is_ascii_alphanumeric() || special.contains(b);
    !text.is_empty() && text.iter().all(is_in)
}

/// Bytes of a registered name.
const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let special = b"-._~%!$&'()*+;=";
    let mut i = 0;
    while i < special.len() {
        table[special[i] as usize] = true;
        i += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        table[byte] |= (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// `uri-host [":" port]`, possibly empty. Commas, which the grammar allows in names, are refused:
/// some take them for a list.
fn is_host(text: &[u8]) -> bool {
    let rest = match text.first() {
        Some(b'[') => {
            let in_address = |b: &&u8| IN_HOST[usize::from(**b)] || **b == b':';
            let inside = text[1..].iter().take_while(in_address).count();
            match &text[1 + inside..] {
                [b']', rest @ ..] => rest,
                _ => return false,
            }
        }
        _ => {
            let in_name = |b: &&u8| IN_HOST[usize::from(**b)];
            &text[text.iter().take_while(in_name).count()..]
        }
    };
    match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(rows: &[(&'static str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in rows {
            fields.see(&HeaderName::from_static(name), value.as_bytes());
        }
        fields
    }

    fn request(rows: &[(&'static str, &str)]) -> Result<Length, Malformed> {
        fields(rows).request_body(&Method::POST, Version::HTTP_11)
    }

    #[test]
    fn a_length_is_one_plain_number() {
        let length = |value| request(&[("content-length", value)]);
        assert_eq!(length("0"), Ok(Length::NONE));
        assert_eq!(length("18446744073709551615"), Ok(Length::Exact(u64::MAX)));
        assert_eq!(length("0005"), Ok(Length::Exact(5)));
        for wrong in [
            "",
            "-1",
            "+1",
            "1 2",
            " 1",
            "1,1",
            "1, 1",
            "0x10",
            "1e3",
            "1.0",
            "18446744073709551616",
            "99999999999999999999",
            "000000000000000000001",
            "\u{661}",
        ] {
            assert_eq!(length(wrong), Err(Malformed::ContentLength), "{wrong:?}");
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(request(&twice), Err(Malformed::ContentLength));
    }

    #[test]
    fn a_coding_is_chunked_and_nothing_else() {
        let coding = |value| request(&[("transfer-encoding", value)]);
        assert_eq!(coding("chunked"), Ok(Length::Chunked));
        assert_eq!(coding("Chunked"), Ok(Length::Chunked));
        assert_eq!(coding("gzip, chunked"), Err(Malformed::UnknownCoding));
        for wrong in [
            "",
            "identity",
            "gzip",
            "chunked, chunked",
            "chunked, identity",
            "xchunked",
            "chunked;q=1",
            "chunked,",
            ", chunked",
            "chunked\u{b}",
            "\"chunked\"",
            "chunked gzip",
        ] {
            assert_eq!(coding(wrong), Err(Malformed::TransferEncoding), "{wrong:?}");
        }
        let twice = [
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(request(&twice), Err(Malformed::TransferEncoding));
        let both = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(request(&both), Err(Malformed::TransferAndLength));
        let old = fields(&both[..1]).request_body(&Method::POST, Version::HTTP_10);
        assert_eq!(old, Err(Malformed::TransferInOldVersion));
    }

    #[test]
    fn responses_without_a_body() {
        let five = fields(&[("content-length", "5")]);
        let body = |asked: Method, status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            five.response_body(&asked, status, Version::HTTP_11)
                .unwrap()
        };
        assert_eq!(body(Method::GET, 200), Length::Exact(5));
        assert_eq!(body(Method::CONNECT, 404), Length::Exact(5));
        for (asked, status) in [
            (Method::HEAD, 200),
            (Method::GET, 100),
            (Method::GET, 101),
            (Method::GET, 204),
            (Method::GET, 304),
            (Method::CONNECT, 200),
        ] {
            assert_eq!(body(asked, status), Length::NONE);
        }
        let none = fields(&[]).response_body(&Method::GET, StatusCode::OK, Version::HTTP_11);
        assert_eq!(none, Ok(Length::UntilClose));
    }

    #[test]
    fn hosts() {
        for right in [
            "",
            "a",
            "a.b:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "a_b",
            "x:",
        ] {
            assert!(is_host(right.as_bytes()), "{right}");
        }
        for wrong in [
            "a b", "a/b", "a@b", "a,b", "a:b", "a:80:80", "[::1", "::1", "a?b", "a#b", "\u{e9}",
            "a:999999", "http://a", "[::1]x", "a\\b",
        ] {
            assert!(!is_host(wrong.as_bytes()), "{wrong}");
        }
    }
}
