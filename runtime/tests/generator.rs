//! Generators: items in order, and every way in which a body can end: by itself, by a panic, a kill or
//! a time-out, dropped half-used anywhere, forgotten.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Random, assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::sync::{Event, Mutex, ShortLock, channel::bounded};
use sward_runtime::{
    Builder, Generator, Runtime, Yielder, current, on_switch, on_worker_stack, run, shield, sleep,
    spawn, spawn_local, timeout, without_parking, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// In a runtime of one worker and in one of two; no stack of a generator may be left.
fn in_tasks(name: &str, check: impl Fn() + Send + Sync) {
    within(name, || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            runtime.run(|| {
                check();
                assert_eq!(generators(), 0);
            });
            assert_eq!(runtime.shutdown(Duration::from_secs(20)), 0);
        }
    });
}

fn generators() -> usize {
    sward_runtime::stack_census().generators
}

fn numbers() -> Generator<u64> {
    Generator::new(|y| {
        for n in 0.. {
            y.yield_(n);
        }
    })
}

fn message<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().unwrap();
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "no text".into())
}

/// Counts its drops.
#[derive(Clone, Default)]
struct Tally(Rc<Cell<usize>>);

struct Counted(Tally);

impl Tally {
    fn one(&self) -> Counted {
        Counted(self.clone())
    }
    fn get(&self) -> usize {
        self.0.get()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.set(self.0.get() + 1);
    }
}

/// Calls a closure when dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// ---- items --------------------------------------------------------------------------------------

#[test]
fn items_and_result() {
    in_tasks("items_and_result", || {
        let mut generator = Generator::new(|y| {
            for word in ["a", "b", "c"] {
                y.yield_(word.to_owned());
            }
            7
        });
        assert!(format!("{generator:?}").contains("suspended"));
        assert_eq!(generator.next().as_deref(), Some("a"));
        assert!(!generator.is_ended());
        assert_eq!(generator.by_ref().collect::<Vec<_>>(), ["b", "c"]);
        assert!(generator.is_ended() && format!("{generator:?}").contains("ended"));
        assert_eq!((generator.next(), generator.next()), (None, None));
        assert_eq!(generators(), 0);
        assert_eq!(generator.into_result(), Some(7));

        assert_eq!(numbers().skip(5).step_by(10).take(3).sum::<u64>(), 45);
        let (mut a, mut b) = (numbers(), numbers());
        assert!((0..1000).all(|n| a.next() == Some(n) && b.next() == Some(n)));
        assert_eq!(generators(), 2);
        assert_eq!(a.into_result(), None);

        // What is larger than the place where a stack begins.
        let mut large = Generator::new(|y| {
            y.yield_([1u8; 5_000]);
            [2u8; 5_000]
        });
        assert!(large.next().unwrap().iter().all(|&n| n == 1));
        assert!(large.next().is_none() && large.into_result().unwrap()[4_999] == 2);
        let captured = [3u8; 5_000];
        let mut large =
            Generator::new(move |y| y.yield_(captured.len() + usize::from(captured[9])));
        assert_eq!((large.next(), large.next()), (Some(5_003), None));
        #[repr(align(128))]
        struct Aligned(u8);
        let mut aligned = Generator::new(|y| y.yield_(Aligned(5)));
        let got = aligned.next().unwrap();
        assert_eq!(((&raw const got).addr() % 128, got.0), (0, 5));
    });
}

#[test]
fn a_body_that_never_began() {
    in_tasks("a_body_that_never_began", || {
        let tally = Tally::default();
        let own = tally.one();
        let generator = Generator::new(move |y: &Yielder<i32>| {
            let _own = own;
            y.yield_(1);
            unreachable!();
        });
        assert_eq!((tally.get(), generators()), (0, 1));
        drop(generator);
        assert_eq!((tally.get(), generators()), (1, 0));
    });
}

struct Tree(u32, Vec<Self>);

fn walk(tree: Rc<Tree>, path: Vec<usize>) -> Generator<u32> {
    Generator::new(move |y| {
        let here = path.iter().fold(&*tree, |node, &i| &node.1[i]);
        for i in 0..here.1.len() {
            let path = path.iter().copied().chain([i]).collect();
            y.yield_from(walk(tree.clone(), path));
        }
        y.yield_(here.0);
    })
}

#[test]
fn a_generator_for_each_level() {
    in_tasks("a_generator_for_each_level", || {
        let leaf = |n| Tree(n, Vec::new());
        let tree = Rc::new(Tree(
            9,
            vec![
                Tree(3, vec![leaf(1), leaf(2)]),
                leaf(4),
                Tree(8, vec![Tree(7, vec![leaf(5), leaf(6)])]),
            ],
        ));
        assert_eq!(
            walk(tree.clone(), vec![]).collect::<Vec<_>>(),
            (1..=9).collect::<Vec<_>>()
        );
        // Dropped at each place.
        for n in 0..9 {
            let mut half = walk(tree.clone(), vec![]);
            assert_eq!(half.by_ref().take(n).count(), n);
            assert!(generators() > 0);
            drop(half);
            assert_eq!(generators(), 0);
        }
        assert_eq!(Rc::strong_count(&tree), 1);

        fn nest(depth: u32) -> Generator<u32> {
            Generator::new(move |y| {
                y.yield_(depth);
                if depth > 0 {
                    yield_now();
                    y.yield_from(nest(depth - 1));
                }
            })
        }
        assert_eq!(nest(300).sum::<u32>(), 300 * 301 / 2);
        let mut half = nest(300);
        assert_eq!(half.nth(250), Some(50));
        assert_eq!(generators(), 251);
        drop(half);
        assert_eq!(generators(), 0);
    });
}

