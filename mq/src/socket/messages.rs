//! Sending and receiving by a [`Socket`], and the iterators over what comes.

use std::iter::FusedIterator;
use std::time::{Duration, Instant};

use sward_zmtp::Message;

use super::core::Limit;
use super::dynamic::Socket;
use crate::error::{Error, SendError};
use crate::peer::Peer;

impl Socket {
    /// Sends a message (`zmq_msg_send`): all of its frames, or none.
    ///
    /// "Sent" says that it is queued for a peer. Whom it goes to, and whether it waits for room or
    /// drops it, depends on the kind of socket.
    ///
    /// # Blocking
    /// Parks while the message has to wait for a peer or for room, for as long as
    /// [`Options::send_timeout`](crate::Options::send_timeout) says; honours kill and `timeout`.
    ///
    /// # Errors
    /// Give the message back. [`Error::TimedOut`]; [`Error::Closed`] and [`Error::Terminated`], also
    /// while it waits; [`Error::State`] for a REQ or REP whose turn it is not;
    /// [`Error::HostUnreachable`] for a ROUTER that has to say so; [`Error::InvalidMessage`];
    /// [`Error::Unsupported`] for a kind that cannot send.
    ///
    /// # Cancel safety
    /// Killed or timed out, it has sent nothing.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Socket, SocketType};
    /// let (a, b) = (Socket::new(SocketType::Pair)?, Socket::new(SocketType::Pair)?);
    /// b.connect(a.bind("inproc://send")?)?;
    /// a.send("text")?;
    /// a.send(vec![1, 2, 3])?;
    /// a.send(["frame", "by", "frame"])?;
    /// assert_eq!(b.recv()?.first(), "text");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    #[inline]
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.core().send(message.into(), Limit::Option)
    }

    /// Sends a message if that needs no waiting (`ZMQ_DONTWAIT`).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// As [`send`](Self::send), with [`Error::WouldBlock`] for [`Error::TimedOut`].
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Push};
    /// let nobody = Push::new()?;
    /// let failed = nobody.try_send("anyone?").unwrap_err();
    /// assert!(failed.error().is_would_block());
    /// assert_eq!(failed.into_message().first(), "anyone?");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    #[inline]
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.core().send(message.into(), Limit::Try)
    }

    /// Sends a message, waiting for at most `limit`, whatever the options say.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_timeout(
        &self,
        message: impl Into<Message>,
        limit: Duration,
    ) -> Result<(), SendError> {
        self.core().send(message.into(), Limit::For(limit))
    }

    /// Sends a message, waiting until `deadline` at most, whatever the options say.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_deadline(
        &self,
        message: impl Into<Message>,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.core().send(message.into(), Limit::Until(deadline))
    }

    #[inline]
    fn receive(&self, limit: Limit) -> Result<Message, Error> {
        let mut message = Message::new();
        self.core().recv(&mut message, limit)?;
        Ok(message)
    }

    /// Receives the next message (`zmq_msg_recv`).
    ///
    /// # Blocking
    /// Parks while there is none, for as long as
    /// [`Options::recv_timeout`](crate::Options::recv_timeout) says; honours kill and `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Closed`] and [`Error::Terminated`], also while it waits;
    /// [`Error::State`] for a REQ or REP whose turn it is not; [`Error::Unsupported`] for a kind
    /// that cannot receive.
    ///
    /// # Cancel safety
    /// Killed or timed out, it has received nothing.
    #[inline]
    pub fn recv(&self) -> Result<Message, Error> {
        self.receive(Limit::Option)
    }

    /// Receives the next message in place of one that is no longer needed.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv); `message` is as it was then.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Message, Pull, Push};
    /// let pull = Pull::bound("inproc://recv_into")?;
    /// let push = Push::connected("inproc://recv_into")?;
    /// push.send("1")?;
    /// push.send("2")?;
    /// let mut message = Message::new();
    /// for expected in ["1", "2"] {
    ///     pull.recv_into(&mut message)?;
    ///     assert_eq!(message.first(), expected);
    /// }
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    #[inline]
    pub fn recv_into(&self, message: &mut Message) -> Result<(), Error> {
        self.core().recv(message, Limit::Option).map(drop)
    }

    /// Receives a message that is there now (`ZMQ_DONTWAIT`).
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), with [`Error::WouldBlock`] for [`Error::TimedOut`].
    #[inline]
    pub fn try_recv(&self) -> Result<Message, Error> {
        self.receive(Limit::Try)
    }

    /// Receives the next message, waiting for at most `limit`, whatever the options say.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Error, Pull};
    /// let pull = Pull::bound("tcp://127.0.0.1:*")?;
    /// let nothing = pull.recv_timeout(Duration::from_millis(5));
    /// assert!(matches!(nothing, Err(Error::TimedOut)));
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn recv_timeout(&self, limit: Duration) -> Result<Message, Error> {
        self.receive(Limit::For(limit))
    }

    /// Receives the next message, waiting until `deadline` at most, whatever the options say.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Message, Error> {
        self.receive(Limit::Until(deadline))
    }

    /// Receives the next message, and says who sent it (`zmq_msg_gets`).
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_from(&self) -> Result<(Message, Peer), Error> {
        let mut message = Message::new();
        let peer = self.core().recv_from(&mut message, Limit::Option)?;
        Ok((message, peer))
    }

    /// Returns an iterator that receives until that fails: until the socket is closed, its context
    /// terminated, or its [`recv_timeout`](crate::Options::recv_timeout) has passed in vain.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv), at each step.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Pull, Push};
    /// let pull = Pull::bound("inproc://iter")?;
    /// sward_runtime::spawn(move || {
    ///     let push = Push::connected("inproc://iter").unwrap();
    ///     for text in ["a", "b", "end"] {
    ///         push.send(text).unwrap();
    ///     }
    /// });
    /// for message in &pull {
    ///     if message.first() == "end" {
    ///         pull.close();
    ///     }
    /// }
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            socket: self,
            limit: Limit::Option,
            over: false,
        }
    }

    /// Returns an iterator over what has come up to now.
    ///
    /// # Blocking
    /// Never parks.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Pull, Push};
    /// let pull = Pull::bound("inproc://try_iter")?;
    /// let push = Push::connected("inproc://try_iter")?;
    /// push.send("a")?;
    /// push.send("b")?;
    /// assert_eq!(pull.try_iter().count(), 2);
    /// assert_eq!(pull.try_iter().count(), 0);
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn try_iter(&self) -> Iter<'_> {
        Iter {
            socket: self,
            limit: Limit::Try,
            over: false,
        }
    }
}

/// Receives until that fails; see [`Socket::iter`] and [`Socket::try_iter`].
#[derive(Debug)]
#[must_use = "iterators receive nothing until they are asked"]
pub struct Iter<'a> {
    socket: &'a Socket,
    limit: Limit,
    over: bool,
}

impl Iterator for Iter<'_> {
    type Item = Message;

    #[inline]
    fn next(&mut self) -> Option<Message> {
        if self.over {
            return None;
        }
        let message = self.socket.receive(self.limit).ok();
        self.over = message.is_none();
        message
    }
}

impl FusedIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Socket {
    type Item = Message;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
