//! [`Input`]: what has been received and not used yet.
//!
//! The bytes of a head are given out as [`Bytes`] that share the buffer: fields and target are
//! slices of it, and when they are gone the memory is used again. All of the buffer is initialised,
//! so that a receive needs no clearing; that is done once for each time around.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use sward_net::Stream;

/// Room at first. Most requests are smaller, and idle connections are many.
const INITIAL: usize = 1024;
/// A receive with less room than this gets a new round.
const LEAST: usize = 256;
/// An empty buffer larger than this is given back.
const KEEP: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct Input {
    /// Received bytes, then room.
    bytes: BytesMut,
    filled: usize,
}

impl Input {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Gives out the first bytes.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        self.filled -= count;
        self.bytes.split_to(count).freeze()
    }

    /// Throws the first bytes away.
    pub(crate) fn skip(&mut self, count: usize) {
        self.filled -= count;
        self.bytes.advance(count);
    }

    /// Receives once; 0 is the end.
    pub(crate) fn fill(&mut self, stream: &impl Stream) -> io::Result<usize> {
        if self.bytes.len() - self.filled < LEAST {
            self.make_room();
        }
        let received = stream.recv(&mut self.bytes[self.filled..])?;
        self.filled += received;
        Ok(received)
    }

    #[inline(never)]
    fn make_room(&mut self) {
        let wanted = INITIAL.max(self.filled * 2);
        self.bytes.truncate(self.filled);
        let fits = self.bytes.try_reclaim(wanted - self.filled);
        let too_large = self.filled == 0 && self.bytes.capacity() > KEEP;
        if !fits || too_large {
            let mut larger = BytesMut::with_capacity(wanted);
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.resize(self.bytes.capacity(), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::time::Duration;

    use super::*;

    /// Receives as much as there is room for.
    struct Endless;

    impl Stream for Endless {
        fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            Ok(buffer.len())
        }
        fn send(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
        fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
        fn shutdown(&self, _: Shutdown) -> io::Result<()> {
            Ok(())
        }
        fn close(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn memory_is_used_again_once_nobody_has_it() {
        let mut input = Input::default();
        input.fill(&Endless).unwrap();
        let first = input.unread().as_ptr();
        let all = input.unread().len();
        drop(input.take(all));
        input.fill(&Endless).unwrap();
        assert_eq!(input.unread().as_ptr(), first);
        let kept = input.take(10);
        let rest = input.unread().len();
        input.skip(rest);
        input.fill(&Endless).unwrap();
        assert_ne!(input.unread().as_ptr(), first);
        assert_eq!(kept, "xxxxxxxxxx");
    }

    #[test]
    fn it_grows_while_nothing_is_taken() {
        let mut input = Input::default();
        while input.unread().len() < 100_000 {
            assert!(input.fill(&Endless).unwrap() >= LEAST);
        }
        assert!(input.bytes.capacity() < 400_000);
        let all = input.unread().len();
        input.skip(all);
        input.fill(&Endless).unwrap();
        assert!(input.bytes.capacity() <= KEEP);
    }
}
