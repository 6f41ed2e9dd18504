//! Global limits hold for all proxies together, whoever keeps the truth.

use crate::oracle::{
    assert_never_above, assert_refused_only_when_full, possible, sliding_window, token_bucket,
};
use crate::{admitted, assert_never_alone, count, policy};
use harness::client::get;
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::redis::Redis;
use harness::{Result, stage, stage_for_workers};
use serde_json::{Value, json};
use std::time::Duration;

const CONNECTIONS: usize = 16;

/// Two proxies that never heard of each other, with one policy and one truth.
struct Fleet {
    proxies: [Envoy; 2],
    origin: Origin,
}

impl Fleet {
    async fn start(policy: Policy, workers: u32, hosts: [&Host; 2]) -> Result<Self> {
        let origin = Origin::start().await?;
        let plan = |host: &Host| {
            envoy(policy.clone()).workers(workers).origin(origin.address()).host(host.address())
        };
        let proxies = [plan(hosts[0]).start().await?, plan(hosts[1]).start().await?];
        Ok(Self { proxies, origin })
    }

    /// Both, to which so many requests were sent, answered them all with the store's truth.
    async fn assert_never_alone(&self, limit: &str, sent: [usize; 2]) -> Result<()> {
        for (proxy, sent) in self.proxies.iter().zip(sent) {
            assert_never_alone(proxy, limit, &["allowed", "limited"], sent).await?;
        }
        Ok(())
    }
}

fn global(more: Value) -> Policy {
    let mut limit = json!({
        "name": "fleet", "key": [{ "const": "all" }], "scope": "global", "exact": true,
        "on_error": "closed",
    });
    if let (Some(limit), Value::Object(more)) = (limit.as_object_mut(), more) {
        limit.extend(more);
    }
    policy(json!([limit]))
}

async fn admits_a_budget_once(workers: u32, hosts: [&Host; 2], algorithm: &str) -> Result<()> {
    let policy = global(json!({ "rate": "60/1h", "algorithm": algorithm }));
    let fleet = Fleet::start(policy, workers, hosts).await?;
    let [a, b] = &fleet.proxies;
    let (calls, more) = (get("/"), get("/"));
    let (a, b) = tokio::join!(a.burst(CONNECTIONS, 5, &calls), b.burst(CONNECTIONS, 5, &more));
    let answers = [a?, b?];
    let (sent, answers) = (answers.each_ref().map(Vec::len), answers.concat());
    // A token bucket of 60 an hour has another token after a minute, which has not passed.
    assert_eq!((admitted(&answers), count(&answers, 429)), (60, 100), "{algorithm}");
    assert_eq!(fleet.origin.seen().len(), 60);
    fleet.assert_never_alone("fleet", sent).await
}

#[test]
fn two_proxies_admit_one_budget_kept_in_memory() -> Result<()> {
    stage_for_workers(|workers| async move {
        for algorithm in ["token_bucket", "sliding_window", "sliding_counter"] {
            let host = Host::on_memory().await?;
            admits_a_budget_once(workers, [&host, &host], algorithm).await?;
        }
        Ok(())
    })
}

#[test]
fn two_proxies_and_two_hosts_admit_one_budget_kept_in_redis() -> Result<()> {
    stage_for_workers(|workers| async move {
        let redis = Redis::start().await?;
        let hosts = [Host::on_redis(&redis).await?, Host::on_redis(&redis).await?];
        for algorithm in ["token_bucket", "sliding_window", "sliding_counter"] {
            redis.command(&["FLUSHALL"]).await?;
            admits_a_budget_once(workers, [&hosts[0], &hosts[1]], algorithm).await?;
        }
        Ok(())
    })
}

#[test]
fn a_fleet_is_never_above_its_bound_in_any_window() -> Result<()> {
    stage(async {
        let redis = Redis::start().await?;
        let host = Host::on_redis(&redis).await?;
        let second = Duration::from_secs(1);
        let bucket = json!({ "rate": "60/1s", "burst": 15 });
        let window = json!({ "rate": "60/1s", "algorithm": "sliding_window" });
        for (limit, is_bucket) in [(bucket, true), (window, false)] {
            redis.command(&["FLUSHALL"]).await?;
            let fleet = Fleet::start(global(limit), 1, [&host, &host]).await?;
            let [a, b] = &fleet.proxies;
            let (calls, more) = (get("/"), get("/"));
            let span = Duration::from_millis(2_500);
            let (a, b) = tokio::join!(a.flood(4, span, &calls), b.flood(4, span, &more));
            let answers = [a?, b?];
            let (sent, answers) = (answers.each_ref().map(Vec::len), answers.concat());
            if is_bucket {
                assert_never_above(&answers, token_bucket(15, 60.0));
                let (admitted, most) = (admitted(&answers), possible(&answers, 15, 60.0));
                assert!(admitted as f64 >= 0.8 * most, "{admitted} of {most:.0} were admitted");
            } else {
                assert_never_above(&answers, sliding_window(60, second));
                assert_refused_only_when_full(&answers, 60, second.mul_f64(1.1));
            }
            fleet.assert_never_alone("fleet", sent).await?;
        }
        Ok(())
    })
}

