//! What a group, a pool and a scope have in common: tasks that belong together.
//!
//! Nouns: a *member* is a task between its spawn and its end; a *place* is the right to spawn one,
//! of which a bounded family has so many as its capacity says; a panic of a member is *seen* if
//! somebody joins that member, and *lost* if nobody can any more.
//!
//! Invariants, under the lock
//! - `members` has every task that was spawned here and has not ended; the end of a member is told
//!   exactly once (`hub::owner`), also for one that never started;
//! - `places` counts members and places that were given out and are not yet members;
//! - who waits for a place waits only while `places` is the capacity; a place that comes free is
//!   handed to the first of them;
//! - `me` is there as long as there are members, which point here without counting;
//! - `unseen` counts panics less those seen; for a moment it may be one too few, because a join
//!   may see the end before the family is told of it.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::cancel;
use crate::fork;
use crate::hub::cell::{HANDLE, KILLED, TaskRef};
use crate::hub::extras::Exit;
use crate::hub::owner::{Member, Owner};
use crate::hub::waiter::Late;
use crate::park;
use crate::sync::select::{Arm, Slot};
use crate::sync::short_lock::ShortLock;
use crate::sync::wait_queue::{Settled, Ticket, Unwinding, Wait, WaitQueue, Waited, wake_all};
use crate::wait_reason::{WaitKind, WaitReason};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Places for members that a family keeps for its next use.
const KEPT: usize = 4096;
/// The most members looked at under the lock in one go.
const AT_ONCE: usize = 256;

#[repr(C)]
pub(crate) struct Family {
    /// First: members point to it.
    owner: Owner,
    label: Label,
    state: ShortLock<State>,
}

/// What the dump calls a family.
pub(crate) enum Label {
    /// A group or a pool, by the name that it was given.
    Named(&'static str, Box<str>),
    /// A scope, by its place in the program.
    Scope(&'static Location<'static>),
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(kind, name) if name.is_empty() => f.write_str(kind),
            Self::Named(kind, name) => write!(f, "{kind} '{name}'"),
            Self::Scope(site) => write!(f, "scope at {site}"),
        }
    }
}

pub(crate) struct State {
    members: Slab<TaskRef>,
    me: Option<Arc<Family>>,
    /// New members are killed at once.
    killed: bool,
    capacity: usize,
    places: usize,
    unseen: isize,
    lost: bool,
    /// What the first lost panic carried, if it is known.
    payload: Option<Payload>,
    /// The first member that did not return: its id, and how it ended.
    failed: Option<(u64, Exit)>,
    /// Who waits for `places` to be fewer.
    for_place: WaitQueue<()>,
    /// Who waits for members to end.
    for_end: WaitQueue<()>,
}

impl State {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.places == 0
    }

    /// Whether a member panicked whom nobody can join any more.
    pub(crate) fn has_lost_panic(&self) -> bool {
        self.lost
    }

    pub(crate) fn failed(&self) -> Option<(u64, Exit)> {
        self.failed
    }
}

