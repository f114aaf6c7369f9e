//! The command line, read by hand.

use std::ffi::OsString;
use std::time::Duration;

pub const HELP: &str = "\
Puts N tasks to sleep at once, joins them all, and says what that took.

Usage: sleepers [--tasks N] [--sleep TIME] [--workers N] [--stack-size SIZE]
                [--threads] [--json]
       sleepers --table [--workers N] [--stack-size SIZE]

  --tasks N          how many: 1000, 1_000, 100K, 1M (default 100K)
  --sleep TIME       how long each sleeps: 200ms, 1.5s, 10m, 2h, 1d (default
                     200ms)
  --workers N        OS threads that run the tasks (default: one for each core)
  --stack-size SIZE  of each task or thread: 65536, 64K, 1M (default: that of
                     the library)
  --threads          the same with OS threads in place of tasks
  --json             one line of JSON on stdout and nothing else
  --table            tasks and threads at 100, 1K, 10K, 100K and 1M, beside the
                     figures of Peretin's talk; takes a minute or less
  --help             this text

The time is that from before the first spawn until after the last join. The
memory is that of a second phase: N tasks parked until all are, less what the
process had before its first spawn. docs/sleepers.md says how to read them.

Exit code: 0; 1 if it did not work out, 2 if it cannot be done as asked.
";

/// A task costs 4.7 KB: this many need half a terabyte.
const MAX_TASKS: usize = 100_000_000;

#[derive(Debug)]
pub enum Command {
    Help,
    Run(Run),
    Table(Options),
}

#[derive(Debug)]
pub struct Run {
    pub tasks: usize,
    pub sleep: Duration,
    pub workers: Option<usize>,
    pub stack_size: Option<usize>,
    pub threads: bool,
    pub json: bool,
}

/// What `--table` hands on to each of its runs.
#[derive(Debug)]
pub struct Options {
    pub workers: Option<usize>,
    pub stack_size: Option<usize>,
}

/// Reads the arguments behind the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let (mut tasks, mut sleep, mut workers, mut stack_size) = (None, None, None, None);
    let (mut threads, mut json, mut table) = (false, false, false);
    let mut args = args.map(|arg| {
        arg.into_string()
            .map_err(|arg| format!("{} is not valid UTF-8", arg.display()))
    });
    while let Some(arg) = args.next() {
        let arg = arg?;
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let is_switch = matches!(name, "--help" | "-h" | "--threads" | "--json" | "--table");
        if is_switch && inline.is_some() {
            return Err(format!("{name} takes no value"));
        }
        let mut value = |like| match inline
            .clone()
            .map_or_else(|| args.next().transpose(), |v| Ok(Some(v)))
        {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(format!("{name} needs a value, like {name} {like}")),
            Err(e) => Err(e),
        };
        match name {
            "--help" | "-h" => return Ok(Command::Help),
            "--threads" => threads = true,
            "--json" => json = true,
            "--table" => table = true,
            "--tasks" => once(&mut tasks, name, count(name, &value("100000")?)?)?,
            "--sleep" => once(&mut sleep, name, duration(name, &value("200ms")?)?)?,
            "--workers" => once(&mut workers, name, plain(name, &value("2")?)?)?,
            "--stack-size" => once(&mut stack_size, name, size(name, &value("64K")?)?)?,
            _ => return Err(format!("there is no argument {arg:?}")),
        }
    }
    if table {
        if tasks.is_some() || sleep.is_some() || threads || json {
            return Err("--table has its own --tasks, --sleep, --threads and --json".into());
        }
        return Ok(Command::Table(Options {
            workers,
            stack_size,
        }));
    }
    if threads && workers.is_some() {
        return Err("--workers says how many threads run the tasks; --threads has no tasks".into());
    }
    Ok(Command::Run(Run {
        tasks: tasks.unwrap_or(100_000),
        sleep: sleep.unwrap_or(Duration::from_millis(200)),
        workers,
        stack_size,
        threads,
        json,
    }))
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice")),
    }
}

/// Splits `12.5ms` into `12.5` and `ms`.
fn split(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(text.len()),
    )
}

fn plain(name: &str, text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{name} {text:?} is not a count, like 2"))
}

fn count(name: &str, text: &str) -> Result<usize, String> {
    let bad = || format!("{name} {text:?} is not a count, like 1000, 100K or 1M");
    let (digits, unit) = split(text);
    let unit = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        _ => return Err(bad()),
    };
    let digits = if digits.starts_with('_') {
        digits
    } else {
        &digits.replace('_', "")
    };
    let n = digits.parse::<usize>().map_err(|_| bad())?;
    match n.checked_mul(unit) {
        Some(n) if n <= MAX_TASKS => Ok(n),
        _ => Err(format!("{name} {text} is too many: at most 100M")),
    }
}

fn duration(name: &str, text: &str) -> Result<Duration, String> {
    let bad = || format!("{name} {text:?} is not a time, like 200ms, 1.5s, 10m, 2h or 1d");
    let (number, unit) = split(text);
    let unit = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "" if number == "0" => 1.0,
        "" => return Err(format!("{}; the unit is missing", bad())),
        _ => return Err(bad()),
    };
    // `parse` alone would take "-1", "1e9" and "inf".
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(bad());
    }
    let seconds = number.parse::<f64>().map_err(|_| bad())? * unit;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{name} {text} is too long"))
}

fn size(name: &str, text: &str) -> Result<usize, String> {
    let bad = || format!("{name} {text:?} is not a size, like 65536, 64K or 1M");
    let (digits, unit) = split(text);
    let unit = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return Err(bad()),
    };
    let n = digits.parse::<usize>().map_err(|_| bad())?;
    n.checked_mul(unit)
        .ok_or_else(|| format!("{name} {text} is more than there can be"))
}
