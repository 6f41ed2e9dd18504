//! The exact set holds what was put into it, and no more than it may.

use crate::made_up::any_id;
use proptest::prelude::*;
use std::collections::HashMap;
use tidegate_core::revoke::Id;
use tidegate_core::revoke::deltas::{Deltas, Full, HELD_MAX, UNNUMBERED};

proptest! {
    #[test]
    fn it_is_a_map_from_which_whatever_is_old_can_be_taken(
        puts in prop::collection::vec((any_id(), 0..9_u64), 0..300),
        // The same ids come again, and ids that want the same place.
        again in prop::collection::vec((any::<prop::sample::Index>(), 0..9_u64), 0..100),
        cut in 0..200_u64,
    ) {
        let repeated = again.iter().filter(|_| !puts.is_empty()).map(|(at, before)| {
            let (Id(mut bytes), _) = *at.get(&puts);
            bytes[15] ^= u8::from(*before > 4);
            (Id(bytes), *before)
        });
        let all: Vec<(Id, u64)> = puts.iter().copied().chain(repeated).collect();
        let (mut deltas, mut model) = (Deltas::default(), HashMap::new());
        for ((id, before_secs), number) in all.iter().zip(1..) {
            deltas.put(*id, number, *before_secs).unwrap();
            model.insert(*id, (number, *before_secs));
        }
        for (id, _) in &all {
            prop_assert_eq!(deltas.get(id), model.get(id).map(|it| it.1));
        }
        deltas.forget(cut);
        model.retain(|_, (number, _)| *number > cut);
        prop_assert_eq!(deltas.len(), model.len());
        for (id, _) in &all {
            prop_assert_eq!(deltas.get(id), model.get(id).map(|it| it.1));
        }
    }
}

#[test]
fn a_full_set_takes_news_of_what_it_holds_and_nothing_else() {
    let id = |n: u64| Id(std::array::from_fn(|at| n.to_le_bytes()[at % 8]));
    let mut deltas = Deltas::default();
    for n in 0..HELD_MAX as u64 {
        deltas.put(id(n), n, 1).unwrap();
    }
    assert_eq!(deltas.put(id(u64::MAX), 1, 1), Err(Full));
    assert_eq!((deltas.get(&id(u64::MAX)), deltas.len()), (None, HELD_MAX));
    assert_eq!(deltas.put(id(7), 1, 2), Ok(()));
    assert_eq!(deltas.get(&id(7)), Some(2));
    // What is in no entry yet makes room: it is told again.
    assert_eq!(deltas.put(id(9), UNNUMBERED, 3), Ok(()));
    assert_eq!(deltas.put(id(u64::MAX - 1), 1, 1), Ok(()));
    assert_eq!((deltas.get(&id(9)), deltas.len()), (None, HELD_MAX));
    deltas.forget(u64::MAX - 1);
    assert!(deltas.is_empty() && deltas.put(id(u64::MAX), 1, 1).is_ok());
}
