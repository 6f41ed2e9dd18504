//! Leases from a real Redis: how long records live, what comes twice, what is forgotten, and
//! which server of a cluster is asked.

mod leasing;
mod server;

use leasing::{LIMIT, ME, PATIENCE, client, connected, name, want};
use server::cluster::{self, Cluster, MASTERS};
use server::{Server, until};
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::key::Key;
use tidegate_core::lease::{Ask, Grant, Place, Record, Settled, Terms, Want};
use tidegate_core::limit::{Algorithm, PERIOD_MAX, Quota};
use tidegate_core::time::{Instant, Span};
use tidegate_redis::{Access, Address, Credentials, Error, Password, Servers, Settings, Store};

const PLACE: Place = Place { now: Instant(0), stamp: 1, began: None };

#[tokio::test]
async fn a_record_is_kept_for_as_long_as_anyone_remembers_it() {
    let Some(server) = Server::start() else { return };
    let (store, mut connection) = (connected(&server).await, client(&server).await);
    let second = Span::from_secs(1);
    for (number, (algorithm, count, period, burst)) in (0..).zip([
        (Algorithm::TokenBucket, 100, second, 100),
        (Algorithm::TokenBucket, 1, Span::from_secs(60), 1_000),
        (Algorithm::TokenBucket, 1, PERIOD_MAX, 1 << 20),
        (Algorithm::SlidingWindow, 100, Span::from_secs(3_600), 100),
        (Algorithm::SlidingWindow, 7, PERIOD_MAX, 7),
    ]) {
        let quota = Quota::new(algorithm, count, period, burst).unwrap();
        let owed = if number % 2 == 1 { burst } else { 0 };
        let want = Want { owed, ..want(number, quota, 5) };
        let (mut record, place) = (Record::default(), Place { now: Instant(1_000), ..PLACE });
        record.answer(&place, ME, &want, false);
        let terms = Terms::new(quota, Span::ZERO, 0).unwrap();
        let least_ms = record.keep_for(&terms).millis_ceil();
        let ask = Ask { holder: ME, seq: number + 1, wants: vec![want.clone()] };
        store.lease_at(ask, place).await.unwrap()[0].as_ref().unwrap();
        let left: u64 =
            redis::cmd("PTTL").arg(name(want.key)).query_async(&mut connection).await.unwrap();
        // Time passes while one looks, and the last bits of a double are not looked at.
        let most_ms = least_ms + least_ms / 1_000_000 + 2;
        assert!((least_ms - 3_000..=most_ms).contains(&left), "{quota}: {left}, not {least_ms}");
    }
}

#[tokio::test]
async fn leases_and_exact_asks_of_one_key_are_kept_apart() {
    use tidegate_core::ask::{Ask as ExactAsk, Item};
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let quota = Quota::new(Algorithm::TokenBucket, 10, Span::from_secs(3_600), 10).unwrap();
    let want = want(1, quota, 4);
    for round in 0..3 {
        let item = Item { key: want.key, limit: LIMIT, quota, cost: 1, owed: 0 };
        let reply = store.answer(ExactAsk { items: vec![item] }).await.unwrap();
        assert_eq!(reply.answers[0].outcome.unwrap().remaining, 9 - round);
        let ask = Ask { holder: ME, seq: 1 + u64::from(round), wants: vec![want.clone()] };
        let grants = store.lease(ask, PATIENCE).await.unwrap();
        let grant = grants[0].as_ref().unwrap();
        assert_eq!(grant.units, [4, 1, 0][round as usize], "half of the burst in all");
    }
}

