//! Where the calling code runs: on a task, in a hub between tasks, or on an ordinary thread.
//!
//! The pointer is set for as long as the worker's loop runs. Started tasks never change threads,
//! so what a task reads here stays true across its parks.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Hub;
use super::cell::TaskRef;
use super::control::{ENDED, Fiber};
use super::owner::Member;
use super::waiter::ThreadParker;
use crate::clock::Clock;

thread_local! {
    static HUB: Cell<*const Hub> = const { Cell::new(std::ptr::null()) };
    static NO_WAITING: Cell<bool> = const { Cell::new(false) };
    static PARKER: OnceCell<Arc<ThreadParker>> = const { OnceCell::new() };
    /// Needs no destructor, so it can be read at the very end of the thread too.
    static NUMBER: u64 = LAST.fetch_add(1, Relaxed) + 1;
}

static LAST: AtomicU64 = AtomicU64::new(0);

/// Who calls.
pub(crate) enum Caller {
    /// A task, on its own stack (or lent the thread's by `on_worker_stack`).
    Task(&'static Hub, Fiber),
    /// The hub itself, in a callback: it must not park.
    Hub(&'static Hub),
    /// A thread that belongs to no runtime.
    Thread,
}

/// The hub of the calling worker.
#[inline]
pub(crate) fn hub() -> Option<&'static Hub> {
    let hub = HUB.get();
    // SAFETY: null, or set by `enter` to a hub that lives until it is cleared again on this very
    // thread, and no task (the only code that could keep the reference) outlives its hub: a
    // hub with a leaked task is leaked too.
    unsafe { hub.as_ref() }
}

/// Says who calls.
#[inline]
pub(crate) fn caller() -> Caller {
    match hub() {
        None => Caller::Thread,
        Some(hub) => match hub.current() {
            Some(fiber) => Caller::Task(hub, fiber),
            None => Caller::Hub(hub),
        },
    }
}

/// Runs `f` on an ordinary thread in place of a worker: it must not wait.
pub(crate) fn forbid_waiting<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            NO_WAITING.set(self.0);
        }
    }
    let _restore = Restore(NO_WAITING.replace(true));
    f()
}

/// Whether the calling thread is inside `forbid_waiting`.
pub(crate) fn is_waiting_forbidden() -> bool {
    NO_WAITING.get()
}

/// The id of the calling task, 0 where there is none.
#[inline]
pub(crate) fn task_id() -> u64 {
    hub()
        .and_then(Hub::current)
        .map_or(0, |fiber| fiber.header().id)
}

/// Set in the number of an owner that is a thread.
const THREAD: u64 = 1 << 63;

/// The number of the calling task, or of the calling thread where there is none: never 0, and
/// never used again. [`task_of`] tells the task.
pub(crate) fn owner() -> u64 {
    match task_id() {
        0 => NUMBER.with(|number| *number) | THREAD,
        id => id,
    }
}

/// The id of the task that is `owner`, 0 for a thread.
#[inline]
pub(crate) fn task_of(owner: u64) -> u64 {
    if owner & THREAD == 0 { owner } else { 0 }
}

/// The id of the group, pool or scope that the calling task belongs to.
pub(crate) fn owner_id() -> Option<u64> {
    let fiber = hub()?.current()?;
    if fiber.header().quirks.get() & ENDED != 0 {
        return None;
    }
    // SAFETY: the task runs, here, so this is its home; it has not ended.
    let member = unsafe { fiber.header().task.member() };
    member.map(Member::owner_id)
}

/// Makes `hub` the calling thread's for as long as `f` runs.
pub(crate) fn enter<R>(hub: &Hub, f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            HUB.set(std::ptr::null());
            Clock::follow(None);
        }
    }
    HUB.set(hub);
    Clock::follow(Some(&hub.shared.clock));
    let _leave = Leave;
    f()
}

/// Wakes a task of the calling worker. `false`: the task is not of this worker.
#[inline]
pub(crate) fn wake_here(task: &TaskRef, park: u32) -> bool {
    let Some(hub) = hub() else { return false };
    if !hub.owns(task) {
        return false;
    }
    hub.wake(task, park);
    true
}

/// The calling thread's parker. `None` while the thread's locals are being destroyed.
pub(crate) fn thread_parker() -> Arc<ThreadParker> {
    PARKER
        .try_with(|p| p.get_or_init(ThreadParker::new).clone())
        .unwrap_or_else(|_| ThreadParker::new())
}
