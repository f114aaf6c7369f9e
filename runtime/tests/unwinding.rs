//! What a task may do while it unwinds: it may not park, so each wait has a rule (design R10).
//! And panics in all the places where user code runs by itself.
//!
//! Waits that block the worker or abort are tried in a process of their own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous, unbounded};
use sward_runtime::{
    Builder, Exit, JoinError, Runtime, current, defer, dump, on_switch, on_worker_stack, park,
    park_timeout, shield, sleep, spawn, timeout, without_parking, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(5);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .unwind_wait(Duration::from_millis(300))
        .build()
        .unwrap()
}

fn alone(name: &str, f: impl FnOnce() + Send) {
    within(name, || runtime(1).run(f));
}

/// Runs its closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The three ways in which a task comes to unwind.
#[derive(Clone, Copy, Debug)]
enum By {
    Panic,
    Kill,
    TimeOut,
}

const WAYS: [By; 3] = [By::Panic, By::Kill, By::TimeOut];

/// Runs `f` in a destructor of a task that unwinds.
fn while_unwinding(by: By, f: impl FnMut() + Send + 'static) {
    let task = spawn(move || {
        let body = move || {
            let mut f = f;
            let _on_drop = OnDrop(move || {
                assert!(std::thread::panicking());
                f();
            });
            match by {
                By::Panic => panic_any("unwinds"),
                By::Kill => current().kill(),
                By::TimeOut => sleep(LONG),
            }
        };
        timeout(SHORT, body)
    });
    match (by, task.join()) {
        (By::Panic, Err(e)) => assert_eq!(e.panic_message(), Some("unwinds")),
        (By::Kill, Err(e)) => assert!(e.is_killed()),
        (By::TimeOut, Ok(Err(_))) => {}
        (by, end) => panic!("{by:?} ended with {end:?}"),
    }
}

#[test]
fn fallible_waits_are_refused() {
    alone("fallible_waits_are_refused", || {
        for by in WAYS {
            let done = Arc::new(AtomicBool::new(false));
            let tell = done.clone();
            let mutex = Arc::new(Mutex::new(()));
            let held = mutex.clone();
            let guard = mutex.lock();
            let other = spawn(park);
            let who = other.task();
            let mut other = Some(other);
            while_unwinding(by, move || {
                let (sender, receiver) = bounded(1);
                // What needs no waiting works.
                sender.send(1).unwrap();
                let refused = sender.send(2).unwrap_err();
                assert!(refused.to_string().contains("unwinds"), "{refused}");
                assert_eq!(refused.into_inner(), 2);
                let refused = sender.send_timeout(3, LONG).unwrap_err();
                assert!(refused.to_string().contains("unwinds"), "{refused}");
                assert_eq!(receiver.recv(), Ok(1));
                assert!(receiver.recv().unwrap_err().to_string().contains("unwinds"));
                let refused = receiver.recv_timeout(LONG).unwrap_err();
                assert!(refused.to_string().contains("unwinds"), "{refused}");
                let (sender, receiver) = rendezvous::<u8>();
                assert!(sender.send(1).is_err());
                assert!(receiver.recv().is_err());
                let (sender, receiver) = unbounded();
                sender.send(1).unwrap();
                assert_eq!(receiver.recv(), Ok(1));
                drop(sender);
                // Not refused, but answered.
                assert!(
                    receiver
                        .recv()
                        .unwrap_err()
                        .to_string()
                        .contains("no sender")
                );
                // Waits with a limit can fail, so they do; at once, for the limit is no reason to
                // block the worker.
                let begun = Instant::now();
                assert!(held.lock_timeout(LONG).is_err());
                assert!(!Event::new().wait_timeout(LONG));
                let handle = other.take().unwrap().join_timeout(LONG);
                drop(handle.unwrap_err());
                assert!(begun.elapsed() < Duration::from_secs(60));
                // A free lock is no wait.
                drop(Mutex::new(()).lock());
                drop(Mutex::new(()).lock_timeout(LONG).unwrap());
                // Nothing switches.
                yield_now();
                // Sight works.
                assert!(!dump().tasks().is_empty());
                tell.store(true, SeqCst);
            });
            assert!(done.load(SeqCst), "{by:?}");
            drop(guard);
            who.kill();
        }
    });
}

