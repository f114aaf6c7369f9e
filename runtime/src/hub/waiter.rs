//! Who waits: a task or an ordinary OS thread, as something that can be woken.
//!
//! Nouns: a [`Waiter`] owns a reference to the one who waits and may be kept and woken by
//! anybody at any time; a [`Queued`] borrows it and lies only in a wait queue. The loan is sound
//! because the one who waits takes the queue's lock and looks whether it is still in before it
//! leaves (`sync::wait_queue`), and whoever takes a `Queued` out turns it into a wake or a
//! `Waiter` under that same lock.
//!
//! A wake carries the number of the park that it is meant for; a late one finds another number
//! and does nothing. So a spurious wake-up from an earlier wait cannot happen.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Instant;

use super::cell::TaskRef;
use super::current;
use super::worker::Mail;
use crate::clock;

/// One who waits, by a reference of its own.
pub(crate) enum Waiter {
    /// A task, and the number of its park.
    Task(TaskRef, u32),
    /// An OS thread.
    Thread(Arc<ThreadParker>),
}

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
        }
    }
}

/// One who waits in a queue whose lock it takes before it leaves.
pub(crate) struct Queued(ManuallyDrop<Waiter>);

impl Queued {
    /// A waiter that is the task `task` in its park number `park`.
    ///
    /// # Safety
    /// The result stays in queues behind locks, and the one who waits takes each of those locks
    /// and makes sure that the result is no longer in there before its reference ends. Whoever
    /// takes it out calls [`Queued::wake`] before unlocking.
    #[inline]
    pub(crate) unsafe fn task(task: &TaskRef, park: u32) -> Self {
        // SAFETY: a bitwise copy that is never dropped (ManuallyDrop) and by the contract not
        // used after the original.
        let copy = unsafe { std::ptr::read(task) };
        Self(ManuallyDrop::new(Waiter::Task(copy, park)))
    }

    /// A waiter that is the thread of `parker`.
    ///
    /// # Safety
    /// As [`Queued::task`].
    pub(crate) unsafe fn thread(parker: &Arc<ThreadParker>) -> Self {
        // SAFETY: as above.
        let copy = unsafe { std::ptr::read(parker) };
        Self(ManuallyDrop::new(Waiter::Thread(copy)))
    }

    /// Wakes a task of this worker at once; everybody else must be woken by the result, after
    /// the queue's lock has been given back.
    #[must_use]
    #[inline]
    pub(crate) fn wake(self) -> Option<Waiter> {
        match &*self.0 {
            Waiter::Task(task, park) => {
                if current::wake_here(task, *park) {
                    None
                } else {
                    Some(Waiter::Task(task.clone(), *park))
                }
            }
            Waiter::Thread(parker) => Some(Waiter::Thread(parker.clone())),
        }
    }
}

/// How an ordinary OS thread waits.
pub(crate) struct ThreadParker {
    woken: AtomicBool,
    /// The permit of `park` and `unpark`.
    permit: AtomicBool,
    thread: Thread,
}

impl ThreadParker {
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
    /// deadline has passed.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        Self::block(&self.woken, deadline)
    }

    /// Blocks the calling thread, whose parker this is, until it has the permit (and takes it).
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        Self::block(&self.permit, deadline)
    }

    fn block(flag: &AtomicBool, deadline: Option<Instant>) -> bool {
        loop {
            if flag.swap(false, Ordering::Acquire) {
                return true;
            }
            match deadline {
                None => std::thread::park(),
                Some(at) => {
                    let left = at.saturating_duration_since(clock::now());
                    if left.is_zero() {
                        return flag.swap(false, Ordering::Acquire);
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }
}
