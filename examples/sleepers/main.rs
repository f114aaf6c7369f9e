//! Puts N tasks to sleep at once, joins them all, and says what that took in time and memory.
//!
//! ```sh
//! cargo run --release --example sleepers -- --tasks 100000 --sleep 200ms
//! cargo run --release --example sleepers -- --tasks 10000 --threads
//! cargo run --release --example sleepers -- --table
//! cargo run --release --example sleepers -- --help
//! ```
//!
//! What is measured is in `tasks.rs`; `threads.rs` does the same with OS threads, `table.rs` runs
//! both at growing sizes. `docs/sleepers.md` says how to read the figures.

mod args;
mod memory;
mod progress;
mod report;
mod table;
mod tasks;
mod threads;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use args::{Command, Run};
use report::Outcome;

/// Why there is no result; the exit code depends on whose fault it is.
#[derive(Debug)]
enum Failure {
    /// What was asked for cannot be had: exit code 2.
    Usage(String),
    /// What was asked for did not work out here: exit code 1.
    Run(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Run(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::InvalidInput {
            Self::Usage(e.to_string())
        } else {
            Self::Run(e.to_string())
        }
    }
}

fn main() -> ExitCode {
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::HELP),
        Ok(Command::Run(run)) if run.threads => threads(&run),
        Ok(Command::Run(run)) => tasks(&run),
        Ok(Command::Table(options)) => table::print(&options),
        Err(text) => Err(Failure::Usage(format!(
            "{text}\nsleepers --help lists the arguments."
        ))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nowhere left to say that stderr is gone.
            let _ = writeln!(io::stderr(), "sleepers: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) {
                2
            } else {
                1
            })
        }
    }
}

fn tasks(run: &Run) -> Result<(), Failure> {
    let mut builder = sward::Runtime::builder();
    if let Some(n) = run.workers {
        builder = builder.workers(n);
    }
    if let Some(bytes) = run.stack_size {
        builder = builder.stack_size(bytes);
    }
    let runtime = builder.build()?;
    let outcome = tasks::measure(&runtime, run)?;
    // Before the end of the runtime, which unmaps all the stacks.
    show(run, &outcome)
}

fn threads(run: &Run) -> Result<(), Failure> {
    show(run, &threads::measure(run)?)
}

fn show(run: &Run, outcome: &Outcome) -> Result<(), Failure> {
    if let Some(note) = &outcome.note {
        let _ = writeln!(io::stderr(), "sleepers: {note}");
    }
    print(&if run.json {
        outcome.json()
    } else {
        outcome.block()
    })
}

/// Prints on stdout; an error where `println!` would panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has seen enough, as with `| head -1`.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::Run(format!("stdout: {e}"))),
        Ok(()) => Ok(()),
    }
}
