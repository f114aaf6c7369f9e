//! A chat: one room, lines of text, a name for each. Whoever does not read is thrown out.
//!
//! ```sh
//! cargo run --example chat                # serves 127.0.0.1:4000
//! nc 127.0.0.1 4000                       # in other terminals
//! cargo run --example chat -- --demo      # talks to itself, and ends
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sward::net::TcpStream;
use sward::net::server::StreamServer;
use sward::sync::broadcast::{self, Receiver, Sender};
use sward::{scope, spawn};

type Line = Arc<str>;

/// Lines that are kept for those who read slowly; who is further behind is thrown out.
const KEPT: usize = 64;
/// The longest line.
const LONGEST: u64 = 1000;
/// How long somebody may let us wait for room to write to him.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads a line; an empty one is the end.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(LONGEST).read_line(&mut line)?;
    Ok(line)
}

/// Writes what is said, until the room is closed or the reader is too slow.
fn listen(mut stream: &TcpStream, mut said: Receiver<Line>) {
    while let Ok(line) = said.recv() {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    // The task that reads from it sees the end.
    let _ = stream.shutdown(Shutdown::Both);
}

fn visit(stream: &TcpStream, room: &Sender<Line>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    (&mut &*stream).write_all(b"Your name, please:\n")?;
    let name = read_line(&mut reader)?;
    let name = name.trim();
    let say = |text: &str| {
        let line = format!("{name} {}\n", text.trim());
        let _ = room.send(line.into()); // fails when nobody listens
    };

    let said = room.subscribe();
    say("is here");
    scope(|s| {
        let listener = s.spawn(|| listen(stream, said));
        while let Ok(line) = read_line(&mut reader)
            && !line.is_empty()
        {
            say(&format!("says: {line}"));
        }
        listener.kill();
    });
    say("has left");
    Ok(())
}

#[sward::main]
fn main() -> io::Result<()> {
    let demo = std::env::args().nth(1).is_some_and(|a| a == "--demo");
    let (room, _) = broadcast::channel(KEPT);
    let server = StreamServer::bind(if demo {
        "127.0.0.1:0"
    } else {
        "127.0.0.1:4000"
    })?;
    let serving = server.start(move |stream: TcpStream, _| visit(&stream, &room))?;
    if demo {
        show(serving.local_addr())?;
        serving.stop(Duration::from_secs(1));
    }
    serving.join()
}

/// Three visitors, one of whom does not read.
fn show(room: SocketAddr) -> io::Result<()> {
    let enter = |name: &str| {
        let stream = TcpStream::connect(room)?;
        (&mut &stream).write_all(name.as_bytes())?;
        io::Result::Ok(stream)
    };
    let mut ann = BufReader::new(enter("ann\n")?);
    let mut hear = || read_line(&mut ann);
    hear()?;
    print!("{}", hear()?);
    let bob = Arc::new(enter("bob\n")?);
    print!("{}", hear()?);
    let mut carl = enter("carl, who does not read,\n")?;
    print!("{}", hear()?);

    // Bob talks, and ann listens, until carl is thrown out.
    let ears = bob.clone();
    spawn(move || io::copy(&mut &*ears, &mut io::sink()));
    let long = "bla ".repeat(200) + "\n";
    let mut heard = 0;
    let last = loop {
        (&mut &*bob).write_all(long.as_bytes())?;
        let line = hear()?;
        if line.contains("has left") {
            break line;
        }
        heard += 1;
    };
    print!("after {heard} lines: {last}");
    let rest = io::copy(&mut carl, &mut io::sink())?;
    println!("{rest} bytes had been sent to him");
    Ok(())
}
