//! PUSH and PULL (RFC 30): one half of a [`LoadBalancer`] and a [`FairQueue`] each.

use sward_zmtp::Message;

use super::fair_queue::FairQueue;
use super::load_balancer::LoadBalancer;
use super::{Pattern, PatternOptions, Refusal};
use crate::pipe::{Pipes, Slot};

/// Sends each message to one peer.
#[derive(Debug, Default)]
pub(super) struct Push {
    out: LoadBalancer,
}

impl Pattern for Push {
    fn attach(&mut self, _: &mut Pipes, slot: Slot) {
        self.out.attach(slot);
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.out.detach(slot);
        pipes.effects.drained(slot);
    }

    fn detach(&mut self, _: &mut Pipes, slot: Slot) {
        self.out.detach(slot);
    }

    /// A PULL sends nothing.
    fn readable(&mut self, pipes: &mut Pipes, slot: Slot) {
        pipes.discard(slot);
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

    fn recv(&mut self, _: &mut Pipes, _: &mut Message) -> Result<Slot, Refusal> {
        Err(Refusal::Unsupported)
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        self.out.next(pipes).is_some()
    }

    fn can_recv(&mut self, _: &mut Pipes) -> bool {
        false
    }

    fn configure(&mut self, _: &PatternOptions, _: &mut Pipes) {}
}

/// Receives from all peers in turn.
#[derive(Debug, Default)]
pub(super) struct Pull {
    come: FairQueue,
}

impl Pattern for Pull {
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

    fn send(&mut self, _: &mut Pipes, _: &mut Message) -> Result<(), Refusal> {
        Err(Refusal::Unsupported)
    }

    #[inline]
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        self.come.recv_into(pipes, into).ok_or(Refusal::WouldBlock)
    }

    fn can_send(&mut self, _: &mut Pipes) -> bool {
        false
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        self.come.can_recv(pipes)
    }

    fn configure(&mut self, _: &PatternOptions, _: &mut Pipes) {}
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::hint::black_box;

    use sward_zmtp::SocketType;

    use super::super::testing::{Bench, Random, measure};
    use super::*;
    use crate::loss::Loss;
    use crate::pipe::Pipe;

    fn bench(kind: SocketType) -> Bench {
        Bench::new(kind, &PatternOptions::default())
    }

    /// RFC 30, PUSH: "SHALL route outgoing messages to available peers using a round-robin
    /// strategy" (test_spec_pushpull).
    #[test]
    fn push_sends_in_turn() {
        let mut push = bench(SocketType::Push);
        let peers = [push.accept(""), push.accept(""), push.accept("")];
        for i in 0..9_u8 {
            push.send(&[i]).unwrap();
        }
        for (first, slot) in peers.into_iter().enumerate() {
            let first = first as u8;
            let expected = [first, first + 3, first + 6].map(|i| Message::from([i].as_slice()));
            assert_eq!(push.sent(slot), expected);
        }
    }

    /// RFC 30, PUSH: "SHALL block on sending, or return a suitable error, when it has no available
    /// peers"; "SHALL consider a peer as available only when it has a outgoing queue that is not
    /// full".
    #[test]
    fn push_blocks_without_a_peer_that_has_room() {
        let mut push = bench(SocketType::Push);
        assert_eq!(push.send("a"), Err(Refusal::WouldBlock));
        assert!(!push.can_send());
        push.hwm = 1;
        let (a, b) = (push.accept(""), push.accept(""));
        assert!(push.can_send());
        push.send("a").unwrap();
        push.send("b").unwrap();
        assert!(!push.can_send());
        assert_eq!(push.send("c"), Err(Refusal::WouldBlock));
        assert_eq!(push.sent(b), [Message::from("b")]);
        assert!(push.can_send());
        push.send("c").unwrap();
        assert_eq!(
            (push.sent(a), push.sent(b)),
            (vec!["a".into()], vec!["c".into()])
        );
        push.end(a);
        push.end(b);
        assert_eq!(push.send("d"), Err(Refusal::WouldBlock));
        assert_eq!(push.pipes.len(), 0);
        assert_eq!(push.recv(), Err(Refusal::Unsupported));
    }

    /// zmtp.md 17: the connecting side queues before the connection is up, and meanwhile.
    #[test]
    fn push_queues_for_a_peer_that_is_dialled() {
        let mut push = bench(SocketType::Push);
        let slot = push.dial(None);
        push.send("early").unwrap();
        assert!(push.up(slot, b""));
        push.down(slot);
        push.send("meanwhile").unwrap();
        assert_eq!(push.sent(slot).len(), 2);
    }

    /// RFC 30, PUSH: "SHALL only send messages": what comes is counted.
    #[test]
    fn push_drops_what_comes() {
        let mut push = bench(SocketType::Push);
        let slot = push.accept("");
        let mut far = push.far[&slot].lock();
        (0..1_000).for_each(|_| far.come("noise"));
        drop(far);
        push.come(slot, "noise");
        assert_eq!(push.losses, [(Loss::Unexpected, Some(slot)); 1_001]);
        assert_eq!(push.unread(slot), 0);
    }

