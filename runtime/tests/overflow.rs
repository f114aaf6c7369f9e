//! Running off a stack: one clear message and an abort, whatever the frame; and what is no overflow.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::hint::black_box;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use common::{is_child, rerun, stderr, within};
use sward_runtime::sync::Event;
use sward_runtime::{
    Builder, Runtime, defer, join_all, on_worker_stack, sleep, spawn, timeout, yield_now,
};

const ROLE: &str = "SWARD_TEST_ROLE";

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    let frame = black_box([n; 16]);
    if n == 0 {
        0
    } else {
        deep(n - 1) + black_box(frame)[7]
    }
}

/// Recursion with frames of `N` bytes.
#[inline(never)]
fn deep_frames<const N: usize>(n: u64) -> u64 {
    let mut frame = [0u8; N];
    frame[n as usize % N] = n as u8;
    black_box(&mut frame);
    if n == 0 {
        0
    } else {
        deep_frames::<N>(n - 1) + u64::from(black_box(frame)[N / 2])
    }
}

/// Writes `below` bytes under the stack pointer, as C code does that does not probe.
#[inline(never)]
fn write_below(below: usize) {
    let here = black_box(0u8);
    let at = (&raw const here).addr() - below;
    // SAFETY: none: it faults if it hits the guard, which is the point; in a child process.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(1) };
}

/// Goes down to the last page or so above the guard, then steps over by `below`.
#[inline(never)]
fn step_over(bottom: usize, below: usize) {
    let here = black_box([0u8; 512]);
    if here.as_ptr().addr() - bottom > 8192 {
        step_over(bottom, below);
    } else {
        write_below(below);
    }
    black_box(here);
}

fn in_a_task(size: usize, f: impl FnOnce() + Send + 'static) {
    let task = Builder::new().name("eater").stack_size(size);
    runtime(1).spawn_with(task, f).unwrap().join().unwrap();
}

fn act(role: &str) {
    const SIZE: usize = 64 << 10;
    match role {
        "recursion" => in_a_task(SIZE, || drop(black_box(deep(1 << 40)))),
        "frames of 8 KiB" => in_a_task(SIZE, || drop(black_box(deep_frames::<8192>(1 << 40)))),
        "one frame of 1 MiB" => in_a_task(SIZE, || drop(black_box(deep_frames::<0x10_0000>(0)))),
        "frames of 48 KiB" => in_a_task(SIZE, || drop(black_box(deep_frames::<0xC000>(1 << 40)))),
        "a C frame" => in_a_task(SIZE, || {
            // The frame's far end lies in the guard, 60 KiB below the last good page.
            let top = black_box(0u8);
            let bottom = (&raw const top).addr().next_multiple_of(4096) - SIZE;
            step_over(bottom, 60 << 10);
        }),
        "a small C frame" => in_a_task(SIZE, || {
            let top = black_box(0u8);
            let bottom = (&raw const top).addr().next_multiple_of(4096) - SIZE;
            step_over(bottom, 24 << 10);
        }),
        "default size" => {
            let task = Builder::new()
                .name("eater")
                .spawn(|| black_box(deep(1 << 40)));
            task.unwrap().join().unwrap();
        }
        "unnamed" => drop(spawn(|| black_box(deep(1 << 40))).join()),
        "under load" => {
            let runtime = runtime(2);
            for i in 0..500u64 {
                drop(runtime.spawn(move || {
                    loop {
                        sleep(Duration::from_micros(i % 50));
                        yield_now();
                    }
                }));
            }
            let eater = Builder::new().name("eater").on_worker(1).stack_size(SIZE);
            let eater = runtime.spawn_with(eater, || {
                for _ in 0..10 {
                    sleep(Duration::from_micros(100));
                }
                black_box(deep(1 << 40))
            });
            eater.unwrap().join().unwrap();
        }
        "in a destructor" => in_a_task(SIZE, || {
            struct Deep;
            impl Drop for Deep {
                fn drop(&mut self) {
                    black_box(deep(1 << 40));
                }
            }
            let _deep = Deep;
            sward_runtime::current().kill();
        }),
        "inside a frame" => in_a_task(SIZE, || {
            drop(timeout(Duration::from_secs(60), || {
                black_box(deep(1 << 40))
            }));
        }),
        "second stack of its worker" => {
            let runtime = runtime(1);
            runtime.run(|| join_all((0..100).map(|_| spawn(yield_now))));
            let eater = Builder::new().name("eater").stack_size(SIZE);
            runtime
                .spawn_with(eater, || black_box(deep(1 << 40)))
                .unwrap()
                .join()
                .unwrap();
        }
        // No overflow: others' faults.
        "null" => in_a_task(SIZE, || {
            // SAFETY: none: it faults, which is the point.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
        }),
        "null on a thread" => {
            runtime(1).run(|| ());
            // SAFETY: none: it faults, which is the point.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
        }
        "a thread's own stack" => {
            runtime(1).run(|| ());
            std::thread::spawn(|| black_box(deep(1 << 40)))
                .join()
                .unwrap();
        }
        "the worker's own stack" => {
            in_a_task(SIZE, || drop(on_worker_stack(|| black_box(deep(1 << 40)))));
        }
        "another task's guard" => in_a_task(SIZE, || {
            let other = Builder::new().stack_size(SIZE).spawn_local(|| {
                let here = black_box(0u8);
                let at = (&raw const here).addr();
                sleep(Duration::from_micros(1));
                at
            });
            let at = other.unwrap().join().unwrap();
            // SAFETY: none: it faults, which is the point.
            unsafe {
                std::ptr::with_exposed_provenance_mut::<u8>((at & !0xFFF) - SIZE - 0x1000)
                    .write_volatile(1);
            };
        }),
        "a handler of the program's" => {
            extern "C" fn handler(_: libc::c_int) {
                // SAFETY: a number and nothing else.
                unsafe { libc::_exit(42) };
            }
            // SAFETY: a C struct of integers, for which zeros mean the defaults.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            // SAFETY: installs a handler of the right type.
            unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
            // Installed before the runtime: ours comes on top and passes on.
            act("null");
        }
        other => unreachable!("{other}"),
    }
    unreachable!("it should have died");
}

