//! Requests that own their way back, and requests that do not wait for one another.
//!
//! - [`Rep::recv`] gives a [`Request`], which keeps the envelope that leads its reply back: any number
//!   may be open, answered in any order by any task. One that is dropped unanswered is counted
//!   ([`Loss::Unanswered`]): its peer waits for ever, or until its own time-out.
//! - [`Req::request`] and [`Dealer::request`] send a request and wait for its reply, however many tasks
//!   do so with the same socket. Each has a number in its envelope, as with libzmq's `ZMQ_REQ_CORRELATE`, which a REP
//!   sends back as it sends back any envelope: the other side does not notice.
//! - Their `request_with` tries again after a time-out, with another peer if there is one (the
//!   guide's "Lazy Pirate"); a reply that comes after that is dropped and counted.
//!
//! A task that waits for a reply has an event of its own in the socket's table, so a reply wakes one
//! task, not all of them. The strict alternation of REQ and REP is in the dynamic
//! [`Socket`], which these stand beside: both forms may be used on one socket.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sward_runtime::sync::Event;
use sward_zmtp::Message;

use super::core::{Limit, SocketCore, Stop, WRITERS};
use super::dynamic::Socket;
use super::types::{Dealer, Rep, Req};
use crate::error::{Error, SendError};
use crate::loss::Loss;
use crate::pattern::Envelope;
use crate::peer::Peer;
use crate::session::Place;

/// A request that a [`Rep`] has received, to be answered by [`reply`](Self::reply), from any task.
///
/// It is the message too: `request.first()`, `request[1]`.
///
/// # Examples
/// Two requests are open at once, and answered in the other order.
/// ```
/// use sward_mq::{Rep, Req};
/// let rep = Rep::bound("inproc://open")?;
/// let ask = |text: &'static str| sward_runtime::spawn(move || {
///     let req = Req::connected("inproc://open")?;
///     Ok::<_, sward_mq::Error>(req.request(text)?)
/// });
/// let askers = [ask("one"), ask("two")];
/// let (first, second) = (rep.recv()?, rep.recv()?);
/// for request in [second, first] {
///     let answer = format!("to {}", request.first().to_str().unwrap());
///     request.reply(answer)?;
/// }
/// let [one, two] = askers.map(|task| task.join().unwrap());
/// assert_eq!(one?.first(), "to one");
/// assert_eq!(two?.first(), "to two");
/// # Ok::<(), sward_mq::Error>(())
/// ```
#[must_use = "its peer waits for a reply"]
pub struct Request {
    socket: Socket,
    /// There until it is answered.
    envelope: Option<Envelope>,
    message: Message,
    peer: Peer,
}

impl Request {
    /// Sends the reply to who asked. One that has gone meanwhile, or does not read, is no error: the
    /// reply is dropped and counted ([`Loss::Unroutable`], [`Loss::HighWaterMark`]).
    ///
    /// # Errors
    /// Give the reply back: [`Error::Closed`], [`Error::Terminated`].
    ///
    /// # Blocking
    /// Never parks.
    pub fn reply(mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = Some(message.into());
        let Some(mut envelope) = self.envelope.take().map(Some) else {
            return Ok(());
        };
        let sent = self
            .socket
            .core()
            .attempt::<WRITERS, _>(Limit::Try, |state| {
                if let Some(stop) = state.over() {
                    return Err(stop);
                }
                let (Some(envelope), Some(given)) = (envelope.take(), message.take()) else {
                    return Ok(());
                };
                let replied = state.pattern.reply(&mut state.pipes, envelope, given);
                replied.map_err(|(refusal, back)| {
                    message = Some(back);
                    refusal.into()
                })
            });
        sent.map_err(|error| SendError::new(error, message.unwrap_or_default()))
    }

    /// Returns the message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Takes the message out, and leaves an empty one: the request is still to be answered.
    pub fn take_message(&mut self) -> Message {
        std::mem::take(&mut self.message)
    }

    /// Returns who asked.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.envelope.is_some() {
            self.socket.core().count(Loss::Unanswered, 1, None);
        }
    }
}

impl Deref for Request {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("message", &self.message)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Rep {
    fn request(&self, limit: Limit) -> Result<Request, Error> {
        let socket: &Socket = self.as_ref();
        let (envelope, message, known) = socket.core().recv_with(limit, |state| {
            let (envelope, message) = state.pattern.recv_request(&mut state.pipes)?;
            let peer = state
                .pipes
                .get_mut(envelope.slot)
                .and_then(|e| e.peer.clone());
            Ok((envelope, message, peer))
        })?;
        let place = Place {
            slot: envelope.slot,
            generation: envelope.generation,
        };
        Ok(Request {
            socket: socket.clone(),
            envelope: Some(envelope),
            message,
            peer: Peer::new(known, None, place),
        })
    }

