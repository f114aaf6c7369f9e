//! `scope`: tasks that borrow, all of which end before it returns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::within;
use sward_runtime::sync::{Event, unbounded};
use sward_runtime::{
    Builder, Runtime, join_all, park, scope, shield, sleep, spawn, timeout, without_parking,
    yield_now,
};

const FOR_EVER: Duration = Duration::from_secs(3600);

fn run(workers: usize, f: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(workers).build().unwrap().run(f);
}

/// Lives on the stack of the scope's caller; notices whoever uses it after its end.
struct Borrowed {
    alive: AtomicBool,
    uses: AtomicUsize,
}

impl Borrowed {
    fn new() -> Self {
        Self {
            alive: AtomicBool::new(true),
            uses: AtomicUsize::new(0),
        }
    }

    fn touch(&self) {
        assert!(self.alive.load(SeqCst), "used after its end");
        self.uses.fetch_add(1, SeqCst);
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.alive.store(false, SeqCst);
    }
}

/// Touches what it borrows when it goes, after some parks.
struct Touches<'a>(&'a Borrowed);

impl Drop for Touches<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            shield(|| (0..3).for_each(|_| yield_now()));
        }
        self.0.touch();
    }
}

fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn children_borrow_and_end() {
    within("children_borrow_and_end", || {
        for workers in [1, 2] {
            run(workers, || {
                let mut numbers: Vec<_> = (0..100).collect();
                let sum = scope(|s| {
                    let parts: Vec<_> = numbers
                        .chunks_mut(10)
                        .map(|part| {
                            s.spawn(move || {
                                yield_now();
                                part.iter_mut().for_each(|n| *n *= 2);
                                part.iter().sum::<i32>()
                            })
                        })
                        .collect();
                    parts.into_iter().map(|p| p.join().unwrap()).sum::<i32>()
                });
                assert_eq!(sum, 9900);
                assert_eq!(numbers[99], 198);
            });
        }
        // On an ordinary thread.
        let borrowed = Borrowed::new();
        scope(|s| {
            for _ in 0..10 {
                s.spawn(|| Touches(&borrowed));
            }
        });
        assert_eq!(borrowed.uses.load(SeqCst), 10);
    });
}

/// However it ends, nobody uses what it lent afterwards.
#[test]
fn every_end_waits_for_all() {
    within("every_end_waits_for_all", || {
        for workers in [1, 2] {
            for how in 0..6 {
                run(workers, move || {
                    let borrowed = Borrowed::new();
                    let task = &borrowed;
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        timeout(Duration::from_millis(20), || {
                            scope(|s| {
                                for i in 0..5 {
                                    let handle = s.spawn(move || {
                                        let _at_the_end = Touches(task);
                                        if i < 4 {
                                            sleep(FOR_EVER);
                                        }
                                        Touches(task)
                                    });
                                    match i {
                                        0 => std::mem::forget(handle),
                                        1 => drop(handle),
                                        _ => {
                                            s.spawn(move || handle.join().is_ok());
                                        }
                                    }
                                }
                                sleep(Duration::from_millis(2));
                                match how {
                                    0 => panic!("the body"),
                                    1 => sward_runtime::current().kill(),
                                    2 => drop(s.spawn(|| panic!("a child"))),
                                    3 => sleep(FOR_EVER),
                                    4 => s.kill(),
                                    // The time-out reaches the wait at the end.
                                    _ => {}
                                }
                            });
                        })
                    }));
                    match how {
                        0..=2 => assert!(outcome.is_err(), "{how}"),
                        4 => assert!(outcome.unwrap().is_ok()),
                        _ => assert!(outcome.unwrap().is_err()),
                    }
                    // The five children's own, and the result of the last.
                    assert!(borrowed.uses.load(SeqCst) >= 5, "{how}");
                });
            }
        }
    });
}

#[test]
fn panics_go_on_unless_they_are_joined() {
    within("panics_go_on_unless_they_are_joined", || {
        run(1, || {
            // Joined: seen.
            scope(|s| assert!(s.spawn(|| panic!("one")).join().is_err()));
            // Joined by a sister, after the body has returned.
            scope(|s| {
                let bad = s.spawn(|| {
                    yield_now();
                    panic!("two")
                });
                s.spawn(move || {
                    sleep(Duration::from_millis(2));
                    assert!(bad.join().is_err());
                });
            });
            // Nobody joins: the payload goes on, at once, and the others are killed.
            let text = panic_text(|| {
                scope(|s| {
                    s.spawn(|| sleep(FOR_EVER));
                    s.spawn(|| panic!("three"));
                });
            });
            assert_eq!(text, "three");
            // The handle is dropped after the end.
            let text = panic_text(|| {
                scope(|s| {
                    let bad = s.spawn(|| panic!("four"));
                    while !bad.is_finished() {
                        yield_now();
                    }
                });
            });
            assert_eq!(text, "four");
            // A forgotten handle: its payload is out of reach.
            let text = panic_text(|| scope(|s| std::mem::forget(s.spawn(|| panic!("five")))));
            assert_eq!(text, "a task of the scope panicked");
            // The body's own comes first.
            let text = panic_text(|| {
                scope(|s| {
                    s.spawn(|| panic!("a child"));
                    yield_now();
                    panic!("the body");
                });
            });
            assert_eq!(text, "the body");
        });
    });
}