// ---- parks --------------------------------------------------------------------------------------

#[test]
fn a_park_in_the_body_suspends_the_task() {
    within("a_park_in_the_body_suspends_the_task", || {
        runtime(1).run(|| {
            let (to, from) = bounded::<u64>(0);
            let sender = spawn(move || (0..100).for_each(|n| to.send(n).unwrap()));
            let other = spawn_local(|| (0..50).for_each(|_| yield_now()));
            let doubled = Generator::new(move |y| {
                let inner = Generator::new(move |y| {
                    while let Ok(n) = from.recv() {
                        yield_now();
                        y.yield_(n);
                    }
                });
                for n in inner {
                    sleep(Duration::from_micros(1));
                    y.yield_(2 * n);
                }
            });
            assert!(doubled.eq((0..100).map(|n| 2 * n)));
            sender.join().unwrap();
            other.join().unwrap();
        });
        // Woken from another worker and from a thread.
        let runtime = runtime(2);
        let (ask, asked) = bounded::<u64>(1);
        let (answer, answers) = bounded::<u64>(1);
        let thread =
            std::thread::spawn(move || asked.into_iter().for_each(|n| answer.send(n + 1).unwrap()));
        runtime.run(move || {
            let generator = Generator::new(move |y| {
                for n in 0..200 {
                    ask.send(n).unwrap();
                    y.yield_(answers.recv().unwrap());
                    y.yield_(spawn(move || n).join().unwrap());
                }
            });
            assert_eq!(generator.sum::<u64>(), 200 * 200);
        });
        thread.join().unwrap();
    });
}

#[test]
fn goes_on_in_another_task() {
    in_tasks("goes_on_in_another_task", || {
        let tally = Tally::default();
        let own = tally.one();
        let lock = Rc::new(Mutex::new(()));
        let held = lock.clone();
        let mut generator = Generator::new(move |y| {
            let _own = own;
            for n in 0..10 {
                // Made in one task, let go in another.
                let guard = held.lock();
                y.yield_((n, current().id()));
                drop(guard);
                sleep(Duration::from_micros(10));
            }
        });
        for n in 0..9 {
            // The task that made it has long ended at the end.
            let task = spawn_local(move || {
                let id = current().id();
                assert_eq!(generator.next(), Some((n, id)));
                generator
            });
            generator = task.join().unwrap();
        }
        assert!(lock.try_lock().is_none());
        let last = spawn_local(move || drop(generator));
        last.join().unwrap();
        assert!(lock.try_lock().is_some());
        assert_eq!(tally.get(), 1);
        // Killed before its first run, it still drops what it owns in a task.
        let own = tally.one();
        let mut generator = Generator::new(move |y| {
            let _own = own;
            y.yield_(1);
        });
        generator.next();
        let task = spawn_local(move || generator.count());
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(tally.get(), 2);
    });
}

#[test]
fn hooks_see_parks_only() {
    in_tasks("hooks_see_parks_only", || {
        let task = spawn_local(|| {
            let (outs, ins) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let (o, i) = (outs.clone(), ins.clone());
            // A generator may live in a hook too.
            let mut count = numbers();
            on_switch(
                move || {
                    count.next();
                    o.set(o.get() + 1);
                },
                move || i.set(i.get() + 1),
            );
            let generator = Generator::new(|y| {
                for n in 0..6 {
                    if n % 2 == 0 {
                        yield_now();
                    }
                    y.yield_(n);
                }
            });
            assert_eq!(generator.count(), 6);
            assert_eq!((outs.get(), ins.get()), (3, 3));
        });
        task.join().unwrap();
    });
}

// ---- ends ---------------------------------------------------------------------------------------

