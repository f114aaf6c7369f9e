//! What a cancelled token does to code that runs under it: a frame without a deadline.
//!
//! A task that enters [`run`](crate::CancelToken::run) puts a frame on its stack of frames
//! (`control.rs`) that holds the fuse, and stands in the fuse's list; a thread stands there while
//! it is blocked. Blowing the fuse sets the flag, then interrupts whoever is in the list: a task by
//! its own worker, which looks at the flags of the task's frames (so an interrupt that comes late
//! finds nothing, and does nothing); a thread by waking it, so that it looks at its frames.
//!
//! Order: the one who enters puts itself into the list, unless the flag is set; the one who blows
//! sets the flag and takes the list, under the same lock. So nobody is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slab::Slab;

use super::cell::TaskRef;
use super::current;
use super::waiter::ThreadParker;
use super::worker::Mail;
use crate::sync::short_lock::ShortLock;

pub(crate) struct Fuse {
    blown: AtomicBool,
    inside: ShortLock<Slab<Inside>>,
}

/// Who is to be interrupted.
pub(crate) enum Inside {
    Task(TaskRef),
    Thread(Arc<ThreadParker>),
}

impl Inside {
    fn interrupt(self) {
        match self {
            Self::Thread(parker) => parker.wake(),
            Self::Task(task) => match (current::hub(), task.home()) {
                (Some(hub), _) if hub.owns(&task) => hub.interrupt(&task),
                (_, Some(home)) => home.send(Mail::Interrupt(task)),
                // It has started, so there is a home.
                (_, None) => {}
            },
        }
    }
}

impl Fuse {
    pub(crate) fn new() -> Self {
        Self {
            blown: AtomicBool::new(false),
            inside: ShortLock::new(Slab::new()),
        }
    }

    pub(crate) fn is_blown(&self) -> bool {
        self.blown.load(Ordering::Acquire)
    }

    /// Puts `who` into the list. `None`: it is blown.
    pub(crate) fn enter(&self, who: Inside) -> Option<usize> {
        let mut inside = self.inside.lock();
        // Dropped after the lock is: it may be the last reference.
        let who = if self.blown.load(Ordering::Relaxed) {
            who
        } else {
            return Some(inside.insert(who));
        };
        drop(inside);
        drop(who);
        None
    }

    /// Takes who stands in `place` out of the list, if the fuse has not.
    pub(crate) fn leave(&self, place: usize) {
        let who = self.inside.lock().try_remove(place);
        drop(who);
    }

    /// Interrupts everybody inside, now and in future.
    pub(crate) fn blow(&self) {
        let mut inside = self.inside.lock();
        self.blown.store(true, Ordering::Release);
        let all = std::mem::take(&mut *inside);
        drop(inside);
        all.into_iter().for_each(|(_, who)| who.interrupt());
    }
}
