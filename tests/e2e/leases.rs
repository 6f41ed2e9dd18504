//! Global limits that are leased: each proxy takes units ahead, and all of them together admit no
//! more than one would.

use crate::oracle::{assert_never_above, sliding_window};
use crate::{admitted, assert_never_alone, count, policy, policy_with};
use anyhow::ensure;
use harness::client::{Answer, Client, get};
use harness::envoy::{Envoy, Policy, Update, envoy};
use harness::fleet::{self, smallest_burst, spans};
use harness::host::Host;
use harness::origin::Origin;
use harness::redis::Redis;
use harness::{Result, stage, stage_for_workers, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ASKS: &str = "tidegate_asks_total{outcome=\"leased\"}";

/// Callouts that a proxy has on their way to its host.
const ASKING: &str = "cluster.tidegate_host.upstream_rq_active";

/// So much of a budget that hardly refills is sure to be let through. The rest may lapse unused:
/// a host does not believe what a worker returns in its first ask, and a worker that stalls, as on
/// a busy machine, returns nothing in time.
const fn sure(budget: usize) -> usize {
    budget * 4 / 5
}

/// The most asks that so many requests in this time are worth. Few are asked for; and each worker
/// settles and refills as time goes by, a few times more when it begins.
fn asks_max(requests: usize, workers: u32, span: Duration) -> u64 {
    let by_time = u64::from(workers) * (span.as_millis() as u64 / 100 + 5);
    requests as u64 / 20 + by_time
}

/// One limit called "hot", with one key for all.
fn hot(more: Value) -> Value {
    let mut limit = json!({ "name": "hot", "key": [{ "const": "all" }], "scope": "global" });
    if let (Some(limit), Value::Object(more)) = (limit.as_object_mut(), more) {
        limit.extend(more);
    }
    limit
}

async fn start(policy: Policy, workers: u32, host: SocketAddr) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let plan = envoy(policy).workers(workers).origin(origin.address()).host(host);
    Ok((plan.updatable().start().await?, origin))
}

/// Sends to all of them until so many were let through in all, and then some more; how many were.
async fn use_up(proxies: &[&Envoy], at_least: usize) -> Result<usize> {
    // A large budget takes no more rounds than a small one.
    let each = (at_least / 128).max(8);
    let mut sum = 0;
    wait::until("the budget to be used up", async || {
        sum += everywhere(proxies, each).await.ok()?;
        (sum >= at_least).then_some(())
    })
    .await?;
    Ok(sum + everywhere(proxies, each).await?)
}

async fn everywhere(proxies: &[&Envoy], each: usize) -> Result<usize> {
    let mut sum = 0;
    for proxy in proxies {
        sum += admitted(&proxy.burst(8, each, &get("/")).await?);
    }
    Ok(sum)
}

/// Never above it, at any time; and, but for the last moments, when some of it lies unused in the
/// proxies, not below it. Replies that come late on a busy machine are not waited for, and their
/// units lost: hence a twentieth here, and not a fiftieth.
#[test]
fn four_proxies_admit_together_what_one_bucket_would() -> Result<()> {
    stage(async {
        let redis = Redis::start().await?;
        let host = Host::on_redis(&redis).await?;
        let limit = json!({ "deadline": "250ms", "on_error": "closed" });
        let account = fleet::press(&host, &limit, Duration::from_secs(7)).await?;
        eprintln!("{account:?}");
        let most = f64::from(fleet::RATE);
        assert!(account.smallest_burst <= most, "more than there is: {account:?}");
        // Where the host is hardly heard, what is let through tells nothing of the limit.
        ensure!(account.failed * 20 <= account.offered, "too many asked in vain: {account:?}");
        assert!(account.under() <= 0.05, "{:.1} % too few: {account:?}", account.under() * 100.0);
        assert!(account.asks * 4 <= account.admitted as u64, "{account:?}");
        Ok(())
    })
}

#[test]
fn a_hot_key_is_admitted_once_over_two_proxies_and_mostly_without_asking() -> Result<()> {
    stage_for_workers(|workers| async move {
        let redis = Redis::start().await?;
        let hosts = [Host::on_redis(&redis).await?, Host::on_redis(&redis).await?];
        let limit = || policy(json!([hot(json!({ "rate": "1/1h", "burst": 2_000 }))]));
        let (a, _origin) = start(limit(), workers, hosts[0].address()).await?;
        let (b, _other) = start(limit(), workers, hosts[1].address()).await?;
        let (calls, more) = (get("/"), get("/"));
        let begun = Instant::now();
        let (ours, theirs) = tokio::join!(a.burst(8, 60, &calls), b.burst(8, 60, &more));
        let sum = admitted(&ours?) + admitted(&theirs?);
        assert_eq!(sum, 960, "there was enough for all of them");
        let asks = hosts[0].metric(ASKS).await? + hosts[1].metric(ASKS).await?;
        let most = asks_max(sum, 2 * workers, begun.elapsed());
        assert!(asks <= most, "{asks} asks for {sum} requests, more than {most}");
        let sum = sum + use_up(&[&a, &b], sure(2_000) - sum).await?;
        assert!(sum <= 2_000, "{sum} of 2,000");
        Ok(())
    })
}

