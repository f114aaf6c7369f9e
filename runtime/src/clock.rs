//! The one place that reads the time.
//!
//! Nouns: *real* time is the machine's. A runtime with a *virtual* clock (design R9) has a time of
//! its own, a number that stands still until its hub moves it. *The caller's* time is that of the
//! runtime whose task calls, and real time on ordinary threads.
//!
//! | who asks | which time |
//! |---|---|
//! | sleeps, time-outs, deadlines, intervals: whatever ends in a timer of a hub | the caller's |
//! | slices, stalls, searches, ages in a dump, the end of a runtime, a thread that blocks | real |
//!
//! Deadlines are [`Instant`]s at the public edge and nanoseconds since [`epoch`] inside; both
//! times count from the same epoch, so one conversion serves them. An `Instant` of one clock means
//! nothing to another.
//!
//! A virtual clock never passes a timer that is set, and never goes back.
//!
//! Rejected: virtual time that also flows with real time (nothing would be exact); a `Clock` passed
//! to every primitive (each would carry a word, and a primitive belongs to no runtime).

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A moment in nanoseconds since [`epoch`]; `u64` lasts for 584 years.
pub(crate) type Nanos = u64;

/// The end of virtual time, 146 years after the epoch; a timer there never fires.
pub(crate) const END: Nanos = (u32::MAX as Nanos) << 30;

/// The clock of one worker. Only its own thread moves it.
pub(crate) struct Clock {
    /// The present of a virtual clock, 0 for real time.
    at: AtomicU64,
}

thread_local! {
    /// The virtual clock that the calling thread's tasks live by.
    static CALLERS: Cell<Option<&'static Clock>> = const { Cell::new(None) };
}

impl Clock {
    pub(crate) const fn real() -> Self {
        Self {
            at: AtomicU64::new(0),
        }
    }

    /// Makes it a virtual clock that begins now, or a real one.
    pub(crate) fn set_virtual(&self, on: bool) {
        self.at
            .store(if on { real_nanos().max(1) } else { 0 }, Relaxed);
    }

    #[inline]
    pub(crate) fn is_virtual(&self) -> bool {
        self.at.load(Relaxed) != 0
    }

    /// The time of this clock, where `real` is the real one.
    #[inline]
    pub(crate) fn read(&self, real: Nanos) -> Nanos {
        match self.at.load(Relaxed) {
            0 => real,
            at => at,
        }
    }

    /// Moves a virtual clock on to `at`, never back and never to its end.
    pub(crate) fn move_on(&self, at: Nanos) {
        self.at
            .store(at.clamp(self.at.load(Relaxed), END - 1), Relaxed);
    }

    /// Makes this the clock of whoever calls on this thread, if it is virtual; `None`: real time.
    pub(crate) fn follow(clock: Option<&'static Self>) {
        CALLERS.set(clock.filter(|clock| clock.is_virtual()));
    }

    /// The virtual clock that the caller lives by.
    pub(crate) fn of_caller() -> Option<&'static Self> {
        CALLERS.get()
    }
}

/// Returns the caller's present.
#[inline]
pub(crate) fn now() -> Instant {
    match CALLERS.get() {
        None => Instant::now(),
        Some(clock) => epoch() + Duration::from_nanos(clock.at.load(Relaxed)),
    }
}

/// Returns the caller's deadline `after` from now; `None` (never) where that is beyond what can be
/// told.
#[inline]
pub(crate) fn deadline(after: Duration) -> Option<Instant> {
    now().checked_add(after)
}

/// Returns the real present.
pub(crate) fn real_now() -> Instant {
    Instant::now()
}

/// Returns the real present in nanoseconds since the epoch.
pub(crate) fn real_nanos() -> Nanos {
    nanos(real_now())
}

/// Returns the real deadline `after` from now, for a thread that blocks; `None` is never.
pub(crate) fn real_deadline(after: Duration) -> Option<Instant> {
    real_now().checked_add(after)
}

/// Returns the moment that [`Nanos`] count from: the first use of the runtime in this process.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Converts a moment; the past of the epoch is 0, what is too far is the end of time.
pub(crate) fn nanos(at: Instant) -> Nanos {
    u64::try_from(at.saturating_duration_since(epoch()).as_nanos()).unwrap_or(u64::MAX)
}

/// Moves the caller's clock on to `at` at once, if it is virtual: time passes for a thread that
/// cannot run anything else meanwhile. `false`: it is real, and whoever wants to wait must.
pub(crate) fn pass(at: Instant) -> bool {
    let clock = Clock::of_caller();
    if let Some(clock) = clock {
        clock.move_on(nanos(at));
    }
    clock.is_some()
}

/// Converts back; `None` where that is beyond what can be told.
pub(crate) fn instant(at: Nanos) -> Option<Instant> {
    if at == Nanos::MAX {
        return None;
    }
    epoch().checked_add(Duration::from_nanos(at))
}

/// An age that fits into nine columns.
pub(crate) fn human(age: Duration) -> String {
    let s = age.as_secs_f64();
    match s {
        _ if s < 1e-6 => format!("{} ns", age.as_nanos()),
        _ if s < 1e-3 => format!("{:.0} us", s * 1e6),
        _ if s < 1.0 => format!("{:.1} ms", s * 1e3),
        _ if s < 600.0 => format!("{s:.1} s"),
        _ => format!("{:.0} min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fit() {
        for (nanos, text) in [
            (0, "0 ns"),
            (1023, "1 us"),
            (1_500_000, "1.5 ms"),
            (61_000_000_000, "61.0 s"),
            (7_200_000_000_000, "120 min"),
        ] {
            assert_eq!(human(Duration::from_nanos(nanos)), text);
        }
    }
}
