//! A host that is dead, slow, silent, wrong or back: each limit does what its `on_error`
//! says, and no request waits longer than it must.

use crate::oracle::{assert_never_above, possible, token_bucket};
use crate::{admitted, count, policy, policy_with, statuses};
use harness::client::{Answer, Client, get};
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::redis::Redis;
use harness::{Result, ports, stage, stage_for_workers, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The deadline of these tests: far more than a request takes on a busy machine, so that
/// one that waited for it is told from one that did not.
const DEADLINE: Duration = Duration::from_secs(1);

/// How long nobody asks a host that failed.
const BREAKER: Duration = Duration::from_secs(4);

/// One global limit that does this when its store is away; exact, so that each request tells how
/// its store is.
fn on_error(what: &str, rate: &str) -> Policy {
    let limit = json!([{
        "name": "global", "rate": rate, "scope": "global", "exact": true, "on_error": what
    }]);
    policy_with(limit, json!({ "host": host_field("1s", "4s") }))
}

fn host_field(deadline: &str, breaker: &str) -> Value {
    json!({ "cluster": "tidegate_host", "deadline": deadline, "breaker": breaker })
}

async fn start(policy: Policy, workers: u32, host: SocketAddr) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let plan = envoy(policy).workers(workers).origin(origin.address()).host(host);
    Ok((plan.start().await?, origin))
}

/// How many waited for a deadline. Envoy's timers count from when it woke up: they may end a
/// little early.
fn slow(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.took >= DEADLINE.mul_f64(0.9)).count()
}

#[test]
fn an_open_limit_lets_requests_through_while_its_host_is_dead() -> Result<()> {
    stage_for_workers(|workers| async move {
        let mut host = Host::on_memory().await?;
        let (envoy, _origin) = start(on_error("open", "1/1h"), workers, host.address()).await?;
        assert_eq!(statuses(&envoy.burst(1, 2, &get("/")).await?), [200, 429]);
        host.kill()?;
        assert_eq!(admitted(&envoy.burst(8, 10, &get("/")).await?), 80);
        wait::until("all of them to be told as degraded", async || {
            (envoy.outcomes("global", "degraded").ok()? == 80).then_some(())
        })
        .await
    })
}

#[test]
fn a_closed_limit_refuses_with_503_while_its_host_is_dead() -> Result<()> {
    stage_for_workers(|workers| async move {
        let mut host = Host::on_memory().await?;
        let (envoy, origin) = start(on_error("closed", "100/1h"), workers, host.address()).await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        host.kill()?;
        let answers = envoy.burst(8, 5, &get("/closed")).await?;
        assert_eq!((count(&answers, 503), origin.seen().len()), (40, 1));
        let refused = &answers[0];
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(refused.header("retry-after"), "4", "the breaker's period");
        assert_eq!(refused.header("ratelimit"), "", "nobody knows what is left");
        let reduced = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
        assert_eq!(refused.json()?["type"], reduced);
        let details = envoy.access("/closed").await?["details"].clone();
        assert_eq!(details, "tidegate{limit=global,store}");
        Ok(())
    })
}

#[test]
fn a_local_share_is_enforced_while_the_host_is_dead() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "global", "rate": "80/1s", "burst": 40, "scope": "global" }]);
        // local_share is the default, and one of four proxies may take a quarter.
        let policy = policy_with(limit, json!({ "proxies_max": 4 }));
        let (envoy, _origin) = start(policy, workers, ports::REFUSED).await?;
        let answers = envoy.flood(8, Duration::from_secs(3), &get("/")).await?;
        assert_never_above(&answers, token_bucket(10, 20.0));
        let (admitted, most) = (admitted(&answers), possible(&answers, 10, 20.0));
        assert!(admitted as f64 >= 0.7 * most, "{admitted} of {most:.0} were admitted");
        assert_eq!(admitted + count(&answers, 429), answers.len());
        Ok(())
    })
}

#[test]
fn what_a_share_let_through_is_charged_when_the_host_is_back() -> Result<()> {
    stage(async {
        let host = Host::on_memory().await?;
        let limit = json!([{ "name": "global", "rate": "20/1s", "burst": 40, "scope": "global" }]);
        let policy = policy_with(limit, json!({ "host": host_field("20ms", "1s") }));
        let (envoy, _origin) = start(policy, 1, host.address()).await?;
        let mut answers = envoy.flood(4, Duration::from_secs(2), &get("/")).await?;
        host.signal(Signal::STOP)?;
        let alone = envoy.flood(4, Duration::from_secs(3), &get("/")).await?;
        host.signal(Signal::CONT)?;
        // Its burst was used before.
        let (let_through, most) = (admitted(&alone), possible(&alone, 40, 20.0) - 40.0);
        assert!(let_through as f64 >= 0.7 * most, "{let_through} of about {most:.0}");
        answers.extend(alone);
        answers.extend(envoy.flood(4, Duration::from_secs(3), &get("/")).await?);
        // A share is never less than one request at a time.
        assert_never_above(&answers, token_bucket(40 + 1, 20.0));
        // What was used is charged once: by then some of each second's 20 must be let through.
        let late = answers.iter().map(|answer| answer.sent).max();
        let late = late.and_then(|end| end.checked_sub(Duration::from_secs(1)));
        let last = answers.iter().filter(|it| it.status == 200 && Some(it.sent) > late).count();
        assert!(last >= 10, "{last} in the last second");
        Ok(())
    })
}

