use std::process::{Command, Output};

use super::*;

const CHILD: &str = "SWARD_TEST_CHILD";

/// Runs one test of this binary again, alone in a process of its own, as `role`.
pub(in super::super) fn rerun(module: &str, test: &str, role: &str) -> Output {
    let (_, module) = module.split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("{module}::{test}"), "--exact", "--nocapture"])
        .env(CHILD, role)
        .output()
        .unwrap()
}

pub(in super::super) fn is_child(role: &str) -> bool {
    std::env::var_os(CHILD).is_some_and(|have| have == role)
}

fn alone(test: &str, role: &str) {
    let out = rerun(module_path!(), test, role);
    let text = String::from_utf8_lossy(&out.stdout);
    // The second: no test was found under that name.
    assert!(out.status.success() && text.contains("1 passed"), "{out:?}");
}

fn small() -> StackSpec {
    StackSpec::new(64 << 10, 16 << 10).unwrap()
}

fn default() -> StackSpec {
    StackSpec::new(DEFAULT_STACK, DEFAULT_GUARD).unwrap()
}

fn budget(limit: usize) -> Arc<Budget> {
    Arc::new(Budget::new(limit, default().stride(), "a test".into()))
}

fn pool() -> StackPool {
    StackPool::new(budget(1 << 20))
}

fn poke(address: usize) {
    let byte = std::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: in a live slot of the caller, or in a child that is to die.
    unsafe { byte.write_volatile(1) };
}

fn touch(slot: &StackSlot, pages: usize) {
    for page in 1..=pages {
        poke(slot.top() - page * 4096);
    }
}

/// Takes n stacks, touches `pages` of each.
fn crowd(pool: &mut StackPool, n: usize, pages: usize) -> Vec<StackSlot> {
    let take = |_| {
        let slot = pool.take(default()).unwrap();
        touch(&slot, pages);
        slot
    };
    (0..n).map(take).collect()
}

fn give_all(pool: &mut StackPool, slots: Vec<StackSlot>) {
    slots.into_iter().for_each(|slot| pool.give_back(slot));
}

/// Whether a write kills a child by SIGSEGV.
fn faults(address: usize) -> bool {
    // SAFETY: the child only writes a byte and ends, both of which are allowed there.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        poke(address);
        // SAFETY: a number and nothing else.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: our child, and `status` is ours to be written.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFSIGNALED(status) || libc::WEXITSTATUS(status) == 0);
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV
}

fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

/// In KiB.
fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn specs_are_checked_and_rounded() {
    let spec = StackSpec::new(20_000, 17_000).unwrap();
    assert_eq!((spec.size(), spec.guard()), (20_480, 20_480));
    for (size, guard, names) in [
        (
            MIN_STACK - 1,
            MIN_GUARD,
            ["stack of 16383", "16384 to", "Builder::stack_size"],
        ),
        (
            MAX_STACK + 1,
            MIN_GUARD,
            ["1073741825", "to 1073741824", "builder().stack_size"],
        ),
        (
            MIN_STACK,
            0,
            ["guard of 0", "16384 to", "Builder::guard_size"],
        ),
        (
            MIN_STACK,
            usize::MAX,
            ["guard", "1073741824", "builder().guard_size"],
        ),
    ] {
        let e = StackSpec::new(size, guard).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        assert!(names.iter().all(|name| e.to_string().contains(name)), "{e}");
    }
    for (size, guard) in [(MIN_STACK, MIN_GUARD), (MAX_STACK, MAX_GUARD)] {
        let spec = StackSpec::new(size, guard).unwrap();
        assert_eq!((spec.size(), spec.guard()), (size, guard));
        assert_eq!(spec.stride() / GRAIN % 2, 1);
    }
    assert_eq!(default().stride(), 260 << 10);
    assert!(size_of::<StackSlot>() <= 24);
}

