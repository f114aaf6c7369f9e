//! [`Serving`]: a server that runs, seen from outside.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::panicking;
use std::time::{Duration, Instant};

use sward_runtime::{defer, now};

use super::core::{Core, End, Watching};

/// A server that runs, by [`StreamServer::start`](super::StreamServer::start) or
/// [`DatagramServer::start`](super::DatagramServer::start): what can be asked of it, and its end.
///
/// A clone is the same server. Dropping the last one lets the server go on, as dropping a
/// `JoinHandle` lets its thread; it then ends with its runtime.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use sward_net::{TcpStream, server::StreamServer};
/// use sward_runtime::signal::{SIGINT, SIGTERM, on_any};
///
/// let signals = on_any(&[SIGINT, SIGTERM])?;
/// let serving = StreamServer::bind("127.0.0.1:1234")?.start(|_: TcpStream, _| ())?;
/// signals.recv()?;
/// let stopped = serving.stop(Duration::from_secs(10));
/// println!("{} finished, {} killed", stopped.finished, stopped.killed);
/// # std::io::Result::Ok(())
/// ```
pub struct Serving<A> {
    core: Arc<Core>,
    local: A,
}

/// How [`Serving::stop`] ended the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Handlers that ended by themselves since the call, well or not.
    pub finished: u64,
    /// Handlers that were killed.
    pub killed: u64,
    /// Handlers that still run: the caller, if it is one, and others that call `stop` themselves;
    /// all of them, if the caller unwinds.
    pub running: usize,
}

/// What a server has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that were accepted (datagrams that were given to a handler).
    pub accepted: u64,
    /// Those whose handlers run.
    pub active: usize,
    /// Those whose handlers returned without an error.
    pub finished: u64,
    /// Those whose handlers returned an error.
    pub failed: u64,
    /// Those whose handlers panicked.
    pub panicked: u64,
    /// Those whose handlers were killed.
    pub killed: u64,
    /// How often there was no descriptor, memory or stack for a connection.
    pub exhausted: u64,
    /// Connections that went away before they were accepted, and other errors of `accept`.
    pub lost: u64,
    /// Datagrams that were dropped because as many handlers ran as may.
    pub dropped: u64,
}

impl<A> Serving<A> {
    pub(super) fn new(core: Arc<Core>, local: A) -> Self {
        Self { core, local }
    }

    /// Returns the number of connections whose handlers run.
    pub fn connections(&self) -> usize {
        self.core.active()
    }

    /// Returns what the server has done so far.
    pub fn stats(&self) -> ServerStats {
        let counts = &self.core.counts;
        ServerStats {
            accepted: counts.accepted.load(SeqCst),
            active: self.core.active(),
            finished: self.core.ended(End::Finished),
            failed: self.core.ended(End::Failed),
            panicked: self.core.ended(End::Panicked),
            killed: self.core.ended(End::Killed),
            exhausted: counts.exhausted.load(SeqCst),
            lost: counts.lost.load(SeqCst),
            dropped: counts.dropped.load(SeqCst),
        }
    }

    /// Pauses: connections wait in the kernel (as many as the listener's backlog has room for)
    /// until [`start_accepting`](Self::start_accepting). Handlers go on.
    ///
    /// # Blocking
    /// Never parks. A handler may begin at this moment, and none later.
    pub fn stop_accepting(&self) {
        self.core.pause();
    }

    /// Ends a pause. On a server that has been stopped it does nothing.
    ///
    /// # Blocking
    /// Never parks.
    pub fn start_accepting(&self) {
        self.core.resume();
    }

    /// Waits for the server's end: somebody has stopped it and its last handler has ended, or its
    /// listener failed. In that case the handlers go on; [`stop`](Self::stop) ends them.
    ///
    /// # Errors
    /// What made the listener useless (`EBADF`, `EINVAL`, `ENOTSOCK`); when the runtime ended under
    /// the server. Each call returns it.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Event`](sward_runtime::WaitKind::Event); honours kill and `timeout`.
    /// In a task that unwinds it does not wait.
    ///
    /// # Panics
    /// In a handler of this server: it would wait for itself.
    pub fn join(&self) -> io::Result<()> {
        let core = &*self.core;
        assert!(
            core.member().is_none() && !core.is_acceptor(),
            "sward: a handler joins its own server, which ends after all handlers: that would be \
             for ever; stop may be called in a handler"
        );
        let over = |core: &Core| core.is_gone() && (core.fatal().is_some() || core.active() == 0);
        Watching::new(core, None).until(None, over);
        match core.fatal() {
            Some(e) => Err(io::Error::new(e.kind(), e)),
            None if panicking() => Ok(()),
            None => {
                core.handlers.join();
                Ok(())
            }
        }
    }

