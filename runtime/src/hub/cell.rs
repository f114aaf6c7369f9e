//! The heap part of a task: what its handle, its wakers and the hub share.
//!
//! Nouns: a *cell* is one heap block: [`TaskHeader`], then the closure until the task starts and
//! its outcome once it has ended, in the same bytes. A [`TaskRef`] is one counted reference to
//! it. The control block (everything that only the task's own worker touches) lies on the task's
//! stack; `fiber` in the header leads there from the first run to the end.
//!
//! `state` is one word; its low bits are flags, the rest counts references:
//!
//! | bit | set by | meaning |
//! |---|---|---|
//! | `DONE` | the ending task, once | the outcome is written (or dropped, if no handle was left) |
//! | `KILLED` | anybody | a kill was asked for; it is never cleared |
//! | `STARTED` | the worker that starts it | `home` never changes again; a kill goes there |
//! | `HANDLE` | birth; cleared by the handle's drop | somebody will take the outcome |
//! | `JOINER` | the handle's holder; cleared by it or by the end | `joiner` holds a waiter |
//! | `LOCAL`, `PINNED` | birth | not `Send`; not for other workers |
//! | `EXTRAS` | the first need | `extras` is there |
//! | `UNPARKED` | `unpark` before `STARTED` | the task begins with a permit |
//! | `JOB` | birth | it runs on a thread of a pool (`jobs`), not as a task |
//! | `PANICKED`, `WAS_KILLED` | the ending task, with `DONE` | what kind of end it was |
//!
//! Who may touch the body: the starting worker (before `STARTED`), the task itself (until
//! `DONE`), then the holder of the handle, once. With `HANDLE` cleared before `DONE` the ending
//! task drops the outcome; cleared after, whoever cleared it does.
//!
//! The joiner slot is written by the handle's holder before it sets `JOINER` and read by
//! whichever of the two clears `JOINER`: the holder (gave up waiting) or the ending task.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;

use super::extras::{Exit, Extras, Listener};
use super::owner::Member;
use super::waiter::Waiter;
use super::worker::WorkerShared;
use crate::error::JoinError;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::primitive::{AtomicPtr, AtomicUsize, Witness};
use crate::unwinding::{self, Signal};

pub(crate) const DONE: usize = 1;
pub(crate) const KILLED: usize = 2;
pub(crate) const STARTED: usize = 4;
pub(crate) const HANDLE: usize = 8;
pub(crate) const JOINER: usize = 16;
pub(crate) const LOCAL: usize = 32;
pub(crate) const PINNED: usize = 64;
pub(crate) const EXTRAS: usize = 128;
const PANICKED: usize = 256;
const WAS_KILLED: usize = 512;
pub(crate) const UNPARKED: usize = 1024;
pub(crate) const JOB: usize = 2048;
const REF: usize = 4096;

/// What a task ended with.
pub(crate) type Outcome<T> = Result<T, JoinError>;

/// Who wants to hear of a task's end.
pub(crate) struct Completed {
    pub(crate) member: Option<Member>,
    pub(crate) joiner: Option<Waiter>,
    pub(crate) listeners: Vec<Listener>,
}

/// The part of a cell that does not depend on the task's types.
#[repr(C)]
pub(crate) struct TaskHeader {
    state: AtomicUsize,
    vtable: &'static Vtable,
    id: u64,
    site: &'static Location<'static>,
    /// The worker that owns the task; before `STARTED` the one whose queue it is in, if any.
    home: AtomicPtr<WorkerShared>,
    /// The fiber's address while it lives; touched by the home worker only.
    fiber: AtomicUsize,
    extras: AtomicPtr<Extras>,
    /// Empty whenever `JOINER` is clear, so also when the cell goes.
    joiner: ManuallyDrop<UnsafeCell<Option<Waiter>>>,
    /// Told of each access to `joiner`, and to the outcome.
    witness: (Witness, Witness),
}

