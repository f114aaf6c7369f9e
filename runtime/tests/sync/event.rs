//! The event: who waits goes on, once it is set, whoever sets it and however many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use sward_runtime::sync::Event;
use sward_runtime::{Builder, Runtime, join_all, spawn, stats, timeout, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

#[test]
fn set_and_clear() {
    within("set_and_clear", || {
        everywhere(|| {
            let event = Event::default();
            assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
            event.set();
            event.set();
            assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
            event.wait();
            event.clear();
            assert!(!event.is_set() && !event.wait_timeout(Duration::from_micros(10)));
            event.clear();
            assert!(!event.wait_deadline(Instant::now()));
        });
    });
}

#[test]
fn limits() {
    within("limits", || {
        everywhere(|| {
            let event = Arc::new(Event::new());
            let limit = Duration::from_millis(3);
            let begun = Instant::now();
            assert!(!event.wait_timeout(limit));
            assert!(begun.elapsed() >= limit);
            let at = Instant::now() + limit;
            assert!(!event.wait_deadline(at) && Instant::now() >= at);
            assert!(timeout(limit, || event.wait()).is_err());
            let waits = event.clone();
            let task = spawn(move || waits.wait_timeout(Duration::MAX));
            yield_now();
            event.set();
            assert!(task.join().unwrap());
        });
    });
}

#[test]
fn ten_thousand_wait() {
    within("ten_thousand_wait", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let event = Arc::new(Event::new());
            let woken = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..10_000)
                .map(|i| {
                    let (event, woken) = (event.clone(), woken.clone());
                    runtime.spawn(move || {
                        if i % 2 == 0 {
                            event.wait();
                        } else {
                            assert!(event.wait_timeout(Duration::from_secs(3600)));
                        }
                        woken.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let event = event.clone();
                    std::thread::spawn(move || event.wait())
                })
                .collect();
            until(|| format!("{event:?}") == "Event { set: false, waiting: 10004 }");
            assert_eq!(woken.load(SeqCst), 0);
            event.set();
            join_all(tasks).into_iter().for_each(Result::unwrap);
            threads.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(woken.load(SeqCst), 10_000);
            assert_eq!(format!("{event:?}"), "Event { set: true, waiting: 0 }");
        }
    });
}

/// Who waits when it is set goes on, even if it is cleared before that one runs.
#[test]
fn cleared_at_once() {
    within("cleared_at_once", || {
        runtime(1).run(|| {
            let event = Arc::new(Event::new());
            let tasks: Vec<_> = (0..200)
                .map(|_| {
                    let event = event.clone();
                    spawn(move || event.wait())
                })
                .collect();
            until(|| stats().live == 201);
            yield_now();
            event.set();
            event.clear();
            // Those who come now wait for the next time.
            let late = event.clone();
            let late = spawn(move || late.wait());
            join_all(tasks).into_iter().for_each(Result::unwrap);
            assert!(!late.is_finished());
            event.set();
            late.join().unwrap();
        });
    });
}

/// Nobody is forgotten while it is set and cleared all the time.
#[test]
fn set_and_clear_race_with_waits() {
    within("set_and_clear_race_with_waits", || {
        let runtime = runtime(2);
        let event = Arc::new(Event::new());
        let stop = Arc::new(AtomicBool::new(false));
        let setters: Vec<_> = (0..2)
            .map(|_| {
                let (event, stop) = (event.clone(), stop.clone());
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        event.set();
                        event.clear();
                    }
                })
            })
            .collect();
        let tasks: Vec<_> = (0..20)
            .map(|i| {
                let event = event.clone();
                let builder = Builder::new().on_worker(i % 2);
                let wait = move || {
                    for turn in 0..300_u64 {
                        if (turn + i as u64).is_multiple_of(3) {
                            event.wait_timeout(Duration::from_micros(turn % 40));
                        } else {
                            event.wait();
                        }
                    }
                };
                runtime.spawn_with(builder, wait).unwrap()
            })
            .collect();
        join_all(tasks).into_iter().for_each(Result::unwrap);
        stop.store(true, SeqCst);
        setters.into_iter().for_each(|t| t.join().unwrap());
        assert!(format!("{event:?}").contains("waiting: 0"));
    });
}

/// Who begins to wait after a clear is not woken by the set before it, even if that set is still
/// at work.
#[test]
fn a_set_wakes_only_those_before_it() {
    within("a_set_wakes_only_those_before_it", || {
        let event = Arc::new(Event::new());
        let round = Arc::new(AtomicU64::new(0));
        let rounds = if cfg!(debug_assertions) { 2_000 } else { 5_000 };
        let setter = {
            let (event, round) = (event.clone(), round.clone());
            std::thread::spawn(move || {
                for r in 1..=rounds {
                    while round.load(SeqCst) < 2 * r - 1 {
                        std::hint::spin_loop();
                    }
                    event.set();
                    while round.load(SeqCst) < 2 * r {
                        std::hint::spin_loop();
                    }
                }
            })
        };
        for r in 1..=rounds {
            round.store(2 * r - 1, SeqCst);
            while !event.is_set() {
                std::hint::spin_loop();
            }
            event.clear();
            let woken = event.wait_timeout(Duration::from_micros(20));
            assert!(!woken, "round {r}: woken, and the event is clear");
            round.store(2 * r, SeqCst);
        }
        setter.join().unwrap();
    });
}
