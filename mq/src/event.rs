//! [`Event`]: what happens to a socket's endpoints and connections, for monitors.
//!
//! Every event of libzmq's monitor is here, typed, and has its number ([`Event::code`]) and value
//! ([`Event::value`]); the others have code 0.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sward_zmtp::{Fault, Frame};

use crate::error::errno_of;
use crate::loss::Loss;

/// Something that happened to an endpoint or a connection of a socket.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_mq::{Event, EventKind};
/// let pause = Duration::from_millis(120);
/// let event = Event::new(EventKind::ConnectRetried { pause }).endpoint("tcp://127.0.0.1:5555");
/// assert_eq!((event.code(), event.value()), (4, 120));
/// assert_eq!(event.to_string(), "tcp://127.0.0.1:5555: connects again in 120ms");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The endpoint that was bound or connected to; empty where there is none.
    pub endpoint: Arc<str>,
    /// This end of the connection, as an endpoint; empty where it is not known.
    pub local: Arc<str>,
    /// The other end.
    pub remote: Arc<str>,
}

/// What happened; the names are those of libzmq's events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A connection was made; the handshake follows.
    Connected,
    /// A connection could not be made at once, and is under way.
    ConnectDelayed,
    /// A connection will be tried again after a pause.
    ConnectRetried {
        /// How long.
        pause: Duration,
    },
    /// An endpoint was bound.
    Listening,
    /// An endpoint could not be bound.
    BindFailed(Arc<io::Error>),
    /// A connection was accepted; the handshake follows.
    Accepted,
    /// A connection could not be accepted; for want of descriptors, it waits in the kernel.
    AcceptFailed(Arc<io::Error>),
    /// An endpoint was unbound, or an attempt to connect has ended; why, if it has failed.
    Closed(Option<Arc<io::Error>>),
    /// A descriptor could not be closed well.
    CloseFailed(Arc<io::Error>),
    /// A connection has ended after its handshake.
    Disconnected(Reason),
    /// The socket was closed: nothing more comes.
    MonitorStopped,
    /// The peer has said who it is; messages may flow.
    HandshakeSucceeded,
    /// A connection has ended before its handshake did.
    HandshakeFailed(Reason),
    /// Messages were lost. libzmq has no such event.
    Lost {
        /// Why.
        loss: Loss,
        /// How many.
        count: u64,
        /// The routing id of the peer that they came from or went to.
        peer: Option<Frame>,
    },
    /// This monitor was too slow: the oldest events were dropped. libzmq has no such event.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Why a connection has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The peer closed it.
    PeerClosed,
    /// Reading or writing failed.
    Io(Arc<io::Error>),
    /// The peer broke the protocol, speaks another, refused this side, or was silent for too long.
    Fault(Fault),
    /// The socket does not want this peer: a second one of PAIR, a routing id that another has.
    Unwanted(&'static str),
    /// This side ended it: a disconnect, an unbind, the end of the socket.
    Local,
}

/// libzmq's numbers of protocol errors.
#[allow(missing_docs, reason = "the names say it")]
pub mod protocol_error {
    pub const ZMTP_UNSPECIFIED: u32 = 0x1000_0000;
    pub const ZMTP_UNEXPECTED_COMMAND: u32 = 0x1000_0001;
    pub const ZMTP_INVALID_SEQUENCE: u32 = 0x1000_0002;
    pub const ZMTP_KEY_EXCHANGE: u32 = 0x1000_0003;
    pub const ZMTP_MALFORMED_COMMAND_UNSPECIFIED: u32 = 0x1000_0011;
    pub const ZMTP_MALFORMED_COMMAND_MESSAGE: u32 = 0x1000_0012;
    pub const ZMTP_MALFORMED_COMMAND_HELLO: u32 = 0x1000_0013;
    pub const ZMTP_MALFORMED_COMMAND_INITIATE: u32 = 0x1000_0014;
    pub const ZMTP_MALFORMED_COMMAND_ERROR: u32 = 0x1000_0015;
    pub const ZMTP_MALFORMED_COMMAND_READY: u32 = 0x1000_0016;
    pub const ZMTP_MALFORMED_COMMAND_WELCOME: u32 = 0x1000_0017;
    pub const ZMTP_INVALID_METADATA: u32 = 0x1000_0018;
    pub const ZMTP_CRYPTOGRAPHIC: u32 = 0x1100_0001;
    pub const ZMTP_MECHANISM_MISMATCH: u32 = 0x1100_0002;
    pub const ZAP_UNSPECIFIED: u32 = 0x2000_0000;
    pub const ZAP_MALFORMED_REPLY: u32 = 0x2000_0001;
    pub const ZAP_BAD_REQUEST_ID: u32 = 0x2000_0002;
    pub const ZAP_BAD_VERSION: u32 = 0x2000_0003;
    pub const ZAP_INVALID_STATUS_CODE: u32 = 0x2000_0004;
    pub const ZAP_INVALID_METADATA: u32 = 0x2000_0005;
}

