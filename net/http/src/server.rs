//! [`Server`]: a handler, a listener and limits. The connections are in `connection.rs`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use sward_net::server::{self, Listener, Stopped, StreamServer, Trouble};
use sward_net::{Stream, TcpListener, ToSocketAddrs};
use sward_runtime::spawn;

use crate::answer::{Access, IntoResponse, Peer, Stats};
use crate::body::Body;
use crate::connection::{Connection, OnAccess, Service};
use crate::limits::{Limits, Rate};
use crate::watch::{Live, Table, Watch};

/// A server that is not started yet: a listener and limits (gevent's `WSGIServer`).
///
/// The handler is called in the task of its connection, so it may block as it likes; the
/// connection reads the next request when it has returned. A handler that panics costs its
/// connection, which is answered 500.
///
/// What a client may send is limited; the methods say by how much. Whatever breaks HTTP/1.1, or
/// could be read in two ways, is refused with a status from 400 on, and the connection closed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use http::{Request, Response};
/// use sward_http::{Body, Server};
///
/// let server = Server::bind("127.0.0.1:0")?
///     .max_head(8 * 1024)
///     .idle_timeout(Duration::from_secs(20))
///     .start(|request: Request<Body>| Response::new(format!("You want {}.", request.uri())))?;
/// println!("http://{}/", server.local_addr());
/// server.stop(Duration::from_secs(5));
/// # std::io::Result::Ok(())
/// ```
pub struct Server<L> {
    server: StreamServer<L>,
    limits: Limits,
    on_access: Option<OnAccess>,
}

impl Server<TcpListener> {
    /// A server on a TCP address; port 0 is a free one.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(addr)?))
    }
}

impl<L: Listener> Server<L> {
    /// A server of what a listener accepts.
    pub fn new(listener: L) -> Self {
        Self {
            server: StreamServer::new(listener).name("http"),
            limits: Limits::default(),
            on_access: None,
        }
    }

