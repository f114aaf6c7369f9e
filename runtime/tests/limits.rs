//! What happens at the limits: stacks, address space, descriptors, workers, and an idle runtime.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{assert_passed, is_child, rerun, until, within};
use sward_runtime::sync::Event;
use sward_runtime::{Builder, Runtime, TaskState, join_all, sleep, spawn, yield_now};

fn runtime(workers: usize, stacks: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .max_stacks(stacks)
        .build()
        .unwrap()
}

#[test]
fn waves_of_tasks_under_a_limit() {
    within("waves_of_tasks_under_a_limit", || {
        for workers in [1, 2] {
            let runtime = runtime(workers, 4);
            let now = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..1000)
                .map(|i| {
                    let now = now.clone();
                    runtime.spawn(move || {
                        assert!(now.fetch_add(1, SeqCst) < 4, "more stacks than allowed");
                        if i % 3 == 0 {
                            sleep(Duration::from_micros(200));
                        } else {
                            yield_now();
                        }
                        now.fetch_sub(1, SeqCst);
                        i
                    })
                })
                .collect();
            let sum: usize = join_all(tasks).into_iter().map(Result::unwrap).sum();
            assert_eq!(sum, 999 * 1000 / 2);
            // The last task's stack is given back just after its join.
            until(|| runtime.stats().live == 0);
        }
    });
}

/// Tasks spawned by a task that joins them all: the spawner keeps one of the stacks.
#[test]
fn children_share_what_the_parent_leaves() {
    within("children_share_what_the_parent_leaves", || {
        for workers in [1, 2] {
            let total = runtime(workers, 2).run(|| {
                let tasks = (0..500).map(|i| {
                    spawn(move || {
                        yield_now();
                        i
                    })
                });
                join_all(tasks)
                    .into_iter()
                    .map(Result::unwrap)
                    .sum::<usize>()
            });
            assert_eq!(total, 499 * 500 / 2);
        }
    });
}

#[test]
fn the_builder_refuses_past_the_limit() {
    within("the_builder_refuses_past_the_limit", || {
        let runtime = runtime(1, 4);
        let go = Arc::new(Event::new());
        let held: Vec<_> = (0..4)
            .map(|_| {
                let go = go.clone();
                runtime
                    .spawn_with(Builder::new(), move || go.wait())
                    .unwrap()
            })
            .collect();
        // Those on their way to the worker are not seen.
        until(|| runtime.stats().live == 4);
        let error = runtime
            .spawn_with(Builder::new().name("fifth"), || ())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let text = error.to_string();
        assert!(text.contains("max_stacks(4)"), "{text}");
        assert!(text.contains("4 of 4"), "{text}");
        go.set();
        join_all(held);
        until(|| runtime.stats().live == 0);
        assert_eq!(
            runtime
                .spawn_with(Builder::new(), || 7)
                .unwrap()
                .join()
                .unwrap(),
            7
        );
    });
}

#[test]
fn the_builder_refuses_pinned_tasks_too() {
    within("the_builder_refuses_pinned_tasks_too", || {
        let runtime = runtime(1, 4);
        let go = Arc::new(Event::new());
        let mut held = Vec::new();
        let error = loop {
            let go = go.clone();
            match runtime.spawn_with(Builder::new().on_worker(0), move || go.wait()) {
                Ok(task) => held.push(task),
                Err(e) => break e,
            }
            until(|| runtime.stats().live == held.len().min(4));
            assert!(
                held.len() < 10,
                "ten pinned tasks were promised four stacks"
            );
        };
        assert_eq!((error.kind(), held.len()), (ErrorKind::OutOfMemory, 4));
        go.set();
        join_all(held);
    });
}

/// `spawn` and `spawn_local` are promised to wait for a stack, not to fail.
#[test]
fn spawn_local_waits_for_a_stack() {
    within("spawn_local_waits_for_a_stack", || {
        let sum = runtime(1, 2).run(|| {
            let tasks: Vec<_> = (0..10)
                .map(|i| sward_runtime::spawn_local(move || i))
                .collect();
            tasks.into_iter().map(|t| t.join().unwrap()).sum::<i32>()
        });
        assert_eq!(sum, 45);
    });
}

