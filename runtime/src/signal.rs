//! Signals of the process as events: [`on`], [`Signals`], [`ctrl_c`].
//!
//! Nouns: a listener is a [`Signals`]; its *pending* word has a bit for each signal that came and
//! was not received; its *bell* is an eventfd, over which a [`Source`] wakes who waits.
//!
//! The handler (on any thread, in the middle of anything): sets the bit; if it was not set, rings
//! the bell. The receiver: takes a bit; if there is none, silences the bell, looks again, waits.
//! A bit that is set is followed by a ring after the last silence, so none is overlooked; and a
//! signal that comes again before it was received changes nothing, so a flood costs no memory and
//! no further system call.
//!
//! Installing, calling whoever was there before, and taking an action out while the handler runs
//! elsewhere is `signal-hook-registry`'s part.
//!
//! Rejected: `signalfd` (the signal must be blocked in every thread, and children inherit that); a
//! channel that a driver fills (it ends with its worker); a queue of signals (POSIX does not count
//! them either).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use signal_hook_registry::{SigId, register, unregister};

use crate::fork::Epoch;
use crate::io::{Direction, Limit, Source, fault, sys};
use crate::sync::Arm;

pub use libc::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP,
    SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGWINCH,
};

/// Listens to one signal from now on (gevent's `signal_handler`, as a stream).
///
/// The first listener of a signal takes its default action away for good: after `on(SIGTERM)` the
/// process no longer ends by `SIGTERM`, even when the listener has gone. A handler that was there
/// is still called.
///
/// # Errors
/// For signals that cannot be listened to (`SIGKILL`, `SIGSTOP`) or mean a fault in the program
/// (`SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL`), for what is no signal, and when descriptors are
/// exhausted.
///
/// # Examples
/// ```no_run
/// use sward_runtime::signal::{SIGHUP, on};
/// let hangups = on(SIGHUP)?;
/// sward_runtime::spawn(move || {
///     for _ in &hangups {
///         println!("reading the configuration again");
///     }
/// });
/// # std::io::Result::Ok(())
/// ```
pub fn on(signal: i32) -> io::Result<Signals> {
    on_any(&[signal])
}

/// Listens to several signals; [`Signals::recv`] says which of them came. See [`on`].
///
/// # Errors
/// As [`on`].
///
/// # Examples
/// ```no_run
/// use sward_runtime::signal::{SIGINT, SIGTERM, on_any};
/// let signal = on_any(&[SIGINT, SIGTERM])?.recv()?;
/// println!("ending because of signal {signal}");
/// # std::io::Result::Ok(())
/// ```
pub fn on_any(signals: &[i32]) -> io::Result<Signals> {
    Signals::new(signals)
}

/// Waits for ctrl-C (`SIGINT`).
///
/// From the first call on ctrl-C no longer ends the process by itself. To miss none between two
/// calls, keep a listener: [`on`].
///
/// # Blocking
/// As [`Signals::recv`].
///
/// # Errors
/// As [`on`] and [`Signals::recv`].
///
/// # Examples
/// ```no_run
/// sward_runtime::spawn(|| { /* the service */ });
/// sward_runtime::signal::ctrl_c()?;
/// # std::io::Result::Ok(())
/// ```
pub fn ctrl_c() -> io::Result<()> {
    on(SIGINT)?.recv().map(drop)
}

/// Why nobody can listen to that signal.
fn refusal(signal: i32) -> Option<&'static str> {
    Some(match signal {
        SIGKILL | SIGSTOP => "the kernel lets no process catch it",
        libc::SIGSEGV | libc::SIGBUS => {
            "it tells of a fault in the program, or of a task's stack that has overflowed, and \
             cannot be waited for"
        }
        libc::SIGFPE | libc::SIGILL => {
            "it tells of a fault in the program, which would be repeated for ever"
        }
        signal if !(1..=64).contains(&signal) => "there is no such signal",
        _ => return None,
    })
}

/// The actions of a listener, in force until this is dropped.
struct Actions {
    ids: Vec<SigId>,
    epoch: Epoch,
}

impl Drop for Actions {
    fn drop(&mut self) {
        // A forked child may have copied a held lock. The actions do nothing there.
        if !self.epoch.is_stale() {
            for id in self.ids.drain(..) {
                unregister(id);
            }
        }
    }
}

