//! Objects that have tasks of their own, and those that tell many: `Pool`, `Group`, `scope`,
//! `broadcast`, `watch`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use sward_runtime::sync::{ShortLock, broadcast, watch};
use sward_runtime::{Group, JoinHandle, Pool, now, scope, sleep, yield_now};

use super::holders::Counted;
use super::objects::{Object, count, short, wrong};
use super::world::{MS, Me, Value, Waiting, World};

/// What a child fails with.
struct Fails;

/// What a child does, and for how long; `value` shows that it is dropped. It ends by itself.
fn child(choice: u64, value: Value, running: Arc<AtomicUsize>) -> impl FnOnce() + Send {
    move || {
        let _value = value;
        struct Runs(Arc<AtomicUsize>);
        impl Drop for Runs {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        running.fetch_add(1, Relaxed);
        let _runs = Runs(running);
        match (choice >> 12) % 4 {
            0 => {}
            1 => yield_now(),
            2 => sleep(short(choice)),
            _ => {
                yield_now();
                sleep(MS);
            }
        }
        if (choice >> 16).is_multiple_of(4) {
            resume_unwind(Box::new(Fails));
        }
    }
}

// ---- pool and group -----------------------------------------------------------------------------

/// A pool, or a group: that is a pool with more places than there are tasks.
enum Family {
    Pool(Pool),
    Group(Group),
}

pub(crate) struct Crew {
    id: usize,
    size: usize,
    /// The last is in use; those before it were killed.
    crews: ShortLock<Vec<Arc<Family>>>,
    running: Arc<AtomicUsize>,
    /// Maps under way: a kill would make them panic.
    maps: AtomicUsize,
}

impl Crew {
    pub(crate) fn make_pool(id: usize, seed: u64) -> Arc<dyn Object> {
        Self::make(id, 1 + (seed % 2) as usize)
    }

    pub(crate) fn make_group(id: usize, _: u64) -> Arc<dyn Object> {
        Self::make(id, usize::MAX)
    }

    fn make(id: usize, size: usize) -> Arc<dyn Object> {
        Arc::new(Self {
            id,
            size,
            crews: ShortLock::new(vec![Self::family(size)]),
            running: Arc::default(),
            maps: AtomicUsize::new(0),
        })
    }

    fn family(size: usize) -> Arc<Family> {
        Arc::new(match size {
            usize::MAX => Family::Group(Group::new()),
            n => Family::Pool(Pool::new(n)),
        })
    }

    fn spawn(&self, me: &Me, choice: u64, crew: &Family) -> Option<JoinHandle<()>> {
        let (begun, limit) = (now(), short(choice));
        let act = child(choice, me.make(), self.running.clone());
        match crew {
            Family::Group(group) => Some(group.spawn(act)),
            Family::Pool(pool) => match choice % 4 {
                0 | 1 => Some(me.wait(self.id, "place", 0, || pool.spawn(act)).0),
                2 => {
                    let (task, _) = me.wait(self.id, "limited", 0, || {
                        let task = pool.spawn_timeout(limit, act);
                        task.inspect_err(|_| me.on_time(begun, limit)).ok()
                    });
                    task
                }
                _ => pool.try_spawn(act).ok(),
            },
        }
    }

    fn join(&self, me: &Me, choice: u64, n: usize, crew: &Family) {
        let (begun, limit) = (now(), short(choice));
        match choice % 4 {
            0 | 1 => me.wait(self.id, "join", n, || crew.join()).0,
            2 => {
                let done = me.wait(self.id, "limited", n, || match crew {
                    Family::Pool(pool) => pool.join_timeout(limit),
                    Family::Group(group) => group.join_timeout(limit),
                });
                if !done.0 {
                    me.on_time(begun, limit);
                }
            }
            _ => drop(me.wait(self.id, "join", n, || match crew {
                Family::Pool(pool) => pool.try_join(),
                Family::Group(group) => group.try_join(),
            })),
        }
    }
}

impl Family {
    fn join(&self) {
        match self {
            Self::Pool(pool) => pool.join(),
            Self::Group(group) => group.join(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Pool(pool) => pool.len(),
            Self::Group(group) => group.len(),
        }
    }

    fn kill(&self) {
        match self {
            Self::Pool(pool) => pool.kill(),
            Self::Group(group) => group.kill(),
        }
    }
}

impl Object for Crew {
    fn name(&self) -> &'static str {
        if self.size == usize::MAX {
            "group"
        } else {
            "pool"
        }
    }

    fn act(&self, me: &Me, choice: u64) {
        let (n, crew) = {
            let crews = self.crews.lock();
            let n = crews.len() - 1;
            (n, crews[n].clone())
        };
        match (choice >> 4) % 16 {
            0 if self.maps.load(Relaxed) == 0 => {
                self.crews.lock().push(Self::family(self.size));
                crew.kill();
            }
            1..=3 => self.join(me, choice, n, &crew),
            4 if let Family::Pool(pool) = &*crew => {
                me.wait(self.id, "place", n, || pool.wait_available()).0
            }
            5 if let Family::Pool(pool) = &*crew => {
                let items = 0..(choice >> 20) % 4;
                let double = |n| {
                    yield_now();
                    2 * n
                };
                let _map = Counted::new(&self.maps, 1);
                let want: Vec<_> = items.clone().map(|n| 2 * n).collect();
                let (got, _) = me.wait(self.id, "map", n, || pool.map(items, double));
                if got != want {
                    me.world.fail(format!("{got:?} mapped, not {want:?}"));
                }
            }
            _ => {
                let task = self.spawn(me, choice, &crew);
                let running = self.running.load(Relaxed);
                // Those of a pool that was killed may be about to end.
                if n == 0 && running > self.size {
                    me.world.fail(format!("{running} run in {}", self.id));
                }
                if let Some(task) = task {
                    match (choice >> 24) % 4 {
                        0 => drop(me.wait(self.id, "joined", n, || task.join())),
                        1 => task.kill(),
                        _ => {}
                    }
                }
            }
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        // Members end by themselves.
        wrong(!waiting.is_empty(), "there are places, and no members")?;
        wrong(self.running.load(Relaxed) > 0, "a member still runs")?;
        self.end_of_all()
    }

    fn end(&self, _: &World) -> Result<(), String> {
        self.end_of_all()
    }
}

impl Crew {
    fn end_of_all(&self) -> Result<(), String> {
        for crew in &*self.crews.lock() {
            wrong(crew.len() > 0, "there are members left")?;
            if let Family::Pool(pool) = &**crew
                && pool.free_count() != self.size
            {
                let free = pool.free_count();
                return Err(format!("{free} of {} places are free", self.size));
            }
        }
        Ok(())
    }
}

// ---- scope --------------------------------------------------------------------------------------

/// Makes scopes, whose children count themselves in what the parent owns.
pub(crate) struct Scopes {
    id: usize,
}

/// What the children borrow; looks when it goes whether one of them is left.
struct Lent {
    users: AtomicUsize,
    world: Arc<World>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let users = std::mem::replace(self.users.get_mut(), 1000);
        if users != 0 {
            self.world
                .fail(format!("{users} children use what has gone"));
        }
    }
}

impl Scopes {
    pub(crate) fn make(id: usize, _: u64) -> Arc<dyn Object> {
        Arc::new(Self { id })
    }

    fn scope(&self, me: &Me, choice: u64) {
        let lent = Lent {
            users: AtomicUsize::new(0),
            world: me.world.clone(),
        };
        let running = Arc::new(AtomicUsize::new(0));
        scope(|s| {
            for i in 0..=(choice >> 20) % 3 {
                // Until the child's closure is dropped.
                let using = Counted::new(&lent.users, 1);
                let act = child(choice >> (3 * i), me.make(), running.clone());
                let task = s.spawn(move || {
                    let _using = using;
                    act();
                });
                match (choice >> (30 + 2 * i)) % 4 {
                    0 => drop(task.join()),
                    1 => drop(task.join_timeout(short(choice))),
                    2 => task.kill(),
                    _ => drop(task),
                }
            }
            match (choice >> 40) % 8 {
                0 => s.kill(),
                1 => resume_unwind(Box::new(Fails)),
                2 => yield_now(),
                3 => sleep(short(choice)),
                _ => {}
            }
            me.point();
        });
        if running.load(Relaxed) > 0 {
            me.world.fail("a child runs after its scope".into());
        }
    }
}

impl Object for Scopes {
    fn name(&self) -> &'static str {
        "scope"
    }

    fn act(&self, me: &Me, choice: u64) {
        let scope = || catch_unwind(AssertUnwindSafe(|| self.scope(me, choice)));
        match me.wait(self.id, "scope", 0, scope).0 {
            Err(payload) if !payload.is::<Fails>() => resume_unwind(payload),
            _ => {}
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        // Children end by themselves.
        wrong(!waiting.is_empty(), "a scope does not end")
    }
}

// ---- broadcast ----------------------------------------------------------------------------------

/// A receiver for each task that has one, and the number of the value that it gets next.
type Slots<R> = ShortLock<Vec<Option<(R, u64)>>>;

/// Puts back what a task has taken out of its slot.
struct Borrowed<'a, R>(&'a Slots<R>, usize, Option<(R, u64)>);

