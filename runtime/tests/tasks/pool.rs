//! Pools and the maps over them: places are never lost, and nobody waits for ever.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Random, until, within};
use sward_runtime::sync::Event;
use sward_runtime::{
    Builder, JoinError, Pool, Runtime, current, defer, join_all, park, scope, shield, sleep, spawn,
    timeout, yield_now,
};

const FOR_EVER: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(3);

fn run(workers: usize, f: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(workers).build().unwrap().run(f);
}

/// On an ordinary thread, and in tasks of one worker and of two.
fn everywhere(name: &str, check: impl Fn() + Send + Sync + Clone + 'static) {
    within(name, || {
        check();
        run(1, check.clone());
        run(2, check);
    });
}

fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

/// How many run, and the most that ever did.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(self: &Arc<Self>) -> Inside {
        self.most
            .fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Inside(self.clone())
    }
}

struct Inside(Arc<Gauge>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// Nobody is in it, and all places are there.
#[track_caller]
fn assert_whole(pool: &Pool) {
    pool.join();
    assert!(pool.is_empty());
    assert_eq!(pool.free_count(), pool.size());
}

#[test]
fn size_zero_is_refused() {
    let text = panic_text(|| drop(Pool::new(0)));
    assert!(text.contains("pool of size 0"), "{text}");
}

#[test]
fn spawns_wait_for_places() {
    everywhere("spawns_wait_for_places", || {
        let pool = Pool::named(3, "three");
        let gauge = Arc::new(Gauge::default());
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let gauge = gauge.clone();
                pool.spawn(move || {
                    let _inside = gauge.enter();
                    yield_now();
                    i
                })
            })
            .collect();
        let sum: i32 = join_all(tasks).into_iter().map(Result::unwrap).sum();
        assert_eq!((sum, gauge.most.load(SeqCst) <= 3), (1225, true));
        assert_whole(&pool);
        assert!(format!("{pool:?}").contains("pool 'three'"));
    });
}

#[test]
fn full_and_free() {
    everywhere("full_and_free", || {
        let pool = Arc::new(Pool::new(2));
        assert!(pool.wait_available_timeout(Duration::ZERO));
        pool.wait_available();
        assert_eq!(pool.free_count(), 2);
        let one = pool.try_spawn(park).unwrap();
        let two = pool.spawn_timeout(FOR_EVER, park).unwrap();
        assert_eq!((pool.free_count(), pool.len()), (0, 2));
        let back = pool.try_spawn(|| 7).unwrap_err();
        assert_eq!((back.0)(), 7);
        assert!(format!("{back:?} {back}").contains("no free place"));
        assert!(pool.spawn_timeout(SHORT, || 7).is_err());
        assert!(!pool.wait_available_timeout(SHORT));
        assert!(timeout(SHORT, || pool.spawn(|| 7)).is_err());
        let wrong = pool.spawn_timeout(SHORT, || ()).unwrap_err();
        (wrong.0)();
        let waits = {
            let pool = pool.clone();
            spawn(move || pool.wait_available())
        };
        one.task().unpark();
        one.join().unwrap();
        waits.join().unwrap();
        assert_eq!(pool.free_count(), 1);
        // A start that fails gives its place back.
        assert!(
            pool.spawn_with(Builder::new().on_worker(9999), || ())
                .is_err()
        );
        assert_eq!(pool.free_count(), 1);
        two.task().unpark();
        assert_whole(&pool);
    });
}

/// The last place comes back from one who only looked: who joins hears of it.
#[test]
fn join_and_wait_available() {
    everywhere("join_and_wait_available", || {
        for _ in 0..100 {
            let pool = Arc::new(Pool::new(1));
            let task = pool.spawn(park);
            let waits: Vec<_> = (0..3)
                .map(|i| {
                    let pool = pool.clone();
                    spawn(move || {
                        if i == 1 {
                            pool.join();
                        } else {
                            pool.wait_available();
                        }
                    })
                })
                .collect();
            yield_now();
            task.task().unpark();
            join_all(waits).into_iter().for_each(Result::unwrap);
            assert_whole(&pool);
        }
    });
}

