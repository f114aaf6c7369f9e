//! Why messages are lost: nothing that was given to a socket disappears without being counted here.

use std::fmt;

/// Why a message was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Loss {
    /// The peer's queue was full, and the pattern does not wait (PUB, ROUTER).
    HighWaterMark,
    /// Nobody has the routing id, or nobody subscribes any more where that counts (ROUTER, REP).
    Unroutable,
    /// It was half sent when the connection ended.
    CutOff,
    /// The peer went away with it in its queue.
    PeerLost,
    /// The socket was closed and its linger time was over.
    Linger,
    /// It came from a peer and was not what the pattern allows: a reply that nobody waits for, an
    /// envelope without its end.
    Unexpected,
    /// A newer one took its place (CONFLATE).
    Conflated,
    /// A request that was dropped unanswered.
    Unanswered,
}

impl Loss {
    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [Self; 8] = [
        Self::HighWaterMark,
        Self::Unroutable,
        Self::CutOff,
        Self::PeerLost,
        Self::Linger,
        Self::Unexpected,
        Self::Conflated,
        Self::Unanswered,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What happened, in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::HighWaterMark => "the peer's queue was full",
            Self::Unroutable => "no peer has that routing id",
            Self::CutOff => "the connection ended in the middle of it",
            Self::PeerLost => "the peer went away before it was sent",
            Self::Linger => "the socket's linger time was over",
            Self::Unexpected => "nobody waits for a message of that form",
            Self::Conflated => "a newer message took its place",
            Self::Unanswered => "the request was dropped unanswered",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
