//! Task sink: collects what workers (`zmq_taskwork`) have done, and says how long it took.
//!
//! ```sh
//! cargo run --release --example zmq_tasksink               # tcp://*:5558
//! cargo run --release --example zmq_tasksink -- ENDPOINT
//! ```

use std::io::{Write, stdout};
use std::time::Instant;

use sward::mq::{Error, Pull};

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    let receiver = Pull::bound(endpoint.as_deref().unwrap_or("tcp://*:5558"))?;

    // Wait for the start of the batch.
    receiver.recv()?;
    let start = Instant::now();
    // A hundred confirmations.
    for task in 0..100 {
        receiver.recv()?;
        print!("{}", if task % 10 == 0 { ':' } else { '.' });
        stdout().flush()?;
    }
    println!("\nTotal elapsed time: {} msec", start.elapsed().as_millis());
    Ok(())
}
