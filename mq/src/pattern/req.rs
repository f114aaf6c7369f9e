//! REQ (RFC 28): sends a request to the next peer in turn, and receives the reply to it.
//!
//! A request has an empty frame in front, with a number of four bytes before that if it is
//! *correlated*. A reply is what begins in the same way and comes from the pipe that the request
//! went to; everything else is dropped and counted.
//!
//! In its strict form (`send`, `recv`) one request is open, and both alternate. REQ_RELAXED: a new
//! request takes the place of the open one. REQ_CORRELATE: requests are numbered.
//! ```text
//! idle --send--> waiting --recv--> idle          waiting --send (relaxed)--> waiting
//! ```
//! `request`, `take_reply` and `forget` are without that ([`Requests`]): any number of correlated
//! requests under numbers of the caller. Their replies are sorted in as they come. Use one form or the
//! other: a reply in the strict form that nobody receives stands before others.
//!
//! What has come before a request is sent cannot be its reply, and is dropped then: without numbers
//! it could not be told apart later. A peer that is lost takes the reply with it; the request stays
//! open (zmtp.md 13).

use std::hash::{BuildHasher, RandomState};

use sward_zmtp::Message;

use super::dealer::Dealer;
use super::requests::{Requests, Target, id_of, unwrap, wrap};
use super::{Pattern, PatternOptions, Refusal, fill, lent};
use crate::loss::Loss;
use crate::pipe::{AT_ONE_GO, Pipes, Slot};

/// See the file head.
#[derive(Debug)]
pub(super) struct Req {
    dealer: Dealer,
    correlate: bool,
    relaxed: bool,
    waiting: Option<(Target, Option<u32>)>,
    next_id: u32,
    open: Requests,
}

impl Req {
    pub(super) fn new(options: &PatternOptions) -> Self {
        Self {
            dealer: Dealer::new(options),
            correlate: options.req_correlate,
            relaxed: options.req_relaxed,
            waiting: None,
            next_id: RandomState::new().hash_one(0) as u32,
            open: Requests::default(),
        }
    }

    /// Keeps the reply to an open request, gives that in the strict form back, and drops the rest.
    fn strict(&mut self, pipes: &mut Pipes, message: Message, slot: Slot) -> Option<Message> {
        let message = self.open.keep(pipes, message, slot).err()?;
        let from = Target::new(pipes, slot);
        if id_of(&message).is_some_and(|id| self.waiting == Some((from, id))) {
            return Some(message);
        }
        pipes.effects.lost(Loss::Unexpected, Some(slot));
        None
    }

    /// The reply in the strict form as it came; sorts in what comes before it.
    fn next(&mut self, pipes: &mut Pipes) -> Option<(Message, Slot)> {
        let mut last = 0;
        for _ in 0..AT_ONE_GO {
            let (message, slot) = self.dealer.come.recv(pipes)?;
            if let Some(message) = self.strict(pipes, message, slot) {
                return Some((message, slot));
            }
            last = slot;
        }
        pipes.effects.again(last);
        None
    }

    /// Sorts in what has come.
    fn sort(&mut self, pipes: &mut Pipes) -> bool {
        let Some((message, slot)) = self.next(pipes) else {
            return false;
        };
        self.dealer.come.put_back(message, slot);
        true
    }

    fn post(
        &mut self,
        pipes: &mut Pipes,
        mut message: Message,
        id: Option<u32>,
    ) -> Result<Slot, (Refusal, Message)> {
        wrap(&mut message, id);
        let sent = self.dealer.out.send(pipes, &mut message);
        sent.ok_or_else(|| (Refusal::WouldBlock, unwrap(message, id)))
    }
}

