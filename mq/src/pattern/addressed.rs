//! Peers by routing id, and their messages with it in front (ROUTER, STREAM).
//!
//! Nouns
//! - A *routing id* is given (by the peer's identity, or by the user for a connection) or made up:
//!   0x00 and a number that counts from a random start. Given ones from peers never begin with 0.
//! - A *notice* is [id, empty], which tells the user that a peer has come or gone. It has its place
//!   among the peer's messages: what had come before it is received first.
//!
//! Invariants
//! - An id leads to at most one peer, and only to one that can be sent to. Of two peers with the
//!   same id (a hand-over, or one that has ended and still has messages) both have it in front of
//!   their messages.
//! - A pipe that has ended is drained only when its notices have been received, too.
//!
//! Peers choose given ids, so these are found by a keyed hash; a made-up one is a number of ours.
//! A peer costs 48 bytes here, and 10 to 20 in the table of made-up ids, or 60 to 90 for a short id
//! that was given.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;

use sward_zmtp::{Frame, Message};

use super::fair_queue::FairQueue;
use crate::loss::Loss;
use crate::pipe::{Pipes, Slot};

/// RFC 37: an identity has at most so many bytes.
const LONGEST: usize = 255;

/// See the file head.
#[derive(Debug)]
pub(super) struct Addressed {
    come: FairQueue,
    peers: Vec<Peer>,
    given: HashMap<Arc<[u8]>, u32>,
    made: HashMap<u32, u32, BuildHasherDefault<Number>>,
    next: u32,
    notices: VecDeque<Notice>,
    /// Peers with `delayed` notices.
    delays: usize,
}

#[derive(Clone, Debug, Default)]
enum RoutingId {
    #[default]
    None,
    Made(u32),
    Given(Arc<[u8]>),
}

/// What is known of a slot.
#[derive(Debug, Default)]
struct Peer {
    id: RoutingId,
    /// Notices of disconnection and connection in turn, each with the number of messages that are
    /// to be received after the one before it.
    #[expect(
        clippy::box_collection,
        reason = "it is rarely there, and 24 bytes larger without"
    )]
    delayed: Option<Box<VecDeque<usize>>>,
    /// Of this peer in `notices`.
    notices: u32,
    /// Its connection stands, and the user may be told of its end.
    announced: bool,
}

const _: () = assert!(size_of::<Peer>() == 40);

#[derive(Debug)]
struct Notice {
    slot: u32,
    id: RoutingId,
}

/// A peer's identity cannot be its routing id, because another one has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken(pub(super) Slot);

impl RoutingId {
    fn frame(&self) -> Frame {
        match self {
            Self::None => Frame::empty(),
            Self::Made(number) => Frame::from(made_up(*number)),
            Self::Given(id) => Frame::copy_from(id),
        }
    }
}

fn made_up(number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_be_bytes();
    [0, a, b, c, d]
}

impl Default for Addressed {
    fn default() -> Self {
        Self {
            come: FairQueue::default(),
            peers: Vec::new(),
            given: HashMap::new(),
            made: HashMap::default(),
            next: RandomState::new().hash_one(0) as u32,
            notices: VecDeque::new(),
            delays: 0,
        }
    }
}