#[test]
fn tasks_that_wait_for_a_stack_are_in_the_dump() {
    within("tasks_that_wait_for_a_stack_are_in_the_dump", || {
        for workers in [1, 2] {
            let runtime = runtime(workers, 2);
            let go = Arc::new(Event::new());
            let wait = |_| {
                let go = go.clone();
                runtime.spawn(move || go.wait())
            };
            let mut tasks: Vec<_> = (0..10).map(wait).collect();
            let pinned = {
                let go = go.clone();
                // Past the limit the builder refuses, but these come before it is reached.
                runtime.spawn(move || {
                    Builder::new()
                        .name("never")
                        .spawn(move || go.wait())
                        .is_err()
                })
            };
            until(|| runtime.stats().live == 2);
            until(|| {
                let tasks = runtime.dump().tasks();
                tasks
                    .iter()
                    .filter(|t| t.state == TaskState::Parked)
                    .count()
                    == 2
            });
            let dump = runtime.dump();
            let count = |s| dump.tasks().iter().filter(|t| t.state == s).count();
            assert_eq!(dump.tasks().len(), 11, "{dump}");
            assert_eq!(count(TaskState::Unstarted), 9, "{dump}");
            assert!(dump.to_string().contains("9 unstarted"), "{dump}");
            assert!(dump.to_string().contains("limits.rs"), "{dump}");
            go.set();
            join_all(tasks.drain(..));
            drop(pinned);
        }
    });
}

/// Two workers and one stack: whoever waits for it gets it, and nobody sleeps through that.
#[test]
fn two_workers_share_one_stack() {
    within("two_workers_share_one_stack", || {
        for round in 0..20 {
            let runtime = runtime(2, 1);
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let builder = Builder::new().on_worker(i % 2);
                    let task = move || {
                        if i % 5 == 0 {
                            yield_now();
                        }
                        i
                    };
                    // The builder may refuse; an unpinned one then takes its place.
                    runtime
                        .spawn_with(builder, task)
                        .unwrap_or_else(|_| runtime.spawn(task))
                })
                .collect();
            let sum: usize = join_all(tasks).into_iter().map(Result::unwrap).sum();
            assert_eq!(sum, 4950, "round {round}");
        }
    });
}

/// A worker that is done keeps no credits that another one starves for.
#[test]
fn an_idle_worker_keeps_no_stacks_from_others() {
    within("an_idle_worker_keeps_no_stacks_from_others", || {
        for round in 0..20 {
            let runtime = runtime(2, 4);
            // Worker 1 has had two tasks, and may have kept their credits.
            let warm = |_| {
                runtime
                    .spawn_with(Builder::new().on_worker(1), yield_now)
                    .unwrap()
            };
            join_all((0..2).map(warm));
            until(|| runtime.stats().live == 0);
            let ready = Arc::new(AtomicUsize::new(0));
            let go = Arc::new(Event::new());
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let (ready, go) = (ready.clone(), go.clone());
                    let wait = move || {
                        // Ends when all four have a stack.
                        if ready.fetch_add(1, SeqCst) == 3 {
                            go.set();
                        }
                        go.wait();
                    };
                    runtime
                        .spawn_with(Builder::new().on_worker(0), wait)
                        .unwrap()
                })
                .collect();
            for task in tasks {
                let end = task.join_timeout(Duration::from_secs(5));
                assert!(
                    end.is_ok(),
                    "round {round}: a stack stays unused\n{}",
                    runtime.dump()
                );
            }
        }
    });
}

/// Tasks that belong to a worker are starved by tasks of another one, and run in the end.
#[test]
fn pinned_tasks_are_starved_and_fed() {
    within("pinned_tasks_are_starved_and_fed", || {
        for _ in 0..20 {
            let runtime = runtime(2, 1);
            let (out, done) = sward_runtime::sync::unbounded();
            let first = runtime.spawn_with(Builder::new().on_worker(0), move || {
                // Queued behind the stack that this very task has.
                for i in 0..5 {
                    let out = out.clone();
                    drop(spawn(move || out.send(i).unwrap()));
                }
                let out = out.clone();
                sward_runtime::defer(move || out.send(5).unwrap());
                sleep(Duration::from_millis(1));
            });
            first.unwrap().join().unwrap();
            let mut got: Vec<i32> = done.iter().collect();
            got.sort_unstable();
            assert_eq!(got, [0, 1, 2, 3, 4, 5]);
        }
    });
}

/// While tasks wait for a stack and nothing else happens, no worker looks for work in circles.
#[test]
fn starving_uses_no_cpu() {
    if !is_child() {
        return assert_passed(&rerun("starving_uses_no_cpu", &[]));
    }
    within("starving_uses_no_cpu", || {
        let runtime = runtime(2, 2);
        let tasks: Vec<_> = (0..20)
            .map(|_| runtime.spawn(|| sleep(Duration::from_millis(1500))))
            .collect();
        until(|| runtime.stats().live == 2);
        let before = cpu();
        #[allow(clippy::disallowed_methods)] // the test measures what happens in a second
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu() - before;
        println!("{used:?} of CPU in a second");
        assert!(
            used < Duration::from_millis(50),
            "{used:?} of CPU in a second"
        );
        tasks.iter().for_each(|t| t.kill());
        join_all(tasks);
    });
}

