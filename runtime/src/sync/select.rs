//! Waiting for several things at once.
//!
//! Nouns: an [`Arm`] is one of the things; the *pass* of a select tries each arm once, from a
//! random one on. When none is ready, the arms line up in the queues of what they wait for, with
//! one [`Selection`] between them, and the caller parks. An arm that finds itself ready while it
//! lines up ends the attempt: all leave, and the next pass takes it (so no two selects that meet
//! in the middle wait for each other).
//!
//! ```text
//! pass -> (one is ready) done
//!   |
//! line up -> (one is ready now) leave -> pass
//!   |
//! park -> (chosen) leave, done    -> (time-out, kill) leave, pass or unwind
//! ```
//!
//! Invariant: an arm that lined up leaves before anything else happens, also if another arm's
//! `line_up` panics: a node in a queue borrows the selection and the caller's task.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wait_queue::{Ticket, WaitQueue};
use crate::clock;
use crate::hub::control::Wake;
use crate::hub::current;
use crate::hub::selection::Selection;
use crate::hub::waiter::{Queued, ThreadParker, Waiter};
use crate::park::{self, Place};
use crate::wait_reason::{WaitKind, WaitReason};

/// Selections that a thread keeps for its next waits.
const SPARE: usize = 64;

/// Something that a [`select!`](crate::select) can wait for.
///
/// Channels, events, join handles and timers have methods that give arms. A type of your own can
/// be one: by handing each call on to an arm that it contains, or by keeping [`Slot::waker`] where
/// whoever makes it ready finds it.
///
/// # Examples
/// ```
/// use sward_runtime::sync::{Arm, ArmWaker, ShortLock, Slot};
///
/// /// A number that is handed to one who waits for it.
/// struct Gift(ShortLock<(Option<u32>, Vec<ArmWaker>)>);
///
/// impl Gift {
///     fn give(&self, n: u32) {
///         let mut state = self.0.lock();
///         state.0 = Some(n);
///         let wakers = std::mem::take(&mut state.1);
///         drop(state);
///         // The first that can be chosen will come and take it.
///         let _ = wakers.into_iter().any(|w| w.choose());
///     }
/// }
///
/// impl Arm for &Gift {
///     type Output = u32;
///     fn attempt(&mut self) -> Option<u32> {
///         self.0.lock().0.take()
///     }
///     fn line_up(&mut self, slot: Slot<'_>) -> bool {
///         let mut state = self.0.lock();
///         state.1.push(slot.waker());
///         state.0.is_some()
///     }
///     fn leave(&mut self, chosen: bool) -> Option<u32> {
///         if chosen { self.attempt() } else { None }
///     }
/// }
///
/// let gift = std::sync::Arc::new(Gift(ShortLock::new((None, Vec::new()))));
/// let giver = gift.clone();
/// sward_runtime::spawn(move || giver.give(7));
/// let got = sward_runtime::select! { n = &*gift => n };
/// assert_eq!(got, 7);
/// ```
pub trait Arm {
    /// What the arm's pattern is bound to.
    type Output;

    /// Completes now, if that needs no waiting. It must not park.
    fn attempt(&mut self) -> Option<Self::Output>;

    /// Lines up, so that whoever makes the arm ready can choose it. It must not park.
    ///
    /// `true`: the arm may be ready already, so the select will leave and try again. Said without
    /// cause again and again, it makes the select spin.
    fn line_up(&mut self, slot: Slot<'_>) -> bool;

    /// Leaves the line: called once after each `line_up`, with whether this arm was chosen. It must
    /// not park. `None` from the chosen one makes the select go on.
    fn leave(&mut self, chosen: bool) -> Option<Self::Output>;

    /// Returns when the select must try this arm again at the latest.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Returns whether the arm takes part; a select whose arms all do not would never end.
    fn is_enabled(&self) -> bool {
        true
    }
}

/// An arm's place in one wait of a select.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    selection: &'a Arc<Selection>,
    arm: u32,
}

impl Slot<'_> {
    /// Returns what chooses this arm, to be kept by whoever will make it ready.
    pub fn waker(&self) -> ArmWaker {
        // SAFETY: a slot lives while its select lines up, on the stack of the one who waits.
        let own = || unsafe { self.selection.who().to_waiter() };
        self.selection.own(own);
        ArmWaker {
            selection: self.selection.clone(),
            arm: self.arm,
        }
    }

    /// The same as a waiter.
    pub(crate) fn waiter(&self) -> Waiter {
        let ArmWaker { selection, arm } = self.waker();
        Waiter::Arm(selection, arm)
    }

    /// Puts the arm into a queue, which it settles when it leaves.
    pub(crate) fn queue_in<P>(&self, queue: &mut WaitQueue<P>, payload: Option<P>) -> Ticket {
        // SAFETY: the arm leaves, and takes it out by its ticket, before the select goes on.
        let arm = unsafe { Queued::arm(self.selection, self.arm) };
        queue.push_arm(arm, payload)
    }

    /// Whether somebody stands in `queue` who is not of this very select.
    pub(crate) fn finds<P>(&self, queue: &WaitQueue<P>) -> bool {
        queue.has_other_than(self.selection)
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("arm", &self.arm).finish()
    }
}

