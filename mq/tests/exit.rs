//! The end of the process: what was sent goes out within its linger time, whoever ends the process
//! and wherever; what does not is named in one line.
#![allow(clippy::unwrap_used, clippy::panic, clippy::mem_forget)]
#![allow(clippy::exit, reason = "that is what is tested")]
#![allow(
    clippy::disallowed_methods,
    reason = "a peer that comes late, on a thread"
)]

mod common;

use std::process::Output;
use std::time::{Duration, Instant};

use common::{child, finish, hear, ipc, say, start, stderr, tcp, within};
use sward_mq::{Context, Options, Socket, SocketType};
use sward_runtime::{Runtime, spawn};

const MS: Duration = Duration::from_millis(1);

fn push(endpoint: &str, linger: Duration) -> Socket {
    let options = Options::new().linger(linger).send_hwm(0);
    let push = Context::global()
        .socket_with(SocketType::Push, options)
        .unwrap();
    push.connect(endpoint).unwrap();
    push
}

fn send(push: &Socket, messages: usize) {
    for i in 0..messages {
        push.send(format!("{i}")).unwrap();
    }
}

/// Starts the test again as a child, and binds 100 ms after it said that it is about to go.
fn bind_late(test: &str, endpoint: &str, messages: usize) -> Output {
    let mut going = start(test, endpoint);
    hear(&mut going, "going");
    // The scenario: a peer that comes late.
    sward_runtime::sleep(100 * MS);
    let pull = Context::new().socket(SocketType::Pull).unwrap();
    pull.bind(endpoint).unwrap();
    for i in 0..messages {
        let message = pull.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(message.first(), i.to_string().as_bytes());
    }
    let output = finish(going);
    let said = stderr(&output);
    assert!(!said.contains("sward:"), "{said}");
    output
}

#[test]
fn main_returns() {
    if let Some(endpoint) = child() {
        let push = push(&endpoint, 20_000 * MS);
        send(&push, 3);
        say("going");
        // Open until the very end.
        std::mem::forget(push);
        return;
    }
    within("main_returns", || {
        let output = bind_late("main_returns", &tcp(), 3);
        assert!(output.status.success());
    });
}

#[test]
fn main_returns_and_the_socket_was_closed() {
    if let Some(endpoint) = child() {
        send(&push(&endpoint, 20_000 * MS), 3);
        say("going");
        return;
    }
    within("main_returns_and_the_socket_was_closed", || {
        let output = bind_late("main_returns_and_the_socket_was_closed", &ipc("closed"), 3);
        assert!(output.status.success());
    });
}

#[test]
fn a_task_exits() {
    if let Some(endpoint) = child() {
        // Several workers, and all of them are used.
        let tasks: Vec<_> = (0..4)
            .map(|i| {
                let endpoint = endpoint.clone();
                spawn(move || {
                    let push = push(&endpoint, 20_000 * MS);
                    if i == 0 {
                        send(&push, 3);
                    }
                    std::mem::forget(push);
                })
            })
            .collect();
        for task in tasks {
            task.join().unwrap();
        }
        spawn(|| {
            say("going");
            std::process::exit(7)
        })
        .join()
        .unwrap();
    }
    within("a_task_exits", || {
        let output = bind_late("a_task_exits", &tcp(), 3);
        assert_eq!(output.status.code(), Some(7));
    });
}

#[test]
fn the_only_worker_exits() {
    if let Some(endpoint) = child() {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(move || {
            let push = push(&endpoint, 20_000 * MS);
            send(&push, 3);
            say("going");
            std::process::exit(7)
        });
    }
    within("the_only_worker_exits", || {
        let output = bind_late("the_only_worker_exits", &ipc("only"), 3);
        assert_eq!(output.status.code(), Some(7));
    });
}

#[test]
fn a_thread_exits() {
    if let Some(endpoint) = child() {
        let thread = std::thread::spawn(move || {
            let push = push(&endpoint, 20_000 * MS);
            send(&push, 3);
            say("going");
            std::process::exit(7)
        });
        thread.join().unwrap();
    }
    within("a_thread_exits", || {
        let output = bind_late("a_thread_exits", &tcp(), 3);
        assert_eq!(output.status.code(), Some(7));
    });
}

#[test]
fn a_runtime_has_ended_before() {
    if let Some(endpoint) = child() {
        sward_runtime::run(|| send(&push(&endpoint, 20_000 * MS), 3));
        say("going");
        return;
    }
    within("a_runtime_has_ended_before", || {
        let output = bind_late("a_runtime_has_ended_before", &tcp(), 3);
        assert!(output.status.success());
    });
}

