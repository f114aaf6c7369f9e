//! The end of a socket, and of single connections of it: nothing more is accepted or received; what
//! was sent goes on being sent in the background until the linger time is over; what is lost then is
//! counted and told.
//!
//! Nouns: a *leaver* is a session that has no place in its socket any more and still sends. The
//! *linger time* begins with the close, or with the disconnect or unbind. One task, and only while
//! there are leavers with a limit, keeps the times of a socket.
//!
//! ```text
//! open -> closed, no leavers ------------------------------------> gone
//!           \-> leavers, kept by the context -- all sent ---------> gone
//!                                \-- linger time over: lost, told --> gone
//! ```
//!
//! Invariants
//! - A session is a leaver until it has sent everything, cannot any more, or its time is over; who
//!   takes it out counts what is lost.
//! - A closed socket with leavers is kept by its context, which forgets it when it is gone.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sward_runtime::sync::{Held, LinesGuard, WaitError};

use super::core::{READERS, SocketCore, State, WATCHERS, WRITERS};
use super::errand::Errand;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::exit;
use crate::loss::Loss;
use crate::pattern::Refusal;
use crate::pipe::Slot;
use crate::session::{End, Place, Role, Session};

/// How long what is left may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// Not at all.
    Now,
    /// Until then; `None`: without a limit.
    Then(Option<Instant>),
}

impl Until {
    /// From now on, for so long.
    pub(super) fn of(linger: Option<Duration>) -> Self {
        match linger {
            Some(Duration::ZERO) => Self::Now,
            Some(linger) => Self::Then(Instant::now().checked_add(linger)),
            None => Self::Then(None),
        }
    }
}

/// A session that still sends.
struct Leaver {
    session: Arc<Session>,
    endpoint: String,
    deadline: Option<Instant>,
}

/// The leavers of a socket.
#[derive(Default)]
pub(crate) struct Leaving {
    sessions: HashMap<usize, Leaver>,
    /// Something was sent to an `inproc` name that nobody has bound yet; and its deadline.
    named: Option<Option<Instant>>,
    /// A task keeps the times.
    timed: bool,
    /// The context has been told.
    gone: bool,
    /// The process is about to end: who waits is not disturbed any more.
    pub(super) exiting: bool,
}

fn key(session: &Arc<Session>) -> usize {
    Arc::as_ptr(session).addr()
}

impl Leaving {
    pub(super) fn has(&self, session: &Arc<Session>) -> bool {
        self.sessions.contains_key(&key(session))
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values().map(|leaver| &leaver.session)
    }

    /// When the next linger time is over.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.deadlines().min()
    }

    fn latest(&self) -> Option<Instant> {
        self.deadlines().max()
    }

    fn is_done(&self) -> bool {
        self.sessions.is_empty() && self.named.is_none()
    }

    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let sessions = self.sessions.values().map(|leaver| leaver.deadline);
        sessions.chain(self.named).flatten()
    }
}

impl State {
    /// Lets a pipe go, of which what is left to send is still sent. Returns how much is lost at once.
    pub(super) fn let_go(&mut self, slot: Slot, endpoint: &str, until: Until) -> usize {
        self.pattern.hand_over(&mut self.pipes);
        let Some(entry) = self.pipes.get_mut(slot) else {
            return 0;
        };
        let leaver = entry.pipe.linger();
        let Some(session) = leaver.and_then(|leaver| leaver.downcast::<Session>().ok()) else {
            return 0;
        };
        let deadline = match until {
            Until::Then(deadline) => deadline,
            Until::Now => {
                session.end(End::Asked);
                return session.discard();
            }
        };
        let leaver = Leaver {
            session: session.clone(),
            endpoint: endpoint.to_owned(),
            deadline,
        };
        self.leaving.sessions.insert(key(&session), leaver);
        0
    }

    /// Frees the slot of a pipe that was let go.
    pub(super) fn end_and_detach(&mut self, slot: Slot) {
        let Some(generation) = self.pipes.get_mut(slot).map(|entry| entry.generation) else {
            return;
        };
        SocketCore::ended(self, Place { slot, generation });
        self.detach(slot);
    }
}

impl SocketCore {
    /// Ends the socket; `why` is what its operations say from now on. What is left to send is sent
    /// in the background.
    pub(crate) fn close(&self, why: Error) {
        self.end(why, None);
    }

    /// As [`close`](Self::close), because the process is about to end: nobody is told, and what may
    /// linger for ever lingers for `cap`.
    pub(crate) fn close_for_exit(&self, cap: Duration) {
        self.end(Error::Terminated, Some(cap));
    }

