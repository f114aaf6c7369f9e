//! What is dropped, when, and how often, in whatever order its owners let go; for closures and
//! results of every shape.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Random, until, within};
use sward_runtime::sync::{Event, Mutex, Receiver, Sender, bounded, rendezvous, unbounded};
use sward_runtime::{
    Builder, JoinHandle, Runtime, Task, current, join_all, join_all_timeout, on_switch, park,
    sleep, spawn, spawn_local, timeout, try_join_all, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Counts what was made and what was dropped.
#[derive(Clone, Default)]
struct Census {
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Census {
    fn one(&self) -> Counted {
        self.made.fetch_add(1, SeqCst);
        Counted {
            census: self.clone(),
            alive: 0xA11FE,
        }
    }

    fn gone(&self) -> bool {
        self.made.load(SeqCst) == self.dropped.load(SeqCst)
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(
            self.made.load(SeqCst),
            self.dropped.load(SeqCst),
            "made and dropped"
        );
    }
}

struct Counted {
    census: Census,
    alive: usize,
}

impl Counted {
    fn touch(&self) {
        assert_eq!(self.alive, 0xA11FE, "used after its drop");
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(
            std::mem::replace(&mut self.alive, 0xDEAD),
            0xA11FE,
            "dropped twice"
        );
        self.census.dropped.fetch_add(1, SeqCst);
    }
}

/// How a task ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Returns,
    Panics,
    IsKilled,
    NeverStarts,
}

/// When the handle goes, seen from the task.
#[derive(Clone, Copy, Debug)]
enum Handle {
    Before,
    Meanwhile,
    After,
    Joined,
    JoinedInTime,
    Forgotten,
}

const ENDS: [End; 4] = [End::Returns, End::Panics, End::IsKilled, End::NeverStarts];
const HANDLES: [Handle; 6] = [
    Handle::Before,
    Handle::Meanwhile,
    Handle::After,
    Handle::Joined,
    Handle::JoinedInTime,
    Handle::Forgotten,
];

/// One task with a counted closure and a counted result, in one of the ways there are.
fn one_life(census: &Census, end: End, handle: Handle, late_task: bool) {
    let (closure, result) = (census.one(), census.one());
    let (go, gone) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (gate, tell) = (go.clone(), gone.clone());
    struct Tells(Arc<Event>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.set();
        }
    }
    let tells = Tells(tell);
    let task = spawn(move || {
        let _tells = &tells;
        let local = closure;
        local.touch();
        gate.wait();
        match end {
            End::Returns => {}
            End::Panics => std::panic::resume_unwind(Box::new(local)),
            End::IsKilled | End::NeverStarts => current().kill(),
        }
        (result, tells)
    });
    let who = task.task();
    let mut task = Some(task);
    if matches!(end, End::NeverStarts) {
        who.kill();
    } else if matches!(handle, Handle::Meanwhile) {
        yield_now();
    }
    if matches!(handle, Handle::Before | Handle::Meanwhile) {
        task = None;
    }
    go.set();
    match (handle, task) {
        (Handle::Joined, Some(task)) => drop(task.join()),
        (Handle::JoinedInTime, Some(task)) => {
            if let Ok(Ok((result, _tells))) = task.join_timeout(LONG) {
                result.touch();
            }
        }
        (Handle::After, Some(task)) => {
            until(|| task.is_finished());
            if late_task {
                drop(task);
                who.unpark();
                who.kill();
                return;
            }
            drop(who);
            drop(task);
        }
        (Handle::Forgotten, Some(task)) => {
            until(|| task.is_finished());
            let Ok((result, tells)) = task.join() else {
                return;
            };
            // A result may be kept for longer than all else.
            drop(tells);
            result.touch();
        }
        (_, None) => gone.wait(),
        (other, Some(_)) => unreachable!("{other:?}"),
    }
}

