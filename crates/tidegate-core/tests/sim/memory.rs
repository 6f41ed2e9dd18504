//! The memory that the workers of a proxy share, and their clock.

use crate::rng::Rng;
use tidegate_core::gate::Ground;
use tidegate_core::table::{Conflict, SET_BYTES, Slots};
use tidegate_core::time::Instant;

/// More than a shelf of one key has.
const SETS: usize = 16;

pub(crate) struct Memory {
    pub(crate) now: Instant,
    /// By number: the version, and the bytes.
    sets: Vec<(u32, [u8; SET_BYTES])>,
    /// How often somebody else was quicker, in parts per million.
    conflicts_ppm: u32,
    rng: Rng,
}

impl Memory {
    pub(crate) fn new(conflicts_ppm: u32, seed: u64) -> Self {
        Self {
            now: Instant(0),
            sets: vec![(0, [0; SET_BYTES]); SETS],
            conflicts_ppm,
            rng: Rng::new(seed),
        }
    }
}

impl Slots for Memory {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        let (version, bytes) = &self.sets[set as usize];
        *into = *bytes;
        *version
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        if self.rng.chance_ppm(self.conflicts_ppm) {
            return Err(Conflict);
        }
        let stored = &mut self.sets[set as usize];
        assert_eq!(stored.0, version);
        *stored = (version + 1, *bytes);
        Ok(())
    }
}

impl Ground for Memory {
    fn now(&mut self) -> Instant {
        self.now
    }
}
