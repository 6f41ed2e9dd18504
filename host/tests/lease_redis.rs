//! Leases from the real service on a real Redis: what a holder is granted, tells and returns;
//! and who answers while a part of it, or all, is away.

mod common;
mod leasing;
#[path = "../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;

use common::{Caller, DEADLINE, Host};
use leasing::{Proxy, asking, granted, hourly, replied, send, waiting};
use rustix::process::Signal;
use server::Server;
use server::cluster::{self, Cluster};
use std::time::{Duration, Instant};
use tidegate_core::lease::{Away, Served, Take};
use tidegate_core::time::Span;
use tidegate_core::wire;
use tokio::task::JoinSet;

/// Waits far longer than anything here takes: a busy machine stalls for longer than by default.
const PATIENT: &str = "  read_timeout: 10s\n  pool_timeout: 10s\n";

#[tokio::test]
async fn what_is_granted_is_spent_alone_and_the_rest_goes_back() {
    let Some(redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxy = Proxy::new(1, host.http2().await, hourly(1_000));
    assert_eq!(proxy.take(3), Take::Asks);
    assert_eq!(proxy.ask(&[1, 2], 10, true).await, [Ok(Served { units: 10 }); 2]);
    assert_eq!(proxy.ask(&[1], 10, false).await, [Ok(Served { units: 0 })], "held");
    let asks = host.metric("tidegate_redis_asks_total").await;
    for _ in 0..4 {
        assert_eq!(proxy.take(1), Take::Admitted);
    }
    assert_eq!(host.metric("tidegate_redis_asks_total").await, asks, "nobody was asked");
    // 10 at once, of each; 10 as a lease, of which 4 were spent.
    assert_eq!(proxy.drain().await, [986]);
    let units =
        async |what| host.metric(&format!("tidegate_lease_units_total{{what={what:?}}}")).await;
    assert_eq!(
        [units("granted").await, units("spent").await, units("returned").await],
        [30.0, 4.0, 6.0]
    );
    let wants =
        async |how| host.metric(&format!("tidegate_lease_wants_total{{outcome={how:?}}}")).await;
    assert_eq!([wants("granted").await, wants("told").await], [3.0, 1.0]);
    assert_eq!(host.metric("tidegate_lease_asks_unsettled_total").await, 1.0);
}

#[tokio::test]
async fn a_budget_that_is_used_up_refuses_and_what_is_owed_is_charged() {
    let Some(redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxy = Proxy::new(1, host.http2().await, hourly(10));
    proxy.holder(1).owe(10);
    assert_eq!(proxy.ask(&[1], 1, true).await, [Ok(Served { units: 0 })]);
    assert!(matches!(proxy.take(1), Take::Denied { .. }));
    assert_eq!(host.metric("tidegate_lease_wants_total{outcome=\"refused\"}").await, 1.0);
    assert_eq!(host.metric("tidegate_charged_back_units_total").await, 10.0);
}

#[tokio::test]
async fn redis_killed_gets_503_at_once_and_what_was_owed_is_owed_still() {
    let Some(mut redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxy = host.http2().await;
    assert_eq!(granted(&mut proxy, &waiting(1, 1, &[1], hourly(100), 3)).await.units, 3);
    redis.kill();
    host.until_away().await;
    for seq in 2..52 {
        let start = Instant::now();
        let (head, body) = send(&mut proxy, &waiting(1, seq, &[1, 2], hourly(100), 3)).await;
        assert_eq!((head.status().as_u16(), &body[..]), (503, &b"redis is away\n"[..]));
        assert!(head.headers().contains_key(wire::AWAY_MS));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"no_store\"}").await, 50.0);
    assert_eq!(host.metric("tidegate_lease_wants_total{outcome=\"away\"}").await, 100.0);
    assert_eq!(host.metric("tidegate_redis_unanswered_units_total").await, 300.0);
    assert_eq!(host.metric("tidegate_store_errors_total{kind=\"away\"}").await, 50.0);

    redis.restart();
    host.until_ready().await;
    let grant = granted(&mut proxy, &waiting(1, 52, &[1], hourly(100), 3)).await;
    assert_eq!(grant.units, 0, "it came back empty, and may have granted all that there is");
}

#[tokio::test]
async fn a_proxy_hears_of_a_silent_redis_while_it_still_waits() {
    let Some(redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxy = host.http2().await;
    granted(&mut proxy, &waiting(1, 1, &[1], hourly(100), 1)).await;
    redis.signal(Signal::STOP);
    let ask = wire::encode_lease_ask(&waiting(1, 2, &[1], hourly(100), 1));
    let mut request = common::ask_request(ask);
    // The host answers a fifth of it early: that is to be more than a busy machine stalls for.
    request.headers_mut().insert(wire::WAITS_MS, "5000".parse().unwrap());
    let start = Instant::now();
    let (head, _) = proxy.send(request).await;
    assert_eq!(head.status(), 503);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(head.headers().contains_key(wire::AWAY_MS));
    redis.signal(Signal::CONT);
    host.until_ready().await;
}

#[tokio::test]
async fn keys_of_a_shard_that_is_away_are_told_so_and_the_others_are_answered() {
    let Some(mut nodes) = Cluster::start() else { return };
    let host = Host::serve_with(
        &format!("redis:\n{PATIENT}"),
        &[
            ("TIDEGATE_REDIS_CLUSTER_NODES", &format!("127.0.0.1:{}", nodes.nodes[1].port)),
            ("TIDEGATE_REDIS_PASSWORD", cluster::PASSWORD),
        ],
    );
    host.until_ready().await;
    let all: Vec<u8> = (0..64).collect();
    let mut proxy = Proxy::new(1, host.http2().await, hourly(100));
    let served = proxy.ask(&all, 1, true).await;
    assert!(served.iter().all(|it| *it == Ok(Served { units: 1 })), "{served:?}");

    let hit = format!("\"address\":\"127.0.0.1:{}\",\"up\":false", nodes.nodes[0].port);
    nodes.nodes[0].kill();
    host.until(200, &hit).await;
    let served = proxy.ask(&all, 1, true).await;
    let away: Vec<_> = served.iter().filter_map(|it| it.err()).collect();
    assert!((10..40).contains(&away.len()), "{} of 64", away.len());
    assert!(away.iter().all(|Away(span)| *span > Span::ZERO), "{away:?}");
    assert!(served.iter().flatten().all(|it| it.units == 1), "{served:?}");
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"leased_in_part\"}").await, 1.0);
    let wants = host.metric("tidegate_lease_wants_total{outcome=\"away\"}").await;
    assert_eq!(wants, away.len() as f64);
    // An ask for nothing else gets no reply at all.
    let lost: Vec<u8> = (0..64).filter(|key| served[usize::from(*key)].is_err()).collect();
    let (head, _) = send(&mut proxy.caller, &waiting(2, 1, &lost, hourly(100), 1)).await;
    assert_eq!(head.status(), 503);
    let away_ms: u64 = head.headers()[wire::AWAY_MS].to_str().unwrap().parse().unwrap();
    assert!(away_ms > 0);
}

/// A service in front of two hosts deals out asks evenly.
#[tokio::test]
async fn a_proxy_that_asks_two_hosts_in_turn_is_believed_by_both() {
    const TURNS: u64 = 100;
    let Some(redis) = Server::start() else { return };
    let hosts = [Host::on_redis(redis.port, PATIENT), Host::on_redis(redis.port, PATIENT)];
    let mut proxy = Proxy::new(1, hosts[0].http2().await, hourly(1_000));
    let mut other = hosts[1].http2().await;
    for host in &hosts {
        host.until_ready().await;
    }
    let mut used = 0;
    for _ in 0..TURNS {
        proxy.ask(&[1], 3, false).await;
        while proxy.take(1) == Take::Admitted {
            used += 1;
        }
        std::mem::swap(&mut proxy.caller, &mut other);
    }
    // Every second ask to each host settles what came before. But for the first two, nothing
    // that was used is outstanding, so half of the burst is not held back.
    let told = hosts[0].metric("tidegate_lease_units_total{what=\"spent\"}").await
        + hosts[1].metric("tidegate_lease_units_total{what=\"spent\"}").await;
    assert!(used >= 3 * TURNS as u32 - 6, "{used}");
    assert!(told >= f64::from(used) - 6.0, "{told} of {used}");
    for host in &hosts {
        assert_eq!(host.metric("tidegate_lease_asks_unsettled_total").await, 1.0);
    }
    let left = granted(&mut other, &asking(2, 1, &[1], hourly(1_000), 0)).await.remaining;
    assert_eq!(left, 1_000 - used);
}

#[tokio::test]
async fn a_proxy_that_floods_is_turned_away_and_another_is_served() {
    const PLACES: usize = 16;
    let Some(redis) = Server::start() else { return };
    let yaml = format!("redis:\n  addresses: [127.0.0.1:{}]\n{PATIENT}", redis.port);
    let host = Host::serve(&format!("http:\n  in_flight_max: {PLACES}\n{yaml}"));
    host.until_ready().await;
    let Caller::Http2(sender) = host.http2().await else { unreachable!() };
    redis.signal(Signal::STOP);
    let mut flood = JoinSet::new();
    let mut ask = |seq| {
        let mut caller = Caller::Http2(sender.clone());
        let ask = waiting(1, seq, &[1], hourly(1_000), 1);
        flood.spawn(async move { send(&mut caller, &ask).await })
    };
    // It has half of all places, and is turned away at once from the others.
    for seq in 1..=PLACES / 2 {
        ask(seq as u64);
        until_metric(&host, "tidegate_asks_in_flight", seq as f64).await;
    }
    for seq in PLACES / 2 + 1..=PLACES * 2 {
        let mut caller = Caller::Http2(sender.clone());
        let ask = waiting(1, seq as u64, &[1], hourly(1_000), 1);
        let (head, body) = send(&mut caller, &ask).await;
        assert_eq!(head.status(), 503);
        assert_eq!(&body[..], b"too many asks of this proxy in flight\n");
        assert!(!head.headers().contains_key(wire::AWAY_MS));
    }
    assert_eq!(host.metric("tidegate_asks_in_flight").await, (PLACES / 2) as f64);
    let mut other = host.http2().await;
    let served = tokio::spawn(async move {
        granted(&mut other, &waiting(2, 1, &[2], hourly(1_000), 1)).await.units
    });
    until_metric(&host, "tidegate_asks_in_flight", (PLACES / 2 + 1) as f64).await;
    redis.signal(Signal::CONT);
    assert_eq!(served.await.unwrap(), 1);
    let rest = flood.join_all().await;
    assert_eq!(rest.len(), PLACES / 2);
    assert!(rest.iter().all(|(head, _)| head.status() == 200), "{rest:?}");
    let busy = host.metric("tidegate_asks_total{outcome=\"busy_proxy\"}").await;
    assert_eq!(busy, (PLACES * 2 - PLACES / 2) as f64);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"busy\"}").await, 0.0);
}

