//! Sockets that are closed, disconnected and unbound while there is something to send; runtimes that
//! end while sockets live on; workers that are stalled.
#![allow(clippy::unwrap_used, clippy::panic, clippy::mem_forget)]
#![allow(clippy::disallowed_types, reason = "peers that have nothing of ours")]

mod common;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{Raw, child, finish, ipc, start, stderr, tcp, within};
use sward_mq::SocketType::{Pull, Push};
use sward_mq::{Context, Error, EventKind, Loss, Monitor, Options, Reason, Socket, SocketType};
use sward_runtime::io::{Driver, Next, Ready, drive};
use sward_runtime::{Runtime, spawn};
use sward_zmtp::{Event, Heartbeat, Message, Setup};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options::new().linger(LONG).reconnect_interval(10 * MS)
}

fn with(kind: SocketType, options: Options) -> Socket {
    Context::new().socket_with(kind, options).unwrap()
}

fn socket(kind: SocketType) -> Socket {
    with(kind, options())
}

fn send(push: &Socket, messages: usize) {
    for i in 0..messages {
        push.send(format!("{i}")).unwrap();
    }
}

fn receive(pull: &Socket, messages: usize) {
    for i in 0..messages {
        let message = pull.recv_timeout(LONG).unwrap();
        assert_eq!(message.first(), i.to_string().as_bytes());
    }
}

fn nothing(pull: &Socket) {
    assert!(pull.recv_timeout(50 * MS).unwrap_err().is_would_block());
}

/// Waits for an event that `wanted` takes.
fn event<R>(monitor: &Monitor, mut wanted: impl FnMut(&EventKind) -> Option<R>) -> R {
    loop {
        let event = monitor.recv_timeout(LONG).unwrap();
        if let Some(found) = wanted(&event.kind) {
            return found;
        }
    }
}

/// Runs it on an OS thread, and in a task of one worker and of two.
fn everywhere(name: &str, f: fn()) {
    within(name, || {
        f();
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(f);
        }
    });
}

// Linger.

#[test]
fn a_closed_socket_goes_on_sending() {
    everywhere("a_closed_socket_goes_on_sending", || {
        for endpoint in [tcp(), ipc("closed")] {
            let push = socket(Push);
            push.connect(&endpoint).unwrap();
            send(&push, 100);
            drop(push);
            let pull = socket(Pull);
            pull.bind(&endpoint).unwrap();
            receive(&pull, 100);
            nothing(&pull);
        }
    });
}

#[test]
fn a_disconnected_end_goes_on_sending() {
    everywhere("a_disconnected_end_goes_on_sending", || {
        for endpoint in [tcp(), ipc("disconnected")] {
            let push = socket(Push);
            push.connect(&endpoint).unwrap();
            send(&push, 100);
            push.disconnect(&endpoint).unwrap();
            assert!(matches!(
                push.disconnect(&endpoint),
                Err(Error::NotFound(_))
            ));
            assert!(
                push.try_send("nobody")
                    .unwrap_err()
                    .error()
                    .is_would_block()
            );
            let pull = socket(Pull);
            pull.bind(&endpoint).unwrap();
            receive(&pull, 100);
            nothing(&pull);
            // It can be connected again.
            push.connect(&endpoint).unwrap();
            send(&push, 10);
            receive(&pull, 10);
        }
    });
}

/// More than the kernel takes, so that the end comes in the middle.
#[test]
fn an_unbound_end_goes_on_sending() {
    const MESSAGES: usize = 300;
    everywhere("an_unbound_end_goes_on_sending", || {
        let push = with(Push, options().send_hwm(0));
        let endpoint = push.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let pull = with(Pull, options().recv_hwm(1));
        pull.connect(&endpoint).unwrap();
        for i in 0..MESSAGES {
            push.send(vec![u8::try_from(i % 256).unwrap(); 50_000])
                .unwrap();
        }
        push.unbind(&endpoint).unwrap();
        assert!(matches!(push.unbind(&endpoint), Err(Error::NotFound(_))));
        assert!(
            push.try_send("nobody")
                .unwrap_err()
                .error()
                .is_would_block()
        );
        for i in 0..MESSAGES {
            let message = pull.recv_timeout(LONG).unwrap();
            assert_eq!(
                message.first(),
                &[u8::try_from(i % 256).unwrap(); 50_000][..]
            );
        }
        nothing(&pull);
    });
}

