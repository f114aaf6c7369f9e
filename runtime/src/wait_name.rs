//! Names for what layers above wait for: a dump then says "message to PULL socket 3 at
//! tcp://127.0.0.1:5557" instead of a number.
//!
//! A park writes two words only, so the name is not made before somebody reads the dump: until then
//! there is a number, and who can describe it is remembered weakly.
//!
//! Invariant: nobody is called, and nothing is dropped, while the lock is held.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Weak;

#[cfg(not(loom))]
use crate::at_fork::Global;
use crate::sync::short_lock::ShortLock;
use crate::wait_reason::{WaitKind, WaitReason};

/// Says what it is, for dumps; see [`WaitName`].
pub trait Describe: Send + Sync {
    /// Writes what it is, and where: a few words on one line.
    ///
    /// It is called by the thread that writes a dump, at any time. It must not park.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// The number of something that is waited for, by which a dump finds its description.
///
/// For libraries with things to wait for of their own. The number goes into reasons of the kind
/// [`WaitKind::Named`]; when this is dropped, dumps no longer know it.
///
/// # Examples
/// ```
/// use std::{fmt, sync::Arc};
/// use sward_runtime::sync::Lines;
/// use sward_runtime::{Describe, WaitKind, WaitName, WaitReason, dump, spawn, yield_now};
///
/// struct Shop {
///     name: WaitName,
///     open: Lines<bool, 1>,
/// }
///
/// impl Describe for Shop {
///     fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("the shop at the corner")
///     }
/// }
///
/// let shop = Arc::new_cyclic(|me: &std::sync::Weak<Shop>| Shop {
///     name: WaitName::new(me.clone()),
///     open: Lines::new(false),
/// });
/// let customer = shop.clone();
/// let task = spawn(move || {
///     let reason = WaitReason::new(WaitKind::Named("bread from"), customer.name.number());
///     customer.open.wait::<0, _>(reason, || None, |open| open.then_some(()))
/// });
/// while shop.open.waiting(0) == 0 {
///     yield_now();
/// }
/// assert!(dump().to_string().contains("bread from the shop at the corner"));
/// let mut open = shop.open.lock();
/// *open = true;
/// open.held().wake_all(0);
/// drop(open);
/// task.join().unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct WaitName {
    number: u64,
}

struct Names {
    next: u64,
    known: BTreeMap<u64, Weak<dyn Describe>>,
}

impl Names {
    const fn new() -> Self {
        Self {
            next: 1,
            known: BTreeMap::new(),
        }
    }
}

#[cfg(not(loom))]
static NAMES: ShortLock<Names> = ShortLock::new(Names::new());
#[cfg(loom)]
static NAMES: std::sync::LazyLock<ShortLock<Names>> =
    std::sync::LazyLock::new(|| ShortLock::new(Names::new()));

impl WaitName {
    /// Returns a number that stands for `what`. No other in the process has it, ever.
    pub fn new(what: Weak<dyn Describe>) -> Self {
        let mut names = NAMES.lock();
        let number = names.next;
        names.next += 1;
        names.known.insert(number, what);
        Self { number }
    }

    /// Returns the number, which is the object of a reason of the kind [`WaitKind::Named`].
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for WaitName {
    fn drop(&mut self) {
        let what = NAMES.lock().known.remove(&self.number);
        drop(what);
    }
}

/// A reason with the name of its object.
pub(crate) struct Named(pub(crate) WaitReason);

impl Named {
    /// The name of the object, if it has one that is known.
    pub(crate) fn name(&self) -> Option<String> {
        let WaitKind::Named(_) = self.0.kind() else {
            return None;
        };
        let what = NAMES.lock().known.get(&self.0.object()).cloned()?;
        let what = what.upgrade()?;
        Some(Description(&*what).to_string())
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} {name}", self.0.kind().noun()),
            None => self.0.fmt(f),
        }
    }
}

struct Description<'a>(&'a dyn Describe);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

/// The locks of the process that are here.
#[cfg(not(loom))]
pub(crate) fn globals() -> [&'static dyn Global; 1] {
    [&NAMES]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Thing;

    impl Describe for Thing {
        fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a thing")
        }
    }

    #[test]
    fn a_name_is_known_as_long_as_both_are_there() {
        let thing: Arc<dyn Describe> = Arc::new(Thing);
        let name = WaitName::new(Arc::downgrade(&thing));
        let other = WaitName::new(Arc::downgrade(&thing));
        assert_ne!(name.number(), other.number());
        let of = |kind| Named(WaitReason::new(kind, name.number())).to_string();
        assert_eq!(of(WaitKind::Named("end of")), "end of a thing");
        // A number of another kind is not looked up.
        assert!(!of(WaitKind::Other("end of")).contains("thing"));
        let gone = WaitReason::new(WaitKind::Named("end of"), other.number());
        drop(other);
        assert_eq!(
            Named(gone).to_string(),
            format!("end of number {}", gone.object())
        );
        drop(thing);
        let number = name.number();
        assert_eq!(
            of(WaitKind::Named("end of")),
            format!("end of number {number}")
        );
    }
}
