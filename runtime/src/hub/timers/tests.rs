use super::*;

const TICK: u64 = 1 << TICK_BITS;
const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MILLISECOND;
const YEAR: u64 = 8_766 * HOUR;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Any order of magnitude below 2^`bits` alike.
    fn scaled(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits + 1);
        self.next() & ((1 << bits) - 1)
    }
}

impl<T: Copy> Timers<T> {
    /// Compares the whole structure with the invariants of the file head.
    fn check(&self) {
        assert!(self.cursor <= self.horizon);
        let mut linked = 0;
        for head in 0..HEADS.min(self.entries.len() as u32) {
            let (level, slot) = (head as usize / SLOTS, head as usize % SLOTS);
            let Entry {
                tick: earliest,
                generation: latest,
                ..
            } = self.entries[head as usize];
            let listed = self.list(head);
            assert_eq!(self.occupied[level] >> slot & 1 == 1, !listed.is_empty());
            for entry in &listed {
                let tick = self.whole(entry.tick);
                assert_eq!((tick >> (DIGIT_BITS * level as u32)) as usize % SLOTS, slot);
                assert!((earliest..=latest).contains(&entry.tick));
                assert_eq!(entry.generation % 2, 1);
                let natural = level_of(self.cursor ^ tick);
                let wanted = if head == self.source {
                    self.source_level
                } else {
                    natural
                };
                assert_eq!(level, wanted);
            }
            linked += listed.len();
        }
        for (&epoch, &head) in &self.far {
            assert_eq!(self.entries[head as usize].tick, epoch);
            assert_eq!(self.entries[head as usize].generation % 2, 0);
            assert!(epoch > (self.cursor >> EPOCH_BITS) as u32 || head == self.source);
            assert!(!self.list(head).is_empty());
            linked += self.list(head).len();
        }
        assert_eq!(self.source != NONE, self.source_level > 0);
        assert!(self.source == NONE || !self.list(self.source).is_empty());
        assert_eq!(linked, self.live);
        let mut free = 0;
        let mut index = self.free;
        while index != NONE {
            let entry = &self.entries[index as usize];
            assert_eq!((entry.prev, entry.generation % 2), (NONE, 0));
            index = entry.next;
            free += 1;
        }
        let heads = HEADS as usize + self.far.len();
        assert!(self.entries.is_empty() || self.entries.len() == heads + linked + free);
    }

    fn list(&self, head: u32) -> Vec<Entry<T>> {
        let mut listed = Vec::new();
        let (mut prev, mut index) = (head, self.entries[head as usize].next);
        while index != head {
            let entry = self.entries[index as usize];
            assert_eq!(entry.prev, prev);
            listed.push(entry);
            (prev, index) = (index, entry.next);
        }
        assert_eq!(self.entries[head as usize].prev, prev);
        listed
    }
}

fn drain(timers: &mut Timers<u64>, now: u64, limit: usize) -> Vec<u64> {
    let mut fired = Vec::new();
    loop {
        timers.expire(now, limit, |value| fired.push(value));
        if !timers.has_due() {
            return fired;
        }
    }
}

#[test]
fn an_entry_takes_24_bytes_and_a_key_8() {
    assert_eq!(size_of::<Entry<u64>>(), 24);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
    assert_eq!(Timers::<u64>::new().entries.capacity(), 0);
}

#[test]
fn fires_within_a_tick_and_never_early() {
    let delays = [
        1,
        TICK - 1,
        TICK,
        TICK + 1,
        63 * TICK,
        64 * TICK,
        65 * TICK,
        HOUR,
        YEAR,
    ];
    for delay in delays {
        for start in [0, 1, TICK, 4095 * TICK - 1, HOUR + 7, 20 * HOUR, 100 * YEAR] {
            let mut timers = Timers::new();
            assert_eq!(drain(&mut timers, start, 10), []);
            timers.insert(start + delay, 1);
            assert_eq!(drain(&mut timers, start + delay - 1, 10), []);
            let wake = start + delay + TICK - 1;
            assert!(timers.next_deadline().is_some_and(|at| at <= wake));
            assert_eq!(
                drain(&mut timers, wake, 10),
                [1],
                "{delay} ns after {start}"
            );
            assert_eq!((timers.len(), timers.next_deadline()), (0, None));
        }
    }
}

