//! The example `sleepers` as a program: what it prints, and how it ends on bad input.
//!
//! `cargo test` builds the examples first. Each run has a time limit.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// The example beside this test: `target/debug/deps/sleepers-...` has `target/debug/examples`.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/sleepers");
    assert!(
        path.exists(),
        "{path:?} is not built: cargo build --example sleepers"
    );
    path
}

fn start(mut command: Command) -> Child {
    // A panic's backtrace is no part of what is tested.
    command
        .env_remove("RUST_BACKTRACE")
        .env_remove("SWARD_WORKERS")
        .env_remove("SWARD_STACK_SIZE");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for the end. What it prints must fit into a pipe, 64 KiB.
fn finish(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("not done after {LIMIT:?}: {:?}", child.wait_with_output());
        }
        sward::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(args);
    finish(start(command))
}

/// Runs it with so many KiB of address space.
fn run_within(kib: usize, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &kib.to_string()]);
    command.arg(program()).args(args);
    finish(start(command))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Checks that the run went well with nothing on stderr, and returns its stdout.
#[track_caller]
fn ok(out: &Output) -> &str {
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    text(&out.stdout)
}

/// Reads a line of flat JSON whose values are numbers.
#[track_caller]
fn fields(stdout: &str) -> Vec<(&str, f64)> {
    let line = stdout.strip_suffix('\n').unwrap();
    assert!(!line.contains(['\n', '\r', ' ']), "{stdout:?}");
    let inner = line.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let field = |pair: &'_ str| -> (usize, f64) {
        let (name, value) = pair.split_once(':').unwrap();
        assert!(
            name.len() > 2 && name.starts_with('"') && name.ends_with('"'),
            "{pair:?}"
        );
        (name.len(), value.parse().unwrap())
    };
    inner
        .split(',')
        .map(|pair| {
            let (n, value) = field(pair);
            (&pair[1..n - 1], value)
        })
        .collect()
}

const NAMES: [&str; 7] = [
    "tasks",
    "sleep_ms",
    "workers",
    "elapsed_ms",
    "rss_bytes",
    "pte_bytes",
    "bytes_per_task",
];

#[track_caller]
fn json(args: &[&str]) -> [f64; 7] {
    let out = run(args);
    let (names, values): (Vec<_>, Vec<_>) = fields(ok(&out)).into_iter().unzip();
    assert_eq!(names, NAMES);
    values.try_into().unwrap()
}

#[test]
fn json_is_one_line_with_the_fields_of_the_issue() {
    let args = [
        "--tasks",
        "2000",
        "--sleep",
        "20ms",
        "--workers",
        "2",
        "--json",
    ];
    let [tasks, sleep, workers, elapsed, rss, pte, each] = json(&args);
    assert_eq!([tasks, sleep, workers], [2000.0, 20.0, 2.0]);
    assert!(elapsed >= 20.0, "{elapsed}");
    // A page each at least.
    assert!(rss >= 2000.0 * 4096.0 && pte > 0.0, "{rss} {pte}");
    assert_eq!(each, ((rss + pte) / tasks).round());
    assert!(each < 65_536.0, "{each}");
}

#[test]
fn the_arguments_are_heeded_in_every_spelling() {
    let [tasks, sleep, workers, ..] = json(&[
        "--tasks=1_0",
        "--sleep=1.5ms",
        "--workers=3",
        "--stack-size=64K",
        "--json",
    ]);
    assert_eq!([tasks, sleep, workers], [10.0, 1.5, 3.0]);
    let [tasks, sleep, ..] = json(&["--json", "--tasks", "1K", "--sleep", "0.002s"]);
    assert_eq!([tasks, sleep], [1000.0, 2.0]);
}

#[test]
fn nothing_to_do_is_done() {
    let [tasks, .., each] = json(&["--tasks", "0", "--json"]);
    assert_eq!([tasks, each], [0.0, 0.0]);
    json(&["--tasks", "100", "--sleep", "0", "--json"]);
    json(&["--tasks", "100", "--sleep", "0ms", "--json"]);
    json(&["--tasks", "0", "--sleep", "0d", "--threads", "--json"]);
    assert!(ok(&run(&["--tasks", "0", "--sleep", "0ms"])).starts_with("0 tasks asleep for 0 ms"));
}

#[test]
fn without_json_it_is_to_be_read() {
    let out = run(&["--tasks", "1000", "--sleep", "150ms"]);
    let block = ok(&out);
    assert!(
        block.starts_with("1,000 tasks asleep for 150 ms on "),
        "{block}"
    );
    for row in [
        "elapsed",
        "above the sleep",
        "resident memory",
        "page tables",
        "both, each",
    ] {
        assert!(
            block.lines().any(|l| l.trim_start().starts_with(row)),
            "{row}: {block}"
        );
    }
    assert!(block.lines().all(|l| l.len() < 80), "{block}");
}

