//! A number for each topic, found for all topics that are a prefix of something.
//!
//! A radix tree in one vector. A node has up to 15 bytes of the topic (its label), and its number if
//! a topic ends there; longer pieces are chains of nodes. Children are found by one hash table for
//! the whole tree, from (parent, first byte of the label); an only child without it.
//!
//! Beside it an *index* of whole topics by their hash. While topics have few different lengths, one
//! look-up in it for each length replaces the walk through the tree, which reads a cold cache line or
//! two per level.
//!
//! Invariants
//! - Node 0 is the root, with an empty label; every other node has a label, and siblings differ in
//!   its first byte.
//! - A node that was made for a topic keeps its id until that topic has no number and no pins, what
//!   ever comes and goes around it: splitting and merging make and free only nodes without both.
//! - Without both a node has two children or more, or one that it cannot be merged with because 15
//!   bytes are too few for both labels (or two: when one of several goes, only its parent is looked
//!   at). So a topic of n bytes costs at most about 100 + 6n bytes, and mostly less than 100.
//! - The index has each topic of 1 to [`SHORT`] bytes that has a number, and `lengths` counts them.
//!
//! Nothing here recurses, and no step copies more than 15 bytes, so that neither a topic of a
//! megabyte nor all prefixes of a long one (each of which splits a label) cost more than their
//! bytes. All hashes are keyed with random numbers: bytes of a peer's choice do not make them slow.
//! A hash of 64 bits stands for the topic in the index; if two topics have the same, the index is
//! not used any more. So all that could happen, once in 10^13 messages with a million topics, is that
//! a message goes to somebody who did not ask for it.
//!
//! Rejected
//! - The index alone: an attacker who subscribes to one topic of each length makes each message cost
//!   a look-up per byte. In the tree it costs what it shares with real topics.
//! - The tree alone: 100,000 topics that differ in five digits are five levels, 1.6 us per message
//!   with cold caches, against 0.02 for one topic.
//! - A table of children in each node (libzmq's trie): 24 bytes and more for each byte of a topic,
//!   and up to 2 KiB for a node with two children.
//! - Labels of any length on the heap: splitting them is a copy of the rest, which is quadratic for
//!   the prefixes of a long topic; sharing the bytes keeps the long topic alive instead.

use super::node_table::NodeTable;
use super::prefix_hash::{self, Keys, Prefixes, fold};

/// Bytes of a topic in one node.
const LABEL: usize = 15;
/// Longer topics are not in the index.
const SHORT: usize = 128;
/// The index is used for so many different lengths.
const LENGTHS: usize = 8;
/// With fewer topics the tree is quicker.
const FEW: usize = 3;
/// What is kept of the vectors when the last topic goes.
const KEPT: usize = 1024;
/// No node.
const NONE: u32 = 0;

/// See the file head.
#[derive(Debug)]
pub(super) struct PrefixTree {
    nodes: Vec<Node>,
    /// Children. Upper half of an entry: hash; lower half: node.
    table: NodeTable,
    /// Topics. The same; the upper half of the hash is here, the lower one in the node.
    index: NodeTable,
    /// Number of topics in the index by length.
    lengths: Box<[u32; SHORT + 1]>,
    /// The lengths that there are, in order.
    present: Vec<u8>,
    /// Topics that are not in the index because they are long.
    long: usize,
    /// Two topics had the same hash.
    blind: bool,
    /// Free nodes, linked by `parent`.
    free: u32,
    /// Nodes that are not free, but the root.
    used: usize,
    topics: usize,
    keys: Keys,
}

#[derive(Clone, Debug)]
struct Node {
    label: [u8; LABEL],
    len: u8,
    parent: u32,
    /// Exclusive or of all children: the child, if it is the only one.
    only: u32,
    /// 0: no topic ends here.
    number: u32,
    children: u16,
    pins: u16,
    /// The lower half of the topic's hash.
    hash: u32,
    /// Length of the topic, if it is in the index.
    indexed: u8,
}

