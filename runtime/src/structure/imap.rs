//! Maps over a pool: items that run in members, and results in order or as they come.
//!
//! Nouns: a [`Flow`] is one map that runs: its *input*, the items that are *out* (running, or ended
//! and not yet returned), and a *spare* item that was pulled and found no place.
//!
//! A flow runs in the one who asks for results, on no task of its own:
//!
//! ```text
//! fill: pull an item, take a place, spawn   (until `buffer` are out, or no place is free)
//!   -> take the next end -> return it
//! ```
//!
//! It waits for a place alone only while nothing is out: else an end of its own is as good. So any
//! number of maps share a pool without a deadlock. A member that maps over its own pool, and
//! finds no place while nothing is out, runs the item itself, in its own place.
//!
//! Rejected: a task that feeds (what it pulled is lost with it, and a panic of the input must find
//! its way to the consumer); closures that borrow (use a `scope`: an iterator can be forgotten).

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::error::JoinError;
use crate::hub::current;
use crate::spawn;
use crate::structure::completion::{Tagged, Watched};
use crate::structure::family::{Family, Place, Vacancy};
use crate::unwinding::Signal;

/// One map that runs; see the file head.
pub(crate) struct Flow<'a, I: Iterator, F, R> {
    family: &'a Arc<Family>,
    /// `None` once it has ended.
    input: Option<I>,
    spare: Option<I::Item>,
    f: Arc<F>,
    running: Watched<R>,
    /// The result of an item that ran in the caller.
    own: Option<Tagged<R>>,
    /// The number of the next item.
    number: u64,
    /// Items whose results have not been returned.
    out: usize,
    /// The most of them.
    buffer: usize,
    site: &'static Location<'static>,
}

impl<'a, I, F, R> Flow<'a, I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    /// `buffer`: the most items that are out at a time.
    pub(crate) fn new(
        family: &'a Arc<Family>,
        buffer: usize,
        input: I,
        f: F,
        site: &'static Location<'static>,
    ) -> Self {
        Self {
            family,
            input: Some(input),
            spare: None,
            f: Arc::new(f),
            running: Watched::new(),
            own: None,
            number: 0,
            out: 0,
            buffer,
            site,
        }
    }

    /// Pulls an item of the input, if none is spare. `false`: there are no more.
    fn pull(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = self.input.as_mut().and_then(Iterator::next);
            if self.spare.is_none() {
                self.input = None;
            }
        }
        self.spare.is_some()
    }

    /// Starts items while there is room for them.
    fn fill(&mut self) {
        let family = self.family;
        while self.out < self.buffer && self.pull() {
            let place = if self.out == 0 && current::owner_id() != Some(family.id()) {
                Place::wait(family, None)
            } else {
                Place::take(family)
            };
            match place {
                Some(place) => self.start(place),
                None if self.out > 0 => return,
                None => self.run_here(),
            }
        }
    }

    /// Starts the spare item.
    fn start(&mut self, place: Place<'_>) {
        if let Some((number, item)) = self.take_spare() {
            let f = self.f.clone();
            let call = move || f(item);
            let handle = spawn::spawn_owned(call, self.site, |task| place.fill(task));
            self.running.add(number, handle);
        }
    }

    /// Runs the spare item in the calling task.
    fn run_here(&mut self) {
        if let Some((number, item)) = self.take_spare() {
            // What it is if the caller is killed or timed out in there.
            self.own = Some((number, Err(JoinError::Killed)));
            self.own = Some((number, run_here(|| (self.f)(item))));
        }
    }

    fn take_spare(&mut self) -> Option<(u64, I::Item)> {
        let item = self.spare.take()?;
        self.number += 1;
        self.out += 1;
        Some((self.number - 1, item))
    }

    /// Takes the next end, with the number of the item; starts others when a place comes free
    /// meanwhile. `None`: nothing runs.
    fn take(&mut self) -> Option<Tagged<R>> {
        loop {
            if self.own.is_some() {
                return self.own.take();
            }
            if self.spare.is_none() || self.running.len() == 0 {
                return self.running.next(None);
            }
            match self.running.next_or(Vacancy::of(self.family)) {
                Ok(end) => return Some(end),
                Err(None) => {}
                Err(Some(())) => {
                    self.start(Place::handed(self.family));
                    self.fill();
                }
            }
        }
    }

    /// The next result in any order.
    pub(crate) fn next(&mut self) -> Option<Tagged<R>> {
        self.fill();
        let next = self.take()?;
        self.out -= 1;
        Some(next)
    }
}

/// Runs an item in the calling task.
fn run_here<R>(f: impl FnOnce() -> R) -> Result<R, JoinError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Ok(value),
        // A kill or a time-out of the caller itself.
        Err(payload) if payload.is::<Signal>() => resume_unwind(payload),
        Err(payload) => Err(JoinError::Panicked(payload)),
    }
}

impl<I: Iterator, F, R> Drop for Flow<'_, I, F, R> {
    fn drop(&mut self) {
        self.running.kill();
    }
}

/// The results of [`Pool::imap`](crate::Pool::imap).
#[must_use = "an iterator does nothing until it is asked"]
pub struct Imap<'a, I: Iterator, F, R> {
    flow: Flow<'a, I, F, R>,
    /// The results of items from `first` on.
    window: VecDeque<Option<Result<R, JoinError>>>,
    first: u64,
}

impl<'a, I: Iterator, F, R> Imap<'a, I, F, R> {
    pub(crate) fn new(flow: Flow<'a, I, F, R>) -> Self {
        Self {
            flow,
            window: VecDeque::new(),
            first: 0,
        }
    }

    /// Sets how many items may be out at a time, running or waiting to be returned; 1 at least. The
    /// default is the pool's size. With more, others are started while the first of them is slow.
    pub fn buffer(mut self, n: usize) -> Self {
        self.flow.buffer = n.max(1);
        self
    }
}

impl<I, F, R> Iterator for Imap<'_, I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = Result<R, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.flow.fill();
        while !matches!(self.window.front(), Some(Some(_))) {
            let (number, result) = self.flow.take()?;
            let at = (number - self.first) as usize;
            if self.window.len() <= at {
                self.window.resize_with(at + 1, || None);
            }
            self.window[at] = Some(result);
        }
        self.first += 1;
        self.flow.out -= 1;
        self.window.pop_front().flatten()
    }
}

impl<I: Iterator, F, R> fmt::Debug for Imap<'_, I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("out", &self.flow.out)
            .field("buffer", &self.flow.buffer)
            .finish_non_exhaustive()
    }
}

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered).
#[must_use = "an iterator does nothing until it is asked"]
pub struct ImapUnordered<'a, I: Iterator, F, R> {
    flow: Flow<'a, I, F, R>,
}

impl<'a, I: Iterator, F, R> ImapUnordered<'a, I, F, R> {
    pub(crate) fn new(flow: Flow<'a, I, F, R>) -> Self {
        Self { flow }
    }

    /// As [`Imap::buffer`].
    pub fn buffer(mut self, n: usize) -> Self {
        self.flow.buffer = n.max(1);
        self
    }
}

impl<I, F, R> Iterator for ImapUnordered<'_, I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = Result<R, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.flow.next().map(|(_, result)| result)
    }
}

impl<I: Iterator, F, R> fmt::Debug for ImapUnordered<'_, I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered")
            .field("out", &self.flow.out)
            .field("buffer", &self.flow.buffer)
            .finish_non_exhaustive()
    }
}
