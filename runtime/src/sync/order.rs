//! In which order values leave a buffer: first in first out, last in first out, lowest first.
//!
//! A buffer lies under a `ShortLock`, so it says where it runs code of its values' type: only
//! [`Lowest`] does, comparing them, and only in `prepare` and `pop`. If a comparison panics there,
//! every value is still in the buffer, and the next call puts the order right.
//!
//! Rejected: `std::collections::BinaryHeap`, which drops a value when a comparison in `pop` panics.

use std::collections::VecDeque;
use std::fmt;

/// An order in which values leave a [`JoinableQueue`](super::queue::JoinableQueue): [`Fifo`],
/// [`Lifo`] or [`Lowest`]. Sealed.
pub trait Order: Buffer {}

/// What an order does; for this crate only.
#[expect(unnameable_types, reason = "so nobody else implements it")]
pub trait Buffer: Default {
    /// What it holds.
    type Value;
    /// The name of the queue that has it.
    #[doc(hidden)]
    const QUEUE: &'static str;
    #[doc(hidden)]
    fn with_capacity(capacity: usize) -> Self;
    /// Makes ready for a push. May panic, before anything has changed.
    #[doc(hidden)]
    #[inline]
    fn prepare(&mut self) {}
    #[doc(hidden)]
    fn push(&mut self, value: Self::Value);
    /// May panic, before anything has changed; so may `peek`.
    #[doc(hidden)]
    fn pop(&mut self) -> Option<Self::Value>;
    #[doc(hidden)]
    fn peek(&mut self) -> Option<&Self::Value>;
    #[doc(hidden)]
    fn len(&self) -> usize;
    #[doc(hidden)]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// First in, first out.
pub struct Fifo<T>(VecDeque<T>);

/// Last in, first out.
pub struct Lifo<T>(Vec<T>);

/// The lowest first; of equal ones the first.
pub struct Lowest<T> {
    /// A heap, lowest first, but for what follows `sorted`; each with the number of its coming.
    entries: Vec<(T, u64)>,
    sorted: usize,
    next: u64,
}

impl<T> Order for Fifo<T> {}
impl<T> Order for Lifo<T> {}
impl<T: Ord> Order for Lowest<T> {}

impl<T> Buffer for Fifo<T> {
    type Value = T;
    const QUEUE: &'static str = "Queue";

    fn with_capacity(capacity: usize) -> Self {
        Self(VecDeque::with_capacity(capacity))
    }

    #[inline]
    fn push(&mut self, value: T) {
        self.0.push_back(value);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    fn peek(&mut self) -> Option<&T> {
        self.0.front()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Buffer for Lifo<T> {
    type Value = T;
    const QUEUE: &'static str = "LifoQueue";

    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    #[inline]
    fn push(&mut self, value: T) {
        self.0.push(value);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn peek(&mut self) -> Option<&T> {
        self.0.last()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T: Ord> Lowest<T> {
    #[inline]
    fn is_before(&self, a: usize, b: usize) -> bool {
        self.entries[a].cmp(&self.entries[b]).is_lt()
    }

    /// Moves entry `at` to its place among those before it.
    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.is_before(parent, at) {
                break;
            }
            self.entries.swap(parent, at);
            at = parent;
        }
    }

    /// Moves the first entry to its place among the first `end`.
    fn sift_down(&mut self, end: usize) {
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= end {
                return;
            }
            if child + 1 < end && self.is_before(child + 1, child) {
                child += 1;
            }
            if self.is_before(at, child) {
                return;
            }
            self.entries.swap(at, child);
            at = child;
        }
    }
}

impl<T: Ord> Buffer for Lowest<T> {
    type Value = T;
    const QUEUE: &'static str = "PriorityQueue";

    fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            ..Self::default()
        }
    }

    #[inline]
    fn prepare(&mut self) {
        while self.sorted < self.entries.len() {
            // 0 while it moves: after a panic all are put in order again.
            let at = std::mem::take(&mut self.sorted);
            self.sift_up(at);
            self.sorted = at + 1;
        }
    }

    /// Leaves the comparing to the next call.
    #[inline]
    fn push(&mut self, value: T) {
        self.entries.push((value, self.next));
        self.next += 1;
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.prepare();
        let last = self.entries.len().checked_sub(1)?;
        self.entries.swap(0, last);
        self.sorted = 0;
        self.sift_down(last);
        self.sorted = last;
        self.entries.pop().map(|(value, _)| value)
    }

    fn peek(&mut self) -> Option<&T> {
        self.prepare();
        self.entries.first().map(|(value, _)| value)
    }

    #[inline]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Default for Lifo<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Lowest<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            sorted: 0,
            next: 0,
        }
    }
}

macro_rules! debug {
    ($($name:ident)*) => {$(
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
debug!(Fifo Lifo Lowest);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    thread_local! {
        /// Comparisons until one panics.
        static PATIENCE: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    #[derive(PartialEq, Eq, Debug, Clone, Copy)]
    struct Touchy(u64);

    impl PartialOrd for Touchy {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Touchy {
        fn cmp(&self, other: &Self) -> Ordering {
            let left = PATIENCE.get();
            PATIENCE.set(left.wrapping_sub(1));
            assert!(left > 0, "touchy");
            self.0.cmp(&other.0)
        }
    }

    fn below(seed: &mut u64, n: u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % n
    }

    /// The heap against a sorted list, with comparisons that panic now and then.
    #[test]
    fn lowest_first_whatever_panics() {
        for seed in 1..200_u64 {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut heap = Lowest::default();
            let mut model: Vec<(u64, u64)> = Vec::new();
            for n in 0..300 {
                PATIENCE.set(if below(&mut random, 3) == 0 {
                    below(&mut random, 6) as u32
                } else {
                    u32::MAX
                });
                if below(&mut random, 5) < 3 {
                    let value = below(&mut random, 20);
                    let ready = catch_unwind(AssertUnwindSafe(|| heap.prepare()));
                    if ready.is_ok() || below(&mut random, 2) == 0 {
                        heap.push(Touchy(value));
                        model.push((value, heap.next));
                    }
                } else if let Ok(got) = catch_unwind(AssertUnwindSafe(|| heap.pop())) {
                    model.sort_unstable();
                    let first = (!model.is_empty()).then(|| model.remove(0).0);
                    assert_eq!(got.map(|t| t.0), first, "seed {seed}, step {n}");
                }
                assert_eq!(heap.len(), model.len(), "seed {seed}, step {n}");
            }
        }
        PATIENCE.set(u32::MAX);
    }

    #[test]
    fn the_first_of_equals_comes_first() {
        #[derive(PartialEq, Eq)]
        struct Job(u8, u32);
        impl PartialOrd for Job {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for Job {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.cmp(&other.0)
            }
        }
        let mut heap = Lowest::with_capacity(4);
        for i in 0..1000 {
            heap.prepare();
            heap.push(Job((i % 3) as u8, i));
        }
        let mut got = Vec::new();
        while let Some(job) = heap.pop() {
            got.push((job.0, job.1));
        }
        assert!(got.is_sorted() && got.len() == 1000);
    }
}
