//! The standard streams in tasks: they wait without blocking the worker, and lose nothing.
//!
//! Each test starts itself again with streams of its choice; `SWARD_TEST_CHILD` says what to do.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::within;
use sward_runtime::io::{pipe, stderr, stdin, stdout};
use sward_runtime::process::{Child, Command, Stdio};
use sward_runtime::{Runtime, join_all, sleep, spawn, timeout};

const CHILD: &str = "SWARD_TEST_CHILD";
const SHORT: Duration = Duration::from_millis(20);

/// In the parent: this test again, as a process that runs `body` and nothing else.
fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            name,
            "--exact",
            "--nocapture",
            "--test-threads=1",
            "--quiet",
        ])
        .env(CHILD, "1")
        .kill_on_drop(true);
    command
}

/// In the child: `body` in a task of a single worker, then the end, before the test harness can
/// print anything.
fn child(name: &str, body: impl FnOnce() + Send) -> bool {
    if std::env::var_os(CHILD).is_none() {
        return false;
    }
    within(name, || {
        Runtime::builder().workers(1).build().unwrap().run(body);
    });
    // SAFETY: a number.
    unsafe { libc::_exit(0) }
}

/// What follows the harness's own words, which end where the test says so.
fn said(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout);
    text.split_once("<<")
        .map_or_else(String::new, |(_, text)| text.to_owned())
}

fn begin() {
    stdout().write_all(b"<<").unwrap();
}

/// A task that runs beside: how often it did says whether the worker was blocked.
fn beats() -> &'static AtomicUsize {
    let beats: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    spawn(|| {
        loop {
            sleep(Duration::from_millis(1));
            beats.fetch_add(1, SeqCst);
        }
    });
    beats
}

#[test]
fn lines_from_a_pipe() {
    const NAME: &str = "lines_from_a_pipe";
    let is_child = child(NAME, || {
        begin();
        let beats = beats();
        let mut stdin = stdin();
        let mut line = String::new();
        // Nothing has come: the time passes for this task only.
        let late = stdin.read_line_timeout(&mut line, SHORT).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(beats.load(SeqCst) >= 2);
        writeln!(stdout(), "ready").unwrap();
        // The first half of a line is there when a time-out and a kill come.
        stdin.lock().fill_buf().unwrap();
        assert!(timeout(SHORT, || stdin.read_line(&mut line)).is_err());
        let victim = spawn(move || stdin.lines().next());
        sleep(SHORT);
        victim.kill();
        assert!(victim.join().unwrap_err().is_killed());
        assert_eq!(line, "");
        writeln!(stdout(), "half").unwrap();
        assert_eq!(stdin.read_line(&mut line).unwrap(), 11);
        assert_eq!(line, "first line\n");
        assert!(
            stdin
                .read_line(&mut String::new())
                .unwrap_err()
                .to_string()
                .contains("UTF-8")
        );
        let mut bytes = [0; 3];
        stdin.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
        let rest: Vec<String> = stdin.lines().map(Result::unwrap).collect();
        assert_eq!(rest.len(), 10_002);
        assert_eq!((&*rest[0], &*rest[1], &*rest[10_001]), ("def", "", "tail"));
        assert_eq!(stdin.read_line(&mut line).unwrap(), 0);
        writeln!(stdout(), "done").unwrap();
    });
    assert!(!is_child);
    within(NAME, || {
        let mut child = again(NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut heard = Vec::new();
        until_heard(&mut child, &mut heard, "ready\n");
        stdin.write_all(b"first ").unwrap();
        until_heard(&mut child, &mut heard, "half\n");
        stdin.write_all(b"line\n").unwrap();
        let mut rest = b"\xff\xfe\nabcdef\n\n".to_vec();
        for i in 0..9_999 {
            rest.extend(format!("line {i} {}\n", "x".repeat(i % 300)).into_bytes());
        }
        rest.extend(b"tail");
        stdin.write_all(&rest).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout.ends_with(b"done\n"));
    });
}

