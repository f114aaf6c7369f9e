//! Where a socket is bound and connected: its acceptors and dialers. Each is a task of straight-line
//! code, and only while it has something to wait for: a dialer's ends with each connection that
//! stands, and another begins when that is lost.
//!
//! Nouns: an *end* is one successful `bind` or `connect`, known by its number. A dialer's *session*
//! outlives its connections; an acceptor makes one for each.
//!
//! ```text
//! dialer:    connect -> dialling -> (stream) handshake -> up -> (lost) -> waiting -> dialling
//!                          | (refused) waiting: 100 ms, or as the options say
//! acceptor:  bind -> accept -> handshake, pending -> (ready) attached to the pattern
//! ```
//! Nothing of a peer reaches the pattern before its handshake is done.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sward_runtime::sync::{Held, WaitError};
use sward_runtime::{Builder, Task};
use sward_zmtp::{Frame, PeerInfo, Setup};

use super::close::Until;
use super::core::{READERS, SocketCore, State, WATCHERS};
use crate::backoff::Backoff;
use crate::elsewhere;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::{Event, EventKind, Reason};
use crate::loss::Loss;
use crate::options::Options;
use crate::pattern::conflate::conflates;
use crate::pipe::{Entry, Peer, Slot};
use crate::session::{End, News, Owner, Place, Role, Session};
use crate::transport::registry::find;
use crate::transport::{ByteLink, Listening, Transport};

/// After how long an acceptor tries again that found no descriptor.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// For how long a handshake is safe from those who wait for its place.
const HANDSHAKE: Duration = Duration::from_secs(1);
const SLOW: &str = "its handshake took long, and others waited for its place (max_handshakes)";

/// The ends of a socket.
#[derive(Default)]
pub(crate) struct Ends {
    next: u64,
    pub(crate) dialers: HashMap<u64, Dialer>,
    pub(crate) acceptors: HashMap<u64, Acceptor>,
    /// Names bound and connections made within the process.
    pub(crate) inproc: Vec<(u64, Endpoint, Option<Place>)>,
    pub(crate) last: Option<Endpoint>,
}

/// One `connect`.
pub(crate) struct Dialer {
    /// The routing id that its peer was given.
    given: Option<Frame>,
    pub(super) endpoint: Endpoint,
    pub(crate) session: Arc<Session>,
    options: Arc<Options>,
    backoff: Backoff,
    /// Dials, or waits to dial; known by its number.
    task: Option<Task>,
    errand: u32,
    stage: Stage,
    /// Only what is queued is still sent.
    disconnected: bool,
    /// While it is attached to the pattern.
    pub(crate) place: Option<Place>,
}

/// How far a dialer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It dials, or waits to dial.
    Dialling,
    /// It has a connection, or is about to have one.
    Linked,
    /// It will not try again.
    Stopped,
}

/// One `bind`.
pub(crate) struct Acceptor {
    pub(crate) endpoint: Endpoint,
    /// As text, shared with all that are accepted; as is what their machines are made of.
    name: Arc<str>,
    setup: Arc<Setup>,
    /// Who was accepted last: the next one may be much alike.
    last: Option<Arc<Peer>>,
    listening: Arc<dyn Listening>,
    options: Arc<Options>,
}

impl Ends {
    /// All of them, the oldest first.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let acceptors = self.acceptors.iter().map(|(id, a)| (*id, &a.endpoint));
        let dialers = self.dialers.iter().map(|(id, d)| (*id, &d.endpoint));
        let inproc = self.inproc.iter().map(|(id, endpoint, _)| (*id, endpoint));
        let mut all: Vec<_> = acceptors.chain(dialers).chain(inproc).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter()
            .map(|(_, endpoint)| endpoint.clone())
            .collect()
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// CONNECT_ROUTING_ID counts for one connection.
    pub(super) fn take_given_id(options: &mut Arc<Options>) -> Option<Frame> {
        options.connect_routing_id.as_ref()?;
        Arc::make_mut(options).connect_routing_id.take()
    }
}

impl SocketCore {
    /// Tells monitors of something at an endpoint.
    fn tell(&self, endpoint: &Endpoint, kind: impl FnOnce() -> EventKind) {
        self.tell_of(endpoint, "", "", kind);
    }

