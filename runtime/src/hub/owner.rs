//! Whom a task belongs to: a group, a pool or a scope, which hears of its end.
//!
//! A [`Member`] points to its owner without counting: the owner keeps itself alive as long as it
//! has members, and a spawn is spared two atomic operations.

use std::ptr::NonNull;

use super::cell::TaskRef;
use super::extras::Exit;

/// The head of what tasks can belong to.
pub(crate) struct Owner {
    /// An id of its own, from the same numbers as tasks'.
    pub(crate) id: u64,
    /// What the dump calls it. (A pointer, not a reference: it leads to all of the owner.)
    pub(crate) label: unsafe fn(NonNull<Self>) -> String,
    /// The member with that number has ended: its closure, its locals and a result that nobody will
    /// take are gone. Called on the member's stack, its last action but for telling others; or
    /// wherever a task ends that never started. It must not park. Gives back the owner's reference
    /// to the task. The owner may be gone when it returns, hence no reference.
    pub(crate) ended: unsafe fn(NonNull<Self>, usize, Exit) -> Option<TaskRef>,
}

/// A task's membership.
pub(crate) struct Member {
    owner: NonNull<Owner>,
    slot: usize,
}

impl Member {
    /// # Safety
    /// `owner` is inside of something that is `Send` and `Sync`, and stays until its `ended` has
    /// been called for `slot`.
    pub(crate) unsafe fn new(owner: NonNull<Owner>, slot: usize) -> Self {
        Self { owner, slot }
    }

    fn owner(&self) -> &Owner {
        // SAFETY: `end` takes this by value, so it is still to come (`new`).
        unsafe { self.owner.as_ref() }
    }

    /// The owner's id.
    pub(crate) fn owner_id(&self) -> u64 {
        self.owner().id
    }

    /// What the dump calls the owner.
    pub(crate) fn owner_label(&self) -> String {
        let label = self.owner().label;
        // SAFETY: as in `owner`.
        unsafe { label(self.owner) }
    }

    /// Tells of the end.
    pub(crate) fn end(self, exit: Exit) -> Option<TaskRef> {
        let ended = self.owner().ended;
        // SAFETY: once, by the contract of `new`.
        unsafe { ended(self.owner, self.slot, exit) }
    }
}
