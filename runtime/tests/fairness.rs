//! Nobody starves: timers, remote wakes, new tasks and other workers are served while tasks yield
//! or have always something to do.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sward_runtime::sync::{Event, Mutex, bounded, rendezvous, unbounded};
use sward_runtime::{Builder, JoinHandle, Runtime, join_all, sleep, spawn, yield_now};

/// The promise is 10 ms on an idle machine; tests share theirs.
const SOON: Duration = Duration::from_millis(100 * SLOWNESS);
/// How much slower than a release build this one is.
const SLOWNESS: u64 = match (cfg!(feature = "sanitizer"), cfg!(debug_assertions)) {
    (true, _) => 40,
    (_, true) => 4,
    _ => 1,
};
/// How many; fewer where each has a heavy stack (AddressSanitizer).
const MANY: usize = if cfg!(debug_assertions) {
    20_000
} else {
    100_000
};
/// For those woken from outside, who do not wait for the crowd.
const AT_ONCE: Duration = Duration::from_millis(10 * SLOWNESS);

/// One test at a time: each measures how late something is, and wants a processor or two.
fn within(name: &str, f: impl FnOnce()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    common::within(name, f);
}

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn compute(how_long: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < how_long {
        std::hint::spin_loop();
    }
}

/// The median of what 15 runs took: one pause of the machine does not count.
fn typical(mut run: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = (0..15).map(|_| run()).collect();
    all.sort_unstable();
    all[7]
}

/// A crowd that does `work` again and again until it is told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn new(n: usize, work: impl Fn() + Clone + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let tasks = (0..n).map(|_| {
            let (stop, begun, work) = (stop.clone(), begun.clone(), work.clone());
            spawn(move || {
                begun.fetch_add(1, SeqCst);
                while !stop.load(SeqCst) {
                    work();
                }
            })
        });
        let tasks = tasks.collect();
        while begun.load(SeqCst) < n {
            yield_now();
        }
        Self { stop, tasks }
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        join_all(self.tasks).into_iter().for_each(Result::unwrap);
    }
}

fn late_timer() -> Duration {
    typical(|| {
        let at = Instant::now() + Duration::from_millis(2);
        sward_runtime::sleep_until(at);
        at.elapsed()
    })
}

fn late_wake() -> Duration {
    typical(|| {
        let (tell, told) = rendezvous();
        let thread = std::thread::spawn(move || tell.send(Instant::now()).unwrap());
        let sent = told.recv().unwrap();
        let took = sent.elapsed();
        thread.join().unwrap();
        took
    })
}

#[test]
fn while_many_yield() {
    within("while_many_yield", || {
        runtime(1).run(move || {
            let crowd = Crowd::new(MANY, yield_now);
            let (timer, wake) = (late_timer(), late_wake());
            crowd.end();
            println!("timer {timer:?}, wake {wake:?}");
            assert!(timer < AT_ONCE, "a timer was {timer:?} late");
            assert!(wake < AT_ONCE, "a wake was {wake:?} late");
        });
    });
}

#[test]
fn new_tasks_start_while_ten_thousand_yield() {
    within("new_tasks_start_while_ten_thousand_yield", || {
        let runtime = Arc::new(runtime(1));
        let outside = runtime.clone();
        runtime.run(move || {
            let crowd = Crowd::new(10_000, yield_now);
            let new = typical(|| {
                let begun = Instant::now();
                spawn(move || begun.elapsed()).join().unwrap()
            });
            let injected = typical(|| {
                let outside = outside.clone();
                let thread = std::thread::spawn(move || {
                    let begun = Instant::now();
                    outside.spawn(move || begun.elapsed())
                });
                // The handle is there at once, and the task runs among the yielding.
                thread.join().unwrap().join().unwrap()
            });
            // Many at once go on at their own rate: 16 for 128 turns, not for a round of all.
            let begun = Instant::now();
            let many = (0..50_000).map(|_| spawn(|| ())).collect::<Vec<_>>();
            join_all(many);
            let many = begun.elapsed() / 50;
            crowd.end();
            println!("new {new:?}, injected {injected:?}, a thousand of many {many:?}");
            for (what, took) in [
                ("new", new),
                ("injected", injected),
                ("of a thousand", many),
            ] {
                assert!(took < SOON, "a start {what} took {took:?}");
            }
        });
    });
}

