//! A question to workers, and what a worker tells of its tasks.
//!
//! A [`Question`] goes to each worker by mail; each answers between two slices. One that does not
//! answer in time is described from what it publishes (design R7). The roll of the tasks is told in
//! portions, so that a million of them do not keep a worker from its work; each portion is a sign
//! of life to the one who asks.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use super::waiter::Waiter;
use crate::clock::Nanos;
use crate::sync::short_lock::ShortLock;
use crate::wait_reason::WaitReason;

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The group or scope that it belongs to.
    pub(crate) owner: Option<(u64, String)>,
    pub(crate) trace: Traced,
}

/// What is known of a task's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Traced {
    /// Nobody asked, or there is no stack yet.
    No,
    /// Its stack is so full that it could not be asked.
    NoRoom,
    /// The number of its return addresses in the [`Listing`].
    At(u32),
}

/// Which tasks to tell of, and what to do to them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RollCall {
    /// Only the task with that id.
    pub(crate) only: Option<u64>,
    /// With return addresses.
    pub(crate) traces: bool,
    pub(crate) kill: bool,
}

/// What a worker tells of its tasks.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) tasks: Vec<TaskInfo>,
    traces: Vec<Arc<[usize]>>,
    /// Most tasks of a crowd stand at the same place.
    numbers: HashMap<Arc<[usize]>, u32>,
}

impl Listing {
    /// Keeps the return addresses once.
    pub(crate) fn keep(&mut self, addresses: &[usize]) -> Traced {
        if addresses.is_empty() {
            return Traced::NoRoom;
        }
        if let Some(&number) = self.numbers.get(addresses) {
            return Traced::At(number);
        }
        let number = u32::try_from(self.traces.len()).unwrap_or(u32::MAX);
        let addresses: Arc<[usize]> = addresses.into();
        self.traces.push(addresses.clone());
        self.numbers.insert(addresses, number);
        Traced::At(number)
    }

    pub(crate) fn addresses(&self, trace: Traced) -> Option<&Arc<[usize]>> {
        match trace {
            Traced::At(number) => self.traces.get(number as usize),
            _ => None,
        }
    }
}

/// A roll that is being told.
pub(crate) struct Roll {
    pub(crate) question: Arc<Question<Listing>>,
    pub(crate) call: RollCall,
    pub(crate) told: Listing,
    /// Where to go on.
    pub(crate) cursor: Option<usize>,
}

impl Roll {
    pub(crate) fn new(question: Arc<Question<Listing>>, call: RollCall) -> Box<Self> {
        Box::new(Self {
            question,
            call,
            told: Listing::default(),
            cursor: None,
        })
    }
}

/// Answers of workers, by their numbers, and who waits for them.
pub(crate) struct Question<T> {
    answers: ShortLock<Answers<T>>,
}

struct Answers<T> {
    given: Vec<(usize, T)>,
    missing: usize,
    /// Signs of life from workers that are not done yet.
    lives: u64,
    asker: Option<Waiter>,
}

impl<T> Question<T> {
    /// A question to `workers` workers on behalf of `asker`.
    pub(crate) fn new(workers: usize, asker: Waiter) -> Self {
        let answers = Answers {
            given: Vec::new(),
            missing: workers,
            lives: 0,
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

    /// Whether somebody still waits for the answers.
    pub(crate) fn is_wanted(&self) -> bool {
        self.answers.lock().asker.is_some()
    }

    /// Says that a worker is at it.
    pub(crate) fn sign_of_life(&self) {
        self.answers.lock().lives += 1;
    }

    /// How many signs of life have come so far, and whether no answer is missing.
    pub(crate) fn lives(&self) -> (u64, bool) {
        let answers = self.answers.lock();
        (answers.lives, answers.missing == 0)
    }

    /// Takes what has come in.
    pub(crate) fn collect(&self) -> Vec<(usize, T)> {
        let mut answers = self.answers.lock();
        answers.asker = None;
        std::mem::take(&mut answers.given)
    }
}
