//! Sockets as the kernel makes them: created, bound, listening, connected. All are non-blocking and
//! closed in a child process from their first moment.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, connect, socket_with,
    sockopt,
};
use sward_runtime::io::exhausted;

use crate::fault;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A new socket for addresses like this one.
pub(crate) fn new(like: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match like {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    socket_with(family, kind, FLAGS, None).map_err(|e| exhausted("a socket", e.into()))
}

/// The next connection and its other end, or `WouldBlock`: one system call.
#[inline]
pub(crate) fn accept_from(listener: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    acceptfrom_with(listener, FLAGS).map_err(|e| match e {
        Errno::AGAIN | Errno::INTR => e.into(),
        _ => exhausted("a connection", e.into()),
    })
}

/// The next connection, or `WouldBlock`, where its other end has no address of use.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    accept_from(listener).map(|(fd, _)| fd)
}

/// Begins to connect, or asks how it goes: `WouldBlock` means that it goes on.
///
/// Linux says of a connection under way that it is under way, then that it is made (or why it is
/// not) once, so the same call does for both: no `SO_ERROR`, no `getpeername`.
pub(crate) fn connect_step(socket: impl AsFd, address: &SocketAddr) -> io::Result<()> {
    match connect(socket, address) {
        Ok(()) | Err(Errno::ISCONN) => Ok(()),
        Err(Errno::INPROGRESS | Errno::ALREADY) => Err(io::ErrorKind::WouldBlock.into()),
        // The same number as WouldBlock, but not its meaning.
        Err(Errno::AGAIN) => Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            "the kernel has no route or port to spare (EAGAIN)",
        )),
        Err(e) => Err(e.into()),
    }
}

/// Sets how many routers a packet may pass, for both families if it may speak both.
pub(crate) fn set_ttl(socket: impl AsFd, ttl: u32) -> io::Result<()> {
    let socket = socket.as_fd();
    if !(1..=255).contains(&ttl) {
        return Err(fault::invalid(format!("a TTL is 1 to 255, not {ttl}")));
    }
    if sockopt::socket_domain(socket)? == AddressFamily::INET6 {
        let hops = u8::try_from(ttl).map_err(|_| Errno::INVAL)?;
        sockopt::set_ipv6_unicast_hops(socket, Some(hops))?;
    }
    Ok(sockopt::set_ip_ttl(socket, ttl)?)
}
