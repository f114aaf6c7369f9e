//! [`Client`]: requests over connections that are kept for the next ones.
//!
//! A request takes a connection from the pool, or makes one; the body of the response has it while
//! it is read, and gives it back at its end. A server may close a kept connection at any moment,
//! also the one in which a request is sent. Then the request is sent again, once and on a new
//! connection, if it may be done twice and its body is there to be sent twice.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use http::{Method, Request, Response, StatusCode, Uri, request};
#[cfg(feature = "tls")]
use sward_net::tls;
use sward_net::{ConnectOptions, Stream};
use sward_runtime::{now, timeout};

use crate::body::{Body, Kind};
use crate::buffer::Input;
use crate::encode::{self, Announce};
use crate::error::Error;
use crate::fetched::{Fetched, within};
use crate::framing::Length;
use crate::head::{HeadLimits, ResponseHead, Scanned, Scanner, parse_response};
use crate::inflow::Inflow;
use crate::outflow::Outflow;
use crate::pool::{Keep, Key, Pool, Wire};
use crate::redirect::follow;

#[derive(Clone, Copy, Debug)]
struct Settings {
    redirects: u32,
    connect_time: Duration,
    read_time: Duration,
    write_time: Duration,
    whole_time: Option<Duration>,
    head: HeadLimits,
    keep: Keep,
}

/// An HTTP client: requests in blocking style, and connections that are used again.
///
/// Clones share the connections, and have settings of their own. Redirects are not followed unless
/// [`redirects`](Self::redirects) says so, and nothing is decompressed.
///
/// # Examples
/// ```
/// use http::Response;
/// use sward_http::{Client, Server};
///
/// let server = Server::bind("127.0.0.1:0")?.start(|_| Response::new("hello"))?;
/// let client = Client::new();
/// let response = client.get(&format!("http://{}/", server.local_addr()))?;
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.into_body().text()?, "hello");
/// # server.stop(std::time::Duration::ZERO);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Client {
    settings: Settings,
    pool: Arc<Pool>,
    /// That of [`tls::client_config`] unless told.
    #[cfg(feature = "tls")]
    tls: Option<Arc<tls::rustls::ClientConfig>>,
}

impl Client {
    /// A client with the settings that its methods name.
    pub fn new() -> Self {
        let settings = Settings {
            redirects: 0,
            connect_time: Duration::from_secs(10),
            read_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            whole_time: None,
            head: HeadLimits {
                bytes: 64 * 1024,
                fields: 256,
            },
            keep: Keep {
                per_host: 8,
                time: Duration::from_secs(30),
            },
        };
        Self {
            settings,
            pool: Arc::new(Pool::new()),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The configuration for https; unless told, servers are trusted that browsers trust
    /// ([`tls::client_config`]). The connections of other clones are not used any more: they were
    /// made by another configuration.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<tls::rustls::ClientConfig>>) -> Self {
        self.tls = Some(config.into());
        self.pool = Arc::new(Pool::new());
        self
    }

    /// How many redirects a request follows; none unless told, so that a response may be one.
    ///
    /// After 301, 302 and 303 it goes on as `GET` without the body; after 307 and 308 with the
    /// body, if that is there to be sent again. Credentials are not sent to another origin.
    pub fn redirects(mut self, most: u32) -> Self {
        self.settings.redirects = most;
        self
    }

    /// For looking the name up and connecting; 10 s unless told.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_time = limit;
        self
    }

