//! A real Redis that is slow, gone, back, full, a replica, or does not let us in: what an ask
//! gets meanwhile, how fast, and whether it was charged.

mod server;

use rustix::process::Signal;
use server::Server;
use server::{DEADLINE, until};
use std::time::{Duration, Instant};
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tidegate_redis::{Credentials, Error, Password, Refusal, Settings, Store};
use tokio::task::JoinSet;

/// "At once", on a machine that is busy with other tests. A wait for any deadline of the
/// settings here would take seconds.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn asks_that_come_together_go_together() {
    const ASKS: u64 = 2_000;
    let Some(server) = Server::start() else { return };
    let store = std::sync::Arc::new(connected(patient(&server)).await);
    let reads = || server.info("total_reads_processed").parse::<u64>().unwrap();
    let (reads_before, batches_before) = (reads(), store.stats().batches());
    let mut asks = JoinSet::new();
    for key in 0..ASKS {
        let store = store.clone();
        asks.spawn(async move { store.answer(one(key, 5)).await.unwrap().admits() });
    }
    assert!(asks.join_all().await.into_iter().all(|admitted| admitted));
    let batches: u64 =
        store.stats().batches().iter().sum::<u64>() - batches_before.iter().sum::<u64>();
    assert!(batches <= ASKS / 20, "{ASKS} asks made {batches} round trips");
    // The server's own count: a read is what it found on a socket at once.
    let reads = reads() - reads_before;
    assert!(reads <= ASKS / 10, "{ASKS} asks were {reads} reads");
    assert_eq!(store.stats().asks(), ASKS);
}

#[tokio::test]
async fn while_redis_is_away_the_answer_comes_at_once_and_then_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    let store = connected(patient(&server)).await;
    assert!(store.answer(one(1, 5)).await.unwrap().admits());
    server.kill();
    until(|| store.trouble().is_some()).await;
    for _ in 0..100 {
        let start = Instant::now();
        let error = store.answer(one(1, 5)).await.unwrap_err();
        assert!(matches!(error, Error::Away) && !error.may_have_run(), "{error:?}");
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    }
    until(|| store.trouble().is_some_and(|trouble| trouble.contains("refused"))).await;
    assert_eq!(store.stats().resets(), 0);
    server.restart();
    until(|| store.trouble().is_none()).await;
    assert!(store.answer(one(1, 5)).await.unwrap().admits());
    assert_eq!(store.stats().resets(), 1, "it came back empty, and that is known");
}

#[tokio::test]
async fn a_redis_that_is_away_is_dialled_no_more_often_than_stated() {
    const HOSTS: usize = 20;
    let Some(mut server) = Server::start() else { return };
    server.kill();
    let start = Instant::now();
    let stores: Vec<_> = (0..HOSTS).map(|_| Store::start(patient(&server))).collect();
    while start.elapsed() < Duration::from_millis(2_500) {
        // Asks change nothing about it.
        assert!(stores[0].answer(one(1, 5)).await.is_err());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = start.elapsed().as_secs_f64();
    for store in &stores {
        let (dials, most) = (store.stats().dials() as f64, 7.0 + 2.0 * took);
        assert!((3.0..=most).contains(&dials), "{dials} in {took} s");
    }
    server.restart();
    until(|| stores.iter().all(|store| store.trouble().is_none())).await;
    // And not all in one moment: each waited its own time.
    let mut dials: Vec<_> = stores.iter().map(|store| store.stats().dials()).collect();
    dials.sort_unstable();
    assert!(dials[HOSTS - 1] > dials[0], "{dials:?}");
}

#[tokio::test]
async fn a_frozen_redis_is_given_up_after_three_deadlines() {
    let Some(server) = Server::start() else { return };
    let mut settings = patient(&server);
    settings.read_timeout = Duration::from_millis(100);
    settings.dial_timeout = Duration::from_millis(200);
    let store = connected(settings).await;
    server.signal(Signal::STOP);
    let start = Instant::now();
    let mut unknown = 0;
    loop {
        match store.answer(one(1, 5)).await {
            Err(Error::Away) => break,
            Err(error @ Error::Unknown(_)) => {
                assert!(error.may_have_run());
                unknown += 1;
            }
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < DEADLINE);
    }
    // The probe's own deadline may have been one of the three.
    assert!((1..=3).contains(&unknown), "{unknown} waited");
    let start = Instant::now();
    assert!(matches!(store.answer(one(1, 5)).await, Err(Error::Away)));
    assert!(start.elapsed() < AT_ONCE);
    server.signal(Signal::CONT);
    until(|| store.trouble().is_none()).await;
    // What timed out ran when it woke: it counts as charged, and was sent only once.
    let left = store.answer(one(1, 5)).await.unwrap().answers[0].outcome.unwrap().remaining;
    assert!(left >= 4 - unknown, "{left} left after {unknown} that timed out");
}

#[tokio::test]
async fn a_lost_script_is_loaded_and_only_what_did_not_run_is_sent_again() {
    let Some(server) = Server::start() else { return };
    let store = connected(patient(&server)).await;
    for round in 1..=3_u32 {
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "+OK");
        let left = store.answer(one(1, 100)).await.unwrap().answers[0].outcome.unwrap().remaining;
        assert_eq!(left, 100 - round, "charged once each");
    }
    let mut settings = patient(&server);
    settings.max_retries = 0;
    let store = connected(settings).await;
    assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "+OK");
    let answer = store.answer(one(1, 100)).await;
    // The probe may have loaded it in between, but nothing was sent again.
    assert!(matches!(answer, Ok(_) | Err(Error::Refused(Refusal::NoScript, _))), "{answer:?}");
    assert_eq!(store.stats().retries(), 0);
}

