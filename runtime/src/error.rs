//! The errors of this crate, one type per operation, each saying what happened to what.

use std::any::Any;
use std::fmt;

/// Why a task gave no value.
#[non_exhaustive]
pub enum JoinError {
    /// The task panicked; this is its payload, as [`std::thread::JoinHandle::join`] gives it.
    Panicked(Box<dyn Any + Send + 'static>),
    /// The task was killed, before its first run or at a park.
    Killed,
}

impl JoinError {
    /// Returns whether the task was killed.
    pub fn is_killed(&self) -> bool {
        matches!(self, Self::Killed)
    }

    /// Returns the panic message, if the task panicked with one.
    pub fn panic_message(&self) -> Option<&str> {
        match self {
            Self::Panicked(payload) => Some(payload_text(payload.as_ref())),
            Self::Killed => None,
        }
    }

    /// Goes on with the panic in the calling task or thread; a killed task panics here too.
    ///
    /// # Panics
    /// Always: that is its purpose.
    pub fn resume(self) -> ! {
        match self {
            Self::Panicked(payload) => std::panic::resume_unwind(payload),
            Self::Killed => panic!("the joined task was killed"),
        }
    }
}

/// The text of a panic payload, as the default panic hook would print it.
pub(crate) fn payload_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic payload that is not text"
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => f
                .debug_tuple("Panicked")
                .field(&payload_text(payload.as_ref()))
                .finish(),
            Self::Killed => f.write_str("Killed"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => {
                write!(f, "the task panicked: {}", payload_text(payload.as_ref()))
            }
            Self::Killed => f.write_str("the task was killed"),
        }
    }
}

impl std::error::Error for JoinError {}

/// A time-out passed before the operation was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time-out passed before the operation was done")
    }
}

impl std::error::Error for TimedOut {}

/// A [`CancelToken`](crate::CancelToken) was cancelled before the operation was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the token was cancelled before the operation was done")
    }
}

impl std::error::Error for Cancelled {}

impl From<TimedOut> for std::io::Error {
    fn from(e: TimedOut) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, e)
    }
}
