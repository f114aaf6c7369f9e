//! What does an echo over TLS cost a server, in CPU time for each request, and an idle connection
//! in memory?
//!
//! `tls_echo [--connections N] [--requests N] [--rounds N]` runs three servers, each in a process
//! of its own, in turns: tasks of one worker, each with a connection; a bare loop around epoll and
//! the same rustls; and tokio-rustls on tokio's current-thread runtime. The client writes to all
//! connections and then reads from all of them, again and again. The time is that of the server's
//! process between the first echo, after all handshakes, and the last. The table has the median of
//! the rounds, and the memory per connection in the last of them. `tls_echo server
//! tasks|loop|tokio --connections N` is one of the servers alone: it prints its port.
#![allow(clippy::disallowed_types, clippy::print_stdout)]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use sward::net::tls::{self, rustls};
use sward::{Runtime, join_all, spawn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};

const BUFFER: usize = 1024;
const MESSAGE: usize = 64;
const SERVERS: [&str; 3] = ["tasks", "loop", "tokio"];

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
        given.unwrap_or(default)
    };
    let connections = number("--connections", 100);
    if args.get(1).is_some_and(|a| a == "server") {
        return server(args.get(2).map_or("", |a| a), connections);
    }
    let requests = number("--requests", 200_000);
    let mut times: [Vec<u64>; 3] = Default::default();
    let mut memory = [0; 3];
    for round in 0..number("--rounds", 15) {
        for turn in 0..3 {
            let which = (round + turn) % 3;
            let (time, bytes) = measure(SERVERS[which], connections, requests)?;
            times[which].push(time);
            memory[which] = bytes;
        }
    }
    println!("{connections} connections, CPU time of the server for each request (least-most):");
    let median = times.map(|mut all| {
        all.sort_unstable();
        let at = |i: usize| all.get(i).copied().unwrap_or(0);
        (at(all.len() / 2), at(0), at(all.len().saturating_sub(1)))
    });
    for (i, name) in SERVERS.iter().enumerate() {
        let (middle, least, most) = median[i];
        println!(
            "{name} {middle} ns ({least}-{most}), {} bytes of memory for each connection",
            memory[i]
        );
    }
    let best = median[1].0.min(median[2].0).max(1);
    println!("ratio {:.3}", median[0].0 as f64 / best as f64);
    Ok(())
}

/// Returns nanoseconds for each request, and bytes for each idle connection.
fn measure(which: &str, connections: usize, requests: usize) -> io::Result<(u64, u64)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["server", which, "--connections", &connections.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let port: u16 = line.trim().parse().map_err(io::Error::other)?;
    let before = resident(child.id())?;
    let config = Arc::new(client_config()?);
    let mut streams = Vec::new();
    let mut buffer = [1; MESSAGE];
    for _ in 0..connections {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, stream);
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        streams.push(stream);
    }
    let memory = resident(child.id())?.saturating_sub(before) / connections as u64;
    let begun = cpu_time(child.id())?;
    let turns = requests / connections;
    for _ in 0..turns {
        for stream in &mut streams {
            stream.write_all(&buffer)?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut buffer)?;
        }
    }
    let spent = cpu_time(child.id())? - begun;
    for mut stream in streams {
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    child.wait()?;
    Ok((spent / (turns * connections).max(1) as u64, memory))
}

fn server(which: &str, connections: usize) -> io::Result<()> {
    let (config, _) = tls::self_signed(&["localhost"])?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    match which {
        "tasks" => {
            let runtime = Runtime::builder().workers(1).build()?;
            let listener = sward::net::TcpListener::from_std(listener)?;
            println!("{port}");
            runtime.run(|| tasks(&listener, &config, connections))
        }
        "loop" => {
            println!("{port}");
            bare_loop(&listener, &config, connections)
        }
        "tokio" => {
            println!("{port}");
            tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?
                .block_on(futures(listener, config, connections))
        }
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}

fn tasks(
    listener: &sward::net::TcpListener,
    config: &Arc<ServerConfig>,
    connections: usize,
) -> io::Result<()> {
    let mut all = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let stream = tls::accept(config.clone(), stream)?;
        all.push(spawn(move || echo(stream)));
    }
    for task in join_all(all) {
        task.unwrap_or_else(|e| e.resume())?;
    }
    Ok(())
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

async fn futures(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    connections: usize,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let mut all = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handshake = acceptor.accept(stream);
        all.push(tokio::spawn(async move {
            let mut stream = handshake.await?;
            let mut buffer = [0; BUFFER];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return io::Result::Ok(()),
                    n => {
                        stream.write_all(&buffer[..n]).await?;
                        stream.flush().await?;
                    }
                }
            }
        }));
    }
    for task in all {
        task.await??;
    }
    Ok(())
}

fn bare_loop(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    connections: usize,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(512);
    listener.set_nonblocking(true)?;
    let fd = listener.as_raw_fd();
    let new = Token(usize::MAX);
    poll.registry()
        .register(&mut SourceFd(&fd), new, Interest::READABLE)?;
    let mut all: Vec<Option<(TcpStream, ServerConnection)>> = Vec::new();
    let mut ended = 0;
    while ended < connections {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == new {
                while let Some((stream, _)) = done(listener.accept())? {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    let fd = stream.as_raw_fd();
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .register(&mut SourceFd(&fd), Token(all.len()), both)?;
                    let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                    all.push(Some((stream, tls)));
                }
                continue;
            }
            let place = &mut all[event.token().0];
            // The end may be told of twice.
            let Some((stream, tls)) = place.as_mut().filter(|_| event.is_readable()) else {
                continue;
            };
            if serve(stream, tls, event.is_read_closed())? {
                *place = None;
                ended += 1;
            }
        }
    }
    Ok(())
}

/// Returns whether the connection is at its end.
fn serve(stream: &mut TcpStream, tls: &mut ServerConnection, closed: bool) -> io::Result<bool> {
    /// What rustls reads at a time.
    const READ: usize = 4096;
    let mut buffer = [0; BUFFER];
    loop {
        let Some(n) = done(tls.read_tls(stream))? else {
            return Ok(false);
        };
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        while let Some(n) = done(tls.reader().read(&mut buffer))?.filter(|&n| n > 0) {
            tls.writer().write_all(&buffer[..n])?;
        }
        while tls.wants_write() {
            tls.write_tls(stream)?;
        }
        if n == 0 || state.peer_has_closed() {
            return Ok(true);
        }
        if n < READ && !closed {
            return Ok(false);
        }
    }
}

fn done<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

/// Nanoseconds that the threads of a process have run.
fn cpu_time(process: u32) -> io::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // One that ends meanwhile has run for next to nothing.
        let path = thread?.path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let run = text.split(' ').next().unwrap_or("");
        sum += run.parse::<u64>().unwrap_or(0);
    }
    Ok(sum)
}

/// Bytes of memory that a process has in use.
fn resident(process: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages = text.split(' ').nth(1).and_then(|p| p.parse().ok());
    Ok(pages.unwrap_or(0) * 4096)
}

/// A client that asks for no name: who the server is does not matter here.
fn client_config() -> io::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
