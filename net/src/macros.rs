//! `socket!`: what every socket has, whatever its kind. Written once, because six types of std
//! have the same methods without a trait.
//!
//! A socket has a field `source: Source<std's type>`, and two functions that `socket!` asks for:
//! `from_source(source) -> Self`, and `with_source(&self, source) -> Self`, which makes another with
//! the same settings. `time_outs!` has both for sockets that read and write, whose other fields are
//! `read: Patience, write: Patience`; listeners, which have no settings, write them.
//!
//! Options of the socket are asked for through `ask`: a socket that somebody has closed says so, and
//! so does one from before a fork.

/// `socket!(TcpStream, std::net::TcpStream, "a TCP stream")`
macro_rules! socket {
    ($Name:ident, $Std:ty, $what:literal) => {
        impl $Name {
            #[doc = concat!("Takes std's socket, ", $what, ", and makes it non-blocking.")]
            ///
            /// That flag (`O_NONBLOCK`) belongs to the open socket, which clones share. std's
            /// time-outs do not count any more.
            ///
            /// # Errors
            /// Those of `fcntl`.
            pub fn from_std(socket: $Std) -> std::io::Result<Self> {
                Ok(Self::from_source(sward_runtime::io::Source::new(socket)?))
            }

            /// Does something with the socket that never waits.
            #[inline]
            #[allow(dead_code, reason = "not every socket has options")]
            pub(crate) fn ask<R>(
                &self,
                f: impl FnMut(&$Std) -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                self.source.try_io(sward_runtime::io::Direction::Write, f)
            }

            /// Gives std's socket back, blocking again; the time-outs that were set here are gone.
            ///
            /// # Errors
            /// Those of `fcntl`.
            pub fn into_std(self) -> std::io::Result<$Std> {
                let socket = self.source.into_inner();
                socket.set_nonblocking(false)?;
                Ok(socket)
            }

            /// Returns a second handle of the same socket, with a descriptor of its own
            /// (`dup`) and a copy of the time-outs.
            ///
            /// To share one between tasks, a reference or an `Arc` will do: all methods take
            /// `&self`. A clone that is closed leaves the others open.
            ///
            /// # Errors
            /// When descriptors are exhausted.
            pub fn try_clone(&self) -> std::io::Result<Self> {
                let socket = self.ask(<$Std>::try_clone);
                let socket = socket.map_err(|e| sward_runtime::io::exhausted($what, e))?;
                Ok(self.with_source(sward_runtime::io::Source::from_nonblocking(socket)))
            }

            /// Returns the error that waits in the socket (`SO_ERROR`), and takes it out.
            ///
            /// # Errors
            /// Those of `getsockopt`.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.ask(<$Std>::take_error)
            }

            /// Closes the socket under whoever uses it: those who wait, and all later operations,
            /// fail; see [`Source::close`](sward_runtime::io::Source::close).
            ///
            /// # Errors
            /// As `Source::close`.
            pub fn close(&self) -> std::io::Result<()> {
                self.source.close()
            }

            /// Returns the source, for what this type lacks: its readiness, arms of a `select!`,
            /// operations of your own.
            pub fn as_source(&self) -> &sward_runtime::io::Source<$Std> {
                &self.source
            }
        }

        impl std::os::fd::AsFd for $Name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&self.source)
            }
        }

        impl std::os::fd::AsRawFd for $Name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&self.source))
            }
        }

        impl std::os::fd::IntoRawFd for $Name {
            /// The descriptor stays non-blocking.
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(self.source.into_inner())
            }
        }

        impl From<$Name> for std::os::fd::OwnedFd {
            /// The descriptor stays non-blocking.
            fn from(socket: $Name) -> Self {
                socket.source.into_inner().into()
            }
        }

        impl TryFrom<$Std> for $Name {
            type Error = std::io::Error;
            /// As `from_std`.
            fn try_from(socket: $Std) -> std::io::Result<Self> {
                Self::from_std(socket)
            }
        }

        impl TryFrom<std::os::fd::OwnedFd> for $Name {
            type Error = std::io::Error;
            /// As `from_std`; the descriptor must be of this kind of socket.
            fn try_from(fd: std::os::fd::OwnedFd) -> std::io::Result<Self> {
                Self::from_std(fd.into())
            }
        }

        impl std::fmt::Debug for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.source.get_ref().fmt(f)
            }
        }
    };
}

/// The time-outs of a socket that reads and writes, with its `from_source` and `with_source`.
macro_rules! time_outs {
    ($Name:ident, $Std:ty) => {
        impl $Name {
            #[inline]
            pub(crate) fn from_source(source: Source<$Std>) -> Self {
                Self {
                    source,
                    read: Patience::for_ever(),
                    write: Patience::for_ever(),
                }
            }

            fn with_source(&self, source: Source<$Std>) -> Self {
                Self {
                    source,
                    read: self.read.clone(),
                    write: self.write.clone(),
                }
            }

            /// Limits the wait of each later read; `None` takes the limit away. A read that is over
            /// time fails with [`TimedOut`](std::io::ErrorKind::TimedOut) (std: `WouldBlock`),
            /// having read nothing.
            ///
            /// # Errors
            /// `InvalidInput` for a limit of zero.
            pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.read.set(limit)
            }

            /// Limits the wait of each later write, as
            /// [`set_read_timeout`](Self::set_read_timeout) does for reads.
            ///
            /// # Errors
            /// `InvalidInput` for a limit of zero.
            pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.write.set(limit)
            }

            /// The limit of reads.
            ///
            /// # Errors
            /// None; as std's.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.read.get())
            }

            /// The limit of writes.
            ///
            /// # Errors
            /// None; as std's.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.write.get())
            }
        }
    };
}

/// `Read` and `Write` for a stream and for references to it, by its `recv`, `send` and their
/// vectored forms.
macro_rules! read_write {
    ($Name:ident) => {
        read_write!(@one $Name, $Name);
        read_write!(@one $Name, &$Name);
    };
    (@one $Name:ident, $Self:ty) => {
        impl io::Read for $Self {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                <$Name as crate::stream::Stream>::recv(self, buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                <$Name as crate::stream::Stream>::recv_vectored(self, buffers)
            }
        }

        impl io::Write for $Self {
            #[inline]
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                <$Name as crate::stream::Stream>::send(self, bytes)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                <$Name as crate::stream::Stream>::send_vectored(self, buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}
