//! What the tests of sockets share: a time limit for each, and running one of them in a process of
//! its own.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]
#![allow(unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_types, reason = "peers that have nothing of ours")]

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use sward_zmtp::{Connection, Event, Message, Output, Setup};

/// Set in a process that [`start`] started.
const CHILD: &str = "SWARD_TEST_CHILD";

/// Runs a test's body; after 60 s the process is aborted with the dump of all runtimes.
pub fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

/// What [`start`] gave to this process; `None`: it is the test itself.
pub fn child() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Starts one test of this binary in a process of its own, which finds `argument` in [`child`].
pub fn start(test_name: &str, argument: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test_name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Tells who started this process of something: one line.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n@{line}").unwrap();
    out.flush().unwrap();
}

/// Waits until a child said that.
pub fn hear(child: &mut Child, line: &str) {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut text = String::new();
        assert_ne!(
            out.read_line(&mut text).unwrap(),
            0,
            "the child has ended without {line:?}"
        );
        if text.trim_end() == format!("@{line}") {
            break;
        }
    }
    child.stdout = Some(out.into_inner());
}

/// Waits for a child's end; after 50 s it is killed.
pub fn finish(child: Child) -> process::Output {
    let id = child.id();
    let (done, waits) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if waits
            .recv_timeout(Duration::from_secs(50))
            .is_err_and(|e| matches!(e, std::sync::mpsc::RecvTimeoutError::Timeout))
        {
            eprintln!("a child has not ended: killed");
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watch.join().unwrap();
    output
}

/// What a child wrote to stderr, without what libtest says there.
pub fn stderr(output: &process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An ipc endpoint that nobody else has.
pub fn ipc(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Relaxed);
    format!("ipc://@sward-test-{}-{name}-{n}", process::id())
}

/// Runs a test's body on an ordinary thread, on one worker, and on two, each time with a context of
/// its own.
pub fn everywhere(name: &str, f: impl Fn(&sward_mq::Context) + Send + Sync) {
    within(name, || {
        f(&sward_mq::Context::new());
        for workers in [1, 2] {
            let runtime = sward_runtime::Runtime::builder().workers(workers);
            runtime
                .build()
                .unwrap()
                .run(|| f(&sward_mq::Context::new()));
        }
    });
}

/// A peer made by hand: plain blocking I/O on an OS thread, without anything of ours but the wire.
pub struct Raw {
    pub stream: Stream,
    pub connection: Connection,
    output: Output,
    input: Vec<u8>,
}

/// A byte stream of either transport.
pub trait Bytes: Read + Write + Send {
    /// How long a read waits.
    fn patience(&self, limit: Duration);
}

impl Bytes for std::net::TcpStream {
    fn patience(&self, limit: Duration) {
        self.set_read_timeout(Some(limit)).unwrap();
    }
}

impl Bytes for std::os::unix::net::UnixStream {
    fn patience(&self, limit: Duration) {
        self.set_read_timeout(Some(limit)).unwrap();
    }
}

pub type Stream = Box<dyn Bytes>;

/// Connects to what a socket is bound to.
pub fn open(endpoint: &str) -> Stream {
    if let Some(address) = endpoint.strip_prefix("tcp://") {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Box::new(stream)
    } else {
        use std::os::linux::net::SocketAddrExt;
        let name = endpoint.strip_prefix("ipc://@").unwrap();
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        Box::new(std::os::unix::net::UnixStream::connect_addr(&address).unwrap())
    }
}

impl Raw {
    /// Connects, and does the handshake.
    pub fn connect(endpoint: &str, setup: Setup) -> Self {
        Self::over(open(endpoint), setup)
    }

    /// Does the handshake.
    pub fn over(stream: Stream, setup: Setup) -> Self {
        let mut raw = Self {
            stream,
            connection: Connection::new(Arc::new(setup), Instant::now()),
            output: Output::new(),
            input: Vec::new(),
        };
        while !raw.connection.is_ready() {
            assert!(
                raw.next(Duration::from_secs(20))
                    .unwrap()
                    .is_none_or(|e| matches!(e, Event::Ready(_)))
            );
        }
        raw
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        self.output.push(message);
        self.flush()
    }

    /// Writes what there is to write.
    pub fn flush(&mut self) -> io::Result<()> {
        let control = std::mem::take(self.connection.control());
        self.stream.write_all(&control)?;
        while !self.output.is_empty() && self.connection.is_ready() {
            let mut slices = [IoSlice::new(&[]); 16];
            let n = self.output.slices(&mut slices);
            let sent = self.stream.write_vectored(&slices[..n])?;
            self.output.advance(sent);
        }
        Ok(())
    }

    /// Returns what comes within that time; heartbeats go on meanwhile.
    pub fn next(&mut self, limit: Duration) -> io::Result<Option<Event>> {
        let until = Instant::now() + limit;
        loop {
            self.flush()?;
            let (used, event) = self.connection.decode(&self.input);
            self.input.drain(..used);
            let event = event.map_err(|fault| io::Error::other(fault.to_string()))?;
            self.flush()?;
            if event.is_some() {
                return Ok(event);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(None);
            }
            let next = self.connection.poll_timeout().unwrap_or(until).min(until);
            let wait = next
                .saturating_duration_since(now)
                .max(Duration::from_millis(1));
            self.stream.patience(wait);
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.connection.heard(Instant::now());
                    self.input.extend_from_slice(&buffer[..n]);
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(e) => return Err(e),
            }
            let now = Instant::now();
            if self.connection.poll_timeout().is_some_and(|at| at <= now) {
                let over = self.connection.handle_timeout(now);
                over.map_err(|fault| io::Error::other(fault.to_string()))?;
            }
        }
    }

    /// Returns the next message.
    pub fn recv(&mut self) -> io::Result<Message> {
        loop {
            match self.next(Duration::from_secs(20))? {
                Some(Event::Message(message)) => return Ok(message),
                Some(_) => {}
                None => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

/// A tcp endpoint that nobody else gets, for somebody who comes later: its port is taken, by a socket
/// that does not listen, until this process ends.
pub fn tcp() -> String {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
    let any = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
    bind(&fd, &any).unwrap();
    let taken = std::net::SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
    static TAKEN: sward_runtime::sync::ShortLock<Vec<std::os::fd::OwnedFd>> =
        sward_runtime::sync::ShortLock::new(Vec::new());
    TAKEN.lock().push(fd);
    format!("tcp://{taken}")
}
