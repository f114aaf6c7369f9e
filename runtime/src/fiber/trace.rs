//! Return addresses: what a stack says about how it came to where it is.
//!
//! Addresses only: a walk allocates nothing and looks at no symbols. Frames are told apart by their
//! stack pointers, so that of a task only its own frames are kept, not those of the walker nor those
//! of the worker below it. The walk itself may stand on another stack than the one it looks at:
//! corosensei's switches have unwinding tables.

use std::ops::Range;

/// The most frames that are kept of one stack.
pub(crate) const DEPTH: usize = 64;

/// Which frames to keep.
pub(crate) struct Walk {
    /// The task's stack; the walk ends below its last frame there.
    pub(crate) stack: Range<usize>,
    pub(crate) from: From,
}

/// Where a walk begins to keep frames. A task may have lent itself the worker's stack, so its frames
/// may begin there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// At the first frame on the task's stack.
    Stack,
    /// At the walker's own.
    Here,
    /// At the frame that was interrupted at that instruction.
    Instruction(usize),
}

/// Calls `keep` with the addresses of the calling stack that `walk` asks for, innermost first, until
/// it returns `false`.
///
/// In a signal handler this is safe where the unwinder is: it takes no lock and allocates nothing
/// with glibc 2.35 or later; before, it takes the loader's lock.
pub(crate) fn walk(walk: &Walk, keep: &mut dyn FnMut(usize) -> bool) {
    let mut begun = walk.from == From::Here;
    let mut entered = false;
    let look = |frame: &backtrace::Frame| {
        let (ip, sp) = (frame.ip() as usize, frame.sp() as usize);
        let inside = walk.stack.contains(&sp);
        if entered && !inside {
            return false;
        }
        let interrupted = !begun && walk.from == From::Instruction(ip);
        begun |= interrupted || (inside && walk.from == From::Stack);
        if !begun {
            return true;
        }
        entered |= inside;
        // The others are return addresses, one behind the call.
        keep(ip + usize::from(interrupted))
    };
    // SAFETY: the lock that is left out guards Windows' dbghelp; here each call has its own state.
    unsafe { backtrace::trace_unsynchronized(look) };
}