#[test]
fn a_kill_passes_out_through_next() {
    in_tasks("a_kill_passes_out_through_next", || {
        const BEGUN: usize = 100;
        for nested in [false, true] {
            let drops = Arc::new(AtomicUsize::new(0));
            let count = drops.clone();
            let task = spawn(move || {
                let counted = |count: &Arc<AtomicUsize>| {
                    let count = count.clone();
                    OnDrop(move || drop(count.fetch_add(1, SeqCst)))
                };
                let (outer, inner) = (counted(&count), counted(&count));
                let began = count.clone();
                let mut generator = Generator::new(move |y| {
                    let _outer = outer;
                    y.yield_(1);
                    began.store(BEGUN, SeqCst);
                    let wait = Generator::new(move |y: &Yielder<i32>| {
                        let _inner = inner;
                        sward_runtime::park();
                        y.yield_(0);
                    });
                    if nested {
                        y.yield_from(wait);
                    }
                    sward_runtime::park();
                });
                let caught = catch_unwind(AssertUnwindSafe(|| generator.by_ref().count()));
                assert!(generator.is_ended() && generator.next().is_none());
                resume_unwind(caught.unwrap_err());
            });
            until(|| drops.load(SeqCst) == BEGUN);
            drops.store(0, SeqCst);
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(drops.load(SeqCst), 2);
        }
    });
}

#[test]
fn a_time_out_passes_out_through_next() {
    in_tasks("a_time_out_passes_out_through_next", || {
        let tally = Tally::default();
        let own = tally.one();
        let mut generator = Generator::new(move |y| {
            let _own = own;
            y.yield_(1);
            sleep(Duration::from_secs(600));
        });
        let limit = Duration::from_millis(2);
        assert_eq!(timeout(limit, || generator.next()), Ok(Some(1)));
        assert!(timeout(limit, || generator.next()).is_err());
        assert_eq!((tally.get(), generator.next()), (1, None));
        // One that the body sets around waits of its own.
        let mut generator = Generator::new(move |y| {
            for _ in 0..3 {
                let late = timeout(limit, || sleep(Duration::from_secs(600)));
                y.yield_(late.is_err());
            }
        });
        assert!(
            timeout(Duration::from_secs(60), || generator
                .by_ref()
                .all(|late| late))
            .unwrap()
        );
        // Both: the outer one's ends it.
        let mut generator = Generator::new(move |y| {
            let long = timeout(Duration::from_secs(60), || sleep(Duration::from_secs(600)));
            y.yield_(long.is_ok());
        });
        assert!(timeout(limit, || generator.next()).is_err() && generator.is_ended());
        sleep(Duration::from_micros(10));
    });
}

#[test]
fn a_panic_passes_out_through_next() {
    in_tasks("a_panic_passes_out_through_next", || {
        let tally = Tally::default();
        let own = tally.one();
        let mut generator = Generator::new(move |y| {
            let _own = own;
            y.yield_(1);
            panic_any(77_u8);
        });
        generator.next();
        let caught = catch_unwind(AssertUnwindSafe(|| generator.next()));
        assert_eq!(*caught.unwrap_err().downcast::<u8>().unwrap(), 77);
        assert_eq!(
            (tally.get(), generator.next(), generator.is_ended()),
            (1, None, true)
        );
        assert_eq!(generators(), 0);
    });
}

#[test]
fn dropped_half_used() {
    in_tasks("dropped_half_used", || {
        let tally = Tally::default();
        let owns: Vec<_> = (0..3).map(|_| tally.one()).collect();
        let hooked = Rc::new(Cell::new(false));
        let mut generator = Generator::new(move |y| {
            let _own = owns;
            let caught = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
            let payload = caught.unwrap_err();
            assert!(!payload.is::<String>() && !payload.is::<&str>());
            hooked.set(true);
            resume_unwind(payload);
        });
        generator.next();
        drop(generator);
        assert_eq!((tally.get(), generators()), (3, 0));
        // A body that takes it for its end, with a result that nobody gets, and one that parks.
        let own = tally.one();
        let mut generator = Generator::new(move |y| {
            let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
            sleep(Duration::from_millis(1));
            own
        });
        generator.next();
        drop(generator);
        assert_eq!((tally.get(), generators()), (4, 0));
        // One that panics instead: out of the drop.
        let mut generator = Generator::new(move |y| {
            let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
            panic!("no, I will not");
        });
        generator.next();
        assert_eq!(message(|| drop(generator)), "no, I will not");
        assert_eq!(generators(), 0);
        // One whose destructor has a generator, that is dropped half-used too.
        let own = tally.one();
        let mut generator = Generator::new(move |y| {
            let _inner = OnDrop(move || {
                let mut inner = numbers();
                assert_eq!(inner.by_ref().take(10).sum::<u64>(), 45);
                let _ = &own;
            });
            y.yield_(1);
        });
        generator.next();
        drop(generator);
        assert_eq!((tally.get(), generators()), (5, 0));
    });
}

