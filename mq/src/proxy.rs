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

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use sward_runtime::sync::{Arm, Lines, WaitError};
use sward_runtime::{Builder, JoinHandle, WaitKind, WaitReason, scope, select, worker};
use sward_zmtp::{Frame, Message, SocketType};

use crate::error::Error;
use crate::loss::Loss;
use crate::socket::core::{Limit, READERS, SocketCore, State, Stop, WATCHERS, WRITERS};
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
        self.shared.set(Mode::Paused);
    }

    /// Tells the proxy to go on.
    pub fn resume(&self) {
        self.shared.set(Mode::Running);
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
        self.shared.end(Ok(()));
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
            .field("mode", &*self.shared.mode.lock())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

/// What a proxy has moved at one of its sockets. A message of several frames is one; its bytes are
/// those of all frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ProxyTraffic {
    pub received: u64,
    pub received_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
}

/// What a proxy has moved.
///
/// As a message it is libzmq's answer to STATISTICS: eight frames of eight bytes in the order of the
/// fields, the first socket's first, in the byte order of the machine.
///
/// # Examples
/// ```
/// use sward_mq::{Message, ProxyStatistics};
/// let mut statistics = ProxyStatistics::default();
/// statistics.backend.sent_bytes = 7;
/// let message = Message::from(&statistics);
/// assert_eq!((message.len(), &message[7][..]), (8, &7u64.to_ne_bytes()[..]));
/// assert_eq!(ProxyStatistics::from_message(&message), Some(statistics));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStatistics {
    /// At the first socket.
    pub frontend: ProxyTraffic,
    /// At the second.
    pub backend: ProxyTraffic,
    /// Messages that were received and refused by the other socket: nobody has the routing id of a
    /// mandatory ROUTER, it has not the form that the socket needs, the proxy ended while it waited.
    /// Not part of the message.
    pub lost: u64,
}

impl ProxyStatistics {
    /// Reads the answer of a proxy, ours or libzmq's; `None` if it is not one.
    pub fn from_message(message: &Message) -> Option<Self> {
        let mut numbers = [0; 8];
        if message.len() != numbers.len() {
            return None;
        }
        for (number, frame) in numbers.iter_mut().zip(message) {
            *number = u64::from_ne_bytes(frame.as_slice().try_into().ok()?);
        }
        let traffic = |[received, received_bytes, sent, sent_bytes]: [u64; 4]| ProxyTraffic {
            received,
            received_bytes,
            sent,
            sent_bytes,
        };
        let [a, b, c, d, rest @ ..] = numbers;
        Some(Self {
            frontend: traffic([a, b, c, d]),
            backend: traffic(rest),
            lost: 0,
        })
    }
}

impl From<&ProxyStatistics> for Message {
    fn from(statistics: &ProxyStatistics) -> Self {
        let sides = [&statistics.frontend, &statistics.backend];
        let numbers = sides.map(|t| [t.received, t.received_bytes, t.sent, t.sent_bytes]);
        numbers
            .concat()
            .into_iter()
            .map(|n| Frame::from(n.to_ne_bytes()))
            .collect()
    }
}

/// What steering tells the pumps.
#[derive(Clone, Debug)]
enum Mode {
    Running,
    Paused,
    /// How it ended.
    Ended(Result<(), Error>),
}

const RUNNING: u8 = 0;
const PAUSED: u8 = 1;
const ENDED: u8 = 2;

/// What went one way: messages and bytes received at its beginning and sent at its end.
#[derive(Default)]
struct Counts {
    received: AtomicU64,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    lost: AtomicU64,
}

/// Adds to a number that has one writer.
#[inline]
fn add(number: &AtomicU64, n: u64) {
    number.store(number.load(Relaxed).wrapping_add(n), Relaxed);
}

/// A running proxy.
struct Shared {
    sockets: Proxy,
    mode: Lines<Mode, 1>,
    /// [`Mode`] for a quick look; set with its lock held.
    flag: AtomicU8,
    there: Counts,
    back: Counts,
}

/// The proxy has ended.
struct Over;

/// Whether a kind of socket receives anything.
fn receives(kind: SocketType) -> bool {
    !matches!(kind, SocketType::Push | SocketType::Pub)
}

fn sends(kind: SocketType) -> bool {
    !matches!(kind, SocketType::Pull | SocketType::Sub)
}

fn takes_turns(kind: SocketType) -> bool {
    matches!(kind, SocketType::Req | SocketType::Rep)
}

