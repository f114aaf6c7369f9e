//! What the console answers.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use crate::clock::{self, human};
use crate::hub::jobs::Census;
use crate::hub::question::{Listing, RollCall, TaskInfo, TaskState};
use crate::hub::shared::RuntimeShared;
use crate::hub::worker;
use crate::registry;
use crate::sight::dump::{self, Dump, DumpOptions};
use crate::sight::rows;
use crate::sight::sample;
use crate::sight::stats::Stats;
use crate::sight::symbols::TaskBacktrace;
use crate::sight::text;

const HELP: &str = "\
ps [WORD...]     one line for each task; words choose: a state (parked, ready, running, unstarted),
                 worker=N, limit=N (100), and any other text that must be in the line
stack ID         what task ID does, with its backtrace
kill ID          asks task ID to end
dump [all]       all tasks, alike ones in one line (all: each in its own), with backtraces
json [all]       the same as one line of JSON for each runtime
stats            counters and latencies
workers          what each worker does
help             this
quit             ends the connection
A reply ends with a line that is a dot.
";

/// What a console is about. (Task ids are unique in the process.)
pub(crate) enum About {
    /// All runtimes of the process.
    Process,
    /// The one that opened it.
    One(Weak<RuntimeShared>),
}

/// The reply to a command, without the dot.
pub(crate) fn answer(about: &About, command: &str, arguments: &[&str]) -> String {
    let mut all = match about {
        About::Process => registry::all(),
        About::One(rt) => rt.upgrade().into_iter().collect(),
    };
    all.retain(|rt| !rt.epoch.is_stale());
    let every_task = arguments == ["all"];
    let options = DumpOptions::new().every_task(every_task).backtraces(true);
    match command {
        "help" | "?" => HELP.into(),
        _ if all.is_empty() => "no runtime is there\n".into(),
        "ps" => each(&all, |rt| ps(rt, arguments)),
        "stack" => with_id(arguments, |id| stack(&all, id)),
        "kill" => with_id(arguments, |id| kill(&all, id)),
        "dump" => each(&all, |rt| dump::of(rt, options).to_string()),
        "json" => all
            .iter()
            .map(|rt| dump::of(rt, options).to_json() + "\n")
            .collect(),
        "stats" => each(&all, |rt| Stats::of(rt).to_string()),
        "workers" => each(&all, workers),
        other => {
            let shown: String = other
                .chars()
                .take(40)
                .flat_map(char::escape_default)
                .collect();
            format!("there is no command {shown}; `help` lists them\n")
        }
    }
}

/// Under a line that names the runtime, if there are several.
fn each(all: &[Arc<RuntimeShared>], f: impl Fn(&Arc<RuntimeShared>) -> String) -> String {
    let mut out = String::new();
    for rt in all {
        if all.len() > 1 {
            let _ = writeln!(out, "runtime '{}':", rt.config.name);
        }
        out.push_str(&f(rt));
    }
    out
}

fn with_id(arguments: &[&str], f: impl FnOnce(u64) -> String) -> String {
    match arguments {
        [id] => match id.parse() {
            Ok(id) => f(id),
            Err(_) => "an id is a number; `ps` shows them\n".into(),
        },
        _ => "the id of one task is needed; `ps` shows them\n".into(),
    }
}

fn ps(rt: &Arc<RuntimeShared>, words: &[&str]) -> String {
    let mut limit = 100;
    let mut worker = None;
    let mut state = None;
    let mut texts = Vec::new();
    let states = [
        TaskState::Parked,
        TaskState::Ready,
        TaskState::Running,
        TaskState::Unstarted,
    ];
    for word in words {
        let named = states.into_iter().find(|&s| text::state_name(s) == *word);
        match word.split_once('=') {
            _ if named.is_some() => state = named,
            Some((key @ ("limit" | "worker"), number)) => match number.parse::<usize>() {
                Ok(n) if key == "limit" => limit = n,
                Ok(n) => worker = Some(n),
                Err(_) => return format!("{key}= takes a number\n"),
            },
            _ => texts.push(*word),
        }
    }
    let dump = dump::of(rt, DumpOptions::new().every_task(true));
    let mut out = String::new();
    let mut found = 0;
    for row in rows::rows(&dump.listings, true) {
        let chosen =
            worker.is_none_or(|w| w == row.worker) && state.is_none_or(|s| s == row.task.state);
        if !chosen || (texts.is_empty() && found >= limit) {
            found += usize::from(chosen);
            continue;
        }
        let mut line = String::new();
        // Writing to a String cannot fail.
        let _ = text::line(&mut line, &dump, &row);
        if texts.iter().all(|t| line.contains(t)) {
            found += 1;
            if found == 1 {
                let _ = text::head(&mut out);
            }
            if found <= limit {
                out.push_str(&line);
            }
        }
    }
    match found {
        0 => out.push_str("no such task\n"),
        n if n > limit => {
            let _ = writeln!(out, "... and {} more (limit=N shows more)", n - limit);
        }
        _ => {}
    }
    dump.stalled.iter().for_each(|line| out.push_str(line));
    out
}

