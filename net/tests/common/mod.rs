//! What the behaviour tests share: time limits, kinds of caller, connections, processes.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout
)]

pub mod nginx;
mod programs;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sward_net::{TcpListener, TcpStream};
use sward_runtime::io::Source;
use sward_runtime::{JoinHandle, Runtime, TaskState};

pub use programs::{program, program_in};

/// Set in a process that [`rerun`] started.
const CHILD: &str = "SWARD_TEST_CHILD";

/// Runs a test's body; after 60 s the process is aborted with the dump of all runtimes.
pub fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

pub fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Runs a check on an ordinary thread, and in tasks with one worker and with two.
pub fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    runtime(1).run(&check);
    runtime(2).run(&check);
}

/// The same, as the whole of a test.
pub fn everywhere_within(name: &str, check: impl Fn() + Send + Sync) {
    within(name, || everywhere(check));
}

/// Whether this process was started by [`rerun`].
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this binary in a process of its own, and waits for its end.
pub fn rerun(test_name: &str) -> Output {
    child(
        &mut Command::new(std::env::current_exe().unwrap()),
        test_name,
    )
}

/// The same in a process that may have so many descriptors; it must pass.
pub fn rerun_with(test_name: &str, descriptors: u32) {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {descriptors}; exec \"$@\"");
    shell
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap());
    assert_passed(&child(&mut shell, test_name));
}

fn child(command: &mut Command, test_name: &str) -> Output {
    command
        .args([test_name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Asserts that a child passed, and shows what it printed if it did not.
#[track_caller]
pub fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "{status}\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "the child ran no test:\n{text}");
}

/// Gives way until `done` says so; the test's time limit is the limit.
pub fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        sward_runtime::yield_now();
    }
}

/// Gives way until so many wait to read and to write.
pub fn until_waits<T>(source: &Source<T>, readers: usize, writers: usize) {
    let wanted = format!("waiting: [{readers}, {writers}]");
    until(|| format!("{source:?}").contains(&wanted));
}

/// Asserts what those who waited in line got. Workers take their woken tasks up side by side, so
/// the order is certain for one worker only.
#[track_caller]
pub fn assert_in_line<T: Ord + std::fmt::Debug>(mut got: Vec<T>, mut wanted: Vec<T>) {
    if sward_runtime::workers() > 1 {
        got.sort();
        wanted.sort();
    }
    assert_eq!(got, wanted);
}

/// Waits until a task of the caller's runtime waits for a descriptor.
pub fn until_parked<T>(task: &JoinHandle<T>) {
    until(|| {
        assert!(!task.is_finished(), "it has ended instead of waiting");
        let all = sward_runtime::dump().tasks();
        all.iter().any(|t| {
            t.id == task.id()
                && t.state == TaskState::Parked
                && t.reason.to_string().starts_with("descriptor")
        })
    });
}

pub fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// An address that refuses connections for as long as the socket lives: it is bound, and does not
/// listen. (The port of a listener that is gone may be somebody else's soon.)
pub fn refusing() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
    bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = getsockname(&fd).unwrap().try_into().unwrap();
    (fd, address)
}

/// Both ends of a connection: who connected, who accepted.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = listen();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

/// Writes until there is no room; returns how many bytes went.
pub fn fill(stream: &TcpStream) -> usize {
    let mut sent = 0;
    // The other end may still move bytes out of this end's buffer after it was full for a moment.
    for _ in 0..50 {
        loop {
            match stream.try_write(&[0; 1 << 16]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        sward_runtime::sleep(Duration::from_micros(200));
    }
    sent
}

pub fn read_some(mut stream: &TcpStream, n: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; n];
    let n = stream.read(&mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}

/// How many descriptors this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A xorshift generator: a test prints its seed, so that a failure can be run again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self::quiet(seed)
    }

    /// One whose seed is known already.
    pub fn quiet(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
