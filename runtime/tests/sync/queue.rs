//! Queues: order, capacity, fairness, `task_done` and `join`, shutdown, peeking, and that no value
//! is lost, doubled or counted wrongly, whoever is killed, times out or panics.

use std::cmp::{Ordering, Reverse};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::queue::{
    GetError, GetTimeoutError, Order, PutError, PutTimeoutError, TryGetError, TryPutError,
};
use sward_runtime::sync::{
    Event, JoinableQueue, LifoQueue, Mutex, PriorityQueue, Queue, unbounded,
};
use sward_runtime::{
    JoinError, JoinHandle, Runtime, TaskState, WaitKind, dump, join_all, spawn, timeout, yield_now,
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
        let dump = dump();
        let parked = |t: &&sward_runtime::DumpedTask| {
            t.reason.kind() == kind && t.state == TaskState::Parked
        };
        dump.tasks().iter().filter(parked).count() == count
    });
}

/// Each of the three, in turn.
macro_rules! each_order {
    ($check:ident $(, $arg:expr)*) => {
        $check(Queue::unbounded $(, $arg)*, Queue::bounded);
        $check(LifoQueue::unbounded $(, $arg)*, LifoQueue::bounded);
        $check(PriorityQueue::unbounded $(, $arg)*, PriorityQueue::bounded);
    };
}

type Make<O> = fn() -> JoinableQueue<O>;
type MakeBounded<O> = fn(usize) -> JoinableQueue<O>;

