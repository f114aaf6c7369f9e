//! [`DatagramServer`]: a handler for each datagram.
//!
//! One task receives. Datagrams are handled in tasks of their own, because a handler that waits
//! must not hold up the others; with `inline`, one after another in the task that receives. Where
//! a limit is set, a datagram that comes while so many are handled is dropped and counted: to let
//! it wait would only move the loss into the kernel, where it is not seen.

use std::fmt::{self, Debug};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net as unix;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use sward_runtime::io::is_closed;
use sward_runtime::sync::Permit;
use sward_runtime::{Builder, CancelToken, current, sleep, workers};

use super::core::{Acceptor, Core, Options, Visit};
use super::serving::Serving;
use super::stream::{Rest, conclude, is_fatal};
use super::trouble::{Outcome, Trouble};
use crate::addr::ToSocketAddrs;
use crate::udp::UdpSocket;
use crate::unix::datagram::UnixDatagram;

/// The largest datagram that UDP has.
const LARGEST: usize = 65_535;

/// What a [`DatagramServer`] asks of a socket: UDP, a Unix socket, or a type of yours.
pub trait DatagramSocket: Send + Sync + 'static {
    /// Where datagrams come from and go to.
    type Addr: Clone + Debug + Send + 'static;

    /// Receives a datagram, waiting for it.
    ///
    /// # Errors
    /// Those of `recvfrom(2)`.
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Addr)>;

    /// Sends a datagram.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    fn send_to(&self, bytes: &[u8], to: &Self::Addr) -> io::Result<usize>;

    /// The address that it is bound to.
    ///
    /// # Errors
    /// Those of `getsockname`.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl DatagramSocket for UdpSocket {
    type Addr = SocketAddr;

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer)
    }

    fn send_to(&self, bytes: &[u8], to: &SocketAddr) -> io::Result<usize> {
        self.send_to(bytes, to)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl DatagramSocket for UnixDatagram {
    type Addr = unix::SocketAddr;

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, unix::SocketAddr)> {
        self.recv_from(buffer)
    }

    fn send_to(&self, bytes: &[u8], to: &unix::SocketAddr) -> io::Result<usize> {
        self.send_to_addr(bytes, to)
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }
}

/// A server that calls a handler for each datagram (gevent's `DatagramServer`).
///
/// The handler is called with the bytes, the sender's address, and the socket to answer by. What
/// is said of handlers and errors at [`StreamServer`](super::StreamServer) holds here too.
#[must_use = "a server does nothing until it is started"]
pub struct DatagramServer<S> {
    socket: S,
    options: Options,
    inline: bool,
    largest: usize,
}

/// The way to answer from a handler: the server's socket.
pub struct Responder<'a, S: DatagramSocket> {
    socket: &'a S,
    peer: &'a S::Addr,
}

impl<S: DatagramSocket> Responder<'_, S> {
    /// Sends to whom the datagram came from.
    ///
    /// # Blocking
    /// May park while the socket's buffer is full.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    pub fn reply(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send_to(bytes, self.peer)
    }

    /// Sends to anybody, as [`reply`](Self::reply).
    ///
    /// # Errors
    /// As `reply`.
    pub fn send_to(&self, bytes: &[u8], to: &S::Addr) -> io::Result<usize> {
        self.socket.send_to(bytes, to)
    }
}

impl<S: DatagramSocket> Debug for Responder<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("to", self.peer)
            .finish_non_exhaustive()
    }
}

impl DatagramServer<UdpSocket> {
    /// Makes a server of a UDP socket at the first of the addresses that can be had.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    ///
    /// # Examples
    /// ```
    /// use std::net::SocketAddr;
    /// use sward_net::server::Responder;
    /// use sward_net::{DatagramServer, UdpSocket};
    /// type Back<'a> = Responder<'a, UdpSocket>;
    /// let server = DatagramServer::bind("127.0.0.1:0")?
    ///     .start(|bytes: &[u8], _: SocketAddr, back: &Back<'_>| back.reply(bytes).map(drop))?;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.send_to(b"hello", server.local_addr())?;
    /// let mut buffer = [0; 16];
    /// let (n, _) = socket.recv_from(&mut buffer)?;
    /// assert_eq!(&buffer[..n], b"hello");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        UdpSocket::bind(addr).map(Self::new)
    }
}

