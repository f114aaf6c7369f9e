//! Cancel tokens: the tree, those who wait, code that is unwound, tasks that are killed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous};
use sward_runtime::{
    Builder, CancelToken, Cancelled, JoinHandle, Runtime, current, join_all, park, park_timeout,
    select, shield, sleep, spawn, timeout, yield_now,
};

const FOR_EVER: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

fn run(workers: usize, f: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(workers).build().unwrap().run(f);
}

/// On an ordinary thread, and in tasks of one worker and of two.
fn everywhere(name: &str, check: impl Fn() + Send + Sync + Clone + 'static) {
    within(name, || {
        check();
        run(1, check.clone());
        run(2, check);
    });
}

#[test]
fn the_tree() {
    everywhere("the_tree", || {
        let root = CancelToken::new();
        let (left, right) = (root.child(), root.child());
        let leaf = left.child();
        assert!(
            ![&root, &left, &right, &leaf]
                .iter()
                .any(|t| t.is_cancelled())
        );
        left.cancel();
        left.cancel();
        assert!(left.is_cancelled() && leaf.is_cancelled());
        assert!(!root.is_cancelled() && !right.is_cancelled());
        assert!(left.child().is_cancelled() && left.child().child().is_cancelled());
        // A node in the middle that nobody has any more.
        let far = right.child().child().child();
        drop(right);
        root.clone().cancel();
        assert!(far.is_cancelled() && root.is_cancelled());
        assert!(format!("{far:?}").contains("cancelled: true"));
        // Deep and wide: no stack holds it, and no list is left behind.
        let root = CancelToken::default();
        let mut deep = root.child();
        for _ in 0..100_000 {
            deep = deep.child();
        }
        let wide: Vec<_> = (0..10_000).map(|_| root.child()).collect();
        root.cancel();
        assert!(deep.is_cancelled() && wide.iter().all(CancelToken::is_cancelled));
        drop(root);
        drop(deep);
        let root = CancelToken::new();
        let mut deep = root.child();
        for _ in 0..100_000 {
            deep = deep.child();
        }
        drop(deep);
        root.cancel();
    });
}

#[test]
fn waiting() {
    everywhere("waiting", || {
        let token = CancelToken::new();
        assert!(!token.wait_timeout(SHORT) && !token.wait_deadline(Instant::now()));
        let child = token.child();
        let waits = spawn(move || child.wait());
        let arm = token.clone();
        let selects = spawn(move || {
            select! { () = arm.cancelled() => {} }
            arm.is_cancelled()
        });
        yield_now();
        token.cancel();
        waits.join().unwrap();
        assert!(selects.join().unwrap());
        token.wait();
        assert!(token.wait_timeout(Duration::ZERO));
    });
}

/// Every kind of wait is unwound, and `run` says so.
#[test]
fn run_unwinds_waits() {
    everywhere("run_unwinds_waits", || {
        for how in 0..10 {
            let token = CancelToken::new();
            let ready = Arc::new(Event::new());
            let dropped = Arc::new(AtomicBool::new(false));
            struct Sets(Arc<AtomicBool>);
            impl Drop for Sets {
                fn drop(&mut self) {
                    self.0.store(true, SeqCst);
                }
            }
            let canceller = {
                let (token, ready) = (token.clone(), ready.clone());
                spawn(move || {
                    ready.wait();
                    yield_now();
                    token.cancel();
                })
            };
            let sets = Sets(dropped.clone());
            let result = token.run(|| {
                let _sets = sets;
                ready.set();
                match how {
                    0 => park(),
                    1 => sleep(FOR_EVER),
                    2 => Event::new().wait(),
                    3 => drop(rendezvous::<()>().1.recv()),
                    4 => {
                        let (_sender, receiver) = rendezvous::<()>();
                        drop(receiver.recv());
                    }
                    5 => {
                        let mutex = Mutex::new(());
                        let _held = mutex.lock();
                        drop(mutex.lock());
                    }
                    6 => drop(spawn(park).join()),
                    7 => {
                        let event = Event::new();
                        select! { () = event.waiting() => {} }
                    }
                    8 => loop {
                        yield_now();
                    },
                    _ => drop(park_timeout(FOR_EVER)),
                }
                if how == 3 {
                    // Closed: it ended by itself.
                    park();
                }
            });
            assert_eq!(result, Err(Cancelled), "{how}");
            assert!(dropped.load(SeqCst));
            canceller.join().unwrap();
            // The next wait of the same task or thread is a good one.
            assert!(!Event::new().wait_timeout(Duration::from_micros(100)));
            assert!(!park_timeout(Duration::from_micros(100)));
            let (sender, receiver) = bounded(1);
            spawn(move || sender.send(7).unwrap());
            assert_eq!(receiver.recv(), Ok(7));
        }
    });
}

