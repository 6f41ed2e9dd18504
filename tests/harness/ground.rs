//! What a gate stands on in a test that drives core itself: the memory of one worker, and this
//! machine's clock.

use std::collections::HashMap;
use std::time::Instant;
use tidegate_core::gate::Ground;
use tidegate_core::table::{Conflict, SET_BYTES, Slots};
use tidegate_core::time;

/// One worker's.
pub struct Alone {
    sets: HashMap<u32, Box<[u8; SET_BYTES]>>,
    begun: Instant,
}

impl Default for Alone {
    fn default() -> Self {
        Self { sets: HashMap::new(), begun: Instant::now() }
    }
}

impl Slots for Alone {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        match self.sets.get(&set) {
            Some(bytes) => *into = **bytes,
            None => into.fill(0),
        }
        // Nobody else writes.
        1
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], _: u32) -> Result<(), Conflict> {
        match self.sets.get_mut(&set) {
            Some(known) => **known = *bytes,
            None => {
                self.sets.insert(set, Box::new(*bytes));
            }
        }
        Ok(())
    }
}

impl Ground for Alone {
    fn now(&mut self) -> time::Instant {
        time::Instant(u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
