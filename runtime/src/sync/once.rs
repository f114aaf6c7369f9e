//! What follows from [`OnceValue`]: code that runs once, a value made at its first use, and a
//! value with somebody in charge of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::once_value::OnceValue;
use crate::error::TimedOut;

/// Code that runs once (std's `Once`, without its poison).
///
/// # Examples
/// ```
/// use sward_runtime::sync::Once;
/// static START: Once = Once::new();
/// START.call_once(|| { /* run once, before anybody goes on */ });
/// assert!(START.is_completed());
/// ```
pub struct Once(OnceValue<()>);

impl Once {
    /// Returns one that has not run.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(OnceValue::new())
    }

    /// Returns one that has not run.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(OnceValue::new())
    }

    /// Runs `f` if no call has been completed; waits if one is at it. When it returns, one call
    /// is completed.
    ///
    /// If `f` panics or is killed, the next caller runs its own.
    ///
    /// # Blocking
    /// As [`OnceValue::get_or_init`].
    ///
    /// # Panics
    /// If `f` calls it again on the same `Once`.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) {
        self.0.get_or_init(f);
    }

    /// Returns whether a call has been completed.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.0.try_get().is_some()
    }

    /// Waits until a call has been completed.
    ///
    /// # Blocking
    /// As [`OnceValue::get`].
    pub fn wait(&self) {
        self.0.get();
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("completed", &self.is_completed())
            .finish()
    }
}

/// A value that is made when it is first used (std's `LazyLock`; as there is no poison, its
/// closure may be called again after a panic, so it is a `Fn`).
///
/// # Examples
/// ```
/// use sward_runtime::sync::LazyLock;
/// static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| vec!["made", "late"]);
/// assert_eq!(WORDS.len(), 2);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceValue<T>,
    make: F,
}

impl<T, F: Fn() -> T> LazyLock<T, F> {
    /// Returns one that will make its value with `make`.
    #[cfg(not(loom))]
    pub const fn new(make: F) -> Self {
        Self {
            value: OnceValue::new(),
            make,
        }
    }

    /// Returns one that will make its value with `make`.
    #[cfg(loom)]
    pub fn new(make: F) -> Self {
        Self {
            value: OnceValue::new(),
            make,
        }
    }

    /// Returns the value, and makes it if that has not been done.
    ///
    /// # Blocking
    /// As [`OnceValue::get_or_init`] until there is a value; then it never parks.
    ///
    /// # Panics
    /// As [`OnceValue::get_or_init`].
    #[inline]
    pub fn force(this: &Self) -> &T {
        match this.value.try_get() {
            Some(value) => value,
            None => this.value.get_or_init(&this.make),
        }
    }
}

impl<T, F: Fn() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.try_get() {
            Some(value) => f.debug_tuple("LazyLock").field(value).finish(),
            None => f.write_str("LazyLock(<not made>)"),
        }
    }
}

/// Returns a value to wait for, and the one right to set it: who waits learns if that right is
/// dropped unused.
///
/// # Examples
/// ```
/// use sward_runtime::{spawn, sync::{Abandoned, promise}};
/// let (setter, value) = promise();
/// spawn(move || setter.set(7));
/// assert_eq!(value.get(), Ok(&7));
///
/// let (setter, value) = promise::<u8>();
/// drop(setter);
/// assert_eq!(value.get(), Err(Abandoned));
/// ```
pub fn promise<T>() -> (Setter<T>, Promise<T>) {
    let value = Arc::new(OnceValue::new());
    let setter = Setter {
        value: value.clone(),
    };
    (setter, Promise { value })
}

/// The one right to set the value of a [`promise`].
#[must_use = "dropped, it abandons its promise"]
pub struct Setter<T> {
    value: Arc<OnceValue<Option<T>>>,
}

/// A value to wait for, whose [`Setter`] somebody has; clones wait for the same value.
pub struct Promise<T> {
    value: Arc<OnceValue<Option<T>>>,
}

impl<T> Setter<T> {
    /// Sets the value and wakes all who wait for it.
    ///
    /// # Blocking
    /// Never parks.
    pub fn set(self, value: T) {
        // It is the only one that sets, and its drop comes after this.
        drop(self.value.set(Some(value)));
    }
}

impl<T> Drop for Setter<T> {
    fn drop(&mut self) {
        drop(self.value.set(None));
    }
}

impl<T> Promise<T> {
    /// Returns the value, waiting until it is set.
    ///
    /// # Blocking
    /// As [`OnceValue::get`].
    ///
    /// # Errors
    /// [`Abandoned`] if the setter was dropped, for instance since its task was killed.
    pub fn get(&self) -> Result<&T, Abandoned> {
        self.value.get().as_ref().ok_or(Abandoned)
    }

    /// As [`get`](Self::get), for at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] if nothing has happened by then.
    pub fn get_timeout(&self, limit: Duration) -> Result<Result<&T, Abandoned>, TimedOut> {
        let value = self.value.get_timeout(limit)?;
        Ok(value.as_ref().ok_or(Abandoned))
    }

    /// Returns the value if it is set, `None` if nothing has happened yet.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get(&self) -> Option<Result<&T, Abandoned>> {
        let value = self.value.try_get()?;
        Some(value.as_ref().ok_or(Abandoned))
    }
}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
        }
    }
}

impl<T> fmt::Debug for Setter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setter").finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise")
            .field("value", &self.try_get())
            .finish()
    }
}

/// The [`Setter`] of a [`promise`] was dropped without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the setter of the promise was dropped without setting a value")
    }
}

impl std::error::Error for Abandoned {}
