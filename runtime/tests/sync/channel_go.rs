//! What Go's tests ask of channels, asked of ours: the ideas of `test/chan` and of the runtime's
//! own channel tests, without `select`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Random, until, within};
use sward_runtime::sync::channel::{TryRecvError, TrySendError};
use sward_runtime::sync::{Receiver, Sender, bounded, rendezvous};
use sward_runtime::{Runtime, TaskState, WaitKind, dump, join_all, run, sleep, spawn, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn until_one_waits(kind: WaitKind) {
    until(|| {
        let tasks = dump().tasks();
        tasks
            .iter()
            .any(|t| t.state == TaskState::Parked && t.reason.kind() == kind)
    });
}

/// Numbers flow through a chain of filters, one more for each prime found.
#[test]
fn prime_sieve() {
    within("prime_sieve", || {
        for workers in [1, 2] {
            let primes = runtime(workers).run(|| {
                let (source, mut numbers) = rendezvous::<u32>();
                drop(spawn(move || {
                    (2..).map(|n| source.send(n)).find(Result::is_err)
                }));
                let mut primes = Vec::new();
                while primes.len() < 150 {
                    let prime = numbers.recv().unwrap();
                    primes.push(prime);
                    let (pass, passed) = rendezvous();
                    let from = std::mem::replace(&mut numbers, passed);
                    drop(spawn(move || {
                        from.iter()
                            .filter(|n| n % prime != 0)
                            .map(|n| pass.send(n))
                            .find(Result::is_err)
                    }));
                }
                primes
            });
            assert_eq!(
                (primes[0], primes[9], primes[99], primes[149]),
                (2, 29, 541, 863)
            );
            assert!(primes.is_sorted());
        }
    });
}

/// Order through a deep buffer, through none, and through a chain in lock step.
#[test]
fn order_of_arrival() {
    within("order_of_arrival", || {
        run(|| {
            let (sender, receiver) = bounded(10);
            (0..10).for_each(|i| sender.send(i).unwrap());
            assert!((0..10).all(|i| receiver.recv() == Ok(i)));
            // Each task waits for the one before it; the last lets the first go.
            let (first, mut before) = rendezvous::<()>();
            let (tell, told) = bounded(10);
            for i in 0..10 {
                let (next, after) = rendezvous();
                let (from, tell) = (std::mem::replace(&mut before, after), tell.clone());
                drop(spawn(move || {
                    from.recv().unwrap();
                    tell.send(i).unwrap();
                    next.send(()).unwrap();
                }));
            }
            first.send(()).unwrap();
            before.recv().unwrap();
            drop(tell);
            assert!(told.iter().eq(0..10));
        });
    });
}

/// Ten thousand tasks in a row, each adds one on the way.
#[test]
fn a_chain_of_ten_thousand() {
    within("a_chain_of_ten_thousand", || {
        for workers in [1, 2] {
            let sum = runtime(workers).run(|| {
                let (leftmost, mut left) = rendezvous::<u32>();
                for _ in 0..10_000 {
                    let (out, next) = rendezvous();
                    let from = std::mem::replace(&mut left, next);
                    drop(spawn(move || out.send(from.recv().unwrap() + 1).unwrap()));
                }
                leftmost.send(0).unwrap();
                left.recv().unwrap()
            });
            assert_eq!(sum, 10_000);
        }
    });
}

/// What does not wait never waits, whatever stands at the other end.
#[test]
fn nothing_blocks_in_the_non_blocking_forms() {
    within("nothing_blocks_in_the_non_blocking_forms", || {
        runtime(1).run(|| {
            for capacity in [0, 1, 10] {
                let (sender, receiver) = bounded::<String>(capacity);
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
                for i in 0..capacity {
                    sender.try_send(i.to_string()).unwrap();
                }
                let full = sender.try_send("x".into());
                assert_eq!(full, Err(TrySendError::Full("x".into())));
                while receiver.try_recv().is_ok() {}
                let waits = {
                    let receiver = receiver.clone();
                    spawn(move || receiver.recv().unwrap())
                };
                until_one_waits(WaitKind::Recv);
                sender.try_send("to who waits".into()).unwrap();
                assert_eq!(waits.join().unwrap(), "to who waits");
                drop(sender);
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            }
        });
    });
}

/// A sender that nobody hears and a receiver that hears nobody block, until the other comes.
#[test]
fn blocking_is_real() {
    within("blocking_is_real", || {
        runtime(2).run(|| {
            let (sender, receiver) = bounded(1);
            let begun = Arc::new(AtomicUsize::new(0));
            let counts = begun.clone();
            let task = spawn(move || {
                let value = receiver.recv();
                counts.fetch_add(1, SeqCst);
                (value, receiver)
            });
            until_one_waits(WaitKind::Recv);
            assert_eq!(
                begun.load(SeqCst),
                0,
                "a receive from an empty channel went on"
            );
            sender.send(1).unwrap();
            let (value, receiver) = task.join().unwrap();
            assert_eq!(value, Ok(1));
            sender.send(2).unwrap();
            let counts = begun.clone();
            let task = spawn(move || {
                sender.send(3).unwrap();
                counts.fetch_add(1, SeqCst);
            });
            until_one_waits(WaitKind::Send);
            assert_eq!(begun.load(SeqCst), 1, "a send to a full channel went on");
            assert!(receiver.iter().eq([2, 3]));
            task.join().unwrap();
        });
    });
}

/// A buffered channel as a semaphore: no more than ten inside.
#[test]
fn a_channel_as_a_semaphore() {
    within("a_channel_as_a_semaphore", || {
        runtime(2).run(|| {
            let (enter, leave) = bounded(10);
            let inside = Arc::new(AtomicUsize::new(0));
            let tasks = (0..100).map(|_| {
                let (enter, leave, inside) = (enter.clone(), leave.clone(), inside.clone());
                spawn(move || {
                    enter.send(()).unwrap();
                    assert!(inside.fetch_add(1, SeqCst) < 10, "eleven inside");
                    yield_now();
                    sleep(Duration::from_micros(10));
                    inside.fetch_sub(1, SeqCst);
                    leave.recv().unwrap();
                })
            });
            join_all(tasks).into_iter().for_each(Result::unwrap);
        });
    });
}

/// Values of no size keep their number.
#[test]
fn values_of_no_size() {
    within("values_of_no_size", || {
        run(|| {
            let (sender, receiver) = bounded::<[(); 8]>(4);
            let task = spawn(move || (0..10_000).for_each(|_| sender.send([(); 8]).unwrap()));
            assert_eq!(receiver.iter().count(), 10_000);
            task.join().unwrap();
        });
    });
}

/// Power series as streams of coefficients: every operation is a task, every term a rendezvous.
mod series {
    use super::*;

    type Stream = Receiver<i64>;
    const TERMS: usize = 12;

    fn stream(f: impl FnOnce(&Sender<i64>) -> Option<()> + Send + 'static) -> Stream {
        let (sender, receiver) = rendezvous();
        drop(spawn(move || f(&sender)));
        receiver
    }

    fn ones() -> Stream {
        stream(|out| {
            loop {
                out.send(1).ok()?
            }
        })
    }

    fn add(a: Stream, b: Stream) -> Stream {
        stream(move |out| {
            loop {
                out.send(a.recv().ok()? + b.recv().ok()?).ok()?
            }
        })
    }

    fn split(of: Stream) -> (Stream, Stream) {
        let (one, first) = bounded(TERMS);
        let (two, second) = bounded(TERMS);
        drop(spawn(move || {
            for term in of.iter() {
                if one.send(term).is_err() || two.send(term).is_err() {
                    return;
                }
            }
        }));
        (first, second)
    }

    fn scale(by: i64, of: Stream) -> Stream {
        stream(move |out| {
            loop {
                out.send(by * of.recv().ok()?).ok()?
            }
        })
    }

    /// a * b = a0*b0 + x*(a0*b' + b0*a' + x*a'*b')
    fn multiply(a: Stream, b: Stream, left: usize) -> Stream {
        stream(move |out| {
            if left == 0 {
                return None;
            }
            let (a0, b0) = (a.recv().ok()?, b.recv().ok()?);
            out.send(a0 * b0).ok()?;
            let ((a, a_too), (b, b_too)) = (split(a), split(b));
            let cross = add(scale(a0, b), scale(b0, a));
            out.send(cross.recv().ok()?).ok()?;
            let rest = add(cross, multiply(a_too, b_too, left - 1));
            loop {
                out.send(rest.recv().ok()?).ok()?
            }
        })
    }

    #[test]
    fn powers_of_a_series() {
        within("powers_of_a_series", || {
            for workers in [1, 2] {
                runtime(workers).run(|| {
                    // (1 + x + x^2 + ...)^2 has the coefficients 1, 2, 3...
                    let square = multiply(ones(), ones(), TERMS);
                    assert!(square.iter().take(TERMS).eq(1..=TERMS as i64));
                    let sum = add(scale(3, ones()), scale(-3, ones()));
                    assert!(sum.iter().take(50).all(|term| term == 0));
                });
            }
        });
    }
}

/// Producers and consumers of random number and speed, buffers of random size.
#[test]
fn producers_and_consumers_at_random() {
    within("producers_and_consumers_at_random", || {
        let mut random = Random::new(2024);
        let runtimes = [runtime(1), runtime(2)];
        for round in 0..60 {
            let (sender, receiver) = bounded(usize::try_from(random.below(9)).unwrap());
            let producers = 1 + random.below(8);
            let each = random.below(200);
            let tasks: Vec<_> = (0..producers)
                .map(|_| {
                    let (sender, pause) = (sender.clone(), 1 + random.below(50));
                    runtimes[round % 2].spawn(move || {
                        for i in 0..each {
                            sender.send(i).unwrap();
                            if i % pause == 0 {
                                yield_now();
                            }
                        }
                    })
                })
                .collect();
            let sums: Vec<_> = (0..1 + random.below(8))
                .map(|_| {
                    let receiver = receiver.clone();
                    runtimes[round % 2].spawn(move || receiver.iter().sum::<u64>())
                })
                .collect();
            drop((sender, receiver));
            join_all(tasks).into_iter().for_each(Result::unwrap);
            let sum: u64 = join_all(sums).into_iter().map(Result::unwrap).sum();
            assert_eq!(
                sum,
                producers * (each * each.saturating_sub(1) / 2),
                "round {round}"
            );
        }
    });
}

/// A value is seen by its receiver as its sender left it, across workers.
#[test]
fn what_was_written_before_is_seen_after() {
    within("what_was_written_before_is_seen_after", || {
        let runtime = runtime(2);
        let (sender, receiver) = bounded::<Box<[u64; 64]>>(2);
        let (back, returned) = bounded(2);
        let on = |n| sward_runtime::Builder::new().on_worker(n);
        let one = runtime.spawn_with(on(0), move || {
            for i in 0..3_000 {
                sender.send(Box::new([i; 64])).unwrap();
            }
        });
        let two = runtime.spawn_with(on(1), move || {
            for mut block in receiver {
                assert!(block.iter().all(|&i| i == block[0]));
                let next = block[0] + 1;
                block.fill(next);
                back.send(block).unwrap();
            }
        });
        let blocks = returned
            .iter()
            .zip(1..)
            .inspect(|(block, i)| assert_eq!(**block, [*i; 64]));
        assert_eq!(blocks.count(), 3_000);
        one.unwrap().join().unwrap();
        two.unwrap().join().unwrap();
    });
}
