//! This proxy's share of a global limit, for the time that its store is away.
//!
//! A token bucket of the limit's rate and burst times our share of recent demand, which
//! starts empty when the store goes away, each time: what this proxy was already granted
//! before is not granted again. What it then lets through is owed (see
//! [`debts`](super::debts)). Windows are shared as a bucket of half the count that refills by the
//! other half in a period, which together never exceed the count in any window.
//!
//! Shares that were told at one moment add up to at most one, so what the fleet lets through on
//! them conforms. What comes on top, because leases are still spent beside them or demand has
//! moved since, is told in [`lease`](crate::lease). A share of an exact limit is never less than
//! one request at a time, which can add at most one request for each proxy. Of a leased limit it
//! is none then.

use crate::ask::SHARE_WHOLE_PPM;
use crate::key::Key;
use crate::limit::{Algorithm, PERIOD_MAX, PERIOD_MIN, Quota};
use crate::plan::Applied;
use crate::time::Span;

/// The limit as this proxy enforces it alone, under a key of its own.
pub(super) fn of(applied: &Applied, ppm: u32) -> Applied {
    Applied { key: aside(applied.key), quota: part(&applied.quota, ppm), ..*applied }
}

/// Whether so small a share lets any request through without being rounded up.
pub(super) fn is_any(applied: &Applied, ppm: u32) -> bool {
    u64::from(applied.quota.burst()) * u64::from(ppm) >= SHARE_WHOLE_PPM.into()
}

/// A key beside the global one: budgets of outages are not the budgets of the store.
fn aside(Key(bytes): Key) -> Key {
    Key(bytes.map(|byte| !byte))
}

fn part(quota: &Quota, ppm: u32) -> Quota {
    let ppm = ppm.clamp(1, SHARE_WHOLE_PPM);
    let half = match quota.algorithm() {
        Algorithm::TokenBucket => 1,
        Algorithm::SlidingWindow | Algorithm::SlidingCounter => 2,
    };
    let scale = u64::from(SHARE_WHOLE_PPM) * half;
    let share = |count: u32| u64::from(count) * u64::from(ppm) / scale;
    let burst = share(quota.burst()).max(1) as u32;
    let count = share(quota.count());
    if count >= 8 {
        // The rate rounds down by less than an eighth: under, not over.
        return bucket(count as u32, quota.period(), burst).unwrap_or(*quota);
    }
    // Too few a period to round: one request in a longer period instead.
    let nanos = u128::from(quota.period().0) * u128::from(scale)
        / (u128::from(quota.count()) * u128::from(ppm));
    let millis = nanos.div_ceil(u128::from(PERIOD_MIN.0));
    let period = Span::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    bucket(1, period.clamp(PERIOD_MIN, PERIOD_MAX), burst).unwrap_or(*quota)
}

fn bucket(count: u32, period: Span, burst: u32) -> Option<Quota> {
    Quota::new(Algorithm::TokenBucket, count, period, burst).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(algorithm: Algorithm, count: u32, secs: u64, ppm: u32) -> Quota {
        part(&Quota::new(algorithm, count, Span::from_secs(secs), count).unwrap(), ppm)
    }

    fn per_second(quota: &Quota) -> f64 {
        f64::from(quota.count()) * 1e9 / quota.period().0 as f64
    }

    #[test]
    fn a_share_is_never_more_than_its_part() {
        for count in [1, 5, 7, 100, 9_999] {
            for ppm in [100, 333, 10_000, 250_000, 999_999, 1_000_000] {
                let whole = f64::from(count) / 60.0 * f64::from(ppm) / 1e6;
                let bucket = shared(Algorithm::TokenBucket, count, 60, ppm);
                assert!(per_second(&bucket) <= whole * 1.000_001, "{count} {ppm}: {bucket}");
                let whole_burst = u64::from(count) * u64::from(ppm) / u64::from(SHARE_WHOLE_PPM);
                assert!(u64::from(bucket.burst()) <= whole_burst.max(1));
                let window = shared(Algorithm::SlidingWindow, count, 60, ppm);
                assert!(per_second(&window) <= whole * 0.500_001, "{count} {ppm}: {window}");
            }
        }
    }

    #[test]
    fn a_quarter_of_five_a_minute_is_one_in_48_seconds() {
        let quota = shared(Algorithm::TokenBucket, 5, 60, 250_000);
        assert_eq!((quota.count(), quota.period(), quota.burst()), (1, Span::from_secs(48), 1));
    }
}