/// What the peer sent and nobody took must not make a reset of the close.
#[test]
fn unread_messages_do_not_cost_what_was_sent() {
    const MESSAGES: usize = 100;
    everywhere("unread_messages_do_not_cost_what_was_sent", || {
        let ours = with(SocketType::Dealer, options().send_hwm(0).recv_hwm(1));
        let endpoint = ours.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let peer = with(SocketType::Dealer, options().send_hwm(0).recv_hwm(1));
        peer.connect(&endpoint).unwrap();
        for _ in 0..MESSAGES {
            peer.send(vec![1; 50_000]).unwrap();
        }
        ours.recv_timeout(LONG).unwrap();
        for _ in 0..MESSAGES {
            ours.send(vec![2; 50_000]).unwrap();
        }
        drop(ours);
        for _ in 0..MESSAGES {
            assert_eq!(peer.recv_timeout(LONG).unwrap().first(), &[2; 50_000][..]);
        }
    });
}

#[test]
fn what_lingers_too_long_is_counted_and_told() {
    everywhere("what_lingers_too_long_is_counted_and_told", || {
        let push = with(Push, options().linger(30 * MS));
        let monitor = push.monitor();
        push.connect(ipc("nobody")).unwrap();
        send(&push, 3);
        let begun = Instant::now();
        drop(push);
        let count = event(&monitor, |kind| match kind {
            EventKind::Lost {
                loss: Loss::Linger,
                count,
                ..
            } => Some(*count),
            _ => None,
        });
        assert_eq!(count, 3);
        assert!(begun.elapsed() >= 30 * MS);
        event(&monitor, |kind| {
            matches!(kind, EventKind::MonitorStopped).then_some(())
        });
        assert!(matches!(monitor.recv(), Err(Error::Closed)));
    });
}

/// Within the process, too: for whoever binds the name within the linger time.
#[test]
fn a_name_that_is_bound_later() {
    everywhere("a_name_that_is_bound_later", || {
        let context = Context::new();
        let make = |kind, linger| context.socket_with(kind, options().linger(linger)).unwrap();
        let push = make(Push, LONG);
        push.connect("inproc://later").unwrap();
        send(&push, 3);
        drop(push);
        let pull = make(Pull, LONG);
        pull.bind("inproc://later").unwrap();
        receive(&pull, 3);
        let push = make(Push, 30 * MS);
        push.connect("inproc://never").unwrap();
        send(&push, 3);
        let monitor = push.monitor();
        let begun = Instant::now();
        drop(push);
        let count = event(&monitor, |kind| match kind {
            EventKind::Lost {
                loss: Loss::Linger,
                count,
                ..
            } => Some(*count),
            _ => None,
        });
        assert_eq!(count, 3);
        assert!(begun.elapsed() >= 30 * MS);
        let pull = make(Pull, LONG);
        pull.bind("inproc://never").unwrap();
        nothing(&pull);
        drop(pull);
        assert_eq!(context.term(LONG), 0);
    });
}

#[test]
fn no_linger_drops_at_once() {
    everywhere("no_linger_drops_at_once", || {
        let push = with(Push, options().linger(Duration::ZERO));
        let monitor = push.monitor();
        let endpoint = ipc("at-once");
        push.connect(&endpoint).unwrap();
        send(&push, 2);
        push.disconnect(&endpoint).unwrap();
        push.connect(&endpoint).unwrap();
        send(&push, 3);
        drop(push);
        let mut lost = 0;
        while lost < 5 {
            lost += event(&monitor, |kind| match kind {
                EventKind::Lost {
                    loss: Loss::Linger,
                    count,
                    ..
                } => Some(*count),
                _ => None,
            });
        }
        assert_eq!(lost, 5);
        let pull = socket(Pull);
        pull.bind(&endpoint).unwrap();
        nothing(&pull);
    });
}

