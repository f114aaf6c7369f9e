//! Futures in blocking style: [`block_on`] parks the task until the future is ready.
//!
//! Nouns: the *alarm* is what a `Waker` of one `block_on` leads to: a flag and a wait queue of
//! one, in an `Arc` of its own. So a waker that is kept beyond the end, or called late or twice,
//! touches nothing but that.
//!
//! | | `wake` finds the task in line | it is polling |
//! |---|---|---|
//! | the task | polls again | yields, then polls again |
//!
//! Whether somebody outside can still wake it is told by the references to the alarm: a future
//! that is pending and has kept no waker will not be woken, and the deadlock report says so.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::park::{self, AwaitedOutside};
use crate::sync::short_lock::ShortLock;
use crate::sync::wait_queue::{Unwinding, Wait, WaitQueue, leave};
use crate::wait_reason::{WaitKind, WaitReason};

/// Waits for a future and returns its output.
///
/// The future is polled on the calling task's stack (or thread), and may be woken from any thread.
/// What it needs from a runtime of its own it must bring along, for instance an entered
/// `tokio::runtime::Handle` (`docs/async.md`). Calls nest.
///
/// # Blocking
/// Parks under [`WaitKind::Future`] whenever the future is pending;
/// honours kill and `timeout`. In a task that unwinds it blocks the worker (`docs/caveats.md`).
///
/// # Panics
/// With what the future panics with.
///
/// # Cancel safety
/// Killed or timed out here, the future is dropped, as if a `select!` had dropped it.
///
/// # Examples
/// ```
/// let task = sward_runtime::spawn(|| 6);
/// let product = sward_runtime::run(|| {
///     sward_runtime::block_on(async { task.await.unwrap() * 7 })
/// });
/// assert_eq!(product, 42);
/// ```
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    park::checkpoint();
    let mut future = pin!(future.into_future());
    park::pin_stack();
    let alarm = Arc::new(Alarm {
        state: ShortLock::new(State {
            woken: false,
            queue: WaitQueue::new(),
        }),
    });
    let waker = Waker::from(alarm.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        alarm.wait();
    }
}

struct Alarm {
    state: ShortLock<State>,
}

struct State {
    woken: bool,
    queue: WaitQueue<()>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let first = state.queue.pop();
        if first.is_none() {
            state.woken = true;
        }
        let late = first.map(|(waiter, _)| waiter.wake());
        drop(state);
        if let Some(late) = late {
            late.wake();
        }
    }
}

impl Alarm {
    /// Waits until it is time to poll again.
    fn wait(self: &Arc<Self>) {
        // Beside ours and that of the waker in the context.
        let _kept = (Arc::strong_count(self) > 2).then(AwaitedOutside::new);
        let mut state = self.state.lock();
        if std::mem::take(&mut state.woken) {
            drop(state);
            // A future that wakes itself means to let others run first.
            return park::yield_now();
        }
        let wait = Wait {
            lock: &self.state,
            queue: |state| &mut state.queue,
            reason: || WaitReason::on(WaitKind::Future, &**self),
            deadline: None,
            unwinding: Unwinding::InLine,
        };
        // However it ended: polling once too often is allowed.
        if let Ok(parked) = wait.line_up(state, None) {
            parked.switch();
            leave(parked, &self.state, |state| &mut state.queue, || false);
        }
    }
}
