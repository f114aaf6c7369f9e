//! The runtimes of this process that are alive, and which of them the caller means.

use std::sync::{Arc, OnceLock, Weak};

#[cfg(not(loom))]
use crate::at_fork::Global;
use crate::hub::current;
use crate::hub::shared::RuntimeShared;
use crate::sync::short_lock::ShortLock;

#[cfg(not(loom))]
static RUNTIMES: ShortLock<Vec<Weak<RuntimeShared>>> = ShortLock::new(Vec::new());
#[cfg(loom)]
static RUNTIMES: std::sync::LazyLock<ShortLock<Vec<Weak<RuntimeShared>>>> =
    std::sync::LazyLock::new(|| ShortLock::new(Vec::new()));

/// Adds a runtime.
pub(crate) fn add(rt: &Arc<RuntimeShared>) {
    let mut all = RUNTIMES.lock();
    all.retain(|weak| weak.strong_count() > 0);
    all.push(Arc::downgrade(rt));
}

/// Returns those that have not ended.
pub(crate) fn all() -> Vec<Arc<RuntimeShared>> {
    RUNTIMES.lock().iter().filter_map(Weak::upgrade).collect()
}

static DEFAULT: OnceLock<Arc<RuntimeShared>> = OnceLock::new();

/// Says which one is the default runtime.
pub(crate) fn set_default(rt: &Arc<RuntimeShared>) {
    let _ = DEFAULT.set(rt.clone());
}

/// The runtime of the calling task, or the default one if it has been started.
pub(crate) fn current_or_started() -> Option<Arc<RuntimeShared>> {
    match current::hub() {
        Some(hub) => Some(hub.rt.clone()),
        None => DEFAULT.get().cloned(),
    }
}

/// The locks of the process that are here.
#[cfg(not(loom))]
pub(crate) fn globals() -> [&'static dyn Global; 1] {
    [&RUNTIMES]
}
