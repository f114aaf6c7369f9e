//! [`UnixDatagram`]: std's, and a task parks where std's would block.
//!
//! A send waits for room in two queues: its own socket's, and the receiver's. For the receiver's,
//! the kernel wakes those only that are connected to it. `send` therefore waits for an event, and
//! `send_to` tries again after pauses.
//!
//! Rejected for `send_to`: a second socket, connected to the receiver, whose readiness would tell
//! (a descriptor and five system calls for each wait); waiting for the event of the own socket (it
//! never comes, and a full receiver would hold up what is sent to others).

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvFlags, SocketType};
use sward_runtime::io::{Direction, Patience, Source};

/// The first pause of a `send_to` to a receiver whose queue is full.
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// A Unix datagram socket (std's `UnixDatagram`): messages within this machine. None is lost, and
/// they come in order; who sends waits while the receiver's queue is full.
///
/// It can be shared: several tasks may receive from one, each datagram goes to one of them, and
/// those who wait are served in the order in which they came. Several may send. As in std, a
/// datagram that is larger than the buffer is cut off without an error, and dropping a socket
/// leaves its file.
///
/// # Examples
/// ```no_run
/// use sward_net::UnixDatagram;
///
/// fn main() -> std::io::Result<()> {
///     let socket = UnixDatagram::bind("/path/to/my/socket")?;
///     socket.send_to(b"hello world", "/path/to/other/socket")?;
///     let mut buf = [0; 100];
///     let (count, address) = socket.recv_from(&mut buf)?;
///     println!("socket {:?} sent {:?}", address, &buf[..count]);
///     Ok(())
/// }
/// ```
pub struct UnixDatagram {
    source: Source<net::UnixDatagram>,
    read: Patience,
    write: Patience,
}

socket!(UnixDatagram, net::UnixDatagram, "a Unix datagram socket");
time_outs!(UnixDatagram, net::UnixDatagram);

