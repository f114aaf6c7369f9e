//! The end of a runtime: what it kills, what it waits for, what it leaks and says, and what is
//! left of it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous, unbounded};
use sward_runtime::{
    Builder, Exit, JoinHandle, Runtime, at_exit, defer, park, run, shield, sleep, spawn,
    spawn_after, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
const PATIENT: Duration = Duration::from_secs(30);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .shutdown_timeout(PATIENT)
        .build()
        .unwrap()
}

/// Counts drops.
struct Tally(Arc<AtomicUsize>);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Runs the test in a process of its own; returns what that wrote to stderr.
fn apart(name: &str, f: impl FnOnce()) -> Option<String> {
    if is_child() {
        within(name, f);
        return None;
    }
    within(name, || {
        let out = rerun(name, &[]);
        assert_passed(&out);
        Some(stderr(&out))
    })
}

#[test]
fn tasks_in_every_state_are_killed() {
    within("tasks_in_every_state_are_killed", || {
        for workers in [1, 2, 4] {
            let runtime = runtime(workers);
            let drops = Arc::new(AtomicUsize::new(0));
            let mutex = Arc::new(Mutex::new(()));
            let held = mutex.lock();
            let tally = || Tally(drops.clone());
            let mut tasks = Vec::new();
            let (t, m) = (tally(), mutex.clone());
            tasks.push(runtime.spawn(move || {
                let _t = t;
                drop(m.lock())
            }));
            let t = tally();
            tasks.push(runtime.spawn(move || {
                let _t = t;
                sleep(LONG)
            }));
            let t = tally();
            tasks.push(runtime.spawn(move || {
                let _t = t;
                sleep(Duration::MAX)
            }));
            let t = tally();
            tasks.push(runtime.spawn(move || {
                let _t = t;
                park()
            }));
            let t = tally();
            tasks.push(runtime.spawn(move || {
                let _t = t;
                loop {
                    yield_now()
                }
            }));
            let t = tally();
            tasks.push(runtime.spawn(move || {
                let _t = t;
                drop(spawn(park).join())
            }));
            let t = tally();
            tasks.push(runtime.spawn(move || {
                let _t = t;
                drop(rendezvous::<u8>().1.recv())
            }));
            until(|| runtime.stats().live >= 7);
            // Not started: behind a task that computes, and placed ones.
            let t = tally();
            let late = Builder::new().on_worker(0);
            tasks.push(
                runtime
                    .spawn_with(late, move || {
                        let _t = t;
                        sleep(LONG)
                    })
                    .unwrap(),
            );
            let n = tasks.len();
            assert_eq!(runtime.shutdown(PATIENT), 0, "{workers} workers");
            for task in tasks {
                assert!(task.is_finished());
                assert!(
                    task.join().is_err_and(|e| e.is_killed()),
                    "{workers} workers"
                );
            }
            assert_eq!(drops.load(SeqCst), n);
            drop(held);
            assert!(mutex.try_lock().is_some());
        }
    });
}

#[test]
fn a_million_of_nothing_is_quick() {
    within("a_million_of_nothing_is_quick", || {
        // Ends at once, without tasks and with many.
        let begun = Instant::now();
        drop(runtime(2));
        let full = runtime(2);
        for _ in 0..10_000 {
            drop(full.spawn(park));
        }
        drop(full);
        assert!(begun.elapsed() < PATIENT / 2);
    });
}

#[test]
fn unstarted_tasks_behind_one_that_computes() {
    within("unstarted_tasks_behind_one_that_computes", || {
        let runtime = runtime(1);
        let stop = Arc::new(AtomicBool::new(false));
        let running = Arc::new(Event::new());
        let (seen, tell) = (stop.clone(), running.clone());
        let busy = runtime.spawn(move || {
            tell.set();
            while !seen.load(SeqCst) {
                std::hint::spin_loop();
            }
            "ended by itself"
        });
        running.wait();
        let waiting: Vec<_> = (0..100).map(|_| runtime.spawn(|| sleep(LONG))).collect();
        let ender = std::thread::spawn(move || runtime.shutdown(PATIENT));
        until(|| ender.is_finished() || stop.swap(true, SeqCst));
        assert_eq!(ender.join().unwrap(), 0);
        assert_eq!(busy.join().unwrap(), "ended by itself");
        for task in waiting {
            assert!(task.join().unwrap_err().is_killed());
        }
    });
}

