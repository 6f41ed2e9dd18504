//! Quotas, wants and grants, made up.

use proptest::prelude::*;
use tidegate_core::ask::{LimitTag, SHARE_WHOLE_PPM};
use tidegate_core::key::Key;
use tidegate_core::lease::{Grant, HORIZON_MAX, SETTLED_MAX, Settled, Terms, Want};
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::{Instant, Span};

pub(crate) const KEY: Key = Key([3; 16]);
pub(crate) const LIMIT: LimitTag = LimitTag(5);
pub(crate) const NOW: Instant = Instant(1_000_000_000_000);

pub(crate) fn bucket(rate: u32, burst: u32) -> Quota {
    Quota::new(Algorithm::TokenBucket, rate, Span::from_secs(1), burst).unwrap()
}

pub(crate) fn window(count: u32, secs: u64) -> Quota {
    Quota::new(Algorithm::SlidingWindow, count, Span::from_secs(secs), count).unwrap()
}

pub(crate) fn terms(quota: Quota) -> Terms {
    Terms::new(quota, Span::from_millis(20), 0).unwrap()
}

/// Asks for so many units as a lease, and tells nothing.
pub(crate) fn want(quota: Quota, units: u32) -> Want {
    Want {
        units,
        least: units.min(1),
        rate_milli: 1_000_000,
        tried: units,
        ..Want::nothing(KEY, LIMIT, quota)
    }
}

/// Any quota that is leased, the largest too.
pub(crate) fn leased_quota() -> impl Strategy<Value = Quota> {
    let of_bucket = (1..=u32::MAX, 1..=u32::MAX, 1..=86_400_000_u64).prop_filter_map(
        "too fine",
        |(count, burst, millis)| {
            let shift = millis % 32;
            let (count, burst) = ((count >> shift).max(1), (burst >> shift).max(1));
            Quota::new(Algorithm::TokenBucket, count, Span::from_millis(millis), burst).ok()
        },
    );
    let of_window = (1..=u32::MAX, 2_000..=31_622_400_000_u64).prop_filter_map(
        "too long",
        |(count, millis)| {
            Quota::new(Algorithm::SlidingWindow, count, Span::from_millis(millis), count).ok()
        },
    );
    prop_oneof![of_bucket, of_window]
}

pub(crate) fn any_want() -> impl Strategy<Value = Want> {
    let settled = any::<[(u32, u32, u32); SETTLED_MAX]>();
    let counts = any::<[u32; 7]>();
    let large = (any::<u64>(), any::<[u8; 16]>(), any::<u64>());
    (leased_quota(), settled, counts, large, any::<u8>()).prop_map(
        |(quota, settled, [era, version, known, owed, units, soon, tried], large, reserve)| {
            let (rate_milli, key, limit) = large;
            let reserve = Terms::new(quota, Span::ZERO, reserve.into()).unwrap().reserve();
            let settled =
                settled.map(|(epoch, spent, returned)| Settled { epoch, spent, returned });
            let soon = soon.min(units);
            Want {
                key: Key(key),
                limit: LimitTag(limit),
                quota,
                reserve,
                era,
                version,
                settled,
                known,
                owed,
                units,
                soon,
                least: soon / 2,
                rate_milli,
                tried,
            }
        },
    )
}

pub(crate) fn any_grant() -> impl Strategy<Value = Grant> {
    let counts = any::<[u32; 7]>();
    let large = (any::<u64>(), 0..=HORIZON_MAX.0, any::<u64>());
    (counts, large).prop_map(|([units, soon, era, epoch, version, remaining, share], large)| {
        Grant {
            units,
            soon: soon.min(units),
            era,
            epoch,
            version,
            wait: Span(large.0),
            horizon: Span(large.1),
            remaining,
            rate_milli: large.2,
            share_ppm: share % (SHARE_WHOLE_PPM + 1),
        }
    })
}
