//! Where a task is that runs: a signal makes its thread walk its own stack.
//!
//! Off unless [`RuntimeBuilder::sampling`](crate::RuntimeBuilder::sampling) or `SWARD_SAMPLING=1`
//! asks for it. The signal is `SIGURG`, which is ignored by default, so a stray one does no harm.
//!
//! One sample at a time goes through the one [`Slot`]:
//! ```text
//! FREE --(asker)--> ASKED --(handler on the right thread)--> WRITING --(handler)--> DONE
//!   ^-------(asker: nobody came)--/                                                  /
//!   ^-----------------------------(asker has read it)-------------------------------/
//! ```
//! The handler runs on the worker's alternate stack, allocates nothing, and writes to the slot only.
//! What is *not* guaranteed: the unwinder is not on POSIX's list of async-signal-safe functions. With
//! glibc 2.35 or later it takes no lock; before, it takes the loader's, which hangs if the signal came
//! inside `dlopen`. And code without unwinding tables for each instruction (assembly, some JITs) may
//! give a wrong frame, or in the worst case a fault. Hence opt-in. A handler that hangs ends sampling
//! for the process, not more.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use crate::clock;
use crate::fiber::trace::{self, DEPTH, From, Walk};
use crate::hub::control::ENDED;
use crate::hub::current;
use crate::hub::shared::RuntimeShared;
use crate::sight::symbols::TaskBacktrace;

const SIGNAL: libc::c_int = libc::SIGURG;
/// How long a thread has to come by: it may wait for a core.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a walk may take.
const WALK: Duration = Duration::from_secs(1);
const NAME: usize = 64;

const FREE: u32 = 0;
const ASKED: u32 = 1;
const WRITING: u32 = 2;
const DONE: u32 = 3;

struct Slot {
    state: AtomicU32,
    /// The address of the worker that is meant.
    worker: AtomicUsize,
    task: AtomicU64,
    len: AtomicUsize,
    frames: [AtomicUsize; DEPTH],
    name_len: AtomicUsize,
    name: [AtomicU8; NAME],
}

static SLOT: Slot = Slot {
    state: AtomicU32::new(FREE),
    worker: AtomicUsize::new(0),
    task: AtomicU64::new(0),
    len: AtomicUsize::new(0),
    frames: [const { AtomicUsize::new(0) }; DEPTH],
    name_len: AtomicUsize::new(0),
    name: [const { AtomicU8::new(0) }; NAME],
};
/// Somebody uses the slot; for ever, if a handler hangs in it.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Where a running task was.
pub(crate) struct Sample {
    pub(crate) task: u64,
    /// At most its first 64 bytes.
    pub(crate) name: Option<String>,
    pub(crate) backtrace: TaskBacktrace,
}

/// Installs the handler, once per process.
pub(crate) fn enable() -> io::Result<()> {
    static ENABLED: OnceLock<Result<(), String>> = OnceLock::new();
    let done = ENABLED.get_or_init(|| {
        // The unwinder's first call may load what later ones need.
        let stack = 0..0;
        let from = From::Here;
        trace::walk(&Walk { stack, from }, &mut |_| true);
        install().map_err(|e| e.to_string())
    });
    done.clone().map_err(io::Error::other)
}

