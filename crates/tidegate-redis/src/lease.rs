//! An ask for leases as calls of `lease.lua`, one for each key, and what came back as grants.
//!
//! A server keeps of each key the very bytes of [`Record`](tidegate_core::lease::Record), 96 of
//! a bucket and 120 of a window, and gives to the bit its replies. What came twice is told from
//! what came once before a server is asked: by [`Replays`](tidegate_core::lease::Replays), in
//! the store.
//!
//! A call costs the server about 1.3 times what an exact ask of one budget does: by its own
//! count 18 µs for a bucket and 21 µs for a window, against 14 and 16 µs, where a holder
//! settles one epoch and is granted another (Redis 7.0 on a busy core; see the test
//! `what_a_call_costs_the_server`). A key never seen costs the same. It brings many units.
//!
//! A server's stamp is drawn from the id of the history of writes that it goes on with, so all
//! hosts say the same, and one that fails over, or starts again, has another. So a key that
//! moves to another shard begins a new era too, which costs it a burst, once. Where a server
//! does not tell (its user may not say `INFO`), the stamp is 0: then only holders that know
//! more than the record show that grants were lost.

use crate::call::{KEY_NAME_BYTES, Script, algorithm_code, key_name};
use crate::error::Error;
use crate::lineage::History;
use redis::{Cmd, Value};
use std::sync::Arc;
use tidegate_core::lease::{Ask, Grant, HolderId, Place, SETTLED_MAX, Terms, Want};
use tidegate_core::limit::Tick;
use tidegate_core::time::Span;

/// What is before the limit in a key's name.
const NAMESPACE: &str = "tidegate:lease:";

const NAME_BYTES: usize = KEY_NAME_BYTES + NAMESPACE.len();

/// Bytes of one packed want.
const WANT_BYTES: usize = 4 + NUMBERS * 4 + QUANTITIES * 8 + 8;

/// Numbers of 32 bits in it, and doubles.
const NUMBERS: usize = 11 + 3 * SETTLED_MAX;
const QUANTITIES: usize = 6;

/// Bytes of one packed grant.
const GRANT_BYTES: usize = 6 * 4 + 8 + 1 + 8;

/// One call of the script.
#[derive(Clone)]
pub(crate) struct Leasing {
    ask: Arc<Ask>,
    /// About which key of it.
    want: usize,
    /// Whether what it settles is believed.
    may_settle: bool,
    /// Where and when; `None` is the server's own.
    place: Option<Place>,
}

impl Leasing {
    pub(crate) const fn new(
        ask: Arc<Ask>,
        want: usize,
        may_settle: bool,
        place: Option<Place>,
    ) -> Self {
        Self { ask, want, may_settle, place }
    }

    pub(crate) fn want(&self) -> Option<&Want> {
        self.ask.wants.get(self.want)
    }

    /// What is sent to a server that goes on with this history of writes.
    pub(crate) fn command(&self, history: Option<&History>) -> Cmd {
        let Some(want) = self.want() else { return Cmd::new() };
        let here = match (&self.place, history) {
            (Some(place), _) => Here::of(place),
            (None, Some(history)) => {
                Here { now_us: 0, stamp: history.stamp, age_us: history.age_us() }
            }
            (None, None) => Here { now_us: 0, stamp: 0, age_us: None },
        };
        let bytes = "EVALSHA".len() + 40 + 1 + NAME_BYTES + 20 + WANT_BYTES;
        let mut call = Cmd::with_capacity(6, bytes);
        call.arg("EVALSHA").arg(Script::Lease.sha()).arg(1);
        call.arg(&key_name::<NAME_BYTES>(NAMESPACE, want.limit, want.key)[..]);
        call.arg(here.now_us);
        call.arg(&pack(want, self.ask.holder, self.may_settle, &here)[..]);
        call
    }
}

/// A [`Place`], as scripts are told it.
struct Here {
    now_us: u64,
    stamp: u64,
    /// How long ago the history began, if keys may have been lost before it.
    age_us: Option<u64>,
}

impl Here {
    fn of(place: &Place) -> Self {
        let age_us = place.began.map(|began| place.now.since(began).micros());
        Self { now_us: place.now.micros(), stamp: place.stamp, age_us }
    }
}

/// What a quota that is leased means for its leases; `None` for one that is not.
pub(crate) fn terms(want: &Want) -> Option<Terms> {
    Terms::new(want.quota, Span::ZERO, want.reserve)
}

