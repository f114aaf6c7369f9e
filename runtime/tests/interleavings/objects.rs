//! The table of primitives that the harness tries. A new one takes an [`Object`], a row in
//! [`KINDS`], and its name in `tests!`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sward_runtime::sync::queue::{Fifo, Lifo, Lowest};
use sward_runtime::sync::{Event, Mutex, Receiver, Sender, ShortLock};
use sward_runtime::{now, park, park_timeout, sleep, spawn, sync, yield_now};

use super::carriers::{Choice, Jobs, Ranked};
use super::families::{Crew, News, Scopes, Watched};
use super::holders::{Meeting, Once, Permits, Shared, Tokens};
use super::world::{MS, Me, Value, Waiting, World};

/// A primitive under test.
pub(crate) trait Object: Send + Sync {
    fn name(&self) -> &'static str;

    /// Does one operation for a task, which `choice` picks. What may wait is called in
    /// [`Me::wait`]; [`Me::point`] stands where a panic would be of interest.
    fn act(&self, me: &Me, choice: u64);

    /// All is quiet: says what is wrong about those who wait in this object.
    fn quiet(&self, world: &World, waiting: &[(usize, Waiting)]) -> Result<(), String>;

    /// Lets those go who wait and cannot be killed (they are shielded).
    fn release(&self, _: &World) {}

    /// All tasks have ended.
    fn end(&self, _: &World) -> Result<(), String> {
        Ok(())
    }
}

/// A row of the table.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Makes one, from its number in the program and the seed.
    pub(crate) make: fn(usize, u64) -> Arc<dyn Object>,
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "bounded",
        make: |id, seed| Channel::make(id, "bounded", 1 + (seed % 2) as usize),
    },
    Kind {
        name: "unbounded",
        make: |id, _| Channel::make(id, "unbounded", usize::MAX),
    },
    Kind {
        name: "rendezvous",
        make: |id, _| Channel::make(id, "rendezvous", 0),
    },
    Kind {
        name: "mutex",
        make: |id, _| Lock::make(id),
    },
    Kind {
        name: "event",
        make: |id, _| Flag::make(id),
    },
    Kind {
        name: "tasks",
        make: |id, _| Arc::new(Tasks { id }),
    },
    Kind {
        name: "semaphore",
        make: Permits::make,
    },
    Kind {
        name: "rwlock",
        make: Shared::make,
    },
    Kind {
        name: "condvar",
        make: Tokens::make,
    },
    Kind {
        name: "select",
        make: Choice::make,
    },
    Kind {
        name: "queue",
        make: Jobs::<Fifo<Ranked>>::make,
    },
    Kind {
        name: "priority_queue",
        make: Jobs::<Lowest<Ranked>>::make,
    },
    Kind {
        name: "lifo_queue",
        make: Jobs::<Lifo<Ranked>>::make,
    },
    Kind {
        name: "barrier",
        make: Meeting::make,
    },
    Kind {
        name: "once_value",
        make: Once::make,
    },
    Kind {
        name: "pool",
        make: Crew::make_pool,
    },
    Kind {
        name: "group",
        make: Crew::make_group,
    },
    Kind {
        name: "scope",
        make: Scopes::make,
    },
    Kind {
        name: "broadcast",
        make: News::make,
    },
    Kind {
        name: "watch",
        make: Watched::make,
    },
];

/// In every program: sleeping, parking, joining, killing.
pub(crate) const TASKS: Kind = Kind {
    name: "tasks",
    make: |id, _| Arc::new(Tasks { id }),
};

/// Wrong on purpose.
pub(crate) const LOSES: Kind = Kind {
    name: "loses",
    make: |id, _| Arc::new(Loses(id, ShortLock::new(Vec::new()))),
};

/// Wrong on purpose.
pub(crate) const FORGETS: Kind = Kind {
    name: "forgets",
    make: |id, _| Arc::new(Forgets(id, AtomicBool::new(false), Event::new())),
};

/// A short time that others take as well, so that time-outs meet.
pub(crate) fn short(choice: u64) -> Duration {
    MS * ((choice >> 8) % 4) as u32
}

/// Says what is wrong, unless nothing is.
pub(crate) fn wrong(bad: bool, what: &str) -> Result<(), String> {
    if bad { Err(what.to_owned()) } else { Ok(()) }
}

pub(crate) fn count(waiting: &[(usize, Waiting)], what: &str) -> usize {
    waiting.iter().filter(|w| w.1.what == what).count()
}

