//! The transport `ipc`: Unix stream sockets, by a path, by an abstract name, or by a path that the
//! bind makes up.
//!
//! A socket's file outlives its socket, so a bind meets files that nobody listens on any more. It
//! removes one if it is a socket and no socket is behind it. (libzmq unlinks whatever is there,
//! somebody's data or a socket in use.) The test is a connection by a *datagram* socket: the kernel
//! refuses it by one error if nobody has the file open, and by another if a stream socket does,
//! which does not notice.
//!
//! Who finds a stale file holds a lock on its directory (`flock`) from the test to the new bind, so
//! that of several that start at once none removes the new file of another. Order of closing: the
//! file goes first, if it is still ours, then the socket; until then nobody takes it for stale.
//!
//! Rejected: a lock file beside each socket (it would stay for ever); a stream connection as a test
//! (the one who listens sees it); binding under another name and `rename` (it replaces what is
//! there).

use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use sward_net::{UnixListener, UnixStream};
use sward_runtime::io::exhausted;
use sward_runtime::sleep;
use sward_runtime::sync::ShortLock;

use super::tcp::{buffers, not_listening};
use super::{ByteLink, Listening, Transport};
use crate::endpoint::{Address, Endpoint, IpcAddress};
use crate::error::{Error, at};
use crate::options::Options;

/// How often the lock of a directory is tried, a millisecond apart. Whoever has it does three
/// system calls.
const LOCK_ATTEMPTS: u32 = 1000;

/// Unix stream sockets.
pub(super) struct Ipc;

impl Transport for Ipc {
    fn listen(&self, endpoint: &Endpoint, options: &Options) -> Result<Box<dyn Listening>, Error> {
        let ipc = address(endpoint)?;
        let (listener, endpoint, file) = match options.use_fd.as_ref().and_then(|fd| fd.take()) {
            Some(fd) => given(fd, endpoint)?,
            None => {
                let listened = listen(ipc, endpoint)?;
                // It listens already; this is about the line of waiting connections.
                let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
                rustix::net::listen(&listened.0, backlog).map_err(io::Error::from)?;
                listened
            }
        };
        Ok(Box::new(Listener {
            listener,
            endpoint,
            file: ShortLock::new(file),
            buffers: (
                options.send_buffer.unwrap_or(SEND_BUFFER),
                options.recv_buffer,
            ),
        }))
    }

    fn dial(&self, endpoint: &Endpoint, options: &Options) -> io::Result<ByteLink> {
        let to = match address(endpoint)? {
            IpcAddress::Path(path) => SocketAddr::from_pathname(&**path)?,
            IpcAddress::Abstract(name) => SocketAddr::from_abstract_name(&**name)?,
            IpcAddress::Wildcard => return Err(invalid("ipc://* is not to connect to")),
        };
        let stream = match options.connect_timeout {
            Some(limit) => UnixStream::connect_timeout(&to, limit)?,
            None => UnixStream::connect_addr(&to)?,
        };
        let send = options.send_buffer.unwrap_or(SEND_BUFFER);
        buffers(&stream, Some(send), options.recv_buffer)?;
        Ok(ByteLink {
            fd: stream.into(),
            peer_address: String::new(),
            local: String::new(),
            remote: endpoint.to_string(),
            short_is_all: false,
        })
    }
}

/// The kernel's buffer, which does not grow as that of a TCP connection does: its own 208 KiB make both
/// sides wait for one another after three messages of 64 KiB.
const SEND_BUFFER: usize = 512 * 1024;

struct Listener {
    listener: UnixListener,
    endpoint: Endpoint,
    /// Until it was removed.
    file: ShortLock<Option<OwnFile>>,
    buffers: (usize, Option<usize>),
}

impl Listening for Listener {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn accept(&self) -> io::Result<ByteLink> {
        let (stream, _) = self.listener.accept()?;
        buffers(&stream, Some(self.buffers.0), self.buffers.1)?;
        Ok(ByteLink {
            fd: stream.into(),
            peer_address: String::new(),
            local: self.endpoint.to_string(),
            remote: String::new(),
            short_is_all: false,
        })
    }

    fn close(&self) {
        let file = self.file.lock().take();
        if let Some(file) = file {
            file.remove();
        }
        // An error is about the number of the descriptor, which the drop gives back.
        let _ = self.listener.close();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = self.file.get_mut().take() {
            file.remove();
        }
    }
}

/// The file of a socket that was bound here.
struct OwnFile {
    /// Absolute: the current directory may change.
    path: PathBuf,
    /// Device and number, to know it from another of the same name.
    id: (u64, u64),
    /// The directory was made for it.
    own_directory: bool,
    process: u32,
}

impl OwnFile {
    fn new(path: &Path, own_directory: bool) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        Ok(Self {
            path: std::path::absolute(path)?,
            id: (meta.dev(), meta.ino()),
            own_directory,
            process: std::process::id(),
        })
    }

    /// Removes it, if it is still there, and still this one's. In vain is all right: it is left, and
    /// the next bind finds it stale.
    fn remove(self) {
        // A forked child has a copy of the listener; the file is its parent's.
        if self.process != std::process::id() {
            return;
        }
        let same = |meta: fs::Metadata| (meta.dev(), meta.ino()) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
        if let (true, Some(directory)) = (self.own_directory, self.path.parent()) {
            let _ = fs::remove_dir(directory);
        }
    }
}

