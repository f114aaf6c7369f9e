//! What happens when a task runs off its stack: one clear message, then abort.
//!
//! Nouns: the *handler* runs for SIGSEGV and SIGBUS of the whole process, on the [`AltStack`] of
//! the thread that faulted (the task's own stack is full); the *lookup* is a function of the hub
//! that says which task this thread runs, and to which of its stacks (its own, or that of a
//! generator that it is in) an address belongs; the *previous* handlers were there before ours.
//!
//! ```text
//! fault --> address in a guard of the running task --> message on fd 2, abort
//!      \--> anything else --> previous handler, called as the kernel would
//!                        \--> none: default action restored, return, fault again
//! ```
//!
//! Invariants: everything below the handler is async-signal-safe: no allocation, no lock, no
//! formatting machinery. `PREVIOUS` is set before the handler is installed, `LOOKUP` at once
//! after: until then no task runs.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::Location;
use std::sync::OnceLock;

use super::memory;

/// Room for our handler, the lookup and a previous handler (backtrace printers are greedy).
const ALT_STACK: usize = 64 * 1024;
const ALT_GUARD: usize = memory::GRAIN;

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What the handler asks the hub: the task that runs on this thread.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where a fault means overflow.
    pub(crate) guard: Range<usize>,
    /// Where the generator was made that the stack belongs to; `None`: the task's own.
    pub(crate) generator: Option<&'static Location<'static>>,
    /// Usable bytes of the stack.
    pub(crate) size: usize,
    pub(crate) id: u64,
    /// The name, not zero-terminated; `name_len` 0: none. Readable until the task ends.
    pub(crate) name: *const u8,
    pub(crate) name_len: usize,
}

type Lookup = fn(usize) -> Option<Running>;

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

extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo (SA_SIGINFO), which nobody changes.
    let fault = unsafe { &*info };
    // Positive: sent by the kernel for a fault, so that there is an address.
    if fault.si_code > 0 {
        // SAFETY: both signals have the field.
        let address = unsafe { fault.si_addr() } as usize;
        if let Some(task) = LOOKUP.get().and_then(|lookup| lookup(address))
            && task.guard.contains(&address)
        {
            report(&task);
            // SAFETY: no arguments, does not return.
            unsafe { libc::abort() };
        }
    }
    pass_on(signal, fault.si_code, info, context);
}

