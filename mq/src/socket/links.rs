//! The connections of a socket: what their sessions tell, and what becomes of it for the pattern, the
//! dialers and the monitors.
//!
//! Nothing of a peer reaches the pattern before its handshake is done, and nothing of a session after
//! its end was told.

use std::sync::Arc;
use std::time::Instant;

use sward_zmtp::PeerInfo;

use super::core::SocketCore;
use super::ends::Stage;
use crate::event::{EventKind, Reason};
use crate::loss::Loss;
use crate::pipe::Peer;
use crate::session::{End, News, Owner, Role, Session};
use crate::transport::ByteLink;

impl Owner for SocketCore {
    fn hear(&self, session: &Arc<Session>, news: News) {
        match news {
            News::Readable(place) => self.readable(place),
            News::Writable(place) => self.writable(place),
            News::Writes => self.hand_over(),
            News::Reached(place, number) => self.reached(place, number),
            News::Ready(info) => self.up(session, info),
            News::Lost(end) => self.lost(session, &end),
        }
    }
}

impl SocketCore {
    /// A session is about to write, or somebody looks at what is queued and lost.
    pub(super) fn hand_over(&self) {
        // In a forked child the connections are the parent's.
        if self.epoch.is_stale() {
            return;
        }
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        state.pattern.hand_over(&mut state.pipes);
        let tidy = state.pipes.effects.any;
        drop(guard);
        self.after(tidy);
    }

    /// A stream came in.
    pub(super) fn accepted(&self, id: u64, link: ByteLink) {
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
    pub(super) fn up(&self, session: &Arc<Session>, info: PeerInfo) {
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
    pub(super) fn lost(&self, session: &Arc<Session>, end: &End) {
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        // What was gathered for it is unsent, too.
        state.pattern.hand_over(&mut state.pipes);
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
        Self::peer_gone(&mut held);
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
}