#[test]
fn what_is_past_fires_at_the_next_call() {
    let mut timers = Timers::new();
    drain(&mut timers, HOUR, 10);
    for deadline in [0, HOUR - TICK, HOUR / TICK * TICK] {
        for now in [HOUR, HOUR - TICK, 0] {
            timers.insert(deadline, 1);
            assert!(timers.has_due());
            assert_eq!(drain(&mut timers, now, 10), [1]);
            assert!(!timers.has_due());
        }
    }
}

#[test]
fn what_is_past_does_not_starve_what_is_due() {
    let mut timers = Timers::new();
    timers.insert(HOUR, 1);
    timers.insert(HOUR + 10 * TICK, 2);
    let mut seen = 0;
    for round in 0..20 {
        for _ in 0..10 {
            timers.insert(0, 0);
        }
        timers.expire(2 * HOUR + round, 10, |value| seen += value);
    }
    assert_eq!(seen, 3);
}

#[test]
fn equal_deadlines_fire_in_order_of_insertion_also_while_a_list_comes_down() {
    let mut timers = Timers::new();
    let at = 70 * 4096 * TICK;
    for value in 0..50 {
        timers.insert(at + value % 2 * 9 * TICK, value);
    }
    let mut fired = Vec::new();
    for value in 50..100 {
        timers.expire(at - 5 * TICK, 1, |value| fired.push(value));
        timers.insert(at + value % 2 * 9 * TICK, value);
        timers.check();
    }
    assert_eq!(fired, []);
    let fired = drain(&mut timers, at + HOUR, 7);
    let even = (0..50).map(|i| 2 * i);
    assert_eq!(
        fired,
        even.clone().chain(even.map(|i| i + 1)).collect::<Vec<_>>()
    );
}

#[test]
fn stale_keys_are_refused() {
    let mut timers = Timers::new();
    let first = timers.insert(5, 1);
    assert!(timers.cancel(first));
    assert!(!timers.cancel(first));
    let second = timers.insert(5, 2);
    assert_eq!(first.index, second.index, "the entry is used again at once");
    assert!(!timers.cancel(first));
    assert_eq!(drain(&mut timers, TICK, 10), [2]);
    assert!(!timers.cancel(second));

    let mut timers = Timers::new();
    timers.first_generation = u32::MAX - 1;
    let last = timers.insert(5, 1);
    assert!(timers.cancel(last));
    let wrapped = timers.insert(5, 1);
    assert_eq!(
        (last.generation.get(), wrapped.generation.get()),
        (u32::MAX, 1)
    );
    assert!(!timers.cancel(last) && timers.cancel(wrapped));
}

#[test]
fn far_deadlines_keep_their_order_and_the_last_tick_never_comes() {
    let mut timers = Timers::new();
    let end = u64::MAX - TICK + 1;
    for deadline in [u64::MAX, end + 1] {
        timers.insert(deadline, deadline);
    }
    assert_eq!(timers.next_deadline(), None);
    for deadline in [
        end,
        500 * YEAR,
        100 * YEAR + TICK,
        100 * YEAR,
        YEAR,
        20 * HOUR,
    ] {
        timers.insert(deadline, deadline);
    }
    timers.check();
    let expected = [
        20 * HOUR,
        YEAR,
        100 * YEAR,
        100 * YEAR + TICK,
        500 * YEAR,
        end,
    ];
    let mut fired = Vec::new();
    let mut wakes = 0;
    while let Some(now) = timers.next_deadline() {
        timers.expire(now, 100, |deadline| fired.push(deadline));
        timers.check();
        wakes += 1;
    }
    assert_eq!(fired, expected);
    assert!(wakes <= 2 * expected.len(), "{wakes} wakes");
    assert_eq!(drain(&mut timers, u64::MAX, 100), []);
    assert_eq!(timers.len(), 2);
}

