//! The two sides of channels and queues as arms of a `select!`.
//!
//! A putting arm's value lies in its node, as that of a blocked sender does, and comes back to the
//! arm if another one is chosen.

use std::fmt;
use std::marker::PhantomData;

use super::exchange::{Exchange, Owner, State};
use super::order::Buffer;
use super::refusal::{Nothing, Refusal};
use super::select::{Arm, Slot};
use super::wait_queue::{Settled, Ticket};

/// An arm that brings a value: a channel's `sending`, a queue's `putting`.
#[must_use = "an arm does nothing outside of select!"]
pub(crate) struct Putting<'a, B: Buffer, O, E> {
    exchange: &'a Exchange<B, O>,
    /// There while the arm is not in line.
    value: Option<B::Value>,
    place: Option<Ticket>,
    error: PhantomData<fn() -> E>,
}

/// An arm that takes a value: a channel's `receiving`, a queue's `getting`.
#[must_use = "an arm does nothing outside of select!"]
pub(crate) struct Taking<'a, B: Buffer, O, E> {
    exchange: &'a Exchange<B, O>,
    place: Option<Ticket>,
    error: PhantomData<fn() -> E>,
}

impl<B: Buffer, O: Owner> Exchange<B, O> {
    pub(crate) fn putting<E>(&self, value: B::Value) -> Putting<'_, B, O, E> {
        Putting {
            exchange: self,
            value: Some(value),
            place: None,
            error: PhantomData,
        }
    }

    pub(crate) fn taking<E>(&self) -> Taking<'_, B, O, E> {
        Taking {
            exchange: self,
            place: None,
            error: PhantomData,
        }
    }
}

impl<B: Buffer, O> State<B, O> {
    /// Whether a receiver could take something now, from others than the select of `slot`.
    fn can_take(&self, slot: Slot<'_>) -> bool {
        self.ended || self.buffer.len() > 0 || slot.finds(&self.senders)
    }

    /// Whether a sender could put something now, for others than the select of `slot`.
    fn can_put(&self, slot: Slot<'_>) -> bool {
        self.shut || self.buffer.len() < self.capacity || slot.finds(&self.receivers)
    }
}

impl<B: Buffer, O: Owner, E: From<Refusal<B::Value>>> Arm for Putting<'_, B, O, E> {
    type Output = Result<(), E>;

    #[inline]
    fn attempt(&mut self) -> Option<Self::Output> {
        match self.exchange.try_put(self.value.take()?) {
            Ok(()) => Some(Ok(())),
            Err(Refusal::Full(value)) => {
                self.value = Some(value);
                None
            }
            Err(refusal) => Some(Err(refusal.into())),
        }
    }

    #[inline]
    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.exchange.state.lock();
        let ready = state.can_put(slot);
        self.place = Some(slot.queue_in(&mut state.senders, self.value.take()));
        ready
    }

    #[inline]
    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        let place = self.place.take()?;
        let settled = self.exchange.state.lock().senders.settle(place);
        match settled {
            Settled::Gone => chosen.then_some(Ok(())),
            // Chosen, and the value came back: it is closed.
            Settled::Delivered(value) if chosen => Some(Err(Refusal::Closed(value).into())),
            Settled::Delivered(value) => {
                self.value = Some(value);
                None
            }
            Settled::Waiting(value) => {
                self.value = value;
                None
            }
        }
    }
}

impl<B: Buffer, O: Owner, E: From<Nothing>> Arm for Taking<'_, B, O, E> {
    type Output = Result<B::Value, E>;

    #[inline]
    fn attempt(&mut self) -> Option<Self::Output> {
        match self.exchange.try_take() {
            Ok(value) => Some(Ok(value)),
            Err(Nothing::Empty) => None,
            Err(nothing) => Some(Err(nothing.into())),
        }
    }

    #[inline]
    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.exchange.state.lock();
        let ready = state.can_take(slot);
        self.place = Some(slot.queue_in(&mut state.receivers, None));
        ready
    }

    #[inline]
    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        let place = self.place.take()?;
        let settled = self.exchange.state.lock().receivers.settle(place);
        match settled {
            Settled::Delivered(value) => Some(Ok(value)),
            // Woken without a value: none will come.
            Settled::Gone if chosen => Some(Err(Nothing::Closed.into())),
            Settled::Gone | Settled::Waiting(_) => None,
        }
    }
}

impl<B: Buffer, O, E> fmt::Debug for Putting<'_, B, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Putting").finish_non_exhaustive()
    }
}

impl<B: Buffer, O, E> fmt::Debug for Taking<'_, B, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taking").finish_non_exhaustive()
    }
}
