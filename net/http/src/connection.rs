//! One connection of a server: heads in, handler, responses out, until one end has had enough.
//!
//! The task of the connection alone writes to it (but for `100 Continue`, see `loan.rs`), and
//! alone reads from it, except while a body is lent to a handler.
//!
//! How an exchange ends
//! - *Persist*: the next head is looked for, in what has been received first.
//! - *Close*: all that the client sent has been used; the connection is dropped.
//! - *Linger*: there may be more to come from the client. A close would then reset the connection,
//!   and could take the response with it: only the writing half is shut down, and what comes is
//!   thrown away for a while.
//!
//! The clock is read only while a head is incomplete, or if somebody asked for durations; that a
//! connection is idle for too long is for `watch.rs` to find.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, StatusCode, Version, response};
use sward_net::Stream;
use sward_runtime::{now, sleep_until, timeout};

use crate::answer::{Access, Counters, IntoResponse, Peer};
use crate::body::{Body, Kind};
use crate::buffer::Input;
use crate::encode::{self, Announce, Persist};
use crate::error::BodyError;
use crate::exchange::{Asked, Noted, Refusal, frame, internal_error};
use crate::framing::{self, Length};
use crate::head::{self, Scanned, Scanner};
use crate::inflow::Inflow;
use crate::limits::{DRAIN, Limits};
use crate::loan::Loan;
use crate::outflow::{Outflow, send_all};
use crate::scratch;
use crate::upgrade::{self, Upgraded};
use crate::watch::{Live, Watch};

/// How long a lingering connection takes what comes, and how much.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// Responses that are held back together.
const COALESCED: usize = 32 * 1024;

pub(crate) type OnAccess = Box<dyn Fn(&Access<'_>) + Send + Sync>;

/// What the connections of a server share.
pub(crate) struct Service<F> {
    pub(crate) limits: Limits,
    pub(crate) handler: F,
    pub(crate) on_access: Option<OnAccess>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) counters: Counters,
}

enum Fate {
    Persist,
    Close,
    Linger,
}

pub(crate) struct Connection<'a, S, A, F> {
    service: &'a Service<F>,
    live: &'a Live<S>,
    peer: Peer<A>,
    input: Input,
    out: Vec<u8>,
    served: u64,
    /// The time-out of reads that is set.
    read_limit: Option<Duration>,
    /// When the request would come that is just within the rate.
    due: Option<Instant>,
}

