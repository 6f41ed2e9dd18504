//! Where the images lie that all workers of a process share.
//!
//! ```text
//! 8 cut   then per image 8 checksum   1 slot
//! ```

use super::images::Slot;
use super::message::{IMAGES_MAX, Image, Manifest};
use crate::field;
use alloc::vec::Vec;

const HEAD_BYTES: usize = 8;
const ROW_BYTES: usize = 9;

/// Where they lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// The manifest's.
    pub cut: u64,
    /// By checksum.
    pub rows: Vec<(u64, Slot)>,
}

impl Sheet {
    /// Where an image of it lies.
    pub fn slot(&self, image: &Image) -> Option<Slot> {
        self.rows.iter().find(|(checksum, _)| *checksum == image.checksum).map(|(_, slot)| *slot)
    }

    /// Whether all images of a manifest lie there.
    pub fn holds(&self, manifest: &Manifest) -> bool {
        self.cut == manifest.cut && manifest.images.iter().all(|it| self.slot(it).is_some())
    }

    /// A place where none of these images lies: there are twice as many places as images.
    pub fn free_slot(&self, others: &Self) -> Slot {
        let is_free = |slot: &Slot| !self.rows.iter().chain(&others.rows).any(|it| it.1 == *slot);
        (0..=Slot::MAX).find(is_free).unwrap_or_default()
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.rows.len() * ROW_BYTES);
        bytes.extend(self.cut.to_le_bytes());
        for (checksum, slot) in &self.rows {
            bytes.extend(checksum.to_le_bytes());
            bytes.push(*slot);
        }
        bytes
    }

    /// From bytes; what is not there has no rows.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let rows = bytes.get(HEAD_BYTES..).unwrap_or_default().chunks_exact(ROW_BYTES);
        let row = |row: &[u8]| (u64::from_le_bytes(field::get(row, 0)), field::get::<1>(row, 8)[0]);
        Self {
            cut: u64::from_le_bytes(field::get(bytes, 0)),
            rows: rows.map(row).take(IMAGES_MAX).collect(),
        }
    }
}
