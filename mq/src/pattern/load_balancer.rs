//! Sends each message to the next pipe in turn that has room (PUSH, DEALER, REQ).
//!
//! Invariant: a pipe is out of the ring only after it has refused (or has ended), so `writable`
//! comes once it has room. Until then it costs nothing.

use sward_zmtp::Message;

use super::ring::Ring;
use crate::pipe::{Pipes, Slot};

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct LoadBalancer {
    ring: Ring,
}

impl LoadBalancer {
    /// A new pipe, which may have room.
    pub(super) fn attach(&mut self, slot: Slot) {
        self.ring.attach(slot);
    }

    /// Nothing more can be sent there.
    pub(super) fn detach(&mut self, slot: Slot) {
        self.ring.detach(slot);
    }

    /// A pipe that was full has room.
    pub(super) fn writable(&mut self, slot: Slot) {
        self.ring.insert(slot);
    }

    /// Sends a message that is lent, and says where; `None`: nobody has room.
    #[inline]
    pub(super) fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Option<Slot> {
        while let Some(slot) = self.ring.turn() {
            if pipes.lend(slot, message) {
                self.ring.advance();
                return Some(slot);
            }
            self.ring.remove(slot);
        }
        None
    }

    /// Where the next message would go.
    pub(super) fn next(&mut self, pipes: &mut Pipes) -> Option<Slot> {
        while let Some(slot) = self.ring.turn() {
            if pipes[slot].pipe.has_room() {
                return Some(slot);
            }
            self.ring.remove(slot);
        }
        None
    }
}
