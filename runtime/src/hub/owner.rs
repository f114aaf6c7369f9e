//! Whom a task belongs to: a group, a pool or a scope, which hears of its end.

#![allow(dead_code)] // the dump comes next

use std::sync::Arc;

use super::extras::Exit;

/// What tasks can belong to.
pub(crate) trait Owner: Send + Sync {
    /// An id of its own, from the same numbers as tasks'.
    fn id(&self) -> u64;

    /// What the dump calls it.
    fn label(&self) -> String;

    /// The member with that number has ended: its closure, its locals and a result that nobody
    /// will take are gone. Called on the member's stack, its last action but for listeners; or
    /// wherever a task is dropped that never started. It must not park.
    fn ended(&self, slot: usize, exit: Exit);
}

/// A task's membership.
pub(crate) struct Member {
    owner: Arc<dyn Owner>,
    slot: usize,
}

impl Member {
    pub(crate) fn new(owner: Arc<dyn Owner>, slot: usize) -> Self {
        Self { owner, slot }
    }

    pub(crate) fn owner(&self) -> &dyn Owner {
        &*self.owner
    }

    /// Tells of the end.
    pub(crate) fn end(self, exit: Exit) {
        self.owner.ended(self.slot, exit);
    }
}
