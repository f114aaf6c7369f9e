//! What the tests share: one end of a connection with what a caller keeps for it, two of them with
//! a virtual clock, and the bytes of peers that follow a script.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use sward_zmtp::{Connection, Event, Fault, Message, Output, Setup, SocketType};

/// Runs a test's body; after 60 s the process is aborted.
pub fn within<T>(name: &'static str, f: impl FnOnce() -> T) -> T {
    let (done, wait) = channel::<()>();
    std::thread::spawn(move || {
        if wait.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} has not ended after 60 s");
            std::process::abort();
        }
    });
    let result = f();
    drop(done);
    result
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
        ((self.0 >> 11) % n as u64) as usize
    }
}

/// An event, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Ready,
    Message(Message),
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
    Pong(Vec<u8>),
}

pub fn message(frames: &[&[u8]]) -> Seen {
    Seen::Message(frames.iter().copied().collect())
}

/// One end: a connection, the queue of its messages, and the buffer that it is read into.
pub struct End {
    pub connection: Connection,
    pub output: Output,
    pub seen: Vec<Seen>,
    pub fault: Option<Fault>,
    /// What comes is read into a large body directly, where there is one.
    pub direct: bool,
    /// The most that was ever reserved for a large body.
    pub reserved: usize,
    buffer: Vec<u8>,
    converted: Vec<u8>,
}

impl End {
    pub fn new(setup: Setup, now: Instant) -> Self {
        Self {
            connection: Connection::new(Arc::new(setup), now),
            output: Output::new(),
            seen: Vec::new(),
            fault: None,
            direct: false,
            reserved: 0,
            buffer: Vec::new(),
            converted: Vec::new(),
        }
    }

    /// Takes what came.
    pub fn read(&mut self, mut bytes: &[u8]) {
        if self.direct
            && self.buffer.is_empty()
            && let Some(body) = self.connection.body()
        {
            let room = body.buffer.capacity() - body.buffer.len();
            let n = room.min(body.missing).min(bytes.len());
            body.buffer.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
        }
        self.buffer.extend_from_slice(bytes);
        let mut used = 0;
        while self.fault.is_none() {
            let (n, event) = self.connection.decode(&self.buffer[used..]);
            used += n;
            match event {
                Ok(None) => break,
                Ok(Some(Event::Ready(_))) => self.seen.push(Seen::Ready),
                Ok(Some(Event::Message(message))) => self.seen.push(Seen::Message(message)),
                Ok(Some(Event::Subscribe(t))) => self.seen.push(Seen::Subscribe(t.to_vec())),
                Ok(Some(Event::Cancel(t))) => self.seen.push(Seen::Cancel(t.to_vec())),
                Ok(Some(Event::Pong(context))) => self.seen.push(Seen::Pong(context.to_vec())),
                Err(fault) => self.fault = Some(fault),
            }
        }
        self.buffer.drain(..used);
        assert!(self.fault.is_some() || self.buffer.len() < Connection::LEFTOVER);
        if let Some(body) = self.connection.body() {
            self.reserved = self.reserved.max(body.buffer.capacity());
        }
    }

    /// Gives up to `limit` bytes that are to be written, as a caller has to choose them.
    pub fn write(&mut self, limit: usize) -> Vec<u8> {
        let mut written = Vec::new();
        if self.connection.needs_conversion() {
            if self.converted.is_empty() {
                self.converted = std::mem::take(self.connection.control());
                while self.converted.len() < 1000
                    && self
                        .connection
                        .convert(&mut self.output, &mut self.converted)
                {}
            }
            let n = limit.min(self.converted.len());
            return self.converted.drain(..n).collect();
        }
        while written.len() < limit {
            let left = limit - written.len();
            let waits = self.connection.has_control();
            if waits && self.output.at_boundary() {
                let control = self.connection.control();
                written.extend(control.drain(..left.min(control.len())));
                continue;
            }
            if !self.connection.is_ready() || self.output.is_empty() {
                break;
            }
            let until = if waits {
                self.output.first_remainder().min(left)
            } else {
                left
            };
            let mut slices = [IoSlice::new(&[]); 8];
            let used = self.output.slices_within(&mut slices, until);
            let before = written.len();
            slices[..used]
                .iter()
                .for_each(|slice| written.extend_from_slice(slice));
            self.output.advance(written.len() - before);
        }
        written
    }

