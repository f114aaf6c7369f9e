//! What the rest of the process sees of a worker: inbox, bell, unstarted tasks, published facts.
//!
//! A [`WorkerShared`] is never freed, because wakers outlive runtimes; when its runtime has
//! ended it waits in a registry for the next one. Mail that comes in between is for tasks that
//! have ended and is dropped.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize};

use super::cell::TaskRef;
use super::inbox::Inbox;
use super::poller::{Poller, Token};
use super::question::{Question, Roll};
use super::tally::Tallies;
use super::unstarted::Unstarted;
#[cfg(not(loom))]
use crate::at_fork::Global;
use crate::clock::{Clock, Nanos};
use crate::fiber::stack::StackCensus;
use crate::sync::short_lock::ShortLock;

/// What other threads send to a worker.
pub(crate) enum Mail {
    /// Wake the task, if it still is in that park.
    Wake(TaskRef, u32),
    /// `unpark` of the task.
    Unpark(TaskRef),
    /// The task's flags have changed (a kill).
    Interrupt(TaskRef),
    /// Start this task here.
    Start(TaskRef),
    /// Describe your tasks, a portion at a time.
    Roll(Box<Roll>),
    /// Count your stacks and how deep they have been used.
    Census(Arc<Question<StackCensus>>),
    /// A stack has come free somewhere.
    StackFreed,
    /// Call who is registered with that token.
    Call(Token),
    /// End: kill everything; what has not ended by then is leaked.
    Shutdown(Nanos),
}

/// How others reach a worker's epoll instance.
pub(crate) struct Entrance {
    pub(crate) bell: mio::Waker,
    pub(crate) registry: mio::Registry,
}

pub(crate) struct WorkerShared {
    pub(crate) inbox: Inbox<Mail>,
    bell: ShortLock<Option<Arc<mio::Waker>>>,
    pub(crate) poller: Poller,
    pub(crate) unstarted: Unstarted,
    /// Set by whoever found this worker asleep and wants it to look for work.
    pub(crate) told_to_search: AtomicBool,
    pub(crate) published: Published,
    /// The time of its runtime.
    pub(crate) clock: Clock,
}

/// Facts that the worker stores (relaxed) as it goes, for observers that cannot ask it.
#[derive(Default)]
pub(crate) struct Published {
    /// Id of the task that runs, 0 between tasks.
    pub(crate) running: AtomicU64,
    pub(crate) site: AtomicPtr<Location<'static>>,
    /// Slices so far: every switch to a task.
    pub(crate) switches: AtomicU64,
    /// The OS thread's number, 0 when there is none (any more).
    pub(crate) thread: AtomicI32,
    /// When the worker last looked at its mail.
    pub(crate) looked: AtomicU64,
    pub(crate) live: AtomicUsize,
    /// Stacks lent to generators.
    pub(crate) lent: AtomicUsize,
    pub(crate) ready: AtomicUsize,
    pub(crate) started: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) wakes: AtomicU64,
    pub(crate) polls: AtomicU64,
    /// Events of the poller, the bell's not counted.
    pub(crate) events: AtomicU64,
    pub(crate) timers: AtomicUsize,
    pub(crate) stolen: AtomicU64,
    pub(crate) stacks: AtomicUsize,
    pub(crate) tallies: Tallies,
}

impl Published {
    /// Adds to a counter that only the worker itself writes.
    #[inline]
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
    }

    fn reset(&self) {
        let Self {
            running,
            site,
            switches,
            looked,
            live,
            ready,
            started,
            finished,
            ..
        } = self;
        for c in [
            running,
            switches,
            looked,
            started,
            finished,
            &self.wakes,
            &self.polls,
            &self.events,
        ] {
            c.store(0, Relaxed);
        }
        for c in [live, ready, &self.lent, &self.timers, &self.stacks] {
            c.store(0, Relaxed);
        }
        self.stolen.store(0, Relaxed);
        self.thread.store(0, Relaxed);
        self.tallies.reset();
        site.store(std::ptr::null_mut(), Relaxed);
    }
}

#[cfg(not(loom))]
static FREE: ShortLock<Vec<&'static WorkerShared>> = ShortLock::new(Vec::new());
#[cfg(loom)]
static FREE: std::sync::LazyLock<ShortLock<Vec<&'static WorkerShared>>> =
    std::sync::LazyLock::new(|| ShortLock::new(Vec::new()));

impl WorkerShared {
    /// Takes one from the registry or makes one, for the worker with that entrance, which lives by
    /// such a clock.
    pub(crate) fn acquire(
        Entrance { bell, registry }: Entrance,
        virtual_clock: bool,
    ) -> &'static Self {
        let worker: &'static Self = FREE.lock().pop().unwrap_or_else(|| {
            Box::leak(Box::new(Self {
                inbox: Inbox::new(),
                bell: ShortLock::new(None),
                poller: Poller::new(),
                unstarted: Unstarted::new(),
                told_to_search: AtomicBool::new(false),
                published: Published::default(),
                clock: Clock::real(),
            }))
        });
        while worker.inbox.pop().is_some() {}
        worker.published.reset();
        worker.clock.set_virtual(virtual_clock);
        *worker.bell.lock() = Some(Arc::new(bell));
        worker.poller.open(registry);
        worker
    }

    /// Closes bell and poller of a worker that was never started, or has ended.
    pub(crate) fn silence(&self) {
        drop(self.bell.lock().take());
        self.poller.close();
    }

    /// Gives it back after its runtime has ended without leaking a task.
    pub(crate) fn release(&'static self) {
        self.silence();
        while self.inbox.pop().is_some() {}
        FREE.lock().push(self);
    }

    /// Sends mail and wakes the worker if it sleeps.
    pub(crate) fn send(&self, mail: Mail) {
        if self.inbox.push(mail) {
            self.ring();
        }
    }

    /// Wakes the worker if it sleeps. `true`: it did.
    pub(crate) fn rouse(&self) -> bool {
        let asleep = self.inbox.rouse();
        if asleep {
            self.ring();
        }
        asleep
    }

    fn ring(&self) {
        let bell = self.bell.lock().clone();
        if let Some(bell) = bell {
            // An eventfd write fails only when the counter is full, and then it has been rung.
            let _ = bell.wake();
        }
    }
}

/// Where the task that runs was spawned, as its worker published it.
pub(crate) fn site(published: &Published) -> Option<&'static Location<'static>> {
    // SAFETY: null or a `&'static Location`, stored by the worker.
    unsafe { published.site.load(Relaxed).as_ref() }
}

/// The locks of the process that are here.
#[cfg(not(loom))]
pub(crate) fn globals() -> [&'static dyn Global; 1] {
    [&FREE]
}
