//! Broadcast: every receiver gets every value sent since it came, in order, or is told exactly how
//! many it missed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::broadcast::{
    self, Lagged, Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError,
};
use sward_runtime::sync::unbounded;
use sward_runtime::{Runtime, TaskState, WaitKind, join_all, spawn, timeout, yield_now};

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

fn until_parked(runtime: &Runtime, count: usize) {
    until(|| {
        let dump = runtime.dump();
        let parked = |t: &&sward_runtime::DumpedTask| {
            t.reason.kind() == WaitKind::Broadcast && t.state == TaskState::Parked
        };
        dump.tasks().iter().filter(parked).count() == count
    });
}

#[test]
fn every_receiver_gets_every_value() {
    within("every_receiver_gets_every_value", || {
        everywhere(|| {
            let (sender, mut first) = broadcast::channel(8);
            let mut second = first.resubscribe();
            (0..3).for_each(|i| assert_eq!(sender.send(i), Ok(2)));
            let mut third = sender.subscribe();
            assert_eq!(sender.receiver_count(), 3);
            assert_eq!((first.len(), second.len(), third.len()), (3, 3, 0));
            assert_eq!(sender.send(3), Ok(3));
            assert_eq!(
                (third.recv(), third.try_recv()),
                (Ok(3), Err(TryRecvError::Empty))
            );
            assert_eq!(
                (0..4).map(|_| first.recv().unwrap()).collect::<Vec<_>>(),
                [0, 1, 2, 3]
            );
            assert_eq!(sender.len(), 4);
            assert_eq!(second.try_recv(), Ok(0));
            assert_eq!((sender.len(), second.len()), (3, 3));
            assert!(first.is_empty() && third.is_empty() && !second.is_empty());
            // Nobody but the second one has anything to get.
            drop(second);
            assert!(sender.is_empty());
        });
    });
}

#[test]
fn who_lags_is_told() {
    within("who_lags_is_told", || {
        everywhere(|| {
            for capacity in [1, 2, 3, 7, 2000] {
                let (sender, mut slow) = broadcast::channel(capacity);
                let mut quick = sender.subscribe();
                for i in 0..capacity + 5 {
                    sender.send(i).unwrap();
                    assert_eq!(quick.recv(), Ok(i));
                }
                assert_eq!((sender.len(), slow.len()), (capacity, capacity));
                assert_eq!(slow.recv(), Err(RecvError::Lagged(5)));
                assert_eq!(slow.recv(), Ok(5));
                sender.send(1000).unwrap();
                assert_eq!(slow.len(), capacity);
                sender.send(1001).unwrap();
                assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(1)));
                drop(sender);
                assert_eq!(slow.iter().filter(Result::is_ok).count(), capacity);
                assert_eq!(slow.recv(), Err(RecvError::Closed));
                assert!(quick.iter().last().is_some());
            }
            // Far behind, and the senders gone.
            let (sender, mut slow) = broadcast::channel(2);
            (0..100).for_each(|i| drop(sender.send(i)));
            drop(sender);
            assert_eq!(slow.recv_timeout(LONG), Err(RecvTimeoutError::Lagged(98)));
            assert!(slow.iter().eq([Ok(98), Ok(99)]));
            let text = Lagged(98).to_string();
            assert!(text.contains("missed 98 values"), "{text}");
            assert_eq!(RecvError::Lagged(98).to_string(), text);
        });
    });
}

#[test]
fn both_ends_close() {
    within("both_ends_close", || {
        everywhere(|| {
            let (sender, mut receiver) = broadcast::channel(4);
            sender.send(1).unwrap();
            let second = sender.clone();
            drop(sender);
            assert!(!receiver.is_closed());
            drop(second);
            assert!(receiver.is_closed());
            assert_eq!(receiver.resubscribe().recv(), Err(RecvError::Closed));
            assert_eq!(receiver.recv(), Ok(1));
            assert_eq!(receiver.recv(), Err(RecvError::Closed));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
            assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Closed));
            assert!(receiver.iter().next().is_none());

            let (sender, receiver) = broadcast::channel(4);
            sender.send("kept".to_owned()).unwrap();
            drop(receiver);
            assert!(sender.is_closed() && sender.is_empty());
            let error = sender.send("mine".to_owned()).unwrap_err();
            assert_eq!(error, SendError::Closed("mine".to_owned()));
            assert_eq!(error.into_inner(), "mine");
            // It can be opened again.
            let mut receiver = sender.subscribe();
            assert_eq!(sender.send("new".to_owned()), Ok(1));
            assert_eq!(receiver.recv().unwrap(), "new");
        });
    });
}

#[test]
fn a_ring_without_room_is_refused() {
    within("a_ring_without_room_is_refused", || {
        let panic = catch_unwind(|| broadcast::channel::<u8>(0)).unwrap_err();
        let text = panic.downcast_ref::<&str>().unwrap();
        assert!(text.contains("capacity 0"), "{text}");
    });
}

