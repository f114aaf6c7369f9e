//! Values of which each task has its own.
//!
//! A [`LocalKey`] is a static that says how the value is made; the values are in the control block
//! of the running task (`hub/locals.rs`), or, on an ordinary thread, in a thread-local variable.
//!
//! Rejected: values in the worker's thread-locals, swapped at each switch (they would cost every
//! switch, and be wrong in each place that forgets).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::hub::control::HEIRS;
use crate::hub::current::{self, Caller};
use crate::hub::locals::{Clones, Locals};

thread_local! {
    static OF_THREAD: Locals = Locals::default();
}

/// A variable of which each task has its own value; made by [`task_local!`](crate::task_local).
///
/// As [`std::thread::LocalKey`], by tasks. On an ordinary thread it is one of the thread. In a
/// task the value is made at the first use, and dropped at the task's end: on its own stack, after
/// its closure has ended and before `join` returns, the last made first. Such a destructor may
/// park (kills are held back as by a [`shield`](crate::shield)), reach values that are not yet
/// dropped, and make no new ones.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    clones: Option<Clones>,
}

/// A task-local value is asked for after it was dropped, or when it is too late to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task-local value was asked for while the task ends, after it was dropped")
    }
}

impl std::error::Error for AccessError {}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> Self {
        Self { init, clones: None }
    }

    #[doc(hidden)]
    pub const fn inherited(init: fn() -> T) -> Self
    where
        T: Clone + Send,
    {
        Self {
            init,
            clones: Some(|value| {
                let value = value.downcast_ref::<T>()?;
                Some(Box::new(value.clone()))
            }),
        }
    }

    /// Calls `f` with the calling task's value, which is made first if there is none.
    ///
    /// `f` may use the key again, and park.
    ///
    /// # Panics
    /// While the task ends, after the value was dropped.
    ///
    /// # Examples
    /// ```
    /// use std::cell::Cell;
    /// use sward_runtime::{run, spawn, task_local};
    /// task_local! {
    ///     static COUNT: Cell<u32> = Cell::new(1);
    /// }
    /// run(|| {
    ///     COUNT.with(|count| count.set(2));
    ///     assert_eq!(spawn(|| COUNT.get()).join().unwrap(), 1);
    ///     assert_eq!(COUNT.get(), 2);
    /// });
    /// ```
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(e) => panic!("sward: {e}"),
        }
    }

    /// As [`with`](Self::with), with an error instead of the panic.
    ///
    /// # Errors
    /// [`AccessError`] while the task ends, after the value was dropped.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.with_or(self.init, f)
    }

    /// As `try_with`; the value is made by `make` if there is none.
    fn with_or<R>(
        &'static self,
        make: impl FnOnce() -> T,
        f: impl FnOnce(&T) -> R,
    ) -> Result<R, AccessError> {
        let key = std::ptr::from_ref(self).addr();
        let value = match here(|locals| (locals.find(key), locals.is_closing()))? {
            (Some(value), _) => value,
            (None, true) => return Err(AccessError),
            (None, false) => {
                // One that `make` itself has put there is kept: somebody may have seen it.
                let value = Rc::new(make());
                self.will_inherit();
                here(|locals| locals.add(key, self.clones, value))?.ok_or(AccessError)?
            }
        };
        match value.downcast_ref() {
            Some(value) => Ok(f(value)),
            None => unreachable!("the key stands for one type"),
        }
    }

    /// Makes the value of `value`, or puts that into the one that there is.
    fn put<V>(&'static self, value: V, make: fn(V) -> T, put: fn(&T, V)) {
        // Used by one of the two.
        let value = Cell::new(Some(value));
        let make = || match value.take() {
            Some(value) => make(value),
            None => unreachable!("one value is made"),
        };
        let result = self.with_or(make, |there| {
            if let Some(value) = value.take() {
                put(there, value);
            }
        });
        if let Err(e) = result {
            panic!("sward: {e}");
        }
    }

    /// Tells spawns to look.
    fn will_inherit(&self) {
        if self.clones.is_some()
            && let Caller::Task(_, fiber) = current::caller()
        {
            let quirks = &fiber.header().quirks;
            quirks.set(quirks.get() | HEIRS);
        }
    }
}

/// Calls `f` with the values of the calling task or thread.
fn here<R>(f: impl FnOnce(&Locals) -> R) -> Result<R, AccessError> {
    match current::caller() {
        Caller::Task(_, fiber) => fiber.header().locals().map(f).ok_or(AccessError),
        Caller::Hub(_) | Caller::Thread => OF_THREAD.try_with(f).map_err(|_| AccessError),
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value. The key's initialiser does not run.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn set(&'static self, value: T) {
        self.put(value, Cell::new, Cell::set);
    }

    /// Returns a copy of the value.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value, and leaves the default one.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the value, and returns the one before.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value, borrowed.
    ///
    /// # Panics
    /// If it is borrowed mutably; and as [`with`](Self::with).
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value, borrowed mutably.
    ///
    /// # Panics
    /// If it is borrowed; and as [`with`](Self::with).
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value. The key's initialiser does not run.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](Self::with_borrow_mut).
    pub fn set(&'static self, value: T) {
        self.put(value, RefCell::new, |cell, value| drop(cell.replace(value)));
    }

    /// Takes the value, and leaves the default one.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](Self::with_borrow_mut).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the value, and returns the one before.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](Self::with_borrow_mut).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
