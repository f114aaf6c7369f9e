//! What tests say to a virtual clock: stand still, move on.
//!
//! How it jumps by itself is in `hub/idle.rs`, what it is in `clock.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Clock};
use crate::hub::current;
use crate::hub::shared::{Outside, RuntimeShared};

/// Keeps the virtual clock of a runtime from jumping for as long as it lives.
///
/// For an ordinary thread that does something for a task: the runtime cannot see it, and would
/// go on to the next timer, as if the thread took for ever. Give it one of these, to be dropped
/// **after** it has woken the task. [`advance`] moves a clock that is held too.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{Runtime, hold_clock, sync::bounded};
/// Runtime::builder().virtual_clock().build()?.run(|| {
///     let (sender, receiver) = bounded(1);
///     let held = hold_clock();
///     std::thread::spawn(move || {
///         sender.send(7).unwrap();
///         drop(held);
///     });
///     assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Ok(7));
/// });
/// # std::io::Result::Ok(())
/// ```
#[must_use = "the clock goes on at once"]
pub struct HeldClock(Option<Outside>);

impl fmt::Debug for HeldClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldClock")
            .field("holds", &self.0.is_some())
            .finish()
    }
}

impl HeldClock {
    pub(crate) fn of(rt: &Arc<RuntimeShared>) -> Self {
        Self(Some(Outside::new(rt)))
    }
}

/// Keeps the virtual clock of the calling task's runtime from jumping; see [`HeldClock`]. On an
/// ordinary thread there is nothing to hold: call [`Runtime::hold_clock`](crate::Runtime) there.
pub fn hold_clock() -> HeldClock {
    HeldClock(current::hub().map(|hub| Outside::new(&hub.rt)))
}

/// Moves the virtual clock of the calling task's runtime on by `by`, and returns at once.
///
/// As if the task had computed for that long: it neither parks nor yields, and timers that come
/// due meanwhile fire when it next does, late. (To let time pass, [`sleep`](crate::sleep).)
///
/// # Panics
/// On a task of a runtime with a real clock, and outside of tasks.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{Runtime, advance, now};
/// Runtime::builder().virtual_clock().build()?.run(|| {
///     let begun = now();
///     advance(Duration::from_secs(60));
///     assert_eq!(now() - begun, Duration::from_secs(60));
/// });
/// # std::io::Result::Ok(())
/// ```
pub fn advance(by: Duration) {
    let Some(clock) = Clock::of_caller() else {
        panic!(
            "sward: advance on a real clock; build the runtime with \
             Runtime::builder().virtual_clock(), and call it in a task of that"
        );
    };
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    clock.move_on(clock::nanos(clock::now()).saturating_add(by));
}
