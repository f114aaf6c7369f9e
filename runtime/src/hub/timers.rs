//! The timers of one worker: a hierarchical wheel whose every step costs O(1).
//!
//! Nouns: a *tick* is 2^16 ns; a deadline is rounded up to one, so nothing fires early, and
//! at most a tick late. (For a virtual clock it is 1 ns, so that all is exact; the spans below are
//! then shorter, and time ends after 2^62 ns.) A *list* holds entries in order of insertion; it belongs to a slot of a
//! level, or to an *epoch* (2^30 ticks) beyond the wheel. The *cursor* is the tick that the wheel
//! has come to, the *horizon* the latest that `expire` was asked for. To *cascade* is to move the
//! entries of one list, the *source*, down to the levels below.
//!
//! ```text
//! tick = epoch | d4 | d3 | d2 | d1 | d0       digits of 6 bits
//! far      map: epoch -> list                 19.5 h each, to the end of time
//! level 4  [ 64 slots of 2^24 ticks ]         18.3 min
//! level 3  [ 64 slots of 2^18 ticks ]         17.2 s
//! level 2  [ 64 slots of 2^12 ticks ]         268 ms
//! level 1  [ 64 slots of 64 ticks   ]         4.2 ms
//! level 0  [ 64 slots of one tick   ]         65.5 us
//! ```
//! An entry lies at the level of the highest digit in which its tick differs from the cursor, in
//! the slot that this digit names. So the first set bit of the lowest level in use names the next
//! list, and time without timers is crossed in one step.
//!
//! Invariants, between calls:
//! - cursor <= horizon <= tick of every entry inserted from now on: what is past when it comes
//!   queues behind all that is due, and so cannot starve it;
//! - cursor <= tick of every entry; entries fire in order of (tick, insertion);
//! - bit s of `occupied[l]` is set exactly when the list of slot s at level l is not empty;
//! - the list of the cursor's own slot at levels >= 1, or of its epoch, is empty unless it is the
//!   source that a limited `expire` left; what is inserted into the span of a source joins its
//!   tail, so that it cannot overtake equal deadlines that have not come down yet;
//! - in a wheel list head.tick <= tick of each entry <= head.generation.
//!
//! Memory: `entries[..HEADS]` are the heads of the wheel's lists, which are circular, so that link
//! and unlink know no special cases; the head of a far list is an entry like any other. An entry
//! with a word-sized value takes 24 bytes: it stores 32 bits of its tick, the list tells the rest.
//!
//! Rejected: a heap (O(log n)); a wheel without cascades (Linux: late by an eighth of the delay);
//! cascading a list at once (a million entries hold back I/O for 10 ms); storing whole ticks beside
//! 16-bit generations (keys repeat soon). This file reads no clock: it takes `now`.

use std::collections::BTreeMap;
use std::mem;
use std::num::NonZeroU32;

use crate::clock;

/// A tick of real time is 2^16 ns: finer than the kernel's own slack (50 us) is no use.
const TICK_BITS: u32 = 16;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 5;
/// What lies in another epoch than the cursor lies beyond the wheel.
const EPOCH_BITS: u32 = DIGIT_BITS * LEVELS as u32;
/// The entries below this index are heads of the wheel's lists: level * SLOTS + slot.
const HEADS: u32 = (LEVELS * SLOTS) as u32;
/// For a virtual clock never is the first tick of an epoch, as it is for a real one: so what lies
/// there alone is no deadline. And it is the last epoch that can be told.
const _: () = assert!(clock::END == (u32::MAX as u64) << EPOCH_BITS);
/// No entry. As `prev` it marks a free entry.
const NONE: u32 = u32::MAX;

/// Names a timer of one [`Timers`]; stale once it has fired or was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey {
    index: u32,
    generation: NonZeroU32,
}

