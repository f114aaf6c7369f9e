//! What went over pipes: each counts its own, and a socket adds up those that are gone.

use std::ops::{Add, AddAssign};

/// What went over connections. Subscriptions, and their ends, count as messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages that were queued to be sent.
    pub messages_sent: u64,
    /// Messages that were received.
    pub messages_received: u64,
    /// Bytes that were given to the system, with all that the protocol adds; none within the process.
    pub bytes_sent: u64,
    /// Bytes that came from the system.
    pub bytes_received: u64,
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages_sent: self.messages_sent + other.messages_sent,
            messages_received: self.messages_received + other.messages_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_received: self.bytes_received + other.bytes_received,
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
