//! What a session tells its socket, and how its links end.

use std::io;
use std::sync::Arc;

use sward_zmtp::{Fault, PeerInfo};

use super::Session;
use crate::event::Reason;
use crate::pipe::Slot;

/// Where a session stands in its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) generation: u32,
}

/// What a session tells its socket.
pub(crate) enum News {
    /// There is a message where there was none.
    Readable(Place),
    /// There is room where there was none.
    Writable(Place),
    /// It is about to write: what was gathered for it is to be handed over.
    Writes,
    /// The peer has answered the probe of that number.
    Reached(Place, u64),
    /// The handshake is done.
    Ready(PeerInfo),
    /// The link is gone.
    Lost(End),
}

/// How a link ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed it.
    Closed,
    /// We did.
    Asked,
    /// The system says so.
    Io(io::Error),
    /// The protocol was broken, or a time-out of it came.
    Fault(Fault),
    /// The socket does not want this peer.
    Unwanted(&'static str),
    /// Our own code did.
    Panicked,
}

impl End {
    /// What monitors are told.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Closed => Reason::PeerClosed,
            Self::Asked => Reason::Local,
            Self::Io(e) => Reason::Io(Arc::new(io::Error::new(e.kind(), e.to_string()))),
            Self::Fault(fault) => Reason::Fault(fault.clone()),
            Self::Unwanted(why) => Reason::Unwanted(why),
            Self::Panicked => {
                let why = "a panic in sward's own code ended it (see stderr); please report it";
                Reason::Io(Arc::new(io::Error::other(why)))
            }
        }
    }
}

/// Who hears of it.
pub(crate) trait Owner: Send + Sync + 'static {
    /// Called without locks of the session, possibly with the driver's.
    fn hear(&self, session: &Arc<Session>, news: News);
}

/// How the session came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// By `connect`, the number of which names its dialer.
    Dialled(u64),
    /// By `bind`, the number of which names its acceptor.
    Accepted(u64),
}
