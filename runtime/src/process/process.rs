//! [`Process`]: a child process to wait for and to send signals to.
//!
//! Nouns: the *life* of a child is its number, its pidfd and std's handle; the *handle* is what
//! all clones of a [`Process`] share, and when it goes the reaper gets the life.
//!
//! The pidfd becomes readable when the child has ended; then its status is fetched by its number
//! (`waitpid` of this child only), under the life's lock. So it is reaped once, signals to a group
//! are sent only while its leader's number is taken, and a signal by pidfd meets this child or
//! nobody. The status stays, for everybody who asks later.
//!
//! Rejected: a handler for `SIGCHLD` (there is one for the whole process, and it would have to
//! `waitpid` for everybody's children); a thread for each child.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::{reaper, sys};
use crate::fork::Epoch;
use crate::io::{Direction, Limit, Source, fault};
use crate::sync::Arm;
use crate::sync::short_lock::ShortLock;

/// See the file's head.
pub(super) struct Life {
    id: u32,
    epoch: Epoch,
    pidfd: Source<OwnedFd>,
    child: ShortLock<std::process::Child>,
}

impl Life {
    /// Takes a child that was just started.
    pub(super) fn new(mut child: std::process::Child) -> io::Result<Self> {
        let id = child.id();
        let pidfd = match sys::pidfd_open(id) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                // Without it nobody could wait for the child; it ends at once, and is reaped.
                let _ = child.kill();
                let _ = child.wait();
                return Err(match e.raw_os_error() {
                    Some(libc::ESRCH) => lost(id, &e),
                    _ => fault::exhausted("the pidfd of a child, which was killed again", e),
                });
            }
        };
        Ok(Self {
            id,
            epoch: Epoch::current(),
            pidfd: Source::from_nonblocking(pidfd),
            child: ShortLock::new(child),
        })
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.look_at_fork()?;
        self.child
            .lock()
            .try_wait()
            .map_err(|e| match e.raw_os_error() {
                Some(libc::ECHILD) => lost(self.id, &e),
                _ => e,
            })
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        self.look_at_fork()?;
        match sys::pidfd_send_signal(self.pidfd(), signal) {
            // It has ended, and was reaped.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    fn look_at_fork(&self) -> io::Result<()> {
        if self.epoch.is_stale() {
            return Err(fault::forked());
        }
        Ok(())
    }
}

#[cold]
fn lost(id: u32, e: &io::Error) -> io::Error {
    io::Error::new(
        e.kind(),
        format!(
            "the exit status of child {id} is lost: something else in this process has fetched it \
             (waitpid of any child), or SIGCHLD is ignored ({e})"
        ),
    )
}

/// Gives the life to the reaper when nobody else has it.
struct Handle(Arc<Life>);

impl Drop for Handle {
    fn drop(&mut self) {
        // In a forked child it is a sibling, or gone.
        if !self.0.epoch.is_stale() {
            reaper::adopt(&self.0);
        }
    }
}

/// A started child process, without its streams: waits for its end, sends it signals.
///
/// Clones lead to the same child, and any number of tasks and threads may wait for it; each gets
/// its status, whenever it asks. When the last one and the [`Child`](super::Child) are gone while
/// the process runs, it goes on, and is reaped in the background when it ends.
///
/// # Examples
/// ```
/// use sward_runtime::{process::Command, signal::SIGTERM, spawn};
/// use std::os::unix::process::ExitStatusExt;
///
/// let child = Command::new("sleep").arg("1000").spawn()?;
/// let process = child.process();
/// let waiting = spawn(move || process.wait());
/// child.process().signal(SIGTERM)?;
/// assert_eq!(waiting.join().unwrap()?.signal(), Some(SIGTERM));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Process {
    handle: Arc<Handle>,
}

impl Process {
    pub(super) fn new(life: Life) -> Self {
        Self {
            handle: Arc::new(Handle(Arc::new(life))),
        }
    }

