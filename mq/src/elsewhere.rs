//! What has to go on although its runtime has ended: run by an ordinary thread, which lives for that
//! alone. Tasks and drivers that begin there belong to the default runtime.
//!
//! Rejected: beginning them where the end is noticed, on a worker that ends (they would end with it);
//! a thread that always waits for this.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sward_runtime::__private::{Global, start_thread};
use sward_runtime::sync::ShortLock;

type Job = Box<dyn FnOnce() + Send>;

struct State {
    /// The process in which a thread is at work.
    at_work: Option<u32>,
    jobs: VecDeque<Job>,
}

static STATE: ShortLock<State> = ShortLock::new(State {
    at_work: None,
    jobs: VecDeque::new(),
});

/// The lock of the process that is here.
pub(crate) fn global() -> &'static dyn Global {
    &STATE
}

/// Runs it soon, on a thread that is no worker. It must not wait.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    let me = std::process::id();
    let mut state = STATE.lock();
    state.jobs.push_back(Box::new(job));
    if state.at_work.replace(me) == Some(me) {
        return;
    }
    drop(state);
    let thread = std::thread::Builder::new().name("zmq elsewhere".to_owned());
    if start_thread(thread, work).is_err() {
        // The next one who comes tries again; at the exit of the process all is looked at.
        STATE.lock().at_work = None;
    }
}

fn work() {
    loop {
        let mut state = STATE.lock();
        let Some(job) = state.jobs.pop_front() else {
            state.at_work = None;
            return;
        };
        drop(state);
        // Its panic was reported by the hook, and is nobody else's business.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}
