//! What the tests of patterns share: a pipe that is only queues, a socket that only does what
//! patterns ask for, and random numbers that can be had again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sward_runtime::sync::ShortLock;
use sward_zmtp::{Frame, Message, Metadata, PeerInfo, Version};

use super::make::pattern;
use super::{Pattern, PatternOptions, Refusal};
use crate::loss::Loss;
use crate::pipe::{Peer, Pipe, Pipes, Slot};

/// The far end of a pipe.
#[derive(Debug)]
pub(super) struct Far {
    out: VecDeque<Message>,
    come: VecDeque<Message>,
    subscriptions: Vec<Message>,
    hwm: usize,
    /// It has refused since room was told of.
    refused: bool,
    /// It has said that it is empty since a message was told of. True at first.
    asked: bool,
    up: bool,
    pub(super) closed: Option<bool>,
    /// Number of messages that came as bytes.
    pub(super) encoded: usize,
    /// Whether it takes messages that were gathered, and how many pieces of them came.
    pub(super) gathers: bool,
    pub(super) pieces: usize,
}

impl Far {
    pub(super) fn new(hwm: usize) -> Arc<ShortLock<Self>> {
        Arc::new(ShortLock::new(Self {
            out: VecDeque::new(),
            come: VecDeque::new(),
            subscriptions: Vec::new(),
            hwm,
            refused: false,
            asked: true,
            up: false,
            closed: None,
            encoded: 0,
            gathers: false,
            pieces: 0,
        }))
    }

    pub(super) fn come(&mut self, message: impl Into<Message>) {
        self.come.push_back(message.into());
    }

    pub(super) fn take(&mut self) -> Vec<Message> {
        self.out.drain(..).collect()
    }
}

/// A pipe that tells of an edge only once it has refused: who forgets to ask will hang.
#[derive(Debug)]
pub(super) struct FakePipe(pub(super) Arc<ShortLock<Far>>);

impl Pipe for FakePipe {
    fn try_send(&mut self, message: &mut Message) -> bool {
        let mut far = self.0.lock();
        if far.out.len() >= far.hwm {
            far.refused = true;
            return false;
        }
        far.out.push_back(std::mem::take(message));
        true
    }

    fn try_send_copy(&mut self, message: &Message, encoded: Option<&[u8]>) -> Option<usize> {
        if let Some(encoded) = encoded {
            let mut bytes = Vec::new();
            sward_zmtp::encode(message, &mut bytes);
            assert_eq!(bytes, encoded);
            self.0.lock().encoded += 1;
        }
        let sent = self.try_send(&mut message.clone());
        let far = self.0.lock();
        sent.then(|| {
            if far.gathers {
                far.hwm - far.out.len()
            } else {
                0
            }
        })
    }

    fn send_gathered(&mut self, encoded: &Bytes, messages: usize) -> usize {
        let mut far = self.0.lock();
        far.pieces += 1;
        let mut rest = &encoded[..];
        for _ in 0..messages {
            let (&[flags, len], body) = rest.split_first_chunk().unwrap();
            assert_eq!(flags, 0, "a short frame, and no more");
            let (body, behind) = body.split_at(usize::from(len));
            far.out.push_back(Frame::from(body).into());
            rest = behind;
        }
        assert!(rest.is_empty() && far.out.len() <= far.hwm);
        far.hwm - far.out.len()
    }

    fn send_subscription(&mut self, message: Message) {
        let mut far = self.0.lock();
        if far.up {
            far.subscriptions.push(message);
        }
    }

    fn has_room(&mut self) -> bool {
        let mut far = self.0.lock();
        far.refused |= far.out.len() >= far.hwm;
        far.out.len() < far.hwm
    }

    fn try_recv(&mut self, into: &mut Message) -> bool {
        let mut far = self.0.lock();
        let message = far.come.pop_front();
        far.asked |= message.is_none();
        message.map(|message| *into = message).is_some()
    }

    fn again(&mut self) {}

    fn close(&mut self, flush: bool) {
        self.0.lock().closed = Some(flush);
    }

    fn depths(&self) -> (usize, usize) {
        let far = self.0.lock();
        (far.out.len(), far.come.len())
    }
}

/// A socket without waiting.
pub(super) struct Bench {
    pub(super) pattern: Box<dyn Pattern>,
    pub(super) pipes: Pipes,
    pub(super) far: BTreeMap<Slot, Arc<ShortLock<Far>>>,
    pub(super) losses: Vec<(Loss, Option<Slot>)>,
    pub(super) closed: Vec<(Slot, bool)>,
    pub(super) replied: Vec<u32>,
    pub(super) changes: usize,
    pub(super) hwm: usize,
}

impl Bench {
    pub(super) fn new(kind: sward_zmtp::SocketType, options: &PatternOptions) -> Self {
        Self {
            pattern: pattern(kind, options),
            pipes: Pipes::default(),
            far: BTreeMap::new(),
            losses: Vec::new(),
            closed: Vec::new(),
            replied: Vec::new(),
            changes: 0,
            hwm: 1000,
        }
    }

    /// A pipe that is being dialled.
    pub(super) fn dial(&mut self, given_id: Option<&str>) -> Slot {
        let far = Far::new(self.hwm);
        let pipe = Box::new(FakePipe(far.clone()));
        let slot = self.pipes.insert(pipe, given_id.map(Frame::from));
        self.far.insert(slot, far);
        self.pattern.attach(&mut self.pipes, slot);
        self.settle();
        slot
    }

