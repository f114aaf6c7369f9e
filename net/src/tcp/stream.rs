//! [`TcpStream`]: std's, and a task parks where std's would block.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use sward_runtime::io::{Direction, Patience, Readiness, Source};
use sward_runtime::now;
use sward_runtime::sync::Arm;

use crate::addr::ToSocketAddrs;
use crate::backoff::Backoff;
use crate::connect;
use crate::fault;
use crate::options::ConnectOptions;
use crate::send_file;
use crate::stream::Stream;

/// A TCP connection (std's `TcpStream`, gevent's `socket`).
///
/// It reads and writes through `&`, so one task may read while another writes: share a reference or
/// an `Arc`, there is no need to split it. Those who wait for the same direction are woken in the
/// order in which they came. Dropping it closes the connection; [`close`](Self::close) does so under
/// those who use it.
///
/// A read waits until there is something, for as long as
/// [`set_read_timeout`](Self::set_read_timeout) says; on an ordinary thread it blocks the thread.
/// There is no `set_nonblocking`: the `try_` methods do not wait. The page `docs/net.md` has more.
///
/// # Examples
/// ```no_run
/// use std::io::prelude::*;
/// use sward_net::TcpStream;
///
/// fn main() -> std::io::Result<()> {
///     let mut stream = TcpStream::connect("127.0.0.1:34254")?;
///     stream.write(&[1])?;
///     stream.read(&mut [0; 128])?;
///     Ok(())
/// }
/// ```
pub struct TcpStream {
    source: Source<std::net::TcpStream>,
    read: Patience,
    write: Patience,
}

socket!(TcpStream, std::net::TcpStream, "a TCP stream");
time_outs!(TcpStream, std::net::TcpStream);
read_write!(TcpStream);

