//! What a socket is: a pattern, its pipes, its options, behind one short lock, with the lines of
//! those who wait for it. This file has the only blocking loops of mq, [`SocketCore::send`] and
//! [`SocketCore::recv`]: try the pattern; if it would block, wait in line.
//!
//! Locks: no thread holds two sockets' locks. A session's lock may be taken under a socket's. What
//! must happen without the lock is left in `Effects` and `notices`, and done by [`SocketCore::tidy`].
//!
//! | line | who waits there | woken by |
//! |---|---|---|
//! | [`READERS`] | `recv` | a pipe that became readable; a reader that left something |
//! | [`WRITERS`] | `send` | a pipe that got room or was attached; a sender that left room |
//! | [`WATCHERS`] | those who wait for peers, subscribers, the end of lingering | any such change |

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sward_runtime::__private::Epoch;
use sward_runtime::sync::{Event as Signal, Held, Lines};
use sward_runtime::{WaitKind, WaitName, WaitReason};
use sward_zmtp::{Frame, Message, Setup, SocketType};

use super::close::Leaving;
use super::ends::Ends;
use crate::context::ContextCore;
use crate::error::{Error, SendError};
use crate::event::{Event, EventKind};
use crate::loss::Loss;
use crate::monitor::Monitors;
use crate::notices::{self, Hears, Notice};
use crate::options::Options;
use crate::pattern::conflate::{Conflated, conflates};
use crate::pattern::make::pattern;
use crate::pattern::{Pattern, PatternOptions, Refusal};
use crate::peer;
use crate::pipe::{Effects, Peer, Pipe, Pipes, Slot};
use crate::session::{Place, Session};
use crate::traffic::Traffic;

pub(crate) const READERS: usize = 0;
pub(crate) const WRITERS: usize = 1;
pub(crate) const WATCHERS: usize = 2;

/// What a caller wants, tried under the lock; `None`: it has to wait.
type Attempt<'a, R> = &'a mut dyn FnMut(&mut Held<'_, State, 3>) -> Option<Result<R, Error>>;

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Not at all.
    Try,
    /// As the socket's option says (SNDTIMEO, RCVTIMEO).
    Option,
    /// As long as it takes, whatever the option says.
    Ever,
    /// For so long.
    For(Duration),
    /// Until then.
    Until(Instant),
}

/// A socket; see the file head.
pub(crate) struct SocketCore {
    /// The number of `name`.
    pub(crate) id: u64,
    _name: WaitName,
    pub(crate) kind: SocketType,
    pub(crate) context: Arc<ContextCore>,
    /// The process that made it: in a forked child every operation fails.
    pub(super) epoch: Epoch,
    pub(crate) lines: Lines<State, 3>,
    pub(crate) monitors: Monitors,
    /// RCVTIMEO and SNDTIMEO in ns, by the line of those who wait; `u64::MAX` is none.
    time_outs: [AtomicU64; 2],
    pub(super) losses: [AtomicU64; Loss::ALL.len()],
    /// How often a send found no room.
    pub(super) full: AtomicU64,
    pub(super) me: Weak<Self>,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) pattern: Box<dyn Pattern>,
    pub(crate) pipes: Pipes,
    pub(crate) options: Arc<Options>,
    /// Why every operation fails from now on.
    pub(crate) closed: Option<Error>,
    pub(crate) ends: Ends,
    /// Accepted, and not yet through the handshake; by the session's address. With the time of the
    /// accept.
    pub(crate) pending: HashMap<usize, (Arc<Session>, Instant)>,
    /// Pipes keep the newest message only (CONFLATE).
    pub(super) conflates: bool,
    /// Who waits for the reply to which request (`request.rs`).
    pub(super) requests: HashMap<u32, Arc<Signal>>,
    next_request: u32,
    /// Sessions that have no place any more and still send.
    pub(crate) leaving: Leaving,
    pub(crate) traffic: Traffic,
    /// How often room may have appeared; for senders that do not stand in line yet.
    pub(super) room: u64,
    /// The number of the last probe.
    pub(super) probes: u64,
    /// The last thing that went wrong.
    pub(super) last_error: Option<Event>,
}

impl SocketCore {
    /// Returns a socket of that kind.
    pub(crate) fn new(context: Arc<ContextCore>, kind: SocketType, options: Options) -> Arc<Self> {
        let patterns = PatternOptions::from(&options);
        let limits = Self::time_outs(&options);
        Arc::new_cyclic(|me: &Weak<Self>| {
            let name = WaitName::new(me.clone());
            Self {
                id: name.number(),
                _name: name,
                kind,
                epoch: context.epoch,
                context,
                lines: Lines::new(State {
                    pattern: pattern(kind, &patterns),
                    pipes: Pipes::default(),
                    closed: None,
                    ends: Ends::default(),
                    conflates: options.conflate && conflates(kind),
                    options: Arc::new(options),
                    pending: HashMap::new(),
                    requests: HashMap::new(),
                    next_request: first_request(),
                    leaving: Leaving::default(),
                    traffic: Traffic::default(),
                    room: 0,
                    probes: 0,
                    last_error: None,
                }),
                monitors: Monitors::new(),
                time_outs: limits.map(AtomicU64::new),
                losses: [const { AtomicU64::new(0) }; Loss::ALL.len()],
                full: AtomicU64::new(0),
                me: me.clone(),
            }
        })
    }

