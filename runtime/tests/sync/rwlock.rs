//! The lock for many readers or one writer: exclusion, order, and what ends a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use crate::storm::{everywhere, runtime, storm, trouble, until_waiting};
use sward_runtime::sync::{Event, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use sward_runtime::{JoinHandle, TimedOut, WaitKind, dump, join_all, sleep, spawn, yield_now};

const LONG: Duration = Duration::from_secs(3600);
const FREE: &str = "RwLock { readers: 0, written: false, holder: 0, waiting: 0, .. }";

/// Spawns a task that writes (`true`) or reads, and then notes `name`.
fn comes(
    lock: &Arc<RwLock<()>>,
    log: &Arc<Mutex<Vec<u32>>>,
    name: u32,
    writes: bool,
) -> JoinHandle<()> {
    let (lock, log) = (lock.clone(), log.clone());
    let task = spawn(move || {
        if writes {
            let _held = lock.write();
            log.lock().push(name);
            yield_now();
        } else {
            let _held = lock.read();
            log.lock().push(name);
            yield_now();
        }
    });
    yield_now();
    task
}

/// std's example, and what std's methods do.
#[test]
fn as_std() {
    within("as_std", || {
        everywhere(|| {
            let lock = RwLock::new(5);
            {
                let (r1, r2) = (lock.read(), lock.read());
                assert_eq!((*r1, *r2), (5, 5));
                assert!(lock.try_write().is_none());
                assert_eq!(*lock.try_read().unwrap(), 5);
            }
            {
                let mut w = lock.write();
                *w += 1;
                assert_eq!(*w, 6);
                assert!(lock.try_read().is_none() && lock.try_write().is_none());
            }
            *lock.try_write().unwrap() += 1;
            assert_eq!(format!("{:?}", lock.read()), "7");
            assert_eq!(format!("{:?}", lock.write_timeout(LONG)), "Ok(7)");
            let mut lock = lock;
            *lock.get_mut() += 1;
            assert_eq!(lock.into_inner(), 8);
            // Guards in odd orders.
            let lock = RwLock::<u8>::default();
            let (a, b, c) = (lock.read(), lock.read(), lock.read());
            drop(b);
            drop(a);
            assert!(lock.try_write().is_none());
            drop(c);
            assert!(lock.try_write().is_some());
        });
        static GLOBAL: RwLock<u32> = RwLock::new(0);
        *GLOBAL.write() += 1;
        assert_eq!(*GLOBAL.read(), 1);
        let unsized_: &RwLock<[u8]> = &RwLock::new([1, 2]);
        unsized_.write()[0] = 9;
        assert_eq!(*unsized_.read(), [9, 2]);
    });
}

/// A writer that waits holds back later readers; readers in a run enter together.
#[test]
fn first_come_first_served() {
    within("first_come_first_served", || {
        runtime(1).run(|| {
            let lock = Arc::new(RwLock::new(()));
            let log = Arc::new(Mutex::new(Vec::new()));
            let held = lock.read();
            let writers = [3, 6, 7];
            let tasks: Vec<_> = (0..10)
                .map(|n| comes(&lock, &log, n, writers.contains(&n)))
                .collect();
            // 0 to 2 read beside us; 3 wants to write, and the others stand behind it.
            until_waiting(WaitKind::RwLock, 7);
            assert!(lock.try_read().is_none(), "overtakes a writer");
            assert_eq!(*log.lock(), [0, 1, 2]);
            drop(held);
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert!(log.lock().iter().copied().eq(0..10), "{log:?}");
            assert_eq!(format!("{lock:?}"), FREE);
        });
    });
}

#[test]
fn a_run_of_readers_enters_together() {
    within("a_run_of_readers_enters_together", || {
        // More than are woken in one go.
        for readers in [2, 64, 65, 200] {
            runtime(2).run(|| {
                let lock = Arc::new(RwLock::new(()));
                let inside = Arc::new(AtomicUsize::new(0));
                let held = lock.write();
                let tasks: Vec<_> = (0..readers)
                    .map(|_| {
                        let (lock, inside) = (lock.clone(), inside.clone());
                        spawn(move || {
                            let _held = lock.read();
                            inside.fetch_add(1, SeqCst);
                            until(|| inside.load(SeqCst) == readers);
                        })
                    })
                    .collect();
                until_waiting(WaitKind::RwLock, readers);
                drop(held);
                join_all(tasks).into_iter().for_each(Result::unwrap);
                assert_eq!(format!("{lock:?}"), FREE);
            });
        }
    });
}

/// The readers behind a writer that gives up enter: others read, and nobody is in the way.
#[test]
fn who_gives_up_makes_way() {
    within("who_gives_up_makes_way", || {
        for way in 0..3 {
            runtime(1).run(|| {
                let lock = Arc::new(RwLock::new(()));
                let held = lock.read();
                let writes = lock.clone();
                let writer = spawn(move || match way {
                    0 => drop(writes.write()),
                    1 => assert_eq!(
                        writes.write_timeout(Duration::from_millis(5)).err(),
                        Some(TimedOut)
                    ),
                    _ => assert!(
                        sward_runtime::timeout(Duration::from_millis(5), || drop(writes.write()))
                            .is_err()
                    ),
                });
                yield_now();
                let readers: Vec<_> = (0..100)
                    .map(|_| {
                        let lock = lock.clone();
                        spawn(move || drop(lock.read()))
                    })
                    .collect();
                if way == 0 {
                    until_waiting(WaitKind::RwLock, 101);
                    writer.kill();
                }
                join_all(readers).into_iter().for_each(Result::unwrap);
                assert_eq!(writer.join().is_err(), way == 0);
                drop(held);
                assert_eq!(format!("{lock:?}"), FREE);
            });
        }
    });
}

#[test]
fn limits() {
    within("limits", || {
        everywhere(|| {
            let lock = Arc::new(RwLock::new(()));
            let limit = Duration::from_millis(3);
            let held = lock.write();
            let begun = Instant::now();
            assert_eq!(lock.read_timeout(limit).err(), Some(TimedOut));
            assert_eq!(lock.write_timeout(Duration::ZERO).err(), Some(TimedOut));
            assert!(begun.elapsed() >= limit);
            drop(held);
            let held = lock.read();
            assert!(lock.write_timeout(limit).is_err());
            assert!(lock.read_timeout(Duration::ZERO).is_ok());
            let waits = lock.clone();
            let task = spawn(move || waits.write_timeout(Duration::MAX).is_ok());
            until(|| format!("{lock:?}").contains("waiting: 1"));
            drop(held);
            assert!(task.join().unwrap());
        });
    });
}

/// Nobody writes between the two locks, and the readers at the head of the line enter.
#[test]
fn downgrade() {
    within("downgrade", || {
        runtime(1).run(|| {
            let lock = Arc::new(RwLock::new(()));
            let log = Arc::new(Mutex::new(Vec::new()));
            let held = lock.write();
            let tasks: Vec<_> = [(1, false), (2, false), (3, true), (4, false)]
                .map(|(n, writes)| comes(&lock, &log, n, writes))
                .into();
            until_waiting(WaitKind::RwLock, 4);
            let held: RwLockReadGuard<'_, ()> = RwLockWriteGuard::downgrade(held);
            until(|| log.lock().len() == 2);
            until_waiting(WaitKind::RwLock, 2);
            assert_eq!(*log.lock(), [1, 2]);
            drop(held);
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert_eq!(*log.lock(), [1, 2, 3, 4]);
            assert_eq!(format!("{lock:?}"), FREE);
        });
    });
}

#[test]
fn who_is_killed_or_panics_unlocks() {
    within("who_is_killed_or_panics_unlocks", || {
        runtime(2).run(|| {
            for writes in [true, false] {
                let lock = Arc::new(RwLock::new(5));
                let begun = Arc::new(Event::new());
                let (inside, tell) = (lock.clone(), begun.clone());
                let holder = spawn(move || {
                    let _guards = match writes {
                        true => (Some(inside.write()), None),
                        false => (None, Some(inside.read())),
                    };
                    tell.set();
                    sleep(LONG);
                });
                begun.wait();
                let waits = lock.clone();
                let waiter = spawn(move || *waits.write());
                until_waiting(WaitKind::RwLock, 1);
                holder.kill();
                assert_eq!(waiter.join().unwrap(), 5, "the lock does not poison");
                let inside = lock.clone();
                let task = spawn(move || {
                    let _held = inside.write();
                    std::panic::resume_unwind(Box::new(()));
                });
                assert!(task.join().is_err());
                assert_eq!(*lock.read(), 5);
            }
        });
    });
}

/// Killed when the lock was handed over already: it is not lost.
#[test]
fn a_lock_that_was_handed_over_is_kept() {
    within("a_lock_that_was_handed_over_is_kept", || {
        runtime(1).run(|| {
            let lock = Arc::new(RwLock::new(0));
            let held = lock.write();
            let writes = lock.clone();
            let task = spawn(move || {
                let mut guard = writes.write();
                *guard = 1;
                yield_now();
                unreachable!("the kill comes at the next park");
            });
            until_waiting(WaitKind::RwLock, 1);
            drop(held);
            task.kill();
            assert!(task.join().is_err());
            assert_eq!(*lock.read(), 1);
        });
    });
}

#[test]
fn exclusion_in_a_storm() {
    within("exclusion_in_a_storm", || {
        struct Inside<'a>(&'a AtomicI64, i64);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(self.1, SeqCst);
            }
        }
        const WRITER: i64 = 1 << 32;
        let lock = Arc::new(RwLock::new(0_u64));
        // Readers inside, and writers in the upper half.
        let inside = Arc::new(AtomicI64::new(0));
        let written = Arc::new(AtomicUsize::new(0));
        let (l, w) = (lock.clone(), written.clone());
        storm(0x51DE, move |random| {
            let enter = |n: i64| {
                let before = inside.fetch_add(n, SeqCst);
                let wrong = if n == WRITER {
                    before != 0
                } else {
                    before >= WRITER
                };
                let inside = Inside(&inside, n);
                assert!(!wrong, "{before:#x} were inside");
                inside
            };
            let limit = Duration::from_micros(random.below(200));
            let writing = |guard: &mut RwLockWriteGuard<'_, u64>, random: &mut _| {
                let inside = enter(WRITER);
                let seen = **guard;
                **guard = seen + 1;
                w.fetch_add(1, SeqCst);
                trouble(random);
                assert_eq!(**guard, seen + 1);
                drop(inside);
            };
            let reading = |guard: RwLockReadGuard<'_, u64>, random: &mut _| {
                let _inside = enter(1);
                let seen = *guard;
                trouble(random);
                assert_eq!(*guard, seen);
            };
            match random.below(7) {
                0 => writing(&mut l.write(), random),
                1 => drop(l.write_timeout(limit).map(|mut g| writing(&mut g, random))),
                2 => drop(l.try_write().map(|mut g| writing(&mut g, random))),
                3 => {
                    let mut guard = l.write();
                    writing(&mut guard, random);
                    let seen = *guard;
                    let guard = RwLockWriteGuard::downgrade(guard);
                    assert_eq!(*guard, seen);
                    reading(guard, random);
                }
                4 => reading(l.read(), random),
                5 => drop(l.read_timeout(limit).map(|g| reading(g, random))),
                _ => drop(l.try_read().map(|g| reading(g, random))),
            }
        });
        assert_eq!(*lock.read() as usize, written.load(SeqCst));
        assert_eq!(format!("{lock:?}"), FREE);
    });
}

