//! [`Core`]: what all parts of a running server share, and how one waits for its end.
//!
//! Nouns: the *acceptor* is the task that takes connections (or datagrams); a *visit* is one of
//! them, from its acceptance until its handler is done with it; a *period* is a stretch of time in
//! which the acceptor takes them, ended by a pause or the end.
//!
//! - `gone` is set when the acceptor has ended, by whatever; from then on there are no new visits.
//! - `active` counts visits. A visit that ends drops its stream, then counts down, then wakes those
//!   who watch; who watches puts itself on the list before it looks at the counts. So nobody misses
//!   the last one.
//! - A handler that stops its own server waits neither for itself nor for others that do the same:
//!   they are on the list with their ids.
//! - A period is ended by cancelling its token, which unwinds the acceptor's wait. A connection
//!   that was accepted is never lost by that.
//!
//! Rejected: a `Pool` for the limit (a place must be had before the connection is taken out of the
//! kernel's queue, and that place be kept); killing the acceptor for a pause (a new one would run
//! in the runtime of whoever resumes).

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread::panicking;
use std::time::Instant;

use sward_runtime::sync::{Event, Semaphore, ShortLock};
use sward_runtime::{CancelToken, Group, Task, current};

use super::trouble::Trouble;

pub(super) type OnError = Box<dyn Fn(&Trouble<'_>) + Send + Sync>;
/// Closes the listener.
pub(super) type Close = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// What a server is told before it starts.
#[derive(Default)]
pub(super) struct Options {
    pub(super) name: String,
    pub(super) max: Option<usize>,
    pub(super) on_error: Option<OnError>,
    pub(super) stopping: CancelToken,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// How a visit ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    Finished,
    Failed,
    Panicked,
    Killed,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) ends: [AtomicU64; 4],
    pub(super) exhausted: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) dropped: AtomicU64,
}

pub(super) struct Core {
    pub(super) handlers: Group,
    /// Free places, if there is a limit.
    pub(super) places: Option<Semaphore>,
    pub(super) counts: Counts,
    active: AtomicUsize,
    /// Visits by worker.
    by_worker: Box<[AtomicUsize]>,
    gone: AtomicBool,
    /// Whether the acceptor runs a handler itself.
    pub(super) inline: AtomicBool,
    /// Set except in a pause.
    open: Event,
    state: ShortLock<State>,
    on_error: Option<OnError>,
    /// Cancelled when there will be no more visits.
    stopping: CancelToken,
}

struct State {
    period: CancelToken,
    paused: bool,
    /// There until the listener is closed.
    close: Option<Close>,
    acceptor: Option<Task>,
    fatal: Option<Arc<io::Error>>,
    watchers: Vec<Arc<Watcher>>,
}

struct Watcher {
    changed: Event,
    /// The task's id, if it is a handler's.
    member: Option<u64>,
}

impl Core {
    pub(super) fn new(options: Options, workers: usize, close: Close) -> Arc<Self> {
        let open = Event::new();
        open.set();
        Arc::new(Self {
            handlers: Group::named(options.name),
            places: options.max.map(Semaphore::new),
            counts: Counts::default(),
            active: AtomicUsize::new(0),
            by_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            gone: AtomicBool::new(false),
            inline: AtomicBool::new(false),
            open,
            state: ShortLock::new(State {
                period: CancelToken::new(),
                paused: false,
                close: Some(close),
                acceptor: None,
                fatal: None,
                watchers: Vec::new(),
            }),
            on_error: options.on_error,
            stopping: options.stopping,
        })
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(SeqCst)
    }

    /// How many visits have ended in this way.
    pub(super) fn ended(&self, how: End) -> u64 {
        self.counts.ends[how as usize].load(SeqCst)
    }

    pub(super) fn wants_errors(&self) -> bool {
        self.on_error.is_some()
    }

    /// Tells the program. A panic of its callback ends here, as one of a handler does.
    pub(super) fn tell(&self, trouble: &Trouble<'_>) {
        if let Some(on_error) = &self.on_error {
            drop(catch_unwind(AssertUnwindSafe(|| on_error(trouble))));
        }
    }

    // The acceptor's part.

