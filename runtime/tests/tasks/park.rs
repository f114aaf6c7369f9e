//! `park` and `unpark`, and the timers that end a wait: tokens, storms, order, and never early.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous, unbounded};
use sward_runtime::{
    Builder, Runtime, WaitKind, current, join_all, park, park_deadline, park_timeout, sleep,
    sleep_until, spawn, timeout, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

// ---- tokens -------------------------------------------------------------------------------------

#[test]
fn unpark_before_the_start_counts() {
    within("unpark_before_the_start_counts", || {
        runtime(1).run(|| {
            let task = spawn(|| {
                park();
                park_timeout(Duration::ZERO)
            });
            task.task().unpark();
            task.task().unpark();
            assert!(!task.join().unwrap(), "two permits were kept");
        });
    });
}

#[test]
fn permits_do_not_add_up() {
    within("permits_do_not_add_up", || {
        let check = || {
            let me = current();
            for _ in 0..3 {
                me.unpark();
            }
            park();
            assert!(!park_timeout(Duration::ZERO));
            assert!(!park_timeout(SHORT));
            me.unpark();
            assert!(park_timeout(Duration::ZERO));
            me.unpark();
            assert!(
                park_deadline(Instant::now()),
                "a permit is worth more than a past deadline"
            );
        };
        runtime(1).run(check);
        check();
    });
}

#[test]
fn other_waits_keep_the_permit() {
    within("other_waits_keep_the_permit", || {
        let check = || {
            let me = current();
            me.unpark();
            sleep(Duration::from_millis(1));
            assert!(!Event::new().wait_timeout(Duration::from_millis(1)));
            let (sender, receiver) = bounded(1);
            let task = spawn(move || {
                yield_now();
                me.unpark();
                sender.send(1).unwrap();
            });
            assert_eq!(receiver.recv(), Ok(1));
            task.join().unwrap();
            assert!(
                park_timeout(Duration::ZERO),
                "the permit was lost in another wait"
            );
            assert!(!park_timeout(Duration::ZERO));
        };
        runtime(2).run(check);
        check();
    });
}

/// A task that waits for something else is not woken by `unpark`.
#[test]
fn unpark_ends_no_other_wait() {
    within("unpark_ends_no_other_wait", || {
        runtime(2).run(|| {
            for worker in [0, 1] {
                let (begun, on) = (Arc::new(Event::new()), Arc::new(Event::new()));
                let waits = {
                    let (begun, on) = (begun.clone(), on.clone());
                    Builder::new().on_worker(worker).spawn(move || {
                        begun.set();
                        let early = Instant::now();
                        sleep(Duration::from_millis(20));
                        assert!(early.elapsed() >= Duration::from_millis(20));
                        on.wait();
                        assert!(on.is_set());
                    })
                };
                let waits = waits.unwrap();
                begun.wait();
                for _ in 0..1000 {
                    waits.task().unpark();
                    yield_now();
                }
                assert!(!waits.is_finished());
                on.set();
                waits.join().unwrap();
            }
        });
    });
}

#[test]
fn park_returns_only_with_a_permit() {
    within("park_returns_only_with_a_permit", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let given = Arc::new(AtomicU64::new(0));
            let taken = Arc::new(AtomicU64::new(0));
            let stop = Arc::new(AtomicBool::new(false));
            let parker = {
                let (given, taken, stop) = (given.clone(), taken.clone(), stop.clone());
                runtime.spawn(move || {
                    while !stop.load(SeqCst) {
                        park();
                        let took = taken.fetch_add(1, SeqCst) + 1;
                        assert!(took <= given.load(SeqCst), "more permits taken than given");
                    }
                })
            };
            let target = parker.task();
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (given, target) = (given.clone(), target.clone());
                    std::thread::spawn(move || {
                        for _ in 0..20_000 {
                            given.fetch_add(1, SeqCst);
                            target.unpark();
                        }
                    })
                })
                .collect();
            let task = {
                let (given, target) = (given.clone(), target.clone());
                runtime.spawn(move || {
                    for _ in 0..20_000 {
                        given.fetch_add(1, SeqCst);
                        target.unpark();
                        yield_now();
                    }
                })
            };
            threads.into_iter().for_each(|t| t.join().unwrap());
            task.join().unwrap();
            stop.store(true, SeqCst);
            given.fetch_add(1, SeqCst);
            target.unpark();
            parker.join().unwrap();
            assert!(taken.load(SeqCst) > 0);
        }
    });
}

