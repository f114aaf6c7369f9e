//! TLS, by [rustls]: streams, listeners and ready-made configurations. The page `docs/tls.md` is the
//! guide.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use sward_net::tls;
//!
//! let mut stream = tls::connect(("example.org", 443))?;
//! stream.write_all(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")?;
//! let mut page = String::new();
//! stream.read_to_string(&mut page)?;
//! # std::io::Result::Ok(())
//! ```

mod config;
mod duplex;
mod fault;
mod listener;
#[cfg(feature = "self-signed")]
mod self_signed;
mod session;
mod stream;

use std::io;

pub use self::config::{
    WithAlpn, client_config, client_config_with_roots, provider, server_config,
};
pub use self::listener::TlsListener;
#[cfg(feature = "self-signed")]
pub use self::self_signed::self_signed;
pub use self::stream::{TlsStream, accept, connect_with};
pub use rustls;

use crate::fault::at;
use crate::tcp::stream::TcpStream;

/// Connects to a server, makes sure who it is, and agrees on keys: with
/// [`client_config`], and `TCP_NODELAY`.
///
/// # Blocking
/// Parks as `TcpStream::connect` and a handshake do; honours kill and `timeout`.
///
/// # Errors
/// Those of connecting, and of [`TlsStream::handshake`]; they name the host.
pub fn connect(address: (&str, u16)) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let stream = connect_with(client_config()?, address.0, stream)?;
    stream
        .handshake()
        .map_err(|e| at("connect to", address.0, e))?;
    Ok(stream)
}
