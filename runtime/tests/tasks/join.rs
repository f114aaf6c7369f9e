//! Waiting for tasks: results, limits, many at once, callbacks, and joins from threads.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::{Event, bounded, unbounded};
use sward_runtime::{
    Builder, Exit, JoinError, JoinHandle, Runtime, current, join_all, join_all_timeout, park,
    sleep, spawn, spawn_local, stats, try_join_all, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    runtime(1).run(&check);
    runtime(2).run(&check);
    check();
}

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(3600);

/// A panic that prints nothing.
fn fail<T>(payload: impl Send + 'static) -> T {
    std::panic::resume_unwind(Box::new(payload))
}

#[test]
fn results_of_every_shape() {
    within("results_of_every_shape", || {
        everywhere(|| {
            spawn(|| ()).join().unwrap();
            assert_eq!(spawn(|| [7_u64; 1000]).join().unwrap(), [7; 1000]);
            assert_eq!(spawn(|| String::from("text")).join().unwrap(), "text");
            assert_eq!(spawn(|| Err::<u8, _>("no")).join().unwrap(), Err("no"));
            let boxed = spawn(|| Box::new(|| 5) as Box<dyn Fn() -> i32 + Send>);
            assert_eq!(boxed.join().unwrap()(), 5);
            #[repr(align(64))]
            struct Aligned(u8);
            let value = spawn(|| Aligned(3)).join().unwrap();
            assert_eq!((value.0, std::ptr::from_ref(&value).addr() % 64), (3, 0));
            let big = [1_u8; 5000];
            assert_eq!(spawn(move || big.len()).join().unwrap(), 5000);
            // A task that gives a task.
            let inner = spawn(|| spawn(|| spawn(|| 9)));
            assert_eq!(inner.join().unwrap().join().unwrap().join().unwrap(), 9);
        });
        runtime(1).run(|| {
            let local = spawn_local(|| Rc::new(4));
            assert_eq!(*local.join().unwrap(), 4);
        });
    });
}

#[test]
fn panics_come_with_their_payload() {
    within("panics_come_with_their_payload", || {
        everywhere(|| {
            let error = spawn(|| fail::<()>("text")).join().unwrap_err();
            assert_eq!(error.panic_message(), Some("text"));
            assert_eq!(error.to_string(), "the task panicked: text");
            let error = spawn(|| fail::<u8>(String::from("owned")))
                .join()
                .unwrap_err();
            assert_eq!(error.panic_message(), Some("owned"));
            let error = spawn(|| fail::<u8>(17_u64)).join().unwrap_err();
            let JoinError::Panicked(payload) = error else {
                panic!("{error}")
            };
            assert_eq!(payload.downcast_ref::<u64>(), Some(&17));
            let again = std::panic::catch_unwind(|| {
                spawn(|| fail::<u8>(1_i8)).join().unwrap_err().resume()
            });
            assert_eq!(again.unwrap_err().downcast_ref::<i8>(), Some(&1));
            let task = spawn(park);
            task.kill();
            let error = task.join().unwrap_err();
            assert!(error.is_killed() && error.panic_message().is_none());
        });
    });
}

#[test]
fn a_limited_join_gives_the_handle_back() {
    within("a_limited_join_gives_the_handle_back", || {
        everywhere(|| {
            let (go, wait) = bounded(1);
            let mut task = spawn(move || wait.recv().unwrap());
            for limit in [Duration::ZERO, SHORT, Duration::from_micros(1)] {
                let begun = Instant::now();
                task = task.join_timeout(limit).unwrap_err();
                assert!(begun.elapsed() >= limit);
                task = task.join_deadline(begun).unwrap_err();
            }
            assert!(!task.is_finished());
            go.send(6).unwrap();
            assert_eq!(task.join_timeout(LONG).unwrap().unwrap(), 6);
            let task = spawn(|| 1);
            assert_eq!(task.join_timeout(Duration::MAX).unwrap().unwrap(), 1);
            // Time that has passed does not hide an end that has come.
            let task = spawn(|| 2);
            until(|| task.is_finished());
            assert_eq!(task.join_timeout(Duration::ZERO).unwrap().unwrap(), 2);
        });
    });
}

#[test]
fn all_come_in_the_order_of_the_handles() {
    within("all_come_in_the_order_of_the_handles", || {
        everywhere(|| {
            assert!(join_all(Vec::<JoinHandle<u8>>::new()).is_empty());
            let tasks = (0..1000_u64).map(|i| {
                spawn(move || {
                    sleep(Duration::from_micros((1000 - i) % 97));
                    if i % 10 == 0 { fail(i) } else { i }
                })
            });
            for (i, end) in (0..1000).zip(join_all(tasks)) {
                match end {
                    Ok(value) => assert_eq!(value, i),
                    Err(JoinError::Panicked(p)) => assert_eq!(p.downcast_ref(), Some(&i)),
                    Err(e) => panic!("{e}"),
                }
            }
        });
    });
}