fn install() -> io::Result<()> {
    // SAFETY: all zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no new action; the old one is written to a live local.
    if unsafe { libc::sigaction(SIGNAL, std::ptr::null(), &raw mut action) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return Err(io::Error::other(
            "sampling needs SIGURG, but this program has a handler of its own for it \
             (leave RuntimeBuilder::sampling and SWARD_SAMPLING off)",
        ));
    }
    // On the alternate stack: the kernel's frame alone can be larger than what a task has left.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    action.sa_sigaction = on_signal as *const () as usize;
    // SAFETY: a valid sigaction whose handler has the signature that SA_SIGINFO promises.
    if unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(hub) = current::hub() else { return };
    let me = std::ptr::from_ref(hub.shared).addr();
    if SLOT.state.load(Acquire) != ASKED
        || SLOT.worker.load(Relaxed) != me
        || SLOT
            .state
            .compare_exchange(ASKED, WRITING, AcqRel, Relaxed)
            .is_err()
    {
        return;
    }
    SLOT.task.store(0, Relaxed);
    SLOT.len.store(0, Relaxed);
    SLOT.name_len.store(0, Relaxed);
    if let Some(fiber) = hub.current() {
        let control = fiber.header();
        SLOT.task.store(control.id, Relaxed);
        let alive = control.quirks.get() & ENDED == 0;
        let name = if alive { control.task.name() } else { None };
        if let Some(name) = name {
            let bytes = name.as_bytes();
            for (to, from) in SLOT.name.iter().zip(bytes) {
                to.store(*from, Relaxed);
            }
            SLOT.name_len.store(bytes.len().min(NAME), Relaxed);
        }
        // SAFETY: the kernel passes a ucontext (SA_SIGINFO).
        let from = From::Instruction(counter(unsafe { &*context.cast::<libc::ucontext_t>() }));
        let stack = fiber.slot().bottom()..fiber.slot().top();
        let mut len = 0;
        trace::walk(&Walk { stack, from }, &mut |address| {
            SLOT.frames[len].store(address, Relaxed);
            len += 1;
            len < DEPTH
        });
        SLOT.len.store(len, Relaxed);
    }
    SLOT.state.store(DONE, Release);
}

/// The instruction that was interrupted.
fn counter(context: &libc::ucontext_t) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
    }
    #[cfg(target_arch = "aarch64")]
    {
        context.uc_mcontext.pc as usize
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = context;
        0
    }
}

/// Samples the task that this worker runs. `None`: sampling is off, it runs none, or its thread did
/// not come by in time.
///
/// Blocks the calling thread for some tens of microseconds, 0.5 s at most if the worker gets no core.
pub(crate) fn of(rt: &RuntimeShared, worker: usize) -> Option<Sample> {
    let shared = rt.workers[worker];
    let thread = shared.published.thread.load(Relaxed);
    if !rt.config.sampling
        || thread == 0
        || current::hub().is_some_and(|h| h.index == worker && std::ptr::eq(&*h.rt, rt))
    {
        return None;
    }
    let begun = clock::now();
    while BUSY.swap(true, Acquire) {
        if !pause(begun, PATIENCE * 2) {
            return None;
        }
    }
    SLOT.worker
        .store(std::ptr::from_ref(shared).addr(), Relaxed);
    SLOT.state.store(ASKED, Release);
    let process = std::process::id();
    // SAFETY: numbers only. The thread may have ended, and another of this process have its number
    // now: its handler finds that it is not meant.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) };
    let begun = clock::now();
    while SLOT.state.load(Acquire) != DONE {
        if !pause(begun, PATIENCE)
            && SLOT
                .state
                .compare_exchange(ASKED, FREE, AcqRel, Relaxed)
                .is_ok()
        {
            BUSY.store(false, Release);
            return None;
        }
        if !pause(begun, WALK) {
            return None;
        }
    }
    let sample = read();
    SLOT.state.store(FREE, Relaxed);
    BUSY.store(false, Release);
    sample
}

fn read() -> Option<Sample> {
    let frames = &SLOT.frames[..SLOT.len.load(Relaxed)];
    let name = &SLOT.name[..SLOT.name_len.load(Relaxed)];
    let name: Vec<u8> = name.iter().map(|b| b.load(Relaxed)).collect();
    let addresses = frames.iter().map(|f| f.load(Relaxed)).collect();
    (!frames.is_empty()).then(|| Sample {
        task: SLOT.task.load(Relaxed),
        name: (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned()),
        backtrace: TaskBacktrace::new(addresses),
    })
}

/// Waits a little. `false`: `limit` has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "a handler on another thread has nothing to wake us with"
)]
fn pause(begun: Instant, limit: Duration) -> bool {
    std::thread::sleep(Duration::from_micros(20));
    clock::now().saturating_duration_since(begun) < limit
}
