//! A question to workers, and what a worker tells of its tasks.
//!
//! A [`Question`] goes to each worker by mail; each answers between two slices. One that does not
//! answer in time is described from what it publishes (design R7).

use std::panic::Location;

use super::waiter::Waiter;
use crate::clock::Nanos;
use crate::sync::short_lock::ShortLock;
use crate::wait_reason::WaitReason;

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// Spawned, but not yet run; it waits for its turn or for a stack.
    Unstarted,
    /// Waits for its turn.
    Ready,
    /// Runs at this moment.
    Running,
    /// Waits for something: see the reason.
    Parked,
}

/// One task as the dump tells it.
#[derive(Clone, Debug)]
pub(crate) struct TaskInfo {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) state: TaskState,
    pub(crate) reason: WaitReason,
    /// Since when it has been in that state, as far as the worker looks at the clock.
    pub(crate) since: Nanos,
    pub(crate) killed: bool,
}

/// Answers of workers, by their numbers, and who waits for them.
pub(crate) struct Question<T> {
    answers: ShortLock<Answers<T>>,
}

struct Answers<T> {
    given: Vec<(usize, T)>,
    missing: usize,
    asker: Option<Waiter>,
}

impl<T> Question<T> {
    /// A question to `workers` workers on behalf of `asker`.
    pub(crate) fn new(workers: usize, asker: Waiter) -> Self {
        let answers = Answers {
            given: Vec::new(),
            missing: workers,
            asker: Some(asker),
        };
        Self {
            answers: ShortLock::new(answers),
        }
    }

    /// Takes a worker's answer; the last one wakes the asker.
    pub(crate) fn answer(&self, worker: usize, answer: T) {
        let mut answers = self.answers.lock();
        answers.given.push((worker, answer));
        answers.missing = answers.missing.saturating_sub(1);
        let asker = if answers.missing == 0 {
            answers.asker.take()
        } else {
            None
        };
        drop(answers);
        if let Some(asker) = asker {
            asker.wake();
        }
    }

    /// Takes what has come in.
    pub(crate) fn collect(&self) -> Vec<(usize, T)> {
        let mut answers = self.answers.lock();
        answers.asker = None;
        std::mem::take(&mut answers.given)
    }
}
