//! Switching protocols: `101` and `CONNECT`. The handler's response says what becomes of the
//! connection once its head has been sent.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Response;
use sward_net::Stream;
use sward_runtime::sync::ShortLock;

type Then = Box<dyn FnOnce(Upgraded) + Send>;

/// In a response's extensions, which ask for `Clone`; the first who takes it has it.
#[derive(Clone)]
struct OnUpgrade(Arc<ShortLock<Option<Then>>>);

/// Makes a closure go on with the connection after this response, which must be
/// `101 Switching Protocols`, or a success for `CONNECT`; with any other it does nothing.
///
/// The closure runs in the task of the connection, when the head of the response has been sent;
/// the connection is closed when it has returned. A request's body that was not read is read and
/// thrown away before.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use http::{Response, StatusCode};
/// use sward_http::{Body, on_upgrade};
///
/// let response = Response::builder()
///     .status(StatusCode::SWITCHING_PROTOCOLS)
///     .header("connection", "upgrade")
///     .header("upgrade", "shout")
///     .body(Body::empty())?;
/// let response = on_upgrade(response, |mut stream| {
///     let _ = stream.write_all(b"HELLO");
/// });
/// # let _ = response;
/// # Ok::<(), http::Error>(())
/// ```
pub fn on_upgrade<B, F>(mut response: Response<B>, then: F) -> Response<B>
where
    F: FnOnce(Upgraded) + Send + 'static,
{
    let then: Then = Box::new(then);
    let then = OnUpgrade(Arc::new(ShortLock::new(Some(then))));
    response.extensions_mut().insert(then);
    response
}

/// The closure of a response, if there is one.
pub(crate) fn take_closure(extensions: &mut http::Extensions) -> Option<Then> {
    let then = extensions.remove::<OnUpgrade>()?;
    then.0.lock().take()
}

/// A connection that no longer speaks HTTP: what [`on_upgrade`]'s closure gets.
///
/// It is a [`Stream`] like those of `sward_net`: `Read` and `Write` for the value and for
/// references, so one task may read while another writes. Bytes that had been received already
/// come first. It has no time-outs until they are set.
pub struct Upgraded {
    stream: Arc<dyn Stream>,
    /// Received behind the head of the request.
    early: ShortLock<Bytes>,
}

impl Upgraded {
    pub(crate) fn new(stream: Arc<dyn Stream>, early: Bytes) -> io::Result<Self> {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let early = ShortLock::new(early);
        Ok(Self { stream, early })
    }
}

impl Stream for Upgraded {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut early = self.early.lock();
        if !early.is_empty() {
            let count = buffer.len().min(early.len());
            early.copy_to_slice(&mut buffer[..count]);
            return Ok(count);
        }
        drop(early);
        self.stream.recv(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.send(bytes)
    }

    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.send_vectored(buffers)
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(limit)
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(limit)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }

    fn close(&self) -> io::Result<()> {
        self.stream.close()
    }
}

impl Read for &Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer)
    }
}

impl Write for &Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer)
    }
}

impl Write for Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}
