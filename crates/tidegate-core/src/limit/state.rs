//! What is kept of one key: 64 bytes that say themselves what they are.
//!
//! Byte 0 is the algorithm (0: never seen), byte 1 the tick; each algorithm's file
//! says what follows. Whatever was written under, a state can be read under any other
//! quota, so a change of configuration frees nobody.

use super::{Algorithm, Tick};
use crate::field;

/// The size of a [`State`].
pub const STATE_BYTES: usize = 64;

/// The state of one key under one quota. All zero: a key never seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State([u8; STATE_BYTES]);

impl Default for State {
    fn default() -> Self {
        Self([0; STATE_BYTES])
    }
}

impl State {
    /// The state that [`Self::as_bytes`] gave. Bytes that no state has read as a key never seen.
    pub const fn from_bytes(bytes: [u8; STATE_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept.
    pub const fn as_bytes(&self) -> &[u8; STATE_BYTES] {
        &self.0
    }

    pub(super) fn new(algorithm: Algorithm, tick: Tick) -> Self {
        let mut state = Self::default();
        field::set(&mut state.0, 0, codes(algorithm, tick));
        state
    }

    /// Whether it was written by this algorithm in this tick.
    pub(super) fn is_of(&self, algorithm: Algorithm, tick: Tick) -> bool {
        field::get(&self.0, 0) == codes(algorithm, tick)
    }

    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        match field::get(&self.0, 0) {
            [1] => Some(Algorithm::TokenBucket),
            [2] => Some(Algorithm::SlidingWindow),
            [3] => Some(Algorithm::SlidingCounter),
            _ => None,
        }
    }

    pub(super) fn tick(&self) -> Option<Tick> {
        match field::get(&self.0, 1) {
            [1] => Some(Tick::Micro),
            [2] => Some(Tick::Milli),
            [3] => Some(Tick::Second),
            _ => None,
        }
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(field::get(&self.0, at))
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(field::get(&self.0, at))
    }

    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        field::set(&mut self.0, at, value.to_le_bytes());
    }

    pub(super) fn set_u64(&mut self, at: usize, value: u64) {
        field::set(&mut self.0, at, value.to_le_bytes());
    }
}

/// Bytes 0 and 1 of a state.
const fn codes(algorithm: Algorithm, tick: Tick) -> [u8; 2] {
    let algorithm = match algorithm {
        Algorithm::TokenBucket => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingCounter => 3,
    };
    let tick = match tick {
        Tick::Micro => 1,
        Tick::Milli => 2,
        Tick::Second => 3,
    };
    [algorithm, tick]
}
