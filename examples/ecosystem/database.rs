//! The crate `redis` over our streams. Its own connections use std's sockets and would block the
//! worker; but its commands and pipelines run on whatever implements its trait `ConnectionLike`,
//! and its parser reads from any `Read`. [`Connection`] below is all that it takes.
//!
//! ```sh
//! database 127.0.0.1:6379    # what these tasks do, on a server that runs there
//! database --self-test       # on a server of its own: starts `redis-server`, and stops it
//! ```

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use redis::{
    Commands, ConnectionLike, ErrorKind, Parser, RedisError, RedisResult, ServerErrorKind, Value,
};
use sward::net::{TcpListener, TcpStream};
use sward::process::{Child, Command};
use sward::{Runtime, join_all, spawn};

/// A connection to a Redis server over any stream.
///
/// What belongs to a connection of that crate and not to its trait is missing: `AUTH` and `SELECT`
/// are commands that a user sends, and `PubSub` needs a loop of its own over the parser.
struct Connection<S> {
    stream: S,
    parser: Parser,
    /// All replies to what was sent have been read. A task that is killed or timed out in between
    /// leaves it false: the next reply would be that of another command.
    in_step: bool,
}

impl<S: Read + Write> Connection<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            parser: Parser::new(),
            in_step: true,
        }
    }

    fn request(&mut self, commands: &[u8], replies: usize) -> RedisResult<Vec<Value>> {
        if !std::mem::replace(&mut self.in_step, false) {
            return Err((ErrorKind::Client, "an earlier command was broken off").into());
        }
        self.stream.write_all(commands)?;
        let replies = (0..replies)
            .map(|_| self.parser.parse_value(&mut self.stream))
            .collect::<RedisResult<_>>()?;
        self.in_step = true;
        Ok(replies)
    }
}

impl<S: Read + Write> ConnectionLike for Connection<S> {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        Ok(self.request(command, 1)?.remove(0))
    }

    /// Returns `count` replies; those before them, `offset` many, are only looked at for errors.
    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let mut replies = self.request(commands, offset + count)?;
        let wanted = replies.split_off(offset);
        for reply in replies {
            reply.extract_error()?;
        }
        Ok(wanted)
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.in_step
    }
}

fn connect(address: &str) -> RedisResult<Connection<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(Connection::new(stream))
}

fn ended(e: impl Display) -> RedisError {
    let text = e.to_string();
    (ErrorKind::Client, "a task did not end well", text).into()
}

/// Ten tasks with a connection each, on one worker; and one that waits for all of them, in the
/// server. The commands are those of the crate's trait `Commands`.
fn demo(address: &str) -> RedisResult<()> {
    let begun = Instant::now();
    // Names of our own, in case that somebody else uses the server.
    let own = format!("sward-example-{}", std::process::id());
    let (counter, list) = (format!("{own}-counter"), format!("{own}-list"));
    let mut connection = connect(address)?;

    let mut waits = connect(address)?;
    let key = list.clone();
    let waiter = spawn(move || -> RedisResult<Vec<usize>> {
        // Each parks the task until another task has pushed something.
        let mut popped = Vec::new();
        for _ in 0..10 {
            let (_, n): (String, usize) = waits.blpop(&key, 10.0)?;
            popped.push(n);
        }
        popped.sort_unstable();
        Ok(popped)
    });

    let tasks: Vec<_> = (0..10)
        .map(|n: usize| {
            let (address, counter, list) = (address.to_owned(), counter.clone(), list.clone());
            spawn(move || -> RedisResult<()> {
                let mut connection = connect(&address)?;
                for _ in 0..100 {
                    connection.incr::<_, _, ()>(&counter, 1)?;
                }
                // A transaction in one trip.
                redis::pipe()
                    .atomic()
                    .incr(&counter, 10)
                    .rpush(&list, n)
                    .exec(&mut connection)
            })
        })
        .collect();
    for task in join_all(tasks) {
        task.map_err(ended)??;
    }
    let popped = waiter.join().map_err(ended)??;
    let total: u64 = connection.get(&counter)?;
    println!("the counter is {total}, and these were popped: {popped:?}");

    // A wrong command is an error of the server, and the connection stays in step.
    let wrong = connection.incr::<_, _, ()>(&list, "one").unwrap_err();
    assert_eq!(
        wrong.kind(),
        ErrorKind::Server(ServerErrorKind::ResponseError)
    );
    // A command that is broken off leaves the connection out of step, and it says so.
    let early = sward::timeout(Duration::from_millis(20), || {
        connection.blpop::<_, (String, String)>(&list, 10.0)
    });
    assert!(early.is_err() && !connection.is_open());
    let refused = connection.get::<_, u64>(&counter).unwrap_err();
    println!("after a time-out in the middle: {refused}");

    let removed: usize = connect(address)?.del(&[counter, list])?;
    println!("removed {removed} key; all took {:?}", begun.elapsed());
    Ok(())
}

/// A server of our own, in a directory of its own.
struct Server {
    child: Child,
    address: String,
    directory: PathBuf,
}

impl Server {
    fn start() -> std::io::Result<Self> {
        let name = format!("sward-database-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory)?;
        // Somebody else may take the port in between: then the server ends, and we ask again.
        for _ in 0..3 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no"])
                .current_dir(&directory)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            // Its log says when it is ready, and ends when it ends.
            let log = child.stdout.take().map(BufReader::new);
            let mut lines = log.into_iter().flat_map(BufRead::lines);
            if lines.any(|l| l.is_ok_and(|l| l.contains("Ready to accept connections"))) {
                // So that the server can write on.
                spawn(move || lines.for_each(drop));
                let address = format!("127.0.0.1:{port}");
                return Ok(Self {
                    child,
                    address,
                    directory,
                });
            }
            child.wait()?;
        }
        Err(std::io::Error::other("redis-server does not start"))
    }

    fn stop(mut self) -> std::io::Result<()> {
        let status = self.child.terminate(Duration::from_secs(5))?;
        println!("redis-server: {status}");
        std::fs::remove_dir_all(&self.directory)
    }
}

fn self_test() -> RedisResult<()> {
    let server = Server::start().map_err(|e| {
        let hint = "cannot start redis-server (Debian: apt-get install redis-server)";
        RedisError::from((ErrorKind::Client, hint, e.to_string()))
    })?;
    let done = demo(&server.address);
    server.stop()?;
    done
}

fn main() -> ExitCode {
    let Some(argument) = std::env::args().nth(1) else {
        eprintln!("usage: database ADDRESS | database --self-test");
        return ExitCode::FAILURE;
    };
    let runtime = Runtime::builder().workers(1).build();
    let done = runtime.map_err(RedisError::from).and_then(|runtime| {
        runtime.run(move || match argument.as_str() {
            "--self-test" => self_test(),
            address => demo(address),
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("database: {e}");
            ExitCode::FAILURE
        }
    }
}
