//! Code that runs at switches, code that must not park, shields, and thread-locals.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{thread_number, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous, unbounded};
use sward_runtime::{
    Runtime, current, on_switch, on_worker_stack, park_timeout, shield, sleep, spawn, timeout,
    without_parking, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn message(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().unwrap()).to_owned(),
    }
}

/// A task's own value in a thread-local, carried by its hooks.
#[test]
fn hooks_carry_a_thread_local() {
    thread_local!(static MINE: Cell<u32> = const { Cell::new(0) });
    within("hooks_carry_a_thread_local", || {
        runtime(1).run(|| {
            let task = |id: u32| {
                spawn(move || {
                    let kept = Rc::new(Cell::new(id));
                    let (out, back) = (kept.clone(), kept);
                    MINE.set(id);
                    on_switch(
                        move || out.set(MINE.replace(0)),
                        move || MINE.set(back.get()),
                    );
                    for turn in 0..200_u64 {
                        match turn % 3 {
                            0 => yield_now(),
                            1 => sleep(Duration::from_micros(turn)),
                            _ => drop(park_timeout(Duration::from_micros(1))),
                        }
                        assert_eq!(MINE.get(), id);
                    }
                    MINE.set(0);
                })
            };
            let tasks: Vec<_> = (1..20).map(task).collect();
            let bare = spawn(|| {
                for _ in 0..1000 {
                    assert_eq!(MINE.get(), 0, "a hook's value was left behind");
                    yield_now();
                }
            });
            tasks.into_iter().for_each(|t| t.join().unwrap());
            bare.join().unwrap();
        });
    });
}

/// Out and in alternate, once for each switch; the hooks go with the task.
#[test]
fn hooks_come_in_pairs() {
    within("hooks_come_in_pairs", || {
        runtime(1).run(|| {
            let alive = Arc::new(());
            let inside = alive.clone();
            let task = spawn(move || {
                let log = Rc::new(RefCell::new(Vec::new()));
                let (out, back) = (log.clone(), log.clone());
                on_switch(
                    move || {
                        let _alive = &inside;
                        out.borrow_mut().push('o');
                    },
                    move || back.borrow_mut().push('i'),
                );
                (0..3).for_each(|_| yield_now());
                sleep(Duration::from_micros(10));
                without_parking(|| ());
                assert_eq!(log.borrow().iter().collect::<String>(), "oioioioi");
                // A second call replaces the first.
                let second = Rc::new(Cell::new(0));
                let counts = second.clone();
                on_switch(|| (), move || counts.set(counts.get() + 1));
                yield_now();
                assert_eq!((log.borrow().len(), second.get()), (8, 1));
            });
            task.join().unwrap();
            assert_eq!(Arc::strong_count(&alive), 1, "the hooks are left");
        });
        // On an ordinary thread it does nothing.
        on_switch(|| panic!("called"), || panic!("called"));
        yield_now();
    });
}

/// Hooks that break the rules harm nobody: those that park, panic, or set others.
#[test]
fn bad_hooks() {
    within("bad_hooks", || {
        runtime(1).run(|| {
            let silent = || std::panic::resume_unwind(Box::new(()));
            let hooks: [(fn(), fn()); 5] = [
                (|| sleep(Duration::from_micros(1)), || ()),
                (|| (), || sleep(Duration::from_micros(1))),
                (silent, || ()),
                (|| (), silent),
                (|| on_switch(|| (), || ()), || on_switch(|| (), || ())),
            ];
            for (out, back) in hooks {
                let (sender, receiver) = rendezvous();
                let task = spawn(move || {
                    on_switch(out, back);
                    let first = receiver.recv();
                    let _ = park_timeout(Duration::from_micros(50));
                    (first, receiver.recv_timeout(Duration::from_secs(3600)))
                });
                yield_now();
                sender.send(1).unwrap();
                sender.send(2).unwrap();
                assert_eq!(task.join().unwrap(), (Ok(1), Ok(2)));
            }
        });
    });
}

