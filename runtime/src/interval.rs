//! Ticks at equal distances.
//!
//! Nouns: a tick's *moment* is when it is due; it is *missed* if the next one is due before it has
//! been taken, because the caller was busy for longer than a period.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;
use crate::park;

/// A tick that is late by less than that is on time: the timer was, or the worker was busy.
const LATE: Duration = Duration::from_millis(5);

/// What follows ticks that were missed, because the caller was busy for longer than a period.
///
/// With a period of 10, a caller that is busy from 0 until 35 and then takes ticks at once gets
/// them at these times:
///
/// | | | | | | | |
/// |---|---|---|---|---|---|---|
/// | `Burst` | 0 | 35 | 35 | 35 | 40 | 50 |
/// | `Delay` | 0 | 35 | 45 | 55 | 65 | 75 |
/// | `Skip` | 0 | 35 | 40 | 50 | 60 | 70 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissedTickBehavior {
    /// They come at once, one after the other, until the interval has caught up.
    #[default]
    Burst,
    /// They are left out; the next one comes a period after the late one was taken. (Lateness of
    /// less than 5 ms does not count, so that an interval does not drift.)
    Delay,
    /// They are left out; the next one comes when it would have come anyway.
    Skip,
}

/// Ticks at equal distances, made by [`interval`] and [`interval_at`].
///
/// As an [`Iterator`] it never ends. What the caller does between two ticks is part of the period.
#[must_use = "an interval does nothing until tick is called"]
pub struct Interval {
    /// `None`: beyond what the clock can tell.
    next: Option<Instant>,
    period: Duration,
    missed: MissedTickBehavior,
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("period", &self.period)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// Returns an interval whose first tick comes at once, and then one every `period`.
///
/// # Panics
/// If `period` is zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{interval, now};
/// let begun = now();
/// for _ in interval(Duration::from_millis(2)).take(3) {}
/// assert!(now() - begun >= Duration::from_millis(4));
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(clock::now(), period)
}

/// Returns an interval whose first tick comes at `start`, and then one every `period`.
///
/// # Panics
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "sward: an interval with a period of zero: it would tick without end"
    );
    Interval {
        next: Some(start),
        period,
        missed: MissedTickBehavior::default(),
    }
}

impl Interval {
    /// Waits for the next tick and returns its moment (not the present, which is later).
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Sleep`](crate::WaitKind::Sleep); honours kill and `timeout`. A tick
    /// whose moment has passed yields.
    ///
    /// # Cancel safety
    /// Killed or timed out here, no tick is lost: the next call waits for the same one.
    pub fn tick(&mut self) -> Instant {
        park::sleep_until(self.next);
        let now = clock::now();
        let moment = self.next.unwrap_or(now);
        self.next = self.after(moment, now);
        moment
    }

    /// The moment of the tick that follows the one of `moment`, taken `now`.
    fn after(&self, moment: Instant, now: Instant) -> Option<Instant> {
        let late = now.saturating_duration_since(moment);
        match self.missed {
            MissedTickBehavior::Delay if late > LATE => now.checked_add(self.period),
            MissedTickBehavior::Burst | MissedTickBehavior::Delay => {
                moment.checked_add(self.period)
            }
            MissedTickBehavior::Skip => {
                let period = self.period.as_nanos();
                let into = late.as_nanos() % period;
                // Only a period of more than 584 years does not fit.
                let left = u64::try_from(period - into).map(Duration::from_nanos);
                now.checked_add(left.unwrap_or(self.period))
            }
        }
    }

    /// Lets the next tick come a period from now.
    pub fn reset(&mut self) {
        self.next = clock::deadline(self.period);
    }

    /// Lets the next tick come at once.
    pub fn reset_immediately(&mut self) {
        self.next = Some(clock::now());
    }

    /// Lets the next tick come `after` from now.
    pub fn reset_after(&mut self, after: Duration) {
        self.next = clock::deadline(after);
    }

    /// Lets the next tick come at `moment`.
    pub fn reset_at(&mut self, moment: Instant) {
        self.next = Some(moment);
    }

    /// Returns the period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Returns what follows missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what follows missed ticks (default [`Burst`](MissedTickBehavior::Burst)).
    pub fn set_missed_tick_behavior(&mut self, missed: MissedTickBehavior) {
        self.missed = missed;
    }
}

impl Iterator for Interval {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        Some(self.tick())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}
