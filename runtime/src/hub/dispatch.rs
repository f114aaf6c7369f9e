//! From the events that the poller gave to those who are told of them.
//!
//! This runs in the hub between slices and never on a task's stack: so a subscriber that tries to
//! wait is told that it is a callback (`Caller::Hub`), and what is woken here stands in the run
//! queue's fast line.

use std::time::Duration;

use super::poller::{After, BELL, Ready, Subscriber, Token};
use super::worker::{Mail, Published, WorkerShared};
use super::{Hub, Target, current};
use crate::clock::{self, Nanos};

impl Hub {
    /// Tells of the events that were fetched.
    pub(super) fn dispatch(&self) {
        if self.sleeper.borrow().is_empty() {
            return;
        }
        let events = self.sleeper.borrow_mut().take_events();
        let mut n = 0;
        for event in events.iter().filter(|event| event.token() != BELL) {
            n += 1;
            self.call(Token::from_word(event.token().0), Ready::of(event));
        }
        Published::add(&self.shared.published.events, n);
        self.sleeper.borrow_mut().put_events(events);
    }

    /// Calls who is registered with that token, if anybody is.
    pub(super) fn call(&self, token: Token, ready: Ready) {
        if let Some(subscriber) = self.shared.poller.find(token) {
            self.call_it(token, &*subscriber, ready);
        }
    }

    fn call_it(&self, token: Token, subscriber: &dyn Subscriber, ready: Ready) {
        match subscriber.call(ready) {
            After::Nothing => {}
            After::Again => self.shared.send(Mail::Call(token)),
            After::At(at) => self.set_timer(token, at),
            After::Closed(timer) => {
                timer.map(|key| self.timers.borrow_mut().cancel(key));
            }
        }
    }

    fn set_timer(&self, token: Token, at: Option<Nanos>) {
        let mut timers = self.timers.borrow_mut();
        let key = at.map(|at| timers.insert(at, Target::token(token)));
        match self.shared.poller.set_timer(token, key) {
            Ok(None) => {}
            Ok(Some(before)) => drop(timers.cancel(before)),
            Err(()) => drop(key.map(|key| timers.cancel(key))),
        }
    }

    /// The time that a subscriber had set has come.
    pub(super) fn fire_token(&self, token: Token) {
        if self.shared.poller.set_timer(token, None).is_ok() {
            self.call(token, Ready::DUE);
        }
    }

    /// Looks at the poller without sleeping where that may spare the sleep: once if there are
    /// other workers, whom a sleep concerns, and for as long as `busy_poll` says. `true`:
    /// something has come.
    pub(super) fn poll_before_sleep(&self) -> bool {
        let limit = self.rt.config.busy_poll;
        if limit.is_zero() {
            return self.rt.workers.len() > 1 && self.shared.poller.len() > 0 && self.poll_now();
        }
        let begun = clock::real_nanos();
        loop {
            if self.poll_now() || !self.shared.inbox.is_empty() || !self.rt.injector.is_empty() {
                return true;
            }
            let now = clock::real_nanos();
            let due = self
                .timers
                .borrow()
                .next_deadline()
                .is_some_and(|at| at <= now);
            if due || self.stop_at.get().is_some() {
                return due;
            }
            if now - begun >= u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX) {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    fn poll_now(&self) -> bool {
        let mut sleeper = self.sleeper.borrow_mut();
        Published::add(&self.shared.published.polls, 1);
        sleeper.poll(Some(Duration::ZERO));
        !sleeper.is_empty()
    }

    /// Ends all registrations with this worker; those who wait are woken to register elsewhere.
    pub(crate) fn close_poller(&self) {
        self.shared.poller.close();
    }
}

impl WorkerShared {
    /// Calls all drivers of this worker, which is stalled, as if they were ready, on the calling
    /// thread, which is not a worker (design R11).
    #[allow(dead_code, reason = "for the stall monitor")]
    pub(crate) fn drive_stalled(&self) {
        current::forbid_waiting(|| {
            self.poller.for_each(|subscriber| {
                subscriber.call_stalled();
                true
            });
        });
    }
}
