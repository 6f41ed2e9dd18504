//! The reference store: all or nothing, and bounded.

use crate::history::any_quota;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidegate_core::ask::{Ask, Item, LimitTag, MemoryStore};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota, Refused, State};
use tidegate_core::time::{Instant, Span};

fn item(key: u8, quota: Quota, cost: u32) -> Item {
    Item { key: Key([key; 16]), limit: LimitTag(key.into()), quota, cost, owed: 0 }
}

fn window(count: u32) -> Quota {
    Quota::new(Algorithm::SlidingWindow, count, Span::from_secs(60), count).unwrap()
}

const NOW: Instant = Instant(77_000_000_000);

#[test]
fn a_refused_ask_charges_nothing() {
    let mut store = MemoryStore::new(100);
    let (wide, tight) = (window(10), window(1));
    let both = Ask { items: vec![item(1, wide, 3), item(2, tight, 1)] };
    let first = store.answer(NOW, &both);
    assert!(first.admits());
    assert_eq!(first.answers[0].outcome.unwrap().remaining, 7);
    for _ in 0..20 {
        let again = store.answer(NOW, &both);
        assert!(!again.admits());
        // The one that would have passed says how it stands, uncharged.
        assert_eq!(again.answers[0].outcome.unwrap().remaining, 7);
        assert!(matches!(again.answers[1].outcome, Err(Refused::Wait { .. })));
    }
    let alone = Ask { items: vec![item(1, wide, 7)] };
    assert!(store.answer(NOW, &alone).admits());
}

#[test]
fn one_item_that_can_never_pass_refuses_all() {
    let mut store = MemoryStore::new(100);
    let ask = Ask { items: vec![item(1, window(10), 1), item(2, window(5), 6)] };
    let reply = store.answer(NOW, &ask);
    assert_eq!(reply.answers[1].outcome, Err(Refused::Never));
    assert_eq!(reply.answers[0].outcome.unwrap().remaining, 10);
}

#[test]
fn looking_costs_nothing() {
    let mut store = MemoryStore::new(100);
    let look = Ask { items: vec![item(1, window(2), 0)] };
    for _ in 0..5 {
        assert_eq!(store.answer(NOW, &look).answers[0].outcome.unwrap().remaining, 2);
    }
}

proptest! {
    /// With room for every key the store is a map of states, charged all or nothing.
    #[test]
    fn the_store_answers_as_a_map_of_states_would(
        quotas in prop::collection::vec(any_quota(), 6),
        asks in prop::collection::vec(
            (0..400_u64, prop::collection::btree_map(0..6_usize, 0..8_u32, 1..5)), 1..40),
    ) {
        let mut store = MemoryStore::new(1_000);
        let mut states = BTreeMap::<usize, State>::new();
        let mut now = NOW;
        for (gap_ms, wanted) in asks {
            now = now.after(Span::from_millis(gap_ms));
            let items = wanted.iter().map(|(k, cost)| item(*k as u8, quotas[*k], *cost));
            let reply = store.answer(now, &Ask { items: items.collect() });
            prop_assert_eq!(reply.answers.len(), wanted.len());
            let before = states.clone();
            let mut outcomes: Vec<_> = wanted
                .iter()
                .map(|(k, cost)| quotas[*k].take(states.entry(*k).or_default(), now, *cost))
                .collect();
            if outcomes.iter().any(Result::is_err) {
                states = before;
                for ((k, _), outcome) in wanted.iter().zip(&mut outcomes) {
                    let state = states.get(k).cloned().unwrap_or_default();
                    *outcome = outcome.map(|_| quotas[*k].standing(&state, now));
                }
            }
            let answered: Vec<_> = reply.answers.iter().map(|a| a.outcome).collect();
            prop_assert_eq!(answered, outcomes);
        }
    }
}

#[test]
fn what_is_owed_is_charged_whatever_becomes_of_the_rest() {
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::SlidingCounter] {
        let quota = Quota::new(algorithm, 10, Span::from_secs(60), 10).unwrap();
        let mut store = MemoryStore::new(8);
        let mut ask = |cost, owed| {
            let ask = Ask { items: vec![Item { owed, ..item(1, quota, cost) }] };
            store.answer(Instant(1_000_000_000_000), &ask).answers[0].outcome
        };
        assert_eq!(ask(1, 4).unwrap().remaining, 5, "{algorithm:?}");
        assert!(
            matches!(ask(9, 2), Err(Refused::Wait { standing, .. }) if standing.remaining == 3)
        );
        assert_eq!(ask(0, 0).unwrap().remaining, 3, "{algorithm:?}: refused, and the debt stays");
        assert_eq!(
            ask(0, 100).unwrap().remaining,
            0,
            "{algorithm:?}: as much as there is room for"
        );
        assert_eq!(ask(11, 1), Err(Refused::Never));
    }
}
