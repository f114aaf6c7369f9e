//! [`Endpoint`]: where a socket listens or connects to, as text such as `tcp://127.0.0.1:5555`.
//!
//! Nouns: the *scheme* (before `://`) names the transport; the rest is its *address*. The *canonical
//! text* is what an endpoint is shown and compared by: without needless brackets, port 0 as `*`.
//!
//! Grammar, with `?` for what may be left out:
//! ```text
//! tcp://[SOURCE;]?HOST:PORT   HOST: * | IPv4 | [IPv6] | [IPv6%SCOPE] | name   PORT: 1-65535 | * | 0
//! ipc://PATH | ipc://@NAME | ipc://*
//! inproc://NAME
//! ```
//! A name is an interface where one binds (SOURCE too), a host where one connects. Nothing is looked
//! up here: interfaces and hosts come and go, so the transport does that, each time anew.
//!
//! What is right for one purpose only is told apart by [`Endpoint::check_bind`] and
//! [`Endpoint::check_connect`], because the text alone does not say what it is for.
//!
//! Deviations from libzmq, which takes these: an IPv6 address without brackets (`::1:80` may be two
//! things), rubbish after a port (`5555x`), IPv4 addresses of less than four numbers, a connection
//! to port 0.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// The longest path of a Unix socket: `sun_path` without its final NUL.
const LONGEST_PATH: usize = 107;
/// The longest name of an inproc endpoint, as libzmq has it.
const LONGEST_NAME: usize = 256;
/// The longest host name (RFC 1035 section 2.3.4, as text).
const LONGEST_HOST: usize = 253;
/// The longest name of a network interface: `IFNAMSIZ` without its final NUL.
pub(crate) const LONGEST_INTERFACE: usize = 15;

/// Transports that other implementations have, and what there is instead.
const ABSENT: [(&str, &str); 10] = [
    ("pgm", "for one to many use PUB and SUB over tcp"),
    ("epgm", "for one to many use PUB and SUB over tcp"),
    ("norm", "for one to many use PUB and SUB over tcp"),
    (
        "udp",
        "it belongs to RADIO, DISH and DGRAM, which are drafts; use PUB and SUB over tcp, or a UDP \
         socket",
    ),
    ("ws", "use tcp"),
    ("wss", "use tcp"),
    ("tipc", "use tcp, or ipc within one machine"),
    ("vmci", "use tcp"),
    ("vsock", "use tcp"),
    ("hyperv", "use tcp"),
];

/// Where a socket listens or connects to. Cheap to clone.
///
/// | transport | to bind | to connect |
/// |---|---|---|
/// | `tcp` | `tcp://*:5555` (every interface), `tcp://127.0.0.1:5555`, `tcp://[::1]:5555`, `tcp://eth0:5555`; with `:*` a free port | `tcp://host:5555`, `tcp://127.0.0.1:5555`, `tcp://[fe80::1%eth0]:5555`; from a certain address: `tcp://eth0:*;host:5555` |
/// | `ipc` | `ipc:///run/my.sock`, `ipc://relative/path`, `ipc://@abstract`; `ipc://*` makes a name | the same, but `*` |
/// | `inproc` | `inproc://name` | the same |
///
/// Two endpoints are equal if their canonical texts are.
///
/// # Examples
/// ```
/// use sward_mq::Endpoint;
/// let endpoint: Endpoint = "tcp://[127.0.0.1]:05555".parse()?;
/// assert_eq!(endpoint.scheme(), "tcp");
/// assert_eq!(endpoint.to_string(), "tcp://127.0.0.1:5555");
/// let wrong = "tcp://127.0.0.1".parse::<Endpoint>().unwrap_err();
/// assert!(wrong.to_string().contains("port"));
/// # Ok::<(), sward_mq::EndpointError>(())
/// ```
#[derive(Clone)]
pub struct Endpoint(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    text: Box<str>,
    address: Address,
}

/// An endpoint's address, by transport.
#[derive(Debug)]
pub(crate) enum Address {
    Tcp(TcpAddress),
    Ipc(IpcAddress),
    /// Its name is the text behind `inproc://`.
    Inproc,
}

