//! Channels: order, capacity, fairness, disconnection at every moment, and that no value is lost,
//! doubled or dropped twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::channel::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use sward_runtime::sync::{Event, Receiver, Sender, bounded, rendezvous, unbounded};
use sward_runtime::{
    Builder, JoinHandle, Runtime, WaitKind, dump, join_all, sleep, spawn, stats, yield_now,
};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// On one worker, on two, and on an ordinary thread.
fn everywhere(check: impl Fn() + Send + Sync) {
    runtime(1).run(&check);
    runtime(2).run(&check);
    check();
}

/// Waits until that many tasks of this runtime are parked for that reason.
fn until_parked(kind: WaitKind, count: usize) {
    until(|| {
        dump()
            .tasks()
            .iter()
            .filter(|t| t.reason.kind() == kind && is_parked(t))
            .count()
            == count
    });
}

fn is_parked(task: &sward_runtime::DumpedTask) -> bool {
    task.state == sward_runtime::TaskState::Parked
}

type Ends<T> = (Sender<T>, Receiver<T>);

// ---- order and capacity ----------------------------------------------------------------------------

#[test]
fn values_come_in_order() {
    within("values_come_in_order", || {
        everywhere(|| {
            let kinds: [fn() -> Ends<u32>; 4] =
                [unbounded, rendezvous, || bounded(1), || bounded(7)];
            for kind in kinds {
                let (sender, receiver) = kind();
                let task = spawn(move || (0..1000).for_each(|i| sender.send(i).unwrap()));
                assert!(receiver.iter().eq(0..1000));
                task.join().unwrap();
                assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
            }
        });
    });
}

#[test]
fn capacity_is_exact() {
    within("capacity_is_exact", || {
        everywhere(|| {
            for capacity in [1, 2, 3, 100, 3000] {
                let (sender, receiver) = bounded(capacity);
                for i in 0..capacity {
                    assert_eq!(sender.try_send(i), Ok(()));
                }
                assert_eq!(sender.try_send(9999), Err(TrySendError::Full(9999)));
                assert_eq!((sender.len(), receiver.len()), (capacity, capacity));
                assert_eq!(receiver.try_recv(), Ok(0));
                assert_eq!(sender.try_send(capacity), Ok(()));
                assert!(sender.try_send(0).is_err());
                drop(sender);
                assert!(receiver.into_iter().eq(1..=capacity));
            }
        });
    });
}

#[test]
fn an_unbounded_channel_never_waits() {
    within("an_unbounded_channel_never_waits", || {
        everywhere(|| {
            let (sender, receiver) = unbounded();
            for i in 0..100_000 {
                sender.try_send(i).unwrap();
            }
            assert_eq!(sender.len(), 100_000);
            drop(sender);
            assert!(receiver.iter().eq(0..100_000));
        });
    });
}

#[test]
fn a_rendezvous_holds_nothing() {
    within("a_rendezvous_holds_nothing", || {
        everywhere(|| {
            let (sender, receiver) = rendezvous();
            assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(
                sender.send_timeout(2, SHORT),
                Err(SendTimeoutError::TimedOut(2))
            );
            assert_eq!(
                receiver.recv_timeout(SHORT),
                Err(RecvTimeoutError::TimedOut)
            );
            assert!(sender.is_empty() && receiver.is_empty());
            // A send ends only when the value has been taken.
            let sent = Arc::new(AtomicUsize::new(0));
            let task = {
                let sent = sent.clone();
                spawn(move || {
                    sender.send(3).unwrap();
                    sent.store(1, SeqCst);
                })
            };
            sleep(SHORT);
            assert_eq!(sent.load(SeqCst), 0, "the send ended without a receiver");
            assert_eq!(receiver.recv(), Ok(3));
            task.join().unwrap();
        });
    });
}

#[test]
fn a_rendezvous_with_who_waits_needs_no_waiting() {
    within("a_rendezvous_with_who_waits_needs_no_waiting", || {
        runtime(1).run(|| {
            let (sender, receiver) = rendezvous();
            let task = spawn(move || receiver.recv());
            until_parked(WaitKind::Recv, 1);
            assert_eq!(sender.try_send(5), Ok(()));
            assert_eq!(sender.try_send(6), Err(TrySendError::Full(6)));
            assert_eq!(task.join().unwrap(), Ok(5));
            let (sender, receiver) = rendezvous();
            let task = spawn(move || sender.send(7));
            until_parked(WaitKind::Send, 1);
            assert_eq!(receiver.try_recv(), Ok(7));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            task.join().unwrap().unwrap();
        });
    });
}

