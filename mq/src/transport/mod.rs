//! Transports: they open and accept byte streams, and do nothing else: no handshake, no framing.
//!
//! To add one: a file with its type, and a line in `registry.rs`. `inproc` is not one of them: it carries
//! messages, not bytes (`inproc.rs`).

mod interface;
mod ipc;
pub(crate) mod registry;
mod tcp;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::options::Options;

/// A byte stream that stands: a connected, non-blocking stream socket.
pub(crate) struct ByteLink {
    pub(crate) fd: OwnedFd,
    /// `Peer-Address`: the peer's IP address as text; empty where there is none.
    pub(crate) peer_address: String,
    /// Our end and the peer's, as endpoints, for events.
    pub(crate) local: String,
    pub(crate) remote: String,
    /// A read that fills less than its room has taken all there was, and a write that takes less than
    /// it was given has filled the kernel's buffer (true of TCP, not of Unix sockets).
    pub(crate) short_is_all: bool,
}

/// A way to open and to accept byte streams.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Listens at an endpoint of this scheme (BIND). Resolving an interface may park.
    fn listen(&self, endpoint: &Endpoint, options: &Options) -> Result<Box<dyn Listening>, Error>;

    /// Opens a stream: resolves names anew each time, honours `connect_timeout`. Parks.
    fn dial(&self, endpoint: &Endpoint, options: &Options) -> io::Result<ByteLink>;
}

/// What accepts streams.
pub(crate) trait Listening: Send + Sync + 'static {
    /// Where it listens, with what stood for wildcards filled in (LAST_ENDPOINT).
    fn endpoint(&self) -> Endpoint;

    /// Waits for the next stream. Parks. Errors for which `sward_runtime::io::is_exhausted` says
    /// `true` are for the caller's back-off; `is_closed` after `close`.
    fn accept(&self) -> io::Result<ByteLink>;

    /// Ends listening at once: waiting accepts get `is_closed`, the address is free again.
    fn close(&self);
}
