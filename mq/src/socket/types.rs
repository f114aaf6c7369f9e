//! The typed fronts: one for each kind of socket, with the operations of that kind only.

use std::fmt;
use std::time::{Duration, Instant};

use sward_zmtp::{Frame, Message, SocketType};

use super::arms::{Receiving, Sending};
use super::dynamic::Socket;
use super::front::{front, receives, sends, streams};
use super::messages::Iter;
use super::stats::{PeerStatus, SocketStats};
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::{Error, SendError};
use crate::monitor::Monitor;
use crate::options::Options;
use crate::peer::Peer;

front! {
    /// A PUSH socket: sends each message to one of its peers, in turn, and waits while there is none
    /// with room. The peers are [`Pull`] sockets.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Pull, Push};
    /// let push = Push::bound("tcp://127.0.0.1:*")?;
    /// let pull = Pull::connected(push.last_endpoint().unwrap())?;
    /// push.send("work")?;
    /// assert_eq!(pull.recv()?.first(), "work");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Push: sends;
}

front! {
    /// A PULL socket: receives from all its peers, in turn. The peers are [`Push`] sockets.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Pull, Push};
    /// let pull = Pull::bound("inproc://work")?;
    /// let workers = [1, 2].map(|n| sward_runtime::spawn(move || {
    ///     Push::connected("inproc://work")?.send(format!("from {n}"))?;
    ///     Ok::<(), sward_mq::Error>(())
    /// }));
    /// let mut all: Vec<_> = pull.iter().take(2).collect();
    /// all.sort_by_key(|message| message.first().to_bytes());
    /// assert_eq!(all[1].first(), "from 2");
    /// # sward_runtime::join_all(workers);
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Pull: receives, streams;
}

front! {
    /// A PUB socket: sends each message to all peers that have subscribed to its beginning, and never
    /// waits: who has no room misses it. The peers are [`Sub`] and [`XSub`] sockets.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Pub, Sub};
    /// let publisher = Pub::bound("tcp://127.0.0.1:*")?;
    /// let subscriber = Sub::connected(publisher.last_endpoint().unwrap())?;
    /// subscriber.subscribe("weather")?;
    /// publisher.wait_subscribers(1, Duration::from_secs(5))?;
    /// publisher.send("traffic: jam")?;
    /// publisher.send("weather: fair")?;
    /// assert_eq!(subscriber.recv()?.first(), "weather: fair");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Pub: sends;
}

front! {
    /// A SUB socket: receives what begins with one of its topics, from all its peers. The peers are
    /// [`Pub`] and [`XPub`] sockets.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Pub, Sub};
    /// let publisher = Pub::bound("inproc://news")?;
    /// let subscriber = Sub::connected("inproc://news")?;
    /// subscriber.subscribe("")?;
    /// publisher.send(["news", "of the day"])?;
    /// assert_eq!(subscriber.recv()?[1], "of the day");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Sub: receives, streams;
}

front! {
    /// An XPUB socket: as [`Pub`], and receives the subscriptions of its peers, as messages.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Sub, XPub};
    /// let publisher = XPub::bound("inproc://xpub")?;
    /// let subscriber = Sub::connected("inproc://xpub")?;
    /// subscriber.subscribe("a")?;
    /// assert_eq!(publisher.recv()?.first(), "\x01a");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    XPub: sends, receives, streams;
}

front! {
    /// An XSUB socket: as [`Sub`], but subscribes by messages that it sends: a byte 1 and the topic,
    /// or 0 and the topic to take it back. It receives all that its peers send it.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Pub, XSub};
    /// let publisher = Pub::bound("inproc://xsub")?;
    /// let subscriber = XSub::connected("inproc://xsub")?;
    /// subscriber.send("\x01a")?;
    /// publisher.send("abc")?;
    /// assert_eq!(subscriber.recv()?.first(), "abc");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    XSub: sends, receives, streams;
}

front! {
    /// A REQ socket: sends a request, receives its reply, sends the next. The peers are [`Rep`] and
    /// [`Router`] sockets, in turn.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Rep, Req};
    /// let rep = Rep::bound("inproc://req")?;
    /// let req = Req::connected("inproc://req")?;
    /// req.send("question")?;
    /// let request = rep.recv()?;
    /// assert_eq!(request.first(), "question");
    /// request.reply("answer")?;
    /// assert_eq!(req.recv()?.first(), "answer");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Req: sends, receives;
}

