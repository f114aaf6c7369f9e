//! [`Fault`]: why a connection ended, by whose fault.
//!
//! Every fault ends its connection, and nothing else. `Malformed`: the bytes are not ZMTP.
//! `Misbehaved`: they are, but not now. `Incompatible`: both are right, and do not fit together.

use std::fmt;
use std::time::Duration;

use crate::socket_type::SocketType;
use crate::version::Version;

/// Why a connection has to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The peer sent what is not ZMTP.
    Malformed(Malformed),
    /// Both ends are right, and do not fit together.
    Incompatible(Incompatible),
    /// The peer sent what ZMTP has, but not at this point.
    Misbehaved {
        /// What could have come.
        expected: &'static str,
        /// What came instead.
        got: &'static str,
    },
    /// The peer sent, or announced, more than a limit allows.
    TooLarge {
        /// The limit that was exceeded.
        what: Limited,
        /// Its value.
        limit: u64,
        /// What was sent or announced.
        declared: u64,
    },
    /// The handshake was not complete within this time.
    HandshakeTimedOut(Duration),
    /// Nothing came within this time after a PING, or within the time to live that the peer asked
    /// for.
    HeartbeatTimedOut(Duration),
    /// The peer closed with an ERROR command.
    PeerError {
        /// The reason it gave; what is not printable is replaced. A ZAP refusal is a status code
        /// such as `400`.
        reason: Box<str>,
    },
}

/// What is wrong with bytes that are not ZMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// The first ten bytes are no signature of ZMTP.
    Signature,
    /// The greeting's field as-server is neither 0 nor 1.
    AsServer,
    /// Reserved bits are set in the flags of a frame.
    ReservedFlags,
    /// A command with the flag MORE.
    CommandWithMore,
    /// A frame of 2^63 bytes or more.
    FrameLength,
    /// A frame of ZMTP 1.0 whose length, which counts the flags, is 0.
    ZeroLength,
    /// A command without a name.
    CommandWithoutName,
    /// A command whose name is longer than the command.
    CommandNameLength,
    /// A command whose name has other characters than letters.
    CommandName,
    /// Metadata that does not end where the command does.
    MetadataLength,
    /// A property without a name, or with characters in it that are not allowed.
    PropertyName,
    /// A property that is there twice.
    DuplicateProperty,
    /// Metadata without `Socket-Type`.
    NoSocketType,
    /// A `Socket-Type`, or number of one, that does not exist.
    SocketType,
    /// An identity of more than 255 bytes.
    IdentityLength,
    /// An identity that begins with 0: such ones are made up for peers without.
    IdentityReserved,
    /// An ERROR command whose reason does not end where the command does.
    Error,
    /// A PING without a time to live, or with more than 16 bytes of context.
    Ping,
    /// A PONG with more than 16 bytes of context.
    Pong,
}

/// What does not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Incompatible {
    /// The types of the sockets.
    SocketTypes {
        /// Our type.
        ours: SocketType,
        /// The peer's type.
        theirs: SocketType,
    },
    /// The peer speaks a version that is too old for our settings.
    Version(Version),
    /// The peer named another security mechanism.
    Mechanism {
        /// The name of ours.
        ours: &'static str,
        /// The name of the peer's, padded with zeros.
        theirs: [u8; 20],
    },
}

/// What a [`Limits`](crate::Limits) sets a limit to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limited {
    /// Bytes of one frame.
    Frame,
    /// Bytes of one message.
    Message,
    /// Frames of one message.
    Parts,
    /// Properties of the metadata.
    Metadata,
    /// Bytes of one command.
    Command,
    /// Bytes of one topic.
    Topic,
}

/// ZMTP's own part of libzmq's codes for `ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL`.
mod code {
    pub(super) const UNSPECIFIED: u32 = 0x1000_0000;
    pub(super) const UNEXPECTED_COMMAND: u32 = 0x1000_0001;
    pub(super) const MALFORMED: u32 = 0x1000_0011;
    pub(super) const MALFORMED_ERROR: u32 = 0x1000_0015;
    pub(super) const METADATA: u32 = 0x1000_0018;
    pub(super) const MECHANISM_MISMATCH: u32 = 0x1100_0002;
}

impl Fault {
    pub(crate) const fn too_large(what: Limited, limit: usize, declared: usize) -> Self {
        Self::TooLarge {
            what,
            limit: limit as u64,
            declared: declared as u64,
        }
    }

    /// Returns the code of libzmq's monitor event `HANDSHAKE_FAILED_PROTOCOL`
    /// (`ZMQ_PROTOCOL_ERROR_..`); "unspecified" (0x10000000) where it has none.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Malformed(malformed) => malformed.code(),
            Self::Incompatible(Incompatible::SocketTypes { .. }) => code::METADATA,
            Self::Incompatible(Incompatible::Mechanism { .. }) => code::MECHANISM_MISMATCH,
            Self::Misbehaved { .. } => code::UNEXPECTED_COMMAND,
            Self::TooLarge {
                what: Limited::Metadata,
                ..
            } => code::METADATA,
            _ => code::UNSPECIFIED,
        }
    }
}

