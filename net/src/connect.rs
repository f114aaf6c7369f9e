//! Connecting to a host that has several addresses: Happy Eyeballs (RFC 8305), on one task.
//!
//! An *attempt* is a socket that is being connected. The next one begins when the last has had
//! [`ATTEMPT_DELAY`], or when one fails; the first that is connected wins, and the drop of the
//! others closes them. Nothing but the race owns them: a kill or a time-out leaves nothing behind.
//!
//! ```text
//!        begin -> (connected at once) won
//!          |  \-> (failed) begin the next, or all have failed
//!        wait  -> (connected) won     (failed, or the delay is over) begin     (deadline) over
//! ```
//!
//! Of RFC 8305 the half about names (section 3) is not here: `getaddrinfo` gives both families in
//! one answer, and sorts them (section 4), so there is nothing to begin with before it is complete.
//!
//! Rejected: a task for each attempt (a stack and two switches each, and a race with the kill of
//! those who lost); one attempt after the other (each black hole takes the kernel two minutes).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use std::vec;

use sward_runtime::__private::{AnyArm, Tried, select_any};
use sward_runtime::io::{Direction, Limit, Source};
use sward_runtime::sync::at;
use sward_runtime::{TimedOut, now, sleep, timeout_at};

use crate::addr::ToSocketAddrs;
use crate::backoff::Backoff;
use crate::fault;
use crate::socket;

/// How long an attempt has before the next one begins beside it: what RFC 8305 section 8 advises;
/// less than 100 ms would do harm in slow networks.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of the addresses that answers, by sockets that `open` makes (non-blocking
/// ones). The deadline is for the look-up of names too.
pub(crate) fn connect(
    addr: impl ToSocketAddrs,
    deadline: Option<Instant>,
    open: impl FnMut(&SocketAddr) -> io::Result<OwnedFd>,
) -> io::Result<Source<TcpStream>> {
    let addresses = match deadline {
        None => addr.to_socket_addrs(),
        Some(at) => timeout_at(at, || addr.to_socket_addrs()).unwrap_or_else(|TimedOut| {
            let text = "connect: the time was over before the name was looked up";
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }),
    };
    race(addresses?, deadline, open)
}

/// As [`connect`], with addresses.
pub(crate) fn race(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Option<Instant>,
    open: impl FnMut(&SocketAddr) -> io::Result<OwnedFd>,
) -> io::Result<Source<TcpStream>> {
    let race = Race {
        rest: interleaved(addresses.collect()).into_iter(),
        open,
        deadline,
        begun: Vec::new(),
        failed: Vec::new(),
    };
    race.run()
}

/// Attempts again and again until the backoff ends, whose deadline each attempt is given.
pub(crate) fn retry<T>(
    mut backoff: Backoff,
    mut attempt: impl FnMut(Option<Instant>) -> io::Result<T>,
) -> io::Result<T> {
    let begun = now();
    let deadline = backoff.deadline();
    let is_over = || deadline.is_some_and(|deadline| deadline <= now());
    let mut attempts = 0;
    let mut before: Option<io::Error> = None;
    loop {
        let error = match attempt(deadline) {
            Ok(done) => return Ok(done),
            Err(e) => e,
        };
        attempts += 1;
        // What is no address will not become one. In a task that unwinds no attempt succeeds.
        if error.kind() == io::ErrorKind::InvalidInput || std::thread::panicking() {
            return Err(error);
        }
        let pause = backoff.next();
        if let Some(pause) = pause {
            sleep(pause);
        }
        if pause.is_none() || is_over() {
            let mut text = format!("{error} (attempt {attempts}, after {:.1?}", now() - begun);
            // The limit has cut this one short; the one before may say what is the matter.
            if let (io::ErrorKind::TimedOut, Some(before)) = (error.kind(), before) {
                text += &format!("; the one before: {before}");
            }
            return Err(io::Error::new(error.kind(), text + ")"));
        }
        before = Some(error);
    }
}

struct Race<O> {
    rest: vec::IntoIter<SocketAddr>,
    open: O,
    deadline: Option<Instant>,
    /// Neither connected nor failed yet.
    begun: Vec<Attempt>,
    failed: Vec<(SocketAddr, io::Error)>,
}

struct Attempt {
    address: SocketAddr,
    source: Source<TcpStream>,
    begun: Instant,
}

/// What a wait has come to.
enum Event {
    /// Something has happened to that attempt.
    Attempt(usize, io::Result<()>),
    NextIsDue,
    Over,
}

