//! Weather update client: collects five updates for a zip code, and prints the average temperature.
//!
//! ```sh
//! cargo run --release --example zmq_wuclient                       # 10001, tcp://localhost:5556
//! cargo run --release --example zmq_wuclient -- ZIPCODE ENDPOINT
//! ```

use sward::mq::{Error, Sub};

const UPDATES: i64 = 5;

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let zip_code = args.next().unwrap_or_else(|| "10001".to_owned());
    let endpoint = args.next();

    let socket = Sub::connected(endpoint.as_deref().unwrap_or("tcp://localhost:5556"))?;
    socket.subscribe(&zip_code)?;

    let mut total = 0;
    for _ in 0..UPDATES {
        let update = socket.recv()?;
        let text = update[0].to_string();
        let temperature = text.split(' ').nth(1).and_then(|t| t.parse::<i64>().ok());
        total += temperature.ok_or(Error::InvalidMessage("no weather update"))?;
    }
    // The original divides by the number of the last update, which is one less.
    let average = total.div_euclid(UPDATES);
    println!("Average temperature for zipcode '{zip_code}' was {average}F");
    Ok(())
}
