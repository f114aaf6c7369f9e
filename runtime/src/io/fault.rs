//! The errors of this folder: `io::Error`s whose text says what happened to which descriptor, and
//! what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

use crate::fork;
use crate::wait_reason::WaitReason;

/// What an operation on a closed [`Source`](super::Source) fails with, inside of an
/// [`io::Error`]; [`is_closed`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    fd: RawFd,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "descriptor {} is closed: somebody called close on this Source (EBADF)",
            self.fd
        )
    }
}

impl Error for Closed {}

/// Whether one of these is inside of the error, or among its causes.
fn has<T: Error + 'static>(error: &io::Error) -> bool {
    fn inside(error: &io::Error) -> Option<&(dyn Error + 'static)> {
        error.get_ref().map(|e| e as _)
    }
    let mut next = inside(error);
    while let Some(e) = next {
        if e.is::<T>() {
            return true;
        }
        next = match e.downcast_ref() {
            Some(e) => inside(e),
            None => e.source(),
        };
    }
    false
}

/// Returns whether `error` says that the `Source` was closed.
///
/// # Examples
/// ```
/// use sward_runtime::io::{Direction, Limit, Source, is_closed};
/// let (reader, _writer) = std::io::pipe()?;
/// let source = Source::new(reader)?;
/// source.close()?;
/// let error = source.ready(Direction::Read, Limit::NONE).unwrap_err();
/// assert!(is_closed(&error));
/// # std::io::Result::Ok(())
/// ```
pub fn is_closed(error: &io::Error) -> bool {
    has::<Closed>(error)
}

#[cold]
pub(super) fn closed(fd: RawFd) -> io::Error {
    io::Error::other(Closed { fd })
}

#[cold]
pub(super) fn timed_out(what: WaitReason) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the time-out passed while waiting for {what}"),
    )
}

#[cold]
pub(super) fn unwinding(what: WaitReason) -> io::Error {
    io::Error::other(format!(
        "this task would have to wait for {what}, but it unwinds (a panic, a kill or a time-out) \
         and may not park; wait in a task of its own (sward::defer)"
    ))
}

/// Says which limit was met when `what` could not be had, for want of descriptors, processes or
/// memory; other errors stay as they are.
///
/// # Examples
/// ```
/// use sward_runtime::io::exhausted;
/// let e = std::io::Error::from_raw_os_error(24); // EMFILE
/// assert!(exhausted("a socket", e).to_string().contains("ulimit -n"));
/// ```
#[cold]
pub fn exhausted(what: &str, e: io::Error) -> io::Error {
    let limit = match e.raw_os_error() {
        Some(libc::EMFILE) => "this process has as many descriptors as it may (ulimit -n)",
        Some(libc::ENFILE) => "the system has as many open files as it may (fs.file-max)",
        Some(libc::EAGAIN) => "there are as many processes as there may be (ulimit -u, pids.max)",
        Some(libc::ENOMEM | libc::ENOBUFS) => "the kernel has no memory for it",
        _ => return e,
    };
    let text = format!("no descriptor or process for {what}: {limit} ({e})");
    io::Error::new(e.kind(), Exhausted(text))
}

/// What [`exhausted`] puts into an error.
#[derive(Debug)]
struct Exhausted(String);

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Exhausted {}

/// Returns whether `error` says that descriptors, processes or memory ran out, as [`exhausted`]
/// says it or as the system does: it will pass when others give some back, so a loop that accepts
/// connections should pause.
///
/// # Examples
/// ```
/// use sward_runtime::io::{exhausted, is_exhausted};
/// let e = std::io::Error::from_raw_os_error(24); // EMFILE
/// assert!(is_exhausted(&e));
/// assert!(is_exhausted(&exhausted("a socket", e)));
/// assert!(!is_exhausted(&std::io::ErrorKind::TimedOut.into()));
/// ```
pub fn is_exhausted(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    matches!(
        raw,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
    ) || has::<Exhausted>(error)
}

#[cold]
pub(crate) fn forked() -> io::Error {
    io::Error::other(fork::TEXT)
}

/// Says what a failed registration means.
#[cold]
pub(super) fn registration(fd: RawFd, e: io::Error) -> io::Error {
    let what = match e.raw_os_error() {
        Some(libc::EPERM) => {
            "it is a regular file or a directory, which is never waited for: do the operation on a \
             thread that may block"
        }
        Some(libc::EEXIST) => {
            "another Source of this worker has the same descriptor: share that one (Arc), or \
             duplicate the descriptor"
        }
        Some(libc::EBADF) => "it is not open (somebody has closed it behind its owner's back)",
        Some(libc::ENOSPC) => "the limit /proc/sys/fs/epoll/max_user_watches is reached",
        Some(libc::ENOMEM) => "the kernel has no memory for it",
        _ => return e,
    };
    io::Error::new(
        e.kind(),
        format!("descriptor {fd} cannot be waited for: {what} ({e})"),
    )
}
