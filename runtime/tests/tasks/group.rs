//! Groups, and the deadlines that a task can inherit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Random, until, within};
use sward_runtime::sync::{Event, bounded};
use sward_runtime::{
    Builder, Exit, Group, Runtime, current, join_all, park, scope, shield, sleep, spawn, timeout,
    yield_now,
};

const FOR_EVER: Duration = Duration::from_secs(3600);

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

/// Counts the ends of what holds it.
struct Tally(Arc<AtomicUsize>);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn tally() -> (Arc<AtomicUsize>, impl Fn() -> Tally) {
    let count = Arc::new(AtomicUsize::new(0));
    (count.clone(), move || Tally(count.clone()))
}

#[test]
fn members_are_counted_and_joined() {
    everywhere("members_are_counted_and_joined", || {
        let group = Group::named("counted");
        group.join();
        assert!(group.is_empty() && group.join_timeout(Duration::ZERO));
        let go = Arc::new(Event::new());
        let handles: Vec<_> = (0..100)
            .map(|i| {
                let go = go.clone();
                group.spawn(move || {
                    go.wait();
                    i
                })
            })
            .collect();
        assert_eq!(group.len(), 100);
        let mut ids: Vec<_> = group.tasks().iter().map(|t| t.id()).collect();
        let mut wanted: Vec<_> = handles.iter().map(|h| h.id()).collect();
        ids.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(ids, wanted);
        assert!(!group.join_timeout(Duration::from_millis(2)));
        assert!(timeout(Duration::from_millis(2), || group.join()).is_err());
        go.set();
        group.join();
        assert!(group.is_empty() && group.tasks().is_empty());
        let sum: i32 = join_all(handles).into_iter().map(Result::unwrap).sum();
        assert_eq!(sum, 4950);
        // Used again, with handles dropped.
        (0..10).for_each(|_| drop(group.spawn(yield_now)));
        group.join();
        assert!(format!("{group:?}").contains("group 'counted'"));
    });
}

/// Who has joined a task finds that it is no member any more.
#[test]
fn joined_is_no_member() {
    everywhere("joined_is_no_member", || {
        let group = Group::new();
        for _ in 0..200 {
            group.spawn(yield_now).join().unwrap();
            assert!(group.is_empty());
        }
    });
}

#[test]
fn try_join_names_the_first_that_failed() {
    everywhere("try_join_names_the_first_that_failed", || {
        let group = Group::named("three");
        assert_eq!(group.try_join(), Ok(()));
        group.spawn(yield_now);
        assert_eq!(group.try_join(), Ok(()));
        let slow = group.spawn(park);
        let bad = group.spawn(|| {
            yield_now();
            panic!("on purpose");
        });
        let failed = group.try_join().unwrap_err();
        assert_eq!((failed.id(), failed.exit()), (bad.id(), Exit::Panicked));
        let text = format!("task {} of group 'three' panicked", bad.id());
        assert_eq!(failed.to_string(), text);
        assert_eq!(group.len(), 1);
        // The first stays the first.
        slow.kill();
        assert!(slow.join().unwrap_err().is_killed());
        assert_eq!(group.try_join().unwrap_err(), failed);
        // A plain join does not mind.
        group.join();
        assert_eq!(bad.join().unwrap_err().panic_message(), Some("on purpose"));
    });
}

#[test]
fn kill_is_for_good() {
    everywhere("kill_is_for_good", || {
        let (ends, tally) = tally();
        let group = Group::new();
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            let (tally, ran) = (tally(), ran.clone());
            group.spawn(move || {
                let _tally = tally;
                ran.fetch_add(1, SeqCst);
                park();
            });
        }
        until(|| ran.load(SeqCst) > 0 || current().id() == 0);
        group.kill();
        let never = Arc::new(AtomicBool::new(false));
        let late = {
            let never = never.clone();
            group.spawn(move || never.store(true, SeqCst))
        };
        assert!(late.join().unwrap_err().is_killed());
        group.join();
        assert_eq!(ends.load(SeqCst), 1000);
        assert!(!never.load(SeqCst) && group.is_empty());
    });
}

#[test]
fn kill_timeout_tells_of_survivors() {
    everywhere("kill_timeout_tells_of_survivors", || {
        let group = Group::new();
        let go = Arc::new(Event::new());
        let ready = Arc::new(Event::new());
        let stubborn = {
            let (go, ready) = (go.clone(), ready.clone());
            group.spawn(move || {
                shield(|| {
                    ready.set();
                    go.wait();
                });
            })
        };
        group.spawn(|| sleep(FOR_EVER));
        ready.wait();
        assert!(!group.kill_timeout(Duration::from_millis(5)));
        until(|| group.len() == 1);
        assert_eq!(group.tasks()[0].id(), stubborn.id());
        go.set();
        assert!(group.kill_timeout(FOR_EVER));
        assert!(stubborn.join().is_ok(), "it ended without another park");
    });
}

