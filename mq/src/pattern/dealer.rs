//! DEALER (RFC 28): a [`LoadBalancer`] out and a [`FairQueue`] in, and nothing between.
//!
//! Unless it is asked to send requests of its own ([`Requests`]): from the first on, what has the form
//! of a reply to one is a reply, and dropped if nobody waits for it; all else is received as ever. Use
//! one form or the other: a message that nobody receives stands before replies.

use sward_zmtp::Message;

use super::fair_queue::FairQueue;
use super::load_balancer::LoadBalancer;
use super::requests::{Requests, Target, id_of, unwrap, wrap};
use super::{Pattern, PatternOptions, Refusal, probe};
use crate::loss::Loss;
use crate::pipe::{AT_ONE_GO, Pipes, Slot};

/// See the file head.
#[derive(Debug)]
pub(super) struct Dealer {
    pub(super) out: LoadBalancer,
    pub(super) come: FairQueue,
    probe: bool,
    /// There from the first request on.
    asked: Option<Box<Requests>>,
}

impl Dealer {
    pub(super) fn new(options: &PatternOptions) -> Self {
        Self {
            out: LoadBalancer::default(),
            come: FairQueue::default(),
            probe: options.probe_router,
            asked: None,
        }
    }

    /// The next message that is no reply; sorts in the replies before it.
    #[cold]
    fn next(&mut self, pipes: &mut Pipes) -> Option<(Message, Slot)> {
        let mut last = 0;
        for _ in 0..AT_ONE_GO {
            let (message, slot) = self.come.recv(pipes)?;
            let asked = self.asked.get_or_insert_default();
            if let Err(message) = asked.keep(pipes, message, slot) {
                if !matches!(id_of(&message), Some(Some(_))) {
                    return Some((message, slot));
                }
                pipes.effects.lost(Loss::Unexpected, Some(slot));
            }
            last = slot;
        }
        pipes.effects.again(last);
        None
    }

    /// Sorts in what has come; whether there is a message that is no reply.
    #[cold]
    fn sort(&mut self, pipes: &mut Pipes) -> bool {
        let Some((message, slot)) = self.next(pipes) else {
            return false;
        };
        self.come.put_back(message, slot);
        true
    }
}

