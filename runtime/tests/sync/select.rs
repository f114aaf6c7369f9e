//! `select!`: waiting for several things at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::within;
use sward_runtime::sync::{Event, Receiver, Sender, after, at, bounded, rendezvous, unbounded};
use sward_runtime::{
    JoinError, Runtime, join_all, select, shield, sleep, spawn, timeout, yield_now,
};

fn run(workers: usize, f: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(workers).build().unwrap().run(f);
}

const FOR_EVER: Duration = Duration::from_secs(3600);

#[test]
fn takes_what_is_ready() {
    within("takes_what_is_ready", || {
        run(1, || {
            let (a, from_a) = unbounded();
            let (_b, from_b) = unbounded::<i32>();
            a.send(1).unwrap();
            let got = select! {
                v = from_a.receiving() => v.unwrap(),
                v = from_b.receiving() => v.unwrap() + 10,
            };
            assert_eq!(got, 1);
            let nothing = select! {
                _ = from_a.receiving() => false,
                _ = from_b.receiving() => false,
                default => true,
            };
            assert!(nothing);
        });
    });
}

#[test]
fn every_kind_of_arm_is_woken() {
    within("every_kind_of_arm_is_woken", || {
        for workers in [1, 2] {
            run(workers, || {
                let (sender, receiver) = rendezvous::<i32>();
                let (out, into) = rendezvous::<i32>();
                let event = Arc::new(Event::new());
                let mut task = spawn(|| sleep(FOR_EVER));
                for round in 0..5 {
                    let (sender, into, sets) = (sender.clone(), into.clone(), event.clone());
                    let sleeper = task.task();
                    let helper = spawn(move || match round {
                        0 => sender.send(7).unwrap(),
                        1 => assert_eq!(into.recv(), Ok(8)),
                        2 => sets.set(),
                        3 => sleeper.kill(),
                        _ => {}
                    });
                    let end = if round == 4 {
                        Duration::from_millis(2)
                    } else {
                        FOR_EVER
                    };
                    let which = select! {
                        v = receiver.receiving() => { assert_eq!(v, Ok(7)); 0 }
                        r = out.sending(8) => { r.unwrap(); 1 }
                        () = event.waiting() => 2,
                        () = task.ending(), if round == 3 => 3,
                        _ = after(end) => 4,
                    };
                    assert_eq!(which, round);
                    helper.join().unwrap();
                    event.clear();
                }
                assert!(task.join().unwrap_err().is_killed());
            });
        }
    });
}

#[test]
fn a_closed_channel_is_ready() {
    within("a_closed_channel_is_ready", || {
        run(1, || {
            let (sender, receiver) = unbounded::<i32>();
            let (_other, never) = unbounded::<i32>();
            let closes = spawn(move || {
                yield_now();
                drop(sender);
            });
            let got = select! {
                v = receiver.receiving() => v.is_err(),
                _ = never.receiving() => false,
            };
            assert!(got);
            closes.join().unwrap();
            let (sender, receiver) = bounded::<String>(1);
            sender.send("a".into()).unwrap();
            let closes = spawn(move || {
                yield_now();
                drop(receiver);
            });
            let back = select! {
                r = sender.sending("b".to_owned()) => r,
                _ = never.receiving() => Ok(()),
            };
            assert_eq!(back.unwrap_err().into_inner(), "b");
            closes.join().unwrap();
        });
    });
}

#[test]
fn nothing_that_can_be_is_refused() {
    within("nothing_that_can_be_is_refused", || {
        run(1, || {
            let (_sender, receiver) = unbounded::<i32>();
            let e = catch_unwind(AssertUnwindSafe(|| {
                select! { _ = receiver.receiving(), if false => () }
            }));
            let text = *e.unwrap_err().downcast::<&str>().unwrap();
            assert!(text.contains("every arm disabled"), "{text}");
        });
    });
}