    /// Sends, or waits until that can be done.
    #[inline]
    pub(crate) fn send(&self, mut message: Message, limit: Limit) -> Result<(), SendError> {
        let sent = self.attempt::<WRITERS, _>(limit, |state| {
            if let Some(stop) = state.over() {
                return Err(stop);
            }
            Ok(state.pattern.send(&mut state.pipes, &mut message)?)
        });
        match sent {
            Ok(()) => Ok(()),
            Err(error) => Err(SendError::new(error, message)),
        }
    }

    /// Receives, or waits until there is something. Says from which pipe.
    #[inline]
    pub(crate) fn recv(&self, into: &mut Message, limit: Limit) -> Result<Slot, Error> {
        self.recv_with(limit, |state| state.pattern.recv(&mut state.pipes, into))
    }

    /// Receives, and says from whom.
    pub(crate) fn recv_from(&self, into: &mut Message, limit: Limit) -> Result<peer::Peer, Error> {
        self.recv_with(limit, |state| {
            let slot = state.pattern.recv(&mut state.pipes, into)?;
            Ok(state.peer_at(slot))
        })
    }

    /// Receives by another of the pattern's methods.
    #[inline]
    pub(crate) fn recv_with<R>(
        &self,
        limit: Limit,
        mut take: impl FnMut(&mut State) -> Result<R, Refusal>,
    ) -> Result<R, Error> {
        self.attempt::<READERS, _>(limit, |state| {
            // What has come is received even after the end.
            take(state).map_err(|refusal| state.over().unwrap_or_else(|| refusal.into()))
        })
    }