#[test]
fn handle_and_task_in_every_order() {
    within("handle_and_task_in_every_order", || {
        for workers in [1, 2] {
            let census = Census::default();
            let all = census.clone();
            runtime(workers).run(move || {
                for end in ENDS {
                    for handle in HANDLES {
                        for late_task in [false, true] {
                            for _ in 0..20 {
                                one_life(&all, end, handle, late_task);
                            }
                            until(|| all.gone());
                        }
                    }
                }
            });
            census.check();
            assert_eq!(census.made.load(SeqCst), 4 * 6 * 2 * 20 * 2);
        }
    });
}

/// The handle is dropped at the very moment of the end: one of the two drops the result.
#[test]
fn the_handle_at_the_moment_of_the_end() {
    within("the_handle_at_the_moment_of_the_end", || {
        let runtime = runtime(2);
        let census = Census::default();
        for i in 0..20_000usize {
            let (closure, result) = (census.one(), census.one());
            let task = runtime.spawn(move || {
                closure.touch();
                result
            });
            for _ in 0..i % 300 {
                std::hint::spin_loop();
            }
            match i % 3 {
                0 => drop(task),
                1 => drop(task.join_timeout(Duration::ZERO)),
                _ => {
                    task.kill();
                    drop(task);
                }
            }
        }
        drop(runtime);
        census.check();
    });
}

#[test]
fn spawns_that_are_refused() {
    within("spawns_that_are_refused", || {
        let census = Census::default();
        let runtime = Runtime::builder().workers(1).max_stacks(1).build().unwrap();
        let captured = census.one();
        let bad = Builder::new().stack_size(3);
        assert!(runtime.spawn_with(bad, move || captured.touch()).is_err());
        let captured = census.one();
        let bad = Builder::new().on_worker(7);
        assert!(runtime.spawn_with(bad, move || captured.touch()).is_err());
        let holds = runtime.spawn(park);
        until(|| runtime.stats().live == 1);
        let captured = census.one();
        assert!(
            runtime
                .spawn_with(Builder::new(), move || captured.touch())
                .is_err()
        );
        census.check();
        let captured = census.one();
        let outside = Builder::new().spawn_local(move || captured.touch());
        assert!(outside.is_err());
        census.check();
        // Waits for a stack, and the runtime ends before there is one.
        let captured = census.one();
        let starved = runtime.spawn(move || captured.touch());
        drop(holds);
        drop(runtime);
        assert!(starved.join().is_err_and(|e| e.is_killed()));
        census.check();
    });
}

// ---- shapes ------------------------------------------------------------------------------------

#[repr(align(128))]
struct Aligned<const N: usize>([u8; N], Counted);

impl<const N: usize> Aligned<N> {
    fn new(census: &Census) -> Self {
        Self(std::array::from_fn(|i| i as u8), census.one())
    }

    fn check(&self) {
        assert_eq!((&raw const *self).addr() % 128, 0, "misaligned");
        assert!(
            self.0.iter().enumerate().all(|(i, &b)| b == i as u8),
            "damaged"
        );
        self.1.touch();
    }
}

fn big_and_aligned<const N: usize>(census: &Census) {
    let (value, kept) = (Aligned::<N>::new(census), Aligned::<N>::new(census));
    let task = spawn(move || {
        value.check();
        kept.check();
        yield_now();
        value.check();
        (1u8, kept)
    });
    let (one, kept) = task.join().unwrap();
    assert_eq!(one, 1);
    kept.check();
    // Dropped without having run, unclaimed, and as a panic's payload.
    let value = Aligned::<N>::new(census);
    let task = spawn(move || value.check());
    task.kill();
    assert!(task.join().is_err());
    let value = Aligned::<N>::new(census);
    drop(spawn(move || value));
    let value = Aligned::<N>::new(census);
    let end: Result<(), _> = spawn(move || std::panic::resume_unwind(Box::new(value))).join();
    match end {
        Err(sward_runtime::JoinError::Panicked(payload)) => {
            payload.downcast::<Aligned<N>>().unwrap().check();
        }
        other => panic!("{other:?}"),
    }
    // Through channels of all kinds.
    for (sender, receiver) in [bounded(1), unbounded(), rendezvous()] {
        let (a, b) = (Aligned::<N>::new(census), Aligned::<N>::new(census));
        let task = spawn(move || {
            assert!(sender.send(a).is_ok());
            assert!(sender.send(b).is_ok());
        });
        receiver.recv().unwrap().check();
        receiver.recv().unwrap().check();
        task.join().unwrap();
    }
}