/// Two tasks hand one permit to and fro: none is lost, on one worker, on two, and with a thread.
#[test]
fn ping_pong_by_permits() {
    within("ping_pong_by_permits", || {
        for (one, two) in [(0, 0), (0, 1)] {
            runtime(2).run(move || {
                let first = current();
                let rounds = if one == two { 50_000 } else { 5_000 };
                let (tell, told) = bounded(1);
                let a = Builder::new().on_worker(one).spawn(move || {
                    let other: sward_runtime::Task = told.recv().unwrap();
                    for _ in 0..rounds {
                        other.unpark();
                        park();
                    }
                });
                let a = a.unwrap();
                let task_a = a.task();
                let b = Builder::new().on_worker(two).spawn(move || {
                    for _ in 0..rounds {
                        park();
                        task_a.unpark();
                    }
                });
                let b = b.unwrap();
                tell.send(b.task()).unwrap();
                a.join().unwrap();
                b.join().unwrap();
                drop(first);
            });
        }
        let thread = current();
        let runtime = runtime(1);
        let task = runtime.spawn(move || {
            for _ in 0..5_000 {
                park();
                thread.unpark();
            }
        });
        let other = task.task();
        for _ in 0..5_000 {
            other.unpark();
            park();
        }
        task.join().unwrap();
    });
}

#[test]
fn unpark_of_a_task_that_has_ended() {
    within("unpark_of_a_task_that_has_ended", || {
        let runtime = runtime(2);
        let task = runtime.spawn(current);
        let gone = task.join().unwrap();
        gone.unpark();
        gone.kill();
        runtime.run(move || {
            gone.unpark();
            gone.kill();
            assert!(gone.id() > 0);
        });
    });
}

/// A storm of permits must not keep a worker from its other tasks.
#[test]
fn a_task_that_always_has_a_permit_starves_nobody() {
    within("a_task_that_always_has_a_permit_starves_nobody", || {
        runtime(1).run(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let hog = {
                let stop = stop.clone();
                spawn(move || {
                    let me = current();
                    while !stop.load(SeqCst) {
                        me.unpark();
                        park();
                    }
                })
            };
            yield_now();
            sleep(Duration::from_millis(1));
            stop.store(true, SeqCst);
            hog.join().unwrap();
        });
    });
}

// ---- time -----------------------------------------------------------------------------------------

#[test]
fn sleep_is_never_early() {
    within("sleep_is_never_early", || {
        let mut random = Random::new(11);
        for workers in [1, 2] {
            let delays: Vec<u64> = (0..2000).map(|_| random.below(20_000)).collect();
            runtime(workers).run(move || {
                join_all(delays.into_iter().map(|micros| {
                    spawn(move || {
                        let delay = Duration::from_micros(micros);
                        let begun = Instant::now();
                        sleep(delay);
                        assert!(
                            begun.elapsed() >= delay,
                            "{:?} < {delay:?}",
                            begun.elapsed()
                        );
                        let at = Instant::now() + delay;
                        sleep_until(at);
                        assert!(Instant::now() >= at);
                    })
                }))
                .into_iter()
                .for_each(|end| end.unwrap());
            });
        }
        let begun = Instant::now();
        sleep(SHORT);
        assert!(begun.elapsed() >= SHORT, "on an ordinary thread");
    });
}

