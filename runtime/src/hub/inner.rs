//! Fibers that are no tasks: what a generator's body runs on, and the stacks lent to them.
//!
//! Nouns: an *inner fiber* has a stack of this worker's pool that is marked *lent*, so that nobody
//! takes what lies on it for a task; the *chain* of a task are the inner fibers that it is in,
//! from `Control::inner` (the innermost) by `outer`.
//!
//! ```text
//! Control --inner--> body of c --outer--> body of b --outer--> None       b calls c.next()
//! stacks:  task's own <-resumed by- b's <-resumed by- c's                 the task is on c's
//! ```
//!
//! Invariants: a fiber is in a chain from just before its resume until just after its return, in
//! one chain at most; only the innermost may suspend itself. A park suspends the whole chain
//! (`fiber`), so the innermost of the *current* task is always what the calling code runs on.
//!
//! The overflow handler reads the chain in a signal: it changes by single stores.

use std::cell::Cell;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::Hub;
use super::control::{Control, Fiber, Nesting};
use crate::fiber::FiberRef;
use crate::fiber::stack::{StackSlot, StackSpec};
use crate::fork;

pub(crate) type InnerFiber = FiberRef<Inner>;

/// What a body is begun with: its generator's types are gone.
pub(crate) type Start = Box<dyn FnOnce(InnerFiber)>;

/// The header of an inner fiber.
pub(crate) struct Inner {
    /// The next one in the chain.
    outer: Cell<Option<InnerFiber>>,
    /// How deep the resuming task was in frames and shields.
    pub(crate) nesting: Cell<Nesting>,
    /// Whether the resuming task was unwinding.
    pub(crate) unwinding: Cell<bool>,
    /// It is in a chain.
    pub(crate) running: Cell<bool>,
    /// Where the resuming side waits for what the body gives.
    pub(crate) out: Cell<*mut ()>,
    /// The body, before the first resume.
    pub(crate) start: Cell<Option<Start>>,
    /// Set once the generator is being dropped; true once the body is known to have caught the
    /// unwinding that this began.
    pub(crate) closing: Cell<Option<Arc<AtomicBool>>>,
    /// Items given by destructors, which cannot be delivered.
    pub(crate) ignored: Cell<u32>,
    /// Where the generator was made.
    pub(crate) site: &'static Location<'static>,
}

fn body(fiber: InnerFiber) {
    if let Some(start) = fiber.header().start.take() {
        start(fiber);
    }
}

/// The inner fiber of the task's chain that has `address` in its guard. Async-signal-safe.
pub(crate) fn with_guard_at(control: &Control, address: usize) -> Option<InnerFiber> {
    let mut next = control.inner.get();
    while let Some(fiber) = next {
        if fiber.slot().guard().contains(&address) {
            break;
        }
        next = fiber.header().outer.get();
    }
    next
}

impl Hub {
    /// Makes an inner fiber on a stack of this worker's pool, which will run `start`.
    ///
    /// # Errors
    /// As `Builder::spawn`, if there is no stack.
    pub(crate) fn lend(
        &self,
        spec: StackSpec,
        site: &'static Location<'static>,
        nesting: Nesting,
        start: Start,
    ) -> io::Result<InnerFiber> {
        let slot = self.stacks.borrow_mut().take(spec);
        let Some(slot) = slot.ok().or_else(|| self.ask_for_stack(spec)) else {
            return Err(self.rt.budget.refusal());
        };
        self.stacks.borrow_mut().lend(&slot);
        self.publish_lent();
        let inner = Inner {
            outer: Cell::new(None),
            nesting: Cell::new(nesting),
            unwinding: Cell::new(false),
            running: Cell::new(false),
            out: Cell::new(std::ptr::null_mut()),
            start: Cell::new(Some(start)),
            closing: Cell::new(None),
            ignored: Cell::new(0),
            site,
        };
        // SAFETY: the one copy that outlives calls is its generator's, which is !Send, and gives
        // it to `take_back` or keeps it for ever.
        Ok(unsafe { FiberRef::create(slot, inner, body) })
    }

    /// Runs an inner fiber as part of the current task until it suspends itself (`false`) or has
    /// ended (`true`).
    ///
    /// # Safety
    /// `task` is current; `inner` is of this worker, in no chain, and has not ended.
    #[inline]
    pub(crate) unsafe fn resume_inner(&self, task: Fiber, inner: InnerFiber) -> bool {
        let control = task.header();
        let header = inner.header();
        header.nesting.set(control.nesting());
        header.outer.set(control.inner.get());
        control.inner.set(Some(inner));
        // SAFETY: by the contract, and not from within itself: it was in no chain.
        let ended = unsafe { inner.resume() };
        // Whatever happened in between, this is the task that resumed it: its stack goes on here.
        control.inner.set(header.outer.take());
        ended
    }

    /// Gives the stack of an inner fiber back to the pool.
    ///
    /// # Safety
    /// It has ended or was never resumed, and no copy of it is used afterwards.
    pub(crate) unsafe fn take_back(&self, inner: InnerFiber) {
        // SAFETY: by the contract.
        let (header, slot) = unsafe { inner.release() };
        self.give_back_lent(slot);
        // After the rest: a body that never ran is user code.
        drop(header);
    }

    fn give_back_lent(&self, slot: StackSlot) {
        if self.is_stale() {
            // A forked child must not ring the bells of its parent's workers: leaked.
            return;
        }
        self.stacks.borrow_mut().give_back_lent(slot);
        self.publish_lent();
        self.stack_came_free();
    }

    fn publish_lent(&self) {
        self.shared.published.lent.store(self.lent(), Relaxed);
    }

    /// Returns how many inner fibers there are on this worker.
    pub(crate) fn lent(&self) -> usize {
        self.stacks.borrow().lent()
    }

    /// Whether this worker's process has forked, and this is the child.
    pub(crate) fn fork_error(&self) -> Option<io::Error> {
        self.is_stale().then(|| io::Error::other(fork::TEXT))
    }
}
