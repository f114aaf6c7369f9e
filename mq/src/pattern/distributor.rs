//! Sends a message to all pipes, or to some of them (PUB, XPUB; XSUB upstream).
//!
//! Invariant: a pipe is `full` only after it has refused, so `writable` comes once it has room. Until
//! then it is not asked again, and what it should have got is counted as lost.
//!
//! A small message that goes to several is encoded once, and each pipe appends the bytes to its
//! output: cloning 72 bytes and encoding them at each pipe costs more than the copy. A large one is
//! shared by all.

use sward_zmtp::{Message, encode};

use crate::loss::Loss;
use crate::pipe::{Pipes, Slot};

/// A message of up to so many bytes is encoded once for all; longer ones are sent from where they
/// are.
const SMALL: usize = 4096;

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct Distributor {
    /// All pipes, in no order.
    slots: Vec<Slot>,
    /// By slot.
    places: Vec<Option<Place>>,
    encoded: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// In `slots`.
    at: u32,
    full: bool,
}

impl Distributor {
    /// A new pipe, which may have room.
    pub(super) fn attach(&mut self, slot: Slot) {
        if self.places.len() <= slot {
            self.places.resize(slot + 1, None);
        }
        if self.places[slot].is_none() {
            self.places[slot] = Some(Place {
                at: self.slots.len() as u32,
                full: false,
            });
            self.slots.push(slot);
        }
    }

    /// Nothing more can be sent there.
    pub(super) fn detach(&mut self, slot: Slot) {
        let Some(place) = self.places.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let at = place.at as usize;
        self.slots.swap_remove(at);
        if let Some(&moved) = self.slots.get(at)
            && let Some(Some(other)) = self.places.get_mut(moved)
        {
            other.at = place.at;
        }
    }

    /// A pipe that was full has room.
    pub(super) fn writable(&mut self, slot: Slot) {
        if let Some(Some(place)) = self.places.get_mut(slot) {
            place.full = false;
        }
    }

    /// All pipes.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether all of these have room; else `writable` will be told.
    pub(super) fn have_room(&mut self, pipes: &mut Pipes, slots: &[Slot]) -> bool {
        slots
            .iter()
            .all(|&slot| room(&mut self.places, pipes, slot))
    }

    /// Whether all pipes have room; else `writable` will be told.
    pub(super) fn all_have_room(&mut self, pipes: &mut Pipes) -> bool {
        let places = &mut self.places;
        self.slots.iter().all(|&slot| room(places, pipes, slot))
    }

    /// Sends to all.
    #[inline]
    pub(super) fn send_all(&mut self, pipes: &mut Pipes, message: &mut Message) {
        deliver(
            &mut self.places,
            &mut self.encoded,
            pipes,
            message,
            &self.slots,
        );
    }

    /// Sends to these; who is not attached is passed over.
    #[inline]
    pub(super) fn send(&mut self, pipes: &mut Pipes, message: &mut Message, slots: &[Slot]) {
        deliver(&mut self.places, &mut self.encoded, pipes, message, slots);
    }
}

fn room(places: &mut [Option<Place>], pipes: &mut Pipes, slot: Slot) -> bool {
    let Some(Some(place)) = places.get_mut(slot) else {
        return true;
    };
    place.full = place.full || !pipes[slot].pipe.has_room();
    !place.full
}

