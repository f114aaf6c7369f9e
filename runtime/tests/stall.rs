//! The stall monitor: who is told of what, and who is not.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

mod common;

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{assert_passed, is_child, rerun, start, stderr, within};
use sward_runtime::{
    Builder, DumpOptions, Runtime, RuntimeBuilder, Stall, park, run, sleep, spawn,
};

const THRESHOLD: Duration = Duration::from_millis(50);

/// Computes until `done`, with a limit.
#[inline(never)]
fn hogs(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() && begun.elapsed() < Duration::from_secs(20) {
        std::hint::spin_loop();
    }
}

/// A builder whose stalls go into a channel.
fn watched(workers: usize) -> (RuntimeBuilder, Receiver<Stall>) {
    let (tell, told) = channel();
    let builder = Runtime::builder()
        .workers(workers)
        .stall_threshold(THRESHOLD)
        .on_stall(move |stall| {
            let _ = tell.send(stall.clone());
        });
    (builder, told)
}

#[test]
fn a_stall_is_told_once_and_when_it_ends() {
    within("a_stall_is_told_once_and_when_it_ends", || {
        for workers in [1, 2] {
            let (builder, told) = watched(workers);
            let runtime = builder.sampling(true).name("watched").build().unwrap();
            let kept = runtime
                .spawn_with(Builder::new().on_worker(0), park)
                .unwrap();
            for round in 0..3 {
                let (stop, stopped) = channel();
                let line = line!() + 1;
                let hog = runtime.spawn_with(Builder::new().on_worker(0).name("hog"), move || {
                    hogs(|| stopped.try_recv().is_ok());
                });
                let hog = hog.unwrap();
                let stall = told.recv().unwrap();
                assert_eq!((stall.worker, stall.task, stall.over), (0, hog.id(), false));
                assert_eq!(stall.name.as_deref(), Some("hog"));
                assert_eq!(stall.runtime, "watched");
                assert_eq!(stall.spawned_at.line(), line);
                assert!(stall.lasted >= THRESHOLD && stall.live == 2, "{stall:?}");
                let text = stall.to_string();
                assert!(
                    text.contains("worker 0 of runtime 'watched' stalled"),
                    "{text}"
                );
                assert!(text.contains("hogs"), "no backtrace: {text}");
                // It goes on for several thresholds, and nothing more is said.
                #[allow(clippy::disallowed_methods)] // an ordinary thread
                std::thread::sleep(THRESHOLD * 4);
                stop.send(()).unwrap();
                hog.join().unwrap();
                let end = told.recv().unwrap();
                assert_eq!((end.task, end.over), (stall.task, true), "round {round}");
                assert!(end.lasted >= THRESHOLD * 4, "{end:?}");
                assert!(end.to_string().contains("worker 0 goes on"), "{end}");
            }
            kept.kill();
            assert!(kept.join().is_err());
            drop(runtime);
            assert!(told.try_recv().is_err());
        }
    });
}

/// Many short slices, sleeps, parks, and a long slice that keeps nobody from anything.
#[test]
fn what_is_no_stall() {
    within("what_is_no_stall", || {
        let (builder, told) = watched(1);
        let runtime = builder.build().unwrap();
        runtime
            .spawn(|| {
                let begun = Instant::now();
                hogs(|| begun.elapsed() > THRESHOLD * 4);
            })
            .join()
            .unwrap();
        runtime.run(|| {
            let idle = spawn(park);
            let begun = Instant::now();
            while begun.elapsed() < THRESHOLD * 6 {
                sward_runtime::yield_now();
            }
            sleep(THRESHOLD * 3);
            idle.kill();
        });
        assert!(told.try_recv().is_err());
    });
}

/// A closure that panics costs itself, not the monitor.
#[test]
fn a_hook_that_panics() {
    if !is_child() {
        let output = rerun("a_hook_that_panics", &[]);
        assert_passed(&output);
        assert!(stderr(&output).contains("on_stall has panicked"));
        return;
    }
    within("a_hook_that_panics", || {
        let (tell, told) = channel();
        let runtime = Runtime::builder()
            .workers(1)
            .stall_threshold(THRESHOLD)
            .on_stall(move |stall| {
                tell.send(stall.over).unwrap();
                panic!("of the hook");
            })
            .build()
            .unwrap();
        runtime.run(move || {
            let idle = spawn(park);
            hogs(|| told.try_recv().is_ok());
            // The first call has been reported when the second one comes.
            common::until(|| told.try_recv() == Ok(true));
            idle.kill();
        });
    });
}

/// What the program prints when nothing was set but the variables.
#[test]
fn stderr_and_the_variables() {
    let name = "stderr_and_the_variables";
    if is_child() {
        return within("child", || {
            let sampled = std::env::var_os("SWARD_SAMPLING").is_some();
            if sampled {
                // So that the debug information has been read: slow in code not optimised.
                let runtime = Runtime::builder().workers(1).build().unwrap();
                let parked = runtime.spawn(park);
                common::until(|| runtime.stats().live == 1);
                let options = DumpOptions::new().backtraces(true);
                println!("{}", runtime.dump_with(options));
                parked.kill();
            }
            run(move || {
                let idle = spawn(park);
                let begun = Instant::now();
                hogs(|| begun.elapsed() > Duration::from_millis(600));
                // Others had their turn: it has ended, and the monitor sees that.
                // With names to find that may take seconds: the parent ends it.
                sleep(Duration::from_millis(if sampled { 50_000 } else { 200 }));
                idle.kill();
            });
        });
    }
    let said = |env: &[(&str, &str)]| {
        let output = rerun(name, &[&[("SWARD_WORKERS", "1")], env].concat());
        assert_passed(&output);
        stderr(&output)
    };
    let env = [
        ("SWARD_WORKERS", "1"),
        ("SWARD_STALL", "100ms"),
        ("SWARD_SAMPLING", "1"),
    ];
    let mut child = start(name, &env);
    let mut text = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        text.push_str(&line.unwrap());
        text.push('\n');
        if text.contains("goes on") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (begun, ended) = (
        text.find("worker 0 of runtime 'sward' stalled for 1"),
        text.find("worker 0 goes on: task "),
    );
    assert!(begun.is_some() && begun < ended, "{text}");
    assert!(
        text.contains("'main' spawned at runtime/tests/stall.rs"),
        "{text}"
    );
    assert_eq!(text.matches("stalled for").count(), 1, "{text}");
    assert!(text.contains("    at ") && text.contains("hogs"), "{text}");
    let text = said(&[("SWARD_STALL", "100ms")]);
    assert!(
        text.contains("stalled for") && !text.contains("    at "),
        "{text}"
    );
    for quiet in [&[("SWARD_STALL", "off")][..], &[]] {
        let text = said(quiet);
        assert!(!text.contains("stalled"), "{text}");
    }
    let output = rerun(name, &[("SWARD_STALL", "soon")]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("SWARD_STALL=\"soon\""));
}

/// Sampling does not take a signal away from the program.
#[test]
fn a_handler_of_the_programs_own() {
    if !is_child() {
        return assert_passed(&rerun("a_handler_of_the_programs_own", &[]));
    }
    extern "C" fn mine(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = mine;
    // SAFETY: all zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: a valid sigaction whose handler does nothing.
    unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) };
    let error = Runtime::builder().sampling(true).build().unwrap_err();
    assert!(error.to_string().contains("SIGURG"), "{error}");
    // A stray signal harms nobody, with or without a runtime.
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        // SAFETY: a number.
        unsafe { libc::raise(libc::SIGURG) };
    });
}
