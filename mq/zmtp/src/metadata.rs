//! [`Metadata`]: the properties that a peer sends in its handshake (RFC 37, section "Connection
//! Metadata").
//!
//! One property is the length of its name in a byte, the name, the length of its value in four
//! bytes, the value. They are checked once and kept as they came, in one heap block.
//!
//! A property that is there twice is refused, whatever the case of its letters: which of them
//! counts would depend on who asks. libzmq takes the last.

use std::fmt;

use crate::error::{Fault, Limited, Malformed};
use crate::limits::Limits;

/// The properties that a peer sent in its handshake, as they came.
///
/// Names are compared without regard to case, as RFC 37 demands.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(Box<[u8]>);

impl Metadata {
    /// Checks the properties of a command.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Fault> {
        let mut rest = bytes;
        let mut names: Vec<&[u8]> = Vec::new();
        while !rest.is_empty() {
            let (name, _, after) = split(rest).ok_or(Malformed::MetadataLength)?;
            rest = after;
            if !is_property_name(name) {
                return Err(Malformed::PropertyName.into());
            }
            if names.len() == limits.max_metadata {
                let max = limits.max_metadata;
                return Err(Fault::too_large(Limited::Metadata, max, max + 1));
            }
            names.push(name);
        }
        names.sort_unstable_by_key(|name| name.to_ascii_lowercase());
        if names
            .windows(2)
            .any(|two| two[0].eq_ignore_ascii_case(two[1]))
        {
            return Err(Malformed::DuplicateProperty.into());
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the value of a property; `None` if the peer did not send it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.iter();
        all.find(|p| p.0.eq_ignore_ascii_case(name)).map(|p| p.1)
    }

    /// Returns the properties, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (name, value, after) = split(rest)?;
            rest = after;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, shown(value))))
            .finish()
    }
}

/// The first property, as name and value, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(len))?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = u32::from_be_bytes(*len);
    if len > i32::MAX as u32 {
        return None;
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((name, value, rest))
}

/// Returns whether this may be the name of a property: 1 to 255 letters, digits, `-`, `_`, `.`, `+`.
pub fn is_property_name(name: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"-_.+".contains(c);
    (1..=255).contains(&name.len()) && name.iter().all(allowed)
}

/// Returns whether this may be an identity: at most 255 bytes that do not begin with 0. An empty
/// one means that there is none.
pub fn is_identity(identity: &[u8]) -> bool {
    check_identity(identity).is_ok()
}

pub(crate) fn check_identity(identity: &[u8]) -> Result<(), Malformed> {
    if identity.len() > 255 {
        Err(Malformed::IdentityLength)
    } else if identity.first() == Some(&0) {
        Err(Malformed::IdentityReserved)
    } else {
        Ok(())
    }
}

/// Appends a property.
pub(crate) fn write(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.push(name.len() as u8);
    into.extend_from_slice(name);
    into.extend_from_slice(&(value.len() as u32).to_be_bytes());
    into.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(properties: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        properties.iter().for_each(|p| write(p.0, p.1, &mut bytes));
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Metadata, Fault> {
        Metadata::parse(bytes, &Limits::DEFAULT)
    }

    #[test]
    fn properties_are_found_whatever_their_case() {
        let metadata = parse(&bytes(&[(b"Socket-Type", b"REQ"), (b"X-a.b_c+1", b"")])).unwrap();
        assert_eq!(metadata.get("socket-TYPE"), Some(&b"REQ"[..]));
        assert_eq!(metadata.get("X-a.b_c+1"), Some(&b""[..]));
        assert_eq!(metadata.get("X"), None);
        let names: Vec<_> = metadata.iter().map(|p| p.0).collect();
        assert_eq!(names, ["Socket-Type", "X-a.b_c+1"]);
        assert_eq!(parse(b"").unwrap(), Metadata::default());
    }

    #[test]
    fn only_whole_properties_count() {
        let one = bytes(&[(b"a", b"bc")]);
        for end in 1..one.len() {
            assert_eq!(parse(&one[..end]), Err(Malformed::MetadataLength.into()));
        }
        let trailing = [&one[..], &[0]].concat();
        assert_eq!(parse(&trailing), Err(Malformed::MetadataLength.into()));
        let huge = b"\x01a\xff\xff\xff\xff";
        assert_eq!(parse(huge), Err(Malformed::MetadataLength.into()));
    }

    #[test]
    fn names_are_unique_and_of_few_characters() {
        for name in [&b""[..], b"a b", b"a\0", b"a:", b"\xc3\xa4"] {
            assert_eq!(
                parse(&bytes(&[(name, b"")])),
                Err(Malformed::PropertyName.into())
            );
        }
        let twice = [
            (&b"Identity"[..], &b"a"[..]),
            (b"x", b""),
            (b"IDENTITY", b"b"),
        ];
        assert_eq!(
            parse(&bytes(&twice)),
            Err(Malformed::DuplicateProperty.into())
        );
        assert!(parse(&bytes(&[(&[b'n'; 255], b"")])).is_ok());
    }

    #[test]
    fn they_are_counted() {
        let many: Vec<String> = (0..65).map(|i| format!("x{i}")).collect();
        let many: Vec<_> = many.iter().map(|n| (n.as_bytes(), &b""[..])).collect();
        assert!(parse(&bytes(&many[..64])).is_ok());
        let fault = Fault::TooLarge {
            what: Limited::Metadata,
            limit: 64,
            declared: 65,
        };
        assert_eq!(parse(&bytes(&many)), Err(fault));
    }

    #[test]
    fn identities_are_short_and_do_not_begin_with_zero() {
        assert!(is_identity(b"") && is_identity(b"a\0") && is_identity(&[1; 255]));
        assert!(!is_identity(&[1; 256]) && !is_identity(b"\0") && !is_identity(b"\0a"));
    }
}
