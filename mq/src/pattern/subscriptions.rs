//! Which pipes want a topic (PUB, XPUB).
//!
//! A pipe has a topic or has it not: subscribing twice is no more than once, and one cancel ends it
//! (libzmq's subscribers send each subscribe, but only the last cancel).
//!
//! Nouns
//! - A *set* are the slots that have a topic. The number that the [`PrefixTree`] keeps for a topic
//!   is its set: `slot + 1` for a set of one, else `MANY` and the place of a sorted list.
//! - A *subscriber* is what is known of a slot: the nodes of its topics, so that a peer can go at the
//!   cost of what it subscribed to, not of what all did. Cancelled topics stay in that list until
//!   they are half of it: what is wrong in there does no harm, because the set of the node tells
//!   who has the topic.
//!
//! Each slot comes at most once out of [`matching`](Subscriptions::matching): it is marked with the
//! number of the search.
//!
//! How much a peer costs is summed up ([`size`](Subscriptions::size)), so that there can be a limit.

use slab::Slab;

use super::prefix_tree::PrefixTree;
use crate::pipe::Slot;

/// Marks the number of a set that is not one slot.
const MANY: u32 = 1 << 31;

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    tree: PrefixTree,
    sets: Slab<Vec<u32>>,
    subscribers: Vec<Subscriber>,
    search: u32,
}

#[derive(Debug, Default)]
struct Subscriber {
    /// Nodes: all that it has, and some that it has no more.
    topics: Vec<u32>,
    live: usize,
    bytes: usize,
    /// The last search that found it.
    found: u32,
}

/// What has become of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Nobody had that topic.
    First,
    /// Others had it.
    Also,
    /// That pipe had it already.
    Again,
}

/// What has become of a cancelled subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// Nobody has that topic any more.
    Last,
    /// Others have it.
    One,
    /// That pipe did not have it.
    Nothing,
}

impl Subscriptions {
    /// Adds a topic to what a pipe wants.
    pub(super) fn add(&mut self, slot: Slot, topic: &[u8]) -> Added {
        let node = self.tree.insert(topic);
        let set = self.tree.number(node);
        let one = slot as u32 + 1;
        let (new, added) = match set {
            0 => {
                self.tree.put(node, topic, one);
                (one, Added::First)
            }
            set if set == one => return Added::Again,
            set if set & MANY == 0 => {
                let both = vec![set.min(one) - 1, set.max(one) - 1];
                (MANY | self.sets.insert(both) as u32, Added::Also)
            }
            set => {
                let slots = &mut self.sets[(set & !MANY) as usize];
                let Err(at) = slots.binary_search(&(slot as u32)) else {
                    return Added::Again;
                };
                slots.insert(at, slot as u32);
                (set, Added::Also)
            }
        };
        self.tree.set_number(node, new);
        if self.subscribers.len() <= slot {
            self.subscribers.resize_with(slot + 1, Subscriber::default);
        }
        let subscriber = &mut self.subscribers[slot];
        if subscriber.topics.len() == subscriber.topics.capacity() {
            // Doubling would cost as much again as a quarter of a topic.
            subscriber
                .topics
                .reserve_exact(subscriber.topics.len() / 4 + 4);
        }
        subscriber.topics.push(node);
        subscriber.live += 1;
        subscriber.bytes += topic.len();
        added
    }

    /// Takes a topic from what a pipe wants.
    pub(super) fn remove(&mut self, slot: Slot, topic: &[u8]) -> Removed {
        let Some(node) = self.tree.find(topic) else {
            return Removed::Nothing;
        };
        let removed = self.take_out(slot, node);
        if removed == Removed::Nothing {
            return removed;
        }
        self.tree.prune(node);
        let subscriber = &mut self.subscribers[slot];
        subscriber.live -= 1;
        subscriber.bytes -= topic.len();
        if subscriber.topics.len() > 2 * subscriber.live + 32 {
            let mut topics = std::mem::take(&mut subscriber.topics);
            topics.sort_unstable();
            topics.dedup();
            topics.retain(|node| has(&self.sets, self.tree.number(*node), slot));
            topics.shrink_to_fit();
            self.subscribers[slot].topics = topics;
        }
        removed
    }

    /// Takes all from a pipe, without a word.
    pub(super) fn remove_all(&mut self, slot: Slot) {
        for node in self.leave(slot) {
            if self.take_out(slot, node) != Removed::Nothing {
                self.tree.prune(node);
            }
        }
    }