front! {
    /// A REP socket: receives [requests](crate::Request), each of which is answered by its own
    /// `reply`, in any order. The peers are [`Req`] and [`Dealer`] sockets, in turn.
    ///
    /// The strict form, which receives and sends by turns, is that of a
    /// [`Socket`] of this kind.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Rep, Req};
    /// let rep = Rep::bound("inproc://rep")?;
    /// let req = Req::connected("inproc://rep")?;
    /// req.send("question")?;
    /// let request = rep.recv()?;
    /// assert_eq!(request.first(), "question");
    /// request.reply("answer")?;
    /// assert_eq!(req.recv()?.first(), "answer");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Rep;
}

front! {
    /// A DEALER socket: sends each message to one of its peers, in turn, and receives from all of
    /// them, at any time. The peers are [`Router`], [`Rep`] and [`Dealer`] sockets.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Dealer, Router};
    /// let router = Router::bound("inproc://dealer")?;
    /// let dealer = Dealer::connected("inproc://dealer")?;
    /// dealer.send("hello")?;
    /// let message = router.recv()?;
    /// router.send_to(message[0].clone(), "you said hello")?;
    /// assert_eq!(dealer.recv()?.first(), "you said hello");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Dealer: sends, receives, streams;
}

front! {
    /// A ROUTER socket: receives from all its peers, with the routing id of the sender as first
    /// frame, and sends to the one whose routing id is the first frame. The peers are [`Req`],
    /// [`Dealer`] and [`Router`] sockets.
    ///
    /// Whom nobody has as routing id a message is dropped for, and counted, unless
    /// [`Options::router_mandatory`] is on.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Options, Req, Router};
    /// let router = Router::bound("tcp://127.0.0.1:*")?;
    /// let req = Req::with(Options::new().routing_id("client"))?;
    /// req.connect(router.last_endpoint().unwrap())?;
    /// req.send("hello")?;
    /// assert_eq!(router.recv()?, ["client", "", "hello"].into());
    /// router.send(["client", "", "hi"])?;
    /// assert_eq!(req.recv()?.first(), "hi");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Router: sends, receives, streams;
}

front! {
    /// A PAIR socket: one peer, a `Pair` too, and messages both ways.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::Pair;
    /// let here = Pair::bound("inproc://pair")?;
    /// let there = Pair::connected("inproc://pair")?;
    /// here.send("ping")?;
    /// there.send("pong")?;
    /// assert_eq!(there.recv()?.first(), "ping");
    /// assert_eq!(here.recv()?.first(), "pong");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    Pair: sends, receives, streams;
}

front! {
    /// A STREAM socket: talks bytes with peers that are no ZeroMQ sockets, over tcp. It receives the
    /// routing id of a peer and some of its bytes, as two frames, and sends the same; an empty second
    /// frame says that the peer has come or gone, or ends it.
    Stream: sends, receives, streams;
}

impl Router {
    /// Sends to the peer that has a routing id: as [`send`](Self::send) with the id put before the
    /// message.
    ///
    /// # Blocking
    /// As [`Socket::send`].
    ///
    /// # Errors
    /// As [`Socket::send`]; the message comes back without the id.
    pub fn send_to(
        &self,
        routing_id: impl Into<Frame>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        send_to(&self.socket, routing_id.into(), message.into())
    }
}

impl Stream {
    /// Sends bytes to the peer that has a routing id; none end its connection.
    ///
    /// # Blocking
    /// As [`Socket::send`].
    ///
    /// # Errors
    /// As [`Socket::send`]; the message comes back without the id.
    pub fn send_to(
        &self,
        routing_id: impl Into<Frame>,
        bytes: impl Into<Frame>,
    ) -> Result<(), SendError> {
        send_to(&self.socket, routing_id.into(), Message::from(bytes.into()))
    }
}

fn send_to(socket: &Socket, routing_id: Frame, mut message: Message) -> Result<(), SendError> {
    message.push_front(routing_id);
    socket.send(message).map_err(|e| {
        let (error, mut message) = e.into_parts();
        message.pop_front();
        SendError::new(error, message)
    })
}

/// A [`Socket`] that was to be a front of another kind.
///
/// # Examples
/// ```
/// use sward_mq::{Pull, Push, Socket};
/// let socket = Socket::from(Push::new()?);
/// let wrong = Pull::try_from(socket).unwrap_err();
/// assert_eq!(wrong.to_string(), "a PUSH socket is no PULL socket");
/// let push = Push::try_from(wrong.into_socket()).unwrap();
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WrongKind {
    socket: Socket,
    wanted: SocketType,
}

impl WrongKind {
    /// Gives the socket back.
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

impl fmt::Display for WrongKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = self.socket.socket_type();
        write!(f, "a {is} socket is no {} socket", self.wanted)
    }
}

impl std::error::Error for WrongKind {}
