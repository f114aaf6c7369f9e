//! Hello World client: sends "Hello" ten times, expects "World" each time.
//!
//! ```sh
//! cargo run --release --example zmq_hwclient               # tcp://localhost:5555
//! cargo run --release --example zmq_hwclient -- ENDPOINT
//! ```

use sward::mq::{Error, Req};

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    println!("Connecting to hello world server...");
    let socket = Req::connected(endpoint.as_deref().unwrap_or("tcp://localhost:5555"))?;
    // Ten requests, as the original says; its range(1, 10) makes nine.
    for request in 1..=10 {
        println!("Sending request {request} ...");
        socket.send("Hello")?;
        let message = socket.recv()?;
        println!("Received reply {request} [ {} ]", message[0]);
    }
    Ok(())
}
