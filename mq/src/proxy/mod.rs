//! The proxy: what comes in at one socket goes out at another, and back.
//!
//! Nouns
//! - A *way* leads from one socket to another; a proxy has two, or one where the other way there is
//!   nothing to receive or nothing can be sent (PULL to PUSH), or both ends are one socket.
//! - A *pump* is the task that moves what comes along a way. REQ and REP take turns, so with one of
//!   them a single pump takes the ways in turn.
//! - *Steering* is what tells the pumps to go on, to pause or to end: by a [`ProxyHandle`], or by the
//!   messages PAUSE, RESUME, TERMINATE and STATISTICS of a control socket, read by a task of its own.
//!
//! ```text
//!            PAUSE               (pumps stop before the next message)
//! Running <---------> Paused
//!    |      RESUME       |
//!    +----> Ended <------+   TERMINATE; a socket was closed; the runner was killed
//! ```
//!
//! Invariants
//! - A pump asks for room before it receives: while one side is full nothing is taken from the other,
//!   so that back-pressure goes through, and the end finds no pump with a message in its hand. Where
//!   the answer may be wrong (a ROUTER that is MANDATORY, a socket that others use too) the pump
//!   waits with the message; if the proxy ends meanwhile it tries once more, then counts it as lost.
//! - Steering wakes whoever waits at the sockets after the mode is set; whoever waits there looks at
//!   the mode under the socket's lock before it lines up. So no change of mode is missed.
//! - Statistics are read without any lock, whatever the pumps do. Each number has one writer.
//! - What a peer sends cannot end the proxy: a message that the other side refuses is counted.
//!
//! Rejected: one task that polls all sockets, as libzmq has (one side that waits holds up the other);
//! `select!` of a socket and the steering for each message (dearer than to move it); many messages
//! received at a time (they would be in the proxy's hand when the other side is full).

mod control;
mod pump;
mod statistics;
mod steering;

use std::fmt;
use std::sync::Arc;

use sward_runtime::{Builder, JoinHandle, scope, worker};
use sward_zmtp::SocketType;

use self::control::obey;
use self::pump::{Way, pump, receives, sends, takes_turns};
use self::statistics::Counts;
pub use self::statistics::{ProxyStatistics, ProxyTraffic};
use self::steering::{EndOnDrop, Mode, Over, Steering};
use crate::error::Error;
use crate::socket::core::SocketCore;
use crate::socket::dynamic::Socket;

/// Moves messages between two sockets until one of them is closed or its context terminated
/// (`zmq_proxy`). See [`Proxy`], which can do more.
///
/// # Blocking
/// Parks; honours kill and `timeout`. The sockets' own time-outs do not count here.
///
/// # Errors
/// Always in the end: [`Error::Closed`] or [`Error::Terminated`]. At once [`Error::Unsupported`] if
/// no message could ever be moved.
///
/// # Examples
/// ```
/// use sward_mq::{Context, Error, SocketType, proxy};
/// let context = Context::new();
/// let clients = context.socket(SocketType::Router)?;
/// clients.bind("inproc://clients")?;
/// let workers = context.socket(SocketType::Dealer)?;
/// workers.bind("inproc://workers")?;
/// let running = sward_runtime::spawn(move || proxy(&clients, &workers));
///
/// let worker = context.socket(SocketType::Rep)?;
/// worker.connect("inproc://workers")?;
/// let client = context.socket(SocketType::Req)?;
/// client.connect("inproc://clients")?;
/// client.send("question")?;
/// assert_eq!(worker.recv()?.first(), "question");
/// worker.send("answer")?;
/// assert_eq!(client.recv()?.first(), "answer");
///
/// context.shutdown();
/// assert!(matches!(running.join().unwrap(), Err(Error::Terminated)));
/// # Ok::<(), Error>(())
/// ```
pub fn proxy(frontend: &impl AsRef<Socket>, backend: &impl AsRef<Socket>) -> Result<(), Error> {
    Proxy::new(frontend, backend).run().map(drop)
}

