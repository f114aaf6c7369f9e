//! PUB and XPUB (RFC 29): each message goes to all who subscribed to a prefix of its first frame.
//!
//! - Sending never waits: a peer that is full does not get the message, which is counted. With
//!   NODROP all wait for it (`WouldBlock`).
//! - What peers send are subscriptions, applied as soon as they come. Anything else a PUB drops and
//!   counts; an XPUB passes it to its user.
//!
//! An XPUB keeps a queue for its user: the first subscribe and the last cancel of a topic (VERBOSE:
//! each subscribe; VERBOSER: each cancel, too), messages, and cancels for the topics of a lost peer.
//! MANUAL: all of them, and nothing is applied until the user calls `subscribe` or `unsubscribe`,
//! which acts on the peer of what was received last.
//!
//! Invariants of the queue
//! - It is bounded: a pipe is not read while [`PER_PEER`] of its messages are in the queue, or a few
//!   and the whole is long. So a user who does not read makes the peers' pipes full, not the queue.
//! - The topics of a lost peer are one item with 4 bytes for each of them: [`Subscriptions`] keeps
//!   their text until it is told.
//! - A lost peer keeps its slot until its last item was received, so that the slot of an item is
//!   right. Of a user who never reads, [`LOST`] peers are kept like that; then the oldest items are
//!   dropped and counted. What of a peer whose slot is taken away early is left has [`NOBODY`].
//!
//! ONLY_FIRST_SUBSCRIBE: of a message whose first frame is a subscription, the others are the user's;
//! without it, each frame that looks like a subscription is one. A message whose first frame is no
//! subscription is the user's as a whole. (libzmq without the option also takes subscriptions out of
//! the middle of such a message.)
//!
//! A peer that subscribes to more than the options allow is closed.

use sward_zmtp::{Frame, Message};

use super::distributor::Distributor;
use super::subscription_queue::{Next, SubscriptionQueue};
use super::subscriptions::{Added, Removed, Subscriptions};
use super::{NOBODY, Pattern, PatternOptions, Refusal, fill, subscription};
use crate::loss::Loss;
use crate::pipe::{AT_ONE_GO, Pipes, Slot};

/// So many items of one peer wait in the queue.
const PER_PEER: usize = 1000;
/// With so many items in the queue, each peer may have only a few.
const LONG: usize = 65_536;
const FEW: usize = 4;
/// So many peers may be lost and have something in the queue.
const LOST: usize = 4096;
/// Why a peer is closed that subscribes without end.
const TOO_MANY: &str = "it subscribed to more topics than max_subscriptions and \
                        max_subscription_bytes allow";

/// See the file head.
#[derive(Debug)]
pub(super) struct Publish {
    /// XPUB.
    extended: bool,
    options: PatternOptions,
    out: Distributor,
    wanted: Subscriptions,
    /// MANUAL: what peers asked for, whatever the user has made of it.
    asked: Subscriptions,
    found: Vec<Slot>,
    queue: SubscriptionQueue,
    peers: Vec<Peer>,
    /// Peers that are gone and not yet drained.
    lost: usize,
    /// Whose item was received last, with the generation of the pipe.
    last: Option<(Slot, u32)>,
}

#[derive(Debug, Default)]
struct Peer {
    /// In the queue.
    queued: usize,
    stage: Stage,
    /// There may be more in the pipe; it was left because of the queue.
    unread: bool,
    welcomed: bool,
    reconnects: bool,
}

/// ```text
/// Free --attach--> Here --ended--> Gone --all received--> Drained --detach--> Free
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    Here,
    /// It was closed for what it did.
    Mute,
    Gone,
    Drained,
}

impl Publish {
    pub(super) fn new(extended: bool, options: &PatternOptions) -> Self {
        Self {
            extended,
            options: options.clone(),
            out: Distributor::gathering(),
            wanted: Subscriptions::default(),
            asked: Subscriptions::default(),
            found: Vec::new(),
            queue: SubscriptionQueue::default(),
            peers: Vec::new(),
            lost: 0,
            last: None,
        }
    }

