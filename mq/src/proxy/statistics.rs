//! What a proxy has moved: counters that the pumps write, and what users and control sockets get of
//! them. Each number has one writer; whoever reads them takes no lock and sees each as it is just
//! then.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sward_zmtp::{Frame, Message};

/// What a proxy has moved at one of its sockets. A message of several frames is one (libzmq 4.3.5
/// counts its frames); its bytes are those of all frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ProxyTraffic {
    pub received: u64,
    pub received_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
}

/// What a proxy has moved.
///
/// As a message it is libzmq's answer to STATISTICS: eight frames of eight bytes in the order of the
/// fields, the first socket's first, in the byte order of the machine.
///
/// # Examples
/// ```
/// use sward_mq::{Message, ProxyStatistics};
/// let mut statistics = ProxyStatistics::default();
/// statistics.backend.sent_bytes = 7;
/// let message = Message::from(&statistics);
/// assert_eq!((message.len(), &message[7][..]), (8, &7u64.to_ne_bytes()[..]));
/// assert_eq!(ProxyStatistics::from_message(&message), Some(statistics));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyStatistics {
    /// At the first socket.
    pub frontend: ProxyTraffic,
    /// At the second.
    pub backend: ProxyTraffic,
    /// Messages that were received and refused by the other socket: nobody has the routing id of a
    /// mandatory ROUTER, it has not the form that the socket needs, the proxy ended while it waited.
    /// Not part of the message.
    pub lost: u64,
}

impl ProxyStatistics {
    /// Reads the answer of a proxy, ours or libzmq's; `None` if it is not one.
    pub fn from_message(message: &Message) -> Option<Self> {
        let mut numbers = [0; 8];
        if message.len() != numbers.len() {
            return None;
        }
        for (number, frame) in numbers.iter_mut().zip(message) {
            *number = u64::from_ne_bytes(frame.as_slice().try_into().ok()?);
        }
        let traffic = |[received, received_bytes, sent, sent_bytes]: [u64; 4]| ProxyTraffic {
            received,
            received_bytes,
            sent,
            sent_bytes,
        };
        let [a, b, c, d, rest @ ..] = numbers;
        Some(Self {
            frontend: traffic([a, b, c, d]),
            backend: traffic(rest),
            lost: 0,
        })
    }
}

impl From<&ProxyStatistics> for Message {
    fn from(statistics: &ProxyStatistics) -> Self {
        let sides = [&statistics.frontend, &statistics.backend];
        let numbers = sides.map(|t| [t.received, t.received_bytes, t.sent, t.sent_bytes]);
        numbers
            .concat()
            .into_iter()
            .map(|n| Frame::from(n.to_ne_bytes()))
            .collect()
    }
}

/// What went one way: messages and bytes received at its beginning and sent at its end.
#[derive(Default)]
pub(super) struct Counts {
    received: AtomicU64,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    #[inline]
    pub(super) fn received(&self, bytes: u64) {
        add(&self.received, 1);
        add(&self.received_bytes, bytes);
    }

    #[inline]
    pub(super) fn sent(&self, bytes: u64) {
        add(&self.sent, 1);
        add(&self.sent_bytes, bytes);
    }

    pub(super) fn lost(&self) {
        add(&self.lost, 1);
    }
}

/// What went from the first socket to the second, and back.
pub(super) fn statistics(there: &Counts, back: &Counts) -> ProxyStatistics {
    let traffic = |came: &Counts, went: &Counts| ProxyTraffic {
        received: came.received.load(Relaxed),
        received_bytes: came.received_bytes.load(Relaxed),
        sent: went.sent.load(Relaxed),
        sent_bytes: went.sent_bytes.load(Relaxed),
    };
    ProxyStatistics {
        frontend: traffic(there, back),
        backend: traffic(back, there),
        lost: there.lost.load(Relaxed) + back.lost.load(Relaxed),
    }
}

/// Adds to a number that has one writer.
#[inline]
fn add(number: &AtomicU64, n: u64) {
    number.store(number.load(Relaxed).wrapping_add(n), Relaxed);
}
