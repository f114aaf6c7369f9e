//! [`PeerInfo`]: what is known of a peer after its handshake.

use std::fmt;
use std::sync::Arc;

use crate::frame::Frame;
use crate::metadata::Metadata;
use crate::socket_type::SocketType;
use crate::version::Version;

/// What a peer said of itself in its handshake. A pointer that is cheap to clone and to keep.
#[derive(Clone)]
pub struct PeerInfo(Arc<Peer>);

struct Peer {
    socket_type: Option<SocketType>,
    version: Version,
    identity: Frame,
    metadata: Metadata,
}

impl PeerInfo {
    /// Puts together what a peer said; also for peers that are reached without a handshake.
    pub fn new(
        socket_type: Option<SocketType>,
        version: Version,
        identity: Frame,
        metadata: Metadata,
    ) -> Self {
        Self(Arc::new(Peer {
            socket_type,
            version,
            identity,
            metadata,
        }))
    }

    /// Whether the same is known of another peer.
    pub fn is_like(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        a.socket_type == b.socket_type
            && a.version == b.version
            && a.identity == b.identity
            && a.metadata == b.metadata
    }

    /// Returns the type of its socket; `None` for a peer of ZMTP 1.0, which does not say.
    pub fn socket_type(&self) -> Option<SocketType> {
        self.0.socket_type
    }

    /// Returns its identity, which is empty if it has none.
    pub fn identity(&self) -> &Frame {
        &self.0.identity
    }

    /// Returns the version that is spoken with it.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Returns all properties that it sent.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }
}

impl fmt::Debug for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerInfo")
            .field("socket_type", &self.0.socket_type)
            .field("version", &self.0.version)
            .field("identity", &self.0.identity)
            .field("metadata", &self.0.metadata)
            .finish()
    }
}
