//! Calls that name files, on the pool.

use std::io;
use std::path::Path;

use crate::blocking::attempt;

/// Calls `f` with the path on the pool.
#[track_caller]
pub(super) fn with<T: Send + 'static>(
    path: impl AsRef<Path>,
    f: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_owned();
    attempt(move || f(&path))?
}

/// As [`with`], with two paths.
#[track_caller]
pub(super) fn with_two<T: Send + 'static>(
    a: impl AsRef<Path>,
    b: impl AsRef<Path>,
    f: impl FnOnce(&Path, &Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (a, b) = (a.as_ref().to_owned(), b.as_ref().to_owned());
    attempt(move || f(&a, &b))?
}
