//! The console: a Unix socket where a person asks a running process about its tasks (gevent's
//! backdoor, in our form). Off unless the builder or `SWARD_CONSOLE` names a path.
//!
//! A line is a command; its reply ends with a line that is a single dot. Everything runs on ordinary
//! threads, one that accepts and one for each client, so it works while workers are stalled.
//!
//! The socket: it is bound inside a new directory that only this user can enter, gets mode 0600, and
//! is then renamed to its path. So nobody else can connect at any moment, and what a dead process
//! left at the path is replaced in one step. A path where somebody answers, or that is no socket, is
//! refused. At the end the path is removed if it still is this socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[cfg(not(loom))]
use crate::at_fork::Global;
use crate::fork::Epoch;
use crate::report;
use crate::sight::commands::{self, About};
use crate::sync::short_lock::ShortLock;

/// More clients than that are told to come later.
const CLIENTS: usize = 16;
/// A longer line is refused.
const LINE: u64 = 1024;
/// A client that takes nothing for that long is gone.
const WRITE: Duration = Duration::from_secs(10);

/// An open console; closed when dropped.
pub(crate) struct Console {
    /// A forked child has copies of the descriptors, but the console stays its parent's.
    epoch: Epoch,
    path: PathBuf,
    /// Device and inode of the socket at `path`.
    file: (u64, u64),
    listener: UnixListener,
    clients: Arc<Clients>,
}

struct Clients {
    streams: ShortLock<Vec<(usize, UnixStream)>>,
    next: AtomicUsize,
    about: About,
}

impl Console {
    /// Opens a console at `path`, where `%p` stands for the process's number.
    pub(crate) fn open(path: &Path, about: About) -> io::Result<Self> {
        let path = path.to_string_lossy();
        let path = PathBuf::from(path.replace("%p", &std::process::id().to_string()));
        let named = |e: io::Error| {
            let text = format!("the console at {} cannot be opened: {e}", path.display());
            io::Error::new(e.kind(), text)
        };
        let (listener, file) = bind(&path).map_err(named)?;
        let accepts = listener.try_clone().map_err(named)?;
        let console = Self {
            file,
            listener,
            clients: Arc::new(Clients {
                streams: ShortLock::new(Vec::new()),
                next: AtomicUsize::new(0),
                about,
            }),
            path,
            epoch: Epoch::current(),
        };
        let clients = console.clients.clone();
        let thread = std::thread::Builder::new().name("sward-console".into());
        crate::thread::start(thread, move || accept(&accepts, &clients))?;
        Ok(console)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.epoch.is_stale() {
            return;
        }
        if let Ok(there) = fs::symlink_metadata(&self.path)
            && (there.dev(), there.ino()) == self.file
        {
            // Gone already is as good.
            let _ = fs::remove_file(&self.path);
        }
        // Ends the wait of `accept`: std can shut down only what it takes for a stream.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = UnixStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        for (_, stream) in self.clients.streams.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The console that `SWARD_CONSOLE` asks for, opened once for the life of the process.
pub(crate) fn from_environment() {
    if let Some(path) = std::env::var_os("SWARD_CONSOLE").filter(|p| !p.is_empty()) {
        let now = Epoch::current();
        if OPENED.lock().replace(now) == Some(now) {
            return;
        }
        match Console::open(Path::new(&path), About::Process) {
            Ok(console) => *PROCESS.lock() = Some(console),
            // A child may have inherited the variable: it is no reason not to run.
            Err(e) => report::line(&format!("sward: {e}; going on without (SWARD_CONSOLE)")),
        }
    }
}

/// In which process that was tried.
#[cfg(not(loom))]
static OPENED: ShortLock<Option<Epoch>> = ShortLock::new(None);
#[cfg(loom)]
static OPENED: std::sync::LazyLock<ShortLock<Option<Epoch>>> =
    std::sync::LazyLock::new(|| ShortLock::new(None));
#[cfg(not(loom))]
static PROCESS: ShortLock<Option<Console>> = ShortLock::new(None);
#[cfg(loom)]
static PROCESS: std::sync::LazyLock<ShortLock<Option<Console>>> =
    std::sync::LazyLock::new(|| ShortLock::new(None));

/// Closes the console of the process, at its end.
pub(crate) fn close() {
    let console = PROCESS.lock().take();
    drop(console);
}

fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    // The kernel's limit for those who connect; a rename would not notice it.
    if path.as_os_str().len() > 107 {
        let text = "the path is too long for a socket (at most 107 bytes)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(there) if !there.file_type().is_socket() => {
            let text = "something else than a socket is there (remove it, or choose another path)";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => {
                let text = "another process listens there (put %p, the process's number, into the \
                            path)";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            // Nobody behind it: left by a process that died.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(e) => return Err(e),
        },
    }
    static UNIQUE: AtomicUsize = AtomicUsize::new(0);
    let unique = UNIQUE.fetch_add(1, Relaxed);
    let own = path.with_file_name(format!(".sward-{}-{unique}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&own)?;
    let inside = own.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        let file = fs::symlink_metadata(&inside)?;
        fs::rename(&inside, path)?;
        Ok((listener, (file.dev(), file.ino())))
    });
    if bound.is_err() {
        // What was not made need not be removed.
        let _ = fs::remove_file(&inside);
    }
    let _ = fs::remove_dir(&own);
    bound
}

fn accept(listener: &UnixListener, clients: &Arc<Clients>) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => serve(stream, clients),
            // Shut down: the end.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return,
            // A client that was gone at once; or no descriptors, which may come free.
            Err(_) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, no worker")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

fn serve(mut stream: UnixStream, clients: &Arc<Clients>) {
    let begin = || {
        stream.set_write_timeout(Some(WRITE))?;
        let number = clients.next.fetch_add(1, Relaxed);
        let mut streams = clients.streams.lock();
        if streams.len() >= CLIENTS {
            return Ok(None);
        }
        streams.push((number, stream.try_clone()?));
        io::Result::Ok(Some(number))
    };
    let Ok(Some(number)) = begin() else {
        // Told if it can be told.
        let _ = reply(&mut stream, "too many clients; come again later\n");
        return;
    };
    let all = clients.clone();
    let talk = move || {
        // An error is the client's end.
        let _ = talk(&stream, &all.about);
        all.streams.lock().retain(|(n, _)| *n != number);
        let _ = stream.shutdown(Shutdown::Both);
    };
    let thread = std::thread::Builder::new().name("sward-client".into());
    if crate::thread::start(thread, talk).is_err() {
        clients.streams.lock().retain(|(n, _)| *n != number);
    }
}

/// Answers line by line until the client has no more.
fn talk(stream: &UnixStream, about: &About) -> io::Result<()> {
    let mut writer = stream;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() as u64 == LINE && !line.ends_with(b"\n") {
            skip_line(&mut reader)?;
            reply(
                &mut writer,
                "that line is too long; `help` lists the commands\n",
            )?;
            continue;
        }
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["quit" | "exit"] => return Ok(()),
            [command, ref arguments @ ..] => {
                reply(&mut writer, &commands::answer(about, command, arguments))?;
            }
        }
    }
}

/// Reads to the end of a line and keeps nothing of it.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&b| b == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(n);
        if end.is_some() || n == 0 {
            return Ok(());
        }
    }
}

fn reply(writer: &mut impl Write, text: &str) -> io::Result<()> {
    writer.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        writer.write_all(b"\n")?;
    }
    writer.write_all(b".\n")
}

/// The locks of the process that are here.
#[cfg(not(loom))]
pub(crate) fn globals() -> [&'static dyn Global; 2] {
    [&OPENED, &PROCESS]
}
