//! The errors of this crate: [`Error`] for what a socket could not do, [`SendError`] which gives the
//! message back.
//!
//! What happens to a connection (refused, cut off, broken protocol) is no error of a call: it is an
//! [`Event`](crate::Event), and the socket goes on.
//!
//! They are small, since every send and receive returns one: what is long is in a box.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use sward_runtime::sync::WaitError;
use sward_zmtp::Message;

use crate::endpoint::{Endpoint, EndpointError, EndpointErrorKind};

/// What libzmq adds its own numbers to (`ZMQ_HAUSNUMERO`).
const HAUSNUMERO: i32 = 156_384_712;

/// Why a socket did not do what it was asked for.
///
/// [`errno`](Self::errno) gives the number that libzmq has for it.
///
/// # Examples
/// ```
/// use sward_mq::Error;
/// assert_eq!(Error::State("send").to_string(), "send: not now, requests and replies alternate");
/// assert_eq!(Error::Terminated.errno(), 156_384_765); // ETERM
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// It would have to wait, and was asked not to (`EAGAIN`).
    WouldBlock,
    /// The time-out has passed (`EAGAIN`).
    TimedOut,
    /// REQ and REP alternate between sending and receiving; this call was out of turn (`EFSM`).
    State(&'static str),
    /// No peer has that routing id, and the socket must say so (`EHOSTUNREACH`).
    HostUnreachable,
    /// The context was terminated (`ETERM`).
    Terminated,
    /// The socket was closed (`ENOTSOCK`).
    Closed,
    /// The calling task unwinds (a panic, a kill or a time-out) and may not wait (`EINTR`).
    Unwinding,
    /// This kind of socket does not do that (`ENOTSUP`).
    Unsupported(&'static str),
    /// This kind of socket and this transport do not go together (`ENOCOMPATPROTO`).
    Incompatible(Endpoint),
    /// The message has not the form that the socket needs (`EINVAL`).
    InvalidMessage(&'static str),
    /// An option has a value that it cannot have (`EINVAL`).
    Option(Box<OptionError>),
    /// The endpoint is not right (`EINVAL`, `EPROTONOSUPPORT`, `ENAMETOOLONG`).
    Endpoint(Box<EndpointError>),
    /// Somebody else listens there (`EADDRINUSE`).
    AddrInUse(Endpoint),
    /// No interface of this machine has that address (`EADDRNOTAVAIL`).
    AddrNotAvailable(Endpoint),
    /// No interface of this machine has that name (`ENODEV`).
    NoInterface(Endpoint),
    /// The socket is neither bound nor connected to that endpoint (`ENOENT`).
    NotFound(Endpoint),
    /// The context has as many sockets as it may (`EMFILE`).
    TooManySockets(usize),
    /// The operating system refused something.
    Io(Arc<io::Error>),
}

const _: () = assert!(size_of::<Error>() <= 24);

/// A value that an option cannot have; the text says which there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    pub(crate) option: &'static str,
    pub(crate) value: String,
    pub(crate) range: &'static str,
}

impl OptionError {
    /// Returns the name of the option.
    pub fn option(&self) -> &'static str {
        self.option
    }
}

