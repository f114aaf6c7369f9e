//! Waiting for peers and subscribers, so that nobody has to sleep for them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sward_zmtp::SocketType;

use super::core::{SocketCore, State, WATCHERS};
use super::dynamic::Socket;
use super::types::{Pub, Sub, XPub};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::pipe::{Entry, Slot};
use crate::session::Place;

impl SocketCore {
    /// A peer has answered a probe.
    pub(super) fn reached(&self, place: Place, number: u64) {
        let mut guard = self.lines.lock();
        if guard.is_at(place) {
            guard.pipes[place.slot].reached = number;
            guard.held().wake_all(WATCHERS);
        }
    }

    /// Waits until `look` finds something; it is asked again after each change of peers or
    /// subscriptions.
    fn watch<R>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<R, Error> {
        let deadline = Instant::now().checked_add(limit);
        let waited = self.lines.wait::<WATCHERS, _>(
            self.reason(WATCHERS),
            || deadline,
            |held| {
                if let Some(why) = &held.closed {
                    return Some(Err(why.clone()));
                }
                look(held).map(Ok)
            },
        );
        waited.map_err(Error::from)?
    }
}

impl Socket {
    /// Waits until so many peers are connected: until their handshakes are done and messages may
    /// flow.
    ///
    /// # Blocking
    /// Parks, for at most `limit`; honours kill and `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; when the socket is closed or its context terminated.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Pull, Push};
    /// let push = Push::bound("tcp://127.0.0.1:*")?;
    /// let first = Pull::connected(push.last_endpoint().unwrap())?;
    /// let second = Pull::connected(push.last_endpoint().unwrap())?;
    /// push.wait_connected(2, Duration::from_secs(5))?;
    /// push.send("for one")?;
    /// push.send("for the other")?;
    /// first.recv()?;
    /// second.recv()?;
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn wait_connected(&self, peers: usize, limit: Duration) -> Result<(), Error> {
        let enough = |state: &mut State| (state.pipes.connected() >= peers).then_some(());
        self.core().watch(limit, enough)
    }

    /// Waits until so many peers of a PUB or XPUB have subscribed to something: see
    /// [`Pub::wait_subscribers`].
    ///
    /// # Blocking
    /// Parks, for at most `limit`; honours kill and `timeout`.
    ///
    /// # Errors
    /// As [`wait_connected`](Self::wait_connected); [`Error::Unsupported`] for other kinds.
    pub fn wait_subscribers(&self, peers: usize, limit: Duration) -> Result<(), Error> {
        self.publishes()?;
        let enough = |state: &mut State| (state.pattern.audience() >= peers).then_some(());
        self.core().watch(limit, enough)
    }

    /// Waits until a message of this topic would go to so many peers of a PUB or XPUB: see
    /// [`Pub::wait_subscribers_of`].
    ///
    /// # Blocking
    /// Parks, for at most `limit`; honours kill and `timeout`.
    ///
    /// # Errors
    /// As [`wait_subscribers`](Self::wait_subscribers).
    pub fn wait_subscribers_of(
        &self,
        topic: impl AsRef<[u8]>,
        peers: usize,
        limit: Duration,
    ) -> Result<(), Error> {
        self.publishes()?;
        let topic = topic.as_ref();
        let enough = |state: &mut State| (state.pattern.subscribers(topic) >= peers).then_some(());
        self.core().watch(limit, enough)
    }

    /// Returns to how many peers of a PUB or XPUB a message of this topic would go.
    pub fn subscribers_of(&self, topic: impl AsRef<[u8]>) -> usize {
        self.core().lines.lock().pattern.subscribers(topic.as_ref())
    }

    /// Returns to how many different topics the peers of a PUB or XPUB have subscribed, or to how
    /// many a SUB or XSUB has (`TOPICS_COUNT`).
    pub fn topics(&self) -> usize {
        self.core().lines.lock().pattern.topics()
    }

    fn publishes(&self) -> Result<(), Error> {
        match self.socket_type() {
            SocketType::Pub | SocketType::XPub => Ok(()),
            _ => Err(Error::Unsupported("have subscribers")),
        }
    }
}

/// Which publishers [`Sub::ready`] waits for: so many, or those of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishers {
    /// So many, whoever they are.
    Count(usize),
    /// The one that the socket is connected to there, or one that has connected to it there.
    At(String),
}

impl From<usize> for Publishers {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl From<&str> for Publishers {
    fn from(endpoint: &str) -> Self {
        Self::At(endpoint.to_owned())
    }
}

impl From<&Endpoint> for Publishers {
    fn from(endpoint: &Endpoint) -> Self {
        Self::At(endpoint.to_string())
    }
}

impl From<Endpoint> for Publishers {
    fn from(endpoint: Endpoint) -> Self {
        Self::from(&endpoint)
    }
}

impl Publishers {
    fn includes(&self, entry: &Entry) -> bool {
        let endpoint = entry.peer.as_ref().map(|peer| &*peer.endpoint);
        match self {
            Self::Count(_) => true,
            Self::At(wanted) => endpoint == Some(wanted.as_str()),
        }
    }

    fn number(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::At(_) => 1,
        }
    }
}