#[test]
fn limits_and_kills() {
    within("limits_and_kills", || {
        everywhere(|| {
            let (sender, mut receiver) = broadcast::channel(4);
            let begun = Instant::now();
            assert_eq!(
                receiver.recv_timeout(SHORT),
                Err(RecvTimeoutError::TimedOut)
            );
            assert!(timeout(SHORT, || receiver.recv()).is_err());
            assert!(begun.elapsed() >= 2 * SHORT);
            sender.send(1).unwrap();
            assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        });
        let runtime = runtime(1);
        let (sender, receiver) = broadcast::channel(4);
        let got = Arc::new(AtomicUsize::new(0));
        let task = {
            let (mut receiver, got) = (sender.subscribe(), got.clone());
            runtime.spawn(move || {
                got.store(receiver.recv().unwrap(), SeqCst);
                yield_now();
                unreachable!()
            })
        };
        let doomed = {
            let mut receiver = sender.subscribe();
            runtime.spawn(move || receiver.recv())
        };
        until_parked(&runtime, 2);
        let text = runtime.dump().to_string();
        assert!(text.contains("value of broadcast 0x"), "{text}");
        doomed.kill();
        assert!(doomed.join().unwrap_err().is_killed());
        assert_eq!(sender.receiver_count(), 2);
        runtime.run(|| {
            // Woken first, killed after: the value was received.
            sender.send(4).unwrap();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
        });
        assert_eq!((got.load(SeqCst), receiver.len()), (4, 1));
    });
}

#[derive(Default)]
struct Counts {
    clones: AtomicUsize,
    gone: AtomicUsize,
    bad: AtomicBool,
}

struct Counted(Arc<Counts>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        if self.0.bad.load(SeqCst) {
            std::panic::resume_unwind(Box::new("does not like to be cloned"));
        }
        self.0.clones.fetch_add(1, SeqCst);
        Self(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, SeqCst);
    }
}

/// The last receiver gets the value itself; what all have is not kept.
#[test]
fn values_are_cloned_no_more_than_needed() {
    within("values_are_cloned_no_more_than_needed", || {
        everywhere(|| {
            let counts = Arc::new(Counts::default());
            let n = |c: &AtomicUsize| c.load(SeqCst);
            let (sender, mut first) = broadcast::channel(4);
            let mut second = sender.subscribe();
            sender.send(Counted(counts.clone())).map_err(drop).unwrap();
            drop(first.recv().unwrap());
            assert_eq!((n(&counts.clones), n(&counts.gone)), (1, 1));
            drop(second.recv().unwrap());
            assert_eq!((n(&counts.clones), n(&counts.gone)), (1, 2));
            // Pushed out, or left behind by the last one who wanted them.
            for _ in 0..10 {
                sender.send(Counted(counts.clone())).map_err(drop).unwrap();
            }
            assert_eq!(n(&counts.gone), 8);
            drop(first);
            assert_eq!(n(&counts.gone), 8);
            // A clone that panics is lost for this receiver, and for no other.
            let mut third = sender.subscribe();
            sender.send(Counted(counts.clone())).map_err(drop).unwrap();
            drop(second);
            drop(third.recv().unwrap());
            assert_eq!((n(&counts.clones), n(&counts.gone)), (1, 13));
            let mut fourth = sender.subscribe();
            sender.send(Counted(counts.clone())).map_err(drop).unwrap();
            counts.bad.store(true, SeqCst);
            assert!(catch_unwind(AssertUnwindSafe(|| third.recv().is_ok())).is_err());
            assert!(fourth.recv().is_ok() && third.is_empty());
            assert_eq!(n(&counts.gone), 14);
        });
    });
}

/// A value whose end uses the broadcast that it was in, and panics.
#[test]
fn values_with_wild_ends() {
    #[derive(Clone)]
    struct Wild {
        _wildness: Arc<Wildness>,
    }
    struct Wildness(Option<Sender<Wild>>);
    impl Drop for Wildness {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                drop(sender.subscribe());
                std::panic::resume_unwind(Box::new("a wild end"));
            }
        }
    }
    fn wild(uses: Option<Sender<Wild>>) -> Wild {
        Wild {
            _wildness: Arc::new(Wildness(uses)),
        }
    }
    within("values_with_wild_ends", || {
        everywhere(|| {
            let (sender, mut receiver) = broadcast::channel(1);
            assert!(sender.send(wild(Some(sender.clone()))).is_ok());
            let send = || drop(sender.send(wild(None)));
            assert!(catch_unwind(AssertUnwindSafe(send)).is_err());
            assert_eq!(receiver.recv().err(), Some(RecvError::Lagged(1)));
            assert!(receiver.recv().is_ok());
            assert!(sender.send(wild(Some(sender.clone()))).is_ok());
            assert!(catch_unwind(AssertUnwindSafe(|| drop(receiver))).is_err());
            assert_eq!((sender.len(), sender.receiver_count()), (0, 0));
        });
    });
}

