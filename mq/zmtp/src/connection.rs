//! [`Connection`]: one ZMTP connection, as a machine without I/O.
//!
//! | state | `handshake` | `peer` | what comes |
//! |---|---|---|---|
//! | greeting | is there, has no version | none | the parts of a greeting |
//! | commands | is there, has a version | none | commands of the mechanism |
//! | ready | gone | known | messages, commands |
//! | over | gone | perhaps | nothing counts: after a fault, input is thrown away |
//!
//! Invariants:
//! - a message of one frame of less than `quick` bytes may be read without looking at anything else.
//!   It is not 0 only if the connection is ready, with the framing of 2.0 or later, nothing is
//!   under way, and no rule is left that such a message could break;
//! - nothing here waits, recurses, or keeps more than [`Limits`](crate::Limits) allow;
//! - an idle connection that is ready has no heap block of its own, but for what `control` kept.
//!
//! Laxer than the text of RFC 37, because real peers need it: both ends may send READY at once; a
//! command that is not known is ignored; an ERROR may come after the handshake too; SUBSCRIBE and
//! CANCEL may come as messages from any peer. And because memory counts: a PING is not answered
//! while more than [`BACKLOG`] bytes of answers wait for a peer that does not read. Stricter than
//! libzmq: see `error.rs`, all of `Malformed`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{self, CANCEL, ERROR, PING, PONG, READY, SUBSCRIBE};
use crate::decoder::{Decoder, Found, KEEP, Rules};
use crate::error::{Fault, Limited};
use crate::event::{Event, LargeBody};
use crate::frame::Frame;
use crate::handshake::{Handshake, Step};
use crate::header::{COMMAND, Framing, LONG, MAX_HEADER, MORE, write_v1};
use crate::heartbeat::Pulse;
use crate::message::Message;
use crate::metadata::Metadata;
use crate::output::Output;
use crate::peer::PeerInfo;
use crate::setup::Setup;
use crate::socket_type::SocketType;
use crate::version::Version;

/// So many bytes of answers wait for a peer that does not read them.
const BACKLOG: usize = 1024;

/// A machine for one ZMTP connection (or, for a STREAM, one without any protocol, whose messages are
/// what comes and goes): it gets what was read and the time, and gives events and
/// what is to be written.
///
/// Four kinds of methods: what comes in goes through [`decode`](Self::decode) (and
/// [`body`](Self::body)), after [`heard`](Self::heard). What the machine itself has to say is in
/// [`control`](Self::control), and goes out before further messages, at a message boundary. Messages
/// are in an [`Output`], which outlives connections; it may be written once
/// [`is_ready`](Self::is_ready). Time is told by [`handle_timeout`](Self::handle_timeout), at
/// [`poll_timeout`](Self::poll_timeout).
///
/// A [`Fault`] ends the connection: what is in `control` may still be written, and all else comes
/// to nothing.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
/// use sward_zmtp::{Connection, Event, Message, Output, Setup, SocketType};
///
/// let end = |of| Connection::new(Arc::new(Setup::new(of)), Instant::now());
/// let (mut push, mut pull) = (end(SocketType::Push), end(SocketType::Pull));
/// // The handshake: what one says, the other hears.
/// while !(push.is_ready() && pull.is_ready()) {
///     for _ in 0..2 {
///         let bytes = std::mem::take(push.control());
///         let (mut rest, mut more) = (&bytes[..], true);
///         while more {
///             let (used, event) = pull.decode(rest);
///             rest = &rest[used..];
///             more = event?.is_some();
///         }
///         std::mem::swap(&mut push, &mut pull);
///     }
/// }
/// // A message.
/// let mut output = Output::new();
/// output.push(&Message::from("hello"));
/// let mut slices = [std::io::IoSlice::new(&[])];
/// output.slices(&mut slices);
/// let (used, event) = pull.decode(&slices[0]);
/// assert!(matches!(event?, Some(Event::Message(message)) if message.first() == "hello"));
/// # Ok::<(), sward_zmtp::Fault>(())
/// ```
pub struct Connection {
    quick: u32,
    /// A subscription to everything comes next, because the peer cannot say so.
    implied: bool,
    over: bool,
    /// STREAM: no protocol at all.
    raw: bool,
    version: Option<Version>,
    setup: Arc<Setup>,
    handshake: Option<Box<Handshake>>,
    peer: Option<PeerInfo>,
    control: Vec<u8>,
    decoder: Decoder,
    pulse: Pulse,
}

const _: () = assert!(size_of::<Connection>() <= 200);

impl Connection {
    /// What [`decode`](Self::decode) leaves over is shorter than this, so a buffer of this size or
    /// more is never full of it.
    pub const LEFTOVER: usize = MAX_HEADER + 1 + KEEP;