struct Vtable {
    body_offset: usize,
    /// 0: the task belongs to nothing.
    member_offset: usize,
    run: unsafe fn(NonNull<TaskHeader>) -> Exit,
    drop_outcome: unsafe fn(NonNull<TaskHeader>),
    free: unsafe fn(NonNull<TaskHeader>),
}

#[repr(C)]
union Body<F, T> {
    closure: ManuallyDrop<F>,
    outcome: ManuallyDrop<Outcome<T>>,
}

#[repr(C)]
struct Cell<F, T, M> {
    header: TaskHeader,
    body: UnsafeCell<Body<F, T>>,
    /// `()`, or a [`MemberSlot`].
    member: M,
}

/// The group or scope that a task belongs to: written before the task is in any queue, then the
/// home worker's, or of whoever took the unstarted task out of its queue for good.
type MemberSlot = UnsafeCell<Option<Member>>;

/// One counted reference to a task's cell.
pub(crate) struct TaskRef(NonNull<TaskHeader>);

// SAFETY: the header is made of atomics and of fields written before the first share; `joiner`
// and the body follow the hand-over rules of the file head. The closure and the outcome of a
// `spawn_local` task, which may not be Send, are touched only on the home worker: the queue entry
// is PINNED, the task never moves, and its handle is !Send.
unsafe impl Send for TaskRef {}
// SAFETY: as above; all methods through a shared reference are atomic operations.
unsafe impl Sync for TaskRef {}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        self.header().state.fetch_add(REF, Relaxed);
        Self(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        let state = &self.header().state;
        // The only reference left cannot be cloned by anybody else, so no decrement is needed.
        if state.load(Acquire) < 2 * REF || state.fetch_sub(REF, AcqRel) < 2 * REF {
            self.free();
        }
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id())
    }
}

impl PartialEq for TaskRef {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl TaskRef {
    /// Makes the cell of a task and the typed key to its outcome.
    ///
    /// # Safety
    /// With `LOCAL` not in `flags`, `F` and `T` are `Send`; with it, the cell is started, and the
    /// key used and dropped, on the calling thread only. `F` and `T` outlive their use: they are
    /// `'static`, or the caller waits for the end of the task.
    pub(crate) unsafe fn new<F: FnOnce() -> T, T>(
        closure: F,
        id: u64,
        site: &'static Location<'static>,
        flags: usize,
    ) -> (Self, Key<T>) {
        let vtable = const {
            &Vtable {
                body_offset: std::mem::offset_of!(Cell<F, T, ()>, body),
                member_offset: 0,
                run: run::<F, T>,
                drop_outcome: drop_outcome::<F, T>,
                free: free::<F, T, ()>,
            }
        };
        let state = (2 * REF) | HANDLE | flags;
        // SAFETY: the vtable is for these types, and the contract is this function's.
        unsafe { Self::build(closure, (), vtable, state, id, site) }
    }

    /// As [`new`](Self::new), for a task that belongs to something. `join` gets a reference of its
    /// own and gives the membership.
    ///
    /// # Safety
    /// As `new`.
    pub(crate) unsafe fn new_member<F: FnOnce() -> T, T>(
        closure: F,
        id: u64,
        site: &'static Location<'static>,
        flags: usize,
        join: impl FnOnce(Self) -> Member,
    ) -> (Self, Key<T>) {
        let vtable = const {
            &Vtable {
                body_offset: std::mem::offset_of!(Cell<F, T, MemberSlot>, body),
                member_offset: std::mem::offset_of!(Cell<F, T, MemberSlot>, member),
                run: run::<F, T>,
                drop_outcome: drop_outcome::<F, T>,
                free: free::<F, T, MemberSlot>,
            }
        };
        let state = (3 * REF) | HANDLE | flags;
        let slot = MemberSlot::new(None);
        // SAFETY: the vtable is for these types, and the contract is this function's.
        let (task, key) = unsafe { Self::build(closure, slot, vtable, state, id, site) };
        let member = join(Self(task.0));
        if let Some(slot) = task.member_slot() {
            // SAFETY: the task is in no queue yet, and who got the reference does not look at it.
            unsafe { *slot.get() = Some(member) };
        }
        (task, key)
    }