#[tokio::test]
async fn a_host_that_fails_open_grants_what_requests_wait_for() {
    let Some(mut redis) = Server::start() else { return };
    let yaml = format!("redis:\n  addresses: [127.0.0.1:{}]\n{PATIENT}", redis.port);
    let host = Host::serve_with(&yaml, &[("TIDEGATE_RATE_LIMIT_FAIL_OPEN", "true")]);
    host.until_ready().await;
    let mut proxy = Proxy::new(1, host.http2().await, hourly(2));
    assert_eq!(proxy.ask(&[1], 1, true).await, [Ok(Served { units: 1 })]);
    proxy.holder(1).owe(2);
    assert_eq!(
        proxy.ask(&[1], 1, true).await,
        [Ok(Served { units: 0 })],
        "with its Redis it limits"
    );
    redis.kill();
    host.until_away().await;
    for _ in 0..3 {
        assert_eq!(proxy.ask(&[1], 2, true).await, [Ok(Served { units: 2 })]);
        assert_eq!(proxy.take(1), Take::Asks, "and nothing is held");
    }
    // Where they can only be served by a lease.
    assert_eq!(proxy.ask(&[1], 2, false).await, [Ok(Served { units: 0 })]);
    assert_eq!([proxy.take(1), proxy.take(1)], [Take::Admitted; 2]);
    assert_eq!(proxy.ask(&[2], 0, false).await, [Ok(Served { units: 0 })]);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"failed_open\"}").await, 5.0);
    assert_eq!(host.metric("tidegate_lease_wants_total{outcome=\"away\"}").await, 5.0);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"no_store\"}").await, 0.0);
}

