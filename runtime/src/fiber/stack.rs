//! Stack memory: mappings of many stacks each, and the pool from which a worker takes them.
//!
//! Nouns: a *slot* is the place of one stack; a *slab* is one mapping of up to 1,024 slots of the
//! same [`StackSpec`]; a *class* is what a pool has of one spec; a [`StackPool`] belongs to one
//! worker.
//!
//! ```text
//! slab: | slot 0 | slot 1 | ...                 slot: low = guard_low
//!                                                 | guard | usable, grows down <-- | top
//! MAP_NORESERVE, no huge pages                            ^ bottom        4 KiB: the one page
//!                                                                         a small task touches
//! stride = guard + usable, rounded up to an odd number of pages: 256 KiB -> 260 KiB
//! ```
//! What a slot is worth, and who moves it (always the owner of the pool):
//! ```text
//! fresh --take, guard installed--> live --give_back--> warm --trim--> idle --take--> live
//!                                    \--dropped: leaked             \--trim--> slab unmapped
//! ```
//! - *live*: a bit in its slab; the owner of the [`StackSlot`] has it, for ever if it forgets it.
//!   *lent* besides: what runs on it is no task.
//! - *warm*: in the class's queue, last in first out; its pages are there.
//! - *idle*: a bit in its slab; guard in place. *dirty* besides: trim has not dropped its pages yet.
//!
//! Invariants: each slot below `touched` of a slab is exactly one of live, warm, idle; a slab is
//! unmapped only if all of those are idle; a live slot holds one credit of the [`Budget`], others
//! none; `open` of a class lists exactly its slabs that have idle or fresh slots.
//!
//! Measured on 6.18, 100 K and 1 M slots: page tables take 521 B per touched slot at the stride of
//! 260 KiB and 649 B at 324 KiB (256 KiB usable and the guard besides), of 4,743 B that a sleeping
//! task may take in all. Hence the default *reserves* 256 KiB: 192 usable (196 with the odd
//! page) and 64 of guard. `StackSpec::size` is always what may be used. A guard costs 0.7 us and
//! 32 ns per page when it is installed, the first touch of the page 1.4 us. Tops whose distance is
//! a multiple of 64 KiB collide in the second-level cache: hence the odd page, and the colours for
//! the first level.
//!
//! Rejected: guards installed for a whole slab at once (no cheaper, and a program with ten tasks
//! would pay for 1,024); `MAP_STACK | MAP_GROWSDOWN` (moves the guard with the stack).

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::memory::{GRAIN, discard, guard_is_vma, install_guard, map, residency, unmap};

/// Default of what a task may use of its stack; with [`DEFAULT_GUARD`] it reserves 256 KiB.
pub(crate) const DEFAULT_STACK: usize = 192 * 1024;
pub(crate) const DEFAULT_GUARD: usize = 64 * 1024;
pub(crate) const MIN_STACK: usize = 16 * 1024;
pub(crate) const MIN_GUARD: usize = 16 * 1024;
pub(crate) const MAX_STACK: usize = 1 << 30;
pub(crate) const MAX_GUARD: usize = 1 << 30;

const SLAB_BYTES: usize = 512 << 20;
const SLAB_SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;
/// Credits fetched at once; less when there are few.
const CHUNK: usize = 64;
const COLOURS: u32 = 16;
/// A free stack keeps what lies above this many bytes below its top.
const KEEP: usize = if GRAIN > 16 * 1024 { GRAIN } else { 16 * 1024 };
/// Every so many stacks given back, one is looked at for deep use; the interval doubles while
/// the uses are shallow, since a look costs 1.3 us.
const CHECK_EVERY: u32 = 32;
const CHECK_SELDOM: u32 = 1024;
/// How long one call of `trim` takes, give or take a slab.
const TRIM_TIME: Duration = Duration::from_millis(1);

/// Size of a task's stack and of the guard below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StackSpec {
    size: u32,
    guard: u32,
}

