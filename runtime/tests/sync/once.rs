//! What happens once: code, a value, a promise; and what follows when it fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use crate::storm::{Intended, everywhere, runtime, storm, trouble, until_waiting};
use sward_runtime::sync::{Abandoned, LazyLock, Mutex, Once, OnceValue, Promise, Setter, promise};
use sward_runtime::{
    JoinHandle, TimedOut, WaitKind, dump, join_all, park, sleep, spawn, timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

// ---- Once ---------------------------------------------------------------------------------------

#[test]
fn runs_once_before_anybody_goes_on() {
    within("runs_once_before_anybody_goes_on", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let once = Arc::new(Once::default());
            let runs = Arc::new(AtomicUsize::new(0));
            let work = || {
                let (once, runs) = (once.clone(), runs.clone());
                move || {
                    once.call_once(|| {
                        // Others come meanwhile.
                        (0..100).for_each(|_| yield_now());
                        sleep(Duration::from_millis(1));
                        runs.fetch_add(1, SeqCst);
                    });
                    assert!(once.is_completed());
                    assert_eq!(runs.load(SeqCst), 1);
                    once.wait();
                }
            };
            let tasks: Vec<_> = (0..100).map(|_| runtime.spawn(work())).collect();
            let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(work())).collect();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            threads.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(format!("{once:?}"), "Once { completed: true }");
        }
    });
}

/// A panic and a kill in the closure let the next one try; there is no poison.
#[test]
fn who_fails_lets_the_next_one_try() {
    within("who_fails_lets_the_next_one_try", || {
        runtime(1).run(|| {
            let once = Arc::new(Once::new());
            let log = Arc::new(Mutex::new(Vec::new()));
            let tries = |n: u32| {
                let (once, log) = (once.clone(), log.clone());
                let task = spawn(move || {
                    once.call_once(|| {
                        log.lock().push(n);
                        match n {
                            0 => park(),
                            1 => sleep(LONG),
                            2 => resume_unwind(Box::new(Intended)),
                            _ => yield_now(),
                        }
                    });
                    assert!(once.is_completed());
                });
                yield_now();
                task
            };
            let mut tasks: Vec<_> = (0..6).map(tries).collect();
            until_waiting(WaitKind::OnceValue, 5);
            let text = dump().to_string();
            let held = format!("held by task {}", tasks[0].id());
            assert!(
                text.contains("once value 0x") && text.contains(&held),
                "{text}"
            );
            // One that waits is killed, and its turn does not come.
            tasks.remove(4).kill();
            until_waiting(WaitKind::OnceValue, 4);
            // Killed in the closure, then before its turn has begun, and a panic.
            tasks[0].kill();
            until(|| log.lock().len() > 1);
            tasks[1].kill();
            let ends: Vec<_> = join_all(tasks).iter().map(Result::is_ok).collect();
            assert_eq!(ends, [false, false, false, true, true]);
            assert_eq!(*log.lock(), [0, 1, 2, 3]);
        });
    });
}

/// The turn was handed over to a task that is killed before it runs: it begins, and the next one
/// gets it.
#[test]
fn a_turn_is_not_lost() {
    within("a_turn_is_not_lost", || {
        runtime(1).run(|| {
            let value = Arc::new(OnceValue::new());
            let begun = Arc::new(AtomicUsize::new(0));
            let tries = |n: u32| {
                let (value, begun) = (value.clone(), begun.clone());
                let task = spawn(move || {
                    *value.get_or_init(|| {
                        begun.fetch_add(1, SeqCst);
                        (0..n).for_each(|_| yield_now());
                        n
                    })
                });
                yield_now();
                task
            };
            let tasks = [tries(1000), tries(1), tries(2)];
            until_waiting(WaitKind::OnceValue, 2);
            tasks[0].kill();
            // Its turn comes to the second one when the first has unwound, just before us.
            until(|| tasks[0].is_finished());
            tasks[1].kill();
            let ends = join_all(tasks);
            assert!(ends[0].is_err() && ends[1].is_err());
            assert_eq!(*ends[2].as_ref().unwrap(), 2);
            assert_eq!(begun.load(SeqCst), 3);
        });
    });
}

#[test]
fn recursion_is_told() {
    within("recursion_is_told", || {
        everywhere(|| {
            let once = Once::new();
            let again = || once.call_once(|| once.call_once(|| ()));
            let payload = catch_unwind(AssertUnwindSafe(again)).unwrap_err();
            let text = payload.downcast_ref::<&str>().unwrap();
            assert!(text.contains("wait for itself"), "{text}");
            assert!(!once.is_completed());
            let other = Once::new();
            once.call_once(|| other.call_once(|| ()));
            assert!(once.is_completed() && other.is_completed());
        });
        // Another task of the same thread waits, and so does a thread while a task is at it.
        runtime(1).run(|| {
            let value = Arc::new(OnceValue::new());
            let v = value.clone();
            let other = spawn(move || *v.get_or_init(|| 2));
            let v = value.clone();
            let mut thread = None;
            let made = *value.get_or_init(|| {
                yield_now();
                thread = Some(std::thread::spawn(move || *v.get_or_init(|| 3)));
                until_waiting(WaitKind::OnceValue, 1);
                1
            });
            assert_eq!((made, other.join().unwrap()), (1, 1));
            assert_eq!(thread.unwrap().join().unwrap(), 1);
        });
    });
}

