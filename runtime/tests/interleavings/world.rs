//! What a program's tasks share with its driver: the model of values and tasks, and what went wrong.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sward_runtime::sync::ShortLock;
use sward_runtime::{JoinError, JoinHandle, Task, current, now, park};

use super::objects::Object;

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Longer than any operation of a program takes.
pub(crate) const FAR: Duration = Duration::from_secs(1_000_000);
/// Longer than all together.
pub(crate) const YEARS: Duration = Duration::from_secs(100_000_000);

/// Steele's SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// The payload of a panic that the harness injects.
pub(crate) struct Injected;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// With the task that made it, or that got it back.
    Held,
    /// Its send has begun.
    Offered,
    /// Its send has returned.
    Sent,
    Received,
    /// Dropped while its send had not returned.
    DroppedOffered,
    Dropped,
}

/// A value on its way; knows where it is dropped.
pub(crate) struct Value {
    id: usize,
    from: usize,
    world: Arc<World>,
}

impl Value {
    /// Says that `to` has it, in order.
    pub(crate) fn received(&self, to: usize, object: usize) {
        self.taken();
        let key = (object, self.from, to);
        let last = self.world.state.lock().last.insert(key, self.id);
        if last.is_some_and(|last| last > self.id) {
            let text = format!("value {} came after {last:?} from the same", self.id);
            self.world.fail(text);
        }
    }

    /// Says that somebody has it, from where order means something else.
    pub(crate) fn taken(&self) {
        let stage = self.world.set_stage(self.id, Stage::Received);
        if !matches!(stage, Stage::Offered | Stage::Sent) {
            self.world
                .fail(format!("value {} was received as {stage:?}", self.id));
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let mut state = self.world.state.lock();
        let (stage, object) = state.values[self.id];
        state.values[self.id].0 = match stage {
            Stage::Offered => Stage::DroppedOffered,
            _ => Stage::Dropped,
        };
        let lost = stage == Stage::Sent && !state.closed[object];
        drop(state);
        if lost {
            self.world.fail(format!("value {} was lost", self.id));
        }
    }
}

/// A send that is under way; says how it ended.
pub(crate) struct Offer {
    id: usize,
    world: Arc<World>,
    ended: Cell<bool>,
}

impl Offer {
    /// It has returned: the value is on its way, or came back.
    pub(crate) fn ended(self, back: Option<&Value>) {
        let (id, world) = (self.id, &self.world);
        let mut state = world.state.lock();
        let (stage, object) = state.values[id];
        let closed = state.closed[object];
        match (stage, &back) {
            (Stage::Offered, None) => state.values[id].0 = Stage::Sent,
            (Stage::Offered, Some(_)) => state.values[id].0 = Stage::Held,
            _ => {}
        }
        drop(state);
        if stage == Stage::DroppedOffered && !closed {
            world.fail(format!("value {id} was lost while it was sent"));
        }
        self.ended.set(true);
    }
}

impl Drop for Offer {
    /// The send unwound: then the value has gone, and nobody has it.
    fn drop(&mut self) {
        let stage = self.world.state.lock().values[self.id].0;
        if !self.ended.get() && stage != Stage::DroppedOffered {
            let text = format!("the send of value {} unwound, but it is {stage:?}", self.id);
            self.world.fail(text);
        }
    }
}

/// What a task waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) object: usize,
    pub(crate) what: &'static str,
    /// What the object wants to know of it: the task that it joins.
    pub(crate) detail: usize,
    /// Counts the waits, so that who was first is known.
    pub(crate) since: usize,
    /// It may have yielded first, and then is not in line yet.
    pub(crate) tired: bool,
    /// Set by [`World::owe`]: what it waits for has come.
    pub(crate) owed: bool,
}