/// A proxy to be: two sockets, and perhaps one that gets a copy of everything and one that controls
/// it (`zmq_proxy_steerable`).
///
/// Whole messages move, in both directions, and frames are not copied. While one side cannot be sent
/// to, nothing is received from the other. Both sockets may be the same one, which then gets back
/// what it receives. Subscriptions pass from an XPUB to an XSUB as any messages do.
///
/// ```text
///  clients       frontend   backend       workers
///  REQ, DEALER -> ROUTER <-> DEALER -> REP, ROUTER     a queue shared by workers
///  PUB, XPUB   ->   XSUB <-> XPUB   -> SUB, XSUB       a place where all meet
///  PUSH        ->   PULL  -> PUSH   -> PULL            collects and deals out
/// ```
///
/// The proxy keeps the sockets open: it ends when it is terminated, or when one of them is closed or
/// its context terminated.
///
/// # Examples
/// A copy of all that passes, and a handle.
/// ```
/// use sward_mq::{Context, Proxy, SocketType};
/// let context = Context::new();
/// let socket = |kind, endpoint| {
///     let socket = context.socket(kind)?;
///     socket.bind(endpoint).map(|_| socket)
/// };
/// let ends = (SocketType::Pull, SocketType::Push);
/// let (frontend, backend) = (socket(ends.0, "inproc://in")?, socket(ends.1, "inproc://out")?);
/// let copies = socket(SocketType::Push, "inproc://copies")?;
/// let running = Proxy::new(&frontend, &backend).capture(&copies).spawn()?;
///
/// let peer = |kind, endpoint| {
///     let socket = context.socket(kind)?;
///     socket.connect(endpoint).map(|_| socket)
/// };
/// let (out, copy) = (peer(SocketType::Pull, "inproc://out")?, peer(SocketType::Pull, "inproc://copies")?);
/// peer(SocketType::Push, "inproc://in")?.send("work")?;
/// assert_eq!(out.recv()?, copy.recv()?);
///
/// let statistics = running.terminate()?;
/// assert_eq!((statistics.frontend.received, statistics.backend.sent), (1, 1));
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[must_use = "nothing moves before `run` or `spawn`"]
pub struct Proxy {
    frontend: Socket,
    backend: Socket,
    capture: Option<Socket>,
    control: Option<Socket>,
}

impl Proxy {
    /// Returns a proxy between two sockets.
    pub fn new(frontend: &impl AsRef<Socket>, backend: &impl AsRef<Socket>) -> Self {
        Self {
            frontend: frontend.as_ref().clone(),
            backend: backend.as_ref().clone(),
            capture: None,
            control: None,
        }
    }

    /// Sends a copy of each message to that socket, too: a PUB, PUSH, DEALER or PAIR. If it has to
    /// wait there, the proxy waits; a PUB never does.
    pub fn capture(mut self, socket: &impl AsRef<Socket>) -> Self {
        self.capture = Some(socket.as_ref().clone());
        self
    }

    /// Obeys the messages that come in there: PAUSE, RESUME, TERMINATE and STATISTICS.
    ///
    /// Any kind that receives will do. STATISTICS is answered by eight frames, see
    /// [`ProxyStatistics`]; what else a REP, or a ROUTER, receives is answered by an empty message,
    /// and a word that is none of these by a text that says so. Words with frames before them
    /// (envelopes, a topic) are words, too. An answer that would have to wait is dropped.
    pub fn control(mut self, socket: &impl AsRef<Socket>) -> Self {
        self.control = Some(socket.as_ref().clone());
        self
    }

    /// Returns the first of the two sockets.
    pub fn frontend(&self) -> &Socket {
        &self.frontend
    }

    /// Returns the second of the two sockets.
    pub fn backend(&self) -> &Socket {
        &self.backend
    }

    /// Moves messages until the control socket says TERMINATE. Returns what was moved.
    ///
    /// # Blocking
    /// Parks; honours kill and `timeout`. The sockets' own time-outs do not count here.
    ///
    /// # Errors
    /// [`Error::Closed`] or [`Error::Terminated`] when one of the sockets ends;
    /// [`Error::Unsupported`] at once if no message could ever be moved, copied or obeyed.
    ///
    /// # Cancel safety
    /// Killed or timed out, it has no message in hand that could be delivered.
    pub fn run(self) -> Result<ProxyStatistics, Error> {
        Shared::new(self)?.run()
    }

    /// Moves messages in a task of its own until the handle or the control socket says that it is
    /// enough.
    ///
    /// # Errors
    /// [`Error::Unsupported`] as [`run`](Self::run), and if no task can be had.
    pub fn spawn(self) -> Result<ProxyHandle, Error> {
        let shared = Shared::new(self)?;
        let running = shared.clone();
        let task = named("zmq proxy").spawn(move || running.run())?;
        Ok(ProxyHandle { shared, task })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("frontend", &self.frontend)
            .field("backend", &self.backend)
            .field("capture", &self.capture)
            .field("control", &self.control)
            .finish()
    }
}

/// A proxy that runs in a task; returned by [`Proxy::spawn`]. Dropped, it leaves the proxy running.
pub struct ProxyHandle {
    shared: Arc<Shared>,
    task: JoinHandle<Result<ProxyStatistics, Error>>,
}

impl ProxyHandle {
    /// Tells the proxy to stop before the next message. What comes meanwhile stays in the sockets.
    ///
    /// # Blocking
    /// Never parks, and so do not [`resume`](Self::resume) and [`statistics`](Self::statistics).
    pub fn pause(&self) {
        self.shared.steering.set(Mode::Paused);
    }

    /// Tells the proxy to go on.
    pub fn resume(&self) {
        self.shared.steering.set(Mode::Running);
    }

    /// Returns what was moved up to now.
    pub fn statistics(&self) -> ProxyStatistics {
        self.shared.statistics()
    }

