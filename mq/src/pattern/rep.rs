//! REP (RFC 28): replies to whom a request came from, over the way it came.
//!
//! An [`Envelope`] is taken off each request: the pipe, and the frames up to the first empty one. A
//! request without an empty frame, or with nothing behind it, is dropped and counted.
//!
//! In its strict form (`recv`, `send`) one request is open, and both alternate. `recv_request` and
//! `reply` are without that: as many requests are open as the user holds envelopes.
//!
//! A reply never waits: to a peer that is lost (`Unroutable`) or full (`HighWaterMark`) it is dropped
//! and counted.

use sward_zmtp::{Frame, Message};

use super::fair_queue::FairQueue;
use super::{Envelope, Pattern, PatternOptions, Refusal, fill, lent};
use crate::loss::Loss;
use crate::pipe::{AT_ONE_GO, Pipes, Slot};

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct Rep {
    come: FairQueue,
    /// Of the request that was received last and is to be replied to.
    open: Option<Envelope>,
}

/// How many frames stand before the delimiter; `None` if this is no request.
fn path_len(message: &Message) -> Option<usize> {
    let at = message.frames().iter().position(|frame| frame.is_empty())?;
    (at + 1 < message.len()).then_some(at)
}

/// Takes the frames up to the delimiter off.
fn open(mut message: Message, path_len: usize) -> (Option<Message>, Message) {
    let mut path = Vec::with_capacity(path_len);
    path.extend(std::iter::from_fn(|| message.pop_front()).take(path_len));
    message.pop_front();
    (Message::from_frames(path), message)
}

impl Rep {
    /// The next request, with the length of its path.
    fn next(&mut self, pipes: &mut Pipes) -> Option<(Message, Slot, usize)> {
        let mut last = 0;
        for _ in 0..AT_ONE_GO {
            let (message, slot) = self.come.recv(pipes)?;
            if let Some(len) = path_len(&message) {
                return Some((message, slot, len));
            }
            pipes.effects.lost(Loss::Unexpected, Some(slot));
            last = slot;
        }
        pipes.effects.again(last);
        None
    }
}

impl Pattern for Rep {
    fn attach(&mut self, _: &mut Pipes, slot: Slot) {
        self.come.attach(slot);
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.come.ended(pipes, slot);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.come.detach(pipes, slot);
    }

    fn readable(&mut self, _: &mut Pipes, slot: Slot) {
        self.come.readable(slot);
    }

