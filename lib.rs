//! sward: green threads with built-in messaging.
//!
//! Code is written in blocking style; a call that would block parks the green thread (a *task*)
//! and lets others run. This crate is a facade: the scheduler is [`sward_runtime`], sockets and
//! message patterns have crates of their own.
//!
//! ```
//! use std::time::Duration;
//! use sward::{join_all, sleep, spawn};
//!
//! let tasks = (0..1000).map(|i| spawn(move || {
//!     sleep(Duration::from_millis(10));
//!     i
//! }));
//! let sum: u64 = join_all(tasks).into_iter().map(Result::unwrap).sum();
//! assert_eq!(sum, 499_500);
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "http")]
pub use sward_http as http;
pub use sward_mq as mq;
pub use sward_net as net;
pub use sward_runtime::*;

#[doc(hidden)]
pub use sward_runtime::__private;

// The blocks of these pages are tests: `cargo test --doc -p sward`.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("docs/async.md")]
struct AsyncPage;

#[cfg(doctest)]
#[doc = include_str!("docs/blocking.md")]
struct BlockingPage;

#[cfg(doctest)]
#[doc = include_str!("docs/caveats.md")]
struct CaveatsPage;

#[cfg(doctest)]
#[doc = include_str!("docs/generators.md")]
struct GeneratorsPage;

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("docs/http.md")]
struct HttpPage;

#[cfg(doctest)]
#[doc = include_str!("docs/io.md")]
struct IoPage;

#[cfg(doctest)]
#[doc = include_str!("docs/net.md")]
struct NetPage;

#[cfg(doctest)]
#[doc = include_str!("docs/observing.md")]
struct ObservingPage;

#[cfg(doctest)]
#[doc = include_str!("docs/processes.md")]
struct ProcessesPage;

#[cfg(doctest)]
#[doc = include_str!("docs/queues.md")]
struct QueuesPage;

#[cfg(doctest)]
#[doc = include_str!("docs/resolving.md")]
struct ResolvingPage;

#[cfg(doctest)]
#[doc = include_str!("docs/select.md")]
struct SelectPage;

#[cfg(doctest)]
#[doc = include_str!("docs/servers.md")]
struct ServersPage;

#[cfg(doctest)]
#[doc = include_str!("docs/structure.md")]
struct StructurePage;

#[cfg(doctest)]
#[doc = include_str!("docs/sync.md")]
struct SyncPage;

#[cfg(doctest)]
#[doc = include_str!("docs/tasks.md")]
struct TasksPage;

#[cfg(doctest)]
#[doc = include_str!("docs/time.md")]
struct TimePage;

#[cfg(doctest)]
#[doc = include_str!("docs/zeromq-guide.md")]
struct ZeromqGuidePage;
