//! Sockets in blocking style that yield: std's names, and a task parks where std's would block.
//!
//! ```
//! use std::io::{Read, Write};
//! use sward_net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! sward_runtime::spawn(move || {
//!     let (mut stream, _) = listener.accept()?;
//!     stream.write_all(b"hello")
//! });
//! let mut text = String::new();
//! TcpStream::connect(address)?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # std::io::Result::Ok(())
//! ```
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_types,
    reason = "std's sockets are what the types of this crate wrap"
)]

#[macro_use]
mod macros;

mod addr;
mod async_fd;
mod backoff;
mod connect;
mod fault;
mod host;
mod options;
mod pass;
mod resolver;
mod send_file;
pub mod server;
mod socket;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
mod udp;
mod unix;

pub use self::addr::ToSocketAddrs;
pub use self::async_fd::Async;
pub use self::backoff::Backoff;
pub use self::options::{ConnectOptions, Keepalive, ListenOptions};
pub use self::resolver::{Resolver, ResolverBuilder, lookup_host};
pub use self::server::{DatagramServer, StreamServer};
pub use self::stream::Stream;
pub use self::tcp::listener::{Incoming, IntoIncoming, TcpListener};
pub use self::tcp::stream::TcpStream;
pub use self::udp::UdpSocket;
pub use self::unix::datagram::UnixDatagram;
pub use self::unix::listener::{UnixIncoming, UnixListener};
pub use self::unix::stream::{PeerCred, UnixStream};
pub use std::net::Shutdown;