impl EventKind {
    /// Returns whether something went wrong: not that a peer or this side has closed a connection.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{EventKind, Reason};
    /// assert!(EventKind::Disconnected(Reason::Unwanted("no room")).is_error());
    /// assert!(!EventKind::Disconnected(Reason::PeerClosed).is_error());
    /// ```
    pub fn is_error(&self) -> bool {
        match self {
            Self::BindFailed(_)
            | Self::AcceptFailed(_)
            | Self::CloseFailed(_)
            | Self::Closed(Some(_)) => true,
            Self::Disconnected(reason) => !matches!(reason, Reason::PeerClosed | Reason::Local),
            Self::HandshakeFailed(reason) => !matches!(reason, Reason::Local),
            _ => false,
        }
    }
}

impl Event {
    /// Returns the event, without an endpoint.
    pub fn new(kind: EventKind) -> Self {
        Self {
            kind,
            endpoint: Arc::default(),
            local: Arc::default(),
            remote: Arc::default(),
        }
    }

    /// Sets the endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<Arc<str>>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// Sets the two ends of the connection.
    #[must_use]
    pub fn ends(mut self, local: impl Into<Arc<str>>, remote: impl Into<Arc<str>>) -> Self {
        self.local = local.into();
        self.remote = remote.into();
        self
    }

    /// Returns libzmq's number of the event (`ZMQ_EVENT_...`); 0 if it has none.
    pub fn code(&self) -> u32 {
        match &self.kind {
            EventKind::Connected => 0x1,
            EventKind::ConnectDelayed => 0x2,
            EventKind::ConnectRetried { .. } => 0x4,
            EventKind::Listening => 0x8,
            EventKind::BindFailed(_) => 0x10,
            EventKind::Accepted => 0x20,
            EventKind::AcceptFailed(_) => 0x40,
            EventKind::Closed(_) => 0x80,
            EventKind::CloseFailed(_) => 0x100,
            EventKind::Disconnected(_) => 0x200,
            EventKind::MonitorStopped => 0x400,
            EventKind::HandshakeFailed(reason) => match reason {
                Reason::Fault(Fault::HandshakeTimedOut(_) | Fault::HeartbeatTimedOut(_)) => 0x800,
                Reason::Fault(fault) if refusal(fault).is_some() => 0x4000,
                Reason::Fault(_) => 0x2000,
                _ => 0x800,
            },
            EventKind::HandshakeSucceeded => 0x1000,
            EventKind::Lost { .. } | EventKind::Missed { .. } => 0,
        }
    }

    /// Returns the value that libzmq sends along: milliseconds, the number of an error, of a
    /// protocol error ([`protocol_error`]), of a refusal; for ours, how many. (libzmq has the
    /// number of the descriptor in some; here it is 0.)
    pub fn value(&self) -> u64 {
        match &self.kind {
            EventKind::ConnectRetried { pause } => {
                u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
            }
            EventKind::BindFailed(e) | EventKind::AcceptFailed(e) | EventKind::CloseFailed(e) => {
                errno(e)
            }
            EventKind::HandshakeFailed(reason) => reason.value(),
            EventKind::Lost { count, .. } | EventKind::Missed { count } => *count,
            _ => 0,
        }
    }
}

fn errno(e: &io::Error) -> u64 {
    errno_of(e).unsigned_abs().into()
}

/// The status code by which a peer refuses (300, 400, 500 of ZAP).
fn refusal(fault: &Fault) -> Option<u16> {
    match fault {
        Fault::PeerError { reason } if reason.len() == 3 => reason.parse().ok(),
        _ => None,
    }
}