#[test]
fn a_yield_does_nothing() {
    alone("a_yield_does_nothing", || {
        for by in WAYS {
            let ran = Arc::new(AtomicUsize::new(0));
            let (count, seen) = (ran.clone(), ran.clone());
            while_unwinding(by, move || {
                let before = seen.load(SeqCst);
                let count = count.clone();
                defer(move || {
                    count.fetch_add(1, SeqCst);
                });
                for _ in 0..1000 {
                    yield_now();
                }
                assert_eq!(seen.load(SeqCst), before, "another task ran");
            });
            until(|| ran.load(SeqCst) == 1);
        }
    });
}

#[test]
fn deferred_clean_up_may_wait() {
    alone("deferred_clean_up_may_wait", || {
        for by in WAYS {
            let (sender, receiver) = rendezvous();
            while_unwinding(by, move || {
                let sender = sender.clone();
                defer(move || {
                    sleep(SHORT);
                    sender.send("cleaned").unwrap();
                });
            });
            assert_eq!(receiver.recv(), Ok("cleaned"));
        }
    });
}

#[test]
fn other_tasks_are_not_seen_as_unwinding() {
    alone("other_tasks_are_not_seen_as_unwinding", || {
        for by in WAYS {
            while_unwinding(by, || ());
            assert!(!std::thread::panicking());
            spawn(|| assert!(!std::thread::panicking())).join().unwrap();
        }
        // A panic that is caught in a destructor, and one after it.
        while_unwinding(By::Kill, || {
            assert!(catch_unwind(|| panic!("inside")).is_err());
        });
        sleep(SHORT);
    });
}

// ---- waits that cannot fail -------------------------------------------------------------------

const ROLE: &str = "SWARD_TEST_ROLE";

/// A child that blocks or aborts in the role that the environment names.
fn role(by: By) {
    let role = std::env::var(ROLE).unwrap();
    let patience = match role.contains("lock held by") || role.contains("another") {
        true if !role.contains("this worker") => Duration::from_secs(20),
        _ => Duration::from_millis(300),
    };
    let runtime = Runtime::builder()
        .workers(2)
        .unwind_wait(patience)
        .build()
        .unwrap();
    let on = |n: usize, name: &str| Builder::new().on_worker(n).name(name);
    let mutex = Arc::new(Mutex::new(0));
    let (held, free) = (Arc::new(Event::new()), Arc::new(Event::new()));
    // A holder on the given worker, which lets go once `free` is set.
    let holder = |n: usize| {
        let (mutex, held, free) = (mutex.clone(), held.clone(), free.clone());
        let task = runtime.spawn_with(on(n, "holder"), move || {
            let mut guard = mutex.lock();
            held.set();
            free.wait();
            *guard = 1;
        });
        held_by(&task.unwrap())
    };
    let unwind = |f: Box<dyn FnMut() + Send>| {
        let task = runtime.spawn_with(on(0, "starter"), move || while_unwinding_here(by, f));
        task.unwrap().join().unwrap();
    };
    let m = mutex.clone();
    match role.as_str() {
        "lock held by a task of another worker" => {
            let _ = holder(1);
            held.wait();
            let f = free.clone();
            unwind(Box::new(move || {
                let (f, seen) = (f.clone(), m.clone());
                // The holder goes on while this worker is blocked.
                std::thread::spawn(move || {
                    until(|| format!("{seen:?}").contains("waiting: 1"));
                    f.set();
                });
                assert_eq!(*m.lock(), 1);
            }));
        }
        "lock held by a thread" => {
            let guard = mutex.lock();
            std::thread::scope(|s| {
                s.spawn(|| unwind(Box::new(move || drop(m.lock()))));
                until(|| format!("{mutex:?}").contains("waiting: 1"));
                drop(guard);
            });
        }
        "join of a task of another worker" => {
            let other = Builder::new().on_worker(1);
            let mut other = Some(runtime.spawn_with(other, || sleep(SHORT)).unwrap());
            unwind(Box::new(move || other.take().unwrap().join().unwrap()));
        }
        "event set by another worker" => {
            let event = Arc::new(Event::new());
            let e = event.clone();
            unwind(Box::new(move || {
                let event = event.clone();
                defer_to(1, move || event.set());
                e.wait();
            }));
        }
        "short sleep" => unwind(Box::new(|| sleep(SHORT))),
        // From here on: aborts.
        "lock held by a task of this worker" => {
            let _ = holder(0);
            held.wait();
            unwind(Box::new(move || drop(m.lock())));
        }
        "lock never released" => {
            let _ = holder(1);
            held.wait();
            unwind(Box::new(move || drop(m.lock())));
        }
        "join of a task of this worker" => {
            let mut other = Some(runtime.spawn_with(on(0, "joined"), park).unwrap());
            until(|| runtime.stats().live == 1);
            unwind(Box::new(move || drop(other.take().unwrap().join())));
        }
        "join that never ends" => {
            let mut other = Some(runtime.spawn_with(on(1, "joined"), park).unwrap());
            until(|| runtime.stats().live == 1);
            unwind(Box::new(move || drop(other.take().unwrap().join())));
        }
        "event never set" => unwind(Box::new(|| Event::new().wait())),
        "long sleep" => unwind(Box::new(|| sleep(LONG))),
        "sleep for ever" => unwind(Box::new(|| sleep(Duration::MAX))),
        "park" => unwind(Box::new(park)),
        "park_timeout" => unwind(Box::new(|| drop(park_timeout(SHORT)))),
        other => unreachable!("{other}"),
    }
}

