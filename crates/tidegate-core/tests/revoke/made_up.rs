//! Anything that could be.

use proptest::prelude::*;
use tidegate_core::revoke::{EVER, Id, Kind, Position, Record};

pub(crate) fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

pub(crate) fn any_id() -> impl Strategy<Value = Id> {
    any::<[u8; 16]>().prop_map(Id)
}

pub(crate) fn any_position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(log, number, chain)| Position {
        log,
        number,
        chain,
    })
}

/// Of few times, so that they meet.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let secs = || prop_oneof![4 => 0..4_u64, 1 => Just(EVER), 1 => 0..=EVER];
    let at_ms = prop_oneof![4 => 0..4_u64, 1 => 0..1_u64 << 48];
    (any_id(), any_kind(), any::<bool>(), secs(), secs(), any::<bool>(), at_ms).prop_map(
        |(id, kind, lifts, before_secs, until_secs, by_exp, at_ms)| Record {
            id,
            kind,
            lifts,
            before_secs,
            until_secs,
            by_exp,
            at_ms,
        },
    )
}
