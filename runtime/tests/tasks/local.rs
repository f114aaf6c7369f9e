//! Task-locals: each task its own, inherited where asked, gone before the join returns.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::common::within;
use sward_runtime::sync::{Mutex, bounded};
use sward_runtime::{
    AccessError, Builder, Group, Pool, Runtime, current, join_all, on_switch, park, scope, sleep,
    spawn, spawn_after, spawn_local, task_local, yield_now,
};

fn run(workers: usize, f: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(workers).build().unwrap().run(f);
}

fn everywhere(name: &str, check: impl Fn() + Send + Sync + Clone + 'static) {
    within(name, || {
        std::thread::scope(|s| {
            s.spawn(&check);
        });
        run(1, check.clone());
        run(2, check);
    });
}

task_local! {
    static NUMBER: Cell<u64> = Cell::new(7);
    static TEXT: RefCell<String> = RefCell::new("new".to_owned());
    /// Not `Send`.
    static SHARED: Rc<Cell<u32>> = Rc::default();
    static REQUEST: RefCell<Vec<u32>> = RefCell::default(), inherit;
    static DEPTH: Cell<u32> = Cell::new(0), inherit
}

#[test]
fn each_task_has_its_own() {
    everywhere("each_task_has_its_own", || {
        assert_eq!(
            (NUMBER.get(), TEXT.with_borrow(String::clone)),
            (7, "new".to_owned())
        );
        NUMBER.set(1);
        let tasks = (0..100).map(|i| {
            spawn(move || {
                assert_eq!(NUMBER.get(), 7);
                NUMBER.set(i);
                SHARED.with(|n| n.set(n.get() + 1));
                for _ in 0..5 {
                    yield_now();
                    assert_eq!(NUMBER.get(), i);
                    assert_eq!(SHARED.with(|n| n.get()), 1);
                }
                (NUMBER.replace(3), NUMBER.take(), NUMBER.get())
            })
        });
        for (i, result) in join_all(tasks.collect::<Vec<_>>()).into_iter().enumerate() {
            assert_eq!(result.unwrap(), (i as u64, 3, 0));
        }
        assert_eq!(NUMBER.get(), 1);
        TEXT.with_borrow_mut(|text| text.push('!'));
        assert_eq!(TEXT.replace("b".into()), "new!");
        assert_eq!((TEXT.take(), TEXT.take()), ("b".to_owned(), String::new()));
        // A park inside `with`.
        let task = spawn(|| {
            SHARED.with(|n| {
                n.set(5);
                yield_now();
                SHARED.with(|again| assert_eq!(again.get(), n.get()));
            });
        });
        spawn(|| SHARED.with(|n| n.set(9))).join().unwrap();
        task.join().unwrap();
        assert!(format!("{NUMBER:?}").contains("LocalKey"));
    });
}

/// Says when it goes, and what it can see then.
struct Tells(&'static str, Arc<Mutex<Vec<String>>>);

impl Drop for Tells {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            yield_now();
        }
        let number = NUMBER.try_with(Cell::get);
        let late = LATE.try_with(|_| ());
        self.1
            .lock()
            .push(format!("{} {number:?} {late:?}", self.0));
    }
}

task_local! {
    static FIRST: RefCell<Option<Tells>> = RefCell::new(None);
    static SECOND: RefCell<Option<Tells>> = RefCell::new(None);
    static LATE: u32 = 1;
}

/// On the task's own stack, before the join returns, the last made first; also after a panic and
/// after a kill.
#[test]
fn values_go_with_the_task() {
    within("values_go_with_the_task", || {
        for workers in [1, 2] {
            run(workers, || {
                for how in 0..3 {
                    let log = Arc::new(Mutex::new(Vec::new()));
                    let told = log.clone();
                    let task = spawn(move || {
                        FIRST.set(Some(Tells("first", told.clone())));
                        NUMBER.set(1);
                        SECOND.set(Some(Tells("second", told)));
                        match how {
                            0 => {}
                            1 => panic!("on purpose"),
                            _ => park(),
                        }
                    });
                    if how == 2 {
                        yield_now();
                        task.kill();
                    }
                    assert_eq!(task.join().is_ok(), how == 0);
                    let log = log.lock().clone();
                    let wanted = [
                        "second Ok(1) Err(AccessError)",
                        "first Err(AccessError) Err(AccessError)",
                    ];
                    assert_eq!(log, wanted, "{how}");
                }
            });
        }
    });
}

