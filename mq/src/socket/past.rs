//! What went over pipes: each that is there, and all that are gone.

use std::any::Any;
use std::ops::{Add, AddAssign};
use std::sync::Arc;

use crate::pattern::conflate::Conflated;
use crate::pipe::Pipe;
use crate::session::Session;

/// What went over connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages that were queued to be sent.
    pub messages_sent: u64,
    /// Messages that were received.
    pub messages_received: u64,
    /// Bytes that were given to the system, with all that the protocol adds.
    pub bytes_sent: u64,
    /// Bytes that came from the system.
    pub bytes_received: u64,
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages_sent: self.messages_sent + other.messages_sent,
            messages_received: self.messages_received + other.messages_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_received: self.bytes_received + other.bytes_received,
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What went over pipes that are gone.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(super) traffic: Traffic,
}

impl Past {
    /// Adds up what went over a pipe.
    pub(crate) fn add(&mut self, pipe: &dyn Pipe) {
        self.traffic += traffic(pipe);
    }
}

/// The session that a pipe is, if it is one.
pub(super) fn session(pipe: &dyn Pipe) -> Option<&Arc<Session>> {
    let any: &dyn Any = pipe;
    match any.downcast_ref::<Conflated>() {
        Some(outer) => session(outer.inner()),
        None => any.downcast_ref(),
    }
}

pub(super) fn traffic(pipe: &dyn Pipe) -> Traffic {
    let Some(session) = session(pipe) else {
        return Traffic::default();
    };
    let traffic = session.traffic();
    Traffic {
        messages_sent: traffic.sent,
        messages_received: traffic.received,
        bytes_sent: traffic.bytes_sent,
        bytes_received: traffic.bytes_received,
    }
}
