//! One connection to a peer, from the socket's side: the queue of what is to be sent, what has come,
//! and while it stands the byte stream with its ZMTP machine. There is one kind of it for all socket
//! types and transports.
//!
//! Nouns
//! - The *link* is the byte stream with its machine. A session that dials outlives its links; one that
//!   was accepted ends with its own.
//! - The *driver* is what the worker calls when the link's descriptor is ready (runtime's
//!   `io::drive`): no task, no stack, no buffer while nothing happens.
//! - *Ready* messages are decoded ahead of the reader. Usually that is one: the rest of what was read
//!   stays encoded until the reader takes it. Only for a reader that falls behind are more decoded
//!   ahead, up to its high-water mark, so that PINGs behind them are answered.
//! - *News* is what a change below means for the socket above; it is told without any lock held.
//!
//! Who sends: the sender encodes into the queue. It writes itself when 256 KiB or 50 us have gathered,
//! when the high-water mark is reached, or at once on an ordinary thread; otherwise it leaves a
//! message to the driver's worker, which writes when the sender has yielded.
//! Who reads: the driver reads what comes when nothing is there; the reader decodes, and reads on
//! itself while the kernel has more.
//!
//! Locks, outermost first: the driver's, the socket's, the session's. So nobody calls into the driver
//! from below, except `DriverHandle::call`, which takes no lock.
//!
//! Invariants
//! - `starved`: the socket believes that nothing is here, and is told of the next message.
//!   `blocked`: it believes that there is no room, and is told of the first that appears.
//! - `expects`: the socket gathers messages for it; the driver fetches them before it writes.
//! - `unread`: the kernel may have more; no edge need come. `stuck`: the kernel takes no more; an edge
//!   will come.
//! - At the end of a connection the kernel's buffer is read to its end first: nothing that a peer sent
//!   before it closed is lost.

mod converted;
mod flush;
mod inner;
mod news;
mod pipe;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Instant;

use sward_runtime::io::{Driver, Next, Ready, drive};
use sward_runtime::sync::{ShortGuard, ShortLock};
use sward_zmtp::{Connection, PeerInfo, Setup, SocketType};

use self::inner::{Inner, Link};
pub(crate) use self::news::{End, News, Owner, Place, Role};
use crate::buffer::{Input, Queue};
use crate::elsewhere;
use crate::traffic::Traffic;
use crate::transport::ByteLink;

/// A connection to a peer; see the file head.
pub(crate) struct Session {
    inner: ShortLock<Inner>,
    setup: Arc<Setup>,
    owner: Weak<dyn Owner>,
    pub(crate) role: Role,
}

struct Drive {
    session: Arc<Session>,
    /// 0: none any more.
    link: u32,
    /// A call is under way: dropped then, it has panicked.
    called: bool,
}

impl Session {
    /// Returns a session without a link.
    pub(crate) fn new(
        setup: Arc<Setup>,
        owner: Weak<dyn Owner>,
        role: Role,
        hwm: (usize, usize),
    ) -> Arc<Self> {
        let upstream = matches!(setup.socket_type, SocketType::Sub | SocketType::XSub);
        Arc::new(Self {
            inner: ShortLock::new(Inner {
                output: Queue::default(),
                ready: VecDeque::new(),
                input: Input::default(),
                link: None,
                links: 0,
                unlinked: 0,
                place: None,
                send_hwm: hwm.0,
                recv_hwm: hwm.1,
                starved: true,
                blocked: false,
                expects: false,
                read_since: true,
                retiring: false,
                upstream,
                probed: 0,
                answered: 0,
                untold: false,
                traffic: Traffic::default(),
                was_up: false,
                addresses: Default::default(),
            }),
            setup,
            owner,
            role,
        })
    }

    /// Gives it a stream that stands. From here on the worker drives it.
    ///
    /// # Errors
    /// If the descriptor cannot be watched; the link is gone then.
    pub(crate) fn establish(self: &Arc<Self>, link: ByteLink) -> io::Result<()> {
        let io = Arc::new(link.fd);
        let id = {
            let mut inner = self.inner.lock();
            inner.links += 1;
            let id = inner.links;
            inner.probed = inner.answered;
            inner.input.clear();
            if inner.upstream {
                inner.output.forget_subscriptions();
            }
            inner.addresses = (link.peer_address.into(), link.remote.into());
            inner.link = Some(Link {
                id,
                io: io.clone(),
                connection: Connection::new(self.setup.clone(), Instant::now()),
                driver: None,
                told: false,
                orphaned: false,
                short_is_all: link.short_is_all,
                unread: true,
                stuck: false,
                asked: None,
                heard_of: inner.traffic.bytes_received,
                pushed: 0,
                large: false,
                look_at: None,
                end: None,
                closing: None,
                converted: None,
            });
            id
        };
        self.start(id, io)
    }

