//! What was read from a connection and not yet decoded, in buffers that the connections of a thread
//! share: one that is idle has none.
//!
//! A buffer is taken for a read and goes back as soon as its bytes are decoded: to its thread, or
//! where that has enough to all threads, for one may read what another decodes. A remainder that
//! waits for more (a header, a short body) moves into a small allocation of its own, so that half a
//! message of each of 10,000 peers holds no 10,000 buffers. A [`Queue`] of
//! messages to be written has its memory from its thread, too, while there are any.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};

use sward_runtime::__private::Global;
use sward_runtime::sync::ShortLock;
use sward_zmtp::Output;

/// Bytes that one read takes at most.
pub(crate) const BUFFER: usize = 64 * 1024;
/// A remainder up to this is moved out of the buffer.
const SMALL: usize = 4 * 1024;
/// Bytes of spare queues that a thread keeps: enough for a publisher that goes round 500 peers.
const QUEUED: usize = 16 * 1024 * 1024;
/// Buffers that a thread keeps, and that all threads keep together.
const KEPT: usize = 8;
const SHARED: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static QUEUES: RefCell<Spare> = const {
        RefCell::new(Spare {
            queues: Vec::new(),
            bytes: 0,
        })
    };
}
static ALL: ShortLock<Vec<Box<[u8]>>> = ShortLock::new(Vec::new());

/// Empty queues with their memory.
struct Spare {
    #[allow(clippy::vec_box, reason = "the boxes themselves are handed on")]
    queues: Vec<Box<Output>>,
    bytes: usize,
}

/// The lock of the process that is here.
pub(crate) fn global() -> &'static dyn Global {
    &ALL
}

fn take() -> Box<[u8]> {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    let spare = spare.ok().flatten().or_else(|| ALL.lock().pop());
    // Zeroed once in its life.
    spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    let rest = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(buffer);
            return None;
        }
        Some(buffer)
    });
    if let Ok(Some(buffer)) = rest {
        let mut all = ALL.lock();
        if all.len() < SHARED {
            all.push(buffer);
        }
    }
}

/// Messages that wait to be written; nothing while there are none.
#[derive(Default)]
pub(crate) struct Queue(Option<Box<Output>>);

impl Queue {
    /// Gives back what an empty one has no use for.
    pub(crate) fn settle(&mut self) {
        if let Some(output) = self.0.take_if(|output| output.is_empty()) {
            let _ = QUEUES.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.bytes + output.capacity() <= QUEUED {
                    spare.bytes += output.capacity();
                    spare.queues.push(output);
                }
            });
        }
    }

    #[cold]
    fn spare() -> Box<Output> {
        let spare = QUEUES.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            let queue = spare.queues.pop()?;
            spare.bytes -= queue.capacity();
            Some(queue)
        });
        spare.ok().flatten().unwrap_or_default()
    }
}

impl Deref for Queue {
    type Target = Output;

    #[inline]
    fn deref(&self) -> &Output {
        static EMPTY: Output = Output::new();
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl DerefMut for Queue {
    #[inline]
    fn deref_mut(&mut self) -> &mut Output {
        self.0.get_or_insert_with(Self::spare)
    }
}

/// Bytes that were read and not yet decoded.
#[derive(Default)]
pub(crate) struct Input {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// Instead of a buffer: what is left of one.
    rest: Vec<u8>,
}

impl Input {
    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &buffer[self.start..self.end],
            None => &self.rest,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        match &self.buffer {
            Some(_) => self.start == self.end,
            None => self.rest.is_empty(),
        }
    }

    /// The first `n` bytes have been decoded.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        if self.buffer.is_some() {
            self.start += n;
            if self.start == self.end {
                self.settle();
            }
        } else if n > 0 {
            self.rest.drain(..n);
        }
    }

    /// Reads more behind what is there. Gives the number of bytes, and whether the room was filled:
    /// then there may be more.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        let mut buffer = match self.buffer.take() {
            Some(mut buffer) => {
                buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                buffer
            }
            None => {
                let mut buffer = take();
                // Never longer than a buffer: see `settle` and `give`.
                buffer[..self.rest.len()].copy_from_slice(&self.rest);
                self.end = self.rest.len();
                self.rest = Vec::new();
                buffer
            }
        };
        self.start = 0;
        let room = limit.clamp(1, BUFFER - self.end);
        let got = read(&mut buffer[self.end..self.end + room]);
        self.buffer = Some(buffer);
        match got {
            Ok(n) => {
                self.end += n;
                Ok((n, n == room))
            }
            Err(e) => {
                self.settle();
                Err(e)
            }
        }
    }

    /// Puts bytes behind what is there, which came by another way.
    pub(crate) fn give(&mut self, bytes: &[u8]) {
        let mut all = self.bytes().to_vec();
        all.extend_from_slice(bytes);
        self.clear();
        self.rest = all;
    }

    /// Nothing more can be decoded without another read: gives the buffer back if it can.
    #[inline]
    pub(crate) fn settle(&mut self) {
        let left = self.end - self.start;
        if self.buffer.is_some()
            && left <= SMALL
            && let Some(buffer) = self.buffer.take()
        {
            if left > 0 {
                self.rest = buffer[self.start..self.end].to_vec();
            }
            (self.start, self.end) = (0, 0);
            give_back(buffer);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer);
        }
        (self.start, self.end) = (0, 0);
        self.rest = Vec::new();
    }

    /// Whether a read has room.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes().len() < BUFFER
    }
}
