//! The asymmetric fence: an order between two parties of whom one is far more frequent.
//!
//! Frequent side: 1. store x; 2. [`light`]; 3. load y.
//! Rare side: 1. store y; 2. [`heavy`]; 3. load x.
//! At least one of them sees the other's store, as with a full fence on both sides. `light` only
//! keeps the compiler from reordering; `heavy` is membarrier(2), which makes every running thread
//! of the process execute a full fence before it returns (a thread that does not run passed one
//! when it was switched out).
//!
//! `light` may be weak only if every `heavy` is strong. Registration can be slow (15-27 ms
//! measured in a process with a second thread, 0.03 ms before: the kernel waits for a grace
//! period) and may be impossible, so both go by one word, which only moves forward:
//! ```text
//! UNKNOWN --(register: the kernel agreed)--> ARMED --(one membarrier)--> READY
//!    \-----(register: refused, or not Linux)--> UNAVAILABLE
//!             UNKNOWN, UNAVAILABLE   ARMED             READY
//!   light     full fence             full fence        compiler fence
//!   heavy     full fence             full fence + membarrier, both
//! ```
//! Mixed pairs are sound: a full fence in `light` pairs with the one in every `heavy`. The pair
//! of a weak `light` (it read READY) with a `heavy` without membarrier (it read UNKNOWN) is why
//! ARMED exists: that `heavy` ran its fence before it read UNKNOWN, thus before the registrar's
//! fence that follows the store of ARMED (else it would have read ARMED); the registrar's fence
//! happens-before READY was read; so the weak side's load in step 3 sees the rare side's store.
//!
//! After fork(2) the child keeps the registration (checked on 6.18) and this word: they agree.
//!
//! Rejected: registration by the first `heavy`, which would stall a lock for 27 ms; the fallback
//! by mprotect, since CPUs that broadcast TLB invalidations send no interrupt.

/// Lets [`light`] become weak; `true` once it is. Call it early, at best while the process has
/// one thread; may take tens of milliseconds later on. Safe to call again and from anywhere.
pub(crate) fn register() -> bool {
    sys::register()
}

/// Whether [`light`] is weak, i.e. whether [`light_registered`] may be used from now on.
#[inline]
pub(crate) fn registered() -> bool {
    sys::registered()
}

/// The frequent side's fence.
#[inline]
pub(crate) fn light() {
    if registered() {
        light_registered();
    } else {
        crate::primitive::fence(crate::primitive::Ordering::SeqCst);
    }
}

/// [`light`] for whom knows that [`registered`] was `true` before, e.g. because the state that
/// led here is entered only then.
#[inline]
pub(crate) fn light_registered() {
    sys::light_registered();
}

/// The rare side's fence: some microseconds.
pub(crate) fn heavy() {
    sys::heavy();
}

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod sys {
    use std::io::{Error, Write};
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
    use std::sync::atomic::{AtomicU8, compiler_fence, fence};

    const UNKNOWN: u8 = 0;
    const ARMED: u8 = 1;
    const READY: u8 = 2;
    const UNAVAILABLE: u8 = 3;

    static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

    pub(super) fn register() -> bool {
        if STATE.load(Acquire) == UNKNOWN {
            let agreed = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
            // The first registrar decides, so that a late refusal cannot take back what others
            // already rely on, nor a late success what they were refused.
            let next = if agreed { ARMED } else { UNAVAILABLE };
            let _ = STATE.compare_exchange(UNKNOWN, next, Relaxed, Relaxed);
        }
        if STATE.load(Acquire) == ARMED {
            heavy();
            STATE.store(READY, Release);
        }
        registered()
    }

    #[inline]
    pub(super) fn registered() -> bool {
        STATE.load(Acquire) == READY
    }

    #[inline]
    pub(super) fn light_registered() {
        compiler_fence(SeqCst);
    }

    pub(super) fn heavy() {
        // Before the look at the state: see the file head.
        fence(SeqCst);
        if matches!(STATE.load(Relaxed), ARMED | READY)
            && !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        {
            retry();
        }
    }

    /// A process that lost its registration in a way unknown to us gets it back here; one whose
    /// sandbox now forbids the call cannot go on: other threads already run without fences.
    #[cold]
    fn retry() {
        let again = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
            && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        if !again {
            let why = Error::last_os_error();
            let _ = writeln!(
                std::io::stderr(),
                "sward: membarrier(2) worked when the runtime started and fails now ({why}); \
                 a seccomp filter must allow it or be installed before"
            );
            std::process::abort();
        }
    }

    fn membarrier(command: libc::c_int) -> bool {
        let no_flags: libc::c_uint = 0;
        let any_cpu: libc::c_int = 0;
        // SAFETY: membarrier(2) takes three integers and no pointer; an unknown command is
        // refused with an error, and none of ours changes memory.
        let result = unsafe { libc::syscall(libc::SYS_membarrier, command, no_flags, any_cpu) };
        result == 0
    }
}

/// Where there is no membarrier: never registered, a full fence on both sides.
#[cfg(all(any(not(target_os = "linux"), miri), not(loom)))]
mod sys {
    use std::sync::atomic::{Ordering::SeqCst, fence};

    pub(super) fn register() -> bool {
        false
    }

    #[inline]
    pub(super) fn registered() -> bool {
        false
    }

    #[inline]
    pub(super) fn light_registered() {
        fence(SeqCst);
    }

    pub(super) fn heavy() {
        fence(SeqCst);
    }
}

/// In models: registered, so that what depends on it is explored; real fences, which loom knows.
#[cfg(loom)]
mod sys {
    use loom::sync::atomic::{Ordering::SeqCst, fence};

    pub(super) fn register() -> bool {
        true
    }

    pub(super) fn registered() -> bool {
        true
    }

    pub(super) fn light_registered() {
        fence(SeqCst);
    }

    pub(super) fn heavy() {
        fence(SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// Store buffering, with the light side never fenced by hardware: both sides missing the
    /// other's store would be the failure. Registration happens while both run.
    #[test]
    fn one_side_sees_the_other() {
        const ROUNDS: usize = 4_000;
        let x: Vec<_> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
        let y: Vec<_> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
        let turn = AtomicUsize::new(0);
        let (frequent, rare) = std::thread::scope(|s| {
            let side = |mine: &'static str| {
                let (x, y, turn) = (&x, &y, &turn);
                move || {
                    let mut missed = Vec::with_capacity(ROUNDS);
                    for i in 0..ROUNDS {
                        turn.fetch_add(1, Relaxed);
                        while turn.load(Relaxed) < 2 * i + 2 {
                            std::hint::spin_loop();
                        }
                        if mine == "light" {
                            x[i].store(1, Relaxed);
                            light();
                            missed.push(y[i].load(Relaxed) == 0);
                        } else {
                            y[i].store(1, Relaxed);
                            heavy();
                            missed.push(x[i].load(Relaxed) == 0);
                            if i == ROUNDS / 4 {
                                register();
                            }
                        }
                    }
                    missed
                }
            };
            let (a, b) = (s.spawn(side("light")), s.spawn(side("heavy")));
            (a.join().unwrap(), b.join().unwrap())
        });
        for i in 0..ROUNDS {
            assert!(
                !(frequent[i] && rare[i]),
                "round {i}: neither saw the other"
            );
        }
        assert_eq!(registered(), register());
    }
}