    /// Has a link driven by the caller's worker.
    fn start(self: &Arc<Self>, id: u32, io: Arc<OwnedFd>) -> io::Result<()> {
        let driver = Drive {
            session: self.clone(),
            link: id,
            called: false,
        };
        match drive(io, driver) {
            Ok(handle) => {
                let mut inner = self.inner.lock();
                let (mut orphaned, mut asked) = (false, false);
                if let Some(link) = inner.link_mut(id) {
                    link.driver = Some(handle.clone());
                    (orphaned, asked) = (link.orphaned, link.asked.is_some());
                }
                drop(inner);
                if orphaned {
                    self.adopt_elsewhere();
                } else if asked {
                    // By a sender who knew no driver.
                    handle.call();
                }
                Ok(())
            }
            Err(e) => {
                let mut inner = self.inner.lock();
                if inner.link_mut(id).is_some() {
                    inner.unlink();
                }
                Err(e)
            }
        }
    }

    /// Has a link that nobody drives any more driven by the caller's worker.
    fn adopt(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        let Some(link) = inner.link.as_mut().filter(|link| link.orphaned) else {
            return;
        };
        link.orphaned = false;
        link.driver = None;
        // What its worker knew is gone.
        (link.unread, link.stuck) = (true, false);
        let (id, io) = (link.id, link.io.clone());
        drop(inner);
        if let Err(e) = self.start(id, io) {
            self.lost(End::Io(e));
        }
    }

    fn adopt_elsewhere(self: &Arc<Self>) {
        let session = self.clone();
        elsewhere::run(move || session.adopt());
    }

    /// Has its link driven by the caller's worker, whoever drove it before. One that is being
    /// established stays where that happens.
    pub(crate) fn move_here(self: &Arc<Self>) {
        let handle = {
            let inner = self.inner.lock();
            inner.link.as_ref().and_then(|link| link.driver.clone())
        };
        if let Some((mut driver, _)) = handle.and_then(|handle| handle.take()) {
            let mut inner = self.inner.lock();
            if let Some(link) = inner.link_mut(driver.link) {
                link.orphaned = true;
            }
            drop(inner);
            driver.link = 0;
        }
        self.adopt();
    }

    /// Says where it stands in its socket. What came before is told now.
    pub(crate) fn place(self: &Arc<Self>, place: Option<Place>) {
        self.inner.lock().place = place;
    }

    /// High-water marks of sending and receiving, in messages; 0 is no limit.
    pub(crate) fn set_hwm(&self, send: usize, recv: usize) {
        let mut inner = self.inner.lock();
        (inner.send_hwm, inner.recv_hwm) = (send, recv);
    }

    /// Whether a link is there, whose handshake is done.
    pub(crate) fn is_up(&self) -> bool {
        self.inner.lock().up()
    }

    /// Ends it once everything is sent, without a place in its socket any more; the end is told as
    /// any other ([`News::Lost`]). Returns whether there is anything left to send.
    pub(crate) fn retire(self: &Arc<Self>) -> bool {
        let mut inner = self.inner.lock();
        inner.place = None;
        inner.ready.clear();
        drop(inner);
        self.finish()
    }

    /// Ends it once everything is sent. Returns whether there is anything left to send.
    pub(crate) fn finish(self: &Arc<Self>) -> bool {
        let mut inner = self.inner.lock();
        inner.retiring = true;
        let left = !(inner.output.is_empty() && inner.written_out());
        if !left && !inner.up() {
            inner.fail(End::Asked);
        }
        drop(inner);
        self.ask();
        left
    }

    /// Ends the link now. What is queued stays, for a session that dials.
    pub(crate) fn end(self: &Arc<Self>, end: End) {
        let mut inner = self.inner.lock();
        if let Some(link) = &mut inner.link
            && link.end.is_none()
        {
            link.end = Some(Box::new(end));
        }
        drop(inner);
        self.ask();
    }

    /// Where it stands in its socket.
    pub(crate) fn placed(&self) -> Option<Place> {
        self.inner.lock().place
    }

