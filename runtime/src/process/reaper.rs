//! Children that nobody waits for any more: they are reaped when they end, so that none stays a
//! zombie.
//!
//! An *orphan* is a child whose last handle was dropped while it ran. A thread holds the orphans,
//! waits for their descriptors, and reaps each by its number; it starts with the first orphan and
//! ends with the last. It waits for no other child of the process, and installs no handler.
//!
//! Invariant: the thread runs, or is about to, exactly while the bell is there.
//!
//! Rejected: a driver (it ends with its worker, and while it is there the runtime reports no
//! deadlock); a list that is looked through at each later start (the last zombies stay); a thread
//! for each.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, LazyLock};

use super::process::Life;
use super::sys;
use crate::fork::Epoch;
use crate::io::sys::set_nonblocking;
use crate::sync::short_lock::ShortLock;

struct State {
    epoch: Epoch,
    bell: Option<PipeWriter>,
    new: Vec<Arc<Life>>,
}

static STATE: LazyLock<ShortLock<State>> = LazyLock::new(|| {
    ShortLock::new(State {
        epoch: Epoch::current(),
        bell: None,
        new: Vec::new(),
    })
});

/// Takes a child that nobody will wait for.
pub(super) fn adopt(life: &Arc<Life>) {
    if !matches!(life.try_wait(), Ok(None)) {
        return;
    }
    let mut state = STATE.lock();
    let mut left = None;
    if state.epoch.is_stale() {
        // A forked child: the thread, and the children, stayed in the parent.
        let fresh = State {
            epoch: Epoch::current(),
            bell: None,
            new: Vec::new(),
        };
        left = Some(std::mem::replace(&mut *state, fresh));
    }
    state.new.push(life.clone());
    match &mut state.bell {
        // Full: it is awake, or will be.
        Some(bell) => drop(bell.write(&[0])),
        // If that fails, the next orphan tries again.
        None => state.bell = start().ok(),
    }
    drop(state);
    drop(left);
}

fn start() -> io::Result<PipeWriter> {
    let (heard, bell) = io::pipe()?;
    set_nonblocking(heard.as_fd())?;
    set_nonblocking(bell.as_fd())?;
    let thread = std::thread::Builder::new().name("sward-reaper".into());
    crate::thread::start(thread, move || run(heard))?;
    Ok(bell)
}

fn run(mut heard: PipeReader) {
    let mut orphans: Vec<Arc<Life>> = Vec::new();
    loop {
        let mut state = STATE.lock();
        orphans.append(&mut state.new);
        if orphans.is_empty() {
            let bell = state.bell.take();
            drop(state);
            drop(bell);
            return;
        }
        drop(state);
        let listen = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let pidfds = orphans.iter().map(|life| listen(life.pidfd().as_raw_fd()));
        let mut fds: Vec<_> = pidfds.chain([listen(heard.as_raw_fd())]).collect();
        match sys::poll(&mut fds, -1) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                // No memory for so many: look at all of them now and then.
                let _ = sys::poll(&mut [], 100);
            }
            _ => {}
        }
        while matches!(heard.read(&mut [0; 64]), Ok(1..)) {}
        orphans.retain(|life| matches!(life.try_wait(), Ok(None)));
    }
}
