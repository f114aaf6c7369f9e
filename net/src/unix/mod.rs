//! Unix sockets: streams, listeners, datagrams, and what they have in common: addresses, and an
//! insistence on what the kernel sends no event for.
//!
//! `io_bytes` is never used here. An `EAGAIN` of a Unix socket follows from the size of what is
//! queued, and datagrams and descriptors keep their borders, so a short count does not say that
//! the next attempt would block.

pub(crate) mod datagram;
pub(crate) mod listener;
pub(crate) mod stream;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use sward_runtime::io::{Direction, Limit, Source, exhausted};
use sward_runtime::{now, sleep};

use crate::fault;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A socket without an address.
fn unbound(kind: SocketType) -> io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, kind, FLAGS, None)
        .map_err(|e| exhausted("a Unix socket", e.into()))
}

/// Two sockets that are connected.
fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, kind, FLAGS, None)
        .map_err(|e| exhausted("a pair of Unix sockets", e.into()))
}

/// The address of a path.
fn pathname(path: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(path).map_err(|e| match path.as_os_str().len() {
        n @ 108.. => {
            let text = format!(
                "the path {} is too long for a Unix socket: {n} bytes, and 107 are the most; use \
                 a shorter one, or one that is relative to the current directory",
                path.display()
            );
            io::Error::new(e.kind(), text)
        }
        _ => fault::at("use as a Unix socket the path", path.display(), e),
    })
}

/// An address as rustix has it.
fn for_kernel(address: &SocketAddr) -> io::Result<SocketAddrUnix> {
    if let Some(path) = address.as_pathname() {
        Ok(SocketAddrUnix::new(path)?)
    } else if let Some(name) = address.as_abstract_name() {
        Ok(SocketAddrUnix::new_abstract_name(name)?)
    } else {
        Ok(SocketAddrUnix::new_unnamed())
    }
}

/// Does an operation whose `EAGAIN` is followed by no event, because it was the queue of another
/// socket that was full: it is tried again after pauses that grow.
///
/// The first of them is `pause`. The word of the source does not hear of such an `EAGAIN`: it would
/// keep others back, whose operations go to another socket.
fn insist<T, R>(
    source: &Source<T>,
    limit: Option<Duration>,
    mut pause: Duration,
    mut operation: impl FnMut(&T) -> io::Result<R>,
) -> io::Result<R> {
    let mut whole = Limit::from(limit);
    let mut until = None;
    loop {
        let done = source.io(Direction::Write, whole, |s| match operation(s) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            done => done.map(Some),
        })?;
        if let Some(done) = done {
            return Ok(done);
        }
        if std::thread::panicking() {
            return Err(io::Error::other(
                "the queue of the other socket is full, and this task unwinds (a panic, a kill or \
                 a time-out) and may not wait; do it in a task of its own (sward::defer)",
            ));
        }
        let now = now();
        if until.is_none() {
            until = limit.and_then(|limit| now.checked_add(limit));
        }
        if let Some(until) = until {
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                let text = "the time-out passed while the queue of the other socket was full";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            whole = until.into();
            pause = pause.min(left);
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The end, where a datagram socket whose reading was shut down says `WouldBlock`, for ever. (A
/// blocking receive returns 0 then.)
pub(crate) fn or_end<R>(socket: impl AsFd, done: io::Result<R>, end: R) -> io::Result<R> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            let mut look = [PollFd::new(&socket, PollFlags::RDHUP)];
            match poll(&mut look, Some(&Timespec::default())) {
                Ok(1) if look[0].revents().contains(PollFlags::RDHUP) => Ok(end),
                _ => Err(e),
            }
        }
        done => done,
    }
}

/// An address in the text of an error.
struct Shown<'a>(&'a SocketAddr);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.0.as_pathname() {
            path.display().fmt(f)
        } else if let Some(name) = self.0.as_abstract_name() {
            write!(f, "@{} (abstract)", name.escape_ascii())
        } else {
            f.write_str("an unnamed Unix socket")
        }
    }
}

/// Says what was done to which address when it failed, and what to do about it.
#[cold]
fn at(what: &str, address: &SocketAddr, e: io::Error) -> io::Error {
    let advice = match (e.kind(), address.as_pathname().is_some()) {
        (io::ErrorKind::AddrInUse, true) => {
            " (a file is there: if no program listens on it any more, remove it)"
        }
        (io::ErrorKind::AddrInUse, false) => " (another socket has the name)",
        (io::ErrorKind::ConnectionRefused, true) => {
            " (the file is there, but nobody has it open: its program has ended, perhaps)"
        }
        _ => "",
    };
    fault::at(what, format_args!("{}{advice}", Shown(address)), e)
}
