//! [`Socket`]: any kind of socket, with all operations; those that its kind does not have fail. The
//! typed fronts (`types.rs`) each wrap one and leave out what is not theirs.
//!
//! Nouns: a *handle* is what a `Socket` and its clones share. The last one to go closes the socket;
//! tasks and connections of the socket hold its core only, weakly.
//!
//! What is sent and received is in `messages.rs`, what is set in `settings.rs`, what is told in
//! `stats.rs`, what is waited for in `waits.rs`.

use std::fmt;
use std::sync::Arc;

use sward_zmtp::SocketType;

use super::core::SocketCore;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::monitor::Monitor;
use crate::options::Options;

/// A socket of any kind (`zmq_socket`); the last handle to it closes it.
///
/// For programs that know the kind there are [`Push`](crate::Push), [`Pull`](crate::Pull) and ten
/// others, which have the operations of their kind only. This one is for proxies, for kinds chosen
/// at run time, and for REQ and REP as libzmq has them.
///
/// A clone is the same socket. Any number of tasks and OS threads may use it at once, on any worker;
/// each message goes to one of those who receive, as a whole.
///
/// What is still to be sent when the last handle goes is sent in the background, for as long as
/// [`Options::linger`] says.
///
/// # Examples
/// ```
/// use sward_mq::{Socket, SocketType};
/// let pull = Socket::new(SocketType::Pull)?;
/// let endpoint = pull.bind("tcp://127.0.0.1:*")?;
/// let push = Socket::new(SocketType::Push)?;
/// push.connect(&endpoint)?;
/// push.send(["two", "frames"])?;
/// assert_eq!(pull.recv()?.len(), 2);
/// assert_eq!(push.recv().unwrap_err().errno(), 95); // ENOTSUP
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[derive(Clone)]
pub struct Socket {
    handle: Arc<Handle>,
}

/// Closes the socket when the last user drops it.
struct Handle {
    core: Arc<SocketCore>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.close(Error::Closed);
    }
}

impl Context {
    /// Returns a new socket of this context (`zmq_socket`).
    ///
    /// # Errors
    /// When the context has as many sockets as it may, or was terminated.
    pub fn socket(&self, kind: SocketType) -> Result<Socket, Error> {
        Socket::in_context(self, kind, Options::new())
    }

    /// Returns a new socket of this context with these options.
    ///
    /// # Errors
    /// As [`socket`](Self::socket), and for an option with a value that it cannot have.
    pub fn socket_with(&self, kind: SocketType, options: Options) -> Result<Socket, Error> {
        Socket::in_context(self, kind, options)
    }
}

impl Socket {
    /// Returns a new socket of the process's context, with default options.
    ///
    /// # Errors
    /// As [`in_context`](Self::in_context).
    pub fn new(kind: SocketType) -> Result<Self, Error> {
        Self::with(kind, Options::new())
    }

    /// Returns a new socket of the process's context.
    ///
    /// # Errors
    /// As [`in_context`](Self::in_context).
    pub fn with(kind: SocketType, options: Options) -> Result<Self, Error> {
        Self::in_context(&Context::global(), kind, options)
    }

    /// Returns a new socket.
    ///
    /// # Errors
    /// When an option has a wrong value, the context has as many sockets as it may, or it was
    /// terminated.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Context, Options, Socket, SocketType};
    /// let context = Context::new();
    /// let options = Options::safe().send_hwm(10);
    /// let socket = Socket::in_context(&context, SocketType::Dealer, options)?;
    /// assert_eq!(socket.socket_type(), SocketType::Dealer);
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn in_context(
        context: &Context,
        kind: SocketType,
        options: Options,
    ) -> Result<Self, Error> {
        let core = context.make(kind, options)?;
        Ok(Self {
            handle: Arc::new(Handle { core }),
        })
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &SocketCore {
        &self.handle.core
    }

    /// Listens at an endpoint (`zmq_bind`). Returns it with what stood for wildcards filled in.
    ///
    /// A socket may be bound and connected to any number of endpoints, in any order. Binds come into
    /// force with the options that the socket has then.
    ///
    /// # Blocking
    /// May park while a file or an interface is looked up; never for a peer.
    ///
    /// # Errors
    /// The endpoint is wrong or somebody else has it; the socket is closed.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Socket, SocketType};
    /// let router = Socket::new(SocketType::Router)?;
    /// let endpoint = router.bind("tcp://127.0.0.1:*")?;
    /// assert_ne!(endpoint.port(), Some(0));
    /// let taken = Socket::new(SocketType::Router)?.bind(&endpoint).unwrap_err();
    /// assert!(taken.to_string().contains("another socket has it"));
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn bind(&self, endpoint: impl AsRef<str>) -> Result<Endpoint, Error> {
        self.core().bind(&endpoint.as_ref().parse()?)
    }

    /// Connects to an endpoint, now and again after each loss (`zmq_connect`).
    ///
    /// Nobody need be there yet. Whether a connection stands is told by
    /// [`wait_connected`](Self::wait_connected), [`peers`](Self::peers) and monitors.
    ///
    /// A REQ, DEALER, PUB or SUB that is connected there already stays so: a second connection to
    /// the same peer would make no sense.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// The endpoint is wrong; the socket is closed.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Context, Options, Socket, SocketType};
    /// let context = Context::new();
    /// let push = Socket::in_context(&context, SocketType::Push, Options::new())?;
    /// push.connect("inproc://later")?;
    /// push.send("waits for the bind")?;
    /// let pull = Socket::in_context(&context, SocketType::Pull, Options::new())?;
    /// pull.bind("inproc://later")?;
    /// assert_eq!(pull.recv()?.first(), "waits for the bind");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn connect(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
        self.core().connect(&endpoint.as_ref().parse()?)
    }

