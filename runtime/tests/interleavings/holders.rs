//! Objects that tasks hold, or meet at: `Semaphore`, `RwLock`, `Condvar`, `Barrier`, `OnceValue`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sward_runtime::sync::{Barrier, Condvar, Mutex, OnceValue, RwLock, Semaphore, ShortLock};
use sward_runtime::{now, sleep, yield_now};

use super::objects::{NOBODY, Object, count, heads, short, stay, wrong};
use super::world::{MS, Me, Waiting, World};

/// Adds to a number as long as it lives.
pub(crate) struct Counted<'a>(&'a AtomicUsize, usize);

impl<'a> Counted<'a> {
    pub(crate) fn new(number: &'a AtomicUsize, n: usize) -> Self {
        number.fetch_add(n, Relaxed);
        Self(number, n)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Relaxed);
    }
}

// ---- semaphore ----------------------------------------------------------------------------------

pub(crate) struct Permits {
    id: usize,
    bounded: bool,
    semaphore: Semaphore,
    total: AtomicUsize,
    held: AtomicUsize,
}

impl Permits {
    pub(crate) fn make(id: usize, seed: u64) -> Arc<dyn Object> {
        let total = 1 + (seed / 2 % 3) as usize;
        let bounded = seed.is_multiple_of(2);
        let semaphore = match bounded {
            true => Semaphore::bounded(total),
            false => Semaphore::new(total),
        };
        Arc::new(Self {
            id,
            bounded,
            semaphore,
            total: AtomicUsize::new(total),
            held: AtomicUsize::new(0),
        })
    }
}

impl Object for Permits {
    fn name(&self) -> &'static str {
        "semaphore"
    }

    fn act(&self, me: &Me, choice: u64) {
        let total = self.total.load(Relaxed);
        if (choice >> 4).is_multiple_of(16) && !self.bounded {
            self.total.fetch_add(1, Relaxed);
            self.semaphore.add_permits(1);
            return;
        }
        // One that is not bounded may be asked for more than there is.
        let most = if self.bounded { total } else { total + 1 };
        let n = match (choice >> 32) % 3 {
            0 => 1 + (choice >> 36) as usize % most,
            _ => 1,
        };
        let begun = now();
        let limit = short(choice);
        let (permit, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "acquire", n, || {
                self.semaphore.acquire_many(n).ok()
            }),
            2 => me.wait(self.id, "acquire", n, || {
                let permit = self.semaphore.acquire_many_timeout(n, limit);
                if permit.is_err() && !self.semaphore.is_closed() {
                    me.on_time(begun, limit);
                }
                permit.ok()
            }),
            _ => (self.semaphore.try_acquire_many(n).ok(), false),
        };
        let Some(permit) = permit else { return };
        if permit.count() != n {
            me.world.fail(format!("{permit:?} is not of {n}"));
        }
        // Goes before the permit.
        let held = Counted::new(&self.held, n);
        let (now_held, total) = (self.held.load(Relaxed), self.total.load(Relaxed));
        if now_held > total {
            let text = format!("{now_held} of {total} permits of {} are held", self.id);
            me.world.fail(text);
        }
        // One that comes earlier may have been granted his and be about to run: if they are there.
        for (index, w) in me.earlier(self.id) {
            if w.what == "acquire" && now_held + w.detail > total {
                let text = format!("task {} got permits before {index}: {w:?}", me.index);
                me.world.fail(text);
            }
        }
        me.point();
        stay(me, self.id, choice);
        me.point();
        if (choice >> 40).is_multiple_of(16) && !self.bounded {
            permit.forget();
            drop(held);
            self.total.fetch_sub(n, Relaxed);
        }
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let (held, total) = (self.held.load(Relaxed), self.total.load(Relaxed));
        let free = self.semaphore.available();
        wrong(count(waiting, "sleep") > 0, "a sleep does not end")?;
        wrong(held + free != total, "permits are lost, or too many")?;
        let heads = heads(waiting, &["acquire"]);
        let enough = heads.iter().all(|w| w.detail <= free);
        wrong(
            enough && !heads.is_empty(),
            "there are permits for the first in line",
        )
    }

    fn release(&self, _: &World) {
        self.semaphore.close();
    }

    fn end(&self, _: &World) -> Result<(), String> {
        let whole = self.semaphore.available() == self.total.load(Relaxed);
        wrong(!whole, "permits are lost at the end, or too many")
    }
}

