//! The patterns: which peer a message goes to, and whose message comes next. No I/O, no waiting, and
//! no clock but for how long a publisher has gathered: a socket calls them under its lock and does what
//! waits.
//!
//! Four strategies, of which every pattern is composed:
//!
//! | strategy | who uses it |
//! |---|---|
//! | [`load_balancer`]: the next pipe in turn that has room | PUSH, DEALER, REQ |
//! | [`fair_queue`]: the next pipe in turn that has a message | all that receive, but PUB and XPUB |
//! | [`distributor`]: all pipes, or all that match | PUB, XPUB, XSUB (upstream) |
//! | [`subscriptions`]: which pipes want a topic | PUB, XPUB |
//!
//! Below them: [`ring`] (the turns of the first two), [`prefix_tree`] with [`node_table`] and
//! [`prefix_hash`] (topics, of publishers and subscribers), [`batch`] (what goes to the same pipes
//! again). Above: [`addressed`] (routing ids, for ROUTER and STREAM), [`subscription_queue`] (what an
//! XPUB tells). Beside: [`conflate`].
//!
//! A pattern keeps slots, not pipes. It is told of each step in a pipe's life (`pipe.rs`), and that a
//! pipe that was empty has a message, or one that was full has room. It may look at pipes at any
//! time; it never waits for one.
//!
//! What a pattern may rely on, and what it may not
//! - `attach` comes first, `detach` last. `Entry::ended` is set before `ended` is told.
//! - An edge may be told late, twice, or for nothing; never too seldom. So a pattern asks a pipe
//!   until it says no before it leaves it alone.
//! - `ended` and `detach` may come at any time, also without each other.
//! - A slot that comes with a message is that of its peer until the socket has been told that the
//!   pipe is drained, which is never before its last message has been received. Only [`NOBODY`]
//!   stands for a peer whose slot was taken away earlier.
//!
//! Peers can send without end: what skips or consumes messages does [`AT_ONE_GO`] of them, then asks
//! to be called again (`Effects::again`).
//!
//! To add a pattern: a file with its type, and a line in `make.rs`.

mod addressed;
mod batch;
pub(crate) mod conflate;
mod dealer;
mod distributor;
mod fair_queue;
mod load_balancer;
pub(crate) mod make;
mod node_table;
mod pair;
mod pipeline;
mod prefix_hash;
mod prefix_tree;
mod publish;
mod rep;
mod req;
mod requests;
mod ring;
mod router;
mod stream;
mod subscribe;
mod subscription_queue;
mod subscriptions;
#[cfg(test)]
mod testing;

use sward_zmtp::{Frame, Message};

#[cfg(doc)]
use crate::pipe::AT_ONE_GO;
use crate::pipe::{Pipes, Slot};

/// Stands for the slot of a peer that has lost it before its last message was received.
pub(crate) const NOBODY: Slot = Slot::MAX;

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No peer, or all are full, or nothing has come: it may succeed later (`EAGAIN`).
    WouldBlock,
    /// Not in this state: REQ and REP alternate (`EFSM`).
    State,
    /// Nobody has that routing id, and the socket must say so (`EHOSTUNREACH`).
    Unroutable,
    /// This kind of socket does not do that (`ENOTSUP`).
    Unsupported,
    /// The message has not the form that the pattern needs (`EINVAL`).
    Invalid,
}

/// What patterns are told to do differently: the options that act at once (zmtp.md 19 names).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) struct PatternOptions {
    pub(crate) router_mandatory: bool,
    pub(crate) router_handover: bool,
    pub(crate) router_notify: u8,
    pub(crate) probe_router: bool,
    pub(crate) req_correlate: bool,
    pub(crate) req_relaxed: bool,
    pub(crate) xpub_verbose: bool,
    pub(crate) xpub_verboser: bool,
    pub(crate) xpub_nodrop: bool,
    pub(crate) xpub_manual: bool,
    pub(crate) xpub_manual_last_value: bool,
    pub(crate) xpub_welcome: Option<Message>,
    pub(crate) xsub_verbose_unsubscribe: bool,
    pub(crate) only_first_subscribe: bool,
    pub(crate) invert_matching: bool,
    pub(crate) stream_notify: bool,
    pub(crate) max_subscriptions: usize,
    pub(crate) max_subscription_bytes: usize,
}

/// As libzmq has them.
impl Default for PatternOptions {
    fn default() -> Self {
        Self {
            router_mandatory: false,
            router_handover: false,
            router_notify: 0,
            probe_router: false,
            req_correlate: false,
            req_relaxed: false,
            xpub_verbose: false,
            xpub_verboser: false,
            xpub_nodrop: false,
            xpub_manual: false,
            xpub_manual_last_value: false,
            xpub_welcome: None,
            xsub_verbose_unsubscribe: false,
            only_first_subscribe: false,
            invert_matching: false,
            stream_notify: true,
            max_subscriptions: usize::MAX,
            max_subscription_bytes: usize::MAX,
        }
    }
}

/// Sends what was lent by a way that takes messages, for patterns that take them apart.
#[inline]
fn lent(
    message: &mut Message,
    send: impl FnOnce(Message) -> Result<(), (Refusal, Message)>,
) -> Result<(), Refusal> {
    send(std::mem::take(message)).map_err(|(refusal, back)| {
        *message = back;
        refusal
    })
}

/// Receives in place of what was lent by a way that gives messages.
#[inline]
fn fill(
    into: &mut Message,
    recv: impl FnOnce() -> Result<(Message, Slot), Refusal>,
) -> Result<Slot, Refusal> {
    let (message, slot) = recv()?;
    *into = message;
    Ok(slot)
}

