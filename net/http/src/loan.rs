//! [`Loan`]: the reading half of a server's connection, lent to a handler for one body.
//!
//! The connection and the [`Body`](crate::Body) share it. While the exchange lasts, whoever has the
//! body reads; then the connection takes the half back, and a body that is still alive is revoked.
//! If it is just being read by another task, the connection cannot go on, and is closed.
//!
//! `Expect: 100-continue`: the first read sends the interim response, under a lock of its own that
//! the connection takes before it writes the final one; it never comes after that.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use sward_net::Stream;
use sward_runtime::sync::Mutex;

use crate::body::Incoming;
use crate::error::BodyError;
use crate::inflow::Inflow;
use crate::outflow::send_all;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

struct Half<S> {
    stream: Arc<S>,
    inflow: Inflow,
}

pub(crate) struct Loan<S> {
    /// `None` once it was taken back.
    half: Mutex<Option<Half<S>>>,
    /// The client waits to be told to go on.
    expects: Mutex<bool>,
}

impl<S: Stream> Loan<S> {
    pub(crate) fn new(stream: Arc<S>, inflow: Inflow, expects: bool) -> Arc<Self> {
        Arc::new(Self {
            half: Mutex::new(Some(Half { stream, inflow })),
            expects: Mutex::new(expects),
        })
    }

    /// What has gone wrong so far, and how much may be left; as far as nobody reads just now.
    pub(crate) fn look(&self) -> (Option<BodyError>, Option<u64>) {
        match self.half.try_lock().as_deref() {
            Some(Some(half)) => (half.inflow.failure(), half.inflow.size_hint().1),
            _ => (None, None),
        }
    }

    /// From now on nobody is told to go on; returns whether the client still waits for it.
    pub(crate) fn give_up_expecting(&self) -> bool {
        let waits = std::mem::take(&mut *self.expects.lock());
        if waits
            && let Some(mut half) = self.half.try_lock()
            && let Some(half) = &mut *half
        {
            half.inflow.fail(BodyError::Revoked);
        }
        waits
    }

    /// Revokes the body; `None` if another task reads it just now.
    pub(crate) fn take_back(&self) -> Option<Inflow> {
        let half = self.half.try_lock().and_then(|mut half| half.take());
        half.map(|half| half.inflow)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inflow, &S) -> io::Result<T>) -> io::Result<T> {
        let mut half = self.half.lock();
        let Some(Half { stream, inflow }) = &mut *half else {
            return Err(BodyError::Revoked.into());
        };
        {
            let mut expects = self.expects.lock();
            if *expects {
                *expects = false;
                send_all(&**stream, CONTINUE)?;
            }
        }
        f(inflow, stream)
    }
}

impl<S: Stream> Incoming for Arc<Loan<S>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|inflow, stream| inflow.read(stream, buffer))
    }

    fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.with(|inflow, stream| inflow.chunk(stream))
    }

    fn trailers(&mut self) -> Option<HeaderMap> {
        let mut half = self.half.lock();
        half.as_mut().and_then(|half| half.inflow.trailers())
    }

    fn size_hint(&self) -> (u64, Option<u64>) {
        match &*self.half.lock() {
            Some(half) => half.inflow.size_hint(),
            None => (0, None),
        }
    }

    fn fail(&mut self, e: BodyError) {
        if let Some(half) = &mut *self.half.lock() {
            half.inflow.fail(e);
        }
    }
}