/// Who may be the first in line among these: one that was tired has come some time after it began
/// to wait.
pub(crate) fn heads<'a>(waiting: &'a [(usize, Waiting)], whats: &[&str]) -> Vec<&'a Waiting> {
    let here = || waiting.iter().map(|w| &w.1);
    let here = || here().filter(|w| whats.contains(&w.what));
    let first = here().filter(|w| !w.tired).map(|w| w.since).min();
    here()
        .filter(|w| first.is_none_or(|first| w.since <= first))
        .collect()
}

/// What one does who has something: sleeping is a wait for object `id`.
pub(crate) fn stay(me: &Me, id: usize, choice: u64) {
    match (choice >> 12) % 4 {
        0 => {}
        1 => yield_now(),
        2 => me.wait(id, "sleep", 0, || sleep(short(choice))).0,
        // Something else meanwhile; it may be the same object, and wait for ever.
        _ if !me.nested.replace(true) => {
            let n = (choice >> 20) as usize % me.world.objects.len();
            me.world.objects[n].clone().act(me, choice >> 24);
            me.nested.set(false);
        }
        _ => {}
    }
}

// ---- channels -----------------------------------------------------------------------------------

struct Channel {
    id: usize,
    name: &'static str,
    capacity: usize,
    /// Operations clone them; gone once an operation has closed that side.
    sender: ShortLock<Option<Sender<Value>>>,
    receiver: ShortLock<Option<Receiver<Value>>>,
}

impl Channel {
    fn make(id: usize, name: &'static str, capacity: usize) -> Arc<dyn Object> {
        let (sender, receiver) = match capacity {
            0 => sync::rendezvous(),
            usize::MAX => sync::unbounded(),
            n => sync::bounded(n),
        };
        Arc::new(Self {
            id,
            name,
            capacity,
            sender: ShortLock::new(Some(sender)),
            receiver: ShortLock::new(Some(receiver)),
        })
    }

    fn send(&self, me: &Me, choice: u64) {
        let Some(sender) = self.sender.lock().clone() else {
            return;
        };
        let value = me.make();
        let offer = me.offer(&value, self.id);
        let begun = now();
        let (sent, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "send", 0, || {
                sender.send(value).map_err(|e| e.into_inner())
            }),
            2 => me.wait(self.id, "send", 0, || {
                sender.send_timeout(value, short(choice)).map_err(|e| {
                    if e.to_string().contains("time") {
                        me.on_time(begun, short(choice));
                    }
                    e.into_inner()
                })
            }),
            _ => (sender.try_send(value).map_err(|e| e.into_inner()), false),
        };
        offer.ended(sent.as_ref().err());
    }

    fn receive(&self, me: &Me, choice: u64) {
        let Some(receiver) = self.receiver.lock().clone() else {
            return;
        };
        let begun = now();
        let (received, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "recv", 0, || receiver.recv().ok()),
            2 => me.wait(self.id, "recv", 0, || {
                let received = receiver.recv_timeout(short(choice));
                if matches!(received, Err(sync::channel::RecvTimeoutError::TimedOut)) {
                    me.on_time(begun, short(choice));
                }
                received.ok()
            }),
            _ => (receiver.try_recv().ok(), false),
        };
        if let Some(value) = received {
            value.received(me.index, self.id);
            me.point();
        }
    }

    fn close_senders(&self) {
        let sender = self.sender.lock().take();
        drop(sender);
    }

    fn close_receivers(&self, world: &World) {
        let receiver = self.receiver.lock().take();
        if receiver.is_some() {
            world.state.lock().closed[self.id] = true;
        }
        drop(receiver);
    }
}

impl Object for Channel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn act(&self, me: &Me, choice: u64) {
        // More is sent than received, so that senders wait as well.
        match (choice >> 4) % 64 {
            0 | 1 => self.close_senders(),
            2 => self.close_receivers(&me.world),
            3..=35 => self.send(me, choice),
            _ => self.receive(me, choice),
        }
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let (sends, receives) = (count(waiting, "send"), count(waiting, "recv"));
        wrong(sends > 0 && receives > 0, "a sender and a receiver wait")?;
        let sender = self.sender.lock().clone();
        let receiver = self.receiver.lock().clone();
        wrong(
            sender.is_none() && receives > 0 && sends == 0,
            "no sender is left",
        )?;
        wrong(
            receiver.is_none() && sends > 0 && receives == 0,
            "no receiver is left",
        )?;
        let len = sender
            .as_ref()
            .map(Sender::len)
            .or_else(|| receiver.as_ref().map(Receiver::len));
        let Some(len) = len else { return Ok(()) };
        wrong(receives > 0 && len > 0, "there is a value")?;
        wrong(sends > 0 && len < self.capacity, "there is room")?;
        wrong(len > self.capacity, "there is more than there is room for")
    }

    fn release(&self, world: &World) {
        let receiver = self.receiver.lock().clone();
        // What is left is there, and nobody has lost it.
        if let Some(receiver) = receiver {
            while let Ok(value) = receiver.try_recv() {
                value.received(usize::MAX, self.id);
            }
        }
        self.close_senders();
        self.close_receivers(world);
    }
}

