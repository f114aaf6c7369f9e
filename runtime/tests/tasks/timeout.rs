//! Time-outs around code and of single calls: which one fires, where it is caught, what holds it
//! back, and that they work on ordinary threads, too.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous, unbounded};
use sward_runtime::{
    Runtime, TimedOut, current, join_all_timeout, park, park_timeout, shield, sleep, sleep_until,
    spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Runs `f` twice, as a task and on an ordinary thread: both must behave alike.
fn both(name: &str, f: impl Fn() + Send + Sync) {
    within(name, || {
        f();
        runtime(1).run(&f);
    });
}

/// Computes until `at`: what no time-out can interrupt.
fn busy_until(at: Instant) {
    while Instant::now() < at {
        std::hint::spin_loop();
    }
}

#[test]
fn around_every_wait() {
    both("around_every_wait", || {
        let mutex = Mutex::new(());
        let guard = mutex.lock();
        let event = Event::new();
        let (full, _keep) = bounded(1);
        full.send(0).unwrap();
        let (_keep, empty) = unbounded::<u8>();
        let (meets, meets_not) = rendezvous::<u8>();
        let other = spawn(park);
        let waits: [(&str, &dyn Fn()); 10] = [
            ("sleep", &|| sleep(LONG)),
            ("sleep for ever", &|| sleep(Duration::MAX)),
            ("park", &park),
            ("park_timeout", &|| drop(park_timeout(LONG))),
            ("lock", &|| drop(mutex.lock())),
            ("event", &|| event.wait()),
            ("send", &|| full.send(1).unwrap()),
            ("recv", &|| drop(empty.recv())),
            ("rendezvous send", &|| meets.send(1).unwrap()),
            ("rendezvous recv", &|| drop(meets_not.recv())),
        ];
        for (name, wait) in waits {
            let begun = Instant::now();
            assert_eq!(timeout(SHORT, wait), Err(TimedOut), "{name}");
            assert!(begun.elapsed() >= SHORT, "{name}: early");
        }
        let task = other.task();
        assert!(timeout(SHORT, || other.join()).is_err());
        task.kill();
        drop(guard);
        // The wait queues are as they were.
        drop(mutex.lock());
        event.set();
        event.wait();
        assert!(meets.try_send(1).is_err());
        assert!(meets_not.try_recv().is_err());
        assert!(empty.try_recv().is_err());
    });
}

#[test]
fn a_closure_that_ends_first_wins() {
    both("a_closure_that_ends_first_wins", || {
        assert_eq!(timeout(LONG, || 7), Ok(7));
        assert_eq!(timeout(Duration::ZERO, || 7), Ok(7));
        // Even if its time has passed meanwhile, as long as it does not park after that.
        let won = timeout(SHORT, || {
            busy_until(Instant::now() + SHORT * 2);
            7
        });
        assert_eq!(won, Ok(7));
        // And what it left behind does not fire later.
        for _ in 0..10 {
            yield_now();
        }
        sleep(SHORT * 2);
    });
}

#[test]
fn zero_and_huge() {
    both("zero_and_huge", || {
        assert_eq!(timeout(Duration::ZERO, || sleep(LONG)), Err(TimedOut));
        assert_eq!(timeout(Duration::ZERO, park), Err(TimedOut));
        assert_eq!(timeout(Duration::MAX, || sleep(SHORT)), Ok(()));
        assert_eq!(
            timeout(Duration::from_secs(u64::MAX / 2), || sleep(SHORT)),
            Ok(())
        );
        assert_eq!(
            timeout(Duration::from_secs(600 * 365 * 86_400), || sleep(SHORT)),
            Ok(())
        );
        assert!(!park_timeout(Duration::ZERO));
        assert!(!Event::new().wait_timeout(Duration::ZERO));
        sleep(Duration::ZERO);
        sleep_until(Instant::now() - SHORT);
        let mutex = Mutex::new(());
        assert!(
            mutex.lock_timeout(Duration::ZERO).is_ok(),
            "free: no time is needed"
        );
        assert!(mutex.lock_timeout(Duration::MAX).is_ok());
        let (sender, receiver) = bounded(1);
        sender.send_timeout(1, Duration::ZERO).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        assert!(receiver.recv_timeout(Duration::ZERO).is_err());
        sender.send_timeout(1, Duration::MAX).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(1));
    });
}

#[test]
fn nested_the_inner_one_fires() {
    both("nested_the_inner_one_fires", || {
        let outer = timeout(LONG, || {
            let inner = timeout(SHORT, || sleep(LONG));
            assert_eq!(inner, Err(TimedOut));
            sleep(SHORT);
            "the outer one goes on"
        });
        assert_eq!(outer, Ok("the outer one goes on"));
    });
}