#[tokio::test]
async fn an_ask_that_comes_twice_is_not_answered_twice() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let quota = Quota::new(Algorithm::TokenBucket, 1, Span::from_secs(3_600), 100).unwrap();
    let ask = |seq, want: &Want| Ask { holder: ME, seq, wants: vec![want.clone()] };
    let first = ask(1, &want(1, quota, 10));
    let grant = store.lease(first.clone(), PATIENCE).await.unwrap().remove(0).unwrap();
    assert!(store.lease(first, PATIENCE).await.is_none());
    let mut told = Want { era: grant.era, version: grant.version, ..want(1, quota, 0) };
    told.settled[0] = Settled { epoch: grant.epoch, spent: 0, returned: 5 };
    for _ in 0..2 {
        store.lease(ask(2, &told), PATIENCE).await;
    }
    told.settled = Default::default();
    let left = store.lease(ask(3, &told), PATIENCE).await.unwrap().remove(0).unwrap().remaining;
    assert_eq!(left, 95, "five came back, once");
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_is_given_them_again() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let quota = Quota::new(Algorithm::SlidingWindow, 100, Span::from_secs(60), 100).unwrap();
    for seq in 1..4 {
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "+OK");
        let wants = (0..20).map(|key| want(key, quota, 1)).collect();
        let grants = store.lease(Ask { holder: ME, seq, wants }, PATIENCE).await.unwrap();
        assert!(grants.iter().all(|grant| grant.as_ref().is_ok_and(|grant| grant.units == 1)));
    }
}