    /// RFC 30, PULL: "SHALL receive incoming messages from its peers using a fair-queuing strategy".
    #[test]
    fn pull_receives_in_turn() {
        let mut pull = bench(SocketType::Pull);
        assert_eq!(pull.recv(), Err(Refusal::WouldBlock));
        let peers = [pull.accept(""), pull.accept(""), pull.accept("")];
        for slot in peers {
            for i in 0..3_u8 {
                pull.come(slot, [i, slot as u8].as_slice());
            }
        }
        for i in 0..3_u8 {
            for slot in peers {
                let (message, from) = pull.recv_from().unwrap();
                assert_eq!((message, from), ([i, slot as u8].as_slice().into(), slot));
            }
        }
        assert_eq!(pull.recv(), Err(Refusal::WouldBlock));
        assert_eq!(pull.send("a"), Err(Refusal::Unsupported));
    }

    #[test]
    fn what_has_come_is_received_after_the_end() {
        let mut pull = bench(SocketType::Pull);
        let (a, b) = (pull.accept(""), pull.accept(""));
        pull.come(a, "last");
        assert!(pull.can_recv());
        pull.end(a);
        pull.end(b);
        assert!(pull.exists(a) && !pull.exists(b));
        assert!(pull.can_recv());
        assert_eq!(pull.recv_from(), Ok(("last".into(), a)));
        assert!(!pull.can_recv());
        assert!(!pull.exists(a));
    }

    #[test]
    fn what_was_taken_ahead_is_counted_if_the_peer_is_cut_off() {
        let mut pull = bench(SocketType::Pull);
        let slot = pull.accept("");
        pull.come(slot, "a");
        assert!(pull.can_recv());
        pull.detach(slot);
        assert!(!pull.can_recv());
        assert_eq!(pull.losses, [(Loss::PeerLost, Some(slot))]);
    }

    /// Edges come in any order, too often, and for slots that are gone: nothing is lost or doubled,
    /// the order of each peer is kept, and while nobody comes or goes nobody is served twice before
    /// another one who waits.
    #[test]
    fn any_order_of_events() {
        let seed = Random::seed();
        let mut random = Random::new(seed);
        for _ in 0..50 {
            let mut push = bench(SocketType::Push);
            let mut pull = bench(SocketType::Pull);
            push.hwm = 1 + random.below(4);
            let mut come = BTreeMap::<Slot, VecDeque<u32>>::new();
            let mut queued = BTreeMap::<Slot, Vec<u32>>::new();
            let (mut sent, mut gone) = (0, 0);
            for number in 0..2_000_u32 {
                let noise = random.below(12);
                for bench in [&mut push, &mut pull] {
                    let (pattern, pipes) = (&mut bench.pattern, &mut bench.pipes);
                    match random.below(3) {
                        0 => pattern.writable(pipes, noise),
                        1 if pipes.get_mut(noise).is_some() => pattern.readable(pipes, noise),
                        _ => {}
                    }
                    bench.settle();
                }
                let any = |random: &mut Random, slots: Vec<Slot>| {
                    (!slots.is_empty()).then(|| slots[random.below(slots.len())])
                };
                match random.below(20) {
                    0 if push.pipes.len() < 8 => drop(queued.insert(push.accept(""), vec![])),
                    1 => {
                        if let Some(slot) = any(&mut random, queued.keys().copied().collect()) {
                            gone += push.sent(slot).len();
                            queued.remove(&slot);
                            push.end(slot);
                            assert!(!push.exists(slot));
                        }
                    }
                    2..8 => match push.send(&number.to_be_bytes()) {
                        Ok(()) => sent += 1,
                        Err(refusal) => {
                            assert_eq!(refusal, Refusal::WouldBlock);
                            for slot in queued.keys() {
                                assert_eq!(push.pipes[*slot].pipe.depths().0, push.hwm);
                            }
                        }
                    },
                    8..11 => {
                        if let Some(slot) = any(&mut random, queued.keys().copied().collect()) {
                            gone += push.sent(slot).len();
                        }
                    }
                    11 if pull.pipes.len() < 8 => {
                        let slot = pull.accept("");
                        // A slot is used again only after its last message was received.
                        assert!(
                            come.insert(slot, VecDeque::new())
                                .is_none_or(|q| q.is_empty())
                        );
                    }
                    12 => {
                        if let Some(slot) = any(&mut random, pull.far.keys().copied().collect()) {
                            pull.end(slot);
                        }
                    }
                    13..16 => {
                        if let Some(slot) = any(&mut random, pull.far.keys().copied().collect())
                            && !pull.pipes[slot].ended
                        {
                            come.get_mut(&slot).unwrap().push_back(number);
                            pull.come(slot, &number.to_be_bytes());
                        }
                    }
                    16 => {
                        let waiting = come.values().any(|q| !q.is_empty());
                        assert_eq!(pull.can_recv(), waiting, "seed {seed}");
                    }
                    _ => {
                        let waiting = come.values().any(|q| !q.is_empty());
                        match pull.recv_from() {
                            Ok((message, slot)) => {
                                let expected = come.get_mut(&slot).unwrap().pop_front().unwrap();
                                assert_eq!(message, Message::from(&expected.to_be_bytes()));
                            }
                            Err(_) => assert!(!waiting, "seed {seed}"),
                        }
                    }
                }
            }
            // All that wait get their turn before one has its second.
            let mut last = BTreeMap::new();
            let mut turn = 0;
            while let Ok((_, slot)) = pull.recv_from() {
                let before: usize = last.insert(slot, turn).unwrap_or(0);
                let others = come.iter().filter(|(s, q)| **s != slot && !q.is_empty());
                for (other, _) in others {
                    assert!(last.get(other).is_some_and(|t| *t > before) || before == 0);
                }
                come.get_mut(&slot).unwrap().pop_front().unwrap();
                turn += 1;
            }
            assert!(come.values().all(VecDeque::is_empty), "seed {seed}");
            for slot in queued.keys() {
                gone += push.sent(*slot).len();
            }
            assert_eq!(sent, gone, "seed {seed}");
        }
    }