fn panic_text(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

// ---- order and capacity ----------------------------------------------------------------------------

#[test]
fn each_has_its_order() {
    within("each_has_its_order", || {
        everywhere(|| {
            let values = [3, 1, 4, 1, 5, 9, 2, 6];
            let fifo: Queue<_> = values.into_iter().collect();
            let lifo: LifoQueue<_> = values.into_iter().collect();
            let lowest: PriorityQueue<_> = values.into_iter().collect();
            let highest: PriorityQueue<_> = values.into_iter().map(Reverse).collect();
            fifo.close();
            lifo.close();
            lowest.close();
            highest.close();
            assert!(fifo.iter().eq(values));
            assert!(lifo.iter().eq(values.into_iter().rev()));
            assert!(lowest.iter().eq([1, 1, 2, 3, 4, 5, 6, 9]));
            assert!(highest.iter().map(|r| r.0).eq([9, 6, 5, 4, 3, 2, 1, 1]));
        });
    });
}

/// Puts and gets in any order against a sorted list; of equals the first comes first.
#[test]
fn a_priority_queue_is_sorted_and_stable() {
    #[derive(PartialEq, Eq, Debug)]
    struct Job {
        urgency: u64,
        number: u64,
    }
    impl PartialOrd for Job {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Job {
        fn cmp(&self, other: &Self) -> Ordering {
            self.urgency.cmp(&other.urgency)
        }
    }
    within("a_priority_queue_is_sorted_and_stable", || {
        let mut random = Random::new(5);
        let queue = PriorityQueue::unbounded();
        let mut model: Vec<(u64, u64)> = Vec::new();
        for number in 0..20_000 {
            if random.below(9) < 5 {
                let urgency = random.below(50);
                queue.put(Job { urgency, number }).unwrap();
                model.push((urgency, number));
            } else {
                let first = model.iter().min().copied();
                model.retain(|job| Some(*job) != first);
                let got = queue.try_get().ok().map(|job| (job.urgency, job.number));
                assert_eq!(got, first);
            }
            assert_eq!(queue.len(), model.len());
        }
    });
}

#[test]
fn capacity_is_exact() {
    fn check<O: Order<Value = usize>>(unbounded: Make<O>, bounded: MakeBounded<O>) {
        for capacity in [1, 2, 3, 100, 3000] {
            let queue = bounded(capacity);
            assert_eq!(queue.capacity(), Some(capacity));
            for i in 0..capacity {
                assert!(!queue.is_full());
                assert_eq!((queue.len(), queue.try_put(i)), (i, Ok(())));
            }
            assert!(queue.is_full() && !queue.is_empty());
            assert_eq!(queue.try_put(9999), Err(TryPutError::Full(9999)));
            let full = queue.put_timeout(9999, Duration::ZERO);
            assert_eq!(full, Err(PutTimeoutError::TimedOut(9999)));
            queue.get().unwrap();
            assert_eq!(queue.put_timeout(capacity, LONG), Ok(()));
            assert!(queue.is_full());
            for _ in 0..capacity {
                queue.try_get().unwrap();
            }
            assert_eq!(queue.try_get(), Err(TryGetError::Empty));
            assert!(queue.is_empty() && !queue.is_full());
        }
        let queue = unbounded();
        (0..10_000).for_each(|i| queue.try_put(i).unwrap());
        assert_eq!((queue.capacity(), queue.is_full()), (None, false));
    }
    within("capacity_is_exact", || {
        everywhere(|| {
            each_order!(check);
        });
    });
}

#[test]
fn a_queue_without_room_is_refused() {
    within("a_queue_without_room_is_refused", || {
        let text = panic_text(|| drop(Queue::<u8>::bounded(0)));
        assert!(
            text.contains("capacity 0") && text.contains("rendezvous"),
            "{text}"
        );
    });
}

#[test]
fn time_limits() {
    fn check<O: Order<Value = usize>>(_: Make<O>, bounded: MakeBounded<O>) {
        let queue = bounded(1);
        let begun = Instant::now();
        assert_eq!(queue.get_timeout(SHORT), Err(GetTimeoutError::TimedOut));
        assert_eq!(
            queue.peek_timeout(SHORT, |_| ()),
            Err(GetTimeoutError::TimedOut)
        );
        assert!(timeout(SHORT, || queue.get()).is_err());
        assert!(begun.elapsed() >= 3 * SHORT);
        queue.put(1).unwrap();
        let begun = Instant::now();
        assert_eq!(
            queue.put_timeout(2, SHORT),
            Err(PutTimeoutError::TimedOut(2))
        );
        assert!(timeout(SHORT, || queue.put(3)).is_err());
        assert!(!queue.join_timeout(SHORT));
        assert!(timeout(SHORT, || queue.join()).is_err());
        assert!(begun.elapsed() >= 4 * SHORT);
        // Nothing of that has left a trace.
        assert_eq!((queue.len(), queue.unfinished_tasks()), (1, 1));
        assert_eq!((queue.waiting_putters(), queue.waiting_getters()), (0, 0));
        assert_eq!(queue.get_timeout(Duration::ZERO), Ok(1));
        assert_eq!(queue.peek_timeout(Duration::ZERO, |_| ()).ok(), None);
        queue.task_done();
        assert!(queue.join_timeout(Duration::ZERO));
    }
    within("time_limits", || {
        everywhere(|| {
            each_order!(check);
        });
    });
}

// ---- who waits -------------------------------------------------------------------------------------

#[test]
fn waiters_are_served_first_come_first_served() {
    fn check<O>(_: Make<O>, bounded: MakeBounded<O>)
    where
        O: Order<Value = usize> + Send + 'static,
    {
        runtime(1).run(move || {
            // Getters: the values come one by one, so their order is that of the getters.
            let queue = Arc::new(bounded(4));
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let queue = queue.clone();
                    spawn(move || queue.get().unwrap())
                })
                .collect();
            until_parked(WaitKind::Get, 50);
            assert_eq!(queue.waiting_getters(), 50);
            for i in 0..50 {
                queue.put(i).unwrap();
                assert_eq!(queue.try_get(), Err(TryGetError::Empty), "it was stolen");
            }
            assert!(join_all(tasks).into_iter().map(Result::unwrap).eq(0..50));
            // Putters: each get lets the first of them in.
            queue.put(1000).unwrap();
            (0..3).for_each(|_| queue.put(2000).unwrap());
            let order = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..50)
                .map(|i| {
                    let (queue, order) = (queue.clone(), order.clone());
                    spawn(move || {
                        queue.put(i).unwrap();
                        order.lock().push(i);
                    })
                })
                .collect();
            until_parked(WaitKind::Put, 50);
            assert_eq!(queue.waiting_putters(), 50);
            for i in 0..50 {
                queue.get().unwrap();
                assert!(queue.is_full(), "the place was not given to a putter");
                assert!(queue.try_put(5000).is_err(), "somebody overtook");
                yield_now();
                assert_eq!(order.lock().len(), i + 1);
            }
            join_all(tasks);
            assert!(order.lock().iter().copied().eq(0..50));
        });
    }
    within("waiters_are_served_first_come_first_served", || {
        each_order!(check);
    });
}

#[test]
fn the_dump_says_who_waits() {
    within("the_dump_says_who_waits", || {
        runtime(1).run(|| {
            let full = Arc::new(Queue::bounded(1));
            full.put(0).unwrap();
            let empty = Arc::new(Queue::<i32>::unbounded());
            let (f, g, e, p) = (full.clone(), full.clone(), empty.clone(), empty.clone());
            let tasks = [
                spawn(move || drop(f.put(1))),
                spawn(move || g.join()),
                spawn(move || drop(e.get())),
                spawn(move || drop(p.peek(|_| ()))),
            ];
            until_parked(WaitKind::Put, 1);
            until_parked(WaitKind::Unfinished, 1);
            until_parked(WaitKind::Get, 2);
            let text = dump().to_string();
            for part in [
                "put into queue 0x",
                "unfinished tasks of queue 0x",
                "get from queue 0x",
            ] {
                assert!(text.contains(part), "{text}");
            }
            assert_eq!(
                format!("{full:?}"),
                "Queue { len: 1, unfinished: 1, closed: false, putters: 1, getters: 0, .. }"
            );
            tasks.iter().for_each(|t| t.kill());
            join_all(tasks);
            let text = format!("{:?}", PriorityQueue::<u8>::unbounded());
            assert!(text.starts_with("PriorityQueue { len: 0"), "{text}");
        });
    });
}

