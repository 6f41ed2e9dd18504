//! Many keys in bounded memory.

use crate::made_up::{NOW, bucket, want};
use tidegate_core::key::Key;
use tidegate_core::lease::{Ask, HolderId, Place, Store, Want};
use tidegate_core::table::WAYS;

const PLACE: Place = Place { now: NOW, stamp: 1, began: None };

fn key(number: u64) -> Key {
    // All in one set: the first half is the same.
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    Key(bytes)
}

fn ask(store: &mut Store, seq: u64, number: u64, units: u32) -> Option<u32> {
    let want = Want { key: key(number), soon: units, ..want(bucket(1, 100), units) };
    let reply = store.answer(&PLACE, &Ask { holder: HolderId(1), seq, wants: vec![want] })?;
    Some(reply.grants[0].unwrap().units)
}

#[test]
fn a_flood_of_keys_frees_nobody_who_owes_more() {
    let mut store = Store::new(WAYS as u32);
    assert_eq!(ask(&mut store, 1, u64::MAX, 100), Some(50));
    for number in 1..1_000 {
        assert_eq!(ask(&mut store, number + 1, number, 1), Some(1));
    }
    assert_eq!(ask(&mut store, 1_001, u64::MAX, 100), Some(25), "half of what is left");
}

#[test]
fn an_ask_that_comes_twice_is_answered_once() {
    let mut store = Store::new(64);
    assert_eq!(ask(&mut store, 1, 7, 10), Some(10));
    assert_eq!(ask(&mut store, 1, 7, 10), None);
    assert_eq!(ask(&mut store, 2, 7, 100), Some(45), "half of ninety");
}
