//! One wait in several queues at once: who waits, and which arm has won.
//!
//! Nouns: an *arm* is one of the things that a `select!` waits for; a [`Selection`] is what the
//! arms of one wait have in common. Each arm that stands in a queue is represented there by a
//! `Queued` with the selection's address and the arm's number.
//!
//! `choice` is one word, and whoever moves it from `OPEN` has won:
//!
//! | from | to | by |
//! |---|---|---|
//! | `OPEN` | the arm's number | a waker, with the lock of that arm's queue |
//! | `OPEN` | `GIVEN_UP` | the one who waits: an arm was ready before all stood in line, or a time-out or kill came |
//! | any other | `OPEN` | the one who waits, before it lines up again, with no other reference left |
//!
//! A waker that does not win takes the arm out of its queue and goes on to the next in line, so
//! whatever it brings is handed over exactly once. The one who waits leaves every queue before it
//! goes on, and takes each queue's lock for that: a waker that has won is done by then.
//!
//! Rejected: waking a select without a hand-over, to try again (it would lose its place in the
//! line, and a kill in between would lose the wake); locking all queues at once (not possible
//! with arms of foreign types).

use std::sync::{Arc, OnceLock};

use super::waiter::{Queued, Waiter};
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed};
use crate::primitive::{AtomicU32, AtomicUsize};

const OPEN: u32 = u32::MAX;
const GIVEN_UP: u32 = u32::MAX - 1;

/// The state of one wait for several things.
pub(crate) struct Selection {
    choice: AtomicU32,
    /// The one who waits, as the parts of a `Queued`. Written before the first arm lines up.
    who: (AtomicUsize, AtomicU32),
    /// The same with a reference of its own, for wakers outside of our queues.
    owned: OnceLock<Waiter>,
}

impl Selection {
    pub(crate) fn new() -> Self {
        Self {
            choice: AtomicU32::new(GIVEN_UP),
            who: (AtomicUsize::new(0), AtomicU32::new(0)),
            owned: OnceLock::new(),
        }
    }

    /// Opens it for a new wait of `who`. Nobody else has a reference.
    pub(crate) fn open(&mut self, who: Queued) {
        let (address, park) = who.into_parts();
        self.who.0.store(address, Relaxed);
        self.who.1.store(park, Relaxed);
        self.owned.take();
        self.choice.store(OPEN, Relaxed);
    }

    /// The one who waits.
    pub(crate) fn who(&self) -> Queued {
        Queued::from_parts(self.who.0.load(Relaxed), self.who.1.load(Relaxed))
    }

    /// Decides for an arm. `false`: it has been decided before.
    pub(crate) fn choose(&self, arm: u32) -> bool {
        self.choice
            .compare_exchange(OPEN, arm, AcqRel, Acquire)
            .is_ok()
    }

    /// Decides for none. `false`: it has been decided before.
    pub(crate) fn give_up(&self) -> bool {
        self.choose(GIVEN_UP)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.choice.load(Acquire) == OPEN
    }

    /// The arm that won.
    pub(crate) fn chosen(&self) -> Option<u32> {
        let choice = self.choice.load(Acquire);
        (choice < GIVEN_UP).then_some(choice)
    }

    /// Keeps a reference of its own to the one who waits; comes before `choose_and_wake`.
    pub(crate) fn own(&self, who: impl FnOnce() -> Waiter) {
        self.owned.get_or_init(who);
    }
}

/// Decides for an arm from outside of our queues, and wakes. `false`: it was decided before.
pub(crate) fn choose_and_wake(selection: &Arc<Selection>, arm: u32) -> bool {
    let chosen = selection.choose(arm);
    if chosen && let Some(waiter) = selection.owned.get() {
        waiter.clone().wake();
    }
    chosen
}
