//! The mutex: exclusion, who comes next, and what ends a wait.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use sward_runtime::sync::{Event, Mutex, MutexGuard};
use sward_runtime::{
    Builder, Runtime, TaskState, TimedOut, WaitKind, dump, join_all, sleep, spawn, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn until_waiting(count: usize) {
    until(|| {
        let waits = |t: &&sward_runtime::DumpedTask| {
            t.state == TaskState::Parked && t.reason.kind() == WaitKind::Mutex
        };
        dump().tasks().iter().filter(waits).count() == count
    });
}

/// Tasks of two workers and OS threads, with parks inside: never two at once, nothing lost.
#[test]
fn exclusion() {
    within("exclusion", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            // A Cell would be torn by two at once; `inside` says so.
            let lock = Arc::new(Mutex::new(Cell::new(0_u64)));
            let inside = Arc::new(AtomicUsize::new(0));
            let work = |i: usize| {
                let (lock, inside) = (lock.clone(), inside.clone());
                move || {
                    for turn in 0..500 {
                        let held = match turn % 3 {
                            0 => lock.lock_timeout(Duration::from_secs(60)).unwrap(),
                            _ => lock.lock(),
                        };
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two have the lock");
                        let seen = held.get();
                        if (i + turn).is_multiple_of(5) {
                            yield_now();
                        }
                        held.set(seen + 1);
                        inside.fetch_sub(1, SeqCst);
                    }
                }
            };
            let tasks: Vec<_> = (0..20)
                .map(|i| {
                    let builder = Builder::new().on_worker(i % workers);
                    runtime.spawn_with(builder, work(i)).unwrap()
                })
                .collect();
            let threads: Vec<_> = (20..23).map(|i| std::thread::spawn(work(i))).collect();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            threads.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(lock.lock().get(), 23 * 500);
        }
    });
}

#[test]
fn first_come_first_served() {
    within("first_come_first_served", || {
        runtime(1).run(|| {
            let lock = Arc::new(Mutex::new(Vec::new()));
            let held = lock.lock();
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let lock = lock.clone();
                    spawn(move || lock.lock().push(i))
                })
                .collect();
            until_waiting(100);
            drop(held);
            // Handed over: who comes now does not overtake the hundred.
            assert!(lock.try_lock().is_none());
            lock.lock().push(100);
            join_all(tasks);
            assert!(lock.lock().iter().copied().eq(0..=100));
        });
    });
}

#[test]
fn trying() {
    within("trying", || {
        let check = || {
            let lock = Arc::new(Mutex::new(1));
            let held = lock.try_lock().unwrap();
            assert!(lock.try_lock().is_none());
            let other = lock.clone();
            let task = spawn(move || other.try_lock().is_none());
            assert!(task.join().unwrap());
            drop(held);
            *lock.try_lock().unwrap() += 1;
            assert_eq!(*lock.lock(), 2);
            assert_eq!(Arc::into_inner(lock).unwrap().into_inner(), 2);
        };
        check();
        runtime(2).run(check);
    });
}

#[test]
fn limits() {
    within("limits", || {
        let check = || {
            let lock = Arc::new(Mutex::new(()));
            let held = lock.lock();
            for limit in [Duration::ZERO, Duration::from_millis(3)] {
                let begun = Instant::now();
                assert_eq!(lock.lock_timeout(limit).err(), Some(TimedOut));
                assert!(begun.elapsed() >= limit);
            }
            let waits = lock.clone();
            let task = spawn(move || waits.lock_timeout(Duration::MAX).is_ok());
            yield_now();
            drop(held);
            assert!(task.join().unwrap());
        };
        check();
        runtime(2).run(check);
    });
}

/// Time-outs race with hand-overs: a lock is never lost and never had twice.
#[test]
fn impatient_lockers() {
    within("impatient_lockers", || {
        let runtime = runtime(2);
        let lock = Arc::new(Mutex::new(0_u64));
        let work = |i: usize| {
            let lock = lock.clone();
            move || {
                let mut got = 0;
                for turn in 0..1500_u64 {
                    let limit = Duration::from_micros(turn % 30);
                    if let Ok(mut held) = lock.lock_timeout(limit) {
                        *held += 1;
                        got += 1;
                        if i.is_multiple_of(2) {
                            yield_now();
                        }
                    }
                }
                got
            }
        };
        let tasks: Vec<_> = (0..8)
            .map(|i| {
                let builder = Builder::new().on_worker(i % 2);
                runtime.spawn_with(builder, work(i)).unwrap()
            })
            .collect();
        let threads: Vec<_> = (8..10).map(|i| std::thread::spawn(work(i))).collect();
        let mut got: u64 = join_all(tasks).into_iter().map(Result::unwrap).sum();
        got += threads.into_iter().map(|t| t.join().unwrap()).sum::<u64>();
        assert_eq!(*lock.lock(), got);
        assert!(got > 0);
        assert_eq!(
            format!("{lock:?}"),
            "Mutex { locked: false, holder: 0, waiting: 0, .. }"
        );
    });
}

#[test]
fn who_is_killed_or_panics_unlocks() {
    within("who_is_killed_or_panics_unlocks", || {
        runtime(2).run(|| {
            let lock = Arc::new(Mutex::new(5));
            let begun = Arc::new(Event::new());
            let (inside, tell) = (lock.clone(), begun.clone());
            let holder = spawn(move || {
                let _held = inside.lock();
                tell.set();
                sleep(Duration::from_secs(3600));
            });
            begun.wait();
            let waits = lock.clone();
            let waiter = spawn(move || *waits.lock());
            let gives_up = lock.clone();
            let killed = spawn(move || *gives_up.lock());
            until_waiting(2);
            killed.kill();
            holder.kill();
            assert_eq!(waiter.join().unwrap(), 5, "the lock does not poison");
            assert!(holder.join().is_err() && killed.join().is_err());
            let inside = lock.clone();
            let task = spawn(move || {
                let _held = inside.lock();
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(task.join().is_err());
            assert_eq!(*lock.lock(), 5);
        });
    });
}

#[test]
fn text_and_shapes() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("text_and_shapes", || {
        runtime(1).run(|| {
            let lock = Arc::new(Mutex::new(String::from("inside")));
            shared(&*lock);
            let held = lock.lock();
            assert_eq!(format!("{held:?}"), "\"inside\"");
            let other = lock.clone();
            let task = spawn(move || drop(other.lock()));
            until_waiting(1);
            let me = sward_runtime::current().id();
            let expected = format!("Mutex {{ locked: true, holder: {me}, waiting: 1, .. }}");
            assert_eq!(format!("{lock:?}"), expected);
            drop(held);
            task.join().unwrap();
            let unsized_: &Mutex<[u8]> = &Mutex::new([1, 2, 3]);
            let mut all: MutexGuard<'_, [u8]> = unsized_.lock();
            all[1] = 9;
            assert_eq!(&*all, [1, 9, 3]);
            let mut own = Mutex::<u8>::default();
            *own.get_mut() = 4;
            assert_eq!(own.into_inner(), 4);
        });
        static GLOBAL: Mutex<u32> = Mutex::new(0);
        *GLOBAL.lock() += 1;
        assert_eq!(*GLOBAL.lock(), 1);
    });
}
