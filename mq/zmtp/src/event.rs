//! [`Event`] and [`LargeBody`]: what a connection gives to its caller.

use crate::frame::Frame;
use crate::message::Message;
use crate::peer::PeerInfo;

/// What came from the peer.
#[derive(Debug)]
pub enum Event {
    /// The handshake is complete: messages may go.
    Ready(PeerInfo),
    /// A message.
    Message(Message),
    /// The peer subscribes to a topic. Only if our socket is PUB or XPUB.
    Subscribe(Frame),
    /// The peer cancels a subscription. Only if our socket is PUB or XPUB.
    Cancel(Frame),
    /// The peer has read everything that was sent before [`Connection::probe`](crate::Connection::probe)
    /// was given this context.
    Pong(Frame),
}

/// A large body that is under way; what is read may go straight into it.
#[derive(Debug)]
pub struct LargeBody<'a> {
    /// Where the bytes are to be appended; there is room for at least one.
    pub buffer: &'a mut Vec<u8>,
    /// How many bytes are missing. No more may be appended: what is too much is thrown away.
    pub missing: usize,
}