    /// Bytes of a request's head; 16 KiB unless told. More is answered 431, or 414 if the first
    /// line alone is more.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.limits.head.bytes = bytes;
        self
    }

    /// Fields of a request's head; 100 unless told. More are answered 431.
    pub fn max_fields(mut self, count: usize) -> Self {
        // More than that no map can hold.
        self.limits.head.fields = count.min(16 * 1024);
        self
    }

    /// Bytes of a request's body, however it is read; without limit unless told, as a handler that
    /// streams takes what it likes. More is answered 413. [`Body::bytes`] and [`Body::text`] have
    /// a limit of their own, of 2 MiB.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.limits.body = bytes;
        self
    }

    /// For a whole head, from its first byte; 10 s unless told. A later one is answered 408. A
    /// connection on which no byte comes for that long at all is closed.
    pub fn head_timeout(mut self, limit: Duration) -> Self {
        self.limits.head_time = at_least(limit);
        self
    }

    /// Between two requests of a connection; 60 s unless told. It is then closed, up to a second or
    /// an eighth of the limit later.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle_time = at_least(limit);
        self
    }

    /// For each read of a body; 30 s unless told. Then it fails, and is answered 408.
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.limits.body_time = at_least(limit);
        self
    }

    /// For each send; 30 s unless told. A client that takes nothing for so long is cut off.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.limits.write_time = at_least(limit);
        self
    }

    /// Requests on one connection; without limit unless told. The last one closes it.
    pub fn max_requests(mut self, count: u64) -> Self {
        self.limits.requests = count;
        self
    }

    /// Requests of one connection in a second; without limit unless told. So many may come at
    /// once; what comes faster waits, and is not read meanwhile.
    pub fn max_rate(mut self, per_second: u32) -> Self {
        self.limits.rate = (per_second > 0).then(|| Rate {
            apart: Duration::from_secs(1) / per_second,
            burst: per_second,
        });
        self
    }

    /// Connections at a time; without limit unless told. More are not accepted, and wait in the
    /// kernel.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.server = self.server.max_connections(count);
        self
    }

    /// Sets what is told of panics, and of what goes wrong with accepting; see
    /// [`StreamServer::on_error`].
    pub fn on_error(mut self, f: impl Fn(&Trouble<'_>) + Send + Sync + 'static) -> Self {
        self.server = self.server.on_error(f);
        self
    }

    /// Makes it a server of https; a handshake may take 10 s.
    #[cfg(feature = "tls")]
    pub fn tls(
        self,
        config: impl Into<Arc<sward_net::tls::rustls::ServerConfig>>,
    ) -> Server<sward_net::tls::TlsListener<L>> {
        Server {
            server: self.server.tls(config),
            limits: self.limits,
            on_access: self.on_access,
        }
    }

    /// Whether responses may wait for those of requests that have been received already, to be
    /// sent together; off unless told. A slow request then holds up the responses before it.
    pub fn coalesce(mut self, on: bool) -> Self {
        self.limits.coalesce = on;
        self
    }

    /// Whether requests have a [`Peer`] in their extensions; not unless told, as it costs three
    /// allocations for each.
    pub fn with_peer(mut self, on: bool) -> Self {
        self.limits.with_peer = on;
        self
    }

    /// Calls a function after each exchange, in the task of the connection: for a log.
    pub fn on_access(mut self, f: impl Fn(&Access<'_>) + Send + Sync + 'static) -> Self {
        self.on_access = Some(Box::new(f));
        self
    }

    /// Starts to accept, and returns.
    ///
    /// # Errors
    /// As [`StreamServer::start`].
    pub fn start<F, R>(self, handler: F) -> io::Result<Serving<L::Addr>>
    where
        F: Fn(Request<Body>) -> R + Send + Sync + 'static,
        R: IntoResponse,
        L::Addr: Sync,
    {
        let local = self.server.listener().local_addr()?;
        let limits = self.limits;
        let watch = Watch::new();
        let service = Arc::new(Service {
            limits,
            handler,
            on_access: self.on_access,
            watch: watch.clone(),
            counters: Default::default(),
        });
        let table = Table::new(watch);
        let handle = {
            let (service, table) = (service.clone(), table.clone());
            move |stream: L::Stream, addr| {
                // Responses are written whole: to wait for more would only delay them. A connection
                // that is gone already says so at its first read.
                let _ = stream.set_nodelay(true);
                let live = Live::new(stream);
                let _entry = table.enter(live.clone());
                let local = local.clone();
                let peer = Peer { addr, local };
                // How a connection ends is its client's affair.
                let _ = Connection::new(&service, &live, peer).run();
            }
        };
        let stopping = self.server.stopping();
        let serving = self.server.start(handle)?;
        let counts = table.clone();
        spawn(move || counts.count(&limits));
        spawn(move || {
            stopping.wait();
            table.sweep();
        });
        Ok(Serving { serving, service })
    }

    /// Serves until the task is killed.
    ///
    /// # Blocking
    /// Parks; honours kill and `timeout`.
    ///
    /// # Errors
    /// As [`StreamServer::serve_forever`].
    pub fn serve_forever<F, R>(self, handler: F) -> io::Result<()>
    where
        F: Fn(Request<Body>) -> R + Send + Sync + 'static,
        R: IntoResponse,
        L::Addr: Sync,
    {
        struct Ends<A>(Serving<A>);
        impl<A> Drop for Ends<A> {
            fn drop(&mut self) {
                self.0.serving.kill();
            }
        }
        let ends = Ends(self.start(handler)?);
        ends.0.join()
    }
}

/// A limit of no time would refuse everything.
fn at_least(limit: Duration) -> Duration {
    limit.max(Duration::from_millis(1))
}

impl<L: fmt::Debug> fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("server", &self.server)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What is asked of a running server, whatever its handler's type.
trait Counting: Send + Sync {
    fn stats(&self) -> Stats;
}

impl<F: Send + Sync> Counting for Service<F> {
    fn stats(&self) -> Stats {
        self.counters.read()
    }
}

/// A running server. Dropping this leaves it running.
#[derive(Clone)]
pub struct Serving<A> {
    serving: server::Serving<A>,
    service: Arc<dyn Counting>,
}

impl<A> Serving<A> {
    /// Where it listens.
    pub fn local_addr(&self) -> A
    where
        A: Clone,
    {
        self.serving.local_addr()
    }

    /// The connections that there are.
    pub fn connections(&self) -> usize {
        self.serving.connections()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.service.stats()
    }

    /// Stops: no connection is accepted any more, those without a request are closed at once, and
    /// the others after the one that they are at (`Connection: close`). What is left after the
    /// grace is killed.
    ///
    /// # Blocking
    /// As [`server::Serving::stop`].
    pub fn stop(&self, grace: Duration) -> Stopped {
        self.serving.stop(grace)
    }

    /// Waits for as long as it runs: until it is stopped.
    ///
    /// # Blocking
    /// As [`server::Serving::join`].
    ///
    /// # Errors
    /// As [`server::Serving::join`].
    pub fn join(&self) -> io::Result<()> {
        self.serving.join()
    }
}

impl<A: fmt::Debug + Clone> fmt::Debug for Serving<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("local_addr", &self.local_addr())
            .field("connections", &self.connections())
            .field("stats", &self.stats())
            .finish()
    }
}