impl ConnectOptions {
    /// Connects as [`TcpStream::connect`] does.
    ///
    /// # Blocking
    /// As [`TcpStream::connect`].
    ///
    /// # Errors
    /// As [`TcpStream::connect`]; those of the options.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        connect::connect(addr, None, |a| self.open(a)).map(TcpStream::from_source)
    }

    /// As [`connect`](Self::connect), within a time for all of it: the look-up of a name and all
    /// addresses.
    ///
    /// # Blocking
    /// As [`TcpStream::connect`].
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for a limit of zero; as [`connect`](Self::connect).
    pub fn connect_timeout(
        &self,
        addr: impl ToSocketAddrs,
        limit: Duration,
    ) -> io::Result<TcpStream> {
        if limit.is_zero() {
            return Err(fault::invalid("a connection needs more time than none"));
        }
        let deadline = now().checked_add(limit);
        connect::connect(addr, deadline, |a| self.open(a)).map(TcpStream::from_source)
    }

    /// Connects as [`TcpStream::connect_and_retry`] does.
    ///
    /// # Blocking
    /// As [`TcpStream::connect_and_retry`].
    ///
    /// # Errors
    /// As [`TcpStream::connect_and_retry`]; those of the options.
    pub fn connect_and_retry(
        &self,
        addr: impl ToSocketAddrs,
        backoff: Backoff,
    ) -> io::Result<TcpStream> {
        let attempt = |deadline| connect::connect(&addr, deadline, |a| self.open(a));
        connect::retry(backoff, attempt).map(TcpStream::from_source)
    }
}

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// While one does not answer, the next is tried beside it after 250 ms, at once after one that
    /// fails; the families of addresses take turns (Happy Eyeballs, RFC 8305). It has no limit but
    /// the kernel's, about two minutes; see also `docs/resolving.md`.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Writable`](sward_runtime::WaitKind::Writable), with several
    /// addresses under `Select`, while a name is looked up as [`lookup_host`](crate::lookup_host);
    /// honours kill and `timeout`.
    ///
    /// # Errors
    /// That of the address, which is named; of several, a line for each, and the kind of the last
    /// one. `InvalidInput` if there is none.
    ///
    /// # Cancel safety
    /// Killed or timed out, the attempts are given up and their sockets closed.
    ///
    /// # Examples
    /// ```
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let stream = TcpStream::connect(address)?;
    /// assert_eq!(stream.peer_addr()?, address);
    /// drop(listener);
    /// let error = TcpStream::connect(address).unwrap_err();
    /// assert!(error.to_string().starts_with("cannot connect to 127.0.0.1:"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        ConnectOptions::new().connect(addr)
    }

    /// Connects to an address within a time.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for a limit of zero; those of the connection.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    /// # drop(stream);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<Self> {
        ConnectOptions::new().connect_timeout(address, limit)
    }

    /// Connects as [`connect`](Self::connect), again and again, with the pauses of `backoff`
    /// between the attempts, whatever goes wrong: nobody listens yet, the name is not known yet.
    ///
    /// A limit of the backoff is a deadline for the whole, names included.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect), and parks under `Sleep`.
    ///
    /// # Errors
    /// That of the last attempt, with the number of attempts, when the backoff has ended.
    /// `InvalidInput` at once.
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_net::{Backoff, TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let backoff = Backoff::default().limit(Duration::from_secs(60));
    /// let stream = TcpStream::connect_and_retry(listener.local_addr()?, backoff)?;
    /// # drop(stream);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect_and_retry(addr: impl ToSocketAddrs, backoff: Backoff) -> io::Result<Self> {
        ConnectOptions::new().connect_and_retry(addr, backoff)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.ask(std::net::TcpStream::peer_addr)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ask(std::net::TcpStream::local_addr)
    }

    /// Ends one direction or both, for all clones.
    ///
    /// The other end sees the end of what was sent. Who reads here gets the rest of what has come,
    /// then the end (0); who writes here, `BrokenPipe`. Those who wait are woken.
    ///
    /// # Errors
    /// `NotConnected`.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use sward_net::{Shutdown, TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut server, _) = listener.accept()?;
    /// client.write_all(b"all of it")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let mut all = String::new();
    /// server.read_to_string(&mut all)?;
    /// assert_eq!(all, "all of it");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.ask(|s| s.shutdown(how))
    }

    /// Receives what is there without taking it: the next read has it again.
    ///
    /// # Blocking
    /// As a read.
    ///
    /// # Errors
    /// As a read.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// TcpStream::connect(listener.local_addr()?)?.write_all(b"GET /")?;
    /// let (mut stream, _) = listener.accept()?;
    /// let mut start = [0; 3];
    /// stream.peek(&mut start)?;
    /// assert_eq!(&start, b"GET");
    /// let mut all = String::new();
    /// stream.read_to_string(&mut all)?;
    /// assert_eq!(all, "GET /");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .io(Direction::Read, self.read.limit(), |s| s.peek(buffer))
    }

    /// As [`peek`](Self::peek), of what is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing.
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Read, |s| s.peek(buffer))
    }

    /// Reads what is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing.
    ///
    /// # Examples
    /// ```
    /// use std::io::{ErrorKind, Write};
    /// use sward_net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (server, _) = listener.accept()?;
    /// let mut buffer = [0; 16];
    /// let nothing = server.try_read(&mut buffer).unwrap_err();
    /// assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    /// client.write_all(b"now")?;
    /// server.readable(None)?;
    /// assert_eq!(server.try_read(&mut buffer)?, 3);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Read, |mut s| s.read(buffer))
    }

    /// Writes what there is room for now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Write, |mut s| s.write(bytes))
    }

    /// Waits until there may be something to read, or the end or an error; `None` is no limit.
    /// Somebody else may be faster: go on with [`try_read`](Self::try_read) or
    /// [`peek`](Self::peek).
    ///
    /// It is not known whether there is something before a read has found nothing, so the first
    /// call may return at once.
    ///
    /// # Blocking
    /// As a read; [`set_read_timeout`](Self::set_read_timeout) does not count.
    ///
    /// # Errors
    /// `TimedOut`.
    pub fn readable(&self, limit: Option<Duration>) -> io::Result<()> {
        self.source.readable(limit)
    }

    /// As [`readable`](Self::readable), for room to write.
    ///
    /// # Blocking
    /// As a write; [`set_write_timeout`](Self::set_write_timeout) does not count.
    ///
    /// # Errors
    /// `TimedOut`.
    pub fn writable(&self, limit: Option<Duration>) -> io::Result<()> {
        self.source.writable(limit)
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that waits as
    /// [`readable`](Self::readable) does.
    pub fn reading(&self) -> Readiness<'_, std::net::TcpStream> {
        self.source.reading()
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that waits as
    /// [`writable`](Self::writable) does.
    pub fn writing(&self) -> Readiness<'_, std::net::TcpStream> {
        self.source.writing()
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that reads. If another arm is chosen,
    /// nothing was taken from the stream.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_net::{TcpListener, TcpStream};
    /// use sward_runtime::{select, sync::after};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (a, b) = (TcpStream::connect(listener.local_addr()?)?, listener.accept()?.0);
    /// let (mut from_a, mut from_b) = ([0; 16], [0; 16]);
    /// let heard = select! {
    ///     n = a.reading_into(&mut from_a) => n?,
    ///     n = b.reading_into(&mut from_b) => n?,
    ///     _ = after(Duration::from_millis(10)) => 0,
    /// };
    /// assert_eq!(heard, 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn reading_into<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> impl Arm<Output = io::Result<usize>> + 'a {
        self.source
            .doing(Direction::Read, move |mut s| s.read(buffer))
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that writes some of the bytes. If
    /// another arm is chosen, nothing was written.
    pub fn writing_from<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Arm<Output = io::Result<usize>> + 'a {
        self.source
            .doing(Direction::Write, move |mut s| s.write(bytes))
    }

    /// Sends some of a file (`sendfile(2)`), up to `count` bytes from `offset` on, and returns how
    /// many; 0 is the end of the file. The bytes do not pass through this process.
    ///
    /// # Blocking
    /// As a write, until there is room for some of it. What is not in the page cache is read from
    /// the disk meanwhile, which **blocks the worker**: for files that are cold, use a file of
    /// `sward_runtime::fs` and writes.
    ///
    /// # Errors
    /// As a write; `InvalidInput` or `NotSeekable` for what is no file, such as a socket. With
    /// `BrokenPipe` comes the signal `SIGPIPE`, which Rust programs ignore; where `main` is not
    /// Rust's, ignore it yourself.
    ///
    /// # Cancel safety
    /// As a write: a kill or a time-out comes when nothing was sent by this call.
    ///
    /// # Examples
    /// ```
    /// use std::io::{self, Write};
    /// use sward_net::TcpStream;
    ///
    /// /// Sends a head, then all of a file.
    /// fn send(stream: &mut TcpStream, head: &[u8], file: &std::fs::File) -> io::Result<u64> {
    ///     stream.write_all(head)?;
    ///     let mut sent = 0;
    ///     loop {
    ///         match stream.send_file(file, sent, 1 << 20)? {
    ///             0 => return Ok(sent),
    ///             n => sent += n as u64,
    ///         }
    ///     }
    /// }
    /// ```
    pub fn send_file(&self, file: impl AsFd, offset: u64, count: usize) -> io::Result<usize> {
        send_file::send_file(&self.source, self.write.limit(), file, offset, count)
    }
}

// To move no bytes is done at once: the kernel would wait for some to come.
impl Stream for TcpStream {
    #[inline]
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let (limit, asked) = (self.read.limit(), buffer.len());
        self.source
            .io_bytes(Direction::Read, limit, asked, |mut s| s.read(buffer))
    }

    fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (limit, asked) = (self.read.limit(), buffers.iter().map(|b| b.len()).sum());
        if asked == 0 {
            return Ok(0);
        }
        self.source
            .io_bytes(Direction::Read, limit, asked, |mut s| {
                s.read_vectored(buffers)
            })
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (limit, asked) = (self.write.limit(), bytes.len());
        self.source
            .io_bytes(Direction::Write, limit, asked, |mut s| s.write(bytes))
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let (limit, asked) = (self.write.limit(), buffers.iter().map(|b| b.len()).sum());
        if asked == 0 {
            return Ok(0);
        }
        self.source
            .io_bytes(Direction::Write, limit, asked, |mut s| {
                s.write_vectored(buffers)
            })
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read.set(limit)
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write.set(limit)
    }

    fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_nodelay(on)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.ask(|s| s.shutdown(how))
    }

    fn close(&self) -> io::Result<()> {
        self.source.close()
    }
}
