//! Readiness of a source as an arm of a `select!`.

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