    /// Receives the next request, however many are still open.
    ///
    /// # Blocking
    /// Parks while there is none, for as long as
    /// [`Options::recv_timeout`](crate::Options::recv_timeout) says; honours kill and `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Closed`] and [`Error::Terminated`], also while it waits.
    ///
    /// # Cancel safety
    /// Killed or timed out, it has received nothing.
    pub fn recv(&self) -> Result<Request, Error> {
        self.request(Limit::Option)
    }

    /// Receives a request that has come, without waiting.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), with [`Error::WouldBlock`] for [`Error::TimedOut`].
    pub fn try_recv(&self) -> Result<Request, Error> {
        self.request(Limit::Try)
    }

    /// Receives the next request, waiting for at most `limit`, whatever the options say.
    ///
    /// # Blocking, errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, limit: Duration) -> Result<Request, Error> {
        self.request(Limit::For(limit))
    }

    /// Receives the next request, waiting until `deadline` at most, whatever the options say.
    ///
    /// # Blocking, errors
    /// As [`recv`](Self::recv).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Request, Error> {
        self.request(Limit::Until(deadline))
    }

    /// Answers requests for ever, or until the socket is closed: each reply is what `answer` makes of
    /// the request.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Message, Rep, Req};
    /// let rep = Rep::bound("inproc://upper")?;
    /// sward_runtime::spawn(move || rep.serve(|request| {
    ///     Message::from(request.first().to_ascii_uppercase())
    /// }));
    /// assert_eq!(Req::connected("inproc://upper")?.request("loud")?.first(), "LOUD");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn serve(&self, mut answer: impl FnMut(&Message) -> Message) -> Result<(), Error> {
        loop {
            let request = self.recv()?;
            let reply = answer(&request);
            request.reply(reply)?;
        }
    }
}

/// How long [`Req::request_with`] waits for a reply, and how often it asks.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_mq::Retry;
/// let retry = Retry::new(Duration::from_millis(2500)).attempts(3);
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "it says how to ask"]
pub struct Retry {
    limit: Duration,
    attempts: u32,
}

impl Retry {
    /// One attempt, which waits for so long.
    pub const fn new(limit: Duration) -> Self {
        Self { limit, attempts: 1 }
    }

    /// Sets how many attempts there are, each as long as the first; at least one.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = if attempts == 0 { 1 } else { attempts };
        self
    }
}

impl Req {
    /// Sends a request and waits for its reply, whatever other tasks do with this socket meanwhile.
    ///
    /// # Blocking
    /// Parks while there is no peer with room, for as long as
    /// [`Options::send_timeout`](crate::Options::send_timeout) says, and until the reply comes, for as
    /// long as [`Options::recv_timeout`](crate::Options::recv_timeout) says; honours kill and
    /// `timeout`.
    ///
    /// # Errors
    /// Give the request back, if it was not sent; else an empty message. [`Error::TimedOut`];
    /// [`Error::Closed`] and [`Error::Terminated`], also while it waits. A peer that is lost with the
    /// request does not end the wait: give it a time-out, or use [`request_with`](Self::request_with).
    ///
    /// # Cancel safety
    /// Killed or timed out after it has sent, the request is forgotten: its reply is dropped and
    /// counted.
    ///
    /// # Examples
    /// A hundred tasks ask over one socket.
    /// ```
    /// use sward_mq::{Rep, Req};
    /// let rep = Rep::bound("inproc://double")?;
    /// sward_runtime::spawn(move || rep.serve(|n| {
    ///     let n: u32 = n.first().to_str().unwrap().parse().unwrap();
    ///     (2 * n).to_string().into()
    /// }));
    /// let req = Req::connected("inproc://double")?;
    /// let tasks: Vec<_> = (0..100).map(|n: u32| {
    ///     let req = req.clone();
    ///     sward_runtime::spawn(move || req.request(n.to_string()).unwrap())
    /// }).collect();
    /// for (n, task) in tasks.into_iter().enumerate() {
    ///     assert_eq!(task.join().unwrap().first(), (2 * n).to_string().as_str());
    /// }
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn request(&self, message: impl Into<Message>) -> Result<Message, SendError> {
        ask_once(self.as_ref(), message.into())
    }

