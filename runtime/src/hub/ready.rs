//! The run queue of one worker: what may run next, in order.
//!
//! Three kinds of entry stand in one line: a suspended fiber; an unstarted task that belongs to
//! this worker; and a *token*, which stands for the next `n` tasks of the worker's unstarted
//! queue (they are kept there, where other workers can take them). Neighbouring tokens merge, so
//! a million spawns cost one entry.
//!
//! Fairness: strict first-in-first-out, but for one rule: after `STARTS` starts in a row a token
//! goes to the end of the line if anybody else waits. So tasks that are under way, woken by
//! timers or I/O, are not held back by a crowd of new ones, and reuse of their stacks comes
//! before first touches of new ones (design R3).

use std::collections::VecDeque;

use super::cell::TaskRef;
use super::control::Fiber;

/// Starts in a row before others get their turn.
const STARTS: u32 = 16;
/// How far ahead a fiber's first cache line is asked for.
const AHEAD: usize = 3;

enum Entry {
    Fiber(Fiber),
    Pinned(TaskRef),
    Token(u32),
}

/// What to do next.
pub(crate) enum Next {
    Resume(Fiber),
    Start(TaskRef),
    /// Start the oldest task of the unstarted queue, if there is one.
    StartShared,
}

pub(crate) struct ReadyQueue {
    line: VecDeque<Entry>,
    streak: u32,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self { line: VecDeque::with_capacity(64), streak: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, fiber: Fiber) {
        self.line.push_back(Entry::Fiber(fiber));
    }

    pub(crate) fn push_pinned(&mut self, task: TaskRef) {
        self.line.push_back(Entry::Pinned(task));
    }

    /// Makes room for `n` more starts from the unstarted queue.
    pub(crate) fn push_shared(&mut self, n: u32) {
        match self.line.back_mut() {
            Some(Entry::Token(have)) => *have = have.saturating_add(n),
            _ => self.line.push_back(Entry::Token(n)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<Next> {
        if let Some(Entry::Fiber(ahead)) = self.line.get(AHEAD) {
            ahead.prefetch();
        }
        let next = match self.line.pop_front()? {
            Entry::Fiber(fiber) => Next::Resume(fiber),
            Entry::Pinned(task) => Next::Start(task),
            Entry::Token(n) => {
                self.streak += 1;
                if n > 1 && self.streak < STARTS {
                    self.line.push_front(Entry::Token(n - 1));
                } else if n > 1 {
                    self.streak = 0;
                    self.push_shared(n - 1);
                }
                return Some(Next::StartShared);
            }
        };
        self.streak = 0;
        Some(next)
    }

    /// The unstarted tasks that only this worker may start (for dump and shutdown).
    pub(crate) fn pinned(&self) -> impl Iterator<Item = &TaskRef> {
        self.line.iter().filter_map(|e| if let Entry::Pinned(t) = e { Some(t) } else { None })
    }

    /// Gives memory back after a crowd has gone.
    pub(crate) fn shrink(&mut self) {
        if self.line.capacity() > 4096 && self.line.len() < 64 {
            self.line.shrink_to(64);
        }
    }
}