#[test]
fn killed_while_full() {
    everywhere("killed_while_full", || {
        let pool = Arc::new(Pool::new(2));
        let ran = Arc::new(AtomicUsize::new(0));
        let spawners: Vec<_> = (0..5)
            .map(|_| {
                let (pool, ran) = (pool.clone(), ran.clone());
                spawn(move || {
                    for _ in 0..3 {
                        let ran = ran.clone();
                        pool.spawn(move || {
                            ran.fetch_add(1, SeqCst);
                            park();
                        });
                    }
                })
            })
            .collect();
        until(|| ran.load(SeqCst) == 2);
        pool.kill();
        join_all(spawners).into_iter().for_each(Result::unwrap);
        assert_whole(&pool);
        assert_eq!(ran.load(SeqCst), 2);
        assert!(pool.spawn(|| ()).join().unwrap_err().is_killed());
        assert!(pool.kill_timeout(FOR_EVER));
    });
}

#[test]
fn a_full_pool_in_a_destructor() {
    within("a_full_pool_in_a_destructor", || {
        run(1, || {
            struct Spawns(Arc<Pool>);
            impl Drop for Spawns {
                fn drop(&mut self) {
                    assert!(std::thread::panicking());
                    assert!(self.0.try_spawn(|| ()).is_err());
                    assert!(self.0.spawn_timeout(FOR_EVER, || ()).is_err());
                    self.0.wait_available();
                    let pool = self.0.clone();
                    defer(move || drop(pool.spawn(|| ())));
                }
            }
            let pool = Arc::new(Pool::new(1));
            let task = pool.spawn(park);
            let spawns = Spawns(pool.clone());
            let unwinds = spawn(move || {
                let _spawns = spawns;
                park();
            });
            yield_now();
            unwinds.kill();
            assert!(unwinds.join().unwrap_err().is_killed());
            task.kill();
            assert_whole(&pool);
        });
    });
}

#[test]
fn map_keeps_the_order() {
    everywhere("map_keeps_the_order", || {
        for size in [1, 3, 1000] {
            let pool = Pool::new(size);
            let gauge = Arc::new(Gauge::default());
            let seen = gauge.clone();
            let results = pool.map(0..200_u64, move |n| {
                let _inside = seen.enter();
                (0..n % 3).for_each(|_| yield_now());
                n * 2
            });
            assert!(results.into_iter().eq((0..200).map(|n| n * 2)));
            assert!(gauge.most.load(SeqCst) <= size);
            assert_whole(&pool);
            assert!(pool.map(Vec::<i32>::new(), |n| n).is_empty());
        }
    });
}

#[test]
fn map_goes_on_with_the_first_panic() {
    everywhere("map_goes_on_with_the_first_panic", || {
        let pool = Pool::new(4);
        let (gauge, started) = (Arc::new(Gauge::default()), Arc::new(AtomicUsize::new(0)));
        let (inside, count) = (gauge.clone(), started.clone());
        let text = panic_text(|| {
            pool.map(0.., move |n: i32| {
                let _inside = inside.enter();
                count.fetch_add(1, SeqCst);
                if n == 9 {
                    panic!("item nine");
                }
                if n > 5 {
                    park();
                }
            });
        });
        assert_eq!(text, "item nine");
        // 6, 7 and 8 were parked and are killed; perhaps some more began.
        assert_whole(&pool);
        assert_eq!(gauge.now.load(SeqCst), 0);
        assert!(started.load(SeqCst) <= 14);
        // An item whose task is killed.
        let text = panic_text(|| {
            pool.map(0..4, |n| {
                if n == 2 {
                    current().kill();
                }
            });
        });
        assert!(text.contains("killed"), "{text}");
        assert_whole(&pool);
        // The input.
        let text = panic_text(|| {
            let items = (0..10).inspect(|n| assert!(*n < 3, "bad input"));
            pool.map(items, |_| park());
        });
        assert_eq!(text, "bad input");
        assert_whole(&pool);
    });
}

