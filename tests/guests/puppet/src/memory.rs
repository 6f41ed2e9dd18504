//! Where the host puts what it hands over; a script can make that go wrong.

use crate::abi::At;
use std::cell::Cell;

/// What the host is given when it asks for memory.
#[derive(Clone, Copy, Default)]
pub(crate) enum Mood {
    /// What it asked for.
    #[default]
    Willing,
    /// Nothing: address zero, once.
    Empty,
    /// An address beyond this module's memory, once.
    Astray,
}

thread_local! {
    static MOOD: Cell<Mood> = const { Cell::new(Mood::Willing) };
}

/// Sets what becomes of the host's next request for memory.
pub(crate) fn set_mood(mood: Mood) {
    MOOD.set(mood);
}

/// Exactly `len` bytes, the host's until it hands them over.
#[unsafe(no_mangle)]
extern "C" fn malloc(len: usize) -> At {
    match MOOD.take() {
        Mood::Willing => Box::into_raw(vec![0u8; len].into_boxed_slice()).cast::<u8>() as At,
        Mood::Empty => 0,
        Mood::Astray => usize::MAX - 7,
    }
}

/// What the host has put at an address that [`malloc`] gave it.
pub(crate) fn taken(at: At, len: usize) -> Vec<u8> {
    if at == 0 || len == 0 {
        return Vec::new();
    }
    // SAFETY: the host filled an allocation of `malloc`'s, of this length and with no more
    // capacity than that, and does not know it any longer.
    unsafe { Vec::from_raw_parts(at as *mut u8, len, len) }
}
