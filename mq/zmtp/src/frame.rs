//! [`Frame`]: one part of a message, as immutable bytes that are cheap to clone.
//!
//! Up to [`Frame::INLINE`] bytes lie inside of the value: no heap block, no counter, a clone is a
//! copy of 72 bytes. Longer ones are a [`Bytes`], whose clone shares the memory.
//!
//! Invariants: `Inline` has `len <= INLINE`, `Shared` has `len > INLINE`. What is behind `len` in
//! `Inline` means nothing: it may be bytes that followed the frame in a read buffer, and nothing
//! shows them.
//!
//! Small copies have a fixed size where that is possible ([`Frame::from_window`],
//! [`Frame::inline`]), because a `memcpy` of unknown length costs more than the whole rest of
//! decoding 16 bytes.
//!
//! Rejected: 23 inline bytes, as string types do it: identities, topics, timestamps and small
//! requests are mostly longer, and a message is moved far less often than a block is allocated.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

/// One part of a message: immutable bytes, cheap to clone (libzmq's `zmq_msg_t`).
///
/// Up to [`INLINE`](Self::INLINE) bytes lie inside of the value, without a heap block; longer ones
/// are shared by all clones.
///
/// # Examples
/// ```
/// use sward_zmtp::Frame;
/// let frame = Frame::from("weather");
/// assert_eq!(frame, "weather");
/// assert_eq!(frame.len(), 7);
/// assert!(frame.starts_with(b"wea")); // a frame is a slice of bytes
/// ```
#[derive(Clone)]
pub struct Frame(Repr);

#[derive(Clone)]
enum Repr {
    Inline(Inline),
    Shared(Bytes),
}

/// The bytes first, aligned, and what tells the variants apart behind them: so they are moved in
/// the same pieces in which they were stored, and no load has to wait for two stores.
#[derive(Clone)]
#[repr(C, align(8))]
struct Inline {
    data: [u8; Frame::INLINE],
    len: Length,
}

/// Makes [`Length`] of its values.
macro_rules! length {
    ($($value:ident)*) => {
        /// A number up to 64 that has values to spare, in which the compiler keeps which variant of
        /// `Repr`, and of `Message`, it is. And it has the eight bytes that a move takes at once: were
        /// it stored as fewer, the move behind that would wait for the store to reach the cache.
        #[derive(Clone, Copy)]
        #[repr(u64)]
        enum Length {
            $($value),*
        }

        impl Length {
            const ALL: &'static [Self; Frame::INLINE + 1] = &[$(Self::$value),*];
        }
    };
}

length! {
    L0 L1 L2 L3 L4 L5 L6 L7 L8 L9 L10 L11 L12
    L13 L14 L15 L16 L17 L18 L19 L20 L21 L22 L23 L24 L25
    L26 L27 L28 L29 L30 L31 L32 L33 L34 L35 L36 L37 L38
    L39 L40 L41 L42 L43 L44 L45 L46 L47 L48 L49 L50 L51
    L52 L53 L54 L55 L56 L57 L58 L59 L60 L61 L62 L63 L64
}

impl Inline {
    #[inline]
    fn repr(data: [u8; Frame::INLINE], len: usize) -> Repr {
        debug_assert!(len <= Frame::INLINE);
        let len = Length::ALL[len];
        Repr::Inline(Self { data, len })
    }

    #[inline]
    fn len(&self) -> usize {
        self.len as usize
    }
}

const _: () = assert!(size_of::<Frame>() == 72);

impl Frame {
    /// So many bytes fit into the value itself.
    pub const INLINE: usize = 64;

    /// Returns a frame of no bytes.
    #[inline]
    pub const fn empty() -> Self {
        Self(Repr::Inline(Inline {
            data: [0; Self::INLINE],
            len: Length::L0,
        }))
    }

    /// Returns a frame with a copy of `bytes`.
    #[inline]
    pub fn copy_from(bytes: &[u8]) -> Self {
        if bytes.len() <= Self::INLINE {
            let mut data = [0; Self::INLINE];
            copy_short(&mut data, bytes);
            Self(Inline::repr(data, bytes.len()))
        } else {
            Self(Repr::Shared(Bytes::copy_from_slice(bytes)))
        }
    }

