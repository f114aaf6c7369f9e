//! Kill: in every wait there is, from everywhere, and what it must not lose or skip.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Random, assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::sync::{Event, Mutex, Receiver, Sender, bounded, rendezvous, unbounded};
use sward_runtime::{
    Builder, Exit, JoinHandle, Runtime, TaskState, WaitKind, current, park, park_timeout, shield,
    sleep, spawn, spawn_after, spawn_local, timeout, without_parking, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);

/// Counts drops.
struct Tally(Arc<AtomicUsize>);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn tally() -> (Arc<AtomicUsize>, Tally) {
    let count = Arc::new(AtomicUsize::new(0));
    (count.clone(), Tally(count))
}

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Runs `f` as a task of a runtime with one worker, under a time limit.
fn alone(name: &str, f: impl FnOnce() + Send) {
    within(name, || runtime(1).run(f));
}

/// Gives way until the task is parked in a wait of that kind.
fn until_parked<T>(task: &JoinHandle<T>, kind: WaitKind) {
    let id = task.id();
    until(|| {
        assert!(!task.is_finished(), "it did not wait for {kind:?}");
        let tasks = sward_runtime::dump().tasks();
        tasks
            .iter()
            .any(|t| t.id == id && t.state == TaskState::Parked && t.reason.kind() == kind)
    });
}

/// A closure that uses one end of a channel keeps the other one, too.
fn whole<T>(ends: &(Sender<T>, Receiver<T>)) -> &(Sender<T>, Receiver<T>) {
    ends
}

