//! The log of revocations where servers are replaced: whoever knew of what a fail-over lost is
//! told so, whoever is asked is the one to ask, and a log that moves is followed.

mod logging;
mod server;

use logging::{LOG, all_after, append, news, once_appended, once_read, record};
use rustix::process::Signal;
use server::cluster::{self, Cluster, MASTERS};
use server::sentinel::{self, Fleet, NAME, SENTINEL_PASSWORD};
use server::until;
use std::time::{Duration, Instant};
use tidegate_core::revoke::Position;
use tidegate_redis::log::{Appended, Known, Read, Reader};
use tidegate_redis::{Access, Address, Credentials, Password, Servers, Settings, Store};

const NONE: Position = Position { log: 0, number: 0, chain: 0 };
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fail_over_lost_is_known_by_whoever_had_it() {
    let Some(mut fleet) = Fleet::start() else { return };
    let store = of_fleet(&fleet).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let kept = append(&mut writer, Known::Nothing, &[record(1)]).await;
    let has_it = |server: &server::Server| server.command(&["XLEN", LOG]) == ":1";
    until(|| fleet.servers.iter().all(has_it)).await;
    // From now on no replica hears of anything.
    for replica in &fleet.servers[1..] {
        replica.signal(Signal::STOP);
    }
    fleet.servers[0].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    let lost = append(&mut writer, Known::Position(kept), &[record(2)]).await;
    assert_eq!(all_after(&mut reader, kept).await.1, lost);
    let start = Instant::now();
    fleet.servers[0].kill();
    for replica in &fleet.servers[1..] {
        replica.signal(Signal::CONT);
    }
    assert_eq!(once_read(&mut reader, lost).await, Read::Lost);
    println!("noticed {:?} after the master was killed", start.elapsed());
    assert_eq!(
        once_appended(&mut writer, Known::Position(lost), &[record(3)]).await,
        Appended::Lost
    );
    assert_eq!(reader.last().await.unwrap(), Some(kept), "so far all have the same");
    let again = append(&mut writer, Known::Position(kept), &[record(3)]).await;
    assert_eq!((again.number, all_after(&mut reader, kept).await.1), (2, again));
    assert_eq!(reader.read(lost, PATIENCE).await.unwrap(), Read::Lost, "another of that number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_replaced_is_neither_read_nor_written() {
    let Some(fleet) = Fleet::start() else { return };
    let store = of_fleet(&fleet).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &[record(1)]).await;
    // A switch loses what the new master has not heard of.
    until(|| fleet.servers.iter().all(|server| server.command(&["XLEN", LOG]) == ":1")).await;
    assert_eq!(fleet.sentinels[1].command(&["SENTINEL", "FAILOVER", NAME]), "+OK");
    until(|| (0..3).all(|sentinel| fleet.master(sentinel) != 0)).await;
    let new = &fleet.servers[fleet.master(0)];
    // Whoever writes in the moment before hearing of it writes to the old one, and is told so:
    // see above.
    let named = Address::new("127.0.0.1", new.port).to_string();
    until(|| store.health().backends[0].address == named).await;
    // Until it is told, ten seconds later, the old one says that it is a master.
    let start = Instant::now();
    let mut at = known;
    while start.elapsed() < Duration::from_secs(3) {
        match once_appended(&mut writer, Known::Position(at), &[record(2)]).await {
            Appended::Done { positions, .. } => at = positions[0],
            other => panic!("{other:?}"),
        }
        assert_eq!(all_once_read(&mut reader, known).await, at);
    }
    assert_eq!(new.command(&["XLEN", LOG]), format!(":{}", at.number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_slot_moves_is_followed() {
    let Some(cluster) = Cluster::start() else { return };
    let store = of_cluster(&cluster).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let slot = slot(&cluster);
    // Not to a node without slots: moving its last one back would make it a replica meanwhile.
    let from = slot * MASTERS / 16_384;
    let to = (from + 1) % MASTERS;
    // Before there is one: whoever looks for it is sent to where it is going to be.
    cluster.begin_move(slot, from, to);
    let first = append(&mut writer, Known::Nothing, &[record(1)]).await;
    assert_eq!(
        cluster.nodes[from].command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]),
        ":0"
    );
    assert_eq!(all_after(&mut reader, NONE).await.1, first);
    cluster.move_slot(slot, from, to);
    let second = append(&mut writer, Known::Position(first), &[record(2)]).await;
    assert_eq!(all_after(&mut reader, NONE).await.1, second);

    // And with somebody waiting for what comes next.
    let waiting = tokio::spawn(async move {
        loop {
            match reader.read(second, PATIENCE).await {
                Ok(Read::News(news)) if !news.entries.is_empty() => return news.entries,
                Ok(Read::News(_)) | Err(_) => {}
                Ok(other) => panic!("{other:?}"),
            }
        }
    });
    until(|| cluster.nodes[to].info("blocked_clients") == "1").await;
    cluster.move_slot(slot, to, from);
    let third = append(&mut writer, Known::Position(second), &[record(3)]).await;
    let entries = waiting.await.unwrap();
    assert_eq!(entries.last().unwrap().position, third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shard_is_replaced_and_the_log_with_it() {
    let Some(mut cluster) = Cluster::start() else { return };
    let store = of_cluster(&cluster).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &[record(1)]).await;
    let (slot, shard) = (slot(&cluster), slot(&cluster) * MASTERS / 16_384);
    let count = ["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()];
    until(|| cluster.nodes[MASTERS + shard].command(&count) == ":1").await;
    let start = Instant::now();
    cluster.nodes[shard].kill();
    assert!(matches!(once_read(&mut reader, known).await, Read::News(_)));
    println!("read {:?} after the shard was lost", start.elapsed());
    let appended = once_appended(&mut writer, Known::Position(known), &[record(2)]).await;
    assert!(matches!(appended, Appended::Done { .. }), "{appended:?}");
    assert_eq!(news(&mut reader, known, PATIENCE).await.entries.len(), 1);
}

/// Where it leads from there, whatever becomes of connections meanwhile.
async fn all_once_read(reader: &mut Reader, mut at: Position) -> Position {
    loop {
        let Read::News(news) = once_read(reader, at).await else { panic!("it is lost") };
        at = news.entries.last().map_or(at, |entry| entry.position);
        if news.complete_at.is_some() {
            return at;
        }
    }
}

/// Where the log is.
fn slot(cluster: &Cluster) -> usize {
    let said = cluster.nodes[1].command(&["CLUSTER", "KEYSLOT", LOG]);
    said[1..].parse().unwrap()
}

async fn of_fleet(fleet: &Fleet) -> Store {
    let address = |server: &server::Server| Address::new("127.0.0.1", server.port);
    let mut settings = Settings::new(Servers::Sentinel {
        master_name: NAME.to_owned(),
        sentinels: fleet.sentinels.iter().map(address).collect(),
        access: access(SENTINEL_PASSWORD),
    });
    settings.access = access(sentinel::PASSWORD);
    connected(settings).await
}

async fn of_cluster(cluster: &Cluster) -> Store {
    let seeds = vec![Address::new("127.0.0.1", cluster.nodes[0].port)];
    let mut settings = Settings::new(Servers::Cluster { seeds });
    settings.access = access(cluster::PASSWORD);
    connected(settings).await
}

async fn connected(settings: Settings) -> Store {
    let store = Store::start(settings);
    until(|| store.trouble().is_none()).await;
    store
}

fn access(password: &str) -> Access {
    let password = Password::Text(password.to_owned());
    Access { credentials: Credentials { username: None, password }, tls: None }
}
