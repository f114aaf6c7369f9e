//! ZMTP 3.1, the protocol of ZeroMQ (RFC 37), without I/O: bytes in, events and bytes out.
//!
//! A [`Connection`] reads what came from a peer and says what it was. An [`Output`] has the messages
//! that wait to be written. Sockets, clocks and threads are the caller's; `sward-mq` is one.
//!
//! It talks down to ZMTP 3.0, and to 2.0 and 1.0 where [`Setup::allow_old_peers`] says so; the one
//! mechanism yet is NULL. What breaks the protocol, or goes beyond the [`Limits`], ends the
//! connection with a [`Fault`]; nothing that a peer sends panics, recurses, or takes more memory
//! than came, but for a fixed amount.
//!
//! [`Message`] and [`Frame`] are what is sent: up to 64 bytes lie in the value itself.
#![forbid(unsafe_code)]

mod command;
mod connection;
mod decoder;
mod error;
mod event;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod greeting;
mod handshake;
mod header;
mod heartbeat;
mod limits;
mod mechanism;
mod message;
mod metadata;
mod output;
mod peer;
mod setup;
mod socket_type;
mod version;

pub use self::connection::Connection;
pub use self::error::{Fault, Incompatible, Limited, Malformed};
pub use self::event::{Event, LargeBody};
pub use self::frame::Frame;
pub use self::header::encode;
pub use self::heartbeat::Heartbeat;
pub use self::limits::Limits;
pub use self::message::Message;
pub use self::metadata::{Metadata, is_identity, is_property_name};
pub use self::output::Output;
pub use self::peer::PeerInfo;
pub use self::setup::{MechanismConfig, Setup};
pub use self::socket_type::{SocketType, UnknownSocketType};
pub use self::version::Version;