/// A task that never parks is leaked at the deadline, named, and does not keep the process.
#[test]
fn a_task_that_never_parks_is_leaked_and_named() {
    let text = apart("a_task_that_never_parks_is_leaked_and_named", || {
        for n in [1, 2] {
            let limit = Duration::from_millis(100);
            let runtime = Runtime::builder()
                .workers(n)
                .shutdown_timeout(limit)
                .name("stuck");
            let runtime = runtime.build().unwrap();
            let running = Arc::new(Event::new());
            let tell = running.clone();
            let spin = Builder::new().name("spinner");
            let spin = runtime.spawn_with(spin, move || {
                tell.set();
                loop {
                    std::hint::spin_loop();
                }
            });
            let spin: JoinHandle<()> = spin.unwrap();
            running.wait();
            let begun = Instant::now();
            drop(runtime);
            assert!(begun.elapsed() >= limit);
            assert!(begun.elapsed() < PATIENT, "the deadline was not kept");
            assert!(!spin.is_finished());
            assert!(spin.join_timeout(Duration::from_millis(1)).is_err());
        }
    });
    if let Some(text) = text {
        assert_eq!(
            text.matches("runtime 'stuck' ended, but not all of it")
                .count(),
            2,
            "{text}"
        );
        assert!(text.contains("stalled"), "{text}");
        assert!(text.contains("shutdown.rs"), "{text}");
    }
}

#[test]
fn tasks_that_swallow_or_mask_the_kill_are_leaked_and_named() {
    let text = apart(
        "tasks_that_swallow_or_mask_the_kill_are_leaked_and_named",
        || {
            let runtime = runtime(2);
            let spawn_as = |name: &str, f: fn()| {
                drop(runtime.spawn_with(Builder::new().name(name), f).unwrap());
            };
            spawn_as("glutton", || {
                loop {
                    let _ = catch_unwind(park);
                }
            });
            spawn_as("knight", || shield(park));
            spawn_as("sleeper", || shield(|| sleep(LONG)));
            spawn_as("innocent", park);
            until(|| runtime.stats().live == 4);
            let lost = runtime.shutdown(Duration::from_millis(100));
            assert_eq!(lost, 3);
        },
    );
    if let Some(text) = text {
        for name in ["'glutton'", "'knight'", "'sleeper'"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("innocent"), "{text}");
    }
}

/// The stack of a leaked task is not reused and its thread does not end: it may have lent them.
#[test]
fn what_a_leaked_task_has_lent_stays() {
    apart("what_a_leaked_task_has_lent_stays", || {
        static LENT: AtomicUsize = AtomicUsize::new(0);
        let short = Runtime::builder()
            .workers(1)
            .shutdown_timeout(Duration::from_millis(20));
        let short = short.build().unwrap();
        drop(short.spawn(|| {
            let mine = std::hint::black_box([0x5Au8; 64]);
            LENT.store(mine.as_ptr() as usize, SeqCst);
            shield(park);
            std::hint::black_box(&mine);
        }));
        until(|| LENT.load(SeqCst) != 0);
        drop(short);
        // Others come and go on stacks of their own.
        for _ in 0..20 {
            let other = runtime(2);
            other.run(|| {
                let tasks: Vec<_> = (0..100).map(|_| spawn(yield_now)).collect();
                sward_runtime::join_all(tasks);
            });
        }
        let lent = LENT.load(SeqCst) as *const [u8; 64];
        // SAFETY: the leaked task still has it; it is not being written.
        assert_eq!(unsafe { lent.read_volatile() }, [0x5A; 64]);
    });
}

#[test]
fn tasks_that_spawn_while_it_ends() {
    struct Spawns(usize, Arc<AtomicUsize>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            if self.0 > 0 {
                let next = Self(self.0 - 1, self.1.clone());
                defer(move || drop(next));
            }
        }
    }
    within("tasks_that_spawn_while_it_ends", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let count = Arc::new(AtomicUsize::new(0));
            for _ in 0..10 {
                let spawns = Spawns(5, count.clone());
                drop(runtime.spawn(move || {
                    let _spawns = spawns;
                    park();
                }));
            }
            until(|| runtime.stats().live == 10);
            assert_eq!(runtime.shutdown(PATIENT), 0);
            // Killed before their first run, but their closures are dropped all the same.
            assert_eq!(count.load(SeqCst), 60);
        }
    });
}

