//! Descriptors that go over a Unix socket, with the bytes beside them (`SCM_RIGHTS`).
//!
//! Descriptors that arrive are owned from the moment that the system call returns (rustix's buffer
//! closes what is not taken out of it), so no kill, error or panic can lose one. A kill comes
//! before the call or not at all.
//!
//! What is refused
//! - Nothing to carry them, on a stream: the kernel sends descriptors with the first byte, and
//!   without a byte drops them in silence. A receiver that takes no byte could not tell it from
//!   the end of the stream. An empty datagram is a message, and carries them.
//! - Descriptors opened with `O_PATH`: a socket of ours that was closed under its owner looks like
//!   one, and the peer would get a descriptor that nobody meant it to have.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sward_runtime::io::Direction;

use crate::unix::datagram::UnixDatagram;
use crate::unix::or_end;
use crate::unix::stream::UnixStream;

/// How many descriptors the kernel sends at once (`SCM_MAX_FD`).
const MOST: usize = 253;

/// Room for them, and for credentials if somebody asked for these (`SO_PASSCRED`).
const SPACE: usize = cmsg_space!(ScmRights(MOST), ScmCredentials(1));

impl UnixStream {
    /// Sends bytes, and descriptors with the first of them; at least one byte, at most 253
    /// descriptors. Returns how many bytes went; the descriptors went with them, and the rest is
    /// for [`Write::write_all`](io::Write).
    ///
    /// The peer gets duplicates: who sends keeps its own. Flags of the open file are shared, such
    /// as `O_NONBLOCK`, which the sockets of this crate have: a program that expects a blocking
    /// one needs [`into_std`](UnixStream::into_std) before.
    ///
    /// # Blocking
    /// As a write.
    ///
    /// # Errors
    /// As a write; `InvalidInput` for no bytes (the kernel would drop the descriptors), or too
    /// many descriptors; for a descriptor that is closed, or was opened with `O_PATH`; when too
    /// many are on their way (as many as this user may have open, `ulimit -n`).
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    /// use sward_net::UnixStream;
    ///
    /// let (a, b) = UnixStream::pair()?;
    /// let (reader, mut writer) = std::io::pipe()?;
    /// a.send_with_fds(b"a pipe", &[reader.as_fd()])?;
    ///
    /// let mut buffer = [0; 16];
    /// let (n, mut fds) = b.recv_with_fds(&mut buffer, 1)?;
    /// assert_eq!((&buffer[..n], fds.len()), (&b"a pipe"[..], 1));
    /// writer.write_all(b"x")?;
    /// let mut byte = [0];
    /// std::fs::File::from(fds.remove(0)).read_exact(&mut byte)?;
    /// assert_eq!(&byte, b"x");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if bytes.is_empty() {
            let text = "descriptors go over a stream with a byte at least: without one, the kernel \
                        would drop them in silence";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        check(fds)?;
        let limit = self.write_timeout()?;
        self.as_source()
            .io(Direction::Write, limit, |s| send(s, bytes, fds))
    }

    /// Receives bytes, and the descriptors that were sent with the first of them, at most so many.
    /// `(0, [])` is the end.
    ///
    /// Bytes that were sent before, without descriptors, may come in the same call; bytes that
    /// were sent after come in the next one. The descriptors are not passed on to child processes
    /// (`O_CLOEXEC`). A plain read of such bytes closes the descriptors.
    ///
    /// # Blocking
    /// As a read.
    ///
    /// # Errors
    /// As a read; `InvalidInput` for an empty buffer. When not all descriptors could be had: more
    /// than `max_fds` were sent, or this process has as many open as it may. Those that came are
    /// closed then, and the bytes beside them are lost: the stream is of no use any more.
    ///
    /// # Cancel safety
    /// A task that is killed or timed out has taken nothing.
    pub fn recv_with_fds(
        &self,
        buffer: &mut [u8],
        max_fds: usize,
    ) -> io::Result<(usize, Vec<OwnedFd>)> {
        if buffer.is_empty() {
            let text = "an empty buffer: 0 bytes could not be told from the end of the stream";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let limit = self.read_timeout()?;
        self.as_source()
            .io(Direction::Read, limit, |s| recv(s, buffer, max_fds))
    }
}

impl UnixDatagram {
    /// Sends a datagram and at most 253 descriptors to the socket that this one is connected to;
    /// see [`UnixStream::send_with_fds`]. The datagram may be empty.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send), and as [`UnixStream::send_with_fds`].
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        check(fds)?;
        let limit = self.write_timeout()?;
        self.as_source()
            .io(Direction::Write, limit, |s| send(s, bytes, fds))
    }

    /// Receives a datagram and the descriptors that came with it, at most so many; see
    /// [`UnixStream::recv_with_fds`]. A plain receive closes them.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv). When not all descriptors could be had: more than `max_fds` were
    /// sent, or this process has as many open as it may. Those that came are closed then, and the
    /// datagram is lost.
    ///
    /// # Cancel safety
    /// A task that is killed or timed out has taken nothing.
    pub fn recv_with_fds(
        &self,
        buffer: &mut [u8],
        max_fds: usize,
    ) -> io::Result<(usize, Vec<OwnedFd>)> {
        let limit = self.read_timeout()?;
        self.as_source().io(Direction::Read, limit, |s| {
            or_end(s, recv(s, buffer, max_fds), (0, Vec::new()))
        })
    }
}

/// Refuses what must not or cannot be sent.
fn check(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MOST {
        let n = fds.len();
        let text = format!("{n} descriptors: the kernel sends at most {MOST} at once");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for fd in fds {
        if fcntl_getfl(fd)?.contains(OFlags::PATH) {
            let e = io::Error::from(Errno::BADF);
            let text = format!(
                "descriptor {} cannot be sent: its socket was closed, or it was opened with \
                 O_PATH ({e})",
                fd.as_raw_fd()
            );
            return Err(io::Error::new(e.kind(), text));
        }
    }
    Ok(())
}

/// One attempt to send.
fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        // There is room: they have been counted.
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).map_err(|e| match e {
        Errno::TOOMANYREFS => io::Error::other(format!(
            "too many descriptors have been sent that nobody has received yet: as many as this \
             user may have open (ulimit -n) ({e})"
        )),
        e => e.into(),
    })
}

/// One attempt to receive.
fn recv(socket: impl AsFd, buffer: &mut [u8], max_fds: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let space = &mut space[..cmsg_space!(ScmRights(max_fds.min(MOST)), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) || fds.len() > max_fds {
        return Err(cut_off(got.bytes, fds.len(), max_fds));
    }
    Ok((got.bytes, fds))
}

#[cold]
fn cut_off(bytes: usize, came: usize, max_fds: usize) -> io::Error {
    let (kind, why) = if came >= max_fds {
        (
            io::ErrorKind::InvalidData,
            "more were sent than were asked for",
        )
    } else {
        let why = "this process has as many as it may (ulimit -n), or may not have them";
        (io::ErrorKind::Other, why)
    };
    let text = format!(
        "not all descriptors could be received: {why}; the {came} that came are closed, and the \
         {bytes} bytes beside them are lost"
    );
    io::Error::new(kind, text)
}
