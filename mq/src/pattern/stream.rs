//! STREAM: raw TCP. `[id, bytes]` comes from a peer or goes to it; each pipe has single frames.
//!
//! - Each connection gets an id, or has one given by the user. With STREAM_NOTIFY `[id, empty]` tells
//!   of its begin, and of its end unless we ended it.
//! - Sending `[id, empty]` ends a connection: what was sent before goes out, what has come and was
//!   not received is dropped. To send to an unknown id is `Unroutable`, to a full peer `WouldBlock`;
//!   bytes are never dropped. A message that has not two frames is `Invalid`.

use sward_zmtp::{Frame, Message};

use super::addressed::Addressed;
use super::{Pattern, PatternOptions, Refusal, fill, lent};
use crate::pipe::{Pipes, Slot};

/// See the file head.
#[derive(Debug)]
pub(super) struct Stream {
    peers: Addressed,
    notify: bool,
}

impl Stream {
    pub(super) fn new(options: &PatternOptions) -> Self {
        Self {
            peers: Addressed::default(),
            notify: options.stream_notify,
        }
    }
}

impl Pattern for Stream {
    fn attach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.attach(pipes, slot);
        if pipes[slot].given_id.is_none() {
            self.peers.make_up(slot);
        }
    }

    fn connected(&mut self, pipes: &mut Pipes, slot: Slot) -> bool {
        if self.peers.identify(pipes, slot).is_err() {
            self.peers.silence(pipes, slot);
            return false;
        }
        self.peers.announce(slot, self.notify);
        true
    }

    fn disconnected(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.gone(pipes, slot, self.notify);
    }

    fn ended(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.gone(pipes, slot, self.notify);
        self.peers.ended(pipes, slot);
    }

    fn detach(&mut self, pipes: &mut Pipes, slot: Slot) {
        self.peers.detach(pipes, slot);
    }

    fn readable(&mut self, _: &mut Pipes, slot: Slot) {
        self.peers.readable(slot);
    }

    fn writable(&mut self, _: &mut Pipes, _: Slot) {}

    fn send(&mut self, pipes: &mut Pipes, message: &mut Message) -> Result<(), Refusal> {
        lent(message, |mut message| {
            if message.len() != 2 {
                return Err((Refusal::Invalid, message));
            }
            let Some(slot) = self.peers.slot_of(message.first()) else {
                return Err((Refusal::Unroutable, message));
            };
            if message.last().is_empty() {
                self.peers.silence(pipes, slot);
                pipes.effects.close(slot, true);
                return Ok(());
            }
            let id = message.pop_front().unwrap_or_default();
            pipes.send(slot, message).map_err(|mut back| {
                back.push_front(id);
                (Refusal::WouldBlock, back)
            })
        })
    }

    #[inline]
    fn recv(&mut self, pipes: &mut Pipes, into: &mut Message) -> Result<Slot, Refusal> {
        fill(into, || self.peers.recv(pipes).ok_or(Refusal::WouldBlock))
    }

    fn can_send(&mut self, pipes: &mut Pipes) -> bool {
        self.peers
            .reachable()
            .any(|slot| pipes[slot].pipe.has_room())
    }

    fn can_recv(&mut self, pipes: &mut Pipes) -> bool {
        self.peers.can_recv(pipes)
    }

    fn configure(&mut self, options: &PatternOptions, _: &mut Pipes) {
        self.notify = options.stream_notify;
    }

    fn routing_id(&self, slot: Slot) -> Option<Frame> {
        self.peers.routing_id(slot)
    }

    #[cfg(test)]
    fn slot_of(&self, routing_id: &[u8]) -> Option<Slot> {
        self.peers.slot_of(routing_id)
    }
}

#[cfg(test)]
mod tests {
    use sward_zmtp::SocketType;

    use super::super::testing::Bench;
    use super::*;

    fn stream() -> Bench {
        Bench::new(SocketType::Stream, &PatternOptions::default())
    }

    fn id(bench: &Bench, slot: Slot) -> Frame {
        bench.pattern.routing_id(slot).unwrap()
    }

