//! What tells the pumps of a proxy to go on, to pause or to end, and the wait that heeds it.
//!
//! A change of mode is stored first, then whoever waits at one of the sockets is woken under that
//! socket's lock. Whoever waits there looks at the mode under the same lock before it lines up. So
//! no change is missed, and moving a message costs one load more.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use sward_runtime::sync::{Arm, Lines, WaitError};
use sward_runtime::{WaitKind, WaitReason, select};

use crate::error::Error;
use crate::socket::core::{Limit, READERS, SocketCore, State, Stop, WATCHERS, WRITERS};
use crate::socket::dynamic::Socket;

/// What steering tells the pumps.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    Running,
    Paused,
    /// How it ended.
    Ended(Result<(), Error>),
}

const RUNNING: u8 = 0;
const PAUSED: u8 = 1;
const ENDED: u8 = 2;

/// The proxy has ended.
pub(super) struct Over;

/// An arm that waits until a socket is closed, and says why it was.
fn closing(socket: &Socket) -> impl Arm<Output = Error> {
    let lines = &socket.core().lines;
    lines.arm::<WATCHERS, _, _>(|state| state.closed.is_some(), |state| state.closed.clone())
}

/// Steers a proxy; see the file head.
pub(super) struct Steering {
    /// All sockets of the proxy, four at most.
    sockets: Vec<Socket>,
    /// That of the first, which names the proxy to those who look.
    id: u64,
    mode: Lines<Mode, 1>,
    /// [`Mode`] for a quick look; set with its lock held.
    flag: AtomicU8,
}

impl Steering {
    pub(super) fn new(sockets: Vec<Socket>) -> Self {
        Self {
            id: sockets.first().map_or(0, |socket| socket.core().id),
            sockets,
            mode: Lines::new(Mode::Running),
            flag: AtomicU8::new(RUNNING),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode.lock().clone()
    }

    /// Waits until the proxy has ended, or one of its sockets, at which perhaps no pump waits.
    pub(super) fn wait_for_the_end(&self) {
        let closing = |place| self.sockets.get(place).map(closing);
        let over = |mode: &Mode| matches!(mode, Mode::Ended(_));
        let why = select! {
            () = self.mode.arm::<0, _, _>(over, move |mode| over(mode).then_some(())) => return,
            why = closing(0) => why,
            why = closing(1) => why,
            why = closing(2) => why,
            why = closing(3) => why,
        };
        self.end(Err(why));
    }

    /// Waits for a mode.
    fn wait(&self, is: fn(&Mode) -> bool) {
        let reason = WaitReason::new(WaitKind::Other("steering of a zmq proxy"), self.id);
        let waited = self
            .mode
            .wait::<0, _>(reason, || None, |mode| is(mode).then_some(()));
        if let Err(WaitError::TimedOut | WaitError::Unwinding) = waited {
            self.end(Err(Error::Unwinding));
        }
    }

    /// Changes the mode, unless it has ended.
    pub(super) fn set(&self, mode: Mode) {
        let mut guard = self.mode.lock();
        if matches!(*guard, Mode::Ended(_)) {
            return;
        }
        let flag = match &mode {
            Mode::Running => RUNNING,
            Mode::Paused => PAUSED,
            Mode::Ended(_) => ENDED,
        };
        *guard = mode;
        self.flag.store(flag, Relaxed);
        guard.held().wake_all(0);
        drop(guard);
        for socket in &self.sockets {
            let mut guard = socket.core().lines.lock();
            let mut held = guard.held();
            held.wake_all(READERS);
            held.wake_all(WRITERS);
        }
    }

    pub(super) fn end(&self, how: Result<(), Error>) {
        self.set(Mode::Ended(how));
    }

    /// Tries until it succeeds, in line `L` of a socket. A socket that fails ends the proxy, but for
    /// what `keep` wants to know. Only the end counts for those to whom `pauses` does not matter.
    #[inline]
    pub(super) fn until<const L: usize, R>(
        &self,
        socket: &SocketCore,
        pauses: bool,
        keep: fn(&Error) -> bool,
        mut f: impl FnMut(&mut State) -> Result<R, Stop>,
    ) -> Result<Result<R, Error>, Over> {
        let stops = |flag| {
            if pauses {
                flag != RUNNING
            } else {
                flag == ENDED
            }
        };
        loop {
            let outcome = socket.attempt::<L, _>(Limit::Ever, |state| {
                if stops(self.flag.load(Relaxed)) {
                    return Ok(None);
                }
                f(state).map(Some)
            });
            match outcome {
                Ok(Some(outcome)) => return Ok(Ok(outcome)),
                Ok(None) if self.flag.load(Relaxed) == ENDED => return Err(Over),
                Ok(None) => self.wait(|mode| !matches!(mode, Mode::Paused)),
                Err(e) if keep(&e) => return Ok(Err(e)),
                Err(e) => {
                    self.end(Err(e));
                    return Err(Over);
                }
            }
        }
    }
}

/// Ends the proxy with its runner, if nobody did before.
pub(super) struct EndOnDrop<'a>(pub(super) &'a Steering);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end(Err(Error::Unwinding));
    }
}
