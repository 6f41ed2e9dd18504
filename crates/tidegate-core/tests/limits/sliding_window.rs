//! Never more than `count` in any window, and at least 10/11 of it under lasting demand.

use crate::history::{arrivals, foretells_exactly, most_in_any_window, play, quota, start};
use proptest::prelude::*;
use tidegate_core::limit::sliding_window::SUB_COUNTERS;
use tidegate_core::limit::{Algorithm, Quota, Refused, State};
use tidegate_core::time::{Instant, Span};

proptest! {
    #[test]
    fn no_window_at_all_holds_more_than_the_count(
        quota in quota(Algorithm::SlidingWindow), start in start(), arrivals in arrivals(200),
    ) {
        let (admitted, _) = play(&quota, &mut State::default(), start, &arrivals);
        let most = most_in_any_window(&admitted, quota.period_ticks());
        prop_assert!(most <= u64::from(quota.count()), "{quota}: {most}, {admitted:?}");
    }

    #[test]
    fn waits_are_exact(
        quota in quota(Algorithm::SlidingWindow), start in start(), arrivals in arrivals(30),
        cost in 1..60_u32,
    ) {
        let mut state = State::default();
        let (_, now) = play(&quota, &mut state, start, &arrivals);
        foretells_exactly(&quota, &state, now, cost);
    }
}

/// Demand that never lets up, from dense to barely above the quota.
#[test]
fn lasting_demand_gets_ten_elevenths_of_the_count() {
    let quota = Quota::new(Algorithm::SlidingWindow, 100, Span::from_millis(100), 100).unwrap();
    let periods = 100;
    let k = SUB_COUNTERS as u64;
    for gap_us in [13_u64, 101, 333, 500, 910, 999] {
        let mut state = State::default();
        let ticks = (0..periods * quota.period_ticks()).step_by(gap_us as usize);
        let admitted: Vec<_> = ticks
            .filter(|us| quota.take(&mut state, Instant(us * 1_000), 1).is_ok())
            .map(|us| (us, 1))
            .collect();
        let most = most_in_any_window(&admitted, quota.period_ticks());
        let floor = u64::from(quota.count()) * periods * k / (k + 1);
        assert!(admitted.len() as u64 >= floor, "every {gap_us} µs: {} < {floor}", admitted.len());
        // The bound is met, not only kept: with dense demand a window does fill up.
        assert!(most <= 100 && (gap_us > 500 || most == 100), "every {gap_us} µs: {most}");
    }
}

#[test]
fn a_unit_is_counted_until_its_sub_counter_is_a_period_old() {
    let quota = Quota::new(Algorithm::SlidingWindow, 2, Span::from_secs(1), 2).unwrap();
    let mut state = State::default();
    let at = |ms: u64| Instant(ms * 1_000_000);
    assert_eq!(quota.take(&mut state, at(50), 1).unwrap().remaining, 1);
    assert_eq!(quota.take(&mut state, at(199), 1).unwrap().remaining, 0);
    // The first was counted in 0..100 ms, so it leaves at 1100; the second at 1200.
    let Err(Refused::Wait { wait, standing }) = quota.check(&state, at(200), 1) else { panic!() };
    assert_eq!((wait, standing.reset), (Span::from_millis(900), Span::from_millis(900)));
    let Err(Refused::Wait { wait, .. }) = quota.check(&state, at(200), 2) else { panic!() };
    assert_eq!(wait, Span::from_millis(1_000));
    assert_eq!(quota.standing(&state, at(1_099)).remaining, 0);
    assert_eq!(quota.standing(&state, at(1_100)).remaining, 1);
    assert_eq!(quota.standing(&state, at(1_200)).remaining, 2);
}