    /// Ends listening at an endpoint, which is free again then (`zmq_unbind`). Connections that
    /// stand go on. For a wildcard, write what [`last_endpoint`](Self::last_endpoint) said.
    ///
    /// # Errors
    /// The socket is not bound there, or is closed.
    pub fn unbind(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
        self.core().unbind(&endpoint.as_ref().parse()?)
    }

    /// Ends a connection, and that it is made again (`zmq_disconnect`). What is queued for it is
    /// still sent, within the linger time, if the connection stands.
    ///
    /// # Errors
    /// The socket is not connected to that endpoint, or is closed.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Socket, SocketType};
    /// let dealer = Socket::new(SocketType::Dealer)?;
    /// dealer.connect("tcp://127.0.0.1:9")?;
    /// dealer.disconnect("tcp://127.0.0.1:9")?;
    /// assert!(dealer.endpoints().is_empty());
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn disconnect(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
        self.core().disconnect(&endpoint.as_ref().parse()?)
    }

    /// Returns the endpoint of the last bind or connect (`LAST_ENDPOINT`).
    pub fn last_endpoint(&self) -> Option<Endpoint> {
        self.core().lines.lock().ends.last.clone()
    }

    /// Returns the endpoints to which the socket is bound or connected now, the oldest first.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.core().lines.lock().ends.endpoints()
    }

    /// Returns what kind of socket it is (`TYPE`).
    pub fn socket_type(&self) -> SocketType {
        self.core().kind
    }

    /// Returns the context that it belongs to.
    pub fn context(&self) -> Context {
        Context::of(self.core().context.clone())
    }

    /// Returns the events of its endpoints and connections from now on (`zmq_socket_monitor`). It
    /// keeps 1024 of them for who is slow to receive.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{EventKind, Pull, Push};
    /// let pull = Pull::bound("tcp://127.0.0.1:*")?;
    /// let events = pull.monitor();
    /// let push = Push::connected(pull.last_endpoint().unwrap())?;
    /// assert!(matches!(events.recv()?.kind, EventKind::Accepted));
    /// assert!(matches!(events.recv()?.kind, EventKind::HandshakeSucceeded));
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn monitor(&self) -> Monitor {
        self.monitor_with(1024)
    }

    /// As [`monitor`](Self::monitor), with room for so many events.
    pub fn monitor_with(&self, capacity: usize) -> Monitor {
        self.core().monitors.open(capacity)
    }

    /// Ends the socket for all its handles: calls that wait on it, and later ones, fail with
    /// [`Error::Closed`]; what had come and nobody received is gone. Closing again does nothing.
    ///
    /// What is still to be sent is sent in the background, for as long as [`Options::linger`] says.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Error, Socket, SocketType};
    /// let socket = Socket::new(SocketType::Pull)?;
    /// let same = socket.clone();
    /// let waits = sward_runtime::spawn(move || same.recv());
    /// socket.close();
    /// assert!(matches!(waits.join().unwrap(), Err(Error::Closed)));
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn close(&self) {
        self.core().close(Error::Closed);
    }
}

impl AsRef<Self> for Socket {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core();
        let state = core.lines.lock();
        let (endpoints, peers) = (state.ends.endpoints(), state.pipes.connected());
        let closed = state.closed.is_some();
        drop(state);
        f.debug_struct(core.kind.name())
            .field("id", &core.id)
            .field("endpoints", &endpoints)
            .field("peers", &peers)
            .field("closed", &closed)
            .finish()
    }
}
