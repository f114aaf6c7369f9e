//! [`Message`]: one or more frames that are sent and received together.
//!
//! Invariants: there is at least one frame; `One` is used for exactly one frame, so that this case
//! has no heap block; in `Many`, `frames.len() - begin >= 2`, and what is before `begin` was taken
//! out by `pop_front` and is empty. So taking all frames out of a message of n frames costs O(n),
//! and the frames are one slice.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Index;
use std::slice;

use bytes::Bytes;

use crate::frame::Frame;

/// One or more frames that are sent and received together, all or nothing.
///
/// A message of no frames cannot exist: what would make one gives a message of one empty frame,
/// which is what an empty message is in ZeroMQ.
///
/// # Examples
/// ```
/// use sward_zmtp::Message;
/// let message = Message::from(["topic", "text"]);
/// assert_eq!(message.len(), 2);
/// assert_eq!(message[1], "text");
/// let single = Message::from("hello");
/// assert_eq!(single.first(), "hello");
/// ```
#[derive(Clone)]
pub struct Message(Repr);

#[derive(Clone)]
enum Repr {
    One(Frame),
    Many { frames: Vec<Frame>, begin: usize },
}

const _: () = assert!(size_of::<Message>() == size_of::<Frame>());

impl Message {
    /// Returns a message of one empty frame.
    #[inline]
    pub const fn new() -> Self {
        Self(Repr::One(Frame::empty()))
    }

    /// Returns a message of these frames; `None` if there are none.
    #[inline]
    pub fn from_frames(mut frames: Vec<Frame>) -> Option<Self> {
        match frames.len() {
            0 => None,
            1 => frames.pop().map(Self::from),
            _ => Some(Self(Repr::Many { frames, begin: 0 })),
        }
    }

    /// Returns the number of frames, which is at least one.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(_) => 1,
            Repr::Many { frames, begin } => frames.len() - begin,
        }
    }

    /// Returns the frames.
    #[inline]
    pub fn frames(&self) -> &[Frame] {
        match &self.0 {
            Repr::One(frame) => slice::from_ref(frame),
            Repr::Many { frames, begin } => frames.get(*begin..).unwrap_or_default(),
        }
    }

    /// The frame, if it is the only one.
    #[inline]
    pub(crate) fn single(&self) -> Option<&Frame> {
        match &self.0 {
            Repr::One(frame) => Some(frame),
            Repr::Many { .. } => None,
        }
    }

    /// Returns the first frame.
    #[inline]
    pub fn first(&self) -> &Frame {
        match &self.0 {
            Repr::One(frame) => frame,
            Repr::Many { frames, begin } => &frames[*begin],
        }
    }

    /// Returns the last frame.
    #[inline]
    pub fn last(&self) -> &Frame {
        match &self.0 {
            Repr::One(frame) => frame,
            Repr::Many { frames, .. } => &frames[frames.len() - 1],
        }
    }

    /// Returns a frame by its place; `None` if there are fewer.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&Frame> {
        self.frames().get(place)
    }

    /// Returns the number of bytes of all frames.
    #[inline]
    pub fn size(&self) -> usize {
        self.frames().iter().map(|frame| frame.len()).sum()
    }

    /// Adds a frame behind the last.
    pub fn push_back(&mut self, frame: impl Into<Frame>) {
        self.many(0).0.push(frame.into());
    }

    /// Adds a frame before the first.
    pub fn push_front(&mut self, frame: impl Into<Frame>) {
        let frame = frame.into();
        let (frames, begin) = self.many(1);
        *begin -= 1;
        frames[*begin] = frame;
    }

    /// As `Many`, for the moment perhaps with one frame, and at least so many places in front.
    fn many(&mut self, front: usize) -> (&mut Vec<Frame>, &mut usize) {
        if let Repr::One(frame) = &mut self.0 {
            let frame = std::mem::take(frame);
            let mut frames = Vec::with_capacity(2);
            frames.resize(front, Frame::empty());
            frames.push(frame);
            let begin = front;
            self.0 = Repr::Many { frames, begin };
        }
        match &mut self.0 {
            Repr::Many { frames, begin } => {
                if *begin < front {
                    // As many as there are: so that n calls cost O(n).
                    let more = frames.len().max(front);
                    drop(frames.splice(..0, std::iter::repeat_n(Frame::empty(), more)));
                    *begin += more;
                }
                (frames, begin)
            }
            Repr::One(_) => unreachable!("made many above"),
        }
    }

    /// Takes the first frame out; `None` if it is the only one, because a message has at least one:
    /// [`into_frames`](Self::into_frames) takes that.
    ///
    /// # Examples
    /// ```
    /// use sward_zmtp::Message;
    /// let mut message = Message::from(["identity", "body"]);
    /// assert_eq!(message.pop_front().unwrap(), "identity");
    /// assert_eq!(message.pop_front(), None);
    /// assert_eq!(message.first(), "body");
    /// ```
    pub fn pop_front(&mut self) -> Option<Frame> {
        let Repr::Many { frames, begin } = &mut self.0 else {
            return None;
        };
        let first = std::mem::take(frames.get_mut(*begin)?);
        *begin += 1;
        if frames.len() - *begin == 1
            && let Some(last) = frames.pop()
        {
            self.0 = Repr::One(last);
        }
        Some(first)
    }

    /// Turns the message into its frames.
    pub fn into_frames(self) -> Vec<Frame> {
        match self.0 {
            Repr::One(frame) => vec![frame],
            Repr::Many { mut frames, begin } => {
                frames.drain(..begin);
                frames
            }
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.frames() == other.frames()
    }
}

impl Eq for Message {}

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.frames().hash(state);
    }
}

impl Index<usize> for Message {
    type Output = Frame;

