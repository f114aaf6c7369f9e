//! Many tasks, taken as they end.
//!
//! Nouns: [`Watched`] is a set of handles, each with a *number* of its own; [`Ends`] is what the
//! ends are told to, and where the one who takes them waits.
//!
//! Each watched task has the watcher in its joiner slot (`hub/cell.rs`), which is a word and needs
//! no memory; so watching n tasks costs O(n), and giving them up takes the watcher out again: a
//! task that goes on alone keeps nothing.
//!
//! Invariant: a number is told once, after its task has ended; it leaves `handles` when its end is
//! taken, and is not given out again before.
//!
//! Rejected: a listener for each task (four allocations, and they stay until the task ends).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::cancel;
use crate::clock;
use crate::error::{JoinError, TimedOut};
use crate::fork;
use crate::hub::current::{self, Caller};
use crate::hub::waiter::{Late, Told, Waiter};
use crate::join::{JoinHandle, join_all, join_all_timeout};
use crate::park;
use crate::sync::select::{Arm, Slot, Tried, select_any};
use crate::sync::short_lock::ShortLock;
use crate::sync::wait_queue::{Ticket, Unwinding, Wait, WaitQueue, Waited, leave};
use crate::wait_reason::{WaitKind, WaitReason};

/// The ends that were told and not yet taken.
struct Ends(ShortLock<Untaken>);

struct Untaken {
    numbers: VecDeque<u32>,
    /// The one who takes them.
    queue: WaitQueue<()>,
}

impl Told for Arc<Ends> {
    fn told(&self, number: u32) {
        let mut state = self.0.lock();
        state.numbers.push_back(number);
        let late = match state.queue.pop() {
            Some((first, _)) => first.wake(),
            None => Late::NOBODY,
        };
        drop(state);
        late.wake();
    }
}

impl Ends {
    /// Takes an end, of `tasks` that are watched. `None`: there was none by the deadline.
    fn take(&self, tasks: usize, deadline: Option<Instant>) -> Option<u32> {
        loop {
            park::checkpoint();
            let mut state = self.0.lock();
            if let Some(number) = state.numbers.pop_front() {
                return Some(number);
            }
            let wait = Wait {
                lock: &self.0,
                queue: |state| &mut state.queue,
                reason: || WaitReason::new(WaitKind::Completion, tasks as u64),
                deadline,
                unwinding: Unwinding::InLine,
            };
            let waited = match wait.line_up(state, None) {
                Ok(parked) => {
                    parked.switch();
                    leave(parked, &self.0, |state| &mut state.queue, || false)
                }
                Err(waited) => waited,
            };
            let over = match waited {
                Waited::Woken(_) => false,
                Waited::TimedOut(_) => deadline.is_some(),
                Waited::Refused(_) => true,
            };
            if over {
                return None;
            }
        }
    }
}

/// An arm that takes an end.
struct Ended<'a> {
    ends: &'a Ends,
    place: Option<Ticket>,
}

impl Arm for Ended<'_> {
    type Output = u32;

    fn attempt(&mut self) -> Option<u32> {
        self.ends.0.lock().numbers.pop_front()
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.ends.0.lock();
        self.place = Some(slot.queue_in(&mut state.queue, None));
        !state.numbers.is_empty()
    }

    fn leave(&mut self, chosen: bool) -> Option<u32> {
        let place = self.place.take()?;
        let mut state = self.ends.0.lock();
        state.queue.settle(place);
        if chosen {
            state.numbers.pop_front()
        } else {
            None
        }
    }
}

/// What a watched task ended with, by its tag.
pub(crate) type Tagged<T> = (u64, Result<T, JoinError>);

/// Handles whose ends are taken as they come. Each has a tag, which says to the owner what it is.
pub(crate) struct Watched<T> {
    handles: Slab<(u64, JoinHandle<T>)>,
    ends: Arc<Ends>,
    told: Arc<Box<dyn Told>>,
    /// Tells whether this was made before a fork.
    id: u64,
}

