//! [`TlsStream`]: a connection that is encrypted, over any [`Stream`].

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion,
    ServerConfig, ServerConnection,
};

use super::duplex::Duplex;
use super::fault;
use super::session::Session;
use crate::stream::Stream;

/// A TLS connection, of a client or a server (gevent's `SSLSocket`).
///
/// It reads and writes through `&`, so one task may read while another writes. The handshake
/// happens at the first use in either direction, or by [`handshake`](Self::handshake).
///
/// A clean end is the peer's `close_notify`: only then a read returns 0. A connection that ends
/// without it gives [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), because whoever sits in
/// between could have cut it. To end this side cleanly, call `shutdown(Shutdown::Write)`. Dropping
/// the stream only tries: it says `close_notify` if there is room for it, does not wait, and says
/// nothing in a task that unwinds, whose message may be half.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use sward_net::{Shutdown, Stream, TcpListener, TcpStream, tls};
///
/// # #[cfg(feature = "self-signed")] {
/// let (server, client) = tls::self_signed(&["localhost"])?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let task = sward_runtime::spawn(move || {
///     let mut stream = tls::accept(server, listener.accept()?.0)?;
///     stream.write_all(b"hello")?;
///     stream.shutdown(Shutdown::Write)
/// });
/// let mut stream = tls::connect_with(client, "localhost", TcpStream::connect(address)?)?;
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// task.join().unwrap()?;
/// # }
/// # std::io::Result::Ok(())
/// ```
pub struct TlsStream<S: Stream> {
    duplex: Box<Duplex<S>>,
}

/// Makes a client's stream over a connection; `name` is what the server's certificate must be for.
/// The handshake comes at the first use.
///
/// # Errors
/// `InvalidInput` if the name is neither a DNS name nor an IP address.
pub fn connect_with<S: Stream>(
    config: impl Into<Arc<ClientConfig>>,
    name: &str,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        let text = format!("'{name}' is neither a DNS name nor an IP address");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    let connection = ClientConnection::new(config.into(), server)
        .map_err(|e| fault::setup("a TLS client with this configuration", e))?;
    Ok(TlsStream::new(stream, connection))
}

/// Makes a server's stream over a connection that was accepted. The handshake comes at the first
/// use.
///
/// # Errors
/// `InvalidInput` for a configuration that contradicts itself.
pub fn accept<S: Stream>(
    config: impl Into<Arc<ServerConfig>>,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let connection = ServerConnection::new(config.into())
        .map_err(|e| fault::setup("a TLS server with this configuration", e))?;
    Ok(TlsStream::new(stream, connection))
}

impl<S: Stream> TlsStream<S> {
    /// Puts a connection of rustls, on which nothing has happened yet, over a stream: for what
    /// [`connect_with`] and [`accept`] cannot do.
    pub fn new(stream: S, connection: impl Into<Connection>) -> Self {
        let session = Session::new(connection.into());
        Self {
            duplex: Box::new(Duplex::new(stream, session)),
        }
    }

    /// Does the handshake, if it is not done yet. What was interrupted goes on where it was.
    ///
    /// # Blocking
    /// Parks as reads and writes of the stream below do; honours kill, `timeout` and the time that
    /// [`set_handshake_timeout`](Self::set_handshake_timeout) gives.
    ///
    /// # Errors
    /// `InvalidData` when the two do not agree, or the certificate is not good: the text says why,
    /// and the error's source is rustls's. `TimedOut`. `UnexpectedEof` when the peer is gone.
    pub fn handshake(&self) -> io::Result<()> {
        if self.duplex.is_shaken() {
            return Ok(());
        }
        self.duplex.shake(None)
    }

    /// Limits the time of the handshake, from its first step to its end, whoever does it.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    pub fn set_handshake_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.duplex.handshake.set(limit)
    }

    /// Limits each later read, the handshake and all its parts included; `None` takes the limit
    /// away. One that is over time fails with [`TimedOut`](io::ErrorKind::TimedOut), and what has
    /// come in so far is kept.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.duplex.read.set(limit)
    }

    /// Limits each later write. One that fails with `TimedOut` has taken nothing. One whose time
    /// was over in the middle has taken what it says, and what is not sent yet goes first at the
    /// next write, or by `flush`.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.duplex.write.set(limit)
    }

    /// The limit of reads.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.duplex.read.get()
    }

    /// The limit of writes.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.duplex.write.get()
    }

    /// The stream below: for its addresses and options. What is read from it or written to it
    /// directly breaks the connection, and its time-outs are set by this one.
    pub fn get_ref(&self) -> &S {
        &self.duplex.transport
    }

    /// The protocol that was agreed on (ALPN), such as `h2`; `None` before the handshake.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.look(|c| c.alpn_protocol().map(<[u8]>::to_vec))
    }

    /// The name that the client asked for (SNI), on a server; `None` before the handshake, and if
    /// the client named none.
    pub fn server_name(&self) -> Option<String> {
        self.look(|c| match c {
            Connection::Server(c) => c.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        })
    }

    /// The peer's certificates, its own one first; `None` before the handshake, and for a client
    /// that sent none.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.look(|c| c.peer_certificates().map(<[_]>::to_vec))
    }

    /// The version of TLS; `as_str` gives its name.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.look(|c| c.protocol_version())
    }

    /// The cipher suite; `as_str` gives its name.
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        self.look(|c| c.negotiated_cipher_suite().map(|suite| suite.suite()))
    }

    /// Whether the handshake took up an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.look(|c| c.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    fn look<R>(&self, f: impl FnOnce(&Connection) -> R) -> R {
        f(self.duplex.session.lock().connection())
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    #[inline]
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.duplex.recv(buffer)
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.duplex.send(|session, out| session.write(bytes, out))
    }

    /// All buffers go into the same record, where they fit.
    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|b| b.is_empty()) {
            return Ok(0);
        }
        self.duplex
            .send(|session, out| session.write_vectored(buffers, out))
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(limit)
    }

    fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.get_ref().set_nodelay(on)
    }

    /// For writing: sends what is left and `close_notify`, then shuts the stream below down. That
    /// may wait, as a write does; after `TimedOut` it can be called again. For reading: reads
    /// return 0.
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let said = match how {
            Shutdown::Read => Ok(()),
            Shutdown::Write | Shutdown::Both => self.duplex.shut_down_write(),
        };
        if how == Shutdown::Write {
            said?;
            return self.duplex.transport.shutdown(how);
        }
        self.duplex.shut_down_read();
        let done = self.duplex.transport.shutdown(how);
        said.and(done)
    }

    /// Closes the stream below under whoever uses this one; `close_notify` is said if that needs
    /// no wait.
    fn close(&self) -> io::Result<()> {
        self.duplex.farewell();
        self.duplex.transport.close()
    }
}

impl<S: Stream> Read for TlsStream<S> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer)
    }
}

impl<S: Stream> Read for &TlsStream<S> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer)
    }
}

impl<S: Stream> Write for TlsStream<S> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.duplex.flush()
    }
}

impl<S: Stream> Write for &TlsStream<S> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.duplex.flush()
    }
}

impl<S: Stream> Drop for TlsStream<S> {
    fn drop(&mut self) {
        self.duplex.farewell();
    }
}

impl<S: Stream + fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("stream", self.get_ref())
            .field("version", &self.protocol_version())
            .finish_non_exhaustive()
    }
}
