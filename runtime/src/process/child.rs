//! [`Child`]: a child process and its streams; feeding it and collecting what it prints.
//!
//! The *exchange* of a child is what [`Child::communicate`] has to do: the input that is still to
//! be written, and what was read so far. It is kept in the child, so that an exchange that was cut
//! short goes on where it was.
//!
//! One task does all of it: it moves what can be moved on each stream, then waits for any of them.
//! Rejected: a task for each stream (they would have to be stopped, and what they read collected,
//! on every way out).

use std::fmt;
use std::io;
use std::process::{ExitStatus, Output};
use std::time::Duration;

use super::process::Process;
use crate::clock;
use crate::io::{Limit, PipeReader, PipeWriter, PollFd, Ready, poll};
use crate::park;

/// The writing end of a child's standard input.
pub type ChildStdin = PipeWriter;
/// The reading end of a child's standard output.
pub type ChildStdout = PipeReader;
/// The reading end of a child's standard error output.
pub type ChildStderr = PipeReader;

/// As many bytes are read at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// A started child process (std's `Child`, gevent's `Popen`).
///
/// Dropping it leaves the process running, unless [`kill_on_drop`](Self::kill_on_drop) is set; in
/// both cases it is reaped when it ends, so no zombie stays.
pub struct Child {
    /// Its standard input, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// Its standard error output, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    process: Process,
    kill_on_drop: bool,
    exchange: Exchange,
}

#[derive(Default)]
struct Exchange {
    input: Vec<u8>,
    written: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Child {
    pub(super) fn new(process: Process, kill_on_drop: bool) -> Self {
        Self {
            stdin: None,
            stdout: None,
            stderr: None,
            process,
            kill_on_drop,
            exchange: Exchange::default(),
        }
    }

    /// Returns the process number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns a handle to wait and to send signals with from elsewhere.
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Closes the standard input, if it is a pipe, and waits for the end of the process.
    ///
    /// A process that fills an output pipe which nobody reads does not end: see
    /// [`wait_with_output`](Self::wait_with_output).
    ///
    /// # Blocking
    /// As [`Process::wait`].
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        self.process.wait()
    }

    /// As [`wait`](Self::wait), for at most `limit`.
    ///
    /// # Errors
    /// As `wait`, and `TimedOut`; the process is left alone then.
    pub fn wait_timeout(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        self.stdin = None;
        self.process.wait_timeout(limit)
    }

    /// Returns the status if the process has ended.
    ///
    /// # Errors
    /// As [`Process::try_wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Ends the process by `SIGKILL`.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// Asks the process to end by `SIGTERM`, and ends it by `SIGKILL` after `grace`; see
    /// [`Process::terminate`].
    ///
    /// # Errors
    /// As [`Process::terminate`].
    pub fn terminate(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.process.terminate(grace)
    }

    /// Says whether dropping this value kills a process that still runs.
    pub fn kill_on_drop(&mut self, kill: bool) {
        self.kill_on_drop = kill;
    }