    /// Takes all from a pipe. Returns the nodes of those of its topics that nobody else has, or of
    /// all of them (`each`). They keep standing for their topics until `told`.
    pub(super) fn depart(&mut self, slot: Slot, each: bool) -> Vec<u32> {
        let mut topics = self.leave(slot);
        topics.retain(|&node| {
            let removed = self.take_out(slot, node);
            if removed == Removed::Last || (each && removed == Removed::One) {
                if self.tree.pin(node) {
                    return true;
                }
                // 65,535 peers have left it and the user was told of none: this one is not told.
                self.tree.prune(node);
            }
            false
        });
        topics.shrink_to_fit();
        topics
    }

    /// The topic of a node that `depart` returned, behind a byte. Once for each.
    pub(super) fn told(&mut self, node: u32, lead: u8) -> Vec<u8> {
        let topic = self.tree.topic(node, lead);
        self.tree.unpin(node);
        self.tree.prune(node);
        topic
    }

    fn leave(&mut self, slot: Slot) -> Vec<u32> {
        let Some(subscriber) = self.subscribers.get_mut(slot) else {
            return Vec::new();
        };
        std::mem::take(subscriber).topics
    }

    /// Takes a slot out of a set. The node has to be pruned.
    fn take_out(&mut self, slot: Slot, node: u32) -> Removed {
        let set = self.tree.number(node);
        if set == slot as u32 + 1 {
            self.tree.clear(node);
            return Removed::Last;
        }
        if !has(&self.sets, set, slot) {
            return Removed::Nothing;
        }
        let place = (set & !MANY) as usize;
        let slots = &mut self.sets[place];
        slots.retain(|other| *other != slot as u32);
        if let &mut [last] = &mut slots[..] {
            self.sets.remove(place);
            self.tree.set_number(node, last + 1);
        }
        Removed::One
    }

    /// Puts into `found` who wants a message with this first frame, each once.
    #[inline]
    pub(super) fn matching(&mut self, bytes: &[u8], found: &mut Vec<Slot>) {
        found.clear();
        self.search = self.search.wrapping_add(1);
        if self.search == 0 {
            self.subscribers.iter_mut().for_each(|s| s.found = 0);
            self.search = 1;
        }
        let search = self.search;
        let (subscribers, sets) = (&mut self.subscribers, &self.sets);
        let mut find = |slot: u32| {
            if let Some(subscriber) = subscribers.get_mut(slot as usize)
                && subscriber.found != search
            {
                subscriber.found = search;
                found.push(slot as usize);
            }
        };
        self.tree.prefixes(bytes, |set| {
            if set & MANY == 0 {
                find(set - 1);
            } else {
                sets[(set & !MANY) as usize]
                    .iter()
                    .for_each(|slot| find(*slot));
            }
            true
        });
    }

    /// Puts into `found` who of `all` does not want it.
    pub(super) fn others(&mut self, bytes: &[u8], all: &[Slot], found: &mut Vec<Slot>) {
        self.matching(bytes, found);
        found.clear();
        let wanted = |slot: Slot| {
            let subscriber = self.subscribers.get(slot);
            subscriber.is_some_and(|s| s.found == self.search)
        };
        found.extend(all.iter().copied().filter(|slot| !wanted(*slot)));
    }

    /// Number of pipes that want a message with this first frame.
    pub(super) fn count(&self, bytes: &[u8]) -> usize {
        let mut found = Vec::new();
        self.tree.prefixes(bytes, |set| {
            if set & MANY == 0 {
                found.push(set - 1);
            } else {
                found.extend_from_slice(&self.sets[(set & !MANY) as usize]);
            }
            true
        });
        found.sort_unstable();
        found.dedup();
        found.len()
    }

    /// Number of pipes that want everything, because they subscribed to "".
    #[inline]
    pub(super) fn of_everything(&self) -> usize {
        match self.tree.number(0) {
            0 => 0,
            set if set & MANY == 0 => 1,
            set => self.sets[(set & !MANY) as usize].len(),
        }
    }

    /// Number of different topics.
    pub(super) fn topics(&self) -> usize {
        self.tree.topics()
    }

    /// How many topics a pipe has, and how many bytes these have.
    pub(super) fn size(&self, slot: Slot) -> (usize, usize) {
        let subscriber = self.subscribers.get(slot);
        subscriber.map_or((0, 0), |s| (s.live, s.bytes))
    }
}

