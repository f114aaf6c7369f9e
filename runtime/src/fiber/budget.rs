//! How many stacks the process may have at once, and who has them.
//!
//! Nouns: a *credit* is the right to one live stack. The [`Budget`] holds what nobody has; each
//! worker's pool keeps a few, so that the shared counter is touched once per chunk. A live stack
//! holds one credit; a pooled stack holds none.
//!
//! Invariant: credits out (live stacks plus pools' reserves) = `in_use` <= `limit`, except right
//! after `limit` fell; it falls when the kernel maps no more, and never rises.
//!
//! Starvation: a worker that finds no credit keeps its task unstarted and sets `starved`. Pools
//! look at the flag whenever a stack comes back, and then return all that they do not need; who
//! [takes](Budget::take_starved) the flag wakes the starved.
//!
//! This file knows numbers only: it maps nothing and wakes nobody.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::{fs, io};

use super::stack::StackSpec;

/// What a task that sleeps takes: its first page, page tables, control data.
const TASK_BYTES: usize = 4_700;
/// Memory maps left to the rest of the process: heap arenas, libraries, threads, files.
const MAPS_SLACK: usize = 1_024;
/// Memory maps that a stack costs when its guard is one: the guard and what lies above.
const MAPS_PER_STACK: usize = 2;

/// The counter on a cache line of its own: the flag and the limit are read far more often.
#[derive(Debug)]
#[repr(align(128))]
struct InUse(AtomicUsize);

/// The process's stacks as numbers; shared by the workers of a runtime.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: AtomicUsize,
    /// Address space of a stack of the spec that the limit was found for.
    stride: usize,
    /// What sets the limit, and the remedy.
    why: String,
    /// The kernel refused a mapping before the limit was reached.
    shrunk: AtomicBool,
    starved: AtomicBool,
    in_use: InUse,
}