#[derive(Default)]
pub(crate) struct TaskState {
    pub(crate) waiting: Option<Waiting>,
    pub(crate) ended: bool,
    pub(crate) killed: bool,
    pub(crate) panics: bool,
    pub(crate) permit: bool,
    op: usize,
    last_wait: usize,
    tired: bool,
    task: Option<Task>,
    /// Taken by the one who joins it.
    pub(crate) handle: Option<JoinHandle<Value>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) tasks: Vec<TaskState>,
    values: Vec<(Stage, usize)>,
    /// Channels whose receivers have gone, by object.
    pub(crate) closed: Vec<bool>,
    last: BTreeMap<(usize, usize, usize), usize>,
    pub(crate) switches: Vec<(usize, usize)>,
    pub(crate) errors: Vec<String>,
    pub(crate) log: Vec<String>,
    /// Time has passed while tasks could run: nothing is at its moment any more.
    pub(crate) advanced: bool,
    releasing: bool,
    waits: usize,
    victim: Option<usize>,
}

pub(crate) struct World {
    pub(crate) objects: Vec<Arc<dyn Object>>,
    pub(crate) state: ShortLock<State>,
    wordy: bool,
}

impl World {
    pub(crate) fn new(objects: Vec<Arc<dyn Object>>, tasks: usize, wordy: bool) -> Self {
        let state = State {
            closed: vec![false; objects.len()],
            tasks: (0..tasks).map(|_| TaskState::default()).collect(),
            ..State::default()
        };
        Self {
            objects,
            wordy,
            state: ShortLock::new(state),
        }
    }

    pub(crate) fn fail(&self, what: String) {
        let mut state = self.state.lock();
        state.log.push(format!("WRONG: {what}"));
        state.errors.push(what);
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.wordy {
            let text = what();
            self.state.lock().log.push(text);
        }
    }

    pub(crate) fn started(&self, index: usize, handle: JoinHandle<Value>) {
        let mut state = self.state.lock();
        state.tasks[index].task = Some(handle.task());
        state.tasks[index].handle = Some(handle);
    }

    fn set_stage(&self, id: usize, stage: Stage) -> Stage {
        std::mem::replace(&mut self.state.lock().values[id].0, stage)
    }

    pub(crate) fn task(&self, index: usize) -> Option<Task> {
        self.state.lock().tasks[index].task.clone()
    }

    pub(crate) fn kill(&self, index: usize) {
        let task = self.task(index);
        let mut state = self.state.lock();
        let ended = state.tasks[index].ended;
        state.tasks[index].killed |= !ended;
        drop(state);
        // A task that kills itself unwinds from here.
        if let Some(task) = task {
            task.kill();
        }
    }

    /// The one at whose switch the fault is due.
    pub(crate) fn victim(&self) -> Option<usize> {
        self.state.lock().victim.take()
    }

    /// Notes that all who wait for this now must go on.
    pub(crate) fn owe(&self, object: usize, what: &str) {
        for task in &mut self.state.lock().tasks {
            if let Some(waiting) = &mut task.waiting
                && waiting.object == object
                && waiting.what == what
                && !waiting.tired
            {
                waiting.owed = true;
            }
        }
    }

    /// No task can run and no timer is left.
    pub(crate) fn look_while_quiet(&self) {
        let mut waiting: Vec<(usize, Waiting)> = Vec::new();
        let mut wrong = Vec::new();
        for (index, task) in self.state.lock().tasks.iter().enumerate() {
            match task.waiting {
                None if !task.ended => wrong.push(format!("task {index} does not go on")),
                None => {}
                Some(w) => {
                    waiting.push((index, w));
                    if task.killed {
                        wrong.push(format!("task {index} was killed and still waits: {w:?}"));
                    }
                    if w.owed {
                        wrong.push(format!("task {index} was to go on and still waits: {w:?}"));
                    }
                }
            }
        }
        wrong.into_iter().for_each(|text| self.fail(text));
        self.note(|| format!("quiet: {waiting:?}"));
        for (id, object) in self.objects.iter().enumerate() {
            let here: Vec<_> = waiting
                .iter()
                .filter(|w| w.1.object == id)
                .copied()
                .collect();
            if let Err(text) = object.quiet(self, &here) {
                self.fail(format!("{} {id}: {text}; {here:?} waits", object.name()));
            }
        }
    }