#[test]
fn while_unwinding() {
    struct Guard(
        Sender<u32>,
        Receiver<u32>,
        sward_runtime::sync::Sender<String>,
    );
    impl Drop for Guard {
        fn drop(&mut self) {
            let none = format!("{:?} {:?}", self.1.recv(), self.1.recv_timeout(LONG));
            self.0.send(2).unwrap();
            let some = format!("{:?} {:?}", self.1.recv(), self.1.try_recv());
            self.2.send(format!("{none} {some}")).unwrap();
        }
    }
    within("while_unwinding", || {
        runtime(1).run(|| {
            let (tell, told) = unbounded();
            let (sender, receiver) = broadcast::channel(1);
            let task = spawn(move || {
                let _guard = Guard(sender, receiver, tell);
                std::panic::resume_unwind(Box::new("unwinds"));
            });
            assert!(task.join().is_err());
            assert_eq!(
                told.recv().unwrap(),
                "Err(Unwinding) Err(Unwinding) Ok(2) Err(Empty)"
            );
        });
    });
}

/// What a receiver got and what it was told that it missed is everything, in order.
fn follow(mut receiver: Receiver<u64>, from: u64, pause: u64) -> u64 {
    let mut next = from;
    let mut n = 0;
    loop {
        n += 1;
        if pause > 0 && n % pause == 0 {
            yield_now();
        }
        let got = if pause == 3 {
            receiver.recv_timeout(Duration::from_micros(20))
        } else {
            receiver.recv_timeout(LONG)
        };
        match got {
            Ok(value) => {
                assert_eq!(value, next, "a gap that was not told");
                next += 1;
            }
            Err(RecvTimeoutError::Lagged(missed)) => {
                assert!(missed > 0);
                next += missed;
            }
            Err(RecvTimeoutError::TimedOut) => {}
            Err(_) => return next,
        }
    }
}

/// Receivers of every speed, on both workers and threads; some come late, go early, or are killed.
#[test]
fn nothing_is_missed_in_silence() {
    within("nothing_is_missed_in_silence", || {
        let mut random = Random::new(99);
        for round in 0..60 {
            let runtime = runtime(1 + round % 2);
            let capacity = 1 + random.below(20) as usize;
            let (sender, receiver) = broadcast::channel(capacity);
            let all = 600;
            let mut tasks: Vec<_> = (0..6)
                .map(|pause| {
                    let receiver = sender.subscribe();
                    runtime.spawn(move || follow(receiver, 0, pause))
                })
                .collect();
            let doomed: Vec<_> = (0..4)
                .map(|pause| {
                    let receiver = sender.subscribe();
                    runtime.spawn(move || follow(receiver, 0, pause))
                })
                .collect();
            let thread = std::thread::spawn(move || follow(receiver, 0, 0));
            for i in 0..all {
                if i % 150 == 75 {
                    let receiver = sender.subscribe();
                    tasks.push(runtime.spawn(move || follow(receiver, i, 1)));
                    doomed[(i / 150) as usize].kill();
                }
                sender.send(i).unwrap();
                if random.below(8) == 0 {
                    std::thread::yield_now();
                }
            }
            drop(sender);
            for end in join_all(tasks) {
                assert_eq!(end.unwrap(), all);
            }
            assert_eq!(thread.join().unwrap(), all);
            for end in join_all(doomed) {
                // A kill may come too late.
                match end {
                    Ok(next) => assert_eq!(next, all),
                    Err(e) => assert!(e.is_killed(), "{e}"),
                }
            }
        }
    });
}

/// Several senders: all receivers see the same order.
#[test]
fn one_order_for_all() {
    within("one_order_for_all", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (sender, receiver) = broadcast::channel(10_000);
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let mut receiver = sender.subscribe();
                    runtime.spawn(move || receiver.iter().map(Result::unwrap).collect::<Vec<u64>>())
                })
                .collect();
            until_parked(&runtime, 4);
            let senders: Vec<_> = (0..4)
                .map(|s| {
                    let sender = sender.clone();
                    let send = move || {
                        (0..500).for_each(|i| drop(sender.send(s * 500 + i).unwrap()));
                    };
                    std::thread::spawn(send)
                })
                .collect();
            senders.into_iter().for_each(|s| s.join().unwrap());
            drop((sender, receiver));
            let mut seen: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            assert!(seen.iter().all(|list| *list == seen[0]));
            let mut list = seen.swap_remove(0);
            for s in 0..4 {
                let of_one = list.iter().filter(|&&i| i / 500 == s);
                assert!(of_one.is_sorted());
            }
            list.sort_unstable();
            assert!(list.into_iter().eq(0..2000));
        }
    });
}

#[test]
fn text() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("text", || {
        let (sender, receiver) = broadcast::channel(2);
        sender.send(1).unwrap();
        shared(&(&sender, &receiver));
        assert_eq!(
            format!("{sender:?} {receiver:?}"),
            "Sender { len: 1, receivers: 1, .. } Receiver { len: 1, .. }"
        );
        drop(receiver);
        let error = sender.send(2).unwrap_err();
        assert_eq!(
            format!("{error:?}: {error}"),
            "Closed: the broadcast has no receiver left"
        );
    });
}
