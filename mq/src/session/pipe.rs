//! A session as its socket's pattern sees it.

use std::sync::Arc;

use bytes::Bytes;
use sward_runtime::sync::ShortGuard;
use sward_zmtp::Message;

use super::Session;
use super::inner::Inner;
use super::news::End;
use crate::pipe::{Leaver, Pipe};
use crate::traffic::Traffic;

/// Queues a message, and asks the driver to write if need be.
#[inline(always)]
fn queue(mut inner: ShortGuard<'_, Inner>, message: &Message) {
    inner.output.push(message);
    inner.traffic.messages_sent += 1;
    let ask = inner.pushed();
    drop(inner);
    if let Some(driver) = ask {
        driver.call();
    }
}

impl Pipe for Arc<Session> {
    #[inline]
    fn try_send(&mut self, message: &mut Message) -> bool {
        let mut inner = self.inner.lock();
        if !inner.make_room() {
            inner.blocked = true;
            return false;
        }
        queue(inner, message);
        true
    }

    fn send_last(&mut self, message: &mut Message) -> bool {
        queue(self.inner.lock(), message);
        true
    }

    #[inline]
    fn try_send_copy(&mut self, message: &Message, encoded: Option<&[u8]>) -> Option<usize> {
        let mut inner = self.inner.lock();
        if !inner.make_room() {
            inner.blocked = true;
            return None;
        }
        match encoded {
            Some(encoded) => inner.output.push_encoded(encoded),
            None => inner.output.push(message),
        }
        inner.traffic.messages_sent += 1;
        let ask = inner.pushed_copy();
        let room = inner.would_wait();
        drop(inner);
        if let Some(driver) = ask {
            driver.call();
        }
        Some(room)
    }

    fn send_gathered(&mut self, encoded: &Bytes, messages: usize) -> usize {
        let mut inner = self.inner.lock();
        inner.output.push_shared(encoded, messages);
        inner.traffic.messages_sent += messages as u64;
        let ask = inner.pushed_piece();
        let room = inner.would_wait();
        drop(inner);
        if let Some(driver) = ask {
            driver.call();
        }
        room
    }

    fn send_subscription(&mut self, message: Message) {
        let mut inner = self.inner.lock();
        let inner_ = &mut *inner;
        let Some(link) = &mut inner_.link else { return };
        if !link.connection.is_ready() {
            return;
        }
        let Some((&first, topic)) = message.first().split_first() else {
            return;
        };
        link.connection
            .subscription(&mut inner_.output, first == 1, topic);
        inner_.traffic.messages_sent += 1;
        let ask = inner_.pushed();
        drop(inner);
        if let Some(driver) = ask {
            driver.call();
        }
    }

    fn probe(&mut self, number: u64) -> bool {
        let mut inner = self.inner.lock();
        let inner_ = &mut *inner;
        let Some(link) = inner_
            .link
            .as_mut()
            .filter(|link| link.connection.is_ready())
        else {
            return false;
        };
        if !link
            .connection
            .probe(&mut inner_.output, &number.to_be_bytes())
        {
            return false;
        }
        inner.probed = number;
        let ask = inner.pushed();
        drop(inner);
        if let Some(driver) = ask {
            driver.call();
        }
        true
    }

    fn has_room(&mut self) -> bool {
        let mut inner = self.inner.lock();
        let room = inner.make_room();
        inner.blocked |= !room;
        room
    }

    #[inline]
    fn try_recv(&mut self, into: &mut Message) -> bool {
        let mut inner = self.inner.lock();
        inner.read_since = true;
        match inner.next_message(into) {
            Ok(true) => {
                inner.traffic.messages_received += 1;
                if let Some(driver) = inner.owes() {
                    drop(inner);
                    driver.call();
                }
                return true;
            }
            Ok(false) => {
                inner.starved = true;
                if let Some(driver) = inner.owes() {
                    drop(inner);
                    driver.call();
                }
            }
            Err(end) => {
                inner.fail(end);
                inner.starved = true;
                let handle = inner.link.as_ref().and_then(|link| link.driver.clone());
                drop(inner);
                if let Some(handle) = handle {
                    handle.call();
                }
            }
        }
        false
    }

    fn close(&mut self, flush: bool) {
        if flush {
            self.finish();
        } else {
            self.end(End::Asked);
        }
    }

    fn refuse(&mut self, why: &'static str) {
        self.end(End::Unwanted(why));
    }

    fn flush(&mut self) {
        Session::flush(self);
    }

    fn linger(&mut self) -> Option<Leaver> {
        self.retire().then(|| self.clone() as Leaver)
    }

    fn again(&mut self) {
        self.inner.lock().starved = true;
        self.ask();
    }

    fn depths(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.unsent(), inner.ready.len())
    }

    fn traffic(&self) -> Traffic {
        self.inner.lock().traffic
    }
}
