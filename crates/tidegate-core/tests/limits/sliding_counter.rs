//! The interpolated counter does what its formula says, and its worst case is as stated.

use crate::history::{arrivals, foretells_exactly, most_in_any_window, play, quota, start};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidegate_core::limit::{Algorithm, Quota, State};
use tidegate_core::time::{Instant, Span};

proptest! {
    #[test]
    fn decisions_follow_the_formula_and_no_window_holds_more_than_twice_the_count(
        quota in quota(Algorithm::SlidingCounter), start in start(), arrivals in arrivals(200),
    ) {
        let (window, count) = (u128::from(quota.period_ticks()), u128::from(quota.count()));
        let mut state = State::default();
        let mut now = start;
        let mut windows = BTreeMap::<u128, u128>::new();
        let mut admitted = Vec::new();
        for arrival in &arrivals {
            now = arrival.at(now, &quota);
            let tick = u128::from(now.0 / quota.tick().nanos());
            let (id, elapsed) = (tick / window, tick % window);
            let cur = windows.get(&id).copied().unwrap_or(0);
            let prev = id.checked_sub(1).and_then(|id| windows.get(&id)).copied().unwrap_or(0);
            let estimate = prev * (window - elapsed) + (cur + u128::from(arrival.cost)) * window;
            let admits = estimate <= count * window || arrival.cost == 0;
            prop_assert_eq!(quota.take(&mut state, now, arrival.cost).is_ok(), admits);
            if admits {
                *windows.entry(id).or_default() += u128::from(arrival.cost);
                admitted.push((tick as u64, arrival.cost));
            }
        }
        let most = most_in_any_window(&admitted, quota.period_ticks());
        prop_assert!(most <= 2 * u64::from(quota.count()), "{quota}: {most}");
    }

    #[test]
    fn waits_are_exact(
        quota in quota(Algorithm::SlidingCounter), start in start(), arrivals in arrivals(30),
        cost in 1..60_u32,
    ) {
        let mut state = State::default();
        let (_, now) = play(&quota, &mut state, start, &arrivals);
        foretells_exactly(&quota, &state, now, cost);
    }
}

/// All of one window in its last moment, then as much as is let through until just before
/// that is a period old: the worst there is. This is why it is called approximate.
#[test]
fn the_worst_case_is_just_under_twice_the_count() {
    let quota = Quota::new(Algorithm::SlidingCounter, 1_000, Span::from_secs(1), 1_000).unwrap();
    let mut state = State::default();
    let window = quota.period_ticks();
    let mut admitted = Vec::new();
    let mut now = window - 1;
    while now < 2 * window - 1 {
        while quota.take(&mut state, Instant(now * 1_000), 1).is_ok() {
            admitted.push((now, 1));
        }
        now += 100;
    }
    let most = most_in_any_window(&admitted, window);
    assert!((1_998..=2_000).contains(&most), "measured {most} of a count of 1000");
}

#[test]
fn counts_of_millions_a_month_are_possible() {
    let month = Span::from_secs(30 * 86_400);
    let quota = Quota::new(Algorithm::SlidingCounter, 50_000_000, month, 50_000_000).unwrap();
    let mut state = State::default();
    assert!(quota.take(&mut state, Instant(0), 50_000_000).is_ok());
    assert_eq!(quota.standing(&state, Instant(0).after(month)).remaining, 0);
    // Half of it has faded in the middle of the next month.
    let middle = Instant(month.0 * 3 / 2);
    assert_eq!(quota.standing(&state, middle).remaining, 25_000_000);
}
