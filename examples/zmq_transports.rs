//! One socket, many transports: it is bound to some endpoints and connected to others, in any order,
//! whether anybody is there yet or not.
//!
//! ```sh
//! cargo run --release --example zmq_transports
//! cargo run --release --example zmq_transports -- BIND BIND CONNECT CONNECT
//! ```

use sward::mq::{Error, Pull, Push};

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let mut endpoint = |usual: &str| args.next().unwrap_or_else(|| usual.to_owned());

    let socket = Pull::new()?;
    socket.bind(endpoint("tcp://localhost:5560"))?;
    socket.bind(endpoint("ipc:///tmp/this-socket"))?;
    socket.connect(endpoint("tcp://10.0.0.100:9000"))?;
    socket.connect(endpoint("ipc:///tmp/another-socket"))?;
    socket.connect("inproc://another-socket")?;
    for endpoint in socket.endpoints() {
        println!("{endpoint}");
    }

    // Bound after the connect: what is sent there comes all the same.
    let another = Push::bound("inproc://another-socket")?;
    another.send("hello from another task")?;
    loop {
        let (message, peer) = socket.recv_from()?;
        println!("{}: {}", peer.endpoint(), message[0]);
    }
}
