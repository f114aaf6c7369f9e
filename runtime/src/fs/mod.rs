//! Files in blocking style: the names and meanings of [`std::fs`].
//!
//! In a task each call parks while a thread of the runtime's pool ([`blocking`](crate::blocking()))
//! does the work; on an ordinary thread it is std's call. A read of what is in the page cache is
//! done at once where the kernel can tell (`RWF_NOWAIT`).
//!
//! Rejected: lending the task's buffer to the pool (`blocking.rs` says why): bytes are moved or
//! copied, a memory copy next to a system call. io_uring: often forbidden in containers.
//!
//! # Blocking
//! All calls of this module park under [`WaitKind::Blocking`](crate::WaitKind::Blocking) and honour
//! kill and `timeout`. In a task that unwinds they block the worker for as long as the system
//! takes.
//!
//! # Errors
//! Those of [`std::fs`], and the system's error if no thread can be had.
//!
//! # Cancel safety
//! Killed or timed out in a call, what was asked of the system is still done, or, if it had not
//! begun, not: one cannot tell. A file that was to be opened is closed again. What was to be read
//! by a [`File`] is lost, as its position has moved on; `read_at` has no position to move.
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use sward_runtime::{fs, run};
//! # let dir = std::env::temp_dir().join(format!("sward-doc-{}", std::process::id()));
//! run(|| {
//!     fs::create_dir_all(&dir)?;
//!     let mut file = fs::File::create(dir.join("a"))?;
//!     file.write_all(b"some text")?;
//!     assert_eq!(fs::read_to_string(dir.join("a"))?, "some text");
//!     let mut start = [0; 4];
//!     fs::File::open(dir.join("a"))?.read_exact(&mut start)?;
//!     assert_eq!(&start, b"some");
//!     fs::remove_dir_all(&dir)
//! })?;
//! # std::io::Result::Ok(())
//! ```

mod file;
#[allow(unsafe_code)]
mod nowait;
mod options;
mod read_dir;
mod trip;

use std::fs as sync;
use std::io;
use std::path::{Path, PathBuf};

pub use std::fs::{FileTimes, FileType, Metadata, Permissions};

pub use self::file::File;
pub use self::options::OpenOptions;
pub use self::read_dir::{DirEntry, ReadDir};
use self::trip::{with, with_two};

/// Reads a whole file, as [`std::fs::read`]: one trip to the pool.
///
/// # Errors
/// As [`std::fs::read`].
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    with(path, |path| sync::read(path))
}

/// Reads a whole file as text, as [`std::fs::read_to_string`].
///
/// # Errors
/// As [`std::fs::read_to_string`].
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    with(path, |path| sync::read_to_string(path))
}

/// Writes a whole file, as [`std::fs::write`].
///
/// # Errors
/// As [`std::fs::write`].
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let contents = contents.as_ref().to_vec();
    with(path, move |path| sync::write(path, contents))
}

/// Copies a file, as [`std::fs::copy`].
///
/// # Errors
/// As [`std::fs::copy`].
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    with_two(from, to, |from, to| sync::copy(from, to))
}

/// Renames a file or directory, as [`std::fs::rename`].
///
/// # Errors
/// As [`std::fs::rename`].
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    with_two(from, to, |from, to| sync::rename(from, to))
}

/// Makes a hard link, as [`std::fs::hard_link`].
///
/// # Errors
/// As [`std::fs::hard_link`].
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    with_two(original, link, |original, link| {
        sync::hard_link(original, link)
    })
}

/// Makes a symbolic link, as [`std::os::unix::fs::symlink`].
///
/// # Errors
/// As [`std::os::unix::fs::symlink`].
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    with_two(original, link, |original, link| {
        std::os::unix::fs::symlink(original, link)
    })
}

/// Reads where a symbolic link leads, as [`std::fs::read_link`].
///
/// # Errors
/// As [`std::fs::read_link`].
pub fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    with(path, |path| sync::read_link(path))
}

/// Returns the absolute path without links in it, as [`std::fs::canonicalize`].
///
/// # Errors
/// As [`std::fs::canonicalize`].
pub fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    with(path, |path| sync::canonicalize(path))
}

/// Returns what is known of a file, as [`std::fs::metadata`].
///
/// # Errors
/// As [`std::fs::metadata`].
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    with(path, |path| sync::metadata(path))
}

/// As [`metadata`], of a link itself, as [`std::fs::symlink_metadata`].
///
/// # Errors
/// As [`std::fs::symlink_metadata`].
pub fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    with(path, |path| sync::symlink_metadata(path))
}

/// Returns whether there is something of that name, as [`std::fs::exists`].
///
/// # Errors
/// As [`std::fs::exists`].
pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    with(path, |path| sync::exists(path))
}

/// Sets who may do what, as [`std::fs::set_permissions`].
///
/// # Errors
/// As [`std::fs::set_permissions`].
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    with(path, move |path| sync::set_permissions(path, permissions))
}

/// Makes a directory, as [`std::fs::create_dir`].
///
/// # Errors
/// As [`std::fs::create_dir`].
pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    with(path, |path| sync::create_dir(path))
}

/// Makes a directory and those above it, as [`std::fs::create_dir_all`].
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    with(path, |path| sync::create_dir_all(path))
}

/// Removes a file, as [`std::fs::remove_file`].
///
/// # Errors
/// As [`std::fs::remove_file`].
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    with(path, |path| sync::remove_file(path))
}

/// Removes an empty directory, as [`std::fs::remove_dir`].
///
/// # Errors
/// As [`std::fs::remove_dir`].
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    with(path, |path| sync::remove_dir(path))
}

/// Removes a directory and all that is in it, as [`std::fs::remove_dir_all`].
///
/// # Errors
/// As [`std::fs::remove_dir_all`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    with(path, |path| sync::remove_dir_all(path))
}

/// Lists a directory, as [`std::fs::read_dir`]; the entries are fetched many at a time.
///
/// # Errors
/// As [`std::fs::read_dir`].
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    with(path, |path| sync::read_dir(path)).map(ReadDir::new)
}