impl Addressed {
    /// A new pipe, to which the user may have given an id.
    pub(super) fn attach(&mut self, pipes: &Pipes, slot: Slot) {
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, Peer::default);
        }
        if let Some(id) = pipes[slot].given_id.as_deref().cloned()
            && self.slot_of(&id).is_none()
        {
            self.give(slot, &id);
        }
        self.come.attach(slot);
    }

    /// Makes an id up, if the peer has none.
    pub(super) fn make_up(&mut self, slot: Slot) {
        if !matches!(self.peers[slot].id, RoutingId::None) {
            return;
        }
        let number = loop {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            // They repeat after 2^32, and the user may have given one.
            if self.slot_of(&made_up(number)).is_none() {
                break number;
            }
        };
        self.made.insert(number, slot as u32);
        self.peers[slot].id = RoutingId::Made(number);
    }

    /// The connection stands: makes the peer's identity its id, or makes one up.
    pub(super) fn identify(&mut self, pipes: &Pipes, slot: Slot) -> Result<(), Taken> {
        if let Some(id) = pipes[slot].given_id.as_deref() {
            // The user's, if nobody had it when the connection was asked for.
            let owner = self.slot_of(id);
            return match owner {
                Some(owner) if owner == slot => Ok(()),
                Some(owner) => Err(Taken(owner)),
                None => {
                    let id = id.clone();
                    self.give(slot, &id);
                    Ok(())
                }
            };
        }
        let peer = pipes[slot].peer.as_ref();
        let identity = peer.map_or(&[][..], |peer| &peer.info.identity()[..]);
        if matches!(identity, [] | [0, ..]) || identity.len() > LONGEST {
            if matches!(self.peers[slot].id, RoutingId::Given(_)) {
                self.forget(slot);
                self.peers[slot].id = RoutingId::None;
            }
            self.make_up(slot);
            return Ok(());
        }
        match self.slot_of(identity) {
            Some(owner) if owner == slot => {}
            Some(owner) => return Err(Taken(owner)),
            None => {
                self.forget(slot);
                self.give(slot, identity);
            }
        }
        Ok(())
    }

    fn give(&mut self, slot: Slot, id: &[u8]) {
        let id = Arc::<[u8]>::from(id);
        self.given.insert(id.clone(), slot as u32);
        self.peers[slot].id = RoutingId::Given(id);
    }

    /// Nothing can be sent to that peer any more; it keeps its id for what it has sent.
    pub(super) fn forget(&mut self, slot: Slot) {
        let owner = match &self.peers[slot].id {
            RoutingId::None => return,
            RoutingId::Made(number) => self.made.get(number),
            RoutingId::Given(id) => self.given.get(id),
        };
        if owner == Some(&(slot as u32)) {
            match &self.peers[slot].id {
                RoutingId::None => {}
                RoutingId::Made(number) => drop(self.made.remove(number)),
                RoutingId::Given(id) => drop(self.given.remove(id)),
            }
        }
    }

    /// Nothing more may be received from that peer, either.
    pub(super) fn silence(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.forget(slot);
        self.come.detach(pipes, slot);
        self.unannounce(slot);
    }

    /// The user is told neither that the peer goes, nor that it comes back.
    pub(super) fn unannounce(&mut self, slot: Slot) {
        self.peers[slot].announced = false;
    }

    /// The connection stands: tells the user, if `notify`.
    pub(super) fn announce(&mut self, slot: Slot, notify: bool) {
        self.peers[slot].announced = true;
        match &mut self.peers[slot].delayed {
            _ if !notify => {}
            Some(delayed) => delayed.push_back(0),
            None => self.notice(slot),
        }
    }

    /// Tells the user, if `notify`, that the peer is gone, behind what it has sent.
    pub(super) fn gone(&mut self, pipes: &Pipes, slot: Slot, notify: bool) {
        let announced = std::mem::take(&mut self.peers[slot].announced);
        if !notify || !announced {
            return;
        }
        let waiting = self.come.waiting(pipes, slot);
        match &mut self.peers[slot].delayed {
            Some(delayed) => {
                let earlier: usize = delayed.iter().sum();
                delayed.push_back(waiting.saturating_sub(earlier));
            }
            None if waiting == 0 => self.notice(slot),
            none => {
                *none = Some(Box::new(VecDeque::from([waiting])));
                self.delays += 1;
            }
        }
    }

    fn notice(&mut self, slot: Slot) {
        let peer = &mut self.peers[slot];
        peer.notices += 1;
        self.notices.push_back(Notice {
            slot: slot as u32,
            id: peer.id.clone(),
        });
    }

    /// Nothing more will come than what is there.
    pub(super) fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.forget(slot);
        let peer = &self.peers[slot];
        if peer.notices == 0 && peer.delayed.is_none() {
            self.come.ended(pipes, slot);
        }
    }

    /// The slot becomes free.
    pub(super) fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.forget(slot);
        self.come.detach(pipes, slot);
        let peer = std::mem::take(&mut self.peers[slot]);
        self.delays -= usize::from(peer.delayed.is_some());
        if peer.notices > 0 {
            self.notices.retain(|notice| notice.slot as usize != slot);
        }
    }

    /// A pipe that was empty has a message.
    pub(super) fn readable(&mut self, slot: Slot) {
        self.come.readable(slot);
    }

    /// Receives a message or a notice, with the id in front.
    #[inline]
    pub(super) fn recv(&mut self, pipes: &mut Pipes) -> Option<(Message, Slot)> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Some(self.told(pipes, &notice));
            }
            let (mut message, slot) = self.come.recv(pipes)?;
            let peer = &mut self.peers[slot];
            if matches!(peer.id, RoutingId::None) {
                // Messages come only after `connected`.
                pipes.effects.lost(Loss::Unexpected, Some(slot));
                continue;
            }
            message.push_front(peer.id.frame());
            if self.delays > 0 {
                self.count_down(slot);
            }
            return Some((message, slot));
        }
    }

    #[cold]
    fn told(&mut self, pipes: &mut Pipes, notice: &Notice) -> (Message, Slot) {
        let slot = notice.slot as usize;
        let peer = &mut self.peers[slot];
        peer.notices -= 1;
        if peer.notices == 0 && peer.delayed.is_none() && pipes[slot].ended {
            self.come.ended(pipes, slot);
        }
        (Message::from([notice.id.frame(), Frame::empty()]), slot)
    }

    /// A message of that peer was received.
    #[cold]
    fn count_down(&mut self, slot: Slot) {
        let Some(mut delayed) = self.peers[slot].delayed.take() else {
            return;
        };
        if let Some(first) = delayed.front_mut() {
            *first = first.saturating_sub(1);
        }
        while delayed.front() == Some(&0) {
            delayed.pop_front();
            self.notice(slot);
        }
        if delayed.is_empty() {
            self.delays -= 1;
        } else {
            self.peers[slot].delayed = Some(delayed);
        }
    }

    /// Whether `recv` will succeed.
    pub(super) fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        !self.notices.is_empty() || self.come.can_recv(pipes)
    }

    /// The peer of a routing id.
    #[inline]
    pub(super) fn slot_of(&self, id: &[u8]) -> Option<Slot> {
        if let &[0, a, b, c, d] = id
            && let Some(slot) = self.made.get(&u32::from_be_bytes([a, b, c, d]))
        {
            return Some(*slot as Slot);
        }
        self.given.get(id).map(|slot| *slot as Slot)
    }

    /// The routing id of a peer.
    pub(super) fn routing_id(&self, slot: Slot) -> Option<Frame> {
        let id = &self.peers.get(slot)?.id;
        (!matches!(id, RoutingId::None)).then(|| id.frame())
    }

    /// All peers that can be sent to.
    pub(super) fn reachable(&self) -> impl Iterator<Item = Slot> {
        let all = self.given.values().chain(self.made.values());
        all.map(|slot| *slot as Slot)
    }
}

/// Spreads numbers that nobody else can choose.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // The table takes its place from the low bits, and a tag from the high ones.
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
