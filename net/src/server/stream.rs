//! [`StreamServer`]: a handler for each connection, in a task of its own.
//!
//! One task accepts. Each connection is given to the worker that has the fewest of them, where it
//! stays. What was measured instead (`docs/benchmarks.md`, "Accepting"): a task on each worker, on
//! one socket or on several (`SO_REUSEPORT`), costs the same and spreads less evenly; leaving the
//! spread to idle workers, which take what has waited, puts nearly all on one.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use rustix::io::Errno;
use sward_runtime::io::{is_closed, is_exhausted};
use sward_runtime::sync::AcquireError;
use sward_runtime::{Builder, CancelToken, JoinError, current, sleep, workers};

use super::core::{Acceptor, Core, End, Options, Visit};
use super::listener::Listener;
use super::serving::Serving;
use super::trouble::{Outcome, Trouble};
use crate::addr::ToSocketAddrs;
use crate::tcp::listener::TcpListener;

/// A server that calls a handler for each connection, each in a task of its own (gevent's
/// `StreamServer`).
///
/// The stream belongs to the handler: when it returns, the connection is closed. A handler that
/// panics, or returns an error, ends its own connection and is counted.
///
/// # Examples
/// An echo server:
/// ```
/// use std::io::{self, Read, Write};
/// use std::net::Shutdown;
/// use std::time::Duration;
/// use sward_net::{TcpStream, server::StreamServer};
///
/// let server = StreamServer::bind("127.0.0.1:0")?
///     .max_connections(1000)
///     .on_error(|trouble| eprintln!("{trouble}"));
/// let serving = server.start(|mut stream: TcpStream, _peer| {
///     io::copy(&mut &stream, &mut &stream)?;
///     stream.flush()
/// })?;
///
/// let mut stream = TcpStream::connect(serving.local_addr())?;
/// stream.write_all(b"hello")?;
/// stream.shutdown(Shutdown::Write)?;
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// assert_eq!(serving.stop(Duration::from_secs(5)).killed, 0);
/// # io::Result::Ok(())
/// ```
#[must_use = "a server does nothing until it is started"]
pub struct StreamServer<L> {
    listener: L,
    options: Options,
}

impl StreamServer<TcpListener> {
    /// Makes a server that listens on the first of the addresses that can be had; port 0 is a free
    /// one. Clients can connect from now on, and wait until the server is started.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        TcpListener::bind(addr).map(Self::new)
    }
}

impl<L: Listener> StreamServer<L> {
    /// Makes a server of a listener.
    pub fn new(listener: L) -> Self {
        Self {
            listener,
            options: Options::default(),
        }
    }

    /// Sets how many connections there may be at a time; no limit otherwise.
    ///
    /// The server stops accepting when it has so many: further clients connect, and wait in the
    /// kernel, in the order in which they came. It accepts the next one when a handler has ended.
    ///
    /// # Panics
    /// If `n` is 0: nobody could ever be served.
    pub fn max_connections(mut self, n: usize) -> Self {
        assert!(
            n > 0,
            "sward: a server with max_connections(0) would let all clients wait for ever; give it \
             1 at least"
        );
        self.options.max = Some(n);
        self
    }

