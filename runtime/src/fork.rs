//! Notices that the process is a forked child, whose runtime threads are gone.
//!
//! A page that the kernel wipes in the child (`MADV_WIPEONFORK`) holds the number of this
//! process's generation; each runtime remembers the number that it was built under. In a child
//! the page reads 0 until the first look gives the child a number of its own, so what was made
//! before the fork no longer matches and what is made after it does (design R10).

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// What to tell who uses a runtime from before the fork.
pub(crate) const TEXT: &str = "this process is a forked child: the runtime and what was made with \
     it stayed in the parent; build a Runtime of its own here, or exec";

/// The generation of a process: crates above that own descriptors keep one beside them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

static PAGE: OnceLock<usize> = OnceLock::new();
static FAST: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicU64 = AtomicU64::new(1);
static NEXT_TASK: AtomicU64 = AtomicU64::new(1);
/// The first task id that this process gave out itself.
static FIRST_TASK: AtomicU64 = AtomicU64::new(1);

/// On the page while one thread takes the first look.
const LOOKING: u64 = u64::MAX;

/// Hands out `n` task ids, unique in this process; returns the first.
pub(crate) fn task_ids(n: u64) -> u64 {
    // A child's first look comes before its first id.
    Epoch::current();
    NEXT_TASK.fetch_add(n, Relaxed)
}

/// Whether the task with that id stayed in the parent, if it has not ended.
#[inline]
pub(crate) fn is_lost(id: u64) -> bool {
    Epoch::current();
    id < FIRST_TASK.load(Relaxed)
}

/// The page that holds the calling process's generation, 0 in a child that has not looked yet.
pub(crate) fn page() -> &'static AtomicU64 {
    let mut address = FAST.load(Relaxed);
    if address == 0 {
        address = *PAGE.get_or_init(map);
        FAST.store(address, Relaxed);
    }
    // SAFETY: `map` gave a page that is never unmapped, zeroed, aligned.
    unsafe { &*(address as *const AtomicU64) }
}

fn map() -> usize {
    let size = 4096;
    // SAFETY: a new anonymous mapping, no existing memory is touched.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        // No page: then forks go unnoticed, which is better than not running at all.
        return Box::leak(Box::new(AtomicU64::new(0))) as *const AtomicU64 as usize;
    }
    // SAFETY: our own fresh mapping; failure (a kernel before 4.14) means unnoticed forks.
    unsafe { libc::madvise(page, size, libc::MADV_WIPEONFORK) };
    page as usize
}

impl Epoch {
    /// The calling process's generation.
    #[inline]
    pub fn current() -> Self {
        let page = page();
        match page.load(Acquire) {
            0 | LOOKING => Self::begin(page),
            seen => Self(seen),
        }
    }

    #[cold]
    fn begin(page: &AtomicU64) -> Self {
        // Only one thread looks: another that took a number too would be like a second child, and
        // declare the ids lost that the first has given out meanwhile.
        loop {
            match page.compare_exchange(0, LOOKING, Acquire, Acquire) {
                Ok(_) => {
                    let fresh = NEXT.fetch_add(1, Relaxed);
                    if fresh > 1 {
                        FIRST_TASK.store(NEXT_TASK.load(Relaxed), Relaxed);
                    }
                    page.store(fresh, Release);
                    return Self(fresh);
                }
                Err(LOOKING) => std::thread::yield_now(),
                Err(seen) => return Self(seen),
            }
        }
    }

    /// Whether this is the generation on `page`: the same as `!is_stale`, for who has the page.
    #[inline]
    pub(crate) fn is_on(self, page: &AtomicU64) -> bool {
        page.load(Relaxed) == self.0
    }

    /// Whether the calling process is another one than that of this generation.
    #[inline]
    pub fn is_stale(self) -> bool {
        self != Self::current()
    }
}
