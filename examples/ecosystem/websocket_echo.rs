//! A WebSocket server: the upgrade is ours, the protocol tungstenite's, which knows nothing of us.
//!
//! ```sh
//! cargo run --release -p sward-ecosystem --example websocket_echo
//! ```
//!
//! With `--self-test` it listens on a free port, lets a few clients talk to it, and ends.

use std::io;
use std::time::Duration;

use sward::http::http::{Request, Response, StatusCode, header};
use sward::http::{Body, Server, Upgraded, on_upgrade};
use sward::net::TcpStream;
use sward::{join_all, spawn};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Message, handshake::derive_accept_key};

fn upgrade(request: Request<Body>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let asks = request.headers().get(header::UPGRADE);
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()).parse());
    let (Some(Ok(accept)), true) = (accept, asks.is_some_and(|u| u == "websocket")) else {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONNECTION,
        header::HeaderValue::from_static("upgrade"),
    );
    headers.insert(
        header::UPGRADE,
        header::HeaderValue::from_static("websocket"),
    );
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    on_upgrade(response, |stream| {
        // How a client leaves is its affair.
        let _ = echo(WebSocket::from_raw_socket(stream, Role::Server, None));
    })
}

fn echo(mut socket: WebSocket<Upgraded>) -> tungstenite::Result<()> {
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            socket.send(message)?;
        }
    }
}

/// Says something, and hears it again.
fn talk(url: &str, stream: TcpStream) -> tungstenite::Result<()> {
    let (mut socket, _) = match tungstenite::client(url, stream) {
        Ok(done) => done,
        Err(e) => return Err(tungstenite::Error::Io(io::Error::other(e.to_string()))),
    };
    for n in 0..100 {
        let said = Message::text(format!("message {n}"));
        socket.send(said.clone())?;
        assert_eq!(socket.read()?, said);
    }
    socket.close(None)?;
    while socket.read().is_ok() {}
    Ok(())
}

#[sward::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let test = std::env::args()
        .nth(1)
        .is_some_and(|arg| arg == "--self-test");
    if !test {
        return Ok(Server::bind("127.0.0.1:8080")?.serve_forever(upgrade)?);
    }
    let server = Server::bind("127.0.0.1:0")?.start(upgrade)?;
    let address = server.local_addr();
    let url = format!("ws://{address}/");
    let clients = (0..10).map(|_| {
        let url = url.clone();
        spawn(move || talk(&url, TcpStream::connect(address)?))
    });
    for client in join_all(clients) {
        client??;
    }
    assert_eq!(server.stop(Duration::from_secs(5)).killed, 0);
    Ok(())
}
