//! Who waits: a task or an ordinary OS thread, as something that can be woken.
//!
//! Nouns: a [`Waiter`] owns a reference to the one who waits and may be kept and woken by
//! anybody at any time; a [`Queued`] borrows it and lies only in a wait queue. The loan is sound
//! because the one who waits takes the queue's lock and looks whether it is still in before it
//! leaves (`sync::wait_queue`), and whoever takes a `Queued` out turns it into a wake or a
//! `Waiter` under that same lock.
//!
//! Who waits in several queues at once stands in each of them by way of a [`Selection`]: a waker
//! takes such a one out only if it wins the claim.
//!
//! A wake carries the number of the park that it is meant for; a late one finds another number
//! and does nothing. So a spurious wake-up from an earlier wait cannot happen.

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::thread::Thread;
use std::time::Instant;

use super::cell::TaskRef;
use super::current::{self, Caller};
use super::selection::{self, Selection};
use super::worker::Mail;
use crate::clock;
use crate::unwinding;

/// One who waits, by a reference of its own.
#[derive(Clone)]
pub(crate) enum Waiter {
    /// A task, and the number of its park.
    Task(TaskRef, u32),
    /// An OS thread.
    Thread(Arc<ThreadParker>),
    /// Either of them, by an arm of a `select!`.
    Arm(Arc<Selection>, u32),
    /// Async code. (Boxed: the slot that it waits in is part of every task.)
    Async(Box<Waker>),
    /// Whoever watches many tasks, by the number that it gave this one. (Boxed, so that the word
    /// in each cell stays thin.)
    Told(Arc<Box<dyn Told>>, u32),
}

/// Watches many tasks: told of each end. It must not park.
pub(crate) trait Told: Send + Sync {
    fn told(&self, number: u32);
}

const _: () = assert!(size_of::<Option<Waiter>>() == 16);

impl Waiter {
    /// Ends the wait, if it still lasts.
    pub(crate) fn wake(self) {
        match self {
            Self::Task(task, park) => {
                if !current::wake_here(&task, park)
                    && let Some(home) = task.home()
                {
                    home.send(Mail::Wake(task, park));
                }
            }
            Self::Thread(parker) => parker.wake(),
            Self::Arm(selection, arm) => {
                selection::choose_and_wake(&selection, arm);
            }
            Self::Async(waker) => wake_async(*waker),
            Self::Told(who, number) => who.told(number),
        }
    }
}

/// Calls code of others, on the stack of whoever ended the wait: it must not park there, and a
/// panic is none of that one's business.
#[cold]
fn wake_async(waker: Waker) {
    let wake = AssertUnwindSafe(|| match current::caller() {
        Caller::Task(_, fiber) => fiber.header().forbid_parks(|| waker.wake()),
        Caller::Hub(_) | Caller::Thread => waker.wake(),
    });
    unwinding::discard(catch_unwind(wake));
}

/// One who waits in a queue whose lock it takes before it leaves: two words that are easily moved.
#[derive(Clone, Copy)]
pub(crate) struct Queued {
    /// The address of a task's cell, of a parker (`THREAD`), or of a selection (`SELECT`).
    who: NonZeroUsize,
    /// The number of the task's park, or of the arm.
    park: u32,
}

const THREAD: usize = 1;
const SELECT: usize = 2;

impl Queued {
    /// A waiter that is the task `task` in its park number `park`.
    ///
    /// # Safety
    /// The result stays in queues behind locks, and the one who waits takes each of those locks
    /// and makes sure that the result is no longer in there before its reference ends. Whoever
    /// takes it out calls [`Queued::wake`] once, before unlocking.
    #[inline]
    pub(crate) unsafe fn task(task: &TaskRef, park: u32) -> Self {
        Self {
            who: task.address(),
            park,
        }
    }

    /// A waiter that is the thread of `parker`.
    ///
    /// # Safety
    /// As [`Queued::task`].
    pub(crate) unsafe fn thread(parker: &Arc<ThreadParker>) -> Self {
        Self {
            who: address(parker) | THREAD,
            park: 0,
        }
    }

    /// A waiter that is an arm of `selection`.
    ///
    /// # Safety
    /// As [`Queued::task`], for the selection: it stays, and is not opened again, while the result
    /// is in a queue.
    pub(crate) unsafe fn arm(selection: &Arc<Selection>, arm: u32) -> Self {
        Self {
            who: address(selection) | SELECT,
            park: arm,
        }
    }

    /// The parts of one that is no arm, to be put together again by `from_parts`.
    pub(crate) fn into_parts(self) -> (usize, u32) {
        (self.who.get(), self.park)
    }

    /// Puts the parts together again.
    ///
    /// # Panics
    /// If there was never one: a bug in this crate.
    pub(crate) fn from_parts(who: usize, park: u32) -> Self {
        let Some(who) = NonZeroUsize::new(who) else {
            unreachable!("a selection was opened before its arms lined up")
        };
        Self { who, park }
    }

    /// The selection whose arm this is.
    #[inline]
    fn selection(&self) -> Option<&Selection> {
        let address = self.who.get();
        if address & SELECT == 0 {
            return None;
        }
        // SAFETY: from a reference that lasts as long as this, by `arm`'s contract.
        Some(unsafe { &*((address & !SELECT) as *const Selection) })
    }

