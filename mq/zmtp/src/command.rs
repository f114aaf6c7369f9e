//! Commands: how they look, and those that every connection knows (RFC 37, section "Commands").
//!
//! A body is the length of the name in a byte, the name, which has letters only, and data.

use crate::error::{Fault, Malformed};
use crate::header::{COMMAND, Header};

pub(crate) const READY: &[u8] = b"READY";
pub(crate) const ERROR: &[u8] = b"ERROR";
pub(crate) const PING: &[u8] = b"PING";
pub(crate) const PONG: &[u8] = b"PONG";
pub(crate) const SUBSCRIBE: &[u8] = b"SUBSCRIBE";
pub(crate) const CANCEL: &[u8] = b"CANCEL";

/// What the longest name of a command that has a topic, and its length, add to the topic.
pub(crate) const SUBSCRIBE_HEAD: usize = 1 + SUBSCRIBE.len();

/// A PING may carry so many bytes, which come back in the PONG.
pub(crate) const MAX_CONTEXT: usize = 16;

/// Splits a body into name and data.
pub(crate) fn split(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (&len, rest) = body.split_first().ok_or(Malformed::CommandWithoutName)?;
    if len == 0 {
        return Err(Malformed::CommandWithoutName);
    }
    let split = rest.split_at_checked(usize::from(len));
    let (name, data) = split.ok_or(Malformed::CommandNameLength)?;
    if name.iter().all(u8::is_ascii_alphabetic) {
        Ok((name, data))
    } else {
        Err(Malformed::CommandName)
    }
}

/// Appends a command, frame and all.
pub(crate) fn write(name: &[u8], parts: &[&[u8]], into: &mut Vec<u8>) {
    let data: usize = parts.iter().map(|part| part.len()).sum();
    into.extend_from_slice(Header::new(COMMAND, 1 + name.len() + data).as_slice());
    into.push(name.len() as u8);
    into.extend_from_slice(name);
    parts.iter().for_each(|part| into.extend_from_slice(part));
}

/// Appends an ERROR with this reason, which has 255 bytes at most.
pub(crate) fn write_error(reason: &str, into: &mut Vec<u8>) {
    let reason = &reason.as_bytes()[..reason.len().min(255)];
    write(ERROR, &[&[reason.len() as u8], reason], into);
}

/// What the data of an ERROR says, as a fault.
pub(crate) fn read_error(data: &[u8]) -> Fault {
    match data.split_first() {
        Some((&len, reason)) if reason.len() == usize::from(len) => Fault::PeerError {
            reason: reason.escape_ascii().to_string().into(),
        },
        _ => Malformed::Error.into(),
    }
}

/// Splits the data of a PING into the time to live, in tenths of a second, and the context.
pub(crate) fn read_ping(data: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    match data.split_first_chunk() {
        Some((ttl, context)) if context.len() <= MAX_CONTEXT => {
            Ok((u16::from_be_bytes(*ttl), context))
        }
        _ => Err(Malformed::Ping),
    }
}

pub(crate) fn check_pong(data: &[u8]) -> Result<(), Malformed> {
    if data.len() <= MAX_CONTEXT {
        Ok(())
    } else {
        Err(Malformed::Pong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_within_the_body() {
        assert_eq!(split(b"\x04PINGdata"), Ok((PING, &b"data"[..])));
        assert_eq!(split(b"\x01x"), Ok((&b"x"[..], &b""[..])));
        assert_eq!(split(b""), Err(Malformed::CommandWithoutName));
        assert_eq!(split(b"\0READY"), Err(Malformed::CommandWithoutName));
        assert_eq!(split(b"\x06READY"), Err(Malformed::CommandNameLength));
        assert_eq!(split(b"\x05READ "), Err(Malformed::CommandName));
        assert_eq!(split(b"\x05READ\0"), Err(Malformed::CommandName));
        assert_eq!(split(&[255; 255]), Err(Malformed::CommandNameLength));
    }

    #[test]
    fn what_is_written_is_short_where_it_can_be() {
        let mut bytes = Vec::new();
        write(PONG, &[b"a", b"bc"], &mut bytes);
        assert_eq!(bytes, b"\x04\x08\x04PONGabc");
        bytes.clear();
        write(SUBSCRIBE, &[&[b't'; 245]], &mut bytes);
        assert_eq!(bytes[..3], [4, 255, 9]);
        bytes.clear();
        write(SUBSCRIBE, &[&[b't'; 246]], &mut bytes);
        assert_eq!(bytes[..10], [6, 0, 0, 0, 0, 0, 0, 1, 0, 9]);
        bytes.clear();
        write_error(&"x".repeat(300), &mut bytes);
        assert_eq!(bytes.len(), 9 + 6 + 1 + 255);
    }

    #[test]
    fn pings_have_a_time_to_live_and_a_short_context() {
        assert_eq!(read_ping(b"\x01\x02"), Ok((258, &b""[..])));
        assert_eq!(read_ping(b"\xff\xffabc"), Ok((u16::MAX, &b"abc"[..])));
        assert!(read_ping(&[0; 18]).is_ok());
        for bad in [0, 1, 19, 300] {
            assert_eq!(read_ping(&vec![0; bad]), Err(Malformed::Ping));
        }
        assert!(check_pong(&[0; 16]).is_ok());
        assert!(check_pong(&[0; 17]).is_err());
    }

    #[test]
    fn errors_are_shown_without_control_characters() {
        let reason = |data: &[u8]| read_error(data);
        assert_eq!(
            reason(b"\x03400"),
            Fault::PeerError {
                reason: "400".into()
            }
        );
        let reason_text = Fault::PeerError {
            reason: "\\x1b[2J".into(),
        };
        assert_eq!(reason(b"\x04\x1b[2J"), reason_text);
        assert_eq!(reason(b""), Malformed::Error.into());
        assert_eq!(reason(b"\x04400"), Malformed::Error.into());
        assert_eq!(reason(b"\x02400"), Malformed::Error.into());
    }
}
