//! [`Header`]: what stands before the body of a frame (RFC 37, section "Framing").
//!
//! | bit of the flags | |
//! |---|---|
//! | 0 | MORE: another frame of the same message follows |
//! | 1 | LONG: the length has 8 bytes instead of 1 |
//! | 2 | COMMAND: not a message (ZMTP 3 only) |
//! | 3-7 | reserved, 0 |
//!
//! ZMTP 1.0 has the length first, which counts the flags: 1 to 254, or 255 and 8 bytes; then the
//! flags, of which only MORE exists.
//!
//! The long form of a short length is accepted, and never written.

use crate::error::{Fault, Malformed};
use crate::message::Message;

pub(crate) const MORE: u8 = 1;
pub(crate) const LONG: u8 = 2;
pub(crate) const COMMAND: u8 = 4;

/// Bytes of the longest header of ZMTP 2 and 3; one of 1.0 has one more.
pub(crate) const MAX_HEADER: usize = 9;

/// A header as we write it.
pub(crate) struct Header {
    pub(crate) flags: u8,
    bytes: [u8; MAX_HEADER],
    len: u8,
    body: usize,
}

impl Header {
    #[inline]
    pub(crate) fn new(flags: u8, body: usize) -> Self {
        let mut bytes = [0; MAX_HEADER];
        let (flags, len) = match u8::try_from(body) {
            Ok(short) => {
                bytes[1] = short;
                (flags, 2)
            }
            Err(_) => {
                bytes[1..].copy_from_slice(&(body as u64).to_be_bytes());
                (flags | LONG, 9)
            }
        };
        bytes[0] = flags;
        Self {
            flags,
            bytes,
            len,
            body,
        }
    }

    /// Reads a header that [`new`](Self::new) made.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let flags = bytes[0];
        let body = match bytes.get(1..MAX_HEADER) {
            Some(long) if flags & LONG != 0 => be(long) as usize,
            _ => usize::from(bytes[1]),
        };
        Self::new(flags & !LONG, body)
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Bytes of header and body.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        usize::from(self.len) + self.body
    }
}

#[inline]
fn be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// What the header of a received frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) more: bool,
    pub(crate) command: bool,
    /// Bytes of the header.
    pub(crate) header: usize,
    /// Bytes of the body; below 2^63.
    pub(crate) body: u64,
}

/// The framing that a peer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    V1,
    V2,
    V3,
}

impl Framing {
    /// Reads the header of a frame; `None` if it is not all there.
    #[inline]
    pub(crate) fn read(self, input: &[u8]) -> Result<Option<Received>, Fault> {
        match self {
            Self::V1 => read_v1(input),
            Self::V2 => read(input, MORE | LONG),
            Self::V3 => read(input, MORE | LONG | COMMAND),
        }
    }
}

#[inline]
fn read(input: &[u8], known: u8) -> Result<Option<Received>, Fault> {
    let Some((&flags, rest)) = input.split_first() else {
        return Ok(None);
    };
    if flags & !known != 0 {
        return Err(Malformed::ReservedFlags.into());
    }
    let (more, command) = (flags & MORE != 0, flags & COMMAND != 0);
    if more && command {
        return Err(Malformed::CommandWithMore.into());
    }
    let (header, body) = if flags & LONG == 0 {
        let Some(&len) = rest.first() else {
            return Ok(None);
        };
        (2, u64::from(len))
    } else {
        let Some(len) = rest.first_chunk() else {
            return Ok(None);
        };
        (9, u64::from_be_bytes(*len))
    };
    if body > i64::MAX as u64 {
        return Err(Malformed::FrameLength.into());
    }
    Ok(Some(Received {
        more,
        command,
        header,
        body,
    }))
}

fn read_v1(input: &[u8]) -> Result<Option<Received>, Fault> {
    let (len, header) = match *input {
        [u8::MAX, ref rest @ ..] => match rest.first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        [len, ..] => (u64::from(len), 2),
        [] => return Ok(None),
    };
    let body = len.checked_sub(1).ok_or(Malformed::ZeroLength)?;
    if body > i64::MAX as u64 {
        return Err(Malformed::FrameLength.into());
    }
    let Some(&flags) = input.get(header - 1) else {
        return Ok(None);
    };
    if flags & !MORE != 0 {
        return Err(Malformed::ReservedFlags.into());
    }
    Ok(Some(Received {
        more: flags & MORE != 0,
        command: false,
        header,
        body,
    }))
}

