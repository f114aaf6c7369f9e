//! Servers: a handler for each connection or datagram, in a task of its own (`gevent.server`).
//!
//! ```
//! use std::io::{Read, Write};
//! use std::time::Duration;
//! use sward_net::TcpStream;
//! use sward_net::server::StreamServer;
//!
//! let server = StreamServer::bind("127.0.0.1:0")?;
//! let serving = server.start(|mut stream: TcpStream, _peer| stream.write_all(b"hello"))?;
//!
//! let mut text = String::new();
//! TcpStream::connect(serving.local_addr())?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! serving.stop(Duration::from_secs(5));
//! # std::io::Result::Ok(())
//! ```
//!
//! The page `docs/servers.md` says how they behave when things go wrong.

mod core;
mod datagram;
pub(crate) mod listener;
mod serving;
pub(crate) mod stream;
mod trouble;

pub use self::datagram::{DatagramServer, DatagramSocket, Responder};
pub use self::listener::Listener;
pub use self::serving::{ServerStats, Serving, Stopped};
pub use self::stream::StreamServer;
pub use self::trouble::{Outcome, Trouble};
