//! The semaphore: no permit is lost or doubled, nobody is overtaken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use crate::storm::{everywhere, runtime, storm, trouble, until_waiting};
use sward_runtime::sync::{AcquireError, Mutex, Semaphore};
use sward_runtime::{JoinHandle, WaitKind, dump, join_all, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

fn text_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast_ref::<&str>() {
        Some(text) => (*text).to_owned(),
        None => payload.downcast_ref::<String>().unwrap().clone(),
    }
}

#[test]
fn take_and_give_back() {
    within("take_and_give_back", || {
        everywhere(|| {
            let semaphore = Semaphore::new(3);
            let one = semaphore.acquire().unwrap();
            let two = semaphore.acquire_many(2).unwrap();
            assert_eq!((one.count(), two.count(), semaphore.available()), (1, 2, 0));
            assert_eq!(semaphore.try_acquire().err(), Some(AcquireError::NoPermits));
            // In any order, by anybody.
            drop(one);
            assert_eq!(semaphore.available(), 1);
            assert!(semaphore.try_acquire_many(2).is_err());
            std::thread::scope(|s| {
                s.spawn(move || drop(two));
            });
            assert_eq!(semaphore.try_acquire_many(3).unwrap().count(), 3);
            assert_eq!(semaphore.acquire_many(0).unwrap().count(), 0);
            assert_eq!(
                format!("{semaphore:?}"),
                "Semaphore { available: 3, total: 3, waiting: 0, closed: false }"
            );
        });
        static GLOBAL: Semaphore = Semaphore::bounded(1);
        drop(GLOBAL.acquire());
        assert_eq!(GLOBAL.available(), 1);
    });
}

#[test]
fn permits_that_tasks_take_along() {
    within("permits_that_tasks_take_along", || {
        everywhere(|| {
            let two = Arc::new(Semaphore::bounded(2));
            let most = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..50)
                .map(|n| {
                    let permit = two.acquire().unwrap().into_owned(&two);
                    let (two, most) = (two.clone(), most.clone());
                    spawn(move || {
                        most.fetch_max(2 - two.available(), SeqCst);
                        yield_now();
                        assert!(n % 7 != 0, "a page is bad");
                        assert_eq!(permit.count(), 1);
                        drop(permit);
                    })
                })
                .collect();
            let bad = join_all(tasks).into_iter().filter(Result::is_err).count();
            assert_eq!((bad, two.available()), (8, 2));
            // How many ran at once is the scheduler's business.
            assert!((1..=2).contains(&most.load(SeqCst)));
            // The permits keep the semaphore.
            let permit = two.acquire_many(2).unwrap().into_owned(&two);
            drop(two);
            drop(permit);
            let (one, other) = (Semaphore::new(1), Arc::new(Semaphore::new(1)));
            let text = text_of(|| drop(one.acquire().unwrap().into_owned(&other)));
            assert_eq!(text, "these permits are of another semaphore");
            assert_eq!((one.available(), other.available()), (1, 1));
        });
    });
}

/// A semaphore of 0, which others fill: gevent's use as a signal.
#[test]
fn of_nothing() {
    within("of_nothing", || {
        everywhere(|| {
            let semaphore = Arc::new(Semaphore::new(0));
            assert!(semaphore.try_acquire().is_err());
            assert!(semaphore.acquire_timeout(Duration::ZERO).is_err());
            assert_eq!(semaphore.try_acquire_many(0).unwrap().count(), 0);
            let waits = semaphore.clone();
            let task = spawn(move || waits.acquire().unwrap().forget());
            until(|| format!("{semaphore:?}").contains("waiting: 1"));
            semaphore.add_permits(1);
            task.join().unwrap();
            assert_eq!(semaphore.available(), 0);
            let never = Semaphore::bounded(0);
            assert!(text_of(|| drop(never.acquire())).contains("bounded to 0"));
        });
    });
}

