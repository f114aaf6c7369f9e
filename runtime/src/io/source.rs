//! [`Source`]: waiting for a descriptor. What sockets, pipes, signals and child processes stand on.
//!
//! Nouns: the *entry* is the part of a source that a worker's poller refers to; its *home* is the
//! worker that watches the descriptor. *Turn*, *edge* and the word of each direction: see
//! `readiness.rs`.
//!
//! Home
//! - There is none until the first wait; a source that never has to wait costs no system call.
//! - It is the worker on which that wait happens, or one of the default runtime's for an ordinary
//!   thread.
//! - A wait on another worker moves it there, if nobody else waits; otherwise the waiter is woken
//!   through its own inbox.
//! - When the home ends, those who wait are woken, try again, and make a new home.
//!
//! Each registration begins with an event if the descriptor is ready, so no move and no first wait
//! can miss anything that came before it.
//!
//! Invariants
//! - The descriptor is deregistered before it is closed, given away or replaced: what is left in an
//!   epoll instance under a number that is gone could not be removed any more.
//! - `closed` is set before the number is hollowed out, and nothing is registered after it.
//! - The entry's lock is taken before the poller's, never after it.
//!
//! Rejected: one lock around operations for a strict line (see `readiness.rs`); two entries, one
//! for each direction (twice the registrations); giving `&mut T` (it could be replaced).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{Direction, Entry, State, Turn, worker_here};
use super::fault;
use super::readiness::{Sample, Word};
use super::safe::IoSafe;
use super::sys;
use crate::clock;
use crate::fork::Epoch;
use crate::park;
use crate::sync::short_lock::ShortLock;
use crate::sync::wait_queue::WaitQueue;

/// How long an operation may wait. The clock is read only if it has to.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use sward_runtime::io::Limit;
/// let limits: [Limit; 3] = [
///     Limit::NONE,
///     Some(Duration::from_secs(1)).into(), // as std's `set_read_timeout` has it
///     Instant::now().into(),
/// ];
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit(Until);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Until {
    #[default]
    Ever,
    After(Duration),
    At(Instant),
}

impl Limit {
    /// As long as it takes.
    pub const NONE: Self = Self(Until::Ever);

    /// The deadline; the same one from the first call on.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        if let Until::After(duration) = self.0 {
            self.0 = clock::deadline(duration).map_or(Until::Ever, Until::At);
        }
        match self.0 {
            Until::At(at) => Some(at),
            _ => None,
        }
    }
}

impl From<Duration> for Limit {
    fn from(limit: Duration) -> Self {
        Self(Until::After(limit))
    }
}

impl From<Option<Duration>> for Limit {
    fn from(limit: Option<Duration>) -> Self {
        limit.map_or(Self::NONE, Self::from)
    }
}

impl From<Instant> for Limit {
    fn from(at: Instant) -> Self {
        Self(Until::At(at))
    }
}

/// The end of the registration comes before that of the descriptor.
struct Registration(Arc<Entry>);

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A descriptor whose operations park the task instead of blocking the worker.
///
/// It works for whatever `epoll` can watch: sockets, pipes, terminals, `eventfd`, `timerfd`,
/// `pidfd`, `inotify`; not for regular files. On an ordinary thread the same calls block the
/// thread. Any number of tasks and threads may read and write at the same time; those who wait for
/// the same direction are served in the order in which they came.
///
/// An operation is a closure that makes one non-blocking system call. It is called again after
/// each [`WouldBlock`](io::ErrorKind::WouldBlock) when the descriptor has become ready, and after
/// each [`Interrupted`](io::ErrorKind::Interrupted) at once; so neither is ever returned by
/// [`io`](Self::io). The page `docs/io.md` has more.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use sward_runtime::io::{Direction, Limit, Source};
///
/// let (a, b) = UnixStream::pair()?;
/// let (a, b) = (Source::new(a)?, Source::new(b)?);
/// let task = sward_runtime::spawn(move || {
///     let mut byte = [0];
///     b.io(Direction::Read, Limit::NONE, |mut b| b.read_exact(&mut byte))?;
///     std::io::Result::Ok(byte[0])
/// });
/// a.io(Direction::Write, Limit::NONE, |mut a| a.write(b"x"))?;
/// assert_eq!(task.join().unwrap()?, b'x');
/// # std::io::Result::Ok(())
/// ```
pub struct Source<T> {
    // Dropped in this order.
    registration: Registration,
    inner: T,
}

