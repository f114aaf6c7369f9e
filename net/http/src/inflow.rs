//! [`Inflow`]: a body that is being received, for servers and clients.
//!
//! It owns the input of the connection for the time of one body. What fails stays failed, so that
//! the connection can see later what was wrong.

use std::io;

use bytes::Bytes;
use http::HeaderMap;
use sward_net::Stream;

use crate::buffer::Input;
use crate::chunked::{Decoder, Next};
use crate::error::BodyError;
use crate::framing::Length;

/// From so many bytes on.
const PAST_INPUT: usize = 2048;

#[derive(Debug)]
enum Left {
    Exact(u64),
    Chunked(Decoder),
    UntilClose,
    Nothing,
}

pub(crate) struct Inflow {
    pub(crate) input: Input,
    left: Left,
    received: u64,
    limit: u64,
    failed: Option<BodyError>,
    trailers: Option<HeaderMap>,
}

impl Inflow {
    pub(crate) fn new(input: Input, length: Length, limit: u64) -> Self {
        let left = match length {
            Length::Exact(0) => Left::Nothing,
            Length::Exact(n) => Left::Exact(n),
            Length::Chunked => Left::Chunked(Decoder::new()),
            Length::UntilClose => Left::UntilClose,
        };
        Self {
            input,
            left,
            received: 0,
            limit,
            failed: None,
            trailers: None,
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.left, Left::Nothing) && self.failed.is_none()
    }

    pub(crate) fn failure(&self) -> Option<BodyError> {
        self.failed
    }

    pub(crate) fn fail(&mut self, e: BodyError) {
        self.failed.get_or_insert(e);
    }

    pub(crate) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// At least, and at most, so many bytes are to come.
    pub(crate) fn size_hint(&self) -> (u64, Option<u64>) {
        match &self.left {
            Left::Exact(n) => (*n, Some(*n)),
            Left::Nothing => (0, Some(0)),
            Left::Chunked(decoder) => (decoder.left(), None),
            Left::UntilClose => (0, None),
        }
    }

    /// As `Read::read`.
    pub(crate) fn read(&mut self, stream: &impl Stream, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(most) = self.past_input(buffer.len()) {
            let received = stream.recv(&mut buffer[..most]);
            let received = received.map_err(|e| self.broken(e))?;
            self.check_received(received)?;
            self.count(received)?;
            return Ok(received);
        }
        let ready = self.look(stream)?;
        let count = ready.min(buffer.len());
        buffer[..count].copy_from_slice(&self.input.unread()[..count]);
        self.input.skip(count);
        self.count(count)?;
        Ok(count)
    }

    /// What is there, without a copy; `None` is the end.
    pub(crate) fn chunk(&mut self, stream: &impl Stream) -> io::Result<Option<Bytes>> {
        let ready = self.look(stream)?;
        if ready == 0 {
            return Ok(None);
        }
        let bytes = self.input.take(ready);
        self.count(ready)?;
        Ok(Some(bytes))
    }

    /// How much to receive straight into a buffer of this size, if a copy would be dearer than a
    /// smaller receive.
    fn past_input(&self, room: usize) -> Option<usize> {
        let left = match &self.left {
            _ if self.failed.is_some() || !self.input.is_empty() => return None,
            Left::Exact(n) => *n,
            Left::Chunked(decoder) if decoder.is_in_data() => decoder.left(),
            Left::UntilClose => u64::MAX,
            _ => return None,
        };
        let most = room.min(left.try_into().unwrap_or(usize::MAX));
        (most >= PAST_INPUT).then_some(most)
    }

    /// Receives until data is at the front of the input, and returns how much; 0 is the end.
    fn look(&mut self, stream: &impl Stream) -> io::Result<usize> {
        loop {
            if let Some(e) = self.failed {
                return Err(e.into());
            }
            let there = self.input.unread().len();
            let most = match &mut self.left {
                Left::Nothing => return Ok(0),
                Left::Exact(n) => *n,
                Left::UntilClose => u64::MAX,
                Left::Chunked(decoder) => match decoder.next(self.input.unread()) {
                    Ok(Next::More) => {
                        self.input.skip(there);
                        0
                    }
                    Ok(Next::Data { skip }) => {
                        let left = decoder.left();
                        self.input.skip(skip);
                        if left > self.limit.saturating_sub(self.received) {
                            return Err(self.is_wrong(BodyError::TooLarge(self.limit)));
                        }
                        left
                    }
                    Ok(Next::End { skip }) => {
                        let trailers = decoder.trailers();
                        self.input.skip(skip);
                        self.trailers = trailers.map_err(|e| self.is_wrong(e.into()))?;
                        self.left = Left::Nothing;
                        return Ok(0);
                    }
                    Err(e) => return Err(self.is_wrong(e.into())),
                },
            };
            let there = self.input.unread().len();
            let ready = there.min(most.try_into().unwrap_or(usize::MAX));
            if ready > 0 {
                return Ok(ready);
            }
            let received = self.input.fill(stream).map_err(|e| self.broken(e))?;
            self.check_received(received)?;
        }
    }

    /// An end of the connection is one of the body only if that has no other.
    fn check_received(&mut self, received: usize) -> io::Result<()> {
        if received == 0 {
            match self.left {
                Left::UntilClose => self.left = Left::Nothing,
                _ => return Err(self.is_wrong(BodyError::Truncated)),
            }
        }
        Ok(())
    }

    /// Data has been taken.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        self.received += bytes;
        if self.received > self.limit {
            return Err(self.is_wrong(BodyError::TooLarge(self.limit)));
        }
        match &mut self.left {
            Left::Exact(n) if *n == bytes => self.left = Left::Nothing,
            Left::Exact(n) => *n -= bytes,
            Left::Chunked(decoder) if bytes > 0 => decoder.took(bytes),
            _ => {}
        }
        Ok(())
    }

    fn is_wrong(&mut self, e: BodyError) -> io::Error {
        self.failed.get_or_insert(e).to_owned().into()
    }

    /// The connection is of no more use after this one.
    fn broken(&mut self, e: io::Error) -> io::Error {
        if e.kind() == io::ErrorKind::TimedOut {
            return self.is_wrong(BodyError::TimedOut);
        }
        self.failed.get_or_insert(BodyError::Truncated);
        e
    }
}
