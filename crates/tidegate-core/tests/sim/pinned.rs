//! Histories that break the promise as soon as one rule is left out, each with that rule.
//!
//! Each was found by leaving the rule out and playing on until a history showed it, among the
//! first 3,000 of either kind, or 10,000. Rules that none of 3,000 shows are tested by themselves:
//!
//! - in `tests/lease`: a purse is not spent once it has lapsed (each tick empties it, and none of
//!   10,000 shows it), settlements of another era are ignored, what is of another era is not kept,
//!   and an era has a name of its own (what is outstanding in a new era covers all three), so are
//!   settlements of more than is outstanding (nobody tells of more), at most half the burst is
//!   leased (leases are sized by a quarter of what is left), a debt is told until it is heard
//!   (none of 10,000), and time does not go back;
//! - in `tests/gate`: what a request took is kept while it waits for others, what was trusted is
//!   not used later, and what is put aside is not used once it has lapsed (all three within a
//!   deadline, in which little refills); and of shares, which a judge takes as they come: they
//!   start with nothing, and a new policy keeps what is owed. That they are charged is below.

use crate::fuzz::play;
use crate::rng::Rng;
use crate::scenario::{CALM_NET, Demand, Fault, Scenario};
use crate::world::World;
use tidegate_core::limit::Algorithm::{self, SlidingWindow, TokenBucket};
use tidegate_core::limit::Quota;
use tidegate_core::policy::OnError;
use tidegate_core::time::Span;

/// What was left out, and the history that showed it.
const PINNED: &[(&str, Algorithm, u64)] = &[
    ("an ask that comes twice settles once", TokenBucket, 2574),
    ("an ask that comes twice settles once", SlidingWindow, 338),
    ("an ask that may have come before settles nothing", TokenBucket, 1079),
    ("an ask that may have come before settles nothing", SlidingWindow, 223),
    ("a lot is not spent once it has lapsed", TokenBucket, 58),
    ("a lot is not spent once it has lapsed", SlidingWindow, 648),
    ("units live from when they were asked for, not from the reply", TokenBucket, 272),
    ("units live from when they were asked for, not from the reply", SlidingWindow, 1075),
    ("a late reply serves nobody who waits", TokenBucket, 48),
    ("a late reply serves nobody who waits", SlidingWindow, 134),
    ("units for who waits are outstanding", TokenBucket, 252),
    ("units for who waits are outstanding", SlidingWindow, 1),
    ("a settlement is of the epoch that granted", TokenBucket, 6185),
    ("nothing refills what is outstanding", TokenBucket, 8),
    ("what lapses kept from refilling until then", TokenBucket, 154),
    ("what lapses kept from refilling until then", SlidingWindow, 2),
    ("time passes before anything is settled", TokenBucket, 8),
    ("time passes before anything is settled", SlidingWindow, 24),
    ("another stamp begins an era", TokenBucket, 238),
    ("another stamp begins an era", SlidingWindow, 85),
    ("in a new era all may be outstanding", TokenBucket, 592),
    ("in a new era all may be outstanding", SlidingWindow, 5),
    ("in a new era units for who waits may be, too", SlidingWindow, 6),
    ("in a new era nothing is left", TokenBucket, 341),
    ("a key not found after a fail-over may be a lost one", TokenBucket, 341),
    ("a key not found after a fail-over may be a lost one", SlidingWindow, 282),
    ("a holder is trusted once until it is heard", TokenBucket, 9),
    ("the reserve is not granted", TokenBucket, 779),
    ("a window counts what lapsed", SlidingWindow, 1),
    ("a window counts what was settled", SlidingWindow, 2),
    ("a window counts what is outstanding", SlidingWindow, 1),
    ("what was told is not told again", TokenBucket, 8),
    ("what was told is not told again", SlidingWindow, 223),
    ("what was returned is not kept", TokenBucket, 8),
    ("what was returned is not kept", SlidingWindow, 2),
    ("a purse is emptied once", TokenBucket, 8),
    ("a purse is emptied once", SlidingWindow, 11),
    ("what a request waits with is not told as spent", TokenBucket, 2643),
    ("what goes back was not told as spent", TokenBucket, 743),
    ("what a dead request put aside goes back once", TokenBucket, 2),
    ("what a dead request put aside goes back once", SlidingWindow, 14),
    ("what is drained is not kept", TokenBucket, 74),
    ("what is drained is not kept", SlidingWindow, 121),
    ("another quota counts what was used", TokenBucket, 1),
    ("another quota counts what was used", SlidingWindow, 12),
    ("what is served is served once", TokenBucket, 1),
    ("units to be used at once are for who goes on at once", TokenBucket, 2752),
];

