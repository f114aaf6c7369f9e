//! The HTTP client `ureq` over our streams, by its `Connector` and `Transport`, which its authors
//! keep outside of its semver promises (`ureq::unversioned`). Pooling, redirects, cookies and so on
//! are ureq's; names are looked up without blocking the worker. Left out is
//! `ConnectionDetails::register_shutdown`: `Agent::shutdown` does not reach a task that waits here,
//! but `kill` and `timeout` do.
//!
//! ```sh
//! ureq                         # asks a server in this program, by several tasks of one worker
//! ureq http://127.0.0.1:8080/
//! ```

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;

use sward::net::{TcpListener, TcpStream, ToSocketAddrs};
use sward::{Runtime, join_all, spawn};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error as Failure};

#[derive(Debug)]
struct GreenConnector;

#[derive(Debug)]
struct GreenTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Connector for GreenConnector {
    type Out = GreenTransport;

    fn connect(&self, to: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Failure> {
        let stream = within(to.timeout, || TcpStream::connect(&*to.addrs))?;
        stream.set_nodelay(to.config.no_delay())?;
        let (input, output) = (
            to.config.input_buffer_size(),
            to.config.output_buffer_size(),
        );
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(GreenTransport { stream, buffers }))
    }
}

impl Transport for GreenTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), Failure> {
        let limit = limit.for_write();
        self.stream
            .set_write_timeout(limit.not_zero().map(|l| *l))?;
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).map_err(|e| failure(e, limit))
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, Failure> {
        let limit = limit.for_read();
        self.stream.set_read_timeout(limit.not_zero().map(|l| *l))?;
        let input = self.buffers.input_append_buf();
        let amount = io::Read::read(&mut self.stream, input).map_err(|e| failure(e, limit))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Asked with the pool's lock held: must not park.
    fn is_open(&mut self) -> bool {
        let nothing = self.stream.try_read(&mut [0]);
        nothing.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Ends the attempt when ureq's time for it is over.
fn within<T>(limit: NextTimeout, f: impl FnOnce() -> io::Result<T>) -> Result<T, Failure> {
    match limit.not_zero() {
        None => Ok(f()?),
        Some(time) => match sward::timeout(*time, f) {
            Ok(done) => Ok(done?),
            Err(_) => Err(Failure::Timeout(limit.reason)),
        },
    }
}

fn failure(e: io::Error, limit: NextTimeout) -> Failure {
    match e.kind() {
        io::ErrorKind::TimedOut => Failure::Timeout(limit.reason),
        _ => e.into(),
    }
}

/// Asks the system on a thread of the blocking pool.
#[derive(Debug)]
struct GreenResolver;

impl Resolver for GreenResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        limit: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Failure> {
        let host = uri.host().ok_or(Failure::HostNotFound)?;
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let found = within(limit, || (host, port).to_socket_addrs())?;
        let mut addresses = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()).take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(Failure::HostNotFound);
        }
        Ok(addresses)
    }
}

/// Answers the requests of one connection, which have no body.
fn serve(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    while let Some(first) = lines.next().transpose()? {
        while lines
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        let path = first.split(' ').nth(1).unwrap_or("/");
        let body = format!("you asked for {path}");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        (&stream).write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

fn fetch(agent: &Agent, url: &str) -> Result<String, Failure> {
    agent.get(url).call()?.body_mut().read_to_string()
}

fn demo(agent: Agent) -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let acceptor = spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(spawn(move || serve(stream)));
        }
    });
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let agent = agent.clone();
            spawn(move || {
                let get = |round| fetch(&agent, &format!("http://{address}/{n}/{round}"));
                (0..3).map(get).collect::<Result<Vec<_>, _>>()
            })
        })
        .collect();
    for task in join_all(tasks) {
        println!("{:?}", task.map_err(|e| e.to_string())??);
    }
    acceptor.kill();
    Ok(())
}

fn main() -> ExitCode {
    let agent = Agent::with_parts(Config::default(), GreenConnector, GreenResolver);
    let runtime = Runtime::builder().workers(1).build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.run(move || match std::env::args().nth(1) {
            None => demo(agent),
            Some(url) => {
                println!("{}", fetch(&agent, &url)?);
                Ok(())
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ureq: {e}");
            ExitCode::FAILURE
        }
    }
}
