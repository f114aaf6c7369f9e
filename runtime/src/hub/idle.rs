//! What a worker does when it has nothing to run: look for tasks to take over, then sleep.
//!
//! Search (design R1): at most one worker of a runtime searches. It notes how many tasks each
//! other worker has been given so far, waits about `AGE`, and takes half of those that still
//! have not been started: they have waited that long, so their worker is busy. Tasks that talk
//! to each other and are started at once by their own worker are thus never split. A worker begins
//! to search when it sees such tasks as it runs out of work, or when a spawn finds it asleep and
//! nobody searching; who finds nothing for `PATIENCE` stops.
//!
//! Stop of a search against a spawn elsewhere (no lock, no fence in the spawn):
//! - searcher: 1. `searching = false`; 2. heavy barrier; 3. looks at all queues again;
//! - spawner: 1. puts the task in; 2. light barrier; 3. looks at `searching`.
//!
//! Sleep: on the mio poller, whose bell the inbox rings; until the next timer if there is one.
//! mio counts in whole milliseconds, so the end of a timed sleep is a `ppoll` on the poller's
//! descriptor.
//!
//! Virtual clock (design R9): before it sleeps the hub moves the time on to the next timer, if
//! nothing can happen before that one fires: no task is ready, no mail waits, no task was put in
//! from outside, nobody waits for a descriptor, and `RuntimeShared::outside` counts nothing that is
//! under way. Such a runtime has one worker: with several, a consistent look at all of them would
//! have to count every message in flight. The last one that ends outside: 1. wakes whom it serves;
//! 2. counts down; 3. rouses the worker. The worker: 1. says that it sleeps; 2. looks at the count;
//! 3. looks at the mail. So it neither misses the wake nor sleeps over the last of them.
//!
//! When every worker sleeps and no timer is left, only something outside can wake a task: the
//! worker that went last stays on watch for a second and then reports (`deadlock`).

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;

use super::Hub;
use super::cell::KILLED;
use super::watch;
use super::worker::{Published, WorkerShared};
use crate::clock::{self, Nanos};
use crate::membarrier;

/// How long a task must have waited before another worker takes it.
const AGE: Nanos = 50_000;
/// How long to stay awake for a reply.
const REPLY: Nanos = 30_000;
/// For how many jobs not to, at most, after it was in vain.
const MOST_SKIPPED: u32 = 255;
/// How long a searcher goes on without finding anything.
const PATIENCE: Nanos = 2_000_000;
/// Until a timer that is nearer than this a worker waits without telling anybody that it sleeps.
const NAP: Duration = Duration::from_millis(1);
/// The longest stretch that tasks may run before the poller is looked at.
const POLL_EVERY: Nanos = 500_000;
/// From here on a wait is first rounded down to milliseconds.
const ROUGH: Duration = Duration::from_millis(2);
/// Milliseconds after which it is time enough to look again.
const YEAR: u64 = 31_536_000_000;
/// A worker idle for that long gives memory back.
const TIDY_AFTER: Duration = Duration::from_millis(500);
/// Between two parts of that, each of which takes a millisecond.
const TIDY_PAUSE: Duration = Duration::from_millis(1);
/// Warm stacks that an idle worker keeps.
const KEEP_WARM: usize = 256;

/// The most events fetched in one go.
const EVENTS: usize = 512;

/// The poller and its buffer.
pub(crate) struct Sleeper {
    poll: mio::Poll,
    events: mio::Events,
    published: &'static Published,
    polled: Nanos,
    /// Whether there may be anything to give back.
    untidy: bool,
}

impl Sleeper {
    pub(crate) fn new(poll: mio::Poll, published: &'static Published) -> Self {
        Self {
            poll,
            events: mio::Events::with_capacity(EVENTS),
            published,
            polled: 0,
            untidy: false,
        }
    }

    /// Looks at the poller without waiting, if that has not been done for a while.
    pub(crate) fn poll_if_due(&mut self, now: Nanos, published: &Published) {
        self.untidy = true;
        if now.saturating_sub(self.polled) >= POLL_EVERY {
            self.polled = now;
            Published::add(&published.polls, 1);
            self.poll(Some(Duration::ZERO));
        }
    }

    /// Whether no event waits to be told of.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes the events out, so that nothing is borrowed while others are called.
    pub(super) fn take_events(&mut self) -> mio::Events {
        std::mem::replace(&mut self.events, mio::Events::with_capacity(0))
    }

    /// Puts the buffer back.
    pub(super) fn put_events(&mut self, mut events: mio::Events) {
        events.clear();
        self.events = events;
    }

    pub(super) fn poll(&mut self, timeout: Option<Duration>) {
        if let Err(e) = self.poll.poll(&mut self.events, timeout)
            && e.kind() != io::ErrorKind::Interrupted
        {
            crate::report::line(&format!("sward: the poller failed: {e}"));
        }
        let found = self.events.iter().count() as u64;
        self.published.tallies.events.count(found, 1);
    }

