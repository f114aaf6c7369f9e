//! The macro that makes the typed fronts of `types.rs`: a struct around a [`Socket`](super::Socket),
//! what every kind has, and the groups of operations that are named (`sends`, `receives`).
//!
//! Each method hands on to that of `Socket`, where it is documented in full.
//!
//! Rejected: a trait with the operations (every program would have to import it); `Deref` to a
//! common type (a front is no pointer, and would have the operations of other kinds).

/// `front! { /// docs  Name, Kind: group, group; }`
macro_rules! front {
    ($(#[$doc:meta])* $Name:ident $(: $($group:ident),+)?;) => {
        $(#[$doc])*
        ///
        /// A clone is the same socket; the last one to go closes it. Any number of tasks and OS
        /// threads may use it at once.
        #[derive(Clone)]
        pub struct $Name {
            socket: Socket,
        }

        impl $Name {
            /// Returns a new socket of the process's context, with default options.
            ///
            /// # Errors
            /// As [`Socket::in_context`].
            pub fn new() -> Result<Self, Error> {
                Self::with(Options::new())
            }

            /// Returns a new socket of the process's context.
            ///
            /// # Errors
            /// As [`Socket::in_context`].
            pub fn with(options: Options) -> Result<Self, Error> {
                Self::in_context(&Context::global(), options)
            }

            /// Returns a new socket; see [`Socket::in_context`].
            ///
            /// # Errors
            /// As [`Socket::in_context`].
            pub fn in_context(context: &Context, options: Options) -> Result<Self, Error> {
                let socket = Socket::in_context(context, SocketType::$Name, options)?;
                Ok(Self { socket })
            }

            /// Returns a new socket of the process's context that is bound to an endpoint.
            ///
            /// # Errors
            /// As [`new`](Self::new) and [`bind`](Self::bind).
            pub fn bound(endpoint: impl AsRef<str>) -> Result<Self, Error> {
                let socket = Self::new()?;
                socket.bind(endpoint)?;
                Ok(socket)
            }

            /// Returns a new socket of the process's context that connects to an endpoint.
            ///
            /// # Errors
            /// As [`new`](Self::new) and [`connect`](Self::connect).
            pub fn connected(endpoint: impl AsRef<str>) -> Result<Self, Error> {
                let socket = Self::new()?;
                socket.connect(endpoint)?;
                Ok(socket)
            }

            /// Listens at an endpoint, and returns it with what stood for wildcards filled in; see
            /// [`Socket::bind`].
            ///
            /// # Errors
            /// As [`Socket::bind`].
            pub fn bind(&self, endpoint: impl AsRef<str>) -> Result<Endpoint, Error> {
                self.socket.bind(endpoint)
            }

            /// Connects to an endpoint, now and again after each loss; see [`Socket::connect`].
            ///
            /// # Errors
            /// As [`Socket::connect`].
            pub fn connect(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
                self.socket.connect(endpoint)
            }

            /// Ends listening at an endpoint; see [`Socket::unbind`].
            ///
            /// # Errors
            /// As [`Socket::unbind`].
            pub fn unbind(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
                self.socket.unbind(endpoint)
            }

            /// Ends a connection; see [`Socket::disconnect`].
            ///
            /// # Errors
            /// As [`Socket::disconnect`].
            pub fn disconnect(&self, endpoint: impl AsRef<str>) -> Result<(), Error> {
                self.socket.disconnect(endpoint)
            }

            /// Returns the endpoint of the last bind or connect; see [`Socket::last_endpoint`].
            pub fn last_endpoint(&self) -> Option<Endpoint> {
                self.socket.last_endpoint()
            }

            /// Returns the endpoints to which it is bound or connected; see [`Socket::endpoints`].
            pub fn endpoints(&self) -> Vec<Endpoint> {
                self.socket.endpoints()
            }

            /// Returns the kind of socket.
            pub fn socket_type(&self) -> SocketType {
                SocketType::$Name
            }

            /// Returns the context that it belongs to.
            pub fn context(&self) -> Context {
                self.socket.context()
            }

            /// Returns the options as they are now; see [`Socket::options`].
            pub fn options(&self) -> Options {
                self.socket.options()
            }

            /// Changes options; see [`Socket::configure`] for what acts at once.
            ///
            /// # Errors
            /// As [`Socket::configure`].
            pub fn configure(&self, change: impl FnMut(&mut Options)) -> Result<(), Error> {
                self.socket.configure(change)
            }

            /// Sets [`Options::linger`]: how long what is unsent is still sent after the end.
            ///
            /// # Errors
            /// As [`Socket::configure`].
            pub fn set_linger(&self, limit: impl Into<Option<Duration>>) -> Result<(), Error> {
                self.socket.set_linger(limit)
            }

            /// Returns the events of its endpoints and connections from now on; see
            /// [`Socket::monitor`].
            pub fn monitor(&self) -> Monitor {
                self.socket.monitor()
            }

            /// Returns who is connected; see [`Socket::peers`].
            pub fn peers(&self) -> Vec<PeerStatus> {
                self.socket.peers()
            }

            /// Returns counters; see [`Socket::stats`].
            pub fn stats(&self) -> SocketStats {
                self.socket.stats()
            }

            /// Waits until so many peers are connected; see [`Socket::wait_connected`].
            ///
            /// # Blocking
            /// As [`Socket::wait_connected`].
            ///
            /// # Errors
            /// As [`Socket::wait_connected`].
            pub fn wait_connected(&self, peers: usize, limit: Duration) -> Result<(), Error> {
                self.socket.wait_connected(peers, limit)
            }

            /// Ends the socket for all its handles; see [`Socket::close`].
            pub fn close(&self) {
                self.socket.close();
            }
        }

        impl AsRef<Socket> for $Name {
            /// As the dynamic socket, for what takes any kind.
            fn as_ref(&self) -> &Socket {
                &self.socket
            }
        }

        impl From<$Name> for Socket {
            fn from(socket: $Name) -> Self {
                socket.socket
            }
        }

        impl TryFrom<Socket> for $Name {
            type Error = WrongKind;

            /// # Errors
            /// Gives the socket back if it is of another kind.
            fn try_from(socket: Socket) -> Result<Self, WrongKind> {
                if socket.socket_type() == SocketType::$Name {
                    return Ok(Self { socket });
                }
                Err(WrongKind { socket, wanted: SocketType::$Name })
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.socket, f)
            }
        }

        $($($group!($Name);)+)?
    };
}

/// What a kind has that sends.
macro_rules! sends {
    ($Name:ident) => {
        impl $Name {
            /// Sends a message, all of its frames or none; see [`Socket::send`].
            ///
            /// # Blocking
            /// As [`Socket::send`].
            ///
            /// # Errors
            /// As [`Socket::send`].
            #[inline]
            pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
                self.socket.send(message)
            }

            /// Sends a message if that needs no waiting; see [`Socket::try_send`].
            ///
            /// # Errors
            /// As [`Socket::try_send`].
            #[inline]
            pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
                self.socket.try_send(message)
            }

            /// Sends a message, waiting for at most `limit`; see [`Socket::send_timeout`].
            ///
            /// # Blocking
            /// As [`Socket::send`].
            ///
            /// # Errors
            /// As [`Socket::send`].
            pub fn send_timeout(
                &self,
                message: impl Into<Message>,
                limit: Duration,
            ) -> Result<(), SendError> {
                self.socket.send_timeout(message, limit)
            }

            /// Sends a message, waiting until `deadline`; see [`Socket::send_deadline`].
            ///
            /// # Blocking
            /// As [`Socket::send`].
            ///
            /// # Errors
            /// As [`Socket::send`].
            pub fn send_deadline(
                &self,
                message: impl Into<Message>,
                deadline: Instant,
            ) -> Result<(), SendError> {
                self.socket.send_deadline(message, deadline)
            }

            /// Returns an arm of a [`select!`](sward_runtime::select) that sends; see
            /// [`Socket::sending`].
            pub fn sending(&self, message: impl Into<Message>) -> Sending<'_> {
                self.socket.sending(message)
            }

            /// Sets [`Options::send_timeout`]: how long a send waits.
            ///
            /// # Errors
            /// As [`Socket::configure`].
            pub fn set_send_timeout(
                &self,
                limit: impl Into<Option<Duration>>,
            ) -> Result<(), Error> {
                self.socket.set_send_timeout(limit)
            }
        }
    };
}