    /// Returns a frame of `len` bytes that `f` writes in place; they are zero before.
    ///
    /// # Examples
    /// ```
    /// use sward_zmtp::Frame;
    /// let frame = Frame::from_fn(8, |bytes| bytes.copy_from_slice(&7_u64.to_be_bytes()));
    /// assert_eq!(frame, [0, 0, 0, 0, 0, 0, 0, 7]);
    /// ```
    #[inline]
    pub fn from_fn(len: usize, f: impl FnOnce(&mut [u8])) -> Self {
        if len <= Self::INLINE {
            let mut data = [0; Self::INLINE];
            f(&mut data[..len]);
            Self(Inline::repr(data, len))
        } else {
            let mut bytes = vec![0; len];
            f(&mut bytes);
            Self(Repr::Shared(bytes.into()))
        }
    }

    /// The first `len` bytes of `window`; faster than [`copy_from`](Self::copy_from) of these if the
    /// window goes on for `INLINE` bytes.
    #[inline]
    pub(crate) fn from_window(window: &[u8], len: usize) -> Self {
        match window.first_chunk::<{ Self::INLINE }>() {
            Some(data) if len <= Self::INLINE => Self(Inline::repr(*data, len)),
            _ => Self::copy_from(&window[..len]),
        }
    }

    /// The bytes with what is behind them, and how many count; `None` if they are elsewhere.
    #[inline]
    pub(crate) fn inline(&self) -> Option<(&[u8; Self::INLINE], usize)> {
        match &self.0 {
            Repr::Inline(inline) => Some((&inline.data, inline.len())),
            Repr::Shared(_) => None,
        }
    }

    /// The bytes if they are shared.
    #[inline]
    pub(crate) fn shared(&self) -> Option<&Bytes> {
        match &self.0 {
            Repr::Inline(_) => None,
            Repr::Shared(bytes) => Some(bytes),
        }
    }

    /// Returns the bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(inline) => inline.data.get(..inline.len()).unwrap_or_default(),
            Repr::Shared(bytes) => bytes,
        }
    }

    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline(inline) => inline.len(),
            Repr::Shared(bytes) => bytes.len(),
        }
    }

    /// Returns whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes as a [`Bytes`]: shared if they are many, copied if they are few.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Inline(_) => Bytes::copy_from_slice(self.as_slice()),
            Repr::Shared(bytes) => bytes.clone(),
        }
    }

    /// Turns the frame into a [`Bytes`].
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Inline(_) => Bytes::copy_from_slice(self.as_slice()),
            Repr::Shared(bytes) => bytes,
        }
    }

    /// Returns the bytes as text.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self.as_slice())
    }

    /// Returns the bytes as text; what is not UTF-8 becomes `U+FFFD`.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_slice())
    }

    /// Returns the frame without its first `n` bytes; all of them if it is shorter.
    pub(crate) fn skip(self, n: usize) -> Self {
        match self.0 {
            Repr::Inline(_) => Self::copy_from(self.as_slice().get(n..).unwrap_or_default()),
            Repr::Shared(mut bytes) => Self::from(bytes.split_off(n.min(bytes.len()))),
        }
    }
}