impl<'a, S, A, F, R> Connection<'a, S, A, F>
where
    S: Stream,
    A: Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Fn(Request<Body>) -> R,
    R: IntoResponse,
{
    pub(crate) fn new(service: &'a Service<F>, live: &'a Live<S>, peer: Peer<A>) -> Self {
        Self {
            service,
            live,
            peer,
            input: Input::default(),
            out: Vec::new(),
            served: 0,
            read_limit: None,
            due: None,
        }
    }

    /// Serves until the connection ends. Errors of the connection end it, and are nobody's concern.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let write_time = self.service.limits.write_time;
        self.live.stream.set_write_timeout(Some(write_time))?;
        loop {
            let fate = match self.next_head()? {
                Ok(Some((head, lines))) => self.exchange(&head, lines)?,
                Ok(None) => return Ok(()),
                Err(refusal) => self.refuse(&refusal, framing::Kind::Other, None)?,
            };
            match fate {
                Fate::Persist => {}
                Fate::Close => return Ok(()),
                Fate::Linger => return self.linger(),
            }
        }
    }

    fn limit_reads(&mut self, limit: Option<Duration>) -> io::Result<()> {
        if self.read_limit != limit {
            self.live.stream.set_read_timeout(limit)?;
            self.read_limit = limit;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = send_all(&*self.live.stream, &self.out);
        scratch::give_out(std::mem::take(&mut self.out));
        sent
    }

    fn take_out(&mut self) {
        if self.out.capacity() == 0 {
            self.out = scratch::take_out();
        }
    }

    /// The next head; `None` at the end of the connection, and when it was idle for too long.
    fn next_head(&mut self) -> io::Result<Result<Option<(Bytes, usize)>, Refusal>> {
        let limits = &self.service.limits;
        let mut scanner = Scanner::new(limits.head);
        let mut deadline = None;
        loop {
            if !self.input.is_empty() {
                match scanner.scan(self.input.unread()) {
                    Ok(Scanned::More) => {}
                    Ok(Scanned::Head { begin, end, lines }) => {
                        self.input.skip(begin);
                        return Ok(Ok(Some((self.input.take(end - begin), lines))));
                    }
                    Err(malformed) => return Ok(Err(malformed.into())),
                }
            }
            self.flush()?;
            let idle = self.input.is_empty();
            if idle {
                if self.service.watch.is_stopping() {
                    return Ok(Ok(None));
                }
                self.limit_reads(None)?;
                self.live
                    .idle_since(self.service.watch.tick(), self.served == 0);
            } else {
                let present = now();
                let until = *deadline.get_or_insert(present + limits.head_time);
                let left = until.saturating_duration_since(present);
                if left.is_zero() {
                    return Ok(Err(Self::head_is_late()));
                }
                self.limit_reads(Some(left))?;
            }
            let received = self.input.fill(&*self.live.stream);
            if idle {
                self.live.is_busy();
            }
            match received {
                Ok(0) => return Ok(Ok(None)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Err(Self::head_is_late()));
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn head_is_late() -> Refusal {
        Refusal {
            status: StatusCode::REQUEST_TIMEOUT,
            why: "the head of the request did not come in time".into(),
        }
    }

    fn exchange(&mut self, head: &Bytes, lines: usize) -> io::Result<Fate> {
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = scratch::take_fields();
        let fields = match head::parse_request(head, lines, &mut request) {
            Ok(fields) => fields,
            Err(malformed) => return self.refuse(&malformed.into(), framing::Kind::Other, None),
        };
        let noted = self.service.on_access.is_some().then(|| {
            Box::new(Noted {
                begun: now(),
                request: Some((request.method().clone(), request.uri().clone())),
            })
        });
        let version = request.version();
        let checked = fields
            .check_request(version)
            .and_then(|expects| Ok((expects, fields.request_body(request.method(), version)?)));
        let (expects, length) = match checked {
            Ok(checked) => checked,
            Err(malformed) => {
                return self.refuse(&malformed.into(), request.method().into(), noted);
            }
        };
        let limit = self.service.limits.body;
        if matches!(length, Length::Exact(n) if n > limit) {
            let too_large = BodyError::TooLarge(limit).into();
            return self.refuse(&too_large, request.method().into(), noted);
        }
        self.pace();
        self.served += 1;
        let asked = Asked {
            persists: fields.persists(version) && self.served < self.service.limits.requests,
            kind: request.method().into(),
            version,
        };

        let mut loan = None;
        if length != Length::NONE {
            self.flush()?;
            self.limit_reads(Some(self.service.limits.body_time))?;
            let inflow = Inflow::new(std::mem::take(&mut self.input), length, limit);
            let lent = Loan::new(self.live.stream.clone(), inflow, expects);
            *request.body_mut() = Body(Kind::Incoming(Box::new(lent.clone())));
            loan = Some(lent);
        }
        if self.service.limits.with_peer {
            request.extensions_mut().insert(self.peer.clone());
        }

        let handler = &self.service.handler;
        let made = catch_unwind(AssertUnwindSafe(|| {
            IntoResponse::into_parts(handler(request))
        }));
        let (failure, left) = loan.as_ref().map_or((None, Some(0)), |loan| loan.look());
        if let Some(e) = failure
            && e != BodyError::Revoked
        {
            return self.refuse(&e.into(), asked.kind, noted);
        }
        match made {
            Ok(Ok((parts, body))) => {
                self.service.counters.answered.fetch_add(1, Relaxed);
                self.respond(asked, parts, body, loan, left, noted, None)
            }
            Ok(Err(why)) => {
                self.service.counters.answered.fetch_add(1, Relaxed);
                let (parts, body) = internal_error();
                self.respond(asked, parts, body, loan, left, noted, Some(why))
            }
            // A kill is one too: the next park raises it again.
            Err(_panic) => {
                let refusal = Refusal {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    why: "the handler panicked".into(),
                };
                let fate = self.refuse(&refusal, asked.kind, noted);
                self.service.counters.panicked.fetch_add(1, Relaxed);
                fate
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the end of one exchange, in one place"
    )]
    fn respond(
        &mut self,
        asked: Asked,
        mut parts: response::Parts,
        body: Body,
        loan: Option<Arc<Loan<S>>>,
        left: Option<u64>,
        noted: Option<Box<Noted>>,
        mut error: Option<String>,
    ) -> io::Result<Fate> {
        let then = match parts.extensions.is_empty() {
            true => None,
            false => upgrade::take_closure(&mut parts.extensions),
        };
        let tunnels = asked.kind == framing::Kind::Connect && parts.status.is_success();
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let then = then.filter(|_| tunnels || switches);
        if parts.status.is_informational() && then.is_none() {
            error.get_or_insert_with(|| format!("{} is no final response", parts.status));
            parts = internal_error().0;
        }
        let waits = !matches!(body.0, Kind::Incoming(_))
            && loan.as_ref().is_some_and(|loan| loan.give_up_expecting());
        // The response may be about to read it, as an echo does.
        let is_lent = loan
            .as_ref()
            .is_some_and(|loan| Arc::strong_count(loan) > 1);
        let mut persists = asked.persists
            && !tunnels
            && !waits
            && (is_lent || left.is_none_or(|left| left <= DRAIN))
            && !self.service.watch.is_stopping();
        let (announce, length) = frame(&asked, &mut parts, &body);
        persists &= length != Some(Length::UntilClose);
        let persist = match () {
            () if then.is_some() => Persist::AsGiven,
            () if !persists => Persist::Close,
            () if asked.version == Version::HTTP_10 => Persist::KeepAlive,
            () => Persist::Default,
        };
        let status = parts.status;
        let second = self.service.watch.second();
        self.take_out();
        persists &= encode::response(
            &mut self.out,
            status,
            &parts.headers,
            announce,
            persist,
            second,
        );
        scratch::give_fields(parts.headers);

        if let Some(then) = then {
            self.flush()?;
            self.log(noted, status, 0, error.as_deref());
            if let Some(loan) = loan {
                match self.settle(&loan, true)? {
                    Fate::Persist => {}
                    fate => return Ok(fate),
                }
            }
            let early = self.input.unread().len();
            let early = self.input.take(early);
            then(Upgraded::new(self.live.stream.clone(), early)?);
            return Ok(Fate::Close);
        }

        let (sent, bytes) = self.send_body(length, body);
        let coalesced = self.service.limits.coalesce && !self.input.is_empty();
        let sent = match sent {
            Ok(()) if coalesced && self.out.len() < COALESCED => Ok(()),
            Ok(()) => self.flush(),
            Err(e) => Err(e),
        };
        if let Err(e) = &sent {
            error.get_or_insert_with(|| e.to_string());
        }
        self.log(noted, status, bytes, error.as_deref());
        if sent.is_err() {
            self.live.stream.close()?;
            return Ok(Fate::Close);
        }
        let settled = match loan {
            None if persists => return Ok(Fate::Persist),
            None if self.input.is_empty() => Fate::Close,
            None => Fate::Linger,
            Some(_) if waits => Fate::Linger,
            Some(loan) => self.settle(&loan, persists)?,
        };
        Ok(match settled {
            Fate::Persist if !persists => Fate::Close,
            fate => fate,
        })
    }

    /// Sends the body, if it is sent at all; how many bytes of it.
    fn send_body(&mut self, length: Option<Length>, body: Body) -> (io::Result<()>, u64) {
        let Some(length) = length else {
            return (Ok(()), 0);
        };
        let mut outflow = Outflow {
            stream: &*self.live.stream,
            out: &mut self.out,
            length,
            sent: 0,
        };
        let sent = if let Kind::Full(_) = body.0 {
            outflow.body(body)
        } else {
            let sent = catch_unwind(AssertUnwindSafe(|| outflow.body(body)));
            sent.unwrap_or_else(|_panic| {
                self.service.counters.panicked.fetch_add(1, Relaxed);
                Err(io::Error::other("the body panicked"))
            })
        };
        (sent, outflow.sent)
    }

    /// Takes the reading half back, and reads what is left of the body, if that is worth it.
    fn settle(&mut self, loan: &Loan<S>, drain: bool) -> io::Result<Fate> {
        let Some(mut inflow) = loan.take_back() else {
            self.live.stream.close()?;
            return Ok(Fate::Close);
        };
        if drain && !inflow.is_at_end() {
            let stream = &*self.live.stream;
            // One limit for all of it: the bytes may come one by one.
            let _ = timeout(LINGER, || {
                let mut drained = 0;
                while drained <= DRAIN
                    && let Ok(Some(chunk)) = inflow.chunk(stream)
                {
                    drained += chunk.len() as u64;
                }
            });
        }
        let whole = inflow.is_at_end();
        self.input = inflow.input;
        Ok(if whole { Fate::Persist } else { Fate::Linger })
    }

    /// Answers without the handler, or instead of it; the connection ends.
    fn refuse(
        &mut self,
        refusal: &Refusal,
        kind: framing::Kind,
        noted: Option<Box<Noted>>,
    ) -> io::Result<Fate> {
        self.service.counters.refused.fetch_add(1, Relaxed);
        let Refusal { status, why } = refusal;
        let reason = status.canonical_reason().unwrap_or("");
        let text = match *status == StatusCode::INTERNAL_SERVER_ERROR {
            true => format!("{reason}\n"),
            false => format!("{reason}: {why}\n"),
        };
        let mut headers = HeaderMap::new();
        let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, plain);
        let announce = Announce::Length(Length::Exact(text.len() as u64));
        let second = self.service.watch.second();
        self.take_out();
        encode::response(
            &mut self.out,
            *status,
            &headers,
            announce,
            Persist::Close,
            second,
        );
        if kind != framing::Kind::Head {
            self.out.extend_from_slice(text.as_bytes());
        }
        let noted = noted.or_else(|| {
            self.service.on_access.is_some().then(|| {
                Box::new(Noted {
                    begun: now(),
                    request: None,
                })
            })
        });
        let sent = self.flush();
        self.log(noted, *status, text.len() as u64, Some(why));
        sent.map(|()| Fate::Linger)
    }

    fn linger(&mut self) -> io::Result<()> {
        self.live.stream.shutdown(std::net::Shutdown::Write)?;
        let until = now() + LINGER;
        let mut taken = self.input.unread().len();
        while taken < LINGER_BYTES {
            let there = self.input.unread().len();
            self.input.skip(there);
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            self.limit_reads(Some(left))?;
            match self.input.fill(&*self.live.stream)? {
                0 => break,
                more => taken += more,
            }
        }
        Ok(())
    }

    /// Waits until this request is within the rate.
    fn pace(&mut self) {
        if let Some(rate) = &self.service.limits.rate {
            let present = now();
            let due = self.due.unwrap_or(present).max(present);
            let ahead = rate.apart * rate.burst.saturating_sub(1);
            if let Some(start) = due.checked_sub(ahead)
                && start > present
            {
                sleep_until(start);
            }
            self.due = Some(due + rate.apart);
        }
    }

    fn log(&self, noted: Option<Box<Noted>>, status: StatusCode, bytes: u64, error: Option<&str>) {
        if let (Some(on_access), Some(noted)) = (&self.service.on_access, noted) {
            let request = noted.request.as_ref();
            on_access(&Access {
                method: request.map(|r| &r.0),
                target: request.map(|r| &r.1),
                status,
                bytes,
                duration: now().saturating_duration_since(noted.begun),
                peer: &self.peer.addr,
                error,
            });
        }
    }
}
