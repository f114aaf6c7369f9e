//! Every legal pair of socket types, each of them ours and theirs, bound and connected, over tcp and
//! ipc: messages of one frame and of several, empty ones, and sizes around every limit of the wire.

use crate::support::{Frames, Kind, Sock, Transport, World, beside, settle, within};
use crate::{Who, library};

use Kind::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub};

const SIZES: [usize; 12] = [
    0,
    1,
    33,
    34,
    254,
    255,
    256,
    8191,
    8192,
    65_536,
    1 << 20,
    20 << 20,
];

/// Bytes of which each lot is different.
fn bytes(size: usize, salt: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251).map(|i| (i + salt) as u8).collect();
    let mut bytes = pattern.repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
}

/// The messages of a test: single, and with empty frames before, between and behind.
fn messages() -> Vec<Frames> {
    let mut all: Vec<Frames> = Vec::new();
    for (i, size) in SIZES.into_iter().enumerate() {
        all.push(vec![bytes(size, i)]);
        if size <= 1 << 20 {
            all.push(vec![bytes(size, i), vec![], bytes(size, 2 * i), vec![]]);
            all.push(vec![vec![], bytes(size, i)]);
        }
    }
    all.push((0..100).map(|i| bytes(i, i)).collect());
    all
}

/// Sends all from one to the other, and checks what comes; `pass` says what the receiver sees.
fn one_way(from: &dyn Sock, to: &dyn Sock, all: &[Frames], pass: impl Fn(&Frames) -> Frames) {
    let send = || all.iter().for_each(|frames| from.put(frames.clone()));
    beside(send, || {
        all.iter()
            .for_each(|frames| compare(&to.take(), &pass(frames)))
    });
}

#[track_caller]
fn compare(got: &Frames, wanted: &Frames) {
    let sizes = |frames: &Frames| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(got), sizes(wanted));
    assert!(got == wanted, "the bytes of a message are different");
}

/// Behind a routing id.
fn under(id: &[u8], frames: &Frames) -> Frames {
    let mut all = vec![id.to_vec()];
    all.extend_from_slice(frames);
    all
}

/// What the two do with each other, once they are connected. The asker is the one that can talk
/// first.
fn talk(a: &dyn Sock, b: &dyn Sock, kinds: (Kind, Kind)) {
    let all = messages();
    match kinds {
        (Push, Pull) => one_way(a, b, &all, Frames::clone),
        (Pair, Pair) | (Dealer, Dealer) => {
            one_way(a, b, &all, Frames::clone);
            one_way(b, a, &all, Frames::clone);
        }
        (Req, Rep) => {
            for frames in &all {
                a.put(frames.clone());
                let request = b.take();
                compare(&request, frames);
                b.put(request);
                compare(&a.take(), frames);
            }
        }
        // The envelope of a REQ: an empty frame, which a ROUTER shows.
        (Req, Router) => {
            for frames in &all {
                a.put(frames.clone());
                let request = b.take();
                compare(&request, &under(&request[0], &under(b"", frames)));
                b.put(request);
                compare(&a.take(), frames);
            }
        }
        (Dealer, Rep) => {
            for frames in &all {
                a.put(under(b"tag", &under(b"", frames)));
                let request = b.take();
                compare(&request, frames);
                b.put(request);
                compare(&a.take(), &under(b"tag", &under(b"", frames)));
            }
        }
        (Dealer, Router) => {
            a.put("who am I");
            let id = b.take().remove(0);
            one_way(a, b, &all, |frames| under(&id, frames));
            let back: Vec<Frames> = all.iter().map(|frames| under(&id, frames)).collect();
            one_way(b, a, &back, |frames| frames[1..].to_vec());
        }
        // Each names itself, since neither can talk to one that it has not heard of.
        (Router, Router) => {
            let there: Vec<Frames> = all.iter().map(|frames| under(b"B", frames)).collect();
            one_way(a, b, &there, |frames| under(b"A", &frames[1..].to_vec()));
            let back: Vec<Frames> = all.iter().map(|frames| under(b"A", frames)).collect();
            one_way(b, a, &back, |frames| under(b"B", &frames[1..].to_vec()));
        }
        (Pub | XPub, Sub | XSub) => {
            b.subscribe(b"").unwrap();
            if kinds.0 == XPub {
                assert_eq!(a.take(), [b"\x01"]);
            } else {
                settle(a, &[b]);
            }
            // They would drop, rather than wait.
            for frames in &all {
                a.put(frames.clone());
                compare(&b.take(), frames);
            }
        }
        _ => unreachable!("{kinds:?}"),
    }
}

fn pair(transport: Transport, kinds: (Kind, Kind)) {
    let name = format!("{kinds:?} {transport:?}");
    for (first, second) in [(Who::Ours, Who::Theirs), (Who::Theirs, Who::Ours)] {
        for first_binds in [true, false] {
            within(&name, || {
                let w = World::new(transport, library(first), library(second));
                let (a, b) = (w.subject(kinds.0), w.peer(kinds.1));
                if kinds == (Router, Router) {
                    a.with([crate::support::id("A")]);
                    b.with([crate::support::id("B")]);
                }
                let (binds, connects) = if first_binds { (&a, &b) } else { (&b, &a) };
                connects.dial(&binds.listen(&w));
                a.wait_up(1);
                b.wait_up(1);
                talk(&*a, &*b, kinds);
            });
        }
    }
}

macro_rules! pairs {
    ($($name:ident: $first:ident $second:ident,)*) => {
        mod tcp {
            use super::*;
            $(#[test] fn $name() { pair(Transport::Tcp, ($first, $second)); })*
        }
        mod ipc {
            use super::*;
            $(#[test] fn $name() { pair(Transport::Ipc, ($first, $second)); })*
        }
    };
}

pairs! {
    push_pull: Push Pull,
    pair_pair: Pair Pair,
    dealer_dealer: Dealer Dealer,
    req_rep: Req Rep,
    req_router: Req Router,
    dealer_rep: Dealer Rep,
    dealer_router: Dealer Router,
    router_router: Router Router,
    pub_sub: Pub Sub,
    pub_xsub: Pub XSub,
    xpub_sub: XPub Sub,
    xpub_xsub: XPub XSub,
}
