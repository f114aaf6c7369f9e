//! What is known of one direction of a descriptor: one atomic word, read before each attempt.
//!
//! ```text
//!  63 ........ 4 | 3      | 2       | 1       | 0
//!  generation    | closed | hung up | waiters | ready
//! ```
//! - *ready*: nothing says that an attempt would block. It is set from the beginning.
//! - *waiters*: somebody is in line, or is about to be, or has just left.
//! - *hung up*: a short count means nothing any more, because the end may lie behind it and will
//!   not be told of again. Never cleared.
//! - *generation*: goes up with each edge, so that an attempt that began before an edge cannot
//!   hide it.
//!
//! Operation: 1. sample the word; 2. attempt; 3. if that would have blocked, clear *ready* by
//! compare-exchange on the sample; if this fails, an edge came: try again.
//!
//! Waiter, under the lock of the queue: 1. set *waiters*; 2. if the word was ready, do not wait;
//! 3. get in line. Edge: 1. set *ready*, next generation; 2. if *waiters* was set, take the lock
//! and wake the first in line. Both first steps change one word, so one of the two sees the other;
//! and who wakes takes the lock after the waiter that it saw is in line.
//!
//! Turn: who is woken has the *turn*, and passes it on when it leaves the operation, however it
//! does, if the word is still ready. So wherever somebody is in line and the word is ready,
//! somebody else has the turn: one edge that brings food for many wakes them one after the other,
//! and a kill in between loses none of it.
//!
//! Rejected: waking all at each edge (a listener with a thousand acceptors); a lock around the
//! attempt, which would make the line strict (an atomic pair for each ready operation).

use crate::primitive::AtomicU64;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed};

const READY: u64 = 1;
const WAITERS: u64 = 1 << 1;
const HUNG_UP: u64 = 1 << 2;
const CLOSED: u64 = 1 << 3;
const GENERATION: u64 = 1 << 4;

/// See the file head.
pub(super) struct Word(AtomicU64);

/// What the word said at one time.
#[derive(Clone, Copy)]
pub(super) struct Sample(u64);

impl Sample {
    #[inline]
    pub(super) fn is_ready(self) -> bool {
        self.0 & READY != 0
    }

    #[inline]
    pub(super) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    #[inline]
    pub(super) fn is_hung_up(self) -> bool {
        self.0 & HUNG_UP != 0
    }
}

impl Word {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(READY))
    }

    #[inline]
    pub(super) fn sample(&self) -> Sample {
        Sample(self.0.load(Acquire))
    }

    /// The attempt that began after `seen` would have blocked. `false`: an edge came meanwhile.
    #[inline]
    pub(super) fn not_ready(&self, seen: Sample) -> bool {
        self.0
            .compare_exchange(seen.0, seen.0 & !READY, AcqRel, Relaxed)
            .is_ok()
    }

    /// Announces a waiter; the caller has the lock. `false`: it must not wait.
    pub(super) fn begin_wait(&self) -> bool {
        self.0.fetch_or(WAITERS, AcqRel) & (READY | CLOSED) == 0
    }

    /// Nobody is in line; the caller has the lock.
    pub(super) fn end_wait(&self) {
        self.0.fetch_and(!WAITERS, AcqRel);
    }

    /// There was an edge. `true`: somebody may be in line.
    #[inline]
    pub(super) fn edge(&self, hung_up: bool) -> bool {
        let set = READY | if hung_up { HUNG_UP } else { 0 };
        let mut old = self.0.load(Relaxed);
        loop {
            let new = old.wrapping_add(GENERATION) | set;
            match self.0.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) => return old & WAITERS != 0,
                Err(now) => old = now,
            }
        }
    }

    /// Closes the direction for good.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, AcqRel);
    }

    /// Whether somebody may be in line.
    #[inline]
    pub(super) fn has_waiters(&self) -> bool {
        self.0.load(Acquire) & WAITERS != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_edge_defeats_an_older_attempt() {
        let word = Word::new();
        let seen = word.sample();
        assert!(seen.is_ready());
        assert!(!word.edge(false), "nobody waits");
        assert!(!word.not_ready(seen));
        assert!(word.not_ready(word.sample()));
        assert!(!word.sample().is_ready());
    }

    #[test]
    fn a_waiter_is_told_or_does_not_wait() {
        let word = Word::new();
        assert!(!word.begin_wait(), "it is ready");
        word.end_wait();
        assert!(word.not_ready(word.sample()));
        assert!(word.begin_wait());
        assert!(word.edge(true));
        assert!(word.sample().is_hung_up() && word.has_waiters());
        word.end_wait();
        assert!(!word.edge(false) && word.sample().is_hung_up());
    }

    #[test]
    fn closed_for_good() {
        let word = Word::new();
        assert!(word.not_ready(word.sample()));
        word.close();
        assert!(!word.begin_wait());
        assert!(word.sample().is_closed() && !word.sample().is_ready());
    }
}

