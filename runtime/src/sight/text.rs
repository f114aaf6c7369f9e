//! The dump as a table.
//!
//! A line that stands for many tasks has their number, with an x, in place of the id; then `*` means
//! that they are on several workers, and the age is that of the oldest.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::clock::human;
use crate::hub::question::{TaskInfo, TaskState, Traced};
use crate::sight::dump::Dump;
use crate::sight::rows::{self, Row};
use crate::sight::symbols::Symbols;
use crate::wait_name::Named;
use crate::wait_reason::WaitKind;

/// Lines beyond that many are counted, not printed, unless every task was asked for.
const PRINTED: usize = 1000;
/// Below a row, its backtrace: behind the column of ids.
const INDENT: &str = "            ";

pub(crate) fn dump(dump: &Dump, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let rows = rows::rows(&dump.listings, dump.every_task);
    let count = |s: TaskState| {
        let of = rows.iter().filter(|r| r.task.state == s);
        of.map(|r| r.count).sum::<usize>()
    };
    let all: usize = rows.iter().map(|r| r.count).sum();
    writeln!(
        f,
        "{} tasks: {} running, {} ready, {} parked, {} unstarted",
        all + dump.injected,
        count(TaskState::Running),
        count(TaskState::Ready),
        count(TaskState::Parked),
        count(TaskState::Unstarted) + dump.injected,
    )?;
    let jobs = dump.jobs;
    if jobs.queued + jobs.running > 0 {
        writeln!(
            f,
            "{} blocking jobs: {} running, {} queued, on {} threads",
            jobs.queued + jobs.running,
            jobs.running,
            jobs.queued,
            jobs.threads
        )?;
    }
    let mut table = Table {
        dump,
        symbols: Symbols::default(),
        told: HashMap::new(),
    };
    for (line, hog) in dump.stalled.iter().zip(&dump.hogs) {
        f.write_str(line)?;
        if let Some(hog) = hog {
            table.frames(f, hog.addresses())?;
        }
    }
    if !rows.is_empty() {
        head(f)?;
    }
    let most = if dump.every_task { usize::MAX } else { PRINTED };
    let mut sizes: HashMap<u64, usize> = HashMap::new();
    for row in &rows {
        if let Some((id, _)) = &row.task.owner {
            *sizes.entry(*id).or_default() += row.count;
        }
    }
    let mut owner = None;
    for row in rows.iter().take(most) {
        if owner != row.task.owner.as_ref() {
            owner = row.task.owner.as_ref();
            if let Some((id, name)) = owner {
                let n = sizes.get(id).copied().unwrap_or(0);
                writeln!(f, "in {name} (id {id}), {n} tasks:")?;
            }
        }
        table.row(f, row)?;
    }
    if let Some(rest) = rows.get(most..) {
        let more: usize = rest.iter().map(|r| r.count).sum();
        if more > 0 {
            writeln!(f, "... and {more} more")?;
        }
    }
    for circle in rows::circles(&dump.listings) {
        in_a_circle(f, &circle)?;
    }
    Ok(())
}

/// The line above the rows.
pub(crate) fn head(f: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(
        f,
        "{:>8}  {:<3} {:<9} {:>9}  waits for, name, spawned at",
        "id", "wkr", "state", "age"
    )
}

struct Table<'a> {
    dump: &'a Dump,
    symbols: Symbols,
    /// Backtraces that have been printed, and below which row.
    told: HashMap<Arc<[usize]>, String>,
}

impl Table<'_> {
    fn row(&mut self, f: &mut fmt::Formatter<'_>, row: &Row<'_>) -> fmt::Result {
        line(f, self.dump, row)?;
        match row.trace {
            None if row.task.trace == Traced::NoRoom => {
                writeln!(f, "{INDENT}(no backtrace: its stack is nearly full)")
            }
            None => Ok(()),
            Some(trace) => {
                let name = label(row);
                if let Some(before) = self.told.get(trace) {
                    return writeln!(f, "{INDENT}at the same place as {before}");
                }
                self.told.insert(trace.clone(), name);
                self.frames(f, trace)
            }
        }
    }

    fn frames(&mut self, f: &mut fmt::Formatter<'_>, addresses: &[usize]) -> fmt::Result {
        let frames = self.symbols.frames(addresses);
        if frames.is_empty() {
            return writeln!(f, "{INDENT}(no frame of its own)");
        }
        frames
            .iter()
            .try_for_each(|x| writeln!(f, "{INDENT}at {x}"))
    }
}

/// What stands in the column of ids.
fn label(row: &Row<'_>) -> String {
    if row.count > 1 {
        format!("x{}", row.count)
    } else {
        row.task.id.to_string()
    }
}

