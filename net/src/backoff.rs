//! [`Backoff`]: how long to pause before trying again.
//!
//! Nouns: the *span* is what a pause would be without jitter; it grows by the factor, up to the
//! maximum. Full jitter takes the pause anywhere between zero and the span: of a thousand clients
//! that lost one server, no two come back together, and the server sees half the load of pauses
//! that are all of full length.
//!
//! Rejected: pauses cut to what is left of the limit (the last attempt would begin when its time is
//! over); jitter that depends on the pause before ("decorrelated": no better in the end, and it has
//! no bounds that can be told).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use sward_runtime::now;

/// The pauses between attempts: an iterator of [`Duration`]s that grow, with jitter.
///
/// It ends when the attempts are used up or the limit is over; without either it has no end. A
/// clone of one that was not used yet has random numbers of its own, so one value may be the
/// pattern for many.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_net::Backoff;
/// let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1)).attempts(3);
/// let mut tries = 0;
/// let mut attempt = || {
///     tries += 1;
///     if tries < 3 { Err("not yet") } else { Ok(tries) }
/// };
/// let mut result = attempt();
/// for pause in backoff {
///     if result.is_ok() {
///         break;
///     }
///     sward_runtime::sleep(pause);
///     result = attempt();
/// }
/// assert_eq!(result, Ok(3));
/// ```
#[derive(Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    limit: Option<Duration>,
    /// Pauses there may be: one less than attempts.
    pauses: u32,
    /// In seconds; `None`: the first.
    span: Option<f64>,
    taken: u32,
    /// When the limit began to run.
    begun: Option<Instant>,
    /// The state of the random numbers; 0: not seeded.
    random: u64,
}

impl Backoff {
    /// Returns pauses that begin with `first`, double each time and end up at `max`, with full
    /// jitter, for ever.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            first: first.min(max),
            max,
            factor: 2.0,
            jitter: 1.0,
            limit: None,
            pauses: u32::MAX,
            span: None,
            taken: 0,
            begun: None,
            random: 0,
        }
    }

    /// Sets by what the span grows with each pause.
    ///
    /// # Panics
    /// If it is less than 1 or not a number.
    pub fn factor(mut self, factor: f64) -> Self {
        assert!(
            factor >= 1.0,
            "sward: the factor of a Backoff is {factor}: pauses must not shrink (1 or more)"
        );
        self.factor = factor;
        self
    }

    /// Sets which part of the span is random: 0 none of it, 1 (the default) all.
    ///
    /// # Panics
    /// If it is not between 0 and 1.
    pub fn jitter(mut self, part: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&part),
            "sward: the jitter of a Backoff is {part}: it is a part of the pause (0 to 1)"
        );
        self.jitter = part;
        self
    }

    /// Sets how long it all may take, from the first pause on (or from
    /// [`deadline`](Self::deadline)). There is no pause after which the limit would be over.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets how many attempts there may be, the one before the first pause included (so 0 is 1).
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.pauses = attempts.saturating_sub(1);
        self
    }

    /// Sets the seed of the jitter, for tests; otherwise each value has one of its own.
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = mix(seed);
        self
    }

    /// Returns when the limit is over, which begins to run now if it does not yet; `None`: never.
    pub fn deadline(&mut self) -> Option<Instant> {
        let limit = self.limit?;
        self.begun.get_or_insert_with(now).checked_add(limit)
    }

    /// Begins anew, after a success: the next pause is the first one, attempts and limit are whole.
    pub fn reset(&mut self) {
        self.span = None;
        self.taken = 0;
        self.begun = None;
    }

    /// A number from 0 to 1, by xorshift: jitter needs no more.
    fn chance(&mut self) -> f64 {
        if self.random == 0 {
            // Its keys are different at each call.
            self.random = mix(RandomState::new().hash_one(0));
        }
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        (x >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Spreads a seed over all bits; never 0, from which xorshift does not get away.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)).max(1)
}

