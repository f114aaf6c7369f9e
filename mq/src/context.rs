//! [`Context`]: what sockets that know each other's names have in common.

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use sward_runtime::__private::Epoch;
use sward_runtime::sync::Lines;
use sward_runtime::{WaitKind, WaitReason};
use sward_zmtp::SocketType;

use crate::error::Error;
use crate::exit;
use crate::names::Names;
use crate::options::Options;
use crate::socket::core::SocketCore;

/// Sockets of one context unless it is told otherwise.
const MAX_SOCKETS: usize = 65_535;

pub(crate) struct ContextCore {
    sockets: Lines<Sockets, 1>,
    max: AtomicUsize,
    terminated: AtomicBool,
    /// Messages that were dropped because linger times were over.
    lost: AtomicUsize,
    /// The process that made it.
    pub(crate) epoch: Epoch,
    pub(crate) inproc: Names,
}

#[derive(Default)]
struct Sockets {
    all: HashMap<u64, Weak<SocketCore>>,
    /// Closed, and still sending: nobody else keeps them.
    leaving: HashMap<u64, Arc<SocketCore>>,
}

/// Where those wait who wait for the end of sockets.
const ENDED: usize = 0;

/// Sockets that know each other's `inproc` names, and end together (`zmq_ctx_t`).
///
/// Most programs need none: sockets that are made without one belong to the process's own.
/// A clone is the same context.
///
/// # Examples
/// ```
/// use sward_mq::{Context, SocketType};
/// let context = Context::new();
/// let pull = context.socket(SocketType::Pull)?;
/// pull.bind("inproc://jobs")?;
/// let push = context.socket(SocketType::Push)?;
/// push.connect("inproc://jobs")?;
/// push.send("green")?;
/// assert_eq!(pull.recv()?.first(), "green");
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[derive(Clone)]
pub struct Context {
    core: Arc<ContextCore>,
}

impl Context {
    /// Returns a new one, without sockets.
    pub fn new() -> Self {
        let core = Arc::new(ContextCore {
            sockets: Lines::new(Sockets::default()),
            max: AtomicUsize::new(MAX_SOCKETS),
            terminated: AtomicBool::new(false),
            lost: AtomicUsize::new(0),
            epoch: Epoch::current(),
            inproc: Names::default(),
        });
        exit::watch(&core);
        Self { core }
    }

    /// Returns that of the process, to which sockets belong that are made without one.
    pub fn global() -> Self {
        static GLOBAL: OnceLock<Context> = OnceLock::new();
        GLOBAL.get_or_init(Self::new).clone()
    }

    pub(crate) fn of(core: Arc<ContextCore>) -> Self {
        Self { core }
    }

    pub(crate) fn make(
        &self,
        kind: SocketType,
        options: Options,
    ) -> Result<Arc<SocketCore>, Error> {
        options.check()?;
        if self.core.epoch.is_stale() {
            return Err(Error::forked());
        }
        if self.core.terminated.load(SeqCst) {
            return Err(Error::Terminated);
        }
        let max = self.core.max.load(Relaxed);
        let socket = SocketCore::new(self.core.clone(), kind, options);
        let mut sockets = self.core.sockets.lock();
        if sockets.all.len() >= max {
            drop(sockets);
            return Err(Error::TooManySockets(max));
        }
        sockets.all.insert(socket.id, Arc::downgrade(&socket));
        drop(sockets);
        // After the list has it: either this sees it, or `shutdown` sees the socket.
        if self.core.terminated.load(SeqCst) {
            socket.close(Error::Terminated);
            return Err(Error::Terminated);
        }
        Ok(socket)
    }

    /// Sets how many sockets there may be (`ZMQ_MAX_SOCKETS`); 65,535 to begin with.
    pub fn set_max_sockets(&self, max: usize) {
        self.core.max.store(max, Relaxed);
    }

