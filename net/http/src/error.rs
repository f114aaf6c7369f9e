//! What can be wrong with what the other end sends ([`Malformed`]), with a body ([`BodyError`]) and
//! with a request of the client ([`Error`]).

use std::fmt;
use std::io;

use http::StatusCode;

/// A message that is refused: it breaks RFC 9112, or two implementations may read it differently.
///
/// A server answers with [`status`](Self::status) and closes the connection; a client fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// A line ends with LF alone.
    BareLineFeed,
    /// A CR that no LF follows.
    BareCarriageReturn,
    /// A control byte, such as NUL, in a head.
    ControlByte,
    /// A field that goes on in the next line (obs-fold), or a line that begins with a space.
    FoldedLine,
    /// More than a few empty lines before the head.
    LeadingLines,
    /// The first line is not `METHOD TARGET VERSION`.
    RequestLine,
    /// The first line is not `VERSION STATUS REASON`.
    StatusLine,
    /// A version that is neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A target that is no URI, or not of the form that its method wants.
    Target,
    /// A field line that is not `NAME: VALUE`.
    FieldLine,
    /// More fields than the limit.
    TooManyFields,
    /// A head with more bytes than the limit.
    HeadTooLarge,
    /// A first line that does not fit into the limit of the head.
    TargetTooLong,
    /// No `Host` in HTTP/1.1, more than one, or one that is no host.
    Host,
    /// `Content-Length` that is not one number, or is there twice.
    ContentLength,
    /// `Transfer-Encoding` that is not `chunked`, once.
    TransferEncoding,
    /// `Transfer-Encoding` with a coding that is not supported.
    UnknownCoding,
    /// `Transfer-Encoding` and `Content-Length` in one message.
    TransferAndLength,
    /// `Transfer-Encoding` in HTTP/1.0.
    TransferInOldVersion,
    /// `Expect` with something other than `100-continue`.
    Expectation,
    /// `CONNECT` with a body.
    ConnectWithBody,
    /// A chunk whose size is no hexadecimal number below 2^64.
    ChunkSize,
    /// A chunk that does not end where its size says.
    ChunkEnd,
    /// Chunk extensions that are too long, or have control bytes.
    ChunkExtension,
    /// Trailer fields that are malformed, or that may not be trailers.
    Trailer,
    /// More trailer fields, or bytes of them, than the limit.
    TrailerTooLarge,
}

impl Malformed {
    /// The status that a server answers with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TooManyFields | Self::HeadTooLarge | Self::TrailerTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::BareLineFeed => "a line ends with LF alone",
            Self::BareCarriageReturn => "a CR is not followed by LF",
            Self::ControlByte => "there is a control byte in the head",
            Self::FoldedLine => "a line of the head begins with a space",
            Self::LeadingLines => "there are too many empty lines before the head",
            Self::RequestLine => "the first line is not METHOD TARGET VERSION",
            Self::StatusLine => "the first line is not VERSION STATUS REASON",
            Self::Version => "the version is neither HTTP/1.0 nor HTTP/1.1",
            Self::Target => "the target is not one for this method",
            Self::FieldLine => "a line of the head is not NAME: VALUE",
            Self::TooManyFields => "there are too many fields",
            Self::HeadTooLarge => "the head is too large",
            Self::TargetTooLong => "the first line is too long",
            Self::Host => "there is not exactly one valid Host",
            Self::ContentLength => "Content-Length is not one number",
            Self::TransferEncoding => "Transfer-Encoding is not chunked, once",
            Self::UnknownCoding => "Transfer-Encoding has a coding that is not supported",
            Self::TransferAndLength => "there are both Transfer-Encoding and Content-Length",
            Self::TransferInOldVersion => "there is Transfer-Encoding in HTTP/1.0",
            Self::Expectation => "Expect is not 100-continue",
            Self::ConnectWithBody => "CONNECT has a body",
            Self::ChunkSize => "the size of a chunk is no hexadecimal number below 2^64",
            Self::ChunkEnd => "a chunk does not end where its size says",
            Self::ChunkExtension => "chunk extensions are too long or malformed",
            Self::Trailer => "a trailer field is malformed or may not be one",
            Self::TrailerTooLarge => "there are too many trailer fields",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Malformed {}

/// Why a body could not be read to its end. It is inside of the [`io::Error`] that reading gives:
/// `e.get_ref()?.downcast_ref::<BodyError>()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyError {
    /// The framing is wrong (`InvalidData`).
    Malformed(Malformed),
    /// It is larger than the limit, in bytes (`FileTooLarge`).
    TooLarge(u64),
    /// The connection ended before the body did (`UnexpectedEof`).
    Truncated,
    /// Nothing came for too long (`TimedOut`).
    TimedOut,
    /// The exchange that the body belongs to is over (`NotConnected`).
    Revoked,
    /// Text was asked for, and it is not UTF-8 (`InvalidData`).
    NotText,
}

