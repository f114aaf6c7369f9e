//! A flag that can be waited for.

use std::fmt;
use std::time::{Duration, Instant};

use super::select::{Arm, Slot};
use super::short_lock::ShortLock;
use super::wait_queue::{Settled, Ticket, Unwinding, Wait, WaitQueue, Waited, leave, wake_all};
use crate::clock;
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// A flag that tasks and threads can wait for (gevent's `Event`).
///
/// Whoever waits while it is set goes on, even if it is cleared before that one runs.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use sward_runtime::{spawn, sync::Event};
/// let ready = Arc::new(Event::new());
/// let task = { let ready = ready.clone(); spawn(move || ready.wait()) };
/// ready.set();
/// task.join().unwrap();
/// ```
pub struct Event {
    state: ShortLock<State>,
}

struct State {
    set: bool,
    queue: WaitQueue<()>,
}

impl Event {
    /// Returns an event that is not set.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            state: ShortLock::new(State {
                set: false,
                queue: WaitQueue::new(),
            }),
        }
    }

    /// Returns an event that is not set.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            state: ShortLock::new(State {
                set: false,
                queue: WaitQueue::new(),
            }),
        }
    }

    /// Sets the flag and wakes all who wait.
    ///
    /// # Blocking
    /// Never parks.
    pub fn set(&self) {
        wake_all(
            &self.state,
            |state| &mut state.queue,
            |state| state.set = true,
        );
    }

    /// Clears the flag.
    pub fn clear(&self) {
        self.state.lock().set = false;
    }

    /// Returns whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.state.lock().set
    }

    /// Waits until the flag is set.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Event`]; honours kill and `timeout`. In a task that unwinds it
    /// blocks the worker (`docs/caveats.md`).
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until the flag is set, for at most `limit`. Returns whether it was.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(clock::deadline(limit))
    }

    /// Waits until the flag is set or `deadline` has passed. Returns whether it was set.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Some(deadline))
    }

    /// Returns an arm of a [`select!`](crate::select) that waits until the flag is set.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting {
            event: self,
            place: None,
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        park::checkpoint();
        let state = self.state.lock();
        if state.set {
            return true;
        }
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::Event, self),
            deadline,
            unwinding: Unwinding::InLine,
        };
        let waited = match wait.line_up(state, None) {
            Ok(parked) => {
                parked.switch();
                leave(parked, &self.state, |state| &mut state.queue, || false)
            }
            Err(waited) => waited,
        };
        matches!(waited, Waited::Woken(_))
    }
}

/// An arm that waits for an event; see [`Event::waiting`].
#[must_use = "an arm does nothing outside of select!"]
pub struct Waiting<'a> {
    event: &'a Event,
    place: Option<Ticket>,
}

impl Arm for Waiting<'_> {
    type Output = ();

    fn attempt(&mut self) -> Option<()> {
        self.event.is_set().then_some(())
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.event.state.lock();
        self.place = Some(slot.queue_in(&mut state.queue, None));
        state.set
    }

    fn leave(&mut self, chosen: bool) -> Option<()> {
        let place = self.place.take()?;
        let settled = self.event.state.lock().queue.settle(place);
        (chosen && matches!(settled, Settled::Gone)).then_some(())
    }
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (set, waiting) = (state.set, state.queue.len());
        drop(state);
        f.debug_struct("Event")
            .field("set", &set)
            .field("waiting", &waiting)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::hub::current;
    use crate::park::park;
    use crate::spawn::spawn;
    use crate::sync::{Mutex, unbounded};
    use crate::time::sleep;

    /// A thread may be woken late for a wait that has ended: the next one goes on.
    #[test]
    fn a_late_wake_does_not_end_the_next_wait_of_a_thread() {
        let event = Arc::new(Event::new());
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock();
        let (sender, receiver) = unbounded();
        let task = spawn(park);
        let joined = task.task();
        let (tell, told) = channel();
        let waiting = {
            let (event, mutex) = (event.clone(), mutex.clone());
            std::thread::spawn(move || {
                tell.send(current::thread_parker()).unwrap();
                event.wait();
                assert!(event.is_set());
                drop(mutex.lock());
                assert_eq!(receiver.recv(), Ok(1));
                task.join().unwrap();
                let begun = Instant::now();
                sleep(Duration::from_millis(20));
                assert!(begun.elapsed() >= Duration::from_millis(20));
            })
        };
        let parker = told.recv().unwrap();
        let pester = |until: &dyn Fn() -> bool| {
            let mut left = 2000;
            while left > 0 || !until() {
                parker.wake();
                std::thread::yield_now();
                left -= 1;
            }
        };
        pester(&|| !event.state.lock().queue.is_empty());
        event.set();
        pester(&|| format!("{mutex:?}").contains("waiting: 1"));
        drop(guard);
        pester(&|| true);
        sender.send(1).unwrap();
        pester(&|| true);
        joined.unpark();
        pester(&|| waiting.is_finished());
        waiting.join().unwrap();
    }
}
