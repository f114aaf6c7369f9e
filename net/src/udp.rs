//! [`UdpSocket`]: std's, and a task parks where std's would block.
//!
//! The errors of sending and receiving are the system's own, without an address: programs look at
//! their numbers (`EMSGSIZE` says that a packet is too large for the path).
//!
//! Rejected: `recv_many` and `send_many` (`recvmmsg` is not in rustix, and one half alone is of
//! little use).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::SocketType;
use sward_runtime::io::{Direction, Patience, Source};

use crate::addr::ToSocketAddrs;
use crate::fault;
use crate::socket;

/// A UDP socket (std's `UdpSocket`).
///
/// It can be shared: several tasks may receive from one, each datagram goes to one of them, and
/// those who wait are served in the order in which they came. Several may send.
///
/// A datagram that is larger than the buffer is cut off without an error, and the rest is lost; a
/// buffer of 65,535 bytes holds any.
///
/// On a connected socket, the answer "nobody is there" (ICMP) to an earlier datagram comes as
/// `ConnectionRefused` from the next call, of whichever task; that call has done nothing, and the
/// socket can be used as before.
///
/// # Examples
/// ```no_run
/// use sward_net::UdpSocket;
///
/// fn main() -> std::io::Result<()> {
///     let socket = UdpSocket::bind("127.0.0.1:34254")?;
///     let mut buf = [0; 10];
///     let (amt, src) = socket.recv_from(&mut buf)?;
///     // The bytes that came go back, the other way round.
///     let buf = &mut buf[..amt];
///     buf.reverse();
///     socket.send_to(buf, &src)?;
///     Ok(())
/// }
/// ```
/// One of several things, whichever comes first:
/// ```
/// use std::time::Duration;
/// use sward_net::UdpSocket;
/// use sward_runtime::{io::Direction, select, sync::after};
///
/// let a = UdpSocket::bind("127.0.0.1:0")?;
/// let b = UdpSocket::bind("127.0.0.1:0")?;
/// b.send_to(b"ping", a.local_addr()?)?;
/// let mut buffer = [0; 16];
/// let (n, from) = select! {
///     got = a.as_source().doing(Direction::Read, |s| s.recv_from(&mut buffer)) => got?,
///     _ = after(Duration::from_secs(5)) => panic!("nothing came"),
/// };
/// assert_eq!((&buffer[..n], from), (&b"ping"[..], b.local_addr()?));
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket {
    source: Source<std::net::UdpSocket>,
    read: Patience,
    write: Patience,
}

socket!(UdpSocket, std::net::UdpSocket, "a UDP socket");
time_outs!(UdpSocket, std::net::UdpSocket);