// ---- task_done and join ------------------------------------------------------------------------------

#[test]
fn join_waits_for_the_last_task_done() {
    fn check<O>(unbounded: Make<O>, workers: usize, bounded: MakeBounded<O>)
    where
        O: Order<Value = usize> + Send + 'static,
    {
        runtime(workers).run(move || {
            for queue in [unbounded(), bounded(3)] {
                let queue = Arc::new(queue);
                queue.join();
                assert!(queue.join_timeout(Duration::ZERO));
                let done = Arc::new(AtomicUsize::new(0));
                let tasks: Vec<_> = (0..4)
                    .map(|_| {
                        let (queue, done) = (queue.clone(), done.clone());
                        spawn(move || {
                            for _job in &*queue {
                                yield_now();
                                done.fetch_add(1, SeqCst);
                                queue.task_done();
                            }
                        })
                    })
                    .collect();
                for round in 1..=3 {
                    (0..100).for_each(|i| queue.put(i).unwrap());
                    let joiners: Vec<_> = (0..3)
                        .map(|_| {
                            let (queue, done) = (queue.clone(), done.clone());
                            let join = move || {
                                queue.join();
                                done.load(SeqCst)
                            };
                            std::thread::spawn(join)
                        })
                        .collect();
                    queue.join();
                    assert_eq!(done.load(SeqCst), 100 * round);
                    assert_eq!(queue.unfinished_tasks(), 0);
                    for joiner in joiners {
                        assert_eq!(joiner.join().unwrap(), 100 * round);
                    }
                }
                queue.close();
                assert!(join_all(tasks).iter().all(Result::is_ok));
            }
        });
    }
    within("join_waits_for_the_last_task_done", || {
        each_order!(check, 1);
        each_order!(check, 2);
    });
}

/// Who joins goes on when all was done, even if more has come before it runs.
#[test]
fn a_joiner_does_not_wait_for_what_came_later() {
    within("a_joiner_does_not_wait_for_what_came_later", || {
        runtime(1).run(|| {
            let queue = Arc::new(Queue::from_iter([1, 2]));
            let joiner = {
                let queue = queue.clone();
                spawn(move || queue.join())
            };
            until_parked(WaitKind::Unfinished, 1);
            queue.task_done();
            yield_now();
            until_parked(WaitKind::Unfinished, 1);
            queue.task_done();
            queue.put(3).unwrap();
            joiner.join().unwrap();
            assert_eq!(queue.unfinished_tasks(), 1);
        });
    });
}

#[test]
fn task_done_too_often() {
    within("task_done_too_often", || {
        everywhere(|| {
            let queue = Queue::from_iter([1]);
            queue.task_done();
            for _ in 0..2 {
                let text = panic_text(|| queue.task_done());
                assert!(text.contains("task_done was called more often"), "{text}");
            }
            assert_eq!(queue.unfinished_tasks(), 0);
            // One that was called done before it was got: the books are wrong, but hold together.
            queue.shutdown(true);
            assert_eq!((queue.len(), queue.unfinished_tasks()), (0, 0));
            queue.join();
        });
    });
}

// ---- the end -----------------------------------------------------------------------------------------

#[test]
fn a_closed_queue_drains() {
    fn check<O: Order<Value = usize>>(_: Make<O>, bounded: MakeBounded<O>) {
        let queue = bounded(5);
        (0..3).for_each(|_| queue.put(7).unwrap());
        assert!(!queue.is_closed());
        queue.close();
        queue.close();
        assert!(queue.is_closed());
        assert_eq!(queue.put(1), Err(PutError::Closed(1)));
        assert_eq!(queue.try_put(2), Err(TryPutError::Closed(2)));
        assert_eq!(
            queue.put_timeout(3, LONG).unwrap_err(),
            PutTimeoutError::Closed(3)
        );
        assert_eq!(queue.put(4).unwrap_err().into_inner(), 4);
        assert_eq!(queue.peek(|v| *v), Ok(7));
        assert_eq!((queue.get(), queue.try_get()), (Ok(7), Ok(7)));
        assert_eq!(queue.get_timeout(LONG), Ok(7));
        assert_eq!(queue.get(), Err(GetError::Closed));
        assert_eq!(queue.try_get(), Err(TryGetError::Closed));
        assert_eq!(queue.get_timeout(LONG), Err(GetTimeoutError::Closed));
        assert_eq!(queue.peek(|v| *v), Err(GetError::Closed));
        assert_eq!(queue.try_peek(|v| *v), Err(TryGetError::Closed));
        assert_eq!(queue.iter().next(), None);
        // What was got is to be done all the same.
        assert!(!queue.join_timeout(Duration::ZERO));
        (0..3).for_each(|_| queue.task_done());
        queue.join();
    }
    within("a_closed_queue_drains", || {
        everywhere(|| {
            each_order!(check);
        });
    });
}

