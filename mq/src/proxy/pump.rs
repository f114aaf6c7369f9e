//! A pump moves what comes in at one socket to another: one message at a time, many for each wake.
//!
//! It asks for room before it receives, so that it has no message in its hand while the other side is
//! full. Where the answer was wrong it waits with the message; when the proxy ends meanwhile, or the
//! pump is killed, the message is tried once more, then counted as lost ([`Hand`]).

use sward_zmtp::{Message, SocketType};

use super::statistics::Counts;
use super::steering::{Over, Steering};
use crate::error::Error;
use crate::loss::Loss;
use crate::socket::core::{Limit, READERS, SocketCore, State, Stop, WRITERS};

/// Whether a kind of socket receives anything.
pub(super) fn receives(kind: SocketType) -> bool {
    !matches!(kind, SocketType::Push | SocketType::Pub)
}

/// Whether it sends anything.
pub(super) fn sends(kind: SocketType) -> bool {
    !matches!(kind, SocketType::Pull | SocketType::Sub)
}

/// Whether it sends and receives by turns.
pub(super) fn takes_turns(kind: SocketType) -> bool {
    matches!(kind, SocketType::Req | SocketType::Rep)
}

/// From one socket to another.
pub(super) struct Way<'a> {
    pub(super) steering: &'a Steering,
    pub(super) capture: Option<&'a SocketCore>,
    pub(super) from: &'a SocketCore,
    pub(super) to: &'a SocketCore,
    pub(super) counts: &'a Counts,
    /// Whether it asks for room before it receives.
    pub(super) asks: bool,
}

/// Moves messages along the ways in turn.
pub(super) fn pump(ways: &[Way<'_>]) -> Over {
    let mut hands: Vec<_> = ways.iter().map(Hand::new).collect();
    loop {
        for hand in &mut hands {
            if let Err(over) = hand.step() {
                return over;
            }
        }
    }
}

/// A way with the message that is just being moved.
struct Hand<'a> {
    way: &'a Way<'a>,
    message: Message,
    /// There is a message.
    full: bool,
    /// There was room when the last one was sent.
    room: bool,
}

/// What a socket may say of a message without being broken: nobody has that routing id, it has the
/// wrong form.
fn concerns_the_message(error: &Error) -> bool {
    matches!(error, Error::HostUnreachable | Error::InvalidMessage(_))
}

impl<'a> Hand<'a> {
    fn new(way: &'a Way<'a>) -> Self {
        Self {
            way,
            message: Message::new(),
            full: false,
            room: false,
        }
    }

    /// Moves one message.
    #[inline]
    fn step(&mut self) -> Result<(), Over> {
        let Way {
            steering,
            capture,
            from,
            to,
            counts,
            asks,
        } = *self.way;
        if asks && !self.room {
            drop(steering.until::<WRITERS, _>(
                to,
                true,
                |_| false,
                |state| {
                    check(state)?;
                    let room = state.pattern.can_send(&mut state.pipes);
                    room.then_some(()).ok_or(Stop::WouldBlock)
                },
            )?);
        }
        let message = &mut self.message;
        drop(steering.until::<READERS, _>(from, true, |_| false, |state| take(state, message))?);
        self.full = true;
        let size = self.message.size() as u64;
        counts.received(size);
        if let Some(capture) = capture {
            self.copy(capture)?;
        }
        let message = &mut self.message;
        let sent = steering.until::<WRITERS, _>(to, true, concerns_the_message, |state| {
            put(state, message)?;
            Ok(asks && state.pattern.can_send(&mut state.pipes))
        })?;
        self.full = false;
        match sent {
            Ok(room) => {
                self.room = room;
                counts.sent(size);
            }
            Err(_) => self.lose(),
        }
        Ok(())
    }

    /// Sends a copy: the frames are shared.
    #[cold]
    fn copy(&self, capture: &SocketCore) -> Result<(), Over> {
        let mut copy = self.message.clone();
        let sent = self.way.steering.until::<WRITERS, _>(
            capture,
            true,
            concerns_the_message,
            |state| put(state, &mut copy),
        )?;
        if sent.is_err() {
            capture.count(Loss::Unexpected, 1, None);
        }
        Ok(())
    }

    #[cold]
    fn lose(&self) {
        self.way.counts.lost();
        self.way.to.count(Loss::Unroutable, 1, None);
    }
}

/// Fails if the socket is closed.
#[inline]
fn check(state: &State) -> Result<(), Stop> {
    match &state.closed {
        Some(why) => Err(Stop::With(why.clone())),
        None => Ok(()),
    }
}

/// Receives if there is something.
#[inline]
pub(super) fn take(state: &mut State, into: &mut Message) -> Result<(), Stop> {
    check(state)?;
    state.pattern.recv(&mut state.pipes, into)?;
    Ok(())
}

/// Sends if there is room; else the message stays.
#[inline]
fn put(state: &mut State, message: &mut Message) -> Result<(), Stop> {
    check(state)?;
    Ok(state.pattern.send(&mut state.pipes, message)?)
}

impl Drop for Hand<'_> {
    /// The proxy ended, or was killed, with a message in hand.
    fn drop(&mut self) {
        if !self.full {
            return;
        }
        let message = std::mem::take(&mut self.message);
        let size = message.size() as u64;
        if self.way.to.send(message, Limit::Try).is_ok() {
            self.way.counts.sent(size);
        } else {
            self.lose();
        }
    }
}