/// One row, without its backtrace.
pub(crate) fn line(f: &mut dyn fmt::Write, dump: &Dump, row: &Row<'_>) -> fmt::Result {
    let t = row.task;
    let worker = if row.workers_differ {
        "*".into()
    } else {
        row.worker.to_string()
    };
    let age = dump.age(t.state, row.since);
    let age = age.map_or_else(|| "-".into(), human);
    let state = state_name(t.state);
    let label = label(row);
    write!(f, "{label:>8}  {worker:<3} {state:<9} {age:>9}  ")?;
    if t.state == TaskState::Parked {
        if row.reasons_differ {
            write!(f, "{}, ", several(t.reason.kind()))?;
        } else {
            write!(f, "{}, ", Named(t.reason))?;
        }
    }
    if let (Some(name), false) = (&t.name, row.names_differ) {
        write!(f, "'{name}', ")?;
    }
    write!(f, "{}", t.site)?;
    if t.killed {
        f.write_str(", killed")?;
    }
    if row.count > 1 {
        write!(f, " (ids {} to {})", t.id, row.last_id)?;
    }
    f.write_char('\n')
}

/// The reason of tasks that wait for different things of a kind.
fn several(kind: WaitKind) -> String {
    let text = match kind {
        WaitKind::None | WaitKind::Sleep | WaitKind::Park | WaitKind::Other(_) => kind.noun(),
        WaitKind::Named(what) => return format!("{what} different things"),
        WaitKind::Mutex => "mutexes",
        WaitKind::ReentrantMutex => "reentrant mutexes",
        WaitKind::Send => "sends to channels",
        WaitKind::Recv => "receives from channels",
        WaitKind::Put => "puts into queues",
        WaitKind::Get => "gets from queues",
        WaitKind::Unfinished => "unfinished tasks of queues",
        WaitKind::Change => "changes of watched values",
        WaitKind::Broadcast => "values of broadcasts",
        WaitKind::Unwatched => "ends of all receivers of watched values",
        WaitKind::Group => "groups of tasks",
        WaitKind::Pool => "places in pools",
        WaitKind::Completion => "ends of tasks",
        WaitKind::Readable => "descriptors to be readable",
        WaitKind::Writable => "descriptors to be writable",
        kind => return format!("{}s", kind.noun()),
    };
    text.to_owned()
}

pub(crate) fn state_name(state: TaskState) -> &'static str {
    match state {
        TaskState::Unstarted => "unstarted",
        TaskState::Ready => "ready",
        TaskState::Running => "running",
        TaskState::Parked => "parked",
    }
}

fn in_a_circle(f: &mut fmt::Formatter<'_>, circle: &[&TaskInfo]) -> fmt::Result {
    writeln!(
        f,
        "deadlock: these wait for each other and will never go on:"
    )?;
    for task in circle {
        let name = task.name.as_ref().map(|n| format!(" '{n}'"));
        let name = name.unwrap_or_default();
        writeln!(f, "{:>8}{name} waits for {}", task.id, Named(task.reason))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::hub::question::Listing;
    use crate::wait_reason::WaitReason;

    fn task(id: u64, owner: Option<(u64, &str)>, trace: Traced) -> TaskInfo {
        TaskInfo {
            id,
            name: None,
            site: Location::caller(),
            state: TaskState::Parked,
            reason: WaitReason::new(WaitKind::Sleep, 0),
            since: 0,
            killed: id == 2,
            owner: owner.map(|(id, name)| (id, name.to_owned())),
            trace,
        }
    }

    fn printed(tasks: Vec<TaskInfo>) -> String {
        let mut listing = Listing::default();
        listing.tasks = tasks;
        let dump = Dump {
            taken: 2_000_000,
            listings: vec![(0, listing)],
            stalled: vec!["worker 1 stalled\n".into()],
            hogs: vec![None],
            injected: 3,
            jobs: crate::hub::jobs::Census::default(),
            every_task: false,
        };
        dump.to_string()
    }

    #[test]
    fn groups_and_full_stacks() {
        let crawl = Some((7, "crawl"));
        let mut tasks = vec![
            task(1, None, Traced::NoRoom),
            task(2, crawl, Traced::No),
            task(3, Some((5, "other")), Traced::No),
        ];
        tasks.extend((10..30).map(|id| task(id, crawl, Traced::No)));
        let text = printed(tasks);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "26 tasks: 0 running, 0 ready, 23 parked, 3 unstarted"
        );
        assert_eq!(lines[1], "worker 1 stalled");
        assert!(lines[3].starts_with("       1  0   parked       2.0 ms  sleep, "));
        assert!(lines[4].contains("its stack is nearly full"));
        assert_eq!(lines[5], "in other (id 5), 1 tasks:");
        assert_eq!(lines[7], "in crawl (id 7), 21 tasks:");
        assert!(lines[8].ends_with(", killed"), "{text}");
        assert!(lines[9].starts_with("     x20  0   parked"), "{text}");
        assert!(
            lines[9].ends_with(" (ids 10 to 29)") && lines.len() == 10,
            "{text}"
        );
    }
}
