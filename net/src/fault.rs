//! The errors of this crate: `io::Error`s whose text says what happened to which address, and what
//! to do where that is known.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

use rustix::io::Errno;

/// What could not be done, and why.
#[derive(Debug)]
struct At {
    text: String,
    cause: io::Error,
}

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.text, self.cause)
    }
}

impl Error for At {
    /// The error of the system call, which has the number.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// Says what was done to which address when it failed: `at("connect to", address, e)`. Keeps the
/// kind.
#[cold]
pub(crate) fn at(what: &str, address: impl Display, cause: io::Error) -> io::Error {
    let text = format!("cannot {what} {address}");
    io::Error::new(cause.kind(), At { text, cause })
}

/// As [`at`] for listening and binding, where the usual reasons have a remedy.
#[cold]
pub(crate) fn bind(what: &str, address: impl Display, e: io::Error) -> io::Error {
    let remedy = match Errno::from_io_error(&e) {
        Some(Errno::ADDRINUSE) => "; another socket has it (`ss -lnp` says whose)",
        Some(Errno::ADDRNOTAVAIL) => "; no interface of this machine has this address",
        Some(Errno::ACCESS) => "; low ports need CAP_NET_BIND_SERVICE",
        _ => return at(what, address, e),
    };
    at(
        what,
        address,
        io::Error::new(e.kind(), format!("{e}{remedy}")),
    )
}

/// A wrong argument.
#[cold]
pub(crate) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// There was nothing to connect to or to listen on.
#[cold]
pub(crate) fn no_address() -> io::Error {
    invalid("there is no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_can_be_found() {
        let e = at("connect to", "[::1]:80", Errno::CONNREFUSED.into());
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        let text = "cannot connect to [::1]:80: Connection refused (os error 111)";
        assert_eq!(e.to_string(), text);
        let At { cause, .. } = e.get_ref().unwrap().downcast_ref().unwrap();
        assert_eq!(cause.raw_os_error(), Some(111));
    }

    #[test]
    fn remedies() {
        let e = bind("listen on", "[::1]:80", Errno::ACCESS.into());
        assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
        assert!(e.to_string().contains("CAP_NET_BIND_SERVICE"), "{e}");
    }
}
