//! A word about workers that a task has kept from everything else for seconds.
//!
//! The thread that waits in `run` looks every `EVERY`; so a program that waits for ever behind a
//! task that never parks does not do so in silence.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock;
use crate::hub::shared::RuntimeShared;
use crate::report;
use crate::sight::dump;

/// How often to look, and how long a worker must have been stalled to be told of.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// Reports the workers that have run one and the same slice for longer than `EVERY`, each such
/// slice once.
pub(crate) fn look(rt: &Arc<RuntimeShared>) {
    for (index, worker) in rt.workers.iter().enumerate() {
        let published = &worker.published;
        let quiet = clock::real_nanos().saturating_sub(published.looked.load(Relaxed));
        let slice = published.switches.load(Relaxed);
        if published.running.load(Relaxed) != 0
            && Duration::from_nanos(quiet) > EVERY
            && published.stall_told.swap(slice, Relaxed) != slice
        {
            report::text(&format!("sward: {}", dump::stalled_line(rt, index)));
        }
    }
}
