//! The lock below everything else: mutual exclusion for about 10 ns, between tasks, workers and
//! ordinary OS threads. It never parks.
//!
//! - `word`: the lock proper; the id of the last holder, and [`LOCKED`] while it is inside.
//! - `bias`: the id of the thread that owns the lock and the number of this grant (1 or 2); or,
//!   while nobody does, the *credit*: acquisitions in a row still to come before the next grant,
//!   and the grants made so far. Written only with the word held.
//! - `held`, one per grant: the owner is inside. Written only by that grant's owner.
//!
//! A read-modify-write instruction costs more (5.3 ns) than all the rest. An unbiased lock needs
//! one; a thread that came back often enough owns the lock and needs none. By ski-rental:
//! revocation costs 0.4 us if the owner sleeps and 10-13 us if it runs (one membarrier), a biased
//! acquisition saves 5 ns, so the lock is granted after 2,500 in a row; a second time after 16
//! times as many, and never again.
//!
//! Owner (`bias` names this thread):
//! 1. load `bias`; the grant's number gives `held`; if that is set, we are inside already: panic;
//! 2. store `held`;
//! 3. light fence;
//! 4. load `bias`; if it has changed, clear `held` (Release) and lock as everybody else;
//! 5. critical section;
//! 6. clear `held` (Release).
//!
//! Revoker (any other thread):
//! 1. take `word` (Acquire) and find the owner's name in `bias`;
//! 2. store a credit into `bias`;
//! 3. heavy fence;
//! 4. wait until `held` of that grant is clear (Acquire);
//! 5. critical section;
//! 6. clear `word` (Release).
//!
//! Grant: with the word held, in place of the critical section: set `held`, store `bias`, clear
//! `word` (Release); the acquisition goes on at the owner's 5.
//!
//! Exclusion: the two fences are ordered. If the owner's comes first, the revoker's 4 sees the
//! owner's 2 or what followed it, so "clear" means that this critical section is over. If the
//! revoker's comes first, the owner's 4 sees the revoker's 2 or what followed it, which is never
//! the same grant again: the owner stays out. Whoever takes the word sees the last grant, since
//! `bias` is written with the word held; so nobody enters past an owner unnoticed.
//! The owner's last critical section happens-before the revoker's (owner 6 to revoker 4), and
//! that one before the former owner's next, which goes through the word (6 to 1). Owner 4 is
//! Relaxed: from the grant to the revocation nobody else writes, so there is nothing to acquire.
//!
//! Why a `held` for each grant: a former owner may be delayed between 1 and 2 until somebody else
//! owns the lock; when it then backs out in 4, it would clear the new owner's flag.
//!
//! - The owner has died: `held` is clear and ids are not reused, so it is revoked as any other.
//! - Locking twice panics in both modes: an owner sees its `held`, another finds its own id in
//!   `word` or, if it was revoked while inside, in `held`. (`try_lock`: `None`.) Not seen, and a
//!   deadlock: threads past the 2^29th, which have no id of their own and never own a lock.
//! - A panic inside unlocks by the guard's `Drop`; there is no poison. A forgotten guard locks
//!   for ever. In a signal handler it may panic or spin, if the lock is held by that thread.
//! - A forked child finds locks of threads it does not have: biased ones are revoked (membarrier's
//!   registration is inherited), held ones stay locked for ever, as with any lock; those of the process
//!   are therefore held by whoever forks (`at_fork.rs`).
//! - Without membarrier no lock is ever granted, so the owner's fence needs no check.
//!   Nor before [`membarrier::register`] was called, which no lock does: it may take 27 ms.
//!
//! Not fair. Rejected: unlocking by a compare-exchange with a parking list (std, 10.9 ns).

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
// Ids come from here in models too: which ones does not matter, only that they differ.
use std::sync::atomic::AtomicU32 as Counter;

use crate::membarrier;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{Access, AtomicU32, Backoff, Witness, thread_local};

/// The lowest bit of `word` and of a `held`: somebody is inside.
const LOCKED: u32 = 1;
/// Set in every thread id, clear in a credit: tells them apart in `bias`.
const IS_ID: u32 = 1 << 31;
/// Ids and credits leave the two lowest bits free; in `bias` they count the grants.
const GRANT_MASK: u32 = 3;
const ONE: u32 = GRANT_MASK + 1;
/// How often a lock is given to a thread in its life.
const GRANTS: usize = 2;