#[test]
fn all_within_a_limit() {
    within("all_within_a_limit", || {
        everywhere(|| {
            let go = Arc::new(Event::new());
            let tasks = (0..100).map(|i| {
                let go = go.clone();
                spawn(move || {
                    if i % 2 == 1 {
                        go.wait();
                    }
                    i
                })
            });
            let tasks: Vec<_> = tasks.collect();
            until(|| tasks.iter().step_by(2).all(JoinHandle::is_finished));
            let begun = Instant::now();
            let ends = join_all_timeout(tasks, SHORT);
            assert!(begun.elapsed() >= SHORT && begun.elapsed() < Duration::from_secs(5));
            go.set();
            for (i, end) in ends.into_iter().enumerate() {
                match end {
                    Ok(value) => assert_eq!((value.unwrap(), i % 2), (i, 0)),
                    Err(handle) => assert_eq!((handle.join().unwrap(), i % 2), (i, 1)),
                }
            }
            assert!(join_all_timeout(Vec::<JoinHandle<u8>>::new(), LONG).is_empty());
        });
    });
}

#[test]
fn the_first_error_at_once() {
    within("the_first_error_at_once", || {
        everywhere(|| {
            let sleepers = |n| (0..n).map(|_| spawn(|| sleep(LONG)));
            let tasks: Vec<_> = sleepers(50)
                .chain([spawn(|| {
                    sleep(SHORT);
                    fail("first")
                })])
                .chain(sleepers(50))
                .collect();
            let others: Vec<_> = tasks.iter().map(JoinHandle::task).collect();
            let error = try_join_all(tasks).unwrap_err();
            assert_eq!(error.panic_message(), Some("first"));
            others.iter().for_each(|t| t.kill());
            // One that has failed before.
            let failed = spawn(|| fail::<i32>("before"));
            until(|| failed.is_finished());
            let error = try_join_all([spawn(|| 1), failed]).unwrap_err();
            assert_eq!(error.panic_message(), Some("before"));
            assert_eq!(
                try_join_all((0..100).map(|i| spawn(move || i)))
                    .unwrap()
                    .len(),
                100
            );
            assert!(
                try_join_all(Vec::<JoinHandle<u8>>::new())
                    .unwrap()
                    .is_empty()
            );
            let task = spawn(park);
            task.kill();
            assert!(try_join_all([task]).unwrap_err().is_killed());
        });
    });
}

#[test]
fn callbacks_at_the_end() {
    within("callbacks_at_the_end", || {
        everywhere(|| {
            let (tell, told) = unbounded();
            let (go, wait) = bounded::<()>(0);
            let start = |what: u8| {
                let wait = wait.clone();
                spawn(move || {
                    let _ = wait.recv();
                    match what {
                        0 => {}
                        1 => fail(()),
                        _ => park(),
                    }
                })
            };
            let tasks = [start(0), start(1), start(2)];
            let add = |when: &'static str| {
                for (i, task) in tasks.iter().enumerate() {
                    let tell = tell.clone();
                    task.on_exit(move |exit| {
                        // User code in a task of its own: it may wait.
                        yield_now();
                        sleep(Duration::from_micros(1));
                        tell.send((when, i, exit)).unwrap();
                    });
                }
            };
            add("before");
            add("before");
            drop(go);
            tasks[2].kill();
            until(|| tasks.iter().all(JoinHandle::is_finished));
            add("after");
            drop(tell);
            let mut got: Vec<_> = (0..9).map(|_| told.recv().unwrap()).collect();
            got.sort_unstable_by_key(|&(when, i, _)| (i, when));
            let exits = [Exit::Returned, Exit::Panicked, Exit::Killed];
            let expected =
                (0..3).flat_map(|i| ["after", "before", "before"].map(|when| (when, i, exits[i])));
            assert!(got.into_iter().eq(expected));
        });
    });
}

/// Callbacks that come while the task ends, from four threads: each is called once.
#[test]
fn callbacks_race_with_the_end() {
    within("callbacks_race_with_the_end", || {
        let runtime = runtime(2);
        let called = Arc::new(AtomicUsize::new(0));
        for round in 0..2000 {
            let task = Arc::new(runtime.spawn(move || {
                for _ in 0..round % 20 {
                    std::hint::spin_loop();
                }
            }));
            std::thread::scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        let called = called.clone();
                        task.on_exit(move |exit| {
                            assert_eq!(exit, Exit::Returned);
                            called.fetch_add(1, SeqCst);
                        });
                    });
                }
            });
            until(|| called.load(SeqCst) == 2 * (round + 1));
        }
    });
}

