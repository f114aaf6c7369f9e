//! Signals as events: each listener gets each kind once until it looks, and a flood costs nothing.
//!
//! Tests that take a default action away, or count what comes, run in a process of their own.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Random, assert_passed, is_child, rerun, start, until, within};
use sward_runtime::io::is_closed;
use sward_runtime::signal::{
    SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, ctrl_c, on, on_any,
};
use sward_runtime::{Runtime, sleep, spawn, timeout};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);

/// Runs the body in a process of its own: on an ordinary thread, and in tasks.
fn apart(name: &str, check: impl Fn() + Send + Sync) {
    if !is_child() {
        return within(name, || assert_passed(&rerun(name, &[])));
    }
    within(name, || {
        check();
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(&check);
        }
    });
}

/// Sends a signal to this process; the kernel delivers it to some thread soon.
fn send(signal: i32) {
    let me = libc::pid_t::try_from(std::process::id()).unwrap();
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::kill(me, signal) }, 0);
}

/// Sends a signal to the calling thread: it is handled when this returns.
fn raise(signal: i32) {
    // SAFETY: a number.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Whether `f` writes to no number that is free now: they lead to a pipe meanwhile.
fn writes_nowhere(f: impl FnOnce()) -> bool {
    let (first, writer) = std::io::pipe().unwrap();
    let reader = first.try_clone().unwrap();
    // The lowest free number was the reader's.
    drop(first);
    let writers: Vec<_> = (0..50).map(|_| writer.try_clone().unwrap()).collect();
    f();
    drop(writers);
    let reader = sward_runtime::io::PipeReader::new(reader).unwrap();
    reader.try_read(&mut [0; 8]).is_err()
}

/// A signal may come between any two instructions of a receiver that is about to wait.
#[test]
fn none_is_overlooked() {
    apart("none_is_overlooked", || {
        const ROUNDS: usize = 10_000;
        let signals = on(SIGUSR1).unwrap();
        let round = Arc::new(AtomicUsize::new(0));
        let sender = {
            let round = round.clone();
            std::thread::spawn(move || {
                let mut random = Random::new(1);
                for i in 1..=ROUNDS {
                    while round.load(SeqCst) < i {
                        std::hint::spin_loop();
                    }
                    for _ in 0..random.below(60) {
                        std::hint::spin_loop();
                    }
                    // On this thread, so that the time is what was rolled.
                    raise(SIGUSR1);
                }
            })
        };
        for i in 1..=ROUNDS {
            round.store(i, SeqCst);
            assert_eq!(signals.recv().unwrap(), SIGUSR1);
        }
        sender.join().unwrap();
    });
}

#[test]
fn one_signal() {
    apart("one_signal", || {
        let signals = on(SIGUSR1).unwrap();
        assert_eq!(signals.try_recv().unwrap(), None);
        raise(SIGUSR1);
        assert_eq!(signals.try_recv().unwrap(), Some(SIGUSR1));
        assert_eq!(signals.try_recv().unwrap(), None);
        let late = signals.recv_timeout(SHORT).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        for _ in 0..200 {
            send(SIGUSR1);
            assert_eq!(signals.recv().unwrap(), SIGUSR1);
        }
        let (signals, beside) = (Arc::new(signals), spawn(|| sleep(SHORT)));
        let waiting = signals.clone();
        let task = spawn(move || waiting.recv_timeout(LONG));
        beside.join().unwrap();
        send(SIGUSR1);
        assert_eq!(task.join().unwrap().unwrap(), SIGUSR1);
    });
}

#[test]
fn every_listener_gets_it() {
    apart("every_listener_gets_it", || {
        let listeners: Vec<_> = (0..20)
            .map(|i| {
                on_any(if i % 2 == 0 {
                    &[SIGUSR1]
                } else {
                    &[SIGUSR2, SIGUSR1, SIGUSR1]
                })
            })
            .map(Result::unwrap)
            .collect();
        assert_eq!(listeners[1].signals(), [SIGUSR1, SIGUSR2]);
        let tasks: Vec<_> = listeners
            .into_iter()
            .map(|signals| spawn(move || (signals.recv().unwrap(), signals)))
            .collect();
        send(SIGUSR1);
        let listeners = tasks.into_iter().map(|task| {
            let (signal, signals) = task.join().unwrap();
            assert_eq!(signal, SIGUSR1);
            signals
        });
        let mut listeners: Vec<_> = listeners.collect();
        // The others go on when some are gone.
        listeners.truncate(11);
        listeners.drain(..5);
        raise(SIGUSR2);
        for signals in listeners {
            let here = signals.signals().contains(&SIGUSR2).then_some(SIGUSR2);
            assert_eq!(signals.try_recv().unwrap(), here);
        }
    });
}

#[test]
fn thousands_are_few() {
    apart("thousands_are_few", || {
        let signals = Arc::new(on_any(&[SIGUSR1, SIGUSR2]).unwrap());
        for _ in 0..5000 {
            raise(SIGUSR1);
            raise(SIGUSR2);
        }
        let text = format!("{signals:?}");
        assert!(
            text.contains(&format!("pending: [{SIGUSR1}, {SIGUSR2}]")),
            "{text}"
        );
        let both = [signals.recv().unwrap(), signals.recv().unwrap()];
        assert!(both.contains(&SIGUSR1) && both.contains(&SIGUSR2));
        assert_eq!(signals.try_recv().unwrap(), None);
        assert!(signals.recv_timeout(SHORT).is_err());
        // From a thread, while several receive: as many as were sent at most, and the last is seen.
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (signals, stop, count) = (signals.clone(), stop.clone(), count.clone());
                spawn(move || {
                    while !stop.load(SeqCst) {
                        if signals.recv_timeout(SHORT).is_ok() {
                            count.fetch_add(1, SeqCst);
                        }
                    }
                })
            })
            .collect();
        let thread = std::thread::spawn(|| {
            for i in 0..4000 {
                send(if i % 2 == 0 { SIGUSR1 } else { SIGUSR2 });
            }
        });
        until(|| thread.is_finished());
        thread.join().unwrap();
        // What is pending is taken, and then nothing comes any more.
        until(|| format!("{signals:?}").contains("pending: []"));
        stop.store(true, SeqCst);
        receivers.into_iter().for_each(|task| task.join().unwrap());
        let count = count.load(SeqCst);
        assert!((1..=4000).contains(&count), "{count}");
    });
}

