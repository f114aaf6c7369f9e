//! The run queue of one worker: what may run next, in order.
//!
//! Two lines. In the *main* line stand, first in, first out: fibers that yielded or were woken by
//! another task; unstarted tasks that belong to this worker; and *tokens*, each of which stands
//! for the next `n` tasks of the worker's unstarted queue (they are kept there, where other
//! workers can take them). Neighbouring tokens merge, so a million spawns cost one entry. In the
//! *fast* line stand fibers that were woken from outside the tasks (by timers, I/O or other
//! threads), and those that these wake while their turn lasts: a crowd in the main line does not
//! hold them back. The hub gives each line its share of a batch, and fills the fast line a
//! bounded number at a time, so neither starves.
//!
//! Invariant: whatever a task has made ready runs before that task runs again, if it yields. So
//! a task may wake another through the fast line only where the rest of the fast line's share
//! is sure to reach it (`Hub::make_ready`).
//!
//! Fairness among the main line's entries: strict first-in-first-out, but for one rule: after
//! `STARTS` starts in a row a token lets the next `TURNS` entries pass (not all: a crowd that
//! yields would keep new tasks out). So tasks that are under way are not held back by a crowd of
//! new ones, and reuse of their stacks comes before first touches of new ones (design R3).
//!
//! An entry is one word, told apart by its two lowest bits (fibers and cells are 8-aligned), in a
//! ring of a power of two: a yield costs a handful of instructions here.

use std::mem::ManuallyDrop;

use super::cell::TaskRef;
use super::control::Fiber;

/// Starts in a row before others get their turn.
const STARTS: u32 = 16;
/// How many of those others have theirs then, before the next starts.
const TURNS: usize = 128;
/// How far ahead a fiber's first cache line is asked for.
const AHEAD: usize = 3;

const TAG: usize = 3;
const FIBER: usize = 0;
const PINNED: usize = 1;
const TOKEN: usize = 2;
const ONE: usize = TAG + 1;

/// What to do next.
pub(crate) enum Next {
    Resume(Fiber),
    Start(TaskRef),
    /// Start the oldest task of the unstarted queue, if there is one.
    StartShared,
}

/// A first-in-first-out line of words.
struct Ring {
    words: Box<[usize]>,
    /// Numbers of the first entry and of the one after the last; their places are the numbers
    /// modulo the length.
    head: usize,
    tail: usize,
}

