//! Made-up quotas and arrivals, and the oracles that admitted streams are held against.

use proptest::prelude::*;
use tidegate_core::limit::{Algorithm, Quota, Refused, Standing, State};
use tidegate_core::time::{Instant, Span};

pub(crate) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::SlidingCounter];

/// A quota of this algorithm; small ones mostly, so that their edges are met often.
pub(crate) fn quota(algorithm: Algorithm) -> impl Strategy<Value = Quota> {
    let count = prop_oneof![4 => 1..=40_u32, 1 => 41..=2_000_000_u32];
    let burst = prop_oneof![4 => 1..=40_u32, 1 => 41..=10_000_u32];
    let millis = prop_oneof![1..=50_u64, Just(1_000), Just(60_000), Just(86_399_999)];
    (count, burst, millis).prop_filter_map("too fine", move |(count, burst, millis)| {
        Quota::new(algorithm, count, Span::from_millis(millis), burst).ok()
    })
}

pub(crate) fn any_quota() -> impl Strategy<Value = Quota> {
    prop_oneof![
        quota(Algorithm::TokenBucket),
        quota(Algorithm::SlidingWindow),
        quota(Algorithm::SlidingCounter),
    ]
}

/// One arrival: how long after the one before, in parts of 2^16 of a period, give or take
/// some nanoseconds; and its cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) gap: u32,
    pub(crate) nudge_ns: i32,
    pub(crate) cost: u32,
}

pub(crate) fn arrival() -> impl Strategy<Value = Arrival> {
    let gap = prop_oneof![
        6 => Just(0_u32),
        6 => 0..700_u32,
        // Whole tenths and wholes of a period: the edges of windows and sub-counters.
        3 => (1..=25_u32).prop_map(|tenths| tenths * 65_536 / 10),
        1 => 0..200_000_u32,
    ];
    let nudge_ns = prop_oneof![Just(0), -2_000..=2_000_i32, -1_500_000..=1_500_000_i32];
    let cost = prop_oneof![6 => Just(1_u32), 3 => 0..=9_u32, 1 => 0..=60_u32];
    (gap, nudge_ns, cost).prop_map(|(gap, nudge_ns, cost)| Arrival { gap, nudge_ns, cost })
}

pub(crate) fn arrivals(most: usize) -> impl Strategy<Value = Vec<Arrival>> {
    prop::collection::vec(arrival(), 1..most)
}

/// Any clock reading that is not absurd: up to 36 years from its zero.
pub(crate) fn start() -> impl Strategy<Value = Instant> {
    prop_oneof![Just(0_u64), 0..1_u64 << 60].prop_map(Instant)
}

impl Arrival {
    /// When it comes, if the last one came at `now`.
    pub(crate) fn at(&self, now: Instant, quota: &Quota) -> Instant {
        let gap = (u128::from(quota.period().0) * u128::from(self.gap)) >> 16;
        let gap = i64::try_from(gap).unwrap() + i64::from(self.nudge_ns);
        now.after(Span(u64::try_from(gap).unwrap_or(0)))
    }
}

/// Plays arrivals; returns what was admitted, in ticks of the quota, and the end.
pub(crate) fn play(
    quota: &Quota,
    state: &mut State,
    mut now: Instant,
    arrivals: &[Arrival],
) -> (Vec<(u64, u32)>, Instant) {
    let mut admitted = Vec::new();
    for arrival in arrivals {
        now = arrival.at(now, quota);
        let said = quota.check(state, now, arrival.cost);
        let before = state.clone();
        let done = quota.take(state, now, arrival.cost);
        assert_eq!(said, done, "check says what take does");
        match done {
            Ok(standing) => {
                assert_eq!(standing, quota.standing(state, now), "the standing after taking");
                admitted.push((now.0 / quota.tick().nanos(), arrival.cost));
            }
            Err(_) => assert_eq!(*state, before, "a refusal changes nothing"),
        }
    }
    (admitted, now)
}

/// The most units admitted in any window of `window` ticks.
pub(crate) fn most_in_any_window(admitted: &[(u64, u32)], window: u64) -> u64 {
    let mut most = 0;
    let mut sum = 0_u64;
    let mut first = 0;
    for (at, cost) in admitted {
        sum += u64::from(*cost);
        // Trailing and half open: a unit exactly one window old is outside.
        while at - admitted[first].0 >= window {
            sum -= u64::from(admitted[first].1);
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// By how much a stream exceeds `burst + rate × t` in its worst window, in units of backlog
/// (`period_ticks` of them are one request): at most 0 if it conforms.
///
/// Over all i <= j: `Σ cost(i..=j) × P − (t_j − t_i) × count − burst × P`, by keeping the
/// least of what is subtracted.
pub(crate) fn excess(quota: &Quota, admitted: &[(u64, u32)]) -> i128 {
    let (period, count) = (i128::from(quota.period_ticks()), i128::from(quota.count()));
    let (mut total, mut least, mut worst) = (0_i128, i128::MAX, i128::MIN);
    for (at, cost) in admitted {
        let allowed = i128::from(*at) * count;
        least = least.min(total - allowed);
        total += i128::from(*cost) * period;
        worst = worst.max(total - allowed - least);
    }
    worst.saturating_sub(i128::from(quota.burst()) * period)
}

/// Whatever a refusal or standing says of the future must come true, to the tick.
pub(crate) fn foretells_exactly(quota: &Quota, state: &State, now: Instant, cost: u32) {
    let tick = quota.tick().nanos();
    match quota.check(state, now, cost) {
        Ok(_) => {}
        Err(Refused::Never) => assert!(cost > quota.burst()),
        Err(Refused::Wait { wait, standing }) => {
            assert_eq!(standing, quota.standing(state, now));
            assert!(wait.0 >= tick, "refused, but told to come at once");
            let there = now.after(wait);
            assert!(quota.check(state, there, cost).is_ok(), "{quota} after {wait}");
            let early = Instant(there.0 - tick);
            assert!(quota.check(state, early, cost).is_err(), "{quota} a tick before {wait}");
        }
    }
    let Standing { remaining, reset } = quota.standing(state, now);
    let mut drained = state.clone();
    quota.take(&mut drained, now, remaining).unwrap();
    let there = now.after(reset);
    assert!(quota.check(&drained, there, 1).is_ok(), "{quota} after reset {reset}");
    let early = Instant(there.0 - tick);
    assert!(quota.check(&drained, early, 1).is_err(), "{quota} a tick before reset {reset}");
}
