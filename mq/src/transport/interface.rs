//! The addresses of this machine's network interfaces, asked from the kernel by netlink (`man 7
//! rtnetlink`): one request for all addresses, whose answer is there at once.
//!
//! Rejected: `getifaddrs`, which is the same as a library call and needs unsafe code or a crate;
//! `/proc/net`, which has no list of IPv4 addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use sward_runtime::io::exhausted;

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_addr.h>
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST_AND_DUMP: u16 = 0x301;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Two hosts have it (`IFA_F_DADFAILED`), or it is not known yet whether they do
/// (`IFA_F_TENTATIVE`): it cannot be bound.
const UNUSABLE: u8 = 0x08 | 0x40;
const HEAD: usize = 16;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterfaceAddress {
    pub(super) ip: IpAddr,
    /// The number of the interface.
    pub(super) index: u32,
}

/// Returns the number of an interface; `None` if there is none of that name.
pub(super) fn index(name: &str) -> io::Result<Option<u32>> {
    // Any socket will do to ask the kernel.
    let socket = open(AddressFamily::UNIX, SocketType::DGRAM)?;
    match name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Returns the addresses of an interface, IPv4 first; none if there is no such interface.
pub(super) fn addresses(name: &str) -> io::Result<Vec<InterfaceAddress>> {
    let Some(index) = index(name)? else {
        return Ok(Vec::new());
    };
    let mut all = dump()?;
    all.retain(|address| address.index == index);
    // Addresses that mean something elsewhere come before those of the link.
    all.sort_by_key(|address| match address.ip {
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => 1,
        IpAddr::V6(_) => 2,
    });
    Ok(all)
}

fn open(family: AddressFamily, kind: SocketType) -> io::Result<impl AsFd> {
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(|e| exhausted("a socket", e.into()))
}

/// The addresses of all interfaces.
fn dump() -> io::Result<Vec<InterfaceAddress>> {
    let socket = open(AddressFamily::NETLINK, SocketType::RAW)?;
    // A head, and an `ifaddrmsg` that says "of any family" by zeros.
    let mut request = [0; HEAD + 8];
    request[..4].copy_from_slice(&(HEAD as u32 + 8).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_AND_DUMP.to_ne_bytes());
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request, SendFlags::empty(), &kernel)?;
    let mut found = Vec::new();
    // The kernel fills at most 32 KiB at a time.
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (n, _) = match recv(&socket, &mut buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            got => got?,
        };
        if n == 0 || read_messages(&buffer[..n], &mut found)? {
            return Ok(found);
        }
    }
}

/// Reads messages of an answer; `true`: it is complete.
fn read_messages(mut bytes: &[u8], found: &mut Vec<InterfaceAddress>) -> io::Result<bool> {
    while let (Some(size), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let size = size as usize;
        let Some(body) = bytes.get(HEAD..size) else {
            break;
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let number = u32_at(body, 0).map_or(0, |n| n.cast_signed());
                return Err(io::Error::from_raw_os_error(number.wrapping_neg()));
            }
            RTM_NEWADDR => found.extend(address(body)),
            _ => {}
        }
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The address of an `ifaddrmsg` and its attributes.
fn address(body: &[u8]) -> Option<InterfaceAddress> {
    let flags = *body.get(2)?;
    let index = u32_at(body, 4)?;
    let mut attributes = body.get(8..)?;
    let (mut address, mut local) = (None, None);
    while let (Some(size), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let size = usize::from(size);
        let Some(value) = attributes.get(4..size) else {
            break;
        };
        match kind {
            IFA_ADDRESS => address = ip(value),
            // Where the two differ, the other is the far end of a line.
            IFA_LOCAL => local = ip(value),
            _ => {}
        }
        attributes = attributes
            .get(size.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    let ip = local.or(address)?;
    (flags & UNUSABLE == 0).then_some(InterfaceAddress { ip, index })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(value)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).into())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*two))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_its_address() {
        let lo = addresses("lo").unwrap();
        assert_eq!(lo[0].ip, Ipv4Addr::LOCALHOST);
        assert_eq!(Some(lo[0].index), index("lo").unwrap());
        assert_eq!(addresses("no-such").unwrap(), []);
    }

    #[test]
    fn answers_that_are_cut_off_do_no_harm() {
        let mut whole = Vec::new();
        // One address of interface 7, 10.0.0.1, and the end.
        for word in [16 + 8 + 8, u32::from(RTM_NEWADDR), 0, 0, 2, 7] {
            whole.extend(word.to_ne_bytes());
        }
        whole.extend([8u16, IFA_LOCAL].map(u16::to_ne_bytes).concat());
        whole.extend([10, 0, 0, 1]);
        let one = InterfaceAddress {
            ip: Ipv4Addr::new(10, 0, 0, 1).into(),
            index: 7,
        };
        for n in 0..=whole.len() {
            let mut found = Vec::new();
            assert!(!read_messages(&whole[..n], &mut found).unwrap());
            assert_eq!(found, if n == whole.len() { vec![one] } else { vec![] });
        }
        // A message of no length must not be read for ever.
        assert!(!read_messages(&[0; 64], &mut Vec::new()).unwrap());
        let mut error = Vec::new();
        for word in [20, u32::from(NLMSG_ERROR), 0, 0, 1u32.wrapping_neg()] {
            error.extend(word.to_ne_bytes());
        }
        let e = read_messages(&error, &mut Vec::new()).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(1));
    }
}
