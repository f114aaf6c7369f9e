//! [`Trouble`]: what a server tells about; [`Outcome`]: what a handler may return.

use std::fmt::{self, Debug, Display};
use std::io;

/// Something that went wrong in a server, as `on_error` is told; displayed, it is a line for a log.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Trouble<'a> {
    /// There is no descriptor or memory for the next connection. The server tries again later, and
    /// does not tell of it again before it has accepted one.
    Exhausted(&'a io::Error),
    /// A connection was lost while it was accepted, or a datagram could not be received.
    Accept(&'a io::Error),
    /// The server has ended: the listener is of no use any more.
    Fatal(&'a io::Error),
    /// A handler returned an error.
    Failed {
        /// Whose connection it was.
        peer: &'a dyn Debug,
        /// What it returned.
        error: &'a dyn Display,
    },
    /// A handler panicked.
    Panicked {
        /// Whose connection it was.
        peer: &'a dyn Debug,
        /// What the panic said.
        message: &'a str,
    },
}

impl Display for Trouble<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted(e) => write!(f, "connections have to wait: {e}"),
            Self::Accept(e) => write!(f, "a connection was lost before it began: {e}"),
            Self::Fatal(e) => write!(f, "the server has ended: {e}"),
            Self::Failed { peer, error } => write!(f, "connection from {peer:?}: {error}"),
            Self::Panicked { peer, message } => {
                write!(
                    f,
                    "connection from {peer:?}: the handler panicked: {message}"
                )
            }
        }
    }
}

impl Debug for Trouble<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trouble({self})")
    }
}

/// What a handler may return: nothing, or a `Result` whose error is counted and told.
pub trait Outcome {
    /// The error, if it is one.
    fn error(&self) -> Option<&dyn Display>;
}

impl Outcome for () {
    fn error(&self) -> Option<&dyn Display> {
        None
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn error(&self) -> Option<&dyn Display> {
        self.as_ref().err().map(|e| e as &dyn Display)
    }
}