/// An arm that waits until a socket is closed, and says why it was.
fn closing(socket: &Socket) -> impl Arm<Output = Error> {
    let lines = &socket.core().lines;
    lines.arm::<WATCHERS, _, _>(|state| state.closed.is_some(), |state| state.closed.clone())
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
        let shared = Self {
            sockets,
            mode: Lines::new(Mode::Running),
            flag: AtomicU8::new(RUNNING),
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
            proxy: self,
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
            let _over = EndOnDrop(&self);
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
                    let _over = EndOnDrop(ways[0].proxy);
                    let _: Over = pump(&ways);
                })?;
            }
            if let Some(control) = &self.sockets.control {
                s.spawn_with(named("zmq proxy control"), || {
                    let _over = EndOnDrop(&self);
                    let _: Over = self.obey(control);
                })?;
            }
            self.wait_for_the_end();
            Ok::<_, Error>(())
        })?;
        match self.mode.lock().clone() {
            Mode::Ended(Err(e)) => Err(e),
            _ => Ok(self.statistics()),
        }
    }

    /// Waits until the proxy has ended, or one of its sockets, at which perhaps no pump waits.
    fn wait_for_the_end(&self) {
        let Proxy {
            frontend,
            backend,
            capture,
            control,
        } = &self.sockets;
        let over = |mode: &Mode| matches!(mode, Mode::Ended(_));
        let why = select! {
            () = self.mode.arm::<0, _, _>(over, move |mode| over(mode).then_some(())) => return,
            why = closing(frontend) => why,
            why = closing(backend) => why,
            why = capture.as_ref().map(closing) => why,
            why = control.as_ref().map(closing) => why,
        };
        self.end(Err(why));
    }

    /// Waits for a mode.
    fn wait(&self, is: fn(&Mode) -> bool) {
        let reason = WaitReason::new(WaitKind::Other("steering of a zmq proxy"), self.front().id);
        let waited = self
            .mode
            .wait::<0, _>(reason, || None, |mode| is(mode).then_some(()));
        if let Err(WaitError::TimedOut | WaitError::Unwinding) = waited {
            self.end(Err(Error::Unwinding));
        }
    }

    /// Changes the mode, unless it has ended.
    fn set(&self, mode: Mode) {
        let mut guard = self.mode.lock();
        if matches!(*guard, Mode::Ended(_)) {
            return;
        }
        let flag = match &mode {
            Mode::Running => RUNNING,
            Mode::Paused => PAUSED,
            Mode::Ended(_) => ENDED,
        };
        *guard = mode;
        self.flag.store(flag, Relaxed);
        guard.held().wake_all(0);
        drop(guard);
        let Proxy {
            frontend,
            backend,
            capture,
            control,
        } = &self.sockets;
        let others = [capture, control].into_iter().flatten();
        for socket in [frontend, backend].into_iter().chain(others) {
            let mut guard = socket.core().lines.lock();
            let mut held = guard.held();
            held.wake_all(READERS);
            held.wake_all(WRITERS);
        }
    }

    fn end(&self, how: Result<(), Error>) {
        self.set(Mode::Ended(how));
    }

    fn statistics(&self) -> ProxyStatistics {
        let traffic = |came: &Counts, went: &Counts| ProxyTraffic {
            received: came.received.load(Relaxed),
            received_bytes: came.received_bytes.load(Relaxed),
            sent: went.sent.load(Relaxed),
            sent_bytes: went.sent_bytes.load(Relaxed),
        };
        ProxyStatistics {
            frontend: traffic(&self.there, &self.back),
            backend: traffic(&self.back, &self.there),
            lost: self.there.lost.load(Relaxed) + self.back.lost.load(Relaxed),
        }
    }

    /// Tries until it succeeds, in line `L` of a socket. A socket that fails ends the proxy, but for
    /// what `keep` wants to know. Only the end counts for those to whom `pauses` does not matter.
    #[inline]
    fn until<const L: usize, R>(
        &self,
        socket: &SocketCore,
        pauses: bool,
        keep: fn(&Error) -> bool,
        mut f: impl FnMut(&mut State) -> Result<R, Stop>,
    ) -> Result<Result<R, Error>, Over> {
        let stops = |flag| {
            if pauses {
                flag != RUNNING
            } else {
                flag == ENDED
            }
        };
        loop {
            let outcome = socket.attempt::<L, _>(Limit::Ever, |state| {
                if stops(self.flag.load(Relaxed)) {
                    return Ok(None);
                }
                f(state).map(Some)
            });
            match outcome {
                Ok(Some(outcome)) => return Ok(Ok(outcome)),
                Ok(None) if self.flag.load(Relaxed) == ENDED => return Err(Over),
                Ok(None) => self.wait(|mode| !matches!(mode, Mode::Paused)),
                Err(e) if keep(&e) => return Ok(Err(e)),
                Err(e) => {
                    self.end(Err(e));
                    return Err(Over);
                }
            }
        }
    }

    /// Reads the control socket until the proxy has ended.
    fn obey(&self, control: &Socket) -> Over {
        let core = control.core();
        loop {
            let mut message = Message::new();
            let got =
                self.until::<READERS, _>(core, false, |_| false, |state| take(state, &mut message));
            if let Err(over) = got {
                return over;
            }
            let mut envelope = message.into_frames();
            let word = envelope.pop().unwrap_or_default();
            let (mode, answer) = match word.as_slice() {
                b"PAUSE" => (Some(Mode::Paused), None),
                b"RESUME" => (Some(Mode::Running), None),
                b"TERMINATE" => (Some(Mode::Ended(Ok(()))), None),
                b"STATISTICS" => (None, Some(Message::from(&self.statistics()))),
                _ => {
                    let text = "unknown: say PAUSE, RESUME, TERMINATE or STATISTICS";
                    (None, Some(Message::from(text)))
                }
            };
            let expected = matches!(core.kind, SocketType::Rep | SocketType::Router);
            if expected || word == "STATISTICS" && sends(core.kind) {
                envelope.extend(answer.unwrap_or_default());
                // What has to wait is dropped: whoever does not read its answers must not hold up the
                // proxy.
                drop(core.send(envelope.into(), Limit::Try));
            }
            if let Some(mode) = mode {
                self.set(mode);
            }
        }
    }
}

