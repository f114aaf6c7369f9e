//! Groups: tasks that are waited for, and ended, together.
//!
//! A thin face of a [`Family`], which knows the members; `Pool` is the same with a bound. What a
//! group adds is who may wait (not a member: it would wait for itself), and that the members are
//! killed when it is dropped. A drop never waits (nothing parks in `Drop`): who needs the members
//! to be gone joins, or uses a `scope`.
//!
//! Rejected: groups that are cloned (which clone kills the members when it goes?); kills that let
//! later members live, as gevent's do (what a member spawns while it is killed would escape).

use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel::{kill_together, shield};
use crate::clock;
use crate::fork;
use crate::hub::current;
use crate::hub::extras::Exit;
use crate::join::JoinHandle;
use crate::spawn::{self, Builder};
use crate::structure::family::{Family, Label};
use crate::task::{self, Task};

/// Tasks that are waited for, and ended, together (gevent's `Group`).
///
/// A task is a member from its spawn to its end, whoever joins it. Dropping the group asks its
/// members to end and does not wait for them; [`detach`](Self::detach) lets them go on instead. To
/// share a group, put it into an [`Arc`].
///
/// # Examples
/// ```
/// use sward_runtime::{Group, run, sync::Event};
/// use std::sync::Arc;
/// run(|| {
///     let go = Arc::new(Event::new());
///     let group = Group::new();
///     for _ in 0..10 {
///         let go = go.clone();
///         group.spawn(move || go.wait());
///     }
///     assert_eq!(group.len(), 10);
///     go.set();
///     group.join();
///     assert!(group.is_empty());
/// });
/// ```
pub struct Group {
    family: Arc<Family>,
    detached: bool,
}

/// A member of a group or pool did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFailed {
    task: u64,
    exit: Exit,
    of: String,
}

impl MemberFailed {
    /// Returns the id of the member.
    pub fn id(&self) -> u64 {
        self.task
    }

    /// Returns how it ended.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for MemberFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.exit {
            Exit::Killed => "was killed",
            _ => "panicked",
        };
        write!(f, "task {} of {} {how}", self.task, self.of)
    }
}

impl std::error::Error for MemberFailed {}

impl Group {
    /// Returns a group without members.
    pub fn new() -> Self {
        Self::named("")
    }

    /// Returns a group with a name, for dumps and messages.
    pub fn named(name: impl Into<String>) -> Self {
        Self::bounded("group", name.into(), usize::MAX)
    }

    /// One that has at most `capacity` members, each in a place that was taken before.
    pub(crate) fn bounded(kind: &'static str, name: String, capacity: usize) -> Self {
        Self {
            family: Family::new(Label::Named(kind, name.into()), capacity),
            detached: false,
        }
    }

    pub(crate) fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// Starts a member, as [`spawn`](fn@crate::spawn) starts a task.
    ///
    /// The handle may be dropped. In a group that was killed the member never runs, and joining it
    /// gives [`JoinError::Killed`](crate::JoinError::Killed).
    ///
    /// # Blocking
    /// Never parks.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn::spawn_owned(f, Location::caller(), |task| self.family.add(task))
    }

    /// As [`spawn`](Self::spawn), with a name, a stack size or a worker.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        builder.spawn_owned(f, Location::caller(), |task| self.family.add(task))
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.family.len()
    }

    /// Returns whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the members, to name, unpark or kill them; what ends or begins meanwhile may be
    /// missing.
    pub fn tasks(&self) -> Vec<Task> {
        self.family.tasks().into_iter().map(Task::of).collect()
    }

    /// Waits until there are no members.
    ///
    /// How they ended does not matter here; see [`try_join`](Self::try_join). Members that are
    /// spawned meanwhile are waited for too.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Group`](crate::WaitKind::Group); honours kill and `timeout`. In a
    /// task that unwinds it blocks the worker (`docs/caveats.md`).
    ///
    /// # Panics
    /// In a member: it would wait for itself. In a forked child.
    pub fn join(&self) {
        self.wait(None);
    }

    /// As [`join`](Self::join), for at most `limit`. Returns whether there were no members.
    pub fn join_timeout(&self, limit: Duration) -> bool {
        self.wait(clock::deadline(limit))
    }

    fn wait(&self, deadline: Option<Instant>) -> bool {
        self.refuse_member();
        self.family.wait(deadline, |members| members.is_empty())
    }

    /// Waits until there are no members, or one has panicked or been killed; the others go on then.
    ///
    /// # Errors
    /// [`MemberFailed`] names the first member that did not return. It is kept: each later call
    /// gives the same.
    ///
    /// # Blocking
    /// As [`join`](Self::join).
    ///
    /// # Panics
    /// As [`join`](Self::join).
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{Exit, Group, park, run};
    /// run(|| {
    ///     let group = Group::named("pair");
    ///     group.spawn(park);
    ///     let bad = group.spawn(park);
    ///     bad.kill();
    ///     let failed = group.try_join().unwrap_err();
    ///     assert_eq!((failed.id(), failed.exit()), (bad.id(), Exit::Killed));
    /// }); // the other one is killed with the group
    /// ```
    pub fn try_join(&self) -> Result<(), MemberFailed> {
        self.refuse_member();
        let done = |members: &crate::structure::family::State| {
            members.is_empty() || members.failed().is_some()
        };
        self.family.wait(None, done);
        match self.family.look(|members| members.failed()) {
            None => Ok(()),
            Some((task, exit)) => Err(MemberFailed {
                task,
                exit,
                of: self.family.label().to_string(),
            }),
        }
    }

    fn refuse_member(&self) {
        let family = &self.family;
        assert!(
            current::owner_id() != Some(family.id()),
            "sward: {:?} is a member of {} and waits for all members to end: that would be for \
             ever, because it is one of them",
            task::current(),
            family.label()
        );
        if fork::is_lost(family.id()) && !family.look(|members| members.is_empty()) {
            panic!("{}", fork::TEXT);
        }
    }

    /// Asks all members to end, for good: whoever is spawned later is killed before it begins.
    ///
    /// It does not wait. A member that calls it is unwound after all others have been told. See
    /// [`JoinHandle::kill`] for what a kill does.
    pub fn kill(&self) {
        kill_together(|| self.family.kill(true));
    }

    /// Asks all members to end, as [`kill`](Self::kill), and waits for that, at most for `limit`.
    /// Returns whether there are no members left; [`tasks`](Self::tasks) names them.
    ///
    /// # Blocking
    /// As [`join`](Self::join).
    ///
    /// # Panics
    /// As [`join`](Self::join), in a member that holds its kill back by a `shield`.
    pub fn kill_timeout(&self, limit: Duration) -> bool {
        let deadline = clock::deadline(limit);
        self.kill();
        self.wait(deadline)
    }

    /// Gives the group up and lets its members go on.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.detached && !fork::is_lost(self.family.id()) {
            // A member that drops the group meets its kill at its next park, not in a destructor.
            shield(|| self.family.kill(true));
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("is", &format_args!("{}", self.family.label()))
            .field("members", &self.len())
            .finish_non_exhaustive()
    }
}
