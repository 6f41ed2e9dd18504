//! Redis is away, slow, full or a replica: what is accepted meanwhile, and what is said of it.

use crate::hosts::{Host, are_shared, redis, tokens, until};
use crate::server::Server;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tidegate::revocations::{Durability, NotAccepted, Reach};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_only_this_host_takes_it_if_that_is_wished() {
    let Some(mut server) = Server::start() else { return };
    let (one, other) = (Host::new(&redis(&server)), Host::new(&redis(&server)));
    one.until_following().await;
    other.until_following().await;
    one.accept(&tokens(0..10)).await;
    server.kill();
    until("it is noticed", || one.shared.trouble().is_some()).await;
    let start = Instant::now();
    let refused = one.ledger.accept(tokens(10..11), Durability::Shared).await.unwrap_err();
    assert!(matches!(refused, NotAccepted::Away(_)), "{refused:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(!one.knows(&tokens(10..11)[0]));

    let held = tokens(20..30);
    let start = Instant::now();
    let accepted = one.ledger.accept(held.clone(), Durability::ThisHost).await.unwrap();
    assert_eq!(accepted.reach, Reach::Held);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(one.knows_all(&held) && one.ledger.held().len() == 10);
    // It is held, whatever happens to this host.
    let disk = one.stop();
    let one = Host::on(disk, &redis(&server));
    assert!(one.knows_all(&held) && one.ledger.held().len() == 10);
    // And gets where it belongs, even though that is empty.
    server.restart();
    until("the other knows", || other.knows_all(&held)).await;
    until("nothing is held", || one.ledger.held().is_empty()).await;
    are_shared(&redis(&server), &[tokens(0..10), held].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_is_waited_for_and_a_frozen_one_is_not() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    let start = Instant::now();
    server.command(&["CLIENT", "PAUSE", "700", "ALL"]);
    host.accept(&tokens(0..1)).await;
    assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());

    server.signal(Signal::STOP);
    let start = Instant::now();
    let frozen = host.ledger.accept(tokens(1..2), Durability::Shared).await.unwrap_err();
    println!("given up {:?} after it froze: {frozen:?}", start.elapsed());
    assert!(matches!(frozen, NotAccepted::Unknown(_)), "{frozen:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    let age = host.ledger.stats().age.unwrap();
    assert!(age >= Duration::from_secs(1), "nothing was heard, so nothing is fresh: {age:?}");
    let held = host.ledger.accept(tokens(2..3), Durability::ThisHost).await.unwrap();
    assert_eq!(held.reach, Reach::Held);
    server.signal(Signal::CONT);
    until("it is shared", || host.ledger.held().is_empty()).await;
    host.accept(&tokens(1..2)).await;
    are_shared(&redis(&server), &tokens(0..3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_said_to_be_so_and_what_is_known_stays_fresh() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    host.accept(&tokens(0..1)).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = host.ledger.accept(tokens(1..2), Durability::Shared).await.unwrap_err();
    let NotAccepted::Away(why) = full else { panic!("{full:?}") };
    assert!(why.starts_with("the log's server is out of memory: "), "{why}");
    let refused = Instant::now();
    until("it was known to be complete since", || {
        refused.elapsed() > Duration::from_millis(500)
            && host.ledger.stats().age.unwrap() < Duration::from_millis(500)
    })
    .await;
    assert_eq!(host.shared.trouble(), None);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    host.accept(&tokens(1..2)).await;
}
