//! Finds nodes of a [`PrefixTree`](super::prefix_tree::PrefixTree) by a hash of 64 bits.
//!
//! A place is free (0), or has an entry: half of the hash, the *tag*, above the number of the node.
//! The other half, *home*, says where the entry stands if the places from there on are free; the
//! table does not keep it, and asks for it when entries move. So a place has 8 bytes, and a search
//! reads no node but those with the right tag. What is taken out leaves no trace: those behind it
//! move up.

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct NodeTable {
    places: Vec<u64>,
    used: usize,
}

impl NodeTable {
    /// Finds a node by the two halves of its hash.
    #[inline]
    pub(super) fn find(&self, home: u32, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = home as usize & mask;
        loop {
            let entry = self.places[at];
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == tag && is_it(entry as u32) {
                return Some(entry as u32);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a node that is not there.
    pub(super) fn insert(&mut self, entry: u64, home: u32, home_of: impl Fn(u64) -> u32) {
        // At most 7 of 8 places are taken.
        self.used += 1;
        if self.used * 8 > self.places.len() * 7 {
            let size = (self.places.len() * 2).max(16);
            let old = std::mem::replace(&mut self.places, vec![0; size]);
            for entry in old.into_iter().filter(|entry| *entry != 0) {
                self.place(entry, home_of(entry));
            }
        }
        self.place(entry, home);
    }

    fn place(&mut self, entry: u64, home: u32) {
        let mask = self.places.len() - 1;
        let mut at = home as usize & mask;
        while self.places[at] != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = entry;
    }

    /// Takes out a node, which must be there.
    pub(super) fn remove(&mut self, node: u32, home: u32, home_of: impl Fn(u64) -> u32) {
        self.used -= 1;
        let mask = self.places.len() - 1;
        let mut hole = home as usize & mask;
        while self.places[hole] as u32 != node {
            hole = (hole + 1) & mask;
        }
        // What stands behind moves up, if the hole lies between its home and its place.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.places[at];
            if entry == 0 {
                break;
            }
            let home = home_of(entry) as usize;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.places[hole] = entry;
                hole = at;
            }
        }
        self.places[hole] = 0;
    }

    /// All nodes.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> {
        let entries = self.places.iter().filter(|entry| **entry != 0);
        assert_eq!(entries.clone().count(), self.used);
        entries.map(|entry| *entry as u32)
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }
}
