//! [`Monitor`]: the events of a socket, for those who want to see them; [`Monitors`]: the socket's
//! end of that.
//!
//! Each monitor has a queue of its own with a bound. A full one loses its oldest event, counts it,
//! and says so first thing ([`EventKind::Missed`]); the socket never waits for a monitor. While
//! there is none, an event costs the socket one load and is not made.
//!
//! Invariants
//! - A queue has at most `capacity` events, and `missed` counts those that were pushed out since it
//!   was last said.
//! - `MonitorStopped` is the last event; what comes behind it is "closed".
//!
//! Rejected: one ring for all monitors (their capacities would be one); a channel (a full one
//! refuses the newest).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sward_runtime::__private::Epoch;
use sward_runtime::sync::{Arm, Lines, ShortLock, WaitError};
use sward_runtime::{WaitKind, WaitReason, now};

use crate::error::Error;
use crate::event::{Event, EventKind};

/// The only line of a queue.
const EVENT: usize = 0;

struct Queue {
    events: VecDeque<Event>,
    capacity: usize,
    missed: u64,
    /// Nothing more comes.
    closed: bool,
    /// The monitor has gone.
    abandoned: bool,
}

impl Queue {
    /// The next event, or that there will be none; `None`: not now.
    fn take(&mut self) -> Option<Result<Event, Error>> {
        if self.missed > 0 {
            let count = std::mem::take(&mut self.missed);
            return Some(Ok(Event::new(EventKind::Missed { count })));
        }
        match self.events.pop_front() {
            Some(event) => Some(Ok(event)),
            None if self.closed => Some(Err(Error::Closed)),
            None => None,
        }
    }

    fn is_ready(&self) -> bool {
        self.missed > 0 || !self.events.is_empty() || self.closed
    }
}

type Shared = Arc<Lines<Queue, 1>>;

/// The events of a socket as they happen (libzmq's `zmq_socket_monitor`).
///
/// It has a bound: who is too slow loses the oldest events, and is told how many
/// ([`EventKind::Missed`]). A socket never waits for its monitors. Several tasks may receive from
/// one; each event goes to one of them. Another monitor of the same socket gets all events, too.
///
/// The last event is [`EventKind::MonitorStopped`]; dropping a monitor ends it.
pub struct Monitor {
    queue: Shared,
    epoch: Epoch,
}

impl Monitor {
    /// Receives the next event.
    ///
    /// # Blocking
    /// Parks while there is none; honours kill and `timeout`.
    ///
    /// # Errors
    /// [`Error::Closed`] behind the last event; [`Error::Unwinding`] in a task that unwinds and
    /// would have to wait.
    ///
    /// # Cancel safety
    /// Killed or timed out, it has received nothing.
    pub fn recv(&self) -> Result<Event, Error> {
        self.take(None)
    }

    /// As [`recv`](Self::recv), for at most so long.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// [`Error::TimedOut`]; as [`recv`](Self::recv).
    pub fn recv_timeout(&self, limit: Duration) -> Result<Event, Error> {
        self.take(now().checked_add(limit))
    }

    /// Receives an event that is there now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if there is none; [`Error::Closed`].
    pub fn try_recv(&self) -> Result<Event, Error> {
        if self.epoch.is_stale() {
            return Err(Error::forked());
        }
        self.queue.lock().take().unwrap_or(Err(Error::WouldBlock))
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that receives.
    pub fn receiving(&self) -> impl Arm<Output = Result<Event, Error>> + '_ {
        self.queue
            .arm::<EVENT, _, _>(Queue::is_ready, |queue| queue.take())
    }

    /// Returns an iterator that receives until the socket is closed.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    pub fn iter(&self) -> MonitorIter<'_> {
        MonitorIter { monitor: self }
    }

    fn take(&self, deadline: Option<Instant>) -> Result<Event, Error> {
        if self.epoch.is_stale() {
            return Err(Error::forked());
        }
        let reason = WaitReason::new(WaitKind::Other("monitor"), 0);
        match self
            .queue
            .wait::<EVENT, _>(reason, || deadline, |queue| queue.take())
        {
            Ok(taken) => taken,
            Err(WaitError::TimedOut) => Err(Error::TimedOut),
            Err(_) => Err(Error::Unwinding),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        queue.abandoned = true;
        let events = std::mem::take(&mut queue.events);
        drop(queue);
        drop(events);
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.lock();
        let (events, missed, closed) = (queue.events.len(), queue.missed, queue.closed);
        drop(queue);
        f.debug_struct("Monitor")
            .field("events", &events)
            .field("missed", &missed)
            .field("closed", &closed)
            .finish_non_exhaustive()
    }
}

/// Receives events until the socket is closed; see [`Monitor::iter`].
#[derive(Debug)]
pub struct MonitorIter<'a> {
    monitor: &'a Monitor,
}

impl Iterator for MonitorIter<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.monitor.recv().ok()
    }
}

impl<'a> IntoIterator for &'a Monitor {
    type Item = Event;
    type IntoIter = MonitorIter<'a>;

    fn into_iter(self) -> MonitorIter<'a> {
        self.iter()
    }
}

/// The monitors of a socket.
pub(crate) struct Monitors {
    /// There is one.
    any: AtomicBool,
    state: ShortLock<State>,
}

#[derive(Default)]
struct State {
    queues: Vec<Shared>,
    stopped: bool,
}

