//! [`UnixListener`]: std's, and a task parks where std's would block.

use std::io;
use std::iter::FusedIterator;
use std::os::fd::OwnedFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sward_runtime::io::{Direction, Limit, Source};

use super::stream::UnixStream;
use crate::socket;

/// A Unix socket that takes connections (std's `UnixListener`).
///
/// Several tasks may accept from one. As in std, dropping it leaves its file, and the next `bind`
/// fails then (`AddrInUse`): remove the file before, when nobody listens on it any more. An
/// abstract address has no file, and is free when the last descriptor of the listener is closed.
///
/// # Examples
/// ```no_run
/// use std::thread;
/// use sward_net::{UnixListener, UnixStream};
///
/// fn handle_client(stream: UnixStream) {
///     // ...
/// }
///
/// fn main() -> std::io::Result<()> {
///     let listener = UnixListener::bind("/path/to/the/socket")?;
///     for stream in listener.incoming() {
///         match stream {
///             Ok(stream) => {
///                 sward_runtime::spawn(|| handle_client(stream));
///             }
///             Err(err) => {
///                 eprintln!("{err}");
///                 break;
///             }
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct UnixListener {
    source: Source<net::UnixListener>,
}

socket!(UnixListener, net::UnixListener, "a Unix listener");

impl UnixListener {
    fn from_source(source: Source<net::UnixListener>) -> Self {
        Self { source }
    }

    fn with_source(&self, source: Source<net::UnixListener>) -> Self {
        Self { source }
    }

    /// Makes a socket file and listens on it.
    ///
    /// # Errors
    /// `AddrInUse` if the file exists; `InvalidInput` for a path of more than 107 bytes; those of
    /// `bind`. The text names the path.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_addr(&super::pathname(path.as_ref())?)
    }

    /// Listens on an address, which may be an abstract one.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let listener = net::UnixListener::bind_addr(address);
        Self::from_std(listener.map_err(|e| super::at("listen on", address, e))?)
    }

    /// Takes the next connection, and says where it comes from; most clients have no name.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](sward_runtime::WaitKind::Readable); honours kill and
    /// `timeout`.
    ///
    /// # Errors
    /// When descriptors are exhausted: the connection then waits in the kernel, and the next call
    /// fails too until some are free, so a loop should pause.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.accept_for(Limit::NONE)
    }

    /// Takes the next connection, if one comes within the limit.
    ///
    /// # Blocking
    /// As [`accept`](Self::accept).
    ///
    /// # Errors
    /// `TimedOut`; as [`accept`](Self::accept).
    pub fn accept_timeout(&self, limit: Duration) -> io::Result<(UnixStream, SocketAddr)> {
        self.accept_for(limit.into())
    }

    fn accept_for(&self, limit: Limit) -> io::Result<(UnixStream, SocketAddr)> {
        self.source
            .io(Direction::Read, limit, |s| socket::accept(s))
            .and_then(accepted)
    }

    /// Takes a connection that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; as [`accept`](Self::accept).
    pub fn try_accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.source
            .try_io(Direction::Read, |s| socket::accept(s))
            .and_then(accepted)
    }

    /// Returns an iterator over the connections as they come; it never ends.
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.local_addr())
    }
}

fn accepted(fd: OwnedFd) -> io::Result<(UnixStream, SocketAddr)> {
    let stream = UnixStream::from_source(Source::from_nonblocking(fd.into()));
    let peer = stream.peer_addr()?;
    Ok((stream, peer))
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = UnixIncoming<'a>;
    fn into_iter(self) -> UnixIncoming<'a> {
        self.incoming()
    }
}

/// An iterator over connections; see [`UnixListener::incoming`] (std's `unix::net::Incoming`).
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;
    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for UnixIncoming<'_> {}
