//! Backtraces of tasks that are parked, ready or running, and that taking them changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{Random, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous};
use sward_runtime::{
    Builder, DumpOptions, DumpedTask, JoinHandle, Runtime, TaskState, join_all, on_switch, park,
    sleep, spawn, timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn traced() -> DumpOptions {
    DumpOptions::new().backtraces(true).every_task(true)
}

fn find(runtime: &Runtime, id: u64) -> Option<DumpedTask> {
    let tasks = runtime.dump_with(traced()).tasks();
    tasks.into_iter().find(|t| t.id == id)
}

/// Waits until the task is parked, and returns the frames of its backtrace: a function has its crate
/// in its name or, with line tables only, not.
fn frames<T>(runtime: &Runtime, task: &JoinHandle<T>) -> Vec<String> {
    loop {
        if let Some(found) = find(runtime, task.id())
            && found.state == TaskState::Parked
        {
            let frames = found.backtrace.unwrap().frames();
            return frames.iter().map(ToString::to_string).collect();
        }
    }
}

macro_rules! marked {
    ($($name:ident)*) => {$(
        #[inline(never)]
        fn $name<T>(f: impl FnOnce() -> T) -> T {
            let result = f();
            black_box(stringify!($name));
            result
        }
    )*};
}
marked!(in_sleep in_park in_event in_mutex in_send in_recv in_rendezvous in_join in_timeout);

#[test]
fn the_users_frame_comes_first_in_every_wait() {
    within("the_users_frame_comes_first_in_every_wait", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let event = Arc::new(Event::new());
            let lock = Arc::new(Mutex::new(()));
            let (full, reads) = bounded::<u8>(1);
            full.send(0).unwrap();
            let (_quiet, empty) = bounded::<u8>(1);
            let (meets, _nobody) = rendezvous::<u8>();
            let held = lock.lock();
            let (waits, wants) = (event.clone(), lock.clone());
            let other = runtime.spawn(park);
            let (other_task, other_handle) = (other.task(), other);
            let cases: Vec<(&str, Box<dyn FnOnce() + Send>)> = vec![
                ("in_sleep", Box::new(|| in_sleep(|| sleep(LONG)))),
                ("in_park", Box::new(|| in_park(park))),
                ("in_event", Box::new(move || in_event(|| waits.wait()))),
                (
                    "in_mutex",
                    Box::new(move || in_mutex(|| drop(wants.lock()))),
                ),
                (
                    "in_send",
                    Box::new(move || in_send(|| full.send(1)).unwrap()),
                ),
                ("in_recv", Box::new(move || drop(in_recv(|| empty.recv())))),
                (
                    "in_rendezvous",
                    Box::new(move || drop(in_rendezvous(|| meets.send(1)))),
                ),
                (
                    "in_join",
                    Box::new(move || drop(in_join(|| other_handle.join()))),
                ),
                (
                    "in_timeout",
                    Box::new(|| in_timeout(|| drop(timeout(LONG, park)))),
                ),
            ];
            let tasks: Vec<_> = cases
                .into_iter()
                .map(|(name, f)| (name, runtime.spawn(f)))
                .collect();
            for (name, task) in &tasks {
                let found = frames(&runtime, task);
                let at = found.iter().position(|f| f.contains(name));
                let user = |f: &String| f.contains("tests/backtrace.rs");
                assert!(at.is_some(), "{name}: {found:?}");
                assert!(
                    user(&found[0]) && user(found.last().unwrap()),
                    "{name}: {found:?}"
                );
                assert!(
                    found.iter().all(|f| !f.contains("hub")),
                    "{name}: {found:?}"
                );
            }
            // They all go on as if nothing had been.
            drop(held);
            event.set();
            other_task.kill();
            assert_eq!(reads.recv(), Ok(0));
            assert_eq!(reads.recv(), Ok(1));
            for (name, task) in tasks {
                if [
                    "in_sleep",
                    "in_park",
                    "in_recv",
                    "in_rendezvous",
                    "in_timeout",
                ]
                .contains(&name)
                {
                    task.kill();
                }
                let killed = task.join().is_err();
                assert_eq!(
                    killed,
                    name != "in_event"
                        && name != "in_mutex"
                        && name != "in_send"
                        && name != "in_join",
                    "{name}"
                );
            }
        }
    });
}

/// Tasks with nothing of the user's on their stacks have the function of ours that they are in.
#[test]
fn a_bare_park_is_named() {
    within("a_bare_park_is_named", || {
        let runtime = runtime(1);
        let task = runtime.spawn(park);
        let found = frames(&runtime, &task);
        assert!(found.len() == 1 && found[0].contains("park"), "{found:?}");
        task.kill();
    });
}

