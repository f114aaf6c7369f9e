//! The scheduler of [sward](https://docs.rs/sward): stackful tasks on a mio reactor.
//!
//! A *task* is a green thread with a stack of its own. Code in it is written in blocking style; a
//! call that would block parks the task and lets others of its worker run. A *worker* is an OS
//! thread that runs tasks; a task that has started stays on its worker.
//!
//! ```
//! use std::time::Duration;
//! use sward_runtime::{join_all, sleep, spawn};
//!
//! let tasks = (0..1000).map(|i| spawn(move || {
//!     sleep(Duration::from_millis(10));
//!     i
//! }));
//! let sum: u64 = join_all(tasks).into_iter().map(Result::unwrap).sum();
//! assert_eq!(sum, 499_500);
//! ```
#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(panic = "abort")]
compile_error!("sward needs panic = \"unwind\": a kill and a time-out unwind the task");

#[cfg(not(target_os = "linux"))]
compile_error!("sward runs on Linux only");

#[allow(unsafe_code)]
mod at_fork;
mod block_on;
mod blocking;
mod cancel;
mod clock;
mod config;
mod error;
#[allow(unsafe_code)]
mod fiber;
#[allow(unsafe_code)]
mod fork;
pub mod fs;
#[allow(unsafe_code)]
mod generator;
#[allow(unsafe_code)]
mod hub;
mod interval;
pub mod io;
mod join;
mod join_future;
mod lend;
mod macros;
#[allow(unsafe_code)]
mod membarrier;
mod park;
#[allow(unsafe_code)]
mod primitive;
pub mod process;
mod registry;
mod report;
#[allow(unsafe_code)]
mod runtime;
mod runtime_builder;
mod sight;
#[allow(unsafe_code)]
pub mod signal;
#[allow(unsafe_code)]
mod spawn;
mod structure;
#[allow(unsafe_code)]
pub mod sync;
mod task;
mod testing;
mod thread;
mod time;
mod unwinding;
mod virtual_clock;
mod wait_name;
mod wait_reason;

pub use block_on::block_on;
pub use blocking::{BlockingPool, blocking, spawn_blocking};
pub use cancel::{defer, on_switch, shield, without_parking};
pub use config::OnDeadlock;
pub use error::{Cancelled, JoinError, TimedOut};
pub use fiber::stack::StackCensus;
pub use generator::{Generator, Yielder};
pub use hub::extras::Exit;
pub use hub::question::TaskState;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use join::{Ending, JoinHandle, LocalJoinHandle, join_all, join_all_timeout, try_join_all};
pub use join_future::JoinFuture;
pub use lend::on_worker_stack;
pub use park::{park, park_deadline, park_timeout, yield_now};
pub use runtime::{Runtime, at_exit, run, worker, workers};
pub use runtime_builder::RuntimeBuilder;
pub use sight::dump::{Dump, DumpOptions, DumpedTask, dump, dump_with};
pub use sight::stall::Stall;
pub use sight::stats::{Histogram, Stats, stack_census, stats};
pub use sight::symbols::{TaskBacktrace, TaskFrame};
pub use spawn::{Builder, spawn, spawn_after, spawn_local};
pub use structure::completion::{
    Completed, TaskEnd, as_completed, kill_all, kill_all_timeout, wait_any, wait_n,
};
pub use structure::group::{Group, MemberFailed};
pub use structure::imap::{Imap, ImapUnordered};
pub use structure::local::{AccessError, LocalKey};
pub use structure::pool::{Pool, PoolFull};
pub use structure::scope::{Scope, ScopedJoinHandle, scope};
pub use structure::token::CancelToken;
pub use sward_macros::{main, test};
pub use task::{Task, current};
pub use time::{now, remaining, sleep, sleep_until, timeout, timeout_at};
pub use virtual_clock::{HeldClock, advance, hold_clock};
pub use wait_name::{Describe, WaitName};
pub use wait_reason::{WaitKind, WaitReason};

/// What the macros expand to, and the sockets need; not for direct use.
#[doc(hidden)]
pub mod __private {
    pub use crate::at_fork::{Global, hold_at_fork};
    pub use crate::fork::Epoch;
    pub use crate::io::sys::{bind_to_device, peer_cred, set_priority};
    pub use crate::sync::select::{AnyArm, Tried, select_any};
    pub use crate::testing::{builder_error, test_body};
    pub use crate::thread::start as start_thread;
}