#[test]
fn histories_that_showed_something_are_kept() {
    for (_, algorithm, seed) in PINNED {
        play(*seed, *algorithm);
    }
}

/// A hundred requests of one proxy, at half a second.
struct OneBurst;

impl Demand for OneBurst {
    fn rate(&mut self, now_ns: u64) -> f64 {
        if (500_000_000..501_000_000).contains(&now_ns) { 100_000.0 } else { 0.0 }
    }

    fn pick(&mut self, _now_ns: u64, _rng: &mut Rng) -> usize {
        0
    }
}

/// Half the bucket is leased to requests that wait, but their proxy sleeps: they are let
/// through just before the lease lapses. The store is away, and hears nothing until long after.
/// Had the bucket filled up as if the lease had never been outstanding, it would be full then.
#[test]
fn what_lapses_unheard_refills_from_then_on() {
    let ms = |ms: u64| ms * 1_000_000;
    let mut faults = vec![
        (ms(501), Fault::PauseMidAsk { proxy: 0, ms: 985 }),
        (ms(510), Fault::Down),
        (ms(1_760), Fault::Up),
    ];
    faults.extend((0..40).map(|round| (ms(1_880 + round * 3), Fault::Rush)));
    let scenario = Scenario {
        quotas: vec![Quota::new(TokenBucket, 100, Span::from_secs(1), 200).unwrap()],
        replacement: None,
        proxies: 2,
        workers: 1,
        length_ns: ms(2_000),
        reserve: 0,
        on_error: OnError::Closed,
        at_once: false,
        conflicts_ppm: 0,
        net: CALM_NET,
        drift_ppm: 0,
        faults,
        cost_max: 1,
        deaths_ppm: 0,
    };
    for seed in 1..=20 {
        let mut world = World::new(seed, scenario.clone(), OneBurst);
        world.play().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        assert!(world.judge().admitted > 190, "seed {seed}: {} admitted", world.judge().admitted);
    }
}

/// Three times what there is, evenly.
struct TooMuch;

impl Demand for TooMuch {
    fn rate(&mut self, _now_ns: u64) -> f64 {
        600.0
    }

    fn pick(&mut self, _now_ns: u64, rng: &mut Rng) -> usize {
        rng.below(4) as usize
    }
}

/// What was let through on trust while the store was away, it knows a second after its return.
#[test]
fn what_shares_let_through_is_charged() {
    let ms = |ms: u64| ms * 1_000_000;
    let bucket = Quota::new(TokenBucket, 200, Span::from_secs(1), 400).unwrap();
    let window = Quota::new(SlidingWindow, 400, Span::from_secs(2), 400).unwrap();
    for (seed, quota) in (1..=10).flat_map(|seed| [(seed, bucket), (seed, window)]) {
        let scenario = Scenario {
            quotas: vec![quota],
            replacement: None,
            proxies: 4,
            workers: 2,
            length_ns: ms(3_500),
            reserve: 0,
            on_error: OnError::LocalShare,
            at_once: true,
            conflicts_ppm: 0,
            net: CALM_NET,
            drift_ppm: 100,
            faults: vec![(ms(1_000), Fault::Down), (ms(2_500), Fault::Up)],
            cost_max: 1,
            deaths_ppm: 0,
        };
        let mut world = World::new(seed, scenario, TooMuch);
        let mut play = |until| {
            world.play_until(until).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            world.on_trust()
        };
        let (away, back) = (play(ms(2_500)), play(ms(3_500)));
        assert!(away > 50 && back == 0, "{quota}, seed {seed}: {away} on trust, then {back}");
    }
}
