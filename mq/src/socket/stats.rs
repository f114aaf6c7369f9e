//! What a socket tells of itself: counters, queues, peers.
//!
//! Counters of messages and bytes are kept by the pipes; when one goes, they are added to what the
//! socket keeps of all that are gone.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use sward_runtime::Describe;

use super::core::{SocketCore, State};
use super::dynamic::Socket;
use crate::event::Event;
use crate::loss::Loss;
use crate::peer::Peer;
use crate::pipe::Slot;
use crate::session::Place;
use crate::traffic::Traffic;

/// A peer of a socket, and how it stands with it; see [`Socket::peers`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Who it is: routing id, kind of socket, address, endpoint, identity.
    pub peer: Peer,
    /// Since when it has been connected; `None`: the connection is lost and being made again.
    pub since: Option<Instant>,
    /// Messages that wait to be sent to it.
    pub to_send: usize,
    /// Messages of it that have been decoded, and wait to be received. More may still be encoded.
    pub to_receive: usize,
    /// What went over its connections.
    pub traffic: Traffic,
}

/// Counters of a socket; see [`Socket::stats`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SocketStats {
    /// Peers that are connected now.
    pub peers: usize,
    /// Messages that wait to be sent, to all peers together.
    pub to_send: usize,
    /// Messages that have been decoded, and wait to be received.
    pub to_receive: usize,
    /// What went over all connections, also those that are gone.
    pub traffic: Traffic,
    /// How often a send found no peer with room, although there were peers.
    pub full: u64,
    /// The last thing that went wrong with an endpoint or a connection.
    pub last_error: Option<Event>,
    losses: [u64; Loss::ALL.len()],
}

impl SocketStats {
    /// Returns how many messages were lost for one cause.
    pub fn lost(&self, cause: Loss) -> u64 {
        self.losses[cause.index()]
    }

    /// Returns each cause for which messages were lost, and how many.
    pub fn losses(&self) -> impl Iterator<Item = (Loss, u64)> {
        let all = Loss::ALL.into_iter().zip(self.losses);
        all.filter(|(_, count)| *count > 0)
    }

    /// Returns how many messages were lost.
    pub fn lost_messages(&self) -> u64 {
        self.losses.iter().sum()
    }
}

impl fmt::Display for SocketStats {
    /// On one line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.traffic;
        write!(
            f,
            "{} peers, {} messages sent ({} bytes), {} received ({} bytes), {} wait to be sent, {} \
             to be received, no room {} times",
            self.peers,
            t.messages_sent,
            t.bytes_sent,
            t.messages_received,
            t.bytes_received,
            self.to_send,
            self.to_receive,
            self.full
        )?;
        for (cause, count) in self.losses() {
            write!(f, ", {count} lost ({cause})")?;
        }
        if let Some(event) = &self.last_error {
            write!(f, ", last error: {event}")?;
        }
        Ok(())
    }
}

impl Describe for SocketCore {
    /// Its kind, number and endpoints, for dumps.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let endpoints = self.lines.lock().ends.endpoints();
        write!(f, "{} socket {}", self.kind, self.id)?;
        for (i, endpoint) in endpoints.iter().take(SHOWN).enumerate() {
            let before = if i == 0 { " at" } else { "," };
            write!(f, "{before} {endpoint}")?;
        }
        match endpoints.len() {
            0 => f.write_str(", neither bound nor connected"),
            n if n > SHOWN => write!(f, " and {} more", n - SHOWN),
            _ => Ok(()),
        }
    }
}

impl State {
    /// Who is at the other end of a pipe.
    pub(super) fn peer_at(&mut self, slot: Slot) -> Peer {
        let routing_id = self.pattern.routing_id(slot);
        let entry = self.pipes.get_mut(slot);
        let generation = entry.as_ref().map_or(0, |entry| entry.generation);
        let place = Place { slot, generation };
        Peer::new(
            entry.and_then(|entry| entry.peer.clone()),
            routing_id,
            place,
        )
    }
}

impl SocketCore {
    fn peers(&self) -> Vec<PeerStatus> {
        self.hand_over();
        let mut state = self.lines.lock();
        let known = state
            .pipes
            .iter()
            .filter(|(_, entry)| entry.peer.is_some() && !entry.ended);
        let slots: Vec<Slot> = known.map(|(slot, _)| slot).collect();
        let status = |slot| {
            let peer = state.peer_at(slot);
            let entry = &state.pipes[slot];
            let (to_send, to_receive) = entry.pipe.depths();
            PeerStatus {
                peer,
                since: entry.since,
                to_send,
                to_receive,
                traffic: entry.pipe.traffic(),
            }
        };
        slots.into_iter().map(status).collect()
    }

    fn stats(&self) -> SocketStats {
        self.hand_over();
        let state = self.lines.lock();
        let mut stats = SocketStats {
            peers: state.pipes.connected(),
            to_send: 0,
            to_receive: 0,
            traffic: state.traffic,
            full: self.full.load(Relaxed),
            last_error: state.last_error.clone(),
            losses: std::array::from_fn(|i| self.losses[i].load(Relaxed)),
        };
        for (_, entry) in state.pipes.iter() {
            let (to_send, to_receive) = entry.pipe.depths();
            stats.to_send += to_send;
            stats.to_receive += to_receive;
            stats.traffic += entry.pipe.traffic();
        }
        stats
    }
}

impl Socket {
    /// Returns who is connected, and who was and is being connected again.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::{Pull, Push, SocketType};
    /// let pull = Pull::bound("tcp://127.0.0.1:*")?;
    /// let push = Push::connected(pull.last_endpoint().unwrap())?;
    /// pull.wait_connected(1, Duration::from_secs(5))?;
    /// let peers = pull.peers();
    /// assert_eq!(peers[0].peer.socket_type(), Some(SocketType::Push));
    /// assert!(peers[0].since.is_some());
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.core().peers()
    }

    /// Returns counters: queues, traffic, losses by cause, the last error.
    ///
    /// # Examples
    /// ```
    /// use sward_mq::{Loss, Pull, Push};
    /// let pull = Pull::bound("tcp://127.0.0.1:*")?;
    /// let push = Push::connected(pull.last_endpoint().unwrap())?;
    /// push.send("hello")?;
    /// pull.recv()?;
    /// let stats = pull.stats();
    /// assert_eq!(stats.traffic.messages_received, 1);
    /// assert_eq!(stats.lost(Loss::HighWaterMark), 0);
    /// # Ok::<(), sward_mq::Error>(())
    /// ```
    pub fn stats(&self) -> SocketStats {
        self.core().stats()
    }
}
