//! Fibers: a stack, the registers saved on it, and a header that its owner keeps with it.
//!
//! Nouns: a *fiber* is one corosensei coroutine on one [`StackSlot`]; its *block* (coroutine,
//! slot, header) lies at the top of the slot's first page, which the fiber touches anyway:
//!
//! ```text
//! slot top (page aligned) +-----------------------+
//!                         | colour * 64 B unused  |  spreads the tops over cache sets
//!                         +-----------------------+
//!                         | Block<H>              |  FiberRef points here
//!                         +-----------------------+ <- base that the coroutine sees
//!                         | frames, growing down  |
//!                         ~                       ~
//!                         +-----------------------+ <- slot bottom
//!                         | guard                 |
//! ```
//!
//! Invariants: a fiber is resumed only by the OS thread that created it and never from within
//! itself; a suspended coroutine is never dropped (its frames would be force-unwound): it either
//! runs to its end and is [released](FiberRef::release), or its slot is leaked.
//!
//! Fibers in fibers: code on a fiber may resume another one, a generator's, and that one's code may
//! suspend the outer fiber (a park inside a generator). It is sound in corosensei 0.3.4 because
//! 1. `Yielder::suspend` saves the registers on the stack that it is *called* on, and switches to
//!    the parent link at the base of the stack that it *belongs* to, the outer one's;
//! 2. the outer one's `resume` gets the saved stack pointer as an opaque word, keeps it, and jumps
//!    there at the next resume, which also renews the parent link at the outer one's base;
//! 3. the inner one's parent link points into the outer one's stack, which nobody touches while
//!    the outer one is suspended; nor does anybody resume the inner one meanwhile, because its
//!    own `resume` call lies there unfinished (`&mut Coroutine`).
//!
//! So the stacks of a task and of the generators that it is in are one chain, switched out and in
//! as one. AddressSanitizer is told of the right stacks too: `resume` notes where it was left from.
//!
//! This is the only file that switches stacks.

pub(crate) mod budget;
pub(crate) mod memory;
pub(crate) mod overflow;
pub(crate) mod stack;
pub(crate) mod trace;

use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use self::stack::StackSlot;

/// Bytes by which one colour differs from the next.
const COLOUR: usize = 64;

/// The part of a slot that the coroutine may use.
struct Bounds {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: `create` takes the bounds from a StackSlot, which has a guard below `limit` and at
// least MIN_STACK (16 KiB) above it; the block takes less than a page of that.
unsafe impl Stack for Bounds {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

type Co = Coroutine<(), (), (), Bounds>;

/// The order matters: what a switch touches comes first, next to the words that corosensei
/// keeps just below; together they fill one cache line, and the header begins the next.
#[repr(C, align(16))]
struct Block<H> {
    coroutine: UnsafeCell<MaybeUninit<ManuallyDrop<Co>>>,
    yielder: Cell<*const Yielder<(), ()>>,
    header: H,
    slot: StackSlot,
}

/// A closure that corosensei wants to be `Send`, because a coroutine of its could be resumed by
/// another thread than it was made on.
struct SameThread<F>(F);

// SAFETY: a fiber is resumed only by the thread that made it (file head), so its parent's stack is
// that of the same thread: nothing is sent.
unsafe impl<F> Send for SameThread<F> {}

impl<F: FnOnce() -> R, R> SameThread<F> {
    fn call(self) -> R {
        (self.0)()
    }
}

/// A pointer to a fiber's block: valid from [`FiberRef::create`] to [`FiberRef::release`].
pub(crate) struct FiberRef<H: 'static>(NonNull<Block<H>>);

impl<H> Clone for FiberRef<H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<H> Copy for FiberRef<H> {}
impl<H> PartialEq for FiberRef<H> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<H> FiberRef<H> {
    /// Room that a block takes at the top of a slot, beside the colour: so much that the block
    /// begins 16 bytes into a cache line, with the coroutine's parent link just below it.
    const RESERVE: usize = (size_of::<Block<H>>() + 16).next_multiple_of(64) - 16;

    /// Makes a fiber on `slot` that will run `entry(fiber)` at its first resume.
    ///
    /// # Safety
    /// No copy of the result may be used after `release`, nor on another OS thread.
    pub(crate) unsafe fn create(slot: StackSlot, header: H, entry: fn(Self)) -> Self {
        let at = block_address::<H>(slot.top(), slot.colour() * COLOUR);
        let block = at as *mut Block<H>;
        let bounds = (NonZeroUsize::new(at), NonZeroUsize::new(slot.bottom()));
        let (Some(base), Some(limit)) = bounds else {
            unreachable!("a mapped stack is not at address 0")
        };
        // SAFETY: `at` lies RESERVE + colour below the top of a slot that we own and that has
        // at least MIN_STACK usable bytes, is 16-aligned, and nothing else uses that memory.
        unsafe {
            block.write(Block {
                coroutine: UnsafeCell::new(MaybeUninit::uninit()),
                yielder: Cell::new(std::ptr::null()),
                header,
                slot,
            });
        }
        // SAFETY: written just now, and not null as `base` is not.
        let this = Self(unsafe { NonNull::new_unchecked(block) });
        let coroutine = Co::with_stack(Bounds { base, limit }, move |yielder, ()| {
            this.block().yielder.set(yielder);
            entry(this);
        });
        // SAFETY: nobody else looks at the cell: the fiber has not been resumed yet.
        let cell = unsafe { &mut *this.block().coroutine.get() };
        cell.write(ManuallyDrop::new(coroutine));
        this
    }

