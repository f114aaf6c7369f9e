//! The condition variable: nobody is forgotten, and no notification is lost.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use crate::storm::{everywhere, runtime, storm, trouble, until_waiting};
use sward_runtime::sync::{Condvar, Mutex};
use sward_runtime::{JoinHandle, WaitKind, dump, join_all, shield, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

type Pair<T> = Arc<(Mutex<T>, Condvar)>;

fn pair<T>(value: T) -> Pair<T> {
    Arc::new((Mutex::new(value), Condvar::new()))
}

/// std's examples, against ours.
#[test]
fn as_std() {
    within("as_std", || {
        everywhere(|| {
            let start = |pair: &Pair<bool>, all: bool| {
                let pair = pair.clone();
                spawn(move || {
                    let (lock, cvar) = &*pair;
                    *lock.lock() ^= true;
                    if all {
                        cvar.notify_all()
                    } else {
                        cvar.notify_one()
                    }
                })
            };
            let p = pair(false);
            let task = start(&p, false);
            let mut started = p.0.lock();
            while !*started {
                started = p.1.wait(started);
            }
            drop(started);
            task.join().unwrap();
            let p = pair(true);
            let task = start(&p, true);
            assert!(!*p.1.wait_while(p.0.lock(), |pending| *pending));
            task.join().unwrap();
            let p = pair(true);
            let task = start(&p, false);
            let (guard, end) = p.1.wait_timeout_while(p.0.lock(), LONG, |pending| *pending);
            assert!(!*guard && !end.timed_out());
            drop(guard);
            task.join().unwrap();
            let p = pair(false);
            let task = start(&p, true);
            let mut started = p.0.lock();
            while !*started {
                let (guard, end) = p.1.wait_timeout(started, LONG);
                assert!(!end.timed_out());
                started = guard;
            }
            drop(started);
            task.join().unwrap();
        });
    });
}

#[test]
fn limits() {
    within("limits", || {
        everywhere(|| {
            let p = pair(0);
            let begun = Instant::now();
            let (guard, end) = p.1.wait_timeout(p.0.lock(), SHORT);
            assert!(end.timed_out() && begun.elapsed() >= SHORT);
            assert!(p.0.try_lock().is_none(), "the mutex is locked again");
            let (guard, end) = p.1.wait_timeout(guard, Duration::ZERO);
            assert!(end.timed_out());
            drop(guard);
            let mut looked = 0;
            let (guard, end) = p.1.wait_timeout_while(p.0.lock(), SHORT, |_| {
                looked += 1;
                true
            });
            assert!(end.timed_out() && looked == 2);
            let (guard, end) = p.1.wait_timeout_while(guard, SHORT, |_| false);
            assert!(!end.timed_out());
            drop(guard);
            assert!(timeout(SHORT, || drop(p.1.wait(p.0.lock()))).is_err());
            assert!(p.0.try_lock().is_some(), "unlocked by the unwinding");
            // Notifications are not kept.
            p.1.notify_one();
            p.1.notify_all();
            assert!(p.1.wait_timeout(p.0.lock(), Duration::ZERO).1.timed_out());
            assert_eq!(format!("{:?}", p.1), "Condvar { waiting: 0 }");
        });
    });
}

/// A task that waits, and then notes its number in the mutex.
fn waits(p: &Pair<Vec<u32>>, name: u32) -> JoinHandle<()> {
    let p = p.clone();
    let task = spawn(move || p.1.wait(p.0.lock()).push(name));
    yield_now();
    task
}

#[test]
fn first_come_first_notified() {
    within("first_come_first_notified", || {
        runtime(1).run(|| {
            let p = pair(Vec::new());
            let tasks: Vec<_> = (0..100).map(|n| waits(&p, n)).collect();
            until_waiting(WaitKind::Condvar, 100);
            for n in 1..=10 {
                p.1.notify_one();
                until(|| p.0.lock().len() == n);
                yield_now();
                assert_eq!(p.0.lock().len(), n, "one of them");
            }
            until_waiting(WaitKind::Condvar, 90);
            p.1.notify_all();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert!(p.0.lock().iter().copied().eq(0..100));
        });
    });
}

/// Killed or timed out between the notification and the end of the wait: the next one is
/// notified.
#[test]
fn a_notification_is_passed_on() {
    // Long enough to be notified before.
    const LIMIT: Duration = Duration::from_millis(300);
    within("a_notification_is_passed_on", || {
        for way in 0..3 {
            runtime(1).run(move || {
                let p = pair(Vec::new());
                let first = {
                    let p = p.clone();
                    spawn(move || {
                        let wait = || p.1.wait(p.0.lock()).push(1);
                        match way {
                            0 => wait(),
                            1 => assert!(timeout(LIMIT, wait).is_err()),
                            // Notified at the limit of the wait itself: it has it.
                            _ => {
                                let (mut guard, end) = p.1.wait_timeout(p.0.lock(), LIMIT);
                                assert!(!end.timed_out());
                                guard.push(1);
                                drop(guard);
                                p.1.notify_one();
                            }
                        }
                    })
                };
                yield_now();
                let second = waits(&p, 2);
                until_waiting(WaitKind::Condvar, 2);
                let guard = p.0.lock();
                p.1.notify_one();
                until_waiting(WaitKind::Mutex, 1);
                match way {
                    0 => first.kill(),
                    _ => sward_runtime::sleep(2 * LIMIT),
                }
                if way < 2 {
                    // Passed on, although the mutex is locked.
                    until_waiting(WaitKind::Condvar, 0);
                }
                drop(guard);
                second.join().unwrap();
                assert_eq!(first.join().is_err(), way == 0);
                assert_eq!(*p.0.lock(), if way < 2 { vec![2] } else { vec![1, 2] });
            });
        }
    });
}

/// Killed after the notification, when it has not run since: the next one is notified; and killed
/// before it, the notification goes to the next one.
#[test]
fn killed_at_the_same_moment() {
    within("killed_at_the_same_moment", || {
        for kill_first in [true, false] {
            runtime(1).run(|| {
                let p = pair(Vec::new());
                let first = waits(&p, 1);
                let second = waits(&p, 2);
                until_waiting(WaitKind::Condvar, 2);
                if kill_first {
                    first.kill();
                }
                p.1.notify_one();
                first.kill();
                assert!(first.join().is_err());
                second.join().unwrap();
                assert_eq!(*p.0.lock(), [2]);
            });
        }
    });
}

#[test]
fn all_are_notified() {
    within("all_are_notified", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let p = pair(0);
            let work = || {
                let p = p.clone();
                move || drop(p.1.wait_while(p.0.lock(), |n| *n == 0))
            };
            let tasks: Vec<_> = (0..1000).map(|_| runtime.spawn(work())).collect();
            let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(work())).collect();
            until(|| format!("{:?}", p.1).contains("1004"));
            *p.0.lock() = 1;
            p.1.notify_all();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            threads.into_iter().for_each(|t| t.join().unwrap());
        }
    });
}

