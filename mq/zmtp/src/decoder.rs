//! [`Decoder`]: bytes to frames, and frames to messages.
//!
//! A frame that is all there is taken from the input. Of one that is not, a body of up to [`KEEP`]
//! bytes stays with the caller until the rest has come; a longer one is collected here. Its memory
//! grows with what has arrived, at first [`FIRST`] bytes or all that is missing, then to the
//! double: an announcement alone costs nothing more, and the last step fits exactly.
//!
//! Invariants: `total > 0` says that a body is under way, and `body.len() <= total`; `parts` are
//! the frames of a message whose last one has not come, `size` their bytes; all limits are checked
//! when a header is read, before anything is taken or kept for its body.

use crate::command::SUBSCRIBE_HEAD;
use crate::error::{Fault, Limited};
use crate::frame::Frame;
use crate::header::{Framing, Received};
use crate::limits::Limits;
use crate::message::Message;

/// Bodies up to here stay with the caller until they are complete.
pub(crate) const KEEP: usize = 8 * 1024;

/// The first memory for a longer one: malloc takes so much from the system directly, which gives
/// it page by page, as it is written to.
const FIRST: usize = 128 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    parts: Vec<Frame>,
    size: u64,
    body: Vec<u8>,
    total: usize,
    more: bool,
    command: bool,
}

/// What may come.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) framing: Framing,
    /// During a handshake: the command that is waited for. Messages may not come then.
    pub(crate) handshake: Option<&'static str>,
    /// Subscriptions may come.
    pub(crate) publishes: bool,
}

/// A frame as it was found.
pub(crate) struct Found<'a> {
    pub(crate) command: bool,
    pub(crate) more: bool,
    pub(crate) content: Content<'a>,
}

pub(crate) enum Content<'a> {
    /// The first bytes of what is left of the input.
    Input(&'a [u8], usize),
    /// What was collected.
    Own(Vec<u8>),
}

impl Content<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Input(input, len) => &input[..*len],
            Self::Own(bytes) => bytes,
        }
    }

    #[inline]
    pub(crate) fn into_frame(self) -> Frame {
        match self {
            Self::Input(input, len) => Frame::from_window(input, len),
            Self::Own(bytes) => bytes.into(),
        }
    }

    /// Without the first byte, which is there.
    pub(crate) fn into_topic(self) -> Frame {
        match self {
            Self::Input(input, len) => Frame::from_window(&input[1..], len - 1),
            Self::Own(_) => self.into_frame().skip(1),
        }
    }
}

