//! The talk's last step: a TCP server, a web server and a client of the first, in one group of
//! tasks that is joined.
//!
//! ```sh
//! cargo run --example joined                     # 127.0.0.1:1234 and :8080, until ctrl-C
//! curl http://127.0.0.1:8080/                    # in another terminal
//! cargo run --example joined -- --free-ports 3   # on free ports, for three seconds
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use sward::http::http::{Request, Response, header};
use sward::http::{Body, Server};
use sward::net::{StreamServer, TcpStream};
use sward::{Group, sleep};

fn tcp(mut stream: TcpStream, _peer: SocketAddr) -> io::Result<()> {
    println!("new tcp connection!");
    loop {
        stream.write_all(b"hello\n")?;
        sleep(Duration::from_secs(1));
    }
}

fn web(_: Request<Body>) -> Response<&'static str> {
    println!("new http request!");
    let mut response = Response::new("hello world");
    let html = header::HeaderValue::from_static("text/html");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
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
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (ports, seconds) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ([1234, 8080], None),
        ["--free-ports", seconds] => ([0, 0], Some(seconds.parse().map_err(io::Error::other)?)),
        _ => return Err(io::Error::other("joined [--free-ports SECONDS]")),
    };
    // Both listen before anybody connects.
    let hello = StreamServer::bind(("127.0.0.1", ports[0]))?;
    let pages = Server::bind(("127.0.0.1", ports[1]))?;
    let address = hello.listener().local_addr()?;

    let group = Group::new();
    group.spawn(move || hello.serve_forever(tcp));
    group.spawn(move || pages.serve_forever(web));
    group.spawn(move || client(address));
    match seconds {
        None => group.join(),
        Some(seconds) => drop(group.join_timeout(Duration::from_secs(seconds))),
    }
    Ok(()) // what still runs is killed with its group
}
