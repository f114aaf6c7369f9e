//! What lies between a socket and one of its peers: the seam between patterns above and sessions
//! and in-process links below.
//!
//! Nouns
//! - A [`Pipe`] is one end of a way for messages, to one peer. It never waits:
//!   full and empty are said by `false`.
//! - A [`Slot`] names a pipe within its socket; it is used again after the pipe has gone.
//! - [`Pipes`] are all pipes of a socket. A pattern decides which of them; it has no pipes itself.
//! - [`Effects`] are what an operation leaves for the socket to do once its lock is given back.
//!
//! A message is one value of one or more frames: a pipe takes it as a whole or not at all.
//! Subscriptions travel as messages whose first byte is 1 (subscribe) or 0 (cancel) and whose rest
//! is the topic; the session gives them the form on the wire that the peer understands.
//!
//! Life of a pipe, each step told to the pattern by the socket:
//! ```text
//! attach -> connected (peer known; again after each reconnect) -> disconnected (it is being dialled again)
//!    any of them -> ended (nothing more can be sent; what has come can be received)
//!                -> detach (the slot is free)
//! ```
//!
//! Invariants
//! - Everything here is called with the socket's lock held, and takes no lock but the pipe's own.
//! - What a pattern refuses or drops is counted in [`Effects`], never forgotten.

use std::any::Any;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;
use sward_zmtp::{Frame, Message, PeerInfo};

use crate::loss::Loss;
use crate::traffic::Traffic;

/// Names a pipe within its socket.
pub(crate) type Slot = usize;

/// What goes on sending when its socket is closed; its owner knows the type.
pub(crate) type Leaver = Arc<dyn Any + Send + Sync>;

/// One end of a way for messages; see the file head.
pub(crate) trait Pipe: Send + Any {
    /// Takes the message, of which something without meaning is left; or says `false`, if the
    /// high-water mark is reached. (Messages stay where they are and are lent: each move of one costs
    /// as much as all the rest.)
    ///
    /// After a refusal the socket is told (`writable`) once there is room.
    fn try_send(&mut self, message: &mut Message) -> bool;

    /// As [`try_send`](Self::try_send), for a message that goes to many; `encoded` is its canonical
    /// form, if somebody has made that. `None`: refused.
    ///
    /// `Some(n)`: it would wait for `n` messages more, which may be gathered and given to it as one
    /// piece ([`send_gathered`](Self::send_gathered)). Before it writes it comes for them
    /// (`Pattern::hand_over`).
    fn try_send_copy(&mut self, message: &Message, encoded: Option<&[u8]>) -> Option<usize> {
        let _ = encoded;
        self.try_send(&mut message.clone()).then_some(0)
    }

    /// Takes messages that it said it would wait for, in canonical form, and their number. Returns for
    /// how many more it would wait. To be written by who returns more than `Some(0)` above.
    fn send_gathered(&mut self, encoded: &Bytes, messages: usize) -> usize {
        let _ = (encoded, messages);
        debug_assert!(false, "gathered for a pipe that would not wait");
        0
    }

    /// Sends the newest message of a pipe that is about to be closed, whatever the high-water mark.
    fn send_last(&mut self, message: &mut Message) -> bool {
        self.try_send(message)
    }

    /// Sends a subscription or its end upstream (`message` as in the file head): not bounded by the
    /// high-water mark, and forgotten if there is no connection now (`connected` sends all again).
    fn send_subscription(&mut self, message: Message);

    /// Asks the peer to say that all that was sent up to now has reached it, subscriptions too:
    /// `Entry::reached` gets this number, which is larger than those before. `false`: it cannot be
    /// asked.
    fn probe(&mut self, number: u64) -> bool {
        let _ = number;
        false
    }

    /// Returns whether `try_send` would succeed. `false` is a refusal as that of `try_send`: the
    /// socket is told (`writable`) once there is room.
    fn has_room(&mut self) -> bool;

    /// Puts the next message that has come in place of the one that is lent; or says `false`.
    ///
    /// After `false` the socket is told (`readable`) once there is another.
    fn try_recv(&mut self, into: &mut Message) -> bool;