#[test]
fn a_denied_flood_asks_next_to_nothing() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let limit = policy(json!([hot(json!({ "rate": "5/1s" }))]));
        let (envoy, _origin) = start(limit, workers, host.address()).await?;
        let begun = Instant::now();
        let answers = envoy.flood(8, Duration::from_secs(2), &get("/")).await?;
        let asks = host.metric(ASKS).await?;
        let denied = count(&answers, 429);
        assert!(denied > 500, "{denied} refusals are no flood");
        let most = asks_max(denied, workers, begun.elapsed());
        assert!(asks <= most, "{asks} asks for {denied} refusals, more than {most}");
        assert_never_alone(&envoy, "hot", &["allowed", "limited"], answers.len()).await
    })
}

#[test]
fn a_leased_sliding_window_is_never_above_its_count_in_any_period() -> Result<()> {
    stage(async {
        let redis = Redis::start().await?;
        let host = Host::on_redis(&redis).await?;
        let window = json!({ "rate": "300/3s", "algorithm": "sliding_window" });
        let limit = || policy(json!([hot(window.clone())]));
        let (a, _origin) = start(limit(), 1, host.address()).await?;
        let (b, _other) = start(limit(), 1, host.address()).await?;
        let (calls, more) = (get("/"), get("/"));
        let (begun, span) = (Instant::now(), Duration::from_millis(4_500));
        let (ours, theirs) = tokio::join!(a.flood(4, span, &calls), b.flood(4, span, &more));
        let answers = [ours?, theirs?].concat();
        assert_never_above(&answers, sliding_window(300, Duration::from_secs(3)));
        let asks = host.metric(ASKS).await?;
        assert!(admitted(&answers) >= 360, "{} admitted", admitted(&answers));
        let requests = answers.len();
        let most = asks_max(requests, 2, begun.elapsed());
        assert!(asks <= most, "{asks} asks for {requests} requests, more than {most}");
        Ok(())
    })
}

#[test]
fn requests_that_wait_for_a_key_together_are_one_ask_of_each_worker() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        // Enough to be granted twice: what a busy machine is slow to bring has lapsed.
        let limit = policy(json!([hot(json!({ "rate": "1000/1h" }))]));
        let (envoy, _origin) = start(limit, workers, host.address()).await?;
        host.signal(Signal::STOP)?;
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let mut client = Client::http1(envoy.address()).await?;
            waiting.spawn(async move { client.send(get("/")).await });
        }
        // A request is there a moment before it is asked for.
        let asking = wait::until("all of them to wait", async || {
            let waiting = envoy.stat("http.ingress.downstream_rq_active").ok()?;
            let asking = envoy.stat(ASKING).ok()?;
            (waiting == 30 && asking >= 1).then_some(asking)
        })
        .await?;
        let workers_used = envoy.workers_used()? as u64;
        assert!(asking <= workers_used, "{asking} asks of {workers_used} workers");
        host.signal(Signal::CONT)?;
        while let Some(answer) = waiting.join_next().await {
            assert_eq!(answer??.status, 200);
        }
        Ok(())
    })
}

#[test]
fn the_first_request_of_a_key_with_escrow_is_not_held() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let limits = json!([
            hot(json!({ "rate": "40/1h", "escrow": true, "when": { "path": "/" } })),
            { "name": "held", "rate": "40/1h", "scope": "global", "when": { "path": "/held" } },
        ]);
        let limits = policy_with(limits, json!({ "proxies_max": 4 }));
        let (envoy, _origin) = start(limits, workers, host.address()).await?;
        host.signal(Signal::STOP)?;
        let trusted = envoy.send(get("/")).await?;
        assert_eq!(trusted.status, 200);
        assert!(trusted.took < Duration::from_secs(2), "it took {:?}", trusted.took);
        let mut client = Client::http1(envoy.address()).await?;
        let held = tokio::spawn(async move { client.send(get("/held")).await });
        wait::until("it to be told, and the other to be asked for", async || {
            (envoy.stat(ASKING).ok()? == 2).then_some(())
        })
        .await?;
        assert!(!held.is_finished(), "a request without escrow was let through unasked");
        host.signal(Signal::CONT)?;
        assert_eq!(held.await??.status, 200);
        // 4 are kept back for proxies that come anew.
        let sum = 1 + use_up(&[&envoy], sure(36)).await?;
        assert!(sum <= 40, "{sum} of 40");
        assert_never_alone(&envoy, "hot", &["allowed"], sum).await
    })
}

