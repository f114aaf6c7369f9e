//! SUB and XSUB (RFC 29): receive from all publishers what they subscribed to.
//!
//! Subscriptions are counted: it takes as many cancels as there were subscribes. Each subscribe goes
//! upstream, but only the last cancel (XSUB_VERBOSE_UNSUBSCRIBE: each). A publisher that connects is
//! sent every topic once.
//!
//! A SUB filters again what comes, because a cancel takes its time and old publishers do not filter;
//! what it drops is counted. An XSUB does not. A SUB has `subscribe` and `unsubscribe`; an XSUB sends
//! messages that begin with 1 or 0 instead, and everything else goes upstream as it is, to all
//! publishers that have room.
//!
//! Frames behind a first one that is a subscription: as in `publish.rs`.

use sward_zmtp::{Frame, Message};

use super::distributor::Distributor;
use super::fair_queue::FairQueue;
use super::prefix_tree::PrefixTree;
use super::{Pattern, PatternOptions, Refusal, cannot_send, lent, subscription};
use crate::loss::Loss;
use crate::pipe::{AT_ONE_GO, Pipes, Slot};

/// See the file head.
#[derive(Debug)]
pub(super) struct Subscribe {
    /// XSUB.
    extended: bool,
    invert: bool,
    each_cancel: bool,
    only_first: bool,
    /// Topics with the number of their subscribes.
    topics: PrefixTree,
    come: FairQueue,
    up: Distributor,
}

impl Subscribe {
    pub(super) fn new(extended: bool, options: &PatternOptions) -> Self {
        Self {
            extended,
            invert: options.invert_matching,
            each_cancel: options.xsub_verbose_unsubscribe,
            only_first: options.only_first_subscribe,
            topics: PrefixTree::default(),
            come: FairQueue::default(),
            up: Distributor::default(),
        }
    }

    /// Counts a subscribe or a cancel. Returns whether publishers are to be told.
    fn count(&mut self, subscribe: bool, topic: &[u8]) -> bool {
        if subscribe {
            let node = self.topics.insert(topic);
            match self.topics.number(node) {
                0 => self.topics.put(node, topic, 1),
                number => self.topics.set_number(node, number.saturating_add(1)),
            }
            return true;
        }
        let node = self.topics.find(topic);
        let number = node.map_or(0, |node| self.topics.number(node));
        if let Some(node) = node {
            match number {
                0 => {}
                1 => {
                    self.topics.clear(node);
                    self.topics.prune(node);
                }
                _ => self.topics.set_number(node, number - 1),
            }
        }
        number == 1 || self.each_cancel
    }

    fn tell(&self, pipes: &mut Pipes, frame: &Frame) {
        for &slot in self.up.slots() {
            pipes[slot].pipe.send_subscription(frame.clone().into());
        }
    }

    fn change(&mut self, pipes: &mut Pipes, subscribe: bool, topic: &[u8]) {
        if self.count(subscribe, topic) {
            let frame = Frame::from_fn(topic.len() + 1, |bytes| {
                bytes[0] = u8::from(subscribe);
                bytes[1..].copy_from_slice(topic);
            });
            self.tell(pipes, &frame);
        }
    }

    /// Counts the subscription that the frame is. `false`: it is none.
    fn is_subscription(&mut self, pipes: &mut Pipes, frame: &Frame) -> bool {
        let Some((subscribe, topic)) = subscription(frame) else {
            return false;
        };
        if self.count(subscribe, topic) {
            self.tell(pipes, frame);
        }
        true
    }

    #[inline]
    fn wants(&self, message: &Message) -> bool {
        let mut wanted = false;
        self.topics.prefixes(message.first(), |_| {
            wanted = true;
            false
        });
        wanted != self.invert
    }

    #[inline]
    fn next(&mut self, pipes: &mut Pipes, into: &mut Message) -> Option<Slot> {
        let mut last = 0;
        for _ in 0..AT_ONE_GO {
            let slot = self.come.recv_into(pipes, into)?;
            if self.extended || self.wants(into) {
                return Some(slot);
            }
            pipes.effects.lost(Loss::Unexpected, Some(slot));
            last = slot;
        }
        pipes.effects.again(last);
        None
    }
}