#[test]
fn dropped_in_a_task_that_unwinds() {
    in_tasks("dropped_in_a_task_that_unwinds", || {
        for how in ["panic", "kill", "time-out"] {
            let drops = Arc::new(AtomicUsize::new(0));
            let count = drops.clone();
            let task = spawn(move || {
                let nested = count.clone();
                let mut generator = Generator::new(move |y| {
                    let in_destructor = nested.clone();
                    let _own = OnDrop(move || {
                        assert!(std::thread::panicking());
                        // A catch in a destructor, another generator, and one that is dropped.
                        assert!(catch_unwind(|| resume_unwind(Box::new(1))).is_err());
                        let fresh = Generator::new(|y| (0..4).for_each(|n| y.yield_(n)));
                        assert_eq!(fresh.sum::<i32>(), 6);
                        assert_eq!(numbers().nth(3), Some(3));
                        in_destructor.fetch_add(1, SeqCst);
                    });
                    let inner = nested.clone();
                    y.yield_from(Generator::new(move |y| {
                        let _own = OnDrop(move || drop(inner.fetch_add(1, SeqCst)));
                        for n in 0.. {
                            y.yield_(n);
                        }
                    }));
                });
                assert_eq!(generator.nth(2), Some(2));
                match how {
                    "panic" => resume_unwind(Box::new("on purpose")),
                    "kill" => current().kill(),
                    _ => {
                        let late = timeout(Duration::from_millis(1), move || {
                            let _in_it = generator;
                            sleep(Duration::from_secs(600));
                        });
                        assert!(late.is_err());
                    }
                }
            });
            assert_eq!(task.join().is_err(), how != "time-out");
            assert_eq!(drops.load(SeqCst), 2, "{how}");
            // The worker's panic count is as it was: a park works.
            sleep(Duration::from_micros(10));
            assert!(!std::thread::panicking());
        }
        // A panic of the body's has nowhere to go then.
        let task = spawn(|| {
            let mut generator = Generator::new(|y| {
                let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
                resume_unwind(Box::new("second"));
            });
            generator.next();
            resume_unwind(Box::new("first"));
        });
        assert_eq!(task.join().unwrap_err().panic_message(), Some("first"));
        // An iteration that begins before, and goes on in a destructor that unwinds.
        let task = spawn(|| {
            let mut generator = numbers();
            generator.nth(4);
            let _rest = OnDrop(move || assert_eq!(generator.next(), Some(5)));
            resume_unwind(Box::new("first"));
        });
        assert_eq!(task.join().unwrap_err().panic_message(), Some("first"));
    });
}

#[test]
fn destructors_of_a_closed_body_may_not_park() {
    let name = "destructors_of_a_closed_body_may_not_park";
    if is_child() {
        within(name, || {
            runtime(1).run(|| {
                for unwinding in [false, true] {
                    let task = spawn(move || {
                        let (to, from) = bounded::<i32>(0);
                        let mut generator = Generator::new(move |y| {
                            let _own = OnDrop(move || {
                                assert!(to.send(1).is_err());
                                yield_now();
                                sleep(Duration::from_millis(1));
                            });
                            y.yield_(1);
                        });
                        generator.next();
                        if unwinding {
                            current().kill();
                        }
                        drop(generator);
                        drop(from);
                        sleep(Duration::from_millis(1));
                    });
                    assert_eq!(task.join().is_err(), unwinding);
                }
                assert_eq!(generators(), 0);
            });
        });
        return;
    }
    let out = rerun(name, &[]);
    assert_passed(&out);
    assert_eq!(stderr(&out).matches("sleeps while it unwinds").count(), 2);
}

#[test]
fn yields_of_destructors_are_dropped() {
    let name = "yields_of_destructors_are_dropped";
    if is_child() {
        in_tasks(name, || {
            for unwinding in [false, true] {
                let task = spawn(move || {
                    let tally = Tally::default();
                    let items = tally.clone();
                    let mut generator = Generator::new(move |y| {
                        let _own = OnDrop(|| (0..3).for_each(|_| y.yield_(Some(items.one()))));
                        y.yield_(None);
                    });
                    generator.next();
                    let _after = OnDrop(move || assert_eq!(tally.get(), 3));
                    let _first = generator;
                    if unwinding {
                        current().kill();
                    }
                });
                assert_eq!(task.join().is_err(), unwinding);
            }
            // A panic of its own.
            let mut generator = Generator::new(move |y| {
                let _own = OnDrop(|| y.yield_(2));
                y.yield_(1);
                resume_unwind(Box::new("mine"));
            });
            generator.next();
            assert_eq!(message(|| generator.next()), "mine");
            // Where it does not unwind, a destructor may yield as anything may.
            let generator = Generator::new(move |y| {
                drop(OnDrop(|| y.yield_(2)));
                y.yield_(3);
            });
            assert_eq!(generator.collect::<Vec<_>>(), [2, 3]);
            sleep(Duration::from_micros(1));
        });
        return;
    }
    let out = rerun(name, &[]);
    assert_passed(&out);
    let text = stderr(&out);
    assert_eq!(
        text.matches("yields while it unwinds: the item is dropped")
            .count(),
        6,
        "{text}"
    );
    assert!(text.contains("tests/generator.rs:"), "{text}");
}

