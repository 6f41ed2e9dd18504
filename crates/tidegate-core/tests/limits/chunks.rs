//! Workers that take chunks ahead of use, die, come late or come never: what they admit
//! together conforms to the quota, exactly.

use crate::history::{excess, foretells_exactly};
use proptest::prelude::*;
use tidegate_core::limit::token_bucket::{CHUNK_LIFE, Chunk, EPOCH, draw};
use tidegate_core::limit::{Algorithm, Quota, Refused, State};
use tidegate_core::time::{Instant, Span};

const WORKERS: usize = 4;

/// What one worker does next.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Spends from its chunk if it may, else draws: the way a request goes.
    Serve { cost: u32, extra: u32 },
    /// Spends as much as it may of its chunk.
    SpendAll,
    /// Settles and takes no more.
    Settle,
    /// Dies; its chunk is never heard of again.
    Die,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        10 => (0..4_u32, 0..12_u32).prop_map(|(cost, extra)| Deed::Serve { cost, extra }),
        3 => Just(Deed::SpendAll),
        1 => Just(Deed::Settle),
        1 => Just(Deed::Die),
    ]
}

/// Time between deeds: often none, mostly short, at times around a chunk's life or epochs.
fn gap() -> impl Strategy<Value = Span> {
    prop_oneof![
        6 => Just(Span::ZERO),
        6 => (0..400_u64).prop_map(Span::from_millis),
        2 => (0..=2_u64, -1..=1_i64).prop_map(|(lives, nudge)| {
            Span((CHUNK_LIFE.0 * lives).saturating_add_signed(nudge * 1_000_000))
        }),
        2 => (1..=5_u64).prop_map(|half_epochs| Span(EPOCH.0 / 2 * half_epochs)),
    ]
}

fn slow_quota() -> impl Strategy<Value = Quota> {
    // Full refills of a tenth of a second to minutes, around the length of an epoch.
    (1..=60_u32, prop_oneof![Just(1_000_u64), Just(10_007), Just(60_000)], 1..=40_u32).prop_map(
        |(count, millis, burst)| {
            Quota::new(Algorithm::TokenBucket, count, Span::from_millis(millis), burst).unwrap()
        },
    )
}

struct Fleet {
    quota: Quota,
    state: State,
    now: Instant,
    /// What each worker holds, and until when it may spend it.
    held: [(Chunk, Instant); WORKERS],
    admitted: Vec<(u64, u32)>,
}

impl Fleet {
    fn new(quota: Quota, start: Instant) -> Self {
        let held = [(Chunk::default(), Instant(0)); WORKERS];
        Self { quota, state: State::default(), now: start, held, admitted: Vec::new() }
    }

    fn admit(&mut self, cost: u32) {
        self.admitted.push((self.now.0 / self.quota.tick().nanos(), cost));
    }

    fn does(&mut self, worker: usize, deed: Deed) {
        match deed {
            Deed::Serve { cost, extra } => self.serve(worker, cost, extra),
            Deed::SpendAll => {
                let (chunk, until) = self.held[worker];
                if self.now <= until {
                    self.held[worker].0.left = 0;
                    self.admit(chunk.left);
                }
            }
            Deed::Settle => self.draws(worker, 0, 0),
            Deed::Die => self.held[worker] = (Chunk::default(), Instant(0)),
        }
    }

    fn serve(&mut self, worker: usize, cost: u32, extra: u32) {
        let (chunk, until) = &mut self.held[worker];
        if self.now <= *until && cost <= chunk.left {
            chunk.left -= cost;
            self.admit(cost);
        } else {
            self.draws(worker, cost, extra);
        }
    }

