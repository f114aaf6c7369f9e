//! [`Pool`]: a client's connections that are not in use, for each scheme, host and port.
//!
//! The last one given back is the first taken: it is the least likely to be closed by the server.
//! One that the server has closed, or on which it has said something unasked, is not given out, as
//! far as that can be seen; the client copes with the rest.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use sward_net::tls::TlsStream;
use sward_net::{Stream, TcpStream};
use sward_runtime::now;
use sward_runtime::sync::ShortLock;

/// Hosts beyond which the pool looks for entries that nobody will use again.
const MANY: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) tls: bool,
    /// In lower case; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Whether nothing has come, not even the end.
    fn is_quiet(&self) -> bool {
        let tcp = match self {
            Self::Tcp(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref(),
        };
        let tried = tcp.try_peek(&mut [0]);
        matches!(tried, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    fn stream(&self) -> &dyn Stream {
        match self {
            Self::Tcp(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => &**stream,
        }
    }
}

impl Stream for Wire {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream().recv(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream().send(bytes)
    }

    fn send_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.stream().send_vectored(buffers)
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream().set_read_timeout(limit)
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream().set_write_timeout(limit)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream().shutdown(how)
    }

    fn close(&self) -> io::Result<()> {
        self.stream().close()
    }
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) per_host: usize,
    pub(crate) time: Duration,
}

pub(crate) struct Pool(ShortLock<HashMap<Key, Vec<(Wire, Instant)>>>);

impl Pool {
    pub(crate) fn new() -> Self {
        Self(ShortLock::new(HashMap::new()))
    }

    pub(crate) fn take(&self, key: &Key, keep: Keep) -> Option<Wire> {
        loop {
            // Closed, if at all, when the lock is not held.
            let (wire, since) = self.0.lock().get_mut(key)?.pop()?;
            if now().saturating_duration_since(since) < keep.time && wire.is_quiet() {
                return Some(wire);
            }
        }
    }

    pub(crate) fn give(&self, key: &Key, wire: Wire, keep: Keep) {
        let present = now();
        let mut dropped = Vec::new();
        let mut all = self.0.lock();
        if all.len() >= MANY {
            for wires in all.values_mut() {
                let is_old = |(_, since): &mut (Wire, Instant)| {
                    present.saturating_duration_since(*since) >= keep.time
                };
                dropped.extend(wires.extract_if(.., is_old));
            }
            all.retain(|_, wires| !wires.is_empty());
        }
        let wires = match all.get_mut(key) {
            Some(wires) => wires,
            None => all.entry(key.clone()).or_default(),
        };
        wires.push((wire, present));
        if wires.len() > keep.per_host {
            dropped.push(wires.remove(0));
        }
        drop(all);
        drop(dropped);
    }

    pub(crate) fn idle(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }
}