#[test]
fn an_arm_may_be_ready_for_ever_and_others_get_their_turn() {
    within("an_arm_may_be_ready_for_ever", || {
        run(1, || {
            let (sender, receiver) = unbounded();
            (0..10_000).for_each(|i| sender.send(i).unwrap());
            let end = at(Instant::now());
            let mut rounds = 0;
            loop {
                select! {
                    v = receiver.receiving() => { v.unwrap(); }
                    _ = end => break,
                }
                rounds += 1;
            }
            assert!(rounds < 1000, "{rounds}");
            let mut rounds = 0;
            loop {
                select! {
                    biased;
                    v = receiver.receiving() => { if v.unwrap() == 9999 { break } }
                    _ = end => unreachable!(),
                }
                rounds += 1;
            }
            assert!(rounds > 8000, "{rounds}");
        });
    });
}

/// A select does not meet itself, and two that offer each other the same do meet.
#[test]
fn a_select_does_not_meet_itself() {
    within("a_select_does_not_meet_itself", || {
        for workers in [1, 2] {
            run(workers, || {
                let (sender, receiver) = rendezvous::<usize>();
                let alone = select! {
                    _ = sender.sending(1) => false,
                    _ = receiver.receiving() => false,
                    _ = after(Duration::from_millis(5)) => true,
                };
                assert!(alone);
                let meets = move |me: usize| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    move || {
                        let (mut sent, mut got) = (0, 0);
                        for _ in 0..2_000 {
                            select! {
                                r = sender.sending(me) => { r.unwrap(); sent += 1; }
                                v = receiver.receiving() => { assert_ne!(v.unwrap(), me); got += 1; }
                            }
                        }
                        (sent, got)
                    }
                };
                let (a, b) = (spawn(meets(1)), spawn(meets(2)));
                let (a, b) = (a.join().unwrap(), b.join().unwrap());
                assert_eq!((a.0, a.1), (b.1, b.0));
            });
        }
    });
}

/// Values go to exactly one of many who select and receive, from tasks of two workers and threads.
#[test]
fn nothing_is_lost_or_doubled() {
    within("nothing_is_lost_or_doubled", || {
        let seed = common_seed();
        for capacity in [0, 1, 8] {
            run(2, move || {
                const EACH: usize = 5_000;
                let channels: Vec<(Sender<usize>, Receiver<usize>)> =
                    (0..3).map(|_| bounded(capacity)).collect();
                let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
                let takers: Vec<_> = (0..4)
                    .map(|i| {
                        let r = receivers.clone();
                        let take = move || {
                            let mut sum = (0, 0);
                            let mut x = seed + i;
                            loop {
                                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                                let limit = Duration::from_micros(x >> 56);
                                let value = if i == 3 {
                                    r[0].recv().ok()
                                } else {
                                    select! {
                                        v = r[0].receiving() => v.ok(),
                                        v = r[1].receiving() => v.ok(),
                                        v = r[2].receiving() => v.ok(),
                                        _ = after(limit) => continue,
                                    }
                                };
                                match value {
                                    Some(v) => sum = (sum.0 + 1, sum.1 + v),
                                    None => return sum,
                                }
                            }
                        };
                        if i == 2 {
                            Err(std::thread::spawn(take))
                        } else {
                            Ok(spawn(take))
                        }
                    })
                    .collect();
                drop(receivers);
                let givers: Vec<_> = (0..3)
                    .map(|i| {
                        let s = senders.clone();
                        spawn(move || {
                            for n in 0..EACH {
                                let v = n * 3 + i;
                                match n % 2 {
                                    0 => s[i].send(v).unwrap(),
                                    _ => select! {
                                        r = s[i].sending(v) => r.unwrap(),
                                        r = s[(i + 1) % 3].sending(v) => r.unwrap(),
                                    },
                                }
                            }
                        })
                    })
                    .collect();
                join_all(givers).into_iter().for_each(Result::unwrap);
                // What is left in a channel that one taker sees closed is for the others.
                for (i, sender) in senders.iter().enumerate() {
                    while !sender.is_empty() {
                        sleep(Duration::from_micros(50 + i as u64));
                    }
                }
                drop(senders);
                let mut total = (0, 0);
                for taker in takers {
                    let (n, sum) = match taker {
                        Ok(task) => task.join().unwrap(),
                        Err(thread) => thread.join().unwrap(),
                    };
                    total = (total.0 + n, total.1 + sum);
                }
                let n = 3 * EACH;
                assert_eq!(total, (n, n * (n - 1) / 2), "seed {seed}");
            });
        }
    });
}

