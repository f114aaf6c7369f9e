//! [`Duplex`]: who may receive, send and encrypt when, for a TLS stream that several tasks use.
//!
//! - The *session* is rustls's state, behind a lock that is never held across a wait: ciphertext is
//!   received before it is taken and sent after it was given back.
//! - The *read turn* (`inbox`) is held by the one who receives ciphertext, and while it waits for
//!   more. Only its holder feeds the session.
//! - The *write turn* (`outbox`) is held by the one who sends, and while it waits for room. Only its
//!   holder takes ciphertext out of the session, so records leave in the order in which they were
//!   made.
//! - Both are first come, first served. The handshake holds both, the read turn taken first; after
//!   it, nobody waits for one while it holds the other.
//!
//! What the reading side has to say (a refusal, an alert) must not make it wait for a peer that
//! does not read. So it sets `waiting` and only tries: if the write turn is free, it sends what
//! there is room for; if not, the holder looks at `waiting` after it has given the turn back. What
//! there was no room for is sent first by the next who writes, or tried again by the next who
//! reads. There is little of it: rustls answers a few such messages and then fails, and the answer
//! to a key update goes out with the next data.
//!
//! A record, once encrypted, has to be sent to its last byte before the next. So what a writer was
//! killed over, or timed out over, stays in the outbox and is sent first by the next one. A write
//! that times out there has been taken, and says so by `Ok`.
//!
//! Memory of an idle stream: no buffer of ours. Ciphertext is received into the caller's own
//! buffer, where there is room, and decrypted from there; only while it comes faster than that is
//! there a window of 16 KiB. An outbox above 1 KiB is given back when it is empty.
//!
//! The handshake runs on the worker's stack: it would leave a trace of some pages on the task's,
//! for as long as the connection lives.
//!
//! Rejected: a task for each direction (two stacks for each connection); sending under the
//! session's lock (a reader would wait for the peer's window); a write that times out as an error
//! after its record was begun (the caller could not tell whether to repeat it).

use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::{Duration, Instant};

use sward_runtime::io::Patience;
use sward_runtime::on_worker_stack;
use sward_runtime::sync::{Mutex, MutexGuard, ShortLock};

use super::fault;
use super::session::{Fed, Session};
use crate::stream::Stream;

/// What is received at a time from a peer that sends a lot: a full record.
const WINDOW: usize = 16 << 10;

/// A caller's buffer that is smaller is not received into.
const SMALL: usize = 512;

/// What is received at a time during the handshake.
const HANDSHAKE: usize = 4 << 10;

/// How large an empty outbox may be.
const KEPT: usize = 1 << 10;

pub(super) struct Duplex<S> {
    pub(super) transport: S,
    pub(super) session: ShortLock<Session>,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    /// The handshake is done.
    shaken: AtomicBool,
    /// There is ciphertext that nobody is sending.
    waiting: AtomicBool,
    /// Shut down for reading, by this side.
    read_closed: AtomicBool,
    pub(super) read: Patience,
    pub(super) write: Patience,
    pub(super) handshake: Patience,
}

#[derive(Default)]
struct Inbox {
    window: Vec<u8>,
    /// The last receive filled its buffer: there is more.
    more: bool,
    /// Ciphertext that was received and not fed yet.
    left: Vec<u8>,
    /// The session may have plaintext, its end or a failure to tell of.
    plain: bool,
    failed: bool,
    /// What the transport's time-out is.
    limit: Option<Duration>,
    /// When the handshake has to be done, from its first step on.
    handshake_until: Option<Option<Instant>>,
}

#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Shut down for writing.
    closed: bool,
    /// What the transport's time-out is.
    limit: Option<Duration>,
}

impl Outbox {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// All is sent.
    #[inline]
    fn clear(&mut self) {
        self.sent = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }
}

/// The write turn; whoever leaves something in the outbox says so.
struct WriteTurn<'a> {
    outbox: MutexGuard<'a, Outbox>,
    waiting: &'a AtomicBool,
}

impl Deref for WriteTurn<'_> {
    type Target = Outbox;
    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

impl DerefMut for WriteTurn<'_> {
    fn deref_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl Drop for WriteTurn<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.outbox.rest().is_empty() {
            self.waiting.store(true, SeqCst);
        }
    }
}

/// When an operation that begins now has to be done.
#[inline]
fn deadline(patience: &Patience) -> Option<Instant> {
    let limit = patience.get()?;
    sward_runtime::now().checked_add(limit)
}