/// What a thread has before its first lock, and what it keeps when ids have run out.
const UNASSIGNED: u32 = IS_ID;
const NO_ID: u32 = !GRANT_MASK;

/// Acquisitions in a row by one thread before the first and the second grant.
const BIAS_AFTER: [u32; GRANTS] = [2_500, 40_000];

/// A flag that this thread has set, and the value that frees it again. (Not a guard: this goes
/// through registers.)
type Taken<'a> = (&'a AtomicU32, u32);

/// A mutual-exclusion lock for critical sections of some nanoseconds.
///
/// It never parks a task: who must wait spins, then yields and sleeps with its OS thread. So
/// never hold it across a call that may park, lock or run code of others.
pub struct ShortLock<T> {
    /// `[word, held by the first grant's owner, held by the second's]`.
    flags: [AtomicU32; 1 + GRANTS],
    bias: AtomicU32,
    witness: Witness,
    #[cfg(test)]
    bias_after: [u32; GRANTS],
    value: UnsafeCell<T>,
}

#[cfg(not(any(test, loom)))]
const _: () = assert!(size_of::<ShortLock<u32>>() == 20);

// SAFETY: the value is reached through `&ShortLock` only by way of a guard, of which there is one
// at a time, each ordered after the one before (file head); so threads hand the value over to one
// another, for which `T: Send` is enough. All other fields are atomics.
unsafe impl<T: Send> Sync for ShortLock<T> {}

/// The right to use the value; gives the lock back when dropped.
#[must_use = "the lock is given back at once"]
pub struct ShortGuard<'a, T> {
    lock: &'a ShortLock<T>,
    /// The flag to give back, and with which value.
    flag: &'a AtomicU32,
    free: u32,
    access: Access,
    /// The flag is this thread's: not `Send`.
    not_send: PhantomData<*mut ()>,
}

