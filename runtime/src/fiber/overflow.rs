//! What happens when a task runs off its stack: one clear message, then abort.
//!
//! Nouns: the *handler* runs for SIGSEGV and SIGBUS of the whole process, on the [`AltStack`] of
//! the thread that faulted (the task's own stack is full); the *lookup* is a function of the hub
//! that says which task this thread runs; the *previous* handlers were there before ours.
//!
//! ```text
//! fault --> address in the running task's guard --> message on fd 2, abort
//!      \--> anything else --> previous handler, called as the kernel would
//!                        \--> none: default action restored, return, fault again
//! ```
//!
//! Invariants: everything below the handler is async-signal-safe: no allocation, no lock, no
//! formatting machinery. `PREVIOUS` and `LOOKUP` are set before the handler is installed.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

use super::stack;

/// Room for our handler, the lookup and a previous handler (backtrace printers are greedy).
const ALT_STACK: usize = 64 * 1024;
const ALT_GUARD: usize = stack::GRAIN;

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What the handler asks the hub: the task that runs on this thread.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where a fault means overflow.
    pub(crate) guard: Range<usize>,
    /// Usable bytes of the stack.
    pub(crate) size: usize,
    pub(crate) id: u64,
    /// The name, not zero-terminated; `name_len` 0: none. Readable until the task ends.
    pub(crate) name: *const u8,
    pub(crate) name_len: usize,
}

type Lookup = fn() -> Option<Running>;

static LOOKUP: OnceLock<Lookup> = OnceLock::new();
static PREVIOUS: [OnceLock<libc::sigaction>; 2] = [OnceLock::new(), OnceLock::new()];

/// Installs the handlers, once per process. `lookup` must be async-signal-safe, and the name that
/// it returns readable.
pub(crate) fn install(lookup: Lookup) {
    LOOKUP.get_or_init(|| {
        for (&signal, previous) in SIGNALS.iter().zip(&PREVIOUS) {
            let before = *previous.get_or_init(|| current_action(signal));
            let mut ours = default_action();
            ours.sa_sigaction = handler as *const () as usize;
            // As the previous handler expects to run, since we may end up calling it.
            ours.sa_mask = before.sa_mask;
            let inherited = before.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART);
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | inherited;
            set_action(signal, &ours);
        }
        lookup
    });
}

fn default_action() -> libc::sigaction {
    // SAFETY: a C struct of integers and an Option of a function pointer: all zeros are valid and
    // mean SIG_DFL, no flags, an empty mask.
    unsafe { std::mem::zeroed() }
}

fn current_action(signal: libc::c_int) -> libc::sigaction {
    let mut action = default_action();
    // SAFETY: no new action, and `action` is ours to be written. It fails only for a signal
    // number that does not exist.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    action
}

fn set_action(signal: libc::c_int, action: &libc::sigaction) {
    // SAFETY: `action` names SIG_DFL or `handler`, which has the signature that its flags promise.
    unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
}

extern "C" fn handler(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo (SA_SIGINFO).
    let code = unsafe { (*info).si_code };
    // Positive: sent by the kernel for a fault, so that there is an address.
    if code > 0 {
        // SAFETY: as above; both signals have the field.
        let address = unsafe { (*info).si_addr() } as usize;
        if let Some(task) = LOOKUP.get().and_then(|lookup| lookup())
            && task.guard.contains(&address)
        {
            report(&task);
            // SAFETY: no arguments, does not return.
            unsafe { libc::abort() };
        }
    }
    pass_on(signal, code, info, context);
}

fn report(task: &Running) {
    let mut text = Text { bytes: [0; 512], len: 0 };
    text.push(b"\nsward: task ");
    text.push_number(task.id);
    if task.name_len == 0 {
        text.push(b" (unnamed)");
    } else {
        // SAFETY: by `install`'s contract with the lookup; the task is the one that faulted, so
        // it has not ended.
        let name = unsafe { std::slice::from_raw_parts(task.name, task.name_len) };
        text.push(b" '");
        text.push(&name[..name.len().min(100)]);
        text.push(b"'");
    }
    text.push(b" has overflowed its stack of ");
    text.push_number(task.size as u64 / 1024);
    text.push(
        b" KiB\nsward: give it more by Builder::stack_size, every task by \
        Runtime::builder().stack_size or SWARD_STACK_SIZE,\n\
        sward: or run the deep part in on_worker_stack. Aborting.\n",
    );
    // SAFETY: the pointer and the length are of initialised bytes of `text`. Nobody is left to
    // be told of a failure.
    unsafe { libc::write(2, text.bytes.as_ptr().cast(), text.len) };
}

