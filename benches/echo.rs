//! What does an echo over TCP cost a server, in CPU time for each request?
//!
//! `echo [--connections N] [--requests N] [--rounds N]` runs two servers, each in a process of its
//! own, in turns: tasks of one worker, each with a connection, and a bare loop around epoll. The
//! client writes to all connections and then reads from all of them, again and again. The table has
//! the median of the rounds. `echo server tasks|loop` is one of the servers alone, for `strace -c`
//! and `perf stat`: it prints its port, and the time after its last connection.
#![allow(clippy::disallowed_types, clippy::print_stdout)]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use sward::io::{Direction, Limit, Source};
use sward::{Runtime, join_all, spawn};

const BUFFER: usize = 1024;
const MESSAGE: usize = 64;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
        given.unwrap_or(default)
    };
    let connections = number("--connections", 100);
    if args.get(1).is_some_and(|a| a == "server") {
        return server(args.get(2).is_some_and(|a| a == "loop"), connections);
    }
    let requests = number("--requests", 200_000);
    let mut results = [Vec::new(), Vec::new()];
    for round in 0..number("--rounds", 15) * 2 {
        let which = (round + round / 2) % 2;
        let spent = measure(["tasks", "loop"][which], connections, requests)?;
        results[which].push(spent);
    }
    println!("{connections} connections, CPU time of the server for each request:");
    let median = results.map(|mut all| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    });
    println!("tasks {} ns, bare loop {} ns", median[0], median[1]);
    println!("ratio {:.3}", median[0] as f64 / median[1].max(1) as f64);
    Ok(())
}

/// Returns nanoseconds for each request.
fn measure(which: &str, connections: usize, requests: usize) -> io::Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["server", which, "--connections", &connections.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
    let mut lines = BufReader::new(out).lines();
    let mut next = || -> io::Result<u64> {
        let line = lines.next().ok_or(ErrorKind::UnexpectedEof)??;
        line.parse().map_err(io::Error::other)
    };
    let port = u16::try_from(next()?).map_err(io::Error::other)?;
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let turns = requests / connections;
    let mut buffer = [1; MESSAGE];
    for _ in 0..turns {
        for stream in &mut streams {
            stream.write_all(&buffer)?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut buffer)?;
        }
    }
    drop(streams);
    let spent = next()?;
    child.wait()?;
    Ok(spent / (turns * connections) as u64)
}

fn server(bare: bool, connections: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    if bare {
        bare_loop(&listener, connections)?;
        println!("{}", cpu_time()?);
        return Ok(());
    }
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(|| tasks(listener, connections))?;
    // Before the worker's thread ends.
    println!("{}", cpu_time()?);
    Ok(())
}

fn tasks(listener: TcpListener, connections: usize) -> io::Result<()> {
    let listener = Source::new(listener)?;
    let mut all = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.io(Direction::Read, Limit::NONE, TcpListener::accept)?;
        stream.set_nodelay(true)?;
        let stream = Source::new(stream)?;
        all.push(spawn(move || echo(&stream)));
    }
    for task in join_all(all) {
        task.unwrap_or_else(|e| e.resume())?;
    }
    Ok(())
}

fn echo(stream: &Source<TcpStream>) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        let read = |mut s: &TcpStream| s.read(&mut buffer);
        let n = stream.io_bytes(Direction::Read, Limit::NONE, BUFFER, read)?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let write = |mut s: &TcpStream| s.write(rest);
            let n = stream.io_bytes(Direction::Write, Limit::NONE, rest.len(), write)?;
            rest = &rest[n..];
        }
    }
}

fn bare_loop(listener: &TcpListener, connections: usize) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(512);
    let mut streams = Vec::new();
    for i in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let fd = stream.as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut SourceFd(&fd), Token(i), both)?;
        streams.push(Some(stream));
    }
    let mut left = connections;
    let mut buffer = [0; BUFFER];
    while left > 0 {
        poll.poll(&mut events, None)?;
        for event in &events {
            let place = &mut streams[event.token().0];
            // The end may be told of twice.
            let Some(mut stream) = place.as_ref().filter(|_| event.is_readable()) else {
                continue;
            };
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => {
                        *place = None;
                        left -= 1;
                    }
                    Ok(n) => {
                        stream.write_all(&buffer[..n])?;
                        // The end that came with the data is not told of again.
                        if event.is_read_closed() {
                            continue;
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
                break;
            }
        }
    }
    Ok(())
}

/// Nanoseconds that the threads of this process have run.
fn cpu_time() -> io::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // One that ends meanwhile has run for next to nothing.
        let path = thread?.path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let run = text.split(' ').next().unwrap_or("");
        sum += run.parse::<u64>().unwrap_or(0);
    }
    Ok(sum)
}