    /// Tells monitors of something that happened to a connection.
    fn tell_of(
        &self,
        endpoint: impl std::fmt::Display,
        local: &str,
        remote: &str,
        kind: impl FnOnce() -> EventKind,
    ) {
        let kind = kind();
        if kind.is_error() {
            let event = Event::new(kind.clone()).endpoint(endpoint.to_string());
            self.lines.lock().last_error = Some(event.ends(local, remote));
        }
        self.monitors.emit(|| {
            let event = Event::new(kind).endpoint(endpoint.to_string());
            event.ends(local, remote)
        });
    }

    fn open_state(&self) -> Result<sward_runtime::sync::LinesGuard<'_, State, 3>, Error> {
        if self.epoch.is_stale() {
            return Err(Error::forked());
        }
        let guard = self.lines.lock();
        match &guard.closed {
            Some(why) => Err(why.clone()),
            None => Ok(guard),
        }
    }

    /// Listens at an endpoint; returns it with what stood for wildcards filled in.
    pub(crate) fn bind(&self, endpoint: &Endpoint) -> Result<Endpoint, Error> {
        endpoint.check_bind()?;
        let options = self.open_state()?.options.clone();
        if endpoint.inproc_name().is_some() {
            return self.bind_inproc(endpoint);
        }
        let listened = transport_of(endpoint)?.listen(endpoint, &options);
        let listening: Arc<dyn Listening> = match listened {
            Ok(listening) => listening.into(),
            Err(e) => {
                self.tell(endpoint, || {
                    EventKind::BindFailed(Arc::new(e.clone().into()))
                });
                return Err(e);
            }
        };
        let actual = listening.endpoint();
        let mut guard = match self.open_state() {
            Ok(guard) => guard,
            Err(e) => {
                listening.close();
                return Err(e);
            }
        };
        let id = guard.ends.number();
        let acceptor = Acceptor {
            name: actual.as_str().into(),
            setup: self.setup(&options),
            last: None,
            endpoint: actual.clone(),
            listening: listening.clone(),
            options,
        };
        guard.ends.acceptors.insert(id, acceptor);
        guard.ends.last = Some(actual.clone());
        drop(guard);
        self.tell(&actual, || EventKind::Listening);
        Errand::Accept(id).begin(&self.me).inspect_err(|_| {
            listening.close();
            self.lines.lock().ends.acceptors.remove(&id);
        })?;
        Ok(actual)
    }

    /// Connects to an endpoint, now and again after each loss.
    pub(crate) fn connect(&self, endpoint: &Endpoint) -> Result<(), Error> {
        endpoint.check_connect()?;
        if endpoint.inproc_name().is_some() {
            return self.connect_inproc(endpoint);
        }
        transport_of(endpoint)?;
        let mut guard = self.open_state()?;
        if self.connects_once()
            && guard
                .ends
                .dialers
                .values()
                .any(|d| d.endpoint == *endpoint && !d.disconnected)
        {
            return Ok(());
        }
        let id = guard.ends.number();
        let options = guard.options.clone();
        let session = self.session(&options, self.setup(&options), Role::Dialled(id));
        let given = Ends::take_given_id(&mut guard.options);
        let place = (!options.immediate).then(|| {
            let place = Self::attach(&mut guard, Box::new(session.clone()), given.clone());
            session.place(Some(place));
            place
        });
        let dialer = Dialer {
            given,
            endpoint: endpoint.clone(),
            session,
            backoff: Backoff::new(&options, self.id ^ id << 32),
            options,
            task: None,
            errand: 0,
            stage: Stage::Dialling,
            disconnected: false,
            place,
        };
        guard.ends.dialers.insert(id, dialer);
        guard.ends.last = Some(endpoint.clone());
        Self::room_appeared(&mut guard.held());
        let tidy = guard.pipes.effects.any;
        drop(guard);
        self.after(tidy);
        self.dial_in(id, Duration::ZERO);
        Ok(())
    }

    /// Whether a second connection to the same peer makes no sense: what goes or comes over both
    /// would be the same, or the peer would take one socket for two. As in libzmq.
    fn connects_once(&self) -> bool {
        use sward_zmtp::SocketType::{Dealer, Pub, Req, Sub};
        matches!(self.kind, Req | Dealer | Pub | Sub)
    }

    fn session(&self, options: &Options, setup: Arc<Setup>, role: Role) -> Arc<Session> {
        let owner: Weak<dyn Owner> = self.me.clone();
        let hwm = match options.conflate && conflates(self.kind) {
            true => (1, 1),
            false => (options.send_hwm, options.recv_hwm),
        };
        Session::new(setup, owner, role, hwm)
    }

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
    fn dial_again(&self, id: u64) {
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
    fn stopped(&self, id: u64) {
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

    /// What goes on elsewhere: dialers that have no connection yet dial from the caller's worker, and
    /// what has one is driven there.
    pub(super) fn move_ends_here(&self) {
        let guard = self.lines.lock();
        let dialling =
            |(id, dialer): (&u64, &Dialer)| (dialer.stage == Stage::Dialling).then_some(*id);
        let dialling: Vec<u64> = guard.ends.dialers.iter().filter_map(dialling).collect();
        let sessions: Vec<_> = guard.leaving.sessions().cloned().collect();
        drop(guard);
        for session in sessions {
            session.move_here();
        }
        for id in dialling {
            self.dial_in(id, Duration::ZERO);
        }
    }

    /// Waits until another handshake of an acceptor may begin. One that has had its second makes way
    /// for it: so connections that say nothing keep nobody out, and many that come at once wait.
    /// `false`: it does not accept any more.
    fn wait_for_turn(&self, id: u64) -> bool {
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

    /// A stream came in.
    fn accepted(&self, id: u64, link: ByteLink) {
        let mut guard = self.lines.lock();
        let Some(acceptor) = guard.ends.acceptors.get(&id) else {
            return;
        };
        let endpoint = acceptor.endpoint.clone();
        let setup = acceptor.setup.clone();
        let session = self.session(&acceptor.options, setup, Role::Accepted(id));
        guard.pending.insert(
            Arc::as_ptr(&session).addr(),
            (session.clone(), Instant::now()),
        );
        drop(guard);
        self.tell_of(&endpoint, &link.local, &link.remote, || EventKind::Accepted);
        if let Err(e) = session.establish(link) {
            self.lines
                .lock()
                .pending
                .remove(&Arc::as_ptr(&session).addr());
            self.tell(&endpoint, || EventKind::AcceptFailed(Arc::new(e)));
        }
    }

    /// The handshake of a session is done.
    fn up(&self, session: &Arc<Session>, info: PeerInfo) {
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        let (endpoint, place) = match session.role {
            Role::Accepted(id) => {
                if state.pending.remove(&Arc::as_ptr(session).addr()).is_none() {
                    drop(guard);
                    session.end(End::Asked);
                    return;
                }
                if state.pending.is_empty() {
                    // What many at once have taken.
                    state.pending.shrink_to(64);
                }
                let endpoint = state.ends.acceptors.get(&id).map(|a| a.name.clone());
                (endpoint, None)
            }
            Role::Dialled(id) => {
                let Some(dialer) = state.ends.dialers.get_mut(&id) else {
                    drop(guard);
                    session.end(End::Asked);
                    return;
                };
                dialer.backoff.reset();
                dialer.stage = Stage::Linked;
                (Some(dialer.endpoint.as_str().into()), dialer.place)
            }
        };
        // It only sends what is left.
        let leaves = state.leaving.has(session);
        let endpoint: Arc<str> = endpoint.unwrap_or_default();
        let (address, remote) = (session.take_address(), session.remote());
        if leaves {
            drop(guard);
            self.tell_of(&endpoint, "", &remote, || EventKind::HandshakeSucceeded);
            return;
        }
        let place = place.unwrap_or_else(|| {
            let dialer = match session.role {
                Role::Dialled(id) => state.ends.dialers.get(&id),
                Role::Accepted(_) => None,
            };
            let given = dialer.and_then(|dialer| dialer.given.clone());
            let place = Self::attach(state, Box::new(session.clone()), given);
            session.place(Some(place));
            if let Role::Dialled(id) = session.role
                && let Some(dialer) = state.ends.dialers.get_mut(&id)
            {
                dialer.place = Some(place);
            }
            place
        });
        let mut peer = Peer {
            info,
            address,
            endpoint: endpoint.clone(),
        };
        let acceptor = match session.role {
            Role::Accepted(id) => state.ends.acceptors.get_mut(&id),
            Role::Dialled(_) => None,
        };
        if let Some(last) = acceptor
            .as_ref()
            .and_then(|acceptor| acceptor.last.as_ref())
        {
            if peer.info.is_like(&last.info) {
                peer.info = last.info.clone();
                session.share(&peer.info);
            }
            if peer.address == last.address {
                peer.address = last.address.clone();
            }
        }
        let peer = Arc::new(peer);
        if let Some(acceptor) = acceptor {
            acceptor.last = Some(peer.clone());
        }
        let wanted = Self::connected(&mut guard.held(), place, peer);
        if !wanted {
            let state = &mut *guard;
            session.place(None);
            state.detach(place.slot);
        }
        let tidy = guard.pipes.effects.any;
        drop(guard);
        if wanted {
            self.tell_of(&endpoint, "", &remote, || EventKind::HandshakeSucceeded);
        } else {
            let why = "the socket has its peer, or another peer has this routing id";
            let failed = || EventKind::HandshakeFailed(Reason::Unwanted(why));
            self.tell_of(&endpoint, "", &remote, failed);
            session.end(End::Asked);
        }
        self.after(tidy);
    }

    /// The link of a session is gone.
    fn lost(&self, session: &Arc<Session>, end: &End) {
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        let was_up = session.take_was_up();
        let mut lost = (Loss::CutOff, session.rollback());
        let (mut again, mut stopped) = (None, false);
        let mut endpoint = None;
        match session.role {
            Role::Accepted(id) => {
                endpoint = state.ends.acceptors.get(&id).map(|a| a.endpoint.clone());
                state.pending.remove(&Arc::as_ptr(session).addr());
                stopped = true;
                if let Some(place) = session.placed() {
                    lost = (Loss::PeerLost, lost.1 + session.unsent());
                    Self::ended(state, place);
                }
            }
            Role::Dialled(id) => {
                if let Some(dialer) = state.ends.dialers.get_mut(&id) {
                    endpoint = Some(dialer.endpoint.clone());
                    let stops = dialer.options.reconnect_stop;
                    let stop = if was_up {
                        stops.disconnected
                    } else {
                        stops.handshake_failed && matches!(end, End::Fault(_))
                    };
                    // One that leaves does not dial only to say that there is nothing.
                    let wanted = !state.leaving.has(session) || session.unsent() > 0;
                    if stop || !wanted {
                        dialer.stage = Stage::Stopped;
                        stopped = true;
                    } else {
                        again = Some(id);
                    }
                    let immediate = dialer.options.immediate;
                    let place = if immediate {
                        dialer.place.take()
                    } else {
                        dialer.place
                    };
                    match place.filter(|place| state.is_at(*place)) {
                        Some(place) if immediate => {
                            lost = (Loss::PeerLost, lost.1 + session.discard());
                            session.place(None);
                            state.end_and_detach(place.slot);
                        }
                        Some(place) => {
                            state.pipes[place.slot].since = None;
                            state.pattern.disconnected(&mut state.pipes, place.slot);
                        }
                        None => {}
                    }
                }
            }
        }
        let mut held = guard.held();
        held.wake_all(WATCHERS);
        held.wake_all(READERS);
        let tidy = held.pipes.effects.any;
        drop(guard);
        let remote = session.remote();
        let endpoint = endpoint.map_or_else(String::new, |e| e.to_string());
        let reason = end.reason();
        self.tell_of(&endpoint, "", &remote, || match was_up {
            true => EventKind::Disconnected(reason),
            false => EventKind::HandshakeFailed(reason),
        });
        self.count_at(lost.0, lost.1, &endpoint);
        self.after(tidy);
        if let Some(id) = again {
            self.dial_again(id);
        } else if stopped {
            self.left(session, Loss::PeerLost);
        }
    }

    /// Ends what was bound there.
    pub(crate) fn unbind(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let mut guard = self.open_state()?;
        if let Some(at) = guard
            .ends
            .inproc
            .iter()
            .position(|(_, e, place)| e == endpoint && place.is_none())
        {
            let (id, ..) = guard.ends.inproc.remove(at);
            drop(guard);
            self.context.inproc.unbind(endpoint, self.id, id);
            return Ok(());
        }
        let found = guard
            .ends
            .acceptors
            .iter()
            .find(|(_, a)| a.endpoint == *endpoint);
        let Some(id) = found.map(|(id, _)| *id) else {
            return Err(Error::NotFound(endpoint.clone()));
        };
        let acceptor = guard.ends.acceptors.remove(&id);
        let state = &mut *guard;
        let dialled: Vec<_> = state
            .ends
            .dialers
            .values()
            .filter_map(|d| d.place)
            .collect();
        let of_it = |slot: &Slot, entry: &Entry| {
            let there = entry
                .peer
                .as_ref()
                .is_some_and(|peer| *peer.endpoint == *endpoint.as_str());
            there && !entry.ended && !dialled.iter().any(|place| place.slot == *slot)
        };
        let pipes = state
            .pipes
            .iter()
            .filter(|(slot, entry)| of_it(slot, entry));
        let slots: Vec<Slot> = pipes.map(|(slot, _)| slot).collect();
        let until = Until::of(state.options.linger);
        let mut dropped = 0;
        for slot in slots {
            dropped += state.let_go(slot, endpoint.as_str(), until);
            state.end_and_detach(slot);
        }
        let of_it = |session: &Arc<Session>| session.role == Role::Accepted(id);
        let pending = state.pending.extract_if(|_, (session, _)| of_it(session));
        let pending: Vec<_> = pending.map(|(_, (session, _))| session).collect();
        self.leave(guard);
        for session in pending {
            session.end(End::Asked);
        }
        if let Some(acceptor) = acceptor {
            acceptor.close();
            self.tell(endpoint, || EventKind::Closed(None));
        }
        self.count_at(Loss::Linger, dropped, endpoint.as_str());
        self.after(true);
        Ok(())
    }

    /// Ends what was connected there; what is queued is still sent, within the linger time.
    pub(crate) fn disconnect(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let mut guard = self.open_state()?;
        let state = &mut *guard;
        if let Some(at) = state
            .ends
            .inproc
            .iter()
            .position(|(_, e, place)| e == endpoint && place.is_some())
        {
            let (.., place) = state.ends.inproc.remove(at);
            if let Some(place) = place
                && state.is_at(place)
            {
                state.pipes[place.slot].pipe.close(true);
                Self::ended(state, place);
            }
            drop(guard);
            self.after(true);
            return Ok(());
        }
        let found = state
            .ends
            .dialers
            .iter_mut()
            .find(|(_, d)| d.endpoint == *endpoint && !d.disconnected);
        let Some((&id, dialer)) = found else {
            return Err(Error::NotFound(endpoint.clone()));
        };
        dialer.disconnected = true;
        let (place, session) = (dialer.place.take(), dialer.session.clone());
        let mut dropped = 0;
        if let Some(place) = place
            && state.is_at(place)
        {
            let until = Until::of(state.options.linger);
            dropped = state.let_go(place.slot, endpoint.as_str(), until);
            state.end_and_detach(place.slot);
        }
        let goes_on = state.leaving.has(&session);
        let dialer = if goes_on {
            None
        } else {
            state.ends.dialers.remove(&id)
        };
        self.leave(guard);
        if let Some(dialer) = dialer {
            dialer.stop();
        }
        self.tell(endpoint, || EventKind::Closed(None));
        self.count_at(Loss::Linger, dropped, endpoint.as_str());
        self.after(true);
        Ok(())
    }
}

impl Acceptor {
    pub(super) fn close(&self) {
        self.listening.close();
    }
}

impl Dialer {
    /// Stops dialling, and ends a connection in its handshake. One that stands has been let go.
    pub(super) fn stop(self) {
        if let Some(task) = self.task {
            task.kill();
        }
        if !self.session.is_up() {
            self.session.end(End::Asked);
        }
    }

    fn is_on(&self, errand: u32) -> bool {
        self.errand == errand && self.stage == Stage::Dialling
    }

    /// Whether it will not try again, and has no connection.
    pub(super) fn is_stopped(&self) -> bool {
        self.stage == Stage::Stopped
    }
}

impl Owner for SocketCore {
    fn hear(&self, session: &Arc<Session>, news: News) {
        match news {
            News::Readable(place) => self.readable(place),
            News::Writable(place) => self.writable(place),
            News::Reached(place, number) => self.reached(place, number),
            News::Ready(info) => self.up(session, info),
            News::Lost(end) => self.lost(session, &end),
        }
    }
}

/// What a task does for a socket.
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

/// The transport of an endpoint that is not of this process.
fn transport_of(endpoint: &Endpoint) -> Result<&'static dyn Transport, Error> {
    find(endpoint.scheme()).ok_or_else(|| Error::Incompatible(endpoint.clone()))
}