#[test]
fn goes_on_after_its_drop() {
    let name = "goes_on_after_its_drop";
    if is_child() {
        within(name, || {
            let runtime = runtime(1);
            runtime.run(|| {
                let before = Rc::new(());
                for unwinding in [false, true] {
                    let kept = before.clone();
                    let task = spawn_local(move || {
                        let mut generator = Generator::new(move |y| {
                            let _kept = kept;
                            loop {
                                let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
                            }
                        });
                        generator.next();
                        if unwinding {
                            current().kill();
                        }
                    });
                    assert_eq!(task.join().is_err(), unwinding);
                    sleep(Duration::from_micros(10));
                }
                assert_eq!((generators(), Rc::strong_count(&before)), (2, 3));
                // The stacks are not used again.
                let all: Vec<_> = (0..100).map(|_| numbers()).collect();
                assert_eq!(generators(), 102);
                assert!(all.into_iter().all(|mut g| g.next() == Some(0)));
                assert_eq!(spawn(|| 7).join().unwrap(), 7);
                assert_eq!(generators(), 2);
            });
            assert_eq!(runtime.shutdown(Duration::from_secs(20)), 0);
        });
        return;
    }
    let out = rerun(name, &[]);
    assert_passed(&out);
    let text = stderr(&out);
    assert_eq!(
        text.matches("went on after it was dropped by task").count(),
        2,
        "{text}"
    );
    assert!(
        text.contains("2 generators of worker 0 of runtime 'sward' were never dropped"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_told_apart_aborts_in_the_end() {
    let name = "what_cannot_be_told_apart_aborts_in_the_end";
    if is_child() {
        run(|| {
            let mut generator = Generator::new(|y| {
                let _kept = catch_unwind(AssertUnwindSafe(|| y.yield_(1)));
                loop {
                    y.yield_(2);
                }
            });
            generator.next();
            current().kill();
        });
        return;
    }
    let out = rerun(name, &[]);
    assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{out:?}");
    assert!(stderr(&out).contains("was dropped by a task that unwinds, and does not end"));
}

#[test]
fn a_destructor_that_panics_aborts() {
    let name = "a_destructor_that_panics_aborts";
    if is_child() {
        run(|| {
            let mut generator = Generator::new(|y| {
                let _own = OnDrop(|| panic!("in a destructor"));
                y.yield_(1);
            });
            generator.next();
            drop(generator);
        });
        return;
    }
    let out = rerun(name, &[]);
    assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{out:?}");
    assert!(stderr(&out).contains("in a destructor"));
}

#[test]
fn the_panic_hook_is_not_called() {
    let name = "the_panic_hook_is_not_called";
    if is_child() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        std::panic::set_hook(Box::new(|_| drop(CALLS.fetch_add(1, SeqCst))));
        within(name, || {
            runtime(1).run(|| {
                let mut generator = numbers();
                generator.next();
                drop(generator);
                assert_eq!(CALLS.load(SeqCst), 0);
                let mut generator = Generator::new(|y| {
                    y.yield_(1);
                    panic!("once");
                });
                generator.next();
                assert_eq!(message(|| generator.next()), "once");
                assert_eq!(CALLS.load(SeqCst), 1);
            });
        });
        return;
    }
    assert_passed(&rerun(name, &[]));
}

thread_local! {
    static KEPT: RefCell<Option<Generator<u64>>> = const { RefCell::new(None) };
    static LENT: OnDrop<fn()> = const { OnDrop(|| ()) };
}

#[test]
fn forgotten_ones_leak_only() {
    let name = "forgotten_ones_leak_only";
    if is_child() {
        within(name, || {
            for how in ["forgotten", "in a thread-local", "in a cycle"] {
                let runtime = runtime(2);
                runtime.run(|| match how {
                    "forgotten" => {
                        let mut generator = numbers();
                        generator.next();
                        std::mem::forget(generator);
                        std::mem::forget(numbers());
                    }
                    "in a thread-local" => KEPT.with_borrow_mut(|kept| {
                        // Its frames borrow a thread-local that would be destroyed before it.
                        let generator = Generator::new(|y| {
                            LENT.with(|lent| {
                                let _use = OnDrop(|| _ = black_box(lent));
                                for n in 0.. {
                                    y.yield_(n);
                                }
                            });
                        });
                        kept.insert(generator).next();
                    }),
                    _ => {
                        let cycle = Rc::new(RefCell::new(None));
                        let inside = cycle.clone();
                        let mut generator = Generator::new(move |y| {
                            let _cycle = inside;
                            y.yield_(1);
                        });
                        generator.next();
                        *cycle.borrow_mut() = Some(generator);
                    }
                });
                assert_eq!(runtime.shutdown(Duration::from_secs(20)), 0, "{how}");
            }
            // The next runtime is none the worse.
            runtime(2).run(|| assert_eq!(numbers().nth(9), Some(9)));
            // One thread of each of the three stays, so that what its locals are is not destroyed.
            let mut left = 0;
            until(|| {
                let threads = std::fs::read_dir("/proc/self/task").unwrap();
                let names =
                    threads.map(|t| std::fs::read_to_string(t.unwrap().path().join("comm")));
                let workers = names
                    .flatten()
                    .filter(|name| ["sward-0\n", "sward-1\n"].contains(&name.as_str()));
                left = workers.count();
                left <= 3
            });
            assert_eq!(left, 3);
        });
        return;
    }
    let out = rerun(name, &[]);
    assert_passed(&out);
    let text = stderr(&out);
    assert_eq!(text.matches("generators of worker").count(), 3, "{text}");
    assert!(!text.contains("outside of a task"), "{text}");
}

// ---- misuse -------------------------------------------------------------------------------------

#[test]
fn no_yield_inside_what_the_body_entered() {
    in_tasks("no_yield_inside_what_the_body_entered", || {
        let hour = Duration::from_secs(3600);
        type Body = fn(&Yielder<i32>);
        let bodies: [(&str, Body); 5] = [
            ("timeout", |y| {
                drop(timeout(Duration::from_secs(3600), || y.yield_(1)))
            }),
            ("shield", |y| shield(|| y.yield_(1))),
            ("without_parking", |y| without_parking(|| y.yield_(1))),
            ("on_worker_stack", |y| on_worker_stack(|| y.yield_(1))),
            ("shield", |y| {
                drop(timeout(Duration::from_secs(9), || shield(|| y.yield_(1))))
            }),
        ];
        for (what, body) in bodies {
            let mut generator = Generator::new(body);
            let text = message(|| generator.next());
            assert!(
                text.contains(&format!("yield_ inside {what}, which")),
                "{text}"
            );
            assert!(generator.is_ended());
            // As deep as the consumer is itself is fine, whichever way it is.
            let mut generator = Generator::new(|y| {
                y.yield_(1);
                timeout(Duration::from_secs(3600), yield_now).unwrap();
                shield(|| without_parking(|| on_worker_stack(|| ())));
                y.yield_(2);
                y.yield_(3);
                y.yield_(4);
            });
            assert_eq!(timeout(hour, || generator.next()), Ok(Some(1)));
            assert_eq!(shield(|| generator.next()), Some(2));
            assert_eq!(without_parking(|| generator.next()), Some(3));
            assert_eq!(on_worker_stack(|| generator.next()), Some(4));
            shield(|| drop(generator));
        }
        // The consumer may hold a ShortLock, the body may not.
        let lock = Rc::new(ShortLock::new(0));
        let mut generator = numbers();
        let guard = lock.lock();
        assert_eq!(generator.next(), Some(0));
        drop(guard);
        if cfg!(debug_assertions) {
            let mut generator = Generator::new(move |y| {
                let _guard = lock.lock();
                y.yield_(1);
            });
            assert!(message(|| generator.next()).contains("yield_ inside a ShortLock"));
        }
        drop(generator);
        // Caught in there, and tried again outside.
        let generator = Generator::new(|y| {
            let refused = shield(|| message(|| y.yield_(1)));
            y.yield_(refused.len());
        });
        assert_eq!(generator.count(), 1);
        // What the task had entered is as it was: a kill is held back by nothing.
        let task = spawn(move || {
            for (_, body) in bodies {
                message(|| Generator::new(body).next());
            }
            current().kill();
            unreachable!();
        });
        assert!(task.join().unwrap_err().is_killed());
        assert!(timeout(Duration::from_millis(1), || sleep(hour)).is_err());
    });
}

#[test]
fn with_the_workers_stack() {
    in_tasks("with_the_workers_stack", || {
        let sum = || {
            let big = black_box([1_u8; 1 << 20]);
            big.iter().map(|&n| u64::from(n)).sum::<u64>()
        };
        let generator = Generator::new(move |y| {
            for _ in 0..3 {
                y.yield_(on_worker_stack(sum));
                yield_now();
            }
            y.yield_(on_worker_stack(|| numbers().take(4).sum()));
        });
        assert_eq!(generator.sum::<u64>(), (3 << 20) + 6);
        // Made and begun there, gone on with elsewhere; and the other way.
        let mut generator = on_worker_stack(|| {
            let mut generator = numbers();
            assert_eq!(generator.next(), Some(0));
            generator
        });
        assert_eq!(generator.next(), Some(1));
        assert_eq!(on_worker_stack(|| generator.next()), Some(2));
        on_worker_stack(|| drop(generator));
        // A park in a body that was called from there.
        let text = message(|| {
            on_worker_stack(|| {
                Generator::new(|y| {
                    sleep(Duration::from_millis(1));
                    y.yield_(1);
                })
                .next()
            })
        });
        assert!(text.contains("a wait inside on_worker_stack"), "{text}");
        let caught = catch_unwind(|| {
            on_worker_stack(|| Generator::new(|_: &Yielder<u8>| panic_any(1_u8)).next())
        });
        assert!(caught.unwrap_err().is::<u8>());
    });
}

#[test]
fn only_in_tasks() {
    within("only_in_tasks", || {
        let make = || Generator::try_new(|y: &Yielder<i32>| y.yield_(1));
        let e = make().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains("sward::run"), "{e}");
        assert!(message(|| Generator::new(|y: &Yielder<i32>| y.yield_(1))).contains("sward::run"));
        let e =
            run(|| Generator::with_stack_size(100, |y: &Yielder<i32>| y.yield_(1)).unwrap_err());
        assert!(
            e.kind() == ErrorKind::InvalidInput && e.to_string().contains("100 bytes"),
            "{e}"
        );
    });
}

#[test]
fn in_a_forked_child() {
    within("in_a_forked_child", || {
        runtime(1).run(|| {
            let mut generator = numbers();
            generator.next();
            // SAFETY: the child only computes, and ends by _exit.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let refused = Generator::try_new(|y: &Yielder<i32>| y.yield_(1));
                let good = refused.is_err_and(|e| e.to_string().contains("forked child"))
                    && generator.next() == Some(1);
                drop(generator);
                // SAFETY: a number and nothing else.
                unsafe { libc::_exit(i32::from(!good)) };
            }
            let mut status = -1;
            // SAFETY: our child; `status` is ours to be written.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0);
            assert_eq!(generator.next(), Some(1));
        });
    });
}

