//! What a person can see of a runtime from outside: dump, counters, reports.

pub(crate) mod ask;
pub(crate) mod deadlock;
pub(crate) mod dump;
#[allow(unsafe_code)]
pub(crate) mod sigquit;
pub(crate) mod stall;
pub(crate) mod stats;
