//! A server and its client, each in a task of the same program.
//!
//! ```sh
//! cargo run --release --example zmq_gt               # tcp://localhost:5559
//! cargo run --release --example zmq_gt -- ENDPOINT
//! ```

use sward::mq::{Error, Rep, Req};

fn server(endpoint: &str) -> Result<(), Error> {
    let socket = Rep::bound(endpoint)?;
    loop {
        let request = socket.recv()?;
        println!("Received request: {}", request[0]);
        request.reply("World")?;
    }
}

fn client(endpoint: &str) -> Result<(), Error> {
    let socket = Req::connected(endpoint)?;
    for i in 0..10 {
        socket.send("Hello")?;
        let message = socket.recv()?;
        println!("Received reply {i} [ {} ]", message[0]);
    }
    Ok(())
}

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    let endpoint = endpoint.unwrap_or_else(|| "tcp://localhost:5559".to_owned());
    let server_endpoint = endpoint.clone();
    let _server = sward::spawn(move || server(&server_endpoint));
    let client = sward::spawn(move || client(&endpoint));
    client.join().unwrap_or(Err(Error::Closed))
}