impl<T> ShortLock<T> {
    /// Returns a free lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self {
            flags: [const { AtomicU32::new(0) }; 1 + GRANTS],
            bias: AtomicU32::new(0),
            witness: Witness::new(),
            #[cfg(test)]
            bias_after: BIAS_AFTER,
            value: UnsafeCell::new(value),
        }
    }

    /// Returns a free lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            flags: std::array::from_fn(|_| AtomicU32::new(0)),
            bias: AtomicU32::new(0),
            witness: Witness::new(),
            #[cfg(test)]
            bias_after: BIAS_AFTER,
            value: UnsafeCell::new(value),
        }
    }

    /// Waits until the lock is free and takes it.
    ///
    /// # Blocking
    /// Blocks the OS thread, never parks the task.
    ///
    /// # Panics
    /// When this OS thread holds the lock already: the caller locked twice, or a task parked
    /// while it held the lock.
    #[inline(always)]
    pub fn lock(&self) -> ShortGuard<'_, T> {
        let me = my_id();
        let bias = self.bias.load(Relaxed);
        // Owner 1. The difference is the grant's number if the lock is biased to this thread,
        // never 0, and out of range otherwise.
        if let Some(held) = self.flags.get((bias ^ me) as usize) {
            if held.load(Relaxed) & LOCKED != 0 {
                locked_twice();
            }
            if self.enter_biased(held, me, bias) {
                return self.guard((held, me));
            }
        }
        let last = self.word().load(Relaxed);
        if me != UNASSIGNED && self.take_word(last, me) {
            return self.guard(self.settle(me, last));
        }
        self.guard(self.lock_slow(me))
    }

    /// Takes the lock if it is free.
    ///
    /// Waits for another thread's critical section only where that thread owned the lock and
    /// entered it in the very moment of the revocation.
    #[inline(always)]
    pub fn try_lock(&self) -> Option<ShortGuard<'_, T>> {
        let mut me = my_id();
        let bias = self.bias.load(Relaxed);
        if let Some(held) = self.flags.get((bias ^ me) as usize) {
            if held.load(Relaxed) & LOCKED != 0 {
                return None;
            }
            if self.enter_biased(held, me, bias) {
                return Some(self.guard((held, me)));
            }
        }
        if me == UNASSIGNED {
            me = assign_id();
        }
        let last = self.word().load(Relaxed);
        if !self.take_word(last, me) {
            return None;
        }
        let bias = self.bias.load(Relaxed);
        if bias & IS_ID != 0 && self.held(bias).load(Relaxed) & LOCKED != 0 {
            self.word().store(me, Release);
            return None;
        }
        Some(self.guard(self.settle(me, last)))
    }

    /// Returns the value of a lock that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    #[inline]
    fn word(&self) -> &AtomicU32 {
        &self.flags[0]
    }

    #[inline]
    fn held(&self, bias: u32) -> &AtomicU32 {
        &self.flags[(bias & GRANT_MASK) as usize]
    }

    /// Owner 2-4.
    #[inline]
    fn enter_biased(&self, held: &AtomicU32, me: u32, bias: u32) -> bool {
        held.store(me | LOCKED, Relaxed);
        membarrier::light_registered();
        if self.bias.load(Relaxed) == bias {
            return true;
        }
        held.store(me, Release);
        false
    }

    #[inline]
    fn take_word(&self, last: u32, me: u32) -> bool {
        last & LOCKED == 0
            && self
                .word()
                .compare_exchange(last, me | LOCKED, Acquire, Relaxed)
                .is_ok()
    }

    /// The word was taken by `me`, after `last`: revokes another's bias, or counts.
    #[inline]
    fn settle(&self, me: u32, last: u32) -> Taken<'_> {
        let credit = self.bias.load(Relaxed);
        if credit & IS_ID != 0 {
            self.revoke(credit);
        } else if last != me {
            self.bias.store(self.full_credit(credit), Relaxed);
        } else if credit >= ONE {
            self.bias.store(credit - ONE, Relaxed);
        } else {
            return self.grant(me, credit);
        }
        (self.word(), me)
    }

    #[inline]
    fn guard<'a>(&'a self, (flag, free): Taken<'a>) -> ShortGuard<'a, T> {
        count_held(1);
        ShortGuard {
            lock: self,
            flag,
            free,
            access: self.witness.exclusive(),
            not_send: PhantomData,
        }
    }

    /// The credit of a thread that has just come, given the grants in the low bits of `made`.
    #[inline]
    fn full_credit(&self, made: u32) -> u32 {
        #[cfg(not(test))]
        let after = &BIAS_AFTER;
        #[cfg(test)]
        let after = &self.bias_after;
        let made = made & GRANT_MASK;
        match made {
            0 => after[0] * ONE,
            1 => (after[1] * ONE) | 1,
            // As much as fits, to come here rarely.
            _ => !(IS_ID | GRANT_MASK) | made,
        }
    }

    /// Turns this acquisition into the first biased one.
    #[cold]
    #[inline(never)]
    fn grant(&self, me: u32, credit: u32) -> Taken<'_> {
        let bias = me | ((credit & GRANT_MASK) + 1);
        if me == NO_ID || credit as usize == GRANTS || !membarrier::registered() {
            self.bias.store(self.full_credit(credit), Relaxed);
            return (self.word(), me);
        }
        let held = self.held(bias);
        held.store(me | LOCKED, Relaxed);
        self.bias.store(bias, Relaxed);
        self.word().store(me, Release);
        (held, me)
    }

    /// Revoker 2-4.
    #[cold]
    #[inline(never)]
    fn revoke(&self, bias: u32) {
        self.bias.store(self.full_credit(bias), Relaxed);
        membarrier::heavy();
        let held = self.held(bias);
        let mut backoff = Backoff::new();
        while held.load(Acquire) & LOCKED != 0 {
            backoff.wait();
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, me: u32) -> Taken<'_> {
        let me = if me == UNASSIGNED { assign_id() } else { me };
        // Only this thread writes this value, so what is read is no leftover.
        if me != NO_ID && self.flags.iter().any(|f| f.load(Relaxed) == me | LOCKED) {
            locked_twice();
        }
        let mut backoff = Backoff::new();
        loop {
            let last = self.word().load(Relaxed);
            if self.take_word(last, me) {
                return self.settle(me, last);
            }
            backoff.wait();
        }
    }
}