#[test]
fn each_wake_at_the_next_deadline_fires_something() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut timers = Timers::new();
        let mut left = 2_000;
        for value in 0..left {
            timers.insert(random.scaled(45), value);
        }
        let mut last = 0;
        while let Some(now) = timers.next_deadline() {
            assert!(now >= last, "seed {seed}");
            let fired = timers.expire(now, usize::MAX, |_| left -= 1);
            assert!(fired > 0 && !timers.has_due(), "seed {seed} at {now}");
            last = now;
        }
        assert_eq!((left, timers.len()), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_cancelled_timer_costs_at_most_one_wake_per_level() {
    let mut timers = Timers::new();
    let deadline = 30 * HOUR;
    let mut keys: Vec<TimerKey> = Vec::new();
    for bits in 0..40 {
        keys.push(timers.insert(deadline - (1 << bits), 0));
    }
    timers.insert(deadline, 1);
    assert!(keys.into_iter().all(|key| timers.cancel(key)));
    let mut wakes = 0;
    let mut fired = 0;
    while let Some(now) = timers.next_deadline() {
        fired += timers.expire(now, 10, |value| assert_eq!(value, 1));
        wakes += 1;
    }
    assert!(fired == 1 && wakes <= LEVELS + 2, "{wakes} wakes");
}

#[test]
fn no_call_works_more_than_its_limit() {
    let (entries, limit, base) = (100_000, 100, 2 * YEAR + 3);
    for span in [0, 200 * MILLISECOND, HOUR, 400 * HOUR] {
        let mut random = Random(span);
        let mut timers = Timers::new();
        for value in 0..entries {
            timers.insert(base + random.below(span + 1), value);
        }
        let (mut fired, mut calls) = (0, 0);
        while timers.len() > 0 {
            let before = timers.work.get();
            fired += timers.expire(base + span + TICK, limit, |_| ());
            calls += 1;
            // Entering a list is followed by at least one entry moved or fired.
            let work = timers.work.get() - before;
            assert!(work <= 2 * limit, "{work} steps");
            assert!(timers.has_due() || timers.len() == 0);
        }
        assert_eq!(fired as u64, entries);
        // Each entry goes down from beyond the wheel at most once per level, then fires.
        let most = (LEVELS as u64 + 1) * entries / limit as u64;
        assert!(calls <= most, "{calls} calls");
    }
}

#[test]
fn equal_deadlines_come_down_as_one() {
    let mut timers = Timers::new();
    let other = timers.insert(HOUR + 9 * TICK, 0);
    assert!(timers.cancel(other));
    for value in 0..10_000 {
        timers.insert(HOUR + 1, value);
    }
    while timers.len() > 0 {
        timers.expire(HOUR + TICK, 1_000, |_| ());
    }
    assert!(
        timers.work.get() <= 10_000 + 10 + 2 * LEVELS,
        "{} steps",
        timers.work.get()
    );
}

#[test]
fn idle_time_costs_nothing() {
    let mut timers = Timers::new();
    timers.insert(400 * YEAR, 1);
    for hour in 0..1_000 {
        assert_eq!(timers.expire(hour * HOUR, 10, |_| ()), 0);
    }
    assert_eq!(drain(&mut timers, 401 * YEAR, 10), [1]);
    let work = timers.work.get();
    assert!(work <= 3 * (LEVELS + 1), "{work} steps");

    timers.insert(401 * YEAR + TICK, 2);
    assert_eq!(drain(&mut timers, 401 * YEAR + 2 * TICK, 10), [2]);
    let work = timers.work.get() - work;
    assert!(work <= 4, "{work} steps: the cursor has stayed behind");
}

#[test]
fn memory_is_reused_and_given_back() {
    let mut timers = Timers::new();
    let mut stale = Vec::new();
    for value in 0..5_000 {
        stale.push(timers.insert(HOUR + value * TICK, value));
    }
    timers.insert(YEAR, 5_000);
    let full = timers.entries.len();
    let oldest = stale.clone();
    for _ in 0..10 {
        assert!(stale.iter().all(|&key| timers.cancel(key)));
        assert!(!stale.iter().any(|&key| timers.cancel(key)));
        stale = (0..5_000)
            .map(|value| timers.insert(HOUR + value * TICK, value))
            .collect();
    }
    assert_eq!(timers.entries.len(), full);

    assert!(stale.iter().skip(100).all(|&key| timers.cancel(key)));
    timers.shrink();
    timers.check();
    let mut left = 0;
    timers.for_each(|_| left += 1);
    assert_eq!((left, timers.len()), (101, 101));
    // The year's entry and its head came last and stay; new entries start at the front.
    assert!(timers.insert(5, 0).index < 5_000);
    assert_eq!(drain(&mut timers, 2 * YEAR, 1_000).len(), 102);
    timers.shrink();
    timers.check();
    assert_eq!(timers.entries.len(), HEADS as usize);
    assert!(timers.entries.capacity() < HEADS as usize + 10);

    for value in 0..6_000 {
        timers.insert(3 * YEAR, value);
    }
    let mut old = oldest.into_iter().chain(stale);
    assert!(
        !old.any(|key| timers.cancel(key)),
        "a dropped entry's generation came back"
    );
}

#[test]
fn a_panic_in_fire_leaves_the_wheel_whole() {
    let mut timers = Timers::new();
    for value in 0..10 {
        timers.insert(HOUR, value);
    }
    let stop = std::panic::AssertUnwindSafe(|| {
        timers.expire(2 * HOUR, 100, |value| {
            if value == 4 {
                std::panic::resume_unwind(Box::new(()));
            }
        })
    });
    assert!(std::panic::catch_unwind(stop).is_err());
    timers.check();
    assert_eq!(drain(&mut timers, 2 * HOUR, 100), [5, 6, 7, 8, 9]);
}

/// Everything at random, against a map ordered by (tick, insertion).
#[test]
fn behaves_like_an_ordered_map() {
    for seed in 0..200 {
        model(seed, 3_000);
    }
}

fn model(seed: u64, steps: u64) {
    let mut random = Random(seed);
    let mut timers = Timers::new();
    let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut live: Vec<(TimerKey, (u64, u64))> = Vec::new();
    let mut stale: Vec<TimerKey> = Vec::new();
    let mut now = random.scaled(60);
    let mut asked = 0;
    let mut deadline = now;
    // How far deadlines and time go differs from seed to seed.
    let reach = 20 + random.below(40);
    for step in 0..steps {
        let context = || format!("seed {seed} step {step}");
        match random.below(100) {
            0..55 => {
                deadline = match random.below(20) {
                    0 => u64::MAX - random.scaled(20),
                    1 => now.saturating_sub(random.scaled(reach)),
                    2..6 => deadline,
                    _ => now.saturating_add(random.scaled(reach)),
                };
                let tick = u128::from(deadline).div_ceil(u128::from(TICK)) as u64;
                let place = (tick.max(asked / TICK), step);
                live.push((timers.insert(deadline, step), place));
                assert_eq!(model.insert(place, deadline), None);
            }
            55..70 if !live.is_empty() => {
                let (key, place) = live.swap_remove(random.below(live.len() as u64) as usize);
                let pending = model.remove(&place).is_some();
                assert_eq!(timers.cancel(key), pending, "{}", context());
                stale.push(key);
            }
            70..75 if !stale.is_empty() => {
                let key = stale[random.below(stale.len() as u64) as usize];
                assert!(!timers.cancel(key), "{}", context());
            }
            75..98 => {
                match random.below(4) {
                    0 => now = now.max(timers.next_deadline().unwrap_or(now)),
                    1 => {}
                    _ => now = now.saturating_add(random.scaled(reach)),
                }
                asked = asked.max(now);
                let limit = random.scaled(8) as usize;
                let before = timers.work.get();
                let count = timers.expire(now, limit, |value| {
                    let ((tick, order), deadline) = model.pop_first().expect("nothing is pending");
                    assert_eq!(value, order, "{}", context());
                    assert!(tick <= now / TICK && deadline <= now, "{}", context());
                });
                assert!(
                    count <= limit && timers.work.get() - before <= 2 * limit,
                    "{}",
                    context()
                );
                let due = model
                    .first_key_value()
                    .is_some_and(|(at, _)| at.0 <= now / TICK);
                assert!(!due || timers.has_due(), "{}", context());
            }
            98 => {
                let mut values = Vec::new();
                timers.for_each(|value| values.push(value));
                values.sort_unstable();
                let mut expected: Vec<u64> = model.keys().map(|place| place.1).collect();
                expected.sort_unstable();
                assert_eq!(values, expected, "{}", context());
            }
            _ => timers.shrink(),
        }
        assert_eq!(timers.len(), model.len(), "{}", context());
        let first = model
            .first_key_value()
            .and_then(|(at, _)| at.0.checked_mul(TICK));
        match (timers.next_deadline(), first) {
            (None, first) => assert_eq!(first, None, "{}", context()),
            (Some(at), Some(first)) => assert!(at <= first, "{}", context()),
            (Some(_), None) => assert!(timers.source != NONE, "{}", context()),
        }
        if step % 16 == 0 {
            timers.check();
        }
    }
    let end = now.max(583 * YEAR);
    let fired = drain(&mut timers, end, 50);
    let mut expected: Vec<u64> = Vec::new();
    while let Some(((tick, order), _)) = model.pop_first() {
        if tick <= end / TICK {
            expected.push(order);
        }
    }
    assert_eq!(fired, expected, "seed {seed}");
    timers.check();
}