/// The grant that `value` says.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole numbers, never below zero"
)]
pub(crate) fn grant(terms: &Terms, value: &Value) -> Result<Grant, Error> {
    let Value::BulkString(bytes) = value else { return Err(Error::Garbled("no string")) };
    let bytes: &[u8; GRANT_BYTES] =
        bytes[..].try_into().map_err(|_| Error::Garbled("a grant of another length"))?;
    let (numbers, rest) = bytes.split_at(6 * 4);
    let mut numbers = numbers
        .chunks_exact(4)
        .map(|number| number.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte)));
    let mut next = || numbers.next().unwrap_or(0);
    let [units, soon, era, epoch, version, remaining] = std::array::from_fn(|_| next());
    let (rate, rest) = rest.split_at(8);
    let (unit, wait) = rest.split_at(1);
    let double = |bytes: &[u8]| bytes.try_into().map_or(0.0, f64::from_le_bytes) as u64;
    let unit_ns = match unit {
        [0] => 1,
        [1] => Tick::Micro.nanos(),
        [2] => Tick::Milli.nanos(),
        [3] => Tick::Second.nanos(),
        _ => return Err(Error::Garbled("a wait in no known unit")),
    };
    let rate_milli = double(rate);
    Ok(Grant {
        units,
        soon,
        era,
        epoch,
        version,
        wait: Span(double(wait).saturating_mul(unit_ns)),
        horizon: terms.horizon(remaining, rate_milli),
        remaining,
        rate_milli,
        share_ppm: 0,
    })
}

/// Packed as the head of the script says. All that must be exact is below 2^53: a double
/// holds it; a time to refill that is not is far beyond all that it is compared with.
#[expect(clippy::cast_precision_loss, reason = "see there")]
fn pack(want: &Want, holder: HolderId, may_settle: bool, here: &Here) -> [u8; WANT_BYTES] {
    let quota = &want.quota;
    let tick_code = match quota.tick() {
        Tick::Micro => 1,
        Tick::Milli => 2,
        Tick::Second => 3,
    };
    let terms = terms(want);
    let reserve = terms.as_ref().map_or(0, Terms::reserve);
    let refill_ns = terms.as_ref().map_or(0, |terms| terms.refill().0);
    let [a, b, c] = want.settled;
    let numbers: [u32; NUMBERS] = [
        quota.count(),
        quota.burst(),
        reserve,
        want.era,
        want.version,
        a.epoch,
        a.spent,
        a.returned,
        b.epoch,
        b.spent,
        b.returned,
        c.epoch,
        c.spent,
        c.returned,
        want.known,
        want.owed,
        want.units,
        want.soon,
        want.least,
        want.tried,
    ];
    let quantities: [f64; QUANTITIES] = [
        quota.period().millis_ceil() as f64,
        quota.cell() as f64,
        quota.drain() as f64,
        refill_ns as f64,
        want.rate_milli as f64,
        here.age_us.map_or(-1.0, |age| age as f64),
    ];
    let mut packed = [0; WANT_BYTES];
    let codes = [algorithm_code(quota.algorithm()), tick_code, may_settle.into(), holder.place()];
    packed[..4].copy_from_slice(&codes);
    let (number_places, rest) = packed[4..].split_at_mut(NUMBERS * 4);
    for (place, number) in number_places.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let (quantity_places, stamp_place) = rest.split_at_mut(QUANTITIES * 8);
    for (place, quantity) in quantity_places.chunks_exact_mut(8).zip(quantities) {
        place.copy_from_slice(&quantity.to_le_bytes());
    }
    stamp_place.copy_from_slice(&here.stamp.to_le_bytes());
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::limit::{Algorithm, Quota};

    #[test]
    fn strange_grants_are_said_to_be_so() {
        let quota = Quota::new(Algorithm::TokenBucket, 1, Span::from_secs(1), 1).unwrap();
        let terms = Terms::new(quota, Span::ZERO, 0).unwrap();
        let mut strange_unit = vec![0; GRANT_BYTES];
        strange_unit[6 * 4 + 8] = 4;
        for strange in [
            Value::Nil,
            Value::Int(1),
            Value::BulkString(Vec::new()),
            Value::BulkString(vec![0; GRANT_BYTES + 1]),
            Value::BulkString(strange_unit),
        ] {
            assert!(matches!(grant(&terms, &strange), Err(Error::Garbled(_))), "{strange:?}");
        }
        assert_eq!(grant(&terms, &Value::BulkString(vec![0; GRANT_BYTES])).unwrap().units, 0);
    }
}