    /// Names the server, for dumps.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Sets what is told of errors and panics, for a log. Without it they are only counted.
    ///
    /// It is called in the handler's task or in the one that accepts, which does not go on before
    /// it returns. It may stop the server.
    pub fn on_error(mut self, f: impl Fn(&Trouble<'_>) + Send + Sync + 'static) -> Self {
        self.options.on_error = Some(Box::new(f));
        self
    }

    /// Puts something around the listener, such as TLS; the other settings stay.
    pub fn wrap<M: Listener>(self, f: impl FnOnce(L) -> M) -> StreamServer<M> {
        StreamServer {
            listener: f(self.listener),
            options: self.options,
        }
    }

    /// Returns a token that is cancelled when the server is stopped or ends, before handlers are
    /// killed: for handlers that wait for the next request of their connection, and need not.
    ///
    /// # Examples
    /// ```
    /// use std::{io::{self, Read, Write}, time::Duration};
    /// use sward_net::{TcpStream, server::StreamServer};
    /// let server = StreamServer::bind("127.0.0.1:0")?;
    /// let stopping = server.stopping();
    /// let serving = server.start(move |mut stream: TcpStream, _| {
    ///     let mut byte = [0];
    ///     while let Ok(Ok(1)) = stopping.run(|| stream.read(&mut byte)) {
    ///         stream.write_all(&byte)?; // not disturbed
    ///     }
    ///     io::Result::Ok(())
    /// })?;
    /// let mut stream = TcpStream::connect(serving.local_addr())?;
    /// stream.write_all(b"x")?;
    /// stream.read_exact(&mut [0])?;
    /// assert_eq!(serving.stop(Duration::from_secs(5)).finished, 1);
    /// # io::Result::Ok(())
    /// ```
    pub fn stopping(&self) -> CancelToken {
        self.options.stopping.clone()
    }

    /// Returns the listener.
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// Starts the server on the current runtime, and returns at once.
    ///
    /// The handler is called with the stream and the client's address, and may return nothing or a
    /// `Result`.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// When the address cannot be asked; as [`Builder::spawn`].
    pub fn start<H, R>(self, handler: H) -> io::Result<Serving<L::Addr>>
    where
        H: Fn(L::Stream, L::Addr) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let local = self.listener.local_addr()?;
        let listener = Arc::new(self.listener);
        let closed = listener.clone();
        let core = Core::new(self.options, workers(), Box::new(move || closed.close()));
        // Several servers accept on different workers.
        let home = NEXT.fetch_add(1, Relaxed) % workers();
        let acceptor = Acceptor(core.clone());
        let accepts = move || {
            let core = &acceptor.0;
            core.set_acceptor(current());
            let result = accept(core, home, &*listener, &Arc::new(handler));
            drop(listener);
            acceptor.end(result);
        };
        Builder::new()
            .name("accept")
            .on_worker(home)
            .spawn(accepts)?;
        Ok(Serving::new(core, local))
    }