    /// Waits until the bell rings, something is ready, or about `timeout` has passed (`false`).
    fn wait(&mut self, timeout: Option<Duration>) -> bool {
        if let Some(timeout) = timeout
            && timeout < ROUGH
        {
            if !ppoll(self.poll.as_raw_fd(), timeout) {
                return false;
            }
            self.poll(Some(Duration::ZERO));
            return true;
        }
        // One system call; what is left of a millisecond is waited for after it.
        let whole = |t: Duration| Duration::from_millis(t.as_millis().try_into().unwrap_or(YEAR));
        self.poll(timeout.map(whole));
        timeout.is_none() || !self.is_empty()
    }
}

/// Waits for `fd` to be readable with the precision of the kernel. `false`: it timed out.
fn ppoll(fd: i32, timeout: Duration) -> bool {
    let mut fds = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // The kernel refuses seconds beyond its own range; a year is long enough to look again.
    let seconds = timeout.as_secs().min(31_536_000);
    let limit = libc::timespec {
        tv_sec: seconds.cast_signed(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: one pollfd and a timespec that outlive the call; no signal mask.
    let n = unsafe { libc::ppoll(&raw mut fds, 1, &raw const limit, std::ptr::null()) };
    n != 0
}

/// Whether a worker that has nothing to do stays awake for the reply to a job that it has just
/// given to another thread.
///
/// Falling asleep and being woken costs 10-50 us, a job on a warm cache less than one. So the
/// worker gives way for `REPLY` at most, once for each job; and if that was in vain, not for the
/// next jobs, up to `MOST_SKIPPED` of them: jobs that take long cost next to nothing.
#[derive(Default)]
pub(crate) struct Replies {
    expected: Cell<bool>,
    skip: Cell<u32>,
    vain: Cell<u32>,
}

impl Replies {
    /// A job has been given away.
    pub(crate) fn expect(&self) {
        match self.skip.get() {
            0 => self.expected.set(true),
            n => self.skip.set(n - 1),
        }
    }

    fn judge(&self, came: bool) {
        let vain = if came {
            0
        } else {
            (self.vain.get() * 2 + 1).min(MOST_SKIPPED)
        };
        self.vain.set(vain);
        self.skip.set(vain);
    }
}

impl Hub {
    /// Gives way to other threads until a reply comes. `false`: none came in time.
    #[cold]
    fn await_reply(&self) -> bool {
        let patience = Duration::from_nanos(REPLY);
        let left = self.until_next(Some(patience)).unwrap_or(patience);
        let until = clock::real_deadline(left);
        let came = loop {
            if !self.shared.inbox.is_empty() || !self.rt.injector.is_empty() {
                break true;
            }
            if until.is_none_or(|until| clock::real_now() >= until) {
                break false;
            }
            std::thread::yield_now();
        };
        self.replies.judge(came);
        came
    }

    /// Waits for something to do.
    pub(super) fn idle(&self) {
        if let Some(at) = self.next_jump() {
            self.shared.clock.move_on(at);
            return;
        }
        if self.replies.expected.take() && self.await_reply() {
            return;
        }
        if self.rt.workers.len() > 1 {
            let told = self.shared.told_to_search.swap(false, Relaxed);
            let may_search =
                told || (self.unstarted_elsewhere() && !self.rt.searching.swap(true, AcqRel));
            if may_search && self.search() {
                return self.dispatch();
            }
        }
        if self.poll_before_sleep() {
            self.now.set(clock::real_nanos());
        } else if self.until_next(None).is_some_and(|t| t < NAP) {
            self.doze(None);
        } else {
            self.sleep();
        }
        // Not before the worker counts as awake: see `sight/deadlock.rs`.
        self.dispatch();
    }

    /// Told to search, but busy again: somebody else may.
    #[inline]
    pub(super) fn decline_search(&self) {
        let told = &self.shared.told_to_search;
        if told.load(Relaxed) && told.swap(false, Relaxed) {
            self.rt.searching.store(false, Relaxed);
            self.rt.call_searcher();
        }
    }

    /// Where a virtual clock may go now that nothing is ready. It may be short of the next timer
    /// (`Timers::next_deadline`); the next one then follows, and no task has seen it.
    fn next_jump(&self) -> Option<Nanos> {
        // In this order: what ended outside has sent its mail before it counted down.
        if !self.shared.clock.is_virtual()
            || self.rt.outside() > 0
            || self.shared.poller.is_waited_for()
        {
            return None;
        }
        let quiet = self.shared.inbox.is_empty() && self.rt.injector.is_empty();
        self.timers.borrow().next_deadline().filter(|_| quiet)
    }

    /// The real time until the next timer, the end of a stop, or `at_most`, whichever is first.
    fn until_next(&self, at_most: Option<Duration>) -> Option<Duration> {
        let timer = match self.shared.clock.is_virtual() {
            true => None,
            false => self.timers.borrow().next_deadline(),
        };
        let next = [timer, self.stop_at.get()].into_iter().flatten().min();
        let next = next.map(|at| Duration::from_nanos(at.saturating_sub(clock::real_nanos())));
        [next, at_most].into_iter().flatten().min()
    }

    /// Sleeps at most `at_most` (and never past a timer). `true`: something has come.
    fn doze(&self, at_most: Option<Duration>) -> bool {
        let inbox = &self.shared.inbox;
        if !inbox.begin_sleep() {
            return true;
        }
        let timeout = self.until_next(at_most);
        let come = !self.rt.injector.is_empty()
            || timeout.is_some_and(|t| t.is_zero())
            || self.next_jump().is_some()
            || self.sleeper.borrow_mut().wait(timeout);
        inbox.end_sleep();
        watch::stir();
        // What was slept does not count as the length of a batch.
        self.now.set(clock::real_nanos());
        come
    }

    fn sleep(&self) {
        let rt = &*self.rt;
        rt.asleep.fetch_add(1, AcqRel);
        let mut missed = false;
        if rt.workers.len() > 1 {
            // Whoever put a task in before it could see us asleep has not called anybody.
            membarrier::heavy();
            missed = !rt.searching.load(Relaxed) && self.unstarted_elsewhere();
        }
        if !missed {
            self.sleep_on();
        }
        rt.asleep.fetch_sub(1, AcqRel);
    }

    fn sleep_on(&self) {
        let mut idle = TIDY_AFTER;
        while self.sleeper.borrow().untidy {
            if self.doze(Some(idle)) || self.timer_is_due() {
                return;
            }
            self.tidy();
            idle = TIDY_PAUSE;
        }
        let wakes = self.timers.borrow().len() > 0 || self.rt.outside() > 0;
        if wakes || self.stop_at.get().is_some() {
            self.doze(None);
        } else {
            (self.rt.upcalls.watch)(&self.rt, &|at_most| self.doze(at_most));
        }
    }

    fn timer_is_due(&self) -> bool {
        self.until_next(None).is_some_and(|t| t.is_zero())
    }

    /// Gives back what a crowd that has gone left behind.
    fn tidy(&self) {
        let more = self.stacks.borrow_mut().trim(KEEP_WARM).more;
        self.ready.borrow_mut().shrink();
        self.timers.borrow_mut().shrink();
        self.sleeper.borrow_mut().untidy = more;
    }

    /// Looks for tasks to take over; holds the `searching` flag until it returns.
    /// `true`: there is something to do.
    fn search(&self) -> bool {
        let rt = &*self.rt;
        let mut pause = AGE;
        let mut last_seen = clock::real_nanos();
        let mut seen = Vec::with_capacity(rt.workers.len());
        let found = loop {
            seen.clear();
            seen.extend(rt.workers.iter().map(|w| w.unstarted.put()));
            let any = self.unstarted_elsewhere();
            let now = clock::real_nanos();
            if any {
                last_seen = now;
                pause = AGE;
            } else if now - last_seen > PATIENCE {
                break false;
            } else {
                pause = (pause * 2).min(PATIENCE / 4);
            }
            if self.doze(Some(Duration::from_nanos(pause))) || self.timer_is_due() {
                break true;
            }
            if self.take_old(&seen) {
                break true;
            }
        };
        rt.searching.store(false, Relaxed);
        membarrier::heavy();
        if self.unstarted_elsewhere() {
            // Put in while we stopped (then we go round again), or more than we took (then yet
            // another worker may have a look).
            rt.call_searcher();
            return true;
        }
        found
    }

    fn unstarted_elsewhere(&self) -> bool {
        // What waits for a stack would wait here as well.
        if self.rt.budget.starved() {
            return false;
        }
        let other = |w: &&&WorkerShared| !std::ptr::eq(**w, self.shared);
        self.rt
            .workers
            .iter()
            .filter(other)
            .any(|w| w.unstarted.len() > 0)
    }

    /// Takes half of the tasks that were waiting when `seen` was noted and still are.
    fn take_old(&self, seen: &[u64]) -> bool {
        if self.rt.budget.starved() {
            return false;
        }
        for (worker, &put) in self.rt.workers.iter().zip(seen) {
            let old = worker.unstarted.waiting_since(put);
            if old == 0 || std::ptr::eq(*worker, self.shared) {
                continue;
            }
            let tasks = worker.unstarted.take_oldest(old.div_ceil(2));
            let n = self.shared.unstarted.extend(tasks.into_iter());
            if n > 0 {
                if self.stop_at.get().is_some() {
                    self.shared.unstarted.for_each(|task| {
                        task.raise(KILLED);
                    });
                }
                self.ready
                    .borrow_mut()
                    .push_shared(u32::try_from(n).unwrap_or(u32::MAX));
                Published::add(&self.shared.published.stolen, n as u64);
                return true;
            }
        }
        false
    }
}
