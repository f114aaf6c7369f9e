//! Task worker: pulls tasks from `zmq_taskvent`, does them, and tells `zmq_tasksink`. Start as many
//! as you like.
//!
//! ```sh
//! cargo run --release --example zmq_taskwork       # tcp://localhost:5557 tcp://localhost:5558
//! cargo run --release --example zmq_taskwork -- VENTILATOR SINK
//! ```

use std::io::{Write, stdout};
use std::time::Duration;

use sward::mq::{Error, Pull, Push};
use sward::sleep;

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut endpoint = |usual: &str| args.next().unwrap_or_else(|| usual.to_owned());
    let receiver = Pull::connected(endpoint("tcp://localhost:5557"))?;
    let sender = Push::connected(endpoint("tcp://localhost:5558"))?;
    loop {
        let message = receiver.recv()?;
        let workload = message[0].to_string().parse();
        let workload = workload.map_err(|_| Error::InvalidMessage("no number of milliseconds"))?;
        // A sign of life.
        print!(".");
        stdout().flush()?;
        // Do the work.
        sleep(Duration::from_millis(workload));
        // Tell the sink.
        sender.send("")?;
    }
}
