//! [`Body`]: what a handler gets and gives, and the client too.
//!
//! An incoming body is read from its connection, by whoever has it, until the exchange is over. An
//! outgoing one is bytes, or something that makes them while they are sent. They are one type, so
//! that a body can be handed on: an echo is `Response::new(request.into_body())`.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use http::HeaderMap;

use crate::error::BodyError;
use crate::writer::{BodyWriter, Gather, PIECE};

/// What [`Body::bytes`] and [`Body::text`] take at most.
pub(crate) const COLLECT_LIMIT: u64 = 2 * 1024 * 1024;

/// A body that comes from a connection.
pub(crate) trait Incoming: Send {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn chunk(&mut self) -> io::Result<Option<Bytes>>;
    fn trailers(&mut self) -> Option<HeaderMap>;
    fn size_hint(&self) -> (u64, Option<u64>);
    /// It is of no use to who reads it; the connection is told.
    fn fail(&mut self, e: BodyError);
}

type Chunks = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;
type Writes = Box<dyn FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + Send>;

pub(crate) enum Kind {
    Full(Bytes),
    Incoming(Box<dyn Incoming>),
    Reader {
        reader: Box<dyn Read + Send>,
        length: Option<u64>,
    },
    /// What is left of the present chunk, and those to come.
    Chunks(Bytes, Chunks),
    Writer(Writes),
}

/// The body of a request or a response.
///
/// It is read with [`Read`], or by [`bytes`](Self::bytes), [`text`](Self::text) and
/// [`chunk`](Self::chunk); and made from text or bytes by `into`, from a reader, from an iterator,
/// or by a closure that writes.
///
/// A server's incoming body may be read until the handler's response has been sent. Then the
/// connection goes on to the next request, and whoever still has the body gets
/// [`BodyError::Revoked`].
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use sward_http::Body;
///
/// let mut text = String::new();
/// Body::from("hello").read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
///
/// let lines = Body::from_writer(|w| {
///     for n in 1..=3 {
///         writeln!(w, "line {n}")?;
///         w.flush()?; // sent now
///     }
///     Ok(())
/// });
/// assert_eq!(lines.text()?, "line 1\nline 2\nline 3\n");
/// # std::io::Result::Ok(())
/// ```
pub struct Body(pub(crate) Kind);

impl Body {
    /// A body of no bytes.
    pub const fn empty() -> Self {
        Self(Kind::Full(Bytes::new()))
    }