#[test]
fn too_late() {
    within("too_late", || {
        run(1, || {
            struct Looks(Arc<Mutex<Option<Result<u64, AccessError>>>>);
            impl Drop for Looks {
                fn drop(&mut self) {
                    *self.0.lock() = Some(NUMBER.try_with(Cell::get));
                    assert!(catch_unwind(|| NUMBER.get()).is_err());
                }
            }
            for used in [false, true] {
                // A result that nobody takes is dropped after the values.
                let seen = Arc::new(Mutex::new(None));
                let looks = Looks(seen.clone());
                let task = spawn(move || {
                    if used {
                        NUMBER.set(1);
                    }
                    looks
                });
                drop(task);
                (0..5).for_each(|_| yield_now());
                assert_eq!(*seen.lock(), Some(Err(AccessError)));
            }
            // A switch hook makes no new values at the end.
            let seen = Arc::new(Mutex::new(Vec::new()));
            let log = seen.clone();
            let task = spawn(move || {
                let mut out = 0;
                on_switch(
                    move || {
                        out += 1;
                        if out == 2 {
                            log.lock().push(NUMBER.try_with(Cell::get));
                        }
                    },
                    || {},
                );
                yield_now();
            });
            task.join().unwrap();
            assert_eq!(*seen.lock(), [Err(AccessError)]);
        });
    });
}

/// A destructor that panics keeps none of the others.
#[test]
fn a_bad_destructor() {
    within("a_bad_destructor", || {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        struct Counts(Arc<AtomicUsize>);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        task_local! {
            static COUNTS: RefCell<Option<Counts>> = RefCell::new(None);
            static BAD: RefCell<Option<Bad>> = RefCell::new(None);
        }
        run(1, || {
            let count = Arc::new(AtomicUsize::new(0));
            let counts = Counts(count.clone());
            let task = spawn(move || {
                COUNTS.set(Some(counts));
                BAD.set(Some(Bad));
                7
            });
            assert_eq!(task.join().unwrap(), 7);
            assert_eq!(count.load(SeqCst), 1);
        });
    });
}

#[test]
fn initialisers() {
    everywhere("initialisers", || {
        task_local! {
            // Makes another, parks, and makes itself.
            static TWICE: Cell<u32> = {
                NUMBER.set(NUMBER.get() + 1);
                yield_now();
                if NUMBER.get() == 8 {
                    TWICE.set(100);
                }
                Cell::new(1)
            };
            static PANICS: u32 = {
                NUMBER.set(NUMBER.get() + 10);
                assert!(NUMBER.get() > 30, "not yet");
                5
            };
        }
        let task = spawn(|| {
            // What was put there first stays.
            assert_eq!(TWICE.get(), 100);
            assert_eq!(TWICE.get(), 100);
            assert!(catch_unwind(|| PANICS.with(|n| *n)).is_err());
            assert!(catch_unwind(|| PANICS.with(|n| *n)).is_err());
            assert_eq!(PANICS.with(|n| *n), 5);
            // `set` runs no initialiser.
            task_local! {
                static NEVER: Cell<u32> = unreachable!();
            }
            NEVER.set(3);
            assert_eq!(NEVER.get(), 3);
        });
        task.join().unwrap();
        // A borrow is one as in std.
        let text = catch_unwind(AssertUnwindSafe(|| {
            TEXT.with_borrow(|_| TEXT.with_borrow_mut(|_| ()));
        }));
        assert!(text.is_err());
    });
}