    fn block(&self) -> &Block<H> {
        // SAFETY: by `create`'s contract the block is alive while any copy of `self` is used.
        unsafe { self.0.as_ref() }
    }

    /// Returns the header.
    #[inline]
    pub(crate) fn header(&self) -> &H {
        &self.block().header
    }

    /// Returns the stack slot that the fiber runs on.
    pub(crate) fn slot(&self) -> &StackSlot {
        &self.block().slot
    }

    /// Runs the fiber until it suspends (`false`) or ends (`true`).
    ///
    /// # Safety
    /// The caller is the fiber's owner thread, not on this fiber, and the fiber has not ended.
    #[inline]
    pub(crate) unsafe fn resume(self) -> bool {
        // SAFETY: only the owner thread comes here, and not re-entrantly, so this is the one
        // reference to the cell; code on the fiber never touches it.
        let cell = unsafe { &mut *self.block().coroutine.get() };
        // SAFETY: `create` initialised it.
        let coroutine = unsafe { cell.assume_init_mut() };
        matches!(coroutine.resume(()), CoroutineResult::Return(()))
    }

    /// Switches from this fiber back to where it was resumed.
    ///
    /// # Safety
    /// The caller runs on this very fiber, or on one that was resumed from it (file head).
    #[inline(always)]
    pub(crate) unsafe fn suspend(self) {
        let yielder = self.block().yielder.get();
        // SAFETY: set at the fiber's entry; it points to the bottom frame of a stack that has not
        // ended, as the caller is on it or was resumed from it.
        let yielder = unsafe { &*yielder };
        yielder.suspend(());
    }

    /// Runs `f` on the stack of the thread that resumed this fiber.
    ///
    /// # Safety
    /// The caller runs on this very fiber or on one that was resumed from it, and `f` suspends
    /// neither.
    pub(crate) unsafe fn on_parent_stack<R>(self, f: impl FnOnce() -> R) -> R {
        let yielder = self.block().yielder.get();
        // SAFETY: as in `suspend`.
        let yielder = unsafe { &*yielder };
        let f = SameThread(f);
        yielder.on_parent_stack(move || f.call())
    }

    /// Takes an ended (or never resumed) fiber apart: the header and the slot.
    ///
    /// # Safety
    /// The fiber is not suspended in mid-run, and no copy of `self` is used afterwards.
    pub(crate) unsafe fn release(self) -> (H, StackSlot) {
        // SAFETY: nobody uses the block after this; the coroutine inside is ManuallyDrop and
        // holds nothing once it has ended.
        let block = unsafe { self.0.read() };
        (block.header, block.slot)
    }

    /// As [`release`](Self::release), but ends the header where it lies: a large one is not copied.
    ///
    /// # Safety
    /// As [`release`](Self::release).
    pub(crate) unsafe fn end(self) -> StackSlot {
        let block = self.0.as_ptr();
        // SAFETY: as in `release`: nobody uses the block after this.
        let block = unsafe { &mut *block };
        // SAFETY: ended once, and not used afterwards.
        unsafe { std::ptr::drop_in_place(&raw mut block.header) };
        // SAFETY: moved out once. The stack that the block lies on is mapped as long as the slot
        // has not been given back.
        unsafe { std::ptr::read(&raw const block.slot) }
    }

    /// Returns the fiber whose slot ends at `top`, `offset` bytes of colour below it.
    ///
    /// # Safety
    /// The slot is taken, and `create::<H>` made a fiber on it that has not been released.
    pub(crate) unsafe fn at(top: usize, offset: usize) -> Self {
        let block = block_address::<H>(top, offset) as *mut Block<H>;
        // SAFETY: by the contract this is the address of a live block, so not null.
        Self(unsafe { NonNull::new_unchecked(block) })
    }

    /// Tells the processor that the block at that address, if it is one, is wanted soon.
    #[inline]
    pub(crate) fn prefetch_word(word: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch of any address is harmless.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(word as *const i8) };
        }
        let _ = word;
    }

    /// The address, as an opaque word for storage elsewhere.
    pub(crate) fn to_word(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// # Safety
    /// `word` came from `to_word` of a fiber that has not been released.
    #[inline]
    pub(crate) unsafe fn from_word(word: usize) -> Self {
        // SAFETY: by the contract.
        Self(unsafe { NonNull::new_unchecked(word as *mut Block<H>) })
    }
}

fn block_address<H: 'static>(top: usize, offset: usize) -> usize {
    top - offset - FiberRef::<H>::RESERVE
}