#[test]
fn who_gives_up_dialling_does_not_linger() {
    everywhere("who_gives_up_dialling_does_not_linger", || {
        let context = Context::new();
        let push = context
            .socket_with(Push, options().reconnect_interval(None))
            .unwrap();
        let monitor = push.monitor();
        push.connect(tcp()).unwrap();
        send(&push, 3);
        event(&monitor, |kind| {
            matches!(kind, EventKind::Closed(Some(_))).then_some(())
        });
        drop(push);
        let begun = Instant::now();
        context.term(LONG);
        assert!(begun.elapsed() < LONG / 2);
    });
}

// Contexts.

#[test]
fn term_waits_for_what_is_sent() {
    everywhere("term_waits_for_what_is_sent", || {
        let context = Context::new();
        let endpoint = ipc("term");
        let push = context.socket_with(Push, options()).unwrap();
        push.connect(&endpoint).unwrap();
        send(&push, 100);
        let taken = endpoint.clone();
        let receives = spawn(move || {
            let pull = socket(Pull);
            pull.bind(&taken).unwrap();
            receive(&pull, 100);
        });
        assert_eq!(context.term(LONG), 0);
        receives.join().unwrap();
        assert!(matches!(
            push.send("late").unwrap_err().error(),
            Error::Terminated
        ));
        assert!(matches!(push.connect(&endpoint), Err(Error::Terminated)));
        assert!(matches!(push.bind(&endpoint), Err(Error::Terminated)));
        assert!(matches!(context.socket(Push), Err(Error::Terminated)));
        assert_eq!(context.term(LONG), 0);
    });
}

#[test]
fn term_has_a_limit_and_says_what_was_lost() {
    everywhere("term_has_a_limit_and_says_what_was_lost", || {
        let context = Context::new();
        let limits = [Some(LONG), None, Some(5 * MS), Some(Duration::ZERO)];
        for (i, linger) in limits.into_iter().enumerate() {
            let push = context.socket_with(Push, options().linger(linger)).unwrap();
            push.connect(ipc("limit")).unwrap();
            send(&push, i + 1);
            // Closed before, or by `term`.
            if i % 2 == 0 {
                let _ = std::mem::ManuallyDrop::new(push);
            }
        }
        let before = Instant::now();
        let lost = context.term(50 * MS);
        assert!(before.elapsed() >= 50 * MS && before.elapsed() < LONG / 2);
        // The last was dropped at its close, before.
        assert!((1 + 2..=1 + 2 + 3).contains(&lost), "{lost}");
    });
}

#[test]
fn shutdown_ends_those_who_wait() {
    everywhere("shutdown_ends_those_who_wait", || {
        let context = Context::new();
        let (pull, push) = (context.socket(Pull).unwrap(), context.socket(Push).unwrap());
        pull.bind(ipc("shutdown")).unwrap();
        let (p, q) = (pull.clone(), push.clone());
        let tasks = [
            spawn(move || matches!(p.recv(), Err(Error::Terminated))),
            spawn(move || matches!(q.send("to nobody").unwrap_err().error(), Error::Terminated)),
        ];
        // Whether they wait by then or not, the end is the same.
        sward_runtime::yield_now();
        context.shutdown();
        for task in tasks {
            assert!(task.join().unwrap());
        }
        assert_eq!(context.term(LONG), 0);
    });
}

#[test]
fn term_can_be_killed() {
    within("term_can_be_killed", || {
        let context = Context::new();
        let push = context.socket_with(Push, options()).unwrap();
        push.connect(ipc("killed")).unwrap();
        send(&push, 1);
        let over = sward_runtime::timeout(20 * MS, || context.term(LONG));
        assert!(over.is_err());
        let c = context.clone();
        let task = spawn(move || c.term(LONG));
        sward_runtime::sleep(5 * MS);
        task.task().kill();
        assert!(task.join().is_err());
        assert_eq!(context.term(Duration::ZERO), 1);
    });
}

#[test]
fn no_more_sockets_than_allowed() {
    within("no_more_sockets_than_allowed", || {
        let context = Context::new();
        context.set_max_sockets(2);
        let _one = context.socket(Push).unwrap();
        let two = context.socket(Push).unwrap();
        let three = context.socket(Push);
        assert!(matches!(three, Err(Error::TooManySockets(2))));
        drop(two);
        context.socket(Push).unwrap();
    });
}

// Runtimes.

