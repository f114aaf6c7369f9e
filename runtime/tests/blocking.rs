//! Blocking jobs: they run on threads of their own, in order, as many at a time as may be; nothing
//! is lost or doubled when who waits is killed, timed out or unwinds, and their end is not silent.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dropping_copy_types
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Random, assert_passed, is_child, rerun, stderr, thread_number, until, within};
use sward_runtime::sync::Event;
use sward_runtime::{
    BlockingPool, Builder, Exit, Runtime, TimedOut, WaitKind, blocking, join_all, on_worker_stack,
    shield, sleep, spawn, spawn_blocking, stats, timeout, without_parking, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

/// A gate that jobs wait at, and how many are there.
#[derive(Clone)]
struct Gate(Arc<(Event, AtomicUsize)>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new((Event::new(), AtomicUsize::new(0))))
    }

    /// A job that waits for `open`.
    fn job(&self) -> impl FnOnce() + Send + use<> {
        let gate = self.clone();
        move || {
            gate.0.1.fetch_add(1, SeqCst);
            gate.0.0.wait();
        }
    }

    fn arrived(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    fn open(&self) {
        self.0.0.set();
    }
}

/// Sets a counter up when dropped.
struct Dropped(Arc<AtomicUsize>, i64);

impl Drop for Dropped {
    fn drop(&mut self) {
        assert_eq!(self.1, thread_number(), "dropped on another thread");
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_result_comes_back() {
    within("a_result_comes_back", || {
        everywhere(|| {
            let text = String::from("moved");
            let (back, thread) = blocking(move || (text + " back", thread_number()));
            assert_eq!(back, "moved back");
            let own = sward_runtime::current().id() == 0;
            assert_eq!(thread == thread_number(), own);
            assert_eq!(spawn_blocking(|| 7).join().unwrap(), 7);
            let name = spawn_blocking(|| std::thread::current().name().unwrap().to_owned());
            let name = name.join().unwrap();
            assert!(name.starts_with("sward-blk"), "{name}");
        });
    });
}

#[test]
fn other_tasks_run_meanwhile() {
    within("other_tasks_run_meanwhile", || {
        runtime(1).run(|| {
            let (tell, told) = mpsc::channel();
            let waits = spawn(move || blocking(move || told.recv().unwrap()));
            let task = waits.task();
            let head = "1 blocking jobs: 1 running, 0 queued, on 1 threads";
            until(|| sward_runtime::dump().to_string().contains(head));
            let dump = sward_runtime::dump();
            let shown = dump.tasks().into_iter().find(|t| t.id == task.id());
            assert_eq!(shown.unwrap().reason.kind(), WaitKind::Blocking);
            let text = dump.to_string();
            assert!(
                text.contains("parked") && text.contains("blocking job "),
                "{text}"
            );
            tell.send(5).unwrap();
            assert_eq!(waits.join().unwrap(), 5);
            until(|| stats().blocking_jobs == 0);
            assert!(!sward_runtime::dump().to_string().contains("blocking job"));
        });
    });
}

#[test]
fn a_panic_comes_back() {
    within("a_panic_comes_back", || {
        everywhere(|| {
            let caught = catch_unwind(|| blocking(|| -> u8 { panic!("in the job") }));
            assert_eq!(
                *caught.unwrap_err().downcast::<&str>().unwrap(),
                "in the job"
            );
            let failed = spawn_blocking(|| -> u8 { panic!("number {}", 2) });
            let (tell, told) = mpsc::channel();
            failed.on_exit(move |exit| tell.send(exit).unwrap());
            assert_eq!(failed.join().unwrap_err().panic_message(), Some("number 2"));
            until(|| told.try_recv() == Ok(Exit::Panicked));
            // The thread has survived it.
            assert_eq!(blocking(|| 1), 1);
        });
    });
}

/// More jobs than threads: they start in the order in which they came.
#[test]
fn first_in_first_out() {
    within("first_in_first_out", || {
        for threads in [1, 3] {
            let built = Runtime::builder()
                .workers(1)
                .blocking_threads(threads)
                .build();
            built.unwrap().run(move || {
                let gate = Gate::new();
                let held: Vec<_> = (0..threads).map(|_| spawn_blocking(gate.job())).collect();
                until(|| gate.arrived() == threads);
                let order = Arc::new(sward_runtime::sync::Mutex::new(Vec::new()));
                let jobs: Vec<_> = (0..2000)
                    .map(|i| {
                        let order = order.clone();
                        spawn_blocking(move || order.lock().push(i))
                    })
                    .collect();
                let seen = stats();
                assert_eq!(
                    (seen.blocking_jobs, seen.blocking_threads),
                    (threads + 2000, threads)
                );
                gate.open();
                for job in join_all(jobs).into_iter().chain(join_all(held)) {
                    job.unwrap();
                }
                let order = order.lock();
                assert_eq!(order.len(), 2000);
                if threads == 1 {
                    assert!(order.is_sorted(), "{order:?}");
                }
            });
        }
    });
}

/// Jobs that really block get a thread each, up to the limit.
#[test]
fn a_thread_for_each_that_blocks() {
    within("a_thread_for_each_that_blocks", || {
        let built = Runtime::builder().workers(2).blocking_threads(40).build();
        built.unwrap().run(|| {
            let gate = Gate::new();
            let jobs: Vec<_> = (0..100).map(|_| spawn_blocking(gate.job())).collect();
            until(|| gate.arrived() == 40);
            assert_eq!(stats().blocking_threads, 40);
            assert_eq!(stats().blocking_jobs, 100);
            gate.open();
            join_all(jobs).into_iter().for_each(|job| job.unwrap());
            assert_eq!(gate.arrived(), 100);
            assert_eq!(stats().blocking_threads, 40);
        });
    });
}

#[test]
fn thousands_from_everywhere() {
    within("thousands_from_everywhere", || {
        for (workers, threads) in [(1, 1), (2, 4), (2, 64)] {
            let built = Runtime::builder()
                .workers(workers)
                .blocking_threads(threads)
                .build();
            built.unwrap().run(move || {
                let done = Arc::new(AtomicUsize::new(0));
                let tasks = (0..200).map(|i| {
                    let done = done.clone();
                    spawn(move || {
                        for k in 0..50 {
                            let done = done.clone();
                            let sum = blocking(move || {
                                done.fetch_add(1, SeqCst);
                                i * k
                            });
                            assert_eq!(sum, i * k);
                        }
                    })
                });
                join_all(tasks).into_iter().for_each(|task| task.unwrap());
                assert_eq!(done.load(SeqCst), 10_000);
                assert!(stats().blocking_threads <= threads);
            });
        }
    });
}

#[test]
fn idle_threads_end() {
    within("idle_threads_end", || {
        let idle = Duration::from_millis(20);
        let built = Runtime::builder().workers(1).blocking_idle(idle).build();
        built.unwrap().run(move || {
            let gate = Gate::new();
            let jobs: Vec<_> = (0..5).map(|_| spawn_blocking(gate.job())).collect();
            until(|| gate.arrived() == 5);
            let begun = Instant::now();
            gate.open();
            join_all(jobs).into_iter().for_each(|job| job.unwrap());
            until(|| stats().blocking_threads == 0);
            assert!(begun.elapsed() >= idle, "{:?}", begun.elapsed());
            // And come again, also just when they go.
            for i in 0..60 {
                sleep(Duration::from_millis(i % 25));
                assert_eq!(blocking(move || i), i);
            }
        });
    });
}

/// `blocking` inside a job runs in place, or a pool of one would wait for itself.
#[test]
fn nested() {
    within("nested", || {
        let built = Runtime::builder().workers(1).blocking_threads(1).build();
        built.unwrap().run(|| {
            let (outer, inner) =
                blocking(|| (thread_number(), blocking(|| blocking(thread_number))));
            assert_eq!(outer, inner);
        });
        let pool = Arc::new(BlockingPool::new(1));
        let own = pool.clone();
        assert_eq!(pool.run(move || own.run(|| 3)), 3);
    });
}

/// A waiter that is killed or timed out leaves the job running, and its result is dropped there.
#[test]
fn the_waiter_goes() {
    within("the_waiter_goes", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let drops = Arc::new(AtomicUsize::new(0));
                let slow = |gate: &Gate| {
                    let (job, drops) = (gate.job(), drops.clone());
                    move || {
                        job();
                        Dropped(drops, thread_number())
                    }
                };
                let gate = Gate::new();
                let job = slow(&gate);
                let task = spawn(move || {
                    blocking(job);
                    unreachable!();
                });
                until(|| gate.arrived() == 1);
                task.kill();
                assert!(task.join().unwrap_err().is_killed());

                let limit = Duration::from_millis(5);
                let begun = Instant::now();
                let job = slow(&gate);
                assert!(matches!(timeout(limit, || blocking(job)), Err(TimedOut)));
                assert!(begun.elapsed() >= limit);

                let handle = spawn_blocking(slow(&gate));
                let handle = handle.join_timeout(limit).map(drop).unwrap_err();
                assert!(!handle.is_finished());
                drop(handle);
                until(|| gate.arrived() == 3);
                assert_eq!((drops.load(SeqCst), stats().blocking_jobs), (0, 3));
                gate.open();
                until(|| drops.load(SeqCst) == 3 && stats().blocking_jobs == 0);
                // What has its value already is not lost to a kill.
                let mine = shield(|| blocking(|| 4));
                assert_eq!(mine, 4);
            });
        }
    });
}

