//! The errors of TLS: what failed, and why, as `io::Error`s whose source is rustls's error.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use rustls::{CertificateError, InvalidMessage};

/// An error of rustls and what was being done.
#[derive(Debug)]
struct Failure {
    what: &'static str,
    error: rustls::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)?;
        f.write_str(match &self.error {
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => " (what the peer sent is not TLS)",
            // A bad signature is what a root of the same name and another key gives.
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => " (no root of the client's configuration stands behind it)",
            _ => "",
        })
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

#[cold]
pub(super) fn tls(what: &'static str, error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, Failure { what, error })
}

/// A mistake of this side: a configuration or a name.
#[cold]
pub(super) fn setup(what: &'static str, error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, Failure { what, error })
}

/// What rustls's writer says on a connection that has failed.
#[cold]
pub(super) fn broken(e: io::Error) -> io::Error {
    match e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(error) => tls("write to a TLS stream that has failed", error.clone()),
        None => e,
    }
}

#[cold]
pub(super) fn full(what: &'static str) -> io::Error {
    let text = format!("{what}: the peer sent a message that is too long");
    io::Error::new(ErrorKind::InvalidData, text)
}

#[cold]
pub(super) fn used_up() -> io::Error {
    let text = "the keys of this TLS 1.2 connection are used up: connect anew";
    io::Error::new(ErrorKind::ConnectionAborted, text)
}

#[cold]
pub(super) fn truncated() -> io::Error {
    let text = "the peer closed the connection without TLS's close_notify: \
                what came may be truncated";
    io::Error::new(ErrorKind::UnexpectedEof, text)
}

#[cold]
pub(super) fn cut_short() -> io::Error {
    let text = "TLS handshake: the peer closed the connection in the middle of it";
    io::Error::new(ErrorKind::UnexpectedEof, text)
}

#[cold]
pub(super) fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "TLS handshake: it took too long")
}

#[cold]
pub(super) fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, what)
}

#[cold]
pub(super) fn shut_down() -> io::Error {
    let text = "write to a TLS stream that was shut down for writing";
    io::Error::new(ErrorKind::BrokenPipe, text)
}

/// In a destructor of a task that unwinds, where it may not wait.
#[cold]
pub(super) fn unwinding() -> io::Error {
    io::Error::other(
        "another task is using this TLS stream, and this one unwinds (a panic, a kill or a \
         time-out) and may not wait for it",
    )
}
