//! The barrier and the wait group: who waits goes on when all the others are there, or done.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use crate::storm::{Intended, everywhere, runtime, storm, trouble, until_waiting};
use sward_runtime::sync::{Barrier, WaitGroup};
use sward_runtime::{
    Builder, TimedOut, WaitKind, dump, join_all, sleep, spawn, timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

// ---- Barrier ------------------------------------------------------------------------------------

/// std's example: all leave after all have come, and one of them leads.
#[test]
fn as_std() {
    within("as_std", || {
        everywhere(|| {
            const N: usize = 10;
            let barrier = Arc::new(Barrier::new(N));
            let (before, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let work = || {
                let (barrier, before, leaders) = (barrier.clone(), before.clone(), leaders.clone());
                move || {
                    before.fetch_add(1, SeqCst);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, SeqCst);
                    }
                    assert_eq!(before.load(SeqCst), N);
                }
            };
            let tasks: Vec<_> = (2..N).map(|_| spawn(work())).collect();
            let thread = std::thread::spawn(work());
            work()();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            thread.join().unwrap();
            assert_eq!(leaders.load(SeqCst), 1);
        });
    });
}

#[test]
fn of_nobody_and_of_one() {
    within("of_nobody_and_of_one", || {
        everywhere(|| {
            for count in [0, 1] {
                let barrier = Barrier::new(count);
                assert!(barrier.wait().is_leader() && barrier.wait().is_leader());
            }
        });
        static GLOBAL: Barrier = Barrier::new(1);
        assert!(GLOBAL.wait().is_leader());
    });
}

/// Whoever is killed or timed out has not arrived: another one is waited for.
#[test]
fn who_gives_up_has_not_arrived() {
    within("who_gives_up_has_not_arrived", || {
        runtime(1).run(|| {
            let barrier = Arc::new(Barrier::new(3));
            let comes = || {
                let barrier = barrier.clone();
                let task = spawn(move || barrier.wait().is_leader());
                yield_now();
                task
            };
            let (first, second) = (comes(), comes());
            until_waiting(WaitKind::Barrier, 2);
            first.kill();
            assert!(first.join().is_err());
            assert!(
                timeout(SHORT, || barrier.wait()).is_err(),
                "second and I are two"
            );
            assert!(!second.is_finished());
            let third = comes();
            until_waiting(WaitKind::Barrier, 2);
            assert!(barrier.wait().is_leader());
            assert!(!second.join().unwrap() && !third.join().unwrap());
            assert_eq!(format!("{barrier:?}"), "Barrier { count: 3, waiting: 0 }");
        });
    });
}

/// Killed when all had arrived: it goes on, and is killed at the next park.
#[test]
fn arrived_and_killed() {
    within("arrived_and_killed", || {
        runtime(1).run(|| {
            let barrier = Arc::new(Barrier::new(2));
            let passed = Arc::new(AtomicBool::new(false));
            let (b, p) = (barrier.clone(), passed.clone());
            let task = spawn(move || {
                b.wait();
                p.store(true, SeqCst);
                yield_now();
                unreachable!("the kill comes here");
            });
            until_waiting(WaitKind::Barrier, 1);
            barrier.wait();
            task.kill();
            assert!(task.join().is_err() && passed.load(SeqCst));
        });
    });
}

/// Again and again, with more than are woken in one go, from two workers and threads; nobody is
/// a round ahead.
#[test]
fn rounds() {
    within("rounds", || {
        for count in [2, 3, 65, 66, 150] {
            let rounds = 3000 / count;
            let runtime = runtime(2);
            let barrier = Arc::new(Barrier::new(count));
            let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let work = || {
                let (barrier, arrived, leaders) =
                    (barrier.clone(), arrived.clone(), leaders.clone());
                move || {
                    for round in 1..=rounds {
                        arrived.fetch_add(1, SeqCst);
                        if barrier.wait().is_leader() {
                            leaders.fetch_add(1, SeqCst);
                        }
                        let arrived = arrived.load(SeqCst);
                        assert!(arrived >= round * count && arrived <= (round + 1) * count);
                    }
                }
            };
            let tasks: Vec<_> = (1..count)
                .map(|i| {
                    let builder = Builder::new().on_worker(i % 2);
                    runtime.spawn_with(builder, work()).unwrap()
                })
                .collect();
            work()();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert_eq!(leaders.load(SeqCst), rounds);
        }
    });
}

