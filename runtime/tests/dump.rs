//! What a person sees: the dump, the counters, the deadlock report, and `SIGQUIT`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{assert_passed, finish, is_child, rerun, start, stderr, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, rendezvous};
use sward_runtime::{
    Builder, DumpOptions, DumpedTask, JoinHandle, Runtime, TaskState, WaitKind, WaitReason,
    current, dump, join_all, park, run, sleep, spawn, stats, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

const LONG: Duration = Duration::from_secs(3600);
/// A wait begins when the worker last looked at the clock.
const SLACK: Duration = Duration::from_millis(5);

/// Waits until the task is in the dump as parked for that reason, and returns it.
fn parked<T>(runtime: &Runtime, task: &JoinHandle<T>, kind: WaitKind) -> DumpedTask {
    loop {
        let tasks = runtime.dump().tasks();
        let found = tasks
            .into_iter()
            .find(|t| t.id == task.id() && t.state == TaskState::Parked && t.reason.kind() == kind);
        if let Some(found) = found {
            return found;
        }
    }
}

#[test]
fn every_wait_has_its_reason() {
    within("every_wait_has_its_reason", || {
        let runtime = runtime(2);
        let event = Arc::new(Event::new());
        let lock = Arc::new(Mutex::new(()));
        let (sender, receiver) = bounded::<u8>(1);
        sender.send(0).unwrap();
        let start = |name: &str, f: Box<dyn FnOnce() + Send>| {
            runtime.spawn_with(Builder::new().name(name), f).unwrap()
        };
        let sleeper = start("sleeper", Box::new(|| sleep(LONG)));
        let parker = start("parker", Box::new(park));
        let (id, handle) = (sleeper.id(), parker.task());
        let line = line!() + 1;
        let joiner = runtime.spawn(move || drop(sleeper.join()));
        let waits = event.clone();
        let waiter = start("waiter", Box::new(move || waits.wait()));
        let holds = lock.clone();
        let holder = start(
            "holder",
            Box::new(move || {
                let _held = holds.lock();
                park();
            }),
        );
        parked(&runtime, &holder, WaitKind::Park);
        let wants = lock.clone();
        let locker = start("locker", Box::new(move || drop(wants.lock())));
        let full = sender.clone();
        let sends = start(
            "sender",
            Box::new(move || {
                let _ = full.send(1);
            }),
        );
        let (_quiet, empty) = rendezvous::<u8>();
        let receives = start(
            "receiver",
            Box::new(move || {
                let _ = empty.recv();
            }),
        );

        let object = |found: DumpedTask| found.reason.object();
        assert_eq!(object(parked(&runtime, &joiner, WaitKind::Join)), id);
        assert_eq!(
            object(parked(&runtime, &waiter, WaitKind::Event)),
            address(&*event)
        );
        let found = parked(&runtime, &locker, WaitKind::Mutex);
        assert_eq!(found.reason.holder(), Some(holder.id()));
        assert_eq!(object(found), address(&*lock));
        assert_ne!(object(parked(&runtime, &sends, WaitKind::Send)), 0);
        assert_ne!(object(parked(&runtime, &receives, WaitKind::Recv)), 0);
        let found = parked(&runtime, &joiner, WaitKind::Join);
        assert_eq!((found.spawned_at.line(), found.name), (line, None));
        assert!(found.spawned_at.file().ends_with("dump.rs") && !found.killed);

        let text = runtime.dump().to_string();
        for expected in [
            "8 tasks: 0 running, 0 ready, 8 parked, 0 unstarted".to_owned(),
            "sleep, 'sleeper', ".into(),
            "park, 'parker', ".into(),
            format!("join of task {id}, "),
            format!("event {:#x}, 'waiter'", address(&*event)),
            format!(
                "mutex {:#x} held by task {}, 'locker'",
                address(&*lock),
                holder.id()
            ),
            "send to channel 0x".into(),
            "receive from channel 0x".into(),
            format!("dump.rs:{line}:"),
        ] {
            assert!(text.contains(&expected), "{expected:?} is not in\n{text}");
        }
        let tasks = runtime.dump().tasks();
        assert!(tasks.is_sorted_by_key(|t| t.id));
        drop(receiver);
        event.set();
        handle.unpark();
    });
}

fn address<T>(thing: &T) -> u64 {
    std::ptr::from_ref(thing).addr() as u64
}

#[test]
fn states_and_ages() {
    within("states_and_ages", || {
        runtime(1).run(|| {
            let begun = Instant::now();
            let sleeper = spawn(|| sleep(LONG));
            let yields = spawn(|| {
                loop {
                    yield_now()
                }
            });
            yield_now();
            sleep(Duration::from_millis(30));
            let unstarted = spawn(|| ());
            let dump = dump();
            let tasks = dump.tasks();
            let find = |id| tasks.iter().find(|t| t.id == id).unwrap();
            let me = find(current().id());
            assert_eq!(
                (me.state, me.worker, me.name.as_deref()),
                (TaskState::Running, 0, Some("main"))
            );
            assert_eq!(find(yields.id()).state, TaskState::Ready);
            assert_eq!(find(unstarted.id()).state, TaskState::Unstarted);
            assert_eq!(find(unstarted.id()).age, None);
            let asleep = find(sleeper.id());
            assert_eq!(
                (asleep.state, asleep.reason.kind()),
                (TaskState::Parked, WaitKind::Sleep)
            );
            let age = asleep.age.unwrap();
            assert!(
                age >= Duration::from_millis(29) && age <= begun.elapsed() + SLACK,
                "{age:?}"
            );
            let text = dump.to_string();
            let counts = "4 tasks: 1 running, 1 ready, 1 parked, 1 unstarted";
            assert!(text.starts_with(counts), "{text}");
            // Ages are in columns.
            assert!(text.contains(" ms  sleep, "), "{text}");
            sleeper.kill();
            assert!(sward_runtime::dump().tasks().iter().any(|t| t.killed));
            yields.kill();
        });
    });
}

/// An age is that of the wait, also after the worker has slept for long.
#[test]
fn ages_after_idle_time() {
    within("ages_after_idle_time", || {
        let runtime = runtime(1);
        let (first, second) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (a, b) = (first.clone(), second.clone());
        let task = runtime.spawn(move || {
            a.wait();
            b.wait();
        });
        let one = parked(&runtime, &task, WaitKind::Event);
        assert!(one.age.unwrap() < Duration::from_secs(5));
        let begun = Instant::now();
        #[allow(clippy::disallowed_methods)] // time has to pass
        std::thread::sleep(Duration::from_millis(300));
        first.set();
        loop {
            let now = parked(&runtime, &task, WaitKind::Event);
            if now.reason.object() != one.reason.object() {
                let most = begun.elapsed() - Duration::from_millis(250);
                assert!(now.age.unwrap() < most, "{:?} of at most {most:?}", now.age);
                break;
            }
        }
        second.set();
        task.join().unwrap();
    });
}

#[test]
fn from_everywhere() {
    within("from_everywhere", || {
        let runtime = runtime(2);
        let parks: Vec<_> = (0..10)
            .map(|i| {
                runtime
                    .spawn_with(Builder::new().on_worker(i % 2), park)
                    .unwrap()
            })
            .collect();
        parks
            .iter()
            .for_each(|t| drop(parked(&runtime, t, WaitKind::Park)));
        assert_eq!(runtime.dump().tasks().len(), 10);
        runtime.run(|| {
            for worker in [0, 1] {
                let task = Builder::new().on_worker(worker).spawn(|| {
                    let me = current().id();
                    let dump = dump();
                    assert!(dump.stalled_workers().is_empty(), "{dump}");
                    assert!(dump.tasks().iter().any(|t| t.id == me));
                    for w in [0, 1] {
                        let of = dump.tasks().iter().filter(|t| t.worker == w).count();
                        assert!(of >= 5, "{of} of worker {w}\n{dump}");
                    }
                    // Where waiting is forbidden it blocks, but it does not fail.
                    let inside = sward_runtime::without_parking(sward_runtime::dump);
                    assert!(inside.tasks().len() >= 11, "{inside}");
                });
                task.unwrap().join().unwrap();
            }
        });
        // Many at once.
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..50).for_each(|_| assert!(runtime.dump().tasks().len() >= 10)));
            }
        });
        parks.iter().for_each(JoinHandle::kill);
        join_all(parks);
    });
}