#[test]
fn values_of_no_size_and_of_much() {
    within("values_of_no_size_and_of_much", || {
        everywhere(|| {
            let (sender, receiver) = bounded::<()>(2);
            let task = spawn(move || (0..1000).for_each(|_| sender.send(()).unwrap()));
            assert_eq!(receiver.iter().count(), 1000);
            task.join().unwrap();
            let (sender, receiver) = rendezvous::<[u64; 128]>();
            let task = spawn(move || (0..100).for_each(|i| sender.send([i; 128]).unwrap()));
            assert!(receiver.iter().zip(0..).all(|(value, i)| value == [i; 128]));
            task.join().unwrap();
        });
    });
}

// ---- fairness --------------------------------------------------------------------------------------

#[test]
fn receivers_are_served_first_come_first_served() {
    within("receivers_are_served_first_come_first_served", || {
        for kind in [unbounded, rendezvous, || bounded(4)] as [fn() -> Ends<usize>; 3] {
            runtime(1).run(move || {
                let (sender, receiver) = kind();
                let tasks: Vec<_> = (0..100)
                    .map(|_| {
                        let receiver = receiver.clone();
                        spawn(move || receiver.recv().unwrap())
                    })
                    .collect();
                until_parked(WaitKind::Recv, 100);
                for i in 0..100 {
                    sender.send(i).unwrap();
                }
                let got = join_all(tasks).into_iter().map(Result::unwrap);
                assert!(got.eq(0..100), "somebody overtook");
            });
        }
    });
}

#[test]
fn senders_are_served_first_come_first_served() {
    within("senders_are_served_first_come_first_served", || {
        for capacity in [0, 1, 4] {
            runtime(1).run(move || {
                let (sender, receiver) = bounded(capacity);
                let tasks: Vec<_> = (0..100)
                    .map(|i| {
                        let sender = sender.clone();
                        spawn(move || sender.send(i).unwrap())
                    })
                    .collect();
                until_parked(WaitKind::Send, 100 - capacity);
                assert_eq!(receiver.len(), capacity);
                drop(sender);
                assert!(receiver.iter().eq(0..100), "somebody overtook");
                join_all(tasks);
            });
        }
    });
}

/// Who tries does not overtake who waits.
#[test]
fn trying_does_not_overtake() {
    within("trying_does_not_overtake", || {
        runtime(1).run(|| {
            let (sender, receiver) = bounded(1);
            sender.send(0).unwrap();
            let waits = {
                let sender = sender.clone();
                spawn(move || sender.send(1))
            };
            until_parked(WaitKind::Send, 1);
            assert_eq!(receiver.try_recv(), Ok(0));
            // The place went to the one who waited, even though it has not run yet.
            assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
            assert_eq!(receiver.try_recv(), Ok(1));
            waits.join().unwrap().unwrap();

            let waits = {
                let receiver = receiver.clone();
                spawn(move || receiver.recv())
            };
            until_parked(WaitKind::Recv, 1);
            sender.send(3).unwrap();
            assert_eq!(
                receiver.try_recv(),
                Err(TryRecvError::Empty),
                "the value was stolen"
            );
            assert_eq!(waits.join().unwrap(), Ok(3));
        });
    });
}

/// Equal receivers get about equal shares.
#[test]
fn shares_are_fair() {
    within("shares_are_fair", || {
        runtime(1).run(|| {
            let (sender, receiver) = rendezvous();
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let receiver = receiver.clone();
                    spawn(move || receiver.iter().count())
                })
                .collect();
            drop(receiver);
            (0..10_000).for_each(|i| sender.send(i).unwrap());
            drop(sender);
            for share in join_all(tasks) {
                let share = share.unwrap();
                // Whoever runs first after the sender has parked gets one more in each round.
                assert!(
                    (500..=2000).contains(&share),
                    "a share of {share} of 10,000 among 10"
                );
            }
        });
    });
}

// ---- disconnection ----------------------------------------------------------------------------------

