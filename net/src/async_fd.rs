//! [`Async`]: descriptors of other libraries, as streams.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use sward_runtime::io::{Direction, IoSafe, Limit, Source};

/// A foreign descriptor whose operations park the task (smol's `Async`).
///
/// It is a [`Source`] that is `Read` and `Write` where its inside is so through `&`, for code that
/// wants a stream. Use it for a socket type of another library, a terminal, a device; use the types
/// of this crate for sockets, and a [`Source`] where limits per call, arms of a `select!` or your own
/// closures are wanted ([`as_source`](Self::as_source) leads to it).
///
/// The inside must be [`IoSafe`]: std's types are, and so are `OwnedFd`, `&T`, `Box<T>`, `Arc<T>` of
/// such. What `epoll` cannot watch, such as a regular file, fails at its first wait.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use sward_net::Async;
/// let (reader, writer) = std::io::pipe()?;
/// let (mut reader, mut writer) = (Async::new(reader)?, Async::new(writer)?);
/// let task = sward_runtime::spawn(move || {
///     let mut text = String::new();
///     reader.read_to_string(&mut text).map(|_| text)
/// });
/// writer.write_all(b"foreign")?;
/// drop(writer);
/// assert_eq!(task.join().unwrap()?, "foreign");
/// # std::io::Result::Ok(())
/// ```
pub struct Async<T> {
    source: Source<T>,
}

impl<T: AsFd + IoSafe> Async<T> {
    /// Takes a descriptor and makes it non-blocking (`O_NONBLOCK`, which belongs to the open file
    /// and so to all who share it).
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn new(inner: T) -> io::Result<Self> {
        Ok(Self {
            source: Source::new(inner)?,
        })
    }
}

impl<T> Async<T> {
    /// Returns what is inside; an operation on it may say `WouldBlock`.
    pub fn get_ref(&self) -> &T {
        self.source.get_ref()
    }

    /// Deregisters the descriptor and gives it back, still non-blocking.
    pub fn into_inner(self) -> T {
        self.source.into_inner()
    }

    /// Returns the source, for what this type lacks.
    pub fn as_source(&self) -> &Source<T> {
        &self.source
    }

    /// Does an operation that reads: one system call, made again whenever it said `WouldBlock` and
    /// the descriptor has become readable.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](sward_runtime::WaitKind::Readable); honours kill and
    /// `timeout`.
    ///
    /// # Errors
    /// Those of the operation; as [`Source::io`].
    ///
    /// # Examples
    /// ```
    /// use std::net::UdpSocket;
    /// use sward_net::Async;
    /// let socket = Async::new(UdpSocket::bind("127.0.0.1:0")?)?;
    /// let here = socket.get_ref().local_addr()?;
    /// socket.write_with(|s| s.send_to(b"me", here))?;
    /// let (n, from) = socket.read_with(|s| s.recv_from(&mut [0; 8]))?;
    /// assert_eq!((n, from), (2, here));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.source.io(Direction::Read, Limit::NONE, operation)
    }

    /// As [`read_with`](Self::read_with), for an operation that writes.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Writable`](sward_runtime::WaitKind::Writable); honours kill and
    /// `timeout`.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.source.io(Direction::Write, Limit::NONE, operation)
    }

    /// Waits until there may be something to read; `None` is no limit.
    ///
    /// # Blocking
    /// As [`read_with`](Self::read_with).
    ///
    /// # Errors
    /// `TimedOut`; as [`Source::readable`].
    pub fn readable(&self, limit: Option<Duration>) -> io::Result<()> {
        self.source.readable(limit)
    }

    /// Waits until there may be room to write; `None` is no limit.
    ///
    /// # Blocking
    /// As [`write_with`](Self::write_with).
    ///
    /// # Errors
    /// `TimedOut`; as [`Source::writable`].
    pub fn writable(&self, limit: Option<Duration>) -> io::Result<()> {
        self.source.writable(limit)
    }
}

impl<T: Into<OwnedFd>> Async<T> {
    /// Closes the descriptor under whoever uses it; see [`Source::close`].
    ///
    /// # Errors
    /// As [`Source::close`].
    pub fn close(&self) -> io::Result<()> {
        self.source.close()
    }
}

impl<T> Read for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|mut inner| inner.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_with(|mut inner| inner.read_vectored(buffers))
    }
}

impl<T> Read for Async<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl<T> Write for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_with(|mut inner| inner.write(bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut inner| inner.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_with(|mut inner| inner.flush())
    }
}

impl<T> Write for Async<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl<T> From<Source<T>> for Async<T> {
    fn from(source: Source<T>) -> Self {
        Self { source }
    }
}

impl<T> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.source).finish()
    }
}