const _: () = assert!(size_of::<Node>() == 40);

impl Node {
    fn new(parent: u32, label: &[u8]) -> Self {
        let mut node = Self {
            label: [0; LABEL],
            len: label.len() as u8,
            parent,
            only: NONE,
            number: 0,
            children: 0,
            pins: 0,
            hash: 0,
            indexed: 0,
        };
        node.label[..label.len()].copy_from_slice(label);
        node
    }

    #[inline]
    fn label(&self) -> &[u8] {
        self.label.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Default for PrefixTree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(NONE, b"")],
            table: NodeTable::default(),
            index: NodeTable::default(),
            lengths: Box::new([0; SHORT + 1]),
            present: Vec::new(),
            long: 0,
            blind: false,
            free: NONE,
            used: 0,
            topics: 0,
            keys: prefix_hash::random(),
        }
    }
}

impl PrefixTree {
    /// Number of topics that have a number.
    pub(super) fn topics(&self) -> usize {
        self.topics
    }

    /// Returns the node of a topic, and makes it if there is none: `put` a number into it then.
    pub(super) fn insert(&mut self, topic: &[u8]) -> u32 {
        let mut at = 0;
        let mut rest = topic;
        while let Some(&first) = rest.first() {
            let Some(child) = self.child(at, first) else {
                for label in rest.chunks(LABEL) {
                    at = self.append(at, label);
                }
                return at;
            };
            let label = self.nodes[child as usize].label();
            let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            rest = &rest[common..];
            at = if common == label.len() {
                child
            } else {
                self.split(child, common)
            };
        }
        at
    }

    /// Returns the node of a topic.
    pub(super) fn find(&self, topic: &[u8]) -> Option<u32> {
        let mut at = 0;
        let mut rest = topic;
        while let Some(&first) = rest.first() {
            at = self.child(at, first)?;
            rest = rest.strip_prefix(self.nodes[at as usize].label())?;
        }
        Some(at)
    }

    /// Shows the number of each topic that is a prefix of `bytes`, the shortest first, until `f`
    /// returns `false`.
    #[inline]
    pub(super) fn prefixes(&self, bytes: &[u8], mut f: impl FnMut(u32) -> bool) {
        let tree = self.topics < FEW
            || self.present.len() > LENGTHS
            || self.blind
            || (self.long > 0 && bytes.len() > SHORT);
        if tree {
            return self.walk(bytes, f);
        }
        let number = self.nodes[0].number;
        if number != 0 && !f(number) {
            return;
        }
        let mut hasher = Prefixes::new(self.keys, bytes);
        for &len in &self.present {
            let Some(hash) = hasher.hash(usize::from(len)) else {
                return;
            };
            let of_topic = |node: u32| self.nodes[node as usize].hash == hash as u32;
            if let Some(node) = self.index.find(hash as u32, (hash >> 32) as u32, of_topic)
                && !f(self.nodes[node as usize].number)
            {
                return;
            }
        }
    }

    #[inline]
    fn walk(&self, bytes: &[u8], mut f: impl FnMut(u32) -> bool) {
        let mut at = 0;
        let mut rest = bytes;
        loop {
            let number = self.nodes[at as usize].number;
            if number != 0 && !f(number) {
                return;
            }
            let Some(&first) = rest.first() else {
                return;
            };
            let Some(child) = self.child(at, first) else {
                return;
            };
            let Some(after) = rest.strip_prefix(self.nodes[child as usize].label()) else {
                return;
            };
            rest = after;
            at = child;
        }
    }

    /// The number of a topic, 0 for none. Any number is good for a node.
    #[inline]
    pub(super) fn number(&self, node: u32) -> u32 {
        self.nodes.get(node as usize).map_or(0, |node| node.number)
    }

