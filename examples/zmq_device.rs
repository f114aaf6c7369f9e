//! The classic devices of ZeroMQ as a command.
//!
//! ```sh
//! cargo run --release --example zmq_device -- queue tcp://*:5559 tcp://*:5560
//! ```

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use sward::mq::{Device, Error};
use sward::signal::{SIGINT, SIGTERM, on_any};

const USAGE: &str = "\
usage: zmq_device DEVICE FRONTEND BACKEND

  queue       clients (REQ)     -> ROUTER  DEALER -> services (REP), and back
  forwarder   publishers (PUB)  -> XSUB      XPUB -> subscribers (SUB)
  streamer    sources (PUSH)    -> PULL      PUSH -> workers (PULL)

Both ends are bound, such as tcp://*:5559 or ipc:///tmp/backend. An end with
a > before it is connected: '>tcp://host:5559'. It runs until ctrl-C.";

fn run(device: Device, frontend: &str, backend: &str) -> Result<(), Error> {
    let stop = on_any(&[SIGINT, SIGTERM])?;
    let proxy = device.open(frontend, backend)?;
    for end in [proxy.frontend(), proxy.backend()] {
        println!("{device}: {} {}", end.socket_type(), end.endpoints()[0]);
    }
    let running = proxy.spawn()?;
    let mut before = running.statistics();
    while stop.recv_timeout(Duration::from_secs(1)).is_err() {
        let now = running.statistics();
        let there = (now.backend.sent, now.backend.sent - before.backend.sent);
        let back = (now.frontend.sent, now.frontend.sent - before.frontend.sent);
        if stdout().is_terminal() {
            let line = format!(
                "-> {} ({}/s)   <- {} ({}/s)",
                there.0, there.1, back.0, back.1
            );
            print!("\r\x1b[K{line}");
            stdout().flush()?;
        }
        before = now;
    }
    let all = running.terminate()?;
    let clear = ["", "\r\x1b[K"][usize::from(stdout().is_terminal())];
    let (there, back) = (all.backend, all.frontend);
    println!(
        "{clear}-> {} messages, {} bytes",
        there.sent, there.sent_bytes
    );
    println!("<- {} messages, {} bytes", back.sent, back.sent_bytes);
    Ok(())
}

#[sward::main]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let device = args.first().and_then(|name| name.parse().ok());
    let (Some(device), [_, frontend, backend]) = (device, &args[..]) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let ended = run(device, frontend, backend);
    ended
        .inspect_err(|e| eprintln!("zmq_device: {e}"))
        .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