impl Pattern for Subscribe {
    fn attach(&mut self, _: &mut Pipes, slot: Slot) {
        self.come.attach(slot);
        self.up.attach(slot);
    }

    fn connected(&mut self, pipes: &mut Pipes, slot: Slot) -> bool {
        for node in self.topics.all() {
            let topic = self.topics.topic(node, 1);
            pipes[slot].pipe.send_subscription(topic.into());
        }
        true
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.up.detach(slot);
        self.come.ended(pipes, slot);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.up.detach(slot);
        self.come.detach(pipes, slot);
    }

    fn readable(&mut self, _: &mut Pipes, slot: Slot) {
        self.come.readable(slot);
    }

    fn writable(&mut self, _: &mut Pipes, slot: Slot) {
        self.up.writable(slot);
    }

    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        lent(message, |mut message| {
            if !self.extended {
                return cannot_send(message);
            }
            let Some((subscribe, topic)) = subscription(message.first()) else {
                self.up.send_all(pipes, &mut message);
                return Ok(());
            };
            if message.len() > 1 && self.only_first {
                // The other side must see which frame was the first.
                self.count(subscribe, topic);
                self.up.send_all(pipes, &mut message);
            } else {
                let mut rest = message.into_frames();
                rest.retain(|frame| !self.is_subscription(pipes, frame));
                if let Some(mut rest) = Message::from_frames(rest) {
                    self.up.send_all(pipes, &mut rest);
                }
            }
            Ok(())
        })
    }

    #[inline]
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        self.next(pipes, into).ok_or(Refusal::WouldBlock)
    }

    fn can_send(&mut self, _: &mut Pipes) -> bool {
        self.extended
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        let mut message = Message::new();
        let Some(slot) = self.next(pipes, &mut message) else {
            return false;
        };
        self.come.put_back(message, slot);
        true
    }

    fn configure(&mut self, options: &PatternOptions, _: &mut Pipes) {
        self.invert = options.invert_matching;
        self.each_cancel = options.xsub_verbose_unsubscribe;
        self.only_first = options.only_first_subscribe;
    }

    fn subscribe(&mut self, pipes: &mut Pipes, topic: &[u8]) -> Result<(), Refusal> {
        if self.extended {
            return Err(Refusal::Unsupported);
        }
        self.change(pipes, true, topic);
        Ok(())
    }

    fn unsubscribe(&mut self, pipes: &mut Pipes, topic: &[u8]) -> Result<(), Refusal> {
        if self.extended {
            return Err(Refusal::Unsupported);
        }
        self.change(pipes, false, topic);
        Ok(())
    }

    fn topics(&self) -> usize {
        self.topics.topics()
    }
}

#[cfg(test)]
mod tests {
    use sward_zmtp::SocketType;

    use super::super::testing::Bench;
    use super::*;

    fn bench(kind: SocketType) -> Bench {
        Bench::new(kind, &PatternOptions::default())
    }

    fn subscribe(sub: &mut Bench, topic: &str) {
        sub.pattern
            .subscribe(&mut sub.pipes, topic.as_bytes())
            .unwrap();
    }

    fn unsubscribe(sub: &mut Bench, topic: &str) {
        sub.pattern
            .unsubscribe(&mut sub.pipes, topic.as_bytes())
            .unwrap();
    }