/// It is closed while all kinds wait: tasks of both workers, and threads.
#[test]
fn closing_sends_everybody_away() {
    within("closing_sends_everybody_away", || {
        for (workers, immediate) in [(1, false), (1, true), (2, false), (2, true)] {
            let runtime = runtime(workers);
            let full = Arc::new(Queue::bounded(2));
            full.put(1000).unwrap();
            full.put(1001).unwrap();
            let empty = Arc::new(LifoQueue::<u32>::unbounded());
            let putters: Vec<_> = (0..30)
                .map(|i| {
                    let full = full.clone();
                    Worker::start(i, &runtime, move || match i % 2 {
                        0 => full.put(i).unwrap_err().into_inner(),
                        _ => full.put_timeout(i, LONG).unwrap_err().into_inner(),
                    })
                })
                .collect();
            let getters: Vec<_> = (0..30)
                .map(|i| {
                    let empty = empty.clone();
                    Worker::start(i, &runtime, move || match i % 4 {
                        0 => assert_eq!(empty.get(), Err(GetError::Closed)),
                        1 => assert_eq!(empty.get_timeout(LONG), Err(GetTimeoutError::Closed)),
                        2 => assert_eq!(empty.peek(|_| ()), Err(GetError::Closed)),
                        _ => assert_eq!(empty.iter().next(), None),
                    })
                })
                .collect();
            // Those who peek are not counted among the getters.
            until(|| full.waiting_putters() == 30 && empty.waiting_getters() == 23);
            let joiner = {
                let full = full.clone();
                runtime.spawn(move || full.join())
            };
            full.shutdown(immediate);
            empty.shutdown(immediate);
            assert_eq!((full.waiting_putters(), empty.waiting_getters()), (0, 0));
            assert!(putters.into_iter().map(Worker::end).eq(0..30));
            getters.into_iter().for_each(Worker::end);
            if !immediate {
                assert!(full.iter().eq([1000, 1001]));
                assert!(!joiner.is_finished());
                full.task_done();
                full.task_done();
            }
            joiner.join().unwrap();
        }
    });
}

/// What is left is dropped and done, but what was got before is still to be done.
#[test]
fn an_immediate_shutdown_counts() {
    within("an_immediate_shutdown_counts", || {
        everywhere(|| {
            let queue = Arc::new(PriorityQueue::from_iter(0..10));
            assert_eq!((queue.get(), queue.get()), (Ok(0), Ok(1)));
            queue.shutdown(false);
            assert_eq!(queue.unfinished_tasks(), 10);
            queue.shutdown(true);
            assert_eq!((queue.len(), queue.unfinished_tasks()), (0, 2));
            assert_eq!(queue.get(), Err(GetError::Closed));
            let joiner = {
                let queue = queue.clone();
                spawn(move || queue.join())
            };
            assert!(!queue.join_timeout(SHORT));
            queue.task_done();
            queue.task_done();
            joiner.join().unwrap();
        });
    });
}

// ---- peeking -----------------------------------------------------------------------------------------

#[test]
fn peeking_takes_nothing() {
    within("peeking_takes_nothing", || {
        everywhere(|| {
            let queue = PriorityQueue::unbounded();
            assert_eq!(queue.try_peek(|_| ()), Err(TryGetError::Empty));
            queue.put("b".to_owned()).unwrap();
            queue.put("a".to_owned()).unwrap();
            assert_eq!(queue.peek(Clone::clone).unwrap(), "a");
            assert_eq!(queue.try_peek(String::len), Ok(1));
            assert_eq!((queue.len(), queue.unfinished_tasks()), (2, 2));
            assert_eq!(queue.get().unwrap(), "a");
            let lifo = LifoQueue::from_iter([1, 2]);
            assert_eq!(lifo.peek(|v| *v), Ok(2));
        });
    });
}