#[test]
fn slots_are_apart_and_usable_to_the_ends() {
    let mut pool = pool();
    let mut slots: Vec<_> = (0..40).map(|_| pool.take(small()).unwrap()).collect();
    slots.sort_by_key(StackSlot::top);
    for slot in &slots {
        assert!(slot.top() - slot.bottom() >= slot.spec().size());
        assert_eq!(slot.bottom() - slot.guard_low(), slot.spec().guard());
        poke(slot.bottom());
        poke(slot.top() - 1);
    }
    assert!(
        slots
            .windows(2)
            .all(|pair| pair[0].top() <= pair[1].guard_low())
    );
    let mut colours: Vec<_> = slots[..16].iter().map(StackSlot::colour).collect();
    colours.sort_unstable();
    assert_eq!(colours, (0..16).collect::<Vec<_>>());
}

#[test]
fn the_last_given_back_is_the_first_taken() {
    let mut pool = pool();
    let slots = crowd(&mut pool, 5, 1);
    let tops: Vec<_> = slots.iter().map(StackSlot::top).collect();
    give_all(&mut pool, slots);
    for &top in tops.iter().rev() {
        assert_eq!(pool.take(default()).unwrap().top(), top);
    }
    let other = pool.take(small()).unwrap();
    assert_eq!(other.spec(), small());
    pool.give_back(other);
    assert!(!tops.contains(&pool.take(default()).unwrap().top()));
}

#[test]
fn guards_fault_in_both_kinds_and_survive_trim() {
    for as_vma in [guard_is_vma(), true] {
        let mut pool = StackPool::with_guard(budget(100_000), as_vma);
        let slots = crowd(&mut pool, 4, 1);
        let whole = |slot: &StackSlot| {
            assert!(faults(slot.bottom() - 1) && faults(slot.guard_low()));
            assert!(!faults(slot.bottom()) && !faults(slot.top() - 1));
        };
        whole(&slots[0]);
        let places: Vec<_> = slots.iter().map(StackSlot::top).collect();
        let live = pool.take(default()).unwrap();
        give_all(&mut pool, slots);
        assert_eq!(
            pool.trim(0),
            TrimReport {
                dropped: 4,
                ..TrimReport::default()
            }
        );
        let again = crowd(&mut pool, 4, 0);
        again.iter().for_each(whole);
        let mut tops: Vec<_> = again.iter().map(StackSlot::top).collect();
        tops.sort_unstable();
        assert_eq!(tops, places);
        whole(&live);
    }
}

#[test]
fn guards_cost_no_maps() {
    const N: usize = 5_000;
    if !is_child("counted") {
        return alone("guards_cost_no_maps", "counted");
    }
    let mut pool = pool();
    let before = maps();
    crowd(&mut pool, N, 0);
    let more = maps().saturating_sub(before);
    if guard_is_vma() {
        assert!(more >= N, "{more}");
    } else {
        assert!(more <= 10, "{more}");
    }
}

#[test]
fn trim_gives_all_memory_back() {
    const N: usize = 5_000;
    if !is_child("weighed") {
        return alone("trim_gives_all_memory_back", "weighed");
    }
    let mut pool = pool();
    let (size, rss) = (status("VmSize:"), status("VmRSS:"));
    let slots = crowd(&mut pool, N, 2);
    assert!(status("VmRSS:") > rss + N * 8);
    let full = pool.census();
    assert_eq!((full.live, full.pooled, full.resident), (N, 0, N * 8192));
    give_all(&mut pool, slots);
    assert!(pool.classes[0].warm.capacity() >= N);
    let (mut calls, mut unmapped) = (0, 0);
    loop {
        let begun = Instant::now();
        let report = pool.trim(0);
        // Generous: the machine has other work.
        assert!(begun.elapsed() < Duration::from_millis(200));
        calls += 1;
        unmapped += report.unmapped;
        if !report.more {
            break;
        }
    }
    assert!(calls > 1, "5 slabs in one call");
    assert_eq!(unmapped, N.div_ceil(SLAB_SLOTS));
    assert_eq!(pool.census(), StackCensus::default());
    assert!(pool.classes[0].warm.capacity() <= 64 && pool.classes[0].open.is_empty());
    assert!(status("VmRSS:") < rss + 4096 && status("VmSize:") < size + 4096);
    // Numbers of slabs are used again.
    touch(&pool.take(default()).unwrap(), 1);
    assert_eq!(pool.slabs.len(), unmapped);
}

