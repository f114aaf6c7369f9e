//! A forked child of a running runtime: what it may still do, and what tells it that it may not.
//!
//! The tests that fork run in a process of their own, so that a child never returns into the test
//! harness: it says what it saw by its exit status.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::{assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::sync::{Event, Mutex, bounded, unbounded};
use sward_runtime::{
    Builder, Describe, Group, JoinHandle, Pool, Runtime, WaitName, as_completed, park,
    park_timeout, sleep, spawn, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Forks; the child runs `f` and exits with its answer, 99 if it panics.
fn fork(f: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child uses what a child of a threaded process may use, and memory; its allocator
    // is glibc's, which works after a fork. That other threads are gone is what is tested.
    match unsafe { libc::fork() } {
        0 => {
            // A child that hangs is ended by the kernel.
            // SAFETY: a number and nothing else.
            unsafe { libc::alarm(20) };
            let status = catch_unwind(AssertUnwindSafe(f)).unwrap_or(99);
            // SAFETY: a number and nothing else.
            unsafe { libc::_exit(status) }
        }
        child => {
            assert!(child > 0);
            child
        }
    }
}

/// How the child ended: its exit status, or 1000 and the number of its signal.
fn wait_for(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: our own child, and a local to be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        1000 + libc::WTERMSIG(status)
    }
}

/// The message of the panic that `f` must end with.
fn panic_text(f: impl FnOnce()) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => "no panic".into(),
        Err(payload) => match payload.downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => (*payload.downcast_ref::<&str>().unwrap_or(&"?")).into(),
        },
    }
}

fn names_fork(f: impl FnOnce()) -> bool {
    panic_text(f).contains("forked child")
}

/// Runs the test in a process of its own.
fn apart(name: &str, f: impl FnOnce()) -> Option<String> {
    if is_child() {
        within(name, f);
        return None;
    }
    within(name, || {
        let out = rerun(name, &[]);
        assert_passed(&out);
        Some(stderr(&out))
    })
}

/// What a child can see of the runtime that it left: each check has a number, which is the exit
/// status if it fails.
fn look_around(task: JoinHandle<u32>) -> i32 {
    let mut n = 0;
    let mut check = |ok: bool| {
        n += 1;
        if !ok {
            // SAFETY: a number and nothing else.
            unsafe { libc::_exit(n) };
        }
    };
    check(names_fork(|| drop(spawn(|| 1))));
    let refused = Builder::new().spawn(|| 1).unwrap_err();
    check(refused.to_string().contains("forked child"));
    check(names_fork(|| sward_runtime::defer(|| ())));
    // Waits that only the parent's tasks could end.
    check(!task.is_finished());
    let who = task.task();
    who.unpark();
    who.kill();
    check(names_fork(|| drop(task.join())));
    // Sight works, from what is known.
    let dump = sward_runtime::dump().to_string();
    check(dump.contains("tasks"));
    check(sward_runtime::stats().started > 0);
    // Operations that do not wait work.
    let (sender, receiver) = bounded(1);
    check(sender.try_send(1).is_ok());
    check(receiver.try_recv() == Ok(1));
    let mutex = Mutex::new(1);
    check(mutex.try_lock().is_some());
    0
}

#[test]
fn a_child_of_an_ordinary_thread() {
    apart("a_child_of_an_ordinary_thread", || {
        let done = spawn(|| 7);
        until(|| done.is_finished());
        let go = Arc::new(Event::new());
        let gate = go.clone();
        let task = spawn(move || {
            gate.wait();
            8
        });
        let who = task.task();
        let child = fork(move || {
            // Waits of the thread itself are no business of a runtime's.
            sleep(Duration::from_millis(1));
            yield_now();
            if park_timeout(Duration::from_millis(1)) {
                return 50;
            }
            if !matches!(done.join(), Ok(7)) {
                return 51;
            }
            look_around(task)
        });
        assert_eq!(wait_for(child), 0);
        // The parent is as it was.
        let _ = who;
        go.set();
        assert_eq!(spawn(|| 9).join().unwrap(), 9);
    });
}

