//! The run queue of one worker: what may run next, in order.
//!
//! Three kinds of entry stand in one line: a suspended fiber; an unstarted task that belongs to
//! this worker; and a *token*, which stands for the next `n` tasks of the worker's unstarted
//! queue (they are kept there, where other workers can take them). Neighbouring tokens merge, so
//! a million spawns cost one entry.
//!
//! Fairness: strict first-in-first-out, but for one rule: after `STARTS` starts in a row a token
//! lets the next `TURNS` entries pass (not all: a crowd that yields would keep new tasks out). So tasks that are under way, woken by
//! timers or I/O, are not held back by a crowd of new ones, and reuse of their stacks comes
//! before first touches of new ones (design R3).
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

pub(crate) struct ReadyQueue {
    ring: Box<[usize]>,
    /// Numbers of the first entry and of the one after the last; their places in the ring are
    /// the numbers modulo its length.
    head: usize,
    tail: usize,
    streak: u32,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self {
            ring: vec![0; 64].into(),
            head: 0,
            tail: 0,
            streak: 0,
        }
    }

    #[inline]
    fn place(&self, number: usize) -> usize {
        number & (self.ring.len() - 1)
    }

    #[inline]
    fn push_word(&mut self, word: usize) {
        if self.len() == self.ring.len() {
            self.resize(self.ring.len() * 2);
        }
        let at = self.place(self.tail);
        self.ring[at] = word;
        self.tail = self.tail.wrapping_add(1);
    }

    #[cold]
    fn resize(&mut self, len: usize) {
        let mut ring = vec![0; len];
        let n = self.len();
        for (i, word) in ring.iter_mut().take(n).enumerate() {
            *word = self.ring[self.place(self.head.wrapping_add(i))];
        }
        (self.ring, self.head, self.tail) = (ring.into(), 0, n);
    }

    #[inline]
    pub(crate) fn push(&mut self, fiber: Fiber) {
        self.push_word(fiber.to_word() | FIBER);
    }

    pub(crate) fn push_pinned(&mut self, task: TaskRef) {
        self.push_word(task.into_word() | PINNED);
    }

    /// Makes room for `n` more starts from the unstarted queue.
    #[inline]
    pub(crate) fn push_shared(&mut self, n: u32) {
        let n = n as usize * ONE;
        let last = self.place(self.tail.wrapping_sub(1));
        if self.head != self.tail && self.ring[last] & TAG == TOKEN {
            self.ring[last] += n;
        } else {
            self.push_word(n | TOKEN);
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Next> {
        if self.is_empty() {
            return None;
        }
        if self.len() > AHEAD {
            // A tagged entry does no harm: it is only a hint.
            Fiber::prefetch_word(self.ring[self.place(self.head.wrapping_add(AHEAD))]);
        }
        let at = self.place(self.head);
        let word = self.ring[at];
        self.head = self.head.wrapping_add(1);
        if word & TAG == FIBER {
            self.streak = 0;
            // SAFETY: pushed as a fiber that is ready; it ends only after it has run.
            return Some(Next::Resume(unsafe { Fiber::from_word(word) }));
        }
        self.next_start(word)
    }

    #[inline(never)]
    fn next_start(&mut self, word: usize) -> Option<Next> {
        if word & TAG == PINNED {
            self.streak = 0;
            // SAFETY: pushed by `push_pinned`, taken out once, here.
            return Some(Next::Start(unsafe { TaskRef::from_word(word & !TAG) }));
        }
        self.streak += 1;
        let left = word - ONE;
        if left > TOKEN && self.streak < STARTS {
            self.head = self.head.wrapping_sub(1);
            let at = self.place(self.head);
            self.ring[at] = left;
        } else if left > TOKEN {
            self.streak = 0;
            self.step_back(left);
        }
        Some(Next::StartShared)
    }

    /// Takes the starts at the head of the line away: there is no stack for them.
    #[cold]
    pub(crate) fn take_shared(&mut self) -> u32 {
        let word = self.ring[self.place(self.head)];
        if self.is_empty() || word & TAG != TOKEN {
            return 0;
        }
        self.head = self.head.wrapping_add(1);
        u32::try_from(word / ONE).unwrap_or(u32::MAX)
    }

    /// Puts a token behind the next `TURNS` entries, whose places move up by one.
    fn step_back(&mut self, token: usize) {
        let passed = self.len().min(TURNS);
        self.head = self.head.wrapping_sub(1);
        for i in 0..passed {
            let (to, from) = (self.head.wrapping_add(i), self.head.wrapping_add(i + 1));
            let (to, from) = (self.place(to), self.place(from));
            self.ring[to] = self.ring[from];
        }
        let at = self.place(self.head.wrapping_add(passed));
        self.ring[at] = token;
    }

    /// Takes the unstarted tasks that only this worker may start out of the line.
    pub(crate) fn take_pinned(&mut self, tasks: &mut Vec<TaskRef>) {
        for _ in 0..self.len() {
            let at = self.place(self.head);
            let word = self.ring[at];
            self.head = self.head.wrapping_add(1);
            if word & TAG == PINNED {
                // SAFETY: pushed by `push_pinned`, taken out once, here.
                tasks.push(unsafe { TaskRef::from_word(word & !TAG) });
            } else {
                self.push_word(word);
            }
        }
    }

    /// Looks at the unstarted tasks that only this worker may start (for dump and shutdown).
    pub(crate) fn for_each_pinned(&self, mut f: impl FnMut(&TaskRef)) {
        for i in 0..self.len() {
            let word = self.ring[self.place(self.head.wrapping_add(i))];
            if word & TAG == PINNED {
                // SAFETY: the entry's own reference keeps the task alive; this copy is not dropped.
                let task = ManuallyDrop::new(unsafe { TaskRef::from_word(word & !TAG) });
                f(&task);
            }
        }
    }

    /// Gives memory back after a crowd has gone.
    pub(crate) fn shrink(&mut self) {
        if self.ring.len() > 4096 && self.len() < 64 {
            self.resize(64);
        }
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
