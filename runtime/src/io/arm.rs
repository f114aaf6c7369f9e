//! A source as an arm of a `select!`: its readiness, or an operation on it.

use std::fmt;
use std::io;

use super::entry::Direction;
use super::source::Source;
use crate::sync::select::{Arm, Slot};
use crate::sync::wait_queue::Ticket;

/// An arm that waits until a source is ready; see [`Source::reading`].
#[must_use = "an arm does nothing outside of select!"]
pub struct Readiness<'a, T> {
    source: &'a Source<T>,
    direction: Direction,
    /// Where it stands in line, or why it cannot.
    place: Option<io::Result<Ticket>>,
}

impl<T> Source<T> {
    /// Returns an arm of a [`select!`](crate::select) that waits as [`readable`](Self::readable)
    /// does. The operation itself comes after it, by [`try_io`](Self::try_io): somebody else may
    /// have been faster.
    pub fn reading(&self) -> Readiness<'_, T> {
        Readiness::new(self, Direction::Read)
    }

    /// As [`reading`](Self::reading) for writing.
    pub fn writing(&self) -> Readiness<'_, T> {
        Readiness::new(self, Direction::Write)
    }
}

/// An arm that does an operation; see [`Source::doing`].
#[must_use = "an arm does nothing outside of select!"]
pub struct Doing<'a, T, F> {
    ready: Readiness<'a, T>,
    operation: F,
}

impl<T> Source<T> {
    /// Returns an arm of a [`select!`](crate::select) that does an operation, as
    /// [`io`](Self::io) does: it is tried, and tried again whenever the descriptor has become ready,
    /// until it would not block.
    ///
    /// # Cancel safety
    /// If another arm is chosen, the operation has had no effect: its last attempt would have
    /// blocked.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    /// use sward_runtime::io::{Direction, Source};
    /// use sward_runtime::{select, sync::after};
    /// let (a, mut b) = UnixStream::pair()?;
    /// let a = Source::new(a)?;
    /// b.write_all(b"hello")?;
    /// let mut buffer = [0; 16];
    /// let n = select! {
    ///     n = a.doing(Direction::Read, |mut s| s.read(&mut buffer)) => n?,
    ///     _ = after(Duration::from_secs(5)) => 0,
    /// };
    /// assert_eq!(&buffer[..n], b"hello");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn doing<F, R>(&self, direction: Direction, operation: F) -> Doing<'_, T, F>
    where
        F: FnMut(&T) -> io::Result<R>,
    {
        Doing {
            ready: Readiness::new(self, direction),
            operation,
        }
    }
}

impl<T, R, F: FnMut(&T) -> io::Result<R>> Arm for Doing<'_, T, F> {
    type Output = io::Result<R>;

    fn attempt(&mut self) -> Option<io::Result<R>> {
        let Readiness {
            source,
            direction,
            place,
        } = &mut self.ready;
        if let Some(Err(e)) = place.take() {
            return Some(Err(e));
        }
        match source.try_io(*direction, &mut self.operation) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            done => Some(done),
        }
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.ready.line_up(slot)
    }

    fn leave(&mut self, chosen: bool) -> Option<io::Result<R>> {
        self.ready.leave(false);
        if chosen { self.attempt() } else { None }
    }
}

impl<T, F> fmt::Debug for Doing<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doing")
            .field("direction", &self.ready.direction)
            .finish_non_exhaustive()
    }
}

impl<'a, T> Readiness<'a, T> {
    fn new(source: &'a Source<T>, direction: Direction) -> Self {
        Self {
            source,
            direction,
            place: None,
        }
    }
}

impl<T> Arm for Readiness<'_, T> {
    type Output = io::Result<()>;

    fn attempt(&mut self) -> Option<io::Result<()>> {
        if let Some(Err(e)) = self.place.take() {
            return Some(Err(e));
        }
        self.source.entry().is_ready(self.direction)
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.place = self
            .source
            .entry()
            .line_up(self.direction, slot)
            .transpose();
        !matches!(self.place, Some(Ok(_)))
    }

    fn leave(&mut self, chosen: bool) -> Option<io::Result<()>> {
        if let Some(Ok(ticket)) = self.place {
            self.place = None;
            self.source.entry().leave(self.direction, ticket);
        }
        // An error waits for the next attempt.
        if chosen { self.attempt() } else { None }
    }
}

impl<T> fmt::Debug for Readiness<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}