    /// Sends a request and waits for its reply, for a limited time; then asks the next peer, or the
    /// same one if there is no other, as often as `retry` says ("Lazy Pirate").
    ///
    /// A request may thus be answered twice by different peers: only the reply to the last attempt
    /// counts.
    ///
    /// # Blocking
    /// As [`request`](Self::request), each attempt for at most the limit of `retry`, sending included.
    ///
    /// # Errors
    /// As [`request`](Self::request); [`Error::TimedOut`] after the last attempt gives the request
    /// back.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Error, Req, Retry};
    /// let req = Req::connected("tcp://127.0.0.1:1")?;
    /// req.set_linger(Duration::ZERO)?; // what nobody took is not kept for somebody later
    /// let retry = Retry::new(Duration::from_millis(10)).attempts(3);
    /// let failed = req.request_with("anyone?", retry).unwrap_err();
    /// assert!(matches!(failed.error(), Error::TimedOut));
    /// assert_eq!(failed.into_message().first(), "anyone?");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn request_with(
        &self,
        message: impl Into<Message>,
        retry: Retry,
    ) -> Result<Message, SendError> {
        ask_again(self.as_ref(), message.into(), retry)
    }
}

/// Requests over a DEALER look to the other side as those of a REQ.
///
/// From the first one on, what comes with a number of four bytes and an empty frame in front is a
/// reply, and dropped and counted if nobody waits for it. All else is received as ever; what is not
/// received stands before replies that come after it.
impl Dealer {
    /// Sends a request and waits for its reply, whatever other tasks do with this socket meanwhile.
    ///
    /// # Blocking, errors, cancel safety
    /// As [`Req::request`].
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Dealer, Rep};
    /// let rep = Rep::bound("inproc://treble")?;
    /// sward_runtime::spawn(move || rep.serve(|text| text.first().repeat(3).into()));
    /// let dealer = Dealer::connected("inproc://treble")?;
    /// assert_eq!(dealer.request("hey")?.first(), "heyheyhey");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn request(&self, message: impl Into<Message>) -> Result<Message, SendError> {
        ask_once(self.as_ref(), message.into())
    }

    /// The same with a limit, and once more with the next peer, as often as `retry` says.
    ///
    /// # Blocking, errors
    /// As [`Req::request_with`].
    pub fn request_with(
        &self,
        message: impl Into<Message>,
        retry: Retry,
    ) -> Result<Message, SendError> {
        ask_again(self.as_ref(), message.into(), retry)
    }
}

fn ask_once(socket: &Socket, message: Message) -> Result<Message, SendError> {
    let core = socket.core();
    ask(core, message, Limit::Option, core.recv_limit())
}

fn ask_again(socket: &Socket, message: Message, retry: Retry) -> Result<Message, SendError> {
    let mut left = retry.attempts;
    loop {
        left -= 1;
        let end = Instant::now() + retry.limit;
        match ask(socket.core(), message.clone(), Limit::Until(end), Some(end)) {
            Err(e) if e.error().is_would_block() && left > 0 => {}
            Err(e) => return Err(SendError::new(e.into_parts().0, message)),
            Ok(reply) => return Ok(reply),
        }
    }
}

/// Forgets a request whose caller does not wait to its end.
struct Open<'a> {
    core: &'a SocketCore,
    id: u32,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.core.lines.lock();
        state.requests.remove(&self.id);
        state.pattern.forget(self.id);
    }
}

fn ask(
    core: &SocketCore,
    message: Message,
    sending: Limit,
    end: Option<Instant>,
) -> Result<Message, SendError> {
    let event = Arc::new(Event::new());
    let mut message = Some(message);
    let sent = core.attempt::<WRITERS, _>(sending, |state| {
        if let Some(stop) = state.over() {
            return Err(stop);
        }
        let Some(given) = message.take() else {
            return Err(Stop::WouldBlock);
        };
        let id = state.next_request();
        match state.pattern.request(&mut state.pipes, id, given) {
            Ok(_) => {
                state.requests.insert(id, event.clone());
                // Who asks waits for the answer.
                state.pipes.flush_last();
                Ok(id)
            }
            Err((refusal, back)) => {
                message = Some(back);
                Err(refusal.into())
            }
        }
    });
    let id = match sent {
        Ok(id) => id,
        Err(error) => return Err(SendError::new(error, message.unwrap_or_default())),
    };
    let open = Open { core, id };
    let woken = match end {
        Some(end) => event.wait_deadline(end),
        None => {
            event.wait();
            true
        }
    };
    let mut guard = core.lines.lock();
    let state = &mut *guard;
    let reply = state.pattern.take_reply(&mut state.pipes, id);
    let closed = state.closed.clone();
    drop(guard);
    drop(open);
    reply.ok_or_else(|| {
        let error = match closed {
            Some(why) if woken => why,
            _ => Error::TimedOut,
        };
        SendError::new(error, Message::new())
    })
}
