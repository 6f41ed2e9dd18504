//! One revocation, or the lifting of one, and how any two of the same id go together.
//!
//! Every revocation says "what was issued at or before then": a whole token or session is
//! revoked with the end of time as its then. Records of one id may reach a host in any order,
//! and more than once; what comes of them is the same:
//!
//! - of two revocations, the later bound of each kind holds, so none takes anything back;
//! - of a revocation and a lifting, the later one holds; at the same millisecond the revocation.
//!
//! A revocation, a lifting and a revocation again, heard in another order, may keep the first
//! one's bounds where they were later: more stays revoked, never less.

use super::{Id, Kind};
use crate::field;

/// The end of time: revoked whenever it was issued. Seconds of Unix time in 40 bits reach the
/// year 36,812.
pub const EVER: u64 = (1 << 40) - 1;

/// One revocation, or the lifting of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of what.
    pub id: Id,
    /// Its kind, for whoever counts or lists: the id tells of none.
    pub kind: Kind,
    /// Whether what was revoked before is revoked no more.
    pub lifts: bool,
    /// Tokens issued at or before this second of Unix time are revoked; [`EVER`]: all.
    pub before_secs: u64,
    /// From this second of Unix time on nothing of what it revokes can be alive: it may be
    /// forgotten. [`EVER`]: never.
    pub until_secs: u64,
    /// Whether `until_secs` is the very `exp` of the one token that it revokes. Such a record is
    /// looked for only in its generation; if the token's own `exp` is another it will not be found.
    pub by_exp: bool,
    /// When it was made, in milliseconds of Unix time, up to 48 bits.
    pub at_ms: u64,
}

/// Bytes of a record: 16 id, 1 kind, 1 flags (1 lifts, 2 by exp), 5 before, 5 until, 6 at; all
/// little-endian.
pub const RECORD_BYTES: usize = 34;

const LIFTS: u8 = 1;
const BY_EXP: u8 = 2;

impl Record {
    /// This record and another of the same id, as one.
    pub fn and(&self, other: &Self) -> Self {
        let (older, newer) = if (other.at_ms, !other.lifts) >= (self.at_ms, !self.lifts) {
            (self, other)
        } else {
            (other, self)
        };
        if older.lifts || newer.lifts {
            return *newer;
        }
        Self {
            before_secs: older.before_secs.max(newer.before_secs),
            until_secs: older.until_secs.max(newer.until_secs),
            // Where two exps were told, neither can be relied on.
            by_exp: older.by_exp && newer.by_exp && older.until_secs == newer.until_secs,
            ..*newer
        }
    }

    /// Whether it revokes what was issued at this second; what does not say when counts as
    /// issued at the beginning of time.
    pub const fn revokes(&self, issued_secs: Option<u64>) -> bool {
        let issued = match issued_secs {
            Some(secs) => secs,
            None => 0,
        };
        !self.lifts && issued <= self.before_secs
    }

    /// As bytes.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let flags = if self.lifts { LIFTS } else { 0 } | if self.by_exp { BY_EXP } else { 0 };
        field::set(&mut bytes, 0, self.id.0);
        field::set(&mut bytes, 16, [self.kind as u8, flags]);
        field::set(&mut bytes, 18, low::<5>(self.before_secs.min(EVER)));
        field::set(&mut bytes, 23, low::<5>(self.until_secs.min(EVER)));
        field::set(&mut bytes, 28, low::<6>(self.at_ms.min((1 << 48) - 1)));
        bytes
    }

    /// From bytes; `None` if [`Self::to_bytes`] did not make them.
    pub fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let [kind, flags] = field::get(bytes, 16);
        let record = Self {
            id: Id(field::get(bytes, 0)),
            kind: Kind::of(kind)?,
            lifts: flags & LIFTS != 0,
            before_secs: whole(&field::get::<5>(bytes, 18)),
            until_secs: whole(&field::get::<5>(bytes, 23)),
            by_exp: flags & BY_EXP != 0,
            at_ms: whole(&field::get::<6>(bytes, 28)),
        };
        (flags & !(LIFTS | BY_EXP) == 0).then_some(record)
    }
}

/// The low bytes of a number.
pub(crate) fn low<const N: usize>(number: u64) -> [u8; N] {
    field::get(&number.to_le_bytes(), 0)
}

/// The number of so many low bytes.
pub(crate) fn whole(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
