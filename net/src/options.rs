//! What can be said of a socket before it listens or connects: [`ListenOptions`],
//! [`ConnectOptions`], and [`Keepalive`].
//!
//! Some of it must be said before: the sizes of buffers decide the window that is agreed on at the
//! start of a connection, and whoever is to share a port says so before it binds. What a listener
//! has is inherited by the connections it accepts, without a system call for each.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketType, bind, listen, sockopt};

use crate::fault;
use crate::socket;

/// When the kernel asks an idle connection's other end whether it is still there (`SO_KEEPALIVE`,
/// `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`).
///
/// An end that is gone makes the waiting read fail with `TimedOut` after about
/// `idle + interval * retries`. The kernel counts whole seconds, up to 32767; fractions are rounded
/// up. While sent bytes are unanswered it does not ask: then the user time-out counts
/// ([`TcpStream::set_user_timeout`](crate::TcpStream::set_user_timeout)).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_net::Keepalive;
/// let keepalive = Keepalive { idle: Duration::from_secs(30), ..Keepalive::default() };
/// assert_eq!(keepalive.interval, Duration::from_secs(15));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// How long nothing comes before it asks.
    pub idle: Duration,
    /// How long it waits for an answer before it asks again.
    pub interval: Duration,
    /// How often it asks.
    pub retries: u32,
}

impl Default for Keepalive {
    /// After a minute, every 15 seconds, four times: a dead peer is found after two minutes. (The
    /// kernel's own values are two hours, 75 s and 9.)
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            retries: 4,
        }
    }
}

impl Keepalive {
    pub(crate) fn set(this: Option<Self>, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        if let Some(keepalive) = this {
            let Self {
                idle,
                interval,
                retries,
            } = keepalive;
            let set = || {
                sockopt::set_tcp_keepidle(socket, idle)?;
                sockopt::set_tcp_keepintvl(socket, interval)?;
                sockopt::set_tcp_keepcnt(socket, retries)
            };
            set().map_err(|e| match e {
                Errno::INVAL => fault::invalid(format!(
                    "keep-alive takes 1 to 32767 seconds and 1 to 127 retries, not {keepalive:?}"
                )),
                e => e.into(),
            })?;
        }
        Ok(sockopt::set_socket_keepalive(socket, this.is_some())?)
    }

    pub(crate) fn get(socket: impl AsFd) -> io::Result<Option<Self>> {
        let socket = socket.as_fd();
        if !sockopt::socket_keepalive(socket)? {
            return Ok(None);
        }
        Ok(Some(Self {
            idle: sockopt::tcp_keepidle(socket)?,
            interval: sockopt::tcp_keepintvl(socket)?,
            retries: sockopt::tcp_keepcnt(socket)?,
        }))
    }
}

/// Milliseconds of `TCP_USER_TIMEOUT`; 0 is the kernel's own time.
pub(crate) fn user_timeout(limit: Option<Duration>) -> io::Result<u32> {
    match limit {
        None => Ok(0),
        Some(Duration::ZERO) => Err(fault::invalid(
            "a user time-out of zero: None takes it away",
        )),
        Some(limit) => {
            // Rounded up: less than a millisecond is not "none".
            let millis = limit.as_nanos().div_ceil(1_000_000);
            Ok(i32::try_from(millis).unwrap_or(i32::MAX).unsigned_abs())
        }
    }
}

/// What both kinds of options have.
#[derive(Clone, Debug, Default)]
struct Common {
    nodelay: Option<bool>,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
    recv_buffer: Option<usize>,
    send_buffer: Option<usize>,
    ttl: Option<u32>,
    prepare: Option<Prepare>,
}

/// What is done to each new socket.
#[derive(Clone)]
struct Prepare(Arc<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync>);

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

