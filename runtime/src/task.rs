//! A task as others see it: who it is, and how to wake or kill it.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::cancel;
use crate::hub::cell::{STARTED, TaskRef, UNPARKED};
use crate::hub::current::{self, Caller};
use crate::hub::waiter::ThreadParker;
use crate::hub::worker::Mail;
use crate::park;

/// A task, or an ordinary thread that uses sward's waits: who it is, and how to wake or kill it.
#[derive(Clone)]
pub struct Task {
    who: Who,
}

#[derive(Clone)]
enum Who {
    Task(TaskRef),
    Thread(Arc<ThreadParker>),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Task(task) => f.write_str(&park::describe(task)),
            Who::Thread(parker) => write!(f, "thread {:?}", parker.thread().name()),
        }
    }
}

/// Returns the calling task, or the calling thread where there is none.
///
/// # Examples
/// ```
/// let id = sward_runtime::run(|| sward_runtime::current().id());
/// assert!(id > 0);
/// ```
pub fn current() -> Task {
    let who = match current::caller() {
        Caller::Task(_, fiber) => Who::Task(TaskRef::clone(&fiber.header().task)),
        Caller::Hub(_) | Caller::Thread => Who::Thread(current::thread_parker()),
    };
    Task { who }
}

impl Task {
    /// The task behind a reference.
    pub(crate) fn of(task: TaskRef) -> Self {
        Self {
            who: Who::Task(task),
        }
    }

    /// Returns the id, unique in this process; 0 for a thread.
    pub fn id(&self) -> u64 {
        match &self.who {
            Who::Task(task) => task.id(),
            Who::Thread(_) => 0,
        }
    }

    /// Returns the name, if it has one.
    pub fn name(&self) -> Option<&str> {
        match &self.who {
            Who::Task(task) => task.name(),
            Who::Thread(parker) => parker.thread().name(),
        }
    }

    /// Returns where the task was spawned; `None` for a thread.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        match &self.who {
            Who::Task(task) => Some(task.site()),
            Who::Thread(_) => None,
        }
    }

    /// Gives it the permit that [`park`](crate::park()) waits for. From any thread; never blocks.
    pub fn unpark(&self) {
        match &self.who {
            Who::Thread(parker) => parker.unpark(),
            Who::Task(task) => {
                // Before the start the flag is the permit; after it, its worker keeps it.
                if task.raise(UNPARKED) & STARTED == 0 {
                    return;
                }
                match (current::hub(), task.home()) {
                    (Some(hub), _) if hub.owns(task) => hub.unpark(task),
                    (_, Some(home)) => home.send(Mail::Unpark(task.clone())),
                    (_, None) => {}
                }
            }
        }
    }

    /// As [`JoinHandle::kill`](crate::JoinHandle::kill); a thread cannot be killed, so there it does nothing.
    pub fn kill(&self) {
        if let Who::Task(task) = &self.who {
            cancel::kill(task);
        }
    }
}