fn has(sets: &Slab<Vec<u32>>, set: u32, slot: Slot) -> bool {
    if set & MANY == 0 {
        return set == slot as u32 + 1;
    }
    let slots = sets.get((set & !MANY) as usize);
    slots.is_some_and(|slots| slots.binary_search(&(slot as u32)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::hint::black_box;
    use std::time::Instant;

    use super::super::testing::{Random, measure};
    use super::*;

    fn matching(subscriptions: &mut Subscriptions, bytes: &[u8]) -> Vec<Slot> {
        let mut found = Vec::new();
        subscriptions.matching(bytes, &mut found);
        found.sort_unstable();
        found
    }

    #[test]
    fn each_slot_comes_once() {
        let mut s = Subscriptions::default();
        for topic in ["", "a", "ab", "b"] {
            assert_eq!(s.add(3, topic.as_bytes()), Added::First);
            assert_eq!(s.add(5, topic.as_bytes()), Added::Also);
            assert_eq!(s.add(5, topic.as_bytes()), Added::Again);
        }
        assert_eq!(matching(&mut s, b"abc"), [3, 5]);
        assert_eq!((s.count(b"abc"), s.topics(), s.of_everything()), (2, 4, 2));
        assert_eq!(s.remove(3, b""), Removed::One);
        assert_eq!(s.remove(3, b""), Removed::Nothing);
        assert_eq!(s.remove(3, b"never"), Removed::Nothing);
        assert_eq!(matching(&mut s, b"c"), [5]);
        assert_eq!(s.remove(5, b""), Removed::Last);
        assert_eq!(matching(&mut s, b"c"), []);
        let mut found = Vec::new();
        s.others(b"c", &[1, 3, 5], &mut found);
        assert_eq!(found, [1, 3, 5]);
        s.others(b"b", &[1, 3, 5], &mut found);
        assert_eq!(found, [1]);
    }

    #[test]
    fn who_leaves_gives_back_what_nobody_else_has() {
        let mut s = Subscriptions::default();
        for topic in ["alone", "both", "also alone"] {
            s.add(0, topic.as_bytes());
        }
        s.add(1, b"both");
        let nodes = s.depart(0, false);
        assert_eq!(s.topics(), 1);
        assert_eq!(matching(&mut s, b"alone"), []);
        // Somebody else may take the slot and the topic before the user is told.
        assert_eq!(s.add(0, b"alone"), Added::First);
        let topics: Vec<_> = nodes.into_iter().map(|node| s.told(node, 0)).collect();
        assert_eq!(topics, [b"\0alone".to_vec(), b"\0also alone".to_vec()]);
        assert_eq!(matching(&mut s, b"alone"), [0]);
        let nodes = s.depart(1, true);
        assert_eq!(nodes.len(), 1);
        assert_eq!(s.told(nodes[0], 0), b"\0both");
        assert_eq!(s.depart(7, true), []);
    }

    /// The node of a cancelled topic can be that of another one later.
    #[test]
    fn a_list_with_old_nodes_does_no_harm() {
        let mut s = Subscriptions::default();
        for i in 0..10_000_u32 {
            s.add(0, &i.to_be_bytes());
            s.add(1, &(i + 1).to_le_bytes());
            s.remove(0, &i.to_be_bytes());
        }
        assert!(s.subscribers[0].topics.len() <= 33);
        assert!(s.subscribers[0].topics.capacity() <= 128);
        assert_eq!((s.size(0).0, s.topics()), (0, 10_000));
        assert_eq!(s.depart(0, true), []);
        s.remove_all(1);
        assert_eq!(s.topics(), 0);
    }

    #[test]
    fn it_agrees_with_a_list() {
        let seed = Random::seed();
        let mut random = Random::new(seed);
        for round in 0..40 {
            let mut s = Subscriptions::default();
            let mut model = BTreeMap::<Vec<u8>, BTreeSet<Slot>>::new();
            let mut untold = Vec::new();
            let peers = [1, 2, 40][round % 3];
            for _ in 0..1_500 {
                let len = random.below(20);
                let topic: Vec<u8> = (0..len).map(|_| random.below(2) as u8).collect();
                let slot = random.below(peers);
                let had = model.get(&topic).map_or(0, BTreeSet::len);
                match random.below(100) {
                    0 => {
                        let each = random.below(2) == 0;
                        let nodes = s.depart(slot, each);
                        let mut expected = BTreeSet::new();
                        model.retain(|topic, slots| {
                            if slots.remove(&slot) && (each || slots.is_empty()) {
                                expected.insert([&[9], &topic[..]].concat());
                            }
                            !slots.is_empty()
                        });
                        untold.push((nodes, expected));
                    }
                    1 => {
                        s.remove_all(slot);
                        model.retain(|_, slots| {
                            slots.remove(&slot);
                            !slots.is_empty()
                        });
                    }
                    2 => {
                        if let Some((nodes, expected)) = untold.pop() {
                            let told = nodes.into_iter().map(|node| s.told(node, 9));
                            assert_eq!(told.collect::<BTreeSet<_>>(), expected, "seed {seed}");
                        }
                    }
                    3..50 => {
                        let new = model.entry(topic.clone()).or_default().insert(slot);
                        let expected = match (new, had) {
                            (false, _) => Added::Again,
                            (true, 0) => Added::First,
                            (true, _) => Added::Also,
                        };
                        assert_eq!(s.add(slot, &topic), expected, "seed {seed}");
                    }
                    50..80 => {
                        let mut old = false;
                        if let Some(slots) = model.get_mut(&topic) {
                            old = slots.remove(&slot);
                            if slots.is_empty() {
                                model.remove(&topic);
                            }
                        }
                        let expected = match (old, had) {
                            (false, _) => Removed::Nothing,
                            (true, 1) => Removed::Last,
                            (true, _) => Removed::One,
                        };
                        assert_eq!(s.remove(slot, &topic), expected, "seed {seed}");
                    }
                    _ => {
                        let wanted = (0..=len).filter_map(|len| model.get(&topic[..len]));
                        let expected: BTreeSet<_> = wanted.flatten().copied().collect();
                        let mut found = Vec::new();
                        s.matching(&topic, &mut found);
                        assert_eq!(found.len(), expected.len(), "seed {seed}");
                        assert_eq!(s.count(&topic), expected.len(), "seed {seed}");
                        assert_eq!(BTreeSet::from_iter(found), expected, "seed {seed}");
                    }
                }
                assert_eq!(s.topics(), model.len(), "seed {seed}");
            }
            for slot in 0..peers {
                s.remove_all(slot);
                assert_eq!(s.size(slot), (0, 0), "seed {seed}");
            }
            for (nodes, _) in untold {
                nodes.into_iter().for_each(|node| drop(s.told(node, 0)));
            }
            assert_eq!((s.topics(), s.sets.len()), (0, 0), "seed {seed}");
        }
    }

    /// Peers that come and go cost what they subscribed to, not what others did.
    #[test]
    fn leaving_is_cheap_beside_many_topics() {
        let begin = Instant::now();
        let mut s = Subscriptions::default();
        for i in 0..100_000_u32 {
            s.add(0, &i.to_be_bytes());
        }
        for i in 0..10_000_u32 {
            s.add(1, &i.to_be_bytes());
            s.remove_all(1);
        }
        assert_eq!(s.topics(), 100_000);
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    }

    /// `cargo test --release -- --ignored --nocapture costs`
    #[test]
    #[ignore = "it measures"]
    fn costs() {
        const N: usize = 200_000;
        let mut random = Random::new(1);
        let mut found = Vec::new();
        let mut search = |what: &str, s: &mut Subscriptions, topics: &[Vec<u8>]| {
            measure(what, N, || {
                for topic in topics.iter().cycle().take(N) {
                    s.matching(black_box(topic), &mut found);
                }
            });
        };
        let topic = |i: usize| format!("topic.{i:09}").into_bytes();
        for n in [1, 10, 1_000, 100_000, 1_000_000] {
            let mut many = Subscriptions::default();
            let begin = Instant::now();
            for i in 0..n {
                many.add(0, &topic(i));
            }
            println!(
                "{n} topics, add: {:.0} ns",
                begin.elapsed().as_nanos() as f64 / n as f64
            );
            search(
                &format!("{n} topics, always the same"),
                &mut many,
                &[topic(n / 2)],
            );
            let mixed: Vec<_> = (0..N).map(|_| topic(random.below(n))).collect();
            search(&format!("{n} topics, at random"), &mut many, &mixed);
            let begin = Instant::now();
            drop(many.depart(0, false));
            println!(
                "{n} topics, leave: {:.0} ns",
                begin.elapsed().as_nanos() as f64 / n as f64
            );
        }
        let mut all = Subscriptions::default();
        for slot in 0..1_000 {
            all.add(slot, b"same");
        }
        measure("1000 slots", N, || {
            for _ in 0..N / 1_000 {
                all.matching(black_box(b"same"), &mut found);
            }
        });
    }
}
