//! [`Poller`]: waiting for several sockets, descriptors, channels and a time-out at once
//! (`zmq_poll`), and finding out which of them are ready.
//!
//! Nouns: an *item* is one of the things, with the key by which its owner knows it. A *look* asks all
//! items at once, without waiting; a *wait* is one `select!` over all of them.
//!
//! ```text
//! look -> (some are ready) done
//!   |
//! wait -> (something happened) look      -> (time-out) a last look
//! ```
//!
//! Invariants
//! - Nothing is received, sent or read here, but for arms, whose value is put where their owner said
//!   and kept until it is taken from there.
//! - Who was woken and takes nothing wakes the next one in line.
//!
//! Rejected: a set that is kept registered between polls (an edge for each message of each socket,
//! where lining up costs two short locks); `select!` alone (it takes one of those that are ready).

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use sward_runtime::__private::{AnyArm, Tried, select_any};
use sward_runtime::io::{Direction, Source};
use sward_runtime::sync::{Arm, Slot, after};

use crate::error::Error;
use crate::poll_events::PollEvents;
use crate::socket::arms::ReadyArm;
use crate::socket::dynamic::Socket;

/// Waits for several sockets, descriptors, channels and a time-out at once (`zmq_poll`, pyzmq's
/// `Poller`).
///
/// Each item has a key, which [`poll`](Self::poll) gives back with what the item is ready for. It
/// says so again and again until the socket is received from, as `zmq_poll` does. What a socket is
/// ready for another task may take first: then [`try_recv`](Socket::try_recv) fails, and the next
/// poll waits. It says that a ROUTER can be sent to whenever that might be: whether it can depends
/// on the message.
///
/// To wait for the first of a few things and take it, [`select!`](sward_runtime::select) is simpler.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use std::time::Duration;
/// use sward_mq::{PollEvents, Poller, Pull, Push};
/// let (tasks, control) = (Pull::bound("inproc://tasks")?, Pull::bound("inproc://control")?);
/// let (sender, receiver) = sward_runtime::sync::unbounded();
/// let result = Cell::new(None);
///
/// let mut poller = Poller::new();
/// poller.add("tasks", &tasks, PollEvents::IN);
/// poller.add("control", &control, PollEvents::IN);
/// poller.add_arm("results", || receiver.receiving(), &result);
///
/// Push::connected("inproc://control")?.send("stop")?;
/// sender.send(42).unwrap();
/// let mut ready = poller.poll(Duration::from_secs(5))?;
/// while ready.len() < 2 {
///     ready = poller.poll(None)?;
/// }
/// assert_eq!(ready, [("control", PollEvents::IN), ("results", PollEvents::IN)]);
/// assert_eq!(control.try_recv()?.first(), "stop");
/// assert_eq!(result.take().unwrap(), Ok(42));
/// # Ok::<(), sward_mq::Error>(())
/// ```
pub struct Poller<'a, K> {
    items: Vec<Item<'a, K>>,
}

struct Item<'a, K> {
    key: K,
    events: PollEvents,
    what: What<'a>,
}