impl Common {
    fn set(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        if let Some(on) = self.nodelay {
            sockopt::set_tcp_nodelay(socket, on)?;
        }
        if self.keepalive.is_some() {
            Keepalive::set(self.keepalive, socket)?;
        }
        if self.user_timeout.is_some() {
            sockopt::set_tcp_user_timeout(socket, user_timeout(self.user_timeout)?)?;
        }
        if let Some(bytes) = self.recv_buffer {
            sockopt::set_socket_recv_buffer_size(socket, bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            sockopt::set_socket_send_buffer_size(socket, bytes)?;
        }
        if let Some(ttl) = self.ttl {
            socket::set_ttl(socket, ttl)?;
        }
        if let Some(Prepare(prepare)) = &self.prepare {
            prepare(socket)?;
        }
        Ok(())
    }
}

macro_rules! common {
    ($Options:ident) => {
        impl $Options {
            /// Sends small writes at once (`TCP_NODELAY`).
            pub fn nodelay(mut self, on: bool) -> Self {
                self.common.nodelay = Some(on);
                self
            }

            /// Asks idle connections whether they still live; see [`Keepalive`].
            pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
                self.common.keepalive = Some(keepalive);
                self
            }

            /// Gives a connection up when sent bytes are unanswered for so long
            /// (`TCP_USER_TIMEOUT`).
            pub fn user_timeout(mut self, limit: Duration) -> Self {
                self.common.user_timeout = Some(limit);
                self
            }

            /// Sets the size of the receive buffer (`SO_RCVBUF`), and so ends the kernel's own
            /// tuning. The kernel doubles it, and cuts it at `net.core.rmem_max`.
            pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
                self.common.recv_buffer = Some(bytes);
                self
            }

            /// Sets the size of the send buffer (`SO_SNDBUF`), and so ends the kernel's own
            /// tuning. The kernel doubles it, and cuts it at `net.core.wmem_max`.
            pub fn send_buffer_size(mut self, bytes: usize) -> Self {
                self.common.send_buffer = Some(bytes);
                self
            }

            /// Sets how many routers a packet may pass (`IP_TTL`, hop limit).
            pub fn ttl(mut self, ttl: u32) -> Self {
                self.common.ttl = Some(ttl);
                self
            }

            /// Has a function set on each new socket what is not here, before it is bound or
            /// connected. It must not wait, nor change what it is: a non-blocking stream socket.
            ///
            /// # Examples
            /// ```
            /// use rustix::net::sockopt;
            /// use sward_net::{ConnectOptions, TcpListener};
            /// let listener = TcpListener::bind("127.0.0.1:0")?;
            /// let options = ConnectOptions::new().prepare(|s| Ok(sockopt::set_ip_tos(s, 0x28)?));
            /// let stream = options.connect(listener.local_addr()?)?;
            /// assert_eq!(sockopt::ip_tos(&stream)?, 0x28);
            /// # std::io::Result::Ok(())
            /// ```
            pub fn prepare<F>(mut self, f: F) -> Self
            where
                F: Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
            {
                self.common.prepare = Some(Prepare(Arc::new(f)));
                self
            }
        }
    };
}

/// How a [`TcpListener`](crate::TcpListener) is made; [`bind`](crate::TcpListener::bind) is this
/// without a word said.
///
/// # Examples
/// A server that takes IPv4 and IPv6 at one port:
/// ```
/// use std::net::Ipv4Addr;
/// use sward_net::{ListenOptions, TcpStream};
/// let options = ListenOptions::new().only_v6(false).nodelay(true);
/// let listener = options.listen("[::]:0")?;
/// let port = listener.local_addr()?.port();
/// let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
/// let (stream, peer) = listener.accept()?;
/// assert_eq!(peer.to_string(), format!("[::ffff:127.0.0.1]:{}", client.local_addr()?.port()));
/// assert_eq!(peer.ip().to_canonical(), Ipv4Addr::LOCALHOST);
/// assert!(stream.nodelay()?);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `listen`"]
pub struct ListenOptions {
    backlog: i32,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: Option<bool>,
    common: Common,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_address: true,
            reuse_port: false,
            only_v6: None,
            common: Common::default(),
        }
    }
}

common!(ListenOptions);