/// A job that nobody waits for any more does not begin; its closure is dropped all the same.
#[test]
fn killed_before_it_began() {
    within("killed_before_it_began", || {
        let built = Runtime::builder().workers(1).blocking_threads(1).build();
        built.unwrap().run(|| {
            let gate = Gate::new();
            let held = spawn_blocking(gate.job());
            until(|| gate.arrived() == 1);
            let closures = Arc::new(());
            let begun = Arc::new(AtomicUsize::new(0));
            let job = || {
                let (closure, begun) = (closures.clone(), begun.clone());
                move || {
                    drop(closure);
                    begun.fetch_add(1, SeqCst);
                }
            };
            let given = job();
            let task = spawn(move || blocking(given));
            until(|| stats().blocking_jobs == 2);
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            let handle = spawn_blocking(job());
            handle.kill();
            assert!(!handle.is_finished());
            let given = job();
            assert!(timeout(Duration::ZERO, || blocking(given)).is_err());
            gate.open();
            assert!(handle.join().unwrap_err().is_killed());
            held.join().unwrap();
            assert_eq!(blocking(|| 1), 1);
            assert_eq!((begun.load(SeqCst), Arc::strong_count(&closures)), (0, 1));
        });
    });
}

/// A kill that is pending is raised before the job is made, never after it has succeeded.
#[test]
fn a_pending_kill_comes_first() {
    within("a_pending_kill_comes_first", || {
        runtime(1).run(|| {
            let ran = Arc::new(AtomicUsize::new(0));
            let count = ran.clone();
            let task = spawn(move || {
                shield(|| sward_runtime::current().kill());
                let count = count.clone();
                blocking(move || count.fetch_add(1, SeqCst));
            });
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(ran.load(SeqCst), 0);
        });
    });
}

