//! What the tests of sockets share. A test is written once, against [`Sock`], and is run with sockets
//! of several libraries in several places:
//!
//! - a [`World`] says over which transport, and who makes the sockets: the test's *subject*, whose
//!   behaviour is the matter, and its *peers*;
//! - here both are ours; `mq/interop` runs the same tests with libzmq on one side, and on both (so that
//!   the tests themselves are held against the original).
//!
//! Errors are libzmq's numbers: [`EAGAIN`] and so on.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

pub mod ours;
pub mod wire;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use sward_mq::SocketType as Kind;

/// How long a call waits that is to succeed.
pub const LONG: Duration = Duration::from_secs(30);
/// How long a call waits that is to find nothing. Where a test can, it proves absence by what comes
/// instead.
pub const SHORT: Duration = Duration::from_millis(60);

pub const EAGAIN: i32 = 11;
pub const EINVAL: i32 = 22;
pub const ENOENT: i32 = 2;
pub const ENODEV: i32 = 19;
pub const EMFILE: i32 = 24;
pub const ENAMETOOLONG: i32 = 36;
pub const EPROTONOSUPPORT: i32 = 93;
pub const ENOTSUP: i32 = 95;
pub const EADDRINUSE: i32 = 98;
pub const EHOSTUNREACH: i32 = 113;
pub const EFSM: i32 = 156_384_763;
pub const ENOCOMPATPROTO: i32 = 156_384_764;
pub const ETERM: i32 = 156_384_765;

/// The frames of a message.
pub type Frames = Vec<Vec<u8>>;

/// Runs a test's body; after 60 s the process is aborted with the dump of all runtimes.
pub fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

/// An option of a socket, with libzmq's name and unit.
#[derive(Clone, Debug)]
pub enum Opt {
    RoutingId(Vec<u8>),
    SendHwm(i32),
    RecvHwm(i32),
    /// Milliseconds; -1: for ever.
    Linger(i32),
    ReconnectIvl(i32),
    ReconnectIvlMax(i32),
    Immediate(bool),
    MaxMsgSize(i64),
    RouterMandatory(bool),
    RouterHandover(bool),
    ProbeRouter(bool),
    ReqCorrelate(bool),
    ReqRelaxed(bool),
    Conflate(bool),
    XpubVerbose(bool),
    XpubVerboser(bool),
    XpubNodrop(bool),
    XpubManual(bool),
    XpubWelcome(Vec<u8>),
    InvertMatching(bool),
    StreamNotify(bool),
    ConnectRoutingId(Vec<u8>),
    HeartbeatIvl(i32),
    HeartbeatTtl(i32),
    HeartbeatTimeout(i32),
    HandshakeIvl(i32),
    SendTimeout(i32),
    RecvTimeout(i32),
    Ipv6(bool),
    SendBuffer(i32),
    RecvBuffer(i32),
    Tos(i32),
}

pub fn id(id: &str) -> Opt {
    Opt::RoutingId(id.as_bytes().to_vec())
}

/// Events of monitors, by libzmq's numbers.
pub const CONNECTED: u32 = 0x1;
pub const CONNECT_DELAYED: u32 = 0x2;
pub const CONNECT_RETRIED: u32 = 0x4;
pub const LISTENING: u32 = 0x8;
pub const BIND_FAILED: u32 = 0x10;
pub const ACCEPTED: u32 = 0x20;
pub const CLOSED: u32 = 0x80;
pub const DISCONNECTED: u32 = 0x200;
pub const MONITOR_STOPPED: u32 = 0x400;
pub const FAILED_NO_DETAIL: u32 = 0x800;
pub const SUCCEEDED: u32 = 0x1000;
pub const FAILED_PROTOCOL: u32 = 0x2000;
pub const FAILED_AUTH: u32 = 0x4000;
/// A handshake that did not succeed.
pub const FAILED: u32 = FAILED_NO_DETAIL | FAILED_PROTOCOL | FAILED_AUTH;

/// A socket of any library. Calls that wait do so for [`LONG`], unless the options say otherwise.
pub trait Sock: Send + Sync + fmt::Debug {
    fn set(&self, option: Opt) -> Result<(), i32>;
    /// Returns the endpoint without wildcards.
    fn bind(&self, endpoint: &str) -> Result<String, i32>;
    fn connect(&self, endpoint: &str) -> Result<(), i32>;
    fn unbind(&self, endpoint: &str) -> Result<(), i32>;
    fn disconnect(&self, endpoint: &str) -> Result<(), i32>;
    fn last_endpoint(&self) -> String;
    fn send(&self, frames: Frames) -> Result<(), i32>;
    fn try_send(&self, frames: Frames) -> Result<(), i32>;
    fn recv(&self) -> Result<Frames, i32>;
    fn try_recv(&self) -> Result<Frames, i32>;
    fn recv_for(&self, limit: Duration) -> Result<Frames, i32>;
    fn subscribe(&self, topic: &[u8]) -> Result<(), i32>;
    fn unsubscribe(&self, topic: &[u8]) -> Result<(), i32>;
    /// Waits until so many events of these were told since the socket was made; returns all of them,
    /// with libzmq's value. Only where there are connections.
    fn wait_for(&self, events: u32, n: usize) -> Vec<(u32, u64)>;
    /// Waits until so many handshakes have been made, or what stands for them within a process,
    /// since the socket was made.
    fn wait_up(&self, n: usize);
    /// Waits until so many connections were lost after their handshake, since the socket was made.
    fn wait_down(&self, n: usize);
    /// Ends it, with whatever it has to send.
    fn close(self: Box<Self>);
}

