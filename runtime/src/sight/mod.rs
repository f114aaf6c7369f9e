//! What a person can see of a runtime from outside: dump, counters, reports.

pub(crate) mod ask;
pub(crate) mod commands;
#[allow(clippy::disallowed_types)] // std's sockets: its threads are no workers
pub(crate) mod console;
pub(crate) mod deadlock;
pub(crate) mod dump;
pub(crate) mod json;
pub(crate) mod rows;
#[allow(unsafe_code)]
pub(crate) mod sample;
#[allow(unsafe_code)]
pub(crate) mod sigquit;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod symbols;
pub(crate) mod text;