#[test]
fn threads_do_the_same() {
    let [tasks, _, workers, elapsed, _, _, each] = json(&[
        "--threads",
        "--tasks",
        "20",
        "--sleep",
        "10ms",
        "--stack-size",
        "64K",
        "--json",
    ]);
    assert_eq!([tasks, workers], [20.0, 0.0]);
    assert!(elapsed >= 10.0 && each > 0.0, "{elapsed} {each}");
}

#[test]
fn help_fits_a_terminal() {
    let out = run(&["--json", "--help", "--no-such"]);
    let help = ok(&out);
    assert!(help.lines().all(|l| l.len() <= 80), "{help}");
    for name in [
        "tasks",
        "sleep",
        "workers",
        "stack-size",
        "threads",
        "json",
        "table",
        "help",
    ] {
        assert!(help.contains(&format!("\n  --{name} ")), "{name}: {help}");
    }
}

#[test]
fn bad_input_is_named_and_exits_with_2() {
    let cases: [(&[&str], &str); 24] = [
        (
            &["--workers", "0"],
            "0 workers was asked for; it takes 1 to",
        ),
        (
            &["--workers", "10000"],
            "10000 workers was asked for; it takes 1 to",
        ),
        (&["--workers", "two"], "--workers \"two\" is not a count"),
        (&["--stack-size", "4K"], "stack of 4096 bytes was asked for"),
        (&["--stack-size", "0"], "stack of 0 bytes was asked for"),
        (&["--stack-size", "64Q"], "\"64Q\" is not a size"),
        (&["--stack-size", "99999999999G"], "more than there can be"),
        (
            &["--table", "--stack-size", "4K"],
            "stack of 4096 bytes was asked for",
        ),
        (&["--tasks", "-1"], "--tasks \"-1\" is not a count"),
        (&["--tasks", "1e3"], "is not a count"),
        (&["--tasks", ""], "is not a count"),
        (&["--tasks", "18446744073709551615"], "at most 100M"),
        (&["--tasks", "18446744073709551615K"], "at most 100M"),
        (&["--tasks"], "--tasks needs a value"),
        (&["--sleep", "5"], "the unit is missing"),
        (&["--sleep", "-5s"], "is not a time"),
        (&["--sleep", "infs"], "is not a time"),
        (&["--sleep", "1.2.3s"], "is not a time"),
        (&["--sleep", "99999999999999999999d"], "is too long"),
        (&["--json=1"], "--json takes no value"),
        (&["--tasks", "1", "--tasks", "1"], "--tasks is there twice"),
        (&["--table", "--json"], "--table has its own"),
        (&["--threads", "--workers", "2"], "--threads has no tasks"),
        (&["sleep", "1s"], "there is no argument \"sleep\""),
    ];
    for (args, why) in cases {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty(), "{args:?}: {out:?}");
        let stderr = text(&out.stderr);
        let said = stderr.lines().find(|l| l.starts_with("sleepers: "));
        assert!(said.is_some_and(|l| l.contains(why)), "{args:?}: {stderr}");
    }
    let mut command = Command::new(program());
    command.arg(OsStr::from_bytes(b"--tasks=\xff"));
    let out = finish(start(command));
    assert!(
        out.status.code() == Some(2) && text(&out.stderr).contains("UTF-8"),
        "{out:?}"
    );
}

#[test]
fn a_limited_address_space_makes_waves_or_an_error() {
    // Some stacks fit: all is done, and the reason why it took longer is said.
    let out = run_within(1 << 20, &["--tasks", "20000", "--sleep", "1ms", "--json"]);
    assert!(out.status.success(), "{out:?}");
    let stderr = text(&out.stderr);
    assert!(
        stderr.contains("of 20,000 tasks at once") && stderr.contains("ulimit -v"),
        "{stderr}"
    );
    assert_eq!(fields(text(&out.stdout))[0], ("tasks", 20_000.0));

    for args in [&["--tasks", "1M"][..], &["--tasks", "100", "--threads"]] {
        let out = run_within(200_000, args);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {out:?}");
        assert!(text(&out.stderr).contains("ulimit -v"), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty(), "{args:?}: {out:?}");
    }
}

#[test]
fn a_day_of_sleep_goes_on_until_it_is_interrupted() {
    let mut command = Command::new(program());
    command.args(["--tasks", "1000", "--sleep", "1d"]);
    let mut child = start(command);
    sward::sleep(Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None);
    let kill = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -INT {}", child.id()))
        .status();
    assert!(kill.unwrap().success());
    let out = finish(child);
    assert_eq!(out.status.signal(), Some(2), "{out:?}");
    assert!(out.stdout.is_empty(), "{out:?}");
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(program());
        finish(start(command))
    };
    let out = shell("\"$0\" --tasks 1 --sleep 0 > /dev/full");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(
        text(&out.stderr).starts_with("sleepers: stdout: "),
        "{out:?}"
    );
    let out = shell("{ \"$0\" --tasks 1 --sleep 0; echo $? >&2; } | :");
    assert_eq!(text(&out.stderr), "0\n", "{out:?}");
}