/// A proxy whose policy no longer has a limit gives back what it held of it.
#[test]
fn a_policy_update_returns_what_was_leased() -> Result<()> {
    const GRANTED: &str = "tidegate_lease_units_total{what=\"granted\"}";
    const RETURNED: &str = "tidegate_lease_units_total{what=\"returned\"}";
    // So much that it is not used up before the update is in force.
    const BURST: usize = 5_000;
    stage_for_workers(|workers| async move {
        let redis = Redis::start().await?;
        let host = Host::on_redis(&redis).await?;
        let limits = || policy(json!([hot(json!({ "rate": "1/1h", "burst": BURST }))]));
        let (mut a, _origin) = start(limits(), workers, host.address()).await?;
        let (b, _other) = start(limits(), workers, host.address()).await?;
        let address = a.address();
        // As long as this goes on, what is held is needed, and goes back only by the update.
        let running = tokio::spawn(async move {
            let mut admitted = 0;
            // A draining connection may be closed between requests, so one each.
            while Client::http1(address).await?.send(get("/")).await?.status == 200 {
                admitted += 1;
                wait::pass(Duration::from_millis(2)).await;
            }
            Result::Ok(admitted)
        });
        wait::until("something to be leased", async || {
            (host.metric(GRANTED).await.ok()? > 200).then_some(())
        })
        .await?;
        let before = host.metric(RETURNED).await?;
        let shut = policy(json!([{ "name": "shut", "rate": "1/1h" }]));
        assert_eq!(a.update(shut).await?, Update::Accepted);
        // The last of them is the one that the new policy lets through.
        let used = running.await?? - 1;
        wait::until("what was held to come back", async || {
            (host.metric(RETURNED).await.ok()? > before).then_some(())
        })
        .await?;
        let sum = used + use_up(&[&b], sure(BURST).saturating_sub(used)).await?;
        assert!(sum <= BURST, "{sum} of {BURST}");
        Ok(())
    })
}

/// How many are admitted a second, and at once, where a store goes away.
const RATE: u32 = 100;

/// So many of those at least are let through in the last second: it is back.
const BACK: usize = 60;

/// Two proxies of one worker that are kept busy.
struct Pair {
    proxies: [Envoy; 2],
    _origins: [Origin; 2],
}

impl Pair {
    async fn start(on_error: &str, host: &Host) -> Result<Self> {
        let limit = hot(json!({ "rate": format!("{RATE}/1s"), "on_error": on_error }));
        let field = json!({ "cluster": "tidegate_host", "deadline": "250ms", "breaker": "1s" });
        let policy = policy_with(json!([limit]), json!({ "host": field, "proxies_max": 2 }));
        let (a, origin) = start(policy.clone(), 1, host.address()).await?;
        let (b, other) = start(policy, 1, host.address()).await?;
        Ok(Self { proxies: [a, b], _origins: [origin, other] })
    }

    async fn flood(&self, seconds: u64) -> Result<Vec<Answer>> {
        let [a, b] = &self.proxies;
        let (calls, more, span) = (get("/"), get("/"), Duration::from_secs(seconds));
        let (a, b) = tokio::join!(a.flood(2, span, &calls), b.flood(2, span, &more));
        Ok([a?, b?].concat())
    }
}

/// The burst that a bucket needs that admitted these; and how many in the last second.
fn judge(answers: &[Answer]) -> (f64, usize) {
    let end = answers.iter().map(|answer| answer.sent).max();
    let late = end.and_then(|end| end.checked_sub(Duration::from_secs(1)));
    let admitted: Vec<_> = answers.iter().filter(|it| it.status == 200).map(spans).collect();
    let last = admitted.iter().filter(|(sent, _)| Some(*sent) > late).count();
    (smallest_burst(admitted, RATE.into()), last)
}

/// What was let through without Redis is charged when it is back. It has forgotten all else, and
/// knows that: a burst is kept back until all that it may have granted has lapsed.
#[test]
fn leases_go_on_by_on_error_without_redis_and_come_back_with_it() -> Result<()> {
    stage(async {
        let mut redis = Redis::start().await?;
        let host = Host::on_redis_by_default(&redis).await?;
        for (on_error, refusal, goes_on) in [("local_share", 429, true), ("closed", 503, false)] {
            let pair = Pair::start(on_error, &host).await?;
            let mut answers = pair.flood(2).await?;
            redis.kill()?;
            let without = pair.flood(2).await?;
            redis.revive().await?;
            assert!(count(&without, refusal) > 0, "{on_error}: nobody got {refusal}");
            let let_through = admitted(&without);
            assert!((let_through > 50) == goes_on, "{on_error}: {let_through} let through");
            answers.extend(without);
            answers.extend(pair.flood(4).await?);
            let (burst, last) = judge(&answers);
            assert!(burst <= f64::from(RATE), "{on_error}: {burst} at once, of {RATE}");
            assert!(last >= BACK, "{on_error}: {last} in the last second");
        }
        Ok(())
    })
}

/// Each proxy tells what it knows to be used. That is not all, where several share a budget.
#[test]
fn a_host_that_forgets_everything_gives_one_burst_again_at_most() -> Result<()> {
    stage(async {
        let mut host = Host::on_memory().await?;
        let pair = Pair::start("local_share", &host).await?;
        let mut answers = pair.flood(2).await?;
        host.kill()?;
        host.revive().await?;
        answers.extend(pair.flood(3).await?);
        let (burst, last) = judge(&answers);
        assert!(burst <= f64::from(2 * RATE), "{burst} at once, of {RATE}");
        assert!(last >= BACK, "{last} in the last second");
        Ok(())
    })
}
