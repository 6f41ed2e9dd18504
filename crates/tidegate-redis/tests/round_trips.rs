//! Ten limits on one ask: one round trip to one Redis, alone or under Sentinel, and one parallel
//! round trip on a cluster.
//!
//! The servers are frozen while the ask is sent. Whatever has been sent until then went without
//! waiting for a reply; if the ask is answered once they go on, and nothing more was sent, then
//! that was all, and it was one round trip.

mod load;
mod server;

use load::{all, none};
use rustix::process::Signal;
use server::cluster::{self, Cluster, MASTERS};
use server::sentinel::{self, Fleet};
use server::{Server, until};
use std::sync::Arc;
use std::time::Duration;
use tidegate_redis::{Access, Address, Credentials, Password, Servers, Settings, Store};

/// So many limits on one ask.
const STACKED: u64 = 10;

/// Far longer than the servers are frozen.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_limits_are_one_round_trip() {
    let Some(server) = Server::start() else { return };
    let settings = Settings::standalone("127.0.0.1".to_owned(), server.port);
    let store = connected(settings).await;
    let calls = calls_while_frozen(&store, &[&server], &first_keys()).await;
    assert_eq!(calls, 1, "all ten in one command");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_limits_are_one_round_trip_under_sentinel() {
    let Some(fleet) = Fleet::start() else { return };
    let sentinels = fleet.sentinels.iter().map(|one| Address::new("127.0.0.1", one.port));
    let mut settings = Settings::new(Servers::Sentinel {
        master_name: sentinel::NAME.to_owned(),
        sentinels: sentinels.collect(),
        access: access(sentinel::SENTINEL_PASSWORD),
    });
    settings.access = access(sentinel::PASSWORD);
    let store = connected(settings).await;
    let master = &fleet.servers[fleet.master(0)];
    let calls = calls_while_frozen(&store, &[master], &first_keys()).await;
    assert_eq!(calls, 1, "all ten in one command");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_limits_are_one_parallel_round_trip_on_a_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    let seeds = vec![Address::new("127.0.0.1", cluster.nodes[0].port)];
    let mut settings = Settings::new(Servers::Cluster { seeds });
    settings.access = access(cluster::PASSWORD);
    let store = connected(settings).await;
    let masters: Vec<_> = cluster.nodes[..MASTERS].iter().collect();
    let keys = first_keys();
    for shard in 0..MASTERS {
        assert!(keys.iter().any(|key| cluster.shard(*key) == shard), "every master has a part");
    }
    let calls = calls_while_frozen(&store, &masters, &keys).await;
    assert_eq!(calls, STACKED, "one for each limit, none waiting for another");
}

/// How many calls one ask about `keys` made, all of them while no server could reply.
async fn calls_while_frozen(store: &Arc<Store>, servers: &[&Server], keys: &[u64]) -> u64 {
    let before = store.stats().asks();
    servers.iter().for_each(|server| server.signal(Signal::STOP));
    let asking = {
        let (store, ask) = (store.clone(), all(keys, 60_000));
        tokio::spawn(async move { store.answer(ask).await })
    };
    let sent = || store.stats().asks() - before;
    let at_once = if servers.len() == 1 { 1 } else { STACKED };
    until(|| sent() >= at_once).await;
    assert!(!asking.is_finished(), "nobody could reply");
    let calls = sent();
    servers.iter().for_each(|server| server.signal(Signal::CONT));
    let reply = asking.await.unwrap().unwrap();
    assert!(reply.admits() && reply.answers.len() == keys.len());
    assert_eq!(sent(), calls, "nothing was sent after the first reply");
    for key in keys {
        let left = store.answer(none(*key)).await.unwrap().answers[0].outcome.unwrap().remaining;
        assert_eq!(left, 59_999, "each was charged");
    }
    calls
}

fn first_keys() -> Vec<u64> {
    (0..STACKED).collect()
}

fn access(password: &str) -> Access {
    let password = Password::Text(password.to_owned());
    Access { credentials: Credentials { username: None, password }, tls: None }
}

async fn connected(mut settings: Settings) -> Arc<Store> {
    (settings.read_timeout, settings.pool_timeout) = (PATIENCE, PATIENCE);
    let store = Arc::new(Store::start(settings));
    until(|| store.trouble().is_none()).await;
    store
}