/// Everything of it was in a runtime that ends: those who listen, those who dial, those who stand.
#[test]
fn sockets_outlive_their_runtime() {
    for workers in [1, 2] {
        within("sockets_outlive_their_runtime", || {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            let late = tcp();
            let dials = late.clone();
            let (pull, push, dialer, endpoint) = runtime.run(move || {
                let pull = socket(Pull);
                let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
                let push = socket(Push);
                push.connect(&endpoint).unwrap();
                send(&push, 10);
                receive(&pull, 10);
                let dialer = socket(Push);
                dialer.connect(&dials).unwrap();
                send(&dialer, 10);
                (pull, push, dialer, endpoint)
            });
            let monitors = [pull.monitor(), push.monitor()];
            drop(runtime);
            // What stands goes on.
            send(&push, 10);
            receive(&pull, 10);
            for monitor in monitors {
                assert!(monitor.try_recv().is_err(), "nobody has noticed");
            }
            // Who listens accepts.
            let other = socket(Push);
            other.connect(&endpoint).unwrap();
            send(&other, 10);
            receive(&pull, 10);
            // Who dials goes on.
            let last = socket(Pull);
            last.bind(&late).unwrap();
            receive(&last, 10);
            send(&dialer, 10);
            receive(&last, 10);
        });
    }
}

#[test]
fn one_socket_on_two_runtimes_and_a_thread() {
    within("one_socket_on_two_runtimes_and_a_thread", || {
        let pull = with(Pull, options());
        let push = with(Push, options());
        push.connect(pull.bind("tcp://127.0.0.1:*").unwrap().as_str())
            .unwrap();
        let runtimes = [1, 2].map(|n| Runtime::builder().workers(n).build().unwrap());
        for round in 0..3 {
            let sends = runtimes.each_ref().map(|runtime| {
                let push = push.clone();
                runtime.spawn(move || (0..1000).for_each(|_| push.send("x").unwrap()))
            });
            let receives = runtimes.each_ref().map(|runtime| {
                let pull = pull.clone();
                runtime.spawn(move || (0..500).for_each(|_| drop(pull.recv_timeout(LONG).unwrap())))
            });
            (0..1000).for_each(|_| drop(pull.recv_timeout(LONG).unwrap()));
            sends.into_iter().for_each(|task| task.join().unwrap());
            receives.into_iter().for_each(|task| task.join().unwrap());
            nothing(&pull);
            if round == 1 {
                // The rest is done by the other.
                push.send("y").unwrap();
                pull.recv_timeout(LONG).unwrap();
            }
        }
        let [one, two] = runtimes;
        drop(one);
        send(&push, 10);
        receive(&pull, 10);
        drop(two);
        send(&push, 10);
        receive(&pull, 10);
    });
}

#[test]
fn handles_go_in_any_order() {
    everywhere("handles_go_in_any_order", || {
        // The context first, then a clone, the monitor last.
        let context = Context::new();
        let pull = context.socket(Pull).unwrap();
        let monitor = pull.monitor();
        let push = context.socket(Push).unwrap();
        drop(context);
        pull.bind("inproc://order").unwrap();
        push.connect("inproc://order").unwrap();
        let clone = push.clone();
        drop(push);
        send(&clone, 3);
        drop(clone);
        receive(&pull, 3);
        drop(pull);
        event(&monitor, |kind| {
            matches!(kind, EventKind::MonitorStopped).then_some(())
        });
        // The monitor first.
        let push = socket(Push);
        let monitor = push.monitor();
        push.connect(tcp()).unwrap();
        drop(monitor);
        drop(push);
    });
}

/// A driver that owns a socket, which goes with it: on the worker, where nothing may wait.
struct Owns(Option<Socket>, Arc<AtomicBool>);

impl Driver for Owns {
    type Io = Arc<OwnedFd>;

    fn drive(&mut self, _io: &Arc<OwnedFd>, _ready: Ready) -> Next {
        drop(self.0.take());
        self.1.store(true, SeqCst);
        Next::Close
    }
}

