//! Peretin's two tables, measured here and beside his figures.
//!
//! Each size is measured in a process of its own (this program again, with `--json`), so that no
//! run finds the warm stacks and free memory of the one before.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::Options;
use crate::progress::overwrite;
use crate::report::{bytes, grouped, time};

/// One size, with what the talk gives for it: `-` where it has no figure.
struct Row {
    n: usize,
    greenlets: [&'static str; 2],
    threads: [&'static str; 2],
}

/// Time and memory, Prog1 and Prog2.
const TALK: [Row; 5] = [
    Row {
        n: 100,
        greenlets: ["204 ms", "33 MB"],
        threads: ["207 ms", "4.9 GB"],
    },
    Row {
        n: 1_000,
        greenlets: ["223 ms", "41 MB"],
        threads: ["327 ms", "11.8 GB"],
    },
    Row {
        n: 10_000,
        greenlets: ["421 ms", "114 MB"],
        threads: ["2.55 s", "82 GB"],
    },
    Row {
        n: 100_000,
        greenlets: ["3.06 s", "858 MB"],
        threads: ["25.42 s", "-"],
    },
    Row {
        n: 1_000_000,
        greenlets: ["-", "-"],
        threads: ["-", "-"],
    },
];

const SLEEP: &str = "200ms";
/// A size that takes longer is given up, and so are the larger ones.
const TASKS_LIMIT: Duration = Duration::from_secs(60);
const THREADS_LIMIT: Duration = Duration::from_secs(20);

/// What one run gave: time, then memory with page tables.
type Cell = Option<[String; 2]>;

pub fn print(options: &Options) -> Result<(), Failure> {
    let mut notes = Vec::new();
    let tasks = column("tasks", options, TASKS_LIMIT, &mut notes)?;
    let threads = column("threads", options, THREADS_LIMIT, &mut notes)?;
    if io::stderr().is_terminal() {
        overwrite("");
    }
    let mut text = String::new();
    for (which, title) in [
        "Prog1: N sleep 200 ms each; time from the first spawn to the last join",
        "Prog2: memory while all N are parked (here: resident, with page tables)",
    ]
    .into_iter()
    .enumerate()
    {
        text.push_str(&render(which, title, &tasks, &threads));
        text.push('\n');
    }
    text.push_str(
        "Greenlets (gevent) and Python threads: Peretin's figures, from another machine.\n\
         His memory of threads looks like address space, at 8 MB a stack.\n",
    );
    for note in notes {
        text.push_str(&wrapped(&note));
    }
    crate::print(&text)
}

/// Measures every size, up to the first that does not work out.
fn column(
    what: &str,
    options: &Options,
    limit: Duration,
    notes: &mut Vec<String>,
) -> Result<Vec<Cell>, Failure> {
    let mut cells = Vec::new();
    for row in &TALK {
        let name = format!("{} {what}", grouped(row.n));
        say(&format!("measuring {name}"));
        match cell(row.n, what, options, limit) {
            Ok((cell, note)) => {
                cells.push(Some(cell));
                notes.extend(note);
            }
            Err(Failure::Usage(text)) => return Err(Failure::Usage(text)),
            Err(Failure::Run(text)) => {
                notes.push(text);
                break;
            }
        }
    }
    cells.resize(TALK.len(), None);
    Ok(cells)
}

/// Measures one size in a process of its own. Gives its note, if it has one, besides.
fn cell(
    n: usize,
    what: &str,
    options: &Options,
    limit: Duration,
) -> Result<([String; 2], Option<String>), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--json", "--sleep", SLEEP, "--tasks", &n.to_string()]);
    if what == "threads" {
        command.arg("--threads");
    } else if let Some(workers) = options.workers {
        command.args(["--workers", &workers.to_string()]);
    }
    if let Some(bytes) = options.stack_size {
        command.args(["--stack-size", &bytes.to_string()]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if !ends(&mut child, limit)? {
        child.kill()?;
        child.wait()?;
        return Err(Failure::Run(format!(
            "{} {what}: not done after {}",
            grouped(n),
            time(limit)
        )));
    }
    let out = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&out.stderr);
    let note = stderr.trim().trim_start_matches("sleepers: ");
    match out.status.code() {
        Some(0) => {}
        Some(2) => return Err(Failure::Usage(note.into())),
        _ if note.is_empty() => {
            let text = format!("{} {what}: {}", grouped(n), out.status);
            return Err(Failure::Run(text));
        }
        _ => return Err(Failure::Run(note.into())),
    }
    let line = String::from_utf8_lossy(&out.stdout);
    let field =
        |name| field(&line, name).ok_or_else(|| Failure::Run(format!("no {name:?} in {line:?}")));
    let elapsed = time(Duration::from_secs_f64(field("elapsed_ms")? / 1e3));
    let memory = bytes((field("rss_bytes")? + field("pte_bytes")?) as u64);
    Ok(([elapsed, memory], (!note.is_empty()).then(|| note.into())))
}

/// Waits for the child's end, for at most `limit`; returns whether it came.
fn ends(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > limit {
            return Ok(false);
        }
        // On an ordinary thread this blocks, and no runtime is started.
        sward::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

/// The number behind `"name":` in a line of flat JSON.
fn field(line: &str, name: &str) -> Option<f64> {
    let rest = line.split_once(&format!("\"{name}\":"))?.1;
    rest[..rest.find([',', '}'])?].parse().ok()
}

fn render(which: usize, title: &str, tasks: &[Cell], threads: &[Cell]) -> String {
    let mut text = format!(
        "{title}\n\n\
         |         N | sward tasks | OS threads | greenlets | Python threads |\n\
         |----------:|------------:|-----------:|----------:|---------------:|\n"
    );
    for ((row, tasks), threads) in TALK.iter().zip(tasks).zip(threads) {
        let ours = |cell: &Cell| {
            cell.as_ref()
                .map_or_else(|| "-".into(), |c| c[which].clone())
        };
        text.push_str(&format!(
            "| {:>9} | {:>11} | {:>10} | {:>9} | {:>14} |\n",
            grouped(row.n),
            ours(tasks),
            ours(threads),
            row.greenlets[which],
            row.threads[which],
        ));
    }
    text
}

/// Breaks a note into lines of 80 columns.
fn wrapped(note: &str) -> String {
    let mut text = String::from("-");
    let mut column = 1;
    for word in note.split_whitespace() {
        if column + 1 + word.len() >= 80 {
            text.push_str("\n ");
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text.push('\n');
    text
}

/// Says on stderr what is going on: a line that the next replaces, if somebody watches.
fn say(text: &str) {
    if io::stderr().is_terminal() {
        overwrite(text);
    } else {
        let _ = writeln!(io::stderr(), "{text}");
    }
}