#[inline(never)]
fn goes_round(stop: &AtomicBool, turns: &AtomicUsize) {
    while !stop.load(SeqCst) {
        yield_now();
        turns.fetch_add(1, SeqCst);
    }
}

#[test]
fn tasks_that_wait_for_their_turn_are_asked_too() {
    within("tasks_that_wait_for_their_turn_are_asked_too", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let stop = Arc::new(AtomicBool::new(false));
            let turns = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let (stop, turns) = (stop.clone(), turns.clone());
                    runtime.spawn(move || goes_round(&stop, &turns))
                })
                .collect();
            until(|| turns.load(SeqCst) > 1000);
            let mut asked = 0;
            for _ in 0..20 {
                for task in runtime.dump_with(traced()).tasks() {
                    let Some(trace) = task.backtrace else {
                        continue;
                    };
                    assert_eq!(task.state, TaskState::Ready);
                    asked += 1;
                    if asked % 100 == 1 {
                        let frames = trace.frames();
                        assert!(frames[0].function.contains("goes_round"), "{trace}");
                        let (file, line) = frames[0].location.as_ref().unwrap();
                        assert!(file.ends_with("tests/backtrace.rs") && *line > 1);
                    }
                }
                let before = turns.load(SeqCst);
                until(|| turns.load(SeqCst) > before + 100);
            }
            assert!(asked > 500, "{asked}");
            stop.store(true, SeqCst);
            assert!(join_all(tasks).into_iter().all(|r| r.is_ok()));
        }
    });
}

/// The one who asks is shown where it asks, from wherever it does.
#[test]
fn the_asker_is_in_it() {
    #[inline(never)]
    fn asks() -> DumpedTask {
        let me = sward_runtime::current().id();
        let dump = sward_runtime::dump_with(traced());
        dump.tasks().into_iter().find(|t| t.id == me).unwrap()
    }
    within("the_asker_is_in_it", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let others: Vec<_> = (0..20).map(|_| spawn(|| in_park(park))).collect();
                sleep(Duration::from_millis(1));
                let plain = asks();
                let lent = sward_runtime::on_worker_stack(asks);
                let strict = sward_runtime::without_parking(asks);
                for found in [plain, lent, strict] {
                    let trace = found.backtrace.unwrap().to_string();
                    assert!(
                        trace.contains("asks") && trace.contains("backtrace.rs"),
                        "{trace}"
                    );
                }
                others.iter().for_each(JoinHandle::kill);
                join_all(others);
            });
        }
    });
}

#[test]
fn nothing_is_disturbed() {
    within("nothing_is_disturbed", || {
        let runtime = runtime(1);
        let switches = Arc::new(AtomicUsize::new(0));
        let (counts, ready) = (switches.clone(), Arc::new(Event::new()));
        let parked = ready.clone();
        let hooked = runtime.spawn(move || {
            let (counts2, here) = (counts.clone(), Rc::new(Cell::new(0)));
            let inside = here.clone();
            on_switch(
                move || drop(counts.fetch_add(1, SeqCst)),
                move || {
                    counts2.fetch_add(1, SeqCst);
                    inside.set(inside.get() + 1);
                },
            );
            parked.set();
            park();
            // Once out and once in, however often it was asked meanwhile.
            assert_eq!(here.get(), 1);
        });
        ready.wait();
        until(|| find(&runtime, hooked.id()).is_some_and(|t| t.state == TaskState::Parked));
        let begun = Instant::now();
        let nap = Duration::from_millis(30);
        let sleeper = runtime.spawn(move || sleep(nap));
        let timed = runtime.spawn(move || timeout(nap, park).is_err());
        for _ in 0..200 {
            let found = find(&runtime, hooked.id()).unwrap();
            assert_eq!((found.state, switches.load(SeqCst)), (TaskState::Parked, 1));
        }
        sleeper.join().unwrap();
        assert!(begun.elapsed() >= nap);
        assert!(timed.join().unwrap());
        hooked.task().unpark();
        hooked.join().unwrap();
    });
}

