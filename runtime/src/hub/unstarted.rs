//! Tasks of one worker that have not started: closures that an idle worker may take over.
//!
//! First in, first out, behind a short lock. Two published counters tell observers how old the
//! oldest are without taking the lock: a task with number `n` is still here as long as
//! `taken <= n`, so whoever saw `put = p` some time ago knows that `p - taken` tasks have waited
//! at least that long (design R1: only those are taken).

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::cell::TaskRef;
use crate::sync::short_lock::ShortLock;

pub(crate) struct Unstarted {
    queue: ShortLock<VecDeque<TaskRef>>,
    put: AtomicU64,
    taken: AtomicU64,
}

impl Unstarted {
    pub(crate) fn new() -> Self {
        Self {
            queue: ShortLock::new(VecDeque::new()),
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn push(&self, task: TaskRef) {
        let mut queue = self.queue.lock();
        queue.push_back(task);
        self.put.store(self.put.load(Relaxed) + 1, Relaxed);
    }

    pub(crate) fn extend(&self, tasks: impl Iterator<Item = TaskRef>) -> usize {
        let mut queue = self.queue.lock();
        let before = queue.len();
        queue.extend(tasks);
        let n = queue.len() - before;
        self.put.store(self.put.load(Relaxed) + n as u64, Relaxed);
        n
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<TaskRef> {
        let mut queue = self.queue.lock();
        let task = queue.pop_front()?;
        self.taken.store(self.taken.load(Relaxed) + 1, Relaxed);
        if queue.is_empty() && queue.capacity() > 4096 {
            queue.shrink_to(64);
        }
        Some(task)
    }

    /// Takes any task, for a shuffled runtime: `random(n)` is a number below `n`.
    pub(crate) fn pick(&self, random: impl Fn(usize) -> usize) -> Option<TaskRef> {
        let mut queue = self.queue.lock();
        if !queue.is_empty() {
            let n = random(queue.len());
            queue.swap(0, n);
        }
        drop(queue);
        self.pop()
    }

    /// Puts a task back that could not be started; it is the next one again.
    pub(crate) fn put_back(&self, task: TaskRef) {
        let mut queue = self.queue.lock();
        queue.push_front(task);
        self.taken
            .store(self.taken.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// Number of tasks ever put in.
    pub(crate) fn put(&self) -> u64 {
        self.put.load(Relaxed)
    }

    /// Number of those that were in when `put` was read and still are.
    pub(crate) fn waiting_since(&self, put: u64) -> u64 {
        let taken = self.taken.load(Relaxed);
        // A task put back lets `taken` go below 0 for a moment: then nothing is told.
        put.saturating_sub(taken)
    }

    pub(crate) fn len(&self) -> u64 {
        self.waiting_since(self.put())
    }

    /// Takes the oldest `most` tasks away.
    pub(crate) fn take_oldest(&self, most: u64) -> VecDeque<TaskRef> {
        let mut queue = self.queue.lock();
        let n = queue.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let rest = queue.split_off(n);
        let oldest = std::mem::replace(&mut *queue, rest);
        self.taken
            .store(self.taken.load(Relaxed) + n as u64, Relaxed);
        oldest
    }

    /// Looks at each task that waits.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&TaskRef)) {
        for task in &*self.queue.lock() {
            f(task);
        }
    }
}