impl Error {
    /// Returns the number that libzmq has for this (`zmq_errno`); those of Linux for what libzmq
    /// passes on.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::Error;
    /// assert_eq!(Error::WouldBlock.errno(), 11); // EAGAIN
    /// assert_eq!(Error::State("recv").errno(), 156_384_763); // EFSM
    /// ```
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Self::WouldBlock | Self::TimedOut => Errno::AGAIN,
            Self::State(_) => return HAUSNUMERO + 51,
            Self::Incompatible(_) => return HAUSNUMERO + 52,
            Self::Terminated => return HAUSNUMERO + 53,
            Self::HostUnreachable => Errno::HOSTUNREACH,
            Self::Closed => Errno::NOTSOCK,
            Self::Unwinding => Errno::INTR,
            Self::Unsupported(_) => Errno::NOTSUP,
            Self::InvalidMessage(_) | Self::Option(_) => Errno::INVAL,
            Self::Endpoint(e) => match e.kind() {
                EndpointErrorKind::Syntax | EndpointErrorKind::Purpose => Errno::INVAL,
                EndpointErrorKind::TooLong => Errno::NAMETOOLONG,
                EndpointErrorKind::UnknownTransport | EndpointErrorKind::AbsentTransport => {
                    Errno::PROTONOSUPPORT
                }
            },
            Self::AddrInUse(_) => Errno::ADDRINUSE,
            Self::AddrNotAvailable(_) => Errno::ADDRNOTAVAIL,
            Self::NoInterface(_) => Errno::NODEV,
            Self::NotFound(_) => Errno::NOENT,
            Self::TooManySockets(_) => Errno::MFILE,
            Self::Io(e) => return errno_of(e),
        };
        errno.raw_os_error()
    }

    /// Returns the kind that an [`io::Error`] of this would have.
    pub fn io_kind(&self) -> io::ErrorKind {
        use io::ErrorKind;
        match self {
            Self::WouldBlock => ErrorKind::WouldBlock,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::HostUnreachable => ErrorKind::HostUnreachable,
            Self::Terminated | Self::Closed => ErrorKind::NotConnected,
            Self::Unsupported(_) | Self::Incompatible(_) => ErrorKind::Unsupported,
            Self::Option(_) | Self::InvalidMessage(_) => ErrorKind::InvalidInput,
            Self::Endpoint(e) => match e.kind() {
                EndpointErrorKind::UnknownTransport | EndpointErrorKind::AbsentTransport => {
                    ErrorKind::Unsupported
                }
                _ => ErrorKind::InvalidInput,
            },
            Self::AddrInUse(_) => ErrorKind::AddrInUse,
            Self::AddrNotAvailable(_) => ErrorKind::AddrNotAvailable,
            Self::NoInterface(_) | Self::NotFound(_) => ErrorKind::NotFound,
            Self::State(_) | Self::Unwinding | Self::TooManySockets(_) => ErrorKind::Other,
            Self::Io(e) => e.kind(),
        }
    }

    /// Returns whether another try may succeed (`EAGAIN`).
    pub fn is_would_block(&self) -> bool {
        matches!(self, Self::WouldBlock | Self::TimedOut)
    }

    /// What calls say in a forked child.
    #[cold]
    pub(crate) fn forked() -> Self {
        Self::Io(Arc::new(io::Error::other(
            "this process is a forked child: the zmq socket or context stayed in the parent; make a \
             Runtime and a Context of its own here, or exec",
        )))
    }

    /// What a failed bind means.
    #[cold]
    pub(crate) fn bind(endpoint: &Endpoint, e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::AddrInUse => Self::AddrInUse(endpoint.clone()),
            io::ErrorKind::AddrNotAvailable => Self::AddrNotAvailable(endpoint.clone()),
            // It names the address.
            _ => Self::Io(Arc::new(e)),
        }
    }
}

/// What could not be done, and why.
#[derive(Debug)]
struct At {
    text: String,
    cause: io::Error,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.text, self.cause)
    }
}