#[test]
fn is_named_and_aborts() {
    let name = "is_named_and_aborts";
    if is_child() {
        return act(&std::env::var(ROLE).unwrap());
    }
    within(name, || {
        let small = "64 KiB";
        let cases = [
            ("recursion", "'eater'", small),
            ("frames of 8 KiB", "'eater'", small),
            ("frames of 48 KiB", "'eater'", small),
            ("one frame of 1 MiB", "'eater'", small),
            ("a C frame", "'eater'", small),
            ("a small C frame", "'eater'", small),
            ("default size", "'eater'", "KiB"),
            ("unnamed", "(unnamed)", "KiB"),
            ("under load", "'eater'", small),
            ("in a destructor", "'eater'", small),
            ("inside a frame", "'eater'", small),
            ("second stack of its worker", "'eater'", small),
        ];
        for (role, who, size) in cases {
            let out = rerun(name, &[(ROLE, role)]);
            let text = stderr(&out);
            assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{role}: {text}");
            let line = text
                .lines()
                .find(|line| line.contains("has overflowed its stack of"));
            let line = line.unwrap_or_else(|| panic!("{role}: no message:\n{text}"));
            assert!(line.contains(who) && line.contains(size), "{role}: {line}");
            let id = line.split_whitespace().nth(2).unwrap();
            assert!(id.parse::<u64>().unwrap() > 0, "{role}: {line}");
            assert!(
                text.contains("Builder::stack_size"),
                "{role}: no remedy:\n{text}"
            );
        }
    });
}

