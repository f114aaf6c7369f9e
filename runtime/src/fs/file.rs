//! An open file.
//!
//! The descriptor is in an `Arc`: a job that its waiter has left keeps it open until it is done, so
//! no job meets a number that is used again.
//!
//! `busy` counts the jobs that may hold the position of the open file (the kernel locks it for
//! the time of a read or write), over all `try_clone`s. Only with none is something tried on the
//! worker itself, where a lock that a disk holds up would hold up all tasks.

use std::fmt;
use std::fs as sync;
use std::fs::{FileTimes, Metadata, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::nowait::{self, Tried};
use super::trip::with;
use crate::blocking::attempt;
use crate::hub::current::{self, Caller};
use crate::park;

/// The most bytes that one read or write moves; more come by further calls, as std's users expect.
const MOST: usize = 1 << 20;

/// An open file, as [`std::fs::File`]: see the [module](super).
///
/// `Read`, `Write`, `Seek` and [`FileExt`] work as std's, on `&File` too. Small reads and writes
/// are best done through a [`BufReader`](io::BufReader) or [`BufWriter`](io::BufWriter): each may
/// be a trip to another thread.
///
/// # Examples
/// ```
/// use std::io::{BufRead, BufReader};
/// use sward_runtime::{fs::File, run};
/// let first = run(|| BufReader::new(File::open("/proc/self/status")?).lines().next().unwrap())?;
/// assert!(first.starts_with("Name:"));
/// # std::io::Result::Ok(())
/// ```
pub struct File {
    inner: Arc<Inner>,
}

struct Inner {
    file: sync::File,
    position: Arc<Position>,
}

/// What all that share an open file description share.
#[derive(Default)]
struct Position {
    busy: AtomicUsize,
    /// It cannot be read without waiting.
    never: AtomicBool,
}

/// One job that may hold the position.
struct Busy(Arc<Inner>);

impl Busy {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.position.busy.fetch_add(1, Relaxed);
        Self(inner.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.position.busy.fetch_sub(1, Relaxed);
    }
}

fn in_task() -> bool {
    matches!(current::caller(), Caller::Task(..))
}

impl File {
    /// Opens a file for reading, as [`std::fs::File::open`].
    ///
    /// # Errors
    /// As [`std::fs::File::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        with(path, |path| sync::File::open(path)).map(Self::from_std)
    }

    /// Opens a file for writing, made or emptied, as [`std::fs::File::create`].
    ///
    /// # Errors
    /// As [`std::fs::File::create`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        with(path, |path| sync::File::create(path)).map(Self::from_std)
    }

    /// Makes a file that must not exist yet, as [`std::fs::File::create_new`].
    ///
    /// # Errors
    /// As [`std::fs::File::create_new`].
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        with(path, |path| sync::File::create_new(path)).map(Self::from_std)
    }

    /// Takes over std's file.
    pub fn from_std(file: sync::File) -> Self {
        Self {
            inner: Arc::new(Inner {
                file,
                position: Arc::default(),
            }),
        }
    }

    /// Gives std's file back.
    ///
    /// # Errors
    /// If a call that was killed or timed out still uses it, it is duplicated, which may fail for
    /// want of descriptors.
    pub fn into_std(self) -> io::Result<sync::File> {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => Ok(inner.file),
            Err(shared) => shared.file.try_clone(),
        }
    }

    /// Calls `f` with the file on the pool.
    #[track_caller]
    fn job<T: Send + 'static>(
        &self,
        f: impl FnOnce(&sync::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let busy = Busy::new(&self.inner);
        attempt(move || f(&busy.0.file))?
    }

    /// Writes all that is buffered in the kernel to the disk, as [`std::fs::File::sync_all`].
    ///
    /// # Errors
    /// As [`std::fs::File::sync_all`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.job(sync::File::sync_all)
    }

    /// As [`sync_all`](Self::sync_all) without the metadata, as [`std::fs::File::sync_data`].
    ///
    /// # Errors
    /// As [`std::fs::File::sync_data`].
    pub fn sync_data(&self) -> io::Result<()> {
        self.job(sync::File::sync_data)
    }

    /// Cuts or extends the file, as [`std::fs::File::set_len`].
    ///
    /// # Errors
    /// As [`std::fs::File::set_len`].
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.job(move |file| file.set_len(size))
    }

    /// Returns what is known of the file, as [`std::fs::File::metadata`].
    ///
    /// # Errors
    /// As [`std::fs::File::metadata`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.job(sync::File::metadata)
    }

    /// Sets who may do what, as [`std::fs::File::set_permissions`].
    ///
    /// # Errors
    /// As [`std::fs::File::set_permissions`].
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.job(move |file| file.set_permissions(permissions))
    }

    /// Sets the file's times, as [`std::fs::File::set_times`].
    ///
    /// # Errors
    /// As [`std::fs::File::set_times`].
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.job(move |file| file.set_times(times))
    }

    /// Returns another `File` of the same open file: they share the position, as
    /// [`std::fs::File::try_clone`].
    ///
    /// # Errors
    /// As [`std::fs::File::try_clone`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                file: self.inner.file.try_clone()?,
                position: self.inner.position.clone(),
            }),
        })
    }

    /// Reads at the position (`None`) or at an offset.
    fn read_some(&self, buffer: &mut [u8], offset: Option<u64>) -> io::Result<usize> {
        let file = &self.inner.file;
        if !in_task() {
            return match offset {
                None => (&mut &*file).read(buffer),
                Some(offset) => file.read_at(buffer, offset),
            };
        }
        let position = &self.inner.position;
        if !position.never.load(Relaxed) && (offset.is_some() || position.busy.load(Relaxed) == 0) {
            park::checkpoint();
            match nowait::read(file, buffer, offset) {
                Tried::Done(n) => return Ok(n),
                Tried::NotNow => {}
                Tried::Never => position.never.store(true, Relaxed),
            }
        }
        let mut own = vec![0; buffer.len().min(MOST)];
        let own = self.job(move |mut file| {
            let n = match offset {
                None => file.read(&mut own)?,
                Some(offset) => file.read_at(&mut own, offset)?,
            };
            own.truncate(n);
            Ok(own)
        })?;
        buffer[..own.len()].copy_from_slice(&own);
        Ok(own.len())
    }

    fn write_some(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
        let mut file = &self.inner.file;
        if !in_task() {
            return match offset {
                None => file.write(bytes),
                Some(offset) => file.write_at(bytes, offset),
            };
        }
        let own = bytes[..bytes.len().min(MOST)].to_vec();
        self.job(move |mut file| match offset {
            None => file.write(&own),
            Some(offset) => file.write_at(&own, offset),
        })
    }

    /// Reads to the end in one trip.
    fn read_rest(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        if !in_task() {
            return (&mut &self.inner.file).read_to_end(into);
        }
        // The bytes before an error belong to the caller, as with std.
        let (bytes, result) = self.job(|mut file| {
            let mut bytes = Vec::new();
            let result = file.read_to_end(&mut bytes);
            Ok((bytes, result))
        })?;
        if into.is_empty() {
            *into = bytes;
        } else {
            into.extend_from_slice(&bytes);
        }
        result
    }

    fn seek_to(&self, to: SeekFrom) -> io::Result<u64> {
        let busy = self.inner.position.busy.load(Relaxed) != 0;
        if busy || matches!(to, SeekFrom::End(_)) {
            return self.job(move |mut file| file.seek(to));
        }
        // No more than a number in the kernel.
        (&mut &self.inner.file).seek(to)
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer, None)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.read_rest(into)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_rest(&mut bytes)?;
        let Ok(text) = String::from_utf8(bytes) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file did not contain valid UTF-8",
            ));
        };
        into.push_str(&text);
        Ok(text.len())
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes, None)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.seek_to(to)
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(into)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(into)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_some(buffer, Some(offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_some(bytes, Some(offset))
    }
}

impl From<sync::File> for File {
    fn from(file: sync::File) -> Self {
        Self::from_std(file)
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self::from_std(fd.into())
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.file.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.file.as_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // std's looks the path up in /proc, which takes a system call but no disk.
        self.inner.file.fmt(f)
    }
}
