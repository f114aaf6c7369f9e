//! The standard streams, without blocking the worker: [`stdin`], [`stdout`], [`stderr`].
//!
//! `O_NONBLOCK` belongs to the open file, which a terminal's other processes share, so it is never
//! set here. Instead each system call is made when `poll` says that it will not block: a read of
//! any size, a write of up to [`PIPE_BUF`] bytes, for which a writable pipe has room. A regular
//! file is always ready. A standard stream that is closed reads as empty and takes all that is
//! written, as in std.
//!
//! Invariants
//! - What was read from descriptor 0 is in the buffer before anything can park, and leaves it when
//!   it is handed over: who is killed or timed out while waiting for a line loses none of it.
//! - A message is written under the stream's lock as a whole.
//!
//! Rejected: opening `/proc/self/fd/1` anew without blocking (not for sockets, nor after a change
//! of user; it keeps a pipe open that its owner has closed); a buffer for stdout (its tail would
//! have to be written when the process ends, with the tasks gone).

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::entry::Direction;
use super::fault;
use super::sys;
use super::wait::{wait_readable, wait_writable};
use crate::clock;
use crate::sync::{Mutex, MutexGuard};

/// As many bytes are read at once.
const CHUNK: usize = 16 << 10;
/// A pipe that can be written to has room for so many.
const PIPE_BUF: usize = libc::PIPE_BUF;

/// Does a system call on a standard stream; a closed one is `none`.
fn settle(done: io::Result<usize>, none: usize) -> Option<io::Result<usize>> {
    match done {
        Err(e) => match e.raw_os_error() {
            // EAGAIN: somebody else was faster, on a descriptor that others made non-blocking.
            Some(libc::EINTR | libc::EAGAIN) => None,
            Some(libc::EBADF) => Some(Ok(none)),
            _ => Some(Err(e)),
        },
        done => Some(done),
    }
}

// ---- stdin --------------------------------------------------------------------------------------

struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

static INPUT: LazyLock<Mutex<Buffer>> = LazyLock::new(|| {
    Mutex::new(Buffer {
        bytes: Vec::new(),
        start: 0,
    })
});

impl Buffer {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn consume(&mut self, n: usize) {
        self.start = self.bytes.len().min(self.start + n);
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Waits for more, and adds it; 0 is the end.
    fn fill(&mut self, deadline: Option<Instant>) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            wait_readable(
                &stdin,
                deadline.map(|at| at.saturating_duration_since(clock::now())),
            )?;
            self.bytes.drain(..self.start);
            self.start = 0;
            let old = self.bytes.len();
            self.bytes.resize(old + CHUNK, 0);
            let done = sys::read(stdin.as_fd(), &mut self.bytes[old..]);
            self.bytes.truncate(old + done.as_ref().map_or(0, |n| *n));
            if let Some(done) = settle(done, 0) {
                return done;
            }
        }
    }

    /// Waits for a line or the end, and returns its length.
    fn line(&mut self, deadline: Option<Instant>) -> io::Result<usize> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.rest()[seen..].iter().position(|byte| *byte == b'\n') {
                return Ok(seen + at + 1);
            }
            seen = self.rest().len();
            if self.fill(deadline)? == 0 {
                return Ok(seen);
            }
        }
    }

    fn read_line(&mut self, text: &mut String, deadline: Option<Instant>) -> io::Result<usize> {
        let n = self.line(deadline)?;
        let line = str::from_utf8(&self.rest()[..n]).map(|line| text.push_str(line));
        self.consume(n);
        line.map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a line of the standard input is not UTF-8; it was skipped (read bytes instead)",
            )
        })?;
        Ok(n)
    }
}

/// The standard input of the process (std's `Stdin`).
#[derive(Clone, Copy)]
pub struct Stdin(());

/// The standard input, held: nobody else reads from it meanwhile (std's `StdinLock`).
pub struct StdinLock {
    buffer: MutexGuard<'static, Buffer>,
}

/// Returns the standard input; all handles share one buffer.
///
/// That buffer is not the one of [`std::io::stdin`]: use one of the two.
///
/// # Examples
/// ```no_run
/// for line in sward_runtime::io::stdin().lines() {
///     println!("{}", line?.to_uppercase());
/// }
/// # std::io::Result::Ok(())
/// ```
pub fn stdin() -> Stdin {
    Stdin(())
}

impl Stdin {
    /// Waits until nobody else reads, and holds the stream.
    ///
    /// # Blocking
    /// As [`Mutex::lock`].
    pub fn lock(&self) -> StdinLock {
        StdinLock {
            buffer: INPUT.lock(),
        }
    }

