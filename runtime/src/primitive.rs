//! The switch between std and loom: what lock-free code of this crate imports instead of
//! `std::sync::atomic`, so that `--cfg loom` can run it under every interleaving.
//!
//! A loom thread is a coroutine: std's thread-locals and OS waits do not work in models, hence
//! [`thread_local`] and [`Backoff`] here. Nothing else belongs into this file.

// A switchboard: what is listed need not be in use in every configuration.
#![allow(unused_imports)]

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
    thread, thread_local,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
    thread, thread_local,
};

pub(crate) use witness::{Access, Witness};

/// How an OS thread waits for another that is inside some nanoseconds of code, or was preempted
/// there: it spins (about a microsecond in all), then yields, then sleeps. Tasks wait with it.
pub(crate) struct Backoff {
    #[cfg(not(loom))]
    rounds: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(not(loom))]
            rounds: 0,
        }
    }

    #[cfg(not(loom))]
    #[allow(clippy::disallowed_methods)] // the sleep: this is below everything that could park
    pub(crate) fn wait(&mut self) {
        match self.rounds {
            n @ 0..6 => (0..1 << n).for_each(|_| spin_loop()),
            6..22 => thread::yield_now(),
            // Even if the other has a lower real-time priority than this thread.
            _ => return thread::sleep(std::time::Duration::from_micros(50)),
        }
        self.rounds += 1;
    }

    /// There is no time in a model; the others must get their turn.
    #[cfg(loom)]
    pub(crate) fn wait(&mut self) {
        thread::yield_now();
    }
}

/// Stands beside an `UnsafeCell` and is told of each exclusive access: nothing outside models,
/// where loom fails the model if two accesses overlap or are not ordered.
///
/// loom's own cell cannot give out plain references, so the data stays in std's.
#[cfg(not(loom))]
mod witness {
    pub(crate) struct Witness;

    impl Witness {
        pub(crate) const fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn exclusive(&self) -> Access {
            Access
        }
    }

    /// The access lasts until this is ended.
    pub(crate) struct Access;

    impl Access {
        #[inline(always)]
        #[expect(clippy::needless_pass_by_ref_mut, reason = "loom's one ends something")]
        pub(crate) fn end(&mut self) {}
    }
}

#[cfg(loom)]
mod witness {
    use loom::cell::{MutPtr, UnsafeCell};

    pub(crate) struct Witness(UnsafeCell<()>);

    impl Witness {
        pub(crate) fn new() -> Self {
            Self(UnsafeCell::new(()))
        }

        pub(crate) fn exclusive(&self) -> Access {
            Access(Some(self.0.get_mut()))
        }
    }

    /// The access lasts until this is ended or dropped.
    pub(crate) struct Access(Option<MutPtr<()>>);

    impl Access {
        pub(crate) fn end(&mut self) {
            self.0 = None;
        }
    }
}
