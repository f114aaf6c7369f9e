//! `SIGQUIT` (ctrl-\) prints the dump, where the builder or `SWARD_SIGQUIT=1` asks for it.
//!
//! The handler only writes a byte to a pipe; a thread of its own reads it and asks the workers.
//! Other handlers of the program are called as before.

use std::io::{self, Read};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::registry;
use crate::report;
use crate::sight::dump::{self, DumpOptions};

/// Makes SIGQUIT print the dumps of the runtimes that asked for it.
pub(crate) fn enable() -> io::Result<()> {
    static ENABLED: AtomicBool = AtomicBool::new(false);
    if ENABLED.swap(true, Relaxed) {
        return Ok(());
    }
    set_up().inspect_err(|_| ENABLED.store(false, Relaxed))
}

fn set_up() -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    let thread = std::thread::Builder::new().name("sward-sigquit".into());
    crate::thread::start(thread, move || {
        let mut byte = [0];
        while reader.read_exact(&mut byte).is_ok() {
            print();
        }
    })?;
    // It lives as long as the process: the handler may write at any time.
    install(writer.into_raw_fd())
}

fn print() {
    for rt in registry::all() {
        if rt.config.sigquit {
            report::text(&format!(
                "sward: SIGQUIT, {}",
                dump::headed(&rt, DumpOptions::new().backtraces(true))
            ));
        }
    }
}

fn install(pipe: RawFd) -> io::Result<()> {
    let action = move || {
        // SAFETY: write is async-signal-safe; one byte from a live local.
        unsafe { libc::write(pipe, [0u8].as_ptr().cast(), 1) };
    };
    // SAFETY: the action does one async-signal-safe call.
    unsafe { signal_hook_registry::register(libc::SIGQUIT, action) }.map(drop)
}
