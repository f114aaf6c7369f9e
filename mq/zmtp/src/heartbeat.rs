//! [`Pulse`]: finding out that a peer is gone, as data (RFC 37, section "Heartbeating").
//!
//! - Every `interval` a PING goes out, whether or not there is other traffic: the peer may count on
//!   the time to live in it.
//! - `unanswered` is when the oldest PING went out since which nothing was heard. `timeout` after
//!   that the connection ends. Whatever comes counts, a part of a frame too.
//! - `ttl` is what the last PING of the peer asked for. So long after the last byte that was heard,
//!   the connection ends.
//!
//! A peer of ZMTP 3.0 need not know PING. It gets them, as libzmq 4.2 says 3.0 and knows them, but
//! only one that has answered once has to answer again. Older peers get none.

use std::time::{Duration, Instant};

use crate::command::{self, PING};
use crate::error::Fault;
use crate::version::Version;

/// How a connection finds out that its peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// A PING is sent so often (`ZMQ_HEARTBEAT_IVL`).
    pub interval: Duration,
    /// The connection ends if nothing comes for so long after a PING (`ZMQ_HEARTBEAT_TIMEOUT`,
    /// whose default is the interval); it never does if this is zero.
    pub timeout: Duration,
    /// The peer is asked to end the connection if nothing comes from us for so long
    /// (`ZMQ_HEARTBEAT_TTL`): rounded down to 0.1 s, 6,553.5 s at most; zero does not ask for it.
    pub ttl: Duration,
}

impl Heartbeat {
    /// Returns heartbeats of this interval, with the same time-out, and no time to live.
    pub const fn every(interval: Duration) -> Self {
        Self {
            interval,
            timeout: interval,
            ttl: Duration::ZERO,
        }
    }

    /// The time to live in tenths of a second.
    pub(crate) fn wire_ttl(&self) -> u16 {
        u16::try_from(self.ttl.as_millis() / 100).unwrap_or(u16::MAX)
    }
}

#[derive(Debug)]
pub(crate) struct Pulse {
    heard: Instant,
    ping_at: Option<Instant>,
    unanswered: Option<Instant>,
    ttl: u16,
    must_answer: bool,
}