#[test]
fn run_and_who_wins() {
    everywhere("run_and_who_wins", || {
        let token = CancelToken::new();
        assert_eq!(token.run(|| 7), Ok(7));
        // The closure returns first, though it cancels its own token.
        assert_eq!(token.run(|| token.cancel()), Ok(()));
        // Cancelled before: not run at all.
        let ran = AtomicBool::new(false);
        assert_eq!(token.run(|| ran.store(true, SeqCst)), Err(Cancelled));
        assert!(!ran.into_inner());
        // By itself, and then a park.
        let token = CancelToken::new();
        let result = token.run(|| {
            token.cancel();
            yield_now();
            sleep(Duration::from_micros(1));
        });
        assert_eq!(result, Err(Cancelled));
        // Nested: each knows its own, and time-outs theirs.
        let (outer, inner) = (CancelToken::new(), CancelToken::new());
        let result = outer.run(|| {
            inner.run(|| {
                inner.cancel();
                sleep(FOR_EVER);
            })
        });
        assert_eq!(result, Ok(Err(Cancelled)));
        let inner = CancelToken::new();
        let result = outer.run(|| {
            inner.run(|| {
                outer.cancel();
                inner.cancel();
                sleep(FOR_EVER);
            })
        });
        assert_eq!(result, Err(Cancelled));
        let token = CancelToken::new();
        assert!(timeout(SHORT, || token.run(|| sleep(FOR_EVER))).is_err());
        assert_eq!(
            token.run(|| timeout(SHORT, || sleep(FOR_EVER)).is_err()),
            Ok(true)
        );
        let result = token.run(|| {
            timeout(FOR_EVER, || {
                token.cancel();
                sleep(FOR_EVER);
            })
        });
        assert!(result.is_err());
        // Panics pass through.
        let token = CancelToken::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| token.run(|| panic!("mine"))));
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "mine");
        // Swallowed: raised again; returned after that: the value counts.
        let token = CancelToken::new();
        let result = token.run(|| {
            token.cancel();
            let swallowed = (0..3).filter(|_| catch_unwind(|| sleep(FOR_EVER)).is_err());
            swallowed.count()
        });
        assert_eq!(result, Ok(3));
    });
}

#[test]
fn a_shield_holds_it_back() {
    everywhere("a_shield_holds_it_back", || {
        let token = CancelToken::new();
        let done = AtomicBool::new(false);
        let result = token.run(|| {
            shield(|| {
                token.cancel();
                sleep(Duration::from_micros(100));
                // One that began under the shield is not masked by it.
                let inner = token.child();
                assert_eq!(inner.run(|| sleep(FOR_EVER)), Err(Cancelled));
                done.store(true, SeqCst);
            });
            sleep(FOR_EVER);
        });
        assert_eq!((result, done.into_inner()), (Err(Cancelled), true));
    });
}

