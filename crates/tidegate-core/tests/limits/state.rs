//! What holds of every algorithm's state: takes undone, clocks that step back, bytes that
//! nobody wrote, and what a weight foretells.

use crate::history::{ALGORITHMS, any_quota, arrival, arrivals, play, quota, start};
use proptest::prelude::*;
use tidegate_core::limit::token_bucket::{Chunk, draw};
use tidegate_core::limit::{Algorithm, Impossible, Quota, STATE_BYTES, State};
use tidegate_core::time::{Instant, Span};

proptest! {
    #[test]
    fn put_back_undoes_a_take(
        quota in any_quota(), start in start(), arrivals in arrivals(30), last in arrival(),
    ) {
        let mut state = State::default();
        let (_, now) = play(&quota, &mut state, start, &arrivals);
        let now = last.at(now, &quota);
        let (standing, weight) = (quota.standing(&state, now), quota.weight(&state, now));
        if quota.take(&mut state, now, last.cost).is_ok() {
            quota.put_back(&mut state, now, last.cost);
            prop_assert_eq!(quota.standing(&state, now), standing);
            prop_assert_eq!(quota.weight(&state, now), weight);
        }
    }

    #[test]
    fn put_back_never_gives_more_than_an_empty_state_has(
        quota in any_quota(), start in start(), arrivals in arrivals(30), cost in 0..=u32::MAX,
    ) {
        let mut state = State::default();
        let (_, now) = play(&quota, &mut state, start, &arrivals);
        quota.put_back(&mut state, now, cost);
        prop_assert!(quota.standing(&state, now).remaining <= quota.burst());
    }

    /// Windows forget nothing early: a take put back later, by its own instant, leaves
    /// room for no more than was truly used.
    #[test]
    fn a_window_put_back_late_is_still_exact(
        quota in quota(Algorithm::SlidingWindow), start in start(),
        before in arrivals(20), undone in arrival(), after in arrivals(40), rest in arrivals(40),
    ) {
        let mut state = State::default();
        let (mut admitted, now) = play(&quota, &mut state, start, &before);
        let then = undone.at(now, &quota);
        let took = quota.take(&mut state, then, undone.cost).is_ok();
        let (between, now) = play(&quota, &mut state, then, &after);
        if took {
            quota.put_back(&mut state, then, undone.cost);
        }
        let (rest, _) = play(&quota, &mut state, now, &rest);
        admitted.extend(between.into_iter().chain(rest));
        let most = crate::history::most_in_any_window(&admitted, quota.period_ticks());
        prop_assert!(most <= u64::from(quota.count()), "{quota}: {most}");
    }

    /// However often the clock steps back and forth, as the readings of several workers
    /// do, time passes once: a bucket and a ring say what their twin says that is only ever
    /// told the latest reading. A counter may say less, as an earlier moment of a window
    /// counts more of the last one.
    #[test]
    fn a_clock_that_steps_back_admits_no_more(
        quota in any_quota(), start in start(),
        arrivals in prop::collection::vec((arrival(), 0..3_u64), 1..60),
    ) {
        let (mut state, mut twin, mut now) = (State::default(), State::default(), start);
        for (arrival, back) in arrivals {
            now = arrival.at(now, &quota);
            // So that the latest reading is one that the state has been told.
            let _ = quota.take(&mut state, now, 1);
            let _ = quota.take(&mut twin, now, 1);
            let stepped = Instant(now.0.saturating_sub(back * quota.period().0 / 3));
            let latest = quota.standing(&state, now).remaining;
            prop_assert!(quota.standing(&state, stepped).remaining <= latest);
            let took = quota.take(&mut state, stepped, arrival.cost).is_ok();
            if quota.algorithm() != Algorithm::SlidingCounter {
                prop_assert_eq!(took, quota.take(&mut twin, now, arrival.cost).is_ok());
                prop_assert_eq!(quota.standing(&state, now), quota.standing(&twin, now));
            }
        }
    }

    #[test]
    fn a_weight_says_when_forgetting_loses_nothing(
        quota in any_quota(), start in start(), arrivals in arrivals(30),
    ) {
        let mut state = State::default();
        let (_, now) = play(&quota, &mut state, start, &arrivals);
        let weight = quota.weight(&state, now);
        let used = quota.burst() - quota.standing(&state, now).remaining;
        prop_assert_eq!(weight.debt == 0, used == 0);
        let parts = u64::from(weight.debt) * u64::from(quota.burst());
        let most = u64::from(used) * 65_535 + u64::from(quota.burst());
        prop_assert!(parts < most, "{quota}: {} of {used}", weight.debt);
        if weight.fresh_at > now {
            let at = weight.fresh_at;
            prop_assert_eq!(quota.standing(&state, at), quota.standing(&State::default(), at));
            let before = Instant(at.0 - quota.tick().nanos());
            prop_assert_ne!(quota.weight(&state, before).debt, 0);
        } else {
            prop_assert_eq!(used, 0);
        }
    }

    /// Memory shared with another version, or plain garbage: an answer, never a panic.
    #[test]
    fn bytes_that_no_state_has_are_survived(
        quota in any_quota(), code in 0..5_u8, tick in 0..5_u8, zeros in 0..STATE_BYTES,
        bytes in any::<[u8; STATE_BYTES]>(), now in any::<u64>(), cost in 0..100_u32,
    ) {
        let mut bytes = bytes;
        bytes.iter_mut().skip(8).step_by(2).take(zeros).for_each(|byte| *byte = 0);
        bytes[0] = code;
        bytes[1] = tick;
        let (mut state, now) = (State::from_bytes(bytes), Instant(now));
        prop_assert_eq!(state.as_bytes(), &bytes);
        let _ = quota.check(&state, now, cost);
        let _ = quota.weight(&state, now);
        quota.put_back(&mut state, now, cost);
        let old = Chunk { epoch: 0, granted: cost, left: cost };
        let _ = draw(&quota, &mut state, now, old, cost, cost);
        let _ = quota.take(&mut state, now, cost);
        prop_assert!(quota.standing(&state, now).remaining <= quota.burst());
    }
}

