//! Primitives between tasks, workers and ordinary threads: all `Send + Sync`, all first in,
//! first out, all on one wait queue (`wait_queue.rs`).

mod barrier;
pub mod channel;
mod condvar;
mod event;
mod mutex;
mod once;
mod once_value;
mod reentrant_mutex;
mod rwlock;
pub(crate) mod select;
mod semaphore;
pub(crate) mod short_lock;
mod wait_group;
pub(crate) mod wait_queue;

pub use barrier::{Barrier, BarrierWaitResult};
pub use channel::{Receiver, Sender, bounded, rendezvous, unbounded};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::{Event, Waiting};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Abandoned, LazyLock, Once, Promise, Setter, promise};
pub use once_value::OnceValue;
pub use reentrant_mutex::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use select::{Arm, ArmWaker, At, Slot, after, at};
pub use semaphore::{AcquireError, Permit, Semaphore};
pub use short_lock::{ShortGuard, ShortLock};
pub use wait_group::{WaitGroup, Working};