#[test]
fn nested_the_outer_one_fires() {
    both("nested_the_outer_one_fires", || {
        let outer = timeout(SHORT, || {
            let inner: Result<(), TimedOut> = timeout(LONG, || sleep(LONG));
            unreachable!("the unwinding passes the inner frame: {inner:?}");
        });
        assert_eq!(outer, Err(TimedOut));
    });
}

#[test]
fn the_outermost_of_those_that_fired_comes_first() {
    both("the_outermost_of_those_that_fired_comes_first", || {
        let caught = AtomicUsize::new(0);
        // The inner one's time passes first, but when the task parks again both have passed.
        let outer = timeout(SHORT * 2, || {
            let middle = timeout(LONG, || {
                let inner = timeout(SHORT, || {
                    busy_until(Instant::now() + SHORT * 4);
                    sleep(LONG);
                });
                caught.fetch_add(1, SeqCst);
                inner
            });
            caught.fetch_add(1, SeqCst);
            middle
        });
        assert!(outer.is_err());
        assert_eq!(
            caught.load(SeqCst),
            0,
            "an inner frame took the outer one's time-out"
        );
    });
}

#[test]
fn a_result_of_the_inner_frame_is_not_taken_for_the_outer_one() {
    both(
        "a_result_of_the_inner_frame_is_not_taken_for_the_outer_one",
        || {
            // The inner closure ends in time although the outer time has passed: it won.
            let outer = timeout(SHORT, || {
                let inner = timeout(LONG, || {
                    busy_until(Instant::now() + SHORT * 2);
                    1
                });
                assert_eq!(inner, Ok(1));
                inner.unwrap() + 1
            });
            assert_eq!(outer, Ok(2));
        },
    );
}

#[test]
fn sticky_within_its_frame_and_gone_after_it() {
    both("sticky_within_its_frame_and_gone_after_it", || {
        let swallowed = AtomicUsize::new(0);
        let result = timeout(SHORT, || {
            for _ in 0..5 {
                if catch_unwind(|| sleep(LONG)).is_err() {
                    swallowed.fetch_add(1, SeqCst);
                }
            }
            sleep(LONG);
        });
        assert_eq!(result, Err(TimedOut));
        assert_eq!(swallowed.load(SeqCst), 5);
        // Gone: parks of all kinds work.
        sleep(SHORT);
        assert!(!Event::new().wait_timeout(SHORT));
        assert!(!park_timeout(SHORT));
        // A closure that swallows it and returns has won.
        let result = timeout(SHORT, || {
            let _ = catch_unwind(|| sleep(LONG));
            3
        });
        assert_eq!(result, Ok(3));
        sleep(SHORT);
        // Raised again by hand it arrives as well; raised outside of its frame it is a panic of
        // its own, which no other frame takes for its own.
        let result = timeout(SHORT, || {
            resume_unwind(catch_unwind(|| sleep(LONG)).unwrap_err())
        });
        assert_eq!(result, Err::<(), _>(TimedOut));
        let stray = AssertUnwindSafe(Mutex::new(None));
        let result = timeout(SHORT, || {
            let caught = catch_unwind(|| sleep(LONG)).unwrap_err();
            *stray.try_lock().unwrap() = Some(caught);
        });
        assert_eq!(result, Ok(()));
        let stray = stray.lock().take().unwrap();
        let escaped = catch_unwind(AssertUnwindSafe(|| timeout(LONG, || resume_unwind(stray))));
        assert!(escaped.is_err());
        let _: Result<Result<(), TimedOut>, _> = escaped;
    });
}

/// A loop that swallows a time-out for ever must not freeze its worker.
#[test]
fn swallowed_for_ever_lets_others_run() {
    within("swallowed_for_ever_lets_others_run", || {
        runtime(1).run(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let seen = stop.clone();
            let fired = Arc::new(Event::new());
            let tell = fired.clone();
            let task = spawn(move || {
                timeout(SHORT, || {
                    while !seen.load(SeqCst) {
                        if catch_unwind(|| sleep(LONG)).is_err() {
                            tell.set();
                        }
                    }
                })
            });
            fired.wait();
            for _ in 0..100 {
                yield_now();
            }
            stop.store(true, SeqCst);
            assert_eq!(task.join().unwrap(), Ok(()));
        });
    });
}

