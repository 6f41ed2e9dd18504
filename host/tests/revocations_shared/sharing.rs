//! What one host accepts all know, soon.

use crate::hosts::{Host, LOG, are_shared, open, redis, tokens, until, until_at_same_place};
use crate::server::Server;
use std::time::{Duration, Instant};
use tidegate::revocations::{Durability, NotAccepted, Reach};
use tidegate_core::revoke::Record;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_host_accepts_another_knows_at_once() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (Host::new(&redis(&server)), Host::new(&redis(&server)));
    other.until_following().await;
    one.until_following().await;
    let (mut accepts, mut lags) = (Vec::new(), Vec::new());
    for record in tokens(0..200) {
        let start = Instant::now();
        one.accept(&[record]).await;
        let accepted = Instant::now();
        accepts.push(start.elapsed());
        until("the other knows", || other.knows(&record)).await;
        lags.push(accepted.elapsed());
    }
    accepts.sort();
    lags.sort();
    println!(
        "accepted in {:?} (p50), {:?} (p99); known at the other {:?} (p50), {:?} (p99) later",
        accepts[100], accepts[197], lags[100], lags[197]
    );
    assert!(lags[100] < Duration::from_millis(50), "{lags:?}");
    until_at_same_place(&one, &other).await;
    for host in [&one, &other] {
        assert!(host.ledger.stats().age.unwrap() < Duration::from_secs(2));
        assert_eq!(host.shared.counts().losses(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_a_call_and_each_has_its_own_answer() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    let records = tokens(0..2_000);
    let calls = records.chunks(2).map(|pair| {
        let (ledger, pair) = (host.ledger.clone(), pair.to_vec());
        tokio::spawn(async move { ledger.accept(pair, Durability::Shared).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        let accepted = call.await.unwrap();
        assert_eq!(accepted.reach, Reach::Shared { replicas: 0 });
        assert!(accepted.position.number <= host.ledger.position().number);
    }
    assert!(host.knows_all(&records));
    let entries = host.ledger.position().number;
    assert!(entries < 500, "1000 calls made {entries} entries");
    assert_eq!(host.shared.counts().appended(), 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_host_finds_everything_in_the_log() {
    let Some(server) = Server::start() else { return };
    let records = tokens(0..5_000);
    let mut hosts = vec![Host::new(&redis(&server)), Host::new(&redis(&server))];
    hosts[0].until_following().await;
    hosts[0].accept(&records).await;
    // One after the other comes back with an empty disk.
    for place in 0..hosts.len() {
        hosts.remove(place).stop();
        hosts.insert(place, Host::new(&redis(&server)));
        let host = &hosts[place];
        let is_there = || host.knows_all(&records) && !host.ledger.owes();
        until("it knows everything, and owes nothing", is_there).await;
        assert_eq!(host.shared.counts().losses(), 0);
    }
    until_at_same_place(&hosts[0], &hosts[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_was_alone_brings_along_what_it_knows() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (own, others) = (tokens(0..3_000), tokens(3_000..3_100));
    let alone = open(folder.path(), false);
    for part in own.chunks(1_000) {
        alone.accept(part.to_vec(), Durability::Shared).await.unwrap();
    }
    drop(alone);
    let first = Host::new(&redis(&server));
    first.until_following().await;
    first.accept(&others).await;
    let host = Host::on(folder, &redis(&server));
    until("the other knows all of it", || first.knows_all(&own)).await;
    until("it knows the other's", || host.knows_all(&others)).await;
    until("nothing is owed", || !host.ledger.owes()).await;
    are_shared(&redis(&server), &[own, others].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_says_how_many_replicas_have_it() {
    let now = ["--repl-diskless-sync-delay", "0"];
    let Some(server) = Server::start_with(&now, None) else { return };
    let port = server.port.to_string();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port], None).unwrap();
    until("a replica", || server.command(&["INFO", "replication"]).contains("state=online")).await;
    let host = Host::new(&redis(&server));
    host.until_following().await;
    let replicated = async |record: Record| {
        host.ledger.accept(vec![record], Durability::Replicas(1)).await.unwrap().reach
    };
    assert_eq!(replicated(tokens(0..1)[0]).await, Reach::Shared { replicas: 1 });
    assert!(replica.command(&["XLEN", LOG])[1..].parse::<u32>().unwrap() >= 2);
    drop(replica);
    assert_eq!(replicated(tokens(1..2)[0]).await, Reach::Shared { replicas: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_before_the_log_is_known() {
    let Some(server) = Server::start() else { return };
    let port = server.port;
    drop(server);
    let host = Host::new(&tidegate_redis::Settings::standalone("127.0.0.1".to_owned(), port));
    let refused = host.ledger.accept(tokens(0..1), Durability::Shared).await.unwrap_err();
    assert!(matches!(refused, NotAccepted::Away(_)), "{refused:?}");
    until("it is said why", || host.shared.trouble().unwrap().contains("connect: ")).await;
    assert_eq!(host.ledger.stats().age, None, "it never knew everything");
}
