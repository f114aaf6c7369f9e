//! [`Version`]: the versions of ZMTP that are spoken.

use std::fmt;

/// A version of ZMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Version {
    /// RFC 13: what libzmq 2 speaks.
    V1_0,
    /// RFC 15: what libzmq 3 speaks.
    V2_0,
    /// RFC 23: what libzmq 4.0 to 4.2 speak.
    V3_0,
    /// RFC 37: what libzmq since 4.3 speaks.
    V3_1,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1_0 => "1.0",
            Self::V2_0 => "2.0",
            Self::V3_0 => "3.0",
            Self::V3_1 => "3.1",
        })
    }
}