    /// Closes the standard input, reads both outputs to their end, and waits for the process.
    ///
    /// # Blocking
    /// As [`communicate`](Self::communicate).
    ///
    /// # Errors
    /// As [`communicate`](Self::communicate).
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.stdin = None;
        self.communicate([])
    }

    /// Writes `input` to the process and closes its standard input, reads both outputs to their
    /// end meanwhile, and waits for the process. No full pipe can stop this.
    ///
    /// A process that stops reading its input early is no error. A stream that is no pipe, or was
    /// taken, is left out.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Readable`](crate::WaitKind); honours kill and `timeout`. It ends
    /// when the outputs do: a grandchild that has inherited them keeps it waiting.
    ///
    /// # Errors
    /// Those of the streams; as [`Process::wait`].
    ///
    /// # Cancel safety
    /// What was read, and what is still to be written, stays in this value: another call goes on
    /// with it (and its input is written after what is left of the first).
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::process::{Command, Stdio};
    /// let mut command = Command::new("sort");
    /// let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// let output = child.communicate("b\na\n")?;
    /// assert_eq!(output.stdout, b"a\nb\n");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn communicate(&mut self, input: impl Into<Vec<u8>>) -> io::Result<Output> {
        self.communicate_for(input.into(), None)
    }

    /// As [`communicate`](Self::communicate), for at most `limit`.
    ///
    /// # Errors
    /// As `communicate`, and `TimedOut`; the process is left alone then.
    pub fn communicate_timeout(
        &mut self,
        input: impl Into<Vec<u8>>,
        limit: Duration,
    ) -> io::Result<Output> {
        self.communicate_for(input.into(), Some(limit))
    }

    pub(super) fn communicate_for(
        &mut self,
        input: Vec<u8>,
        limit: Option<Duration>,
    ) -> io::Result<Output> {
        let deadline = limit.and_then(clock::deadline);
        match self.exchange.input.is_empty() {
            true => self.exchange.input = input,
            false => self.exchange.input.extend(input),
        }
        let mut chunk = vec![0; CHUNK];
        while self.stdin.is_some() || self.stdout.is_some() || self.stderr.is_some() {
            park::checkpoint();
            if self.step(&mut chunk)? {
                if deadline.is_some_and(|at| clock::now() >= at) {
                    return Err(self.not_done());
                }
                continue;
            }
            let left = deadline.map(|at| at.saturating_duration_since(clock::now()));
            if poll(&mut self.waits_for(), left)? == 0 {
                return Err(self.not_done());
            }
        }
        drop(chunk);
        let status = self
            .process
            .wait_for(deadline.map_or(Limit::NONE, Limit::from))?;
        Ok(Output {
            status,
            stdout: std::mem::take(&mut self.exchange.stdout),
            stderr: std::mem::take(&mut self.exchange.stderr),
        })
    }

    fn waits_for(&self) -> Vec<PollFd<'_>> {
        let inputs = self.stdin.iter();
        let outputs = self.stdout.iter().chain(&self.stderr);
        inputs
            .map(|pipe| PollFd::new(pipe, Ready::WRITABLE))
            .chain(outputs.map(|pipe| PollFd::new(pipe, Ready::READABLE)))
            .collect()
    }

    /// Moves what can be moved without waiting; `false`: nothing.
    fn step(&mut self, chunk: &mut [u8]) -> io::Result<bool> {
        let exchange = &mut self.exchange;
        let mut moved = false;
        if let Some(stdin) = &self.stdin {
            let rest = &exchange.input[exchange.written..];
            let done = match rest {
                [] => true,
                rest => match stdin.try_write(rest) {
                    Ok(n) => {
                        exchange.written += n;
                        moved = true;
                        false
                    }
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => true,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
                    Err(e) => return Err(e),
                },
            };
            if done {
                (exchange.input, exchange.written) = (Vec::new(), 0);
                self.stdin = None;
                moved = true;
            }
        }
        moved |= read_some(&mut self.stdout, &mut exchange.stdout, chunk)?;
        moved |= read_some(&mut self.stderr, &mut exchange.stderr, chunk)?;
        Ok(moved)
    }

    #[cold]
    fn not_done(&self) -> io::Error {
        let Exchange {
            input,
            written,
            stdout,
            stderr,
        } = &self.exchange;
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "child {} is not done: the time-out passed with {} bytes to be written, {} and {} \
                 bytes of output read so far (another communicate goes on)",
                self.id(),
                input.len() - written,
                stdout.len(),
                stderr.len()
            ),
        )
    }
}

/// Reads what is there; drops the pipe at its end.
fn read_some(
    pipe: &mut Option<PipeReader>,
    to: &mut Vec<u8>,
    chunk: &mut [u8],
) -> io::Result<bool> {
    let Some(reader) = pipe else {
        return Ok(false);
    };
    match reader.try_read(chunk) {
        Ok(0) => *pipe = None,
        Ok(n) => to.extend_from_slice(&chunk[..n]),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(e) => return Err(e),
    }
    Ok(true)
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // Refused in a forked child, to which it does not belong.
            let _ = self.process.kill();
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}