/// A listener: the signals that have come since it was made, each kind once until it is received.
///
/// Every listener of a signal gets it; of those who receive from one listener, one does. When one
/// kind comes again before it was received, that is one, as POSIX has it; among several kinds that
/// have come they take turns.
pub struct Signals {
    // Dropped first: no handler uses the bell's number after it.
    actions: Actions,
    bell: Source<OwnedFd>,
    pending: Arc<AtomicU64>,
    /// The bit to look at first, so that a flood of one signal does not hide the others.
    next: AtomicU32,
    signals: Vec<i32>,
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Signals {
    fn new(signals: &[i32]) -> io::Result<Self> {
        if signals.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a listener needs at least one signal",
            ));
        }
        for &signal in signals {
            if let Some(why) = refusal(signal) {
                return Err(refused(signal, why));
            }
        }
        let bell = sys::eventfd().map_err(|e| fault::exhausted("a listener of signals", e))?;
        let mut listener = Self {
            actions: Actions {
                ids: Vec::new(),
                epoch: Epoch::current(),
            },
            bell: Source::from_nonblocking(bell),
            pending: Arc::new(AtomicU64::new(0)),
            next: AtomicU32::new(0),
            signals: signals.to_vec(),
        };
        listener.signals.sort_unstable();
        listener.signals.dedup();
        for &signal in &listener.signals {
            let id = listener.install(signal).map_err(|e| match e.kind() {
                io::ErrorKind::InvalidInput => {
                    refused(signal, "the system keeps it for itself, or has none such")
                }
                _ => e,
            })?;
            listener.actions.ids.push(id);
        }
        Ok(listener)
    }

    fn install(&self, signal: i32) -> io::Result<SigId> {
        let (epoch, bell) = (self.actions.epoch, self.bell.as_fd().as_raw_fd());
        let pending = self.pending.clone();
        let action = move || {
            // In a forked child the bell is the parent's, or its number is another file's.
            if !epoch.is_stale() && pending.fetch_or(bit(signal), AcqRel) & bit(signal) == 0 {
                sys::ring(bell);
            }
        };
        // SAFETY: the action is async-signal-safe: atomics on memory that it owns a share of (the
        // page of `epoch` was made above) and one `write`. It does not panic: `signal` is 1 to 64.
        // The bell's number is this listener's until `actions`, its first field, is dropped, and
        // `unregister` returns when no handler runs the action any more.
        unsafe { register(signal, action) }
    }

    /// Takes one of the signals that have come.
    fn take(&self) -> Option<i32> {
        loop {
            let pending = self.pending.load(Acquire);
            if pending == 0 {
                return None;
            }
            let first = self.next.load(Relaxed);
            let at = (first + pending.rotate_right(first).trailing_zeros()) % u64::BITS;
            if self.pending.fetch_and(!(1 << at), AcqRel) & (1 << at) != 0 {
                self.next.store((at + 1) % u64::BITS, Relaxed);
                return i32::try_from(at + 1).ok();
            }
        }
    }

    /// Waits for a signal and returns its number.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](crate::WaitKind); honours kill and `timeout`.
    ///
    /// # Errors
    /// After [`close`](Self::close); in a task that unwinds, when it would have to wait; in a
    /// forked child.
    ///
    /// # Cancel safety
    /// No signal is lost: one that was not returned is there for the next call.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::signal::{SIGUSR1, on};
    /// let signals = on(SIGUSR1)?;
    /// std::process::Command::new("kill").args(["-USR1", &std::process::id().to_string()]).status()?;
    /// assert_eq!(signals.recv()?, SIGUSR1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn recv(&self) -> io::Result<i32> {
        self.recv_for(Limit::NONE)
    }

    /// As [`recv`](Self::recv), for at most `limit`.
    ///
    /// # Errors
    /// As `recv`, and `TimedOut`.
    pub fn recv_timeout(&self, limit: Duration) -> io::Result<i32> {
        self.recv_for(limit)
    }

    fn recv_for(&self, limit: impl Into<Limit>) -> io::Result<i32> {
        self.bell
            .io(Direction::Read, limit, |bell| self.take_or_silence(bell))
    }

    /// Returns an arm of a [`select!`](crate::select) that receives a signal.
    pub fn receiving(&self) -> impl Arm<Output = io::Result<i32>> + '_ {
        self.bell
            .doing(Direction::Read, |bell| self.take_or_silence(bell))
    }

    fn take_or_silence(&self, bell: &impl AsFd) -> io::Result<i32> {
        if let Some(signal) = self.take() {
            return Ok(signal);
        }
        sys::silence(bell.as_fd())?;
        self.take().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Returns a signal if one has come.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// In a forked child, which has to listen for itself.
    pub fn try_recv(&self) -> io::Result<Option<i32>> {
        if self.actions.epoch.is_stale() {
            return Err(fault::forked());
        }
        Ok(self.take())
    }

    /// Returns an iterator that waits for signals; it ends after [`close`](Self::close).
    pub fn iter(&self) -> Iter<'_> {
        Iter { signals: self }
    }

    /// Ends the waits of this listener, and all later ones.
    ///
    /// # Errors
    /// As [`Source::close`].
    pub fn close(&self) -> io::Result<()> {
        self.bell.close()
    }

    /// Returns the signals that it listens to, in order.
    pub fn signals(&self) -> &[i32] {
        &self.signals
    }
}

#[cold]
fn refused(signal: i32, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("nobody can listen to signal {signal}: {why}"),
    )
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.pending.load(Relaxed);
        let come = |signal: &&i32| pending & bit(**signal) != 0;
        f.debug_struct("Signals")
            .field("signals", &self.signals)
            .field(
                "pending",
                &self.signals.iter().filter(come).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

/// Waits for the signals of a listener; see [`Signals::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    signals: &'a Signals,
}

impl Iterator for Iter<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        self.signals.recv().ok()
    }
}

impl<'a> IntoIterator for &'a Signals {
    type Item = i32;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