    fn writable(&mut self, _: &mut Pipes, _: Slot) {}

    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        lent(message, |message| match self.open.take() {
            Some(envelope) => self.reply(pipes, envelope, message),
            None => Err((Refusal::State, message)),
        })
    }

    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        fill(into, || {
            if self.open.is_some() {
                return Err(Refusal::State);
            }
            let (envelope, message) = self.recv_request(pipes)?;
            let slot = envelope.slot;
            self.open = Some(envelope);
            Ok((message, slot))
        })
    }

    fn can_send(&mut self, _: &mut Pipes) -> bool {
        self.open.is_some()
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        if self.open.is_some() {
            return false;
        }
        let Some((message, slot, _)) = self.next(pipes) else {
            return false;
        };
        self.come.put_back(message, slot);
        true
    }

    fn configure(&mut self, _: &PatternOptions, _: &mut Pipes) {}

    fn recv_request(&mut self, pipes: &mut Pipes) -> Result<(Envelope, Message), Refusal> {
        let (message, slot, path_len) = self.next(pipes).ok_or(Refusal::WouldBlock)?;
        let (path, message) = open(message, path_len);
        let generation = pipes[slot].generation;
        let envelope = Envelope {
            slot,
            generation,
            path,
        };
        Ok((envelope, message))
    }

    fn reply(
        &mut self,
        pipes: &mut Pipes,
        envelope: Envelope,
        mut message: Message,
    ) -> Result<(), (Refusal, Message)> {
        let slot = envelope.slot;
        let there = pipes
            .get_mut(slot)
            .filter(|entry| entry.generation == envelope.generation);
        if there.is_none_or(|entry| entry.ended) {
            pipes.effects.lost(Loss::Unroutable, None);
            return Ok(());
        }
        message.push_front(Frame::empty());
        for frame in envelope
            .path
            .into_iter()
            .flat_map(Message::into_frames)
            .rev()
        {
            message.push_front(frame);
        }
        if pipes.send(slot, message).is_err() {
            pipes.effects.lost(Loss::HighWaterMark, Some(slot));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sward_zmtp::SocketType;

    use super::super::testing::Bench;
    use super::*;

    fn rep() -> Bench {
        Bench::new(SocketType::Rep, &PatternOptions::default())
    }

    /// RFC 28, REP: "SHALL receive incoming messages from its peers using a fair-queuing strategy";
    /// "SHALL receive and then send exactly one message at a time" (test_spec_rep).
    #[test]
    fn it_alternates_and_is_fair() {
        let mut rep = rep();
        assert_eq!(rep.send("early"), Err(Refusal::State));
        assert!(!rep.can_send());
        let peers = [rep.accept(""), rep.accept(""), rep.accept("")];
        for slot in peers {
            for i in ["1", "2"] {
                rep.come(slot, ["", i]);
            }
        }
        for i in ["1", "2"] {
            for slot in peers {
                assert!(rep.can_recv());
                assert_eq!(rep.recv_from(), Ok((i.into(), slot)));
                assert_eq!(rep.recv(), Err(Refusal::State));
                assert!(!rep.can_recv() && rep.can_send());
                rep.send([i, "reply"]).unwrap();
                assert_eq!(rep.sent(slot), [Message::from(["", i, "reply"])]);
            }
        }
        assert_eq!(rep.recv(), Err(Refusal::WouldBlock));
    }

    /// RFC 28, REP: "SHALL remove and store the address envelope, including the delimiter"; "SHALL
    /// prepend the address envelope and delimiter".
    #[test]
    fn the_envelope_goes_back() {
        let mut rep = rep();
        let slot = rep.accept("");
        rep.come(slot, ["hop 1", "hop 2", "", "a", "", "b"]);
        assert_eq!(rep.recv(), Ok(["a", "", "b"].into()));
        rep.send("reply").unwrap();
        assert_eq!(
            rep.sent(slot),
            [Message::from(["hop 1", "hop 2", "", "reply"])]
        );
        let deep: Vec<_> = (0..10_000_u32)
            .map(|i| Frame::from(i.to_be_bytes()))
            .collect();
        let mut request = Message::from(deep.clone());
        request.push_back("");
        request.push_back("question");
        rep.come(slot, request);
        assert_eq!(rep.recv(), Ok("question".into()));
        rep.send("answer").unwrap();
        let mut expected = Message::from(deep);
        expected.extend(["", "answer"]);
        assert_eq!(rep.sent(slot), [expected]);
    }

    /// zmtp.md 13: "Request without a delimiter is skipped".
    #[test]
    fn what_is_no_request_is_dropped() {
        let mut rep = rep();
        let slot = rep.accept("");
        for malformed in [&["no delimiter"][..], &["a", "b"], &[""], &["a", ""]] {
            rep.come(slot, Message::from_iter(malformed.iter().copied()));
        }
        assert!(!rep.can_recv());
        assert_eq!(rep.losses, [(Loss::Unexpected, Some(slot)); 4]);
        rep.come(slot, ["", "good"]);
        assert!(rep.can_recv());
        assert_eq!(rep.recv(), Ok("good".into()));
    }

    /// The lock is given back between, and everything is found in the end.
    #[test]
    fn noise_without_end() {
        let mut rep = rep();
        let slot = rep.accept("");
        let mut far = rep.far[&slot].lock();
        (0..10 * AT_ONE_GO).for_each(|_| far.come("noise"));
        far.come(["", "good"]);
        drop(far);
        rep.pattern.readable(&mut rep.pipes, slot);
        let mut rounds = 0;
        while rep.recv() != Ok("good".into()) {
            rounds += 1;
        }
        assert_eq!(rounds, 10);
        assert_eq!(rep.losses.len(), 10 * AT_ONE_GO);
    }

    /// RFC 28, REP: "SHALL silently discard the reply, or return an error, if the originating peer
    /// is no longer connected"; "SHALL not block on sending".
    #[test]
    fn a_reply_that_cannot_go_is_counted() {
        let mut rep = rep();
        rep.hwm = 0;
        let slot = rep.accept("");
        rep.come(slot, ["", "1"]);
        rep.come(slot, ["", "2"]);
        rep.recv().unwrap();
        rep.send("full").unwrap();
        assert_eq!(rep.losses, [(Loss::HighWaterMark, Some(slot))]);
        rep.recv().unwrap();
        rep.end(slot);
        let next = rep.accept("");
        assert_eq!(next, slot);
        rep.send("late").unwrap();
        assert_eq!(rep.losses[1], (Loss::Unroutable, None));
        assert_eq!(rep.sent(next), []);
    }

    #[test]
    fn many_requests_are_open() {
        let mut rep = rep();
        let (a, b) = (rep.accept(""), rep.accept(""));
        rep.come(a, ["x", "", "1"]);
        rep.come(a, ["y", "", "2"]);
        rep.come(b, ["", "3"]);
        let mut open = Vec::new();
        while let Ok(request) = rep.pattern.recv_request(&mut rep.pipes) {
            open.push(request);
        }
        let texts: Vec<_> = open
            .iter()
            .map(|(_, m)| m.first().to_string_lossy())
            .collect();
        assert_eq!(texts, ["1", "3", "2"]);
        rep.end(b);
        for (envelope, message) in open.into_iter().rev() {
            rep.pattern
                .reply(&mut rep.pipes, envelope, message)
                .unwrap();
        }
        rep.settle();
        assert_eq!(
            rep.sent(a),
            [["y", "", "2"], ["x", "", "1"]].map(Message::from)
        );
        assert_eq!(rep.losses, [(Loss::Unroutable, None)]);
        let (refusal, _) = Bench::new(SocketType::Pull, &PatternOptions::default())
            .pattern
            .request(&mut Pipes::default(), 1, "a".into())
            .unwrap_err();
        assert_eq!(refusal, Refusal::Unsupported);
    }
}
