//! Where a socket is bound and connected: its acceptors and dialers. Each has a task of straight-line
//! code (`errand.rs`), and only while it has something to wait for: a dialer's ends with each connection
//! that stands, and another begins when that is lost (`links.rs`).
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

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sward_runtime::Task;
use sward_zmtp::{Frame, Setup};

use super::close::Until;
use super::core::{SocketCore, State};
use super::errand::Errand;
use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::loss::Loss;
use crate::options::Options;
use crate::pattern::conflate::conflates;
use crate::pipe::{Entry, Peer, Slot};
use crate::session::{End, Owner, Place, Role, Session};
use crate::transport::registry::find;
use crate::transport::{Listening, Transport};

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
    pub(super) given: Option<Frame>,
    pub(super) endpoint: Endpoint,
    pub(crate) session: Arc<Session>,
    pub(super) options: Arc<Options>,
    pub(super) backoff: Backoff,
    /// Dials, or waits to dial; known by its number.
    pub(super) task: Option<Task>,
    pub(super) errand: u32,
    pub(super) stage: Stage,
    /// Only what is queued is still sent.
    pub(super) disconnected: bool,
    /// While it is attached to the pattern.
    pub(crate) place: Option<Place>,
}

/// How far a dialer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
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
    pub(super) name: Arc<str>,
    pub(super) setup: Arc<Setup>,
    /// Who was accepted last: the next one may be much alike.
    pub(super) last: Option<Arc<Peer>>,
    pub(super) listening: Arc<dyn Listening>,
    pub(super) options: Arc<Options>,
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
    pub(super) fn tell(&self, endpoint: &Endpoint, kind: impl FnOnce() -> EventKind) {
        self.tell_of(endpoint, "", "", kind);
    }

    /// Tells monitors of something that happened to a connection.
    pub(super) fn tell_of(
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

    pub(super) fn session(&self, options: &Options, setup: Arc<Setup>, role: Role) -> Arc<Session> {
        let owner: Weak<dyn Owner> = self.me.clone();
        let hwm = match options.conflate && conflates(self.kind) {
            true => (1, 1),
            false => (options.send_hwm, options.recv_hwm),
        };
        Session::new(setup, owner, role, hwm)
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
        Self::peer_gone(&mut guard.held());
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
        Self::peer_gone(&mut guard.held());
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

    pub(super) fn is_on(&self, errand: u32) -> bool {
        self.errand == errand && self.stage == Stage::Dialling
    }

    /// Whether it will not try again, and has no connection.
    pub(super) fn is_stopped(&self) -> bool {
        self.stage == Stage::Stopped
    }
}

/// The transport of an endpoint that is not of this process.
pub(super) fn transport_of(endpoint: &Endpoint) -> Result<&'static dyn Transport, Error> {
    find(endpoint.scheme()).ok_or_else(|| Error::Incompatible(endpoint.clone()))
}