/// From 100 ms to 10 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.taken >= self.pauses {
            return None;
        }
        let max = self.max.as_secs_f64();
        let span = match self.span {
            None => self.first.as_secs_f64(),
            Some(span) => (span * self.factor).min(max),
        };
        let part = 1.0 - self.jitter * self.chance();
        // Too much for a Duration, by rounding, is the most there may be.
        let pause = Duration::try_from_secs_f64(span * part).map_or(self.max, |p| p.min(self.max));
        if let Some(deadline) = self.deadline()
            && now().checked_add(pause).is_none_or(|end| end >= deadline)
        {
            return None;
        }
        self.span = Some(span);
        self.taken = self.taken.saturating_add(1);
        Some(pause)
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("first", &self.first)
            .field("max", &self.max)
            .field("factor", &self.factor)
            .field("jitter", &self.jitter)
            .field("limit", &self.limit)
            .field("attempts", &self.pauses.saturating_add(1))
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sward_runtime::{Runtime, sleep};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn plain() -> Backoff {
        Backoff::new(10 * MS, 100 * MS).jitter(0.0)
    }

    #[test]
    fn without_jitter_they_double_up_to_the_maximum() {
        let pauses: Vec<_> = plain().take(6).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100].map(|n| n * MS));
        let pauses: Vec<_> = plain().factor(1.0).take(3).collect();
        assert_eq!(pauses, [10 * MS; 3]);
        assert_eq!(Backoff::new(9 * MS, MS).jitter(0.0).next(), Some(MS));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_fills_them() {
        for part in [1.0, 0.5, 0.1] {
            let pauses = (0..2_000u64).map(|seed| {
                let backoff = Backoff::new(100 * MS, 100 * MS).jitter(part).seed(seed);
                backoff.take(3).last().unwrap()
            });
            let (least, most) = (Duration::from_secs_f64(0.1 * (1.0 - part)), 100 * MS);
            let pauses: Vec<_> = pauses.collect();
            assert!(pauses.iter().all(|p| (least..=most).contains(p)));
            let width = most - least;
            assert!(pauses.iter().any(|&p| p < least + width / 50));
            assert!(pauses.iter().any(|&p| p > most - width / 50));
            let mean = pauses.iter().sum::<Duration>() / 2_000;
            let middle = least + width / 2;
            assert!(mean > middle - width / 20 && mean < middle + width / 20);
        }
    }

    #[test]
    fn seeds_tell_the_course_and_clones_have_their_own() {
        let some = |b: &Backoff| b.clone().take(5).collect::<Vec<_>>();
        let (a, b) = (Backoff::default().seed(7), Backoff::default());
        assert_eq!(some(&a), some(&Backoff::default().seed(7)));
        assert_ne!(some(&a), some(&Backoff::default().seed(8)));
        assert_ne!(some(&b), some(&b));
        // The seed for which the mixing gives 0.
        let zero = Backoff::default().seed(0u64.wrapping_sub(0x9E37_79B9_7F4A_7C15));
        assert_eq!(some(&zero), some(&zero));
    }

    #[test]
    fn attempts_count_the_one_before_the_first_pause() {
        for (attempts, pauses) in [(0, 0), (1, 0), (2, 1), (5, 4)] {
            assert_eq!(plain().attempts(attempts).count(), pauses);
        }
        let mut backoff = plain().attempts(2);
        assert_eq!((backoff.next(), backoff.next()), (Some(10 * MS), None));
        backoff.reset();
        assert_eq!((backoff.next(), backoff.next()), (Some(10 * MS), None));
    }

    #[test]
    fn no_pause_ends_after_the_limit() {
        let runtime = Runtime::builder().virtual_clock().build().unwrap();
        runtime.run(|| {
            let begun = now();
            let mut backoff = plain().limit(160 * MS);
            assert_eq!(backoff.deadline(), Some(begun + 160 * MS));
            backoff.by_ref().for_each(sleep);
            // 10 + 20 + 40 + 80; the next would end at 250.
            assert_eq!(now() - begun, 150 * MS);
            assert_eq!(backoff.next(), None);
            backoff.reset();
            assert_eq!(backoff.next(), Some(10 * MS));
        });
    }

    #[test]
    fn extremes_do_not_panic() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX).jitter(0.0);
        assert_eq!(backoff.next(), Some(Duration::MAX));
        assert_eq!(backoff.next(), Some(Duration::MAX));
        let mut steep = plain().factor(f64::INFINITY);
        assert_eq!(steep.by_ref().take(2).last(), Some(100 * MS));
        let nothing = Backoff::new(Duration::ZERO, Duration::ZERO).factor(f64::INFINITY);
        assert_eq!(nothing.take(3).sum::<Duration>(), Duration::ZERO);
        assert_eq!(plain().limit(Duration::MAX).next(), Some(10 * MS));
        assert_eq!(plain().limit(Duration::ZERO).next(), None);
    }
}
