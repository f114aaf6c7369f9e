//! Sends a message to all pipes, or to some of them (PUB, XPUB; XSUB upstream).
//!
//! Invariant: a pipe is `full` only after it has refused, so `writable` comes once it has room. Until
//! then it is not asked again, and what it should have got is counted as lost.
//!
//! A small message that goes to several is encoded once, and each pipe appends the bytes to its
//! output: cloning 72 bytes and encoding them at each pipe costs more than the copy. If more of them
//! follow to the same pipes, they are gathered (`batch.rs`). A large one is shared by all.

use sward_zmtp::{Message, encode};

use super::batch::Batch;
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
    /// If the pattern that has it hands over what is in there.
    batch: Option<Batch>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// In `slots`.
    at: u32,
    full: bool,
}

impl Distributor {
    /// One that gathers: `hand_over` must be called before anything but a send, and when a pipe comes
    /// for what was gathered.
    pub(super) fn gathering() -> Self {
        Self {
            batch: Some(Batch::default()),
            ..Self::default()
        }
    }

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
        have_room(&mut self.places, &mut self.batch, pipes, slots)
    }

    /// Whether all pipes have room; else `writable` will be told.
    pub(super) fn all_have_room(&mut self, pipes: &mut Pipes) -> bool {
        have_room(&mut self.places, &mut self.batch, pipes, &self.slots)
    }

    /// Sends to all.
    #[inline]
    pub(super) fn send_all(&mut self, pipes: &mut Pipes, message: &mut Message) {
        deliver(
            &mut self.places,
            &mut self.encoded,
            &mut self.batch,
            pipes,
            message,
            &self.slots,
        );
    }

    /// Sends to these; who is not attached is passed over.
    #[inline]
    pub(super) fn send(&mut self, pipes: &mut Pipes, message: &mut Message, slots: &[Slot]) {
        deliver(
            &mut self.places,
            &mut self.encoded,
            &mut self.batch,
            pipes,
            message,
            slots,
        );
    }

    /// Gives the pipes what was gathered for them.
    pub(super) fn hand_over(&mut self, pipes: &mut Pipes) {
        close(&self.places, &mut self.batch, pipes);
    }
}

/// Hands over what was gathered, and gathers no more.
#[inline]
fn close(places: &[Option<Place>], batch: &mut Option<Batch>, pipes: &mut Pipes) {
    if let Some(batch) = batch
        && !batch.to().is_empty()
    {
        hand_over(places, batch, pipes);
        batch.renew(0);
    }
}

/// Returns for how many more messages all of the pipes would wait.
fn hand_over(places: &[Option<Place>], batch: &mut Batch, pipes: &mut Pipes) -> usize {
    let Some((bytes, messages)) = batch.take() else {
        return 0;
    };
    let mut room = usize::MAX;
    for &slot in batch.to() {
        match places.get(slot) {
            Some(Some(place)) if place.full => {
                for _ in 0..messages {
                    pipes.effects.lost(Loss::HighWaterMark, Some(slot));
                }
            }
            Some(Some(_)) => {
                room = room.min(pipes[slot].pipe.send_gathered(&bytes, messages));
            }
            _ => {}
        }
    }
    room
}

fn have_room(
    places: &mut [Option<Place>],
    batch: &mut Option<Batch>,
    pipes: &mut Pipes,
    slots: &[Slot],
) -> bool {
    if batch.as_ref().is_some_and(|batch| batch.takes(slots)) {
        return true;
    }
    close(places, batch, pipes);
    slots.iter().all(|&slot| {
        let Some(Some(place)) = places.get_mut(slot) else {
            return true;
        };
        place.full = place.full || !pipes[slot].pipe.has_room();
        !place.full
    })
}