#[tokio::test]
async fn another_history_of_writes_grants_nothing_at_first() {
    let Some(mut server) = Server::start() else { return };
    let store = connected(&server).await;
    let quota = Quota::new(Algorithm::TokenBucket, 100, Span::from_secs(1), 1_000).unwrap();
    let mut seq = 0;
    let mut ask = async |key, units| {
        seq += 1;
        let ask = Ask { holder: ME, seq, wants: vec![want(key, quota, units)] };
        store.lease(ask, PATIENCE).await.unwrap().remove(0)
    };
    let before = ask(1, 10).await.unwrap();
    assert_eq!(before.units, 10);
    // The first history that is met is not doubted.
    assert_eq!(ask(2, 10).await.unwrap().units, 10);

    // As after a fail-over: it has the record, perhaps not its last state.
    assert_eq!(server.command(&["DEBUG", "CHANGE-REPL-ID"]), "+OK");
    reconnect(&store, || {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    })
    .await;
    let after = ask(1, 10).await.unwrap();
    assert_eq!((after.units, after.remaining), (0, 0));
    assert_ne!(after.era, before.era);
    assert_eq!(ask(3, 10).await.unwrap().units, 0, "a key that it may have lost");

    // Started again, empty.
    reconnect(&store, || server.restart()).await;
    assert_eq!(ask(2, 10).await.unwrap().units, 0);
    // What refills is granted again: nothing is lost for longer.
    let end = std::time::Instant::now() + PATIENCE;
    while ask(2, 1).await.unwrap().units == 0 {
        assert!(std::time::Instant::now() < end, "a key that grants nothing any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_asked_of_the_master_that_has_its_slot() {
    const KEYS: u64 = 30;
    let Some(mut cluster) = Cluster::start() else { return };
    let store = connected_to(&cluster).await;
    let shards: Vec<_> = (0..KEYS).map(|key| cluster.shard(key)).collect();
    let quota = Quota::new(Algorithm::TokenBucket, 100, Span::from_secs(60), 100).unwrap();
    let mut seq = 0;
    let mut ask = async || {
        seq += 1;
        let wants = (0..KEYS).map(|key| want(key, quota, 1)).collect();
        store.lease(Ask { holder: ME, seq, wants }, PATIENCE).await.unwrap()
    };
    let granted = |grant: &Result<Grant, Error>| grant.as_ref().is_ok_and(|grant| grant.units == 1);
    assert!(ask().await.iter().all(granted));
    for (key, shard) in (0..KEYS).zip(&shards) {
        let name = name(Key(u128::from(key).to_be_bytes()));
        let master = &cluster.nodes[*shard];
        assert_eq!(master.command(&["EXISTS", &name]), ":1", "{name}");
    }
    assert!((0..MASTERS).all(|shard| shards.contains(&shard)), "every master has a part");

    // A key that moves is found where it is now, and begins again there: with nothing.
    let (slot, from) = (cluster.slot(0), shards[0]);
    cluster.move_slot(slot, from, (from + 1) % MASTERS);
    let moved = ask().await.remove(0).unwrap();
    assert_eq!((moved.units, moved.remaining), (0, 0));

    // One shard away is no answer for its keys, and for no others.
    let gone = (from + 2) % MASTERS;
    cluster.nodes[gone].kill();
    until(|| store.trouble().is_some()).await;
    for (shard, grant) in shards.iter().zip(ask().await) {
        assert_eq!(grant.is_err(), *shard == gone, "shard {shard}: {grant:?}");
    }
}

async fn connected_to(cluster: &Cluster) -> Arc<Store> {
    let seeds = vec![Address::new("127.0.0.1", cluster.nodes[0].port)];
    let mut settings = Settings::new(Servers::Cluster { seeds });
    let password = Password::Text(cluster::PASSWORD.to_owned());
    settings.access = Access { credentials: Credentials { username: None, password }, tls: None };
    (settings.read_timeout, settings.pool_timeout) = (PATIENCE, PATIENCE);
    let store = Arc::new(Store::start(settings));
    until(|| store.trouble().is_none()).await;
    store
}

/// A connection made anew after `lose`.
async fn reconnect(store: &Store, lose: impl FnOnce()) {
    let before = store.health().backends[0].connects;
    lose();
    until(|| store.health().backends[0].connects > before).await;
    until(|| store.trouble().is_none()).await;
}

/// Prints what a call costs the server, by its own count: run it with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "measures, and holds nothing together"]
async fn what_a_call_costs_the_server() {
    use tidegate_core::ask::{Ask as ExactAsk, Item};
    const ROUNDS: u64 = 400;
    const KEYS: u64 = 50;
    let Some(server) = Server::start() else { return };
    let (store, mut next_seq) = (connected(&server).await, 1);
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow] {
        let quota = Quota::new(algorithm, 600_000, Span::from_secs(60), 600_000).unwrap();
        let cost = |what: &str| {
            let stats = server.info("cmdstat_evalsha");
            let field = stats.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
            println!("{algorithm:?}, {what}: {} us", field.unwrap());
            server.command(&["CONFIG", "RESETSTAT"]);
        };
        server.command(&["CONFIG", "RESETSTAT"]);
        for _ in 0..ROUNDS * KEYS / 10 {
            let items = (0..10)
                .map(|key| Item { key: Key([key; 16]), limit: LIMIT, quota, cost: 1, owed: 0 })
                .map(|item| store.answer(ExactAsk { items: vec![item] }));
            futures_util::future::join_all(items).await;
        }
        cost("exact");
        let mut told: Vec<_> = (0..KEYS).map(|key| want(key, quota, 100)).collect();
        for seq in 0..ROUNDS {
            let ask = Ask { holder: ME, seq: seq + next_seq, wants: told.clone() };
            let grants = store.lease(ask, PATIENCE).await.unwrap();
            for (want, grant) in told.iter_mut().zip(grants) {
                let grant = grant.unwrap();
                (want.era, want.version) = (grant.era, grant.version);
                want.settled[0] = Settled { epoch: grant.epoch, spent: grant.units, returned: 0 };
            }
        }
        cost("leased, settled and granted");
        for seq in 0..ROUNDS {
            let keys = (seq + 1) * 1_000..(seq + 1) * 1_000 + KEYS;
            let wants = keys.map(|key| Want { soon: 1, ..want(key, quota, 1) }).collect();
            let ask = Ask { holder: ME, seq: seq + next_seq + ROUNDS, wants };
            store.lease(ask, PATIENCE).await.unwrap();
        }
        next_seq += 2 * ROUNDS;
        cost("leased, a key never seen");
        server.command(&["FLUSHALL"]);
    }
}
