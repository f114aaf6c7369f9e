//! [`Output`]: the messages that wait to be written, in canonical form.
//!
//! The canonical form is ZMTP 3 framing (which ZMTP 2.0 shares, as long as there are no commands),
//! with the short header wherever it fits. It delimits itself, so the queue keeps no list of
//! messages: it counts them, and reads its own headers again where it has to know how many went
//! out. That is so after a partial write, and when a connection was lost in the middle.
//!
//! Nouns:
//! - small bytes: headers, and the bodies that are copied. They lie in `chunks`, then in `tail`. A
//!   chunk may be shared with other queues: messages that were encoded together for many peers.
//! - large bodies, [`LARGE`] bytes or more, that are kept by reference. `at` says before which
//!   small byte each goes, counted from the same origin as `begin`.
//! - the cursor: the first byte that was not written. `head` is its place in the first chunk (or the
//!   tail), `begin` the same among all small bytes, `large_head` its place in a large body.
//!
//! Invariants:
//! - a frame's header and small body lie in one chunk; a chunk with `head` at its end is dropped;
//! - `small` and `large` count the bytes from the cursor on; `messages` counts a half-written one;
//! - `frame_left` bytes are missing of the frame that the cursor is in, 0 between two frames;
//!   `within` says that the first frame of a message was begun and its last one not ended;
//! - commands stand between messages, never within one.
//!
//! Why 64 KiB for a chunk: what piles up at a slow peer is given back as it goes out, no block is
//! larger than malloc keeps at hand, and it takes two to fill a system call. Why 4 KiB for a large
//! body: a copy of so much costs about what the reference counter, the entry and the extra part of
//! a `writev` cost.
//!
//! Rejected: a queue of `Message` that is encoded when the socket is writable (each message is
//! moved twice more, and its block is freed late, on another thread); one buffer that is compacted
//! (a slow peer's megabytes are copied again and again).

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::Bytes;

use crate::frame::Frame;
use crate::header::{COMMAND, Header, LONG, MORE};
use crate::message::Message;

/// Bodies from here on are not copied.
pub(crate) const LARGE: usize = 4096;

const CHUNK: usize = 64 * 1024;

/// The first buffer, if none was given: for a few small messages.
const FIRST: usize = 1024;

/// Messages and commands that wait to be written, in the order in which they came.
///
/// # Examples
/// ```
/// use std::io::IoSlice;
/// use sward_zmtp::{Message, Output};
/// let mut output = Output::new();
/// output.push(&Message::from("hi"));
/// let mut slices = [IoSlice::new(&[]); 4];
/// assert_eq!(output.slices(&mut slices), 1);
/// assert_eq!(&*slices[0], b"\x00\x02hi");
/// output.advance(4);
/// assert_eq!(output.messages(), 0);
/// ```
#[derive(Default)]
pub struct Output {
    tail: Vec<u8>,
    chunks: VecDeque<Chunk>,
    larges: VecDeque<Large>,
    head: usize,
    begin: u64,
    large_head: usize,
    small: usize,
    large: usize,
    messages: usize,
    frame_left: usize,
    flags: u8,
    within: bool,
    /// There may be commands.
    commands: bool,
}

/// Some of the small bytes.
enum Chunk {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

struct Large {
    at: u64,
    body: Bytes,
}

/// The frame at the cursor.
pub(crate) struct First<'a> {
    pub(crate) flags: u8,
    pub(crate) body: Body<'a>,
    /// Bytes with the header.
    pub(crate) size: usize,
}