/// Copies up to 64 bytes by at most two moves of a fixed size, which may overlap.
#[inline]
fn copy_short(data: &mut [u8; Frame::INLINE], from: &[u8]) {
    #[inline]
    fn ends<const N: usize>(data: &mut [u8; Frame::INLINE], from: &[u8]) {
        let len = from.len().min(Frame::INLINE);
        if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
            data[..N].copy_from_slice(first);
            data[len - N..len].copy_from_slice(last);
        }
    }
    match from.len() {
        32.. => ends::<32>(data, from),
        16.. => ends::<16>(data, from),
        8.. => ends::<8>(data, from),
        4.. => ends::<4>(data, from),
        2.. => ends::<2>(data, from),
        1 => data[0] = from[0],
        0 => {}
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::empty()
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Frame {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Frame {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for Frame {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Frame {
    #[inline]
    fn from(bytes: &[u8; N]) -> Self {
        Self::copy_from(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Frame {
    #[inline]
    fn from(bytes: [u8; N]) -> Self {
        Self::copy_from(&bytes)
    }
}

impl From<&str> for Frame {
    #[inline]
    fn from(text: &str) -> Self {
        Self::copy_from(text.as_bytes())
    }
}

impl From<&String> for Frame {
    #[inline]
    fn from(text: &String) -> Self {
        Self::copy_from(text.as_bytes())
    }
}

impl From<&Vec<u8>> for Frame {
    #[inline]
    fn from(bytes: &Vec<u8>) -> Self {
        Self::copy_from(bytes)
    }
}

impl From<&Self> for Frame {
    #[inline]
    fn from(frame: &Self) -> Self {
        frame.clone()
    }
}

/// More than `INLINE` bytes are taken over without a copy.
impl From<Vec<u8>> for Frame {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= Self::INLINE {
            Self::copy_from(&bytes)
        } else {
            Self(Repr::Shared(bytes.into()))
        }
    }
}

/// More than `INLINE` bytes are taken over without a copy.
impl From<String> for Frame {
    #[inline]
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

/// More than `INLINE` bytes are taken over without a copy.
impl From<Box<[u8]>> for Frame {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::from(bytes.into_vec())
    }
}

/// More than `INLINE` bytes are shared.
impl From<Bytes> for Frame {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        if bytes.len() <= Self::INLINE {
            Self::copy_from(&bytes)
        } else {
            Self(Repr::Shared(bytes))
        }
    }
}

impl From<Cow<'_, [u8]>> for Frame {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => Self::copy_from(bytes),
            Cow::Owned(bytes) => Self::from(bytes),
        }
    }
}

impl From<Cow<'_, str>> for Frame {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::from(text),
            Cow::Owned(text) => Self::from(text),
        }
    }
}

impl From<Frame> for Bytes {
    fn from(frame: Frame) -> Self {
        frame.into_bytes()
    }
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        match frame.0 {
            Repr::Inline(_) => frame.to_vec(),
            Repr::Shared(bytes) => bytes.into(),
        }
    }
}

impl PartialEq for Frame {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Frame {}

impl PartialOrd for Frame {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Frame {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// As the slice, which [`Borrow`] demands.
impl Hash for Frame {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

macro_rules! equal_to {
    ($($(#[$generic:ident])? $other:ty),+ $(,)?) => {$(
        impl PartialEq<$other> for Frame {
            #[inline]
            fn eq(&self, other: &$other) -> bool {
                self.as_slice() == AsRef::<[u8]>::as_ref(other)
            }
        }

        impl PartialEq<Frame> for $other {
            #[inline]
            fn eq(&self, other: &Frame) -> bool {
                other == self
            }
        }
    )+};
}

equal_to!([u8], &[u8], str, &str, String, Vec<u8>, Bytes);

impl<const N: usize> PartialEq<[u8; N]> for Frame {
    #[inline]
    fn eq(&self, other: &[u8; N]) -> bool {
        self.as_slice() == other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Frame {
    #[inline]
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.as_slice() == *other
    }
}

/// Text in quotes if all of it can be printed, else hexadecimal; what is long is cut.
/// As text; what is not UTF-8 is replaced, as by [`to_string_lossy`](Frame::to_string_lossy).
///
/// # Examples
/// ```
/// use sward_zmtp::Frame;
/// assert_eq!(Frame::from(b"gr\xffn").to_string(), "gr\u{fffd}n");
/// assert_eq!(format!("[{:>5}]", Frame::from("text")), "[ text]");
/// ```
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_string_lossy())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let whole = self.as_slice();
        let printable = |c: char| !c.is_control() && c != char::REPLACEMENT_CHARACTER;
        if let Some(text) = self.to_str().ok().filter(|t| t.chars().all(printable)) {
            let end = text
                .char_indices()
                .nth(SHOWN)
                .map_or(text.len(), |(at, _)| at);
            write!(f, "{:?}", &text[..end])?;
            if end < text.len() {
                write!(f, ".. ({} bytes)", whole.len())?;
            }
            return Ok(());
        }
        f.write_str("0x")?;
        for byte in whole.iter().take(SHOWN / 2) {
            write!(f, "{byte:02x}")?;
        }
        if whole.len() > SHOWN / 2 {
            write!(f, ".. ({} bytes)", whole.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + 1) as u8).collect()
    }

