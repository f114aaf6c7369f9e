//! How a file is opened.

use std::fs as sync;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::file::File;
use super::trip::with;

impl File {
    /// Begins to say how to open a file, as [`std::fs::File::options`].
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }
}

/// How to open a file, as [`std::fs::OpenOptions`].
///
/// # Examples
/// ```
/// use std::io::Write;
/// use sward_runtime::fs::File;
/// let path = std::env::temp_dir().join(format!("sward-log-{}", std::process::id()));
/// let mut log = File::options().create(true).append(true).open(&path)?;
/// log.write_all(b"a line\n")?;
/// # sward_runtime::fs::remove_file(path)?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened until open is called"]
pub struct OpenOptions {
    options: sync::OpenOptions,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Begins with everything off, as [`std::fs::OpenOptions::new`].
    pub fn new() -> Self {
        Self {
            options: sync::OpenOptions::new(),
        }
    }

    /// Sets whether it can be read.
    pub fn read(mut self, on: bool) -> Self {
        self.options.read(on);
        self
    }

    /// Sets whether it can be written.
    pub fn write(mut self, on: bool) -> Self {
        self.options.write(on);
        self
    }

    /// Sets whether writes go to the end.
    pub fn append(mut self, on: bool) -> Self {
        self.options.append(on);
        self
    }

    /// Sets whether it is emptied.
    pub fn truncate(mut self, on: bool) -> Self {
        self.options.truncate(on);
        self
    }

    /// Sets whether it is made if it does not exist.
    pub fn create(mut self, on: bool) -> Self {
        self.options.create(on);
        self
    }

    /// Sets whether it is made, and must not exist.
    pub fn create_new(mut self, on: bool) -> Self {
        self.options.create_new(on);
        self
    }

    /// Sets who may do what with a file that is made, as [`OpenOptionsExt::mode`].
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode(mode);
        self
    }

    /// Sets further flags of `open(2)`, as [`OpenOptionsExt::custom_flags`].
    pub fn custom_flags(mut self, flags: i32) -> Self {
        self.options.custom_flags(flags);
        self
    }

    /// Opens the file, as [`std::fs::OpenOptions::open`].
    ///
    /// # Errors
    /// As [`std::fs::OpenOptions::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let options = self.options.clone();
        with(path, move |path| options.open(path)).map(File::from_std)
    }
}