#[test]
fn a_cost_of_zero_always_succeeds_and_charges_nothing() {
    for algorithm in ALGORITHMS {
        let quota = Quota::new(algorithm, 3, Span::from_secs(1), 3).unwrap();
        let (mut state, now) = (State::default(), Instant(123_456_789));
        assert_eq!(quota.take(&mut state, now, 0).unwrap().remaining, 3);
        assert_eq!(state, State::default());
        assert!(quota.take(&mut state, now, 3).is_ok());
        let full = state.clone();
        assert_eq!(quota.take(&mut state, now, 0).unwrap().remaining, 0);
        assert_eq!(state, full);
    }
}

#[test]
fn the_burst_of_a_window_is_its_count() {
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingCounter] {
        let quota = Quota::new(algorithm, 3, Span::from_secs(1), 99).unwrap();
        assert_eq!(quota.burst(), 3);
    }
}

#[test]
fn quotas_that_no_tick_fits_are_refused() {
    let year = Span::from_secs(366 * 86_400);
    let most = u32::MAX;
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingCounter] {
        let odd = Quota::new(algorithm, most - 4, year, most);
        assert_eq!(odd, Err(Impossible::TooFine), "{algorithm:?}");
    }
    assert!(Quota::new(Algorithm::SlidingWindow, most, year, most).is_ok());
    let short = Quota::new(Algorithm::SlidingWindow, 1, Span::from_micros(999), 1);
    assert_eq!(short, Err(Impossible::Period));
    assert_eq!(Quota::new(Algorithm::TokenBucket, 0, year, 1), Err(Impossible::Zero));
    assert_eq!(Quota::new(Algorithm::TokenBucket, 1, year, 0), Err(Impossible::Zero));
}
