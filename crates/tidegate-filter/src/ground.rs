//! What the gate stands on in a proxy: shared data of the process, and its monotone clock.

use crate::abi::{self, Failure};
use tidegate_core::gate::Ground;
use tidegate_core::table::{Conflict, SET_BYTES, Slots};
use tidegate_core::time::Instant;

/// Shared data under fixed names: one for each set of the key table. There is no way to
/// delete a name, so none is ever made of what a client sent.
pub(crate) struct SharedGround {
    /// How many sets the table has; tables of different size do not share memory.
    pub(crate) sets: u32,
}

/// What all workers of this process agree on.
pub(crate) struct Process {
    /// Keys the hashes of local keys.
    pub(crate) seed: [u8; 16],
    /// What the host service knows this proxy by: 16 hex digits, drawn at random.
    pub(crate) id: String,
}

/// Which layout of sets the names stand for: a filter of another layout leaves ours alone.
const LAYOUT: u8 = 1;

impl Slots for SharedGround {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        match abi::shared(&self.name(set)) {
            Ok((value, version)) => {
                match <&[u8; SET_BYTES]>::try_from(&*value) {
                    Ok(bytes) => *into = *bytes,
                    Err(_) => into.fill(0),
                }
                version
            }
            Err(_) => {
                into.fill(0);
                0
            }
        }
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        abi::set_shared(&self.name(set), bytes, Some(version)).map_err(|_| Conflict)
    }
}

impl Ground for SharedGround {
    fn now(&mut self) -> Instant {
        Instant(abi::monotonic_nanos())
    }
}

impl SharedGround {
    fn name(&self, set: u32) -> [u8; 11] {
        let [a, b, c, d] = self.sets.to_le_bytes();
        let [e, f, g, h] = set.to_le_bytes();
        [b't', b'g', LAYOUT, a, b, c, d, e, f, g, h]
    }
}

impl Process {
    /// What the first worker drew and all others read.
    pub(crate) fn join() -> Option<Self> {
        const NAME: &[u8] = b"tidegate.process";
        if abi::shared(NAME).err() == Some(Failure::NotFound) {
            let mut drawn = [0_u8; 24];
            if !abi::random(&mut drawn) {
                return None;
            }
            // If another worker was first, theirs holds.
            let _ = abi::set_shared(NAME, &drawn, None);
        }
        let (bytes, _) = abi::shared(NAME).ok()?;
        let (seed, id) = bytes.split_first_chunk::<16>()?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { seed: *seed, id })
    }
}
