//! The inbox: how other threads hand something to a worker and wake it if it sleeps.
//!
//! Sender: 1. push; 2. full fence; 3. if `sleeping` is set, clear it; who cleared it must ring
//! the worker's bell (its mio `Waker`), nobody else.
//! Worker: 1. set `sleeping`; 2. full fence; 3. look into the queue; only if it is empty, sleep;
//! 4. after waking, clear `sleeping`.
//! With a fence on both sides, either the sender sees `sleeping` or the worker sees the message;
//! so no message is slept over, and a burst rings the bell once.

use crate::primitive::{AtomicBool, Ordering, fence};

#[cfg(not(loom))]
use crossbeam_queue::SegQueue as Queue;
#[cfg(loom)]
use loom_queue::Queue;

pub(crate) struct Inbox<M> {
    queue: Queue<M>,
    sleeping: AtomicBool,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::new(),
            sleeping: AtomicBool::new(false),
        }
    }

    /// Puts a message in. `true`: the caller must ring the bell.
    #[must_use]
    pub(crate) fn push(&self, message: M) -> bool {
        self.queue.push(message);
        self.rouse()
    }

    /// Claims the right to ring the bell of a worker that sleeps.
    #[must_use]
    pub(crate) fn rouse(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// Worker: takes the oldest message.
    pub(crate) fn pop(&self) -> Option<M> {
        self.queue.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Worker: announces sleep. `false`: there is a message; do not sleep.
    #[must_use]
    pub(crate) fn begin_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.end_sleep();
        false
    }

    /// Whether the worker sleeps, and nobody has begun to wake it.
    pub(crate) fn sleeps(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed)
    }

    /// Worker: awake again.
    pub(crate) fn end_sleep(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

/// Loom cannot look into crossbeam's queue; what is checked is the protocol around it.
#[cfg(loom)]
mod loom_queue {
    use std::collections::VecDeque;

    use loom::sync::Mutex;

    pub(super) struct Queue<M>(Mutex<VecDeque<M>>);

    #[allow(clippy::unwrap_used)]
    impl<M> Queue<M> {
        pub(super) fn new() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }
        pub(super) fn push(&self, m: M) {
            self.0.lock().unwrap().push_back(m);
        }
        pub(super) fn pop(&self) -> Option<M> {
            self.0.lock().unwrap().pop_front()
        }
        pub(super) fn is_empty(&self) -> bool {
            self.0.lock().unwrap().is_empty()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_ring_for_a_burst() {
        let inbox = Inbox::new();
        assert!(!inbox.push(1), "an awake worker needs no bell");
        assert!(!inbox.begin_sleep(), "a message waits");
        assert_eq!(inbox.pop(), Some(1));
        assert!(inbox.begin_sleep());
        assert!(inbox.push(2));
        assert!(!inbox.push(3), "the bell was rung");
        assert_eq!(
            (inbox.pop(), inbox.pop(), inbox.pop()),
            (Some(2), Some(3), None)
        );
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    /// A worker that goes to sleep while two senders push: it never sleeps over a message
    /// without a bell.
    #[test]
    fn loom_no_message_is_slept_over() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let bell = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let senders: Vec<_> = (0..2)
                .map(|i| {
                    let (inbox, bell) = (inbox.clone(), bell.clone());
                    loom::thread::spawn(move || {
                        if inbox.push(i) {
                            bell.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            let slept = inbox.begin_sleep();
            for s in senders {
                let _ = s.join();
            }
            if slept {
                assert!(
                    bell.load(Ordering::SeqCst) > 0,
                    "asleep with messages and no bell"
                );
            }
            let mut got = 0;
            while inbox.pop().is_some() {
                got += 1;
            }
            assert_eq!(got, 2);
        });
    }
}