pub(crate) enum Body<'a> {
    Small(&'a [u8]),
    Large(&'a Bytes),
}

impl Body<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

impl Output {
    /// Returns an empty queue, which has no heap block.
    pub const fn new() -> Self {
        Self {
            tail: Vec::new(),
            chunks: VecDeque::new(),
            larges: VecDeque::new(),
            head: 0,
            begin: 0,
            large_head: 0,
            small: 0,
            large: 0,
            messages: 0,
            frame_left: 0,
            flags: 0,
            within: false,
            commands: false,
        }
    }

    /// Adds a message. Small frames are copied, large ones are kept by reference.
    #[inline]
    pub fn push(&mut self, message: &Message) {
        match message.single().and_then(Frame::inline) {
            Some((data, len)) => self.push_inline(0, data, len),
            None => self.push_frames(message),
        }
        self.messages += 1;
    }

    #[inline]
    fn push_inline(&mut self, flags: u8, data: &[u8; Frame::INLINE], len: usize) {
        // A move of fixed size, of which the end is then cut off.
        const ROOM: usize = 2 + Frame::INLINE;
        if self.tail.capacity() - self.tail.len() < ROOM {
            self.make_room(ROOM);
        }
        let mut bytes = [0; ROOM];
        (bytes[0], bytes[1]) = (flags, len as u8);
        bytes[2..].copy_from_slice(data);
        let end = self.tail.len() + 2 + len;
        self.tail.extend_from_slice(&bytes);
        self.tail.truncate(end);
        self.small += 2 + len;
    }

    fn push_frames(&mut self, message: &Message) {
        let mut frames = message.frames().iter();
        while let Some(frame) = frames.next() {
            let flags = if frames.len() > 0 { MORE } else { 0 };
            match (frame.inline(), frame.shared()) {
                (Some((data, len)), _) => self.push_inline(flags, data, len),
                (_, Some(bytes)) if bytes.len() >= LARGE => self.push_large(flags, bytes.clone()),
                _ => self.push_copy(flags, &[frame]),
            }
        }
    }

    fn push_large(&mut self, flags: u8, body: Bytes) {
        let header = Header::new(flags, body.len());
        self.push_bytes(header.as_slice());
        self.large += body.len();
        let at = self.begin + self.small as u64;
        self.larges.push_back(Large { at, body });
    }

    /// A frame of these bytes, in one chunk.
    fn push_copy(&mut self, flags: u8, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum();
        let header = Header::new(flags, len);
        self.ensure_room(header.as_slice().len() + len);
        self.push_bytes(header.as_slice());
        parts.iter().for_each(|part| self.push_bytes(part));
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.ensure_room(bytes.len());
        self.tail.extend_from_slice(bytes);
        self.small += bytes.len();
    }

    #[inline]
    fn ensure_room(&mut self, room: usize) {
        if self.tail.capacity() - self.tail.len() < room {
            self.make_room(room);
        }
    }

    /// Makes the tail larger, or begins another.
    #[cold]
    fn make_room(&mut self, room: usize) {
        let needed = self.tail.len() + room;
        if needed <= CHUNK || self.tail.is_empty() {
            let capacity = (self.tail.capacity() * 2).clamp(FIRST, CHUNK).max(needed);
            self.tail.reserve_exact(capacity - self.tail.len());
        } else {
            let next = Vec::with_capacity(CHUNK.max(room));
            let full = std::mem::replace(&mut self.tail, next);
            self.chunks.push_back(Chunk::Own(full));
        }
    }

    /// Adds a command, such as SUBSCRIBE, in line with the messages.
    ///
    /// The name is one to 255 letters; of a longer one, only so many count.
    pub fn push_command(&mut self, name: &[u8], body: &[u8]) {
        let name = &name[..name.len().min(usize::from(u8::MAX))];
        self.push_copy(COMMAND, &[&[name.len() as u8], name, body]);
        self.commands = true;
    }

    /// Adds a message of one frame, whose body is these parts.
    pub(crate) fn push_parts(&mut self, parts: &[&[u8]]) {
        self.push_copy(0, parts);
        self.messages += 1;
    }

    /// Adds one whole message that [`encode`](crate::encode) wrote: encoded once, it can go to many peers.
    #[inline]
    pub fn push_encoded(&mut self, encoded: &[u8]) {
        self.push_bytes(encoded);
        self.messages += 1;
    }

    /// Adds whole messages that [`encode`](crate::encode) wrote, as many as are said: encoded once, and
    /// kept once for all peers that they go to.
    pub fn push_shared(&mut self, encoded: &Bytes, messages: usize) {
        self.messages += messages;
        if encoded.len() < FIRST {
            return self.push_bytes(encoded);
        }
        if !self.tail.is_empty() {
            // A short one keeps its memory.
            let before = if self.tail.len() < FIRST {
                let copy = self.tail.clone();
                self.tail.clear();
                copy
            } else {
                std::mem::take(&mut self.tail)
            };
            self.chunks.push_back(Chunk::Own(before));
        }
        self.chunks.push_back(Chunk::Shared(encoded.clone()));
        self.small += encoded.len();
    }

    /// Returns how many messages were not written completely; a half-written one counts.
    #[inline]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Returns how many bytes were not written.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.small + self.large
    }

    /// Returns how many bytes it has memory for, whether or not they are in use.
    pub fn capacity(&self) -> usize {
        size_of::<Self>() + self.tail.capacity()
    }

    /// Returns whether all was written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Returns whether nothing of the first message was written yet, so that other bytes may go
    /// before it.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.frame_left == 0 && !self.within
    }

    /// Puts the bytes that are to be written next into `into`; returns how many places were used.
    ///
    /// It fills as many as there are, so `into.len()` should be at most `IOV_MAX` (1,024).
    #[inline]
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        if self.larges.is_empty() && self.chunks.is_empty() {
            let rest = &self.tail[self.head..];
            return match into.first_mut() {
                Some(slice) if !rest.is_empty() => {
                    *slice = IoSlice::new(rest);
                    1
                }
                _ => 0,
            };
        }
        self.slices_within(into, usize::MAX)
    }

    /// As [`slices`](Self::slices), but `limit` bytes at most.
    pub fn slices_within<'a>(&'a self, into: &mut [IoSlice<'a>], mut limit: usize) -> usize {
        let mut used = 0;
        for (slice, piece) in into.iter_mut().zip(self.pieces()) {
            if limit == 0 {
                break;
            }
            let piece = &piece[..piece.len().min(limit)];
            *slice = IoSlice::new(piece);
            limit -= piece.len();
            used += 1;
        }
        used
    }

    /// What is to be written, in pieces of which none is empty. A header is in one of them.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = self.chunks.iter().map(Chunk::as_slice);
        let mut chunks = chunks.chain([self.tail.as_slice()]);
        let mut rest = self.first_small();
        chunks.next();
        let mut larges = self.larges.iter().peekable();
        let (mut at, mut large_head) = (self.begin, self.large_head);
        std::iter::from_fn(move || {
            loop {
                if let Some(large) = larges.next_if(|large| large.at == at) {
                    return Some(&large.body[std::mem::take(&mut large_head)..]);
                }
                if rest.is_empty() {
                    rest = chunks.next()?;
                    continue;
                }
                let until = larges.peek().map_or(u64::MAX, |large| large.at - at);
                let (now, later) = rest.split_at((rest.len() as u64).min(until) as usize);
                at += now.len() as u64;
                rest = later;
                return Some(now);
            }
        })
    }

    /// Returns how many bytes are missing of the message (or command) that was written in part;
    /// 0 at a boundary. Other bytes may go out behind them.
    pub fn first_remainder(&self) -> usize {
        let mut total = self.frame_left;
        if !self.within || (total > 0 && self.flags & MORE == 0) {
            return total;
        }
        // The frames behind the one that was begun.
        let mut passed = 0;
        for piece in self.pieces() {
            while let Some(rest) = piece.get(total - passed..).filter(|rest| !rest.is_empty()) {
                let header = Header::parse(rest);
                total += header.size();
                if header.flags & MORE == 0 {
                    return total;
                }
            }
            passed += piece.len();
        }
        total
    }

    /// Forgets `n` bytes at the front, which were written.
    ///
    /// # Panics
    /// In debug builds, if there are not so many.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.bytes(), "more was written than there is");
        if n >= self.bytes() {
            self.clear();
        } else {
            self.walk(n);
        }
    }

    fn walk(&mut self, mut n: usize) {
        while n > 0 {
            if self.frame_left == 0 {
                let header = Header::parse(self.first_small());
                self.frame_left = header.size();
                self.flags = header.flags;
                self.within |= header.flags & COMMAND == 0;
            }
            let step = n.min(self.frame_left);
            self.consume(step);
            n -= step;
            self.frame_left -= step;
            if self.frame_left == 0 && self.flags & (MORE | COMMAND) == 0 {
                self.within = false;
                self.messages -= 1;
            }
        }
    }

    /// Moves the cursor.
    fn consume(&mut self, mut n: usize) {
        while n > 0 {
            let mut until = usize::MAX;
            if let Some(large) = self.larges.front() {
                if large.at == self.begin {
                    let step = n.min(large.body.len() - self.large_head);
                    n -= step;
                    self.large -= step;
                    self.large_head += step;
                    if self.large_head == large.body.len() {
                        self.large_head = 0;
                        self.larges.pop_front();
                    }
                    continue;
                }
                until = (large.at - self.begin) as usize;
            }
            let rest = self.first_small().len();
            let step = n.min(until).min(rest);
            n -= step;
            self.small -= step;
            self.begin += step as u64;
            self.head += step;
            if step == rest {
                if self.chunks.pop_front().is_none() {
                    self.tail.clear();
                }
                self.head = 0;
            }
        }
    }

    /// What is left of the first chunk.
    fn first_small(&self) -> &[u8] {
        let first = self.chunks.front().map(Chunk::as_slice);
        &first.unwrap_or(&self.tail)[self.head..]
    }

    /// The frame at the cursor, if that is between two.
    pub(crate) fn first_frame(&self) -> Option<First<'_>> {
        if self.is_empty() || self.frame_left > 0 {
            return None;
        }
        let small = self.first_small();
        let header = Header::parse(small);
        let flags = header.flags & !LONG;
        let at = header.as_slice().len();
        let body = match self.larges.front() {
            Some(large) if large.at == self.begin + at as u64 => Body::Large(&large.body),
            _ => Body::Small(&small[at..header.size()]),
        };
        let size = header.size();
        Some(First { flags, body, size })
    }

    /// The connection was lost: forgets a message that was written in part, because the peer will
    /// forget it too, and all commands, which were meant for that connection. Returns how many
    /// messages that were (0 or 1); the others can go to the next connection.
    pub fn rollback(&mut self) -> usize {
        let lost = usize::from(self.within);
        let rest = self.first_remainder();
        if rest > 0 {
            self.advance(rest);
        }
        if self.commands {
            self.retain(|flags, _| flags & COMMAND == 0);
        }
        lost
    }

    /// Between two connections: forgets the subscriptions in the form that older peers have, messages
    /// of one frame that begins with 0 or 1. All of them are sent again to the next peer.
    pub fn forget_subscriptions(&mut self) {
        if self.is_empty() {
            return;
        }
        let mut within = false;
        self.retain(|flags, body| {
            let single = !within && flags & MORE == 0;
            within = flags & MORE != 0;
            !(single && matches!(body, [0 | 1, ..]))
        });
    }

    /// Keeps the frames of which `keep` says so, by their flags and bodies. At the cursor one begins.
    fn retain(&mut self, mut keep: impl FnMut(u8, &[u8]) -> bool) {
        let mut kept = Self::new();
        while let Some(first) = self.first_frame() {
            if keep(first.flags, first.body.as_slice()) {
                match first.body {
                    Body::Small(body) => kept.push_copy(first.flags, &[body]),
                    Body::Large(body) => kept.push_large(first.flags, body.clone()),
                }
                kept.messages += usize::from(first.flags & MORE == 0);
            }
            let size = first.size;
            self.advance(size);
        }
        *self = kept;
    }

    /// Forgets all; returns how many messages that were.
    #[inline]
    pub fn clear(&mut self) -> usize {
        let messages = std::mem::take(&mut self.messages);
        self.tail.clear();
        if self.tail.capacity() > CHUNK {
            self.tail = Vec::new();
        }
        self.chunks.clear();
        self.larges.clear();
        (self.head, self.begin, self.large_head) = (0, 0, 0);
        (self.small, self.large, self.frame_left) = (0, 0, 0);
        (self.within, self.commands) = (false, false);
        messages
    }

    /// Gives the buffer away, for a pool, if all was written; there is no heap block left then.
    pub fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if !self.is_empty() {
            return None;
        }
        (self.chunks, self.larges) = (VecDeque::new(), VecDeque::new());
        Some(std::mem::take(&mut self.tail)).filter(|buffer| buffer.capacity() > 0)
    }

    /// Takes a buffer from a pool, if it has no larger one; what is in it is forgotten.
    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.tail.is_empty() && self.tail.capacity() < buffer.capacity() {
            buffer.clear();
            self.tail = buffer;
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("messages", &self.messages)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
