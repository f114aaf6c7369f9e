//! The runtimes of this process that are alive, for those who print them all.

use std::sync::{Arc, Weak};

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