/// Ends the proxy with its runner, if nobody did before.
struct EndOnDrop<'a>(&'a Shared);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end(Err(Error::Unwinding));
    }
}

/// From one socket to another.
struct Way<'a> {
    proxy: &'a Shared,
    from: &'a SocketCore,
    to: &'a SocketCore,
    counts: &'a Counts,
    /// Whether it asks for room before it receives.
    asks: bool,
}

/// Moves messages along the ways in turn.
fn pump(ways: &[Way<'_>]) -> Over {
    let mut hands: Vec<_> = ways.iter().map(Hand::new).collect();
    loop {
        for hand in &mut hands {
            if let Err(over) = hand.step() {
                return over;
            }
        }
    }
}

/// A way with the message that is just being moved.
struct Hand<'a> {
    way: &'a Way<'a>,
    message: Message,
    /// There is a message.
    full: bool,
    /// There was room when the last one was sent.
    room: bool,
}

/// What a socket may say of a message without being broken: nobody has that routing id, it has the
/// wrong form.
fn concerns_the_message(error: &Error) -> bool {
    matches!(error, Error::HostUnreachable | Error::InvalidMessage(_))
}

impl<'a> Hand<'a> {
    fn new(way: &'a Way<'a>) -> Self {
        Self {
            way,
            message: Message::new(),
            full: false,
            room: false,
        }
    }

    /// Moves one message.
    #[inline]
    fn step(&mut self) -> Result<(), Over> {
        let Way {
            proxy,
            from,
            to,
            counts,
            asks,
        } = *self.way;
        if asks && !self.room {
            drop(proxy.until::<WRITERS, _>(
                to,
                true,
                |_| false,
                |state| {
                    check(state)?;
                    let room = state.pattern.can_send(&mut state.pipes);
                    room.then_some(()).ok_or(Stop::WouldBlock)
                },
            )?);
        }
        let message = &mut self.message;
        drop(proxy.until::<READERS, _>(from, true, |_| false, |state| take(state, message))?);
        self.full = true;
        let size = self.message.size() as u64;
        add(&counts.received, 1);
        add(&counts.received_bytes, size);
        if let Some(capture) = &proxy.sockets.capture {
            self.copy(capture.core())?;
        }
        let message = &mut self.message;
        let sent = proxy.until::<WRITERS, _>(to, true, concerns_the_message, |state| {
            put(state, message)?;
            Ok(asks && state.pattern.can_send(&mut state.pipes))
        })?;
        self.full = false;
        match sent {
            Ok(room) => {
                self.room = room;
                add(&counts.sent, 1);
                add(&counts.sent_bytes, size);
            }
            Err(_) => self.lose(),
        }
        Ok(())
    }

    /// Sends a copy: the frames are shared.
    #[cold]
    fn copy(&self, capture: &SocketCore) -> Result<(), Over> {
        let mut copy = self.message.clone();
        let sent =
            self.way
                .proxy
                .until::<WRITERS, _>(capture, true, concerns_the_message, |state| {
                    put(state, &mut copy)
                })?;
        if sent.is_err() {
            capture.count(Loss::Unexpected, 1, None);
        }
        Ok(())
    }

    #[cold]
    fn lose(&self) {
        add(&self.way.counts.lost, 1);
        self.way.to.count(Loss::Unroutable, 1, None);
    }
}

/// Fails if the socket is closed.
#[inline]
fn check(state: &State) -> Result<(), Stop> {
    match &state.closed {
        Some(why) => Err(Stop::With(why.clone())),
        None => Ok(()),
    }
}

/// Receives if there is something.
#[inline]
fn take(state: &mut State, into: &mut Message) -> Result<(), Stop> {
    check(state)?;
    state.pattern.recv(&mut state.pipes, into)?;
    Ok(())
}

/// Sends if there is room; else the message stays.
#[inline]
fn put(state: &mut State, message: &mut Message) -> Result<(), Stop> {
    check(state)?;
    Ok(state.pattern.send(&mut state.pipes, message)?)
}

impl Drop for Hand<'_> {
    /// The proxy ended, or was killed, with a message in hand.
    fn drop(&mut self) {
        if !self.full {
            return;
        }
        let message = std::mem::take(&mut self.message);
        let size = message.size() as u64;
        if self.way.to.send(message, Limit::Try).is_ok() {
            add(&self.way.counts.sent, 1);
            add(&self.way.counts.sent_bytes, size);
        } else {
            self.lose();
        }
    }
}
