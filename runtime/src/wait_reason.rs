//! Why a task is parked, and on what: two words, written at each park, read by the dump.

use std::fmt;

/// What a parked task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitKind {
    /// Nothing: it runs or could.
    None,
    /// A time to come.
    Sleep,
    /// [`park`](fn@crate::park): somebody's `unpark`.
    Park,
    /// The end of a task.
    Join,
    /// A [`Mutex`](crate::sync::Mutex).
    Mutex,
    /// An [`Event`](crate::sync::Event).
    Event,
    /// An [`RwLock`](crate::sync::RwLock).
    RwLock,
    /// A [`ReentrantMutex`](crate::sync::ReentrantMutex).
    ReentrantMutex,
    /// A [`Condvar`](crate::sync::Condvar): somebody's notification.
    Condvar,
    /// Permits of a [`Semaphore`](crate::sync::Semaphore).
    Semaphore,
    /// The others at a [`Barrier`](crate::sync::Barrier).
    Barrier,
    /// The end of the work that a [`WaitGroup`](crate::sync::WaitGroup) counts.
    WaitGroup,
    /// The value of a [`OnceValue`](crate::sync::OnceValue), or the end of a
    /// [`Once`](crate::sync::Once).
    OnceValue,
    /// Room in a channel.
    Send,
    /// A value from a channel.
    Recv,
    /// Room in a queue.
    Put,
    /// A value from a queue.
    Get,
    /// `task_done` for all that came into a queue.
    Unfinished,
    /// A change of a watched value.
    Change,
    /// A broadcast value.
    Broadcast,
    /// The end of all receivers of a watched value.
    Unwatched,
    /// The tasks of a group or scope; its object is the id of that.
    Group,
    /// A place in a pool that is full; its object is the id of that.
    Pool,
    /// The end of one of several tasks; its object is their number.
    Completion,
    /// The first of several things: a [`select!`](crate::select); its object is their number.
    Select,
    /// A job on an OS thread: [`blocking`](fn@crate::blocking).
    Blocking,
    /// A future: [`block_on`](fn@crate::block_on).
    Future,
    /// A descriptor that can be read; the object is its number.
    Readable,
    /// A descriptor that can be written to; the object is its number.
    Writable,
    /// Something that a layer above named.
    Other(&'static str),
    /// As `Other`; which one is described by who has the [`WaitName`](crate::WaitName) whose number
    /// is the object.
    Named(&'static str),
}

/// What a parked task waits for, and which one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WaitReason {
    kind: WaitKind,
    object: u64,
    holder: u64,
}

impl WaitKind {
    /// What is waited for, without saying which one.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Sleep => "sleep",
            Self::Park => "park",
            Self::Future => "future",
            Self::Mutex => "mutex",
            Self::Event => "event",
            Self::RwLock => "rwlock",
            Self::ReentrantMutex => "reentrant mutex",
            Self::Condvar => "condvar",
            Self::Semaphore => "semaphore",
            Self::Barrier => "barrier",
            Self::WaitGroup => "wait group",
            Self::OnceValue => "once value",
            Self::Send => "send to channel",
            Self::Recv => "receive from channel",
            Self::Put => "put into queue",
            Self::Get => "get from queue",
            Self::Unfinished => "unfinished tasks of queue",
            Self::Change => "change of watched value",
            Self::Broadcast => "value of broadcast",
            Self::Unwatched => "end of all receivers of watched value",
            Self::Other(what) | Self::Named(what) => what,
            Self::Join => "join",
            Self::Group => "group of tasks",
            Self::Pool => "place in a pool",
            Self::Completion => "end of a task",
            Self::Select => "select",
            Self::Blocking => "blocking job",
            Self::Readable => "descriptor to be readable",
            Self::Writable => "descriptor to be writable",
        }
    }
}

impl WaitReason {
    pub(crate) const NONE: Self = Self::new(WaitKind::None, 0);

    /// Names what is waited for; `object` tells one of its kind from another: a task's id or an
    /// address.
    pub const fn new(kind: WaitKind, object: u64) -> Self {
        Self {
            kind,
            object,
            holder: 0,
        }
    }

    /// Names a wait on `thing`, by its address.
    pub(crate) fn on<T: ?Sized>(kind: WaitKind, thing: &T) -> Self {
        Self::new(kind, std::ptr::from_ref(thing).addr() as u64)
    }

    /// Names the task that has what is waited for; 0 is nobody.
    pub const fn held_by(mut self, task: u64) -> Self {
        self.holder = task;
        self
    }

    /// Returns the id of the task that has it: in a dump the one that had it then, else the one that
    /// had it when the wait began.
    pub fn holder(&self) -> Option<u64> {
        (self.holder != 0).then_some(self.holder)
    }

    /// Returns the kind of wait.
    pub fn kind(&self) -> WaitKind {
        self.kind
    }

    /// Returns the task id or address, 0 where there is none.
    pub fn object(&self) -> u64 {
        self.object
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WaitKind::Join => return write!(f, "join of task {}", self.object),
            WaitKind::Group => return write!(f, "tasks of group {}", self.object),
            WaitKind::Pool => return write!(f, "a place in pool {}", self.object),
            WaitKind::Completion => return write!(f, "the end of one of {} tasks", self.object),
            WaitKind::Select => return write!(f, "select of {} arms", self.object),
            WaitKind::Blocking => return write!(f, "blocking job {}", self.object),
            WaitKind::Readable => return write!(f, "descriptor {} to be readable", self.object),
            WaitKind::Writable => return write!(f, "descriptor {} to be writable", self.object),
            WaitKind::Named(what) => return write!(f, "{what} number {}", self.object),
            kind => f.write_str(kind.noun())?,
        }
        if self.object != 0 {
            write!(f, " {:#x}", self.object)?;
        }
        if self.holder != 0 {
            write!(f, " held by task {}", self.holder)?;
        }
        Ok(())
    }
}

impl fmt::Debug for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