// ---- rwlock -------------------------------------------------------------------------------------

pub(crate) struct Shared {
    id: usize,
    lock: RwLock<()>,
    readers: AtomicUsize,
    writers: AtomicUsize,
}

impl Shared {
    pub(crate) fn make(id: usize, _: u64) -> Arc<dyn Object> {
        Arc::new(Self {
            id,
            lock: RwLock::new(()),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
        })
    }

    /// This one is inside: `others` must not be, nor anybody wait before it that excludes it.
    fn entered(&self, me: &Me, others: usize, write: bool) {
        if others > 0 {
            let text = format!("task {} is in {} beside {others}", me.index, self.id);
            me.world.fail(text);
        }
        for (index, w) in me.earlier(self.id) {
            if w.what == "write" || write && w.what == "read" {
                let text = format!("task {} got in before {index}: {w:?}", me.index);
                me.world.fail(text);
            }
        }
    }

    fn stay(&self, me: &Me, choice: u64) {
        me.point();
        stay(me, self.id, choice);
        me.point();
    }

    /// Reads on until time passes, and so all have run who can: another reader that was first in
    /// line must be inside by then.
    fn hold_up(&self, me: &Me) {
        let head = || {
            let state = me.world.state.lock();
            let waits = state.tasks.iter().map(|task| task.waiting).enumerate();
            let here = waits.filter_map(|(index, w)| Some((index, w?)));
            let here: Vec<_> = here.filter(|w| w.1.object == self.id).collect();
            match heads(&here, &["read", "write"])[..] {
                [head] => Some(*head),
                _ => None,
            }
        };
        let before = head();
        me.wait(self.id, "sleep", 0, || sleep(MS));
        let advanced = me.world.state.lock().advanced;
        if let (Some(before), Some(after), false) = (before, head(), advanced)
            && (before.what, before.since) == ("read", after.since)
        {
            let text = format!("a reader waits for task {}: {after:?}", me.index);
            me.world.fail(text);
        }
    }

    fn read(&self, me: &Me, choice: u64) {
        let (begun, limit) = (now(), short(choice));
        let (guard, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "read", 0, || Some(self.lock.read())),
            2 => me.wait(self.id, "read", 0, || {
                let guard = self.lock.read_timeout(limit);
                if guard.is_err() {
                    me.on_time(begun, limit);
                }
                guard.ok()
            }),
            _ => (self.lock.try_read(), false),
        };
        let Some(_guard) = guard else { return };
        let _in = Counted::new(&self.readers, 1);
        self.entered(me, self.writers.load(Relaxed), false);
        if (choice >> 36).is_multiple_of(4) {
            self.hold_up(me);
        }
        self.stay(me, choice);
    }

    fn write(&self, me: &Me, choice: u64) {
        let (begun, limit) = (now(), short(choice));
        let (guard, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "write", 0, || Some(self.lock.write())),
            2 => me.wait(self.id, "write", 0, || {
                let guard = self.lock.write_timeout(limit);
                if guard.is_err() {
                    me.on_time(begun, limit);
                }
                guard.ok()
            }),
            _ => (self.lock.try_write(), false),
        };
        let Some(guard) = guard else { return };
        let others = self.writers.load(Relaxed) + self.readers.load(Relaxed);
        let inside = Counted::new(&self.writers, 1);
        self.entered(me, others, true);
        self.stay(me, choice);
        if (choice >> 40).is_multiple_of(4) {
            drop(inside);
            let _in = Counted::new(&self.readers, 1);
            let _guard = sward_runtime::sync::RwLockWriteGuard::downgrade(guard);
            self.stay(me, choice >> 8);
        }
    }
}

impl Object for Shared {
    fn name(&self) -> &'static str {
        "rwlock"
    }

    fn act(&self, me: &Me, choice: u64) {
        match (choice >> 4) % 5 {
            0 | 1 => self.write(me, choice),
            _ => self.read(me, choice),
        }
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let (readers, writers) = (self.readers.load(Relaxed), self.writers.load(Relaxed));
        wrong(count(waiting, "sleep") > 0, "a sleep does not end")?;
        let heads = heads(waiting, &["read", "write"]);
        if heads.is_empty() {
            return Ok(());
        }
        wrong(readers + writers == 0, "nobody is inside")?;
        let reads = heads.iter().all(|w| w.what == "read");
        wrong(reads && writers == 0, "the first in line only reads")
    }

    fn end(&self, _: &World) -> Result<(), String> {
        wrong(self.lock.try_write().is_none(), "it is not free at the end")
    }
}