// ---- mutex --------------------------------------------------------------------------------------

pub(crate) const NOBODY: usize = usize::MAX;

struct Lock {
    id: usize,
    mutex: Mutex<()>,
    holder: AtomicUsize,
}

impl Lock {
    fn make(id: usize) -> Arc<dyn Object> {
        Arc::new(Self {
            id,
            mutex: Mutex::new(()),
            holder: AtomicUsize::new(NOBODY),
        })
    }

    fn hold(&self, me: &Me, choice: u64) {
        struct Holds<'a>(&'a AtomicUsize);
        impl Drop for Holds<'_> {
            fn drop(&mut self) {
                self.0.store(NOBODY, Relaxed);
            }
        }
        let other = self.holder.swap(me.index, Relaxed);
        if other != NOBODY {
            let text = format!("task {} and task {other} have lock {}", me.index, self.id);
            me.world.fail(text);
        }
        let _holds = Holds(&self.holder);
        me.point();
        stay(me, self.id, choice);
        me.point();
    }
}

impl Object for Lock {
    fn name(&self) -> &'static str {
        "mutex"
    }

    fn act(&self, me: &Me, choice: u64) {
        let begun = now();
        let (guard, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "lock", 0, || Some(self.mutex.lock())),
            2 => me.wait(self.id, "lock", 0, || {
                let locked = self.mutex.lock_timeout(short(choice));
                if locked.is_err() {
                    me.on_time(begun, short(choice));
                }
                locked.ok()
            }),
            _ => (self.mutex.try_lock(), false),
        };
        if let Some(_guard) = guard {
            if let Some(other) = me.overtook(self.id) {
                let text = format!("task {} got lock {} before {other:?}", me.index, self.id);
                me.world.fail(text);
            }
            self.hold(me, choice);
        }
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let free = self.holder.load(Relaxed) == NOBODY;
        wrong(free && count(waiting, "lock") > 0, "the lock is free")?;
        wrong(count(waiting, "sleep") > 0, "a sleep does not end")
    }

    fn end(&self, _: &World) -> Result<(), String> {
        wrong(
            self.mutex.try_lock().is_none(),
            "the lock is not free at the end",
        )
    }
}

// ---- event --------------------------------------------------------------------------------------

struct Flag {
    id: usize,
    event: Event,
}

impl Flag {
    fn make(id: usize) -> Arc<dyn Object> {
        let event = Event::new();
        Arc::new(Self { id, event })
    }
}

impl Object for Flag {
    fn name(&self) -> &'static str {
        "event"
    }

    fn act(&self, me: &Me, choice: u64) {
        match (choice >> 4) % 8 {
            0 | 1 => {
                // Who waits now goes on, whatever comes after.
                me.world.owe(self.id, "event");
                self.event.set();
            }
            2 | 3 => self.event.clear(),
            4 => {
                let begun = now();
                let limit = short(choice);
                let (set, owed) = me.wait(self.id, "event", 0, || self.event.wait_timeout(limit));
                if !set {
                    me.on_time(begun, limit);
                    if owed {
                        me.world.fail(format!("task {} missed the event", me.index));
                    }
                }
            }
            _ => me.wait(self.id, "event", 0, || self.event.wait()).0,
        }
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        wrong(
            self.event.is_set() && !waiting.is_empty(),
            "the event is set",
        )
    }

    fn release(&self, _: &World) {
        self.event.set();
    }
}

// ---- tasks --------------------------------------------------------------------------------------

struct Tasks {
    id: usize,
}

impl Tasks {
    fn park(&self, me: &Me, limit: Option<Duration>) {
        let begun = now();
        let (woken, _) = me.wait(self.id, "park", 0, || match limit {
            None => {
                park();
                true
            }
            Some(limit) => park_timeout(limit),
        });
        let mut state = me.world.state.lock();
        let had = std::mem::replace(&mut state.tasks[me.index].permit, false);
        drop(state);
        if woken != had {
            let text = format!("task {}: park said {woken}, the permit was {had}", me.index);
            me.world.fail(text);
        }
        if let (false, Some(limit)) = (woken, limit) {
            me.on_time(begun, limit);
        }
    }