#[test]
fn a_socket_is_dropped_inside_a_driver() {
    everywhere("a_socket_is_dropped_inside_a_driver", || {
        let endpoint = ipc("driver");
        let push = socket(Push);
        push.connect(&endpoint).unwrap();
        send(&push, 10);
        let (reader, _writer) = std::io::pipe().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        drive(
            Arc::new(OwnedFd::from(reader)),
            Owns(Some(push), done.clone()),
        )
        .unwrap();
        let pull = socket(Pull);
        pull.bind(&endpoint).unwrap();
        receive(&pull, 10);
        // It drops the socket before it says so.
        while !done.load(SeqCst) {
            sward_runtime::yield_now();
        }
    });
}

// Forks.

/// Forks; the child runs `f` and ends with its answer, 99 if it panics. It never returns from here.
fn fork(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child uses memory, and what it is tested for; its allocator is glibc's, which works
    // after a fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // A child that hangs is ended by the kernel.
        // SAFETY: a number and nothing else.
        unsafe { libc::alarm(20) };
        let f = std::panic::AssertUnwindSafe(f);
        let status = std::panic::catch_unwind(f).unwrap_or(99);
        // SAFETY: a number and nothing else.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    // SAFETY: our own child, and a local to be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        1000 + libc::WTERMSIG(status)
    }
}

#[test]
fn a_forked_child_is_told_so() {
    if child().is_none() {
        // In a process of its own, where no other test holds a lock meanwhile.
        let output = finish(start("a_forked_child_is_told_so", "x"));
        assert!(output.status.success(), "{}", stderr(&output));
        return;
    }
    let context = Context::new();
    let pull = context.socket(Pull).unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
    let push = context.socket(Push).unwrap();
    push.connect(&endpoint).unwrap();
    send(&push, 10);
    receive(&pull, 10);
    send(&push, 5);
    let monitor = push.monitor();
    let names_fork = |e: Error| e.to_string().contains("forked child");
    // Each process has its own.
    let all = std::cell::Cell::new(Some((pull, push, monitor, context)));
    let status = fork(|| {
        let (pull, push, monitor, context) = all.take().unwrap();
        let told = [
            push.send("x").is_err_and(|e| names_fork(e.into_parts().0)),
            push.try_send("x")
                .is_err_and(|e| names_fork(e.into_parts().0)),
            pull.recv().is_err_and(names_fork),
            pull.try_recv().is_err_and(names_fork),
            pull.recv_timeout(MS).is_err_and(names_fork),
            pull.bind("tcp://127.0.0.1:*").is_err_and(names_fork),
            push.connect("tcp://127.0.0.1:1").is_err_and(names_fork),
            push.disconnect(&endpoint).is_err_and(names_fork),
            pull.unbind(&endpoint).is_err_and(names_fork),
            monitor.recv().is_err_and(names_fork),
            monitor.try_recv().is_err_and(names_fork),
            context.socket(Push).is_err_and(names_fork),
        ];
        if let Some(at) = told.iter().position(|told| !told) {
            return 10 + i32::try_from(at).unwrap();
        }
        context.shutdown();
        if context.term(LONG) != 0 {
            return 1;
        }
        // What it has of them ends without a word to the peers.
        drop((pull, push, monitor, context));
        // Of its own it may have anything.
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let endpoint = ipc("child");
        runtime.run(|| {
            let context = Context::new();
            let pull = context.socket(Pull).unwrap();
            pull.bind(&endpoint).unwrap();
            let push = context.socket(Push).unwrap();
            push.connect(&endpoint).unwrap();
            send(&push, 10);
            receive(&pull, 10);
        });
        0
    });
    assert_eq!(status, 0);
    let (pull, push, monitor, _context) = all.take().unwrap();
    // The parent's connection has noticed nothing.
    receive(&pull, 5);
    send(&push, 10);
    receive(&pull, 10);
    assert!(monitor.try_recv().unwrap_err().is_would_block());
}

// Stalls.