    /// Gives a number to a topic that has none, and whose node this is.
    pub(super) fn put(&mut self, node: u32, topic: &[u8], number: u32) {
        self.topics += 1;
        self.nodes[node as usize].number = number;
        if topic.len() > SHORT {
            self.long += 1;
            return;
        }
        let Some(hash) = Prefixes::new(self.keys, topic)
            .hash(topic.len())
            .filter(|_| node != 0)
        else {
            return;
        };
        let nodes = &self.nodes;
        let same = |other: u32| nodes[other as usize].hash == hash as u32;
        if self
            .index
            .find(hash as u32, (hash >> 32) as u32, same)
            .is_some()
        {
            self.blind = true;
            return;
        }
        let entry = hash & !u64::from(u32::MAX) | u64::from(node);
        self.index.insert(entry, hash as u32, |entry| {
            nodes[entry as u32 as usize].hash
        });
        let this = &mut self.nodes[node as usize];
        (this.hash, this.indexed) = (hash as u32, topic.len() as u8);
        self.lengths[topic.len()] += 1;
        if self.lengths[topic.len()] == 1 {
            let len = topic.len() as u8;
            let at = self.present.partition_point(|other| *other < len);
            self.present.insert(at, len);
        }
    }

    /// Changes the number of a topic that has one, to one that is not 0.
    pub(super) fn set_number(&mut self, node: u32, number: u32) {
        self.nodes[node as usize].number = number;
    }

    /// Takes the number from a topic that has one; then `prune` it.
    pub(super) fn clear(&mut self, node: u32) {
        self.topics -= 1;
        let this = &mut self.nodes[node as usize];
        this.number = 0;
        let indexed = std::mem::take(&mut this.indexed);
        let hash = this.hash;
        if indexed != 0 {
            let nodes = &self.nodes;
            self.index
                .remove(node, hash, |entry| nodes[entry as u32 as usize].hash);
            self.lengths[usize::from(indexed)] -= 1;
            if self.lengths[usize::from(indexed)] == 0 {
                self.present.retain(|len| *len != indexed);
            }
        } else if node != 0 && !self.blind {
            self.long -= 1;
        }
    }

    /// Keeps the node for a while also without a number. `false`: there are too many pins.
    pub(super) fn pin(&mut self, node: u32) -> bool {
        let pins = &mut self.nodes[node as usize].pins;
        let more = pins.checked_add(1);
        *pins = more.unwrap_or(*pins);
        more.is_some()
    }

    /// Takes a pin back; then `prune` the node.
    pub(super) fn unpin(&mut self, node: u32) {
        let pins = &mut self.nodes[node as usize].pins;
        *pins = pins.saturating_sub(1);
    }

    /// The topic of a node, behind a byte.
    pub(super) fn topic(&self, node: u32, lead: u8) -> Vec<u8> {
        let mut at = node;
        let mut len = 1;
        while at != 0 {
            len += usize::from(self.nodes[at as usize].len);
            at = self.nodes[at as usize].parent;
        }
        let mut topic = Vec::with_capacity(len);
        at = node;
        while at != 0 {
            topic.extend(self.nodes[at as usize].label().iter().rev());
            at = self.nodes[at as usize].parent;
        }
        topic.push(lead);
        topic.reverse();
        topic
    }

