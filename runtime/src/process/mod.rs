//! Child processes: [`Command`] starts them, [`Child`] is one with its streams, [`Process`] one to
//! wait for and to send signals to.
//!
//! The names are std's, and so is what they do; a wait parks the task instead of blocking the
//! worker. All of it works in tasks and on ordinary threads. The page `docs/processes.md` is the
//! guide.

mod child;
mod command;
#[expect(clippy::module_inception, reason = "the file of the type Process")]
mod process;
mod reaper;
#[allow(unsafe_code)]
mod sys;

pub use std::process::{ExitStatus, Output, Stdio};

pub use self::child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use self::command::{Command, Failed};
pub use self::process::Process;