    /// Lets everybody go.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.releasing = true;
        let tasks: Vec<_> = state.tasks.iter_mut().filter(|t| !t.ended).collect();
        let tasks: Vec<_> = tasks
            .into_iter()
            .filter_map(|t| {
                t.killed = true;
                t.permit = true;
                t.task.clone()
            })
            .collect();
        drop(state);
        for task in tasks {
            task.kill();
            task.unpark();
        }
        self.objects.iter().for_each(|object| object.release(self));
    }

    /// All tasks must have ended; each as it was told to.
    pub(crate) fn look_at_ends(&self, name: impl Fn(&Result<Value, JoinError>) -> &'static str) {
        let n = self.state.lock().tasks.len();
        for index in 0..n {
            let mut state = self.state.lock();
            let task = &mut state.tasks[index];
            let (killed, panics, ended) = (task.killed, task.panics, task.ended);
            let handle = task.handle.take();
            drop(state);
            let Some(handle) = handle else {
                if !ended {
                    self.fail(format!("task {index} has not ended"));
                }
                continue;
            };
            if !handle.is_finished() || !ended {
                self.fail(format!("task {index} has not ended"));
                continue;
            }
            let end = handle.join();
            let right = match name(&end) {
                "returned" => true,
                "killed" => killed,
                "injected" => panics,
                _ => false,
            };
            if !right {
                let text = end.err().and_then(|e| e.panic_message().map(str::to_owned));
                self.fail(format!("task {index} ended by itself: {text:?}"));
            }
        }
        for (id, object) in self.objects.iter().enumerate() {
            if let Err(text) = object.end(self) {
                self.fail(format!("{} {id}: {text}", object.name()));
            }
        }
    }

    /// The last look: no value is left.
    pub(crate) fn look_at_values(&self) {
        let gone = |stage| matches!(stage, Stage::Dropped | Stage::DroppedOffered);
        let state = self.state.lock();
        let left: Vec<_> = state
            .values
            .iter()
            .enumerate()
            .filter(|v| !gone(v.1.0))
            .collect();
        let text = (!left.is_empty()).then(|| format!("values left: {left:?}"));
        drop(state);
        if let Some(text) = text {
            self.fail(text);
        }
    }
}

/// A task of the program, as its operations see it.
pub(crate) struct Me {
    pub(crate) index: usize,
    pub(crate) world: Arc<World>,
    /// Inside of an operation that another one has called.
    pub(crate) nested: Cell<bool>,
    /// Marks the end of the task when it is dropped, with its closure.
    last: bool,
}

impl Me {
    pub(crate) fn new(index: usize, world: Arc<World>) -> Self {
        Self {
            index,
            world,
            nested: Cell::new(false),
            last: true,
        }
    }

    /// One for the switch hook.
    pub(crate) fn clone_plain(&self) -> Self {
        let mut me = Self::new(self.index, self.world.clone());
        me.last = false;
        me
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        self.world
            .note(|| format!("task {} {}", self.index, what()));
    }

    /// Counts a switch; returns whether it is the one where the fault is due.
    pub(crate) fn switched_out(&self, due: Option<usize>) -> bool {
        let mut state = self.world.state.lock();
        let due = due == Some(state.switches.len());
        let task = &mut state.tasks[self.index];
        let op = task.op;
        // The next slice has a budget of its own.
        task.tired = false;
        state.switches.push((self.index, op));
        if due {
            state.victim = Some(self.index);
        }
        due
    }

    /// Whether the operation with that number is still wanted.
    pub(crate) fn begins(&self, op: usize) -> bool {
        self.nested.set(false);
        let mut state = self.world.state.lock();
        state.tasks[self.index].op = op;
        !state.releasing
    }

