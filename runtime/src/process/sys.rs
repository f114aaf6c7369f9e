//! The system calls of this folder, each as a function without a pointer in it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// A descriptor for the process with that number; `CLOEXEC`, as the kernel makes it.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the kernel has descriptors for processes; asked once, before the first child starts.
pub(super) fn look_for_pidfd() -> io::Result<()> {
    static THERE: OnceLock<()> = OnceLock::new();
    if THERE.get().is_none() {
        // Descriptors may be short now, which says nothing of the kernel.
        pidfd_open(std::process::id())?;
        THERE.get_or_init(|| ());
    }
    Ok(())
}

/// Sends a signal to the process that the descriptor is for, and to no other.
pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    let (call, pidfd) = (libc::SYS_pidfd_send_signal, pidfd.as_raw_fd());
    // SAFETY: a null pointer means: as `kill` would have it.
    match unsafe { libc::syscall(call, pidfd, signal, info, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to a process group.
pub(super) fn kill_group(leader: u32, signal: i32) -> io::Result<()> {
    // SAFETY: numbers only.
    match unsafe { libc::kill(-(leader as libc::pid_t), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `poll(2)`, for the reaper's thread: blocks it, for ever if `millis` is negative.
pub(super) fn poll(fds: &mut [libc::pollfd], millis: i32) -> io::Result<()> {
    let n = fds.len() as libc::nfds_t;
    // SAFETY: the pointer and the length of one slice.
    match unsafe { libc::poll(fds.as_mut_ptr(), n, millis) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