    /// A body of what a reader gives until its end, in pieces of up to 16 KiB, each sent as it
    /// comes. An error of the reader cuts the connection, so that the other end can tell.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        let reader = Box::new(reader);
        Self(Kind::Reader {
            reader,
            length: None,
        })
    }

    /// As [`from_reader`](Self::from_reader), with a length that is announced. Bytes beyond it are
    /// not sent; if the reader ends before it, the connection is cut.
    pub fn from_sized_reader(reader: impl Read + Send + 'static, length: u64) -> Self {
        let (reader, length) = (Box::new(reader), Some(length));
        Self(Kind::Reader { reader, length })
    }

    /// A body of the chunks of an iterator, each sent as it comes. The head of the response is
    /// sent before the first one is asked for.
    pub fn from_chunks<I>(chunks: I) -> Self
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Into<Bytes>,
    {
        let chunks = chunks.into_iter().map(|chunk| Ok(chunk.into()));
        Self(Kind::Chunks(Bytes::new(), Box::new(chunks)))
    }

    /// As [`from_chunks`](Self::from_chunks), with chunks that may fail: that cuts the connection.
    pub fn from_results<I, T>(chunks: I) -> Self
    where
        I: IntoIterator<Item = io::Result<T>>,
        I::IntoIter: Send + 'static,
        T: Into<Bytes>,
    {
        let chunks = chunks.into_iter().map(|chunk| chunk.map(Into::into));
        Self(Kind::Chunks(Bytes::new(), Box::new(chunks)))
    }

    /// A body that a closure writes while it is sent, in the task of the connection. What it writes
    /// goes out at each `flush`, and when 16 KiB have been gathered. An error cuts the connection.
    pub fn from_writer<F>(write: F) -> Self
    where
        F: FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + Send + 'static,
    {
        Self(Kind::Writer(Box::new(write)))
    }

    /// The least number of bytes to come, and the most, if that is known.
    pub fn size_hint(&self) -> (u64, Option<u64>) {
        match &self.0 {
            Kind::Full(bytes) => (bytes.len() as u64, Some(bytes.len() as u64)),
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Reader { length, .. } => (length.unwrap_or(0), *length),
            Kind::Chunks(..) | Kind::Writer(_) => (0, None),
        }
    }

    /// Whether it is known that nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.size_hint().1 == Some(0)
    }

    /// The next bytes, as they come and without a copy where that can be; `None` is the end.
    ///
    /// # Blocking
    /// As a read of the connection.
    ///
    /// # Errors
    /// Those of the source; for what comes from a connection, see [`BodyError`].
    pub fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.0 {
            Kind::Full(bytes) if bytes.is_empty() => Ok(None),
            Kind::Full(bytes) => Ok(Some(std::mem::take(bytes))),
            Kind::Incoming(incoming) => incoming.chunk(),
            Kind::Chunks(rest, chunks) => {
                if !rest.is_empty() {
                    return Ok(Some(std::mem::take(rest)));
                }
                let is_some = |chunk: &io::Result<Bytes>| !matches!(chunk, Ok(c) if c.is_empty());
                chunks.find(is_some).transpose()
            }
            Kind::Reader { .. } => {
                let mut piece = vec![0; PIECE];
                let count = read_some(self, &mut piece)?;
                piece.truncate(count);
                Ok((count > 0).then(|| piece.into()))
            }
            Kind::Writer(_) => {
                self.run_writer()?;
                self.chunk()
            }
        }
    }

    /// All bytes to come, if they are at most 2 MiB; [`bytes_within`](Self::bytes_within) sets
    /// another limit.
    ///
    /// # Blocking
    /// As [`chunk`](Self::chunk).
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk); [`BodyError::TooLarge`], at which a server answers 413, whatever
    /// the handler returns.
    pub fn bytes(self) -> io::Result<Bytes> {
        self.bytes_within(COLLECT_LIMIT)
    }

    /// All bytes to come, if they are at most so many.
    ///
    /// # Blocking
    /// As [`chunk`](Self::chunk).
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn bytes_within(mut self, limit: u64) -> io::Result<Bytes> {
        if self.size_hint().0 > limit {
            return self.too_large(limit);
        }
        let Some(first) = self.chunk()? else {
            return Ok(Bytes::new());
        };
        let mut next = self.chunk()?;
        if next.is_none() && first.len() as u64 <= limit {
            return Ok(first);
        }
        let mut all = Vec::from(first);
        while let Some(chunk) = next {
            all.extend_from_slice(&chunk);
            if all.len() as u64 > limit {
                break;
            }
            next = self.chunk()?;
        }
        if all.len() as u64 > limit {
            return self.too_large(limit);
        }
        Ok(all.into())
    }

    fn too_large(&mut self, limit: u64) -> io::Result<Bytes> {
        let e = BodyError::TooLarge(limit);
        if let Kind::Incoming(incoming) = &mut self.0 {
            incoming.fail(e);
        }
        Err(e.into())
    }

    /// All that is to come, as text of at most 2 MiB.
    ///
    /// # Blocking
    /// As [`chunk`](Self::chunk).
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes); [`BodyError::NotText`].
    pub fn text(self) -> io::Result<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| BodyError::NotText.into())
    }

    /// The trailer fields of a chunked body that was read to its end; only once.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.0 {
            Kind::Incoming(incoming) => incoming.trailers(),
            _ => None,
        }
    }

    /// A closure cannot be read from: what it writes is gathered first.
    fn run_writer(&mut self) -> io::Result<()> {
        let kind = std::mem::replace(&mut self.0, Kind::Full(Bytes::new()));
        if let Kind::Writer(write) = kind {
            let mut all = Gather(Vec::new());
            let mut writer = BodyWriter::new(&mut all);
            write(&mut writer)?;
            writer.send()?;
            self.0 = Kind::Full(all.0.into());
        }
        Ok(())
    }
}