enum What<'a> {
    Socket(Socket),
    Fd(Box<dyn AsFd + 'a>),
    Arm(Box<dyn Fills + 'a>),
}

impl<'a, K> Poller<'a, K> {
    /// Returns one without items.
    pub const fn new() -> Self {
        Self { items: Vec::new() }
    }

    /// Adds a socket of any kind. It stays open until it is removed from here, or closed.
    pub fn add(&mut self, key: K, socket: &impl AsRef<Socket>, events: PollEvents) {
        let what = What::Socket(socket.as_ref().clone());
        self.items.push(Item { key, events, what });
    }

    /// Adds a descriptor: a `TcpStream`, a pipe, whatever `poll(2)` takes. It is asked for what it is
    /// ready for only, so it may be one that belongs to another library.
    pub fn add_fd(&mut self, key: K, fd: impl AsFd + 'a, events: PollEvents) {
        let what = What::Fd(Box::new(fd));
        self.items.push(Item { key, events, what });
    }

    /// Adds an arm as [`select!`](sward_runtime::select) has them: a channel, an event, a join
    /// handle. `make` makes it for each poll. What comes of it is put into `out`, and the item is
    /// ready until that is taken from there.
    pub fn add_arm<A: Arm + 'a>(
        &mut self,
        key: K,
        make: impl FnMut() -> A + 'a,
        out: &'a Cell<Option<A::Output>>,
    ) where
        A::Output: 'a,
    {
        let what = What::Arm(Box::new(Outlet { make, out }));
        let events = PollEvents::IN;
        self.items.push(Item { key, events, what });
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<K: PartialEq> Poller<'_, K> {
    /// Changes what the item of this key is waited for; with [`PollEvents::NONE`], only for errors.
    /// Returns whether there is one.
    pub fn modify(&mut self, key: &K, events: PollEvents) -> bool {
        let mut items = self.items.iter_mut();
        let item = items.find(|item| item.key == *key);
        item.map(|item| item.events = events).is_some()
    }

    /// Removes the item of this key. Returns whether there was one.
    pub fn remove(&mut self, key: &K) -> bool {
        let before = self.items.len();
        self.items.retain(|item| item.key != *key);
        self.items.len() < before
    }
}

impl<K: Clone> Poller<'_, K> {
    /// Waits until an item is ready, for at most `limit` (`None`: as long as it takes; zero: not at
    /// all). Returns all that are, in the order in which they were added; none after the time-out.
    ///
    /// # Blocking
    /// Parks; honours kill and `timeout`.
    ///
    /// # Errors
    /// Those of a descriptor that cannot be waited for, or want of descriptors: while it waits, it
    /// takes one for each.
    ///
    /// # Cancel safety
    /// Killed or timed out, nothing was received; an arm's value is where it was to be.
    pub fn poll(
        &mut self,
        limit: impl Into<Option<Duration>>,
    ) -> Result<Vec<(K, PollEvents)>, Error> {
        let mut items: Vec<_> = self
            .items
            .iter_mut()
            .map(|item| (&mut item.what, item.events))
            .collect();
        let found = poll(&mut items, limit.into())?;
        let ready = self.items.iter().zip(found);
        Ok(ready
            .filter(|(_, found)| !found.is_empty())
            .map(|(item, found)| (item.key.clone(), found))
            .collect())
    }
}

impl<K> Default for Poller<'_, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for Poller<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.items.iter().map(|item| (&item.key, item.events));
        f.debug_map().entries(items).finish()
    }
}

impl Socket {
    /// Waits until the socket is ready for one of `events`, for at most `limit` (`None`: as long as
    /// it takes). Returns for which; none after the time-out.
    ///
    /// # Blocking
    /// Parks; honours kill and `timeout`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{PollEvents, Socket, SocketType};
    /// let pull = Socket::new(SocketType::Pull)?;
    /// pull.bind("inproc://poll")?;
    /// assert_eq!(pull.poll(PollEvents::IN, Duration::ZERO)?, PollEvents::NONE);
    /// let push = Socket::new(SocketType::Push)?;
    /// push.connect("inproc://poll")?;
    /// push.send("hello")?;
    /// assert_eq!(pull.poll(PollEvents::IN, None)?, PollEvents::IN);
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    ///
    /// # Errors
    /// None so far.
    pub fn poll(
        &self,
        events: PollEvents,
        limit: impl Into<Option<Duration>>,
    ) -> Result<PollEvents, Error> {
        let mut what = What::Socket(self.clone());
        let found = poll(&mut [(&mut what, events)], limit.into())?;
        Ok(found.into_iter().fold(PollEvents::NONE, BitOr::bitor))
    }
}

/// An item, and what it is waited for.
type Asked<'s, 'a> = (&'s mut What<'a>, PollEvents);

fn poll(items: &mut [Asked<'_, '_>], limit: Option<Duration>) -> Result<Vec<PollEvents>, Error> {
    let mut over = limit == Some(Duration::ZERO);
    // With `None` it is beyond what the clock can tell.
    let mut end = Tried::new(after(limit.unwrap_or(Duration::MAX)));
    loop {
        let found = look(items)?;
        if over || found.iter().any(|found| !found.is_empty()) {
            return Ok(found);
        }
        over = wait(items, &mut end)?;
    }
}

/// Asks all items.
fn look(items: &mut [Asked<'_, '_>]) -> Result<Vec<PollEvents>, Error> {
    let ask = |(what, events): &mut Asked<'_, '_>| match what {
        What::Socket(socket) => Ok(socket.ready_for(*events)),
        What::Fd(fd) => ready_for(fd.as_fd(), *events),
        What::Arm(arm) => Ok(match arm.fill() {
            true => PollEvents::IN,
            false => PollEvents::NONE,
        }),
    };
    items.iter_mut().map(ask).collect()
}

