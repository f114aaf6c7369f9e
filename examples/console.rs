//! Looks into a running program: `console PATH COMMAND...` asks the console at PATH, as in
//! `console /tmp/app.sock ps parked`. Without arguments it shows itself: a server with a few tasks,
//! one of them in trouble, and what its console says of them.
#![allow(clippy::disallowed_types)] // a client on an ordinary thread, which may block

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sward::sync::Mutex;
use sward::{Builder, Runtime, sleep, spawn};

/// Sends one command and returns the lines of the reply, which ends with a line that is a dot.
fn ask(path: &str, command: &str) -> std::io::Result<Vec<String>> {
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "{command}")?;
    let lines = BufReader::new(stream).lines();
    lines
        .take_while(|line| !matches!(line.as_deref(), Ok(".")))
        .collect()
}

fn print(path: &str, command: &str) -> std::io::Result<()> {
    for line in ask(path, command)? {
        println!("{line}");
    }
    Ok(())
}

fn demo() -> std::io::Result<()> {
    let path = std::env::temp_dir().join("sward-demo-%p");
    let runtime = Runtime::builder().workers(1).console(path).build()?;
    let path = std::env::temp_dir().join(format!("sward-demo-{}", std::process::id()));
    let path = path.to_string_lossy().into_owned();
    runtime.run(move || {
        let table = Arc::new(Mutex::new(0));
        let holder = table.clone();
        let slow = Builder::new().name("slow").spawn(move || {
            let mut rows = holder.lock();
            // With the lock held: the others wait for this.
            sleep(Duration::from_secs(60));
            *rows += 1;
        })?;
        sleep(Duration::from_millis(5));
        for _ in 0..100 {
            let table = table.clone();
            drop(spawn(move || *table.lock() += 1));
        }
        sleep(Duration::from_millis(5));
        // The console runs on threads of its own, so a client may block this worker.
        let (tell, told) = sward::sync::bounded(1);
        let culprit = slow.id();
        std::thread::spawn(move || {
            let commands = [
                "dump",
                &format!("stack {culprit}"),
                &format!("kill {culprit}"),
            ];
            let asked = commands.iter().try_for_each(|command| {
                println!("> {command}");
                print(&path, command)
            });
            // The task waits for this.
            let _ = tell.send(asked);
        });
        told.recv().unwrap_or(Ok(()))?;
        println!("killed: {}", slow.join().is_err());
        Ok(())
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        None => demo(),
        Some((path, [])) => print(path, "help"),
        Some((path, command)) => print(path, &command.join(" ")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("console: {e}");
            ExitCode::FAILURE
        }
    }
}
