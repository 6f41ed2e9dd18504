//! The boundary test's programs, chosen by what they reach.
#![no_main]

#[path = "../../tests/boundary/drive.rs"]
mod drive;
#[path = "../../tests/boundary/guest.rs"]
mod guest;
#[path = "../../tests/boundary/program.rs"]
mod program;

use drive::Arena;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static ARENA: Arena = Arena::new();
}

fuzz_target!(|bytes: &[u8]| ARENA.with(|arena| arena.play(bytes)));
