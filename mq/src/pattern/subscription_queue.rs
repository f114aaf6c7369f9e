//! What an XPUB has for its user: subscriptions, messages, and the cancels for lost peers.
//!
//! An item is a message, or all topics of a lost peer: 4 bytes for each, the node at which
//! [`Subscriptions`] keeps the text until it is told. Items stand for the peer they came from, until
//! its slot is taken away; then for [`NOBODY`].

use std::collections::VecDeque;
use std::vec;

use sward_zmtp::Message;

use super::NOBODY;
use super::subscriptions::Subscriptions;
use crate::pipe::Slot;

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct SubscriptionQueue {
    items: VecDeque<(Item, Slot)>,
    of_nobody: usize,
}

#[derive(Debug)]
enum Item {
    Message(Message),
    Cancels {
        nodes: vec::IntoIter<u32>,
        /// The nodes are of what peers asked for, not of what they get.
        asked: bool,
    },
}

/// What the user receives next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) message: Message,
    pub(super) slot: Slot,
    /// With that, an item of that peer has left the queue.
    pub(super) done: bool,
}

impl SubscriptionQueue {
    /// Appends a message.
    pub(super) fn push(&mut self, message: Message, slot: Slot) {
        self.items.push_back((Item::Message(message), slot));
    }

    /// Appends a cancel for each of these nodes, of which there is at least one.
    pub(super) fn push_cancels(&mut self, nodes: Vec<u32>, asked: bool, slot: Slot) {
        let nodes = nodes.into_iter();
        self.items.push_back((Item::Cancels { nodes, asked }, slot));
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Number of items that are nobody's any more.
    pub(super) fn of_nobody(&self) -> usize {
        self.of_nobody
    }

    /// The slot is taken away.
    pub(super) fn disown(&mut self, slot: Slot) {
        for (_, of) in self.items.iter_mut().filter(|(_, of)| *of == slot) {
            *of = NOBODY;
            self.of_nobody += 1;
        }
    }

    /// Takes the next message or cancel.
    pub(super) fn next(
        &mut self,
        wanted: &mut Subscriptions,
        asked: &mut Subscriptions,
    ) -> Option<Next> {
        let (item, slot) = self.items.front_mut()?;
        let slot = *slot;
        let (message, done) = match item {
            Item::Message(message) => (std::mem::take(message), true),
            Item::Cancels { nodes, asked: of } => {
                let node = nodes.next()?;
                let done = nodes.len() == 0;
                let tree = if *of { asked } else { wanted };
                (tree.told(node, 0).into(), done)
            }
        };
        if done {
            self.items.pop_front();
            self.of_nobody -= usize::from(slot == NOBODY);
        }
        Some(Next {
            message,
            slot,
            done,
        })
    }
}
