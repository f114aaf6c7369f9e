//! A channel's ends as arms of a `select!`.
//!
//! A sending arm's value lies in its node, as that of a blocked sender does, and comes back to the
//! arm if another one is chosen.

use std::fmt;

use super::{Receiver, RecvError, SendError, Sender, State, TryRecvError, TrySendError};
use crate::sync::select::{Arm, Slot};
use crate::sync::wait_queue::{Settled, Ticket};

/// An arm that receives; see [`Receiver::receiving`].
#[must_use = "an arm does nothing outside of select!"]
pub struct Receiving<'a, T> {
    receiver: &'a Receiver<T>,
    place: Option<Ticket>,
}

/// An arm that sends; see [`Sender::sending`].
#[must_use = "an arm does nothing outside of select!"]
pub struct Sending<'a, T> {
    sender: &'a Sender<T>,
    /// There while the arm is not in line.
    value: Option<T>,
    place: Option<Ticket>,
}

impl<T> Receiver<T> {
    /// Returns an arm of a [`select!`](crate::select) that receives the oldest value.
    pub fn receiving(&self) -> Receiving<'_, T> {
        Receiving {
            receiver: self,
            place: None,
        }
    }
}

impl<T> Sender<T> {
    /// Returns an arm of a [`select!`](crate::select) that sends `value`; it is dropped if another
    /// arm is chosen.
    pub fn sending(&self, value: T) -> Sending<'_, T> {
        Sending {
            sender: self,
            value: Some(value),
            place: None,
        }
    }
}

impl<T> State<T> {
    /// Whether a receiver could take something now, from others than the select of `slot`.
    fn can_take(&self, slot: Slot<'_>) -> bool {
        !self.buffer.is_empty() || self.sender_handles == 0 || slot.finds(&self.senders)
    }

    /// Whether a sender could put something now, for others than the select of `slot`.
    fn can_put(&self, slot: Slot<'_>) -> bool {
        self.buffer.len() < self.capacity
            || self.receiver_handles == 0
            || slot.finds(&self.receivers)
    }
}

impl<T> Arm for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    #[inline]
    fn attempt(&mut self) -> Option<Self::Output> {
        match self.receiver.try_recv() {
            Ok(value) => Some(Ok(value)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(RecvError::Disconnected)),
        }
    }

    #[inline]
    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.receiver.channel.state.lock();
        let ready = state.can_take(slot);
        self.place = Some(slot.queue_in(&mut state.receivers, None));
        ready
    }

    #[inline]
    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        let place = self.place.take()?;
        let settled = self.receiver.channel.state.lock().receivers.settle(place);
        match settled {
            Settled::Delivered(value) => Some(Ok(value)),
            // Woken without a value: the last sender has gone.
            Settled::Gone if chosen => Some(Err(RecvError::Disconnected)),
            Settled::Gone | Settled::Waiting(_) => None,
        }
    }
}

impl<T> Arm for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn attempt(&mut self) -> Option<Self::Output> {
        match self.sender.try_send(self.value.take()?) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Full(value)) => {
                self.value = Some(value);
                None
            }
            Err(TrySendError::Disconnected(value)) => Some(Err(SendError::Disconnected(value))),
        }
    }

    #[inline]
    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        let mut state = self.sender.channel.state.lock();
        let ready = state.can_put(slot);
        self.place = Some(slot.queue_in(&mut state.senders, self.value.take()));
        ready
    }

    #[inline]
    fn leave(&mut self, chosen: bool) -> Option<Self::Output> {
        let place = self.place.take()?;
        let settled = self.sender.channel.state.lock().senders.settle(place);
        match settled {
            Settled::Gone => chosen.then_some(Ok(())),
            // Chosen, and the value came back: no receiver is left.
            Settled::Delivered(value) if chosen => Some(Err(SendError::Disconnected(value))),
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

impl<T> fmt::Debug for Receiving<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}