/// A worker that is stalled by a computation is named with its task, and the others are listed.
#[test]
fn a_stalled_worker_is_named() {
    within("a_stalled_worker_is_named", || {
        let runtime = runtime(2);
        let (begun, stop) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let parks = runtime
            .spawn_with(Builder::new().on_worker(0), park)
            .unwrap();
        parked(&runtime, &parks, WaitKind::Park);
        let (tell, until_told) = (begun.clone(), stop.clone());
        let line = line!() + 1;
        let stalls = runtime.spawn_with(Builder::new().on_worker(1), move || {
            tell.store(true, SeqCst);
            while !until_told.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        let stalls = stalls.unwrap();
        until(|| begun.load(SeqCst));
        let asked = Instant::now();
        let dump = runtime.dump();
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(dump.stalled_workers().len(), 1, "{dump}");
        let text = dump.to_string();
        let expected = format!("by task {} spawned at", stalls.id());
        assert!(
            text.contains("worker 1 stalled for") && text.contains(&expected),
            "{text}"
        );
        assert!(text.contains(&format!("dump.rs:{line}:")), "{text}");
        assert!(dump.tasks().iter().any(|t| t.id == parks.id()), "{text}");
        // Asked by a task too.
        let seen = runtime.spawn_with(Builder::new().on_worker(0), || {
            sward_runtime::dump().stalled_workers().len()
        });
        assert_eq!(seen.unwrap().join().unwrap(), 1);
        stop.store(true, SeqCst);
        stalls.join().unwrap();
        // Late answers do no harm.
        for _ in 0..10 {
            let dump = runtime.dump();
            assert!(
                dump.stalled_workers().is_empty() && dump.tasks().len() == 1,
                "{dump}"
            );
        }
        parks.kill();
    });
}

#[test]
fn a_crowd_is_counted_not_printed() {
    within("a_crowd_is_counted_not_printed", || {
        let runtime = runtime(2);
        let tasks: Vec<_> = (0..5000).map(|_| runtime.spawn(park)).collect();
        until(|| runtime.stats().live == 5000);
        until(|| {
            runtime
                .dump()
                .tasks()
                .iter()
                .all(|t| t.state == TaskState::Parked)
        });
        let dump = runtime.dump();
        assert_eq!(dump.tasks().len(), 5000);
        let text = dump.to_string();
        assert!(
            text.starts_with("5000 tasks: 0 running, 0 ready, 5000 parked"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("   x5000  *   parked"), "{text}");
        let every = runtime.dump_with(DumpOptions::new().every_task(true));
        assert_eq!(every.to_string().lines().count(), 5002);
        assert_eq!(every.to_json().matches("\"count\":1,").count(), 5000);
        // Names do not keep tasks apart.
        let many: Vec<_> = (0..1100)
            .map(|i| {
                let name = format!("n{i}");
                runtime.spawn_with(Builder::new().name(name), park).unwrap()
            })
            .collect();
        until(|| runtime.stats().live == 6100);
        let text = runtime.dump().to_string();
        assert!(text.contains("x1100") && !text.contains("'n7'"), "{text}");
        many.iter().for_each(JoinHandle::kill);
        join_all(many);
        tasks.iter().for_each(JoinHandle::kill);
        join_all(tasks);
    });
}

/// The holder is the one of now, after the lock has gone through several hands.
#[test]
fn the_holder_of_now() {
    within("the_holder_of_now", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let lock = Arc::new(Mutex::new(()));
            let holds: Vec<JoinHandle<()>> = (0..4)
                .map(|_| {
                    let lock = lock.clone();
                    let task = runtime.spawn(move || {
                        let _held = lock.lock();
                        park();
                    });
                    // One after the other, so that they stand in line in that order.
                    until(|| {
                        let tasks = runtime.dump().tasks();
                        tasks
                            .iter()
                            .any(|t| t.id == task.id() && t.state == TaskState::Parked)
                    });
                    task
                })
                .collect();
            for (i, holder) in holds.iter().enumerate() {
                for waits in &holds[i + 1..] {
                    let found = parked(&runtime, waits, WaitKind::Mutex);
                    assert_eq!(found.reason.holder(), Some(holder.id()));
                    assert_eq!(found.reason.object(), address(&*lock));
                }
                parked(&runtime, holder, WaitKind::Park);
                assert!(runtime.dump().circles().is_empty());
                holder.task().unpark();
                until(|| holder.is_finished());
                if let Some(next) = holds.get(i + 1) {
                    parked(&runtime, next, WaitKind::Park);
                }
            }
            // A thread has no id.
            let held = lock.lock();
            let wants = lock.clone();
            let task = runtime.spawn(move || drop(wants.lock()));
            let found = parked(&runtime, &task, WaitKind::Mutex);
            assert_eq!(found.reason.holder(), None);
            drop(held);
            task.join().unwrap();
        }
    });
}

#[test]
fn circles_are_named() {
    within("circles_are_named", || {
        let runtime = runtime(2);
        let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        let both = Arc::new(Event::new());
        let pair = [(a.clone(), b.clone()), (b, a)].map(|(first, second)| {
            let both = both.clone();
            runtime.spawn(move || {
                let _first = first.lock();
                both.wait();
                drop(second.lock());
            })
        });
        pair.iter()
            .for_each(|t| drop(parked(&runtime, t, WaitKind::Event)));
        assert!(runtime.dump().circles().is_empty());
        both.set();
        pair.iter()
            .for_each(|t| drop(parked(&runtime, t, WaitKind::Mutex)));
        let dump = runtime.dump();
        let mut circle = dump.circles().concat();
        circle.sort_unstable();
        let mut ids = [pair[0].id(), pair[1].id()];
        ids.sort_unstable();
        assert_eq!((circle.as_slice(), dump.circles().len()), (&ids[..], 1));
        let text = dump.to_string();
        assert!(text.contains("these wait for each other"), "{text}");
        assert!(
            dump.to_json().contains("\"circles\":[["),
            "{}",
            dump.to_json()
        );
        pair[0].kill();
        let [first, second] = pair;
        assert!(first.join().is_err() && second.join().is_ok());
        assert!(runtime.dump().circles().is_empty());
    });
}

/// Checks that it is JSON, all of it; returns what is left.
fn json(text: &str) -> &str {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('"') {
        let mut chars = rest.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => return &rest[i + 1..],
                '\\' => drop(chars.next().unwrap()),
                c => assert!(c >= ' ', "a bare control character"),
            }
        }
        panic!("a string without an end");
    }
    for (open, close, keys) in [('{', '}', true), ('[', ']', false)] {
        let Some(mut rest) = text.strip_prefix(open) else {
            continue;
        };
        if let Some(rest) = rest.strip_prefix(close) {
            return rest;
        }
        loop {
            if keys {
                assert!(rest.starts_with('"'), "{rest}");
                rest = json(rest).strip_prefix(':').unwrap();
            }
            rest = json(rest);
            if let Some(rest) = rest.strip_prefix(close) {
                return rest;
            }
            rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("{rest}"));
        }
    }
    for word in ["true", "false", "null"] {
        if let Some(rest) = text.strip_prefix(word) {
            return rest;
        }
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    assert!(rest.len() < text.len(), "no value: {text}");
    rest
}

