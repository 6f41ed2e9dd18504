//! Records that tests make up.

use tidegate_core::revoke::{EVER, Id, Kind, Record};

/// A token's record, told from others by its number.
pub(crate) fn token(number: u64) -> Record {
    let id = Id::of(Kind::Token, &[b"https://issuer.example", &number.to_le_bytes()]);
    Record {
        id,
        kind: Kind::Token,
        lifts: false,
        before_secs: EVER,
        until_secs: 4_000_000_000,
        by_exp: true,
        at_ms: 1_000,
    }
}

/// Its lifting.
pub(crate) fn lifted(record: Record) -> Record {
    Record { lifts: true, at_ms: record.at_ms + 1, ..record }
}
