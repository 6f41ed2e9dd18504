//! What the gate stands on in a component: the imports `shared` and `clock`.

use crate::bindings::tidegate::edge::{clock, shared};
use tidegate_core::gate::{Ground, SharedPlace};
use tidegate_core::table::{Conflict, SET_BYTES, Slots, Table, read_set};
use tidegate_core::time::Instant;

/// Shared values under the names that core gives them, none made of what a client sent.
pub(crate) struct SharedGround {
    pub(crate) table: Table,
}

impl Slots for SharedGround {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        let (value, version) = shared::get(&self.table.name_of(set)).unwrap_or_default();
        read_set(&value, into);
        version
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        put(&self.table.name_of(set), bytes, Some(version))
    }
}

impl Ground for SharedGround {
    fn now(&mut self) -> Instant {
        Instant(clock::now())
    }

    fn shared(&mut self, place: SharedPlace, read: &mut dyn FnMut(&[u8])) -> u32 {
        let Some((value, version)) = shared::get(&place.name()) else { return 0 };
        read(&value);
        version
    }

    fn share(
        &mut self,
        place: SharedPlace,
        bytes: &[u8],
        version: Option<u32>,
    ) -> Result<(), Conflict> {
        put(&place.name(), bytes, version)
    }
}

fn put(name: &[u8], bytes: &[u8], version: Option<u32>) -> Result<(), Conflict> {
    if shared::put(name, bytes, version) { Ok(()) } else { Err(Conflict) }
}