#[test]
fn big_alignments_and_big_closures() {
    within("big_alignments_and_big_closures", || {
        let census = Census::default();
        let all = census.clone();
        // Without optimisation each move is a copy on the stack.
        let roomy = Runtime::builder()
            .workers(1)
            .stack_size(2 << 20)
            .build()
            .unwrap();
        roomy.run(move || {
            big_and_aligned::<1>(&all);
            big_and_aligned::<127>(&all);
            big_and_aligned::<128>(&all);
            big_and_aligned::<{ 10 * 1024 }>(&all);
        });
        census.check();
        // A large result of a small closure, and the reverse.
        let runtime = runtime(1);
        assert_eq!(
            runtime.spawn(|| [7u8; 10 * 1024]).join().unwrap()[10_239],
            7
        );
        let big = [3u8; 10 * 1024];
        assert_eq!(runtime.spawn(move || big[10_239]).join().unwrap(), 3);
        let many: Vec<_> = (0..100u8)
            .map(|i| runtime.spawn(move || [i; 4096]))
            .collect();
        for (i, array) in join_all(many).into_iter().enumerate() {
            assert_eq!(array.unwrap(), [i as u8; 4096]);
        }
    });
}

/// Nothing to store, but destructors all the same.
#[test]
fn zero_sized() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.fetch_add(1, SeqCst);
        }
    }
    within("zero_sized", || {
        let runtime = runtime(1);
        runtime.run(|| {
            spawn(|| ()).join().unwrap();
            let captured = Nothing;
            let result = spawn(move || {
                let _captured = &captured;
                Nothing
            });
            // The captured one goes with the closure, the result is ours.
            let result = result.join().unwrap();
            assert_eq!(DROPS.load(SeqCst), 1);
            drop(result);
            assert_eq!(DROPS.swap(0, SeqCst), 2);
            for (sender, receiver) in [bounded(2), unbounded()] {
                sender.send(Nothing).unwrap();
                sender.send(Nothing).unwrap();
                drop(receiver.recv().unwrap());
                drop((sender, receiver));
            }
            let (sender, receiver) = rendezvous();
            let task = spawn(move || sender.send(Nothing).unwrap());
            drop(receiver.recv().unwrap());
            task.join().unwrap();
            assert_eq!(DROPS.swap(0, SeqCst), 5);
            let task = spawn(|| {
                std::panic::panic_any(Nothing);
            });
            drop(task.join());
            assert_eq!(DROPS.swap(0, SeqCst), 1);
        });
    });
}

// ---- channels ----------------------------------------------------------------------------------

/// Ends that go at random moments, with values in the buffer, in blocked senders and on the way to
/// receivers: each value is dropped once.
#[test]
fn channel_ends_at_every_moment() {
    within("channel_ends_at_every_moment", || {
        let census = Census::default();
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let random = &mut Random::new(11);
            for round in 0..300 {
                let (sender, receiver): (Sender<Counted>, Receiver<Counted>) = match round % 3 {
                    0 => bounded(random.below(4) as usize),
                    1 => unbounded(),
                    _ => rendezvous(),
                };
                let mut tasks = Vec::new();
                for _ in 0..1 + random.below(3) {
                    let (sender, census) = (sender.clone(), census.clone());
                    let (n, kind) = (random.below(10), random.below(3));
                    tasks.push(runtime.spawn(move || {
                        for _ in 0..n {
                            let sent = match kind {
                                0 => sender.send(census.one()).is_ok(),
                                1 => sender.try_send(census.one()).is_ok(),
                                _ => sender
                                    .send_timeout(census.one(), Duration::from_micros(20))
                                    .is_ok(),
                            };
                            if !sent && kind == 0 {
                                return;
                            }
                        }
                    }));
                }
                for _ in 0..1 + random.below(3) {
                    let receiver = receiver.clone();
                    let (n, kind) = (random.below(10), random.below(3));
                    tasks.push(runtime.spawn(move || {
                        for _ in 0..n {
                            let got = match kind {
                                0 => receiver.recv().ok(),
                                1 => receiver.try_recv().ok(),
                                _ => receiver.recv_timeout(Duration::from_micros(20)).ok(),
                            };
                            got.iter().for_each(Counted::touch);
                        }
                    }));
                }
                match random.below(3) {
                    0 => drop((sender, receiver)),
                    1 => {
                        drop(receiver);
                        yield_now();
                        drop(sender);
                    }
                    _ => {
                        drop(sender);
                        yield_now();
                        drop(receiver);
                    }
                }
                let killed = random.below(3) == 0;
                if killed {
                    tasks[random.below(tasks.len() as u64) as usize].kill();
                }
                for task in tasks {
                    assert!(task.join().is_ok_and(|()| true) || killed);
                }
            }
            drop(runtime);
            census.check();
        }
    });
}