/// Proxies on connections of their own. All have asked before Redis answers any of them, however
/// slow they are.
#[tokio::test]
async fn asks_of_many_proxies_share_writes_to_redis() {
    const PROXIES: u64 = 32;
    const ROUNDS: u64 = 10;
    let Some(redis) = Server::start() else { return };
    let host = Host::on_redis(redis.port, PATIENT);
    host.until_ready().await;
    let mut proxies = Vec::new();
    for process in 1..=PROXIES {
        proxies.push((process, host.http2().await));
    }
    let reads = || redis.info("total_reads_processed").parse::<f64>().unwrap();
    let before = reads();
    for seq in 1..=ROUNDS {
        redis.signal(Signal::STOP);
        let mut asks = JoinSet::new();
        for (process, mut caller) in proxies {
            asks.spawn(async move {
                let ask = asking(process, seq, &[1, 2, 3, 4], hourly(1_000), 0);
                replied(&mut caller, &ask).await;
                (process, caller)
            });
        }
        until_metric(&host, "tidegate_asks_in_flight", PROXIES as f64).await;
        redis.signal(Signal::CONT);
        proxies = asks.join_all().await;
    }
    let (asks, reads) = ((PROXIES * ROUNDS) as f64, reads() - before);
    let calls = host.metric("tidegate_redis_asks_total").await;
    let batches = host.metric("tidegate_redis_batch_asks_count").await;
    println!("{asks} asks of {calls} keys in {batches} batches and {reads} reads");
    assert_eq!(calls, asks * 4.0);
    assert!(batches <= asks / 4.0, "{asks} asks made {batches} batches");
    assert!(reads <= asks / 4.0, "{asks} asks made {reads} reads");
}

async fn until_metric(host: &Host, series: &str, value: f64) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = host.metric(series).await;
        if found == value {
            return;
        }
        assert!(Instant::now() < end, "{series} is {found}");
    }
}
