//! The generator that picks who runs next in a runtime that is shuffled for tests.
//!
//! Steele's SplitMix64: every seed, 0 too, gives a good sequence of its own.

/// A sequence of numbers that a seed determines.
pub(crate) struct Shuffle(u64);

impl Shuffle {
    /// The sequence of one worker.
    pub(crate) fn new(seed: u64, worker: usize) -> Self {
        Self(seed ^ (worker as u64).rotate_right(8))
    }

    /// The next number, below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // The high half of a product: no division, and no bias that a test could see.
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_that_reaches_all() {
        let draw = |seed| {
            let mut shuffle = Shuffle::new(seed, 0);
            (0..1000).map(|_| shuffle.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
        let counts: Vec<_> = (0..7)
            .map(|n| draw(5).iter().filter(|&&d| d == n).count())
            .collect();
        assert!(counts.iter().all(|&n| n > 90), "{counts:?}");
    }
}