/// The address of a tcp endpoint.
#[derive(Debug)]
pub(crate) struct TcpAddress {
    /// Where connections come from; an interface, not a remote host.
    pub(crate) source: Option<HostPort>,
    pub(crate) target: HostPort,
}

/// A host and its port.
#[derive(Debug)]
pub(crate) struct HostPort {
    pub(crate) host: Host,
    /// `None`: a free one (`*`).
    pub(crate) port: Option<u16>,
}

/// A host as it was written.
#[derive(Debug)]
pub(crate) enum Host {
    /// `*`
    Any,
    /// An address, and the interface it belongs to (by name or number), for IPv6.
    Ip(IpAddr, Option<Box<str>>),
    /// The name of an interface or a host.
    Name(Box<str>),
}

/// The address of an ipc endpoint.
#[derive(Debug)]
pub(crate) enum IpcAddress {
    Path(Box<str>),
    /// Without the `@`.
    Abstract(Box<str>),
    Wildcard,
}

impl Endpoint {
    /// Returns the name of the transport: `tcp`, `ipc` or `inproc`.
    pub fn scheme(&self) -> &'static str {
        match self.0.address {
            Address::Tcp(_) => "tcp",
            Address::Ipc(_) => "ipc",
            Address::Inproc => "inproc",
        }
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Returns the port of a tcp endpoint; `None` for others, and for a wildcard.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::Endpoint;
    /// let port = |text: &str| text.parse::<Endpoint>().unwrap().port();
    /// assert_eq!(port("tcp://127.0.0.1:5555"), Some(5555));
    /// assert_eq!(port("tcp://127.0.0.1:*"), None);
    /// ```
    pub fn port(&self) -> Option<u16> {
        match &self.0.address {
            Address::Tcp(tcp) => tcp.target.port,
            _ => None,
        }
    }

    /// Returns the path of an ipc endpoint that has one.
    pub fn path(&self) -> Option<&std::path::Path> {
        match &self.0.address {
            Address::Ipc(IpcAddress::Path(path)) => Some((**path).as_ref()),
            _ => None,
        }
    }

    /// Returns the name of an inproc endpoint.
    pub fn inproc_name(&self) -> Option<&str> {
        match self.0.address {
            Address::Inproc => self.0.text.split_once("://").map(|(_, name)| name),
            _ => None,
        }
    }