    /// Appends the next line to `text`, with its line feed; returns its length, 0 at the end.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](crate::WaitKind); honours kill and `timeout`.
    ///
    /// # Errors
    /// `InvalidData` when the line is not UTF-8; what `read` says.
    ///
    /// # Cancel safety
    /// Nothing is lost: the beginning of a line is there for the next read.
    pub fn read_line(&self, text: &mut String) -> io::Result<usize> {
        self.lock().read_line(text)
    }

    /// As [`read_line`](Self::read_line), for at most `limit`.
    ///
    /// # Errors
    /// As `read_line`, and `TimedOut`.
    pub fn read_line_timeout(&self, text: &mut String, limit: Duration) -> io::Result<usize> {
        let deadline = clock::deadline(limit);
        let Ok(mut buffer) = INPUT.lock_timeout(limit) else {
            return Err(fault::timed_out(Direction::Read.waits_for(0)));
        };
        buffer.read_line(text, deadline)
    }

    /// Returns an iterator over the lines, without their ends; it holds the stream.
    ///
    /// # Blocking
    /// As [`lock`](Self::lock) and [`read_line`](Self::read_line).
    pub fn lines(self) -> io::Lines<StdinLock> {
        self.lock().lines()
    }
}

impl Read for StdinLock {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for StdinLock {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer.rest().is_empty() {
            self.buffer.fill(None)?;
        }
        Ok(self.buffer.rest())
    }

    fn consume(&mut self, n: usize) {
        self.buffer.consume(n);
    }

    fn read_line(&mut self, text: &mut String) -> io::Result<usize> {
        self.buffer.read_line(text, None)
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buffer)
    }
}

impl Read for &Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buffer)
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stdin")
    }
}

impl fmt::Debug for StdinLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock")
            .field("buffered", &self.buffer.rest().len())
            .finish()
    }
}

// ---- stdout and stderr --------------------------------------------------------------------------

/// Writes a part, when that does not block.
fn write_part(fd: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let part = &bytes[..bytes.len().min(PIPE_BUF)];
    loop {
        wait_writable(fd, None)?;
        if let Some(done) = settle(sys::write(fd.as_fd(), part), part.len()) {
            return done;
        }
    }
}

fn write_whole(fd: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = write_part(fd, bytes)?;
        bytes = &bytes[n..];
    }
    Ok(())
}

macro_rules! output {
    ($Stream:ident, $stream:ident, $LOCK:ident, $what:literal) => {
        static $LOCK: LazyLock<Mutex<()>> = LazyLock::new(|| Mutex::new(()));

        #[doc = concat!("The standard ", $what, " of the process, without a buffer.")]
        ///
        /// What one `write!`, `writeln!` or `write_all` is given comes out as a whole, whoever
        /// writes beside it. Wrap it in a `BufWriter` for many small writes.
        ///
        /// # Blocking
        /// Parks under [`WaitKind::Writable`](crate::WaitKind) while there is no room, and for
        /// the stream's lock; honours kill and `timeout`, which may cut a message of more than
        /// 4096 bytes short.
        ///
        /// # Examples
        /// ```
        /// use std::io::Write;
        #[doc = concat!("writeln!(sward_runtime::io::", stringify!($stream), "(), \"{} tasks\", 3)?;")]
        /// # std::io::Result::Ok(())
        /// ```
        #[derive(Clone, Copy)]
        pub struct $Stream(());

        #[doc = concat!("Returns the standard ", $what, ".")]
        pub fn $stream() -> $Stream {
            $Stream(())
        }

        impl Write for $Stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _lock = $LOCK.lock();
                write_part(&io::$stream(), bytes)
            }

            fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                let _lock = $LOCK.lock();
                write_whole(&io::$stream(), bytes)
            }

            fn write_fmt(&mut self, message: fmt::Arguments<'_>) -> io::Result<()> {
                // Rendered first: it may be another task that the message asks for its parts.
                match message.as_str() {
                    Some(text) => self.write_all(text.as_bytes()),
                    None => self.write_all(message.to_string().as_bytes()),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Write for &$Stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                $Stream(()).write(bytes)
            }

            fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                $Stream(()).write_all(bytes)
            }

            fn write_fmt(&mut self, message: fmt::Arguments<'_>) -> io::Result<()> {
                $Stream(()).write_fmt(message)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl fmt::Debug for $Stream {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($Stream))
            }
        }
    };
}

output!(Stdout, stdout, OUTPUT, "output");
output!(Stderr, stderr, ERRORS, "error output");
