//! A watched value: the newest is seen, no change is missed for good, both ends learn of the other's
//! end, and nothing of that waits for a reader.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::unbounded;
use sward_runtime::sync::watch::{self, ChangedError, ChangedTimeoutError, Receiver, SendError};
use sward_runtime::{
    Runtime, TaskState, WaitKind, dump, join_all, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    runtime(1).run(&check);
    runtime(2).run(&check);
    check();
}

fn until_parked(runtime: &Runtime, kind: WaitKind, count: usize) {
    until(|| {
        let dump = runtime.dump();
        let parked = |t: &&sward_runtime::DumpedTask| {
            t.reason.kind() == kind && t.state == TaskState::Parked
        };
        dump.tasks().iter().filter(parked).count() == count
    });
}

#[test]
fn the_newest_is_seen() {
    within("the_newest_is_seen", || {
        everywhere(|| {
            let (sender, mut receiver) = watch::channel(0);
            let mut second = receiver.clone();
            assert!(!receiver.has_changed() && *receiver.borrow() == 0);
            (1..=5).for_each(|i| sender.send(i).unwrap());
            assert!(receiver.has_changed());
            // Looking is not seeing.
            assert_eq!((*receiver.borrow(), receiver.has_changed()), (5, true));
            assert_eq!((receiver.changed(), *receiver.borrow()), (Ok(()), 5));
            assert!(!receiver.has_changed() && second.has_changed());
            // The five are one change.
            assert_eq!(
                receiver.changed_timeout(Duration::ZERO),
                Err(ChangedTimeoutError::TimedOut)
            );
            assert_eq!(*second.borrow_and_update(), 5);
            assert!(!second.has_changed());
            // Who comes later has seen what is there; a clone what its original has.
            sender.send(6).unwrap();
            assert!(!sender.subscribe().has_changed() && second.clone().has_changed());
            assert_eq!(*sender.send_replace(7), 6);
            assert_eq!((sender.receiver_count(), *sender.clone().borrow()), (2, 7));
        });
    });
}

#[test]
fn changes_in_place() {
    within("changes_in_place", || {
        everywhere(|| {
            let (sender, mut receiver) = watch::channel(vec![1]);
            let kept = receiver.borrow();
            sender.modify(|list| list.push(2));
            assert_eq!((&*kept, &*receiver.borrow()), (&vec![1], &vec![1, 2]));
            assert_eq!(receiver.changed(), Ok(()));
            assert!(!sender.modify_if(|list| {
                list.push(3);
                false
            }));
            let panics = || {
                sender.modify(|list| {
                    list.push(4);
                    std::panic::resume_unwind(Box::new("in the middle"));
                })
            };
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            assert_eq!(
                (receiver.has_changed(), &*receiver.borrow()),
                (false, &vec![1, 2])
            );
            // A change may wait; a send in between is not lost.
            let mut calls = 0;
            sender.modify(|list| {
                calls += 1;
                if calls == 1 {
                    sender.send(vec![7]).unwrap();
                    yield_now();
                }
                list.push(8);
            });
            assert_eq!((calls, &*receiver.borrow()), (2, &vec![7, 8]));
        });
    });
}

#[test]
fn both_ends_close() {
    within("both_ends_close", || {
        everywhere(|| {
            let (sender, mut receiver) = watch::channel(1);
            assert!(!receiver.is_closed() && !sender.is_closed());
            sender.send(2).unwrap();
            let second = sender.clone();
            drop(sender);
            assert!(!receiver.is_closed());
            drop(second);
            assert!(receiver.is_closed());
            // What was not seen comes first.
            assert_eq!(receiver.changed(), Ok(()));
            assert_eq!(receiver.changed(), Err(ChangedError::Closed));
            assert_eq!(
                receiver.changed_timeout(LONG),
                Err(ChangedTimeoutError::Closed)
            );
            assert_eq!(receiver.wait_for(|v| *v == 9), Err(ChangedError::Closed));
            assert_eq!(receiver.wait_for(|v| *v == 2).as_deref(), Ok(&2));
            assert_eq!(*receiver.borrow(), 2);

            let (sender, receiver) = watch::channel(1);
            assert!(!sender.closed_timeout(Duration::ZERO));
            assert!(timeout(SHORT, || sender.closed()).is_err());
            drop(receiver.clone());
            assert!(!sender.is_closed());
            drop(receiver);
            assert!(sender.is_closed() && sender.closed_timeout(Duration::ZERO));
            sender.closed();
            assert_eq!(sender.send(5), Err(SendError::Closed(5)));
            assert_eq!(sender.send(5).unwrap_err().into_inner(), 5);
            assert_eq!(*sender.borrow(), 1, "it was not sent");
            assert_eq!(*sender.send_replace(6), 1);
            sender.modify(|v| *v += 1);
            // It can be opened again.
            let mut receiver = sender.subscribe();
            assert_eq!(*receiver.borrow_and_update(), 7);
            sender.send(8).unwrap();
            assert_eq!(receiver.changed(), Ok(()));
        });
    });
}

