//! The service on a real Redis: as on memory, and while Redis is gone.

mod common;
#[path = "../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;

use common::{Caller, DEADLINE, Host, ask_request, one};
use rustix::process::Signal;
use server::Server;
use server::cluster::{self, Cluster};
use server::sentinel::{self, Fleet};
use std::time::{Duration, Instant};
use tidegate_core::wire;
use tokio::task::JoinSet;

const PASSWORD: &str = "hunter2-and-more";
/// Waits far longer than anything here takes: a busy machine stalls for longer than by default.
const PATIENT: &str = "  read_timeout: 10s\n  pool_timeout: 10s\n";
const NULL: serde_json::Value = serde_json::Value::Null;

#[tokio::test]
async fn redis_killed_gets_503_at_once_and_back_it_answers_again() {
    let Some(mut redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxy = host.http2().await;
    assert!(proxy.reply(&one(1, 5)).await.admits());
    assert!(host.admin("/metrics").await.1.contains("tidegate_store_up{store=\"redis\"} 1"));

    redis.kill();
    host.until_away().await;
    for _ in 0..50 {
        let start = Instant::now();
        let (head, body) = proxy.ask(wire::encode_ask(&one(1, 5))).await;
        assert_eq!((head.status().as_u16(), &body[..]), (503, &b"redis is away\n"[..]));
        assert_eq!(head.headers()["x-tidegate"], "1");
        assert!(head.headers().contains_key(wire::AWAY_MS));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    assert!(host.metric("tidegate_store_errors_total{kind=\"away\"}").await >= 50.0);
    assert_eq!(host.metric("tidegate_store_up{store=\"redis\"}").await, 0.0);

    redis.restart();
    host.until_ready().await;
    assert!(proxy.reply(&one(1, 5)).await.admits());
}

#[tokio::test]
async fn what_an_outage_leaves_uncounted_is_told_and_so_is_what_was_charged_for_it() {
    const AWAY: &str = "tidegate_redis_backend_away_seconds";
    const DOWNTIME: &str = "tidegate_redis_backend_downtime_seconds_total";
    const UNANSWERED: &str = "tidegate_redis_backend_unanswered_units_total";
    let Some(mut redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    let of = |name: &str| format!("{name}{{kind=\"master\",address=\"127.0.0.1:{}\"}}", redis.port);
    let [away, downtime, unanswered] = [AWAY, DOWNTIME, UNANSWERED].map(of);
    let server = async || {
        let page = host.admin("/readyz").await.1;
        serde_json::from_str::<serde_json::Value>(&page).unwrap()["backends"][0].clone()
    };
    host.until_ready().await;
    let mut proxy = host.http2().await;
    assert!(proxy.reply(&one(1, 50)).await.admits());
    assert_eq!((host.metric(&away).await, host.metric(&unanswered).await), (0.0, 0.0));
    assert_eq!(
        (&server().await["away_seconds"], &server().await["unanswered_units"]),
        (&NULL, &NULL)
    );

    let before = host.metric(&downtime).await;
    redis.kill();
    host.until_away().await;
    let mut dear = one(1, 50);
    dear.items[0].cost = 5;
    for ask in [one(1, 50), dear] {
        assert_eq!(proxy.ask(wire::encode_ask(&ask)).await.0.status(), 503);
    }
    let first = host.metric(&away).await;
    let page = server().await;
    assert_eq!(page["unanswered_units"], 6);
    assert!(first > 0.0 && page["away_seconds"].as_f64() >= Some(first), "{first} and {page}");
    assert_eq!(host.metric(&unanswered).await, 6.0);
    assert_eq!(host.metric("tidegate_redis_unanswered_units_total").await, 6.0);

    redis.restart();
    host.until_ready().await;
    assert_eq!(
        (&server().await["away_seconds"], &server().await["unanswered_units"]),
        (&NULL, &NULL)
    );
    assert_eq!((host.metric(&away).await, host.metric(&unanswered).await), (0.0, 6.0));
    assert!(host.metric(&downtime).await - before >= first);
    // It came back empty. A proxy had let seven through meanwhile.
    assert_eq!(host.metric("tidegate_charged_back_units_total").await, 0.0);
    let mut owing = one(1, 50);
    owing.items[0].owed = 7;
    let reply = proxy.reply(&owing).await;
    assert_eq!(reply.answers[0].outcome.unwrap().remaining, 50 - 7 - 1);
    assert_eq!(host.metric("tidegate_charged_back_units_total").await, 7.0);
}

#[tokio::test]
async fn it_starts_before_its_redis() {
    let Some(mut redis) = Server::start() else { return };
    redis.kill();
    let host = Host::on_redis(redis.port, "");
    host.until_away().await;
    redis.restart();
    host.until_ready().await;
}

#[tokio::test]
async fn a_proxy_hears_of_a_silent_redis_while_it_still_waits() {
    let Some(redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxy = host.http2().await;
    assert!(proxy.reply(&one(1, 5)).await.admits());
    redis.signal(Signal::STOP);
    // The host answers a fifth of it early: that is to be more than a busy machine stalls for.
    let waits = Duration::from_secs(5);
    let mut ask = async || {
        let mut request = common::ask_request(wire::encode_ask(&one(1, 5)));
        request.headers_mut().insert(wire::WAITS_MS, "5000".parse().unwrap());
        let start = Instant::now();
        let (head, body) = proxy.send(request).await;
        assert_eq!(head.status(), 503, "{body:?}");
        let away = head.headers().get(wire::AWAY_MS).map(|away| away.to_str().unwrap().to_owned());
        (start.elapsed(), away.expect("for how long").parse::<u64>().unwrap())
    };
    let (took, away_ms) = ask().await;
    assert!(took < waits && away_ms < 100, "{took:?} {away_ms}");
    // It is not waited for again, though its connection is not given up yet.
    let mut last_ms = away_ms;
    while last_ms < 120 {
        let (took, away_ms) = ask().await;
        assert!(took < waits / 2 && away_ms >= last_ms, "{took:?} {away_ms}");
        last_ms = away_ms;
    }
    redis.signal(Signal::CONT);
    host.until_ready().await;
    assert!(proxy.reply(&one(1, 5)).await.admits());
}

#[tokio::test]
async fn two_hosts_on_one_redis_keep_one_truth() {
    let Some(redis) = Server::start() else { return };
    let (one_host, other_host) =
        (Host::on_redis(redis.port, PATIENT), Host::on_redis(redis.port, PATIENT));
    one_host.until_ready().await;
    other_host.until_ready().await;
    let mut proxies = [one_host.http2().await, other_host.http2().await];
    let mut admitted = 0;
    for turn in 0..10 {
        admitted += u32::from(proxies[turn % 2].reply(&one(1, 5)).await.admits());
    }
    assert_eq!(admitted, 5);
}

/// A host beside each proxy: neither is asked by the other's, and both know of them.
#[tokio::test]
async fn proxies_of_different_hosts_share_a_limit_and_an_outage_does_not_change_that() {
    let Some(mut redis) = Server::start() else { return };
    let hosts = [Host::on_redis(redis.port, ""), Host::on_redis(redis.port, "")];
    let mut proxies = [hosts[0].http2().await, hosts[1].http2().await];
    until_halved(&mut proxies).await;
    for host in &hosts {
        assert_eq!(host.metric("tidegate_fleet_hosts").await, 2.0);
        assert_eq!(host.metric("tidegate_fleet_proxies").await, 2.0);
    }

    redis.signal(Signal::STOP);
    let is_old = async |host: &Host| host.metric("tidegate_fleet_census_age_seconds").await > 6.0;
    while !(is_old(&hosts[0]).await && is_old(&hosts[1]).await) {
        told(&mut proxies).await;
    }
    redis.signal(Signal::CONT);
    assert_halved(&mut proxies, 3).await;

    // Back with nothing: who is the first to tell it is not all there is.
    redis.kill();
    hosts[0].until_away().await;
    hosts[1].until_away().await;
    redis.restart();
    assert_halved(&mut proxies, 6).await;
    until_halved(&mut proxies).await;
}

#[tokio::test]
async fn asks_that_come_together_share_round_trips() {
    const ASKS: u8 = 200;
    let Some(redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, &format!("  pool_size: 1\n{PATIENT}"));
    host.until_ready().await;
    let proxy = host.http2().await;
    let common::Caller::Http2(sender) = proxy else { unreachable!() };
    let mut asks = JoinSet::new();
    for key in 0..ASKS {
        let mut proxy = common::Caller::Http2(sender.clone());
        asks.spawn(async move { proxy.reply(&one(key, 5)).await.admits() });
    }
    assert!(asks.join_all().await.into_iter().all(|admitted| admitted));
    assert_eq!(host.metric("tidegate_redis_asks_total").await, f64::from(ASKS));
    let batches = host.metric("tidegate_redis_batch_asks_count").await;
    assert!(batches <= f64::from(ASKS) / 2.0, "{ASKS} asks made {batches} round trips");
    assert_eq!(host.metric("tidegate_redis_batch_asks_bucket{le=\"+Inf\"}").await, batches);
}

#[tokio::test]
async fn a_host_that_fails_open_admits_what_redis_gives_no_answer_to() {
    let Some(mut redis) = Server::start() else { return };
    let yaml = format!("redis:\n  addresses: [127.0.0.1:{}]\n{PATIENT}", redis.port);
    let host = Host::serve_with(&yaml, &[("TIDEGATE_RATE_LIMIT_FAIL_OPEN", "true")]);
    host.logs().line_with(&["WARN", "rate_limit_fail_open", "on_error"]);
    host.until_ready().await;
    let mut proxy = host.http2().await;
    assert!(proxy.reply(&one(1, 1)).await.admits());
    assert!(!proxy.reply(&one(1, 1)).await.admits(), "with its Redis it limits");
    redis.kill();
    host.until_away().await;
    for _ in 0..3 {
        assert!(proxy.reply(&one(1, 1)).await.admits());
    }
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"failed_open\"}").await, 3.0);
    assert_eq!(host.metric("tidegate_redis_unanswered_units_total").await, 3.0);
    assert!(host.metric("tidegate_store_errors_total{kind=\"away\"}").await >= 3.0);
}

#[tokio::test]
async fn a_master_under_sentinel_is_found_by_the_environment_alone() {
    let Some(mut fleet) = Fleet::start() else { return };
    let hosts: Vec<_> =
        fleet.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
    let host = Host::serve_with(
        &format!("redis:\n{PATIENT}"),
        &[
            ("TIDEGATE_REDIS_SENTINEL_HOSTS", &hosts.join(",")),
            ("TIDEGATE_REDIS_SENTINEL_MASTER", sentinel::NAME),
            ("TIDEGATE_REDIS_SENTINEL_PASSWORD", sentinel::SENTINEL_PASSWORD),
            ("TIDEGATE_REDIS_PASSWORD", sentinel::PASSWORD),
        ],
    );
    host.until_ready().await;
    let mut proxy = host.http2().await;
    assert!(proxy.reply(&one(1, 5)).await.admits());
    let up = |kind: &str, port: u16| {
        format!("tidegate_redis_backend_up{{kind=\"{kind}\",address=\"127.0.0.1:{port}\"}}")
    };
    assert_eq!(host.metric(&up("master", fleet.servers[0].port)).await, 1.0);
    assert_eq!(host.metric(&up("sentinel", fleet.sentinels[2].port)).await, 1.0);
    fleet.servers[0].kill();
    host.until_away().await;
    host.until_ready().await;
    // Not every sentinel has heard of it when the host has.
    server::wait("a sentinel's new master", || fleet.master(0) != 0);
    let master = fleet.servers[fleet.master(0)].port;
    host.until(200, &format!("\"address\":\"127.0.0.1:{master}\",\"up\":true")).await;
    assert!(proxy.reply(&one(1, 5)).await.admits());
    assert_eq!(host.metric("tidegate_redis_fail_overs_total").await, 1.0);
}

#[tokio::test]
async fn a_cluster_is_found_by_the_environment_alone() {
    let Some(mut nodes) = Cluster::start() else { return };
    let some: Vec<_> =
        nodes.nodes.iter().skip(1).map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let host = Host::serve_with(
        &format!("redis:\n{PATIENT}"),
        &[
            ("TIDEGATE_REDIS_CLUSTER_NODES", &some.join(",")),
            ("TIDEGATE_REDIS_PASSWORD", cluster::PASSWORD),
        ],
    );
    host.until_ready().await;
    let mut proxy = host.http2().await;
    // Sixteen budgets are in all shards; none is charged if one refuses.
    let many = |last: u32| {
        let items = (0..16).flat_map(|key| one(key, if key == 15 { last } else { 5 }).items);
        tidegate_core::ask::Ask { items: items.collect() }
    };
    assert!(proxy.reply(&many(1)).await.admits());
    for _ in 0..10 {
        let reply = proxy.reply(&many(1)).await;
        assert!(!reply.admits());
        assert_eq!(reply.answers[0].outcome.unwrap().remaining, 4);
    }
    let shard = |number: usize| {
        let port = nodes.nodes[number].port;
        format!("tidegate_redis_backend_slots{{kind=\"shard\",address=\"127.0.0.1:{port}\"}}")
    };
    assert_eq!(host.metric(&shard(1)).await, 5461.0);
    let hit = format!("\"address\":\"127.0.0.1:{}\",\"up\":false", nodes.nodes[0].port);
    nodes.nodes[0].kill();
    // Two shards still answer: that is ready, and says what is amiss.
    host.until(200, &hit).await;
    let mut answered = 0;
    for key in 0..50 {
        let (head, _) = proxy.ask(wire::encode_ask(&one(key, 5))).await;
        answered += u32::from(head.status() == 200);
    }
    assert!((20..50).contains(&answered), "{answered} of 50");
}

#[tokio::test]
async fn secrets_appear_nowhere() {
    let arguments = ["--requirepass", PASSWORD];
    let Some(mut redis) = Server::start_with(&arguments, Some(PASSWORD)) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let by_file = format!("  password_file: {}\n", file.display());
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{}/0", redis.port);
    let wrong = format!("redis://:wrong-{PASSWORD}@127.0.0.1:{}/0", redis.port);
    let trace = "log_level: trace\n";
    let hosts = [
        Host::on_redis(redis.port, &format!("{by_file}{trace}")),
        Host::on_redis(redis.port, &format!("  password: \"{PASSWORD}\"\n{trace}")),
        Host::serve_with(trace, &[("TIDEGATE_REDIS_URL", &url)]),
        Host::serve_with(trace, &[("TIDEGATE_REDIS_URL", &wrong)]),
    ];
    for host in &hosts[..3] {
        host.until_ready().await;
    }
    hosts[3].until_away().await;
    hosts[3].logs().line_with(&["redis does not let us in", "sign in"]);
    redis.kill();
    for host in &hosts {
        host.until_away().await;
        let (head, body) = host.http1().await.ask(wire::encode_ask(&one(1, 5))).await;
        assert_eq!(head.status(), 503);
        let pages = [host.admin("/metrics").await.1, host.admin("/readyz").await.1];
        let said = format!("{}{body:?}{head:?}{pages:?}", host.logs().text());
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// Both ask once, each as itself; their shares, if they are told.
async fn told(proxies: &mut [Caller; 2]) -> Option<[u32; 2]> {
    let mut shares = [None; 2];
    for (name, (proxy, share)) in ["a", "b"].iter().zip(proxies.iter_mut().zip(&mut shares)) {
        let mut ask = ask_request(wire::encode_ask(&one(1, 1_000_000)));
        ask.headers_mut().insert("x-tidegate-proxy", name.parse().unwrap());
        let (head, body) = proxy.send(ask).await;
        if head.status() == 200 {
            *share = Some(wire::decode_reply(&body).unwrap().answers[0].share_ppm);
        }
    }
    // As often as that, whatever the machine is busy with: demand is to be steady.
    tokio::time::sleep(Duration::from_millis(10)).await;
    Some([shares[0]?, shares[1]?])
}

/// About half of 85 % and half of 10 % each. Demand still grows, and each hears of the other's
/// some seconds late.
fn are_halved(shares: [u32; 2]) -> bool {
    shares.iter().all(|share| (400_000..=560_000).contains(share))
}

async fn until_halved(proxies: &mut [Caller; 2]) {
    let end = Instant::now() + DEADLINE;
    loop {
        let shares = told(proxies).await;
        if shares.is_some_and(are_halved) {
            return;
        }
        assert!(Instant::now() < end, "{shares:?}");
    }
}

/// Whatever is told within the next seconds, and something is.
async fn assert_halved(proxies: &mut [Caller; 2], seconds: u64) {
    let (end, mut replies) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < end {
        if let Some(shares) = told(proxies).await {
            assert!(are_halved(shares), "{shares:?}");
            replies += 1;
        }
    }
    assert!(replies > 10, "{replies}");
}