impl Pattern for Req {
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.dealer.attach(pipes, slot);
    }

    fn disconnected(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.dealer.disconnected(pipes, slot);
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.dealer.ended(pipes, slot);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.dealer.detach(pipes, slot);
    }

    fn readable(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.dealer.readable(pipes, slot);
        if !self.open.is_empty() {
            self.sort(pipes);
        }
    }

    fn writable(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.dealer.writable(pipes, slot);
    }

    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        lent(message, |message| {
            if self.waiting.is_some() && !self.relaxed {
                return Err((Refusal::State, message));
            }
            if self.dealer.out.next(pipes).is_none() {
                return Err((Refusal::WouldBlock, message));
            }
            for _ in 0..AT_ONE_GO {
                let Some((old, slot)) = self.dealer.come.recv(pipes) else {
                    break;
                };
                if self.strict(pipes, old, slot).is_some() {
                    pipes.effects.lost(Loss::Unexpected, Some(slot));
                }
            }
            let id = self.correlate.then(|| {
                loop {
                    self.next_id = self.next_id.wrapping_add(1);
                    if !self.open.contains(self.next_id) {
                        break self.next_id;
                    }
                }
            });
            let slot = self.post(pipes, message, id)?;
            self.waiting = Some((Target::new(pipes, slot), id));
            Ok(())
        })
    }

    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        fill(into, || {
            let Some((_, id)) = self.waiting else {
                return Err(Refusal::State);
            };
            let (message, slot) = self.next(pipes).ok_or(Refusal::WouldBlock)?;
            self.waiting = None;
            Ok((unwrap(message, id), slot))
        })
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        (self.waiting.is_none() || self.relaxed) && self.dealer.can_send(pipes)
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        self.waiting.is_some() && self.sort(pipes)
    }

    fn configure(&mut self, options: &PatternOptions, pipes: &mut Pipes) {
        self.dealer.configure(options, pipes);
        self.correlate = options.req_correlate;
        self.relaxed = options.req_relaxed;
    }

    fn request(
        &mut self,
        pipes: &mut Pipes,
        id: u32,
        message: Message,
    ) -> Result<Slot, (Refusal, Message)> {
        if self.open.contains(id) {
            return Err((Refusal::Invalid, message));
        }
        let slot = self.post(pipes, message, Some(id))?;
        self.open.open(id, Target::new(pipes, slot));
        Ok(slot)
    }

    fn take_reply(&mut self, pipes: &mut Pipes, id: u32) -> Option<Message> {
        self.sort(pipes);
        self.open.take(id)
    }

    fn forget(&mut self, id: u32) {
        self.open.forget(id);
    }
}

#[cfg(test)]
mod tests {
    use sward_zmtp::{Frame, SocketType};

    use super::super::testing::Bench;
    use super::*;

    fn req(change: impl FnOnce(&mut PatternOptions)) -> Bench {
        let mut options = PatternOptions::default();
        change(&mut options);
        Bench::new(SocketType::Req, &options)
    }

    /// RFC 28, REQ: "SHALL send and then receive exactly one message at a time"; "SHALL prefix the
    /// outgoing message with an empty delimiter frame"; "SHALL route outgoing messages to connected
    /// peers using a round-robin strategy"; "SHALL block on sending, or return a suitable error,
    /// when it has no connected peers" (test_spec_req).
    #[test]
    fn it_alternates_over_its_peers() {
        let mut req = req(|_| {});
        assert_eq!(req.recv(), Err(Refusal::State));
        assert_eq!(req.send("nobody"), Err(Refusal::WouldBlock));
        assert!(!req.can_send());
        let peers = [req.accept(""), req.accept("")];
        for slot in [peers, peers].concat() {
            assert!(req.can_send() && !req.can_recv());
            req.send(["ABC", "DEF"]).unwrap();
            assert_eq!(req.send("again"), Err(Refusal::State));
            assert!(!req.can_send());
            assert_eq!(req.recv(), Err(Refusal::WouldBlock));
            assert_eq!(req.sent(slot), [Message::from(["", "ABC", "DEF"])]);
            req.come(slot, ["", "reply"]);
            assert!(req.can_recv());
            assert_eq!(req.recv_from(), Ok(("reply".into(), slot)));
            assert_eq!(req.recv(), Err(Refusal::State));
        }
        assert_eq!(req.losses, []);
    }

