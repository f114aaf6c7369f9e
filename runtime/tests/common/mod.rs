//! What the behaviour tests share: a time limit for each, and running one of them in a process of
//! its own.
#![allow(dead_code, clippy::unwrap_used)]
#![allow(unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Set in a process that [`rerun`] started.
const CHILD: &str = "SWARD_TEST_CHILD";

/// Runs a test's body; after 60 s the process is aborted with the dump of all runtimes.
pub fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

/// Whether this process was started by [`rerun`].
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this binary in a process of its own, with these environment variables, and
/// waits for its end; after 50 s it is killed.
pub fn rerun(test_name: &str, env: &[(&str, &str)]) -> Output {
    finish(start(test_name, env))
}

/// Starts one test of this binary in a process of its own.
pub fn start(test_name: &str, env: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test_name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a child's end and collects what it printed; after 50 s it is killed.
pub fn finish(child: Child) -> Output {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let output = told
        .recv_timeout(Duration::from_secs(50))
        .unwrap_or_else(|_| {
            // SAFETY: the child has not been waited for, so the number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            told.recv().unwrap()
        });
    output.unwrap()
}

/// What a child wrote to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a child passed, and shows what it printed if it did not.
#[track_caller]
pub fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{text}\n{}",
        output.status,
        stderr(output)
    );
    assert!(text.contains("1 passed"), "the child ran no test:\n{text}");
}

/// Gives way until `done` says so; the test's time limit is the limit.
pub fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        sward_runtime::yield_now();
    }
}

/// A xorshift generator: a test prints its seed, so that a failure can be run again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The number of the calling OS thread.
pub fn thread_number() -> i64 {
    // SAFETY: no arguments.
    i64::from(unsafe { libc::gettid() })
}
