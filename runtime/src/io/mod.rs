//! Descriptors: waiting for them without blocking the worker.
//!
//! [`Source`] is a descriptor of your own, whose operations park the task; [`wait_readable`],
//! [`wait_writable`] and [`poll`] wait for descriptors that belong to others; a [`Driver`] is an
//! object that its worker calls when its descriptor is ready, without a task. All of them work in
//! tasks and on ordinary threads. The page `docs/io.md` is the guide.

mod arm;
pub(crate) mod driver;
mod entry;
pub(crate) mod fault;
mod patience;
mod pipe;
mod readiness;
#[allow(unsafe_code)]
mod safe;
mod source;
mod stdio;
#[allow(unsafe_code)]
pub(crate) mod sys;
mod wait;

pub use self::arm::{Doing, Readiness};
pub use self::driver::{Driver, DriverHandle, Next, drive};
pub use self::entry::Direction;
pub use self::fault::{Closed, exhausted, is_closed, is_exhausted};
pub use self::patience::Patience;
pub use self::pipe::{PipeReader, PipeWriter, pipe};
pub use self::safe::IoSafe;
pub use self::source::{Limit, Source};
pub use self::stdio::{Stderr, Stdin, StdinLock, Stdout, stderr, stdin, stdout};
pub use self::wait::{PollFd, poll, wait_readable, wait_writable};
pub use crate::hub::poller::Ready;
