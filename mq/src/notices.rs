//! What one socket has to tell another one of the same process: kept by the thread until it has given
//! its own socket's lock back, because no thread may hold the locks of two sockets.
//!
//! A lock of a socket is held within one call that never parks, and whoever takes it calls
//! [`deliver`] after it gave it back: so notices are told by the call that made them.

use std::cell::{Cell, RefCell};
use std::sync::Weak;

use crate::session::Place;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A pipe that was empty has a message.
    Readable,
    /// A pipe that was full has room.
    Writable,
    /// The other end is gone.
    Ended,
}

/// Who is told.
pub(crate) trait Hears: Send + Sync + 'static {
    /// Called without any lock.
    fn notice(&self, place: Place, notice: Notice);
}

type Kept = (Weak<dyn Hears>, Place, Notice);

thread_local! {
    static ANY: Cell<bool> = const { Cell::new(false) };
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a notice until [`deliver`].
#[cold]
pub(crate) fn keep(whom: &Weak<dyn Hears>, place: Place, notice: Notice) {
    ANY.set(true);
    KEPT.with_borrow_mut(|kept| kept.push((whom.clone(), place, notice)));
}

/// Tells what was kept, and what comes of that.
#[inline(always)]
pub(crate) fn deliver() {
    if ANY.get() {
        deliver_all();
    }
}

#[cold]
fn deliver_all() {
    while ANY.replace(false) {
        let mut kept = KEPT.take();
        for (whom, place, notice) in kept.drain(..) {
            if let Some(whom) = whom.upgrade() {
                whom.notice(place, notice);
            }
        }
        // Its memory is used again.
        KEPT.with_borrow_mut(|now| {
            if now.is_empty() {
                *now = kept;
            }
        });
    }
}