#[test]
fn trim_keeps_what_is_live_or_wanted_warm() {
    let mut pool = pool();
    let mut slots = crowd(&mut pool, 1_500, 1);
    let live = slots.swap_remove(700);
    let last = slots.last().unwrap().top();
    give_all(&mut pool, slots);
    while pool.trim(10).more {}
    let left = pool.census();
    assert_eq!((left.live, left.resident), (1, 11 * 4096));
    assert_eq!(pool.take(default()).unwrap().top(), last);
    pool.give_back(live);
}

#[test]
fn deep_use_is_given_back() {
    let mut pool = pool();
    let slots = crowd(&mut pool, 3, 40);
    give_all(&mut pool, slots);
    assert!(!pool.trim(3).more);
    assert_eq!(pool.classes[0].swept, 0);
    let census = pool.census();
    assert_eq!((census.resident, census.deepest), (3 * KEEP, 40 * 4096));
    assert_eq!((census.depths[2], census.depths[6]), (3, 0));
    // Without an idle moment: every so many, and again soon after a find.
    for _ in 0..4 {
        for i in 1..=CHECK_EVERY {
            let slot = pool.take(default()).unwrap();
            touch(&slot, 40);
            pool.give_back(slot);
            // Three that trim saw, too.
            let checked = (i + 3).is_multiple_of(CHECK_EVERY);
            let deep = pool.census().resident > 3 * KEEP;
            assert_eq!(deep, !checked, "{i}");
        }
    }
    for _ in 0..10 * CHECK_SELDOM {
        let slot = pool.take(default()).unwrap();
        pool.give_back(slot);
    }
    assert_eq!(pool.check_interval, CHECK_SELDOM);
}

#[test]
fn census_measures_depth() {
    let mut pool = pool();
    let slots: Vec<_> = [1, 3, 10].map(|pages| crowd(&mut pool, 1, pages)).into();
    let mut depths = [0; 20];
    (depths[0], depths[2], depths[4]) = (1, 1, 1);
    let census = pool.census();
    assert_eq!(
        census,
        StackCensus {
            mapped: SLAB_SLOTS,
            live: 3,
            generators: 0,
            pooled: 0,
            resident: 14 * 4096,
            deepest: 10 * 4096,
            depths
        }
    );
    slots
        .into_iter()
        .for_each(|slots| give_all(&mut pool, slots));
    assert_eq!((pool.census().live, pool.census().pooled), (0, 3));
}

#[test]
fn the_live_are_listed() {
    let mut pool = pool();
    let mut slots = crowd(&mut pool, 1_100, 0);
    for i in [1_050, 64, 63, 0] {
        pool.give_back(slots.swap_remove(i));
    }
    let mut listed = Vec::new();
    pool.for_each_live(&mut |top, offset| listed.push((top, offset)));
    let mut live: Vec<_> = slots.iter().map(|s| (s.top(), s.colour() * 64)).collect();
    listed.sort_unstable();
    live.sort_unstable();
    assert_eq!(listed, live);
    // Not those that are lent, until they come back.
    let (first, last) = (slots.remove(0), slots.pop().unwrap());
    pool.lend(&first);
    pool.lend(&last);
    let count = |pool: &StackPool| {
        let mut n = 0;
        pool.for_each_live(&mut |_, _| n += 1);
        n
    };
    assert_eq!((count(&pool), pool.lent()), (1_094, 2));
    assert_eq!(pool.census().generators, 2);
    pool.give_back_lent(first);
    assert_eq!((count(&pool), pool.lent()), (1_094, 1));
    let again = pool.take(default()).unwrap();
    assert_eq!((count(&pool), pool.lent()), (1_095, 1));
    pool.give_back(again);
    pool.give_back_lent(last);
    assert_eq!(pool.lent(), 0);
}

#[test]
fn a_leaked_stack_outlives_its_pool() {
    // Alone, since what is unmapped here may be mapped elsewhere at once.
    if !is_child("leaking") {
        return alone("a_leaked_stack_outlives_its_pool", "leaking");
    }
    let budget = budget(1 << 16);
    let mut pool = StackPool::new(budget.clone());
    let mut slots = crowd(&mut pool, 1_025, 1);
    // One of the first slab stays, the whole second slab goes.
    let leaked = slots.remove(3);
    let gone = slots.last().unwrap().top();
    give_all(&mut pool, slots);
    drop(pool);
    assert_eq!(budget.in_use(), 1);
    assert!(!faults(leaked.top() - 1) && faults(leaked.bottom() - 1));
    assert!(faults(gone - 1));
}