/// Channels, locks, kills and time-outs while every task is asked again and again.
#[test]
fn a_storm_of_questions() {
    within("a_storm_of_questions", || {
        let mut random = Random::new(u64::from(std::process::id()));
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let stop = AtomicBool::new(false);
            std::thread::scope(|s| {
                s.spawn(|| {
                    while !stop.load(SeqCst) {
                        let dump = runtime.dump_with(traced());
                        for task in dump.tasks() {
                            let has = task.backtrace.is_some();
                            assert_eq!(has, task.state != TaskState::Unstarted, "{task:?}");
                        }
                    }
                });
                for round in 0..15 {
                    let (sender, receiver) = bounded(1 + random.below(4) as usize);
                    let sum = Arc::new(Mutex::new(0_u64));
                    let senders: Vec<_> = (0..10_u64)
                        .map(|i| {
                            let sender = sender.clone();
                            let sum = sum.clone();
                            runtime.spawn(move || {
                                for j in 0..50 {
                                    sender.send(i * 50 + j).unwrap();
                                    *sum.lock() += 1;
                                    if j % 10 == 0 {
                                        let _ = timeout(Duration::from_micros(50), park);
                                    }
                                }
                            })
                        })
                        .collect();
                    drop(sender);
                    let victims: Vec<_> = (0..10).map(|_| runtime.spawn(|| sleep(LONG))).collect();
                    let mut got: Vec<u64> = receiver.iter().collect();
                    got.sort_unstable();
                    assert_eq!(got, (0..500).collect::<Vec<_>>(), "round {round}");
                    assert!(join_all(senders).into_iter().all(|r| r.is_ok()));
                    assert_eq!(*sum.lock(), 500);
                    victims.iter().for_each(JoinHandle::kill);
                    assert!(join_all(victims).into_iter().all(|r| r.is_err()));
                }
                stop.store(true, SeqCst);
            });
        }
    });
}

/// Asking takes nothing of a small stack, and no memory that stays.
#[test]
fn small_stacks_are_asked_without_growing() {
    within("small_stacks_are_asked_without_growing", || {
        let runtime = runtime(1);
        let small = || Builder::new().stack_size(16 * 1024);
        let tasks: Vec<_> = (0..200)
            .map(|_| runtime.spawn_with(small(), || in_park(park)).unwrap())
            .collect();
        until(|| runtime.stats().switches >= 200);
        let deepest = |runtime: &Runtime| runtime.run(sward_runtime::stack_census).resident;
        let before = deepest(&runtime);
        for task in runtime.dump_with(traced()).tasks() {
            assert!(task.backtrace.is_some());
        }
        let grown = deepest(&runtime).saturating_sub(before);
        assert!(grown < 200 * 2048, "{grown} bytes more for 200 tasks");
        tasks.iter().for_each(JoinHandle::kill);
        join_all(tasks);
    });
}

// ---- running tasks ------------------------------------------------------------------------------

#[inline(never)]
fn spins(stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        std::hint::spin_loop();
    }
}

#[test]
fn a_running_task_is_sampled() {
    within("a_running_task_is_sampled", || {
        let runtime = Runtime::builder()
            .workers(2)
            .sampling(true)
            .stall_threshold(Duration::MAX)
            .build()
            .unwrap();
        for lent in [false, true] {
            let (begun, stop) = (Arc::new(Event::new()), Arc::new(AtomicBool::new(false)));
            let (tell, until_told) = (begun.clone(), stop.clone());
            let hog = runtime.spawn_with(Builder::new().on_worker(1), move || {
                tell.set();
                if lent {
                    sward_runtime::on_worker_stack(|| spins(&until_told));
                } else {
                    spins(&until_told);
                }
            });
            begun.wait();
            let text = runtime.dump_with(traced()).to_string();
            let at = |what: &str| {
                text.find(what)
                    .unwrap_or_else(|| panic!("no {what} in {text}"))
            };
            assert!(at("worker 1 stalled") < at("spins"), "{text}");
            assert!(text.contains("tests/backtrace.rs"), "{text}");
            // Without backtraces nobody is interrupted.
            assert!(!runtime.dump().to_string().contains("spins"));
            stop.store(true, SeqCst);
            hog.unwrap().join().unwrap();
        }
    });
}

/// Without leave there is no signal, and the dump says what it can.
#[test]
fn no_sample_without_leave() {
    within("no_sample_without_leave", || {
        let runtime = runtime(1);
        let (begun, stop) = (Arc::new(Event::new()), Arc::new(AtomicBool::new(false)));
        let (tell, until_told) = (begun.clone(), stop.clone());
        let hog = runtime.spawn(move || {
            tell.set();
            spins(&until_told);
        });
        begun.wait();
        let text = runtime.dump_with(traced()).to_string();
        assert!(
            text.contains("worker 0 stalled") && !text.contains("spins"),
            "{text}"
        );
        stop.store(true, SeqCst);
        hog.join().unwrap();
    });
}