/// One token, many who want it: a notification that is lost stops everybody.
#[test]
fn a_token_in_a_storm() {
    within("a_token_in_a_storm", || {
        for tokens in [1, 2] {
            let p = pair(tokens);
            let out = Arc::new(AtomicUsize::new(0));
            let (q, o) = (p.clone(), out.clone());
            storm(0xC0DE + tokens as u64, move |random| {
                let (lock, cvar) = &*q;
                let limit = Duration::from_micros(random.below(300));
                let mut guard = match random.below(3) {
                    0 => {
                        let (guard, end) = cvar.wait_timeout_while(lock.lock(), limit, |n| *n == 0);
                        if end.timed_out() {
                            return;
                        }
                        guard
                    }
                    _ => cvar.wait_while(lock.lock(), |n| *n == 0),
                };
                *guard -= 1;
                drop(guard);
                assert!(o.fetch_add(1, SeqCst) < tokens, "too many have it");
                let result = catch_unwind(AssertUnwindSafe(|| trouble(random)));
                shield(|| {
                    let mut guard = lock.lock();
                    o.fetch_sub(1, SeqCst);
                    *guard += 1;
                    drop(guard);
                    cvar.notify_one();
                });
                if let Err(payload) = result {
                    resume_unwind(payload);
                }
            });
            assert_eq!((*p.0.lock(), out.load(SeqCst)), (tokens, 0));
            assert_eq!(format!("{:?}", p.1), "Condvar { waiting: 0 }");
        }
    });
}

/// In a destructor of a task that unwinds: with a limit it is refused at once and keeps the lock,
/// without one it blocks the worker.
#[test]
fn while_unwinding() {
    struct Waits(Pair<u8>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let (lock, cvar) = &*self.0;
            let (guard, end) = cvar.wait_timeout(lock.lock(), LONG);
            assert!(end.timed_out() && lock.try_lock().is_none());
            let mut guard = cvar.wait_while(guard, |n| *n == 0);
            *guard += 1;
        }
    }
    within("while_unwinding", || {
        let runtime = runtime(1);
        let p = pair(0);
        let waits = Waits(p.clone());
        let task = runtime.spawn(move || {
            let _waits = waits;
            sward_runtime::current().kill();
        });
        until(|| format!("{:?}", p.1).contains("waiting: 1"));
        *p.0.lock() = 1;
        p.1.notify_one();
        assert!(task.join().is_err());
        assert_eq!(*p.0.lock(), 2);
    });
}

/// A wait that is against the rules leaves nothing behind.
#[test]
fn refused() {
    within("refused", || {
        runtime(1).run(|| {
            let p = pair(0);
            let wait = || sward_runtime::without_parking(|| drop(p.1.wait(p.0.lock())));
            assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
            assert!(p.0.try_lock().is_some());
            assert_eq!(format!("{:?}", p.1), "Condvar { waiting: 0 }");
        });
    });
}

#[test]
fn text() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("text", || {
        runtime(1).run(|| {
            let p = pair(Vec::new());
            shared(&p.1);
            let task = waits(&p, 1);
            until_waiting(WaitKind::Condvar, 1);
            let text = dump().to_string();
            let address = format!("condvar {:#x}", std::ptr::from_ref(&p.1).addr());
            assert!(text.contains(&address), "{address} is not in\n{text}");
            p.1.notify_one();
            task.join().unwrap();
        });
    });
    static GLOBAL: Condvar = Condvar::new();
    GLOBAL.notify_all();
}
