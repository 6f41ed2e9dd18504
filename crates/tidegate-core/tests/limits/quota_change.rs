//! A change of configuration frees nobody: under any new quota a key has used at least
//! what it had used under the old one.

use crate::history::{any_quota, arrivals, play, quota, start};
use proptest::prelude::*;
use tidegate_core::limit::{Algorithm, Quota, State};
use tidegate_core::time::{Instant, Span};

fn used(quota: &Quota, state: &State, now: Instant) -> u32 {
    quota.burst() - quota.standing(state, now).remaining
}

proptest! {
    #[test]
    fn what_is_used_stays_used(
        old in any_quota(), new in any_quota(), start in start(), arrivals in arrivals(60),
    ) {
        // Rings into rings of a shorter period let go what is older than it: below.
        let rings = [&old, &new].iter().all(|q| q.algorithm() == Algorithm::SlidingWindow);
        prop_assume!(!rings || old.period() <= new.period());
        let mut state = State::default();
        let (_, now) = play(&old, &mut state, start, &arrivals);
        let before = used(&old, &state, now);
        let after = used(&new, &state, now);
        prop_assert!(after >= before.min(new.burst()), "{old} -> {new}: {before} -> {after}");
    }

    #[test]
    fn a_ring_of_another_period_still_counts_each_unit_for_that_period(
        old in quota(Algorithm::SlidingWindow), new in quota(Algorithm::SlidingWindow),
        start in start(), before in arrivals(60), after in arrivals(60),
    ) {
        let mut state = State::default();
        let (admitted, now) = play(&old, &mut state, start, &before);
        let shorter = old.period_ticks().min(new.period_ticks());
        let tick = now.0 / old.tick().nanos();
        let recent = admitted.iter().filter(|(at, _)| tick - at < shorter);
        let recent = recent.map(|(_, cost)| *cost).sum::<u32>();
        prop_assert!(used(&new, &state, now) >= recent.min(new.burst()), "{old} -> {new}");
        // From then on the new quota's own bound holds, old units included.
        let (later, _) = play(&new, &mut state, now, &after);
        let crowd = admitted.into_iter().filter(|(at, _)| tick - at < shorter);
        let all: Vec<_> = crowd.chain(later.clone()).collect();
        for (at, _) in later.iter().filter(|(_, cost)| *cost > 0) {
            let window = all.iter().filter(|(t, _)| t <= at && at - t < shorter);
            let sum = window.map(|(_, cost)| u64::from(*cost)).sum::<u64>();
            prop_assert!(sum <= u64::from(new.count()), "{old} -> {new}: {sum}");
        }
    }
}

#[test]
fn a_bucket_keeps_its_whole_units_at_another_rate() {
    let minute = Span::from_secs(60);
    let old = Quota::new(Algorithm::TokenBucket, 100, minute, 20).unwrap();
    let new = Quota::new(Algorithm::TokenBucket, 7, minute, 30).unwrap();
    let mut state = State::default();
    let now = Instant(Span::from_secs(1_000).0);
    assert!(old.take(&mut state, now, 15).is_ok());
    assert_eq!(new.standing(&state, now).remaining, 15);
    // Two seconds drain 3.33 units at the old rate; 11.67 left are 12 at the new one.
    let later = now.after(Span::from_secs(2));
    assert_eq!(new.standing(&state, later).remaining, 18);
}

#[test]
fn a_smaller_burst_is_used_up_but_not_owed_beyond() {
    let second = Span::from_secs(1);
    let old = Quota::new(Algorithm::TokenBucket, 1_000, second, 1_000).unwrap();
    let new = Quota::new(Algorithm::TokenBucket, 10, second, 10).unwrap();
    let mut state = State::default();
    let now = Instant(Span::from_secs(1_000).0);
    assert!(old.take(&mut state, now, 1_000).is_ok());
    assert_eq!(new.standing(&state, now).remaining, 0);
    assert_eq!(new.standing(&state, now.after(second)).remaining, 10);
}