    fn manual(&self) -> bool {
        self.extended && (self.options.xpub_manual || self.options.xpub_manual_last_value)
    }

    fn stage(&self, slot: Slot) -> Stage {
        self.peers.get(slot).map_or(Stage::Free, |peer| peer.stage)
    }

    /// Reads a pipe until it is empty, or the queue has enough of it.
    fn read(&mut self, pipes: &mut Pipes, slot: Slot) {
        if matches!(self.stage(slot), Stage::Free | Stage::Drained) {
            return;
        }
        for _ in 0..AT_ONE_GO {
            let queued = self.peers[slot].queued;
            if queued >= PER_PEER || (queued >= FEW && self.queue.len() >= LONG) {
                self.peers[slot].unread = true;
                return;
            }
            // Not through `Pipes`: the pipe is drained when the queue is.
            let mut message = Message::new();
            if !pipes[slot].pipe.try_recv(&mut message) {
                self.peers[slot].unread = false;
                return self.settle(pipes, slot);
            }
            self.take(pipes, slot, message);
        }
        self.peers[slot].unread = true;
        pipes.effects.again(slot);
    }

    /// The pipe, which is empty, is drained once its peer is gone and all of it was received.
    fn settle(&mut self, pipes: &mut Pipes, slot: Slot) {
        let peer = &mut self.peers[slot];
        if peer.stage == Stage::Gone && peer.queued == 0 {
            peer.stage = Stage::Drained;
            self.lost -= 1;
            pipes.effects.drained(slot);
        }
    }

    /// A message that has come.
    fn take(&mut self, pipes: &mut Pipes, slot: Slot, message: Message) {
        if subscription(message.first()).is_none() {
            return self.pass(pipes, slot, message);
        }
        if message.len() == 1 {
            return message
                .into_iter()
                .for_each(|frame| self.apply(pipes, slot, frame));
        }
        let mut rest = Vec::new();
        for (place, frame) in message.into_iter().enumerate() {
            let all = place == 0 || !self.options.only_first_subscribe;
            if all && subscription(&frame).is_some() {
                self.apply(pipes, slot, frame);
            } else {
                rest.push(frame);
            }
        }
        if let Some(rest) = Message::from_frames(rest) {
            self.pass(pipes, slot, rest);
        }
    }

    /// A message that is no subscription.
    fn pass(&mut self, pipes: &mut Pipes, slot: Slot, message: Message) {
        if self.extended && self.stage(slot) != Stage::Mute {
            self.peers[slot].queued += 1;
            self.queue.push(message, slot);
        } else {
            pipes.effects.lost(Loss::Unexpected, Some(slot));
        }
    }

    /// A subscription or a cancel that has come.
    fn apply(&mut self, pipes: &mut Pipes, slot: Slot, frame: Frame) {
        // What a lost peer subscribed to in the end is over already.
        if self.stage(slot) != Stage::Here {
            return;
        }
        let Some((subscribe, topic)) = subscription(&frame) else {
            return;
        };
        let verboser = self.options.xpub_verboser;
        let tell = match (self.manual(), subscribe) {
            (true, true) => {
                self.asked.add(slot, topic);
                true
            }
            (true, false) => {
                self.asked.remove(slot, topic);
                true
            }
            (false, true) => {
                let added = self.subscribe_peer(pipes, slot, topic);
                added == Added::First || self.options.xpub_verbose || verboser
            }
            (false, false) => {
                let removed = self.unsubscribe_peer(pipes, slot, topic);
                removed == Removed::Last || verboser
            }
        };
        let [wanted, asked] = [&self.wanted, &self.asked].map(|s| s.size(slot));
        let (topics, bytes) = (wanted.0.max(asked.0), wanted.1.max(asked.1));
        if topics > self.options.max_subscriptions || bytes > self.options.max_subscription_bytes {
            pipes.effects.lost(Loss::Unexpected, Some(slot));
            pipes.effects.refuse(slot, TOO_MANY);
            self.leave(pipes, slot);
            self.peers[slot].stage = Stage::Mute;
        } else if tell && self.extended {
            self.peers[slot].queued += 1;
            self.queue.push(frame.into(), slot);
        }
    }