/// A line under construction; what does not fit is cut off.
struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Text {
    fn push(&mut self, more: &[u8]) {
        for (to, from) in self.bytes[self.len..].iter_mut().zip(more) {
            *to = *from;
            self.len += 1;
        }
    }

    fn push_number(&mut self, mut n: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return self.push(&digits[first..]);
            }
        }
    }
}

/// Does what would have happened without us.
fn pass_on(
    signal: libc::c_int,
    code: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let slot = usize::from(signal == SIGNALS[1]);
    let previous = PREVIOUS[slot].get().copied().unwrap_or_else(default_action);
    let has_handler = !matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
    if !has_handler || previous.sa_flags & libc::SA_RESETHAND != 0 {
        // The kernel does not let a fault be ignored either.
        let ignored = previous.sa_sigaction == libc::SIG_IGN && code <= 0;
        if ignored {
            return;
        }
        set_action(signal, &default_action());
    }
    if !has_handler {
        if code <= 0 {
            // Sent by somebody: it will not come again by itself as a fault does. It is blocked
            // until we return.
            // SAFETY: a signal number and nothing else.
            unsafe { libc::raise(signal) };
        }
    } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
        type WithInfo =
            extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: not SIG_DFL or SIG_IGN, so a function, of this type by SA_SIGINFO.
        let call = unsafe { std::mem::transmute::<usize, WithInfo>(previous.sa_sigaction) };
        call(signal, info, context);
    } else {
        type Plain = extern "C" fn(libc::c_int);
        // SAFETY: not SIG_DFL or SIG_IGN, so a function, of this type without SA_SIGINFO.
        let call = unsafe { std::mem::transmute::<usize, Plain>(previous.sa_sigaction) };
        call(signal);
    }
}

/// A signal stack of the calling thread, with a guard; the previous one comes back when this is
/// dropped, which must happen on the same thread (it is `!Send`).
#[derive(Debug)]
pub(crate) struct AltStack {
    low: usize,
    len: usize,
    previous: libc::stack_t,
    _thread: PhantomData<*const ()>,
}

impl AltStack {
    /// Gives the calling thread a signal stack.
    pub(crate) fn install_for_thread() -> io::Result<Self> {
        // SAFETY: takes a number. The kernel's own frame can be larger than 8 KiB (AVX-512, AMX).
        let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        let size = (ALT_STACK + frame).next_multiple_of(stack::GRAIN);
        let len = ALT_GUARD + size;
        let low = stack::map(len)?;
        let ours = libc::stack_t {
            ss_sp: (low + ALT_GUARD) as *mut libc::c_void,
            ss_flags: 0,
            ss_size: size,
        };
        let mut previous = ours;
        // SAFETY: the low end of a mapping made just now, which nobody uses yet.
        let done = unsafe { stack::install_guard(low, ALT_GUARD, stack::guard_is_vma()) };
        let done = done.and_then(|()| {
            // SAFETY: `ours` names `size` bytes of a mapping that lives until `drop` has taken
            // them out of use again; `previous` is ours to be written.
            match unsafe { libc::sigaltstack(&raw const ours, &raw mut previous) } {
                0 => Ok(Self { low, len, previous, _thread: PhantomData }),
                _ => Err(io::Error::last_os_error()),
            }
        });
        if done.is_err() {
            // SAFETY: our own mapping, and it did not become the signal stack.
            unsafe { stack::unmap(low, len) };
        }
        done
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        // SAFETY: what the kernel said was in use before us: still valid, or SS_DISABLE.
        unsafe { libc::sigaltstack(&raw const self.previous, std::ptr::null_mut()) };
        // SAFETY: our own mapping, which the kernel no longer uses as a signal stack.
        unsafe { stack::unmap(self.low, self.len) };
    }
}
