//! CONFLATE: of what waits only the newest message is kept, in each direction of each pipe.
//!
//! [`Conflated`] is a pipe around a pipe. Going out, a message that the inner pipe refuses is held
//! here, and replaced by the next. Coming in, the inner pipe is emptied at each edge, and the newest
//! message is kept. So patterns know nothing of it.
//!
//! The socket
//! - puts it around the pipes of types that [`conflates`] names, if the option is set;
//! - gives the inner pipes a high-water mark of 1: what the inner pipe has taken is not replaced, so
//!   a peer that comes back gets one old message and the newest. So it is at the end, too;
//! - calls [`Pipes::edge`](crate::pipe::Pipes::edge) before it tells the pattern of an edge.
//!
//! Rejected: to keep the newest in the patterns, which would cost all of them a test per message.

use sward_zmtp::{Message, SocketType};

use crate::pipe::{Leaver, Pipe};
use crate::traffic::Traffic;

/// Whether the option has an effect on sockets of this type (as in libzmq).
pub(crate) const fn conflates(kind: SocketType) -> bool {
    use SocketType::{Dealer, Pub, Pull, Push, Sub};
    matches!(kind, Dealer | Pub | Pull | Push | Sub)
}

/// See the file head.
pub(crate) struct Conflated {
    inner: Box<dyn Pipe>,
    out: Option<Message>,
    come: Option<Message>,
    replaced: usize,
}

impl Conflated {
    /// Keeps the newest of what goes through `inner`.
    pub(crate) fn new(inner: Box<dyn Pipe>) -> Self {
        Self {
            inner,
            out: None,
            come: None,
            replaced: 0,
        }
    }

    fn push(&mut self) {
        if let Some(held) = &mut self.out
            && self.inner.try_send(held)
        {
            self.out = None;
        }
    }

    /// Before the end.
    fn push_last(&mut self) {
        if let Some(held) = &mut self.out
            && self.inner.send_last(held)
        {
            self.out = None;
        }
    }

    fn pull(&mut self) {
        let mut message = Message::new();
        while self.inner.try_recv(&mut message) {
            let older = self.come.replace(std::mem::take(&mut message));
            self.replaced += usize::from(older.is_some());
        }
    }
}

impl Pipe for Conflated {
    fn try_send(&mut self, message: &mut Message) -> bool {
        // A held one is tried no more: what it lacked is told by an edge.
        if self.out.replace(std::mem::take(message)).is_some() {
            self.replaced += 1;
        } else {
            self.push();
        }
        true
    }

    fn send_subscription(&mut self, message: Message) {
        self.inner.send_subscription(message);
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn try_recv(&mut self, into: &mut Message) -> bool {
        self.pull();
        let Some(message) = self.come.take() else {
            return false;
        };
        *into = message;
        true
    }

    fn close(&mut self, flush: bool) {
        if flush {
            self.push_last();
        }
        self.replaced += usize::from(self.out.take().is_some());
        self.inner.close(flush);
    }

    fn refuse(&mut self, why: &'static str) {
        self.inner.refuse(why);
    }

    fn again(&mut self) {
        self.inner.again();
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn linger(&mut self) -> Option<Leaver> {
        self.push_last();
        self.inner.linger()
    }

    fn depths(&self) -> (usize, usize) {
        let (out, come) = self.inner.depths();
        (
            out + usize::from(self.out.is_some()),
            come + usize::from(self.come.is_some()),
        )
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }

    fn edge(&mut self) -> usize {
        self.push();
        self.pull();
        std::mem::take(&mut self.replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::super::make::pattern;
    use super::super::testing::{FakePipe, Far};
    use super::super::{PatternOptions, Refusal};
    use super::*;
    use crate::loss::Loss;
    use crate::pipe::Pipes;

    /// test_conflate: of 20 messages the last is received.
    #[test]
    fn the_newest_is_received() {
        let far = Far::new(1);
        let pipe = Conflated::new(Box::new(FakePipe(far.clone())));
        let mut pull = pattern(SocketType::Pull, &PatternOptions::default());
        let mut pipes = Pipes::default();
        let slot = pipes.insert(Box::new(pipe), None);
        pull.attach(&mut pipes, slot);
        let mut got = Message::new();
        assert_eq!(pull.recv(&mut pipes, &mut got), Err(Refusal::WouldBlock));
        for i in 0..20_u8 {
            far.lock().come([i].as_slice());
            pipes.edge(slot);
            pull.readable(&mut pipes, slot);
        }
        assert_eq!(pipes[slot].pipe.depths(), (0, 1));
        assert_eq!(pull.recv(&mut pipes, &mut got), Ok(slot));
        assert_eq!(got, [19_u8].as_slice().into());
        assert_eq!(pull.recv(&mut pipes, &mut got), Err(Refusal::WouldBlock));
        assert_eq!(pipes.effects.losses, [(Loss::Conflated, Some(slot)); 19]);
    }

    #[test]
    fn the_newest_is_sent() {
        let far = Far::new(1);
        let pipe = Conflated::new(Box::new(FakePipe(far.clone())));
        let mut push = pattern(SocketType::Push, &PatternOptions::default());
        let mut pipes = Pipes::default();
        let slot = pipes.insert(Box::new(pipe), None);
        push.attach(&mut pipes, slot);
        for i in 0..20_u8 {
            push.send(&mut pipes, &mut [i].as_slice().into()).unwrap();
        }
        assert_eq!(pipes[slot].pipe.depths(), (2, 0));
        assert_eq!(far.lock().take(), [Message::from([0_u8].as_slice())]);
        pipes.edge(slot);
        push.writable(&mut pipes, slot);
        assert_eq!(far.lock().take(), [Message::from([19_u8].as_slice())]);
        assert_eq!(pipes.effects.losses, [(Loss::Conflated, Some(slot)); 18]);
        push.send(&mut pipes, &mut "a".into()).unwrap();
        push.send(&mut pipes, &mut "b".into()).unwrap();
        far.lock().take();
        pipes[slot].pipe.close(true);
        assert_eq!(far.lock().take(), [Message::from("b")]);
        assert_eq!(far.lock().closed, Some(true));
    }
}