/// Kills, time-outs and panics at random: each job that began ends once, and each result is either
/// returned or dropped.
#[test]
fn random_ends() {
    within("random_ends", || {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        for seed in 1..6 {
            let mut random = Random::new(seed);
            let built = Runtime::builder().workers(2).blocking_threads(3).build();
            built.unwrap().run(move || {
                let (made, dropped) =
                    (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let tasks: Vec<_> = (0..300)
                    .map(|_| {
                        let (spins, limit) = (random.below(3000), random.below(400));
                        let (made, dropped) = (made.clone(), dropped.clone());
                        let job = move || {
                            (0..spins).for_each(|_| std::hint::spin_loop());
                            made.fetch_add(1, SeqCst);
                            if spins % 7 == 0 {
                                let _value = Counted(dropped);
                                std::panic::resume_unwind(Box::new("on purpose"));
                            }
                            Counted(dropped)
                        };
                        spawn(move || {
                            drop(timeout(Duration::from_micros(limit), || blocking(job)));
                        })
                    })
                    .collect();
                for task in &tasks {
                    if random.below(3) == 0 {
                        task.kill();
                    }
                    if random.below(4) == 0 {
                        yield_now();
                    }
                }
                drop(join_all(tasks));
                until(|| stats().blocking_jobs == 0);
                assert_eq!(made.load(SeqCst), dropped.load(SeqCst));
            });
        }
    });
}

/// The job has ended, then the kill comes, then the task runs: the result is not lost.
#[test]
fn a_result_before_a_kill() {
    within("a_result_before_a_kill", || {
        runtime(1).run(|| {
            let (tell, got) = mpsc::channel();
            let (open, opened) = mpsc::channel::<()>();
            let task = spawn(move || {
                tell.send(blocking(move || opened.recv().is_ok())).unwrap();
                yield_now();
                unreachable!();
            });
            until(|| stats().blocking_jobs == 1);
            open.send(()).unwrap();
            // Without giving way: the wake lies in the worker's inbox, unread.
            while stats().blocking_jobs > 0 {
                std::thread::yield_now();
            }
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(got.try_recv(), Ok(true), "the result was lost");
        });
    });
}

#[test]
fn in_a_destructor_while_unwinding() {
    within("in_a_destructor_while_unwinding", || {
        struct Late(mpsc::Sender<(i64, i64)>, Option<Arc<BlockingPool>>);
        impl Drop for Late {
            fn drop(&mut self) {
                let here = match &self.1 {
                    Some(pool) => pool.run(thread_number),
                    None => blocking(thread_number),
                };
                self.0.send((here, thread_number())).unwrap();
            }
        }
        let pool = Arc::new(BlockingPool::new(1));
        for pool in [None, Some(pool)] {
            runtime(1).run(move || {
                let (tell, told) = mpsc::channel();
                let late = Late(tell, pool);
                let task = spawn(move || {
                    let _late = late;
                    sward_runtime::park();
                });
                yield_now();
                task.kill();
                assert!(task.join().unwrap_err().is_killed());
                let (job, worker) = told.try_recv().unwrap();
                assert_eq!(job, worker, "a task that unwinds must not park");
            });
        }
    });
}

#[test]
fn where_no_task_may_park() {
    within("where_no_task_may_park", || {
        runtime(1).run(|| {
            let here = AssertUnwindSafe(|| without_parking(|| blocking(|| 1)));
            let text = *catch_unwind(here).unwrap_err().downcast::<&str>().unwrap();
            assert!(text.contains("without_parking"), "{text}");
            let here = AssertUnwindSafe(|| on_worker_stack(|| blocking(|| 1)));
            assert!(catch_unwind(here).is_err());
        });
    });
}

#[test]
fn pools_of_ones_own() {
    within("pools_of_ones_own", || {
        everywhere(|| {
            let pool = BlockingPool::named("db", 2);
            assert_eq!((pool.size(), pool.pending(), pool.threads()), (2, 0, 0));
            let gate = Gate::new();
            let jobs: Vec<_> = (0..6).map(|_| pool.spawn(gate.job())).collect();
            until(|| gate.arrived() == 2);
            assert_eq!((pool.pending(), pool.threads()), (6, 2));
            assert!(format!("{pool:?}").contains("pending: 6"));
            gate.open();
            join_all(jobs).into_iter().for_each(|job| job.unwrap());
            let name = pool.run(|| std::thread::current().name().unwrap().to_owned());
            assert!(name.starts_with("db-blk"), "{name}");
            assert_eq!(pool.map(0..500, |i| i * 2)[499], 998);
            // Dropped, it does what it has.
            let gate = Gate::new();
            let last: Vec<_> = (0..5).map(|_| pool.spawn(gate.job())).collect();
            drop(pool);
            gate.open();
            join_all(last).into_iter().for_each(|job| job.unwrap());
        });
        assert!(catch_unwind(|| BlockingPool::new(0)).is_err());
        let none = Runtime::builder().blocking_threads(0).build();
        assert!(
            none.unwrap_err()
                .to_string()
                .contains("SWARD_BLOCKING_THREADS")
        );
    });
}

#[test]
fn a_panic_in_map_drops_the_rest() {
    within("a_panic_in_map_drops_the_rest", || {
        everywhere(|| {
            let pool = BlockingPool::new(1);
            let ran = Arc::new(AtomicUsize::new(0));
            let count = ran.clone();
            let (open, opened) = mpsc::channel::<()>();
            let opened = std::sync::Mutex::new(opened);
            let each = move |i: i32| {
                count.fetch_add(1, SeqCst);
                if i == 0 {
                    panic!("the first");
                }
                let _ = opened.lock().unwrap().recv();
            };
            let mapped = catch_unwind(AssertUnwindSafe(|| pool.map(0..50, each)));
            assert_eq!(
                *mapped.unwrap_err().downcast::<&str>().unwrap(),
                "the first"
            );
            drop(open);
            until(|| pool.pending() == 0);
            assert!(ran.load(SeqCst) <= 2, "{ran:?}");
        });
    });
}

#[test]
fn the_end_of_a_runtime() {
    within("the_end_of_a_runtime", || {
        let built = Runtime::builder().workers(1).blocking_threads(1).build();
        let runtime = built.unwrap();
        let gate = Gate::new();
        let (tell, told) = mpsc::channel();
        let job = gate.job();
        let running = runtime.spawn_blocking(move || {
            job();
            tell.send(()).unwrap();
        });
        until(|| gate.arrived() == 1);
        let queued = runtime.spawn_blocking(|| unreachable!("it was never to begin"));
        let opens = std::thread::spawn(move || {
            // The end of the runtime drops what has not begun, and then waits for what has.
            let killed = queued.join().unwrap_err().is_killed();
            gate.open();
            killed
        });
        drop(runtime);
        told.try_recv().unwrap();
        running.join().unwrap();
        assert!(opens.join().unwrap());
    });
}

#[test]
fn a_job_outlives_its_runtime() {
    if is_child() {
        let built = Runtime::builder().workers(1).name("short").build();
        let runtime = built.unwrap();
        let gate = Gate::new();
        let handles: Vec<_> = (0..3).map(|_| runtime.spawn_blocking(gate.job())).collect();
        until(|| gate.arrived() == 3);
        let limit = Duration::from_millis(50);
        let begun = Instant::now();
        runtime.shutdown(limit);
        assert!(begun.elapsed() >= limit && begun.elapsed() < Duration::from_secs(20));
        gate.open();
        join_all(handles).into_iter().for_each(|job| job.unwrap());
        return;
    }
    within("a_job_outlives_its_runtime", || {
        let output = rerun("a_job_outlives_its_runtime", &[]);
        assert_passed(&output);
        let text = stderr(&output);
        assert!(
            text.contains("runtime 'short' ended, but 3 blocking jobs still run"),
            "{text}"
        );
    });
}

/// A pending job may wake somebody; when it has ended without, the deadlock is reported.
#[test]
fn the_deadlock_report_waits_for_jobs() {
    if is_child() {
        let pool = BlockingPool::new(1);
        let gate = Gate::new();
        drop(pool.spawn(gate.job()));
        let outside = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2500));
            println!("still silent");
            eprintln!("the job ends");
            gate.open();
        });
        let limit = Duration::from_secs(20);
        runtime(2).run(|| {
            Builder::new()
                .name("stuck")
                .spawn(sward_runtime::park)
                .unwrap()
                .join()
                .unwrap();
        });
        println!("{limit:?}{outside:?}");
        return;
    }
    within("the_deadlock_report_waits_for_jobs", || {
        let env = [("SWARD_DEADLOCK", "abort")];
        let output = rerun("the_deadlock_report_waits_for_jobs", &env);
        assert!(!output.status.success());
        let text = stderr(&output);
        let ends = text.find("the job ends").expect("reported too early");
        assert!(
            text[ends..].contains("deadlock?") && text.contains("stuck"),
            "{text}"
        );
        assert!(!text[..ends].contains("deadlock?"), "{text}");
    });
}

