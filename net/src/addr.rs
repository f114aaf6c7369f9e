//! [`ToSocketAddrs`]: what can be turned into addresses without blocking a worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{array, iter, option, slice, vec};

use crate::resolver::lookup_host;

/// What can be turned into socket addresses: std's trait of this name, for the same types, arrays
/// and vectors.
///
/// Numeric addresses need no wait. A host name is looked up by the system's resolver on a thread
/// of its own, while the task parks; see [`lookup_host`].
///
/// # Examples
/// ```
/// use sward_net::ToSocketAddrs;
/// let mut addresses = "localhost:443".to_socket_addrs()?;
/// assert_eq!(addresses.next().map(|a| (a.ip().is_loopback(), a.port())), Some((true, 443)));
/// let scoped = "[fe80::1%lo]:80".to_socket_addrs()?.next();
/// assert_eq!(scoped, Some("[fe80::1%1]:80".parse().unwrap()));
/// assert!("localhost".to_socket_addrs().is_err()); // there is no port
/// # std::io::Result::Ok(())
/// ```
pub trait ToSocketAddrs {
    /// The addresses, in the order in which they should be tried.
    type Iter: Iterator<Item = SocketAddr>;

    /// Returns the addresses.
    ///
    /// # Blocking
    /// As [`lookup_host`], for a host name; otherwise it never parks.
    ///
    /// # Errors
    /// When the text is no address (`InvalidInput`), or the name cannot be resolved.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

/// For what is one address.
macro_rules! one {
    ($($Type:ty),*) => {$(
        impl ToSocketAddrs for $Type {
            type Iter = option::IntoIter<SocketAddr>;
            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                Ok(Some((*self).into()).into_iter())
            }
        }
    )*};
}

one!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(lookup_host(self.0, self.1)?.into_iter())
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (&*self.0, self.1).to_socket_addrs()
    }
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address].into_iter());
        }
        let wrong = |what| {
            let text = format!("{what} in the address {self:?}: HOST:PORT is wanted");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (host, port) = self
            .rsplit_once(':')
            .ok_or_else(|| wrong("there is no port"))?;
        let port = port.parse().map_err(|_| wrong("the port is no number"))?;
        (host, port).to_socket_addrs()
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Copied<slice::Iter<'a, SocketAddr>>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().copied())
    }
}

impl<const N: usize> ToSocketAddrs for [SocketAddr; N] {
    type Iter = array::IntoIter<SocketAddr, N>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok((*self).into_iter())
    }
}

impl ToSocketAddrs for Vec<SocketAddr> {
    type Iter = vec::IntoIter<SocketAddr>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.clone().into_iter())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}