    /// The nodes of all topics that have a number.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        let numbered = |(node, n): (usize, &Node)| (n.number != 0).then_some(node as u32);
        self.nodes.iter().enumerate().filter_map(numbered)
    }

    /// Frees the node if nothing needs it, and then those above it.
    pub(super) fn prune(&mut self, mut node: u32) {
        while node != 0 {
            let this = &self.nodes[node as usize];
            if this.number != 0 || this.pins != 0 {
                return;
            }
            match this.children {
                0 => {
                    let parent = this.parent;
                    self.unlink(node);
                    self.release(node);
                    node = parent;
                }
                1 => return self.merge(node),
                _ => return,
            }
        }
        if self.used > 0 {
            return;
        }
        (self.blind, self.long) = (false, 0);
        if self.nodes.len() > KEPT {
            self.nodes.truncate(1);
            self.nodes.shrink_to(KEPT);
            self.table = NodeTable::default();
            self.index = NodeTable::default();
            self.free = NONE;
        }
    }

    /// Puts a node into its only child, if their labels fit into one.
    fn merge(&mut self, node: u32) {
        let upper = self.nodes[node as usize].clone();
        let child = upper.only;
        let lower = &self.nodes[child as usize];
        let label = [upper.label(), lower.label()].concat();
        if label.len() > LABEL {
            return;
        }
        self.unlink(child);
        self.unlink(node);
        self.release(node);
        let lower = &mut self.nodes[child as usize];
        lower.label[..label.len()].copy_from_slice(&label);
        lower.len = label.len() as u8;
        lower.parent = upper.parent;
        self.link(child);
    }

    /// Puts a node with the first `at` bytes of the label above a node, and returns it.
    fn split(&mut self, node: u32, at: usize) -> u32 {
        self.unlink(node);
        let lower = self.nodes[node as usize].clone();
        let (label, rest) = lower.label().split_at(at);
        let upper = self.append(lower.parent, label);
        let below = Node::new(upper, rest);
        let lower = &mut self.nodes[node as usize];
        (lower.label, lower.len, lower.parent) = (below.label, below.len, upper);
        self.link(node);
        upper
    }

    /// Makes a node.
    fn append(&mut self, parent: u32, label: &[u8]) -> u32 {
        let new = Node::new(parent, label);
        let node = if self.free == NONE {
            let len = self.nodes.len();
            if len == self.nodes.capacity() {
                self.nodes.reserve_exact(len / 4 + 4);
            }
            self.nodes.push(new);
            len as u32
        } else {
            let node = self.free;
            self.free = self.nodes[node as usize].parent;
            self.nodes[node as usize] = new;
            node
        };
        self.used += 1;
        self.link(node);
        node
    }

    fn release(&mut self, node: u32) {
        self.nodes[node as usize] = Node::new(self.free, b"");
        self.free = node;
        self.used -= 1;
    }

    /// Finds a child by the first byte of its label.
    #[inline]
    fn child(&self, parent: u32, first: u8) -> Option<u32> {
        let above = &self.nodes[parent as usize];
        if above.children < 2 {
            let is_it = above.children == 1 && self.nodes[above.only as usize].label[0] == first;
            return is_it.then_some(above.only);
        }
        let hash = self.hash(parent, first);
        self.table.find(hash, hash, |node| {
            let node = &self.nodes[node as usize];
            node.parent == parent && node.label[0] == first
        })
    }

    #[inline]
    fn hash(&self, parent: u32, first: u8) -> u32 {
        let pair = u64::from(parent) << 8 | u64::from(first);
        fold(pair ^ self.keys[0], self.keys[1]) as u32
    }

    /// Tells the parent and the table of a node.
    fn link(&mut self, node: u32) {
        let (parent, first) = self.place_of(node);
        let hash = self.hash(parent, first);
        let entry = u64::from(hash) << 32 | u64::from(node);
        self.table.insert(entry, hash, |entry| (entry >> 32) as u32);
        let above = &mut self.nodes[parent as usize];
        above.children += 1;
        above.only ^= node;
    }

    /// The opposite of `link`.
    fn unlink(&mut self, node: u32) {
        let (parent, first) = self.place_of(node);
        let hash = self.hash(parent, first);
        self.table.remove(node, hash, |entry| (entry >> 32) as u32);
        let above = &mut self.nodes[parent as usize];
        above.children -= 1;
        above.only ^= node;
    }

    fn place_of(&self, node: u32) -> (u32, u8) {
        let node = &self.nodes[node as usize];
        (node.parent, node.label[0])
    }
}

#[cfg(test)]
mod tests;