/// A member that kills its group goes with it, and nobody is forgotten.
#[test]
fn killed_by_a_member() {
    everywhere("killed_by_a_member", || {
        let (ends, tally) = tally();
        let group = Arc::new(Group::new());
        let ready = Arc::new(AtomicUsize::new(0));
        for i in 0..300 {
            let (members, tally, ready) = (Arc::downgrade(&group), tally(), ready.clone());
            group.spawn(move || {
                let _tally = tally;
                ready.fetch_add(1, SeqCst);
                if i == 150 {
                    until(|| ready.load(SeqCst) == 300);
                    members.upgrade().unwrap().kill();
                    unreachable!("it is unwound from there");
                }
                park();
            });
        }
        group.join();
        assert_eq!(ends.load(SeqCst), 300);
        // And with the wait.
        let group = Arc::new(Group::new());
        let members = Arc::downgrade(&group);
        let task = group.spawn(move || members.upgrade().unwrap().kill_timeout(FOR_EVER));
        group.spawn(park);
        assert!(task.join().unwrap_err().is_killed());
        group.join();
    });
}

#[test]
fn a_scope_killed_by_a_child_ends() {
    everywhere("a_scope_killed_by_a_child_ends", || {
        let ends = AtomicUsize::new(0);
        scope(|s| {
            for i in 0..100 {
                let ends = &ends;
                s.spawn(move || {
                    if i == 50 {
                        s.kill();
                    }
                    let end = catch_unwind(park);
                    ends.fetch_add(1, SeqCst);
                    if let Err(payload) = end {
                        std::panic::resume_unwind(payload);
                    }
                });
            }
        });
        assert!(ends.load(SeqCst) <= 99);
    });
}

#[test]
fn a_member_cannot_join() {
    everywhere("a_member_cannot_join", || {
        let group = Arc::new(Group::named("own"));
        let members = group.clone();
        let task = group.spawn(move || {
            for call in [
                (&|| members.join()) as &dyn Fn(),
                &|| drop(members.join_timeout(FOR_EVER)),
                &|| drop(members.try_join()),
                &|| drop(shield(|| members.kill_timeout(FOR_EVER))),
            ] {
                let text = panic_text(call);
                assert!(text.contains("is a member of group 'own'"), "{text}");
            }
        });
        // The last of them has killed it; there is no park after that.
        assert!(task.join().is_ok());
        group.join();
    });
}

#[test]
fn dropped_it_kills_and_does_not_wait() {
    everywhere("dropped_it_kills_and_does_not_wait", || {
        let (ends, tally) = tally();
        let group = Group::new();
        let go = Arc::new(Event::new());
        let ready = Arc::new(Event::new());
        let slow = {
            let (go, ready, tally) = (go.clone(), ready.clone(), tally());
            group.spawn(move || {
                let _tally = tally;
                shield(|| {
                    ready.set();
                    go.wait();
                });
                yield_now();
            })
        };
        let quick = group.spawn(park);
        ready.wait();
        drop(group);
        assert!(quick.join().unwrap_err().is_killed());
        assert_eq!(ends.load(SeqCst), 0);
        go.set();
        assert!(slow.join().unwrap_err().is_killed());
        assert_eq!(ends.load(SeqCst), 1);
        // Given up.
        let group = Group::new();
        let (sender, receiver) = bounded(1);
        let go = Arc::new(Event::new());
        let waits = go.clone();
        group.spawn(move || {
            waits.wait();
            sender.send(7).unwrap();
        });
        group.detach();
        go.set();
        assert_eq!(receiver.recv(), Ok(7));
    });
}

/// The last reference goes in a member: the others are killed, and it too, at its next park.
#[test]
fn dropped_by_a_member() {
    everywhere("dropped_by_a_member", || {
        for parks in [false, true] {
            let group = Arc::new(Group::new());
            let other = group.spawn(park);
            let (give, take) = bounded::<Arc<Group>>(1);
            let task = group.spawn(move || {
                drop(take.recv().unwrap());
                if parks {
                    yield_now();
                    unreachable!("killed there");
                }
                7
            });
            give.send(group).unwrap();
            assert!(other.join().unwrap_err().is_killed());
            match task.join() {
                Ok(n) => assert!(n == 7 && !parks),
                Err(e) => assert!(e.is_killed() && parks),
            }
        }
    });
}

#[test]
fn with_a_builder() {
    everywhere("with_a_builder", || {
        let group = Group::new();
        let named = Builder::new().name("one").stack_size(64 << 10);
        let task = group.spawn_with(named, || current().name().map(str::to_owned));
        assert_eq!(task.unwrap().join().unwrap().as_deref(), Some("one"));
        let wrong = group.spawn_with(Builder::new().on_worker(9999), || ());
        assert!(wrong.is_err() && group.is_empty());
        group.join();
    });
}