#[test]
fn no_time_and_past_time() {
    within("no_time_and_past_time", || {
        let past = Instant::now();
        let check = move || {
            sleep(Duration::ZERO);
            sleep_until(past);
            assert!(!park_timeout(Duration::ZERO));
            assert!(!park_deadline(past));
            assert!(!Event::new().wait_deadline(past));
            let lock = Mutex::new(());
            let _held = lock.lock();
            assert!(lock.lock_timeout(Duration::ZERO).is_err());
        };
        check();
        runtime(1).run(move || {
            check();
            // Another task gets its turn in each of them.
            let turns = Arc::new(AtomicUsize::new(0));
            let other = {
                let turns = turns.clone();
                spawn(move || {
                    loop {
                        turns.fetch_add(1, SeqCst);
                        yield_now();
                    }
                })
            };
            yield_now();
            for wait in [|_| sleep(Duration::ZERO), |past| sleep_until(past)] {
                let before = turns.load(SeqCst);
                wait(past);
                assert!(turns.load(SeqCst) > before, "nobody else ran");
            }
            other.kill();
        });
    });
}

#[test]
fn sleeps_beyond_all_time_can_be_killed() {
    within("sleeps_beyond_all_time_can_be_killed", || {
        runtime(2).run(|| {
            let far = [
                Duration::from_secs(86_400),
                Duration::from_secs(u64::MAX / 4),
                Duration::MAX,
            ];
            let tasks: Vec<_> = far
                .into_iter()
                .flat_map(|far| {
                    [
                        spawn(move || sleep(far)),
                        spawn(move || drop(park_timeout(far))),
                        spawn(move || drop(Event::new().wait_timeout(far))),
                        spawn(move || {
                            let (_sender, receiver) = bounded::<()>(1);
                            let _ = receiver.recv_timeout(far);
                        }),
                        spawn(move || drop(timeout(far, park))),
                        sward_runtime::spawn_after(far, || ()),
                    ]
                })
                .collect();
            sleep(SHORT);
            assert!(tasks.iter().all(|t| !t.is_finished()));
            tasks.iter().for_each(|t| t.kill());
            for task in tasks {
                assert!(task.join().unwrap_err().is_killed());
            }
            assert_eq!(sward_runtime::stats().live, 1);
        });
    });
}

/// On one worker sleepers end in the order of their deadlines (to the timers' tick of 66 us).
#[test]
fn sleepers_end_in_the_order_of_their_deadlines() {
    within("sleepers_end_in_the_order_of_their_deadlines", || {
        let tasks = 100_000;
        let mut random = Random::new(5);
        let delays: Vec<u64> = (0..tasks).map(|_| random.below(50_000)).collect();
        runtime(1).run(move || {
            let begun = Instant::now();
            let (tell, told) = unbounded();
            let base = Arc::new(OnceLock::new());
            let go = Arc::new(Event::new());
            let all: Vec<_> = delays
                .into_iter()
                .map(|micros| {
                    let (tell, base, go) = (tell.clone(), base.clone(), go.clone());
                    spawn(move || {
                        go.wait();
                        let at = *base.get().unwrap() + Duration::from_micros(micros);
                        // On a slow machine the first may be due before the last lies down.
                        let in_time = Instant::now() < at;
                        sleep_until(at);
                        assert!(Instant::now() >= at);
                        tell.send((micros, in_time)).unwrap();
                    })
                })
                .collect();
            drop(tell);
            until(|| sward_runtime::stats().live == tasks + 1);
            // Twice the time that they took to start is enough to lie down.
            let enough = (2 * begun.elapsed()).max(Duration::from_millis(800));
            base.set(Instant::now() + enough).unwrap();
            go.set();
            let (mut latest, mut got, mut compared) = (0, 0, 0);
            for (micros, in_time) in told {
                if in_time {
                    assert!(micros + 66 >= latest, "{micros} us came after {latest} us");
                    latest = latest.max(micros);
                    compared += 1;
                }
                got += 1;
            }
            assert_eq!(got, tasks);
            assert!(compared > tasks / 2, "only {compared} lay down in time");
            assert!(join_all(all).into_iter().all(|end| end.is_ok()));
        });
    });
}

