use std::collections::BTreeMap;
use std::time::Instant;

use super::super::testing::Random;
use super::*;

impl PrefixTree {
    /// Checks the invariants of the file head.
    fn check(&self) {
        let mut children = vec![(0, 0); self.nodes.len()];
        let nodes_of = |table: &NodeTable| table.nodes().collect::<Vec<_>>();
        for node in nodes_of(&self.table) {
            let (parent, first) = self.place_of(node);
            children[parent as usize].0 += 1;
            children[parent as usize].1 ^= node;
            assert!((1..=LABEL).contains(&usize::from(self.nodes[node as usize].len)));
            assert_eq!(self.child(parent, first), Some(node));
        }
        assert_eq!(nodes_of(&self.table).len(), self.used);
        let mut lengths = vec![0; SHORT + 1];
        for node in nodes_of(&self.index) {
            let topic = self.topic(node, 0);
            lengths[topic.len() - 1] += 1;
            assert_ne!(self.number(node), 0);
            let hash = Prefixes::new(self.keys, &topic[1..])
                .hash(topic.len() - 1)
                .unwrap();
            assert_eq!(self.nodes[node as usize].hash, hash as u32);
            let found = self.index.find(hash as u32, (hash >> 32) as u32, |_| true);
            assert_eq!(found, Some(node));
        }
        assert_eq!(self.lengths[..], lengths);
        let present = (0..=SHORT).filter(|len| lengths[*len] > 0);
        assert!(present.eq(self.present.iter().map(|len| usize::from(*len))));
        let root = usize::from(self.nodes[0].number != 0);
        assert_eq!(self.topics, self.index.nodes().count() + self.long + root);
        for (node, (count, only)) in children.into_iter().enumerate() {
            let n = &self.nodes[node];
            assert_eq!((n.children, n.only), (count, only));
        }
        assert_eq!(self.topics, self.all().count());
    }

    fn set(&mut self, topic: &[u8], number: u32) -> u32 {
        let node = self.insert(topic);
        match (self.number(node), number) {
            (0, 0) => {}
            (0, _) => self.put(node, topic, number),
            (_, 0) => self.clear(node),
            _ => self.set_number(node, number),
        }
        self.prune(node);
        node
    }

    fn memory(&self) -> usize {
        let tables = self.table.memory() + self.index.memory();
        self.nodes.capacity() * size_of::<Node>() + tables
    }

    fn prefix_numbers(&self, bytes: &[u8]) -> Vec<u32> {
        let mut numbers = Vec::new();
        self.prefixes(bytes, |number| {
            numbers.push(number);
            true
        });
        numbers
    }
}

#[test]
fn prefixes_come_the_shortest_first() {
    let mut tree = PrefixTree::default();
    for (number, topic) in ["", "a", "ab", "abc", "b", "abd"].iter().enumerate() {
        tree.set(topic.as_bytes(), number as u32 + 1);
    }
    tree.check();
    assert_eq!(tree.topics(), 6);
    assert_eq!(tree.prefix_numbers(b""), [1]);
    assert_eq!(tree.prefix_numbers(b"abc"), [1, 2, 3, 4]);
    assert_eq!(tree.prefix_numbers(b"abe"), [1, 2, 3]);
    assert_eq!(tree.prefix_numbers(b"c"), [1]);
    let mut seen = 0;
    tree.prefixes(b"abc", |_| {
        seen += 1;
        seen < 2
    });
    assert_eq!(seen, 2);
}

#[test]
fn a_node_keeps_its_id() {
    let mut tree = PrefixTree::default();
    let long = tree.set(b"a long topic that needs more than one node", 1);
    let short = tree.set(b"a long", 2);
    let other = tree.set(b"a long topic with another end", 3);
    assert_eq!(
        tree.find(b"a long topic that needs more than one node"),
        Some(long)
    );
    tree.clear(short);
    assert!(tree.pin(short));
    tree.prune(short);
    assert_eq!(tree.find(b"a long"), Some(short));
    assert_eq!(tree.topics(), 2);
    assert_eq!(tree.prefix_numbers(b"a long"), []);
    tree.unpin(short);
    tree.prune(short);
    tree.set(b"a long topic with another end", 0);
    tree.check();
    assert_eq!(tree.find(b"a long topic with another end"), None);
    assert_eq!(
        tree.topic(long, 7),
        b"\x07a long topic that needs more than one node"
    );
    assert_eq!(tree.number(other), 0);
    tree.set(b"a long topic that needs more than one node", 0);
    tree.check();
    assert_eq!(tree.used, 0);
}