impl Family {
    /// `capacity` is the greatest number of members at a time.
    pub(crate) fn new(label: Label, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            owner: Owner {
                id: fork::task_ids(1),
                label: Self::describe,
                ended: Self::ended,
            },
            label,
            state: ShortLock::new(State {
                members: Slab::new(),
                me: None,
                killed: false,
                capacity,
                places: 0,
                unseen: 0,
                lost: false,
                payload: None,
                failed: None,
                for_place: WaitQueue::new(),
                for_end: WaitQueue::new(),
            }),
        })
    }

    /// Makes it new again: all members have ended, and nobody else has a reference. What the lock
    /// has learned about its thread stays, and some of the memory.
    pub(crate) fn renew(&mut self, label: Label) {
        self.owner.id = fork::task_ids(1);
        self.label = label;
        let mut state = self.state.lock();
        debug_assert!(state.is_empty() && state.me.is_none());
        if state.members.capacity() > KEPT {
            state.members = Slab::new();
        }
        (state.killed, state.lost, state.unseen) = (false, false, 0);
        (state.payload, state.failed) = (None, None);
    }

    pub(crate) fn id(&self) -> u64 {
        self.owner.id
    }

    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// The number of members.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().members.len()
    }

    /// The number of places left.
    pub(crate) fn free_places(&self) -> usize {
        let state = self.state.lock();
        state.capacity - state.places
    }

    /// Looks at the state, for a moment.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// Takes a place in a bounded family, if one is free and nobody waits for it.
    pub(crate) fn try_place(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.places < state.capacity;
        state.places += usize::from(free);
        free
    }

    /// Waits for a place in a bounded family. `false`: not by the deadline, or the calling task unwinds.
    pub(crate) fn place(&self, deadline: Option<Instant>) -> bool {
        park::checkpoint();
        let mut state = self.state.lock();
        if state.places < state.capacity {
            state.places += 1;
            return true;
        }
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.for_place,
            reason: || WaitReason::new(WaitKind::Pool, self.owner.id),
            deadline,
            unwinding: Unwinding::Refuse,
        };
        matches!(wait.wait(state), Waited::Woken(_))
    }

    /// Gives a place back that no member took; whoever waits for one has it then.
    pub(crate) fn give_place_back(&self) {
        let mut state = self.state.lock();
        let late = state.free_place();
        let tell = !state.for_end.is_empty() && state.is_empty();
        drop(state);
        late.wake();
        if tell {
            wake_all(&self.state, |state| &mut state.for_end, |_| ());
        }
    }

    /// Makes `task` a member, in a bounded family in a place that the caller has taken; comes
    /// before it is started.
    pub(crate) fn add(self: &Arc<Self>, task: TaskRef) -> Member {
        let mut state = self.state.lock();
        if state.capacity == usize::MAX {
            state.places += 1;
        }
        if state.killed {
            task.raise(KILLED);
        }
        if state.members.is_empty() {
            state.me = Some(self.clone());
        }
        let slot = state.members.insert(task);
        drop(state);
        let owner = NonNull::from(&**self).cast();
        // SAFETY: `me` keeps the family alive until `ended` has taken the member out.
        unsafe { Member::new(owner, slot) }
    }

    /// Asks all members to end; with `for_good`, also those that are yet to come.
    pub(crate) fn kill(&self, for_good: bool) {
        if for_good {
            self.state.lock().killed = true;
        }
        self.for_each(|some| some.drain(..).for_each(|task| cancel::kill(&task)));
    }

    /// The members: those that end or come meanwhile may be missing.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        let mut all = Vec::new();
        self.for_each(|some| all.append(some));
        all
    }

    /// Gives all members to `f`, some at a time, which it takes out of the vector.
    fn for_each(&self, mut f: impl FnMut(&mut Vec<TaskRef>)) {
        let mut tasks = Vec::new();
        let mut next = 0;
        loop {
            let state = self.state.lock();
            let end = state.members.capacity();
            let some = (next..end.min(next + AT_ONCE)).filter_map(|i| state.members.get(i));
            tasks.extend(some.cloned());
            drop(state);
            f(&mut tasks);
            next += AT_ONCE;
            if next >= end {
                return;
            }
        }
    }

    /// Waits until `done` is true of the state; it is looked at when a member that was the last
    /// one has ended, or one that did not return. `false`: not by the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>, done: impl Fn(&State) -> bool) -> bool {
        loop {
            park::checkpoint();
            let state = self.state.lock();
            if done(&state) {
                return true;
            }
            let wait = Wait {
                lock: &self.state,
                queue: |state| &mut state.for_end,
                reason: || WaitReason::new(WaitKind::Group, self.owner.id),
                deadline,
                unwinding: Unwinding::InLine,
            };
            if !matches!(wait.wait(state), Waited::Woken(_)) {
                return false;
            }
        }
    }

    /// Somebody has seen a member's panic.
    pub(crate) fn panic_seen(&self) {
        self.state.lock().unseen -= 1;
    }

    /// Keeps what a lost panic carried, if it is the first.
    pub(crate) fn lose_panic(&self, payload: Payload) {
        let mut state = self.state.lock();
        let first = !state.lost;
        state.lost = true;
        let unused = match state.payload {
            None if first => {
                state.payload = Some(payload);
                None
            }
            _ => Some(payload),
        };
        drop(state);
        drop(unused);
        wake_all(&self.state, |state| &mut state.for_end, |_| ());
    }

    /// What to go on with after all members have ended: a panic that nobody has seen.
    pub(crate) fn take_panic(&self) -> Option<Payload> {
        let mut state = self.state.lock();
        let payload = state.payload.take();
        let unseen = state.unseen > 0;
        drop(state);
        match payload {
            None if unseen => Some(Box::new("a task of the scope panicked")),
            payload => payload,
        }
    }
}