    /// # Safety
    /// As `new`; `vtable` is that of `Cell<F, T, M>`, and `state` counts the references that the
    /// caller makes.
    #[inline(always)]
    unsafe fn build<F: FnOnce() -> T, T, M>(
        closure: F,
        member: M,
        vtable: &'static Vtable,
        state: usize,
        id: u64,
        site: &'static Location<'static>,
    ) -> (Self, Key<T>) {
        let cell = Box::new(Cell::<F, T, M> {
            header: TaskHeader {
                state: AtomicUsize::new(state),
                vtable,
                id,
                site,
                home: AtomicPtr::new(std::ptr::null_mut()),
                fiber: AtomicUsize::new(0),
                extras: AtomicPtr::new(std::ptr::null_mut()),
                joiner: ManuallyDrop::new(UnsafeCell::new(None)),
                witness: (Witness::new(), Witness::new()),
            },
            body: UnsafeCell::new(Body {
                closure: ManuallyDrop::new(closure),
            }),
            member,
        });
        let raw = NonNull::from(Box::leak(cell)).cast::<TaskHeader>();
        (
            Self(raw),
            Key {
                task: ManuallyDrop::new(Self(raw)),
                outcome: PhantomData,
            },
        )
    }

    /// The cell's address: an even number.
    #[inline]
    pub(crate) fn address(&self) -> NonZeroUsize {
        let _ = self.0.as_ptr().expose_provenance();
        self.0.addr()
    }

    /// Gives this reference up to a word.
    pub(crate) fn into_word(self) -> usize {
        ManuallyDrop::new(self).0.as_ptr() as usize
    }

    /// Takes the reference back from the word.
    ///
    /// # Safety
    /// `word` came from `into_word`, once.
    pub(crate) unsafe fn from_word(word: usize) -> Self {
        // SAFETY: by the contract.
        Self(unsafe { NonNull::new_unchecked(word as *mut TaskHeader) })
    }

    #[inline]
    pub(crate) fn header(&self) -> &TaskHeader {
        // SAFETY: a TaskRef counts as a reference, so the cell is alive.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn id(&self) -> u64 {
        self.header().id
    }

    pub(crate) fn site(&self) -> &'static Location<'static> {
        self.header().site
    }

    pub(crate) fn flags(&self) -> usize {
        self.header().state.load(Acquire)
    }

    /// Sets flags and returns those that were set before.
    pub(crate) fn raise(&self, flags: usize) -> usize {
        self.header().state.fetch_or(flags, AcqRel)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.flags() & DONE != 0
    }

    pub(crate) fn home(&self) -> Option<&'static WorkerShared> {
        let home = self.header().home.load(Acquire);
        // SAFETY: only `&'static WorkerShared`s are stored.
        unsafe { home.as_ref() }
    }

    pub(crate) fn set_home(&self, home: &'static WorkerShared) {
        self.header()
            .home
            .store(std::ptr::from_ref(home).cast_mut(), Release);
    }

    /// The fiber's address, 0 if there is none; for the home worker.
    #[inline]
    pub(crate) fn fiber_word(&self) -> usize {
        self.header().fiber.load(Relaxed)
    }

    pub(crate) fn set_fiber_word(&self, word: usize) {
        self.header().fiber.store(word, Relaxed);
    }

