//! Memory for what the host hands over.
//!
//! A host call that returns bytes makes the host call our `malloc` and leaves the bytes
//! there. While a request is decided they come to lie in one scratch buffer, which the next
//! request uses again: no allocator runs, and the same few cache lines are touched each
//! time. What does not fit, and all that is returned outside of requests, is allocated.

use core::cell::{Cell, UnsafeCell};
use core::ops::Deref;
use core::ptr::slice_from_raw_parts_mut;

/// Room for a common request's header map and a set of the key table or two.
const SCRATCH_BYTES: usize = 8 << 10;

/// What every value of the ABI is aligned to.
const ALIGN: usize = 8;

/// Bytes that the host returned.
pub(crate) enum Bytes {
    /// In the scratch buffer: valid until the next [`Scratch`] is opened.
    Scratch(&'static [u8]),
    Heap(Box<[u8]>),
}

/// While it lives, what the host returns goes to the scratch buffer.
///
/// Opening one invalidates all [`Bytes::Scratch`] of the last: whoever keeps some from one
/// request to the next must drop them first. Only `facts::Reader` does, when a request starts.
pub(crate) struct Scratch(());

struct Buffer {
    bytes: UnsafeCell<[u8; SCRATCH_BYTES]>,
    used: Cell<usize>,
    is_open: Cell<bool>,
}

// A module without threads: nobody else can be here.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer {
    bytes: UnsafeCell::new([0; SCRATCH_BYTES]),
    used: Cell::new(0),
    is_open: Cell::new(false),
};

impl Scratch {
    pub(crate) fn open() -> Self {
        BUFFER.used.set(0);
        BUFFER.is_open.set(true);
        Self(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        BUFFER.is_open.set(false);
    }
}

impl Bytes {
    /// Takes over what the host wrote.
    ///
    /// # Safety
    ///
    /// `start` came from [`allocate`] for exactly `len` bytes, and nobody took it over yet.
    pub(crate) unsafe fn from_host(start: *mut u8, len: usize) -> Self {
        let scratch = BUFFER.bytes.get().cast::<u8>() as usize;
        let bytes = slice_from_raw_parts_mut(start, len);
        if (scratch..scratch + SCRATCH_BYTES).contains(&(start as usize)) {
            return Self::Scratch(unsafe { &*bytes });
        }
        Self::Heap(unsafe { Box::from_raw(bytes) })
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Scratch(&[])
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Scratch(bytes) => bytes,
            Self::Heap(bytes) => bytes,
        }
    }
}

/// Where the host may put `size` bytes. Its export's name is the ABI's `malloc`, in place of
/// the SDK's; the SDK frees what it is handed as a boxed slice, and so it is one.
#[unsafe(no_mangle)]
extern "C" fn tidegate_malloc(size: usize) -> *mut u8 {
    let used = BUFFER.used.get();
    if BUFFER.is_open.get() && size <= SCRATCH_BYTES - used {
        BUFFER.used.set((used + size).next_multiple_of(ALIGN).min(SCRATCH_BYTES));
        return unsafe { BUFFER.bytes.get().cast::<u8>().add(used) };
    }
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}
