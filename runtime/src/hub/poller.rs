//! What a worker's epoll instance watches, and who is told.
//!
//! Nouns: a *subscriber* is told of readiness; a *slot* keeps one of them, and its worker's
//! [`Poller`] keeps the slots; a *token* names a slot and one use of it. The events themselves are
//! fetched by the worker alone (`idle.rs`); registering and deregistering work from any thread.
//!
//! Invariants
//! - A token is used once: its generation is new with each registration, so an event that was
//!   fetched before a deregistration finds nobody. (After 2^30 registrations it repeats; the
//!   worker has handled what it fetched long before.)
//! - A slot is there before the kernel knows its token, and goes before the kernel forgets it.
//! - No code of a subscriber runs under the lock. A subscriber may hold a lock of its own while it
//!   calls in here, never the other way round.
//! - After [`Poller::close`] nothing can be registered, and every subscriber has been told.
//!
//! Rejected: slots that only the worker touches (each registration and each drop elsewhere would
//! be mail, and a `Drop` could not say that the kernel has forgotten the descriptor); registering
//! anew for each wait (a system call per wait).

use std::fmt;
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use mio::unix::SourceFd;
use slab::Slab;

use super::timers::TimerKey;
use crate::clock::Nanos;
use crate::sync::short_lock::ShortLock;

/// The token of the worker's bell.
pub(crate) const BELL: mio::Token = mio::Token(usize::MAX);

/// Generations leave the two highest bits of a word free.
const GENERATIONS: u32 = 1 << 30;
/// How many slots are looked at in one go.
const AT_ONCE: usize = 64;

/// What a descriptor is ready for: a set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u8);

impl Ready {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A read would not block.
    pub const READABLE: Self = Self(1);
    /// A write would not block.
    pub const WRITABLE: Self = Self(2);
    /// The other side has closed its end, or its writing half: a read comes to an end.
    pub const HUNG_UP: Self = Self(4);
    /// The descriptor is in an error state, which the next operation tells.
    pub const ERROR: Self = Self(8);
    /// There is urgent data (`POLLPRI`).
    pub const PRIORITY: Self = Self(16);
    /// The deadline that a driver has set is over.
    pub const DUE: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::READABLE, "READABLE"),
        (Self::WRITABLE, "WRITABLE"),
        (Self::HUNG_UP, "HUNG_UP"),
        (Self::ERROR, "ERROR"),
        (Self::PRIORITY, "PRIORITY"),
        (Self::DUE, "DUE"),
    ];

    /// Returns whether everything in `other` is in here.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether something in `other` is in here.
    #[inline]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether there is nothing in here.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What an event says.
    #[inline]
    pub(crate) fn of(event: &mio::event::Event) -> Self {
        let sign = |on: bool, sign: Self| if on { sign } else { Self::NONE };
        sign(event.is_readable(), Self::READABLE)
            | sign(event.is_writable(), Self::WRITABLE)
            | sign(
                event.is_read_closed() || event.is_write_closed(),
                Self::HUNG_UP,
            )
            | sign(event.is_error(), Self::ERROR)
            | sign(event.is_priority(), Self::PRIORITY)
    }
}

impl BitOr for Ready {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES
            .iter()
            .filter(|(sign, _)| self.contains(*sign))
            .map(|(_, name)| *name);
        f.write_str(names.next().unwrap_or("NONE"))?;
        names.try_for_each(|name| write!(f, " | {name}"))
    }
}

