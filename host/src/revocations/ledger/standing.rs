//! What the file says of itself, so that it can be held against what it holds.

use super::VERSION;
use super::tally::{NUMBERS, Tally};
use tidegate_core::revoke::Position;

/// Bytes of a [`Standing`]: 1 version, 24 position, 8 each number of the tally, and of the rest.
pub(super) const STANDING_BYTES: usize = 1 + 24 + NUMBERS * 8 + 5 * 8;

/// Settling is worth it from so many records on …
const SETTLE_MIN: u64 = 65_536;

/// … and at so many in any case: a B-tree takes ten times as much for each as a run does.
const SETTLE_MAX: u64 = 262_144;

/// What the file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::revocations) struct Standing {
    /// How far the log is known.
    pub(in crate::revocations) position: Position,
    /// Of all records.
    pub(in crate::revocations) tally: Tally,
    /// How many records the entries have that are kept.
    pub(super) logged: u64,
    /// How many records are in `recent`.
    pub(super) recent: u64,
    /// Whether there are some in `settling`.
    pub(super) is_settling: bool,
    /// The number of the run; 0 if there is none.
    pub(super) run: u64,
    /// Whether the shared log may lack something.
    pub(in crate::revocations) owes: bool,
}

impl Standing {
    /// Nothing yet.
    pub(super) fn at(position: Position) -> Self {
        let tally = Tally::default();
        Self { position, tally, logged: 0, recent: 0, is_settling: false, run: 0, owes: false }
    }

    /// Whether there is enough to make another run of.
    pub(in crate::revocations) fn is_due_to_settle(&self) -> bool {
        let enough = (self.tally.all() / 8).clamp(SETTLE_MIN, SETTLE_MAX);
        self.is_settling || self.recent >= enough
    }

    /// About how many bytes of the B-tree's file are in use, pages that are not full among them.
    pub(super) const fn bytes(&self) -> u64 {
        let settling = if self.is_settling { SETTLE_MAX } else { 0 };
        (self.recent + settling) * 64 + self.logged * 48 + (1 << 20)
    }

    pub(super) fn to_bytes(&self) -> [u8; STANDING_BYTES] {
        let Position { log, number, chain } = self.position;
        let rest = [self.logged, self.recent, self.is_settling.into(), self.run, self.owes.into()];
        let numbers = [log, number, chain].into_iter().chain(self.tally.0).chain(rest);
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
        Self {
            position: Position { log: next(), number: next(), chain: next() },
            tally: Tally(std::array::from_fn(|_| next())),
            logged: next(),
            recent: next(),
            is_settling: next() != 0,
            run: next(),
            owes: next() != 0,
        }
    }
}
