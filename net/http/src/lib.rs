//! HTTP/1.1 servers and clients in blocking style.
//!
//! ```
//! use http::{Request, Response};
//! use sward_http::{Body, Server};
//!
//! let hello = |_: Request<Body>| Response::new("Hello, World!");
//! let server = Server::bind("127.0.0.1:0")?.start(hello)?;
//! # server.stop(std::time::Duration::ZERO);
//! # std::io::Result::Ok(())
//! ```
//!
//! Requests, responses and their parts are the types of the [`http`] crate.
#![forbid(unsafe_code)]

mod answer;
mod body;
mod buffer;
mod chunked;
mod client;
mod connection;
mod date;
mod encode;
mod error;
mod exchange;
mod fetched;
mod framing;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod head;
mod inflow;
mod limits;
mod loan;
mod outflow;
mod pool;
mod redirect;
mod scratch;
mod server;
mod upgrade;
mod watch;
mod writer;

pub use self::answer::{Access, IntoResponse, Peer, Stats};
pub use self::body::Body;
pub use self::client::Client;
pub use self::error::{BodyError, Error, Malformed};
pub use self::server::{Server, Serving};
pub use self::upgrade::{Upgraded, on_upgrade};
pub use self::writer::BodyWriter;
pub use http;