impl<T> Deref for ShortGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while the guard lives nobody else has one (file head), so there is no `&mut`
        // but through `deref_mut`, which borrows the guard exclusively.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for ShortGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` rules out other borrows through this guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for ShortGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.access.end();
        count_held(-1);
        self.flag.store(self.free, Release);
    }
}

impl<T> fmt::Debug for ShortLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortLock").finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for ShortGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cold]
#[inline(never)]
fn locked_twice() -> ! {
    panic!(
        "sward: this thread locks a ShortLock that it holds already: it was locked twice, or a \
         task was parked while it held the lock"
    );
}

#[cfg(not(loom))]
thread_local! {
    static ID: Cell<u32> = const { Cell::new(UNASSIGNED) };
}
#[cfg(loom)]
thread_local! {
    static ID: Cell<u32> = Cell::new(UNASSIGNED);
}

#[inline]
fn my_id() -> u32 {
    ID.with(Cell::get)
}

#[cold]
#[inline(never)]
fn assign_id() -> u32 {
    static LAST: Counter = Counter::new(UNASSIGNED);
    let next = |last: u32| (last < NO_ID).then(|| last + ONE);
    let id = LAST
        .fetch_update(Relaxed, Relaxed, next)
        .map_or(NO_ID, |last| last + ONE);
    ID.with(|mine| mine.set(id));
    id
}

/// The number of locks that this OS thread holds: what `park` refuses to happen under.
/// Release builds do not count (1 ns per lock) and return 0.
#[inline]
pub(crate) fn short_locks_held() -> u32 {
    #[cfg(all(debug_assertions, not(loom)))]
    return HELD.get();
    #[cfg(not(all(debug_assertions, not(loom))))]
    0
}

#[inline(always)]
fn count_held(_change: i32) {
    #[cfg(all(debug_assertions, not(loom)))]
    HELD.set(HELD.get().wrapping_add_signed(_change));
}

#[cfg(all(debug_assertions, not(loom)))]
thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

#[cfg(test)]
impl<T> ShortLock<T> {
    /// A lock that is granted after so many acquisitions in a row; 0: at the second.
    fn with_bias_after(value: T, bias_after: [u32; GRANTS]) -> Self {
        let mut lock = Self::new(value);
        lock.bias_after = bias_after;
        lock
    }