#[test]
fn a_child_of_a_task() {
    apart("a_child_of_a_task", || {
        let parent = runtime(2);
        parent.run(|| {
            let go = Arc::new(Event::new());
            let gate = go.clone();
            let task = spawn(move || {
                gate.wait();
                8
            });
            yield_now();
            let child = fork(move || {
                let mut n = 60;
                let mut check = |ok: bool| {
                    n += 1;
                    if !ok {
                        // SAFETY: a number and nothing else.
                        unsafe { libc::_exit(n) };
                    }
                };
                check(names_fork(park));
                check(names_fork(yield_now));
                check(names_fork(|| sleep(Duration::from_millis(1))));
                check(names_fork(|| {
                    let _ = park_timeout(Duration::from_millis(1));
                }));
                let (_sender, receiver) = unbounded::<u8>();
                check(names_fork(|| {
                    let _ = receiver.recv();
                }));
                let mutex = Mutex::new(());
                let _guard = mutex.lock();
                check(names_fork(|| drop(mutex.lock())));
                check(names_fork(|| Event::new().wait()));
                // Many operations that do not wait: the budget must not make it yield.
                let (sender, receiver) = unbounded();
                for i in 0..2000 {
                    sender.send(i).unwrap();
                    receiver.recv().unwrap();
                }
                check(names_fork(|| {
                    sward_runtime::spawn_local(|| ()).join().unwrap()
                }));
                look_around(task)
            });
            assert_eq!(wait_for(child), 0);
            go.set();
            assert_eq!(spawn(|| 9).join().unwrap(), 9);
            sleep(Duration::from_millis(1));
        });
    });
}

#[test]
fn a_runtime_of_its_own_in_the_child() {
    apart("a_runtime_of_its_own_in_the_child", || {
        let work = || {
            let own = Runtime::builder().workers(2).name("child").build().unwrap();
            let sum = own.run(|| {
                let (sender, receiver) = bounded(1);
                let task = spawn(move || {
                    for i in 0..100 {
                        sender.send(i).unwrap();
                    }
                });
                sleep(Duration::from_millis(1));
                let sum: i32 = receiver.iter().sum();
                task.join().unwrap();
                sum
            });
            let lost = own.shutdown(Duration::from_secs(5));
            if sum == 4950 && lost == 0 { 0 } else { 1 }
        };
        // From an ordinary thread, with and without the default runtime in use.
        assert_eq!(wait_for(fork(work)), 0);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        assert_eq!(wait_for(fork(work)), 0);
        // From a task: the worker that it ran on is gone, so that it may block the thread.
        runtime(1).run(|| assert_eq!(wait_for(fork(work)), 0));
        // A child of the child.
        let generations = || {
            let status = work();
            if status == 0 {
                wait_for(fork(work))
            } else {
                status
            }
        };
        assert_eq!(wait_for(fork(generations)), 0);
        // Handles of the child's own tasks work where those of the parent's do not.
        let task = spawn(park);
        let who = task.task();
        let child = fork(move || {
            let own = runtime(1);
            let mine = own.spawn(|| 1);
            let ok = mine.join().is_ok() && names_fork(|| task.join().unwrap());
            drop(own);
            i32::from(!ok)
        });
        assert_eq!(wait_for(child), 0);
        who.unpark();
    });
}

struct Nobody;