    /// # Panics
    /// If there are not so many frames; [`get`](Self::get) does not.
    fn index(&self, place: usize) -> &Frame {
        &self.frames()[place]
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        f.write_str("Message")?;
        let mut list = f.debug_list();
        list.entries(self.frames().iter().take(SHOWN));
        if self.len() > SHOWN {
            list.entry(&format_args!(".. ({} frames)", self.len()));
        }
        list.finish()
    }
}

impl From<Frame> for Message {
    #[inline]
    fn from(frame: Frame) -> Self {
        Self(Repr::One(frame))
    }
}

/// No frames give one empty frame.
impl From<Vec<Frame>> for Message {
    fn from(frames: Vec<Frame>) -> Self {
        Self::from_frames(frames).unwrap_or_default()
    }
}

/// One frame for each element; an array of none does not compile.
impl<T: Into<Frame>, const N: usize> From<[T; N]> for Message {
    fn from(frames: [T; N]) -> Self {
        const { assert!(N > 0, "a message has at least one frame") };
        frames.into_iter().collect()
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    #[inline]
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(Frame::from(bytes))
    }
}

macro_rules! one_frame {
    ($($from:ty),+ $(,)?) => {$(
        impl From<$from> for Message {
            #[inline]
            fn from(bytes: $from) -> Self {
                Self::from(Frame::from(bytes))
            }
        }
    )+};
}

one_frame!(
    &[u8],
    &str,
    &String,
    &Vec<u8>,
    &Frame,
    String,
    Vec<u8>,
    Box<[u8]>,
    Bytes
);

/// No frames give one empty frame.
impl<T: Into<Frame>> FromIterator<T> for Message {
    fn from_iter<I: IntoIterator<Item = T>>(frames: I) -> Self {
        let mut frames = frames.into_iter().map(Into::into);
        let Some(first) = frames.next() else {
            return Self::new();
        };
        let Some(second) = frames.next() else {
            return Self::from(first);
        };
        let mut all = Vec::with_capacity(2 + frames.size_hint().0);
        all.extend([first, second]);
        all.extend(frames);
        Self(Repr::Many {
            frames: all,
            begin: 0,
        })
    }
}

impl<T: Into<Frame>> Extend<T> for Message {
    fn extend<I: IntoIterator<Item = T>>(&mut self, frames: I) {
        frames.into_iter().for_each(|frame| self.push_back(frame));
    }
}

impl IntoIterator for Message {
    type Item = Frame;
    type IntoIter = std::vec::IntoIter<Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_frames().into_iter()
    }
}

impl<'a> IntoIterator for &'a Message {
    type Item = &'a Frame;
    type IntoIter = slice::Iter<'a, Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames().iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &Message) -> Vec<&str> {
        message
            .frames()
            .iter()
            .map(|f| f.to_str().unwrap())
            .collect()
    }

    #[test]
    fn it_is_made_of_what_bytes_come_in() {
        assert_eq!(Message::new().frames(), [Frame::empty()]);
        assert_eq!(text(&Message::from("a")), ["a"]);
        assert_eq!(text(&Message::from(b"a")), ["a"]);
        assert_eq!(text(&Message::from(String::from("a"))), ["a"]);
        assert_eq!(text(&Message::from(vec![b'a'])), ["a"]);
        assert_eq!(text(&Message::from(["a", "b"])), ["a", "b"]);
        assert_eq!(text(&Message::from([b"a", b"b"])), ["a", "b"]);
        assert_eq!(text(&Message::from(vec![Frame::from("a")])), ["a"]);
        assert_eq!(Message::from(Vec::<Frame>::new()), Message::new());
        assert_eq!(Message::from_frames(vec![]), None);
        assert_eq!(Message::from_iter(["a"; 0]), Message::new());
        assert_eq!(
            text(&["a", "b", "c"].into_iter().collect()),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn frames_are_added_and_taken_at_both_ends() {
        let mut message = Message::from("b");
        message.push_front("a");
        message.push_back("c");
        assert_eq!(text(&message), ["a", "b", "c"]);
        assert_eq!(
            (message.first(), message.last()),
            (&Frame::from("a"), &Frame::from("c"))
        );
        assert_eq!(message.size(), 3);
        assert_eq!(message.pop_front().unwrap(), "a");
        message.push_front("x");
        assert_eq!(text(&message), ["x", "b", "c"]);
        assert_eq!(message, Message::from(["x", "b", "c"]));
        assert_eq!(message.get(2).unwrap(), "c");
        assert_eq!(message.get(3), None);
        assert_eq!(
            message.clone().into_frames(),
            ["x", "b", "c"].map(Frame::from)
        );
        assert_eq!(message.pop_front().unwrap(), "x");
        assert_eq!(message.pop_front().unwrap(), "b");
        assert_eq!(message.pop_front(), None);
        assert!(message.single().is_some());
        message.extend(["d", "e"]);
        assert_eq!(text(&message), ["c", "d", "e"]);
    }

    /// Quadratic, this would move 70 GB.
    #[test]
    fn many_frames_cost_no_more_than_their_number() {
        let mut message = Message::from("last");
        for i in 0..30_000_u32 {
            message.push_front(i.to_be_bytes());
        }
        for i in (0..30_000_u32).rev() {
            assert_eq!(message.pop_front().unwrap(), i.to_be_bytes());
        }
        assert_eq!(text(&message), ["last"]);
    }

    #[test]
    fn it_is_shown_as_a_list() {
        assert_eq!(
            format!("{:?}", Message::from(["a", "b"])),
            r#"Message["a", "b"]"#
        );
        assert!(format!("{:?}", Message::from(["a"; 100])).ends_with(".. (100 frames)]"));
    }
}
