//! Listing a directory.
//!
//! Entries come from the pool `BATCH` at a time, each with its type, which the kernel tells with
//! the name on most file systems. The iterator of std goes to the pool and back with each batch; a
//! waiter that goes leaves it there, and the listing has ended.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs as sync;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::blocking::attempt;

/// Some tens of microseconds of work.
const BATCH: usize = 128;

/// The entries of a directory, as [`std::fs::ReadDir`].
pub struct ReadDir {
    fetched: VecDeque<io::Result<DirEntry>>,
    /// `None` after the last one.
    rest: Option<sync::ReadDir>,
}

impl ReadDir {
    pub(super) fn new(dir: sync::ReadDir) -> Self {
        Self {
            fetched: VecDeque::new(),
            rest: Some(dir),
        }
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.fetched.is_empty() {
            let mut rest = self.rest.take()?;
            let batch = attempt(move || {
                let fetch = |entry: io::Result<sync::DirEntry>| entry.map(DirEntry::new);
                let fetched: VecDeque<_> = rest.by_ref().take(BATCH).map(fetch).collect();
                let more = (fetched.len() == BATCH).then_some(rest);
                (fetched, more)
            });
            match batch {
                Ok((fetched, more)) => (self.fetched, self.rest) = (fetched, more),
                Err(e) => return Some(Err(e)),
            }
        }
        self.fetched.pop_front()
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("fetched", &self.fetched.len())
            .field("more", &self.rest.is_some())
            .finish()
    }
}

/// One name in a directory, as [`std::fs::DirEntry`].
pub struct DirEntry {
    entry: Arc<sync::DirEntry>,
    kind: io::Result<FileType>,
}

impl DirEntry {
    fn new(entry: sync::DirEntry) -> Self {
        Self {
            kind: entry.file_type(),
            entry: Arc::new(entry),
        }
    }

    /// Returns the path: that of the directory, and the name.
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// Returns the name.
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }

    /// Returns the number of the inode.
    pub fn ino(&self) -> u64 {
        self.entry.ino()
    }

    /// Returns what it is, as it was when it was listed.
    ///
    /// # Errors
    /// As [`std::fs::DirEntry::file_type`].
    pub fn file_type(&self) -> io::Result<FileType> {
        match &self.kind {
            Ok(kind) => Ok(*kind),
            Err(_) => self.on_pool(sync::DirEntry::file_type),
        }
    }

    /// Returns what is known of it; of a link itself.
    ///
    /// # Errors
    /// As [`std::fs::DirEntry::metadata`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.on_pool(sync::DirEntry::metadata)
    }

    fn on_pool<T: Send + 'static>(&self, f: fn(&sync::DirEntry) -> io::Result<T>) -> io::Result<T> {
        let entry = self.entry.clone();
        attempt(move || f(&entry))?
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}
