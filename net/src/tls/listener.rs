//! [`TlsListener`]: accepts TLS connections from any [`Listener`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use sward_runtime::io::Patience;

use super::stream::{TlsStream, accept};
use crate::server::listener::Listener;
use crate::server::stream::StreamServer;

/// The time that a client has for its handshake, if nothing else is set.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A listener whose connections speak TLS.
///
/// `accept` returns as soon as somebody has connected; the handshake happens at the first use of
/// the stream, in the task that uses it, so that a slow client does not hold up the others. A
/// client has 10 s for it, or what [`handshake_timeout`](Self::handshake_timeout) says.
///
/// # Examples
/// ```no_run
/// use std::io::Write;
/// use sward_net::server::Listener;
/// use sward_net::{TcpListener, tls};
///
/// let config = tls::server_config("chain.pem", "key.pem")?;
/// let listener = tls::TlsListener::new(TcpListener::bind("[::]:443")?, config);
/// loop {
///     let (mut stream, _) = listener.accept()?;
///     sward_runtime::spawn(move || stream.write_all(b"hello"));
/// }
/// # #[allow(unreachable_code)] std::io::Result::Ok(())
/// ```
pub struct TlsListener<L> {
    inner: L,
    config: Arc<ServerConfig>,
    handshake: Patience,
}

impl<L: Listener> TlsListener<L> {
    /// Accepts from `listener`.
    pub fn new(listener: L, config: impl Into<Arc<ServerConfig>>) -> Self {
        let handshake = Patience::for_ever();
        // It is not zero.
        let _ = handshake.set(Some(HANDSHAKE));
        Self {
            inner: listener,
            config: config.into(),
            handshake,
        }
    }

    /// Sets how long a handshake may take; `None` is for ever.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    pub fn handshake_timeout(self, limit: Option<Duration>) -> io::Result<Self> {
        self.handshake.set(limit)?;
        Ok(self)
    }

    /// The listener below.
    pub fn get_ref(&self) -> &L {
        &self.inner
    }
}

impl<L: Listener> Listener for TlsListener<L> {
    type Stream = TlsStream<L::Stream>;
    type Addr = L::Addr;

    fn accept(&self) -> io::Result<(Self::Stream, Self::Addr)> {
        let (stream, from) = self.inner.accept()?;
        let stream = accept(self.config.clone(), stream)?;
        stream.set_handshake_timeout(self.handshake.get())?;
        Ok((stream, from))
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.inner.local_addr()
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

impl<L: Listener> StreamServer<L> {
    /// Makes it a server of TLS connections; a handshake may take 10 s. For another limit, use
    /// [`wrap`](Self::wrap) and [`TlsListener::handshake_timeout`].
    ///
    /// # Examples
    /// ```no_run
    /// use std::io::Write;
    /// use std::net::SocketAddr;
    /// use sward_net::{StreamServer, TcpStream, tls};
    ///
    /// let config = tls::server_config("chain.pem", "key.pem")?;
    /// StreamServer::bind("[::]:443")?.tls(config).serve_forever(
    ///     |mut stream: tls::TlsStream<TcpStream>, _: SocketAddr| stream.write_all(b"hello"),
    /// )?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn tls(self, config: impl Into<Arc<ServerConfig>>) -> StreamServer<TlsListener<L>> {
        self.wrap(|listener| TlsListener::new(listener, config))
    }
}

impl<L: fmt::Debug> fmt::Debug for TlsListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsListener").field(&self.inner).finish()
    }
}
