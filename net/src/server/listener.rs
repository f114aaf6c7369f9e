//! [`Listener`]: what a server asks of the thing that connections come from.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net as unix;

use crate::stream::Stream;
use crate::tcp::listener::TcpListener;
use crate::tcp::stream::TcpStream;
use crate::unix::listener::UnixListener;
use crate::unix::stream::UnixStream;

/// Where connections come from: TCP, a Unix socket, TLS over one of them, or a type of yours.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Stream: Stream;
    /// Where it comes from.
    type Addr: Clone + Debug + Send + 'static;

    /// Takes the next connection, waiting for it.
    ///
    /// What a connection needs beside that, such as a handshake, belongs to the first use of the
    /// stream, in the connection's own task: here it would hold up all others.
    ///
    /// # Errors
    /// Those of `accept(2)`; [`Closed`](sward_runtime::io::Closed) after [`close`](Self::close).
    fn accept(&self) -> io::Result<(Self::Stream, Self::Addr)>;

    /// The address that it listens on.
    ///
    /// # Errors
    /// Those of `getsockname`.
    fn local_addr(&self) -> io::Result<Self::Addr>;

    /// Refuses new connections from now on; who waits in `accept` fails.
    ///
    /// # Errors
    /// As [`Source::close`](sward_runtime::io::Source::close).
    fn close(&self) -> io::Result<()>;
}

/// `listener!(TcpListener, TcpStream, SocketAddr)`: by its methods of the same names.
macro_rules! listener {
    ($Listener:ty, $Stream:ty, $Addr:ty) => {
        impl Listener for $Listener {
            type Stream = $Stream;
            type Addr = $Addr;

            fn accept(&self) -> io::Result<($Stream, $Addr)> {
                self.accept()
            }

            fn local_addr(&self) -> io::Result<$Addr> {
                self.local_addr()
            }

            fn close(&self) -> io::Result<()> {
                self.close()
            }
        }
    };
}

listener!(TcpListener, TcpStream, SocketAddr);
listener!(UnixListener, UnixStream, unix::SocketAddr);
