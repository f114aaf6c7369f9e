//! The task-local values of one task, or of one ordinary thread.
//!
//! Nouns: a *key* is the address of a `LocalKey`, which is a static; a *heritage* is what a task
//! hands on to one that it spawns: clones of its values whose keys say `inherit`.
//!
//! Only the task itself gets here, so values need not be `Send`. They are counted, and no borrow
//! of the list lasts while code of the user runs (initialisers, clones, destructors), which may
//! come back here, or park.
//!
//! State: open, then (the task's closure has ended) closing: values go one by one, the last made
//! first; those that are still there can be reached, and no new one is made.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::unwinding;

/// Clones a value for a new task.
pub(crate) type Clones = fn(&dyn Any) -> Option<Box<dyn Any + Send>>;

struct Local {
    key: usize,
    clones: Option<Clones>,
    value: Rc<dyn Any>,
}

#[derive(Default)]
pub(crate) struct Locals {
    list: RefCell<Vec<Local>>,
    closing: Cell<bool>,
}

/// Values on their way to a new task.
pub(crate) struct Heritage(Vec<(usize, Clones, Box<dyn Any + Send>)>);

impl Locals {
    pub(crate) fn find(&self, key: usize) -> Option<Rc<dyn Any>> {
        let list = self.list.borrow();
        let local = list.iter().find(|local| local.key == key)?;
        Some(local.value.clone())
    }

    /// Adds a value, unless there is one, which is returned then. `None`: it is too late.
    pub(crate) fn add(
        &self,
        key: usize,
        clones: Option<Clones>,
        value: Rc<dyn Any>,
    ) -> Option<Rc<dyn Any>> {
        let there = self.find(key);
        if there.is_some() {
            return there;
        }
        if self.closing.get() {
            return None;
        }
        let local = Local {
            key,
            clones,
            value: value.clone(),
        };
        self.list.borrow_mut().push(local);
        Some(value)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// What a new task gets.
    pub(crate) fn heritage(&self) -> Option<Box<Heritage>> {
        let list = self.list.borrow();
        let heirs = list.iter().filter_map(|local| {
            let clones = local.clones?;
            Some((local.key, clones, local.value.clone()))
        });
        let heirs: Vec<_> = heirs.collect();
        drop(list);
        let clone = |(key, clones, value): (usize, Clones, Rc<dyn Any>)| {
            clones(&*value).map(|value| (key, clones, value))
        };
        let values: Vec<_> = heirs.into_iter().filter_map(clone).collect();
        (!values.is_empty()).then(|| Box::new(Heritage(values)))
    }

    /// Takes over what a new task was given.
    pub(crate) fn inherit(&self, heritage: Heritage) {
        for (key, clones, value) in heritage.0 {
            self.add(key, Some(clones), Rc::from(value as Box<dyn Any>));
        }
    }

    /// Drops all values; a panic of one does not keep the others.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        loop {
            let last = self.list.borrow_mut().pop();
            let Some(last) = last else { break };
            unwinding::discard(catch_unwind(AssertUnwindSafe(|| drop(last))));
        }
    }
}

impl Drop for Locals {
    fn drop(&mut self) {
        self.close();
    }
}