    fn is_biased_to(&self, id: u32) -> bool {
        let bias = self.bias.load(Relaxed);
        id != UNASSIGNED && bias & IS_ID != 0 && bias & !GRANT_MASK == id
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    /// Two halves that are equal whenever nobody is inside.
    type Pair = [u64; 2];

    fn bump(lock: &ShortLock<Pair>) {
        let mut pair = lock.lock();
        assert_eq!(pair[0], pair[1], "two threads inside");
        pair[0] += 1;
        std::hint::black_box(&mut *pair);
        pair[1] += 1;
    }

    /// Returns a lock that this thread owns.
    fn owned() -> ShortLock<Pair> {
        assert!(membarrier::register());
        let lock = ShortLock::with_bias_after([0; 2], [0, 1_000_000]);
        bump(&lock);
        bump(&lock);
        assert!(lock.is_biased_to(my_id()));
        lock
    }

    #[test]
    fn bias_comes_and_goes_under_four_threads() {
        assert!(membarrier::register());
        for round in 0..300 {
            let lock = ShortLock::with_bias_after([0; 2], [round % 7, 3 * (round % 11)]);
            let start = Barrier::new(4);
            std::thread::scope(|s| {
                for seed in 0..4 {
                    let (lock, start) = (&lock, &start);
                    s.spawn(move || {
                        start.wait();
                        for i in 0..400 {
                            bump(lock);
                            if (i + seed * 31) % 97 == 0 {
                                std::thread::yield_now();
                            }
                        }
                    });
                }
            });
            assert_eq!(lock.into_inner(), [1_600; 2]);
        }
    }

    /// The race that the heavy fence is for: the owner is in full flight when it is revoked.
    #[test]
    fn an_owner_in_full_flight_is_revoked() {
        for _ in 0..500 {
            let lock = owned();
            let mut expected = 3;
            std::thread::scope(|s| {
                s.spawn(|| bump(&lock));
                while lock.is_biased_to(my_id()) {
                    bump(&lock);
                    expected += 1;
                }
            });
            assert_eq!(lock.into_inner(), [expected; 2]);
        }
    }

    #[test]
    fn a_lock_is_granted_twice_at_most() {
        assert!(membarrier::register());
        let lock = ShortLock::with_bias_after([0; 2], [3, 5]);
        let mut granted = [0; 5];
        for times in &mut granted {
            // Always another thread: the one before is revoked at once, or loses its credit.
            std::thread::scope(|s| {
                let count = || {
                    (1..100).find(|_| {
                        bump(&lock);
                        lock.bias.load(Relaxed) & IS_ID != 0
                    })
                };
                *times = s.spawn(count).join().unwrap().unwrap_or(0);
            });
        }
        assert_eq!(granted, [5, 7, 0, 0, 0]);
    }

    #[test]
    fn a_dead_owner_is_revoked() {
        let lock = std::thread::spawn(owned).join().unwrap();
        bump(&lock);
        assert_eq!(lock.into_inner(), [3; 2]);
    }

    #[test]
    fn locking_twice_panics_and_unlocks() {
        for lock in [ShortLock::new([0; 2]), owned()] {
            let twice = || {
                let _one = lock.lock();
                let _two = lock.lock();
            };
            let payload = catch_unwind(AssertUnwindSafe(twice)).unwrap_err();
            assert!(
                payload
                    .downcast_ref::<&str>()
                    .unwrap()
                    .contains("holds already")
            );
            bump(&lock);
            assert_eq!(short_locks_held(), 0);
        }
    }

    /// The revoker holds the word and waits for this thread, which must not wait for the word.
    #[test]
    fn locking_twice_panics_while_being_revoked() {
        let lock = owned();
        std::thread::scope(|s| {
            let guard = lock.lock();
            s.spawn(|| bump(&lock));
            while lock.is_biased_to(my_id()) {
                std::thread::yield_now();
            }
            assert!(lock.try_lock().is_none());
            let twice = || drop(lock.lock());
            assert!(catch_unwind(AssertUnwindSafe(twice)).is_err());
            drop(guard);
        });
        assert_eq!(lock.into_inner(), [3; 2]);
    }

    #[test]
    fn try_lock_refuses_while_held() {
        for lock in [ShortLock::new([0; 2]), owned()] {
            let guard = lock.lock();
            assert!(lock.try_lock().is_none(), "by this thread");
            let other = || assert!(lock.try_lock().is_none(), "by another");
            std::thread::scope(|s| s.spawn(other).join().unwrap());
            drop(guard);
            drop(lock.try_lock().unwrap());
            let other = || drop(lock.try_lock().unwrap());
            std::thread::scope(|s| s.spawn(other).join().unwrap());
        }
    }

    #[test]
    fn a_waiter_outlasts_a_holder_that_sleeps() {
        for lock in [ShortLock::new([0; 2]), owned()] {
            std::thread::scope(|s| {
                let mut guard = lock.lock();
                guard[0] += 1;
                s.spawn(|| bump(&lock));
                #[allow(clippy::disallowed_methods)] // The holder must sleep: that is the test.
                std::thread::sleep(Duration::from_millis(20));
                guard[1] += 1;
            });
        }
    }

    #[test]
    fn a_thread_without_an_id_never_owns() {
        let lock = ShortLock::with_bias_after([0; 2], [0; 2]);
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    ID.set(NO_ID);
                    (0..1_000).for_each(|_| bump(&lock));
                    assert!(!lock.is_biased_to(NO_ID));
                });
            }
        });
        assert_eq!(lock.into_inner(), [2_000; 2]);
    }

    #[test]
    fn held_locks_are_counted_in_debug_builds() {
        let (a, mut b) = (ShortLock::new(1), ShortLock::new(2));
        let guards = (a.lock(), b.lock());
        assert_eq!(
            short_locks_held(),
            if cfg!(debug_assertions) { 2 } else { 0 }
        );
        drop(guards);
        assert_eq!(short_locks_held(), 0);
        *b.get_mut() += 1;
        assert_eq!(b.into_inner(), 3);
    }

    /// A lock owned by a thread that the child of a fork does not have.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_forked_child_revokes() {
        let lock = std::thread::spawn(owned).join().unwrap();
        // SAFETY: the child makes only system calls and touches this test's own memory.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(lock.lock());
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(lock.bias.load(Relaxed) & IS_ID != 0)) };
        }
        let mut status = -1;
        // SAFETY: `status` outlives the call.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!((waited, status), (child, 0));
    }

    #[test]
    fn the_lock_is_sync_and_the_guard_is_not_send() {
        trait AmbiguousIfSend<A> {
            fn check() {}
        }
        impl<T: ?Sized> AmbiguousIfSend<()> for T {}
        impl<T: ?Sized + Send> AmbiguousIfSend<u8> for T {}
        <ShortGuard<'static, ()> as AmbiguousIfSend<_>>::check();
        fn sync<T: Send + Sync>() {}
        sync::<ShortLock<Cell<u8>>>();
    }
}

