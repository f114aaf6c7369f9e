//! [`Limits`]: what a connection puts up with.

/// What a connection puts up with from its peer; what is beyond ends the connection with
/// [`Fault::TooLarge`](crate::Fault::TooLarge), before memory is taken for it.
///
/// Memory grows with what has arrived, never with what was announced, so a limit is about a peer
/// that really sends so much. The defaults are far above what well-behaved peers send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one frame (`ZMQ_MAXMSGSIZE`). Default: none of its own, `max_total_size` counts.
    pub max_message_size: Option<u64>,
    /// Bytes of one message, all frames together. Default: 1 GiB. libzmq has no such limit.
    pub max_total_size: Option<u64>,
    /// Frames of one message. Default: 65,536, which take 4.7 MB if they are empty.
    pub max_parts: usize,
    /// Properties in the metadata of a handshake. Default: 64.
    pub max_metadata: usize,
    /// Bytes of one command, name and all (but see `max_topic_size`). Default: 16 KiB.
    pub max_command: usize,
    /// Bytes of the topic of one subscription. Default: 64 KiB.
    pub max_topic_size: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        max_message_size: None,
        max_total_size: Some(1 << 30),
        max_parts: 1 << 16,
        max_metadata: 64,
        max_command: 16 * 1024,
        max_topic_size: 64 * 1024,
    };

    /// A message of one frame passes if it has less bytes than this.
    pub(crate) fn single(&self) -> u32 {
        let bytes = |limit: Option<u64>| {
            let beyond = limit.map(|max| u32::try_from(max.saturating_add(1)));
            beyond.and_then(Result::ok).unwrap_or(u32::MAX)
        };
        let least = bytes(self.max_message_size).min(bytes(self.max_total_size));
        if self.max_parts > 0 { least } else { 0 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