#[test]
fn values_are_handed_back() {
    within("values_are_handed_back", || {
        everywhere(|| {
            for capacity in [0, 3, usize::MAX] {
                let (sender, receiver) = bounded(capacity);
                assert!(!sender.is_disconnected() && !receiver.is_disconnected());
                drop(receiver);
                assert!(sender.is_disconnected());
                let value = || String::from("mine");
                assert_eq!(sender.send(value()), Err(SendError::Disconnected(value())));
                assert_eq!(
                    sender.try_send(value()),
                    Err(TrySendError::Disconnected(value()))
                );
                let end = sender.send_timeout(value(), LONG);
                assert_eq!(end, Err(SendTimeoutError::Disconnected(value())));
                assert_eq!(sender.send(value()).unwrap_err().into_inner(), "mine");
                assert_eq!(sender.try_send(value()).unwrap_err().into_inner(), "mine");
                assert_eq!(end.unwrap_err().into_inner(), "mine");
            }
            let (sender, _receiver) = bounded(1);
            sender.send(Box::new(1)).unwrap();
            assert_eq!(
                sender.try_send(Box::new(2)),
                Err(TrySendError::Full(Box::new(2)))
            );
            let end = sender.send_timeout(Box::new(3), SHORT);
            assert_eq!(end, Err(SendTimeoutError::TimedOut(Box::new(3))));
        });
    });
}

#[test]
fn what_was_sent_outlives_the_senders() {
    within("what_was_sent_outlives_the_senders", || {
        everywhere(|| {
            let (sender, receiver) = bounded(10);
            let second = sender.clone();
            sender.send(1).unwrap();
            drop(sender);
            assert!(!receiver.is_disconnected());
            second.send(2).unwrap();
            drop(second);
            assert!(receiver.is_disconnected());
            assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(1), Ok(2)));
            assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(
                receiver.recv_timeout(LONG),
                Err(RecvTimeoutError::Disconnected)
            );
            assert_eq!(receiver.iter().next(), None);
        });
    });
}

/// The last sender goes while receivers wait: tasks of both workers, and threads.
#[test]
fn the_last_sender_goes_while_others_wait() {
    within("the_last_sender_goes_while_others_wait", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            for kind in [unbounded, rendezvous, || bounded(2)] as [fn() -> Ends<u32>; 3] {
                let (sender, receiver) = kind();
                let tasks: Vec<_> = (0..50)
                    .map(|_| {
                        let receiver = receiver.clone();
                        runtime.spawn(move || receiver.recv())
                    })
                    .collect();
                let timed: Vec<_> = (0..50)
                    .map(|_| {
                        let receiver = receiver.clone();
                        runtime.spawn(move || receiver.recv_timeout(LONG))
                    })
                    .collect();
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        let receiver = receiver.clone();
                        std::thread::spawn(move || receiver.recv())
                    })
                    .collect();
                until(|| waiting(&runtime, WaitKind::Recv) == 100);
                let second = sender.clone();
                drop(sender);
                assert_eq!(waiting(&runtime, WaitKind::Recv), 100, "a sender is left");
                drop(second);
                for end in join_all(tasks) {
                    assert_eq!(end.unwrap(), Err(RecvError::Disconnected));
                }
                for end in join_all(timed) {
                    assert_eq!(end.unwrap(), Err(RecvTimeoutError::Disconnected));
                }
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), Err(RecvError::Disconnected));
                }
            }
        }
    });
}

fn waiting(runtime: &Runtime, kind: WaitKind) -> usize {
    runtime
        .dump()
        .tasks()
        .iter()
        .filter(|t| t.reason.kind() == kind && is_parked(t))
        .count()
}

/// The last receiver goes while senders wait: each gets its own value back.
#[test]
fn the_last_receiver_goes_while_others_wait() {
    within("the_last_receiver_goes_while_others_wait", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            for capacity in [0, 2] {
                let (sender, receiver) = bounded(capacity);
                (0..capacity).for_each(|i| sender.send(1000 + i).unwrap());
                let tasks: Vec<_> = (0..100)
                    .map(|i| {
                        let sender = sender.clone();
                        runtime.spawn(move || match i % 2 {
                            0 => sender.send(i).unwrap_err().into_inner(),
                            _ => sender.send_timeout(i, LONG).unwrap_err().into_inner(),
                        })
                    })
                    .collect();
                let threads: Vec<_> = (100..103)
                    .map(|i| {
                        let sender = sender.clone();
                        std::thread::spawn(move || sender.send(i).unwrap_err().into_inner())
                    })
                    .collect();
                until(|| waiting(&runtime, WaitKind::Send) == 100);
                let second = receiver.clone();
                drop(receiver);
                assert_eq!(waiting(&runtime, WaitKind::Send), 100, "a receiver is left");
                drop(second);
                assert!(join_all(tasks).into_iter().map(Result::unwrap).eq(0..100));
                assert!(threads.into_iter().map(|t| t.join().unwrap()).eq(100..103));
            }
        }
    });
}

