//! Counts of how long or how many, in buckets of powers of two.
//!
//! Written by one worker with relaxed stores, read by anybody. What is counted costs the hot path
//! next to nothing: everything is known once in a batch, from the clock that is read there anyway.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Nanos;

/// Bucket 0 counts zeros, bucket `n` what has `n` binary digits; the last one everything above.
pub(crate) const BUCKETS: usize = 40;

pub(crate) struct Tally([AtomicU64; BUCKETS]);

impl Default for Tally {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Tally {
    /// Counts `value`, `times` times. For the worker only.
    #[inline]
    pub(crate) fn count(&self, value: u64, times: u64) {
        let digits = (u64::BITS - value.leading_zeros()) as usize;
        let bucket = &self.0[digits.min(BUCKETS - 1)];
        bucket.store(bucket.load(Relaxed).wrapping_add(times), Relaxed);
    }

    pub(crate) fn read(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|i| self.0[i].load(Relaxed))
    }

    pub(crate) fn reset(&self) {
        self.0.iter().for_each(|b| b.store(0, Relaxed));
    }
}

/// What a worker tallies.
#[derive(Default)]
pub(crate) struct Tallies {
    /// How long a task waits in the run queue, in ns: one task at a time is followed.
    pub(crate) delay: Tally,
    /// How long a slice lasts, in ns: the mean of each batch, counted for each of its slices. Slices
    /// longer than a turn have a batch of their own.
    pub(crate) slice: Tally,
    /// The time between two looks at mail, timers and poller, in ns.
    pub(crate) turn: Tally,
    /// Slices in a batch.
    pub(crate) batch: Tally,
    /// Events that a look at the poller found.
    pub(crate) events: Tally,
}

impl Tallies {
    pub(crate) fn reset(&self) {
        let Self {
            delay,
            slice,
            turn,
            batch,
            events,
        } = self;
        [delay, slice, turn, batch, events]
            .into_iter()
            .for_each(Tally::reset);
    }
}

/// Batches of a busy worker that are counted together: 50 ns for each would be half a nanosecond of
/// every switch.
const TOGETHER: u32 = 16;

/// Batches that have not been counted yet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pending {
    took: Nanos,
    slices: u64,
    batches: u32,
}

impl Pending {
    /// Adds a batch; counts those so far unless it was one of a crowd of like ones. `true`: counted.
    #[inline]
    pub(crate) fn add(&mut self, tallies: &Tallies, took: Nanos, slices: u64, like: bool) -> bool {
        if !like && self.batches > 0 {
            // A batch that stands out is not to vanish in the mean.
            self.count(tallies);
        }
        self.took += took;
        self.slices += slices;
        self.batches += 1;
        if like && self.batches < TOGETHER {
            return false;
        }
        self.count(tallies);
        true
    }

    #[inline(never)]
    fn count(&mut self, tallies: &Tallies) {
        let (slices, batches) = (self.slices.max(1), u64::from(self.batches));
        tallies.slice.count(self.took / slices, slices);
        tallies.turn.count(self.took / batches.max(1), batches);
        tallies.batch.count(slices / batches.max(1), batches);
        *self = Self::default();
    }
}

/// The last place in the run queue at some time, followed until its turn comes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Followed {
    /// The number of the slice that is its turn; 0: nobody is followed.
    turn: u64,
    since: Nanos,
}

impl Followed {
    /// Looks after a batch which began at `began` with `before` slices done and ended `now` with
    /// `after`. `true`: its turn has come.
    #[inline]
    pub(crate) fn look(
        &mut self,
        tally: &Tally,
        (began, before): (Nanos, u64),
        (now, after): (Nanos, u64),
    ) -> bool {
        if self.turn == 0 || after < self.turn {
            return false;
        }
        // As if all slices of the batch had been of one length.
        let share = self.turn.saturating_sub(before).saturating_sub(1);
        let slices = after.saturating_sub(before).max(1);
        let came = began + now.saturating_sub(began) * share / slices;
        tally.count(came.saturating_sub(self.since), 1);
        self.turn = 0;
        true
    }

    /// Follows the last of `ready` tasks, if nobody is followed.
    #[inline]
    pub(crate) fn begin(&mut self, slices: u64, ready: usize, now: Nanos) {
        if self.turn == 0 && ready > 0 {
            self.turn = slices + ready as u64;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets() {
        let tally = Tally::default();
        for value in [0, 1, 2, 3, 1 << 38, u64::MAX] {
            tally.count(value, 2);
        }
        let read = tally.read();
        let seen: Vec<_> = (0..BUCKETS).filter(|&i| read[i] > 0).collect();
        assert_eq!(seen, [0, 1, 2, 39]);
        assert_eq!(read.iter().sum::<u64>(), 12);
        tally.reset();
        assert_eq!(tally.read(), [0; BUCKETS]);
    }

    #[test]
    fn like_batches_are_counted_together() {
        let tallies = Tallies::default();
        let mut pending = Pending::default();
        for i in 1..=TOGETHER {
            let counted = pending.add(&tallies, 1000, 128, true);
            assert_eq!(counted, i == TOGETHER);
        }
        assert!(!pending.add(&tallies, 1000, 128, true));
        assert!(pending.add(&tallies, 1 << 30, 1, false));
        assert_eq!(tallies.slice.read()[3], 128 * u64::from(TOGETHER + 1));
        assert_eq!(tallies.turn.read()[10], u64::from(TOGETHER + 1));
        assert_eq!((tallies.turn.read()[31], tallies.batch.read()[1]), (1, 1));
    }

    #[test]
    fn who_is_followed_has_waited_that_long() {
        let tally = Tally::default();
        let mut followed = Followed::default();
        followed.look(&tally, (0, 0), (100, 5));
        followed.begin(5, 0, 100);
        followed.begin(5, 10, 100);
        // Somebody else is not followed meanwhile.
        followed.begin(8, 90, 130);
        followed.look(&tally, (100, 5), (180, 13));
        assert_eq!(tally.read(), [0; BUCKETS]);
        // Its turn is slice 15: the second of four that took 400.
        followed.look(&tally, (200, 13), (600, 17));
        let bucket = (u64::BITS - 200_u64.leading_zeros()) as usize;
        assert_eq!(tally.read()[bucket], 1);
    }
}