/// One value is enough for all who want to look, and a panic or a kill of one does not stop others.
#[test]
fn all_peekers_see_one_value() {
    within("all_peekers_see_one_value", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            for _ in 0..50 {
                let queue = Arc::new(Queue::unbounded());
                let tasks: Vec<_> = (0..20_u32)
                    .map(|i| {
                        let queue = queue.clone();
                        runtime.spawn(move || {
                            queue.peek(|value| {
                                if i % 5 == 1 {
                                    std::panic::resume_unwind(Box::new("looks badly"));
                                }
                                *value
                            })
                        })
                    })
                    .collect();
                let thread = {
                    let queue = queue.clone();
                    std::thread::spawn(move || queue.peek(|value| *value))
                };
                let parked = || {
                    let dump = runtime.dump();
                    let all = dump.tasks();
                    all.iter()
                        .filter(|t| t.reason.kind() == WaitKind::Get)
                        .count()
                };
                until(|| parked() == 20);
                tasks[0].kill();
                tasks[7].kill();
                queue.put(9).unwrap();
                tasks[12].kill();
                for (i, end) in join_all(tasks).into_iter().enumerate() {
                    match end {
                        Ok(seen) => assert_eq!(seen, Ok(9)),
                        Err(e) if e.is_killed() => assert!([0, 7, 12].contains(&i)),
                        Err(_) => assert_eq!(i % 5, 1),
                    }
                }
                assert_eq!(thread.join().unwrap(), Ok(9));
                assert_eq!((queue.len(), queue.get()), (1, Ok(9)));
            }
        }
    });
}

/// A value may be gone before a woken peeker runs: it waits for the next.
#[test]
fn a_peeker_that_comes_too_late_waits_on() {
    within("a_peeker_that_comes_too_late_waits_on", || {
        runtime(1).run(|| {
            let queue = Arc::new(Queue::unbounded());
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let queue = queue.clone();
                    spawn(move || queue.peek(|value| *value))
                })
                .collect();
            until_parked(WaitKind::Get, 3);
            for _ in 0..5 {
                queue.put(1).unwrap();
                assert_eq!(queue.try_get(), Ok(1));
                yield_now();
                until_parked(WaitKind::Get, 3);
            }
            queue.put(2).unwrap();
            for seen in join_all(tasks) {
                assert_eq!(seen.unwrap(), Ok(2));
            }
        });
    });
}

/// Woken, then killed, and the value is gone: it does not wait for another one.
#[test]
fn a_peeker_that_is_killed_and_comes_too_late_ends() {
    within("a_peeker_that_is_killed_and_comes_too_late_ends", || {
        runtime(1).run(|| {
            let queue = Arc::new(Queue::unbounded());
            let peek = || {
                let queue = queue.clone();
                spawn(move || queue.peek(|value| *value))
            };
            let (killed, other) = (peek(), peek());
            until_parked(WaitKind::Get, 2);
            queue.put(1).unwrap();
            killed.kill();
            assert_eq!(queue.try_get(), Ok(1));
            assert!(matches!(killed.join(), Err(JoinError::Killed)));
            // While the value is there it is seen, and the next is told of it.
            let killed = peek();
            until_parked(WaitKind::Get, 2);
            queue.put(2).unwrap();
            killed.kill();
            assert_eq!(other.join().unwrap(), Ok(2));
            drop(killed.join());
        });
    });
}

#[test]
fn looking_may_not_use_the_queue() {
    within("looking_may_not_use_the_queue", || {
        everywhere(|| {
            let queue = Queue::from_iter([1]);
            for _ in 0..2 {
                drop(panic_text(|| drop(queue.peek(|_| queue.try_get()))));
            }
            assert_eq!((queue.len(), queue.get()), (1, Ok(1)));
        });
    });
}

// ---- values that misbehave -----------------------------------------------------------------------------

/// Counts its end; may panic in it, or use the queue that it is in.
struct Wild {
    gone: Arc<AtomicUsize>,
    queue: Option<Arc<Queue<Self>>>,
    panics: bool,
}

impl Drop for Wild {
    fn drop(&mut self) {
        self.gone.fetch_add(1, SeqCst);
        if let Some(queue) = self.queue.take() {
            drop(queue.try_get());
            drop(queue.try_put(Self {
                gone: self.gone.clone(),
                queue: None,
                panics: false,
            }));
            assert!(queue.unfinished_tasks() < 100);
        }
        if self.panics {
            std::panic::resume_unwind(Box::new("a wild end"));
        }
    }
}

#[test]
fn values_with_wild_ends() {
    within("values_with_wild_ends", || {
        everywhere(|| {
            for (uses, panics) in [(true, false), (false, true), (true, true)] {
                let gone = Arc::new(AtomicUsize::new(0));
                let queue = Arc::new(Queue::bounded(10));
                for i in 0..10 {
                    let value = Wild {
                        gone: gone.clone(),
                        queue: uses.then(|| queue.clone()),
                        panics: panics && i == 4,
                    };
                    assert!(queue.put(value).is_ok());
                }
                let joiner = {
                    let queue = queue.clone();
                    spawn(move || queue.join())
                };
                let end = catch_unwind(AssertUnwindSafe(|| queue.shutdown(true)));
                assert_eq!(end.is_err(), panics);
                // Each tried to put one more, which was refused and dropped.
                assert_eq!(gone.load(SeqCst), if uses { 20 } else { 10 });
                joiner.join().unwrap();
                assert_eq!((queue.len(), queue.unfinished_tasks()), (0, 0));
                assert!(queue.get().is_err());
            }
        });
    });
}