/// The word with a queue of numbers for the line, and a counter for the kernel's buffer.
#[cfg(all(test, loom))]
#[allow(clippy::unwrap_used)]
mod loom_tests {
    use std::collections::VecDeque;

    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::*;

    struct Model {
        word: Word,
        line: Mutex<VecDeque<usize>>,
        /// Bytes that wait to be read; a lock, for a system call sees what came before it.
        food: Mutex<usize>,
        woken: [(Mutex<bool>, Condvar); 2],
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                word: Word::new(),
                line: Mutex::new(VecDeque::new()),
                food: Mutex::new(0),
                woken: std::array::from_fn(|_| (Mutex::new(false), Condvar::new())),
            })
        }

        fn take(&self) -> bool {
            let mut food = self.food.lock().unwrap();
            let some = *food > 0;
            *food -= usize::from(some);
            some
        }

        /// The kernel puts in `n` bytes, then the worker is told.
        fn feed(&self, n: usize) {
            *self.food.lock().unwrap() += n;
            if self.word.edge(false) {
                self.wake_first();
            }
        }

        fn wake_first(&self) {
            let mut line = self.line.lock().unwrap();
            if self.word.sample().is_ready()
                && let Some(who) = line.pop_front()
            {
                let (woken, bell) = &self.woken[who];
                *woken.lock().unwrap() = true;
                bell.notify_one();
            }
            if line.is_empty() {
                self.word.end_wait();
            }
        }

        fn pass_on(&self) {
            if self.word.has_waiters() {
                self.wake_first();
            }
        }

        /// One read, as `Source` does it. `dies`: it is killed as soon as it has the turn.
        fn read(&self, me: usize, dies: bool) {
            loop {
                let seen = self.word.sample();
                if seen.is_ready() {
                    if self.take() {
                        break;
                    }
                    if !self.word.not_ready(seen) {
                        continue;
                    }
                }
                let mut line = self.line.lock().unwrap();
                if !self.word.begin_wait() {
                    if line.is_empty() {
                        self.word.end_wait();
                    }
                    continue;
                }
                line.push_back(me);
                drop(line);
                let (woken, bell) = &self.woken[me];
                let mut woken = woken.lock().unwrap();
                while !std::mem::replace(&mut *woken, false) {
                    woken = bell.wait(woken).unwrap();
                }
                drop(woken);
                if dies {
                    break;
                }
            }
            self.pass_on();
        }
    }

    fn model(body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(2));
        builder.check(body);
    }

    #[test]
    fn loom_an_edge_is_not_lost() {
        model(|| {
            let m = Model::new();
            let reader = {
                let m = m.clone();
                thread::spawn(move || m.read(0, false))
            };
            m.feed(1);
            reader.join().unwrap();
            assert_eq!(*m.food.lock().unwrap(), 0);
        });
    }

    #[test]
    fn loom_two_edges_for_two_reads() {
        model(|| {
            let m = Model::new();
            let reader = {
                let m = m.clone();
                thread::spawn(move || {
                    m.read(0, false);
                    m.read(0, false);
                })
            };
            m.feed(1);
            m.feed(1);
            reader.join().unwrap();
            assert_eq!(*m.food.lock().unwrap(), 0);
        });
    }

    #[test]
    fn loom_one_edge_feeds_two() {
        model(|| {
            let m = Model::new();
            let readers: Vec<_> = (0..2)
                .map(|me| {
                    let m = m.clone();
                    thread::spawn(move || m.read(me, false))
                })
                .collect();
            m.feed(2);
            readers.into_iter().for_each(|r| r.join().unwrap());
            assert_eq!(*m.food.lock().unwrap(), 0);
        });
    }

    #[test]
    fn loom_a_turn_outlives_a_kill() {
        model(|| {
            let m = Model::new();
            let dies = {
                let m = m.clone();
                thread::spawn(move || m.read(0, true))
            };
            let lives = {
                let m = m.clone();
                thread::spawn(move || m.read(1, false))
            };
            // Enough for both: the one that dies may have read before it had to wait.
            m.feed(2);
            lives.join().unwrap();
            dies.join().unwrap();
        });
    }
}
