//! Pools: groups with a bound.
//!
//! A place that was taken ends up with a member or is given back (`family::Place`); no code of the
//! user runs in between. The maps are in `imap.rs`.

use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::join::JoinHandle;
use crate::spawn::{self, Builder};
use crate::structure::family::{Family, Place};
use crate::structure::group::{Group, MemberFailed};
use crate::structure::imap::{Flow, Imap, ImapUnordered};
use crate::task::Task;

/// A group of at most so many tasks at a time (gevent's `Pool`).
///
/// Who spawns into a full pool waits for a place, first come, first served. Everything else is as
/// in a [`Group`]; dropping the pool kills its members.
///
/// A member that spawns into its own pool and joins what it spawned can wait for ever: its place
/// may be the last. [`map`](Self::map), [`imap`](Self::imap) and
/// [`imap_unordered`](Self::imap_unordered) do not have that trouble.
///
/// # Examples
/// ```
/// use sward_runtime::{Pool, run, yield_now};
/// run(|| {
///     let pool = Pool::new(3);
///     for _ in 0..10 {
///         pool.spawn(yield_now); // parks while three run
///         assert!(pool.len() <= 3);
///     }
///     pool.join();
///     assert_eq!(pool.free_count(), 3);
/// });
/// ```
pub struct Pool {
    group: Group,
    size: usize,
}

/// The pool had no place; this is the closure that was to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PoolFull<F>(pub F);

impl<F> fmt::Debug for PoolFull<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolFull(..)")
    }
}

impl<F> fmt::Display for PoolFull<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool has no free place: wait_available waits for one")
    }
}

impl<F> std::error::Error for PoolFull<F> {}

impl Pool {
    /// Returns a pool for `size` tasks at a time.
    ///
    /// # Panics
    /// If `size` is 0: nothing could ever run in it.
    pub fn new(size: usize) -> Self {
        Self::named(size, "")
    }