    /// Tells the proxy to end, and waits until it has. Works with sockets that are full and with a
    /// paused proxy. Returns what was moved.
    ///
    /// # Blocking
    /// As [`join`](Self::join).
    ///
    /// # Errors
    /// As [`join`](Self::join), if it had ended before.
    pub fn terminate(self) -> Result<ProxyStatistics, Error> {
        self.shared.steering.end(Ok(()));
        self.join()
    }

    /// Waits until the proxy ends. Returns what was moved.
    ///
    /// # Blocking
    /// Parks; honours kill and `timeout`.
    ///
    /// # Errors
    /// As [`Proxy::run`]; [`Error::Unwinding`] if its task was killed.
    pub fn join(self) -> Result<ProxyStatistics, Error> {
        self.task.join().unwrap_or(Err(Error::Unwinding))
    }

    /// Returns whether the proxy has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHandle")
            .field("mode", &self.shared.steering.mode())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

/// A running proxy.
struct Shared {
    sockets: Proxy,
    steering: Steering,
    there: Counts,
    back: Counts,
}

fn named(name: &str) -> Builder {
    let builder = Builder::new().name(name);
    // Where the sockets are used: nothing then needs another worker.
    match worker() {
        Some(worker) => builder.on_worker(worker),
        None => builder,
    }
}

impl Shared {
    fn new(sockets: Proxy) -> Result<Arc<Self>, Error> {
        let others = [&sockets.capture, &sockets.control].into_iter().flatten();
        let all = [&sockets.frontend, &sockets.backend]
            .into_iter()
            .chain(others);
        let shared = Self {
            steering: Steering::new(all.cloned().collect()),
            sockets,
            there: Counts::default(),
            back: Counts::default(),
        };
        let ways = shared.ways();
        let turns = takes_turns(shared.front().kind) || takes_turns(shared.rear().kind);
        if ways.is_empty() || turns && ways.len() == 1 && !shared.is_single() {
            return Err(Error::Unsupported(
                "be proxied to the other: no message could pass",
            ));
        }
        if shared
            .sockets
            .capture
            .as_ref()
            .is_some_and(|s| !sends(s.core().kind))
        {
            return Err(Error::Unsupported("capture: it does not send"));
        }
        if shared
            .sockets
            .control
            .as_ref()
            .is_some_and(|s| !receives(s.core().kind))
        {
            return Err(Error::Unsupported("control a proxy: it does not receive"));
        }
        Ok(Arc::new(shared))
    }

    fn front(&self) -> &SocketCore {
        self.sockets.frontend.core()
    }

    fn rear(&self) -> &SocketCore {
        self.sockets.backend.core()
    }

    fn is_single(&self) -> bool {
        std::ptr::eq(self.front(), self.rear())
    }

    /// The ways that there are; that on which the first message comes, first.
    fn ways(&self) -> Vec<Way<'_>> {
        let (front, rear) = (self.front(), self.rear());
        let there = self.way(front, rear, &self.there);
        let back = self
            .way(rear, front, &self.back)
            .filter(|_| !self.is_single());
        let mut ways: Vec<_> = there.into_iter().chain(back).collect();
        if front.kind == SocketType::Req || rear.kind == SocketType::Rep {
            ways.reverse();
        }
        ways
    }

    fn way<'a>(
        &'a self,
        from: &'a SocketCore,
        to: &'a SocketCore,
        counts: &'a Counts,
    ) -> Option<Way<'a>> {
        let way = Way {
            steering: &self.steering,
            capture: self.sockets.capture.as_ref().map(Socket::core),
            from,
            to,
            counts,
            // The answer of a REP, or of the socket itself, changes with what is received.
            asks: !self.is_single() && to.kind != SocketType::Rep,
        };
        (receives(from.kind) && sends(to.kind)).then_some(way)
    }

    fn run(self: Arc<Self>) -> Result<ProxyStatistics, Error> {
        scope(|s| {
            // Also if this task is killed.
            let _over = EndOnDrop(&self.steering);
            let ways = self.ways();
            let turns = ways
                .iter()
                .any(|way| takes_turns(way.from.kind) || takes_turns(way.to.kind));
            let mut pumps = Vec::new();
            if turns {
                pumps.push(ways);
            } else {
                pumps.extend(ways.into_iter().map(|way| vec![way]));
            }
            for ways in pumps {
                s.spawn_with(named("zmq proxy pump"), move || {
                    let _over = EndOnDrop(ways[0].steering);
                    let _: Over = pump(&ways);
                })?;
            }
            if let Some(control) = &self.sockets.control {
                s.spawn_with(named("zmq proxy control"), || {
                    let _over = EndOnDrop(&self.steering);
                    let _: Over = obey(&self.steering, control.core(), || self.statistics());
                })?;
            }
            self.steering.wait_for_the_end();
            Ok::<_, Error>(())
        })?;
        match self.steering.mode() {
            Mode::Ended(Err(e)) => Err(e),
            _ => Ok(self.statistics()),
        }
    }

    fn statistics(&self) -> ProxyStatistics {
        statistics::statistics(&self.there, &self.back)
    }
}
