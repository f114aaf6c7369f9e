//! A server that says hello every second to whoever connects, and a client that listens to it.
//!
//! ```sh
//! cargo run --example tcp_hello                  # serves 127.0.0.1:1234, until ctrl-C
//! cargo run --example tcp_hello -- --client      # in another terminal
//! cargo run --example tcp_hello -- --all 5       # both in one program, for five seconds
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use sward::net::TcpStream;
use sward::net::server::StreamServer;
use sward::{Group, sleep};

/// What the server does with each connection, in a task of its own.
fn hello(mut stream: TcpStream, _peer: SocketAddr) -> io::Result<()> {
    println!("new tcp connection!");
    loop {
        stream.write_all(b"hello\n")?;
        sleep(Duration::from_secs(1));
    }
}

fn client(address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    for line in BufReader::new(stream).lines() {
        println!("<<< {}", line?);
    }
    Ok(())
}

#[sward::main]
fn main() -> io::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1234));
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => StreamServer::bind(address)?.serve_forever(hello),
        ["--client"] => client(address),
        ["--all", seconds] => {
            let seconds = seconds.parse().map_err(io::Error::other)?;
            // Any free port, so that it may run beside the others.
            let server = StreamServer::bind("127.0.0.1:0")?;
            let address = server.listener().local_addr()?;
            let group = Group::new();
            group.spawn(move || server.serve_forever(hello));
            group.spawn(move || client(address));
            group.join_timeout(Duration::from_secs(seconds));
            Ok(()) // the group is dropped, which ends both
        }
        _ => Err(io::Error::other("tcp_hello [--client | --all SECONDS]")),
    }
}
