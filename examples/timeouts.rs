//! Stopping: a time-out around code that knows nothing of it, a kill, and a shield against both.
//!
//! ```sh
//! cargo run --release --example timeouts
//! ```

use std::fmt::Debug;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use sward::sync::bounded;
use sward::{park, shield, sleep, spawn, timeout};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

#[sward::main(workers = 1)]
fn main() -> io::Result<()> {
    let begun = Instant::now();
    let say = |what: &str, result: &dyn Debug| {
        let ms = begun.elapsed().as_millis();
        writeln!(io::stdout(), "{ms:>4} ms  {what}: {result:?}")
    };
    let (sender, receiver) = bounded::<u32>(1);

    // Whatever parks can be timed out.
    say("a sleep of a minute", &timeout(SHORT, || sleep(LONG)))?;
    say("a receive", &timeout(SHORT, || receiver.recv()))?;
    // Each time-out knows its own: here the inner one fires.
    let nested = timeout(LONG, || timeout(SHORT, || spawn(park).join()));
    say("a join inside two", &nested)?;
    // A call's own limit is a value, and unwinds nothing.
    say("a receive with a limit", &receiver.recv_timeout(SHORT))?;
    // What is done in time has won.
    say("an answer", &timeout(SHORT, || 42))?;

    // A kill unwinds the task at its next park; what a shield covers is done first.
    let task = spawn(move || {
        shield(|| {
            sleep(SHORT);
            let _ = sender.send(42);
        });
        sleep(LONG);
        "not killed"
    });
    sward::yield_now();
    task.kill();
    say("what the shielded part sent", &receiver.recv())?;
    say("the killed task", &task.join())
}
