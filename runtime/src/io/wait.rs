//! Waiting for descriptors that belong to somebody else: no registration outlives the wait.
//!
//! A worker's epoll instance may have such a descriptor already (a [`Source`] of it), and refuses
//! it a second time. So the wait is for another one: for a single descriptor and direction a
//! duplicate of it; for a set an epoll instance of its own, which is readable when one of the set
//! is ready. First and last `poll(2)` is asked: what is ready at once costs one system call, and
//! what it says is said as `poll` says it, level-triggered.
//!
//! Rejected: an epoll instance for a single one too (4.5 us to make and close one); a duplicate of
//! each of a set (four system calls apiece, where this takes one); an entry shared with a `Source`
//! of the same number (two owners of one registration).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use super::entry::Direction;
use super::fault;
use super::source::Source;
use super::sys;
use crate::hub::poller::Ready;
use crate::park;

/// A descriptor, what to wait for, and what was found: an element of [`poll`]'s set.
#[derive(Clone, Copy, Debug)]
pub struct PollFd<'a> {
    fd: BorrowedFd<'a>,
    interest: Ready,
    found: Ready,
}

impl<'a> PollFd<'a> {
    /// Waits for any of `interest`. An error state and a hang-up of both directions are always
    /// waited for, as `poll(2)` does.
    pub fn new(fd: &'a impl AsFd, interest: Ready) -> Self {
        Self {
            fd: fd.as_fd(),
            interest,
            found: Ready::NONE,
        }
    }

    /// Returns what the descriptor was ready for when [`poll`] returned.
    pub fn ready(&self) -> Ready {
        self.found
    }

    /// What a dump says of the wait.
    fn as_reason(&self) -> (Direction, RawFd) {
        let direction = match self.interest == Ready::WRITABLE {
            true => Direction::Write,
            false => Direction::Read,
        };
        (direction, self.fd.as_raw_fd())
    }

    fn to_libc(self) -> libc::pollfd {
        let events = NAMES
            .iter()
            .filter(|(ready, _)| self.interest.contains(*ready))
            .fold(0, |events, (_, name)| events | name);
        libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events,
            revents: 0,
        }
    }
}

/// What `poll(2)` and `epoll` call them, by the same numbers.
const NAMES: [(Ready, libc::c_short); 6] = [
    (Ready::READABLE, libc::POLLIN),
    (Ready::WRITABLE, libc::POLLOUT),
    (Ready::HUNG_UP, libc::POLLRDHUP),
    (Ready::HUNG_UP, libc::POLLHUP),
    (Ready::PRIORITY, libc::POLLPRI),
    (Ready::ERROR, libc::POLLERR | libc::POLLNVAL),
];

fn look(set: &mut [libc::pollfd], fds: &mut [PollFd<'_>]) -> io::Result<usize> {
    let n = sys::poll_now(set)?;
    for (asked, fd) in set.iter().zip(fds) {
        fd.found = NAMES
            .iter()
            .filter(|(_, name)| asked.revents & name != 0)
            .fold(Ready::NONE, |found, (ready, _)| found | *ready);
    }
    Ok(n)
}

/// Waits until one of the descriptors is ready for what is asked; `poll(2)` for tasks
/// (`gevent.select.poll`).
///
/// Returns how many are, 0 after the time-out; [`PollFd::ready`] tells of each. Regular files are
/// always ready. A descriptor may occur more than once. Without any, it is a sleep.
///
/// # Blocking
/// Parks under [`WaitKind::Readable`](crate::WaitKind), which names the first of them; honours kill and `timeout`.
///
/// # Errors
/// When descriptors are exhausted, for it takes one while it waits; as
/// [`Source::io`](super::Source::io).
///
/// # Examples
/// ```
/// use std::{io::Write, time::Duration};
/// use sward_runtime::io::{PollFd, Ready, poll};
/// let ((a, _x), (b, mut y)) = (std::io::pipe()?, std::io::pipe()?);
/// y.write_all(b"!")?;
/// let mut set = [PollFd::new(&a, Ready::READABLE), PollFd::new(&b, Ready::READABLE)];
/// assert_eq!(poll(&mut set, Some(Duration::from_secs(1)))?, 1);
/// assert!(set[0].ready().is_empty() && set[1].ready().contains(Ready::READABLE));
/// # std::io::Result::Ok(())
/// ```
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    park::checkpoint();
    let mut set: Vec<libc::pollfd> = fds.iter().map(|fd| fd.to_libc()).collect();
    match look(&mut set, fds)? {
        0 if timeout != Some(Duration::ZERO) => {}
        n => return Ok(n),
    }
    let first = fds.first().map(PollFd::as_reason);
    let (stand_in, direction) = match *fds {
        [one] if one.interest == Ready::READABLE => (one.fd.try_clone_to_owned()?, Direction::Read),
        [one] if one.interest == Ready::WRITABLE => {
            (one.fd.try_clone_to_owned()?, Direction::Write)
        }
        _ => (watch_all(&set)?, Direction::Read),
    };
    let source = Source::with_alias(stand_in, first);
    let mut looked = false;
    let found = source.io(direction, timeout, |_| {
        // Nothing is done with the stand-in: the first wait is for its first event.
        if !std::mem::replace(&mut looked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match look(&mut set, fds)? {
            // Somebody else was faster.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    });
    match found {
        Err(e) if e.kind() == io::ErrorKind::TimedOut => look(&mut set, fds),
        found => found,
    }
}

/// An epoll instance that is readable when one of them is ready.
fn watch_all(set: &[libc::pollfd]) -> io::Result<OwnedFd> {
    let epoll = sys::epoll()?;
    for (i, asked) in set.iter().enumerate() {
        if set[..i].iter().any(|other| other.fd == asked.fd) {
            continue;
        }
        let same = set[i..].iter().filter(|other| other.fd == asked.fd);
        let events = same.fold(0, |events, other| events | other.events);
        sys::epoll_add(&epoll, asked.fd, events).map_err(|e| fault::registration(asked.fd, e))?;
    }
    Ok(epoll)
}

/// Waits until `fd` can be read, is at its end or in an error state (`gevent.socket.wait_read`).
///
/// It is asked of the descriptor itself, so this is for descriptors that belong to other libraries,
/// which do the operation themselves. It takes some system calls: a descriptor that is waited for
/// often is better put into a [`Source`].
///
/// # Blocking
/// Parks under [`WaitKind::Readable`](crate::WaitKind); honours kill and `timeout`.
///
/// # Errors
/// `TimedOut` after the time-out; as [`poll`].
///
/// # Examples
/// ```
/// use std::{io::Write, time::Duration};
/// let (reader, mut writer) = std::io::pipe()?;
/// let task = sward_runtime::spawn(move || sward_runtime::io::wait_readable(&reader, None));
/// writer.write_all(b"x")?;
/// task.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    wait(&fd, Ready::READABLE, timeout)
}

/// Waits until `fd` can be written to, or is in an error state (`gevent.socket.wait_write`); as
/// [`wait_readable`].
///
/// # Errors
/// As [`wait_readable`].
pub fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    wait(&fd, Ready::WRITABLE, timeout)
}

fn wait(fd: &impl AsFd, interest: Ready, timeout: Option<Duration>) -> io::Result<()> {
    let mut fds = [PollFd::new(fd, interest)];
    match poll(&mut fds, timeout)? {
        0 => {
            let (direction, fd) = fds[0].as_reason();
            Err(fault::timed_out(direction.waits_for(fd)))
        }
        _ => Ok(()),
    }
}
