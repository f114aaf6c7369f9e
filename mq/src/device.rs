//! The classic devices of ZeroMQ: proxies that make their sockets themselves.
//!
//! A device is bound at both ends, so that it is the fixed point to which all others connect; an end
//! written with `>` before it connects instead.

use std::fmt;
use std::str::FromStr;

use sward_zmtp::SocketType;

use crate::context::Context;
use crate::error::Error;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::socket::dynamic::Socket;

/// A kind of device (`zmq_device`).
///
/// # Examples
/// ```
/// use sward_mq::{Device, Pull, Push};
/// let device = Device::Streamer.open("inproc://in", "inproc://out")?.spawn()?;
/// Push::connected("inproc://in")?.send("work")?;
/// assert_eq!(Pull::connected("inproc://out")?.recv()?.first(), "work");
/// assert_eq!(device.terminate()?.backend.sent, 1);
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// ROUTER and DEALER: clients at the frontend ask, servers at the backend answer, in turn.
    Queue,
    /// XSUB and XPUB: publishers at the frontend, subscribers at the backend. Their subscriptions
    /// are passed on, so what nobody wants is not sent here. (libzmq's takes everything.)
    Forwarder,
    /// PULL and PUSH: collects what is pushed to the frontend, and deals it out at the backend.
    Streamer,
}

impl Device {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Queue, Self::Forwarder, Self::Streamer];

    /// Returns its name: `queue`, `forwarder`, `streamer`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Forwarder => "forwarder",
            Self::Streamer => "streamer",
        }
    }

    /// Returns what kinds of sockets its frontend and its backend are.
    pub const fn socket_types(self) -> [SocketType; 2] {
        match self {
            Self::Queue => [SocketType::Router, SocketType::Dealer],
            Self::Forwarder => [SocketType::XSub, SocketType::XPub],
            Self::Streamer => [SocketType::Pull, SocketType::Push],
        }
    }

    /// Makes the sockets in the process's context and binds them, or connects that whose endpoint has
    /// a `>` before it. Nothing moves yet.
    ///
    /// # Errors
    /// As [`Socket::bind`](crate::Socket::bind).
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Device, Pub};
    /// let publisher = Pub::bound("tcp://127.0.0.1:*")?;
    /// let from = format!(">{}", publisher.last_endpoint().unwrap());
    /// let running = Device::Forwarder.open(&from, "ipc://*")?.spawn()?;
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn open(self, frontend: &str, backend: &str) -> Result<Proxy, Error> {
        let [front, back] = self.socket_types();
        Ok(Proxy::new(
            &socket(front, frontend)?,
            &socket(back, backend)?,
        ))
    }
}

fn socket(kind: SocketType, endpoint: &str) -> Result<Socket, Error> {
    let socket = Socket::in_context(&Context::global(), kind, Options::new())?;
    match endpoint.strip_prefix('>') {
        Some(endpoint) => socket.connect(endpoint)?,
        None => drop(socket.bind(endpoint.strip_prefix('@').unwrap_or(endpoint))?),
    }
    Ok(socket)
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no device's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDevice(String);

impl fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no device {:?}, but queue, forwarder and streamer",
            self.0
        )
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for Device {
    type Err = UnknownDevice;

    /// # Examples
    /// ```
    /// use sward_mq::Device;
    /// assert_eq!("queue".parse(), Ok(Device::Queue));
    /// assert!("cue".parse::<Device>().is_err());
    /// ```
    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let found = Self::ALL.into_iter().find(|device| device.name() == name);
        found.ok_or_else(|| UnknownDevice(name.to_owned()))
    }
}

macro_rules! function {
    ($(#[$doc:meta])* $name:ident, $device:ident) => {
        $(#[$doc])*
        ///
        /// # Blocking
        /// As [`Proxy::run`].
        ///
        /// # Errors
        /// As [`Device::open`]; in the end [`Error::Closed`] or [`Error::Terminated`].
        pub fn $name(frontend: &str, backend: &str) -> Result<(), Error> {
            Device::$device.open(frontend, backend)?.run().map(drop)
        }
    };
}

function! {
    /// Runs a [`Device::Queue`] until the context is terminated (`ZMQ_QUEUE`).
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Rep, Req, device};
    /// sward_runtime::spawn(|| device::queue("inproc://clients", "inproc://workers"));
    /// let worker = Rep::connected("inproc://workers")?;
    /// let client = Req::connected("inproc://clients")?;
    /// client.send("question")?;
    /// let request = worker.recv()?;
    /// assert_eq!(request.first(), "question");
    /// request.reply("answer")?;
    /// assert_eq!(client.recv()?.first(), "answer");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    queue, Queue
}

function! {
    /// Runs a [`Device::Forwarder`] until the context is terminated (`ZMQ_FORWARDER`).
    forwarder, Forwarder
}

function! {
    /// Runs a [`Device::Streamer`] until the context is terminated (`ZMQ_STREAMER`).
    streamer, Streamer
}
