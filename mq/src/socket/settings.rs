//! The options of a socket after it was made: read, and changed.
//!
//! | option | counts |
//! |---|---|
//! | `send_timeout`, `recv_timeout`, `linger` | at once |
//! | `send_hwm`, `recv_hwm` | at once, for connections that are there, too |
//! | those of a pattern (`router_...`, `req_...`, `xpub_...`, `xsub_...`, `stream_notify`, ...) | at once |
//! | all others | for later binds and connects |

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::core::{READERS, SocketCore, State, WATCHERS, WRITERS};
use super::dynamic::Socket;
use super::inproc_ends::set_marks;
use crate::error::Error;
use crate::options::Options;
use crate::pattern::PatternOptions;
use crate::pattern::conflate::conflates;
use crate::pipe::Slot;
use crate::session::Session;

impl SocketCore {
    fn configure(&self, change: &mut dyn FnMut(&mut Options)) -> Result<(), Error> {
        loop {
            let before = self.lines.lock().options.clone();
            let mut options = (*before).clone();
            change(&mut options);
            options.check()?;
            if self.apply(&before, options)? {
                return Ok(());
            }
        }
    }

    /// Takes over changed options. `false`: somebody else was faster.
    fn apply(&self, before: &Arc<Options>, options: Options) -> Result<bool, Error> {
        let mut guard = self.lines.lock();
        if let Some(why) = &guard.closed {
            return Err(why.clone());
        }
        let state = &mut *guard;
        if !Arc::ptr_eq(&state.options, before) {
            return Ok(false);
        }
        let marks = (options.send_hwm, options.recv_hwm);
        let other_marks = marks != (before.send_hwm, before.recv_hwm);
        self.set_time_outs(&options);
        let pattern = PatternOptions::from(&options);
        state.conflates |= options.conflate && conflates(self.kind);
        state.options = Arc::new(options);
        state.pattern.configure(&pattern, &mut state.pipes);
        if other_marks {
            state.set_marks(marks);
        }
        // A REQ that has become relaxed may send, a queue that has become longer has room.
        let mut held = guard.held();
        held.room += 1;
        for line in [READERS, WRITERS, WATCHERS] {
            held.wake_all(line);
        }
        drop(guard);
        self.after(true);
        Ok(true)
    }
}

impl State {
    fn set_marks(&mut self, (send, recv): (usize, usize)) {
        if self.conflates {
            // One message is the mark.
            return;
        }
        for dialer in self.ends.dialers.values() {
            dialer.session.set_hwm(send, recv);
        }
        let slots: Vec<Slot> = self.pipes.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            set_marks(&self.pipes[slot], (send, recv));
            let pipe: &dyn Any = &*self.pipes[slot].pipe;
            if let Some(session) = pipe.downcast_ref::<Arc<Session>>() {
                session.set_hwm(send, recv);
            }
            // It looks itself whether there is room.
            self.pattern.writable(&mut self.pipes, slot);
        }
    }
}

impl Socket {
    /// Returns the options as they are now.
    pub fn options(&self) -> Options {
        (*self.core().lines.lock().options).clone()
    }

    /// Changes options (`zmq_setsockopt`): all that `change` sets together, or none.
    ///
    /// Time-outs, [`linger`](Options::linger), high-water marks and what belongs to one kind of
    /// socket (ROUTER, REQ, PUB, SUB, STREAM) count at once; all others for later binds and connects.
    /// `conflate` can be switched on for those, not off again. `change` is called again if somebody else changes options meanwhile.
    ///
    /// # Errors
    /// When an option has a wrong value, or the socket is closed; nothing is changed then.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::Router;
    /// let router = Router::new()?;
    /// router.configure(|options| {
    ///     options.router_mandatory = true;
    ///     options.send_hwm = 10;
    /// })?;
    /// assert!(router.options().router_mandatory);
    /// let wrong = router.configure(|options| options.backlog = 0);
    /// assert!(wrong.unwrap_err().to_string().contains("backlog"));
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn configure(&self, mut change: impl FnMut(&mut Options)) -> Result<(), Error> {
        self.core().configure(&mut change)
    }

    /// Sets [`Options::send_timeout`] (`SNDTIMEO`): how long a send waits.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn set_send_timeout(&self, limit: impl Into<Option<Duration>>) -> Result<(), Error> {
        let limit = limit.into();
        self.configure(|options| options.send_timeout = limit)
    }

    /// Sets [`Options::recv_timeout`] (`RCVTIMEO`): how long a receive waits.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn set_recv_timeout(&self, limit: impl Into<Option<Duration>>) -> Result<(), Error> {
        let limit = limit.into();
        self.configure(|options| options.recv_timeout = limit)
    }

    /// Sets [`Options::linger`] (`LINGER`): how long what is unsent is still sent after the end.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn set_linger(&self, limit: impl Into<Option<Duration>>) -> Result<(), Error> {
        let limit = limit.into();
        self.configure(|options| options.linger = limit)
    }
}