    /// As [`new`](Self::new), with a name, for dumps and messages.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn named(size: usize, name: impl Into<String>) -> Self {
        assert!(
            size > 0,
            "sward: a pool of size 0 has no place, so whoever spawns into it would wait for ever; \
             give it a size of 1 at least"
        );
        // The greatest number means a family without places.
        let size = size.min(usize::MAX - 1);
        Self {
            group: Group::bounded("pool", name.into(), size),
            size,
        }
    }

    fn family(&self) -> &Arc<Family> {
        self.group.family()
    }

    /// Starts a member; waits for a place if the pool is full.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Pool`](crate::WaitKind::Pool); honours kill and `timeout`, and
    /// nothing is started then.
    ///
    /// # Panics
    /// In a task that unwinds, if the pool is full: nothing may park then.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.place();
        spawn::spawn_owned(f, Location::caller(), |task| place.fill(task))
    }

    /// As [`spawn`](Self::spawn), with a name, a stack size or a worker.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.place();
        builder.spawn_owned(f, Location::caller(), |task| place.fill(task))
    }

    fn place(&self) -> Place<'_> {
        match Place::wait(self.family(), None) {
            Some(place) => place,
            None => panic!(
                "sward: a spawn into a full pool, in a task that unwinds: nothing may park then; \
                 use try_spawn, or move the work into a new task with sward::defer"
            ),
        }
    }

    /// Starts a member if there is a place.
    ///
    /// # Errors
    /// [`PoolFull`] gives the closure back.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{Pool, park, run};
    /// run(|| {
    ///     let pool = Pool::new(1);
    ///     pool.spawn(park);
    ///     let back = pool.try_spawn(|| 7).unwrap_err();
    ///     assert_eq!((back.0)(), 7);
    /// });
    /// ```
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_in(Place::take(self.family()), f, Location::caller())
    }

    /// As [`spawn`](Self::spawn), but waits for a place for at most `limit`.
    ///
    /// # Errors
    /// [`PoolFull`] gives the closure back.
    #[track_caller]
    pub fn spawn_timeout<F, T>(&self, limit: Duration, f: F) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let site = Location::caller();
        // Beyond what the clock can tell is without a limit, and then only unwinding refuses.
        self.spawn_in(Place::wait(self.family(), clock::deadline(limit)), f, site)
    }

    fn spawn_in<F, T>(
        &self,
        place: Option<Place<'_>>,
        f: F,
        site: &'static Location<'static>,
    ) -> Result<JoinHandle<T>, PoolFull<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match place {
            Some(place) => Ok(spawn::spawn_owned(f, site, |task| place.fill(task))),
            None => Err(PoolFull(f)),
        }
    }

    /// Returns how many members there may be at a time.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of places that are free.
    pub fn free_count(&self) -> usize {
        self.family().free_places()
    }

    /// Waits until a place is free, without taking it.
    ///
    /// It stands in line with those who spawn. Who comes next may take the place first.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Pool`](crate::WaitKind::Pool); honours kill and `timeout`. In a task
    /// that unwinds it returns at once.
    pub fn wait_available(&self) {
        drop(Place::wait(self.family(), None));
    }

    /// As [`wait_available`](Self::wait_available), for at most `limit`. Returns whether there was
    /// a place.
    pub fn wait_available_timeout(&self, limit: Duration) -> bool {
        Place::wait(self.family(), clock::deadline(limit)).is_some()
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.group.len()
    }

    /// Returns whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// Returns the members; see [`Group::tasks`].
    pub fn tasks(&self) -> Vec<Task> {
        self.group.tasks()
    }

    /// Waits until there are no members; see [`Group::join`].
    ///
    /// # Panics
    /// In a member: it would wait for itself.
    pub fn join(&self) {
        self.group.join();
    }

    /// As [`join`](Self::join), for at most `limit`; see [`Group::join_timeout`].
    pub fn join_timeout(&self, limit: Duration) -> bool {
        self.group.join_timeout(limit)
    }

    /// Waits until there are no members, or one did not return; see [`Group::try_join`].
    ///
    /// # Errors
    /// [`MemberFailed`] names it.
    pub fn try_join(&self) -> Result<(), MemberFailed> {
        self.group.try_join()
    }

    /// Asks all members to end, for good; see [`Group::kill`]. Who waits for a place gets one, and
    /// what it spawns never runs.
    pub fn kill(&self) {
        self.group.kill();
    }

    /// As [`kill`](Self::kill), and waits for that; see [`Group::kill_timeout`].
    pub fn kill_timeout(&self, limit: Duration) -> bool {
        self.group.kill_timeout(limit)
    }

    /// Gives the pool up and lets its members go on.
    pub fn detach(self) {
        self.group.detach();
    }

    /// Calls `f` with each item, each in a member of its own, and returns the results in order
    /// (gevent's `map`).
    ///
    /// Items are pulled as places come free, by the caller. Several maps may share a pool. Called
    /// in a member, it runs items in that member's place when there is no other.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Completion`](crate::WaitKind::Completion) and
    /// [`WaitKind::Pool`](crate::WaitKind::Pool); honours kill and `timeout`.
    ///
    /// # Panics
    /// If an item panics, or its task is killed: at once, with the payload of the first one; the
    /// others are killed, and not waited for. If the items' iterator panics: in the same way.
    ///
    /// # Cancel safety
    /// Killed or timed out here, what runs is killed, and not waited for.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{Pool, run};
    /// let squares = run(|| Pool::new(4).map(0..100, |n| n * n));
    /// assert_eq!(squares.iter().sum::<i32>(), 328_350);
    /// ```
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let items = items.into_iter();
        let mut flow = Flow::new(self.family(), usize::MAX, items, f, Location::caller());
        let mut results = Vec::new();
        while let Some((number, result)) = flow.next() {
            let at = number as usize;
            if results.len() <= at {
                results.resize_with(at + 1, || None);
            }
            match result {
                Ok(value) => results[at] = Some(value),
                Err(e) => {
                    drop(flow);
                    e.resume();
                }
            }
        }
        results.into_iter().flatten().collect()
    }

    /// As [`map`](Self::map), but returns an iterator over the results, in the order of the items;
    /// it works only while it is asked (gevent's `imap`).
    ///
    /// Each `next` first pulls items and starts them, until as many are out as the pool has places
    /// (see [`Imap::buffer`]); then it waits for the result that is next. So the items may be
    /// without end. An item that panics, or whose task is killed, is an `Err`, and the others go on.
    /// Dropped half-way, it kills what runs, and does not wait for it.
    ///
    /// # Blocking
    /// `next` parks as [`map`](Self::map) does, and wherever the items' own iterator does.
    ///
    /// # Panics
    /// `next` goes on with a panic of the items' iterator.
    ///
    /// # Cancel safety
    /// A kill or a time-out in `next` takes no item and no result; what runs is killed when the
    /// iterator is dropped.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{Pool, run};
    /// run(|| {
    ///     let pool = Pool::new(4);
    ///     let first: Vec<_> = pool.imap(1.., |n| 100 / (n - 3)).take(4).collect();
    ///     let first: Vec<_> = first.into_iter().map(Result::ok).collect();
    ///     assert_eq!(first, [Some(-50), Some(-100), None, Some(100)]);
    /// });
    /// ```
    #[track_caller]
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<'_, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let (items, site) = (items.into_iter(), Location::caller());
        Imap::new(Flow::new(self.family(), self.size, items, f, site))
    }

    /// As [`imap`](Self::imap), with the results as they come.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_runtime::{Pool, run, sleep};
    /// run(|| {
    ///     let pool = Pool::new(2);
    ///     let naps = pool.imap_unordered([20, 1], |ms| {
    ///         sleep(Duration::from_millis(ms));
    ///         ms
    ///     });
    ///     assert_eq!(naps.map(Result::unwrap).collect::<Vec<_>>(), [1, 20]);
    /// });
    /// ```
    #[track_caller]
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<'_, I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let (items, site) = (items.into_iter(), Location::caller());
        ImapUnordered::new(Flow::new(self.family(), self.size, items, f, site))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("is", &format_args!("{}", self.family().label()))
            .field("size", &self.size)
            .field("members", &self.len())
            .finish_non_exhaustive()
    }
}