    /// Returns the rarely used part, made at the first need.
    pub(crate) fn extras_or_new(&self) -> &Extras {
        let slot = &self.header().extras;
        if slot.load(Acquire).is_null() {
            let fresh = Box::into_raw(Box::default());
            if slot
                .compare_exchange(std::ptr::null_mut(), fresh, AcqRel, Acquire)
                .is_err()
            {
                // SAFETY: made just above and not published.
                drop(unsafe { Box::from_raw(fresh) });
            }
            self.raise(EXTRAS);
        }
        // SAFETY: not null now, and freed only together with the cell.
        unsafe { &*slot.load(Acquire) }
    }

    pub(crate) fn extras(&self) -> Option<&Extras> {
        // SAFETY: null or a live box, freed only together with the cell.
        unsafe { self.header().extras.load(Acquire).as_ref() }
    }

    /// The name, if the task has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.extras().and_then(Extras::name)
    }

    /// Drops two references to the same task in one go.
    pub(crate) fn drop_both(self, other: Self) {
        debug_assert!(self == other);
        let (this, _other) = (ManuallyDrop::new(self), ManuallyDrop::new(other));
        if this.header().state.fetch_sub(2 * REF, AcqRel) < 3 * REF {
            this.free();
        }
    }

    fn member_slot(&self) -> Option<&MemberSlot> {
        let offset = self.header().vtable.member_offset;
        if offset == 0 {
            return None;
        }
        let at = self.0.as_ptr().wrapping_byte_add(offset);
        // SAFETY: the vtable says that there is one, and the cell is alive.
        Some(unsafe { &*at.cast::<MemberSlot>() })
    }

    /// The task's membership in what it belongs to.
    ///
    /// # Safety
    /// The caller is the task's home worker, and the task has not ended; or the task is unstarted,
    /// and the caller holds the lock of its queue.
    pub(crate) unsafe fn member(&self) -> Option<&Member> {
        let slot = self.member_slot()?;
        // SAFETY: by the contract nobody writes it meanwhile.
        unsafe { &*slot.get() }.as_ref()
    }

    /// Runs the task's closure to its outcome, or only drops it if the task was killed before.
    ///
    /// # Safety
    /// Called once, by the starting worker, on the task's own stack.
    pub(crate) unsafe fn run(&self) -> Exit {
        let run = self.header().vtable.run;
        // SAFETY: by this function's contract.
        unsafe { run(self.0) }
    }

    /// Publishes the end (`DONE`); an outcome that nobody will take is dropped first, so that a
    /// finished task has really let go of everything. Returns the joiner to wake.
    ///
    /// `self` is the task's own reference, and the body holds the outcome.
    pub(crate) fn complete(&self, exit: Exit) -> Completed {
        let header = self.header();
        let kind = match exit {
            Exit::Returned => 0,
            Exit::Panicked => PANICKED,
            Exit::Killed => WAS_KILLED,
        };
        let fiber = self.fiber_word();
        let mut dropped = false;
        let mut seen = header.state.load(Acquire);
        loop {
            if seen & HANDLE == 0 && !dropped {
                dropped = true;
                // The outcome's destructor is the task's last code: it may park and be woken.
                self.set_fiber_word(fiber);
                let drop_outcome = header.vtable.drop_outcome;
                // SAFETY: no handle is left and DONE is not set: the outcome is ours alone.
                let drop_it = AssertUnwindSafe(|| unsafe { drop_outcome(self.0) });
                unwinding::discard(catch_unwind(drop_it));
            }
            self.set_fiber_word(0);
            let next = (seen | DONE | kind) & !JOINER;
            match header
                .state
                .compare_exchange_weak(seen, next, AcqRel, Acquire)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let joiner = if seen & JOINER == 0 {
            None
        } else {
            // We cleared JOINER, so the slot is ours (file head).
            let _access = header.witness.0.exclusive();
            // SAFETY: as said.
            unsafe { (*header.joiner.get()).take() }
        };
        let told = if seen & EXTRAS == 0 {
            None
        } else {
            self.extras()
        };
        let slot = self.member_slot();
        // SAFETY: the task has ended, so nobody lists it any more (`MemberSlot`).
        let member = slot.and_then(|slot| unsafe { (*slot.get()).take() });
        Completed {
            member,
            joiner,
            listeners: told.map_or_else(Vec::new, |e| e.tell(exit)),
        }
    }

    /// How the task ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let flags = self.flags();
        match flags & (DONE | PANICKED | WAS_KILLED) {
            0 => None,
            DONE => Some(Exit::Returned),
            f if f & PANICKED != 0 => Some(Exit::Panicked),
            _ => Some(Exit::Killed),
        }
    }

    /// Calls `listener` after the end: kept until then, or given back now with the exit.
    ///
    /// Whoever comes second tells: `EXTRAS` is set before the look at `DONE` here, and `DONE`
    /// before the look at `EXTRAS` in `complete`.
    pub(crate) fn listen(&self, listener: Listener) -> Vec<(Listener, Exit)> {
        let extras = self.extras_or_new();
        if let Err(missed) = extras.listen(listener) {
            return vec![missed];
        }
        match self.exit() {
            None => Vec::new(),
            Some(exit) => extras.tell(exit).into_iter().map(|l| (l, exit)).collect(),
        }
    }

    fn free(&self) {
        let header = self.header();
        let extras = header.extras.load(Acquire);
        if !extras.is_null() {
            // SAFETY: the last reference is going: nobody else can reach the box.
            drop(unsafe { Box::from_raw(extras) });
        }
        let free = header.vtable.free;
        // SAFETY: the last reference is going.
        unsafe { free(self.0) };
    }
}