pub type Socket = Box<dyn Sock>;

/// What can be sent: text, bytes, or several of them.
pub trait IntoFrames {
    fn into_frames(self) -> Frames;
}

impl IntoFrames for &str {
    fn into_frames(self) -> Frames {
        vec![self.as_bytes().to_vec()]
    }
}

impl IntoFrames for String {
    fn into_frames(self) -> Frames {
        vec![self.into_bytes()]
    }
}

impl IntoFrames for &[u8] {
    fn into_frames(self) -> Frames {
        vec![self.to_vec()]
    }
}

impl IntoFrames for Vec<u8> {
    fn into_frames(self) -> Frames {
        vec![self]
    }
}

impl<const N: usize> IntoFrames for [&str; N] {
    fn into_frames(self) -> Frames {
        self.iter().map(|part| part.as_bytes().to_vec()).collect()
    }
}

impl<const N: usize> IntoFrames for [&[u8]; N] {
    fn into_frames(self) -> Frames {
        self.iter().map(|part| part.to_vec()).collect()
    }
}

impl IntoFrames for Frames {
    fn into_frames(self) -> Frames {
        self
    }
}

/// What tests do most.
impl dyn Sock + '_ {
    /// Sends, which must succeed.
    #[track_caller]
    pub fn put(&self, message: impl IntoFrames) {
        let frames = message.into_frames();
        if let Err(errno) = self.send(frames) {
            panic!("{self:?}: send failed: {errno}");
        }
    }

    /// Receives, which must succeed.
    #[track_caller]
    pub fn take(&self) -> Frames {
        match self.recv() {
            Ok(frames) => frames,
            Err(errno) => panic!("{self:?}: recv failed: {errno}"),
        }
    }

    /// Receives a message as text; bytes that are none as escapes.
    #[track_caller]
    pub fn get(&self) -> Vec<String> {
        text(&self.take())
    }

    /// Receives a message of one frame as text.
    #[track_caller]
    pub fn one(&self) -> String {
        let mut frames = self.get();
        assert_eq!(frames.len(), 1, "{self:?}: {frames:?}");
        frames.remove(0)
    }

    /// Receives so many messages of one frame.
    #[track_caller]
    pub fn many(&self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.one()).collect()
    }

    /// Asserts that nothing comes for a while.
    #[track_caller]
    pub fn nothing(&self) {
        match self.recv_for(SHORT) {
            Err(EAGAIN) => {}
            other => panic!(
                "{self:?}: nothing was to come: {:?}",
                other.map(|f| text(&f))
            ),
        }
    }

    /// Asserts that for a while no connection is tried, but those that were made already.
    #[track_caller]
    pub fn stays_away(&self, made: usize) {
        sward_runtime::sleep(4 * SHORT);
        let seen = self.wait_for(CONNECTED, made);
        let tried = seen
            .iter()
            .filter(|(code, _)| code & CONNECTED != 0)
            .count();
        assert_eq!(tried, made, "{self:?}: {seen:x?}");
    }

    /// Asserts that a message cannot be sent now.
    #[track_caller]
    pub fn full(&self, message: impl IntoFrames) {
        assert_eq!(
            self.try_send(message.into_frames()),
            Err(EAGAIN),
            "{self:?}"
        );
    }

    /// Sets options.
    #[track_caller]
    pub fn with(&self, options: impl IntoIterator<Item = Opt>) {
        for option in options {
            let shown = format!("{option:?}");
            self.set(option)
                .unwrap_or_else(|errno| panic!("{self:?}: {shown}: {errno}"));
        }
    }

    /// Binds to an endpoint of the world's transport; returns which.
    #[track_caller]
    pub fn listen(&self, world: &World) -> String {
        self.bind(&world.wildcard())
            .unwrap_or_else(|errno| panic!("{self:?}: bind failed: {errno}"))
    }

    /// Connects.
    #[track_caller]
    pub fn dial(&self, endpoint: &str) {
        self.connect(endpoint)
            .unwrap_or_else(|errno| panic!("{self:?}: connect to {endpoint} failed: {errno}"));
    }
}