/// Waits until something happens to an item. `true`: it was the time-out.
fn wait(items: &mut [Asked<'_, '_>], end: &mut dyn AnyArm) -> Result<bool, Error> {
    let mut sources = Vec::new();
    for (what, _) in &*items {
        if let What::Fd(fd) = what {
            // Of a duplicate: somebody else may have registered the descriptor itself.
            let stand_in = fd.as_fd().try_clone_to_owned()?;
            sources.push(Source::from_nonblocking(stand_in));
        }
    }
    let mut left = &sources[..];
    let mut arms: Vec<Box<dyn AnyArm + '_>> = Vec::new();
    for (what, events) in items.iter_mut() {
        match what {
            What::Socket(socket) => {
                if !events.contains(PollEvents::OUT) {
                    arms.push(Box::new(Tried::new(ReadyArm::to_recv(socket, *events))));
                    continue;
                }
                if events.contains(PollEvents::IN) {
                    arms.push(Box::new(Tried::new(ReadyArm::to_recv(socket, *events))));
                }
                arms.push(Box::new(Tried::new(ReadyArm::to_send(socket, *events))));
            }
            What::Fd(_) => {
                if let [source, rest @ ..] = left {
                    left = rest;
                    watch(source, *events, &mut arms);
                }
            }
            What::Arm(arm) => arms.push(arm.arm()),
        }
    }
    let mut all: Vec<&mut dyn AnyArm> = vec![end];
    all.extend(arms.iter_mut().map(|arm| &mut **arm as &mut dyn AnyArm));
    Ok(select_any(&mut all, true, false) == Some(0))
}

/// Arms that end when the descriptor is ready.
fn watch<'s>(
    source: &'s Source<OwnedFd>,
    events: PollEvents,
    arms: &mut Vec<Box<dyn AnyArm + 's>>,
) {
    let directions = [
        (Direction::Read, PollEvents::IN),
        (Direction::Write, PollEvents::OUT),
    ];
    for (direction, event) in directions {
        let only_errors = direction == Direction::Read && !events.contains(PollEvents::OUT);
        if !events.contains(event) && !only_errors {
            continue;
        }
        let mut looked = false;
        let operation = move |fd: &OwnedFd| {
            // What was known of it before is forgotten: the wait is for the next edge.
            if !std::mem::replace(&mut looked, true) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match ready_for(fd.as_fd(), events) {
                Ok(PollEvents::NONE) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        };
        arms.push(Box::new(Tried::new(source.doing(direction, operation))));
    }
}

/// Asks a descriptor.
fn ready_for(fd: BorrowedFd<'_>, events: PollEvents) -> Result<PollEvents, Error> {
    let names = [
        (PollEvents::IN, PollFlags::IN),
        (PollEvents::OUT, PollFlags::OUT),
    ];
    let asked = names.iter().filter(|(event, _)| events.contains(*event));
    let flags = asked.fold(PollFlags::empty(), |flags, (_, flag)| flags | *flag);
    let mut set = [PollFd::from_borrowed_fd(fd, flags)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut set, Some(&now)))
        .map_err(io::Error::from)?;
    let seen = set[0].revents();
    let found = names.iter().filter(|(_, flag)| seen.contains(*flag));
    let found = found.fold(PollEvents::NONE, |found, (event, _)| found | *event);
    let wrong = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    Ok(match seen.intersects(wrong) {
        true => found | PollEvents::ERR,
        false => found,
    })
}

/// An arm that is made anew for each wait, and where its value goes.
trait Fills {
    /// Tries it, unless there is a value already. Returns whether there is one.
    fn fill(&mut self) -> bool;

    fn arm(&mut self) -> Box<dyn AnyArm + '_>;
}

struct Outlet<'a, F, T> {
    make: F,
    out: &'a Cell<Option<T>>,
}

impl<'a, A: Arm + 'a, F: FnMut() -> A> Fills for Outlet<'a, F, A::Output> {
    fn fill(&mut self) -> bool {
        let value = self.out.take().or_else(|| (self.make)().attempt());
        let there = value.is_some();
        self.out.set(value);
        there
    }

    fn arm(&mut self) -> Box<dyn AnyArm + '_> {
        let arm = (self.make)();
        Box::new(Tried::new(Filling { arm, out: self.out }))
    }
}

struct Filling<'a, A: Arm> {
    arm: A,
    out: &'a Cell<Option<A::Output>>,
}

impl<A: Arm> Filling<'_, A> {
    fn keep(&self, output: A::Output) {
        self.out.set(Some(output));
    }
}

impl<A: Arm> Arm for Filling<'_, A> {
    type Output = ();

    fn attempt(&mut self) -> Option<()> {
        let output = self.arm.attempt()?;
        self.keep(output);
        Some(())
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.arm.line_up(slot)
    }

    fn leave(&mut self, chosen: bool) -> Option<()> {
        let output = self.arm.leave(chosen)?;
        self.keep(output);
        Some(())
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        self.arm.deadline()
    }

    fn is_enabled(&self) -> bool {
        self.arm.is_enabled()
    }
}