#[test]
fn main_panics() {
    if let Some(endpoint) = child() {
        let push = push(&endpoint, 20_000 * MS);
        send(&push, 3);
        say("going");
        panic!("as meant");
    }
    within("main_panics", || {
        let output = bind_late("main_panics", &ipc("panic"), 3);
        assert_eq!(output.status.code(), Some(101));
        assert!(stderr(&output).contains("as meant"));
    });
}

/// A task that never parks keeps the worker on which everything was.
#[test]
fn a_worker_is_stalled() {
    if let Some(endpoint) = child() {
        let runtime = Runtime::builder()
            .workers(1)
            .on_stall(|_| {})
            .build()
            .unwrap();
        runtime.run(move || {
            let push = push(&endpoint, 20_000 * MS);
            send(&push, 3);
            std::mem::forget(push);
        });
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(move || {
            tell.send(()).unwrap();
            loop {
                std::hint::spin_loop();
            }
        });
        told.recv().unwrap();
        say("going");
        std::mem::forget(runtime);
        return;
    }
    within("a_worker_is_stalled", || {
        let output = bind_late("a_worker_is_stalled", &tcp(), 3);
        assert!(output.status.success());
    });
}

#[test]
fn nobody_ever_binds() {
    if let Some(endpoint) = child() {
        let push = push(&endpoint, 300 * MS);
        send(&push, 3);
        if endpoint.starts_with("tcp") {
            return;
        }
        spawn(|| std::process::exit(0)).join().unwrap();
    }
    within("nobody_ever_binds", || {
        for endpoint in [tcp(), ipc("nobody")] {
            let begun = Instant::now();
            let output = finish(start("nobody_ever_binds", &endpoint));
            let took = begun.elapsed();
            assert!(output.status.success());
            assert!(took >= 300 * MS && took < 3_000 * MS, "{took:?}");
            let said = stderr(&output);
            let lines: Vec<_> = said.lines().filter(|l| l.starts_with("sward:")).collect();
            assert_eq!(lines.len(), 1, "{said}");
            let line = lines[0];
            let wanted = format!("3 of a PUSH socket for {endpoint}");
            assert!(line.contains(&wanted) && line.contains("exit"), "{line}");
        }
    });
}

/// More than the kernel takes at once, to a peer that reads slowly.
#[test]
fn much_is_sent_at_the_exit() {
    const MESSAGES: usize = 3_000;
    if let Some(endpoint) = child() {
        let push = push(&endpoint, 40_000 * MS);
        for i in 0..MESSAGES {
            let mut body = vec![0; 10_000];
            body[..4].copy_from_slice(&(i as u32).to_le_bytes());
            push.send(body).unwrap();
        }
        spawn(|| std::process::exit(0)).join().unwrap();
    }
    within("much_is_sent_at_the_exit", || {
        let pull = Context::new()
            .socket_with(SocketType::Pull, Options::new().recv_hwm(10))
            .unwrap();
        let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
        let going = start("much_is_sent_at_the_exit", endpoint.as_str());
        for i in 0..MESSAGES {
            let message = pull.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(message.first()[..4], (i as u32).to_le_bytes());
        }
        let output = finish(going);
        assert!(output.status.success());
        assert!(!stderr(&output).contains("sward:"), "{}", stderr(&output));
    });
}

/// Calls that wait by then, and those that come after, say nothing.
#[test]
fn who_waits_is_left_waiting() {
    if let Some(endpoint) = child() {
        let pull = Context::global().socket(SocketType::Pull).unwrap();
        pull.bind("inproc://never").unwrap();
        let waits = pull.clone();
        spawn(move || waits.recv().unwrap());
        let later = pull.clone();
        spawn(move || {
            loop {
                sward_runtime::sleep(MS);
                assert!(later.try_recv().unwrap_err().is_would_block());
            }
        });
        send(&push(&endpoint, 200 * MS), 1);
        std::mem::forget(pull);
        return;
    }
    within("who_waits_is_left_waiting", || {
        let output = finish(start("who_waits_is_left_waiting", &ipc("waits")));
        assert!(output.status.success());
        let said = stderr(&output);
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(said.matches("sward:").count(), 1, "{said}");
    });
}

/// Without anything to send the exit takes no time, whatever the linger times.
#[test]
fn nothing_to_send() {
    if child().is_some() {
        for kind in [SocketType::Push, SocketType::Pull] {
            let socket = Context::new().socket(kind).unwrap();
            socket.bind("tcp://127.0.0.1:*").unwrap();
            socket.connect("tcp://127.0.0.1:1").unwrap();
            std::mem::forget(socket);
        }
        say("going");
        std::process::exit(0);
    }
    within("nothing_to_send", || {
        let mut going = start("nothing_to_send", "");
        hear(&mut going, "going");
        let begun = Instant::now();
        let output = finish(going);
        assert!(output.status.success() && !stderr(&output).contains("sward:"));
        assert!(begun.elapsed() < Duration::from_secs(1));
    });
}