impl Decoder {
    /// Whether there is neither a body nor a message under way.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.total == 0 && self.parts.is_empty()
    }

    /// Reads a frame: how many bytes of the input were used, and the frame if it is complete.
    pub(crate) fn next<'a>(
        &mut self,
        rules: Rules<'_>,
        input: &'a [u8],
    ) -> Result<(usize, Option<Found<'a>>), Fault> {
        if self.total > 0 {
            return self.collect(input);
        }
        let Some(header) = rules.framing.read(input)? else {
            return Ok((0, None));
        };
        let rest = &input[header.header..];
        let Some(len) = self.admit(rules, &header, rest.first().copied())? else {
            return Ok((0, None));
        };
        if rest.len() >= len {
            let found = Found {
                command: header.command,
                more: header.more,
                content: Content::Input(rest, len),
            };
            return Ok((header.header + len, Some(found)));
        }
        if len <= KEEP {
            return Ok((0, None));
        }
        (self.more, self.command) = (header.more, header.command);
        (self.total, self.body) = (len, Vec::new());
        let (used, found) = self.collect(rest)?;
        Ok((header.header + used, found))
    }

    /// Checks a header, with the first byte of the body if it is there: the length of the body.
    /// `None`: that byte must come first.
    fn admit(
        &self,
        rules: Rules<'_>,
        header: &Received,
        first: Option<u8>,
    ) -> Result<Option<usize>, Fault> {
        let limits = rules.limits;
        let (declared, max_topic_size) = (header.body, limits.max_topic_size as u64);
        let too_large = |what, limit, declared| {
            Err(Fault::TooLarge {
                what,
                limit,
                declared,
            })
        };
        if header.command {
            let max_command = limits.max_command as u64;
            let topics = rules.publishes && rules.handshake.is_none();
            let head = SUBSCRIBE_HEAD as u64;
            if topics && max_topic_size.saturating_add(head) > max_command {
                if declared.saturating_sub(head) > max_topic_size {
                    return too_large(Limited::Topic, max_topic_size, declared - head);
                }
            } else if declared > max_command {
                return too_large(Limited::Command, max_command, declared);
            }
        } else if let Some(expected) = rules.handshake {
            let got = "a message";
            return Err(Fault::Misbehaved { expected, got });
        } else {
            if self.parts.len() >= limits.max_parts {
                let parts = limits.max_parts as u64;
                return too_large(Limited::Parts, parts, parts.saturating_add(1));
            }
            let message = self.size.saturating_add(declared);
            match (limits.max_message_size, limits.max_total_size) {
                (Some(max), _) if declared > max => {
                    return too_large(Limited::Frame, max, declared);
                }
                (_, Some(max)) if message > max => {
                    return too_large(Limited::Message, max, message);
                }
                _ => {}
            }
            if rules.publishes && self.parts.is_empty() && !header.more && declared > 0 {
                match first {
                    None => return Ok(None),
                    Some(0 | 1) if declared - 1 > max_topic_size => {
                        return too_large(Limited::Topic, max_topic_size, declared - 1);
                    }
                    Some(_) => {}
                }
            }
        }
        match usize::try_from(declared) {
            Ok(len) => Ok(Some(len)),
            Err(_) => too_large(Limited::Frame, usize::MAX as u64, declared),
        }
    }

    /// Takes what belongs to the body under way.
    fn collect<'a>(&mut self, input: &[u8]) -> Result<(usize, Option<Found<'a>>), Fault> {
        let mut used = 0;
        while self.missing() > 0 {
            if used == input.len() {
                return Ok((used, None));
            }
            if !self.make_room() {
                let (limit, declared) = (self.body.len(), self.total);
                return Err(Fault::too_large(Limited::Frame, limit, declared));
            }
            let room = self.body.capacity() - self.body.len();
            let step = room.min(self.missing()).min(input.len() - used);
            self.body.extend_from_slice(&input[used..used + step]);
            used += step;
        }
        let total = std::mem::take(&mut self.total);
        let mut body = std::mem::take(&mut self.body);
        body.truncate(total);
        let found = Found {
            command: self.command,
            more: self.more,
            content: Content::Own(body),
        };
        Ok((used, Some(found)))
    }

    fn missing(&self) -> usize {
        self.total.saturating_sub(self.body.len())
    }

    /// Makes room for some of what is missing; `false` if there is no memory.
    fn make_room(&mut self) -> bool {
        let len = self.body.len();
        if len < self.body.capacity() {
            return true;
        }
        let more = self.missing().min(len.max(FIRST));
        self.body.try_reserve_exact(more).is_ok()
    }

    /// The body under way, and how many bytes are missing.
    pub(crate) fn body(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let missing = self.missing();
        if missing == 0 || !self.make_room() {
            return None;
        }
        Some((&mut self.body, missing))
    }

    /// Adds a frame that is not the only one of its message; the message, when it was the last.
    pub(crate) fn add(&mut self, frame: Frame, more: bool) -> Option<Message> {
        if more {
            self.size += frame.len() as u64;
            self.parts.push(frame);
            return None;
        }
        self.size = 0;
        if self.parts.is_empty() {
            return Some(frame.into());
        }
        self.parts.push(frame);
        Message::from_frames(std::mem::take(&mut self.parts))
    }

    /// Forgets what is under way.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Header;

    const RULES: Rules<'static> = Rules {
        limits: &Limits::DEFAULT,
        framing: Framing::V3,
        handshake: None,
        publishes: false,
    };

    fn announced(len: usize) -> Vec<u8> {
        Header::new(0, len).as_slice().to_vec()
    }

    #[test]
    fn memory_grows_with_what_arrives() {
        let len = 1 << 29;
        let mut decoder = Decoder::default();
        let header = announced(len);
        let (used, found) = decoder.next(RULES, &header).unwrap();
        assert_eq!((used, found.is_none()), (9, true));
        assert_eq!(decoder.body.capacity(), 0);
        let mut arrived = 0;
        for size in [1, 5, 100_000, 1, 300_000, 1_000_000] {
            assert_eq!(decoder.next(RULES, &vec![0; size]).unwrap().0, size);
            arrived += size;
            let most = (2 * arrived).max(FIRST);
            assert!(decoder.body.capacity() <= most, "{arrived}");
        }
    }

    #[test]
    fn the_last_step_of_growing_fits() {
        for len in [KEEP + 1, FIRST, FIRST + 1, 1_000_000] {
            let mut decoder = Decoder::default();
            assert!(decoder.next(RULES, &announced(len)).unwrap().1.is_none());
            let mut appended = 0;
            while let Some((body, missing)) = decoder.body() {
                assert_eq!(missing, len - appended);
                let room = body.capacity() - body.len();
                assert!(room > 0);
                let n = room.min(missing).min(70_000);
                body.resize(body.len() + n, 3);
                appended += n;
            }
            let (used, found) = decoder.next(RULES, b"next").unwrap();
            assert_eq!(used, 0);
            let Content::Own(body) = found.unwrap().content else {
                panic!("it was collected");
            };
            assert_eq!((body.len(), body.capacity()), (len, len));
            assert!(decoder.is_idle());
        }
    }

    #[test]
    fn what_a_caller_appends_too_much_is_thrown_away() {
        let mut decoder = Decoder::default();
        assert!(
            decoder
                .next(RULES, &announced(KEEP + 1))
                .unwrap()
                .1
                .is_none()
        );
        decoder.body().unwrap().0.resize(KEEP + 100, 0);
        assert!(decoder.body().is_none());
        let found = decoder.next(RULES, b"").unwrap().1.unwrap();
        assert_eq!(found.content.as_slice().len(), KEEP + 1);
    }

    #[test]
    fn small_ones_stay_with_the_caller() {
        let mut decoder = Decoder::default();
        let mut input = announced(KEEP);
        input.resize(9 + KEEP - 1, 0);
        assert_eq!(decoder.next(RULES, &input).unwrap().0, 0);
        assert!(decoder.is_idle());
        input.push(0);
        let (used, found) = decoder.next(RULES, &input).unwrap();
        assert_eq!(
            (used, found.unwrap().content.as_slice().len()),
            (9 + KEEP, KEEP)
        );
    }
}