/// A task under a shield that finishes its work by spawning on every worker, while those end.
#[test]
fn work_handed_to_other_workers_while_it_ends() {
    within("work_handed_to_other_workers_while_it_ends", || {
        for _ in 0..50 {
            let runtime = runtime(2);
            let ready = Arc::new(Event::new());
            let tell = ready.clone();
            let worker = Builder::new().on_worker(0);
            let task = runtime.spawn_with(worker, move || {
                shield(|| {
                    tell.set();
                    for _ in 0..20 {
                        let other = Builder::new().on_worker(1).spawn(|| ()).unwrap();
                        // It runs, or is killed; lost it must not be.
                        if other.join().is_err_and(|e| !e.is_killed()) {
                            return false;
                        }
                    }
                    true
                })
            });
            ready.wait();
            assert_eq!(runtime.shutdown(PATIENT), 0);
            assert!(task.unwrap().join().unwrap());
        }
    });
}

/// A worker that has been told to end takes over tasks of one that has not: they are killed, too.
#[test]
fn taken_over_while_it_ends() {
    within("taken_over_while_it_ends", || {
        for _ in 0..50 {
            let runtime = runtime(2);
            let go = Arc::new(AtomicBool::new(false));
            let running = Arc::new(Event::new());
            let (seen, tell) = (go.clone(), running.clone());
            drop(runtime.spawn(move || {
                for _ in 0..200 {
                    drop(spawn(|| sleep(LONG)));
                }
                tell.set();
                while !seen.load(SeqCst) {
                    std::hint::spin_loop();
                }
            }));
            running.wait();
            let ender = std::thread::spawn(move || runtime.shutdown(PATIENT));
            for _ in 0..20 {
                yield_now();
            }
            go.store(true, SeqCst);
            assert_eq!(ender.join().unwrap(), 0);
        }
    });
}

#[test]
fn handles_outlive_it() {
    within("handles_outlive_it", || {
        let runtime = runtime(2);
        let (keep, parked) = (runtime.spawn(|| 1), runtime.spawn(park));
        let sleeping = runtime.spawn(|| sleep(LONG));
        let unjoined = runtime.spawn(|| Box::new(7));
        until(|| keep.is_finished() && unjoined.is_finished() && runtime.stats().live == 2);
        let (who, other) = (parked.task(), sleeping.task());
        let told = Arc::new(AtomicUsize::new(0));
        let hears = told.clone();
        drop(runtime);
        who.unpark();
        who.kill();
        other.unpark();
        other.kill();
        assert_eq!(keep.join().unwrap(), 1);
        assert!(parked.is_finished());
        // Told of the end after the runtime: on the default runtime.
        parked.on_exit(move |exit| {
            assert_eq!(exit, Exit::Killed);
            hears.fetch_add(1, SeqCst);
        });
        until(|| told.load(SeqCst) == 1);
        assert!(parked.join().unwrap_err().is_killed());
        assert!(
            sleeping
                .join_timeout(Duration::ZERO)
                .unwrap()
                .unwrap_err()
                .is_killed()
        );
        drop(unjoined);
        assert!(who.id() > 0 && who.spawned_at().is_some());
        // Its worker's number may belong to another runtime now.
        let next = self::runtime(2);
        until(|| next.run(|| true));
        who.kill();
        other.unpark();
        assert_eq!(next.run(|| spawn(|| 3).join().unwrap()), 3);
    });
}

#[test]
fn joiners_elsewhere_hear_of_it() {
    within("joiners_elsewhere_hear_of_it", || {
        let (ending, staying) = (runtime(2), runtime(1));
        let task = ending.spawn(park);
        let other = ending.spawn(|| sleep(LONG));
        until(|| ending.stats().live == 2);
        let joins = staying.spawn(move || task.join().unwrap_err().is_killed());
        let blocks = std::thread::spawn(move || other.join().unwrap_err().is_killed());
        until(|| staying.stats().live == 1);
        drop(ending);
        assert!(joins.join().unwrap());
        assert!(blocks.join().unwrap());
    });
}