#[test]
fn inherited() {
    within("inherited", || {
        for workers in [1, 2] {
            run(workers, move || {
                assert_eq!(spawn(|| DEPTH.get()).join().unwrap(), 0);
                DEPTH.set(1);
                REQUEST.with_borrow_mut(|r| r.push(1));
                NUMBER.set(1);
                let see = || (DEPTH.get(), REQUEST.with_borrow(Vec::clone), NUMBER.get());
                let wanted = (1, vec![1], 7);
                assert_eq!(spawn(see).join().unwrap(), wanted);
                assert_eq!(spawn_local(see).join().unwrap(), wanted);
                assert_eq!(
                    spawn_after(std::time::Duration::ZERO, see).join().unwrap(),
                    wanted
                );
                assert_eq!(
                    Builder::new().name("n").spawn(see).unwrap().join().unwrap(),
                    wanted
                );
                assert_eq!(Group::new().spawn(see).join().unwrap(), wanted);
                assert_eq!(Pool::new(1).spawn(see).join().unwrap(), wanted);
                assert_eq!(scope(|s| s.spawn(see).join()).unwrap(), wanted);
                let last = workers - 1;
                let there = Builder::new().on_worker(last).spawn(see).unwrap();
                assert_eq!(there.join().unwrap(), wanted);
                // A copy: neither sees what the other does later.
                let task = spawn(move || {
                    DEPTH.set(DEPTH.get() + 1);
                    let grandchild = spawn(move || {
                        REQUEST.with_borrow_mut(|r| r.push(2));
                        see()
                    });
                    (see(), grandchild.join().unwrap(), see())
                });
                DEPTH.set(50);
                REQUEST.take();
                let (before, grandchild, after) = task.join().unwrap();
                assert_eq!((before, after), ((2, vec![1], 7), (2, vec![1], 7)));
                assert_eq!(grandchild, (2, vec![1, 2], 7));
            });
        }
        // Not from ordinary threads.
        DEPTH.set(3);
        assert_eq!(spawn(|| DEPTH.get()).join().unwrap(), 0);
    });
}

/// What a task that never runs inherited goes with it, and a clone that panics stops the spawn.
#[test]
fn heritage_is_not_lost() {
    within("heritage_is_not_lost", || {
        struct Heir(Arc<AtomicUsize>, bool);
        impl Clone for Heir {
            fn clone(&self) -> Self {
                assert!(!self.1, "no clone");
                self.0.fetch_add(1, SeqCst);
                Self(self.0.clone(), false)
            }
        }
        impl Drop for Heir {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        task_local! {
            static HEIR: RefCell<Option<Heir>> = RefCell::new(None), inherit;
        }
        for workers in [1, 2] {
            let count = Arc::new(AtomicUsize::new(1));
            let counts = count.clone();
            let (tell, told) = bounded(1);
            run(workers, move || {
                HEIR.set(Some(Heir(counts.clone(), false)));
                let task = spawn(park);
                task.kill();
                assert!(task.join().unwrap_err().is_killed());
                assert_eq!(counts.load(SeqCst), 1);
                HEIR.with_borrow_mut(|heir| heir.as_mut().unwrap().1 = true);
                // The family hears nothing of the one that was not made.
                scope(|s| {
                    assert!(catch_unwind(AssertUnwindSafe(|| s.spawn(|| ()))).is_err());
                });
                let pool = Pool::new(1);
                assert!(catch_unwind(AssertUnwindSafe(|| pool.spawn(|| ()))).is_err());
                assert_eq!(pool.free_count(), 1);
                HEIR.with_borrow_mut(|heir| heir.as_mut().unwrap().1 = false);
                // Left unstarted at the end of the runtime.
                for _ in 0..100 {
                    spawn(|| sleep(std::time::Duration::MAX));
                }
                tell.send(current().id()).unwrap();
            });
            assert!(told.recv().unwrap() > 0);
            assert_eq!(count.load(SeqCst), 0);
        }
    });
}

#[test]
fn on_ordinary_threads() {
    within("on_ordinary_threads", || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let told = log.clone();
        NUMBER.set(50);
        std::thread::spawn(move || {
            assert_eq!(NUMBER.get(), 7);
            FIRST.set(Some(Tells("thread", told)));
            NUMBER.set(8);
        })
        .join()
        .unwrap();
        assert_eq!(NUMBER.get(), 50);
        assert_eq!(*log.lock(), ["thread Err(AccessError) Err(AccessError)"]);
    });
}