#[tokio::test]
async fn a_full_redis_refuses_and_charges_nothing() {
    let Some(server) = Server::start() else { return };
    let store = connected(patient(&server)).await;
    store.answer(one(1, 5)).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let both = Ask { items: [one(1, 5), one(2, 5)].map(|ask| ask.items[0].clone()).to_vec() };
    let error = store.answer(both).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::OutOfMemory, _)), "{error:?}");
    assert!(!error.may_have_run());
    // From now on it is not asked, but by the probe.
    let sent = store.stats().asks();
    let start = Instant::now();
    for _ in 0..1_000 {
        let error = store.answer(one(1, 5)).await.unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::OutOfMemory, _)), "{error:?}");
    }
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(store.stats().asks(), sent);
    let backend = &store.health().backends[0];
    assert!(backend.is_up && backend.is_shunned && backend.shunned == 1, "{backend:?}");
    assert!(store.trouble().is_some_and(|trouble| trouble.contains("out_of_memory")));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    until(|| store.trouble().is_none()).await;
    let left = store.answer(one(1, 5)).await.unwrap().answers[0].outcome.unwrap().remaining;
    assert_eq!(left, 3, "two charged, the refused one not");
}

#[tokio::test]
async fn one_ask_waits_for_a_redis_that_holds_back_writes() {
    let Some(server) = Server::start() else { return };
    let mut settings = patient(&server);
    settings.read_timeout = Duration::from_millis(300);
    let store = connected(settings).await;
    store.answer(one(1, 50)).await.unwrap();
    // PING and every read are answered all the while.
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let first = store.answer(one(1, 50)).await;
    assert!(matches!(first, Err(Error::Unknown(_))), "{first:?}");
    let start = Instant::now();
    for _ in 0..100 {
        assert!(matches!(store.answer(one(1, 50)).await, Err(Error::Away)));
    }
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    server.command(&["CLIENT", "UNPAUSE"]);
    until(|| store.trouble().is_none()).await;
    assert!(store.answer(one(1, 50)).await.unwrap().admits());
    let backend = &store.health().backends[0];
    assert!(backend.connects == 1 && !backend.is_shunned, "the same connection: {backend:?}");
}

#[tokio::test]
async fn a_replica_is_left_at_once() {
    let Some(server) = Server::start() else { return };
    let store = connected(patient(&server)).await;
    // Nobody is there to be its master; it is read-only all the same.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = store.answer(one(1, 5)).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::ReadOnly, _) | Error::Away), "{error:?}");
    until(|| store.trouble().is_some_and(|trouble| trouble.contains("read_only"))).await;
    server.command(&["REPLICAOF", "NO", "ONE"]);
    until(|| store.trouble().is_none()).await;
    assert!(store.answer(one(1, 5)).await.unwrap().admits());
}