/// Reads with `Interrupted` as no event.
pub(crate) fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Full(bytes) => {
                let count = buffer.len().min(bytes.len());
                bytes.copy_to_slice(&mut buffer[..count]);
                Ok(count)
            }
            Kind::Incoming(incoming) => incoming.read(buffer),
            Kind::Reader {
                reader,
                length: None,
            } => reader.read(buffer),
            Kind::Reader {
                reader,
                length: Some(left),
            } => {
                let most = buffer.len().min((*left).try_into().unwrap_or(usize::MAX));
                let count = reader.read(&mut buffer[..most])?;
                *left -= count as u64;
                Ok(count)
            }
            Kind::Writer(_) => {
                self.run_writer()?;
                self.read(buffer)
            }
            Kind::Chunks(rest, chunks) => {
                while rest.is_empty() {
                    match chunks.next() {
                        Some(chunk) => *rest = chunk?,
                        None => return Ok(0),
                    }
                }
                let count = buffer.len().min(rest.len());
                rest.copy_to_slice(&mut buffer[..count]);
                Ok(count)
            }
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Full(_) => "full",
            Kind::Incoming(_) => "incoming",
            Kind::Reader { .. } => "reader",
            Kind::Chunks(..) => "chunks",
            Kind::Writer(_) => "writer",
        };
        let size = self.size_hint();
        f.debug_struct("Body")
            .field("kind", &kind)
            .field("size_hint", &size)
            .finish()
    }
}

macro_rules! full {
    ($($From:ty),*) => { $(
        impl From<$From> for Body {
            fn from(bytes: $From) -> Self {
                Self(Kind::Full(bytes.into()))
            }
        }
    )* };
}
full!(
    Bytes,
    Vec<u8>,
    String,
    &'static str,
    &'static [u8],
    Box<[u8]>
);

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl<T: Into<Self>> From<Option<T>> for Body {
    fn from(body: Option<T>) -> Self {
        body.map_or_else(Self::empty, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn every_kind_can_be_read_in_small_pieces() {
        let text = "0123456789";
        let bodies = || {
            [
                Body::from(text),
                Body::from(text.to_owned()),
                Body::from(text.as_bytes().to_vec()),
                Body::from_reader(text.as_bytes()),
                Body::from_sized_reader("0123456789abc".as_bytes(), 10),
                Body::from_chunks(["012", "", "3456", "789"]),
                Body::from_writer(|w| w.write_all(b"01234").and_then(|()| w.write_all(b"56789"))),
            ]
        };
        for mut body in bodies() {
            let (mut all, mut two) = (Vec::new(), [0; 2]);
            loop {
                let count = body.read(&mut two).unwrap();
                if count == 0 {
                    break;
                }
                all.extend_from_slice(&two[..count]);
            }
            assert_eq!(all, text.as_bytes(), "{body:?}");
        }
        for body in bodies() {
            assert_eq!(body.bytes_within(10).unwrap(), text);
        }
        for body in bodies() {
            let e = body.bytes_within(9).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::FileTooLarge);
        }
    }

    #[test]
    fn what_is_no_text_is_told() {
        let e = Body::from(vec![0xff]).text().unwrap_err();
        let inner = e.get_ref().and_then(|e| e.downcast_ref::<BodyError>());
        assert_eq!(inner, Some(&BodyError::NotText));
    }

    #[test]
    fn an_error_in_the_middle_comes_through() {
        let broken = || io::Error::other("broken");
        let body = Body::from_results([Ok("a"), Err(broken())]);
        assert_eq!(body.text().unwrap_err().to_string(), "broken");
        let body = Body::from_writer(move |w| w.write_all(b"a").and_then(|()| Err(broken())));
        assert_eq!(body.text().unwrap_err().to_string(), "broken");
    }
}