impl Budget {
    /// Finds the tightest of the limits that apply to stacks of `spec`.
    pub(crate) fn detect(asked: Option<usize>, spec: StackSpec, guard_is_vma: bool) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut least = (usize::MAX, String::from("nothing that sward knows of"));
        let mut cap = |limit: usize, why: String| {
            if limit < least.0 {
                least = (limit, why);
            }
        };
        if let Some(n) = asked {
            cap(n, format!("Runtime::builder().max_stacks({n})"));
        }
        if let Some(bytes) = address_space(&read("/proc/self/limits")) {
            let used = kib(&read("/proc/self/status"), "VmSize:").unwrap_or(0);
            // Half: the heap and the threads' own stacks live there too.
            let limit = bytes.saturating_sub(used) / 2 / spec.stride();
            let have = bytes >> 20;
            cap(
                limit,
                format!("RLIMIT_AS = {have} MiB (raise `ulimit -v`, or use smaller stacks)"),
            );
        }
        if guard_is_vma && let Ok(maps) = read("/proc/sys/vm/max_map_count").trim().parse() {
            let used = read("/proc/self/maps").lines().count() + MAPS_SLACK;
            let limit = usize::saturating_sub(maps, used) / MAPS_PER_STACK;
            let remedy = "sysctl -w vm.max_map_count=... or Linux 6.13, whose guards cost no map";
            cap(limit, format!("vm.max_map_count = {maps} ({remedy})"));
        }
        if let Some(bytes) = kib(&read("/proc/meminfo"), "MemTotal:") {
            let why = format!("physical memory = {} MiB", bytes >> 20);
            cap(bytes / 100 * 95 / TASK_BYTES, why);
        }
        if let Some((bytes, file)) = cgroup_memory(&read("/proc/self/cgroup"), read) {
            let why = format!(
                "{file} = {} MiB (raise the cgroup's memory.max)",
                bytes >> 20
            );
            cap(bytes / 100 * 95 / TASK_BYTES, why);
        }
        Self::new(least.0, spec.stride(), least.1)
    }

    pub(super) fn new(limit: usize, stride: usize, why: String) -> Self {
        Self {
            limit: AtomicUsize::new(limit.max(1)),
            stride,
            why,
            shrunk: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            in_use: InUse(AtomicUsize::new(0)),
        }
    }

    /// Takes up to `want` credits, and says how many.
    pub(crate) fn grab(&self, want: usize) -> usize {
        let counter = &self.in_use.0;
        let mut have = counter.load(Relaxed);
        loop {
            let got = want.min(self.limit().saturating_sub(have));
            if got == 0 {
                return 0;
            }
            // Acquire and, in `put`, Release: the memory of a stack given up here is unmapped
            // before somebody else maps another.
            match counter.compare_exchange_weak(have, have + got, Acquire, Relaxed) {
                Ok(_) => return got,
                Err(now) => have = now,
            }
        }
    }

    /// Gives `n` credits back.
    pub(crate) fn put(&self, n: usize) {
        let had = self.in_use.0.fetch_sub(n, Release);
        debug_assert!(had >= n, "{n} credits came back and {had} were out");
    }

    /// The kernel has no room for a stack of `spec`: from now on never hands out more credits than
    /// are out already. A spec that is larger than usual says nothing about the others, and then
    /// nothing changes.
    pub(crate) fn shrink_to_in_use(&self, spec: StackSpec) {
        if spec.stride() <= self.stride {
            self.limit.fetch_min(self.in_use().max(1), Relaxed);
            self.shrunk.store(true, Relaxed);
        }
    }

    /// Returns how many stacks there may be at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Returns how many credits are out: live stacks and the pools' reserves.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.0.load(Relaxed)
    }

    /// Returns the error for a spawn that found no stack.
    pub(crate) fn refusal(&self) -> io::Error {
        let limit = self.limit();
        let why = if self.shrunk.load(Relaxed) {
            "what the kernel would map (see `ulimit -v`, vm.max_map_count, vm.overcommit_memory)"
        } else {
            &self.why
        };
        let text = format!(
            "no stack for another task: {limit} of {limit} in use or promised; limited by {why}"
        );
        io::Error::new(io::ErrorKind::OutOfMemory, text)
    }

    /// Whether a worker waits for a stack.
    #[inline]
    pub(crate) fn starved(&self) -> bool {
        self.starved.load(Relaxed)
    }

    /// Tells the others that a worker waits for a stack.
    pub(crate) fn set_starved(&self) {
        self.starved.store(true, Release);
    }

    /// Clears the flag; `true`: it was set, and the caller now has to wake the starved.
    #[inline]
    pub(crate) fn take_starved(&self) -> bool {
        self.starved() && self.starved.swap(false, AcqRel)
    }
}

/// The value of `key` in a file of `key  number kB` lines, in bytes.
fn kib(text: &str, key: &str) -> Option<usize> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace()
        .next()?
        .parse::<usize>()
        .ok()?
        .checked_mul(1024)
}

