//! Cancel tokens: a request to stop, made once, seen by everybody who has a clone.
//!
//! Nouns: a token's *node* has its state; a *child* is cancelled with its parent, not the other way
//! round. A node holds its parent, so that a cancellation gets through even where nobody has the
//! token in between any more; parents know their children weakly.
//!
//! A cancellation goes down the tree, each node once: `cancelled` is set under the node's lock, and
//! from then on it takes no children (they are born cancelled) and no tasks (its family is killed
//! for good). After that the fuse is blown, which unwinds who is in `run` (`hub/fuse.rs`), the
//! event set, and the tasks killed. Nothing here recurses: trees may be deeper than stacks.

use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::cancel::kill_together;
use crate::error::Cancelled;
use crate::hub::fuse::Fuse;
use crate::join::JoinHandle;
use crate::spawn::{self, Builder};
use crate::structure::family::{Family, Label};
use crate::sync::short_lock::ShortLock;
use crate::sync::{Event, Waiting};
use crate::time;

/// A request to stop: made once, by any clone, and seen by all.
///
/// Where a kill ends a task wherever it parks, a token is looked at where the program chooses: ask
/// [`is_cancelled`](Self::is_cancelled), wait for it in a [`select!`](crate::select), or put code
/// under it with [`run`](Self::run) or [`spawn`](Self::spawn).
///
/// # Examples
/// ```
/// use sward_runtime::{CancelToken, Cancelled, park, run};
/// run(|| {
///     let shutdown = CancelToken::new();
///     let request = shutdown.child();
///     let inner = request.clone();
///     let task = sward_runtime::spawn(move || inner.run(park));
///     let worker = request.spawn(park);
///     shutdown.cancel();
///     assert!(request.is_cancelled());
///     assert_eq!(task.join().unwrap(), Err(Cancelled));
///     assert!(worker.join().unwrap_err().is_killed());
/// });
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

struct Node {
    fuse: Arc<Fuse>,
    event: Event,
    links: ShortLock<Links>,
    /// With the number of this node there.
    parent: Option<(Arc<Self>, usize)>,
}

struct Links {
    cancelled: bool,
    children: Slab<Weak<Node>>,
    /// Tasks that end with the token, from the first of them on.
    family: Option<Arc<Family>>,
}

impl Node {
    fn new(parent: Option<(Arc<Self>, usize)>) -> Arc<Self> {
        Arc::new(Self {
            fuse: Arc::new(Fuse::new()),
            event: Event::new(),
            links: ShortLock::new(Links {
                cancelled: false,
                children: Slab::new(),
                family: None,
            }),
            parent,
        })
    }

    fn cancel(self: Arc<Self>) {
        let mut left = vec![self];
        while let Some(node) = left.pop() {
            let mut links = node.links.lock();
            if std::mem::replace(&mut links.cancelled, true) {
                continue;
            }
            let children = std::mem::take(&mut links.children);
            let family = links.family.clone();
            drop(links);
            node.fuse.blow();
            node.event.set();
            if let Some(family) = family {
                family.kill(true);
            }
            left.extend(children.iter().filter_map(|(_, child)| child.upgrade()));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut up = self.parent.take();
        while let Some((parent, number)) = up {
            // A cancelled parent has let go of its children, and takes no others.
            let weak = parent.links.lock().children.try_remove(number);
            drop(weak);
            up = Arc::into_inner(parent).and_then(|mut parent| parent.parent.take());
        }
    }
}

impl CancelToken {
    /// Returns a token that is not cancelled.
    pub fn new() -> Self {
        Self {
            node: Node::new(None),
        }
    }

    /// Returns a token that is cancelled with this one, or by itself.
    pub fn child(&self) -> Self {
        let mut links = self.node.links.lock();
        let cancelled = links.cancelled;
        let parent = (!cancelled).then(|| (self.node.clone(), links.children.vacant_key()));
        let node = Node::new(parent);
        if !cancelled {
            links.children.insert(Arc::downgrade(&node));
        }
        drop(links);
        if cancelled {
            node.clone().cancel();
        }
        Self { node }
    }

    /// Cancels this token and its children: whoever waits for it goes on, code under
    /// [`run`](Self::run) is unwound at its next park, tasks of [`spawn`](Self::spawn) are killed.
    ///
    /// It does not wait for them. A task of the token that calls it is unwound after all others
    /// have been told. A second call does nothing.
    ///
    /// # Blocking
    /// Never parks.
    pub fn cancel(&self) {
        kill_together(|| self.node.clone().cancel());
    }

    /// Returns whether the token is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.node.fuse.is_blown()
    }

    /// Waits until the token is cancelled.
    ///
    /// # Blocking
    /// Parks under [`WaitKind::Event`](crate::WaitKind::Event); honours kill and `timeout`. In a
    /// task that unwinds it blocks the worker (`docs/caveats.md`).
    pub fn wait(&self) {
        self.node.event.wait();
    }

    /// As [`wait`](Self::wait), for at most `limit`. Returns whether it is cancelled.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.node.event.wait_timeout(limit)
    }

    /// As [`wait`](Self::wait), until `deadline`. Returns whether it is cancelled.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.node.event.wait_deadline(deadline)
    }

    /// Returns an arm of a [`select!`](crate::select) that waits until the token is cancelled.
    ///
    /// # Examples
    /// ```
    /// use sward_runtime::{CancelToken, select, sync::unbounded};
    /// let token = CancelToken::new();
    /// let (sender, receiver) = unbounded::<i32>();
    /// token.cancel();
    /// let got = select! {
    ///     value = receiver.receiving() => value.ok(),
    ///     () = token.cancelled() => None,
    /// };
    /// assert_eq!(got, None);
    /// # drop(sender);
    /// ```
    pub fn cancelled(&self) -> Waiting<'_> {
        self.node.event.waiting()
    }

    /// Starts a task that is killed when the token is cancelled; if it is cancelled already, the
    /// task never runs.
    ///
    /// # Blocking
    /// Never parks.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let family = self.family();
        spawn::spawn_owned(self.keeping(f), Location::caller(), |task| family.add(task))
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
        let family = self.family();
        builder.spawn_owned(self.keeping(f), Location::caller(), |task| family.add(task))
    }

    /// `f`, with the token: a parent's cancellation comes through it, though all else drop it.
    fn keeping<F, T>(&self, f: F) -> impl FnOnce() -> T + Send + 'static
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let token = self.clone();
        move || {
            let _token = token;
            f()
        }
    }

    fn family(&self) -> Arc<Family> {
        let mut links = self.node.links.lock();
        let new = || Family::new(Label::Named("token", "".into()), usize::MAX);
        let family = links.family.get_or_insert_with(new).clone();
        let cancelled = links.cancelled;
        drop(links);
        if cancelled {
            family.kill(true);
        }
        family
    }

    /// Runs `f`, and unwinds it at its next park once the token is cancelled: a
    /// [`timeout`](crate::timeout) without a time.
    ///
    /// A closure that returns first wins, even if the token is cancelled meanwhile. A
    /// [`shield`](crate::shield) inside holds the unwinding back.
    ///
    /// # Errors
    /// [`Cancelled`] if the unwinding reached this call; or if the token was cancelled before: then
    /// `f` has not run.
    ///
    /// # Blocking
    /// Whatever `f` does.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T, Cancelled> {
        time::until_blown(&self.node.fuse, f).map_err(|_| Cancelled)
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