/// Released too often: an error that says so, and nothing changes.
#[test]
fn over_released() {
    within("over_released", || {
        everywhere(|| {
            let semaphore = Semaphore::bounded(2);
            let text = text_of(|| semaphore.add_permits(1));
            assert!(
                text.contains("1 permits added") && text.contains("2 of at most 2"),
                "{text}"
            );
            // Those in use count: their return is never too much.
            let permit = semaphore.acquire().unwrap();
            let text = text_of(|| semaphore.add_permits(1));
            assert!(text.contains("released more often than acquired"), "{text}");
            drop(permit);
            assert_eq!(semaphore.available(), 2);
            semaphore.acquire().unwrap().forget();
            semaphore.add_permits(1);
            assert_eq!(semaphore.available(), 2);
            let text = text_of(|| drop(semaphore.acquire_many(3)));
            assert!(
                text.contains("3 permits wanted") && text.contains("bounded to 2"),
                "{text}"
            );
            assert!(semaphore.try_acquire_many(3).is_err());

            let huge = Semaphore::new(usize::MAX);
            let permit = huge.acquire_many(5).unwrap();
            assert!(text_of(|| huge.add_permits(1)).contains("added"));
            assert_eq!(huge.available(), usize::MAX - 5);
            drop(permit);
            assert_eq!(huge.available(), usize::MAX);
            assert!(text_of(|| huge.add_permits(usize::MAX)).contains("added"));
            // A permit that is leaked is not in the way of the others.
            let leaky = Semaphore::bounded(2);
            std::mem::forget(leaky.acquire());
            drop(leaky.acquire());
            assert_eq!(leaky.available(), 1);
        });
    });
}

#[test]
fn limits() {
    within("limits", || {
        everywhere(|| {
            let semaphore = Arc::new(Semaphore::new(1));
            let held = semaphore.acquire().unwrap();
            let begun = Instant::now();
            assert_eq!(
                semaphore.acquire_timeout(SHORT).err(),
                Some(AcquireError::TimedOut)
            );
            assert!(begun.elapsed() >= SHORT);
            assert!(timeout(SHORT, || drop(semaphore.acquire())).is_err());
            assert!(semaphore.acquire_many_timeout(2, SHORT).is_err());
            let waits = semaphore.clone();
            let task = spawn(move || waits.acquire_timeout(Duration::MAX).is_ok());
            until(|| format!("{semaphore:?}").contains("waiting: 1"));
            drop(held);
            assert!(task.join().unwrap());
            assert!(semaphore.acquire_many_timeout(1, LONG).is_ok());
        });
    });
}

/// A task that wants so many, notes it, and gives them back.
fn wants(s: &Arc<Semaphore>, log: &Arc<Mutex<Vec<usize>>>, count: usize) -> JoinHandle<()> {
    let (s, log) = (s.clone(), log.clone());
    let task = spawn(move || {
        let permit = s.acquire_many(count).unwrap();
        log.lock().push(count);
        yield_now();
        drop(permit);
    });
    yield_now();
    task
}

#[test]
fn first_come_first_served() {
    within("first_come_first_served", || {
        runtime(1).run(|| {
            let semaphore = Arc::new(Semaphore::new(5));
            let log = Arc::new(Mutex::new(Vec::new()));
            let held = semaphore.acquire_many(3).unwrap();
            // 2 would be there for them, but one who wants 5 came first.
            let wanted = [5, 1, 2, 3, 4, 1, 0];
            let tasks = wanted.map(|count| wants(&semaphore, &log, count));
            until_waiting(WaitKind::Semaphore, 7);
            assert!(semaphore.try_acquire().is_err(), "overtakes");
            assert!(semaphore.acquire_timeout(Duration::ZERO).is_err());
            until_waiting(WaitKind::Semaphore, 7);
            drop(held);
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert_eq!(*log.lock(), wanted);
            assert_eq!(semaphore.available(), 5);
        });
    });
}

/// Many are served by one release, more than are woken in one go.
#[test]
fn served_at_once() {
    within("served_at_once", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let semaphore = Arc::new(Semaphore::new(0));
                let tasks: Vec<_> = (0..300)
                    .map(|_| {
                        let semaphore = semaphore.clone();
                        spawn(move || semaphore.acquire().unwrap().forget())
                    })
                    .collect();
                until_waiting(WaitKind::Semaphore, 300);
                semaphore.add_permits(299);
                until_waiting(WaitKind::Semaphore, 1);
                assert_eq!(semaphore.available(), 0);
                semaphore.add_permits(2);
                join_all(tasks).into_iter().for_each(Result::unwrap);
                assert_eq!(semaphore.available(), 1);
            });
        }
    });
}