impl BodyError {
    /// The status that a server answers with, if nothing was answered yet.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Malformed(malformed) => malformed.status(),
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "malformed body: {malformed}"),
            Self::TooLarge(limit) => write!(f, "the body is larger than {limit} bytes"),
            Self::Truncated => f.write_str("the connection ended before the body did"),
            Self::TimedOut => f.write_str("nothing of the body came within the time-out"),
            Self::Revoked => f.write_str(
                "the exchange that this body belongs to is over: read it before the handler \
                 returns, or make it the response's",
            ),
            Self::NotText => f.write_str("the body is not UTF-8"),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<Malformed> for BodyError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<BodyError> for io::Error {
    fn from(e: BodyError) -> Self {
        let kind = match e {
            BodyError::Malformed(_) | BodyError::NotText => io::ErrorKind::InvalidData,
            BodyError::TooLarge(_) => io::ErrorKind::FileTooLarge,
            BodyError::Truncated => io::ErrorKind::UnexpectedEof,
            BodyError::TimedOut => io::ErrorKind::TimedOut,
            BodyError::Revoked => io::ErrorKind::NotConnected,
        };
        Self::new(kind, e)
    }
}

/// Why a request of a [`Client`](crate::Client) has no response.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The URL is none that a client can ask for; the text says why.
    Url(String, &'static str),
    /// No connection to this host and port.
    Connect(String, io::Error),
    /// The request could not be sent, and there was no response either.
    Send(io::Error),
    /// The response's head could not be received.
    Receive(io::Error),
    /// The server closed the connection without a response.
    NoResponse,
    /// The response is not HTTP/1.1, or is larger than the limits.
    Malformed(Malformed),
    /// The time-out of the whole request passed.
    TimedOut,
    /// More redirects than the limit, which is this.
    Redirects(u32),
}

impl Error {
    /// Whether a time-out is the cause.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Connect(_, e) | Self::Send(e) | Self::Receive(e) => {
                e.kind() == io::ErrorKind::TimedOut
            }
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, why) => write!(f, "cannot ask for '{url}': {why}"),
            Self::Connect(host, e) => write!(f, "cannot connect to {host}: {e}"),
            Self::Send(e) => write!(f, "the request could not be sent: {e}"),
            Self::Receive(e) => write!(f, "the response could not be received: {e}"),
            Self::NoResponse => f.write_str("the server closed the connection without a response"),
            Self::Malformed(malformed) => write!(f, "malformed response: {malformed}"),
            Self::TimedOut => f.write_str("the request's time-out passed"),
            Self::Redirects(limit) => write!(f, "more than {limit} redirects"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(_, e) | Self::Send(e) | Self::Receive(e) => Some(e),
            Self::Malformed(malformed) => Some(malformed),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> Self {
        let kind = match &e {
            Error::Url(..) => io::ErrorKind::InvalidInput,
            Error::Connect(_, e) | Error::Send(e) | Error::Receive(e) => e.kind(),
            Error::NoResponse => io::ErrorKind::UnexpectedEof,
            Error::Malformed(_) => io::ErrorKind::InvalidData,
            Error::TimedOut => io::ErrorKind::TimedOut,
            Error::Redirects(_) => io::ErrorKind::Other,
        };
        Self::new(kind, e)
    }
}
