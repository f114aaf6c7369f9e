//! [`Fetched`]: the body of a client's response. It has the connection while it is read, and gives it
//! back to the pool at its end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use sward_net::Stream;
use sward_runtime::now;

use crate::body::Incoming;
use crate::error::BodyError;
use crate::inflow::Inflow;
use crate::pool::{Keep, Key, Pool, Wire};

/// The limit, or what is left until the deadline; `None`: nothing is.
pub(crate) fn within(limit: Duration, deadline: Option<Instant>) -> Option<Duration> {
    let Some(deadline) = deadline else {
        return Some(limit);
    };
    let left = deadline.saturating_duration_since(now());
    (!left.is_zero()).then_some(left.min(limit))
}

/// The body of a response, with its connection.
pub(crate) struct Fetched {
    pub(crate) wire: Option<Wire>,
    pub(crate) inflow: Inflow,
    /// Where the connection goes at the end, if it may.
    pub(crate) home: Option<(Arc<Pool>, Key, Keep)>,
    pub(crate) read_time: Duration,
    pub(crate) deadline: Option<Instant>,
}

impl Fetched {
    fn with<T>(
        &mut self,
        f: impl FnOnce(&mut Inflow, &Wire) -> io::Result<T>,
        ended: T,
    ) -> io::Result<T> {
        let Some(wire) = &self.wire else {
            return match self.inflow.failure() {
                Some(e) => Err(e.into()),
                None => Ok(ended),
            };
        };
        let Some(limit) = within(self.read_time, self.deadline) else {
            self.inflow.fail(BodyError::TimedOut);
            return Err(BodyError::TimedOut.into());
        };
        wire.set_read_timeout(Some(limit))?;
        let done = f(&mut self.inflow, wire);
        self.give_back();
        done
    }

    /// At the end, or after a failure, the connection is not needed any more.
    pub(crate) fn give_back(&mut self) {
        let ended = self.inflow.is_at_end();
        if !ended && self.inflow.failure().is_none() {
            return;
        }
        let wire = self.wire.take();
        if let (Some(wire), Some((pool, key, keep))) = (wire, self.home.take())
            && ended
            && self.inflow.input.is_empty()
        {
            pool.give(&key, wire, keep);
        }
    }
}

impl Incoming for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|inflow, wire| inflow.read(wire, buffer), 0)
    }

    fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.with(|inflow, wire| inflow.chunk(wire), None)
    }

    fn trailers(&mut self) -> Option<HeaderMap> {
        self.inflow.trailers()
    }

    fn size_hint(&self) -> (u64, Option<u64>) {
        self.inflow.size_hint()
    }

    fn fail(&mut self, e: BodyError) {
        self.inflow.fail(e);
        self.give_back();
    }
}