#[test]
fn joins_race_with_the_end() {
    within("joins_race_with_the_end", || {
        let mut random = Random::new(3);
        let runtime = runtime(2);
        for _ in 0..5_000 {
            let (spin, wait) = (random.below(300), random.below(3));
            let task = runtime.spawn(move || {
                (0..spin).for_each(|_| std::hint::spin_loop());
                Arc::new(5)
            });
            let from_task = random.below(2) == 0;
            let join = move || match wait {
                0 => drop(task),
                1 => assert_eq!(*task.join().unwrap(), 5),
                _ => match task.join_timeout(Duration::from_micros(3)) {
                    Ok(end) => assert_eq!(*end.unwrap(), 5),
                    Err(task) => assert_eq!(*task.join().unwrap(), 5),
                },
            };
            if from_task {
                runtime.spawn(join).join().unwrap();
            } else {
                join();
            }
        }
        until(|| runtime.stats().live == 0);
    });
}

#[test]
fn a_task_that_joins_itself_panics() {
    within("a_task_that_joins_itself_panics", || {
        runtime(1).run(|| {
            let (give, take) = bounded::<JoinHandle<()>>(1);
            let task = spawn(move || {
                let me = take.recv().unwrap();
                let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| me.join()));
                let text = end.unwrap_err();
                let text = text.downcast_ref::<String>().unwrap();
                assert!(text.contains("joins itself"), "{text}");
            });
            let watch = task.task();
            let ended = Arc::new(Event::new());
            let tell = ended.clone();
            task.on_exit(move |exit| {
                assert_eq!(exit, Exit::Returned);
                tell.set();
            });
            give.send(task).unwrap();
            ended.wait();
            drop(watch);
        });
    });
}

#[test]
fn joins_from_threads() {
    within("joins_from_threads", || {
        let runtime = Arc::new(runtime(2));
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let runtime = runtime.clone();
                std::thread::spawn(move || {
                    let tasks = (0..500).map(|i| runtime.spawn(move || t * 500 + i));
                    join_all(tasks)
                        .into_iter()
                        .map(Result::unwrap)
                        .sum::<usize>()
                })
            })
            .collect();
        let sum: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(sum, 2000 * 1999 / 2);
        // The handle goes from a task to a thread and back.
        let task = runtime.spawn(|| spawn(|| 3));
        let inner = task.join().unwrap();
        let inner = std::thread::spawn(move || inner.join_timeout(LONG).unwrap().unwrap());
        assert_eq!(inner.join().unwrap(), 3);
    });
}

#[test]
fn a_hundred_thousand_tasks() {
    within("a_hundred_thousand_tasks", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let sum: u64 = runtime.run(|| {
                let tasks = (0..100_000_u64).map(|i| {
                    spawn(move || {
                        yield_now();
                        i
                    })
                });
                join_all(tasks).into_iter().map(Result::unwrap).sum()
            });
            assert_eq!(sum, 99_999 * 50_000);
            until(|| runtime.stats().live == 0);
            assert_eq!(runtime.stats().started, runtime.stats().finished);
        }
    });
}

/// An outcome that nobody takes is dropped, once, whenever the handle goes.
#[test]
fn outcomes_are_dropped_once() {
    within("outcomes_are_dropped_once", || {
        struct Counts(Arc<AtomicUsize>);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        runtime(2).run(|| {
            let drops = Arc::new(AtomicUsize::new(0));
            let mut expected = 0;
            for worker in [0, 1] {
                for i in 0..200 {
                    let (value, parameter) = (Counts(drops.clone()), Counts(drops.clone()));
                    let task = Builder::new().on_worker(worker).spawn(move || {
                        drop(parameter);
                        (0..i % 7).for_each(|_| yield_now());
                        value
                    });
                    let task = task.unwrap();
                    expected += 2;
                    match i % 4 {
                        0 => drop(task),
                        1 => drop(task.join()),
                        2 => {
                            until(|| task.is_finished());
                            drop(task);
                        }
                        _ => drop(task.join_timeout(Duration::ZERO)),
                    }
                }
            }
            until(|| drops.load(SeqCst) == expected);
            until(|| stats().live == 1);
            assert_eq!(drops.load(SeqCst), expected);
        });
    });
}

#[test]
fn text() {
    within("text", || {
        runtime(1).run(|| {
            let task = Builder::new().name("teller").spawn(park).unwrap();
            let text = format!("{task:?}");
            assert!(
                text.contains("'teller'") && text.contains("join.rs"),
                "{text}"
            );
            assert_eq!(format!("{:?}", task.task()), text[11..text.len() - 1]);
            task.kill();
            assert!(format!("{:?}", current()).contains("'main'"));
        });
        assert!(format!("{:?}", current()).contains("thread"));
    });
}