#[test]
fn local_and_global_limits_on_one_request_are_all_or_nothing() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let origin = Origin::start().await?;
        let limits = json!([
            { "name": "local", "rate": "1/1h", "burst": 10 },
            { "name": "narrow", "when": { "path": "/narrow" }, "rate": "2/1h", "scope": "global" },
            { "name": "wide", "rate": "10/1h", "scope": "global" },
        ]);
        let plan = envoy(policy(limits)).workers(workers).host(host.address());
        let envoy = plan.origin(origin.address()).start().await?;
        let narrow = envoy.burst(1, 6, &get("/narrow")).await?;
        assert_eq!((admitted(&narrow), count(&narrow, 429)), (2, 4));
        // The four refused ones charged neither the local limit nor the wide one.
        let mut sum = 0;
        harness::wait::until("what was left to be admitted", async || {
            sum += admitted(&envoy.burst(8, 1, &get("/wide")).await.ok()?);
            (sum >= 8).then_some(())
        })
        .await?;
        sum += admitted(&envoy.burst(8, 1, &get("/wide")).await?);
        assert_eq!(sum, 8);
        assert_never_alone(&envoy, "wide", &["allowed"], 2 + 8).await
    })
}

#[test]
fn what_redis_keeps_goes_away_by_itself_and_tells_nothing_of_clients() -> Result<()> {
    stage(async {
        let redis = Redis::start().await?;
        let host = Host::on_redis(&redis).await?;
        let key = json!([{ "header": "x-device" }]);
        let fleet = Fleet::start(global(json!({ "rate": "5/1m", "key": key })), 1, [&host, &host]);
        let fleet = fleet.await?;
        for device in ["alice@example.com", "{slot}", "a:b*c"] {
            let call = get("/").header("x-device", device);
            assert_eq!(fleet.proxies[0].send(call).await?.status, 200);
        }
        let keys = redis.command(&["KEYS", "*"]).await?;
        let keys: Vec<&String> = keys.iter().skip(2).step_by(2).collect();
        // The host tries its own scripts on a key of no limit; that goes away as well, and so does
        // what hosts tell each other of demand.
        let own = |key: &str| key.contains(":0000000000000000:") || key.contains("{census}");
        let of_clients = keys.iter().filter(|key| !own(key)).count();
        assert_eq!(of_clients, 3, "{keys:?}");
        for key in keys {
            assert!(!["alice", "slot", "a:b"].iter().any(|told| key.contains(told)), "{key}");
            let left = redis.command(&["PTTL", key]).await?;
            let left_ms: i64 = left[0].trim_start_matches(':').parse()?;
            assert!((1..=120_000).contains(&left_ms), "{key} lives for {left_ms} ms");
        }
        Ok(())
    })
}

#[test]
fn a_global_shadow_never_delays_and_never_refuses() -> Result<()> {
    stage(async {
        let host = Host::on_memory().await?;
        let origin = Origin::start().await?;
        let limit = json!([{ "name": "trial", "rate": "3/1h", "scope": "global", "shadow": true }]);
        let plan = envoy(policy(limit)).host(host.address()).origin(origin.address());
        let envoy = plan.start().await?;
        assert_eq!(admitted(&envoy.burst(1, 10, &get("/")).await?), 10);
        harness::wait::until("seven to be told as shadowed", async || {
            (envoy.outcomes("trial", "shadowed").ok()? == 7).then_some(())
        })
        .await?;
        host.signal(rustix::process::Signal::STOP)?;
        let answers = envoy.burst(1, 20, &get("/")).await?;
        assert_eq!(admitted(&answers), 20);
        let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
        assert!(slowest < Duration::from_secs(2), "one waited {slowest:?}, and for nothing");
        Ok(())
    })
}