#[test]
fn a_silent_host_costs_one_deadline_and_not_one_for_each_request() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let (envoy, _origin) = start(on_error("open", "10000/1s"), workers, host.address()).await?;
        assert_eq!(slow(&envoy.burst(8, 5, &get("/")).await?), 0);
        host.signal(Signal::STOP)?;
        let begun = Instant::now();
        let mut answers = Vec::new();
        while begun.elapsed() < 2 * BREAKER {
            answers.extend(envoy.burst(1, 10, &get("/")).await?);
        }
        assert_eq!(admitted(&answers), answers.len());
        // Each worker finds out by itself, and again at most once in each period.
        let periods = begun.elapsed().as_secs_f64() / BREAKER.as_secs_f64();
        let most = workers as usize * (1 + periods.ceil() as usize);
        let slow = slow(&answers);
        assert!((1..=most).contains(&slow), "{slow} of {} waited", answers.len());
        assert!(answers.len() > 100, "only {} requests in {:?}", answers.len(), begun.elapsed());
        let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
        assert!(slowest < 4 * DEADLINE, "one took {slowest:?}");
        Ok(())
    })
}

#[test]
fn requests_that_wait_together_wait_one_deadline() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let policy = on_error("closed", "10000/1s");
        let (envoy, _origin) = start(policy, workers, host.address()).await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        host.signal(Signal::STOP)?;
        let begun = Instant::now();
        let answers = envoy.burst(50, 1, &get("/")).await?;
        assert_eq!(count(&answers, 503), 50, "{:?}", statuses(&answers));
        assert!(begun.elapsed() < 6 * DEADLINE, "50 took {:?}", begun.elapsed());
        Ok(())
    })
}

#[test]
fn a_host_that_is_back_is_asked_again() -> Result<()> {
    stage_for_workers(|workers| async move {
        let mut host = Host::on_memory().await?;
        let (envoy, _origin) =
            start(on_error("closed", "1000/1h"), workers, host.address()).await?;
        assert_eq!(admitted(&envoy.burst(8, 2, &get("/")).await?), 16);
        for fault in ["killed", "stopped"] {
            if fault == "killed" {
                host.kill()?
            } else {
                host.signal(Signal::STOP)?
            }
            let answers = envoy.burst(8, 2, &get("/")).await?;
            assert_eq!(count(&answers, 503), 16, "{fault}");
            if fault == "killed" {
                host.revive().await?
            } else {
                host.signal(Signal::CONT)?
            }
            let back = Instant::now();
            wait::until("all workers to ask again", async || {
                let answers = envoy.burst(8, 1, &get("/")).await.ok()?;
                (admitted(&answers) == 8).then_some(())
            })
            .await?;
            // A probe comes at the latest after one period; the rest is a busy machine's.
            assert!(back.elapsed() < 4 * BREAKER, "{fault}: it took {:?}", back.elapsed());
        }
        Ok(())
    })
}

#[test]
fn a_dead_redis_is_a_dead_store() -> Result<()> {
    stage(async {
        let redis = Redis::start().await?;
        let host = Host::on_redis_by_default(&redis).await?;
        let (envoy, _origin) = start(on_error("closed", "1000/1h"), 1, host.address()).await?;
        // With the default timeouts, a busy Redis is a dead one for a moment.
        wait::until("Redis to be asked", async || {
            (envoy.send(get("/")).await.ok()?.status == 200).then_some(())
        })
        .await?;
        redis.signal(Signal::STOP)?;
        let silent = envoy.burst(1, 20, &get("/")).await?;
        assert_eq!(count(&silent, 503), 20);
        assert!(slow(&silent) <= 2, "{} waited", slow(&silent));
        redis.signal(Signal::CONT)?;
        wait::until("Redis to be asked again", async || {
            (envoy.send(get("/")).await.ok()?.status == 200).then_some(())
        })
        .await?;
        drop(redis);
        // The host is there and says so: it is asked on, and answers at once. A 503 may also be of a
        // deadline, after which nobody asks for a while.
        let in_vain = "tidegate_asks_total{outcome=\"no_store\"}";
        wait::until("the host to say that the store is dead", async || {
            let before = host.metric(in_vain).await.ok()?;
            let answer = envoy.send(get("/")).await.ok()?;
            let is_said = host.metric(in_vain).await.ok()? > before;
            (answer.status == 503 && answer.took < DEADLINE && is_said).then_some(())
        })
        .await?;
        let before = host.metric(in_vain).await?;
        let dead = envoy.burst(1, 20, &get("/")).await?;
        assert_eq!((count(&dead, 503), slow(&dead)), (20, 0));
        assert_eq!(host.metric(in_vain).await? - before, 20);
        Ok(())
    })
}

