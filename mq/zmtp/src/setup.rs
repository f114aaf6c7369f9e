//! [`Setup`]: what all connections of a socket have in common.

use std::time::Duration;

use crate::frame::Frame;
use crate::heartbeat::Heartbeat;
use crate::limits::Limits;
use crate::metadata;
use crate::socket_type::SocketType;

/// What all connections of a socket have in common, shared by them in an `Arc`.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The type of our socket.
    pub socket_type: SocketType,
    /// The identity of our socket (`ZMQ_ROUTING_ID`), as [`is_identity`](crate::is_identity)
    /// allows; empty for none. It is told by REQ, DEALER and ROUTER only. One that is not allowed
    /// is not sent.
    pub identity: Frame,
    /// Further properties of our handshake (`ZMQ_METADATA`): names that begin with `X-`. Those
    /// whose names [`is_property_name`](crate::is_property_name) does not allow are not sent.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// The security mechanism, which must be the same at both ends.
    pub mechanism: MechanismConfig,
    /// Our role in a mechanism that has roles; NULL has none.
    pub as_server: bool,
    /// What the peer may send.
    pub limits: Limits,
    /// Heartbeats; `None` sends none, and still answers the peer's.
    pub heartbeat: Option<Heartbeat>,
    /// The handshake must be complete after this time (`ZMQ_HANDSHAKE_IVL`); `None` waits for ever.
    pub handshake_interval: Option<Duration>,
    /// Talk to peers of ZMTP 1.0 and 2.0 too. With a mechanism other than NULL they are refused in
    /// any case: they would get round it.
    ///
    /// It makes the handshake one round trip longer, because the first bytes must then be such
    /// that all versions understand them.
    pub allow_old_peers: bool,
}

/// A security mechanism, with what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MechanismConfig {
    /// None: everybody may connect, nothing is encrypted (RFC 37, section "The NULL Security
    /// Mechanism").
    #[default]
    Null,
}

impl MechanismConfig {
    /// Returns the name as it stands in the greeting.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
        }
    }

    /// Whether one end is a server; if not, as-server is 0 (RFC 37, section "Greeting").
    pub(crate) const fn has_roles(&self) -> bool {
        match self {
            Self::Null => false,
        }
    }
}

impl Setup {
    /// Returns the defaults for a socket of this type: no identity, NULL, a handshake of 30
    /// seconds at most, no heartbeats, no old peers.
    pub fn new(socket_type: SocketType) -> Self {
        Self {
            socket_type,
            identity: Frame::empty(),
            metadata: Vec::new(),
            mechanism: MechanismConfig::Null,
            as_server: false,
            limits: Limits::DEFAULT,
            heartbeat: None,
            handshake_interval: Some(Duration::from_secs(30)),
            allow_old_peers: false,
        }
    }

    /// Whether old peers are let in.
    pub(crate) fn lets_old_in(&self) -> bool {
        self.allow_old_peers && self.mechanism == MechanismConfig::Null
    }

    /// Our identity as it is sent.
    pub(crate) fn wire_identity(&self) -> &[u8] {
        let identity = self.identity.as_slice();
        if metadata::is_identity(identity) {
            identity
        } else {
            &[]
        }
    }

    /// Appends our properties.
    pub(crate) fn write_metadata(&self, into: &mut Vec<u8>) {
        let name = self.socket_type.name();
        metadata::write(b"Socket-Type", name.as_bytes(), into);
        if self.socket_type.has_identity() {
            metadata::write(b"Identity", self.wire_identity(), into);
        }
        for (name, value) in &self.metadata {
            if metadata::is_property_name(name.as_bytes()) && i32::try_from(value.len()).is_ok() {
                metadata::write(name.as_bytes(), value, into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Metadata;

    fn sent(setup: &Setup) -> Metadata {
        let mut bytes = Vec::new();
        setup.write_metadata(&mut bytes);
        Metadata::parse(&bytes, &Limits::DEFAULT).unwrap()
    }

    #[test]
    fn some_types_tell_their_identity() {
        for socket_type in SocketType::ALL {
            let mut setup = Setup::new(socket_type);
            let tells = ["REQ", "DEALER", "ROUTER"].contains(&socket_type.name());
            for identity in ["", "me"] {
                setup.identity = identity.into();
                let metadata = sent(&setup);
                let expected = tells.then_some(identity.as_bytes());
                assert_eq!(metadata.get("Identity"), expected);
                assert_eq!(
                    metadata.get("Socket-Type"),
                    Some(socket_type.name().as_bytes())
                );
            }
        }
    }

    #[test]
    fn what_no_peer_would_take_is_not_sent() {
        let mut setup = Setup::new(SocketType::Dealer);
        setup.identity = "\0a".into();
        setup.metadata = vec![("X y".into(), vec![]), ("X-z".into(), vec![1])];
        let metadata = sent(&setup);
        assert_eq!(metadata.get("Identity"), Some(&b""[..]));
        assert_eq!(metadata.iter().count(), 3);
        assert_eq!(metadata.get("X-z"), Some(&[1][..]));
    }
}
