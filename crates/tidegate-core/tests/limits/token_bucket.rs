//! At most `burst + rate × t` in any time `t`, in whole numbers.

use crate::history::{arrivals, excess, foretells_exactly, play, quota, start};
use proptest::prelude::*;
use tidegate_core::limit::{Algorithm, Quota, Refused, State};
use tidegate_core::time::{Instant, Span};

fn bucket(count: u32, period: Span, burst: u32) -> Quota {
    Quota::new(Algorithm::TokenBucket, count, period, burst).unwrap()
}

proptest! {
    #[test]
    fn no_window_holds_more_than_burst_and_rate(
        quota in quota(Algorithm::TokenBucket), start in start(), arrivals in arrivals(200),
    ) {
        let (admitted, _) = play(&quota, &mut State::default(), start, &arrivals);
        let excess = excess(&quota, &admitted);
        prop_assert!(excess <= 0, "{quota}: {excess} above, {admitted:?}");
    }

    #[test]
    fn waits_are_exact(
        quota in quota(Algorithm::TokenBucket), start in start(), arrivals in arrivals(30),
        cost in 1..60_u32,
    ) {
        let mut state = State::default();
        let (_, now) = play(&quota, &mut state, start, &arrivals);
        foretells_exactly(&quota, &state, now, cost);
    }
}

/// Rates without a common factor, asked at every tick and odd multiples of ticks: what was
/// admitted is always exactly what a real number would allow, so nothing was ever rounded.
#[test]
fn nothing_drifts_over_millions_of_arrivals() {
    for (count, millis, burst) in [(999_983, 86_400_000, 7), (7, 1_000, 1), (1_009, 997, 13)] {
        let quota = bucket(count, Span::from_millis(millis), burst);
        let tick = quota.tick().nanos();
        let mut state = State::default();
        let (mut total, mut ticks) = (0_u64, 0_u64);
        for arrival in 0..1_000_000_u64 {
            while quota.take(&mut state, Instant(ticks * tick), 1).is_ok() {
                total += 1;
            }
            // Never so long that the bucket would fill up, which alone may lose units.
            ticks += 1 + arrival % 29;
        }
        let last = ticks - 1 - 999_999 % 29;
        let grown = u128::from(last) * u128::from(count) / u128::from(quota.period_ticks());
        assert_eq!(u128::from(total), u128::from(burst) + grown, "{quota}");
    }
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_one_per_interval() {
    let quota = bucket(50, Span::from_secs(1), 3);
    let mut state = State::default();
    let now = Instant(7);
    for left in [2, 1, 0] {
        assert_eq!(quota.take(&mut state, now, 1).unwrap().remaining, left);
    }
    let Err(Refused::Wait { wait, standing }) = quota.take(&mut state, now, 1) else {
        panic!("a fourth one was admitted");
    };
    assert_eq!((wait, standing.remaining), (Span::from_millis(20), 0));
    assert_eq!(standing.reset, wait);
    assert!(quota.take(&mut state, now.after(wait), 1).is_ok());
}

#[test]
fn a_cost_above_the_burst_is_refused_for_good() {
    let quota = bucket(100, Span::from_secs(1), 20);
    let mut state = State::default();
    assert_eq!(quota.take(&mut state, Instant(0), 21), Err(Refused::Never));
    assert_eq!(quota.take(&mut state, Instant(0), u32::MAX), Err(Refused::Never));
    assert!(quota.take(&mut state, Instant(0), 20).is_ok());
}

#[test]
fn the_largest_quotas_stay_exact() {
    // As far as numbers go: bounds of Quota::new, a clock at its end.
    let quota = bucket(u32::MAX, Span::from_millis(1), u32::MAX);
    let mut state = State::default();
    assert_eq!(quota.take(&mut state, Instant(u64::MAX), u32::MAX).unwrap().remaining, 0);
    assert!(quota.take(&mut state, Instant(u64::MAX), 1).is_err());
    let slow = bucket(1, Span::from_secs(366 * 86_400), 1);
    let mut state = State::default();
    assert!(slow.take(&mut state, Instant(0), 1).is_ok());
    let Err(Refused::Wait { wait, .. }) = slow.check(&state, Instant(0), 1) else { panic!() };
    assert_eq!(wait, slow.period());
}