/// A task that unwinds reads past a writer that waits for other readers; else nobody could go on.
#[test]
fn unwinding_readers_pass_waiting_writers() {
    struct Reads(Arc<RwLock<u8>>);
    impl Drop for Reads {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            assert_eq!(*self.0.read(), 5);
            assert!(self.0.write_timeout(LONG).is_err(), "may not wait");
        }
    }
    within("unwinding_readers_pass_waiting_writers", || {
        runtime(1).run(|| {
            let lock = Arc::new(RwLock::new(5));
            let held = lock.read();
            let writes = lock.clone();
            let writer = spawn(move || *writes.write() = 6);
            until_waiting(WaitKind::RwLock, 1);
            let reads = Reads(lock.clone());
            let task = spawn(move || {
                let _reads = reads;
                sward_runtime::current().kill();
            });
            assert!(task.join().is_err());
            drop(held);
            writer.join().unwrap();
            assert_eq!(*lock.read(), 6);
        });
    });
}

/// A writer that unwinds blocks its worker until the readers, elsewhere, are gone.
#[test]
fn an_unwinding_writer_waits_at_the_head() {
    struct Writes(Arc<RwLock<u8>>);
    impl Drop for Writes {
        fn drop(&mut self) {
            let mut guard = self.0.write();
            assert_eq!(*guard, 0, "the first in line");
            *guard += 1;
        }
    }
    within("an_unwinding_writer_waits_at_the_head", || {
        let runtime = runtime(1);
        let lock = Arc::new(RwLock::new(0));
        let held = lock.read();
        let writes = lock.clone();
        let other = runtime.spawn(move || *writes.write() += 1);
        until(|| format!("{lock:?}").contains("waiting: 1"));
        let writes = Writes(lock.clone());
        let task = runtime.spawn(move || {
            let _writes = writes;
            sward_runtime::current().kill();
        });
        until(|| format!("{lock:?}").contains("waiting: 2"));
        drop(held);
        assert!(task.join().is_err());
        other.join().unwrap();
        assert_eq!(*lock.read(), 2);
    });
}

#[test]
fn text() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("text", || {
        runtime(1).run(|| {
            let lock = Arc::new(RwLock::new(String::new()));
            shared(&*lock);
            let me = sward_runtime::current().id();
            for writes in [true, false] {
                let guards = match writes {
                    true => (Some(lock.write()), None),
                    false => (None, Some(lock.read())),
                };
                let waits = lock.clone();
                let task = spawn(move || drop(waits.write()));
                until_waiting(WaitKind::RwLock, 1);
                let text = dump().to_string();
                let address = format!("rwlock {:#x} held by task {me}", Arc::as_ptr(&lock).addr());
                assert!(text.contains(&address), "{address} is not in\n{text}");
                drop(guards);
                task.join().unwrap();
            }
            let (_a, _b) = (lock.read(), lock.read());
            let expected = "RwLock { readers: 2, written: false, holder: 0, waiting: 0, .. }";
            assert_eq!(format!("{lock:?}"), expected);
        });
    });
}
