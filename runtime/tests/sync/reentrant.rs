//! The reentrant mutex: its owner, a task or a thread, may lock it again.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use crate::storm::{everywhere, runtime, storm, trouble, until_waiting};
use sward_runtime::sync::{ReentrantMutex, ReentrantMutexGuard};
use sward_runtime::{
    TimedOut, WaitKind, current, dump, join_all, on_worker_stack, sleep, spawn, timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);
const FREE: &str = "ReentrantMutex { depth: 0, holder: 0, waiting: 0, .. }";

#[test]
fn its_owner_locks_again() {
    fn count(lock: &ReentrantMutex<Cell<u32>>, depth: u32) {
        let guard = lock.lock();
        guard.set(guard.get() + 1);
        if depth > 1 {
            yield_now();
            count(lock, depth - 1);
        }
    }
    within("its_owner_locks_again", || {
        everywhere(|| {
            let lock = ReentrantMutex::new(Cell::new(0));
            count(&lock, 50);
            let a = lock.lock();
            let b = lock.try_lock().unwrap();
            let c = lock.lock_timeout(Duration::ZERO).unwrap();
            on_worker_stack(|| drop(lock.lock()));
            // In an odd order.
            drop(a);
            drop(c);
            std::thread::scope(|s| {
                s.spawn(|| assert!(lock.try_lock().is_none(), "one guard is left"));
            });
            assert_eq!(b.get(), 50);
            drop(b);
            assert_eq!(format!("{lock:?}"), FREE);
            let mut lock = lock;
            lock.get_mut().set(1);
            assert_eq!(lock.into_inner().get(), 1);
        });
        static GLOBAL: ReentrantMutex<Cell<u32>> = ReentrantMutex::new(Cell::new(0));
        GLOBAL.lock().set(1);
        assert_eq!(GLOBAL.lock().get(), 1);
        let unsized_: &ReentrantMutex<[Cell<u8>]> = &ReentrantMutex::new([Cell::new(0)]);
        unsized_.lock()[0].set(2);
        assert_eq!(unsized_.lock()[0].get(), 2);
        assert_eq!(ReentrantMutex::<u8>::default().into_inner(), 0);
    });
}

/// The owner is a task: another one of the same thread waits.
#[test]
fn tasks_of_one_thread_are_different() {
    within("tasks_of_one_thread_are_different", || {
        runtime(1).run(|| {
            let lock = Arc::new(ReentrantMutex::new(RefCell::new(Vec::new())));
            let outer = lock.lock();
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let lock = lock.clone();
                    spawn(move || {
                        assert!(lock.try_lock().is_none());
                        let _held = lock.lock();
                        yield_now();
                        lock.lock().borrow_mut().push(i);
                    })
                })
                .collect();
            until_waiting(WaitKind::ReentrantMutex, 100);
            let inner = lock.lock();
            drop(outer);
            yield_now();
            assert!(inner.borrow().is_empty());
            let text = dump().to_string();
            let address = Arc::as_ptr(&lock).addr();
            let says = format!(
                "reentrant mutex {address:#x} held by task {}",
                current().id()
            );
            assert!(text.contains(&says), "{says} is not in\n{text}");
            drop(inner);
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert!(
                lock.lock().borrow().iter().copied().eq(0..100),
                "first come, first served"
            );
            assert_eq!(format!("{lock:?}"), FREE);
        });
    });
}

#[test]
fn limits() {
    within("limits", || {
        everywhere(|| {
            let lock = Arc::new(ReentrantMutex::new(()));
            let held = lock.lock();
            std::thread::scope(|s| {
                s.spawn(|| {
                    let begun = Instant::now();
                    assert_eq!(lock.lock_timeout(SHORT).err(), Some(TimedOut));
                    assert!(begun.elapsed() >= SHORT);
                    assert!(timeout(SHORT, || drop(lock.lock())).is_err());
                });
            });
            let waits = lock.clone();
            let task = spawn(move || waits.lock_timeout(Duration::MAX).is_ok());
            until(|| format!("{lock:?}").contains("waiting: 1"));
            drop(held);
            assert!(task.join().unwrap());
        });
    });
}