#[test]
fn tasks_of_a_token() {
    everywhere("tasks_of_a_token", || {
        let token = CancelToken::new();
        let (ends, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        struct Tally(Arc<AtomicUsize>);
        impl Drop for Tally {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let start = |token: &CancelToken, ran: &Arc<AtomicUsize>| {
            let (tally, ran) = (Tally(ends.clone()), ran.clone());
            token.spawn(move || {
                let _tally = tally;
                ran.fetch_add(1, SeqCst);
                park();
            })
        };
        // The child token is held by its tasks alone.
        let mut tasks: Vec<_> = (0..50).map(|_| start(&token.child(), &ran)).collect();
        tasks.extend((0..50).map(|_| start(&token, &ran)));
        drop((0..50).map(|_| start(&token, &ran)).collect::<Vec<_>>());
        until(|| ran.load(SeqCst) == 150);
        assert_eq!(token.spawn(|| 7).join().unwrap(), 7);
        token.cancel();
        assert!(
            join_all(tasks)
                .into_iter()
                .all(|r| r.unwrap_err().is_killed())
        );
        until(|| ends.load(SeqCst) == 150);
        // Too late.
        assert!(start(&token, &ran).join().unwrap_err().is_killed());
        assert_eq!(ran.load(SeqCst), 150);
        let named = token.spawn_with(Builder::new().name("late"), || ());
        assert!(named.unwrap().join().unwrap_err().is_killed());
        // A task that cancels its own token goes with the others.
        let token = CancelToken::new();
        let other = start(&token, &ran);
        let own = token.clone();
        let task = token.spawn(move || {
            own.cancel();
            unreachable!();
        });
        let task: JoinHandle<()> = task;
        assert!(task.join().unwrap_err().is_killed());
        assert!(other.join().unwrap_err().is_killed());
        // Dropped, it cancels nothing.
        let token = CancelToken::new();
        let task = token.spawn(park);
        drop(token);
        task.task().unpark();
        assert!(task.join().is_ok());
    });
}

#[test]
fn killed_inside_run() {
    everywhere("killed_inside_run", || {
        let token = CancelToken::new();
        let own = token.clone();
        let task = spawn(move || own.run(park));
        yield_now();
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        token.cancel();
    });
}

/// Cancels that race with code that begins and ends, on two workers and on threads: what comes out
/// is a value or `Cancelled`, later waits are never disturbed, and everybody is reached.
#[test]
fn storm() {
    within("storm", || {
        for seed in 0..6 {
            let runtime = Arc::new(Runtime::builder().workers(2).build().unwrap());
            let root = CancelToken::new();
            let slot = Arc::new(Mutex::new(root.child()));
            let stop = Arc::new(AtomicBool::new(false));
            let canceller = {
                let (root, slot, stop) = (root.clone(), slot.clone(), stop.clone());
                runtime.spawn(move || {
                    let mut random = Random::new(seed);
                    while !stop.load(SeqCst) {
                        let fresh = root.child();
                        let old = std::mem::replace(&mut *slot.lock(), fresh);
                        (0..random.below(20)).for_each(|_| yield_now());
                        old.cancel();
                        sleep(Duration::from_micros(random.below(40)));
                    }
                })
            };
            let drivers: Vec<_> = (0..6)
                .map(|k| {
                    let slot = slot.clone();
                    let drive = move || {
                        let mut random = Random::new(seed * 10 + k);
                        let mut cancelled = 0;
                        for _ in 0..300 {
                            let token = slot.lock().clone();
                            let how = random.below(6);
                            let result = token.run(|| match how {
                                0 => sleep(Duration::from_micros(20)),
                                1 => token.wait(),
                                2 => yield_now(),
                                3 => drop(token.spawn(park).join()),
                                4 => drop(token.child().run(|| sleep(FOR_EVER))),
                                _ => park(),
                            });
                            if result.is_err() {
                                cancelled += 1;
                                assert!(token.is_cancelled());
                            }
                            let begun = Instant::now();
                            sleep(Duration::from_micros(5));
                            assert!(begun.elapsed() >= Duration::from_micros(5));
                            assert!(!Event::new().wait_timeout(Duration::from_micros(5)));
                        }
                        cancelled
                    };
                    if k < 4 {
                        let task = runtime.spawn(drive);
                        Box::new(move || task.join().unwrap()) as Box<dyn FnOnce() -> i32>
                    } else {
                        let thread = std::thread::spawn(drive);
                        Box::new(move || thread.join().unwrap())
                    }
                })
                .collect();
            let cancelled: i32 = drivers.into_iter().map(|join| join()).sum();
            assert!(cancelled > 0);
            stop.store(true, SeqCst);
            canceller.join().unwrap();
            assert!(!root.is_cancelled());
        }
        assert_eq!(current().id(), 0);
    });
}
