//! Primitives between tasks, workers and ordinary threads: all `Send + Sync`, all first in,
//! first out, all on one wait queue (`wait_queue.rs`).

pub mod channel;
mod event;
mod mutex;
pub(crate) mod short_lock;
pub(crate) mod wait_queue;

pub use channel::{Receiver, Sender, bounded, rendezvous, unbounded};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use short_lock::{ShortGuard, ShortLock};