/// A comparison that panics loses nothing, and forgets nobody.
#[test]
fn comparisons_that_panic() {
    static PATIENCE: AtomicU32 = AtomicU32::new(u32::MAX);
    #[derive(PartialEq, Eq, Debug)]
    struct Touchy(u64);
    impl PartialOrd for Touchy {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Touchy {
        fn cmp(&self, other: &Self) -> Ordering {
            if PATIENCE.fetch_sub(1, SeqCst) == 0 {
                PATIENCE.store(u32::MAX, SeqCst);
                std::panic::resume_unwind(Box::new("touchy"));
            }
            self.0.cmp(&other.0)
        }
    }
    within("comparisons_that_panic", || {
        let mut random = Random::new(11);
        runtime(1).run(|| {
            for _ in 0..200 {
                let queue = Arc::new(PriorityQueue::bounded(5));
                let put = Arc::new(AtomicU64::new(0));
                let putters: Vec<_> = (0..4)
                    .map(|p| {
                        let (queue, put) = (queue.clone(), put.clone());
                        spawn(move || {
                            for i in 0..20 {
                                let once =
                                    catch_unwind(AssertUnwindSafe(|| queue.put(Touchy(p + i * 7))));
                                // Not in: it was dropped.
                                if once.is_ok() {
                                    put.fetch_add(1, SeqCst);
                                }
                            }
                        })
                    })
                    .collect();
                let mut got = 0;
                loop {
                    PATIENCE.store(random.below(12) as u32, SeqCst);
                    match catch_unwind(AssertUnwindSafe(|| queue.try_get())) {
                        Ok(Ok(_)) => got += 1,
                        Ok(Err(_)) if putters.iter().all(|t| t.is_finished()) => break,
                        Ok(Err(_)) => yield_now(),
                        Err(_) => {}
                    }
                }
                PATIENCE.store(u32::MAX, SeqCst);
                assert!(join_all(putters).iter().all(Result::is_ok));
                assert_eq!(got, put.load(SeqCst));
                assert_eq!(queue.unfinished_tasks() as u64, got);
            }
        });
    });
}

// ---- kill, time-out, panic -------------------------------------------------------------------------------

/// Killed while it waits: a putter has not put, a getter has not got.
#[test]
fn killed_in_line() {
    within("killed_in_line", || {
        runtime(1).run(|| {
            let queue = Arc::new(Queue::bounded(1));
            queue.put(0).unwrap();
            let putters: Vec<_> = (1..=9)
                .map(|i| {
                    let queue = queue.clone();
                    spawn(move || queue.put(i))
                })
                .collect();
            until_parked(WaitKind::Put, 9);
            putters.iter().step_by(2).for_each(|t| t.kill());
            until(|| queue.waiting_putters() == 4);
            assert_eq!(queue.unfinished_tasks(), 1);
            let got: Vec<_> = (0..5).map(|_| queue.get().unwrap()).collect();
            assert_eq!(got, [0, 2, 4, 6, 8]);
            join_all(putters);
            let getters: Vec<_> = (0..9)
                .map(|_| {
                    let queue = queue.clone();
                    spawn(move || queue.get().unwrap())
                })
                .collect();
            until_parked(WaitKind::Get, 9);
            getters.iter().step_by(2).for_each(|t| t.kill());
            until(|| queue.waiting_getters() == 4);
            for i in 1..=5 {
                queue.try_put(i).unwrap();
            }
            let got: Vec<_> = join_all(getters).into_iter().flatten().collect();
            assert_eq!(got, [1, 2, 3, 4]);
            assert_eq!((queue.len(), queue.unfinished_tasks()), (1, 10));
        });
    });
}

/// Handed over and killed before it ran: the value was got, and the kill comes at the next park.
#[test]
fn killed_after_the_hand_over() {
    within("killed_after_the_hand_over", || {
        runtime(1).run(|| {
            let queue = Arc::new(Queue::unbounded());
            let got = Arc::new(AtomicUsize::new(0));
            let task = {
                let (queue, got) = (queue.clone(), got.clone());
                spawn(move || {
                    got.store(queue.get().unwrap(), SeqCst);
                    queue.task_done();
                    yield_now();
                    unreachable!();
                })
            };
            until_parked(WaitKind::Get, 1);
            queue.put(5).unwrap();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!((got.load(SeqCst), queue.unfinished_tasks()), (5, 0));
        });
    });
}

/// In a destructor of a task that unwinds nothing waits, and what needs no waiting works.
#[test]
fn while_unwinding() {
    struct Guard(Arc<Queue<u32>>, sward_runtime::sync::Sender<String>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let Self(queue, tell) = self;
            let said = [
                format!("{:?}", queue.get()),
                format!("{:?}", queue.peek(|_| ())),
                format!("{:?}", queue.put(1)),
                format!("{:?}", queue.put(2)),
                format!("{:?}", queue.put_timeout(3, LONG)),
                format!("{:?}", queue.try_get()),
                format!("{:?}", queue.get_timeout(LONG)),
                format!("{:?}", queue.join_timeout(LONG)),
            ];
            queue.task_done();
            queue.join();
            queue.close();
            tell.send(said.join(" ")).unwrap();
        }
    }
    within("while_unwinding", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let (tell, told) = unbounded();
                let task = spawn(move || {
                    let _guard = Guard(Arc::new(Queue::bounded(1)), tell);
                    std::panic::resume_unwind(Box::new("unwinds"));
                });
                assert!(task.join().is_err());
                assert_eq!(
                    told.recv().unwrap(),
                    "Err(Unwinding) Err(Unwinding) Ok(()) Err(Unwinding) Err(Unwinding) Ok(1) \
                     Err(Unwinding) false"
                );
            });
        }
    });
}

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    dropped: AtomicU64,
    got: AtomicU64,
}

