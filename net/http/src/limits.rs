//! [`Limits`]: what a server puts up with, with the defaults.

use std::time::Duration;

use crate::head::HeadLimits;

/// Of an unread request body, a server reads so much on its own account to keep the connection.
pub(crate) const DRAIN: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head: HeadLimits,
    pub(crate) body: u64,
    pub(crate) head_time: Duration,
    pub(crate) idle_time: Duration,
    pub(crate) body_time: Duration,
    pub(crate) write_time: Duration,
    /// Requests on one connection.
    pub(crate) requests: u64,
    /// The least time between two requests of a connection, and how many may come at once.
    pub(crate) rate: Option<Rate>,
    pub(crate) coalesce: bool,
    pub(crate) with_peer: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) apart: Duration,
    pub(crate) burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits {
                bytes: 16 * 1024,
                fields: 100,
            },
            body: u64::MAX,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            requests: u64::MAX,
            rate: None,
            coalesce: false,
            with_peer: false,
        }
    }
}
