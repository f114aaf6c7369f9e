//! Binding and connecting within the process.

use std::any::Any;
use std::sync::{Arc, Weak};

use sward_zmtp::{Frame, Metadata, PeerInfo, Version};

use super::core::{READERS, SocketCore, WATCHERS};
use super::ends::Ends;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::inproc::{self, InprocPipe};
use crate::names::Waiting;
use crate::notices::Hears;
use crate::pipe::{Entry, Peer};
use crate::session::Place;

/// Both high-water marks together; no limit if either is none.
fn sum(a: usize, b: usize) -> usize {
    if a == 0 || b == 0 {
        0
    } else {
        a.saturating_add(b)
    }
}

/// Sets our high-water marks of a link. Until the other socket is known, our own mark counts.
pub(super) fn set_marks(entry: &Entry, (send, recv): (usize, usize)) {
    let pipe: &dyn Any = &*entry.pipe;
    match (entry.marks.as_deref(), pipe.downcast_ref::<InprocPipe>()) {
        (Some(theirs), Some(end)) => end.set_limits(sum(send, theirs.1), sum(theirs.0, recv)),
        (None, Some(end)) => end.set_limits(send, 0),
        _ => {}
    }
}

impl SocketCore {
    pub(super) fn bind_inproc(&self, endpoint: &Endpoint) -> Result<Endpoint, Error> {
        let Some(me) = self.me.upgrade() else {
            return Err(Error::Closed);
        };
        let mut guard = self.lines.lock();
        if let Some(why) = &guard.closed {
            return Err(why.clone());
        }
        let id = guard.ends.number();
        guard.ends.inproc.push((id, endpoint.clone(), None));
        guard.ends.last = Some(endpoint.clone());
        drop(guard);
        match self.context.inproc.bind(endpoint, &me, id) {
            Ok(waiting) => {
                self.monitors
                    .emit(|| Event::new(EventKind::Listening).endpoint(endpoint.as_str()));
                for waiting in waiting {
                    self.join(&waiting.from, waiting.place, waiting.end, endpoint);
                }
                Ok(endpoint.clone())
            }
            Err(e) => {
                self.lines.lock().ends.inproc.retain(|(end, ..)| *end != id);
                Err(e)
            }
        }
    }

    pub(super) fn connect_inproc(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let mut guard = self.lines.lock();
        if let Some(why) = &guard.closed {
            return Err(why.clone());
        }
        // Until the other socket is known, our own mark counts.
        let (mine, theirs) = inproc::link(guard.options.send_hwm, 0);
        let id = guard.ends.number();
        // The pattern has it from now on; its place must be known to the other end before that
        // sends.
        let shared = mine.share();
        let given = Ends::take_given_id(&mut guard.options);
        let place = Self::attach(&mut guard, Box::new(mine), given);
        shared.place(self.hears(), place);
        guard.ends.inproc.push((id, endpoint.clone(), Some(place)));
        guard.ends.last = Some(endpoint.clone());
        let tidy = guard.pipes.effects.any;
        drop(guard);
        self.after(tidy);
        let Some(from) = self.me.upgrade() else {
            return Err(Error::Closed);
        };
        let waiting = Waiting {
            from,
            place,
            end: theirs,
        };
        if let Some((bound, waiting)) = self.context.inproc.find(endpoint, waiting) {
            bound.join(&waiting.from, waiting.place, waiting.end, endpoint);
        }
        Ok(())
    }

    pub(super) fn hears(&self) -> Weak<dyn Hears> {
        self.me.clone()
    }

    /// What this socket tells of itself within the process.
    fn info(&self, id: Frame) -> PeerInfo {
        PeerInfo::new(Some(self.kind), Version::V3_1, id, Metadata::default())
    }

    /// A socket of the same context has connected to this one.
    fn join(&self, from: &Arc<Self>, there: Place, end: InprocPipe, endpoint: &Endpoint) {
        let theirs = {
            let guard = from.lines.lock();
            (
                guard.options.send_hwm,
                guard.options.recv_hwm,
                guard.options.routing_id.clone(),
            )
        };
        let mut guard = self.lines.lock();
        if guard.closed.is_some() || !self.kind.accepts(from.kind) {
            drop(guard);
            let mut end = end;
            crate::pipe::Pipe::close(&mut end, false);
            self.monitors.emit(|| {
                let why = "the two kinds of sockets do not go together";
                let kind = EventKind::HandshakeFailed(crate::event::Reason::Unwanted(why));
                Event::new(kind).endpoint(endpoint.as_str())
            });
            crate::notices::deliver();
            return;
        }
        let ours = (
            guard.options.send_hwm,
            guard.options.recv_hwm,
            guard.options.routing_id.clone(),
        );
        end.set_limits(sum(ours.0, theirs.1), sum(theirs.0, ours.1));
        let shared = end.share();
        let here = Self::attach(&mut guard, Box::new(end), None);
        guard.pipes[here.slot].marks = Some(Box::new((theirs.0, theirs.1)));
        shared.place(self.hears(), here);
        let peer = |core: &Self, id: Option<Frame>| {
            Arc::new(Peer {
                info: core.info(id.unwrap_or_default()),
                address: Arc::default(),
                endpoint: endpoint.as_str().into(),
            })
        };
        let wanted = Self::connected(&mut guard.held(), here, peer(from, theirs.2));
        if !wanted {
            if let Some(entry) = guard.pipes.get_mut(here.slot) {
                entry.pipe.close(false);
            }
            guard.detach(here.slot);
        }
        let tidy = guard.pipes.effects.any;
        drop(guard);
        self.after(tidy);
        if !wanted {
            return;
        }
        let mut guard = from.lines.lock();
        if guard.is_at(there) {
            guard.pipes[there.slot].marks = Some(Box::new((ours.0, ours.1)));
        }
        let wanted = Self::connected(&mut guard.held(), there, peer(self, ours.2));
        if !wanted && guard.is_at(there) {
            guard.pipes[there.slot].pipe.close(false);
            guard.detach(there.slot);
        }
        let mut held = guard.held();
        held.wake_all(WATCHERS);
        held.wake_one(READERS);
        Self::room_appeared(&mut held);
        let tidy = held.pipes.effects.any;
        drop(guard);
        from.after(tidy);
        from.names_found();
        for core in [self, from] {
            core.monitors
                .emit(|| Event::new(EventKind::HandshakeSucceeded).endpoint(endpoint.as_str()));
        }
    }
}