    /// For each read of a response, its body included; 30 s unless told.
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.settings.read_time = limit.max(Duration::from_millis(1));
        self
    }

    /// For each send; 30 s unless told.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.settings.write_time = limit.max(Duration::from_millis(1));
        self
    }

    /// For the whole request with its redirects, to the end of the response's body; none unless
    /// told.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.whole_time = Some(limit);
        self
    }

    /// Bytes of a response's head; 64 KiB unless told.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.settings.head.bytes = bytes;
        self
    }

    /// How many connections to one origin are kept, and for how long; 8 and 30 s unless told.
    pub fn keep(mut self, per_host: usize, time: Duration) -> Self {
        self.settings.keep = Keep { per_host, time };
        self
    }

    /// The connections that are kept just now.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle()
    }

    /// Asks for a page.
    ///
    /// # Blocking
    /// Parks until the head of the response has come; honours kill and `timeout`.
    ///
    /// # Errors
    /// See [`Error`]. A status such as 404 is none.
    pub fn get(&self, url: &str) -> Result<Response<Body>, Error> {
        self.send(Method::GET, url, Body::empty())
    }

    /// Sends a body.
    ///
    /// # Blocking
    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, url: &str, body: impl Into<Body>) -> Result<Response<Body>, Error> {
        self.send(Method::POST, url, body.into())
    }

    fn send(&self, method: Method, url: &str, body: Body) -> Result<Response<Body>, Error> {
        let uri = url.parse::<Uri>();
        let uri = uri.map_err(|_| Error::Url(url.to_owned(), "it is no URL"))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        self.request(request)
    }

    /// Sends a request, whose URI must be a whole URL.
    ///
    /// `Host` is added if it is not there. The body is framed by what it is: with a length if that
    /// is known, else chunked; fields that say otherwise are not sent. `Expect` is sent as it is,
    /// but not waited for.
    ///
    /// # Blocking
    /// As [`get`](Self::get), and while the body is sent.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn request<B: Into<Body>>(&self, request: Request<B>) -> Result<Response<Body>, Error> {
        let (mut parts, body) = request.into_parts();
        let mut body = body.into();
        let whole_time = self.settings.whole_time;
        let deadline = whole_time.and_then(|limit| now().checked_add(limit));
        let mut followed = 0;
        loop {
            // What can be sent again.
            let kept = match &body.0 {
                Kind::Full(bytes) => Some(bytes.clone()),
                _ => None,
            };
            let response = self.exchange(&parts, body, kept.clone(), deadline)?;
            if self.settings.redirects == 0 {
                return Ok(response);
            }
            let Some(next) = follow(&mut parts, &response, kept) else {
                return Ok(response);
            };
            if followed == self.settings.redirects {
                return Err(Error::Redirects(followed));
            }
            followed += 1;
            body = next;
        }
    }

    /// One request, one response.
    fn exchange(
        &self,
        parts: &request::Parts,
        body: Body,
        kept: Option<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Error> {
        let key = key_of(&parts.method, &parts.uri)?;
        let may_repeat = parts.method.is_idempotent();
        if let Some(wire) = self.pool.take(&key, self.settings.keep) {
            match self.attempt(wire, &key, parts, body, deadline) {
                // It was closed while nobody looked.
                Err(Failed { stale: true, .. }) if may_repeat && kept.is_some() => {
                    let body = Body::from(kept.unwrap_or_default());
                    return self.afresh(&key, parts, body, deadline);
                }
                done => return done.map_err(|failed| failed.error),
            }
        }
        self.afresh(&key, parts, body, deadline)
    }

    fn afresh(
        &self,
        key: &Key,
        parts: &request::Parts,
        body: Body,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Error> {
        let limit = within(self.settings.connect_time, deadline).ok_or(Error::TimedOut)?;
        let wire = timeout(limit, || self.connect(key)).unwrap_or_else(|late| Err(late.into()));
        let name = || format!("{}:{}", key.host, key.port);
        let wire = wire.map_err(|e| Error::Connect(name(), e))?;
        let done = self.attempt(wire, key, parts, body, deadline);
        done.map_err(|failed| failed.error)
    }

    fn connect(&self, key: &Key) -> io::Result<Wire> {
        let options = ConnectOptions::new().nodelay(true);
        let stream = options.connect((key.host.as_str(), key.port))?;
        #[cfg(feature = "tls")]
        if key.tls {
            let config = match &self.tls {
                Some(config) => config.clone(),
                None => tls::client_config()?,
            };
            let stream = tls::connect_with(config, &key.host, stream)?;
            stream.handshake()?;
            return Ok(Wire::Tls(Box::new(stream)));
        }
        Ok(Wire::Tcp(stream))
    }

    fn attempt(
        &self,
        wire: Wire,
        key: &Key,
        parts: &request::Parts,
        body: Body,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Failed> {
        let Settings {
            write_time,
            read_time,
            head: limits,
            keep,
            ..
        } = self.settings;
        let limit = within(write_time, deadline).ok_or(Error::TimedOut)?;
        wire.set_write_timeout(Some(limit)).map_err(Error::Send)?;
        let sent = send_request(&wire, parts, body);

        // Whoever refuses a body may answer before it has come, and close.
        let mut input = Input::default();
        let head = loop {
            let head = receive_head(&wire, &mut input, limits, read_time, deadline);
            match (head, &sent) {
                (Ok(head), _) if is_interim(head.status) => {}
                (Ok(head), _) => break head,
                (Err(failed), Ok(())) => return Err(failed),
                (Err(failed), Err(_)) => {
                    let error = sent.map_err(Error::Send).err();
                    return Err(Failed {
                        error: error.unwrap_or(failed.error),
                        stale: failed.stale,
                    });
                }
            }
        };
        let ResponseHead {
            status,
            version,
            headers,
            fields,
        } = head;
        let length = fields
            .response_body(&parts.method, status, version)
            .map_err(Error::Malformed)?;
        let persists = sent.is_ok()
            && fields.persists(version)
            && length != Length::UntilClose
            && status != StatusCode::SWITCHING_PROTOCOLS
            && !encode::says_close(&parts.headers);
        let mut fetched = Fetched {
            wire: Some(wire),
            inflow: Inflow::new(input, length, u64::MAX),
            home: persists.then(|| (self.pool.clone(), key.clone(), keep)),
            read_time,
            deadline,
        };
        fetched.give_back();
        let body = match length {
            Length::NONE => Body::empty(),
            _ => Body(Kind::Incoming(Box::new(fetched))),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("settings", &self.settings)
            .field("idle_connections", &self.idle_connections())
            .finish()
    }
}

/// An attempt without a response.
struct Failed {
    error: Error,
    /// The connection ended before the first byte of one.
    stale: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let stale = false;
        Self { error, stale }
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn key_of(method: &Method, uri: &Uri) -> Result<Key, Error> {
    let wrong = |why| Error::Url(uri.to_string(), why);
    if *method == Method::CONNECT {
        return Err(wrong("CONNECT is not supported"));
    }
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(wrong("scheme and host are wanted, as in http://host/"));
    };
    let (tls, port) = match scheme.as_str() {
        "http" => (false, 80),
        "https" if cfg!(feature = "tls") => (true, 443),
        "https" => return Err(wrong("https needs the feature `tls`")),
        _ => return Err(wrong("the scheme is not http")),
    };
    if authority.as_str().contains('@') {
        return Err(wrong("credentials belong in a field"));
    }
    let host = authority
        .host()
        .trim_matches(['[', ']'])
        .to_ascii_lowercase();
    if host.is_empty() {
        return Err(wrong("there is no host"));
    }
    let port = authority.port_u16().unwrap_or(port);
    Ok(Key { tls, host, port })
}

fn send_request(wire: &Wire, parts: &request::Parts, body: Body) -> io::Result<()> {
    let (least, most) = body.size_hint();
    let given = || {
        let value = parts.headers.get(header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    let size = most.filter(|most| *most == least).or_else(given);
    let wants_body = [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
    let (announce, length) = match size {
        Some(0) if !wants_body => (Announce::Nothing, Length::NONE),
        Some(size) => (Announce::Length(Length::Exact(size)), Length::Exact(size)),
        None => (Announce::Length(Length::Chunked), Length::Chunked),
    };
    let mut out = Vec::with_capacity(256);
    encode::request(
        &mut out,
        &parts.method,
        &parts.uri,
        &parts.headers,
        announce,
    );
    let mut outflow = Outflow {
        stream: wire,
        out: &mut out,
        length,
        sent: 0,
    };
    outflow.body(body)?;
    outflow.flush()
}

fn receive_head(
    wire: &Wire,
    input: &mut Input,
    limits: HeadLimits,
    read_time: Duration,
    deadline: Option<Instant>,
) -> Result<ResponseHead, Failed> {
    let mut scanner = Scanner::new(limits);
    loop {
        let scanned = scanner.scan(input.unread()).map_err(Error::Malformed)?;
        if let Scanned::Head { begin, end, lines } = scanned {
            input.skip(begin);
            let head = input.take(end - begin);
            return Ok(parse_response(&head, lines).map_err(Error::Malformed)?);
        }
        let limit = within(read_time, deadline).ok_or(Error::TimedOut)?;
        wire.set_read_timeout(Some(limit)).map_err(Error::Receive)?;
        let fresh = input.is_empty();
        match input.fill(wire) {
            Ok(0) => {
                return Err(Failed {
                    error: Error::NoResponse,
                    stale: fresh,
                });
            }
            Ok(_) => {}
            Err(e) => {
                return Err(Failed {
                    stale: fresh && e.kind() != io::ErrorKind::TimedOut,
                    error: Error::Receive(e),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let key = |url: &'static str| key_of(&Method::GET, &Uri::from_static(url));
        let found = key("http://A.b:81/c").unwrap();
        assert_eq!((found.host.as_str(), found.port), ("a.b", 81));
        let found = key("http://[::1]/").unwrap();
        assert_eq!((found.host.as_str(), found.port), ("::1", 80));
        for wrong in ["/a", "ftp://a/", "http://u:p@a/"] {
            assert!(matches!(key(wrong), Err(Error::Url(..))), "{wrong}");
        }
    }
}
