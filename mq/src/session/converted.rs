//! Messages in the form of a peer that does not take the queue's own: ZMTP 1.0, or bare bytes.

use std::collections::VecDeque;

use sward_zmtp::{Connection, Output};

/// Bytes of whole messages that are on their way out, and where each message ends.
#[derive(Default)]
pub(super) struct Converted {
    bytes: Vec<u8>,
    /// So many of them are written.
    gone: usize,
    ends: VecDeque<usize>,
}

impl Converted {
    /// Takes messages out of the queue, until there are `limit` bytes. All that was there is gone.
    pub(super) fn fill(&mut self, connection: &Connection, output: &mut Output, limit: usize) {
        while self.bytes.len() < limit && connection.convert(output, &mut self.bytes) {
            let end = self.bytes.len();
            // (A command leaves nothing.)
            if self.ends.back().copied().unwrap_or(0) < end {
                self.ends.push_back(end);
            }
        }
    }

    /// What is to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets `n` bytes that were written.
    pub(super) fn advance(&mut self, n: usize) {
        self.gone += n;
        while self.ends.front().is_some_and(|end| *end <= self.gone) {
            self.ends.pop_front();
        }
        if self.gone == self.bytes.len() {
            // The memory is kept.
            self.bytes.clear();
            self.gone = 0;
        }
    }

    /// Number of messages that were not written completely.
    pub(super) fn messages(&self) -> usize {
        self.ends.len()
    }
}