/// Chooses an arm of a select that waits; see [`Arm`].
#[must_use = "a waker that is dropped chooses nothing"]
pub struct ArmWaker {
    selection: Arc<Selection>,
    arm: u32,
}

impl ArmWaker {
    /// Chooses the arm and wakes its select. `false`: that has chosen before, or given up.
    ///
    /// # Blocking
    /// Never parks.
    pub fn choose(self) -> bool {
        crate::hub::selection::choose_and_wake(&self.selection, self.arm)
    }
}

impl fmt::Debug for ArmWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArmWaker").field("arm", &self.arm).finish()
    }
}

/// An arm and what came of it: what the macro makes of each arm.
#[doc(hidden)]
#[derive(Debug)]
pub struct Tried<A: Arm> {
    arm: A,
    output: Option<A::Output>,
}

impl<A: Arm> Tried<A> {
    pub fn new(arm: A) -> Self {
        Self { arm, output: None }
    }

    pub fn into_output(self) -> Option<A::Output> {
        self.output
    }
}

/// A `Tried` of any type.
#[doc(hidden)]
pub trait AnyArm {
    fn attempt(&mut self) -> bool;
    fn line_up(&mut self, slot: Slot<'_>) -> bool;
    fn leave(&mut self, chosen: bool) -> bool;
    fn deadline(&self) -> Option<Instant>;
    fn is_enabled(&self) -> bool;
}

impl<A: Arm> AnyArm for Tried<A> {
    #[inline]
    fn attempt(&mut self) -> bool {
        self.output = self.arm.attempt();
        self.output.is_some()
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.arm.line_up(slot)
    }

    fn leave(&mut self, chosen: bool) -> bool {
        self.output = self.arm.leave(chosen);
        self.output.is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        self.arm.deadline()
    }

    fn is_enabled(&self) -> bool {
        self.arm.is_enabled()
    }
}

/// Waits for the first of `arms` and returns its number; with `now`, only if one is ready.
#[doc(hidden)]
#[track_caller]
pub fn select_any(arms: &mut [&mut dyn AnyArm], biased: bool, now: bool) -> Option<usize> {
    park::checkpoint();
    let n = arms.len();
    let first = if biased { 0 } else { random(n) };
    let mut in_vain = false;
    loop {
        for i in (first..n).chain(0..first) {
            if arms[i].attempt() {
                return Some(i);
            }
        }
        if now {
            return None;
        }
        // A kill or time-out that came after an arm was chosen that then had nothing.
        if std::mem::take(&mut in_vain) {
            park::checkpoint();
            continue;
        }
        assert!(
            arms.iter().any(|arm| arm.is_enabled()),
            "select! with every arm disabled and no default: it would wait for ever"
        );
        if let Some(chosen) = wait(arms) {
            return Some(chosen);
        }
        in_vain = true;
    }
}

/// A number below `n`, so that no arm that is always ready keeps the others out.
fn random(n: usize) -> usize {
    if let Some(number) = current::hub().and_then(|hub| hub.chance(n)) {
        return number;
    }
    thread_local! {
        static STATE: Cell<u32> = const { Cell::new(0x9E37_79B9) };
    }
    let mut x = STATE.get();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    STATE.set(x);
    // The high half of the product: even enough for the order of arms.
    ((u64::from(x) * n as u64) >> 32) as usize
}

thread_local! {
    static SPARES: RefCell<Vec<Arc<Selection>>> = const { RefCell::new(Vec::new()) };
}

/// The arms that stand in line.
struct Lined<'a, 'b> {
    arms: &'a mut [&'b mut dyn AnyArm],
    selection: Arc<Selection>,
    lined: usize,
}

impl Lined<'_, '_> {
    /// Lines up, until all stand in line or one may be ready.
    fn line_up(&mut self) {
        for (i, arm) in self.arms.iter_mut().enumerate() {
            self.lined = i + 1;
            let slot = Slot {
                selection: &self.selection,
                arm: i as u32,
            };
            if arm.line_up(slot) && self.selection.give_up() {
                break;
            }
        }
    }

    /// Leaves all lines, and says which arm is done.
    fn leave(&mut self) -> Option<usize> {
        // In vain, if an arm has been chosen.
        self.selection.give_up();
        let chosen = self.selection.chosen().map(|arm| arm as usize);
        let mut done = None;
        while let Some(i) = self.lined.checked_sub(1) {
            self.lined = i;
            if self.arms[i].leave(chosen == Some(i)) && chosen == Some(i) {
                done = chosen;
            }
        }
        done
    }
}

