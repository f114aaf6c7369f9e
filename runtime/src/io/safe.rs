//! The promise that makes it sound to keep a descriptor's number beside its owner.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Stderr, Stdin, Stdout};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

/// A type whose descriptor stays the same, and open, for as long as the value lives.
///
/// [`Source`](super::Source) registers the number with the kernel and keeps it; if the value could
/// be made to close or replace its descriptor, operations would meet somebody else's file.
///
/// # Safety
/// As long as a value lives and is only shared (`&T`), `as_fd` returns the same number, and that
/// number leads to the same open file. (`Source` itself may replace it in
/// [`close`](super::Source::close).) The promise holds for clones of an `Arc` too: nobody can reach
/// the inside of one mutably while others have it.
pub unsafe trait IoSafe {}

// SAFETY: owns one descriptor, which it closes when dropped and not before.
unsafe impl IoSafe for OwnedFd {}
// SAFETY: what it borrows stays open for longer than it lives.
unsafe impl IoSafe for BorrowedFd<'_> {}
// SAFETY: as OwnedFd.
unsafe impl IoSafe for File {}
// SAFETY: as OwnedFd.
unsafe impl IoSafe for PipeReader {}
// SAFETY: as OwnedFd.
unsafe impl IoSafe for PipeWriter {}
// SAFETY: as OwnedFd.
unsafe impl IoSafe for ChildStdin {}
// SAFETY: as OwnedFd.
unsafe impl IoSafe for ChildStdout {}
// SAFETY: as OwnedFd.
unsafe impl IoSafe for ChildStderr {}
// SAFETY: std keeps descriptor 0 open.
unsafe impl IoSafe for Stdin {}
// SAFETY: std keeps descriptor 1 open.
unsafe impl IoSafe for Stdout {}
// SAFETY: std keeps descriptor 2 open.
unsafe impl IoSafe for Stderr {}
// SAFETY: what a shared reference leads to is only shared.
unsafe impl<T: IoSafe + ?Sized> IoSafe for &T {}
// SAFETY: as T: a shared box shares its inside only.
unsafe impl<T: IoSafe + ?Sized> IoSafe for Box<T> {}
// SAFETY: as T.
unsafe impl<T: IoSafe + ?Sized> IoSafe for Arc<T> {}

#[expect(clippy::disallowed_types, reason = "a Source of one does not block")]
mod sockets {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::IoSafe;

    // SAFETY: owns one descriptor, which it closes when dropped and not before.
    unsafe impl IoSafe for TcpStream {}
    // SAFETY: as TcpStream.
    unsafe impl IoSafe for TcpListener {}
    // SAFETY: as TcpStream.
    unsafe impl IoSafe for UdpSocket {}
    // SAFETY: as TcpStream.
    unsafe impl IoSafe for UnixStream {}
    // SAFETY: as TcpStream.
    unsafe impl IoSafe for UnixListener {}
    // SAFETY: as TcpStream.
    unsafe impl IoSafe for UnixDatagram {}
}
