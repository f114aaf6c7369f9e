//! What the behaviour tests share: a time limit, and connections in memory that come in pieces.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use sward_http::{Body, Server, Serving};
use sward_net::Stream;
use sward_net::server::Listener;
use sward_runtime::Runtime;
use sward_runtime::sync::{Receiver, Sender, ShortLock, unbounded};

/// Runs a test's body; after 60 s the process is aborted with the dump of all runtimes.
pub fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

/// The same in tasks, with one worker and with two.
pub fn on_workers(name: &str, f: impl Fn() + Sync) {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(|| within(name, &f));
    }
}

/// A xorshift generator: a test prints its seed, so that a failure can be run again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// What became of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub sent: Vec<u8>,
    /// The server ended it, and not the client.
    pub closed: bool,
}

/// A connection whose client says what it has to say, and then shuts its writing half down.
pub struct Script {
    pieces: ShortLock<Vec<Vec<u8>>>,
    outcome: ShortLock<Outcome>,
    ended: ShortLock<bool>,
    done: Sender<Outcome>,
}

impl Stream for Script {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pieces = self.pieces.lock();
        let Some(piece) = pieces.last_mut() else {
            *self.ended.lock() = true;
            return Ok(0);
        };
        let count = buffer.len().min(piece.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        piece.drain(..count);
        if piece.is_empty() {
            pieces.pop();
        }
        Ok(count)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.outcome.lock().sent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        self.outcome.lock().closed = true;
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.outcome.lock().closed = true;
        Ok(())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let mut outcome = self.outcome.lock().clone();
        outcome.closed |= !*self.ended.lock();
        let _ = self.done.try_send(outcome);
    }
}

pub struct ScriptListener(Receiver<Script>);

impl Listener for ScriptListener {
    type Stream = Script;
    type Addr = ();

    fn accept(&self) -> io::Result<(Script, ())> {
        let next = self.0.recv();
        next.map(|script| (script, ())).map_err(io::Error::other)
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A server that connections in memory come to.
pub struct Scripted {
    connect: Sender<Script>,
    pub serving: Serving<()>,
}

impl Scripted {
    pub fn new(limits: impl FnOnce(Server<ScriptListener>) -> Server<ScriptListener>) -> Self {
        Self::with(limits, echo)
    }

    pub fn with<R: sward_http::IntoResponse>(
        limits: impl FnOnce(Server<ScriptListener>) -> Server<ScriptListener>,
        handler: impl Fn(Request<Body>) -> R + Send + Sync + 'static,
    ) -> Self {
        let (connect, accept) = unbounded();
        let server = limits(Server::new(ScriptListener(accept)));
        let serving = server.start(handler).unwrap();
        Self { connect, serving }
    }

    /// Sends the pieces; what came back.
    pub fn talk(&self, pieces: Vec<Vec<u8>>) -> Outcome {
        let (done, wait) = unbounded();
        let mut pieces: Vec<_> = pieces.into_iter().filter(|p| !p.is_empty()).collect();
        pieces.reverse();
        let script = Script {
            pieces: ShortLock::new(pieces),
            outcome: ShortLock::new(Outcome::default()),
            ended: ShortLock::new(false),
            done,
        };
        self.connect.send(script).ok().unwrap();
        wait.recv().unwrap()
    }

    pub fn whole(&self, input: &[u8]) -> Outcome {
        self.talk(vec![input.to_vec()])
    }
}

/// Says what it was asked, and the body.
pub fn echo(request: Request<Body>) -> Result<Response<Body>, io::Error> {
    let what = format!("{} {}", request.method(), request.uri());
    let mut body = request.into_body();
    let mut all = Vec::new();
    while let Some(chunk) = body.chunk()? {
        all.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().map_or(0, |t| t.len());
    let mut response = Response::new(all.into());
    response
        .headers_mut()
        .insert("x-asked", what.parse().unwrap());
    response.headers_mut().insert("x-trailers", trailers.into());
    Ok(response)
}

/// The input in pieces of random size.
pub fn split(input: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let most = [1, 2, 5, 20, 100][random.below(5)];
        let count = (1 + random.below(most)).min(rest.len());
        pieces.push(rest[..count].to_vec());
        rest = &rest[count..];
    }
    pieces
}

/// Without the lines that differ from second to second.
pub fn undated(sent: &[u8]) -> String {
    let text = String::from_utf8_lossy(sent);
    let lines = text.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

/// The statuses of responses, each with `content-length` or without a body; panics if what is
/// there is anything else.
pub fn statuses(sent: &[u8]) -> Vec<u16> {
    let mut rest = sent;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        all.push(head[9..12].parse().unwrap());
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "));
        rest = &rest[end..];
        // A HEAD's length is not that of what follows.
        if !head.contains("x-asked: HEAD ") && !rest.is_empty() {
            rest = &rest[length.map_or(0, |l| l.parse().unwrap())..];
        }
    }
    all
}

/// A server that runs for the time of a test.
pub type Served = Arc<Serving<std::net::SocketAddr>>;
