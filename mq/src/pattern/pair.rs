//! PAIR (RFC 31): one peer. Whoever comes while there is one is refused and closed.
//!
//! A pipe that is being dialled is the peer, too. One that has ended is not, so that the next may
//! come at once; what it has left in its pipe is received before anything of the next.

use std::collections::VecDeque;

use sward_zmtp::Message;

use super::fair_queue::FairQueue;
use super::{Pattern, PatternOptions, Refusal};
use crate::pipe::{Pipes, Slot};

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct Pair {
    peer: Option<Slot>,
    /// Those that have something to be received, the peer last.
    order: VecDeque<Slot>,
    /// Of the first of them.
    come: FairQueue,
}

impl Pair {
    #[inline]
    fn receive(&mut self, pipes: &mut Pipes, into: &mut Message) -> Option<Slot> {
        loop {
            let got = self.come.recv_into(pipes, into);
            if got.is_some() || self.order.len() < 2 {
                return got;
            }
            let first = *self.order.front()?;
            if !pipes[first].ended {
                return None;
            }
            self.order.pop_front();
            self.come.detach(pipes, first);
            self.come.attach(*self.order.front()?);
        }
    }
}

impl Pattern for Pair {
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot) {
        if self.peer.is_some() {
            return pipes.effects.close(slot, false);
        }
        self.peer = Some(slot);
        self.order.push_back(slot);
        if self.order.len() == 1 {
            self.come.attach(slot);
        }
    }

    fn connected(&mut self, _: &mut Pipes, slot: Slot) -> bool {
        self.peer == Some(slot)
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        if self.peer == Some(slot) {
            self.peer = None;
        }
        if self.come.knows(slot) {
            self.come.ended(pipes, slot);
        } else if !self.order.contains(&slot) {
            pipes.effects.drained(slot);
        }
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        if self.peer == Some(slot) {
            self.peer = None;
        }
        let was_first = self.order.front() == Some(&slot);
        self.order.retain(|other| *other != slot);
        if was_first {
            self.come.detach(pipes, slot);
            if let Some(&first) = self.order.front() {
                self.come.attach(first);
            }
        }
    }

    fn readable(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.come.readable(slot);
        if !self.order.contains(&slot) {
            pipes.discard(slot);
        }
    }

    fn writable(&mut self, _: &mut Pipes, _: Slot) {}

    #[inline]
    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        match self.peer {
            Some(slot) if pipes.lend(slot, message) => Ok(()),
            _ => Err(Refusal::WouldBlock),
        }
    }

    #[inline]
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        self.receive(pipes, into).ok_or(Refusal::WouldBlock)
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        self.peer.is_some_and(|slot| pipes[slot].pipe.has_room())
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        let mut message = Message::new();
        if let Some(slot) = self.receive(pipes, &mut message) {
            self.come.put_back(message, slot);
            return true;
        }
        false
    }

    fn configure(&mut self, _: &PatternOptions, _: &mut Pipes) {}
}

#[cfg(test)]
mod tests {
    use sward_zmtp::SocketType;

    use super::super::testing::Bench;
    use super::*;

    fn pair() -> Bench {
        Bench::new(SocketType::Pair, &PatternOptions::default())
    }

    /// RFC 31: "MAY be connected to at most one PAIR peers"; "SHALL not filter or modify outgoing or
    /// incoming messages in any way"; "SHALL block on sending, or return a suitable error, when it
    /// has no available peer".
    #[test]
    fn it_has_one_peer() {
        let mut pair = pair();
        assert_eq!(pair.send("a"), Err(Refusal::WouldBlock));
        assert!(!pair.can_send());
        let first = pair.accept("");
        let second = pair.dial(None);
        assert!(!pair.up(second, b""));
        assert_eq!(pair.closed, [(second, false)]);
        pair.come(second, "noise");
        assert_eq!(pair.recv(), Err(Refusal::WouldBlock));
        pair.end(second);
        assert!(!pair.exists(second));
        pair.send(["a", "b"]).unwrap();
        assert_eq!(pair.sent(first), [Message::from(["a", "b"])]);
        pair.come(first, "c");
        assert_eq!(pair.recv_from(), Ok(("c".into(), first)));
    }

    /// RFC 31: "SHALL consider its peer as available only when it has a outgoing queue that is not
    /// full"; "SHALL NOT discard messages that it cannot queue".
    #[test]
    fn it_waits_for_room() {
        let mut pair = pair();
        pair.hwm = 1;
        let slot = pair.accept("");
        assert!(pair.can_send());
        pair.send("a").unwrap();
        assert_eq!(pair.send("b"), Err(Refusal::WouldBlock));
        assert!(!pair.can_send());
        assert_eq!(pair.sent(slot), [Message::from("a")]);
        pair.send("b").unwrap();
        assert_eq!(pair.losses, []);
    }

    #[test]
    fn a_dialled_peer_counts_before_it_is_there() {
        let mut pair = pair();
        let dialled = pair.dial(None);
        pair.send("early").unwrap();
        let other = pair.dial(None);
        assert!(!pair.up(other, b""));
        assert!(pair.up(dialled, b""));
        assert_eq!(pair.sent(dialled), [Message::from("early")]);
    }

    #[test]
    fn the_next_may_come_when_the_first_has_ended() {
        let mut pair = pair();
        let first = pair.accept("");
        pair.come(first, "1");
        pair.come(first, "2");
        assert!(pair.can_recv());
        pair.end(first);
        assert_eq!(pair.send("a"), Err(Refusal::WouldBlock));
        let second = pair.accept("");
        pair.come(second, "3");
        pair.send("b").unwrap();
        assert_eq!(pair.sent(second), [Message::from("b")]);
        let all: Vec<_> = std::iter::from_fn(|| pair.recv_from().ok()).collect();
        assert_eq!(
            all,
            [("1", first), ("2", first), ("3", second)].map(|(m, s)| (m.into(), s))
        );
        assert!(!pair.exists(first));
        pair.come(second, "4");
        assert!(pair.can_recv());
        assert_eq!(pair.recv(), Ok("4".into()));
        pair.end(second);
        assert_eq!(pair.pipes.len(), 0);
    }

    /// Peers that come and go while nobody reads leave no more than what they sent.
    #[test]
    fn several_may_wait_to_be_read() {
        let mut pair = pair();
        for i in 0..5_u8 {
            let slot = pair.accept("");
            if i % 2 == 0 {
                pair.come(slot, [i].as_slice());
            }
            pair.end(slot);
        }
        assert!(pair.can_recv());
        let all: Vec<_> = std::iter::from_fn(|| pair.recv().ok()).collect();
        assert_eq!(all, [[0], [2], [4]].map(|i| Message::from(i.as_slice())));
        assert!(!pair.can_recv());
        assert_eq!(pair.pipes.len(), 0);
    }

    #[test]
    fn a_peer_that_was_cut_off_makes_place() {
        let mut pair = pair();
        let slot = pair.accept("");
        pair.come(slot, "lost");
        pair.detach(slot);
        assert_eq!(pair.recv(), Err(Refusal::WouldBlock));
        let slot = pair.accept("");
        pair.come(slot, "a");
        assert_eq!(pair.recv(), Ok("a".into()));
    }
}