    /// Ends the connection to the peer (a refused peer, a hand-over, STREAM's empty message): what
    /// was not sent is sent first if `flush`.
    fn close(&mut self, flush: bool);

    /// Ends the connection at once, because of what the peer did; monitors are told why.
    fn refuse(&mut self, why: &'static str) {
        let _ = why;
        self.close(false);
    }

    /// Writes now what was gathered, for who is about to wait for the answer.
    fn flush(&mut self) {}

    /// Its socket is closed: sends what is left. Returns what to wait for, if there is anything.
    fn linger(&mut self) -> Option<Leaver> {
        self.close(true);
        None
    }

    /// Number of messages that wait to be sent, and that have come and wait to be received.
    fn depths(&self) -> (usize, usize);

    /// What went over it so far.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// The pattern left messages behind: tells the socket of them (`readable`) once others have had
    /// their turn.
    fn again(&mut self);

    /// Called before the pattern is told of an edge (`readable`, `writable`). Returns how many
    /// messages newer ones have replaced since: `pattern/conflate.rs`.
    fn edge(&mut self) -> usize {
        0
    }
}

/// A pipe and what is known of its peer.
pub(crate) struct Entry {
    pub(crate) pipe: Box<dyn Pipe>,
    /// Known from the first `connected` on.
    pub(crate) peer: Option<Arc<Peer>>,
    /// The largest number of a `probe` that the peer has answered.
    pub(crate) reached: u64,
    /// Since when it has been connected; `None` while it is not.
    pub(crate) since: Option<Instant>,
    /// Within the process, the peer's own high-water marks, which add up with ours: of sending and
    /// of receiving.
    pub(crate) marks: Option<Box<(usize, usize)>>,
    /// The routing id that `CONNECT_ROUTING_ID` gave to this connection.
    pub(crate) given_id: Option<Box<Frame>>,
    /// The peer has gone: nothing can be sent.
    pub(crate) ended: bool,
    /// Tells this pipe from others in the same slot.
    pub(crate) generation: u32,
}

/// Who is at the other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) info: PeerInfo,
    /// `Peer-Address`: the IP address as text; empty where there is none.
    pub(crate) address: Arc<str>,
    /// The endpoint that was connected to or bound.
    pub(crate) endpoint: Arc<str>,
}

/// The pipes of a socket.
#[derive(Default)]
pub(crate) struct Pipes {
    slab: Slab<Entry>,
    generations: u32,
    /// Where the last message went.
    last: Option<Slot>,
    pub(crate) effects: Effects,
}

/// What is left to do for the socket when its lock has been given back.
#[derive(Default)]
pub(crate) struct Effects {
    /// Something is in here.
    pub(crate) any: bool,
    /// Pipes that have ended and been emptied: detach them.
    pub(crate) drained: Vec<Slot>,
    /// Pipes to close: with what is left to send (`true`) or without.
    pub(crate) close: Vec<(Slot, bool)>,
    /// Pipes to close at once, and why.
    pub(crate) refused: Vec<(Slot, &'static str)>,
    /// What was lost, and to which peer.
    pub(crate) losses: Vec<(Loss, Option<Slot>)>,
    /// The number of subscriptions or subscribers has changed.
    pub(crate) changed: bool,
    /// Pipes that have more than was taken from them at one go: tell the pattern `readable` again.
    pub(crate) again: Vec<Slot>,
    /// Requests whose reply can be taken (`Pattern::take_reply`).
    pub(crate) replied: Vec<u32>,
}

impl Pipes {
    /// Takes in a pipe.
    pub(crate) fn insert(&mut self, pipe: Box<dyn Pipe>, given_id: Option<Frame>) -> Slot {
        self.generations = self.generations.wrapping_add(1);
        self.slab.insert(Entry {
            pipe,
            peer: None,
            reached: 0,
            since: None,
            marks: None,
            given_id: given_id.map(Box::new),
            ended: false,
            generation: self.generations,
        })
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        self.slab.try_remove(slot)
    }

    /// Returns the pipe in that slot.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.slab.get_mut(slot)
    }

