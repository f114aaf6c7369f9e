//! ZeroMQ sockets native to the scheduler.
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