/// Counts its making and its end; some order, so that all queues take it.
struct Counted(Arc<Counts>, u64);

impl Counted {
    fn new(counts: &Arc<Counts>, rank: u64) -> Self {
        counts.made.fetch_add(1, SeqCst);
        Self(counts.clone(), rank)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Counted {}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        self.1.cmp(&other.1)
    }
}

/// Tasks are killed and time out at random moments, and the queue is shut down at one: each value
/// ends once, and what came in is what was got, dropped, or is left.
#[test]
fn ends_at_random_moments() {
    fn check<O>(_: Make<O>, seed: u64, bounded: MakeBounded<O>)
    where
        O: Order<Value = Counted> + Send + 'static,
    {
        let mut random = Random::new(seed);
        let runtimes = [runtime(1), runtime(2)];
        for round in 0..150 {
            let runtime = &runtimes[round % 2];
            let counts = Arc::new(Counts::default());
            let queue = Arc::new(bounded(1 + random.below(3) as usize));
            let mut tasks = Vec::new();
            let mut threads = Vec::new();
            for who in 0..4 {
                let (most, slow) = (random.below(30), random.below(3));
                let (queue_, counts_) = (queue.clone(), counts.clone());
                let put = move || {
                    for i in 0..most {
                        let value = Counted::new(&counts_, i % 5);
                        let closed = match slow {
                            0 => queue_.put(value).is_err(),
                            1 => {
                                yield_now();
                                matches!(queue_.try_put(value), Err(TryPutError::Closed(_)))
                            }
                            _ => {
                                let put = queue_.put_timeout(value, Duration::from_micros(30));
                                matches!(put, Err(PutTimeoutError::Closed(_)))
                            }
                        };
                        if closed {
                            return;
                        }
                    }
                };
                let (most, slow) = (random.below(30), random.below(4));
                let (queue, counts) = (queue.clone(), counts.clone());
                let get = move || {
                    for _ in 0..most {
                        let got = match slow {
                            0 => queue.get_timeout(Duration::from_micros(20)),
                            1 => {
                                drop(queue.peek_timeout(Duration::from_micros(20), |v| v.1));
                                queue.get_timeout(Duration::from_micros(20))
                            }
                            2 => timeout(Duration::from_micros(50), || queue.get_timeout(LONG))
                                .unwrap_or(Err(GetTimeoutError::TimedOut)),
                            _ => queue.get_timeout(Duration::from_millis(5)),
                        };
                        match got {
                            Ok(_) => {
                                counts.got.fetch_add(1, SeqCst);
                                queue.task_done();
                            }
                            Err(GetTimeoutError::TimedOut) => {}
                            Err(_) => return,
                        }
                    }
                };
                tasks.push(runtime.spawn(put));
                if who == 3 {
                    threads.push(std::thread::spawn(get));
                } else {
                    tasks.push(runtime.spawn(get));
                }
            }
            // Only tasks that put are killed: one that gets may be killed before `task_done`.
            if random.below(2) == 0 {
                tasks[2 * random.below(3) as usize].kill();
            }
            let immediate = random.below(2) == 0;
            (0..random.below(200)).for_each(|_| std::hint::spin_loop());
            let joiner = {
                let queue = queue.clone();
                std::thread::spawn(move || queue.join())
            };
            queue.shutdown(immediate);
            join_all(tasks);
            threads.into_iter().for_each(|t| t.join().unwrap());
            let left = queue.len();
            assert_eq!(queue.unfinished_tasks(), left, "round {round}");
            assert!(!immediate || left == 0, "round {round}");
            for _ in queue.iter() {
                queue.task_done();
            }
            joiner.join().unwrap();
            let n = |counter: &AtomicU64| counter.load(SeqCst);
            assert_eq!(n(&counts.made), n(&counts.dropped), "round {round}");
            assert!(
                n(&counts.got) + left as u64 <= n(&counts.made),
                "round {round}"
            );
        }
    }
    within("ends_at_random_moments", || {
        each_order!(check, 77);
    });
}

