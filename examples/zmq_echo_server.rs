//! Receives requests, and sends each back.
//!
//! ```sh
//! cargo run --release --example zmq_echo_server               # tcp://127.0.0.1:5000
//! cargo run --release --example zmq_echo_server -- ENDPOINT
//! ```

use sward::mq::{Error, Rep};

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    let socket = Rep::bound(endpoint.as_deref().unwrap_or("tcp://127.0.0.1:5000"))?;
    loop {
        let mut request = socket.recv()?;
        println!("Received {}", request[0]);
        let message = request.take_message();
        request.reply(message)?;
    }
}
