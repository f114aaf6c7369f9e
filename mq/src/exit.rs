//! The end of the process: what sockets have to send by then goes out within their linger times, and
//! what does not is said on stderr.
//!
//! `main` may return, and `exit` may be called by any thread, a worker included, whose tasks and
//! drivers never run again; thread-locals are gone by then. So a hook of `at_exit` waits for a thread
//! of its own, and that thread builds a runtime of its own: all connections that still send move
//! there, and all dialers begin there anew. Straight-line code as ever, and nothing depends on what
//! other workers do meanwhile.
//!
//! Who waits at a socket by then is left waiting, and later calls wait: an error would make the rest
//! of the program say that it failed, when it is only over.
//!
//! Rejected: a loop of its own around `poll` (dialling, the handshake and heartbeats a second time);
//! the monitor's thread (it drives what has a connection, every 50 ms, but dials nothing); waiting in
//! the workers (the one that exits is gone, and others may be stalled).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sward_runtime::__private::{hold_at_fork, start_thread};
use sward_runtime::sync::ShortLock;
use sward_runtime::{Runtime, at_exit};
use sward_zmtp::SocketType;

use crate::context::ContextCore;
use crate::{buffer, elsewhere};

/// What an unlimited linger time comes to at the exit.
const LONGEST: Duration = Duration::from_secs(30);
/// Beyond the last linger time.
const GRACE: Duration = Duration::from_millis(500);
/// Endpoints that the line names.
const NAMED: usize = 8;

/// Contexts that sockets were made in.
static CONTEXTS: ShortLock<Vec<Weak<ContextCore>>> = ShortLock::new(Vec::new());
/// What was dropped since the exit began.
static DROPPED: ShortLock<Vec<Dropped>> = ShortLock::new(Vec::new());

struct Dropped {
    kind: SocketType,
    endpoint: String,
    messages: usize,
}

/// From now on the process does not end before the context's sockets have had their time.
pub(crate) fn watch(context: &Arc<ContextCore>) {
    // Nobody waits for it: a child that is forked meanwhile would do so for ever.
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    let mut contexts = CONTEXTS.lock();
    contexts.retain(|context| context.strong_count() > 0);
    contexts.push(Arc::downgrade(context));
    drop(contexts);
    if !REGISTERED.swap(true, Relaxed) {
        hold_at_fork(&[&CONTEXTS, &DROPPED, elsewhere::global(), buffer::global()]);
        at_exit(exiting);
    }
}

/// Says what was dropped because linger times were over, in one line.
pub(crate) fn report(kind: SocketType, dropped: HashMap<String, usize>, exiting: bool) {
    let dropped = dropped.into_iter().filter(|(_, messages)| *messages > 0);
    let dropped = dropped.map(|(endpoint, messages)| Dropped {
        kind,
        endpoint,
        messages,
    });
    if exiting {
        DROPPED.lock().extend(dropped);
    } else {
        say("after a close", dropped.collect());
    }
}

fn say(when: &str, dropped: Vec<Dropped>) {
    if dropped.is_empty() {
        return;
    }
    let all: usize = dropped.iter().map(|d| d.messages).sum();
    let mut line = format!("sward: zmq messages dropped {when}, their linger time was over: {all}");
    for (i, d) in dropped.iter().take(NAMED).enumerate() {
        let (kind, endpoint, messages) = (d.kind, &d.endpoint, d.messages);
        let lead = if i == 0 { " (" } else { ", " };
        let _ = write!(line, "{lead}{messages} of a {kind} socket for {endpoint}");
    }
    if dropped.len() > NAMED {
        let _ = write!(line, ", and {} more endpoints", dropped.len() - NAMED);
    }
    line.push_str(")\n");
    // There is nowhere to tell that it failed.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

fn contexts() -> Vec<Arc<ContextCore>> {
    let contexts = CONTEXTS.lock();
    let contexts = contexts.iter().filter_map(Weak::upgrade);
    // A forked child has those of its parent, too.
    contexts
        .filter(|context| !context.epoch.is_stale())
        .collect()
}

/// Called by `exit`, on any thread.
fn exiting() {
    let contexts = contexts();
    for context in &contexts {
        context.close_for_exit(LONGEST);
    }
    if contexts.iter().any(|context| context.has_leavers()) {
        let thread = std::thread::Builder::new().name("zmq exit".to_owned());
        match start_thread(thread, move || finish(&contexts)) {
            Ok(thread) => {
                let _ = thread.join();
            }
            Err(_) => self::contexts()
                .iter()
                .for_each(|context| context.give_up()),
        }
    }
    say("at exit", std::mem::take(&mut *DROPPED.lock()));
}

/// Waits until everything is sent or given up.
fn finish(contexts: &[Arc<ContextCore>]) {
    let latest = contexts.iter().filter_map(|context| context.latest()).max();
    // (None: somebody is giving up the last of them, and has yet to say so.)
    let latest = latest.unwrap_or_else(Instant::now) + GRACE;
    let wait = || {
        for context in contexts {
            context.move_here();
        }
        for context in contexts {
            context.wait_until(latest);
        }
    };
    // Without a runtime of its own (no descriptors, no threads): where they are.
    match Runtime::builder().workers(1).name("zmq-exit").build() {
        Ok(runtime) => {
            runtime.run(wait);
            // Its end would only take time, and the process is at its own.
            let _ = std::mem::ManuallyDrop::new(runtime);
        }
        Err(_) => {
            for context in contexts {
                context.wait_until(latest);
            }
        }
    }
    for context in contexts {
        context.give_up();
    }
}
