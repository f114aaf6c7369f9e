//! Our sockets against libzmq's, which runs in this process: the texts of `mq/tests/spec` with
//! libzmq as the peer, as the subject, and as both (then the text is what is tested); and what only
//! matters between two libraries.
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

mod stall;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod theirs;

use support::ours::Sward;
use support::{Library, Transport, World, within};
use theirs::Libzmq;

/// Who makes the sockets of a world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    Theirs,
}

fn library(who: Who) -> Box<dyn Library> {
    match who {
        Who::Ours => Box::new(Sward::default()),
        Who::Theirs => Box::new(Libzmq::default()),
    }
}

fn run(name: &str, transport: Transport, subject: Who, peer: Who, test: fn(&World)) {
    within(name, || {
        test(&World::new(transport, library(subject), library(peer)))
    });
}

macro_rules! for_each_transport {
    ($($test:ident),* $(,)?) => {
        for_each_transport! { @ ours_and_theirs_tcp, Tcp, Ours, Theirs, $($test),* }
        for_each_transport! { @ ours_and_theirs_ipc, Ipc, Ours, Theirs, $($test),* }
        for_each_transport! { @ theirs_and_ours_tcp, Tcp, Theirs, Ours, $($test),* }
        for_each_transport! { @ theirs_and_ours_ipc, Ipc, Theirs, Ours, $($test),* }
        for_each_transport! { @ theirs_and_theirs, Tcp, Theirs, Theirs, $($test),* }
    };
    (@ $module:ident, $transport:ident, $subject:ident, $peer:ident, $($test:ident),*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    let name = concat!(module_path!(), "::", stringify!($test));
                    let transport = $crate::support::Transport::$transport;
                    let (subject, peer) = ($crate::Who::$subject, $crate::Who::$peer);
                    $crate::run(name, transport, subject, peer, super::$test);
                }
            )*
        }
    };
}

/// Nothing here is within a process.
macro_rules! for_each_network {
    ($($test:ident),* $(,)?) => {
        mod network {
            use super::*;
            for_each_transport! { $($test),* }
        }
    };
}

/// Texts that talk to the subject by bytes; ours is the subject elsewhere.
macro_rules! for_each_wire {
    ($($test:ident),* $(,)?) => {
        mod wire {
            use super::*;
            for_each_transport! { @ theirs, Tcp, Theirs, Theirs, $($test),* }
        }
    };
}

/// Run elsewhere.
macro_rules! for_each_wire_of_ours {
    ($($test:ident),* $(,)?) => {
        const _: &[fn(&World)] = &[$($test),*];
    };
}

macro_rules! over_tcp {
    ($($test:ident),* $(,)?) => {
        mod over_tcp {
            use super::*;
            for_each_transport! { @ ours_and_theirs, Tcp, Ours, Theirs, $($test),* }
            for_each_transport! { @ theirs_and_ours, Tcp, Theirs, Ours, $($test),* }
            for_each_transport! { @ theirs_and_theirs, Tcp, Theirs, Theirs, $($test),* }
        }
    };
}

macro_rules! over_tcp_of_ours {
    ($($test:ident),* $(,)?) => {
        mod over_tcp_of_ours {
            use super::*;
            for_each_transport! { @ ours_and_theirs, Tcp, Ours, Theirs, $($test),* }
        }
    };
}

/// Texts that libzmq would fail as the subject.
macro_rules! of_ours {
    ($($test:ident),* $(,)?) => {
        mod of_ours {
            use super::*;
            for_each_transport! { @ ours_and_theirs_tcp, Tcp, Ours, Theirs, $($test),* }
            for_each_transport! { @ ours_and_theirs_ipc, Ipc, Ours, Theirs, $($test),* }
        }
    };
}

#[path = "../../../tests/spec/endpoints.rs"]
mod endpoints;
#[path = "../../../tests/spec/heartbeats.rs"]
mod heartbeats;
#[path = "../../../tests/spec/links.rs"]
mod links;
#[path = "../../../tests/spec/monitor.rs"]
mod monitor;
#[path = "../../../tests/spec/options.rs"]
mod options;
#[path = "../../../tests/spec/pipeline.rs"]
mod pipeline;
mod proxies;
#[path = "../../../tests/spec/pubsub.rs"]
mod pubsub;
#[path = "../../../tests/spec/reqrep.rs"]
mod reqrep;
#[path = "../../../tests/spec/stream.rs"]
mod stream;
mod traffic;
#[path = "../../../tests/spec/versions.rs"]
mod versions;

#[test]
fn it_is_the_version_that_the_lock_file_brings() {
    // A library of the system would be another.
    assert_eq!(zmq::version(), (4, 3, 4));
}
