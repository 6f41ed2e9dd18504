//! Records and holders as bytes: what a server keeps of a key, and what workers share of one.
//!
//! Little endian. A **record**, [`RECORD_BYTES`] bytes: 0 what it counts by (0: nothing, a
//! key never seen; 1 token bucket, 2 sliding window), 1 the tick of a bucket (1 µs, 2 ms, 3 s),
//! 2 whether its era began with nothing to grant, 4 era, 8 version, 12 two maps of holders,
//! newest first, 20 demand (64 bits), 28 five epochs of outstanding units, newest first, 48 two
//! short ones, 56 stamp (64 bits), 64 time (64 bits, µs); then of a bucket 72 backlog, 80 cell,
//! 88 drain (64 bits each): it needs but the first 96 bytes; of a window 72 eleven counts, newest
//! first, and its period in ms, the low 32 bits at 116 and the high 8 at 3. All else is 32 bits.
//!
//! A **holder**, [`HOLDER_BYTES`] bytes: 0 layout (0: one that holds nothing), 1 whether the
//! store had too little, 2 share (16 bits), 4 era, 8 version, 12 tried, 16 remaining, 20 owed, 24 known (32 bits
//! each), 28 three lots, eldest first, of epoch, left, spent (32 bits) and until (64 bits), 88
//! nine numbers of 64 bits.

use super::demand::Demand;
use super::ledger::{KEPT, Ledger};
use super::lots::{LOTS_MAX, Lot, Lots};
use super::outstanding::Outstanding;
use super::{Holder, Record};
use crate::field;
use crate::limit::Tick;
use crate::time::{Instant, Span};

/// The size of a packed [`Record`].
pub const RECORD_BYTES: usize = 120;

/// The size of a packed [`Holder`].
pub const HOLDER_BYTES: usize = 28 + LOTS_MAX * LOT_BYTES + 9 * 8;

const LOT_BYTES: usize = 20;

/// Bumped when the meaning of a holder's bytes changes, so that workers of two versions
/// that share memory during an update do not misread each other.
const LAYOUT: u8 = 2;

impl Record {
    /// The record of these bytes. Bytes that no record has are those of a key never seen.
    pub fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Self {
        let Some(ledger) = ledger(bytes) else { return Self::default() };
        let [began_empty] = field::get(bytes, 2);
        Self {
            ledger: Some(ledger),
            era: u32_at(bytes, 4),
            began_empty: began_empty != 0,
            version: u32_at(bytes, 8),
            holders: all(bytes, 12),
            demand_milli: u64_at(bytes, 20),
            out: Outstanding { leased: all(bytes, 28), soon: all(bytes, 48) },
            stamp: u64_at(bytes, 56),
            last: Instant(u64_at(bytes, 64).saturating_mul(1_000)),
        }
    }

    /// Its bytes, to be kept.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let Some(ledger) = &self.ledger else { return bytes };
        put_ledger(&mut bytes, ledger);
        field::set(&mut bytes, 2, [u8::from(self.began_empty)]);
        put_all(&mut bytes, 4, &[self.era, self.version]);
        put_all(&mut bytes, 12, &self.holders);
        put(&mut bytes, 20, self.demand_milli);
        put_all(&mut bytes, 28, &self.out.leased);
        put_all(&mut bytes, 48, &self.out.soon);
        put(&mut bytes, 56, self.stamp);
        put(&mut bytes, 64, self.last.micros());
        bytes
    }
}

fn ledger(bytes: &[u8; RECORD_BYTES]) -> Option<Ledger> {
    let [kind, tick, _, high] = field::get(bytes, 0);
    match kind {
        1 => Some(Ledger::Bucket {
            tick: match tick {
                1 => Tick::Micro,
                2 => Tick::Milli,
                3 => Tick::Second,
                _ => return None,
            },
            backlog: u64_at(bytes, 72),
            cell: u64_at(bytes, 80),
            drain: u64_at(bytes, 88),
        }),
        2 => {
            let [a, b, c, d] = field::get(bytes, 116);
            let period_ms = u64::from_le_bytes([a, b, c, d, high, 0, 0, 0]);
            Some(Ledger::Ring { period_ms, counts: all::<KEPT>(bytes, 72) })
        }
        _ => None,
    }
}