impl ListenOptions {
    /// What `TcpListener::bind` takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections the kernel keeps until they are accepted: 4096 if nothing is said. The
    /// kernel cuts it at `net.core.somaxconn`.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Whether a port can be had again while old connections of it linger (`SO_REUSEADDR`): yes if
    /// nothing is said, as in std.
    pub fn reuse_address(mut self, on: bool) -> Self {
        self.reuse_address = on;
        self
    }

    /// Shares the port with other listeners that say so too (`SO_REUSEPORT`): the kernel spreads
    /// new connections over them. Those in the line of one that is closed are lost.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Whether an IPv6 address means IPv6 only (`IPV6_V6ONLY`). `false` makes `[::]` take IPv4 too;
    /// its peers then have addresses such as `::ffff:192.0.2.1`, which `IpAddr::to_canonical` turns
    /// back. If nothing is said, the system decides (`net.ipv6.bindv6only`). IPv4 addresses ignore
    /// it.
    pub fn only_v6(mut self, on: bool) -> Self {
        self.only_v6 = Some(on);
        self
    }

    /// A socket that listens on the address.
    pub(crate) fn open(&self, address: &SocketAddr) -> io::Result<OwnedFd> {
        let opened = || {
            let socket = socket::new(address, SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&socket, self.reuse_address)?;
            if self.reuse_port {
                sockopt::set_socket_reuseport(&socket, true)?;
            }
            if let (Some(on), true) = (self.only_v6, address.is_ipv6()) {
                sockopt::set_ipv6_v6only(&socket, on)?;
            }
            self.common.set(&socket)?;
            bind(&socket, address)?;
            listen(&socket, self.backlog)?;
            Ok(socket)
        };
        opened().map_err(|e| fault::bind("listen on", address, e))
    }
}

/// How a [`TcpStream`](crate::TcpStream) is made; [`connect`](crate::TcpStream::connect) is this
/// without a word said.
///
/// # Examples
/// ```
/// use sward_net::{ConnectOptions, TcpListener};
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let from = "127.0.0.2:0".parse().unwrap();
/// let options = ConnectOptions::new().bind(from).nodelay(true);
/// let stream = options.connect(listener.local_addr()?)?;
/// assert!(stream.nodelay()?);
/// assert_eq!(stream.local_addr()?.ip(), from.ip());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `connect`"]
pub struct ConnectOptions {
    local: Option<SocketAddr>,
    reuse_address: bool,
    common: Common,
}

common!(ConnectOptions);

impl ConnectOptions {
    /// What `TcpStream::connect` takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects from this address of this machine; port 0 is a free one. Only addresses of its
    /// family can be connected to.
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.local = Some(local);
        self
    }

    /// Whether the local port may be taken while old connections of it linger (`SO_REUSEADDR`), for
    /// [`bind`](Self::bind) with a port: no if nothing is said.
    pub fn reuse_address(mut self, on: bool) -> Self {
        self.reuse_address = on;
        self
    }

    /// A socket that can be connected to the address.
    pub(crate) fn open(&self, address: &SocketAddr) -> io::Result<OwnedFd> {
        let socket = socket::new(address, SocketType::STREAM)?;
        self.common.set(&socket)?;
        if self.reuse_address {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        if let Some(local) = self.local {
            if local.is_ipv4() != address.is_ipv4() {
                let text = format!("the local address {local} is of another family");
                return Err(fault::invalid(text));
            }
            bind(&socket, &local).map_err(|e| fault::bind("bind to", local, e.into()))?;
        }
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_timeouts_are_never_rounded_to_none() {
        let of = |limit| user_timeout(limit).unwrap();
        assert_eq!(of(None), 0);
        assert_eq!(of(Some(Duration::from_nanos(1))), 1);
        assert_eq!(of(Some(Duration::from_secs(2))), 2000);
        assert_eq!(of(Some(Duration::MAX)), i32::MAX.unsigned_abs());
        assert!(user_timeout(Some(Duration::ZERO)).is_err());
    }
}