impl Monitors {
    pub(crate) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            state: ShortLock::new(State::default()),
        }
    }

    /// Returns a monitor that keeps so many events, at least one; it sees what happens from now on.
    pub(crate) fn open(&self, capacity: usize) -> Monitor {
        let queue = Arc::new(Lines::new(Queue {
            events: VecDeque::new(),
            capacity: capacity.max(1),
            missed: 0,
            closed: false,
            abandoned: false,
        }));
        let mut state = self.state.lock();
        if state.stopped {
            queue.lock().closed = true;
        } else {
            state.queues.push(queue.clone());
            self.any.store(true, Relaxed);
        }
        Monitor {
            queue,
            epoch: Epoch::current(),
        }
    }

    /// Tells the monitors of an event, which is made only if there are any.
    #[inline]
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.any.load(Relaxed) {
            self.tell(event(), false);
        }
    }

    /// Says that the socket is closed; there are no more events.
    pub(crate) fn stop(&self) {
        self.tell(Event::new(EventKind::MonitorStopped), true);
    }

    #[cold]
    fn tell(&self, event: Event, last: bool) {
        let mut pushed_out = Vec::new();
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        state.queues.retain(|queue| {
            let mut queue = queue.lock();
            if queue.abandoned {
                return false;
            }
            if queue.events.len() == queue.capacity {
                pushed_out.extend(queue.events.pop_front());
                queue.missed += 1;
            }
            queue.events.push_back(event.clone());
            if last {
                queue.closed = true;
                queue.held().wake_all(EVENT);
            } else {
                queue.held().wake_one(EVENT);
            }
            true
        });
        state.stopped = last;
        self.any.store(!state.queues.is_empty() && !last, Relaxed);
        let gone = if last {
            std::mem::take(&mut state.queues)
        } else {
            Vec::new()
        };
        drop(state);
        drop((pushed_out, gone));
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Monitors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitors")
            .field("open", &self.state.lock().queues.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sward_runtime::__private::test_body;
    use sward_runtime::sync::after;
    use sward_runtime::{Runtime, select, spawn, yield_now};

    use super::*;

    fn retried(n: u64) -> Event {
        let pause = Duration::from_millis(n);
        Event::new(EventKind::ConnectRetried { pause })
    }

    fn numbers(monitor: &Monitor) -> Vec<(u32, u64)> {
        let all = std::iter::from_fn(|| monitor.try_recv().ok());
        all.map(|event| (event.code(), event.value())).collect()
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told() {
        let monitors = Monitors::new();
        let (small, large) = (monitors.open(2), monitors.open(100));
        (1..=5).for_each(|n| monitors.emit(|| retried(n)));
        assert_eq!(numbers(&small), [(0, 3), (4, 4), (4, 5)]);
        assert_eq!(numbers(&large), (1..=5).map(|n| (4, n)).collect::<Vec<_>>());
        assert!(matches!(small.try_recv(), Err(Error::WouldBlock)));
        monitors.stop();
        monitors.emit(|| unreachable!("it is stopped"));
        assert_eq!(numbers(&small), [(0x400, 0)]);
        assert!(matches!(small.recv(), Err(Error::Closed)));
        assert!(matches!(monitors.open(1).recv(), Err(Error::Closed)));
        // What came before the end can still be had.
        assert_eq!(large.iter().count(), 1);
    }

    #[test]
    fn without_a_monitor_no_event_is_made() {
        let (monitors, made) = (Monitors::new(), Cell::new(0));
        let emit = || {
            monitors.emit(|| {
                made.set(made.get() + 1);
                retried(1)
            });
        };
        emit();
        let monitor = monitors.open(0);
        emit();
        assert_eq!((made.get(), numbers(&monitor)), (1, vec![(4, 1)]));
        drop(monitor);
        // The first event after that notices.
        emit();
        emit();
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn waiting_killed_timed_out_and_selected() {
        test_body(
            Duration::from_secs(60),
            "waiting_killed_timed_out_and_selected",
            || {
                for workers in [1, 2] {
                    Runtime::builder()
                        .workers(workers)
                        .build()
                        .unwrap()
                        .run(|| {
                            let monitors = Arc::new(Monitors::new());
                            let monitor = Arc::new(monitors.open(10));
                            let short = Duration::from_millis(1);
                            assert!(matches!(monitor.recv_timeout(short), Err(Error::TimedOut)));
                            let waiting = |n| {
                                let queue = monitor.queue.clone();
                                while queue.waiting(EVENT) < n {
                                    yield_now();
                                }
                            };
                            let receiver =
                                |monitor: Arc<Monitor>| move || monitor.recv().map(|e| e.value());
                            let killed = spawn(receiver(monitor.clone()));
                            waiting(1);
                            let lives = spawn(receiver(monitor.clone()));
                            waiting(2);
                            killed.kill();
                            assert!(killed.join().is_err());
                            let teller = monitors.clone();
                            spawn(move || teller.emit(|| retried(7))).join().unwrap();
                            assert_eq!(lives.join().unwrap().unwrap(), 7);
                            let teller = monitors.clone();
                            let telling = spawn(move || teller.emit(|| retried(8)));
                            let value = select! {
                                event = monitor.receiving() => event.unwrap().value(),
                                _ = after(Duration::from_secs(50)) => 0,
                            };
                            assert_eq!(value, 8);
                            telling.join().unwrap();
                            let all =
                                spawn(move || monitor.iter().map(|e| e.code()).collect::<Vec<_>>());
                            drop(monitors);
                            assert_eq!(all.join().unwrap(), [0x400]);
                        });
                }
            },
        );
    }
}
