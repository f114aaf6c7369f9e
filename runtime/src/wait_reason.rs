//! Why a task is parked, and on what: two words, written at each park, read by the dump.

use std::fmt;

/// What a parked task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Room in a channel.
    Send,
    /// A value from a channel.
    Recv,
    /// The tasks of a group or scope; its object is the id of that.
    Group,
    /// A place in a [`Pool`](crate::Pool) that is full.
    Pool,
    /// The first of several things: a [`select!`](crate::select); its object is their number.
    Select,
    /// Something that a layer above named.
    Other(&'static str),
}

/// What a parked task waits for, and which one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WaitReason {
    kind: WaitKind,
    object: u64,
    holder: u64,
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

    /// Returns the id of the task that had it when the wait began.
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
        let object = self.object;
        match self.kind {
            WaitKind::None => f.write_str("nothing"),
            WaitKind::Sleep => f.write_str("sleep"),
            WaitKind::Park => f.write_str("park"),
            WaitKind::Join => write!(f, "join of task {object}"),
            WaitKind::Mutex if self.holder != 0 => {
                write!(f, "mutex {object:#x} held by task {}", self.holder)
            }
            WaitKind::Mutex => write!(f, "mutex {object:#x}"),
            WaitKind::Event => write!(f, "event {object:#x}"),
            WaitKind::Send => write!(f, "send to channel {object:#x}"),
            WaitKind::Recv => write!(f, "receive from channel {object:#x}"),
            WaitKind::Group => write!(f, "the tasks of group {object}"),
            WaitKind::Pool => write!(f, "a place in pool {object}"),
            WaitKind::Select => write!(f, "select of {object} arms"),
            WaitKind::Other(what) if object == 0 => f.write_str(what),
            WaitKind::Other(what) => write!(f, "{what} {object:#x}"),
        }
    }
}

impl fmt::Debug for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