fn held_by<T>(task: &sward_runtime::JoinHandle<T>) -> u64 {
    task.id()
}

fn defer_to(worker: usize, f: impl FnOnce() + Send + 'static) {
    drop(Builder::new().on_worker(worker).spawn(f).unwrap());
}

/// As `while_unwinding`, on the calling task's worker.
fn while_unwinding_here(by: By, f: Box<dyn FnMut() + Send>) {
    let task = Builder::new().name("waiter").spawn_local(move || {
        let body = move || {
            let _on_drop = OnDrop(f);
            match by {
                By::Panic => panic_any("unwinds"),
                By::Kill => current().kill(),
                By::TimeOut => sleep(LONG),
            }
        };
        drop(timeout(SHORT, body));
    });
    drop(task.unwrap().join());
}

fn by_environment() -> By {
    match std::env::var("SWARD_TEST_BY").unwrap().as_str() {
        "Panic" => By::Panic,
        "Kill" => By::Kill,
        _ => By::TimeOut,
    }
}

/// Waits that cannot fail block the worker, are told of at once, and succeed.
#[test]
fn infallible_waits_block_and_are_told() {
    let name = "infallible_waits_block_and_are_told";
    if is_child() {
        return role(by_environment());
    }
    within(name, || {
        let cases = [
            ("lock held by a task of another worker", "waits for mutex"),
            ("lock held by a thread", "waits for mutex"),
            // These may have come by the time the destructor runs.
            ("join of a task of another worker", ""),
            ("event set by another worker", ""),
            ("short sleep", "sleeps while it unwinds"),
        ];
        for (role, says) in cases {
            for by in WAYS {
                let by = format!("{by:?}");
                let out = rerun(name, &[(ROLE, role), ("SWARD_TEST_BY", &by)]);
                assert_passed(&out);
                let text = stderr(&out);
                assert!(text.contains(says), "{role}: {text}");
                let names = text.contains("'waiter'") && text.contains("worker 0");
                assert!(names || says.is_empty(), "{role}: {text}");
            }
        }
    });
}

/// Waits that can never succeed abort, naming what, who and by whom.
#[test]
fn hopeless_waits_abort_and_say_why() {
    let name = "hopeless_waits_abort_and_say_why";
    if is_child() {
        return role(by_environment());
    }
    within(name, || {
        let cases: [(&str, &[&str]); 9] = [
            (
                "lock held by a task of this worker",
                &["mutex", "held by task", "same, blocked worker"],
            ),
            (
                "lock never released",
                &["mutex", "held by task", "did not get it within 300ms"],
            ),
            (
                "join of a task of this worker",
                &["join of task", "same, blocked worker"],
            ),
            (
                "join that never ends",
                &["join of task", "did not get it within"],
            ),
            ("event never set", &["event", "did not get it within"]),
            ("long sleep", &["sleep", "longer than unwind_wait"]),
            ("sleep for ever", &["sleep", "longer than unwind_wait"]),
            ("park", &["park() in a task that unwinds"]),
            ("park_timeout", &["park() in a task that unwinds"]),
        ];
        for (role, says) in cases {
            for by in [By::Panic, By::Kill] {
                let by = format!("{by:?}");
                let out = rerun(name, &[(ROLE, role), ("SWARD_TEST_BY", &by)]);
                let text = stderr(&out);
                assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{role}: {text}");
                for what in says {
                    assert!(text.contains(what), "{role}: {what} is missing:\n{text}");
                }
                if !role.starts_with("park") {
                    assert!(text.contains("'waiter'"), "{role}: {text}");
                }
            }
        }
    });
}