fn until_heard(child: &mut Child, heard: &mut Vec<u8>, what: &str) {
    let pipe = child.stdout.as_mut().unwrap();
    while !heard.ends_with(what.as_bytes()) {
        let mut byte = [0];
        pipe.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
}

#[test]
fn a_file_as_input() {
    const NAME: &str = "a_file_as_input";
    let is_child = child(NAME, || {
        begin();
        let lines = stdin().lines().map(Result::unwrap).count();
        writeln!(stdout(), "{lines} lines").unwrap();
    });
    assert!(!is_child);
    within(NAME, || {
        let mut file = tempfile();
        for i in 0..20_000 {
            writeln!(file, "line {i}").unwrap();
        }
        rewind(&file);
        let output = again(NAME).stdin(file).output().unwrap();
        assert_eq!(said(&output.stdout), "20000 lines\n");
    });
}

fn tempfile() -> File {
    let name = c"sward-test";
    // SAFETY: a string that ends in a zero.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just made, and nobody else knows it.
    unsafe { File::from_raw_fd(fd) }
}

fn rewind(mut file: &File) {
    std::io::Seek::rewind(&mut file).unwrap();
}

/// Nobody reads: the writer waits, the others go on; and the streams are blocking for others.
#[test]
fn a_full_pipe_as_output() {
    const NAME: &str = "a_full_pipe_as_output";
    const TOTAL: usize = 1 << 20;
    let is_child = child(NAME, || {
        let beats = beats();
        let message = "0123456789abcde\n".repeat(TOTAL / 16);
        let writer = spawn(move || stdout().write_all(message.as_bytes()));
        // The pipe is full long before that.
        while beats.load(SeqCst) < 30 {
            sleep(SHORT);
        }
        assert!(!writer.is_finished());
        // SAFETY: a command without a pointer.
        let flags = unsafe { libc::fcntl(1, libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        writeln!(stderr(), "full").unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(stderr().write(b"end").unwrap(), 3);
    });
    assert!(!is_child);
    within(NAME, || {
        let mut child = again(NAME)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut full = [0; 5];
        child
            .stderr
            .as_mut()
            .unwrap()
            .read_exact(&mut full)
            .unwrap();
        assert_eq!(&full, b"full\n");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stderr, b"end");
        // The harness says a word first.
        let at = output.stdout.len() - TOTAL;
        assert!(
            output.stdout[at..]
                .chunks(16)
                .all(|line| line == b"0123456789abcde\n")
        );
    });
}

/// Messages of many tasks come out as wholes, pieces or not, longer than a page or not.
#[test]
fn messages_are_not_mixed() {
    const NAME: &str = "messages_are_not_mixed";
    let is_child = child(NAME, || {
        begin();
        let tasks = (0..50).map(|i| {
            spawn(move || {
                for n in [1, 100, 3000, 9000] {
                    let text = format!("{i:02}").repeat(n);
                    writeln!(stdout(), "{i}:{n}:{text}:{i}").unwrap();
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        join_all(tasks).into_iter().for_each(Result::unwrap);
    });
    assert!(!is_child);
    within(NAME, || {
        let output = again(NAME).output().unwrap();
        let text = said(&output.stdout);
        assert_eq!(text.lines().count(), 200);
        for line in text.lines() {
            let parts: Vec<&str> = line.split(':').collect();
            let (i, n): (usize, usize) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
            assert_eq!(parts[2], format!("{i:02}").repeat(n));
            assert_eq!(parts[3], parts[0]);
        }
    });
}

#[test]
fn closed_streams() {
    const NAME: &str = "closed_streams";
    let is_child = child(NAME, || {
        for fd in [0, 1] {
            // SAFETY: a number; std says that a closed standard stream is no danger.
            assert_eq!(unsafe { libc::close(fd) }, 0);
        }
        assert_eq!(stdin().read(&mut [0; 10]).unwrap(), 0);
        stdout().write_all(b"into the void").unwrap();
        stderr().write_all(b"fine").unwrap();
    });
    assert!(!is_child);
    within(NAME, || {
        let output = again(NAME).output().unwrap();
        assert_eq!(
            output.stderr,
            b"fine",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

#[test]
fn a_reader_that_has_gone() {
    const NAME: &str = "a_reader_that_has_gone";
    let is_child = child(NAME, || {
        let error = stdout().write_all(&[b'x'; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        stderr().write_all(b"noticed").unwrap();
    });
    assert!(!is_child);
    within(NAME, || {
        let (mut reader, writer) = pipe().unwrap();
        let mut child = again(NAME)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        reader.read_exact(&mut [0; 100]).unwrap();
        drop(reader);
        let output = child.communicate([]).unwrap();
        assert_eq!(output.stderr, b"noticed");
    });
}

/// A terminal: lines come when they are complete, and the output goes through it.
#[test]
fn a_terminal() {
    const NAME: &str = "a_terminal";
    let is_child = child(NAME, || {
        let beats = beats();
        writeln!(stdout(), "<<name?").unwrap();
        let mut name = String::new();
        stdin().read_line(&mut name).unwrap();
        assert!(beats.load(SeqCst) > 0);
        writeln!(stdout(), "hello, {}!", name.trim()).unwrap();
    });
    assert!(!is_child);
    within(NAME, || {
        let (keyboard, terminal) = terminal();
        let mut child = again(NAME)
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal)
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let mut heard = String::new();
        let mut hear = |what: &str| {
            while !heard.contains(what) {
                sward_runtime::io::wait_readable(&keyboard, None).unwrap();
                let mut buffer = [0; 100];
                let n = (&keyboard).read(&mut buffer).unwrap();
                heard.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        };
        hear("name?");
        (&keyboard).write_all(b"wor").unwrap();
        sleep(SHORT);
        (&keyboard).write_all(b"ld\n").unwrap();
        hear("hello, world!");
        assert!(child.wait().unwrap().success());
    });
}

/// Both sides of a new terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut keyboard, mut terminal) = (0, 0);
    // SAFETY: pointers to locals, and null where that means: not wanted.
    let made = unsafe {
        libc::openpty(
            &raw mut keyboard,
            &raw mut terminal,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_eq!(made, 0);
    // SAFETY: just made, and nobody else knows it.
    let keyboard = unsafe { OwnedFd::from_raw_fd(keyboard) };
    // SAFETY: as above.
    let terminal = unsafe { OwnedFd::from_raw_fd(terminal) };
    assert!(keyboard.as_raw_fd() > 2);
    (keyboard, terminal)
}
