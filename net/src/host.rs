//! Hosts as they are written: numeric addresses, and names that may be looked up.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// What DNS allows, without a dot at the end (RFC 1035 section 2.3.4, as text).
const LONGEST: usize = 253;

/// The name as it is looked up.
pub(crate) fn checked(host: &str) -> io::Result<Arc<str>> {
    let wrong = |what: &str| {
        let shown: String = host.chars().take(60).collect();
        let text = format!("{shown:?} is no host name: {what}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    // With the dot it is another name: the system does not try it in the domains of its search list.
    let bare = host.strip_suffix('.').unwrap_or(host);
    if bare.is_empty() {
        return wrong("it is empty");
    }
    if bare.len() > LONGEST {
        return wrong("it has more than 253 bytes");
    }
    if bare.contains('\0') {
        return wrong("there is a NUL byte in it");
    }
    if bare.contains(['[', ']']) {
        return wrong("brackets are for IPv6 addresses");
    }
    Ok(host.to_ascii_lowercase().into())
}

/// The address, if the host is one.
pub(crate) fn numeric(host: &str, port: u16) -> io::Result<Option<SocketAddr>> {
    // As in a URL.
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Ok(ip) = inner.unwrap_or(host).parse::<IpAddr>()
        && (inner.is_none() || ip.is_ipv6())
    {
        return Ok(Some(SocketAddr::new(ip, port)));
    }
    let Some((ip, scope)) = inner.unwrap_or(host).split_once('%') else {
        return Ok(None);
    };
    let Ok(ip) = ip.parse::<Ipv6Addr>() else {
        return Ok(None);
    };
    let index = match scope.parse() {
        Ok(index) => index,
        Err(_) => interface(scope).map_err(|e| {
            let text = format!("no network interface '{scope}' for the address {ip}: {e}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?,
    };
    Ok(Some(SocketAddrV6::new(ip, port, 0, index).into()))
}

/// The number of a network interface.
fn interface(name: &str) -> io::Result<u32> {
    // Any socket will do to ask the kernel.
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    Ok(name_to_index(socket, name)?)
}