// ---- stacks -------------------------------------------------------------------------------------

#[test]
fn no_stack_left() {
    within("no_stack_left", || {
        let runtime = Runtime::builder().workers(1).max_stacks(4).build().unwrap();
        runtime.run(|| {
            let mut all: Vec<_> = (0..3).map(|_| numbers()).collect();
            assert!(all.iter_mut().all(|g| g.next() == Some(0)));
            let e = Generator::try_new(|y| y.yield_(1)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::OutOfMemory);
            let of_spawn = Builder::new().spawn(|| ()).unwrap_err();
            assert_eq!(e.to_string(), of_spawn.to_string());
            assert!(
                e.to_string().contains("4 of 4 in use") && e.to_string().contains("max_stacks(4)")
            );
            assert!(message(|| Generator::new(|y| y.yield_(1))).contains("max_stacks(4)"));
            let census = sward_runtime::stack_census();
            assert_eq!((census.live, census.generators), (4, 3));
            assert_eq!(sward_runtime::stats().live, 1);
            // A task that waits for a stack gets the one that comes back.
            let waiting = spawn(|| 7);
            assert!(!waiting.is_finished());
            yield_now();
            all.pop();
            assert_eq!(waiting.join().unwrap(), 7);
            assert_eq!(numbers().nth(3), Some(3));
            drop(all);
            assert_eq!(
                (0..3)
                    .map(|_| numbers())
                    .map(|mut g| g.nth(1).unwrap())
                    .sum::<u64>(),
                3
            );
        });
        // And one on another worker.
        let runtime = Runtime::builder().workers(2).max_stacks(3).build().unwrap();
        runtime.run(|| {
            let mut all = Vec::new();
            while let Ok(generator) = Generator::try_new(|y| y.yield_(1)) {
                all.push(generator);
            }
            let here = spawn_local(|| ());
            let waiting = [0, 1].map(|w| Builder::new().on_worker(w).spawn(|| 7));
            assert!(waiting.iter().all(Result::is_err));
            drop(all);
            here.join().unwrap();
        });
        assert_eq!(runtime.shutdown(Duration::from_secs(20)), 0);
    });
}