/// Each of many hand-overs is seen although receivers are killed and timed out all the time.
#[test]
fn none_is_lost_with_a_killed_receiver() {
    apart("none_is_lost_with_a_killed_receiver", || {
        let signals = Arc::new(on(SIGUSR1).unwrap());
        let got = Arc::new(AtomicUsize::new(0));
        for i in 0..300 {
            let (mine, count) = (signals.clone(), got.clone());
            let victim = spawn(move || {
                let received = mine.recv();
                count.fetch_add(1, SeqCst);
                received
            });
            sleep(Duration::from_micros(i % 60));
            send(SIGUSR1);
            victim.kill();
            let _ = victim.join();
            // The victim had it, or it is still there.
            if got.swap(0, SeqCst) == 0 {
                let cut = timeout(Duration::from_micros(i % 40), || signals.recv());
                if cut.is_err() {
                    assert_eq!(signals.recv().unwrap(), SIGUSR1);
                }
            }
        }
    });
}

#[test]
fn a_flood_hides_no_other_signal() {
    apart("a_flood_hides_no_other_signal", || {
        let signals = on_any(&[SIGHUP, SIGTERM]).unwrap();
        raise(SIGTERM);
        raise(SIGHUP);
        let first = signals.recv().unwrap();
        raise(first);
        let second = signals.recv().unwrap();
        assert_ne!(first, second);
        assert_eq!(signals.recv().unwrap(), first);
    });
}

#[test]
fn signals_that_nobody_may_listen_to() {
    within("signals_that_nobody_may_listen_to", || {
        let text = |signal| {
            let error = on_any(&[SIGWINCH, signal]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            error.to_string()
        };
        for signal in [SIGKILL, SIGSTOP] {
            assert!(text(signal).contains("the kernel lets no process catch it"));
        }
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
            assert!(text(signal).contains("fault in the program"));
        }
        for signal in [0, -1, 65, i32::MAX, i32::MIN] {
            assert!(text(signal).contains("no such signal"));
        }
        // Two that glibc keeps for itself.
        assert!(text(32).contains("keeps it"), "{}", text(32));
        assert!(on_any(&[]).is_err());
        assert!(on(libc::SIGRTMAX()).is_ok());
    });
}

