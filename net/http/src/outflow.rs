//! [`Outflow`]: a message that is being sent. Head and body go out together where they are small,
//! in one vectored send where they are not.

use std::io::{self, IoSlice};

use sward_net::Stream;

use crate::body::{Body, Kind, read_some};
use crate::chunked::{CHUNK_END, LAST_CHUNK, begin_chunk};
use crate::framing::Length;
use crate::writer::{BodyWriter, PIECE, Sink};

/// A piece up to this size is copied behind what goes before it; copying more costs more than the
/// second slice.
const COPIED: usize = 4096;

/// Sends all of it.
pub(crate) fn send_all(stream: &impl Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.send(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => bytes = &bytes[sent..],
        }
    }
    Ok(())
}

fn send_both(stream: &impl Stream, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
    while !first.is_empty() {
        match stream.send_vectored(&[IoSlice::new(first), IoSlice::new(second)])? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => {
                second = &second[sent.saturating_sub(first.len())..];
                first = &first[sent.min(first.len())..];
            }
        }
    }
    send_all(stream, second)
}

pub(crate) struct Outflow<'a, S> {
    pub(crate) stream: &'a S,
    /// What goes before the next piece: a head, the end of a chunk.
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) length: Length,
    /// Bytes of the body, without framing.
    pub(crate) sent: u64,
}

impl<S: Stream> Outflow<'_, S> {
    /// Sends a body to its end, or leaves its last bytes in `out`.
    pub(crate) fn body(&mut self, body: Body) -> io::Result<()> {
        match body.0 {
            Kind::Full(bytes) if bytes.is_empty() => {}
            Kind::Full(bytes)
                if self.length == Length::Exact(bytes.len() as u64) && bytes.len() <= COPIED =>
            {
                self.out.extend_from_slice(&bytes);
                self.sent = bytes.len() as u64;
                return Ok(());
            }
            Kind::Full(bytes) => self.piece(&bytes)?,
            Kind::Incoming(mut incoming) => {
                while let Some(chunk) = incoming.chunk()? {
                    self.piece(&chunk)?;
                }
            }
            Kind::Chunks(rest, chunks) => {
                self.flush()?;
                for chunk in std::iter::once(Ok(rest)).chain(chunks) {
                    let chunk = chunk?;
                    if !chunk.is_empty() {
                        self.piece(&chunk)?;
                    }
                }
            }
            Kind::Reader { mut reader, .. } => {
                let mut piece = vec![0; PIECE];
                while self.length != Length::Exact(0) {
                    match read_some(&mut reader, &mut piece)? {
                        0 => break,
                        count => self.piece(&piece[..count])?,
                    }
                }
            }
            Kind::Writer(write) => {
                let mut writer = BodyWriter::new(self);
                write(&mut writer)?;
                writer.send()?;
            }
        }
        match self.length {
            Length::Exact(0) | Length::UntilClose => Ok(()),
            Length::Chunked => {
                self.out.extend_from_slice(LAST_CHUNK);
                Ok(())
            }
            Length::Exact(missing) => {
                let text = format!("the body ended {missing} bytes before its announced length");
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
            }
        }
    }

    /// Sends what is in `out`.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = send_all(self.stream, self.out);
        self.out.clear();
        sent
    }
}

impl<S: Stream> Sink for Outflow<'_, S> {
    fn piece(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match &mut self.length {
            Length::Exact(left) => {
                let most = bytes.len().min((*left).try_into().unwrap_or(usize::MAX));
                bytes = &bytes[..most];
                *left -= most as u64;
                self.sent += most as u64;
                if *left == 0 && self.out.len() + most <= COPIED {
                    // The end: it may go out with more.
                    self.out.extend_from_slice(bytes);
                    return Ok(());
                }
            }
            Length::Chunked => {
                begin_chunk(self.out, bytes.len());
                self.sent += bytes.len() as u64;
            }
            Length::UntilClose => self.sent += bytes.len() as u64,
        }
        let is_chunked = self.length == Length::Chunked;
        if bytes.len() <= COPIED {
            self.out.extend_from_slice(bytes);
            if is_chunked {
                self.out.extend_from_slice(CHUNK_END);
            }
            return self.flush();
        }
        let sent = send_both(self.stream, self.out, bytes);
        self.out.clear();
        if is_chunked {
            // Goes out with what follows it.
            self.out.extend_from_slice(CHUNK_END);
        }
        sent
    }

    fn head(&mut self) -> io::Result<()> {
        self.flush()
    }
}