/// Every way to wait that there is; each never ends by itself.
fn waits() -> Vec<(&'static str, WaitKind, Box<dyn FnOnce() + Send>)> {
    let mut all: Vec<(&'static str, WaitKind, Box<dyn FnOnce() + Send>)> = Vec::new();
    let mut add = |name, kind, f: Box<dyn FnOnce() + Send>| all.push((name, kind, f));
    add("sleep", WaitKind::Sleep, Box::new(|| sleep(LONG)));
    add(
        "sleep for ever",
        WaitKind::Sleep,
        Box::new(|| sleep(Duration::MAX)),
    );
    add("park", WaitKind::Park, Box::new(park));
    add(
        "park_timeout",
        WaitKind::Park,
        Box::new(|| drop(park_timeout(LONG))),
    );
    add(
        "join",
        WaitKind::Join,
        Box::new(|| {
            let other = spawn(park);
            let task = other.task();
            let end = KillOnDrop(task);
            let _ = other.join();
            drop(end);
        }),
    );
    add(
        "join_timeout",
        WaitKind::Join,
        Box::new(|| {
            let other = spawn(park);
            let end = KillOnDrop(other.task());
            let _ = other.join_timeout(LONG);
            drop(end);
        }),
    );
    let held = Arc::new(Mutex::new(0));
    std::mem::forget(held.lock());
    let other = held.clone();
    add(
        "lock",
        WaitKind::Mutex,
        Box::new(move || *other.lock() += 1),
    );
    add(
        "lock_timeout",
        WaitKind::Mutex,
        Box::new(move || drop(held.lock_timeout(LONG))),
    );
    add("event", WaitKind::Event, Box::new(|| Event::new().wait()));
    add(
        "event, timed",
        WaitKind::Event,
        Box::new(|| drop(Event::new().wait_timeout(LONG))),
    );
    let full = || {
        let ends = bounded(1);
        ends.0.send(0).unwrap();
        ends
    };
    let ends = full();
    add(
        "bounded send",
        WaitKind::Send,
        Box::new(move || whole(&ends).0.send(1).unwrap()),
    );
    let ends = full();
    add(
        "send_timeout",
        WaitKind::Send,
        Box::new(move || whole(&ends).0.send_timeout(1, LONG).unwrap()),
    );
    let ends = bounded::<u8>(1);
    add(
        "recv",
        WaitKind::Recv,
        Box::new(move || drop(whole(&ends).1.recv())),
    );
    let ends = unbounded::<u8>();
    add(
        "unbounded recv",
        WaitKind::Recv,
        Box::new(move || drop(whole(&ends).1.recv())),
    );
    let ends = unbounded::<u8>();
    add(
        "recv_timeout",
        WaitKind::Recv,
        Box::new(move || drop(whole(&ends).1.recv_timeout(LONG))),
    );
    let ends = unbounded::<u8>();
    add(
        "iter",
        WaitKind::Recv,
        Box::new(move || whole(&ends).1.iter().for_each(drop)),
    );
    let ends = rendezvous();
    add(
        "rendezvous send",
        WaitKind::Send,
        Box::new(move || whole(&ends).0.send(1).unwrap()),
    );
    let ends = rendezvous::<u8>();
    add(
        "rendezvous recv",
        WaitKind::Recv,
        Box::new(move || drop(whole(&ends).1.recv())),
    );
    add(
        "inside timeout",
        WaitKind::Sleep,
        Box::new(|| timeout(LONG, || sleep(LONG)).unwrap()),
    );
    add(
        "inside nested timeouts",
        WaitKind::Park,
        Box::new(|| timeout(LONG, || timeout(LONG * 2, park).unwrap()).unwrap()),
    );
    all
}

struct KillOnDrop(sward_runtime::Task);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn ends_by_kill(
    name: &str,
    kind: WaitKind,
    wait: Box<dyn FnOnce() + Send>,
    how: impl Fn(&JoinHandle<()>),
) {
    let (count, counted) = tally();
    let (captured, inside) = tally();
    let task = spawn(move || {
        let _inside = inside;
        let _counted = counted;
        wait();
    });
    until_parked(&task, kind);
    assert!(!task.is_finished(), "{name}");
    how(&task);
    how(&task);
    assert!(task.join().unwrap_err().is_killed(), "{name}");
    assert_eq!(
        (count.load(SeqCst), captured.load(SeqCst)),
        (1, 1),
        "{name}: destructors"
    );
}

#[test]
fn in_every_wait_by_a_task_of_the_same_worker() {
    alone("in_every_wait_by_a_task_of_the_same_worker", || {
        for (name, kind, wait) in waits() {
            ends_by_kill(name, kind, wait, JoinHandle::kill);
        }
    });
}

#[test]
fn in_every_wait_by_an_os_thread() {
    alone("in_every_wait_by_an_os_thread", || {
        for (name, kind, wait) in waits() {
            ends_by_kill(name, kind, wait, |task| {
                let task = task.task();
                std::thread::spawn(move || task.kill()).join().unwrap();
            });
        }
    });
}

#[test]
fn in_every_wait_by_another_worker() {
    within("in_every_wait_by_another_worker", || {
        runtime(2).run(|| {
            for (name, kind, wait) in waits() {
                let (count, counted) = tally();
                let victim = Builder::new().on_worker(0);
                let victim = victim
                    .spawn(move || {
                        let _counted = counted;
                        wait()
                    })
                    .unwrap();
                until_parked(&victim, kind);
                let task = victim.task();
                Builder::new()
                    .on_worker(1)
                    .spawn(move || task.kill())
                    .unwrap()
                    .join()
                    .unwrap();
                assert!(victim.join().unwrap_err().is_killed(), "{name}");
                assert_eq!(count.load(SeqCst), 1, "{name}");
            }
        });
    });
}

#[test]
fn a_yield_loop_and_operations_that_never_wait() {
    alone("a_yield_loop_and_operations_that_never_wait", || {
        let yields = spawn(|| {
            loop {
                yield_now()
            }
        });
        let (sender, receiver) = unbounded();
        // An operation that is always ready looks at kills too.
        let echoes = spawn(move || {
            loop {
                sender.send(1).unwrap();
                receiver.recv().unwrap();
            }
        });
        let mutex = spawn(|| {
            let mutex = Mutex::new(());
            loop {
                drop(mutex.lock());
            }
        });
        let zero = spawn(|| {
            loop {
                sleep(Duration::ZERO)
            }
        });
        for _ in 0..10 {
            yield_now();
        }
        for task in [yields, echoes, mutex, zero] {
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
        }
    });
}

#[test]
fn before_the_first_run() {
    alone("before_the_first_run", || {
        let (count, counted) = tally();
        let ran = Arc::new(AtomicBool::new(false));
        let told = Arc::new(AtomicUsize::new(0));
        let (saw, hears) = (ran.clone(), told.clone());
        let task = spawn(move || {
            let _counted = counted;
            saw.store(true, SeqCst);
        });
        task.on_exit(move |exit| {
            assert_eq!(exit, Exit::Killed);
            hears.fetch_add(1, SeqCst);
        });
        task.kill();
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert!(!ran.load(SeqCst));
        assert_eq!(count.load(SeqCst), 1);
        until(|| told.load(SeqCst) == 1);

        let later = spawn_after(LONG, || unreachable!("killed in its delay"));
        yield_now();
        later.kill();
        assert!(later.join().unwrap_err().is_killed());

        let local = spawn_local(|| unreachable!("never starts"));
        local.kill();
        assert!(local.join().unwrap_err().is_killed());

        let placed = Builder::new()
            .on_worker(0)
            .spawn(|| unreachable!("never starts"))
            .unwrap();
        placed.kill();
        assert!(placed.join().unwrap_err().is_killed());
    });
}

/// The destructor of a closure that never ran meets the kill like any code of the task.
#[test]
fn before_the_first_run_with_a_closure_that_waits_when_dropped() {
    struct Waits(Receiver<()>, Arc<AtomicUsize>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            let _ = self.0.recv();
        }
    }
    alone(
        "before_the_first_run_with_a_closure_that_waits_when_dropped",
        || {
            let (_sender, receiver) = rendezvous();
            let count = Arc::new(AtomicUsize::new(0));
            let waits = Waits(receiver, count.clone());
            let task = spawn(move || drop(waits));
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(count.load(SeqCst), 1);
        },
    );
}