impl StackSpec {
    /// `size` bytes that the task may use, `guard` bytes below that fault; both are rounded up
    /// to pages. `size + guard` of address space (and up to a page more) are reserved.
    pub(crate) fn new(size: usize, guard: usize) -> io::Result<Self> {
        let fit = |what: &str, n: usize, min: usize, max: usize| {
            if (min..=max).contains(&n) {
                // At most 1 GiB, which is a multiple of every page size.
                return Ok(n.next_multiple_of(GRAIN) as u32);
            }
            let text = format!(
                "{what} of {n} bytes was asked for; {min} to {max} are possible \
                 (Builder::{what}_size or Runtime::builder().{what}_size)"
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        };
        let size = fit("stack", size, MIN_STACK, MAX_STACK)?;
        Ok(Self {
            size,
            guard: fit("guard", guard, MIN_GUARD, MAX_GUARD)?,
        })
    }

    /// Returns how many bytes the task may use.
    pub(crate) fn size(self) -> usize {
        self.size as usize
    }

    pub(crate) fn guard(self) -> usize {
        self.guard as usize
    }

    /// Returns the address space of one slot: an odd number of pages.
    pub(crate) fn stride(self) -> usize {
        (self.size() + self.guard()) | GRAIN
    }
}

/// One stack: usable from `bottom` up to `top`, guard from `guard_low` up to `bottom`. Whoever
/// has it owns that memory. Dropping it leaks the stack: that is how a leaked task keeps its own.
#[derive(Debug)]
pub(crate) struct StackSlot {
    top: usize,
    spec: StackSpec,
    key: u32,
}

impl StackSlot {
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// Returns how many times 64 bytes below its top the stack should begin, so that the tops of
    /// many stacks do not share the same few cache sets.
    pub(crate) fn colour(&self) -> usize {
        colour(self.key)
    }

    pub(crate) fn bottom(&self) -> usize {
        self.guard_low() + self.spec.guard()
    }

    pub(crate) fn guard_low(&self) -> usize {
        self.top - self.spec.stride()
    }

    /// Returns where a fault means that the stack has overflowed.
    pub(crate) fn guard(&self) -> Range<usize> {
        self.guard_low()..self.bottom()
    }

