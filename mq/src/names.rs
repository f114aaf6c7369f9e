//! The `inproc` names of a context: who is bound to which, and who waits for one to be bound.
//!
//! A connect before the bind has its pipe at once, whose other end waits here.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use sward_runtime::sync::ShortLock;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::inproc::InprocPipe;
use crate::pipe::Pipe;
use crate::session::Place;
use crate::socket::core::SocketCore;

/// The other end of a link whose name nobody has bound yet.
pub(crate) struct Waiting {
    /// Kept although it is closed, as long as it has sent something.
    pub(crate) from: Arc<SocketCore>,
    /// Its own end.
    pub(crate) place: Place,
    pub(crate) end: InprocPipe,
}

#[derive(Default)]
struct State {
    bound: HashMap<String, (u64, u64, Weak<SocketCore>)>,
    waiting: HashMap<String, Vec<Waiting>>,
}

/// The names; see the file head.
pub(crate) struct Names {
    state: ShortLock<State>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            state: ShortLock::new(State::default()),
        }
    }
}

impl Names {
    /// Binds a name to a socket's end; returns those who wait for it.
    pub(crate) fn bind(
        &self,
        endpoint: &Endpoint,
        socket: &Arc<SocketCore>,
        end: u64,
    ) -> Result<Vec<Waiting>, Error> {
        let name = endpoint.as_str();
        let mut state = self.state.lock();
        if state.bound.contains_key(name) {
            return Err(Error::AddrInUse(endpoint.clone()));
        }
        let bound = (socket.id, end, Arc::downgrade(socket));
        state.bound.insert(name.to_owned(), bound);
        Ok(state.waiting.remove(name).unwrap_or_default())
    }

    /// Frees a name.
    pub(crate) fn unbind(&self, endpoint: &Endpoint, socket: u64, end: u64) {
        let mut state = self.state.lock();
        let name = endpoint.as_str();
        if state
            .bound
            .get(name)
            .is_some_and(|b| (b.0, b.1) == (socket, end))
        {
            state.bound.remove(name);
        }
    }

    /// Finds who is bound to a name; if nobody is, keeps the other end until somebody is.
    pub(crate) fn find(
        &self,
        endpoint: &Endpoint,
        waiting: Waiting,
    ) -> Option<(Arc<SocketCore>, Waiting)> {
        let name = endpoint.as_str();
        let mut state = self.state.lock();
        if let Some(socket) = state.bound.get(name).and_then(|b| b.2.upgrade()) {
            return Some((socket, waiting));
        }
        let list = state.waiting.entry(name.to_owned()).or_default();
        list.push(waiting);
        None
    }

    /// A socket is closed: it waits no longer, unless it has sent something (and `all` is not set).
    /// Returns the number of messages that are lost, and whether it still waits.
    pub(crate) fn forget(&self, socket: u64, all: bool) -> (usize, bool) {
        let mut gone = Vec::new();
        let mut waits = false;
        let mut state = self.state.lock();
        for list in state.waiting.values_mut() {
            gone.extend(list.extract_if(.., |waiting| {
                waiting.from.id == socket && (all || waiting.end.depths().1 == 0)
            }));
            waits |= list.iter().any(|waiting| waiting.from.id == socket);
        }
        state.waiting.retain(|_, list| !list.is_empty());
        drop(state);
        (
            gone.iter().map(|waiting| waiting.end.depths().1).sum(),
            waits,
        )
    }

    /// Whether a socket waits for a name.
    pub(crate) fn waits(&self, socket: u64) -> bool {
        let state = self.state.lock();
        let mut all = state.waiting.values().flatten();
        all.any(|waiting| waiting.from.id == socket)
    }
}
