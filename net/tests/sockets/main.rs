//! The sockets themselves, beside std's. A file for each kind, all in one program, because each program
//! of its own takes seconds to build; see `runtime/tests/sync/main.rs` for what may be in here.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::unused_io_amount
)]

#[path = "../common/mod.rs"]
mod common;

mod as_std;
mod datagram_server;
mod same_as_std;
mod tcp;
mod udp;
mod unix;
