//! What a session's lock guards: its queues, and its link, with the reading and decoding. The writing:
//! `flush.rs`. Who calls it and when: `mod.rs`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use sward_runtime::io::DriverHandle;
use sward_zmtp::{Connection, Event as Wire, Message, PeerInfo};

use super::Drive;
use super::converted::Converted;
use super::news::{End, Place};
use crate::buffer::{BUFFER, Input, Queue};
use crate::traffic::Traffic;

/// After a large body has been read: what the next read takes, so that the body after it is not
/// copied out of the buffer.
const AFTER_LARGE: usize = 4 * 1024;
/// For how long the end of a peer is waited for that was told of ours.
const WIND_UP: Duration = Duration::from_secs(1);
/// After so long what is behind messages that nobody has received is looked at: it may be a PING.
const LOOK_BEHIND: Duration = Duration::from_millis(20);
/// How many times 4 KiB are thrown away in one go.
const SINKS: usize = 4096;

pub(super) struct Inner {
    pub(super) output: Queue,
    pub(super) ready: VecDeque<Message>,
    pub(super) input: Input,
    pub(super) link: Option<Link>,
    pub(super) links: u32,
    /// Messages that went with the last link, and have not been told of.
    pub(super) unlinked: usize,
    pub(super) place: Option<Place>,
    /// 0: no limit.
    pub(super) send_hwm: usize,
    pub(super) recv_hwm: usize,
    pub(super) starved: bool,
    pub(super) blocked: bool,
    /// The socket gathers messages for it, to be come for before anything is written.
    pub(super) expects: bool,
    /// The reader has been here since the driver looked last.
    pub(super) read_since: bool,
    /// Ends when everything is sent.
    pub(super) retiring: bool,
    /// Subscriptions go out as such.
    pub(super) upstream: bool,
    /// The numbers of the last probe, and of the last that was answered.
    pub(super) probed: u64,
    pub(super) answered: u64,
    /// The socket has not been told of an answer.
    pub(super) untold: bool,
    pub(super) traffic: Traffic,
    pub(super) was_up: bool,
    /// The peer's IP address, and its end as an endpoint.
    pub(super) addresses: (Arc<str>, Box<str>),
}

pub(super) struct Link {
    pub(super) id: u32,
    pub(super) io: Arc<OwnedFd>,
    pub(super) connection: Connection,
    /// There once the driver is registered.
    pub(super) driver: Option<DriverHandle<Drive>>,
    /// The socket knows who the peer is: only then messages of it are handed out.
    pub(super) told: bool,
    /// Its worker has ended: nobody drives it.
    pub(super) orphaned: bool,
    pub(super) short_is_all: bool,
    pub(super) unread: bool,
    pub(super) stuck: bool,
    /// The driver has been asked to write, since then.
    pub(super) asked: Option<Instant>,
    /// The bytes received when the machine was last told of life.
    pub(super) heard_of: u64,
    pub(super) pushed: u32,
    /// The next read takes little.
    pub(super) large: bool,
    /// There is something behind messages that nobody has received, to be looked at then.
    pub(super) look_at: Option<Instant>,
    pub(super) end: Option<Box<End>>,
    /// All is sent and we have said so: until then it waits for the peer to do the same.
    pub(super) closing: Option<Box<Instant>>,
    /// For peers that do not take the queue's own form.
    pub(super) converted: Option<Box<Converted>>,
}

