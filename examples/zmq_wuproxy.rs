//! Weather proxy: hands on what one network publishes to another one.
//!
//! ```sh
//! cargo run --release --example zmq_wuproxy           # tcp://localhost:5556 tcp://*:8100
//! cargo run --release --example zmq_wuproxy -- WEATHER_SERVER ENDPOINT
//! ```

use sward::mq::{Error, Pub, Sub};

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut endpoint = |usual: &str| args.next().unwrap_or_else(|| usual.to_owned());

    // This is where the weather server sits.
    let frontend = Sub::connected(endpoint("tcp://localhost:5556"))?;
    // Subscribe to everything.
    frontend.subscribe("")?;
    // This is our public endpoint for subscribers.
    let backend = Pub::bound(endpoint("tcp://*:8100"))?;

    loop {
        // A message is all of its parts: what the original does with RCVMORE and SNDMORE.
        let message = frontend.recv()?;
        backend.send(message)?;
    }
}