impl<T> Watched<T> {
    pub(crate) fn new() -> Self {
        let ends = Arc::new(Ends(ShortLock::new(Untaken {
            numbers: VecDeque::new(),
            queue: WaitQueue::new(),
        })));
        Self {
            handles: Slab::new(),
            told: Arc::new(Box::new(ends.clone())),
            ends,
            id: fork::task_ids(1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Watches one more.
    ///
    /// # Panics
    /// If it is the calling task, which would wait for itself; in a forked child.
    pub(crate) fn add(&mut self, tag: u64, handle: JoinHandle<T>) {
        if let Caller::Task(_, fiber) = current::caller() {
            assert!(
                fiber.header().id != handle.id(),
                "{handle:?} waits for its own end, which would never come"
            );
        }
        if fork::is_lost(handle.id()) && !handle.is_finished() {
            panic!("{}", fork::TEXT);
        }
        let number = self.handles.insert((tag, handle));
        // More than u32::MAX handles do not fit into memory.
        let told = Waiter::Told(self.told.clone(), number as u32);
        if !self.handles[number].1.key.set_joiner(told) {
            self.ends.0.lock().numbers.push_back(number as u32);
        }
    }

    /// Takes the next one that has ended. `None`: none is left, or none has ended by the deadline.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Option<Tagged<T>> {
        if self.handles.is_empty() {
            return None;
        }
        if fork::is_lost(self.id) {
            panic!("{}", fork::TEXT);
        }
        let number = self.ends.take(self.handles.len(), deadline)?;
        Some(self.settle(number))
    }

    fn settle(&mut self, number: u32) -> Tagged<T> {
        let (tag, handle) = self.handles.remove(number as usize);
        (tag, handle.key.take())
    }

    /// As [`next`](Self::next), unless `other` is ready first; something is watched.
    pub(crate) fn next_or<A: Arm>(&mut self, other: A) -> Result<Tagged<T>, Option<A::Output>> {
        let ended = Ended {
            ends: &self.ends,
            place: None,
        };
        let (mut ended, mut other) = (Tried::new(ended), Tried::new(other));
        select_any(&mut [&mut ended, &mut other], true, false);
        match ended.into_output() {
            Some(number) => Ok(self.settle(number)),
            None => Err(other.into_output()),
        }
    }

    /// Asks all that are left to end; does not wait.
    pub(crate) fn kill(&self) {
        cancel::shield(|| self.handles.iter().for_each(|(_, (_, h))| h.kill()));
    }

    /// Gives up watching.
    fn take_all(&mut self) -> Slab<(u64, JoinHandle<T>)> {
        let mut handles = std::mem::take(&mut self.handles);
        for (_, (_, handle)) in &mut handles {
            // In vain, if it has just ended: then its number is told to nobody.
            handle.key.clear_joiner();
        }
        handles
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

/// A task that has ended: its index among the handles, and what its join gives.
pub type TaskEnd<T> = (usize, Result<T, JoinError>);

/// The ends of tasks as they come; see [`as_completed`].
pub struct Completed<T> {
    watched: Watched<T>,
}

/// Returns an iterator over the tasks in the order in which they end (gevent's `iwait`): each with
/// its index among the handles, and its result.
///
/// Dropped half-way, it lets the tasks that are left go on alone, and leaves nothing behind with
/// them; [`into_rest`](Completed::into_rest) gives their handles back.
///
/// # Blocking
/// `next` parks under [`WaitKind::Completion`]; honours kill and `timeout`. In a task that unwinds
/// it blocks the worker (`docs/caveats.md`).
///
/// # Panics
/// If one of the tasks is the calling one.
///
/// # Cancel safety
/// A kill or a time-out in `next` takes no result.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{as_completed, run, sleep, spawn};
/// run(|| {
///     let tasks = [20, 1].map(|ms| spawn(move || sleep(Duration::from_millis(ms))));
///     let order: Vec<_> = as_completed(tasks).map(|(index, _)| index).collect();
///     assert_eq!(order, [1, 0]);
/// });
/// ```
pub fn as_completed<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Completed<T> {
    let mut watched = Watched::new();
    for (handle, index) in handles.into_iter().zip(0..) {
        watched.add(index, handle);
    }
    Completed { watched }
}

/// The index among the handles.
fn index(tag: u64) -> usize {
    tag as usize
}

impl<T> Completed<T> {
    /// As `next`, for at most `limit`. `Ok(None)`: no task is left.
    ///
    /// # Errors
    /// [`TimedOut`] if no task has ended by then.
    pub fn next_timeout(&mut self, limit: Duration) -> Result<Option<TaskEnd<T>>, TimedOut> {
        self.next_until(clock::deadline(limit))
    }

    /// As [`next_timeout`](Self::next_timeout), until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`] if no task has ended by then.
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<TaskEnd<T>>, TimedOut> {
        self.next_until(Some(deadline))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<TaskEnd<T>>, TimedOut> {
        if self.watched.len() == 0 {
            return Ok(None);
        }
        match self.watched.next(deadline) {
            Some((tag, result)) => Ok(Some((index(tag), result))),
            None => Err(TimedOut),
        }
    }

    /// Gives the handles back whose results have not been taken, each with its index.
    pub fn into_rest(mut self) -> Vec<(usize, JoinHandle<T>)> {
        let handles = self.watched.take_all();
        let mut rest: Vec<_> = handles
            .into_iter()
            .map(|(_, (tag, handle))| (index(tag), handle))
            .collect();
        rest.sort_unstable_by_key(|(index, _)| *index);
        rest
    }
}

impl<T> Iterator for Completed<T> {
    type Item = TaskEnd<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, result) = self.watched.next(None)?;
        Some((index(tag), result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.watched.len();
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Completed<T> {}

impl<T> fmt::Debug for Completed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completed")
            .field("left", &self.watched.len())
            .finish_non_exhaustive()
    }
}

/// Waits for the first task to end: its index, its result, and the handles of the others.
///
/// # Blocking
/// As [`as_completed`].
///
/// # Panics
/// Without any handle; and as [`as_completed`].
///
/// # Cancel safety
/// Killed or timed out here, the tasks go on alone.
///
/// # Examples
/// ```
/// use sward_runtime::{park, run, spawn, wait_any};
/// run(|| {
///     let tasks = [spawn(|| { park(); 1 }), spawn(|| 2)];
///     let (index, result, rest) = wait_any(tasks);
///     assert_eq!((index, result.unwrap(), rest.len()), (1, 2, 1));
/// });
/// ```
pub fn wait_any<T>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
) -> (usize, Result<T, JoinError>, Vec<JoinHandle<T>>) {
    let mut completed = as_completed(handles);
    let Some((index, result)) = completed.next() else {
        panic!("sward: wait_any without any task: it would wait for ever")
    };
    (index, result, handles_of(completed))
}

fn handles_of<T>(completed: Completed<T>) -> Vec<JoinHandle<T>> {
    let rest = completed.into_rest().into_iter();
    rest.map(|(_, handle)| handle).collect()
}

/// Waits for `n` tasks to end, or for all if there are fewer (gevent's `wait` with a count): in the
/// order in which they ended, each with its index; and the handles of the others.
///
/// # Blocking
/// As [`as_completed`].
///
/// # Cancel safety
/// Killed or timed out here, the tasks go on alone, and results taken so far are dropped.
pub fn wait_n<T>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
    n: usize,
) -> (Vec<TaskEnd<T>>, Vec<JoinHandle<T>>) {
    let mut completed = as_completed(handles);
    let ended = completed.by_ref().take(n).collect();
    (ended, handles_of(completed))
}

/// Asks all tasks to end, waits for that, and returns what they ended with, in the order of the
/// handles (gevent's `killall`). One that has not started never runs.
///
/// # Blocking
/// As [`join_all`]. A task that never parks, or holds its kill back, is waited for.
///
/// # Cancel safety
/// Killed or timed out here, the tasks go on to their ends alone.
///
/// # Examples
/// ```
/// use sward_runtime::{kill_all, park, run, spawn};
/// run(|| {
///     let results = kill_all((0..10).map(|_| spawn(park)));
///     assert!(results.into_iter().all(|r| r.unwrap_err().is_killed()));
/// });
/// ```
pub fn kill_all<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<Result<T, JoinError>> {
    join_all(killed(handles))
}

/// As [`kill_all`], but waits for at most `limit`: a task that has not ended by then gives its
/// handle back.
pub fn kill_all_timeout<T>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
    limit: Duration,
) -> Vec<Result<Result<T, JoinError>, JoinHandle<T>>> {
    join_all_timeout(killed(handles), limit)
}

fn killed<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<JoinHandle<T>> {
    let handles: Vec<_> = handles.into_iter().collect();
    cancel::kill_together(|| handles.iter().for_each(JoinHandle::kill));
    handles
}