/// A proxy makes 503s of its own, and any server says 200: only the host's own mark counts.
#[test]
fn an_answer_of_somebody_else_is_no_answer() -> Result<()> {
    stage(async {
        let impostor = Origin::start().await?;
        let policy = on_error("closed", "1000/1h");
        let (envoy, _origin) = start(policy, 1, impostor.address()).await?;
        assert_eq!(count(&envoy.burst(1, 5, &get("/")).await?, 503), 5);
        assert!(!impostor.seen().is_empty(), "it was asked");
        Ok(())
    })
}

#[test]
fn a_cluster_that_does_not_exist_is_a_host_that_is_away() -> Result<()> {
    stage(async {
        for (what, expected) in [("closed", 503), ("open", 200)] {
            let limit =
                json!([{ "name": "global", "rate": "9/1h", "scope": "global", "on_error": what }]);
            let policy = policy_with(limit, json!({ "host": { "cluster": "nowhere" } }));
            let (envoy, _origin) = start(policy, 1, ports::REFUSED).await?;
            assert_eq!(count(&envoy.burst(1, 5, &get("/")).await?, expected), 5, "{what}");
        }
        Ok(())
    })
}

#[test]
fn clients_that_leave_while_they_wait_give_their_local_tokens_back() -> Result<()> {
    stage(async {
        let host = Host::on_memory().await?;
        let limits = json!([
            { "name": "local", "rate": "1/1h", "burst": 5 },
            { "name": "global", "rate": "1000/1h", "scope": "global", "exact": true,
              "on_error": "closed" },
        ]);
        let policy = policy_with(limits, json!({ "host": host_field("2s", "1s") }));
        let (envoy, origin) = start(policy, 1, host.address()).await?;
        host.signal(Signal::STOP)?;
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let mut client = Client::http1(envoy.address()).await?;
            waiting.spawn(async move { client.send(get("/left")).await });
        }
        let asked = "cluster.tidegate_host.upstream_rq_active";
        wait::until("five to wait for the host", async || {
            (envoy.stat(asked).ok()? == 5).then_some(())
        })
        .await?;
        waiting.shutdown().await; // they hang up
        wait::until("Envoy to notice", async || {
            (envoy.stat("http.ingress.downstream_rq_active").ok()? == 0).then_some(())
        })
        .await?;
        host.signal(Signal::CONT)?;
        wait::until("the host to answer all the same", async || {
            (envoy.stat(asked).ok()? == 0).then_some(())
        })
        .await?;
        assert_eq!(origin.seen().len(), 0, "nobody's request went on");
        let answers = envoy.burst(1, 6, &get("/")).await?;
        assert_eq!(statuses(&answers), [200, 200, 200, 200, 200, 429]);
        Ok(())
    })
}

/// With the default deadline, on requests that nobody else hurries. That it is 20 ms, Envoy says
/// itself with each ask: a clock would say a little less, as its timers count from when it woke
/// up, or more.
#[test]
fn the_default_deadline_is_20_ms() -> Result<()> {
    let limit =
        json!([{ "name": "global", "rate": "9/1h", "scope": "global", "on_error": "open" }]);
    let policy = policy_with(limit, json!({ "host": { "cluster": "tidegate_host" } }));
    stage(async {
        let host = Host::on_memory().await?;
        let (envoy, _origin) = start(policy.clone(), 1, host.address()).await?;
        host.signal(Signal::STOP)?;
        let first = envoy.send(get("/")).await?;
        assert_eq!(first.status, 200);
        assert!(first.took < DEADLINE, "the first took {:?}", first.took);
        Ok(())
    })?;
    stage(async {
        let (origin, host) = (Origin::start().await?, Origin::start().await?);
        let plan = envoy(policy).origin(origin.address()).host(host.address());
        let envoy = plan.in_envoy().start().await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200, "by what the limit does on_error");
        let headers = wait::until("the ask to arrive", async || {
            host.seen().into_iter().find(|seen| seen.path == "/v1/ask").map(|ask| ask.headers)
        })
        .await?;
        assert_eq!(headers["x-envoy-expected-rq-timeout-ms"], "20");
        Ok(())
    })
}

/// A limit of its own rules does not suffer from another's store.
#[test]
fn local_limits_go_on_while_the_host_is_dead() -> Result<()> {
    stage(async {
        let limits = json!([
            { "name": "local", "when": { "path": "/local" }, "rate": "1/1h", "burst": 3 },
            { "name": "global", "when": { "path": "/global" }, "rate": "9/1h", "scope": "global",
              "on_error": "closed" },
        ]);
        let (envoy, _origin) = start(policy(limits), 1, ports::REFUSED).await?;
        assert_eq!(statuses(&envoy.burst(1, 2, &get("/global")).await?), [503, 503]);
        assert_eq!(statuses(&envoy.burst(1, 4, &get("/local")).await?), [200, 200, 200, 429]);
        Ok(())
    })
}
