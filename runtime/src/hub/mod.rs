//! The hub: one worker's loop, and the only code that makes a task runnable or runs it.
//!
//! Nouns: a *slice* is one stretch of a task between two switches; a *batch* is a number of
//! slices after which the hub looks at its mail, the clock and the poller.
//!
//! ```text
//!            +--------------------------------------------------------------+
//!            v                                                              |
//!   batch of slices  ->  mail, injector  ->  due timers  ->  (nothing ready?) idle
//! ```
//!
//! Invariants
//! - A live fiber is in exactly one place: `current`, the ready queue (`Ready`), or parked, and
//!   then reachable from its cell's fiber word, its timer, or wait queues that hold its cell.
//! - Only this thread touches control blocks, so wakes between tasks of one worker are plain
//!   stores; wakes from elsewhere are mail.
//! - No `RefCell` borrow is held across a switch: each borrow ends before `resume`, and code on
//!   a task's stack borrows only inside one method here.
//! - A park has one end: the first of wake, time-out and interrupt makes the task `Ready`; later
//!   ones find it not `Parked` or in another park and do nothing.
//!
//! Fairness: a batch is at most `BATCH` slices and is made shorter when slices are long, so that
//! mail, timers and I/O are looked at about every `TURN` (200 us) or after each slice that is
//! longer than that; at most `DUE` timers are fired at a time. What these make ready stands in
//! the run queue's fast line, which has three quarters of a batch (all of it, if nobody else
//! waits): so it waits for what came before it, not for a crowd that yields, starts or was woken
//! by one task, and the crowd goes on beside a flood of timers or mail.
//!
//! Time: `now` is real, and measures what the machine does; timers live by the runtime's clock,
//! which may be virtual (`clock.rs`, `idle.rs`).
//!
//! Rejected: a shared run queue with stealing of started tasks (unsound in Rust, design R1);
//! reading the clock at each switch (24 ns of an 8 ns budget).

pub(crate) mod cell;
pub(crate) mod control;
pub(crate) mod current;
mod dispatch;
pub(crate) mod extras;
pub(crate) mod fuse;
mod idle;
pub(crate) mod inbox;
pub(crate) mod inner;
pub(crate) mod jobs;
pub(crate) mod locals;
pub(crate) mod owner;
pub(crate) mod poller;
pub(crate) mod question;
pub(crate) mod ready;
mod roll;
pub(crate) mod selection;
pub(crate) mod shared;
mod shuffle;
pub(crate) mod start;
mod switch;
pub(crate) mod tally;
pub(crate) mod timers;
pub(crate) mod unstarted;
pub(crate) mod waiter;
pub(crate) mod watch;
pub(crate) mod worker;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use self::cell::TaskRef;
use self::control::Fiber;
use self::idle::{Replies, Sleeper};
use self::locals::Heritage;
use self::poller::{Ready, Token};
use self::ready::{Next, ReadyQueue};
use self::shared::RuntimeShared;
use self::shuffle::Shuffle;
use self::tally::{Followed, Pending};
use self::timers::Timers;
use self::worker::{Entrance, Mail, Published, WorkerShared};
use crate::clock::{self, Nanos};
use crate::fiber::stack::StackPool;
use crate::fork;

/// The most slices in a batch.
const BATCH: u32 = 128;
/// How long a batch should last at most.
const TURN: Nanos = 200_000;
/// The most mail read in one go.
const MAIL: usize = 256;
/// Operations that a task may do without a park before it yields (design R5).
pub(crate) const BUDGET: u32 = 256;

/// What a timer does: a fiber's address, with the lowest bit set for a time-out frame; or the
/// token of a driver, with the second bit set.
#[derive(Clone, Copy)]
struct Target(usize);

impl Target {
    const TOKEN: usize = 2;

    fn token(token: Token) -> Self {
        Self(token.to_word() << 2 | Self::TOKEN)
    }
}

pub(crate) struct Hub {
    pub(crate) index: usize,
    pub(crate) shared: &'static WorkerShared,
    pub(crate) rt: Arc<RuntimeShared>,
    current: Cell<Option<Fiber>>,
    /// Operations left to the current task before it yields.
    pub(crate) budget: Cell<u32>,
    ready: RefCell<ReadyQueue>,
    timers: RefCell<Timers<Target>>,
    stacks: RefCell<StackPool>,
    sleeper: RefCell<Sleeper>,
    /// The real time as of the last look at the clock.
    now: Cell<Nanos>,
    batch: Cell<u32>,
    /// Picks who runs next, in a runtime that is shuffled for tests.
    shuffle: RefCell<Option<Shuffle>>,
    /// Slices as of the last look at the clock.
    slices: Cell<u64>,
    pending: Cell<Pending>,
    followed: Cell<Followed>,
    /// How many fibers the fast line takes now, with those in it: see `make_ready`.
    fast: Cell<usize>,
    live: Cell<usize>,
    ids: Cell<(u64, u64)>,
    /// Starts that wait for a stack: pinned tasks, and the number of shared ones.
    starved: RefCell<VecDeque<TaskRef>>,
    starving: Cell<Option<u32>>,
    stop_at: Cell<Option<Nanos>>,
    /// Whether to wait for a reply before sleeping.
    pub(crate) replies: Replies,
    /// Counted in `RuntimeShared::ended`.
    ended: Cell<bool>,
    /// Where a task that is asked to puts its return addresses.
    sheet: RefCell<Vec<usize>>,
    /// The process generation that this hub belongs to.
    epoch: fork::Epoch,
    epoch_page: &'static AtomicU64,
}

