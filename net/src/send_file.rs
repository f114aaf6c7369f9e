//! `sendfile(2)`: from a file into a socket without a copy in this process.

use std::io;
use std::os::fd::AsFd;

use sward_runtime::io::{Direction, Limit, Source};

/// The most that the kernel sends at a time; asked for more it may find that the sum overflows.
const MOST: usize = 0x7fff_f000;

/// Sends some of a file, and waits until there is room for some of it.
///
/// The system call has no flag against `SIGPIPE`, which Rust programs ignore.
pub(crate) fn send_file<T: AsFd>(
    socket: &Source<T>,
    limit: Limit,
    file: impl AsFd,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let (file, count) = (file.as_fd(), count.min(MOST));
    // A short count may be the file's end as well as the socket's: it says nothing of the socket.
    socket.io(Direction::Write, limit, |socket| {
        let mut from = offset;
        Ok(rustix::fs::sendfile(socket, file, Some(&mut from), count)?)
    })
}