#[test]
fn the_ends_wait_for_each_other() {
    within("the_ends_wait_for_each_other", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (sender, receiver) = watch::channel(0);
            let start = |mut receiver: Receiver<u32>| {
                move || {
                    let mut seen = 0;
                    while receiver.changed().is_ok() {
                        let now = *receiver.borrow();
                        assert!(now > seen || now == 3);
                        seen = now;
                    }
                    seen
                }
            };
            let tasks: Vec<_> = (0..100)
                .map(|_| runtime.spawn(start(receiver.clone())))
                .collect();
            let threads: Vec<_> = (0..3)
                .map(|_| std::thread::spawn(start(receiver.clone())))
                .collect();
            drop(receiver);
            let closed = {
                let sender = sender.clone();
                runtime.spawn(move || sender.closed())
            };
            for i in 1..=3 {
                until_parked(&runtime, WaitKind::Change, 100);
                sender.send(i).unwrap();
            }
            until_parked(&runtime, WaitKind::Change, 100);
            until_parked(&runtime, WaitKind::Unwatched, 1);
            closed.kill();
            assert!(closed.join().is_err());
            drop(sender);
            for end in join_all(tasks) {
                assert_eq!(end.unwrap(), 3);
            }
            for thread in threads {
                assert_eq!(thread.join().unwrap(), 3);
            }

            let (sender, receiver) = watch::channel(0);
            let sender = Arc::new(sender);
            let waits = sender.clone();
            let task = runtime.spawn(move || waits.closed());
            let waits = sender.clone();
            let thread = std::thread::spawn(move || waits.closed_timeout(LONG));
            until_parked(&runtime, WaitKind::Unwatched, 1);
            drop(receiver);
            task.join().unwrap();
            assert!(thread.join().unwrap());
        }
    });
}

#[test]
fn limits_and_kills() {
    within("limits_and_kills", || {
        everywhere(|| {
            let (sender, mut receiver) = watch::channel(0);
            let begun = Instant::now();
            assert_eq!(
                receiver.changed_timeout(SHORT),
                Err(ChangedTimeoutError::TimedOut)
            );
            assert!(timeout(SHORT, || receiver.changed()).is_err());
            assert!(begun.elapsed() >= 2 * SHORT);
            // A wait that was given up has seen nothing.
            sender.send(1).unwrap();
            assert_eq!(receiver.changed_timeout(LONG), Ok(()));
        });
        runtime(1).run(|| {
            let (sender, receiver) = watch::channel(0);
            let seen = Arc::new(AtomicUsize::new(0));
            let task = {
                let (mut receiver, seen) = (receiver.clone(), seen.clone());
                spawn(move || {
                    receiver.changed().unwrap();
                    seen.store(*receiver.borrow(), SeqCst);
                    yield_now();
                    unreachable!()
                })
            };
            until(|| {
                dump().tasks().iter().any(|t| {
                    t.reason
                        .to_string()
                        .starts_with("change of watched value 0x")
                })
            });
            // Woken first, killed after: the change was seen.
            sender.send(4).unwrap();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(seen.load(SeqCst), 4);
        });
    });
}

/// Readers that hold a value across a park hold up nobody, and the value lives as long as they look.
#[test]
fn readers_hold_up_nobody() {
    struct Noted(Arc<AtomicUsize>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    within("readers_hold_up_nobody", || {
        everywhere(|| {
            let gone = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = watch::channel(Noted(gone.clone()));
            let first = receiver.borrow();
            for _ in 0..10 {
                sleep(Duration::from_micros(10));
                sender.send(Noted(gone.clone())).unwrap();
            }
            assert_eq!(gone.load(SeqCst), 9);
            drop(first);
            assert_eq!(gone.load(SeqCst), 10);
            drop(sender);
            assert_eq!(gone.load(SeqCst), 10);
            drop(receiver);
            assert_eq!(gone.load(SeqCst), 11);
        });
    });
}

/// A value whose end uses the watch that it was in, and panics.
#[test]
fn values_with_wild_ends() {
    struct Wild(Option<watch::Sender<Self>>);
    impl Drop for Wild {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                assert_eq!(sender.receiver_count(), 1);
                drop(sender.send_replace(Self(None)));
                std::panic::resume_unwind(Box::new("a wild end"));
            }
        }
    }
    within("values_with_wild_ends", || {
        everywhere(|| {
            let (sender, mut receiver) = watch::channel(Wild(None));
            sender.send(Wild(Some(sender.clone()))).unwrap();
            let send = || drop(sender.send(Wild(None)));
            assert!(catch_unwind(AssertUnwindSafe(send)).is_err());
            assert_eq!(receiver.changed(), Ok(()));
            drop(sender);
            assert_eq!(receiver.changed(), Err(ChangedError::Closed));
        });
    });
}

