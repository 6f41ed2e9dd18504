//! Servers are replaced, and what they had not told their replicas is gone: from Redis, not from
//! the hosts.

use crate::hosts::{Host, LOG, are_shared, tokens, until};
use crate::server::cluster::{self, Cluster, MASTERS};
use crate::server::sentinel::{self, Fleet, NAME, SENTINEL_PASSWORD};
use crate::server::{self};
use rustix::process::Signal;
use std::time::Instant;
use tidegate_redis::{Access, Address, Credentials, Password, Servers, Settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_that_loses_the_last_second_loses_nothing_acknowledged() {
    let Some(mut fleet) = Fleet::start() else { return };
    let redis = of_fleet(&fleet);
    let hosts = [Host::new(&redis), Host::new(&redis)];
    hosts[0].until_following().await;
    let (kept, lost) = (tokens(0..1_000), tokens(1_000..1_100));
    hosts[0].accept(&kept).await;
    // The master's offset again each time: whoever trims the log writes too.
    let offset = |server: &server::Server| server.info("master_repl_offset");
    until("replicas have it", || {
        let offsets: Vec<_> = fleet.servers.iter().map(offset).collect();
        offsets.iter().all(|offset| *offset == offsets[0])
    })
    .await;
    // From now on no replica hears of anything.
    for replica in &fleet.servers[1..] {
        replica.signal(Signal::STOP);
    }
    fleet.servers[0].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    for record in &lost {
        hosts[0].accept(&[*record]).await;
    }
    let start = Instant::now();
    fleet.servers[0].kill();
    for replica in &fleet.servers[1..] {
        replica.signal(Signal::CONT);
    }
    until("it was noticed", || hosts[0].shared.counts().losses() >= 1).await;
    let noticed = start.elapsed();
    until("nothing is owed", || hosts.iter().all(|host| !host.ledger.owes())).await;
    println!("noticed {noticed:?} after the master's end, put back {:?}", start.elapsed());
    let put_back: u64 = hosts.iter().map(|host| host.shared.counts().put_back()).sum();
    assert_eq!(put_back, 100, "what was lost, and no more");
    // The other need not have read the last of it before the master was killed.
    until("both know", || hosts.iter().all(|host| host.knows_all(&kept) && host.knows_all(&lost)))
        .await;
    are_shared(&redis, &[kept, lost].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_under_load_loses_nothing_acknowledged() {
    let Some(fleet) = Fleet::start() else { return };
    let redis = of_fleet(&fleet);
    let host = Host::new(&redis);
    host.until_following().await;
    let mut switched = None;
    let mut acknowledged = Vec::new();
    for record in tokens(0..100_000) {
        let wanted = tidegate::revocations::Durability::Shared;
        if host.ledger.accept(vec![record], wanted).await.is_ok() {
            acknowledged.push(record);
        }
        if acknowledged.len() == 200 && switched.is_none() {
            assert_eq!(fleet.sentinels[1].command(&["SENTINEL", "FAILOVER", NAME]), "+OK");
            switched = Some((0..3).all(|sentinel| fleet.master(sentinel) == 0));
        }
        if acknowledged.len() > 400 && (0..3).all(|sentinel| fleet.master(sentinel) != 0) {
            break;
        }
    }
    println!(
        "{} acknowledged, {} lost by Redis",
        acknowledged.len(),
        host.shared.counts().put_back()
    );
    until("nothing is owed", || !host.ledger.owes()).await;
    are_shared(&redis, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shard_loses_nothing_acknowledged() {
    let Some(mut cluster) = Cluster::start() else { return };
    let seeds = cluster.nodes.iter().map(|node| Address::new("127.0.0.1", node.port)).collect();
    let mut redis = Settings::new(Servers::Cluster { seeds });
    redis.access = access(cluster::PASSWORD);
    let host = Host::new(&redis);
    host.until_following().await;
    let (kept, lost) = (tokens(0..100), tokens(100..110));
    host.accept(&kept).await;
    let slot: usize = cluster.nodes[1].command(&["CLUSTER", "KEYSLOT", LOG])[1..].parse().unwrap();
    let shard = slot * MASTERS / 16_384;
    let replica = MASTERS + shard;
    until("the replica has it", || {
        let offset = |node: usize| cluster.nodes[node].info("master_repl_offset");
        offset(shard) == offset(replica)
    })
    .await;
    cluster.nodes[replica].signal(Signal::STOP);
    cluster.nodes[shard].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    host.accept(&lost).await;
    cluster.nodes[shard].kill();
    cluster.nodes[replica].signal(Signal::CONT);
    until("it was noticed", || host.shared.counts().losses() >= 1).await;
    until("nothing is owed", || !host.ledger.owes()).await;
    are_shared(&redis, &[kept, lost].concat()).await;
}

fn of_fleet(fleet: &Fleet) -> Settings {
    let address = |server: &server::Server| Address::new("127.0.0.1", server.port);
    let mut settings = Settings::new(Servers::Sentinel {
        master_name: NAME.to_owned(),
        sentinels: fleet.sentinels.iter().map(address).collect(),
        access: access(SENTINEL_PASSWORD),
    });
    settings.access = access(sentinel::PASSWORD);
    settings
}

fn access(password: &str) -> Access {
    let password = Password::Text(password.to_owned());
    Access { credentials: Credentials { username: None, password }, tls: None }
}