impl<T: AsFd + IoSafe> Source<T> {
    /// Takes a descriptor and makes it non-blocking (`O_NONBLOCK`).
    ///
    /// That flag belongs to the open file, which other descriptors and processes may share, and it
    /// stays when the source gives the descriptor back.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn new(inner: T) -> io::Result<Self> {
        sys::set_nonblocking(inner.as_fd())?;
        Ok(Self::from_nonblocking(inner))
    }

    /// Takes a descriptor that is non-blocking already. Otherwise its operations block the worker.
    pub fn from_nonblocking(inner: T) -> Self {
        sys::prepare_hollow();
        Self::with_alias(inner, None)
    }

    pub(super) fn with_alias(inner: T, alias: Option<(Direction, RawFd)>) -> Self {
        let entry = Entry {
            fd: inner.as_fd().as_raw_fd(),
            alias,
            epoch: Epoch::current(),
            words: [Word::new(), Word::new()],
            state: ShortLock::new(State {
                home: None,
                closed: false,
                queues: [WaitQueue::new(), WaitQueue::new()],
            }),
        };
        Self {
            registration: Registration(Arc::new(entry)),
            inner,
        }
    }
}

impl<T> Source<T> {
    #[inline]
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.registration.0
    }

    /// Returns what is inside. A direct operation on it that says `WouldBlock` goes unnoticed:
    /// use [`try_io`](Self::try_io).
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Deregisters the descriptor and gives it back, still non-blocking.
    pub fn into_inner(self) -> T {
        let Self {
            registration,
            inner,
        } = self;
        drop(registration);
        inner
    }

    /// Does an operation, waiting as often as it would block.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](crate::WaitKind::Readable) or
    /// [`WaitKind::Writable`](crate::WaitKind::Writable); honours kill and `timeout`,
    /// which are raised before each attempt and while it waits.
    ///
    /// # Errors
    /// Those of `operation`; `TimedOut` when the limit is over before it was done (not while it
    /// runs); [`Closed`](super::Closed) after [`close`](Self::close); in a task that unwinds, where
    /// it would have to wait; in a forked child; for what `epoll` cannot watch.
    ///
    /// # Cancel safety
    /// A kill or a time-out comes before an attempt, never after one that did something.
    #[inline]
    pub fn io<R>(
        &self,
        direction: Direction,
        limit: impl Into<Limit>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(direction, limit.into(), |_| false, operation)
    }

    /// As [`io`](Self::io), for an operation that moves up to `asked` bytes, on a descriptor where
    /// a smaller number says that the next attempt would block. That attempt is then not made.
    ///
    /// This holds for TCP streams and pipes. It does not hold for `peek`, datagrams, `accept`, Unix
    /// streams, terminals and unknown descriptors: with these the next wait might not end.
    #[inline]
    pub fn io_bytes(
        &self,
        direction: Direction,
        limit: impl Into<Limit>,
        asked: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let short = |&done: &usize| done > 0 && done < asked;
        self.run(direction, limit.into(), short, operation)
    }

    #[inline]
    fn run<R>(
        &self,
        direction: Direction,
        limit: Limit,
        short: impl Fn(&R) -> bool,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.look_at_fork()?;
        park::checkpoint();
        let seen = self.entry().word(direction).sample();
        if seen.is_ready()
            && let Some(result) = self.attempt(direction, seen, &short, &mut operation)
        {
            return result;
        }
        self.run_waiting(direction, limit, &short, &mut operation)
    }

    /// Tries once; `None`: it would block, and the word says so unless an edge came.
    #[inline]
    fn attempt<R>(
        &self,
        direction: Direction,
        seen: Sample,
        short: impl Fn(&R) -> bool,
        operation: &mut impl FnMut(&T) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        if seen.is_closed() {
            return Some(Err(fault::closed(self.entry().fd)));
        }
        loop {
            match operation(&self.inner) {
                Ok(done) => {
                    if short(&done) && !seen.is_hung_up() {
                        self.entry().word(direction).not_ready(seen);
                    }
                    return Some(Ok(done));
                }
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.entry().word(direction).not_ready(seen);
                        return None;
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => return Some(Err(self.explain(direction, e))),
                },
            }
        }
    }

    #[cold]
    fn explain(&self, direction: Direction, e: io::Error) -> io::Error {
        let entry = self.entry();
        if e.raw_os_error() == Some(libc::EBADF) && entry.word(direction).sample().is_closed() {
            return fault::closed(entry.fd);
        }
        e
    }

    #[inline(never)]
    fn run_waiting<R>(
        &self,
        direction: Direction,
        mut limit: Limit,
        short: &impl Fn(&R) -> bool,
        operation: &mut impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let entry = self.entry();
        let _turn = Turn { entry, direction };
        let deadline = limit.deadline();
        let mut first = false;
        loop {
            // Who has been at the head of the line goes back there.
            first |= entry.wait(direction, deadline, first)?;
            park::checkpoint();
            let seen = entry.word(direction).sample();
            if (seen.is_ready() || seen.is_closed())
                && let Some(result) = self.attempt(direction, seen, short, operation)
            {
                return result;
            }
        }
    }

    /// Tries an operation once, without waiting.
    ///
    /// # Blocking
    /// Never parks, and raises nothing.
    ///
    /// # Errors
    /// `WouldBlock`, and as [`io`](Self::io).
    pub fn try_io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.look_at_fork()?;
        // Even if the word says not ready: without a registration nobody would correct it.
        let seen = self.entry().word(direction).sample();
        let would_block = || Err(io::ErrorKind::WouldBlock.into());
        self.attempt(direction, seen, |_| false, &mut operation)
            .unwrap_or_else(would_block)
    }

    /// Waits until nothing says that an operation would block: it was never tried, or there was
    /// an event since it last blocked. The next attempt may block all the same, as when somebody
    /// else was faster.
    ///
    /// # Blocking
    /// As [`io`](Self::io).
    ///
    /// # Errors
    /// As [`io`](Self::io).
    pub fn ready(&self, direction: Direction, limit: impl Into<Limit>) -> io::Result<()> {
        self.run(direction, limit.into(), |_| false, |_| Ok(()))
    }

    /// As [`ready`](Self::ready) for reading.
    ///
    /// # Errors
    /// As [`io`](Self::io).
    pub fn readable(&self, limit: impl Into<Limit>) -> io::Result<()> {
        self.ready(Direction::Read, limit)
    }

    /// As [`ready`](Self::ready) for writing.
    ///
    /// # Errors
    /// As [`io`](Self::io).
    pub fn writable(&self, limit: impl Into<Limit>) -> io::Result<()> {
        self.ready(Direction::Write, limit)
    }

    /// Returns whether [`ready`](Self::ready) would go on at once. If not, the descriptor is
    /// watched from now on, so that a later call can say something else.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// As [`io`](Self::io).
    pub fn poll_ready(&self, direction: Direction) -> io::Result<bool> {
        self.look_at_fork()?;
        let entry = self.entry();
        let seen = entry.word(direction).sample();
        if seen.is_ready() && !seen.is_closed() {
            return Ok(true);
        }
        let worker = worker_here()?;
        let mut state = entry.state.lock();
        if state.closed {
            return Err(fault::closed(entry.fd));
        }
        entry.settle_home(&mut state, worker)?;
        Ok(false)
    }

    /// Returns whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.entry().word(Direction::Read).sample().is_closed()
    }

    #[inline]
    fn look_at_fork(&self) -> io::Result<()> {
        if self.entry().epoch.is_stale() {
            return Err(fault::forked());
        }
        Ok(())
    }
}