#[test]
fn channel_ends_outlive_it() {
    within("channel_ends_outlive_it", || {
        let runtime = runtime(2);
        let (sender, receiver) = bounded(1);
        let (back, answers) = unbounded();
        let (keeps_sender, keeps_receiver) = (sender.clone(), answers.clone());
        drop(runtime.spawn(move || {
            while let Ok(i) = receiver.recv() {
                let i: i32 = i;
                back.send(i + 1).unwrap();
            }
        }));
        drop(runtime.spawn(move || {
            let _ends = (keeps_sender, keeps_receiver);
            park();
        }));
        sender.send(1).unwrap();
        assert_eq!(answers.recv(), Ok(2));
        drop(runtime);
        // The tasks' ends are gone.
        assert!(sender.is_disconnected());
        assert!(sender.send(2).is_err());
        assert!(answers.recv().is_err());
    });
}

#[test]
fn run_returns_values_and_panics_and_ends() {
    within("run_returns_values_and_panics_and_ends", || {
        let mut borrowed = vec![1];
        let len = run(|| {
            borrowed.push(2);
            borrowed.len()
        });
        assert_eq!((len, borrowed.len()), (2, 2));
        let caught = catch_unwind(|| run(|| panic!("through")));
        let _: &Result<(), _> = &caught;
        assert_eq!(
            *caught.unwrap_err().downcast_ref::<&str>().unwrap(),
            "through"
        );
        let caught = catch_unwind(|| run(|| sward_runtime::current().kill()));
        assert!(caught.is_err());
        // What it spawned and did not join ends with it.
        let left = run(|| {
            let task = spawn(park);
            yield_now();
            task
        });
        assert!(left.join().unwrap_err().is_killed());
    });
}

#[test]
fn run_inside_a_task_panics() {
    within("run_inside_a_task_panics", || {
        let runtime = runtime(1);
        let text = runtime.run(|| {
            let caught = catch_unwind(|| run(|| 1)).unwrap_err();
            (*caught.downcast_ref::<&str>().unwrap()).to_owned()
        });
        assert!(text.contains("inside a task"), "{text}");
        assert_eq!(runtime.run(|| 2), 2);
    });
}

#[test]
fn nested_runtimes() {
    within("nested_runtimes", || {
        let outer = runtime(1);
        let sum = outer.run(|| {
            let inner = runtime(1);
            let task = inner.spawn(|| {
                let innermost = runtime(1);
                let task = innermost.spawn(|| 3);
                task.join().unwrap() + 1
            });
            let sum = task.join().unwrap() + 1;
            let left = inner.spawn(park);
            drop(inner);
            assert!(left.join().unwrap_err().is_killed());
            sum
        });
        assert_eq!(sum, 5);
    });
}

