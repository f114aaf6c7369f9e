//! What can be set on a connection that is open: std's `set_` methods of `TcpStream`, and those of
//! Linux that std lacks.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;

use super::stream::TcpStream;
use crate::options::{Keepalive, user_timeout};
use crate::socket;

impl TcpStream {
    /// Sets `TCP_NODELAY`: small writes are sent at once instead of being collected.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.ask(|s| s.set_nodelay(on))
    }

    /// Whether `TCP_NODELAY` is set.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.ask(std::net::TcpStream::nodelay)
    }

    /// Sets how many routers a packet may pass (`IP_TTL`, and the hop limit of IPv6).
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
        self.ask(std::net::TcpStream::ttl)
    }

    /// Sets what closing does with bytes that are not sent yet (`SO_LINGER`): with `None`, the
    /// kernel goes on sending them; with zero, they are thrown away and the other end sees a reset.
    ///
    /// With more than zero the close that ends the socket, a drop too, **blocks the worker** until
    /// the other end has them or the time is over. To know that they have arrived, have the other
    /// end say so: shut down the writing side, then read until its end.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    ///
    /// # Examples
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (stream, _) = listener.accept()?;
    /// stream.set_linger(Some(Duration::ZERO))?;
    /// drop(stream);
    /// assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.ask(|s| Ok(sockopt::set_socket_linger(s, linger)?))
    }

    /// What closing does with bytes that are not sent yet; see [`set_linger`](Self::set_linger).
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.ask(|s| Ok(sockopt::socket_linger(s)?))
    }

    /// Sets when the kernel asks whether the other end is still there; `None`: never.
    ///
    /// # Errors
    /// `InvalidInput` for times and counts that the kernel does not take.
    ///
    /// # Examples
    /// ```
    /// use sward_net::{Keepalive, TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_keepalive(Some(Keepalive::default()))?;
    /// assert_eq!(stream.keepalive()?, Some(Keepalive::default()));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        self.ask(|s| Keepalive::set(keepalive, s))
    }

    /// When the kernel asks whether the other end is still there.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn keepalive(&self) -> io::Result<Option<Keepalive>> {
        self.ask(|s| Keepalive::get(s))
    }

    /// Sets for how long sent bytes may be unanswered before the connection is given up
    /// (`TCP_USER_TIMEOUT`); `None` is the kernel's own time, about a quarter of an hour.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    pub fn set_user_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        let millis = user_timeout(limit)?;
        self.ask(|s| Ok(sockopt::set_tcp_user_timeout(s, millis)?))
    }

    /// For how long sent bytes may be unanswered.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn user_timeout(&self) -> io::Result<Option<Duration>> {
        let millis = self.ask(|s| Ok(sockopt::tcp_user_timeout(s)?))?;
        Ok((millis > 0).then(|| Duration::from_millis(millis.into())))
    }

    /// Sends answers (ACKs) to what has come at once, or delays them (`TCP_QUICKACK`). The kernel
    /// changes it back by itself; set it again after each read that needs it.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_quickack(&self, on: bool) -> io::Result<()> {
        self.ask(|s| Ok(sockopt::set_tcp_quickack(s, on)?))
    }

    /// Whether answers are sent at once now.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn quickack(&self) -> io::Result<bool> {
        self.ask(|s| Ok(sockopt::tcp_quickack(s)?))
    }

    /// Sets the size of the receive buffer (`SO_RCVBUF`); the kernel doubles it for its own needs,
    /// and no longer tunes it. The window is agreed on at the start: for large ones use
    /// [`ConnectOptions`](crate::ConnectOptions) or [`ListenOptions`](crate::ListenOptions).
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.ask(|s| Ok(sockopt::set_socket_recv_buffer_size(s, bytes)?))
    }

    /// The size of the receive buffer, as the kernel counts it: doubled.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        self.ask(|s| Ok(sockopt::socket_recv_buffer_size(s)?))
    }

    /// Sets the size of the send buffer (`SO_SNDBUF`); the kernel doubles it for its own needs, and
    /// no longer tunes it.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.ask(|s| Ok(sockopt::set_socket_send_buffer_size(s, bytes)?))
    }

    /// The size of the send buffer, as the kernel counts it: doubled.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        self.ask(|s| Ok(sockopt::socket_send_buffer_size(s)?))
    }
}