impl Hub {
    pub(crate) fn new(index: usize, rt: Arc<RuntimeShared>, poll: mio::Poll) -> Self {
        let stacks = StackPool::new(rt.budget.clone());
        let timers = if rt.config.virtual_clock {
            Timers::exact()
        } else {
            Timers::new()
        };
        Self {
            index,
            shared: rt.workers[index],
            current: Cell::new(None),
            budget: Cell::new(BUDGET),
            ready: RefCell::new(ReadyQueue::new()),
            timers: RefCell::new(timers),
            stacks: RefCell::new(stacks),
            sleeper: RefCell::new(Sleeper::new(poll, &rt.workers[index].published)),
            now: Cell::new(clock::real_nanos()),
            batch: Cell::new(BATCH),
            shuffle: RefCell::new(rt.config.shuffle.map(|seed| Shuffle::new(seed, index))),
            slices: Cell::new(0),
            pending: Cell::new(Pending::default()),
            followed: Cell::new(Followed::default()),
            fast: Cell::new(usize::MAX),
            live: Cell::new(0),
            ids: Cell::new((0, 0)),
            starved: RefCell::new(VecDeque::new()),
            starving: Cell::new(None),
            stop_at: Cell::new(None),
            replies: Replies::default(),
            ended: Cell::new(false),
            sheet: RefCell::new(Vec::new()),
            epoch: rt.epoch,
            epoch_page: fork::page(),
            rt,
        }
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<Fiber> {
        self.current.get()
    }

    #[inline]
    pub(crate) fn owns(&self, task: &TaskRef) -> bool {
        task.home()
            .is_some_and(|home| std::ptr::eq(home, self.shared))
    }

    /// What a task that is spawned here now inherits from the one that runs.
    #[inline]
    pub(crate) fn heritage(&self) -> Option<Box<Heritage>> {
        self.current()?.header().heritage()
    }

    /// A fresh task id.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        let (mut next, mut end) = self.ids.get();
        if next == end {
            (next, end) = self.rt.id_block();
        }
        self.ids.set((next + 1, end));
        next
    }

    // ---- the loop -------------------------------------------------------------------------

    /// Runs until told to stop and nothing is left, or until the deadline of the stop.
    /// `false`: tasks are left that would not end.
    pub(crate) fn run(&self) -> bool {
        loop {
            self.run_batch();
            self.look_around();
            if self.ready.borrow().is_empty() {
                if let Some(at) = self.stop_at.get() {
                    if self.all_ended() {
                        return true;
                    }
                    if self.now.get() >= at {
                        return false;
                    }
                }
                self.idle();
            } else {
                if self.stop_at.get().is_some_and(|at| self.now.get() >= at) {
                    return false;
                }
                self.decline_search();
            }
        }
    }

    fn run_batch(&self) {
        if self.shuffle.borrow().is_some() {
            return self.run_shuffled();
        }
        let batch = self.batch.get();
        let main = if self.ready.borrow().has_main() {
            batch.div_ceil(4)
        } else {
            0
        };
        let mut left = batch;
        // A batch of one is one slice of each line.
        let fast_share = (batch - main).max(1);
        for turn in 0..fast_share {
            let Some(fiber) = self.ready.borrow_mut().next_fast() else {
                break;
            };
            self.fast.set((fast_share - turn - 1) as usize);
            self.slice(fiber);
            left -= 1;
        }
        self.fast.set(0);
        for _ in 0..left.max(main) {
            let Some(next) = self.ready.borrow_mut().next() else {
                break;
            };
            match next {
                Next::Resume(fiber) => self.slice(fiber),
                Next::Start(task) => self.start(task),
                Next::StartShared => {
                    if let Some(n) = self.starving.get() {
                        let more = self.ready.borrow_mut().take_shared().saturating_add(1);
                        self.starving.set(Some(n.saturating_add(more)));
                    } else if let Some(task) = self.shared.unstarted.pop() {
                        self.start(task);
                    }
                }
            }
        }
        self.fast.set(usize::MAX);
    }

    /// A number below `n` that the seed gives, in a runtime that is shuffled for tests.
    pub(crate) fn chance(&self, n: usize) -> Option<usize> {
        Some(self.shuffle.borrow_mut().as_mut()?.below(n))
    }