impl Pulse {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            heard: now,
            ping_at: None,
            unanswered: None,
            ttl: 0,
            must_answer: false,
        }
    }

    /// The handshake is complete, as of what was heard last.
    pub(crate) fn start(&mut self, config: Option<Heartbeat>, version: Version) {
        if version >= Version::V3_0 {
            self.ping_at = config.and_then(|c| self.heard.checked_add(c.interval));
            self.must_answer = version >= Version::V3_1;
        }
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered = None;
    }

    /// The peer answered a PING.
    pub(crate) fn answered(&mut self) {
        self.must_answer = true;
    }

    /// The peer asks for an end if nothing comes from it for `ttl` tenths of a second, unless 0.
    pub(crate) fn asked(&mut self, ttl: u16) {
        self.ttl = ttl;
    }

    fn ttl(&self) -> Duration {
        Duration::from_millis(u64::from(self.ttl) * 100)
    }

    fn dies_of_silence(&self, config: Option<Heartbeat>) -> Option<Instant> {
        let timeout = config.map(|c| c.timeout).filter(|t| !t.is_zero())?;
        self.unanswered
            .filter(|_| self.must_answer)?
            .checked_add(timeout)
    }

    fn dies_of_age(&self) -> Option<Instant> {
        (self.ttl > 0).then(|| self.heard.checked_add(self.ttl()))?
    }

    /// When `handle_timeout` has something to do.
    pub(crate) fn poll_timeout(&self, config: Option<Heartbeat>) -> Option<Instant> {
        let all = [
            self.ping_at,
            self.dies_of_silence(config),
            self.dies_of_age(),
        ];
        all.into_iter().flatten().min()
    }

    /// Appends a PING if it is time, but not to more than `limit` bytes.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        config: Option<Heartbeat>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if over(self.dies_of_silence(config)) {
            let time = config.map_or(Duration::ZERO, |c| c.timeout);
            return Err(Fault::HeartbeatTimedOut(time));
        }
        if over(self.dies_of_age()) {
            return Err(Fault::HeartbeatTimedOut(self.ttl()));
        }
        if over(self.ping_at)
            && let Some(config) = config
        {
            // From now on, not from when it should have been: a stalled thread does not catch up.
            self.ping_at = now.checked_add(config.interval.max(Duration::from_millis(1)));
            self.unanswered.get_or_insert(now);
            if out.len() < limit {
                command::write(PING, &[&config.wire_ttl().to_be_bytes()], out);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(start: Instant, tenths: u32) -> Instant {
        start + Duration::from_millis(100) * tenths
    }

    struct Beating {
        pulse: Pulse,
        config: Option<Heartbeat>,
        start: Instant,
        out: Vec<u8>,
    }

    impl Beating {
        fn new(config: Option<Heartbeat>, version: Version) -> Self {
            let start = Instant::now();
            let mut pulse = Pulse::new(start);
            pulse.start(config, version);
            let out = Vec::new();
            Self {
                pulse,
                config,
                start,
                out,
            }
        }

        /// Whether a PING goes out at this time.
        fn pings(&mut self, tenths: u32) -> Result<bool, Fault> {
            self.out.clear();
            let now = at(self.start, tenths);
            let result = self
                .pulse
                .handle_timeout(now, self.config, 1024, &mut self.out);
            result.map(|()| !self.out.is_empty())
        }

        fn next(&self) -> Option<Instant> {
            self.pulse.poll_timeout(self.config)
        }
    }

    #[test]
    fn a_ping_goes_out_at_each_interval_and_needs_an_answer() {
        let config = Heartbeat {
            timeout: SECOND * 3 / 2,
            ..Heartbeat::every(SECOND)
        };
        let mut b = Beating::new(Some(config), Version::V3_1);
        assert_eq!(b.next(), Some(at(b.start, 10)));
        assert_eq!(b.pings(9), Ok(false));
        assert_eq!(b.pings(10), Ok(true));
        assert_eq!(b.out, b"\x04\x07\x04PING\0\0");
        b.pulse.heard(at(b.start, 11));
        assert_eq!(b.pings(20), Ok(true));
        assert_eq!(b.pings(30), Ok(true));
        // The second PING does not put off the end.
        assert_eq!(b.next(), Some(at(b.start, 35)));
        assert_eq!(b.pings(35), Err(Fault::HeartbeatTimedOut(SECOND * 3 / 2)));
    }

    #[test]
    fn a_peer_of_3_0_must_answer_if_it_ever_did() {
        let config = Some(Heartbeat::every(SECOND));
        let mut b = Beating::new(config, Version::V3_0);
        assert_eq!(b.pings(10), Ok(true));
        assert_eq!(b.pings(1000), Ok(true));
        b.pulse.answered();
        assert!(b.pings(1010).is_err());
        assert_eq!(Beating::new(config, Version::V2_0).next(), None);
    }

    #[test]
    fn the_time_to_live_counts_from_the_last_byte_and_does_not_overflow() {
        let mut b = Beating::new(None, Version::V3_1);
        assert_eq!(b.next(), None);
        b.pulse.asked(u16::MAX);
        b.pulse.heard(at(b.start, 10));
        assert_eq!(b.next(), Some(at(b.start, 10 + 65_535)));
        assert_eq!(b.pings(10 + 65_534), Ok(false));
        let time = Duration::from_millis(6_553_500);
        assert_eq!(b.pings(10 + 65_535), Err(Fault::HeartbeatTimedOut(time)));
        b.pulse.asked(0);
        assert_eq!(b.next(), None);
    }

    #[test]
    fn ours_is_rounded_down_and_cut() {
        let ttl = |ttl| Heartbeat {
            ttl,
            ..Heartbeat::every(SECOND)
        };
        assert_eq!(ttl(Duration::from_millis(199)).wire_ttl(), 1);
        assert_eq!(ttl(Duration::from_millis(99)).wire_ttl(), 0);
        assert_eq!(ttl(Duration::from_secs(6553)).wire_ttl(), 65_530);
        assert_eq!(ttl(Duration::MAX).wire_ttl(), u16::MAX);
    }

    #[test]
    fn times_beyond_the_clock_never_come() {
        let config = Heartbeat {
            interval: Duration::MAX,
            timeout: Duration::MAX,
            ttl: Duration::MAX,
        };
        assert_eq!(Beating::new(Some(config), Version::V3_1).next(), None);
    }
}