/// What a kind has that receives.
macro_rules! receives {
    ($Name:ident) => {
        impl $Name {
            /// Receives the next message; see [`Socket::recv`].
            ///
            /// # Blocking
            /// As [`Socket::recv`].
            ///
            /// # Errors
            /// As [`Socket::recv`].
            #[inline]
            pub fn recv(&self) -> Result<Message, Error> {
                self.socket.recv()
            }

            /// Receives the next message in place of another; see [`Socket::recv_into`].
            ///
            /// # Blocking
            /// As [`Socket::recv`].
            ///
            /// # Errors
            /// As [`Socket::recv`].
            #[inline]
            pub fn recv_into(&self, message: &mut Message) -> Result<(), Error> {
                self.socket.recv_into(message)
            }

            /// Receives a message that is there now; see [`Socket::try_recv`].
            ///
            /// # Errors
            /// As [`Socket::try_recv`].
            #[inline]
            pub fn try_recv(&self) -> Result<Message, Error> {
                self.socket.try_recv()
            }

            /// Receives the next message, waiting for at most `limit`; see
            /// [`Socket::recv_timeout`].
            ///
            /// # Blocking
            /// As [`Socket::recv`].
            ///
            /// # Errors
            /// As [`Socket::recv`].
            pub fn recv_timeout(&self, limit: Duration) -> Result<Message, Error> {
                self.socket.recv_timeout(limit)
            }

            /// Receives the next message, waiting until `deadline`; see [`Socket::recv_deadline`].
            ///
            /// # Blocking
            /// As [`Socket::recv`].
            ///
            /// # Errors
            /// As [`Socket::recv`].
            pub fn recv_deadline(&self, deadline: Instant) -> Result<Message, Error> {
                self.socket.recv_deadline(deadline)
            }

            /// Receives the next message, and says who sent it; see [`Socket::recv_from`].
            ///
            /// # Blocking
            /// As [`Socket::recv`].
            ///
            /// # Errors
            /// As [`Socket::recv`].
            pub fn recv_from(&self) -> Result<(Message, Peer), Error> {
                self.socket.recv_from()
            }

            /// Returns an arm of a [`select!`](sward_runtime::select) that receives; see
            /// [`Socket::receiving`].
            pub fn receiving(&self) -> Receiving<'_> {
                self.socket.receiving()
            }

            /// Sets [`Options::recv_timeout`]: how long a receive waits.
            ///
            /// # Errors
            /// As [`Socket::configure`].
            pub fn set_recv_timeout(
                &self,
                limit: impl Into<Option<Duration>>,
            ) -> Result<(), Error> {
                self.socket.set_recv_timeout(limit)
            }
        }
    };
}

/// What a kind has from which messages come one by one, without a turn of ours in between.
macro_rules! streams {
    ($Name:ident) => {
        impl $Name {
            /// Returns an iterator that receives until that fails; see [`Socket::iter`].
            pub fn iter(&self) -> Iter<'_> {
                self.socket.iter()
            }

            /// Returns an iterator over what has come up to now; see [`Socket::try_iter`].
            pub fn try_iter(&self) -> Iter<'_> {
                self.socket.try_iter()
            }
        }

        impl<'a> IntoIterator for &'a $Name {
            type Item = Message;
            type IntoIter = Iter<'a>;

            fn into_iter(self) -> Iter<'a> {
                self.iter()
            }
        }
    };
}

pub(super) use {front, receives, sends, streams};