    /// test_stream: connecting, data and disconnecting, each with the id of five bytes in front.
    #[test]
    fn a_connection_begins_and_ends_with_an_empty_frame() {
        let mut stream = stream();
        let slot = stream.accept("");
        let id = id(&stream, slot);
        assert_eq!((id.len(), id[0]), (5, 0));
        let notice = Message::from([id.clone(), Frame::empty()]);
        assert_eq!(stream.recv_from(), Ok((notice.clone(), slot)));
        stream.come(slot, "GET /");
        stream.come(slot, "\n\n");
        stream.end(slot);
        assert_eq!(
            stream.recv(),
            Ok(Message::from([id.clone(), "GET /".into()]))
        );
        assert_eq!(
            stream.recv(),
            Ok(Message::from([id.clone(), "\n\n".into()]))
        );
        assert!(stream.can_recv());
        assert_eq!(stream.recv_from(), Ok((notice, slot)));
        assert!(!stream.exists(slot));
        assert_eq!(stream.send([id, "late".into()]), Err(Refusal::Unroutable));
        assert_eq!(stream.recv(), Err(Refusal::WouldBlock));
    }

    /// test_stream_disconnect, test_stream_empty: an empty frame closes, once what was sent is out.
    #[test]
    fn an_empty_frame_closes() {
        let mut stream = stream();
        let slot = stream.accept("");
        let id = id(&stream, slot);
        stream.recv().unwrap();
        stream.send([id.clone(), "bye".into()]).unwrap();
        stream.come(slot, "not read");
        stream.send([id.clone(), Frame::empty()]).unwrap();
        assert_eq!(stream.closed, [(slot, true)]);
        assert_eq!(stream.sent(slot), [Message::from("bye")]);
        assert_eq!(
            stream.send([id.clone(), Frame::empty()]),
            Err(Refusal::Unroutable)
        );
        stream.end(slot);
        assert!(!stream.exists(slot));
        assert!(!stream.can_recv());
    }

    #[test]
    fn bytes_wait_and_are_never_dropped() {
        let mut stream = stream();
        stream.hwm = 1;
        let slot = stream.accept("");
        let id = id(&stream, slot);
        assert!(stream.can_send());
        stream.send([id.clone(), "a".into()]).unwrap();
        assert!(!stream.can_send());
        assert_eq!(
            stream.send([id.clone(), "b".into()]),
            Err(Refusal::WouldBlock)
        );
        assert_eq!(stream.sent(slot).len(), 1);
        stream.send([id.clone(), "b".into()]).unwrap();
        assert_eq!(stream.send(id.clone()), Err(Refusal::Invalid));
        assert_eq!(
            stream.send([id, "a".into(), "b".into()]),
            Err(Refusal::Invalid)
        );
        assert_eq!(stream.send(["nobody", "a"]), Err(Refusal::Unroutable));
        assert_eq!(stream.losses, []);
    }

    /// test_connect_rid: CONNECT_ROUTING_ID names the next connection.
    #[test]
    fn the_user_names_a_connection() {
        let mut stream = stream();
        let slot = stream.dial(Some("conn1"));
        stream.send(["conn1", "hi 1"]).unwrap();
        let other = stream.dial(Some("conn1"));
        assert!(!stream.up(other, b""));
        assert!(stream.up(slot, b""));
        assert_eq!(stream.recv(), Ok(["conn1", ""].into()));
        assert_eq!(stream.sent(slot), [Message::from("hi 1")]);
    }

    #[test]
    fn without_notices() {
        let mut stream = stream();
        stream.configure(|o| o.stream_notify = false);
        let slot = stream.accept("");
        assert!(!stream.can_recv());
        stream.come(slot, "a");
        stream.end(slot);
        assert_eq!(stream.recv().unwrap().last(), "a");
        assert_eq!(stream.recv(), Err(Refusal::WouldBlock));
        assert!(!stream.exists(slot));
    }

    /// A connection that is dialled again: its end comes behind what it had sent.
    #[test]
    fn notices_have_their_place_among_the_data() {
        let mut stream = stream();
        let slot = stream.dial(Some("x"));
        for (down, data) in [("1", "2"), ("3", "4")] {
            assert!(stream.up(slot, b""));
            stream.come(slot, down);
            stream.come(slot, data);
            stream.down(slot);
        }
        assert!(stream.up(slot, b""));
        stream.end(slot);
        let texts = std::iter::from_fn(|| {
            assert_eq!(stream.can_recv(), stream.exists(slot));
            stream.recv().ok()
        });
        let texts: Vec<_> = texts
            .map(|m| m.last().to_string_lossy().into_owned())
            .collect();
        assert_eq!(texts, ["", "1", "2", "", "", "3", "4", "", "", ""]);
        assert!(!stream.exists(slot));
    }
}
