//! Starting tasks: from everywhere, where they are placed, in what order, and that they stay.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, thread_number, until, within};
use sward_runtime::sync::{Event, bounded, unbounded};
use sward_runtime::{
    Builder, Runtime, current, join_all, shield, sleep, spawn, spawn_after, spawn_local, stats,
    workers, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Uses the CPU without a park.
fn compute(how_long: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < how_long {
        std::hint::spin_loop();
    }
}

// ---- order ------------------------------------------------------------------------------------------

#[test]
fn first_in_first_out() {
    within("first_in_first_out", || {
        runtime(1).run(|| {
            let order = Arc::new(sward_runtime::sync::Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let order = order.clone();
                    spawn(move || {
                        for turn in 0..3 {
                            order.lock().push((turn, i));
                            yield_now();
                        }
                    })
                })
                .collect();
            join_all(tasks);
            let order = order.lock();
            for turn in 0..3 {
                let of_turn = order.iter().filter(|o| o.0 == turn).map(|o| o.1);
                assert!(of_turn.eq(0..100), "turn {turn}");
            }
        });
    });
}

/// Two tasks that yield alternate.
#[test]
fn yields_alternate() {
    within("yields_alternate", || {
        runtime(1).run(|| {
            let (tell, told) = unbounded();
            let tasks = [0, 1].map(|i| {
                let tell = tell.clone();
                spawn(move || {
                    for _ in 0..1000 {
                        tell.send(i).unwrap();
                        yield_now();
                    }
                })
            });
            drop(tell);
            join_all(tasks);
            assert!(told.iter().zip(0..).all(|(who, i)| who == i % 2));
        });
    });
}

// ---- from everywhere -----------------------------------------------------------------------------

#[test]
fn from_threads_and_tasks() {
    within("from_threads_and_tasks", || {
        assert_eq!(spawn(|| 1).join().unwrap(), 1, "from an ordinary thread");
        let nested = std::thread::spawn(|| {
            spawn(|| {
                let inner = spawn(|| spawn(|| 2).join().unwrap());
                let thread = std::thread::spawn(|| spawn(|| 3).join().unwrap());
                inner.join().unwrap() + thread.join().unwrap()
            })
            .join()
            .unwrap()
        });
        assert_eq!(nested.join().unwrap(), 5);
        // A task of one runtime spawns on another.
        let (one, two) = (Arc::new(runtime(1)), runtime(2));
        let (name, there) = (one.clone(), two.workers());
        assert_eq!(there, 2);
        let at_home = two.run(move || {
            assert_eq!(workers(), 2);
            name.spawn(|| {
                assert_eq!(workers(), 1);
                spawn(workers).join().unwrap()
            })
            .join()
            .unwrap()
        });
        assert_eq!(at_home, 1);
        drop(one);
    });
}

