//! [`Stream`]: what servers, TLS and HTTP ask of a connection, whatever it goes over.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::time::Duration;

/// A connection that can be shared: one task may receive while another sends.
///
/// The streams of this crate are `Read` and `Write` too, which is what most code wants; this trait
/// is for code that works over any of them, and through a shared reference.
pub trait Stream: Send + Sync + 'static {
    /// Receives what is there, waiting for it; 0 is the end (`Read::read`).
    ///
    /// # Errors
    /// `TimedOut`; those of the socket.
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Receives into several buffers, the first one first.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match buffers.iter_mut().find(|b| !b.is_empty()) {
            Some(first) => self.recv(first),
            None => Ok(0),
        }
    }

    /// Sends some of the bytes, waiting for room (`Write::write`).
    ///
    /// # Errors
    /// `TimedOut`; those of the socket.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends what there is room for now, without waiting: for a last word in a destructor.
    /// A stream that has no way to do so leaves it unsaid.
    ///
    /// # Errors
    /// `WouldBlock`; those of the socket.
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let _ = bytes;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Sends from several buffers, the first one first.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match buffers.iter().find(|b| !b.is_empty()) {
            Some(first) => self.send(first),
            None => Ok(0),
        }
    }

    /// Limits the wait of each later receive.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()>;

    /// Limits the wait of each later send.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero.
    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()>;

    /// Sets whether small writes are sent at once instead of being collected (`TCP_NODELAY`). It
    /// means nothing to streams that never collect.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    fn set_nodelay(&self, on: bool) -> io::Result<()> {
        let _ = on;
        Ok(())
    }

    /// Ends one direction or both, for all clones (`shutdown(2)`).
    ///
    /// # Errors
    /// Those of the socket, such as `NotConnected`.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Closes the connection under whoever uses it.
    ///
    /// # Errors
    /// As [`Source::close`](sward_runtime::io::Source::close).
    fn close(&self) -> io::Result<()>;
}