/// What a woken task has woken is not behind the crowd either.
#[test]
fn a_chain_of_wakes_does_not_wait_for_the_crowd() {
    within("a_chain_of_wakes_does_not_wait_for_the_crowd", || {
        runtime(1).run(|| {
            let crowd = Crowd::new(MANY / 2, yield_now);
            let late = typical(|| {
                let (first, last) = (unbounded::<Instant>(), unbounded::<Instant>());
                let (receiver, sender) = (first.1, last.0);
                let (ready, is_ready) = rendezvous();
                let relay = spawn(move || {
                    ready.send(()).unwrap();
                    for at in receiver {
                        sender.send(at).unwrap();
                        yield_now();
                    }
                });
                is_ready.recv().unwrap();
                let thread = std::thread::spawn(move || first.0.send(Instant::now()).unwrap());
                let late = last.1.recv().unwrap().elapsed();
                thread.join().unwrap();
                relay.join().unwrap();
                late
            });
            crowd.end();
            println!("{late:?}");
            assert!(late < AT_ONCE, "a chain of two wakes was {late:?} late");
        });
    });
}

/// What a task made ready runs before the task's own next turn, also if the task itself was woken
/// by a timer and has woken more than one batch.
#[test]
fn those_woken_run_before_who_woke_them() {
    within("those_woken_run_before_who_woke_them", || {
        runtime(1).run(|| {
            for n in [1, 90, 1000] {
                let (event, ran) = (Arc::new(Event::new()), Arc::new(AtomicUsize::new(0)));
                let waits: Vec<_> = (0..n)
                    .map(|_| {
                        let (event, ran) = (event.clone(), ran.clone());
                        spawn(move || {
                            event.wait();
                            ran.fetch_add(1, SeqCst);
                        })
                    })
                    .collect();
                while !format!("{event:?}").contains(&format!("waiting: {n} ")) {
                    yield_now();
                }
                // From here on the timer's turn.
                sleep(Duration::from_millis(1));
                event.set();
                yield_now();
                assert_eq!(ran.load(SeqCst), n);
                join_all(waits);
            }
        });
    });
}

/// Timers of a crowd come due all at once: others go on.
#[test]
fn while_many_timers_fire() {
    within("while_many_timers_fire", || {
        runtime(1).run(|| {
            let (sender, receiver) = unbounded::<Instant>();
            let at = Instant::now() + Duration::from_secs(2);
            let late = spawn(move || {
                let late = receiver.into_iter().filter(|sent| *sent > at);
                late.map(|sent| sent.elapsed()).collect::<Vec<_>>()
            });
            let tasks: Vec<_> = (0..MANY)
                .map(|_| spawn(move || sward_runtime::sleep_until(at)))
                .collect();
            let over = Arc::new(AtomicBool::new(false));
            let told = over.clone();
            let thread = std::thread::spawn(move || {
                while !told.load(SeqCst) {
                    sender.send(Instant::now()).unwrap();
                    sleep(Duration::from_micros(200));
                }
            });
            join_all(tasks);
            over.store(true, SeqCst);
            thread.join().unwrap();
            let mut late = late.join().unwrap();
            late.sort_unstable();
            let p90 = late[late.len() * 9 / 10];
            println!("{} messages, p90 {p90:?} late", late.len());
            assert!(p90 < AT_ONCE, "{p90:?}");
        });
    });
}

