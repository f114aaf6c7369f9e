//! [`UnixStream`]: std's, and a task parks where std's would block.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketType};
use sward_runtime::io::{Direction, Patience, Source};

use crate::stream::Stream;

/// The first pause after an attempt to connect to a listener whose queue is full.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// A Unix stream socket (std's `UnixStream`): a connection within this machine.
///
/// It reads and writes through `&`, so one task may read while another writes; those who wait for
/// the same direction are served in the order in which they came. Dropping it closes the
/// connection. A write to a peer that is gone is an error (`BrokenPipe`), never a signal.
///
/// # Examples
/// ```no_run
/// use std::io::prelude::*;
/// use sward_net::UnixStream;
///
/// fn main() -> std::io::Result<()> {
///     let mut stream = UnixStream::connect("/path/to/my/socket")?;
///     stream.write_all(b"hello world")?;
///     let mut response = String::new();
///     stream.read_to_string(&mut response)?;
///     println!("{response}");
///     Ok(())
/// }
/// ```
pub struct UnixStream {
    source: Source<net::UnixStream>,
    read: Patience,
    write: Patience,
}

socket!(UnixStream, net::UnixStream, "a Unix stream");
time_outs!(UnixStream, net::UnixStream);
read_write!(UnixStream);

/// Who is at the other end of a [`UnixStream`], as the kernel noted it when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCred {
    /// The process; `None` if it is not visible from here (another PID namespace). It may have
    /// ended meanwhile, and its number be another's.
    pub pid: Option<u32>,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

impl UnixStream {
    /// Connects to the socket with this path.
    ///
    /// # Blocking
    /// Parks while the listener has as many connections waiting as it may
    /// ([`WaitKind::Sleep`](sward_runtime::WaitKind::Sleep): the kernel does not say when there is
    /// room, so it is tried again after 1 to 50 ms); honours kill and `timeout`.
    ///
    /// # Errors
    /// `NotFound`; `ConnectionRefused` if nobody listens; `InvalidInput` for a path of more than
    /// 107 bytes. The text names the path.
    ///
    /// # Cancel safety
    /// Killed or timed out, the attempt is given up and its socket closed.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_addr(&super::pathname(path.as_ref())?)
    }

    /// Connects to an address, which may be an abstract one.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Examples
    /// ```
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use sward_net::{UnixListener, UnixStream};
    ///
    /// let name = format!("sward-example-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let listener = UnixListener::bind_addr(&address)?;
    /// let stream = UnixStream::connect_addr(&address)?;
    /// assert_eq!(stream.peer_addr()?.as_abstract_name(), address.as_abstract_name());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::connect_for(address, None)
    }

    /// Connects to an address within a time.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for a limit of zero; as [`connect`](Self::connect).
    pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<Self> {
        if limit.is_zero() {
            let text = "a connection needs more time than none";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Self::connect_for(address, Some(limit))
    }

    fn connect_for(address: &SocketAddr, limit: Option<Duration>) -> io::Result<Self> {
        let to = super::for_kernel(address)?;
        let fd = super::unbound(SocketType::STREAM)?;
        let source = Source::from_nonblocking(net::UnixStream::from(fd));
        super::insist(&source, limit, FIRST_PAUSE, |s| {
            Ok(rustix::net::connect(s, &to)?)
        })
        .map_err(|e| super::at("connect to", address, e))?;
        Ok(Self::from_source(source))
    }

    /// Returns two streams that are connected to each other.
    ///
    /// # Errors
    /// When descriptors are exhausted.
    ///
    /// # Examples
    /// ```
    /// use std::io::prelude::*;
    /// use sward_net::UnixStream;
    ///
    /// let (mut a, mut b) = UnixStream::pair()?;
    /// sward_runtime::spawn(move || a.write_all(b"hello"));
    /// let mut text = String::new();
    /// b.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = super::pair(SocketType::STREAM)?;
        let end = |fd: OwnedFd| Self::from_source(Source::from_nonblocking(fd.into()));
        Ok((end(a), end(b)))
    }

    /// The address of this end; unnamed, unless it is the end that was accepted.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.local_addr())
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.peer_addr())
    }

    /// Returns which process, user and group made the other end (`SO_PEERCRED`): who called
    /// `connect`, `listen` or `pair`. It cannot be forged.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    ///
    /// # Examples
    /// ```
    /// let (a, _b) = sward_net::UnixStream::pair()?;
    /// assert_eq!(a.peer_cred()?.pid, Some(std::process::id()));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<PeerCred> {
        let (pid, uid, gid) = sward_runtime::__private::peer_cred(self.source.get_ref())?;
        let pid = u32::try_from(pid).ok().filter(|&pid| pid != 0);
        Ok(PeerCred { pid, uid, gid })
    }

    /// Ends one direction or both, for all clones: a reader here sees the end, and so does the
    /// other side.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.ask(|s| s.shutdown(how))
    }

    /// Receives what is there without taking it: the next read has it again.
    ///
    /// # Blocking
    /// As a read.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.io(Direction::Read, self.read.limit(), |s| {
            Ok(rustix::net::recv(s, &mut *buffer, RecvFlags::PEEK)?.0)
        })
    }

    /// Reads what is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Read, |mut s| s.read(buffer))
    }

    /// Writes what there is room for now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Write, |s| write(s, bytes))
    }
}

/// As `write(2)`, without a signal when the peer is gone.
fn write(s: &net::UnixStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(s, bytes, SendFlags::NOSIGNAL)?)
}

impl Stream for UnixStream {
    #[inline]
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Read, self.read.limit(), |mut s| s.read(buffer))
    }

    fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.source.io(Direction::Read, self.read.limit(), |mut s| {
            s.read_vectored(buffers)
        })
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Write, self.write.limit(), |s| write(s, bytes))
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        // The most that one call takes (UIO_MAXIOV); more would be an error.
        let buffers = &buffers[..buffers.len().min(1024)];
        self.source.io(Direction::Write, self.write.limit(), |s| {
            let mut nothing = SendAncillaryBuffer::default();
            let flags = SendFlags::NOSIGNAL;
            Ok(rustix::net::sendmsg(s, buffers, &mut nothing, flags)?)
        })
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read.set(limit)
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write.set(limit)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.ask(|s| s.shutdown(how))
    }

    fn close(&self) -> io::Result<()> {
        self.source.close()
    }
}