fn put_ledger(bytes: &mut [u8; RECORD_BYTES], ledger: &Ledger) {
    match ledger {
        Ledger::Bucket { tick, cell, drain, backlog } => {
            let tick = match tick {
                Tick::Micro => 1,
                Tick::Milli => 2,
                Tick::Second => 3,
            };
            field::set(bytes, 0, [1, tick]);
            put(bytes, 72, *backlog);
            put(bytes, 80, *cell);
            put(bytes, 88, *drain);
        }
        Ledger::Ring { period_ms, counts } => {
            let [a, b, c, d, high, ..] = period_ms.to_le_bytes();
            field::set(bytes, 0, [2, 0, 0, high]);
            put_all(bytes, 72, counts);
            field::set(bytes, 116, [a, b, c, d]);
        }
    }
}

impl Holder {
    /// The holder of these bytes. Bytes that no holder has are those of one that holds nothing.
    pub fn from_bytes(bytes: &[u8; HOLDER_BYTES]) -> Self {
        if bytes.first() != Some(&LAYOUT) {
            return Self::default();
        }
        let lot = |number: usize| {
            let at = 28 + number * LOT_BYTES;
            let [epoch, left, spent] = all(bytes, at);
            Lot { epoch, left, spent, until: Instant(u64_at(bytes, at + 12)) }
        };
        let [era, version, tried, remaining, owed, known] = all(bytes, 4);
        let long: [u64; 9] =
            core::array::from_fn(|place| u64_at(bytes, 28 + LOTS_MAX * LOT_BYTES + place * 8));
        let [sum, at, horizon, trip, empty, deny, flight, heard, told] = long;
        Self {
            lots: Lots(core::array::from_fn(lot)),
            era,
            version,
            demand: Demand { sum_milli: sum, at: Instant(at) },
            share: u16::from_le_bytes(field::get(bytes, 2)),
            tried,
            remaining,
            owed,
            known,
            is_scarce: field::get(bytes, 1) != [0],
            horizon: Span(horizon),
            round_trip: Span(trip),
            empty_until: Instant(empty),
            deny_until: Instant(deny),
            flight_until: Instant(flight),
            heard_at: Instant(heard),
            told_at: Instant(told),
        }
    }

    /// Its bytes, for the workers of a process to share.
    pub fn to_bytes(&self) -> [u8; HOLDER_BYTES] {
        let mut bytes = [0; HOLDER_BYTES];
        field::set(&mut bytes, 0, [LAYOUT, u8::from(self.is_scarce)]);
        field::set(&mut bytes, 2, self.share.to_le_bytes());
        let short = [self.era, self.version, self.tried, self.remaining, self.owed, self.known];
        put_all(&mut bytes, 4, &short);
        for (lot, at) in self.lots.0.iter().zip((28..).step_by(LOT_BYTES)) {
            put_all(&mut bytes, at, &[lot.epoch, lot.left, lot.spent]);
            put(&mut bytes, at + 12, lot.until.0);
        }
        let long = [
            self.demand.sum_milli,
            self.demand.at.0,
            self.horizon.0,
            self.round_trip.0,
            self.empty_until.0,
            self.deny_until.0,
            self.flight_until.0,
            self.heard_at.0,
            self.told_at.0,
        ];
        for (number, at) in long.into_iter().zip((28 + LOTS_MAX * LOT_BYTES..).step_by(8)) {
            put(&mut bytes, at, number);
        }
        bytes
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field::get(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field::get(bytes, at))
}

fn all<const N: usize>(bytes: &[u8], at: usize) -> [u32; N] {
    core::array::from_fn(|place| u32_at(bytes, at + place * 4))
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    field::set(bytes, at, value.to_le_bytes());
}

fn put_all(bytes: &mut [u8], at: usize, values: &[u32]) {
    for (value, at) in values.iter().zip((at..).step_by(4)) {
        field::set(bytes, at, value.to_le_bytes());
    }
}

const _: () = assert!(72 + 4 * KEPT + 4 == RECORD_BYTES);
