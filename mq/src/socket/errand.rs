//! What tasks do for a socket, its *errands*: each accepts for one end, or dials once for one, and
//! goes on in the default runtime if its own ends before that is done.
//!
//! A dialer's errand has a number: one that has been overtaken by another, or by a disconnect, finds
//! that out under the lock and does nothing.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sward_runtime::sync::{Held, WaitError};
use sward_runtime::{Builder, Task};

use super::core::{SocketCore, State, WATCHERS};
use super::ends::{Stage, transport_of};
use crate::elsewhere;
use crate::event::EventKind;
use crate::loss::Loss;
use crate::session::{End, Role, Session};

/// After how long an acceptor tries again that found no descriptor.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// For how long a handshake is safe from those who wait for its place.
const HANDSHAKE: Duration = Duration::from_secs(1);
const SLOW: &str = "its handshake took long, and others waited for its place (max_handshakes)";

impl SocketCore {
    /// Starts the dialer's task, which waits first; one that is under way ends.
    pub(super) fn dial_in(&self, id: u64, wait: Duration) {
        let mut guard = self.lines.lock();
        let Some(dialer) = guard.ends.dialers.get_mut(&id) else {
            return;
        };
        dialer.errand += 1;
        dialer.stage = Stage::Dialling;
        let errand = dialer.errand;
        let before = dialer.task.take();
        drop(guard);
        if let Some(task) = before {
            task.kill();
        }
        let begun = Errand::Dial(id, errand, wait).begin(&self.me);
        let mut guard = self.lines.lock();
        let dialer = guard.ends.dialers.get_mut(&id);
        let dialer = dialer.filter(|dialer| dialer.is_on(errand));
        match (begun, dialer) {
            (Ok(task), Some(dialer)) => dialer.task = Some(task),
            (Ok(task), None) => {
                drop(guard);
                // Disconnected meanwhile, or done with already: then this is in vain.
                task.kill();
            }
            (Err(e), dialer) => {
                let endpoint = dialer.map(|dialer| {
                    dialer.stage = Stage::Stopped;
                    dialer.endpoint.clone()
                });
                drop(guard);
                if let Some(endpoint) = endpoint {
                    self.tell(&endpoint, || EventKind::Closed(Some(Arc::new(e))));
                }
                self.stopped(id);
            }
        }
    }

    /// A dialer got no stream, or lost it: again, unless the options say otherwise.
    pub(super) fn dial_again(&self, id: u64) {
        let mut guard = self.lines.lock();
        let Some(dialer) = guard.ends.dialers.get_mut(&id) else {
            return;
        };
        dialer.task = None;
        let Some(wait) = dialer.backoff.next_pause() else {
            drop(guard);
            self.stopped(id);
            return;
        };
        let endpoint = dialer.endpoint.clone();
        drop(guard);
        self.tell(&endpoint, || EventKind::ConnectRetried { pause: wait });
        self.dial_in(id, wait);
    }

    /// A dialer will not try again.
    pub(super) fn stopped(&self, id: u64) {
        let mut guard = self.lines.lock();
        let Some(dialer) = guard.ends.dialers.get_mut(&id) else {
            return;
        };
        dialer.task = None;
        dialer.stage = Stage::Stopped;
        let session = dialer.session.clone();
        drop(guard);
        self.left(&session, Loss::PeerLost);
    }

