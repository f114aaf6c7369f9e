//! [`Backoff`]: the pauses between attempts to connect, as libzmq has them. Pure: no clock.
//!
//! Without a maximum: the interval, and by chance less than as much again. With one that is larger:
//! the interval, then twice the last pause up to the maximum, without chance.

use std::time::Duration;

use crate::options::Options;

/// The shortest pause: an interval of zero must not make a loop that does nothing else.
const SHORTEST: Duration = Duration::from_millis(1);

/// The pauses between attempts to connect.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    /// `None`: no further attempt.
    interval: Option<Duration>,
    max: Option<Duration>,
    last: Option<Duration>,
    /// Never 0.
    random: u64,
}

impl Backoff {
    /// Returns the pauses that the options ask for; their course follows from the seed.
    pub(crate) fn new(options: &Options, seed: u64) -> Self {
        let interval = options.reconnect_interval.map(|pause| pause.max(SHORTEST));
        let larger = |max: &Duration| interval.is_some_and(|interval| *max > interval);
        Self {
            interval,
            max: options.reconnect_interval_max.filter(larger),
            last: None,
            random: mix(seed),
        }
    }

    /// Returns the next pause; `None`: give it up.
    pub(crate) fn next_pause(&mut self) -> Option<Duration> {
        let interval = self.interval?;
        let pause = match (self.max, self.last) {
            (None, _) => interval.saturating_add(self.below(interval)),
            (Some(_), None) => interval,
            (Some(max), Some(last)) => last.saturating_mul(2).min(max),
        };
        self.last = Some(pause);
        Some(pause)
    }

    /// Begins anew: a connection stood.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }

    /// A time less than this, by chance (xorshift).
    fn below(&mut self, limit: Duration) -> Duration {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(x % nanos.max(1))
    }
}

/// Spreads a seed over all bits (SplitMix64); never 0.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn backoff(interval: u32, max: u32, seed: u64) -> Backoff {
        let max = (max > 0).then_some(max * MS);
        let options = Options::new().reconnect_interval(interval * MS);
        Backoff::new(&options.reconnect_interval_max(max), seed)
    }

    fn pauses(backoff: &mut Backoff, n: usize) -> Vec<Duration> {
        (0..n).filter_map(|_| backoff.next_pause()).collect()
    }

    #[test]
    fn without_a_maximum_chance_adds_less_than_the_interval() {
        let all = pauses(&mut backoff(100, 0, 7), 2000);
        assert!(all.iter().all(|p| (100 * MS..200 * MS).contains(p)));
        assert!(all.iter().any(|p| *p < 102 * MS) && all.iter().any(|p| *p > 198 * MS));
        assert_eq!(all, pauses(&mut backoff(100, 0, 7), 2000));
        assert_ne!(all, pauses(&mut backoff(100, 0, 8), 2000));
    }

    #[test]
    fn with_a_maximum_they_double_without_chance() {
        let mut doubling = backoff(100, 500, 1);
        let wanted = [100, 200, 400, 500, 500].map(|n| n * MS);
        assert_eq!(pauses(&mut doubling, 5), wanted);
        doubling.reset();
        assert_eq!(pauses(&mut doubling, 5), wanted);
        // A maximum below the interval counts for nothing, as in libzmq.
        assert!(
            pauses(&mut backoff(100, 50, 1), 9)
                .iter()
                .all(|p| *p >= 100 * MS)
        );
    }

    #[test]
    fn none_is_never_and_extremes_do_not_panic() {
        let never = Options::new().reconnect_interval(None);
        assert_eq!(Backoff::new(&never, 0).next_pause(), None);
        let longest = Options::new().reconnect_interval(Duration::MAX);
        let mut longest = Backoff::new(&longest, 0);
        assert_eq!(pauses(&mut longest, 2), [Duration::MAX; 2]);
        let steep = Options::new()
            .reconnect_interval(Duration::MAX / 2)
            .reconnect_interval_max(Duration::MAX);
        let mut steep = Backoff::new(&steep, 0);
        assert_eq!(pauses(&mut steep, 3).len(), 3);
        assert!(pauses(&mut backoff(0, 0, 0), 9).iter().all(|p| *p >= MS));
        // The seed for which mixing gives 0.
        let zero = 0u64.wrapping_sub(0x9E37_79B9_7F4A_7C15);
        let all = pauses(&mut backoff(100, 0, zero), 9);
        assert!(all.windows(2).any(|two| two[0] != two[1]));
    }
}