// ---- OnceValue ----------------------------------------------------------------------------------

#[test]
fn set_and_get() {
    within("set_and_get", || {
        everywhere(|| {
            let value = Arc::new(OnceValue::default());
            assert_eq!(value.try_get(), None);
            assert_eq!(format!("{value:?}"), "OnceValue(<not set>)");
            let begun = Instant::now();
            assert_eq!(value.get_timeout(SHORT), Err(TimedOut));
            assert!(begun.elapsed() >= SHORT);
            assert!(timeout(SHORT, || *value.get()).is_err());
            let gets: Vec<_> = (0..200)
                .map(|i| {
                    let value = value.clone();
                    spawn(move || match i % 2 {
                        0 => *value.get(),
                        _ => *value.get_timeout(LONG).unwrap(),
                    })
                })
                .collect();
            let v = value.clone();
            let thread = std::thread::spawn(move || *v.get());
            yield_now();
            assert_eq!(value.set(7), Ok(()));
            assert_eq!(value.set(8), Err(8));
            assert!(join_all(gets).into_iter().all(|got| got.unwrap() == 7));
            assert_eq!(thread.join().unwrap(), 7);
            assert_eq!(
                (value.try_get(), value.get_timeout(Duration::ZERO)),
                (Some(&7), Ok(&7))
            );
            assert_eq!(*value.get_or_init(|| unreachable!()), 7);
            let mut value = Arc::into_inner(value).unwrap();
            *value.get_mut().unwrap() += 1;
            assert_eq!(format!("{value:?}"), "OnceValue(8)");
            assert_eq!(
                (value.take(), value.take(), value.get_mut()),
                (Some(8), None, None)
            );
            // Empty again, it can be made again.
            assert_eq!((*value.get_or_init(|| 9), value.take()), (9, Some(9)));
            assert_eq!(*value.get_or_init(|| 10), 10);
            assert_eq!(value.into_inner(), Some(10));
            assert_eq!(*OnceValue::from(1).get(), 1);
        });
        static GLOBAL: OnceValue<String> = OnceValue::new();
        assert_eq!(GLOBAL.get_or_init(|| "made".into()), "made");
    });
}

/// Of many who set it at once, one does.
#[test]
fn one_of_many_sets() {
    within("one_of_many_sets", || {
        let runtime = runtime(2);
        for _ in 0..100 {
            let value = Arc::new(OnceValue::new());
            let sets = |n: usize| {
                let value = value.clone();
                move || (value.set(n).is_ok(), *value.get())
            };
            let tasks: Vec<JoinHandle<_>> = (0..6).map(|n| runtime.spawn(sets(n))).collect();
            let thread = std::thread::spawn(sets(6));
            let mut ends: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            ends.push(thread.join().unwrap());
            let winner = ends.iter().position(|end| end.0).unwrap();
            assert!(ends.iter().all(|end| end.1 == winner));
            assert_eq!(ends.iter().filter(|end| end.0).count(), 1);
        }
    });
}

/// A value that is set while an initialiser is at work counts, for all.
#[test]
fn set_during_an_initialiser() {
    within("set_during_an_initialiser", || {
        runtime(1).run(|| {
            for fails in [false, true] {
                let value = Arc::new(OnceValue::new());
                let dropped = Arc::new(());
                let (v, d) = (value.clone(), dropped.clone());
                let makes = spawn(move || {
                    let made = v.get_or_init(|| {
                        park();
                        if fails {
                            resume_unwind(Box::new(Intended));
                        }
                        (1, d)
                    });
                    made.0
                });
                yield_now();
                let v = value.clone();
                let waits = spawn(move || v.get_or_init(|| unreachable!()).0);
                let v = value.clone();
                let gets = spawn(move || v.get().0);
                until_waiting(WaitKind::OnceValue, 2);
                value.set((2, Arc::default())).unwrap();
                assert_eq!((waits.join().unwrap(), gets.join().unwrap()), (2, 2));
                assert_eq!(value.get_or_init(|| unreachable!()).0, 2);
                makes.task().unpark();
                assert_eq!(makes.join().ok(), (!fails).then_some(2));
                assert_eq!(
                    Arc::strong_count(&dropped),
                    1,
                    "what came too late is dropped"
                );
            }
        });
    });
}

