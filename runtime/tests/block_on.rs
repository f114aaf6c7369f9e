//! Futures in tasks, and tasks in futures: `block_on` parks, whoever wakes, and is unwound by kill
//! and time-out; a `JoinHandle` is awaited by any executor.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dropping_copy_types
)]

mod common;

use std::future::{Future, IntoFuture, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::{Random, is_child, rerun, stderr, until, within};
use sward_runtime::{
    JoinFuture, Runtime, WaitKind, block_on, join_all, park, run, spawn, timeout, without_parking,
    yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

/// A value that somebody else sets, for one that waits.
struct Slot<T>(Arc<Mutex<(Option<T>, Option<Waker>, usize)>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((None, None, 0))))
    }

    /// Puts the waker in, and takes the value out.
    fn get(&self) -> impl Future<Output = T> + use<'_, T> {
        poll_fn(|context| {
            let mut slot = self.0.lock().unwrap();
            slot.2 += 1;
            match slot.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn waker(&self) -> Option<Waker> {
        self.0.lock().unwrap().1.clone()
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().2
    }

    fn set(&self, value: T) {
        let waker = {
            let mut slot = self.0.lock().unwrap();
            slot.0 = Some(value);
            slot.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn outputs() {
    within("outputs", || {
        everywhere(|| {
            assert_eq!(block_on(ready(1)), 1);
            assert_eq!(block_on(async { block_on(async { 2 }) + 1 }), 3);
            let text = String::from("borrowed");
            assert_eq!(block_on(async { text.len() }), 8);
            let caught = catch_unwind(|| block_on(async { panic!("in the future") }));
            assert_eq!(
                *caught.unwrap_err().downcast::<&str>().unwrap(),
                "in the future"
            );
        });
    });
}

/// Woken by a task of the same worker, of another one, and by a thread.
#[test]
fn woken_from_everywhere() {
    within("woken_from_everywhere", || {
        everywhere(|| {
            for i in 0..200 {
                let slot = Slot::new();
                let other = slot.clone();
                let set = move || other.set(i);
                if i % 2 == 0 {
                    drop(spawn(set));
                    assert_eq!(block_on(slot.get()), i);
                } else {
                    let thread = std::thread::spawn(set);
                    assert_eq!(block_on(slot.get()), i);
                    thread.join().unwrap();
                }
            }
        });
    });
}

#[test]
fn parked_while_pending() {
    within("parked_while_pending", || {
        runtime(1).run(|| {
            let slot = Slot::new();
            let waits = slot.clone();
            let task = spawn(move || block_on(waits.get()));
            let id = task.id();
            yield_now();
            let dump = sward_runtime::dump();
            let shown = dump.tasks().into_iter().find(|t| t.id == id).unwrap();
            assert_eq!(shown.reason.kind(), WaitKind::Future);
            assert!(dump.to_string().contains("future 0x"));
            assert_eq!(slot.polls(), 1);
            slot.set(9);
            assert_eq!(task.join().unwrap(), 9);
            assert_eq!(slot.polls(), 2);
        });
    });
}

/// Wakes that mean nothing: polled again, parked again.
#[test]
fn spurious_wakes() {
    within("spurious_wakes", || {
        everywhere(|| {
            let slot = Slot::new();
            let waits = slot.clone();
            let task = spawn(move || block_on(waits.get()));
            for round in 1..20 {
                until(|| slot.polls() >= round && slot.waker().is_some());
                let waker = slot.waker().unwrap();
                waker.wake_by_ref();
                waker.wake();
                until(|| slot.polls() > round);
            }
            assert!(!task.is_finished());
            slot.set(3);
            assert_eq!(task.join().unwrap(), 3);
        });
    });
}

/// A waker that is kept beyond the end wakes nobody: not the next wait of the task, nor another
/// `block_on`.
#[test]
fn wakers_kept_after_the_end() {
    within("wakers_kept_after_the_end", || {
        everywhere(|| {
            let slot = Slot::<()>::new();
            let keeps = slot.clone();
            let task = spawn(move || {
                block_on(poll_fn(|context| {
                    keeps.0.lock().unwrap().1 = Some(context.waker().clone());
                    Poll::Ready(())
                }));
                let next = Slot::<u8>::new();
                assert!(timeout(Duration::from_millis(30), || block_on(next.get())).is_err());
                assert_eq!(next.polls(), 1, "polled by a late waker");
                park();
            });
            until(|| slot.waker().is_some());
            let kept = slot.waker().unwrap();
            for _ in 0..100 {
                kept.wake_by_ref();
                yield_now();
            }
            task.task().unpark();
            task.join().unwrap();
            kept.wake();
        });
    });
}

/// A future that wakes itself lets others run.
#[test]
fn waking_oneself() {
    within("waking_oneself", || {
        runtime(1).run(|| {
            let turns = Arc::new(AtomicUsize::new(0));
            let seen = turns.clone();
            let other = spawn(move || {
                for _ in 0..5 {
                    seen.fetch_add(1, SeqCst);
                    yield_now();
                }
            });
            let mut polls = 0;
            block_on(poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if turns.load(SeqCst) == 5 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
            assert!(polls <= 10, "{polls} polls for five turns of another task");
            other.join().unwrap();
            // And can be killed and timed out.
            let for_ever = || {
                block_on(poll_fn(|context| {
                    context.waker().wake_by_ref();
                    Poll::<()>::Pending
                }));
            };
            assert!(timeout(Duration::from_millis(5), for_ever).is_err());
            let task = spawn(for_ever);
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
        });
    });
}

#[test]
fn kill_and_timeout_drop_the_future() {
    within("kill_and_timeout_drop_the_future", || {
        everywhere(|| {
            let drops = Arc::new(AtomicUsize::new(0));
            let stuck = |drops: &Arc<AtomicUsize>| {
                let (held, slot) = (Counted(drops.clone()), Slot::<u8>::new());
                async move {
                    let _held = held;
                    slot.get().await
                }
            };
            let limit = Duration::from_millis(5);
            let begun = Instant::now();
            let future = stuck(&drops);
            assert!(timeout(limit, || block_on(future)).is_err());
            assert!(begun.elapsed() >= limit);
            assert_eq!(drops.load(SeqCst), 1);
            let future = stuck(&drops);
            let task = spawn(move || block_on(future));
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(drops.load(SeqCst), 2);
            // Nested: the inner one goes first.
            let (inner, outer) = (stuck(&drops), Counted(drops.clone()));
            let nested = async move {
                let _outer = outer;
                block_on(inner)
            };
            assert!(timeout(limit, || block_on(nested)).is_err());
            assert_eq!(drops.load(SeqCst), 4);
        });
    });
}

/// A wake that comes first wins over a kill that comes after it.
#[test]
fn a_wake_before_a_kill() {
    within("a_wake_before_a_kill", || {
        runtime(1).run(|| {
            let (slot, got) = (Slot::new(), Arc::new(AtomicUsize::new(0)));
            let (waits, stores) = (slot.clone(), got.clone());
            let task = spawn(move || {
                stores.store(block_on(waits.get()), SeqCst);
                yield_now();
                unreachable!();
            });
            yield_now();
            slot.set(8);
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(got.load(SeqCst), 8, "the value was lost");
        });
    });
}

#[test]
fn where_no_task_may_park() {
    within("where_no_task_may_park", || {
        runtime(1).run(|| {
            assert_eq!(without_parking(|| block_on(ready(1))), 1);
            let parks = AssertUnwindSafe(|| without_parking(|| block_on(pending::<()>())));
            assert!(catch_unwind(parks).is_err());
        });
    });
}

/// In a task that unwinds the worker is blocked, and what others do still ends the wait.
#[test]
fn in_a_destructor_while_unwinding() {
    within("in_a_destructor_while_unwinding", || {
        struct Late(Slot<u8>, Arc<AtomicUsize>);
        impl Drop for Late {
            fn drop(&mut self) {
                let slot = self.0.clone();
                let thread = std::thread::spawn(move || {
                    while slot.polls() == 0 {
                        std::thread::yield_now();
                    }
                    slot.set(6);
                });
                self.1.store(block_on(self.0.get()).into(), SeqCst);
                thread.join().unwrap();
            }
        }
        runtime(1).run(|| {
            let got = Arc::new(AtomicUsize::new(0));
            let late = Late(Slot::new(), got.clone());
            let task = spawn(move || {
                let _late = late;
                park();
            });
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(got.load(SeqCst), 6);
        });
    });
}

// ---- tasks as futures ---------------------------------------------------------------------------

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<T>(
    future: &mut JoinFuture<T>,
    count: &Arc<Count>,
) -> Poll<<JoinFuture<T> as Future>::Output> {
    let waker = Waker::from(count.clone());
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn awaited_tasks() {
    within("awaited_tasks", || {
        everywhere(|| {
            let sum = block_on(async {
                let mut sum = 0;
                for i in 0..100 {
                    sum += spawn(move || {
                        yield_now();
                        i
                    })
                    .await
                    .unwrap();
                }
                sum
            });
            assert_eq!(sum, 4950);
            let failed = spawn(|| -> u8 { panic!("of the task") });
            let error = block_on(failed).unwrap_err();
            assert_eq!(error.panic_message(), Some("of the task"));
            let killed = spawn(park);
            killed.kill();
            assert!(block_on(killed).unwrap_err().is_killed());
            assert_eq!(block_on(sward_runtime::spawn_blocking(|| 5)).unwrap(), 5);
        });
    });
}

#[test]
fn polled_by_hand() {
    within("polled_by_hand", || {
        everywhere(|| {
            let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
            let task = spawn(|| {
                park();
                7
            });
            let wakes = task.task();
            let mut future = task.into_future();
            assert!(format!("{future:?}").contains("task"));
            assert!(poll(&mut future, &first).is_pending());
            assert!(poll(&mut future, &first).is_pending());
            // The last waker is the one that counts; the first is let go of.
            assert!(poll(&mut future, &second).is_pending());
            assert_eq!(Arc::strong_count(&first), 1);
            wakes.unpark();
            until(|| second.0.load(SeqCst) == 1);
            assert_eq!(first.0.load(SeqCst), 0);
            assert!(matches!(poll(&mut future, &first), Poll::Ready(Ok(7))));
            let again = catch_unwind(AssertUnwindSafe(|| poll(&mut future, &first)));
            assert!(again.is_err());
            drop(future);
            assert_eq!(
                (Arc::strong_count(&first), Arc::strong_count(&second)),
                (1, 1)
            );
        });
    });
}

/// Dropped while it waits, ended or not: the task goes on, the waker and the result are let go of.
#[test]
fn a_dropped_future() {
    within("a_dropped_future", || {
        everywhere(|| {
            let (count, drops) = (Arc::new(Count::default()), Arc::new(AtomicUsize::new(0)));
            for end_first in [false, true] {
                let result = Counted(drops.clone());
                let task = spawn(move || {
                    park();
                    result
                });
                let wakes = task.task();
                let mut future = task.into_future();
                assert!(poll(&mut future, &count).is_pending());
                if end_first {
                    wakes.unpark();
                    until(|| count.0.load(SeqCst) == 1);
                    drop(future);
                } else {
                    drop(future);
                    assert_eq!(Arc::strong_count(&count), 1);
                    wakes.unpark();
                }
                until(|| drops.load(SeqCst) == 1 + usize::from(end_first));
            }
            assert_eq!((Arc::strong_count(&count), count.0.load(SeqCst)), (1, 1));
        });
    });
}

/// Foreign wakers may do as they like: panic, or try to park in the hub.
#[test]
fn wakers_that_misbehave() {
    within("wakers_that_misbehave", || {
        struct Bad(bool, AtomicUsize);
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {
                self.1.fetch_add(1, SeqCst);
                if self.0 {
                    sward_runtime::sleep(Duration::from_millis(1));
                }
                panic!("in a waker");
            }
        }
        for workers in [1, 2] {
            runtime(workers).run(|| {
                for parks in [false, true] {
                    let bad = Arc::new(Bad(parks, AtomicUsize::new(0)));
                    let task = spawn(park);
                    let wakes = task.task();
                    let mut future = task.into_future();
                    let waker = Waker::from(bad.clone());
                    let mut context = Context::from_waker(&waker);
                    assert!(Pin::new(&mut future).poll(&mut context).is_pending());
                    wakes.unpark();
                    until(|| bad.1.load(SeqCst) == 1);
                    assert!(block_on(future).is_ok());
                }
                // The worker has survived it.
                assert_eq!(spawn(|| 1).join().unwrap(), 1);
            });
        }
    });
}

/// Many tasks, each awaited by futures that are dropped, moved to other wakers and ended at random.
#[test]
fn random_ends() {
    within("random_ends", || {
        for seed in 1..5 {
            let mut random = Random::new(seed);
            runtime(2).run(move || {
                let drops = Arc::new(AtomicUsize::new(0));
                let counts: Vec<_> = (0..3).map(|_| Arc::new(Count::default())).collect();
                let mut waiting = Vec::new();
                for _ in 0..400 {
                    let (result, yields) = (Counted(drops.clone()), random.below(4));
                    let task = spawn(move || {
                        (0..yields).for_each(|_| yield_now());
                        result
                    });
                    if random.below(5) == 0 {
                        task.kill();
                    }
                    waiting.push(task.into_future());
                }
                while !waiting.is_empty() {
                    let i = random.below(waiting.len() as u64) as usize;
                    let count = &counts[random.below(3) as usize];
                    if random.below(9) == 0 || poll(&mut waiting[i], count).is_ready() {
                        drop(waiting.swap_remove(i));
                    } else if random.below(3) == 0 {
                        yield_now();
                    }
                }
                until(|| drops.load(SeqCst) == 400);
                until(|| counts.iter().all(|c| Arc::strong_count(c) == 1));
            });
        }
    });
}

/// Two tasks that await each other's parts, and one that awaits two at once.
#[test]
fn joined_futures() {
    within("joined_futures", || {
        everywhere(|| {
            let tasks = (0..50).map(|i| spawn(move || block_on(spawn(move || i)).unwrap()));
            let got: Vec<i32> = join_all(tasks).into_iter().map(Result::unwrap).collect();
            assert_eq!(got, (0..50).collect::<Vec<_>>());
            let (slow, quick) = (spawn(park), spawn(|| 2));
            let ends = slow.task();
            let either = block_on(async {
                let mut slow = pin!(slow.into_future());
                let mut quick = pin!(quick.into_future());
                poll_fn(|context| match quick.as_mut().poll(context) {
                    Poll::Ready(value) => Poll::Ready(value.unwrap()),
                    Poll::Pending => slow.as_mut().poll(context).map(|_| 1),
                })
                .await
            });
            assert_eq!(either, 2);
            ends.unpark();
        });
    });
}

// ---- the deadlock report ------------------------------------------------------------------------

/// A future that keeps no waker can never be woken: reported. One whose waker somebody keeps may
/// be: not reported.
#[test]
fn the_deadlock_report() {
    if is_child() {
        let kept = std::env::var_os("KEPT").is_some();
        let slot = Slot::new();
        let outside = slot.clone();
        if kept {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2500));
                outside.set(());
            });
        }
        return run(|| {
            spawn(move || {
                if kept {
                    block_on(slot.get());
                } else {
                    block_on(pending::<()>());
                }
            })
            .join()
            .unwrap();
        });
    }
    within("the_deadlock_report", || {
        let env = ("SWARD_DEADLOCK", "abort");
        let lost = rerun("the_deadlock_report", &[env]);
        assert!(!lost.status.success());
        let text = stderr(&lost);
        assert!(
            text.contains("deadlock?") && text.contains("future 0x"),
            "{text}"
        );
        let woken = rerun("the_deadlock_report", &[env, ("KEPT", "1")]);
        common::assert_passed(&woken);
        assert!(!stderr(&woken).contains("deadlock?"));
    });
}
