//! [`TcpListener`]: std's, and a task parks where std's would block.

use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::SocketAddrAny;
use sward_runtime::io::{Direction, Limit, Readiness, Source};
use sward_runtime::sync::Arm;

use super::stream::TcpStream;
use crate::addr::ToSocketAddrs;
use crate::fault;
use crate::options::ListenOptions;
use crate::socket;

/// A TCP socket that takes connections (std's `TcpListener`).
///
/// Several tasks may accept from one; those who wait are woken in the order in which they came.
/// Dropping it refuses new connections and leaves the old ones; [`close`](Self::close) does so under
/// a waiting accept.
///
/// # Examples
/// ```no_run
/// use sward_net::{TcpListener, TcpStream};
///
/// fn handle_client(stream: TcpStream) {
///     // ...
/// }
///
/// fn main() -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:80")?;
///     for stream in listener.incoming() {
///         handle_client(stream?);
///     }
///     Ok(())
/// }
/// ```
pub struct TcpListener {
    source: Source<std::net::TcpListener>,
}

socket!(TcpListener, std::net::TcpListener, "a TCP listener");

impl ListenOptions {
    /// Listens on the first of the addresses that can be had; port 0 is a free one, which
    /// [`TcpListener::local_addr`] tells.
    ///
    /// # Blocking
    /// While a name is looked up.
    ///
    /// # Errors
    /// Those of the last address, which is named; `InvalidInput` if there is none.
    pub fn listen(&self, addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let mut last = None;
        for address in addr.to_socket_addrs()? {
            match self.open(&address) {
                Ok(fd) => {
                    let source = Source::from_nonblocking(fd.into());
                    return Ok(TcpListener::from_source(source));
                }
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(fault::no_address))
    }
}

impl TcpListener {
    fn from_source(source: Source<std::net::TcpListener>) -> Self {
        Self { source }
    }

    fn with_source(&self, source: Source<std::net::TcpListener>) -> Self {
        Self { source }
    }

    /// Listens on the first of the addresses that can be had; port 0 is a free one, which
    /// [`local_addr`](Self::local_addr) tells. [`ListenOptions`] can say more.
    ///
    /// # Blocking
    /// While a name is looked up.
    ///
    /// # Errors
    /// Those of the last address, which is named; `InvalidInput` if there is none.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        ListenOptions::new().listen(addr)
    }

    /// Takes the next connection, and says where it comes from.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](sward_runtime::WaitKind::Readable); honours kill and
    /// `timeout`.
    ///
    /// # Errors
    /// When descriptors are exhausted ([`is_exhausted`](sward_runtime::io::is_exhausted)): the
    /// connection then waits in the kernel, and the next call fails too until some are free, so a
    /// loop should pause. Errors of a single connection, such as `ConnectionAborted` for one that
    /// went away meanwhile: a loop should go on.
    ///
    /// # Cancel safety
    /// A kill or a `timeout` takes no connection with it.
    ///
    /// # Examples
    /// ```
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (_stream, peer) = listener.accept()?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_for(Limit::NONE)
    }

    /// Takes the next connection, if one comes within the limit.
    ///
    /// # Blocking
    /// As [`accept`](Self::accept).
    ///
    /// # Errors
    /// `TimedOut`; as [`accept`](Self::accept).
    ///
    /// # Examples
    /// ```
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    /// use sward_net::TcpListener;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let nobody = listener.accept_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(nobody.kind(), ErrorKind::TimedOut);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn accept_timeout(&self, limit: Duration) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_for(limit.into())
    }

    fn accept_for(&self, limit: Limit) -> io::Result<(TcpStream, SocketAddr)> {
        self.source
            .io(Direction::Read, limit, |s| socket::accept_from(s))
            .and_then(Self::accepted)
    }

    /// Takes a connection that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; as [`accept`](Self::accept).
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.source
            .try_io(Direction::Read, |s| socket::accept_from(s))
            .and_then(Self::accepted)
    }

    /// Waits until there may be a connection to accept; `None` is no limit. Somebody else may be
    /// faster: go on with [`try_accept`](Self::try_accept).
    ///
    /// # Blocking
    /// As [`accept`](Self::accept).
    ///
    /// # Errors
    /// `TimedOut`.
    pub fn readable(&self, limit: Option<Duration>) -> io::Result<()> {
        self.source.readable(limit)
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that waits as
    /// [`readable`](Self::readable) does.
    pub fn reading(&self) -> Readiness<'_, std::net::TcpListener> {
        self.source.reading()
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that accepts. If another arm is
    /// chosen, no connection was taken.
    ///
    /// # Examples
    /// ```
    /// use sward_net::TcpListener;
    /// use sward_runtime::{select, sync::unbounded};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (stop, stopped) = unbounded::<()>();
    /// drop(stop);
    /// select! {
    ///     connection = listener.accepting() => drop(connection?),
    ///     _ = stopped.receiving() => {}
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn accepting(&self) -> impl Arm<Output = io::Result<(TcpStream, SocketAddr)>> + '_ {
        self.source.doing(Direction::Read, |s| {
            socket::accept_from(s).and_then(Self::accepted)
        })
    }

    fn accepted(
        (fd, peer): (OwnedFd, Option<SocketAddrAny>),
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = TcpStream::from_source(Source::from_nonblocking(fd.into()));
        let peer = match peer.map(SocketAddr::try_from) {
            Some(Ok(peer)) => peer,
            _ => stream.peer_addr()?,
        };
        Ok((stream, peer))
    }

    /// Returns an iterator over the connections as they come; it never ends.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// for stream in listener.incoming() {
    ///     stream?.write_all(b"hello")?;
    ///     # break;
    /// }
    /// # drop(client);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Returns an iterator that owns the listener.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(std::net::TcpListener::local_addr)
    }

    /// Sets how many routers a packet of a later connection may pass (`IP_TTL`, and the hop limit of
    /// IPv6).
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.ask(|s| socket::set_ttl(s, ttl))
    }

    /// How many routers a packet may pass.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn ttl(&self) -> io::Result<u32> {
        self.ask(std::net::TcpListener::ttl)
    }
}

/// An iterator over connections; see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

/// An iterator over connections; see [`TcpListener::into_incoming`].
#[derive(Debug)]
pub struct IntoIncoming {
    listener: TcpListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<TcpStream>;
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for IntoIncoming {}