#[test]
fn while_unwinding() {
    struct Guard(
        watch::Sender<u32>,
        Receiver<u32>,
        sward_runtime::sync::Sender<String>,
    );
    impl Drop for Guard {
        fn drop(&mut self) {
            let none = format!("{:?}", self.1.changed());
            let late = format!("{:?}", self.1.changed_timeout(LONG));
            assert!(!self.0.closed_timeout(LONG));
            self.0.send(2).unwrap();
            self.0.modify(|v| *v += 1);
            let some = format!("{:?} {}", self.1.changed(), self.1.borrow());
            self.2.send(format!("{none} {late} {some}")).unwrap();
        }
    }
    within("while_unwinding", || {
        runtime(1).run(|| {
            let (tell, told) = unbounded();
            let (sender, receiver) = watch::channel(0);
            let task = spawn(move || {
                let _guard = Guard(sender, receiver, tell);
                std::panic::resume_unwind(Box::new("unwinds"));
            });
            assert!(task.join().is_err());
            assert_eq!(
                told.recv().unwrap(),
                "Err(Unwinding) Err(Unwinding) Ok(()) 3"
            );
        });
    });
}

/// Many senders and receivers, of which some give up or are killed: versions never go back, every
/// change in place counts, and all who are left see the last one.
#[test]
fn many_to_many() {
    within("many_to_many", || {
        let mut random = Random::new(21);
        for round in 0..60 {
            let runtime = runtime(1 + round % 2);
            let (sender, receiver) = watch::channel(0_u64);
            let watching = |mut receiver: Receiver<u64>, impatient: bool| {
                move || {
                    let mut seen = 0;
                    loop {
                        let end = if impatient {
                            receiver.changed_timeout(Duration::from_micros(20))
                        } else {
                            receiver.changed_timeout(LONG)
                        };
                        match end {
                            Ok(()) => {
                                let now = *receiver.borrow_and_update();
                                assert!(now >= seen, "it went back");
                                seen = now;
                            }
                            Err(ChangedTimeoutError::TimedOut) => {}
                            Err(_) => return seen,
                        }
                    }
                }
            };
            let tasks: Vec<_> = (0..8)
                .map(|i| runtime.spawn(watching(receiver.clone(), i % 2 == 0)))
                .collect();
            let doomed: Vec<_> = (0..4)
                .map(|_| runtime.spawn(watching(receiver.clone(), false)))
                .collect();
            let thread = std::thread::spawn(watching(receiver, false));
            let adding = |sender: watch::Sender<u64>| {
                move || {
                    for _ in 0..100 {
                        sender.modify(|v| *v += 1);
                    }
                }
            };
            let senders: Vec<_> = (0..4)
                .map(|_| runtime.spawn(adding(sender.clone())))
                .collect();
            let sends = std::thread::spawn(adding(sender));
            for task in &doomed {
                (0..random.below(2000)).for_each(|_| std::hint::spin_loop());
                task.kill();
            }
            assert!(join_all(senders).iter().all(Result::is_ok));
            sends.join().unwrap();
            for end in join_all(tasks) {
                assert_eq!(end.unwrap(), 500);
            }
            assert_eq!(thread.join().unwrap(), 500);
            join_all(doomed);
        }
    });
}

#[test]
fn text() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("text", || {
        let (sender, receiver) = watch::channel(1);
        shared(&(&sender, &receiver));
        assert_eq!(
            format!("{sender:?} {receiver:?}"),
            "Sender { receivers: 1, .. } Receiver { has_changed: false, .. }"
        );
        drop(receiver);
        let error = sender.send(2).unwrap_err();
        assert_eq!(
            format!("{error:?}: {error}"),
            "Closed: the watched value has no receiver left"
        );
    });
}