/// Frames as text, with escapes for what is none.
pub fn text(frames: &Frames) -> Vec<String> {
    frames
        .iter()
        .map(|frame| frame.escape_ascii().to_string())
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Ipc,
    Inproc,
}

/// Makes sockets of one library.
pub trait Library: Send + Sync {
    fn socket(&self, kind: Kind) -> Socket;
    /// One without a monitor: libzmq's numbers of errors can be those of its monitor.
    fn unwatched(&self, kind: Kind) -> Socket {
        self.socket(kind)
    }
}

/// Where a test runs; see the file head.
pub struct World {
    pub transport: Transport,
    pub libraries: [Box<dyn Library>; 2],
    directory: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A number that nobody else in this process gets.
pub fn unique() -> u32 {
    NUMBER.fetch_add(1, Relaxed)
}

impl World {
    pub fn new(transport: Transport, subject: Box<dyn Library>, peer: Box<dyn Library>) -> Self {
        let name = format!("sward-mq-{}-{}", std::process::id(), unique());
        let directory = std::env::temp_dir().join(name);
        if transport == Transport::Ipc {
            std::fs::create_dir_all(&directory).unwrap();
        }
        Self {
            transport,
            libraries: [subject, peer],
            directory,
        }
    }

    /// A socket whose behaviour is the matter of the test.
    pub fn subject(&self, kind: Kind) -> Socket {
        self.libraries[0].socket(kind)
    }

    /// The same, where numbers of errors matter and its events do not.
    pub fn unwatched(&self, kind: Kind) -> Socket {
        self.libraries[0].unwatched(kind)
    }

    /// A socket for it to talk to.
    pub fn peer(&self, kind: Kind) -> Socket {
        self.libraries[1].socket(kind)
    }

    /// An endpoint to bind to, of which nobody else knows.
    pub fn wildcard(&self) -> String {
        match self.transport {
            Transport::Tcp => "tcp://127.0.0.1:*".to_owned(),
            _ => self.fixed().0,
        }
    }

    /// An endpoint that is free and stays so, for those who connect before others bind.
    pub fn fixed(&self) -> (String, Option<OwnedFd>) {
        match self.transport {
            Transport::Tcp => {
                let (fd, port) = reserved_port();
                (format!("tcp://127.0.0.1:{port}"), Some(fd))
            }
            Transport::Ipc => {
                let path = self.directory.join(unique().to_string());
                (format!("ipc://{}", path.display()), None)
            }
            Transport::Inproc => (format!("inproc://{}", unique()), None),
        }
    }

    /// Whether connections are made by the kernel, and lost and made again.
    pub fn has_network(&self) -> bool {
        self.transport != Transport::Inproc
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A port that is bound and refuses connections; others may bind it, too, and listen.
pub fn reserved_port() -> (OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
    let any = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    bind(&fd, &any).unwrap();
    let address: std::net::SocketAddr = getsockname(&fd).unwrap().try_into().unwrap();
    (fd, address.port())
}

/// Runs both at a time, the first in a task where the caller is one, else on a thread.
pub fn beside<T: Send, U>(first: impl FnOnce() -> T + Send, second: impl FnOnce() -> U) -> (T, U) {
    if sward_runtime::worker().is_some() {
        return sward_runtime::scope(|scope| {
            let first = scope.spawn(first);
            let second = second();
            (first.join().unwrap(), second)
        });
    }
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (first.join().unwrap(), second)
    })
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < LONG, "not within {LONG:?}: {what}");
        sward_runtime::sleep(Duration::from_millis(1));
    }
}

/// Waits until what `publisher` sends comes to all `subscribers`, and so do all subscriptions that
/// were made before: sends probes, whose topic nobody else has, and takes them out again.
#[track_caller]
pub fn settle(publisher: &dyn Sock, subscribers: &[&dyn Sock]) {
    const TOPIC: &str = "\u{1}probe";
    for subscriber in subscribers {
        subscriber.subscribe(TOPIC.as_bytes()).unwrap();
    }
    for subscriber in subscribers {
        let probe = format!("{TOPIC} {}", unique());
        until("a probe comes", || {
            publisher.send(vec![probe.clone().into_bytes()]).unwrap();
            let mut came = false;
            while let Ok(frames) = subscriber.recv_for(Duration::from_millis(5)) {
                assert!(
                    frames[0].starts_with(TOPIC.as_bytes()),
                    "{:?}",
                    text(&frames)
                );
                came |= frames[0] == probe.as_bytes();
            }
            came
        });
    }
    // Probes to one came to the others, too: behind the last of them is nothing more.
    let last = format!("{TOPIC} last {}", unique());
    publisher.send(vec![last.clone().into_bytes()]).unwrap();
    for subscriber in subscribers {
        while subscriber.recv().unwrap()[0] != last.as_bytes() {}
        subscriber.unsubscribe(TOPIC.as_bytes()).unwrap();
    }
}
