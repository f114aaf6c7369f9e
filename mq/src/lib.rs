//! ZeroMQ sockets, native to the scheduler: a call that has to wait parks its task, many tasks and
//! threads may use one socket, and to a peer they are sockets of libzmq (ZMTP 3.1, and older).
//!
//! ```
//! use sward_mq::{Rep, Req};
//!
//! let server = Rep::bound("tcp://127.0.0.1:*")?;
//! let endpoint = server.last_endpoint().unwrap();
//! sward_runtime::spawn(move || server.serve(|_| "World".into()));
//!
//! let client = Req::connected(endpoint)?;
//! assert_eq!(client.request("Hello")?.first(), "World");
//! # Ok::<(), sward_mq::Error>(())
//! ```
//!
//! - One type for each kind of socket ([`Req`], [`Rep`], [`Push`], [`Pull`], [`Pub`], [`Sub`], ...), and
//!   [`Socket`] for whichever; [`Options`] are libzmq's, typed.
//! - A [`Message`] is one value of one or more [`Frame`]s, sent and received as a whole.
//! - [`Poller`], and `select!` of the runtime, wait for sockets, descriptors, channels and timers together.
//! - [`Proxy`] and [`device`] stand between sockets; a [`Monitor`] tells what happens to connections.
//! - What is lost, and why, is counted: [`Loss`], [`SocketStats`].
//!
//! The guide is `docs/zeromq-guide.md`; what is promised, and what is not, `docs/zeromq-reliability.md`;
//! what is compatible with libzmq, `docs/zeromq.md`.
#![forbid(unsafe_code)]

mod backoff;
mod buffer;
mod context;
pub mod device;
mod elsewhere;
mod endpoint;
mod error;
mod event;
mod exit;
mod inproc;
mod loss;
mod monitor;
mod names;
mod notices;
mod options;
mod pattern;
mod peer;
mod pipe;
mod poll;
mod poll_events;
mod proxy;
mod session;
mod socket;
mod traffic;
mod transport;

pub use context::Context;
pub use device::{Device, UnknownDevice};
pub use endpoint::{Endpoint, EndpointError, EndpointErrorKind};
pub use error::{Error, OptionError, SendError};
pub use event::{Event, EventKind, Reason, protocol_error};
pub use loss::Loss;
pub use monitor::{Monitor, MonitorIter};
pub use options::{ListenFd, Options, ReconnectStop, RouterNotify, TcpKeepalive};
pub use peer::Peer;
pub use poll::Poller;
pub use poll_events::PollEvents;
pub use proxy::{Proxy, ProxyHandle, ProxyStatistics, ProxyTraffic, proxy};
pub use socket::{
    Dealer, Iter, Pair, PeerStatus, Pub, Publishers, Pull, Push, Receiving, Rep, Req, Request,
    Retry, Router, Sending, Socket, SocketStats, Stream, Sub, Subscription, SubscriptionKind,
    WrongKind, XPub, XSub,
};
pub use sward_zmtp::{Frame, Message, SocketType};
pub use traffic::Traffic;