impl<'a, R> Borrowed<'a, R> {
    /// `None`: the task has none, or is using it.
    fn new(slots: &'a Slots<R>, index: usize) -> Self {
        let mut all = slots.lock();
        if all.len() <= index {
            all.resize_with(index + 1, || None);
        }
        let taken = all[index].take();
        drop(all);
        Self(slots, index, taken)
    }
}

impl<R> Drop for Borrowed<'_, R> {
    fn drop(&mut self) {
        let taken = self.2.take();
        let mut all = self.0.lock();
        // When all are let go, it goes too.
        let rest = match all.get_mut(self.1) {
            Some(slot) => std::mem::replace(slot, taken),
            None => taken,
        };
        drop(all);
        drop(rest);
    }
}

pub(crate) struct News {
    id: usize,
    capacity: u64,
    sender: ShortLock<Option<broadcast::Sender<u64>>>,
    slots: Slots<broadcast::Receiver<u64>>,
    sent: AtomicU64,
    receivers: AtomicUsize,
}

impl News {
    pub(crate) fn make(id: usize, seed: u64) -> Arc<dyn Object> {
        let capacity = 1 + seed % 3;
        let (sender, _) = broadcast::channel(capacity as usize);
        Arc::new(Self {
            id,
            capacity,
            sender: ShortLock::new(Some(sender)),
            slots: ShortLock::new(Vec::new()),
            sent: AtomicU64::new(0),
            receivers: AtomicUsize::new(0),
        })
    }
}

