//! Tasks taken as they end, and killed together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::{Event, bounded};
use sward_runtime::{
    JoinHandle, Runtime, TaskState, WaitKind, as_completed, current, dump, join_all, kill_all,
    kill_all_timeout, park, select, shield, sleep, spawn, timeout, wait_any, wait_n, yield_now,
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

/// A task that ends with `n` when it is unparked.
fn waits(n: usize) -> JoinHandle<usize> {
    spawn(move || {
        park();
        n
    })
}

#[test]
fn in_order_of_completion() {
    everywhere("in_order_of_completion", || {
        let handles: Vec<_> = (0..5).map(waits).collect();
        let tasks: Vec<_> = handles.iter().map(JoinHandle::task).collect();
        let mut completed = as_completed(handles);
        for (left, i) in [3, 0, 4, 1, 2].into_iter().enumerate() {
            assert_eq!(completed.len(), 5 - left);
            tasks[i].unpark();
            let (index, result) = completed.next().unwrap();
            assert_eq!((index, result.unwrap()), (i, i));
        }
        assert!(completed.next().is_none());
        assert!(completed.next_timeout(Duration::ZERO).unwrap().is_none());
        // What had ended before, and what fails.
        let done = spawn(|| 1);
        until(|| done.is_finished());
        let bad = spawn(|| panic!("bad"));
        let killed = waits(0);
        killed.kill();
        let mut seen = [false; 3];
        for (index, result) in as_completed([done, bad, killed]) {
            assert!(!std::mem::replace(&mut seen[index], true));
            match index {
                0 => assert_eq!(result.unwrap(), 1),
                1 => assert_eq!(result.unwrap_err().panic_message(), Some("bad")),
                _ => assert!(result.unwrap_err().is_killed()),
            }
        }
        assert_eq!(seen, [true; 3]);
        assert!(as_completed(Vec::<JoinHandle<()>>::new()).next().is_none());
    });
}

#[test]
fn limits_and_the_rest() {
    everywhere("limits_and_the_rest", || {
        let mut completed = as_completed((0..4).map(waits));
        let begun = Instant::now();
        assert!(completed.next_timeout(SHORT).is_err());
        assert!(begun.elapsed() >= SHORT);
        assert!(completed.next_deadline(Instant::now()).is_err());
        assert!(timeout(SHORT, || completed.next().map(drop)).is_err());
        assert!(format!("{completed:?}").contains("left: 4"));
        let rest = completed.into_rest();
        assert!(rest.iter().map(|(index, _)| *index).eq(0..4));
        rest[2].1.task().unpark();
        let mut completed = as_completed(rest.into_iter().map(|(_, handle)| handle));
        assert_eq!(completed.next().unwrap().0, 2);
        // Ended, but not taken: it is given back all the same.
        let rest = completed.into_rest();
        assert!(rest.iter().map(|(index, _)| *index).eq([0, 1, 3]));
        for (index, mut handle) in rest {
            handle.task().unpark();
            if index == 0 {
                select! { () = handle.ending() => {} }
            }
            assert_eq!(handle.join().unwrap(), index);
        }
    });
}

/// Dropped half-way: the others go on, and can be watched by somebody else meanwhile.
#[test]
fn dropped_half_way() {
    everywhere("dropped_half_way", || {
        let ended = Arc::new(AtomicUsize::new(0));
        let go = Arc::new(Event::new());
        let handles = (0..100).map(|i| {
            let (ended, go) = (ended.clone(), go.clone());
            spawn(move || {
                if i % 2 == 0 {
                    go.wait();
                }
                ended.fetch_add(1, SeqCst);
            })
        });
        let mut completed = as_completed(handles);
        (0..10).for_each(|_| drop(completed.next()));
        drop(completed);
        go.set();
        until(|| ended.load(SeqCst) == 100);
    });
}

#[test]
fn wait_any_and_n() {
    everywhere("wait_any_and_n", || {
        let handles: Vec<_> = (0..6).map(waits).collect();
        let tasks: Vec<_> = handles.iter().map(JoinHandle::task).collect();
        tasks[4].unpark();
        let (index, result, rest) = wait_any(handles);
        assert_eq!((index, result.unwrap(), rest.len()), (4, 4, 5));
        let ids: Vec<_> = rest.iter().map(JoinHandle::id).collect();
        let wanted: Vec<_> = [0, 1, 2, 3, 5].map(|i| tasks[i].id()).into();
        assert_eq!(ids, wanted);
        tasks[0].unpark();
        tasks[3].unpark();
        let (mut ended, rest) = wait_n(rest, 2);
        ended.sort_by_key(|(index, _)| *index);
        let ended: Vec<_> = ended.into_iter().map(|(i, r)| (i, r.unwrap())).collect();
        assert_eq!(ended, [(0, 0), (3, 3)]);
        let (none, rest) = wait_n(rest, 0);
        assert!(none.is_empty() && rest.len() == 3);
        rest.iter().for_each(|handle| handle.task().unpark());
        let (all, rest) = wait_n(rest, 100);
        assert!(all.len() == 3 && rest.is_empty());
        let text = panic_text(|| drop(wait_any(Vec::<JoinHandle<()>>::new())));
        assert!(text.contains("without any task"), "{text}");
    });
}

/// Not started: never run. Held back: waited for, or given back.
#[test]
fn killing_all() {
    everywhere("killing_all", || {
        let ran = Arc::new(AtomicUsize::new(0));
        let count = |n: usize| {
            let ran = ran.clone();
            (0..n).map(move |_| {
                let ran = ran.clone();
                spawn(move || {
                    ran.fetch_add(1, SeqCst);
                    park();
                })
            })
        };
        let results = kill_all(count(100));
        assert!(results.into_iter().all(|r| r.unwrap_err().is_killed()));
        if current().id() != 0 && sward_runtime::workers() == 1 {
            assert_eq!(ran.load(SeqCst), 0);
        }
        let go = Arc::new(Event::new());
        let ready = Arc::new(Event::new());
        let (waits, tells) = (go.clone(), ready.clone());
        let stubborn = spawn(move || {
            shield(|| {
                tells.set();
                waits.wait();
            });
        });
        ready.wait();
        let handles = [spawn(park), stubborn, spawn(|| sleep(FOR_EVER))];
        let results = kill_all_timeout(handles, SHORT);
        let mut left = Vec::new();
        for (i, result) in results.into_iter().enumerate() {
            match result {
                Ok(result) => assert!(result.unwrap_err().is_killed()),
                Err(handle) => left.push((i, handle)),
            }
        }
        assert_eq!(left.len(), 1);
        let (i, stubborn) = left.pop().unwrap();
        assert_eq!(i, 1);
        go.set();
        assert!(kill_all([stubborn]).pop().unwrap().is_ok());
        assert!(kill_all(Vec::<JoinHandle<()>>::new()).is_empty());
    });
}

/// The caller is among those that are killed: it is the last.
#[test]
fn killing_oneself_too() {
    everywhere("killing_oneself_too", || {
        let (give, take) = bounded::<JoinHandle<()>>(1);
        let others: Vec<_> = (0..10).map(|_| spawn(park)).collect();
        let watch: Vec<_> = others.iter().map(JoinHandle::task).collect();
        let task = spawn(move || {
            let own = take.recv().unwrap();
            let mut all = others;
            all.insert(3, own);
            kill_all(all);
            unreachable!();
        });
        let me = task.task();
        give.send(task).unwrap();
        let gone = |t: &sward_runtime::Task| dump().tasks().iter().all(|d| d.id != t.id());
        until(|| gone(&me) && watch.iter().all(gone));
    });
}

#[test]
fn waiting_for_oneself_is_refused() {
    everywhere("waiting_for_oneself_is_refused", || {
        let (give, take) = bounded::<JoinHandle<()>>(1);
        let (tell, told) = bounded(1);
        let task = spawn(move || {
            let own = take.recv().unwrap();
            tell.send(panic_text(|| drop(as_completed([own])))).unwrap();
        });
        give.send(task).unwrap();
        let text = told.recv().unwrap();
        assert!(text.contains("waits for its own end"), "{text}");
    });
}

#[test]
fn killed_while_it_waits() {
    everywhere("killed_while_it_waits", || {
        let ended = Arc::new(AtomicUsize::new(0));
        let counts = ended.clone();
        let (give, take) = bounded(1);
        let consumer = spawn(move || {
            let handles: Vec<_> = (0..3)
                .map(|_| {
                    let ended = counts.clone();
                    spawn(move || {
                        park();
                        ended.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            let tasks: Vec<_> = handles.iter().map(JoinHandle::task).collect();
            give.send(tasks).unwrap();
            drop(wait_n(handles, 2));
        });
        let tasks = take.recv().unwrap();
        until(|| {
            dump().tasks().iter().any(|t| {
                let kind = t.reason.kind();
                t.id == consumer.id()
                    && t.state == TaskState::Parked
                    && kind == WaitKind::Completion
            })
        });
        consumer.kill();
        assert!(consumer.join().unwrap_err().is_killed());
        tasks.iter().for_each(|t| t.unpark());
        until(|| ended.load(SeqCst) == 3);
    });
}

#[test]
fn a_hundred_thousand() {
    within("a_hundred_thousand", || {
        run(2, || {
            let n = 100_000;
            let mut seen = vec![false; n];
            for (index, result) in as_completed((0..n).map(|i| spawn(move || i))) {
                assert_eq!(result.unwrap(), index);
                assert!(!std::mem::replace(&mut seen[index], true));
            }
            assert!(seen.into_iter().all(|s| s));
            let (first, rest) = wait_n((0..n).map(|i| spawn(move || i)), 10);
            assert_eq!((first.len(), rest.len()), (10, n - 10));
            assert_eq!(kill_all(rest).len(), n - 10);
            // Nothing is quadratic: half-way, with all of the rest parked.
            let mut completed = as_completed((0..20_000).map(|i| {
                spawn(move || {
                    if i % 2 == 0 {
                        park();
                    }
                })
            }));
            (0..10_000).for_each(|_| drop(completed.next()));
            let rest = completed.into_rest().into_iter().map(|(_, handle)| handle);
            assert!(
                kill_all(rest)
                    .into_iter()
                    .all(|r| r.unwrap_err().is_killed())
            );
        });
    });
}

/// Ends, kills, limits and given-back handles, from two workers and a thread: each result once.
#[test]
fn storm() {
    within("storm", || {
        for seed in 0..6 {
            let runtime = Arc::new(Runtime::builder().workers(2).build().unwrap());
            let drivers: Vec<_> = (0..3)
                .map(|k| {
                    let on = runtime.clone();
                    let drive = move || {
                        let mut random = Random::new(seed * 10 + k);
                        for _ in 0..30 {
                            let n = 1 + random.below(40) as usize;
                            let handles: Vec<_> = (0..n)
                                .map(|i| {
                                    let how = random.below(5);
                                    on.spawn(move || {
                                        match how {
                                            0 => yield_now(),
                                            1 => sleep(Duration::from_micros(30)),
                                            2 => current().kill(),
                                            _ => {}
                                        }
                                        i
                                    })
                                })
                                .collect();
                            let victim = handles[random.below(n as u64) as usize].task();
                            let ids: Vec<_> = handles.iter().map(JoinHandle::id).collect();
                            let mut got = vec![false; n];
                            let mut open: Vec<_> = handles.into_iter().enumerate().collect();
                            while !open.is_empty() {
                                let names: Vec<_> = open.iter().map(|(i, _)| *i).collect();
                                let mut completed = as_completed(open.into_iter().map(|o| o.1));
                                let take = 1 + random.below(8);
                                for _ in 0..take {
                                    let limit = Duration::from_micros(random.below(60));
                                    match completed.next_timeout(limit) {
                                        Ok(Some((at, result))) => {
                                            let i = names[at];
                                            assert!(!std::mem::replace(&mut got[i], true));
                                            assert!(result.is_err() || result.unwrap() == i);
                                        }
                                        Ok(None) => break,
                                        Err(_) => victim.kill(),
                                    }
                                }
                                let rest = completed.into_rest();
                                open = rest.into_iter().map(|(at, h)| (names[at], h)).collect();
                                assert!(open.iter().all(|(i, h)| h.id() == ids[*i]));
                            }
                            assert!(got.into_iter().all(|g| g));
                        }
                    };
                    if k < 2 {
                        let task = runtime.spawn(drive);
                        Box::new(move || task.join().unwrap()) as Box<dyn FnOnce()>
                    } else {
                        let thread = std::thread::spawn(drive);
                        Box::new(move || thread.join().unwrap())
                    }
                })
                .collect();
            drivers.into_iter().for_each(|join| join());
        }
        drop(join_all([spawn(|| ())]));
    });
}
