//! The rows of a dump: tasks that are alike folded into one, those of a group together; and who
//! waits for whom in a circle.
//!
//! Alike are tasks of one owner, spawned at one place, in the same state, for the same kind of
//! reason, with the same return addresses. Names do not count: a server names its tasks one by one.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use crate::clock::Nanos;
use crate::hub::question::{Listing, TaskInfo, TaskState};
use crate::wait_reason::WaitKind;

/// So many tasks that are alike are still listed one by one.
const FEW: usize = 8;

/// One task, or many that are alike.
pub(crate) struct Row<'a> {
    /// The first one, by id.
    pub(crate) task: &'a TaskInfo,
    pub(crate) worker: usize,
    pub(crate) trace: Option<&'a Arc<[usize]>>,
    pub(crate) count: usize,
    pub(crate) last_id: u64,
    /// Since when the one has been in its state that has been longest.
    pub(crate) since: Nanos,
    /// Whether they are on several workers, wait for several objects, have several names.
    pub(crate) workers_differ: bool,
    pub(crate) reasons_differ: bool,
    pub(crate) names_differ: bool,
}

/// What tasks have in common that are alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    owner: Option<u64>,
    site: &'static Location<'static>,
    state: TaskState,
    kind: WaitKind,
    trace: Option<&'a [usize]>,
    killed: bool,
}

/// Numbers for kinds of tasks, and how many there are of each.
#[derive(Default)]
struct Kinds<'a> {
    numbers: HashMap<Key<'a>, u32>,
    sizes: Vec<usize>,
    last: Option<(Key<'a>, u32)>,
}

impl<'a> Kinds<'a> {
    fn of(&mut self, task: &TaskInfo, trace: Option<&'a Arc<[usize]>>) -> u32 {
        let key = Key {
            owner: task.owner.as_ref().map(|o| o.0),
            site: task.site,
            state: task.state,
            kind: task.reason.kind(),
            trace: trace.map(|t| &t[..]),
            killed: task.killed,
        };
        let number = match self.last {
            // A crowd comes in a row.
            Some((last, number)) if last == key => number,
            _ => {
                let next = u32::try_from(self.sizes.len()).unwrap_or(u32::MAX);
                let number = *self.numbers.entry(key).or_insert(next);
                if number == next {
                    self.sizes.push(0);
                }
                number
            }
        };
        self.last = Some((key, number));
        self.sizes[number as usize] += 1;
        number
    }
}

/// The rows in the order of owners, then of ids.
pub(crate) fn rows(listings: &[(usize, Listing)], every_task: bool) -> Vec<Row<'_>> {
    let mut started_twice = Twice::of(listings);
    let mut kinds = Kinds::default();
    let mut numbers = Vec::new();
    if !every_task {
        for (_, listing) in listings {
            let number = |t: &TaskInfo| kinds.of(t, listing.addresses(t.trace));
            numbers.extend(listing.tasks.iter().map(number));
        }
    }
    let mut numbers = numbers.into_iter();
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut folded: HashMap<u32, usize> = HashMap::new();
    for (worker, listing) in listings {
        for task in &listing.tasks {
            let number = numbers.next();
            if started_twice.skip(task) {
                continue;
            }
            let row = Row {
                task,
                worker: *worker,
                trace: listing.addresses(task.trace),
                count: 1,
                last_id: task.id,
                since: task.since,
                workers_differ: false,
                reasons_differ: false,
                names_differ: false,
            };
            if let Some(number) = number.filter(|&n| kinds.sizes[n as usize] > FEW) {
                if let Some(&at) = folded.get(&number) {
                    rows[at].add(&row);
                    continue;
                }
                folded.insert(number, rows.len());
            }
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| (row.task.owner.as_ref().map(|o| o.0), row.task.id));
    rows
}

/// Tasks that are there twice, because they started while their workers told of them: then what was
/// said last counts.
struct Twice {
    /// Unstarted ones, and whether to leave them out.
    unstarted: HashMap<u64, bool>,
}

impl Twice {
    fn of(listings: &[(usize, Listing)]) -> Self {
        let tasks = || listings.iter().flat_map(|(_, listing)| &listing.tasks);
        let has_started = |t: &&TaskInfo| t.state != TaskState::Unstarted;
        let mut unstarted: HashMap<u64, bool> = tasks()
            .filter(|t| !has_started(t))
            .map(|t| (t.id, false))
            .collect();
        if !unstarted.is_empty() {
            for task in tasks().filter(has_started) {
                if let Some(skip) = unstarted.get_mut(&task.id) {
                    *skip = true;
                }
            }
        }
        Self { unstarted }
    }

    fn skip(&mut self, task: &TaskInfo) -> bool {
        if task.state != TaskState::Unstarted {
            return false;
        }
        // Two workers may both have had it in their queues.
        let seen = self.unstarted.insert(task.id, true);
        seen == Some(true)
    }
}