fn common_seed() -> u64 {
    let seed = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .subsec_nanos()
        .into();
    println!("seed {seed}");
    seed
}

/// A kill or a time-out in the middle takes nothing; what was handed over is received.
#[test]
fn kills_and_timeouts() {
    within("kills_and_timeouts", || {
        run(1, || {
            let (sender, receiver) = unbounded::<i32>();
            let (_never, other) = unbounded::<i32>();
            let out = timeout(Duration::from_millis(2), || {
                select! { _ = receiver.receiving() => (), _ = other.receiving() => () }
            });
            assert!(out.is_err());
            let (r, o) = (receiver.clone(), other.clone());
            let waits = spawn(move || {
                select! { _ = r.receiving() => (), _ = o.receiving() => () }
            });
            yield_now();
            waits.kill();
            assert!(waits.join().unwrap_err().is_killed());
            // Nobody is left in line.
            sender.send(1).unwrap();
            assert_eq!(receiver.try_recv(), Ok(1));
            // Handed over before the kill: it is received, and the kill comes at the next park.
            let got = Arc::new(AtomicUsize::new(0));
            let (r, o, g) = (receiver.clone(), other.clone(), got.clone());
            let waits = spawn(move || {
                select! { v = r.receiving() => g.store(v.unwrap() as usize, SeqCst), _ = o.receiving() => () }
                yield_now();
                g.store(0, SeqCst);
            });
            yield_now();
            sender.send(5).unwrap();
            waits.kill();
            assert!(waits.join().unwrap_err().is_killed());
            assert_eq!(got.load(SeqCst), 5);
            shield(|| assert!(receiver.is_empty()));
        });
    });
}

/// An unsent value comes back to its arm, is dropped with it, and is never sent.
#[test]
fn a_value_not_sent_is_dropped_once() {
    within("a_value_not_sent_is_dropped_once", || {
        run(1, || {
            struct Counts(Arc<AtomicUsize>);
            impl Drop for Counts {
                fn drop(&mut self) {
                    self.0.fetch_add(1, SeqCst);
                }
            }
            let dropped = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = rendezvous::<Counts>();
            select! {
                _ = sender.sending(Counts(dropped.clone())) => unreachable!(),
                _ = after(Duration::from_millis(1)) => (),
            }
            assert_eq!(dropped.load(SeqCst), 1);
            let (s, d) = (sender.clone(), dropped.clone());
            let waits = spawn(move || {
                select! {
                    _ = s.sending(Counts(d)) => (),
                    _ = after(FOR_EVER) => (),
                }
            });
            yield_now();
            waits.kill();
            waits.join().unwrap_err();
            assert_eq!(dropped.load(SeqCst), 2);
            assert!(receiver.try_recv().is_err());
        });
    });
}

/// Selects that wait do not come in the way of others' order, and gone ones are passed over.
#[test]
fn first_come_first_served_among_arms_and_others() {
    within("first_come_first_served_among_arms_and_others", || {
        run(1, || {
            let (sender, receiver) = unbounded::<usize>();
            let (_never, never) = unbounded::<usize>();
            let (order, orders) = unbounded();
            let tasks: Vec<_> = (0..10)
                .map(|i| {
                    let (r, n, o) = (receiver.clone(), never.clone(), order.clone());
                    spawn(move || {
                        let v = if i % 2 == 0 {
                            r.recv()
                        } else {
                            select! { v = r.receiving() => v, v = n.receiving() => v }
                        };
                        o.send((i, v.unwrap())).unwrap();
                    })
                })
                .collect();
            yield_now();
            (0..10).for_each(|i| sender.send(i).unwrap());
            join_all(tasks);
            drop(order);
            assert!(orders.iter().all(|(task, value)| task == value));
        });
    });
}