/// What lists or ends tasks takes no generator for one.
#[test]
fn they_are_no_tasks() {
    within("they_are_no_tasks", || {
        let runtime = runtime(1);
        let (ready, go) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (tell, wait) = (ready.clone(), go.clone());
        let task = runtime.spawn(move || {
            let mut all: Vec<_> = (0..70).map(|_| numbers()).collect();
            all.iter_mut().step_by(2).for_each(|g| drop(g.next()));
            all.push(Generator::new(move |y| {
                tell.set();
                wait.wait();
                y.yield_(1);
            }));
            all.iter_mut().map(|g| g.next().unwrap()).sum::<u64>()
        });
        ready.wait();
        let dump = runtime.dump();
        assert_eq!(dump.tasks().len(), 1, "{dump}");
        assert!(dump.to_string().contains("event"), "{dump}");
        go.set();
        assert_eq!(task.join().unwrap(), 36);
        // The end of the runtime finds one that is parked inside of many.
        let stuck = runtime.spawn(|| {
            let mut outer = Generator::new(|y| {
                y.yield_from(Generator::new(|y: &Yielder<i32>| {
                    sward_runtime::park();
                    y.yield_(1);
                }));
            });
            outer.next()
        });
        until(|| runtime.stats().live == 1);
        assert_eq!(runtime.shutdown(Duration::from_secs(20)), 0);
        assert!(stuck.join().unwrap_err().is_killed());
    });
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    let frame = black_box([n; 16]);
    if n == 0 {
        0
    } else {
        deep(n - 1) + black_box(frame)[7]
    }
}

const ROLE: &str = "SWARD_TEST_ROLE";