    /// Ends all sockets: calls that wait, and later ones, fail with [`Error::Terminated`]
    /// (`zmq_ctx_shutdown`). What they have to send goes on being sent, each for its linger time. No
    /// more sockets can be made.
    ///
    /// # Blocking
    /// Never parks.
    pub fn shutdown(&self) {
        // In a forked child all of it is the parent's.
        if self.core.epoch.is_stale() {
            return;
        }
        self.core.terminated.store(true, SeqCst);
        for socket in self.core.all() {
            socket.close(Error::Terminated);
        }
    }

    /// Ends all sockets, and waits until they have sent what they had to, each for its linger time
    /// and all for `limit` at most (`zmq_ctx_term`, which has no limit). Returns the number of
    /// messages that were dropped meanwhile because that time was over.
    ///
    /// # Blocking
    /// Parks; honours kill and `timeout`.
    ///
    /// # Cancel safety
    /// Killed or timed out, it has ended the sockets, as [`shutdown`](Self::shutdown) does.
    pub fn term(&self, limit: Duration) -> usize {
        let before = self.core.lost.load(Relaxed);
        self.shutdown();
        if self.core.epoch.is_stale() {
            return 0;
        }
        if let Some(deadline) = Instant::now().checked_add(limit) {
            self.core.wait_until(deadline);
        } else {
            self.core.wait(None);
        }
        self.core.give_up();
        self.core.lost.load(Relaxed) - before
    }
}

impl ContextCore {
    fn all(&self) -> Vec<Arc<SocketCore>> {
        let sockets = self.sockets.lock();
        sockets.all.values().filter_map(Weak::upgrade).collect()
    }

    fn leaving(&self) -> Vec<Arc<SocketCore>> {
        self.sockets.lock().leaving.values().cloned().collect()
    }

    /// A closed socket that has something to send; it is kept until it is forgotten.
    pub(crate) fn keep(&self, socket: Arc<SocketCore>) {
        self.sockets.lock().leaving.insert(socket.id, socket);
    }

    /// A socket has ended and sent everything.
    pub(crate) fn forget(&self, id: u64) {
        let mut sockets = self.sockets.lock();
        sockets.all.remove(&id);
        let kept = sockets.leaving.remove(&id);
        sockets.held().wake_all(ENDED);
        drop(sockets);
        drop(kept);
    }

    /// Counts messages that were dropped because their time was over.
    pub(crate) fn lost(&self, messages: usize) {
        self.lost.fetch_add(messages, Relaxed);
    }

    fn wait(&self, deadline: Option<Instant>) {
        let reason = WaitReason::new(WaitKind::Other("end of zmq sockets"), 0);
        // Waited in vain: what is left is given up.
        let _ = self.sockets.wait::<ENDED, _>(
            reason,
            || deadline,
            |sockets| sockets.leaving.is_empty().then_some(()),
        );
    }

    /// Waits until nothing is left to send, or until then.
    pub(crate) fn wait_until(&self, deadline: Instant) {
        self.wait(Some(deadline));
    }

    /// Gives up what is still not sent.
    pub(crate) fn give_up(&self) {
        for socket in self.leaving() {
            socket.give_up(None);
        }
    }

    /// The process ends: see `exit.rs`.
    pub(crate) fn close_for_exit(&self, cap: Duration) {
        self.terminated.store(true, SeqCst);
        for socket in self.all() {
            socket.close_for_exit(cap);
        }
    }

    /// Whether something is left to send.
    pub(crate) fn has_leavers(&self) -> bool {
        !self.sockets.lock().leaving.is_empty()
    }

    /// When the last linger time is over.
    pub(crate) fn latest(&self) -> Option<Instant> {
        self.leaving()
            .iter()
            .filter_map(|socket| socket.latest())
            .max()
    }

    /// Goes on from the caller's worker with all that is left to send.
    pub(crate) fn move_here(&self) {
        for socket in self.leaving() {
            socket.move_here();
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("sockets", &self.core.sockets.lock().all.len())
            .finish()
    }
}