impl std::error::Error for At {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Says what could not be done; keeps the kind and the number.
#[cold]
pub(crate) fn at(text: String, cause: io::Error) -> io::Error {
    io::Error::new(cause.kind(), At { text, cause })
}

/// The number that the system gave, wherever it is among the causes; else what the kind comes to.
#[cold]
pub(crate) fn errno_of(error: &io::Error) -> i32 {
    let mut e = error;
    loop {
        if let Some(number) = e.raw_os_error() {
            return number;
        }
        let mut next = e.get_ref().map(|e| e as &(dyn std::error::Error + 'static));
        e = loop {
            match next {
                None => return errno_of_kind(error.kind()).raw_os_error(),
                Some(inner) => match inner.downcast_ref() {
                    Some(e) => break e,
                    None => next = inner.source(),
                },
            }
        };
    }
}

fn errno_of_kind(kind: io::ErrorKind) -> Errno {
    match kind {
        io::ErrorKind::ConnectionRefused => Errno::CONNREFUSED,
        io::ErrorKind::ConnectionReset => Errno::CONNRESET,
        io::ErrorKind::TimedOut => Errno::TIMEDOUT,
        io::ErrorKind::NotFound => Errno::NOENT,
        io::ErrorKind::InvalidInput => Errno::INVAL,
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => Errno::PIPE,
        io::ErrorKind::AddrInUse => Errno::ADDRINUSE,
        io::ErrorKind::AddrNotAvailable => Errno::ADDRNOTAVAIL,
        io::ErrorKind::PermissionDenied => Errno::ACCESS,
        io::ErrorKind::AlreadyExists => Errno::EXIST,
        _ => Errno::IO,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("it would have to wait"),
            Self::TimedOut => f.write_str("the time-out has passed"),
            Self::State(call) => write!(f, "{call}: not now, requests and replies alternate"),
            Self::HostUnreachable => f.write_str("no peer has that routing id"),
            Self::Terminated => f.write_str("the context was terminated"),
            Self::Closed => f.write_str("the socket was closed"),
            Self::Unwinding => f.write_str(
                "this task unwinds (a panic, a kill or a time-out) and may not wait: do it in a \
                 task of its own (sward::defer)",
            ),
            Self::Unsupported(what) => write!(f, "this kind of socket cannot {what}"),
            Self::Incompatible(endpoint) => write!(
                f,
                "this kind of socket does not work over {}: {endpoint}",
                endpoint.scheme()
            ),
            Self::InvalidMessage(what) => f.write_str(what),
            Self::Option(e) => e.fmt(f),
            Self::Endpoint(e) => e.fmt(f),
            Self::AddrInUse(endpoint) => write!(
                f,
                "cannot bind {endpoint}: another socket has it{}",
                match endpoint.scheme() {
                    "tcp" => " (`ss -ltnp` says whose)",
                    "ipc" => " (`ss -lxp` says whose)",
                    _ => "",
                }
            ),
            Self::AddrNotAvailable(endpoint) => write!(
                f,
                "cannot bind {endpoint}: no interface of this machine has this address (`ip addr` \
                 lists them)"
            ),
            Self::NoInterface(endpoint) => write!(
                f,
                "cannot use {endpoint}: no interface and no host of this name has an address of the \
                 wanted kind: write an address, or * for all (`ip addr` lists them)"
            ),
            Self::NotFound(endpoint) => write!(
                f,
                "the socket is neither bound nor connected to {endpoint} (for a wildcard, write \
                 what last_endpoint says)"
            ),
            Self::TooManySockets(limit) => write!(
                f,
                "the context has {limit} sockets, as many as it may: close some, or give it a \
                 larger limit"
            ),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(e) => Some(&**e),
            Self::Option(e) => Some(&**e),
            Self::Io(e) => Some(&**e),
            _ => None,
        }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            option,
            value,
            range,
        } = self;
        write!(f, "option {option} cannot be {value}: {range}")
    }
}

impl std::error::Error for OptionError {}

impl From<EndpointError> for Error {
    fn from(e: EndpointError) -> Self {
        Self::Endpoint(Box::new(e))
    }
}

impl From<Infallible> for Error {
    /// For an endpoint that was one already.
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<OptionError> for Error {
    fn from(e: OptionError) -> Self {
        Self::Option(Box::new(e))
    }
}

impl From<WaitError> for Error {
    fn from(e: WaitError) -> Self {
        match e {
            WaitError::TimedOut => Self::TimedOut,
            _ => Self::Unwinding,
        }
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(Arc::new(e))
    }
}

impl From<Error> for io::Error {
    /// Keeps the error as its inside, with the kind that fits.
    fn from(e: Error) -> Self {
        Self::new(e.io_kind(), e)
    }
}

/// A message that was not sent, and why.
///
/// # Examples
/// ```
/// use sward_mq::{Error, SendError};
/// let failed = SendError::new(Error::WouldBlock, "again later".into());
/// assert!(failed.error().is_would_block());
/// assert_eq!(failed.into_message().first(), "again later");
/// ```
#[derive(Clone, Debug)]
pub struct SendError {
    error: Error,
    message: Message,
}

impl SendError {
    /// Returns the error with its message.
    pub fn new(error: Error, message: Message) -> Self {
        Self { error, message }
    }

