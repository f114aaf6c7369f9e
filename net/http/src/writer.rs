//! [`BodyWriter`]: what the closure of a body writes to. It gathers small writes into pieces, which a
//! [`Sink`] sends.

use std::fmt;
use std::io::{self, Write};

/// Bytes that are gathered before they are sent as one piece.
pub(crate) const PIECE: usize = 16 * 1024;

/// Where a body is sent to, piece by piece.
pub(crate) trait Sink {
    /// Sends a piece, which is not empty.
    fn piece(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Sends what goes before the first piece.
    fn head(&mut self) -> io::Result<()>;
}

/// Sends nowhere.
pub(crate) struct Gather(pub(crate) Vec<u8>);

impl Sink for Gather {
    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn head(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the closure of [`Body::from_writer`](crate::Body::from_writer) writes to.
pub struct BodyWriter<'a> {
    sink: &'a mut dyn Sink,
    gathered: Vec<u8>,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(sink: &'a mut dyn Sink) -> Self {
        Self {
            sink,
            gathered: Vec::new(),
        }
    }

    /// Sends what was gathered.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let sent = self.sink.piece(&self.gathered);
        self.gathered.clear();
        sent
    }
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.len() + bytes.len() > PIECE {
            self.send()?;
        }
        if bytes.len() >= PIECE {
            self.sink.piece(bytes)?;
        } else {
            self.gathered.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Sends what was written so far; before the first write, the head of the message.
    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return self.sink.head();
        }
        self.send()
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gathered = self.gathered.len();
        f.debug_struct("BodyWriter")
            .field("gathered", &gathered)
            .finish_non_exhaustive()
    }
}
