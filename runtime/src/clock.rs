//! The one place that reads the time.
//!
//! Everything in the crate asks [`now`], so that a virtual clock for tests (design R9) has one
//! seam. Deadlines are [`Instant`]s at the public edge and nanoseconds since [`epoch`] inside.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment in nanoseconds since [`epoch`]; `u64` lasts for 584 years.
pub(crate) type Nanos = u64;

/// Returns the present.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the moment that [`Nanos`] count from: the first use of the runtime in this process.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Returns the present in nanoseconds since the epoch.
pub(crate) fn now_nanos() -> Nanos {
    nanos(now())
}

/// Converts a moment; the past of the epoch is 0, what is too far is the end of time.
pub(crate) fn nanos(at: Instant) -> Nanos {
    u64::try_from(at.saturating_duration_since(epoch()).as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the deadline `after` from now; `None` (never) where that is beyond what can be told.
pub(crate) fn deadline(after: Duration) -> Option<Instant> {
    now().checked_add(after)
}
