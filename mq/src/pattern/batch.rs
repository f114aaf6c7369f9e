//! Messages that go to the same pipes, one after the other, are gathered: encoded once, into one piece
//! that the pipes then share. What a message costs does not depend on how many it goes to.
//!
//! ```text
//! closed --a message was given to each pipe, and all say they would wait for more--> open
//! open --it is large or old, and all pipes would wait for more--> open
//! open --one would not; other pipes; anything but a send; a driver comes for it--> closed
//! ```
//!
//! Invariants
//! - While it is open, each of its pipes has said how much room it has, and will come for what was
//!   gathered before it writes ([`Pipe::try_send_copy`](crate::pipe::Pipe::try_send_copy)). So no
//!   pipe has to be asked, and none has to be told of a message.
//! - A pipe gets nothing else before it: it is closed first.
//! - A pipe that was full when it was opened stays so; what it should have got is counted as lost.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sward_zmtp::{Message, encode};

use crate::pipe::Slot;

/// A piece of so many bytes is given to the pipes.
const PIECE: usize = 16 * 1024;
/// The same after that time, looked at after so many messages.
const PATIENCE: Duration = Duration::from_millis(2);
const EVERY: usize = 8;

/// See the file head.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whom it goes to; nobody while it is closed.
    to: Vec<Slot>,
    bytes: Vec<u8>,
    messages: usize,
    /// For how many more messages all have room.
    room: usize,
    /// When the first message came.
    since: Option<Instant>,
    /// How large the last piece was.
    last: usize,
}

impl Batch {
    /// Whether it takes a message for these pipes.
    #[inline]
    pub(super) fn takes(&self, slots: &[Slot]) -> bool {
        self.room > 0 && self.to == slots
    }

    /// Adds a message that it takes. Returns whether the piece should be given to the pipes now.
    #[inline]
    pub(super) fn push(&mut self, message: &Message) -> bool {
        if self.messages == 0 {
            self.bytes.reserve_exact(self.last + self.last / 4);
            self.since = Some(Instant::now());
        }
        encode(message, &mut self.bytes);
        self.messages += 1;
        self.room -= 1;
        let old = || self.since.is_some_and(|since| since.elapsed() > PATIENCE);
        self.room == 0 || self.bytes.len() >= PIECE || self.messages.is_multiple_of(EVERY) && old()
    }

    /// Opens it for pipes which all have room for so many more, or closes it if that is 0. The piece
    /// was taken before.
    #[inline]
    pub(super) fn open(&mut self, slots: &[Slot], room: usize) {
        self.to.clear();
        self.room = room;
        if room > 0 {
            self.to.extend_from_slice(slots);
        }
    }

    /// The room has been asked for again.
    pub(super) fn renew(&mut self, room: usize) {
        self.room = room;
        if room == 0 {
            self.to.clear();
        }
    }

    /// Whom it goes to.
    #[inline]
    pub(super) fn to(&self) -> &[Slot] {
        &self.to
    }

    /// Takes what was gathered, and of how many messages, if there is anything.
    pub(super) fn take(&mut self) -> Option<(Bytes, usize)> {
        let messages = std::mem::take(&mut self.messages);
        if messages == 0 {
            return None;
        }
        self.last = self.bytes.len();
        Some((std::mem::take(&mut self.bytes).into(), messages))
    }
}