#[test]
fn closed_under_those_who_wait() {
    apart("closed_under_those_who_wait", || {
        let signals = Arc::new(on(SIGUSR2).unwrap());
        let listening = signals.clone();
        let task = spawn(move || listening.iter().count());
        raise(SIGUSR2);
        until(|| format!("{signals:?}").contains("pending: []"));
        signals.close().unwrap();
        assert_eq!(task.join().unwrap(), 1);
        raise(SIGUSR2);
        assert!(is_closed(&signals.recv().unwrap_err()));
    });
}

#[test]
fn earlier_handlers_are_called() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn earlier(_: libc::c_int) {
        CALLS.fetch_add(1, SeqCst);
    }
    apart("earlier_handlers_are_called", || {
        if CALLS.load(SeqCst) == 0 {
            let handler: extern "C" fn(libc::c_int) = earlier;
            // SAFETY: the handler touches an atomic only.
            unsafe { libc::signal(SIGUSR1, handler as *const () as libc::sighandler_t) };
        }
        let before = CALLS.load(SeqCst);
        let signals = on(SIGUSR1).unwrap();
        raise(SIGUSR1);
        assert_eq!(signals.recv().unwrap(), SIGUSR1);
        drop(signals);
        raise(SIGUSR1);
        assert_eq!(CALLS.load(SeqCst), before + 2);
    });
}

/// Listeners come and go while signals pour in; what they leave behind is never written to.
#[test]
fn listeners_come_and_go_in_a_flood() {
    apart("listeners_come_and_go_in_a_flood", || {
        let keep = on(SIGUSR1).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let flood = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(SeqCst) {
                    send(SIGUSR1);
                }
            })
        };
        for _ in 0..300 {
            let signals = on(SIGUSR1).unwrap();
            assert_eq!(signals.recv().unwrap(), SIGUSR1);
            drop(signals);
        }
        stop.store(true, SeqCst);
        flood.join().unwrap();
        assert!(writes_nowhere(|| raise(SIGUSR1)));
        assert_eq!(keep.recv().unwrap(), SIGUSR1);
    });
}

#[test]
fn ctrl_c_and_term_of_a_service() {
    const NAME: &str = "ctrl_c_and_term_of_a_service";
    if is_child() {
        return within(NAME, || {
            spawn(|| {
                let me = std::process::id().to_string();
                sleep(SHORT);
                // By another process, as a terminal or a supervisor does it.
                let kill = |signal: &str| {
                    let mut command = sward_runtime::process::Command::new("kill");
                    command.args([signal, &*me]).check_call().unwrap();
                };
                kill("-INT");
            });
            ctrl_c().unwrap();
            // The listener is gone: no default action comes back by surprise.
            raise(SIGINT);
            let term = on(SIGTERM).unwrap();
            send(SIGTERM);
            assert_eq!(term.into_iter().next(), Some(SIGTERM));
        });
    }
    within(NAME, || {
        assert_passed(&rerun(NAME, &[]));
        // Without a listener the default is as ever.
        let mut idle = start("one_that_sleeps", &[]);
        let pid = libc::pid_t::try_from(idle.id()).unwrap();
        // SAFETY: our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, SIGTERM) }, 0);
        assert_eq!(idle.wait().unwrap().signal(), Some(SIGTERM));
    });
}

#[test]
fn one_that_sleeps() {
    if is_child() {
        sleep(Duration::from_secs(50));
    }
}

#[test]
fn in_a_forked_child() {
    const NAME: &str = "in_a_forked_child";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let signals = on(SIGUSR1).unwrap();
        // SAFETY: the child uses memory, and exits.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            let refused = |e: std::io::Error| e.to_string().contains("forked child");
            let ok =
                refused(signals.try_recv().unwrap_err()) && refused(signals.recv().unwrap_err());
            drop(signals);
            // The number is another file's now, and the handler is still there.
            let silent = writes_nowhere(|| raise(SIGUSR1));
            // SAFETY: a number.
            unsafe { libc::_exit(if ok && silent { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: our own child, and a local.
        assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
        assert_eq!(status, 0);
        // The child's signals were its own.
        assert_eq!(signals.try_recv().unwrap(), None);
        send(SIGUSR1);
        assert_eq!(signals.recv().unwrap(), SIGUSR1);
    });
}