    #[test]
    fn every_length_round_the_limit_is_kept() {
        for len in 0..200 {
            let bytes = pattern(len);
            let window = pattern(len + 70);
            let frames = [
                Frame::copy_from(&bytes),
                Frame::from(bytes.clone()),
                Frame::from(Bytes::from(bytes.clone())),
                Frame::from(bytes.clone().into_boxed_slice()),
                Frame::from_fn(len, |b| b.copy_from_slice(&bytes)),
                Frame::from_window(&bytes, len),
                Frame::from_window(&window, len),
                Frame::from(Cow::Borrowed(&bytes[..])),
            ];
            for frame in frames {
                assert_eq!(frame, bytes);
                assert_eq!(frame.len(), len);
                assert_eq!(frame.is_empty(), len == 0);
                assert_eq!(frame.shared().is_some(), len > Frame::INLINE);
                assert_eq!(frame.to_bytes(), bytes);
                assert_eq!(Vec::from(frame.clone()), bytes);
                assert_eq!(frame.clone().skip(3), bytes[3.min(len)..]);
                assert_eq!(frame.into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_is_behind_the_end_does_not_count() {
        let (a, b) = ([1; 64], [2; 64]);
        let mut c = b;
        c[..5].fill(1);
        let (a, c) = (Frame::from_window(&a, 5), Frame::from_window(&c, 5));
        assert_eq!(a, c);
        assert_eq!(a.cmp(&c), Ordering::Equal);
        let map = HashMap::from([(a, 7)]);
        assert_eq!(map.get(&c), Some(&7));
        assert_eq!(map.get(&[1_u8; 5][..]), Some(&7));
        assert_eq!(format!("{c:?}"), "0x0101010101");
    }

    #[test]
    fn long_ones_are_shared() {
        let bytes = vec![5; 1000];
        let at = bytes.as_ptr();
        let frame = Frame::from(bytes);
        assert_eq!(frame.as_ptr(), at);
        assert_eq!(frame.clone().as_ptr(), at);
        assert_eq!(frame.to_bytes().as_ptr(), at);
        assert_eq!(frame.clone().skip(1).as_ptr(), at.wrapping_add(1));
    }

    #[test]
    fn it_is_shown_as_text_or_hexadecimal() {
        let debug = |bytes: &[u8]| format!("{:?}", Frame::from(bytes));
        assert_eq!(debug(b""), r#""""#);
        assert_eq!(debug(b"a \"b\""), r#""a \"b\"""#);
        assert_eq!(debug("ä".as_bytes()), r#""ä""#);
        assert_eq!(debug(b"\x00\xff"), "0x00ff");
        let long = debug(&[b'x'; 300]);
        assert!(
            long.len() < 90 && long.ends_with("x\".. (300 bytes)"),
            "{long}"
        );
        let long = debug(&[0; 300]);
        assert!(
            long.len() < 90 && long.ends_with("00.. (300 bytes)"),
            "{long}"
        );
        let long = debug("ä".repeat(100).as_bytes());
        assert!(long.ends_with("ä\".. (200 bytes)"), "{long}");
    }

    #[test]
    fn it_is_compared_with_what_bytes_come_in() {
        let frame = Frame::from("ab");
        assert_eq!(frame, b"ab");
        assert_eq!(frame, *b"ab");
        assert_eq!(frame, b"ab"[..]);
        assert_eq!(frame, &b"ab"[..]);
        assert_eq!(frame, "ab");
        assert_eq!("ab", frame);
        assert_eq!(frame, *"ab");
        assert_eq!(frame, String::from("ab"));
        assert_eq!(frame, vec![b'a', b'b']);
        assert_ne!(frame, "a");
        assert_eq!(frame.cmp(&Frame::from("b")), Ordering::Less);
    }
}