    /// Wins the one who waits for the caller, who then wakes it. `false`: it is an arm of a
    /// selection that has been decided otherwise.
    #[inline]
    pub(crate) fn claim(&self) -> bool {
        self.selection().is_none_or(|s| s.choose(self.park))
    }

    /// Whether [`claim`](Self::claim) may succeed for someone other than `me`.
    pub(crate) fn is_open(&self, me: Option<&Selection>) -> bool {
        self.selection()
            .is_none_or(|s| s.is_open() && !me.is_some_and(|me| std::ptr::eq(me, s)))
    }

    /// The same waiter with a reference of its own, which need not stay in queues.
    ///
    /// # Safety
    /// The one who waits is still there (it is the caller).
    pub(crate) unsafe fn to_waiter(self) -> Waiter {
        let Some(waiter) = self.late().into_waiter() else {
            unreachable!("there is somebody")
        };
        waiter
    }

    /// Wakes a task of this worker at once; everybody else is woken by the result, after the
    /// queue's lock has been given back.
    #[inline]
    pub(crate) fn wake(self) -> Late {
        let address = self.who.get();
        if address & (THREAD | SELECT) == 0 {
            // SAFETY: by `task`'s contract the one who waits, and so its reference, is still there.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_word(address) });
            if current::wake_here(&task, self.park) {
                return Late::NOBODY;
            }
        }
        self.late()
    }

    /// The same waiter with a reference of its own.
    #[cold]
    fn late(self) -> Late {
        if let Some(selection) = self.selection() {
            return selection.who().wake();
        }
        let address = self.who.get();
        if address & THREAD == 0 {
            // SAFETY: as in `wake`.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_word(address) });
            let _counted = ManuallyDrop::new(TaskRef::clone(&task));
        } else {
            let parker = (address & !THREAD) as *const ThreadParker;
            // SAFETY: from a reference into an Arc that is still there, by `thread`'s contract.
            unsafe { Arc::increment_strong_count(parker) };
        }
        Late {
            who: Some(self.who),
            park: self.park,
        }
    }
}

/// Where the Arc's value lies, for a word from which a pointer is made again.
fn address<T>(arc: &Arc<T>) -> NonZeroUsize {
    // The pointer that made the Arc, not a reference's: a count may be added through it.
    let exposed = Arc::as_ptr(arc).expose_provenance();
    NonZeroUsize::new(exposed).unwrap_or(NonZeroUsize::MAX)
}

/// A waiter that must still be woken, with a reference of its own; or none. Two words, because a
/// returned [`Waiter`] would go through memory.
#[must_use = "somebody waits to be woken"]
pub(crate) struct Late {
    who: Option<NonZeroUsize>,
    park: u32,
}

impl Late {
    pub(crate) const NOBODY: Self = Self { who: None, park: 0 };

    /// Wakes it, if there is one.
    #[inline]
    pub(crate) fn wake(self) {
        if let Some(waiter) = self.into_waiter() {
            waiter.wake();
        }
    }

    /// The waiter, if there is one.
    #[inline]
    pub(crate) fn into_waiter(self) -> Option<Waiter> {
        let address = self.who?.get();
        Some(if address & THREAD == 0 {
            // SAFETY: `Queued::late` counted this reference, and `self` is used once.
            Waiter::Task(unsafe { TaskRef::from_word(address) }, self.park)
        } else {
            // SAFETY: as above.
            Waiter::Thread(unsafe { Arc::from_raw((address & !THREAD) as *const ThreadParker) })
        })
    }
}

/// How an ordinary OS thread waits.
pub(crate) struct ThreadParker {
    woken: AtomicBool,
    /// The permit of `park` and `unpark`.
    permit: AtomicBool,
    thread: Thread,
}

/// Threads that are blocked without a deadline right now.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);

impl ThreadParker {
    /// Returns how many threads are blocked for ever, unless somebody wakes them.
    pub(crate) fn blocked() -> usize {
        BLOCKED.load(Ordering::Relaxed)
    }

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(false),
            permit: AtomicBool::new(false),
            thread: std::thread::current(),
        })
    }

    pub(crate) fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Gives the permit.
    pub(crate) fn unpark(&self) {
        self.permit.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Forgets earlier wakes.
    pub(crate) fn reset(&self) {
        self.woken.store(false, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Blocks the calling thread, whose parker this is, until it is woken (`true`) or the
    /// deadline, in real time, has passed.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        Self::block(|| self.woken.swap(false, Ordering::Acquire), deadline)
    }

    /// Blocks the calling thread, whose parker this is, until it has the permit (and takes it:
    /// `true`), is woken, or the deadline has passed.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let woken = || self.woken.swap(false, Ordering::Acquire);
        Self::block(|| self.permit.load(Ordering::Acquire) || woken(), deadline);
        self.permit.swap(false, Ordering::Acquire)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a thread itself blocks"
    )]
    fn block(done: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        loop {
            if done() {
                return true;
            }
            match deadline {
                None => {
                    BLOCKED.fetch_add(1, Ordering::Relaxed);
                    std::thread::park();
                    BLOCKED.fetch_sub(1, Ordering::Relaxed);
                }
                Some(at) => {
                    let left = at.saturating_duration_since(clock::real_now());
                    if left.is_zero() {
                        return done();
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }
}