#[test]
fn it_agrees_with_a_list() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for round in 0..60 {
        let mut tree = PrefixTree::default();
        let mut model = BTreeMap::<Vec<u8>, u32>::new();
        // Few letters give many common prefixes; few lengths keep the index in use.
        let (letters, longest) = [(1, 40), (2, 12), (3, 300), (256, 4), (3, 6)][round % 5];
        for step in 0..600 {
            let len = random.below(longest + 1);
            let topic: Vec<u8> = (0..len).map(|_| random.below(letters) as u8).collect();
            let number = (random.below(3) * (step + 1)) as u32;
            tree.set(&topic, number);
            match number {
                0 => drop(model.remove(&topic)),
                _ => drop(model.insert(topic.clone(), number)),
            }
            let longer = [&topic[..], &[0, 1, 0][..random.below(4)]].concat();
            let expected: Vec<_> = (0..=longer.len())
                .filter_map(|len| model.get(&longer[..len]).copied())
                .collect();
            assert_eq!(tree.prefix_numbers(&longer), expected, "seed {seed}");
            let mut walked = Vec::new();
            tree.walk(&longer, |number| {
                walked.push(number);
                true
            });
            assert_eq!(walked, expected, "seed {seed}");
        }
        tree.check();
        let mut all: Vec<_> = tree
            .all()
            .map(|n| (tree.topic(n, 0), tree.number(n)))
            .collect();
        all.sort();
        let expected: Vec<_> = model
            .iter()
            .map(|(topic, number)| ([&[0], &topic[..]].concat(), *number))
            .collect();
        assert_eq!(all, expected, "seed {seed}");
        for topic in model.into_keys() {
            tree.set(&topic, 0);
        }
        tree.check();
        assert_eq!((tree.used, tree.topics()), (0, 0), "seed {seed}");
    }
}

/// CVE-2021-20236: a long topic and its end overflowed libzmq's stack.
#[test]
fn a_megabyte_comes_and_goes() {
    let mut tree = PrefixTree::default();
    let topic: Vec<u8> = (0..1 << 20)
        .map(|i: u32| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    for _ in 0..3 {
        let node = tree.set(&topic, 1);
        assert!(tree.memory() < 6 << 20);
        assert_eq!(tree.topic(node, 1).len(), topic.len() + 1);
        assert_eq!(tree.prefix_numbers(&topic), [1]);
        tree.set(&topic, 0);
        assert_eq!(tree.used, 0);
    }
    assert!(tree.memory() < 100_000);
}

/// Quadratic, this would copy 20 GB.
#[test]
fn all_prefixes_of_a_long_topic() {
    let begin = Instant::now();
    let mut tree = PrefixTree::default();
    let topic = vec![b'x'; 1 << 20];
    tree.set(&topic, 1);
    for len in 0..20_000 {
        tree.set(&topic[..len % 2_000], len as u32 + 2);
    }
    tree.check();
    assert_eq!(tree.topics(), 2_001);
    assert_eq!(tree.prefix_numbers(&topic).len(), 2_001);
    for len in 0..2_000 {
        tree.set(&topic[..len], 0);
    }
    assert_eq!(tree.prefix_numbers(&topic), [1]);
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn a_million_topics_are_at_most_100_bytes_each() {
    let mut tree = PrefixTree::default();
    let n = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    for i in 0..n {
        tree.set(format!("topic.{:09}", i * 7919 % n).as_bytes(), 1);
    }
    assert_eq!(tree.topics(), n);
    let each = tree.memory() / n;
    assert!(each <= 100, "{each} bytes for each topic");
    for i in 0..n {
        tree.set(format!("topic.{i:09}").as_bytes(), 0);
    }
    tree.check();
    assert!(tree.memory() <= KEPT * 50);
}

/// What cannot happen by chance: the tree alone is right, too.
#[test]
fn two_topics_with_the_same_hash() {
    let mut tree = PrefixTree {
        keys: [1, 0, 0],
        ..PrefixTree::default()
    };
    for i in 0..100_u32 {
        tree.set(format!("topic {i}").as_bytes(), i + 1);
    }
    assert!(tree.blind);
    assert_eq!(tree.prefix_numbers(b"topic 77"), [8, 78]);
    for i in 0..100_u32 {
        tree.set(format!("topic {i}").as_bytes(), 0);
    }
    assert_eq!((tree.topics(), tree.used), (0, 0));
}