    /// Begins a connection; the greeting is in [`control`](Self::control) at once.
    pub fn new(setup: Arc<Setup>, now: Instant) -> Self {
        let raw = setup.socket_type == SocketType::Stream;
        let mut control = Vec::new();
        let handshake = (!raw).then(|| {
            control.reserve_exact(128);
            Box::new(Handshake::new(&setup, now, &mut control))
        });
        Self {
            raw,
            quick: 0,
            implied: false,
            over: false,
            version: None,
            setup,
            handshake,
            peer: None,
            control,
            decoder: Decoder::default(),
            pulse: Pulse::new(now),
        }
    }

    /// Reads from the front of `input`: how many bytes were used, and what they were.
    ///
    /// It is to be called again with the rest until it gives `Ok(None)`. What is left over then is
    /// an incomplete header or a small body, shorter than [`LEFTOVER`](Self::LEFTOVER), and has to
    /// be there again, with more behind it, the next time.
    ///
    /// # Errors
    /// The connection has to be closed, for the reason given. Its further input is thrown away.
    #[inline]
    pub fn decode(&mut self, input: &[u8]) -> (usize, Result<Option<Event>, Fault>) {
        if let Some((window, len, header)) = self.quick_message(input) {
            let event = Event::Message(Frame::from_window(window, len).into());
            return (header + len, Ok(Some(event)));
        }
        self.decode_any(input)
    }

    /// As [`decode`](Self::decode) again and again, but messages go to `take` until it returns
    /// `false`; all else is returned. It is faster, because a small message is made where it goes.
    ///
    /// `Ok(None)` says that there is nothing more to read, or that `take` returned `false`.
    ///
    /// # Errors
    /// As `decode`, after the messages before the fault.
    #[inline]
    pub fn decode_each(
        &mut self,
        input: &[u8],
        mut take: impl FnMut(Message) -> bool,
    ) -> (usize, Result<Option<Event>, Fault>) {
        let mut rest = input;
        loop {
            if let Some((window, len, header)) = self.quick_message(rest) {
                rest = &rest[header + len..];
                if take(Frame::from_window(window, len).into()) {
                    continue;
                }
                return (input.len() - rest.len(), Ok(None));
            }
            let (used, event) = self.decode_any(rest);
            rest = &rest[used..];
            match event {
                Ok(Some(Event::Message(message))) => {
                    if take(message) {
                        continue;
                    }
                    return (input.len() - rest.len(), Ok(None));
                }
                other => return (input.len() - rest.len(), other),
            }
        }
    }