#[test]
fn in_a_forked_child() {
    if is_child() {
        let pool = BlockingPool::new(1);
        assert_eq!(pool.run(|| 1), 1);
        let runtime = runtime(1);
        assert_eq!(runtime.spawn_blocking(|| 2).join().unwrap(), 2);
        // SAFETY: the child calls little, and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let fails = |f: &dyn Fn()| {
                let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
                payload
                    .downcast_ref::<String>()
                    .is_some_and(|s| s.contains("forked child"))
            };
            let all = fails(&|| drop(pool.spawn(|| 1)))
                && fails(&|| drop(pool.run(|| 1)))
                && fails(&|| drop(runtime.spawn_blocking(|| 1)))
                && blocking(|| 3) == 3
                && pool.pending() == 0;
            drop(pool);
            // SAFETY: a number.
            unsafe { libc::_exit(if all { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: our own child, a live local.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 7);
        return;
    }
    within("in_a_forked_child", || {
        assert_passed(&rerun("in_a_forked_child", &[]));
    });
}

/// No thread for the first job: an error that says so, and nothing hangs.
#[test]
fn no_thread_to_be_had() {
    if is_child() {
        let runtime = runtime(1);
        // A thread has its name once std has what it needs for it.
        until(|| {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let name = |task: std::io::Result<std::fs::DirEntry>| {
                std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
            };
            tasks.map(name).any(|name| name.trim() == "sward-monitor")
        });
        runtime.run(|| {
            let none = libc::rlimit {
                rlim_cur: 1,
                rlim_max: 1,
            };
            // SAFETY: a live local. Root is not bound by the limit, so address space is taken too.
            unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const none) };
            let space = libc::rlimit {
                rlim_cur: 1 << 20,
                rlim_max: 1 << 20,
            };
            // SAFETY: as above.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const space) };
            let failed = catch_unwind(|| blocking(|| 1)).unwrap_err();
            let text = failed.downcast_ref::<String>().unwrap();
            assert!(text.contains("no thread for blocking jobs"), "{text}");
            assert_eq!(stats().blocking_jobs, 0);
        });
        return;
    }
    within("no_thread_to_be_had", || {
        assert_passed(&rerun("no_thread_to_be_had", &[]));
    });
}
