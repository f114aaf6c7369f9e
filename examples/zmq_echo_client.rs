//! Sends nine messages to `zmq_echo_server`, and waits for each to come back.
//!
//! ```sh
//! cargo run --release --example zmq_echo_client               # tcp://127.0.0.1:5000
//! cargo run --release --example zmq_echo_client -- ENDPOINT
//! ```

use sward::mq::{Error, Req};

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    let socket = Req::connected(endpoint.as_deref().unwrap_or("tcp://127.0.0.1:5000"))?;
    for i in 0..9 {
        let message = format!("msg {i}");
        socket.send(&message)?;
        println!("Sending {message}");
        assert_eq!(socket.recv()?[0], message);
    }
    Ok(())
}