    /// The period that is now; waits for its begin in a pause. `None`: there will be none.
    pub(super) fn period(&self) -> Option<CancelToken> {
        loop {
            let state = self.state.lock();
            state.close.as_ref()?;
            if !state.paused {
                return Some(state.period.clone());
            }
            drop(state);
            self.open.wait();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().close.is_none()
    }

    /// The worker with the fewest visits; `home` is preferred, where the acceptor is.
    pub(super) fn worker(&self, home: usize) -> usize {
        let all = 0..self.by_worker.len();
        let order = all.map(|i| (home + i) % self.by_worker.len());
        let least = order.min_by_key(|&i| self.by_worker[i].load(SeqCst));
        least.unwrap_or(home)
    }

    /// Says which task accepts.
    pub(super) fn set_acceptor(&self, task: Task) {
        self.state.lock().acceptor = Some(task);
    }

    /// A visit that was counted as killed has found no stack to run on.
    pub(super) fn never_began(&self) {
        self.counts.ends[End::Killed as usize].fetch_sub(1, SeqCst);
        self.counts.accepted.fetch_sub(1, SeqCst);
    }

    // The part of those who control it.

    /// Ends the period; the next one begins with [`resume`](Self::resume).
    pub(super) fn pause(&self) {
        let mut state = self.state.lock();
        if state.close.is_some() && !state.paused {
            state.paused = true;
            self.open.clear();
            let period = state.period.clone();
            drop(state);
            period.cancel();
        }
    }

    pub(super) fn resume(&self) {
        let mut state = self.state.lock();
        if state.close.is_some() && state.paused {
            state.paused = false;
            let _old = std::mem::take(&mut state.period);
            // Under the lock: a pause that came in between would be left open.
            self.open.set();
            drop(state);
        }
    }

    /// Closes the listener, if it is open, and ends the acceptor's waits.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        let Some(close) = state.close.take() else {
            return;
        };
        self.open.set();
        let period = state.period.clone();
        drop(state);
        // If it cannot be closed under the acceptor, it is closed when that lets go of it.
        let _ = close();
        period.cancel();
        self.stopping.cancel();
    }

    pub(super) fn fatal(&self) -> Option<Arc<io::Error>> {
        self.state.lock().fatal.clone()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(SeqCst)
    }

    /// Whether the caller is the task that accepts.
    pub(super) fn is_acceptor(&self) -> bool {
        let state = self.state.lock();
        let id = state.acceptor.as_ref().map(Task::id);
        drop(state);
        id.is_some_and(|id| id == current().id())
    }

    /// The caller's id, if it is the task of a handler.
    pub(super) fn member(&self) -> Option<u64> {
        let me = current().id();
        (me != 0 && self.handlers.tasks().iter().any(|task| task.id() == me)).then_some(me)
    }

    /// The handlers that wait in `stop`.
    pub(super) fn stoppers(&self) -> Vec<u64> {
        let state = self.state.lock();
        state.watchers.iter().filter_map(|w| w.member).collect()
    }

    pub(super) fn kill_acceptor(&self) {
        let task = self.state.lock().acceptor.clone();
        if let Some(task) = task {
            task.kill();
        }
    }

    /// Wakes those who watch, to look again.
    fn changed(&self) {
        let watchers = {
            let state = self.state.lock();
            if state.watchers.is_empty() {
                return;
            }
            state.watchers.clone()
        };
        watchers.iter().for_each(|w| w.changed.set());
    }
}

/// A place on the list of those who watch.
pub(super) struct Watching<'a> {
    core: &'a Core,
    watcher: Arc<Watcher>,
}

impl<'a> Watching<'a> {
    pub(super) fn new(core: &'a Core, member: Option<u64>) -> Self {
        let watcher = Arc::new(Watcher {
            changed: Event::new(),
            member,
        });
        core.state.lock().watchers.push(watcher.clone());
        // Other handlers need not wait for this one any more.
        if member.is_some() {
            core.changed();
        }
        Self { core, watcher }
    }

    /// Waits until `done`; returns whether it is. Never waits in a task that unwinds.
    pub(super) fn until(&self, deadline: Option<Instant>, done: impl Fn(&Core) -> bool) -> bool {
        loop {
            self.watcher.changed.clear();
            if done(self.core) {
                return true;
            }
            let woken = match deadline {
                _ if panicking() => false,
                Some(at) => self.watcher.changed.wait_deadline(at),
                None => {
                    self.watcher.changed.wait();
                    true
                }
            };
            if !woken {
                return done(self.core);
            }
        }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let mut state = self.core.state.lock();
        state.watchers.retain(|w| !Arc::ptr_eq(w, &self.watcher));
    }
}

/// A visit; counted until this is dropped. If nobody says how it ended, it was killed.
pub(super) struct Visit {
    core: Arc<Core>,
    worker: usize,
    end: End,
}

impl Visit {
    /// It has a place, if there is a limit.
    pub(super) fn begin(core: &Arc<Core>, worker: usize) -> Self {
        core.counts.accepted.fetch_add(1, SeqCst);
        core.active.fetch_add(1, SeqCst);
        core.by_worker[worker].fetch_add(1, SeqCst);
        Self {
            core: core.clone(),
            worker,
            end: End::Killed,
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn ends(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let core = &self.core;
        core.counts.ends[self.end as usize].fetch_add(1, SeqCst);
        core.by_worker[self.worker].fetch_sub(1, SeqCst);
        if let Some(places) = &core.places {
            places.add_permits(1);
        }
        core.active.fetch_sub(1, SeqCst);
        core.changed();
    }
}

/// The acceptor; when this is dropped it is gone, and the listener closed.
pub(super) struct Acceptor(pub(super) Arc<Core>);

impl Acceptor {
    /// Ends, because of this error if it is one.
    pub(super) fn end(self, result: io::Result<()>) {
        self.0.state.lock().fatal = result.err().map(Arc::new);
        self.0.close();
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let core = &self.0;
        if !core.is_closed() {
            let text =
                "the task that accepts was killed: its runtime ended, or the listener panicked";
            core.state.lock().fatal = Some(Arc::new(io::Error::other(text)));
            core.close();
        }
        core.gone.store(true, SeqCst);
        core.changed();
    }
}