#[test]
fn a_storm_from_four_threads() {
    within("a_storm_from_four_threads", || {
        let each = if cfg!(debug_assertions) {
            20_000
        } else {
            100_000
        };
        let runtime = Arc::new(runtime(2));
        let ran = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (runtime, ran) = (runtime.clone(), ran.clone());
                std::thread::spawn(move || {
                    for i in 0..each {
                        let ran = ran.clone();
                        let task = runtime.spawn(move || ran.fetch_add(1, SeqCst));
                        if i % 100 == 0 {
                            task.join().unwrap();
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        until(|| ran.load(SeqCst) == 4 * each);
        until(|| runtime.stats().live == 0 && runtime.stats().unstarted == 0);
    });
}

#[test]
fn a_million_spawns() {
    within("a_million_spawns", || {
        let all = if cfg!(debug_assertions) {
            200_000
        } else {
            1_000_000_u64
        };
        for workers in [1, 2] {
            let sum: u64 = runtime(workers).run(move || {
                let tasks: Vec<_> = (0..all).map(|i| spawn(move || i)).collect();
                tasks.into_iter().map(|t| t.join().unwrap()).sum()
            });
            assert_eq!(sum, all * (all - 1) / 2);
        }
    });
}

#[test]
fn local_tasks() {
    within("local_tasks", || {
        runtime(2).run(|| {
            let here = thread_number();
            let shared = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let shared = shared.clone();
                    spawn_local(move || {
                        yield_now();
                        shared.set(shared.get() + i);
                        assert_eq!(thread_number(), here);
                        shared
                    })
                })
                .collect();
            // This worker is busy, and still nobody takes them.
            compute(Duration::from_millis(5));
            for task in tasks {
                task.join().unwrap();
            }
            assert_eq!(shared.get(), 4950);
            let nobody = Builder::new()
                .on_worker(here_index() ^ 1)
                .spawn_local(|| ());
            assert_eq!(nobody.unwrap_err().kind(), ErrorKind::InvalidInput);
            Builder::new()
                .on_worker(here_index())
                .spawn_local(|| ())
                .unwrap()
                .join()
                .unwrap();
            // Dropped unjoined, killed unstarted: the closure goes on its own thread.
            struct Here(i64);
            impl Drop for Here {
                fn drop(&mut self) {
                    assert_eq!(thread_number(), self.0);
                }
            }
            let value = Here(here);
            let task = spawn_local(move || drop(value));
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            drop(spawn_local(|| Here(thread_number())));
        });
        let error = Builder::new().spawn_local(|| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("in a task"), "{error}");
    });
}

/// The number of the worker that runs this.
fn here_index() -> usize {
    let name = std::thread::current().name().unwrap().to_owned();
    name.rsplit('-').next().unwrap().parse().unwrap()
}

#[test]
fn after_a_delay() {
    within("after_a_delay", || {
        runtime(1).run(|| {
            let begun = Instant::now();
            let delay = Duration::from_millis(5);
            let task = spawn_after(delay, move || begun.elapsed());
            assert!(task.join().unwrap() >= delay);
            assert_eq!(spawn_after(Duration::ZERO, || 1).join().unwrap(), 1);
            let ran = Arc::new(AtomicBool::new(false));
            let tell = ran.clone();
            let task = spawn_after(Duration::from_secs(3600), move || tell.store(true, SeqCst));
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert!(!ran.load(SeqCst));
            assert_eq!(Arc::strong_count(&ran), 1, "the closure is left");
        });
    });
}

// ---- the builder -------------------------------------------------------------------------------------

#[test]
fn placed_on_a_worker() {
    within("placed_on_a_worker", || {
        let runtime = runtime(3);
        let numbers: Vec<_> = (0..3)
            .map(|n| {
                let tasks = (0..50).map(|_| {
                    let builder = Builder::new().on_worker(n);
                    runtime
                        .spawn_with(builder, || (thread_number(), here_index()))
                        .unwrap()
                });
                let mut numbers: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
                numbers.dedup();
                assert_eq!(numbers.len(), 1, "tasks of worker {n} on {numbers:?}");
                assert_eq!(numbers[0].1, n);
                numbers[0].0
            })
            .collect();
        assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2]);
        for n in [3, 1000, usize::MAX] {
            let error = runtime
                .spawn_with(Builder::new().on_worker(n), || ())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("workers 0 to 2"), "{error}");
        }
        // From a task, to the own worker and to others, while those compute.
        runtime.run(|| {
            for n in 0..3 {
                let task = Builder::new().on_worker(n).spawn(move || {
                    let inner = Builder::new()
                        .on_worker((n + 1) % 3)
                        .spawn(here_index)
                        .unwrap();
                    compute(Duration::from_millis(2));
                    inner.join().unwrap()
                });
                assert_eq!(task.unwrap().join().unwrap(), (n + 1) % 3);
            }
        });
    });
}