impl Inner {
    /// The link, if it still is that one.
    pub(super) fn link_mut(&mut self, id: u32) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| link.id == id)
    }

    pub(super) fn up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| {
            link.end.is_none() && link.closing.is_none() && link.connection.is_ready()
        })
    }

    pub(super) fn has_room(&self) -> bool {
        self.send_hwm == 0 || self.output.messages() <= self.send_hwm / 2
    }

    /// Messages that are not written, beside those in the queue.
    fn converted(&self) -> usize {
        let converted = self.link.as_ref().and_then(|link| link.converted.as_ref());
        converted.map_or(0, |converted| converted.messages())
    }

    /// Messages that are not written.
    pub(super) fn unsent(&self) -> usize {
        self.output.messages() + self.converted()
    }

    pub(super) fn written_out(&self) -> bool {
        self.converted() == 0
    }

    /// Forgets what is not written; returns how many messages that were.
    pub(super) fn discard(&mut self) -> usize {
        self.unlinked += self.converted();
        if let Some(link) = &mut self.link {
            link.converted = None;
        }
        self.output.clear() + std::mem::take(&mut self.unlinked)
    }

    /// The link is gone, and with it what was converted for it.
    pub(super) fn unlink(&mut self) {
        self.unlinked += self.converted();
        self.link = None;
    }

    /// What a lost connection takes with it: what was converted for it, and a message that was half
    /// sent. Returns how many messages that were.
    pub(super) fn rollback(&mut self) -> usize {
        std::mem::take(&mut self.unlinked) + self.output.rollback()
    }

    pub(super) fn fail(&mut self, end: End) {
        if let Some(link) = &mut self.link
            && link.end.is_none()
        {
            link.end = Some(Box::new(end));
        }
    }

    /// Does what can be done now, on the worker.
    pub(super) fn step(&mut self, gone: bool, up: &mut Option<PeerInfo>) -> Result<(), End> {
        if self
            .link
            .as_ref()
            .is_some_and(|link| link.closing.is_none())
        {
            self.advance(gone, up)?;
            if !(self.retiring && self.up() && self.output.is_empty() && self.written_out()) {
                return Ok(());
            }
        }
        self.wind_up()
    }

    /// Everything is sent. A close now, with bytes in the kernel that nobody has read or with more
    /// to come, would make it a reset, which throws away what the peer's kernel does not have yet. So
    /// the end is said, and what comes is thrown away until the peer has said the same.
    fn wind_up(&mut self) -> Result<(), End> {
        self.input.clear();
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let now = Instant::now();
        let until = match &link.closing {
            Some(until) => **until,
            None => {
                let _ = rustix::net::shutdown(&link.io, rustix::net::Shutdown::Write);
                now + WIND_UP
            }
        };
        link.closing = Some(Box::new(until));
        let mut sink = [0; 4096];
        for _ in 0..SINKS {
            match rustix::io::read(&link.io, &mut sink) {
                Ok(1..) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if now < until => return Ok(()),
                _ => return Err(End::Asked),
            }
        }
        // It does not stop.
        Err(End::Asked)
    }

    /// Reads, decodes and writes what can be, on the worker.
    pub(super) fn advance(&mut self, gone: bool, up: &mut Option<PeerInfo>) -> Result<(), End> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let timed = link.connection.poll_timeout().is_some();
        // The answer to a probe is behind messages that nobody may want yet.
        let due = link.look_at.is_some_and(|at| at <= Instant::now());
        let behind = !std::mem::take(&mut self.read_since) && !self.ready.is_empty()
            || self.probed > self.answered
            || due;
        let read = self.read_ahead(gone, behind, up);
        self.look_later(due);
        if timed {
            self.keep_time()?;
        }
        let wrote = self.flush();
        read.and(wrote)
    }

    /// Sees to it that what is left undecoded is looked at, unless the queue is full.
    fn look_later(&mut self, due: bool) {
        let room = self.recv_hwm == 0 || self.ready.len() < self.recv_hwm;
        let Some(link) = &mut self.link else { return };
        if !room || self.ready.is_empty() || (self.input.is_empty() && !link.unread) {
            link.look_at = None;
        } else if due || link.look_at.is_none() {
            link.look_at = Some(Instant::now() + LOOK_BEHIND);
        }
    }

    /// Tells the machine of the time, and of life: bytes that came since, whoever read them, or that
    /// are there and nobody wants yet. An event alone is no sign of any.
    fn keep_time(&mut self) -> Result<(), End> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let now = Instant::now();
        let come = self.traffic.bytes_received;
        if std::mem::replace(&mut link.heard_of, come) != come {
            link.connection.heard(now);
        }
        if link.connection.poll_timeout().is_none_or(|at| at > now) {
            return Ok(());
        }
        if link.unread {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            if matches!(
                rustix::net::recv(&link.io, &mut [0; 1], flags),
                Ok((1.., _))
            ) {
                link.connection.heard(now);
            }
        }
        link.connection.handle_timeout(now).map_err(End::Fault)
    }

    /// The link has ended by the other side or the system: what came before that is kept.
    pub(super) fn drain(&mut self) {
        let ended = |link: &Link| matches!(link.end.as_deref(), Some(End::Closed | End::Io(_)));
        if let Some(link) = self.link.as_mut().filter(|link| ended(link)) {
            link.unread = true;
            while let Ok(Some(event)) = self.decode_or_read() {
                let message = self.take(event);
                self.ready.extend(message);
            }
        }
    }

    pub(super) fn decode_or_read(&mut self) -> Result<Option<Wire>, End> {
        loop {
            let event = self.decode()?;
            if event.is_some() || !self.read()? {
                return Ok(event);
            }
        }
    }

    pub(super) fn read_ahead(
        &mut self,
        gone: bool,
        behind: bool,
        up: &mut Option<PeerInfo>,
    ) -> Result<(), End> {
        let limit = match (gone, behind) {
            (true, _) => usize::MAX,
            (_, true) if self.recv_hwm == 0 => usize::MAX,
            (_, true) => self.recv_hwm,
            _ => 1,
        };
        loop {
            while self.ready.len() < limit {
                match self.decode()? {
                    Some(Wire::Ready(peer)) => {
                        *up = Some(peer);
                        return Ok(());
                    }
                    Some(event) => {
                        let message = self.take(event);
                        self.ready.extend(message);
                    }
                    None => break,
                }
            }
            if self.ready.len() >= limit || !self.read()? {
                return Ok(());
            }
        }
    }

    /// Decodes one event of what has been read.
    #[inline]
    pub(super) fn decode(&mut self) -> Result<Option<Wire>, End> {
        let Some(link) = &mut self.link else {
            return Ok(None);
        };
        let (used, event) = link.connection.decode(self.input.bytes());
        self.input.consume(used);
        match event {
            Ok(event) => Ok(event),
            Err(fault) => Err(End::Fault(fault)),
        }
    }

    /// Reads once more, if there may be more. `false`: there is none now.
    pub(super) fn read(&mut self) -> Result<bool, End> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        if !link.unread {
            self.input.settle();
            return Ok(false);
        }
        let fd = &link.io;
        let got = if let Some(body) = link.connection.body().filter(|_| self.input.is_empty()) {
            link.large = true;
            let want = body.missing;
            let before = body.buffer.len();
            if body.buffer.capacity() == before {
                body.buffer.reserve_exact(want.min(before.max(BUFFER)));
            }
            let room = body.buffer.capacity() - before;
            let got = rustix::io::read(fd, spare_capacity(body.buffer));
            if body.buffer.len() > before + want {
                // The allocator gave more than was asked for: the bytes are the next message's.
                self.input.give(&body.buffer[before + want..]);
                body.buffer.truncate(before + want);
            }
            got.map(|n| (n, n == room.min(want)))
        } else {
            let limit = if std::mem::take(&mut link.large) {
                AFTER_LARGE
            } else {
                BUFFER
            };
            if !self.input.has_room() {
                return Ok(false);
            }
            self.input
                .read(limit, |buffer| Ok(rustix::io::read(fd, buffer)?))
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        };
        match got {
            Ok((0, _)) => Err(End::Closed),
            Ok((n, full)) => {
                link.unread = full || !link.short_is_all;
                self.traffic.bytes_received += n as u64;
                Ok(true)
            }
            Err(Errno::AGAIN) => {
                link.unread = false;
                self.input.settle();
                Ok(false)
            }
            Err(Errno::INTR) => Ok(true),
            Err(e) => Err(End::Io(e.into())),
        }
    }
}