/// What is left of the time; an error if nothing is.
fn left(until: Instant, what: &'static str) -> io::Result<Duration> {
    let left = until.saturating_duration_since(sward_runtime::now());
    if left.is_zero() {
        return Err(fault::timed_out(what));
    }
    Ok(left)
}

/// Waits for one of the turns.
#[inline]
fn turn<'a, T>(
    lock: &'a Mutex<T>,
    until: Option<Instant>,
    what: &'static str,
) -> io::Result<MutexGuard<'a, T>> {
    if std::thread::panicking() {
        return lock.try_lock().ok_or_else(fault::unwinding);
    }
    match until {
        None => Ok(lock.lock()),
        Some(at) => lock
            .lock_timeout(left(at, what)?)
            .map_err(|_| fault::timed_out(what)),
    }
}

const READ: &str = "read from a TLS stream: nothing came in time";
const WRITE: &str = "write to a TLS stream: there was no room in time";

impl<S: Stream> Duplex<S> {
    pub(super) fn new(transport: S, session: Session) -> Self {
        Self {
            transport,
            session: ShortLock::new(session),
            inbox: Mutex::new(Inbox::default()),
            outbox: Mutex::new(Outbox::default()),
            shaken: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            read_closed: AtomicBool::new(false),
            read: Patience::for_ever(),
            write: Patience::for_ever(),
            handshake: Patience::for_ever(),
        }
    }

    #[inline]
    pub(super) fn is_shaken(&self) -> bool {
        self.shaken.load(Acquire)
    }

    // ---- reading ----