impl<O: FnMut(&SocketAddr) -> io::Result<OwnedFd>> Race<O> {
    fn run(mut self) -> io::Result<Source<TcpStream>> {
        // When the next attempt begins; `None`: at once.
        let mut next = None;
        loop {
            while next.is_none()
                && let Some(address) = self.rest.next()
            {
                match self.begin(address) {
                    Ok(Some(connected)) => return Ok(connected),
                    Ok(None) => next = now().checked_add(ATTEMPT_DELAY),
                    Err(e) => self.failed.push((address, e)),
                }
            }
            if self.begun.is_empty() {
                return Err(self.explain(false));
            }
            match self.wait(next.filter(|_| self.rest.len() > 0)) {
                Event::NextIsDue => next = None,
                Event::Over => return Err(self.explain(true)),
                Event::Attempt(i, Ok(())) => return Ok(self.begun.swap_remove(i).source),
                Event::Attempt(_, Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                Event::Attempt(i, Err(e)) => {
                    self.failed.push((self.begun.remove(i).address, e));
                    next = None;
                }
            }
        }
    }

    /// Begins an attempt; returns the socket if it is connected at once.
    fn begin(&mut self, address: SocketAddr) -> io::Result<Option<Source<TcpStream>>> {
        let source = Source::from_nonblocking(TcpStream::from((self.open)(&address)?));
        match source.try_io(Direction::Write, |s| step(s, &address)) {
            Ok(()) => Ok(Some(source)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.begun.push(Attempt {
                    address,
                    source,
                    begun: now(),
                });
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn wait(&self, next: Option<Instant>) -> Event {
        let alone = self.begun.len() == 1 && next.is_none();
        // A task that unwinds may not park, and is told so by each attempt.
        if alone || std::thread::panicking() {
            let limit = self.deadline.map_or(Limit::NONE, Limit::from);
            let Attempt {
                address, source, ..
            } = &self.begun[0];
            let done = source.io(Direction::Write, limit, |s| step(s, address));
            let late = |e: &io::Error| e.kind() == io::ErrorKind::TimedOut;
            return match done {
                Err(e) if late(&e) && self.deadline.is_some_and(|d| d <= now()) => Event::Over,
                done => Event::Attempt(0, done),
            };
        }
        let sources = self.begun.iter().map(|attempt| &attempt.source);
        let mut attempts: Vec<_> = sources.map(|s| Tried::new(s.writing())).collect();
        let (mut next, mut over) = (Tried::new(next.map(at)), Tried::new(self.deadline.map(at)));
        let mut arms: Vec<&mut dyn AnyArm> = vec![&mut over, &mut next];
        arms.extend(attempts.iter_mut().map(|arm| arm as &mut dyn AnyArm));
        match select_any(&mut arms, false, false).unwrap_or(1) {
            0 => Event::Over,
            1 => Event::NextIsDue,
            n => {
                let i = n - 2;
                let ready = attempts.swap_remove(i).into_output().unwrap_or(Ok(()));
                let Attempt {
                    address, source, ..
                } = &self.begun[i];
                let try_it = |()| source.try_io(Direction::Write, |s| step(s, address));
                Event::Attempt(i, ready.and_then(try_it))
            }
        }
    }

    /// Why there is no connection: a line for each address.
    #[cold]
    fn explain(mut self, over: bool) -> io::Error {
        let kind = match self.failed.last() {
            _ if over => io::ErrorKind::TimedOut,
            Some((_, e)) => e.kind(),
            None => {
                let text = "there is no address to connect to";
                return io::Error::new(io::ErrorKind::InvalidInput, text);
            }
        };
        let late = |what: String| io::Error::new(io::ErrorKind::TimedOut, what);
        for attempt in &self.begun {
            let e = late(format!("no answer in {:.1?}", now() - attempt.begun));
            self.failed.push((attempt.address, e));
        }
        let not_tried = |address| (address, late("not tried, the time was over".to_owned()));
        self.failed.extend(self.rest.map(not_tried));
        if self.failed.len() == 1
            && let Some((address, e)) = self.failed.pop()
        {
            return fault::at("connect to", address, e);
        }
        let mut text = format!("cannot connect to any of {} addresses:", self.failed.len());
        for (address, e) in self.failed {
            text += &format!("\n{address}: {e}");
        }
        io::Error::new(kind, text)
    }
}

/// Begins to connect, or asks how it goes; `WouldBlock`: it goes on.
fn step(socket: &TcpStream, address: &SocketAddr) -> io::Result<()> {
    socket::connect_step(socket, address)?;
    // Where nobody listens, the kernel may choose the very port as this end's own, and TCP allows
    // that. Kept, it would also keep the one from listening that is waited for.
    if address.ip().is_loopback() && socket.local_addr()? == *address {
        let text = "nobody listens there: the socket was connected to itself";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
    }
    Ok(())
}

/// Takes the families in turns, beginning with that of the first address, and keeps the order
/// within each (RFC 8305 section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if addresses.len() < 3 {
        return addresses;
    }
    let first = addresses[0].is_ipv6();
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == first);
    let mut turns = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    while first.len() + second.len() > 0 {
        turns.extend(first.next());
        turns.extend(second.next());
    }
    turns
}

#[cfg(test)]
mod tests {
    use rustix::net::{SocketType, bind, sockopt};

    use super::*;

    #[test]
    fn families_take_turns() {
        let order = |text: &str| {
            let parse = |word: &str| format!("{word}:1").parse().unwrap();
            let turns = interleaved(text.split_whitespace().map(parse).collect());
            let name = |a: &SocketAddr| a.ip().to_string();
            turns.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let cases = [
            ("", ""),
            ("1.0.0.1", "1.0.0.1"),
            ("1.0.0.1 [::1]", "1.0.0.1 ::1"),
            ("[::1] [::2] [::3] 1.0.0.1", "::1 1.0.0.1 ::2 ::3"),
            (
                "1.0.0.1 1.0.0.2 [::1] [::2] [::3]",
                "1.0.0.1 ::1 1.0.0.2 ::2 ::3",
            ),
            ("[::1] [::2] [::3]", "::1 ::2 ::3"),
        ];
        for (addresses, turns) in cases {
            assert_eq!(order(addresses), turns);
        }
    }

    #[test]
    fn a_socket_connected_to_itself_is_refused() {
        // A port that is free: its listener is gone when it is used.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let bound = |a: &SocketAddr| {
            let fd = socket::new(a, SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            bind(&fd, a)?;
            Ok(fd)
        };
        let e = race([address].into_iter(), None, bound).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        assert!(e.to_string().contains("itself"), "{e}");
    }

    #[test]
    fn nothing_to_connect_to() {
        let open = |_: &SocketAddr| unreachable!();
        let e = race([].into_iter(), None, open).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    }
}