    /// Waits until another handshake of an acceptor may begin. One that has had its second makes way
    /// for it: so connections that say nothing keep nobody out, and many that come at once wait.
    /// `false`: it does not accept any more.
    pub(super) fn wait_for_turn(&self, id: u64) -> bool {
        let oldest = Cell::new(None);
        let turn = |held: &mut Held<'_, State, 3>| {
            let Some(acceptor) = held.ends.acceptors.get(&id) else {
                return Some(false);
            };
            let max = acceptor.options.max_handshakes.max(1);
            if held.pending.len() < max {
                return Some(true);
            }
            let of_it =
                |(session, _): &&(Arc<Session>, Instant)| session.role == Role::Accepted(id);
            let pending = || held.pending.values().filter(of_it);
            if pending().count() < max {
                return Some(true);
            }
            let first = pending().min_by_key(|(_, since)| *since);
            oldest.set(first.map(|(session, since)| (session.clone(), *since + HANDSHAKE)));
            None
        };
        let at = || {
            let first = oldest.take();
            let at = first.as_ref().map(|(_, at)| *at);
            oldest.set(first);
            at
        };
        loop {
            let waited = self
                .lines
                .wait::<WATCHERS, _>(self.reason(WATCHERS), at, turn);
            match waited {
                Ok(turn) => return turn,
                Err(WaitError::TimedOut) => {
                    if let Some((session, _)) = oldest.take() {
                        self.lines
                            .lock()
                            .pending
                            .remove(&Arc::as_ptr(&session).addr());
                        session.end(End::Unwanted(SLOW));
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    /// Accepts for that end.
    Accept(u64),
    /// Dials for that end, unless it has another number by then; after a pause.
    Dial(u64, u32, Duration),
    /// Sees to it that linger times are kept.
    Linger,
}

/// Does it. If its runtime ends before that is done, it goes on in the default one.
struct Runner {
    core: Weak<SocketCore>,
    errand: Errand,
    /// It was begun, and is not done.
    open: Arc<AtomicBool>,
}

impl Errand {
    /// Begins it in a task of the caller's worker.
    pub(super) fn begin(self, core: &Weak<SocketCore>) -> io::Result<Task> {
        let mut builder = Builder::new().name(match self {
            Self::Accept(_) => "zmq accept",
            Self::Dial(..) => "zmq connect",
            Self::Linger => "zmq linger",
        });
        // Where the socket is used: a message then needs no other worker.
        if let Some(worker) = sward_runtime::worker() {
            builder = builder.on_worker(worker);
        }
        let open = Arc::new(AtomicBool::new(false));
        let runner = Runner {
            core: core.clone(),
            errand: self,
            open: open.clone(),
        };
        let task = builder.spawn(move || runner.run())?.task();
        // One that is done by now keeps it: nothing looks at it any more.
        open.store(true, Relaxed);
        Ok(task)
    }
}

impl Runner {
    fn run(self) {
        self.open.store(true, Relaxed);
        match self.errand {
            Errand::Accept(id) => accept(&self.core, id),
            Errand::Dial(id, errand, wait) => dial(&self.core, id, errand, wait),
            Errand::Linger => {
                if let Some(core) = self.core.upgrade() {
                    core.keep_linger_times();
                }
            }
        }
        self.open.store(false, Relaxed);
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if !self.open.load(Relaxed) {
            return;
        }
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let errand = self.errand;
        let guard = core.lines.lock();
        let wanted = match errand {
            Errand::Accept(id) => guard.ends.acceptors.contains_key(&id),
            Errand::Dial(id, errand, _) => {
                let dialer = guard.ends.dialers.get(&id);
                dialer.is_some_and(|dialer| dialer.is_on(errand))
            }
            Errand::Linger => guard.leaving.earliest().is_some(),
        };
        drop(guard);
        if wanted {
            elsewhere::run(move || match errand {
                Errand::Dial(id, ..) => core.dial_in(id, Duration::ZERO),
                errand => {
                    if errand.begin(&core.me).is_err() && matches!(errand, Errand::Linger) {
                        core.give_up(None);
                    }
                }
            });
        }
    }
}

/// Accepts until the listener is closed.
fn accept(core: &Weak<SocketCore>, id: u64) {
    let find = |core: Arc<SocketCore>| {
        let guard = core.lines.lock();
        Some(guard.ends.acceptors.get(&id)?.listening.clone())
    };
    let Some(listening) = core.upgrade().and_then(find) else {
        return;
    };
    loop {
        match listening.accept() {
            Ok(link) => {
                let Some(core) = core.upgrade() else { return };
                core.accepted(id, link);
                if !core.wait_for_turn(id) {
                    return;
                }
            }
            Err(e) if sward_runtime::io::is_closed(&e) => return,
            Err(e) => {
                let Some(core) = core.upgrade() else { return };
                let exhausted = sward_runtime::io::is_exhausted(&e);
                let endpoint = listening.endpoint();
                core.tell(&endpoint, || EventKind::AcceptFailed(Arc::new(e)));
                drop(core);
                if exhausted {
                    sward_runtime::sleep(EXHAUSTED);
                }
            }
        }
    }
}

/// Dials once.
fn dial(core: &Weak<SocketCore>, id: u64, errand: u32, wait: Duration) {
    if !wait.is_zero() {
        sward_runtime::sleep(wait);
    }
    let Some((endpoint, options, session)) = core.upgrade().and_then(|core| {
        let guard = core.lines.lock();
        let dialer = guard.ends.dialers.get(&id).filter(|d| d.is_on(errand))?;
        Some((
            dialer.endpoint.clone(),
            dialer.options.clone(),
            dialer.session.clone(),
        ))
    }) else {
        return;
    };
    let Ok(transport) = transport_of(&endpoint) else {
        return;
    };
    let dialled = transport.dial(&endpoint, &options);
    let Some(core) = core.upgrade() else { return };
    {
        let mut guard = core.lines.lock();
        let dialer = guard.ends.dialers.get_mut(&id);
        let Some(dialer) = dialer.filter(|dialer| dialer.is_on(errand)) else {
            return;
        };
        // From here on nobody kills this task, which is about to end, or begins another.
        dialer.task = None;
        dialer.stage = Stage::Linked;
    }
    let established = dialled.and_then(|link| {
        core.tell_of(&endpoint, &link.local, &link.remote, || {
            EventKind::Connected
        });
        session.establish(link)
    });
    if let Err(e) = established {
        let refused = e.kind() == io::ErrorKind::ConnectionRefused;
        core.tell(&endpoint, || EventKind::Closed(Some(Arc::new(e))));
        if refused && options.reconnect_stop.refused {
            core.stopped(id);
        } else {
            core.dial_again(id);
        }
    }
}