#[test]
fn a_shield_holds_it_back() {
    both("a_shield_holds_it_back", || {
        let passed = AtomicUsize::new(0);
        let result = timeout(SHORT, || {
            shield(|| {
                sleep(SHORT * 3);
                passed.fetch_add(1, SeqCst);
                shield(|| sleep(SHORT));
                passed.fetch_add(1, SeqCst);
                // One that is set inside works as ever.
                assert_eq!(timeout(SHORT, || sleep(LONG)), Err(TimedOut));
                // And is masked by an inner shield in turn.
                let inner = timeout(SHORT, || shield(|| sleep(SHORT * 2)));
                assert_eq!(inner, Ok(()));
                passed.fetch_add(1, SeqCst);
            });
            passed.fetch_add(1, SeqCst);
            sleep(LONG);
            unreachable!();
        });
        assert_eq!(result, Err(TimedOut));
        assert_eq!(passed.load(SeqCst), 4);
    });
}

#[test]
fn single_calls_give_values() {
    both("single_calls_give_values", || {
        let mutex = Mutex::new(1);
        let guard = mutex.lock();
        assert_eq!(mutex.lock_timeout(SHORT).map(|g| *g), Err(TimedOut));
        drop(guard);
        assert_eq!(mutex.lock_timeout(SHORT).map(|g| *g), Ok(1));

        let (sender, receiver) = bounded(1);
        assert_eq!(
            receiver.recv_timeout(SHORT).unwrap_err().to_string(),
            "the channel stayed empty until the time-out"
        );
        sender.send(1).unwrap();
        assert_eq!(sender.send_timeout(2, SHORT).unwrap_err().into_inner(), 2);
        assert_eq!(receiver.recv_timeout(SHORT), Ok(1));
        assert!(receiver.try_recv().is_err(), "what timed out was not sent");

        let event = Event::new();
        assert!(!event.wait_timeout(SHORT));
        event.set();
        assert!(event.wait_timeout(SHORT));

        let task = spawn(park);
        let who = task.task();
        let task = task.join_timeout(SHORT).unwrap_err();
        let task = task.join_deadline(Instant::now() + SHORT).unwrap_err();
        who.unpark();
        assert!(task.join_timeout(LONG).unwrap().is_ok());

        let tasks = [
            spawn(|| 1),
            spawn(|| {
                park();
                2
            }),
            spawn(|| 3),
        ];
        let slow = tasks[1].task();
        // Time enough for two that only have to be run.
        let mut results = join_all_timeout(tasks, Duration::from_millis(200));
        let late = results.remove(1).unwrap_err();
        assert!(results.into_iter().all(|r| r.is_ok_and(|r| r.is_ok())));
        slow.kill();
        assert!(late.join().unwrap_err().is_killed());

        let begun = Instant::now();
        assert!(!park_timeout(SHORT));
        assert!(begun.elapsed() >= SHORT);
        current().unpark();
        assert!(park_timeout(Duration::ZERO), "a permit needs no time");
    });
}

/// The time of one call and that of a frame around it: the earlier one decides.
#[test]
fn a_single_call_within_a_frame() {
    both("a_single_call_within_a_frame", || {
        let mutex = Mutex::new(());
        let _guard = mutex.lock();
        let result = timeout(LONG, || mutex.lock_timeout(SHORT).is_err());
        assert_eq!(result, Ok(true));
        let result = timeout(SHORT, || mutex.lock_timeout(LONG).is_err());
        assert_eq!(result, Err(TimedOut));
        let result = timeout(SHORT, || Event::new().wait_timeout(LONG));
        assert_eq!(result, Err(TimedOut));
        let (sender, receiver) = unbounded::<()>();
        drop(sender);
        let result = timeout(SHORT, || receiver.recv_timeout(LONG).is_err());
        // An answer at once.
        assert_eq!(result, Ok(true));
    });
}

#[test]
fn a_kill_beats_it() {
    within("a_kill_beats_it", || {
        runtime(1).run(|| {
            let task = spawn(|| {
                timeout(SHORT, || {
                    let me = current();
                    shield(|| {
                        sleep(SHORT * 2);
                        me.kill();
                    });
                    sleep(LONG);
                })
            });
            assert!(task.join().unwrap_err().is_killed());
            // A kill that passes a frame is not taken for its time-out.
            let task = spawn(|| timeout(LONG, park));
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
        });
    });
}

#[test]
fn a_panic_passes_through() {
    both("a_panic_passes_through", || {
        let caught = catch_unwind(|| timeout(LONG, || panic!("mine")));
        assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "mine");
        sleep(SHORT);
        // Nothing of the frame is left.
        assert_eq!(timeout(SHORT, || sleep(LONG)), Err(TimedOut));
    });
}