#[test]
fn imap_is_lazy_and_bounded() {
    everywhere("imap_is_lazy_and_bounded", || {
        for (size, buffer) in [(4, 4), (4, 2), (2, 10), (1, 1)] {
            let pool = Pool::new(size);
            let pulled = Arc::new(AtomicUsize::new(0));
            let (gauge, counts) = (Arc::new(Gauge::default()), pulled.clone());
            let inside = gauge.clone();
            // Without end.
            let items = (0_usize..).inspect(move |_| drop(counts.fetch_add(1, SeqCst)));
            let mut squares = pool
                .imap(items, move |n| {
                    let _inside = inside.enter();
                    (0..(n * 7) % 5).for_each(|_| yield_now());
                    n * n
                })
                .buffer(buffer);
            assert_eq!(pulled.load(SeqCst), 0);
            for n in 0..100 {
                assert_eq!(squares.next().unwrap().unwrap(), n * n);
                assert!(pulled.load(SeqCst) <= n + buffer, "{n} {size} {buffer}");
            }
            assert!(gauge.most.load(SeqCst) <= size.min(buffer));
            assert!(format!("{squares:?}").contains("out"));
            drop(squares);
            assert_whole(&pool);
            assert_eq!(gauge.now.load(SeqCst), 0);
            let none = pool.imap(0..0, |n: i32| n).next();
            assert!(none.is_none());
            let all = pool.imap(0..7, |n| n).map(Result::unwrap);
            assert!(all.eq(0..7));
        }
    });
}

#[test]
fn imap_unordered_gives_what_comes() {
    everywhere("imap_unordered_gives_what_comes", || {
        let pool = Pool::new(3);
        let go = Arc::new(Event::new());
        let waits = go.clone();
        let mut results = pool.imap_unordered(0..3, move |n| {
            if n == 0 {
                waits.wait();
            }
            n
        });
        let mut first: Vec<_> = results.by_ref().take(2).map(Result::unwrap).collect();
        first.sort_unstable();
        assert_eq!(first, [1, 2]);
        go.set();
        assert_eq!(results.next().unwrap().unwrap(), 0);
        assert!(results.next().is_none() && results.next().is_none());
        let mut all: Vec<_> = pool
            .imap_unordered(0..1000, |n| n)
            .map(Result::unwrap)
            .collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
        assert_whole(&pool);
    });
}

#[test]
fn a_bad_item_is_an_error_and_the_others_go_on() {
    everywhere("a_bad_item_is_an_error_and_the_others_go_on", || {
        let pool = Pool::new(3);
        let work = |n: i32| match n % 4 {
            1 => panic!("odd one"),
            2 => {
                current().kill();
                unreachable!()
            }
            _ => n,
        };
        let check = |n: i32, result: Result<i32, JoinError>| match n % 4 {
            1 => assert_eq!(result.unwrap_err().panic_message(), Some("odd one")),
            2 => assert!(result.unwrap_err().is_killed()),
            _ => assert_eq!(result.unwrap(), n),
        };
        let results: Vec<_> = pool.imap(0..40, work).collect();
        assert_eq!(results.len(), 40);
        (0..).zip(results).for_each(|(n, result)| check(n, result));
        assert_eq!(
            pool.imap_unordered(0..40, work)
                .filter(Result::is_ok)
                .count(),
            20
        );
        assert_whole(&pool);
    });
}

#[test]
fn input_that_panics() {
    everywhere("input_that_panics", || {
        let pool = Pool::new(4);
        let items = (0..10).inspect(|n| assert!(*n != 3, "bad input"));
        let mut results = pool.imap(items, |n| n).buffer(2);
        assert_eq!(results.next().unwrap().unwrap(), 0);
        let mut got = vec![0];
        let mut panics = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(|| results.next())) {
                Ok(Some(result)) => got.push(result.unwrap()),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        // The item that was not made is missing, and nothing else.
        assert_eq!((panics, got), (1, vec![0, 1, 2, 4, 5, 6, 7, 8, 9]));
        drop(results);
        assert_whole(&pool);
    });
}