/// Those behind a large wish that is given up are served.
#[test]
fn who_gives_up_makes_way() {
    within("who_gives_up_makes_way", || {
        for way in 0..3 {
            runtime(1).run(|| {
                let semaphore = Arc::new(Semaphore::new(3));
                let held = semaphore.acquire().unwrap();
                let s = semaphore.clone();
                let large = spawn(move || match way {
                    0 => drop(s.acquire_many(3)),
                    1 => assert!(s.acquire_many_timeout(3, SHORT).is_err()),
                    _ => assert!(timeout(SHORT, || drop(s.acquire_many(3))).is_err()),
                });
                yield_now();
                let log = Arc::new(Mutex::new(Vec::new()));
                let tasks: Vec<_> = (0..100).map(|_| wants(&semaphore, &log, 1)).collect();
                if way == 0 {
                    until_waiting(WaitKind::Semaphore, 101);
                    large.kill();
                }
                join_all(tasks).into_iter().for_each(Result::unwrap);
                assert_eq!(large.join().is_err(), way == 0);
                drop(held);
                assert_eq!(semaphore.available(), 3);
            });
        }
    });
}

#[test]
fn handed_over_and_killed() {
    within("handed_over_and_killed", || {
        runtime(1).run(|| {
            let semaphore = Arc::new(Semaphore::bounded(1));
            let held = semaphore.acquire().unwrap();
            let s = semaphore.clone();
            let task = spawn(move || {
                let _permit = s.acquire().unwrap();
                assert_eq!(s.available(), 0);
                yield_now();
                unreachable!("the kill comes at the next park");
            });
            until_waiting(WaitKind::Semaphore, 1);
            drop(held);
            task.kill();
            assert!(task.join().is_err());
            assert_eq!(semaphore.available(), 1);
        });
    });
}

#[test]
fn close() {
    within("close", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let semaphore = Arc::new(Semaphore::new(1));
                let held = semaphore.acquire().unwrap();
                let log = Arc::new(AtomicUsize::new(0));
                let tasks: Vec<_> = (0..200)
                    .map(|i| {
                        let (s, log) = (semaphore.clone(), log.clone());
                        spawn(move || {
                            let result = match i % 2 {
                                0 => s.acquire_many(1 + i / 2),
                                _ => s.acquire_timeout(LONG),
                            };
                            assert_eq!(result.err(), Some(AcquireError::Closed));
                            log.fetch_add(1, SeqCst);
                        })
                    })
                    .collect();
                let s = semaphore.clone();
                let thread = std::thread::spawn(move || s.acquire().err());
                until(|| format!("{semaphore:?}").contains("waiting: 201"));
                semaphore.close();
                semaphore.close();
                join_all(tasks).into_iter().for_each(Result::unwrap);
                assert_eq!(thread.join().unwrap(), Some(AcquireError::Closed));
                assert_eq!(log.load(SeqCst), 200);
                assert!(semaphore.is_closed());
                assert_eq!(semaphore.acquire().err(), Some(AcquireError::Closed));
                assert_eq!(semaphore.try_acquire().err(), Some(AcquireError::Closed));
                // Permits in use go on.
                drop(held);
                semaphore.add_permits(1);
                assert_eq!(semaphore.available(), 2);
            });
        }
    });
}

/// Whoever was granted a permit has it, even if the semaphore is closed before it runs.
#[test]
fn granted_then_closed() {
    within("granted_then_closed", || {
        runtime(1).run(|| {
            let semaphore = Arc::new(Semaphore::new(0));
            let s = semaphore.clone();
            let first = spawn(move || s.acquire().map(|permit| permit.count()));
            let s = semaphore.clone();
            let second = spawn(move || s.acquire().map(|permit| permit.count()));
            until_waiting(WaitKind::Semaphore, 2);
            semaphore.add_permits(1);
            semaphore.close();
            assert_eq!(first.join().unwrap(), Ok(1));
            assert_eq!(second.join().unwrap(), Err(AcquireError::Closed));
            assert_eq!(semaphore.available(), 1);
        });
    });
}