    /// Makes attempts until one has an outcome, or the limit is reached.
    #[inline]
    pub(crate) fn attempt<const L: usize, R>(
        &self,
        limit: Limit,
        mut f: impl FnMut(&mut State) -> Result<R, Stop>,
    ) -> Result<R, Error> {
        if self.epoch.is_stale() {
            return Err(Error::forked());
        }
        let mut tidy = false;
        let mut attempt = |held: &mut Held<'_, State, 3>| -> Option<Result<R, Error>> {
            let outcome = f(held);
            tidy |= held.pipes.effects.any;
            match outcome {
                Ok(outcome) => {
                    if held.has_waiters(L) {
                        pass_on::<L>(held);
                    }
                    Some(Ok(outcome))
                }
                Err(Stop::WouldBlock) => {
                    if L == READERS {
                        // The answer that is waited for may depend on it.
                        held.pipes.flush_last();
                    }
                    None
                }
                Err(Stop::With(error)) => Some(Err(error)),
            }
        };
        let outcome = match limit {
            Limit::Try => attempt(&mut self.lines.lock().held()),
            _ => self.lines.attempt(&mut attempt),
        };
        // Apart from the errors: a move of the whole, which was just written in parts, would wait until
        // those have reached the cache, for a quarter of all that a message costs.
        if let Some(Ok(outcome)) = outcome {
            self.after(tidy);
            return Ok(outcome);
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.wait::<L, R>(limit, &mut attempt),
        };
        self.after(tidy);
        outcome
    }

    #[cold]
    fn wait<const L: usize, R>(&self, limit: Limit, attempt: Attempt<'_, R>) -> Result<R, Error> {
        let after = match limit {
            Limit::Try => {
                self.count_full::<L>();
                return Err(Error::WouldBlock);
            }
            Limit::Until(at) => Err(at),
            Limit::For(duration) => Ok(Some(duration)),
            Limit::Option => Ok(self.option_limit(L)),
            Limit::Ever => Ok(None),
        };
        let deadline = match after {
            Err(at) => Some(at),
            Ok(after) => after.and_then(|after| Instant::now().checked_add(after)),
        };
        self.count_full::<L>();
        let waited = self
            .lines
            .wait::<L, _>(self.reason(L), || deadline, attempt);
        waited.map_err(Error::from)?
    }

    /// A send has found no room.
    fn count_full<const L: usize>(&self) {
        if L == WRITERS && self.lines.lock().pipes.connected() > 0 {
            self.full.fetch_add(1, Relaxed);
        }
    }

    /// When a wait for a reply ends, by RCVTIMEO.
    pub(super) fn recv_limit(&self) -> Option<Instant> {
        Instant::now().checked_add(self.option_limit(READERS)?)
    }

    /// SNDTIMEO or RCVTIMEO.
    fn option_limit(&self, line: usize) -> Option<Duration> {
        let nanos = self.time_outs.get(line)?.load(Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    /// Takes over the time-outs of changed options.
    pub(crate) fn set_time_outs(&self, options: &Options) {
        for (kept, limit) in self.time_outs.iter().zip(Self::time_outs(options)) {
            kept.store(limit, Relaxed);
        }
    }

    fn time_outs(options: &Options) -> [u64; 2] {
        let nanos = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        [options.recv_timeout, options.send_timeout].map(|limit| limit.map_or(u64::MAX, nanos))
    }

    /// Room may have appeared: wakes the next sender.
    pub(super) fn room_appeared(held: &mut Held<'_, State, 3>) {
        held.room += 1;
        held.wake_one(WRITERS);
    }

    /// A peer is gone: all who wait look again, for nobody waits for room there any more.
    pub(super) fn peer_gone(held: &mut Held<'_, State, 3>) {
        held.room += 1;
        for line in [READERS, WRITERS, WATCHERS] {
            held.wake_all(line);
        }
    }

    pub(super) fn reason(&self, line: usize) -> WaitReason {
        let what = match line {
            READERS => "message to",
            WRITERS => "room in",
            _ => "change of",
        };
        WaitReason::new(WaitKind::Named(what), self.id)
    }

    /// After an operation: what could not be done under the lock.
    #[inline(always)]
    pub(crate) fn after(&self, tidy: bool) {
        if tidy {
            self.tidy();
        }
        notices::deliver();
    }

    /// Does what patterns have left to do.
    #[cold]
    pub(crate) fn tidy(&self) {
        let mut events = Vec::new();
        loop {
            let mut guard = self.lines.lock();
            let Effects {
                drained,
                close,
                refused,
                losses,
                changed,
                again,
                replied,
                ..
            } = std::mem::take(&mut guard.pipes.effects);
            let state = &mut *guard;
            for (slot, flush) in close {
                if let Some(entry) = state.pipes.get_mut(slot) {
                    entry.pipe.close(flush);
                }
            }
            for (slot, why) in refused {
                if let Some(entry) = state.pipes.get_mut(slot) {
                    entry.pipe.refuse(why);
                }
            }
            for slot in drained {
                state.detach(slot);
            }
            for (loss, slot) in losses {
                let peer = slot.and_then(|slot| state.pipes.get_mut(slot)?.peer.clone());
                events.push((loss, peer));
            }
            for slot in again {
                if let Some(entry) = state.pipes.get_mut(slot) {
                    entry.pipe.again();
                }
            }
            let answered: Vec<_> = replied
                .iter()
                .filter_map(|id| state.requests.get(id).cloned())
                .collect();
            let more = state.pipes.effects.any;
            if changed {
                guard.held().wake_all(WATCHERS);
            }
            drop(guard);
            answered.iter().for_each(|event| event.set());
            for (loss, peer) in events.drain(..) {
                self.count(loss, 1, peer.as_deref());
            }
            if !more {
                return;
            }
        }
    }

    /// Counts messages that were lost, and says so to those who listen.
    pub(crate) fn count(&self, loss: Loss, n: usize, peer: Option<&Peer>) {
        if n == 0 {
            return;
        }
        self.losses[loss.index()].fetch_add(n as u64, Relaxed);
        let endpoint = peer.map_or("", |peer| &peer.endpoint);
        let id = peer.map(|peer| peer.info.identity().clone());
        let (count, peer) = (n as u64, id);
        self.monitors
            .emit(|| Event::new(EventKind::Lost { loss, count, peer }).endpoint(endpoint));
    }

    /// Takes in a pipe, whose owner does not know its place yet; `given` is the routing id of its
    /// peer (CONNECT_ROUTING_ID).
    pub(crate) fn attach(state: &mut State, pipe: Box<dyn Pipe>, given: Option<Frame>) -> Place {
        let pipe = match state.conflates {
            true => Box::new(Conflated::new(pipe)),
            false => pipe,
        };
        let slot = state.pipes.insert(pipe, given);
        let generation = state.pipes[slot].generation;
        state.pattern.attach(&mut state.pipes, slot);
        Place { slot, generation }
    }

    /// The peer of a pipe is there. `false`: the pattern does not want it.
    pub(crate) fn connected(held: &mut Held<'_, State, 3>, place: Place, peer: Arc<Peer>) -> bool {
        let state = &mut **held;
        if !state.is_at(place) {
            return false;
        }
        state.pipes[place.slot].peer = Some(peer);
        if !state.pattern.connected(&mut state.pipes, place.slot) {
            return false;
        }
        held.pipes[place.slot].since = Some(Instant::now());
        // The pattern may have read already, or have something of its own to say.
        if held.has_waiters(READERS) {
            pass_on::<READERS>(held);
        }
        held.wake_all(WATCHERS);
        Self::room_appeared(held);
        // Subscriptions may have come with the handshake, or the connection itself is a message.
        if held.has_waiters(READERS) {
            pass_on::<READERS>(held);
        }
        true
    }

    /// Nothing can be sent to a pipe any more.
    pub(crate) fn ended(state: &mut State, place: Place) {
        if !state.is_at(place) {
            return;
        }
        let entry = &mut state.pipes[place.slot];
        if std::mem::replace(&mut entry.ended, true) {
            return;
        }
        // It says when the pipe is drained: it may have taken messages out of it that nobody has
        // received.
        state.pattern.ended(&mut state.pipes, place.slot);
    }

    /// A pipe has become readable.
    pub(crate) fn readable(&self, place: Place) {
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        if !state.is_at(place) {
            return;
        }
        if state.conflates {
            state.pipes.edge(place.slot);
        }
        state.pattern.readable(&mut state.pipes, place.slot);
        let tidy = state.pipes.effects.any;
        let mut held = guard.held();
        if held.has_waiters(READERS) {
            pass_on::<READERS>(&mut held);
        }
        drop(guard);
        self.after(tidy);
    }

    /// A pipe has got room.
    pub(crate) fn writable(&self, place: Place) {
        let mut guard = self.lines.lock();
        let state = &mut *guard;
        if !state.is_at(place) {
            return;
        }
        if state.conflates {
            state.pipes.edge(place.slot);
        }
        state.pattern.writable(&mut state.pipes, place.slot);
        let tidy = state.pipes.effects.any;
        Self::room_appeared(&mut guard.held());
        drop(guard);
        self.after(tidy);
    }

    /// What the protocol machine of a new connection is made of.
    pub(crate) fn setup(&self, options: &Options) -> Arc<Setup> {
        Arc::new(options.setup(self.kind))
    }
}

/// Why an attempt did not succeed.
pub(crate) enum Stop {
    /// It may later.
    WouldBlock,
    /// It will not.
    With(Error),
}

impl From<Refusal> for Stop {
    #[inline]
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::WouldBlock => Self::WouldBlock,
            refusal => Self::With(refusal.into()),
        }
    }
}