#[test]
fn dropped_inside_its_own_task() {
    within("dropped_inside_its_own_task", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (sender, receiver) = rendezvous::<Runtime>();
            let (tell, told) = unbounded();
            let task = runtime.spawn(move || {
                let mine = receiver.recv().unwrap();
                drop(mine);
                // The end comes in the background: this task is killed at some park.
                tell.send("dropped").unwrap();
                loop {
                    yield_now();
                }
            });
            let other = runtime.spawn(park);
            sender.send(runtime).unwrap();
            assert_eq!(told.recv(), Ok("dropped"));
            let end: Result<(), _> = task.join();
            assert!(end.unwrap_err().is_killed());
            assert!(other.join().unwrap_err().is_killed());
        }
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

#[test]
fn a_hundred_in_a_row_leave_nothing_behind() {
    apart("a_hundred_in_a_row_leave_nothing_behind", || {
        let once = || {
            let runtime = runtime(3);
            runtime.run(|| {
                let tasks: Vec<_> = (0..50).map(|_| spawn(yield_now)).collect();
                sward_runtime::join_all(tasks);
                drop(spawn(park));
                drop(spawn(|| sleep(LONG)));
            });
        };
        // The stall monitor comes with the first runtime and stays with the process. A thread that has
        // told its end may still be on its way out.
        let before = threads() + 1;
        let settled = || until(|| threads() <= before);
        for _ in 0..5 {
            once();
        }
        settled();
        let (fds, maps) = (descriptors(), mappings());
        for _ in 0..100 {
            once();
        }
        settled();
        assert_eq!(descriptors(), fds);
        // The allocator may have mapped more arenas, two mappings each and more of them on a loaded
        // machine; one for each runtime would be a hundred.
        assert!(
            mappings() <= maps + 60,
            "{maps} mappings have become {}",
            mappings()
        );
    });
}

// ---- the end of the process -------------------------------------------------------------------

#[test]
fn main_returns_while_tasks_are_alive() {
    const ROLE: &str = "SWARD_TEST_ROLE";
    let name = "main_returns_while_tasks_are_alive";
    match std::env::var(ROLE).as_deref() {
        Ok("parked") => {
            drop(spawn(park));
            drop(spawn(|| sleep(LONG)));
            return;
        }
        Ok("busy") => {
            let running = Arc::new(Event::new());
            let tell = running.clone();
            drop(spawn(move || {
                tell.set();
                loop {
                    yield_now();
                }
            }));
            drop(spawn(|| {
                loop {
                    std::hint::spin_loop()
                }
            }));
            running.wait();
            return;
        }
        Ok("churn") => {
            drop(spawn(|| {
                loop {
                    drop(spawn(|| sleep(Duration::from_micros(10))));
                    yield_now();
                }
            }));
            sleep(Duration::from_millis(5));
            return;
        }
        Ok(_) | Err(_) => {}
    }
    within(name, || {
        for role in ["parked", "busy", "churn"] {
            let begun = Instant::now();
            let out = rerun(name, &[(ROLE, role)]);
            assert_passed(&out);
            assert!(
                !stderr(&out).contains("panicked"),
                "{role}: {}",
                stderr(&out)
            );
            assert!(begun.elapsed() < Duration::from_secs(20), "{role}");
        }
    });
}

#[test]
fn at_exit_in_the_reverse_order_and_past_panics() {
    let name = "at_exit_in_the_reverse_order_and_past_panics";
    if is_child() {
        let say = |text: &'static str| {
            // SAFETY: a pointer and a length of a static text.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        };
        at_exit(move || say("[first]"));
        at_exit(|| std::panic::panic_any(5));
        at_exit(move || {
            say("[second]");
            at_exit(move || say("[added]"));
        });
        let task = spawn(move || at_exit(move || say("[from a task]")));
        task.join().unwrap();
        return;
    }
    within(name, || {
        let out = rerun(name, &[]);
        assert_passed(&out);
        let text = stderr(&out);
        let places = ["[from a task]", "[second]", "[added]", "[first]"].map(|t| text.find(t));
        assert!(places.iter().all(Option::is_some), "{text}");
        assert!(places.is_sorted(), "{text}");
    });
}

#[test]
fn a_panic_that_crosses_a_runtimes_end() {
    within("a_panic_that_crosses_a_runtimes_end", || {
        // The runtime is dropped while the thread unwinds.
        let task = AssertUnwindSafe(Mutex::new(None));
        let caught = catch_unwind(|| {
            let runtime = runtime(2);
            *task.lock() = Some(runtime.spawn(park));
            until(|| runtime.stats().live == 1);
            panic!("on the way");
        });
        assert!(caught.is_err());
        let task = task.lock().take().unwrap();
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn delayed_tasks_do_not_delay_it() {
    within("delayed_tasks_do_not_delay_it", || {
        let runtime = runtime(1);
        let task = runtime.run(|| {
            let task = spawn_after(LONG, || ());
            yield_now();
            task
        });
        assert_eq!(runtime.shutdown(PATIENT), 0);
        assert!(task.join().unwrap_err().is_killed());
    });
}

/// What could not start any more is told to whoever waits for it: behind a task that never parks,
/// and behind one that swallows kills.
#[test]
fn tasks_behind_one_that_will_not_end() {
    within("tasks_behind_one_that_will_not_end", || {
        let go_on = Arc::new(AtomicBool::new(true));
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let spinning = go_on.clone();
        let hog = runtime.spawn(move || {
            tell.send(()).unwrap();
            while spinning.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        told.recv().unwrap();
        // Each passes the injector of a worker that does not look at it any more.
        let behind: Vec<_> = (0..3).map(|_| runtime.spawn(|| unreachable!())).collect();
        assert!(runtime.shutdown(Duration::from_millis(50)) > 0);
        for task in behind {
            assert!(task.join().unwrap_err().is_killed());
        }
        go_on.store(false, SeqCst);
        hog.join().unwrap();
    });
}
