//! What a connection knows of an exchange while it answers: what was asked, what is to be logged,
//! why it is refused; and how the body of a response is framed.

use std::time::Instant;

use http::header;
use http::{Method, Response, StatusCode, Uri, Version, response};

use crate::body::Body;
use crate::encode::Announce;
use crate::error::{BodyError, Malformed};
use crate::framing::{self, Length, is_bodiless};

pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) why: String,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self {
            status: malformed.status(),
            why: malformed.to_string(),
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(e: BodyError) -> Self {
        Self {
            status: e.status(),
            why: e.to_string(),
        }
    }
}

/// What the log wants to know, taken before the handler has the request.
pub(crate) struct Noted {
    pub(crate) begun: Instant,
    pub(crate) request: Option<(Method, Uri)>,
}

/// What is kept of a request for its response.
pub(crate) struct Asked {
    pub(crate) kind: framing::Kind,
    pub(crate) version: Version,
    pub(crate) persists: bool,
}

pub(crate) fn internal_error() -> (response::Parts, Body) {
    let mut response = Response::new("Internal Server Error\n".into());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.into_parts()
}

/// What the head says of the body, and how that is sent; `None`: it is not.
pub(crate) fn frame(
    asked: &Asked,
    parts: &mut response::Parts,
    body: &Body,
) -> (Announce, Option<Length>) {
    let (least, most) = body.size_hint();
    let size = most.filter(|most| *most == least);
    if is_bodiless(asked.kind, parts.status) {
        let is_head = asked.kind == framing::Kind::Head
            && parts.status != StatusCode::NO_CONTENT
            && !parts.status.is_informational();
        if !is_head && parts.status != StatusCode::NOT_MODIFIED {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        return match size {
            Some(size) if is_head && size > 0 && parts.status != StatusCode::NOT_MODIFIED => {
                (Announce::Length(Length::Exact(size)), None)
            }
            _ => (Announce::Nothing, None),
        };
    }
    // Whoever streams may know the length all the same.
    let given = || {
        let value = parts.headers.get(header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    let length = match size.or_else(given) {
        Some(size) => Length::Exact(size),
        None if asked.version == Version::HTTP_11 => Length::Chunked,
        None => Length::UntilClose,
    };
    (Announce::Length(length), Some(length))
}