impl Reason {
    fn value(&self) -> u64 {
        match self {
            Self::Fault(Fault::HandshakeTimedOut(_) | Fault::HeartbeatTimedOut(_)) => {
                errno(&io::ErrorKind::TimedOut.into())
            }
            Self::Fault(fault) => refusal(fault).map_or_else(|| fault.code().into(), u64::from),
            Self::Io(e) => errno(e),
            Self::PeerClosed => errno(&io::ErrorKind::BrokenPipe.into()),
            Self::Unwanted(_) | Self::Local => 0,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::Io(e) => e.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Unwanted(why) => f.write_str(why),
            Self::Local => f.write_str("this side ended it"),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::ConnectDelayed => f.write_str("connects"),
            Self::ConnectRetried { pause } => write!(f, "connects again in {pause:?}"),
            Self::Listening => f.write_str("listens"),
            Self::BindFailed(e) => write!(f, "not bound: {e}"),
            Self::Accepted => f.write_str("accepted"),
            Self::AcceptFailed(e) => write!(f, "not accepted: {e}"),
            Self::Closed(None) => f.write_str("closed"),
            Self::Closed(Some(e)) => write!(f, "not connected: {e}"),
            Self::CloseFailed(e) => write!(f, "not closed well: {e}"),
            Self::Disconnected(reason) => write!(f, "disconnected: {reason}"),
            Self::MonitorStopped => f.write_str("the socket was closed"),
            Self::HandshakeSucceeded => f.write_str("handshake done"),
            Self::HandshakeFailed(reason) => write!(f, "handshake failed: {reason}"),
            Self::Lost { loss, count, peer } => {
                write!(
                    f,
                    "{count} message{} lost",
                    if *count == 1 { "" } else { "s" }
                )?;
                if let Some(peer) = peer {
                    write!(f, " (peer {})", peer.as_slice().escape_ascii())?;
                }
                write!(f, ": {loss}")
            }
            Self::Missed { count } => write!(f, "the monitor was too slow for {count} events"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.endpoint.is_empty() {
            write!(f, "{}: ", self.endpoint)?;
        }
        self.kind.fmt(f)?;
        // An end that is the endpoint was named.
        let known = |end: &Arc<str>| !end.is_empty() && *end != self.endpoint;
        match (known(&self.local), known(&self.remote)) {
            (true, true) => write!(f, " ({} from {})", self.local, self.remote),
            (true, false) => write!(f, " ({})", self.local),
            (false, true) => write!(f, " ({})", self.remote),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libzmqs_numbers_and_values() {
        let io = || Arc::new(io::Error::from_raw_os_error(24));
        let refused = |reason: &str| {
            let reason = reason.into();
            EventKind::HandshakeFailed(Reason::Fault(Fault::PeerError { reason }))
        };
        let failed = |reason| EventKind::HandshakeFailed(reason);
        let late = Duration::from_secs(30);
        for (kind, code, value) in [
            (EventKind::Connected, 1, 0),
            (EventKind::ConnectDelayed, 2, 0),
            (
                EventKind::ConnectRetried {
                    pause: Duration::MAX,
                },
                4,
                u64::MAX,
            ),
            (EventKind::Listening, 8, 0),
            (EventKind::BindFailed(io()), 0x10, 24),
            (EventKind::Accepted, 0x20, 0),
            (EventKind::AcceptFailed(io()), 0x40, 24),
            (EventKind::Closed(Some(io())), 0x80, 0),
            (EventKind::CloseFailed(io()), 0x100, 24),
            (EventKind::Disconnected(Reason::PeerClosed), 0x200, 0),
            (EventKind::MonitorStopped, 0x400, 0),
            (failed(Reason::PeerClosed), 0x800, 32),
            (failed(Reason::Io(io())), 0x800, 24),
            (
                failed(Reason::Fault(Fault::HandshakeTimedOut(late))),
                0x800,
                110,
            ),
            (EventKind::HandshakeSucceeded, 0x1000, 0),
            (
                failed(Reason::Fault(sward_zmtp::Malformed::NoSocketType.into())),
                0x2000,
                protocol_error::ZMTP_INVALID_METADATA.into(),
            ),
            (refused("400"), 0x4000, 400),
            (
                refused("no"),
                0x2000,
                protocol_error::ZMTP_UNSPECIFIED.into(),
            ),
            (EventKind::Missed { count: 7 }, 0, 7),
        ] {
            let event = Event::new(kind);
            assert_eq!((event.code(), event.value()), (code, value), "{event}");
        }
    }

    #[test]
    fn lines_for_people() {
        let lost = EventKind::Lost {
            loss: Loss::HighWaterMark,
            count: 2,
            peer: Some("a\n".into()),
        };
        let event = Event::new(lost)
            .endpoint("tcp://*:1")
            .ends("tcp://[::1]:1", "tcp://[::1]:2");
        assert_eq!(
            event.to_string(),
            "tcp://*:1: 2 messages lost (peer a\\n): the peer's queue was full (tcp://[::1]:1 from \
             tcp://[::1]:2)"
        );
        let connected = Event::new(EventKind::Connected)
            .endpoint("tcp://a:1")
            .ends("", "tcp://a:1");
        assert_eq!(connected.to_string(), "tcp://a:1: connected");
    }
}