/// An entry of a list, or a list's head.
#[derive(Clone, Copy)]
struct Entry<T> {
    /// In a head: any value; it is never read.
    value: T,
    prev: u32,
    /// In a free entry: the next free one.
    next: u32,
    /// The low bits of the tick. In a wheel head: the earliest since the list was last empty. In a
    /// far head: the epoch.
    tick: u32,
    /// Odd while live, even in a free entry and a far head. In a wheel head: the latest tick.
    generation: u32,
}

/// Timers on a wheel; deadlines are nanoseconds since the hub's epoch.
pub(crate) struct Timers<T: Copy> {
    /// A tick is 2 to that power of nanoseconds.
    tick_bits: u32,
    /// The tick that never comes.
    never: u64,
    entries: Vec<Entry<T>>,
    free: u32,
    live: usize,
    cursor: u64,
    horizon: u64,
    /// The list that is being cascaded and its level (`LEVELS`: a far one), else `NONE` and 0.
    source: u32,
    source_level: usize,
    occupied: [u64; LEVELS],
    far: BTreeMap<u32, u32>,
    /// Where entries start; not below that of any entry that [`Timers::shrink`] dropped.
    first_generation: u32,
    /// Lists entered, entries moved and entries fired so far.
    #[cfg(test)]
    work: std::cell::Cell<usize>,
}

impl<T: Copy> Timers<T> {
    /// Returns an empty wheel; it allocates at the first insert (7.5 KiB for word-sized values).
    pub(crate) fn new() -> Self {
        Self {
            tick_bits: TICK_BITS,
            never: 1 << (u64::BITS - TICK_BITS),
            entries: Vec::new(),
            free: NONE,
            live: 0,
            cursor: 0,
            horizon: 0,
            source: NONE,
            source_level: 0,
            occupied: [0; LEVELS],
            far: BTreeMap::new(),
            first_generation: 0,
            #[cfg(test)]
            work: std::cell::Cell::new(0),
        }
    }

    /// Returns an empty wheel whose ticks are nanoseconds, for a virtual clock.
    pub(crate) fn exact() -> Self {
        Self {
            tick_bits: 0,
            never: clock::END,
            ..Self::new()
        }
    }

    /// Adds a timer that [`expire`](Self::expire) fires once `deadline` is reached; a deadline
    /// that is past fires at the next call. One in the last tick of time never does.
    ///
    /// # Panics
    /// Past 2^32 - 2 entries (96 GiB of them).
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> TimerKey {
        let tick = deadline >> self.tick_bits;
        let rounded = tick + u64::from(deadline > tick << self.tick_bits);
        let tick = rounded.min(self.never).max(self.horizon);
        let index = self.allocate(value);
        let level = level_of(self.cursor ^ tick).max(self.source_level);
        let list = if level < LEVELS {
            self.wheel_list(level, tick)
        } else {
            self.far_list((tick >> EPOCH_BITS) as u32, value)
        };
        let entry = &mut self.entries[index as usize];
        entry.tick = tick as u32;
        entry.generation |= 1;
        let generation = NonZeroU32::MIN | entry.generation;
        self.append(list, index, index, tick as u32);
        self.live += 1;
        TimerKey { index, generation }
    }

