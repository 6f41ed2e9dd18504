//! Whatever a filter hands over, the host neither panics, nor reads or writes outside of the
//! filter's memory, nor takes memory without end.
//!
//! A guest makes the host calls that a generated program tells it to, with arguments that
//! mean something or nearly do (`program.rs`). `fuzz/` runs the same under libFuzzer.

mod drive;
mod guest;
mod program;

use drive::Arena;
use proptest::collection::vec;
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// More than any host call may need at once: the bounds of bodies, maps and shared data are
/// far below.
const ALLOCATION_BYTES_MAX: usize = 64 << 20;

/// Notes the largest allocation.
struct Watched;

static LARGEST_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Watched = Watched;

unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST_BYTES.fetch_max(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST_BYTES.fetch_max(layout.size(), Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        LARGEST_BYTES.fetch_max(bytes, Relaxed);
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn no_program_gets_through_the_boundary() {
    let arena = Arena::new();
    LARGEST_BYTES.store(0, Relaxed);
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(bytes in vec(any::<u8>(), 0..600))| {
        arena.play(&bytes);
        let largest = LARGEST_BYTES.load(Relaxed);
        prop_assert!(largest <= ALLOCATION_BYTES_MAX, "{largest} bytes at once");
    });
}

#[test]
fn programs_reach_every_host_call() {
    let mut seen = vec![false; guest::IMPORTS.len()];
    for seed in 0..=255_u8 {
        for place in 0..guest::IMPORTS.len() {
            let bytes = [255, place as u8, seed, seed, seed, seed];
            if let Some(made) = program::program(&bytes).first() {
                seen[usize::from(*made)] = true;
            }
        }
    }
    let missing: Vec<_> = seen.iter().zip(guest::IMPORTS).filter(|(seen, _)| !**seen).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
