//! A task's use of its worker's stack.

use std::cell::Cell;

use crate::hub::current::{self, Caller};

/// Runs `f` on the worker's own stack, for code that needs a deep one.
///
/// The worker's stack has 4 MiB. `f` must not park.
/// On an ordinary thread it only calls `f`.
///
/// # Panics
/// At a park inside `f`; a panic of `f` passes through.
///
/// # Examples
/// ```
/// let sum = sward_runtime::run(|| {
///     sward_runtime::on_worker_stack(|| {
///         let big = std::hint::black_box([1u8; 1 << 20]);
///         big.iter().map(|&b| u64::from(b)).sum::<u64>()
///     })
/// });
/// assert_eq!(sum, 1 << 20);
/// ```
pub fn on_worker_stack<T>(f: impl FnOnce() -> T) -> T {
    /// Not inlined: `f`'s frame must not become part of the caller's, which is on the task's stack.
    #[inline(never)]
    fn call<T>(f: impl FnOnce() -> T) -> T {
        f()
    }
    match current::caller() {
        Caller::Task(hub, fiber) => {
            let control = fiber.header();
            if control.on_worker_stack.get() {
                return call(f);
            }
            struct Back<'a>(&'a Cell<bool>);
            impl Drop for Back<'_> {
                fn drop(&mut self) {
                    self.0.set(false);
                }
            }
            control.on_worker_stack.set(true);
            let _back = Back(&control.on_worker_stack);
            control.forbid_parks(|| hub.on_worker_stack(fiber, f))
        }
        Caller::Hub(_) | Caller::Thread => call(f),
    }
}