/// Closed by either end: nothing gets in any more, what is in can be received.
#[test]
fn a_closed_channel_drains() {
    within("a_closed_channel_drains", || {
        everywhere(|| {
            for by_sender in [true, false] {
                let (sender, receiver) = bounded(5);
                (0..3).for_each(|i| sender.send(i).unwrap());
                for _ in 0..2 {
                    if by_sender {
                        sender.close();
                    } else {
                        receiver.close();
                    }
                }
                assert!(sender.is_disconnected() && receiver.is_disconnected());
                assert_eq!(sender.send(7), Err(SendError::Disconnected(7)));
                assert_eq!(sender.try_send(7), Err(TrySendError::Disconnected(7)));
                let second = sender.clone();
                assert_eq!(second.send(7), Err(SendError::Disconnected(7)));
                assert!(receiver.iter().eq(0..3));
                assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
                drop(receiver);
                assert_eq!(sender.send(7), Err(SendError::Disconnected(7)));
            }
        });
    });
}

/// Closed while others wait: senders get their values back, receivers an error.
#[test]
fn closing_sends_everybody_away() {
    within("closing_sends_everybody_away", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            for by_sender in [true, false] {
                let (sender, receiver) = bounded(1);
                sender.send(1000).unwrap();
                let senders: Vec<_> = (0..30)
                    .map(|i| {
                        let sender = sender.clone();
                        Worker::start(i, &runtime, move || match i % 2 {
                            0 => sender.send(i).unwrap_err().into_inner(),
                            _ => sender.send_timeout(i, LONG).unwrap_err().into_inner(),
                        })
                    })
                    .collect();
                let (other_sender, other) = rendezvous::<u64>();
                let receivers: Vec<_> = (0..30)
                    .map(|i| {
                        let other = other.clone();
                        Worker::start(i, &runtime, move || {
                            assert_eq!(other.recv(), Err(RecvError::Disconnected));
                        })
                    })
                    .collect();
                until(|| receiver.waiting_senders() == 30 && other.waiting_receivers() == 30);
                assert_eq!(sender.waiting_senders(), 30);
                assert_eq!(other_sender.waiting_receivers(), 30);
                assert_eq!(
                    (sender.waiting_receivers(), other.waiting_senders()),
                    (0, 0)
                );
                if by_sender {
                    sender.close();
                    other_sender.close();
                } else {
                    receiver.close();
                    other.close();
                }
                assert!(senders.into_iter().map(Worker::end).eq(0..30));
                receivers.into_iter().for_each(Worker::end);
                assert!(receiver.iter().eq([1000]));
            }
        }
    });
}

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    dropped: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Counts its making and its end.
struct Counted(Arc<Counts>);

