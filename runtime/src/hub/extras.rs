//! The rarely used part of a task: its name, a stack size of its own, who wants to hear of its end.

use std::sync::OnceLock;

use super::locals::Heritage;
use crate::fiber::stack::StackSpec;
use crate::sync::short_lock::ShortLock;

/// How a task ended, as told to [`JoinHandle::on_exit`](crate::JoinHandle::on_exit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Its closure returned.
    Returned,
    /// Its closure panicked.
    Panicked,
    /// It was killed.
    Killed,
}

type Callback = Box<dyn FnOnce(Exit) + Send>;

/// Who is told of a task's end.
pub(crate) enum Listener {
    /// User code: runs in a task of its own.
    InTask(Callback),
    /// Our own code, a few stores and a wake: runs at once where the task ended.
    Inline(Callback),
}

enum Listeners {
    Waiting(Vec<Listener>),
    Told(Exit),
}

pub(crate) struct Extras {
    name: OnceLock<Box<str>>,
    spec: OnceLock<StackSpec>,
    listeners: ShortLock<Listeners>,
    /// Until the task starts.
    heritage: ShortLock<Option<Box<Heritage>>>,
}

impl Default for Extras {
    fn default() -> Self {
        Self {
            name: OnceLock::new(),
            spec: OnceLock::new(),
            listeners: ShortLock::new(Listeners::Waiting(Vec::new())),
            heritage: ShortLock::new(None),
        }
    }
}

impl Extras {
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.get().map(AsRef::as_ref)
    }

    /// Names the task; the first name stays.
    pub(crate) fn set_name(&self, name: &str) {
        let _ = self.name.set(name.into());
    }

    pub(crate) fn spec(&self) -> Option<StackSpec> {
        self.spec.get().copied()
    }

    pub(crate) fn set_spec(&self, spec: StackSpec) {
        let _ = self.spec.set(spec);
    }

    pub(crate) fn set_heritage(&self, heritage: Box<Heritage>) {
        *self.heritage.lock() = Some(heritage);
    }

    pub(crate) fn take_heritage(&self) -> Option<Box<Heritage>> {
        self.heritage.lock().take()
    }

    /// Adds a callback, or gives it back with the exit that it missed.
    pub(crate) fn listen(&self, listener: Listener) -> Result<(), (Listener, Exit)> {
        match &mut *self.listeners.lock() {
            Listeners::Waiting(list) => {
                list.push(listener);
                Ok(())
            }
            Listeners::Told(exit) => Err((listener, *exit)),
        }
    }

    /// Takes the callbacks; later ones are told at once.
    pub(crate) fn tell(&self, exit: Exit) -> Vec<Listener> {
        match std::mem::replace(&mut *self.listeners.lock(), Listeners::Told(exit)) {
            Listeners::Waiting(list) => list,
            Listeners::Told(_) => Vec::new(),
        }
    }
}