/// A time-out in `next` loses neither an item nor a result.
#[test]
fn timed_out_in_the_middle() {
    everywhere("timed_out_in_the_middle", || {
        let pool = Arc::new(Pool::new(2));
        let gate = Arc::new(Event::new());
        let waits = gate.clone();
        let mut results = pool.imap(0..50, move |n| {
            if n % 10 == 5 {
                waits.wait();
            }
            n
        });
        let mut got = Vec::new();
        let mut missed = 0;
        while got.len() < 50 {
            match timeout(Duration::from_micros(300), || results.next()) {
                Ok(result) => got.push(result.unwrap().unwrap()),
                Err(_) => {
                    missed += 1;
                    if missed % 3 == 0 {
                        gate.set();
                    }
                }
            }
        }
        assert!(got.into_iter().eq(0..50));
        assert!(results.next().is_none() && missed > 0);
        // While it waits for a place, with an item in hand.
        let blocks = [pool.spawn(park), pool.spawn(park)];
        let mut results = pool.imap_unordered(0..3, |n| n);
        assert!(timeout(SHORT, || results.next()).is_err());
        blocks.iter().for_each(|b| b.task().unpark());
        let mut all: Vec<_> = results.map(Result::unwrap).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert_whole(&pool);
    });
}

#[test]
fn the_consumer_is_killed() {
    everywhere("the_consumer_is_killed", || {
        let pool = Arc::new(Pool::new(4));
        let gauge = Arc::new(Gauge::default());
        for how in 0..3 {
            let (shared, inside) = (pool.clone(), gauge.clone());
            let consumer = spawn(move || {
                let f = move |_| {
                    let _inside = inside.enter();
                    park();
                };
                match how {
                    0 => drop(shared.map(0..100, f)),
                    1 => drop(shared.imap(0..100, f).next()),
                    _ => drop(shared.imap_unordered(0..100, f).next()),
                }
            });
            until(|| gauge.now.load(SeqCst) == 4);
            consumer.kill();
            assert!(consumer.join().unwrap_err().is_killed());
            assert_whole(&pool);
            assert_eq!(gauge.now.load(SeqCst), 0);
        }
    });
}

/// Maps that share a pool, and maps inside the members of the same pool: no deadlock.
#[test]
fn maps_share_a_pool() {
    everywhere("maps_share_a_pool", || {
        for size in [1, 2, 3] {
            let pool = Arc::new(Pool::new(size));
            let maps: Vec<_> = (0..6_u64)
                .map(|k| {
                    let pool = pool.clone();
                    spawn(move || {
                        let mut sum = 0;
                        // Two at once in one task, pulled in turn.
                        let mut one = pool.imap(0..50, |n| {
                            yield_now();
                            n
                        });
                        let mut two = pool.imap_unordered(0..50, move |n| n + k);
                        while let (Some(a), Some(b)) = (one.next(), two.next()) {
                            sum += a.unwrap() + b.unwrap();
                        }
                        sum
                    })
                })
                .collect();
            for (k, sum) in join_all(maps).into_iter().enumerate() {
                assert_eq!(sum.unwrap(), 2450 + 50 * k as u64);
            }
            assert_whole(&pool);
            let inner = pool.clone();
            let sums = pool.map(0..5_u64, move |n| {
                let again = inner.clone();
                let sums = inner.map(0..4, move |m| {
                    again.map(0..3, move |k| n + m + k).iter().sum::<u64>()
                });
                sums.iter().sum::<u64>()
            });
            assert_eq!(sums, [30, 42, 54, 66, 78]);
            assert_whole(&pool);
        }
    });
}

/// A map that waits for an end of its own takes a place that another one frees.
#[test]
fn places_that_come_free_are_noticed() {
    everywhere("places_that_come_free_are_noticed", || {
        let pool = Arc::new(Pool::new(3));
        let others = [pool.spawn(park), pool.spawn(park)];
        let meet = Arc::new(AtomicUsize::new(0));
        let met = meet.clone();
        let free = {
            let meet = meet.clone();
            spawn(move || {
                until(|| meet.load(SeqCst) == 1);
                others.iter().for_each(|other| other.task().unpark());
            })
        };
        // Each item ends when all three have begun.
        let mut results = pool.imap_unordered(0..3, move |_| {
            met.fetch_add(1, SeqCst);
            until(|| met.load(SeqCst) == 3);
        });
        assert_eq!(results.by_ref().filter(Result::is_ok).count(), 3);
        free.join().unwrap();
        assert_whole(&pool);
        assert_eq!(meet.load(SeqCst), 3);
    });
}