    /// RFC 29, SUB: "SHALL receive incoming messages from its publishers using a fair-queuing
    /// strategy"; "MAY [...] filter messages according to subscriptions, using a prefix match
    /// algorithm".
    #[test]
    fn it_receives_in_turn_what_it_wants() {
        let mut sub = bench(SocketType::Sub);
        let (a, b) = (sub.accept(""), sub.accept(""));
        sub.come(a, "too early");
        assert!(!sub.can_recv());
        subscribe(&mut sub, "x");
        for i in ["x1", "y", "x2"] {
            sub.come(a, [i, "y"]);
            sub.come(b, [i, "y"]);
        }
        assert!(sub.can_recv());
        let order: Vec<_> = std::iter::from_fn(|| sub.recv_from().ok()).collect();
        let expected = [("x1", a), ("x1", b), ("x2", a), ("x2", b)];
        assert_eq!(
            order,
            expected.map(|(text, slot)| ([text, "y"].into(), slot))
        );
        assert_eq!(
            sub.losses,
            [a, a, b].map(|slot| (Loss::Unexpected, Some(slot)))
        );
        assert_eq!(sub.send("a"), Err(Refusal::Unsupported));
        assert!(!sub.can_send());
    }

    /// A message that was seen by `can_recv` is not received if it is not wanted any more.
    #[test]
    fn a_late_cancel_counts() {
        let mut sub = bench(SocketType::Sub);
        let slot = sub.accept("");
        subscribe(&mut sub, "");
        sub.come(slot, "a");
        assert!(sub.can_recv());
        unsubscribe(&mut sub, "");
        assert_eq!(sub.recv(), Err(Refusal::WouldBlock));
    }

    /// zmtp.md 13: "subscriptions counted (n subscribes need n unsubscribes), resent to every new
    /// connection". Each subscribe goes upstream (test_xpub_verbose), the last cancel only
    /// (test_xpub_verboser).
    #[test]
    fn subscriptions_are_counted_and_sent_again() {
        let mut sub = bench(SocketType::Sub);
        let early = sub.dial(None);
        subscribe(&mut sub, "A");
        assert_eq!(sub.upstream(early), []);
        assert!(sub.up(early, b""));
        assert_eq!(sub.upstream(early), [Message::from("\x01A")]);
        subscribe(&mut sub, "A");
        subscribe(&mut sub, "B");
        unsubscribe(&mut sub, "A");
        unsubscribe(&mut sub, "C");
        assert_eq!(sub.upstream(early), ["\x01A", "\x01B"].map(Message::from));
        let late = sub.accept("");
        assert_eq!(sub.upstream(late), ["\x01A", "\x01B"].map(Message::from));
        unsubscribe(&mut sub, "A");
        assert_eq!(sub.upstream(early), [Message::from("\0A")]);
        assert_eq!(sub.pattern.topics(), 1);
        sub.down(early);
        subscribe(&mut sub, "");
        assert!(sub.up(early, b""));
        assert_eq!(sub.upstream(early).len(), 2);
        assert_eq!(sub.upstream(late).len(), 2);
        sub.come(early, "anything");
        assert_eq!(sub.recv(), Ok("anything".into()));
    }

    /// test_pub_invert_matching, the subscriber's side.
    #[test]
    fn inverted() {
        let mut sub = bench(SocketType::Sub);
        sub.configure(|o| o.invert_matching = true);
        let slot = sub.accept("");
        subscribe(&mut sub, "x");
        sub.come(slot, "x1");
        sub.come(slot, "y1");
        assert_eq!(sub.recv(), Ok("y1".into()));
        assert_eq!(sub.recv(), Err(Refusal::WouldBlock));
    }

    #[test]
    fn what_is_not_wanted_does_not_hold_the_lock_for_ever() {
        let mut sub = bench(SocketType::Sub);
        let slot = sub.accept("");
        let mut far = sub.far[&slot].lock();
        (0..3 * AT_ONE_GO).for_each(|_| far.come("noise"));
        drop(far);
        sub.pattern.readable(&mut sub.pipes, slot);
        for round in 1..4 {
            assert_eq!(sub.recv(), Err(Refusal::WouldBlock));
            assert_eq!(sub.losses.len(), round * AT_ONE_GO);
        }
        sub.recv().unwrap_err();
        subscribe(&mut sub, "n");
        sub.come(slot, "news");
        assert_eq!(sub.recv(), Ok("news".into()));
    }