    /// Uses the slice up but for `left` looks at the budget (it has 256), by parks that have a
    /// permit.
    pub(crate) fn tire(&self, left: u64) {
        for _ in left..255 {
            self.world.state.lock().tasks[self.index].permit = true;
            current().unpark();
            park();
            self.world.state.lock().tasks[self.index].permit = false;
        }
        self.world.state.lock().tasks[self.index].tired = true;
    }

    /// Panics here, if the fault says so.
    pub(crate) fn point(&self) {
        if self.world.state.lock().tasks[self.index].panics && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Injected));
        }
    }

    /// Calls `f`, which may wait; returns with its result whether it was owed it.
    pub(crate) fn wait<T>(
        &self,
        object: usize,
        what: &'static str,
        detail: usize,
        f: impl FnOnce() -> T,
    ) -> (T, bool) {
        struct Unmark<'a>(&'a Me, Option<Waiting>);
        impl Drop for Unmark<'_> {
            fn drop(&mut self) {
                self.0.world.state.lock().tasks[self.0.index].waiting = self.1;
            }
        }
        let waiting = Waiting {
            object,
            what,
            detail,
            owed: false,
            since: 0,
            tired: false,
        };
        let mut state = self.world.state.lock();
        state.waits += 1;
        let waiting = Waiting {
            since: state.waits,
            tired: state.tasks[self.index].tired,
            ..waiting
        };
        state.tasks[self.index].last_wait = state.waits;
        let before = state.tasks[self.index].waiting.replace(waiting);
        drop(state);
        let unmark = Unmark(self, before);
        let result = f();
        let owed = self.world.state.lock().tasks[self.index].waiting;
        drop(unmark);
        self.note(|| format!("{what} of {object} has returned"));
        (result, owed.is_some_and(|w| w.owed))
    }

    /// Who waits for this object since before the last wait of this task.
    pub(crate) fn earlier(&self, object: usize) -> Vec<(usize, Waiting)> {
        let state = self.world.state.lock();
        let mine = state.tasks[self.index].last_wait;
        let waits = state.tasks.iter().map(|task| task.waiting).enumerate();
        waits
            .filter_map(|(index, w)| Some((index, w?)))
            .filter(|(_, w)| w.object == object && w.since < mine && !w.tired)
            .collect()
    }

    /// The task, if there is one, that waits for the lock that this one has just got, and began
    /// before it.
    pub(crate) fn overtook(&self, object: usize) -> Option<usize> {
        let earlier = self.earlier(object);
        Some(earlier.iter().find(|(_, w)| w.what == "lock")?.0)
    }

    /// Makes a value.
    pub(crate) fn make(&self) -> Value {
        let mut state = self.world.state.lock();
        state.values.push((Stage::Held, 0));
        let id = state.values.len() - 1;
        drop(state);
        Value {
            id,
            from: self.index,
            world: self.world.clone(),
        }
    }

    /// Says that the value is about to be sent.
    pub(crate) fn offer(&self, value: &Value, object: usize) -> Offer {
        self.world.state.lock().values[value.id] = (Stage::Offered, object);
        Offer {
            id: value.id,
            world: self.world.clone(),
            ended: Cell::new(false),
        }
    }

    /// What was to last until `begun + after` has done so: not less, and not more unless time was
    /// made to pass.
    pub(crate) fn on_time(&self, begun: Instant, after: Duration) {
        let passed = now() - begun;
        let advanced = self.world.state.lock().advanced;
        if passed < after || passed > after && !advanced {
            let text = format!("task {}: {passed:?} instead of {after:?}", self.index);
            self.world.fail(text);
        }
    }
}

impl Drop for Me {
    fn drop(&mut self) {
        if self.last {
            self.world.state.lock().tasks[self.index].ended = true;
            self.note(|| "ends".into());
        }
    }
}