/// Who took one and left something for the next wakes that one.
#[cold]
pub(super) fn pass_on<const L: usize>(held: &mut Held<'_, State, 3>) {
    let state = &mut **held;
    let more = match L {
        READERS => state.pattern.can_recv(&mut state.pipes),
        _ => state.pattern.can_send(&mut state.pipes),
    };
    if more {
        held.wake_one(L);
    }
}

/// Replies to what an earlier socket at this address asked must not be taken for ours.
fn first_request() -> u32 {
    RandomState::new().hash_one(()) as u32
}

impl State {
    /// A number for a request that no open one has.
    pub(super) fn next_request(&mut self) -> u32 {
        loop {
            self.next_request = self.next_request.wrapping_add(1);
            if !self.requests.contains_key(&self.next_request) {
                return self.next_request;
            }
        }
    }

    /// Whether its operations fail from now on.
    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some() && !self.leaving.exiting
    }

    /// What its operations say, if it is closed. At the exit of the process they wait instead.
    #[inline]
    pub(crate) fn over(&self) -> Option<Stop> {
        let why = self.closed.as_ref()?;
        Some(if self.leaving.exiting {
            Stop::WouldBlock
        } else {
            Stop::With(why.clone())
        })
    }

    /// Whether the place is still that of the same pipe.
    pub(crate) fn is_at(&mut self, place: Place) -> bool {
        self.pipes
            .get_mut(place.slot)
            .is_some_and(|entry| entry.generation == place.generation)
    }

    /// Lets go of a pipe.
    pub(crate) fn detach(&mut self, slot: Slot) {
        if self.pipes.get_mut(slot).is_some() {
            self.pattern.detach(&mut self.pipes, slot);
            if let Some(entry) = self.pipes.remove(slot) {
                self.traffic += entry.pipe.traffic();
            }
        }
    }
}

impl Hears for SocketCore {
    fn notice(&self, place: Place, notice: Notice) {
        match notice {
            Notice::Readable => self.readable(place),
            Notice::Writable => self.writable(place),
            Notice::Ended => {
                let mut guard = self.lines.lock();
                Self::ended(&mut guard, place);
                let tidy = guard.pipes.effects.any;
                Self::peer_gone(&mut guard.held());
                drop(guard);
                self.after(tidy);
            }
        }
    }
}