/// Without another place a member runs the items itself: panics are their results, and a time-out
/// of the member ends the item that it is in.
#[test]
fn items_in_the_callers_place() {
    everywhere("items_in_the_callers_place", || {
        let pool = Arc::new(Pool::new(1));
        let inner = pool.clone();
        let member = pool.spawn(move || {
            let me = current().id();
            let mut items = inner.imap(0..4, move |n| {
                assert_eq!(current().id(), me);
                match n {
                    0 => park(),
                    1 => panic!("one"),
                    _ => {}
                }
            });
            assert!(timeout(SHORT, || items.next()).is_err());
            assert!(items.next().unwrap().unwrap_err().is_killed());
            let panicked = items.next().unwrap().unwrap_err();
            assert_eq!(panicked.panic_message(), Some("one"));
            assert_eq!(items.filter(Result::is_ok).count(), 2);
        });
        member.join().unwrap();
        assert_whole(&pool);
    });
}

#[test]
fn a_member_takes_the_iterator_elsewhere() {
    within("a_member_takes_the_iterator_elsewhere", || {
        run(2, || {
            let pool = Pool::new(2);
            let results = pool.imap(0..100, |n| n);
            // Asked by another task than the one that made it.
            let sum = scope(|s| {
                s.spawn(move || results.map(Result::unwrap).sum::<i32>())
                    .join()
            });
            assert_eq!(sum.unwrap(), 4950);
            assert_whole(&pool);
        });
    });
}

/// Everything at once; in the end every place is there.
#[test]
fn storm() {
    within("storm", || {
        for seed in 0..4 {
            for workers in [1, 2] {
                let runtime = Runtime::builder().workers(workers).build().unwrap();
                let pool = Arc::new(Pool::new(3));
                let gauge = Arc::new(Gauge::default());
                let stop = Arc::new(AtomicBool::new(false));
                let drivers: Vec<_> = (0..6)
                    .map(|n| {
                        let (pool, gauge, stop) = (pool.clone(), gauge.clone(), stop.clone());
                        let drive = move || {
                            let mut random = Random::new(seed * 100 + n);
                            let mut round = 0;
                            while round < 60 && !stop.load(SeqCst) {
                                round += 1;
                                let how = random.below(8);
                                let inside = gauge.clone();
                                let work = move |k: u64| {
                                    let _inside = inside.enter();
                                    match k % 7 {
                                        0 => yield_now(),
                                        1 => sleep(Duration::from_micros(50)),
                                        2 => resume_unwind(Box::new("quiet")),
                                        3 => current().kill(),
                                        _ => {}
                                    }
                                };
                                let limit = Duration::from_micros(20 + random.below(500));
                                drop(timeout(limit, || match how {
                                    0 => drop(pool.spawn(move || work(round))),
                                    1 => drop(pool.try_spawn(move || work(round))),
                                    2 => drop(pool.spawn_timeout(limit, move || work(round))),
                                    3 => pool.wait_available(),
                                    4 => drop(catch_unwind(AssertUnwindSafe(|| {
                                        pool.map(0..5, work)
                                    }))),
                                    5 => drop(pool.imap(0.., work).take(7).count()),
                                    6 => drop(pool.imap_unordered(0..9, work).count()),
                                    _ => pool.spawn(move || work(round)).kill(),
                                }));
                            }
                        };
                        if n < 5 {
                            let task = runtime.spawn(drive);
                            let kill = n == 4;
                            Box::new(move || {
                                if kill {
                                    task.kill();
                                }
                                drop(task.join());
                            }) as Box<dyn FnOnce()>
                        } else {
                            let thread = std::thread::spawn(drive);
                            Box::new(move || thread.join().unwrap())
                        }
                    })
                    .collect();
                // The one that is to be killed first.
                drivers.into_iter().rev().for_each(|join| join());
                assert_whole(&pool);
                assert_eq!(gauge.now.load(SeqCst), 0);
                // Timed out, the thread's own frames may have run items, but never more at once.
                assert!(gauge.most.load(SeqCst) <= 3, "{}", gauge.most.load(SeqCst));
                shield(|| drop(pool.kill_timeout(FOR_EVER)));
            }
        }
    });
}
