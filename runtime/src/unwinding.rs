//! What unwinds a task from a park: the payloads of a kill and of a fired time-out.
//!
//! Both are raised with `resume_unwind`, which runs destructors and skips the panic hook
//! (design R5). They are ordinary unwinding to `catch_unwind`; whoever swallows one meets it
//! again at the next park.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::JoinError;

/// The payload of an unwinding that sward started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The task was killed.
    Killed,
    /// The time-out frame with this number fired.
    TimedOut(u64),
}

impl Signal {
    /// Starts to unwind the calling stack.
    pub(crate) fn raise(self) -> ! {
        resume_unwind(Box::new(self))
    }

    /// Says what a payload that reached the bottom of a task means.
    pub(crate) fn classify(payload: Box<dyn Any + Send>) -> JoinError {
        match payload.downcast_ref::<Self>() {
            Some(Self::Killed) => JoinError::Killed,
            _ => JoinError::Panicked(payload),
        }
    }
}

impl JoinError {
    /// Says what a payload means that [`std::panic::catch_unwind`] caught: a panic, or a kill. For
    /// code that ends its task then, or goes on with the unwinding.
    ///
    /// # Examples
    /// ```
    /// use std::panic::catch_unwind;
    /// use sward_runtime::{JoinError, park, spawn, yield_now};
    /// let task = spawn(|| JoinError::from_payload(catch_unwind(park).unwrap_err()).is_killed());
    /// yield_now();
    /// task.kill();
    /// // Before its first run, a kill ends it without a word.
    /// assert!(task.join().unwrap_or(true));
    /// ```
    pub fn from_payload(payload: Box<dyn Any + Send>) -> Self {
        Signal::classify(payload)
    }
}

/// Drops a panic payload whose own destructor may panic: what that throws is leaked.
pub(crate) fn discard<T>(result: std::thread::Result<T>) {
    if let Err(payload) = result
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        Box::leak(again);
    }
}
