//! The slots whose turn comes, in a ring: who was served goes to the end.
//!
//! Each slot is in one of three states, moved by the strategy that owns the ring:
//! ```text
//! unknown --attach--> in <--insert/remove--> out        any --detach--> unknown
//! ```
//! What does not fit the state is ignored, so that edges may be told late or twice.
//!
//! The ring is linked through one vector by slot: 8 bytes for each, everything O(1) without a hash,
//! and the order of turns survives that slots come and go. Rejected: an array whose active part is
//! kept together by swapping (libzmq), which changes the order of turns when one is taken out, so
//! that some are served twice as often as others while peers come and go.

use crate::pipe::Slot;

/// Next of a slot that is not attached.
const UNKNOWN: u32 = u32::MAX;
/// Next of a slot that is attached, and has no turn.
const OUT: u32 = u32::MAX - 1;

/// See the file head.
#[derive(Debug)]
pub(super) struct Ring {
    links: Vec<Link>,
    /// Whose turn it is; `UNKNOWN` if nobody is in.
    turn: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            turn: UNKNOWN,
        }
    }
}

impl Ring {
    /// Takes in a slot, whose turn is last.
    pub(super) fn attach(&mut self, slot: Slot) {
        if self.links.len() <= slot {
            let unknown = Link {
                next: UNKNOWN,
                previous: UNKNOWN,
            };
            self.links.resize(slot + 1, unknown);
        }
        if self.links[slot].next == UNKNOWN {
            self.links[slot].next = OUT;
            self.insert(slot);
        }
    }

    /// Forgets a slot.
    pub(super) fn detach(&mut self, slot: Slot) {
        self.remove(slot);
        if let Some(link) = self.links.get_mut(slot) {
            link.next = UNKNOWN;
        }
    }

    /// Gives a slot that is out the last turn.
    pub(super) fn insert(&mut self, slot: Slot) {
        if self.links.get(slot).is_none_or(|link| link.next != OUT) {
            return;
        }
        let at = slot as u32;
        let (next, previous) = if self.turn == UNKNOWN {
            self.turn = at;
            (at, at)
        } else {
            (self.turn, self.links[self.turn as usize].previous)
        };
        self.links[slot] = Link { next, previous };
        self.links[previous as usize].next = at;
        self.links[next as usize].previous = at;
    }

    /// Takes a slot out; the next one has its turn.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(&Link { next, previous }) = self.links.get(slot) else {
            return;
        };
        if next >= OUT {
            return;
        }
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.links[slot].next = OUT;
        if next as usize == slot {
            self.turn = UNKNOWN;
        } else if self.turn as usize == slot {
            self.turn = next;
        }
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn turn(&self) -> Option<Slot> {
        (self.turn != UNKNOWN).then_some(self.turn as usize)
    }

    /// Passes the turn on.
    #[inline]
    pub(super) fn advance(&mut self) {
        if let Some(link) = self.links.get(self.turn as usize) {
            self.turn = link.next;
        }
    }

    /// Whether the slot is attached.
    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.links
            .get(slot)
            .is_some_and(|link| link.next != UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots in the order of their turns, with a check of the links.
    fn turns(ring: &Ring) -> Vec<Slot> {
        let Some(first) = ring.turn() else {
            return Vec::new();
        };
        let mut all = vec![first];
        let mut at = first;
        loop {
            let next = ring.links[at].next as usize;
            assert_eq!(ring.links[next].previous as usize, at);
            if next == first {
                return all;
            }
            all.push(next);
            at = next;
        }
    }

    #[test]
    fn turns_are_in_the_order_of_arrival() {
        let mut ring = Ring::default();
        for slot in [3, 0, 7] {
            ring.attach(slot);
        }
        assert_eq!(turns(&ring), [3, 0, 7]);
        ring.advance();
        assert_eq!(turns(&ring), [0, 7, 3]);
        ring.attach(1); // the last of this round
        assert_eq!(turns(&ring), [0, 7, 3, 1]);
        ring.remove(0);
        assert_eq!(turns(&ring), [7, 3, 1]);
        ring.insert(0);
        ring.insert(0);
        assert_eq!(turns(&ring), [7, 3, 1, 0]);
    }

    #[test]
    fn what_does_not_fit_is_ignored() {
        let mut ring = Ring::default();
        ring.insert(4);
        ring.remove(4);
        ring.detach(4);
        ring.advance();
        assert_eq!(ring.turn(), None);
        ring.attach(1);
        ring.attach(1);
        ring.remove(1);
        ring.remove(1);
        assert_eq!((ring.turn(), ring.knows(1)), (None, true));
        ring.detach(1);
        ring.insert(1);
        assert_eq!((ring.turn(), ring.knows(1)), (None, false));
        ring.attach(1);
        ring.advance();
        assert_eq!(turns(&ring), [1]);
    }
}