impl UnixDatagram {
    /// Makes a socket file, to which others can send.
    ///
    /// # Errors
    /// `AddrInUse` if the file exists; `InvalidInput` for a path of more than 107 bytes; those of
    /// `bind`. The text names the path.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_addr(&super::pathname(path.as_ref())?)
    }

    /// Takes an address, which may be an abstract one.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let socket = net::UnixDatagram::bind_addr(address);
        Self::from_std(socket.map_err(|e| super::at("bind to", address, e))?)
    }

    /// Returns a socket without an address: it can send, and nobody can send to it unless it is
    /// one of a [`pair`](Self::pair).
    ///
    /// # Errors
    /// When descriptors are exhausted.
    pub fn unbound() -> io::Result<Self> {
        let fd = super::unbound(SocketType::DGRAM)?;
        Ok(Self::from_source(Source::from_nonblocking(fd.into())))
    }

    /// Returns two sockets without addresses that are connected to each other.
    ///
    /// # Errors
    /// When descriptors are exhausted.
    ///
    /// # Examples
    /// ```
    /// use sward_net::UnixDatagram;
    ///
    /// let (sock1, sock2) = UnixDatagram::pair()?;
    /// sock1.send(b"hello")?;
    /// let mut buf = [0; 16];
    /// assert_eq!(sock2.recv(&mut buf)?, 5);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = super::pair(SocketType::DGRAM)?;
        let end = |fd: OwnedFd| Self::from_source(Source::from_nonblocking(fd.into()));
        Ok((end(a), end(b)))
    }

    /// Sets the socket that [`send`](Self::send) sends to, by its path; nobody else can send to
    /// this one from now on. It can be set again.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `NotFound`; `ConnectionRefused` if nobody has the socket open; `PermissionDenied` if that
    /// socket is connected to another one. The text names the path.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&super::pathname(path.as_ref())?)
    }

    /// As [`connect`](Self::connect) for an address, which may be an abstract one.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        let done = self.ask(|s| s.connect_addr(address));
        done.map_err(|e| super::at("connect to", address, e))
    }

    /// Receives a datagram, and says where it came from; a sender without an address is unnamed.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](sward_runtime::WaitKind::Readable); honours kill,
    /// `timeout` and [`set_read_timeout`](Self::set_read_timeout).
    ///
    /// # Errors
    /// `TimedOut`; those of the socket.
    ///
    /// # Cancel safety
    /// A task that is killed or timed out has taken no datagram.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| recv_from(s, buffer))
    }

    /// Receives a datagram.
    ///
    /// # Blocking
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| recv(s, buffer))
    }

    /// Receives a datagram without taking it: the next receiver, whoever that is, has it again.
    ///
    /// # Blocking
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.io(Direction::Read, self.read.limit(), |s| {
            let done = rustix::net::recv(s, &mut *buffer, RecvFlags::PEEK);
            super::or_end(s, done.map(|(n, _)| n).map_err(Into::into), 0)
        })
    }

    /// Sends a datagram to the socket that this one is [connected](Self::connect) to.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Writable`](sward_runtime::WaitKind::Writable) while the receiver's
    /// queue (`net.unix.max_dgram_qlen`) or this socket's buffer is full; honours kill, `timeout`
    /// and [`set_write_timeout`](Self::set_write_timeout).
    ///
    /// # Errors
    /// `TimedOut`; `NotConnected`; `ConnectionRefused` or `ConnectionReset` if the receiver is
    /// gone; that the datagram is larger than the socket's buffer (`EMSGSIZE`).
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Write, self.write.limit(), |s| s.send(bytes))
    }

    /// Sends a datagram to the socket with this path.
    ///
    /// # Blocking
    /// Parks while the receiver's queue is full. The kernel does not tell when there is room
    /// again, so it is tried again after pauses of 50 µs, which grow to 50 ms
    /// ([`WaitKind::Sleep`](sward_runtime::WaitKind::Sleep)); a sender that is connected, and
    /// calls [`send`](Self::send), goes on at once. Honours kill, `timeout` and
    /// [`set_write_timeout`](Self::set_write_timeout); a [`close`](Self::close) is seen after the
    /// pause.
    ///
    /// # Errors
    /// As [`send`](Self::send); `NotFound`.
    pub fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(bytes, &super::pathname(path.as_ref())?)
    }

    /// As [`send_to`](Self::send_to) for an address, which may be an abstract one.
    ///
    /// # Blocking
    /// As [`send_to`](Self::send_to).
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn send_to_addr(&self, bytes: &[u8], to: &SocketAddr) -> io::Result<usize> {
        super::insist(&self.source, self.write.get(), FIRST_PAUSE, |s| {
            s.send_to_addr(bytes, to)
        })
    }

    /// Receives a datagram that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; as [`recv_from`](Self::recv_from).
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.source
            .try_io(Direction::Read, |s| recv_from(s, buffer))
    }

    /// As [`recv`](Self::recv), for a datagram that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; as [`recv`](Self::recv).
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Read, |s| recv(s, buffer))
    }

    /// As [`send`](Self::send), if there is room now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; as [`send`](Self::send).
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Write, |s| s.send(bytes))
    }

    /// As [`send_to`](Self::send_to), if there is room now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; as [`send_to`](Self::send_to).
    pub fn try_send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.try_send_to_addr(bytes, &super::pathname(path.as_ref())?)
    }

    /// As [`send_to_addr`](Self::send_to_addr), if there is room now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; as [`send_to`](Self::send_to).
    pub fn try_send_to_addr(&self, bytes: &[u8], to: &SocketAddr) -> io::Result<usize> {
        // That this receiver's queue is full must not hold up a `send` to another.
        let done = self
            .source
            .try_io(Direction::Write, |s| match s.send_to_addr(bytes, to) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                done => done.map(Some),
            })?;
        done.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// The address of this socket.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.local_addr())
    }

    /// The address of the socket that this one is connected to.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.peer_addr())
    }

    /// Ends one direction or both, for all clones. Who receives gets what is there, and 0 from then
    /// on; who waits for room is woken by [`Shutdown::Both`] only.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.ask(|s| s.shutdown(how))
    }
}

fn recv(s: &net::UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    super::or_end(s, s.recv(buffer), 0)
}

fn recv_from(s: &net::UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let nobody = || SocketAddr::from_pathname("");
    match s.recv_from(buffer) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => super::or_end(s, Err(e), (0, nobody()?)),
        done => done,
    }
}