#[test]
fn a_park_without_parking_panics() {
    within("a_park_without_parking_panics", || {
        runtime(1).run(|| {
            let event = Event::new();
            let (sender, receiver) = bounded(1);
            let waits: [(&str, Box<dyn Fn() + '_>); 7] = [
                ("sleep", Box::new(|| sleep(Duration::from_micros(1)))),
                (
                    "park",
                    Box::new(|| drop(park_timeout(Duration::from_micros(1)))),
                ),
                ("event", Box::new(|| event.wait())),
                ("recv", Box::new(|| drop(receiver.recv()))),
                (
                    "recv_timeout",
                    Box::new(|| drop(receiver.recv_timeout(Duration::ZERO))),
                ),
                ("join", Box::new(|| drop(spawn(|| ()).join()))),
                (
                    "nested",
                    Box::new(|| without_parking(|| sleep(Duration::from_micros(1)))),
                ),
            ];
            for (name, wait) in &waits {
                let text = message(|| without_parking(wait));
                assert!(text.contains("without_parking"), "{name}: {text}");
                let text = message(|| on_worker_stack(wait));
                assert!(
                    text.contains("on_worker_stack") || *name == "nested",
                    "{name}: {text}"
                );
            }
            // What needs no waiting works, and after a panic the rule is over.
            let ran = without_parking(|| {
                yield_now();
                event.set();
                event.wait();
                sender.try_send(1).unwrap();
                assert_eq!(receiver.recv(), Ok(1));
                let free = Mutex::new(1);
                (0..10_000).for_each(|_| *free.lock() += 1);
                let (many, _keep) = unbounded();
                (0..10_000).for_each(|i| many.send(i).unwrap());
                spawn(|| 5)
            });
            assert_eq!(ran.join().unwrap(), 5);
            sleep(Duration::from_micros(1));
        });
        without_parking(|| sleep(Duration::from_micros(1)));
        on_worker_stack(|| sleep(Duration::from_micros(1)));
    });
}

/// Another task of the worker never runs inside `without_parking`.
#[test]
fn nobody_runs_between() {
    within("nobody_runs_between", || {
        runtime(1).run(|| {
            let turns = Rc::new(Cell::new(0));
            let counts = turns.clone();
            let other = sward_runtime::spawn_local(move || {
                loop {
                    counts.set(counts.get() + 1);
                    yield_now();
                }
            });
            yield_now();
            without_parking(|| {
                let before = turns.get();
                let (sender, receiver) = unbounded();
                for i in 0..5_000 {
                    sender.send(i).unwrap();
                    receiver.recv().unwrap();
                    yield_now();
                }
                assert_eq!(turns.get(), before);
            });
            let before = turns.get();
            yield_now();
            assert!(turns.get() > before);
            other.kill();
        });
    });
}

#[test]
fn on_the_workers_stack() {
    within("on_the_workers_stack", || {
        runtime(2).run(|| {
            let here = thread_number();
            let me = current().id();
            let sum = on_worker_stack(|| {
                let big = std::hint::black_box([1_u8; 600 << 10]);
                assert_eq!((thread_number(), current().id()), (here, me));
                on_worker_stack(|| big.iter().map(|&b| u64::from(b)).sum::<u64>())
            });
            assert_eq!(sum, 600 << 10);
            let payload =
                catch_unwind(|| on_worker_stack(|| std::panic::resume_unwind(Box::new(7_u8))));
            assert_eq!(payload.map(|()| 0).unwrap_err().downcast_ref(), Some(&7_u8));
            // It is over then, and also when a panic was caught inside.
            on_worker_stack(|| drop(catch_unwind(|| std::panic::resume_unwind(Box::new(())))));
            yield_now();
            let inner = on_worker_stack(|| spawn(|| on_worker_stack(|| 5)));
            assert_eq!(inner.join().unwrap(), 5);
            // Tasks of one worker after the other.
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    spawn(move || {
                        let value = on_worker_stack(move || i * 2);
                        yield_now();
                        value
                    })
                })
                .collect();
            assert!(
                tasks
                    .into_iter()
                    .map(|t| t.join().unwrap())
                    .eq((0..100).map(|i| i * 2))
            );
        });
    });
}

#[test]
fn shields_hold_kills_and_timeouts_back() {
    within("shields_hold_kills_and_timeouts_back", || {
        runtime(1).run(|| {
            let reached = Rc::new(Cell::new(0));
            let seen = reached.clone();
            let task = sward_runtime::spawn_local(move || {
                shield(|| {
                    current().kill();
                    shield(yield_now);
                    sleep(Duration::from_micros(10));
                    seen.set(1);
                });
                seen.set(2);
                yield_now();
                seen.set(3);
            });
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(reached.get(), 2);
            let end = timeout(Duration::from_millis(1), || {
                shield(|| sleep(Duration::from_millis(5)));
                reached.set(4);
                sleep(Duration::from_secs(3600));
            });
            assert_eq!((end.is_err(), reached.get()), (true, 4));
            // A time-out of its own works inside.
            let end = shield(|| {
                timeout(Duration::from_millis(1), || {
                    sleep(Duration::from_secs(3600))
                })
            });
            assert!(end.is_err());
            assert_eq!(shield(|| 5), 5);
        });
        assert_eq!(shield(|| 6), 6);
    });
}

/// A thread-local belongs to the worker: tasks of one worker share it, and it is still there after
/// a park.
#[test]
fn thread_locals_belong_to_the_worker() {
    thread_local!(static LIST: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) });
    within("thread_locals_belong_to_the_worker", || {
        let runtime = runtime(2);
        for worker in [0, 1] {
            let task = |_| {
                let builder = sward_runtime::Builder::new().on_worker(worker);
                let work = || {
                    let me = current().id();
                    let at = LIST.with_borrow_mut(|list| {
                        list.push(me);
                        list.len() - 1
                    });
                    for _ in 0..50 {
                        yield_now();
                        assert_eq!(LIST.with_borrow(|list| list[at]), me);
                    }
                };
                runtime.spawn_with(builder, work).unwrap()
            };
            let tasks: Vec<_> = (0..50).map(task).collect();
            tasks.into_iter().for_each(|t| t.join().unwrap());
            let builder = sward_runtime::Builder::new().on_worker(worker);
            let count = runtime.spawn_with(builder, || LIST.with_borrow(Vec::len));
            assert_eq!(count.unwrap().join().unwrap(), 50);
        }
    });
}