    /// RFC 28, REQ: "SHALL accept an incoming message only from the last peer that it sent a request
    /// to"; "SHALL discard silently any messages received from other peers" - we count them.
    #[test]
    fn replies_of_others_are_dropped() {
        let mut req = req(|_| {});
        let (a, b) = (req.accept(""), req.accept(""));
        req.come(b, ["", "before"]);
        req.send("question").unwrap();
        req.come(b, ["", "wrong"]);
        assert!(!req.can_recv());
        req.come(a, ["", "right"]);
        req.come(b, ["", "wrong"]);
        assert_eq!(req.recv_from(), Ok(("right".into(), a)));
        req.send("next").unwrap();
        assert_eq!(req.losses, [(Loss::Unexpected, Some(b)); 3]);
        assert_eq!(req.sent(b).len(), 1);
    }

    /// test_invalid_rep: "REQ ignores a malformed reply without delimiter, then takes the valid one".
    #[test]
    fn malformed_replies_are_dropped() {
        let mut req = req(|_| {});
        let slot = req.accept("");
        req.send("question").unwrap();
        for malformed in [
            &["bad"][..],
            &[""],
            &["bad", "bad"],
            &["1234", "", "bad"],
            &["1234", ""],
        ] {
            req.come(slot, Message::from_iter(malformed.iter().copied()));
        }
        assert_eq!(req.recv(), Err(Refusal::WouldBlock));
        assert_eq!(req.losses, [(Loss::Unexpected, Some(slot)); 5]);
        req.come(slot, ["", "good"]);
        assert_eq!(req.recv(), Ok("good".into()));
    }

    /// test_req_correlate: "REQ_CORRELATE puts a request id frame before the delimiter and drops
    /// replies with another id".
    #[test]
    fn correlated() {
        let mut req = req(|o| o.req_correlate = true);
        let slot = req.accept("");
        req.send("question").unwrap();
        let sent = req.sent(slot).remove(0).into_frames();
        assert_eq!(
            (sent[0].len(), &sent[1..]),
            (4, &["", "question"].map(Frame::from)[..])
        );
        req.come(slot, ["wxyz", "", "wrong"]);
        req.come(slot, ["", "wrong"]);
        req.come(
            slot,
            [sent[0].clone(), "no delimiter".into(), "wrong".into()],
        );
        assert!(!req.can_recv());
        req.come(slot, [sent[0].clone(), "".into(), "right".into()]);
        assert!(req.can_recv());
        assert_eq!(req.recv(), Ok("right".into()));
        assert_eq!(req.losses.len(), 3);
        req.send("question").unwrap();
        assert_ne!(req.sent(slot)[0].first(), &sent[0]);
    }

    /// test_req_relaxed, cases 1 to 3.
    #[test]
    fn relaxed() {
        let mut req = req(|o| (o.req_relaxed, o.req_correlate) = (true, true));
        let peers = [req.accept(""), req.accept("")];
        let mut ids = Vec::new();
        for (slot, text) in peers.into_iter().zip(["A", "C"]) {
            req.send(text).unwrap();
            assert!(req.can_send());
            ids.push(req.sent(slot)[0].first().clone());
        }
        req.come(peers[0], [ids[0].clone(), "".into(), "WRONG".into()]);
        assert!(!req.can_recv());
        req.come(peers[1], [ids[1].clone(), "".into(), "OK".into()]);
        assert_eq!(req.recv(), Ok("OK".into()));
        // A reply that has come, but was not received before the next request.
        req.send("H").unwrap();
        let id = req.sent(peers[0])[0].first().clone();
        req.come(peers[0], [id, "".into(), "BAD".into()]);
        assert!(req.can_recv());
        req.send("I").unwrap();
        assert!(!req.can_recv());
        let id = req.sent(peers[1])[0].first().clone();
        req.come(peers[1], [id, "".into(), "GOOD".into()]);
        assert_eq!(req.recv(), Ok("GOOD".into()));
        req.send("J").unwrap();
        assert_eq!(req.sent(peers[0]).len(), 1);
    }