impl State {
    /// Hands a place on, or frees it.
    fn free_place(&mut self) -> Late {
        match self.for_place.pop() {
            Some((first, _)) => first.wake(),
            None => {
                self.places -= 1;
                Late::NOBODY
            }
        }
    }
}

/// A place that was taken and has no member yet.
pub(crate) struct Place<'a>(Option<&'a Arc<Family>>);

impl<'a> Place<'a> {
    /// Takes one if one is free.
    pub(crate) fn take(family: &'a Arc<Family>) -> Option<Self> {
        family.try_place().then(|| Self(Some(family)))
    }

    /// Waits for one. `None`: not by the deadline, or the caller unwinds.
    pub(crate) fn wait(family: &'a Arc<Family>, deadline: Option<Instant>) -> Option<Self> {
        family.place(deadline).then(|| Self(Some(family)))
    }

    /// One that the family has handed over, by [`Vacancy`].
    pub(crate) fn handed(family: &'a Arc<Family>) -> Self {
        Self(Some(family))
    }

    /// Gives it to a member.
    pub(crate) fn fill(mut self, task: TaskRef) -> Member {
        match self.0.take() {
            Some(family) => family.add(task),
            None => unreachable!("a place is filled once"),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(family) = self.0 {
            family.give_place_back();
        }
    }
}

/// An arm that takes a place.
pub(crate) struct Vacancy<'a> {
    family: &'a Family,
    ticket: Option<Ticket>,
}

impl<'a> Vacancy<'a> {
    pub(crate) fn of(family: &'a Family) -> Self {
        Self {
            family,
            ticket: None,
        }
    }
}

impl Arm for Vacancy<'_> {
    type Output = ();

    fn attempt(&mut self) -> Option<()> {
        self.family.try_place().then_some(())
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.family.state.lock();
        self.ticket = Some(slot.queue_in(&mut state.for_place, None));
        state.places < state.capacity
    }

    fn leave(&mut self, chosen: bool) -> Option<()> {
        let ticket = self.ticket.take()?;
        let settled = self.family.state.lock().for_place.settle(ticket);
        // Chosen is who was handed a place.
        (chosen && matches!(settled, Settled::Gone)).then_some(())
    }
}

impl Family {
    /// What [`Owner::label`] says.
    ///
    /// # Safety
    /// `this` is the head of a family, which has a member.
    unsafe fn describe(this: NonNull<Owner>) -> String {
        // SAFETY: by the contract; a family with a member is alive, and keeps its label.
        let family = unsafe { this.cast::<Self>().as_ref() };
        family.label.to_string()
    }

    /// What [`Owner::ended`] says.
    ///
    /// # Safety
    /// `this` is the head of a family that has a member with the number `slot`; called once.
    unsafe fn ended(this: NonNull<Owner>, slot: usize, exit: Exit) -> Option<TaskRef> {
        let this = this.cast::<Self>().as_ptr();
        // SAFETY: alive as long as it has this member. Only the lock is borrowed, for once the
        // member is out, others may free the family as soon as it is unlocked.
        let lock = unsafe { &(*this).state };
        let mut state = lock.lock();
        let task = state.members.try_remove(slot);
        let late = state.free_place();
        if exit == Exit::Panicked {
            state.unseen += 1;
            let joinable = |task: &TaskRef| task.flags() & HANDLE != 0;
            state.lost |= !task.as_ref().is_some_and(joinable);
        }
        if exit != Exit::Returned && state.failed.is_none() {
            state.failed = task.as_ref().map(|task| (task.id(), exit));
        }
        let tell = !state.for_end.is_empty() && (state.is_empty() || exit != Exit::Returned);
        // Ours, if it is touched after the unlock.
        let me = if state.members.is_empty() {
            state.me.take()
        } else if tell {
            state.me.clone()
        } else {
            None
        };
        drop(state);
        late.wake();
        if let Some(me) = me
            && tell
        {
            wake_all(&me.state, |state| &mut state.for_end, |_| ());
        }
        task
    }
}
