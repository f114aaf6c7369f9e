//! [`PollEvents`]: what is waited for by a poller, and found.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What an item of a [`Poller`](crate::Poller) is waited for, or ready for (`ZMQ_POLLIN` and its like).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PollEvents(u8);

impl PollEvents {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A message, or bytes, can be received.
    pub const IN: Self = Self(1);
    /// A message, or bytes, can be sent.
    pub const OUT: Self = Self(2);
    /// Either of both.
    pub const IN_OUT: Self = Self(3);
    /// The socket is closed, the descriptor is at its end or in an error state. It need not be asked
    /// for.
    pub const ERR: Self = Self(4);

    /// Returns whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether it is [`NONE`](Self::NONE).
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for PollEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for PollEvents {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for PollEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Self::IN, "IN"), (Self::OUT, "OUT"), (Self::ERR, "ERR")];
        let mut names = names.iter().filter(|(event, _)| self.contains(*event));
        f.write_str(names.next().map_or("NONE", |(_, name)| name))?;
        names.try_for_each(|(_, name)| write!(f, " | {name}"))
    }
}