// ---- condvar ------------------------------------------------------------------------------------

/// Tokens under a mutex: who brings one notifies one, who takes one waits for it. Those who only
/// wait for the next `notify_all` stand in a line of their own, since they would take
/// notifications and leave the token.
pub(crate) struct Tokens {
    id: usize,
    mutex: Mutex<usize>,
    brought: Condvar,
    signal: Condvar,
}

impl Tokens {
    pub(crate) fn make(id: usize, _: u64) -> Arc<dyn Object> {
        Arc::new(Self {
            id,
            mutex: Mutex::new(0),
            brought: Condvar::new(),
            signal: Condvar::new(),
        })
    }

    /// Some time, which ends by itself: nobody waits for ever in somebody's turn.
    fn pause(&self, me: &Me, choice: u64) {
        match (choice >> 12) % 4 {
            0 => yield_now(),
            1 => me.wait(self.id, "sleep", 0, || sleep(short(choice))).0,
            _ => {}
        }
    }
}

impl Object for Tokens {
    fn name(&self) -> &'static str {
        "condvar"
    }

    fn act(&self, me: &Me, choice: u64) {
        let (mut tokens, _) = me.wait(self.id, "lock", 0, || self.mutex.lock());
        self.pause(me, choice);
        let limit = short(choice >> 8);
        match (choice >> 4) % 16 {
            0..=3 => {
                *tokens += 1;
                let tokens = match choice.is_multiple_of(4) {
                    true => None,
                    false => Some(tokens),
                };
                // No switch since: a kill cannot come between the token and its notification.
                self.brought.notify_one();
                if tokens.is_some() {
                    // Whoever was notified waits for the lock.
                    self.pause(me, choice >> 16);
                }
            }
            4 => {
                *tokens += 2;
                self.brought.notify_all();
                // It may be held for a while yet.
                self.pause(me, choice >> 16);
            }
            5..=11 => {
                let wait = || self.brought.wait_while(tokens, |tokens| *tokens == 0);
                let (mut tokens, _) = me.wait(self.id, "token", 0, wait);
                *tokens -= 1;
                me.point();
                self.pause(me, choice >> 16);
            }
            12 => {
                let begun = now();
                let zero = |tokens: &mut usize| *tokens == 0;
                let wait = || self.brought.wait_timeout_while(tokens, limit, zero);
                let ((mut tokens, end), _) = me.wait(self.id, "limited", 0, wait);
                if end.timed_out() != (*tokens == 0) {
                    me.world.fail(format!("{end:?} with {tokens:?}"));
                }
                match end.timed_out() {
                    // The lock is waited for after that.
                    true if now() - begun < limit => me.world.fail("too early".into()),
                    true => {}
                    false => *tokens -= 1,
                }
            }
            13 | 14 => drop(me.wait(self.id, "signal", 0, || self.signal.wait(tokens))),
            _ => {
                me.world.owe(self.id, "signal");
                self.signal.notify_all();
            }
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let Some(tokens) = self.mutex.try_lock() else {
            return Err("the mutex is not free".into());
        };
        for what in ["lock", "sleep", "limited"] {
            wrong(count(waiting, what) > 0, "somebody does not go on")?;
        }
        let lost = *tokens > 0 && count(waiting, "token") > 0;
        wrong(lost, "a notification was lost: there is a token")
    }

    fn release(&self, _: &World) {
        *self.mutex.lock() += 100;
        self.brought.notify_all();
        self.signal.notify_all();
    }

    fn end(&self, _: &World) -> Result<(), String> {
        wrong(
            self.mutex.try_lock().is_none(),
            "the mutex is not free at the end",
        )
    }
}

// ---- barrier ------------------------------------------------------------------------------------

pub(crate) struct Meeting {
    id: usize,
    size: usize,
    barrier: Barrier,
    passed: AtomicUsize,
    led: AtomicUsize,
}

impl Meeting {
    pub(crate) fn make(id: usize, seed: u64) -> Arc<dyn Object> {
        let size = 2 + (seed % 2) as usize;
        Arc::new(Self {
            id,
            size,
            barrier: Barrier::new(size),
            passed: AtomicUsize::new(0),
            led: AtomicUsize::new(0),
        })
    }
}