impl Drop for Lined<'_, '_> {
    fn drop(&mut self) {
        if self.lined > 0 {
            self.leave();
        }
        let selection = self.selection.clone();
        SPARES.with_borrow_mut(|spares| {
            if spares.len() < SPARE {
                spares.push(selection);
            }
        });
    }
}

/// A selection that nobody else has a reference to.
fn spare() -> Arc<Selection> {
    loop {
        let Some(mut selection) = SPARES.with_borrow_mut(Vec::pop) else {
            return Arc::new(Selection::new());
        };
        // With a waker left over from an earlier wait it is left to that.
        if Arc::get_mut(&mut selection).is_some() {
            return selection;
        }
    }
}

/// One wait: lines up, parks, leaves. `None`: try again.
fn wait(arms: &mut [&mut dyn AnyArm]) -> Option<usize> {
    let deadline = arms.iter().filter_map(|arm| arm.deadline()).min();
    let reason = WaitReason::new(WaitKind::Select, arms.len() as u64);
    let mut selection = spare();
    let mut open = |who| {
        if let Some(selection) = Arc::get_mut(&mut selection) {
            selection.open(who);
        }
    };
    match park::place() {
        Place::Task(hub, fiber) => {
            let park = fiber.header().begin_park();
            // SAFETY: `leave` makes sure that no arm is in a queue before the task goes on.
            open(unsafe { Queued::task(&fiber.header().task, park) });
            let mut lined = Lined {
                arms,
                selection,
                lined: 0,
            };
            lined.line_up();
            let mut interrupted = false;
            if lined.selection.is_open() {
                let wake = hub.park(fiber, reason, deadline.map(clock::nanos));
                interrupted = wake == Wake::Interrupted;
            }
            let done = lined.leave();
            drop(lined);
            if done.is_none() && interrupted {
                park::raise_pending(hub, fiber);
            }
            done
        }
        place => {
            let parker = match place {
                Place::Thread => park::fresh_parker(),
                _ => ThreadParker::new(),
            };
            // SAFETY: as above; the parker lives until the end of this block.
            open(unsafe { Queued::thread(&parker) });
            let mut lined = Lined {
                arms,
                selection,
                lined: 0,
            };
            lined.line_up();
            if lined.selection.is_open() {
                match place {
                    // With a deadline it ends by itself.
                    Place::Unwinding(hub, fiber) if deadline.is_none() => {
                        park::block_unwinding(hub, fiber, &parker, reason);
                    }
                    _ => {
                        park::block_thread(&parker, deadline);
                    }
                }
            }
            let done = lined.leave();
            drop(lined);
            if done.is_none() {
                park::raise_thread_frame();
            }
            done
        }
    }
}

/// An arm that is there only sometimes: `None` takes no part.
impl<A: Arm> Arm for Option<A> {
    type Output = A::Output;

    fn attempt(&mut self) -> Option<A::Output> {
        self.as_mut().and_then(Arm::attempt)
    }

    fn line_up(&mut self, slot: Slot<'_>) -> bool {
        self.as_mut().is_some_and(|arm| arm.line_up(slot))
    }

    fn leave(&mut self, chosen: bool) -> Option<A::Output> {
        self.as_mut().and_then(|arm| arm.leave(chosen))
    }

    fn deadline(&self) -> Option<Instant> {
        self.as_ref().and_then(Arm::deadline)
    }

    fn is_enabled(&self) -> bool {
        self.as_ref().is_some_and(Arm::is_enabled)
    }
}

/// An arm that is ready from a moment on; see [`at`] and [`after`].
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// `None`: beyond what the clock can tell.
    when: Option<Instant>,
}

/// Returns an arm that is ready from `when` on, and gives the present then.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use sward_runtime::{select, sync::{at, unbounded}};
/// let (sender, receiver) = unbounded::<i32>();
/// let end = Instant::now() + Duration::from_millis(5);
/// let got = select! {
///     value = receiver.receiving() => value.ok(),
///     _ = at(end) => None,
/// };
/// assert_eq!(got, None);
/// # drop(sender);
/// ```
pub fn at(when: Instant) -> At {
    At { when: Some(when) }
}

/// Returns an arm that is ready once `limit` has passed.
pub fn after(limit: Duration) -> At {
    At {
        when: clock::deadline(limit),
    }
}

impl Arm for At {
    type Output = Instant;

    fn attempt(&mut self) -> Option<Instant> {
        let now = clock::now();
        self.when.is_some_and(|when| when <= now).then_some(now)
    }

    fn line_up(&mut self, _: Slot<'_>) -> bool {
        false
    }

    fn leave(&mut self, _: bool) -> Option<Instant> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        self.when
    }
}