fn report(task: &Running) {
    let mut text = Text {
        bytes: [0; 512],
        len: 0,
    };
    text.push(b"\nsward: ");
    if let Some(site) = task.generator {
        let path = site.file().as_bytes();
        text.push(b"the generator made at ");
        text.push(&path[path.len().saturating_sub(100)..]);
        text.push(b":");
        text.push_number(site.line().into());
        text.push(b" in ");
    }
    text.push(b"task ");
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
    text.push(b" KiB\nsward: give it more by ");
    text.push(match task.generator {
        None => b"Builder::stack_size, every task by ",
        Some(_) => b"Generator::with_stack_size, every task by ",
    });
    text.push(
        b"Runtime::builder().stack_size or SWARD_STACK_SIZE,\n\
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
        type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
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
        let size = (ALT_STACK + frame).next_multiple_of(memory::GRAIN);
        let len = ALT_GUARD + size;
        let low = memory::map(len)?;
        let ours = libc::stack_t {
            ss_sp: (low + ALT_GUARD) as *mut libc::c_void,
            ss_flags: 0,
            ss_size: size,
        };
        let mut previous = ours;
        // SAFETY: the low end of a mapping made just now, which nobody uses yet.
        let done = unsafe { memory::install_guard(low, ALT_GUARD, memory::guard_is_vma()) };
        let done = done.and_then(|()| {
            // SAFETY: `ours` names `size` bytes of a mapping that lives until `drop` has taken
            // them out of use again; `previous` is ours to be written.
            match unsafe { libc::sigaltstack(&raw const ours, &raw mut previous) } {
                0 => Ok(Self {
                    low,
                    len,
                    previous,
                    _thread: PhantomData,
                }),
                _ => Err(io::Error::last_os_error()),
            }
        });
        if done.is_err() {
            // SAFETY: our own mapping, and it did not become the signal stack.
            unsafe { memory::unmap(low, len) };
        }
        done
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        // SAFETY: what the kernel said was in use before us: still valid, or SS_DISABLE.
        unsafe { libc::sigaltstack(&raw const self.previous, std::ptr::null_mut()) };
        // SAFETY: our own mapping, which the kernel no longer uses as a signal stack.
        unsafe { memory::unmap(self.low, self.len) };
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::cell::Cell;
    use std::hint::black_box;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::Arc;

    use corosensei::Coroutine;
    use corosensei::stack::{Stack, StackPointer};

    use super::super::budget::Budget;
    use super::super::stack::tests::{is_child, rerun};
    use super::super::stack::{StackPool, StackSlot, StackSpec};
    use super::*;

    thread_local! {
        static TASK: Cell<Option<(usize, usize, usize)>> = const { Cell::new(None) };
    }

    fn lookup(_: usize) -> Option<Running> {
        let name = if is_child("unnamed") { "" } else { "eater" };
        TASK.get().map(|(low, high, size)| Running {
            guard: low..high,
            generator: None,
            size,
            id: 1_234_567,
            name: name.as_ptr(),
            name_len: name.len(),
        })
    }

    struct OnSlot(StackSlot);

    // SAFETY: a live slot: at least MIN_STACK usable, with a guard below.
    unsafe impl Stack for OnSlot {
        fn base(&self) -> StackPointer {
            StackPointer::new(self.0.top()).unwrap()
        }
        fn limit(&self) -> StackPointer {
            StackPointer::new(self.0.bottom()).unwrap()
        }
    }

    #[inline(never)]
    fn deep(n: u64) -> u64 {
        let frame = black_box([n; 16]);
        if n == 0 {
            0
        } else {
            deep(n - 1) + black_box(frame)[7]
        }
    }

    fn overflow_a_task() {
        let mut pool = StackPool::new(Arc::new(Budget::new(10, 1 << 30, String::new())));
        let slot = pool
            .take(StackSpec::new(64 << 10, 16 << 10).unwrap())
            .unwrap();
        TASK.set(Some((slot.guard_low(), slot.bottom(), slot.spec().size())));
        let mut task = Coroutine::<(), (), u64, _>::with_stack(OnSlot(slot), |_, ()| deep(1 << 40));
        task.resume(());
    }

    #[test]
    fn an_overflow_is_named_and_aborts() {
        for how in ["named", "unnamed"] {
            if is_child(how) {
                let _alt = AltStack::install_for_thread().unwrap();
                install(lookup);
                overflow_a_task();
                unreachable!();
            }
        }
        for (how, name) in [
            ("named", "1234567 'eater'"),
            ("unnamed", "1234567 (unnamed)"),
        ] {
            let out = rerun(module_path!(), "an_overflow_is_named_and_aborts", how);
            assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{out:?}");
            let text = String::from_utf8(out.stderr).unwrap();
            let line = format!("task {name} has overflowed its stack of 64 KiB");
            assert!(text.contains(&line), "{text}");
            for way in ["Builder::stack_size", "SWARD_STACK_SIZE", "on_worker_stack"] {
                assert!(text.contains(way), "{text}");
            }
        }
    }

    extern "C" fn plain(signal: libc::c_int) {
        // SAFETY: a number and nothing else.
        unsafe { libc::_exit(if signal == libc::SIGBUS { 41 } else { 40 }) };
    }

    extern "C" fn with_info(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's siginfo, passed on.
        let info = unsafe { &*info };
        // SAFETY: a fault has an address.
        let address = unsafe { info.si_addr() } as usize;
        // SAFETY: a number and nothing else.
        unsafe { libc::_exit(if address == NOWHERE { 42 } else { 43 }) };
    }

    /// Never mapped: below vm.mmap_min_addr.
    const NOWHERE: usize = 0x120;

    fn fault_elsewhere() {
        let _alt = AltStack::install_for_thread().unwrap();
        TASK.set(Some((0x1000, 0x2000, 4096)));
        install(lookup);
        // SAFETY: faults, which is the point; the process is a test's child.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(NOWHERE).write_volatile(1) };
    }

    /// Not for this file: each way in which a handler may have been there before.
    #[test]
    fn other_faults_go_to_whom_they_went_before() {
        let set = |signal, function: usize, flags| {
            let mut action = default_action();
            action.sa_sigaction = function;
            action.sa_flags = flags;
            set_action(signal, &action);
        };
        let plain = plain as *const () as usize;
        let with_info = with_info as *const () as usize;
        // SAFETY: a number and nothing else.
        let send = |signal| unsafe { libc::raise(signal) };
        if is_child("plain") {
            set(libc::SIGSEGV, plain, libc::SA_RESETHAND);
            fault_elsewhere();
        } else if is_child("info") {
            set(libc::SIGSEGV, with_info, libc::SA_SIGINFO);
            fault_elsewhere();
        } else if is_child("default") {
            set(libc::SIGSEGV, libc::SIG_DFL, 0);
            fault_elsewhere();
        } else if is_child("ignored") {
            set(libc::SIGSEGV, libc::SIG_IGN, 0);
            fault_elsewhere();
        } else if is_child("sent, ignored") {
            set(libc::SIGSEGV, libc::SIG_IGN, 0);
            install(lookup);
            send(libc::SIGSEGV);
        } else if is_child("sent") {
            set(libc::SIGBUS, libc::SIG_DFL, 0);
            install(lookup);
            send(libc::SIGBUS);
        } else if is_child("sent to plain") {
            set(libc::SIGBUS, plain, 0);
            install(lookup);
            send(libc::SIGBUS);
        } else {
            let status = |how| {
                let out = rerun(
                    module_path!(),
                    "other_faults_go_to_whom_they_went_before",
                    how,
                );
                assert!(
                    !String::from_utf8_lossy(&out.stderr).contains("sward"),
                    "{out:?}"
                );
                (out.status.code(), out.status.signal())
            };
            assert_eq!(status("plain"), (Some(40), None));
            assert_eq!(status("info"), (Some(42), None));
            assert_eq!(status("default"), (None, Some(libc::SIGSEGV)));
            assert_eq!(status("ignored"), (None, Some(libc::SIGSEGV)));
            assert_eq!(status("sent, ignored"), (Some(0), None));
            assert_eq!(status("sent"), (None, Some(libc::SIGBUS)));
            assert_eq!(status("sent to plain"), (Some(41), None));
        }
    }

    fn current_alt() -> libc::stack_t {
        let mut now = libc::stack_t {
            ss_sp: std::ptr::null_mut(),
            ss_flags: 0,
            ss_size: 0,
        };
        // SAFETY: asks only.
        unsafe { libc::sigaltstack(std::ptr::null(), &raw mut now) };
        now
    }

    #[test]
    fn the_alternate_stack_comes_and_goes() {
        std::thread::spawn(|| {
            let before = current_alt();
            let alt = AltStack::install_for_thread().unwrap();
            let now = current_alt();
            assert!(now.ss_size >= ALT_STACK);
            assert_eq!(now.ss_sp as usize, alt.low + ALT_GUARD);
            drop(alt);
            let after = current_alt();
            assert_eq!(
                (after.ss_sp, after.ss_flags),
                (before.ss_sp, before.ss_flags)
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn text_is_cut_and_numbers_are_right() {
        let mut text = Text {
            bytes: [0; 512],
            len: 0,
        };
        for n in [0, 7, 1024, u64::MAX] {
            text.push_number(n);
            text.push(b" ");
        }
        assert_eq!(&text.bytes[..text.len], b"0 7 1024 18446744073709551615 ");
        text.push(&[b'x'; 600]);
        assert_eq!((text.len, text.bytes[511]), (512, b'x'));
    }
}