/// The right to a task's outcome: what a join handle holds.
pub(crate) struct Key<T> {
    task: ManuallyDrop<TaskRef>,
    outcome: PhantomData<T>,
}

impl<T> Key<T> {
    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "one at a time: the slot is written"
    )]
    /// Puts `waiter` where the ending task finds it. `false`: the task has ended already.
    pub(crate) fn set_joiner(&mut self, waiter: Waiter) -> bool {
        let header = self.task.header();
        // SAFETY: JOINER is clear and only the key's one holder sets it:
        // the slot is ours, and empty (so nothing need be dropped).
        unsafe { header.joiner.get().write(Some(waiter)) };
        header.witness.0.exclusive().end();
        let mut seen = header.state.load(Acquire);
        loop {
            if seen & DONE != 0 {
                // SAFETY: JOINER was never set, so the slot is still ours.
                unsafe { *header.joiner.get() = None };
                header.witness.0.exclusive().end();
                return false;
            }
            match header
                .state
                .compare_exchange_weak(seen, seen | JOINER, AcqRel, Acquire)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "one at a time: the slot is written"
    )]
    /// Takes the waiter back after waiting in vain. `false`: the end came first.
    pub(crate) fn clear_joiner(&mut self) -> bool {
        let header = self.task.header();
        if header.state.fetch_and(!JOINER, AcqRel) & JOINER == 0 {
            return false;
        }
        // SAFETY: we cleared JOINER, so the slot is ours.
        unsafe { *header.joiner.get() = None };
        header.witness.0.exclusive().end();
        true
    }

    /// Takes the outcome.
    ///
    /// # Panics
    /// If the task is not done: a bug in this crate.
    pub(crate) fn take(self) -> Outcome<T> {
        assert!(
            self.task.is_done(),
            "the outcome of a task that runs was asked for"
        );
        let this = ManuallyDrop::new(self);
        let at = outcome_address::<T>(this.task.0);
        // SAFETY: DONE is set and HANDLE was never cleared, so the outcome is there and ours.
        let outcome = unsafe { at.read() };
        this.task.header().witness.1.exclusive().end();
        // SAFETY: `this` is not used again; the cell goes with the reference, its body now empty.
        drop(unsafe { std::ptr::read(&raw const *this.task) });
        outcome
    }
}

