//! The system calls on memory that stacks need: mappings, guards, giving pages back, residency.
//!
//! Addresses are plain numbers here; who passes one answers for what lies there.

use std::io;
use std::sync::OnceLock;

/// All sizes are multiples of this: the largest page of the architecture.
pub(super) const GRAIN: usize = if cfg!(target_arch = "x86_64") {
    4096
} else {
    65536
};

/// Linux 6.13: pages fault, at no cost of memory maps.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Whether a guard costs memory maps: the kernel has no MADV_GUARD_INSTALL (before 6.13), or
/// SWARD_GUARD=mprotect asks for the way without it, for tests.
pub(crate) fn guard_is_vma() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        if std::env::var_os("SWARD_GUARD").is_some_and(|how| how == "mprotect") {
            return true;
        }
        let Ok(page) = map(GRAIN) else { return true };
        // SAFETY: a page of our own that nobody uses.
        let refused = unsafe { libc::madvise(page as *mut _, GRAIN, MADV_GUARD_INSTALL) } != 0;
        // SAFETY: as above.
        unsafe { unmap(page, GRAIN) };
        refused
    })
}

/// Maps `len` bytes of memory that reads as zero and is paid for page by page.
pub(super) fn map(len: usize) -> io::Result<usize> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes: touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A huge page would make one touch of a stack cost 2 MiB. A kernel without them refuses,
    // which is as good.
    // SAFETY: changes no content.
    unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
    Ok(base as usize)
}

/// Makes the pages fault from now on, without a memory map of their own unless `as_vma` or the
/// kernel wants it that way (it refuses locked memory).
///
/// # Safety
/// Nobody uses the pages, which belong to a mapping of the caller's.
pub(super) unsafe fn install_guard(low: usize, len: usize, as_vma: bool) -> io::Result<()> {
    let at = low as *mut libc::c_void;
    // SAFETY: by the contract; the content is lost.
    if !as_vma && unsafe { libc::madvise(at, len, MADV_GUARD_INSTALL) } == 0 {
        return Ok(());
    }
    // SAFETY: by the contract.
    match unsafe { libc::mprotect(at, len, libc::PROT_NONE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the memory back to the kernel; the pages read as zero when touched again. It may fail
/// (mlock), and then they stay: nothing depends on it.
///
/// # Safety
/// Nobody needs the content of the pages, which belong to a mapping of the caller's.
pub(super) unsafe fn discard(low: usize, len: usize) {
    // SAFETY: by the contract.
    unsafe { libc::madvise(low as *mut libc::c_void, len, libc::MADV_DONTNEED) };
}

/// Removes the mapping. `false`: the kernel has no room to split a map of which this is a part
/// (vm.max_map_count), and it stays.
///
/// # Safety
/// Nobody uses the pages, which belong to a mapping of the caller's.
pub(super) unsafe fn unmap(low: usize, len: usize) -> bool {
    // SAFETY: by the contract.
    unsafe { libc::munmap(low as *mut libc::c_void, len) == 0 }
}

/// What of a range is in memory.
pub(super) struct Residency {
    pub(super) bytes: usize,
    pub(super) lowest: Option<usize>,
}

/// Says which pages of a mapped range are in memory (pages in swap do not count).
pub(super) fn residency(low: usize, high: usize) -> Residency {
    static PAGE: OnceLock<usize> = OnceLock::new();
    let page = *PAGE.get_or_init(|| {
        // SAFETY: takes a number.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    });
    let mut found = Residency {
        bytes: 0,
        lowest: None,
    };
    let mut pages = [0_u8; 512];
    for low in (low..high).step_by(pages.len() * page) {
        let len = (high - low).min(pages.len() * page);
        // SAFETY: `pages` has a byte for each page of the range; nothing else is written.
        if unsafe { libc::mincore(low as *mut _, len, pages.as_mut_ptr()) } != 0 {
            continue;
        }
        for (i, state) in pages[..len / page].iter().enumerate() {
            if state & 1 != 0 {
                found.bytes += page;
                found.lowest.get_or_insert(low + i * page);
            }
        }
    }
    found
}