impl Object for News {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn act(&self, me: &Me, choice: u64) {
        let sender = self.sender.lock().clone();
        let Some(sender) = sender else { return };
        let sent = self.sent.load(Relaxed);
        if (choice >> 4).is_multiple_of(3) {
            let receivers = self.receivers.load(Relaxed);
            let told = sender.send(sent).unwrap_or(0);
            self.sent.fetch_add(u64::from(told > 0), Relaxed);
            if told != receivers {
                let text = format!("{told} receivers are told, there are {receivers}");
                me.world.fail(text);
            }
            return;
        }
        let mut mine = Borrowed::new(&self.slots, me.index);
        if mine.2.is_none() {
            self.receivers.fetch_add(1, Relaxed);
            mine.2 = Some((sender.subscribe(), sent));
        } else if (choice >> 8).is_multiple_of(8) {
            self.receivers.fetch_sub(1, Relaxed);
            mine.2 = None;
        }
        drop(sender);
        let Some((receiver, next)) = &mut mine.2 else {
            return;
        };
        let (begun, limit, detail) = (now(), short(choice), *next as usize);
        use sward_runtime::sync::broadcast::{RecvError, RecvTimeoutError, TryRecvError};
        let missed = |e: RecvError| match e {
            RecvError::Lagged(n) => n,
            _ => 0,
        };
        let got = match choice % 4 {
            0 | 1 => {
                let recv = || receiver.recv().map_err(missed);
                me.wait(self.id, "recv", detail, recv).0
            }
            2 => {
                me.wait(self.id, "limited", detail, || {
                    match receiver.recv_timeout(limit) {
                        Ok(value) => Ok(value),
                        Err(RecvTimeoutError::Lagged(n)) => Err(n),
                        Err(RecvTimeoutError::TimedOut) => {
                            me.on_time(begun, limit);
                            Err(0)
                        }
                        Err(_) => Err(0),
                    }
                })
                .0
            }
            _ => match receiver.try_recv() {
                Ok(value) => Ok(value),
                Err(TryRecvError::Lagged(n)) => Err(n),
                Err(_) => Err(0),
            },
        };
        match got {
            Ok(value) if value == *next => *next += 1,
            Ok(value) => me.world.fail(format!("{value} was received, not {next}")),
            Err(missed) => *next += missed,
        }
        let (next, sent) = (*next, self.sent.load(Relaxed));
        if next > sent || receiver.len() as u64 != sent - next.max(sent - sent.min(self.capacity)) {
            let text = format!("{} values are left of {next}..{sent}", receiver.len());
            me.world.fail(text);
        }
        drop(mine);
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        wrong(count(waiting, "limited") > 0, "a time-out has not fired")?;
        let sent = self.sent.load(Relaxed) as usize;
        let late = waiting.iter().any(|w| w.1.detail < sent);
        wrong(late, "there is a value")?;
        let gone = self.sender.lock().is_none();
        wrong(gone && !waiting.is_empty(), "no sender is left")
    }