impl<T> Drop for Key<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        let task = unsafe { ManuallyDrop::take(&mut self.task) };
        let seen = task.header().state.fetch_and(!HANDLE, AcqRel);
        if seen & DONE != 0 {
            let drop_outcome = task.header().vtable.drop_outcome;
            // SAFETY: the end found the handle alive and left the outcome to it.
            unsafe { drop_outcome(task.0) };
        }
    }
}

/// Where the outcome lies: the body's offset depends on the closure's type too, so the vtable
/// knows it.
fn outcome_address<T>(raw: NonNull<TaskHeader>) -> *mut Outcome<T> {
    // SAFETY: the header is alive while a reference to the cell is.
    let offset = unsafe { raw.as_ref() }.vtable.body_offset;
    raw.as_ptr().wrapping_byte_add(offset).cast()
}

fn body<F, T>(raw: NonNull<TaskHeader>) -> *mut Body<F, T> {
    // The same with a member behind it.
    const {
        assert!(
            std::mem::offset_of!(Cell<F, T, ()>, body)
                == std::mem::offset_of!(Cell<F, T, MemberSlot>, body)
        )
    };
    raw.as_ptr()
        .wrapping_byte_add(std::mem::offset_of!(Cell<F, T, ()>, body))
        .cast()
}

/// # Safety
/// `raw` is a `Cell<F, T, _>` whose closure is still there; the caller is its starting worker, on
/// the task's stack.
unsafe fn run<F: FnOnce() -> T, T>(raw: NonNull<TaskHeader>) -> Exit {
    let body = body::<F, T>(raw);
    // SAFETY: by the contract the closure is there, and the body is ours until DONE; read once,
    // here, and from now on the body is empty until the outcome is written.
    let closure = unsafe { body.cast::<F>().read() };
    // SAFETY: alive by the contract.
    let killed = unsafe { raw.as_ref() }.state.load(Relaxed) & KILLED != 0;
    let outcome = if killed {
        unwinding::discard(catch_unwind(AssertUnwindSafe(|| drop(closure))));
        Err(JoinError::Killed)
    } else {
        catch_unwind(AssertUnwindSafe(closure)).map_err(Signal::classify)
    };
    let exit = match &outcome {
        Ok(_) => Exit::Returned,
        Err(JoinError::Killed) => Exit::Killed,
        Err(JoinError::Panicked(_)) => Exit::Panicked,
    };
    // SAFETY: the body is empty and ours.
    unsafe { body.cast::<Outcome<T>>().write(outcome) };
    // SAFETY: alive by the contract.
    unsafe { raw.as_ref() }.witness.1.exclusive().end();
    exit
}

/// # Safety
/// The outcome is there and the caller's alone.
unsafe fn drop_outcome<F, T>(raw: NonNull<TaskHeader>) {
    // SAFETY: by the contract.
    unsafe { raw.as_ref() }.witness.1.exclusive().end();
    // SAFETY: by the contract.
    unsafe { body::<F, T>(raw).cast::<Outcome<T>>().drop_in_place() };
}

/// # Safety
/// `raw` came from `TaskRef::build::<F, T, M>` and no reference is left; the body is empty or its
/// closure was never taken.
unsafe fn free<F, T, M>(raw: NonNull<TaskHeader>) {
    // SAFETY: the box leaked in `build`; `Body` drops nothing by itself.
    let mut cell = unsafe { Box::from_raw(raw.cast::<Cell<F, T, M>>().as_ptr()) };
    if cell.header.state.load(Relaxed) & DONE == 0 {
        let body = cell.body.get_mut();
        // SAFETY: without DONE and without a task that could run, the closure is still there.
        unsafe { ManuallyDrop::drop(&mut body.closure) };
    }
}