impl Pattern for Dealer {
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.attach(slot);
        self.come.attach(slot);
        if self.probe {
            probe(pipes, slot);
        }
    }

    fn disconnected(&mut self, pipes: &mut Pipes, slot: Slot) {
        if self.probe {
            probe(pipes, slot);
        }
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.detach(slot);
        self.come.ended(pipes, slot);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.detach(slot);
        self.come.detach(pipes, slot);
    }

    fn readable(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.come.readable(slot);
        if self.asked.as_ref().is_some_and(|asked| !asked.is_empty()) {
            self.sort(pipes);
        }
    }

    fn writable(&mut self, _: &mut Pipes, slot: Slot) {
        self.out.writable(slot);
    }

    #[inline]
    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        match self.out.send(pipes, message) {
            Some(_) => Ok(()),
            None => Err(Refusal::WouldBlock),
        }
    }

    #[inline]
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        if self.asked.is_some() {
            let (message, slot) = self.next(pipes).ok_or(Refusal::WouldBlock)?;
            *into = message;
            return Ok(slot);
        }
        self.come.recv_into(pipes, into).ok_or(Refusal::WouldBlock)
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        self.out.next(pipes).is_some()
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        match self.asked {
            Some(_) => self.sort(pipes),
            None => self.come.can_recv(pipes),
        }
    }

    fn configure(&mut self, options: &PatternOptions, _: &mut Pipes) {
        self.probe = options.probe_router;
    }

    fn request(
        &mut self,
        pipes: &mut Pipes,
        id: u32,
        mut message: Message,
    ) -> Result<Slot, (Refusal, Message)> {
        let asked = self.asked.get_or_insert_default();
        if asked.contains(id) {
            return Err((Refusal::Invalid, message));
        }
        wrap(&mut message, Some(id));
        let Some(slot) = self.out.send(pipes, &mut message) else {
            return Err((Refusal::WouldBlock, unwrap(message, Some(id))));
        };
        asked.open(id, Target::new(pipes, slot));
        Ok(slot)
    }

    fn take_reply(&mut self, pipes: &mut Pipes, id: u32) -> Option<Message> {
        self.sort(pipes);
        self.asked.as_mut()?.take(id)
    }

    fn forget(&mut self, id: u32) {
        if let Some(asked) = &mut self.asked {
            asked.forget(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use sward_zmtp::SocketType;

    use super::super::testing::Bench;
    use super::*;

    /// RFC 28, DEALER: "SHALL route outgoing messages to available peers using a round-robin
    /// strategy"; "SHALL receive incoming messages from its peers using a fair-queuing strategy";
    /// "SHALL not filter or modify outgoing or incoming messages in any way" (test_spec_dealer).
    #[test]
    fn it_sends_and_receives_in_turn() {
        let mut dealer = Bench::new(SocketType::Dealer, &PatternOptions::default());
        assert_eq!(dealer.send("a"), Err(Refusal::WouldBlock));
        let (a, b) = (dealer.accept(""), dealer.accept(""));
        for message in [["", "1"], ["", "2"], ["x", "3"], ["x", "4"]] {
            dealer.send(message).unwrap();
        }
        assert_eq!(dealer.sent(a), [["", "1"], ["x", "3"]].map(Message::from));
        assert_eq!(dealer.sent(b), [["", "2"], ["x", "4"]].map(Message::from));
        for text in ["1", "2"] {
            dealer.come(a, text);
            dealer.come(b, text);
        }
        let order: Vec<_> = std::iter::from_fn(|| dealer.recv_from().ok()).collect();
        let slots: Vec<_> = order.iter().map(|(_, slot)| *slot).collect();
        assert_eq!(slots, [a, b, a, b]);
        assert_eq!(order[3].0, Message::from("2"));
    }

    #[test]
    fn a_peer_with_unread_messages_gets_nothing_more_after_its_end() {
        let mut dealer = Bench::new(SocketType::Dealer, &PatternOptions::default());
        let (a, b) = (dealer.accept(""), dealer.accept(""));
        dealer.come(a, "last");
        dealer.end(a);
        dealer.pattern.writable(&mut dealer.pipes, a);
        (0..4).for_each(|_| dealer.send("x").unwrap());
        assert_eq!(dealer.sent(b).len(), 4);
        assert_eq!(dealer.sent(a), []);
        assert_eq!(dealer.recv(), Ok("last".into()));
        assert_eq!(dealer.recv(), Err(Refusal::WouldBlock));
        assert!(!dealer.exists(a));
    }

    /// Replies are sorted in whatever else comes, and the late ones are dropped.
    #[test]
    fn requests_beside_messages() {
        let mut dealer = Bench::new(SocketType::Dealer, &PatternOptions::default());
        let (a, b) = (dealer.accept(""), dealer.accept(""));
        for (id, slot) in [(1_u32, a), (2, b), (3, a)] {
            let sent = dealer.pattern.request(&mut dealer.pipes, id, "q".into());
            assert_eq!(sent, Ok(slot));
            let id = id.to_be_bytes();
            let wanted = Message::from([id.as_slice(), b"", b"q"]);
            assert_eq!(dealer.sent(slot), [wanted]);
        }
        dealer.pattern.forget(3);
        let reply = |id: u32, text: &str| {
            Message::from([id.to_be_bytes().as_slice(), b"", text.as_bytes()])
        };
        dealer.come(a, reply(2, "of another"));
        dealer.come(a, reply(3, "late"));
        dealer.come(b, reply(2, "two"));
        assert_eq!(dealer.losses, [(Loss::Unexpected, Some(a)); 2]);
        assert_eq!(dealer.replied, [2]);
        dealer.come(a, "no reply");
        dealer.come(a, reply(1, "one"));
        // The message stands before it.
        let take = |dealer: &mut Bench, id| dealer.pattern.take_reply(&mut dealer.pipes, id);
        assert_eq!(take(&mut dealer, 1), None);
        assert_eq!(take(&mut dealer, 2), Some("two".into()));
        assert!(dealer.can_recv());
        assert_eq!(dealer.recv(), Ok("no reply".into()));
        assert_eq!(dealer.recv(), Err(Refusal::WouldBlock));
        assert_eq!(take(&mut dealer, 1), Some("one".into()));
        let again = dealer.pattern.request(&mut dealer.pipes, 1, "q".into());
        assert_eq!(again, Ok(b));
        let again = dealer.pattern.request(&mut dealer.pipes, 1, "q".into());
        assert_eq!(again, Err((Refusal::Invalid, "q".into())));
    }

    /// test_probe_router: the ROUTER gets an empty message as soon as the connection stands.
    #[test]
    fn it_probes() {
        let mut dealer = Bench::new(SocketType::Dealer, &PatternOptions::default());
        dealer.configure(|o| o.probe_router = true);
        let slot = dealer.dial(None);
        dealer.send("hello").unwrap();
        assert!(dealer.up(slot, b""));
        assert_eq!(dealer.sent(slot), [Message::new(), "hello".into()]);
        dealer.down(slot);
        dealer.send("again").unwrap();
        assert!(dealer.up(slot, b""));
        assert_eq!(dealer.sent(slot), [Message::new(), "again".into()]);
    }
}
