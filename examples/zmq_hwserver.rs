//! Hello World server: expects "Hello" from a client, replies with "World".
//!
//! ```sh
//! cargo run --release --example zmq_hwserver               # tcp://*:5555
//! cargo run --release --example zmq_hwserver -- ENDPOINT
//! ```

use std::time::Duration;

use sward::mq::{Error, Rep};
use sward::sleep;

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    let socket = Rep::bound(endpoint.as_deref().unwrap_or("tcp://*:5555"))?;
    loop {
        // Wait for the next request.
        let request = socket.recv()?;
        println!("Received request: {}", request[0]);
        // Do some work.
        sleep(Duration::from_secs(1));
        // Send the reply.
        request.reply("World")?;
    }
}