    fn end(&self, why: Error, exit: Option<Duration>) {
        // In a forked child the connections are the parent's.
        if self.epoch.is_stale() {
            return;
        }
        let mut guard = self.lines.lock();
        if let Some(cap) = exit {
            guard.leaving.exiting = true;
            let latest = Instant::now().checked_add(cap);
            for leaver in guard.leaving.sessions.values_mut() {
                leaver.deadline = leaver.deadline.or(latest);
            }
            // Nobody will bind it.
            if let Some(at) = &mut guard.leaving.named {
                *at = Some(Instant::now());
            }
        }
        if guard.closed.is_some() {
            return;
        }
        guard.closed = Some(why);
        let state = &mut *guard;
        let until = Until::of(state.options.linger.or(exit));
        let acceptors = std::mem::take(&mut state.ends.acceptors);
        let pending = std::mem::take(&mut state.pending);
        let bound = std::mem::take(&mut state.ends.inproc);
        let dialled = state.ends.dialers.values();
        let names: HashMap<Slot, (String, bool)> = dialled
            .filter_map(|d| Some((d.place?.slot, (d.endpoint.to_string(), d.is_stopped()))))
            .collect();
        let slots: Vec<Slot> = state.pipes.iter().map(|(slot, _)| slot).collect();
        let mut dropped = Vec::new();
        for slot in slots {
            let peer = state.pipes[slot].peer.as_ref();
            let named = names.get(&slot).map(|(name, _)| name.clone());
            let endpoint = named.or_else(|| peer.map(|peer| peer.endpoint.to_string()));
            let endpoint = endpoint.unwrap_or_default();
            // Nobody will ever take it.
            let vain = names.get(&slot).is_some_and(|(_, stopped)| *stopped);
            let until = if vain { Until::Now } else { until };
            let lost = state.let_go(slot, &endpoint, until);
            dropped.push((endpoint, lost));
        }
        // Within the process: what was sent to a name that nobody has yet.
        let all = matches!(until, Until::Now) || exit.is_some();
        let (lost, waits) = self.context.inproc.forget(self.id, all);
        dropped.push((String::new(), lost));
        if let (true, Until::Then(deadline)) = (waits, until) {
            state.leaving.named = Some(deadline);
        }
        let leaving = &state.leaving;
        let stopped = state
            .ends
            .dialers
            .extract_if(|_, dialer| !leaving.has(&dialer.session));
        let stopped: Vec<_> = stopped.map(|(_, dialer)| dialer).collect();
        if !state.leaving.is_done()
            && let Some(me) = self.me.upgrade()
        {
            self.context.keep(me);
        }
        if !state.leaving.exiting {
            let mut held = guard.held();
            for line in [READERS, WRITERS, WATCHERS] {
                held.wake_all(line);
            }
        }
        let asking: Vec<_> = guard.requests.values().cloned().collect();
        self.leave(guard);
        asking.iter().for_each(|event| event.set());
        for acceptor in acceptors.into_values() {
            acceptor.close();
        }
        for (session, _) in pending.into_values() {
            session.end(End::Asked);
        }
        for dialer in stopped {
            dialer.stop();
        }
        for (id, endpoint, place) in bound {
            if place.is_none() {
                self.context.inproc.unbind(&endpoint, self.id, id);
            }
        }
        for (endpoint, lost) in dropped {
            self.count_at(Loss::Linger, lost, &endpoint);
        }
        self.after(true);
        self.if_gone();
    }

    /// After some pipes were let go: their times are kept from now on.
    pub(super) fn leave(&self, mut guard: LinesGuard<'_, State, 3>) {
        let begin = !guard.leaving.timed && guard.leaving.earliest().is_some();
        guard.leaving.timed |= begin;
        if !guard.leaving.exiting {
            guard.held().wake_all(WATCHERS);
        }
        drop(guard);
        if begin {
            self.begin_linger();
        }
    }

    fn begin_linger(&self) {
        if Errand::Linger.begin(&self.me).is_err() {
            self.lines.lock().leaving.timed = false;
            // No task to be had: what is queued is lost now, and said to be.
            self.give_up(None);
        }
    }

    /// Goes on from the caller's worker with all that is left to do.
    pub(crate) fn move_here(&self) {
        let mut guard = self.lines.lock();
        // Another one may wait where it is never called.
        let begin = guard.leaving.earliest().is_some();
        guard.leaving.timed |= begin;
        drop(guard);
        self.move_ends_here();
        if begin {
            self.begin_linger();
        }
    }

    /// When its last linger time is over.
    pub(crate) fn latest(&self) -> Option<Instant> {
        self.lines.lock().leaving.latest()
    }