#[test]
fn destructors_run_and_may_use_their_own() {
    struct Cleans<'a>(&'a AtomicUsize);
    impl Drop for Cleans<'_> {
        fn drop(&mut self) {
            // While it unwinds no time-out fires, and none is needed for what does not wait.
            assert_eq!(timeout(Duration::ZERO, || 1), Ok(1));
            self.0.fetch_add(1, SeqCst);
        }
    }
    both("destructors_run_and_may_use_their_own", || {
        let count = AtomicUsize::new(0);
        let result = timeout(SHORT, || {
            let _outer = Cleans(&count);
            let _ = timeout(LONG, || {
                let _inner = Cleans(&count);
                sleep(LONG);
            });
        });
        assert_eq!(result, Err(TimedOut));
        assert_eq!(count.load(SeqCst), 2);
    });
}

#[test]
fn a_value_that_arrives_with_it_is_kept() {
    within("a_value_that_arrives_with_it_is_kept", || {
        runtime(2).run(|| {
            // Values are handed over while time-outs fire: each is received once.
            let (sender, receiver) = rendezvous::<usize>();
            let sent = spawn(move || {
                let mut sent = 0;
                for i in 0..3000 {
                    if sender
                        .send_timeout(i, Duration::from_micros(i as u64 % 90))
                        .is_ok()
                    {
                        sent += 1;
                    }
                }
                sent
            });
            let received = spawn(move || {
                let mut got = 0;
                loop {
                    match timeout(Duration::from_micros(60), || receiver.recv()) {
                        Ok(Ok(_)) => got += 1,
                        Ok(Err(_)) => return got,
                        Err(TimedOut) => {}
                    }
                }
            });
            assert_eq!(sent.join().unwrap(), received.join().unwrap());
        });
    });
}

/// An ordinary thread's earlier wait may be woken late: that must not end the next one.
#[test]
fn a_late_wake_does_not_end_the_next_wait_of_a_thread() {
    within("a_late_wake_does_not_end_the_next_wait_of_a_thread", || {
        let runtime = runtime(2);
        let (sender, receiver) = rendezvous::<usize>();
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let feeders: Vec<_> = (0..2)
            .map(|_| {
                let (sender, stop) = (sender.clone(), stop.clone());
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        let _ = sender.send_timeout(1, Duration::from_micros(30));
                    }
                })
            })
            .collect();
        let mutex = Arc::new(Mutex::new(0));
        let event = Arc::new(Event::new());
        for _ in 0..3000 {
            let _ = receiver.recv_timeout(Duration::from_micros(30));
            // Waits without a deadline of their own, and with one.
            let (other, tell) = (mutex.clone(), event.clone());
            let task = runtime.spawn(move || {
                let mut guard = other.lock();
                yield_now();
                *guard += 1;
                tell.set();
            });
            event.wait();
            assert!(event.is_set());
            drop(mutex.lock());
            task.join().unwrap();
            event.clear();
            let begun = Instant::now();
            sleep(Duration::from_micros(50));
            assert!(
                begun.elapsed() >= Duration::from_micros(50),
                "a sleep was cut short"
            );
        }
        over.store(true, SeqCst);
        drop(receiver);
        for feeder in feeders {
            feeder.join().unwrap();
        }
    });
}

/// Many frames with nearly one deadline, more than are fired in one go: a frame that has ended
/// leaves no timer behind that points to its task's stack.
#[test]
fn crowds_of_nested_frames_leave_nothing_behind() {
    fn nest(depth: usize, at: Instant) -> bool {
        let left = at.saturating_duration_since(Instant::now());
        if depth == 0 {
            sleep(LONG);
        }
        // Which of them fired first, and where it was caught, is a matter of nanoseconds.
        timeout(left, || nest(depth - 1, at)).unwrap_or(true)
    }
    within("crowds_of_nested_frames_leave_nothing_behind", || {
        let runtime = runtime(1);
        runtime.run(|| {
            for (tasks, depth) in [(3000, 3), (40, 60), (10, 300)] {
                let at = Instant::now() + Duration::from_millis(20);
                let tasks = (0..tasks).map(|_| spawn(move || nest(depth, at)));
                let tasks: Vec<_> = tasks.collect();
                yield_now();
                busy_until(at + Duration::from_millis(10));
                // New tasks take over the stacks at once, with frames of their own.
                let others = || spawn(|| timeout(LONG, || (0..20).for_each(|_| yield_now())));
                for task in tasks {
                    assert!(task.join().unwrap());
                    assert_eq!(others().join().unwrap(), Ok(()));
                }
            }
            until(|| sward_runtime::stats().timers == 0);
        });
    });
}