    #[inline]
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let until = deadline(&self.read);
        if !self.is_shaken() {
            self.shake(until)?;
        }
        let done = self.recv_until(buffer, until);
        if self.waiting.load(SeqCst) {
            self.send_waiting();
        }
        done
    }

    // Not inlined, and not below the handshake: the task keeps the pages that its deepest call has
    // touched for as long as it lives.
    #[inline(never)]
    fn recv_until(&self, buffer: &mut [u8], until: Option<Instant>) -> io::Result<usize> {
        let mut inbox = turn(&self.inbox, until, READ)?;
        loop {
            if inbox.plain {
                let mut session = self.session.lock();
                if let Some(n) = self.plaintext(&mut inbox, &mut session, buffer)? {
                    return Ok(n);
                }
            }
            if !inbox.left.is_empty() {
                let left = std::mem::take(&mut inbox.left);
                if let Some(n) = self.digest(&mut inbox, &left, buffer)? {
                    return Ok(n);
                }
                continue;
            }
            if self.waiting.load(SeqCst) {
                self.send_waiting();
            }
            if inbox.more {
                if let Some(n) = self.recv_window(&mut inbox, buffer, until)? {
                    return Ok(n);
                }
            } else if buffer.len() < SMALL {
                if let Some(n) = self.recv_small(&mut inbox, buffer, until)? {
                    return Ok(n);
                }
            } else {
                let n = self.recv_into(&mut inbox, buffer, until)?;
                if let Some(n) = self.digest_in_place(&mut inbox, n, buffer)? {
                    return Ok(n);
                }
            }
        }
    }

    /// Its own function: the array must not be in the frame of the others.
    #[inline(never)]
    fn recv_small(
        &self,
        inbox: &mut Inbox,
        buffer: &mut [u8],
        until: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        let mut small = [0; SMALL];
        let n = self.recv_into(inbox, &mut small, until)?;
        self.digest(inbox, &small[..n], buffer)
    }

    #[inline(never)]
    fn recv_window(
        &self,
        inbox: &mut Inbox,
        buffer: &mut [u8],
        until: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        let mut window = std::mem::take(&mut inbox.window);
        window.resize(WINDOW, 0);
        let n = self.recv_into(inbox, &mut window, until)?;
        let done = self.digest(inbox, &window[..n], buffer);
        if inbox.more {
            inbox.window = window;
        }
        done
    }

    /// Waits for ciphertext. Nothing that may wait comes between this and its digestion.
    #[inline]
    fn recv_into(
        &self,
        inbox: &mut Inbox,
        bytes: &mut [u8],
        until: Option<Instant>,
    ) -> io::Result<usize> {
        self.limit_read(inbox, until, READ)?;
        let n = self.transport.recv(bytes)?;
        inbox.more = n == bytes.len();
        Ok(n)
    }

    fn limit_read(
        &self,
        inbox: &mut Inbox,
        until: Option<Instant>,
        what: &'static str,
    ) -> io::Result<()> {
        let limit = until.map(|at| left(at, what)).transpose()?;
        if limit != inbox.limit {
            self.transport.set_read_timeout(limit)?;
            inbox.limit = limit;
        }
        Ok(())
    }

    /// Feeds what was received and reads plaintext into the buffer. `None`: no record is complete.
    fn digest(
        &self,
        inbox: &mut Inbox,
        ciphertext: &[u8],
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if ciphertext.is_empty() {
            return self.end();
        }
        on_worker_stack(|| {
            let mut session = self.session.lock();
            let fed = session.feed(ciphertext);
            self.note(inbox, &session, &fed, &ciphertext[fed.used..]);
            self.plaintext(inbox, &mut session, buffer)
        })
    }

    /// The same for ciphertext that is in the buffer itself.
    #[inline]
    fn digest_in_place(
        &self,
        inbox: &mut Inbox,
        n: usize,
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if n == 0 {
            return self.end();
        }
        on_worker_stack(|| {
            let mut session = self.session.lock();
            let fed = session.feed(&buffer[..n]);
            self.note(inbox, &session, &fed, &buffer[fed.used..n]);
            self.plaintext(inbox, &mut session, buffer)
        })
    }

    /// The transport is at its end.
    #[cold]
    fn end(&self) -> io::Result<Option<usize>> {
        if self.read_closed.load(Relaxed) {
            return Ok(Some(0));
        }
        Err(fault::truncated())
    }

    #[inline]
    fn note(&self, inbox: &mut Inbox, session: &Session, fed: &Fed, rest: &[u8]) {
        inbox.plain = fed.plain;
        inbox.failed |= fed.failed;
        if session.has_ended() {
            // Whatever follows is ignored.
            inbox.more = false;
        }
        if !rest.is_empty() {
            inbox.left = rest.to_vec();
        }
        if session.wants_write() {
            self.waiting.store(true, SeqCst);
        }
    }

    #[inline]
    fn plaintext(
        &self,
        inbox: &mut Inbox,
        session: &mut Session,
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if !inbox.plain {
            return Ok(None);
        }
        match session.read(buffer) {
            // Less than it could be was all. The end, and a failure, are told again and again.
            Some(n) => {
                inbox.plain = n == 0 || n == buffer.len() || inbox.failed || session.has_ended();
                Ok(Some(n))
            }
            None if inbox.failed => Err(session.failure("read from a TLS stream")),
            None => {
                inbox.plain = false;
                Ok(None)
            }
        }
    }

    // ---- writing ----

    #[inline]
    pub(super) fn send(
        &self,
        encrypt: impl FnOnce(&mut Session, &mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let until = deadline(&self.write);
        if !self.is_shaken() {
            self.shake(until)?;
        }
        self.send_until(encrypt, until)
    }

    #[inline(never)]
    fn send_until(
        &self,
        encrypt: impl FnOnce(&mut Session, &mut Vec<u8>) -> io::Result<usize>,
        until: Option<Instant>,
    ) -> io::Result<usize> {
        let mut outbox = self.write_turn(until)?;
        if outbox.closed {
            return Err(fault::shut_down());
        }
        if !outbox.rest().is_empty() {
            self.push(&mut outbox, until)?;
        }
        let taken = on_worker_stack(|| {
            let mut session = self.session.lock();
            encrypt(&mut session, &mut outbox.bytes)
        });
        let pushed = self.push(&mut outbox, until);
        drop(outbox);
        if self.waiting.load(SeqCst) {
            self.send_waiting();
        }
        match pushed {
            // The record is on its way. (Without a limit it is the connection that timed out.)
            Err(e) if e.kind() == ErrorKind::TimedOut && until.is_some() => taken,
            Err(e) => taken.and(Err(e)),
            Ok(()) => taken,
        }
    }

    /// Waits until everything that was written has been sent.
    pub(super) fn flush(&self) -> io::Result<()> {
        if !self.waiting.load(SeqCst) {
            return Ok(());
        }
        let until = deadline(&self.write);
        let mut outbox = self.write_turn(until)?;
        self.waiting.store(false, SeqCst);
        self.session.lock().take_out(&mut outbox.bytes);
        self.push(&mut outbox, until)
    }

    #[inline]
    fn write_turn(&self, until: Option<Instant>) -> io::Result<WriteTurn<'_>> {
        Ok(WriteTurn {
            outbox: turn(&self.outbox, until, WRITE)?,
            waiting: &self.waiting,
        })
    }

    /// Sends what is in the outbox.
    #[inline]
    fn push(&self, outbox: &mut WriteTurn<'_>, until: Option<Instant>) -> io::Result<()> {
        while !outbox.rest().is_empty() {
            let limit = until.map(|at| left(at, WRITE)).transpose()?;
            if limit != outbox.limit {
                self.transport.set_write_timeout(limit)?;
                outbox.limit = limit;
            }
            match self.transport.send(outbox.rest())? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => outbox.sent += n,
            }
        }
        outbox.clear();
        Ok(())
    }

    /// Sends what there is room for. Returns whether that was everything.
    fn push_now(&self, outbox: &mut WriteTurn<'_>) -> bool {
        while !outbox.rest().is_empty() {
            match self.transport.try_send(outbox.rest()) {
                Ok(n) if n > 0 => outbox.sent += n,
                // An error comes again at the next write.
                _ => return false,
            }
        }
        outbox.clear();
        true
    }

    /// Sends what waits without waiting for anything; see the head of the file.
    #[cold]
    fn send_waiting(&self) {
        while self.waiting.load(SeqCst)
            && let Some(outbox) = self.outbox.try_lock()
        {
            let mut outbox = WriteTurn {
                outbox,
                waiting: &self.waiting,
            };
            self.waiting.store(false, SeqCst);
            self.session.lock().take_out(&mut outbox.bytes);
            if !self.push_now(&mut outbox) {
                return;
            }
        }
    }

    /// Says that nothing more will be written, if that needs no wait.
    pub(super) fn farewell(&self) {
        // What a task that unwinds has written may be half of what it meant to.
        if !self.is_shaken() || std::thread::panicking() {
            return;
        }
        let Some(outbox) = self.outbox.try_lock() else {
            return;
        };
        let mut outbox = WriteTurn {
            outbox,
            waiting: &self.waiting,
        };
        if !std::mem::replace(&mut outbox.closed, true) {
            self.session.lock().close_notify(&mut outbox.bytes);
            self.push_now(&mut outbox);
        }
    }

    pub(super) fn shut_down_write(&self) -> io::Result<()> {
        if !self.is_shaken() {
            return Ok(());
        }
        let until = deadline(&self.write);
        let mut outbox = self.write_turn(until)?;
        if !std::mem::replace(&mut outbox.closed, true) {
            self.session.lock().close_notify(&mut outbox.bytes);
        }
        self.push(&mut outbox, until)
    }

    pub(super) fn shut_down_read(&self) {
        self.read_closed.store(true, Relaxed);
    }

    // ---- the handshake ----

    #[cold]
    #[inline(never)]
    pub(super) fn shake(&self, until: Option<Instant>) -> io::Result<()> {
        let mut inbox = turn(&self.inbox, until, READ)?;
        let mut outbox = self.write_turn(until)?;
        if self.is_shaken() {
            return Ok(());
        }
        let own = *inbox
            .handshake_until
            .get_or_insert_with(|| deadline(&self.handshake));
        let until = until.into_iter().chain(own).min();
        let done = self.shake_until(&mut inbox, &mut outbox, until);
        done.map_err(|e| match e.kind() {
            ErrorKind::TimedOut if until.is_some() => fault::late(),
            _ => e,
        })?;
        self.shaken.store(true, Release);
        Ok(())
    }

    fn shake_until(
        &self,
        inbox: &mut Inbox,
        outbox: &mut WriteTurn<'_>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        const WHAT: &str = "TLS handshake";
        let mut window = Vec::new();
        loop {
            let (shaking, is_server) = {
                let mut session = self.session.lock();
                if inbox.failed {
                    return Err(session.failure(WHAT));
                }
                session.take_out(&mut outbox.bytes);
                (session.connection().is_handshaking(), session.is_server())
            };
            match self.push(outbox, until) {
                // A client that has sent what it had to say, and is gone: tickets do not matter.
                Err(e) if is_reset(&e) && is_server && !shaking => outbox.clear(),
                pushed => pushed?,
            }
            if !shaking {
                return Ok(());
            }
            self.limit_read(inbox, until, WHAT)?;
            window.resize(HANDSHAKE, 0);
            let n = self.transport.recv(&mut window)?;
            if n == 0 {
                return Err(fault::cut_short());
            }
            on_worker_stack(|| {
                let mut session = self.session.lock();
                let fed = session.feed(&window[..n]);
                self.note(inbox, &session, &fed, &window[fed.used..n]);
            });
            if inbox.failed {
                self.session.lock().take_out(&mut outbox.bytes);
                self.push_now(outbox);
            }
        }
    }
}

fn is_reset(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}
