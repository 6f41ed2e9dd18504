//! A filter over the ids of one generation in pages, of which a look-up reads one.
//!
//! For workers that share memory and pay for each piece that they fetch from it: a page is a
//! filter by itself. Within a page a split block Bloom filter (Putze, Sanders and Singler,
//! "Cache-, Hash- and Space-Efficient Bloom Filters", 2007; eight lanes and their factors as
//! Apache Parquet has them): 12 bits for each id, and 0.6 % of others are taken for one of them.
//!
//! ```text
//! an image: pages of 4096 bytes; a page: 128 blocks; a block: 8 lanes of 32 bits, little-endian
//! ```

use super::fuse::mix;
use crate::field;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4_096;

/// Bits for each id.
const ID_BITS: u64 = 12;

const LANES: usize = 8;
const BLOCK_BYTES: usize = LANES * 4;
const PAGE_BLOCKS: u64 = (PAGE_BYTES / BLOCK_BYTES) as u64;

/// What makes eight hashes of one.
const FACTORS: [u32; LANES] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// How many pages so many ids take; at least one.
pub const fn pages(ids: u64) -> u32 {
    let pages = ids.saturating_mul(ID_BITS).div_ceil(PAGE_BYTES as u64 * 8);
    match pages {
        0 => 1,
        1..=0xffff_ffff => pages as u32,
        _ => u32::MAX,
    }
}

/// Where an id is in a filter of some number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its page.
    pub page: u32,
    /// Where its block begins there.
    block: usize,
    hash: u32,
}

impl Place {
    /// The place of an id, by its [`short`](super::Id::short) half.
    pub fn of(short: u64, pages: u32) -> Self {
        let hash = mix(short, 0);
        // The high half says which page, and what that leaves of it which block.
        let scaled = (hash >> 32) * u64::from(pages);
        let block = (((scaled & u64::from(u32::MAX)) * PAGE_BLOCKS) >> 32) as usize;
        Self { page: (scaled >> 32) as u32, block: block * BLOCK_BYTES, hash: hash as u32 }
    }

    /// Puts it into its page, which has [`PAGE_BYTES`].
    pub fn put(&self, page: &mut [u8; PAGE_BYTES]) {
        for (at, bit) in self.lanes() {
            let lane = u32::from_le_bytes(field::get(page, at)) | bit;
            field::set(page, at, lane.to_le_bytes());
        }
    }

    /// Whether its page holds it, or some that together look like it. A page of another size
    /// holds nothing: there is none.
    pub fn is_in(&self, page: &[u8]) -> bool {
        let Ok(page) = <&[u8; PAGE_BYTES]>::try_from(page) else { return false };
        let has = |(at, bit)| u32::from_le_bytes(field::get(page, at)) & bit != 0;
        self.lanes().all(has)
    }

    /// For each lane of its block where that begins in the page, and the bit there.
    fn lanes(&self) -> impl Iterator<Item = (usize, u32)> {
        let Self { block, hash, .. } = *self;
        let lane = move |(lane, factor): (usize, &u32)| {
            (block + lane * 4, 1 << (hash.wrapping_mul(*factor) >> 27))
        };
        FACTORS.iter().enumerate().map(lane)
    }
}