    fn release(&self, _: &World) {
        let sender = self.sender.lock().take();
        drop(sender);
    }

    fn end(&self, _: &World) -> Result<(), String> {
        let slots = std::mem::take(&mut *self.slots.lock());
        let left = slots.into_iter().flatten().count();
        wrong(
            left != self.receivers.load(Relaxed),
            "a receiver has gone astray",
        )
    }
}

// ---- watch --------------------------------------------------------------------------------------

/// A watched number, which only grows: it counts its changes.
pub(crate) struct Watched {
    id: usize,
    sender: ShortLock<Option<watch::Sender<u64>>>,
    slots: Slots<watch::Receiver<u64>>,
    changes: AtomicU64,
    receivers: AtomicUsize,
}

impl Watched {
    pub(crate) fn make(id: usize, _: u64) -> Arc<dyn Object> {
        let (sender, _) = watch::channel(0);
        Arc::new(Self {
            id,
            sender: ShortLock::new(Some(sender)),
            slots: ShortLock::new(Vec::new()),
            changes: AtomicU64::new(0),
            receivers: AtomicUsize::new(0),
        })
    }
}

impl Object for Watched {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn act(&self, me: &Me, choice: u64) {
        let sender = self.sender.lock().clone();
        let Some(sender) = sender else { return };
        match (choice >> 4) % 8 {
            0 | 1 => {
                // Another may come between, and then it is done again.
                sender.modify(|n| {
                    if (choice >> 12).is_multiple_of(2) {
                        yield_now();
                    }
                    *n += 1;
                });
                self.changes.fetch_add(1, Relaxed);
                return;
            }
            2 => {
                let old = sender.send_replace(*sender.borrow() + 1);
                if *old != self.changes.fetch_add(1, Relaxed) {
                    me.world.fail(format!("{old} was there, a change is lost"));
                }
                return;
            }
            3 => {
                me.wait(self.id, "closed", 0, || sender.closed());
                return;
            }
            _ => {}
        }
        let mut mine = Borrowed::new(&self.slots, me.index);
        if mine.2.is_none() {
            self.receivers.fetch_add(1, Relaxed);
            mine.2 = Some((sender.subscribe(), *sender.borrow()));
        } else if (choice >> 8).is_multiple_of(4) {
            mine.2 = None;
            if self.receivers.fetch_sub(1, Relaxed) == 1 {
                me.world.owe(self.id, "closed");
            }
        }
        drop(sender);
        let Some((receiver, seen)) = &mut mine.2 else {
            return;
        };
        let (begun, limit, detail) = (now(), short(choice), *seen as usize);
        let changed = match choice % 4 {
            0 | 1 => me.wait(self.id, "change", detail, || receiver.changed().is_ok()),
            _ => me.wait(self.id, "limited", detail, || {
                let changed = receiver.changed_timeout(limit);
                if matches!(changed, Err(watch::ChangedTimeoutError::TimedOut)) {
                    me.on_time(begun, limit);
                }
                changed.is_ok()
            }),
        };
        if changed.0 {
            let value = *receiver.borrow_and_update();
            if value <= *seen {
                me.world.fail(format!("{value} is no change of {seen}"));
            }
            *seen = value;
        }
        drop(mine);
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        wrong(count(waiting, "limited") > 0, "a time-out has not fired")?;
        let changes = self.changes.load(Relaxed);
        let newest = self.sender.lock().as_ref().map(|s| *s.borrow());
        wrong(
            newest.is_some_and(|n| n != changes),
            "a change is lost, or doubled",
        )?;
        let unseen = |w: &Waiting| w.what == "change" && w.detail as u64 != changes;
        wrong(waiting.iter().any(|w| unseen(&w.1)), "there is a change")?;
        let unwatched = self.receivers.load(Relaxed) == 0;
        wrong(unwatched && count(waiting, "closed") > 0, "nobody watches")
    }

    fn release(&self, _: &World) {
        let sender = self.sender.lock().take();
        drop(sender);
        let slots = std::mem::take(&mut *self.slots.lock());
        drop(slots);
    }
}
