//! [`SocketType`]: the types of sockets, their names and numbers, and who may talk to whom.

use std::fmt;
use std::str::FromStr;

/// The type of a socket, which says what it does with messages and whom it may talk to.
///
/// # Examples
/// ```
/// use sward_zmtp::SocketType;
/// assert_eq!(SocketType::Dealer.name(), "DEALER");
/// assert!(SocketType::Push.accepts(SocketType::Pull));
/// assert!(!SocketType::Push.accepts(SocketType::Push));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum SocketType {
    Pair,
    Pub,
    Sub,
    Req,
    Rep,
    Dealer,
    Router,
    Pull,
    Push,
    XPub,
    XSub,
    /// Raw bytes over TCP: it has no place in ZMTP, and no peers there.
    Stream,
}

use SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Stream, Sub, XPub, XSub};

/// In the order of their numbers in ZMTP 2.0 (RFC 15) and in libzmq's `zmq.h`.
const ALL: [SocketType; 12] = [
    Pair, Pub, Sub, Req, Rep, Dealer, Router, Pull, Push, XPub, XSub, Stream,
];

impl SocketType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 12] = ALL;

    /// Returns the name as it stands in the property `Socket-Type`.
    pub const fn name(self) -> &'static str {
        match self {
            Pair => "PAIR",
            Pub => "PUB",
            Sub => "SUB",
            Req => "REQ",
            Rep => "REP",
            Dealer => "DEALER",
            Router => "ROUTER",
            Pull => "PULL",
            Push => "PUSH",
            XPub => "XPUB",
            XSub => "XSUB",
            Stream => "STREAM",
        }
    }

    /// Returns the type of this name, which is in capital letters; `None` if there is none.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        ALL.into_iter().find(|t| t.name().as_bytes() == name)
    }

    /// Returns the number that ZMTP 2.0 and `zmq.h` have for it.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the type of this number in ZMTP 2.0, which has none for STREAM.
    pub fn from_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number))
            .copied()
            .filter(|t| *t != Stream)
    }

    /// Returns whether a socket of this type may be connected with one of type `peer` (RFC 37,
    /// section "The Socket Type Property").
    pub const fn accepts(self, peer: Self) -> bool {
        match self {
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            Pub | XPub => matches!(peer, Sub | XSub),
            Sub | XSub => matches!(peer, Pub | XPub),
            Push => matches!(peer, Pull),
            Pull => matches!(peer, Push),
            Pair => matches!(peer, Pair),
            Stream => false,
        }
    }

    /// Whether it takes subscriptions from its peers.
    pub(crate) const fn publishes(self) -> bool {
        matches!(self, Pub | XPub)
    }

    /// Whether it tells its identity to its peers.
    pub(crate) const fn has_identity(self) -> bool {
        matches!(self, Req | Dealer | Router)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text is no name of a socket type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSocketType;

impl fmt::Display for UnknownSocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a socket type: use one of")?;
        ALL.iter().try_for_each(|t| write!(f, " {t}"))
    }
}

impl std::error::Error for UnknownSocketType {}

/// Capital and small letters are the same here.
impl FromStr for SocketType {
    type Err = UnknownSocketType;

    fn from_str(name: &str) -> Result<Self, UnknownSocketType> {
        Self::from_name(name.to_ascii_uppercase().as_bytes()).ok_or(UnknownSocketType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for (number, socket_type) in ALL.into_iter().enumerate() {
            assert_eq!(usize::from(socket_type.number()), number);
            assert_eq!(
                SocketType::from_name(socket_type.name().as_bytes()),
                Some(socket_type)
            );
            assert_eq!(
                socket_type.to_string().to_lowercase().parse(),
                Ok(socket_type)
            );
        }
        assert_eq!(SocketType::from_number(10), Some(XSub));
        assert_eq!(SocketType::from_number(11), None);
        assert_eq!(SocketType::from_name(b"pub"), None);
        assert_eq!(SocketType::from_name(b"PUB\0"), None);
        assert!("".parse::<SocketType>().is_err());
    }

    #[test]
    fn what_one_accepts_accepts_it_too() {
        for a in ALL {
            for b in ALL {
                assert_eq!(a.accepts(b), b.accepts(a), "{a} {b}");
            }
        }
    }
}