/// Groups outlive the runtime that their members were in.
#[test]
fn the_runtime_ends_first() {
    within("the_runtime_ends_first", || {
        for workers in [1, 2] {
            let group = Arc::new(Group::new());
            let shared = group.clone();
            run(workers, move || {
                (0..500).for_each(|_| drop(shared.spawn(park)));
                yield_now();
            });
            assert!(group.join_timeout(FOR_EVER));
            assert_eq!(group.try_join().unwrap_err().exit(), Exit::Killed);
        }
    });
}

/// Spawns, ends, kills, joins with limits, on two workers and threads: in the end nobody is left.
#[test]
fn storm() {
    within("storm", || {
        for seed in 0..4 {
            let runtime = Runtime::builder().workers(2).build().unwrap();
            let (ends, tally) = tally();
            let group = Arc::new(Group::new());
            let drivers: Vec<_> = (0..4)
                .map(|n| {
                    let (group, tally) = (group.clone(), tally());
                    let count = tally.0.clone();
                    let drive = move || {
                        let mut random = Random::new(seed * 10 + n);
                        let _last = tally;
                        for _ in 0..500 {
                            let tally = Tally(count.clone());
                            let how = random.below(4);
                            let task = group.spawn(move || {
                                let _tally = tally;
                                match how {
                                    0 => yield_now(),
                                    1 => park(),
                                    2 => drop(catch_unwind(|| panic!("quiet"))),
                                    _ => {}
                                }
                            });
                            match random.below(4) {
                                0 => drop(task.join_timeout(Duration::from_micros(50))),
                                1 => task.kill(),
                                2 => drop(group.join_timeout(Duration::from_micros(50))),
                                _ => drop(task),
                            }
                        }
                    };
                    if n < 3 {
                        let task = runtime.spawn(drive);
                        Box::new(move || task.join().unwrap()) as Box<dyn FnOnce()>
                    } else {
                        let thread = std::thread::spawn(drive);
                        Box::new(move || thread.join().unwrap())
                    }
                })
                .collect();
            drivers.into_iter().for_each(|join| join());
            group.kill();
            group.join();
            assert_eq!(ends.load(SeqCst), 4 * 501);
        }
    });
}

#[test]
fn an_inherited_deadline() {
    everywhere("an_inherited_deadline", || {
        let limit = Duration::from_millis(10);
        let builder = || Builder::new().inherit_deadline();
        let begun = Instant::now();
        // The earliest counts; it holds after the time-out's own frame has gone.
        let task = timeout(FOR_EVER, || {
            timeout(limit, || {
                timeout(FOR_EVER, || builder().spawn(park).unwrap()).unwrap()
            })
        });
        let task = task.unwrap().unwrap();
        assert!(task.join().unwrap_err().is_killed());
        assert!(begun.elapsed() >= limit);
        // Handed on; not asked for; not there; done in time.
        let grandchild = timeout(limit, || {
            let child = builder().spawn(move || (builder().spawn(park).unwrap(), spawn(park)));
            child.unwrap().join().unwrap()
        });
        let (heir, free) = grandchild.unwrap();
        assert!(heir.join().unwrap_err().is_killed());
        let free = free.join_timeout(Duration::from_millis(1)).unwrap_err();
        free.kill();
        let task = builder().spawn(|| sleep(Duration::from_millis(1))).unwrap();
        assert!(task.join().is_ok());
        let quick = timeout(FOR_EVER, || builder().spawn(|| 7).unwrap().join());
        assert_eq!(quick.unwrap().unwrap(), 7);
        // Masked.
        let task = timeout(limit, || {
            shield(|| {
                builder()
                    .spawn(|| sleep(Duration::from_millis(20)))
                    .unwrap()
            })
        });
        assert!(task.unwrap().join().is_ok());
        // In groups and scopes.
        let group = Group::new();
        timeout(limit, || group.spawn_with(builder(), park).unwrap()).unwrap();
        group.join();
        let ended = scope(|s| {
            let task = timeout(limit, || s.spawn_with(builder(), park).unwrap());
            task.unwrap().join()
        });
        assert!(ended.unwrap_err().is_killed());
    });
}

#[test]
fn past_its_deadline_a_task_never_runs() {
    within("past_its_deadline_a_task_never_runs", || {
        run(1, || {
            let ran = Arc::new(AtomicBool::new(false));
            let sets = ran.clone();
            let task = timeout(Duration::from_millis(1), || {
                let task = Builder::new()
                    .inherit_deadline()
                    .spawn(move || sets.store(true, SeqCst));
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(2) {}
                task.unwrap()
            });
            assert!(task.unwrap().join().unwrap_err().is_killed());
            assert!(!ran.load(SeqCst));
        });
    });
}
