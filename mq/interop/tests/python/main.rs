//! Our sockets against pyzmq and `zmq.green`, which run in a process of their own (`peer.py`).
//!
//! Ignored unless asked for, since the packages come from PyPI: `.ci/run pyzmq` installs them and runs
//! these; by hand: `SWARD_PYTHON=... cargo test -p sward-interop --test python -- --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]
#![allow(clippy::disallowed_types, reason = "locks of threads that never park")]
#![allow(unused_macros, reason = "each list of tests takes those it needs")]

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use support::ours::Sward;
use support::{Frames, Kind, Socket, Transport, World, id, within};

const ROUNDS: usize = 40;
const SIZES: [usize; 6] = [0, 1, 255, 256, 8192, 100_000];

/// What both sides send as their message number i.
fn message(i: usize) -> Frames {
    let frame = |j| vec![(i + j) as u8; SIZES[(7 * i + j) % SIZES.len()]];
    (0..i % 4 + 1).map(frame).collect()
}

fn with(before: &[&[u8]], frames: Frames, behind: &[&[u8]]) -> Frames {
    let owned = |parts: &[&[u8]]| parts.iter().map(|part| part.to_vec()).collect::<Frames>();
    [owned(before), frames, owned(behind)].concat()
}

/// The other process.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    input: Option<ChildStdin>,
}

impl Peer {
    fn start(library: &str, kind: &str, how: &str, endpoint: &str) -> Self {
        let python = std::env::var_os("SWARD_PYTHON").unwrap_or_else(|| {
            panic!(
                "SWARD_PYTHON names no python that has pyzmq and gevent; `.ci/run pyzmq` makes one"
            )
        });
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/peer.py");
        let mut child = Command::new(&python)
            .args([script, library, kind, how, endpoint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {python:?}: {e}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let input = child.stdin.take();
        Self {
            child,
            lines,
            input,
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        match self.lines.next() {
            Some(line) => line.unwrap(),
            None => panic!("the peer has ended: {:?}", self.child.wait()),
        }
    }

    fn finish(mut self) {
        assert_eq!(self.line(), "done");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What ours does, as the counterpart of that kind.
fn play(socket: &Socket, kind: Kind, peer: &mut Peer) {
    match kind {
        Kind::Req => {
            for i in 0..ROUNDS {
                socket.put(message(i));
                assert!(socket.take() == with(&[b"re"], message(i), &[]));
            }
        }
        Kind::Rep => {
            for i in 0..ROUNDS {
                let request = socket.take();
                assert!(request == message(i));
                socket.put(with(&[b"re"], request, &[]));
            }
        }
        Kind::Push => (0..ROUNDS).for_each(|i| socket.put(message(i))),
        Kind::Pull => (0..ROUNDS).for_each(|i| assert!(socket.take() == message(i))),
        Kind::Pub => {
            let told = std::thread::scope(|scope| {
                let reader = scope.spawn(|| peer.line());
                while !reader.is_finished() {
                    socket.put("probe");
                    sward_runtime::sleep(Duration::from_millis(5));
                }
                reader.join().unwrap()
            });
            assert_eq!(told, "subscribed");
            for i in 0..ROUNDS {
                socket.put(with(&[b"other"], message(i), &[]));
                socket.put(with(&[b"topic"], message(i), &[]));
            }
        }
        Kind::Sub => {
            socket.subscribe(b"probe").unwrap();
            socket.subscribe(b"topic").unwrap();
            assert_eq!(socket.one(), "probe");
            peer.input.take().unwrap().write_all(b"go\n").unwrap();
            for i in 0..ROUNDS {
                let mut got = socket.take();
                while got == [b"probe"] {
                    got = socket.take();
                }
                assert!(got == with(&[b"topic"], message(i), &[]));
            }
        }
        Kind::Dealer => {
            for i in 0..ROUNDS {
                socket.put(with(&[b"tag"], message(i), &[]));
            }
            for i in 0..ROUNDS {
                assert!(socket.take() == with(&[b"tag"], message(i), &[b"re"]));
            }
        }
        Kind::Router => {
            for i in 0..ROUNDS {
                let got = socket.take();
                assert!(got == with(&[b"python", b"tag"], message(i), &[]));
                socket.put(with(&[], got, &[b"re"]));
            }
        }
        _ => unreachable!(),
    }
}

/// Ours against one of theirs, over tcp and ipc, bound and connected.
fn against(library: &str, ours: Kind, theirs: &str) {
    for (transport, we_bind) in [
        (Transport::Tcp, true),
        (Transport::Ipc, false),
        (Transport::Tcp, false),
    ] {
        let name = format!("{library} {theirs} {transport:?}");
        within(&name, || {
            let w = World::new(
                transport,
                Box::new(Sward::default()),
                Box::new(Sward::default()),
            );
            let socket = w.subject(ours);
            if ours == Kind::Dealer {
                socket.with([id("sward")]);
            }
            let mut peer = if we_bind {
                Peer::start(library, theirs, "connect", &socket.listen(&w))
            } else {
                let mut peer = Peer::start(library, theirs, "bind", &w.wildcard());
                let endpoint = peer.line();
                socket.dial(&endpoint);
                peer
            };
            play(&socket, ours, &mut peer);
            peer.finish();
        });
    }
}

/// The name of a kind; `pub` is none of a function.
fn script(name: &str) -> &str {
    if name == "publisher" { "pub" } else { name }
}

macro_rules! peers {
    ($($name:ident: $ours:ident,)*) => {
        mod pyzmq {
            use super::*;
            $(
                #[test]
                #[ignore = "needs pyzmq: .ci/run pyzmq"]
                fn $name() {
                    against("zmq", Kind::$ours, script(stringify!($name)));
                }
            )*
        }
        mod green {
            use super::*;
            $(
                #[test]
                #[ignore = "needs pyzmq: .ci/run pyzmq"]
                fn $name() {
                    against("green", Kind::$ours, script(stringify!($name)));
                }
            )*
        }
    };
}

peers! {
    rep: Req,
    req: Rep,
    pull: Push,
    push: Pull,
    sub: Pub,
    publisher: Sub,
    router: Dealer,
    dealer: Router,
}
