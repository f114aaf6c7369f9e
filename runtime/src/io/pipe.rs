//! Pipes whose ends park the task: [`pipe`], and the streams of child processes.
//!
//! Both ends are a [`Source`] over std's type. `O_NONBLOCK` belongs to the open file, so an end
//! that is given to a child process ([`Stdio`]) or back to std is made blocking again: other
//! programs do not expect it.
//!
//! Rejected: `try_clone` (both clones would share that flag, and one of them could be given away:
//! share an end by reference or `Arc`, it reads and writes through `&`).

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use super::entry::Direction;
use super::fault;
use super::patience::Patience;
use super::source::{Limit, Source};
use super::sys;

/// The reading end of a pipe; reads park the task (std's `PipeReader`, `ChildStdout`).
///
/// It can be read through `&`, by several tasks and threads.
pub struct PipeReader {
    source: Source<io::PipeReader>,
    patience: Patience,
}

/// The writing end of a pipe; writes park the task while it is full (std's `PipeWriter`,
/// `ChildStdin`).
///
/// When nobody can read any more, a write is an error (`BrokenPipe`): Rust programs ignore
/// `SIGPIPE`. In a program whose `main` is not Rust's, ignore it yourself.
pub struct PipeWriter {
    source: Source<io::PipeWriter>,
    patience: Patience,
}

/// Returns both ends of a new pipe; what is written to one is read from the other.
///
/// # Errors
/// When descriptors are exhausted.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// let (mut reader, mut writer) = sward_runtime::io::pipe()?;
/// sward_runtime::spawn(move || writer.write_all(b"through a pipe"));
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "through a pipe");
/// # std::io::Result::Ok(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe().map_err(|e| fault::exhausted("a pipe", e))?;
    Ok((PipeReader::new(reader)?, PipeWriter::new(writer)?))
}

impl PipeReader {
    /// Takes std's reading end, and makes it non-blocking.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn new(reader: io::PipeReader) -> io::Result<Self> {
        Ok(Self {
            source: Source::new(reader)?,
            patience: Patience::for_ever(),
        })
    }

    /// Reads what is there, waiting for it for at most `limit`.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](crate::WaitKind); honours kill and `timeout`.
    ///
    /// # Errors
    /// `TimedOut`; as [`Source::io`].
    pub fn read_timeout(&self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        self.read_for(buffer, limit)
    }

    fn read_for(&self, buffer: &mut [u8], limit: impl Into<Limit>) -> io::Result<usize> {
        self.source
            .io(Direction::Read, limit, |mut pipe| pipe.read(buffer))
    }

    /// Reads what is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; as [`Source::io`].
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .try_io(Direction::Read, |mut pipe| pipe.read(buffer))
    }
}

impl PipeWriter {
    /// Takes std's writing end, and makes it non-blocking.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn new(writer: io::PipeWriter) -> io::Result<Self> {
        Ok(Self {
            source: Source::new(writer)?,
            patience: Patience::for_ever(),
        })
    }

    /// Writes what there is room for, waiting for room for at most `limit`.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Writable`](crate::WaitKind); honours kill and `timeout`.
    ///
    /// # Errors
    /// `TimedOut`; `BrokenPipe` when nobody can read it any more; as [`Source::io`].
    pub fn write_timeout(&self, bytes: &[u8], limit: Duration) -> io::Result<usize> {
        self.write_for(bytes, limit)
    }

    fn write_for(&self, bytes: &[u8], limit: impl Into<Limit>) -> io::Result<usize> {
        self.source
            .io(Direction::Write, limit, |mut pipe| pipe.write(bytes))
    }

    /// Writes what there is room for now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; `BrokenPipe`; as [`Source::io`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .try_io(Direction::Write, |mut pipe| pipe.write(bytes))
    }
}

/// What both ends have.
macro_rules! end {
    ($End:ident) => {
        impl $End {
            /// Limits the wait of each later operation; `None` takes the limit away. An operation
            /// that is over time fails with `TimedOut`, having moved nothing.
            ///
            /// # Errors
            /// `InvalidInput` for a limit of zero, as in std.
            pub fn set_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.patience.set(limit)
            }

            /// Returns the limit that [`set_timeout`](Self::set_timeout) has set.
            pub fn timeout(&self) -> Option<Duration> {
                self.patience.get()
            }

            /// Closes this end under whoever uses it; see [`Source::close`].
            ///
            /// # Errors
            /// As [`Source::close`].
            pub fn close(&self) -> io::Result<()> {
                self.source.close()
            }

            /// Gives std's type back, blocking again.
            ///
            /// # Errors
            /// Those of `fcntl`.
            pub fn into_std(self) -> io::Result<io::$End> {
                let inner = self.source.into_inner();
                sys::set_blocking(inner.as_fd())?;
                Ok(inner)
            }

            /// Returns the source, for what this type lacks.
            pub fn as_source(&self) -> &Source<io::$End> {
                &self.source
            }
        }

        impl AsFd for $End {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.source.as_fd()
            }
        }

        /// For the stream of a child process: blocking again, as programs expect it.
        impl From<$End> for Stdio {
            fn from(end: $End) -> Self {
                let inner = end.source.into_inner();
                let _ = sys::set_blocking(inner.as_fd());
                Self::from(OwnedFd::from(inner))
            }
        }

        impl fmt::Debug for $End {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($End)).field(&self.source).finish()
            }
        }
    };
}

end!(PipeReader);
end!(PipeWriter);

impl Read for &PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_for(buffer, self.patience.limit())
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let limit = self.patience.limit();
        self.source.io(Direction::Read, limit, |mut pipe| {
            pipe.read_vectored(buffers)
        })
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_for(bytes, self.patience.limit())
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let limit = self.patience.limit();
        self.source.io(Direction::Write, limit, |mut pipe| {
            pipe.write_vectored(buffers)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