#[cfg(all(test, loom))]
#[allow(clippy::unwrap_used)]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, thread};

    /// Every interleaving with at most three preemptions.
    fn model(body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(3));
        builder.check(body);
    }

    fn by_lock(lock: &ShortLock<usize>) -> bool {
        *lock.lock() += 1;
        true
    }

    /// For three threads: loom explores two that spin in turns without end.
    fn by_try_lock(lock: &ShortLock<usize>) -> bool {
        lock.try_lock().map(|mut n| *n += 1).is_some()
    }

    /// Each thread enters so many `times`, the first of them is this one; `owned`: it owns the
    /// lock when the others start.
    fn run(
        enter: fn(&ShortLock<usize>) -> bool,
        bias_after: [u32; GRANTS],
        owned: bool,
        times: &[usize],
    ) {
        let lock = Arc::new(ShortLock::with_bias_after(0, bias_after));
        let entered = move |lock: &_, times| (0..times).filter(|_| enter(lock)).count();
        let mut expected = entered(&lock, if owned { 2 } else { 0 });
        assert_eq!(lock.is_biased_to(my_id()), owned);
        let others: Vec<_> = times[1..]
            .iter()
            .map(|&times| {
                let lock = lock.clone();
                thread::spawn(move || entered(&lock, times))
            })
            .collect();
        expected += entered(&lock, times[0]);
        for other in others {
            expected += other.join().unwrap();
        }
        assert_eq!(*lock.lock(), expected);
    }

    #[test]
    fn loom_unbiased() {
        model(|| run(by_lock, BIAS_AFTER, false, &[2, 2]));
    }

    #[test]
    fn loom_unbiased_three() {
        model(|| run(by_try_lock, BIAS_AFTER, false, &[1, 1, 1]));
    }

    #[test]
    fn loom_owner_and_revoker() {
        model(|| run(by_lock, [0, 9], true, &[2, 1]));
    }

    #[test]
    fn loom_owner_and_two_revokers() {
        model(|| run(by_try_lock, [0, 9], true, &[2, 1, 1]));
    }

    /// Grants race with the other's wait for the word.
    #[test]
    fn loom_grant_and_waiter() {
        model(|| run(by_lock, [0, 9], false, &[2, 2]));
    }

    /// The revoker comes to own the lock, and is revoked by the former owner.
    #[test]
    fn loom_second_grant() {
        model(|| run(by_lock, [0, 0], true, &[1, 3]));
    }

    /// The former owner is still on its way in while the revoker comes to own the lock and a
    /// third thread revokes that.
    #[test]
    fn loom_former_owner_and_second_grant() {
        model(|| run(by_try_lock, [0, 0], true, &[1, 3, 1]));
    }

    #[test]
    fn loom_a_free_lock_is_not_refused_to_all() {
        model(|| {
            let lock = Arc::new(ShortLock::with_bias_after(0, [0; 2]));
            assert!(by_lock(&lock) && by_lock(&lock));
            let other = {
                let lock = lock.clone();
                thread::spawn(move || by_try_lock(&lock))
            };
            let mine = by_try_lock(&lock);
            assert!(other.join().unwrap() || mine);
        });
    }
}