impl Describe for Nobody {
    fn describe(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

/// Threads that take the locks of the process all the time, one of them by starting and ending threads
/// of ours: no child finds one of them taken.
#[test]
fn a_fork_while_other_threads_are_busy() {
    apart("a_fork_while_other_threads_are_busy", || {
        // What is made once in the life of a process is there.
        drop(runtime(1));
        let over = Arc::new(AtomicBool::new(false));
        // No fork while threads that are not ours begin: std has a lock of its own for that.
        let begun = Arc::new(std::sync::Barrier::new(4));
        let busy: Vec<_> = (0..3)
            .map(|n| {
                let (over, begun) = (over.clone(), begun.clone());
                std::thread::spawn(move || {
                    begun.wait();
                    while !over.load(Relaxed) {
                        if n == 0 {
                            drop(runtime(1));
                            continue;
                        }
                        drop(sward_runtime::dump());
                        for _ in 0..1000 {
                            drop(WaitName::new(Weak::<Nobody>::new()));
                        }
                    }
                })
            })
            .collect();
        begun.wait();
        for _ in 0..100 {
            let child = fork(|| {
                drop(WaitName::new(Weak::<Nobody>::new()));
                i32::from(runtime(1).run(|| spawn(|| 7).join().unwrap()) != 7)
            });
            assert_eq!(wait_for(child), 0);
        }
        over.store(true, Relaxed);
        for thread in busy {
            thread.join().unwrap();
        }
    });
}

/// Groups, pools and completion: the parent's are lost in the child, its own are not.
#[test]
fn groups_in_the_child() {
    apart("groups_in_the_child", || {
        let (group, pool) = (Arc::new(Group::new()), Arc::new(Pool::new(1)));
        let task = group.spawn(park);
        let who = task.task();
        let watched = spawn(park);
        let other = watched.task();
        pool.spawn(park);
        let (lost_group, lost_pool) = (group.clone(), pool.clone());
        let child = fork(move || {
            // Made before anything else looks.
            let own = Group::new();
            let mut ok = own.join_timeout(Duration::from_secs(3));
            ok &= names_fork(|| lost_group.join()) && names_fork(|| drop(lost_pool.try_join()));
            ok &= names_fork(|| drop(as_completed([task]).next()));
            ok &= names_fork(|| drop(as_completed([watched])));
            let runtime = runtime(1);
            let sum = runtime.run(move || {
                own.spawn(yield_now);
                own.join();
                let ends = as_completed((0..10).map(|i| spawn(move || i)));
                let sum: i32 = ends.map(|(_, n)| n.unwrap()).sum();
                sum + Pool::new(2).map(0..10, |i| i).iter().sum::<i32>()
            });
            drop(lost_group);
            i32::from(!(ok && sum == 90))
        });
        assert_eq!(wait_for(child), 0);
        // The parent's are as they were.
        assert_eq!((group.len(), pool.len()), (1, 1));
        other.unpark();
        who.unpark();
        group.join();
        assert!(pool.kill_timeout(Duration::from_secs(20)));
    });
}

/// Threads that use the library for the first time at the same moment are no children of each
/// other.
#[test]
fn many_threads_look_first() {
    if is_child() {
        within("many_threads_look_first", || {
            let ready = AtomicUsize::new(0);
            std::thread::scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        let group = Group::new();
                        // At the same moment, so no wait that has to be woken from.
                        ready.fetch_add(1, SeqCst);
                        while ready.load(SeqCst) < 2 {
                            std::hint::spin_loop();
                        }
                        group.join();
                        let task = group.spawn(park);
                        assert!(!group.join_timeout(Duration::ZERO));
                        task.kill();
                        group.join();
                    });
                }
            });
        });
        return;
    }
    within("many_threads_look_first", || {
        (0..40).for_each(|_| assert_passed(&rerun("many_threads_look_first", &[])));
    });
}

#[test]
fn dropping_the_parents_runtime_in_the_child() {
    apart("dropping_the_parents_runtime_in_the_child", || {
        let parent = runtime(2);
        let task = parent.spawn(park);
        until(|| parent.stats().live == 1);
        let slot = AssertUnwindSafe(std::cell::Cell::new(Some(parent)));
        let child = fork(|| {
            let parent = slot.take().unwrap();
            if !names_fork(|| drop(parent.spawn(|| 1))) || !names_fork(|| parent.run(|| ())) {
                return 1;
            }
            drop(parent);
            0
        });
        assert_eq!(wait_for(child), 0);
        // The parent's own copy goes on.
        let parent = slot.take().unwrap();
        assert_eq!(parent.run(|| 5), 5);
        task.task().unpark();
        task.join().unwrap();
        assert_eq!(parent.shutdown(Duration::from_secs(5)), 0);
    });
}

/// Where a child has nothing below it to return to.
#[test]
fn the_bottom_of_the_forking_task() {
    let text = apart("the_bottom_of_the_forking_task", || {
        for how in ["returns", "panics", "is killed"] {
            let parent = runtime(1);
            let task = move || {
                // SAFETY: as in `fork`.
                match unsafe { libc::fork() } {
                    0 => {
                        // SAFETY: a number and nothing else.
                        unsafe { libc::alarm(20) };
                        match how {
                            "returns" => {}
                            "panics" => panic!("in the child"),
                            _ => sward_runtime::current().kill(),
                        }
                        0
                    }
                    child => child,
                }
            };
            let task = parent
                .spawn_with(Builder::new().name("forker"), task)
                .unwrap();
            let child = task.join().unwrap();
            assert_eq!(wait_for(child), 1, "{how}");
            assert_eq!(parent.run(|| 3), 3);
        }
    });
    if let Some(text) = text {
        assert_eq!(text.matches("'forker'").count(), 3, "{text}");
        assert_eq!(
            text.matches("has come to the end of the task").count(),
            3,
            "{text}"
        );
    }
}

/// The caller of `run` is an ordinary thread; a child of it goes its own way.
#[test]
fn a_child_of_the_thread_that_calls_run() {
    apart("a_child_of_the_thread_that_calls_run", || {
        let parent = runtime(1);
        let (tell, told) = unbounded();
        let sum = parent.run(|| {
            // A thread that forks while the runtime is busy.
            let forker = std::thread::spawn(move || {
                for _ in 0..20 {
                    tell.send(wait_for(fork(|| 0))).unwrap();
                }
            });
            let sum = told.iter().map(|status| status + 1).sum::<i32>();
            forker.join().unwrap();
            sum
        });
        assert_eq!(sum, 20);
    });
}