#[test]
fn values_come_back_from_what_fails() {
    within("values_come_back_from_what_fails", || {
        let census = Census::default();
        let all = census.clone();
        runtime(1).run(move || {
            // The last receiver goes while senders wait: each gets its own value back.
            let (sender, receiver) = bounded(1);
            sender
                .send((0, all.one()))
                .unwrap_or_else(|_| panic!("room"));
            let tasks: Vec<_> = (1..5)
                .map(|i| {
                    let (sender, value) = (sender.clone(), all.one());
                    spawn(move || sender.send((i, value)).map_err(|e| e.into_inner().0))
                })
                .collect();
            yield_now();
            drop(receiver);
            for (i, end) in join_all(tasks).into_iter().enumerate() {
                assert_eq!(end.unwrap(), Err(i + 1));
            }
            assert!(sender.send((9, all.one())).is_err());
            drop(sender);
            until(|| all.gone());
            // The last sender goes while receivers wait.
            let (sender, receiver) = rendezvous::<Counted>();
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let receiver = receiver.clone();
                    spawn(move || receiver.recv().is_err())
                })
                .collect();
            yield_now();
            drop(sender);
            assert!(join_all(tasks).into_iter().all(|t| t.unwrap()));
        });
        census.check();
    });
}

/// A value's destructor may use the channel that it was in, and may hold its ends.
#[test]
fn values_that_use_their_own_channel() {
    struct Loops(
        Sender<Option<Self>>,
        Receiver<Option<Self>>,
        #[allow(dead_code)] Counted,
    );
    impl Drop for Loops {
        fn drop(&mut self) {
            drop(self.0.try_send(None));
            drop(self.1.try_recv());
            drop((self.0.clone(), self.1.clone()));
        }
    }
    within("values_that_use_their_own_channel", || {
        let census = Census::default();
        let all = census.clone();
        runtime(1).run(move || {
            for full in [false, true] {
                let (sender, receiver) = bounded(3);
                for _ in 0..2 + usize::from(full) {
                    let value = Loops(sender.clone(), receiver.clone(), all.one());
                    assert!(sender.send(Some(value)).is_ok());
                }
                // A cycle: the values keep the channel alive until somebody takes them out.
                while let Ok(value) = receiver.try_recv() {
                    drop(value);
                }
            }
            // In a sender that is killed, or times out, with the value in its hands.
            let (sender, receiver) = rendezvous();
            let value = Loops(sender.clone(), receiver.clone(), all.one());
            let again = sender.clone();
            let task = spawn(move || again.send(Some(value)).is_ok());
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            let value = Loops(sender.clone(), receiver.clone(), all.one());
            assert!(
                timeout(Duration::from_millis(1), || sender
                    .send(Some(value))
                    .is_ok())
                .is_err()
            );
            let value = Loops(sender.clone(), receiver.clone(), all.one());
            drop(sender.try_send(Some(value)));
        });
        census.check();
    });
}

// ---- locks, handles of handles, hooks ------------------------------------------------------------

