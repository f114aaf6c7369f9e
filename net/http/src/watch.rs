//! [`Watch`]: the connections of a server that wait for a request. They are closed when they have
//! waited for too long, and when the server stops.
//!
//! A timer for each wait would cost more than parsing the request that ends it. So time is counted
//! in ticks by one task, which sleeps while there are no connections: a connection that begins to
//! wait writes down the tick, and one that has waited for more than its ticks is found at the next.
//! A closed connection is one whose reading half is shut down: a request that has just arrived is
//! still read and answered.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use sward_net::Stream;
use sward_runtime::sleep;
use sward_runtime::sync::{Event, ShortLock};

use crate::date;
use crate::limits::Limits;

/// A connection as its server sees it.
pub(crate) struct Live<S> {
    pub(crate) stream: Arc<S>,
    /// The tick since when it waits for the first byte of a request, times two, and 1 if that is
    /// its first request. 0 while it is busy.
    idle: AtomicU64,
}

impl<S> Live<S> {
    pub(crate) fn new(stream: S) -> Arc<Self> {
        let idle = AtomicU64::new(0);
        let stream = Arc::new(stream);
        Arc::new(Self { stream, idle })
    }

    pub(crate) fn idle_since(&self, tick: u64, first: bool) {
        self.idle.store(tick * 2 + u64::from(first), Relaxed);
    }

    pub(crate) fn is_busy(&self) {
        self.idle.store(0, Relaxed);
    }
}

/// What the connections look at.
pub(crate) struct Watch {
    /// Begins at 1.
    tick: AtomicU64,
    /// Of the clock, as of the last tick or the last new connection.
    second: AtomicU64,
    stopping: AtomicBool,
    /// There are connections, or the server stops.
    wanted: Event,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tick: AtomicU64::new(1),
            second: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            wanted: Event::new(),
        })
    }

    pub(crate) fn tick(&self) -> u64 {
        self.tick.load(Relaxed)
    }

    /// The second that it is, or was up to a tick ago.
    pub(crate) fn second(&self) -> u64 {
        self.second.load(Relaxed)
    }

    fn look_at_clock(&self) {
        self.second.store(date::second(), Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.wanted.set();
    }
}

/// The connections that there are.
pub(crate) struct Table<S> {
    watch: Arc<Watch>,
    all: ShortLock<All<S>>,
}

struct All<S> {
    last: u64,
    by_number: HashMap<u64, Arc<Live<S>>>,
}

impl<S: Stream> Table<S> {
    pub(crate) fn new(watch: Arc<Watch>) -> Arc<Self> {
        let all = All {
            last: 0,
            by_number: HashMap::new(),
        };
        let all = ShortLock::new(all);
        Arc::new(Self { watch, all })
    }

    pub(crate) fn enter(self: &Arc<Self>, live: Arc<Live<S>>) -> Entry<S> {
        self.watch.look_at_clock();
        let mut all = self.all.lock();
        all.last += 1;
        let number = all.last;
        all.by_number.insert(number, live);
        let first = all.by_number.len() == 1;
        drop(all);
        if first {
            self.watch.wanted.set();
        }
        let table = self.clone();
        Entry { table, number }
    }

    /// Closes those who wait, and have done so since before a tick.
    fn close_idle(&self, is_over: impl Fn(u64, bool) -> bool) {
        let is_idle = |live: &&Arc<Live<S>>| {
            let idle = live.idle.load(Relaxed);
            idle != 0 && is_over(idle / 2, idle % 2 == 1)
        };
        let over: Vec<_> = self
            .all
            .lock()
            .by_number
            .values()
            .filter(is_idle)
            .cloned()
            .collect();
        for live in over {
            // It may be gone already.
            let _ = live.stream.shutdown(Shutdown::Read);
        }
    }

    /// What the server's end means for its connections: those that wait for a request are closed,
    /// until there are none left.
    pub(crate) fn sweep(&self) {
        self.watch.stop();
        // A connection may become idle, or turn out to be, at any moment.
        let mut look = Duration::from_millis(1);
        while !self.all.lock().by_number.is_empty() {
            self.close_idle(|_, _| true);
            sleep(look);
            look = (look * 2).min(Duration::from_millis(100));
        }
    }

    /// Counts the ticks, until the server stops.
    pub(crate) fn count(&self, limits: &Limits) {
        let (first, later) = (limits.head_time, limits.idle_time);
        let shortest = first.min(later) / 8;
        let apart = shortest.clamp(Duration::from_millis(1), Duration::from_secs(1));
        let ticks = |limit: Duration| limit.as_nanos().div_ceil(apart.as_nanos()) as u64;
        let (first, later) = (ticks(first), ticks(later));
        while !self.watch.is_stopping() {
            self.watch.wanted.wait();
            sleep(apart);
            self.watch.look_at_clock();
            let tick = self.watch.tick.fetch_add(1, Relaxed) + 1;
            self.close_idle(|since, is_first| tick - since > if is_first { first } else { later });
            let all = self.all.lock();
            if all.by_number.is_empty() && !self.watch.is_stopping() {
                self.watch.wanted.clear();
            }
        }
    }
}

/// A connection's place in the table.
pub(crate) struct Entry<S> {
    table: Arc<Table<S>>,
    number: u64,
}

impl<S> Drop for Entry<S> {
    fn drop(&mut self) {
        let gone = self.table.all.lock().by_number.remove(&self.number);
        drop(gone);
    }
}
