//! Requests that are open side by side over one socket, REQ or DEALER, and the replies to them.
//!
//! On the wire a request has a number of four bytes and an empty frame in front; a REP, or what a
//! ROUTER leads to, sends them back. A reply is what begins in the same way and comes from the pipe
//! that the request went to. It is kept here until whoever asked takes it.

use std::collections::HashMap;

use sward_zmtp::{Frame, Message};

use crate::pipe::{Pipes, Slot};

/// The pipe that a request went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    slot: Slot,
    generation: u32,
}

impl Target {
    pub(super) fn new(pipes: &Pipes, slot: Slot) -> Self {
        Self {
            slot,
            generation: pipes[slot].generation,
        }
    }
}

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: HashMap<u32, Open>,
}

#[derive(Debug)]
struct Open {
    target: Target,
    reply: Option<Message>,
}

/// Puts the delimiter in front, and the number.
pub(super) fn wrap(message: &mut Message, id: Option<u32>) {
    message.push_front(Frame::empty());
    if let Some(id) = id {
        message.push_front(id.to_be_bytes());
    }
}

/// Takes off what `wrap` has put in front.
pub(super) fn unwrap(mut message: Message, id: Option<u32>) -> Message {
    message.pop_front();
    if id.is_some() {
        message.pop_front();
    }
    message
}

/// The number in front of a reply, if it has one; `None` if this is no reply.
pub(super) fn id_of(message: &Message) -> Option<Option<u32>> {
    match message.frames() {
        [delimiter, _, ..] if delimiter.is_empty() => Some(None),
        [id, delimiter, _, ..] if delimiter.is_empty() => Some(Some(u32::from_be_bytes(
            *id.first_chunk().filter(|_| id.len() == 4)?,
        ))),
        _ => None,
    }
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    /// A request went out.
    pub(super) fn open(&mut self, id: u32, target: Target) {
        self.open.insert(
            id,
            Open {
                target,
                reply: None,
            },
        );
    }

    /// Keeps the first reply to an open request; gives everything else back.
    pub(super) fn keep(
        &mut self,
        pipes: &mut Pipes,
        message: Message,
        slot: Slot,
    ) -> Result<(), Message> {
        let Some(Some(id)) = id_of(&message) else {
            return Err(message);
        };
        let from = Target::new(pipes, slot);
        match self.open.get_mut(&id) {
            Some(open) if open.target == from && open.reply.is_none() => {
                open.reply = Some(unwrap(message, Some(id)));
                pipes.effects.replied(id);
                Ok(())
            }
            _ => Err(message),
        }
    }

    /// Takes a reply, and closes its request.
    pub(super) fn take(&mut self, id: u32) -> Option<Message> {
        let reply = self.open.get_mut(&id)?.reply.take()?;
        self.open.remove(&id);
        Some(reply)
    }

    /// Closes a request: nobody waits for it any more.
    pub(super) fn forget(&mut self, id: u32) {
        self.open.remove(&id);
    }
}