/// The waiter that unwinds is served before those in line.
#[test]
fn the_one_that_unwinds_is_first_in_line() {
    let name = "the_one_that_unwinds_is_first_in_line";
    if !is_child() {
        within(name, || assert_passed(&rerun(name, &[])));
        return;
    }
    let runtime = runtime(2);
    let mutex = Arc::new(Mutex::new(Vec::new()));
    let guard = mutex.lock();
    let waits: Vec<_> = (0..3)
        .map(|i| {
            let mutex = mutex.clone();
            let on = Builder::new().on_worker(1);
            runtime
                .spawn_with(on, move || mutex.lock().push(i))
                .unwrap()
        })
        .collect();
    until(|| format!("{mutex:?}").contains("waiting: 3"));
    let m = mutex.clone();
    let unwinds = runtime.spawn_with(Builder::new().on_worker(0), move || {
        while_unwinding_here(By::Panic, Box::new(move || m.lock().push(100)));
    });
    until(|| format!("{mutex:?}").contains("waiting: 4"));
    drop(guard);
    unwinds.unwrap().join().unwrap();
    sward_runtime::join_all(waits);
    assert_eq!(*mutex.lock(), [100, 0, 1, 2]);
}

// ---- panics where user code runs by itself -----------------------------------------------------

#[test]
fn panics_reach_the_joiner() {
    alone("panics_reach_the_joiner", || {
        assert_eq!(
            spawn(|| panic!("static"))
                .join()
                .unwrap_err()
                .panic_message(),
            Some("static")
        );
        let end = spawn(|| panic!("{}", 5)).join();
        assert_eq!(end.unwrap_err().panic_message(), Some("5"));
        match spawn(|| panic_any(7u64)).join() {
            Err(JoinError::Panicked(payload)) => assert_eq!(*payload.downcast::<u64>().unwrap(), 7),
            other => panic!("{other:?}"),
        }
        // In a destructor of a local, at the normal end.
        let end = spawn(|| {
            let _on_drop = OnDrop(|| panic!("in drop"));
        });
        assert_eq!(end.join().unwrap_err().panic_message(), Some("in drop"));
        // The joiner can go on with it.
        let task = spawn(|| {
            let inner = spawn(|| panic!("inner")).join();
            let Err(e) = inner;
            e.resume()
        });
        let end: Result<(), _> = task.join();
        assert_eq!(end.unwrap_err().panic_message(), Some("inner"));
    });
}

#[test]
fn a_destructor_of_a_closure_that_never_ran() {
    alone("a_destructor_of_a_closure_that_never_ran", || {
        let bomb = OnDrop(|| panic!("never ran"));
        let task = spawn(move || drop(bomb));
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        yield_now();
    });
}

#[test]
fn a_destructor_of_an_unclaimed_result() {
    alone("a_destructor_of_an_unclaimed_result", || {
        // Detached before the end: dropped by the task.
        let count = Arc::new(AtomicUsize::new(0));
        for waits in [false, true] {
            let count = count.clone();
            drop(spawn(move || {
                OnDrop(move || {
                    count.fetch_add(1, SeqCst);
                    if waits {
                        // It is the task's last code: it may park.
                        sleep(SHORT);
                    }
                    panic!("unclaimed");
                })
            }));
        }
        until(|| count.load(SeqCst) == 2);
        // Ended before: dropped with the handle, where the panic belongs to whoever drops it.
        let task = spawn(|| OnDrop(|| panic!("late")));
        until(|| task.is_finished());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
        sleep(SHORT);
        // Killed in that last code.
        let (sender, receiver) = unbounded();
        let task = spawn(move || {
            OnDrop(move || {
                sender.send(current()).unwrap();
                park();
                unreachable!("killed");
            })
        });
        let hears = task.task();
        drop(task);
        let who = receiver.recv().unwrap();
        assert_eq!(who.id(), hears.id());
        who.kill();
        assert!(receiver.recv().is_err(), "the destructor was not unwound");
    });
}