/// An arm whose `line_up` panics leaves nobody behind.
#[test]
fn an_arm_that_panics() {
    struct Bad;
    impl sward_runtime::sync::Arm for Bad {
        type Output = ();
        fn attempt(&mut self) -> Option<()> {
            None
        }
        fn line_up(&mut self, _: sward_runtime::sync::Slot<'_>) -> bool {
            panic!("no")
        }
        fn leave(&mut self, _: bool) -> Option<()> {
            None
        }
    }
    within("an_arm_that_panics", || {
        run(1, || {
            let (sender, receiver) = unbounded::<i32>();
            let e = catch_unwind(AssertUnwindSafe(|| {
                select! { _ = receiver.receiving() => (), () = Bad => () }
            }));
            assert!(e.is_err());
            sender.send(1).unwrap();
            assert_eq!(receiver.len(), 1);
        });
    });
}

/// A waker may be kept beyond its select, and used from any thread.
#[test]
fn a_waker_that_stays() {
    use sward_runtime::sync::{Arm, ArmWaker, ShortLock, Slot};
    struct Keeps(Arc<ShortLock<Vec<ArmWaker>>>);
    impl Arm for Keeps {
        type Output = ();
        fn attempt(&mut self) -> Option<()> {
            None
        }
        fn line_up(&mut self, slot: Slot<'_>) -> bool {
            self.0.lock().push(slot.waker());
            false
        }
        fn leave(&mut self, chosen: bool) -> Option<()> {
            chosen.then_some(())
        }
    }
    within("a_waker_that_stays", || {
        run(2, || {
            let kept = Arc::new(ShortLock::new(Vec::new()));
            for _ in 0..100 {
                // These give up, and leave their wakers behind.
                for _ in 0..3 {
                    select! {
                        () = Keeps(kept.clone()) => unreachable!(),
                        _ = after(Duration::from_nanos(1)) => (),
                    }
                }
                let old = std::mem::take(&mut *kept.lock());
                let wakers = kept.clone();
                let thread = std::thread::spawn(move || {
                    let new = loop {
                        if let Some(new) = wakers.lock().pop() {
                            break new;
                        }
                        std::thread::yield_now();
                    };
                    assert!(!old.into_iter().any(ArmWaker::choose));
                    assert!(new.choose());
                });
                select! { () = Keeps(kept.clone()) => () }
                thread.join().unwrap();
            }
        });
    });
}

/// An arm is chosen and then has nothing, and a kill came after the choice: it does not wait again.
#[test]
fn a_kill_after_a_vain_choice() {
    use sward_runtime::sync::{Arm, ArmWaker, ShortLock, Slot};
    struct Vain(Arc<ShortLock<Vec<ArmWaker>>>);
    impl Arm for Vain {
        type Output = ();
        fn attempt(&mut self) -> Option<()> {
            None
        }
        fn line_up(&mut self, slot: Slot<'_>) -> bool {
            self.0.lock().push(slot.waker());
            false
        }
        fn leave(&mut self, _: bool) -> Option<()> {
            None
        }
    }
    within("a_kill_after_a_vain_choice", || {
        run(1, || {
            let kept = Arc::new(ShortLock::new(Vec::new()));
            let wakers = kept.clone();
            let task = spawn(move || select! { () = Vain(wakers) => () });
            let waker = loop {
                if let Some(waker) = kept.lock().pop() {
                    break waker;
                }
                yield_now();
            };
            assert!(waker.choose());
            task.kill();
            assert!(matches!(task.join(), Err(JoinError::Killed)));
        });
    });
}

/// In a shuffled runtime the seed says which of the ready arms is taken.
#[test]
fn a_seed_gives_the_choice_too() {
    within("a_seed_gives_the_choice_too", || {
        let choices = |seed| {
            let runtime = Runtime::builder().virtual_clock().shuffle(seed).build();
            runtime.unwrap().run(|| {
                let event = Event::new();
                event.set();
                let choice = || {
                    select! {
                        () = event.waiting() => 0,
                        () = event.waiting() => 1,
                    }
                };
                (0..30).map(|_| choice()).collect::<Vec<_>>()
            })
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
        assert!(choices(1).contains(&0) && choices(1).contains(&1));
    });
}