#[test]
fn json_of_everything() {
    within("json_of_everything", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        assert_eq!(json(&runtime.dump().to_json()), "");
        let lock = Arc::new(Mutex::new(()));
        let held = lock.lock();
        let wants = lock.clone();
        let odd = "quote \" slash \\ line\nend \u{7} é";
        let locker = runtime
            .spawn_with(Builder::new().name(odd), move || drop(wants.lock()))
            .unwrap();
        parked(&runtime, &locker, WaitKind::Mutex);
        let parks: Vec<_> = (0..20).map(|_| runtime.spawn(park)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let until_told = stop.clone();
        let hog = runtime.spawn_with(Builder::new().on_worker(1), move || {
            while !until_told.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        until(|| runtime.stats().live == 22);
        for options in [
            DumpOptions::new(),
            DumpOptions::new().backtraces(true),
            DumpOptions::new().every_task(true),
        ] {
            let text = runtime.dump_with(options).to_json();
            assert_eq!(json(&text), "", "{text}");
            assert!(
                text.contains("\"stalled\":[{\"text\":\"worker 1 stalled"),
                "{text}"
            );
        }
        stop.store(true, SeqCst);
        hog.unwrap().join().unwrap();
        let text = runtime
            .dump_with(DumpOptions::new().backtraces(true))
            .to_json();
        assert_eq!(json(&text), "", "{text}");
        assert!(
            text.contains("\"kind\":\"mutex\",\"object\":\"0x"),
            "{text}"
        );
        assert!(
            text.contains("quote \\\" slash \\\\ line\\nend \\u0007 é"),
            "{text}"
        );
        assert!(text.contains("\"backtrace\":[{\"function\":"), "{text}");
        drop(held);
        locker.join().unwrap();
        parks.iter().for_each(JoinHandle::kill);
        join_all(parks);
    });
}

#[test]
fn histograms() {
    within("histograms", || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            runtime.run(|| {
                let tasks = (0..200).map(|_| spawn(|| (0..100).for_each(|_| yield_now())));
                join_all(tasks);
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(20) {
                    std::hint::spin_loop();
                }
                sleep(Duration::from_millis(1));
            });
            let stats = runtime.stats();
            let slices = stats.slice.count();
            assert!((20_000..=stats.switches).contains(&slices), "{stats}");
            assert_eq!(stats.turn.count(), stats.batch.count());
            assert!(
                stats.queue_delay.count() > 2 && stats.events_per_poll.count() > 0,
                "{stats}"
            );
            assert!(stats.batch.percentile(1.0) >= 100, "{stats}");
            // The slice of 20 ms is there, and it is rare.
            assert!(stats.turn.percentile(1.0) >= 20_000_000, "{stats}");
            assert!(stats.slice.percentile(0.5) < 1_000_000, "{stats}");
            let p = |x| stats.slice.percentile(x);
            assert!(p(0.0) <= p(0.5) && p(0.5) <= p(0.99) && p(0.99) <= p(1.0));
            let text = stats.to_string();
            let table: Vec<_> = text.lines().skip_while(|l| !l.is_empty()).skip(1).collect();
            assert_eq!(table.len(), 6, "{text}");
            assert!(table.iter().all(|l| l.len() == table[0].len()), "{text}");
        }
        assert_eq!(sward_runtime::Histogram::default().percentile(0.99), 0);
    });
}

