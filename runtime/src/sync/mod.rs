//! Primitives between tasks, workers and ordinary threads: all `Send + Sync`, all first in,
//! first out, all on one wait queue (`wait_queue.rs`).

pub mod channel;
mod event;
mod mutex;
pub(crate) mod select;
pub(crate) mod short_lock;
pub(crate) mod wait_queue;

pub use channel::{Receiver, Sender, bounded, rendezvous, unbounded};
pub use event::{Event, Waiting};
pub use mutex::{Mutex, MutexGuard};
pub use select::{Arm, ArmWaker, At, Slot, after, at};
pub use short_lock::{ShortGuard, ShortLock};