/// Names one registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// As a word of at most 62 bits, for a timer.
    pub(crate) fn to_word(self) -> usize {
        (self.generation as usize) << 32 | self.index as usize
    }

    pub(crate) fn from_word(word: usize) -> Self {
        Self {
            index: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// What comes after a call of a subscriber.
pub(crate) enum After {
    /// Nothing changes.
    Nothing,
    /// Call it again soon.
    Again,
    /// Call it at that time; `None`: forget the time that was set.
    At(Option<Nanos>),
    /// It is gone, and this was its timer.
    Closed(Option<TimerKey>),
}

/// Who is told.
pub(crate) trait Subscriber: Send + Sync {
    /// Called by the worker between slices. It must not wait and must not panic.
    fn call(&self, ready: Ready) -> After;

    /// Called by another thread, because the worker is stalled.
    fn call_stalled(&self) {}

    /// The worker ends: its registration, if it still is `token`, is over.
    fn orphan(&self, token: Token, registry: &mio::Registry);

    /// Whether an event may wake somebody.
    fn is_waited_for(&self) -> bool;
}

struct Slot {
    subscriber: Arc<dyn Subscriber>,
    generation: u32,
    /// For the worker only.
    timer: Option<TimerKey>,
}

struct Slots {
    slab: Slab<Slot>,
    /// `None`: closed.
    registry: Option<Arc<mio::Registry>>,
    generation: u32,
}

impl Slots {
    fn get(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slab.get_mut(token.index as usize)?;
        (slot.generation == token.generation).then_some(slot)
    }

    fn closed() -> io::Error {
        io::Error::other("the runtime of this worker has ended: nothing can wait here any more")
    }
}

/// The registrations of one worker; see the file head.
pub(crate) struct Poller {
    slots: ShortLock<Slots>,
    len: AtomicUsize,
}

impl Poller {
    /// A poller that is closed.
    pub(crate) fn new() -> Self {
        Self {
            slots: ShortLock::new(Slots {
                slab: Slab::new(),
                registry: None,
                generation: 0,
            }),
            len: AtomicUsize::new(0),
        }
    }

    /// Opens it for a worker whose epoll instance `registry` leads to.
    pub(crate) fn open(&self, registry: mio::Registry) {
        let registry = Some(Arc::new(registry));
        let before = std::mem::replace(&mut self.slots.lock().registry, registry);
        drop(before);
    }

    /// Number of registrations.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Registers `fd` for everything, edge-triggered; the first event says what it is ready for
    /// now.
    ///
    /// # Errors
    /// Those of `epoll_ctl`; when the worker has ended.
    pub(crate) fn register(&self, fd: RawFd, subscriber: Arc<dyn Subscriber>) -> io::Result<Token> {
        let mut slots = self.slots.lock();
        let registry = slots.registry.clone().ok_or_else(Slots::closed)?;
        slots.generation = (slots.generation + 1) % GENERATIONS;
        let generation = slots.generation;
        let index = slots.slab.insert(Slot {
            subscriber,
            generation,
            timer: None,
        });
        self.len.store(slots.slab.len(), Relaxed);
        drop(slots);
        let token = Token {
            // Descriptors are numbered by an `int`.
            index: index as u32,
            generation,
        };
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE | mio::Interest::PRIORITY;
        let done = registry.register(&mut SourceFd(&fd), mio::Token(token.to_word()), interest);
        if let Err(e) = done {
            drop(self.remove(token));
            return Err(e);
        }
        Ok(token)
    }

    fn remove(&self, token: Token) -> Option<(Slot, Option<Arc<mio::Registry>>)> {
        let mut slots = self.slots.lock();
        slots.get(token)?;
        let slot = slots.slab.remove(token.index as usize);
        if slots.slab.is_empty() && slots.slab.capacity() > AT_ONCE {
            slots.slab = Slab::new();
        }
        self.len.store(slots.slab.len(), Relaxed);
        Some((slot, slots.registry.clone()))
    }

    /// Ends a registration; `fd` must still be what was registered. Returns its timer.
    pub(crate) fn deregister(&self, fd: RawFd, token: Token) -> Option<TimerKey> {
        let (slot, registry) = self.remove(token)?;
        if let Some(registry) = registry {
            // It fails only if somebody has closed the descriptor behind our back.
            let _ = registry.deregister(&mut SourceFd(&fd));
        }
        slot.timer
    }

    /// Who is registered with that token.
    #[inline]
    pub(crate) fn find(&self, token: Token) -> Option<Arc<dyn Subscriber>> {
        let mut slots = self.slots.lock();
        slots.get(token).map(|slot| slot.subscriber.clone())
    }

    /// Worker: notes the timer of a registration and returns the one before. `Err`: it is over.
    pub(crate) fn set_timer(
        &self,
        token: Token,
        timer: Option<TimerKey>,
    ) -> Result<Option<TimerKey>, ()> {
        let mut slots = self.slots.lock();
        let slot = slots.get(token).ok_or(())?;
        Ok(std::mem::replace(&mut slot.timer, timer))
    }

    /// Calls `f` for each subscriber, until it says that this is enough; no lock is held.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&dyn Subscriber) -> bool) {
        let mut from = 0;
        let mut some: Vec<Arc<dyn Subscriber>> = Vec::new();
        loop {
            let slots = self.slots.lock();
            let end = slots.slab.capacity().min(from + AT_ONCE);
            some.extend((from..end).filter_map(|i| Some(slots.slab.get(i)?.subscriber.clone())));
            let last = end == slots.slab.capacity();
            drop(slots);
            for subscriber in some.drain(..) {
                if !f(&*subscriber) {
                    return;
                }
            }
            if last {
                return;
            }
            from = end;
        }
    }

    /// Whether an event may wake somebody.
    pub(crate) fn is_waited_for(&self) -> bool {
        let mut waited_for = false;
        self.for_each(|subscriber| {
            waited_for |= subscriber.is_waited_for();
            !waited_for
        });
        waited_for
    }

    /// Ends all registrations and refuses new ones.
    pub(crate) fn close(&self) {
        let mut slots = self.slots.lock();
        let Some(registry) = slots.registry.take() else {
            return;
        };
        let slab = std::mem::take(&mut slots.slab);
        self.len.store(0, Relaxed);
        drop(slots);
        for (index, slot) in slab {
            let token = Token {
                index: index as u32,
                generation: slot.generation,
            };
            slot.subscriber.orphan(token, &registry);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[derive(Default)]
    struct Counts {
        orphaned: AtomicUsize,
    }

    impl Subscriber for Counts {
        fn call(&self, _ready: Ready) -> After {
            After::Nothing
        }

        fn orphan(&self, _token: Token, _registry: &mio::Registry) {
            self.orphaned.fetch_add(1, SeqCst);
        }

        fn is_waited_for(&self) -> bool {
            false
        }
    }

    fn tokens(poll: &mut mio::Poll) -> Vec<Token> {
        let mut events = mio::Events::with_capacity(8);
        let polled = poll.poll(&mut events, Some(std::time::Duration::ZERO));
        assert!(polled.is_ok());
        events
            .iter()
            .map(|e| Token::from_word(e.token().0))
            .collect()
    }

    #[test]
    fn a_token_is_used_once() {
        let mut poll = mio::Poll::new().unwrap();
        let poller = Poller::new();
        let who = Arc::new(Counts::default());
        let (_b, a) = io::pipe().unwrap();
        let refused = poller.register(a.as_raw_fd(), who.clone()).unwrap_err();
        assert!(refused.to_string().contains("has ended"), "{refused}");
        poller.open(poll.registry().try_clone().unwrap());
        let first = poller.register(a.as_raw_fd(), who.clone()).unwrap();
        assert_eq!(tokens(&mut poll), [first]);
        let twice = poller.register(a.as_raw_fd(), who.clone()).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(poller.len(), 1);
        poller.deregister(a.as_raw_fd(), first);
        let second = poller.register(a.as_raw_fd(), who.clone()).unwrap();
        assert_eq!(second.index, first.index);
        assert!(poller.find(first).is_none() && poller.find(second).is_some());
        assert_eq!(tokens(&mut poll), [second]);
        assert!(poller.deregister(a.as_raw_fd(), first).is_none());
        assert_eq!(poller.len(), 1);
        poller.close();
        assert_eq!((poller.len(), who.orphaned.load(SeqCst)), (0, 1));
        assert!(poller.find(second).is_none());
        assert_eq!(Arc::strong_count(&who), 1);
    }

    #[test]
    fn words() {
        for token in [
            Token {
                index: 0,
                generation: 1,
            },
            Token {
                index: u32::MAX,
                generation: GENERATIONS - 1,
            },
        ] {
            assert_eq!(Token::from_word(token.to_word()), token);
            assert_eq!(token.to_word() >> 62, 0);
        }
    }

    #[test]
    fn signs() {
        let both = Ready::READABLE | Ready::WRITABLE;
        assert_eq!(
            format!("{both:?} {:?}", Ready::NONE),
            "READABLE | WRITABLE NONE"
        );
        assert!(both.contains(Ready::WRITABLE) && !both.contains(both | Ready::DUE));
        assert!(both.has_any(Ready::READABLE | Ready::DUE) && !both.has_any(Ready::ERROR));
    }

    #[test]
    fn many_are_looked_at() {
        let poll = mio::Poll::new().unwrap();
        let poller = Poller::new();
        poller.open(poll.registry().try_clone().unwrap());
        let who = Arc::new(Counts::default());
        let pairs: Vec<_> = (0..100).map(|_| io::pipe().unwrap()).collect();
        for (a, b) in &pairs {
            poller.register(a.as_raw_fd(), who.clone()).unwrap();
            poller.register(b.as_raw_fd(), who.clone()).unwrap();
        }
        let mut n = 0;
        poller.for_each(|_| {
            n += 1;
            true
        });
        assert_eq!(n, 200);
        poller.close();
        assert_eq!(who.orphaned.load(SeqCst), 200);
    }
}