    /// A batch of one slice, of whoever the seed picks: so when the hub looks around does not
    /// depend on the machine's speed either.
    #[cold]
    fn run_shuffled(&self) {
        let random = |below| {
            self.shuffle
                .borrow_mut()
                .as_mut()
                .map_or(0, |s| s.below(below))
        };
        let next = self.ready.borrow_mut().pick(random);
        match next {
            None => {}
            Some(Next::Resume(fiber)) => self.slice(fiber),
            Some(Next::Start(task)) => self.start(task),
            Some(Next::StartShared) => {
                if let Some(n) = self.starving.get() {
                    self.starving.set(Some(n.saturating_add(1)));
                } else if let Some(task) = self.shared.unstarted.pick(random) {
                    self.start(task);
                }
            }
        }
    }

    /// Reads mail, takes injected tasks, fires due timers, and fits the batch to the slices.
    fn look_around(&self) {
        if !self.shared.inbox.is_empty() {
            self.read_mail();
        }
        if !self.rt.injector.is_empty() {
            self.take_injected();
        }
        let now = clock::real_nanos();
        let before = self.now.replace(now);
        let took = now.saturating_sub(before);
        let counted = self.tally(before, now);
        let batch = self.batch.get();
        // Under a virtual clock the schedule does not depend on the machine's speed.
        if took > TURN && !self.shared.clock.is_virtual() {
            let fits = Nanos::from(batch) * TURN / took;
            self.batch.set(u32::try_from(fits).unwrap_or(1).max(1));
        } else if batch < BATCH {
            self.batch.set((batch * 2).min(BATCH));
        }
        let published = &self.shared.published;
        published.looked.store(now, Relaxed);
        published.running.store(0, Relaxed);
        published.ready.store(self.ready.borrow().len(), Relaxed);
        self.fire_due(self.shared.clock.read(now));
        if counted {
            let mut followed = self.followed.get();
            followed.begin(self.slices.get(), self.ready.borrow().len(), now);
            self.followed.set(followed);
        }
        self.sleeper.borrow_mut().poll_if_due(now, published);
        self.dispatch();
    }

    /// Counts what the last batch was like. `true`: it has been counted, or there was nothing to.
    #[inline]
    fn tally(&self, began: Nanos, now: Nanos) -> bool {
        let published = &self.shared.published;
        let after = published.switches.load(Relaxed);
        let before = self.slices.replace(after);
        let n = after.wrapping_sub(before);
        if n == 0 {
            return true;
        }
        let tallies = &published.tallies;
        let mut followed = self.followed.get();
        if followed.look(&tallies.delay, (began, before), (now, after)) {
            self.followed.set(followed);
        }
        let took = now.saturating_sub(began);
        let like = n >= u64::from(BATCH) && took < TURN;
        let mut pending = self.pending.get();
        let counted = pending.add(tallies, took, n, like);
        self.pending.set(pending);
        counted
    }

    fn read_mail(&self) {
        for _ in 0..MAIL {
            let Some(mail) = self.shared.inbox.pop() else {
                break;
            };
            let more_to_tell = matches!(mail, Mail::Roll(_));
            self.read(mail);
            if more_to_tell {
                break;
            }
        }
    }

    fn take_injected(&self) {
        let mut n = 0;
        while n < 64
            && let Some(task) = self.rt.injector.pop()
        {
            self.enqueue(task);
            n += 1;
        }
        if n > 0 && !self.rt.injector.is_empty() {
            // More than one worker's share: let another one take its part.
            let _ = self.rt.workers.iter().any(|w| w.rouse());
        }
    }

    pub(super) fn read(&self, mail: Mail) {
        match mail {
            Mail::Wake(task, park) => self.wake(&task, park),
            Mail::Unpark(task) => self.unpark(&task),
            Mail::Interrupt(task) => self.interrupt(&task),
            Mail::Start(task) => self.enqueue_pinned(task),
            Mail::Roll(roll) => self.go_on_with(roll),
            Mail::Census(question) => question.answer(self.index, self.census()),
            Mail::StackFreed => {
                if self.starving.get().is_none() && self.rt.budget.starved() {
                    self.stacks.borrow_mut().release_credits();
                    if self.rt.budget.take_starved() {
                        self.rt.stack_freed();
                    }
                }
                self.feed();
            }
            Mail::Call(token) => self.call(token, Ready::NONE),
            Mail::Shutdown(at) => self.stop(at),
        }
    }

    #[inline(always)]
    fn slice(&self, fiber: Fiber) {
        let control = fiber.header();
        let published = &self.shared.published;
        published.running.store(control.id, Relaxed);
        published
            .site
            .store(std::ptr::from_ref(control.site).cast_mut(), Relaxed);
        Published::add(&published.switches, 1);
        self.budget.set(BUDGET);
        self.current.set(Some(fiber));
        // SAFETY: this is the owner thread, in its loop and so on no fiber; a fiber in the ready
        // queue has not ended.
        let ended = unsafe { fiber.resume() };
        self.current.set(None);
        if ended {
            self.finish(fiber);
        }
    }
}

pub(crate) fn build_poll() -> io::Result<(mio::Poll, Entrance)> {
    let poll = mio::Poll::new()?;
    let bell = mio::Waker::new(poll.registry(), poller::BELL)?;
    let registry = poll.registry().try_clone()?;
    Ok((poll, Entrance { bell, registry }))
}