    /// Returns whether something of it is chosen at the time of binding: a port, a path, or which
    /// interfaces there are.
    pub fn is_wildcard(&self) -> bool {
        match &self.0.address {
            Address::Tcp(tcp) => tcp.target.port.is_none() || matches!(tcp.target.host, Host::Any),
            Address::Ipc(ipc) => matches!(ipc, IpcAddress::Wildcard),
            Address::Inproc => false,
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.0.address
    }

    /// The endpoint of a TCP address.
    pub(crate) fn of_tcp(address: SocketAddr) -> Self {
        let scope = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string().into()),
            _ => None,
        };
        let target = HostPort {
            host: Host::Ip(address.ip(), scope),
            port: Some(address.port()),
        };
        let source = None;
        Self::new(Address::Tcp(TcpAddress { source, target }), "")
    }

    /// The endpoint of a path that is known to be short enough.
    pub(crate) fn of_path(path: &str) -> Self {
        Self::new(Address::Ipc(IpcAddress::Path(path.into())), "")
    }

    fn new(address: Address, name: &str) -> Self {
        let text = match &address {
            Address::Tcp(tcp) => match &tcp.source {
                Some(source) => format!("tcp://{source};{}", tcp.target),
                None => format!("tcp://{}", tcp.target),
            },
            Address::Ipc(IpcAddress::Path(path)) => format!("ipc://{path}"),
            Address::Ipc(IpcAddress::Abstract(name)) => format!("ipc://@{name}"),
            Address::Ipc(IpcAddress::Wildcard) => "ipc://*".to_owned(),
            Address::Inproc => format!("inproc://{name}"),
        };
        let text = text.into();
        Self(Arc::new(Parsed { text, address }))
    }

    /// Says whether it can be bound, as far as the text tells.
    pub(crate) fn check_bind(&self) -> Result<(), EndpointError> {
        let Address::Tcp(tcp) = &self.0.address else {
            return Ok(());
        };
        if tcp.source.is_some() {
            return self.wrong("the part before ';' says where connections come from: for a bind, write only one address");
        }
        match &tcp.target.host {
            Host::Name(name) if name.len() > LONGEST_INTERFACE => self.wrong(format!(
                "no interface can be called {name:?}, and a bind looks no host up: write the \
                 interface or its address, or * for all, as in tcp://*:{}",
                Port(tcp.target.port),
            )),
            _ => Ok(()),
        }
    }

    /// Says whether it can be connected to, as far as the text tells.
    pub(crate) fn check_connect(&self) -> Result<(), EndpointError> {
        match &self.0.address {
            Address::Tcp(tcp) => match (&tcp.target.host, tcp.target.port) {
                (Host::Any, port) => self.wrong(format!(
                    "* means every interface of this machine, which one can bind; to connect, write \
                     a host: tcp://127.0.0.1:{} is this machine",
                    port.map_or_else(|| "PORT".to_owned(), |port| port.to_string()),
                )),
                (_, None) => self.wrong(
                    "a free port can only be bound; to connect, write the number (last_endpoint of \
                     the socket that was bound tells it)",
                ),
                _ => Ok(()),
            },
            Address::Ipc(IpcAddress::Wildcard) => self.wrong(
                "a name of its own can only be bound; to connect, write the path (last_endpoint of \
                 the socket that was bound tells it)",
            ),
            _ => Ok(()),
        }
    }

    fn wrong(&self, what: impl Into<Cow<'static, str>>) -> Result<(), EndpointError> {
        Err(EndpointError {
            endpoint: self.0.text.clone(),
            place: None,
            kind: EndpointErrorKind::Purpose,
            what: what.into(),
        })
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Parser { text }.endpoint()
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl AsRef<str> for Endpoint {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<&Self> for Endpoint {
    fn from(endpoint: &Self) -> Self {
        endpoint.clone()
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.0.text)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*"),
            Host::Ip(ip @ IpAddr::V4(_), _) => ip.fmt(f),
            Host::Ip(ip, None) => write!(f, "[{ip}]"),
            Host::Ip(ip, Some(scope)) => write!(f, "[{ip}%{scope}]"),
            Host::Name(name) => f.write_str(name),
        }?;
        write!(f, ":{}", Port(self.port))
    }
}

/// A port as it is written.
struct Port(Option<u16>);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(port) => port.fmt(f),
            None => f.write_str("*"),
        }
    }
}

/// What is wrong with an endpoint; see [`EndpointError::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointErrorKind {
    /// It is not written as its transport wants it (`EINVAL`).
    Syntax,
    /// Nobody has heard of the transport (`EPROTONOSUPPORT`).
    UnknownTransport,
    /// The transport is ZeroMQ's, but not here (`EPROTONOSUPPORT`).
    AbsentTransport,
    /// The path or name is longer than may be (`ENAMETOOLONG`).
    TooLong,
    /// It can be bound but not connected to, or the other way round (`EINVAL`).
    Purpose,
}

/// An endpoint that cannot be used; the text says where it is wrong, and what to write.
///
/// # Examples
/// ```
/// use sward_mq::{Endpoint, EndpointErrorKind};
/// let error = "udp://127.0.0.1:5555".parse::<Endpoint>().unwrap_err();
/// assert_eq!(error.kind(), EndpointErrorKind::AbsentTransport);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError {
    endpoint: Box<str>,
    /// Which byte of it; `None`: the whole.
    place: Option<usize>,
    kind: EndpointErrorKind,
    what: Cow<'static, str>,
}

impl EndpointError {
    /// Returns what is wrong.
    pub fn kind(&self) -> EndpointErrorKind {
        self.kind
    }