#[tokio::test]
async fn a_rotated_password_is_found_in_its_file() {
    let old = Some("old-hunter2");
    let Some(mut server) = Server::start_with(&["--requirepass", "old-hunter2"], old) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "wrong-hunter3\n").unwrap();
    let mut settings = patient(&server);
    settings.access.credentials =
        Credentials { username: None, password: Password::File(file.clone()) };
    let store = Store::start(settings);
    until(|| store.trouble().is_some_and(|trouble| trouble.contains("sign in"))).await;
    assert!(matches!(store.answer(one(1, 5)).await, Err(Error::Away)));
    let trouble = store.trouble().unwrap();
    assert!(!trouble.contains("hunter"), "{trouble}");
    std::fs::write(&file, "old-hunter2\n").unwrap();
    until(|| store.trouble().is_none()).await;
    assert!(store.answer(one(1, 5)).await.unwrap().admits());
    server.kill();
}

#[tokio::test]
async fn the_rights_that_the_settings_name_are_all_it_needs() {
    let Some(server) = Server::start() else { return };
    let rights = ["+evalsha", "+script|load", "+mget", "+set", "+time", "+select"];
    let mut user = vec!["ACL", "SETUSER", "limiter", "on", ">secret", "resetkeys", "~tidegate:*"];
    user.push("-@all");
    user.extend(rights);
    assert_eq!(server.command(&user), "+OK");
    let mut settings = patient(&server);
    settings.db = 1;
    let password = Password::Text("secret".to_owned());
    settings.access.credentials = Credentials { username: Some("limiter".to_owned()), password };
    let store = connected(settings).await;
    assert!(store.answer(one(1, 5)).await.unwrap().admits());
    // And no fewer: what it lacks is said.
    server.command(&["ACL", "SETUSER", "limiter", "-set"]);
    until(|| store.trouble().is_some_and(|trouble| trouble.contains("not_allowed"))).await;
}

#[tokio::test]
async fn an_old_connection_is_replaced_without_a_gap() {
    let Some(server) = Server::start() else { return };
    let mut settings = patient(&server);
    settings.max_conn_age = Some(Duration::from_millis(50));
    let store = connected(settings).await;
    let end = Instant::now() + DEADLINE;
    while store.stats().dials() < 3 {
        store.answer(one(1, 1_000_000)).await.unwrap();
        assert!(Instant::now() < end, "{:?}", store.stats());
    }
    assert_eq!(store.stats().dials_failed(), 0);
}

#[tokio::test]
async fn the_database_is_the_one_that_was_named() {
    let Some(server) = Server::start() else { return };
    let mut settings = patient(&server);
    settings.db = 3;
    let store = connected(settings).await;
    store.answer(one(1, 5)).await.unwrap();
    assert!(server.command(&["INFO", "keyspace"]).contains("db3:"));
    assert!(!server.command(&["INFO", "keyspace"]).contains("db0:"));
}

#[tokio::test]
async fn more_asks_than_may_wait_are_turned_away_uncharged() {
    let Some(server) = Server::start() else { return };
    let mut settings = patient(&server);
    settings.pool_size = 1;
    settings.pool_timeout = Duration::from_millis(50);
    let store = std::sync::Arc::new(connected(settings).await);
    // The server is held up for longer than asks may wait, but not for ever.
    server.signal(Signal::STOP);
    let mut asks = JoinSet::new();
    for key in 0..3 {
        let asked = store.clone();
        asks.spawn(async move { asked.answer(one(key, 5)).await });
        // The first is under way before the others come.
        until(|| store.stats().asks() > 0).await;
    }
    let mut busy = 0;
    while busy < 2 {
        match asks.join_next().await.expect("two are turned away").unwrap() {
            Err(Error::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    server.signal(Signal::CONT);
    assert!(asks.join_next().await.unwrap().unwrap().unwrap().admits(), "the one under way");
}

/// Settings whose waits are far longer than anything here takes.
fn patient(server: &Server) -> Settings {
    let mut settings = Settings::standalone("127.0.0.1".to_owned(), server.port);
    settings.dial_timeout = Duration::from_secs(10);
    settings.read_timeout = Duration::from_secs(10);
    settings.pool_timeout = Duration::from_secs(10);
    settings
}

async fn connected(settings: Settings) -> Store {
    let store = Store::start(settings);
    until(|| store.trouble().is_none()).await;
    store
}

/// An ask for one unit of a bucket that refills within days.
fn one(key: u64, burst: u32) -> Ask {
    let day = Span::from_secs(86_400);
    let quota = Quota::new(Algorithm::TokenBucket, 1, day, burst).unwrap();
    let key = Key(u128::from(key).to_be_bytes());
    Ask { items: vec![Item { key, limit: LimitTag(9), quota, cost: 1, owed: 0 }] }
}
