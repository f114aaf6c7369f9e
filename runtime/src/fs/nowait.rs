//! Reading what is in the page cache without waiting for a disk: `preadv2` with `RWF_NOWAIT`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What an attempt came to.
pub(super) enum Tried {
    Done(usize),
    /// Not in the cache, at least not now.
    NotNow,
    /// This file (or kernel) cannot tell; another attempt would be for nothing.
    Never,
}

/// Reads at `offset`, or at the file's position and moves it, what is there at once.
pub(super) fn read(file: &File, buffer: &mut [u8], offset: Option<u64>) -> Tried {
    let parts = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let Ok(offset) = offset.map_or(Ok(-1), i64::try_from) else {
        // std's error for it.
        return Tried::NotNow;
    };
    // SAFETY: one part, which is the caller's buffer and, as the iovec, outlives the call.
    let n = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const parts,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    match usize::try_from(n) {
        Ok(n) => Tried::Done(n),
        Err(_) => match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Tried::NotNow,
            // Whatever it is, the real call will say it again.
            _ => Tried::Never,
        },
    }
}