    /// Without numbers the old reply of the same peer must not pass for the new one, if it has come.
    #[test]
    fn relaxed_without_numbers() {
        let mut req = req(|o| o.req_relaxed = true);
        req.hwm = 1;
        let slot = req.accept("");
        req.send("1").unwrap();
        req.come(slot, ["", "old"]);
        // Nobody has room: the open request stays.
        assert_eq!(req.send("2"), Err(Refusal::WouldBlock));
        assert!(req.can_recv());
        req.sent(slot);
        req.send("2").unwrap();
        assert_eq!(req.recv(), Err(Refusal::WouldBlock));
        req.come(slot, ["", "new"]);
        assert_eq!(req.recv(), Ok("new".into()));
    }

    #[test]
    fn a_lost_peer_takes_the_reply_with_it() {
        let mut req = req(|_| {});
        let slot = req.accept("");
        req.send("question").unwrap();
        req.end(slot);
        assert!(!req.exists(slot));
        let other = req.accept("");
        assert_eq!(other, slot);
        req.come(other, ["", "of somebody else"]);
        assert_eq!(req.recv(), Err(Refusal::WouldBlock));
        assert_eq!(req.send("next"), Err(Refusal::State));
        req.configure(|o| o.req_relaxed = true);
        req.send("next").unwrap();
        req.come(other, ["", "reply"]);
        req.end(other);
        assert_eq!(req.recv(), Ok("reply".into()));
    }

    #[test]
    fn many_requests_are_open() {
        let mut req = req(|_| {});
        let peers = [req.accept(""), req.accept("")];
        let refused = |result: Result<Slot, (Refusal, Message)>| result.unwrap_err().0;
        for id in 0..4 {
            let slot = req
                .pattern
                .request(&mut req.pipes, id, ["q", "r"].into())
                .unwrap();
            assert_eq!(slot, peers[id as usize % 2]);
            let sent = req.sent(slot);
            assert_eq!(sent[0].frames()[0], id.to_be_bytes());
            assert_eq!(sent[0].frames()[1..], ["", "q", "r"].map(Frame::from));
        }
        let result = req.pattern.request(&mut req.pipes, 3, "q".into());
        assert_eq!(refused(result), Refusal::Invalid);
        let reply = |req: &mut Bench, id: u32, slot, text: &str| {
            req.come(
                slot,
                [id.to_be_bytes()[..].into(), Frame::empty(), text.into()],
            );
        };
        req.pattern.forget(2);
        reply(&mut req, 3, peers[0], "from the wrong peer");
        reply(&mut req, 3, peers[1], "three");
        reply(&mut req, 3, peers[1], "twice");
        reply(&mut req, 2, peers[0], "forgotten");
        reply(&mut req, 0, peers[0], "zero");
        reply(&mut req, 9, peers[0], "never asked");
        assert_eq!(req.replied, [3, 0]);
        assert_eq!(
            req.pattern.take_reply(&mut req.pipes, 0),
            Some("zero".into())
        );
        assert_eq!(req.pattern.take_reply(&mut req.pipes, 0), None);
        assert_eq!(req.pattern.take_reply(&mut req.pipes, 1), None);
        assert_eq!(req.pattern.take_reply(&mut req.pipes, 2), None);
        assert_eq!(
            req.pattern.take_reply(&mut req.pipes, 3),
            Some("three".into())
        );
        assert_eq!(req.losses.len(), 4);
        // The strict form beside it.
        req.send("strict").unwrap();
        req.come(peers[0], ["", "reply"]);
        assert_eq!(req.recv(), Ok("reply".into()));
        reply(&mut req, 1, peers[1], "one");
        assert_eq!(
            req.pattern.take_reply(&mut req.pipes, 1),
            Some("one".into())
        );
        req.hwm = 0;
        for slot in peers {
            req.end(slot);
        }
        let result = req.pattern.request(&mut req.pipes, 7, ["q", "r"].into());
        assert_eq!(result, Err((Refusal::WouldBlock, ["q", "r"].into())));
    }
}