    /// Removes a timer at once; `false` where it has fired or was cancelled before.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> bool {
        let entry = self.entries.get(key.index as usize);
        let pending = entry.is_some_and(|entry| entry.generation == key.generation.get());
        if pending {
            self.remove(key.index);
        }
        pending
    }

    /// Fires what is due at `now`, in order of tick and within it of insertion; returns how many.
    ///
    /// Each entry fired and each moved down a level counts towards `limit`: whether a call left
    /// work for the next, only [`has_due`](Self::has_due) tells. A timer is gone before `fire` sees
    /// its value. A `now` earlier than one before counts as that one.
    pub(crate) fn expire(&mut self, now: u64, limit: usize, mut fire: impl FnMut(T)) -> usize {
        self.horizon = self.horizon.max(now >> self.tick_bits);
        let mut budget = limit;
        let mut fired = 0;
        while budget > 0 {
            if self.source != NONE {
                budget -= self.cascade(budget);
                continue;
            }
            let next = self.first_list().filter(|next| next.2 <= self.horizon);
            let Some((level, list, start)) = next else {
                self.cursor = self.horizon;
                break;
            };
            self.count_work();
            self.cursor = start;
            if level > 0 {
                (self.source, self.source_level) = (list, level);
                continue;
            }
            let mut index = self.entries[list as usize].next;
            while budget > 0 && index != list {
                let Entry { value, next, .. } = self.entries[index as usize];
                self.remove(index);
                self.count_work();
                budget -= 1;
                fired += 1;
                fire(value);
                index = next;
            }
        }
        fired
    }

    /// Returns until when to sleep, never later than when the next timer fires; `None` where none
    /// ever will. It may be earlier, at most once per level, if the timer that it was meant for is
    /// cancelled or lies beyond the wheel; `expire` then moves entries down.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let tick = self.next_tick().filter(|&tick| tick < self.never)?;
        Some(tick << self.tick_bits)
    }

    /// Returns whether work is left for any next `expire`: by a limit, or inserted as past since.
    pub(crate) fn has_due(&self) -> bool {
        self.next_tick().is_some_and(|tick| tick <= self.horizon)
    }

    /// Returns how many timers are pending.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Gives memory behind the last pending timer back if most is unused; sorts the free list, so
    /// that new timers gather at the front. O(entries allocated): for a quiet moment.
    pub(crate) fn shrink(&mut self) {
        if self.entries.len() < 1024.max(4 * self.live) {
            return;
        }
        let last = self.entries.iter().rposition(|entry| entry.prev != NONE);
        let keep = last.map_or(0, |last| last + 1);
        for entry in self.entries.drain(keep..) {
            self.first_generation = self.first_generation.max(entry.generation);
        }
        self.entries.shrink_to_fit();
        self.free = NONE;
        for index in (HEADS..keep as u32).rev() {
            let entry = &mut self.entries[index as usize];
            if entry.prev == NONE {
                entry.next = mem::replace(&mut self.free, index);
            }
        }
    }

    /// Shows the value of every pending timer, in no particular order.
    #[cfg(test)]
    pub(crate) fn for_each(&self, mut f: impl FnMut(T)) {
        let entries = self.entries.iter().skip(HEADS as usize);
        let live = entries.filter(|entry| entry.generation % 2 == 1);
        live.for_each(|entry| f(entry.value));
    }

    /// Returns a tick before which nothing is due.
    fn next_tick(&self) -> Option<u64> {
        if self.source != NONE {
            return Some(self.cursor);
        }
        let (level, list, start) = self.first_list()?;
        let earliest = self.whole(self.entries[list as usize].tick);
        Some(if level < LEVELS { earliest } else { start })
    }

    /// Returns level, head and first tick of the list that comes next after the cursor.
    fn first_list(&self) -> Option<(usize, u32, u64)> {
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let slot = occupied.trailing_zeros();
                let low = DIGIT_BITS * level as u32;
                let start = ((self.cursor >> low) & !(SLOTS as u64 - 1) | u64::from(slot)) << low;
                return Some((level, (level * SLOTS) as u32 + slot, start));
            }
        }
        let (&epoch, &list) = self.far.first_key_value()?;
        Some((LEVELS, list, u64::from(epoch) << EPOCH_BITS))
    }

    /// Returns the tick at or after the cursor that has these low bits; right for every entry of
    /// the cursor's epoch.
    fn whole(&self, low: u32) -> u64 {
        self.cursor + u64::from(low.wrapping_sub(self.cursor as u32))
    }

    /// Returns the head of a wheel list that is about to be appended to.
    fn wheel_list(&mut self, level: usize, tick: u64) -> u32 {
        let slot = (tick >> (DIGIT_BITS * level as u32)) as usize % SLOTS;
        self.occupied[level] |= 1 << slot;
        (level * SLOTS + slot) as u32
    }

    /// Returns the head of a far list that is about to be appended to.
    #[cold]
    fn far_list(&mut self, epoch: u32, filler: T) -> u32 {
        if let Some(&list) = self.far.get(&epoch) {
            return list;
        }
        let list = self.allocate(filler);
        let head = &mut self.entries[list as usize];
        (head.prev, head.next, head.tick) = (list, list, epoch);
        self.far.insert(epoch, list);
        list
    }

    /// Moves at most `limit` entries of the source down, or all at once if they have one tick;
    /// returns how many steps it took.
    fn cascade(&mut self, limit: usize) -> usize {
        let source = self.source;
        let head = self.entries[source as usize];
        let uniform = source < HEADS && head.tick == head.generation;
        let mut first = head.next;
        let mut steps = 0;
        while steps < limit && first != source {
            let tick = self.entries[first as usize].tick;
            let last = if uniform { head.prev } else { first };
            let rest = self.entries[last as usize].next;
            let whole = self.whole(tick);
            let list = self.wheel_list(level_of(self.cursor ^ whole), whole);
            self.append(list, first, last, tick);
            first = rest;
            steps += 1;
            self.count_work();
        }
        self.entries[source as usize].next = first;
        self.entries[first as usize].prev = source;
        if first == source {
            self.emptied(source);
        }
        steps
    }

    /// Links a chain of entries that are due at `tick` to the end of a list.
    fn append(&mut self, list: u32, first: u32, last: u32, tick: u32) {
        let head = &mut self.entries[list as usize];
        let tail = mem::replace(&mut head.prev, last);
        if list < HEADS {
            // The low bits compare like the ticks: a slot's span is a part of one epoch.
            if tail == list || tick < head.tick {
                head.tick = tick;
            }
            if tail == list || tick > head.generation {
                head.generation = tick;
            }
        }
        self.entries[tail as usize].next = first;
        self.entries[first as usize].prev = tail;
        self.entries[last as usize].next = list;
    }

    /// Unlinks and frees a live entry.
    fn remove(&mut self, index: u32) {
        let Entry { prev, next, .. } = self.entries[index as usize];
        self.entries[prev as usize].next = next;
        self.entries[next as usize].prev = prev;
        if prev == next {
            self.emptied(prev);
        }
        self.release(index);
        self.live -= 1;
    }

    /// Settles the books of a list that has lost its last entry.
    fn emptied(&mut self, list: u32) {
        if list == self.source {
            (self.source, self.source_level) = (NONE, 0);
        }
        if list < HEADS {
            self.occupied[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
        } else {
            self.far.remove(&self.entries[list as usize].tick);
            self.release(list);
        }
    }

    fn allocate(&mut self, value: T) -> u32 {
        let Some(entry) = self.entries.get_mut(self.free as usize) else {
            return self.grow(value);
        };
        entry.value = value;
        mem::replace(&mut self.free, entry.next)
    }

    /// Adds an entry, after the heads if it is the first.
    #[inline(never)]
    fn grow(&mut self, value: T) -> u32 {
        let blank = |at| Entry {
            value,
            prev: at,
            next: at,
            tick: 0,
            generation: self.first_generation,
        };
        if self.entries.is_empty() {
            self.entries.extend((0..HEADS).map(blank));
        }
        let index = self.entries.len();
        assert!(index < NONE as usize, "more than 2^32 - 2 timers");
        self.entries.push(blank(index as u32));
        index as u32
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1) & !1;
        entry.prev = NONE;
        entry.next = mem::replace(&mut self.free, index);
    }

    fn count_work(&self) {
        #[cfg(test)]
        self.work.set(self.work.get() + 1);
    }
}

/// Returns the level of the highest digit that is not 0; `LEVELS` or more: beyond the wheel.
fn level_of(difference: u64) -> usize {
    ((difference | 1).ilog2() / DIGIT_BITS) as usize
}

#[cfg(test)]
mod tests;