fn deliver(
    places: &mut [Option<Place>],
    encoded: &mut Vec<u8>,
    pipes: &mut Pipes,
    message: &mut Message,
    slots: &[Slot],
) {
    if let &[slot] = slots {
        if let Some(Some(place)) = places.get_mut(slot)
            && (place.full || !pipes.lend(slot, message))
        {
            place.full = true;
            pipes.effects.lost(Loss::HighWaterMark, Some(slot));
        }
        return;
    }
    let small = message.size() + message.len() <= SMALL;
    let form = if small {
        encoded.clear();
        encode(message, encoded);
        Some(&encoded[..])
    } else {
        None
    };
    for &slot in slots {
        let Some(Some(place)) = places.get_mut(slot) else {
            continue;
        };
        if place.full || !pipes[slot].pipe.try_send_copy(message, form) {
            place.full = true;
            pipes.effects.lost(Loss::HighWaterMark, Some(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;

    use sward_runtime::sync::ShortLock;

    use super::super::testing::{FakePipe, Far, measure};
    use super::*;
    use crate::pipe::Pipe;

    type Ends = Vec<(Slot, Arc<ShortLock<Far>>)>;

    fn three(hwm: usize) -> (Distributor, Pipes, Ends) {
        let (mut distributor, mut pipes) = (Distributor::default(), Pipes::default());
        let ends = (0..3).map(|_| {
            let far = Far::new(hwm);
            let slot = pipes.insert(Box::new(FakePipe(far.clone())), None);
            distributor.attach(slot);
            (slot, far)
        });
        let ends = ends.collect();
        (distributor, pipes, ends)
    }

    #[test]
    fn a_small_message_is_encoded_once() {
        let (mut distributor, mut pipes, ends) = three(10);
        let all: Vec<Slot> = ends.iter().map(|(slot, _)| *slot).collect();
        distributor.send_all(&mut pipes, &mut ["a", "b"].into());
        distributor.send(&mut pipes, &mut "c".into(), &all[..2]);
        distributor.send(&mut pipes, &mut "d".into(), &all[2..]);
        distributor.send(&mut pipes, &mut vec![0; SMALL].into(), &all);
        distributor.send(&mut pipes, &mut "e".into(), &[]);
        distributor.send(&mut pipes, &mut "f".into(), &[77]);
        let encoded: Vec<_> = ends.iter().map(|(_, far)| far.lock().encoded).collect();
        assert_eq!(encoded, [2, 2, 1]);
        let sizes: Vec<Vec<_>> = ends
            .iter()
            .map(|(_, far)| far.lock().take().iter().map(Message::size).collect())
            .collect();
        assert_eq!(sizes, [[2, 1, SMALL]; 3]);
    }

    #[test]
    fn who_is_full_is_left_alone_until_there_is_room() {
        let (mut distributor, mut pipes, ends) = three(1);
        let (slow, far) = &ends[1];
        for _ in 0..3 {
            distributor.send_all(&mut pipes, &mut "a".into());
            for (slot, far) in [&ends[0], &ends[2]] {
                far.lock().take();
                distributor.writable(*slot);
            }
        }
        assert_eq!(
            pipes.effects.losses,
            [(Loss::HighWaterMark, Some(*slow)); 2]
        );
        assert!(!distributor.all_have_room(&mut pipes));
        assert!(distributor.have_room(&mut pipes, &[ends[0].0, ends[2].0, 99]));
        assert_eq!(far.lock().take().len(), 1);
        distributor.writable(*slow);
        assert!(distributor.all_have_room(&mut pipes));
    }

    #[test]
    fn slots_come_and_go_in_any_order() {
        let (mut distributor, mut pipes, ends) = three(10);
        distributor.detach(ends[0].0);
        distributor.detach(ends[0].0);
        distributor.detach(55);
        distributor.writable(55);
        distributor.attach(ends[1].0);
        distributor.send_all(&mut pipes, &mut "a".into());
        distributor.detach(ends[2].0);
        distributor.attach(ends[0].0);
        distributor.send_all(&mut pipes, &mut "b".into());
        let got: Vec<_> = ends.iter().map(|(_, far)| far.lock().take()).collect();
        let [a, b] = ["a", "b"].map(Message::from);
        assert_eq!(got, [vec![b.clone()], vec![a.clone(), b], vec![a]]);
    }

    #[derive(Debug)]
    struct Sink(Vec<u8>);

    impl Pipe for Sink {
        fn try_send(&mut self, message: &mut Message) -> bool {
            self.0.extend_from_slice(black_box(message).first());
            true
        }
        fn try_send_copy(&mut self, _: &Message, encoded: Option<&[u8]>) -> bool {
            self.0.clear();
            self.0.extend_from_slice(encoded.unwrap());
            true
        }
        fn send_subscription(&mut self, _: Message) {}
        fn has_room(&mut self) -> bool {
            true
        }
        fn try_recv(&mut self, _: &mut Message) -> bool {
            false
        }
        fn again(&mut self) {}
        fn close(&mut self, _: bool) {}
        fn depths(&self) -> (usize, usize) {
            (0, 0)
        }
    }

    /// `cargo test --release -- --ignored --nocapture costs`: for each pipe, with a copy of 18 bytes.
    #[test]
    #[ignore = "it measures"]
    fn costs() {
        for peers in [10, 100, 1_000] {
            let (mut distributor, mut pipes) = (Distributor::default(), Pipes::default());
            for _ in 0..peers {
                distributor.attach(pipes.insert(Box::new(Sink(Vec::new())), None));
            }
            let rounds = 1_000_000 / peers;
            measure(&format!("{peers} pipes, each"), rounds * peers, || {
                for _ in 0..rounds {
                    distributor.send_all(&mut pipes, &mut Message::from(&black_box([0; 16])));
                }
            });
        }
    }
}