    fn draws(&mut self, worker: usize, cost: u32, extra: u32) {
        let (old, _) = self.held[worker];
        let (chunk, said) = draw(&self.quota, &mut self.state, self.now, old, cost, extra);
        self.held[worker] = (chunk, self.now.after(CHUNK_LIFE));
        assert!(chunk.granted <= extra && chunk.left == chunk.granted);
        match said {
            Ok(standing) => {
                assert_eq!(standing, self.quota.standing(&self.state, self.now));
                self.admit(cost);
            }
            Err(Refused::Never) => assert!(cost > self.quota.burst()),
            Err(Refused::Wait { .. }) => assert_eq!(chunk, Chunk::default()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_becomes_of_chunks_the_stream_conforms(
        quota in slow_quota(),
        start in 0..1_u64 << 40,
        deeds in prop::collection::vec((gap(), 0..WORKERS, deed()), 1..120),
    ) {
        let mut fleet = Fleet::new(quota, Instant(start));
        for (gap, worker, deed) in deeds {
            fleet.now = fleet.now.after(gap);
            fleet.does(worker, deed);
        }
        let excess = excess(&quota, &fleet.admitted);
        prop_assert!(excess <= 0, "{quota}: {excess} above, {:?}", fleet.admitted);
    }

    #[test]
    fn waits_are_exact_while_chunks_are_out(
        quota in slow_quota(),
        start in 0..1_u64 << 40,
        deeds in prop::collection::vec((gap(), 0..WORKERS, deed()), 1..30),
        cost in 1..40_u32,
    ) {
        let mut fleet = Fleet::new(quota, Instant(start));
        for (gap, worker, deed) in deeds {
            fleet.now = fleet.now.after(gap);
            fleet.does(worker, deed);
        }
        foretells_exactly(&quota, &fleet.state, fleet.now, cost);
        let weight = quota.weight(&fleet.state, fleet.now);
        if weight.fresh_at > fleet.now {
            let fresh = quota.standing(&State::default(), weight.fresh_at);
            prop_assert_eq!(quota.standing(&fleet.state, weight.fresh_at), fresh);
            let before = Instant(weight.fresh_at.0 - quota.tick().nanos());
            prop_assert_ne!(quota.weight(&fleet.state, before).debt, 0);
        }
    }
}

fn quota(count: u32, burst: u32) -> Quota {
    Quota::new(Algorithm::TokenBucket, count, Span::from_secs(1), burst).unwrap()
}

fn at(secs: u64) -> Instant {
    Instant(Span::from_secs(secs).0)
}

/// The tempting order, settling first, admits the units that were out twice: once spent,
/// once refilled while they were out.
#[test]
fn the_refill_happens_under_the_old_outstanding_units() {
    let quota = quota(10, 10);
    let mut state = State::default();
    let (chunk, _) = draw(&quota, &mut state, at(1), Chunk::default(), 0, 10);
    assert_eq!(chunk.granted, 10);
    // Three seconds refill nothing, for all ten may still be spent, and now are.
    let spent = Chunk { left: 0, ..chunk };
    let (_, said) = draw(&quota, &mut state, at(4), spent, 1, 0);
    assert!(matches!(said, Err(Refused::Wait { .. })), "{said:?}");
    let (_, said) = draw(&quota, &mut state, at(5), Chunk::default(), 10, 0);
    assert!(said.is_ok(), "settled, it refills: {said:?}");
}

/// A worker spends late, and nobody comes until its epoch is forgotten: the bucket must
/// not then look as if it had been refilling all along.
#[test]
fn the_units_of_a_forgotten_epoch_drain_from_then_on_and_not_before() {
    let quota = quota(1, 16);
    let mut state = State::default();
    let (chunk, _) = draw(&quota, &mut state, at(7), Chunk::default(), 0, 16);
    assert_eq!((chunk.epoch, chunk.granted), (0, 16));
    assert_eq!(quota.standing(&state, at(16)).remaining, 0);
    assert_eq!(quota.standing(&state, at(20)).remaining, 4);
    // The late settlement of what has begun to drain returns nothing.
    let (_, said) = draw(&quota, &mut state, at(20), chunk, 0, 0);
    assert_eq!(said.unwrap().remaining, 4);
}

#[test]
fn unspent_units_flow_back_when_settled_in_time() {
    let quota = quota(1, 16);
    let mut state = State::default();
    let (chunk, _) = draw(&quota, &mut state, at(7), Chunk::default(), 0, 16);
    // In the next epoch, which still counts it.
    let (_, said) = draw(&quota, &mut state, at(9), Chunk { left: 15, ..chunk }, 0, 0);
    assert_eq!(said.unwrap().remaining, 15);
    assert_eq!(quota.standing(&state, at(10)).remaining, 16);
}

/// The state of a key may have been evicted, and begun anew by another worker.
#[test]
fn a_chunk_that_the_state_does_not_know_returns_nothing_of_its_own() {
    let quota = quota(1, 16);
    let mut state = State::default();
    let (known, _) = draw(&quota, &mut state, at(9), Chunk::default(), 14, 2);
    assert_eq!((known.epoch, known.granted), (1, 2));
    let stranger = Chunk { epoch: 1, granted: 8, left: 8 };
    let (_, said) = draw(&quota, &mut state, at(9), stranger, 0, 0);
    assert_eq!(said.unwrap().remaining, 2, "no more than was outstanding");
    let (_, said) = draw(&quota, &mut state, at(9), known, 0, 0);
    assert_eq!(said.unwrap().remaining, 2);
}

#[test]
fn a_refusal_settles_and_grants_nothing() {
    let quota = quota(1, 10);
    let mut state = State::default();
    let (chunk, _) = draw(&quota, &mut state, at(9), Chunk::default(), 0, 10);
    let (none, said) = draw(&quota, &mut state, at(9), Chunk { left: 4, ..chunk }, 5, 4);
    assert_eq!(none, Chunk::default());
    let Err(Refused::Wait { wait, standing }) = said else { panic!("{said:?}") };
    assert_eq!((wait, standing.remaining), (Span::from_secs(1), 4));
    let (none, said) = draw(&quota, &mut state, at(9), none, 11, 4);
    assert_eq!((none, said), (Chunk::default(), Err(Refused::Never)));
    assert_eq!(quota.standing(&state, at(9)).remaining, 4);
}

#[test]
fn windows_grant_no_chunks() {
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingCounter] {
        let quota = Quota::new(algorithm, 5, Span::from_secs(1), 5).unwrap();
        let mut state = State::default();
        let (chunk, said) = draw(&quota, &mut state, at(9), Chunk::default(), 2, 3);
        assert_eq!((chunk, said.unwrap().remaining), (Chunk::default(), 3));
    }
}

/// Chunks cost no throughput while demand is above the rate: all that refills is admitted,
/// but for what is in workers' hands at the end.
#[test]
fn workers_with_chunks_admit_what_one_bucket_would() {
    let quota = quota(1_000, 200);
    let mut fleet = Fleet::new(quota, at(1));
    let millis = 20_000;
    for step in 0..millis * 4 {
        fleet.now = Instant(at(1).0 + step * 250_000);
        fleet.does(step as usize % WORKERS, Deed::Serve { cost: 1, extra: 8 });
    }
    let total = fleet.admitted.iter().map(|(_, cost)| u64::from(*cost)).sum::<u64>();
    let ideal = 200 + millis;
    assert!(excess(&quota, &fleet.admitted) <= 0);
    assert!(total + 8 * WORKERS as u64 + 1 >= ideal, "{total} of {ideal}");
}
