//! Subscriptions: made by a SUB, received by an XPUB.

use std::fmt;

use sward_zmtp::{Frame, Message};

use super::core::{Limit, SocketCore, State};
use super::dynamic::Socket;
use super::types::{Sub, XPub};
use crate::error::Error;
use crate::loss::Loss;
use crate::pattern::Refusal;
use crate::peer::Peer;

impl SocketCore {
    fn change_subscription(
        &self,
        f: impl FnOnce(&mut State) -> Result<(), Refusal>,
    ) -> Result<(), Error> {
        let mut guard = self.lines.lock();
        if let Some(why) = &guard.closed {
            return Err(why.clone());
        }
        let changed = f(&mut guard);
        let tidy = guard.pipes.effects.any;
        drop(guard);
        self.after(tidy);
        changed.map_err(Error::from)
    }
}

impl Socket {
    /// Subscribes a SUB to a topic (`SUBSCRIBE`): to all messages that begin with it. A topic to
    /// which it subscribes n times has to be unsubscribed from n times.
    ///
    /// For an XPUB in manual mode: subscribes the peer whose subscription it received last.
    ///
    /// # Blocking
    /// Never parks. It does not wait until publishers know of it; [`Sub::ready`] does.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other kinds; when the socket is closed.
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        let topic = topic.as_ref();
        self.core()
            .change_subscription(|state| state.pattern.subscribe(&mut state.pipes, topic))
    }

    /// Takes one subscription back (`UNSUBSCRIBE`); one that was not made is ignored.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        let topic = topic.as_ref();
        self.core()
            .change_subscription(|state| state.pattern.unsubscribe(&mut state.pipes, topic))
    }
}

impl Sub {
    /// Subscribes to a topic: to all messages that begin with it; `""` is all messages. A topic to
    /// which it subscribes n times has to be unsubscribed from n times.
    ///
    /// # Blocking
    /// Never parks. It does not wait until publishers know of it; [`ready`](Self::ready) does.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.as_ref().subscribe(topic)
    }

    /// Takes one subscription back; one that was not made is ignored.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), Error> {
        self.as_ref().unsubscribe(topic)
    }

    /// Returns to how many different topics it has subscribed (`TOPICS_COUNT`).
    pub fn topics(&self) -> usize {
        self.as_ref().topics()
    }
}

/// Whether a peer wants a topic, or no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// It subscribes.
    Subscribe,
    /// It takes a subscription back, or has gone.
    Cancel,
}

/// What a peer of an XPUB asks for; see [`XPub::next_subscription`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// Whether it subscribes.
    pub kind: SubscriptionKind,
    /// To what.
    pub topic: Frame,
    /// Who asks.
    pub peer: Peer,
}

impl Subscription {
    /// What a message says, if it is one; else the peer who sent it.
    fn from_message(message: &Message, peer: Peer) -> Result<Self, Peer> {
        let (kind, topic) = match message.first().as_slice() {
            _ if message.len() > 1 => return Err(peer),
            [1, topic @ ..] => (SubscriptionKind::Subscribe, topic),
            [0, topic @ ..] => (SubscriptionKind::Cancel, topic),
            _ => return Err(peer),
        };
        let topic = Frame::from(topic);
        Ok(Self { kind, topic, peer })
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("kind", &self.kind)
            .field("topic", &self.topic)
            .field("peer", &self.peer)
            .finish()
    }
}

impl XPub {
    /// Receives the next subscription, or end of one. Other messages of peers are dropped, and
    /// counted.
    ///
    /// With [`Options::xpub_manual`](crate::Options::xpub_manual) each is handed out, and nothing is
    /// in force until [`accept`](Self::accept).
    ///
    /// # Blocking
    /// As [`Socket::recv`].
    ///
    /// # Errors
    /// As [`Socket::recv`].
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Options, Sub, SubscriptionKind, XPub};
    /// let publisher = XPub::with(Options::new().xpub_manual(true))?;
    /// let subscriber = Sub::connected(publisher.bind("tcp://127.0.0.1:*")?)?;
    /// subscriber.subscribe("secret")?;
    /// subscriber.subscribe("public")?;
    /// for _ in 0..2 {
    ///     let wish = publisher.next_subscription()?;
    ///     assert_eq!(wish.kind, SubscriptionKind::Subscribe);
    ///     if wish.topic != "secret" {
    ///         publisher.accept(&wish)?;
    ///     }
    /// }
    /// publisher.send("secret plan")?;
    /// publisher.send("public plan")?;
    /// assert_eq!(subscriber.recv()?.first(), "public plan");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn next_subscription(&self) -> Result<Subscription, Error> {
        let core = self.as_ref().core();
        let mut message = Message::new();
        loop {
            let peer = core.recv_from(&mut message, Limit::Option)?;
            match Subscription::from_message(&message, peer) {
                Ok(subscription) => return Ok(subscription),
                Err(_) => core.count(Loss::Unexpected, 1, None),
            }
        }
    }

    /// Manual mode: does what the peer asked for. One that has gone meanwhile is left alone.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the socket is not in manual mode; when it is closed.
    pub fn accept(&self, subscription: &Subscription) -> Result<(), Error> {
        self.accept_as(subscription, &subscription.topic)
    }

    /// Manual mode: does what the peer asked for, with another topic.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_as(
        &self,
        subscription: &Subscription,
        topic: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let place = subscription.peer.place();
        let topic = topic.as_ref();
        self.as_ref().core().change_subscription(|state| {
            state.pattern.choose(place.slot, place.generation);
            match subscription.kind {
                SubscriptionKind::Subscribe => state.pattern.subscribe(&mut state.pipes, topic),
                SubscriptionKind::Cancel => state.pattern.unsubscribe(&mut state.pipes, topic),
            }
        })
    }
}
