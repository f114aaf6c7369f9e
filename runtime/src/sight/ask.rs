//! Asking every worker of a runtime something, from wherever the caller is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::hub::Hub;
use crate::hub::control::Wake;
use crate::hub::current::{self, Caller};
use crate::hub::question::Question;
use crate::hub::shared::RuntimeShared;
use crate::hub::waiter::Waiter;
use crate::hub::worker::{Mail, WorkerShared};
use crate::park;
use crate::wait_reason::{WaitKind, WaitReason};

/// Returns the answers that came while no pause was longer than `patience`, with the workers'
/// numbers, in their order.
///
/// The caller's own worker answers at once, by `own`; the others get `mail`. A task parks for the
/// answers (a kill comes afterwards), and blocks its thread where it may not park.
pub(crate) fn all<T>(
    rt: &Arc<RuntimeShared>,
    patience: Duration,
    mail: impl Fn(Arc<Question<T>>) -> Mail,
    own: impl Fn(&Hub) -> T,
) -> Vec<(usize, T)> {
    let own_hub = current::hub().filter(|hub| Arc::ptr_eq(&hub.rt, rt));
    let mut answers: Vec<_> = own_hub.iter().map(|hub| (hub.index, own(hub))).collect();
    let is_other = |w: &&WorkerShared| own_hub.is_none_or(|hub| !std::ptr::eq(hub.shared, *w));
    let others: Vec<_> = rt.workers.iter().copied().filter(|w| is_other(w)).collect();
    if !others.is_empty() && !rt.epoch.is_stale() {
        answers.extend(from(&others, patience, mail));
    }
    answers.sort_by_key(|answer| answer.0);
    answers
}

fn from<T>(
    workers: &[&'static WorkerShared],
    patience: Duration,
    mail: impl Fn(Arc<Question<T>>) -> Mail,
) -> Vec<(usize, T)> {
    let send = |waiter| {
        let question = Arc::new(Question::new(workers.len(), waiter));
        for worker in workers {
            worker.send(mail(question.clone()));
        }
        question
    };
    if let Caller::Task(hub, fiber) = current::caller()
        && !std::thread::panicking()
        && !park::forbidden()
        // A task's deadline would be virtual, and the clock jump before the answers come.
        && !hub.shared.clock.is_virtual()
    {
        let (waiter, _) = park::task_waiter(fiber);
        let question = send(waiter);
        let reason = WaitReason::new(WaitKind::Other("answers of workers"), 0);
        let wait = |deadline: Option<Instant>| {
            // A kill comes afterwards.
            hub.park(fiber, reason, deadline.map(clock::nanos)) != Wake::TimedOut
        };
        return patiently(&question, patience, wait);
    }
    let parker = park::fresh_parker();
    let question = send(Waiter::Thread(parker.clone()));
    patiently(&question, patience, |deadline| parker.wait(deadline))
}

/// Waits for the answers as long as there are signs of life.
fn patiently<T>(
    question: &Question<T>,
    patience: Duration,
    wait: impl Fn(Option<Instant>) -> bool,
) -> Vec<(usize, T)> {
    let mut seen = 0;
    while !wait(clock::real_deadline(patience)) {
        let (lives, complete) = question.lives();
        if complete || std::mem::replace(&mut seen, lives) == lives {
            break;
        }
    }
    question.collect()
}
