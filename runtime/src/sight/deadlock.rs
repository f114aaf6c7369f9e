//! The report for when nothing can ever wake again (gevent's `LoopExit`, Go's "all goroutines
//! are asleep").
//!
//! Condition: every worker, of all runtimes, sleeps without a timer, and no descriptor that they
//! watch has somebody who waits for it; no mail waits and no unstarted task (but for a stack);
//! nothing is counted that goes on outside for a task; at least one task is parked, and at least one
//! ordinary thread waits
//! without a limit (in `run`, a `join`, a channel...). Without such a thread the process is doing something of its own, and
//! tasks that wait for it are no mistake. It is a report: threads outside may hold what the
//! tasks wait for, and the runtime cannot see that.
//!
//! Blocking jobs that have not ended, and wakers of futures that somebody keeps, count as what may
//! wake a task: then nothing is reported.
//!
//! The worker that falls asleep last keeps watch for `WATCH` before it says so; one silence is
//! reported once.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;

use crate::config::OnDeadlock;
use crate::hub::jobs;
use crate::hub::shared::{Doze, RuntimeShared};
use crate::hub::waiter::ThreadParker;
use crate::park;
use crate::registry;
use crate::report;
use crate::sight::dump::{self, DumpOptions};

const WATCH: Duration = Duration::from_secs(1);

/// Sleeps by `doze` as long as it takes; the last worker to come here keeps watch.
pub(crate) fn watch(rt: &Arc<RuntimeShared>, doze: Doze<'_>) {
    let quiet = rt.quiet.fetch_add(1, AcqRel) + 1;
    let on_watch = quiet == rt.workers.len() && rt.config.on_deadlock != OnDeadlock::Ignore;
    if !on_watch || doze(Some(WATCH)) {
        if !on_watch {
            doze(None);
        }
    } else {
        // Their end may wake nobody here, but then it must not pass unnoticed.
        while sources() > 0 {
            if doze(Some(WATCH)) {
                rt.quiet.fetch_sub(1, AcqRel);
                return;
            }
        }
        if is_dead(rt) {
            report(rt);
        }
        doze(None);
    }
    rt.quiet.fetch_sub(1, AcqRel);
}

/// What outside the runtimes is known to wake tasks: blocking jobs, and wakers that are out.
fn sources() -> usize {
    jobs::pending() + park::futures_awaited()
}

fn is_dead(rt: &RuntimeShared) -> bool {
    // What ran since the last report; the same number means the same silence.
    let life = rt
        .workers
        .iter()
        .map(|w| w.published.switches.load(Relaxed))
        .sum();
    rt.quiet.load(Relaxed) == rt.workers.len()
        && rt.live() > 0
        // What waits for a stack does not start by itself.
        && (rt.unstarted() == 0 || rt.budget.starved())
        && rt.workers.iter().all(|w| w.inbox.is_empty())
        && rt.outside() == 0
        && ThreadParker::blocked() > 0
        && sources() == 0
        // The thread may wait for another runtime, and so may these tasks.
        && registry::all().iter().all(is_silent)
        && rt.reported_at.swap(life, Relaxed) != life
}

/// Whether all workers sleep, and no descriptor can wake them.
fn is_silent(rt: &Arc<RuntimeShared>) -> bool {
    // In this order: an event takes its waiter out after its worker counts as awake.
    rt.workers.iter().all(|w| !w.poller.is_waited_for())
        && rt.quiet.load(Relaxed) == rt.workers.len()
}

/// Prints from a thread of its own: the listing needs the workers, and this one is asleep.
fn report(rt: &Arc<RuntimeShared>) {
    let shared = rt.clone();
    let print = move || {
        let mut text = String::from(
            "sward: deadlock? every task is parked, no timer is left, and a thread waits for \
             them;\nunless a thread outside the runtime wakes one of these, nothing ever will:\n",
        );
        text.push_str(&dump::of(&shared, DumpOptions::new()).to_string());
        if shared.config.on_deadlock == OnDeadlock::Abort {
            text.push_str(
                "aborting, as SWARD_DEADLOCK=abort or RuntimeBuilder::on_deadlock asks\n",
            );
            report::text(&text);
            std::process::abort();
        }
        report::text(&text);
    };
    let thread = std::thread::Builder::new().name("sward-report".into());
    if crate::thread::start(thread, print).is_err() {
        report::line("sward: deadlock? every task is parked (no thread to say which)");
    }
}