/// Children panic while the parent is killed: it is killed, and all have ended.
#[test]
fn children_panic_while_the_parent_is_killed() {
    within("children_panic_while_the_parent_is_killed", || {
        run(2, || {
            for _ in 0..50 {
                let ends = Arc::new(AtomicUsize::new(0));
                let counts = ends.clone();
                let parent = spawn(move || {
                    struct Panics<'a>(&'a AtomicUsize);
                    impl Drop for Panics<'_> {
                        fn drop(&mut self) {
                            self.0.fetch_add(1, SeqCst);
                            if !std::thread::panicking() {
                                panic!("in a destructor");
                            }
                        }
                    }
                    scope(|s| {
                        for i in 0..10 {
                            let counts = &*counts;
                            s.spawn(move || {
                                let _counts = Panics(counts);
                                let _ = catch_unwind(|| sleep(FOR_EVER));
                                if i % 2 == 0 {
                                    panic!("instead of ending");
                                }
                            });
                        }
                        sleep(FOR_EVER);
                    });
                });
                yield_now();
                sleep(Duration::from_micros(300));
                parent.kill();
                assert!(parent.join().unwrap_err().is_killed());
                let ended = ends.load(SeqCst);
                // Those that were killed before they began never ran.
                assert!(ended <= 10, "{ended}");
            }
        });
    });
}

#[test]
fn scopes_nest_and_children_spawn_children() {
    within("scopes_nest_and_children_spawn_children", || {
        run(2, || {
            let count = AtomicUsize::new(0);
            scope(|s| {
                for _ in 0..5 {
                    s.spawn(|| {
                        for _ in 0..5 {
                            s.spawn(|| count.fetch_add(1, SeqCst));
                        }
                        scope(|inner| {
                            inner.spawn(|| count.fetch_add(100, SeqCst));
                        });
                        yield_now();
                        s.spawn(|| count.fetch_add(10_000, SeqCst));
                    });
                }
            });
            assert_eq!(count.into_inner(), 50_525);
        });
    });
}

#[test]
fn refused_where_it_cannot_wait() {
    within("refused_where_it_cannot_wait", || {
        run(1, || {
            let text = panic_text(|| without_parking(|| scope(|_| ())));
            assert!(text.contains("parking is forbidden"), "{text}");
            // A wait that is forbidden only inside the body is over when the body is.
            scope(|s| {
                s.spawn(yield_now);
                without_parking(|| s.spawn(yield_now));
            });
        });
    });
}

/// Killed scopes do not let new children in; a killed scope's handle says so.
#[test]
fn spawned_into_a_killed_scope() {
    within("spawned_into_a_killed_scope", || {
        run(1, || {
            let ran = AtomicBool::new(false);
            scope(|s| {
                s.spawn(|| sleep(FOR_EVER));
                yield_now();
                s.kill();
                let late = s.spawn(|| ran.store(true, SeqCst));
                assert!(late.join().unwrap_err().is_killed());
                assert!(s.is_empty() || s.len() == 1);
            });
            assert!(!ran.into_inner());
        });
    });
}

#[test]
fn a_swallowed_kill_does_not_end_the_scope_early() {
    within("a_swallowed_kill_does_not_end_the_scope_early", || {
        run(1, || {
            let borrowed = Borrowed::new();
            let go = Event::new();
            scope(|s| {
                s.spawn(|| {
                    shield(|| go.wait());
                    borrowed.touch();
                });
                yield_now();
                s.kill();
                go.set();
            });
            assert_eq!(borrowed.uses.load(SeqCst), 1);
        });
    });
}

#[test]
fn with_a_builder_and_results_of_every_kind() {
    within("with_a_builder_and_results_of_every_kind", || {
        run(2, || {
            let text = "abc".to_owned();
            let (sender, receiver) = unbounded();
            scope(|s| {
                let named = Builder::new().name("child").stack_size(64 * 1024);
                let child =
                    s.spawn_with(named, || sward_runtime::current().name().map(str::to_owned));
                assert_eq!(child.unwrap().join().unwrap().as_deref(), Some("child"));
                assert!(s.spawn_with(Builder::new().on_worker(99), || ()).is_err());
                let slow = s.spawn(|| {
                    park();
                    &text[1..]
                });
                let slow = slow.join_timeout(Duration::from_millis(1)).unwrap_err();
                slow.task().unpark();
                assert_eq!(slow.join().unwrap(), "bc");
                for i in 0..100 {
                    let sender = sender.clone();
                    s.spawn_with(Builder::new().on_worker(i % 2), move || sender.send(i))
                        .unwrap();
                }
            });
            assert_eq!(receiver.len(), 100);
            // A scope within many tasks.
            let tasks = (0..100).map(|i| {
                spawn(move || {
                    let mine = AtomicUsize::new(i);
                    scope(|s| {
                        for _ in 0..10 {
                            s.spawn(|| mine.fetch_add(1, SeqCst));
                        }
                    });
                    mine.into_inner()
                })
            });
            let sum: usize = join_all(tasks).into_iter().map(Result::unwrap).sum();
            assert_eq!(sum, 4950 + 1000);
        });
    });
}