/// The soft limit in `/proc/self/limits`; `None`: unlimited.
fn address_space(limits: &str) -> Option<usize> {
    let rest = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The tightest `memory.max` (cgroup v2) from the process's group up to the root.
fn cgroup_memory(groups: &str, read: impl Fn(&str) -> String) -> Option<(usize, String)> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut group = group.trim_end_matches('/');
    let mut least = None;
    loop {
        let file = format!("/sys/fs/cgroup{group}/memory.max");
        if let Ok(bytes) = read(&file).trim().parse::<usize>()
            && least.as_ref().is_none_or(|&(have, _)| bytes < have)
        {
            least = Some((bytes, file));
        }
        let Some((parent, _)) = group.rsplit_once('/') else {
            return least;
        };
        group = parent;
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn budget(limit: usize) -> Budget {
        Budget::new(limit, spec().stride(), "a test".into())
    }

    fn spec() -> StackSpec {
        StackSpec::new(64 << 10, 16 << 10).unwrap()
    }

    #[test]
    fn credits_come_and_go() {
        let budget = budget(10);
        assert_eq!(budget.grab(4), 4);
        assert_eq!(budget.grab(8), 6);
        assert_eq!((budget.grab(1), budget.in_use()), (0, 10));
        budget.put(3);
        assert_eq!((budget.grab(5), budget.in_use()), (3, 10));
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        const LIMIT: usize = 100;
        let budget = budget(LIMIT);
        let held = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for t in 0..4 {
                let (budget, held) = (&budget, &held);
                s.spawn(move || {
                    for i in 0..20_000 {
                        let got = budget.grab(1 + (i * 7 + t) % 60);
                        assert!(held.fetch_add(got, Relaxed) + got <= LIMIT);
                        held.fetch_sub(got, Relaxed);
                        budget.put(got);
                    }
                });
            }
        });
        assert_eq!(budget.in_use(), 0);
        assert_eq!(budget.grab(LIMIT + 1), LIMIT);
    }

    #[test]
    fn a_shrunk_budget_stays_shrunk() {
        let budget = budget(1000);
        budget.grab(7);
        budget.shrink_to_in_use(StackSpec::new(1 << 20, 16 << 10).unwrap());
        assert_eq!(budget.limit(), 1000);
        assert!(budget.refusal().to_string().contains("1000 of 1000"));
        budget.shrink_to_in_use(spec());
        assert_eq!((budget.limit(), budget.grab(1)), (7, 0));
        budget.put(7);
        budget.shrink_to_in_use(spec());
        assert_eq!(budget.limit(), 1);
        let text = budget.refusal().to_string();
        assert!(
            text.contains("1 of 1 in use") && text.contains("kernel"),
            "{text}"
        );
    }

    #[test]
    fn the_refusal_names_limit_and_remedy() {
        let asked = Budget::detect(Some(5), spec(), false);
        assert_eq!(asked.limit(), 5);
        assert_eq!(asked.refusal().kind(), io::ErrorKind::OutOfMemory);
        let text = asked.refusal().to_string();
        assert!(
            text.contains("5 of 5") && text.contains("max_stacks(5)"),
            "{text}"
        );
        assert_eq!(Budget::detect(Some(0), spec(), false).limit(), 1);
    }

    #[test]
    fn guards_that_cost_maps_are_limited_by_them() {
        let maps = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let maps: usize = maps.trim().parse().unwrap();
        let with = Budget::detect(None, spec(), true);
        assert!(with.limit() <= (maps - MAPS_SLACK) / 2, "{}", with.limit());
        let without = Budget::detect(None, spec(), false);
        assert!(without.limit() >= with.limit());
        assert!(!without.refusal().to_string().contains("max_map_count"));
        if maps < 1 << 20 {
            let text = with.refusal().to_string();
            assert!(
                text.contains(&format!("vm.max_map_count = {maps} (sysctl -w")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_starved_flag_has_one_taker() {
        let budget = budget(1);
        assert!(!budget.take_starved());
        budget.set_starved();
        assert!(budget.starved());
        assert!(budget.take_starved() && !budget.take_starved());
        assert!(!budget.starved());
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            kib("MemTotal:       16384 kB\nX: 1 kB", "MemTotal:"),
            Some(16 << 20)
        );
        assert_eq!(kib("MemFree: 1 kB", "MemTotal:"), None);
        let limits =
            |soft| format!("Max locked memory 1 2 bytes\nMax address space {soft} 9 bytes");
        assert_eq!(address_space(&limits("4096")), Some(4096));
        assert_eq!(address_space(&limits("unlimited")), None);

        let files = |path: &str| match path {
            "/sys/fs/cgroup/a/b/memory.max" => "max\n".into(),
            "/sys/fs/cgroup/a/memory.max" => "1048576\n".into(),
            "/sys/fs/cgroup/memory.max" => "2097152\n".into(),
            _ => String::new(),
        };
        let (bytes, file) = cgroup_memory("1:name=x:/\n0::/a/b\n", files).unwrap();
        assert_eq!(
            (bytes, file.as_str()),
            (1 << 20, "/sys/fs/cgroup/a/memory.max")
        );
        // In a cgroup namespace the container's own limit is at the root.
        assert_eq!(cgroup_memory("0::/\n", files).unwrap().0, 2 << 20);
        let root = |path: &str| {
            if path.matches('/').count() == 4 {
                "7".into()
            } else {
                String::new()
            }
        };
        assert_eq!(cgroup_memory("0::/a/b", root).unwrap().0, 7);
        assert_eq!(cgroup_memory("1:name=x:/a\n", files), None);
    }
}
