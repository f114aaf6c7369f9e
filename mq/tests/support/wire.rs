//! A peer made of bytes: what a test writes and reads by hand over tcp or ipc.

use std::io::{self, Read, Write};
use std::time::Duration;

use sward_net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{Frames, LONG, Transport, World};

pub const MORE: u8 = 1;
pub const LARGE: u8 = 2;
pub const COMMAND: u8 = 4;

trait Stream: Read + Write + Send {
    fn set_limit(&self, limit: Option<Duration>) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }
}

impl Stream for UnixStream {
    fn set_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }
}

/// A connection to a socket.
pub struct Wire(Box<dyn Stream>);

/// Who accepts a socket's connections.
pub enum Plug {
    Tcp(TcpListener),
    Ipc(UnixListener, String),
}

impl Plug {
    /// Listens over the world's transport.
    pub fn new(world: &World) -> Self {
        match world.transport {
            Transport::Tcp => Self::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()),
            Transport::Ipc => {
                let endpoint = world.fixed().0;
                let listener = UnixListener::bind(&endpoint["ipc://".len()..]).unwrap();
                Self::Ipc(listener, endpoint)
            }
            Transport::Inproc => panic!("there are no bytes within a process"),
        }
    }

    /// Where sockets connect to.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Tcp(listener) => format!("tcp://{}", listener.local_addr().unwrap()),
            Self::Ipc(_, endpoint) => endpoint.clone(),
        }
    }

    /// Accepts the next connection.
    pub fn accept(&self) -> Wire {
        let stream: Box<dyn Stream> = match self {
            Self::Tcp(listener) => Box::new(listener.accept().unwrap().0),
            Self::Ipc(listener, _) => Box::new(listener.accept().unwrap().0),
        };
        Wire::new(stream)
    }
}

impl Wire {
    fn new(stream: Box<dyn Stream>) -> Self {
        stream.set_limit(Some(LONG)).unwrap();
        Self(stream)
    }

    /// Connects to an endpoint that a socket is bound to.
    pub fn connect(endpoint: &str) -> Self {
        let (scheme, address) = endpoint.split_once("://").unwrap();
        Self::new(match scheme {
            "tcp" => Box::new(TcpStream::connect(address).unwrap()),
            _ => Box::new(UnixStream::connect(address).unwrap()),
        })
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// As `write`, to a peer that may have closed.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    pub fn read(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the peer closes, whatever it still sends before.
    pub fn is_closed_soon(&mut self) -> bool {
        let mut rest = [0; 1024];
        loop {
            match self.0.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return !is_late(&e),
            }
        }
    }

    /// Whether nothing comes for a while, and the peer does not close.
    pub fn is_silent(&mut self) -> bool {
        self.0.set_limit(Some(super::SHORT)).unwrap();
        let read = self.0.read(&mut [0]);
        self.0.set_limit(Some(LONG)).unwrap();
        read.is_err_and(|e| is_late(&e))
    }

    /// Exchanges greetings and READY, as this type of socket; returns the peer's READY.
    pub fn greet(&mut self, minor: u8, socket_type: &str) -> Vec<u8> {
        self.greet_as(minor, &[("Socket-Type", socket_type)])
    }

    /// The same with these properties.
    pub fn greet_as(&mut self, minor: u8, properties: &[(&str, &str)]) -> Vec<u8> {
        self.write(&greeting(minor));
        let theirs = self.read(64);
        assert_eq!((theirs[0], theirs[9], theirs[10]), (0xFF, 0x7F, 3));
        assert_eq!(&theirs[12..17], b"NULL\0");
        self.write(&ready(properties));
        let (flags, body) = self.frame();
        assert_eq!(flags & COMMAND, COMMAND, "{}", body.escape_ascii());
        assert!(body.starts_with(b"\x05READY"), "{}", body.escape_ascii());
        body
    }

    /// Reads a frame: its flags without that of its length, and its body.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let flags = self.read(1)[0];
        let length = if flags & LARGE == 0 {
            self.read(1)[0].into()
        } else {
            u64::from_be_bytes(self.read(8).try_into().unwrap())
        };
        (flags & !LARGE, self.read(usize::try_from(length).unwrap()))
    }

    /// Reads the next message; commands before it are skipped.
    pub fn message(&mut self) -> Frames {
        let mut frames = Frames::new();
        loop {
            let (flags, body) = self.frame();
            if flags & COMMAND != 0 {
                continue;
            }
            frames.push(body);
            if flags & MORE == 0 {
                return frames;
            }
        }
    }

    /// Writes a message.
    pub fn put<const N: usize>(&mut self, frames: [&[u8]; N]) {
        let mut bytes = Vec::new();
        for (i, body) in frames.iter().enumerate() {
            let more = if i + 1 < N { MORE } else { 0 };
            bytes.extend(frame(more, body));
        }
        self.write(&bytes);
    }

    /// Writes a command.
    pub fn command(&mut self, name: &str, data: &[u8]) {
        self.write(&command(name, data));
    }
}

fn is_late(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The 64 bytes with which ZMTP 3 begins.
pub fn greeting(minor: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xFF;
    bytes[9] = 0x7F;
    bytes[10] = 3;
    bytes[11] = minor;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// A frame of this body.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(length) => vec![flags, length],
        Err(_) => {
            let mut head = vec![flags | LARGE];
            head.extend((body.len() as u64).to_be_bytes());
            head
        }
    };
    bytes.extend_from_slice(body);
    bytes
}

pub fn command(name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    frame(COMMAND, &body)
}

pub fn ready(properties: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (name, value) in properties {
        data.push(u8::try_from(name.len()).unwrap());
        data.extend_from_slice(name.as_bytes());
        data.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        data.extend_from_slice(value.as_bytes());
    }
    command("READY", &data)
}
