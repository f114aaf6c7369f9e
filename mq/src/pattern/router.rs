//! ROUTER (RFC 28): the first frame says to whom, and from whom.
//!
//! - A message to nobody, or to a peer that is full, is dropped and counted; with MANDATORY it is
//!   refused: `Unroutable`, `WouldBlock`. One frame alone is no message to a peer: `Invalid`.
//! - A second peer with an identity that is taken is refused; with HANDOVER it takes over, and the
//!   first is closed (what it has sent is still received, under the same id).
//! - An identity that ZMTP does not allow (more than 255 bytes, or beginning with 0) counts as none.
//! - `Entry::given_id` (CONNECT_ROUTING_ID) comes before the peer's identity, and can be sent to
//!   before the connection stands.

use sward_zmtp::{Frame, Message};

use super::addressed::{Addressed, Taken};
use super::{Pattern, PatternOptions, Refusal, fill, lent, probe};
use crate::loss::Loss;
use crate::pipe::{Pipes, Slot};

/// ROUTER_NOTIFY: bits.
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;

/// See the file head.
#[derive(Debug)]
pub(super) struct Router {
    peers: Addressed,
    mandatory: bool,
    handover: bool,
    notify: u8,
    probe: bool,
}

impl Router {
    pub(super) fn new(options: &PatternOptions) -> Self {
        Self {
            peers: Addressed::default(),
            mandatory: options.router_mandatory,
            handover: options.router_handover,
            notify: options.router_notify,
            probe: options.probe_router,
        }
    }
}