#[test]
fn overflow_is_named() {
    let name = "overflow_is_named";
    let small =
        |depth| Generator::with_stack_size(64 << 10, move |y| y.yield_(deep(depth))).unwrap();
    if is_child() {
        let role = std::env::var(ROLE).unwrap();
        let task = Builder::new()
            .name("eater")
            .spawn(move || match role.as_str() {
                "plain" => drop(small(1 << 40).next()),
                // The inner one, that is on top of an outer one.
                "nested" => drop(Generator::new(move |y| y.yield_from(small(1 << 40))).next()),
                // The outer one, after the inner one has been used.
                "outer" => {
                    let body = move |y: &Yielder<u64>| {
                        let mut inner = numbers();
                        inner.next();
                        yield_now();
                        y.yield_(deep(1 << 40));
                    };
                    drop(Generator::with_stack_size(64 << 10, body).unwrap().next());
                }
                // The task's own, with a generator that is suspended.
                _ => {
                    let mut generator = numbers();
                    generator.next();
                    deep(1 << 40);
                }
            });
        task.unwrap().join().unwrap();
        return;
    }
    for role in ["plain", "nested", "outer", "task"] {
        let out = rerun(name, &[(ROLE, role)]);
        assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{role}: {out:?}");
        let text = stderr(&out);
        let end = " 'eater' has overflowed its stack of ";
        assert_eq!(text.matches(end).count(), 1, "{role}: {text}");
        let of_generator = text.contains("the generator made at runtime/tests/generator.rs:")
            && text.contains(&format!("{end}64 KiB"))
            && text.contains("Generator::with_stack_size");
        assert_eq!(of_generator, role != "task", "{role}: {text}");
    }
}

// ---- everything at once -------------------------------------------------------------------------

/// Generators in generators that wait, yield, panic, and are dropped, killed and timed out at random
/// places: every body that began is unwound or ended once, and every stack comes back.
#[test]
fn random() {
    fn body(
        seed: u64,
        depth: u32,
        begun: &Arc<AtomicUsize>,
        ended: &Arc<AtomicUsize>,
    ) -> Generator<u64> {
        let (begun, ended) = (begun.clone(), ended.clone());
        Generator::new(move |y| {
            begun.fetch_add(1, SeqCst);
            let count = ended.clone();
            let _own = OnDrop(move || drop(count.fetch_add(1, SeqCst)));
            let mut random = Dice(seed | 1);
            for n in 0..random.below(20) {
                match random.below(12) {
                    0 => yield_now(),
                    1 => sleep(Duration::from_micros(random.below(200))),
                    2 if depth > 0 => {
                        let inner = body(random.below(1 << 40), depth - 1, &begun, &ended);
                        let some = usize::try_from(random.below(20)).unwrap();
                        y.yield_from(inner.take(some));
                    }
                    3 if random.below(10) == 0 => resume_unwind(Box::new("body")),
                    4 => drop(timeout(Duration::from_micros(50), || {
                        sleep(Duration::from_micros(100))
                    })),
                    5 => shield(yield_now),
                    _ => y.yield_(n),
                }
            }
        })
    }

    #[derive(Clone)]
    struct Dice(u64);
    impl Dice {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    within("random", || {
        let seed = 0x5EED ^ u64::from(std::process::id());
        let mut random = Random::new(seed);
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let tasks: Vec<_> = (0..300)
                .map(|_| {
                    let (begun, ended) = (begun.clone(), ended.clone());
                    let mut dice = Dice(random.below(1 << 50) | 1);
                    runtime.spawn(move || {
                        for _ in 0..10 {
                            let generator = body(dice.below(1 << 40), 3, &begun, &ended);
                            let some = usize::try_from(dice.below(30)).unwrap();
                            let use_it = move || generator.take(some).count();
                            match dice.below(3) {
                                0 => drop(timeout(Duration::from_micros(dice.below(500)), use_it)),
                                1 => drop(spawn_local(use_it).join()),
                                _ => drop(use_it()),
                            }
                        }
                    })
                })
                .collect();
            for task in &tasks {
                if random.below(3) == 0 {
                    std::thread::yield_now();
                    task.kill();
                }
            }
            for task in tasks {
                if let Err(e) = task.join() {
                    assert!(e.is_killed() || e.panic_message() == Some("body"), "{e}");
                }
            }
            while runtime.stats().live > 0 {
                std::thread::yield_now();
            }
            runtime.run(|| assert_eq!(generators(), 0));
            assert!(begun.load(SeqCst) > 500, "{begun:?}");
            assert_eq!(begun.load(SeqCst), ended.load(SeqCst));
            assert_eq!(runtime.shutdown(Duration::from_secs(20)), 0);
        }
    });
}

#[test]
fn between_tasks_of_other_primitives() {
    in_tasks("between_tasks_of_other_primitives", || {
        // A body that waits for an event that the consumer of another generator sets.
        let event = Arc::new(Event::new());
        let set = event.clone();
        let waits = spawn(move || {
            Generator::new(move |y| {
                event.wait();
                y.yield_(1);
            })
            .sum::<i32>()
        });
        let mut sets = Generator::new(move |y| {
            yield_now();
            set.set();
            y.yield_(2);
        });
        assert_eq!((sets.next(), waits.join().unwrap()), (Some(2), 1));
    });
}