impl<T: Into<OwnedFd>> Source<T> {
    /// Closes the descriptor under whoever uses it: those who wait, and all later operations, fail
    /// with [`Closed`](super::Closed). A second call does nothing.
    ///
    /// The file is closed at once, unless another descriptor leads to it (a `try_clone`, a child
    /// process); a connection is not shut down then. The number stays taken until the source is
    /// dropped or taken apart, so that no operation that is still on its way can meet another file
    /// under it; it leads to nothing, and every system call on it fails with `EBADF`.
    ///
    /// # Blocking
    /// Never parks. Closing a socket with `SO_LINGER` blocks the thread, as `close(2)` does.
    ///
    /// # Errors
    /// In a forked child; when no descriptor is left to replace this one with (then it is closed
    /// by the drop). Those who wait are woken in any case.
    pub fn close(&self) -> io::Result<()> {
        self.look_at_fork()?;
        let entry = self.entry();
        let mut state = entry.state.lock();
        if std::mem::replace(&mut state.closed, true) {
            return Ok(());
        }
        entry.words.iter().for_each(Word::close);
        if let Some(home) = state.home.take() {
            home.worker.poller.deregister(entry.fd, home.token);
        }
        drop(state);
        let closed = sys::hollow_out(entry.fd);
        entry.wake_all();
        closed
    }
}

impl<T> AsFd for Source<T>
where
    T: AsFd,
{
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.entry();
        let state = entry.state.lock();
        let (closed, watched) = (state.closed, state.home.is_some());
        let waiting = state.queues.each_ref().map(WaitQueue::len);
        drop(state);
        f.debug_struct("Source")
            .field("fd", &entry.fd)
            .field("closed", &closed)
            .field("watched", &watched)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