impl<'a> Row<'a> {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.workers_differ |= self.worker != other.worker;
        self.reasons_differ |= self.task.reason != other.task.reason;
        self.names_differ |= self.task.name != other.task.name;
        if other.task.id < self.task.id {
            (self.task, self.worker) = (other.task, other.worker);
        }
        self.last_id = self.last_id.max(other.last_id);
        self.since = self.since.min(other.since);
    }
}

/// Circles of tasks of which each waits for the next one: for a lock that it has, or for its end.
pub(crate) fn circles(listings: &[(usize, Listing)]) -> Vec<Vec<&TaskInfo>> {
    let waits_for = |task: &TaskInfo| match task.reason.kind() {
        _ if task.state != TaskState::Parked => None,
        WaitKind::Join => Some(task.reason.object()),
        _ => task.reason.holder(),
    };
    let tasks = listings.iter().flat_map(|(_, listing)| &listing.tasks);
    let edges: HashMap<u64, (&TaskInfo, u64)> = tasks
        .filter_map(|task| Some((task.id, (task, waits_for(task)?))))
        .collect();
    let mut starts: Vec<u64> = edges.keys().copied().collect();
    starts.sort_unstable();
    // The walk that came by first.
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut circles = Vec::new();
    for start in starts {
        let mut at = start;
        while let (Some(&(_, next)), false) = (edges.get(&at), seen.contains_key(&at)) {
            seen.insert(at, start);
            at = next;
        }
        if seen.get(&at) == Some(&start) && edges.contains_key(&at) {
            let mut circle = Vec::new();
            let first = at;
            while let Some(&(task, next)) = edges.get(&at) {
                circle.push(task);
                at = next;
                if at == first {
                    break;
                }
            }
            circles.push(circle);
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::question::Traced;
    use crate::wait_reason::WaitReason;

    fn task(id: u64, reason: WaitReason) -> TaskInfo {
        TaskInfo {
            id,
            name: None,
            site: Location::caller(),
            state: TaskState::Parked,
            reason,
            since: 100 - id,
            killed: false,
            owner: None,
            trace: Traced::No,
        }
    }

    fn listing(tasks: Vec<TaskInfo>) -> (usize, Listing) {
        let mut listing = Listing::default();
        listing.tasks = tasks;
        (0, listing)
    }

    #[test]
    fn circles_are_found_once() {
        let held = |by| WaitReason::new(WaitKind::Mutex, 0x10).held_by(by);
        let join = |of| WaitReason::new(WaitKind::Join, of);
        let found = |tasks| {
            let listings = [listing(tasks)];
            let circles = circles(&listings);
            let ids = |c: &Vec<&TaskInfo>| c.iter().map(|t| t.id).collect::<Vec<_>>();
            circles.iter().map(ids).collect::<Vec<_>>()
        };
        // 1 and 5 lead into the circle 2-3-4; 6 waits for itself; 7 for nobody that is there.
        let tasks = vec![
            task(1, held(2)),
            task(2, held(3)),
            task(3, join(4)),
            task(4, held(2)),
            task(5, join(1)),
            task(6, held(6)),
            task(7, held(99)),
            task(8, WaitReason::new(WaitKind::Sleep, 0)),
        ];
        assert_eq!(found(tasks), [vec![2, 3, 4], vec![6]]);
        // One that runs waits for nobody, whatever its last reason was.
        let mut runs = task(2, held(1));
        runs.state = TaskState::Ready;
        assert!(found(vec![task(1, held(2)), runs]).is_empty());
    }

    #[test]
    fn many_that_are_alike_are_one_row() {
        let sleep = WaitReason::new(WaitKind::Sleep, 0);
        let park = WaitReason::new(WaitKind::Park, 0);
        let mut tasks: Vec<_> = (1..=20).map(|id| task(id, sleep)).collect();
        tasks.extend((30..33).map(|id| task(id, park)));
        tasks[4].owner = Some((1, "g".into()));
        let listings = [listing(tasks)];
        let all = rows(&listings, false);
        let seen: Vec<_> = all
            .iter()
            .map(|r| (r.task.id, r.count, r.last_id))
            .collect();
        let expected = [
            (1, 19, 20),
            (30, 1, 30),
            (31, 1, 31),
            (32, 1, 32),
            (5, 1, 5),
        ];
        assert_eq!(seen, expected);
        assert_eq!(all[0].since, 80);
        assert_eq!(rows(&listings, true).len(), 23);
    }

    #[test]
    fn a_task_that_started_meanwhile_is_there_once() {
        let park = WaitReason::new(WaitKind::Park, 0);
        let mut early = task(3, WaitReason::NONE);
        early.state = TaskState::Unstarted;
        for every_task in [true, false] {
            for late_first in [true, false] {
                let mut tasks = vec![early.clone(), task(3, park)];
                if late_first {
                    tasks.reverse();
                }
                let listings = [listing(tasks)];
                let rows = rows(&listings, every_task);
                assert_eq!(rows.len(), 1);
                assert_eq!(rows[0].task.state, TaskState::Parked);
            }
        }
    }
}