    fn life(&self) -> &Life {
        &self.handle.0
    }

    /// Returns the process number.
    pub fn id(&self) -> u32 {
        self.life().id
    }

    /// Waits for the end of the process.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](crate::WaitKind), which names the child's pidfd; honours
    /// kill and `timeout`.
    ///
    /// # Errors
    /// When the status is lost (something else reaped it, or `SIGCHLD` is ignored); in a task that
    /// unwinds, where it would have to wait; in a forked child.
    ///
    /// # Cancel safety
    /// Nothing is lost: the status is there for the next call.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.wait_for(Limit::NONE)
    }

    /// As [`wait`](Self::wait), for at most `limit`.
    ///
    /// # Errors
    /// As `wait`, and `TimedOut`; the process is left alone then.
    pub fn wait_timeout(&self, limit: Duration) -> io::Result<ExitStatus> {
        self.wait_for(limit)
    }

    pub(super) fn wait_for(&self, limit: impl Into<Limit>) -> io::Result<ExitStatus> {
        let life = self.life();
        let ended = |_: &OwnedFd| {
            life.try_wait()?
                .ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        match life.pidfd.io(Direction::Read, limit, ended) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(still_running(life.id)),
            done => done,
        }
    }

    /// Returns an arm of a [`select!`](crate::select) that waits for the end of the process.
    pub fn ending(&self) -> impl Arm<Output = io::Result<ExitStatus>> + '_ {
        let life = self.life();
        life.pidfd.doing(Direction::Read, |_| {
            life.try_wait()?
                .ok_or_else(|| io::ErrorKind::WouldBlock.into())
        })
    }

    /// Returns the status if the process has ended (gevent's `poll`).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.life().try_wait()
    }

    /// Sends a signal, such as [`SIGTERM`](crate::signal::SIGTERM), to this process and to no
    /// other. If it has ended, nothing happens.
    ///
    /// # Errors
    /// For a number that is no signal; when the process has become another user's; in a forked
    /// child.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.life().signal(signal)
    }

    /// Ends the process at once, by `SIGKILL`; [`wait`](Self::wait) then tells its status.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal to all processes of the group that this one leads: it was started with
    /// [`Command::process_group`](super::Command::process_group)`(0)`.
    ///
    /// # Errors
    /// When the process was waited for already (its number may be that of another group), and when
    /// it leads no group.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        let life = self.life();
        life.look_at_fork()?;
        // Held, so that nobody reaps it before the signal is sent.
        let mut child = life.child.lock();
        // What `try_wait` reaps here, it remembers.
        let group_is_gone = child.try_wait()?.is_some();
        if group_is_gone {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "child {} has ended, and its number may be another group's by now",
                    life.id
                ),
            ));
        }
        sys::kill_group(life.id, signal)
    }

    /// Asks the process to end by `SIGTERM`; if it has not after `grace`, ends it by `SIGKILL`.
    /// Returns its status, which says which of the two it was.
    ///
    /// # Blocking
    /// As [`wait`](Self::wait). Killed or timed out while it waits, no `SIGKILL` is sent.
    ///
    /// # Errors
    /// As [`signal`](Self::signal) and [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// use std::{os::unix::process::ExitStatusExt, time::Duration};
    /// use sward_runtime::{process::Command, signal::SIGTERM};
    /// let child = Command::new("sleep").arg("1000").spawn()?;
    /// let status = child.process().terminate(Duration::from_secs(10))?;
    /// assert_eq!(status.signal(), Some(SIGTERM));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn terminate(&self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        match self.wait_timeout(grace) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                self.kill()?;
                self.wait()
            }
            done => done,
        }
    }
}

#[cold]
fn still_running(id: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("child {id} still runs: the time-out passed while waiting for its end"),
    )
}

/// The pidfd: readable when the process has ended. Do not fetch the status by it.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.life().pidfd()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