#[inline]
fn deliver(
    places: &mut [Option<Place>],
    encoded: &mut Vec<u8>,
    batch: &mut Option<Batch>,
    pipes: &mut Pipes,
    message: &mut Message,
    slots: &[Slot],
) {
    let small = message.size() + message.len() <= SMALL;
    if let Some(batch) = batch
        && small
        && batch.takes(slots)
    {
        if batch.push(message) {
            let room = hand_over(places, batch, pipes);
            batch.renew(room);
        }
        return;
    }
    close(places, batch, pipes);
    if let &[slot] = slots {
        if let Some(Some(place)) = places.get_mut(slot)
            && (place.full || !pipes.lend(slot, message))
        {
            place.full = true;
            pipes.effects.lost(Loss::HighWaterMark, Some(slot));
        }
        return;
    }
    let form = if small {
        encoded.clear();
        encode(message, encoded);
        Some(&encoded[..])
    } else {
        None
    };
    let mut least = None;
    for &slot in slots {
        let Some(Some(place)) = places.get_mut(slot) else {
            continue;
        };
        let pipe = &mut pipes[slot].pipe;
        let sent = (!place.full).then(|| pipe.try_send_copy(message, form));
        match sent.flatten() {
            Some(room) => least = Some(room.min(least.unwrap_or(usize::MAX))),
            None => {
                place.full = true;
                pipes.effects.lost(Loss::HighWaterMark, Some(slot));
            }
        }
    }
    if let (Some(batch), Some(room), true) = (batch, least, small) {
        batch.open(slots, room);
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

    /// Four pipes that take what was gathered, and one that is full already.
    fn gathering(hwm: usize) -> (Distributor, Pipes, Ends) {
        let (mut distributor, mut pipes) = (Distributor::gathering(), Pipes::default());
        let ends = (0..5).map(|i| {
            let far = Far::new(if i == 4 { 0 } else { hwm });
            far.lock().gathers = true;
            let slot = pipes.insert(Box::new(FakePipe(far.clone())), None);
            distributor.attach(slot);
            (slot, far)
        });
        let ends = ends.collect();
        (distributor, pipes, ends)
    }

    fn come(far: &Arc<ShortLock<Far>>) -> String {
        let messages = far.lock().take();
        messages.iter().map(|m| char::from(m.first()[0])).collect()
    }

    #[test]
    fn what_goes_to_the_same_again_is_gathered() {
        let (mut distributor, mut pipes, ends) = gathering(100);
        let some = [ends[2].0, ends[0].0, ends[4].0];
        for text in ["a", "b", "c"] {
            distributor.send(&mut pipes, &mut text.into(), &some);
        }
        // Only the first has been given to them, and to the others nothing.
        assert_eq!(come(&ends[2].1), "a");
        distributor.hand_over(&mut pipes);
        distributor.hand_over(&mut pipes);
        assert_eq!(come(&ends[2].1), "bc");
        assert_eq!(come(&ends[0].1), "abc");
        assert_eq!(come(&ends[1].1), "");
        assert_eq!(ends[0].1.lock().pieces, 1);
        let lost = (Loss::HighWaterMark, Some(ends[4].0));
        assert_eq!(pipes.effects.losses, [lost; 3]);

        // Others, one, one that is not small: each after what was gathered before.
        let all: Vec<Slot> = ends.iter().map(|(slot, _)| *slot).collect();
        distributor.send_all(&mut pipes, &mut "d".into());
        distributor.send_all(&mut pipes, &mut "e".into());
        distributor.send(&mut pipes, &mut "f".into(), &all[..2]);
        distributor.send(&mut pipes, &mut "g".into(), &all[..2]);
        distributor.send(&mut pipes, &mut "h".into(), &all[..1]);
        distributor.send_all(&mut pipes, &mut "i".into());
        distributor.send_all(&mut pipes, &mut "j".into());
        distributor.send_all(&mut pipes, &mut vec![b'k'; SMALL].into());
        let got: Vec<String> = ends.iter().map(|(_, far)| come(far)).collect();
        assert_eq!(got, ["defghijk", "defgijk", "deijk", "deijk", ""]);
        assert_eq!(ends[0].1.lock().pieces, 4);
    }

    #[test]
    fn no_more_is_gathered_than_all_have_room_for() {
        let (mut distributor, mut pipes, ends) = gathering(5);
        distributor.detach(ends[4].0);
        ends[1].1.lock().come("x");
        distributor.send(&mut pipes, &mut "1".into(), &[ends[1].0, ends[0].0]);
        for text in ["a", "b", "c", "d"] {
            assert!(distributor.all_have_room(&mut pipes));
            distributor.send_all(&mut pipes, &mut text.into());
        }
        // Two of them have room, and two have none.
        assert!(!distributor.all_have_room(&mut pipes));
        assert_eq!(
            [0, 1, 2, 3].map(|i| come(&ends[i].1)),
            ["1abcd", "1abcd", "abcd", "abcd"]
        );
        for (slot, _) in &ends {
            distributor.writable(*slot);
        }
        // A pipe that goes has what was gathered for it.
        for text in ["e", "f", "g"] {
            distributor.send_all(&mut pipes, &mut text.into());
        }
        distributor.hand_over(&mut pipes);
        distributor.detach(ends[0].0);
        assert_eq!([0, 1].map(|i| come(&ends[i].1)), ["efg", "efg"]);
        assert!(pipes.effects.losses.is_empty());
    }

    #[test]
    fn a_large_piece_is_given_at_once() {
        let (mut distributor, mut pipes, ends) = gathering(usize::MAX);
        distributor.detach(ends[4].0);
        for _ in 0..1000 {
            distributor.send_all(&mut pipes, &mut vec![b'a'; 200].into());
        }
        let far = ends[0].1.lock();
        assert!((10..100).contains(&far.pieces), "{}", far.pieces);
        drop(far);
        distributor.hand_over(&mut pipes);
        for (_, far) in &ends[..4] {
            assert_eq!(far.lock().take().len(), 1000);
        }
    }

    #[test]
    fn an_old_piece_is_given_with_one_of_the_next_messages() {
        let (mut distributor, mut pipes, ends) = gathering(100);
        distributor.send_all(&mut pipes, &mut "a".into());
        distributor.send_all(&mut pipes, &mut "b".into());
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        assert_eq!(ends[0].1.lock().pieces, 0);
        for _ in 0..8 {
            distributor.send_all(&mut pipes, &mut "c".into());
        }
        assert_eq!(ends[0].1.lock().pieces, 1);
    }

    #[derive(Debug)]
    struct Sink(Vec<u8>);

    impl Pipe for Sink {
        fn try_send(&mut self, message: &mut Message) -> bool {
            self.0.extend_from_slice(black_box(message).first());
            true
        }
        fn try_send_copy(&mut self, _: &Message, encoded: Option<&[u8]>) -> Option<usize> {
            self.0.clear();
            self.0.extend_from_slice(encoded.unwrap());
            Some(0)
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
