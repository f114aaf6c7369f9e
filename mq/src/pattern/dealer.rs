//! DEALER (RFC 28): a [`LoadBalancer`] out and a [`FairQueue`] in, and nothing between.

use sward_zmtp::Message;

use super::fair_queue::FairQueue;
use super::load_balancer::LoadBalancer;
use super::{Pattern, PatternOptions, Refusal, probe};
use crate::pipe::{Pipes, Slot};

/// See the file head.
#[derive(Debug)]
pub(super) struct Dealer {
    pub(super) out: LoadBalancer,
    pub(super) come: FairQueue,
    probe: bool,
}

impl Dealer {
    pub(super) fn new(options: &PatternOptions) -> Self {
        Self {
            out: LoadBalancer::default(),
            come: FairQueue::default(),
            probe: options.probe_router,
        }
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

    fn readable(&mut self, _: &mut Pipes, slot: Slot) {
        self.come.readable(slot);
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
        self.come.recv_into(pipes, into).ok_or(Refusal::WouldBlock)
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        self.out.next(pipes).is_some()
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        self.come.can_recv(pipes)
    }

    fn configure(&mut self, options: &PatternOptions, _: &mut Pipes) {
        self.probe = options.probe_router;
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