impl Pattern for Router {
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.attach(pipes, slot);
        if self.probe {
            probe(pipes, slot);
        }
    }

    fn connected(&mut self, pipes: &mut Pipes, slot: Slot) -> bool {
        while let Err(Taken(owner)) = self.peers.identify(pipes, slot) {
            if !self.handover {
                self.peers.silence(pipes, slot);
                return false;
            }
            self.peers.forget(owner);
            self.peers.unannounce(owner);
            pipes.effects.close(owner, false);
        }
        self.peers.announce(slot, self.notify & CONNECT != 0);
        true
    }

    fn disconnected(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.gone(pipes, slot, self.notify & DISCONNECT != 0);
        if self.probe {
            probe(pipes, slot);
        }
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.gone(pipes, slot, self.notify & DISCONNECT != 0);
        self.peers.ended(pipes, slot);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.detach(pipes, slot);
    }

    fn readable(&mut self, _: &mut Pipes, slot: Slot) {
        self.peers.readable(slot);
    }

    fn writable(&mut self, _: &mut Pipes, _: Slot) {}

    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        lent(message, |mut message| {
            if message.len() < 2 {
                return Err((Refusal::Invalid, message));
            }
            let Some(slot) = self.peers.slot_of(message.first()) else {
                if self.mandatory {
                    return Err((Refusal::Unroutable, message));
                }
                pipes.effects.lost(Loss::Unroutable, None);
                return Ok(());
            };
            let id = message.pop_front().unwrap_or_default();
            let Err(mut back) = pipes.send(slot, message) else {
                return Ok(());
            };
            if self.mandatory {
                back.push_front(id);
                return Err((Refusal::WouldBlock, back));
            }
            pipes.effects.lost(Loss::HighWaterMark, Some(slot));
            Ok(())
        })
    }

    #[inline]
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        fill(into, || self.peers.recv(pipes).ok_or(Refusal::WouldBlock))
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        !self.mandatory
            || self
                .peers
                .reachable()
                .any(|slot| pipes[slot].pipe.has_room())
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        self.peers.can_recv(pipes)
    }

    fn configure(&mut self, options: &PatternOptions, _: &mut Pipes) {
        let peers = std::mem::take(&mut self.peers);
        *self = Self {
            peers,
            ..Self::new(options)
        };
    }

    fn routing_id(&self, slot: Slot) -> Option<Frame> {
        self.peers.routing_id(slot)
    }

    #[cfg(test)]
    fn slot_of(&self, routing_id: &[u8]) -> Option<Slot> {
        self.peers.slot_of(routing_id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sward_zmtp::SocketType;

    use super::super::testing::Bench;
    use super::*;

    fn router(change: impl FnOnce(&mut PatternOptions)) -> Bench {
        let mut options = PatternOptions::default();
        change(&mut options);
        Bench::new(SocketType::Router, &options)
    }

    /// RFC 28, ROUTER: "SHALL receive incoming messages from its peers using a fair-queuing
    /// strategy"; "SHALL prefix each incoming message with a frame containing the identity of the
    /// originating double queue" (test_spec_router).
    #[test]
    fn it_receives_in_turn_with_the_id_in_front() {
        let mut router = router(|_| {});
        let (a, b) = (router.accept("A"), router.accept("B"));
        for i in ["1", "2"] {
            router.come(a, ["", i]);
            router.come(b, i);
        }
        assert!(router.can_recv());
        assert_eq!(router.recv_from(), Ok((["A", "", "1"].into(), a)));
        assert_eq!(router.recv_from(), Ok((["B", "1"].into(), b)));
        assert_eq!(router.recv(), Ok(["A", "", "2"].into()));
        assert_eq!(router.recv(), Ok(["B", "2"].into()));
        assert_eq!(router.recv(), Err(Refusal::WouldBlock));
    }

    /// RFC 28, ROUTER: "SHALL remove the first frame from each outgoing message and use this as the
    /// identity of a double queue"; "SHALL either silently drop the message, or return an error,
    /// depending on configuration, if the queue does not exist, or is full" - we count it.
    #[test]
    fn it_sends_to_whom_the_first_frame_says() {
        let mut router = router(|_| {});
        let (a, b) = (router.accept("A"), router.accept(""));
        router.send(["A", "", "1"]).unwrap();
        let made = router.pattern.routing_id(b).unwrap();
        assert_eq!((made.len(), made[0]), (5, 0));
        router.send([made.clone(), "2".into()]).unwrap();
        assert_eq!(router.sent(a), [Message::from(["", "1"])]);
        assert_eq!(router.sent(b), [Message::from("2")]);
        router.send(["nobody", "3"]).unwrap();
        assert_eq!(router.losses, [(Loss::Unroutable, None)]);
        assert_eq!(router.send("A"), Err(Refusal::Invalid));
        assert_eq!(router.pattern.slot_of(&made), Some(b));
        router.end(a);
        router.send(["A", "4"]).unwrap();
        assert_eq!(router.losses.len(), 2);
        assert_eq!(router.pattern.slot_of(b"A"), None);
    }

    /// test_router_mandatory, test_router_mandatory_hwm.
    #[test]
    fn mandatory_says_what_would_be_dropped() {
        let mut router = router(|o| o.router_mandatory = true);
        assert!(!router.can_send());
        assert_eq!(router.send(["A", "1"]), Err(Refusal::Unroutable));
        router.hwm = 1;
        let slot = router.accept("A");
        assert!(router.can_send());
        router.send(["A", "1"]).unwrap();
        assert!(!router.can_send());
        assert_eq!(router.send(["A", "", "2"]), Err(Refusal::WouldBlock));
        router.configure(|_| {});
        router.send(["A", "dropped"]).unwrap();
        assert_eq!(router.losses, [(Loss::HighWaterMark, Some(slot))]);
        assert!(router.can_send());
        assert_eq!(router.sent(slot), [Message::from("1")]);
        router.send(["A", "3"]).unwrap();
    }

    /// test_router_handover: "refused by default, taken over with ROUTER_HANDOVER".
    #[test]
    fn a_second_peer_of_the_same_name() {
        let mut router = router(|o| o.router_notify = CONNECT | DISCONNECT);
        let first = router.accept("X");
        router.recv().unwrap();
        let second = router.dial(None);
        assert!(!router.up(second, b"X"));
        router.come(second, "not heard");
        assert_eq!(router.recv(), Err(Refusal::WouldBlock));
        router.send(["X", "1"]).unwrap();
        assert_eq!(router.sent(first).len(), 1);
        router.end(second);
        assert!(!router.exists(second));

        router.configure(|o| (o.router_handover, o.router_notify) = (true, 3));
        router.come(first, "last words");
        let third = router.accept("X");
        assert_eq!(router.closed, [(first, false)]);
        router.send(["X", "2"]).unwrap();
        assert_eq!(
            (router.sent(first), router.sent(third)),
            (vec![], vec!["2".into()])
        );
        router.end(first);
        let all: Vec<_> = std::iter::from_fn(|| router.recv().ok()).collect();
        assert_eq!(all, [["X", ""], ["X", "last words"]].map(Message::from));
        assert!(!router.exists(first));
        router.send(["X", "3"]).unwrap();
        assert_eq!(router.sent(third).len(), 1);
        router.end(third);
        assert_eq!(router.recv(), Ok(["X", ""].into()));
    }

    /// One that has ended does not stand in the way of its successor, even if it is still read.
    #[test]
    fn a_name_is_free_at_the_end() {
        let mut router = router(|_| {});
        let first = router.accept("X");
        router.come(first, "1");
        router.end(first);
        let second = router.accept("X");
        router.come(second, "2");
        router.send(["X", "3"]).unwrap();
        assert_eq!(router.sent(second).len(), 1);
        assert_eq!(router.recv_from(), Ok((["X", "1"].into(), first)));
        assert_eq!(router.recv_from(), Ok((["X", "2"].into(), second)));
        assert_eq!(router.recv(), Err(Refusal::WouldBlock));
        assert!(!router.exists(first));
        router.detach(second);
        assert_eq!(router.pattern.slot_of(b"X"), None);
    }

    /// attacks.md B 17: such an identity could be the made-up id of somebody else.
    #[test]
    fn an_identity_that_is_not_allowed_counts_as_none() {
        let mut router = router(|_| {});
        let a = router.accept("");
        let made = router.pattern.routing_id(a).unwrap();
        let b = router.dial(None);
        assert!(router.up(b, &made));
        let c = router.dial(None);
        assert!(router.up(c, &[b'x'; 256]));
        let ids = [a, b, c].map(|slot| router.pattern.routing_id(slot).unwrap());
        assert!(ids.iter().all(|id| id.len() == 5 && id[0] == 0));
        assert_eq!(BTreeSet::from(ids).len(), 3);
        let d = router.dial(None);
        assert!(router.up(d, &[b'x'; 255]));
        assert_eq!(router.pattern.routing_id(d).unwrap().len(), 255);
    }

    /// test_connect_rid: the user's name for a connection comes before the peer's own, and can be
    /// sent to at once; also while messages are received from another peer.
    #[test]
    fn the_user_names_a_connection() {
        let mut router = router(|o| o.router_mandatory = true);
        let y = router.accept("Y");
        let slot = router.dial(Some("Z"));
        router.send(["Z", "hi 1"]).unwrap();
        assert!(router.up(slot, b"its own name"));
        assert_eq!(
            (router.sent(slot), router.sent(y)),
            (vec!["hi 1".into()], vec![])
        );
        router.come(slot, "ok");
        assert_eq!(router.recv(), Ok(["Z", "ok"].into()));
        assert_eq!(router.send(["its own name", "a"]), Err(Refusal::Unroutable));
        let other = router.dial(Some("Y"));
        assert!(!router.up(other, b""));
        let other = router.dial(Some("\0abcd"));
        assert_eq!(router.pattern.slot_of(b"\0abcd"), Some(other));
    }

    /// A dialled peer has no name before it says one; it may say another one after a reconnect.
    #[test]
    fn a_peer_may_change_its_name() {
        let mut router = router(|o| o.router_mandatory = true);
        let slot = router.dial(None);
        assert_eq!(router.pattern.routing_id(slot), None);
        assert!(router.up(slot, b"A"));
        router.down(slot);
        router.send(["A", "queued"]).unwrap();
        assert!(router.up(slot, b"A"));
        router.down(slot);
        assert!(router.up(slot, b"B"));
        assert_eq!(router.send(["A", "x"]), Err(Refusal::Unroutable));
        router.send(["B", "x"]).unwrap();
        router.down(slot);
        assert!(router.up(slot, b""));
        assert_eq!(router.send(["B", "x"]), Err(Refusal::Unroutable));
        let made = router.pattern.routing_id(slot).unwrap();
        router.send([made, "x".into()]).unwrap();
        assert_eq!(router.sent(slot).len(), 3);
    }

    /// test_router_notify: "ROUTER_NOTIFY connect/disconnect notifications (id + empty frame), failed
    /// handshakes give none".
    #[test]
    fn it_tells_of_peers() {
        for notify in 0..4 {
            let mut router = router(|o| o.router_notify = notify);
            let slot = router.accept("X");
            if notify & CONNECT != 0 {
                assert_eq!(router.recv_from(), Ok((["X", ""].into(), slot)));
            }
            router.come(slot, "Hello");
            router.end(slot);
            assert_eq!(router.recv(), Ok(["X", "Hello"].into()));
            if notify & DISCONNECT != 0 {
                assert!(router.can_recv());
                assert_eq!(router.recv_from(), Ok((["X", ""].into(), slot)));
            }
            assert!(!router.can_recv());
            assert!(!router.exists(slot));
            let never = router.dial(None);
            router.end(never);
            assert!(!router.can_recv());
            assert!(!router.exists(never));
        }
    }

    #[test]
    fn what_is_not_told_yet_goes_with_the_slot() {
        let mut router = router(|o| o.router_notify = 3);
        let (a, b) = (router.accept("A"), router.accept("B"));
        router.come(a, "1");
        router.come(a, "2");
        router.end(a);
        router.detach(a);
        assert_eq!(router.recv_from(), Ok((["B", ""].into(), b)));
        assert_eq!(router.recv(), Err(Refusal::WouldBlock));
        let c = router.accept("A");
        assert_eq!(c, a);
        assert_eq!(router.recv_from(), Ok((["A", ""].into(), c)));
    }

    /// test_probe_router: ROUTER to ROUTER, whose user learns the id from an empty message.
    #[test]
    fn it_probes() {
        let mut router = router(|o| o.probe_router = true);
        let slot = router.accept("X");
        assert_eq!(router.sent(slot), [Message::new()]);
        router.come(slot, Message::new());
        assert_eq!(router.recv(), Ok(["X", ""].into()));
    }

    /// test_issue_566: many short lives with given names.
    #[test]
    fn many_come_and_go() {
        let mut router = router(|o| o.router_mandatory = true);
        for i in 0..1_000 {
            let name = format!("dealer {}", i % 7);
            let slot = router.accept(&name);
            router.send([&name[..], "hello"]).unwrap();
            assert_eq!(router.sent(slot), [Message::from("hello")]);
            router.come(slot, "bye");
            router.end(slot);
            assert_eq!(router.recv(), Ok([&name[..], "bye"].into()));
            assert_eq!(router.recv(), Err(Refusal::WouldBlock));
        }
        assert_eq!(router.pipes.len(), 0);
    }
}