#[test]
fn a_timed_park_is_ended_by_whichever_is_first() {
    within("a_timed_park_is_ended_by_whichever_is_first", || {
        runtime(2).run(|| {
            let task = spawn(|| park_timeout(LONG));
            until(|| parked(&task, WaitKind::Park));
            task.task().unpark();
            assert!(task.join().unwrap());
            let begun = Instant::now();
            assert!(!spawn(|| park_timeout(SHORT)).join().unwrap());
            assert!(begun.elapsed() >= SHORT);
        });
    });
}

fn parked<T>(task: &sward_runtime::JoinHandle<T>, kind: WaitKind) -> bool {
    let tasks = sward_runtime::dump().tasks();
    tasks
        .iter()
        .any(|t| t.id == task.id() && t.reason.kind() == kind)
}

/// Time-outs that race with wakes: whatever is first, each park returns once and the permit is
/// taken exactly by those that say so.
#[test]
fn timeouts_race_with_unparks() {
    within("timeouts_race_with_unparks", || {
        for same in [true, false] {
            runtime(2).run(move || {
                let stop = Arc::new(AtomicBool::new(false));
                let given = Arc::new(AtomicU64::new(0));
                let waits = {
                    let (stop, given) = (stop.clone(), given.clone());
                    Builder::new().on_worker(0).spawn(move || {
                        let (mut hits, mut misses) = (0, 0);
                        while !stop.load(SeqCst) {
                            if park_timeout(Duration::from_micros(30)) {
                                hits += 1;
                                assert!(hits <= given.load(SeqCst));
                            } else {
                                misses += 1;
                            }
                        }
                        (hits, misses)
                    })
                };
                let waits = waits.unwrap();
                let target = waits.task();
                let gives = Builder::new().on_worker(usize::from(!same)).spawn(move || {
                    for i in 0..3_000_u64 {
                        sleep(Duration::from_micros(20 + i % 40));
                        given.fetch_add(1, SeqCst);
                        target.unpark();
                    }
                });
                gives.unwrap().join().unwrap();
                stop.store(true, SeqCst);
                let (hits, misses) = waits.join().unwrap();
                assert!(
                    hits > 0 && misses + hits > 100,
                    "{hits} hits, {misses} misses"
                );
            });
        }
    });
}

// ---- ordinary threads ---------------------------------------------------------------------------

/// A wake that comes late, after its wait has timed out, ends no later wait of the thread.
#[test]
fn late_wakes_end_no_later_wait_of_a_thread() {
    within("late_wakes_end_no_later_wait_of_a_thread", || {
        let stop = Arc::new(AtomicBool::new(false));
        let lock = Arc::new(Mutex::new(0_u64));
        let (sender, receiver) = rendezvous::<u64>();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (stop, sender) = (stop.clone(), sender.clone());
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        // Delivers to a receiver that is about to time out.
                        let _ = sender.try_send(1);
                    }
                })
            })
            .collect();
        let lockers: Vec<_> = (0..2)
            .map(|_| {
                let (stop, lock) = (stop.clone(), lock.clone());
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        *lock.lock() += 1;
                    }
                })
            })
            .collect();
        let begun = Instant::now();
        let mut got = 0;
        while begun.elapsed() < Duration::from_secs(3) {
            got += receiver.recv_timeout(Duration::from_micros(5)).unwrap_or(0);
            // Panicked, when the late wake of the receive ended its wait.
            *lock.lock() += 1;
            let nap = Duration::from_micros(100);
            let before = Instant::now();
            sleep(nap);
            assert!(before.elapsed() >= nap, "an early end of a sleep");
        }
        stop.store(true, SeqCst);
        senders
            .into_iter()
            .chain(lockers)
            .for_each(|t| t.join().unwrap());
        assert!(got > 0);
    });
}