    pub(crate) fn spec(&self) -> StackSpec {
        self.spec
    }
}

fn colour(key: u32) -> usize {
    (key % COLOURS) as usize
}

/// Slab number and index in it, in one word.
fn split(key: u32) -> (usize, usize) {
    ((key >> SLOT_BITS) as usize, key as usize % SLAB_SLOTS)
}

/// A set of slots of one slab.
#[derive(Clone, Copy, Debug, Default)]
struct Bits([u64; SLAB_SLOTS / 64]);

impl Bits {
    #[inline]
    fn set(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    #[inline]
    fn clear(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }

    fn has(&self, i: usize) -> bool {
        self.0[i / 64] & (1 << (i % 64)) != 0
    }

    fn first(&self) -> Option<usize> {
        let word = self.0.iter().position(|&word| word != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

#[derive(Debug)]
struct Slab {
    /// 0: unmapped, the number is free.
    base: usize,
    spec: StackSpec,
    class: usize,
    slots: usize,
    /// Slots below this have been used and have their guard.
    touched: usize,
    /// Is in the `open` list of its class.
    open: bool,
    live: Bits,
    /// Live ones that are not a task's.
    lent: Bits,
    idle: Bits,
    /// Idle ones whose pages may be there.
    dirty: Bits,
}

impl Slab {
    fn top(&self, i: usize) -> usize {
        self.base + (i + 1) * self.spec.stride()
    }

    fn bottom(&self, i: usize) -> usize {
        self.base + i * self.spec.stride() + self.spec.guard()
    }

    fn len(&self) -> usize {
        self.slots * self.spec.stride()
    }
}

#[derive(Debug)]
struct Class {
    spec: StackSpec,
    warm: VecDeque<u32>,
    open: Vec<u32>,
    /// How far `trim` has gone through `warm` in search of deep use.
    swept: usize,
}

/// No credit or no memory for another stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// What a call of [`StackPool::trim`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimReport {
    /// Time was up: call again.
    pub(crate) more: bool,
    /// Slabs given back whole, page tables included.
    pub(crate) unmapped: usize,
    /// Stacks whose pages were given back.
    pub(crate) dropped: usize,
}

/// Counts of a runtime's stacks, and how deep they have been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackCensus {
    /// Stacks that address space is reserved for.
    pub mapped: usize,
    /// Stacks of tasks that have started and not ended, and of generators.
    pub live: usize,
    /// Those of generators among them.
    pub generators: usize,
    /// Free ones that have been used before.
    pub pooled: usize,
    /// Bytes of memory in stacks, live or pooled.
    pub resident: usize,
    /// The deepest use, in bytes: of the stacks as they are, and of those whose deep pages were
    /// found and given back. A stack that has room for this and some more is enough.
    pub deepest: usize,
    /// `depths[i]`: stacks whose use so far lies above `4 KiB << (i - 1)` and up to `4 KiB << i`.
    pub depths: [usize; 20],
}

impl StackCensus {
    /// Adds another pool's counts.
    pub(crate) fn add(mut self, other: Self) -> Self {
        self.mapped += other.mapped;
        self.live += other.live;
        self.generators += other.generators;
        self.pooled += other.pooled;
        self.resident += other.resident;
        self.deepest = self.deepest.max(other.deepest);
        for (sum, n) in self.depths.iter_mut().zip(other.depths) {
            *sum += n;
        }
        self
    }
}

/// The stacks of one worker.
#[derive(Debug)]
pub(crate) struct StackPool {
    budget: Arc<Budget>,
    /// Taken from the budget and not in use.
    credits: usize,
    /// How many of them to fetch at once; at most twice as many are kept.
    chunk: usize,
    classes: Vec<Class>,
    slabs: Vec<Slab>,
    /// Numbers of unmapped slabs.
    holes: Vec<u32>,
    until_check: u32,
    check_interval: u32,
    deepest: usize,
    guard_is_vma: bool,
    lent: usize,
}

impl StackPool {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self::with_guard(budget, guard_is_vma())
    }

    fn with_guard(budget: Arc<Budget>, guard_is_vma: bool) -> Self {
        Self {
            budget,
            credits: 0,
            chunk: 1,
            classes: Vec::new(),
            slabs: Vec::new(),
            holes: Vec::new(),
            until_check: CHECK_EVERY,
            check_interval: CHECK_EVERY,
            deepest: 0,
            guard_is_vma,
            lent: 0,
        }
    }

    /// Hands out a stack: the one given back last, else an idle one, else a fresh one.
    #[inline(always)] // out of line a slot goes through memory: 16 ns instead of 7
    pub(crate) fn take(&mut self, spec: StackSpec) -> Result<StackSlot, Exhausted> {
        if self.credits == 0 {
            self.earn()?;
        }
        let class = self.class(spec);
        let key = match self.classes[class].warm.pop_back() {
            Some(key) => key,
            None => self.take_cold(class)?,
        };
        self.credits -= 1;
        let (slab, i) = split(key);
        let slab = &mut self.slabs[slab];
        slab.live.set(i);
        Ok(StackSlot {
            top: slab.top(i),
            spec,
            key,
        })
    }

    /// Takes a stack back. No frame may be left on it.
    #[inline(always)] // out of line a slot goes through memory: 16 ns instead of 7
    pub(crate) fn give_back(&mut self, slot: StackSlot) {
        let (slab, i) = split(slot.key);
        let slab = &mut self.slabs[slab];
        debug_assert!(
            slab.live.has(i) && slab.top(i) == slot.top,
            "a slot of another pool"
        );
        slab.live.clear(i);
        let class = slab.class;
        self.until_check -= 1;
        if self.until_check == 0 {
            self.check(&slot);
        }
        self.classes[class].warm.push_back(slot.key);
        self.credits += 1;
        if self.credits > 2 * self.chunk || self.budget.starved() {
            self.put_surplus();
        }
    }

    /// Marks a stack that was just taken: what will run on it is no task, and
    /// [`for_each_live`](Self::for_each_live) passes it over.
    pub(crate) fn lend(&mut self, slot: &StackSlot) {
        let (slab, i) = split(slot.key);
        self.slabs[slab].lent.set(i);
        self.lent += 1;
    }

    /// As [`give_back`](Self::give_back), for a stack that was lent.
    pub(crate) fn give_back_lent(&mut self, slot: StackSlot) {
        let (slab, i) = split(slot.key);
        debug_assert!(self.slabs[slab].lent.has(i), "a slot that was not lent");
        self.slabs[slab].lent.clear(i);
        self.lent -= 1;
        self.give_back(slot);
    }

    /// Returns how many stacks are lent.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// Returns all credits that no live stack holds, so that other workers can start tasks.
    pub(crate) fn release_credits(&mut self) {
        self.budget.put(std::mem::take(&mut self.credits));
    }

    #[cold]
    fn put_surplus(&mut self) {
        if self.budget.starved() {
            self.release_credits();
        } else {
            self.budget.put(self.credits - self.chunk);
            self.credits = self.chunk;
        }
    }

    #[cold]
    fn earn(&mut self) -> Result<(), Exhausted> {
        self.chunk = (self.budget.limit() / 32).clamp(1, CHUNK);
        // While somebody starves, nobody hoards.
        let want = if self.budget.starved() { 1 } else { self.chunk };
        self.credits = self.budget.grab(want);
        if self.credits == 0 {
            Err(Exhausted)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn class(&mut self, spec: StackSpec) -> usize {
        match self.classes.iter().position(|class| class.spec == spec) {
            Some(class) => class,
            None => self.add_class(spec),
        }
    }

    #[cold]
    fn add_class(&mut self, spec: StackSpec) -> usize {
        self.classes.push(Class {
            spec,
            warm: VecDeque::new(),
            open: Vec::new(),
            swept: 0,
        });
        self.classes.len() - 1
    }

    /// Finds an idle slot, makes a fresh one, or maps more.
    #[cold]
    fn take_cold(&mut self, class: usize) -> Result<u32, Exhausted> {
        loop {
            let Some(&id) = self.classes[class].open.last() else {
                self.map_slab(class)?;
                continue;
            };
            let slab = &mut self.slabs[id as usize];
            if let Some(i) = slab.idle.first() {
                slab.idle.clear(i);
                slab.dirty.clear(i);
                return Ok((id << SLOT_BITS) | i as u32);
            }
            if slab.touched < slab.slots {
                let (i, guard) = (slab.touched, slab.spec.guard());
                // SAFETY: the low end of a slot that has never been handed out.
                let done =
                    unsafe { install_guard(slab.bottom(i) - guard, guard, self.guard_is_vma) };
                if done.is_err() {
                    return Err(self.refused(class));
                }
                slab.touched += 1;
                return Ok((id << SLOT_BITS) | i as u32);
            }
            slab.open = false;
            self.classes[class].open.pop();
        }
    }

    /// The kernel gives no more; nor will it to others.
    fn refused(&mut self, class: usize) -> Exhausted {
        self.release_credits();
        self.budget.shrink_to_in_use(self.classes[class].spec);
        Exhausted
    }

    fn map_slab(&mut self, class: usize) -> Result<(), Exhausted> {
        let spec = self.classes[class].spec;
        // Several workers with a slab each must fit under a low limit.
        let most = (self.budget.limit() / 32).clamp(1, SLAB_SLOTS);
        let mut slots = (SLAB_BYTES / spec.stride()).clamp(1, most);
        let base = loop {
            match map(slots * spec.stride()) {
                Ok(base) => break base,
                Err(_) if slots > 1 => slots /= 2,
                // What other classes left behind is in the way.
                Err(_) if self.trim_until(0, None).unmapped > 0 => {}
                Err(_) => return Err(self.refused(class)),
            }
        };
        let none = Bits::default();
        let (live, lent, idle, dirty) = (none, none, none, none);
        let slab = Slab {
            base,
            spec,
            class,
            slots,
            touched: 0,
            open: true,
            live,
            lent,
            idle,
            dirty,
        };
        let id = match self.holes.pop() {
            Some(id) => {
                self.slabs[id as usize] = slab;
                id
            }
            None => {
                self.slabs.push(slab);
                self.slabs.len() as u32 - 1
            }
        };
        self.classes[class].open.push(id);
        Ok(())
    }

    /// Looks how deep a stack that just came back was used, and gives deep pages back.
    #[cold]
    fn check(&mut self, slot: &StackSlot) {
        let deep = self.flatten(slot.bottom(), slot.top);
        self.check_interval = if deep {
            CHECK_EVERY
        } else {
            (self.check_interval * 2).min(CHECK_SELDOM)
        };
        self.until_check = self.check_interval;
    }

    /// Gives back the pages of a free stack deeper than KEEP; `true`: there were some.
    fn flatten(&mut self, bottom: usize, top: usize) -> bool {
        let mark = top.saturating_sub(KEEP).max(bottom);
        let Some(deepest) = residency(bottom, mark).lowest else {
            return false;
        };
        self.deepest = self.deepest.max(top - deepest);
        // SAFETY: the usable part of a slot that is not live.
        unsafe { discard(bottom, mark - bottom) };
        true
    }

    /// Gives back what an idle worker does not need: all but the `keep_warm` stacks (of each
    /// spec) given back last, the deep pages of those too, and its reserve of credits.
    pub(crate) fn trim(&mut self, keep_warm: usize) -> TrimReport {
        self.release_credits();
        self.trim_until(keep_warm, Some(Instant::now() + TRIM_TIME))
    }

    fn trim_until(&mut self, keep_warm: usize, end: Option<Instant>) -> TrimReport {
        let mut report = TrimReport {
            more: true,
            ..TrimReport::default()
        };
        let up = || end.is_some_and(|end| Instant::now() >= end);
        // Oldest first to their slabs, and away with slabs that are complete: this spares most
        // stacks a call of their own.
        for class in 0..self.classes.len() {
            let mut steps = 0_u32;
            while self.classes[class].warm.len() > keep_warm {
                let Some(key) = self.classes[class].warm.pop_front() else {
                    break;
                };
                let unmapped = self.retire(key);
                report.unmapped += usize::from(unmapped);
                steps += 1;
                if (unmapped || steps.is_multiple_of(256)) && up() {
                    return report;
                }
            }
            let class = &mut self.classes[class];
            if class.warm.capacity() / 4 > class.warm.len().max(16) {
                class.warm.shrink_to_fit();
            }
        }
        for slab in &mut self.slabs {
            for word in 0..SLAB_SLOTS / 64 {
                while slab.dirty.0[word] != 0 {
                    let first = slab.dirty.0[word].trailing_zeros();
                    let n = (slab.dirty.0[word] >> first).trailing_ones();
                    let (first, n) = (word * 64 + first as usize, n as usize);
                    let low = slab.bottom(first);
                    // SAFETY: from the lowest to the highest of a row of slots that are all
                    // idle. Guards in between stay (madvise(2): guard regions are not affected).
                    unsafe { discard(low, slab.top(first + n - 1) - low) };
                    (first..first + n).for_each(|i| slab.dirty.clear(i));
                    report.dropped += n;
                    if up() {
                        return report;
                    }
                }
            }
        }
        for class in 0..self.classes.len() {
            while let Some(&key) = self.classes[class].warm.get(self.classes[class].swept) {
                self.classes[class].swept += 1;
                let (slab, i) = split(key);
                let slab = &self.slabs[slab];
                self.flatten(slab.bottom(i), slab.top(i));
                if up() {
                    return report;
                }
            }
            self.classes[class].swept = 0;
        }
        report.more = false;
        report
    }

    /// Makes a warm slot idle, and unmaps its slab (`true`) if that was the last.
    fn retire(&mut self, key: u32) -> bool {
        let (id, i) = split(key);
        let slab = &mut self.slabs[id];
        slab.idle.set(i);
        slab.dirty.set(i);
        let open = &mut self.classes[slab.class].open;
        if !slab.open {
            slab.open = true;
            open.push(id as u32);
        }
        if slab.idle.count() < slab.touched {
            return false;
        }
        // SAFETY: nothing in it is live or warm.
        if !unsafe { unmap(slab.base, slab.len()) } {
            return false;
        }
        open.retain(|&other| other != id as u32);
        *slab = Slab {
            base: 0,
            slots: 0,
            touched: 0,
            open: false,
            ..*slab
        };
        (slab.idle, slab.dirty) = (Bits::default(), Bits::default());
        self.holes.push(id as u32);
        true
    }

    /// Calls `f(top, offset)` for every stack that is taken and not lent; it begins at
    /// `top - offset`, the offset being its colour in bytes.
    pub(crate) fn for_each_live(&self, f: &mut dyn FnMut(usize, usize)) {
        self.for_some_live(0, usize::MAX, f);
    }

    /// As [`for_each_live`](Self::for_each_live), for at least `most` of them if there are as many,
    /// from the cursor on (0 is the first). Returns the cursor for the rest, if there is one.
    pub(crate) fn for_some_live(
        &self,
        cursor: usize,
        most: usize,
        f: &mut dyn FnMut(usize, usize),
    ) -> Option<usize> {
        let words = SLAB_SLOTS / 64;
        let mut seen = 0;
        for word in cursor..self.slabs.len() * words {
            if seen >= most {
                return Some(word);
            }
            let (slab, at) = (&self.slabs[word / words], word % words);
            let mut left = slab.live.0[at] & !slab.lent.0[at];
            while left != 0 {
                let i = at * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                f(slab.top(i), colour(i as u32) * 64);
                seen += 1;
            }
        }
        None
    }

    /// Looks at every stack: 1-2 us each.
    pub(crate) fn census(&self) -> StackCensus {
        let mut sum = StackCensus {
            deepest: self.deepest,
            ..StackCensus::default()
        };
        for slab in &self.slabs {
            sum.mapped += slab.slots;
            sum.live += slab.live.count();
            sum.generators += slab.lent.count();
            sum.pooled += slab.touched - slab.live.count();
            for i in 0..slab.touched {
                let found = residency(slab.bottom(i), slab.top(i));
                sum.resident += found.bytes;
                if let Some(lowest) = found.lowest {
                    let depth = slab.top(i) - lowest;
                    sum.deepest = sum.deepest.max(depth);
                    let bucket = depth.div_ceil(4096).next_power_of_two().trailing_zeros();
                    sum.depths[(bucket as usize).min(19)] += 1;
                }
            }
        }
        sum
    }
}

impl Drop for StackPool {
    /// A slab with a live slot stays mapped for ever: it holds a leaked task.
    fn drop(&mut self) {
        self.release_credits();
        for slab in &self.slabs {
            if slab.base != 0 && slab.live.first().is_none() {
                // SAFETY: nothing in it is live.
                unsafe { unmap(slab.base, slab.len()) };
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
pub(super) mod tests;