#[test]
fn itself() {
    alone("itself", || {
        let (count, counted) = tally();
        let task = spawn(move || {
            let _counted = counted;
            current().kill();
            unreachable!("the kill unwinds from here");
        });
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(count.load(SeqCst), 1);
        // Asked for by another one before, and not yet noticed: still from there.
        let task = spawn(|| {
            let me = current();
            std::thread::spawn(move || me.kill()).join().unwrap();
            current().kill();
            unreachable!("the kill unwinds from here, too");
        });
        assert!(task.join().unwrap_err().is_killed());
        // Where parking is forbidden it unwinds as well, without giving way.
        let task = spawn(|| {
            let swallowed = catch_unwind(|| without_parking(|| current().kill()));
            assert!(swallowed.is_err());
            without_parking(|| current().kill());
            unreachable!("killed");
        });
        assert!(task.join().unwrap_err().is_killed());
        let task = spawn(|| sward_runtime::on_worker_stack(|| current().kill()));
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn itself_from_a_destructor() {
    struct Kills;
    impl Drop for Kills {
        fn drop(&mut self) {
            current().kill();
        }
    }
    alone("itself_from_a_destructor", || {
        // While it unwinds by a panic the kill is noted, and the panic is what ended it.
        let task = spawn(|| {
            let _kills = Kills;
            panic!("first");
        });
        assert_eq!(task.join().unwrap_err().panic_message(), Some("first"));
        // Noted, and raised at the next park after the panic was caught.
        let task = spawn(|| {
            let caught = catch_unwind(|| {
                let _kills = Kills;
                panic!("caught");
            });
            assert!(caught.is_err());
            yield_now();
            unreachable!("killed");
        });
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn under_a_shield() {
    alone("under_a_shield", || {
        let go = Arc::new(Event::new());
        let (passed, gate) = (Arc::new(AtomicUsize::new(0)), go.clone());
        let seen = passed.clone();
        let task = spawn(move || {
            shield(|| {
                shield(|| gate.wait());
                seen.fetch_add(1, SeqCst);
                yield_now();
                seen.fetch_add(1, SeqCst);
            });
            seen.fetch_add(1, SeqCst);
            yield_now();
            unreachable!("the kill comes at the first park after the outermost shield");
        });
        until_parked(&task, WaitKind::Event);
        task.kill();
        for _ in 0..10 {
            yield_now();
        }
        assert!(!task.is_finished());
        go.set();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(passed.load(SeqCst), 3);
        // A shield that is left by a panic masks no longer.
        let task = spawn(|| {
            let _ = catch_unwind(|| shield(|| panic!("out")));
            current().kill();
            unreachable!("not masked");
        });
        assert!(task.join().unwrap_err().is_killed());
    });
}

#[test]
fn under_without_parking() {
    alone("under_without_parking", || {
        let task = spawn(|| {
            without_parking(|| {
                let me = current();
                std::thread::spawn(move || me.kill()).join().unwrap();
                // Operations that succeed at once are allowed, and do not raise.
                let (sender, receiver) = unbounded();
                for i in 0..1000 {
                    sender.send(i).unwrap();
                    receiver.recv().unwrap();
                }
                yield_now();
            });
            // The worker reads its mail every so many switches.
            loop {
                yield_now();
            }
        });
        assert!(task.join().unwrap_err().is_killed());
        let task = spawn(|| without_parking(|| sleep(LONG)));
        assert!(
            task.join()
                .unwrap_err()
                .panic_message()
                .unwrap()
                .contains("without_parking")
        );
    });
}

#[test]
fn of_the_ended_and_twice() {
    alone("of_the_ended_and_twice", || {
        let task = spawn(|| 7);
        until(|| task.is_finished());
        task.kill();
        let late = task.task();
        assert_eq!(task.join().unwrap(), 7);
        late.kill();
        late.unpark();
        let task = spawn(park);
        yield_now();
        task.kill();
        task.kill();
        let late = task.task();
        assert!(task.join().unwrap_err().is_killed());
        late.kill();
        // A finished closure wins over a kill that came while its result was on the way out.
        let task = spawn(|| {
            let me = current();
            std::thread::spawn(move || me.kill()).join().unwrap();
            9
        });
        assert_eq!(task.join().unwrap(), 9);
    });
}

// ---- nothing handed over is lost --------------------------------------------------------------

#[test]
fn after_a_value_was_delivered() {
    alone("after_a_value_was_delivered", || {
        let (sender, receiver) = rendezvous();
        let (out, results) = unbounded();
        let task = spawn(move || {
            out.send(receiver.recv().unwrap()).unwrap();
            // The send above is the first park after the value: it looks at kills before it
            // tries, so the value must be kept by hand here.
        });
        until_parked(&task, WaitKind::Recv);
        sender.send(String::from("kept")).unwrap();
        task.kill();
        let killed = task.join().unwrap_err().is_killed();
        // Received, then killed at the next park: the value was the task's, and was dropped there.
        assert!(killed);
        assert!(results.recv().is_err());
        // What matters: the receive itself succeeded.
        let (sender, receiver) = rendezvous();
        let got = Arc::new(Mutex::new(None));
        let place = got.clone();
        let task = spawn(move || {
            let value = receiver.recv();
            *place.try_lock().unwrap() = Some(value);
            yield_now();
            unreachable!("killed here");
        });
        until_parked(&task, WaitKind::Recv);
        sender.send(5).unwrap();
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(*got.lock(), Some(Ok(5)));
    });
}

#[test]
fn after_a_lock_was_handed_over() {
    alone("after_a_lock_was_handed_over", || {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock();
        let other = mutex.clone();
        let task = spawn(move || {
            let mut guard = other.lock();
            *guard = 1;
            yield_now();
            unreachable!("killed with the lock, which is freed then");
        });
        until_parked(&task, WaitKind::Mutex);
        drop(guard);
        task.kill();
        assert!(mutex.try_lock().is_none(), "the lock is the task's");
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
}

#[test]
fn before_a_value_or_lock_is_handed_over() {
    alone("before_a_value_or_lock_is_handed_over", || {
        // Killed, but not yet run: it is still in the queue. What comes then may go to it, and
        // the wait then succeeds; or past it. Lost it must not be.
        let (sender, receiver) = unbounded();
        let got = Arc::new(AtomicUsize::new(0));
        let (mine, count) = (receiver.clone(), got.clone());
        let task = spawn(move || {
            if mine.recv().is_ok() {
                count.fetch_add(1, SeqCst);
            }
        });
        until_parked(&task, WaitKind::Recv);
        task.kill();
        sender.send(1).unwrap();
        let _ = task.join();
        assert_eq!(got.load(SeqCst) + receiver.try_recv().is_ok() as usize, 1);

        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock();
        let other = mutex.clone();
        let task = spawn(move || drop(other.lock()));
        until_parked(&task, WaitKind::Mutex);
        task.kill();
        drop(guard);
        let _ = task.join();
        assert!(mutex.try_lock().is_some());

        // A sender that is killed before a receiver comes has not sent; after, it has.
        let (sender, receiver) = rendezvous();
        let again = sender.clone();
        let task = spawn(move || again.send(1).unwrap());
        until_parked(&task, WaitKind::Send);
        task.kill();
        let early = receiver.try_recv().is_ok();
        let sent = task.join().is_ok();
        assert_eq!(
            early, sent,
            "a sender was killed although its value was taken, or the reverse"
        );
        assert!(receiver.try_recv().is_err());
        drop(sender);
    });
}

/// Kills fall on receivers, senders and lock holders at random moments, on several workers and
/// threads: each value arrives once or is still there, and the lock is free in the end.
#[test]
fn storm() {
    const VALUES: usize = 20_000;
    within("storm", || {
        let runtime = runtime(2);
        let random = &mut Random::new(7);
        for round in 0..3 {
            let (sender, receiver): (Sender<usize>, Receiver<usize>) = match round {
                0 => rendezvous(),
                1 => bounded(4),
                _ => unbounded(),
            };
            // One place for each value: how often it was received; and for each, whether the
            // sender knows that it was sent.
            let counts: Arc<Vec<AtomicUsize>> =
                Arc::new((0..VALUES).map(|_| AtomicUsize::new(0)).collect());
            let sent: Arc<Vec<AtomicBool>> =
                Arc::new((0..VALUES).map(|_| AtomicBool::new(false)).collect());
            let next = Arc::new(AtomicUsize::new(0));
            let mutex = Arc::new(Mutex::new(0usize));
            let new_receiver = || {
                let (receiver, counts, mutex) = (receiver.clone(), counts.clone(), mutex.clone());
                runtime.spawn(move || {
                    while let Ok(i) = receiver.recv() {
                        counts[i].fetch_add(1, SeqCst);
                        *mutex.lock() += 1;
                    }
                })
            };
            let new_sender = || {
                let (sender, sent, next) = (sender.clone(), sent.clone(), next.clone());
                runtime.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, SeqCst);
                        if i >= VALUES {
                            return;
                        }
                        sender.send(i).unwrap();
                        sent[i].store(true, SeqCst);
                    }
                })
            };
            let mut receivers: Vec<_> = (0..8).map(|_| new_receiver()).collect();
            let mut senders: Vec<_> = (0..8).map(|_| new_sender()).collect();
            while next.load(SeqCst) < VALUES {
                let i = random.below(8) as usize;
                let (old, new) = if random.below(2) == 0 {
                    let new = new_receiver();
                    (std::mem::replace(&mut receivers[i], new), "receiver")
                } else {
                    let new = new_sender();
                    (std::mem::replace(&mut senders[i], new), "sender")
                };
                old.kill();
                let end = old.join();
                assert!(
                    end.as_ref()
                        .is_ok_and(|()| new == "sender" && next.load(SeqCst) >= VALUES)
                        || end.as_ref().is_err_and(sward_runtime::JoinError::is_killed),
                    "{end:?}"
                );
            }
            for task in senders {
                task.join().unwrap();
            }
            drop(sender);
            for task in receivers {
                task.join().unwrap();
            }
            while let Ok(i) = receiver.try_recv() {
                counts[i].fetch_add(1, SeqCst);
            }
            assert!(mutex.try_lock().is_some(), "the lock got lost");
            for i in 0..VALUES {
                let (got, sent) = (counts[i].load(SeqCst), sent[i].load(SeqCst));
                assert!(got <= 1, "round {round}: value {i} arrived {got} times");
                assert!(
                    got == 1 || !sent,
                    "round {round}: value {i} was sent and is lost"
                );
            }
        }
    });
}

/// A task that is killed at the very moment of its end, again and again from another worker.
#[test]
fn at_the_moment_of_the_end() {
    within("at_the_moment_of_the_end", || {
        let runtime = runtime(2);
        let drops = Arc::new(AtomicUsize::new(0));
        for i in 0..5_000 {
            let tally = Tally(drops.clone());
            let task = runtime.spawn(move || {
                for _ in 0..i % 4 {
                    yield_now();
                }
                tally
            });
            let other = task.task();
            let killer = runtime.spawn(move || other.kill());
            match task.join() {
                Ok(tally) => drop(tally),
                Err(e) => assert!(e.is_killed()),
            }
            killer.join().unwrap();
            assert_eq!(drops.load(SeqCst), i + 1);
        }
    });
}

// ---- swallowing -------------------------------------------------------------------------------

#[test]
fn swallowed_it_comes_again() {
    alone("swallowed_it_comes_again", || {
        let rounds = Arc::new(AtomicUsize::new(0));
        let count = rounds.clone();
        let task = spawn(move || {
            for _ in 0..5 {
                assert!(catch_unwind(|| sleep(LONG)).is_err());
                count.fetch_add(1, SeqCst);
            }
            "let go at last"
        });
        yield_now();
        task.kill();
        assert_eq!(task.join().unwrap(), "let go at last");
        assert_eq!(rounds.load(SeqCst), 5);
        // What was caught can be raised again: it is the same kill.
        let task = spawn(|| {
            let caught = catch_unwind(park).unwrap_err();
            resume_unwind(caught)
        });
        yield_now();
        task.kill();
        let end: Result<(), _> = task.join();
        assert!(end.unwrap_err().is_killed());
    });
}

/// The one worker goes on although a task swallows kills for ever; it is told of once.
#[test]
fn swallowed_for_ever() {
    if is_child() {
        let runtime = Runtime::builder()
            .workers(1)
            .shutdown_timeout(Duration::from_millis(50));
        let runtime = runtime.build().unwrap();
        runtime.run(|| {
            let task = Builder::new()
                .name("glutton")
                .spawn(|| {
                    loop {
                        let _ = catch_unwind(|| sleep(LONG));
                    }
                })
                .unwrap();
            yield_now();
            task.kill();
            for _ in 0..1000 {
                yield_now();
            }
            sleep(Duration::from_millis(1));
            assert!(!task.is_finished());
        });
        drop(runtime);
        return;
    }
    within("swallowed_for_ever", || {
        let out = rerun("swallowed_for_ever", &[]);
        assert_passed(&out);
        let text = stderr(&out);
        assert_eq!(text.matches("it is killed again").count(), 1, "{text}");
        assert!(text.contains("'glutton'"), "{text}");
        assert!(text.contains("ended, but not all of it"), "{text}");
    });
}

#[test]
fn every_kind_of_wait_swallowed_for_ever_lets_others_run() {
    within(
        "every_kind_of_wait_swallowed_for_ever_lets_others_run",
        || {
            let runtime = runtime(1);
            runtime.run(|| {
                let stop = Arc::new(AtomicBool::new(false));
                let mutex = Arc::new(Mutex::new(()));
                let _guard = mutex.lock();
                let waits: Vec<Box<dyn Fn() + Send>> = vec![
                    Box::new(park),
                    Box::new(yield_now),
                    Box::new(|| sleep(LONG)),
                    Box::new(|| drop(spawn(park).join())),
                    Box::new(|| Event::new().wait()),
                    Box::new(|| drop(unbounded::<()>().1.recv())),
                    Box::new(|| drop(unbounded().0.send(()))),
                    Box::new({
                        let mutex = mutex.clone();
                        move || drop(mutex.lock())
                    }),
                    Box::new(|| current().kill()),
                ];
                let tasks: Vec<_> = waits
                    .into_iter()
                    .map(|wait| {
                        let stop = stop.clone();
                        spawn(move || {
                            while !stop.load(SeqCst) {
                                let _ = catch_unwind(AssertUnwindSafe(&wait));
                            }
                        })
                    })
                    .collect();
                yield_now();
                for task in &tasks {
                    task.kill();
                }
                for _ in 0..100 {
                    yield_now();
                }
                stop.store(true, SeqCst);
                for task in tasks {
                    task.join().unwrap();
                }
            });
        },
    );
}

#[test]
fn the_panic_hook_is_not_called() {
    if !is_child() {
        within("the_panic_hook_is_not_called", || {
            assert_passed(&rerun("the_panic_hook_is_not_called", &[]));
        });
        return;
    }
    static HOOKED: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|_| {
        HOOKED.fetch_add(1, SeqCst);
    }));
    runtime(1).run(|| {
        for (name, kind, wait) in waits() {
            ends_by_kill(name, kind, wait, JoinHandle::kill);
            assert_eq!(HOOKED.load(SeqCst), 0, "{name}");
        }
        assert!(timeout(Duration::from_millis(1), park).is_err());
        assert_eq!(HOOKED.load(SeqCst), 0);
        assert!(spawn(|| panic!("counted")).join().is_err());
        assert_eq!(HOOKED.load(SeqCst), 1);
    });
}

/// A task that unwinds by a kill and panics in a destructor would be a double panic, which Rust
/// ends with an abort; a panic that is caught inside is fine, and so is work of other tasks.
#[test]
fn destructors_may_catch_panics_and_spawn() {
    struct Works(Sender<u32>);
    impl Drop for Works {
        fn drop(&mut self) {
            assert!(catch_unwind(|| panic!("caught")).is_err());
            let sender = self.0.clone();
            drop(spawn(move || sender.send(1).unwrap()));
            self.0.send(2).unwrap();
        }
    }
    alone("destructors_may_catch_panics_and_spawn", || {
        let (sender, receiver) = unbounded();
        let task = spawn(move || {
            let _works = Works(sender);
            park();
        });
        yield_now();
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(2), Ok(1)));
        assert!(receiver.recv().is_err());
    });
}