#[test]
fn nothing_to_see() {
    within("nothing_to_see", || {
        let runtime = runtime(1);
        assert!(runtime.dump().tasks().is_empty());
        assert!(runtime.dump().to_string().starts_with("0 tasks"));
        let reason = WaitReason::new(WaitKind::Other("a lamp"), 16).held_by(3);
        assert_eq!(
            (reason.to_string(), reason.holder()),
            ("a lamp 0x10 held by task 3".into(), Some(3))
        );
    });
}

#[test]
fn counters() {
    within("counters", || {
        runtime(1).run(|| {
            let before = stats();
            assert_eq!((before.live, before.started), (1, 1));
            let tasks: Vec<_> = (0..100).map(|_| spawn(|| sleep(LONG))).collect();
            assert_eq!(stats().unstarted, 100);
            until(|| stats().live == 101);
            sleep(Duration::from_millis(1));
            let now = stats();
            assert_eq!((now.started, now.finished, now.unstarted), (101, 0, 0));
            assert_eq!(now.timers, 100);
            assert!(now.switches >= before.switches + 100 && now.taken_over == 0);
            tasks.iter().for_each(JoinHandle::kill);
            join_all(tasks);
            assert_eq!((stats().live, stats().finished), (1, 100));
            assert!(stats().stacks_left > 0);
            let wakes = stats().wakes;
            let (sender, receiver) = rendezvous();
            let task = spawn(move || receiver.iter().count());
            (0..10).for_each(|i| sender.send(i).unwrap());
            drop(sender);
            task.join().unwrap();
            assert!(stats().wakes >= wakes + 10);
        });
    });
}