impl<S: DatagramSocket> DatagramServer<S> {
    /// Makes a server of a socket.
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            options: Options::default(),
            inline: false,
            largest: LARGEST,
        }
    }

    /// Sets how many datagrams are handled at a time; no limit otherwise. What comes while there
    /// are so many is dropped, and counted in [`ServerStats::dropped`](super::ServerStats).
    ///
    /// # Panics
    /// If `n` is 0: all would be dropped.
    pub fn max_tasks(mut self, n: usize) -> Self {
        assert!(
            n > 0,
            "sward: a server with max_tasks(0) would drop all datagrams; give it 1 at least"
        );
        self.options.max = Some(n);
        self
    }

    /// Handles datagrams one after another in the task that receives, for handlers that do not
    /// wait: it saves the task.
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Sets how large a datagram may be, 65,535 bytes otherwise. A larger one is cut.
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// Names the server, for dumps.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Sets what is told of errors and panics; see
    /// [`StreamServer::on_error`](super::StreamServer::on_error).
    pub fn on_error(mut self, f: impl Fn(&Trouble<'_>) + Send + Sync + 'static) -> Self {
        self.options.on_error = Some(Box::new(f));
        self
    }

    /// Returns a token that is cancelled when the server is stopped; see
    /// [`StreamServer::stopping`](super::StreamServer::stopping).
    pub fn stopping(&self) -> CancelToken {
        self.options.stopping.clone()
    }

    /// Starts the server on the current runtime, and returns at once.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// When the address cannot be asked; as [`Builder::spawn`].
    pub fn start<H, R>(self, handler: H) -> io::Result<Serving<S::Addr>>
    where
        H: Fn(&[u8], S::Addr, &Responder<'_, S>) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        let local = self.socket.local_addr()?;
        let socket = Arc::new(self.socket);
        // Handlers may answer until the last one has ended; then the socket is dropped.
        let core = Core::new(self.options, workers(), Box::new(|| Ok(())));
        let acceptor = Acceptor(core.clone());
        let (inline, largest) = (self.inline, self.largest);
        let receives = move || {
            let core = &acceptor.0;
            core.set_acceptor(current());
            let result = receive(core, &socket, &Arc::new(handler), inline, largest);
            drop(socket);
            acceptor.end(result);
        };
        Builder::new().name("receive").spawn(receives)?;
        Ok(Serving::new(core, local))
    }
}

impl<S: Debug> Debug for DatagramServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramServer")
            .field("socket", &self.socket)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Receives until the server is closed.
fn receive<S, H, R>(
    core: &Arc<Core>,
    socket: &Arc<S>,
    handler: &Arc<H>,
    inline: bool,
    largest: usize,
) -> io::Result<()>
where
    S: DatagramSocket,
    H: Fn(&[u8], S::Addr, &Responder<'_, S>) -> R + Send + Sync + 'static,
    R: Outcome,
{
    let mut rest = Rest::default();
    let mut buffer = vec![0; largest];
    while let Some(period) = core.period() {
        // A pause, or the end.
        let Ok(received) = period.run(|| socket.recv_from(&mut buffer)) else {
            continue;
        };
        let trouble = match received {
            Ok((length, peer)) => {
                rest.renew();
                // It came while the period was ended: it waits for the next one.
                if period.is_cancelled() && core.period().is_none() {
                    return Ok(());
                }
                match core.places.as_ref().map(|places| places.try_acquire()) {
                    None => {}
                    Some(Ok(place)) => Permit::forget(place),
                    Some(Err(_)) => {
                        core.counts.dropped.fetch_add(1, SeqCst);
                        continue;
                    }
                }
                let visit = Visit::begin(core, 0);
                let bytes = &buffer[..length];
                if inline {
                    core.inline.store(true, SeqCst);
                    handle(bytes, peer, &**socket, &**handler, visit);
                    core.inline.store(false, SeqCst);
                    continue;
                }
                let (bytes, socket, handler) = (bytes.to_vec(), socket.clone(), handler.clone());
                let job = move || handle(&bytes, peer, &*socket, &*handler, visit);
                drop(core.handlers.spawn(job));
                continue;
            }
            Err(e) if core.is_closed() || is_closed(&e) => return Ok(()),
            Err(e) if is_fatal(&e) => {
                core.tell(&Trouble::Fatal(&e));
                return Err(e);
            }
            Err(e) => e,
        };
        if let Some(nap) = rest.after(core, &trouble) {
            let _ = period.run(|| sleep(nap));
        }
    }
    Ok(())
}

fn handle<S, H, R>(bytes: &[u8], peer: S::Addr, socket: &S, handler: &H, visit: Visit)
where
    S: DatagramSocket,
    H: Fn(&[u8], S::Addr, &Responder<'_, S>) -> R,
    R: Outcome,
{
    let responder = Responder {
        socket,
        peer: &peer,
    };
    let from = peer.clone();
    let result = catch_unwind(AssertUnwindSafe(|| handler(bytes, from, &responder)));
    conclude(visit, result, Some(&peer));
}