/// Faults elsewhere get what they got without us: std's message for a thread's overflow, a
/// handler of the program's, else SIGSEGV.
#[test]
fn other_faults_go_their_way() {
    let name = "other_faults_go_their_way";
    if is_child() {
        return act(&std::env::var(ROLE).unwrap());
    }
    within(name, || {
        for role in ["null", "null on a thread", "another task's guard"] {
            let out = rerun(name, &[(ROLE, role)]);
            let text = stderr(&out);
            assert_eq!(out.status.signal(), Some(libc::SIGSEGV), "{role}: {text}");
            assert!(!text.contains("overflowed its stack of"), "{role}: {text}");
        }
        let out = rerun(name, &[(ROLE, "a handler of the program's")]);
        assert_eq!(out.status.code(), Some(42), "{}", stderr(&out));
        for role in ["a thread's own stack", "the worker's own stack"] {
            let out = rerun(name, &[(ROLE, role)]);
            let text = stderr(&out);
            let signal = out.status.signal();
            assert!(
                signal == Some(libc::SIGABRT) || signal == Some(libc::SIGSEGV),
                "{role}: {text}"
            );
            assert!(!text.contains("'eater'"), "{role}: {text}");
        }
        let out = rerun(name, &[(ROLE, "a thread's own stack")]);
        assert!(
            stderr(&out).contains("has overflowed its stack"),
            "std's own message is gone"
        );
    });
}

#[test]
fn deep_code_on_the_workers_stack() {
    within("deep_code_on_the_workers_stack", || {
        let runtime = runtime(2);
        let runs = (0..20).map(|i| {
            Builder::new().stack_size(16 << 10).spawn(move || {
                yield_now();
                let sum = on_worker_stack(|| {
                    let big = black_box([1u8; 1 << 20]);
                    big.iter().map(|&b| u64::from(b)).sum::<u64>()
                });
                yield_now();
                sum + i
            })
        });
        let sum = runtime.run(|| {
            let runs: Vec<_> = runs.map(Result::unwrap).collect();
            join_all(runs).into_iter().map(Result::unwrap).sum::<u64>()
        });
        assert_eq!(sum, 20 * (1 << 20) + 190);
    });
}

/// The whole of a stack can be used, at any size that is allowed, and again by the next task.
#[test]
fn the_whole_stack_is_usable() {
    #[inline(never)]
    fn use_up(top: usize, size: usize) -> usize {
        let frame = black_box([0xA5u8; 256]);
        let used = top - frame.as_ptr().addr();
        if used > size {
            used
        } else {
            use_up(top, size) + usize::from(black_box(frame)[9] == 1)
        }
    }
    within("the_whole_stack_is_usable", || {
        let runtime = runtime(1);
        for round in 0..3 {
            for size in [16 << 10, 20 << 10, 64 << 10, 256 << 10, 1 << 20] {
                let task = Builder::new().stack_size(size);
                let task = runtime.spawn_with(task, move || {
                    let top = black_box(0u8);
                    // What the control block, the entry and this frame take is not the task's.
                    use_up((&raw const top).addr(), size - 6 * 1024)
                });
                let used = task.unwrap().join().unwrap();
                assert!(used <= size, "round {round}: {used} of {size}");
            }
        }
    });
}

#[test]
fn sizes_out_of_range_are_errors() {
    within("sizes_out_of_range_are_errors", || {
        runtime(1).run(|| {
            for size in [0, 1, 4096, 16 * 1024 - 1, usize::MAX, usize::MAX / 2] {
                let refused = Builder::new().stack_size(size).spawn(|| ()).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                let text = refused.to_string();
                assert!(
                    text.contains("16384") && text.contains(&size.to_string()),
                    "{text}"
                );
                let refused = Builder::new()
                    .stack_size(size)
                    .spawn_local(|| ())
                    .unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            }
            for guard in [0, 4096, usize::MAX] {
                let refused = Builder::new().guard_size(guard).spawn(|| ()).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                assert!(refused.to_string().contains("guard"), "{refused}");
            }
            let odd = Builder::new()
                .stack_size(16 * 1024 + 1)
                .guard_size(16 * 1024);
            odd.spawn(|| ()).unwrap().join().unwrap();
        });
        for refused in [
            Runtime::builder().stack_size(1).build(),
            Runtime::builder().guard_size(1).build(),
            Runtime::builder().workers(0).build(),
            Runtime::builder().workers(10_000).build(),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        // What a refused spawn was given is dropped.
        let kept = Arc::new(Event::new());
        let copy = kept.clone();
        assert!(
            runtime(1)
                .spawn_with(Builder::new().stack_size(1), move || copy.set())
                .is_err()
        );
        assert_eq!(Arc::strong_count(&kept), 1);
        defer(|| ());
    });
}