#[test]
fn guards_and_mutexes() {
    within("guards_and_mutexes", || {
        let census = Census::default();
        let all = census.clone();
        runtime(1).run(move || {
            // The last owner of a mutex goes with a guard's task.
            let mutex = Arc::new(Mutex::new(all.one()));
            let mine = mutex.clone();
            let task = spawn(move || {
                let guard = mine.lock();
                park();
                guard.touch();
            });
            yield_now();
            drop(mutex);
            task.task().unpark();
            task.join().unwrap();
            until(|| all.gone());
            // A guard that goes by a panic, a kill, a time-out.
            let mutex = Arc::new(Mutex::new(all.one()));
            let locked = |f: fn()| {
                let mutex = mutex.clone();
                spawn(move || {
                    let _guard = mutex.lock();
                    f();
                })
            };
            assert!(
                locked(|| std::panic::resume_unwind(Box::new(1)))
                    .join()
                    .is_err()
            );
            let task = locked(park);
            yield_now();
            assert!(mutex.try_lock().is_none());
            task.kill();
            drop(task.join());
            drop(
                locked(|| {
                    let _ = timeout(Duration::from_millis(1), park);
                })
                .join(),
            );
            mutex.try_lock().unwrap().touch();
            let Ok(mutex) = Arc::try_unwrap(mutex) else {
                panic!("somebody has it")
            };
            mutex.into_inner().touch();
        });
        census.check();
    });
}

#[test]
fn handles_that_are_results_and_captured_by_themselves() {
    within(
        "handles_that_are_results_and_captured_by_themselves",
        || {
            let census = Census::default();
            let all = census.clone();
            runtime(1).run(move || {
                // A handle as a result of a task, three deep, joined or not.
                let nest = |all: &Census| {
                    let (a, b, c) = (all.one(), all.one(), all.one());
                    spawn(move || (a, spawn(move || (b, spawn(move || c)))))
                };
                let (a, inner) = nest(&all).join().unwrap();
                let (b, inner) = inner.join().unwrap();
                let c = inner.join().unwrap();
                [a, b, c].iter().for_each(Counted::touch);
                drop(nest(&all));
                let (_, inner) = nest(&all).join().unwrap();
                drop(inner);
                // A task that is given its own handle.
                let (sender, receiver) = rendezvous::<JoinHandle<()>>();
                let counted = all.one();
                let own = spawn(move || {
                    let own = receiver.recv().unwrap();
                    counted.touch();
                    assert!(!own.is_finished());
                    let joined = catch_unwind(AssertUnwindSafe(|| own.join()));
                    assert!(joined.is_err(), "a task joined itself");
                });
                let who: Task = own.task();
                sender.send(own).unwrap();
                until(|| all.gone());
                drop(who);
                // A listener that holds the handle of what it listens to.
                let counted = all.one();
                let task = spawn(park);
                let who = task.task();
                let slot = Arc::new(Mutex::new(None));
                let holds = slot.clone();
                task.on_exit(move |_| {
                    counted.touch();
                    drop(holds.lock().take());
                });
                *slot.lock() = Some(task);
                who.kill();
                until(|| all.gone());
                // Many handles at once.
                let make = || {
                    (0..10).map(|_| {
                        let counted = all.one();
                        spawn(move || counted)
                    })
                };
                drop(make().collect::<Vec<_>>());
                drop(join_all(make()));
                drop(try_join_all(make()));
                drop(join_all_timeout(make(), Duration::ZERO));
                let local = all.one();
                drop(spawn_local(move || local));
                let local = all.one();
                spawn_local(move || local).join().unwrap().touch();
                until(|| all.gone());
            });
            census.check();
        },
    );
}

#[test]
fn switch_hooks_go_with_their_task() {
    within("switch_hooks_go_with_their_task", || {
        let census = Census::default();
        let all = census.clone();
        runtime(1).run(move || {
            for how in 0..4 {
                let (a, b, c, d) = (all.one(), all.one(), all.one(), all.one());
                let task = spawn(move || {
                    on_switch(move || a.touch(), move || b.touch());
                    yield_now();
                    on_switch(move || c.touch(), move || d.touch());
                    yield_now();
                    match how {
                        0 => {}
                        1 => std::panic::resume_unwind(Box::new(1)),
                        2 => current().kill(),
                        _ => sleep(Duration::from_micros(10)),
                    }
                });
                drop(task.join());
                all.check();
            }
        });
        census.check();
    });
}