impl UdpSocket {
    /// Takes the first of the addresses that can be had; port 0 is a free one, which
    /// [`local_addr`](Self::local_addr) tells.
    ///
    /// # Blocking
    /// Parks only while a name is looked up.
    ///
    /// # Errors
    /// Those of the last address, which is named; `InvalidInput` if there is none.
    ///
    /// # Examples
    /// ```no_run
    /// use std::net::SocketAddr;
    /// use sward_net::UdpSocket;
    ///
    /// let addrs = [
    ///     SocketAddr::from(([127, 0, 0, 1], 3400)),
    ///     SocketAddr::from(([127, 0, 0, 1], 3401)),
    /// ];
    /// let socket = UdpSocket::bind(&addrs[..]).expect("couldn't bind to address");
    /// ```
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        each(addr, "bind to", |address| {
            let fd = socket::new(address, SocketType::DGRAM)?;
            rustix::net::bind(&fd, address)?;
            Ok(Self::from_source(Source::from_nonblocking(fd.into())))
        })
    }

    /// Sets the address that [`send`](Self::send) sends to; datagrams from elsewhere are dropped
    /// from now on, without telling anybody. It can be set again.
    ///
    /// # Blocking
    /// Parks only while a name is looked up: nothing is sent.
    ///
    /// # Errors
    /// Those of the last address, which is named; `InvalidInput` if there is none.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        each(addr, "connect to", |address| {
            self.ask(|s| s.connect(address))
        })
    }

    /// Receives a datagram, and says where it came from.
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
    ///
    /// # Examples
    /// ```no_run
    /// use sward_net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:34254").expect("couldn't bind to address");
    /// let mut buf = [0; 10];
    /// let (number_of_bytes, src_addr) = socket.recv_from(&mut buf)
    ///                                         .expect("Didn't receive data");
    /// let filled_buf = &mut buf[..number_of_bytes];
    /// ```
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| s.recv_from(buffer))
    }

    /// Receives a datagram without taking it: the next receiver, whoever that is, has it again.
    ///
    /// # Blocking
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| s.peek_from(buffer))
    }

    /// Sends a datagram to an address; if a name has several, to the first. All of it goes, or
    /// nothing.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Writable`](sward_runtime::WaitKind::Writable) while the socket's
    /// buffer is full, and while a name is looked up; honours kill, `timeout` and
    /// [`set_write_timeout`](Self::set_write_timeout).
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` if there is no address; those of the socket. Success does not
    /// say that it arrived.
    ///
    /// # Examples
    /// ```no_run
    /// use sward_net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:34254").expect("couldn't bind to address");
    /// socket.send_to(&[0; 10], "127.0.0.1:4242").expect("couldn't send data");
    /// ```
    pub fn send_to(&self, bytes: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let to = first(addr)?;
        self.source.io(Direction::Write, self.write.limit(), |s| {
            s.send_to(bytes, to)
        })
    }

    /// Receives a datagram from the address that this socket is connected to, or from anybody if
    /// it is not.
    ///
    /// # Blocking
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| s.recv(buffer))
    }

    /// As [`recv`](Self::recv), without taking it.
    ///
    /// # Blocking
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| s.peek(buffer))
    }

    /// Sends a datagram to the address that this socket is [connected](Self::connect) to.
    ///
    /// # Blocking
    /// As [`send_to`](Self::send_to).
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); that it is not connected.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Write, self.write.limit(), |s| s.send(bytes))
    }

    /// Receives a datagram that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; as [`recv_from`](Self::recv_from).
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.source.try_io(Direction::Read, |s| s.recv_from(buffer))
    }

    /// Sends a datagram, if there is room for it now. The address is a numeric one: a name would
    /// have to be looked up.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; as [`send_to`](Self::send_to).
    pub fn try_send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.source
            .try_io(Direction::Write, |s| s.send_to(bytes, to))
    }

    /// As [`recv`](Self::recv), for a datagram that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; as [`recv`](Self::recv).
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Read, |s| s.recv(buffer))
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

    /// The address of this end.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.local_addr())
    }

    /// The address that this socket is connected to.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ask(|s| s.peer_addr())
    }
}

/// Options; each is std's method of that name.
impl UdpSocket {
    /// Lets it send to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.ask(|s| s.set_broadcast(on))
    }

    /// Whether it may send to broadcast addresses.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.ask(|s| s.broadcast())
    }

    /// Sets whether multicast datagrams that it sends come back to this host
    /// (`IP_MULTICAST_LOOP`).
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.ask(|s| s.set_multicast_loop_v4(on))
    }

    /// Whether multicast datagrams come back.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.ask(|s| s.multicast_loop_v4())
    }

    /// Sets how many routers a multicast datagram may pass (`IP_MULTICAST_TTL`); at first 1.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.ask(|s| s.set_multicast_ttl_v4(ttl))
    }

    /// How many routers a multicast datagram may pass.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.ask(|s| s.multicast_ttl_v4())
    }

    /// As [`set_multicast_loop_v4`](Self::set_multicast_loop_v4) for IPv6.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.ask(|s| s.set_multicast_loop_v6(on))
    }

    /// Whether IPv6 multicast datagrams come back.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.ask(|s| s.multicast_loop_v6())
    }

    /// Sets how many routers a datagram may pass (`IP_TTL`).
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.ask(|s| s.set_ttl(ttl))
    }

    /// How many routers a datagram may pass.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn ttl(&self) -> io::Result<u32> {
        self.ask(|s| s.ttl())
    }

    /// Joins a multicast group (`IP_ADD_MEMBERSHIP`) on the interface with that address, or on one
    /// that the system chooses if it is `0.0.0.0`.
    ///
    /// # Errors
    /// Those of `setsockopt`; `InvalidInput` for an address that is no group's.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.ask(|s| s.join_multicast_v4(group, interface))
    }

    /// Joins a multicast group on the interface with that index, or on any if it is 0.
    ///
    /// # Errors
    /// As [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.ask(|s| s.join_multicast_v6(group, interface))
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.ask(|s| s.leave_multicast_v4(group, interface))
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.ask(|s| s.leave_multicast_v6(group, interface))
    }
}

/// What succeeds for the first of the addresses for which it does.
fn each<R>(
    addr: impl ToSocketAddrs,
    what: &str,
    attempt: impl Fn(&SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for address in addr.to_socket_addrs()? {
        match attempt(&address) {
            Ok(done) => return Ok(done),
            Err(e) => last = Some(fault::bind(what, address, e)),
        }
    }
    Err(last.unwrap_or_else(fault::no_address))
}

fn first(addr: impl ToSocketAddrs) -> io::Result<SocketAddr> {
    addr.to_socket_addrs()?.next().ok_or_else(fault::no_address)
}