/// A payload whose own destructor panics must not take the worker down.
#[test]
fn a_payload_that_panics_when_dropped() {
    struct Bomb(Arc<AtomicUsize>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic_any("the payload's own");
        }
    }
    alone("a_payload_that_panics_when_dropped", || {
        let count = Arc::new(AtomicUsize::new(0));
        let bomb = Bomb(count.clone());
        drop(spawn(move || panic_any(bomb)));
        until(|| count.load(SeqCst) == 1);
        // In the destructor of a result that nobody claims.
        let bomb = Bomb(count.clone());
        let mut bomb = Some(bomb);
        drop(spawn(move || OnDrop(move || panic_any(bomb.take()))));
        until(|| count.load(SeqCst) == 2);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn on_exit_tells_and_may_panic() {
    alone("on_exit_tells_and_may_panic", || {
        let (sender, receiver) = unbounded();
        let tell = |task: &sward_runtime::JoinHandle<()>| {
            let sender = sender.clone();
            task.on_exit(|_| panic!("a listener"));
            task.on_exit(move |exit| {
                sleep(SHORT);
                sender.send(exit).unwrap();
            });
        };
        let task = spawn(|| ());
        tell(&task);
        assert_eq!(receiver.recv(), Ok(Exit::Returned));
        tell(&task);
        assert_eq!(receiver.recv(), Ok(Exit::Returned), "after the end");
        let task = spawn(|| panic!("the task"));
        tell(&task);
        assert_eq!(receiver.recv(), Ok(Exit::Panicked));
        let task = spawn(park);
        tell(&task);
        task.kill();
        assert_eq!(receiver.recv(), Ok(Exit::Killed));
        drop(task);
    });
}

/// A switch hook that panics, parks or kills does not disturb the wait that it interrupts.
#[test]
fn switch_hooks_that_misbehave() {
    alone("switch_hooks_that_misbehave", || {
        let hooks: [fn(); 4] = [
            || panic!("a hook"),
            || sleep(LONG),
            || drop(unbounded::<()>().1.recv()),
            || current().kill(),
        ];
        for (i, hook) in hooks.into_iter().enumerate() {
            for out in [true, false] {
                let (sender, receiver) = rendezvous();
                let task = spawn(move || {
                    let hook = move || {
                        if !std::thread::panicking() {
                            hook();
                        }
                    };
                    match out {
                        true => on_switch(hook, || ()),
                        false => on_switch(|| (), hook),
                    }
                    let got = timeout(LONG, || receiver.recv());
                    sleep(SHORT);
                    got
                });
                yield_now();
                sender.send(i).unwrap();
                let end = task.join();
                match i {
                    3 => assert!(end.unwrap_err().is_killed()),
                    _ => assert_eq!(end.unwrap(), Ok(Ok(i))),
                }
            }
        }
        // A hook that sets hooks.
        let task = spawn(|| {
            on_switch(|| on_switch(|| (), || ()), || ());
            yield_now();
            yield_now();
            6
        });
        assert_eq!(task.join().unwrap(), 6);
    });
}

#[test]
fn panics_leave_shields_and_frames_behind() {
    alone("panics_leave_shields_and_frames_behind", || {
        let task = spawn(|| {
            for _ in 0..3 {
                assert!(catch_unwind(|| shield(|| panic!("1"))).is_err());
                assert!(catch_unwind(|| without_parking(|| panic!("2"))).is_err());
                assert!(catch_unwind(|| without_parking(|| sleep(LONG))).is_err());
                assert!(catch_unwind(|| on_worker_stack(|| panic!("3"))).is_err());
                assert!(catch_unwind(|| on_worker_stack(|| sleep(LONG))).is_err());
                let nested = || on_worker_stack(|| on_worker_stack(|| without_parking(|| 4)));
                assert_eq!(nested(), 4);
                assert!(catch_unwind(|| timeout(LONG, || panic!("5"))).is_err());
                sleep(SHORT);
            }
            park();
        });
        sleep(SHORT * 5);
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
    });
}

/// The value of a send that is refused by a panic is dropped after the channel's lock.
#[test]
fn a_refused_value_may_use_the_channel() {
    struct Uses(sward_runtime::sync::Sender<Option<Self>>, Arc<AtomicUsize>);
    impl Drop for Uses {
        fn drop(&mut self) {
            assert!(!self.0.is_disconnected());
            self.1.fetch_add(1, SeqCst);
        }
    }
    let name = "a_refused_value_may_use_the_channel";
    if !is_child() {
        within(name, || assert_passed(&rerun(name, &[])));
        return;
    }
    runtime(1).run(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = bounded(1);
        sender.send(None).unwrap();
        let value = Uses(sender.clone(), count.clone());
        let refused = catch_unwind(AssertUnwindSafe(|| {
            without_parking(|| sender.send(Some(value)).is_ok())
        }));
        assert!(refused.is_err());
        assert_eq!(count.load(SeqCst), 1);
        drop(receiver);
    });
}