    /// A pipe with room for all, and messages without end.
    #[derive(Debug)]
    struct Endless(VecDeque<Message>);

    impl Endless {
        fn new() -> Box<Self> {
            Box::new(Self((0..500).map(|_| Message::from(&[0; 16])).collect()))
        }
    }

    impl Pipe for Endless {
        fn try_send(&mut self, message: &mut Message) -> bool {
            self.0.push_back(std::mem::take(message));
            self.0.pop_front();
            true
        }
        fn again(&mut self) {}
        fn send_subscription(&mut self, _: Message) {}
        fn has_room(&mut self) -> bool {
            true
        }
        fn try_recv(&mut self, into: &mut Message) -> bool {
            self.0.push_back(Message::from(&[0; 16]));
            self.0.pop_front().map(|message| *into = message).is_some()
        }
        fn close(&mut self, _: bool) {}
        fn depths(&self) -> (usize, usize) {
            (0, 1)
        }
    }

    /// Wants everything.
    #[derive(Debug)]
    struct Subscriber(bool, Box<Endless>);

    impl Pipe for Subscriber {
        fn try_send(&mut self, message: &mut Message) -> bool {
            self.1.try_send(message)
        }
        fn again(&mut self) {}
        fn send_subscription(&mut self, _: Message) {}
        fn has_room(&mut self) -> bool {
            true
        }
        fn try_recv(&mut self, into: &mut Message) -> bool {
            let first = std::mem::take(&mut self.0);
            if first {
                *into = Message::from("\x01");
            }
            first
        }
        fn close(&mut self, _: bool) {}
        fn depths(&self) -> (usize, usize) {
            (0, 0)
        }
    }

    /// `cargo test --release -- --ignored --nocapture costs`: what a pattern adds to a pipe.
    #[test]
    #[ignore = "it measures"]
    fn costs() {
        const N: usize = 1_000_000;
        let time = |what: &str, f: &mut dyn FnMut()| measure(what, N, f);
        let mut pipe: Box<dyn Pipe> = Endless::new();
        time("bare pipe, send", &mut || {
            for _ in 0..N {
                let mut message = Message::from(&black_box([0; 16]));
                black_box(pipe.try_send(&mut message));
            }
        });
        time("bare pipe, recv", &mut || {
            for _ in 0..N {
                assert!(black_box(pipe.try_recv(&mut Message::new())));
            }
        });
        for kind in [
            SocketType::Push,
            SocketType::Dealer,
            SocketType::Pair,
            SocketType::Pub,
        ] {
            for peers in [1, 10] {
                if kind == SocketType::Pair && peers > 1 {
                    continue;
                }
                let mut pattern = super::super::make::pattern(kind, &PatternOptions::default());
                let mut pipes = Pipes::default();
                for _ in 0..peers {
                    let pipe: Box<dyn Pipe> = match kind {
                        SocketType::Pub => Box::new(Subscriber(true, Endless::new())),
                        _ => Endless::new(),
                    };
                    let slot = pipes.insert(pipe, None);
                    pattern.attach(&mut pipes, slot);
                }
                time(&format!("{kind}, send, {peers} peers"), &mut || {
                    for _ in 0..N {
                        let mut message = Message::from(&black_box([0; 16]));
                        assert!(pattern.send(&mut pipes, &mut message).is_ok());
                    }
                });
            }
        }
        for kind in [
            SocketType::Pull,
            SocketType::Dealer,
            SocketType::Pair,
            SocketType::Router,
        ] {
            for peers in [1, 10] {
                if kind == SocketType::Pair && peers > 1 {
                    continue;
                }
                let mut pattern = super::super::make::pattern(kind, &PatternOptions::default());
                let mut pipes = Pipes::default();
                for i in 0..peers {
                    let given = Some(format!("{i}").into());
                    let slot = pipes.insert(Endless::new(), given);
                    pattern.attach(&mut pipes, slot);
                }
                time(&format!("{kind}, recv, {peers} peers"), &mut || {
                    for _ in 0..N {
                        assert!(black_box(pattern.recv(&mut pipes, &mut Message::new())).is_ok());
                    }
                });
            }
        }
    }
}