    /// Returns the endpoint as it was written.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the number of the first byte that is wrong, if it is not the whole.
    pub fn place(&self) -> Option<usize> {
        self.place
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More than any endpoint that is right, but not a screen full.
        const SHOWN: usize = 160;
        let shown: String = self.endpoint.chars().take(SHOWN).collect();
        let more = if shown.len() < self.endpoint.len() {
            "..."
        } else {
            ""
        };
        write!(f, "endpoint {shown:?}{more}")?;
        if let Some(place) = self.place {
            write!(f, ", byte {place}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for EndpointError {}

struct Parser<'a> {
    text: &'a str,
}

impl<'a> Parser<'a> {
    fn error<T>(
        &self,
        at: &str,
        kind: EndpointErrorKind,
        what: impl Into<Cow<'static, str>>,
    ) -> Result<T, EndpointError> {
        // `at` is a part of the text.
        let place = (at.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        Err(EndpointError {
            endpoint: self.text.into(),
            place: (place <= self.text.len()).then_some(place),
            kind,
            what: what.into(),
        })
    }

    fn syntax<T>(&self, at: &str, what: impl Into<Cow<'static, str>>) -> Result<T, EndpointError> {
        self.error(at, EndpointErrorKind::Syntax, what)
    }

    fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        let Some((scheme, address)) = self.text.split_once("://") else {
            return self.syntax(
                self.text,
                "it begins with tcp://, ipc:// or inproc://, as in tcp://127.0.0.1:5555",
            );
        };
        let parsed = match scheme {
            "tcp" => Address::Tcp(self.tcp(address)?),
            "ipc" => Address::Ipc(self.ipc(address)?),
            "inproc" => self.inproc(address)?,
            _ => return self.unknown(scheme),
        };
        Ok(Endpoint::new(parsed, address))
    }

    fn unknown<T>(&self, scheme: &str) -> Result<T, EndpointError> {
        if let Some((_, instead)) = ABSENT.iter().find(|(name, _)| *name == scheme) {
            let what = format!("the transport {scheme} is not there: {instead}");
            return self.error(scheme, EndpointErrorKind::AbsentTransport, what);
        }
        let lower = scheme.to_ascii_lowercase();
        let what = match &*lower {
            "tcp" | "ipc" | "inproc" => format!("transports are written small: {lower}"),
            _ => "no such transport: tcp, ipc and inproc are there".to_owned(),
        };
        self.error(scheme, EndpointErrorKind::UnknownTransport, what)
    }

    fn tcp(&self, address: &'a str) -> Result<TcpAddress, EndpointError> {
        let (source, target) = match address.rsplit_once(';') {
            Some((source, _)) if source.contains(';') => {
                return self.syntax(source, "before the host stands one source at the most");
            }
            Some((source, target)) => (Some(self.host_port(source)?), target),
            None => (None, address),
        };
        let target = self.host_port(target)?;
        Ok(TcpAddress { source, target })
    }

    fn host_port(&self, text: &'a str) -> Result<HostPort, EndpointError> {
        // A colon may be inside of brackets, and then there is no port.
        let bracket = text.rfind(']').unwrap_or(0);
        let Some(colon) = text[bracket..].rfind(':').map(|at| at + bracket) else {
            let end = &text[text.len()..];
            return self.syntax(
                end,
                format!("a port is missing: HOST:PORT, as in {text}:5555"),
            );
        };
        let (host, port) = (&text[..colon], &text[colon + 1..]);
        let host = self.host(host)?;
        let port = self.port(port)?;
        Ok(HostPort { host, port })
    }

    fn port(&self, text: &'a str) -> Result<Option<u16>, EndpointError> {
        if text == "*" {
            return Ok(None);
        }
        let number = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(0) if number => Ok(None),
            Ok(port) if number => Ok(Some(port)),
            _ if text == "!" => self.syntax(text, "a free port is written *"),
            _ if text.is_empty() => self.syntax(text, "a port is missing"),
            _ => self.syntax(
                text,
                format!("{text:?} is no port: 1 to 65535, or * for a free one"),
            ),
        }
    }

    fn host(&self, text: &'a str) -> Result<Host, EndpointError> {
        let inner = match (text.strip_prefix('['), text.strip_suffix(']')) {
            (Some(_), Some(_)) => Some(&text[1..text.len() - 1]),
            (None, None) => None,
            (Some(_), None) => return self.syntax(text, "a bracket is opened and not closed"),
            (None, Some(_)) => return self.syntax(text, "a bracket is closed and not opened"),
        };
        let host = inner.unwrap_or(text);
        if host.is_empty() {
            return self.syntax(
                host,
                "a host is missing; every interface of this machine is *",
            );
        }
        if host == "*" && inner.is_none() {
            return Ok(Host::Any);
        }
        let (ip, scope) = match host.split_once('%') {
            Some((ip, scope)) => (ip, Some(scope)),
            None => (host, None),
        };
        match ip.parse() {
            Ok(IpAddr::V6(_)) if inner.is_none() => self.syntax(
                text,
                format!("IPv6 addresses are written in brackets: [{text}]"),
            ),
            Ok(ip @ IpAddr::V6(_)) => Ok(Host::Ip(ip, self.scope(scope)?)),
            Ok(ip) if scope.is_none() => Ok(Host::Ip(ip, None)),
            _ => self.name(host, scope.is_some()),
        }
    }

    fn scope(&self, scope: Option<&'a str>) -> Result<Option<Box<str>>, EndpointError> {
        let Some(scope) = scope else {
            return Ok(None);
        };
        let wrong = || {
            let what = "behind % stands the interface of the address, by its name or its number";
            self.syntax(scope, what)
        };
        match scope.parse::<u32>() {
            Ok(0) => wrong(),
            Ok(number) => Ok(Some(number.to_string().into())),
            Err(_) if scope.is_empty() || scope.len() > LONGEST_INTERFACE => wrong(),
            Err(_) => match scope.bytes().all(in_name) {
                true => Ok(Some(scope.into())),
                false => wrong(),
            },
        }
    }

    fn name(&self, name: &'a str, scoped: bool) -> Result<Host, EndpointError> {
        if name.contains(':') {
            return self.syntax(
                name,
                "this is no IPv6 address; one with a port is [ADDRESS]:PORT",
            );
        }
        if scoped {
            return self.syntax(name, "only IPv6 addresses belong to an interface (%)");
        }
        if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return self.syntax(name, "this is no IPv4 address: four numbers from 0 to 255");
        }
        if name.len() > LONGEST_HOST {
            let what = format!("a host name has {LONGEST_HOST} bytes at the most");
            return self.error(name, EndpointErrorKind::TooLong, what);
        }
        let good = |(at, b): (usize, u8)| match at {
            0 => b.is_ascii_alphanumeric(),
            _ => in_name(b),
        };
        if let Some(at) = name.bytes().enumerate().position(|b| !good(b)) {
            // A place within a character would be no place.
            let at = (0..=at)
                .rev()
                .find(|&at| name.is_char_boundary(at))
                .unwrap_or(0);
            let what = "a host name has letters, digits, '-', '.' and '_', and begins with one of \
                        the first two";
            return self.syntax(&name[at..], what);
        }
        Ok(Host::Name(name.into()))
    }

    fn ipc(&self, path: &'a str) -> Result<IpcAddress, EndpointError> {
        if path.is_empty() || path == "@" {
            return self.syntax(
                &path[path.len()..],
                "a name is missing: ipc://PATH, ipc://@NAME for one without a file, or ipc://* for \
                 one that the bind makes",
            );
        }
        if let Some(at) = path.find('\0') {
            return self.syntax(&path[at..], "there is a NUL byte in it");
        }
        if path.len() > LONGEST_PATH {
            let what = format!(
                "the path has {} bytes, and the kernel takes {LONGEST_PATH} at the most \
                 (ENAMETOOLONG): use a shorter one, or one relative to the current directory",
                path.len()
            );
            return self.error(&path[..0], EndpointErrorKind::TooLong, what);
        }
        Ok(match path.strip_prefix('@') {
            Some(name) => IpcAddress::Abstract(name.into()),
            None if path == "*" => IpcAddress::Wildcard,
            None => IpcAddress::Path(path.into()),
        })
    }

    fn inproc(&self, name: &'a str) -> Result<Address, EndpointError> {
        if name.is_empty() {
            return self.syntax(name, "a name is missing: inproc://NAME");
        }
        if name.len() > LONGEST_NAME {
            let what = format!(
                "the name has {} bytes, and {LONGEST_NAME} are the most",
                name.len()
            );
            return self.error(name, EndpointErrorKind::TooLong, what);
        }
        Ok(Address::Inproc)
    }
}

/// What names of hosts and interfaces are made of.
fn in_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests;
