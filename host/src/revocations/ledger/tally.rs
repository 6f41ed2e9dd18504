//! How many records there are, and whether they are the ones that were written.

use tidegate_core::revoke::{Kind, Record};
use tidegate_core::wire::revoke::checksum;

/// Numbers in a [`Tally`].
pub(super) const NUMBERS: usize = Kind::ALL.len() + 2;

/// First those that lift, then by kind those that revoke; then the checksums of all, summed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::revocations) struct Tally(pub(super) [u64; NUMBERS]);

const SUM: usize = NUMBERS - 1;

impl Tally {
    /// All of them.
    pub(in crate::revocations) fn all(&self) -> u64 {
        self.0[..SUM].iter().sum()
    }

    /// All but those that lift.
    pub(in crate::revocations) fn revoking(&self) -> u64 {
        self.0[1..SUM].iter().sum()
    }

    pub(in crate::revocations) const fn lifted(&self) -> u64 {
        self.0[0]
    }

    pub(in crate::revocations) const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// One more.
    pub(super) fn add(&mut self, record: &Record) {
        self.0[place(record)] += 1;
        self.0[SUM] = self.0[SUM].wrapping_add(checksum(&record.to_bytes()));
    }

    /// One less.
    pub(super) fn take(&mut self, record: &Record) {
        let count = &mut self.0[place(record)];
        *count = count.saturating_sub(1);
        self.0[SUM] = self.0[SUM].wrapping_sub(checksum(&record.to_bytes()));
    }

    /// So many less.
    pub(super) fn take_all(&mut self, gone: &Self) {
        for (count, gone) in self.0[..SUM].iter_mut().zip(gone.0) {
            *count = count.saturating_sub(gone);
        }
        self.0[SUM] = self.0[SUM].wrapping_sub(gone.0[SUM]);
    }
}

const fn place(record: &Record) -> usize {
    if record.lifts { 0 } else { record.kind as usize }
}