    fn subscribe_peer(&mut self, pipes: &mut Pipes, slot: Slot, topic: &[u8]) -> Added {
        let added = self.wanted.add(slot, topic);
        if added != Added::Again {
            pipes.effects.changed();
        }
        if let Some(welcome) = &self.options.xpub_welcome
            && welcome.first().starts_with(topic)
            && !std::mem::replace(&mut self.peers[slot].welcomed, true)
        {
            self.out.hand_over(pipes);
            if pipes.send(slot, welcome.clone()).is_err() {
                pipes.effects.lost(Loss::HighWaterMark, Some(slot));
            }
        }
        added
    }

    fn unsubscribe_peer(&mut self, pipes: &mut Pipes, slot: Slot, topic: &[u8]) -> Removed {
        let removed = self.wanted.remove(slot, topic);
        if removed != Removed::Nothing {
            pipes.effects.changed();
        }
        removed
    }

    /// The subscriptions of a peer are over.
    fn leave(&mut self, pipes: &mut Pipes, slot: Slot) {
        pipes.effects.changed();
        let asked = self.manual();
        let nodes = if asked {
            self.wanted.remove_all(slot);
            self.asked.depart(slot, true)
        } else {
            self.asked.remove_all(slot);
            if !self.extended {
                return self.wanted.remove_all(slot);
            }
            self.wanted.depart(slot, self.options.xpub_verboser)
        };
        if !nodes.is_empty() {
            self.peers[slot].queued += 1;
            self.queue.push_cancels(nodes, asked, slot);
        }
    }

    fn next(&mut self) -> Option<Next> {
        self.queue.next(&mut self.wanted, &mut self.asked)
    }

    /// An item of that peer has left the queue.
    fn left(&mut self, pipes: &mut Pipes, slot: Slot) {
        if slot == NOBODY {
            return;
        }
        let peer = &mut self.peers[slot];
        peer.queued -= 1;
        if peer.unread && peer.queued <= PER_PEER / 2 {
            self.read(pipes, slot);
        } else {
            self.settle(pipes, slot);
        }
    }

    /// Drops the oldest items of a user who never reads.
    fn trim(&mut self, pipes: &mut Pipes) {
        while self.lost > LOST || self.queue.of_nobody() > LONG {
            let Some(Next { slot, done, .. }) = self.next() else {
                return;
            };
            pipes.effects.lost(
                Loss::HighWaterMark,
                Some(slot).filter(|slot| *slot != NOBODY),
            );
            if done {
                self.left(pipes, slot);
            }
        }
    }

    /// Whose subscriptions the user may change now: the peer of what was received last.
    fn chosen(&self, pipes: &Pipes) -> Option<Slot> {
        let (slot, generation) = self.last?;
        let here = self.stage(slot) == Stage::Here && pipes[slot].generation == generation;
        here.then_some(slot)
    }
}