    /// Ends the server: refuses new connections at once, lets the handlers run for `grace`, then
    /// kills those that are left, and waits until all have ended. A second call does the same, for
    /// those that are left then.
    ///
    /// A killed handler is unwound at its next park. One that never parks, or holds its kill back,
    /// is waited for; put a `timeout` around the call where that may be.
    ///
    /// In a handler of this server, it ends all others and returns; so any handler may stop the
    /// server. In a task that unwinds nothing waits: a new task does the rest.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Event`](sward_runtime::WaitKind::Event); honours kill and `timeout`.
    ///
    /// # Cancel safety
    /// Killed or timed out, the server refuses connections, and handlers go on that were not killed
    /// yet.
    pub fn stop(&self, grace: Duration) -> Stopped {
        let deadline = now().checked_add(grace);
        // Before handlers hear of it.
        let before = Ends::of(&self.core);
        self.core.close();
        if !panicking() {
            return stop(&self.core, before, deadline);
        }
        let core = self.core.clone();
        defer(move || {
            stop(&core, before, deadline);
        });
        Stopped {
            running: self.core.active(),
            ..Stopped::default()
        }
    }

    /// Ends the server without a wait, as a destructor must: refuses connections from now on, and
    /// asks all handlers to end. [`join`](Self::join) waits for them.
    ///
    /// # Blocking
    /// Never parks.
    pub fn kill(&self) {
        self.core.close();
        self.core.handlers.kill();
    }
}

/// How many handlers have ended so far: by themselves, and killed.
struct Ends {
    finished: u64,
    killed: u64,
}

impl Ends {
    fn of(core: &Core) -> Self {
        let by_themselves = [End::Finished, End::Failed, End::Panicked];
        Self {
            finished: by_themselves.into_iter().map(|end| core.ended(end)).sum(),
            killed: core.ended(End::Killed),
        }
    }
}

/// The rest of a stop, when the listener is closed.
fn stop(core: &Core, before: Ends, deadline: Option<Instant>) -> Stopped {
    let me = core.member();
    let is_acceptor = core.is_acceptor();
    let accepts_no_more = |core: &Core| is_acceptor || core.is_gone();
    let exempt = |core: &Core| match me.is_some() || is_acceptor {
        true => core.stoppers(),
        false => Vec::new(),
    };
    // The acceptor may be in a handler's call itself.
    let mine = usize::from(is_acceptor && core.inline.load(SeqCst));
    let over = |core: &Core| accepts_no_more(core) && core.active() <= exempt(core).len() + mine;

    let watching = Watching::new(core, me);
    if !watching.until(deadline, over) {
        if !is_acceptor {
            core.kill_acceptor();
        }
        watching.until(None, accepts_no_more);
        let exempt = exempt(core);
        for task in core.handlers.tasks() {
            if !exempt.contains(&task.id()) {
                task.kill();
            }
        }
        watching.until(None, over);
    }
    drop(watching);
    if me.is_none() && !is_acceptor {
        core.handlers.join();
    }
    let now = Ends::of(core);
    Stopped {
        finished: now.finished.saturating_sub(before.finished),
        killed: now.killed.saturating_sub(before.killed),
        running: core.active(),
    }
}

impl<A: Clone> Serving<A> {
    /// The address that it listens on; with the port that was found for port 0.
    pub fn local_addr(&self) -> A {
        self.local.clone()
    }
}

impl<A: Clone> Clone for Serving<A> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            local: self.local.clone(),
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for Serving<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("on", &self.local)
            .field("connections", &self.connections())
            .field("ended", &self.core.is_gone())
            .finish_non_exhaustive()
    }
}