/// What leads a reply back to who asked: the pipe, and the frames that stood before the request.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) slot: Slot,
    /// Of the pipe: another one may have the slot later.
    pub(crate) generation: u32,
    /// The frames before the delimiter, which routers on the way have put there.
    path: Option<Message>,
}

/// A pattern; see the file head.
pub(crate) trait Pattern: Send {
    /// A new pipe. Its peer may not be known yet.
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot);

    /// The connection stands; `pipes[slot].peer` says who it is. Again after each reconnect.
    /// `false`: the peer is refused (PAIR's second, ROUTER's duplicate): the socket closes it.
    fn connected(&mut self, pipes: &mut Pipes, slot: Slot) -> bool {
        let _ = (pipes, slot);
        true
    }

    /// The connection is lost and is being made again; messages may be queued meanwhile.
    fn disconnected(&mut self, pipes: &mut Pipes, slot: Slot) {
        let _ = (pipes, slot);
    }

    /// Nothing more can be sent there; what has come can still be received.
    fn ended(&mut self, pipes: &mut Pipes, slot: Slot);

    /// The slot becomes free.
    fn detach(&mut self, pipes: &mut Pipes, slot: Slot);

    /// A pipe that was empty has a message.
    fn readable(&mut self, pipes: &mut Pipes, slot: Slot);

    /// A pipe that was full has room.
    fn writable(&mut self, pipes: &mut Pipes, slot: Slot);

    /// Sends a message that is lent; after a refusal it is as it was.
    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal>;

    /// Gives the pipes what was gathered for them (`batch.rs`): a pipe has come for it, or somebody
    /// looks at what is in them.
    fn hand_over(&mut self, pipes: &mut Pipes) {
        let _ = pipes;
    }

    /// Receives in place of a message that is lent, and says from which pipe.
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal>;

    /// Whether `send` may succeed now (`POLLOUT`). May say `true` wrongly, never `false`.
    fn can_send(&mut self, pipes: &mut Pipes) -> bool;

    /// Whether `recv` may succeed now (`POLLIN`).
    fn can_recv(&mut self, pipes: &mut Pipes) -> bool;

    /// Options have changed.
    fn configure(&mut self, options: &PatternOptions, pipes: &mut Pipes);

    /// SUB: adds a subscription. Manual XPUB: for the pipe of the subscription received last.
    fn subscribe(&mut self, pipes: &mut Pipes, topic: &[u8]) -> Result<(), Refusal> {
        let _ = (pipes, topic);
        Err(Refusal::Unsupported)
    }

    /// SUB: takes one back. Manual XPUB: as `subscribe`.
    fn unsubscribe(&mut self, pipes: &mut Pipes, topic: &[u8]) -> Result<(), Refusal> {
        let _ = (pipes, topic);
        Err(Refusal::Unsupported)
    }

    /// Manual XPUB: `subscribe` and `unsubscribe` act on this peer from now on.
    fn choose(&mut self, slot: Slot, generation: u32) {
        let _ = (slot, generation);
    }

    /// Number of peers that would be sent a message of that topic (PUB, XPUB), and of topics.
    fn subscribers(&self, topic: &[u8]) -> usize {
        let _ = topic;
        0
    }

    /// Number of peers that subscribed to anything (PUB, XPUB).
    fn audience(&self) -> usize {
        0
    }

    /// Number of different topics that peers subscribed to (TOPICS_COUNT).
    fn topics(&self) -> usize {
        0
    }

    /// The routing id of a peer, where the pattern has them.
    fn routing_id(&self, slot: Slot) -> Option<Frame> {
        let _ = slot;
        None
    }

    /// The peer that has a routing id, to which it can be sent.
    #[cfg(test)]
    fn slot_of(&self, routing_id: &[u8]) -> Option<Slot> {
        let _ = routing_id;
        None
    }

    /// REP: receives a request with its way back, however many are open.
    fn recv_request(&mut self, pipes: &mut Pipes) -> Result<(Envelope, Message), Refusal> {
        let _ = pipes;
        Err(Refusal::Unsupported)
    }

    /// REP: replies to one of them. That the peer is lost is counted and no refusal.
    fn reply(
        &mut self,
        pipes: &mut Pipes,
        envelope: Envelope,
        message: Message,
    ) -> Result<(), (Refusal, Message)> {
        let _ = (pipes, envelope);
        Err((Refusal::Unsupported, message))
    }

    /// REQ, DEALER: sends a request under a number that no other open one has, however many are open.
    fn request(
        &mut self,
        pipes: &mut Pipes,
        id: u32,
        message: Message,
    ) -> Result<Slot, (Refusal, Message)> {
        let _ = (pipes, id);
        Err((Refusal::Unsupported, message))
    }

    /// REQ, DEALER: takes the reply to that request, which is then closed; `Effects::replied` tells of it.
    fn take_reply(&mut self, pipes: &mut Pipes, id: u32) -> Option<Message> {
        let _ = (pipes, id);
        None
    }

    /// REQ, DEALER: closes a request; a reply that still comes is dropped and counted.
    fn forget(&mut self, id: u32) {
        let _ = id;
    }
}

/// PROBE_ROUTER: an empty message lets a ROUTER know us before we say anything.
fn probe(pipes: &mut Pipes, slot: Slot) {
    let _full = pipes.send(slot, Message::new());
}

/// Whether a frame is a subscription (`true`) or a cancel, and of which topic.
fn subscription(frame: &[u8]) -> Option<(bool, &[u8])> {
    match frame {
        [1, topic @ ..] => Some((true, topic)),
        [0, topic @ ..] => Some((false, topic)),
        _ => None,
    }
}

/// Refuses to send.
fn cannot_send(message: Message) -> Result<(), (Refusal, Message)> {
    Err((Refusal::Unsupported, message))
}
