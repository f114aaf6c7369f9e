//! [`Peer`]: who sent a message, as the receiver sees it.

use std::fmt;
use std::sync::Arc;

use sward_zmtp::{Frame, PeerInfo, SocketType};

use crate::pipe;
use crate::session::Place;

/// Who sent a message, or wants a topic: what the peer said of itself, and where it is.
///
/// It is a snapshot, and stays readable when the peer has gone.
///
/// # Examples
/// ```
/// use sward_mq::{Pull, Push, SocketType};
/// let pull = Pull::bound("tcp://127.0.0.1:*")?;
/// let push = Push::connected(pull.last_endpoint().unwrap())?;
/// push.send("hello")?;
/// let (message, peer) = pull.recv_from()?;
/// assert_eq!(message.first(), "hello");
/// assert_eq!(peer.socket_type(), Some(SocketType::Push));
/// assert_eq!(peer.property("Peer-Address"), Some(&b"127.0.0.1"[..]));
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[derive(Clone)]
pub struct Peer {
    known: Option<Arc<pipe::Peer>>,
    routing_id: Option<Frame>,
    place: Place,
}

impl Peer {
    pub(crate) fn new(
        known: Option<Arc<pipe::Peer>>,
        routing_id: Option<Frame>,
        place: Place,
    ) -> Self {
        Self {
            known,
            routing_id,
            place,
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    fn info(&self) -> Option<&PeerInfo> {
        Some(&self.known.as_ref()?.info)
    }

    /// Returns the type of its socket; `None` if the peer did not say (ZMTP 1.0, STREAM).
    pub fn socket_type(&self) -> Option<SocketType> {
        self.info()?.socket_type()
    }

    /// Returns the identity that it gave itself (its option `routing_id`); empty if it has none.
    pub fn identity(&self) -> &[u8] {
        self.info().map_or(&[], |info| info.identity().as_slice())
    }

    /// Returns the routing id by which this socket knows it: its identity, or one that was made up.
    /// Only ROUTER, REP and STREAM sockets have them.
    pub fn routing_id(&self) -> Option<&Frame> {
        self.routing_id.as_ref()
    }

    /// Returns its IP address as text; empty if there is none (ipc, inproc).
    pub fn address(&self) -> &str {
        self.known.as_ref().map_or("", |peer| &peer.address)
    }

    /// Returns the endpoint of this socket over which it is connected.
    pub fn endpoint(&self) -> &str {
        self.known.as_ref().map_or("", |peer| &peer.endpoint)
    }

    /// Returns a property by its name (`zmq_msg_gets`): `Socket-Type`, `Identity` or `Routing-Id`,
    /// `Peer-Address`, `User-Id`, `Resource`, and what the peer's application has set
    /// ([`Options::metadata`](crate::Options::metadata), `X-...`). Letters may be of either case.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        let info = self.info()?;
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("Socket-Type") {
            return info.socket_type().map(|kind| kind.name().as_bytes());
        }
        if is("Identity") || is("Routing-Id") {
            return Some(info.identity().as_slice());
        }
        if is("Peer-Address") {
            let address = self.address();
            return (!address.is_empty()).then_some(address.as_bytes());
        }
        info.metadata().get(name)
    }
}

/// Equal are two of the same connection.
impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.known, &other.known) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => self.place == other.place,
            _ => false,
        }
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("socket_type", &self.socket_type())
            .field("routing_id", &self.routing_id)
            .field(
                "identity",
                &format_args!("{}", self.identity().escape_ascii()),
            )
            .field("address", &self.address())
            .field("endpoint", &self.endpoint())
            .finish()
    }
}
