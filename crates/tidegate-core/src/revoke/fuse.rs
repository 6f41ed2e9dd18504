//! A filter over the ids of one generation: it never misses one, and takes 0.4 % of others for
//! one of them.
//!
//! Binary fuse, 8-bit fingerprints, three places for each id (Graf and Lemire, "Binary Fuse
//! Filters: Fast and Smaller Than Xor Filters", 2022): 9 bits for each id, three reads a
//! look-up. Hosts build it, with the crate `xorf`; here it is only read, from bytes that may be
//! anything: what is not a filter is refused, and no look-up can fail.
//!
//! ```text
//! 8 seed   4 segment length (a power of two)   4 segment length - 1   4 segment length x segments
//! then the fingerprints: the last of these and two segment lengths more, one byte each
//! ```

use crate::field;

/// Bytes before the fingerprints.
pub const HEAD_BYTES: usize = 20;

/// What an image's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    seed: u64,
    segment: u32,
    starts: u32,
}

impl Head {
    /// Reads an image's head; `None` if this is no image.
    pub fn read(image: &[u8]) -> Option<Self> {
        let head: [u8; HEAD_BYTES] = *image.first_chunk()?;
        let word = |at| u32::from_le_bytes(field::get(&head, at));
        let (segment, mask, starts) = (word(8), word(12), word(16));
        let fits = u64::from(starts) + 2 * u64::from(segment) == (image.len() - HEAD_BYTES) as u64;
        let is_one = segment.is_power_of_two() && mask == segment - 1 && starts > 0 && fits;
        is_one.then_some(Self { seed: u64::from_le_bytes(field::get(&head, 0)), segment, starts })
    }

    /// Whether the image holds this id, or one that looks like it.
    pub fn holds(&self, image: &[u8], short: u64) -> bool {
        let hash = mix(short, self.seed);
        let first = ((u128::from(hash) * u128::from(self.starts)) >> 64) as u32;
        let mask = self.segment - 1;
        let second = first.wrapping_add(self.segment) ^ ((hash >> 18) as u32 & mask);
        let third = first.wrapping_add(self.segment.wrapping_mul(2)) ^ (hash as u32 & mask);
        let at = |place: u32| image.get(HEAD_BYTES + place as usize).copied().unwrap_or_default();
        let print = (hash ^ (hash >> 32)) as u8;
        print == at(first) ^ at(second) ^ at(third)
    }
}

/// MurmurHash3's finalizer over id and seed.
pub(super) const fn mix(short: u64, seed: u64) -> u64 {
    let mut hash = short.wrapping_add(seed);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
