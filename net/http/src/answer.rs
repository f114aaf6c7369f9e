//! What a handler may return ([`IntoResponse`]), what is told about each exchange ([`Access`]), and
//! where a request came from ([`Peer`]).

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{Method, Response, StatusCode, Uri, response};

use crate::body::Body;

/// What a handler returns: a response with any body that is a [`Body`] by `into`, or a `Result` of
/// one, whose error becomes `500 Internal Server Error`; its text goes to
/// [`on_access`](crate::Server::on_access), and not to the client.
pub trait IntoResponse {
    /// Takes it apart; the error is its text.
    ///
    /// # Errors
    /// What the handler's was.
    fn into_parts(self) -> Result<(response::Parts, Body), String>;
}

impl<B: Into<Body>> IntoResponse for Response<B> {
    fn into_parts(self) -> Result<(response::Parts, Body), String> {
        let (parts, body) = Self::into_parts(self);
        Ok((parts, body.into()))
    }
}

impl<B: Into<Body>, E: fmt::Display> IntoResponse for Result<Response<B>, E> {
    fn into_parts(self) -> Result<(response::Parts, Body), String> {
        match self {
            Ok(response) => IntoResponse::into_parts(response),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// Where a request came from: in its extensions, if [`Server::with_peer`](crate::Server::with_peer)
/// asked for it.
///
/// # Examples
/// ```
/// use http::{Request, Response};
/// use sward_http::{Body, Peer};
///
/// fn who(request: Request<Body>) -> Response<String> {
///     let peer = request.extensions().get::<Peer>();
///     Response::new(peer.map_or_else(String::new, |peer| peer.addr.to_string()))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer<A = SocketAddr> {
    /// The client's address.
    pub addr: A,
    /// The address that the server listens on.
    pub local: A,
}

/// One exchange, for a log; see [`on_access`](crate::Server::on_access).
#[derive(Debug)]
#[non_exhaustive]
pub struct Access<'a> {
    /// The method; `None` if the request was refused before it was known.
    pub method: Option<&'a Method>,
    /// The target; `None` as above.
    pub target: Option<&'a Uri>,
    /// The status that was answered.
    pub status: StatusCode,
    /// Bytes of the response's body that were sent.
    pub bytes: u64,
    /// From the end of the request's head to the end of the response.
    pub duration: Duration,
    /// The client's address.
    pub peer: &'a dyn fmt::Debug,
    /// What went wrong: why the request was refused, the handler's error, or how sending failed.
    pub error: Option<&'a str>,
}

/// What a server has counted; see [`Serving::stats`](crate::Serving::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that were answered by the handler.
    pub answered: u64,
    /// Requests that were refused without it, or instead of its answer.
    pub refused: u64,
    /// Handlers and bodies that panicked.
    pub panicked: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) panicked: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            answered: self.answered.load(Relaxed),
            refused: self.refused.load(Relaxed),
            panicked: self.panicked.load(Relaxed),
        }
    }
}