#[test]
fn names_and_sizes() {
    within("names_and_sizes", || {
        runtime(2).run(|| {
            let builder = Builder::new().name("émile \u{1F331}").stack_size(1 << 20);
            let task = builder.spawn(|| {
                let deep = std::hint::black_box([1_u8; 300 << 10]);
                let name = current().name().map(str::to_owned);
                (deep.iter().map(|&b| usize::from(b)).sum::<usize>(), name)
            });
            let (sum, name) = task.unwrap().join().unwrap();
            assert_eq!((sum, name.as_deref()), (300 << 10, Some("émile \u{1F331}")));
            assert!(spawn(|| current().name().is_none()).join().unwrap());
            assert_eq!(
                Builder::new().name("").spawn(|| 1).unwrap().join().unwrap(),
                1
            );
            for bytes in [0, 1, 16 * 1024 - 1, usize::MAX, (1 << 30) + 1] {
                let error = Builder::new().stack_size(bytes).spawn(|| ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(&bytes.to_string()), "{error}");
                let error = Builder::new().guard_size(bytes).spawn(|| ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("guard"), "{error}");
                let error = Builder::new()
                    .stack_size(bytes)
                    .spawn_local(|| ())
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
            // Odd sizes are rounded up; small ones suffice for little.
            for bytes in [16 * 1024, 16 * 1024 + 1, 100_001] {
                let builder = Builder::new().stack_size(bytes).guard_size(bytes);
                assert_eq!(builder.spawn(|| 5).unwrap().join().unwrap(), 5);
            }
            // A refused builder has dropped the closure.
            let value = Arc::new(());
            let inside = value.clone();
            drop(
                Builder::new()
                    .stack_size(1)
                    .spawn(move || drop(inside))
                    .unwrap_err(),
            );
            assert_eq!(Arc::strong_count(&value), 1);
        });
    });
}

#[test]
fn who_and_where() {
    within("who_and_where", || {
        runtime(1).run(|| {
            let line = line!() + 1;
            let task = spawn(|| (current().id(), current().spawned_at().unwrap()));
            let id = task.id();
            assert_eq!(task.task().id(), id);
            let (seen, site) = task.join().unwrap();
            assert_eq!((seen, site.line()), (id, line));
            assert!(site.file().ends_with("spawn.rs"));
            let line = line!() + 1;
            let task = Builder::new().spawn(|| current().spawned_at().unwrap().line());
            assert_eq!(task.unwrap().join().unwrap(), line);
            let line = line!() + 1;
            let task = spawn_after(Duration::ZERO, || current().spawned_at().unwrap().line());
            assert_eq!(task.join().unwrap(), line);
            let line = line!() + 1;
            let task = spawn_local(|| current().spawned_at().unwrap().line());
            assert_eq!(task.join().unwrap(), line);
        });
        assert_eq!(current().id(), 0);
        assert!(current().spawned_at().is_none());
    });
}

#[test]
fn ids_are_unique() {
    within("ids_are_unique", || {
        let runtime = Arc::new(runtime(2));
        let (tell, told) = unbounded();
        for worker in [0, 1] {
            let tell = tell.clone();
            let task = move || {
                for _ in 0..500 {
                    tell.send(spawn(|| ()).id()).unwrap();
                    tell.send(Builder::new().spawn(|| ()).unwrap().id())
                        .unwrap();
                }
            };
            drop(
                runtime
                    .spawn_with(Builder::new().on_worker(worker), task)
                    .unwrap(),
            );
        }
        (0..500).for_each(|_| tell.send(runtime.spawn(|| ()).id()).unwrap());
        drop(tell);
        let mut ids: Vec<_> = told.iter().collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2500);
        assert!(ids[0] > 0);
    });
}

// ---- who runs what -------------------------------------------------------------------------------

/// Started tasks keep their thread through a thousand parks of all kinds, whoever is idle.
#[test]
fn started_tasks_never_change_their_thread() {
    thread_local!(static MINE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) });
    within("started_tasks_never_change_their_thread", || {
        let mut random = Random::new(21);
        runtime(2).run(move || {
            let (sender, receiver) = bounded::<usize>(1);
            let tasks: Vec<_> = (0..40)
                .map(|i| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    let seed = random.below(1 << 30);
                    spawn(move || {
                        let mut random = Random::new(seed);
                        let here = thread_number();
                        MINE.with_borrow_mut(|m| m.push(i));
                        for _ in 0..1000 {
                            match random.below(5) {
                                0 => sleep(Duration::from_micros(random.below(50))),
                                1 => drop(sender.send_timeout(i, Duration::from_micros(20))),
                                2 => drop(receiver.recv_timeout(Duration::from_micros(20))),
                                3 => compute(Duration::from_micros(5)),
                                _ => yield_now(),
                            }
                            assert_eq!(thread_number(), here, "a started task moved");
                        }
                        assert!(MINE.with_borrow(|m| m.contains(&i)));
                        here
                    })
                })
                .collect();
            for end in join_all(tasks) {
                end.unwrap();
            }
        });
    });
}