/// Appends a frame of ZMTP 1.0.
pub(crate) fn write_v1(more: bool, body: &[u8], into: &mut Vec<u8>) {
    match u8::try_from(body.len() + 1) {
        Ok(len) if len < u8::MAX => into.push(len),
        _ => {
            into.push(u8::MAX);
            into.extend_from_slice(&(body.len() as u64 + 1).to_be_bytes());
        }
    }
    into.push(u8::from(more));
    into.extend_from_slice(body);
}

/// Appends a message in canonical form, for [`Output::push_encoded`](crate::Output::push_encoded).
///
/// # Examples
/// ```
/// let mut bytes = Vec::new();
/// sward_zmtp::encode(&["a", "bc"].into(), &mut bytes);
/// assert_eq!(bytes, b"\x01\x01a\x00\x02bc");
/// ```
pub fn encode(message: &Message, into: &mut Vec<u8>) {
    into.reserve(message.size() + MAX_HEADER * message.len());
    let mut frames = message.frames().iter();
    while let Some(frame) = frames.next() {
        let flags = if frames.len() > 0 { MORE } else { 0 };
        into.extend_from_slice(Header::new(flags, frame.len()).as_slice());
        into.extend_from_slice(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v3(bytes: &[u8]) -> Result<Option<Received>, Fault> {
        Framing::V3.read(bytes)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for len in [0, 1, 254, 255, 256, 65_536, 1 << 40] {
            for flags in [0, MORE, COMMAND] {
                let header = Header::new(flags, len);
                let expected = Received {
                    more: flags == MORE,
                    command: flags == COMMAND,
                    header: if len < 256 { 2 } else { 9 },
                    body: len as u64,
                };
                assert_eq!(v3(header.as_slice()), Ok(Some(expected)));
                let again = Header::parse(header.as_slice());
                assert_eq!(again.as_slice(), header.as_slice());
                assert_eq!(again.size(), expected.header + len);
                for end in 0..expected.header {
                    assert_eq!(v3(&header.as_slice()[..end]), Ok(None));
                }
            }
        }
    }

    #[test]
    fn flags_are_checked_before_all_else() {
        for flags in 0..=255_u8 {
            let one = Framing::V3.read(&[flags]);
            match flags {
                0..=4 | 6 => assert_eq!(one, Ok(None)),
                5 | 7 => assert_eq!(one, Err(Malformed::CommandWithMore.into())),
                _ => assert_eq!(one, Err(Malformed::ReservedFlags.into())),
            }
            let known = flags < 4;
            assert_eq!(Framing::V2.read(&[flags, 0, 0]).is_ok(), known);
            assert_eq!(Framing::V1.read(&[1, flags]).is_ok(), flags < 2);
        }
    }

    #[test]
    fn lengths_end_below_the_highest_bit() {
        let long = |len: u64| [&[LONG][..], &len.to_be_bytes()].concat();
        assert_eq!(
            v3(&long((1 << 63) - 1)).unwrap().unwrap().body,
            (1 << 63) - 1
        );
        assert_eq!(v3(&long(1 << 63)), Err(Malformed::FrameLength.into()));
        assert_eq!(v3(&long(u64::MAX)), Err(Malformed::FrameLength.into()));
        let old = |len: u64| [&[255][..], &len.to_be_bytes(), &[0]].concat();
        assert_eq!(
            Framing::V1.read(&old(u64::MAX)),
            Err(Malformed::FrameLength.into())
        );
        assert_eq!(Framing::V1.read(&old(0)), Err(Malformed::ZeroLength.into()));
        assert_eq!(Framing::V1.read(&old(1)).unwrap().unwrap().body, 0);
    }

    #[test]
    fn the_oldest_framing_counts_the_flags() {
        for (len, more) in [(0, true), (253, false), (254, true), (300, false)] {
            let mut bytes = Vec::new();
            write_v1(more, &vec![9; len], &mut bytes);
            let header = if len < 254 { 2 } else { 10 };
            let expected = Received {
                more,
                command: false,
                header,
                body: len as u64,
            };
            assert_eq!(bytes.len(), header + len);
            assert_eq!(Framing::V1.read(&bytes), Ok(Some(expected)));
            for end in 0..header {
                assert_eq!(Framing::V1.read(&bytes[..end]), Ok(None));
            }
        }
        assert_eq!(Framing::V1.read(&[0]), Err(Malformed::ZeroLength.into()));
    }
}
