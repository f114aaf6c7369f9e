//! rustls's synchronous interface over our streams, as it is: `StreamOwned` on the server's side,
//! `Stream` on the client's. One worker serves both and several clients at a time: wherever rustls
//! waits for the socket, the task parks.
//!
//! `rustls_direct [CLIENTS]` starts a server with a certificate that it makes itself, lets that many
//! clients (3) send it lines, and ends.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use sward::net::{TcpListener, TcpStream};
use sward::{Runtime, join_all, spawn};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A server and a client that trusts it.
fn configs() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

/// Sends each line back in capitals, until the client says that it is done.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> Result<usize> {
    let tls = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut tls = BufReader::new(tls);
    let mut line = String::new();
    let mut count = 0;
    while tls.read_line(&mut line)? > 0 {
        tls.get_mut().write_all(line.to_uppercase().as_bytes())?;
        line.clear();
        count += 1;
    }
    // The client's `close_notify` ended the loop; this is ours.
    let tls = tls.get_mut();
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(count)
}

fn ask(address: SocketAddr, config: Arc<ClientConfig>, n: usize) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    let mut session = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    let mut tls = rustls::Stream::new(&mut session, &mut socket);
    let mut replies = Vec::new();
    for round in 0..3 {
        let line = format!("from client {n}, no {round}\n");
        tls.write_all(line.as_bytes())?;
        let mut reply = vec![0; line.len()];
        tls.read_exact(&mut reply)?;
        replies.extend(reply);
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.read_to_end(&mut replies)?;
    let version = session.protocol_version().ok_or("no handshake")?;
    let suite = session.negotiated_cipher_suite().ok_or("no handshake")?;
    let replies = String::from_utf8(replies)?;
    println!("{version:?}, {:?}: {replies:?}", suite.suite());
    Ok(())
}

fn demo(clients: usize) -> Result<()> {
    let (server, client) = configs()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let asking: Vec<_> = (0..clients)
        .map(|n| {
            let config = client.clone();
            spawn(move || ask(address, config, n))
        })
        .collect();
    let mut serving = Vec::new();
    for stream in listener.incoming().take(clients) {
        let (stream, config) = (stream?, server.clone());
        serving.push(spawn(move || serve(stream, config)));
    }
    for done in join_all(asking) {
        done.map_err(|e| e.to_string())??;
    }
    let mut lines = 0;
    for served in join_all(serving) {
        lines += served.map_err(|e| e.to_string())??;
    }
    println!("served {clients} clients and {lines} lines");
    Ok(())
}

fn main() -> ExitCode {
    let clients = std::env::args().nth(1).map_or(Ok(3), |n| n.parse());
    let done = clients.map_err(Into::into).and_then(|clients| {
        let runtime = Runtime::builder().workers(1).build()?;
        runtime.run(move || demo(clients))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("rustls_direct: {e}");
            ExitCode::FAILURE
        }
    }
}
