//! The greeting: what each side sends before the first frame (RFC 37, section "Greeting").
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 10 | signature: 0xFF, 8 bytes of padding, 0x7F |
//! | 10 | 1 | major version: 3 |
//! | 11 | 1 | minor version: 1 |
//! | 12 | 20 | name of the mechanism, padded with zeros |
//! | 32 | 1 | as-server: 0 or 1 |
//! | 33 | 31 | zeros |
//!
//! To a peer of ZMTP 1.0, a signature whose padding holds a length is the header of a frame with
//! our identity. So it is one, where such peers are let in.
//!
//! Laxer than the grammar, as later versions may use these: the padding, the minor version and the
//! zeros at the end may be anything, and as-server decides nothing in NULL.

use crate::error::{Fault, Incompatible, Malformed};
use crate::setup::Setup;
use crate::version::Version;

pub(crate) const SIGNATURE: usize = 10;
/// What follows the signature and the major version.
pub(crate) const REST: usize = 53;
const MECHANISM: usize = 20;
pub(crate) const MAJOR: u8 = 3;
const MINOR: u8 = 1;

/// Whom a peer's first bytes say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// No signature: the first frame of a peer of ZMTP 1.0, or of something else.
    None,
    /// A major version follows.
    Versioned,
}

impl Signature {
    /// `None` if these bytes are too few to say.
    pub(crate) fn read(input: &[u8]) -> Result<Option<Self>, Fault> {
        match *input {
            [] => Ok(None),
            [0xFF, _, _, _, _, _, _, _, _, 0x7F, ..] => Ok(Some(Self::Versioned)),
            [0xFF, _, _, _, _, _, _, _, _, last, ..] if last & 1 == 0 => Ok(Some(Self::None)),
            [0xFF, _, _, _, _, _, _, _, _, _, ..] => Err(Malformed::Signature.into()),
            [0xFF, ..] => Ok(None),
            _ => Ok(Some(Self::None)),
        }
    }
}

/// Appends the signature.
pub(crate) fn write_signature(setup: &Setup, into: &mut Vec<u8>) {
    let padding = if setup.lets_old_in() {
        setup.wire_identity().len() as u64 + 1
    } else {
        0
    };
    into.push(0xFF);
    into.extend_from_slice(&padding.to_be_bytes());
    into.push(0x7F);
}

/// Appends what follows the major version.
pub(crate) fn write_rest(setup: &Setup, into: &mut Vec<u8>) {
    let mut rest = [0; REST];
    rest[0] = MINOR;
    rest[1..=MECHANISM].copy_from_slice(&padded(setup.mechanism.name()));
    rest[1 + MECHANISM] = u8::from(setup.as_server && setup.mechanism.has_roles());
    into.extend_from_slice(&rest);
}

/// Checks what follows a major version of 3 or more. Of later versions we speak our own.
pub(crate) fn check_rest(major: u8, rest: &[u8; REST], setup: &Setup) -> Result<Version, Fault> {
    let [minor, rest @ ..] = rest;
    let Some((theirs, [as_server, ..])) = rest.split_first_chunk::<MECHANISM>() else {
        return Err(Malformed::Signature.into());
    };
    let ours = setup.mechanism.name();
    if *theirs != padded(ours) {
        let theirs = *theirs;
        return Err(Incompatible::Mechanism { ours, theirs }.into());
    }
    if *as_server > 1 {
        return Err(Malformed::AsServer.into());
    }
    Ok(match (major, minor) {
        (MAJOR, 0) => Version::V3_0,
        _ => Version::V3_1,
    })
}

fn padded(name: &str) -> [u8; MECHANISM] {
    let mut padded = [0; MECHANISM];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket_type::SocketType;

    fn rest() -> [u8; REST] {
        let mut bytes = Vec::new();
        write_rest(&Setup::new(SocketType::Pair), &mut bytes);
        bytes.try_into().unwrap()
    }

    fn check(major: u8, change: impl FnOnce(&mut [u8; REST])) -> Result<Version, Fault> {
        let mut rest = rest();
        change(&mut rest);
        check_rest(major, &rest, &Setup::new(SocketType::Pair))
    }

    #[test]
    fn ours_is_what_the_table_says() {
        let mut setup = Setup::new(SocketType::Pair);
        let mut bytes = Vec::new();
        write_signature(&setup, &mut bytes);
        assert_eq!(bytes, b"\xff\0\0\0\0\0\0\0\0\x7f");
        (setup.allow_old_peers, setup.identity) = (true, "abc".into());
        bytes.clear();
        write_signature(&setup, &mut bytes);
        assert_eq!(bytes, b"\xff\0\0\0\0\0\0\0\x04\x7f");
        assert_eq!(rest()[..6], *b"\x01NULL\0");
        assert_eq!(rest()[5..], [0; 48]);
    }

    #[test]
    fn versions_are_negotiated() {
        assert_eq!(check(3, |_| {}), Ok(Version::V3_1));
        assert_eq!(check(3, |r| r[0] = 0), Ok(Version::V3_0));
        assert_eq!(check(3, |r| r[0] = 9), Ok(Version::V3_1));
        assert_eq!(check(4, |r| r[0] = 0), Ok(Version::V3_1));
        assert_eq!(check(255, |r| r[52] = 7), Ok(Version::V3_1));
    }

    #[test]
    fn all_twenty_bytes_of_the_mechanism_count() {
        for at in 1..=20 {
            let fault = check(3, |r| r[at] ^= 1).unwrap_err();
            assert!(matches!(
                fault,
                Fault::Incompatible(Incompatible::Mechanism { .. })
            ));
        }
        assert_eq!(check(3, |r| r[21] = 1), Ok(Version::V3_1));
        assert_eq!(check(3, |r| r[21] = 2), Err(Malformed::AsServer.into()));
    }

    #[test]
    fn a_signature_is_told_from_its_first_and_tenth_byte() {
        assert_eq!(Signature::read(b""), Ok(None));
        assert_eq!(Signature::read(b"\xff\0\0\0\0\0\0\0\0"), Ok(None));
        assert_eq!(
            Signature::read(b"\xff\0\0\0\0\0\0\0\x01\x7f"),
            Ok(Some(Signature::Versioned))
        );
        assert_eq!(
            Signature::read(b"\xff\0\0\0\0\0\0\0\x01\0"),
            Ok(Some(Signature::None))
        );
        assert_eq!(Signature::read(b"\x01"), Ok(Some(Signature::None)));
        assert!(Signature::read(b"\xff\0\0\0\0\0\0\0\x01\x01").is_err());
    }
}