// ---- deadlock --------------------------------------------------------------------------------------

/// The child's part of the deadlock tests: two tasks wait for each other's mutex.
fn lock_each_other() {
    within("lock_each_other", || {
        run(|| {
            let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
            println!("mutexes {:#x} {:#x}", address(&*a), address(&*b));
            let both = Arc::new(Event::new());
            let pair =
                [("ada", a.clone(), b.clone()), ("bob", b, a)].map(|(name, first, second)| {
                    let both = both.clone();
                    let task = Builder::new().name(name).spawn(move || {
                        let _first = first.lock();
                        both.wait();
                        drop(second.lock());
                    });
                    task.unwrap()
                });
            sleep(Duration::from_millis(1));
            both.set();
            // After the report, when a test wants the program to go on.
            if std::env::var_os("GO_ON").is_some() {
                let rescue = pair[0].task();
                std::thread::spawn(move || {
                    #[allow(clippy::disallowed_methods)] // long enough for two reports
                    std::thread::sleep(Duration::from_millis(4500));
                    rescue.kill();
                });
            }
            join_all(pair);
        });
    });
}

#[test]
fn a_deadlock_is_reported_once() {
    if is_child() {
        return lock_each_other();
    }
    let output = rerun(
        "a_deadlock_is_reported_once",
        &[("GO_ON", "1"), ("SWARD_WORKERS", "2")],
    );
    assert_passed(&output);
    let (out, text) = (
        String::from_utf8(output.stdout.clone()).unwrap(),
        stderr(&output),
    );
    assert_eq!(text.matches("deadlock?").count(), 1, "{text}");
    let mutexes = out
        .split("mutexes ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let (a, b) = mutexes.split_once(' ').unwrap();
    let line = |name| {
        text.lines()
            .find(|l| l.contains(name))
            .unwrap_or_else(|| panic!("{text}"))
    };
    let id = |name| line(name).split_whitespace().next().unwrap().to_owned();
    let (ada, bob) = (
        format!("mutex {b} held by task {}", id("'bob'")),
        format!("mutex {a} held by task {}", id("'ada'")),
    );
    assert!(line("'ada'").contains(&ada), "{text}");
    assert!(line("'bob'").contains(&bob), "{text}");
    assert!(line("'main'").contains("join of task"), "{text}");
}

#[test]
fn a_deadlock_is_reported_soon() {
    if is_child() {
        return lock_each_other();
    }
    for workers in ["1", "2"] {
        let begun = Instant::now();
        let env = [("SWARD_WORKERS", workers), ("SWARD_DEADLOCK", "report")];
        let mut child = start("a_deadlock_is_reported_soon", &env);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = lines
            .map_while(Result::ok)
            .find(|l| l.contains("deadlock?"));
        let took = begun.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.is_some() && took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn a_deadlock_aborts_when_asked_to() {
    if is_child() {
        return lock_each_other();
    }
    let output = rerun(
        "a_deadlock_aborts_when_asked_to",
        &[("SWARD_DEADLOCK", "abort")],
    );
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.contains("'ada'") && text.contains("aborting"),
        "{text}"
    );
}

#[test]
fn a_deadlock_is_ignored_when_asked_to() {
    if is_child() {
        return lock_each_other();
    }
    let env = [("SWARD_DEADLOCK", "ignore"), ("GO_ON", "1")];
    let output = rerun("a_deadlock_is_ignored_when_asked_to", &env);
    assert_passed(&output);
    assert!(!stderr(&output).contains("deadlock"), "{}", stderr(&output));
}

/// A task that waits for a stack which nobody will ever free.
#[test]
fn a_deadlock_over_stacks_is_reported() {
    if is_child() {
        return within("child", || {
            let runtime = Runtime::builder().workers(2).max_stacks(1).build().unwrap();
            let end = runtime.run(|| spawn(|| 7).join());
            drop(end);
        });
    }
    let output = rerun(
        "a_deadlock_over_stacks_is_reported",
        &[("SWARD_DEADLOCK", "abort")],
    );
    let text = stderr(&output);
    assert!(
        text.contains("deadlock?") && text.contains("1 unstarted"),
        "{text}"
    );
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
}

/// What looks like silence and is none: each would be aborted if it were reported.
#[test]
fn no_deadlock_where_something_is_to_come() {
    let name = "no_deadlock_where_something_is_to_come";
    let quiet = Duration::from_millis(2500);
    #[allow(clippy::disallowed_methods)] // an ordinary thread that does something else
    let busy = || std::thread::sleep(quiet);
    if let Ok(case) = std::env::var("CASE") {
        return within("child", || match case.as_str() {
            "timer" => run(|| {
                let lock = Arc::new(Mutex::new(()));
                let held = lock.lock();
                let waits = lock.clone();
                let task = spawn(move || drop(waits.lock()));
                sleep(quiet);
                drop(held);
                task.join().unwrap();
            }),
            "busy main" => {
                let task = spawn(park);
                busy();
                task.task().unpark();
                task.join().unwrap();
            }
            "sleeping main" => {
                let task = spawn(park);
                sleep(quiet);
                task.task().unpark();
                task.join().unwrap();
            }
            "limited wait" => {
                let task = spawn(park);
                let task = task.join_timeout(quiet).unwrap_err();
                let (_sender, receiver) = bounded::<u8>(1);
                {
                    let _ = receiver.recv_timeout(quiet);
                };
                task.task().unpark();
                task.join().unwrap();
            }
            "another runtime" => {
                // The default runtime has a task that waits for orders; nothing waits for it.
                let service = spawn(park);
                run(|| sleep(quiet));
                service.kill();
            }
            "computation" => run(|| {
                let parks = spawn(park);
                let begun = Instant::now();
                while begun.elapsed() < quiet {
                    std::hint::spin_loop();
                }
                parks.kill();
            }),
            other => panic!("{other}"),
        });
    }
    let cases = [
        "timer",
        "busy main",
        "sleeping main",
        "limited wait",
        "another runtime",
        "computation",
    ];
    let children = cases.map(|case| {
        (
            case,
            start(
                name,
                &[
                    ("CASE", case),
                    ("SWARD_DEADLOCK", "abort"),
                    ("SWARD_WORKERS", "2"),
                ],
            ),
        )
    });
    for (case, child) in children {
        let output = finish(child);
        assert!(output.status.success(), "{case}: {}", stderr(&output));
        assert!(
            !stderr(&output).contains("deadlock"),
            "{case}: {}",
            stderr(&output)
        );
    }
}

// ---- SIGQUIT ------------------------------------------------------------------------------------------

#[test]
fn sigquit_prints_the_dump() {
    let name = "sigquit_prints_the_dump";
    if is_child() {
        // A shell without job control lets its background jobs ignore it.
        // SAFETY: the default action, before anything else in this process handles the signal.
        unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
        return within("child", || {
            run(|| {
                let (tell, told) = bounded(1);
                let task = Builder::new()
                    .name("looked for")
                    .spawn(move || told.recv())
                    .unwrap();
                yield_now();
                sleep(Duration::from_millis(1));
                for _ in 0..2 {
                    // SAFETY: the handler is sward's, which only writes a byte to a pipe.
                    unsafe { libc::raise(libc::SIGQUIT) };
                    sleep(Duration::from_millis(300));
                }
                tell.send(5).unwrap();
                assert_eq!(task.join().unwrap(), Ok(5));
            });
        });
    }
    let output = rerun(name, &[("SWARD_SIGQUIT", "1"), ("SWARD_WORKERS", "2")]);
    assert_passed(&output);
    let text = stderr(&output);
    assert_eq!(
        text.matches("SIGQUIT, runtime 'sward' with 2 workers")
            .count(),
        2,
        "{text}"
    );
    assert_eq!(text.matches("'looked for'").count(), 2, "{text}");
    assert!(text.contains("receive from channel"), "{text}");
    // Without the variable it is what it always was.
    let output = rerun(name, &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGQUIT));
}
