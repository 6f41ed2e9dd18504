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
        let (old, new) = if rings && old.period() > new.period() { (new, old) } else { (old, new) };
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

/// A take at 900 µs under a quota that counts in milliseconds is noted at tick 0. A quota
/// that counts in microseconds once read that as 900 µs in which to drain.
#[test]
fn a_coarser_tick_before_gives_no_time_for_free() {
    let coarse = Span::from_millis(86_399_999);
    let old = Quota::new(Algorithm::TokenBucket, 78_361, coarse, 1).unwrap();
    let new = Quota::new(Algorithm::TokenBucket, 4_330, Span::from_millis(1), 1).unwrap();
    assert_ne!(old.tick(), new.tick());
    let mut state = State::default();
    let now = Instant(Span::from_micros(900).0);
    assert!(old.take(&mut state, now, 1).is_ok());
    assert_eq!(new.standing(&state, now).remaining, 0);
}

/// Cutting the counts down to a lower count would make the last window fade sooner, and
/// let a client go on that was above the new count already.
#[test]
fn a_counter_above_a_lower_count_fades_as_it_would_have() {
    let second = Span::from_secs(1);
    let old = Quota::new(Algorithm::SlidingCounter, 15, second, 15).unwrap();
    let new = Quota::new(Algorithm::SlidingCounter, 4, second, 4).unwrap();
    let mut state = State::default();
    let now = Instant(Span::from_secs(1_000).0);
    assert!(old.take(&mut state, now, 14).is_ok());
    let later = now.after(Span::from_millis(1_500));
    assert_eq!(old.standing(&state, later).remaining, 15 - 7);
    assert_eq!(new.standing(&state, later).remaining, 0);
}
