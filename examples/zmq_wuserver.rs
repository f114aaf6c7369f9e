//! Weather update server: publishes random weather updates, as fast as it can.
//!
//! ```sh
//! cargo run --release --example zmq_wuserver               # tcp://*:5556
//! cargo run --release --example zmq_wuserver -- ENDPOINT
//! ```

use std::hash::{BuildHasher, RandomState};

use sward::mq::{Error, Pub};

#[sward::main]
fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1);
    let socket = Pub::bound(endpoint.as_deref().unwrap_or("tcp://*:5556"))?;
    // xorshift64
    let mut state = RandomState::new().hash_one(0) | 1;
    let mut random = |from: i64, to: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        from + (state % (to - from + 1) as u64) as i64
    };
    loop {
        let zip_code = random(1, 99_999);
        let temperature = random(-79, 134);
        let humidity = random(11, 59);
        socket.send(format!("{zip_code} {temperature} {humidity}"))?;
    }
}