impl Object for Meeting {
    fn name(&self) -> &'static str {
        "barrier"
    }

    fn act(&self, me: &Me, _: u64) {
        let (end, _) = me.wait(self.id, "meet", 0, || self.barrier.wait());
        self.passed.fetch_add(1, Relaxed);
        if end.is_leader() {
            self.led.fetch_add(1, Relaxed);
        }
        let (passed, led) = (self.passed.load(Relaxed), self.led.load(Relaxed));
        // The leader of the others may not have run yet, but he has not waited: he has.
        if passed > led * self.size {
            let text = format!("{passed} have passed {}, and {led} led", self.id);
            me.world.fail(text);
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let (passed, led) = (self.passed.load(Relaxed), self.led.load(Relaxed));
        wrong(waiting.len() >= self.size, "all have arrived")?;
        wrong(
            passed != led * self.size,
            "some of those who met are missing",
        )
    }
}

// ---- once_value ---------------------------------------------------------------------------------

/// What an initialiser fails with.
struct Fails;

pub(crate) struct Once {
    id: usize,
    values: [OnceValue<usize>; 3],
    making: [AtomicUsize; 3],
    /// Who has set it: `NOBODY` at first.
    set: ShortLock<[usize; 3]>,
}

impl Once {
    pub(crate) fn make(id: usize, _: u64) -> Arc<dyn Object> {
        Arc::new(Self {
            id,
            values: [const { OnceValue::new() }; 3],
            making: [const { AtomicUsize::new(0) }; 3],
            set: ShortLock::new([NOBODY; 3]),
        })
    }

    fn seen(&self, me: &Me, k: usize, value: usize) {
        let first = std::mem::replace(&mut self.set.lock()[k], value);
        if first != NOBODY && first != value {
            let text = format!("value {k} of {} was {first}, is {value}", self.id);
            me.world.fail(text);
        }
    }

    /// Makes the value, or fails.
    fn init(&self, me: &Me, k: usize, choice: u64) -> usize {
        let making = Counted::new(&self.making[k], 1);
        if making.0.load(Relaxed) > 1 || self.values[k].try_get().is_some() {
            let text = format!("task {} makes value {k} as a second one", me.index);
            me.world.fail(text);
        }
        match (choice >> 12) % 4 {
            0 => {}
            1 => yield_now(),
            _ => me.wait(self.id, "sleep", k, || sleep(short(choice))).0,
        }
        me.point();
        if !(choice >> 16).is_multiple_of(3) {
            resume_unwind(Box::new(Fails));
        }
        me.index
    }
}

impl Object for Once {
    fn name(&self) -> &'static str {
        "once_value"
    }

    fn act(&self, me: &Me, choice: u64) {
        let k = (choice >> 24) as usize % 3;
        let value = &self.values[k];
        let (begun, limit) = (now(), short(choice));
        let got = match (choice >> 4) % 12 {
            // While somebody makes it, it may be set already.
            0 if self.making[k].load(Relaxed) == 0 => value.set(me.index).ok().map(|()| me.index),
            0 | 1 => Some(*me.wait(self.id, "get", k, || value.get()).0),
            2 => {
                let got = me
                    .wait(self.id, "limited", k, || value.get_timeout(limit))
                    .0;
                if got.is_err() {
                    me.on_time(begun, limit);
                }
                got.ok().copied()
            }
            _ => {
                let init = || *value.get_or_init(|| self.init(me, k, choice));
                let caught = || catch_unwind(AssertUnwindSafe(init));
                match me.wait(self.id, "init", k, caught).0 {
                    Ok(value) => Some(value),
                    Err(payload) if payload.is::<Fails>() => None,
                    Err(payload) => resume_unwind(payload),
                }
            }
        };
        if let Some(got) = got {
            self.seen(me, k, got);
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        for (_, w) in waiting {
            // Each initialiser ends by itself.
            wrong(w.what != "get", "nobody has its turn, or it is not over")?;
            let set = self.values[w.detail].try_get().is_some();
            wrong(set, "there is a value")?;
        }
        Ok(())
    }

    fn release(&self, _: &World) {
        for value in &self.values {
            let _ = value.set(0);
        }
    }

    fn end(&self, _: &World) -> Result<(), String> {
        let making = self.making.iter().any(|n| n.load(Relaxed) > 0);
        wrong(making, "an initialiser has not ended")
    }
}