    /// What begins with the body of a message of one frame that is all there, the lengths of this
    /// body and of its header; `None` if it takes a closer look.
    #[inline]
    fn quick_message<'a>(&self, input: &'a [u8]) -> Option<(&'a [u8], usize, usize)> {
        let (body, len, header) = match input {
            [0, len, body @ ..] => (body, u32::from(*len), 2),
            [LONG, 0, 0, 0, 0, a, b, c, d, body @ ..] => {
                (body, u32::from_be_bytes([*a, *b, *c, *d]), 9)
            }
            _ => return None,
        };
        // Not less than: 0 is for all that is not quick.
        (len < self.quick && body.len() >= len as usize).then_some((body, len as usize, header))
    }

    #[inline(never)]
    fn decode_any(&mut self, input: &[u8]) -> (usize, Result<Option<Event>, Fault>) {
        if self.over {
            return (input.len(), Ok(None));
        }
        if self.raw {
            return self.decode_raw(input);
        }
        let mut used = 0;
        let result = loop {
            match self.step(&input[used..]) {
                Ok(Progress::Incomplete(n)) => {
                    used += n;
                    break Ok(None);
                }
                Ok(Progress::Used(n)) => used += n,
                Ok(Progress::Event(n, event)) => {
                    used += n;
                    break Ok(Some(event));
                }
                Err(fault) => {
                    self.end();
                    break Err(fault);
                }
            }
        };
        self.quick = self.quick();
        (used, result)
    }

    /// See `quick`: the first length that needs a closer look.
    fn quick(&self) -> u32 {
        let quick = self.peer.is_some()
            && !self.over
            && !self.implied
            && self.version >= Some(Version::V2_0)
            && self.decoder.is_idle()
            && !self.setup.socket_type.publishes();
        if quick { self.setup.limits.single() } else { 0 }
    }

    fn end(&mut self) {
        self.over = true;
        self.handshake = None;
        self.decoder.clear();
    }

    /// Reads one thing.
    fn step(&mut self, input: &[u8]) -> Result<Progress, Fault> {
        let setup = &*self.setup;
        let mut handshake = None;
        if let Some(now) = &mut self.handshake {
            self.version = now.version();
            if self.version.is_none() {
                return Ok(match now.greet(input, setup, &mut self.control)? {
                    Step::Incomplete => Progress::Incomplete(0),
                    Step::Used(used) => Progress::Used(used),
                    Step::Ready(used, peer) => Progress::Event(used, self.ready(peer)),
                });
            }
            handshake = Some(now.expects());
        } else if std::mem::take(&mut self.implied) {
            return Ok(Progress::Event(0, Event::Subscribe(Frame::empty())));
        }
        let rules = Rules {
            limits: &setup.limits,
            framing: match self.version {
                Some(Version::V1_0) => Framing::V1,
                Some(Version::V2_0) => Framing::V2,
                _ => Framing::V3,
            },
            handshake,
            publishes: setup.socket_type.publishes(),
        };
        let (used, found) = self.decoder.next(rules, input)?;
        let Some(found) = found else {
            return Ok(Progress::Incomplete(used));
        };
        let event = if found.command {
            self.command(found.content.as_slice())?
        } else {
            self.message(found)?
        };
        Ok(event.map_or(Progress::Used(used), |event| Progress::Event(used, event)))
    }

    /// STREAM: the peer is there at once, and what comes is a message as it comes.
    fn decode_raw(&mut self, input: &[u8]) -> (usize, Result<Option<Event>, Fault>) {
        if self.peer.is_none() {
            let nobody = PeerInfo::new(None, Version::V1_0, Frame::empty(), Metadata::default());
            self.peer = Some(nobody.clone());
            return (0, Ok(Some(Event::Ready(nobody))));
        }
        let event = (!input.is_empty()).then(|| Event::Message(input.into()));
        (input.len(), Ok(event))
    }

    fn ready(&mut self, peer: PeerInfo) -> Event {
        let version = peer.version();
        self.version = Some(version);
        self.implied = version == Version::V1_0 && self.setup.socket_type.publishes();
        self.handshake = None;
        self.pulse.start(self.setup.heartbeat, version);
        self.peer = Some(peer.clone());
        Event::Ready(peer)
    }

    fn message(&mut self, found: Found<'_>) -> Result<Option<Event>, Fault> {
        let single = !found.more && self.decoder.is_idle();
        if single && self.setup.socket_type.publishes() {
            // Its length was checked with its header.
            match found.content.as_slice() {
                [1, ..] => return Ok(Some(Event::Subscribe(found.content.into_topic()))),
                [0, ..] => return Ok(Some(Event::Cancel(found.content.into_topic()))),
                _ => {}
            }
        }
        let message = self.decoder.add(found.content.into_frame(), found.more);
        Ok(message.map(Event::Message))
    }

    fn command(&mut self, body: &[u8]) -> Result<Option<Event>, Fault> {
        if let Some(handshake) = &mut self.handshake {
            let peer = handshake.command(body, &self.setup, &mut self.control)?;
            return Ok(peer.map(|peer| self.ready(peer)));
        }
        let unexpected = |got| {
            Err(Fault::Misbehaved {
                expected: "a message",
                got,
            })
        };
        let (name, data) = command::split(body)?;
        let publishes = self.setup.socket_type.publishes();
        match name {
            SUBSCRIBE | CANCEL if publishes => return self.subscription_command(name, data),
            SUBSCRIBE => return unexpected("SUBSCRIBE"),
            CANCEL => return unexpected("CANCEL"),
            READY => return unexpected("a second READY"),
            ERROR => return Err(command::read_error(data)),
            PING => {
                let (ttl, context) = command::read_ping(data)?;
                self.pulse.asked(ttl);
                if self.control.len() < BACKLOG {
                    command::write(PONG, &[context], &mut self.control);
                }
            }
            PONG => {
                command::check_pong(data)?;
                self.pulse.answered();
                // Those of heartbeats have no context.
                if !data.is_empty() {
                    return Ok(Some(Event::Pong(data.into())));
                }
            }
            _ => self.check_command(body)?,
        }
        Ok(None)
    }

    fn subscription_command(&self, name: &[u8], topic: &[u8]) -> Result<Option<Event>, Fault> {
        let max = self.setup.limits.max_topic_size;
        if topic.len() > max {
            return Err(Fault::too_large(Limited::Topic, max, topic.len()));
        }
        let event = match name {
            SUBSCRIBE => Event::Subscribe,
            _ => Event::Cancel,
        };
        Ok(Some(event(topic.into())))
    }

    /// A command that is no subscription may not be as long as one.
    fn check_command(&self, body: &[u8]) -> Result<(), Fault> {
        let max = self.setup.limits.max_command;
        if body.len() > max {
            return Err(Fault::too_large(Limited::Command, max, body.len()));
        }
        Ok(())
    }

    /// Returns the large body that is under way, for the caller to read straight into it.
    ///
    /// What is appended there must be what follows in the stream: there must be no unused input.
    /// [`decode`](Self::decode) with whatever comes next, or with nothing, goes on then.
    pub fn body(&mut self) -> Option<LargeBody<'_>> {
        let (buffer, missing) = self.decoder.body()?;
        Some(LargeBody { buffer, missing })
    }

    /// Returns the bytes that have to go out before further messages, at a message boundary: the
    /// greeting, commands of the handshake, PING, PONG, ERROR. The caller takes them out as they
    /// are written.
    #[inline]
    pub fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// Returns whether there is something in [`control`](Self::control).
    #[inline]
    pub fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Returns whether messages must go through [`convert`](Self::convert), because the peer does
    /// not take the form in which [`Output`] has them.
    #[inline]
    pub fn needs_conversion(&self) -> bool {
        self.raw || self.version == Some(Version::V1_0)
    }

    /// Moves the first message from `output` to `into`, in the form that the peer takes; `false`: there
    /// is none. A command, which such a peer does not know, is left out.
    ///
    /// Only at a message boundary of `output`, which it then stays at.
    pub fn convert(&self, output: &mut Output, into: &mut Vec<u8>) -> bool {
        while let Some(first) = output.first_frame() {
            let (flags, size) = (first.flags, first.size);
            if self.raw {
                into.extend_from_slice(first.body.as_slice());
            } else if flags & COMMAND == 0 {
                write_v1(flags & MORE != 0, first.body.as_slice(), into);
            }
            output.advance(size);
            if flags & MORE == 0 {
                return true;
            }
        }
        false
    }

    /// Adds a subscription, or the end of one, to `output` in the form that the peer understands: a
    /// command since ZMTP 3.1, a message before. Only once it is known who the peer is.
    ///
    /// A message stays in `output` when a connection is lost, a command does not.
    pub fn subscription(&self, output: &mut Output, subscribe: bool, topic: &[u8]) {
        if self.version >= Some(Version::V3_1) {
            output.push_command(if subscribe { SUBSCRIBE } else { CANCEL }, topic);
        } else {
            output.push_parts(&[&[u8::from(subscribe)], topic]);
        }
    }

    /// Adds a PING to `output` that asks whether everything before it has been read: the answer is
    /// [`Event::Pong`] with the same context, of which 1 to 16 bytes count. `false`: this peer need
    /// not know what a PING is, and is not asked.
    pub fn probe(&self, output: &mut Output, context: &[u8]) -> bool {
        let asked = self.version >= Some(Version::V3_1) && !context.is_empty();
        if asked {
            let ttl = self.setup.heartbeat.map_or(0, |config| config.wire_ttl());
            let context = &context[..context.len().min(command::MAX_CONTEXT)];
            output.push_command(PING, &[&ttl.to_be_bytes()[..], context].concat());
        }
        asked
    }

    /// Something arrived.
    #[inline]
    pub fn heard(&mut self, now: Instant) {
        self.pulse.heard(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called; `None`: not unless
    /// something else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.handshake {
            _ if self.over => None,
            Some(handshake) => handshake.deadline,
            None if self.raw => None,
            None => self.pulse.poll_timeout(self.setup.heartbeat),
        }
    }

    /// Does what has to be done at this time: a PING is in [`control`](Self::control) then. It may
    /// be called too early.
    ///
    /// # Errors
    /// The handshake took too long, or the peer is silent.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        if self.over {
            return Ok(());
        }
        let result = match &self.handshake {
            Some(handshake) if handshake.deadline.is_some_and(|end| end <= now) => {
                let time = self.setup.handshake_interval.unwrap_or(Duration::ZERO);
                Err(Fault::HandshakeTimedOut(time))
            }
            Some(_) => Ok(()),
            None => {
                let config = self.setup.heartbeat;
                self.pulse
                    .handle_timeout(now, config, BACKLOG, &mut self.control)
            }
        };
        if result.is_err() {
            self.end();
            self.quick = 0;
        }
        result
    }

    /// Returns whether the handshake is complete, so that messages may go.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.peer.is_some() && !self.over
    }

    /// Returns what the peer said of itself, once it has.
    pub fn peer(&self) -> Option<&PeerInfo> {
        self.peer.as_ref()
    }

    /// Keeps this instead of what it has of the peer, if that is the same: many peers are alike.
    pub fn share_peer(&mut self, like: &PeerInfo) {
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.is_like(like)) {
            *peer = like.clone();
        }
    }

    /// Returns the version that is spoken, once it is known.
    pub fn version(&self) -> Option<Version> {
        self.version
    }
}

/// What one step through the input gave.
enum Progress {
    /// There must be more of it, beyond these bytes, which were used.
    Incomplete(usize),
    Used(usize),
    Event(usize, Event),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("socket_type", &self.setup.socket_type)
            .field("version", &self.version)
            .field("ready", &self.is_ready())
            .field("over", &self.over)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
