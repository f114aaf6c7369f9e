//! A task's end as a future, for async code that waits for tasks.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::error::JoinError;
use crate::fork;
use crate::hub::cell::Key;
use crate::hub::waiter::Waiter;
use crate::join::JoinHandle;
use crate::park;

/// The end of a task as a future: what `handle.await` waits for.
///
/// It works in any executor. Dropped, the task goes on alone, as without its handle.
///
/// # Examples
/// ```
/// use sward_runtime::{block_on, spawn};
/// let task = spawn(|| 7);
/// assert_eq!(block_on(async { task.await.unwrap() }), 7);
/// ```
#[must_use = "a future does nothing until it is polled"]
pub struct JoinFuture<T> {
    /// There until the outcome has been taken.
    key: Option<Key<T>>,
    /// There while the joiner's slot holds a copy of it.
    waker: Option<Waker>,
}

impl<T> Unpin for JoinFuture<T> {}

impl<T> IntoFuture for JoinHandle<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<T>;

    fn into_future(self) -> JoinFuture<T> {
        JoinFuture {
            key: Some(self.key),
            waker: None,
        }
    }
}

impl<T> Future for JoinFuture<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    /// When it is polled again after it was ready; for a task of the parent in a forked child.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.key.as_mut().is_some_and(|key| key.task().is_done()) || self.register(context) {
            self.waker = None;
            return match self.key.take() {
                Some(key) => Poll::Ready(key.take()),
                None => panic!("sward: a JoinFuture was polled after it had been ready"),
            };
        }
        Poll::Pending
    }
}

impl<T> JoinFuture<T> {
    /// Leaves the waker in the joiner's slot. `true`: the task has ended.
    fn register(&mut self, context: &Context<'_>) -> bool {
        let Self {
            key: Some(key),
            waker,
        } = self
        else {
            return true;
        };
        if fork::is_lost(key.task().id()) {
            panic!("{}", fork::TEXT);
        }
        if let Some(old) = waker {
            if old.will_wake(context.waker()) {
                // Still in the slot, or the end has taken it and wakes us.
                return false;
            }
            *waker = None;
            if !key.clear_joiner() {
                // The end is reading the slot: it must not be written again.
                return true;
            }
        }
        let fresh = context.waker().clone();
        if !key.set_joiner(Waiter::Async(Box::new(fresh.clone()))) {
            return true;
        }
        *waker = Some(fresh);
        false
    }
}

impl<T> Drop for JoinFuture<T> {
    fn drop(&mut self) {
        if let (Some(key), Some(_)) = (&mut self.key, &self.waker) {
            key.clear_joiner();
        }
    }
}

impl<T> fmt::Debug for JoinFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "JoinFuture({})", park::describe(key.task())),
            None => f.write_str("JoinFuture(taken)"),
        }
    }
}