impl Inner {
    #[inline]
    pub(super) fn next_message(&mut self, into: &mut Message) -> Result<bool, End> {
        if let Some(message) = self.ready.pop_front() {
            *into = message;
            return Ok(true);
        }
        loop {
            let Some(link) = &mut self.link else {
                return Ok(false);
            };
            if link.end.is_some() || !link.told {
                return Ok(false);
            }
            let mut got = false;
            let (used, event) = link.connection.decode_each(self.input.bytes(), |message| {
                *into = message;
                got = true;
                false
            });
            self.input.consume(used);
            if got {
                return Ok(true);
            }
            if let Some(event) = event.map_err(End::Fault)? {
                if let Some(message) = self.take(event) {
                    *into = message;
                    return Ok(true);
                }
                continue;
            }
            if !self.read()? {
                return Ok(false);
            }
        }
    }
}

impl Inner {
    /// What the socket gets of an event.
    fn take(&mut self, event: Wire) -> Option<Message> {
        match event {
            Wire::Message(message) => return Some(message),
            Wire::Subscribe(topic) => return Some(prefixed(1, &topic)),
            Wire::Cancel(topic) => return Some(prefixed(0, &topic)),
            Wire::Pong(context) => {
                let number = context.as_slice().try_into().map(u64::from_be_bytes);
                if let Ok(number) = number
                    && (self.answered + 1..=self.probed).contains(&number)
                {
                    self.answered = number;
                    self.untold = true;
                }
            }
            Wire::Ready(_) => {}
        }
        None
    }

    /// The reader has come upon something that is the driver's to do: a PING to be answered, an
    /// answer that the socket is to be told of.
    #[inline]
    pub(super) fn owes(&self) -> Option<DriverHandle<Drive>> {
        let link = self.link.as_ref()?;
        if self.untold || link.connection.has_control() && !link.stuck {
            return link.driver.clone();
        }
        None
    }
}

/// A subscription or its end, as patterns have it.
pub(crate) fn prefixed(first: u8, topic: &[u8]) -> Message {
    let frame = sward_zmtp::Frame::from_fn(topic.len() + 1, |bytes| {
        bytes[0] = first;
        bytes[1..].copy_from_slice(topic);
    });
    Message::from(frame)
}
