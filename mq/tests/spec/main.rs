//! The rules of ZeroMQ's RFCs and of libzmq, one by one, between sockets of ours. The texts are also run
//! by `mq/interop`, against libzmq.
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

#[path = "../support/mod.rs"]
mod support;

use support::ours::Sward;
use support::{Transport, World, within};

/// What it takes to run a test's text.
fn run(name: &str, transport: Transport, in_task: bool, test: fn(&World)) {
    let world = move || {
        // One context: names within the process are the context's.
        let ours = sward_mq::Context::new();
        let world = World::new(
            transport,
            Box::new(Sward(ours.clone())),
            Box::new(Sward(ours)),
        );
        test(&world);
    };
    within(name, || {
        if in_task {
            let runtime = sward_runtime::Runtime::builder().workers(1).build();
            runtime.unwrap_or_else(|e| panic!("{e}")).run(world);
        } else {
            world();
        }
    });
}

/// Runs each text over all transports, on an ordinary thread and in a task.
macro_rules! for_each_transport {
    ($($test:ident),* $(,)?) => {
        for_each_transport! { @ tcp, Tcp, false, $($test),* }
        for_each_transport! { @ tcp_in_a_task, Tcp, true, $($test),* }
        for_each_transport! { @ ipc, Ipc, false, $($test),* }
        for_each_transport! { @ inproc, Inproc, false, $($test),* }
        for_each_transport! { @ inproc_in_a_task, Inproc, true, $($test),* }
    };
    (@ $module:ident, $transport:ident, $in_task:expr, $($test:ident),*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    let name = concat!(module_path!(), "::", stringify!($test));
                    $crate::run(name, $crate::support::Transport::$transport, $in_task, super::$test);
                }
            )*
        }
    };
}

/// Texts about connections, which do not exist within a process.
macro_rules! for_each_network {
    ($($test:ident),* $(,)?) => {
        mod network {
            use super::*;
            for_each_transport! { @ tcp, Tcp, false, $($test),* }
            for_each_transport! { @ tcp_in_a_task, Tcp, true, $($test),* }
            for_each_transport! { @ ipc, Ipc, false, $($test),* }
        }
    };
}

/// Texts with a subject only, which talk to it by bytes.
macro_rules! for_each_wire {
    ($($test:ident),* $(,)?) => {
        mod wire {
            use super::*;
            for_each_transport! { @ tcp, Tcp, false, $($test),* }
            for_each_transport! { @ tcp_in_a_task, Tcp, true, $($test),* }
            for_each_transport! { @ ipc, Ipc, false, $($test),* }
        }
    };
}

/// The same, where libzmq is no model: each says why.
macro_rules! for_each_wire_of_ours {
    ($($test:ident),* $(,)?) => {
        mod wire_of_ours {
            use super::*;
            for_each_transport! { @ tcp, Tcp, false, $($test),* }
            for_each_transport! { @ tcp_in_a_task, Tcp, true, $($test),* }
            for_each_transport! { @ ipc, Ipc, false, $($test),* }
        }
    };
}

/// Texts for tcp only.
macro_rules! over_tcp {
    ($($test:ident),* $(,)?) => {
        mod over_tcp {
            use super::*;
            for_each_transport! { @ thread, Tcp, false, $($test),* }
            for_each_transport! { @ task, Tcp, true, $($test),* }
        }
    };
}

/// The same, where libzmq is no model.
macro_rules! over_tcp_of_ours {
    ($($test:ident),* $(,)?) => {
        mod over_tcp_of_ours {
            use super::*;
            for_each_transport! { @ thread, Tcp, false, $($test),* }
        }
    };
}

/// Texts that libzmq would fail as the subject: each says why.
macro_rules! of_ours {
    ($($test:ident),* $(,)?) => {
        mod of_ours {
            use super::*;
            for_each_transport! { $($test),* }
        }
    };
}

/// Texts of which only our sockets know anything.
macro_rules! ours_alone {
    ($($test:ident),* $(,)?) => {
        for_each_transport! { @ tcp, Tcp, false, $($test),* }
        for_each_transport! { @ tcp_in_a_task, Tcp, true, $($test),* }
        for_each_transport! { @ ipc, Ipc, false, $($test),* }
    };
}

mod drafts;
mod endpoints;
mod heartbeats;
mod links;
mod monitor;
mod options;
mod page;
mod pipeline;
mod pubsub;
mod reqrep;
mod stream;
mod versions;