    /// Starts the server and waits for its end (gevent's `serve_forever`).
    ///
    /// Nothing of it is left running then: what handlers there are, are killed. To stop it in a
    /// gentle way, use [`start`](Self::start) and [`Serving::stop`].
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Event`](sward_runtime::WaitKind::Event); honours kill and `timeout`.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`Serving::join`].
    pub fn serve_forever<H, R>(self, handler: H) -> io::Result<()>
    where
        H: Fn(L::Stream, L::Addr) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        struct Ends<A>(Serving<A>);
        impl<A> Drop for Ends<A> {
            fn drop(&mut self) {
                self.0.kill();
            }
        }
        let ends = Ends(self.start(handler)?);
        ends.0.join()
    }
}

impl<L: fmt::Debug> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("listener", &self.listener)
            .field("options", &self.options)
            .finish()
    }
}

/// Accepts until the server is closed.
fn accept<L, H, R>(core: &Arc<Core>, home: usize, listener: &L, handler: &Arc<H>) -> io::Result<()>
where
    L: Listener,
    H: Fn(L::Stream, L::Addr) -> R + Send + Sync + 'static,
    R: Outcome,
{
    let mut rest = Rest::default();
    while let Some(period) = core.period() {
        let next = period.run(|| {
            let place = core.places.as_ref().map(|places| places.acquire());
            place.transpose().map(|place| (place, listener.accept()))
        });
        // A pause, or the end.
        let Ok(next) = next else { continue };
        let (place, accepted) = next.map_err(|e: AcquireError| io::Error::other(e))?;
        let trouble = match accepted {
            Ok((stream, peer)) => {
                // It came while the period was ended: it waits for the next one.
                if period.is_cancelled() && core.period().is_none() {
                    return Ok(());
                }
                // It goes back when the visit ends.
                if let Some(place) = place {
                    place.forget();
                }
                let worker = core.worker(home);
                let visit = Visit::begin(core, worker);
                let job = Job {
                    stream,
                    peer,
                    handler: handler.clone(),
                    visit,
                };
                let builder = Builder::new().on_worker(worker);
                match core.handlers.spawn_with(builder, || job.run()) {
                    Ok(_task) => {
                        rest.renew();
                        continue;
                    }
                    // There is no stack; the visit has ended.
                    Err(e) => {
                        core.never_began();
                        e
                    }
                }
            }
            Err(e) => {
                drop(place);
                if core.is_closed() || is_closed(&e) {
                    return Ok(());
                }
                if is_fatal(&e) {
                    core.tell(&Trouble::Fatal(&e));
                    return Err(e);
                }
                e
            }
        };
        if let Some(nap) = rest.after(core, &trouble) {
            let _ = period.run(|| sleep(nap));
        }
    }
    Ok(())
}

/// Whether a listener will never give a connection again (gevent's `fatal_errors`).
pub(super) fn is_fatal(e: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK)
    )
}

/// How long the acceptor rests after errors.
#[derive(Default)]
pub(super) struct Rest {
    /// Errors in a row.
    errors: u32,
    /// Whether it has been told that something is exhausted.
    told: bool,
    nap: Duration,
}

impl Rest {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);
    /// So many connections may be lost in a row before that means a rest.
    const LOST: u32 = 16;

    pub(super) fn renew(&mut self) {
        *self = Self::default();
    }

    /// Counts an error, tells of it, and says how long to rest.
    pub(super) fn after(&mut self, core: &Core, e: &io::Error) -> Option<Duration> {
        self.errors += 1;
        let exhausted = is_exhausted(e) || e.kind() == io::ErrorKind::OutOfMemory;
        if exhausted {
            core.counts.exhausted.fetch_add(1, SeqCst);
            if !std::mem::replace(&mut self.told, true) {
                core.tell(&Trouble::Exhausted(e));
            }
        } else {
            core.counts.lost.fetch_add(1, SeqCst);
            core.tell(&Trouble::Accept(e));
        }
        if !exhausted && self.errors < Self::LOST {
            return None;
        }
        self.nap = (self.nap * 2).clamp(Self::FIRST, Self::LONGEST);
        Some(self.nap)
    }
}

/// A handler's call. Dropped in this order: who has seen the visit end sees the connection closed.
struct Job<S, A, H> {
    stream: S,
    peer: A,
    handler: Arc<H>,
    visit: Visit,
}

impl<S, A: Clone + fmt::Debug, H> Job<S, A, H> {
    fn run<R: Outcome>(self)
    where
        H: Fn(S, A) -> R,
    {
        let Self {
            stream,
            peer,
            handler,
            visit,
        } = self;
        let wants = visit.core().wants_errors();
        let named = wants.then(|| peer.clone());
        let result = catch_unwind(AssertUnwindSafe(|| handler(stream, peer)));
        drop(handler);
        conclude(
            visit,
            result,
            named.as_ref().map(|peer| peer as &dyn fmt::Debug),
        );
    }
}

/// Counts how a handler ended, and tells of it.
pub(super) fn conclude<R: Outcome>(
    mut visit: Visit,
    result: std::thread::Result<R>,
    peer: Option<&dyn fmt::Debug>,
) {
    match result {
        Ok(outcome) => match outcome.error() {
            None => visit.ends(End::Finished),
            Some(error) => {
                visit.ends(End::Failed);
                if let Some(peer) = peer {
                    visit.core().tell(&Trouble::Failed { peer, error });
                }
            }
        },
        Err(payload) => {
            let end = JoinError::from_payload(payload);
            if let Some(message) = end.panic_message() {
                visit.ends(End::Panicked);
                if let Some(peer) = peer {
                    visit.core().tell(&Trouble::Panicked { peer, message });
                }
            }
        }
    }
}