impl Pattern for Publish {
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot) {
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, Peer::default);
        }
        self.peers[slot].stage = Stage::Here;
        self.out.attach(slot);
        self.read(pipes, slot);
    }

    /// After a reconnect the peer sends all its subscriptions again: those it had are over. Until
    /// then they held, so that messages for it were queued.
    fn connected(&mut self, pipes: &mut Pipes, slot: Slot) -> bool {
        if std::mem::replace(&mut self.peers[slot].reconnects, false) {
            self.peers[slot].welcomed = false;
            self.leave(pipes, slot);
        }
        true
    }

    fn disconnected(&mut self, _: &mut Pipes, slot: Slot) {
        self.peers[slot].reconnects = true;
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.hand_over(pipes);
        self.out.detach(slot);
        match self.stage(slot) {
            Stage::Here => self.leave(pipes, slot),
            Stage::Mute => {}
            _ => return,
        }
        self.peers[slot].stage = Stage::Gone;
        self.lost += 1;
        self.read(pipes, slot);
        self.trim(pipes);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.hand_over(pipes);
        self.out.detach(slot);
        match self.stage(slot) {
            Stage::Free => return,
            Stage::Here => self.leave(pipes, slot),
            Stage::Gone => self.lost -= 1,
            Stage::Mute | Stage::Drained => {}
        }
        let peer = std::mem::take(&mut self.peers[slot]);
        if peer.queued > 0 {
            self.queue.disown(slot);
            self.trim(pipes);
        }
    }

    fn readable(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.read(pipes, slot);
    }

    fn writable(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.hand_over(pipes);
        self.out.writable(slot);
    }

    fn hand_over(&mut self, pipes: &mut Pipes) {
        self.out.hand_over(pipes);
    }

    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        let nodrop = self.options.xpub_nodrop;
        let only = (self.extended && self.options.xpub_manual_last_value)
            .then(|| self.chosen(pipes))
            .flatten();
        if only.is_none()
            && !self.options.invert_matching
            && self.wanted.of_everything() == self.out.slots().len()
        {
            if nodrop && !self.out.all_have_room(pipes) {
                return Err(Refusal::WouldBlock);
            }
            self.out.send_all(pipes, message);
            return Ok(());
        }
        let topic = message.first();
        if self.options.invert_matching {
            self.wanted.others(topic, self.out.slots(), &mut self.found);
        } else {
            self.wanted.matching(topic, &mut self.found);
        }
        if let Some(only) = only {
            self.found.retain(|slot| *slot == only);
        }
        if nodrop && !self.out.have_room(pipes, &self.found) {
            return Err(Refusal::WouldBlock);
        }
        if only.is_some() {
            self.last = None;
        }
        self.out.send(pipes, message, &self.found);
        Ok(())
    }

    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        fill(into, || {
            if !self.extended {
                return Err(Refusal::Unsupported);
            }
            let Next {
                message,
                slot,
                done,
            } = self.next().ok_or(Refusal::WouldBlock)?;
            // Nothing can be changed for a peer that is lost.
            self.last = None;
            if self.stage(slot) == Stage::Here {
                self.last = Some((slot, pipes[slot].generation));
            }
            if done {
                self.left(pipes, slot);
            }
            Ok((message, slot))
        })
    }

    fn can_send(&mut self, _: &mut Pipes) -> bool {
        true
    }

    fn can_recv(&mut self, _: &mut Pipes) -> bool {
        self.extended && self.queue.len() > 0
    }

    fn configure(&mut self, options: &PatternOptions, pipes: &mut Pipes) {
        self.out.hand_over(pipes);
        self.options = options.clone();
    }

    fn subscribe(&mut self, pipes: &mut Pipes, topic: &[u8]) -> Result<(), Refusal> {
        if !self.manual() {
            return Err(Refusal::Unsupported);
        }
        if let Some(slot) = self.chosen(pipes) {
            self.subscribe_peer(pipes, slot, topic);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, pipes: &mut Pipes, topic: &[u8]) -> Result<(), Refusal> {
        if !self.manual() {
            return Err(Refusal::Unsupported);
        }
        if let Some(slot) = self.chosen(pipes) {
            self.unsubscribe_peer(pipes, slot, topic);
        }
        Ok(())
    }

    fn choose(&mut self, slot: Slot, generation: u32) {
        self.last = Some((slot, generation));
    }

    fn audience(&self) -> usize {
        let slots = self.out.slots().iter();
        slots.filter(|slot| self.wanted.size(**slot).0 > 0).count()
    }

    fn subscribers(&self, topic: &[u8]) -> usize {
        let count = self.wanted.count(topic);
        if self.options.invert_matching {
            self.out.slots().len() - count
        } else {
            count
        }
    }

    fn topics(&self) -> usize {
        self.wanted.topics()
    }
}

#[cfg(test)]
mod tests;
