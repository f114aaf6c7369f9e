//! The life of tasks: how they start, end, belong together, wait and are told of time. A file for each
//! behaviour, all in one program; see `sync/main.rs` for what may be in here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

#[path = "../common/mod.rs"]
mod common;

mod drop_order;
mod group;
mod hooks;
mod interval;
mod join;
mod local;
mod park;
mod pool;
mod scope;
mod spawn;
mod timeout;
mod token;
mod virtual_clock;
