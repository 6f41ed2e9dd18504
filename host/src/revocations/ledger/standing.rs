//! What the file says of itself, so that it can be held against what it holds.

use super::VERSION;
use tidegate_core::revoke::{Kind, Position, Record};
use tidegate_core::wire::revoke::checksum;

/// Bytes of a [`Standing`]: 1 version, 24 position, 8 each count, 8 sum, 8 logged.
pub(super) const STANDING_BYTES: usize = 1 + 24 + COUNTS * 8 + 8 + 8;

const COUNTS: usize = Kind::ALL.len() + 1;

/// What the file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::revocations) struct Standing {
    /// How far the log is known.
    pub(in crate::revocations) position: Position,
    pub(in crate::revocations) counts: Counts,
    /// The checksums of all records, summed.
    sum: u64,
    /// How many records the entries have that are kept.
    pub(super) logged: u64,
}

/// How many records there are: first those that lift, then by kind those that revoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::revocations) struct Counts([u64; COUNTS]);

impl Standing {
    /// Nothing yet.
    pub(super) fn at(position: Position) -> Self {
        Self { position, counts: Counts::default(), sum: 0, logged: 0 }
    }

    /// About how many bytes of the file are in use, pages that are not full among them.
    pub(super) fn bytes(&self) -> u64 {
        let records: u64 = self.counts.0.iter().sum();
        records * 64 + self.logged * 48 + (1 << 20)
    }

    /// Whether both have the same records.
    pub(super) fn has_records_of(&self, other: &Self) -> bool {
        (&self.counts, self.sum) == (&other.counts, other.sum)
    }

    pub(super) fn comes(&mut self, record: &Record) {
        *self.counts.at(record) += 1;
        self.sum = self.sum.wrapping_add(checksum(&record.to_bytes()));
    }

    pub(super) fn leaves(&mut self, record: &Record) {
        *self.counts.at(record) -= 1;
        self.sum = self.sum.wrapping_sub(checksum(&record.to_bytes()));
    }

    pub(super) fn to_bytes(&self) -> [u8; STANDING_BYTES] {
        let Position { log, number, chain } = self.position;
        let numbers =
            [log, number, chain].into_iter().chain(self.counts.0).chain([self.sum, self.logged]);
        let mut bytes = [VERSION; STANDING_BYTES];
        for (place, number) in bytes[1..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; STANDING_BYTES]) -> Self {
        let mut numbers = bytes[1..]
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let mut next = || numbers.next().unwrap_or_default();
        let position = Position { log: next(), number: next(), chain: next() };
        Self {
            position,
            counts: Counts(std::array::from_fn(|_| next())),
            sum: next(),
            logged: next(),
        }
    }
}

impl Counts {
    /// All of them, but for those that lift.
    pub(in crate::revocations) fn revoking(&self) -> u64 {
        self.0[1..].iter().sum()
    }

    pub(in crate::revocations) const fn lifted(&self) -> u64 {
        self.0[0]
    }

    pub(in crate::revocations) const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    const fn at(&mut self, record: &Record) -> &mut u64 {
        &mut self.0[if record.lifts { 0 } else { record.kind as usize }]
    }
}
