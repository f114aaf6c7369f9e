//! Task ventilator: sends a hundred tasks to whoever pulls them (`zmq_taskwork`), and tells the sink
//! (`zmq_tasksink`) that they begin.
//!
//! ```sh
//! cargo run --release --example zmq_taskvent               # tcp://*:5557 tcp://localhost:5558
//! cargo run --release --example zmq_taskvent -- ENDPOINT SINK
//! ```

use std::hash::{BuildHasher, RandomState};
use std::io::Write;

use sward::io;
use sward::mq::{Error, Push};

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut endpoint = |usual: &str| args.next().unwrap_or_else(|| usual.to_owned());
    let sender = Push::bound(endpoint("tcp://*:5557"))?;
    // The first program of the talk gives the "0" to a worker, so that the sink's clock waits for
    // that one. Here it goes straight to the sink, as in the later ones.
    let sink = Push::connected(endpoint("tcp://localhost:5558"))?;

    print!("Press Enter when the workers are ready: ");
    std::io::stdout().flush()?;
    io::stdin().read_line(&mut String::new())?;
    println!("Sending tasks to workers...");
    sink.send("0")?;

    let random = RandomState::new();
    let mut total = 0;
    for task in 0..100 {
        // 1 to 100 ms.
        let workload = random.hash_one(task) % 100 + 1;
        total += workload;
        sender.send(workload.to_string())?;
    }
    println!("Total expected cost: {total} msec");
    // The original waits a second here, so that all gets out. Our program ends when it has.
    Ok(())
}