impl Counted {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.made.fetch_add(1, SeqCst);
        Self(counts.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

/// Ends go at random moments under traffic: each value ends exactly once, and none is received
/// that was not sent.
#[test]
fn ends_go_at_random_moments() {
    within("ends_go_at_random_moments", || {
        let mut random = Random::new(77);
        let runtimes = [runtime(1), runtime(2)];
        for round in 0..400 {
            let runtime = &runtimes[round % 2];
            let counts = Arc::new(Counts::default());
            let (sender, receiver) = bounded(usize::try_from(random.below(4)).unwrap());
            let mut tasks = Vec::new();
            for _ in 0..4 {
                let (most, slow) = (random.below(30), random.below(3));
                let (sender, counts_) = (sender.clone(), counts.clone());
                tasks.push(runtime.spawn(move || {
                    for _ in 0..most {
                        if sender.send(Counted::new(&counts_)).is_err() {
                            return;
                        }
                        counts_.sent.fetch_add(1, SeqCst);
                        if slow == 0 {
                            yield_now();
                        }
                    }
                }));
                let (most, slow) = (random.below(30), random.below(3));
                let (receiver, counts) = (receiver.clone(), counts.clone());
                tasks.push(runtime.spawn(move || {
                    for _ in 0..most {
                        let limit = Duration::from_micros(if slow == 0 { 20 } else { 1_000_000 });
                        match receiver.recv_timeout(limit) {
                            Ok(_) => drop(counts.received.fetch_add(1, SeqCst)),
                            Err(RecvTimeoutError::TimedOut) => {}
                            Err(_) => return,
                        }
                    }
                }));
            }
            if random.below(4) == 0 {
                tasks[usize::try_from(random.below(8)).unwrap()].kill();
            }
            drop((sender, receiver));
            join_all(tasks);
            let n = |counter: &AtomicU64| counter.load(SeqCst);
            assert_eq!(n(&counts.made), n(&counts.dropped), "round {round}");
            assert!(n(&counts.received) <= n(&counts.made), "round {round}");
            assert!(n(&counts.sent) <= n(&counts.made), "round {round}");
        }
    });
}

#[test]
fn buffered_values_are_dropped_once() {
    within("buffered_values_are_dropped_once", || {
        everywhere(|| {
            for receiver_first in [true, false] {
                let counts = Arc::new(Counts::default());
                let (sender, receiver) = unbounded();
                for _ in 0..1000 {
                    sender.send(Counted::new(&counts)).unwrap();
                }
                drop(receiver.recv());
                assert_eq!(counts.dropped.load(SeqCst), 1);
                if receiver_first {
                    drop(receiver);
                    assert_eq!(counts.dropped.load(SeqCst), 1000, "the receiver drops them");
                    drop(sender);
                } else {
                    drop(sender);
                    assert_eq!(counts.dropped.load(SeqCst), 1, "they may still be received");
                    drop(receiver);
                }
                assert_eq!(counts.dropped.load(SeqCst), 1000);
            }
        });
    });
}

/// A value may own ends of the channel that it lies in.
#[test]
fn a_value_that_owns_the_channel() {
    within("a_value_that_owns_the_channel", || {
        struct Knot {
            ends: Option<Ends<Self>>,
            gone: Arc<AtomicUsize>,
        }
        impl Drop for Knot {
            fn drop(&mut self) {
                if let Some((sender, receiver)) = self.ends.take() {
                    // Uses the very channel that drops it.
                    drop(sender.try_send(Self {
                        ends: None,
                        gone: self.gone.clone(),
                    }));
                    drop(receiver.try_recv());
                }
                self.gone.fetch_add(1, SeqCst);
            }
        }
        everywhere(|| {
            let gone = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = bounded(4);
            let ends = Some((sender.clone(), receiver.clone()));
            sender
                .send(Knot {
                    ends,
                    gone: gone.clone(),
                })
                .unwrap();
            drop(receiver.recv().unwrap());
            assert_eq!(gone.load(SeqCst), 2);
            sender
                .send(Knot {
                    ends: None,
                    gone: gone.clone(),
                })
                .unwrap();
            drop((sender, receiver));
            assert_eq!(gone.load(SeqCst), 3);
        });
    });
}

// ---- time --------------------------------------------------------------------------------------------

#[test]
fn time_limits() {
    within("time_limits", || {
        everywhere(|| {
            let (sender, receiver) = bounded(1);
            let begun = Instant::now();
            assert_eq!(
                receiver.recv_timeout(SHORT),
                Err(RecvTimeoutError::TimedOut)
            );
            assert!(begun.elapsed() >= SHORT);
            sender.send_timeout(1, LONG).unwrap();
            let begun = Instant::now();
            assert_eq!(
                sender.send_timeout(2, SHORT),
                Err(SendTimeoutError::TimedOut(2))
            );
            assert!(begun.elapsed() >= SHORT);
            assert_eq!(
                sender.send_timeout(2, Duration::ZERO),
                Err(SendTimeoutError::TimedOut(2))
            );
            assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
            assert_eq!(
                receiver.recv_timeout(Duration::ZERO),
                Err(RecvTimeoutError::TimedOut)
            );
            let task = spawn(move || receiver.recv_timeout(Duration::MAX));
            sender.send_timeout(3, Duration::MAX).unwrap();
            assert_eq!(task.join().unwrap(), Ok(3));
        });
    });
}

/// Who has given up is out of the line, wherever it stood.
#[test]
fn who_gives_up_leaves_the_line() {
    within("who_gives_up_leaves_the_line", || {
        runtime(1).run(|| {
            let (sender, receiver) = rendezvous();
            let tasks: Vec<_> = (0..30)
                .map(|i| {
                    let sender = sender.clone();
                    spawn(move || match i % 3 {
                        0 => sender.send_timeout(i, SHORT).is_ok(),
                        _ => sender.send(i).is_ok(),
                    })
                })
                .collect();
            until_parked(WaitKind::Send, 30);
            tasks.iter().skip(1).step_by(3).for_each(|t| t.kill());
            until(|| {
                tasks
                    .iter()
                    .enumerate()
                    .all(|(i, t)| i % 3 == 2 || t.is_finished())
            });
            drop(sender);
            assert!(receiver.iter().eq((0..30).filter(|i| i % 3 == 2)));
            for (i, end) in join_all(tasks).into_iter().enumerate() {
                match i % 3 {
                    0 => assert!(!end.unwrap()),
                    1 => assert!(end.unwrap_err().is_killed()),
                    _ => assert!(end.unwrap()),
                }
            }
        });
    });
}

/// Senders and receivers that give up all the time: each value arrives once, or comes back.
#[test]
fn impatient_ends_lose_nothing() {
    within("impatient_ends_lose_nothing", || {
        let runtime = runtime(2);
        for capacity in [0, 1, 3] {
            let (sender, receiver) = bounded(capacity);
            let senders: Vec<_> = (0..4_u64)
                .map(|s| {
                    let sender = sender.clone();
                    let work = move || {
                        for i in 0..500 {
                            let mut value = s * 500 + i;
                            let mut pause = 1;
                            while let Err(e) =
                                sender.send_timeout(value, Duration::from_micros(pause))
                            {
                                value = e.into_inner();
                                pause = (pause * 2).min(300);
                            }
                        }
                    };
                    Worker::start(s, &runtime, work)
                })
                .collect();
            let receivers: Vec<_> = (0..4_u64)
                .map(|s| {
                    let receiver = receiver.clone();
                    let work = move || {
                        let (mut sum, mut pause) = (0, 1);
                        loop {
                            match receiver.recv_timeout(Duration::from_micros(pause)) {
                                Ok(value) => (sum, pause) = (sum + value, 1),
                                Err(RecvTimeoutError::TimedOut) => pause = (pause * 2).min(300),
                                Err(_) => return sum,
                            }
                        }
                    };
                    Worker::start(s, &runtime, work)
                })
                .collect();
            drop((sender, receiver));
            senders.into_iter().for_each(Worker::end);
            let sum: u64 = receivers.into_iter().map(Worker::end).sum();
            assert_eq!(sum, 2000 * 1999 / 2, "capacity {capacity}");
        }
    });
}

/// Tasks of a runtime, and every third an OS thread.
enum Worker<T> {
    Task(JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T: Send + 'static> Worker<T> {
    fn start(i: u64, runtime: &Runtime, work: impl FnOnce() -> T + Send + 'static) -> Self {
        if i % 3 == 2 {
            Self::Thread(std::thread::spawn(work))
        } else {
            Self::Task(runtime.spawn(work))
        }
    }

    fn end(self) -> T {
        match self {
            Self::Task(task) => task.join().unwrap(),
            Self::Thread(thread) => thread.join().unwrap(),
        }
    }
}

// ---- many to many ------------------------------------------------------------------------------------

#[test]
fn many_to_many() {
    within("many_to_many", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let each = 2_000_u64;
            for kind in
                [unbounded, rendezvous, || bounded(1), || bounded(64)] as [fn() -> Ends<u64>; 4]
            {
                let (sender, receiver) = kind();
                let receivers: Vec<_> = (0..6)
                    .map(|i| {
                        let receiver = receiver.clone();
                        Worker::start(i, &runtime, move || receiver.iter().collect::<Vec<_>>())
                    })
                    .collect();
                let senders: Vec<_> = (0..6)
                    .map(|s| {
                        let sender = sender.clone();
                        Worker::start(s, &runtime, move || {
                            (s * each..(s + 1) * each).for_each(|i| sender.send(i).unwrap());
                        })
                    })
                    .collect();
                drop((sender, receiver));
                senders.into_iter().for_each(Worker::end);
                let mut all = Vec::new();
                for got in receivers.into_iter().map(Worker::end) {
                    for s in 0..6 {
                        let of_one = got.iter().filter(|&&i| i / each == s);
                        assert!(
                            of_one.is_sorted(),
                            "the values of one sender were reordered"
                        );
                    }
                    all.extend(got);
                }
                all.sort_unstable();
                assert!(all.into_iter().eq(0..6 * each));
            }
        }
    });
}

/// Ends travel: through channels, between workers and threads, into a task that outlives its maker.
#[test]
fn ends_travel() {
    within("ends_travel", || {
        let runtime = runtime(2);
        let (requests, served) = bounded::<(u64, Sender<u64>)>(2);
        let server = Builder::new().on_worker(0);
        let server = runtime.spawn_with(server, move || {
            let mut n = 0;
            for (question, answer) in served {
                // Another task, on the other worker, answers.
                let task = Builder::new().on_worker(1);
                drop(task.spawn(move || answer.send(question * 2)).unwrap());
                n += 1;
            }
            n
        });
        let clients: Vec<_> = (0..6)
            .map(|c| {
                let requests = requests.clone();
                Worker::start(c, &runtime, move || {
                    for i in 0..200 {
                        let (answer, comes) = rendezvous();
                        requests.send((i, answer)).unwrap();
                        assert_eq!(comes.recv(), Ok(i * 2));
                        assert_eq!(comes.recv(), Err(RecvError::Disconnected));
                    }
                })
            })
            .collect();
        drop(requests);
        clients.into_iter().for_each(Worker::end);
        assert_eq!(server.unwrap().join().unwrap(), 1200);
        let (sender, receiver) = std::thread::spawn(|| bounded(1)).join().unwrap();
        let receiver = runtime.spawn(move || {
            sender.send(1).unwrap();
            receiver
        });
        assert!(receiver.join().unwrap().iter().eq([1]));
    });
}

/// 100,000 receivers at once, served and sent away.
#[test]
fn a_crowd_of_receivers() {
    within("a_crowd_of_receivers", || {
        runtime(1).run(|| {
            let all = 100_000;
            let (sender, receiver) = rendezvous();
            let tasks: Vec<_> = (0..all)
                .map(|_| {
                    let receiver = receiver.clone();
                    spawn(move || receiver.recv().ok())
                })
                .collect();
            until(|| stats().live == all + 1);
            yield_now();
            for i in 0..all / 2 {
                sender.send(i).unwrap();
            }
            drop(sender);
            let got: Vec<_> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            let (served, sent_away) = got.split_at(all / 2);
            assert!(served.iter().copied().eq((0..all / 2).map(Some)));
            assert!(sent_away.iter().all(Option::is_none));
        });
    });
}

/// A crowd of senders that all get their value back.
#[test]
fn a_crowd_of_senders() {
    within("a_crowd_of_senders", || {
        runtime(1).run(|| {
            let all = 100_000;
            let (sender, receiver) = rendezvous();
            let tasks: Vec<_> = (0..all)
                .map(|i| {
                    let sender = sender.clone();
                    spawn(move || sender.send(i).map_err(|e| e.into_inner()))
                })
                .collect();
            until(|| stats().live == all + 1);
            yield_now();
            assert!(receiver.iter().take(1000).eq(0..1000));
            drop(receiver);
            for (i, end) in join_all(tasks).into_iter().enumerate() {
                assert_eq!(end.unwrap(), if i < 1000 { Ok(()) } else { Err(i) });
            }
        });
    });
}

// ---- text --------------------------------------------------------------------------------------------

#[test]
fn text() {
    within("text", || {
        struct Opaque;
        let (sender, receiver) = bounded(2);
        sender.send(Opaque).unwrap();
        assert_eq!(format!("{sender:?}"), "Sender { len: 1, .. }");
        assert_eq!(format!("{receiver:?}"), "Receiver { len: 1, .. }");
        sender.send(Opaque).unwrap();
        let error = sender.try_send(Opaque).unwrap_err();
        assert_eq!(
            (format!("{error:?}"), error.to_string()),
            ("Full".into(), "the channel is full".into())
        );
        drop(receiver);
        let error: Box<dyn std::error::Error + Send + Sync> =
            Box::new(sender.send(Opaque).unwrap_err());
        assert_eq!(
            error.to_string(),
            "the channel has no receiver left, or was closed"
        );
    });
}

#[test]
fn ends_may_be_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("ends_may_be_shared", || {
        let (sender, receiver) = bounded::<std::cell::Cell<u8>>(1);
        shared(&(&sender, &receiver));
        let done = Event::new();
        std::thread::scope(|s| {
            s.spawn(|| sender.send(std::cell::Cell::new(1)).is_ok());
            s.spawn(|| {
                assert_eq!(receiver.recv().unwrap().get(), 1);
                done.set();
            });
            done.wait();
        });
    });
}
