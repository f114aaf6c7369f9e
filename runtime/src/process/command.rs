//! [`Command`]: starts child processes.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use super::child::Child;
use super::process::{Life, Process};
use super::sys;
use crate::io::{PipeReader, PipeWriter, fault};

/// What to start, and how; std's `Command`, whose children are waited for without blocking the
/// worker.
///
/// What is not here is set on std's own: [`as_std_mut`](Self::as_std_mut), or `From`.
///
/// # Blocking
/// Starting a process takes the worker for as long as the system takes to do it, to the `exec`:
/// about a millisecond.
///
/// # Examples
/// ```
/// use sward_runtime::process::Command;
/// let output = Command::new("echo").arg("green").output()?;
/// assert_eq!(output.stdout, b"green\n");
/// # std::io::Result::Ok(())
/// ```
pub struct Command {
    inner: std::process::Command,
    kill_on_drop: bool,
    /// Which of the three streams were chosen.
    chosen: [bool; 3],
}

impl Command {
    /// Returns a command for a program, which is looked for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        std::process::Command::new(program).into()
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// Sets environment variables.
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        self.inner.envs(vars);
        self
    }

    /// Takes an environment variable away.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// Takes all environment variables away.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(dir);
        self
    }

    /// Chooses the standard input; otherwise it is inherited, and empty for
    /// [`output`](Self::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.chosen[0] = true;
        self.inner.stdin(stdin);
        self
    }

    /// Chooses the standard output; otherwise it is inherited, and a pipe for
    /// [`output`](Self::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.chosen[1] = true;
        self.inner.stdout(stdout);
        self
    }

    /// Chooses the standard error output, as [`stdout`](Self::stdout).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.chosen[2] = true;
        self.inner.stderr(stderr);
        self
    }

    /// Puts the process into a process group: 0 makes it the leader of a new one, to which
    /// [`Process::signal_group`] sends.
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.inner.process_group(group);
        self
    }

    /// Says whether dropping the [`Child`] kills a process that still runs; off at first.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Returns std's command.
    pub fn as_std(&self) -> &std::process::Command {
        &self.inner
    }

    /// Returns std's command, to set what this type lacks. Streams that are set there are replaced
    /// by [`output`](Self::output).
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.inner
    }

    /// Starts the process.
    ///
    /// # Errors
    /// Those of std: `NotFound`, `PermissionDenied`, ...; when descriptors or processes are
    /// exhausted, with the limit's name; `Unsupported` on kernels before Linux 5.3.
    pub fn spawn(&mut self) -> io::Result<Child> {
        let program = self.inner.get_program().to_string_lossy().into_owned();
        let explain = |e| fault::exhausted(&format!("starting {program:?}"), e);
        sys::look_for_pidfd().map_err(|e| match e.raw_os_error() {
            Some(libc::ENOSYS) => io::Error::new(
                io::ErrorKind::Unsupported,
                "child processes are waited for by pidfd_open, which this kernel lacks (Linux 5.3)",
            ),
            _ => explain(e),
        })?;
        let mut child = self.inner.spawn().map_err(explain)?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        // From here on an error ends in the drop of a child, which must not be left running.
        let mut child = Child::new(Process::new(Life::new(child)?), true);
        let reader = |fd: OwnedFd| PipeReader::new(fd.into());
        child.stdin = stdin.map(|fd| PipeWriter::new(fd.into())).transpose()?;
        child.stdout = stdout.map(reader).transpose()?;
        child.stderr = stderr.map(reader).transpose()?;
        child.kill_on_drop(self.kill_on_drop);
        Ok(child)
    }

    /// Sets the streams that were not chosen.
    fn set_others(&mut self, streams: [fn() -> Stdio; 3]) {
        let [stdin, stdout, stderr] = self.chosen;
        if !stdin {
            self.inner.stdin(streams[0]());
        }
        if !stdout {
            self.inner.stdout(streams[1]());
        }
        if !stderr {
            self.inner.stderr(streams[2]());
        }
    }

    /// Starts the process with these streams where none were chosen. Who is killed while it waits
    /// takes the process along, for nobody else has a handle.
    fn spawn_with(&mut self, streams: [fn() -> Stdio; 3]) -> io::Result<Child> {
        self.set_others(streams);
        let child = self.spawn();
        self.set_others([Stdio::inherit; 3]);
        let mut child = child?;
        child.kill_on_drop(true);
        Ok(child)
    }

    /// Starts the process and waits for its end; it inherits the streams that were not chosen
    /// (gevent's `call`).
    ///
    /// # Blocking
    /// As [`Process::wait`]. A kill or a time-out that ends the wait kills the process too.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Process::wait`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn_with([Stdio::inherit; 3])?.wait()
    }

    /// Starts the process, waits for its end and collects what it prints; its input is empty.
    ///
    /// # Blocking
    /// As [`Child::communicate`]. A kill or a time-out that ends the wait kills the process too.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::communicate`].
    pub fn output(&mut self) -> io::Result<Output> {
        self.spawn_with([Stdio::null, Stdio::piped, Stdio::piped])?
            .wait_with_output()
    }

    /// As [`output`](Self::output), with an input, and for at most `limit` (gevent's `run`). A
    /// process that is not done by then is killed.
    ///
    /// # Errors
    /// As `output`, and `TimedOut`. To keep what it had printed, use
    /// [`Child::communicate_timeout`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_runtime::process::Command;
    /// let output = Command::new("tr").args(["a-z", "A-Z"]).run("green", Duration::from_secs(10))?;
    /// assert_eq!(output.stdout, b"GREEN");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn run(&mut self, input: impl Into<Vec<u8>>, limit: Duration) -> io::Result<Output> {
        self.spawn_with([Stdio::piped; 3])?
            .communicate_timeout(input, limit)
    }

    /// As [`status`](Self::status), with an error for a process that does not succeed (gevent's
    /// `check_call`).
    ///
    /// # Errors
    /// As `status`; a [`Failed`] inside, when the process does not exit with 0.
    pub fn check_call(&mut self) -> io::Result<()> {
        let status = self.status()?;
        self.check(status, Vec::new())
    }

    /// As [`output`](Self::output), with an error for a process that does not succeed; returns
    /// what it wrote to its standard output (gevent's `check_output`).
    ///
    /// # Errors
    /// As `output`; a [`Failed`] inside, when the process does not exit with 0.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::process::{Command, Failed};
    /// let error = Command::new("ls").arg("/no/such/place").check_output().unwrap_err();
    /// let failed = error.get_ref().and_then(|e| e.downcast_ref::<Failed>()).unwrap();
    /// assert!(!failed.status().success() && !failed.stderr().is_empty());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn check_output(&mut self) -> io::Result<Vec<u8>> {
        let output = self.output()?;
        self.check(output.status, output.stderr)?;
        Ok(output.stdout)
    }

    fn check(&self, status: ExitStatus, stderr: Vec<u8>) -> io::Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(Failed {
            program: self.inner.get_program().to_string_lossy().into_owned(),
            status,
            stderr,
        }))
    }
}

impl From<std::process::Command> for Command {
    /// Takes std's command. [`output`](Self::output) and its like replace its streams.
    fn from(inner: std::process::Command) -> Self {
        Self {
            inner,
            kill_on_drop: false,
            chosen: [false; 3],
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

/// A process that ended without success: what [`Command::check_output`] and
/// [`Command::check_call`] fail with, inside of an [`io::Error`] (gevent's `CalledProcessError`).
#[derive(Clone, Debug)]
pub struct Failed {
    program: String,
    status: ExitStatus,
    stderr: Vec<u8>,
}

impl Failed {
    /// Returns how it ended.
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// Returns what it wrote to its standard error output, if that was collected.
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} failed: {}", self.program, self.status)?;
        let text = String::from_utf8_lossy(&self.stderr);
        match text.lines().next_back() {
            Some(line) => write!(f, ": {line}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failed {}
