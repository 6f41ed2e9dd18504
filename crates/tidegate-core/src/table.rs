//! A bounded table of keys that nobody can flood their way out of.
//!
//! It is set-associative: a key's hash names a [`Set`] of [`WAYS`] slots, and only these
//! are looked at. The memory is somebody else's: a `Vec`, or a proxy's shared data, where
//! each set is one value that workers change by compare-and-swap ([`Slots`]).
//!
//! A full set forgets somebody for each new key. Whom, is the whole point: first a key
//! that is *fresh* (its state says what a new key's would, so nothing is lost); otherwise
//! the least indebted, by its debt as decayed until now. New keys owe little, so a flood
//! of them washes over one another and an abuser stays.
//!
//! ## Layout of a slot
//!
//! Bytes: 0 layout (0: free), 2 debt (u16), 8 tag, 16 written at (ns), 24 fresh at (ns),
//! 32 the state. A slot of another layout is a free one.

use crate::field;
use crate::key::Key;
use crate::limit::{STATE_BYTES, State, Weight};
use crate::time::Instant;

/// Slots in a set.
pub const WAYS: usize = 8;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 32 + STATE_BYTES;

/// Bytes of a set.
pub const SET_BYTES: usize = WAYS * SLOT_BYTES;

/// The most sets of a table: 2^24 sets of 8 keys, 12 GiB.
pub const SETS_MAX: u32 = 1 << 24;

/// Bumped when the meaning of a slot's bytes changes, so that workers of two versions
/// that share memory during an update do not misread each other.
const LAYOUT: u8 = 1;

/// Somebody else changed the set meanwhile: load it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// Memory for a table's sets.
pub trait Slots {
    /// Reads a set and its version. One never written, or of another size, reads as zeros.
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32;

    /// Writes a set if it still has the version that was loaded.
    ///
    /// # Errors
    ///
    /// [`Conflict`] if it has not; nothing is written.
    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict>;
}

/// Reads a set from a shared value, as [`Slots::load`] does.
pub fn read_set(value: &[u8], into: &mut [u8; SET_BYTES]) {
    match <&[u8; SET_BYTES]>::try_from(value) {
        Ok(bytes) => *into = *bytes,
        Err(_) => into.fill(0),
    }
}

/// Which set a key belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    sets: u32,
}

impl Table {
    /// A table with room for at least `keys_max` keys, up to [`SETS_MAX`] sets.
    pub fn new(keys_max: u32) -> Self {
        let sets = keys_max.div_ceil(WAYS as u32).min(SETS_MAX);
        Self { sets: sets.next_power_of_two() }
    }

    /// The set of a key, less than [`Self::sets`].
    pub fn set_of(&self, key: &Key) -> u32 {
        let Key([a, b, c, d, ..]) = *key;
        u32::from_le_bytes([a, b, c, d]) & (self.sets - 1)
    }

    /// How many sets there are: a power of two.
    pub fn sets(&self) -> u32 {
        self.sets
    }

    /// What a set is called where shared values have names. Tables of different size or layout
    /// share no memory.
    pub const fn name_of(&self, set: u32) -> [u8; 11] {
        let [a, b, c, d] = self.sets.to_le_bytes();
        let [e, f, g, h] = set.to_le_bytes();
        [b't', b'g', LAYOUT, a, b, c, d, e, f, g, h]
    }
}

/// The slots of one set.
#[derive(Clone)]
pub struct Set([u8; SET_BYTES]);

impl Set {
    /// A set without keys.
    pub const fn empty() -> Self {
        Self([0; SET_BYTES])
    }

    /// Its bytes, to be kept.
    pub const fn bytes(&self) -> &[u8; SET_BYTES] {
        &self.0
    }

    /// Its bytes, to be loaded into.
    pub const fn bytes_mut(&mut self) -> &mut [u8; SET_BYTES] {
        &mut self.0
    }

    /// The state of a key; that of a key never seen if it is not here.
    pub fn state(&self, key: &Key) -> State {
        let tag = tag_of(key);
        let (slots, _) = self.0.as_chunks();
        slots.iter().find(|slot| holds(slot, tag)).map_or_else(State::default, state_of)
    }

    /// Keeps a key's state, if need be in the place of another key.
    pub fn put(&mut self, key: &Key, state: &State, weight: Weight, now: Instant) {
        let tag = tag_of(key);
        let (slots, _) = self.0.as_chunks_mut();
        let place = match slots.iter().position(|slot| holds(slot, tag)) {
            Some(own) => slots.get_mut(own),
            None => slots.iter_mut().min_by_key(|slot| loss(slot, now)),
        };
        if let Some(slot) = place {
            *slot = written(tag, state, weight, now);
        }
    }
}

impl Default for Set {
    fn default() -> Self {
        Self::empty()
    }
}

type Slot = [u8; SLOT_BYTES];

/// The half of a key that [`Table::set_of`] does not use.
fn tag_of(key: &Key) -> u64 {
    u64_at(&key.0, 8)
}

fn holds(slot: &Slot, tag: u64) -> bool {
    slot.first() == Some(&LAYOUT) && u64_at(slot, 8) == tag
}

fn state_of(slot: &Slot) -> State {
    State::from_bytes(field::get(slot, 32))
}

/// What would be lost by forgetting this slot: 0 free, 1 fresh, more the more it owes;
/// among equals, the one that is fresh first.
fn loss(slot: &Slot, now: Instant) -> (u64, u64) {
    if slot.first() != Some(&LAYOUT) {
        return (0, 0);
    }
    let (written_at, fresh_at) = (u64_at(slot, 16), u64_at(slot, 24));
    if fresh_at <= now.0 {
        return (1, fresh_at);
    }
    // Debts decay evenly until they are gone. In units of 65.5 µs the product fits 64 bits.
    let whole = fresh_at.saturating_sub(written_at) >> 16;
    let left = (fresh_at - now.0).min(fresh_at.saturating_sub(written_at)) >> 16;
    let debt = u64::from(u16::from_le_bytes(field::get(slot, 2)));
    (2 + (debt * left).checked_div(whole).unwrap_or(debt), fresh_at)
}

fn written(tag: u64, state: &State, weight: Weight, now: Instant) -> Slot {
    let mut slot = [0; SLOT_BYTES];
    field::set(&mut slot, 0, [LAYOUT]);
    field::set(&mut slot, 2, weight.debt.to_le_bytes());
    field::set(&mut slot, 8, tag.to_le_bytes());
    field::set(&mut slot, 16, now.0.to_le_bytes());
    field::set(&mut slot, 24, weight.fresh_at.0.to_le_bytes());
    field::set(&mut slot, 32, *state.as_bytes());
    slot
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field::get(bytes, at))
}