/// Each leader has led as many as it takes, whoever is killed or timed out meanwhile.
#[test]
fn meetings_in_a_storm() {
    within("meetings_in_a_storm", || {
        const COUNT: usize = 4;
        let barrier = Arc::new(Barrier::new(COUNT));
        let (led, followed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (b, l, f) = (barrier.clone(), led.clone(), followed.clone());
        storm(0xBA44, move |random| {
            let limit = Duration::from_micros(random.below(300));
            let end = timeout(limit, || {
                let who = if b.wait().is_leader() { &l } else { &f };
                who.fetch_add(1, SeqCst);
            });
            if end.is_ok() && random.below(50) == 0 {
                resume_unwind(Box::new(Intended));
            }
        });
        let (led, followed) = (led.load(SeqCst), followed.load(SeqCst));
        assert!(led > 0);
        assert_eq!(followed, led * (COUNT - 1));
        assert_eq!(format!("{barrier:?}"), "Barrier { count: 4, waiting: 0 }");
    });
}

/// A crowd larger than what is woken in one go, some of whom are killed all the time.
#[test]
fn a_crowd_with_kills() {
    within("a_crowd_with_kills", || {
        let mut random = Random::new(0xC40D);
        let runtime = runtime(2);
        let barrier = Arc::new(Barrier::new(100));
        let leaders = Arc::new(AtomicUsize::new(0));
        let comes = |i: usize| {
            let (barrier, leaders) = (barrier.clone(), leaders.clone());
            let builder = Builder::new().on_worker(i % 2);
            let work = move || {
                if barrier.wait().is_leader() {
                    leaders.fetch_add(1, SeqCst);
                }
            };
            runtime.spawn_with(builder, work).unwrap()
        };
        let mut tasks = Vec::new();
        for i in 0..5000 {
            tasks.push(comes(i));
            if random.below(3) == 0 {
                let victim = random.below(tasks.len() as u64) as usize;
                tasks[victim].kill();
            }
        }
        // Fewer than a hundred are left; as many as are missing come.
        until(|| leaders.load(SeqCst) > 10);
        let mut i = 0;
        while tasks.iter().any(|task| !task.is_finished()) {
            let waiting = tasks.iter().filter(|task| !task.is_finished()).count();
            if waiting < 100 {
                tasks.push(comes(i));
                i += 1;
            }
            std::thread::yield_now();
        }
        assert_eq!(format!("{barrier:?}"), "Barrier { count: 100, waiting: 0 }");
    });
}

// ---- WaitGroup ----------------------------------------------------------------------------------

#[test]
fn work_and_wait() {
    within("work_and_wait", || {
        everywhere(|| {
            let group = WaitGroup::default();
            group.wait();
            assert_eq!(group.wait_timeout(Duration::ZERO), Ok(()));
            let done = Arc::new(AtomicUsize::new(0));
            // It can be used again.
            for round in 1..=3 {
                for _ in 0..50 {
                    let (working, done) = (group.add(), done.clone());
                    spawn(move || {
                        yield_now();
                        done.fetch_add(1, SeqCst);
                        drop(working);
                    });
                }
                let other = group.clone();
                let waits = spawn(move || other.wait());
                group.wait();
                assert_eq!((done.load(SeqCst), group.count()), (round * 50, 0));
                waits.join().unwrap();
            }
            let working = group.add();
            let more = working.clone();
            assert_eq!(group.count(), 2);
            drop(working);
            let begun = Instant::now();
            assert_eq!(group.wait_timeout(SHORT), Err(TimedOut));
            assert!(begun.elapsed() >= SHORT);
            assert!(timeout(SHORT, || group.wait()).is_err());
            assert_eq!(format!("{group:?}"), "WaitGroup { count: 1, waiting: 0 }");
            std::thread::scope(|s| {
                s.spawn(move || drop(more));
            });
            assert_eq!(group.wait_timeout(LONG), Ok(()));
        });
    });
}

/// A guard goes with its task, however that ends.
#[test]
fn killed_work_is_done() {
    within("killed_work_is_done", || {
        runtime(2).run(|| {
            let group = WaitGroup::new();
            let mut tasks = Vec::new();
            for i in 0..30 {
                let working = group.add();
                tasks.push(spawn(move || {
                    let _working = working;
                    match i % 3 {
                        0 => sleep(LONG),
                        1 => resume_unwind(Box::new(Intended)),
                        _ => yield_now(),
                    }
                }));
            }
            yield_now();
            tasks.iter().step_by(3).for_each(|task| task.kill());
            group.wait();
            drop(tasks);
        });
    });
}

/// Whoever waits when it comes to nothing goes on, even if there is work again.
#[test]
fn work_again_at_once() {
    within("work_again_at_once", || {
        runtime(1).run(|| {
            let group = WaitGroup::new();
            let working = group.add();
            let tasks: Vec<_> = (0..200)
                .map(|_| {
                    let group = group.clone();
                    spawn(move || group.wait())
                })
                .collect();
            until_waiting(WaitKind::WaitGroup, 200);
            let text = dump().to_string();
            assert!(text.contains("wait group 0x"), "{text}");
            drop(working);
            let working = group.add();
            let late = group.clone();
            let late = spawn(move || late.wait());
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert!(!late.is_finished());
            drop(working);
            late.join().unwrap();
        });
    });
}

#[test]
fn work_in_a_storm() {
    within("work_in_a_storm", || {
        let group = WaitGroup::new();
        let g = group.clone();
        storm(0x3A17, move |random| {
            if random.below(4) == 0 {
                drop(g.wait_timeout(Duration::from_micros(random.below(100))));
            } else {
                let _working = g.add();
                trouble(random);
            }
        });
        assert_eq!(format!("{group:?}"), "WaitGroup { count: 0, waiting: 0 }");
    });
}

/// Both block the worker in a destructor that runs while a task unwinds, and both are refused
/// where parking is.
#[test]
fn while_unwinding() {
    struct Waits(Arc<Barrier>, WaitGroup);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(!self.0.wait().is_leader());
            assert!(self.1.wait_timeout(LONG).is_err());
            self.1.wait();
        }
    }
    within("while_unwinding", || {
        let runtime = runtime(1);
        let (barrier, group) = (Arc::new(Barrier::new(2)), WaitGroup::new());
        let working = group.add();
        let waits = Waits(barrier.clone(), group.clone());
        let task = runtime.spawn(move || {
            let _waits = waits;
            sward_runtime::current().kill();
        });
        until(|| format!("{barrier:?}").contains("waiting: 1"));
        assert!(barrier.wait().is_leader());
        until(|| format!("{group:?}").contains("waiting: 1"));
        drop(working);
        assert!(task.join().unwrap_err().is_killed());
        runtime.run(|| {
            let wait = || sward_runtime::without_parking(|| Barrier::new(2).wait());
            assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
        });
    });
}
