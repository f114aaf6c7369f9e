//! Receives from the next pipe in turn that has a message, one message at a time (PULL, SUB, XSUB,
//! DEALER, REQ, REP, ROUTER, STREAM, PAIR).
//!
//! Invariants
//! - A pipe is out of the ring only after it has said that it is empty, so `readable` comes once it
//!   has a message.
//! - Whether there is a message is found out by taking one (`ahead`), because only a pipe that was
//!   asked for a message tells of the next. So `can_recv` is exact.
//! - A pipe that has ended stays until it is empty and the message in `ahead` is not its own.

use sward_zmtp::Message;

use super::ring::Ring;
use crate::loss::Loss;
use crate::pipe::{Pipes, Slot};

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    ring: Ring,
    ahead: Option<(Message, Slot)>,
}

impl FairQueue {
    /// A new pipe, which may have a message.
    pub(super) fn attach(&mut self, slot: Slot) {
        self.ring.attach(slot);
    }

    /// Nothing more will come from there than what is in the pipe.
    pub(super) fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        if !self.ring.knows(slot) || self.waiting(pipes, slot) == 0 {
            self.ring.remove(slot);
            pipes.effects.drained(slot);
        } else {
            self.ring.insert(slot);
        }
    }

    /// Nothing more may be received from there.
    pub(super) fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.ring.detach(slot);
        if self.ahead.as_ref().is_some_and(|(_, of)| *of == slot) {
            self.ahead = None;
            pipes.effects.lost(Loss::PeerLost, Some(slot));
        }
    }

    /// A pipe that was empty has a message.
    pub(super) fn readable(&mut self, slot: Slot) {
        self.ring.insert(slot);
    }

    /// Receives in place of a message that is lent, and says from where.
    #[inline]
    pub(super) fn recv_into(&mut self, pipes: &mut Pipes, into: &mut Message) -> Option<Slot> {
        if self.ahead.is_some() {
            return self.take_ahead(into);
        }
        while let Some(slot) = self.ring.turn() {
            if pipes.recv_into(slot, into) {
                self.ring.advance();
                return Some(slot);
            }
            self.ring.remove(slot);
        }
        None
    }

    #[cold]
    fn take_ahead(&mut self, into: &mut Message) -> Option<Slot> {
        let (message, slot) = self.ahead.take()?;
        *into = message;
        Some(slot)
    }

    /// Receives, and says from where.
    pub(super) fn recv(&mut self, pipes: &mut Pipes) -> Option<(Message, Slot)> {
        let mut message = Message::new();
        let slot = self.recv_into(pipes, &mut message)?;
        Some((message, slot))
    }

    /// Whether `recv` will succeed.
    pub(super) fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        self.ahead = self.recv(pipes);
        self.ahead.is_some()
    }

    /// Makes a message that was received the next one. There must be none ahead.
    pub(super) fn put_back(&mut self, message: Message, slot: Slot) {
        self.ahead = Some((message, slot));
    }

    /// Number of messages that have come from there and were not received.
    pub(super) fn waiting(&self, pipes: &Pipes, slot: Slot) -> usize {
        let ahead = self.ahead.as_ref().is_some_and(|(_, of)| *of == slot);
        pipes[slot].pipe.depths().1 + usize::from(ahead)
    }

    /// Whether the slot is attached.
    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.ring.knows(slot)
    }
}