#[test]
fn credits_are_shared_by_pools() {
    let budget = budget(100);
    let (mut a, mut b) = (
        StackPool::new(budget.clone()),
        StackPool::new(budget.clone()),
    );
    let mut slots: Vec<_> = (0..96).map(|_| a.take(small()).unwrap()).collect();
    let last = slots.pop();
    a.give_back(last.unwrap());
    assert_eq!((budget.in_use(), a.credits), (96, 1));
    slots.extend((0..5).map(|_| a.take(small()).unwrap()));
    assert_eq!(b.take(small()).unwrap_err(), Exhausted);
    budget.set_starved();
    a.give_back(slots.pop().unwrap());
    assert!(a.credits == 0 && budget.take_starved());
    slots.push(b.take(small()).unwrap());
    assert!(b.credits == 0 && a.take(small()).is_err());
    b.give_back(slots.pop().unwrap());
    give_all(&mut a, slots.split_off(50));
    budget.set_starved();
    a.release_credits();
    slots.push(a.take(small()).unwrap());
    assert!(a.credits == 0 && budget.take_starved());
    // A crowd that goes leaves no more than two chunks behind.
    give_all(&mut a, slots);
    assert!(a.credits <= 2 * a.chunk && budget.in_use() == a.credits + b.credits);
    b.release_credits();
    a.trim(0);
    assert_eq!(budget.in_use(), 0);
}

#[test]
fn address_space_runs_out() {
    if !is_child("limited") {
        return alone("address_space_runs_out", "limited");
    }
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let room = 48 << 20;
    let most = libc::rlimit {
        rlim_cur: pages * 4096 + room,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `most` is only read.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const most) };
    assert_eq!(done, 0);
    let detected = Budget::detect(None, default(), false);
    assert!(
        (70..=94).contains(&detected.limit()),
        "{}",
        detected.limit()
    );
    assert!(detected.refusal().to_string().contains("ulimit -v"));

    // Nobody warned the pool: a slab of 260 MiB does not fit, smaller ones do.
    let budget = budget(1 << 20);
    let mut pool = StackPool::new(budget.clone());
    let large = StackSpec::new(64 << 20, 1 << 20).unwrap();
    assert!(pool.take(large).is_err() && budget.limit() == 1 << 20);
    let mut slots = Vec::with_capacity(1000);
    while let Ok(slot) = pool.take(default()) {
        slots.push(slot);
    }
    assert!(slots.len() > 140, "{}", slots.len());
    assert!(pool.slabs.len() < 20, "{}", pool.slabs.len());
    assert_eq!(
        (budget.limit(), budget.in_use()),
        (slots.len(), slots.len())
    );
    assert!(budget.refusal().to_string().contains("kernel"));
    // Another spec gets the room that free stacks of this one take.
    give_all(&mut pool, slots);
    assert!(
        pool.take(StackSpec::new(20 << 20, 1 << 20).unwrap())
            .is_ok()
    );
}

#[test]
fn maps_run_out_where_guards_cost_them() {
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let most: usize = most.trim().parse().unwrap();
    if most > 1 << 18 {
        return; // It would take long, and gigabytes of address space.
    }
    if !is_child("mapped") {
        return alone("maps_run_out_where_guards_cost_them", "mapped");
    }
    let budget = budget(1 << 20);
    let mut pool = StackPool::with_guard(budget.clone(), true);
    let mut slots = Vec::with_capacity(most);
    while let Ok(slot) = pool.take(small()) {
        slots.push(slot);
    }
    assert!(
        (most / 2 - 500..most / 2).contains(&slots.len()),
        "{}",
        slots.len()
    );
    assert_eq!(budget.limit(), slots.len());
    give_all(&mut pool, slots);
    while pool.trim(0).more {}
    assert!(maps() < 500);
}