#[test]
fn who_is_killed_or_panics_unlocks() {
    within("who_is_killed_or_panics_unlocks", || {
        runtime(2).run(|| {
            let lock = Arc::new(ReentrantMutex::new(()));
            let inside = lock.clone();
            let holder = spawn(move || {
                let (_a, _b) = (inside.lock(), inside.lock());
                sleep(LONG);
            });
            until(|| format!("{lock:?}").contains("depth: 2"));
            let waits = lock.clone();
            let killed = spawn(move || drop(waits.lock()));
            let waits = lock.clone();
            let waiter = spawn(move || drop(waits.lock()));
            until_waiting(WaitKind::ReentrantMutex, 2);
            killed.kill();
            assert!(killed.join().is_err());
            holder.kill();
            waiter.join().unwrap();
            let inside = lock.clone();
            let task = spawn(move || {
                let (_a, _b) = (inside.lock(), inside.lock());
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(task.join().is_err() && holder.join().is_err());
            assert_eq!(format!("{lock:?}"), FREE);
        });
    });
}

#[test]
fn exclusion_in_a_storm() {
    within("exclusion_in_a_storm", || {
        struct Inside<'a>(&'a AtomicUsize);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        let lock = Arc::new(ReentrantMutex::new(Cell::new(0_u64)));
        let (inside, changes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (l, c) = (lock.clone(), changes.clone());
        storm(0x4EE2, move |random| {
            let limit = Duration::from_micros(random.below(200));
            let guard = match random.below(4) {
                0 => l.lock_timeout(limit).ok(),
                1 => l.try_lock(),
                _ => Some(l.lock()),
            };
            let Some(guard) = guard else { return };
            let mut guards: Vec<ReentrantMutexGuard<'_, _>> = vec![guard];
            assert_eq!(inside.fetch_add(1, SeqCst), 0, "two have the lock");
            // Dropped before the guards.
            let _inside = Inside(&inside);
            for _ in 0..random.below(4) {
                let seen = guards[0].get();
                guards.push(match random.below(3) {
                    0 => l.try_lock().unwrap(),
                    1 => l.lock_timeout(Duration::ZERO).unwrap(),
                    _ => l.lock(),
                });
                guards[0].set(seen + 1);
                c.fetch_add(1, SeqCst);
                trouble(random);
                assert_eq!(guards[0].get(), seen + 1);
                let at = random.below(guards.len() as u64) as usize;
                drop(guards.swap_remove(at));
            }
        });
        assert_eq!(lock.lock().get() as usize, changes.load(SeqCst));
        assert_eq!(format!("{lock:?}"), FREE);
    });
}

/// In a destructor of a task that unwinds: its own lock is its own, another's blocks the worker.
#[test]
fn while_unwinding() {
    struct Locks(Arc<ReentrantMutex<()>>, Arc<ReentrantMutex<()>>);
    impl Drop for Locks {
        fn drop(&mut self) {
            drop(self.0.lock());
            assert!(self.1.lock_timeout(LONG).is_err(), "may not wait");
            drop(self.1.lock());
        }
    }
    within("while_unwinding", || {
        let runtime = runtime(1);
        let (own, other) = (
            Arc::new(ReentrantMutex::new(())),
            Arc::new(ReentrantMutex::new(())),
        );
        let held = other.lock();
        let locks = Locks(own.clone(), other.clone());
        let task = runtime.spawn(move || {
            let _guard = own.lock();
            let _locks = locks;
            current().kill();
        });
        until(|| format!("{other:?}").contains("waiting: 1"));
        drop(held);
        assert!(task.join().unwrap_err().is_killed());
    });
}