/// After how long it is looked again whether a peer that cannot be asked has taken everything.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How far a connection is on its way to being known to have everything.
///
/// ```text
/// (asked once) -> First -- answer, asked again --> Second -- answer --> reached
/// ```
///
/// One answer would not do: libzmq answers as it reads, before it hands on what it has read with the
/// question. When it reads the second question, it has handed on everything before the first.
enum Stage {
    First(u64),
    Second(u64),
    /// Cannot be asked: has everything once nothing waits here.
    Unasked,
    Reached,
}

/// What is known of each connection: by its pipe, and since when it stands.
#[derive(Default)]
struct Progress(HashMap<(Slot, u32, Instant), Stage>);

impl Progress {
    /// Asks who has not been asked yet. Returns how many have everything.
    fn advance(&mut self, state: &mut State, which: &Publishers) -> usize {
        let State { pipes, probes, .. } = state;
        let mut reached = 0;
        for (slot, entry) in pipes.iter_mut() {
            let Some(since) = entry
                .since
                .filter(|_| !entry.ended && which.includes(entry))
            else {
                continue;
            };
            let mut ask = |stage: fn(u64) -> Stage| {
                *probes += 1;
                if entry.pipe.probe(*probes) {
                    stage(*probes)
                } else {
                    Stage::Unasked
                }
            };
            let key = (slot, entry.generation, since);
            let stage = self.0.entry(key).or_insert_with(|| ask(Stage::First));
            match *stage {
                Stage::First(number) if entry.reached >= number => *stage = ask(Stage::Second),
                Stage::Second(number) if entry.reached >= number => *stage = Stage::Reached,
                Stage::Unasked if entry.pipe.depths().0 == 0 => *stage = Stage::Reached,
                _ => {}
            }
            reached += usize::from(matches!(stage, Stage::Reached));
        }
        reached
    }

    fn must_look_again(&self) -> bool {
        self.0.values().any(|stage| matches!(stage, Stage::Unasked))
    }
}

impl Sub {
    /// Waits until all subscriptions that were made are known to have reached so many publishers, or
    /// the one at an endpoint: what those send from then on is received.
    ///
    /// It asks each publisher and waits for the answer, so no sleep is needed, and none would be
    /// certain. Those that cannot be asked count as soon as everything was given to the system. The
    /// publisher's side of it is [`Pub::wait_subscribers`].
    ///
    /// # Blocking
    /// Parks, for at most `limit`; honours kill and `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; when the socket is closed or its context terminated.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Pub, Sub};
    /// let publisher = Pub::bound("inproc://ready")?;
    /// let subscriber = Sub::connected("inproc://ready")?;
    /// subscriber.subscribe("news")?;
    /// subscriber.ready(1, Duration::from_secs(5))?;
    /// publisher.send("news: none")?;
    /// assert_eq!(subscriber.recv()?.first(), "news: none");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn ready(&self, which: impl Into<Publishers>, limit: Duration) -> Result<(), Error> {
        let which = which.into();
        let core = self.as_ref().core();
        let deadline = Instant::now().checked_add(limit);
        let mut progress = Progress::default();
        let mut again = false;
        loop {
            let left = deadline.map_or(Duration::MAX, |at| {
                at.saturating_duration_since(Instant::now())
            });
            let wait = if again { left.min(LOOK_AGAIN) } else { left };
            let waited = core.watch(wait, |state| {
                let enough = progress.advance(state, &which) >= which.number();
                (enough || !again && progress.must_look_again()).then_some(enough)
            });
            again = progress.must_look_again();
            match waited {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::TimedOut) if wait < left => {}
                Err(e) => return Err(e),
            }
        }
    }
}

macro_rules! publishes {
    ($($Name:ident),+) => {$(
        impl $Name {
            /// Waits until so many peers have subscribed to something.
            ///
            /// What is sent before a peer has subscribed does not reach it: this ends the "slow
            /// joiner" problem without sleeps. The subscriber's side of it is
            /// [`Sub::ready`](crate::Sub::ready).
            ///
            /// # Blocking
            /// Parks, for at most `limit`; honours kill and `timeout`.
            ///
            /// # Errors
            /// [`Error::TimedOut`]; when the socket is closed or its context terminated.
            pub fn wait_subscribers(&self, peers: usize, limit: Duration) -> Result<(), Error> {
                self.as_ref().wait_subscribers(peers, limit)
            }

            /// Waits until a message of this topic would go to so many peers.
            ///
            /// # Blocking
            /// Parks, for at most `limit`; honours kill and `timeout`.
            ///
            /// # Errors
            /// As [`wait_subscribers`](Self::wait_subscribers).
            pub fn wait_subscribers_of(
                &self,
                topic: impl AsRef<[u8]>,
                peers: usize,
                limit: Duration,
            ) -> Result<(), Error> {
                self.as_ref().wait_subscribers_of(topic, peers, limit)
            }

            /// Returns to how many peers a message of this topic would go.
            pub fn subscribers_of(&self, topic: impl AsRef<[u8]>) -> usize {
                self.as_ref().subscribers_of(topic)
            }

            /// Returns to how many different topics the peers have subscribed (`TOPICS_COUNT`).
            pub fn topics(&self) -> usize {
                self.as_ref().topics()
            }
        }
    )+};
}

publishes!(Pub, XPub);