    /// Waits until all linger times are over, or have become needless.
    pub(super) fn keep_linger_times(&self) {
        let next = Cell::new(None);
        let none_left = |held: &mut Held<'_, State, 3>| {
            next.set(held.leaving.earliest());
            held.leaving.timed = next.get().is_some();
            (!held.leaving.timed).then_some(())
        };
        let wait = || {
            self.lines
                .wait::<WATCHERS, _>(self.reason(WATCHERS), || next.get(), none_left)
        };
        while wait() == Err(WaitError::TimedOut) {
            self.give_up(Some(Instant::now()));
        }
    }

    /// The linger time of those is over whose deadline has come; `None`: of all.
    pub(crate) fn give_up(&self, now: Option<Instant>) {
        let mut guard = self.lines.lock();
        let due = |leaver: &Leaver| match (now, leaver.deadline) {
            (Some(now), Some(deadline)) => deadline <= now,
            (now, _) => now.is_none(),
        };
        let due = guard.leaving.sessions.extract_if(|_, leaver| due(leaver));
        let due: Vec<_> = due.map(|(_, leaver)| leaver).collect();
        let mut dialers = Vec::new();
        for leaver in &due {
            if let Role::Dialled(id) = leaver.session.role {
                dialers.extend(guard.ends.dialers.remove(&id));
            }
        }
        let exiting = guard.leaving.exiting;
        let named = guard.leaving.named;
        let named = named.is_some_and(|at| now.is_none_or(|now| at.is_some_and(|at| at <= now)));
        if named {
            guard.leaving.named = None;
        }
        if !exiting {
            guard.held().wake_all(WATCHERS);
        }
        drop(guard);
        let mut dropped = HashMap::new();
        if named {
            let (lost, _) = self.context.inproc.forget(self.id, true);
            dropped.insert("inproc names that nobody bound".to_owned(), lost);
        }
        for leaver in due {
            let lost = leaver.session.discard();
            leaver.session.end(End::Asked);
            *dropped.entry(leaver.endpoint).or_insert(0) += lost;
        }
        for dialer in dialers {
            dialer.stop();
        }
        for (endpoint, lost) in &dropped {
            self.count_at(Loss::Linger, *lost, endpoint);
        }
        exit::report(self.kind, dropped, exiting);
        self.if_gone();
    }

    /// Somebody has bound an `inproc` name; perhaps it was the last that this one waited for.
    pub(super) fn names_found(&self) {
        let mut guard = self.lines.lock();
        if guard.leaving.named.is_none() || self.context.inproc.waits(self.id) {
            return;
        }
        guard.leaving.named = None;
        if !guard.leaving.exiting {
            guard.held().wake_all(WATCHERS);
        }
        drop(guard);
        self.if_gone();
    }

    /// A session has nothing more to send, or cannot send it. No leaver: nothing.
    pub(super) fn left(&self, session: &Arc<Session>, loss: Loss) {
        let mut guard = self.lines.lock();
        let Some(leaver) = guard.leaving.sessions.remove(&key(session)) else {
            return;
        };
        let dialer = match session.role {
            Role::Dialled(id) => guard.ends.dialers.remove(&id),
            Role::Accepted(_) => None,
        };
        if !guard.leaving.exiting {
            guard.held().wake_all(WATCHERS);
        }
        drop(guard);
        let lost = session.discard();
        if let Some(dialer) = dialer {
            dialer.stop();
        }
        self.count_at(loss, lost, &leaver.endpoint);
        self.if_gone();
    }

    /// Ends it for good, once it is closed and nothing is left to send.
    fn if_gone(&self) {
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        let done = state.closed.is_some() && state.leaving.is_done();
        if !done || std::mem::replace(&mut state.leaving.gone, true) {
            return;
        }
        if !state.leaving.exiting {
            let slots: Vec<_> = state.pipes.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                state.detach(slot);
            }
        }
        let tidy = state.pipes.effects.any;
        drop(guard);
        self.after(tidy);
        self.monitors.stop();
        self.context.forget(self.id);
    }

    /// Counts messages that were lost on their way to an endpoint, and says so to those who listen.
    pub(super) fn count_at(&self, loss: Loss, n: usize, endpoint: &str) {
        if n == 0 {
            return;
        }
        self.losses[loss.index()].fetch_add(n as u64, Relaxed);
        if loss == Loss::Linger {
            self.context.lost(n);
        }
        let (count, peer) = (n as u64, None);
        self.monitors
            .emit(|| Event::new(EventKind::Lost { loss, count, peer }).endpoint(endpoint));
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::WouldBlock => Self::WouldBlock,
            Refusal::State => Self::State("zmq socket"),
            Refusal::Unroutable => Self::HostUnreachable,
            Refusal::Unsupported => Self::Unsupported("do that"),
            Refusal::Invalid => {
                Self::InvalidMessage("the message has not the form that this kind of socket needs")
            }
        }
    }
}