/// A task computes for much longer than the heartbeat time-outs of both sides.
#[test]
fn heartbeats_go_on_while_the_worker_is_stalled() {
    within("heartbeats_go_on_while_the_worker_is_stalled", || {
        let runtime = Runtime::builder()
            .workers(1)
            .on_stall(|_| {})
            .build()
            .unwrap();
        let (tell, told) = channel();
        let (stop, stopped) = channel::<()>();
        let task = runtime.spawn(move || {
            let beating = options()
                .heartbeat_interval(100 * MS)
                .heartbeat_timeout(400 * MS)
                .heartbeat_ttl(400 * MS);
            let pull = with(Pull, beating);
            let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
            let monitor = pull.monitor();
            tell.send(endpoint).unwrap();
            let first = pull.recv_timeout(LONG).unwrap();
            assert_eq!(first.first(), "before");
            let begun = Instant::now();
            while begun.elapsed() < 2500 * MS {
                std::hint::spin_loop();
            }
            for i in 0..10 {
                let message = pull.recv_timeout(LONG).unwrap();
                assert_eq!(message.first(), format!("{i}").as_bytes());
            }
            while let Ok(event) = monitor.try_recv() {
                assert!(
                    matches!(
                        event.kind,
                        EventKind::Accepted | EventKind::HandshakeSucceeded
                    ),
                    "{event}"
                );
            }
            stopped.recv().unwrap();
        });
        let endpoint = told.recv().unwrap();
        let heartbeat = Heartbeat {
            interval: 100 * MS,
            timeout: 400 * MS,
            ttl: 400 * MS,
        };
        let setup = Setup {
            heartbeat: Some(heartbeat),
            ..Setup::new(Push)
        };
        let mut peer = Raw::connect(&endpoint, setup);
        peer.send(&Message::from("before")).unwrap();
        // Silent but for heartbeats, for the whole time.
        let begun = Instant::now();
        while begun.elapsed() < 2000 * MS {
            assert!(peer.next(50 * MS).unwrap().is_none());
        }
        for i in 0..10 {
            peer.send(&Message::from(format!("{i}"))).unwrap();
        }
        while begun.elapsed() < 3000 * MS {
            assert!(peer.next(50 * MS).unwrap().is_none());
        }
        stop.send(()).unwrap();
        task.join().unwrap();
    });
}

/// The task has sent just before it began to compute: that goes out.
#[test]
fn what_was_sent_before_a_stall_goes_out() {
    within("what_was_sent_before_a_stall_goes_out", || {
        let runtime = Runtime::builder()
            .workers(1)
            .on_stall(|_| {})
            .build()
            .unwrap();
        let pull = socket(Pull);
        let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
        let (stop, stopped) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (go, gone) = (stop.clone(), stopped.clone());
        let task = runtime.spawn(move || {
            let push = socket(Push);
            push.connect(&endpoint).unwrap();
            send(&push, 1);
            // Its connection stands by now.
            sward_runtime::sleep(50 * MS);
            send(&push, 10);
            while !go.load(SeqCst) {
                std::hint::spin_loop();
            }
            gone.store(true, SeqCst);
        });
        receive(&pull, 1);
        receive(&pull, 10);
        assert!(!stopped.load(SeqCst));
        stop.store(true, SeqCst);
        task.join().unwrap();
    });
}

/// A peer that stops answering is found out while the worker is stalled, too.
#[test]
fn a_dead_peer_is_found_during_a_stall() {
    within("a_dead_peer_is_found_during_a_stall", || {
        let runtime = Runtime::builder()
            .workers(1)
            .on_stall(|_| {})
            .build()
            .unwrap();
        let beating = options()
            .heartbeat_interval(100 * MS)
            .heartbeat_timeout(300 * MS);
        let (pull, endpoint) = runtime.run(move || {
            let pull = with(Pull, beating);
            let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
            (pull, endpoint)
        });
        let monitor = pull.monitor();
        let mut peer = Raw::connect(&endpoint, Setup::new(Push));
        event(&monitor, |kind| {
            matches!(kind, EventKind::HandshakeSucceeded).then_some(())
        });
        let stop = Arc::new(AtomicBool::new(false));
        let go = stop.clone();
        let task = runtime.spawn(move || {
            while !go.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        // It answers nothing from now on.
        let reason = event(&monitor, |kind| match kind {
            EventKind::Disconnected(reason) => Some(reason.clone()),
            _ => None,
        });
        assert!(matches!(reason, Reason::Fault(_)), "{reason:?}");
        stop.store(true, SeqCst);
        task.join().unwrap();
        assert!(matches!(
            peer.next(LONG),
            Err(_) | Ok(Some(Event::Message(_)))
        ));
    });
}
