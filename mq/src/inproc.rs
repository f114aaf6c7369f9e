//! Links within a process: two ways of messages between two sockets, without copying.
//!
//! Nouns: a *way* is a queue from one socket to another; an [`InprocPipe`] is one end of a pair of
//! ways. The reader takes all that is in a way at once, as its *batch*, and gives it out without any
//! lock.
//!
//! Invariants
//! - Messages in the queue and in the reader's batch together are at most the limit, which is the
//!   sender's high-water mark plus the receiver's (0 if either is 0: no limit). The batch counts as
//!   it was when the reader looked last; it looks at half of a batch and at its end.
//! - `starved` and `blocked`: as in `session.rs`, for each way.
//! - Only the reader of a way takes from it, and only under its socket's lock.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use sward_runtime::sync::ShortLock;
use sward_zmtp::Message;

use crate::notices::{self, Hears, Notice};
use crate::pipe::Pipe;
use crate::session::Place;
use crate::traffic::Traffic;

/// Where an end's owner is.
#[derive(Clone)]
struct Address {
    owner: Weak<dyn Hears>,
    place: Place,
}

struct Way {
    state: ShortLock<WayState>,
}

struct WayState {
    queue: VecDeque<Message>,
    /// Messages in the reader's batch, when it looked last.
    batch: usize,
    /// 0: no limit.
    limit: usize,
    starved: bool,
    blocked: bool,
    reader: Option<Address>,
    writer: Option<Address>,
    ended: bool,
}

/// One end of a link within the process; see the file head.
pub(crate) struct InprocPipe {
    out: Arc<Way>,
    back: Arc<Way>,
    batch: VecDeque<Message>,
    traffic: Traffic,
    /// At this length of the batch the reader looks at the way.
    look_at: usize,
}

impl Way {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: ShortLock::new(WayState {
                queue: VecDeque::new(),
                batch: 0,
                limit,
                starved: true,
                blocked: false,
                reader: None,
                writer: None,
                ended: false,
            }),
        })
    }
}

impl WayState {
    #[inline]
    fn is_full(&self) -> bool {
        self.limit != 0 && self.queue.len() + self.batch >= self.limit
    }

    fn room_appears(&mut self) {
        if self.blocked && (self.limit == 0 || self.queue.len() + self.batch <= self.limit / 2) {
            self.blocked = false;
            if let Some(writer) = &self.writer {
                notices::keep(&writer.owner, writer.place, Notice::Writable);
            }
        }
    }

    #[inline]
    fn push(&mut self, message: Message) {
        self.queue.push_back(message);
        if self.starved
            && let Some(reader) = &self.reader
        {
            self.starved = false;
            notices::keep(&reader.owner, reader.place, Notice::Readable);
        }
    }
}

/// Returns both ends of a link with these limits: of the way out of the first end, and of the way
/// back.
pub(crate) fn link(out: usize, back: usize) -> (InprocPipe, InprocPipe) {
    let (out, back) = (Way::new(out), Way::new(back));
    let end = |out: &Arc<Way>, back: &Arc<Way>| InprocPipe {
        out: out.clone(),
        back: back.clone(),
        batch: VecDeque::new(),
        traffic: Traffic::default(),
        look_at: 0,
    };
    (end(&out, &back), end(&back, &out))
}

/// What an end's owner keeps of it once the pattern has the end itself.
pub(crate) struct Shared {
    out: Arc<Way>,
    back: Arc<Way>,
}

impl Shared {
    /// Says whose end this is. What has come before is told now.
    pub(crate) fn place(&self, owner: Weak<dyn Hears>, place: Place) {
        let address = Address { owner, place };
        self.out.state.lock().writer = Some(address.clone());
        let mut back = self.back.state.lock();
        if !back.queue.is_empty() && back.starved {
            back.starved = false;
            notices::keep(&address.owner, place, Notice::Readable);
        }
        if back.ended {
            notices::keep(&address.owner, place, Notice::Ended);
        }
        back.reader = Some(address);
    }
}

impl InprocPipe {
    /// What is left to say of this end when the pattern has it.
    pub(crate) fn share(&self) -> Shared {
        Shared {
            out: self.out.clone(),
            back: self.back.clone(),
        }
    }

    /// Sets the limits, once both sockets are known.
    pub(crate) fn set_limits(&self, out: usize, back: usize) {
        let mut way = self.out.state.lock();
        way.limit = out;
        way.room_appears();
        drop(way);
        let mut way = self.back.state.lock();
        way.limit = back;
        way.room_appears();
    }

    #[cold]
    fn refill(&mut self) -> bool {
        let mut way = self.back.state.lock();
        std::mem::swap(&mut way.queue, &mut self.batch);
        way.batch = self.batch.len();
        way.room_appears();
        way.starved = self.batch.is_empty();
        self.look_at = self.batch.len() / 2;
        !way.starved
    }

    #[cold]
    fn look(&mut self) {
        let mut way = self.back.state.lock();
        way.batch = self.batch.len();
        way.room_appears();
        self.look_at = usize::MAX;
    }
}

impl Pipe for InprocPipe {
    #[inline]
    fn try_send(&mut self, message: &mut Message) -> bool {
        let mut way = self.out.state.lock();
        if way.is_full() || way.ended {
            way.blocked = true;
            return false;
        }
        way.push(std::mem::take(message));
        self.traffic.messages_sent += 1;
        true
    }

    fn send_last(&mut self, message: &mut Message) -> bool {
        let mut way = self.out.state.lock();
        if way.ended {
            return false;
        }
        way.push(std::mem::take(message));
        self.traffic.messages_sent += 1;
        true
    }

    fn send_subscription(&mut self, message: Message) {
        self.out.state.lock().push(message);
        self.traffic.messages_sent += 1;
    }

    fn has_room(&mut self) -> bool {
        let mut way = self.out.state.lock();
        let room = !way.is_full() && !way.ended;
        way.blocked |= !room;
        room
    }

    #[inline]
    fn try_recv(&mut self, into: &mut Message) -> bool {
        if self.batch.is_empty() && !self.refill() {
            return false;
        }
        let Some(message) = self.batch.pop_front() else {
            return false;
        };
        *into = message;
        self.traffic.messages_received += 1;
        if self.batch.len() == self.look_at {
            self.look();
        }
        true
    }

    fn close(&mut self, flush: bool) {
        let mut way = self.out.state.lock();
        if !flush {
            way.queue.clear();
        }
        way.ended = true;
        if let Some(reader) = &way.reader {
            notices::keep(&reader.owner, reader.place, Notice::Ended);
        }
        drop(way);
        let mut way = self.back.state.lock();
        way.reader = None;
        way.queue.clear();
        way.ended = true;
        if let Some(writer) = &way.writer {
            notices::keep(&writer.owner, writer.place, Notice::Ended);
        }
    }

    fn again(&mut self) {
        if let Some(reader) = &self.back.state.lock().reader {
            notices::keep(&reader.owner, reader.place, Notice::Readable);
        }
    }

    fn depths(&self) -> (usize, usize) {
        let out = self.out.state.lock().queue.len();
        let back = self.back.state.lock().queue.len();
        (out, back + self.batch.len())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