/// The end of a task against its handle: taken, given up, dropped, or listened to.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize as Count;
    use loom::thread;

    use super::super::waiter::ThreadParker;
    use super::*;

    /// Counts the ends of closures and outcomes.
    struct Thing(Arc<Count>);

    impl Drop for Thing {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn task(drops: &Arc<Count>) -> (TaskRef, Key<Thing>) {
        let thing = Thing(drops.clone());
        // SAFETY: everything is Send and 'static.
        unsafe { TaskRef::new(move || thing, 1, Location::caller(), 0) }
    }

    /// What the starting worker does, on a thread of its own; whether a joiner was to be woken.
    fn end(task: TaskRef) -> thread::JoinHandle<bool> {
        thread::spawn(move || {
            task.raise(STARTED);
            // SAFETY: once, by the one worker; the stack does not matter to a closure like this.
            let exit = unsafe { task.run() };
            task.complete(exit).joiner.is_some()
        })
    }

    fn joiner() -> Waiter {
        Waiter::Thread(ThreadParker::new())
    }

    #[test]
    fn loom_the_joiner_is_woken_or_sees_the_end() {
        loom::model(|| {
            let drops = Arc::new(Count::new(0));
            let (task, mut key) = task(&drops);
            let end = end(task);
            let waits = key.set_joiner(joiner());
            assert_eq!(
                end.join().unwrap(),
                waits,
                "slept over, or woken for nothing"
            );
            drop(key.take());
            assert_eq!(drops.load(Relaxed), 1);
        });
    }

    #[test]
    fn loom_a_joiner_that_gives_up() {
        loom::model(|| {
            let drops = Arc::new(Count::new(0));
            let (task, mut key) = task(&drops);
            let end = end(task);
            let waits = key.set_joiner(joiner());
            let gave_up = waits && key.clear_joiner();
            if waits && !gave_up {
                assert!(key.task().is_done(), "neither in the slot nor ended");
            }
            // A second wait after one in vain.
            let again = gave_up && key.set_joiner(joiner());
            assert_eq!(end.join().unwrap(), (waits && !gave_up) || again);
            drop(key.take());
            assert_eq!(drops.load(Relaxed), 1);
        });
    }

    #[test]
    fn loom_the_handle_goes_while_the_task_ends() {
        loom::model(|| {
            let drops = Arc::new(Count::new(0));
            let (task, key) = task(&drops);
            let end = end(task);
            drop(key);
            assert!(!end.join().unwrap());
            assert_eq!(drops.load(Relaxed), 1);
        });
    }

    #[test]
    fn loom_a_task_that_never_starts() {
        loom::model(|| {
            let drops = Arc::new(Count::new(0));
            let (task, key) = task(&drops);
            let other = thread::spawn(move || drop(task));
            key.task().raise(KILLED);
            drop(key);
            other.join().unwrap();
            assert_eq!(
                drops.load(Relaxed),
                1,
                "the closure goes with the last reference"
            );
        });
    }

    fn tell(listeners: Vec<(Listener, Exit)>) {
        for (listener, exit) in listeners {
            let (Listener::Inline(f) | Listener::InTask(f)) = listener;
            f(exit);
        }
    }

    fn add(task: &TaskRef, told: &Arc<Count>) {
        let told = told.clone();
        tell(task.listen(Listener::Inline(Box::new(move |exit| {
            assert_eq!(exit, Exit::Returned);
            told.fetch_add(1, Relaxed);
        }))));
    }

    /// A listener that comes while the task ends is told once, by itself or by the end.
    #[test]
    fn loom_a_listener() {
        loom::model(|| {
            let told = Arc::new(Count::new(0));
            let drops = Arc::new(Count::new(0));
            let (task, key) = task(&drops);
            let ending = thread::spawn(move || {
                // SAFETY: as in `end`.
                let exit = unsafe { task.run() };
                let done = task.complete(exit);
                tell(done.listeners.into_iter().map(|l| (l, exit)).collect());
            });
            add(key.task(), &told);
            ending.join().unwrap();
            assert_eq!(told.load(Relaxed), 1);
            drop(key.take());
        });
    }
}