    /// Its connection stands. `false`: the pattern refuses it.
    pub(super) fn up(&mut self, slot: Slot, identity: &[u8]) -> bool {
        self.far[&slot].lock().up = true;
        self.pipes[slot].peer = Some(Arc::new(Peer {
            info: PeerInfo::new(None, Version::V3_1, identity.into(), Metadata::default()),
            address: Arc::default(),
            endpoint: Arc::default(),
        }));
        let accepted = self.pattern.connected(&mut self.pipes, slot);
        self.settle();
        accepted
    }

    /// A peer that has connected and gives this identity.
    pub(super) fn accept(&mut self, identity: &str) -> Slot {
        let slot = self.dial(None);
        assert!(self.up(slot, identity.as_bytes()));
        slot
    }

    pub(super) fn down(&mut self, slot: Slot) {
        self.far[&slot].lock().up = false;
        self.pattern.disconnected(&mut self.pipes, slot);
        self.settle();
    }

    pub(super) fn end(&mut self, slot: Slot) {
        self.pipes[slot].ended = true;
        self.pattern.ended(&mut self.pipes, slot);
        self.settle();
    }

    pub(super) fn detach(&mut self, slot: Slot) {
        self.pattern.detach(&mut self.pipes, slot);
        self.pipes.remove(slot);
        self.far.remove(&slot);
        self.settle();
    }

    pub(super) fn exists(&mut self, slot: Slot) -> bool {
        self.pipes.get_mut(slot).is_some()
    }

    /// A message comes.
    pub(super) fn come(&mut self, slot: Slot, message: impl Into<Message>) {
        let mut far = self.far[&slot].lock();
        far.come(message);
        let tell = std::mem::take(&mut far.asked);
        drop(far);
        if tell {
            self.pattern.readable(&mut self.pipes, slot);
        }
        self.settle();
    }

    pub(super) fn unread(&self, slot: Slot) -> usize {
        self.far[&slot].lock().come.len()
    }

    /// Takes what was sent there, which makes room.
    pub(super) fn sent(&mut self, slot: Slot) -> Vec<Message> {
        let mut far = self.far[&slot].lock();
        let sent = far.take();
        let tell = std::mem::take(&mut far.refused);
        drop(far);
        if tell && !self.pipes[slot].ended {
            self.pattern.writable(&mut self.pipes, slot);
            self.settle();
        }
        sent
    }

    pub(super) fn upstream(&self, slot: Slot) -> Vec<Message> {
        std::mem::take(&mut self.far[&slot].lock().subscriptions)
    }

    pub(super) fn send(&mut self, message: impl Into<Message>) -> Result<(), Refusal> {
        let mut message = message.into();
        let copy = message.clone();
        let result = self.pattern.send(&mut self.pipes, &mut message);
        self.settle();
        result.inspect_err(|_| assert_eq!(message, copy))
    }

    pub(super) fn recv(&mut self) -> Result<Message, Refusal> {
        self.recv_from().map(|(message, _)| message)
    }

    /// Also checks that what says it can receive does, and that the slot is that of a pipe.
    pub(super) fn recv_from(&mut self) -> Result<(Message, Slot), Refusal> {
        let mut message = Message::new();
        let result = self.pattern.recv(&mut self.pipes, &mut message);
        if let Ok(slot) = &result {
            assert!(*slot == super::NOBODY || self.exists(*slot));
        }
        self.settle();
        result.map(|slot| (message, slot))
    }

    pub(super) fn can_recv(&mut self) -> bool {
        let can = self.pattern.can_recv(&mut self.pipes);
        self.settle();
        can
    }

    pub(super) fn can_send(&mut self) -> bool {
        self.pattern.can_send(&mut self.pipes)
    }

    pub(super) fn configure(&mut self, change: impl FnOnce(&mut PatternOptions)) {
        let mut options = PatternOptions::default();
        change(&mut options);
        self.pattern.configure(&options, &mut self.pipes);
        self.settle();
    }

    /// Does what the pattern has left to do.
    pub(super) fn settle(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.pipes.effects);
            if !effects.any {
                return;
            }
            self.losses.extend(effects.losses);
            self.closed.extend(&effects.close);
            let refused = effects.refused.iter().map(|(slot, _)| (*slot, false));
            self.closed.extend(refused);
            self.replied.extend(effects.replied);
            self.changes += usize::from(effects.changed);
            for slot in effects.again {
                self.pattern.readable(&mut self.pipes, slot);
            }
            for slot in effects.drained {
                self.pattern.detach(&mut self.pipes, slot);
                self.pipes.remove(slot);
                self.far.remove(&slot);
            }
        }
    }
}

/// Numbers that look random; the same for the same seed.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// From `SWARD_SEED`, else another one each time; a failure names it.
    pub(super) fn seed() -> u64 {
        let given = std::env::var("SWARD_SEED")
            .ok()
            .and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(1)
        });
        println!("seed {seed} (SWARD_SEED)");
        seed
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize) % limit
    }
}

/// Prints the least time of one of `n` calls that `f` makes at each of seven tries.
pub(super) fn measure(what: &str, n: usize, mut f: impl FnMut()) {
    let times = (0..7).map(|_| {
        let begin = Instant::now();
        f();
        begin.elapsed()
    });
    let least = times.min().unwrap_or_default();
    println!("{what}: {:.1} ns", least.as_nanos() as f64 / n as f64);
}
