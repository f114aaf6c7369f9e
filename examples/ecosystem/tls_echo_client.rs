//! A TLS echo server and its client in one program: both ends verify, agree on a protocol (ALPN),
//! and a second connection takes up the session of the first.
#![allow(clippy::print_stdout)]

use std::io::{self, Read, Write};

use sward::net::server::Listener;
use sward::net::tls::{self, WithAlpn};
use sward::net::{Shutdown, Stream, TcpListener, TcpStream};
use sward::spawn;

#[sward::main]
fn main() -> io::Result<()> {
    let (server, client) = tls::self_signed(&["localhost"])?;
    let server = server.with_alpn(&["echo"]);
    let client = std::sync::Arc::new(client.with_alpn(&["echo"]));

    let listener = tls::TlsListener::new(TcpListener::bind("127.0.0.1:0")?, server);
    let address = listener.local_addr()?;
    spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });

    for text in ["hello", "hello again"] {
        let stream = TcpStream::connect(address)?;
        let mut stream = tls::connect_with(client.clone(), "localhost", stream)?;
        stream.write_all(text.as_bytes())?;
        let mut echo = vec![0; text.len()];
        stream.read_exact(&mut echo)?;
        println!(
            "{} ({:?}, {:?}, {}{})",
            String::from_utf8_lossy(&echo),
            stream.protocol_version(),
            stream.cipher_suite(),
            String::from_utf8_lossy(&stream.alpn().unwrap_or_default()),
            if stream.is_resumed() { ", resumed" } else { "" },
        );
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(())
}
