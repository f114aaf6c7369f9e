//! Message queue: clients connect to one end, any number of servers to the other, and each request
//! goes to one of them. `zmq_hwclient tcp://localhost:5559` can be a client.
//!
//! ```sh
//! cargo run --release --example zmq_msgqueue               # tcp://*:5559 tcp://*:5560
//! cargo run --release --example zmq_msgqueue -- FRONTEND BACKEND
//! ```

use sward::mq::{Dealer, Error, Router, proxy};

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut endpoint = |usual: &str| args.next().unwrap_or_else(|| usual.to_owned());

    // Socket facing clients.
    let frontend = Router::bound(endpoint("tcp://*:5559"))?;
    // Socket facing services.
    let backend = Dealer::bound(endpoint("tcp://*:5560"))?;
    // The queue itself.
    proxy(&frontend, &backend)
}
