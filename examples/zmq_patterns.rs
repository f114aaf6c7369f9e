//! The patterns, each with several peers.
//!
//! ```sh
//! cargo run --release --example zmq_patterns               # inproc
//! cargo run --release --example zmq_patterns -- tcp://127.0.0.1:*
//! ```

use std::time::Duration;

use sward::mq::{Error, Pair, Pub, Pull, Push, Rep, Req, Sub};

const PEERS: usize = 3;
const SOON: Duration = Duration::from_secs(5);

#[sward::main]
fn main() -> Result<(), Error> {
    let place = std::env::args().nth(1);
    let place = |name: &str| place.clone().unwrap_or_else(|| format!("inproc://{name}"));

    // Request-reply: requests go to a server, each reply to whom it is for.
    let server = Rep::bound(place("requests"))?;
    let clients = [(); PEERS].map(|()| Req::connected(server.last_endpoint().unwrap()));
    for (n, client) in clients.iter().flatten().enumerate() {
        client.send(format!("request {n}"))?;
        let request = server.recv()?;
        let reply = format!("reply to {}", request[0]);
        request.reply(reply)?;
        println!("REQ  {n} received: {}", client.recv()?[0]);
    }

    // Publish-subscribe: each message goes to all who want it.
    let publisher = Pub::bound(place("news"))?;
    let subscribers = [(); PEERS].map(|()| Sub::connected(publisher.last_endpoint().unwrap()));
    for subscriber in subscribers.iter().flatten() {
        subscriber.subscribe("sports")?;
    }
    publisher.wait_subscribers(PEERS, SOON)?;
    publisher.send("politics, which nobody wants")?;
    publisher.send("sports, which all want")?;
    for (n, subscriber) in subscribers.iter().flatten().enumerate() {
        println!("SUB  {n} received: {}", subscriber.recv()?[0]);
    }

    // Pipeline: each task goes to one worker, in turn.
    let source = Push::bound(place("tasks"))?;
    let workers = [(); PEERS].map(|()| Pull::connected(source.last_endpoint().unwrap()));
    source.wait_connected(PEERS, SOON)?;
    (0..PEERS).try_for_each(|n| source.send(format!("task {n}")))?;
    for (n, worker) in workers.iter().flatten().enumerate() {
        println!("PULL {n} received: {}", worker.recv()?[0]);
    }

    // Pair: two that know each other.
    let here = Pair::bound(place("pair"))?;
    let there = Pair::connected(here.last_endpoint().unwrap())?;
    here.send("ping")?;
    println!("PAIR   received: {}", there.recv()?[0]);
    there.send("pong")?;
    println!("PAIR   received: {}", here.recv()?[0]);
    Ok(())
}