impl Ring {
    fn new() -> Self {
        Self {
            words: vec![0; 64].into(),
            head: 0,
            tail: 0,
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    #[inline]
    fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    #[inline]
    fn place(&self, i: usize) -> usize {
        self.head.wrapping_add(i) & (self.words.len() - 1)
    }

    /// The word `i` places behind the first.
    #[inline]
    fn at(&self, i: usize) -> usize {
        self.words[self.place(i)]
    }

    #[inline]
    fn at_mut(&mut self, i: usize) -> &mut usize {
        let place = self.place(i);
        &mut self.words[place]
    }

    #[inline]
    fn push(&mut self, word: usize) {
        if self.len() == self.words.len() {
            self.resize(self.words.len() * 2);
        }
        let n = self.len();
        *self.at_mut(n) = word;
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn pop(&mut self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        if self.len() > AHEAD {
            // A tagged entry does no harm: it is only a hint.
            Fiber::prefetch_word(self.at(AHEAD));
        }
        let word = self.at(0);
        self.head = self.head.wrapping_add(1);
        Some(word)
    }

    /// Puts a word behind the first `passed` entries, whose places move up by one.
    fn insert(&mut self, passed: usize, word: usize) {
        debug_assert!(
            self.len() < self.words.len(),
            "a word has just been taken out"
        );
        self.head = self.head.wrapping_sub(1);
        for i in 0..passed {
            *self.at_mut(i) = self.at(i + 1);
        }
        *self.at_mut(passed) = word;
    }

    #[cold]
    fn resize(&mut self, len: usize) {
        let n = self.len();
        let words = (0..n)
            .map(|i| self.at(i))
            .chain(std::iter::repeat_n(0, len - n));
        self.words = words.collect();
        (self.head, self.tail) = (0, n);
    }

    fn shrink(&mut self) {
        if self.words.len() > 4096 && self.len() < 64 {
            self.resize(64);
        }
    }
}

pub(crate) struct ReadyQueue {
    main: Ring,
    fast: Ring,
    /// Starts in a row.
    streak: u32,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self {
            main: Ring::new(),
            fast: Ring::new(),
            streak: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, fiber: Fiber) {
        self.main.push(fiber.to_word() | FIBER);
    }

    /// Puts a fiber that was woken from outside the tasks into the fast line.
    #[inline]
    pub(crate) fn push_fast(&mut self, fiber: Fiber) {
        self.fast.push(fiber.to_word() | FIBER);
    }

    pub(crate) fn push_pinned(&mut self, task: TaskRef) {
        self.main.push(task.into_word() | PINNED);
    }

    /// Makes room for `n` more starts from the unstarted queue.
    #[inline]
    pub(crate) fn push_shared(&mut self, n: u32) {
        let n = n as usize * ONE;
        if let Some(last) = self.main.len().checked_sub(1)
            && self.main.at(last) & TAG == TOKEN
        {
            *self.main.at_mut(last) += n;
        } else {
            self.main.push(n | TOKEN);
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.fast.is_empty()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.main.len() + self.fast.len()
    }

    #[inline]
    pub(crate) fn fast_len(&self) -> usize {
        self.fast.len()
    }

    /// Whether somebody waits in the main line.
    #[inline]
    pub(crate) fn has_main(&self) -> bool {
        !self.main.is_empty()
    }

    /// The next of the fast line.
    #[inline]
    pub(crate) fn next_fast(&mut self) -> Option<Fiber> {
        let word = self.fast.pop()?;
        // SAFETY: pushed as a fiber that is ready; it ends only after it has run.
        Some(unsafe { Fiber::from_word(word) })
    }

    /// The next of the main line.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Next> {
        let word = self.main.pop()?;
        if word & TAG == FIBER {
            self.streak = 0;
            // SAFETY: pushed as a fiber that is ready; it ends only after it has run.
            return Some(Next::Resume(unsafe { Fiber::from_word(word) }));
        }
        Some(self.next_start(word))
    }

    #[inline(never)]
    fn next_start(&mut self, word: usize) -> Next {
        if word & TAG == PINNED {
            self.streak = 0;
            // SAFETY: pushed by `push_pinned`, taken out once, here.
            return Next::Start(unsafe { TaskRef::from_word(word & !TAG) });
        }
        self.streak += 1;
        let left = word - ONE;
        if left > TOKEN && self.streak < STARTS {
            self.main.insert(0, left);
        } else if left > TOKEN {
            self.streak = 0;
            let passed = self.main.len().min(TURNS);
            self.main.insert(passed, left);
        }
        Next::StartShared
    }

    /// Takes any entry, for a shuffled runtime: `random(n)` is a number below `n`. A token is one
    /// entry, and gives one start. Leaves nothing of the order.
    #[cold]
    pub(crate) fn pick(&mut self, random: impl Fn(usize) -> usize) -> Option<Next> {
        if self.is_empty() {
            return None;
        }
        let n = random(self.len());
        let (line, n) = match n.checked_sub(self.main.len()) {
            None => (&mut self.main, n),
            Some(n) => (&mut self.fast, n),
        };
        let first = line.at(0);
        let word = std::mem::replace(line.at_mut(n), first);
        line.pop();
        Some(match word & TAG {
            // SAFETY: pushed as a fiber that is ready; it ends only after it has run.
            FIBER => Next::Resume(unsafe { Fiber::from_word(word) }),
            // SAFETY: pushed by `push_pinned`, taken out once, here.
            PINNED => Next::Start(unsafe { TaskRef::from_word(word & !TAG) }),
            _ => {
                if word - ONE > TOKEN {
                    line.push(word - ONE);
                }
                Next::StartShared
            }
        })
    }

    /// Takes the starts at the head of the line away: there is no stack for them.
    #[cold]
    pub(crate) fn take_shared(&mut self) -> u32 {
        if self.main.is_empty() || self.main.at(0) & TAG != TOKEN {
            return 0;
        }
        let token = self.main.pop().unwrap_or(0);
        u32::try_from(token / ONE).unwrap_or(u32::MAX)
    }

    /// Takes the unstarted tasks that only this worker may start out of the line.
    pub(crate) fn take_pinned(&mut self, tasks: &mut Vec<TaskRef>) {
        for _ in 0..self.main.len() {
            let Some(word) = self.main.pop() else { break };
            if word & TAG == PINNED {
                // SAFETY: pushed by `push_pinned`, taken out once, here.
                tasks.push(unsafe { TaskRef::from_word(word & !TAG) });
            } else {
                self.main.push(word);
            }
        }
    }

    /// Looks at the unstarted tasks that only this worker may start (for dump and shutdown).
    pub(crate) fn for_each_pinned(&self, mut f: impl FnMut(&TaskRef)) {
        for i in 0..self.main.len() {
            let word = self.main.at(i);
            if word & TAG == PINNED {
                // SAFETY: the entry's own reference keeps the task alive; this copy is not dropped.
                let task = ManuallyDrop::new(unsafe { TaskRef::from_word(word & !TAG) });
                f(&task);
            }
        }
    }

    /// Gives memory back after a crowd has gone.
    pub(crate) fn shrink(&mut self) {
        self.main.shrink();
        self.fast.shrink();
    }
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        while let Some(next) = self.next() {
            // A task that was never started is dropped with its closure.
            drop(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands for fibers in these tests: words that are never resumed. 0 is no address.
    fn words(queue: &mut ReadyQueue) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match queue.main.pop() {
                None => return seen,
                Some(word) if word & TAG == FIBER => seen.push(format!("f{}", word / 8 - 1)),
                Some(word) => {
                    let _ = queue.next_start(word);
                    seen.push("s".to_owned());
                }
            }
        }
    }

    fn word(i: usize) -> usize {
        (i + 1) * 8
    }

    fn queue(fibers: std::ops::Range<usize>) -> ReadyQueue {
        let mut queue = ReadyQueue::new();
        fibers.for_each(|i| queue.main.push(word(i)));
        queue
    }

    #[test]
    fn first_in_first_out_with_a_few_starts() {
        let mut queue = queue(0..2);
        queue.push_shared(2);
        queue.push_shared(1);
        queue.main.push(word(2));
        queue.push_shared(1);
        assert_eq!(words(&mut queue).concat(), "f0f1sssf2s");
    }

    /// A crowd that yields lets new tasks in at their rate, however long its line.
    #[test]
    fn a_crowd_that_yields_does_not_keep_starts_out() {
        // Not from 0: what is left is dropped as fibers, and none lies at address 0.
        let mut queue = queue(1..100_001);
        queue.push_shared(1000);
        let (mut starts, mut turns) = (0, 0);
        while starts < 1000 {
            match queue.main.pop() {
                Some(word) if word & TAG == FIBER => {
                    turns += 1;
                    queue.streak = 0;
                    queue.main.push(word);
                }
                Some(word) => {
                    let _ = queue.next_start(word);
                    starts += 1;
                }
                None => unreachable!("the crowd stays"),
            }
        }
        let passes = 1000usize.div_ceil(STARTS as usize) - 1;
        assert_eq!(turns, 100_000 + passes * TURNS);
    }

    /// What is picked comes out once, and each start of a token too.
    #[test]
    fn picks_take_each_entry_once() {
        let shuffle = std::cell::RefCell::new(crate::hub::shuffle::Shuffle::new(1, 0));
        let mut queue = queue(1..4);
        queue.push_shared(3);
        (8..10).for_each(|i| queue.fast.push(word(i)));
        let mut seen = Vec::new();
        while let Some(next) = queue.pick(|n| shuffle.borrow_mut().below(n)) {
            seen.push(match next {
                Next::Resume(fiber) => fiber.to_word() / 8 - 1,
                _ => 99,
            });
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 8, 9, 99, 99, 99]);
    }

    #[test]
    fn the_ring_grows_and_shrinks_in_order() {
        let mut queue = queue(0..10_000);
        for i in 0..9_990 {
            assert_eq!(queue.main.pop(), Some(word(i)));
        }
        queue.shrink();
        assert_eq!(queue.main.words.len(), 64);
        let rest: String = (9_990..10_000).map(|i| format!("f{i}")).collect();
        assert_eq!(words(&mut queue).concat(), rest);
    }
}
