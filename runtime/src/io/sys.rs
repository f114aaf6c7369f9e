//! The system calls of this folder, each as a function without a pointer in it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// `-1` is an error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Sets `O_NONBLOCK`, if it is not set.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a command without a pointer.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        let flags = flags | libc::O_NONBLOCK;
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) })?;
    }
    Ok(())
}

/// Clears `O_NONBLOCK`.
pub(super) fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a command without a pointer.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = flags & !libc::O_NONBLOCK;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// `read(2)`.
pub(super) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the pointer and the length of one slice.
    let n = unsafe { libc::read(fd.as_raw_fd(), start, length) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// `write(2)`.
pub(super) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let (start, length) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the pointer and the length of one slice.
    let n = unsafe { libc::write(fd.as_raw_fd(), start, length) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// A descriptor on which every operation fails with `EBADF`; the process has one.
fn hollow() -> io::Result<&'static OwnedFd> {
    static HOLLOW: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = HOLLOW.get() {
        return Ok(fd);
    }
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // Nothing that anybody could use, were it passed to another process; not every root has it.
    // SAFETY: a path that ends in a zero.
    let null = check(unsafe { libc::open(c"/dev/null".as_ptr(), flags) });
    // SAFETY: as above.
    let root = |_| check(unsafe { libc::open(c"/".as_ptr(), flags) });
    let fd = null.or_else(root)?;
    // SAFETY: it was just opened, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(HOLLOW.get_or_init(|| fd))
}

/// Makes sure that [`hollow_out`] will not be short of a descriptor.
pub(super) fn prepare_hollow() {
    let _ = hollow();
}

/// Closes what `fd` leads to, and keeps the number taken.
pub(super) fn hollow_out(fd: RawFd) -> io::Result<()> {
    let hollow = hollow()?;
    loop {
        // SAFETY: numbers only; whoever owns `fd` goes on to own the number.
        match check(unsafe { libc::dup3(hollow.as_raw_fd(), fd, libc::O_CLOEXEC) }) {
            // EBUSY: a race with an `open` elsewhere that is about to be over.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            done => return done.map(drop),
        }
    }
}

/// `poll(2)` without waiting.
pub(super) fn poll_now(fds: &mut [libc::pollfd]) -> io::Result<usize> {
    loop {
        let n = fds.len() as libc::nfds_t;
        // SAFETY: the pointer and the length of one slice.
        match check(unsafe { libc::poll(fds.as_mut_ptr(), n, 0) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(|n| n as usize),
        }
    }
}

/// A counter that is readable while it is not 0.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointer.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: it was just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to an eventfd. Async-signal-safe.
pub(crate) fn ring(eventfd: RawFd) {
    let one = 1_u64;
    // SAFETY: eight bytes of a local. A number that is closed is an error, which means nothing.
    let _ = unsafe { libc::write(eventfd, (&raw const one).cast(), size_of::<u64>()) };
}

/// Sets an eventfd to 0.
pub(crate) fn silence(eventfd: BorrowedFd<'_>) -> io::Result<()> {
    match read(eventfd, &mut [0; 8]) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        done => done.map(drop),
    }
}

/// Process, user and group of the other end of a Unix stream; 0 for a process that is not visible
/// from here. (rustix's call has no value for that 0.)
pub fn peer_cred(socket: impl AsFd) -> io::Result<(i32, u32, u32)> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let value = (&raw mut cred).cast();
    // SAFETY: the pointers are to locals, and `size` is that of `cred`.
    check(unsafe { libc::getsockopt(fd, level, name, value, &raw mut size) })?;
    Ok((cred.pid, cred.uid, cred.gid))
}

/// Lets a socket use one network interface only (`SO_BINDTODEVICE`). (rustix has no such call.)
pub fn bind_to_device(socket: impl AsFd, interface: &str) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SO_BINDTODEVICE, interface.as_bytes())
}

/// Sets the priority of a socket's packets (`SO_PRIORITY`). (rustix has no such call.)
pub fn set_priority(socket: impl AsFd, priority: u32) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SO_PRIORITY, &priority.to_ne_bytes())
}

fn set_option(socket: BorrowedFd<'_>, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let size = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: the pointer is to a slice of this size, which the kernel only reads.
    check(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), size) }).map(drop)
}

/// An epoll instance of its own.
pub(super) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: no pointer.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: it was just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds `fd` to an epoll instance, for the events that `poll` calls by the same numbers.
pub(super) fn epoll_add(epoll: &OwnedFd, fd: RawFd, events: libc::c_short) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: events as u16 as u32,
        u64: 0,
    };
    let (epoll, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: `event` outlives the call.
    check(unsafe { libc::epoll_ctl(epoll, add, fd, &raw mut event) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_types,
        reason = "any socket will do, and nothing waits for it"
    )]
    fn options_of_sockets() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        set_priority(&socket, 5).unwrap();
        let (mut priority, mut size) = (0i32, 4);
        let (fd, level, name) = (socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY);
        let (value, length) = ((&raw mut priority).cast(), &raw mut size);
        // SAFETY: the pointers are to locals, and `size` is that of `priority`.
        check(unsafe { libc::getsockopt(fd, level, name, value, length) }).unwrap();
        assert_eq!(priority, 5);
        let e = bind_to_device(&socket, "no-such-device").unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ENODEV));
        // A name that is longer than there may be is cut off by the kernel, not read past its end.
        assert!(bind_to_device(&socket, &"x".repeat(4096)).is_err());
    }
}
