//! Receiving and sending as arms of a `select!`, and whether a socket is ready.
//!
//! An arm stands in the socket's line as a caller of `recv` does. Whoever is chosen makes an attempt
//! as that caller would; one that leaves the line without taking anything hands the wake on (the
//! line does: a wake finds somebody who can be chosen).

use sward_runtime::sync::{Arm, Held, LineArm, Slot};
use sward_zmtp::Message;

use super::core::{Limit, READERS, SocketCore, State, WRITERS, pass_on};
use super::dynamic::Socket;
use crate::error::{Error, SendError};
use crate::poll_events::PollEvents;

/// What a line tells an arm: that it was woken.
type Woken = fn(&mut Held<'_, State, 3>) -> Option<()>;

impl SocketCore {
    /// Whether a receive would succeed now, or fail for good.
    pub(crate) fn can_recv(&self) -> bool {
        self.look(|state| state.pattern.can_recv(&mut state.pipes))
    }

    /// Whether a send may succeed now, or fails for good.
    pub(crate) fn can_send(&self) -> bool {
        self.look(|state| state.pattern.can_send(&mut state.pipes))
    }

    fn is_closed(&self) -> bool {
        self.lines.lock().closed.is_some()
    }

    /// Who was woken in a line and takes nothing wakes the next one.
    fn pass<const L: usize>(&self) {
        let mut guard = self.lines.lock();
        if guard.held().has_waiters(L) {
            pass_on::<L>(&mut guard.held());
        }
        let tidy = guard.pipes.effects.any;
        drop(guard);
        self.after(tidy);
    }

    fn look(&self, look: impl FnOnce(&mut State) -> bool) -> bool {
        let mut guard = self.lines.lock();
        let ready = look(&mut guard) || guard.is_over();
        let tidy = guard.pipes.effects.any;
        drop(guard);
        self.after(tidy);
        ready
    }

    fn line<const L: usize>(&self) -> LineArm<'_, State, Woken, L, 3> {
        let woken: Woken = |_| Some(());
        self.lines.arm(|_| false, woken)
    }
}

/// An arm that receives; see [`Socket::receiving`].
#[derive(Debug)]
#[must_use = "an arm does nothing outside of select!"]
pub struct Receiving<'a> {
    core: &'a SocketCore,
    line: LineArm<'a, State, Woken, READERS, 3>,
}

impl Arm for Receiving<'_> {
    type Output = Result<Message, Error>;

    fn attempt(&mut self) -> Option<Self::Output> {
        let mut message = Message::new();
        match self.core.recv(&mut message, Limit::Try) {
            Ok(_) => Some(Ok(message)),
            Err(Error::WouldBlock) => None,
            Err(e) => Some(Err(e)),
        }
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.line.line_up(slot);
        self.core.can_recv()
    }

    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        self.line.leave(chosen)?;
        self.attempt()
    }
}

/// An arm that sends; see [`Socket::sending`].
#[derive(Debug)]
#[must_use = "an arm does nothing outside of select!"]
pub struct Sending<'a> {
    core: &'a SocketCore,
    line: LineArm<'a, State, Woken, WRITERS, 3>,
    message: Option<Message>,
    /// What `State::room` was before the last attempt.
    room: u64,
}

impl Sending<'_> {
    /// Gives the message back, if it was not sent.
    pub fn into_message(self) -> Option<Message> {
        self.message
    }
}

impl Arm for Sending<'_> {
    type Output = Result<(), SendError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        self.room = self.core.lines.lock().room;
        let Err(e) = self.core.send(self.message.take()?, Limit::Try) else {
            return Some(Ok(()));
        };
        match e.into_parts() {
            (Error::WouldBlock, message) => {
                self.message = Some(message);
                None
            }
            (error, message) => Some(Err(SendError::new(error, message))),
        }
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.line.line_up(slot);
        // Not whether it can send: a socket cannot say for whom.
        let state = self.core.lines.lock();
        state.room != self.room || state.is_over()
    }

    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        self.line.leave(chosen)?;
        self.attempt()
    }

    fn is_enabled(&self) -> bool {
        self.message.is_some()
    }
}

