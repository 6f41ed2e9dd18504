//! The holders of one process.

use crate::made_up::{KEY, LIMIT, NOW, bucket, terms};
use tidegate_core::key::Key;
use tidegate_core::lease::{
    Away, Call, HolderId, Place, Pool, Reply, Served, Store, Take, WANTS_MAX,
};
use tidegate_core::time::Span;

const PLACE: Place = Place { now: NOW, stamp: 1, began: None };

fn key(number: u8) -> Key {
    Key([number; 16])
}

#[test]
fn requests_of_many_keys_go_with_one_ask() {
    let (mut store, mut pool) = (Store::new(64), Pool::new(HolderId(1), 100));
    let terms = terms(bucket(100, 100));
    let calls = [1, 2, 3].map(|number| {
        let holder = pool.holder(NOW, key(number), LIMIT, &terms).unwrap();
        assert_eq!(holder.take(NOW, &terms, 2), Take::Asks);
        Call { key: key(number), waiting: 2, least: 2, at_once: true }
    });
    let (ask, flights) = pool.ask(NOW, &calls).unwrap();
    let reply = store.answer(&PLACE, &ask).unwrap();
    let mut served = Vec::new();
    assert!(pool.on_reply(NOW, flights, &reply, |key, it| {
        served.push((key, it.unwrap().units));
    }));
    assert_eq!(served, [1, 2, 3].map(|number| (key(number), 2)));
}

#[test]
fn a_reply_to_something_else_is_none() {
    let mut pool = Pool::new(HolderId(1), 100);
    let terms = terms(bucket(100, 100));
    pool.holder(NOW, KEY, LIMIT, &terms).unwrap();
    let call = Call { key: KEY, waiting: 1, least: 1, at_once: true };
    let (ask, flights) = pool.ask(NOW, &[call]).unwrap();
    let reply = Reply { seq: ask.seq, grants: Vec::new() };
    assert!(!pool.on_reply(NOW, flights, &reply, |_, _| panic!("nothing is served")));
    let holder = pool.holder(NOW, KEY, LIMIT, &terms).unwrap();
    assert_eq!(holder.take(NOW, &terms, 1), Take::Asks, "it may be asked again");
}

#[test]
fn a_key_whose_store_is_away_is_as_if_its_ask_were_lost() {
    let (mut store, mut pool) = (Store::new(64), Pool::new(HolderId(1), 100));
    let terms = terms(bucket(100, 100));
    let calls = [1, 2].map(|number| {
        let holder = pool.holder(NOW, key(number), LIMIT, &terms).unwrap();
        assert_eq!(holder.take(NOW, &terms, 1), Take::Asks);
        Call { key: key(number), waiting: 1, least: 1, at_once: true }
    });
    let (ask, flights) = pool.ask(NOW, &calls).unwrap();
    let mut reply = store.answer(&PLACE, &ask).unwrap();
    let away = Away(Span::from_millis(1));
    reply.grants[0] = Err(away);
    let mut said = Vec::new();
    assert!(pool.on_reply(NOW, flights, &reply, |key, it| said.push((key, it))));
    assert_eq!(said, [(key(1), Err(away)), (key(2), Ok(Served { units: 1 }))]);
    let holder = pool.holder(NOW, key(1), LIMIT, &terms).unwrap();
    assert_eq!(holder.take(NOW, &terms, 1), Take::Asks, "it may be asked again");
}

#[test]
fn idle_holders_make_room_and_busy_ones_do_not() {
    let (mut store, mut pool) = (Store::new(64), Pool::new(HolderId(1), 2));
    let terms = terms(bucket(100, 100));
    pool.holder(NOW, key(1), LIMIT, &terms).unwrap().owe(1);
    pool.holder(NOW, key(2), LIMIT, &terms).unwrap();
    assert!(pool.holder(NOW, key(3), LIMIT, &terms).is_some(), "in the place of 2");
    pool.holder(NOW, key(3), LIMIT, &terms).unwrap().owe(1);
    assert!(pool.holder(NOW, key(4), LIMIT, &terms).is_none());
    assert_eq!(pool.len(), 2);
    let (ask, flights) = pool.ask_due(NOW).expect("debts are told");
    assert_eq!(ask.wants.len(), 2);
    let reply = store.answer(&PLACE, &ask).unwrap();
    pool.on_reply(NOW, flights, &reply, |_, _| {});
    assert!(pool.holder(NOW, key(4), LIMIT, &terms).is_some());
}

#[test]
fn at_the_end_everything_goes_back() {
    let (mut store, mut pool) = (Store::new(1_024), Pool::new(HolderId(1), 1_000));
    let terms = terms(bucket(100, 100));
    let numbers = 0..WANTS_MAX as u8 + 10;
    for number in numbers.clone() {
        pool.holder(NOW, key(number), LIMIT, &terms).unwrap();
        let call = Call { key: key(number), waiting: 5, least: 1, at_once: false };
        let (ask, flights) = pool.ask(NOW, &[call]).unwrap();
        let reply = store.answer(&PLACE, &ask).unwrap();
        pool.on_reply(NOW, flights, &reply, |_, it| {
            assert_eq!(it.unwrap().units, 0, "leased");
        });
    }
    let later = NOW.after(Span::from_millis(10));
    let mut drained = 0;
    while let Some(ask) = pool.drain(later) {
        drained += ask.wants.len();
        let reply = store.answer(&PLACE, &ask).unwrap();
        assert!(reply.grants.iter().flatten().all(|grant| grant.remaining == 100), "{reply:?}");
    }
    assert_eq!(drained, numbers.len());
    assert!(pool.is_empty());
}