#[test]
fn permits_in_a_storm() {
    within("permits_in_a_storm", || {
        struct Inside<'a>(&'a AtomicUsize, usize);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(self.1, SeqCst);
            }
        }
        for permits in [1, 4] {
            let semaphore = Arc::new(Semaphore::bounded(permits));
            let inside = Arc::new(AtomicUsize::new(0));
            let s = semaphore.clone();
            storm(0x5E3A + permits as u64, move |random| {
                let limit = Duration::from_micros(random.below(200));
                let count = 1 + random.below(permits as u64) as usize;
                let permit = match random.below(5) {
                    0 => s.acquire(),
                    1 => s.acquire_many(count),
                    2 => s.acquire_many_timeout(count, limit),
                    3 => s.acquire_timeout(limit),
                    _ => s.try_acquire_many(count),
                };
                let Ok(permit) = permit else { return };
                let before = inside.fetch_add(permit.count(), SeqCst);
                let _inside = Inside(&inside, permit.count());
                assert!(before + permit.count() <= permits, "{before} were out");
                trouble(random);
                if random.below(10) == 0 {
                    // Another one for it. (The permit is counted until then.)
                    let count = permit.count();
                    drop(_inside);
                    permit.forget();
                    s.add_permits(count);
                }
            });
            assert_eq!(
                format!("{semaphore:?}"),
                format!(
                    "Semaphore {{ available: {permits}, total: {permits}, waiting: 0, closed: \
                     false }}"
                )
            );
        }
    });
}

/// It is closed while a storm goes on: nobody hangs, and all permits come back.
#[test]
fn closed_in_a_storm() {
    within("closed_in_a_storm", || {
        for seed in 0..20 {
            let semaphore = Arc::new(Semaphore::new(2));
            let (s, turns) = (semaphore.clone(), Arc::new(AtomicUsize::new(0)));
            let runtime = runtime(2);
            let tasks: Vec<_> = (0..20)
                .map(|i| {
                    let (s, turns) = (s.clone(), turns.clone());
                    runtime.spawn(move || {
                        while let Ok(permit) = s.acquire_many(1 + i % 2) {
                            turns.fetch_add(1, SeqCst);
                            yield_now();
                            drop(permit);
                        }
                    })
                })
                .collect();
            until(|| turns.load(SeqCst) > 50 * seed);
            semaphore.close();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert_eq!(semaphore.available(), 2);
        }
    });
}

#[test]
fn while_unwinding() {
    struct Takes(Arc<Semaphore>);
    impl Drop for Takes {
        fn drop(&mut self) {
            assert_eq!(self.0.acquire().err(), None);
            let permit = self.0.acquire().unwrap();
            let refused = self.0.acquire().unwrap_err();
            assert_eq!(refused, AcquireError::Unwinding);
            assert!(refused.to_string().contains("unwinds"));
            assert!(self.0.acquire_timeout(LONG).is_err());
            drop(permit);
        }
    }
    within("while_unwinding", || {
        runtime(1).run(|| {
            let semaphore = Arc::new(Semaphore::new(1));
            let takes = Takes(semaphore.clone());
            let task = spawn(move || {
                let _takes = takes;
                sward_runtime::current().kill();
            });
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(semaphore.available(), 1);
        });
    });
}

#[test]
fn text() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("text", || {
        runtime(1).run(|| {
            let semaphore = Arc::new(Semaphore::new(1));
            let permit = semaphore.acquire().unwrap();
            shared(&*semaphore);
            shared(&permit);
            assert_eq!(format!("{permit:?}"), "Permit { count: 1, .. }");
            let s = semaphore.clone();
            let task = spawn(move || drop(s.acquire()));
            until_waiting(WaitKind::Semaphore, 1);
            let text = dump().to_string();
            let address = format!("semaphore {:#x}", Arc::as_ptr(&semaphore).addr());
            assert!(text.contains(&address), "{address} is not in\n{text}");
            drop(permit);
            task.join().unwrap();
            for (error, says) in [
                (AcquireError::Closed, "is closed"),
                (AcquireError::TimedOut, "until the time-out"),
                (AcquireError::NoPermits, "too few permits now"),
            ] {
                assert!(error.to_string().contains(says));
            }
        });
    });
}