    pub fn send(&mut self, frames: &[&[u8]]) {
        self.output.push(&frames.iter().copied().collect());
    }

    /// What came, apart from `Ready`.
    pub fn received(&self) -> &[Seen] {
        match &self.seen[..] {
            [Seen::Ready, rest @ ..] => rest,
            all => all,
        }
    }
}

/// Two ends with a wire between them, and a clock that only a test moves.
pub struct Pair {
    pub a: End,
    pub b: End,
    pub now: Instant,
}

impl Pair {
    pub fn new(a: Setup, b: Setup) -> Self {
        let now = Instant::now();
        Self {
            a: End::new(a, now),
            b: End::new(b, now),
            now,
        }
    }

    /// Moves pieces of at most `piece()` bytes each way until nothing moves.
    pub fn run(&mut self, mut piece: impl FnMut() -> usize) {
        loop {
            let mut moved = false;
            moved |= Self::pass(&mut self.a, &mut self.b, piece(), self.now);
            moved |= Self::pass(&mut self.b, &mut self.a, piece(), self.now);
            if !moved {
                return;
            }
        }
    }

    fn pass(from: &mut End, to: &mut End, piece: usize, now: Instant) -> bool {
        let bytes = from.write(piece.max(1));
        if bytes.is_empty() || to.fault.is_some() {
            return false;
        }
        to.connection.heard(now);
        to.read(&bytes);
        true
    }
}

/// A connection that is ready, with a scripted peer of this type.
pub fn ready_with(setup: Setup, peer: SocketType) -> End {
    let mut end = End::new(setup, Instant::now());
    end.read(&hello(peer.name()));
    assert_eq!(
        (end.fault.as_ref(), &end.seen[..]),
        (None, &[Seen::Ready][..])
    );
    end.connection.control().clear();
    end.seen.clear();
    end
}

pub fn setup(socket_type: SocketType) -> Setup {
    Setup::new(socket_type)
}

pub fn lets_old_in(socket_type: SocketType) -> Setup {
    Setup {
        allow_old_peers: true,
        ..Setup::new(socket_type)
    }
}

/// A type that accepts this one.
pub fn partner(socket_type: SocketType) -> SocketType {
    let mut all = SocketType::ALL.into_iter();
    all.find(|t| t.accepts(socket_type)).unwrap()
}

pub fn greeting(minor: u8) -> Vec<u8> {
    let mut bytes = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
    bytes[11] = minor;
    bytes.resize(64, 0);
    bytes
}

pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(len) => [&[flags, len], body].concat(),
        Err(_) => [&[flags | 2][..], &(body.len() as u64).to_be_bytes(), body].concat(),
    }
}

/// Only the header of a long frame.
pub fn announce(flags: u8, len: u64) -> Vec<u8> {
    [&[flags | 2][..], &len.to_be_bytes()].concat()
}

pub fn command(name: &[u8], data: &[u8]) -> Vec<u8> {
    frame(4, &[&[name.len() as u8], name, data].concat())
}

pub fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let (len, value_len) = ([name.len() as u8], (value.len() as u32).to_be_bytes());
    [&len, name.as_bytes(), &value_len, value].concat()
}

pub fn ready(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = properties.iter().flat_map(|p| property(p.0, p.1)).collect();
    command(b"READY", &data)
}

/// All that a peer says until it may send messages.
pub fn hello(socket_type: &str) -> Vec<u8> {
    [
        greeting(1),
        ready(&[("Socket-Type", socket_type.as_bytes())]),
    ]
    .concat()
}