impl Malformed {
    const fn code(self) -> u32 {
        match self {
            Self::MetadataLength
            | Self::PropertyName
            | Self::DuplicateProperty
            | Self::NoSocketType
            | Self::SocketType
            | Self::IdentityLength
            | Self::IdentityReserved => code::METADATA,
            Self::Error => code::MALFORMED_ERROR,
            Self::CommandWithMore
            | Self::CommandWithoutName
            | Self::CommandNameLength
            | Self::CommandName
            | Self::Ping
            | Self::Pong => code::MALFORMED,
            _ => code::UNSPECIFIED,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Signature => "it does not begin as ZMTP does: is it a ZeroMQ socket?",
            Self::AsServer => "as-server in its greeting is neither 0 nor 1",
            Self::ReservedFlags => "reserved bits are set in the flags of a frame",
            Self::CommandWithMore => "a command has the flag MORE",
            Self::FrameLength => "a frame has 2^63 bytes or more",
            Self::ZeroLength => "the length of a frame is 0, and counts the flags",
            Self::CommandWithoutName => "a command has no name",
            Self::CommandNameLength => "the name of a command is longer than the command",
            Self::CommandName => "the name of a command has other characters than letters",
            Self::MetadataLength => "the metadata does not end where its command ends",
            Self::PropertyName => "the name of a property is empty or has forbidden characters",
            Self::DuplicateProperty => "a property of its metadata is there twice",
            Self::NoSocketType => "its metadata has no Socket-Type",
            Self::SocketType => "its socket type does not exist",
            Self::IdentityLength => "its identity is longer than 255 bytes",
            Self::IdentityReserved => "its identity begins with a zero byte, which is reserved",
            Self::Error => "an ERROR command does not end where its reason ends",
            Self::Ping => "a PING has no time to live, or more than 16 bytes of context",
            Self::Pong => "a PONG has more than 16 bytes of context",
        }
    }
}

impl Limited {
    /// What is limited, and the option for it.
    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Frame => ("a frame of {} bytes", "max_message_size"),
            Self::Message => ("a message of at least {} bytes", "max_total_size"),
            Self::Parts => ("a message of at least {} frames", "max_parts"),
            Self::Metadata => ("metadata of at least {} properties", "max_metadata"),
            Self::Command => ("a command of {} bytes", "max_command"),
            Self::Topic => ("a subscription to a topic of {} bytes", "max_topic_size"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "the peer sent malformed data: {malformed}"),
            Self::Incompatible(incompatible) => incompatible.fmt(f),
            Self::Misbehaved { expected, got } => {
                write!(f, "the peer sent {got} where {expected} is expected")
            }
            Self::TooLarge {
                what,
                limit,
                declared,
            } => {
                let (text, name) = what.text();
                let (before, after) = text.split_once("{}").unwrap_or((text, ""));
                write!(
                    f,
                    "the peer sent {before}{declared}{after}; {name} allows {limit}"
                )
            }
            Self::HandshakeTimedOut(time) => write!(
                f,
                "the handshake was not complete after {time:?}: does the peer speak ZMTP, with the \
                 same mechanism? If it is slow, raise handshake_interval"
            ),
            Self::HeartbeatTimedOut(time) => write!(f, "nothing came from the peer for {time:?}"),
            Self::PeerError { reason } => write!(f, "the peer refused the connection: {reason:?}"),
        }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SocketTypes { ours, theirs } => {
                write!(
                    f,
                    "a {ours} socket cannot talk to the peer's {theirs} socket"
                )
            }
            Self::Version(version) => write!(
                f,
                "the peer speaks ZMTP {version}, which is refused: set allow_old_peers, and no security"
            ),
            Self::Mechanism { ours, theirs } => {
                let end = theirs.iter().position(|b| *b == 0).unwrap_or(theirs.len());
                let theirs = theirs[..end].escape_ascii();
                write!(
                    f,
                    "our mechanism is {ours}, the peer's is {theirs}: set the same at both"
                )
            }
        }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Incompatible> for Fault {
    fn from(incompatible: Incompatible) -> Self {
        Self::Incompatible(incompatible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_say_what_happened_and_what_to_do() {
        let theirs = *b"CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let ours = "NULL";
        let said = Fault::from(Incompatible::Mechanism { ours, theirs });
        assert_eq!(
            said.to_string(),
            "our mechanism is NULL, the peer's is CURVE: set the same at both"
        );
        assert_eq!(said.code(), 0x1100_0002);
        let large = Fault::TooLarge {
            what: Limited::Frame,
            limit: 10,
            declared: 1 << 62,
        };
        assert_eq!(
            large.to_string(),
            "the peer sent a frame of 4611686018427387904 bytes; max_message_size allows 10"
        );
        let text = Fault::from(Malformed::Ping).to_string();
        assert!(
            text.starts_with("the peer sent malformed data: a PING"),
            "{text}"
        );
    }

    /// They are returned for each message, in the place of one.
    #[test]
    fn they_are_no_larger_than_a_message() {
        assert!(size_of::<Fault>() <= 40, "{}", size_of::<Fault>());
    }
}