/// A worker with nothing to do takes over what waits behind a task that computes.
#[test]
fn an_idle_worker_takes_over_what_waits() {
    within("an_idle_worker_takes_over_what_waits", || {
        runtime(2).run(|| {
            let here = thread_number();
            let ended = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..1000)
                .map(|_| {
                    let ended = ended.clone();
                    spawn(move || {
                        compute(Duration::from_micros(20));
                        ended.fetch_add(1, SeqCst);
                        thread_number()
                    })
                })
                .collect();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(5) && ended.load(SeqCst) < 10 {
                std::hint::spin_loop();
            }
            let meanwhile = ended.load(SeqCst);
            assert!(
                meanwhile >= 10,
                "{meanwhile} of 1,000 ran while their spawner computed"
            );
            let elsewhere = join_all(tasks)
                .into_iter()
                .filter(|n| *n.as_ref().unwrap() != here);
            assert!(elsewhere.count() >= 10);
            assert!(stats().taken_over > 0);
        });
    });
}

/// A third and fourth worker take over as well, also when the first searcher is busy for long.
#[test]
fn every_idle_worker_takes_its_share() {
    within("every_idle_worker_takes_its_share", || {
        runtime(4).run(|| {
            let (tell, told) = unbounded();
            for _ in 0..4 {
                let tell = tell.clone();
                let together = Duration::from_millis(300);
                drop(spawn(move || {
                    tell.send(thread_number()).unwrap();
                    compute(together);
                }));
            }
            compute(Duration::from_millis(250));
            let mut threads: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
            threads.sort_unstable();
            threads.dedup();
            assert_eq!(threads.len(), 3, "idle workers that took a task");
        });
    });
}

/// Two tasks that talk and are started at once stay together on the spawner's worker. A worker's
/// thread may be off the CPU for a while, and then they may be taken: hence not always.
#[test]
fn tasks_that_talk_are_not_split() {
    within("tasks_that_talk_are_not_split", || {
        let split = runtime(2).run(|| {
            let mut split = 0;
            for _ in 0..300 {
                let here = thread_number();
                let (ping, pinged) = bounded(1);
                let (pong, ponged) = bounded(1);
                let one = spawn(move || {
                    for i in 0..20 {
                        ping.send(i).unwrap();
                        assert_eq!(ponged.recv(), Ok(i));
                    }
                    thread_number()
                });
                let two = spawn(move || {
                    pinged.iter().for_each(|i| pong.send(i).unwrap());
                    thread_number()
                });
                let ends = (one.join().unwrap(), two.join().unwrap());
                split += usize::from(ends != (here, here));
            }
            split
        });
        assert!(split <= 30, "{split} of 300 pairs were split");
    });
}

/// A runtime that is ending takes nothing from one that has just begun.
#[test]
fn tasks_stay_in_their_runtime() {
    within("tasks_stay_in_their_runtime", || {
        for _ in 0..5 {
            let old = Runtime::builder().workers(2).name("old").build().unwrap();
            let slow = Arc::new(Event::new());
            let (begun, go) = (Arc::new(Event::new()), slow.clone());
            let lingers = {
                let begun = begun.clone();
                let wait = move || {
                    shield(|| {
                        begun.set();
                        while !go.wait_timeout(Duration::from_micros(100)) {}
                    });
                };
                old.spawn_with(Builder::new().on_worker(1), wait).unwrap()
            };
            begun.wait();
            let ends = std::thread::spawn(move || drop(old));
            let new = Runtime::builder().workers(1).name("new").build().unwrap();
            let tasks = new.run(|| {
                let tasks: Vec<_> = (0..1000)
                    .map(|_| spawn(|| std::thread::current().name().unwrap().to_owned()))
                    .collect();
                compute(Duration::from_millis(20));
                tasks
            });
            // The workers of the old one wake now and then, and looks for work.
            for name in join_all(tasks) {
                assert_eq!(name.unwrap(), "new-0", "a task ran in another runtime");
            }
            slow.set();
            ends.join().unwrap();
            drop(lingers);
        }
    });
}
