//! Primitives between tasks, workers and ordinary threads: all `Send + Sync`, all first in,
//! first out, all on one wait queue (`wait_queue.rs`).

mod barrier;
pub mod broadcast;
pub mod channel;
mod condvar;
mod event;
mod exchange;
mod exchange_arm;
mod lines;
mod mutex;
mod once;
mod once_value;
mod order;
pub mod queue;
mod queue_error;
mod reentrant_mutex;
mod refusal;
mod rwlock;
pub(crate) mod select;
mod semaphore;
pub(crate) mod short_lock;
mod wait_group;
pub(crate) mod wait_queue;
pub mod watch;

pub use barrier::{Barrier, BarrierWaitResult};
pub use channel::{Receiver, Sender, bounded, rendezvous, unbounded};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::{Event, Waiting};
pub use lines::{Held, LineArm, Lines, LinesGuard, WaitError};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Abandoned, LazyLock, Once, Promise, Setter, promise};
pub use once_value::OnceValue;
pub use queue::{JoinableQueue, LifoQueue, PriorityQueue, Queue};
pub use reentrant_mutex::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use select::{Arm, ArmWaker, At, Slot, after, at};
pub use semaphore::{AcquireError, OwnedPermit, Permit, Semaphore};
pub use short_lock::{ShortGuard, ShortLock};
pub use wait_group::{WaitGroup, Working};
