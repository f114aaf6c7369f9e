//! `SIGQUIT` (ctrl-\) prints the dump, where the builder or `SWARD_SIGQUIT=1` asks for it.
//!
//! The handler only writes a byte to a pipe; a thread of its own reads it and asks the workers.

use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use crate::registry;
use crate::report;
use crate::sight::dump::{self, DumpOptions};

static PIPE: AtomicI32 = AtomicI32::new(-1);

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
    // Both live as long as the process: the handler may write at any time.
    PIPE.store(writer.into_raw_fd(), Relaxed);
    let thread = std::thread::Builder::new().name("sward-sigquit".into());
    thread.spawn(move || {
        let mut byte = [0];
        while reader.read_exact(&mut byte).is_ok() {
            print();
        }
    })?;
    install()
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

fn install() -> io::Result<()> {
    extern "C" fn on_signal(_: libc::c_int) {
        let fd = PIPE.load(Relaxed);
        // SAFETY: write is async-signal-safe; one byte from a live local.
        unsafe { libc::write(fd, [0u8].as_ptr().cast(), 1) };
    }
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: all zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a valid sigaction whose handler is async-signal-safe.
    if unsafe { libc::sigaction(libc::SIGQUIT, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
