//! A cluster whose masters are killed, frozen or switched, whose slots move, and that is asked
//! for several budgets at once: how long the hit shard gives no answer, and that the others do
//! not notice.
//!
//! A cluster takes about twice its node timeout (2 s here) to replace a master. So the bounds
//! are on what comes on top of that; what was measured is printed.

mod load;
mod server;

use load::{Load, Report, all, none, one};
use rustix::process::Signal;
use server::cluster::{Cluster, MASTERS, PASSWORD};
use server::until;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_core::ask::MemoryStore;
use tidegate_redis::{Access, Address, Backend, Credentials, Password, Servers, Settings, Store};
use tokio::task::JoinSet;

/// How soon a new master is found once it is one, on a busy machine.
const FOUND_WITHIN: Duration = Duration::from_millis(1_500);

/// Far longer than anything here takes: a busy machine stalls for longer than by default.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_is_replaced_and_the_other_shards_notice_nothing() {
    let Some(mut cluster) = Cluster::start() else { return };
    let store = connected(&cluster).await;
    let load = Load::start(&store, keys(&cluster, 2));
    load.answered_after(Instant::now()).await;
    let start = Instant::now();
    cluster.nodes[0].kill();
    until(|| store.health().trouble.is_some()).await;
    assert!(store.health().answers, "two shards of three do");
    let promoted = promotion(&cluster, start).await;
    until(|| store.health().trouble.is_none()).await;
    load.answered_about(first(&cluster), Instant::now()).await;
    let report = load.stop().await;
    tell("killed", &cluster, &report, promoted);
    assert!(store.stats().fail_overs() == 1 && store.stats().resets() == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_master_is_replaced_as_soon_as_a_dead_one() {
    let Some(cluster) = Cluster::start() else { return };
    // It is given up after three deadlines, which are longer than by default all the same.
    let store = connected_within(&cluster, Duration::from_millis(200)).await;
    let load = Load::start(&store, keys(&cluster, 2));
    load.answered_after(Instant::now()).await;
    let start = Instant::now();
    cluster.nodes[0].signal(Signal::STOP);
    let promoted = promotion(&cluster, start).await;
    until(|| store.health().trouble.is_none()).await;
    // It wakes, believes for a moment that it is a master still, and is not asked.
    cluster.nodes[0].signal(Signal::CONT);
    load.answered_about(first(&cluster), Instant::now()).await;
    let report = load.stop().await;
    tell("frozen", &cluster, &report, promoted);
    let asked = format!("127.0.0.1:{}", cluster.nodes[0].port);
    assert!(store.health().backends.iter().all(|shard| shard.address != asked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_on_demand_costs_nobody_an_answer() {
    let Some(cluster) = Cluster::start() else { return };
    let store = connected(&cluster).await;
    let load = Load::start(&store, keys(&cluster, 2));
    load.answered_after(Instant::now()).await;
    assert_eq!(cluster.nodes[MASTERS].command(&["CLUSTER", "FAILOVER"]), "+OK");
    let promoted = format!("127.0.0.1:{}", cluster.nodes[MASTERS].port);
    until(|| store.health().backends.iter().any(|shard| shard.address == promoted)).await;
    load.answered_after(Instant::now()).await;
    let report = load.stop().await;
    println!("switched: {:?} without an answer, {:?}", report.outage(), report.errors());
    assert!(report.errors().is_empty(), "{:?}", report.errors());
    assert_eq!(store.stats().resets(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load_and_every_charge_moves_with_them() {
    let Some(mut cluster) = Cluster::start() else { return };
    let store = connected(&cluster).await;
    let keys = keys(&cluster, 20);
    let load = Load::start(&store, keys.clone());
    let pairs: Vec<_> = keys.chunks(2).map(<[u64]>::to_vec).collect();
    let several = Load::start_with(&store, keys.clone(), move |key| {
        let pair = &pairs[usize::try_from(key).unwrap() % pairs.len()];
        all(pair, u32::MAX)
    });
    load.answered_after(Instant::now()).await;
    let fresh = cluster.add_master();
    for slot in keys.iter().map(|key| cluster.slot(*key)) {
        let from = slot * MASTERS / 16_384;
        // Some to a node that had none, the others to the next shard.
        let to = if slot % 2 == 0 { fresh } else { (from + 1) % MASTERS };
        cluster.move_slot(slot, from, to);
    }
    load.answered_after(Instant::now()).await;
    let (report, several) = (load.stop().await, several.stop().await);
    println!("moved: {:?} without an answer, {:?}", report.outage(), store.stats());
    assert!(report.errors().is_empty(), "{:?}", report.errors());
    assert!(several.errors().is_empty(), "{:?}", several.errors());
    assert!(store.stats().redirects() > 0);
    let mut charged = 0;
    for key in &keys {
        let reply = store.answer(none(*key)).await.unwrap();
        charged += 60_000 - reply.answers[0].outcome.unwrap().remaining as usize;
    }
    assert_eq!(charged, report.admitted() + 2 * several.admitted(), "each charged once");

    // A slot that stays on its way: keys that are there are answered there, new ones at its
    // destination, and several budgets at once too.
    let (old, mut new) = (keys[0], keys[0]);
    let slot = cluster.slot(old);
    let home = if slot % 2 == 0 { fresh } else { (slot * MASTERS / 16_384 + 1) % MASTERS };
    cluster.begin_move(slot, home, (0..MASTERS).find(|other| *other != home).unwrap());
    new += 1_000_000;
    while cluster.slot(new) != slot {
        new += 1;
    }
    for remaining in (57..60).rev() {
        let reply = store.answer(all(&[old, new], 60_000)).await.unwrap();
        let found = reply.answers[1].outcome.unwrap().remaining;
        assert_eq!(found, 59_940 + remaining, "counted at its destination");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_budgets_are_taken_all_or_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let store = connected(&cluster).await;
    let keys = keys_of(&cluster, 0, 1);
    // One after the other: to the bit what one store would say, and at the same times.
    let mut memory = MemoryStore::new(4_096);
    let mut dice = fastrand::Rng::with_seed(7);
    let sequence = load::Sequence::new(&mut dice);
    let (mut now_us, mut admitted, mut given_back) = (1_763_000_000_000_000, 0, 0);
    for step in 0..3_000 {
        now_us += dice.u64(0..20_000);
        let ask = sequence.ask(&mut dice);
        let wanted = memory.answer(tidegate_core::time::Instant(now_us * 1_000), &ask);
        let found = store.answer_at(ask.clone(), now_us).await.unwrap();
        assert_eq!(found, wanted, "step {step}: {ask:?}");
        admitted += u32::from(wanted.admits());
        if ask.items.len() > 1 && !wanted.admits() {
            let answers = wanted.answers.iter().zip(&ask.items);
            given_back += answers.filter(|(a, item)| a.outcome.is_ok() && item.cost > 0).count();
        }
        until(|| store.stats().given_back() == given_back as u64).await;
    }
    assert!((300..2_700).contains(&admitted), "{admitted} of 3000 admitted");
    assert!(store.stats().given_back() > 100, "{:?}", store.stats());

    // All at once: never more than there is, and nothing is lost in the end.
    let budget = |key: &u64| load::item(*key, if *key == keys[0] { 50 } else { 400 });
    let ask = tidegate_core::ask::Ask { items: keys.iter().map(budget).collect() };
    let mut asks = JoinSet::new();
    for _ in 0..400 {
        let (store, ask) = (store.clone(), ask.clone());
        asks.spawn(async move { store.answer(ask).await.unwrap().admits() });
    }
    let admitted = asks.join_all().await.into_iter().filter(|admitted| *admitted).count();
    assert_eq!(admitted, 50);
    // Two shards for each that the third refused.
    until(|| store.stats().given_back() == (given_back + 2 * 350) as u64).await;
    assert_eq!(store.stats().kept_charges(), 0);
    let mut looked = ask;
    looked.items.iter_mut().for_each(|item| item.cost = 0);
    let left = store.answer(looked).await.unwrap();
    let left: Vec<_> = left.answers.iter().map(|a| a.outcome.unwrap().remaining).collect();
    assert_eq!(left, [0, 350, 350], "what was refused elsewhere was given back");

    // Scripts are a node's own, and gone with a flush.
    for node in &cluster.nodes[..MASTERS] {
        assert_eq!(node.command(&["SCRIPT", "FLUSH"]), "+OK");
    }
    let fresh = keys_of(&cluster, 2, 3);
    assert!(store.answer(all(&fresh, 7)).await.unwrap().admits());
}

#[tokio::test]
async fn a_cluster_is_found_by_any_node_and_what_is_amiss_is_said() {
    let Some(mut cluster) = Cluster::start() else { return };
    // One seed nobody listens at, and one that is only a replica.
    let seeds = [Address::new("127.0.0.1", 1), address(&cluster, MASTERS + 1)];
    let store = Store::start(settings(seeds.to_vec()));
    until(|| store.trouble().is_none()).await;
    assert_eq!(store.health().backends.len(), MASTERS);
    let slots: usize = store.health().backends.iter().map(|s| usize::from(s.slots)).sum();
    assert_eq!(slots, 16_384);
    // A slot that nobody serves is said, and its keys are not answered; all others are.
    let keys = keys(&cluster, 1);
    let slot = cluster.slot(keys[2]).to_string();
    // Its owner first, the third: while that has it, it tells the others so.
    for node in cluster.nodes[2..].iter().chain(&cluster.nodes[..2]) {
        node.command(&["CLUSTER", "DELSLOTS", &slot]);
    }
    until(|| store.trouble().is_some_and(|said| said.contains("1 slots are served"))).await;
    assert!(store.answer(one(keys[2], 5)).await.is_err());
    assert!(store.answer(one(keys[0], 5)).await.unwrap().admits());
    // Who is asked as if it were one server says what it is.
    let mut alone = Settings::standalone("127.0.0.1".to_owned(), cluster.nodes[0].port);
    alone.access = access();
    let alone = Store::start(alone);
    until(|| {
        let said = alone.trouble();
        said.is_some_and(|said| said.contains("cluster_mode")) || alone.trouble().is_none()
    })
    .await;
    // With nobody left, nobody tells.
    for node in &mut cluster.nodes {
        node.kill();
    }
    until(|| !store.health().answers).await;
    let start = Instant::now();
    assert!(store.answer(one(keys[0], 5)).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_cluster_that_stops_with_one_shard_is_not_asked_and_comes_back() {
    let Some(mut cluster) = Cluster::start_that_needs_all_slots() else { return };
    let store = connected(&cluster).await;
    let keys = keys(&cluster, 1);
    for lost in [0, MASTERS] {
        cluster.nodes[lost].kill();
    }
    let shunned = || store.health().backends.iter().filter(|shard| shard.is_shunned).count();
    until(|| shunned() == MASTERS - 1).await;
    let (health, sent) = (store.health(), store.stats().asks());
    assert!(!health.answers, "nobody answers anything");
    let lost = format!("shard {}: ", address(&cluster, 0));
    let trouble = health.trouble.unwrap();
    assert!(trouble.starts_with(&lost), "{trouble}");
    assert!(trouble.contains("2 of 3 refuse everything"), "{trouble}");
    assert!(trouble.ends_with("cluster-require-full-coverage no on every node"), "{trouble}");
    for key in &keys[1..] {
        let error = store.answer(one(*key, 5)).await.unwrap_err();
        assert_eq!(error.kind(), "cluster_stopped");
        assert!(!error.may_have_run());
    }
    // Nobody was sent anything: only the probes go on asking.
    assert_eq!(store.stats().asks(), sent);
    let outages: Vec<_> = store.health().backends.iter().map(outage).collect();
    assert_eq!(outages, [(true, 0), (true, 1), (true, 1)]);

    for back in [0, MASTERS] {
        cluster.nodes[back].restart();
    }
    until(|| store.trouble().is_none()).await;
    for key in &keys {
        assert!(store.answer(one(*key, 5)).await.unwrap().admits());
    }
    let outages: Vec<_> = store.health().backends.iter().map(outage).collect();
    assert_eq!(outages, [(false, 0), (false, 1), (false, 1)]);
}

#[tokio::test]
async fn what_an_outage_leaves_uncounted_is_known_shard_by_shard() {
    let Some(mut cluster) = Cluster::start() else { return };
    let store = connected(&cluster).await;
    let keys = keys(&cluster, 1);
    for lost in [0, MASTERS] {
        cluster.nodes[lost].kill();
    }
    until(|| store.health().backends[0].outage.is_some()).await;
    // Whoever gets no answer for one budget has none for the others either.
    for _ in 0..7 {
        assert!(store.answer(all(&keys[..2], 60_000)).await.is_err());
    }
    assert!(store.answer(one(keys[0], 5)).await.is_err());
    assert!(store.answer(one(keys[2], 5)).await.unwrap().admits());
    let outages: Vec<_> = store.health().backends.iter().map(outage).collect();
    assert_eq!(outages, [(true, 8), (false, 7), (false, 0)]);
    assert_eq!(store.stats().unanswered_units(), 15);
    let lasts = store.health().backends[0].outage.unwrap();
    assert_eq!(lasts.unanswered_units, 8);
    assert!(store.health().backends[0].downtime >= lasts.lasts);
}

#[tokio::test]
async fn the_rights_that_the_settings_name_suffice_for_a_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    let rights =
        "+evalsha +script|load +mget +set +time +info +cluster|slots +cluster|nodes +asking";
    for node in &cluster.nodes {
        let user = "ACL SETUSER limiter on >token resetkeys ~tidegate:* -@all";
        let words: Vec<_> = user.split(' ').chain(rights.split(' ')).collect();
        assert_eq!(node.command(&words), "+OK");
    }
    let mut settings = settings(vec![address(&cluster, 0)]);
    settings.access.credentials = Credentials {
        username: Some("limiter".to_owned()),
        password: Password::Text("token".to_owned()),
    };
    let store = Arc::new(Store::start(settings));
    until(|| store.trouble().is_none()).await;
    let keys = keys(&cluster, 2);
    let slot = cluster.slot(keys[0]);
    cluster.begin_move(slot, 0, 1);
    for key in &keys {
        assert!(store.answer(one(*key, 5)).await.unwrap().admits());
    }
    assert!(store.stats().redirects() > 0, "an ASK was followed");
    for node in &cluster.nodes {
        assert_eq!(node.command(&["ACL", "LOG"]), "", "nothing was tried that it may not");
    }
}

/// What was measured, and the bounds on it: the first shard was hit.
fn tell(what: &str, cluster: &Cluster, report: &Report, promoted: Duration) {
    let hit = report.of(|key| cluster.shard(key) == 0);
    let others = report.of(|key| cluster.shard(key) != 0);
    println!(
        "{what}: {:?} without an answer, of which the cluster took {promoted:?}, {:?}; the others \
         {:?}, {:?}",
        hit.outage(),
        hit.errors(),
        others.outage(),
        others.errors()
    );
    assert!(hit.outage() < promoted + FOUND_WITHIN, "{:?}", hit.outage());
    assert!(others.errors().is_empty(), "{:?}", others.errors());
    assert!(report.slowest() < Duration::from_secs(1), "nobody waits for a fail-over");
}

/// Whether a shard gives no answers, and how many units were asked of it in vain.
fn outage(shard: &Backend) -> (bool, u64) {
    (shard.outage.is_some(), shard.unanswered_units)
}

/// How long the cluster took to replace its first master.
async fn promotion(cluster: &Cluster, start: Instant) -> Duration {
    until(|| cluster.nodes[MASTERS].info("role") == "master").await;
    start.elapsed()
}

/// A key of the first shard.
fn first(cluster: &Cluster) -> u64 {
    keys(cluster, 1)[0]
}

/// So many keys of each shard, of the first one first.
fn keys(cluster: &Cluster, each: usize) -> Vec<u64> {
    keys_of(cluster, 0, each)
}

/// Of each shard its keys from the one to the other.
fn keys_of(cluster: &Cluster, from: usize, to: usize) -> Vec<u64> {
    let mut keys = Vec::new();
    for shard in 0..MASTERS {
        let of_shard = (0..).filter(|key| cluster.shard(*key) == shard);
        keys.extend(of_shard.take(to).skip(from));
    }
    keys
}

fn address(cluster: &Cluster, number: usize) -> Address {
    Address::new("127.0.0.1", cluster.nodes[number].port)
}

fn access() -> Access {
    let password = Password::Text(PASSWORD.to_owned());
    Access { credentials: Credentials { username: None, password }, tls: None }
}

fn settings(seeds: Vec<Address>) -> Settings {
    let mut settings = Settings::new(Servers::Cluster { seeds });
    settings.access = access();
    (settings.read_timeout, settings.pool_timeout) = (PATIENCE, PATIENCE);
    settings
}

async fn connected(cluster: &Cluster) -> Arc<Store> {
    connected_within(cluster, PATIENCE).await
}

/// A store that waits so long to send, and as long for replies.
async fn connected_within(cluster: &Cluster, within: Duration) -> Arc<Store> {
    let mut settings = settings(vec![address(cluster, 0), address(cluster, 1)]);
    (settings.read_timeout, settings.pool_timeout) = (within, within);
    let store = Store::start(settings);
    until(|| store.trouble().is_none()).await;
    Arc::new(store)
}