    /// Messages that wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.inner.lock().unsent()
    }

    /// Whether the handshake of the last link was done; forgets it.
    pub(crate) fn take_was_up(&self) -> bool {
        std::mem::take(&mut self.inner.lock().was_up)
    }

    /// The peer's end of the last link, as an endpoint.
    pub(crate) fn remote(&self) -> Box<str> {
        self.inner.lock().addresses.1.clone()
    }

    /// The peer's IP address; once for each link.
    pub(crate) fn take_address(&self) -> Arc<str> {
        std::mem::take(&mut self.inner.lock().addresses.0)
    }

    /// Keeps what is known of the peer in common with others of which the same is known.
    pub(crate) fn share(&self, info: &PeerInfo) {
        if let Some(link) = &mut self.inner.lock().link {
            link.connection.share_peer(info);
        }
    }

    /// Forgets what is queued; returns how many messages that were.
    pub(crate) fn discard(&self) -> usize {
        let mut inner = self.inner.lock();
        inner.ready.clear();
        inner.discard()
    }

    /// Lets the driver look.
    fn ask(&self) {
        let handle = {
            let inner = self.inner.lock();
            inner.link.as_ref().and_then(|link| link.driver.clone())
        };
        if let Some(handle) = handle {
            handle.call();
        }
    }

    /// Writes now what the sender has gathered: for who is about to wait.
    pub(crate) fn flush(&self) {
        let mut inner = self.inner.lock();
        if inner.link.as_ref().is_some_and(|link| link.asked.is_some()) {
            inner.flush_or_end();
        }
    }

    fn tell(self: &Arc<Self>, news: News) {
        if let Some(owner) = self.owner.upgrade() {
            owner.hear(self, news);
        }
    }

    /// Locks it once it has what its socket has gathered for it.
    fn lock_complete(self: &Arc<Self>) -> ShortGuard<'_, Inner> {
        loop {
            let mut inner = self.inner.lock();
            if !std::mem::take(&mut inner.expects) {
                return inner;
            }
            drop(inner);
            self.tell(News::Writes);
        }
    }

    /// What the worker calls.
    fn pump(self: &Arc<Self>, id: u32, ready: Ready) -> Next {
        let mut up = None;
        let (mut readable, mut writable) = (None, None);
        let mut reached = None;
        let mut next = Next::Wait;
        let mut end = None;
        {
            let mut guard = self.lock_complete();
            let inner = &mut *guard;
            let Some(link) = inner.link.as_mut().filter(|link| link.id == id) else {
                return Next::Close;
            };
            if ready.contains(Ready::WRITABLE) {
                link.stuck = false;
            }
            let gone = ready.contains(Ready::HUNG_UP) || ready.contains(Ready::ERROR);
            if ready.contains(Ready::READABLE) || gone {
                link.unread = true;
            }
            // The end comes behind a short read, and has no edge of its own.
            link.short_is_all &= !gone;
            if link.end.is_none()
                && let Err(e) = inner.step(gone, &mut up)
            {
                inner.fail(e);
            }
            if up.is_none() {
                inner.drain();
                if inner.starved && !inner.ready.is_empty() && inner.place.is_some() {
                    inner.starved = false;
                    readable = inner.place;
                }
                if inner.blocked && inner.has_room() {
                    inner.blocked = false;
                    writable = inner.place;
                }
                if std::mem::take(&mut inner.untold) {
                    reached = inner.place.map(|place| (place, inner.answered));
                }
                if let Some(link) = &mut inner.link {
                    if let Some(reason) = link.end.take() {
                        end = Some(*reason);
                        inner.unlink();
                        next = Next::Close;
                    } else {
                        let at = match &link.closing {
                            Some(until) => Some(**until),
                            None => {
                                let at = link.connection.poll_timeout().into_iter();
                                at.chain(link.look_at).min()
                            }
                        };
                        next = at.map_or(Next::Wait, Next::At);
                    }
                }
            }
        }
        if let Some(peer) = up {
            self.inner.lock().was_up = true;
            self.tell(News::Ready(peer));
            if let Some(link) = self.inner.lock().link_mut(id) {
                link.told = true;
            }
            // Whatever came with the handshake: now the socket knows from whom.
            return self.pump(id, ready);
        }
        if let Some(place) = readable {
            self.tell(News::Readable(place));
        }
        if let Some(place) = writable {
            self.tell(News::Writable(place));
        }
        if let Some((place, number)) = reached {
            self.tell(News::Reached(place, number));
        }
        if let Some(end) = end {
            self.lost(end);
        }
        next
    }

    /// The link is gone.
    fn lost(self: &Arc<Self>, end: End) {
        self.inner.lock().input.clear();
        self.tell(News::Lost(end));
    }

    /// What a lost connection takes with it: a message that was half sent, and more for old peers.
    pub(crate) fn rollback(&self) -> usize {
        self.inner.lock().rollback()
    }
}

impl Driver for Drive {
    type Io = Arc<OwnedFd>;

    fn drive(&mut self, _io: &Arc<OwnedFd>, ready: Ready) -> Next {
        self.called = true;
        let next = self.session.pump(self.link, ready);
        self.called = false;
        next
    }
}

impl Drop for Drive {
    /// It was closed; or its worker has ended; or it could not be registered.
    fn drop(&mut self) {
        let mut inner = self.session.inner.lock();
        let Some(link) = inner.link_mut(self.link) else {
            return;
        };
        if self.called {
            inner.unlink();
            drop(inner);
            self.session.lost(End::Panicked);
            return;
        }
        link.orphaned = true;
        if link.driver.is_some() {
            drop(inner);
            self.session.adopt_elsewhere();
        }
    }
}