/// Those who only get it are not bothered by an initialiser that fails.
#[test]
fn getters_outlast_a_failure() {
    within("getters_outlast_a_failure", || {
        runtime(2).run(|| {
            let value = Arc::new(OnceValue::new());
            let v = value.clone();
            let makes = spawn(move || *v.get_or_init(|| resume_unwind(Box::new(Intended))));
            let v = value.clone();
            let gets = spawn(move || *v.get());
            assert!(makes.join().is_err());
            yield_now();
            assert!(!gets.is_finished());
            assert_eq!(*value.get_or_init(|| 5), 5);
            assert_eq!(gets.join().unwrap(), 5);
        });
    });
}

/// Each value is made exactly once to its end, whatever strikes in the middle.
#[test]
fn initialisers_in_a_storm() {
    within("initialisers_in_a_storm", || {
        const VALUES: usize = 400;
        let values: Arc<Vec<_>> = Arc::new((0..VALUES).map(|_| OnceValue::new()).collect());
        let (next, made) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (v, n, m) = (values.clone(), next.clone(), made.clone());
        storm(0x0E1, move |random| {
            let at = n.load(SeqCst);
            let Some(value) = v.get(at) else { return };
            let got = *value.get_or_init(|| {
                trouble(random);
                yield_now();
                trouble(random);
                m.fetch_add(1, SeqCst);
                at
            });
            assert_eq!(got, at);
            drop(n.compare_exchange(at, at + 1, SeqCst, SeqCst));
        });
        let set = values.iter().filter(|value| value.try_get().is_some());
        assert_eq!(set.count(), made.load(SeqCst));
        assert!(next.load(SeqCst) > 10);
    });
}

#[test]
fn while_unwinding() {
    struct Gets(Arc<OnceValue<u8>>, std::sync::mpsc::Sender<()>);
    impl Drop for Gets {
        fn drop(&mut self) {
            assert_eq!(self.0.get_timeout(LONG), Err(TimedOut), "may not wait");
            assert_eq!(*OnceValue::new().get_or_init(|| 1), 1);
            self.1.send(()).unwrap();
            assert_eq!(*self.0.get(), 5);
        }
    }
    within("while_unwinding", || {
        let runtime = runtime(1);
        let value = Arc::new(OnceValue::new());
        let (tell, told) = std::sync::mpsc::channel();
        let gets = Gets(value.clone(), tell);
        let task = runtime.spawn(move || {
            let _gets = gets;
            sward_runtime::current().kill();
        });
        told.recv().unwrap();
        // It comes to block by then, or finds the value.
        sleep(SHORT);
        value.set(5).unwrap();
        assert!(task.join().unwrap_err().is_killed());
    });
}

// ---- LazyLock and promise -----------------------------------------------------------------------

#[test]
fn lazy() {
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        yield_now();
        if TRIES.fetch_add(1, SeqCst) == 0 {
            resume_unwind(Box::new(Intended));
        }
        7
    });
    within("lazy", || {
        assert_eq!(format!("{LAZY:?}"), "LazyLock(<not made>)");
        assert!(catch_unwind(|| *LAZY).is_err());
        runtime(2).run(|| {
            let tasks: Vec<_> = (0..50).map(|_| spawn(|| *LAZY)).collect();
            assert!(join_all(tasks).into_iter().all(|got| got.unwrap() == 7));
        });
        assert_eq!((TRIES.load(SeqCst), *LazyLock::force(&LAZY)), (2, 7));
        assert_eq!(format!("{LAZY:?}"), "LazyLock(7)");
        let base = 3;
        assert_eq!(*LazyLock::new(|| base + 1), 4);
    });
}

#[test]
fn promises() {
    within("promises", || {
        everywhere(|| {
            let (setter, value) = promise();
            assert_eq!(value.try_get(), None);
            assert_eq!(value.get_timeout(Duration::ZERO), Err(TimedOut));
            let other = value.clone();
            let gets = spawn(move || *other.get().unwrap());
            setter.set(7);
            assert_eq!((value.get(), gets.join().unwrap()), (Ok(&7), 7));
            assert_eq!(
                (value.try_get(), value.get_timeout(LONG)),
                (Some(Ok(&7)), Ok(Ok(&7)))
            );
            assert_eq!(format!("{value:?}"), "Promise { value: Some(Ok(7)) }");

            // The one in charge is killed.
            let (setter, value): (Setter<u8>, Promise<u8>) = promise();
            assert_eq!(format!("{setter:?}"), "Setter { .. }");
            let task = spawn(move || {
                sleep(LONG);
                setter.set(1);
            });
            let other = value.clone();
            let gets = spawn(move || other.get().copied());
            yield_now();
            task.kill();
            assert_eq!(value.get(), Err(Abandoned));
            assert_eq!(gets.join().unwrap(), Err(Abandoned));
            assert!(Abandoned.to_string().contains("dropped without"));
        });
    });
}