/// What this process has used.
fn cpu() -> Duration {
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let time = |t: libc::timeval| {
        Duration::new(
            t.tv_sec.unsigned_abs(),
            u32::try_from(t.tv_usec).unwrap() * 1000,
        )
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
fn an_idle_runtime_uses_no_cpu() {
    if !is_child() {
        return assert_passed(&rerun("an_idle_runtime_uses_no_cpu", &[]));
    }
    within("an_idle_runtime_uses_no_cpu", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let parked: Vec<_> = (0..100)
            .map(|_| runtime.spawn(sward_runtime::park))
            .collect();
        let day = runtime.spawn(|| sleep(Duration::from_secs(86_400)));
        until(|| runtime.stats().live == 101);
        let before = cpu();
        #[allow(clippy::disallowed_methods)] // the test measures what happens in a second
        std::thread::sleep(Duration::from_millis(1500));
        let used = cpu() - before;
        assert!(used < Duration::from_millis(10), "{used:?} of CPU in 1.5 s");
        parked.iter().for_each(|t| t.kill());
        day.kill();
        assert_eq!(join_all(parked).len(), 100);
    });
}

#[test]
fn little_address_space() {
    if !is_child() {
        return assert_passed(&rerun("little_address_space", &[]));
    }
    within("little_address_space", || {
        let limit = libc::rlimit {
            rlim_cur: 1 << 30,
            rlim_max: 1 << 30,
        };
        assert_eq!(
            // SAFETY: a valid limit that outlives the call.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) },
            0
        );
        let begun = std::time::Instant::now();
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            let sum: usize = runtime.run(|| {
                let one = |i| {
                    spawn(move || {
                        sleep(Duration::from_millis(1));
                        i
                    })
                };
                join_all((0..200_000).map(one))
                    .into_iter()
                    .map(Result::unwrap)
                    .sum()
            });
            assert_eq!(sum, 199_999 * 100_000);
            println!("{workers} workers: {:?}", begun.elapsed());
        }
    });
}

#[test]
fn no_descriptors_for_a_runtime() {
    if !is_child() {
        return assert_passed(&rerun("no_descriptors_for_a_runtime", &[]));
    }
    within("no_descriptors_for_a_runtime", || {
        let limit = libc::rlimit {
            rlim_cur: 30,
            rlim_max: 30,
        };
        assert_eq!(
            // SAFETY: a valid limit that outlives the call.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) },
            0
        );
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let error = Runtime::builder().workers(100).build().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        assert_eq!(open(), before, "descriptors are left");
        let runtime = Runtime::builder().workers(1).build().unwrap();
        assert_eq!(runtime.run(|| spawn(|| 7).join().unwrap()), 7);
    });
}

#[test]
fn bad_numbers_are_refused() {
    within("bad_numbers_are_refused", || {
        for n in [0, 1025, 10_000, usize::MAX] {
            let error = Runtime::builder().workers(n).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(
                error.to_string().contains(&format!("{n} workers")),
                "{error}"
            );
        }
        for bytes in [0, 1, 4096, 16 * 1024 - 1, usize::MAX] {
            let builder = Runtime::builder().workers(1);
            let error = builder.clone().stack_size(bytes).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("stack"), "{error}");
            let error = builder.guard_size(bytes).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("guard"), "{error}");
        }
    });
}

/// Runtimes that come and go leave no descriptor, thread or mapping behind.
#[test]
fn runtimes_come_and_go() {
    if !is_child() {
        return assert_passed(&rerun("runtimes_come_and_go", &[]));
    }
    within("runtimes_come_and_go", || {
        let count = |what: &str| {
            std::fs::read_dir(format!("/proc/self/{what}"))
                .unwrap()
                .count()
        };
        let once = || {
            let runtime = Runtime::builder().workers(2).build().unwrap();
            runtime.run(|| join_all((0..100).map(|_| spawn(|| sleep(Duration::from_micros(10))))));
        };
        once();
        let before = count("fd");
        for _ in 0..50 {
            once();
        }
        assert_eq!(count("fd"), before, "descriptors are left");
        until(|| count("task") <= 4);
    });
}

/// Kilobytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

/// What a crowd has left behind is given back by an idle worker, all of it, in parts.
#[test]
fn the_memory_of_a_crowd_comes_back() {
    let name = "the_memory_of_a_crowd_comes_back";
    if !is_child() {
        return assert_passed(&rerun(name, &[]));
    }
    within(name, || {
        const CROWD: usize = 10_000;
        let runtime = runtime(1, CROWD + 10);
        let before = resident();
        runtime.run(|| {
            let gate = Arc::new(Event::new());
            let tasks: Vec<_> = (0..CROWD)
                .map(|_| {
                    let gate = gate.clone();
                    spawn(move || gate.wait())
                })
                .collect();
            until(|| sward_runtime::stats().live > CROWD);
            gate.set();
            join_all(tasks).into_iter().for_each(|t| t.unwrap());
        });
        let crowded = resident();
        assert!(crowded > before + CROWD * 4, "{before} {crowded}");
        // The worker is idle from here on.
        until(|| resident() < before + CROWD * 2);
    });
}
