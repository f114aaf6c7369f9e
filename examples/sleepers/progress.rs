//! The line that shows how far it is, drawn by an OS thread of its own ten times a second.
//!
//! What it shows, it reads: nothing that is measured does more because somebody watches.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::report::grouped;

const EVERY: Duration = Duration::from_millis(100);
/// A line of 80 columns that does not wrap.
const WIDTH: usize = 79;

/// How far the measuring is. Those marked so have one writer, which then needs no atomic addition.
#[derive(Debug, Default)]
pub struct Counts {
    /// One writer.
    pub spawned: AtomicUsize,
    /// Where nobody else counts them.
    pub asleep: AtomicUsize,
    /// One writer.
    pub joined: AtomicUsize,
    /// In the second phase.
    pub parked: AtomicUsize,
}

impl Counts {
    /// Says how far `n` of them are.
    pub fn line(&self, n: usize, asleep: usize) -> String {
        let (spawned, joined) = (self.spawned.load(Relaxed), self.joined.load(Relaxed));
        if joined < n {
            let [spawned, asleep, joined] = [spawned, asleep, joined].map(grouped);
            format!("time: {spawned} spawned, {asleep} asleep, {joined} joined")
        } else {
            format!(
                "memory: {} of {} parked",
                grouped(self.parked.load(Relaxed)),
                grouped(n)
            )
        }
    }
}

/// Does `work` and meanwhile, if `on`, shows `line` on stderr.
pub fn show<T>(on: bool, line: impl Fn() -> String + Send, work: impl FnOnce() -> T) -> T {
    if !on || !io::stderr().is_terminal() {
        return work();
    }
    thread::scope(|scope| {
        let (working, done) = channel::<()>();
        let draw = move || {
            while done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                overwrite(&line());
            }
            overwrite("");
        };
        // Without the thread there is no line, and nothing else is amiss.
        let _ = thread::Builder::new()
            .name("progress".into())
            .spawn_scoped(scope, draw);
        let result = work();
        drop(working);
        result
    })
}

/// Puts `text` in place of the line that is there; nothing clears it.
pub fn overwrite(text: &str) {
    let end = if text.is_empty() { "\r" } else { "" };
    let _ = write!(io::stderr(), "\r{text:<WIDTH$.WIDTH$}{end}");
}
