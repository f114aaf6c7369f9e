//! What tasks meet at: locks, events, channels, queues, `select!`. A file for each, all in one
//! program, because each program of its own takes seconds to build.
//!
//! A test in here has runtimes of its own, counts nothing of the process, and starts no child: what
//! needs a process for itself is a program of its own beside this directory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../storm/mod.rs"]
mod storm;

mod barrier;
mod broadcast;
mod channel;
mod channel_go;
mod completion;
mod condvar;
mod event;
mod mutex;
mod once;
mod queue;
mod reentrant;
mod rwlock;
mod select;
mod semaphore;
mod watch;