/// Getters are killed at any moment: what they got and what is left is what was put, each once.
#[test]
fn killed_getters_lose_nothing() {
    fn check<O>(unbounded: Make<O>, _: MakeBounded<O>)
    where
        O: Order<Value = u64> + Send + 'static,
    {
        let mut random = Random::new(3);
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let queue = Arc::new(unbounded());
            let (tell, told) = sward_runtime::sync::unbounded();
            let stop = Arc::new(AtomicBool::new(false));
            let putter = {
                let (queue, stop) = (queue.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut next = 0;
                    while !stop.load(SeqCst) {
                        queue.put(next).unwrap();
                        next += 1;
                        if next % 8 == 0 {
                            std::thread::yield_now();
                        }
                    }
                    next
                })
            };
            for _ in 0..200 {
                let tasks: Vec<_> = (0..4)
                    .map(|_| {
                        let (queue, tell) = (queue.clone(), tell.clone());
                        runtime.spawn(move || {
                            loop {
                                // The send does not wait, so nothing comes between the two.
                                tell.try_send(queue.get().unwrap()).unwrap();
                            }
                        })
                    })
                    .collect();
                (0..random.below(300)).for_each(|_| std::hint::spin_loop());
                tasks.iter().for_each(|t| t.kill());
                join_all(tasks);
            }
            stop.store(true, SeqCst);
            let all = putter.join().unwrap();
            drop(tell);
            queue.close();
            let mut seen: Vec<_> = told.into_iter().chain(queue.iter()).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..all), "lost or doubled");
        }
    }
    within("killed_getters_lose_nothing", || {
        each_order!(check);
    });
}

// ---- many to many ------------------------------------------------------------------------------------

/// Tasks of a runtime, and every third an OS thread.
enum Worker<T> {
    Task(JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T: Send + 'static> Worker<T> {
    fn start(i: u32, runtime: &Runtime, work: impl FnOnce() -> T + Send + 'static) -> Self {
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

#[test]
fn many_to_many() {
    fn check<O>(unbounded: Make<O>, workers: usize, bounded: MakeBounded<O>)
    where
        O: Order<Value = u64> + Send + 'static,
    {
        let runtime = runtime(workers);
        let each = 1_000_u64;
        for queue in [unbounded(), bounded(1), bounded(64)] {
            let queue = Arc::new(queue);
            let getters: Vec<_> = (0..6)
                .map(|i| {
                    let queue = queue.clone();
                    Worker::start(i, &runtime, move || {
                        let done = |value| {
                            queue.task_done();
                            value
                        };
                        queue.iter().map(done).collect::<Vec<_>>()
                    })
                })
                .collect();
            let putters: Vec<_> = (0..6)
                .map(|p| {
                    let queue = queue.clone();
                    Worker::start(p, &runtime, move || {
                        let first = u64::from(p) * each;
                        (first..first + each).for_each(|i| queue.put(i).unwrap());
                    })
                })
                .collect();
            putters.into_iter().for_each(Worker::end);
            queue.join();
            assert!(queue.is_empty());
            queue.close();
            let got = getters.into_iter().flat_map(Worker::end);
            let mut all: Vec<_> = got.collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..6 * each));
        }
    }
    within("many_to_many", || {
        each_order!(check, 1);
        each_order!(check, 2);
    });
}

#[test]
fn queues_may_be_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    within("queues_may_be_shared", || {
        let queue = Queue::<std::cell::Cell<u8>>::bounded(1);
        shared(&queue);
        shared(&PriorityQueue::<u8>::unbounded());
        let done = Event::new();
        std::thread::scope(|s| {
            s.spawn(|| queue.put(std::cell::Cell::new(1)).is_ok());
            s.spawn(|| {
                assert_eq!(queue.get().unwrap().get(), 1);
                done.set();
            });
            done.wait();
        });
    });
}

#[test]
fn text() {
    within("text", || {
        let queue = Queue::bounded(1);
        let texts = |error: &dyn std::error::Error| format!("{error:?}: {error}");
        assert_eq!(
            texts(&queue.try_get().unwrap_err()),
            "Empty: the queue is empty"
        );
        queue.put(1).unwrap();
        assert_eq!(
            texts(&queue.try_put(2).unwrap_err()),
            "Full: the queue is full"
        );
        queue.shutdown(true);
        assert_eq!(
            texts(&queue.put(2).unwrap_err()),
            "Closed: the queue is closed"
        );
        assert_eq!(
            texts(&queue.get().unwrap_err()),
            "Closed: the queue is empty and closed"
        );
    });
}
