//! A TCP proxy: whatever comes to LISTEN goes to TARGET, and back.
//!
//! ```sh
//! cargo run --example tcp_proxy 127.0.0.1:8000 example.org:80
//! cargo run --example tcp_proxy -- --demo
//! ```

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use sward::net::TcpStream;
use sward::net::server::{Serving, StreamServer};
use sward::scope;

/// Carries bytes one way, and the end too: the other way may still be in use. Returns how many.
fn carry(mut from: &TcpStream, mut to: &TcpStream) -> u64 {
    let mut buffer = [0; 16 * 1024];
    let mut count = 0;
    let mut step = || -> io::Result<bool> {
        let n = from.read(&mut buffer)?;
        to.write_all(&buffer[..n])?;
        count += n as u64;
        Ok(n > 0)
    };
    let how = loop {
        match step() {
            Ok(true) => {}
            Ok(false) => break Shutdown::Write,
            Err(_) => break Shutdown::Both,
        }
    };
    let _ = to.shutdown(how);
    if how == Shutdown::Both {
        let _ = from.shutdown(how);
    }
    count
}

fn proxy(client: &TcpStream, peer: SocketAddr, target: &str) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (sent, received) = scope(|s| {
        let upward = s.spawn(|| carry(client, &server));
        let received = carry(&server, client);
        (upward.join().unwrap_or(0), received)
    });
    println!("{peer}: {sent} bytes sent, {received} received");
    Ok(())
}

fn start(listen: &str, target: String) -> io::Result<Serving<SocketAddr>> {
    let server = StreamServer::bind(listen)?.on_error(|trouble| eprintln!("{trouble}"));
    server.start(move |client, peer| proxy(&client, peer, &target))
}

#[sward::main]
fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [listen, target] => {
            let serving = start(listen, target.clone())?;
            println!("{} leads to {target}", serving.local_addr());
            serving.join()
        }
        [demo] if demo == "--demo" => show(),
        _ => Err(io::Error::other("tcp_proxy LISTEN TARGET | --demo")),
    }
}

/// Through a proxy to a server that counts: it answers only when it has seen the end.
fn show() -> io::Result<()> {
    let counter = StreamServer::bind("127.0.0.1:0")?.start(|mut stream: TcpStream, _| {
        let count = io::copy(&mut stream, &mut io::sink())?;
        writeln!(stream, "{count}")
    })?;
    let proxy = start("127.0.0.1:0", counter.local_addr().to_string())?;
    let mut stream = TcpStream::connect(proxy.local_addr())?;
    stream.write_all(&vec![1; 10_000_000])?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("the server has counted {}", answer.trim());
    proxy.stop(Duration::from_secs(1));
    counter.stop(Duration::from_secs(1));
    assert_eq!(answer, "10000000\n");
    Ok(())
}