    /// Returns why it was not sent.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns what was not sent.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Gives the message back.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Error, Message) {
        (self.error, self.message)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message was not sent: {}", self.error)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SendError> for Error {
    /// Drops the message.
    fn from(e: SendError) -> Self {
        e.error
    }
}

impl From<SendError> for io::Error {
    /// Drops the message.
    fn from(e: SendError) -> Self {
        e.error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds() {
        let endpoint: Endpoint = "tcp://127.0.0.1:5555".parse().unwrap();
        let wrong = |text: &str| Error::from(text.parse::<Endpoint>().unwrap_err());
        let long = wrong(&format!("ipc://{}", "a".repeat(108)));
        for (error, errno, kind) in [
            (Error::WouldBlock, 11, io::ErrorKind::WouldBlock),
            (Error::TimedOut, 11, io::ErrorKind::TimedOut),
            (Error::State("send"), 156_384_763, io::ErrorKind::Other),
            (
                Error::Incompatible(endpoint.clone()),
                156_384_764,
                io::ErrorKind::Unsupported,
            ),
            (Error::Terminated, 156_384_765, io::ErrorKind::NotConnected),
            (Error::HostUnreachable, 113, io::ErrorKind::HostUnreachable),
            (Error::Closed, 88, io::ErrorKind::NotConnected),
            (Error::Unwinding, 4, io::ErrorKind::Other),
            (
                Error::Unsupported("receive"),
                95,
                io::ErrorKind::Unsupported,
            ),
            (
                Error::InvalidMessage("one frame"),
                22,
                io::ErrorKind::InvalidInput,
            ),
            (wrong("tcp://a"), 22, io::ErrorKind::InvalidInput),
            (wrong("udp://a:1"), 93, io::ErrorKind::Unsupported),
            (long, 36, io::ErrorKind::InvalidInput),
            (
                Error::AddrInUse(endpoint.clone()),
                98,
                io::ErrorKind::AddrInUse,
            ),
            (
                Error::AddrNotAvailable(endpoint.clone()),
                99,
                io::ErrorKind::AddrNotAvailable,
            ),
            (
                Error::NoInterface(endpoint.clone()),
                19,
                io::ErrorKind::NotFound,
            ),
            (Error::NotFound(endpoint), 2, io::ErrorKind::NotFound),
            (Error::TooManySockets(1023), 24, io::ErrorKind::Other),
            (
                Error::from(io::Error::from(Errno::ACCESS)),
                13,
                io::ErrorKind::PermissionDenied,
            ),
        ] {
            assert_eq!(error.errno(), errno, "{error}");
            let text = error.to_string();
            let io = io::Error::from(error);
            assert_eq!((io.kind(), io.to_string()), (kind, text));
            assert!(io.get_ref().unwrap().is::<Error>());
        }
    }

    #[test]
    fn the_number_is_found_among_the_causes() {
        let inner = io::Error::from(Errno::MFILE);
        let outer = io::Error::other(Error::from(io::Error::other(inner)));
        assert_eq!(errno_of(&outer), 24);
        assert_eq!(errno_of(&io::ErrorKind::ConnectionRefused.into()), 111);
    }

    #[test]
    fn a_message_comes_back() {
        let failed = SendError::new(Error::TimedOut, ["a", "b"].into());
        assert_eq!(
            failed.to_string(),
            "the message was not sent: the time-out has passed"
        );
        assert_eq!(failed.message().len(), 2);
        let (error, message) = failed.into_parts();
        assert!(error.is_would_block());
        assert_eq!(message.last(), "b");
    }
}