/// Looks for a task: who has it (index into `all`, worker, listing with that task alone), or what
/// to say about workers that did not answer.
fn find(
    all: &[Arc<RuntimeShared>],
    call: RollCall,
) -> Result<(&Arc<RuntimeShared>, usize, Listing), String> {
    let mut silent = String::new();
    for rt in all {
        let answers = dump::call(rt, call);
        for w in (0..rt.workers.len()).filter(|w| answers.iter().all(|a| a.0 != *w)) {
            silent.push_str(&dump::stalled_line(rt, w));
        }
        let mut have = answers.into_iter().filter(|(_, l)| !l.tasks.is_empty());
        if let Some((worker, listing)) = have.next() {
            return Ok((rt, worker, listing));
        }
    }
    Err(silent)
}

fn stack(all: &[Arc<RuntimeShared>], id: u64) -> String {
    let call = RollCall {
        only: Some(id),
        traces: true,
        kill: false,
    };
    match find(all, call) {
        Ok((_, worker, listing)) => {
            let dump = Dump {
                taken: clock::real_nanos(),
                listings: vec![(worker, listing)],
                stalled: vec![],
                hogs: vec![],
                injected: 0,
                jobs: Census::default(),
                every_task: true,
            };
            dump.to_string()
        }
        Err(silent) => {
            let mut out = silent;
            match running_on(all, id) {
                None => {
                    let _ = writeln!(out, "no worker that answered has a task {id}");
                }
                Some((rt, worker)) => match sample::of(rt, worker).filter(|s| s.task == id) {
                    None => out.push_str(
                        "it runs, and there is no backtrace of it (SWARD_SAMPLING=1 or \
                         RuntimeBuilder::sampling allows it)\n",
                    ),
                    Some(sample) => frames(&mut out, &sample.backtrace),
                },
            }
            out
        }
    }
}

fn frames(out: &mut String, backtrace: &TaskBacktrace) {
    for frame in backtrace.frames() {
        let _ = writeln!(out, "            at {frame}");
    }
}

/// The worker that runs that task at this moment.
fn running_on(all: &[Arc<RuntimeShared>], id: u64) -> Option<(&Arc<RuntimeShared>, usize)> {
    let runs = |rt: &Arc<RuntimeShared>| {
        let running = |w: &&worker::WorkerShared| w.published.running.load(Relaxed) == id;
        rt.workers.iter().copied().position(|w| running(&w))
    };
    all.iter().find_map(|rt| Some((rt, runs(rt)?)))
}

fn kill(all: &[Arc<RuntimeShared>], id: u64) -> String {
    let call = RollCall {
        only: Some(id),
        traces: false,
        kill: true,
    };
    let describe = |t: &TaskInfo| {
        let name = t.name.as_ref().map(|n| format!(" '{n}'"));
        format!(
            "task {id}{} spawned at {}",
            name.unwrap_or_default(),
            t.site
        )
    };
    match find(all, call) {
        Ok((_, _, listing)) => {
            let task = listing.tasks.first().map(describe).unwrap_or_default();
            format!("{task} is asked to end: it unwinds at its next park\n")
        }
        Err(silent) if silent.is_empty() => format!("there is no task {id}\n"),
        Err(silent) => {
            format!("{silent}no other worker has a task {id}; it was not killed\n")
        }
    }
}

fn workers(rt: &Arc<RuntimeShared>) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:>3}  {:<8} {:>9} {:>8} {:>8} {:>8} {:>12}  runs",
        "wkr", "state", "looked", "live", "ready", "timers", "switches"
    );
    for (i, w) in rt.workers.iter().enumerate() {
        let p = &w.published;
        let running = p.running.load(Relaxed);
        let state = match () {
            () if p.thread.load(Relaxed) == 0 => "ended",
            () if w.inbox.sleeps() => "asleep",
            () => "awake",
        };
        let looked = clock::real_nanos().saturating_sub(p.looked.load(Relaxed));
        let looked = human(std::time::Duration::from_nanos(looked));
        let _ = write!(
            out,
            "{i:>3}  {state:<8} {looked:>9} {:>8} {:>8} {:>8} {:>12}  ",
            p.live.load(Relaxed),
            p.ready.load(Relaxed),
            p.timers.load(Relaxed),
            p.switches.load(Relaxed)
        );
        let _ = match (running, worker::site(p)) {
            (0, _) | (_, None) => writeln!(out, "-"),
            (id, Some(site)) => writeln!(out, "task {id} spawned at {site}"),
        };
    }
    out
}