    fn join(&self, me: &Me, other: usize, limit: Option<Duration>) {
        if other == me.index {
            return;
        }
        let handle = me.world.state.lock().tasks[other].handle.take();
        let Some(handle) = handle else { return };
        let begun = now();
        let joined = me.wait(self.id, "join", other, || match limit {
            None => Ok(handle.join()),
            Some(limit) => handle.join_timeout(limit),
        });
        match joined.0 {
            // How it ended is looked at where nobody has joined it.
            Ok(end) => {
                if !me.world.state.lock().tasks[other].ended {
                    me.world
                        .fail(format!("task {other} was joined before its end"));
                }
                drop(end);
            }
            Err(handle) => {
                me.on_time(begun, limit.unwrap_or_default());
                if handle.is_finished() {
                    me.world
                        .fail(format!("task {other} has ended, but the join timed out"));
                }
                me.world.state.lock().tasks[other].handle = Some(handle);
            }
        }
    }
}

impl Object for Tasks {
    fn name(&self) -> &'static str {
        "tasks"
    }

    fn act(&self, me: &Me, choice: u64) {
        let n = me.world.state.lock().tasks.len();
        let other = (choice >> 16) as usize % n;
        match (choice >> 4) % 12 {
            0 => self.park(me, None),
            1 => self.park(me, Some(short(choice))),
            2..=4 => {
                let mut state = me.world.state.lock();
                state.tasks[other].permit = true;
                drop(state);
                if let Some(task) = me.world.task(other) {
                    task.unpark();
                }
            }
            5 => self.join(me, other, None),
            6 => self.join(me, other, Some(short(choice))),
            7 => me.world.kill(other),
            8 => drop(me.wait(self.id, "join", me.index, || {
                // A child whose handle is dropped with this task, if that is killed.
                let child = spawn(yield_now);
                child.join().map(drop).unwrap_or_default();
            })),
            9 => yield_now(),
            _ => {
                let begun = now();
                me.wait(self.id, "sleep", 0, || sleep(short(choice)));
                me.on_time(begun, short(choice));
            }
        }
    }

    fn quiet(&self, world: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let state = world.state.lock();
        for (index, w) in waiting {
            wrong(w.what == "sleep", "a sleep does not end")?;
            wrong(
                w.what == "park" && state.tasks[*index].permit,
                "there is a permit",
            )?;
            let joins = w.what == "join";
            wrong(joins && w.detail == *index, "its child has ended")?;
            wrong(joins && state.tasks[w.detail].ended, "the task has ended")?;
        }
        Ok(())
    }
}

// ---- wrong on purpose ---------------------------------------------------------------------------

/// A stack of values that is taken from before a park.
struct Loses(usize, ShortLock<Vec<Value>>);

impl Object for Loses {
    fn name(&self) -> &'static str {
        "loses"
    }

    fn act(&self, me: &Me, choice: u64) {
        if choice.is_multiple_of(2) {
            let value = me.make();
            let offer = me.offer(&value, self.0);
            self.1.lock().push(value);
            offer.ended(None);
        } else {
            let value = self.1.lock().pop();
            yield_now();
            if let Some(value) = value {
                value.received(me.index, self.0);
            }
        }
    }

    fn quiet(&self, _: &World, _: &[(usize, Waiting)]) -> Result<(), String> {
        Ok(())
    }

    fn release(&self, _: &World) {
        let left = std::mem::take(&mut *self.1.lock());
        left.iter()
            .for_each(|value| value.received(usize::MAX, self.0));
    }
}

/// A flag that is looked at, then waited for, with a switch in between.
struct Forgets(usize, AtomicBool, Event);

impl Object for Forgets {
    fn name(&self) -> &'static str {
        "forgets"
    }

    fn act(&self, me: &Me, choice: u64) {
        if choice.is_multiple_of(2) {
            self.1.store(true, Relaxed);
            self.2.set();
            self.2.clear();
        } else if !self.1.load(Relaxed) {
            yield_now();
            me.wait(self.0, "flag", 0, || self.2.wait());
        }
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let bad = self.1.load(Relaxed) && !waiting.is_empty();
        wrong(bad, "the flag is set, but somebody waits")
    }

    fn release(&self, _: &World) {
        self.2.set();
    }
}