    /// test_sub_forward: "passes subscriptions upstream as 0x01/0x00 messages".
    #[test]
    fn an_xsub_sends_subscriptions_as_messages() {
        let mut xsub = bench(SocketType::XSub);
        let (a, b) = (xsub.accept(""), xsub.accept(""));
        assert!(xsub.can_send());
        xsub.send("\x01A").unwrap();
        xsub.send("\x01A").unwrap();
        xsub.send("\0A").unwrap();
        xsub.send("\0never").unwrap();
        xsub.send("\0A").unwrap();
        for slot in [a, b] {
            assert_eq!(
                xsub.upstream(slot),
                ["\x01A", "\x01A", "\0A"].map(Message::from)
            );
        }
        // It does not filter.
        xsub.come(a, "anything");
        assert_eq!(xsub.recv(), Ok("anything".into()));
        let refused = xsub.pattern.subscribe(&mut xsub.pipes, b"A");
        assert_eq!(refused, Err(Refusal::Unsupported));
    }

    /// RFC 29, XSUB: "SHALL send all messages to all connected publishers"; "SHALL silently drop the
    /// message if the outgoing queue for a publisher is full" - we count it (test_user_message).
    #[test]
    fn an_xsub_sends_messages_upstream() {
        let mut xsub = bench(SocketType::XSub);
        xsub.hwm = 1;
        let (a, b) = (xsub.accept(""), xsub.accept(""));
        xsub.send(["\x02user", "\x01part"]).unwrap();
        assert_eq!(xsub.sent(b), [Message::from(["\x02user", "\x01part"])]);
        xsub.send("").unwrap();
        assert_eq!(xsub.losses, [(Loss::HighWaterMark, Some(a))]);
        assert_eq!(xsub.sent(b), [Message::new()]);
        assert_eq!(xsub.pattern.topics(), 0);
        xsub.end(a);
        assert!(!xsub.exists(a));
    }

    /// test_xsub_verbose: XSUB_VERBOSE_UNSUBSCRIBE.
    #[test]
    fn an_xsub_sends_each_cancel() {
        let mut xsub = bench(SocketType::XSub);
        let slot = xsub.accept("");
        xsub.configure(|o| o.xsub_verbose_unsubscribe = true);
        let all = ["\0A", "\x01A", "\x01A", "\0A", "\0A"];
        for message in all {
            xsub.send(message).unwrap();
        }
        assert_eq!(xsub.upstream(slot), all.map(Message::from));
        assert_eq!(xsub.pattern.topics(), 0);
    }

    /// test_user_message_multi: ONLY_FIRST_SUBSCRIBE.
    #[test]
    fn subscriptions_of_several_frames() {
        let mut xsub = bench(SocketType::XSub);
        let slot = xsub.accept("");
        xsub.send(["\x01A", "user", "\x01B", "\0C"]).unwrap();
        assert_eq!(xsub.upstream(slot), ["\x01A", "\x01B"].map(Message::from));
        assert_eq!(xsub.sent(slot), [Message::from("user")]);
        xsub.configure(|o| o.only_first_subscribe = true);
        xsub.send(["\x01C", "\x01D"]).unwrap();
        assert_eq!(xsub.upstream(slot), []);
        assert_eq!(xsub.sent(slot), [Message::from(["\x01C", "\x01D"])]);
        assert_eq!(xsub.pattern.topics(), 3);
    }

    /// test_pubsub_topics_count, the subscriber's side.
    #[test]
    fn topics_are_counted() {
        let mut sub = bench(SocketType::Sub);
        for (n, topic) in ["a", "ab", "abc", "xyz", "xy", "x"].into_iter().enumerate() {
            subscribe(&mut sub, topic);
            subscribe(&mut sub, topic);
            assert_eq!(sub.pattern.topics(), n + 1);
        }
        unsubscribe(&mut sub, "ab");
        assert_eq!(sub.pattern.topics(), 6);
        unsubscribe(&mut sub, "ab");
        assert_eq!(sub.pattern.topics(), 5);
    }
}