/// By reference, so that the message is still there if another arm was chosen.
impl Arm for &mut Sending<'_> {
    type Output = Result<(), SendError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        Sending::attempt(self)
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        Sending::line_up(self, slot)
    }

    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        Sending::leave(self, chosen)
    }

    fn is_enabled(&self) -> bool {
        Sending::is_enabled(self)
    }
}

/// An arm of a poller, which ends when the socket is ready, and takes nothing.
pub(crate) struct ReadyArm<'a, const L: usize> {
    socket: &'a Socket,
    events: PollEvents,
    line: LineArm<'a, State, Woken, L, 3>,
}

impl<'a> ReadyArm<'a, READERS> {
    pub(crate) fn to_recv(socket: &'a Socket, events: PollEvents) -> Self {
        let line = socket.core().line();
        Self {
            socket,
            events,
            line,
        }
    }
}

impl<'a> ReadyArm<'a, WRITERS> {
    pub(crate) fn to_send(socket: &'a Socket, events: PollEvents) -> Self {
        let line = socket.core().line();
        Self {
            socket,
            events,
            line,
        }
    }
}

impl<const L: usize> Arm for ReadyArm<'_, L> {
    type Output = ();

    fn attempt(&mut self) -> Option<()> {
        (!self.socket.ready_for(self.events).is_empty()).then_some(())
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.line.line_up(slot);
        self.attempt().is_some()
    }

    fn leave(&mut self, chosen: bool) -> Option<()> {
        self.line.leave(chosen)?;
        // First, because the next one may take what is there.
        let ready = self.attempt();
        self.socket.core().pass::<L>();
        ready
    }
}

impl Socket {
    /// For which of these it is ready.
    pub(crate) fn ready_for(&self, events: PollEvents) -> PollEvents {
        let core = self.core();
        let mut found = PollEvents::NONE;
        if core.is_closed() {
            found |= PollEvents::ERR;
        }
        if events.contains(PollEvents::IN) && core.can_recv() {
            found |= PollEvents::IN;
        }
        if events.contains(PollEvents::OUT) && core.can_send() {
            found |= PollEvents::OUT;
        }
        found
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that receives.
    ///
    /// # Cancel safety
    /// If another arm is chosen, nothing was received.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Pull, Push};
    /// use sward_runtime::{select, sync::after};
    /// let (first, second) = (Pull::bound("inproc://first")?, Pull::bound("inproc://second")?);
    /// Push::connected("inproc://second")?.send("hello")?;
    /// let message = select! {
    ///     message = first.receiving() => message?,
    ///     message = second.receiving() => message?,
    ///     _ = after(Duration::from_secs(5)) => panic!("nothing came"),
    /// };
    /// assert_eq!(message.first(), "hello");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn receiving(&self) -> Receiving<'_> {
        Receiving {
            core: self.core(),
            line: self.core().line(),
        }
    }

    /// Returns an arm of a [`select!`](sward_runtime::select) that sends.
    ///
    /// # Cancel safety
    /// If another arm is chosen, the message was not sent. It goes with the arm, unless the arm is
    /// lent: then [`Sending::into_message`] gives it back.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::Push;
    /// use sward_runtime::{select, sync::after};
    /// let push = Push::new()?; // Nobody is there.
    /// let mut sending = push.sending("hello");
    /// select! {
    ///     sent = &mut sending => sent?,
    ///     _ = after(Duration::from_millis(5)) => {}
    /// }
    /// assert_eq!(sending.into_message().unwrap().first(), "hello");
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn sending(&self, message: impl Into<Message>) -> Sending<'_> {
        Sending {
            core: self.core(),
            line: self.core().line(),
            room: 0,
            message: Some(message.into()),
        }
    }
}

impl std::fmt::Debug for SocketCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}