/// Tasks whose channel, lock or event is always ready yield now and then.
#[test]
fn who_always_has_something_to_do_yields() {
    within("who_always_has_something_to_do_yields", || {
        type Work = Box<dyn Fn() + Send>;
        let works: [fn() -> Work; 5] = [
            || {
                let (sender, receiver) = unbounded();
                Box::new(move || {
                    sender.send(1).unwrap();
                    receiver.recv().unwrap();
                })
            },
            || {
                let (sender, receiver) = bounded(1);
                Box::new(move || {
                    sender.send_timeout(1, SOON).unwrap();
                    receiver.recv_timeout(SOON).unwrap();
                })
            },
            || {
                let lock = Mutex::new(0);
                Box::new(move || *lock.lock() += 1)
            },
            || {
                let event = Event::new();
                event.set();
                Box::new(move || event.wait())
            },
            || Box::new(|| sleep(Duration::ZERO)),
        ];
        for (i, work) in works.into_iter().enumerate() {
            runtime(1).run(move || {
                let stop = Arc::new(AtomicBool::new(false));
                let told = stop.clone();
                let hog = spawn(move || {
                    let work = work();
                    while !told.load(SeqCst) {
                        work();
                    }
                });
                yield_now();
                let took = typical(|| {
                    let begun = Instant::now();
                    (0..10).for_each(|_| yield_now());
                    begun.elapsed()
                });
                stop.store(true, SeqCst);
                hog.join().unwrap();
                assert!(took < SOON, "ten turns beside hog {i} took {took:?}");
            });
        }
    });
}

/// A task that never yields stops its own worker only.
#[test]
fn who_never_yields_stops_only_its_worker() {
    within("who_never_yields_stops_only_its_worker", || {
        let runtime = runtime(2);
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let hog = runtime.spawn_with(Builder::new().on_worker(0), move || {
            while !told.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        let hog = hog.unwrap();
        let other = runtime.spawn_with(Builder::new().on_worker(1), || {
            let tasks = (0..1000).map(|i| {
                spawn(move || {
                    sleep(Duration::from_micros(i % 100));
                    yield_now();
                    i
                })
            });
            join_all(tasks).into_iter().map(Result::unwrap).sum::<u64>()
        });
        assert_eq!(other.unwrap().join().unwrap(), 999 * 500);
        // From outside: somebody else takes it.
        let tasks = (0..100).map(|i| runtime.spawn(move || i));
        assert_eq!(
            join_all(tasks).into_iter().map(Result::unwrap).sum::<u64>(),
            99 * 50
        );
        assert!(!hog.is_finished());
        stop.store(true, SeqCst);
        hog.join().unwrap();
    });
}

/// Slices of 1 ms make the batch shorter: a timer waits for few of them, not for a batch.
#[test]
fn long_slices_make_short_batches() {
    within("long_slices_make_short_batches", || {
        runtime(1).run(|| {
            let slice = Duration::from_millis(1);
            // A batch of 128 such slices would last for 128 ms.
            let crowd = Crowd::new(16, move || {
                compute(slice);
                yield_now();
            });
            sleep(Duration::from_millis(200));
            let late = typical(|| {
                let at = Instant::now() + Duration::from_millis(3);
                sward_runtime::sleep_until(at);
                at.elapsed()
            });
            crowd.end();
            // A slice until the clock is looked at, and a round of the sixteen.
            assert!(late < Duration::from_millis(60), "{late:?}");
        });
    });
}

/// A crowd of new tasks does not hold back those under way.
#[test]
fn new_tasks_do_not_hold_back_others() {
    within("new_tasks_do_not_hold_back_others", || {
        runtime(1).run(|| {
            let turns = Arc::new(AtomicUsize::new(0));
            let counts = turns.clone();
            let runs = spawn(move || {
                loop {
                    counts.fetch_add(1, SeqCst);
                    yield_now();
                }
            });
            yield_now();
            let tasks: Vec<_> = (0..10_000).map(|_| spawn(|| ())).collect();
            let before = turns.load(SeqCst);
            join_all(tasks);
            let had = turns.load(SeqCst) - before;
            assert!(had >= 10_000 / 64, "{had} turns beside 10,000 starts");
            runs.kill();
        });
    });
}
