//! Sockets: [`core`] is what they are, the rest of this directory what they do.

pub(crate) mod arms;
pub(crate) mod close;
pub(crate) mod core;
pub(crate) mod dynamic;
pub(crate) mod ends;
mod errand;
mod front;
mod inproc_ends;
mod links;
mod messages;
mod request;
mod settings;
pub(crate) mod stats;
mod subscriptions;
mod types;
mod waits;

pub use arms::{Receiving, Sending};
pub use dynamic::Socket;
pub use messages::Iter;
pub use request::{Request, Retry};
pub use stats::{PeerStatus, SocketStats};
pub use subscriptions::{Subscription, SubscriptionKind};
pub use types::{
    Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Stream, Sub, WrongKind, XPub, XSub,
};
pub use waits::Publishers;