    /// All pipes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.slab.iter()
    }

    /// All pipes.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Entry)> {
        self.slab.iter_mut()
    }

    /// Number of pipes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Number of pipes whose peer is connected.
    pub(crate) fn connected(&self) -> usize {
        let up = |entry: &Entry| entry.since.is_some() && !entry.ended;
        self.slab.iter().filter(|(_, entry)| up(entry)).count()
    }

    /// Sends to one peer.
    #[inline]
    pub(crate) fn send(&mut self, slot: Slot, mut message: Message) -> Result<(), Message> {
        if self.lend(slot, &mut message) {
            return Ok(());
        }
        Err(message)
    }

    /// Sends to one peer a message that is lent.
    #[inline]
    pub(crate) fn lend(&mut self, slot: Slot, message: &mut Message) -> bool {
        self.last = Some(slot);
        self.slab[slot].pipe.try_send(message)
    }

    /// Writes out what went to the last receiver.
    #[inline]
    pub(crate) fn flush_last(&mut self) {
        if let Some(slot) = self.last.take()
            && let Some(entry) = self.slab.get_mut(slot)
        {
            entry.pipe.flush();
        }
    }

    /// Receives from one peer; marks it as drained if it has ended and has nothing more.
    #[inline]
    pub(crate) fn recv(&mut self, slot: Slot) -> Option<Message> {
        let mut message = Message::new();
        self.recv_into(slot, &mut message).then_some(message)
    }

    /// Receives from one peer in place of a message that is lent.
    #[inline]
    pub(crate) fn recv_into(&mut self, slot: Slot, into: &mut Message) -> bool {
        let entry = &mut self.slab[slot];
        let got = entry.pipe.try_recv(into);
        if !got && entry.ended {
            self.effects.drained(slot);
        }
        got
    }

    /// To be called before the pattern is told of an edge, if the pipe conflates.
    pub(crate) fn edge(&mut self, slot: Slot) {
        let Some(entry) = self.slab.get_mut(slot) else {
            return;
        };
        for _ in 0..entry.pipe.edge() {
            self.effects.lost(Loss::Conflated, Some(slot));
        }
    }

    /// Drops what has come from a peer from whom nothing may come.
    #[cold]
    pub(crate) fn discard(&mut self, slot: Slot) {
        for _ in 0..AT_ONE_GO {
            if !self.slab.contains(slot) || self.recv(slot).is_none() {
                return;
            }
            self.effects.lost(Loss::Unexpected, Some(slot));
        }
        self.effects.again(slot);
    }
}

/// So many messages are skipped or consumed while a socket's lock is held; then others have a turn.
pub(crate) const AT_ONE_GO: usize = 256;

impl Effects {
    /// Remembers that the pipe has ended and been emptied.
    #[cold]
    pub(crate) fn drained(&mut self, slot: Slot) {
        self.any = true;
        if !self.drained.contains(&slot) {
            self.drained.push(slot);
        }
    }

    /// Asks for the end of a connection.
    #[cold]
    pub(crate) fn close(&mut self, slot: Slot, flush: bool) {
        self.any = true;
        self.close.push((slot, flush));
    }

    /// Asks for the end of a connection because of what the peer did.
    #[cold]
    pub(crate) fn refuse(&mut self, slot: Slot, why: &'static str) {
        self.any = true;
        self.refused.push((slot, why));
    }

    /// Counts something that was lost.
    #[cold]
    pub(crate) fn lost(&mut self, loss: Loss, slot: Option<Slot>) {
        self.any = true;
        self.losses.push((loss, slot));
    }

    /// Asks for `readable` to be told again.
    #[cold]
    pub(crate) fn again(&mut self, slot: Slot) {
        self.any = true;
        if !self.again.contains(&slot) {
            self.again.push(slot);
        }
    }

    /// Says that a reply has come.
    pub(crate) fn replied(&mut self, id: u32) {
        self.any = true;
        self.replied.push(id);
    }

    /// Says that subscriptions have changed.
    pub(crate) fn changed(&mut self) {
        self.any = true;
        self.changed = true;
    }
}

impl Index<Slot> for Pipes {
    type Output = Entry;

    fn index(&self, slot: Slot) -> &Entry {
        &self.slab[slot]
    }
}

impl IndexMut<Slot> for Pipes {
    fn index_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.slab[slot]
    }
}