type Listened = (UnixListener, Endpoint, Option<OwnFile>);

fn address(endpoint: &Endpoint) -> io::Result<&IpcAddress> {
    match endpoint.address() {
        Address::Ipc(ipc) => Ok(ipc),
        _ => Err(invalid(&format!("{endpoint} is no ipc endpoint"))),
    }
}

#[cold]
fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// A listener of the options' making; its file is not ours.
fn given(fd: OwnedFd, endpoint: &Endpoint) -> Result<Listened, Error> {
    let family = sockopt::socket_domain(&fd).map_err(io::Error::from)?;
    let listens = sockopt::socket_acceptconn(&fd).map_err(io::Error::from)?;
    if !listens || family != AddressFamily::UNIX {
        let range = "for an ipc endpoint, it is a Unix stream socket that listens";
        return Err(not_listening(&fd, range));
    }
    Ok((UnixListener::try_from(fd)?, endpoint.clone(), None))
}

fn listen(ipc: &IpcAddress, endpoint: &Endpoint) -> Result<Listened, Error> {
    match ipc {
        IpcAddress::Abstract(name) => {
            let name = SocketAddr::from_abstract_name(&**name)?;
            let listener = UnixListener::bind_addr(&name).map_err(|e| Error::bind(endpoint, e))?;
            Ok((listener, endpoint.clone(), None))
        }
        IpcAddress::Path(path) => {
            let path = Path::new(&**path);
            let listener = match UnixListener::bind(path) {
                Err(e) if e.kind() == ErrorKind::AddrInUse => replace_stale(path, endpoint)?,
                bound => bound.map_err(|e| Error::bind(endpoint, e))?,
            };
            let file = OwnFile::new(path, false)?;
            Ok((listener, endpoint.clone(), Some(file)))
        }
        IpcAddress::Wildcard => {
            let path = unique()?;
            // The directory is removed again if the bind fails.
            let bound = UnixListener::bind(&path).map_err(|e| {
                let _ = path.parent().map(fs::remove_dir);
                Error::bind(endpoint, e)
            })?;
            let endpoint = Endpoint::of_path(&path.to_string_lossy());
            let file = OwnFile::new(&path, true)?;
            Ok((bound, endpoint, Some(file)))
        }
    }
}

/// Binds where a file is, if that is a socket that nobody has open.
fn replace_stale(path: &Path, endpoint: &Endpoint) -> Result<UnixListener, Error> {
    let _lock = lock_directory(path)?;
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            let text = format!(
                "cannot bind {endpoint}: a file is there, and it is no socket; it was left as it is"
            );
            return Err(io::Error::new(ErrorKind::AlreadyExists, text).into());
        }
        if is_alive(path)? {
            return Err(Error::AddrInUse(endpoint.clone()));
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                let text = format!("cannot bind {endpoint}, nor remove its stale file");
                return Err(at(text, e).into());
            }
            _ => {}
        }
    }
    UnixListener::bind(path).map_err(|e| Error::bind(endpoint, e))
}

/// Returns whether some process has the socket of this file open.
fn is_alive(path: &Path) -> io::Result<bool> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe =
        socket_with(family, kind, flags, None).map_err(|e| exhausted("a Unix socket", e.into()))?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // Of another kind (PROTOTYPE), or unknown, such as for want of the right to ask.
        _ => Ok(true),
    }
}

/// Locks the directory of a file against others who do the same; `None` if it cannot be opened.
/// Parks.
fn lock_directory(path: &Path) -> Result<Option<File>, Error> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let Ok(directory) = File::open(directory) else {
        return Ok(None);
    };
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if !std::thread::panicking() => {
                sleep(Duration::from_millis(1));
            }
            Err(Errno::INTR) => {}
            Ok(()) => return Ok(Some(directory)),
            // A file system without locks.
            Err(_) => return Ok(None),
        }
    }
    // Somebody else uses the directory as a lock.
    Ok(None)
}

/// A path that nobody else has, in a directory of its own that others cannot enter.
fn unique() -> io::Result<PathBuf> {
    let mut parent = std::env::temp_dir();
    // "/sward-mq-", 16 digits, "/socket", within the 107 bytes of a Unix socket's path.
    if parent.as_os_str().len() > 107 - 33 || parent.to_str().is_none() {
        parent = PathBuf::from("/tmp");
    }
    let chance = RandomState::new();
    for n in 0..100 {
        let directory = parent.join(format!("sward-mq-{:016x}", chance.hash_one(n)));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory.join("socket")),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => {
                let text = format!("cannot make the directory {}", directory.display());
                return Err(at(text, e));
            }
        }
    }
    let text = "a hundred names for ipc://* were taken";
    Err(io::Error::new(ErrorKind::AlreadyExists, text))
}
